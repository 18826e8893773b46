//! The commands, each a module that owns its place in the table, its flags and its body; and the table, which is the list
//! of them.

#[cfg(unix)]
mod batch;
mod completions;
mod cost;
mod doctor;
mod estimate;
mod help;
mod models;
pub(crate) mod plan;
mod prompt;
pub(crate) mod sessions;
mod templates;

use crate::cli::config;
use crate::cli::deadline::Deadline;
use crate::cli::doc::page;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::Invocation;
use crate::cli::flags::table::{CommandGroup, Table};
use crate::runtime::signal;
use crate::runtime::text::escape_os;

/// Set by a batch for the processes that it starts.
pub(crate) const WORKER: &str = "OMK_BATCH_WORKER";

/// Every command, in the order of the documentation.
pub(crate) static TABLE: Table = Table {
    commands: &[
        &prompt::SPEC,
        #[cfg(unix)]
        &batch::SPEC,
        &sessions::LIST,
        &sessions::SHOW,
        &sessions::REMOVE,
        &plan::make::SPEC,
        &plan::check::SPEC,
        &plan::show::SPEC,
        &plan::diff::SPEC,
        &estimate::SPEC,
        &cost::report::SPEC,
        &cost::list::SPEC,
        &cost::show::SHOW,
        &cost::show::EXPLAIN,
        &cost::check::SPEC,
        &cost::budget::SPEC,
        &cost::settle::SPEC,
        &cost::reconcile::SPEC,
        &cost::recover::SPEC,
        &cost::import::SPEC,
        &cost::export::SPEC,
        &cost::push::SPEC,
        &cost::sync::SPEC,
        &cost::fleet::SPEC,
        &cost::clear::SPEC,
        &cost::verify::VERIFY,
        &cost::verify::REPAIR,
        &cost::PATH,
        &models::SPEC,
        &models::UPDATE,
        &templates::SPEC,
        &doctor::SPEC,
        &completions::SPEC,
        &help::SPEC,
    ],
    groups: &[
        CommandGroup {
            name: "cost",
            summary: "the ledger: what runs cost, budgets, settlement",
            default: &cost::report::SPEC,
        },
        CommandGroup {
            name: "sessions",
            summary: "conversations with services that omk keeps",
            default: &sessions::LIST,
        },
    ],
    pages: page::NAMES,
};

/// Runs a command.
pub(crate) fn run(mut invocation: Box<Invocation>, env: &mut Env) -> Result<Exit, Failure> {
    // `omk doctor` tells of a broken config file among other things, so it reads that itself.
    if !std::ptr::eq(invocation.command, &doctor::SPEC) {
        config::fill(&TABLE, &mut invocation, env)?;
    }
    env.deadline = Deadline::new(env.started, invocation.low.deadline);
    if invocation.low.quiet {
        env.output.silence();
    }
    // A worker of a batch was started in the directory.
    let is_there = env.variable(WORKER).is_some();
    if let Some(directory) = invocation.low.directory.as_ref().filter(|_| !is_there) {
        std::env::set_current_dir(directory).map_err(|error| {
            let detail = format!("--directory `{}`: {error}", escape_os(directory));
            Failure::new(Exit::NoInput, "input", detail)
        })?;
    }
    (invocation.command.run)(*invocation, env)
}

/// Takes signals from now on: for a command that costs money, which is settled before the program ends. Other commands end
/// at once, as any program does.
///
/// # Errors
///
/// The system refuses.
pub(crate) fn watch_signals() -> Result<(), Failure> {
    signal::watch().map_err(|error| {
        let detail = format!("signals cannot be caught: {error}");
        Failure::new(Exit::Failed, "system", detail)
    })
}

/// Arguments read against the table.
#[cfg(test)]
pub(crate) fn parse(
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<crate::cli::flags::parse::Parsed, crate::cli::flags::UsageError> {
    crate::cli::flags::parse::parse(&TABLE, args)
}
