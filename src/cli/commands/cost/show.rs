//! `omk cost show` and `omk cost explain`: one run, as it is recorded and as it was reckoned.

use serde::Serialize;

use crate::catalog::money::{Currency, Rate, Usd};
use crate::cli::commands::cost::{align_points, find};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LowArgs;
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, shared};
use crate::cost::amend::Amendment;
use crate::cost::attempt::Attempt;
use crate::cost::explain::{Explanation, Line};
use crate::cost::record::Transport;
use crate::cost::record::{CostKind, PriceUsed, SessionCost, SessionStatus};
use crate::runtime::table::{Align, Table};
use crate::runtime::text::{escape, escape_os};

/// Its place in the table of commands.
pub(crate) static SHOW: CommandSpec = CommandSpec {
    name: "cost show",
    positionals: "ID",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "print all that is known of a run",
    doc: "Prints the record of the run ID: its name, the beginning of it that no other run has, or `last` for the newest.",
    examples: &[("omk cost show last", "The newest run.")],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| show(&invocation.low, env),
};

/// Its place in the table of commands.
pub(crate) static EXPLAIN: CommandSpec = CommandSpec {
    name: "cost explain",
    positionals: "ID",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "show the arithmetic of what a run cost",
    doc: "Shows line by line how the amount of the run ID was made: tokens of a kind, times their rate. The rates are those \
that were in force then, with their source; what is not known is said with the reason. ID is as in `omk cost show`.",
    examples: &[("omk cost explain last", "The newest run.")],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| explain(&invocation.low, env),
};

/// The JSON document `omk.cost-record/1`. Fields are only ever added.
#[derive(Serialize)]
struct Record<'a> {
    record: &'a SessionCost,
}

/// Prints all that is known of a run.
pub(super) fn show(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let run = find(low, env)?;
    if low.json {
        env.output.document(
            "omk.cost-record/1",
            Exit::Done,
            &Record { record: &run },
            None,
        )?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for (name, value) in facts(&run) {
        text.push_str(&format!("{name:<9} {}\n", escape(&value)));
    }
    env.output.print(&text)?;
    Ok(Exit::Done)
}

/// The facts of a record that there are, by name.
fn facts(run: &SessionCost) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("run", run.id.clone()),
        ("type", run.session_type.name().to_string()),
    ];
    let mut some = |name, value: String| {
        if !value.is_empty() {
            facts.push((name, value));
        }
    };
    some("name", run.name.clone());
    some(
        "status",
        match run.exit {
            Some(exit) => format!("{}, exit code {exit}", run.status),
            None => run.status.to_string(),
        },
    );
    some("started", run.started_at.clone());
    some("ended", run.ended_at.clone().unwrap_or_default());
    some(
        "model",
        match (&run.model.requested, &run.model.reported) {
            (Some(asked), Some(answered)) if asked != answered => {
                format!("{answered}, asked for as {asked}")
            }
            (asked, answered) => answered
                .as_ref()
                .or(asked.as_ref())
                .cloned()
                .unwrap_or_default(),
        },
    );
    some(
        "peer",
        format!(
            "{} over {}",
            run.peer,
            run.transport.map_or("", Transport::name)
        ),
    );
    some("session", run.session_id.clone().unwrap_or_default());
    if let Some(log) = &run.log {
        some(
            "log",
            format!(
                "{} in {}, from byte {}",
                log.agent,
                escape_os(&log.home),
                log.offset
            ),
        );
    }
    if let Some(estimate) = &run.estimate {
        let mut text = format!("{} input tokens", estimate.input_tokens);
        if let Some(output) = estimate.output_tokens {
            text.push_str(&format!(", {output} output tokens"));
        }
        if let Some(usd) = estimate.usd {
            text.push_str(&format!(", {}", usd.exact_decimal()));
        }
        some("estimate", text);
    }
    if let Some(usage) = &run.usage {
        let figures = [
            (usage.input, "input"),
            (usage.cache_read, "cache read"),
            (usage.cache_write, "cache write"),
            (usage.output, "output"),
            (usage.reasoning, "reasoning"),
        ];
        let told = figures
            .iter()
            .filter_map(|(tokens, what)| Some(format!("{} {what}", (*tokens)?)));
        let told: Vec<String> = told.collect();
        some("usage", format!("{} ({})", told.join(", "), usage.source));
    }
    let usd = |usd: Usd| format!("{} {}", usd.exact_decimal(), run.currency);
    let kind = match run.kind {
        CostKind::Unknown => "how it is billed is not known".to_string(),
        kind => kind.label().to_string(),
    };
    let amount = run.actual_usd.map_or("unknown".to_string(), usd);
    some(
        "cost",
        format!("{amount}, {kind}, charged: {}", run.charged),
    );
    let is_doubtful = matches!(run.status, SessionStatus::Open | SessionStatus::Unknown)
        || run.actual_usd.is_none();
    if is_doubtful {
        some(
            "at most",
            run.at_most_usd()
                .map_or("no bound is known".to_string(), usd),
        );
    }
    some("price", run.price.as_ref().map(price).unwrap_or_default());
    if run.retries > 0 {
        some("retries", run.retries.to_string());
    }
    let tags: Vec<String> = run
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    some("tags", tags.join(", "));
    if run.owner.pid > 0 {
        some(
            "owner",
            format!("process {} on {}", run.owner.pid, run.owner.host),
        );
    } else {
        some("host", run.owner.host.clone());
    }
    some("prompt", run.prompt_hash.clone().unwrap_or_default());
    facts
}

fn price(used: &PriceUsed) -> String {
    let rates = used.price.rates();
    let rate = |rate: Option<Rate>| rate.map_or("-".to_string(), Rate::exact_decimal);
    let mut text = format!(
        "{}: {} input, {} cached, {} cache write, {} output, in {} per 1M tokens; {}",
        used.model,
        rates.input.exact_decimal(),
        rate(rates.cached_input),
        rate(rates.cache_write),
        rates.output.exact_decimal(),
        used.price.currency(),
        used.origin
    );
    if !used.as_of.is_empty() {
        text.push_str(&format!(", as of {}", used.as_of));
    }
    text
}

/// The JSON document `omk.cost-explain/1`. Fields are only ever added.
#[derive(Serialize)]
struct Explained<'a> {
    id: &'a str,
    status: SessionStatus,
    model: Option<&'a str>,
    kind: &'static str,
    currency: Currency,
    lines: Vec<LineReport>,
    sum_usd: Option<String>,
    usd: Option<String>,
    at_most_usd: Option<String>,
    tier_above: Option<u64>,
    price: Option<&'a PriceUsed>,
    notes: &'a [String],
    attempts: &'a [Attempt],
    amendments: &'a [Amendment],
}

#[derive(Serialize)]
struct LineReport {
    what: &'static str,
    tokens: Option<u64>,
    usd_per_million: Option<String>,
    usd: Option<String>,
}

/// Shows the arithmetic.
pub(super) fn explain(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let run = find(low, env)?;
    let explanation = crate::cost::explain::explain(&run);
    if !low.json {
        env.output.print(&text(&run, &explanation))?;
        return Ok(Exit::Done);
    }
    let line = |line: &Line| LineReport {
        what: line.what,
        tokens: line.tokens,
        usd_per_million: line.rate.map(Rate::exact_decimal),
        usd: line.usd.map(Usd::exact_decimal),
    };
    env.output.document(
        "omk.cost-explain/1",
        Exit::Done,
        &Explained {
            id: &run.id,
            status: run.status,
            model: run.model.best(),
            kind: run.kind.label(),
            currency: run.currency,
            lines: explanation.lines.iter().map(line).collect(),
            sum_usd: explanation.sum.map(Usd::exact_decimal),
            usd: run.actual_usd.map(Usd::exact_decimal),
            at_most_usd: run.at_most_usd().map(Usd::exact_decimal),
            tier_above: explanation.tier_above,
            price: run.price.as_ref(),
            notes: &explanation.notes,
            attempts: &run.attempts,
            amendments: &run.amendments,
        },
        None,
    )?;
    Ok(Exit::Done)
}

/// One line for each attempt, where they say more than the sum: several, or one that did not report everything.
fn attempts(run: &SessionCost) -> String {
    let is_plain = match &run.attempts[..] {
        [] => true,
        [only] => only.known_usd == only.at_most_usd,
        _ => false,
    };
    if is_plain {
        return String::new();
    }
    let mut table = Table::new(vec![
        ("attempt", Align::Right),
        ("end", Align::Left),
        ("billed", Align::Left),
        ("known", Align::Right),
        ("at least", Align::Right),
        ("at most", Align::Right),
    ]);
    let exact = |usd: Option<Usd>| usd.map_or("unknown".to_string(), Usd::exact_decimal);
    for (number, attempt) in run.attempts.iter().enumerate() {
        table.row(vec![
            (number + 1).to_string(),
            attempt.end.clone().unwrap_or_else(|| "running".to_string()),
            attempt.charged.name().to_string(),
            exact(attempt.known_usd),
            exact(attempt.at_least_usd),
            exact(attempt.at_most_usd),
        ]);
    }
    format!("{}\n", table.render())
}

/// A settlement by hand in one line.
fn amended(amendment: &Amendment, currency: Currency) -> String {
    let bound = |usd: Option<Usd>| usd.map_or("unknown".to_string(), |usd| usd.shown_in(currency));
    let mut text = format!(
        "settled by hand on {} by {}: {} instead of at most {}",
        amendment.at,
        escape(&amendment.by),
        bound(amendment.after.usd),
        bound(amendment.before.at_most_usd)
    );
    if !amendment.note.is_empty() {
        text.push_str(&format!(" ({})", escape(&amendment.note)));
    }
    text
}

fn text(run: &SessionCost, explanation: &Explanation) -> String {
    let model = run.model.best().unwrap_or("unknown model");
    let mut text = format!(
        "{}: {} over {}, {}\n\n",
        run.id,
        escape(model),
        run.transport.map_or("", Transport::name),
        run.status
    );
    if !explanation.lines.is_empty() {
        // Exact decimals: whoever checks a sum wants every digit of it.
        let exact = |usd: Option<Usd>| usd.map_or("?".to_string(), Usd::exact_decimal);
        let mut amounts: Vec<String> = explanation
            .lines
            .iter()
            .map(|line| exact(line.usd))
            .collect();
        amounts.push(exact(explanation.sum));
        align_points(&mut amounts);
        let mut rates: Vec<String> = explanation
            .lines
            .iter()
            .map(|line| line.rate.map_or("?".to_string(), Rate::exact_decimal))
            .collect();
        align_points(&mut rates);
        let mut table = Table::new(vec![
            ("", Align::Left),
            ("tokens", Align::Right),
            ("", Align::Left),
            ("per 1M", Align::Right),
            ("", Align::Left),
            (run.currency.name(), Align::Right),
        ]);
        for ((line, rate), usd) in explanation.lines.iter().zip(rates).zip(&amounts) {
            let tokens = line
                .tokens
                .map_or("?".to_string(), |tokens| tokens.to_string());
            table.row(vec![
                line.what.to_string(),
                tokens,
                "x".to_string(),
                rate,
                "=".to_string(),
                usd.clone(),
            ]);
        }
        let sum = amounts.pop().unwrap_or_default();
        let blank = || String::new();
        table.row(vec![
            "sum".to_string(),
            blank(),
            blank(),
            blank(),
            blank(),
            sum,
        ]);
        text.push_str(&table.render());
        text.push('\n');
    }
    text.push_str(&attempts(run));
    for amendment in &run.amendments {
        text.push_str(&format!("{}\n", amended(amendment, run.currency)));
    }
    if let Some(above) = explanation.tier_above {
        text.push_str(&format!("tier: prompts above {above} tokens\n"));
    }
    for note in &explanation.notes {
        text.push_str(&format!("{}\n", escape(note)));
    }
    text
}
