//! Layer 4: one budget and one ledger for many machines, kept in a store that a team already runs.
//!
//! Every run reserves its worst case in a small document before anything is sent, and replaces it by its cost when it is
//! over. The document is changed by conditional writes only, so any store that has those will do; there is no server of
//! ours. [`document`] is the data, [`protocol`] the state machine without IO, [`store`] what an engine must offer;
//! [`etcd`] and [`git`] are engines. [`member`] ties them to the ledger of one machine, which stays complete by itself.

pub mod address;
pub mod document;
pub mod etcd;
pub mod git;
pub mod member;
mod object;
pub mod outbox;
pub mod protocol;
#[cfg(test)]
mod simulation;
pub mod sink;
pub mod store;
