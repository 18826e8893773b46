//! git, through the program of that name.
//!
//! The document is the message of a commit without parents and without files, at `refs/omk/NAME/budget`; the version is the
//! commit's hash. `git push --force-with-lease=REF:HASH` is the conditional write. Commits without parents leave no history:
//! what a push replaces is garbage that the server collects. A message instead of a file makes one object of a version
//! instead of three, and one process to write it.
//!
//! Records are lines of commits at `refs/omk/NAME/runs/DAY/SEGMENT`. A machine adds to a segment of its own until that has
//! `SEGMENT_RUNS` runs; one push moves the document and the segment, or neither (`--atomic`). A segment is known by a
//! file beside the local ledger. Without it, or when the segment is not as expected, a new one with a random name is begun,
//! so two machines never wait for each other's segments.
//!
//! Nothing is written into the repository around: objects go to a directory of ours (`GIT_OBJECT_DIRECTORY`), no local
//! reference is made, and hooks do not run. The remote's name, address and credentials are those of the repository around.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::cost::record::random;
use crate::fleet::address::Address;
use crate::fleet::address::without_password;
use crate::fleet::object;
use crate::fleet::store::Current;
use crate::fleet::store::Days;
use crate::fleet::store::Entry;
use crate::fleet::store::Put;
use crate::fleet::store::Store;
use crate::fleet::store::StoreError;
use crate::fleet::store::Trouble;
use crate::runtime::file;
use crate::runtime::text;

/// Runs in one segment.
const SEGMENT_RUNS: usize = 64;
/// The tree without files, which git knows without having it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
/// References that one push removes.
const REMOVED_AT_ONCE: usize = 200;
/// Bytes of what git prints that are read.
const LARGEST_OUTPUT: u64 = 32 * 1024 * 1024;
/// Keys of services that git has no use for.
const KEYS: [&str; 2] = ["MOONSHOT_API_KEY", "KIMI_API_KEY"];

/// The engine.
#[derive(Debug)]
pub struct Git {
    remote: String,
    prefix: String,
    /// A bare repository of ours: the objects, and all of it for a remote that is an address.
    cache: PathBuf,
    /// The object directory of the repository around, when the remote is a name in it.
    around: Option<PathBuf>,
    is_ready: bool,
    /// The objects of the repository around have names that only git makes.
    is_sha256: bool,
    /// Whether the server takes several references in one step.
    is_atomic: bool,
    timeout: Duration,
    /// The document that was read or written last.
    seen: Option<Current>,
}

/// What a run of git printed.
struct Printed {
    is_success: bool,
    out: Vec<u8>,
    err: String,
}

impl Printed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// The segment that this machine adds to.
#[derive(Clone, Debug, Default)]
struct Segment {
    reference: String,
    /// The commit at which it should stand; empty for one that is begun.
    hash: String,
    lines: Vec<u8>,
}

impl Git {
    /// An engine for a remote. `cache` is a directory of ours, which need not be there yet.
    pub fn new(remote: impl Into<String>, prefix: impl Into<String>, cache: PathBuf) -> Git {
        Git {
            remote: remote.into(),
            prefix: prefix.into(),
            cache,
            around: None,
            is_ready: false,
            is_sha256: false,
            is_atomic: true,
            timeout: Duration::from_secs(5),
            seen: None,
        }
    }

    fn reference(&self) -> String {
        format!("{}budget", self.prefix)
    }

    /// Makes our repository, and finds the one around.
    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.is_ready {
            return Ok(());
        }
        if !self.cache.join("HEAD").is_file() {
            let made = fs::create_dir_all(&self.cache);
            made.map_err(|error| self.broken(&format!("{}: {error}", self.cache.display())))?;
            let mut command = Command::new("git");
            command.args(["init", "--quiet", "--bare"]).arg(&self.cache);
            for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"] {
                command.env_remove(name);
            }
            let made = self.run_command(command, None)?;
            if !made.is_success {
                return Err(self.broken(&format!("git init: {}", made.err)));
            }
        }
        if !Address::is_url(&self.remote) {
            let args = ["rev-parse", "--show-object-format", "--git-path", "objects"];
            let found = self.plain(&args)?;
            if !found.is_success {
                let detail = format!(
                    "{}: the current directory is in no git repository",
                    self.describe()
                );
                return Err(StoreError::new(Trouble::Broken, detail).hint(
                    "run omk in a clone, or name an address: OMK_FLEET=git+https://HOST/REPOSITORY",
                ));
            }
            let found = found.text();
            let (format, path) = found.split_once('\n').unwrap_or_default();
            self.is_sha256 = format != "sha1";
            let path = PathBuf::from(path.trim_end_matches(['\n', '\r']));
            self.around = Some(fs::canonicalize(&path).unwrap_or(path));
        }
        self.is_ready = true;
        Ok(())
    }

    /// Runs git in the repository around, as it is.
    fn plain(&self, args: &[&str]) -> Result<Printed, StoreError> {
        let mut command = Command::new("git");
        command.args(args);
        self.run_command(command, None)
    }

    /// Runs git with our objects.
    fn git(&mut self, args: &[&str], input: Option<&[u8]>) -> Result<Printed, StoreError> {
        self.prepare()?;
        let mut command = Command::new("git");
        for setting in [
            "core.hooksPath=/dev/null",
            "gc.auto=0",
            "maintenance.auto=false",
            // Commits without parents have nothing in common with what is there.
            "fetch.negotiationAlgorithm=noop",
            "fetch.writeCommitGraph=false",
        ] {
            command.args(["-c", setting]);
        }
        command.args(args);
        match &self.around {
            Some(objects) => {
                command.env("GIT_OBJECT_DIRECTORY", self.cache.join("objects"));
                let mut alternates = OsString::from(objects);
                if let Some(more) = std::env::var_os("GIT_ALTERNATE_OBJECT_DIRECTORIES") {
                    alternates.push(":");
                    alternates.push(more);
                }
                command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternates);
            }
            None => {
                command.env("GIT_DIR", &self.cache);
                for name in [
                    "GIT_WORK_TREE",
                    "GIT_OBJECT_DIRECTORY",
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                    "GIT_INDEX_FILE",
                    "GIT_COMMON_DIR",
                ] {
                    command.env_remove(name);
                }
            }
        }
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "omk");
            command.env(format!("GIT_{role}_EMAIL"), "omk@localhost");
        }
        self.run_command(command, input)
    }

    /// Runs a command until it ends or the time is over.
    fn run_command(
        &self,
        mut command: Command,
        input: Option<&[u8]>,
    ) -> Result<Printed, StoreError> {
        let failed = |what: &str, error: &std::io::Error| {
            StoreError::new(
                Trouble::Broken,
                format!("{}: {what}: {error}", self.describe()),
            )
        };
        // Messages are read, so they must be in one language; nobody is there to type a password.
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0");
        for key in KEYS {
            command.env_remove(key);
        }
        let stdin = match input {
            None => Stdio::null(),
            Some(bytes) => {
                let file = nameless(&self.cache, bytes);
                Stdio::from(file.map_err(|error| failed("input for git", &error))?)
            }
        };
        command.stdin(stdin);
        let deadline = Instant::now() + self.timeout;
        let ended = process::run(command, deadline, &self.cache);
        match ended {
            Ok(Some((is_success, out, err))) => Ok(Printed {
                is_success,
                out,
                err: shown(&err),
            }),
            Ok(None) => {
                let detail = format!(
                    "{}: no answer within {} ms",
                    self.describe(),
                    self.timeout.as_millis()
                );
                Err(StoreError::new(Trouble::Unreachable, detail)
                    .hint("--fleet-timeout waits longer"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(failed("git cannot be run", &error).hint("install git"))
            }
            Err(error) => Err(failed("git", &error)),
        }
    }

    fn broken(&self, why: &str) -> StoreError {
        StoreError::new(Trouble::Broken, format!("{}: {why}", self.describe()))
    }

    /// Why git did not do it, by what it printed.
    fn failure(&self, printed: &Printed) -> StoreError {
        let said = printed.err.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let detail = format!("{}: {}", self.describe(), printed.err);
        if has(&[
            "permission",
            "denied",
            "403",
            "401",
            "authentication failed",
            "could not read username",
            "could not read password",
            "hook declined",
            "protected",
            "not allowed",
            "not exported",
            "read-only",
            "service not enabled",
            "publickey",
        ]) {
            return StoreError::new(Trouble::Denied, detail).hint(
                "the credentials must be able to push to refs/omk; GitHub Actions needs `permissions: contents: write`",
            );
        }
        if has(&[
            "does not appear to be a git repository",
            "no such remote",
            "not found",
            "unknown transport",
            "not supported",
        ]) {
            return StoreError::new(Trouble::Broken, detail)
                .hint("`git remote -v` lists the remotes; OMK_FLEET=git+NAME names one");
        }
        StoreError::new(Trouble::Unreachable, detail)
    }

    /// The commit at which a reference of the remote stands.
    fn remote_hash(&mut self, reference: &str) -> Result<Option<String>, StoreError> {
        let remote = self.remote.clone();
        let listed = self.git(&["ls-remote", &remote, reference], None)?;
        if !listed.is_success {
            return Err(self.failure(&listed));
        }
        let listed = listed.text();
        let found = listed.lines().filter_map(|line| line.split_once('\t'));
        let mut found = found.filter(|(_, name)| *name == reference);
        Ok(found.next().map(|(hash, _)| hash.to_string()))
    }

    /// The message of a commit that is here.
    fn message(&mut self, hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let shown = self.git(&["cat-file", "commit", hash], None)?;
        Ok(shown.is_success.then(|| message_of(&shown.out)))
    }

    /// Writes a commit whose message is this.
    fn commit(&mut self, message: &[u8]) -> Result<String, StoreError> {
        self.prepare()?;
        if !self.is_sha256 {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seconds = now.map_or(0, |now| now.as_secs());
            let objects = self.cache.join("objects");
            return object::write_commit(&objects, EMPTY_TREE, seconds, message)
                .map_err(|error| self.broken(&format!("{}: {error}", objects.display())));
        }
        let tree = self.git(&["hash-object", "-t", "tree", "-w", "--stdin"], Some(b""))?;
        let made = self.git(&["commit-tree", tree.text().trim()], Some(message))?;
        match made.is_success {
            true => Ok(made.text().trim().to_string()),
            false => Err(self.broken(&made.err)),
        }
    }

    /// Fetches commits by their hashes, or by their references where the server does not hand out hashes.
    fn fetch(&mut self, wanted: &[(String, String)]) -> Result<bool, StoreError> {
        let remote = self.remote.clone();
        for by_hash in [true, false] {
            let lines = wanted.iter();
            let lines = lines.map(|(hash, name)| if by_hash { hash } else { name });
            let mut input = String::new();
            for line in lines {
                input.push_str(line);
                input.push('\n');
            }
            let args = [
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-recurse-submodules",
                "--refmap=",
                "--stdin",
                &remote,
            ];
            let fetched = self.git(&args, Some(input.as_bytes()))?;
            if fetched.is_success {
                return Ok(true);
            }
            let said = &fetched.err;
            // It moved on meanwhile, or hashes are not handed out.
            let is_gone = said.contains("not our ref")
                || said.contains("couldn't find remote ref")
                || said.contains("unadvertised object")
                || said.contains("remote did not send");
            if !is_gone {
                return Err(self.failure(&fetched));
            }
        }
        Ok(false)
    }

    fn segment_file(&self) -> PathBuf {
        self.cache.join("segment")
    }

    /// The segment that a record of this day goes to.
    fn segment(&self, day: &str) -> Segment {
        let known = || {
            let bytes = file::read_regular(&self.segment_file(), LARGEST_OUTPUT).ok()?;
            let end = bytes.iter().position(|byte| *byte == b'\n')?;
            let (head, lines) = bytes.split_at_checked(end + 1)?;
            let head = std::str::from_utf8(head).ok()?;
            let (reference, hash) = head.trim_end().split_once(' ')?;
            let is_of_day = reference.starts_with(&format!("{}runs/{day}/", self.prefix));
            let has_room = lines.iter().filter(|byte| **byte == b'\n').count() < SEGMENT_RUNS;
            (is_of_day && has_room).then(|| Segment {
                reference: reference.to_string(),
                hash: hash.to_string(),
                lines: lines.to_vec(),
            })
        };
        known().unwrap_or_else(|| Segment {
            reference: format!(
                "{}runs/{day}/{:012x}",
                self.prefix,
                random() & 0xffff_ffff_ffff
            ),
            ..Segment::default()
        })
    }

    /// Remembers the segment. Without it the next record begins another one, so a failure is of no consequence.
    fn keep(&self, segment: &Segment) {
        let path = self.segment_file();
        let mut bytes = format!("{} {}\n", segment.reference, segment.hash).into_bytes();
        bytes.extend_from_slice(&segment.lines);
        let beside = self.cache.join(format!("segment.{}", std::process::id()));
        if fs::write(&beside, bytes).is_ok() {
            let _ = fs::rename(&beside, path);
        }
    }

    /// The segments of some days, as hash and reference.
    fn segments(&mut self, days: &Days) -> Result<Vec<(String, String)>, StoreError> {
        let remote = self.remote.clone();
        let runs = format!("{}runs/", self.prefix);
        let listed = self.git(&["ls-remote", &remote, &format!("{runs}*")], None)?;
        if !listed.is_success {
            return Err(self.failure(&listed));
        }
        let listed = listed.text();
        let lines = listed.lines().filter_map(|line| line.split_once('\t'));
        let of_days = lines.filter(|(_, name)| {
            let rest = name.strip_prefix(&runs).unwrap_or_default();
            let day = rest.split('/').next().unwrap_or_default();
            !day.is_empty() && days.contain(day)
        });
        Ok(of_days
            .map(|(hash, name)| (hash.to_string(), name.to_string()))
            .collect())
    }

    /// Pushes, with leases for some references.
    fn push(
        &mut self,
        leases: &[(&str, &str)],
        moves: &[String],
        is_atomic: bool,
    ) -> Result<Pushed, StoreError> {
        let mut args = vec![
            "push".to_string(),
            "--porcelain".to_string(),
            "--quiet".to_string(),
            "--no-verify".to_string(),
            "--no-thin".to_string(),
            "--no-recurse-submodules".to_string(),
        ];
        if is_atomic {
            args.push("--atomic".to_string());
        }
        for (reference, hash) in leases {
            args.push(format!("--force-with-lease={reference}:{hash}"));
        }
        args.push(self.remote.clone());
        args.extend_from_slice(moves);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let printed = self.git(&args, None)?;
        if printed.is_success {
            return Ok(Pushed::Done);
        }
        let lines = printed.text();
        let rejected: Vec<&str> = lines.lines().filter(|line| line.starts_with('!')).collect();
        let any = |words: &[&str]| {
            let mut lines = rejected.iter();
            lines.any(|line| words.iter().any(|word| line.contains(word)))
        };
        if any(&[
            "stale info",
            "fetch first",
            "cannot lock ref",
            "failed to update ref",
            "failed to lock",
            "reference already exists",
            "incorrect old value",
            "failed transaction",
            "already exists",
        ]) {
            return Ok(Pushed::Stale);
        }
        if printed.err.contains("does not support --atomic") {
            return Ok(Pushed::NotAtomic);
        }
        let said = match rejected.first() {
            Some(line) => line.replace('\t', " "),
            None => printed.err,
        };
        Err(self.failure(&Printed {
            is_success: false,
            out: Vec::new(),
            err: said,
        }))
    }
}

/// What came of a push.
enum Pushed {
    Done,
    /// A reference is not where the lease says.
    Stale,
    /// The server does not take several references in one step.
    NotAtomic,
}

impl Store for Git {
    fn describe(&self) -> String {
        format!(
            "git {}, {}",
            without_password(&self.remote),
            self.reference()
        )
    }

    fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    fn get(&mut self) -> Result<Option<Current>, StoreError> {
        let reference = self.reference();
        // Between the two steps the document may move on.
        for _ in 0..4 {
            let Some(hash) = self.remote_hash(&reference)? else {
                self.seen = None;
                return Ok(None);
            };
            if let Some(seen) = self.seen.as_ref().filter(|seen| seen.version == hash) {
                return Ok(Some(seen.clone()));
            }
            if !self.fetch(&[(hash.clone(), reference.clone())])? {
                continue;
            }
            if let Some(bytes) = self.message(&hash)? {
                let current = Current {
                    bytes,
                    version: hash,
                };
                self.seen = Some(current.clone());
                return Ok(Some(current));
            }
        }
        let detail = format!("{}: it changes faster than it is read", self.describe());
        Err(StoreError::new(Trouble::Unreachable, detail))
    }

    fn put_if(
        &mut self,
        bytes: &[u8],
        expected: Option<&str>,
        entry: Option<&Entry>,
    ) -> Result<Put, StoreError> {
        let commit = self.commit(bytes)?;
        let reference = self.reference();
        let mut leases = vec![(reference.clone(), expected.unwrap_or_default().to_string())];
        let mut moves = vec![format!("{commit}:{reference}")];
        let mut segment = None;
        if let Some(entry) = entry {
            let mut next = self.segment(&entry.day);
            next.lines.extend_from_slice(&entry.bytes);
            next.lines.push(b'\n');
            let commit = self.commit(&next.lines)?;
            leases.push((next.reference.clone(), next.hash.clone()));
            moves.push(format!("{commit}:{}", next.reference));
            next.hash = commit;
            segment = Some(next);
        }
        let is_pair = segment.is_some();
        let as_pairs: Vec<(&str, &str)> = leases
            .iter()
            .map(|(reference, hash)| (reference.as_str(), hash.as_str()))
            .collect();
        let mut pushed = self.push(&as_pairs, &moves, is_pair && self.is_atomic)?;
        if matches!(pushed, Pushed::NotAtomic) || (is_pair && !self.is_atomic) {
            self.is_atomic = false;
            // The record first: the protocol relies on it.
            for place in [1, 0] {
                let (Some(lease), Some(to)) = (as_pairs.get(place), moves.get(place)) else {
                    continue;
                };
                pushed = self.push(&[*lease], std::slice::from_ref(to), false)?;
                if !matches!(pushed, Pushed::Done) {
                    break;
                }
            }
        }
        if matches!(pushed, Pushed::Done) {
            if let Some(segment) = &segment {
                self.keep(segment);
            }
            self.seen = Some(Current {
                bytes: bytes.to_vec(),
                version: commit.clone(),
            });
            return Ok(Put::Done(commit));
        }
        if is_pair {
            // It may be the segment that is not as expected; the next attempt begins another.
            let _ = fs::remove_file(self.segment_file());
        }
        Ok(Put::Conflict(None))
    }

    fn contains(&mut self, day: &str, run: &str) -> Result<bool, StoreError> {
        let needle = format!("\"id\":\"{run}\"");
        let mut found = false;
        self.entries(&Days::only(day), &mut |line| {
            found = String::from_utf8_lossy(line).contains(&needle);
            match found {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(found)
    }

    fn entries(
        &mut self,
        days: &Days,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let segments = self.segments(days)?;
        let mut hashes = String::new();
        for (hash, _) in &segments {
            hashes.push_str(hash);
            hashes.push('\n');
        }
        if segments.is_empty() {
            return Ok(());
        }
        let checked = self.git(&["cat-file", "--batch-check"], Some(hashes.as_bytes()))?;
        let checked = checked.text();
        let missing: Vec<&str> = checked
            .lines()
            .filter_map(|line| line.strip_suffix(" missing"))
            .collect();
        let wanted = segments.iter();
        let wanted = wanted.filter(|(hash, _)| missing.contains(&hash.as_str()));
        let wanted: Vec<(String, String)> = wanted.cloned().collect();
        if !wanted.is_empty() && !self.fetch(&wanted)? {
            let detail = format!("{}: segments changed while they were read", self.describe());
            return Err(StoreError::new(Trouble::Unreachable, detail).hint("run it again"));
        }
        let printed = self.git(&["cat-file", "--batch"], Some(hashes.as_bytes()))?;
        if !printed.is_success {
            return Err(self.failure(&printed));
        }
        let mut rest = printed.out.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, after) = rest.split_at(end);
            let head = String::from_utf8_lossy(head);
            let size = head.split(' ').nth(2).and_then(|size| size.parse().ok());
            let object = size.and_then(|size: usize| after.get(1..=size).map(|o| (size, o)));
            let Some((size, object)) = object else {
                // A segment that moved on after it was listed.
                rest = after.get(1..).unwrap_or_default();
                continue;
            };
            for line in message_of(object).split(|byte| *byte == b'\n') {
                if !line.is_empty() && visit(line).is_break() {
                    return Ok(());
                }
            }
            rest = after.get(size + 2..).unwrap_or_default();
        }
        Ok(())
    }

    fn remove_before(&mut self, day: &str) -> Result<(), StoreError> {
        let segments = self.segments(&Days::default())?;
        let runs = format!("{}runs/", self.prefix);
        let old = segments.iter().map(|(_, name)| name).filter(|name| {
            let rest = name.strip_prefix(&runs).unwrap_or_default();
            rest.split('/').next().is_some_and(|of| of < day)
        });
        let moves: Vec<String> = old.map(|name| format!(":{name}")).collect();
        for some in moves.chunks(REMOVED_AT_ONCE) {
            self.push(&[], some, false)?;
        }
        Ok(())
    }
}

/// The message of a commit object.
fn message_of(commit: &[u8]) -> Vec<u8> {
    let end = commit.windows(2).position(|pair| pair == b"\n\n");
    let message = end.and_then(|end| commit.get(end + 2..));
    message.unwrap_or_default().to_vec()
}

/// What git says, on one line and without passwords.
fn shown(err: &str) -> String {
    let lines = err.lines().map(str::trim);
    let useful = lines
        .filter(|line| !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("To "));
    let line = useful.collect::<Vec<&str>>().join("; ");
    let words = line.split(' ').map(|word| match word.contains("://") {
        true => without_password(word),
        false => word.to_string(),
    });
    let line = words.collect::<Vec<String>>().join(" ");
    text::escape(&text::truncate(&line, 400)).into_owned()
}

/// A file with these bytes that has no name any more.
fn nameless(directory: &Path, bytes: &[u8]) -> std::io::Result<fs::File> {
    use std::io::Seek;

    fs::create_dir_all(directory)?;
    let path = directory.join(format!("tmp.{}.{:x}", std::process::id(), random()));
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

mod process {
    use std::io::Read;
    use std::io::Seek;

    use super::*;

    /// Runs a program; `None` when time is over first. Whether it succeeded, its output and its messages.
    ///
    /// Output goes to files without names, so the program never waits for us, and one thread is enough.
    pub(super) fn run(
        mut command: Command,
        deadline: Instant,
        scratch: &Path,
    ) -> std::io::Result<Option<(bool, Vec<u8>, String)>> {
        let (mut out, mut err) = (nameless(scratch, b"")?, nameless(scratch, b"")?);
        command.stdout(Stdio::from(out.try_clone()?));
        command.stderr(Stdio::from(err.try_clone()?));
        let mut child = command.spawn()?;
        let mut pause = Duration::from_micros(300);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                // What it started ends when it finds its pipe closed.
                let _ = child.kill();
                let _ = child.wait();
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 5 / 4).min(Duration::from_millis(10));
        };
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        out.rewind()?;
        out.take(LARGEST_OUTPUT).read_to_end(&mut output)?;
        err.rewind()?;
        err.take(LARGEST_OUTPUT).read_to_end(&mut messages)?;
        let messages = String::from_utf8_lossy(&messages).into_owned();
        Ok(Some((status.success(), output, messages)))
    }
}
