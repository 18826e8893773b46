//! The one integration binary: the built program, run as a shell would run it, and the rules of the
//! repository.
//!
//! One binary links once; `tidy` fails when a file here is not declared below.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and speaks by printing"
)]

mod agent_turns;
mod agents;
#[cfg(unix)]
mod batch;
mod completions;
mod config;
mod cost;
mod counts;
mod cycles;
mod doctor;
mod estimate;
mod estimate_files;
mod exit_codes;
mod fake_agent;
mod familiar;
mod flags;
mod fleet;
mod fleet_store;
mod help;
mod hostile;
mod hostile_agents;
mod input;
mod ledger;
mod ledger_loss;
mod library;
mod limits;
mod models;
mod money;
mod money_agents;
mod plan;
mod plan_agents;
mod plan_ask;
mod prompt_http;
mod readme;
mod result;
mod sandbox;
mod server;
mod service;
#[cfg(unix)]
mod sessions;
mod signals;
mod sources;
mod stores;
mod stress;
mod templates;
mod tidy;
