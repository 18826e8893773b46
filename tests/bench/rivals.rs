//! Tokenizers that are no dependency of omk's: each in a process of its own, built and warm before it is
//! asked. What cannot be had on this machine is reported as not measured.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use omk::tokens::Vocabulary;

use crate::process::scratch;

/// A process that answers each path on its input with the number of tokens in that file and the
/// nanoseconds that encoding took, reading not included.
pub(crate) struct Rival {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Rival {
    fn start(command: &mut Command) -> Option<Rival> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        Some(Rival {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take()?),
            child,
        })
    }

    /// How many tokens this file has, and how long it took to find them; `None` when it gave up.
    pub(crate) fn ask(&mut self, path: &Path) -> Option<(u64, Duration)> {
        writeln!(self.input.as_mut()?, "{}", path.display()).ok()?;
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        let (count, nanoseconds) = line.trim().split_once(' ')?;
        let took = Duration::from_nanos(nanoseconds.parse().ok()?);
        Some((count.parse().ok()?, took))
    }

    /// The crate `splintr`, as a package of its own below the target directory: its dependencies would
    /// otherwise be built with every test of omk's.
    pub(crate) fn splintr(vocabulary: Vocabulary) -> Option<Rival> {
        let name = match vocabulary {
            Vocabulary::Kimi => "kimi_k2",
            other => other.name(),
        };
        Rival::start(Command::new(splintr()?).arg(name))
    }

    /// `gigatoken` from PyPI, where Python has it. It is given the vocabulary as a file of ranks.
    pub(crate) fn gigatoken(vocabulary: Vocabulary) -> Option<Rival> {
        let python = std::env::var_os("PYTHON").unwrap_or("python3".into());
        let import = ["-c", "import gigatoken"];
        let has = Command::new(&python)
            .args(import)
            .stderr(Stdio::null())
            .status();
        if !has.is_ok_and(|status| status.success()) {
            return None;
        }
        let split = match vocabulary {
            Vocabulary::Kimi => "kimi",
            Vocabulary::O200k => "o200k",
            _ => "gpt4",
        };
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/programs/gigatoken.py");
        let mut command = Command::new(python);
        command.arg(script).arg(ranks(vocabulary)).arg(split);
        Rival::start(&mut command)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends with its input; when not, this is a benchmark.
        let _ = self.child.wait();
    }
}

/// The program over `splintr`, built for speed; `None` where it cannot be fetched or built.
fn splintr() -> Option<PathBuf> {
    let package = scratch("count-splintr");
    std::fs::create_dir_all(package.join("src")).unwrap();
    let program = include_str!("programs/count_splintr.rs.txt");
    let manifest = include_str!("programs/count_splintr.toml");
    for (file, text) in [("src/main.rs", program), ("Cargo.toml", manifest)] {
        let path = package.join(file);
        // Written again, it would be built again.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
            std::fs::write(&path, text).unwrap();
        }
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--quiet"])
        .current_dir(&package);
    cargo.env("CARGO_TARGET_DIR", package.join("target"));
    let built = cargo.status().is_ok_and(|status| status.success());
    built.then(|| package.join("target/release/count-splintr"))
}

/// A file with each token of a vocabulary in base64 and its rank, as OpenAI publishes them.
fn ranks(vocabulary: Vocabulary) -> PathBuf {
    let tokens = tiktoken::get_encoding(crate::process::name_in_tiktoken(vocabulary)).unwrap();
    // Ordinary tokens come first, in all of these; what is above them is special.
    let ordinary = match vocabulary {
        Vocabulary::Kimi => 163_584,
        Vocabulary::O200k => 199_998,
        _ => 100_256,
    };
    let mut text = String::new();
    for rank in 0..ordinary {
        base64(&tokens.decode(&[rank]), &mut text);
        text.push_str(&format!(" {rank}\n"));
    }
    let path = scratch(&format!("{}.tiktoken", vocabulary.name()));
    std::fs::write(&path, text).unwrap();
    path
}

fn base64(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let is_there = digit <= three.len();
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if is_there {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
}
