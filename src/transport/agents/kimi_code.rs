//! Kimi Code 2, on Node, over the Agent Client Protocol: `kimi acp`. Measured with 2.1.0.
//!
//! Its protocol says "end of turn" for most failures, sends a broken try's text as if it were the answer, and reports no
//! usage. Its session log, `agents/*/wire.jsonl`, has all of it:
//!
//! - `usage.record` is the only line of usage that counts; its copies in other lines do not. All zeros mean that nothing was
//!   reported.
//! - `turn.ended` comes 1.5 to 70 ms after the protocol's answer and says how the turn ended; with `stopReason` the agent
//!   gave up (`repeat_breaker`: it repeated one tool call).
//! - The text is taken from `context.append_loop_event`: the text parts of the last step, all of which precede `turn.ended`.
//!   The lines of kind `event`, `agent.message.appended` and `agent.turn.ended`, are written by another queue: in turns of
//!   more than about 97 messages they still come after `turn.ended`, and their turn numbers may differ from it.
//! - It tries again 10 times within 145 s unless `KIMI_LOOP_MAX_ATTEMPTS_PER_STEP` says otherwise.
//! - Within a git work tree it writes files without asking.
//! - A background sub-agent's end begins a turn that nobody asked for and that the protocol does not mention.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::transport::agent::Failure;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Finish;
use crate::transport::agent::Retry;
use crate::transport::agent::Usage;
use crate::transport::agent::fit;
use crate::transport::agent::start_of;
use crate::transport::agents::Dialect;
use crate::transport::agents::Protocol;
use crate::transport::agents::Settings;
use crate::transport::agents::numbers;
use crate::transport::agents::torn_usage;
use crate::transport::fact::Fact;
use crate::transport::fact::TurnEnd;
use crate::transport::wire_message::Content;

/// The longest prompt that it keeps whole when it shortens a conversation, in tokens by its own estimate: of the last 20,000
/// that the user said it leaves 2,000 to the first. Read in the source of 2.1.0.
const LONGEST_KEPT_PROMPT: usize = 18_000;

/// Kimi Code.
pub static KIMI_CODE: Dialect = Dialect {
    name: "Kimi Code",
    protocol: Protocol::Acp,
    home_variable: "KIMI_CODE_HOME",
    home_directory: ".kimi-code",
    main_log: "agents/main/wire.jsonl",
    takes_directories: true,
    reads: "reads through omk, but searches in files without asking",
    // `KIMI_MODEL_NAME` adds a model, and leaves the others as they are.
    model_variable: None,
    plan_prefix: Some("kimi-code/"),
    version: |line| {
        let (major, _) = numbers(line)?;
        (major >= 2).then(|| Ok(line.to_string()))
    },
    arguments: |_| vec!["acp".to_string()],
    environment,
    index: Some(("session_index.jsonl", session_in_index)),
    fact,
    tools: &[
        ("Bash", "bash"),
        ("Read", "read"),
        ("Write", "write"),
        ("Edit", "edit"),
        ("Agent", "agent"),
        ("AgentSwarm", "agent"),
    ],
};

fn environment(settings: &Settings<'_>) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("KIMI_DISABLE_TELEMETRY", "1".to_string()),
        // No update in the middle of a script.
        ("KIMI_CODE_NO_AUTO_UPDATE", "1".to_string()),
    ];
    if let Some(attempts) = settings.attempts {
        variables.push(("KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", attempts.to_string()));
    }
    if let Some(steps) = settings.max_steps {
        variables.push(("KIMI_LOOP_MAX_STEPS_PER_TURN", steps.to_string()));
    }
    variables
}

/// Whether it leaves a prompt as it is when it shortens the conversation that the prompt ends. It estimates a token for four
/// ASCII characters, and one for any other.
pub fn keeps_whole(prompt: &str) -> bool {
    let ascii = prompt.bytes().filter(u8::is_ascii).count();
    let others = prompt.chars().count().saturating_sub(ascii);
    ascii.div_ceil(4).saturating_add(others) <= LONGEST_KEPT_PROMPT
}

/// A session's directory by `session_index.jsonl`. The last line about it counts, and may say that it is gone.
fn session_in_index(index: &[u8], session: &str) -> Option<PathBuf> {
    let lines = index.rsplit(|byte| *byte == b'\n');
    let mut entries = lines.filter_map(|line| serde_json::from_slice::<IndexEntry>(line).ok());
    let entry = entries.find(|entry| entry.session_id == session)?;
    entry.session_dir.filter(|_| !entry.deleted)
}

fn fact(line: &[u8]) -> Option<Fact> {
    // Most lines are of no interest and some are long: their type is read first, which copies nothing.
    let Ok(Kind { kind }) = serde_json::from_slice(line) else {
        return torn_usage(line, "usage.record");
    };
    match kind.as_str() {
        "turn.prompt" => {
            let line: TurnPrompt = serde_json::from_slice(line).ok()?;
            Some(Fact::Turn {
                turn: Some(line.turn_id),
                user: line.origin.kind == "user",
                prompt: line.prompt_id,
            })
        }
        "llm.request" => {
            let line: LlmRequest = serde_json::from_slice(line).ok()?;
            Some(Fact::Call {
                alias: Some(line.model_alias.unwrap_or_else(|| line.model.clone())),
                model: Some(line.model),
            })
        }
        "context.append_loop_event" => {
            let line: LoopEvent = serde_json::from_slice(line).ok()?;
            line.event.fact()
        }
        "usage.record" => {
            let line: UsageRecord = serde_json::from_slice(line).ok()?;
            let names = [
                "inputOther",
                "output",
                "inputCacheRead",
                "inputCacheCreation",
            ];
            let (usage, contradiction) = Usage::read(&line.usage, names);
            let alias = line.model.as_str().unwrap_or_default();
            Some(Fact::Used {
                usage: usage.filter(|usage| !usage.is_zero()),
                alias: (!alias.is_empty()).then(|| alias.to_string()),
                own: line.usage_scope == "session",
                context: None,
                contradiction,
            })
        }
        "token_counting.measured" => {
            let line: Measured = serde_json::from_slice(line).ok()?;
            Some(Fact::Context(line.tokens))
        }
        "context.apply_compaction" => {
            let line: Compaction = serde_json::from_slice(line).ok()?;
            Some(Fact::Compacted {
                elided: line.kept_head_user_message_count.is_some(),
            })
        }
        "turn.step.retrying" => {
            let line: StepRetrying = serde_json::from_slice(line).ok()?;
            Some(Fact::Retry(Retry {
                attempt: line.next_attempt,
                of: line.max_attempts,
                wait: Duration::try_from_secs_f64(line.delay_ms / 1000.0).unwrap_or_default(),
                status: line.status_code,
                reason: fit(&line.error_message),
            }))
        }
        "turn.ended" => {
            let line: TurnEnded = serde_json::from_slice(line).ok()?;
            Some(Fact::Ended {
                turn: Some(line.turn_id),
                end: line.end(),
            })
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnPrompt {
    turn_id: u64,
    origin: Origin,
    #[serde(default)]
    prompt_id: Option<String>,
}

#[derive(Deserialize)]
struct Origin {
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LlmRequest {
    model: String,
    #[serde(default)]
    model_alias: Option<String>,
}

#[derive(Deserialize)]
struct LoopEvent {
    event: Step,
}

/// What happens in a step of a turn.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    turn_id: Option<String>,
    #[serde(default)]
    part: Option<StepPart>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    raw_finish_reason: Option<String>,
    #[serde(default)]
    tool_call_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Option<Box<RawValue>>,
    #[serde(default)]
    result: Option<ToolResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult {
    #[serde(default)]
    output: Content,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct StepPart {
    #[serde(default)]
    text: Option<String>,
}

impl Step {
    fn fact(self) -> Option<Fact> {
        let turn = self.turn_id.and_then(|turn| turn.parse().ok());
        match self.kind.as_str() {
            "step.begin" => Some(Fact::Step { turn }),
            "content.part" => {
                let text = self.part.and_then(|part| part.text);
                Some(Fact::Part { text, turn })
            }
            "tool.call" => Some(Fact::Tool {
                turn,
                call: self.tool_call_id,
                name: self.name,
                arguments: self
                    .args
                    .map_or(String::new(), |args| args.get().to_string()),
            }),
            "tool.result" => {
                let result = self.result?;
                Some(Fact::ToolDone {
                    call: self.tool_call_id,
                    ok: !result.is_error,
                    output: start_of(&result.output.text()),
                })
            }
            "step.end" => {
                // A step that broke has no reason of the model's.
                // Kimi Code makes up an end of the turn where the service gave no reason: what the service said is the raw one.
                let is_raw = self.raw_finish_reason.is_some();
                let finish = match self.raw_finish_reason.or(self.finish_reason)?.as_str() {
                    "error" | "interrupted" => return None,
                    "end_turn" if !is_raw => Finish::Unknown,
                    "stop" | "end_turn" => Finish::Stop,
                    "length" | "max_tokens" => Finish::Length,
                    "content_filter" | "filtered" => Finish::Filtered,
                    "tool_calls" | "tool_use" => Finish::ToolCalls,
                    other => Finish::Other(fit(other)),
                };
                Some(Fact::StepEnd { turn, finish })
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Measured {
    tokens: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageRecord {
    #[serde(default)]
    model: Value,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    usage_scope: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compaction {
    /// Told only where something is left out between the first of what the user said and the last.
    #[serde(default)]
    kept_head_user_message_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StepRetrying {
    #[serde(default)]
    next_attempt: u32,
    #[serde(default)]
    max_attempts: u32,
    #[serde(default)]
    delay_ms: f64,
    #[serde(default)]
    error_message: String,
    #[serde(default)]
    status_code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnEnded {
    turn_id: u64,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    error: Option<TurnError>,
}

#[derive(Default, Deserialize)]
struct TurnError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Box<RawValue>>,
    #[serde(default)]
    cause: Option<Box<TurnError>>,
    #[serde(default)]
    retryable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    status_code: Option<u16>,
    #[serde(default)]
    cause: Option<TurnError>,
}

impl TurnEnded {
    fn end(self) -> TurnEnd {
        match self.reason.as_str() {
            "completed" => match self.stop_reason {
                None => TurnEnd::Completed,
                Some(reason) => TurnEnd::GaveUp(fit(&reason)),
            },
            "cancelled" => TurnEnd::Cancelled,
            // What is neither is a failure, with or without a reason: never a success by default.
            _ => {
                let error = self.error.unwrap_or_default();
                if error.code == "loop.max_steps_exceeded" {
                    return TurnEnd::MaxSteps;
                }
                TurnEnd::Failed(error.failure())
            }
        }
    }
}

impl TurnError {
    fn failure(self) -> Failure {
        let details = self.details.as_ref();
        let details = details.and_then(|raw| serde_json::from_str::<Details>(raw.get()).ok());
        let (status, inner) = details.map_or((None, None), |d| (d.status_code, d.cause));
        let overflow = |error: &TurnError| error.code == "context.overflow";
        let is_overflow = overflow(&self)
            || inner.as_ref().is_some_and(overflow)
            || self.cause.as_deref().is_some_and(overflow);
        let failure = match self.code.as_str() {
            _ if is_overflow => Failure {
                status,
                ..Failure::new(FailureKind::Overflow, self.code, &self.message)
            },
            "provider.filtered" => Failure {
                status,
                ..Failure::new(FailureKind::Filtered, self.code, &self.message)
            },
            "provider.connection_error" if status.is_none() => {
                Failure::new(FailureKind::Connection, self.code, &self.message)
            }
            code if code.starts_with("provider.") => {
                let mut failure = Failure::from_service(code, status, &self.message);
                if failure.kind == FailureKind::Connection {
                    // An error of the service without a status: an answer that held nothing.
                    failure.kind = FailureKind::Empty;
                }
                failure
            }
            _ => Failure::new(FailureKind::Agent, self.code, &self.message),
        };
        Failure {
            retryable: failure.retryable || self.retryable,
            ..failure
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    session_id: String,
    #[serde(default)]
    session_dir: Option<PathBuf>,
    #[serde(default)]
    deleted: bool,
}
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(error: &str) -> TurnEnd {
        let line = format!(
            r#"{{"type":"turn.ended","turnId":3,"reason":"failed","error":{error},"durationMs":1}}"#
        );
        match fact(line.as_bytes()) {
            Some(Fact::Ended { turn: Some(3), end }) => end,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_without_a_recording_are_read_as_described() {
        for (error, kind) in [
            (
                r#"{"code":"provider.rate_limit","message":"429 slow","details":{"statusCode":429},"retryable":true}"#,
                FailureKind::RateLimited,
            ),
            (
                r#"{"code":"provider.connection_error","message":"terminated","details":null}"#,
                FailureKind::Connection,
            ),
            (
                r#"{"code":"provider.api_error","message":"The API returned an empty response."}"#,
                FailureKind::Empty,
            ),
            (
                r#"{"code":"provider.auth_error","message":"401 Invalid Authentication"}"#,
                FailureKind::Authentication,
            ),
            (
                r#"{"code":"compaction.failed","message":"x","cause":{"code":"context.overflow"}}"#,
                FailureKind::Overflow,
            ),
            (
                r#"{"code":"compaction.failed","message":"x","details":{"cause":{"code":"context.overflow"}}}"#,
                FailureKind::Overflow,
            ),
            (r#"{"code":"session.broken"}"#, FailureKind::Agent),
            ("null", FailureKind::Agent),
        ] {
            let TurnEnd::Failed(failure) = end(error) else {
                panic!("{error}");
            };
            assert_eq!(failure.kind, kind, "{error}");
        }
        assert_eq!(
            end(r#"{"code":"loop.max_steps_exceeded"}"#),
            TurnEnd::MaxSteps
        );
    }

    #[test]
    fn a_turn_with_a_stop_reason_was_given_up() {
        let line = br#"{"type":"turn.ended","turnId":0,"reason":"completed","stopReason":"repeat_breaker"}"#;
        let Some(Fact::Ended { end, .. }) = fact(line) else {
            panic!("no end");
        };
        assert_eq!(end, TurnEnd::GaveUp("repeat_breaker".to_string()));
    }

    #[test]
    fn the_index_knows_where_a_session_is_until_it_is_gone() {
        let index = br#"{"sessionId":"a","sessionDir":"/s/1/a","workDir":"/w"}
{"sessionId":"b","sessionDir":"/s/1/b","workDir":"/w"}
{"sessionId":"a","sessionDir":"/s/2/a","workDir":"/v"}
{"sessionId":"b","deleted":true}
"#;
        assert_eq!(session_in_index(index, "a"), Some(PathBuf::from("/s/2/a")));
        assert_eq!(session_in_index(index, "b"), None);
        assert_eq!(session_in_index(index, "c"), None);
    }

    #[test]
    fn long_prompts_are_not_kept_whole() {
        assert!(keeps_whole(&"abcd".repeat(18_000)) && !keeps_whole(&"字".repeat(18_001)));
    }

    proptest! {
        #[test]
        fn any_line_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (fact(&bytes), session_in_index(&bytes, "x"));
        }
    }
}
