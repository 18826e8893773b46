//! Where a report's runs come from: this machine's ledger, or the store of its fleet.

use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::cli::commands::cost::trouble;
use crate::cli::env::Env;
use crate::cli::exit::Failure;
use crate::cli::flags::LowCost;
use crate::cli::{fleet, ledger};
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::record::SessionCost;
use crate::cost::sink::{CostSink, Notes, Removed, Runs, SinkError, Whole};
use crate::cost::sums::Labels;
use crate::cost::tracker::CostTracker;
use crate::cost::view::{Period, RecordView};
use crate::fleet::sink::FleetSink;

/// A ledger to read.
pub(super) enum Source {
    Machine(JsonFileCostSink),
    Fleet(FleetSink),
}

/// The ledger that the flags mean.
///
/// # Errors
///
/// There is no place for a ledger, or no fleet.
pub(super) fn open(low: &LowCost, env: &Env) -> Result<CostTracker<Source>, Failure> {
    if low.fleet {
        let member = fleet::needed(low, env)?;
        let sink = FleetSink::new(member.into_store(), fleet::timeout(low));
        return Ok(CostTracker::new(Source::Fleet(sink)));
    }
    let ledger = ledger::open(env).map_err(trouble)?;
    let sink = JsonFileCostSink::new(ledger.sink().path());
    Ok(CostTracker::new(Source::Machine(sink)))
}

impl CostSink for Source {
    fn append(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        match self {
            Source::Machine(sink) => sink.append(record),
            Source::Fleet(sink) => sink.append(record),
        }
    }

    fn save(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        match self {
            Source::Machine(sink) => sink.save(record),
            Source::Fleet(sink) => sink.save(record),
        }
    }

    fn remove(&mut self, before: SystemTime) -> Result<Removed, SinkError> {
        match self {
            Source::Machine(sink) => CostSink::remove(sink, before),
            Source::Fleet(sink) => sink.remove(before),
        }
    }

    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        match self {
            Source::Machine(sink) => sink.load(visit),
            Source::Fleet(sink) => sink.load(visit),
        }
    }

    fn scan(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        match self {
            Source::Machine(sink) => sink.scan(period, visit),
            Source::Fleet(sink) => sink.scan(period, visit),
        }
    }

    fn sums(
        &self,
        period: Period,
        labels: &Labels,
        visit: &mut dyn FnMut(&Runs<'_>),
    ) -> Result<Notes, SinkError> {
        match self {
            Source::Machine(sink) => sink.sums(period, labels, visit),
            Source::Fleet(sink) => sink.sums(period, labels, visit),
        }
    }

    fn scan_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        match self {
            Source::Machine(sink) => sink.scan_records(period, visit),
            Source::Fleet(sink) => sink.scan_records(period, visit),
        }
    }
}
