//! Kimi Wire, the protocol of kimi-cli up to 1.51 and of kimi-agent, as a state machine: lines in, [`Signal`]s out.
//!
//! It opens no file and knows no clock, so every recorded conversation can be played to it. What it settles: usage comes
//! once for each step and is added up, sub-agents' included, and a call that did not tell its own leaves the sum a lower
//! bound; text of an attempt that failed is taken back; the answer to `prompt` is the end of the turn, whatever events
//! came before. Event types it does not know are skipped: a newer agent must not break an older client.
//!
//! An older agent, kimi-agent 1.8 among them, takes no reason with a refusal and ends the turn over it, without an answer.
//! The reason is then given as a prompt, so that a refused tool is gone without there too; for us it is one turn.
//!
//! One thing it cannot see: kimi-cli makes a second try after a stream that broke, without a word, and sends the first
//! try's text before the second's. [`Wire::text`] then holds both. The exact answer is in the session's `context.jsonl`,
//! see [`crate::transport::agents::kimi_cli`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use crate::tokens::usage::Contradiction;
use crate::transport::agent::Answer;
use crate::transport::agent::Ask;
use crate::transport::agent::AskId;
use crate::transport::agent::Asked;
use crate::transport::agent::Event;
use crate::transport::agent::Failure;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Part;
use crate::transport::agent::Peer;
use crate::transport::agent::Permission;
use crate::transport::agent::Prompt;
use crate::transport::agent::Retry;
use crate::transport::agent::Signal;
use crate::transport::agent::Usage;
use crate::transport::agent::UsageSum;
use crate::transport::agents::kimi_cli;
use crate::transport::calls::Calls;
use crate::transport::jsonrpc;
use crate::transport::jsonrpc::Id;
use crate::transport::jsonrpc::Json;
use crate::transport::jsonrpc::Line;
use crate::transport::jsonrpc::Message;
use crate::transport::jsonrpc::RpcError;
use crate::transport::session_log::account;

/// The version we ask for. Agents answer with their own whatever it is.
const PROTOCOL_VERSION: &str = "1.10";
/// Put before a prompt that begins with a slash: an agent looks for its commands in the first words only.
const SLASH_GUARD: &str = "The user's message:";
/// How often a turn that a refusal ended is gone on with. Who goes on asking for what is refused is not told for ever.
const MOST_PROMPTS_AFTER_REFUSALS: u32 = 10;
/// What to tell the agent at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Our version, for its logs.
    pub client_version: String,
}

/// One conversation.
#[derive(Debug, Default)]
pub struct Wire {
    options: Options,
    ids: u64,
    handshake: Option<Id>,
    turn: Option<Turn>,
    cancelled: bool,
    pending: Vec<Pending>,
    calls: Calls,
    /// The calls of sub-agents that the agent waits for, by their names.
    others: BTreeMap<String, Calls>,
    text: String,
}

/// The turn that runs.
#[derive(Debug)]
struct Turn {
    id: Id,
    step: u32,
    /// The steps of the prompts before, where a refusal ended what is one turn for us.
    steps_before: u32,
    prompts_after_refusals: u32,
    /// The reason of a refusal in this step, until the agent shows that it takes reasons.
    refusal: Option<String>,
    /// The step has asked for a tool.
    asks_for_tool: bool,
    tools: Vec<Tool>,
}

/// A call of a tool, whose arguments come in pieces.
#[derive(Debug)]
struct Tool {
    id: String,
    arguments: String,
}

/// A request of the agent that we owe an answer.
#[derive(Debug)]
struct Pending {
    id: Id,
    shape: Shape,
}

/// How its answer looks. The request's name within the payload is repeated in it.
#[derive(Debug)]
enum Shape {
    Approval(String),
    Questions(String),
}

impl Wire {
    /// A conversation that has not begun.
    pub fn new(options: Options) -> Wire {
        Wire {
            options,
            ..Wire::default()
        }
    }

    /// The first line to send. [`Signal::Ready`] follows when it is answered.
    pub fn start(&mut self) -> String {
        let id = self.next_id();
        self.handshake = Some(id.clone());
        let params = json!({
            "protocol_version": PROTOCOL_VERSION,
            "client": {"name": "omk", "version": self.options.client_version},
            // Nobody is there to answer a question or to look at a plan.
            "capabilities": {"supports_question": false, "supports_plan_mode": false},
        });
        Message::request(id, "initialize", &params).encode()
    }

    /// The line that begins a turn; what the last one left is forgotten. While a turn runs the agent refuses another.
    pub fn prompt(&mut self, prompt: &Prompt) -> String {
        let id = self.next_id();
        self.turn = Some(Turn {
            id: id.clone(),
            step: 0,
            steps_before: 0,
            prompts_after_refusals: 0,
            refusal: None,
            asks_for_tool: false,
            tools: Vec::new(),
        });
        self.cancelled = false;
        self.pending.clear();
        self.calls = Calls::default();
        self.others.clear();
        self.text.clear();
        Message::request(id, "prompt", &json!({"user_input": user_input(prompt)})).encode()
    }

    /// The line that cancels the turn, if one runs and was not cancelled before. The turn ends when the agent says so.
    pub fn cancel(&mut self) -> Option<String> {
        if self.turn.is_none() || std::mem::replace(&mut self.cancelled, true) {
            return None;
        }
        let id = self.next_id();
        Some(Message::request(id, "cancel", &json!({})).encode())
    }

    /// The line that answers an ask; `None` if it was answered before or its turn is over.
    pub fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.id == ask.0)?;
        let Pending { id, shape } = self.pending.remove(at);
        if let (Shape::Approval(_), Answer::Deny { reason }, Some(turn)) =
            (&shape, answer, &mut self.turn)
        {
            turn.refusal.clone_from(reason);
        }
        Some(Message::result(id, &shape.answer(answer)).encode())
    }

    /// Takes one line of the agent's.
    pub fn receive(&mut self, line: &[u8]) -> Vec<Signal> {
        let mut signals = Vec::new();
        match jsonrpc::decode(line) {
            Line::Blank | Line::Noise => {}
            Line::Message(Message::Notification { params, .. }) => {
                if let Some(params) = params
                    && let Ok(event) = params.read::<Typed<'_>>()
                {
                    self.on_event(&event, &mut signals);
                }
            }
            Line::Message(Message::Request { id, params, .. }) => {
                self.on_request(id, params.as_ref(), &mut signals);
            }
            Line::Message(Message::Response { id, result }) => {
                self.on_response(id.as_ref(), result, &mut signals);
            }
        }
        signals
    }

    /// The agent's output has ended: whatever was awaited will not come.
    pub fn closed(&mut self) -> Vec<Signal> {
        let failure = Failure::exited();
        if self.turn.is_some() {
            return self.end(Outcome::Failed(failure));
        }
        let awaited = self.handshake.take();
        awaited
            .into_iter()
            .map(|_| Signal::Failed(failure.clone()))
            .collect()
    }

    /// The text of the turn's last step so far, which is the answer when the turn is over.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The usage of the turn so far. Background sub-agents are only in their own files.
    pub fn usage(&self) -> UsageSum {
        let mut sum = *self.calls.sum();
        for calls in self.others.values() {
            sum.merge(calls.sum());
        }
        sum
    }

    /// Whether a sub-agent's calls are among these, so that those in its own log are not to be added.
    pub fn includes(&self, sub_agent: &str) -> bool {
        self.others.contains_key(sub_agent)
    }

    fn next_id(&mut self) -> Id {
        self.ids += 1;
        // Wire takes strings only.
        Id::text(self.ids.to_string())
    }

    fn on_response(
        &mut self,
        id: Option<&Id>,
        result: Result<Json<'_>, RpcError<'_>>,
        signals: &mut Vec<Signal>,
    ) {
        // An error without an id says that a line of ours could not be read: what is awaited will not come.
        let lost = id.is_none() && result.is_err();
        if self.handshake.is_some() && (lost || self.handshake.as_ref() == id) {
            self.handshake = None;
            signals.push(handshake(result));
        } else if let Some(turn) = &self.turn
            && (lost || Some(&turn.id) == id)
        {
            let outcome = match result {
                Ok(result) => outcome(&result),
                Err(error) => Outcome::Failed(failure(&error)),
            };
            let prompt = match outcome {
                Outcome::Finished(_) => self.prompt_after_refusal(),
                _ => None,
            };
            match prompt {
                Some(line) => signals.push(Signal::Send(line)),
                None => signals.extend(self.end(outcome)),
            }
        }
    }

    /// The line that goes on with a turn that a refusal ended, giving its reason.
    fn prompt_after_refusal(&mut self) -> Option<String> {
        let turn = self.turn.as_ref()?;
        if self.cancelled || turn.prompts_after_refusals == MOST_PROMPTS_AFTER_REFUSALS {
            return None;
        }
        let reason = Prompt::text(turn.refusal.as_deref()?);
        let id = self.next_id();
        let turn = self.turn.as_mut()?;
        turn.refusal = None;
        turn.id = id.clone();
        turn.steps_before = turn.step;
        turn.prompts_after_refusals += 1;
        Some(Message::request(id, "prompt", &json!({"user_input": user_input(&reason)})).encode())
    }

    fn on_event(&mut self, event: &Typed<'_>, signals: &mut Vec<Signal>) {
        let Some(turn) = &mut self.turn else {
            return;
        };
        let mut events = Vec::new();
        match event.kind.as_ref() {
            "StepBegin" => {
                let begun = event.payload::<StepBegin>();
                let step = begun.map_or(turn.step, |s| s.n.saturating_add(turn.steps_before));
                turn.refusal = None;
                if self.calls.has_said() && turn.step == step {
                    events.push(Event::Superseded { step });
                }
                turn.step = step;
                turn.asks_for_tool = false;
                self.text.clear();
                events.push(Event::Step { step });
                self.calls.begin(&mut events);
            }
            "ContentPart" => {
                let Some(part) = event.payload::<ContentPart>() else {
                    return;
                };
                self.calls.said();
                let step = turn.step;
                if let Some(text) = part.text {
                    self.text.push_str(&text);
                    events.push(Event::Text { step, text });
                } else if let Some(text) = part.think {
                    events.push(Event::Thinking { step, text });
                }
            }
            "StepRetry" => {
                let Some(retry) = event.retry() else {
                    return;
                };
                if self.calls.has_said() {
                    events.push(Event::Superseded { step: turn.step });
                }
                // An attempt that said something, or ended well with nothing said, was paid for.
                self.calls.end(retry.may_have_charged(), &mut events);
                self.text.clear();
                events.push(Event::Retry(retry));
                self.calls.begin(&mut events);
            }
            "ToolCall" => {
                let Some(call) = event.payload::<ToolCall>() else {
                    return;
                };
                self.calls.said();
                turn.asks_for_tool = true;
                events.push(Event::Tool {
                    call: call.id.clone(),
                    name: call.function.name,
                });
                turn.tools.push(Tool {
                    id: call.id,
                    arguments: call.function.arguments.unwrap_or_default(),
                });
            }
            "ToolCallPart" => {
                if let Some(part) = event.payload::<ToolCallPart>()
                    && let Some(tool) = turn.tools.last_mut()
                {
                    tool.arguments
                        .push_str(&part.arguments_part.unwrap_or_default());
                }
            }
            "ToolResult" => {
                if let Some(result) = event.payload::<ToolResult>() {
                    let tools = turn.tools.iter();
                    if let Some(tool) = tools.rev().find(|tool| tool.id == result.tool_call_id) {
                        events.push(Event::ToolUsed {
                            call: tool.id.clone(),
                            arguments: tool.arguments.clone(),
                        });
                    }
                    events.push(Event::ToolDone {
                        call: result.tool_call_id,
                        ok: !result.return_value.is_error,
                    });
                }
            }
            "StatusUpdate" => {
                let Some(status) = event.status() else {
                    return;
                };
                if let Some(tokens) = status.context() {
                    self.calls.measured(tokens);
                }
                let (usage, contradiction) = status.usage();
                if usage.is_some() || contradiction.is_some() {
                    events.extend(contradiction.map(Event::Contradiction));
                    self.calls.report(usage, &mut events);
                }
            }
            "CompactionBegin" => self.calls.unreported(&mut events),
            "CompactionEnd" => events.push(Event::Compacted),
            "ApprovalResponse" => {
                // What it repeats it has read.
                let echo = event.payload::<ApprovalResponse>();
                if echo.is_some_and(|echo| echo.feedback.is_some()) {
                    turn.refusal = None;
                }
            }
            "SubagentEvent" => {
                if let Some((agent, inner)) = event.of_sub_agent() {
                    let calls = self.others.entry(agent).or_default();
                    if let Some(fact) = kimi_cli::fact_of(&inner) {
                        account(calls, &fact, &mut events);
                    }
                }
            }
            _ => {}
        }
        signals.extend(events.into_iter().map(Signal::Event));
    }

    fn on_request(&mut self, id: Id, params: Option<&Json<'_>>, signals: &mut Vec<Signal>) {
        let read = params
            .and_then(|params| params.read::<Typed<'_>>().ok())
            .and_then(|request| self.understand(&request));
        let Some((what, shape)) = read else {
            let error = Message::error(id, jsonrpc::METHOD_NOT_FOUND, "not supported");
            signals.push(Signal::Send(error.encode()));
            return;
        };
        self.pending.push(Pending {
            id: id.clone(),
            shape,
        });
        signals.push(Signal::Ask(Ask {
            id: AskId(id),
            what,
        }));
    }

    fn understand(&mut self, request: &Typed<'_>) -> Option<(Asked, Shape)> {
        match request.kind.as_ref() {
            "ApprovalRequest" => {
                let payload = request.payload::<ApprovalRequest>()?;
                let shape = Shape::Approval(payload.id.clone());
                let tools = self.turn.as_ref().map_or(&[][..], |turn| &turn.tools);
                Some((Asked::Permission(payload.into_permission(tools)), shape))
            }
            "QuestionRequest" => {
                let payload = request.payload::<QuestionRequest>()?;
                let questions = payload.questions.into_iter().map(|item| item.question);
                Some((
                    Asked::Questions(questions.collect()),
                    Shape::Questions(payload.id),
                ))
            }
            _ => None,
        }
    }

    /// The signals of a turn's end: what becomes of the calls under way, and the outcome.
    fn end(&mut self, outcome: Outcome) -> Vec<Signal> {
        // A call that was refused cost nothing; one that was cancelled may have.
        let charged = match &outcome {
            Outcome::Failed(failure) => failure.may_have_charged,
            _ => true,
        };
        let mut events = Vec::new();
        self.calls.end(charged, &mut events);
        for calls in self.others.values_mut() {
            calls.end(true, &mut events);
        }
        let turn = self.turn.take();
        self.pending.clear();
        let outcome = match outcome {
            Outcome::Failed(failure) => Outcome::Failed(failure.after(&self.usage())),
            // A turn that is stuck in one tool call is said to be finished like any other.
            Outcome::Finished(_) if turn.is_some_and(|turn| turn.asks_for_tool) => {
                Outcome::unfinished()
            }
            other => other,
        };
        let mut signals: Vec<Signal> = events.into_iter().map(Signal::Event).collect();
        signals.push(Signal::Ended(outcome));
        signals
    }
}

impl Shape {
    fn answer(&self, answer: &Answer) -> Value {
        match self {
            Shape::Approval(request) => {
                let word = match answer {
                    Answer::Allow => "approve",
                    _ => "reject",
                };
                let mut result = json!({"request_id": request, "response": word});
                if let Answer::Deny {
                    reason: Some(reason),
                } = answer
                    && let Value::Object(members) = &mut result
                {
                    members.insert("feedback".to_string(), Value::from(reason.as_str()));
                }
                result
            }
            Shape::Questions(request) => json!({"request_id": request, "answers": {}}),
        }
    }
}

/// The prompt as Wire takes it, guarded so that a slash in front reaches the model as text.
fn user_input(prompt: &Prompt) -> Value {
    let guard = prompt
        .looks_like_a_command()
        .then(|| text_part(SLASH_GUARD));
    match (prompt.parts.as_slice(), &guard) {
        ([Part::Text(text)], None) => Value::from(text.as_str()),
        (parts, _) => {
            let parts = parts.iter().map(|part| match part {
                Part::Text(text) => text_part(text),
                Part::Image { mime, base64 } => {
                    let url = format!("data:{mime};base64,{base64}");
                    json!({"type": "image_url", "image_url": {"url": url}})
                }
            });
            Value::Array(guard.into_iter().chain(parts).collect())
        }
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A refused handshake is no obstacle: a prompt works without one.
fn handshake(result: Result<Json<'_>, RpcError<'_>>) -> Signal {
    match result {
        Ok(result) => {
            let hello: Hello = result.read().unwrap_or_default();
            Signal::Ready(Peer {
                name: hello.server.name,
                version: hello.server.version,
                protocol: hello.protocol_version,
                session: None,
            })
        }
        Err(error) => {
            let data = error.data.as_ref().map_or("", Json::as_str);
            if error.code == jsonrpc::INVALID_PARAMS && data.contains("protocolVersion") {
                let message = "the agent speaks ACP, not Wire";
                let code = error.code.to_string();
                Signal::Failed(Failure::new(FailureKind::WrongProtocol, code, message))
            } else {
                Signal::Ready(Peer::default())
            }
        }
    }
}

fn outcome(result: &Json<'_>) -> Outcome {
    let result: PromptResult = result.read().unwrap_or_default();
    match result.status.as_str() {
        "finished" => Outcome::Finished(Finish::Untold),
        "cancelled" => Outcome::Cancelled,
        "max_steps_reached" => Outcome::MaxSteps {
            steps: result.steps,
        },
        other => {
            let message = format!("the turn ended in an unknown way: {other}");
            Outcome::Failed(Failure::new(FailureKind::Protocol, other, &message))
        }
    }
}

fn failure(error: &RpcError<'_>) -> Failure {
    let code = error.code.to_string();
    let kind = match error.code {
        -32003 => return Failure::from_service(code, None, &error.message),
        -32000 => FailureKind::Busy,
        -32001 => FailureKind::NotConfigured,
        -32002 => FailureKind::Unsupported,
        -32004 => FailureKind::Authentication,
        jsonrpc::INTERNAL_ERROR => FailureKind::Agent,
        -32700 | -32602..=-32600 => FailureKind::Protocol,
        _ => FailureKind::Agent,
    };
    Failure {
        // Nothing that fails before the model is asked can cost anything.
        may_have_charged: false,
        ..Failure::new(kind, code, &error.message)
    }
}

impl<'a> Typed<'a> {
    /// What it is.
    pub(super) fn kind(&self) -> &str {
        self.kind.as_ref()
    }

    /// The figures of a `StatusUpdate`.
    pub(super) fn status(&self) -> Option<StatusUpdate> {
        self.payload()
    }

    /// What a `StepRetry` says.
    pub(super) fn retry(&self) -> Option<Retry> {
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
    pub(super) fn of_sub_agent(&self) -> Option<(String, Typed<'a>)> {
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

    fn payload<'b, T: Deserialize<'b>>(&'b self) -> Option<T> {
        serde_json::from_str(self.payload?.get()).ok()
    }
}

/// The envelope of events and requests, on the wire and in the session's file.
#[derive(Deserialize)]
pub(super) struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SubagentEvent<'a> {
    #[serde(default)]
    agent_id: Option<String>,
    /// What kimi-agent gives instead.
    #[serde(default)]
    task_tool_call_id: Option<String>,
    #[serde(borrow)]
    event: Typed<'a>,
}

#[derive(Default, Deserialize)]
struct Hello {
    #[serde(default)]
    protocol_version: Option<String>,
    #[serde(default)]
    server: Server,
}

#[derive(Default, Deserialize)]
struct Server {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Default, Deserialize)]
struct PromptResult {
    #[serde(default)]
    status: String,
    #[serde(default)]
    steps: Option<u32>,
}

#[derive(Deserialize)]
struct StepBegin {
    n: u32,
}

#[derive(Deserialize)]
struct ContentPart {
    text: Option<String>,
    think: Option<String>,
}

#[derive(Deserialize)]
struct StepRetry {
    #[serde(default)]
    next_attempt: u32,
    #[serde(default)]
    max_attempts: u32,
    #[serde(default)]
    wait_s: f64,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    status_code: Option<u16>,
}

#[derive(Deserialize)]
struct ToolCall {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct ToolCallPart {
    arguments_part: Option<String>,
}

#[derive(Deserialize)]
struct ToolResult {
    tool_call_id: String,
    return_value: ReturnValue,
}

#[derive(Deserialize)]
struct ReturnValue {
    #[serde(default)]
    is_error: bool,
}

/// The figures of a call, on the wire and in the session's file.
#[derive(Deserialize)]
pub(super) struct StatusUpdate {
    #[serde(default)]
    token_usage: Value,
    #[serde(default)]
    context_tokens: Value,
    #[serde(default)]
    pub(super) message_id: Value,
}

impl StatusUpdate {
    /// The usage of the call, and why it cannot be used where it cannot.
    pub(super) fn usage(&self) -> (Option<Usage>, Option<Contradiction>) {
        let names = [
            "input_other",
            "output",
            "input_cache_read",
            "input_cache_creation",
        ];
        Usage::read(&self.token_usage, names)
    }

    /// Tokens in the model's window.
    pub(super) fn context(&self) -> Option<u64> {
        self.context_tokens.as_u64()
    }
}

#[derive(Deserialize)]
struct ApprovalRequest {
    id: String,
    #[serde(default)]
    tool_call_id: String,
    #[serde(default)]
    sender: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    display: Vec<Display>,
}

/// What is shown to someone who decides: a command or a change to a file.
#[derive(Deserialize)]
struct Display {
    command: Option<String>,
    path: Option<String>,
}

impl ApprovalRequest {
    fn into_permission(self, tools: &[Tool]) -> Permission {
        let call = tools.iter().rfind(|call| call.id == self.tool_call_id);
        let whole = call.filter(|call| serde_json::from_str::<&RawValue>(&call.arguments).is_ok());
        Permission {
            command: self.display.iter().find_map(|shown| shown.command.clone()),
            paths: self
                .display
                .into_iter()
                .filter_map(|shown| shown.path)
                .collect(),
            arguments: whole.map(|call| call.arguments.clone()),
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
struct ApprovalResponse {
    feedback: Option<String>,
}

#[derive(Deserialize)]
struct QuestionRequest {
    id: String,
    #[serde(default)]
    questions: Vec<QuestionItem>,
}

#[derive(Deserialize)]
struct QuestionItem {
    question: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::agent::CallEnd;
    use proptest::prelude::*;

    /// A conversation whose prompt has the id 1.
    fn prompted() -> Wire {
        let mut wire = Wire::new(Options::default());
        wire.prompt(&Prompt::text("hi"));
        wire
    }

    fn event(wire: &mut Wire, kind: &str, payload: &Value) -> Vec<Signal> {
        let params = json!({"type": kind, "payload": payload});
        wire.receive(Message::notification("event", &params).encode().as_bytes())
    }

    fn sent(line: &str) -> Value {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn ids_are_strings_and_the_handshake_may_be_refused() {
        let mut wire = Wire::new(Options::default());
        let first = sent(&wire.start());
        assert_eq!(first["id"], "1");
        assert_eq!(first["params"]["protocol_version"], "1.10");
        assert_eq!(first["params"]["capabilities"]["supports_question"], false);
        let refused = br#"{"id":"1","error":{"code":-32601,"message":"no"}}"#;
        assert_eq!(wire.receive(refused), [Signal::Ready(Peer::default())]);

        wire.start();
        let acp = br#"{"id":"2","error":{"code":-32602,"message":"Invalid params","data":{"protocolVersion":{}}}}"#;
        let [Signal::Failed(failure)] = &wire.receive(acp)[..] else {
            panic!("no failure");
        };
        assert_eq!(failure.kind, FailureKind::WrongProtocol);
    }

    #[test]
    fn a_slash_in_front_is_guarded() {
        let mut wire = Wire::new(Options::default());
        let line = sent(&wire.prompt(&Prompt::text("/tmp is full")));
        let input = &line["params"]["user_input"];
        assert_eq!(input[0]["text"], SLASH_GUARD);
        assert_eq!(input[1]["text"], "/tmp is full");
        let image = Part::Image {
            mime: "image/png".to_string(),
            base64: "AA==".to_string(),
        };
        let parts = vec![Part::Text("see".to_string()), image];
        let line = sent(&wire.prompt(&Prompt { parts }));
        let input = &line["params"]["user_input"];
        assert_eq!(input[1]["image_url"]["url"], "data:image/png;base64,AA==");
        assert_eq!(input.as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_step_that_begins_again_takes_its_text_back() {
        let mut wire = prompted();
        event(&mut wire, "StepBegin", &json!({"n": 1}));
        event(
            &mut wire,
            "ContentPart",
            &json!({"type": "text", "text": "part"}),
        );
        let again = event(&mut wire, "StepBegin", &json!({"n": 1}));
        assert_eq!(again[0], Signal::Event(Event::Superseded { step: 1 }));
        event(
            &mut wire,
            "ContentPart",
            &json!({"type": "text", "text": "whole"}),
        );
        assert_eq!(wire.text(), "whole");
        // The attempt that was cut may be on the bill.
        assert_eq!(wire.usage().untold, 1);
    }

    #[test]
    fn a_retry_after_text_takes_it_back_and_one_after_nothing_does_not() {
        let mut wire = prompted();
        event(&mut wire, "StepBegin", &json!({"n": 1}));
        let retry = json!({"n": 1, "next_attempt": 2, "max_attempts": 3, "wait_s": 0.5, "status_code": 429});
        let quiet = event(&mut wire, "StepRetry", &retry);
        let refused = Signal::Event(Event::CallEnded(CallEnd::Refused));
        let [first, Signal::Event(Event::Retry(told)), _] = &quiet[..] else {
            panic!("{quiet:?}");
        };
        assert_eq!(first, &refused);
        assert_eq!((told.attempt, told.of, told.status), (2, 3, Some(429)));
        assert_eq!(told.wait, Duration::from_millis(500));
        assert_eq!(wire.usage().untold, 0);
        event(
            &mut wire,
            "ContentPart",
            &json!({"type": "text", "text": "x"}),
        );
        let loud = event(&mut wire, "StepRetry", &json!({"wait_s": -1.0}));
        assert_eq!(loud[0], Signal::Event(Event::Superseded { step: 1 }));
        assert_eq!((wire.text(), wire.usage().untold), ("", 1));
    }

    #[test]
    fn answers_that_do_not_fit_are_refusals() {
        let returned = Answer::Returned {
            ok: true,
            output: String::new(),
        };
        let approval = Shape::Approval("r".to_string()).answer(&returned);
        assert_eq!(approval["response"], "reject");
        for answer in [Answer::Allow, returned] {
            let question = Shape::Questions("q".to_string()).answer(&answer);
            assert_eq!(question["answers"], json!({}));
        }
    }

    #[test]
    fn a_turn_whose_last_step_asked_for_a_tool_is_not_finished() {
        let tool = json!({"type": "function", "id": "t", "function": {"name": "Shell", "arguments": "{}"}});
        let finished = br#"{"id":"1","result":{"status":"finished"}}"#;
        let mut wire = prompted();
        event(&mut wire, "StepBegin", &json!({"n": 1}));
        event(&mut wire, "ToolCall", &tool);
        let end = wire.receive(finished);
        assert_eq!(end.last(), Some(&Signal::Ended(Outcome::unfinished())));
        let mut wire = prompted();
        event(&mut wire, "StepBegin", &json!({"n": 1}));
        event(&mut wire, "ToolCall", &tool);
        event(&mut wire, "StepBegin", &json!({"n": 2}));
        let end = wire.receive(finished);
        assert!(matches!(
            end.last(),
            Some(Signal::Ended(Outcome::Finished(_)))
        ));
    }

    #[test]
    fn a_sub_agents_calls_are_accounted_for_one_by_one() {
        let mut wire = prompted();
        let of = |agent: &str, kind: &str, payload: &Value| json!({"agent_id": agent, "event": {"type": kind, "payload": payload}});
        let used = json!({"token_usage": {"input_other": 5, "output": 1}, "message_id": "c"});
        for (agent, kind, payload) in [
            ("a", "StepBegin", &json!({"n": 1})),
            ("b", "StepBegin", &json!({"n": 1})),
            ("a", "StatusUpdate", &used),
        ] {
            event(&mut wire, "SubagentEvent", &of(agent, kind, payload));
        }
        assert_eq!((wire.usage().calls, wire.usage().untold), (1, 0));
        assert!(wire.includes("a") && !wire.includes("c"));
        wire.receive(br#"{"id":"1","result":{"status":"finished"}}"#);
        // The other one's call never reported.
        assert_eq!((wire.usage().calls, wire.usage().untold), (1, 1));
    }

    #[test]
    fn a_refusal_can_say_what_to_do_instead() {
        let deny = Answer::Deny {
            reason: Some("use ls".to_string()),
        };
        let result = Shape::Approval("r".to_string()).answer(&deny);
        assert_eq!(result["feedback"], "use ls");
    }

    /// Refuses a command in the turn's first step; the agent ends the turn over it, whether it repeats the reason or not.
    fn refused(wire: &mut Wire, prompt: &str, echo: &Value) -> Vec<Signal> {
        event(wire, "StepBegin", &json!({"n": 1}));
        let payload =
            json!({"id": "r", "tool_call_id": "t", "sender": "Shell", "action": "run command"});
        let params = json!({"type": "ApprovalRequest", "payload": payload});
        let line = Message::request(Id::text("r"), "request", &params).encode();
        let [Signal::Ask(ask)] = &wire.receive(line.as_bytes())[..] else {
            panic!("no ask");
        };
        let deny = Answer::Deny {
            reason: Some("not here".to_string()),
        };
        wire.answer(&ask.id, &deny).unwrap();
        event(wire, "ApprovalResponse", echo);
        let line = json!({"id": prompt, "result": {"status": "finished"}}).to_string();
        wire.receive(line.as_bytes())
    }

    #[test]
    fn a_reason_that_an_agent_does_not_take_is_given_as_a_prompt() {
        let deaf = json!({"request_id": "r", "response": "reject"});
        let mut wire = prompted();
        let [Signal::Send(line)] = &refused(&mut wire, "1", &deaf)[..] else {
            panic!("no prompt");
        };
        let line = sent(line);
        assert_eq!(
            (&line["id"], &line["method"]),
            (&json!("2"), &json!("prompt"))
        );
        assert_eq!(line["params"]["user_input"], "not here");
        // The same turn goes on, and so do its steps.
        let begun = event(&mut wire, "StepBegin", &json!({"n": 1}));
        assert!(begun.contains(&Signal::Event(Event::Step { step: 2 })));
        event(
            &mut wire,
            "ContentPart",
            &json!({"type": "text", "text": "without"}),
        );
        let end = wire.receive(br#"{"id":"2","result":{"status":"finished"}}"#);
        assert!(matches!(
            end.last(),
            Some(Signal::Ended(Outcome::Finished(_)))
        ));
        assert_eq!(wire.text(), "without");
    }

    #[test]
    fn a_reason_that_was_taken_is_not_given_twice_nor_for_ever() {
        let heard = json!({"request_id": "r", "response": "reject", "feedback": ""});
        let mut wire = prompted();
        let end = refused(&mut wire, "1", &heard);
        assert!(matches!(end.last(), Some(Signal::Ended(_))));
        // Nor is who has cancelled the turn interested.
        let deaf = json!({"request_id": "r", "response": "reject"});
        let mut wire = prompted();
        wire.cancel().unwrap();
        assert!(matches!(
            refused(&mut wire, "1", &deaf).last(),
            Some(Signal::Ended(_))
        ));
        let mut wire = prompted();
        let mut prompts = 0;
        for prompt in 1_u32.. {
            match &refused(&mut wire, &prompt.to_string(), &deaf)[..] {
                [Signal::Send(_)] => prompts += 1,
                end => {
                    assert!(
                        matches!(end.last(), Some(Signal::Ended(Outcome::Finished(_)))),
                        "{end:?}"
                    );
                    break;
                }
            }
        }
        assert_eq!(prompts, MOST_PROMPTS_AFTER_REFUSALS);
    }

    #[test]
    fn an_unknown_request_is_answered_at_once() {
        let mut wire = prompted();
        let line =
            br#"{"method":"request","id":"x","params":{"type":"FutureRequest","payload":{}}}"#;
        let [Signal::Send(answer)] = &wire.receive(line)[..] else {
            panic!("no answer");
        };
        assert_eq!(sent(answer)["error"]["code"], jsonrpc::METHOD_NOT_FOUND);
    }

    #[test]
    fn the_end_of_the_stream_ends_the_turn() {
        let mut wire = prompted();
        event(&mut wire, "StepBegin", &json!({"n": 1}));
        let Some(Signal::Ended(Outcome::Failed(failure))) = wire.closed().pop() else {
            panic!("no end");
        };
        assert_eq!(failure.kind, FailureKind::Exited);
        assert!(failure.may_have_charged);
        assert_eq!(wire.closed(), []);
        let mut wire = Wire::new(Options::default());
        wire.start();
        assert!(matches!(wire.closed()[..], [Signal::Failed(_)]));
    }

    #[test]
    fn an_error_without_an_id_ends_what_is_awaited() {
        let mut wire = prompted();
        let line = br#"{"id":null,"error":{"code":-32600,"message":"Invalid request"}}"#;
        let Some(Signal::Ended(Outcome::Failed(failure))) = wire.receive(line).pop() else {
            panic!("no end");
        };
        assert_eq!(failure.kind, FailureKind::Protocol);
        assert!(!failure.may_have_charged);
        assert!(wire.receive(line).is_empty());
    }

    #[test]
    fn cancelling_is_said_once() {
        let mut wire = prompted();
        assert_eq!(sent(&wire.cancel().unwrap())["method"], "cancel");
        assert_eq!(wire.cancel(), None);
        wire.receive(br#"{"id":"1","result":{"status":"cancelled"}}"#);
        assert_eq!(wire.cancel(), None);
    }

    proptest! {
        #[test]
        fn any_payload_is_taken(
            kind in "StepBegin|ContentPart|StepRetry|ToolCall|ToolResult|StatusUpdate|SubagentEvent|ApprovalRequest|ApprovalResponse|QuestionRequest|HookRequest",
            name in "n|type|text|id|event|token_usage|payload|questions|function",
            method in "event|request",
            value in prop_oneof![Just(json!(null)), Just(json!(-1)), Just(json!("x")), Just(json!([])), Just(json!({"type": "SubagentEvent"}))],
        ) {
            let mut wire = prompted();
            let line = json!({"method": method, "id": method.strip_prefix("req"), "params": {"type": kind, "payload": {name: value}}});
            let _ = wire.receive(line.to_string().as_bytes());
        }
    }
}
