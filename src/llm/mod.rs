//! Floor 4: ask a model, understand the answer.
//!
//! Never imports `cost`: a client reports tokens, and what becomes of them in the ledger is for the command line to join.

pub mod client;
pub mod cost;
pub mod error;
pub mod parser;
pub mod planner;
pub mod prompt;
pub mod retry;
pub mod schema;
pub mod secrets;
pub mod types;
