//! The protocol against a world that loses, delays and repeats messages, stops machines at any step, sets their clocks
//! wrong and cuts them off. Each world is made from one number, so a failure can be run again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::SystemTime;

use crate::catalog::money::Usd;
use crate::cost::budget::Budget;
use crate::fleet::document;
use crate::fleet::document::Document;
use crate::fleet::document::Hold;
use crate::fleet::protocol::Exchange;
use crate::fleet::protocol::Outcome;
use crate::fleet::protocol::Reply;
use crate::fleet::protocol::Step;
use crate::fleet::protocol::Wish;
use crate::fleet::store::Current;
use crate::fleet::store::Entry;
use crate::fleet::store::Put;
use crate::runtime::clock;

const DAY: &str = "2026-11-20";
const CENTS: u64 = 10_000_000_000;

fn usd(cents: u64) -> Usd {
    Usd::parse(&format!("{}.{:02}", cents / 100, cents % 100)).unwrap()
}

/// A small generator of numbers that look random.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A write that is under way.
#[derive(Clone)]
struct Write {
    bytes: Vec<u8>,
    expected: Option<String>,
    entry: Option<Entry>,
}

/// The store.
#[derive(Default)]
struct Shared {
    current: Option<Current>,
    records: BTreeSet<String>,
    writes: u64,
    /// Writes the record and the document in one step.
    is_atomic: bool,
}

impl Shared {
    fn apply(&mut self, write: &Write) -> Put {
        let is_expected =
            self.current.as_ref().map(|current| &current.version) == write.expected.as_ref();
        if (is_expected || !self.is_atomic)
            && let Some(entry) = &write.entry
        {
            self.records.insert(entry.run.clone());
        }
        if !is_expected {
            return Put::Conflict(None);
        }
        self.writes += 1;
        let version = self.writes.to_string();
        self.current = Some(Current {
            bytes: write.bytes.clone(),
            version: version.clone(),
        });
        Put::Done(version)
    }

    fn document(&self) -> Document {
        let current = self.current.as_ref();
        current.map_or_else(Document::default, |current| {
            Document::parse(&current.bytes).unwrap()
        })
    }
}

/// What a machine's ledger says of a run. It survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    Asked,
    Granted,
    Void,
    Unknown,
    Cost(u64),
}

#[derive(Clone, Debug)]
struct Run {
    id: String,
    bound: u64,
    cost: u64,
    local: Local,
    /// The store is known to hold the end of it.
    is_delivered: bool,
    hold: Hold,
}

struct Machine {
    runs: Vec<Run>,
    /// Which run an exchange is about.
    at_work: Option<(usize, Exchange, Step)>,
    known: Option<Current>,
    is_cut_off: bool,
    skew_s: i64,
    left: u64,
}

struct World {
    chance: Chance,
    shared: Shared,
    delayed: Vec<Write>,
    machines: Vec<Machine>,
    budgets: Vec<Budget>,
    cap: u64,
    time_s: u64,
    sent_cents: u64,
    granted: u64,
    /// Runs are sent when the store cannot be reached, so the cap does not bind.
    sends_offline: bool,
    calm: bool,
}

impl World {
    fn new(seed: u64, sends_offline: bool) -> World {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            chance.below(2);
        }
        let cap = 20 + chance.below(200);
        let machines = (0..1 + chance.below(5)).map(|_| Machine {
            runs: Vec::new(),
            at_work: None,
            known: None,
            is_cut_off: false,
            skew_s: chance.below(1200).cast_signed() - 600,
            left: 1 + chance.below(6),
        });
        let machines = machines.collect();
        let budgets = format!("{}/day", usd(cap).exact_decimal());
        World {
            shared: Shared {
                is_atomic: chance.one_in(2),
                ..Shared::default()
            },
            machines,
            delayed: Vec::new(),
            budgets: vec![budgets.parse().unwrap()],
            cap,
            time_s: 43_200,
            sent_cents: 0,
            granted: 0,
            sends_offline,
            calm: false,
            chance,
        }
    }

    fn now(&self, machine: usize) -> SystemTime {
        let midnight = clock::parse_rfc3339(&format!("{DAY}T00:00:00Z")).unwrap();
        let seconds = self
            .time_s
            .saturating_add_signed(self.machines[machine].skew_s);
        midnight + Duration::from_secs(seconds)
    }

    /// One step of one machine, or of the network.
    fn turn(&mut self) {
        self.time_s += self.chance.below(40);
        if !self.delayed.is_empty() && self.chance.one_in(4) {
            let at = self.chance.below(self.delayed.len() as u64) as usize;
            let write = self.delayed.swap_remove(at);
            self.shared.apply(&write);
            self.check();
        }
        let machine = self.chance.below(self.machines.len() as u64) as usize;
        if !self.calm && self.chance.one_in(40) {
            let cut = !self.machines[machine].is_cut_off;
            self.machines[machine].is_cut_off = cut;
        }
        if !self.calm && self.chance.one_in(25) {
            self.crash(machine);
        }
        match self.machines[machine].at_work.take() {
            Some((run, exchange, step)) => self.advance(machine, run, exchange, step),
            None => self.begin(machine),
        }
    }

    /// The machine stops and starts again: what was not written down is gone.
    fn crash(&mut self, machine: usize) {
        let machine = &mut self.machines[machine];
        machine.at_work = None;
        machine.known = None;
        for run in &mut machine.runs {
            run.local = match run.local {
                // Nothing is sent before the grant is written down.
                Local::Asked => Local::Void,
                Local::Granted => Local::Unknown,
                other => other,
            };
        }
    }

    fn begin(&mut self, at: usize) {
        let now = self.now(at);
        if !self.calm && self.chance.one_in(10) {
            // A later look at an agent's log tells what a run cost.
            let run = self.machines[at].runs.iter_mut();
            for run in run.filter(|run| run.local == Local::Unknown) {
                run.local = Local::Cost(run.cost);
                run.is_delivered = false;
            }
        }
        let runs = self.machines[at].runs.iter();
        let waiting: Vec<usize> = runs
            .enumerate()
            .filter(|(_, run)| !run.is_delivered)
            .map(|(place, _)| place)
            .collect();
        let wants_more = self.machines[at].left > 0;
        if !waiting.is_empty() && (!wants_more || self.chance.one_in(2)) {
            let run = waiting[self.chance.below(waiting.len() as u64) as usize];
            let wish = settle(&self.machines[at].runs[run]);
            self.engage(at, run, wish, now);
        } else if wants_more {
            let bound = 1 + self.chance.below(60);
            let cost = self.chance.below(bound + 1);
            let machine = &mut self.machines[at];
            machine.left -= 1;
            let id = format!("m{at}-{:02}", machine.runs.len());
            let since = format!("{DAY}T12:00:00Z");
            let hold = Hold::new(
                Some(usd(bound)),
                format!("m{at}"),
                since,
                now + Duration::from_secs(120),
                BTreeMap::new(),
            );
            machine.runs.push(Run {
                id: id.clone(),
                bound,
                cost,
                local: Local::Asked,
                is_delivered: false,
                hold: hold.clone(),
            });
            let wish = Wish::Reserve {
                run: id,
                hold,
                budgets: self.budgets.clone(),
            };
            let run = self.machines[at].runs.len() - 1;
            self.engage(at, run, wish, now);
        }
    }

    fn engage(&mut self, at: usize, run: usize, wish: Wish, now: SystemTime) {
        let mut exchange = Exchange::new(wish, now);
        let known = self.machines[at].known.take();
        let step = exchange.start(known);
        self.machines[at].at_work = Some((run, exchange, step));
    }

    fn advance(&mut self, at: usize, run: usize, mut exchange: Exchange, step: Step) {
        // Patience ends at any time.
        if !self.calm && self.chance.one_in(30) && !matches!(step, Step::Done(_)) {
            let cost = self.machines[at].runs[run].cost;
            let local = &mut self.machines[at].runs[run].local;
            if *local == Local::Asked {
                *local = match self.sends_offline {
                    true => Local::Cost(cost),
                    false => Local::Void,
                };
            }
            return;
        }
        let reply = match step {
            Step::Done(outcome) => return self.end(at, run, &mut exchange, outcome),
            Step::Unusable(error) => panic!("{error}"),
            Step::Pause(_) => Reply::Rested,
            Step::Get => self.ask(at, |shared| Reply::Got(shared.current.clone())),
            Step::Find { run, .. } => {
                self.ask(at, |shared| Reply::Found(shared.records.contains(&run)))
            }
            Step::Put {
                bytes,
                expected,
                entry,
            } => self.write(
                at,
                Write {
                    bytes,
                    expected,
                    entry,
                },
            ),
        };
        let step = exchange.reply(reply);
        self.machines[at].at_work = Some((run, exchange, step));
    }

    fn ask(&mut self, at: usize, read: impl FnOnce(&Shared) -> Reply) -> Reply {
        if self.machines[at].is_cut_off || (!self.calm && self.chance.one_in(8)) {
            return Reply::Lost;
        }
        read(&self.shared)
    }

    fn write(&mut self, at: usize, write: Write) -> Reply {
        let fate = match self.calm {
            true => 9,
            false => self.chance.below(10),
        };
        if self.machines[at].is_cut_off || fate == 0 {
            return Reply::Lost;
        }
        if fate == 1 {
            self.delayed.push(write);
            return Reply::Lost;
        }
        if fate == 2 {
            // It arrives twice.
            self.delayed.push(write.clone());
        }
        if fate == 3 && !self.shared.is_atomic {
            // It stops between its two halves.
            let entry = write.entry.iter();
            self.shared
                .records
                .extend(entry.map(|entry| entry.run.clone()));
            return Reply::Lost;
        }
        let put = self.shared.apply(&write);
        self.check();
        match fate {
            4 => Reply::Lost,
            _ => Reply::Put(put),
        }
    }

    fn end(&mut self, at: usize, run: usize, exchange: &mut Exchange, outcome: Outcome) {
        self.machines[at].known = exchange.known();
        let run = &mut self.machines[at].runs[run];
        match (run.local, outcome) {
            (Local::Asked, Outcome::Done) => {
                self.granted += 1;
                // It is sent now, and may stop before its cost is written down.
                self.sent_cents += run.cost;
                run.local = match self.chance.one_in(6) {
                    true => Local::Granted,
                    false => Local::Cost(run.cost),
                };
                if !self.sends_offline {
                    assert!(self.sent_cents <= self.cap, "sent more than the cap");
                }
            }
            (Local::Asked, Outcome::Refused(_)) => {
                run.local = Local::Void;
                run.is_delivered = true;
            }
            // The owner did not come back to write down what it cost.
            (Local::Granted, _) => run.local = Local::Unknown,
            _ => run.is_delivered = true,
        }
    }

    fn fleet_cents(&self) -> (u64, u64) {
        let document = self.shared.document();
        let standing = document.standing(&self.budgets[0], DAY, None);
        assert_eq!(standing.unknown, 0);
        let cents = |usd: Usd| {
            let text = usd.exact_decimal();
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            let part = format!("{part:0<12}");
            (whole.parse::<u64>().unwrap() * 1_000_000_000_000 + part.parse::<u64>().unwrap())
                / CENTS
        };
        (cents(standing.spent), cents(standing.reserved))
    }

    fn check(&self) {
        let (spent, reserved) = self.fleet_cents();
        if !self.sends_offline {
            assert!(spent + reserved <= self.cap, "the cap is exceeded");
        }
    }

    /// The network heals and every machine delivers what waits.
    fn heal(&mut self) {
        self.calm = true;
        for at in 0..self.machines.len() {
            self.crash(at);
            self.machines[at].is_cut_off = false;
            self.machines[at].left = 0;
        }
        let mut turns = 0;
        while self
            .machines
            .iter()
            .any(|machine| machine.runs.iter().any(|run| !run.is_delivered))
        {
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "it does not come to an end");
        }
        // What was still under way arrives when all is over.
        for write in std::mem::take(&mut self.delayed) {
            self.shared.apply(&write);
        }
    }
}

fn settle(run: &Run) -> Wish {
    let outcome = match run.local {
        Local::Asked | Local::Void => document::Outcome::Withdrawn,
        Local::Granted | Local::Unknown => document::Outcome::Unknown(Some(usd(run.bound))),
        Local::Cost(cents) => document::Outcome::Cost(usd(cents)),
    };
    let entry = (outcome != document::Outcome::Withdrawn).then(|| Entry {
        day: DAY.to_string(),
        run: run.id.clone(),
        bytes: Vec::new(),
    });
    Wish::Settle {
        run: run.id.clone(),
        hold: run.hold.clone(),
        outcome,
        entry,
    }
}

/// Lives through a world. Returns how many runs were granted.
fn live(seed: u64, sends_offline: bool) -> u64 {
    let mut world = World::new(seed, sends_offline);
    for _ in 0..60 + world.chance.below(200) {
        world.turn();
    }
    world.heal();
    let ledgers = world.machines.iter().flat_map(|machine| &machine.runs);
    let sum: u64 = ledgers
        .map(|run| match run.local {
            Local::Void => 0,
            Local::Unknown => run.bound,
            Local::Cost(cents) => cents,
            other => panic!("{other:?} at the end"),
        })
        .sum();
    let (spent, reserved) = world.fleet_cents();
    assert_eq!(spent + reserved, sum, "the fleet and the ledgers differ");
    let document = world.shared.document();
    assert_eq!(document.open().len(), 0, "a reservation leaks");
    world.granted
}

fn live_many(seeds: std::ops::Range<u64>, sends_offline: bool) {
    let mut granted = 0;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| live(seed, sends_offline));
        match result {
            Ok(runs) => granted += runs,
            Err(_) => panic!("the world of seed {seed} (offline: {sends_offline})"),
        }
    }
    assert!(granted > 1000, "only {granted} runs were granted");
}

#[test]
fn no_world_exceeds_the_cap_or_loses_a_run() {
    live_many(1..4000, false);
}

#[test]
fn runs_sent_while_the_store_is_away_are_counted_once() {
    live_many(4000..7000, true);
}
