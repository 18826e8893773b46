//! Text from files and standard input: bytes until proven UTF-8, in pieces of bounded size.
//!
//! A bad byte or a NUL is an error that names its offset; with `--lossy` both become U+FFFD,
//! exactly as if the whole input had been repaired at once. Nothing is skipped or cut, and nothing
//! is stripped: a byte order mark and every kind of line end are text. Memory does not grow with
//! the input.
//!
//! The wait for standard input is bounded by the deadline without a thread, and a signal ends it. On
//! Linux a pipe is opened a second time without blocking, so that another reader of it cannot make
//! us wait for what it took.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::ops::ControlFlow;
#[cfg(unix)]
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::deadline::Deadline;
use crate::cli::env::{Env, Stdin};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::runtime::file;
use crate::runtime::signal;
use crate::runtime::text::escape_os;

/// The most bytes read at once.
const PIECE: usize = 256 * 1024;

/// How long a pipe may be silent before a person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where one input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Its name in results: that of the file as it was given, or `-`.
    pub(crate) fn name(&self) -> String {
        match self {
            Source::Stdin => "-".to_string(),
            Source::File(path) => escape_os(path),
        }
    }

    fn described(&self) -> String {
        match self {
            Source::Stdin => "standard input".to_string(),
            Source::File(path) => format!("`{}`", escape_os(path)),
        }
    }
}

/// Takes a piece of text; an error ends the reading.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&str) -> Result<(), Failure>;

/// Reads inputs one after the other through one buffer.
pub(crate) struct TextReader {
    buffer: Vec<u8>,
    lossy: bool,
    deadline: Deadline,
    progress: Option<Progress>,
}

/// How far reading many bytes is, for whoever watches the terminal.
struct Progress {
    started: Instant,
    /// When the line is drawn the next time.
    next: Instant,
    read: u64,
    total: u64,
}

impl Progress {
    /// What takes less time than this shows no progress.
    const PATIENCE: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(200);

    fn tick(&mut self, count: usize, output: &mut Output) {
        self.read = self.read.saturating_add(count as u64);
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Progress::INTERVAL;
            output.status(Some(&self.line(now.duration_since(self.started))));
        }
    }

    /// `omk: [#####.....] 512 MB of 1.0 GB, 7 s left`.
    fn line(&self, elapsed: Duration) -> String {
        let (read, total) = (
            u128::from(self.read),
            u128::from(self.total.max(self.read).max(1)),
        );
        let tenths = usize::try_from(read * 10 / total).unwrap_or(10);
        let left = elapsed.as_millis() * (total - read) / read.max(1) / 1000;
        format!(
            "omk: [{}{}] {} of {}, {left} s left",
            "#".repeat(tenths),
            ".".repeat(10 - tenths.min(10)),
            size(self.read),
            size(self.total.max(self.read))
        )
    }
}

/// A number of bytes for people: `512 B`, `1.5 kB`, `2.0 GB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

impl TextReader {
    /// A reader that repairs bad bytes when `lossy`, and gives up at `deadline`.
    pub(crate) fn new(lossy: bool, deadline: Deadline) -> TextReader {
        TextReader {
            buffer: vec![0; PIECE],
            lossy,
            deadline,
            progress: None,
        }
    }

    /// The same reader, which shows on a terminal how far it is, of `total` bytes, when that takes longer than a second.
    pub(crate) fn showing_progress(self, total: u64) -> TextReader {
        let started = Instant::now();
        let progress = io::stderr().is_terminal().then(|| Progress {
            started,
            next: started + Progress::PATIENCE,
            read: 0,
            total,
        });
        TextReader { progress, ..self }
    }

    /// Hands the whole text of `source` to `sink` piece by piece, in order, and returns its length
    /// in bytes as read.
    ///
    /// # Errors
    ///
    /// Exit 66 when it cannot be opened or is a directory, 65 when it is not text, 74 when reading
    /// fails half-way, 124 when the deadline runs out; and whatever the sink returns. Pieces before
    /// the error have been handed over.
    pub(crate) fn read(
        &mut self,
        source: &Source,
        env: &mut Env,
        sink: Sink<'_>,
    ) -> Result<u64, Failure> {
        let name = source.described();
        match source {
            Source::Stdin => {
                let mut input = Waiting::new(&mut env.stdin, &mut env.output, self.deadline);
                self.decode(&mut |buffer| input.read(buffer), &name, sink)
            }
            Source::File(path) => {
                // What cannot be opened at all is no input, whatever the reason.
                let deadline = self.deadline;
                let mut file =
                    file::Source::open(path, deadline.until()).map_err(|error| Failure {
                        exit: Exit::NoInput,
                        ..unreadable(&name, &error)
                    })?;
                let phase = format!("reading {name}");
                let mut progress = self.progress.take();
                let mut read = |buffer: &mut [u8]| {
                    deadline.check(&phase)?;
                    let count = file.read(buffer).map_err(|error| {
                        stopped(&error, &name, deadline)
                            .unwrap_or_else(|| unreadable(&name, &error))
                    })?;
                    if let Some(progress) = &mut progress {
                        progress.tick(count, &mut env.output);
                    }
                    Ok(count)
                };
                let decoded = self.decode(&mut read, &name, sink);
                self.progress = progress;
                decoded
            }
        }
    }

    fn decode(
        &mut self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Failure>,
        name: &str,
        sink: Sink<'_>,
    ) -> Result<u64, Failure> {
        // Bytes before this offset of the input have been handed over; `kept` bytes after it open
        // the buffer.
        let mut offset: u64 = 0;
        let mut kept = 0;
        let mut hint = None;
        loop {
            let count = read(self.buffer.get_mut(kept..).unwrap_or_default())?;
            let filled = self.buffer.get(..kept + count).unwrap_or_default();
            // A character that is cut at the end waits for its rest, unless there is none.
            let whole = if count == 0 {
                filled.len()
            } else {
                filled.len() - cut_character(filled)
            };
            let (piece, rest) = filled.split_at_checked(whole).unwrap_or((filled, &[]));
            if offset == 0 {
                hint = binary_hint(piece);
            }
            if !piece.is_empty() {
                hand_over(piece, offset, self.lossy, name, sink).map_err(|failure| {
                    match (hint, failure.exit) {
                        (Some(hint), Exit::BadInput) => Failure {
                            hints: vec![hint.to_string()],
                            ..failure
                        },
                        _ => failure,
                    }
                })?;
            }
            offset += piece.len() as u64;
            if count == 0 {
                return Ok(offset);
            }
            kept = rest.len();
            self.buffer.copy_within(whole..whole + kept, 0);
        }
    }
}

/// Copies standard input as it is.
///
/// # Errors
///
/// Exit 74 when it cannot be read or `to` cannot be written, 124 when the deadline runs out.
pub(crate) fn copy_stdin(to: &mut File, deadline: Deadline, env: &mut Env) -> Result<(), Failure> {
    use std::io::Write;

    let mut buffer = vec![0; PIECE];
    let mut input = Waiting::new(&mut env.stdin, &mut env.output, deadline);
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let piece = buffer.get(..count).unwrap_or_default();
        to.write_all(piece).map_err(|error| {
            let detail = format!("standard input cannot be kept in a file: {error}");
            Failure::new(Exit::Io, "output", detail)
        })?;
    }
}

/// What to do with a file that is no UTF-8 text, by the bytes that it begins with.
fn binary_hint(start: &[u8]) -> Option<&'static str> {
    const PICTURES: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF"];
    let begins = |with: &[u8]| start.starts_with(with);
    let every_other_is_nul = || {
        let pairs = start.get(..64).unwrap_or(start).chunks_exact(2);
        let nul = |place: usize| {
            pairs
                .clone()
                .filter(|pair| pair.get(place) == Some(&0))
                .count()
        };
        pairs.len() > 1 && nul(0).max(nul(1)) * 2 > pairs.len()
    };
    if begins(b"%PDF-") {
        Some("this is a PDF: `pdftotext FILE -` prints its text")
    } else if PICTURES.into_iter().any(begins) {
        Some("this is a picture: `omk prompt --image FILE` sends it")
    } else if begins(b"\xff\xfe") || begins(b"\xfe\xff") || every_other_is_nul() {
        Some("this looks like UTF-16: `iconv -f UTF-16 -t UTF-8 FILE` converts it")
    } else if begins(b"\x1f\x8b") {
        Some("this is compressed: `gzip -dc FILE` prints its content")
    } else if is_gbk(start) {
        Some(
            "this looks like GBK: `iconv -f GBK -t UTF-8 FILE` converts it; --lossy replaces bad bytes by U+FFFD",
        )
    } else {
        None
    }
}

/// Is every byte ASCII text or one of a pair as GBK has them, and are there pairs? GB2312's characters alone: a picture has
/// others before long.
fn is_gbk(start: &[u8]) -> bool {
    let mut bytes = start.get(..4096).unwrap_or(start).iter();
    let mut pairs = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            0 => return false,
            0..=0x7f => {}
            0xa1..=0xf7 => match bytes.next() {
                Some(0xa1..=0xfe) => pairs += 1,
                // The last byte may be the first of a pair that was cut.
                None => break,
                Some(_) => return false,
            },
            _ => return false,
        }
    }
    pairs > 1
}

/// The number of bytes at the end, at most three, that begin a character and do not finish it.
fn cut_character(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back + 1 { back + 1 } else { 0 };
    }
    0
}

/// Checks or repairs one piece that ends at the end of a character, and hands it over.
fn hand_over(
    piece: &[u8],
    offset: u64,
    lossy: bool,
    name: &str,
    sink: Sink<'_>,
) -> Result<(), Failure> {
    let checked = std::str::from_utf8(piece);
    let valid = checked.map_or_else(|error| error.valid_up_to(), str::len);
    // `contains` searches by the word; `position`, by the byte, is only for the error.
    let text = piece.get(..valid).unwrap_or(piece);
    let nul = if text.contains(&0) {
        text.iter().position(|byte| *byte == 0)
    } else {
        None
    };
    match (checked, nul) {
        (Ok(text), None) => sink(text),
        _ if lossy => sink(&String::from_utf8_lossy(piece).replace('\0', "\u{fffd}")),
        (_, Some(nul)) => {
            let offset = offset + nul as u64;
            Err(bad(format!(
                "{name} has a NUL at offset {offset}; services refuse it"
            )))
        }
        (Err(error), None) => {
            let byte = piece.get(valid).copied().unwrap_or_default();
            let offset = offset + valid as u64;
            let what = match error.error_len() {
                Some(_) => format!("byte 0x{byte:02x} at offset {offset} is not UTF-8"),
                None => format!(
                    "the character that begins with byte 0x{byte:02x} at offset {offset} is cut off"
                ),
            };
            Err(bad(format!("{name}: {what}")))
        }
    }
}

fn bad(detail: String) -> Failure {
    Failure::new(Exit::BadInput, "input", detail).hint("--lossy replaces bad bytes by U+FFFD")
}

/// A whole file of at most `most` bytes, within the time that the run has.
///
/// # Errors
///
/// See [`file::read`]; what [`stopped`] makes a failure of its own.
pub(crate) fn read_file(path: &Path, most: u64, env: &Env) -> io::Result<Vec<u8>> {
    file::read(path, most, env.deadline.until())
}

/// The failure of a read that the deadline or a signal ended; `None` for any other error.
pub(crate) fn stopped(error: &io::Error, name: &str, deadline: Deadline) -> Option<Failure> {
    let phase = format!("reading {name}");
    match signal::pending() {
        Some(signal) => Some(Failure::interrupted(signal, &phase)),
        None if error.kind() == io::ErrorKind::TimedOut => deadline.check(&phase).err(),
        None => None,
    }
}

/// Exit 66 for what was never readable, 74 for what breaks while it is read.
fn unreadable(name: &str, error: &io::Error) -> Failure {
    let missing = |what: &str| Failure::new(Exit::NoInput, "input", format!("{name} {what}"));
    match error.kind() {
        io::ErrorKind::NotFound => missing("does not exist"),
        io::ErrorKind::NotADirectory => {
            missing("does not exist: a part of its path is not a directory")
        }
        io::ErrorKind::IsADirectory => missing("is a directory").hint("name the files in it"),
        io::ErrorKind::PermissionDenied => missing("may not be read by this user"),
        io::ErrorKind::InvalidInput => missing("is not a possible file name"),
        _ => Failure::new(Exit::Io, "input", format!("cannot read {name}: {error}")),
    }
}

/// Standard input, with the note for the person who does not know that it is read, and the
/// deadline.
struct Waiting<'a> {
    stdin: &'a mut Stdin,
    output: &'a mut Output,
    deadline: Deadline,
    /// The pipe a second time, not blocking; `None` where that is impossible or no longer needed.
    pipe: Option<File>,
    /// When the pipe was last heard of.
    heard: Instant,
    told: bool,
}

impl<'a> Waiting<'a> {
    fn new(stdin: &'a mut Stdin, output: &'a mut Output, deadline: Deadline) -> Waiting<'a> {
        let terminal = stdin.is_terminal();
        if terminal {
            output.note("reading from the terminal (end it with ctrl-D, or give a FILE)");
        }
        let pipe = match stdin {
            Stdin::Process if !terminal => open_pipe(),
            Stdin::Process | Stdin::Given(_) => None,
        };
        Waiting {
            stdin,
            output,
            deadline,
            pipe,
            heard: Instant::now(),
            told: false,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        if let ControlFlow::Break(count) = self.poll(buffer)? {
            return Ok(count);
        }
        self.deadline.check("reading standard input")?;
        #[cfg(unix)]
        if matches!(self.stdin, Stdin::Process) {
            while await_input(
                io::stdin().as_fd(),
                self.deadline.left().unwrap_or(Duration::MAX),
                "reading standard input",
            )? {
                self.deadline.check("waiting for input on stdin")?;
            }
        }
        let read = match self.stdin {
            Stdin::Process => read_whole(&mut io::stdin().lock(), buffer),
            Stdin::Given(reader) => read_whole(reader, buffer),
        };
        read.map_err(|error| unreadable("standard input", &error))
    }

    /// Reads from the pipe as soon as there is something. `Continue` says to read blocking instead.
    fn poll(&mut self, buffer: &mut [u8]) -> Result<ControlFlow<usize>, Failure> {
        let mut yields = 0;
        while let Some(pipe) = &mut self.pipe {
            self.deadline.check("waiting for input on stdin")?;
            match pipe.read(buffer) {
                Ok(count) => {
                    self.heard = Instant::now();
                    return Ok(ControlFlow::Break(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(unreadable("standard input", &error)),
            }
            if !self.told && self.heard.elapsed() >= PATIENCE {
                self.told = true;
                self.output
                    .note("waiting for input on stdin (end it with ctrl-D, or give a FILE)");
            }
            // A busy writer refills the pipe in less time than the system takes to wake a sleeper.
            if yields < 32 {
                yields += 1;
                std::thread::yield_now();
                continue;
            }
            let left = self.deadline.left().unwrap_or(PATIENCE).min(PATIENCE);
            #[cfg(unix)]
            await_input(pipe.as_fd(), left, "reading standard input")?;
            #[cfg(not(unix))]
            signal::sleep(left.min(Duration::from_millis(10)));
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Waits for input, a signal or the end of `left`. Says whether to wait on.
#[cfg(unix)]
fn await_input(
    source: std::os::fd::BorrowedFd<'_>,
    left: Duration,
    phase: &str,
) -> Result<bool, Failure> {
    match signal::wait(Some(source), left) {
        signal::Wake::Ready => Ok(false),
        signal::Wake::TimedOut => Ok(true),
        signal::Wake::Caught => match signal::caught() {
            Some(signal) => Err(Failure::interrupted(signal, phase)),
            None => Ok(true),
        },
    }
}

/// One read that a signal does not end.
fn read_whole(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => return read,
        }
    }
}

/// Opens the pipe on standard input once more, without blocking. The new description has its own
/// flags, so whoever shares the pipe with us notices nothing.
///
/// The number of the flag differs on some architectures, and std does not name it: only those where
/// it is known.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
fn open_pipe() -> Option<File> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

    const STDIN: &str = "/proc/self/fd/0";
    const O_NONBLOCK: i32 = 0o4000;
    if !std::fs::metadata(STDIN).ok()?.file_type().is_fifo() {
        return None;
    }
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(STDIN)
        .ok()
}

#[cfg(not(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
)))]
fn open_pipe() -> Option<File> {
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::env::tests::world;

    /// A reader that returns pieces of the given sizes, over and over.
    struct Dripping<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    }

    impl Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> usize {
            let size = *self.sizes.next().unwrap();
            let size = size.min(buffer.len()).min(self.bytes.len());
            let (now, later) = self.bytes.split_at(size);
            buffer[..size].copy_from_slice(now);
            self.bytes = later;
            size
        }
    }

    fn decode(bytes: &[u8], lossy: bool, sizes: &[usize]) -> Result<String, Failure> {
        let mut reader = TextReader::new(lossy, Deadline::new(Instant::now(), None));
        let mut dripping = Dripping {
            bytes,
            sizes: sizes.iter().cycle(),
        };
        let mut text = String::new();
        let count = reader.decode(
            &mut |buffer| Ok(dripping.read(buffer)),
            "`x`",
            &mut |piece| {
                text.push_str(piece);
                Ok(())
            },
        )?;
        assert_eq!(count, bytes.len() as u64);
        Ok(text)
    }

    #[test]
    fn what_is_no_text_has_a_hint_that_helps() {
        for (bytes, hint) in [
            (b"%PDF-1.7\n%\xe2\xe3".as_slice(), "pdftotext"),
            (b"\x89PNG\r\n\x1a\n\0\0", "--image"),
            (b"\xff\xd8\xff\xe0", "--image"),
            (b"\xff\xfeh\0i\0", "iconv -f UTF-16"),
            (b"h\0e\0l\0l\0o\0", "iconv -f UTF-16"),
            (b"\0h\0e\0l\0l\0o", "iconv -f UTF-16"),
            (b"\x1f\x8b\x08\0\xff", "gzip -dc"),
            (b"say \xc4\xe3\xba\xc3\xc4\xe3.", "iconv -f GBK"),
            (b"caf\xe9 au lait", "--lossy"),
            (b"a\xffb", "--lossy"),
        ] {
            let failure = decode(bytes, false, &[100]).unwrap_err();
            assert!(failure.hints[0].contains(hint), "{failure:?}");
            assert_eq!(failure.hints.len(), 1);
        }
    }

    #[test]
    fn progress_is_a_share_and_a_time() {
        let now = Instant::now();
        let progress = |read, total| Progress {
            started: now,
            next: now,
            read,
            total,
        };
        assert_eq!(
            progress(500_000_000, 2_000_000_000).line(Duration::from_secs(5)),
            "omk: [##........] 500.0 MB of 2.0 GB, 15 s left"
        );
        // A file may grow while it is read, and be empty when it is not.
        assert_eq!(
            progress(1_500, 1_000).line(Duration::from_secs(1)),
            "omk: [##########] 1.5 kB of 1.5 kB, 0 s left"
        );
        assert_eq!(
            progress(0, 0).line(Duration::ZERO),
            "omk: [..........] 0 B of 0 B, 0 s left"
        );
    }

    #[test]
    fn a_character_cut_between_pieces_is_whole() {
        let text = "a\u{feff}é\r\n漢字 🦀 e\u{301}";
        for size in 1..=text.len() {
            assert_eq!(
                decode(text.as_bytes(), false, &[size]).as_deref(),
                Ok(text),
                "{size}"
            );
        }
        assert_eq!(decode(b"", false, &[1]).as_deref(), Ok(""));
    }

    #[test]
    fn bad_input_is_named_by_byte_and_offset() {
        for (bytes, detail) in [
            (
                b"abc\xffdef".as_slice(),
                "`x`: byte 0xff at offset 3 is not UTF-8",
            ),
            (b"ab\xc3(", "`x`: byte 0xc3 at offset 2 is not UTF-8"),
            (b"ab\xed\xa0\x80", "`x`: byte 0xed at offset 2 is not UTF-8"),
            (b"\x80", "`x`: byte 0x80 at offset 0 is not UTF-8"),
            (
                b"ab\xf0\x9f\xa6",
                "`x`: the character that begins with byte 0xf0 at offset 2 is cut off",
            ),
            (
                b"ab\0c\xff",
                "`x` has a NUL at offset 2; services refuse it",
            ),
            (b"ab\xff\0", "`x`: byte 0xff at offset 2 is not UTF-8"),
        ] {
            for size in [1, 2, 3, 100] {
                let failure = decode(bytes, false, &[size]).unwrap_err();
                assert_eq!(
                    (failure.exit, failure.detail.as_str()),
                    (Exit::BadInput, detail),
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn the_offset_counts_all_pieces() {
        let mut bytes = "é".repeat(PIECE).into_bytes();
        bytes.push(0xff);
        let failure = decode(&bytes, false, &[PIECE]).unwrap_err();
        assert_eq!(
            failure.detail,
            format!("`x`: byte 0xff at offset {} is not UTF-8", 2 * PIECE)
        );
    }

    #[test]
    fn lossy_replaces_nul_too() {
        assert_eq!(
            decode(b"a\0b\xffc", true, &[2]).as_deref(),
            Ok("a\u{fffd}b\u{fffd}c")
        );
    }

    #[test]
    fn an_error_of_the_sink_ends_the_reading() {
        let (mut env, ..) = world(&[], &[b'x'; 10]);
        let mut reader = TextReader::new(false, Deadline::new(Instant::now(), None));
        let failure = reader
            .read(&Source::Stdin, &mut env, &mut |_| {
                Err(Failure::reader_gone())
            })
            .unwrap_err();
        assert!(failure.is_silent());
    }

    #[test]
    fn an_expired_deadline_names_the_phase() {
        let (mut env, ..) = world(&[], b"x");
        let mut reader =
            TextReader::new(false, Deadline::new(Instant::now(), Some(Duration::ZERO)));
        let failure = reader
            .read(&Source::Stdin, &mut env, &mut |_| Ok(()))
            .unwrap_err();
        assert_eq!(
            (failure.exit, failure.detail.as_str()),
            (Exit::Deadline, "0ns ran out while reading standard input")
        );
    }

    /// Bytes that are often, but not always, UTF-8.
    fn nearly_utf_8() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            any::<char>().prop_map(|c| c.to_string().into_bytes()[..1].to_vec()),
            any::<u8>().prop_map(|b| vec![b]),
            (0x80u8..).prop_map(|b| vec![b]),
        ];
        proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn repairing_in_pieces_equals_repairing_at_once(
            bytes in nearly_utf_8(),
            sizes in proptest::collection::vec(1usize..9, 1..5),
        ) {
            let whole = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
            prop_assert_eq!(decode(&bytes, true, &sizes).unwrap(), whole);
        }

        #[test]
        fn checking_in_pieces_equals_checking_at_once(
            bytes in nearly_utf_8(),
            sizes in proptest::collection::vec(1usize..9, 1..5),
        ) {
            match (decode(&bytes, false, &sizes), std::str::from_utf8(&bytes)) {
                (Ok(text), Ok(whole)) => prop_assert_eq!(text, whole),
                (Err(_), Ok(whole)) => prop_assert!(whole.contains('\0')),
                (Ok(_), Err(_)) => prop_assert!(false, "bad bytes were taken for text"),
                (Err(failure), Err(error)) => {
                    let nul = bytes[..error.valid_up_to()].iter().position(|b| *b == 0);
                    let offset = nul.unwrap_or(error.valid_up_to());
                    prop_assert!(failure.detail.contains(&format!("offset {offset}")), "{}", failure.detail);
                }
            }
        }
    }
}
