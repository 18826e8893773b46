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

mod tools;

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

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
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::agents::kimi_cli;
use crate::transport::calls::Calls;
use crate::transport::fact::account;
use crate::transport::jsonrpc;
use crate::transport::jsonrpc::Id;
use crate::transport::jsonrpc::Json;
use crate::transport::jsonrpc::Line;
use crate::transport::jsonrpc::Message;
use crate::transport::jsonrpc::RpcError;
use crate::transport::wire::tools::Tools;
use crate::transport::wire_message::ApprovalRequest;
use crate::transport::wire_message::ApprovalResponse;
use crate::transport::wire_message::ContentPart;
use crate::transport::wire_message::Hello;
use crate::transport::wire_message::PromptResult;
use crate::transport::wire_message::QuestionRequest;
use crate::transport::wire_message::StepBegin;

use crate::transport::wire_message::Typed;

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
    /// The sub-agents that the agent waits for, by their names.
    others: BTreeMap<String, SubAgent>,
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
    tools: Tools,
}

/// What a sub-agent does.
#[derive(Debug, Default)]
struct SubAgent {
    calls: Calls,
    tools: Tools,
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
            tools: Tools::default(),
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

    /// Bytes of arguments of tools that are not over.
    pub fn held(&self) -> usize {
        let own = self.turn.iter().map(|turn| turn.tools.held());
        let others = self.others.values().map(|other| other.tools.held());
        own.chain(others).sum()
    }

    /// The usage of the turn so far. Background sub-agents are only in their own files.
    pub fn usage(&self) -> UsageSum {
        let mut sum = *self.calls.sum();
        for other in self.others.values() {
            sum.merge(other.calls.sum());
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
        match event.kind() {
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
            "ToolCall" | "ToolCallPart" | "ToolResult" => {
                let is_call = turn.tools.take(event, None, &mut events);
                turn.asks_for_tool |= is_call;
                if is_call {
                    self.calls.said();
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
                    let other = self.others.entry(agent.clone()).or_default();
                    other.tools.take(&inner, Some(&agent), &mut events);
                    if let Some(fact) = kimi_cli::fact_of(&inner) {
                        account(&mut other.calls, &fact, &mut events);
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
            .and_then(|request| self.understand(&request, signals));
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

    fn understand(
        &mut self,
        request: &Typed<'_>,
        signals: &mut Vec<Signal>,
    ) -> Option<(Asked, Shape)> {
        match request.kind() {
            "ApprovalRequest" => {
                let payload = request.payload::<ApprovalRequest>()?;
                let shape = Shape::Approval(payload.id.clone());
                let other = payload.agent_id.as_ref();
                let other = other.and_then(|agent| self.others.get_mut(agent));
                let tools = match other {
                    Some(other) => &mut other.tools,
                    None => &mut self.turn.as_mut()?.tools,
                };
                let mut events = Vec::new();
                tools.report(&payload.tool_call_id, &mut events);
                signals.extend(events.into_iter().map(Signal::Event));
                let arguments = tools.arguments(&payload.tool_call_id);
                Some((Asked::Permission(payload.into_permission(arguments)), shape))
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
        for other in self.others.values_mut() {
            other.calls.end(true, &mut events);
        }
        let turn = self.turn.take();
        self.pending.clear();
        let outcome = match outcome {
            Outcome::Failed(failure) => Outcome::Failed(failure.after(&self.usage())),
            // A turn that is stuck in one tool call is said to be finished like any other.
            Outcome::Finished(_) if turn.is_some_and(|turn| turn.asks_for_tool) => Outcome::DeadEnd,
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
        "finished" => Outcome::Finished(Finish::Unknown),
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

#[cfg(test)]
mod tests;
