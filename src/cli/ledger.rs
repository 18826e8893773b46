//! Where this user's ledger is, and which budgets hold over it.

use std::path::PathBuf;

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cost::budget::{Budget, parse_budgets};
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::sink::SinkError;
use crate::cost::tracker::CostTracker;

/// The directory of the ledger: `OMK_LEDGER`, else `omk/ledger` in the user's state directory.
pub(crate) fn path(env: &Env) -> Option<PathBuf> {
    let named = env.variable("OMK_LEDGER").map(PathBuf::from);
    named.or_else(|| {
        let state = env.base_directory("XDG_STATE_HOME", ".local/state")?;
        Some(state.join("ledger"))
    })
}

/// The ledger of this user. Nothing is read or made yet.
///
/// # Errors
///
/// There is no place for one.
pub(crate) fn open(env: &Env) -> Result<CostTracker<JsonFileCostSink>, SinkError> {
    match path(env) {
        Some(path) => Ok(CostTracker::new(JsonFileCostSink::new(path))),
        None => Err(
            SinkError::new("there is no directory for the ledger: HOME is not set")
                .hint("set HOME, XDG_STATE_HOME or OMK_LEDGER"),
        ),
    }
}

/// The budgets over several runs, as `OMK_BUDGET` has them.
///
/// # Errors
///
/// Exit 78, naming the part that is none.
pub(crate) fn budgets(env: &Env) -> Result<Vec<Budget>, Failure> {
    let wrong = |detail: String| {
        Failure::new(
            Exit::Config,
            "configuration",
            format!("OMK_BUDGET: {detail}"),
        )
        .hint("write it as OMK_BUDGET=5/day,40/month,tag:ci=1/day")
    };
    match env.variable("OMK_BUDGET") {
        None => Ok(Vec::new()),
        Some(text) => match text.to_str() {
            Some(text) => parse_budgets(text).map_err(|error| wrong(error.to_string())),
            None => Err(wrong("not UTF-8".to_string())),
        },
    }
}
