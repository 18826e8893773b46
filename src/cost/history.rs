//! What answers were like so far, for estimates that learn from the ledger.
//!
//! How long an answer will be is the one figure that no tokenizer tells; the answers of the same model to the same kind of
//! question do. The middle and the ninetieth of a hundred are given, with the number of runs they rest on, since a forecast
//! from five runs is not one from two hundred. Refuses to forecast from fewer than [`MIN_RUNS`], and to mix what does not
//! belong together: other models, agents' whole working sessions, runs that failed, and counts that omk itself guessed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cost::budget::TagFilter;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::UsageSource;
use crate::cost::view::RecordView;

/// So many of the newest runs are looked at.
pub const NEWEST: usize = 200;
/// With fewer runs nothing is said.
pub const MIN_RUNS: usize = 5;

/// Tokens that answers had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The runs it rests on.
    pub runs: usize,
    /// Half of the answers had at most so many tokens.
    pub p50: u64,
    /// Nine of ten answers had.
    pub p90: u64,
}

/// The newest answers of one model.
#[derive(Debug)]
pub struct History {
    model: String,
    tags: Vec<TagFilter>,
    newest: BinaryHeap<Reverse<(i64, u64)>>,
}

impl History {
    /// Nothing yet, of this model and of runs with these labels.
    pub fn new(model: impl Into<String>, tags: Vec<TagFilter>) -> History {
        History {
            model: model.into(),
            tags,
            newest: BinaryHeap::new(),
        }
    }

    /// Looks at one run, and takes it if it is of use.
    pub fn add(&mut self, run: &RecordView<'_>) {
        let is_like = run.session_type == SessionType::Prompt
            && run.status == SessionStatus::Settled
            && run.model == Some(self.model.as_str())
            && self.tags.iter().all(|tag| tag.matches(run.tag(&tag.key)));
        let told = run
            .usage
            .filter(|usage| usage.source != UsageSource::Estimate);
        let Some(output) = told.and_then(|usage| usage.output).filter(|_| is_like) else {
            return;
        };
        self.newest.push(Reverse((run.started_micros, output)));
        if self.newest.len() > NEWEST {
            self.newest.pop();
        }
    }

    /// What to expect; `None` from too few runs.
    pub fn expected(&self) -> Option<Expected> {
        let mut outputs: Vec<u64> = self
            .newest
            .iter()
            .map(|Reverse((_, output))| *output)
            .collect();
        outputs.sort_unstable();
        if outputs.len() < MIN_RUNS {
            return None;
        }
        // The nearest rank: a figure that some answer did have.
        let percentile = |per_cent: usize| {
            let rank = (outputs.len() * per_cent).div_ceil(100).max(1);
            outputs.get(rank - 1).copied()
        };
        Some(Expected {
            runs: outputs.len(),
            p50: percentile(50)?,
            p90: percentile(90)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionCost;
    use crate::cost::record::Usage;
    use crate::cost::view::with_view;
    use crate::runtime::clock;
    use std::time::Duration;
    use std::time::SystemTime;

    fn run(number: u64, output: u64) -> SessionCost {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        let mut run = SessionCost::open("1", SessionType::Prompt, clock::format_rfc3339(started));
        run.status = SessionStatus::Settled;
        run.model.reported = Some("kimi-k3".to_string());
        run.usage = Some(Usage {
            input: Some(1),
            cache_read: None,
            cache_write: None,
            output: Some(output),
            reasoning: None,
            source: UsageSource::Provider,
            unreported: 0,
        });
        run
    }

    fn add(history: &mut History, run: &SessionCost) {
        with_view(run, |view| history.add(view)).unwrap();
    }

    #[test]
    fn percentiles_are_answers_that_were_given() {
        let mut history = History::new("kimi-k3", Vec::new());
        for (number, output) in [30, 10, 50, 20].into_iter().enumerate() {
            add(&mut history, &run(number as u64, output));
        }
        assert_eq!(history.expected(), None);
        add(&mut history, &run(9, 40));
        let expected = Expected {
            runs: 5,
            p50: 30,
            p90: 50,
        };
        assert_eq!(history.expected(), Some(expected));
    }

    #[test]
    fn only_the_newest_count() {
        let mut history = History::new("kimi-k3", Vec::new());
        // The oldest come last, as a pack after the loose files.
        for number in (0..2 * NEWEST as u64).rev() {
            add(&mut history, &run(number, number));
        }
        let expected = history.expected().unwrap();
        assert_eq!((expected.runs, expected.p50, expected.p90), (200, 299, 379));
    }

    #[test]
    fn what_is_unlike_is_left_out() {
        let mut history = History::new("kimi-k3", Vec::new());
        let alter: [fn(&mut SessionCost); 6] = [
            |run| run.model.reported = Some("kimi-k3.1-pro".to_string()),
            |run| run.session_type = SessionType::Import,
            |run| run.status = SessionStatus::Interrupted,
            |run| run.usage = None,
            |run| {
                if let Some(usage) = &mut run.usage {
                    usage.source = UsageSource::Estimate;
                }
            },
            |run| {
                if let Some(usage) = &mut run.usage {
                    usage.output = None;
                }
            },
        ];
        for alter in alter {
            let mut run = run(1, 1);
            alter(&mut run);
            add(&mut history, &run);
        }
        assert!(history.newest.is_empty());
        let ci = TagFilter {
            key: "ci".to_string(),
            value: None,
        };
        let mut tagged = History::new("kimi-k3", vec![ci]);
        add(&mut tagged, &run(1, 1));
        assert!(tagged.newest.is_empty());
    }
}
