//! `omk cost`: the ledger shown, settled, fed and handed on.
//!
//! This file holds what the commands share: where the ledger is, which runs are meant, and how a run is found by its name.
//! The sums are made in [`crate::cost::report`], the arithmetic in [`crate::cost::explain`]; here they get their form. It
//! changes nothing that cannot be read: such a file is a warning, and stays where it is.

mod books;
pub(crate) mod budget;
pub(crate) mod check;
pub(crate) mod clear;
pub(crate) mod export;
pub(crate) mod fleet;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod push;
pub(crate) mod reconcile;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod settle;
pub(crate) mod show;
mod source;
pub(crate) mod sync;
pub(crate) mod verify;

use std::ops::ControlFlow;

use serde::Serialize;

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, LowCost, UsageError};
use crate::cli::ledger;
use crate::cost::file_sink::{Found, JsonFileCostSink};
use crate::cost::record::SessionCost;
use crate::cost::report::Filter;
use crate::cost::sink::{CostSink, Notes, SinkError};
use crate::cost::tracker::CostTracker;
use crate::cost::view::{Period, RecordView};
use crate::runtime::text::{escape, escape_os};

/// `--since`.
pub(crate) static SINCE: Flag = Flag {
    long: "since",
    takes: Takes::Value("WHEN", |low, v| {
        low.cost.since = Some(value::when(v)?);
        Ok(())
    }),
    doc: "Only runs that began then or later. 7d or 2w for so many whole days in UTC up to today, 12h for so long ago, a \
date such as 2026-11-01, a month such as 2026-11, or 2026-11-01T08:00:00Z. By default from the first one on.",
    ..Flag::BLANK
};

/// `--until`.
pub(crate) static UNTIL: Flag = Flag {
    long: "until",
    takes: Takes::Value("WHEN", |low, v| {
        low.cost.until = Some(value::when(v)?);
        Ok(())
    }),
    doc: "Only runs that began before the end of this. A date or a month is in to its end; otherwise as {--since}. By \
default to the last one.",
    ..Flag::BLANK
};

/// `--dry-run`.
pub(crate) static DRY_RUN: Flag = Flag {
    long: "dry-run",
    takes: Takes::Nothing(|low| low.cost.dry_run = true),
    doc: "Say what would be done and change nothing.",
    ..Flag::BLANK
};

/// `omk cost path`.
pub(crate) static PATH: CommandSpec = CommandSpec {
    name: "cost path",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "print where the ledger is",
    doc: "Prints the directory of the ledger, whether it is there or not.",
    examples: &[("omk cost path", "The directory, for a backup, say.")],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON],
    }],
    run: |invocation, env| path(&invocation.low, env),
};

/// The ledger of this user.
type Ledger = CostTracker<JsonFileCostSink>;

/// The JSON document `omk.cost-path/1`. Fields are only ever added.
#[derive(Serialize)]
struct PathDocument {
    path: String,
    exists: bool,
}

fn path(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let ledger = open(env)?;
    let path = ledger.sink().path();
    if low.json {
        env.output.document(
            "omk.cost-path/1",
            Exit::Done,
            &PathDocument {
                path: escape_os(path),
                exists: path.is_dir(),
            },
            None,
        )?;
    } else {
        env.output.print(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

/// The ledger, which need not be there yet.
fn open(env: &Env) -> Result<Ledger, Failure> {
    ledger::open(env).map_err(trouble)
}

/// Why the ledger did not do it.
pub(crate) fn trouble(error: SinkError) -> Failure {
    let failure = Failure::new(Exit::Io, "ledger", error.detail);
    match error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What of the ledger could not be read, and what is damaged.
fn warn(notes: &Notes, env: &mut Env) {
    for line in notes.lines() {
        env.output.warning(line);
    }
}

/// Which runs are meant.
fn filter(low: &LowCost, env: &Env) -> Result<Filter, UsageError> {
    let now = env.clock.now();
    let period = Period {
        from: low.since.as_ref().map(|when| when.start(now)),
        until: low.until.as_ref().map(|when| when.end(now)),
    };
    if let (Some(from), Some(until)) = (period.from, period.until)
        && until <= from
    {
        return Err(UsageError::new("--until ends before --since begins"));
    }
    Ok(Filter {
        period,
        tags: low.tags.clone(),
    })
}

/// Shows the columns of the runs that are meant.
fn scan<S: CostSink>(
    ledger: &CostTracker<S>,
    filter: &Filter,
    env: &mut Env,
    visit: &mut dyn FnMut(&RecordView<'_>),
) -> Result<(), Failure> {
    let notes = ledger
        .report(filter.period, &mut |run| {
            if filter.matches(run) {
                visit(run);
            }
            ControlFlow::Continue(())
        })
        .map_err(trouble)?;
    warn(&notes, env);
    Ok(())
}

/// The run that was named: in full, by its beginning, or as `last`.
fn find(low: &LowArgs, env: &mut Env) -> Result<Box<SessionCost>, Failure> {
    let Some(word) = low.positionals.first() else {
        return Err(UsageError::new("a run must be named")
            .hint("`omk cost list` has their names; `last` is the newest")
            .into());
    };
    let name = value::name(word).map_err(|error| UsageError::new(format!("ID: {error}")))?;
    let ledger = open(env)?;
    let missing = |detail: String| {
        Failure::new(Exit::Failed, "cost", detail).hint("`omk cost list` has the names of runs")
    };
    let name = match name.as_str() {
        "last" => last(&ledger, env)?.ok_or_else(|| missing("the ledger is empty".to_string()))?,
        _ => name,
    };
    let shown = escape(&name);
    match ledger.sink().find(&name).map_err(trouble)? {
        Found::One(run) => Ok(run),
        Found::None => Err(missing(format!("there is no run `{shown}`"))),
        Found::Many(ids) => {
            let more = if ids.len() > 5 { ", ..." } else { "" };
            let some: Vec<&str> = ids.iter().take(5).map(String::as_str).collect();
            let detail = format!(
                "`{shown}` begins the names of several runs: {}{more}",
                some.join(", ")
            );
            Err(Failure::new(Exit::Failed, "cost", detail)
                .hint("more of the name tells them apart"))
        }
    }
}

/// The name of the run that began last.
fn last(ledger: &Ledger, env: &mut Env) -> Result<Option<String>, Failure> {
    let mut newest: Option<(i64, String)> = None;
    scan(ledger, &Filter::default(), env, &mut |run| {
        let is_newer = newest
            .as_ref()
            .is_none_or(|(started, id)| (*started, id.as_str()) < (run.started_micros, run.id));
        if is_newer {
            newest = Some((run.started_micros, run.id.to_string()));
        }
    })?;
    Ok(newest.map(|(_, id)| id))
}

/// `1 run`, `2 runs`.
fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

/// Amounts with their decimal points under one another.
fn align_points(amounts: &mut [String]) {
    let after = |text: &str| {
        text.rsplit_once('.')
            .map_or(0, |(_, after)| after.len() + 1)
    };
    let widest = amounts
        .iter()
        .map(|amount| after(amount))
        .max()
        .unwrap_or(0);
    for amount in amounts {
        let blanks = widest - after(amount);
        amount.extend(std::iter::repeat_n(' ', blanks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_under_one_another() {
        let mut amounts = ["$12.30", "$0.0405", "-"].map(String::from);
        align_points(&mut amounts);
        assert_eq!(amounts, ["$12.30  ", "$0.0405", "-     "]);
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            (counted(1, "run"), counted(0, "run")),
            ("1 run".into(), "0 runs".into())
        );
    }
}
