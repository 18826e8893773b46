//! `omk cost sync`: what waits here goes to the fleet.

use serde::Serialize;

use crate::cli::commands::cost::{counted, open};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared};
use crate::cli::fleet;
use crate::fleet::member::Synced;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost sync",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "deliver to the fleet what waits on this machine",
    doc: "Delivers runs that the fleet's store has not heard of: those sent while it could not be reached, and those of \
processes that were killed. A run that was killed before it was granted is withdrawn; one that was killed afterwards counts \
at its bound until `omk cost recover` settles it and the next sync delivers that. Nothing is delivered twice.",
    examples: &[("omk cost sync", "The last step of a CI job, say.")],
    flags: &[FlagGroup {
        title: "",
        flags: &[&fleet::FLEET_TIMEOUT, &shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

/// The JSON document `omk.cost-sync/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document {
    fleet: String,
    /// Runs whose end the store now holds.
    delivered: u64,
    /// Reservations of runs that were killed before anything was sent.
    withdrawn: u64,
    /// Runs that still run.
    running: u64,
    /// Runs that were killed while they ran, counted at their bound.
    unrecovered: u64,
}

/// Delivers.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let mut member = fleet::needed(&low.cost, env)?;
    let mut ledger = open(env)?;
    let synced = member.sync(&mut ledger, usize::MAX, env.clock.now());
    let synced = synced.map_err(fleet::failure)?;
    let Synced {
        delivered,
        withdrawn,
        running,
        unrecovered,
        warnings,
    } = synced;
    for warning in warnings {
        env.output.warning(warning);
    }
    if unrecovered > 0 {
        env.output.warning(format!(
            "{} killed while running: counted at the most they can cost; `omk cost recover` settles them",
            counted(unrecovered, "run")
        ));
    }
    if low.json {
        let document = Document {
            fleet: member.place(),
            delivered,
            withdrawn,
            running,
            unrecovered,
        };
        env.output
            .document("omk.cost-sync/1", Exit::Done, &document, None)?;
    } else {
        let place = member.place();
        let delivered = counted(delivered, "run");
        env.output.print(&format!(
            "{delivered} delivered, {withdrawn} withdrawn, {running} running ({place})\n"
        ))?;
    }
    Ok(Exit::Done)
}
