//! Where records are kept, as the tracker sees it.
//!
//! Three verbs on whole records. Refuses to know files: what a crash, a full disk or a second process does to a store is
//! the store's business, and an error here says what became of the record.

use std::fmt;
use std::ops::ControlFlow;

use crate::cost::record::SessionCost;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::cost::view::with_view;

/// The whole of a record whose columns are shown, read when it is asked for. `None` when it cannot be read, of which a
/// warning tells.
pub type Whole<'a> = &'a mut dyn FnMut() -> Option<SessionCost>;

/// Why a store could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkError {
    /// What happened, naming the file where there is one.
    pub detail: String,
    /// What mends it, where that is known.
    pub hint: Option<String>,
}

impl SinkError {
    /// An error without a hint.
    pub fn new(detail: impl Into<String>) -> SinkError {
        SinkError {
            detail: detail.into(),
            hint: None,
        }
    }

    /// The same with what mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SinkError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for SinkError {}

/// Keeps records.
pub trait CostSink {
    /// Adds a record whose id is new.
    ///
    /// # Errors
    ///
    /// It is not kept, or nobody can be sure that it is.
    fn append(&mut self, record: &SessionCost) -> Result<(), SinkError>;

    /// Replaces the record of the same id.
    ///
    /// # Errors
    ///
    /// The record is kept as it was before, or nobody can be sure that it is as given.
    fn save(&mut self, record: &SessionCost) -> Result<(), SinkError>;

    /// Shows every record once, in its latest version and in no particular order, until the visitor has enough. Returns
    /// warnings: what was set aside and why.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError>;

    /// Shows the columns of every record that began in the period, otherwise as [`CostSink::load`]. A store that keeps
    /// columns by themselves is much faster at it.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn scan(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        let mut odd = Vec::new();
        let mut warnings = self.load(&mut |record| {
            let shown = with_view(record, |view| {
                if period.contains(view.started_micros) {
                    visit(view)
                } else {
                    ControlFlow::Continue(())
                }
            });
            shown.unwrap_or_else(|| {
                odd.push(format!(
                    "the record {} does not say when it began",
                    record.id
                ));
                ControlFlow::Continue(())
            })
        })?;
        warnings.append(&mut odd);
        Ok(warnings)
    }

    /// The same with the whole record at hand, for who needs some: a store that keeps columns by themselves reads no other.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn scan_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        self.load(&mut |record| {
            let shown = with_view(record, |view| match period.contains(view.started_micros) {
                true => visit(view, &mut || Some(record.clone())),
                false => ControlFlow::Continue(()),
            });
            shown.unwrap_or(ControlFlow::Continue(()))
        })
    }
}

/// Keeps records in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct InMemoryCostSink {
    records: Vec<SessionCost>,
}

impl CostSink for InMemoryCostSink {
    fn append(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        if self.records.iter().any(|known| known.id == record.id) {
            return Err(SinkError::new(format!("the id {} is taken", record.id)));
        }
        self.records.push(record.clone());
        Ok(())
    }

    fn save(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        match self.records.iter_mut().find(|known| known.id == record.id) {
            Some(known) => known.clone_from(record),
            None => return Err(SinkError::new(format!("there is no record {}", record.id))),
        }
        Ok(())
    }

    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        let _ = self.records.iter().try_for_each(visit);
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::record::SessionType;

    #[test]
    fn an_id_is_appended_once_and_saved_afterwards() {
        let mut sink = InMemoryCostSink::default();
        let mut run = SessionCost::open("1", SessionType::Plan, "2026-11-20T10:47:59Z");
        assert!(sink.save(&run).is_err());
        sink.append(&run).unwrap();
        assert!(sink.append(&run).is_err());
        run.retries = 3;
        sink.save(&run).unwrap();
        let mut seen = Vec::new();
        sink.load(&mut |record| {
            seen.push(record.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, [run.clone()]);
        seen.clear();
        sink.scan_records(Period::default(), &mut |_, whole| {
            seen.extend(whole());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, [run]);
    }
}
