//! What a fleet costs: reserve and settle beside the bare programs, runs per second on one document, and a month read.
//!
//! `cargo bench --bench fleet` needs etcd, etcdctl and git; what is missing is left out and said so. `--quick` does little
//! of everything, which only shows that it runs. Each pair is measured in turns, so both sides see the same machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "a benchmark fails by panicking and speaks by printing"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use omk::catalog::money::{Charge, Usd};
use omk::cost::budget::parse_budgets;
use omk::cost::record::{CostKind, Owner, SessionCost, SessionStatus, SessionType};
use omk::cost::tracker::CostTracker;
use omk::fleet::etcd::Etcd;
use omk::fleet::git::Git;
use omk::fleet::member::{Admission, Member};
use omk::fleet::sink::FleetSink;
use omk::fleet::store::{Entry, Put, Store};
use omk::runtime::clock;
use omk::transport::http::{Http, HttpConfig};

#[path = "../it/stores.rs"]
mod stores;

const REACH: Duration = Duration::from_secs(60);

fn etcd(url: &str) -> Etcd {
    let config = HttpConfig {
        timeout: REACH,
        max_body_bytes: 64 << 20,
        ..HttpConfig::default()
    };
    Etcd::new(Http::new(config).unwrap(), url, "/bench/", None)
}

fn a_run(id: String) -> SessionCost {
    let mut run = SessionCost::open(id, SessionType::Prompt, "2026-11-20T12:00:00Z");
    run.worst_case_usd = Some(Usd::parse("0.02").unwrap());
    run.kind = CostKind::Metered;
    run.charged = Charge::Unknown;
    run.model.requested = Some("kimi-k3".to_string());
    run.peer = "api.moonshot.ai".to_string();
    run.owner = Owner::current();
    for (key, value) in [
        ("repo", "group/project"),
        ("workflow", "ci"),
        ("pr", "1234"),
    ] {
        run.tags.insert(key.to_string(), value.to_string());
    }
    run
}

/// Reserves and settles one run.
fn cycle(member: &mut Member, id: String) {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let due = now + Duration::from_secs(900);
    let budgets = parse_budgets("100000/day,tag:pr=50000/day").unwrap();
    let mut run = a_run(id);
    member.announce(&run, due).unwrap();
    let admission = member.reserve(&run, &budgets, due, now).unwrap();
    assert_eq!(admission, Admission::Granted);
    run.status = SessionStatus::Settled;
    run.charged = Charge::Yes;
    run.actual_usd = Some(Usd::parse("0.004567").unwrap());
    member.settle(&run, now).unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Measures two things in turns; prints the medians and their ratio.
fn beside(name: &str, rounds: usize, mut ours: impl FnMut(usize), mut theirs: impl FnMut(usize)) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let started = Instant::now();
        ours(round);
        one.push(started.elapsed());
        let started = Instant::now();
        theirs(round);
        other.push(started.elapsed());
    }
    let (one, other) = (median(one), median(other));
    let ratio = one.as_secs_f64() / other.as_secs_f64();
    println!(
        "{name}: {:.1} ms beside {:.1} ms, ratio {ratio:.2}",
        ms(one),
        ms(other)
    );
}

/// Runs a second on one document, by this many machines at once.
fn rate(name: &str, machines: usize, time: Duration, make: &(dyn Fn(usize) -> Member + Sync)) {
    let started = Instant::now();
    let runs: usize = std::thread::scope(|scope| {
        let machines: Vec<_> = (0..machines)
            .map(|machine| {
                scope.spawn(move || {
                    let mut member = make(machine);
                    let mut runs = 0;
                    while started.elapsed() < time {
                        cycle(&mut member, format!("{name}-{machine}-{runs}"));
                        runs += 1;
                    }
                    runs
                })
            })
            .collect();
        machines.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let rate = runs as f64 / started.elapsed().as_secs_f64();
    println!("{name}: {machines} machines at once, {rate:.1} runs a second on one document");
}

fn on_etcd(directory: &Path, quick: bool) {
    let server = stores::Etcd::start(directory);
    let url = server.url();
    let mut member = Member::new(Box::new(etcd(&url)), directory.join("m"), REACH, false);
    cycle(&mut member, "first".to_string());
    let txn = |round: usize| {
        for step in ["reserve", "settle"] {
            let mut child = server
                .ctl_command()
                .arg("txn")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let text = format!(
                "mod(\"other\") > \"0\"\n\nput other {round}-{step}\n\nput other {round}\n\n"
            );
            child
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            assert!(child.wait().unwrap().success());
        }
    };
    let rounds = if quick { 3 } else { 60 };
    beside(
        "etcd, reserve and settle beside two `etcdctl txn`",
        rounds,
        |round| cycle(&mut member, format!("a{round}")),
        txn,
    );
    // The same without starting a program: a put on the connection that is open.
    let mut bare = etcd_at(&url, "/bare/");
    let mut version = None;
    // The rest is the outbox, which is synced to disk.
    beside(
        "etcd, reserve and settle beside two bare transactions on an open connection",
        rounds,
        |round| cycle(&mut member, format!("b{round}")),
        |_| {
            for _ in 0..2 {
                let put = bare
                    .put_if(&[b'x'; 1000], version.as_deref(), None)
                    .unwrap();
                match put {
                    Put::Done(next) => version = Some(next),
                    Put::Conflict(_) => panic!(),
                }
            }
        },
    );
    let time = Duration::from_secs(if quick { 1 } else { 10 });
    for machines in [1, 8] {
        let make = |machine: usize| {
            let place = directory.join(format!("rate-{machines}-{machine}"));
            Member::new(Box::new(etcd(&url)), place, REACH, false)
        };
        rate("etcd", machines, time, &make);
    }
    let runs = if quick { 1000 } else { 100_000 };
    month(&url, runs);
}

fn etcd_at(url: &str, prefix: &str) -> Etcd {
    Etcd::new(Http::new(HttpConfig::default()).unwrap(), url, prefix, None)
}

/// Reads the runs of a month.
fn month(url: &str, runs: usize) {
    let prefix = "/month/";
    let mut store = etcd_at(url, prefix);
    let mut version: Option<String> = None;
    // A transaction of etcd has 128 operations at most, ours has two; so each record is a write of its own.
    let started = Instant::now();
    for number in 0..runs {
        let day = format!("2026-11-{:02}", number % 30 + 1);
        let mut run = a_run(format!("20261101T000000000000Z-{number:08x}-000000000000"));
        run.started_at = format!("{day}T12:00:00Z");
        run.status = SessionStatus::Settled;
        run.charged = Charge::Yes;
        run.actual_usd = Some(Usd::parse("0.004567").unwrap());
        let entry = Entry {
            day,
            run: run.id.clone(),
            bytes: serde_json::to_vec(&run).unwrap(),
        };
        let document = br#"{"format":"omk-fleet","version":1,"revision":1,"scopes":{},"days":{},"open":{},"unknown":{},"done":[]}"#;
        match store
            .put_if(document, version.as_deref(), Some(&entry))
            .unwrap()
        {
            Put::Done(next) => version = Some(next),
            Put::Conflict(_) => panic!(),
        }
    }
    println!(
        "etcd: {runs} records written in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    let config = HttpConfig {
        timeout: REACH,
        max_body_bytes: 64 << 20,
        ..HttpConfig::default()
    };
    let store = Etcd::new(Http::new(config).unwrap(), url, prefix, None);
    let tracker = CostTracker::new(FleetSink::new(Box::new(store), REACH));
    for _ in 0..3 {
        let started = Instant::now();
        let mut seen = 0;
        tracker
            .report(Default::default(), &mut |_| {
                seen += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, runs);
        let took = started.elapsed().as_secs_f64();
        println!("etcd: {runs} runs of one month read in {took:.2} s (at most 5)");
    }
}

fn on_git(directory: &Path, quick: bool) {
    let repository = stores::bare(&directory.join("a.git"));
    let url = format!("file://{}", repository.display());
    let make = |name: String| {
        let cache: PathBuf = directory.join(&name).join("git");
        let store = Git::new(url.clone(), "refs/omk/bench/", cache);
        Member::new(Box::new(store), directory.join(name), REACH, false)
    };
    let mut member = make("m".to_string());
    cycle(&mut member, "first".to_string());
    // Commits that need only be pushed.
    let plain = directory.join("plain.git");
    stores::bare(&plain);
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let rounds = if quick { 3 } else { 40 };
    let commits: Vec<String> = (0..2 * rounds)
        .map(|number| {
            let mut command = Command::new("git");
            command
                .arg("-C")
                .arg(&plain)
                .args(["-c", "user.name=b", "-c", "user.email=b@localhost"])
                .args([
                    "commit-tree",
                    tree,
                    "-m",
                    &format!("{number} {}", "x".repeat(1000)),
                ]);
            let made = stores::run(&mut command);
            String::from_utf8(made.stdout).unwrap().trim().to_string()
        })
        .collect();
    let push = |round: usize| {
        for commit in &commits[2 * round..2 * round + 2] {
            let mut command = Command::new("git");
            command
                .arg("-C")
                .arg(&plain)
                .args(["push", "--quiet", "--force", &url])
                .arg(format!("{commit}:refs/bench/plain"));
            stores::run(&mut command);
        }
    };
    beside(
        "git, reserve and settle beside two `git push`",
        rounds,
        |round| cycle(&mut member, format!("a{round}")),
        push,
    );
    let time = Duration::from_secs(if quick { 1 } else { 10 });
    for machines in [1, 8] {
        let make = |machine: usize| make(format!("rate-{machines}-{machine}"));
        rate("git", machines, time, &make);
    }
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let all = std::env::args().find(|arg| arg == "etcd" || arg == "git");
    let wants = |name: &str| all.as_deref().is_none_or(|only| only == name);
    if wants("etcd") && stores::has("etcd") && stores::has("etcdctl") {
        on_etcd(&stores::scratch("bench_fleet_etcd"), quick);
    }
    if wants("git") && stores::has("git") {
        on_git(&stores::scratch("bench_fleet_git"), quick);
    }
}
