//! `omk cost check`: a gate for scripts, silent while all is well.

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::cli::commands::cost::{counted, source, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::flags::{LowArgs, UsageError};
use crate::cli::fleet;
use crate::cli::ledger;
use crate::cost::budget::{self, Budget, Standing};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost check",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "fail when a budget is spent: a gate for scripts",
    doc: "Holds the ledger against the budgets of {--max-usd}, else of OMK_BUDGET. It prints nothing and ends with 0 while \
all hold; otherwise the exit code is 5 and the message says limit, spent and reserved. A run counts with the most that it \
can have cost: what is not known to be spent is reserved. A run of unknown cost fails the check, unless {--allow-unknown} \
is given. What a subscription paid for does not count.",
    examples: &[
        (
            "omk cost check --max-usd 5/day",
            "Exit code 5 when today's runs cost more than 5 USD.",
        ),
        (
            "omk cost check --max-usd 40/month --tag team=infra || exit",
            "A gate before a job, for the runs of one label.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &shared::TAG_FILTER,
            &MAX_USD,
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &ALLOW_UNKNOWN,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static MAX_USD: Flag = Flag {
    long: "max-usd",
    takes: Takes::Value("BUDGET[,...]", |low, v| {
        low.cost.budgets.extend(value::budgets(v)?);
        Ok(())
    }),
    doc: "Fail when runs cost more than this together. An amount in USD over a day, a week from Monday, or a month, in \
UTC: 5/day, 40/month, tag:ci=1/day; several with commas between them. The default is OMK_BUDGET.",
    repeats: true,
    ..Flag::BLANK
};

static ALLOW_UNKNOWN: Flag = Flag {
    long: "allow-unknown",
    takes: Takes::Nothing(|low| low.cost.allow_unknown = true),
    doc: "Pass although runs have an unknown cost. Those ran without a known price, or were killed without a \
bound; they are not counted.",
    ..Flag::BLANK
};

/// The JSON document `omk.cost-check/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document {
    budgets: Vec<BudgetReport>,
}

#[derive(Serialize)]
struct BudgetReport {
    budget: String,
    per: &'static str,
    tag: Option<String>,
    currency: Currency,
    limit_usd: String,
    spent_usd: String,
    reserved_usd: String,
    /// Runs that may have cost something of which neither amount nor bound is known; they are in no sum.
    unknown_runs: u64,
    over: bool,
}

/// Checks.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let budgets = budgets(low, env)?;
    let ledger = source::open(&low.cost, env)?;
    let now = env.clock.now();
    let (standings, notes) = budget::standings(&ledger, &budgets, now, None).map_err(trouble)?;
    warn(&notes, env);
    let over: Vec<&Standing> = standings
        .iter()
        .filter(|standing| is_over(standing) || (standing.unknown > 0 && !low.cost.allow_unknown))
        .collect();
    if low.cost.allow_unknown {
        for standing in standings.iter().filter(|standing| standing.unknown > 0) {
            let runs = counted(standing.unknown, "run");
            env.output.warning(format!(
                "{}: {runs} of unknown cost not counted",
                standing.budget
            ));
        }
    }
    let failure = (!over.is_empty()).then(|| {
        let details: Vec<String> = over.iter().map(|standing| describe(standing)).collect();
        Failure::new(Exit::Budget, "budget", details.join("; "))
            .hint("`omk cost report` shows what it was spent on; `omk cost recover` settles what killed runs reserved, `omk cost settle` what the provider's bill knows")
    });
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    if low.json {
        env.output.document(
            "omk.cost-check/1",
            exit,
            &Document {
                budgets: standings.iter().map(report).collect(),
            },
            failure.as_ref(),
        )?;
    }
    Ok(exit)
}

/// The budgets that were given, else those of the environment, for the runs with the label that was given.
fn budgets(low: &LowArgs, env: &Env) -> Result<Vec<Budget>, Failure> {
    let mut budgets = low.cost.budgets.clone();
    if budgets.is_empty() {
        budgets = ledger::budgets(env)?;
    }
    if budgets.is_empty() {
        return Err(UsageError::new("there is no budget to check")
            .hint("--max-usd 5/day names one, and so does OMK_BUDGET")
            .into());
    }
    match &low.cost.tags[..] {
        [] => {}
        [tag] => {
            for budget in &mut budgets {
                if budget.tag.is_some() {
                    let message = format!(
                        "the budget {budget} is for a label of its own, and --tag names another"
                    );
                    return Err(UsageError::new(message).into());
                }
                budget.tag = Some(tag.clone());
            }
        }
        _ => {
            return Err(UsageError::new("a budget is for the runs of one label")
                .hint(
                    "give one --tag, or several budgets such as tag:ci=1/day,tag:team=infra=2/day",
                )
                .into());
        }
    }
    Ok(budgets)
}

fn is_over(standing: &Standing) -> bool {
    !standing.fits(Usd::ZERO)
}

fn describe(standing: &Standing) -> String {
    let Standing {
        budget,
        spent,
        reserved,
        unknown,
        ..
    } = standing;
    let [spent, reserved, limit] =
        [*spent, *reserved, budget.limit].map(|usd| usd.shown_in(budget.currency));
    let per = budget.per.name();
    let mut text = format!("{budget}: spent {spent}, reserved {reserved}, limit {limit} a {per}");
    if *unknown > 0 {
        let runs = counted(*unknown, "run");
        text.push_str(&format!(", and {runs} of unknown cost"));
    }
    text
}

fn report(standing: &Standing) -> BudgetReport {
    BudgetReport {
        budget: standing.budget.to_string(),
        per: standing.budget.per.name(),
        tag: standing.budget.tag.as_ref().map(ToString::to_string),
        currency: standing.budget.currency,
        limit_usd: standing.budget.limit.exact_decimal(),
        spent_usd: standing.spent.exact_decimal(),
        reserved_usd: standing.reserved.exact_decimal(),
        unknown_runs: standing.unknown,
        over: is_over(standing),
    }
}
