//! What the next attempt may use, held against the limits of the run before it is sent.
//!
//! The prompt is counted once, the longest answer is known or set, and the rates make an amount of both. Over HTTP that is a
//! bound, since the service keeps to the limit in the request. An agent decides by itself how often to call the model, so
//! its bound is that of its next call, and it is raised before each call: see [`next_call`].

use std::borrow::Cow;

use crate::catalog::Model;
use crate::catalog::Price;
use crate::catalog::TokenCounts;
use crate::catalog::money::Usd;
use crate::llm::client::Request;
use crate::llm::cost::CostEstimator;
use crate::llm::error::LlmError;
use crate::run::account::Account;
use crate::run::account::CallBound;

/// The longest answer, in tokens, that a budget over several runs reserves for where the request names none: the service's
/// own limit, 131072 for K3 and the whole window for others, would reserve dollars for an answer that costs cents.
pub(crate) const RESERVED_OUTPUT: u64 = 32_768;
/// Tokens that an agent's own instructions and tools add to the first prompt. Measured 9,000 to 20,000 with kimi-cli 1.51
/// and Kimi Code 2.1.
const AGENT_PROMPT: u64 = 32_768;
/// Tokens that one step of an agent may add to the prompt of the next: an answer and the results of its tools.
const STEP_INPUT: u64 = 32_768;

/// The limits of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most that it may cost.
    pub max_usd: Option<Usd>,
    /// The most tokens that it may use, prompts and answers together.
    pub max_tokens: Option<u64>,
}

/// A request, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Tokens of the prompt, pictures left out.
    pub(crate) input: u64,
    /// The most tokens that a service can count for it; `None` where pictures make that unknown.
    pub(crate) most: Option<u64>,
}

impl Counted {
    /// Counts a request as this model's service does.
    pub(crate) fn of(request: &Request, model: &Model) -> Counted {
        let estimator = CostEstimator::of(Cow::Borrowed(model));
        let overhead = estimator.overhead(&request.roles());
        let overhead = overhead.map_or(0, |known| known.tokens);
        let counts = request.texts().map(|text| estimator.count(text));
        let input = counts.fold(overhead, u64::saturating_add);
        // Every token of a byte-level vocabulary stands for at least one byte, whichever vocabulary it is.
        let bytes = request.texts().map(str::len);
        let bytes = bytes.fold(0, usize::saturating_add);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let text = match model.exact {
            true => input,
            false => input.max(bytes.saturating_add(overhead)),
        };
        Counted {
            input,
            most: match request.images.is_empty() {
                true => Some(text),
                // What a picture counts for is the service's to say; it fits the window.
                false => model.window,
            },
        }
    }
}

/// What the next attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The limit to set for the answer, where a limit of the run asks for one.
    pub(crate) max_output: Option<u64>,
    /// The bound of the call, or of the first call of a turn; `None` where nothing bounds it.
    pub(crate) bound: Option<CallBound>,
}

/// What the run is, as far as limits go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) limits: Limits,
    pub(crate) model: &'a Model,
    /// The rates, where they are known to hold for the model that will answer.
    pub(crate) price: Option<&'a Price>,
    pub(crate) is_agent: bool,
    pub(crate) has_budgets: bool,
    /// What the attempts so far came to.
    pub(crate) account: &'a Account,
}

fn refused(detail: String) -> LlmError {
    LlmError::BudgetExhausted {
        detail,
        begun: false,
    }
}

/// Holds a request against the limits.
///
/// # Errors
///
/// It does not fit the window, or needs more than the earlier attempts, at what they may have cost, have left.
pub(crate) fn admit(
    request: &Request,
    counted: &Counted,
    of: Situation<'_>,
) -> Result<Allowance, LlmError> {
    let model = of.model;
    let input = counted.input;
    if let Some(window) = model.window
        && input >= window
    {
        return Err(LlmError::ContextLengthExceeded {
            detail: format!(
                "the prompt has {input} tokens, and the window of {} is {window}; nothing was sent",
                model.id
            ),
            status: None,
        });
    }
    let mut tokens_left = None;
    if let Some(limit) = of.limits.max_tokens {
        let used = of.account.at_most_tokens().unwrap_or(u64::MAX);
        let left = limit.saturating_sub(used);
        if input >= left {
            return Err(refused(format!(
                "the prompt has {input} tokens, and --max-tokens {limit} leaves {left}{}",
                earlier(used > 0)
            )));
        }
        tokens_left = Some(left.saturating_sub(input));
    }
    let mut affordable = None;
    if let (Some(_), Some(price)) = (of.limits.max_usd, of.price)
        && !price.currency().is_usd()
    {
        return Err(refused(format!(
            "--max-usd cannot be checked: this request is billed in {0}, and omk converts no currency; OMK_BUDGET takes \
             amounts in {0}, such as 30{1}/day",
            price.currency(),
            price.currency().name().to_ascii_lowercase()
        )));
    }
    if let (Some(limit), Some(price)) = (of.limits.max_usd, of.price) {
        let used = of.account.at_most().unwrap_or(limit);
        let left = limit.checked_sub(used).unwrap_or(Usd::ZERO);
        let prompt = price
            .cost(&TokenCounts {
                input_uncached: input,
                ..TokenCounts::default()
            })
            .total();
        let rest = left.checked_sub(prompt).unwrap_or(Usd::ZERO);
        let output = output_rate(price, input).affords(rest);
        if output == 0 {
            return Err(refused(format!(
                "the prompt alone costs {prompt}, and --max-usd {limit} leaves {left}{}",
                earlier(used > Usd::ZERO)
            )));
        }
        affordable = Some(output);
    }
    if of.is_agent {
        return Ok(Allowance {
            max_output: request.max_output_tokens,
            bound: first_call(counted, model),
        });
    }
    let room = model.window.map(|window| window.saturating_sub(input));
    let reserved =
        (of.has_budgets && request.max_output_tokens.is_none()).then_some(RESERVED_OUTPUT);
    let longest = [
        request.max_output_tokens,
        affordable,
        reserved,
        tokens_left,
        model.max_output,
        room,
    ];
    let longest = longest.into_iter().flatten().min();
    // Without a limit of ours the service keeps to its own.
    let set = affordable.or(reserved).or(tokens_left).and(longest);
    Ok(Allowance {
        max_output: set.or(request.max_output_tokens),
        bound: counted
            .most
            .zip(longest)
            .map(|(input, output)| CallBound { input, output }),
    })
}

fn earlier(any: bool) -> &'static str {
    match any {
        true => " after what the earlier attempts may have used",
        false => "",
    }
}

/// The bound of an agent's first call.
fn first_call(counted: &Counted, model: &Model) -> Option<CallBound> {
    let input = counted.most?.saturating_add(AGENT_PROMPT);
    Some(within(input, model))
}

/// The bound of an agent's next call after one whose prompt and answer had so many tokens: the context so far and one step.
pub(crate) fn next_call(context: u64, model: &Model) -> CallBound {
    within(context.saturating_add(STEP_INPUT), model)
}

fn within(input: u64, model: &Model) -> CallBound {
    CallBound {
        input: model.window.map_or(input, |window| input.min(window)),
        output: model
            .max_output
            .map_or(RESERVED_OUTPUT, |most| most.min(RESERVED_OUTPUT)),
    }
}

/// The rate of the answer to a prompt of this size.
fn output_rate(price: &Price, input: u64) -> crate::catalog::money::Rate {
    price
        .tier_for(u128::from(input))
        .map_or(price.rates(), |tier| &tier.rates)
        .output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::money::Charge;

    struct World {
        model: Model,
        account: Account,
        limits: Limits,
        has_budgets: bool,
        is_agent: bool,
    }

    fn world() -> World {
        let model = Catalog::builtin().find("kimi-k3").unwrap().clone();
        World {
            account: Account::new(model.vocabulary, model.price.clone()),
            model,
            limits: Limits::default(),
            has_budgets: false,
            is_agent: false,
        }
    }

    impl World {
        fn admit(&self, request: &Request) -> Result<Allowance, LlmError> {
            let counted = Counted::of(request, &self.model);
            admit(
                request,
                &counted,
                Situation {
                    limits: self.limits,
                    model: &self.model,
                    price: self.model.price.as_ref(),
                    is_agent: self.is_agent,
                    has_budgets: self.has_budgets,
                    account: &self.account,
                },
            )
        }
    }

    #[test]
    fn a_limit_in_tokens_becomes_a_limit_of_the_answer_and_shrinks() {
        let mut world = world();
        let request = Request::new("hi");
        let input = Counted::of(&request, &world.model).input;
        world.limits.max_tokens = Some(100);
        let first = world.admit(&request).unwrap();
        assert_eq!(first.max_output, Some(100 - input));
        world.account.begin_call(first.bound);
        // A refusal is not billed and takes nothing away.
        world.account.end("rate limited", Charge::No);
        assert_eq!(world.admit(&request).unwrap(), first);
        world
            .account
            .begin_call(Some(CallBound { input, output: 30 }));
        world.account.end("timeout", Charge::Unknown);
        let next = world.admit(&request).unwrap();
        assert_eq!(next.max_output, Some(100 - 30 - 2 * input));
        world.account.begin_call(next.bound);
        world.account.end("timeout", Charge::Unknown);
        let error = world.admit(&request).unwrap_err();
        assert!(matches!(
            error,
            LlmError::BudgetExhausted { begun: false, .. }
        ));
        assert!(error.to_string().contains("earlier attempts"), "{error}");
    }

    #[test]
    fn a_limit_in_usd_counts_what_earlier_attempts_may_have_cost() {
        let mut world = world();
        let request = Request::new("hi");
        world.limits.max_usd = Some(Usd::parse("0.0013").unwrap());
        let first = world.admit(&request).unwrap();
        let bound = first.bound.unwrap();
        let price = world.model.price.clone().unwrap();
        assert!(bound.price(&price) <= Usd::parse("0.0013").unwrap());
        assert_eq!(first.max_output, Some(bound.output));
        world.account.begin_call(first.bound);
        world.account.end("incomplete answer", Charge::Unknown);
        assert!(world.admit(&request).is_err());
    }

    #[test]
    fn a_budget_over_runs_bounds_an_answer_without_a_limit() {
        let mut world = world();
        let request = Request::new("hi");
        assert_eq!(world.admit(&request).unwrap().max_output, None);
        world.has_budgets = true;
        let allowance = world.admit(&request).unwrap();
        assert_eq!(allowance.max_output, Some(RESERVED_OUTPUT));
        let named = world.admit(&request.clone().max_output_tokens(7)).unwrap();
        assert_eq!(named.max_output, Some(7));
        assert_eq!(named.bound.unwrap().output, 7);
    }

    #[test]
    fn the_window_is_full_when_nothing_is_left_for_an_answer() {
        let mut world = world();
        let request = Request::new("hi");
        let input = Counted::of(&request, &world.model).input;
        world.model.window = Some(input);
        let error = world.admit(&request).unwrap_err();
        assert!(matches!(error, LlmError::ContextLengthExceeded { .. }));
        world.model.window = Some(input + 1);
        assert_eq!(world.admit(&request).unwrap().bound.unwrap().output, 1);
    }

    #[test]
    fn what_cannot_be_counted_exactly_is_bounded_from_above() {
        let mut world = world();
        let picture = crate::llm::client::Image {
            media_type: "image/png".to_string(),
            bytes: Vec::new(),
        };
        let request = Request::new("hi").image(picture);
        assert_eq!(Counted::of(&request, &world.model).most, world.model.window);
        world.model.exact = false;
        let text = "a fairly ordinary sentence";
        let counted = Counted::of(&Request::new(text), &world.model);
        assert!(counted.most.unwrap() >= text.len() as u64);
        assert!(counted.input < text.len() as u64);
    }

    #[test]
    fn an_agent_is_bounded_by_its_next_call_and_the_window() {
        let mut world = world();
        world.is_agent = true;
        let request = Request::new("hi");
        let first = world.admit(&request).unwrap().bound.unwrap();
        assert!(first.input > AGENT_PROMPT && first.output == RESERVED_OUTPUT);
        let next = next_call(100_000, &world.model);
        assert_eq!(next.input, 100_000 + STEP_INPUT);
        let window = world.model.window.unwrap();
        assert_eq!(next_call(window, &world.model).input, window);
    }
}
