//! kimi-cli, in Python, over Kimi Wire 1.10: `kimi --wire`. Measured with 1.51.0, the last version that speaks it.
//!
//! Its protocol is honest about failures and usage. What it does not say stands in the session's files, `wire.jsonl`,
//! `subagents/*/wire.jsonl` and `context.jsonl`:
//!
//! - After a stream that broke it tries once more without a word and sends both tries' text. The context has the second.
//! - A new session's first prompt that is too long for the window is dropped, and the model asked without it.
//! - A background sub-agent's calls are only in the sub-agent's own log. A foreground one's are on the wire, in the main log
//!   and in its own.
//! - A call that shortens the history reports no usage anywhere.
//! - A turn that is stuck in a repeated tool call is `finished` like any other; its last step asks for a tool.
//! - From 1.52 on the program is a stub that prints a notice.

use serde::Deserialize;

use crate::transport::agent::start_of;
use crate::transport::agents::Dialect;
use crate::transport::agents::Protocol;
use crate::transport::agents::Refusal;
use crate::transport::agents::Settings;
use crate::transport::agents::numbers;
use crate::transport::fact::Fact;
use crate::transport::fact::TurnEnd;
use crate::transport::wire_message::Content;
use crate::transport::wire_message::ToolCall;
use crate::transport::wire_message::ToolResult;
use crate::transport::wire_message::Typed;

/// The first version that only prints a notice.
const FIRST_STUB: (u32, u32) = (1, 52);

/// kimi-cli, as a value that others are made of.
pub(super) const DIALECT: Dialect = Dialect {
    name: "kimi-cli",
    protocol: Protocol::Wire,
    home_variable: "KIMI_SHARE_DIR",
    home_directory: ".kimi",
    main_log: "wire.jsonl",
    takes_directories: true,
    reads: "reads files without asking",
    model_variable: Some("KIMI_MODEL_NAME"),
    plan_prefix: None,
    version,
    arguments,
    environment: |_| vec![("KIMI_DISABLE_TELEMETRY", "1".to_string())],
    index: None,
    fact,
    tools: &[
        ("Shell", "bash"),
        ("ReadFile", "read"),
        ("WriteFile", "write"),
        ("StrReplaceFile", "edit"),
        ("Agent", "agent"),
        ("Task", "agent"),
    ],
};

/// kimi-cli.
pub static KIMI_CLI: Dialect = DIALECT;

fn version(line: &str) -> Option<Result<String, Refusal>> {
    let version = line.strip_prefix("kimi, version ")?.to_string();
    Some(match numbers(&version)? {
        known if known < FIRST_STUB => Ok(version),
        _ => Err(Refusal::Stub { version }),
    })
}

fn arguments(settings: &Settings<'_>) -> Vec<String> {
    let mut arguments = vec!["--wire".to_string()];
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_string(), value]);
    if let Some(session) = settings.session {
        add("--session", session.to_string());
    }
    if let Some(attempts) = settings.attempts {
        add("--max-retries-per-step", attempts.to_string());
    }
    if let Some(steps) = settings.max_steps {
        add("--max-steps-per-turn", steps.to_string());
    }
    if let Some(model) = settings.model {
        add("--model", model.to_string());
    }
    for directory in settings.directories {
        add("--add-dir", directory.clone());
    }
    match settings.thinking {
        Some(true) => arguments.push("--thinking".to_string()),
        Some(false) => arguments.push("--no-thinking".to_string()),
        None => {}
    }
    arguments
}

fn fact(line: &[u8]) -> Option<Fact> {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        message: Typed<'a>,
    }
    match serde_json::from_slice::<Entry<'_>>(line) {
        Ok(entry) => fact_of(&entry.message),
        Err(_) => super::torn_usage(line, "token_usage"),
    }
}

/// What an event says, in a log or on the wire.
pub(in crate::transport) fn fact_of(event: &Typed<'_>) -> Option<Fact> {
    Some(match event.kind() {
        "TurnBegin" => Fact::Turn {
            turn: None,
            user: true,
            prompt: None,
        },
        "StepBegin" => Fact::Call {
            alias: None,
            model: None,
        },
        "ContentPart" => Fact::Part {
            text: None,
            turn: None,
        },
        "ToolCall" => {
            let call = event.payload::<ToolCall>()?;
            Fact::Tool {
                turn: None,
                call: call.id,
                name: call.function.name,
                arguments: call.function.arguments.unwrap_or_default(),
            }
        }
        "ToolResult" => {
            let result = event.payload::<ToolResult>()?;
            Fact::ToolDone {
                call: result.tool_call_id,
                ok: !result.return_value.is_error,
                output: start_of(&result.return_value.text()),
            }
        }
        "StepRetry" => Fact::Retry(event.retry()?),
        "StatusUpdate" => {
            let status = event.status()?;
            let (usage, contradiction) = status.usage();
            if usage.is_none() && contradiction.is_none() && status.message_id.is_null() {
                return None;
            }
            Fact::Used {
                usage,
                alias: None,
                own: false,
                context: status.context(),
                contradiction,
            }
        }
        "CompactionBegin" => Fact::Unreported,
        "TurnEnd" => Fact::Ended {
            turn: None,
            // A refused key and a cancelled stream both end so, and the log has nothing else about it.
            end: TurnEnd::Unknown,
        },
        "SubagentEvent" => {
            let (agent, event) = event.of_sub_agent()?;
            Fact::OfSubAgent {
                agent,
                fact: Box::new(fact_of(&event)?),
            }
        }
        _ => return None,
    })
}

/// The exact text of the last answer in a session's `context.jsonl`, where the first try of a broken stream left no trace.
/// `None` when the user said something after it.
pub(in crate::transport) fn last_answer(context: &[u8]) -> Option<String> {
    let mut lines = context.rsplit(|byte| *byte == b'\n');
    let message = lines.find_map(|line| {
        let message: ChatMessage = serde_json::from_slice(line).ok()?;
        matches!(message.role.as_str(), "assistant" | "user").then_some(message)
    })?;
    (message.role == "assistant").then(|| message.content.text())
}

/// Whether anything that the user said is left in a session's `context.jsonl`.
pub(in crate::transport) fn has_prompt(context: &[u8]) -> bool {
    let mut lines = context.split(|byte| *byte == b'\n');
    lines.any(|line| serde_json::from_slice::<Role>(line).is_ok_and(|line| line.role == "user"))
}

#[derive(Deserialize)]
struct Role {
    role: String,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Content,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::agent::Usage;

    const USAGE: Usage = Usage {
        input: 40,
        cache_read: 0,
        cache_write: 0,
        output: 4,
    };

    #[test]
    fn the_log_is_read_like_the_protocol() {
        let used = |usage, context| {
            Some(Fact::Used {
                usage,
                alias: None,
                own: false,
                context,
                contradiction: None,
            })
        };
        let status = r#"{"type":"StatusUpdate","payload":{"token_usage":{"input_other":40,"output":4},"context_tokens":44,"message_id":"c"}}"#;
        let nested = format!(
            r#"{{"type":"SubagentEvent","payload":{{"agent_id":"ae3","event":{status}}}}}"#
        );
        let of_sub_agent = Some(Fact::OfSubAgent {
            agent: "ae3".to_string(),
            fact: Box::new(used(Some(USAGE), Some(44)).unwrap()),
        });
        for (message, fact) in [
            (status, used(Some(USAGE), Some(44))),
            (nested.as_str(), of_sub_agent),
            (
                r#"{"type":"StatusUpdate","payload":{"message_id":"c"}}"#,
                used(None, None),
            ),
            (r#"{"type":"StatusUpdate","payload":{}}"#, None),
            (
                r#"{"type":"CompactionBegin","payload":{}}"#,
                Some(Fact::Unreported),
            ),
            (r#"{"type":"PlanDisplay","payload":{}}"#, None),
        ] {
            let line = format!(r#"{{"timestamp":1.5,"message":{message}}}"#);
            assert_eq!(KIMI_CLI.fact(line.as_bytes()), fact, "{line}");
        }
        let metadata = br#"{"type":"metadata","protocol_version":"1.10"}"#;
        assert_eq!(KIMI_CLI.fact(metadata), None);
    }

    #[test]
    fn the_answer_is_the_last_message() {
        let parts = r#"{"role":"user","content":"hi"}
{"role":"assistant","content":[{"type":"think","think":"hm"},{"type":"text","text":"who"},{"type":"text","text":"le"}]}
{"role":"_usage","token_count":12}
{"role":"_checkpoint","id":1}
"#;
        assert_eq!(last_answer(parts.as_bytes()).as_deref(), Some("whole"));
        let plain = br#"{"role":"assistant","content":"text"}"#;
        assert_eq!(last_answer(plain).as_deref(), Some("text"));
        let cancelled =
            b"{\"role\":\"assistant\",\"content\":\"old\"}\n{\"role\":\"user\",\"content\":\"x\"}";
        assert_eq!(last_answer(cancelled), None);
        assert_eq!(last_answer(b""), None);
    }

    #[test]
    fn a_dropped_prompt_is_noticed() {
        let kept = b"{\"role\":\"_system_prompt\",\"content\":\"You\"}\n{\"role\":\"user\",\"content\":\"x\"}\n";
        assert!(has_prompt(kept));
        let dropped = b"{\"role\":\"_system_prompt\",\"content\":\"a user\"}\n{\"role\":\"_checkpoint\",\"id\":0}\n";
        assert!(!has_prompt(dropped));
    }

    proptest! {
        #[test]
        fn any_line_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (KIMI_CLI.fact(&bytes), last_answer(&bytes), has_prompt(&bytes));
        }
    }
}
