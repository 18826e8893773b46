//! `omk cost verify` and `omk cost repair`: damage in the ledger, found and put aside.

use serde::Serialize;

use crate::catalog::money::Usd;
use crate::cli::commands::cost::{counted, open, trouble};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared};
use crate::cost::sink::Damage;
use crate::runtime::text::escape_os;

/// The place of `verify` in the table of commands.
pub(crate) static VERIFY: CommandSpec = CommandSpec {
    name: "cost verify",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "read the whole ledger and report damage",
    doc: "Reads every file of the ledger and compares it with its checksums. Changes nothing. The exit code is 74 when \
something is damaged; each damaged file is named, with the runs that it lost and the most that they can have cost. A run \
with a budget that the damage may concern is refused until `omk cost repair` has put it aside.",
    examples: &[(
        "omk cost verify || omk cost repair",
        "Look for damage, and put it aside if there is any.",
    )],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| verify(&invocation.low, env),
};

/// The place of `repair` in the table of commands.
pub(crate) static REPAIR: CommandSpec = CommandSpec {
    name: "cost repair",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "put what is damaged in the ledger aside",
    doc: "Copies each damaged file into the directory `damaged` of the ledger and keeps what can be read of it. A record of \
status `unknown` with the label `omk.damaged` stands for the runs that cannot be read; budgets count it at the most that \
could still be read, or as a run of unknown cost. `omk cost clear` removes it with the other runs of its time. Nothing is \
deleted.",
    examples: &[(
        "omk cost repair --json",
        "Repairs, and prints what was put aside as JSON.",
    )],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| repair(&invocation.low, env),
};

/// A damaged file, as JSON shows it.
#[derive(Serialize)]
struct DamageReport {
    path: String,
    what: String,
    /// Runs that cannot be read.
    runs: u64,
    /// What they can have cost at most; null when that cannot be read.
    at_most_usd: Option<Usd>,
    /// Where `omk cost repair` put it.
    moved_to: Option<String>,
    /// The record that stands for the runs now.
    id: Option<String>,
}

impl DamageReport {
    fn of(damage: &Damage) -> DamageReport {
        DamageReport {
            path: escape_os(&damage.path),
            what: damage.what.clone(),
            runs: damage.runs,
            at_most_usd: damage.bound,
            moved_to: None,
            id: None,
        }
    }
}

/// The JSON document `omk.cost-verify/1`. Fields are only ever added.
#[derive(Serialize)]
struct VerifyDocument {
    files: u64,
    runs: u64,
    damage: Vec<DamageReport>,
}

/// The JSON document `omk.cost-repair/1`. Fields are only ever added.
#[derive(Serialize)]
struct RepairDocument {
    repaired: Vec<DamageReport>,
}

fn verify(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let found = open(env)?.sink().verify().map_err(trouble)?;
    for warning in &found.notes.warnings {
        env.output.warning(warning.clone());
    }
    let damage = &found.notes.damage;
    let failure = (!damage.is_empty()).then(|| {
        let files = counted(damage.len() as u64, "file");
        let verb = if damage.len() == 1 { "is" } else { "are" };
        let detail = format!("{files} of the ledger {verb} damaged");
        Failure::new(Exit::Io, "ledger", detail).hint(
            "`omk cost repair` puts what is damaged aside; until then budgets that it may concern refuse to run",
        )
    });
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if low.json {
        let document = VerifyDocument {
            files: found.files,
            runs: found.records,
            damage: damage.iter().map(DamageReport::of).collect(),
        };
        env.output
            .document("omk.cost-verify/1", exit, &document, failure.as_ref())?;
    } else {
        let mut text: String = damage.iter().map(|damage| format!("{damage}\n")).collect();
        if damage.is_empty() {
            let (runs, files) = (counted(found.records, "run"), counted(found.files, "file"));
            text = format!("{runs} in {files}, no damage\n");
        }
        env.output.print(&text)?;
    }
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    Ok(exit)
}

fn repair(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let now = env.clock.now();
    let (aside, warnings) = open(env)?.sink().repair(now).map_err(trouble)?;
    for warning in warnings {
        env.output.warning(warning);
    }
    if low.json {
        let repaired = aside.iter().map(|aside| DamageReport {
            moved_to: Some(escape_os(&aside.to)),
            id: aside.stands_for.clone(),
            ..DamageReport::of(&aside.damage)
        });
        let document = RepairDocument {
            repaired: repaired.collect(),
        };
        env.output
            .document("omk.cost-repair/1", Exit::Done, &document, None)?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for aside in &aside {
        text.push_str(&format!(
            "{}; moved to {}",
            aside.damage,
            aside.to.display()
        ));
        if let Some(id) = &aside.stands_for {
            text.push_str(&format!("; {id} stands for it"));
        }
        text.push('\n');
    }
    if aside.is_empty() {
        text.push_str("nothing to repair\n");
    }
    env.output.print(&text)?;
    Ok(Exit::Done)
}
