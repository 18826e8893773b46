//! The commands: each file resolves its arguments, calls the floors below and prints.
//!
//! A command returns how the run ended. `Err` means that nothing but the failure is to be said, and
//! `cli::main` says it; `Ok` means that the command has printed its result, whatever the exit code.

mod completions;
mod cost;
mod estimate;
mod models;
pub(crate) mod plan;
mod prompt;

use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::parse::Invocation;
use crate::cli::flags::{Command, UsageError};

/// Runs a command.
pub(crate) fn run(mut invocation: Box<Invocation>, env: &mut Env) -> Result<Exit, Failure> {
    config::fill(&mut invocation, env)?;
    if invocation.low.quiet {
        env.output.silence();
    }
    match invocation.command {
        Command::Prompt => prompt::run(prompt::PromptArgs::resolve(*invocation, env)?, env),
        Command::Estimate => estimate::run(estimate::EstimateArgs::resolve(*invocation, env)?, env),
        Command::Plan => plan::make::run(plan::make::MakeArgs::resolve(*invocation, env)?, env),
        Command::PlanCheck => {
            plan::check::run(plan::check::CheckArgs::resolve(*invocation, env)?, env)
        }
        Command::PlanShow => plan::show::run(plan::show::ShowArgs::resolve(*invocation, env)?, env),
        Command::PlanDiff => plan::diff::run(plan::diff::DiffArgs::resolve(*invocation, env)?, env),
        Command::Models => models::run(models::ModelsArgs::resolve(invocation.low)?, env),
        Command::ModelsUpdate => {
            models::update(models::UpdateArgs::resolve(invocation.low, env)?, env)
        }
        command @ (Command::CostReport
        | Command::CostList
        | Command::CostShow
        | Command::CostExplain
        | Command::CostCheck
        | Command::CostRecover
        | Command::CostImport
        | Command::CostExport
        | Command::CostPush
        | Command::CostClear
        | Command::CostPath) => cost::run(command, invocation.low, env),
        Command::Completions => {
            completions::run(completions::CompletionsArgs::resolve(invocation.low)?, env)
        }
        // The parser turns this command into a request for help.
        Command::Help => Err(UsageError::new("help is not a command to run").into()),
    }
}
