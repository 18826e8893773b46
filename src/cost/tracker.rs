//! What runs cost, as something that is recorded and asked about.
//!
//! A thin layer with one promise for each side: recording touches the one record it is given, and reporting writes nothing.
//! Refuses to know where records are kept; that is the [`CostSink`]'s part.

use std::ops::ControlFlow;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::Notes;
use crate::cost::sink::Removed;
use crate::cost::sink::Runs;
use crate::cost::sink::SinkError;
use crate::cost::sink::Whole;
use crate::cost::sums::Labels;
use crate::cost::view::Period;
use crate::cost::view::RecordView;

pub use crate::cost::record::SessionCost;

/// Records what runs cost, and tells.
#[derive(Clone, Debug, Default)]
pub struct CostTracker<S: CostSink> {
    sink: S,
}

impl<S: CostSink> CostTracker<S> {
    /// Records into this sink.
    pub fn new(sink: S) -> CostTracker<S> {
        CostTracker { sink }
    }

    /// The sink, to keep records in another way.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// The sink, for what only that kind of sink can do.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Adds a run, as a rule an open one, before the first byte of it is sent.
    ///
    /// # Errors
    ///
    /// It is not kept, or nobody can be sure that it is: whoever must not spend unseen money must not send.
    pub fn record(&mut self, run: &SessionCost) -> Result<(), SinkError> {
        self.sink.append(run)
    }

    /// Replaces what is known of a run that was recorded: what it used so far, or how it ended.
    ///
    /// # Errors
    ///
    /// It is kept as it was before, or nobody can be sure that it is as given.
    pub fn update(&mut self, run: &SessionCost) -> Result<(), SinkError> {
        self.sink.save(run)
    }

    /// The same for the last time: the run is over.
    ///
    /// # Errors
    ///
    /// As for [`CostTracker::update`]; a run that is still open is not settled.
    pub fn settle(&mut self, run: &SessionCost) -> Result<(), SinkError> {
        if run.status == SessionStatus::Open {
            return Err(SinkError::new(format!("the run {} is still open", run.id)));
        }
        self.sink.save(run)
    }

    /// Removes every run that is over. Open runs stay: their money may still be in flight.
    ///
    /// # Errors
    ///
    /// Some of them may still be there.
    pub fn clear(&mut self) -> Result<Removed, SinkError> {
        // Later than any record can say that it began.
        self.clear_before(UNIX_EPOCH + Duration::from_secs(253_402_300_800))
    }

    /// Removes the runs that are over and began before this moment.
    ///
    /// # Errors
    ///
    /// Some of them may still be there.
    pub fn clear_before(&mut self, before: SystemTime) -> Result<Removed, SinkError> {
        self.sink.remove(before)
    }

    /// Shows the columns of every run that began in the period, in no order, until the visitor has enough. Returns
    /// what was left aside and why, and what is damaged.
    ///
    /// # Errors
    ///
    /// The records cannot be read.
    pub fn report(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.sink.scan(period, visit)
    }

    /// The same for adding up: runs that are alike may come as a sum. Of labels only those that are asked for are known.
    ///
    /// # Errors
    ///
    /// The records cannot be read.
    pub fn sums(
        &self,
        period: Period,
        labels: &Labels,
        visit: &mut dyn FnMut(&Runs<'_>),
    ) -> Result<Notes, SinkError> {
        self.sink.sums(period, labels, visit)
    }

    /// The same with whole records at hand. Each that is asked for takes several times as long as its columns.
    ///
    /// # Errors
    ///
    /// The records cannot be read.
    pub fn report_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.sink.scan_records(period, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionType;
    use crate::cost::sink::InMemoryCostSink;
    use crate::runtime::clock;

    #[test]
    fn what_is_recorded_is_reported_as_it_was_last_updated() {
        let mut tracker = CostTracker::new(InMemoryCostSink::default());
        for (id, started) in [("a", "2026-11-19T23:59:59Z"), ("b", "2026-11-20T00:00:00Z")] {
            let mut run = SessionCost::open(id, SessionType::Prompt, started);
            tracker.record(&run).unwrap();
            assert!(tracker.record(&run).is_err());
            tracker.update(&run).unwrap();
            assert!(tracker.settle(&run).is_err());
            run.status = SessionStatus::Settled;
            tracker.settle(&run).unwrap();
        }
        let unknown = SessionCost::open("c", SessionType::Prompt, "2026-11-20T00:00:00Z");
        assert!(tracker.update(&unknown).is_err());
        let today = Period {
            from: clock::parse_rfc3339("2026-11-20T00:00:00Z").ok(),
            until: None,
        };
        for (period, expected) in [(Period::default(), "ab"), (today, "b")] {
            let mut seen = String::new();
            let warnings = tracker.report(period, &mut |run| {
                assert_eq!(run.status, SessionStatus::Settled);
                seen.push_str(run.id);
                ControlFlow::Continue(())
            });
            assert_eq!(warnings, Ok(Notes::default()));
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_report_stops_when_the_visitor_has_enough() {
        let mut tracker = CostTracker::new(InMemoryCostSink::default());
        for id in ["a", "b", "c"] {
            let run = SessionCost::open(id, SessionType::Plan, "2026-11-20T00:00:00Z");
            tracker.record(&run).unwrap();
        }
        let mut seen = 0;
        tracker
            .report(Period::default(), &mut |_| {
                seen += 1;
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn clear_removes_what_is_over_and_keeps_what_is_open() {
        let mut tracker = CostTracker::new(InMemoryCostSink::default());
        for (id, started, status) in [
            ("old", "2026-11-19T00:00:00Z", SessionStatus::Settled),
            ("new", "2026-11-21T00:00:00Z", SessionStatus::Failed),
            ("open", "2026-11-19T00:00:00Z", SessionStatus::Open),
        ] {
            let mut run = SessionCost::open(id, SessionType::Prompt, started);
            run.status = status;
            tracker.record(&run).unwrap();
        }
        let left = |tracker: &CostTracker<InMemoryCostSink>| {
            let mut left = Vec::new();
            let visit = &mut |run: &RecordView<'_>| {
                left.push(run.id.to_string());
                ControlFlow::Continue(())
            };
            tracker.report(Period::default(), visit).unwrap();
            left
        };
        let noon = clock::parse_rfc3339("2026-11-20T00:00:00Z").unwrap();
        assert_eq!(tracker.clear_before(noon).unwrap().records, 1);
        assert_eq!(left(&tracker), ["new", "open"]);
        assert_eq!(tracker.clear().unwrap().records, 1);
        assert_eq!(left(&tracker), ["open"]);
    }
}
