//! omk: the money-honest command line for Kimi.
//!
//! Exact token counts and honest prices before asking; a person at a shell uses the `omk` binary, a
//! program uses this library.
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
//! | 3 | [`cost`] | what work should cost |
//! | 3 | [`llm`] | asking a model: clients, types, errors, retries, the price of a request; plans: asked for, parsed, checked |
//! | 4 | [`cli`] | flags, environment, terminals, exit codes |
//!
//! Data flows one way. `omk estimate`: arguments and text come in through [`cli`], are counted by
//! [`tokens`], priced by [`catalog`] and [`llm::cost`], and leave as columns or one JSON document.
//! It touches no network unless asked, and no file but its input, the config file and price files.
//!
//! `omk plan check`, `show` and `diff` read a plan with [`llm::parser`] or [`llm::check`] and print it or what is wrong with
//! it; they touch no network either.
//!
//! The clients of [`llm::client`] and the agents of [`transport`] have no command yet: they are what
//! `omk prompt` and `omk plan` will stand on, and are usable as a library.
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

pub mod llm;

pub mod cli;
