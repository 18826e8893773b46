//! Whole programs: building those to compare with, how long one takes, how much memory it holds.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use omk::tokens::Vocabulary;

use crate::report::Contender;

/// Measures the peak memory of any program, however short it runs.
const GNU_TIME: &str = "/usr/bin/time";

/// Everything generated is below the target directory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Writes what a program is to read.
pub(crate) fn input_file(text: &str) -> PathBuf {
    let path = scratch("input");
    std::fs::write(&path, text).unwrap();
    path
}

/// A program with its arguments. It sees no variable of the developer's.
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<&'static str>,
    ledger: Option<PathBuf>,
}

impl Program {
    /// `omk`, which is to print nothing but the number of tokens.
    pub(crate) fn omk(vocabulary: Vocabulary) -> Program {
        Program {
            path: PathBuf::from(env!("CARGO_BIN_EXE_omk")),
            args: vec!["estimate", "--count", "--vocabulary", vocabulary.name()],
            ledger: None,
        }
    }

    /// `omk` with these words, and with this ledger.
    pub(crate) fn omk_cost(words: &'static str, ledger: &Path) -> Program {
        Program {
            path: PathBuf::from(env!("CARGO_BIN_EXE_omk")),
            args: words.split(' ').collect(),
            ledger: Some(ledger.to_path_buf()),
        }
    }

    /// The program that only reads.
    pub(crate) fn read_stdin() -> Program {
        Program {
            path: built("read-stdin"),
            args: Vec::new(),
            ledger: None,
        }
    }

    /// The least program over `tiktoken-rs`, which has no vocabulary of Kimi's.
    pub(crate) fn tiktoken_rs(vocabulary: Vocabulary) -> Option<Program> {
        (vocabulary != Vocabulary::Kimi).then(|| Program {
            path: built("count-tiktoken-rs"),
            args: vec![vocabulary.name()],
            ledger: None,
        })
    }

    /// The least program over `tiktoken`.
    pub(crate) fn tiktoken(vocabulary: Vocabulary) -> Program {
        Program {
            path: built("count-tiktoken"),
            args: vec![name_in_tiktoken(vocabulary)],
            ledger: None,
        }
    }

    /// How large the file is.
    pub(crate) fn size(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        self.complete(&mut command);
        command
    }

    /// Adds what it is run with.
    fn complete(&self, command: &mut Command) {
        command.args(&self.args).env_clear();
        command.envs(self.ledger.iter().map(|place| ("OMK_LEDGER", place)));
    }

    /// What it prints when it reads this file.
    pub(crate) fn output(&self, input: &Path) -> String {
        let mut command = self.command();
        let output = command.stdin(File::open(input).unwrap()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A run of it on this file: from before it is started until its end is known.
    pub(crate) fn contender<'a>(&self, input: &'a Path) -> Contender<'a> {
        let mut command = self.command();
        command.stdout(Stdio::null());
        Box::new(move || {
            command.stdin(File::open(input).unwrap());
            let start = Instant::now();
            let status = command.status().unwrap();
            let took = start.elapsed();
            assert!(status.success(), "{command:?}: {status}");
            took
        })
    }

    /// Its peak resident memory in KiB when it reads this file, if that can be measured.
    pub(crate) fn peak(&self, input: &Path) -> Option<u64> {
        let (mut command, result) = self.under_time()?;
        command.stdin(File::open(input).unwrap());
        Some(measured(start(command), &result))
    }

    /// Its peak resident memory in KiB when `feed` writes to its standard input.
    pub(crate) fn peak_of_stream(&self, feed: impl FnOnce(&mut dyn Write)) -> Option<u64> {
        let (mut command, result) = match self.under_time() {
            Some((command, result)) => (command, Some(result)),
            None => (self.command(), None),
        };
        command.stdin(Stdio::piped());
        let mut child = start(command);
        let mut pipe = child.stdin.take().unwrap();
        feed(&mut pipe);
        // All but the contents of the pipe has been read, and the process cannot end yet.
        let alive = result.is_none().then(|| high_water_mark(child.id()));
        drop(pipe);
        match result {
            Some(result) => Some(measured(child, &result)),
            None => {
                assert!(child.wait().unwrap().success());
                alive.flatten()
            }
        }
    }

    /// The same program, run by GNU time, which writes the peak into a file.
    fn under_time(&self) -> Option<(Command, PathBuf)> {
        has_gnu_time().then(|| {
            let result = scratch("peak");
            let mut command = Command::new(GNU_TIME);
            command.args(["-f", "%M", "-o"]).arg(&result);
            command.arg(&self.path);
            self.complete(&mut command);
            (command, result)
        })
    }
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).spawn().unwrap()
}

fn measured(mut child: Child, result: &Path) -> u64 {
    assert!(child.wait().unwrap().success());
    let peak = std::fs::read_to_string(result).unwrap();
    peak.trim().parse().unwrap()
}

fn has_gnu_time() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let output = Command::new(GNU_TIME).arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("GNU"))
    })
}

/// The most resident memory a living process ever had, in KiB, where there is a `/proc`.
fn high_water_mark(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mark = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    mark.trim().strip_suffix(" kB")?.parse().ok()
}

/// How peak memory was measured, for below a table.
pub(crate) fn how_peak_was_measured() -> &'static str {
    if has_gnu_time() {
        "Peak resident memory: `%M` of GNU time."
    } else {
        "Peak resident memory: `VmHWM` of the living process, for streams only; GNU time would measure files too."
    }
}

/// KiB as MiB, or that it is not known.
pub(crate) fn mib(kib: Option<u64>) -> String {
    kib.map_or("n/a".to_string(), |kib| {
        format!("{:.1}", kib as f64 / 1024.0)
    })
}

/// What the crate `tiktoken` calls it.
pub(crate) fn name_in_tiktoken(vocabulary: Vocabulary) -> &'static str {
    match vocabulary {
        Vocabulary::Kimi => "kimi_k2",
        other => other.name(),
    }
}

/// Where a program to compare with is. All are built the first time, with the profile that this
/// benchmark and the `omk` it runs were built with.
fn built(name: &str) -> PathBuf {
    static BUILT: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    let (_, path) = built.iter().find(|(built, _)| built == name).unwrap();
    path.clone()
}

fn build() -> Vec<(String, PathBuf)> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells this benchmark about its package would make build scripts that watch these
    // variables run again, now and at the next build.
    let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];
    for (name, _) in std::env::vars_os() {
        let starts = |start: &&str| name.as_encoded_bytes().starts_with(start.as_bytes());
        if of_package.iter().any(starts) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["bench", "--no-run", "--message-format=json", "--quiet"])
        .args([
            "--bench=read-stdin",
            "--bench=count-tiktoken-rs",
            "--bench=count-tiktoken",
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo cannot build the programs to compare with"
    );
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    messages
        .filter_map(|message: serde_json::Value| {
            let name = message["target"]["name"].as_str()?;
            let path = message["executable"].as_str()?;
            Some((name.to_string(), PathBuf::from(path)))
        })
        .collect()
}
