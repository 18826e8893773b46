//! One machine of a fleet: its runs are reserved and settled in the store, and what could not be delivered waits.
//!
//! The local ledger comes first and stays complete by itself. The order of a run's steps is: [`Member::announce`] writes its
//! item into the outbox, the run reserves locally, [`Member::reserve`] reserves in the store, the run is sent, it settles
//! locally, [`Member::settle`] settles in the store and removes the item. A run that stops in between is finished by
//! [`Member::sync`]: before the grant nothing was sent, so it is withdrawn; after it the money may have been spent, so it
//! counts at its bound until the local ledger knows better.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use crate::catalog::money::Usd;
use crate::cost::budget::Budget;
use crate::cost::file_sink::Found;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::tracker::CostTracker;
use crate::fleet::document;
use crate::fleet::document::Document;
use crate::fleet::document::Hold;
use crate::fleet::document::Standing;
use crate::fleet::outbox;
use crate::fleet::outbox::Item;
use crate::fleet::outbox::Outbox;
use crate::fleet::outbox::Phase;
use crate::fleet::protocol::Exchange;
use crate::fleet::protocol::Outcome;
use crate::fleet::protocol::Wish;
use crate::fleet::store::Current;
use crate::fleet::store::Entry;
use crate::fleet::store::Patience;
use crate::fleet::store::Store;
use crate::fleet::store::StoreError;
use crate::fleet::store::Trouble;
use crate::fleet::store::drive;
use crate::runtime::clock;
use crate::runtime::clock::SystemTimer;
use crate::runtime::file;
use crate::runtime::text;

/// How long an exchange may be kept from writing by others.
const CONTENTION: Duration = Duration::from_secs(60);
/// The largest copy of the document that is read.
const LARGEST_KNOWN: u64 = 16 * 1024 * 1024;

/// A machine's part in a fleet.
pub struct Member {
    store: Box<dyn Store>,
    outbox: Outbox,
    directory: PathBuf,
    patience: Patience,
    sends_offline: bool,
    timer: SystemTimer,
    known: Option<Current>,
    /// The version of the copy on disk.
    kept: Option<String>,
}

/// A run may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The store has its reservation.
    Granted,
    /// The store could not be reached, which does not matter here: the run is delivered later.
    Offline(StoreError),
}

/// Why a run may not be sent. Nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A budget has no room for it.
    Over {
        /// Engine, address and document.
        place: String,
        /// How things stand without it.
        standing: Box<Standing>,
        /// Its worst case.
        needed: Usd,
    },
    /// Nothing bounds what it can cost, so no budget can hold it.
    Unbounded(Budget),
    /// The store did not answer, or refused.
    Store(StoreError),
    /// The outbox cannot be written.
    Outbox(String),
}

impl Refusal {
    /// The command or setting that fixes it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::Over { .. } => Some(
                "`omk cost budget --fleet` shows who reserved what; wait, or raise OMK_BUDGET"
                    .to_string(),
            ),
            Refusal::Unbounded(_) => Some(
                "name a model with a known price, or give one with --price, and limit the answer; or unset OMK_BUDGET"
                    .to_string(),
            ),
            Refusal::Store(error) if error.trouble == Trouble::Unreachable => Some(
                error.hint.clone().unwrap_or_else(|| {
                    "`omk cost fleet status` checks the store; OMK_FLEET_OFFLINE=allow sends without it and delivers later"
                        .to_string()
                }),
            ),
            Refusal::Store(error) => error.hint.clone(),
            Refusal::Outbox(_) => Some("check OMK_LEDGER and the space on its disk".to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Over {
                place,
                standing,
                needed,
            } => {
                write!(
                    f,
                    "the fleet's budget {} is too small: limit {}, spent {}, reserved {}, needed {needed} ({place})",
                    standing.budget, standing.budget.limit, standing.spent, standing.reserved
                )?;
                match standing.unknown {
                    0 => Ok(()),
                    1 => f.write_str("; 1 run of unknown cost is not counted"),
                    n => write!(f, "; {n} runs of unknown cost are not counted"),
                }
            }
            Refusal::Unbounded(budget) => write!(
                f,
                "the fleet's budget {budget} cannot be kept: what this run may cost at most is not known"
            ),
            Refusal::Store(error) => write!(f, "the fleet cannot be asked: {error}"),
            Refusal::Outbox(why) => write!(f, "the fleet's outbox cannot be written: {why}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What [`Member::sync`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Runs whose end the store now holds.
    pub delivered: u64,
    /// Reservations withdrawn of runs that stopped before anything was sent.
    pub withdrawn: u64,
    /// Runs that still run.
    pub running: u64,
    /// Runs that stopped while they ran, counted at their bound until `omk cost recover`.
    pub unrecovered: u64,
    /// What could not be read or written here.
    pub warnings: Vec<String>,
}

impl Member {
    /// A member that keeps its outbox in this directory.
    pub fn new(
        store: Box<dyn Store>,
        directory: impl Into<PathBuf>,
        reach: Duration,
        sends_offline: bool,
    ) -> Member {
        let directory = directory.into();
        Member {
            store,
            outbox: Outbox::new(&directory),
            patience: Patience {
                reach,
                contention: CONTENTION,
            },
            sends_offline,
            timer: SystemTimer::default(),
            known: None,
            kept: None,
            directory,
        }
    }

    /// Engine, address and document.
    pub fn place(&self) -> String {
        self.store.describe()
    }

    /// The store, for what is read from it.
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }

    /// The store.
    pub fn store(&mut self) -> &mut dyn Store {
        self.store.set_timeout(self.patience.reach);
        self.store.as_mut()
    }

    /// Notes that a run is about to ask, before it is in any ledger.
    ///
    /// # Errors
    ///
    /// The outbox cannot be written; the run must not be sent.
    pub fn announce(&mut self, run: &SessionCost, due: SystemTime) -> Result<(), Refusal> {
        let item = Item::new(&run.id, run.owner.clone(), hold(run, due));
        self.put(&item)
    }

    fn put(&self, item: &Item) -> Result<(), Refusal> {
        let written = self.outbox.put(item);
        written.map_err(|error| {
            let place = text::escape_os(&self.directory);
            Refusal::Outbox(format!("{place}: {error}"))
        })
    }

    /// Reserves what an announced run can cost at most, in place of what it reserved before. `budgets` are those of the
    /// machine; those that do not hold for the run are left out.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]. The run must not be sent, or not go on.
    pub fn reserve(
        &mut self,
        run: &SessionCost,
        budgets: &[Budget],
        due: SystemTime,
        now: SystemTime,
    ) -> Result<Admission, Refusal> {
        let is_billed = is_counted(run);
        let budgets = budgets.iter();
        let budgets = budgets.filter(|budget| is_billed && budget.is_for(run));
        let budgets: Vec<Budget> = budgets.cloned().collect();
        let hold = hold(run, due);
        let known = self.outbox.get(&run.id);
        let mut item = known.unwrap_or_else(|| Item::new(&run.id, run.owner.clone(), hold.clone()));
        if let (Some(budget), None) = (budgets.first(), hold.usd()) {
            self.forget(&item);
            return Err(Refusal::Unbounded(budget.clone()));
        }
        let wish = Wish::Reserve {
            run: run.id.clone(),
            hold: hold.clone(),
            budgets,
        };
        let outcome = self.exchange(wish, now);
        match outcome {
            Ok(Outcome::Done) => {
                item.hold = hold;
                if item.phase == Phase::Asked {
                    item.phase = Phase::Granted;
                }
                self.put(&item)?;
                Ok(Admission::Granted)
            }
            Ok(Outcome::Refused(standing)) => {
                self.forget(&item);
                Err(Refusal::Over {
                    place: self.store.describe(),
                    standing,
                    needed: hold.usd().unwrap_or(Usd::ZERO),
                })
            }
            Err(error) if self.sends_offline && error.trouble != Trouble::Denied => {
                item.hold = hold;
                item.phase = Phase::Offline;
                self.put(&item)?;
                Ok(Admission::Offline(error))
            }
            Err(error) => Err(Refusal::Store(error)),
        }
    }

    /// Removes the item of a run of which the store knows nothing. One that stays is withdrawn by the next sync.
    fn forget(&self, item: &Item) {
        if item.phase == Phase::Asked {
            let _ = self.outbox.remove(&item.run);
        }
    }

    /// Withdraws a run that was announced and refused by the local ledger: the store was not asked.
    pub fn withdraw(&mut self, run: &str) {
        if let Some(item) = self.outbox.get(run) {
            self.forget(&item);
        }
    }

    /// Settles a run that is over. Without an error the store holds its end.
    ///
    /// # Errors
    ///
    /// It waits in the outbox.
    pub fn settle(&mut self, run: &SessionCost, now: SystemTime) -> Result<(), StoreError> {
        let Some(item) = self.outbox.get(&run.id) else {
            // It was refused, or never announced.
            return Ok(());
        };
        match item.phase {
            Phase::Asked => self.take_back(&item, now)?,
            Phase::Granted | Phase::Offline => self.deliver(&item, run, now)?,
        }
        self.done(&item)
    }

    fn done(&self, item: &Item) -> Result<(), StoreError> {
        let removed = self.outbox.remove(&item.run);
        removed.map_err(|error| self.here(&error))
    }

    fn here(&self, error: &io::Error) -> StoreError {
        let place = text::escape_os(&self.directory);
        StoreError::new(Trouble::Broken, format!("{place}: {error}"))
    }

    fn take_back(&mut self, item: &Item, now: SystemTime) -> Result<(), StoreError> {
        let wish = Wish::Settle {
            run: item.run.clone(),
            hold: item.hold.clone(),
            outcome: document::Outcome::Withdrawn,
            entry: None,
        };
        self.exchange(wish, now).map(|_| ())
    }

    fn deliver(
        &mut self,
        item: &Item,
        run: &SessionCost,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let entry = entry(run).map_err(|error| {
            let detail = format!("the record {} cannot be written as JSON: {error}", run.id);
            StoreError::new(Trouble::Broken, detail)
        })?;
        let wish = Wish::Settle {
            run: run.id.clone(),
            hold: item.hold.clone(),
            outcome: outcome(run),
            entry: Some(entry),
        };
        self.exchange(wish, now).map(|_| ())
    }

    /// Delivers what waits, at most `limit` runs.
    ///
    /// # Errors
    ///
    /// The store did not take one; the rest waits.
    pub fn sync(
        &mut self,
        ledger: &mut CostTracker<JsonFileCostSink>,
        limit: usize,
        now: SystemTime,
    ) -> Result<Synced, StoreError> {
        let (items, warnings) = self.outbox.items().map_err(|error| self.here(&error))?;
        let mut synced = Synced {
            warnings,
            ..Synced::default()
        };
        for item in items {
            if synced.delivered + synced.withdrawn >= limit as u64 {
                break;
            }
            let record = match ledger.sink().find(&item.run) {
                Ok(Found::One(record)) if record.id == item.run => Some(*record),
                Ok(_) => None,
                Err(error) => {
                    synced.warnings.push(error.detail);
                    continue;
                }
            };
            let is_over = record
                .as_ref()
                .is_some_and(|record| record.status != SessionStatus::Open);
            if !is_over && is_running(&item, now) {
                synced.running += 1;
                continue;
            }
            match (item.phase, record) {
                // It stopped before it was granted, so nothing was sent.
                (Phase::Asked, record) => {
                    if let Some(mut record) = record
                        && matches!(record.status, SessionStatus::Open | SessionStatus::Unknown)
                    {
                        record.status = SessionStatus::Failed;
                        record.charged = Charge::No;
                        record.ended_at = Some(clock::format_rfc3339(now));
                        if let Err(error) = ledger.update(&record) {
                            synced.warnings.push(error.detail);
                            continue;
                        }
                    }
                    self.take_back(&item, now)?;
                    synced.withdrawn += 1;
                }
                (_, Some(record)) if record.status == SessionStatus::Open => {
                    let wish = Wish::Settle {
                        run: item.run.clone(),
                        hold: item.hold.clone(),
                        outcome: document::Outcome::Unknown(item.hold.usd()),
                        entry: None,
                    };
                    self.exchange(wish, now)?;
                    synced.unrecovered += 1;
                    continue;
                }
                (_, Some(record)) => {
                    self.deliver(&item, &record, now)?;
                    synced.delivered += 1;
                }
                // The ledger has lost it; the store keeps its bound.
                (_, None) => {
                    let wish = Wish::Settle {
                        run: item.run.clone(),
                        hold: item.hold.clone(),
                        outcome: document::Outcome::Unknown(item.hold.usd()),
                        entry: None,
                    };
                    self.exchange(wish, now)?;
                    synced.delivered += 1;
                    let run = &item.run;
                    synced.warnings.push(format!(
                        "the ledger has no run {run}; the fleet counts it at its bound"
                    ));
                }
            }
            self.done(&item)?;
        }
        Ok(synced)
    }

    /// Whether anything waits.
    pub fn has_waiting(&self) -> bool {
        let items = self.outbox.items();
        items.is_ok_and(|(items, _)| !items.is_empty())
    }

    /// The document as the store has it now.
    ///
    /// # Errors
    ///
    /// See [`Trouble`]; among them a document that this omk cannot read.
    pub fn document(&mut self) -> Result<Option<Document>, StoreError> {
        let current = self.store().get()?;
        let document = current.as_ref().map(|current| {
            Document::parse(&current.bytes).map_err(|error| {
                let detail = format!("{}: {error}", self.store.describe());
                StoreError::new(Trouble::Broken, detail)
            })
        });
        document.transpose()
    }

    /// Sees to it that the document is there and sums these budgets, by a write.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    pub fn register(&mut self, budgets: &[Budget], now: SystemTime) -> Result<(), StoreError> {
        let wish = Wish::Register {
            budgets: budgets.to_vec(),
            day: clock::format_date(now),
        };
        self.exchange(wish, now).map(|_| ())
    }

    /// Removes the records of the days before this one. The sums in the document stay.
    ///
    /// # Errors
    ///
    /// See [`Trouble`]; some may be removed.
    pub fn clear(&mut self, before: &str, now: SystemTime) -> Result<(), StoreError> {
        let wish = Wish::Clear {
            before: before.to_string(),
        };
        self.exchange(wish, now)?;
        self.store().remove_before(before)
    }

    fn exchange(&mut self, wish: Wish, now: SystemTime) -> Result<Outcome, StoreError> {
        if self.known.is_none() {
            self.known = self.read_known();
            self.kept = self.known.as_ref().map(|known| known.version.clone());
        }
        let done = drive(
            self.store.as_mut(),
            Exchange::new(wish, now),
            &mut self.known,
            self.patience,
            &mut self.timer,
        );
        self.keep_known();
        done
    }

    fn known_file(&self) -> PathBuf {
        self.directory.join("known")
    }

    /// The document as this machine saw it last: a guess that saves a read, checked by the conditional write.
    fn read_known(&self) -> Option<Current> {
        let bytes = file::read_regular(&self.known_file(), LARGEST_KNOWN).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (version, rest) = bytes.split_at_checked(end)?;
        Some(Current {
            version: std::str::from_utf8(version).ok()?.to_string(),
            bytes: rest.get(1..)?.to_vec(),
        })
    }

    fn keep_known(&mut self) {
        let Some(known) = &self.known else {
            return;
        };
        if self.kept.as_ref() == Some(&known.version) {
            return;
        }
        self.kept = Some(known.version.clone());
        let mut bytes = format!("{}\n", known.version).into_bytes();
        bytes.extend_from_slice(&known.bytes);
        // It is only a guess, so it is neither synced nor missed.
        let beside = self.directory.join(format!("known.{}", std::process::id()));
        let kept = outbox::create(&self.directory)
            .and_then(|()| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, self.known_file()));
        if kept.is_err() {
            let _ = fs::remove_file(&beside);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("place", &self.store.describe())
            .finish_non_exhaustive()
    }
}

/// Whether the process of an item may still be at work.
fn is_running(item: &Item, now: SystemTime) -> bool {
    item.owner.is_alive().unwrap_or_else(|| {
        // It cannot be seen from here; it should be over when it is due.
        clock::parse_rfc3339(&item.hold.due).is_ok_and(|due| now < due)
    })
}

/// The reservation of a run: its worst case, or nothing where no money is billed.
fn hold(run: &SessionCost, due: SystemTime) -> Hold {
    let usd = match is_counted(run) {
        false => Some(Usd::ZERO),
        true => run.worst_case_usd,
    };
    Hold::new(usd, &run.owner.host, &run.started_at, due, run.tags.clone())
}

/// Whether a run counts in the fleet's budgets, which are in US dollars: others are held by the machine's own ledger.
fn is_counted(run: &SessionCost) -> bool {
    run.kind != CostKind::ListPriceEquivalent && run.currency.is_usd()
}

/// What a run that is over came to, as the local ledger counts it.
fn outcome(run: &SessionCost) -> document::Outcome {
    if !is_counted(run) {
        return document::Outcome::Cost(Usd::ZERO);
    }
    match (run.status, run.at_most_usd()) {
        (SessionStatus::Unknown | SessionStatus::Open, usd) => document::Outcome::Unknown(usd),
        (_, Some(usd)) => document::Outcome::Cost(usd),
        (_, None) => document::Outcome::Unknown(None),
    }
}

/// The record as other machines may read it: without paths of this machine, and without the prompt's fingerprint, by which
/// a guessed prompt could be checked.
fn entry(run: &SessionCost) -> serde_json::Result<Entry> {
    let shared = SessionCost {
        log: None,
        prompt_hash: None,
        ..run.clone()
    };
    Ok(Entry {
        day: run.started_at.get(..10).unwrap_or_default().to_string(),
        run: run.id.clone(),
        bytes: serde_json::to_vec(&shared)?,
    })
}
