//! `omk cost list`: the newest runs, a line each.
//!
//! Holds as many as it shows and no more, however large the ledger is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;

use crate::catalog::money::{Currency, Usd};
use crate::cli::commands::cost::{align_points, filter, scan, source};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LowArgs;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::fleet;
use crate::cost::export::mark;
use crate::cost::record::Transport;
use crate::cost::record::{Charge, CostKind, SessionStatus, SessionType, Usage};
use crate::cost::view::RecordView;
use crate::runtime::clock::format_rfc3339;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::escape;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost list",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "list runs, the newest first",
    doc: "Lists runs of the ledger, the newest first, with what each cost or can cost at most.",
    examples: &[
        (
            "omk cost list --status open",
            "Runs under way, and those that were killed.",
        ),
        (
            "omk cost list --since 1d --limit 100 --json",
            "Today's runs as JSON.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &shared::TAG_FILTER,
            &super::SINCE,
            &super::UNTIL,
            &STATUS,
            &UNKNOWN,
            &LIMIT,
            &fleet::FLEET,
            &fleet::FLEET_TIMEOUT,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

static STATUS: Flag = Flag {
    long: "status",
    takes: Takes::Value("STATUS[,...]", |low, v| {
        low.cost.status.extend(value::statuses(v)?);
        Ok(())
    }),
    doc: "Only runs of this status. open, settled, failed, interrupted or unknown; several with commas between them.",
    repeats: true,
    ..Flag::BLANK
};

static UNKNOWN: Flag = Flag {
    long: "unknown",
    takes: Takes::Nothing(|low| low.cost.unknown = true),
    doc: "Only runs of unknown cost. Nothing bounds what they may have cost, so budgets refuse until they are settled.",
    ..Flag::BLANK
};

static LIMIT: Flag = Flag {
    long: "limit",
    takes: Takes::Value("N", |low, v| {
        low.cost.limit = Some(value::positive_count(v)?);
        Ok(())
    }),
    doc: "List at most so many runs. At least 1; the default is 20, and what is left out is counted.",
    ..Flag::BLANK
};

/// So many are listed by default.
const DEFAULT_LIMIT: u64 = 20;

/// A run of the list, as its JSON shows it.
#[derive(Debug, Serialize)]
struct Item {
    id: String,
    started_at: String,
    #[serde(rename = "type")]
    session_type: SessionType,
    status: SessionStatus,
    name: Option<String>,
    model: Option<String>,
    transport: String,
    peer: String,
    currency: Currency,
    usd: Option<String>,
    at_most_usd: Option<String>,
    #[serde(rename = "kind")]
    label: &'static str,
    #[serde(skip)]
    kind: CostKind,
    charged: Charge,
    usage: Option<Usage>,
    tags: std::collections::BTreeMap<String, String>,
    #[serde(skip)]
    amount: (Option<Usd>, Option<Usd>),
}

impl Item {
    fn of(run: &RecordView<'_>) -> Item {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let bound = run.at_most_usd();
        Item {
            id: run.id.to_string(),
            started_at: format_rfc3339(run.started()),
            session_type: run.session_type,
            status: run.status,
            name: text(run.name),
            model: run.model.map(str::to_string),
            transport: run.transport.map_or("", Transport::name).to_string(),
            peer: run.peer.to_string(),
            currency: run.currency,
            usd: run.actual_usd.map(Usd::exact_decimal),
            at_most_usd: bound.map(Usd::exact_decimal),
            label: run.kind.label(),
            kind: run.kind,
            charged: run.charged,
            usage: run.usage,
            tags: run
                .tags
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            amount: (run.actual_usd, bound),
        }
    }

    /// The amount, or its bound, or that neither is known.
    fn amount(&self) -> String {
        let is_final = !matches!(self.status, SessionStatus::Open | SessionStatus::Unknown);
        let shown = |usd: Usd| usd.shown_in(self.currency);
        match self.amount {
            (Some(usd), Some(most)) if is_final && usd < most => {
                format!("{} (at most {})", shown(usd), shown(most))
            }
            (Some(usd), _) if is_final => shown(usd),
            (None, _) if is_final && self.charged == Charge::No => Usd::ZERO.to_string(),
            (_, Some(bound)) => format!("at most {}", shown(bound)),
            (_, None) => "unknown".to_string(),
        }
    }
}

/// The JSON document `omk.cost-list/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    /// How many there are; `runs` has the newest of them.
    matching: u64,
    runs: &'a [Item],
}

/// Lists runs.
pub(super) fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let filter = filter(&low.cost, env)?;
    let limit = usize::try_from(low.cost.limit.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
    let ledger = source::open(&low.cost, env)?;
    let mut newest: BinaryHeap<Reverse<Ordered>> = BinaryHeap::new();
    let mut matching = 0_u64;
    scan(&ledger, &filter, env, &mut |run| {
        if !low.cost.status.is_empty() && !low.cost.status.contains(&run.status) {
            return;
        }
        let is_unknown = run.kind != CostKind::ListPriceEquivalent && run.at_most_usd().is_none();
        if low.cost.unknown && !is_unknown {
            return;
        }
        matching += 1;
        let is_full = newest.len() >= limit;
        let is_older = newest.peek().is_some_and(|Reverse(least)| {
            (least.started, least.item.id.as_str()) > (run.started_micros, run.id)
        });
        if is_full && is_older {
            return;
        }
        newest.push(Reverse(Ordered {
            started: run.started_micros,
            item: Item::of(run),
        }));
        if newest.len() > limit {
            newest.pop();
        }
    })?;
    let sorted = newest.into_sorted_vec();
    let items: Vec<Item> = sorted
        .into_iter()
        .map(|Reverse(ordered)| ordered.item)
        .collect();
    if low.json {
        env.output.document(
            "omk.cost-list/1",
            Exit::Done,
            &Document {
                matching,
                runs: &items,
            },
            None,
        )?;
        return Ok(Exit::Done);
    }
    if items.is_empty() {
        env.output.print("no runs\n")?;
        return Ok(Exit::Done);
    }
    env.output.print(&table(&items))?;
    let left = matching.saturating_sub(items.len() as u64);
    if left > 0 {
        env.output.note(&format!(
            "{left} older ones are not listed; --limit lists more"
        ));
    }
    Ok(Exit::Done)
}

fn table(items: &[Item]) -> String {
    let mut amounts: Vec<String> = items.iter().map(Item::amount).collect();
    align_points(&mut amounts);
    let mut table = Table::new(vec![
        ("run", Align::Left),
        ("started", Align::Left),
        ("type", Align::Left),
        ("status", Align::Left),
        ("model", Align::Left),
        ("over", Align::Left),
        ("input", Align::Right),
        ("output", Align::Right),
        ("usd", Align::Right),
        ("", Align::Left),
        ("name", Align::Left),
    ]);
    for (item, amount) in items.iter().zip(amounts) {
        let tokens = |tokens: Option<u64>| tokens.map_or("?".to_string(), |n| n.to_string());
        let prompt = item.usage.and_then(|usage| {
            let cached = usage
                .cache_read
                .unwrap_or(0)
                .saturating_add(usage.cache_write.unwrap_or(0));
            Some(usage.input?.saturating_add(cached))
        });
        let started: String = item.started_at.chars().take(19).collect();
        table.row(vec![
            item.id.clone(),
            started.replace('T', " "),
            item.session_type.name().to_string(),
            item.status.name().to_string(),
            item.model
                .as_deref()
                .map_or("-".to_string(), |model| escape(model).into_owned()),
            escape(&item.transport).into_owned(),
            tokens(prompt),
            tokens(item.usage.and_then(|usage| usage.output)),
            amount,
            mark(item.kind).to_string(),
            item.name
                .as_deref()
                .map_or(String::new(), |name| escape(name).into_owned()),
        ]);
    }
    table.render()
}

/// Ordered by when it began, then by name.
struct Ordered {
    started: i64,
    item: Item,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> std::cmp::Ordering {
        (self.started, &self.item.id).cmp(&(other.started, &other.item.id))
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Ordered) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}
