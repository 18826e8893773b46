//! The result of a run as JSON: `omk.result/1`.
//!
//! Fields are only ever added. What was not reported is null, never 0; what is not known to be an amount is not one.

use serde::Serialize;
use serde_json::Value;

use crate::catalog::money::{Currency, Usd};
use crate::cli::ask::AskArgs;
use crate::cli::exit::{ErrorReport, Exit, Failure};
use crate::cli::prices::PriceReport;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::record::{CostKind, Transport};
use crate::llm::retry::Retry;
use crate::llm::types::{Denial, FinishReason, LlmResponse, Usage};
use crate::run;
use crate::tokens::usage::Contradiction;

/// The run of a command.
type Run = run::Run<JsonFileCostSink>;

/// The document.
#[derive(Debug, Serialize)]
pub(crate) struct ResultReport<'a> {
    schema: &'static str,
    /// Of a batch: the prompt that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    ok: bool,
    exit: u8,
    run_id: Option<&'a str>,
    text: Option<&'a str>,
    /// The answer as JSON, where a schema was asked for and it satisfies it.
    value: Option<&'a Value>,
    model: ModelReport<'a>,
    transport: Option<&'a str>,
    peer: Option<&'a str>,
    session_id: Option<&'a str>,
    /// Of a turn of a conversation that omk keeps: what it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<&'a TurnReport>,
    request_ids: &'a [String],
    finish_reason: Option<&'a str>,
    /// Whether the whole answer is there; null where the peer does not say why it ended.
    complete: Option<bool>,
    usage: Option<Usage>,
    cost: CostReport<'a>,
    forecast: Option<ForecastReport>,
    budget: BudgetReport,
    retries: Vec<RetryReport<'a>>,
    denials: Vec<DenialReport<'a>>,
    timing: TimingReport,
    warnings: &'a [String],
    error: Option<ErrorReport<'a>>,
}

#[derive(Debug, Serialize)]
struct ModelReport<'a> {
    requested: Option<&'a str>,
    reported: Option<&'a str>,
}

/// What it cost.
#[derive(Debug, Serialize)]
pub(crate) struct CostReport<'a> {
    /// Before the amounts: it decides what they are named after.
    currency: Currency,
    /// What is known: the price of the usage that was reported.
    usd: Option<Usd>,
    at_least_usd: Option<Usd>,
    /// Null where nothing bounds it.
    at_most_usd: Option<Usd>,
    kind: &'static str,
    price: Option<PriceReport<'a>>,
    charged: &'static str,
    /// Usage that contradicts itself, as it was reported.
    contradictions: &'a [Contradiction],
}

/// What was expected before anything was sent.
#[derive(Debug, Serialize)]
struct ForecastReport {
    input_tokens: u64,
    /// What half of the model's answers stayed within, by the ledger; null without enough of a past.
    output_tokens: Option<u64>,
    /// What nine of ten stayed within.
    output_tokens_p90: Option<u64>,
    /// The runs that both rest on.
    runs: usize,
    usd: Option<Usd>,
}

impl ForecastReport {
    fn of(run: &Run) -> Option<ForecastReport> {
        let forecast = run.record().estimate.as_ref()?;
        Some(ForecastReport {
            input_tokens: forecast.input_tokens,
            output_tokens: forecast.output_tokens,
            output_tokens_p90: run.expected().map(|expected| expected.p90),
            runs: run.expected().map_or(0, |expected| expected.runs),
            usd: forecast.usd,
        })
    }
}

#[derive(Debug, Serialize)]
struct BudgetReport {
    max_tokens: Option<u64>,
    max_usd: Option<Usd>,
    worst_case_usd: Option<Usd>,
}

#[derive(Debug, Serialize)]
struct RetryReport<'a> {
    attempt: u32,
    of: u32,
    wait_s: f64,
    kind: &'static str,
    message: String,
    http_status: Option<u16>,
    charged: &'a str,
}

#[derive(Debug, Serialize)]
struct DenialReport<'a> {
    kind: &'static str,
    tool: &'a str,
    detail: &'a str,
    rule: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct TimingReport {
    spawn_ms: Option<u64>,
    first_byte_ms: Option<u64>,
    total_ms: u64,
}

/// What the turn sent and cost, for the result as JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TurnReport {
    pub(crate) name: String,
    /// The number of the turn, from 1.
    pub(crate) turn: usize,
    /// Tokens of the earlier turns, counted by omk.
    pub(crate) history_tokens: u64,
    /// Tokens of the whole prompt; null where the service did not report them.
    pub(crate) input_tokens: Option<u64>,
    /// Of these, those from the service's cache.
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) usd: Option<Usd>,
}

impl TurnReport {
    /// For people.
    pub(crate) fn line(&self) -> String {
        let sent = match (self.input_tokens, self.cached_tokens) {
            (Some(input), Some(cached)) => {
                let share = u128::from(cached) * 100 / u128::from(input.max(1));
                format!("{input} tokens sent, {cached} of them ({share} %) from the cache")
            }
            (Some(input), None) => format!("{input} tokens sent"),
            (None, _) => "the service did not report what was sent".to_string(),
        };
        let cost = self
            .usd
            .map_or("cost unknown".to_string(), |usd| usd.to_string());
        format!(
            "session {}, turn {}: {} tokens of history; {sent}; {cost}",
            self.name, self.turn, self.history_tokens
        )
    }
}

impl<'a> CostReport<'a> {
    /// That of a run.
    pub(crate) fn of(run: &'a Run) -> CostReport<'a> {
        let usd = run
            .known_usd()
            .filter(|_| run.record().kind != CostKind::Unknown);
        CostReport {
            currency: run.record().currency,
            usd,
            at_least_usd: run.at_least_usd(),
            at_most_usd: run.at_most_usd(),
            kind: run.record().kind.label(),
            price: match run.record().price {
                Some(_) => PriceReport::of(run.model()),
                None => None,
            },
            charged: run.charged().name(),
            contradictions: &run.progress().contradictions,
        }
    }
}

impl<'a> ResultReport<'a> {
    /// The document of a run that came to `exit`; `answer` is what there is of one.
    pub(crate) fn new(
        args: &AskArgs,
        run: &'a Run,
        exit: Exit,
        answer: Option<(&'a LlmResponse, Option<&'a Value>)>,
        warnings: &'a [String],
        failure: Option<&'a Failure>,
    ) -> ResultReport<'a> {
        let record = run.record();
        let response = answer.map(|(response, _)| response);
        ResultReport {
            schema: "omk.result/1",
            id: None,
            ok: exit == Exit::Done,
            exit: exit.code(),
            run_id: Some(&record.id),
            text: match response {
                Some(response) => Some(&response.text),
                None => Some(run.progress().partial.as_str())
                    .filter(|text| !text.is_empty() && keeps_partial(exit, failure)),
            },
            value: answer.and_then(|(_, value)| value),
            model: ModelReport {
                requested: record.model.requested.as_deref(),
                reported: record.model.reported.as_deref(),
            },
            transport: record.transport.map(Transport::name),
            peer: Some(&record.peer),
            session_id: record.session_id.as_deref(),
            turn: None,
            request_ids: &run.progress().request_ids,
            finish_reason: response.and_then(|response| {
                Some(match response.finish_reason.as_ref()? {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Other(reason) => reason,
                })
            }),
            complete: match response {
                Some(response) => response
                    .finish_reason
                    .as_ref()
                    .map(|reason| *reason == FinishReason::Stop),
                None => Some(false),
            },
            usage: run.usage(),
            cost: CostReport::of(run),
            forecast: ForecastReport::of(run),
            budget: BudgetReport {
                max_tokens: args.max_tokens,
                max_usd: args.max_usd,
                worst_case_usd: run.first_bound_usd(),
            },
            retries: run.progress().retries.iter().map(RetryReport::of).collect(),
            denials: run
                .progress()
                .denials
                .iter()
                .map(DenialReport::of)
                .collect(),
            timing: TimingReport {
                spawn_ms: run.progress().timing.spawn,
                first_byte_ms: run.progress().timing.first_byte,
                total_ms: run.elapsed_ms(),
            },
            warnings,
            error: failure.map(Failure::report),
        }
    }
}

impl<'a> ResultReport<'a> {
    /// As that of a turn of a conversation that omk keeps.
    pub(crate) fn of_turn(self, turn: Option<&'a TurnReport>) -> ResultReport<'a> {
        ResultReport { turn, ..self }
    }

    /// As the result of this prompt of a batch.
    pub(crate) fn of_prompt(self, id: &'a str) -> ResultReport<'a> {
        ResultReport {
            id: Some(id),
            ..self
        }
    }
}

/// Whether what there is of an answer is worth showing: the run was ended before the model was.
fn keeps_partial(exit: Exit, failure: Option<&Failure>) -> bool {
    matches!(
        exit,
        Exit::Deadline | Exit::HungUp | Exit::Interrupted | Exit::Terminated
    ) || failure.is_some_and(|failure| failure.kind == "timeout")
}

impl<'a> RetryReport<'a> {
    fn of(retry: &'a Retry) -> RetryReport<'a> {
        RetryReport {
            attempt: retry.attempt,
            of: retry.of,
            wait_s: retry.wait.as_secs_f64(),
            kind: retry.error.kind(),
            message: retry.error.to_string(),
            http_status: retry.error.http_status(),
            charged: retry.error.may_have_charged().name(),
        }
    }
}

impl<'a> DenialReport<'a> {
    fn of(denial: &'a Denial) -> DenialReport<'a> {
        DenialReport {
            kind: denial.kind.name(),
            tool: &denial.tool,
            detail: &denial.detail,
            rule: denial.rule.as_deref(),
        }
    }
}
