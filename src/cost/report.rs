//! Sums over the ledger: by day, by model, by label and the like.
//!
//! Kept apart, because adding them would say something untrue: money that is billed per token; what a subscription's
//! tokens would cost at list price; runs of which an amount is only bounded; and runs of which nothing is known, which are
//! counted and never taken for nothing. Takes one row at a time and keeps one sum for each group, so memory depends on the
//! number of groups alone, which is bounded too. Refuses to read a store and to lay out a table.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;
use std::time::SystemTime;

use crate::cost::budget::TagFilter;
use crate::cost::record::Transport;
use crate::cost::sink::Runs;
use crate::cost::sums::Labels;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::runtime::clock;
use crate::runtime::words::words;

pub use crate::cost::sums::Money;
pub use crate::cost::sums::Sums;

/// So many groups are kept apart, and what comes later is one more: a label may have another value in every run.
pub const MAX_GROUPS: usize = 100_000;

words! {
    /// What runs are put together by.
    By, "group" {
        /// The day in UTC on which they began.
        Day = "day",
        /// The month in UTC.
        Month = "month",
        /// The model that answered, else the one asked for.
        Model = "model",
        /// A label's value; a run without the label is in a group of its own.
        Tag = "tag",
        /// What was run: prompt, plan, import.
        Command = "command",
        /// How the peer was reached.
        Transport = "transport",
        /// The agent or the service.
        Peer = "peer",
    }
}

/// Which runs are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// When they began.
    pub period: Period,
    /// Labels that they all have.
    pub tags: Vec<TagFilter>,
}

impl Filter {
    /// Whether a run has the labels. The period is the store's part.
    pub fn matches(&self, run: &RecordView<'_>) -> bool {
        self.tags.iter().all(|tag| tag.matches(run.tag(&tag.key)))
    }

    /// The same for runs that may be added up already, as far as their labels were asked for.
    pub fn matches_runs(&self, runs: &Runs<'_>) -> bool {
        self.tags.iter().all(|tag| tag.matches(runs.tag(&tag.key)))
    }
}

/// A group and its sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What its runs have in common; `None` for runs that do not say.
    pub key: Option<String>,
    /// Their sums.
    pub sums: Sums,
}

/// The sums of every group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Days and months ascending; everything else by what it cost, most first.
    pub rows: Vec<Row>,
    /// Groups beyond [`MAX_GROUPS`], together.
    pub rest: Option<Sums>,
    /// Every run once, also where it stands in several groups.
    pub total: Sums,
}

/// Adds up.
#[derive(Debug)]
pub struct Report {
    by: By,
    /// The label to group by; `None` for every label there is.
    tag: Option<String>,
    days: BTreeMap<i64, Sums>,
    named: HashMap<String, Sums>,
    unnamed: Option<Sums>,
    rest: Option<Sums>,
    total: Sums,
    /// A key under construction, so that a group that is known costs no memory.
    buffer: String,
}

impl Report {
    /// A report without runs. `tag` is the label to group by with [`By::Tag`]; without one each `key=value` is a group,
    /// and a run stands in as many as it has labels.
    pub fn new(by: By, tag: Option<String>) -> Report {
        Report {
            by,
            tag,
            days: BTreeMap::new(),
            named: HashMap::new(),
            unnamed: None,
            rest: None,
            total: Sums::default(),
            buffer: String::new(),
        }
    }

    /// The labels that it must know of each run, beside those of the filter.
    pub fn labels(&self, filter: &Filter) -> Labels {
        match (self.by, &self.tag) {
            (By::Tag, None) => Labels::All,
            (By::Tag, Some(key)) => {
                let keys = filter.tags.iter().map(|tag| tag.key.clone());
                Labels::Some(keys.chain([key.clone()]).collect())
            }
            _ => Labels::Some(filter.tags.iter().map(|tag| tag.key.clone()).collect()),
        }
    }

    /// Adds one run.
    pub fn add(&mut self, run: &RecordView<'_>) {
        self.add_runs(&Runs::One(run));
    }

    /// Adds one run, or several that are added up already.
    pub fn add_runs(&mut self, runs: &Runs<'_>) {
        runs.add_to(&mut self.total);
        let key = match self.by {
            By::Day | By::Month => {
                runs.add_to(self.days.entry(runs.day()).or_default());
                return;
            }
            By::Model => runs.model(),
            By::Command => Some(runs.session_type().name()),
            By::Transport => runs.transport().map(Transport::name),
            By::Peer => Some(runs.peer()),
            By::Tag => match &self.tag {
                Some(key) => runs.tag(key),
                None => {
                    self.add_each_tag(runs);
                    return;
                }
            },
        };
        match key.filter(|key| !key.is_empty()) {
            Some(key) => runs.add_to(self.named(key)),
            None => runs.add_to(self.unnamed.get_or_insert_default()),
        }
    }

    fn add_each_tag(&mut self, runs: &Runs<'_>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut is_labelled = false;
        runs.each_tag(&mut |key, value| {
            is_labelled = true;
            buffer.clear();
            buffer.push_str(key);
            buffer.push('=');
            buffer.push_str(value);
            runs.add_to(self.named(&buffer));
        });
        if !is_labelled {
            runs.add_to(self.unnamed.get_or_insert_default());
        }
        self.buffer = buffer;
    }

    fn named(&mut self, key: &str) -> &mut Sums {
        let is_known = self.named.contains_key(key);
        if !is_known && self.named.len() >= MAX_GROUPS {
            return self.rest.get_or_insert_default();
        }
        if !is_known {
            self.named.insert(key.to_string(), Sums::default());
        }
        // It is there by now; the fallback keeps the function total.
        match self.named.get_mut(key) {
            Some(sums) => sums,
            None => self.rest.get_or_insert_default(),
        }
    }

    /// The sums.
    pub fn finish(self) -> Summary {
        let mut rows: Vec<Row> = match self.by {
            By::Day => self.days.into_iter().map(day_row).collect(),
            By::Month => months(self.days),
            _ => {
                let named = self.named.into_iter();
                let mut rows: Vec<Row> = named
                    .map(|(key, sums)| Row {
                        key: Some(key),
                        sums,
                    })
                    .collect();
                rows.sort_unstable_by(|a, b| {
                    let size = |row: &Row| {
                        let Sums { metered, plan, .. } = row.sums;
                        (metered.usd, metered.at_most, plan.usd, row.sums.runs())
                    };
                    size(b).cmp(&size(a)).then_with(|| a.key.cmp(&b.key))
                });
                rows
            }
        };
        rows.extend(self.unnamed.map(|sums| Row { key: None, sums }));
        Summary {
            rows,
            rest: self.rest,
            total: self.total,
        }
    }
}

/// A day, counted from 1970-01-01, as `2026-11-20`.
pub fn day_name(day: i64) -> String {
    let since = Duration::from_secs(day.unsigned_abs().saturating_mul(86_400));
    let moment = match day < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(since),
        false => SystemTime::UNIX_EPOCH.checked_add(since),
    };
    clock::format_date(moment.unwrap_or(SystemTime::UNIX_EPOCH))
}

fn day_row((day, sums): (i64, Sums)) -> Row {
    Row {
        key: Some(day_name(day)),
        sums,
    }
}

fn months(days: BTreeMap<i64, Sums>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (day, sums) in days {
        let day = day_name(day);
        let month = day
            .rsplit_once('-')
            .map_or(day.as_str(), |(month, _)| month);
        match rows.last_mut() {
            Some(row) if row.key.as_deref() == Some(month) => row.sums.plus(&sums),
            _ => rows.push(Row {
                key: Some(month.to_string()),
                sums,
            }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::money::Usd;
    use crate::cost::record::Charge;
    use crate::cost::record::CostKind;
    use crate::cost::record::SessionCost;
    use crate::cost::record::SessionStatus;
    use crate::cost::record::SessionType;
    use crate::cost::record::Usage;
    use crate::cost::record::UsageSource;
    use crate::cost::view::with_view;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn run(started: &str, status: SessionStatus, actual: Option<&str>) -> SessionCost {
        let mut run = SessionCost::open("1", SessionType::Prompt, started);
        run.status = status;
        run.kind = CostKind::Metered;
        run.charged = Charge::Yes;
        run.actual_usd = actual.map(usd);
        run.model.requested = Some("kimi-k3".to_string());
        run
    }

    fn add(report: &mut Report, run: &SessionCost) {
        with_view(run, |view| report.add(view)).unwrap();
    }

    fn keys(summary: &Summary) -> Vec<&str> {
        let rows = summary.rows.iter();
        rows.map(|row| row.key.as_deref().unwrap_or("-")).collect()
    }

    const DAY: &str = "2026-11-20T10:00:00Z";

    #[test]
    fn what_is_not_known_is_never_nothing() {
        let mut report = Report::new(By::Model, None);
        add(&mut report, &run(DAY, SessionStatus::Settled, Some("0.5")));
        // Over, and nobody told: bounded by its worst case, or by nothing.
        let mut silent = run(DAY, SessionStatus::Failed, None);
        silent.charged = Charge::Unknown;
        add(&mut report, &silent);
        silent.worst_case_usd = Some(usd("2"));
        add(&mut report, &silent);
        // Open: what it cost so far is not what it will have cost.
        let mut open = run(DAY, SessionStatus::Open, Some("0.1"));
        open.worst_case_usd = Some(usd("1"));
        add(&mut report, &open);
        // Nothing was sent.
        let mut refused = run(DAY, SessionStatus::Failed, None);
        refused.charged = Charge::No;
        add(&mut report, &refused);
        let total = report.finish().total;
        assert_eq!(
            total.metered,
            Money {
                runs: 5,
                usd: usd("0.5"),
                in_doubt: 2,
                at_least: usd("0.1"),
                at_most: usd("3"),
                unpriced: 1,
            }
        );
        assert_eq!((total.open, total.unknown, total.untold), (1, 0, 4));
    }

    #[test]
    fn a_plan_is_never_added_to_money() {
        let mut report = Report::new(By::Model, None);
        add(&mut report, &run(DAY, SessionStatus::Settled, Some("1")));
        let mut plan = run(DAY, SessionStatus::Settled, Some("9"));
        plan.kind = CostKind::ListPriceEquivalent;
        add(&mut report, &plan);
        plan.actual_usd = None;
        add(&mut report, &plan);
        let total = report.finish().total;
        assert_eq!((total.metered.usd, total.metered.runs), (usd("1"), 1));
        assert_eq!((total.plan.usd, total.plan.unpriced), (usd("9"), 1));
    }

    #[test]
    fn days_ascend_and_months_gather_them() {
        let moments = [
            "2026-12-01T00:00:00Z",
            "2026-11-30T23:59:59Z",
            "2026-11-02T00:00:00Z",
            "1969-12-31T23:59:59Z",
        ];
        for (by, expected) in [
            (
                By::Day,
                vec!["1969-12-31", "2026-11-02", "2026-11-30", "2026-12-01"],
            ),
            (By::Month, vec!["1969-12", "2026-11", "2026-12"]),
        ] {
            let mut report = Report::new(by, None);
            for moment in moments {
                add(&mut report, &run(moment, SessionStatus::Settled, Some("1")));
            }
            let summary = report.finish();
            assert_eq!(keys(&summary), expected);
            let sum = summary
                .rows
                .iter()
                .fold(Usd::ZERO, |sum, row| sum + row.sums.metered.usd);
            assert_eq!((sum, summary.total.metered.usd), (usd("4"), usd("4")));
        }
    }

    #[test]
    fn the_dearest_group_comes_first_and_the_nameless_last() {
        let mut report = Report::new(By::Tag, Some("team".to_string()));
        for (team, usd) in [
            (None, "9"),
            (Some("a"), "1"),
            (Some("b"), "3"),
            (Some("a"), "1"),
        ] {
            let mut run = run(DAY, SessionStatus::Settled, Some(usd));
            run.tags.insert("ci".to_string(), "1".to_string());
            run.tags
                .extend(team.map(|team| ("team".to_string(), team.to_string())));
            add(&mut report, &run);
        }
        assert_eq!(keys(&report.finish()), ["b", "a", "-"]);
    }

    #[test]
    fn without_a_key_a_run_stands_in_each_of_its_labels_and_once_in_the_total() {
        let mut report = Report::new(By::Tag, None);
        let mut tagged = run(DAY, SessionStatus::Settled, Some("1"));
        tagged.tags.insert("ci".to_string(), "1".to_string());
        tagged.tags.insert("team".to_string(), "a".to_string());
        add(&mut report, &tagged);
        add(&mut report, &run(DAY, SessionStatus::Settled, Some("1")));
        let summary = report.finish();
        assert_eq!(keys(&summary), ["ci=1", "team=a", "-"]);
        assert_eq!(summary.total.metered.usd, usd("2"));
    }

    #[test]
    fn groups_beyond_the_bound_are_kept_together() {
        let mut report = Report::new(By::Tag, Some("run".to_string()));
        let mut run = run(DAY, SessionStatus::Settled, Some("1"));
        for number in 0..MAX_GROUPS + 2 {
            run.tags.insert("run".to_string(), number.to_string());
            add(&mut report, &run);
        }
        let summary = report.finish();
        assert_eq!(summary.rows.len(), MAX_GROUPS);
        assert_eq!(summary.rest.map(|rest| rest.runs()), Some(2));
        assert_eq!(summary.total.runs() as usize, MAX_GROUPS + 2);
    }

    #[test]
    fn tokens_are_added_as_far_as_they_are_told() {
        let mut report = Report::new(By::Peer, None);
        let mut told = run(DAY, SessionStatus::Settled, Some("1"));
        told.usage = Some(Usage {
            input: Some(u64::MAX),
            cache_read: Some(2),
            cache_write: None,
            output: Some(3),
            reasoning: None,
            source: UsageSource::Provider,
            unreported: 0,
        });
        add(&mut report, &told);
        told.usage = told.usage.map(|usage| Usage {
            output: None,
            ..usage
        });
        add(&mut report, &told);
        let total = report.finish().total;
        assert_eq!(
            (
                total.input,
                total.cache_read,
                total.cache_write,
                total.output,
                total.untold
            ),
            (u64::MAX, 4, 0, 3, 1)
        );
    }

    #[test]
    fn a_filter_wants_every_label() {
        let mut tagged = run(DAY, SessionStatus::Settled, None);
        tagged.tags.insert("ci".to_string(), "1".to_string());
        let filter = |tags: &[(&str, Option<&str>)]| Filter {
            tags: tags
                .iter()
                .map(|(key, value)| TagFilter {
                    key: key.to_string(),
                    value: value.map(str::to_string),
                })
                .collect(),
            ..Filter::default()
        };
        for (tags, matches) in [
            (&[][..], true),
            (&[("ci", None)], true),
            (&[("ci", Some("1"))], true),
            (&[("ci", Some("2"))], false),
            (&[("ci", None), ("team", None)], false),
        ] {
            let seen = with_view(&tagged, |view| filter(tags).matches(view));
            assert_eq!(seen, Some(matches), "{tags:?}");
        }
    }
}
