//! The engines of a fleet against real stores: the contract of `fleet::store::Store`, and what goes wrong with servers.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use omk::catalog::money::Usd;
use omk::cost::file_sink::JsonFileCostSink;
use omk::cost::record::{Charge, CostKind, Owner, SessionCost, SessionStatus, SessionType};
use omk::cost::tracker::CostTracker;
use omk::fleet::etcd::{Etcd, Login};
use omk::fleet::git::Git;
use omk::fleet::member::{Admission, Member, Refusal};
use omk::fleet::sink::FleetSink;
use omk::fleet::store::{Days, Entry, Put, Store, Trouble};
use omk::runtime::clock;
use omk::runtime::secret::Secret;
use omk::transport::http::{Http, HttpConfig};

use crate::stores;
use crate::stores::{Daemon, bare, has, run, scratch};

const REACH: Duration = Duration::from_secs(30);
const DAY: &str = "2026-11-20";

fn etcd(url: &str, login: Option<(&str, &str)>) -> Etcd {
    let http = Http::new(HttpConfig::default()).unwrap();
    let login = login.map(|(user, password)| Login {
        user: user.to_string(),
        password: Secret::new(password),
    });
    Etcd::new(http, url, "/team-a/", login)
}

fn git(remote: &str, cache: &Path) -> Git {
    let mut git = Git::new(remote, "refs/omk/team-a/", cache.to_path_buf());
    git.set_timeout(REACH);
    git
}

fn entry(day: &str, run: &str) -> Entry {
    Entry {
        day: day.to_string(),
        run: run.to_string(),
        bytes: format!("{{\"id\":\"{run}\"}}").into_bytes(),
    }
}

fn runs(store: &mut dyn Store, days: &Days) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    store
        .entries(days, &mut |bytes| {
            found.insert(String::from_utf8(bytes.to_vec()).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// What every engine must do. `other` reaches the same store from another machine.
fn keeps_the_contract(store: &mut dyn Store, other: &mut dyn Store) {
    assert_eq!(store.get().unwrap(), None);
    let Put::Done(first) = store.put_if(b"{\"n\":1}", None, None).unwrap() else {
        panic!("the first write is refused");
    };
    assert!(matches!(
        other.put_if(b"{\"n\":2}", None, None).unwrap(),
        Put::Conflict(_)
    ));
    let current = other.get().unwrap().unwrap();
    assert_eq!(current.bytes.trim_ascii_end(), b"{\"n\":1}");
    assert_eq!(current.version, first);
    let a = entry(DAY, "a");
    let Put::Done(second) = other.put_if(b"{\"n\":3}", Some(&first), Some(&a)).unwrap() else {
        panic!("a write of the version that is there is refused");
    };
    // A write that is refused brings no record.
    let lost = entry(DAY, "lost");
    let refused = store.put_if(b"{\"n\":4}", Some(&first), Some(&lost));
    assert!(matches!(refused.unwrap(), Put::Conflict(_)));
    let current = store.get().unwrap().unwrap();
    assert_eq!(current.version, second);
    let b = entry("2026-11-21", "b");
    let c = entry("2026-12-01", "c");
    let Put::Done(third) = store.put_if(b"{\"n\":5}", Some(&second), Some(&b)).unwrap() else {
        panic!();
    };
    // The same run again is still one run.
    let Put::Done(fourth) = store.put_if(b"{\"n\":6}", Some(&third), Some(&b)).unwrap() else {
        panic!();
    };
    let Put::Done(_) = other.put_if(b"{\"n\":7}", Some(&fourth), Some(&c)).unwrap() else {
        panic!();
    };
    let text = |entry: &Entry| String::from_utf8(entry.bytes.clone()).unwrap();
    let all = BTreeSet::from([text(&a), text(&b), text(&c)]);
    assert_eq!(runs(store, &Days::default()), all);
    let november = Days {
        from: Some("2026-11-01".to_string()),
        to: Some("2026-11-30".to_string()),
    };
    assert_eq!(runs(other, &november), BTreeSet::from([text(&a), text(&b)]));
    assert!(store.contains(DAY, "a").unwrap());
    assert!(!store.contains(DAY, "lost").unwrap());
    assert!(!store.contains("2026-11-21", "a").unwrap());
    store.remove_before("2026-12-01").unwrap();
    assert_eq!(runs(other, &Days::default()), BTreeSet::from([text(&c)]));
    // Nothing to remove is no error.
    store.remove_before("2026-12-01").unwrap();
    assert!(other.get().unwrap().is_some());
}

#[test]
fn fleet_etcd_keeps_the_contract() {
    if !has("etcd") || !has("etcdctl") {
        return;
    }
    let directory = scratch("fleet_etcd_contract");
    let server = stores::Etcd::start(&directory);
    keeps_the_contract(
        &mut etcd(&server.url(), None),
        &mut etcd(&server.url(), None),
    );
}

#[test]
fn fleet_git_keeps_the_contract_over_a_path_and_over_a_daemon() {
    if !has("git") {
        return;
    }
    let directory = scratch("fleet_git_contract");
    bare(&directory.join("a.git"));
    bare(&directory.join("b.git"));
    let caches = [directory.join("one"), directory.join("two")];
    let url = format!("file://{}", directory.join("a.git").display());
    keeps_the_contract(&mut git(&url, &caches[0]), &mut git(&url, &caches[1]));
    let daemon = Daemon::start(&directory, true);
    let caches = [directory.join("three"), directory.join("four")];
    let url = daemon.url("b.git");
    keeps_the_contract(&mut git(&url, &caches[0]), &mut git(&url, &caches[1]));
    // The commits have neither parents nor files, so no history accumulates.
    let repository = directory.join("b.git");
    let shown = run(Command::new("git").arg("-C").arg(&repository).args([
        "log",
        "--format=%P|%T",
        "refs/omk/team-a/budget",
    ]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown, "|4b825dc642cb6eb9a060e54bf8d69288fbee4904\n");
    run(Command::new("git")
        .arg("-C")
        .arg(&repository)
        .args(["fsck", "--strict"]));
}

#[test]
fn fleet_git_a_remote_of_the_repository_around_is_used_and_nothing_is_written_into_it() {
    if !has("git") {
        return;
    }
    let directory = scratch("fleet_git_around");
    let remote = bare(&directory.join("remote.git"));
    let clone = directory.join("clone");
    run(Command::new("git")
        .args(["clone", "-q"])
        .arg(&remote)
        .arg(&clone));
    let files = || {
        let mut found = BTreeSet::new();
        let mut directories = vec![clone.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => drop(found.insert(path)),
                }
            }
        }
        found
    };
    let before = files();
    // The engine asks git about the current directory, which is the process's: so another process.
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fleet_store::fleet_git_around_helper",
            "--nocapture",
        ])
        .current_dir(&clone)
        .env("OMK_FLEET_AROUND", directory.join("cache"))
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(files(), before);
    let listed = run(Command::new("git")
        .arg("-C")
        .arg(&remote)
        .arg("for-each-ref"));
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("refs/omk/team-a/budget"), "{listed}");
}

/// The part of the test above that runs in a process of its own; by itself it does nothing.
#[test]
fn fleet_git_around_helper() {
    if let Some(cache) = std::env::var_os("OMK_FLEET_AROUND") {
        let mut store = git("origin", &PathBuf::from(cache));
        assert_eq!(store.get().unwrap(), None);
        let a = entry(DAY, "a");
        let put = store.put_if(b"{}", None, Some(&a)).unwrap();
        assert!(matches!(put, Put::Done(_)));
        assert!(store.contains(DAY, "a").unwrap());
    }
}

#[test]
fn fleet_troubles_are_told_apart() {
    if !has("git") {
        return;
    }
    let directory = scratch("fleet_troubles");
    bare(&directory.join("a.git"));
    // A server that takes no pushes.
    let daemon = Daemon::start(&directory, false);
    let mut store = git(&daemon.url("a.git"), &directory.join("cache"));
    assert_eq!(store.get().unwrap(), None);
    let error = store.put_if(b"{}", None, None).unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(error.detail.starts_with("git git://127.0.0.1:"), "{error}");
    // A hook that says no.
    let hook = directory.join("a.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let url = format!("file://{}", directory.join("a.git").display());
    let error = git(&url, &directory.join("cache2"))
        .put_if(b"{}", None, None)
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    // Nobody listens.
    let nowhere = etcd("http://127.0.0.1:1", None).get().unwrap_err();
    assert_eq!(nowhere.trouble, Trouble::Unreachable, "{nowhere}");
    assert!(
        nowhere
            .detail
            .starts_with("etcd http://127.0.0.1:1, key /team-a/budget: "),
        "{nowhere}"
    );
    // No such repository.
    let missing = format!("file://{}", directory.join("missing.git").display());
    let error = git(&missing, &directory.join("cache3")).get().unwrap_err();
    assert_eq!(error.trouble, Trouble::Broken, "{error}");
}

fn ctl(server: &stores::Etcd, args: &[&str]) {
    let output = server.ctl(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
}

#[test]
fn fleet_etcd_users_roles_and_tokens() {
    if !has("etcd") || !has("etcdctl") {
        return;
    }
    let directory = scratch("fleet_etcd_users");
    let mut server = stores::Etcd::start(&directory);
    // Where no roles are in force, a user and a password are of no use and do no harm.
    assert_eq!(etcd(&server.url(), Some(("a", "b"))).get().unwrap(), None);
    for args in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "omk"],
        &[
            "role",
            "grant-permission",
            "omk",
            "--prefix=true",
            "readwrite",
            "/team-a/",
        ],
        &["user", "add", "ci:secret"],
        &["user", "grant-role", "ci", "omk"],
        &["role", "add", "look"],
        &[
            "role",
            "grant-permission",
            "look",
            "--prefix=true",
            "read",
            "/team-a/",
        ],
        &["user", "add", "reader:secret"],
        &["user", "grant-role", "reader", "look"],
        &["auth", "enable"],
    ] {
        // The role `root` exists in some versions and must be made in others.
        if args[1] == "grant-role" && args[2] == "root" {
            server.ctl(&["role", "add", "root"]);
        }
        ctl(&server, args);
    }
    let mut store = etcd(&server.url(), Some(("ci", "secret")));
    let a = entry(DAY, "a");
    let Put::Done(version) = store.put_if(b"{}", None, Some(&a)).unwrap() else {
        panic!();
    };
    for (login, what) in [
        (None, "user name is empty"),
        (Some(("ci", "wrong")), "authentication failed"),
    ] {
        let error = etcd(&server.url(), login).get().unwrap_err();
        assert_eq!(error.trouble, Trouble::Denied);
        assert!(error.detail.contains(what), "{error}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
        assert!(error.hint.unwrap().contains("OMK_FLEET_USER"));
    }
    let mut reader = etcd(&server.url(), Some(("reader", "secret")));
    assert_eq!(reader.get().unwrap().unwrap().version, version);
    let error = reader.put_if(b"{}", Some(&version), None).unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied);
    assert!(error.hint.unwrap().contains("readwrite /team-a/"));
    // A restarted etcd has forgotten its tokens; a new one is fetched.
    server.stop();
    let away = store.get().unwrap_err();
    assert_eq!(away.trouble, Trouble::Unreachable, "{away}");
    server.resume_signed_in("root:root");
    assert_eq!(store.get().unwrap().unwrap().version, version);
}

#[test]
fn fleet_etcd_tls_with_a_client_certificate() {
    if !has("etcd") || !has("etcdctl") || !has("openssl") {
        return;
    }
    let directory = scratch("fleet_etcd_tls");
    let path = |name: &str| directory.join(name);
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        run(command.current_dir(&directory).args(args));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "root.key",
        "-out",
        "root.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test root",
    ]);
    std::fs::write(
        path("ext"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .unwrap();
    for name in ["server", "client"] {
        let (key, request, certificate) = (
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("{name}.pem"),
        );
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            &format!("/CN={name}"),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "root.pem",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-out",
            &certificate,
            "-days",
            "2",
            "-extfile",
            "ext",
        ]);
    }
    let server = stores::Etcd::start_tls(
        &directory,
        [path("server.pem"), path("server.key"), path("root.pem")],
    );
    let reach = |ca: bool, client: bool| {
        let config = HttpConfig {
            ca_file: ca.then(|| path("root.pem")),
            client_certificate: client.then(|| (path("client.pem"), path("client.key"))),
            timeout: REACH,
            ..HttpConfig::default()
        };
        Etcd::new(Http::new(config).unwrap(), server.url(), "/team-a/", None).get()
    };
    assert_eq!(reach(true, true).unwrap(), None);
    let untrusted = reach(false, true).unwrap_err();
    assert_eq!(untrusted.trouble, Trouble::Broken, "{untrusted}");
    assert!(untrusted.hint.unwrap().contains("OMK_FLEET_CA"));
    assert!(reach(true, false).is_err());
}

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

fn a_run(id: &str, bound: &str) -> SessionCost {
    let mut run = SessionCost::open(id, SessionType::Prompt, "2026-11-20T12:00:00Z");
    run.worst_case_usd = Some(usd(bound));
    run.kind = CostKind::Metered;
    run.charged = Charge::Unknown;
    run.owner = Owner::current();
    run.prompt_hash = Some("0123".to_string());
    run
}

fn settled(mut run: SessionCost, cost: &str) -> SessionCost {
    run.status = SessionStatus::Settled;
    run.charged = Charge::Yes;
    run.actual_usd = Some(usd(cost));
    run.worst_case_usd = run.actual_usd;
    run
}

/// A machine's runs from the reservation to the sum, with its store away in the middle.
fn lives(make: &dyn Fn(&str) -> Box<dyn Store>, directory: &Path) {
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let due = now + Duration::from_secs(600);
    let budgets = omk::cost::budget::parse_budgets("1/day").unwrap();
    let member = |name: &str| Member::new(make(name), directory.join(name), REACH, false);
    let mut one = member("one");
    let mut two = member("two");
    let a = a_run("20261120T120000000000Z-a", "0.6");
    one.announce(&a, due).unwrap();
    assert_eq!(one.reserve(&a, &budgets, due, now), Ok(Admission::Granted));
    // The other machine sees it.
    let b = a_run("20261120T120000000000Z-b", "0.5");
    two.announce(&b, due).unwrap();
    match two.reserve(&b, &budgets, due, now).unwrap_err() {
        Refusal::Over { standing, .. } => assert_eq!(standing.reserved, usd("0.6")),
        other => panic!("{other}"),
    }
    assert!(!two.has_waiting());
    // A larger bound takes the place of the first one, if there is room.
    let mut grown = a.clone();
    grown.worst_case_usd = Some(usd("1.1"));
    assert!(matches!(
        one.reserve(&grown, &budgets, due, now),
        Err(Refusal::Over { .. })
    ));
    grown.worst_case_usd = Some(usd("0.9"));
    assert_eq!(
        one.reserve(&grown, &budgets, due, now),
        Ok(Admission::Granted)
    );
    one.settle(&settled(grown, "0.123456789012"), now).unwrap();
    assert!(!one.has_waiting());
    two.announce(&b, due).unwrap();
    assert_eq!(two.reserve(&b, &budgets, due, now), Ok(Admission::Granted));
    two.settle(&settled(b.clone(), "0.4"), now).unwrap();
    // Settling again is settling once.
    two.announce(&b, due).unwrap();
    assert_eq!(two.reserve(&b, &budgets, due, now), Ok(Admission::Granted));
    two.settle(&settled(b, "0.4"), now).unwrap();
    let document = one.document().unwrap().unwrap();
    let days: Vec<_> = document.days().collect();
    assert_eq!(days, [(DAY, usd("0.523456789012"))]);
    assert!(document.open().is_empty());
    // A process that stopped while it asked: what it reserved is given back, and its ledger says that nothing was sent.
    let mut ledger = CostTracker::new(JsonFileCostSink::new(directory.join("ledger")));
    let mut c = a_run("20261120T120000000000Z-c", "0.3");
    c.owner.started = "0:0:0".to_string();
    ledger.record(&c).unwrap();
    one.announce(&c, due).unwrap();
    let synced = one.sync(&mut ledger, 100, due + REACH).unwrap();
    assert_eq!((synced.withdrawn, synced.delivered), (1, 0), "{synced:?}");
    // Every machine reads the runs of all, without what stays at home.
    let sink = FleetSink::new(make("three"), REACH);
    let mut seen = Vec::new();
    let notes = CostTracker::new(sink)
        .report_records(Default::default(), &mut |run, whole| {
            let record = whole().unwrap();
            assert_eq!(record.prompt_hash, None);
            seen.push((run.id.to_string(), run.actual_usd));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(notes.lines(), [""; 0]);
    seen.sort();
    let expected = [
        ("20261120T120000000000Z-a", "0.123456789012"),
        ("20261120T120000000000Z-b", "0.4"),
    ];
    let expected = expected.map(|(id, cost)| (id.to_string(), Some(usd(cost))));
    assert_eq!(seen, expected);
    one.clear("2026-11-21", now).unwrap();
    let sink = FleetSink::new(make("three"), REACH);
    let left = CostTracker::new(sink).report(Default::default(), &mut |_| panic!("a run is left"));
    assert_eq!(left, Ok(Default::default()));
}

#[test]
fn fleet_etcd_a_machines_life() {
    if !has("etcd") || !has("etcdctl") {
        return;
    }
    let directory = scratch("fleet_etcd_life");
    let server = stores::Etcd::start(&directory);
    let url = server.url();
    lives(&|_| Box::new(etcd(&url, None)), &directory);
}

#[test]
fn fleet_git_a_machines_life() {
    if !has("git") {
        return;
    }
    let directory = scratch("fleet_git_life");
    bare(&directory.join("a.git"));
    let url = format!("file://{}", directory.join("a.git").display());
    let caches = directory.join("caches");
    lives(&|name| Box::new(git(&url, &caches.join(name))), &directory);
}

#[test]
fn fleet_a_store_that_is_away_stops_runs_unless_that_is_allowed() {
    let directory = scratch("fleet_away");
    let now = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let due = now + Duration::from_secs(600);
    let reach = Duration::from_millis(300);
    for (name, sends_offline) in [("closed", false), ("open", true)] {
        let store = Box::new(etcd("http://127.0.0.1:1", None));
        let mut member = Member::new(store, directory.join(name), reach, sends_offline);
        let run = a_run("20261120T120000000000Z-a", "0.5");
        member.announce(&run, due).unwrap();
        let budgets = omk::cost::budget::parse_budgets("1/day").unwrap();
        match member.reserve(&run, &budgets, due, now) {
            Ok(Admission::Offline(_)) => assert!(sends_offline),
            Err(Refusal::Store(error)) => {
                assert!(!sends_offline);
                assert_eq!(error.trouble, Trouble::Unreachable);
            }
            other => panic!("{other:?}"),
        }
        assert!(member.has_waiting());
    }
}

/// What the processes of a fleet are told: the store, the machine's number and directory, and the run's id.
const WORKER: &str = "OMK_FLEET_WORKER";

fn store_at(address: &str, cache: &Path) -> Box<dyn Store> {
    match address.starts_with("http") {
        true => Box::new(etcd(address, None)),
        false => Box::new(git(address, cache)),
    }
}

/// The machine's clock, minutes off.
fn clock_of(machine: usize) -> std::time::SystemTime {
    let noon = clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    noon + Duration::from_secs(150 * machine as u64)
}

fn member_of(address: &str, directory: &Path) -> Member {
    let cache = directory.join("outbox/git");
    Member::new(
        store_at(address, &cache),
        directory.join("outbox"),
        REACH,
        false,
    )
}

fn ledger_of(directory: &Path) -> CostTracker<JsonFileCostSink> {
    CostTracker::new(JsonFileCostSink::new(directory.join("ledger")))
}

/// One run in a process of its own, in the order of `omk prompt`; by itself the test does nothing.
#[test]
fn fleet_worker() {
    let Ok(told) = std::env::var(WORKER) else {
        return;
    };
    let told: Vec<&str> = told.split('|').collect();
    let (address, machine, directory, id) = (told[0], told[1], Path::new(told[2]), told[3]);
    let now = clock_of(machine.parse().unwrap());
    let due = now + Duration::from_secs(600);
    let budgets = omk::cost::budget::parse_budgets("10/day").unwrap();
    let mut run = a_run(id, "1");
    run.owner.host = format!("machine-{machine}");
    let mut member = member_of(address, directory);
    let mut ledger = ledger_of(directory);
    member.announce(&run, due).unwrap();
    ledger.record(&run).unwrap();
    match member.reserve(&run, &budgets, due, now) {
        Ok(_) => {
            std::fs::write(directory.join("sent").join(id), "").unwrap();
            let over = settled(run, "1");
            ledger.settle(&over).unwrap();
            // What cannot be delivered waits.
            let _ = member.settle(&over, now);
        }
        Err(refusal) => {
            run.status = SessionStatus::Failed;
            run.charged = Charge::No;
            ledger.settle(&run).unwrap();
            assert!(
                matches!(refusal, Refusal::Over { .. } | Refusal::Store(_)),
                "{refusal}"
            );
        }
    }
}

struct Fleet<'a> {
    address: String,
    directory: &'a Path,
    next: usize,
}

impl Fleet<'_> {
    fn machine(&self, number: usize) -> PathBuf {
        self.directory.join(format!("machine-{number}"))
    }

    fn spawn(&mut self) -> std::process::Child {
        let machine = self.next % 5;
        let directory = self.machine(machine);
        std::fs::create_dir_all(directory.join("sent")).unwrap();
        let id = format!("20261120T120000{:06}Z-w", self.next);
        self.next += 1;
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fleet_store::fleet_worker"])
            .env(
                WORKER,
                format!("{}|{machine}|{}|{id}", self.address, directory.display()),
            )
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Every machine delivers what waits, long after all of it was due.
    fn sync(&self) {
        let later = clock_of(0) + Duration::from_secs(7200);
        for number in 0..5 {
            let directory = self.machine(number);
            let mut member = member_of(&self.address, &directory);
            let synced = member.sync(&mut ledger_of(&directory), usize::MAX, later);
            let synced = synced.unwrap();
            assert_eq!((synced.running, synced.warnings), (0, Vec::new()));
        }
    }

    /// The sum of all ledgers, runs that were sent, and runs that were granted and stopped before they were sent.
    fn ledgers(&self) -> (Usd, usize, usize) {
        let (mut sum, mut sent, mut stopped) = (Usd::ZERO, 0, 0);
        for number in 0..5 {
            let directory = self.machine(number);
            let was_sent = |id: &str| directory.join("sent").join(id).exists();
            sent += std::fs::read_dir(directory.join("sent")).unwrap().count();
            ledger_of(&directory)
                .report(Default::default(), &mut |run| {
                    let usd = run.at_most_usd().unwrap();
                    sum = sum + usd;
                    stopped += usize::from(!usd.is_zero() && !was_sent(run.id));
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        (sum, sent, stopped)
    }
}

/// 50 processes on 5 machines whose clocks differ ask for one of 10 places; some are killed at any moment, and `disturb`
/// does its worst to the store meanwhile.
fn fifty_processes(address: String, directory: &Path, disturb: &mut dyn FnMut()) {
    let mut fleet = Fleet {
        address,
        directory,
        next: 0,
    };
    let mut workers: Vec<_> = (0..50).map(|_| fleet.spawn()).collect();
    // Moments without a pattern; which step of a run they hit depends on the machine, and every one must be harmless.
    let mut moments = (0..20_u64).map(|n| (n * 7919 + 13) % 140);
    for (place, worker) in workers.iter_mut().enumerate().take(40) {
        if place % 2 == 0 {
            let pause = moments.next().unwrap_or(0);
            std::thread::sleep(Duration::from_millis(pause));
            let _ = worker.kill();
        }
        if place == 20 {
            disturb();
        }
    }
    for worker in &mut workers {
        worker.wait().unwrap();
    }
    let (_, sent, _) = fleet.ledgers();
    assert!(sent <= 10, "{sent} were sent");
    fleet.sync();
    // The places of those that were killed before they were granted are free again.
    loop {
        let (_, sent, stopped) = fleet.ledgers();
        let status = fleet.spawn().wait().unwrap();
        assert!(status.success());
        if fleet.ledgers().1 == sent {
            assert_eq!(sent + stopped, 10);
            break;
        }
    }
    fleet.sync();
    let (sum, _, _) = fleet.ledgers();
    let mut member = member_of(&fleet.address, &directory.join("reader"));
    let document = member.document().unwrap().unwrap();
    let budget = "10/day".parse().unwrap();
    let standing = document.standing(&budget, DAY, None);
    assert_eq!(standing.spent + standing.reserved, sum);
    assert_eq!(sum, usd("10"));
    assert!(document.open().is_empty());
    // The records say the same as the document.
    let sink = FleetSink::new(member.into_store(), REACH);
    let mut records = Usd::ZERO;
    CostTracker::new(sink)
        .report(Default::default(), &mut |run| {
            records = records + run.at_most_usd().unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(records, sum);
}

#[test]
fn fleet_etcd_fifty_processes_share_ten_places() {
    if !has("etcd") || !has("etcdctl") {
        return;
    }
    let directory = scratch("fleet_etcd_fifty");
    let mut server = stores::Etcd::start(&directory);
    let address = server.url();
    fifty_processes(address, &directory, &mut || {
        server.stop();
        std::thread::sleep(Duration::from_millis(300));
        server.resume();
    });
}

#[test]
fn fleet_git_fifty_processes_share_ten_places() {
    if !has("git") {
        return;
    }
    let directory = scratch("fleet_git_fifty");
    let repository = bare(&directory.join("a.git"));
    let daemon = Daemon::start(&directory, true);
    // Some pushes are refused by the server; that many at once, others are refused by their leases.
    let hook = repository.join("hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fifty_processes(daemon.url("a.git"), &directory, &mut || {
        std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_file(&hook).unwrap();
    });
}
