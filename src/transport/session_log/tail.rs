//! A file that grows, followed line by line.

use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use crate::runtime::file;

/// The longest line of a log that is kept: a prompt or an answer of 5 MB stands in one.
const MAX_LOG_LINE: usize = 16 * 1024 * 1024;
/// Bytes of a log that are read at once.
const PIECE: usize = 256 * 1024;
/// Bytes before the place where a log was read to that have to stay as they are.
const WITNESS: usize = 4 * 1024;

/// A file that grows, read from where it was to where it is.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
    /// The line that is being read is too long to be kept.
    skips: bool,
    /// There was more than there was time to read.
    behind: bool,
    /// The last bytes before the offset, as they were read: they stay as they are in a file that is only added to.
    seen: Vec<u8>,
}

impl Tail {
    /// From an offset on; 0 for a file that is not there yet.
    pub fn new(path: impl Into<PathBuf>, offset: u64) -> Tail {
        Tail {
            path: path.into(),
            offset,
            partial: Vec::new(),
            skips: false,
            behind: false,
            seen: Vec::new(),
        }
    }

    /// From the file's present end on, so that only what comes later is seen.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be looked at.
    pub fn at_end(path: impl Into<PathBuf>) -> io::Result<Tail> {
        let path = path.into();
        let offset = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Tail::new(path, offset))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives every line that has become whole since the last call; a last one without its end waits. A line of more than 16
    /// MiB is left out: no figure stands in one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a regular file, or was changed other than by adding to it: then nothing in it can be
    /// trusted any more. One that is not there yet is empty.
    pub fn read(&mut self, on_line: impl FnMut(&[u8])) -> io::Result<()> {
        self.read_until(None, on_line)
    }

    /// Whether the last call left something for want of time.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Bytes that are kept of a line without its end.
    pub(super) fn unfinished(&self) -> usize {
        self.partial.len()
    }

    /// The same until a moment, past which the rest is left to the next call.
    pub(super) fn read_until(
        &mut self,
        until: Option<Instant>,
        mut on_line: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut source = match file::Source::open_regular(&self.path, None) {
            Ok(source) => source,
            Err(e) if self.offset > 0 => {
                let message = format!("{} was read before: {e}", self.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        // What is added while this reads is the next call's.
        let end = source.file().metadata()?.len();
        let seen = u64::try_from(self.seen.len()).unwrap_or(0);
        if end < self.offset || !self.is_as_seen(&mut source, seen)? {
            let how = if end < self.offset {
                "become shorter"
            } else {
                "been changed where it was already read"
            };
            let message = format!("{} has {how}", self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut piece = vec![0; PIECE];
        while self.offset < end {
            let most = usize::try_from(end - self.offset)
                .unwrap_or(PIECE)
                .min(PIECE);
            let count = source.read(piece.get_mut(..most).unwrap_or_default())?;
            if count == 0 {
                break;
            }
            let read = piece.get(..count).unwrap_or_default();
            self.offset += u64::try_from(count).unwrap_or(0);
            self.remember(read);
            self.cut(read, &mut on_line);
            if until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
        }
        self.behind = self.offset < end;
        Ok(())
    }

    /// Whether the bytes before the offset are still those that were read. Leaves the file at the offset.
    fn is_as_seen(&self, source: &mut file::Source, seen: u64) -> io::Result<bool> {
        source.seek(self.offset.saturating_sub(seen))?;
        let mut now = vec![0; self.seen.len()];
        match source.read_exact(&mut now) {
            Ok(()) => Ok(now == self.seen),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Keeps the last bytes that were read.
    fn remember(&mut self, read: &[u8]) {
        self.seen.extend_from_slice(read);
        let surplus = self.seen.len().saturating_sub(WITNESS);
        self.seen.drain(..surplus);
    }

    /// Gives the lines that end in these bytes, and keeps the rest.
    fn cut(&mut self, read: &[u8], on_line: &mut impl FnMut(&[u8])) {
        let mut parts = read.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let has_end = parts.peek().is_some();
            self.skips |= self.partial.len() + part.len() > MAX_LOG_LINE;
            match (self.skips, self.partial.is_empty(), has_end) {
                (true, ..) => self.partial = Vec::new(),
                (false, true, true) if part.is_empty() => {}
                (false, true, true) => on_line(part),
                (false, ..) => {
                    self.partial.extend_from_slice(part);
                    if has_end {
                        on_line(&self.partial);
                        self.partial.clear();
                    }
                }
            }
            if has_end {
                self.skips = false;
            }
        }
    }
}
