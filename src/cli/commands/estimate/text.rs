//! Counts the inputs and prices them for each model.
//!
//! An input is read once, in pieces, and each piece goes to one counter for each way of counting
//! that the models need. What cannot be read, priced or afforded becomes a verdict, and the
//! estimate is printed all the same: a gate that fails shows by how much.

use std::borrow::Cow;

use crate::catalog::Bill;
use crate::catalog::Billing;
use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::catalog::Status;
use crate::catalog::TokenCounts;
use crate::catalog::money::Usd;
use crate::cli::commands::estimate::Show;
use crate::cli::commands::estimate::TextArgs;
use crate::cli::commands::estimate::cut;
use crate::cli::commands::estimate::exact;
use crate::cli::commands::estimate::files::{self, File, Files, Input};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Cached;
use crate::cli::input::TextReader;
use crate::cli::prices;
use crate::cost::history::Expected;
use crate::llm::cost::CostEstimator;
use crate::llm::types::Role;
use crate::runtime::text::human;
use crate::tokens;
use crate::tokens::Counter;
use crate::tokens::Special;
use crate::tokens::Vocabulary;

/// A way of counting: models that share one share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The vocabulary.
    pub(super) vocabulary: Vocabulary,
    /// The special tokens that are recognised; none by default.
    pub(super) special: &'static [Special],
}

/// What one model makes of all inputs together, as one user message.
#[derive(Debug)]
pub(super) struct Estimate<'c> {
    /// The row of the catalog.
    pub(super) model: Cow<'c, Model>,
    /// The name that was asked for.
    pub(super) asked: String,
    /// Its place among the ways of counting.
    pub(super) way: usize,
    /// The vocabulary that was used.
    pub(super) vocabulary: Vocabulary,
    /// Whether it is the model's own.
    pub(super) exact: bool,
    /// The tokens of the texts alone.
    pub(super) text_tokens: u64,
    /// What the chat template adds, and whether that figure was checked; `None` when not known.
    pub(super) overhead: Option<(u64, bool)>,
    /// What the service counted itself, with `--exact`.
    pub(super) service_tokens: Option<u64>,
    /// What is billed as input.
    pub(super) input_tokens: u64,
    /// The part of it that comes from the cache.
    pub(super) cached_tokens: u64,
    /// The answer.
    pub(super) output_tokens: u64,
    /// Whether input and output fit the window; `None` when it is not known.
    pub(super) fits: Option<bool>,
    /// The bill; `None` without a price.
    pub(super) bill: Option<Bill>,
    /// How long answers of this model were so far; `None` when the ledger does not know.
    pub(super) history: Option<Expected>,
}

impl Estimate<'_> {
    /// The price of it all.
    pub(super) fn usd(&self) -> Option<Usd> {
        self.bill.as_ref().map(Bill::total)
    }

    /// The price of the input and an answer of so many tokens.
    pub(super) fn usd_with(&self, output: u64) -> Option<Usd> {
        let cache_read = self.cached_tokens;
        let counts = TokenCounts {
            input_uncached: self.input_tokens.saturating_sub(cache_read),
            cache_read,
            cache_write: 0,
            output,
        };
        Some(self.model.price.as_ref()?.cost(&counts).total())
    }
}

/// Everything that a report shows.
#[derive(Debug)]
pub(super) struct Result<'c> {
    /// The inputs that could be read.
    pub(super) inputs: Vec<Input>,
    /// How they were counted.
    pub(super) ways: Vec<Way>,
    /// Cheapest first, those without a price last.
    pub(super) estimates: Vec<Estimate<'c>>,
    /// The ids of the one input, with `--ids`.
    pub(super) ids: Option<Vec<u32>>,
    /// The one input as it is cut, with `--truncate`.
    pub(super) text: Option<String>,
    /// A directory was among what was given, so there may be many inputs.
    pub(super) many: bool,
}

/// The models and rates in force, `--price` last.
pub(super) fn catalog(args: &TextArgs, env: &Env) -> std::result::Result<Catalog, Failure> {
    let mut catalog = prices::load(&args.price_files, env)?;
    if let (Some(price), Some(model)) = (&args.price, args.models.first()) {
        catalog.set_price(model, price.clone());
    }
    Ok(catalog)
}

/// Counts, prices and judges. The failure, if there is one, has been said, and is no reason not
/// to print the result.
pub(super) fn estimate<'c>(
    args: &TextArgs,
    catalog: &'c Catalog,
    env: &mut Env,
) -> std::result::Result<(Result<'c>, Option<Failure>), Failure> {
    let models = models(args, catalog);
    let mut ways = Vec::new();
    for (_, model) in &models {
        let way = way(args, model);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }

    let mut verdicts = Vec::new();
    let files = files::expand(&args.inputs, args.deadline, env)?;
    let (mut inputs, text) = read(args, &files, &ways, env, &mut verdicts)?;
    if files.many || args.by.is_some() || args.top.is_some() {
        files::arrange(&mut inputs, args.by);
    }
    let cut = match (args.show, ways.first()) {
        (Show::Text(most), Some(way)) => Some(cut::cut(&text, most, args.cut_from, &mut |part| {
            tokens::encode(part, way.vocabulary, way.special).len() as u64
        })),
        _ => None,
    };
    let ids = match (args.show, ways.first()) {
        (Show::Ids, Some(way)) => Some(tokens::encode(&text, way.vocabulary, way.special)),
        _ => None,
    };
    let mut estimates = Vec::new();
    for (asked, model) in models {
        let service_tokens = match args.exact {
            true => Some(exact::count(args, &model, &text, env)?),
            false => None,
        };
        let way = way(args, &model);
        let way = ways.iter().position(|known| *known == way).unwrap_or(0);
        let counted = inputs.iter().filter_map(|input| input.tokens.get(way));
        let text_tokens = counted.fold(0, |sum: u64, tokens| sum.saturating_add(*tokens));
        estimates.push(priced(args, asked, model, way, text_tokens, service_tokens));
    }
    estimates.sort_by_key(|estimate| (estimate.usd().is_none(), estimate.usd()));

    if args.show == Show::Estimate || args.json {
        judge(args, catalog, &estimates, env, &mut verdicts);
    }
    let result = Result {
        inputs,
        ways,
        estimates,
        ids,
        text: cut,
        many: files.many,
    };
    Ok((result, Failure::merge(verdicts)))
}

/// The rows of the models that were asked for, each once, under the name they were asked by.
fn models<'c>(args: &TextArgs, catalog: &'c Catalog) -> Vec<(String, Cow<'c, Model>)> {
    let mut models: Vec<(String, Cow<'c, Model>)> = Vec::new();
    for name in &args.models {
        let model = catalog.resolve(name);
        if !models.iter().any(|(_, known)| known.id == model.id) {
            models.push((name.clone(), model));
        }
    }
    models
}

fn way(args: &TextArgs, model: &Model) -> Way {
    let vocabulary = args.vocabulary.unwrap_or(model.vocabulary);
    let special = if args.special {
        Special::of(vocabulary, &model.id)
    } else {
        &[]
    };
    Way {
        vocabulary,
        special,
    }
}

/// Reads and counts every input. One that cannot be read is said, becomes a verdict, and does not
/// hide the others; the end of the run's time ends it. The text itself is kept only for those who
/// need it whole.
fn read(
    args: &TextArgs,
    files: &Files,
    ways: &[Way],
    env: &mut Env,
    verdicts: &mut Vec<Failure>,
) -> std::result::Result<(Vec<Input>, String), Failure> {
    let keep = args.exact || matches!(args.show, Show::Ids | Show::Text(_));
    let mut reader = TextReader::new(args.lossy, args.deadline).showing_progress(files.bytes);
    let mut binary = 0_u64;
    let mut kept = String::new();
    let mut inputs = Vec::new();
    for File { source, found } in &files.list {
        let mut counters: Vec<Counter> = ways
            .iter()
            .map(|way| Counter::new(way.vocabulary).recognising(way.special))
            .collect();
        let read = reader.read(source, env, &mut |text| {
            for counter in &mut counters {
                counter.push(text);
            }
            if keep {
                kept.push_str(text);
            }
            Ok(())
        });
        match read {
            Ok(bytes) => inputs.push(Input {
                name: source.name(),
                bytes,
                tokens: counters.into_iter().map(Counter::finish).collect(),
                files: None,
            }),
            // The file was found in a directory and not named.
            Err(failure) if *found && failure.exit == Exit::BadInput => binary += 1,
            Err(failure) if failure.exit != Exit::Deadline => {
                env.output.failure(&failure);
                verdicts.push(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    env.output.status(None);
    if binary > 0 {
        let (files, are) = if binary == 1 {
            ("file", "is")
        } else {
            ("files", "are")
        };
        env.output.warning(format!(
            "{binary} {files} {are} not UTF-8 text and not counted; --lossy counts them"
        ));
    }
    Ok((inputs, kept))
}

fn priced<'c>(
    args: &TextArgs,
    asked: String,
    model: Cow<'c, Model>,
    way: usize,
    text_tokens: u64,
    service_tokens: Option<u64>,
) -> Estimate<'c> {
    let estimator = CostEstimator::of(model);
    let overhead = estimator.overhead(&[Role::User]);
    let wrapped = text_tokens.saturating_add(overhead.map_or(0, |overhead| overhead.tokens));
    let input_tokens = service_tokens.unwrap_or(wrapped);
    let cached = match args.cached {
        Cached::Tokens(tokens) => tokens,
        Cached::Millionths(share) => share_of(input_tokens, share),
    };
    let priced = estimator.estimate(input_tokens, cached, args.output_tokens);
    let (bill, fits, cached_tokens) = (priced.bill, priced.fits(), priced.counts.cache_read);
    let model = estimator.into_model();
    let vocabulary = args.vocabulary.unwrap_or(model.vocabulary);
    Estimate {
        asked,
        way,
        vocabulary,
        exact: vocabulary == model.vocabulary && model.exact,
        text_tokens,
        overhead: overhead.map(|overhead| (overhead.tokens, overhead.exact)),
        service_tokens,
        input_tokens,
        cached_tokens,
        output_tokens: args.output_tokens,
        fits,
        bill,
        history: None,
        model,
    }
}

/// So many millionths of `tokens`, rounded down: what is not surely cached is priced as if not.
fn share_of(tokens: u64, millionths: u32) -> u64 {
    let share = u128::from(tokens) * u128::from(millionths) / 1_000_000;
    u64::try_from(share).unwrap_or(tokens)
}

/// Says what is doubtful, and fails what the gates do not let through. An unknown price comes
/// before a limit, because it is the reason why nobody can say whether the limit holds.
fn judge(
    args: &TextArgs,
    catalog: &Catalog,
    estimates: &[Estimate<'_>],
    env: &mut Env,
    verdicts: &mut Vec<Failure>,
) {
    let known = verdicts.len();
    for estimate in estimates {
        let name = &*estimate.asked;
        if estimate.bill.is_none() {
            verdicts.extend(unpriced(args, catalog, estimate, env));
        }
        if estimate.model.status == Status::Retired {
            let when = estimate.model.ends.as_deref();
            let when = when.map_or(String::new(), |when| format!(" on {when}"));
            env.output.warning(format!(
                "{name} was retired{when}; the price is the last known"
            ));
        }
        if estimate
            .bill
            .is_some_and(|bill| bill.cache_read_rate_unknown)
        {
            env.output.warning(format!(
                "no rate for cached input of {name} is known: it is priced as fresh input"
            ));
        }
        let asked_for = match args.cached {
            Cached::Tokens(tokens) => tokens,
            Cached::Millionths(_) => 0,
        };
        if asked_for > estimate.input_tokens {
            env.output.warning(format!(
                "--cached {asked_for} is more than the {} input tokens of {name}: all of them are taken as cached",
                estimate.input_tokens
            ));
        }
    }
    for estimate in estimates {
        let name = &*estimate.asked;
        let total = estimate.input_tokens.saturating_add(estimate.output_tokens);
        if let (Some(false), Some(window)) = (estimate.fits, estimate.model.window) {
            let (mut have, mut fit) = (human(total), human(window));
            if have == fit {
                (have, fit) = (total.to_string(), window.to_string());
            }
            let detail =
                format!("{have} tokens do not fit in the context window of {name} ({fit})");
            verdicts.push(
                Failure::new(Exit::Budget, "window", detail)
                    .hint("shorten the input, or see `omk models` for a larger window"),
            );
        }
        if let Some(limit) = args.max_tokens
            && estimate.input_tokens > limit
        {
            let detail = format!(
                "{name}: {} input tokens, --max-tokens allows {limit}",
                estimate.input_tokens
            );
            verdicts.push(Failure::new(Exit::Budget, "budget", detail));
        }
        if let (Some(usd), Some(limit)) = (estimate.usd(), args.max_usd)
            && usd > limit
        {
            let detail = format!("{name}: {usd}, --max-usd allows {limit}");
            verdicts.push(Failure::new(Exit::Budget, "budget", detail));
        }
    }
    for verdict in verdicts.iter().skip(known) {
        env.output.failure_after_result(verdict);
    }
}

/// A model without a price: a warning, or a verdict where a price was needed.
fn unpriced(
    args: &TextArgs,
    catalog: &Catalog,
    estimate: &Estimate<'_>,
    env: &mut Env,
) -> Option<Failure> {
    let name = &*estimate.asked;
    let mut detail = if estimate.model.billing == Billing::Subscription {
        format!("{name} is part of a subscription and has no price per token")
    } else {
        format!("no price of {name} is known")
    };
    let needed = args.strict_prices || args.max_usd.is_some();
    let listed = catalog.find(name).is_some();
    if !listed {
        detail.push_str(", and omk never takes that of a similar name");
    }
    let near = if listed {
        Vec::new()
    } else {
        catalog.suggest(name)
    };
    let fix = "--price IN,CACHED,OUT or a --price-file gives one, `omk models update` may know it";
    if !needed {
        if !near.is_empty() {
            detail.push_str(&format!("; did you mean {}?", near.join(" or ")));
        }
        env.output.warning(detail);
        return None;
    }
    if !args.strict_prices {
        detail.push_str(": --max-usd cannot be checked");
    }
    let mut failure = Failure::new(Exit::Config, "price", detail).hint(fix);
    if !near.is_empty() {
        failure = failure.hint(format!("did you mean {}?", near.join(" or ")));
    }
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_never_overflows() {
        assert_eq!(share_of(999, 500_000), 499);
        assert_eq!(share_of(u64::MAX, 1_000_000), u64::MAX);
        assert_eq!(share_of(u64::MAX, 0), 0);
    }
}
