//! What the messages of Kimi Wire hold, as far as omk reads it.
//!
//! Members that are not named here are skipped: a newer agent must not break an older client.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::tokens::usage::Contradiction;
use crate::transport::agent::Permission;
use crate::transport::agent::Retry;
use crate::transport::agent::Usage;

impl<'a> Typed<'a> {
    /// What it is.
    pub(crate) fn kind(&self) -> &str {
        self.kind.as_ref()
    }

    /// The figures of a `StatusUpdate`.
    pub(crate) fn status(&self) -> Option<StatusUpdate> {
        self.payload()
    }

    /// What a `StepRetry` says.
    pub(crate) fn retry(&self) -> Option<Retry> {
        let retry = self.payload::<StepRetry>()?;
        Some(Retry {
            attempt: retry.next_attempt,
            of: retry.max_attempts,
            wait: Duration::try_from_secs_f64(retry.wait_s).unwrap_or_default(),
            status: retry.status_code,
            reason: retry.error_type,
        })
    }

    /// The sub-agent of a `SubagentEvent`, by the name of its directory or else of the call that began it, and what it did.
    /// A sub-agent's own sub-agents count as it.
    pub(crate) fn of_sub_agent(&self) -> Option<(String, Typed<'a>)> {
        let outer = serde_json::from_str::<SubagentEvent<'a>>(self.payload?.get()).ok()?;
        let agent = outer.agent_id.or(outer.task_tool_call_id);
        let mut inner = outer.event;
        while inner.kind == "SubagentEvent" {
            inner = serde_json::from_str::<SubagentEvent<'a>>(inner.payload?.get())
                .ok()?
                .event;
        }
        Some((agent.unwrap_or_default(), inner))
    }

    pub(crate) fn payload<'b, T: Deserialize<'b>>(&'b self) -> Option<T> {
        serde_json::from_str(self.payload?.get()).ok()
    }
}

/// The envelope of events and requests, on the wire and in the session's file.
#[derive(Deserialize)]
pub(crate) struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct SubagentEvent<'a> {
    #[serde(default)]
    pub(crate) agent_id: Option<String>,
    /// What kimi-agent gives instead.
    #[serde(default)]
    pub(crate) task_tool_call_id: Option<String>,
    #[serde(borrow)]
    pub(crate) event: Typed<'a>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Hello {
    #[serde(default)]
    pub(crate) protocol_version: Option<String>,
    #[serde(default)]
    pub(crate) server: Server,
}

#[derive(Default, Deserialize)]
pub(crate) struct Server {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

#[derive(Default, Deserialize)]
pub(crate) struct PromptResult {
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) steps: Option<u32>,
}

#[derive(Deserialize)]
pub(crate) struct StepBegin {
    pub(crate) n: u32,
}

#[derive(Deserialize)]
pub(crate) struct ContentPart {
    pub(crate) text: Option<String>,
    pub(crate) think: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct StepRetry {
    #[serde(default)]
    pub(crate) next_attempt: u32,
    #[serde(default)]
    pub(crate) max_attempts: u32,
    #[serde(default)]
    pub(crate) wait_s: f64,
    #[serde(default)]
    pub(crate) error_type: String,
    #[serde(default)]
    pub(crate) status_code: Option<u16>,
}

#[derive(Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) function: Function,
}

#[derive(Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) arguments: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ToolCallPart {
    pub(crate) arguments_part: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ToolResult {
    pub(crate) tool_call_id: String,
    pub(crate) return_value: ReturnValue,
}

#[derive(Deserialize)]
pub(crate) struct ReturnValue {
    #[serde(default)]
    pub(crate) is_error: bool,
    #[serde(default)]
    output: Content,
    #[serde(default)]
    message: Option<String>,
}

impl ReturnValue {
    /// What the tool put out, or what the agent says about it where that is nothing.
    pub(crate) fn text(self) -> String {
        let output = self.output.text();
        match output.is_empty() {
            true => self.message.unwrap_or_default(),
            false => output,
        }
    }
}

/// The figures of a call, on the wire and in the session's file.
#[derive(Deserialize)]
pub(crate) struct StatusUpdate {
    #[serde(default)]
    token_usage: Value,
    #[serde(default)]
    context_tokens: Value,
    #[serde(default)]
    pub(crate) message_id: Value,
}

impl StatusUpdate {
    /// The usage of the call, and why it cannot be used where it cannot.
    pub(crate) fn usage(&self) -> (Option<Usage>, Option<Contradiction>) {
        let names = [
            "input_other",
            "output",
            "input_cache_read",
            "input_cache_creation",
        ];
        Usage::read(&self.token_usage, names)
    }

    /// Tokens in the model's window.
    pub(crate) fn context(&self) -> Option<u64> {
        self.context_tokens.as_u64()
    }
}

#[derive(Deserialize)]
pub(crate) struct ApprovalRequest {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) tool_call_id: String,
    #[serde(default)]
    pub(crate) sender: String,
    #[serde(default)]
    pub(crate) action: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) agent_id: Option<String>,
    #[serde(default)]
    pub(crate) display: Vec<Display>,
}

/// What is shown to someone who decides: a command or a change to a file.
#[derive(Deserialize)]
pub(crate) struct Display {
    pub(crate) command: Option<String>,
    pub(crate) path: Option<String>,
}

impl ApprovalRequest {
    /// `arguments` are those of the call that it is about.
    pub(crate) fn into_permission(self, arguments: Option<&str>) -> Permission {
        Permission {
            command: self.display.iter().find_map(|shown| shown.command.clone()),
            paths: self
                .display
                .into_iter()
                .filter_map(|shown| shown.path)
                .collect(),
            arguments: arguments.map(str::to_string),
            call: self.tool_call_id,
            tool: self.sender,
            action: if self.description.is_empty() {
                self.action
            } else {
                self.description
            },
            agent: self.agent_id,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct ApprovalResponse {
    pub(crate) feedback: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct QuestionRequest {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) questions: Vec<QuestionItem>,
}

#[derive(Deserialize)]
pub(crate) struct QuestionItem {
    pub(crate) question: String,
}

/// What a message holds or a tool put out: a text, or parts of which some are text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<TextPart>),
    /// Anything else.
    Other(serde::de::IgnoredAny),
}

impl Default for Content {
    fn default() -> Content {
        Content::Text(String::new())
    }
}

impl Content {
    /// All of the text.
    pub(crate) fn text(self) -> String {
        match self {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
            Content::Other(_) => String::new(),
        }
    }
}

/// A part of what a message holds.
#[derive(Deserialize)]
pub(crate) struct TextPart {
    #[serde(default)]
    text: Option<String>,
}
