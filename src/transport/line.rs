//! Lines out of a stream of bytes, bounded in length and patient.
//!
//! A read that times out in the middle of a line loses nothing: the bytes wait here for the rest. A line of several
//! megabytes costs what its bytes cost, because no byte is looked at twice. Refuses lines over a limit with an error of
//! its own, so that a peer that never ends one cannot eat the memory.

use std::fmt;
use std::io;
use std::io::Read;

/// Bytes asked for at a time.
const CHUNK: usize = 64 * 1024;

/// What there is to be had of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A line, without the line feed.
    Line(&'a [u8]),
    /// The bytes after the last line feed of a stream that has ended. Comes once, before [`Frame::Eof`].
    Unfinished(&'a [u8]),
    /// Nothing more for now: the stream's own timeout is over, or it does not block and has nothing.
    Pending,
    /// The stream has ended.
    Eof,
}

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The line is longer than allowed. Every later call says so again.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// Reading failed.
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::TooLong { limit } => write!(f, "line too long: more than {limit} bytes"),
            LineError::Io(error) => write!(f, "read: {error}"),
        }
    }
}

impl std::error::Error for LineError {}

/// Cuts a stream into lines.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    source: R,
    limit: usize,
    buffer: Vec<u8>,
    /// Where the bytes begin that have not been given out.
    start: usize,
    /// Up to where they hold no line feed.
    searched: usize,
    chunk: Box<[u8]>,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// Lines of up to `limit` bytes out of `source`.
    pub(super) fn new(source: R, limit: usize) -> LineReader<R> {
        LineReader {
            source,
            limit,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            chunk: vec![0; CHUNK].into_boxed_slice(),
            ended: false,
        }
    }

    /// The stream, to set its timeout.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    /// Changes the longest line.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next line or rest of one, without reading: for a stream that counts as ended.
    ///
    /// # Errors
    ///
    /// The line is too long.
    pub(super) fn next_buffered(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.ended = true;
        match self.next_frame()? {
            Frame::Line(line) | Frame::Unfinished(line) => Ok(Some(line)),
            Frame::Pending | Frame::Eof => Ok(None),
        }
    }

    /// The next line, from what has been read already or by reading more.
    ///
    /// # Errors
    ///
    /// The line is too long, or reading failed other than by a timeout.
    pub(super) fn next_frame(&mut self) -> Result<Frame<'_>, LineError> {
        loop {
            if let Some(end) = self.find_end()? {
                let start = std::mem::replace(&mut self.start, end + 1);
                return Ok(Frame::Line(self.buffer.get(start..end).unwrap_or_default()));
            }
            if self.ended {
                let start = std::mem::replace(&mut self.start, self.buffer.len());
                return Ok(match self.buffer.get(start..) {
                    Some(rest) if !rest.is_empty() => Frame::Unfinished(rest),
                    _ => Frame::Eof,
                });
            }
            if !self.fill()? {
                return Ok(Frame::Pending);
            }
        }
    }

    /// Whether a whole line waits, so that [`LineReader::next_frame`] will not read.
    pub(super) fn has_line(&mut self) -> bool {
        !matches!(self.find_end(), Ok(None))
    }

    /// Reads once. Says whether the stream had something to tell, be it its end.
    ///
    /// # Errors
    ///
    /// Reading failed other than by a timeout.
    pub(super) fn fill(&mut self) -> Result<bool, LineError> {
        self.forget_given_out();
        loop {
            match self.source.read(&mut self.chunk) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(true);
                }
                Ok(count) => {
                    self.buffer
                        .extend_from_slice(self.chunk.get(..count).unwrap_or_default());
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(false);
                }
                Err(e) => return Err(LineError::Io(e)),
            }
        }
    }

    /// Bytes read and not given out.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// Where the first line ends, if its end has been read.
    fn find_end(&mut self) -> Result<Option<usize>, LineError> {
        self.searched = self.searched.max(self.start);
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        // The end is kept as "searched up to here", so that asking twice finds it twice.
        self.searched += end.unwrap_or(rest.len());
        if self.searched.saturating_sub(self.start) > self.limit {
            return Err(LineError::TooLong { limit: self.limit });
        }
        Ok(end.map(|_| self.searched))
    }

    /// Makes room. Happens once for each read at most, and moves only the bytes of one unfinished line.
    fn forget_given_out(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > 16 * CHUNK {
                self.buffer = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// Gives out one piece for each read; `None` is a timeout.
    struct Pieces(VecDeque<Option<Vec<u8>>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(None) => Err(io::ErrorKind::WouldBlock.into()),
                Some(Some(piece)) => {
                    let count = piece.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&piece[..count]);
                    if count < piece.len() {
                        self.0.push_front(Some(piece[count..].to_vec()));
                    }
                    Ok(count)
                }
            }
        }
    }

    fn reader(pieces: &[Option<&str>], limit: usize) -> LineReader<Pieces> {
        let pieces = pieces
            .iter()
            .map(|piece| piece.map(|text| text.as_bytes().to_vec()));
        LineReader::new(Pieces(pieces.collect()), limit)
    }

    #[test]
    fn a_timeout_in_mid_line_loses_nothing() {
        let mut lines = reader(&[Some("one\ntw"), None, None, Some("o\r\n\nend")], 100);
        assert_eq!(lines.next_frame().unwrap(), Frame::Line(b"one"));
        assert_eq!(lines.next_frame().unwrap(), Frame::Pending);
        assert_eq!(lines.buffered(), 2);
        assert_eq!(lines.next_frame().unwrap(), Frame::Pending);
        assert!(!lines.has_line());
        assert_eq!(lines.next_frame().unwrap(), Frame::Line(b"two\r"));
        assert!(lines.has_line());
        assert_eq!(lines.next_frame().unwrap(), Frame::Line(b""));
        assert_eq!(lines.next_frame().unwrap(), Frame::Unfinished(b"end"));
        assert_eq!(lines.next_frame().unwrap(), Frame::Eof);
        assert_eq!(lines.next_frame().unwrap(), Frame::Eof);
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_with_and_without_its_end() {
        for text in ["12345\n", "12345"] {
            let mut lines = reader(&[Some("1234\n"), Some(text)], 4);
            assert_eq!(lines.next_frame().unwrap(), Frame::Line(b"1234"));
            for _ in 0..2 {
                let error = lines.next_frame().unwrap_err();
                assert_eq!(error.to_string(), "line too long: more than 4 bytes");
            }
        }
    }

    #[test]
    fn a_long_line_is_searched_once() {
        let long = "x".repeat(8 * 1024 * 1024);
        let mut lines = reader(&[Some(&long), None, Some("\nnext\n")], 16 * 1024 * 1024);
        assert_eq!(lines.next_frame().unwrap(), Frame::Pending);
        assert_eq!(lines.searched, long.len());
        assert_eq!(lines.next_frame().unwrap(), Frame::Line(long.as_bytes()));
        assert_eq!(lines.next_frame().unwrap(), Frame::Line(b"next"));
        assert_eq!(lines.next_frame().unwrap(), Frame::Eof);
        assert!(lines.buffer.capacity() < 16 * CHUNK);
    }

    #[test]
    fn other_failures_are_told() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let error = LineReader::new(Broken, 9).next_frame().unwrap_err();
        assert!(matches!(error, LineError::Io(_)), "{error}");
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_lines_are_the_same(
            pieces in proptest::collection::vec(proptest::option::of("[ab\n]{1,8}"), 0..12)
        ) {
            let all: String = pieces.iter().flatten().map(String::as_str).collect();
            let pieces: Vec<_> = pieces.iter().map(Option::as_deref).collect();
            let mut lines = reader(&pieces, 1000);
            let mut seen = String::new();
            loop {
                match lines.next_frame().unwrap() {
                    Frame::Line(line) => {
                        seen.push_str(std::str::from_utf8(line).unwrap());
                        seen.push('\n');
                    }
                    Frame::Unfinished(rest) => seen.push_str(std::str::from_utf8(rest).unwrap()),
                    Frame::Pending => {}
                    Frame::Eof => break,
                }
            }
            prop_assert_eq!(seen, all);
        }
    }
}
