//! A model's answer as a plan, a classification, criteria or a complexity, or an error that keeps the answer.
//!
//! The reading is [`crate::plan::read`]'s; here its findings become an [`LlmError`].

use crate::llm::error::LlmError;
use crate::llm::types::Complexity;
use crate::llm::types::GoalClassification;
use crate::llm::types::Plan;
use crate::plan::finding::Findings;

pub use crate::plan::read::read_classification;
pub use crate::plan::read::read_complexity;
pub use crate::plan::read::read_criteria;
pub use crate::plan::read::read_plan;

/// Reads a plan.
///
/// # Errors
///
/// [`LlmError::Parse`] with every finding and the text as it was.
pub fn parse_plan_json(text: &str) -> Result<Plan, LlmError> {
    read_plan(text).map_err(|findings| refused(&findings, text))
}

/// Reads a classification.
///
/// # Errors
///
/// As [`parse_plan_json`].
pub fn parse_classification_json(text: &str) -> Result<GoalClassification, LlmError> {
    read_classification(text).map_err(|findings| refused(&findings, text))
}

/// Reads acceptance criteria: an array of texts, or an object with such an array under `criteria`. At least one.
///
/// # Errors
///
/// As [`parse_plan_json`].
pub fn parse_criteria_json(text: &str) -> Result<Vec<String>, LlmError> {
    read_criteria(text).map_err(|findings| refused(&findings, text))
}

/// Reads a complexity.
///
/// # Errors
///
/// As [`parse_plan_json`].
pub fn parse_complexity_json(text: &str) -> Result<Complexity, LlmError> {
    read_complexity(text).map_err(|findings| refused(&findings, text))
}

/// The error for an answer with findings; the answer is kept whole.
pub(crate) fn refused(findings: &Findings, raw: &str) -> LlmError {
    LlmError::Parse {
        detail: findings.to_string(),
        raw: raw.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_answer_whole() {
        let raw = "  {\"kind\": \"odd\"} and more\n";
        for error in [
            parse_plan_json(raw).unwrap_err(),
            parse_classification_json(raw).unwrap_err(),
            parse_criteria_json(raw).unwrap_err(),
            parse_complexity_json(raw).unwrap_err(),
        ] {
            let LlmError::Parse { detail, raw: kept } = &error else {
                panic!("{error}");
            };
            assert!(kept == raw && detail.starts_with("OMK-P0"), "{detail}");
        }
        assert_eq!(
            parse_complexity_json("{\"score\": 11}")
                .unwrap_err()
                .to_string(),
            "invalid answer: OMK-P006: $.score: expected a whole number from 1 to 10, found the number 11"
        );
        assert!(parse_criteria_json("[\"a\"]").is_ok());
    }
}
