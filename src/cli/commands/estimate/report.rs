//! Prints an estimate: columns for people, one JSON document for scripts.

use serde::Serialize;

use crate::catalog::Billing;
use crate::catalog::money::Usd;
use crate::cli::commands::estimate::Show;
use crate::cli::commands::estimate::TextArgs;
use crate::cli::commands::estimate::files::Input;
use crate::cli::commands::estimate::text::Estimate;
use crate::cli::commands::estimate::text::Result;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::prices::PriceReport;
use crate::cost::history::Expected;
use crate::runtime::table::Align;
use crate::runtime::table::Table;

/// The default number of inputs that are listed for a directory.
const LISTED: usize = 20;

const SCHEMA: &str = "omk.estimate/1";

/// Prints what was asked for.
pub(super) fn print(
    args: &TextArgs,
    result: &Result<'_>,
    failure: Option<&Failure>,
    env: &mut Env,
) -> std::result::Result<(), Failure> {
    if args.json {
        let document = Document {
            models: result
                .estimates
                .iter()
                .map(|estimate| model(result, estimate, args.top))
                .collect(),
            ids: result.ids.as_deref(),
        };
        let exit = failure.map_or(Exit::Done, |failure| failure.exit);
        return env.output.document(SCHEMA, exit, &document, failure);
    }
    match args.show {
        Show::Ids => {
            for id in result.ids.iter().flatten() {
                env.output.print(&format!("{id}\n"))?;
            }
        }
        Show::Text(_) => env
            .output
            .print(result.text.as_deref().unwrap_or_default())?,
        Show::Count => {
            let counts = result
                .inputs
                .iter()
                .filter_map(|input| input.tokens.first());
            let sum = counts.fold(0, |sum: u64, count| sum.saturating_add(*count));
            if !result.inputs.is_empty() {
                env.output.print(&format!("{sum}\n"))?;
            }
        }
        Show::Estimate => {
            if result.inputs.len() > 1 {
                let table = inputs(args, result);
                env.output.print(&table.render())?;
                env.output.print("\n")?;
            }
            if !result.inputs.is_empty() {
                env.output.print(&models(args, result).render())?;
            }
        }
    }
    Ok(())
}

/// The document of a run that ended before there was anything to estimate.
pub(super) fn failed(failure: &Failure, env: &mut Env) -> std::result::Result<(), Failure> {
    let nothing = Document {
        models: Vec::new(),
        ids: None,
    };
    env.output
        .document(SCHEMA, failure.exit, &nothing, Some(failure))
}

/// As `wc` does it: a line for each input, the counts before the name, and the total.
fn inputs(args: &TextArgs, result: &Result<'_>) -> Table {
    let mut columns: Vec<_> = result
        .ways
        .iter()
        .map(|way| (way.vocabulary.name(), Align::Right))
        .collect();
    columns.extend([("bytes", Align::Right), ("input", Align::Left)]);
    let mut table = Table::new(columns);
    let mut total = vec![0u64; result.ways.len()];
    let mut bytes = 0u64;
    for input in &result.inputs {
        for (total, tokens) in total.iter_mut().zip(&input.tokens) {
            *total = total.saturating_add(*tokens);
        }
        bytes = bytes.saturating_add(input.bytes);
    }
    let most = args.top.unwrap_or(match result.many {
        true => LISTED,
        false => usize::MAX,
    });
    let (listed, rest) = result
        .inputs
        .split_at_checked(most)
        .unwrap_or((&result.inputs, &[]));
    for input in listed {
        let name = match input.files {
            Some(1) => format!("{} (1 file)", input.name),
            Some(files) => format!("{} ({files} files)", input.name),
            None => input.name.clone(),
        };
        table.row(line(&input.tokens, input.bytes, &name));
    }
    if !rest.is_empty() {
        let mut tokens = vec![0_u64; result.ways.len()];
        let mut bytes = 0_u64;
        for input in rest {
            for (sum, count) in tokens.iter_mut().zip(&input.tokens) {
                *sum = sum.saturating_add(*count);
            }
            bytes = bytes.saturating_add(input.bytes);
        }
        table.row(line(&tokens, bytes, &format!("{} more", rest.len())));
    }
    table.row(line(&total, bytes, "total"));
    table
}

fn line(tokens: &[u64], bytes: u64, name: &str) -> Vec<String> {
    let counts = tokens.iter().chain([&bytes]);
    let mut cells: Vec<String> = counts.map(u64::to_string).collect();
    cells.push(name.to_string());
    cells
}

/// A line for each model. What nobody asked about, such as cached input, has no column.
fn models(args: &TextArgs, result: &Result<'_>) -> Table {
    let any = |asked: fn(&Estimate<'_>) -> bool| result.estimates.iter().any(asked);
    let (cached, output) = (any(|e| e.cached_tokens > 0), any(|e| e.output_tokens > 0));
    let mut columns = vec![
        ("model", Align::Left),
        ("text", Align::Right),
        ("template", Align::Right),
    ];
    if args.exact {
        columns.push(("service", Align::Right));
        columns.push(("difference", Align::Right));
    }
    columns.push(("input", Align::Right));
    if cached {
        columns.push(("cached", Align::Right));
    }
    if output {
        columns.push(("output", Align::Right));
    }
    columns.extend([
        ("window", Align::Right),
        ("usd", Align::Right),
        ("price date", Align::Left),
    ]);
    let mut table = Table::new(columns);
    for estimate in &result.estimates {
        let mut cells = vec![
            estimate.model.id.to_string(),
            marked(estimate.text_tokens, estimate.exact),
            match estimate.overhead {
                Some((tokens, checked)) => format!("+{}", marked(tokens, checked)),
                None => "?".to_string(),
            },
        ];
        if let Some(service) = estimate.service_tokens {
            cells.push(service.to_string());
            cells.push(format!("{:+}", difference(estimate, service)));
        }
        let surely = estimate.service_tokens.is_some()
            || estimate.exact && estimate.overhead.is_some_and(|(_, checked)| checked);
        cells.push(marked(estimate.input_tokens, surely));
        if cached {
            cells.push(estimate.cached_tokens.to_string());
        }
        if output {
            cells.push(estimate.output_tokens.to_string());
        }
        cells.push(share_of_window(estimate));
        cells.push(match estimate.usd() {
            Some(usd) => usd.to_string(),
            None if estimate.model.billing == Billing::Subscription => "plan".to_string(),
            None => "unknown".to_string(),
        });
        cells.push(match &*estimate.model.as_of {
            "" if estimate.bill.is_some() => estimate.model.origin.to_string(),
            as_of => as_of.to_string(),
        });
        table.row(cells);
        if let Some(expected) = &estimate.history {
            table.remark(&past(estimate, expected));
        }
    }
    table
}

/// What the ledger says about answers.
fn past(estimate: &Estimate<'_>, expected: &Expected) -> String {
    let Expected { runs, p50, p90 } = *expected;
    let mut text = format!("past output ({runs} runs): p50 {p50}, p90 {p90} tokens");
    if let (Some(usual), Some(long)) = (estimate.usd_with(p50), estimate.usd_with(p90)) {
        text.push_str(&format!("; price {usual} to {long}"));
    }
    text
}

/// A tilde stands before what is approximate.
fn marked(tokens: u64, exact: bool) -> String {
    let mark = if exact { "" } else { "~" };
    format!("{mark}{tokens}")
}

fn difference(estimate: &Estimate<'_>, service: u64) -> i128 {
    let overhead = estimate.overhead.map_or(0, |(tokens, _)| tokens);
    i128::from(service) - i128::from(estimate.text_tokens) - i128::from(overhead)
}

/// Input and output as a share of the window, in tenths of a per cent, rounded up: a text that
/// does not fit never shows as 100.0%.
fn share_of_window(estimate: &Estimate<'_>) -> String {
    let Some(window) = estimate.model.window.filter(|window| *window > 0) else {
        return "?".to_string();
    };
    let total = u128::from(estimate.input_tokens) + u128::from(estimate.output_tokens);
    let tenths = (total * 1000).div_ceil(u128::from(window));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// The JSON document `omk.estimate/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    models: Vec<ModelReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [u32]>,
}

#[derive(Serialize)]
struct ModelReport<'a> {
    model: &'a str,
    vocabulary: &'static str,
    exact: bool,
    text_tokens: u64,
    overhead_tokens: Option<u64>,
    overhead_exact: Option<bool>,
    service_tokens: Option<u64>,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    window: Option<u64>,
    fits: Option<bool>,
    usd: Option<Usd>,
    tier_above: Option<u64>,
    price: Option<PriceReport<'a>>,
    history: Option<HistoryReport>,
    inputs: Vec<InputReport<'a>>,
}

#[derive(Serialize)]
struct HistoryReport {
    runs: usize,
    output_tokens_p50: u64,
    output_tokens_p90: u64,
    usd_p50: Option<Usd>,
    usd_p90: Option<Usd>,
}

#[derive(Serialize)]
struct InputReport<'a> {
    name: &'a str,
    bytes: u64,
    text_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

fn model<'a>(
    result: &'a Result<'_>,
    estimate: &'a Estimate<'_>,
    top: Option<usize>,
) -> ModelReport<'a> {
    let input = |input: &'a Input| InputReport {
        name: &input.name,
        bytes: input.bytes,
        text_tokens: input.tokens.get(estimate.way).copied().unwrap_or(0),
        files: input.files,
    };
    ModelReport {
        model: &estimate.model.id,
        vocabulary: estimate.vocabulary.name(),
        exact: estimate.exact,
        text_tokens: estimate.text_tokens,
        overhead_tokens: estimate.overhead.map(|(tokens, _)| tokens),
        overhead_exact: estimate.overhead.map(|(_, checked)| checked),
        service_tokens: estimate.service_tokens,
        input_tokens: estimate.input_tokens,
        cached_tokens: estimate.cached_tokens,
        output_tokens: estimate.output_tokens,
        window: estimate.model.window,
        fits: estimate.fits,
        usd: estimate.usd(),
        tier_above: estimate.bill.and_then(|bill| bill.tier_above),
        price: PriceReport::of(&estimate.model),
        history: estimate.history.map(|expected| HistoryReport {
            runs: expected.runs,
            output_tokens_p50: expected.p50,
            output_tokens_p90: expected.p90,
            usd_p50: estimate.usd_with(expected.p50),
            usd_p90: estimate.usd_with(expected.p90),
        }),
        inputs: result
            .inputs
            .iter()
            .take(top.unwrap_or(usize::MAX))
            .map(input)
            .collect(),
    }
}
