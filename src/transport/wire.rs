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
//! see [`crate::transport::session_log::legacy_answer`].

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

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
use crate::transport::agent::Question;
use crate::transport::agent::Retry;
use crate::transport::agent::Signal;
use crate::transport::agent::Usage;
use crate::transport::agent::UsageSum;
use crate::transport::jsonrpc;
use crate::transport::jsonrpc::Id;
use crate::transport::jsonrpc::Json;
use crate::transport::jsonrpc::Line;
use crate::transport::jsonrpc::Message;
use crate::transport::jsonrpc::RpcError;

/// The version we ask for. Agents answer with their own whatever it is.
const PROTOCOL_VERSION: &str = "1.10";
/// Put before a prompt that begins with a slash: an agent looks for its commands in the first words only.
const SLASH_GUARD: &str = "The user's message:";
/// How often a turn that a refusal ended is gone on with. Who goes on asking for what is refused is not told for ever.
const MOST_PROMPTS_AFTER_REFUSALS: u32 = 10;
/// The tool whose question is about a plan.
const EXIT_PLAN_MODE: &str = "ExitPlanMode";

/// What to tell the agent at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Our version, for its logs.
    pub client_version: String,
    /// Whether the model may ask questions. If not, it is not offered the tool.
    pub questions: bool,
    /// Whether plans can be shown to someone.
    pub plans: bool,
    /// Tools of ours.
    pub tools: Vec<Tool>,
    /// Hooks to be asked at. `SessionEnd` costs five seconds at the exit and is never answered.
    pub hooks: Vec<Hook>,
}

/// A tool of ours that the model may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name; the agent refuses those of its own tools.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The JSON schema of its arguments, as JSON text.
    pub parameters: String,
}

/// A moment at which the agent shall ask us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// A name of our choice.
    pub id: String,
    /// Such as `PreToolUse`.
    pub event: String,
    /// A pattern for the target; empty for all.
    pub matcher: String,
    /// Seconds that we may take.
    pub timeout: u32,
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
    usage: UsageSum,
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
    /// A call of the model was begun and has not told its usage.
    open: bool,
    /// It has said something.
    said: bool,
    calls: Vec<Call>,
    plan: Option<String>,
}

/// A tool call, whose arguments come in pieces.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
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
    Questions(String, Vec<Question>),
    Plan(String, Vec<Question>),
    Tool(String),
    Hook(String),
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
        let options = &self.options;
        let mut params = json!({
            "protocol_version": PROTOCOL_VERSION,
            "client": {"name": "omk", "version": options.client_version},
            "capabilities": {
                "supports_question": options.questions,
                "supports_plan_mode": options.plans,
            },
        });
        if let Value::Object(members) = &mut params {
            if !options.tools.is_empty() {
                let tools = options.tools.iter().map(Tool::to_json).collect();
                members.insert("external_tools".to_string(), Value::Array(tools));
            }
            if !options.hooks.is_empty() {
                let hooks = options.hooks.iter().map(Hook::to_json).collect();
                members.insert("hooks".to_string(), Value::Array(hooks));
            }
        }
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
            open: false,
            said: false,
            calls: Vec::new(),
            plan: None,
        });
        self.cancelled = false;
        self.pending.clear();
        self.usage = UsageSum::default();
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
            Line::Blank => {}
            Line::Noise(quote) => signals.push(Signal::Event(Event::Noise(quote))),
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
    pub fn closed(&mut self) -> Option<Signal> {
        let failure = Failure::exited();
        if self.turn.is_some() {
            return Some(self.end(Outcome::Failed(failure)));
        }
        self.handshake.take().map(|_| Signal::Failed(failure))
    }

    /// The text of the turn's last step so far, which is the answer when the turn is over.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The usage of the turn so far. Background sub-agents are only in their own files.
    pub fn usage(&self) -> &UsageSum {
        &self.usage
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
            signals.push(match prompt {
                Some(line) => Signal::Send(line),
                None => self.end(outcome),
            });
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
        match event.kind.as_ref() {
            "StepBegin" => {
                let begun = event.payload::<StepBegin>();
                let step = begun.map_or(turn.step, |s| s.n.saturating_add(turn.steps_before));
                turn.refusal = None;
                if turn.open && turn.step == step && turn.said {
                    signals.push(Signal::Event(Event::Superseded { step }));
                }
                self.close_step(true, signals);
                if let Some(turn) = &mut self.turn {
                    turn.step = step;
                    turn.open = true;
                    turn.said = false;
                }
                self.text.clear();
                signals.push(Signal::Event(Event::Step { step }));
            }
            "ContentPart" => {
                let Some(part) = event.payload::<ContentPart>() else {
                    return;
                };
                turn.said = true;
                let step = turn.step;
                if let Some(text) = part.text {
                    self.text.push_str(&text);
                    signals.push(Signal::Event(Event::Text { step, text }));
                } else if let Some(text) = part.think {
                    signals.push(Signal::Event(Event::Thinking { step, text }));
                }
            }
            "StepRetry" => {
                let Some(retry) = event.payload::<StepRetry>() else {
                    return;
                };
                let step = turn.step;
                if turn.said {
                    signals.push(Signal::Event(Event::Superseded { step }));
                }
                let retry = Retry {
                    attempt: retry.next_attempt,
                    of: retry.max_attempts,
                    wait: Duration::try_from_secs_f64(retry.wait_s).unwrap_or_default(),
                    status: retry.status_code,
                    reason: retry.error_type,
                };
                // An attempt that said something, or ended well with nothing said, was paid for.
                if turn.said || retry.was_empty() {
                    self.usage.add(None);
                }
                turn.said = false;
                self.text.clear();
                signals.push(Signal::Event(Event::Retry(retry)));
            }
            "ToolCall" => {
                let Some(call) = event.payload::<ToolCall>() else {
                    return;
                };
                turn.said = true;
                signals.push(Signal::Event(Event::Tool {
                    call: call.id.clone(),
                    name: call.function.name.clone(),
                }));
                turn.calls.push(Call {
                    id: call.id,
                    name: call.function.name,
                    arguments: call.function.arguments.unwrap_or_default(),
                });
            }
            "ToolCallPart" => {
                if let Some(part) = event.payload::<ToolCallPart>()
                    && let Some(call) = turn.calls.last_mut()
                {
                    call.arguments
                        .push_str(&part.arguments_part.unwrap_or_default());
                }
            }
            "ToolResult" => {
                if let Some(result) = event.payload::<ToolResult>() {
                    signals.push(Signal::Event(Event::ToolDone {
                        call: result.tool_call_id,
                        ok: !result.return_value.is_error,
                    }));
                }
            }
            "StatusUpdate" => {
                let Some(status) = event.payload::<StatusUpdate>() else {
                    return;
                };
                if let Some(usage) = status.token_usage {
                    turn.open = false;
                    self.usage.add(Some(usage.into()));
                    signals.push(Signal::Event(Event::Usage(Some(usage.into()))));
                }
                if let (Some(used), Some(size)) = (status.context_tokens, status.max_context_tokens)
                {
                    signals.push(Signal::Event(Event::Context { used, size }));
                }
            }
            "CompactionBegin" => {
                self.usage.add(None);
                signals.push(Signal::Event(Event::Compaction { done: false }));
            }
            "ApprovalResponse" => {
                // What it repeats it has read.
                let echo = event.payload::<ApprovalResponse>();
                if echo.is_some_and(|echo| echo.feedback.is_some()) {
                    turn.refusal = None;
                }
            }
            "CompactionEnd" => signals.push(Signal::Event(Event::Compaction { done: true })),
            "PlanDisplay" => {
                if let Some(plan) = event.payload::<PlanDisplay>() {
                    turn.plan = Some(plan.content.clone());
                    signals.push(Signal::Event(Event::Plan { text: plan.content }));
                }
            }
            "SubagentEvent" => {
                if let Some(usage) = subagent_usage(event) {
                    self.usage.add(usage);
                    signals.push(Signal::Event(Event::Usage(usage)));
                }
            }
            _ => {}
        }
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
        let turn = self.turn.as_mut();
        match request.kind.as_ref() {
            "ApprovalRequest" => {
                let payload = request.payload::<ApprovalRequest>()?;
                let shape = Shape::Approval(payload.id.clone());
                let calls = turn.map_or(&[][..], |turn| &turn.calls);
                Some((Asked::Permission(payload.into_permission(calls)), shape))
            }
            "QuestionRequest" => {
                let payload = request.payload::<QuestionRequest>()?;
                let questions: Vec<Question> =
                    payload.questions.into_iter().map(Question::from).collect();
                let is_plan = |turn: &Turn| {
                    let mut calls = turn.calls.iter();
                    calls.any(|c| c.id == payload.tool_call_id && c.name == EXIT_PLAN_MODE)
                };
                match turn {
                    Some(turn) if is_plan(turn) => {
                        let text = turn.plan.take().unwrap_or_default();
                        Some((Asked::Plan { text }, Shape::Plan(payload.id, questions)))
                    }
                    _ => Some((
                        Asked::Questions(questions.clone()),
                        Shape::Questions(payload.id, questions),
                    )),
                }
            }
            "ToolCallRequest" => {
                let payload = request.payload::<ToolCallRequest>()?;
                let asked = Asked::Tool {
                    call: payload.id.clone(),
                    name: payload.name,
                    arguments: payload.arguments.unwrap_or_default(),
                };
                Some((asked, Shape::Tool(payload.id)))
            }
            "HookRequest" => {
                let payload = request.payload::<HookRequest<'_>>()?;
                let asked = Asked::Hook {
                    event: payload.event,
                    target: payload.target,
                    input: payload.input_data.get().to_string(),
                };
                Some((asked, Shape::Hook(payload.id)))
            }
            _ => None,
        }
    }

    /// Books a call that did not tell its usage, if it may have cost something.
    fn close_step(&mut self, charged: bool, signals: &mut Vec<Signal>) {
        if let Some(turn) = &mut self.turn
            && std::mem::replace(&mut turn.open, false)
            && (charged || turn.said)
        {
            self.usage.add(None);
            signals.push(Signal::Event(Event::Usage(None)));
        }
    }

    fn end(&mut self, outcome: Outcome) -> Signal {
        // A call that was refused cost nothing; one that was cancelled may have.
        let charged = match &outcome {
            Outcome::Failed(failure) => {
                matches!(failure.kind, FailureKind::Empty | FailureKind::Exited)
            }
            _ => true,
        };
        self.close_step(charged, &mut Vec::new());
        self.turn = None;
        self.pending.clear();
        Signal::Ended(match outcome {
            Outcome::Failed(failure) => Outcome::Failed(failure.after(&self.usage)),
            other => other,
        })
    }
}

impl Tool {
    fn to_json(&self) -> Value {
        // What is no JSON goes as an empty schema, which the agent refuses by name.
        let parameters: Value = serde_json::from_str(&self.parameters).unwrap_or_default();
        json!({"name": self.name, "description": self.description, "parameters": parameters})
    }
}

impl Hook {
    fn to_json(&self) -> Value {
        json!({"id": self.id, "event": self.event, "matcher": self.matcher, "timeout": self.timeout})
    }
}

impl Shape {
    fn answer(&self, answer: &Answer) -> Value {
        let reason = match answer {
            Answer::Deny { reason } => reason.as_deref().unwrap_or_default(),
            _ => "",
        };
        let allowed = matches!(answer, Answer::Allow | Answer::AllowAlways);
        match self {
            Shape::Approval(request) => {
                let word = match answer {
                    Answer::Allow => "approve",
                    Answer::AllowAlways => "approve_for_session",
                    _ => "reject",
                };
                let mut result = json!({"request_id": request, "response": word});
                if !reason.is_empty()
                    && let Value::Object(members) = &mut result
                {
                    members.insert("feedback".to_string(), Value::from(reason));
                }
                result
            }
            Shape::Questions(request, questions) => {
                json!({"request_id": request, "answers": chosen(questions, answer)})
            }
            Shape::Plan(request, questions) => {
                let wanted = if allowed { "Approve" } else { "Reject" };
                let first = questions.first();
                let has = first.is_some_and(|q| q.options.iter().any(|label| label == wanted));
                // Without the label the question is dismissed, which approves nothing.
                let answers = match (answer, first) {
                    (Answer::Choose(_), _) => chosen(questions, answer),
                    (_, Some(question)) if has => json!({question.text.as_str(): wanted}),
                    _ => json!({}),
                };
                json!({"request_id": request, "answers": answers})
            }
            Shape::Tool(call) => {
                let (is_error, output, message) = match answer {
                    Answer::Returned { ok, output } => (!ok, output.as_str(), ""),
                    _ => (true, "", if reason.is_empty() { "refused" } else { reason }),
                };
                json!({"tool_call_id": call, "return_value": {
                    "is_error": is_error, "output": output, "message": message, "display": [],
                }})
            }
            Shape::Hook(request) => {
                let action = if allowed { "allow" } else { "block" };
                json!({"request_id": request, "action": action, "reason": reason})
            }
        }
    }
}

/// The answers by question, without those that were skipped.
fn chosen(questions: &[Question], answer: &Answer) -> Value {
    let lists = match answer {
        Answer::Choose(lists) => lists.as_slice(),
        _ => &[],
    };
    let pairs = questions.iter().zip(lists);
    let answers = pairs
        .filter(|(_, labels)| !labels.is_empty())
        .map(|(question, labels)| (question.text.clone(), Value::from(labels.join(", "))));
    Value::Object(answers.collect())
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

/// The usage in an event of a sub-agent, whose sub-agents wrap theirs once more.
fn subagent_usage(event: &Typed<'_>) -> Option<Option<Usage>> {
    let mut inner = event.payload::<SubagentEvent<'_>>()?.event;
    while inner.kind == "SubagentEvent" {
        inner = serde_json::from_str::<SubagentEvent<'_>>(inner.payload?.get())
            .ok()?
            .event;
    }
    inner.usage()
}

impl Typed<'_> {
    /// What this event says about one call's usage: told, not told, or nothing.
    pub(super) fn usage(&self) -> Option<Option<Usage>> {
        match self.kind.as_ref() {
            "StatusUpdate" => {
                let status = self.payload::<StatusUpdate>()?;
                match status.token_usage {
                    Some(usage) => Some(Some(usage.into())),
                    None => status.message_id.map(|_| None),
                }
            }
            "CompactionBegin" => Some(None),
            "SubagentEvent" => subagent_usage(self),
            _ => None,
        }
    }

    /// What it is.
    pub(super) fn kind(&self) -> &str {
        self.kind.as_ref()
    }

    /// The sub-agent that an event is about, by the name of its directory.
    pub(super) fn sub_agent(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Of {
            agent_id: String,
        }
        Some(self.payload::<Of>()?.agent_id)
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

#[derive(Deserialize)]
struct StatusUpdate {
    token_usage: Option<TokenUsage>,
    context_tokens: Option<u64>,
    max_context_tokens: Option<u64>,
    message_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
struct TokenUsage {
    #[serde(default)]
    input_other: u64,
    #[serde(default)]
    output: u64,
    #[serde(default)]
    input_cache_read: u64,
    #[serde(default)]
    input_cache_creation: u64,
}

impl From<TokenUsage> for Usage {
    fn from(usage: TokenUsage) -> Usage {
        Usage {
            input: usage.input_other,
            cache_read: usage.input_cache_read,
            cache_write: usage.input_cache_creation,
            output: usage.output,
        }
    }
}

#[derive(Deserialize)]
struct PlanDisplay {
    content: String,
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
    fn into_permission(self, calls: &[Call]) -> Permission {
        let call = calls.iter().rfind(|call| call.id == self.tool_call_id);
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
    tool_call_id: String,
    #[serde(default)]
    questions: Vec<QuestionItem>,
}

#[derive(Deserialize)]
struct QuestionItem {
    question: String,
    #[serde(default)]
    options: Vec<QuestionOption>,
    #[serde(default)]
    multi_select: bool,
}

#[derive(Deserialize)]
struct QuestionOption {
    label: String,
}

impl From<QuestionItem> for Question {
    fn from(item: QuestionItem) -> Question {
        Question {
            text: item.question,
            options: item.options.into_iter().map(|o| o.label).collect(),
            many: item.multi_select,
        }
    }
}

#[derive(Deserialize)]
struct ToolCallRequest {
    id: String,
    name: String,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct HookRequest<'a> {
    id: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    target: String,
    #[serde(borrow)]
    input_data: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(first["params"].get("hooks").is_none());
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
    fn tools_and_hooks_are_announced() {
        let mut wire = Wire::new(Options {
            tools: vec![Tool {
                name: "now".to_string(),
                description: "the time".to_string(),
                parameters: r#"{"type":"object"}"#.to_string(),
            }],
            hooks: vec![Hook {
                id: "h".to_string(),
                event: "PreToolUse".to_string(),
                matcher: String::new(),
                timeout: 5,
            }],
            ..Options::default()
        });
        let params = &sent(&wire.start())["params"];
        assert_eq!(params["external_tools"][0]["parameters"]["type"], "object");
        assert_eq!(params["hooks"][0]["event"], "PreToolUse");
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
        let [Signal::Event(Event::Retry(told))] = &quiet[..] else {
            panic!("{quiet:?}");
        };
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
        let nonsense = [
            Answer::Choose(Vec::new()),
            Answer::Returned {
                ok: true,
                output: String::new(),
            },
        ];
        for answer in &nonsense {
            let approval = Shape::Approval("r".to_string()).answer(answer);
            assert_eq!(approval["response"], "reject");
            let hook = Shape::Hook("h".to_string()).answer(answer);
            assert_eq!(hook["action"], "block");
        }
        let question = Question {
            text: "Which?".to_string(),
            options: vec!["A".to_string()],
            many: false,
        };
        let questions = Shape::Questions("q".to_string(), vec![question.clone()]);
        assert_eq!(questions.answer(&Answer::Allow)["answers"], json!({}));
        // A plan with other labels than expected is dismissed, not approved.
        let plan = Shape::Plan("p".to_string(), vec![question]);
        assert_eq!(plan.answer(&Answer::Allow)["answers"], json!({}));
        let tool = Shape::Tool("t".to_string()).answer(&Answer::Allow);
        assert_eq!(tool["return_value"]["is_error"], true);
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
        assert_eq!(begun.last(), Some(&Signal::Event(Event::Step { step: 2 })));
        event(
            &mut wire,
            "ContentPart",
            &json!({"type": "text", "text": "without"}),
        );
        let end = wire.receive(br#"{"id":"2","result":{"status":"finished"}}"#);
        assert!(matches!(end[..], [Signal::Ended(Outcome::Finished(_))]));
        assert_eq!(wire.text(), "without");
    }

    #[test]
    fn a_reason_that_was_taken_is_not_given_twice_nor_for_ever() {
        let heard = json!({"request_id": "r", "response": "reject", "feedback": ""});
        let mut wire = prompted();
        let end = refused(&mut wire, "1", &heard);
        assert!(matches!(end[..], [Signal::Ended(_)]));
        // Nor is who has cancelled the turn interested.
        let deaf = json!({"request_id": "r", "response": "reject"});
        let mut wire = prompted();
        wire.cancel().unwrap();
        assert!(matches!(
            refused(&mut wire, "1", &deaf)[..],
            [Signal::Ended(_)]
        ));
        let mut wire = prompted();
        let mut prompts = 0;
        for prompt in 1_u32.. {
            match &refused(&mut wire, &prompt.to_string(), &deaf)[..] {
                [Signal::Send(_)] => prompts += 1,
                end => {
                    assert!(
                        matches!(end, [Signal::Ended(Outcome::Finished(_))]),
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
        let Some(Signal::Ended(Outcome::Failed(failure))) = wire.closed() else {
            panic!("no end");
        };
        assert_eq!(failure.kind, FailureKind::Exited);
        assert!(failure.may_have_charged);
        assert_eq!(wire.closed(), None);
        let mut wire = Wire::new(Options::default());
        wire.start();
        assert!(matches!(wire.closed(), Some(Signal::Failed(_))));
    }

    #[test]
    fn an_error_without_an_id_ends_what_is_awaited() {
        let mut wire = prompted();
        let line = br#"{"id":null,"error":{"code":-32600,"message":"Invalid request"}}"#;
        let [Signal::Ended(Outcome::Failed(failure))] = &wire.receive(line)[..] else {
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
