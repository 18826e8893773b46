//! `omk cost reconcile`: hold the ledger against the balance of the account at its provider.

use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::Value;

use crate::catalog::host::Biller;
use crate::catalog::money::{Currency, Usd};
use crate::cli::ask::peer;
use crate::cli::commands::cost::{counted, open, trouble, warn};
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared};
use crate::cli::network;
use crate::cost::balance::{Known, Reading, Signed, Verdict, key_name};
use crate::cost::record;
use crate::cost::view::Period;
use crate::runtime::clock::format_rfc3339;
use crate::runtime::text::truncate;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "cost reconcile",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "compare the ledger with the balance at the provider",
    doc: "Asks Moonshot's service for the balance of the account of MOONSHOT_API_KEY and keeps the reading in the ledger. \
What the balance fell by since the last reading is compared with the runs of that key: what they cost at least and at most. \
Only a fingerprint of the key is kept. The first reading has nothing to be compared with.\n\n\
Everything that uses a key of the account lowers its balance. That includes other programs, other machines and agents, \
whose key omk does not see. So a balance that fell by more than `at most` does not prove the ledger wrong. One that fell by \
less than `at least` was topped up, is billed later, or is billed at a lower price.",
    examples: &[
        (
            "omk cost reconcile",
            "Once a day, to see what the ledger does not know.",
        ),
        (
            "omk cost reconcile --json --base-url https://api.moonshot.cn/v1",
            "The platform in mainland China, whose balance is in CNY.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &shared::BASE_URL,
            &shared::INSECURE,
            &shared::DEADLINE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

/// What a reading says about a key that others use too.
const SHARED: &str = "everything that uses a key of this account lowers its balance, not only the runs in this ledger";

/// The JSON document `omk.cost-reconcile/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    currency: Currency,
    host: &'a str,
    /// The key's fingerprint.
    key: &'a str,
    at: &'a str,
    balance_usd: Signed,
    voucher_usd: Option<Signed>,
    cash_usd: Option<Signed>,
    verdict: Verdict,
    /// The last reading before this one.
    since: Option<&'a str>,
    previous_balance_usd: Option<Signed>,
    /// What the balance fell by; negative where it rose.
    spent_usd: Option<Signed>,
    /// Runs with this key in between.
    runs: u64,
    at_least_usd: Option<Usd>,
    /// Null where a run has no bound.
    at_most_usd: Option<Usd>,
    unbounded_runs: u64,
    shared_key: &'static str,
}

fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let deadline = Deadline::new(env.started, low.deadline);
    let ledger = open(env)?;
    let reading = read(low, deadline, env)?;
    let (readings, warnings) = ledger.sink().readings().map_err(trouble)?;
    for warning in warnings {
        env.output.warning(warning);
    }
    let is_earlier =
        |earlier: &&Reading| earlier.key == reading.key && earlier.host == reading.host;
    let before = readings.iter().rev().find(is_earlier);
    let mut known = Known::default();
    if let Some(before) = before {
        let period = Period::default();
        let notes = ledger.report_records(period, &mut |view, whole| {
            // Most runs are over long before.
            let may_count = view.peer == reading.host;
            if let Some(run) = may_count.then(whole).flatten() {
                known.add(&run, before, &reading);
            }
            ControlFlow::Continue(())
        });
        warn(&notes.map_err(trouble)?, env);
    }
    let id = record::new_id(env.clock.now(), std::process::id(), record::random());
    ledger.sink().keep_reading(&id, &reading).map_err(trouble)?;
    let spent = before.map(|before| before.available.minus(reading.available));
    let verdict = spent.map_or(Verdict::First, |spent| known.verdict(spent));
    if low.json {
        let document = Document {
            currency: reading.currency,
            host: &reading.host,
            key: &reading.key,
            at: &reading.at,
            balance_usd: reading.available,
            voucher_usd: reading.voucher,
            cash_usd: reading.cash,
            verdict,
            since: before.map(|before| before.at.as_str()),
            previous_balance_usd: before.map(|before| before.available),
            spent_usd: spent,
            runs: known.runs,
            at_least_usd: before.map(|_| known.at_least),
            at_most_usd: before
                .filter(|_| known.unbounded == 0)
                .map(|_| known.at_most),
            unbounded_runs: known.unbounded,
            shared_key: SHARED,
        };
        env.output
            .document("omk.cost-reconcile/1", Exit::Done, &document, None)?;
        return Ok(Exit::Done);
    }
    env.output
        .print(&shown(&reading, before, spent, &known, verdict))?;
    Ok(Exit::Done)
}

fn shown(
    reading: &Reading,
    before: Option<&Reading>,
    spent: Option<Signed>,
    known: &Known,
    verdict: Verdict,
) -> String {
    let signed = |amount: Signed| amount.shown_in(reading.currency);
    let amount = |amount: Usd| amount.shown_in(reading.currency);
    let mut text = format!(
        "{}, key {}: balance {} on {}\n",
        reading.host,
        reading.key,
        signed(reading.available),
        reading.at
    );
    let (Some(before), Some(spent)) = (before, spent) else {
        text.push_str("this is the first reading of this key; the next one is compared with it\n");
        return text;
    };
    let (change, by) = match spent.is_negative {
        true => ("risen", signed(spent).trim_start_matches('-').to_string()),
        false => ("fallen", signed(spent)),
    };
    let bound = match known.unbounded {
        0 => format!("at most {}", amount(known.at_most)),
        runs => format!("{} without a bound", counted(runs, "run")),
    };
    text.push_str(&format!("it has {change} by {by} since {}\n", before.at));
    text.push_str(&format!(
        "the ledger has {} with this key in that time: at least {}, {bound}\n",
        counted(known.runs, "run"),
        amount(known.at_least)
    ));
    text.push_str(match verdict {
        Verdict::First | Verdict::Within => "both agree\n",
        Verdict::More => "the balance has fallen by more than these runs can have cost\n",
        Verdict::Less => {
            "the balance has fallen by less than these runs cost: it was topped up, it is billed later, or a price of omk is too high\n"
        }
    });
    text.push_str(&format!("note: {SHARED}\n"));
    text
}

/// Asks the service for the balance: `GET /users/me/balance` of Moonshot's OpenAPI description (2026-08).
fn read(low: &LowArgs, deadline: Deadline, env: &Env) -> Result<Reading, Failure> {
    let Some(key) = peer::key(env)? else {
        let detail = "the balance is that of a key's account, and there is no key";
        return Err(
            Failure::new(Exit::Permission, "authentication", detail).hint("set MOONSHOT_API_KEY")
        );
    };
    let base = low.base_url.as_deref().unwrap_or(peer::BASE_URL);
    if !low.ask.insecure {
        network::check_encrypted(base)?;
    }
    let url = format!("{}/users/me/balance", base.trim_end_matches('/'));
    let response = network::http(env, deadline)?
        .get(&url, Some(&key))
        .map_err(|error| network::no_answer(&error, &url, deadline))?;
    if !response.is_success() {
        return Err(network::refused(&response, &url));
    }
    let document: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let data = document.get("data").unwrap_or(&document);
    let amount = |name: &str| match data.get(name)? {
        Value::Number(number) => Signed::parse(&number.to_string()),
        Value::String(text) => Signed::parse(text),
        _ => None,
    };
    let host = peer::host(base).to_string();
    let Some(available) = amount("available_balance") else {
        let body = String::from_utf8_lossy(&response.body);
        let detail = format!(
            "{url} answers without data.available_balance: {}",
            truncate(&body, 200)
        );
        return Err(Failure::new(Exit::Failed, "service", detail)
            .hint("only Moonshot's platforms have this; --base-url names one, as in https://api.moonshot.ai/v1"));
    };
    Ok(Reading {
        at: format_rfc3339(env.clock.now()),
        currency: Biller::of(&host).currency(),
        host,
        key: key_name(key.expose()),
        available,
        voucher: amount("voucher_balance"),
        cash: amount("cash_balance"),
    })
}
