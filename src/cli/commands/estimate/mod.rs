//! `omk estimate`: tokens and price, before asking.
//!
//! `args` settles what was asked, `files` looks into directories, `text` counts and prices, `report` prints, `exact` asks the
//! service, `cut` cuts, `session` guesses what a working session may cost.

mod args;
mod cut;
mod exact;
mod files;
mod report;
mod session;
mod text;

use crate::cli::commands::estimate::args::{EstimateArgs, SessionArgs, Show, TextArgs};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::history;

pub(crate) use crate::cli::commands::estimate::args::SPEC;

/// The model when neither a flag nor a variable nor the config file names one.
pub(crate) const DEFAULT_MODEL: &str = "kimi-k3";

/// Counts and prices, or guesses a session.
pub(crate) fn run(args: EstimateArgs, env: &mut Env) -> Result<Exit, Failure> {
    match args {
        EstimateArgs::Text(args) => match text(&args, env) {
            // The document of an estimate that never came to be still is one.
            Err(failure) if args.json && !failure.is_silent() && !env.output.has_printed() => {
                env.output.failure(&failure);
                report::failed(&failure, env)?;
                Ok(failure.exit)
            }
            outcome => outcome,
        },
        EstimateArgs::Session(args) => session::run(&args, env),
    }
}

fn text(args: &TextArgs, env: &mut Env) -> Result<Exit, Failure> {
    let catalog = text::catalog(args, env)?;
    let (mut result, failure) = text::estimate(args, &catalog, env)?;
    if args.show == Show::Estimate {
        let models: Vec<&str> = result
            .estimates
            .iter()
            .map(|estimate| &*estimate.model.id)
            .collect();
        let expected = history::expected_outputs(&models, &args.tags, env);
        for (estimate, expected) in result.estimates.iter_mut().zip(expected) {
            estimate.history = expected;
        }
    }
    report::print(args, &result, failure.as_ref(), env)?;
    Ok(failure.map_or(Exit::Done, |failure| failure.exit))
}
