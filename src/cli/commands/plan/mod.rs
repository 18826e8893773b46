//! `omk plan` and its second words: plans checked, shown and compared, all without a network.
//!
//! This file holds what they share: reading a plan from a file or a pipe, and pricing it. `check` finds mistakes in
//! anybody's plan, `show` prints one in the forms of `render`, `diff` compares two.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod make;
pub(crate) mod show;

use std::ffi::OsString;

use crate::catalog::Catalog;
use crate::cli::commands::estimate::DEFAULT_MODEL;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::flags::LowArgs;
use crate::cli::flags::UsageError;
use crate::cli::flags::value::Format;
use crate::cli::flags::{Completes, Flag, Takes, value};
use crate::cli::input::Source;
use crate::cli::input::TextReader;
use crate::llm::cost::CostEstimator;
use crate::plan::document::PlanDocument;
use crate::plan::model::Plan;
use crate::plan::model::WorkEstimate;

/// `--format`.
pub(crate) static FORMAT: Flag = Flag {
    long: "format",
    takes: Takes::Value("FORM", |low, v| {
        low.format = Some(value::one_of(
            v,
            &[
                Format::Text,
                Format::Json,
                Format::Markdown,
                Format::Mermaid,
                Format::Dot,
                Format::Csv,
            ],
        )?);
        Ok(())
    }),
    doc: "Output format. The default is text.",
    choices: &["text", "json", "markdown", "mermaid", "dot", "csv"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

/// `--strict`.
pub(crate) static STRICT: Flag = Flag {
    long: "strict",
    takes: Takes::Nothing(|low| low.strict = true),
    doc: "Fail when the goal is vague or the plan has a warning. The exit code is then 4.",
    ..Flag::BLANK
};

/// The largest text that is taken for a plan.
const LARGEST: usize = 16 * 1024 * 1024;

/// The inputs in order; standard input may be one of them, once.
fn sources(positionals: Vec<OsString>) -> Result<Vec<Source>, UsageError> {
    let from_stdin = positionals.iter().filter(|word| *word == "-").count();
    if from_stdin > 1 {
        return Err(UsageError::new(
            "`-` is given twice; standard input can be read once",
        ));
    }
    let source = |word: OsString| match word == "-" {
        true => Source::Stdin,
        false => Source::File(word.into()),
    };
    Ok(positionals.into_iter().map(source).collect())
}

/// The form to print in.
fn format(low: &LowArgs) -> Result<Format, UsageError> {
    match (low.format, low.json) {
        (Some(format), true) if format != Format::Json => {
            Err(UsageError::conflict("--format", "--json").hint("--json is --format json"))
        }
        (_, true) => Ok(Format::Json),
        (format, false) => Ok(format.unwrap_or(Format::Text)),
    }
}

/// The whole text of an input.
fn read(source: &Source, deadline: Deadline, env: &mut Env) -> Result<String, Failure> {
    // Nothing is replaced in a plan: it would be another one.
    read_as(source, false, deadline, env).map_err(|failure| match failure.exit {
        Exit::BadInput => Failure {
            hints: Vec::new(),
            ..failure
        },
        _ => failure,
    })
}

/// The whole text of an input, bad bytes replaced when `lossy`.
fn read_as(
    source: &Source,
    lossy: bool,
    deadline: Deadline,
    env: &mut Env,
) -> Result<String, Failure> {
    let mut text = String::new();
    let mut reader = TextReader::new(lossy, deadline);
    let name = source.name();
    reader.read(source, env, &mut |piece| {
        if text.len() + piece.len() > LARGEST {
            let detail = format!("`{name}` is larger than 16 MiB");
            return Err(Failure::new(Exit::BadInput, "input", detail));
        }
        text.push_str(piece);
        Ok(())
    })?;
    Ok(text)
}

/// The plan in an input.
///
/// # Errors
///
/// Those of reading, and exit 4 for a text that is no plan of ours or has mistakes.
fn load(source: &Source, deadline: Deadline, env: &mut Env) -> Result<PlanDocument, Failure> {
    let text = read(source, deadline, env)?;
    PlanDocument::parse(&text).map_err(|findings| {
        let name = source.name();
        let first = findings
            .list()
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let more = match findings.list().len() + findings.omitted() {
            0 | 1 => String::new(),
            count => format!("; and {} more", count - 1),
        };
        Failure::new(
            Exit::Invalid,
            "invalid plan",
            format!("`{name}`: {first}{more}"),
        )
        .hint(format!(
            "`omk plan check {name}` lists everything; it knows plans of other tools too"
        ))
    })
}

/// The one model to price for; the default when nobody names one.
fn model(names: Vec<String>) -> Result<String, UsageError> {
    let mut names = names.into_iter();
    let first = names.next();
    if names.next().is_some() {
        return Err(UsageError::new("a plan is priced for one model").hint("give --model one name"));
    }
    Ok(first.unwrap_or_else(|| DEFAULT_MODEL.to_string()))
}

/// What carrying a plan out may cost; an unknown price is warned of.
pub(crate) fn estimate(plan: &Plan, model: &str, catalog: &Catalog, env: &mut Env) -> WorkEstimate {
    let estimator = CostEstimator::new(catalog, model);
    let estimate = estimator.work(plan);
    if estimate.usd.is_none() {
        let name = &estimate.model;
        env.output.warning(format!(
            "{name} has no known price per token, so the plan has none"
        ));
    }
    estimate
}
