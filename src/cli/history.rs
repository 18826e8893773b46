//! How long the answers of a model were so far, from the ledger's newest runs.
//!
//! For whoever is about to ask: an estimate, and a prompt before it is sent. It must not be felt, so only so much is read as
//! some milliseconds allow, and nothing when there is no ledger. It refuses to fail: an estimate without a past is an
//! estimate, and what is wrong with a ledger is told by the commands that are about it.

use crate::cli::env::Env;
use crate::cli::ledger;
use crate::cost::budget::TagFilter;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::history::{Expected, History};

/// At most so many single files are read; segments have the rest.
const MOST_FILES: usize = 64;

/// What to expect of an answer of each of these models, by runs that have these labels; `None` for one of which the ledger
/// knows too little.
pub(crate) fn expected_outputs(
    models: &[&str],
    tags: &[TagFilter],
    env: &Env,
) -> Vec<Option<Expected>> {
    let mut histories: Vec<History> = models
        .iter()
        .map(|model| History::new(*model, tags.to_vec()))
        .collect();
    if let Some(path) = ledger::path(env)
        && path.is_dir()
    {
        // What was read before an error counts all the same.
        let _ = JsonFileCostSink::new(path).recent(MOST_FILES, &mut |run| {
            for history in &mut histories {
                history.add(run);
            }
        });
    }
    histories.iter().map(History::expected).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    #[test]
    fn without_a_ledger_there_is_no_past_and_none_is_made() {
        let path = std::env::temp_dir().join(format!("omk-no-ledger-{}", std::process::id()));
        let (env, ..) = world(&[("OMK_LEDGER", &path.to_string_lossy())], b"");
        assert_eq!(
            expected_outputs(&["kimi-k3", "gpt-5.2"], &[], &env),
            [None, None]
        );
        assert!(!path.exists());
    }
}
