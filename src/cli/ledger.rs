//! Where this user's ledger is.

use crate::cli::env::Env;
use crate::cost::sink::{CostSink, InMemoryCostSink, SinkError};

/// The ledger of this user.
///
/// # Errors
///
/// There is no place for one.
pub(crate) fn open(_: &Env) -> Result<Box<dyn CostSink>, SinkError> {
    Ok(Box::new(InMemoryCostSink::default()))
}
