//! `omk cost fleet`: sets up a fleet's store, measures it, and checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::catalog::money::Usd;
use crate::cli::commands::cost::{counted, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, UsageError, shared};
use crate::cli::{fleet, ledger};
use crate::cost::record::{CostKind, SessionStatus};
use crate::cost::sink::CostSink;
use crate::cost::view::Period;
use crate::fleet::document::Document as FleetDocument;
use crate::fleet::member::Member;
use crate::fleet::sink::FleetSink;
use crate::fleet::store::Trouble;
use crate::runtime::text::escape_os;

/// Reads that a round trip is the median of.
const SAMPLES: usize = 5;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost fleet",
    positionals: "ACTION",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "set up, measure and check the store of a fleet",
    doc: "ACTION is `init`, `status` or `verify`. `init` creates the document in the store that OMK_FLEET names, and has it \
sum the budgets of OMK_BUDGET from today on. `status` measures a read and a write, and says what the credentials may do: the \
exit code is 77 when they can read and not write. `verify` compares the sums of the document with the records of all runs; \
the exit code is 1 when they differ.",
    examples: &[
        ("omk cost fleet init", "Once for each team."),
        (
            "omk cost fleet status --json",
            "Whether this runner's credentials suffice.",
        ),
        (
            "omk cost fleet verify",
            "Whether the sums agree with the runs.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[&fleet::FLEET_TIMEOUT, &shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

/// The JSON document `omk.cost-fleet/1`. Fields are only ever added.
#[derive(Default, Serialize)]
struct Document {
    action: String,
    fleet: String,
    /// Whether the document is there.
    exists: bool,
    can_read: bool,
    /// Null when it was not tried.
    can_write: Option<bool>,
    read_ms: Option<f64>,
    write_ms: Option<f64>,
    document_bytes: Option<usize>,
    open: usize,
    unknown: usize,
    /// Days on which the sums and the records differ.
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    day: String,
    document_usd: String,
    records_usd: String,
}

/// Does it.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let action = low.positionals.first().and_then(|word| word.to_str());
    let act: fn(&mut Member, &LowArgs, &mut Env, &mut Document) -> Result<String, Failure> =
        match action {
            Some("init") => init,
            Some("status") => status,
            Some("verify") => verify,
            _ => {
                let given = low.positionals.first();
                let message = match given {
                    Some(word) => format!("`{}` is not an action", escape_os(word)),
                    None => "an action must be named".to_string(),
                };
                return Err(UsageError::new(message)
                    .hint("`omk cost fleet init`, `status` or `verify`")
                    .into());
            }
        };
    let mut member = fleet::needed(&low.cost, env)?;
    let mut document = Document {
        action: action.unwrap_or_default().to_string(),
        fleet: member.place(),
        ..Document::default()
    };
    let done = act(&mut member, low, env, &mut document);
    let (text, failure) = match done {
        Ok(text) => (text, None),
        Err(failure) => (String::new(), Some(failure)),
    };
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    match low.json {
        true => env
            .output
            .document("omk.cost-fleet/1", exit, &document, failure.as_ref())?,
        false => env.output.print(&text)?,
    }
    Ok(exit)
}

fn init(
    member: &mut Member,
    _: &LowArgs,
    env: &mut Env,
    document: &mut Document,
) -> Result<String, Failure> {
    let budgets = ledger::budgets(env)?;
    let registered = member.register(&budgets, env.clock.now());
    registered.map_err(fleet::failure)?;
    document.exists = true;
    document.can_read = true;
    document.can_write = Some(true);
    Ok(format!("the fleet is ready: {}\n", member.place()))
}

fn status(
    member: &mut Member,
    _: &LowArgs,
    env: &mut Env,
    document: &mut Document,
) -> Result<String, Failure> {
    let mut reads = Vec::new();
    let mut found = None;
    for _ in 0..SAMPLES {
        let started = Instant::now();
        found = member.store().get().map_err(fleet::failure)?;
        reads.push(started.elapsed());
    }
    reads.sort();
    let read = reads.get(SAMPLES / 2).copied().unwrap_or_default();
    document.can_read = true;
    document.read_ms = Some(millis(read));
    let Some(current) = found else {
        let detail = format!("{}: there is no document yet", member.place());
        return Err(
            Failure::new(Exit::Failed, "fleet", detail).hint("`omk cost fleet init` creates it")
        );
    };
    document.exists = true;
    document.document_bytes = Some(current.bytes.len());
    let known = FleetDocument::parse(&current.bytes).map_err(|error| {
        let detail = format!("{}: {error}", member.place());
        Failure::new(Exit::Config, "fleet", detail)
    })?;
    document.open = known.open().len();
    document.unknown = known.unknown().len();
    let started = Instant::now();
    let written = member.register(&[], env.clock.now());
    let write = started.elapsed();
    document.can_write = Some(written.is_ok());
    if let Err(error) = written {
        if error.trouble != Trouble::Denied {
            document.can_write = None;
            return Err(fleet::failure(error));
        }
        let mut failure = fleet::failure(error);
        failure.detail = format!(
            "these credentials can read and not write: {}",
            failure.detail
        );
        return Err(failure);
    }
    document.write_ms = Some(millis(write));
    Ok(format!(
        "{}\nread {:.1} ms, write {:.1} ms; the document has {} bytes, {} and {} of unknown cost\n",
        member.place(),
        millis(read),
        millis(write),
        current.bytes.len(),
        counted(known.open().len() as u64, "open run"),
        counted(known.unknown().len() as u64, "run"),
    ))
}

fn verify(
    member: &mut Member,
    low: &LowArgs,
    env: &mut Env,
    document: &mut Document,
) -> Result<String, Failure> {
    let known = member.document().map_err(fleet::failure)?;
    document.can_read = true;
    let Some(known) = known else {
        let detail = format!("{}: there is no document yet", member.place());
        return Err(
            Failure::new(Exit::Failed, "fleet", detail).hint("`omk cost fleet init` creates it")
        );
    };
    document.exists = true;
    document.open = known.open().len();
    document.unknown = known.unknown().len();
    let held: BTreeSet<&str> = known
        .open()
        .keys()
        .chain(known.unknown().keys())
        .map(String::as_str)
        .collect();
    let mut sums: BTreeMap<String, Usd> = known
        .days()
        .filter(|(day, _)| known.cleared().is_none_or(|cleared| cleared <= *day))
        .map(|(day, _)| (day.to_string(), Usd::ZERO))
        .collect();
    let reader = fleet::needed(&low.cost, env)?;
    let sink = FleetSink::new(reader.into_store(), fleet::timeout(&low.cost));
    let mut records = 0_u64;
    let notes = sink.scan_records(Period::default(), &mut |run, whole| {
        let is_over = !matches!(run.status, SessionStatus::Open | SessionStatus::Unknown);
        if is_over && !held.contains(run.id) {
            records += 1;
            let day = whole().map(|record| record.started_at.chars().take(10).collect::<String>());
            let usd = run
                .at_most_usd()
                .filter(|_| run.kind != CostKind::ListPriceEquivalent);
            if let Some(sum) = day.and_then(|day| sums.get_mut(&day)) {
                *sum = *sum + usd.unwrap_or(Usd::ZERO);
            }
        }
        ControlFlow::Continue(())
    });
    warn(&notes.map_err(trouble)?, env);
    for (day, usd) in known.days() {
        if let Some(sum) = sums.get(day).filter(|sum| **sum != usd) {
            document.differences.push(Difference {
                day: day.to_string(),
                document_usd: usd.exact_decimal(),
                records_usd: sum.exact_decimal(),
            });
        }
    }
    if let Some(first) = document.differences.first() {
        let detail = format!(
            "{}: on {} the document has {} USD and the records {} USD",
            member.place(),
            first.day,
            first.document_usd,
            first.records_usd
        );
        return Err(Failure::new(Exit::Failed, "fleet", detail)
            .hint("run it again: a run that was settled in between is a difference too"));
    }
    Ok(format!(
        "the sums agree with {} on {}\n",
        counted(records, "record"),
        counted(sums.len() as u64, "day")
    ))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}
