//! A hermetic place to run the built program in.
//!
//! Each test has a directory of its own, wiped when the test starts so that a failure can be looked
//! at. The program sees no variable of the developer's but `PATH`, and its home, temporary and
//! config directories are in the sandbox. A failed assertion prints the arguments, the directory,
//! the status and both streams.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use omk::llm::schema::Validator;

/// No run of a test takes longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is wrong with a document by the schema that `omk help --schema` prints for it; nothing for one that is not omk's.
pub(crate) fn violations(document: &serde_json::Value) -> String {
    let name = document["schema"].as_str().unwrap_or_default();
    let name = name
        .strip_prefix("omk.")
        .and_then(|name| name.strip_suffix("/1"));
    name.map_or(String::new(), |name| violations_of(name, document))
}

/// What is wrong with a document by the schema of that name.
pub(crate) fn violations_of(name: &str, document: &serde_json::Value) -> String {
    static VALIDATORS: OnceLock<Mutex<HashMap<String, Validator>>> = OnceLock::new();
    let mut validators = VALIDATORS.get_or_init(Mutex::default).lock().unwrap();
    let validator = validators.entry(name.to_string()).or_insert_with(|| {
        let mut omk = Command::new(env!("CARGO_BIN_EXE_omk"));
        let printed = omk.args(["help", "--schema", name]).output().unwrap();
        assert!(
            printed.status.success(),
            "there is no schema of omk.{name}/1"
        );
        Validator::new(&serde_json::from_slice(&printed.stdout).unwrap()).unwrap()
    });
    let found = validator.check(document);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    found.join("; ")
}

/// The directory of one test.
pub(crate) struct Sandbox {
    root: PathBuf,
}

impl Sandbox {
    /// An empty sandbox; `name` is that of the test, unique in the whole binary.
    pub(crate) fn new(name: &str) -> Sandbox {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&root);
        for directory in ["home", "tmp", "config/omk", "work"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        Sandbox { root }
    }

    /// A path below the sandbox; the program runs in `work`.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Writes a file into the working directory, and the directories on the way to it.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Sandbox {
        let path = self.root.join("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Writes the config file.
    pub(crate) fn config(&self, json: &str) -> &Sandbox {
        std::fs::write(self.root.join("config/omk/config.json"), json).unwrap();
        self
    }

    /// `omk` with the words of `line` as arguments.
    pub(crate) fn omk(&self, line: &str) -> Run {
        self.command(env!("CARGO_BIN_EXE_omk"), line.split_whitespace())
    }

    /// Another program, in the same surroundings and with `omk` first on the path.
    pub(crate) fn command<S: Into<OsString>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let mut command = Command::new(program);
        command
            .args(&args)
            .current_dir(self.root.join("work"))
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.root.join("home"))
            .env("TMPDIR", self.root.join("tmp"))
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Run {
            command,
            stdin: None,
        }
    }
}

/// The developer's path, with the directory of the built program first.
fn path() -> OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_omk"))
        .parent()
        .unwrap()
        .to_path_buf();
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([own].into_iter().chain(std::env::split_paths(&others))).unwrap()
}

/// Is there such a program on the path?
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&path()).any(|directory| directory.join(program).is_file())
}

/// A program about to be run.
pub(crate) struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Run {
    /// One more argument, of any bytes.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Run {
        self.command.arg(arg.into());
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Run {
        self.command.env(name, value.into());
        self
    }

    /// Removes a variable.
    pub(crate) fn without(mut self, name: &str) -> Run {
        self.command.env_remove(name);
        self
    }

    /// Pipes these bytes into standard input and closes it.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.command.stdin(Stdio::piped());
        self.stdin = Some(bytes.into());
        self
    }

    /// Connects a stream to a file instead.
    pub(crate) fn stdin_from(mut self, stdin: Stdio) -> Run {
        self.command.stdin(stdin);
        self
    }

    /// Sends standard output elsewhere; it is then not captured.
    pub(crate) fn stdout_to(mut self, stdout: Stdio) -> Run {
        self.command.stdout(stdout);
        self
    }

    /// The same in a terminal of its own, whose other end is the standard input and output of what is run. `redirect` is
    /// shell, such as `> file`.
    pub(crate) fn in_terminal(self, redirect: &str) -> Run {
        let quoted =
            |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
        let words = [self.command.get_program()]
            .into_iter()
            .chain(self.command.get_args());
        let words: Vec<String> = words.map(quoted).collect();
        let line = format!("{} {redirect}", words.join(" "));
        let mut command = Command::new("script");
        command
            .args(["-q", "-e", "-f", "-c", &line, "/dev/null"])
            .current_dir(self.command.get_current_dir().unwrap())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Run {
            command,
            stdin: None,
        }
    }

    /// Starts it, for a test that does the waiting itself.
    pub(crate) fn spawn(mut self) -> Child {
        self.command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.command))
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(mut self) -> Outcome {
        let started = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.command));
        // Three threads, so that no pipe fills up while another is waited for.
        let bytes = self.stdin.take().unwrap_or_default();
        let feeder = child.stdin.take().map(|mut pipe| {
            // A program that does not read its input to the end is not an error of the test.
            thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let stdout = child
            .stdout
            .take()
            .map(|pipe| thread::spawn(move || read_all(pipe)));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| thread::spawn(move || read_all(pipe)));
        let mut peak_kib = 0;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if started.elapsed() > PATIENCE => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
                None => {
                    peak_kib = peak_kib.max(peak(child.id()));
                    thread::sleep(Duration::from_millis(1));
                }
            }
        };
        if let Some(feeder) = feeder {
            feeder.join().unwrap();
        }
        let outcome = Outcome {
            command: format!("{:?}", self.command),
            directory: self.command.get_current_dir().map(Path::to_path_buf),
            status,
            took: started.elapsed(),
            peak_kib,
            stdout: stdout
                .map(|thread| thread.join().unwrap())
                .unwrap_or_default(),
            stderr: stderr
                .map(|thread| thread.join().unwrap())
                .unwrap_or_default(),
        };
        outcome.check(status.is_some(), "it did not end");
        outcome
    }
}

/// The most memory that a living process ever had in use, in KiB, on Linux.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn read_all(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    bytes
}

/// How a program ended.
pub(crate) struct Outcome {
    command: String,
    directory: Option<PathBuf>,
    status: Option<ExitStatus>,
    pub(crate) took: Duration,
    /// The most memory it had in use, but for what it took in its last millisecond; 0 where the system does not tell.
    pub(crate) peak_kib: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Outcome {
    /// Fails with everything there is to know about the run.
    #[track_caller]
    pub(crate) fn check(&self, holds: bool, claim: &str) {
        assert!(
            holds,
            "{claim}\n  command: {}\n  directory: {}\n  status: {:?} after {:?}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.command,
            self.directory
                .as_deref()
                .unwrap_or(Path::new("?"))
                .display(),
            self.status,
            self.took,
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr),
        );
    }

    /// Where it ran.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_deref().unwrap()
    }

    /// The exit code is this.
    #[track_caller]
    pub(crate) fn code(&self, code: i32) -> &Outcome {
        self.check(
            self.status.and_then(|status| status.code()) == Some(code),
            &format!("expected exit code {code}"),
        );
        self
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub(crate) fn stdout(&self, text: &str) -> &Outcome {
        self.check(
            self.stdout == text.as_bytes(),
            &format!("expected on stdout: {text:?}"),
        );
        self
    }

    /// Standard output contains this.
    #[track_caller]
    pub(crate) fn stdout_contains(&self, text: &str) -> &Outcome {
        self.check(
            self.stdout_text().contains(text),
            &format!("expected on stdout: {text:?}"),
        );
        self
    }

    /// Standard error is exactly this.
    #[track_caller]
    pub(crate) fn stderr(&self, text: &str) -> &Outcome {
        let kept = lines_without_age(&String::from_utf8_lossy(&self.stderr));
        self.check(kept == text, &format!("expected on stderr: {text:?}"));
        self
    }

    /// Standard error contains this.
    #[track_caller]
    pub(crate) fn stderr_contains(&self, text: &str) -> &Outcome {
        let stderr = String::from_utf8_lossy(&self.stderr);
        self.check(
            stderr.contains(text),
            &format!("expected on stderr: {text:?}"),
        );
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub(crate) fn stdout_text(&self) -> &str {
        let text = std::str::from_utf8(&self.stdout);
        self.check(text.is_ok(), "stdout is not UTF-8");
        text.unwrap_or_default()
    }

    /// Standard error as text.
    pub(crate) fn stderr_text(&self) -> &str {
        let text = std::str::from_utf8(&self.stderr);
        self.check(text.is_ok(), "stderr is not UTF-8");
        text.unwrap_or_default()
    }

    /// Standard output, which must be one JSON document on one line.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let text = self.stdout_text();
        self.check(
            text.lines().count() == 1 && text.ends_with('\n'),
            "expected one line of JSON on stdout",
        );
        let document = serde_json::from_str(text);
        self.check(document.is_ok(), "expected JSON on stdout");
        let mut document = document.unwrap_or_default();
        let violations = violations(&document);
        without_age(&mut document);
        self.check(
            violations.is_empty(),
            &format!("the document is not as its schema says: {violations}"),
        );
        document
    }
}

/// What a warning of an old price begins with. How old a builtin price is depends on the day.
const AGE: &str = "the price of ";

/// What was printed, without the lines of such warnings.
pub(crate) fn lines_without_age(text: &str) -> String {
    let is_age = |line: &&str| line.starts_with(&format!("omk: warning: {AGE}"));
    text.split_inclusive('\n')
        .filter(|line| !is_age(line))
        .collect()
}

/// Takes such warnings out of a document.
pub(crate) fn without_age(document: &mut serde_json::Value) {
    let warnings = document.get_mut("warnings");
    if let Some(warnings) = warnings.and_then(serde_json::Value::as_array_mut) {
        warnings.retain(|text| !text.as_str().is_some_and(|text| text.starts_with(AGE)));
    }
}
