//! The runs of all machines, read like a ledger.
//!
//! Records come from the store's segments. Runs under way, and runs that stopped and were not recovered, have no record yet;
//! they are shown as the document has them. The document is read first: a run that is settled meanwhile is then found
//! twice, and its record counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;
use std::time::SystemTime;

use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::sink::CostSink;
use crate::cost::sink::Notes;
use crate::cost::sink::Removed;
use crate::cost::sink::SinkError;
use crate::cost::sink::Whole;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::cost::view::with_view;
use crate::fleet::document::Document;
use crate::fleet::document::Hold;
use crate::fleet::store::Days;
use crate::fleet::store::Store;
use crate::fleet::store::StoreError;
use crate::runtime::clock;

/// A store as a ledger that cannot be written.
pub struct FleetSink {
    store: RefCell<Box<dyn Store>>,
}

impl FleetSink {
    /// A ledger over a store. Each request to it may take `timeout`.
    pub fn new(mut store: Box<dyn Store>, timeout: Duration) -> FleetSink {
        store.set_timeout(timeout);
        FleetSink {
            store: RefCell::new(store),
        }
    }

    fn read(
        &self,
        days: &Days,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        let mut store = self.store.borrow_mut();
        let current = store.get().map_err(trouble)?;
        let document = match current {
            None => Document::default(),
            Some(current) => Document::parse(&current.bytes)
                .map_err(|error| SinkError::new(format!("{}: {error}", store.describe())))?,
        };
        let mut warnings = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut unknown: BTreeMap<String, SessionCost> = BTreeMap::new();
        let mut flow = ControlFlow::Continue(());
        store
            .entries(days, &mut |bytes| {
                let record: SessionCost = match serde_json::from_slice(bytes) {
                    Ok(record) => record,
                    Err(error) => {
                        warnings.push(format!("a record of the fleet is left out: {error}"));
                        return ControlFlow::Continue(());
                    }
                };
                if record.status == SessionStatus::Unknown {
                    // A later record may know better.
                    unknown.insert(record.id.clone(), record);
                } else if seen.insert(record.id.clone()) {
                    flow = visit(&record);
                }
                flow
            })
            .map_err(trouble)?;
        let held = [
            (document.open(), SessionStatus::Open),
            (document.unknown(), SessionStatus::Unknown),
        ];
        for (holds, status) in held {
            for (run, hold) in holds.iter().filter(|(_, hold)| days.contain(hold.day())) {
                unknown
                    .entry(run.clone())
                    .or_insert_with(|| record(run, hold, status));
            }
        }
        for (run, record) in &unknown {
            if flow.is_break() {
                break;
            }
            if !seen.contains(run) {
                flow = visit(record);
            }
        }
        Ok(warnings)
    }
}

impl CostSink for FleetSink {
    fn append(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        Err(read_only(record))
    }

    fn save(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        Err(read_only(record))
    }

    fn remove(&mut self, _before: SystemTime) -> Result<Removed, SinkError> {
        Err(SinkError::new("the records of a fleet are removed by day")
            .hint("`omk cost clear --fleet --before DATE` removes them"))
    }

    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.read(&Days::default(), visit).map(Notes::warn)
    }

    fn scan(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.scan_records(period, &mut |view, _| visit(view))
    }

    fn scan_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        let days = Days {
            from: period.from.map(clock::format_date),
            to: period.until.map(clock::format_date),
        };
        self.read(&days, &mut |record| {
            let shown = with_view(record, |view| match period.contains(view.started_micros) {
                true => visit(view, &mut || Some(record.clone())),
                false => ControlFlow::Continue(()),
            });
            shown.unwrap_or(ControlFlow::Continue(()))
        })
        .map(Notes::warn)
    }
}

fn trouble(error: StoreError) -> SinkError {
    let failed = SinkError::new(error.detail);
    match error.hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn read_only(record: &SessionCost) -> SinkError {
    let detail = format!("the record {} cannot be written into the fleet", record.id);
    SinkError::new(detail)
}

/// What the document knows of a run that has no record.
fn record(run: &str, hold: &Hold, status: SessionStatus) -> SessionCost {
    let mut record = SessionCost::open(run, SessionType::Prompt, &hold.since);
    record.status = status;
    record.worst_case_usd = hold.usd();
    record.kind = CostKind::Metered;
    record.charged = Charge::Unknown;
    record.tags.clone_from(&hold.tags);
    record.owner.host.clone_from(&hold.host);
    record
}
