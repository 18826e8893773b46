//! `omk cost settle`: say what a run cost when neither its peer nor a log does.

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::cli::commands::cost::{find, open, trouble};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, UsageError};
use crate::cost::amend::{self, Amendment, Settlement};
use crate::runtime::clock::format_rfc3339;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost settle",
    positionals: "ID",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "say what a run cost, by the provider's bill",
    doc: "Settles the run ID to the amount of {--usd}, or to nothing with {--void}. Use it for a run that was killed or \
broke off, whose cost the provider's bill knows and the ledger does not: until then budgets count such a run with the most \
that it can have cost. What the record said before is kept and shown by `omk cost explain`. ID is as in `omk cost show`.",
    examples: &[
        (
            "omk cost settle last --usd 0.42 --note refund",
            "The newest run cost 42 cents.",
        ),
        (
            "omk cost settle 20261101T0930 --void",
            "A run that the provider did not bill.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &USD,
            &CNY,
            &VOID,
            &NOTE,
            &FORCE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static USD: Flag = Flag {
    long: "usd",
    takes: Takes::Value("AMOUNT", |low, v| {
        low.cost.settle_usd = Some(value::usd(v)?);
        Ok(())
    }),
    doc: "What the run cost, in USD, such as 0.42.",
    ..Flag::BLANK
};

static CNY: Flag = Flag {
    long: "cny",
    takes: Takes::Value("AMOUNT", |low, v| {
        low.cost.settle_cny = Some(value::usd(v)?);
        Ok(())
    }),
    doc: "What a run that is billed in CNY cost, in CNY.",
    ..Flag::BLANK
};

static VOID: Flag = Flag {
    long: "void",
    takes: Takes::Nothing(|low| low.cost.void = true),
    doc: "The run was not billed.",
    ..Flag::BLANK
};

static NOTE: Flag = Flag {
    long: "note",
    takes: Takes::Value("TEXT", |low, v| {
        low.cost.note = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Why it cost that. It is shown by `omk cost explain`.",
    ..Flag::BLANK
};

static FORCE: Flag = Flag {
    long: "force",
    takes: Takes::Nothing(|low| low.cost.force = true),
    doc: "Settle an open run of another machine. It may still be at work.",
    ..Flag::BLANK
};

/// The JSON document `omk.cost-settle/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    currency: Currency,
    usd: Option<Usd>,
    amendment: Option<&'a Amendment>,
}

/// Settles a run by hand.
fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let amounts = [
        (low.cost.settle_usd, Currency::Usd, "--usd"),
        (low.cost.settle_cny, Currency::Cny, "--cny"),
    ];
    let mut given = amounts
        .into_iter()
        .filter_map(|(amount, currency, flag)| Some((amount?, currency, flag)));
    let given = match (given.next(), given.next()) {
        (Some(_), Some(_)) => return Err(UsageError::conflict("--usd", "--cny").into()),
        (given, _) => given,
    };
    let to = match (given, low.cost.void) {
        (Some((.., flag)), true) => return Err(UsageError::conflict(flag, "--void").into()),
        (Some((amount, ..)), false) => Settlement::Cost(amount),
        (None, true) => Settlement::Void,
        (None, false) => {
            return Err(UsageError::new("the amount is missing")
                .hint("--usd 0.42 says what the run cost, --void that it was not billed")
                .into());
        }
    };
    let mut run = find(low, env)?;
    if let Some((_, currency, flag)) = given
        && currency != run.currency
    {
        let message = format!("{} is billed in {}, not {currency}", run.id, run.currency);
        let right = run.currency.name().to_ascii_lowercase();
        return Err(UsageError::new(message)
            .hint(format!("--{right} in place of {flag}"))
            .into());
    }
    let owner = match (run.owner.is_alive(), low.cost.force) {
        (None, true) => Some(false),
        (owner, _) => owner,
    };
    let at = format_rfc3339(env.clock.now());
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| env.variable(name));
    let user = user.map_or(String::new(), |user| user.to_string_lossy().into_owned());
    let by = format!("{user}@{}", crate::runtime::process::host_name());
    let note = low.cost.note.clone().unwrap_or_default();
    amend::settle(&mut run, to, owner, (at, by, note)).map_err(|error| {
        let failure = Failure::new(Exit::Failed, "cost", format!("{}: {error}", run.id));
        match error {
            amend::AmendError::Running => failure.hint("settle it when it has ended"),
            amend::AmendError::Unseen => failure.hint("--force settles it all the same"),
        }
    })?;
    let mut ledger = open(env)?;
    ledger.update(&run).map_err(trouble)?;
    if low.json {
        env.output.document(
            "omk.cost-settle/1",
            Exit::Done,
            &Document {
                id: &run.id,
                currency: run.currency,
                usd: run.actual_usd,
                amendment: run.amendments.last(),
            },
            None,
        )?;
    } else {
        let usd = run.actual_usd.unwrap_or(Usd::ZERO).shown_in(run.currency);
        env.output.print(&format!("{}  settled: {usd}\n", run.id))?;
    }
    Ok(Exit::Done)
}
