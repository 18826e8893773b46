//! Files from outside, opened and read without waiting for ever and without taking more than there is room for.
//!
//! A path that a user or an agent names may be a pipe that nobody writes to, a device without end or a link to one. So a file
//! is opened without waiting, read only when there is something to read, until a moment that the caller gives, and up to a
//! size that the caller gives. A named pipe works: its writer may come late.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::runtime::signal;

/// A file that is open for reading.
#[derive(Debug)]
pub struct Source {
    file: File,
    /// It is a regular file, which never keeps anyone waiting.
    is_regular: bool,
    until: Option<Instant>,
}

impl Source {
    /// Opens a file of any kind. Reading it ends at `until`.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(path: &Path, until: Option<Instant>) -> io::Result<Source> {
        let file = open(path)?;
        Ok(Source {
            is_regular: file.metadata()?.is_file(),
            file,
            until,
        })
    }

    /// Opens a regular file.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a pipe, a device or a directory.
    pub fn open_regular(path: &Path, until: Option<Instant>) -> io::Result<Source> {
        let source = Source::open(path, until)?;
        match source.is_regular {
            true => Ok(source),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// The file, for its metadata.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Goes to an offset of a regular file.
    ///
    /// # Errors
    ///
    /// There is no going there, such as in a pipe.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset)).map(|_| ())
    }

    /// The rest of the file, of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// As [`Read::read`], and [`io::ErrorKind::FileTooLarge`] if there is more.
    pub fn read_rest(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let too_large = || {
            let detail = match most / (1 << 20) {
                0 => format!("it is larger than {most} bytes"),
                mib => format!("it is larger than {mib} MiB"),
            };
            io::Error::new(io::ErrorKind::FileTooLarge, detail)
        };
        // A file that says how large it is need not be read to be refused.
        if self.is_regular {
            let left = self.file.metadata()?.len();
            if left.saturating_sub(self.file.stream_position()?) > most {
                return Err(too_large());
            }
        }
        let mut bytes = Vec::new();
        self.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
            return Err(too_large());
        }
        Ok(bytes)
    }
}

impl Read for Source {
    /// Reads as soon as there is something.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when there was nothing until the moment given, and an error that says so when a signal came
    /// (see [`signal::caught`]).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_regular {
                self.wait()?;
            } else if self.until.is_some_and(|until| until <= Instant::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another reader of the same pipe was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

#[cfg(unix)]
impl Source {
    fn wait(&self) -> io::Result<()> {
        use std::os::fd::AsFd;

        let left = match self.until {
            Some(until) => until.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        match signal::wait(Some(self.file.as_fd()), left) {
            signal::Wake::Ready if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
            signal::Wake::Ready => Ok(()),
            signal::Wake::TimedOut => Err(io::ErrorKind::TimedOut.into()),
            signal::Wake::Caught => Err(io::Error::other("a signal asked the program to stop")),
        }
    }
}

#[cfg(not(unix))]
impl Source {
    fn wait(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole file of at most `most` bytes, of any kind.
///
/// # Errors
///
/// See [`Source::open`] and [`Source::read_rest`].
pub fn read(path: &Path, most: u64, until: Option<Instant>) -> io::Result<Vec<u8>> {
    Source::open(path, until)?.read_rest(most)
}

/// A whole regular file of at most `most` bytes: for what a program keeps, which is nothing else.
///
/// # Errors
///
/// See [`Source::open_regular`] and [`Source::read_rest`].
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    Source::open_regular(path, None)?.read_rest(most)
}

/// The last bytes of a regular file, at most `most`: for a file that grows and whose last lines count.
///
/// # Errors
///
/// See [`Source::open_regular`].
pub fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut source = Source::open_regular(path, None)?;
    let length = source.file().metadata()?.len();
    source.seek(length.saturating_sub(most))?;
    let mut bytes = Vec::new();
    // What is added while this reads is not read.
    source.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A regular file that this path names without any link, of at most `most` bytes. Whoever decided on the path decided on
/// this very file, whatever was put in its place in the meantime.
///
/// # Errors
///
/// See [`Source::read_rest`]; a link leads to it.
pub fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut source = Source::open_regular(path, None)?;
    check_plain(source.file(), path)?;
    source.read_rest(most)
}

/// Writes a file in place of what this path names without any link. A new file takes the place of the old one, so other
/// names of the old one keep what it held, and a write that fails leaves it as it was.
///
/// # Errors
///
/// Its directory is not there or a link leads to it, something else than a regular file is in its place, or it cannot be
/// written.
pub fn replace_plain(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("it is not a file"));
    };
    // Held open, so that what is decided about it stays true until the file is in it.
    let held = open(directory)?;
    if !held.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    check_plain(&held, directory)?;
    let directory = inside(&held).unwrap_or_else(|| directory.to_path_buf());
    let target = directory.join(name);
    let permissions = match fs::symlink_metadata(&target) {
        Ok(metadata) if metadata.is_file() => Some(metadata.permissions()),
        Ok(_) => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if permissions.as_ref().is_some_and(fs::Permissions::readonly) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (temporary, mut file) = create_beside(&directory)?;
    let written = io::Write::write_all(&mut file, bytes)
        .and_then(|()| match permissions {
            Some(permissions) => file.set_permissions(permissions),
            None => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file in a directory.
fn create_beside(directory: &Path) -> io::Result<(PathBuf, File)> {
    for attempt in 0..100_u32 {
        let path = directory.join(format!(".omk-{}-{attempt}.tmp", std::process::id()));
        match fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
        {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Fails if an open file or directory is not where this path says.
fn check_plain(file: &File, path: &Path) -> io::Result<()> {
    let real = match inside(file).and_then(|link| fs::read_link(link).ok()) {
        Some(real) => real,
        None => fs::canonicalize(path)?,
    };
    match real == path {
        true => Ok(()),
        false => Err(io::Error::other("a link was put in its way")),
    }
}

/// The name of an open file that no link changes, on Linux.
#[cfg(target_os = "linux")]
fn inside(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;

    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    fs::symlink_metadata(&path).is_ok().then_some(path)
}

#[cfg(not(target_os = "linux"))]
fn inside(_: &File) -> Option<PathBuf> {
    None
}

/// Opens a file for reading without waiting for a writer, and without making a terminal ours.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    fs::OpenOptions::new()
        .read(true)
        .custom_flags(NO_WAITING)
        .open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// `O_NONBLOCK`, which std does not name. On a system where it is not known, a pipe without a writer is waited for.
#[cfg(unix)]
const NO_WAITING: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    match cfg!(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "sparc",
        target_arch = "sparc64"
    )) {
        true => 0,
        false => 0o4000,
    }
} else if cfg!(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)) {
    0x4
} else {
    0
};

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    use std::io::Write;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("omk-file-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn fifo(name: &str) -> PathBuf {
        let path = scratch(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(600))
    }

    #[test]
    fn a_file_is_read_whole_up_to_the_limit() {
        let path = scratch("whole");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5, soon()).unwrap(), b"12345");
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 4 bytes");
        assert_eq!(read_end(&path, 3).unwrap(), b"345");
        assert_eq!(read_end(&path, 9).unwrap(), b"12345");
        assert!(read_end(Path::new("/dev/zero"), 9).is_err());
        let over = read(&path, 5, Some(Instant::now())).unwrap_err();
        assert_eq!(over.kind(), io::ErrorKind::TimedOut);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_pipe_without_a_writer_meets_the_deadline() {
        let path = fifo("silent");
        let until = Instant::now() + Duration::from_millis(5);
        let error = read(&path, 100, Some(until)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_pipe_whose_writer_comes_late_is_read_to_its_end() {
        let path = fifo("late");
        let mut source = Source::open(&path, soon()).unwrap();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all(b"one").unwrap();
                file.write_all(b"two").unwrap();
            })
        };
        assert_eq!(source.read_rest(100).unwrap(), b"onetwo");
        writer.join().unwrap();
        assert!(Source::open_regular(&path, None).is_err());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_device_without_end_is_cut_off_and_no_regular_file() {
        let zero = Path::new("/dev/zero");
        let error = read(zero, 1 << 20, soon()).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
        assert!(read_regular(zero, 1 << 20).is_err());
        assert!(read_regular(&std::env::temp_dir(), 1 << 20).is_err());
    }

    #[test]
    fn a_file_is_replaced_and_never_written_through_a_link() {
        let root = scratch("plain");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("p/sub")).unwrap();
        fs::create_dir_all(root.join("outside")).unwrap();
        let root = fs::canonicalize(root).unwrap();
        let path = |name: &str| root.join(name);
        replace_plain(&path("p/new"), b"one").unwrap();
        replace_plain(&path("p/new"), b"two").unwrap();
        assert_eq!(read_plain(&path("p/new"), 9).unwrap(), b"two");
        // Another name of the same file keeps what it held.
        fs::write(path("outside/secret"), "kept").unwrap();
        fs::hard_link(path("outside/secret"), path("p/hard")).unwrap();
        replace_plain(&path("p/hard"), b"new").unwrap();
        assert_eq!(fs::read(path("outside/secret")).unwrap(), b"kept");
        assert_eq!(fs::read(path("p/hard")).unwrap(), b"new");
        std::os::unix::fs::symlink(path("outside"), path("p/link")).unwrap();
        std::os::unix::fs::symlink(path("outside/secret"), path("p/soft")).unwrap();
        assert!(replace_plain(&path("p/link/x"), b"new").is_err());
        assert!(replace_plain(&path("p/soft"), b"new").is_err());
        assert!(read_plain(&path("p/soft"), 9).is_err());
        assert!(read_plain(&path("p/link/secret"), 9).is_err());
        assert_eq!(fs::read(path("outside/secret")).unwrap(), b"kept");
        assert!(!path("outside/x").exists());
        // Neither a pipe nor a directory is written to, and nothing is left behind.
        let made = std::process::Command::new("mkfifo")
            .arg(path("p/pipe"))
            .status();
        assert!(made.unwrap().success());
        assert!(replace_plain(&path("p/pipe"), b"new").is_err());
        assert!(replace_plain(&path("p/sub"), b"new").is_err());
        assert!(replace_plain(&path("p/no/x"), b"new").is_err());
        let mut names: Vec<String> = fs::read_dir(path("p"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["hard", "link", "new", "pipe", "soft", "sub"]);
        fs::remove_dir_all(root).unwrap();
    }
}
