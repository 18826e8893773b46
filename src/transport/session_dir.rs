//! Where an agent keeps a session on disk.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Longest session id: theirs have 44 characters.
const MAX_ID: usize = 128;

/// Whether a session's id can be given to an agent and looked for on disk: kimi-cli takes `../../etc/x` and makes it.
pub fn is_session_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= MAX_ID && id.chars().all(plain) && !id.starts_with(['.', '-'])
}

/// A session's directory below `sessions`, whatever hash its parent's name holds: `sessions/*/<session>`. Works for both
/// agents. `None` if there is none, or more than one, as kimi-cli counts ids by directory.
///
/// # Errors
///
/// The directory is there and cannot be read.
pub fn find_session(sessions: &Path, session: &str) -> io::Result<Option<PathBuf>> {
    if !is_session_id(session) {
        return Ok(None);
    }
    let mut found = children(sessions)?
        .into_iter()
        .map(|parent| parent.join(session))
        .filter(|path| path.is_dir());
    let first = found.next();
    Ok(first.filter(|_| found.next().is_none()))
}

/// The logs in a session's directory, the main agent's first: `agents/*/wire.jsonl` (Kimi Code), or `wire.jsonl` and
/// `subagents/*/wire.jsonl` (kimi-cli). Agents come while a turn runs, so look again.
///
/// # Errors
///
/// A directory is there and cannot be read.
pub fn logs(session_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut agents = children(&session_dir.join("agents"))?;
    agents.sort_by_key(|path| (!path.ends_with("main"), path.clone()));
    let mut others = children(&session_dir.join("subagents"))?;
    others.sort();
    let directories = [vec![session_dir.to_path_buf()], agents, others].concat();
    let logs = directories.into_iter().map(|path| path.join("wire.jsonl"));
    Ok(logs.filter(|path| path.is_file()).collect())
}

/// What is in a directory; nothing if it is not there.
fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    entries.map(|entry| entry.map(|e| e.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_leave_the_directory_are_no_ids() {
        for id in ["session_4d8d6ac5-1634", "nightly", "a.b"] {
            assert!(is_session_id(id), "{id}");
        }
        let long = "x".repeat(MAX_ID + 1);
        for id in [
            "",
            "..",
            "../x",
            "a/b",
            "-rf",
            "a b",
            ".hidden",
            "é",
            long.as_str(),
        ] {
            assert!(!is_session_id(id), "{id}");
        }
    }
}
