//! Where records are kept, as the tracker sees it.
//!
//! Three verbs on whole records. Refuses to know files: what a crash, a full disk or a second process does to a store is
//! the store's business, and an error here says what became of the record.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::catalog::money::Usd;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::Transport;
use crate::cost::sums::Group;
use crate::cost::sums::Labels;
use crate::cost::sums::Sums;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::cost::view::with_view;
use crate::runtime::clock;

/// The whole of a record whose columns are shown, read when it is asked for. `None` when it cannot be read, of which a
/// warning tells.
pub type Whole<'a> = &'a mut dyn FnMut() -> Option<SessionCost>;

/// Why a store could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkError {
    /// What happened, naming the file where there is one.
    pub detail: String,
    /// How to fix it, where that is known.
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

    /// The same with how to fix it.
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

/// The label of a record that stands for what was damaged. It counts in every budget, whatever label the budget is for.
pub const DAMAGED: &str = "omk.damaged";

/// A file whose contents are not what was written. What can still be read of it is shown; the rest is described here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and in which line where it has several.
    pub what: String,
    /// How many runs cannot be read, as far as that is known.
    pub runs: u64,
    /// What they can have cost together at most, as far as the file still says; `None` when it does not.
    pub bound: Option<Usd>,
    /// When they can have begun.
    pub began: Period,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged: {}", self.path.display(), self.what)?;
        match (self.runs, self.bound) {
            (0, _) => return Ok(()),
            (1, _) => f.write_str("; 1 run is not counted")?,
            (runs, _) => write!(f, "; {runs} runs are not counted")?,
        }
        match self.bound {
            Some(bound) => write!(f, ", at most {bound}"),
            None => f.write_str(", of unknown cost"),
        }
    }
}

/// What a store has to say beside what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What was left aside and why; no record is missing for it.
    pub warnings: Vec<String>,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

impl Notes {
    /// Warnings alone.
    pub fn warn(warnings: Vec<String>) -> Notes {
        Notes {
            warnings,
            damage: Vec::new(),
        }
    }

    /// All of it for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let damage = self.damage.iter();
        let damage = damage.map(|damage| format!("{damage}; see `omk cost verify`"));
        self.warnings.iter().cloned().chain(damage).collect()
    }

    /// Fails if a run that began in the period may be among what is damaged: what is summed without it may be too little.
    ///
    /// # Errors
    ///
    /// Names the first damaged file and the command that repairs it.
    pub fn require_whole(&self, period: Period) -> Result<(), SinkError> {
        let damaged = self.damage.iter().find(|damage| damage.began.meets(period));
        damaged.map_or(Ok(()), |damage| {
            Err(SinkError::new(damage.to_string()).hint(
                "`omk cost repair` puts what is damaged aside and counts it at the most that it can have cost",
            ))
        })
    }
}

/// One run, or several that are added up.
#[derive(Clone, Copy, Debug)]
pub enum Runs<'a> {
    /// One.
    One(&'a RecordView<'a>),
    /// Several, all of them over.
    Many(&'a Group, &'a Sums),
}

impl<'a> Runs<'a> {
    /// Adds them to a sum.
    pub fn add_to(&self, sums: &mut Sums) {
        match self {
            Runs::One(run) => sums.add(run),
            Runs::Many(_, more) => sums.plus(more),
        }
    }

    /// The day on which they began, counted from 1970-01-01 in UTC.
    pub fn day(&self) -> i64 {
        match self {
            Runs::One(run) => run.day(),
            Runs::Many(group, _) => group.day,
        }
    }

    /// The model that answered, else the one asked for.
    pub fn model(&self) -> Option<&'a str> {
        match self {
            Runs::One(run) => run.model,
            Runs::Many(group, _) => group.model.as_deref(),
        }
    }

    /// What kind of runs they were.
    pub fn session_type(&self) -> SessionType {
        match self {
            Runs::One(run) => run.session_type,
            Runs::Many(group, _) => group.session_type,
        }
    }

    /// How the peer was reached.
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Runs::One(run) => run.transport,
            Runs::Many(group, _) => group.transport,
        }
    }

    /// The agent or the service.
    pub fn peer(&self) -> &'a str {
        match self {
            Runs::One(run) => run.peer,
            Runs::Many(group, _) => &group.peer,
        }
    }

    /// The value of a label.
    pub fn tag(&self, key: &str) -> Option<&'a str> {
        match self {
            Runs::One(run) => run.tag(key),
            Runs::Many(group, _) => group.tags.get(key).map(String::as_str),
        }
    }

    /// Shows every label.
    pub fn each_tag(&self, visit: &mut dyn FnMut(&str, &str)) {
        match self {
            Runs::One(run) => run.tags.iter().for_each(|(key, value)| visit(key, value)),
            Runs::Many(group, _) => group.tags.iter().for_each(|(key, value)| visit(key, value)),
        }
    }
}

/// What clearing removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many records.
    pub records: usize,
    /// What was skipped and why, or is damaged.
    pub warnings: Vec<String>,
}

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

    /// Removes the records of runs that are over and began before this moment. Open runs stay.
    ///
    /// # Errors
    ///
    /// Some of them may still be there.
    fn remove(&mut self, before: SystemTime) -> Result<Removed, SinkError>;

    /// Shows every record once, in its latest version and in no particular order, until the visitor has enough. Returns
    /// what was set aside and why, and what is damaged.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError>;

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
    ) -> Result<Notes, SinkError> {
        let mut odd = Vec::new();
        let mut notes = self.load(&mut |record| {
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
        notes.warnings.append(&mut odd);
        Ok(notes)
    }

    /// Shows the runs that began in the period for adding up: by themselves, or as sums where the store keeps some that
    /// know these labels.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn sums(
        &self,
        period: Period,
        _labels: &Labels,
        visit: &mut dyn FnMut(&Runs<'_>),
    ) -> Result<Notes, SinkError> {
        self.scan(period, &mut |run| {
            visit(&Runs::One(run));
            ControlFlow::Continue(())
        })
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
    ) -> Result<Notes, SinkError> {
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

    fn remove(&mut self, before: SystemTime) -> Result<Removed, SinkError> {
        let known = self.records.len();
        self.records.retain(|record| {
            let started = clock::parse_rfc3339(&record.started_at);
            record.status == SessionStatus::Open || !started.is_ok_and(|started| started < before)
        });
        Ok(Removed {
            records: known - self.records.len(),
            warnings: Vec::new(),
        })
    }

    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        let _ = self.records.iter().try_for_each(visit);
        Ok(Notes::default())
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
