//! omk: the money-honest command line for Kimi.
//!
//! Asks a Kimi model over HTTP or through its agents, plans work, counts tokens exactly and prices them before
//! asking, and keeps a ledger of what it did cost. A person at a shell uses the `omk` binary, a program uses
//! this library.
//!
//! ```
//! use omk::catalog::Catalog;
//! use omk::llm::cost::CostEstimator;
//!
//! let catalog = Catalog::builtin();
//! let estimator = CostEstimator::new(&catalog, "kimi-k3");
//! let tokens = estimator.count("How many tokens is this?");
//! let estimate = estimator.estimate(tokens, 0, 500);
//! assert_eq!(tokens, 6);
//! assert_eq!(estimate.usd().map(|usd| usd.exact_decimal()), Some("0.007518".to_string()));
//! ```
//!
//! # The house
//!
//! A module imports only from floors below its own; a test reads every `use` and holds this table.
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 0 | [`runtime`] | atomic files, secrets, time, safe text; no domain word |
//! | 1 | [`tokens`] | vocabularies, splitting, counting; pure |
//! | 2 | [`catalog`] | models as data: names, vocabulary, window, rates and where they come from |
//! | 2 | [`transport`] | a peer as bytes and lines: HTTP, and agents over stdio (Wire, ACP) |
//! | 3 | [`cost`] | what work should cost and what it did cost: records, the ledger, budgets |
//! | 3 | [`plan`] | plans of any format: read, checked, printed; the facts of a repository |
//! | 4 | [`llm`] | asking a model: clients, errors, retries, the price of a request, planners |
//! | 4 | [`fleet`] | one ledger and one budget for many machines: the protocol, etcd, git |
//! | 5 | [`cli`] | flags, environment, terminals, exit codes |
//!
//! Data flows one way. `omk estimate`: arguments and text come in through [`cli`], are counted by
//! [`tokens`], priced by [`catalog`] and [`llm::cost`], and leave as columns or one JSON document.
//! It touches no network unless asked, and no file but its input, the config file and price files.
//!
//! `omk plan check`, `show` and `diff` read a plan with [`plan::read`] or [`plan::check`] and print it or what is wrong with
//! it; they touch no network either.
//!
//! `omk prompt` and `omk plan`: arguments and text come in through [`cli`], which settles whom to ask and within which
//! limits, and writes an open record with the worst case into the ledger of [`cost`]; a client of [`llm::client`] drives a
//! state machine of [`transport`] over a link; what happens on the way goes to the terminal and into the record; the end
//! settles it. [`llm::planner`] stands between the two for a plan: it asks, parses, and asks once more with what was wrong.
//!
//! # Rules of the house, each held by a lint or a test
//!
//! - One thread, no async runtime, no `unsafe`; no `unwrap`, `expect` or `panic!` outside tests.
//! - Five direct dependencies.
//! - One of each: one flag table for parser, help, man page and completions; one table of exit
//!   codes; one price list; one token counter.
//! - Money is whole numbers of 1e-12 USD; a floating-point number never takes part in a sum.
//!
//! # Files on disk
//!
//! | file | written by | read by |
//! |---|---|---|
//! | `$XDG_CONFIG_HOME/omk/config.json` | its owner | every command, as defaults of flags |
//! | `$XDG_CONFIG_HOME/omk/models.dev.json` | `omk models update` | every command that prices |
//! | `$XDG_STATE_HOME/omk/ledger/` | `omk prompt`, `omk plan`, `omk cost` | the same, and `omk estimate` |
//! | `$XDG_STATE_HOME/omk/sessions/` | `omk prompt --session` | the same |
//! | `$XDG_CACHE_HOME/omk/agents.json` | whatever asks an agent | the same |
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

pub mod cli;
