//! Runs of the built program that are killed at any moment, and runs that race for what is left of a budget.
//!
//! `OMK_STRESS=200 cargo test --test it stress` kills 200 runs and lets 50 race; without the variable both are 20. The moment
//! of a kill is chosen by chance over the stages of a run: while it starts, while the service has its question, after some
//! pieces of the answer, while it writes down the end. Only chance waits, by counting looks at the process; what must have
//! happened is waited for by itself. The seed is printed when a test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::ControlFlow;
use std::process::Child;
use std::time::{Duration, Instant};

use omk::catalog::money::Usd;
use omk::cost::file_sink::{Fold, JsonFileCostSink};
use omk::cost::fingerprint::fingerprint;
use omk::cost::record::{Charge, Reservation, SessionStatus, random};
use omk::cost::sink::{CostSink, Notes};
use omk::cost::tracker::SessionCost;
use serde_json::json;

use crate::sandbox::{Run, Sandbox, lines_without_age};
use crate::service::{Act, Answer, Call, Service};

/// So many runs are alive at once.
const LANES: usize = 4;
/// A service takes so many at most.
const PER_SERVICE: usize = 40;
/// An answer in pieces, each of so many bytes.
const PIECES: usize = 5;
const PIECE: &str = "0123456789abcde\n";
/// Whatever goes wrong, nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn number(few: usize) -> usize {
    let number = std::env::var("OMK_STRESS").ok();
    number.map_or(few, |number| {
        number.parse().expect("OMK_STRESS is a number")
    })
}

/// Numbers by chance, the same for the same seed: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// After what a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// After it was started.
    Start,
    /// After its question came, which nobody answers.
    Question,
    /// After so many pieces of the answer, of which more do not come.
    Pieces(usize),
    /// After the whole answer.
    Answer,
}

/// What is to become of a run.
#[derive(Clone, Debug)]
struct Plan {
    name: String,
    after: After,
    /// So often it is looked at before it is killed.
    looks: u64,
    /// It asks a budget, of which there is plenty.
    in_budget: bool,
}

impl Plan {
    fn new(number: usize, chance: &mut Chance) -> Plan {
        let after = match number % 4 {
            0 => After::Start,
            1 => After::Question,
            2 => After::Pieces(usize::try_from(chance.below(PIECES as u64)).unwrap()),
            _ => After::Answer,
        };
        // As often few as many: some stages are short.
        let magnitude = 1 << chance.below(if after == After::Start { 17 } else { 14 });
        Plan {
            name: format!("run-{number}"),
            after,
            looks: chance.below(magnitude),
            in_budget: chance.below(2) == 0,
        }
    }

    /// Its prompt, which no other has.
    fn prompt(&self) -> String {
        format!("Question of {}.", self.name)
    }

    /// It cannot have ended by itself, and its question was sent.
    fn is_held(&self) -> bool {
        matches!(self.after, After::Question | After::Pieces(_))
    }

    fn act(&self) -> Act {
        let answer = Answer::text([PIECE; PIECES]);
        match self.after {
            After::Question => Act::Hold(answer),
            After::Pieces(piece) => answer.hold_before(piece).into(),
            After::Start | After::Answer => answer.into(),
        }
    }

    fn start(&self, sandbox: &Sandbox, service: &Service) -> Child {
        let run = prompt(sandbox, service).arg("--name").arg(&self.name);
        let run = match self.in_budget {
            true => run.env("OMK_BUDGET", "1000/month"),
            false => run,
        };
        run.arg(self.prompt()).spawn()
    }

    /// Runs it and kills it. Whether it ended well before that.
    fn run(&self, sandbox: &Sandbox, service: &Service) -> bool {
        let mut child = self.start(sandbox, service);
        if self.is_held() {
            let prompt = self.prompt();
            until(|| service.calls().iter().any(|call| call.asks(&prompt)));
        }
        let bytes = match self.after {
            After::Start | After::Question => 0,
            After::Pieces(pieces) => pieces * PIECE.len(),
            After::Answer => PIECES * PIECE.len(),
        };
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut vec![0; bytes]).unwrap();
        for _ in 0..self.looks {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::yield_now();
        }
        // SIGKILL, to this process by its id.
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(
            matches!(status.code(), None | Some(0)),
            "{self:?}: {status}"
        );
        status.success()
    }
}

/// A question that has a bound, for a minute at most.
fn prompt(sandbox: &Sandbox, service: &Service) -> Run {
    let line = "prompt --no-stdin -m kimi-k2.6 --max-output-tokens 100 --deadline 60s --base-url";
    sandbox
        .omk(line)
        .arg(service.url())
        .env("MOONSHOT_API_KEY", "sk-test")
}

#[track_caller]
fn until(mut seen: impl FnMut() -> bool) {
    let started = Instant::now();
    while !seen() {
        assert!(started.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ledger(sandbox: &Sandbox) -> JsonFileCostSink {
    JsonFileCostSink::new(sandbox.path("home/.local/state/omk/ledger"))
}

/// Every record by its id; none may be there twice.
fn records(sandbox: &Sandbox) -> BTreeMap<String, SessionCost> {
    let mut records = BTreeMap::new();
    let warnings = ledger(sandbox).load(&mut |record| {
        let before = records.insert(record.id.clone(), record.clone());
        assert!(before.is_none(), "{} is there twice", record.id);
        ControlFlow::Continue(())
    });
    assert_eq!(warnings, Ok(Notes::default()));
    records
}

/// Runs some of the plans, one after the other. The calls that came of them, and the names of those that ended well.
fn lane(sandbox: &Sandbox, plans: &[Plan]) -> (Vec<Call>, Vec<String>) {
    let (mut calls, mut ended) = (Vec::new(), Vec::new());
    for plans in plans.chunks(PER_SERVICE) {
        let known = plans.to_vec();
        let service = Service::new(move |call| {
            let plan = known.iter().find(|plan| call.asks(&plan.prompt()));
            plan.expect("a question that somebody asked").act()
        });
        for plan in plans {
            if plan.run(sandbox, &service) {
                ended.push(plan.name.clone());
            }
        }
        calls.extend(service.drain());
    }
    (calls, ended)
}

#[cfg(target_os = "linux")]
#[test]
fn whenever_a_run_is_killed_its_money_is_in_the_ledger() {
    let sandbox = Sandbox::new("whenever_a_run_is_killed_its_money_is_in_the_ledger");
    let seed = random();
    println!("seed {seed:#x}");
    let mut chance = Chance(seed);
    let count = number(20);
    let plans: Vec<Plan> = (0..count)
        .map(|number| Plan::new(number, &mut chance))
        .collect();
    let (mut calls, mut ended) = (Vec::new(), BTreeSet::new());
    std::thread::scope(|scope| {
        let lanes = plans.chunks(count.div_ceil(LANES));
        let lanes: Vec<_> = lanes
            .map(|plans| scope.spawn(|| lane(&sandbox, plans)))
            .collect();
        for lane in lanes {
            let (more_calls, more_ended) = lane.join().unwrap();
            calls.extend(more_calls);
            ended.extend(more_ended);
        }
    });

    // One record for each run at most, settled or open with a bound.
    let found = records(&sandbox);
    let mut by_name = BTreeMap::new();
    for run in found.values() {
        let before = by_name.insert(run.name.as_str(), run);
        assert!(before.is_none(), "{} has two records", run.name);
        assert!(run.at_most_usd() > Some(Usd::ZERO), "{run:?}");
        match run.status {
            SessionStatus::Open => assert!(!ended.contains(&run.name), "{run:?}"),
            SessionStatus::Settled => assert_eq!(
                (run.actual_usd.is_some(), run.charged),
                (true, Charge::Yes),
                "{run:?}"
            ),
            other => panic!("{other:?}: {run:?}"),
        }
    }
    for plan in plans.iter().filter(|plan| plan.is_held()) {
        let run = by_name.get(plan.name.as_str());
        let run = run.unwrap_or_else(|| panic!("{plan:?} has no record"));
        assert_eq!(run.status, SessionStatus::Open, "{plan:?}");
    }
    for name in &ended {
        assert_eq!(by_name[name.as_str()].status, SessionStatus::Settled);
    }

    // Whatever was sent was written down before.
    let mut sent = BTreeSet::new();
    for call in &calls {
        let prompt = call.last()["content"].as_str().unwrap();
        let plan = plans.iter().find(|plan| plan.prompt() == prompt).unwrap();
        let run = by_name.get(plan.name.as_str());
        let run = run.unwrap_or_else(|| panic!("{plan:?} was sent and has no record"));
        assert_eq!(run.reservation, Reservation::Granted, "{plan:?}");
        assert_eq!(
            run.prompt_hash.as_deref(),
            Some(fingerprint(["", prompt]).as_str())
        );
        assert!(
            sent.insert(plan.name.as_str()),
            "{} was sent twice",
            plan.name
        );
    }

    // What remained open is recovered, all of it, and nothing else is touched.
    let open = |records: &BTreeMap<String, SessionCost>| -> BTreeSet<String> {
        let open = records
            .values()
            .filter(|run| run.status == SessionStatus::Open);
        open.map(|run| run.id.clone()).collect()
    };
    let was_open = open(&found);
    let unsent = found.len() - sent.len();
    println!(
        "{count} runs: {} without a record, {} settled, {} open, {unsent} of the recorded not sent",
        count - found.len(),
        found.len() - was_open.len(),
        was_open.len()
    );
    let outcome = sandbox.omk("cost recover --json").run();
    let document = outcome.code(0).stderr("").json();
    let items = document["runs"].as_array().unwrap();
    let ids = items.iter().map(|item| item["id"].as_str().unwrap());
    assert_eq!(ids.map(str::to_string).collect::<BTreeSet<_>>(), was_open);
    let after = records(&sandbox);
    assert_eq!(open(&after), BTreeSet::new());
    assert!(after.keys().eq(found.keys()));
    for (id, run) in &after {
        let before = &found[id];
        match run.status {
            SessionStatus::Settled => assert_eq!(run, before),
            SessionStatus::Unknown => {
                assert_eq!(run.at_most_usd(), before.at_most_usd(), "{run:?}");
            }
            // It had not been let go by its budget.
            SessionStatus::Failed => {
                assert_ne!(before.reservation, Reservation::Granted);
                assert!(!sent.contains(run.name.as_str()), "{run:?}");
            }
            other => panic!("{other:?}: {run:?}"),
        }
    }
    let again = sandbox.omk("cost recover").run();
    again.code(0).stdout("no open runs\n").stderr("");
    ledger(&sandbox).fold(Fold::Now).unwrap();
    assert_eq!(records(&sandbox), after);
}

#[test]
fn runs_that_start_at_once_do_not_pass_a_budget() {
    const ROOM: usize = 10;
    let name = "runs_that_start_at_once_do_not_pass_a_budget";
    // Longer than the longest that the service bills, so that none costs more than its worst case.
    let question = "How much is it? ".repeat(600);
    // What one of them may cost at most, an open record says.
    let elsewhere = Sandbox::new(&format!("{name}_elsewhere"));
    let service = Service::new(|_| Act::Hold(Answer::text(["x"])));
    let run = prompt(&elsewhere, &service).env("OMK_BUDGET", "1000/month");
    let child = run.arg(&question).spawn();
    service.wait_for_calls(1);
    let open = records(&elsewhere).into_values().next().unwrap();
    let worst = open.worst_case_usd.unwrap();
    assert!(worst > Usd::ZERO);
    service.release();
    assert!(child.wait_with_output().unwrap().status.success());

    let sandbox = Sandbox::new(name);
    let limit = (0..ROOM).fold(Usd::ZERO, |sum, _| sum + worst);
    let budget = format!("{}/month", limit.exact_decimal());
    let service = Service::new(|_| Act::Hold(Answer::text(["The answer."])));
    let ask = || {
        prompt(&sandbox, &service)
            .env("OMK_BUDGET", &budget)
            .arg(&question)
    };
    let count = number(20).clamp(2 * ROOM, 50);
    let mut children: Vec<Child> = (0..count).map(|_| ask().spawn()).collect();
    // Until each has been refused or is waited for at the service.
    until(|| {
        let over = children
            .iter_mut()
            .filter_map(|child| child.try_wait().unwrap());
        over.count() + service.calls().len() >= count
    });
    assert_eq!(service.calls().len(), ROOM);
    let check = || {
        let run = sandbox
            .omk("cost check --json")
            .env("OMK_BUDGET", &budget)
            .run();
        let document = run.code(0).stderr("").json();
        let usd = |name: &str| Usd::parse(document["budgets"][0][name].as_str().unwrap()).unwrap();
        assert_eq!(document["budgets"][0]["unknown_runs"], 0);
        (usd("spent_usd_exact"), usd("reserved_usd_exact"))
    };
    assert_eq!(check(), (Usd::ZERO, limit));

    service.release();
    let mut codes = BTreeMap::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = lines_without_age(&String::from_utf8(output.stderr).unwrap());
        match output.status.code() {
            Some(0) => assert_eq!((stdout.as_str(), stderr.as_str()), ("The answer.\n", "")),
            _ => {
                assert_eq!(stdout, "");
                for word in ["limit $", "spent $", "reserved $", "needed $"] {
                    assert!(stderr.contains(word), "{stderr}");
                }
            }
        }
        *codes.entry(output.status.code()).or_insert(0) += 1;
    }
    assert_eq!(
        codes,
        BTreeMap::from([(Some(0), ROOM), (Some(5), count - ROOM)])
    );
    // Nobody who was refused sent something afterwards.
    assert_eq!(service.calls().len(), ROOM);
    let found = records(&sandbox);
    assert_eq!(found.len(), count);
    let mut spent = Usd::ZERO;
    let mut settled = 0;
    for run in found.values() {
        match run.status {
            SessionStatus::Settled => {
                spent = spent + run.actual_usd.unwrap();
                settled += 1;
            }
            status => assert_eq!(
                (status, run.charged, run.exit),
                (SessionStatus::Failed, Charge::No, Some(5))
            ),
        }
    }
    assert_eq!(settled, ROOM);
    assert_eq!(check(), (spent, Usd::ZERO));
    // What they did not need is free again.
    assert!(spent + worst <= limit);
    ask().run().code(0);
    let report = sandbox.omk("cost report --json").run();
    assert_eq!(report.code(0).json()["total"]["runs"], json!(count + 1));
}
