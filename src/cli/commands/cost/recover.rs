//! `omk cost recover`: what killed runs left open, settled from the agents' own logs.
//!
//! Which turns of a log are a run's: those from the byte on at which the log ended before it, the first that someone asked
//! for and the ones that the agent began by itself after it; a second one only if it follows at once, as the repair of an
//! answer does, or if the record knows of more than the first has. A session may have been gone on with by hand since, and
//! that is not the run's money. What the log knows less of than the record is not taken.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::catalog::{Catalog, Price};
use crate::cli::commands::cost::{books, counted, open, trouble, warn};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LowArgs;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared};
use crate::cli::prices;
use crate::cost::file_sink::Found;
use crate::cost::record::PriceUsed;
use crate::cost::record::{SessionCost, SessionStatus};
use crate::cost::recover::{Evidence, Recovery, Stays, recover};
use crate::cost::view::Period;
use crate::runtime::clock::format_rfc3339;
use crate::transport::agents::Dialect;
use crate::transport::session_turns::{Call, Turn};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost recover",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "settle what killed runs left open",
    doc: "Looks at every open run whose process is gone. Where an agent kept a log of the session, what stands there is \
taken over, and the run is settled if the log has it to its end. Otherwise, and always over HTTP, it is marked unknown, \
with what was known as the least and its worst case as the most. Running it twice changes nothing.",
    examples: &[
        ("omk cost recover --dry-run", "What it would do."),
        ("omk cost recover", "Settles them."),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &super::DRY_RUN,
            &ALL_HOSTS,
            &shared::PRICE_FILE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static ALL_HOSTS: Flag = Flag {
    long: "all-hosts",
    takes: Takes::Nothing(|low| low.cost.all_hosts = true),
    doc: "Take runs of other machines for dead too. Whether they are cannot be seen from here, so by default they are \
left alone; be sure that none is at work.",
    ..Flag::BLANK
};

/// A second question of the same run is asked this soon after the first.
const AT_ONCE_MS: u64 = 5_000;

/// The JSON document `omk.cost-recover/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    runs: &'a [Item],
}

#[derive(Serialize)]
struct Item {
    id: String,
    /// `settled`, `failed` or `unknown`; `open` when it stays so.
    status: SessionStatus,
    /// Why it stays open: `running` or `unseen`.
    stays: Option<&'static str>,
    host: String,
    currency: Currency,
    usd: Option<String>,
    at_most_usd: Option<String>,
    /// Whether the agent's log has something of it.
    log: bool,
}

/// Recovers.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let catalog = prices::load(&low.price_file, env)?;
    let mut ledger = open(env)?;
    let mut ids = Vec::new();
    let warnings = ledger
        .report(Period::default(), &mut |run| {
            if run.status == SessionStatus::Open {
                ids.push(run.id.to_string());
            }
            ControlFlow::Continue(())
        })
        .map_err(trouble)?;
    warn(&warnings, env);
    ids.sort_unstable();
    let now = format_rfc3339(env.clock.now());
    let mut items = Vec::new();
    for id in ids {
        // Gone in the meantime, or settled: then there is nothing to do.
        let Found::One(run) = ledger.sink().find(&id).map_err(trouble)? else {
            continue;
        };
        let alive = run.owner.is_alive();
        let owner = if low.cost.all_hosts {
            alive.or(Some(false))
        } else {
            alive
        };
        let (mut account, mut problem) = (None, None);
        let decision = recover(
            &run,
            owner,
            |run| match evidence(run, &catalog) {
                Ok(found) => {
                    account = found.clone();
                    found.map(|found| found.evidence)
                }
                Err(error) => {
                    problem = Some(error.to_string());
                    None
                }
            },
            &now,
        );
        if let Some(problem) = problem {
            env.output
                .warning(format!("{id}: the agent's log cannot be read: {problem}"));
        }
        let after = match decision {
            Recovery::Stays(Stays::Over) => continue,
            Recovery::Stays(why) => {
                items.push(item(&run, Some(why), false));
                continue;
            }
            Recovery::Becomes(mut after) => {
                if let Some(price) = account.as_ref().and_then(|found| found.price.clone()) {
                    after.price = Some(price);
                }
                after
            }
        };
        if !low.cost.dry_run {
            ledger.settle(&after).map_err(trouble)?;
        }
        items.push(item(&after, None, account.is_some()));
    }
    let unseen = items
        .iter()
        .filter(|item| item.stays == Some("unseen"))
        .count();
    if unseen > 0 {
        env.output.warning(format!(
            "{} of other machines or containers cannot be judged from here; run it there, or with --all-hosts when none is at work",
            counted(unseen as u64, "run")
        ));
    }
    if low.json {
        env.output.document(
            "omk.cost-recover/1",
            Exit::Done,
            &Document {
                dry_run: low.cost.dry_run,
                runs: &items,
            },
            None,
        )?;
    } else if items.is_empty() {
        env.output.print("no open runs\n")?;
    } else {
        for item in &items {
            env.output.print(&format!("{}\n", describe(item)))?;
        }
    }
    Ok(Exit::Done)
}

fn item(run: &SessionCost, stays: Option<Stays>, log: bool) -> Item {
    Item {
        id: run.id.clone(),
        status: run.status,
        stays: stays.map(|why| match why {
            Stays::Running => "running",
            Stays::Unseen => "unseen",
            Stays::Over => "over",
        }),
        host: run.owner.host.clone(),
        currency: run.currency,
        usd: run.actual_usd.map(Usd::exact_decimal),
        at_most_usd: run.at_most_usd().map(Usd::exact_decimal),
        log,
    }
}

fn describe(item: &Item) -> String {
    let bound = match &item.at_most_usd {
        Some(usd) => format!("at most {usd} {}", item.currency),
        None => "no bound is known".to_string(),
    };
    let found = match (item.stays, item.status) {
        (Some("running"), _) => format!("at work, {bound}"),
        (Some(_), _) => format!("of {}, not visible from here, {bound}", item.host),
        (None, SessionStatus::Failed) => "failed: nothing had been sent".to_string(),
        (None, SessionStatus::Settled) => match &item.usd {
            Some(usd) => format!("settled from the agent's log: {usd} {}", item.currency),
            None => format!("settled from the agent's log, without a price: {bound}"),
        },
        (None, _) => {
            let least = item
                .usd
                .as_ref()
                .map(|usd| format!("at least {usd} {}, ", item.currency));
            let why = if item.log {
                "the log does not report all of it"
            } else {
                "there is no log of it"
            };
            format!("unknown, {why}: {}{bound}", least.unwrap_or_default())
        }
    };
    format!("{}  {found}", item.id)
}

/// What the agent's log says of a run, and the rates that its amount was made with.
#[derive(Clone)]
struct FoundLog {
    evidence: Evidence,
    price: Option<crate::cost::record::PriceUsed>,
}

/// Looks a run up in its agent's log; `None` where there is none, or nothing of the run in it.
fn evidence(run: &SessionCost, catalog: &Catalog) -> std::io::Result<Option<FoundLog>> {
    let (Some(log), Some(session)) = (&run.log, &run.session_id) else {
        return Ok(None);
    };
    let Some(dialect) = Dialect::of_name(&log.agent) else {
        return Ok(None);
    };
    let Some(directory) = dialect.session_directory(&log.home, session)? else {
        return Ok(None);
    };
    let Some(found) = books::read_session(&directory, dialect, log.offset)? else {
        return Ok(None);
    };
    let turns = own_turns(run, found.turns);
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else {
        return Ok(None);
    };
    let from = first.started_ms.unwrap_or_else(|| books::started_ms(run));
    let until = if last.is_over { last.ended_ms } else { None };
    let mut is_complete = turns.iter().all(|turn| turn.is_over && turn.is_told());
    let mut calls: Vec<&Call> = turns.iter().flat_map(|turn| &turn.calls).collect();
    for turn in found.others.iter().flat_map(|(_, turns)| turns) {
        let began = turn.started_ms.unwrap_or(0);
        if began >= from && until.is_none_or(|until| began <= until) {
            is_complete &= turn.is_over && turn.is_told();
            calls.extend(&turn.calls);
        }
    }
    let usage = books::used(calls.iter().copied());
    if usage.is_none_or(|usage| !books::covers(&usage, run.usage.as_ref())) {
        return Ok(None);
    }
    let reserved = run.price.as_ref();
    // Rates that were given for this run hold for whoever answered.
    let fixed = reserved
        .filter(|used| used.origin == "--price")
        .map(|used| used.price.clone());
    let asked = run.model.requested.as_deref();
    let price_of = |call: &Call| -> Option<Price> {
        if fixed.is_some() {
            return fixed.clone();
        }
        let row = books::row(call, asked, catalog);
        let listed = row.and_then(|row| row.price.clone());
        listed.or_else(|| reserved.map(|used| used.price.clone()))
    };
    let main_call = turns
        .iter()
        .rev()
        .flat_map(|turn| turn.calls.iter().rev())
        .next();
    let model = main_call.and_then(|call| call.model.clone());
    let row = main_call.and_then(|call| books::row(call, asked, catalog));
    Ok(Some(FoundLog {
        price: match fixed.is_some() {
            true => None,
            false => row.and_then(PriceUsed::of),
        },
        evidence: Evidence {
            usage,
            usd: books::cost(
                calls.iter().copied().filter(|call| call.usage.is_some()),
                price_of,
            ),
            model,
            is_complete,
            ended_at: last.ended_ms.map(|ms| format_rfc3339(books::moment(ms))),
        },
    }))
}

/// The turns of a log that are the run's, of those from its offset on.
fn own_turns(run: &SessionCost, turns: Vec<Turn>) -> Vec<Turn> {
    let mut own: Vec<Turn> = Vec::new();
    for turn in turns {
        let Some(last) = own.last() else {
            // What has no beginning here began before the run.
            if turn.by_user {
                own.push(turn);
            }
            continue;
        };
        if turn.by_user {
            let gap = turn
                .started_ms
                .zip(last.ended_ms)
                .map(|(began, ended)| began.saturating_sub(ended));
            let at_once = gap.is_some_and(|gap| gap <= AT_ONCE_MS);
            let calls = own.iter().flat_map(|turn| &turn.calls);
            let lacks = run.usage.is_some()
                && books::used(calls)
                    .is_none_or(|usage| !books::covers(&usage, run.usage.as_ref()));
            if !at_once && !lacks {
                break;
            }
        }
        own.push(turn);
    }
    own
}
