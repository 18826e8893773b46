//! Tokens of model calls, by how they are billed: the one form of a usage figure, from the protocol to the ledger.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::runtime::text;
use crate::runtime::words::words;

words! {
    /// Who counted the tokens of a [`Usage`], the most reliable first.
    UsageSource, "source" {
        /// The service or agent, on the protocol.
        Provider = "provider",
        /// The agent, in its own session log.
        SessionLog = "session-log",
        /// omk did, so it may differ from the bill.
        Estimate = "estimate",
    }
}

/// Tokens that a bill is made of, all known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Prompt tokens that the service read without its cache.
    pub input_uncached: u64,
    /// Prompt tokens that came out of its cache.
    pub cache_read: u64,
    /// Prompt tokens that it wrote to its cache for five minutes, where that is billed apart.
    pub cache_write: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
}

impl TokenCounts {
    /// Tokens of the whole prompt, which decide the price tier.
    pub fn prompt(&self) -> u128 {
        u128::from(self.input_uncached) + u128::from(self.cache_read) + u128::from(self.cache_write)
    }
}

/// Tokens of one or more calls, as far as they were reported. A figure that no call reported is `None`, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens read without the cache: those from the cache and those written to it are not in here.
    pub input: Option<u64>,
    /// Prompt tokens out of the cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to the cache.
    pub cache_write: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Those of them that were reasoning.
    pub reasoning: Option<u64>,
    /// Who counted.
    pub source: UsageSource,
    /// Calls that were made, or may have been, and did not report prompt and answer both: the figures lack theirs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreported: u32,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Usage {
    /// One call that reported nothing.
    pub const fn unknown(source: UsageSource) -> Usage {
        Usage {
            input: None,
            cache_read: None,
            cache_write: None,
            output: None,
            reasoning: None,
            source,
            unreported: 1,
        }
    }

    /// One call that reported everything a bill needs.
    pub const fn exact(counts: TokenCounts, source: UsageSource) -> Usage {
        Usage {
            input: Some(counts.input_uncached),
            cache_read: Some(counts.cache_read),
            cache_write: Some(counts.cache_write),
            output: Some(counts.output),
            reasoning: None,
            source,
            unreported: 0,
        }
    }

    /// One call, from figures in OpenAI's way, where the prompt's tokens include the cached ones.
    ///
    /// A cached count above the prompt's is a peer's mistake; the uncached part is then 0, not negative.
    pub fn from_prompt_total(
        prompt: Option<u64>,
        cache_read: Option<u64>,
        cache_write: Option<u64>,
        output: Option<u64>,
        source: UsageSource,
    ) -> Usage {
        let cached = cache_read
            .unwrap_or(0)
            .saturating_add(cache_write.unwrap_or(0));
        Usage {
            input: prompt.map(|prompt| prompt.saturating_sub(cached)),
            cache_read,
            cache_write,
            output,
            reasoning: None,
            source,
            unreported: u32::from(prompt.is_none() || output.is_none()),
        }
    }

    /// Whether every call reported what a bill needs.
    pub const fn is_complete(&self) -> bool {
        self.unreported == 0 && self.input.is_some() && self.output.is_some()
    }

    /// What a bill needs of the calls that reported, if any did. A cache count that was not reported means that its tokens,
    /// if any, are among `input` and billed in full.
    pub fn counts(&self) -> Option<TokenCounts> {
        Some(TokenCounts {
            input_uncached: self.input?,
            cache_read: self.cache_read.unwrap_or(0),
            cache_write: self.cache_write.unwrap_or(0),
            output: self.output?,
        })
    }

    /// Every token known of. Reasoning is within the output.
    pub fn total(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write, self.output]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add)
    }

    /// The usage of other calls as well. What one side reported stays known; [`Usage::unreported`] says what is missing.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Usage {
            input: sum(self.input, other.input),
            cache_read: sum(self.cache_read, other.cache_read),
            cache_write: sum(self.cache_write, other.cache_write),
            output: sum(self.output, other.output),
            reasoning: sum(self.reasoning, other.reasoning),
            // The less reliable of the two.
            source: self.source.max(other.source),
            unreported: self.unreported.saturating_add(other.unreported),
        }
    }
}

/// The largest figure that is taken for a count of tokens: beyond it JSON numbers are not exact, and no call comes near it.
const MAX_FIGURE: u64 = 1 << 53;
/// Bytes of a peer's usage that are kept for a report.
const MAX_RAW_BYTES: usize = 4096;

/// Usage figures of a peer that contradict each other, or that are no counts of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// What is wrong, as a sentence for people.
    pub detail: String,
    /// The usage as the peer wrote it; a string where it is not JSON, or too long to be kept whole.
    pub raw: Value,
}

impl Contradiction {
    /// That of these figures, for all of these reasons.
    pub(crate) fn new(reasons: &[String], raw: &Value) -> Contradiction {
        let whole = raw.to_string();
        let raw = match whole.len() > MAX_RAW_BYTES {
            true => Value::String(text::truncate(&whole, MAX_RAW_BYTES).into_owned()),
            false => raw.clone(),
        };
        Contradiction {
            detail: format!(
                "the reported usage is wrong: {}; omk counts the greater reading",
                reasons.join("; ")
            ),
            raw,
        }
    }
}

/// Reads figures one by one and keeps the reasons why some cannot be used.
pub(crate) struct Figures<'a> {
    of: &'a Map<String, Value>,
    pub(crate) reasons: Vec<String>,
}

impl<'a> Figures<'a> {
    /// The figures of an object; `Err` with the reason for anything else.
    pub(crate) fn of(raw: &'a Value) -> Result<Figures<'a>, String> {
        match raw {
            Value::Object(of) => Ok(Figures {
                of,
                reasons: Vec::new(),
            }),
            other => Err(format!("an object is expected, not {}", kind(other))),
        }
    }

    /// A count of tokens by its name; `None` where it is absent, null or no count.
    pub(crate) fn count(&mut self, name: &str) -> Option<u64> {
        let value = self.of.get(name)?;
        self.check(name, value)
    }

    /// A count within an object of details.
    pub(crate) fn detail(&mut self, object: &str, name: &str) -> Option<u64> {
        match self.of.get(object)? {
            Value::Null => None,
            Value::Object(details) => self.check(name, details.get(name)?),
            other => {
                let reason = format!("{object} is {}, not an object", kind(other));
                if !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
                None
            }
        }
    }

    fn check(&mut self, name: &str, value: &Value) -> Option<u64> {
        if value.is_null() {
            return None;
        }
        let count = value.as_u64().filter(|count| *count <= MAX_FIGURE);
        if count.is_none() {
            let shown = value.to_string();
            let shown = text::truncate(&shown, 60);
            self.reasons
                .push(format!("{name} is {shown}, not a number of tokens"));
        }
        count
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_kept_apart_from_zero() {
        let openai =
            Usage::from_prompt_total(Some(19), Some(10), None, Some(21), UsageSource::Provider);
        assert_eq!(
            (openai.input, openai.cache_read, openai.cache_write),
            (Some(9), Some(10), None)
        );
        assert_eq!((openai.total(), openai.is_complete()), (40, true));
        let counts = TokenCounts {
            input_uncached: 9,
            cache_read: 10,
            cache_write: 0,
            output: 21,
        };
        assert_eq!(openai.counts(), Some(counts));
        assert_eq!(counts.prompt(), 19);
        let unknown = Usage::unknown(UsageSource::Provider);
        assert_eq!((unknown.counts(), unknown.is_complete()), (None, false));
        let odd = Usage::from_prompt_total(Some(5), Some(9), None, Some(0), UsageSource::Provider);
        assert_eq!(odd.input, Some(0));
    }

    #[test]
    fn a_call_without_a_report_hides_none_of_the_others() {
        let known = Usage::from_prompt_total(Some(9), None, None, Some(1), UsageSource::Provider);
        let sum = known.plus(&Usage::unknown(UsageSource::SessionLog));
        assert_eq!(
            (sum.input, sum.output, sum.unreported),
            (Some(9), Some(1), 1)
        );
        assert!(!sum.is_complete());
        assert_eq!(sum.source, UsageSource::SessionLog);
        let half = Usage::from_prompt_total(Some(9), None, None, None, UsageSource::Provider);
        assert_eq!((half.unreported, half.counts()), (1, None));
    }

    #[test]
    fn the_ledger_omits_what_is_zero() {
        let exact = Usage::exact(TokenCounts::default(), UsageSource::Estimate);
        let json = serde_json::to_string(&exact).unwrap();
        assert!(!json.contains("unreported"), "{json}");
        assert_eq!(serde_json::from_str::<Usage>(&json).unwrap(), exact);
    }
}
