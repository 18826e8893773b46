//! An agent as a child process: started, talked to by deadlines, and never left behind.
//!
//! The standard library has no read with a timeout on a pipe, and this program has one thread. So the child's standard
//! input and output are the ends of two Unix socket pairs, which do have timeouts. Three traps, each measured:
//!
//! - Two pairs, not one: kimi-cli takes readable data on its output for a hang-up and goes mute.
//! - For the same reason our end of the *output* pair is never shut down for writing; only the input pair is closed.
//! - The `Command` must be dropped after the start: it keeps the child's ends open, and the end of the stream never comes.
//!
//! The child's standard error is a file without a name, so it can neither fill up and block the child nor stay behind.
//!
//! # Stopping
//!
//! A closed input is what agents end on by themselves, and the only thing that makes Kimi Code end its tools. Others
//! leave their tools running, so the agent is started in a process group of its own and what is left of the group is
//! ended by signals. A signal to a group is `kill(2)` with a negative number, which std does not offer and which needs
//! `unsafe` elsewhere; the shell's `kill` does it, and unlike the program of that name it is on every system that has
//! `/bin/sh`. The group's number cannot belong to someone else while a member lives, and is not given out again in the
//! moment between the last one's end and our signal: process numbers go round before they come back.
//!
//! Waiting for an exit with a bound and without a thread: the end of the output stream is the event, because the system
//! closes it with the process. Since a tool may have inherited the stream and keep it open, and an agent may close it
//! early, the wait also asks `try_wait` in steps that grow from one millisecond to fifty.
//!
//! Refuses secrets in arguments by having no use for them: keys travel in [`Program::env`], which `Debug` does not show.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(unix)]
use crate::runtime::process as processes;
#[cfg(unix)]
use crate::runtime::signal;
#[cfg(unix)]
use crate::runtime::text;
use crate::transport::last_words;

#[cfg(unix)]
pub use unix::Child;

#[cfg(not(unix))]
pub use elsewhere::Child;

/// Longest line taken from an agent, unless it was sent a longer one: it may echo the whole prompt.
pub const MAX_LINE: usize = 16 * 1024 * 1024;
/// How many times longer than what was sent an echo may be: a character of two bytes becomes six when it is escaped.
#[cfg(unix)]
const ECHO: usize = 3;
/// Bytes of the child's standard error that an error quotes.
#[cfg(unix)]
const STDERR_TAIL: u64 = 8 * 1024;
/// How long a child has to end by itself when its owner forgot to stop it.
#[cfg(unix)]
const DROP_GRACE: Duration = Duration::from_millis(1500);

/// What to start, and how.
#[derive(Clone)]
pub struct Program {
    /// The program, as a path: nothing is looked up here.
    pub path: PathBuf,
    /// Its arguments. Other users of the machine can read them: no secret, no prompt.
    pub args: Vec<OsString>,
    /// Changes to the environment: a value to set, or `None` to remove.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// Where it works; ours when `None`.
    pub directory: Option<PathBuf>,
    /// Where the file for its standard error is made. It has no name a moment later.
    pub scratch: PathBuf,
    /// Longest line taken from it.
    pub max_line: usize,
}

impl Program {
    /// A program without arguments, in our environment and directory.
    pub fn new(path: impl Into<PathBuf>) -> Program {
        Program {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            scratch: std::env::temp_dir(),
            max_line: MAX_LINE,
        }
    }
}

impl fmt::Debug for Program {
    /// The environment may hold keys, so only its names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("args", &self.args)
            .field("env", &names)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The end of what it wrote to standard error, escaped line by line.
    pub stderr: String,
}

impl Exit {
    /// The lines of its standard error that say why, at most five.
    pub fn telling_lines(&self) -> Vec<String> {
        last_words::telling_lines(&self.stderr)
    }

    /// Whether its standard error says that a configuration file cannot be used.
    pub fn blames_configuration(&self) -> bool {
        let lines = self.telling_lines();
        lines.iter().any(|line| line.contains("configuration file"))
    }
}

impl fmt::Display for Exit {
    /// `exit code 1: <the lines of standard error that say why>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "ended by signal {signal}")?,
            (None, None) => f.write_str("ended")?,
        }
        let lines = self.telling_lines();
        match lines.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", lines.join("; ")),
        }
    }
}

/// Makes a tail of standard error fit to show: each line escaped, the broken first one dropped.
#[cfg(unix)]
fn show_tail(bytes: &[u8], cut: bool) -> String {
    let skipped = if cut {
        bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1)
    } else {
        0
    };
    let lines = bytes
        .get(skipped..)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n');
    let shown: Vec<String> = lines
        .map(|line| text::escape_bytes(line.trim_ascii_end()))
        .collect();
    shown.join("\n").trim_end().to_string()
}

#[cfg(unix)]
mod unix {
    use super::*;

    use std::fs::File;
    use std::fs::OpenOptions;
    use std::io;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process;
    use std::process::Command;
    use std::process::ExitStatus;
    use std::process::Stdio;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Instant;

    use crate::transport::line::Frame;
    use crate::transport::line::LineError;
    use crate::transport::line::LineReader;
    use crate::transport::link::Link;
    use crate::transport::link::LinkError;
    use crate::transport::link::Received;

    /// The pause between two looks at whether something has happened, to begin with.
    const FIRST_PAUSE: Duration = Duration::from_millis(1);
    /// And at most.
    const LAST_PAUSE: Duration = Duration::from_millis(50);
    /// How long the agent's processes have to end on SIGTERM, at most and at least.
    const TERM_GRACE: (Duration, Duration) =
        (Duration::from_millis(500), Duration::from_millis(50));
    /// How long after an agent's exit its output is still read.
    const LAST_WORDS: Duration = Duration::from_millis(200);
    /// How often an agent is looked at while it is silent.
    const LOOK: Duration = Duration::from_millis(100);
    /// How often processes are killed that start others faster than they are killed.
    const ROUNDS: usize = 50;
    /// The most that is kept on disk of what an agent writes to standard error.
    const MOST_STDERR: u64 = 4 * 1024 * 1024;
    /// How often that is looked at.
    const TRIM_EVERY: Duration = Duration::from_millis(20);

    /// A running agent. Dropping it ends it.
    #[derive(Debug)]
    pub struct Child {
        process: process::Child,
        /// `None` once closed.
        input: Option<UnixStream>,
        output: LineReader<UnixStream>,
        stderr: File,
        /// When its length was last looked at.
        trimmed: Instant,
        /// Set once the child has been waited for: then its numbers are no longer ours.
        exit: Option<Exit>,
        /// Set when a line was sent in part, after which no other can follow.
        torn: bool,
        /// How the agent's own process ended, once it has, and when that was noticed.
        ended: Option<(ExitStatus, Instant)>,
        /// The output counts as ended although someone holds it open.
        silent: bool,
        /// Longest line taken.
        max_line: usize,
        /// Children that this process had before: they are not the agent's.
        strangers: Vec<u32>,
    }

    impl Child {
        /// Starts a program.
        ///
        /// # Errors
        ///
        /// The program cannot be run, or its files cannot be made.
        pub fn spawn(program: &Program) -> Result<Child, LinkError> {
            let failed = |step: &str, e: io::Error| LinkError::Io {
                detail: format!("{step}: {e}"),
            };
            let (input, child_input) = UnixStream::pair().map_err(|e| failed("socket pair", e))?;
            let (output, child_output) =
                UnixStream::pair().map_err(|e| failed("socket pair", e))?;
            // Only our ends: the flag belongs to one end of a pair, the child's stay as any program expects them.
            input
                .set_nonblocking(true)
                .map_err(|e| failed("socket", e))?;
            let stderr = nameless_file(&program.scratch)?;
            let child_stderr = stderr
                .try_clone()
                .map_err(|e| failed("standard error", e))?;

            let mut command = Command::new(&program.path);
            command
                .args(&program.args)
                .stdin(Stdio::from(OwnedFd::from(child_input)))
                .stdout(Stdio::from(OwnedFd::from(child_output)))
                .stderr(Stdio::from(child_stderr))
                .process_group(0);
            if let Some(directory) = &program.directory {
                command.current_dir(directory);
            }
            for (name, value) in &program.env {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            let strangers = match signal::adopts_orphans() {
                true => processes::own_children(),
                false => Vec::new(),
            };
            let process = command.spawn().map_err(|e| LinkError::Spawn {
                program: text::escape(&program.path.display().to_string()).into_owned(),
                detail: e.to_string(),
                not_found: e.kind() == io::ErrorKind::NotFound,
            })?;
            // It holds the child's ends of both pairs, which would keep the streams open for ever.
            drop(command);
            signal::guard_group(Some(process.id()));
            Ok(Child {
                process,
                input: Some(input),
                output: LineReader::new(output, program.max_line),
                stderr,
                trimmed: Instant::now(),
                exit: None,
                torn: false,
                ended: None,
                silent: false,
                max_line: program.max_line,
                strangers,
            })
        }

        /// The child's process number, which is its group's too.
        pub fn id(&self) -> u32 {
            self.process.id()
        }

        /// The end of what it has written to standard error so far, escaped line by line.
        pub fn stderr_tail(&self) -> String {
            let (bytes, is_cut) = self.stderr_end();
            show_tail(&bytes, is_cut)
        }

        /// The last bytes of standard error, and whether there were more before.
        fn stderr_end(&self) -> (Vec<u8>, bool) {
            let length = self.stderr.metadata().map_or(0, |m| m.len());
            let start = length.saturating_sub(STDERR_TAIL);
            let mut bytes = Vec::new();
            let mut chunk = [0; 1024];
            // Reads beside the file's position, which the child shares.
            while let Ok(count @ 1..) = self.stderr.read_at(&mut chunk, start + bytes.len() as u64)
            {
                bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if bytes.len() as u64 >= STDERR_TAIL {
                    break;
                }
            }
            (bytes, start > 0)
        }

        /// Drops what was written to standard error but for its end, once that is too much for a disk.
        fn trim_stderr(&mut self) {
            if self.trimmed.elapsed() < TRIM_EVERY {
                return;
            }
            self.trimmed = Instant::now();
            if self.stderr.metadata().is_ok_and(|m| m.len() > MOST_STDERR) {
                let (end, _) = self.stderr_end();
                // The child appends, so it goes on after this.
                let _ = self
                    .stderr
                    .set_len(0)
                    .and_then(|()| self.stderr.write_all(&end));
            }
        }

        /// Ends the child and everything it started: closes its input, gives it `grace` to end by itself, then asks with
        /// SIGTERM for a third of that (between 50 and 500 ms), then kills. Returns when all are gone; what they still had to
        /// say is dropped. A second call tells the same.
        pub fn stop(&mut self, grace: Duration) -> Exit {
            if let Some(exit) = &self.exit {
                return exit.clone();
            }
            // Before the agent ends, since its children have another parent afterwards.
            let known = self.family(&[]);
            self.input = None;
            self.wait_until(Instant::now() + grace);
            let mut family = self.family(&known);
            if self.status().is_none() || !family.is_empty() {
                let (most, least) = TERM_GRACE;
                let deadline = Instant::now() + (grace / 3).clamp(least, most);
                signal::send_group(self.process.id(), signal::Signal::Terminate);
                for pid in &family {
                    signal::send(*pid, signal::Signal::Terminate);
                }
                self.wait_until(deadline);
                let mut pause = FIRST_PAUSE;
                family = self.family(&family);
                while !family.is_empty() && Instant::now() < deadline {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                    family = self.family(&family);
                }
                signal::send_group(self.process.id(), signal::Signal::Kill);
            }
            let status = self.status().or_else(|| {
                let _ = self.process.kill();
                self.process.wait().ok()
            });
            for _ in 0..ROUNDS {
                family = self.family(&family);
                if family.is_empty() {
                    break;
                }
                for pid in &family {
                    signal::send(*pid, signal::Signal::Kill);
                }
                thread::sleep(FIRST_PAUSE);
            }
            signal::guard_group(None);
            let exit = Exit {
                code: status.and_then(|s| s.code()),
                signal: status.and_then(|s| s.signal()),
                stderr: self.stderr_tail(),
            };
            self.exit = Some(exit.clone());
            exit
        }

        /// The processes that the agent started and that still run: what descends from it or from one of `known`, is in its
        /// group or session, or was adopted by this process. Those that have ended are collected.
        fn family(&self, known: &[u32]) -> Vec<u32> {
            let list = processes::list();
            let agent = self.process.id();
            let own = std::process::id();
            let mut found: Vec<u32> = known.to_vec();
            for root in known.iter().chain([&agent]) {
                let below = processes::descendants(&list, *root);
                found.extend(below.iter().map(|process| process.pid));
            }
            let in_group =
                |process: &&processes::Process| process.group == agent || process.session == agent;
            found.extend(list.iter().filter(in_group).map(|process| process.pid));
            if signal::adopts_orphans() {
                let orphans = list.iter().filter(|process| process.parent == own);
                for orphan in orphans.map(|process| process.pid) {
                    if !self.strangers.contains(&orphan) {
                        found.push(orphan);
                        let below = processes::descendants(&list, orphan);
                        found.extend(below.iter().map(|process| process.pid));
                    }
                }
            }
            found.sort_unstable();
            found.dedup();
            found.retain(|pid| *pid != agent && *pid != own);
            found.retain(
                |pid| match list.iter().find(|process| process.pid == *pid) {
                    Some(process) if process.is_zombie => {
                        if process.parent == own {
                            signal::reap(*pid);
                        }
                        false
                    }
                    there => there.is_some(),
                },
            );
            found
        }

        /// How the agent's own process ended, if it has.
        fn status(&mut self) -> Option<ExitStatus> {
            if self.ended.is_none()
                && let Ok(Some(status)) = self.process.try_wait()
            {
                self.ended = Some((status, Instant::now()));
            }
            self.ended.map(|(status, _)| status)
        }

        /// Waits for the agent's own exit, reading and dropping what it says: it may be blocked on saying it.
        fn wait_until(&mut self, deadline: Instant) {
            let mut pause = FIRST_PAUSE;
            let mut over = false;
            while self.status().is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                let slice = pause.min(left);
                if over {
                    self.trim_stderr();
                    thread::sleep(slice);
                    pause = (pause * 2).min(LAST_PAUSE);
                    continue;
                }
                match self.receive(Instant::now() + slice) {
                    Ok(Received::Line(_)) => {}
                    Ok(Received::Timeout) => {
                        // A signal cuts the wait short.
                        if signal::pending().is_some() {
                            thread::sleep(slice);
                        }
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                    Ok(Received::Eof) | Err(_) => {
                        over = true;
                        pause = FIRST_PAUSE;
                    }
                }
            }
        }

        /// Takes in what the child says for at most that long. Says whether it said anything.
        fn take_in(&mut self, slice: Duration) -> Result<bool, LinkError> {
            let before = self.output.buffered();
            if before <= self.max_line {
                set_read_timeout(self.output.source(), slice)?;
                if !self.output.fill().map_err(link_error)? {
                    return Ok(false);
                }
            }
            let said = self.output.buffered() > before;
            if !said {
                // Its output has ended, so nothing but the clock says when to look again.
                thread::sleep(slice);
            }
            Ok(said)
        }
    }

    impl Link for Child {
        /// While the child does not read, what it says is taken in: it may be waiting for that before it reads on.
        fn send(&mut self, line: &str, deadline: Instant) -> Result<(), LinkError> {
            if self.torn {
                return Err(LinkError::NotRead);
            }
            // It may say all of this back, escaped.
            self.max_line = self.max_line.max(line.len().saturating_mul(ECHO));
            self.output.set_limit(self.max_line);
            let mut pause = FIRST_PAUSE;
            for part in [line.as_bytes(), b"\n"] {
                let mut rest = part;
                while !rest.is_empty() {
                    let Some(mut input) = self.input.as_ref() else {
                        return Err(LinkError::Closed);
                    };
                    match input.write(rest) {
                        Ok(count) => {
                            rest = rest.get(count..).unwrap_or_default();
                            pause = FIRST_PAUSE;
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            let left = deadline.saturating_duration_since(Instant::now());
                            if left.is_zero() {
                                self.torn = true;
                                return Err(LinkError::NotRead);
                            }
                            if self.take_in(pause.min(left))? {
                                pause = FIRST_PAUSE;
                            } else {
                                pause = (pause * 2).min(LAST_PAUSE);
                            }
                        }
                        // The second is what some systems say when the reader left bytes unread.
                        Err(e)
                            if matches!(
                                e.kind(),
                                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                            ) =>
                        {
                            return Err(LinkError::Closed);
                        }
                        Err(e) => return Err(link_error(LineError::Io(e))),
                    }
                }
            }
            Ok(())
        }

        fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError> {
            self.trim_stderr();
            // Two steps because the borrow of a line must not outlive the loop that waits for it.
            while !self.silent && !self.output.has_line() {
                let left = deadline.saturating_duration_since(Instant::now());
                self.trim_stderr();
                // In the agent's last moment nothing more is waited for than what it wrote.
                let slice = match self.ended {
                    Some(_) => FIRST_PAUSE,
                    None => LOOK,
                };
                let slice = slice.min(left);
                match signal::wait(Some(self.output.source().as_fd()), slice) {
                    signal::Wake::Ready => {
                        set_read_timeout(self.output.source(), FIRST_PAUSE)?;
                        let before = self.output.buffered();
                        let heard = self.output.fill().map_err(link_error)?;
                        if heard && self.output.buffered() == before {
                            break;
                        }
                    }
                    // The agent has ended and has nothing left to say; a process that holds its output open may not hide it.
                    signal::Wake::TimedOut if self.ended.is_some() => self.silent = true,
                    signal::Wake::TimedOut => {}
                    signal::Wake::Caught => return Ok(Received::Timeout),
                }
                // A process that writes into the stream without end may not hide it either.
                if self.status().is_some()
                    && self
                        .ended
                        .is_some_and(|(_, when)| when.elapsed() > LAST_WORDS)
                {
                    self.silent = true;
                }
                if Instant::now() >= deadline && !self.silent && !self.output.has_line() {
                    return Ok(Received::Timeout);
                }
            }
            if self.silent {
                return match self.output.next_buffered().map_err(link_error)? {
                    Some(line) => Ok(Received::Line(line)),
                    None => Ok(Received::Eof),
                };
            }
            match self.output.next_frame().map_err(link_error)? {
                Frame::Line(line) | Frame::Unfinished(line) => Ok(Received::Line(line)),
                Frame::Pending => Ok(Received::Timeout),
                Frame::Eof => Ok(Received::Eof),
            }
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.stop(DROP_GRACE);
        }
    }

    fn set_read_timeout(stream: &UnixStream, timeout: Duration) -> Result<(), LinkError> {
        stream
            .set_read_timeout(Some(timeout))
            .map_err(|e| link_error(LineError::Io(e)))
    }

    fn link_error(error: LineError) -> LinkError {
        match error {
            LineError::TooLong { limit } => LinkError::TooLong { limit },
            LineError::Io(e) => LinkError::Io {
                detail: e.to_string(),
            },
        }
    }

    /// A file that is gone when the last one who has it open is: its name is removed at once.
    fn nameless_file(directory: &std::path::Path) -> Result<File, LinkError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let nanos = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |d| d.subsec_nanos());
        let path = directory.join(format!(".omk-{}-{count}-{nanos}.err", process::id()));
        let opened = OpenOptions::new()
            .read(true)
            // What the child's own children write must not go over what it wrote.
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        opened
            .and_then(|file| std::fs::remove_file(&path).map(|()| file))
            .map_err(|e| LinkError::Io {
                detail: format!("file for standard error in {}: {e}", directory.display()),
            })
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    use std::convert::Infallible;
    use std::time::Instant;

    use crate::transport::link::Link;
    use crate::transport::link::LinkError;
    use crate::transport::link::Received;

    /// A running agent, of which this platform cannot have one.
    #[derive(Debug)]
    pub struct Child(Infallible);

    impl Child {
        /// Says that it cannot be.
        ///
        /// # Errors
        ///
        /// Always [`LinkError::Unsupported`].
        pub fn spawn(_program: &Program) -> Result<Child, LinkError> {
            Err(LinkError::Unsupported)
        }

        /// The child's process number.
        pub fn id(&self) -> u32 {
            match self.0 {}
        }

        /// The end of what it has written to standard error.
        pub fn stderr_tail(&self) -> String {
            match self.0 {}
        }

        /// Ends the child.
        pub fn stop(&mut self, _grace: Duration) -> Exit {
            match self.0 {}
        }
    }

    impl Link for Child {
        fn send(&mut self, _line: &str, _deadline: Instant) -> Result<(), LinkError> {
            match self.0 {}
        }

        fn receive(&mut self, _deadline: Instant) -> Result<Received<'_>, LinkError> {
            match self.0 {}
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    use std::time::Instant;

    use crate::transport::link::Link;
    use crate::transport::link::LinkError;
    use crate::transport::link::Received;

    /// Far enough away that only a hang reaches it.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A shell as the agent.
    fn sh(script: &str) -> Child {
        let mut program = Program::new("/bin/sh");
        program.args = vec!["-c".into(), script.into()];
        program.max_line = 32 * 1024 * 1024;
        Child::spawn(&program).unwrap()
    }

    fn line(child: &mut Child) -> String {
        match child.receive(soon()).unwrap() {
            Received::Line(line) => String::from_utf8(line.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Whether a process is there and is not just waiting to be waited for.
    fn lives(pid: &str) -> bool {
        let output = std::process::Command::new("ps")
            .args(["-o", "stat=", "-p", pid])
            .output()
            .unwrap();
        let state = String::from_utf8(output.stdout).unwrap();
        !state.trim().is_empty() && !state.trim().starts_with('Z')
    }

    #[test]
    fn lines_go_there_and_back_and_a_closed_input_ends_the_child() {
        let mut child = sh(r#"while read -r l; do echo "got $l"; done; echo bye >&2; exit 3"#);
        for word in ["one", "two"] {
            child.send(word, soon()).unwrap();
            assert_eq!(line(&mut child), format!("got {word}"));
        }
        let exit = child.stop(Duration::from_secs(60));
        assert_eq!((exit.code, exit.signal), (Some(3), None));
        assert_eq!(exit.to_string(), "exit code 3: bye");
        assert_eq!(child.stop(Duration::ZERO), exit);
        assert_eq!(child.send("late", soon()), Err(LinkError::Closed));
    }

    #[test]
    fn a_deadline_ends_the_wait_and_keeps_the_half_line() {
        let mut child = sh("printf half; read -r l; echo ' whole'; printf rest");
        let now = Instant::now();
        // However often it is asked, the half is not given out.
        for _ in 0..3 {
            assert_eq!(child.receive(now).unwrap(), Received::Timeout);
        }
        child.send("go", soon()).unwrap();
        assert_eq!(line(&mut child), "half whole");
        assert_eq!(line(&mut child), "rest");
        assert_eq!(child.receive(soon()).unwrap(), Received::Eof);
        assert_eq!(child.receive(soon()).unwrap(), Received::Eof);
    }

    #[test]
    fn a_long_line_crosses_both_ways_though_the_child_answers_before_it_has_read_it() {
        let mut child = sh("exec cat");
        let long = "x".repeat(5 * 1024 * 1024);
        child.send(&long, soon()).unwrap();
        assert!(line(&mut child) == long);
    }

    #[test]
    fn a_child_that_does_not_read_meets_the_deadline() {
        let mut child = sh("exec sleep 1000");
        let long = "x".repeat(5 * 1024 * 1024);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(child.send(&long, deadline), Err(LinkError::NotRead));
        // What follows half a line would be read as its rest.
        assert_eq!(child.send("more", soon()), Err(LinkError::NotRead));
        assert!(child.stop(Duration::ZERO).signal.is_some());
    }

    #[test]
    fn a_child_that_is_gone_is_an_end_and_then_an_error() {
        let mut child = sh("exit 7");
        assert_eq!(child.receive(soon()).unwrap(), Received::Eof);
        let long = "x".repeat(5 * 1024 * 1024);
        assert_eq!(child.send(&long, soon()), Err(LinkError::Closed));
        assert_eq!(child.stop(Duration::from_secs(60)).code, Some(7));
    }

    #[test]
    fn a_line_over_the_limit_is_an_error() {
        let mut program = Program::new("/bin/sh");
        program.args = vec!["-c".into(), "echo 123456789; exec sleep 1000".into()];
        program.max_line = 8;
        let mut child = Child::spawn(&program).unwrap();
        assert_eq!(child.receive(soon()), Err(LinkError::TooLong { limit: 8 }));
    }

    #[test]
    fn tools_that_the_agent_leaves_behind_are_ended() {
        // The agent ends at once when its input does, its tool would go on.
        let mut child = sh("sleep 1000 >/dev/null 2>&1 </dev/null & echo $!; read -r l; exit 0");
        let tool = line(&mut child);
        assert!(lives(&tool));
        assert_eq!(child.stop(Duration::from_secs(60)).code, Some(0));
        assert!(!lives(&tool));
    }

    #[test]
    fn what_ignores_every_request_is_killed_and_dropping_is_enough() {
        let script = "trap '' TERM; sleep 1000 & echo $$ $!; while :; do wait; done";
        let mut child = sh(script);
        let both = line(&mut child);
        let (agent, tool) = both.split_once(' ').unwrap();
        assert!(lives(agent) && lives(tool));
        assert_eq!(agent, child.id().to_string());
        let exit = child.stop(Duration::ZERO);
        assert_eq!((exit.code, exit.signal), (None, Some(9)));
        assert!(!lives(agent) && !lives(tool));

        let mut child = sh("echo $$; exec sleep 1000");
        let agent = line(&mut child);
        drop(child);
        assert!(!lives(&agent));
    }

    #[test]
    fn a_process_that_has_left_the_group_and_the_session_is_ended() {
        // In a session of its own, and it ignores the request to end.
        let script = "setsid sh -c 'trap \"\" TERM; echo $$; exec >/dev/null; while :; do sleep 1; done' & wait";
        let mut child = sh(script);
        let tool = line(&mut child);
        assert!(lives(&tool));
        child.stop(Duration::ZERO);
        assert!(!lives(&tool));
    }

    #[test]
    fn a_process_that_holds_the_output_open_does_not_hide_the_exit() {
        let mut child = sh("sleep 1000 & echo $!; printf 'last words'; exit 4");
        let tool = line(&mut child);
        assert_eq!(line(&mut child), "last words");
        assert_eq!(child.receive(soon()).unwrap(), Received::Eof);
        assert_eq!(child.stop(Duration::from_secs(60)).code, Some(4));
        assert!(!lives(&tool));
        // Nor does one that writes into it without end.
        let mut child = sh("while :; do echo x; done & exit 5");
        while child.receive(soon()).unwrap() != Received::Eof {}
        assert_eq!(child.stop(Duration::from_secs(60)).code, Some(5));
    }

    #[test]
    fn the_tail_of_standard_error_is_bounded_and_escaped() {
        let child_says = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; \
                          printf 'red \\033[31m\\n\\n' >&2";
        let mut child = sh(child_says);
        assert_eq!(child.receive(soon()).unwrap(), Received::Eof);
        let exit = child.stop(Duration::from_secs(60));
        assert!(exit.stderr.starts_with("line 1"), "{}", exit.stderr);
        assert!(exit.stderr.ends_with("line 1999\nred \\u{1b}[31m"));
        // Escapes are longer than what they show.
        assert!(exit.stderr.len() as u64 <= STDERR_TAIL + 16);
        assert_eq!(
            exit.to_string(),
            "exit code 0: line 1998; line 1999; red \\u{1b}[31m"
        );
    }

    #[test]
    fn the_environment_is_changed_and_not_shown() {
        let mut program = Program::new("/bin/sh");
        program.args = vec!["-c".into(), "echo \"$OMK_TEST_KEY|$PATH\"; pwd".into()];
        program.env = vec![
            ("OMK_TEST_KEY".into(), Some("sk-private".into())),
            ("PATH".into(), None),
        ];
        program.directory = Some("/".into());
        let shown = format!("{program:?}");
        assert!(shown.contains("OMK_TEST_KEY") && !shown.contains("private"));
        let mut child = Child::spawn(&program).unwrap();
        assert!(line(&mut child).starts_with("sk-private|"));
        assert_eq!(line(&mut child), "/");
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        let error = Child::spawn(&Program::new("/no/such/kimi")).unwrap_err();
        let LinkError::Spawn {
            program, not_found, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((program.as_str(), not_found), ("/no/such/kimi", true));

        let mut program = Program::new("/bin/sh");
        program.scratch = "/no/such/directory".into();
        let error = Child::spawn(&program).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }
}
