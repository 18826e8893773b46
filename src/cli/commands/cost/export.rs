//! `omk cost export`: the ledger for other programs.
//!
//! To standard output it is written as it is read. To a file it is put together first, since a file that is replaced in one
//! step has to be whole.

use std::ops::ControlFlow;

use crate::cli::commands::cost::{filter, open, scan, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::ExportFormat;
use crate::cli::flags::{LowArgs, UsageError};
use crate::cost::export::{CSV_COLUMNS, Metrics, csv_line, csv_run};
use crate::cost::view::with_view;
use crate::runtime::atomic::atomic_write;

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
    let ledger = open(env)?;
    let mut file = low.cost.output.as_ref().map(|_| String::new());
    // Lines come in batches: the ledger is read while they are made, and the output takes them afterwards.
    let mut failed = None;
    match format {
        ExportFormat::OpenMetrics => {
            let mut metrics = Metrics::default();
            scan(&ledger, &filter, env, &mut |run| metrics.add(run))?;
            put(&metrics.render(), &mut file, env)?;
        }
        ExportFormat::Csv => {
            put(&csv_line(CSV_COLUMNS), &mut file, env)?;
            let warnings = ledger.report(filter.period, &mut |run| {
                if !filter.matches(run) {
                    return ControlFlow::Continue(());
                }
                or_stop(put(&csv_run(run), &mut file, env), &mut failed)
            });
            warn(warnings.map_err(trouble)?, env);
        }
        ExportFormat::Jsonl => {
            let warnings = ledger.report_records(&mut |record| {
                let is_meant = with_view(record, |run| {
                    filter.period.contains(run.started_micros) && filter.matches(run)
                });
                if is_meant != Some(true) {
                    return ControlFlow::Continue(());
                }
                let line = serde_json::to_string(record).map_err(|error| {
                    Failure::new(
                        Exit::Failed,
                        "cost",
                        format!("the record {}: {error}", record.id),
                    )
                });
                let done = line.and_then(|line| put(&format!("{line}\n"), &mut file, env));
                or_stop(done, &mut failed)
            });
            warn(warnings.map_err(trouble)?, env);
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let (Some(path), Some(text)) = (&low.cost.output, file) {
        atomic_write(path, text.as_bytes()).map_err(|error| {
            Failure::new(Exit::Io, "output", format!("cannot {error}"))
                .hint("--output names a file in a directory that is there and can be written")
        })?;
    }
    Ok(Exit::Done)
}

fn put(text: &str, file: &mut Option<String>, env: &mut Env) -> Result<(), Failure> {
    match file {
        Some(file) => {
            file.push_str(text);
            Ok(())
        }
        None => env.output.print(text),
    }
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
