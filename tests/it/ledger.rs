//! The ledger with real processes: many at once, and some that are killed.
//!
//! This binary runs itself: the test `worker` does nothing unless the variable below tells it what to be. `OMK_STRESS` is the
//! number of processes, 60 if it is not set; 1000 is what the ledger is made for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use omk::catalog::money::Usd;
use omk::cost::budget::{self, Refusal};
use omk::cost::file_sink::{Fold, Folded, JsonFileCostSink};
use omk::cost::record::{self, Charge, Owner, Reservation, SessionStatus, SessionType};
use omk::cost::sink::{CostSink, Notes};
use omk::cost::tracker::{CostTracker, SessionCost};
use omk::cost::view::Period;
use omk::runtime::clock::{Clock, SystemTimer};

const ROLE: &str = "OMK_TEST_LEDGER_ROLE";
const PLACE: &str = "OMK_TEST_LEDGER_PLACE";

fn processes() -> usize {
    let number = std::env::var("OMK_STRESS").ok();
    number.map_or(60, |number| number.parse().expect("OMK_STRESS is a number"))
}

/// An empty directory for the ledger of one test.
fn place(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// A process of this binary in some role. It starts to work when its standard input ends.
fn start(role: &str, place: &Path, stdin: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::worker", "--nocapture"])
        .env(ROLE, role)
        .env(PLACE, place)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts them all, lets them go at once, and waits for them.
fn run_together(roles: &[&str], place: &Path) {
    let (reader, writer) = std::io::pipe().unwrap();
    let children: Vec<Child> = roles
        .iter()
        .map(|role| start(role, place, reader.try_clone().unwrap().into()))
        .collect();
    drop((reader, writer));
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {text}", output.status);
    }
}

/// Every record by its id; none may be there twice.
fn records(sink: &impl CostSink) -> BTreeMap<String, SessionCost> {
    let mut records = BTreeMap::new();
    let warnings = sink.load(&mut |record| {
        let before = records.insert(record.id.clone(), record.clone());
        assert!(before.is_none(), "{} is there twice", record.id);
        ControlFlow::Continue(())
    });
    assert_eq!(warnings, Ok(Notes::default()));
    records
}

fn new_run() -> SessionCost {
    let id = record::new_id(SystemTime::now(), std::process::id(), record::random());
    // One moment for all, so that no midnight comes between them.
    let mut run = SessionCost::open(id, SessionType::Prompt, "2026-11-20T12:00:00Z");
    run.owner = Owner::current();
    run
}

#[test]
fn worker() {
    let (Ok(role), Some(place)) = (std::env::var(ROLE), std::env::var_os(PLACE)) else {
        return;
    };
    let mut sink = JsonFileCostSink::new(place);
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    match role.as_str() {
        "append" => {
            let mut run = new_run();
            sink.append(&run).unwrap();
            assert_eq!(records(&sink).get(&run.id), Some(&run));
            run.status = SessionStatus::Settled;
            sink.save(&run).unwrap();
            sink.fold(Fold::IfDue).unwrap();
        }
        // Several imports of the same sessions.
        "import" => {
            let runs = (0..50).map(|number| {
                let mut run = new_run();
                run.id = format!("20261120T120000000000Z-00000000-{number:012x}");
                run.owner = Owner::default();
                run.status = SessionStatus::Settled;
                run
            });
            sink.save_all(runs.collect()).unwrap();
        }
        "fold" => {
            for _ in 0..20 {
                assert!(sink.fold(Fold::Now).is_ok());
            }
        }
        "report" => {
            // What was there once stays there.
            let mut known = BTreeMap::new();
            for _ in 0..20 {
                let now = records(&sink);
                assert!(known.keys().all(|id| now.contains_key(id)));
                let mut count = 0;
                sink.scan(Period::default(), &mut |_| {
                    count += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
                assert!(count >= now.len());
                known = now;
            }
        }
        "ask" => {
            let mut run = new_run();
            run.worst_case_usd = Some(Usd::from_usd(1));
            let budgets = budget::parse_budgets("10/day").unwrap();
            let mut timer = SystemTimer::default();
            let mut tracker = CostTracker::new(sink);
            match budget::reserve(&mut tracker, &mut run, &budgets, Clock::System, &mut timer) {
                Ok(()) => assert_eq!(run.reservation, Reservation::Granted),
                Err(Refusal::Over { standing, .. }) => {
                    assert_eq!(standing.total(), Usd::from_usd(10));
                }
                Err(other) => panic!("{other}"),
            }
        }
        "until killed" => loop {
            let mut run = new_run();
            sink.append(&run).unwrap();
            println!("open {}", run.id);
            run.status = SessionStatus::Settled;
            sink.save(&run).unwrap();
            println!("over {}", run.id);
            sink.fold(Fold::Now).unwrap();
        },
        _ => panic!("{role}"),
    }
}

#[test]
fn many_processes_append_at_once_while_others_fold_and_report() {
    let place = place("ledger_stress");
    let count = processes();
    let mut roles = vec!["append"; count];
    roles.extend(["fold", "report", "fold", "report", "fold"]);
    roles.extend(["import"; 5]);
    run_together(&roles, &place);
    let sink = JsonFileCostSink::new(&place);
    let found = records(&sink);
    assert_eq!(found.len(), count + 50);
    assert!(
        found
            .values()
            .all(|run| run.status == SessionStatus::Settled)
    );
    assert!(matches!(sink.fold(Fold::Now), Ok(Folded::Done { .. })));
    assert_eq!(records(&sink), found);
}

#[test]
fn fifty_runs_at_once_against_a_budget_for_ten() {
    let place = place("ledger_budget_race");
    run_together(&["ask"; 50], &place);
    let found = records(&JsonFileCostSink::new(&place));
    let mut granted = 0;
    for run in found.values() {
        match run.status {
            SessionStatus::Open => {
                assert_eq!(run.reservation, Reservation::Granted);
                granted += 1;
            }
            status => assert_eq!((status, run.charged), (SessionStatus::Failed, Charge::No)),
        }
    }
    assert_eq!((found.len(), granted), (50, 10));
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    let place = place("ledger_kill");
    let mut open = Vec::new();
    let mut over = Vec::new();
    for wave in 0..processes().div_ceil(6) {
        let children = (0..3).map(|number| {
            // The input is inherited by nobody else, so it ends at once.
            let mut child = start("until killed", &place, Stdio::null());
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut last = 2 + (wave * 5 + number * 3) % 9;
            while last > 0 {
                let line = lines.next().unwrap().unwrap();
                // The test harness says something first.
                last -= usize::from(note(&line, &mut open, &mut over));
            }
            (child, lines)
        });
        for (mut child, lines) in children.collect::<Vec<_>>() {
            child.kill().unwrap();
            child.wait().unwrap();
            for line in lines.map_while(Result::ok) {
                note(&line, &mut open, &mut over);
            }
        }
    }
    let found = records(&JsonFileCostSink::new(&place));
    for id in &open {
        assert!(found.contains_key(id), "{id} is lost");
    }
    for id in &over {
        assert_eq!(found[id].status, SessionStatus::Settled, "{id}");
    }
    let mut out = std::io::stdout();
    writeln!(out, "{} records, {} acknowledged", found.len(), open.len()).unwrap();
    // At most one record of each killed process was written and not yet acknowledged.
    assert!(found.len() - open.len() <= processes().div_ceil(6) * 3);
}

/// Remembers what a line acknowledges.
fn note(line: &str, open: &mut Vec<String>, over: &mut Vec<String>) -> bool {
    for (word, ids) in [("open ", open), ("over ", over)] {
        // The harness may have begun the line.
        if let Some((_, id)) = line.split_once(word)
            && id.starts_with("20")
        {
            ids.push(id.to_string());
            return true;
        }
    }
    false
}
