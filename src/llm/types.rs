//! What is asked of a model and what it answers, as types that cannot hold nonsense.
//!
//! Ranges are checked where a value is made, so nothing later has to ask again: a score is 1 to 10, a confidence 0 to 1, a
//! dependency names a slice that exists. Refuses serde: the shapes a model writes are the parser's business, and a
//! change in them must not leak in here. Unknown is `None`, never 0.

pub use crate::plan::model::Complexity;
pub use crate::plan::model::Difficulty;
pub use crate::plan::model::GoalClassification;
pub use crate::plan::model::GoalKind;
pub use crate::plan::model::InvalidValue;
pub use crate::plan::model::MAX_HOURS;
pub use crate::plan::model::MAX_TOKENS;
pub use crate::plan::model::Plan;
pub use crate::plan::model::PlanParts;
pub use crate::plan::model::Slice;
pub use crate::plan::repo::context::Language;
pub use crate::plan::repo::context::Listed;
pub use crate::plan::repo::context::RepoContext;
pub use crate::plan::repo::context::Stopped;

pub use crate::tokens::usage::Usage;
pub use crate::tokens::usage::Usage as LlmUsage;
pub use crate::tokens::usage::UsageSource;

use crate::llm::retry::Retry;
use crate::runtime::words::words;

words! {
    /// What an agent wanted and was denied.
    DenialKind, "kind" {
        /// To use a tool.
        Tool = "tool",
        /// An answer from the user.
        Question = "question",
        /// To carry out a plan.
        Plan = "plan",
    }
}

/// Something that an agent wanted and was not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What kind of thing.
    pub kind: DenialKind,
    /// The tool; empty for the other kinds.
    pub tool: String,
    /// What it was about, in the agent's words.
    pub detail: String,
    /// The narrowest rule that allows it; `None` when no rule with a pattern does.
    pub rule: Option<String>,
}

words! {
    /// Who speaks in a message.
    Role, "role" {
        /// The instructions.
        System = "system",
        /// The question.
        User = "user",
        /// An earlier answer.
        Assistant = "assistant",
    }
}

/// Tokens allowed and tokens used. Counts past its cap: what was spent was spent, and a report must say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBudget {
    max: u64,
    used: u64,
}

impl TokenBudget {
    /// A budget of that many tokens, none used.
    pub const fn new(max_tokens: u64) -> TokenBudget {
        TokenBudget {
            max: max_tokens,
            used: 0,
        }
    }

    /// A budget that nothing exhausts.
    pub const fn unlimited() -> TokenBudget {
        TokenBudget::new(u64::MAX)
    }

    /// Tokens allowed.
    pub const fn max_tokens(&self) -> u64 {
        self.max
    }

    /// Tokens used, perhaps more than allowed.
    pub const fn used_tokens(&self) -> u64 {
        self.used
    }

    /// Tokens left.
    pub const fn remaining(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }

    /// Whether that many more stay within it.
    pub const fn can_afford(&self, tokens: u64) -> bool {
        tokens <= self.remaining()
    }

    /// Whether nothing is left.
    pub const fn is_exhausted(&self) -> bool {
        self.remaining() == 0
    }

    /// Counts tokens that were used.
    pub const fn record_usage(&mut self, tokens: u64) {
        self.used = self.used.saturating_add(tokens);
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// The length limit cut it.
    Length,
    /// Anything else, in the peer's word.
    Other(String),
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmResponse {
    /// The answer itself, without reasoning.
    pub text: String,
    /// The model that the peer says answered; it may not be the one asked for.
    pub model: Option<String>,
    /// The peer's name for the conversation.
    pub session_id: Option<String>,
    /// Why it ended; `None` when the peer did not say.
    pub finish_reason: Option<FinishReason>,
    /// Tokens of the attempt that brought the answer. What the failed ones may have cost, [`LlmResponse::retries`] tells.
    pub usage: Usage,
    /// The peer's name for the request, which its support asks for.
    pub request_id: Option<String>,
    /// The attempts that failed before, in order.
    pub retries: Vec<Retry>,
    /// What the agent wanted and was not given, in order. A plain service wants nothing.
    pub denials: Vec<Denial>,
    /// What the caller should know about the answer, such as a figure that was not told. For people; nothing depends on it.
    pub warnings: Vec<String>,
}

impl LlmResponse {
    /// A whole answer of which only the text is known.
    pub fn of(text: impl Into<String>) -> LlmResponse {
        LlmResponse {
            text: text.into(),
            model: None,
            session_id: None,
            finish_reason: Some(FinishReason::Stop),
            usage: Usage::unknown(UsageSource::Provider),
            request_id: None,
            retries: Vec::new(),
            denials: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Whether the whole answer is there: it ended of itself.
    pub fn is_complete(&self) -> bool {
        self.finish_reason == Some(FinishReason::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_contracts_and_read_back() {
        let names = |all: &[GoalKind]| all.iter().map(|k| k.name()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names(GoalKind::ALL),
            "greenfield rewrite repair audit migration vague"
        );
        for kind in GoalKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        let difficulties: Vec<_> = Difficulty::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(
            difficulties,
            ["trivial", "easy", "medium", "hard", "complex"]
        );
        assert!(Difficulty::Trivial < Difficulty::Complex);
        assert_eq!("session-log".parse(), Ok(UsageSource::SessionLog));
        assert_eq!(
            "Hard".parse::<Difficulty>().unwrap_err().to_string(),
            "difficulty: expected one of trivial easy medium hard complex"
        );
    }

    #[test]
    fn a_budget_counts_past_its_cap() {
        let mut budget = TokenBudget::new(100);
        assert!(budget.can_afford(100) && !budget.can_afford(101));
        budget.record_usage(60);
        assert_eq!((budget.remaining(), budget.is_exhausted()), (40, false));
        budget.record_usage(60);
        assert_eq!((budget.used_tokens(), budget.remaining()), (120, 0));
        assert!(budget.is_exhausted() && budget.can_afford(0));
        let mut endless = TokenBudget::unlimited();
        endless.record_usage(u64::MAX - 1);
        assert!(endless.can_afford(1));
    }

    #[test]
    fn a_cut_answer_is_not_complete() {
        let mut response = LlmResponse::of("");
        assert!(response.is_complete());
        for reason in [
            None,
            Some(FinishReason::Length),
            Some(FinishReason::Other("tool_calls".to_string())),
        ] {
            response.finish_reason = reason;
            assert!(!response.is_complete());
        }
    }
}
