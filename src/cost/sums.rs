//! Runs added up, and what runs have in common that are added up together.
//!
//! Kept apart, because adding them would say something untrue: money that is billed per token; what a subscription's tokens
//! would cost at list price; runs of which an amount is only bounded; and runs of which nothing is known, which are counted
//! and never taken for nothing. A store may keep such sums beside its records: [`Grouped`] is what it keeps.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::money::Currency;
use crate::catalog::money::Usd;
use crate::catalog::money::exact;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::Transport;
use crate::cost::view::RecordView;

/// A label with more values than this tells runs apart and is no group: the number of a CI job, say.
const MAX_VALUES: usize = 32;
/// With more groups than this, labels are left out: their combinations are too many.
const MAX_GROUPS: usize = 1024;

/// Money of one kind, with how sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Runs of this kind.
    pub runs: u64,
    /// What those came to that are over and whose amount is known.
    #[serde(with = "exact")]
    pub usd: Usd,
    /// Runs whose amount is bounded and not known: open, killed, or over without anyone telling.
    pub in_doubt: u64,
    /// What the runs without a final amount are known to have cost so far.
    #[serde(with = "exact")]
    pub at_least: Usd,
    /// What the bounded ones can cost at most.
    #[serde(with = "exact")]
    pub at_most: Usd,
    /// Runs that may have cost something, with neither amount nor bound.
    pub unpriced: u64,
}

impl Money {
    fn is_empty(&self) -> bool {
        self.runs == 0
    }

    fn add(&mut self, run: &RecordView<'_>) {
        self.runs += 1;
        let is_final = !matches!(run.status, SessionStatus::Open | SessionStatus::Unknown);
        let so_far = run.actual_usd.unwrap_or(Usd::ZERO);
        let most = run.at_most_usd();
        // A run that is over may have cost more than was reported of it.
        let is_known = run.actual_usd.is_some() && most == run.actual_usd;
        if is_final && (is_known || run.charged == Charge::No) {
            self.usd = self.usd + so_far;
            return;
        }
        self.at_least = self.at_least + so_far;
        match most {
            Some(bound) => {
                self.in_doubt += 1;
                self.at_most = self.at_most + bound;
            }
            None => self.unpriced += 1,
        }
    }

    fn plus(&mut self, other: &Money) {
        self.runs += other.runs;
        self.usd = self.usd + other.usd;
        self.in_doubt += other.in_doubt;
        self.at_least = self.at_least + other.at_least;
        self.at_most = self.at_most + other.at_most;
        self.unpriced += other.unpriced;
    }
}

/// Some runs added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Runs billed per token, and those whose billing is unknown.
    pub metered: Money,
    /// Runs paid for by a subscription, at list price.
    pub plan: Money,
    /// Runs billed in CNY: these amounts are in CNY, and in no other sum.
    #[serde(default, skip_serializing_if = "Money::is_empty")]
    pub cny: Money,
    /// Runs that are open.
    pub open: u64,
    /// Runs whose usage is unknown.
    pub unknown: u64,
    /// Prompt tokens read afresh, as far as reported.
    pub input: u64,
    /// Prompt tokens out of the cache.
    pub cache_read: u64,
    /// Prompt tokens written to the cache.
    pub cache_write: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Runs that did not tell both prompt and answer, though they may have used something.
    pub untold: u64,
}

impl Sums {
    /// All runs.
    pub fn runs(&self) -> u64 {
        self.metered.runs + self.plan.runs + self.cny.runs
    }

    /// Adds one run.
    pub fn add(&mut self, run: &RecordView<'_>) {
        match (run.kind, run.currency) {
            (_, Currency::Cny) => self.cny.add(run),
            (CostKind::ListPriceEquivalent, _) => self.plan.add(run),
            (CostKind::Metered | CostKind::Unknown | CostKind::Assumed, _) => {
                self.metered.add(run);
            }
        }
        self.open += u64::from(run.status == SessionStatus::Open);
        self.unknown += u64::from(run.status == SessionStatus::Unknown);
        let told = |figure: Option<u64>| figure.unwrap_or(0);
        if let Some(usage) = run.usage {
            self.input = self.input.saturating_add(told(usage.input));
            self.cache_read = self.cache_read.saturating_add(told(usage.cache_read));
            self.cache_write = self.cache_write.saturating_add(told(usage.cache_write));
            self.output = self.output.saturating_add(told(usage.output));
        }
        let is_told = run.usage.is_some_and(|usage| usage.counts().is_some());
        self.untold += u64::from(!is_told && run.charged != Charge::No);
    }

    /// Adds other runs.
    pub(crate) fn plus(&mut self, other: &Sums) {
        self.metered.plus(&other.metered);
        self.plan.plus(&other.plan);
        self.cny.plus(&other.cny);
        self.open += other.open;
        self.unknown += other.unknown;
        self.input = self.input.saturating_add(other.input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.untold += other.untold;
    }
}

impl Sums {
    /// What budgets must hold for these runs; `None` when some may have cost something that nothing bounds.
    pub fn bound(&self) -> Option<Usd> {
        (self.metered.unpriced == 0).then(|| self.metered.usd + self.metered.at_most)
    }
}

/// What the runs of one sum have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// The day on which they began, counted from 1970-01-01 in UTC.
    pub day: i64,
    /// The model that answered, else the one asked for.
    pub model: Option<String>,
    /// What kind of runs they were.
    pub session_type: SessionType,
    /// How the peer was reached.
    pub transport: Option<Transport>,
    /// The agent or the service.
    pub peer: String,
    /// Their labels, but for those that are left out.
    pub tags: BTreeMap<String, String>,
}

impl Group {
    fn of(run: &RecordView<'_>) -> Group {
        let tags = run.tags.iter();
        Group {
            day: run.day(),
            model: run.model.map(str::to_string),
            session_type: run.session_type,
            transport: run.transport,
            peer: run.peer.to_string(),
            tags: tags
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        }
    }
}

/// The labels that a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Those of these keys; none if there are none.
    Some(Vec<String>),
    /// All there are.
    All,
}

/// Runs added up by everything that a report may be asked by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// Labels that no group has, since they have too many values. A question about one of them needs the records.
    pub left_out: BTreeSet<String>,
    /// The groups.
    pub groups: Vec<(Group, Sums)>,
}

impl Grouped {
    /// Whether a question about these labels can be answered from it.
    pub fn answers(&self, labels: &Labels) -> bool {
        match labels {
            Labels::Some(keys) => keys.iter().all(|key| !self.left_out.contains(key)),
            Labels::All => self.left_out.is_empty(),
        }
    }

    /// All of them together.
    pub fn total(&self) -> Sums {
        let mut total = Sums::default();
        for (_, sums) in &self.groups {
            total.plus(sums);
        }
        total
    }
}

/// Adds runs up into groups.
#[derive(Debug, Default)]
pub struct Grouping(BTreeMap<Group, Sums>);

impl Grouping {
    /// Adds one run.
    pub fn add(&mut self, run: &RecordView<'_>) {
        self.0.entry(Group::of(run)).or_default().add(run);
    }

    /// The groups.
    pub fn finish(self) -> Grouped {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in self.0.keys().flat_map(|group| &group.tags) {
            values.entry(key).or_default().insert(value);
        }
        let without = |left_out: BTreeSet<String>| {
            let mut groups: BTreeMap<Group, Sums> = BTreeMap::new();
            for (group, sums) in &self.0 {
                let mut group = group.clone();
                group.tags.retain(|key, _| !left_out.contains(key));
                groups.entry(group).or_default().plus(sums);
            }
            let groups = groups.into_iter().collect();
            Grouped { left_out, groups }
        };
        let many = values
            .iter()
            .filter(|(_, values)| values.len() > MAX_VALUES);
        let grouped = without(many.map(|(key, _)| key.to_string()).collect());
        match grouped.groups.len() {
            0..=MAX_GROUPS => grouped,
            _ => without(values.keys().map(ToString::to_string).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionCost;
    use crate::cost::view::with_view;

    #[test]
    fn groups_add_up_to_what_the_runs_do_and_leave_out_what_tells_them_apart() {
        let mut grouping = Grouping::default();
        let mut total = Sums::default();
        for number in 0..100_u32 {
            let started = format!("2026-11-{:02}T00:00:00Z", 1 + number % 3);
            let mut run = SessionCost::open(number.to_string(), SessionType::Prompt, started);
            run.status = SessionStatus::Settled;
            run.kind = CostKind::ALL[(number % 3) as usize];
            run.charged = Charge::Yes;
            run.actual_usd = (number % 7 > 0).then(|| Usd::parse("0.000000000001").unwrap());
            run.tags.insert("run".to_string(), number.to_string());
            run.tags
                .insert("team".to_string(), (number % 2).to_string());
            with_view(&run, |view| {
                grouping.add(view);
                total.add(view);
            });
        }
        let grouped = grouping.finish();
        assert_eq!(grouped.groups.len(), 6);
        assert_eq!(grouped.total(), total);
        let labels = |keys: &[&str]| Labels::Some(keys.iter().map(ToString::to_string).collect());
        for (labels, answers) in [
            (labels(&[]), true),
            (labels(&["team", "other"]), true),
            (labels(&["team", "run"]), false),
            (Labels::All, false),
        ] {
            assert_eq!(grouped.answers(&labels), answers, "{labels:?}");
        }
        let json = serde_json::to_string(&grouped).unwrap();
        assert_eq!(serde_json::from_str::<Grouped>(&json).unwrap(), grouped);
    }
}
