//! omk: run Kimi from scripts and CI, with exact costs up front, a hard budget and one ledger.
//!
//! This library asks a Kimi model over HTTP or through an agent, plans work, counts tokens exactly, prices them before
//! anything is sent, and records what was spent. The `omk` binary is [`cli`] on top of it.
//!
//! ```
//! use omk::catalog::Catalog;
//! use omk::llm::CostEstimator;
//!
//! let catalog = Catalog::builtin();
//! let estimator = CostEstimator::new(&catalog, "kimi-k3");
//! let tokens = estimator.count("How many tokens is this?");
//! let estimate = estimator.estimate(tokens, 0, 500);
//! assert_eq!(tokens, 6);
//! assert_eq!(estimate.usd().map(|usd| usd.exact_decimal()), Some("0.007518".to_string()));
//! ```
//!
//! [`run`] has an example that asks a model with a limit and a ledger.
//!
//! # Layers
//!
//! A module imports only from layers below its own, and no module holds a cycle of dependencies. Tests read every `use` and
//! check both.
//!
//! | layer | module | holds |
//! |---|---|---|
//! | 0 | [`runtime`] | atomic files, secrets, time, text; nothing about models or money |
//! | 1 | [`tokens`] | vocabularies, splitting, counting, usage figures; pure |
//! | 2 | [`catalog`] | models as data: names, vocabulary, window, rates and their sources; amounts of money |
//! | 2 | [`transport`] | a peer as bytes and lines: HTTP, and agents over stdio (Wire, ACP) |
//! | 3 | [`cost`] | estimates, records, the ledger, budgets, reports |
//! | 3 | [`plan`] | plans of any format: read, checked, printed; facts about a repository |
//! | 4 | [`llm`] | asking a model: clients, errors, retries, the price of a request, planners |
//! | 4 | [`fleet`] | one ledger and one budget for several machines: the protocol, etcd, git |
//! | 5 | [`run`] | one run: admit, ask, settle, record |
//! | 6 | [`batch`] | many prompts as one piece of work: input, resuming, pace |
//! | 7 | [`cli`] | flags, environment, terminals, exit codes |
//!
//! # Paths
//!
//! Where a prompt, a usage figure and a plan go, as the calls that they pass through. A test checks that each function exists
//! and calls the next one.
//!
//! ```text
//! prompt: cli::commands::prompt::run > cli::ask::run > run::run > llm::client::http::run > llm::client::http::attempt > llm::client::http::exchange > llm::client::http::chat::body
//! usage:  llm::client::http::exchange > llm::client::http::read > llm::client::http::chat::take > llm::client::http::chat::take_usage
//! usage:  run::on_event > run::account::report
//! plan:   cli::commands::plan::make::run > llm::planner::plan > plan::read::read_plan > plan::read::plan
//! ```
//!
//! `omk estimate` reads text through [`cli`], counts it with [`tokens`], prices it with [`catalog`] and [`llm::cost`], and prints
//! columns or one JSON document. It uses no network unless asked, and no file but its input, the config file and price files.
//!
//! # Rules, each checked by a lint or a test
//!
//! - One thread, no async runtime, `unsafe` in one file; no `unwrap`, `expect` or `panic!` outside tests.
//! - Five direct dependencies.
//! - One of each: one flag table for parser, help, manual and completions; one table of exit codes; one price list; one token
//!   counter.
//! - Money is whole numbers of 1e-12 USD. A floating-point number never takes part in a sum.
//!
//! # Files on disk
//!
//! | file | written by | read by |
//! |---|---|---|
//! | `$XDG_CONFIG_HOME/omk/config.json` | its owner | every command, as defaults of flags |
//! | `$XDG_CONFIG_HOME/omk/models.dev.json` | `omk models update` | every command that prices |
//! | `$XDG_CONFIG_HOME/omk/templates/` | its owner | `omk prompt -t`, `omk templates` |
//! | `$XDG_STATE_HOME/omk/ledger/` | `omk prompt`, `omk plan`, `omk cost` | the same, and `omk estimate` |
//! | `$XDG_STATE_HOME/omk/sessions/` | `omk prompt --session` | the same |
//! | `$XDG_CACHE_HOME/omk/agents.json` | commands that ask an agent | the same |
//! | `pushed` in the ledger | `omk cost push` | the same |
//! | `fleet` in the ledger | runs with `OMK_FLEET`, `omk cost sync` | the same |

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod runtime;

pub mod tokens;

pub mod catalog;

pub mod transport;

pub mod cost;

pub mod plan;

pub mod fleet;

pub mod llm;

pub mod run;

pub mod batch;

pub mod cli;
