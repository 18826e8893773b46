//! What a store must offer, and the loop that drives the protocol over one.
//!
//! An engine is one file that implements [`Store`]. It needs a conditional write of one small document (write if the version
//! is still the one that was read), and objects below a name for the records. etcd has transactions, git has
//! `--force-with-lease`; an S3 bucket would use `If-Match` with the `ETag` as version, `If-None-Match: *` for the first
//! write, one object for each record below `runs/DAY/`, and `ListObjectsV2` with that prefix. An engine that cannot write
//! the document and a record in one step writes the record first: the protocol relies on that order.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

pub use crate::fleet::protocol::Current;
pub use crate::fleet::protocol::Entry;
pub use crate::fleet::protocol::Put;

use crate::fleet::protocol::Exchange;
use crate::fleet::protocol::Outcome;
use crate::fleet::protocol::Reply;
use crate::fleet::protocol::Step;
use crate::runtime::clock::Timer;

/// What kind of trouble a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer, or none in time. A write may have happened.
    Unreachable,
    /// Others write so often that ours found no gap.
    Contended,
    /// The store refuses these credentials, or this operation to them.
    Denied,
    /// Anything that trying again does not change: a wrong address, a missing program, a document of a later version.
    Broken,
}

/// Why a store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The kind.
    pub trouble: Trouble,
    /// What happened, naming the engine, the address and the document.
    pub detail: String,
    /// The command or setting that fixes it, where that is known.
    pub hint: Option<String>,
}

impl StoreError {
    /// An error without a hint.
    pub fn new(trouble: Trouble, detail: impl Into<String>) -> StoreError {
        StoreError {
            trouble,
            detail: detail.into(),
            hint: None,
        }
    }

    /// The same with what fixes it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> StoreError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for StoreError {}

/// Days, both included; the default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Days {
    /// The first one, `2026-11-01`.
    pub from: Option<String>,
    /// The last one.
    pub to: Option<String>,
}

impl Days {
    /// Exactly this day.
    pub fn only(day: &str) -> Days {
        Days {
            from: Some(day.to_string()),
            to: Some(day.to_string()),
        }
    }

    /// Whether a day is among them.
    pub fn contain(&self, day: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= day)
            && self.to.as_deref().is_none_or(|to| day <= to)
    }
}

/// One document and the records beside it.
pub trait Store {
    /// Engine, address and document, for messages: never a password.
    fn describe(&self) -> String;

    /// Bounds each exchange that follows.
    fn set_timeout(&mut self, timeout: Duration);

    /// The document; `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    fn get(&mut self) -> Result<Option<Current>, StoreError>;

    /// Writes the document if its version is `expected` (`None`: if there is none yet), and a record with it: both in one
    /// step, or the record first.
    ///
    /// # Errors
    ///
    /// See [`Trouble`]; after [`Trouble::Unreachable`] it may have been written.
    fn put_if(
        &mut self,
        bytes: &[u8],
        expected: Option<&str>,
        entry: Option<&Entry>,
    ) -> Result<Put, StoreError>;

    /// Whether there is a record of this run.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    fn contains(&mut self, day: &str, run: &str) -> Result<bool, StoreError>;

    /// Shows the records of some days, in no order, until the visitor has enough. A record can come twice.
    ///
    /// # Errors
    ///
    /// See [`Trouble`].
    fn entries(
        &mut self,
        days: &Days,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Removes the records of the days before this one.
    ///
    /// # Errors
    ///
    /// See [`Trouble`]; some may be removed then.
    fn remove_before(&mut self, day: &str) -> Result<(), StoreError>;
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Without an answer from the store.
    pub reach: Duration,
    /// In all, while others keep writing first.
    pub contention: Duration,
}

/// The longest single pause between attempts, in milliseconds.
const MAX_PAUSE_MS: u64 = 400;
/// The first one.
const FIRST_PAUSE_MS: u64 = 4;

/// Runs an exchange to its end. `known` is the document as it was last seen, if it was; it becomes what is seen now.
///
/// # Errors
///
/// See [`Trouble`]. What was to be written may be written.
pub fn drive(
    store: &mut dyn Store,
    mut exchange: Exchange,
    known: &mut Option<Current>,
    patience: Patience,
    timer: &mut dyn Timer,
) -> Result<Outcome, StoreError> {
    let began = timer.elapsed();
    let mut answered = began;
    let mut step = exchange.start(known.take());
    loop {
        // A store that is away fails after `reach`; the rest of it is what this exchange may wait.
        let silent = timer.elapsed().saturating_sub(answered);
        store.set_timeout(patience.reach.saturating_sub(silent).max(MIN_WAIT));
        let (reply, error) = match step {
            Step::Done(outcome) => {
                *known = exchange.known();
                return Ok(outcome);
            }
            Step::Unusable(error) => {
                let detail = format!("{}: {error}", store.describe());
                return Err(StoreError::new(Trouble::Broken, detail).hint(
                    "use the omk that wrote it, or another name for the fleet in OMK_FLEET",
                ));
            }
            Step::Pause(attempts) => {
                rest(timer, attempts);
                (Reply::Rested, None)
            }
            Step::Get => reply(store.get().map(Reply::Got)),
            Step::Find { day, run } => reply(store.contains(&day, &run).map(Reply::Found)),
            Step::Put {
                bytes,
                expected,
                entry,
            } => reply(
                store
                    .put_if(&bytes, expected.as_deref(), entry.as_ref())
                    .map(Reply::Put),
            ),
        };
        match error {
            Some(error) if error.trouble != Trouble::Unreachable => return Err(error),
            Some(error) if timer.elapsed().saturating_sub(answered) >= patience.reach => {
                return Err(error);
            }
            Some(_) => rest(timer, 3),
            None => answered = timer.elapsed(),
        }
        if timer.elapsed().saturating_sub(began) >= patience.contention.max(patience.reach) {
            let detail = format!(
                "{}: others wrote first for {} s",
                store.describe(),
                patience.contention.as_secs()
            );
            return Err(StoreError::new(Trouble::Contended, detail).hint(
                "run it again; or split the fleet: give teams other names in OMK_FLEET, see omk-fleet(7)",
            ));
        }
        step = exchange.reply(reply);
    }
}

/// The least that an exchange is given.
const MIN_WAIT: Duration = Duration::from_millis(50);

fn reply(result: Result<Reply, StoreError>) -> (Reply, Option<StoreError>) {
    match result {
        Ok(reply) => (reply, None),
        Err(error) => (Reply::Lost, Some(error)),
    }
}

/// Waits a random time below a bound that doubles with every attempt.
fn rest(timer: &mut dyn Timer, attempts: u32) {
    let bound = FIRST_PAUSE_MS
        .saturating_mul(1 << attempts.min(10))
        .min(MAX_PAUSE_MS);
    let jitter = u64::from(timer.jitter());
    timer.sleep(Duration::from_micros(bound * jitter));
}
