//! `omk cost clear`: old runs out of the ledger, after a word about what that is.

use std::io::{BufRead, IsTerminal, Read};

use serde::Serialize;

use crate::cli::commands::cost::report::SumsReport;
use crate::cli::commands::cost::{counted, scan, source, trouble};
use crate::cli::env::{Env, Stdin};
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::fleet;
use crate::cost::record::SessionStatus;
use crate::cost::report::{Filter, Sums};
use crate::cost::view::Period;
use crate::runtime::clock::{format_date, format_rfc3339, parse_rfc3339};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost clear",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "remove old runs from the ledger",
    doc: "Removes the runs that began before {--before}. It first says how many there are and what they cost, and asks \
on the terminal, unless {--yes} is given. Open runs stay. What is removed is gone: write it to a file with `omk cost \
export` first. Turns of an agent's sessions come back with the next `omk cost import`, as long as the agent keeps its \
logs.",
    examples: &[
        (
            "omk cost clear --before 2026-01-01",
            "Asks, then removes last year.",
        ),
        (
            "omk cost clear --before 365d --yes --json",
            "The same from a script, and what was removed as JSON.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &BEFORE,
            &super::DRY_RUN,
            &YES,
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static BEFORE: Flag = Flag {
    long: "before",
    takes: Takes::Value("WHEN", |low, v| {
        low.cost.before = Some(value::when(v)?);
        Ok(())
    }),
    doc: "Remove runs that began before the beginning of this. Needed; written as {--since}.",
    ..Flag::BLANK
};

static YES: Flag = Flag {
    long: "yes",
    short: Some('y'),
    takes: Takes::Nothing(|low| low.cost.yes = true),
    doc: "Do not ask. Without it, and without a terminal to ask on, nothing is removed and the exit code is 2.",
    ..Flag::BLANK
};

/// The JSON document `omk.cost-clear/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document {
    before: String,
    /// What the runs come to that were found.
    found: SumsReport,
    /// How many were removed.
    removed: u64,
    /// Runs that began before and stay, since they are open.
    open: u64,
}

/// Removes them.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let Some(when) = &low.cost.before else {
        return Err(UsageError::new("what is to be removed must be said")
            .hint("--before 2026-01-01, for instance")
            .into());
    };
    let mut before = when.start(env.clock.now());
    if low.cost.fleet {
        // The records of a fleet are kept by day.
        before = parse_rfc3339(&format!("{}T00:00:00Z", format_date(before))).unwrap_or(before);
    }
    let shown = format_rfc3339(before);
    let ledger = source::open(&low.cost, env)?;
    let filter = Filter {
        period: Period {
            from: None,
            until: Some(before),
        },
        ..Filter::default()
    };
    let (mut found, mut open) = (Sums::default(), 0);
    scan(&ledger, &filter, env, &mut |run| match run.status {
        SessionStatus::Open => open += 1,
        _ => found.add(run),
    })?;
    let mut what = format!(
        "{} that began before {shown}, {} in all",
        counted(found.runs(), "run"),
        found.metered.usd
    );
    let unsure = found.metered.in_doubt + found.metered.unpriced;
    if unsure > 0 {
        what.push_str(&format!(" and {unsure} of unknown amount"));
    }
    if open > 0 {
        what.push_str(&format!("; {open} of that time are open and stay"));
    }
    let goes = found.runs() > 0 && !low.cost.dry_run;
    if goes && !low.cost.yes {
        confirm(&what, env)?;
    }
    let removed = if goes {
        match low.cost.fleet {
            true => {
                let mut member = fleet::needed(&low.cost, env)?;
                let cleared = member.clear(&format_date(before), env.clock.now());
                cleared.map_err(fleet::failure)?;
                found.runs()
            }
            false => {
                let ledger = super::open(env)?;
                let removed = ledger.sink().remove(before).map_err(trouble)?;
                for warning in removed.warnings {
                    env.output.warning(warning);
                }
                removed.records as u64
            }
        }
    } else {
        0
    };
    if low.json {
        env.output.document(
            "omk.cost-clear/1",
            Exit::Done,
            &Document {
                before: shown,
                found: SumsReport::of(&found),
                removed,
                open,
            },
            None,
        )?;
    } else if low.cost.dry_run {
        env.output.print(&format!("would remove {what}\n"))?;
    } else if found.runs() == 0 {
        env.output.print(&format!("nothing to remove: {what}\n"))?;
    } else {
        env.output.print(&format!("removed {what}\n"))?;
    }
    Ok(Exit::Done)
}

/// Asks on the terminal.
fn confirm(what: &str, env: &mut Env) -> Result<(), Failure> {
    let is_watched = env.stdin.is_terminal() && std::io::stderr().is_terminal();
    if !is_watched || !matches!(env.stdin, Stdin::Process) {
        return Err(UsageError::new(format!("this would remove {what}"))
            .hint("--yes removes it; --dry-run only says what it is")
            .into());
    }
    env.output
        .note(&format!("this removes {what}; type yes to go on"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().take(100).read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "yes" | "y") => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "cost", "nothing was removed")),
    }
}
