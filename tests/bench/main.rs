//! How `omk` compares: `cargo bench --bench estimate`.
//!
//! Every number is a ratio of things measured in the same run, one after the other in turn; a
//! millisecond of this machine says nothing about another. What is compared with are small programs
//! of their own, built here with the same profile. The output is Markdown.
//!
//! `cargo bench --bench estimate -- [--quick] [--text FILE]... [SECTION]...`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking and speaks by printing"
)]

mod corpus;
mod kinds;
mod ledger;
mod memory;
mod merge;
mod process;
mod report;
mod rivals;
#[path = "../it/sources.rs"]
mod sources;
mod start;
mod throughput;
mod worst;

use std::path::PathBuf;

use omk::tokens::Vocabulary;

/// What measures one thing and prints its table.
type Section = fn(&Options);

/// The sections, in the order in which they are printed.
const SECTIONS: &[(&str, Section)] = &[
    ("start", start::run),
    ("throughput", throughput::run),
    ("worst", worst::run),
    ("memory", memory::run),
    ("size", memory::run_size),
    ("merge", merge::run),
    ("ledger", ledger::run),
];

/// The vocabularies that are measured; the two older ones share the code of these.
const VOCABULARIES: [Vocabulary; 3] = [Vocabulary::Kimi, Vocabulary::O200k, Vocabulary::Cl100k];

const KB: usize = 1024;
const MB: usize = 1024 * KB;

/// What was asked on the command line.
#[derive(Default)]
struct Options {
    /// Small inputs and few runs: does it still work?
    quick: bool,
    /// Further files to measure throughput on.
    texts: Vec<PathBuf>,
    /// The sections to run; none means all.
    sections: Vec<String>,
}

impl Options {
    /// `None` without cargo's own `--bench`: `cargo test` ran it, which wants no measurement.
    fn from_args() -> Option<Options> {
        let mut options = Options::default();
        let mut is_bench = false;
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => is_bench = true,
                "--quick" => options.quick = true,
                "--text" => {
                    let file = args.next().expect("--text needs a file");
                    options.texts.push(PathBuf::from(file));
                }
                name if SECTIONS.iter().any(|(section, _)| *section == name) => {
                    options.sections.push(arg);
                }
                _ => {
                    let names = SECTIONS.iter().map(|(name, _)| *name);
                    let names = names.collect::<Vec<_>>().join(", ");
                    panic!("{arg}: expected --quick, --text FILE, or of {names}");
                }
            }
        }
        is_bench.then_some(options)
    }

    /// The one or the other, as `--quick` says.
    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() {
    let Some(options) = Options::from_args() else {
        println!("nothing is measured but by `cargo bench`");
        return;
    };
    for (name, run) in SECTIONS {
        if options.sections.is_empty() || options.sections.iter().any(|wanted| wanted == name) {
            run(&options);
        }
    }
}
