//! Where this user's ledger is.

use std::path::PathBuf;

use crate::cli::env::Env;
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
            SinkError::new("there is no place for a ledger: HOME is not set")
                .hint("set HOME, XDG_STATE_HOME or OMK_LEDGER"),
        ),
    }
}
