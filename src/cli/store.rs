//! Small files of omk's own: what was fetched, found out or begun.
//!
//! Written whole or not at all, for this user alone, in a directory that is made when it is missing. It refuses to read:
//! what a missing or broken file means differs from one to the next.

use std::fs::DirBuilder;
use std::io;
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::runtime::atomic::atomic_write;
use crate::runtime::text::escape_os;

/// Writes a file, and before it the directory when there is none.
///
/// # Errors
///
/// Exit 74, naming what could not be written; the file is then as it was.
pub(crate) fn store(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |detail: String| Failure::new(Exit::Io, "output", detail);
    if let Some(directory) = path.parent() {
        create_directory(directory).map_err(|error| {
            failed(format!("cannot create `{}`: {error}", escape_os(directory)))
        })?;
    }
    atomic_write(path, bytes).map_err(|error| failed(format!("cannot {error}")))
}

/// Creates it for this user alone; one that is there stays as it is.
fn create_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}
