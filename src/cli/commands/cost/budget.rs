//! `omk cost budget`: how things stand with every budget, and who reserved what.

use std::ops::ControlFlow;
use std::time::SystemTime;

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::cli::commands::cost::{counted, open, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared};
use crate::cli::{fleet, ledger};
use crate::cost::budget::{Budget, standings};
use crate::cost::record::SessionStatus;
use crate::cost::view::Period;
use crate::fleet::document::Hold;
use crate::runtime::clock::{format_date, format_rfc3339, parse_rfc3339};
use crate::runtime::table::{Align, Table};
use crate::runtime::text::escape;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost budget",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "show budgets, what is spent and what is reserved",
    doc: "Shows each budget of OMK_BUDGET with its limit, what runs that are over cost, and what open runs reserve; then the \
open runs with their machine and age. With {--fleet} it is the account that all machines of the fleet share.",
    examples: &[(
        "omk cost budget --fleet",
        "Who is spending the team's budget.",
    )],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

/// The JSON document `omk.cost-budget/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document {
    /// Engine, address and document of the fleet; null for this machine alone.
    fleet: Option<String>,
    budgets: Vec<BudgetReport>,
    /// Runs under way.
    open: Vec<HoldReport>,
    /// Runs of unknown cost, counted with the most that they can have cost.
    unknown: Vec<HoldReport>,
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
    unknown_runs: u64,
    /// The day from which on runs with the label are counted, if that is later than the period's begin.
    counted_since: Option<String>,
    #[serde(skip)]
    amounts: [Usd; 3],
}

#[derive(Serialize)]
struct HoldReport {
    run: String,
    host: String,
    since: String,
    age_s: u64,
    currency: Currency,
    at_most_usd: Option<String>,
    #[serde(skip)]
    at_most: Option<Usd>,
}

/// Shows them.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let budgets = ledger::budgets(env)?;
    let document = match low.cost.fleet {
        true => of_fleet(low, &budgets, env)?,
        false => of_machine(&budgets, env)?,
    };
    for budget in &document.budgets {
        if budget.unknown_runs > 0 {
            env.output.warning(format!(
                "{}: {} of which neither cost nor bound is known: they are not counted",
                budget.budget,
                counted(budget.unknown_runs, "run")
            ));
        }
        if let Some(day) = &budget.counted_since {
            env.output.warning(format!(
                "{}: the fleet counts runs with this label since {day}, when its budget was first used",
                budget.budget
            ));
        }
    }
    match low.json {
        true => env
            .output
            .document("omk.cost-budget/1", Exit::Done, &document, None)?,
        false => env.output.print(&shown(&document))?,
    }
    Ok(Exit::Done)
}

fn of_fleet(low: &LowArgs, budgets: &[Budget], env: &Env) -> Result<Document, Failure> {
    let mut member = fleet::needed(&low.cost, env)?;
    let now = env.clock.now();
    let document = member.document().map_err(fleet::failure)?;
    let document = document.unwrap_or_default();
    let day = format_date(now);
    let budgets = budgets.iter().map(|budget| {
        let standing = document.standing(budget, &day, None);
        let amounts = [budget.limit, standing.spent, standing.reserved];
        report(budget, amounts, standing.unknown, standing.since)
    });
    let holds = |holds: &std::collections::BTreeMap<String, Hold>| {
        let reports = holds.iter().map(|(run, hold)| HoldReport {
            run: run.clone(),
            host: hold.host.clone(),
            since: hold.since.clone(),
            age_s: age(&hold.since, now),
            currency: Currency::Usd,
            at_most_usd: hold.usd().map(Usd::exact_decimal),
            at_most: hold.usd(),
        });
        reports.collect()
    };
    Ok(Document {
        fleet: Some(member.place()),
        budgets: budgets.collect(),
        open: holds(document.open()),
        unknown: holds(document.unknown()),
    })
}

fn of_machine(budgets: &[Budget], env: &mut Env) -> Result<Document, Failure> {
    let ledger = open(env)?;
    let now = env.clock.now();
    let (standings, mut notes) = standings(&ledger, budgets, now, None).map_err(trouble)?;
    let (mut open, mut unknown) = (Vec::new(), Vec::new());
    let more = ledger.report(Period::default(), &mut |run| {
        let list = match run.status {
            SessionStatus::Open => &mut open,
            SessionStatus::Unknown => &mut unknown,
            _ => return ControlFlow::Continue(()),
        };
        let since = format_rfc3339(run.started());
        list.push(HoldReport {
            run: run.id.to_string(),
            host: run.owner.map_or(String::new(), |owner| owner.host.clone()),
            age_s: age(&since, now),
            since,
            currency: run.currency,
            at_most_usd: run.at_most_usd().map(Usd::exact_decimal),
            at_most: run.at_most_usd(),
        });
        ControlFlow::Continue(())
    });
    notes.warnings.extend(more.map_err(trouble)?.warnings);
    warn(&notes, env);
    let budgets = standings.iter().map(|standing| {
        let amounts = [standing.budget.limit, standing.spent, standing.reserved];
        report(&standing.budget, amounts, standing.unknown, None)
    });
    Ok(Document {
        fleet: None,
        budgets: budgets.collect(),
        open,
        unknown,
    })
}

fn report(
    budget: &Budget,
    amounts: [Usd; 3],
    unknown_runs: u64,
    counted_since: Option<String>,
) -> BudgetReport {
    let [limit, spent, reserved] = amounts;
    BudgetReport {
        budget: budget.to_string(),
        per: budget.per.name(),
        tag: budget.tag.as_ref().map(ToString::to_string),
        currency: budget.currency,
        limit_usd: limit.exact_decimal(),
        spent_usd: spent.exact_decimal(),
        reserved_usd: reserved.exact_decimal(),
        unknown_runs,
        counted_since,
        amounts,
    }
}

/// Whole seconds since a moment, 0 for one in the future.
fn age(since: &str, now: SystemTime) -> u64 {
    let since = parse_rfc3339(since).unwrap_or(now);
    now.duration_since(since).map_or(0, |age| age.as_secs())
}

fn shown(document: &Document) -> String {
    let mut text = String::new();
    if document.budgets.is_empty() {
        text.push_str("no budgets: OMK_BUDGET is not set\n");
    } else {
        let mut table = Table::new(vec![
            ("budget", Align::Left),
            ("limit", Align::Right),
            ("spent", Align::Right),
            ("reserved", Align::Right),
            ("left", Align::Right),
        ]);
        for budget in &document.budgets {
            let [limit, spent, reserved] = budget.amounts;
            let left = spent
                .checked_add(reserved)
                .and_then(|used| limit.checked_sub(used))
                .unwrap_or(Usd::ZERO);
            let mut row = vec![escape(&budget.budget).into_owned()];
            row.extend([limit, spent, reserved, left].map(|usd| usd.shown_in(budget.currency)));
            table.row(row);
        }
        text.push_str(&table.render());
    }
    for (title, holds) in [("open", &document.open), ("unknown", &document.unknown)] {
        if holds.is_empty() {
            continue;
        }
        let mut table = Table::new(vec![
            (title, Align::Left),
            ("host", Align::Left),
            ("age", Align::Right),
            ("at most", Align::Right),
        ]);
        for hold in holds {
            table.row(vec![
                escape(&hold.run).into_owned(),
                escape(&hold.host).into_owned(),
                format!("{}s", hold.age_s),
                hold.at_most
                    .map_or("unknown".to_string(), |usd| usd.shown_in(hold.currency)),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}
