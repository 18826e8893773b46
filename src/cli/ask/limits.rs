//! What a request may cost at most, before it is sent.
//!
//! The prompt is counted, the longest answer is known or set, and the rates of the model make an amount of both. Over HTTP
//! that is a bound: the service keeps to the limit it is given. An agent decides by itself how often to call the model, so
//! its bound is the limit in USD or tokens plus the one call that passes it; without a limit it has none, and none is
//! invented. Pictures are not counted.

use std::borrow::Cow;

use crate::catalog::money::Usd;
use crate::catalog::{Price, TokenCounts};
use crate::cli::ask::ledger::Meter;
use crate::llm::client::Request;
use crate::llm::cost::CostEstimator;
use crate::llm::error::LlmError;
use crate::llm::types::{Role, TokenBudget};

/// The longest answer, in tokens, that a budget over several runs reserves for where nobody says: the service's own limit,
/// 131072 for K3 and the whole window for others, would reserve dollars for an answer that costs cents.
const RESERVED_OUTPUT: u64 = 32_768;

/// The limits of a run.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) max_usd: Option<Usd>,
    pub(super) max_tokens: Option<u64>,
    pub(super) is_agent: bool,
    /// The rates hold for the model that will answer.
    pub(super) priced: bool,
}

/// What one request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Tokens of the prompt as counted.
    pub(super) input: u64,
    /// The limit to set for the answer, where the limits ask for one.
    pub(super) max_output: Option<u64>,
    /// The most it can cost; `None` where nothing bounds it or no price is known.
    pub(super) worst: Option<Usd>,
}

impl Limits {
    /// The amount at which a turn is stopped half-way. A service tells its usage with the end of the answer, when stopping
    /// would lose the answer and save nothing.
    pub(super) fn stop_at(&self) -> Option<Usd> {
        self.max_usd.filter(|_| self.is_agent)
    }

    /// Holds a request against the limits.
    ///
    /// # Errors
    ///
    /// It does not fit the window, or costs more than is left.
    pub(super) fn check(
        &self,
        request: &Request,
        budget: &TokenBudget,
        meter: &Meter,
    ) -> Result<Bounds, LlmError> {
        let model = meter.model();
        let estimator = CostEstimator::of(Cow::Borrowed(model));
        let system = request.system.as_deref();
        let roles: &[Role] = match system {
            Some(_) => &[Role::System, Role::User],
            None => &[Role::User],
        };
        let input = estimator
            .count(&request.text)
            .saturating_add(estimator.count(system.unwrap_or_default()))
            .saturating_add(estimator.overhead(roles).map_or(0, |known| known.tokens));
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
        let tokens_left = (self.max_tokens.is_some()).then(|| budget.remaining());
        if let (Some(left), Some(limit)) = (tokens_left, self.max_tokens)
            && input >= left
        {
            return Err(LlmError::BudgetExhausted {
                detail: format!(
                    "the prompt has {input} tokens, and --max-tokens {limit} leaves {left}"
                ),
                begun: false,
            });
        }
        let price = model.price.as_ref().filter(|_| self.priced);
        let counts = |output| TokenCounts {
            input_uncached: input,
            output,
            ..TokenCounts::default()
        };
        let mut affordable = None;
        let mut usd_left = None;
        if let (Some(limit), Some(price)) = (self.max_usd, price) {
            let spent = meter.spent_usd().unwrap_or(Usd::ZERO);
            let left = limit.checked_sub(spent).unwrap_or(Usd::ZERO);
            let prompt = price.cost(&counts(0)).total();
            let rest = left.checked_sub(prompt).unwrap_or(Usd::ZERO);
            let output = rates(price, input).affords(rest);
            if output == 0 {
                return Err(LlmError::BudgetExhausted {
                    detail: format!(
                        "the prompt alone costs {prompt}, and --max-usd {limit} leaves {left}"
                    ),
                    begun: false,
                });
            }
            (affordable, usd_left) = (Some(output), Some(left));
        }
        let room = model.window.map(|window| window.saturating_sub(input));
        let reserved = (meter.has_budgets() && request.max_output_tokens.is_none())
            .then_some(RESERVED_OUTPUT)
            .filter(|_| !self.is_agent);
        let longest = [
            request.max_output_tokens,
            affordable,
            reserved,
            tokens_left.map(|left| left.saturating_sub(input)),
            model.max_output,
            room,
        ];
        let longest = longest.into_iter().flatten().min();
        let worst = price.and_then(|price| match self.is_agent {
            false => longest.map(|output| price.cost(&counts(output)).total()),
            true => {
                let call = |input_uncached| {
                    Some(price.cost(&TokenCounts {
                        input_uncached,
                        output: model.max_output.or(model.window)?,
                        ..TokenCounts::default()
                    }))
                };
                let last = call(model.window?)?.total();
                let all_output = tokens_left.map(|left| rates(price, input).times(left));
                Some(usd_left.or(all_output)? + last)
            }
        });
        // Without a limit of ours the service keeps to its own.
        let max_output = affordable
            .filter(|_| !self.is_agent)
            .or(reserved)
            .and(longest)
            .or(request.max_output_tokens);
        Ok(Bounds {
            input,
            max_output,
            worst,
        })
    }
}

/// The rate of the answer to a prompt of this size.
fn rates(price: &Price, input: u64) -> crate::catalog::money::Rate {
    price
        .tier_for(u128::from(input))
        .map_or(price.rates(), |tier| &tier.rates)
        .output
}
