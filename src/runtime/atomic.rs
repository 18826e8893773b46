//! Files that are there whole or not at all.
//!
//! The ledger, the configuration and the price snapshot are all replaced, never edited in place: a crash, a full disk or a
//! second process must leave either the old bytes or the new ones. Refuses to guess: a target that is a directory, or a
//! chain of symbolic links without an end, is an error that names the path.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use crate::runtime::file;
use crate::runtime::process;

/// As many links as Linux follows before it answers `ELOOP`.
const MAX_LINKS: usize = 40;

/// No write takes so long: what is older and unfinished was left by a process that was killed.
const MAX_WRITE: Duration = Duration::from_secs(86_400);

/// Tells two temporary files of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file could not be replaced; what stood at the path before is untouched.
#[derive(Debug)]
pub struct AtomicWriteError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl AtomicWriteError {
    /// The file or directory that the failing step worked on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The operating system's kind of failure, for a caller that tells a full disk from a missing right.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for AtomicWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.step, self.path.display(), self.source)
    }
}

impl Error for AtomicWriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The few things that a store of whole files asks of a disk.
///
/// A trait only so that a test can fail, or be killed, at every one of them in turn; there is one disk, [`Disk`]. What
/// changes something is one call each, so that there is nothing between two calls that a test could not see.
pub trait FileSystem {
    /// Creates a file of mode 0600 that was not there, for writing.
    ///
    /// # Errors
    ///
    /// It is there, or the system refuses.
    fn create_new(&self, path: &Path) -> io::Result<File>;

    /// Writes all of the bytes.
    ///
    /// # Errors
    ///
    /// The system's; some of the bytes may be written.
    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Waits until what was written to a file is on disk.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Waits until the names in a directory are on disk. Nothing happens where the file system cannot do that.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    ///
    /// The system's; both names are as they were.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory of mode 0700 and those on the way to it; one that is there stays as it is.
    ///
    /// # Errors
    ///
    /// The system's.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of this name unless another process has it. It is given back with the file, or with the process,
    /// however that ends.
    ///
    /// # Errors
    ///
    /// The file cannot be created, or its file system knows no locks.
    fn try_lock(&self, path: &Path) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Lets some time pass.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    ///
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    /// The whole of a regular file of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// The system's; it is larger, or not a regular file.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        file::read_regular(path, most)
    }

    /// When a file was last written, by the clock of its file system.
    ///
    /// # Errors
    ///
    /// The system's.
    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        fs::metadata(path)?.modified()
    }

    /// The names in a directory, at most so many, in no order.
    ///
    /// # Errors
    ///
    /// The system's.
    fn names(&self, path: &Path, at_most: usize) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(path)?.take(at_most);
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl FileSystem for Disk {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // `create_new` refuses a file or link that someone else put there, so nothing is ever written through it.
        options.write(true).create_new(true);
        private(&mut options);
        options.open(path)
    }

    fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    #[cfg(unix)]
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        match File::open(path).and_then(|directory| directory.sync_all()) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    #[cfg(not(unix))]
    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(path)
    }
}

/// Creates a directory and those on the way to it, synced, so that a power cut does not take any of them away again.
///
/// # Errors
///
/// The system's.
pub fn create_directory_on<F: FileSystem>(fs: &F, path: &Path) -> io::Result<()> {
    let mut holders = Vec::new();
    let mut at = path;
    // Each directory that will be new is a name in the one above it.
    while fs.modified(at).is_err() {
        let above = directory_of(at);
        holders.push(above);
        if above == Path::new(".") {
            break;
        }
        at = above;
    }
    fs.create_directory(path)?;
    holders
        .into_iter()
        .rev()
        .try_for_each(|holder| fs.sync_directory(holder))
}

/// For its owner alone.
fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

/// Replaces the file at `path` by `bytes`, or leaves it as it was.
///
/// The new file has mode 0600 whatever the old one had, because everything omk writes may tell what someone asked a model.
/// A symbolic link stays a link: the file it leads to is replaced. Missing parent directories are not created.
///
/// # Errors
///
/// The step that failed (`create`, `write`, `sync`, `rename`, ...) with its path. The temporary file is removed on every
/// failure; only a kill between two steps can leave one, for which see [`is_temporary`].
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), AtomicWriteError> {
    sweep_beside(path);
    atomic_write_on(&Disk, path, bytes)
}

/// The same on a file system of the caller's.
///
/// # Errors
///
/// As for [`atomic_write`].
pub fn atomic_write_on<F: FileSystem>(
    fs: &F,
    path: &Path,
    bytes: &[u8],
) -> Result<(), AtomicWriteError> {
    let mut file = AtomicFile::create(fs, path)?;
    file.write(bytes)?;
    file.commit()
}

/// A file on its way: written piece by piece beside the one that it will replace, for what is too long to hold in memory.
/// Dropped before [`AtomicFile::commit`], it leaves nothing.
pub struct AtomicFile<'a, F: FileSystem = Disk> {
    temporary: Temporary<'a, F>,
    file: File,
    target: PathBuf,
}

impl<'a, F: FileSystem> AtomicFile<'a, F> {
    /// Begins to replace the file at `path`, as [`atomic_write`] does.
    ///
    /// # Errors
    ///
    /// The step that failed, with its path.
    pub fn create(fs: &'a F, path: &Path) -> Result<AtomicFile<'a, F>, AtomicWriteError> {
        let target = resolve_links(path)?;
        let (temporary, file) = create_temporary(fs, directory_of(&target))?;
        Ok(AtomicFile {
            temporary,
            file,
            target,
        })
    }

    /// Gives the file the mode of the one that it replaces, or else that of any new file: for one that others may read.
    ///
    /// # Errors
    ///
    /// As for [`AtomicFile::create`].
    pub fn share(&mut self) -> Result<(), AtomicWriteError> {
        let there = fs::metadata(&self.target).map(|metadata| metadata.permissions());
        let mode = there.or_else(|_| {
            // std does not tell the mask of new files, so one is made.
            let probe = self.temporary.path.with_extension("mode.tmp");
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&probe)?;
            let mode = made.metadata().map(|metadata| metadata.permissions());
            fs::remove_file(&probe).and(mode)
        });
        mode.and_then(|mode| self.file.set_permissions(mode))
            .map_err(|e| self.temporary.fail("set the mode of", e))
    }

    /// Adds bytes, in one call to the system.
    ///
    /// # Errors
    ///
    /// As for [`AtomicFile::create`]; the file must not be committed then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), AtomicWriteError> {
        let fs = self.temporary.fs;
        fs.write_all(&mut self.file, bytes)
            .map_err(|e| self.temporary.fail("write", e))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// As for [`atomic_write`].
    pub fn commit(self) -> Result<(), AtomicWriteError> {
        let AtomicFile {
            mut temporary,
            file,
            target,
        } = self;
        let fs = temporary.fs;
        // The data must be on disk before the name points at it, or a power cut leaves an empty file under the final name.
        fs.sync(&file).map_err(|e| temporary.fail("sync", e))?;
        drop(file);
        fs.rename(&temporary.path, &target)
            .map_err(|source| AtomicWriteError {
                step: "rename to",
                path: target.clone(),
                source,
            })?;
        temporary.armed = false;
        // The new file is in place already; this makes the name itself durable.
        let directory = directory_of(&target);
        fs.sync_directory(directory)
            .map_err(|source| AtomicWriteError {
                step: "sync directory",
                path: directory.to_path_buf(),
                source,
            })
    }
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a file of this name is what a killed [`atomic_write`] left, or a running one is writing.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(".omk-") && name.ends_with(".tmp")
}

/// Deletes the unfinished files in a directory that killed processes left: those of a process of this system that is gone,
/// and any that are older than a day. A failure is no loss: the next sweep tries again.
pub fn sweep_on<F: FileSystem>(fs: &F, directory: &Path) {
    for name in fs.names(directory, usize::MAX).unwrap_or_default() {
        let name = name.to_string_lossy();
        if !is_temporary(&name) {
            continue;
        }
        let path = directory.join(&*name);
        let age = fs
            .modified(&path)
            .map(|written| SystemTime::now().duration_since(written));
        if is_orphan(&name) || matches!(age, Ok(Ok(age)) if age > MAX_WRITE) {
            let _ = fs.remove(&path);
        }
    }
}

/// The same in the directory of a file that is about to be replaced.
pub fn sweep_beside(path: &Path) {
    if let Ok(target) = resolve_links(path) {
        sweep_on(&Disk, directory_of(&target));
    }
}

/// Whether the process that made a temporary file is gone. False for one of another system, of which nothing can be seen.
fn is_orphan(name: &str) -> bool {
    let mut parts = name.trim_start_matches(".omk-").split('-');
    let (Some(system), Some(pid)) = (parts.next(), parts.next()) else {
        return false;
    };
    system == process::system() && pid.parse().is_ok_and(|pid| process::birth(pid).is_none())
}

/// Removes the temporary file unless it was renamed away.
struct Temporary<'a, F: FileSystem> {
    fs: &'a F,
    path: PathBuf,
    armed: bool,
}

impl<F: FileSystem> Temporary<'_, F> {
    fn fail(&self, step: &'static str, source: io::Error) -> AtomicWriteError {
        AtomicWriteError {
            step,
            path: self.path.clone(),
            source,
        }
    }
}

impl<F: FileSystem> Drop for Temporary<'_, F> {
    fn drop(&mut self) {
        if self.armed {
            // Nothing better can be done with a failure here: the error that got us here is the one worth telling.
            let _ = self.fs.remove(&self.path);
        }
    }
}

/// Follows symbolic links by hand, since `canonicalize` refuses a link whose file does not exist yet.
fn resolve_links(path: &Path) -> Result<PathBuf, AtomicWriteError> {
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.file_type().is_symlink() => {
                let next = fs::read_link(&target).map_err(|source| AtomicWriteError {
                    step: "read link",
                    path: target.clone(),
                    source,
                })?;
                // `join` keeps an absolute link as it is.
                target = match target.parent() {
                    Some(parent) => parent.join(next),
                    None => next,
                };
            }
            _ => return Ok(target),
        }
    }
    Err(AtomicWriteError {
        step: "resolve",
        path: path.to_path_buf(),
        source: io::Error::other("too many levels of symbolic links"),
    })
}

/// A new file beside the target: `rename` is atomic only within one file system.
fn create_temporary<'a, F: FileSystem>(
    fs: &'a F,
    directory: &Path,
) -> Result<(Temporary<'a, F>, File), AtomicWriteError> {
    let mut attempts = 3;
    loop {
        let path = directory.join(temporary_name());
        match fs.create_new(&path) {
            Ok(file) => {
                let temporary = Temporary {
                    fs,
                    path,
                    armed: true,
                };
                return Ok((temporary, file));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts > 0 => attempts -= 1,
            Err(source) => {
                return Err(AtomicWriteError {
                    step: "create",
                    path,
                    source,
                });
            }
        }
    }
}

/// Unique by process, call and moment: no random numbers needed, since `create_new` decides in the end.
fn temporary_name() -> String {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let (system, pid) = (process::system(), std::process::id());
    format!(".omk-{system}-{pid}-{count}-{nanos}.tmp")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Dir {
            let dir = std::env::temp_dir().join(temporary_name());
            fs::create_dir(&dir).unwrap();
            Dir(dir)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn writes_a_new_file_with_mode_0600_and_leaves_nothing_else() {
        let dir = Dir::new();
        let path = dir.0.join("a.json");
        atomic_write(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(dir.names(), ["a.json"]);
    }

    #[test]
    fn a_file_in_pieces_is_there_when_it_is_whole() {
        let dir = Dir::new();
        let path = dir.0.join("a.json");
        fs::write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&Disk, &path).unwrap();
        file.write(b"one ").unwrap();
        assert_eq!(dir.names().len(), 2);
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut file = AtomicFile::create(&Disk, &path).unwrap();
        for piece in ["one ", "", "two"] {
            file.write(piece.as_bytes()).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        assert_eq!(dir.names(), ["a.json"]);
    }

    /// A disk that notes what it is asked.
    #[derive(Default)]
    struct Noting(RefCell<Vec<String>>);

    impl Noting {
        fn note(&self, what: &str, path: &Path) {
            let name = path.file_name().unwrap().to_string_lossy();
            let name = if is_temporary(&name) {
                "temporary"
            } else {
                &name
            };
            self.0.borrow_mut().push(format!("{what} {name}"));
        }
    }

    impl FileSystem for Noting {
        fn create_new(&self, path: &Path) -> io::Result<File> {
            self.note("create", path);
            Disk.create_new(path)
        }

        fn write_all(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            self.note("write", Path::new("temporary"));
            Disk.write_all(file, bytes)
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            self.note("sync", Path::new("temporary"));
            Disk.sync(file)
        }

        fn sync_directory(&self, path: &Path) -> io::Result<()> {
            self.note("sync", path);
            Disk.sync_directory(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.note("rename to", to);
            Disk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.note("remove", path);
            Disk.remove(path)
        }

        fn create_directory(&self, path: &Path) -> io::Result<()> {
            self.note("create", path);
            Disk.create_directory(path)
        }
    }

    #[test]
    fn the_bytes_are_synced_before_the_name_and_the_name_after_it() {
        let dir = Dir::new();
        let disk = Noting::default();
        create_directory_on(&disk, &dir.0.join("a/b")).unwrap();
        let root = dir.0.file_name().unwrap().to_string_lossy().into_owned();
        let made = [
            "create b".to_string(),
            format!("sync {root}"),
            "sync a".to_string(),
        ];
        let root_is_temporary = made.map(|line| line.replace(&root, "temporary"));
        assert_eq!(disk.0.take(), root_is_temporary);
        create_directory_on(&disk, &dir.0.join("a/b")).unwrap();
        assert_eq!(disk.0.take(), ["create b"]);
        atomic_write_on(&disk, &dir.0.join("a/b/c"), b"one").unwrap();
        let steps = [
            "create temporary",
            "write temporary",
            "sync temporary",
            "rename to c",
            "sync b",
        ];
        assert_eq!(disk.0.take(), steps);
        // A failed one leaves nothing.
        assert!(atomic_write_on(&disk, &dir.0.join("a"), b"one").is_err());
        assert_eq!(disk.0.take().last().unwrap(), "remove temporary");
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_synced() {
        let dir = Dir::new();
        Disk.sync_directory(&dir.0).unwrap();
        assert!(Disk.sync_directory(&dir.0.join("missing")).is_err());
        assert!(Disk.sync_directory(&dir.0.join("missing/too")).is_err());
    }

    #[test]
    fn what_killed_processes_left_is_swept_and_nothing_else() {
        let dir = Dir::new();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (system, dead) = (process::system(), child.id());
        let old = SystemTime::now() - 2 * MAX_WRITE;
        let now = SystemTime::now();
        for (name, written, stays) in [
            (temporary_name(), now, true),
            (temporary_name(), old, false),
            (format!(".omk-{system}-{dead}-0-1.tmp"), now, false),
            (format!(".omk-00000000-{dead}-0-1.tmp"), now, true),
            (format!(".omk-00000000-{dead}-0-2.tmp"), old, false),
            (".omk-4711-0-1.tmp".to_string(), now, true),
            (format!(".omk-{system}-{dead}-0-1.txt"), old, true),
            ("notes.tmp".to_string(), old, true),
        ] {
            let path = dir.0.join(&name);
            File::create(&path).unwrap().set_modified(written).unwrap();
            sweep_beside(&dir.0.join("target"));
            assert_eq!(path.exists(), stays, "{name}");
            let _ = fs::remove_file(&path);
        }
        let left = dir.0.join(format!(".omk-{system}-{dead}-0-3.tmp"));
        fs::write(&left, "half").unwrap();
        atomic_write(&dir.0.join("a.json"), b"one").unwrap();
        assert_eq!(dir.names(), ["a.json"]);
    }

    #[test]
    fn replaces_a_file_and_tightens_its_mode() {
        let dir = Dir::new();
        let path = dir.0.join("a.json");
        fs::write(&path, b"old and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        atomic_write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn follows_a_link_and_keeps_it() {
        let dir = Dir::new();
        fs::create_dir(dir.0.join("real")).unwrap();
        let link = dir.0.join("link");
        symlink("real/file", &link).unwrap();
        atomic_write(&link, b"through a dangling link").unwrap();
        atomic_write(&link, b"through a living link").unwrap();
        assert!(
            fs::symlink_metadata(&link)
                .unwrap()
                .file_type()
                .is_symlink()
        );
        assert_eq!(
            fs::read(dir.0.join("real/file")).unwrap(),
            b"through a living link"
        );
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let dir = Dir::new();
        symlink("b", dir.0.join("a")).unwrap();
        symlink("a", dir.0.join("b")).unwrap();
        let error = atomic_write(&dir.0.join("a"), b"x").unwrap_err();
        assert!(error.to_string().contains("too many levels"), "{error}");
    }

    #[test]
    fn a_directory_as_target_fails_and_leaves_no_temporary_file() {
        let dir = Dir::new();
        fs::create_dir(dir.0.join("taken")).unwrap();
        let error = atomic_write(&dir.0.join("taken"), b"x").unwrap_err();
        assert_eq!(error.path(), dir.0.join("taken"));
        assert_eq!(dir.names(), ["taken"]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = Dir::new();
        let error = atomic_write(&dir.0.join("no/such/file"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("create "), "{error}");
        assert!(error.path().starts_with(dir.0.join("no/such")));
    }
}
