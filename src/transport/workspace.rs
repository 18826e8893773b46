//! The user's files as an agent's tools reach them, where the agent hands them over to omk.
//!
//! Kimi Code does so when it is told that omk reads and writes text files. What may be read and written is decided before
//! a call gets here.

use std::fmt;
use std::io;
use std::path::Path;

use crate::runtime::file;

/// The largest text file that is handed over: it travels in one line, which an answer of that size would too.
const MAX_FILE_BYTES: u64 = 3 * 1024 * 1024;

/// Text files, on disk or on a tape. Paths are real: no link leads to what they name, which is what was decided on.
pub trait Workspace: fmt::Debug {
    /// Reads a text file as a whole. `lossy` replaces what is not UTF-8, for a text that is only shown.
    ///
    /// # Errors
    ///
    /// It cannot be read, is not a regular file, is larger than 3 MiB, or is not UTF-8 and `lossy` is false.
    fn read(&mut self, path: &str, lossy: bool) -> io::Result<String>;

    /// Writes a text file in place of what it holds. Its directory must exist.
    ///
    /// # Errors
    ///
    /// It cannot be written. What it holds is then as after any failed write.
    fn write(&mut self, path: &str, content: &str) -> io::Result<()>;
}

/// The files on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Workspace for Disk {
    fn read(&mut self, path: &str, lossy: bool) -> io::Result<String> {
        let bytes = file::read_plain(Path::new(path), MAX_FILE_BYTES)?;
        match lossy {
            true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            false => String::from_utf8(bytes).map_err(io::Error::other),
        }
    }

    fn write(&mut self, path: &str, content: &str) -> io::Result<()> {
        file::replace_plain(Path::new(path), content.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    #[test]
    fn files_are_read_as_text_and_written_as_given() {
        let directory = std::env::temp_dir().join(format!("omk-workspace-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let directory = fs::canonicalize(directory).unwrap();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_string();
        let mut disk = Disk;
        disk.write(&path("a"), "one\n").unwrap();
        disk.write(&path("a"), "é").unwrap();
        assert_eq!(disk.read(&path("a"), false).unwrap(), "é");
        let missing = disk.read(&path("b"), true).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(disk.write(&path("no/a"), "").is_err());
        // Shown it may be replaced; written back it would be lost.
        fs::write(path("latin"), b"caf\xe9").unwrap();
        assert_eq!(disk.read(&path("latin"), true).unwrap(), "caf\u{fffd}");
        assert!(disk.read(&path("latin"), false).is_err());
        let huge = fs::File::create(path("huge")).unwrap();
        huge.set_len(MAX_FILE_BYTES + 1).unwrap();
        for (name, why) in [
            ("huge", "it is larger than 3 MiB"),
            (".", "it is not a regular file"),
        ] {
            let error = disk.read(&path(name), true).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
