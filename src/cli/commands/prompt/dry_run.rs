//! `omk prompt --dry-run`: what would be sent and where, what it would cost, and what the budgets say. Nothing is sent or
//! started, not even an agent's `--version`, and nothing is written.

use serde::Serialize;
use serde_json::Value;

use crate::catalog::money::{Currency, Usd};
use crate::catalog::{Price, TokenCounts};
use crate::cli::ask::peer::{self, Destination};
use crate::cli::ask::{AskArgs, destination};
use crate::cli::commands::estimate::DEFAULT_MODEL;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{ledger, prices};
use crate::cost::budget::{self, Standing};
use crate::cost::sink::SinkError;
use crate::llm::client::Request;
use crate::llm::error::LlmError;
use crate::run::Limits;
use crate::run::account::Account;
use crate::run::limits::{Counted, Situation, admit};

/// The JSON document `omk.request/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    transport: &'static str,
    destination: &'a str,
    model: &'a str,
    system: Option<&'a str>,
    text: &'a str,
    images: Vec<ImageReport<'a>>,
    response_schema: Option<&'a Value>,
    input_tokens: u64,
    /// The most that the answer may have.
    output_tokens: Option<u64>,
    currency: Currency,
    usd: Option<Usd>,
    worst_case_usd: Option<Usd>,
    budgets: Vec<BudgetReport>,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    media_type: &'a str,
    bytes: usize,
}

#[derive(Serialize)]
struct BudgetReport {
    budget: String,
    currency: Currency,
    limit_usd: Usd,
    spent_usd: Usd,
    reserved_usd: Usd,
    /// Whether the worst case fits; null where there is none.
    fits: Option<bool>,
}

/// Shows it.
pub(super) fn run(
    args: &AskArgs,
    as_json: bool,
    request: &Request,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let (name, is_agent, transport) = match destination(args, env)? {
        Destination::Http { base_url } => (base_url, false, "http"),
        Destination::Agent { path } => {
            let transport = args.transport.map_or("auto", |transport| transport.name());
            (path, true, transport)
        }
        Destination::Tape { name } => (name, false, "replay"),
    };
    let mut catalog = prices::load(&args.price_files, env)?;
    let asked = args.model.as_ref().map(|(name, _)| name.as_str());
    let model_name = asked.unwrap_or(DEFAULT_MODEL);
    if let Some(price) = &args.price {
        catalog.set_price(model_name, price.clone());
    }
    let model = match transport {
        "http" => catalog.resolve_at(model_name, peer::host(&name)),
        _ => catalog.resolve(model_name),
    };
    let model = model.into_owned();
    // An agent chooses its model where none is named.
    let known = asked.is_some() || args.price.is_some() || !is_agent;
    let price = model.price.as_ref().filter(|_| known);
    let counted = Counted::of(request, &model);
    let budgets = ledger::budgets(env)?;
    let account = Account::new(model.vocabulary, price.cloned());
    let admitted = admit(
        request,
        &counted,
        Situation {
            limits: Limits {
                max_usd: args.max_usd,
                max_tokens: args.max_tokens,
            },
            model: &model,
            price,
            is_agent,
            has_budgets: !budgets.is_empty(),
            account: &account,
        },
    );
    let usd = price.map(|price| {
        let counts = TokenCounts {
            input_uncached: counted.input,
            ..TokenCounts::default()
        };
        price.cost(&counts).total()
    });
    let bound = admitted.as_ref().ok().and_then(|allowed| allowed.bound);
    // How often an agent calls its model is not bounded by anything but a limit of the run.
    let worst = match (is_agent, args.max_usd) {
        (true, limit) => limit,
        (false, _) => bound.zip(price).map(|(bound, price)| bound.price(price)),
    };
    let standings = match budgets.is_empty() {
        true => Vec::new(),
        false => {
            let ledger = ledger::open(env).map_err(unreadable)?;
            let now = env.clock.now();
            budget::standings(&ledger, &budgets, now, None)
                .map_err(unreadable)?
                .0
        }
    };
    let currency = price.map(Price::currency).unwrap_or_default();
    let fits = |standing: &Standing| {
        if standing.budget.currency != currency {
            return None;
        }
        let total = standing.spent + standing.reserved + worst?;
        Some(total <= standing.budget.limit)
    };
    let spent: Vec<String> = standings
        .iter()
        .filter(|standing| fits(standing) == Some(false))
        .map(|standing| standing.budget.to_string())
        .collect();
    let failure = match admitted {
        Err(LlmError::ContextLengthExceeded { detail, .. }) => {
            Some(Failure::new(Exit::Budget, "window", detail))
        }
        Err(error) => Some(Failure::new(Exit::Budget, "budget", error.to_string())),
        Ok(_) if !spent.is_empty() => {
            let detail = format!("the worst case does not fit in {}", spent.join(", "));
            Some(Failure::new(Exit::Budget, "budget", detail).hint(
                "--max-usd, --max-tokens or --max-output-tokens limit it; `omk cost check` shows the budgets",
            ))
        }
        Ok(_) => None,
    };
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    let reports: Vec<BudgetReport> = standings
        .iter()
        .map(|standing| BudgetReport {
            budget: standing.budget.to_string(),
            currency: standing.budget.currency,
            limit_usd: standing.budget.limit,
            spent_usd: standing.spent,
            reserved_usd: standing.reserved,
            fits: fits(standing),
        })
        .collect();
    if as_json {
        if let Some(failure) = &failure {
            env.output.failure(failure);
        }
        let document = Document {
            transport,
            destination: &name,
            model: if known { &model.id } else { "the agent's own" },
            system: request.system.as_deref(),
            text: &request.text,
            images: request
                .images
                .iter()
                .map(|image| ImageReport {
                    media_type: &image.media_type,
                    bytes: image.bytes.len(),
                })
                .collect(),
            response_schema: request.schema.as_ref().map(|schema| &schema.schema),
            input_tokens: counted.input,
            output_tokens: bound.map(|bound| bound.output),
            currency,
            usd,
            worst_case_usd: worst,
            budgets: reports,
        };
        env.output
            .document("omk.request/1", exit, &document, failure.as_ref())?;
        return Ok(exit);
    }
    if let Some(system) = &request.system {
        env.output.print(&format!("{system}\n\n"))?;
    }
    env.output.print(&format!("{}\n", request.text))?;
    env.output.flush()?;
    let shown =
        |usd: Option<Usd>| usd.map_or("no known price".to_string(), |usd| usd.shown_in(currency));
    env.output.note(&format!(
        "nothing was sent; it would go to {name} over {transport}"
    ));
    let of = if known {
        &*model.id
    } else {
        "the agent's own model"
    };
    env.output.note(&format!(
        "{} tokens for {of}, {} before the answer",
        counted.input,
        shown(usd)
    ));
    env.output.note(&match worst {
        Some(worst) => format!("at most {} with the answer", worst.shown_in(currency)),
        None => "no bound is known for the whole: --max-usd sets one".to_string(),
    });
    for report in &reports {
        let verdict = match report.fits {
            Some(true) => "the worst case fits",
            Some(false) => "the worst case does not fit",
            None => "whether the run fits is not known",
        };
        env.output.note(&format!(
            "{}: {} spent, {} reserved; {verdict}",
            report.budget,
            report.spent_usd.shown_in(report.currency),
            report.reserved_usd.shown_in(report.currency)
        ));
    }
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    Ok(exit)
}

fn unreadable(error: SinkError) -> Failure {
    let failure = Failure::new(Exit::Io, "ledger", error.detail);
    match error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
