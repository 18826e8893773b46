//! `omk cost export`: the ledger for other programs.
//!
//! It is written as it is read, so its length costs no memory: to standard output, or beside the file that it replaces in one
//! step when it is whole. OpenMetrics holds a sum for each set of labels that there is.

use std::ops::ControlFlow;

use crate::cli::commands::cost::{filter, source, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::ExportFormat;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::{fleet, json};
use crate::cost::export::{CSV_COLUMNS, Metrics, csv_line, csv_run};
use crate::runtime::atomic::{AtomicFile, AtomicWriteError, Disk, sweep_beside};
use std::path::{Path, PathBuf};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost export",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "write the ledger for other programs",
    doc: "Writes the runs of the ledger in the format {--format}. jsonl has a whole record on each line, with every \
amount as a number and as a decimal. csv has the main columns. openmetrics has sums for the textfile collector of the \
Prometheus node exporter; they only fall if `omk cost clear` removes runs.",
    examples: &[
        (
            "omk cost export --format csv --since 2026-11 > november.csv",
            "A month for a spreadsheet.",
        ),
        (
            "omk cost export --format openmetrics -o /var/lib/node_exporter/omk.prom",
            "Sums for a metrics system; the file is replaced in one step.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &shared::TAG_FILTER,
            &super::SINCE,
            &super::UNTIL,
            &FORMAT,
            &OUTPUT,
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static FORMAT: Flag = Flag {
    long: "format",
    takes: Takes::Value("FORMAT", |low, v| {
        low.cost.format = Some(value::word(v)?);
        Ok(())
    }),
    doc: "What to write. The default is jsonl.",
    choices: &["jsonl", "csv", "openmetrics"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static OUTPUT: Flag = Flag {
    long: "output",
    short: Some('o'),
    takes: Takes::Value("FILE", |low, v| {
        low.cost.output = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Write to FILE instead of standard output. It is replaced in one step, so a reader sees the old one or the new one. Its mode stays; a new file gets the mode that your umask leaves.",
    completes: Completes::Files,
    ..Flag::BLANK
};

/// Writes it.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let format = low.cost.format.unwrap_or(ExportFormat::Jsonl);
    let filter = filter(&low.cost, env)?;
    let moves = [&low.cost.since, &low.cost.until]
        .into_iter()
        .flatten()
        .any(|when| when.is_relative());
    if format == ExportFormat::OpenMetrics && moves {
        return Err(
            UsageError::new("a counter may only rise, and one of the last days falls")
                .hint("with --format openmetrics name a date: --since 2026-01-01")
                .into(),
        );
    }
    let ledger = source::open(&low.cost, env)?;
    if let Some(path) = &low.cost.output {
        sweep_beside(path);
    }
    let mut out = match &low.cost.output {
        None => Out::Standard(env),
        Some(path) => Out::File {
            file: begin(path).map_err(|error| cannot(&error))?,
            buffer: String::new(),
        },
    };
    let mut failed = None;
    let notes = match format {
        ExportFormat::OpenMetrics => {
            let mut metrics = Metrics::default();
            let notes = ledger.report(filter.period, &mut |run| {
                if filter.matches(run) {
                    metrics.add(run);
                }
                ControlFlow::Continue(())
            });
            out.put(&metrics.render())?;
            notes
        }
        ExportFormat::Csv => {
            out.put(&csv_line(CSV_COLUMNS))?;
            ledger.report(filter.period, &mut |run| match filter.matches(run) {
                true => or_stop(out.put(&csv_run(run)), &mut failed),
                false => ControlFlow::Continue(()),
            })
        }
        ExportFormat::Jsonl => ledger.report_records(filter.period, &mut |run, whole| {
            let Some(record) = filter.matches(run).then(whole).flatten() else {
                return ControlFlow::Continue(());
            };
            let mut line = Vec::new();
            let done = match json::write(&mut line, &record) {
                Ok(()) => out.put(&format!("{}\n", String::from_utf8_lossy(&line))),
                Err(error) => {
                    let detail = format!("the record {}: {error}", record.id);
                    Err(Failure::new(Exit::Failed, "cost", detail))
                }
            };
            or_stop(done, &mut failed)
        }),
    };
    let notes = notes.map_err(trouble)?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    out.close()?;
    warn(&notes, env);
    Ok(Exit::Done)
}

/// So much of a file is gathered before it is written.
const PIECE: usize = 1 << 16;

/// Where the lines go.
#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Out<'a> {
    Standard(&'a mut Env),
    File {
        file: AtomicFile<'static>,
        buffer: String,
    },
}

impl Out<'_> {
    fn put(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Out::Standard(env) => env.output.print(text),
            Out::File { file, buffer } => {
                buffer.push_str(text);
                if buffer.len() < PIECE {
                    return Ok(());
                }
                let written = file.write(buffer.as_bytes());
                buffer.clear();
                written.map_err(|error| cannot(&error))
            }
        }
    }

    /// Puts a file in its place.
    fn close(self) -> Result<(), Failure> {
        let Out::File { mut file, buffer } = self else {
            return Ok(());
        };
        let written = file.write(buffer.as_bytes()).and_then(|()| file.commit());
        written.map_err(|error| cannot(&error))
    }
}

/// A file for others to read, such as a collector of another user's.
fn begin(path: &Path) -> Result<AtomicFile<'static>, AtomicWriteError> {
    let mut file = AtomicFile::create(&Disk, path)?;
    file.share()?;
    Ok(file)
}

fn cannot(error: &AtomicWriteError) -> Failure {
    Failure::new(Exit::Io, "output", format!("cannot {error}"))
        .hint("--output names a file in a directory that is there and can be written")
}

fn or_stop(done: Result<(), Failure>, failed: &mut Option<Failure>) -> ControlFlow<()> {
    match done {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => {
            *failed = Some(failure);
            ControlFlow::Break(())
        }
    }
}
