//! The result of a command that asks, held against what a service charged and what the ledger says.
//!
//! Money is reckoned here a second time, from the rates in the document itself and in whole numbers of 1e-12 USD, so that a
//! mistake of the program's arithmetic is not repeated. Refuses floating point: amounts are read as they were written.

use std::ops::ControlFlow;
use std::path::Path;

use omk::cost::file_sink::JsonFileCostSink;
use omk::cost::sink::{CostSink, Notes};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::sandbox::{Outcome, Run, violations_of};
use crate::service::Service;

/// The key that services are asked with.
pub(crate) const KEY: &str = "sk-0123456789-secret";

/// Runs it, looks for the key in what it prints, and holds the ledger against it.
#[track_caller]
pub(crate) fn run(run: Run) -> Outcome {
    let outcome = run.run();
    for stream in [outcome.stdout_text(), outcome.stderr_text()] {
        outcome.check(!stream.contains(KEY), "the key is printed");
    }
    recorded(&outcome);
    outcome
}

/// Digits after the point of an amount: 1e-12 USD.
const PLACES: usize = 12;
/// Digits after the point of a rate: USD for a million tokens, so that one token costs that many times 1e-12 USD.
const RATE_PLACES: usize = 6;

/// The documents that tell of a run.
const SCHEMAS: [&str; 3] = ["omk.result/1", "omk.plan/1", "omk.classification/1"];

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    cost: Cost<'a>,
}

#[derive(Deserialize)]
struct Cost<'a> {
    #[serde(borrow)]
    usd: Option<&'a RawValue>,
    #[serde(borrow)]
    at_least_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    at_most_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    price: Option<Price<'a>>,
}

#[derive(Deserialize)]
struct Price<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    cached_input: Option<&'a RawValue>,
    #[serde(borrow)]
    output: &'a RawValue,
}

/// The number with its point moved to the right.
fn whole(text: &str, places: usize) -> u128 {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let places = places
        .checked_add_signed(exponent.parse().unwrap())
        .unwrap();
    let (units, rest) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(rest.len() <= places, "{text} has too many digits");
    format!("{units}{rest:0<places$}").parse().unwrap()
}

/// The last line of standard output, which is the result.
#[track_caller]
pub(crate) fn document(outcome: &Outcome) -> Value {
    let text = outcome.stdout_text();
    outcome.check(text.ends_with('\n'), "a line of JSON at the end of stdout");
    let document = serde_json::from_str(text.lines().last().unwrap_or_default());
    outcome.check(document.is_ok(), "expected JSON on stdout");
    let mut document: Value = document.unwrap();
    crate::sandbox::without_age(&mut document);
    outcome.check(
        SCHEMAS.iter().any(|schema| document["schema"] == *schema),
        "the schema's name",
    );
    document
}

/// Every event of a run that streamed them, and its result without what no replay has again: who, when and for how much.
#[track_caller]
pub(crate) fn same_again(outcome: &Outcome) -> (Vec<String>, Value) {
    let mut result = document(outcome);
    for name in ["run_id", "session_id", "peer", "timing", "cost"] {
        result.as_object_mut().unwrap().remove(name);
    }
    let events = outcome.stdout_text().lines().map(str::to_string);
    let mut events: Vec<String> = events.collect();
    events.pop();
    (events, result)
}

/// The events that a run with `--stream-json` printed before its result, each as its schema says.
#[track_caller]
pub(crate) fn events(outcome: &Outcome) -> Vec<Value> {
    let mut lines: Vec<&str> = outcome.stdout_text().lines().collect();
    lines.pop();
    let events = lines.into_iter().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        let wrong = violations_of("event", &event);
        outcome.check(wrong.is_empty(), &format!("{event}: {wrong}"));
        event
    });
    events.collect()
}

/// The usage is the service's bill to the token, and so is the amount.
#[track_caller]
pub(crate) fn billed(outcome: &Outcome, service: &Service) {
    assert!(service.told_all(), "the service did not tell all of it");
    let bill = service.bill();
    let usage = &document(outcome)["usage"];
    let told = ["input", "cache_read", "output"].map(|name| usage[name].as_u64());
    let charged = [bill.prompt - bill.cached, bill.cached, bill.output];
    outcome.check(
        told == charged.map(Some),
        &format!("usage {told:?} for a bill of {charged:?}"),
    );
    let line = outcome.stdout_text().lines().last().unwrap();
    let cost = serde_json::from_str::<Document<'_>>(line).unwrap().cost;
    let usd = bill_usd(&cost.price.expect("a price"), service);
    outcome.check(
        cost.usd.map(|usd| whole(usd.get(), PLACES)) == Some(usd),
        &format!("{usd} of 1e-12 USD"),
    );
}

/// Nothing was charged, and the document says so.
#[track_caller]
pub(crate) fn unbilled(outcome: &Outcome, service: &Service) {
    assert_eq!(service.charged(), 0, "calls were charged");
    let document = document(outcome);
    outcome.check(document["cost"]["charged"] == "no", "charged: no");
    outcome.check(document["usage"].is_null(), "usage: null");
}

/// Money may have been spent, and nobody can say how much: no figure is made up.
#[track_caller]
pub(crate) fn unknown(outcome: &Outcome) {
    let document = document(outcome);
    outcome.check(document["cost"]["usd"].is_null(), "usd: null");
    for name in ["input", "cache_read", "cache_write", "output"] {
        outcome.check(document["usage"][name].is_null(), &format!("{name}: null"));
    }
}

/// Some calls did not report what they used. What the others used is known, and is less than the bill.
#[track_caller]
pub(crate) fn at_least(outcome: &Outcome, service: &Service) {
    let document = document(outcome);
    let bill = service.bill();
    for (name, charged) in [
        ("input", bill.prompt - bill.cached),
        ("cache_read", bill.cached),
        ("output", bill.output),
    ] {
        let known = document["usage"][name].as_u64();
        outcome.check(
            known.is_some_and(|known| known > 0 && known < charged),
            &format!("{name}: {known:?} for a bill of {charged}"),
        );
    }
}

/// The bill lies between what the document says that was spent at least and at most.
#[track_caller]
pub(crate) fn bounded(outcome: &Outcome, service: &Service) {
    let line = outcome.stdout_text().lines().last().unwrap();
    let cost = serde_json::from_str::<Document<'_>>(line).unwrap().cost;
    let usd = bill_usd(&cost.price.expect("a price"), service);
    let amount = |amount: Option<&RawValue>| amount.map(|usd| whole(usd.get(), PLACES));
    let (least, most) = (amount(cost.at_least_usd), amount(cost.at_most_usd));
    outcome.check(
        least.is_some_and(|least| least <= usd) && most.is_some_and(|most| usd <= most),
        &format!("{least:?} <= {usd} <= {most:?} of 1e-12 USD"),
    );
}

/// What a service charged, in 1e-12 USD.
fn bill_usd(price: &Price<'_>, service: &Service) -> u128 {
    let bill = service.bill();
    let charged = [bill.prompt - bill.cached, bill.cached, bill.output];
    let cached = price.cached_input.unwrap_or(price.input);
    let rates = [price.input, cached, price.output].map(|rate| whole(rate.get(), RATE_PLACES));
    rates
        .iter()
        .zip(charged)
        .map(|(rate, tokens)| rate * u128::from(tokens))
        .sum()
}

/// Every run that the ledger of a sandbox holds, as JSON, the oldest first.
pub(crate) fn ledger(work: &Path) -> Vec<Value> {
    let sink = JsonFileCostSink::new(work.with_file_name("home").join(".local/state/omk/ledger"));
    let mut records = Vec::new();
    let warnings = sink.load(&mut |record| {
        records.push(serde_json::to_value(record).unwrap());
        ControlFlow::Continue(())
    });
    assert_eq!(warnings, Ok(Notes::default()));
    records
}

/// The ledger has the run as the result has it; a run that nothing was sent for may be missing there.
#[track_caller]
pub(crate) fn recorded(outcome: &Outcome) {
    let line = outcome.stdout_text().lines().last().unwrap_or_default();
    let begins = |schema: &&str| line.starts_with(&format!("{{\"schema\":\"{schema}\""));
    if !SCHEMAS.iter().any(begins) {
        return;
    }
    let result = document(outcome);
    let runs = ledger(outcome.directory());
    let run = runs.iter().find(|run| run["id"] == result["run_id"]);
    let Some(run) = run else {
        outcome.check(
            result["cost"]["charged"] == "no",
            "the run is in the ledger",
        );
        return;
    };
    for (field, at) in [
        ("exit", "/exit"),
        ("charged", "/cost/charged"),
        ("transport", "/transport"),
        ("peer", "/peer"),
        ("session_id", "/session_id"),
        ("model", "/model"),
        ("usage", "/usage"),
    ] {
        let (kept, told) = (&run[field], &result.pointer(at));
        outcome.check(
            Some(kept) == *told,
            &format!("{field} in the ledger: {kept}"),
        );
    }
    outcome.check(run["ended_at"].is_string(), "the run has ended");
    let retries = result["retries"].as_array().map(Vec::len);
    outcome.check(run["retries"] == json!(retries), "retries in the ledger");
    let cost = serde_json::from_str::<Document<'_>>(line).unwrap().cost;
    let told = cost.usd.map(|usd| whole(usd.get(), PLACES));
    let kept = run["actual_usd"].as_str().map(|usd| whole(usd, PLACES));
    outcome.check(
        kept == told || result["cost"]["kind"] == "unknown",
        &format!("{kept:?} in the ledger, {told:?} in the result"),
    );
}

#[test]
fn amounts_are_read_as_they_are_written() {
    let read = |text: &str| whole(text, PLACES);
    assert_eq!(read("0.000000000001"), 1);
    assert_eq!(read("3"), 3_000_000_000_000);
    assert_eq!(read("0.95"), 950_000_000_000);
    assert_eq!(read("2.5e-7"), 250_000);
}
