//! The protocol as a state machine without IO: [`Exchange`] says what to ask the store next and is told what came back.
//!
//! # Why nothing is counted twice and nothing is lost
//!
//! Every change of the document is conditional on the version that it was made from, so a request that arrives late or twice
//! changes nothing: by then the version is another. A client that lost a reply reads again and looks for its run.
//!
//! A run is in exactly one of these states, each told from the others by looking at the store:
//!
//! | state | document | record |
//! |---|---|---|
//! | never reserved | in none of `open`, `unknown`, `done` | none |
//! | reserved | in `open` or `unknown` | none, or written just before the next step |
//! | settled | in `done` for a while, then in none | there |
//!
//! The record is written before, or in one step with, the document that takes the run out of `open`. So a run that is in
//! no list was settled if it has a record, and was never reserved if it has none; a run that must be counted without a
//! reservation is reserved first, whatever the caps say, and then settled. Whoever settles needs to remember nothing, and
//! two clients may settle the same run.

use std::time::SystemTime;

use crate::cost::budget::Budget;
use crate::fleet::document;
use crate::fleet::document::Document;
use crate::fleet::document::DocumentError;
use crate::fleet::document::Hold;
use crate::fleet::document::Standing;

/// The document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What a conditional write names, as the engine has it.
    pub version: String,
}

/// What came of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written, as this version.
    Done(String),
    /// Another version is there, which the engine may hand over if it costs nothing.
    Conflict(Option<Option<Current>>),
}

/// The record of a run, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The day on which the run began, `2026-11-20`.
    pub day: String,
    /// Its id.
    pub run: String,
    /// The record: JSON on one line.
    pub bytes: Vec<u8>,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Room for a run in every budget.
    Reserve {
        /// The run's id.
        run: String,
        /// The reservation.
        hold: Hold,
        /// The budgets that hold for the run.
        budgets: Vec<Budget>,
    },
    /// A run is over.
    Settle {
        /// The run's id.
        run: String,
        /// Its reservation, needed when the document does not have it.
        hold: Hold,
        /// What it came to.
        outcome: document::Outcome,
        /// Its record; `None` for a run that is withdrawn.
        entry: Option<Entry>,
    },
    /// The document is to exist and to sum the scopes of these budgets; it is written even if nothing changes, which shows
    /// that it can be written.
    Register {
        /// The budgets.
        budgets: Vec<Budget>,
        /// The day from which on they are summed.
        day: String,
    },
    /// Notes that records of days before this one are removed.
    Clear {
        /// The first day that stays.
        before: String,
    },
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store holds what was wished.
    Done,
    /// A budget has no room. Nothing was written.
    Refused(Box<Standing>),
}

/// What to ask the store next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the document.
    Get,
    /// Write it.
    Put {
        /// The bytes.
        bytes: Vec<u8>,
        /// The version that must be there.
        expected: Option<String>,
        /// A record to write with it, or before it.
        entry: Option<Entry>,
    },
    /// Look for a record.
    Find {
        /// The day of the run.
        day: String,
        /// Its id.
        run: String,
    },
    /// Wait a random time that grows with the number of attempts.
    Pause(u32),
    /// The end.
    Done(Outcome),
    /// The document cannot be used.
    Unusable(DocumentError),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The document.
    Got(Option<Current>),
    /// A write was answered.
    Put(Put),
    /// Whether the record is there.
    Found(bool),
    /// The pause is over.
    Rested,
    /// Nothing. The request may have been carried out.
    Lost,
}

/// One wish on its way.
#[derive(Clone, Debug)]
pub struct Exchange {
    wish: Wish,
    now: SystemTime,
    /// The document as it was last read or written.
    current: Option<Current>,
    /// What is being written.
    sent: Vec<u8>,
    /// Whether `current` was read or written in this exchange.
    is_fresh: bool,
    /// The write on its way settles nothing yet: it only reserves.
    only_reserves: bool,
    conflicts: u32,
}

impl Exchange {
    /// A wish, by a client whose clock shows `now`.
    pub fn new(wish: Wish, now: SystemTime) -> Exchange {
        Exchange {
            wish,
            now,
            current: None,
            sent: Vec::new(),
            is_fresh: false,
            only_reserves: false,
            conflicts: 0,
        }
    }

    /// The first step. A document that was seen earlier saves a read: if it is out of date, the write is refused.
    pub fn start(&mut self, known: Option<Current>) -> Step {
        self.current = known;
        match self.current {
            Some(_) => self.decide(),
            None => Step::Get,
        }
    }

    /// The document as it was last seen.
    pub fn known(&mut self) -> Option<Current> {
        self.current.take()
    }

    /// The next step.
    pub fn reply(&mut self, reply: Reply) -> Step {
        match reply {
            Reply::Got(current) => {
                self.current = current;
                self.is_fresh = true;
                self.decide()
            }
            Reply::Put(Put::Done(version)) => {
                self.current = Some(Current {
                    bytes: std::mem::take(&mut self.sent),
                    version,
                });
                self.is_fresh = true;
                match self.only_reserves {
                    true => self.decide(),
                    false => Step::Done(Outcome::Done),
                }
            }
            Reply::Put(Put::Conflict(newer)) => {
                self.conflicts += 1;
                match newer {
                    // The first conflict may be no contention: what was known was old.
                    Some(current) if self.conflicts == 1 => {
                        self.current = current;
                        self.is_fresh = true;
                        self.decide()
                    }
                    None if self.conflicts == 1 => Step::Get,
                    _ => Step::Pause(self.conflicts),
                }
            }
            Reply::Found(true) => Step::Done(Outcome::Done),
            Reply::Found(false) => self.reserve_first(),
            Reply::Rested | Reply::Lost => Step::Get,
        }
    }

    /// Decides on the document at hand.
    fn decide(&mut self) -> Step {
        let mut document = match &self.current {
            None => Document::default(),
            Some(current) => match Document::parse(&current.bytes) {
                Ok(document) => document,
                Err(_) if !self.is_fresh => return Step::Get,
                Err(error) => return Step::Unusable(error),
            },
        };
        match &self.wish {
            Wish::Reserve { run, hold, budgets } => {
                // Someone whose clock is ahead may have marked it unknown meanwhile; it is counted all the same.
                let known = document.open().get(run);
                let known = known.or_else(|| document.unknown().get(run));
                let is_there = known.is_some_and(|known| known.usd() == hold.usd());
                if is_there || document.was_settled(run) {
                    return self.conclude(Outcome::Done);
                }
                document.expire(self.now, run);
                match document.reserve(run, hold.clone(), budgets) {
                    Ok(()) => self.put(document, None),
                    Err(standing) => self.conclude(Outcome::Refused(standing)),
                }
            }
            Wish::Settle {
                run,
                hold,
                outcome,
                entry,
            } => {
                let is_held =
                    document.open().contains_key(run) || document.unknown().contains_key(run);
                let is_known = is_held || document.was_settled(run);
                let is_cleared = document.cleared().is_some_and(|day| hold.day() < day);
                document.expire(self.now, run);
                if document.settle(run, hold, *outcome) {
                    let entry = entry.clone();
                    return self.put(document, entry);
                }
                if *outcome == document::Outcome::Withdrawn && !is_known {
                    // A reservation may still be on its way; it must find another version when it arrives.
                    return self.put(document, None);
                }
                let is_over = is_known || is_cleared;
                if is_over || !self.is_fresh {
                    return self.conclude(Outcome::Done);
                }
                Step::Find {
                    day: hold.day().to_string(),
                    run: run.clone(),
                }
            }
            Wish::Register { budgets, day } => {
                document.register(None, day);
                for budget in budgets {
                    document.register(budget.tag.as_ref(), day);
                }
                document.expire(self.now, "");
                self.put(document, None)
            }
            Wish::Clear { before } => {
                document.clear(before);
                self.put(document, None)
            }
        }
    }

    /// An end without a write must rest on what the store holds now, not on what was seen earlier.
    fn conclude(&self, outcome: Outcome) -> Step {
        match self.is_fresh {
            true => Step::Done(outcome),
            false => Step::Get,
        }
    }

    fn put(&mut self, mut document: Document, entry: Option<Entry>) -> Step {
        document.advance();
        self.only_reserves = false;
        self.sent = document.to_bytes();
        Step::Put {
            bytes: self.sent.clone(),
            expected: self.current.as_ref().map(|current| current.version.clone()),
            entry,
        }
    }

    /// A run that was sent without a reservation is counted, whatever the caps say.
    fn reserve_first(&mut self) -> Step {
        let Wish::Settle { run, hold, .. } = &self.wish else {
            return Step::Get;
        };
        let parsed = self.current.as_ref();
        let parsed = parsed.map(|current| Document::parse(&current.bytes));
        let mut document = match parsed {
            None => Document::default(),
            Some(Ok(document)) => document,
            Some(Err(error)) => return Step::Unusable(error),
        };
        // Without budgets there is nothing that could refuse.
        let _ = document.reserve(run, hold.clone(), &[]);
        let step = self.put(document, None);
        self.only_reserves = true;
        step
    }
}
