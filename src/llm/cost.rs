//! Tokens and dollars of one request, before it is sent.
//!
//! Joins the counter, the catalog and what is known of chat templates. The text's own tokens and those of the wrapping are
//! two figures, because the first is exact and the second may not be. Refuses to price by resemblance: a model without a
//! price has an estimate in tokens and none in dollars.
//!
//! # Where the overheads come from
//!
//! - **OpenAI chat**: 3 tokens a message, 1 for its role, 3 that begin the reply; 7 for one user message. From OpenAI's
//!   cookbook, `How_to_count_tokens_with_tiktoken`, which checked it against the API for GPT-3.5 Turbo, GPT-4 and
//!   GPT-4o. For newer models it is taken over and marked approximate.
//! - **Kimi K2**: `<|im_user|>` `user` `<|im_middle|>` text `<|im_end|>`, 4 a message, and `<|im_assistant|>` `assistant`
//!   `<|im_middle|>`, 3 that begin the reply. From the templates of Kimi-K2-Instruct and Kimi-K2-Thinking as llama.cpp
//!   keeps them (`models/templates/moonshotai-Kimi-K2.jinja`, `moonshotai-Kimi-K2-Thinking.jinja`). These templates add a
//!   system message of their own where a request has none ("You are a helpful assistant", 9 tokens with its markup, later
//!   "You are Kimi, ...", 18), and from K2.5 on the reply may begin with `<think>`. Whether Moonshot's own service counts
//!   those is not published, so they are left out. It may not count the 3 either: the one worked example of its token
//!   counter (platform.kimi.com/docs/api/estimate) has two messages of 60 and 12 tokens and answers 80, which is 4 a message
//!   and nothing more. So the figure is approximate, and rather high than low. Moonshot v1 is taken to be like it.
//! - **Kimi K3**: `<|open|>` `message role="user"` `<|sep|>` text `<|close|>` `message` `<|sep|>` `<|end_of_msg|>`, 11 a
//!   message, and 7 for `<|open|>message role="assistant"<|sep|>`, which begins the reply. K3 has no template file; this is
//!   its `encoding_k3.py` as described in lablup/mlxcel#1743 and as llama.cpp's `models/templates/Kimi-K3.jinja` renders
//!   it. The three tokens after it that open the thinking channel are not counted by Moonshot, nor is the note on thinking
//!   effort: one user message "hi" is 19 tokens on api.moonshot.ai (smg-project/smg#2564, 2026-09-17), which is 1 + 18.
//!   Exact for kimi-k3 without tools; for later models of the name it is taken over and marked approximate.

use std::borrow::Cow;

use crate::catalog::Bill;
use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::catalog::Template;
use crate::catalog::TokenCounts;
use crate::catalog::money::Usd;
use crate::llm::types::Role;
use crate::plan::model::Plan;
use crate::plan::model::Slice;
use crate::tokens;

pub use crate::plan::model::WorkEstimate;

/// The models that OpenAI's cookbook checked its figures with.
const COOKBOOK_MODELS: [&str; 5] = [
    "gpt-3.5-turbo",
    "gpt-4",
    "gpt-4-turbo",
    "gpt-4o",
    "gpt-4o-mini",
];

/// Tokens that a service adds around the texts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead {
    /// How many.
    pub tokens: u64,
    /// Whether someone checked the figure against the service for this very model.
    pub exact: bool,
}

/// Counts and prices for one model.
#[derive(Clone, Debug)]
pub struct CostEstimator<'c> {
    model: Cow<'c, Model>,
}

impl<'c> CostEstimator<'c> {
    /// An estimator for the model of that name. One that the catalog does not know is counted by its name's family and has
    /// no price.
    pub fn new(catalog: &'c Catalog, model: &str) -> CostEstimator<'c> {
        CostEstimator {
            model: catalog.resolve(model),
        }
    }

    /// An estimator for a row that the caller has already found.
    pub fn of(model: Cow<'c, Model>) -> CostEstimator<'c> {
        CostEstimator { model }
    }

    /// Gives the row back.
    pub fn into_model(self) -> Cow<'c, Model> {
        self.model
    }

    /// The row that is used: vocabulary, window, price and where they come from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokens of a text by the model's vocabulary, or by the nearest where [`Model::exact`] is false.
    pub fn count(&self, text: &str) -> u64 {
        tokens::count(text, self.model.vocabulary)
    }

    /// Tokens around the texts of a request with these messages, or nothing where the template is not known. See the
    /// module for the sources.
    pub fn overhead(&self, messages: &[Role]) -> Option<Overhead> {
        let per_message = |role: &Role| -> u64 {
            match (self.model.template, role) {
                // An earlier answer of K3 has its thinking and response channels opened and closed, 3 tokens each.
                (Template::KimiK3, Role::Assistant) => 23,
                (Template::KimiK3, _) => 11,
                _ => 4,
            }
        };
        let (reply, exact) = match self.model.template {
            Template::None => return None,
            Template::Kimi => (3, false),
            Template::KimiK3 => (7, self.model.id == "kimi-k3"),
            Template::OpenAiChat => (3, COOKBOOK_MODELS.contains(&&*self.model.id)),
        };
        let tokens = messages
            .iter()
            .map(per_message)
            .fold(reply, u64::saturating_add);
        Some(Overhead { tokens, exact })
    }

    /// The estimate for a prompt of `input` tokens, `cached` of which are expected from the cache, and an answer of
    /// `output` tokens. More cached tokens than there are count as all of them.
    pub fn estimate(&self, input: u64, cached: u64, output: u64) -> PricedEstimate<'_> {
        let cache_read = cached.min(input);
        let counts = TokenCounts {
            input_uncached: input - cache_read,
            cache_read,
            cache_write: 0,
            output,
        };
        PricedEstimate {
            model: &self.model,
            counts,
            bill: self.model.price.as_ref().map(|price| price.cost(&counts)),
        }
    }
}

/// Prompt tokens to one token of the answer when an agent works, by the rule of thumb of the estimator of sessions.
const INPUT_PER_OUTPUT: u64 = 3;

impl CostEstimator<'_> {
    /// What carrying out a plan may take and cost.
    ///
    /// Tokens are the model's guess for each slice where it made one, else [`crate::llm::types::Difficulty::typical_tokens`];
    /// where it guessed for no slice but for the plan as a whole, that. Three quarters are prompt. The price takes the
    /// ordinary rates, no cache: an agent's many requests are small ones, and how much of them is cached nobody knows.
    pub fn work(&self, plan: &Plan) -> WorkEstimate {
        let slices = &plan.parts().slices;
        let told = slices
            .iter()
            .filter(|slice| slice.estimated_tokens().is_some())
            .count();
        let (tokens, source) = match plan.parts().estimated_tokens {
            Some(tokens) if told == 0 => {
                (tokens, "the plan's own estimate of its tokens".to_string())
            }
            _ => {
                let sum = slices
                    .iter()
                    .map(Slice::expected_tokens)
                    .fold(0, u64::saturating_add);
                let by_difficulty = slices.len() - told;
                let source = match (told, by_difficulty) {
                    (_, 0) => "the plan's estimates of each slice".to_string(),
                    (0, _) => "typical tokens of each slice's difficulty".to_string(),
                    (told, _) => format!(
                        "the plan's estimates of {told} of {} slices, typical tokens of the others' difficulty",
                        slices.len()
                    ),
                };
                (sum, source)
            }
        };
        let output_tokens = tokens / (INPUT_PER_OUTPUT + 1);
        let input_tokens = tokens - output_tokens;
        let usd = self.model.price.as_ref().and_then(|price| {
            let rates = price.rates();
            rates
                .input
                .times(input_tokens)
                .checked_add(rates.output.times(output_tokens))
        });
        WorkEstimate {
            model: self.model.id.to_string(),
            input_tokens,
            output_tokens,
            usd,
            basis: format!(
                "{source}; {INPUT_PER_OUTPUT} tokens of prompt to 1 of answer, none of them cached, at the ordinary rates"
            ),
        }
    }
}

/// What a request would take and cost.
#[derive(Clone, Copy, Debug)]
pub struct PricedEstimate<'m> {
    /// The row that was used.
    pub model: &'m Model,
    /// The tokens.
    pub counts: TokenCounts,
    /// The bill, if the model has a price.
    pub bill: Option<Bill>,
}

impl PricedEstimate<'_> {
    /// The sum of the bill.
    pub fn usd(&self) -> Option<Usd> {
        self.bill.as_ref().map(Bill::total)
    }

    /// Whether prompt and answer fit the window together; nothing where the window is not known.
    pub fn fits(&self) -> Option<bool> {
        let total = self.counts.prompt() + u128::from(self.counts.output);
        Some(total <= u128::from(self.model.window?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Vocabulary;

    #[test]
    fn texts_are_counted_by_the_models_vocabulary() {
        let catalog = Catalog::builtin();
        for (model, vocabulary) in [
            ("gpt-4o", Vocabulary::O200k),
            ("gpt-4", Vocabulary::Cl100k),
            ("davinci", Vocabulary::R50k),
            ("kimi-k3", Vocabulary::Kimi),
            ("some-model", Vocabulary::O200k),
        ] {
            let estimator = CostEstimator::new(&catalog, model);
            let text = "Grüße, мир! 你好 <|im_end|>";
            assert_eq!(
                estimator.count(text),
                tokens::count(text, vocabulary),
                "{model}"
            );
            assert_eq!(estimator.count(""), 0);
        }
        assert_eq!(
            CostEstimator::new(&catalog, "gpt-4").count("hello world"),
            2
        );
    }

    #[test]
    fn an_estimate_is_priced_by_the_row_it_names() {
        let catalog = Catalog::builtin();
        let estimator = CostEstimator::new(&catalog, "Kimi-K3");
        let estimate = estimator.estimate(10_000, 8_000, 500);
        assert_eq!(estimate.model.id, "kimi-k3");
        assert_eq!(estimate.usd().unwrap().exact_decimal(), "0.0159");
        assert_eq!(estimate.fits(), Some(true));
        assert_eq!(estimator.estimate(1_048_000, 0, 577).fits(), Some(false));
        assert_eq!(estimator.estimate(5, 9, 0).counts.cache_read, 5);
    }

    #[test]
    fn no_price_is_no_dollars() {
        let catalog = Catalog::builtin();
        for model in [
            "k3",
            "kimi-for-coding",
            "kimi-k2.8-preview",
            "never-heard-of",
        ] {
            let estimator = CostEstimator::new(&catalog, model);
            assert_eq!(estimator.estimate(1_000, 0, 1_000).usd(), None, "{model}");
        }
        assert_eq!(
            CostEstimator::new(&catalog, "never-heard-of")
                .estimate(1, 0, 1)
                .fits(),
            None
        );
        let huge = CostEstimator::new(&catalog, "gpt-5.5");
        assert_eq!(huge.estimate(u64::MAX, 0, u64::MAX).fits(), Some(false));
    }

    #[test]
    fn work_is_priced_by_what_the_plan_says_of_it() {
        let catalog = Catalog::builtin();
        let work = |model: &str, slices: &str, rest: &str| {
            let answer =
                format!(r#"{{"kind":"repair","complexity_score":1,"slices":[{slices}]{rest}}}"#);
            let plan = crate::llm::parser::read_plan(&answer).unwrap();
            CostEstimator::new(&catalog, model).work(&plan)
        };
        let told = r#"{"description":"x","estimated_tokens":1000}"#;
        let unstated = r#"{"description":"y","estimated_difficulty":"easy"}"#;
        let estimate = work("kimi-k3", told, "");
        assert_eq!((estimate.input_tokens, estimate.output_tokens), (750, 250));
        assert_eq!(estimate.usd.unwrap().exact_decimal(), "0.006");
        assert!(
            estimate.basis.starts_with(
                "the plan's estimates of each slice; 3 tokens of prompt to 1 of answer"
            )
        );
        let estimate = work(
            "kimi-k3",
            &format!("{told},{unstated}"),
            r#","estimated_tokens":9"#,
        );
        assert_eq!(estimate.input_tokens + estimate.output_tokens, 31_000);
        assert!(
            estimate
                .basis
                .contains("of 1 of 2 slices, typical tokens of the others' difficulty;")
        );
        assert_eq!(
            work("kimi-k3", unstated, r#","estimated_tokens":9"#).input_tokens,
            7
        );
        assert!(
            work("kimi-k3", unstated, "")
                .basis
                .starts_with("typical tokens")
        );
        // No price, no dollars.
        assert_eq!(work("never-heard-of", told, "").usd, None);
    }

    #[test]
    fn overheads_of_one_user_message() {
        let catalog = Catalog::builtin();
        let overhead = |model: &str| {
            let overhead = CostEstimator::new(&catalog, model).overhead(&[Role::User]);
            overhead.map(|o| (o.tokens, o.exact))
        };
        assert_eq!(overhead("gpt-4o"), Some((7, true)));
        assert_eq!(overhead("gpt-5.2"), Some((7, false)));
        assert_eq!(overhead("kimi-k2.6"), Some((7, false)));
        assert_eq!(overhead("kimi-k3"), Some((18, true)));
        assert_eq!(overhead("kimi-k3.1-pro"), Some((18, false)));
        assert_eq!(overhead("claude-sonnet-5"), None);
        assert_eq!(overhead("davinci-002"), None);
    }

    #[test]
    fn overheads_of_a_conversation() {
        let catalog = Catalog::builtin();
        let roles = [Role::System, Role::User, Role::Assistant, Role::User];
        let tokens = |model: &str| {
            CostEstimator::new(&catalog, model)
                .overhead(&roles)
                .unwrap()
                .tokens
        };
        assert_eq!(tokens("gpt-4o"), 4 * 4 + 3);
        assert_eq!(tokens("kimi-k2.6"), 4 * 4 + 3);
        assert_eq!(tokens("kimi-k3"), 3 * 11 + 23 + 7);
    }

    /// The figures above count each word of the markup as one token; the vocabulary agrees.
    #[test]
    fn the_words_of_the_markup_are_one_token_each() {
        let catalog = Catalog::builtin();
        let kimi = CostEstimator::new(&catalog, "kimi-k3");
        for role in ["system", "user", "assistant"] {
            assert_eq!(kimi.count(role), 1, "{role}");
            assert_eq!(kimi.count(&format!("message role=\"{role}\"")), 5, "{role}");
        }
        for word in ["message", "think", "response"] {
            assert_eq!(kimi.count(word), 1, "{word}");
        }
    }
}
