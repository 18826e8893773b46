//! The Agent Client Protocol as Kimi Code 2 speaks it, as a state machine: lines in, [`Signal`]s out.
//!
//! It runs the whole handshake (initialize, session, mode, model, thinking, in that order) and one turn at a time. What
//! it must not do is believe the end of a turn: a refused key is an error, but a rate limit, a dead server and a full
//! window all end in `end_turn` with no text. So a turn that is over is [`Signal::Answered`], and
//! [`crate::transport::session_log`] turns the agent's own log into the outcome, the usage and the exact text.
//!
//! Permission requests, plan reviews and questions come as one and the same request; only the options' ids tell them
//! apart. Not every change is asked for: within a git work tree the agent writes files unasked. So it can be told to hand
//! over text files to us ([`Options::files`]), and then nothing is written that we do not write. Refuses to offer what it
//! cannot do: no terminals, no forms. Asked for them anyway, it declines.

mod message;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use crate::transport::acp::message::Block;
use crate::transport::acp::message::Choice;
use crate::transport::acp::message::ConfigOption;
use crate::transport::acp::message::Hello;
use crate::transport::acp::message::PermissionRequest;
use crate::transport::acp::message::PromptResult;
use crate::transport::acp::message::SessionResult;
use crate::transport::acp::message::SessionUpdate;
use crate::transport::acp::message::TextFile;
use crate::transport::acp::message::Update;
use crate::transport::agent::Answer;
use crate::transport::agent::Answered;
use crate::transport::agent::Ask;
use crate::transport::agent::AskId;
use crate::transport::agent::Asked;
use crate::transport::agent::Event;
use crate::transport::agent::Failure;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Outcome;
use crate::transport::agent::Part;
use crate::transport::agent::Peer;
use crate::transport::agent::Permission;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::start_of;
use crate::transport::jsonrpc;
use crate::transport::jsonrpc::Id;
use crate::transport::jsonrpc::Json;
use crate::transport::jsonrpc::Line;
use crate::transport::jsonrpc::Message;
use crate::transport::jsonrpc::RpcError;

/// The version we ask for; agents answer 1 whatever it is.
const PROTOCOL_VERSION: u32 = 1;
/// The mode in which agents ask before they act.
const ASKS: &str = "default";
/// The file that was asked for is not there.
pub(super) const NOT_FOUND: i64 = -32002;
/// How long after the answer the log's last line was ever seen to come, and some: measured 1.5 to 70 ms.
pub const LOG_DELAY: Duration = Duration::from_secs(2);

/// What to ask of the agent before the first prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Our version, for its logs.
    pub client_version: String,
    /// The directory it works in: absolute, and there.
    pub directory: String,
    /// The session.
    pub session: Session,
    /// Whether to choose the mode in which the agent asks before it acts, if it offers that; its configured one may be
    /// another, in which nothing could be denied.
    pub asks: bool,
    /// The model's alias; the configured one when `None`.
    pub model: Option<String>,
    /// `on`, `off` or an effort; the agent's default when `None`.
    pub thinking: Option<String>,
    /// Whether its tools read and write text files through us: [`Asked::ReadFile`] and [`Asked::WriteFile`]. Without the
    /// reading it would append by itself, and without either write by itself.
    pub files: bool,
    /// Directories to work in beside that one, absolute.
    pub more_directories: Vec<String>,
}

/// Which session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// A new one.
    #[default]
    New,
    /// An old one, by its id. It keeps its own directory.
    Resume(String),
}

/// One conversation.
#[derive(Debug, Default)]
pub struct Acp {
    options: Options,
    ids: u64,
    awaited: Option<(Id, Phase)>,
    peer: Peer,
    /// Thinking as the agent shows it, which is not always as it is.
    thinking: Option<String>,
    turn: Option<Turn>,
    cancelled: bool,
    pending: Vec<Pending>,
    text: String,
}

/// The steps of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Initialize,
    Session,
    Mode,
    Model,
    Thinking,
}

/// The turn that runs.
#[derive(Debug)]
struct Turn {
    id: Id,
    step: u32,
    /// A tool was called since the last text, so the next text is another step's.
    tool: bool,
    calls: Vec<Call>,
    /// Files whose change was asked for and allowed, until it comes.
    approved: Vec<String>,
}

/// A tool call, as far as it was announced.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: Option<String>,
    paths: Vec<String>,
    /// The arguments were reported.
    is_reported: bool,
}

/// A request of the agent that we owe an answer.
#[derive(Debug)]
struct Pending {
    id: Id,
    wants: Wants,
}

/// What shape its answer has.
#[derive(Debug)]
enum Wants {
    /// One of these, about these files.
    Choice(Vec<Choice>, Vec<String>),
    /// A file's text.
    Text,
    /// That it is done.
    Done,
}

impl Acp {
    /// A conversation that has not begun.
    pub fn new(options: Options) -> Acp {
        Acp {
            options,
            ..Acp::default()
        }
    }

    /// The first line to send. More follow as [`Signal::Send`], then [`Signal::Ready`] with the session's id.
    pub fn start(&mut self) -> String {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": self.options.files, "writeTextFile": self.options.files},
                "terminal": false,
            },
            "clientInfo": {"name": "omk", "version": self.options.client_version},
        });
        self.ask(Phase::Initialize, "initialize", &params)
    }

    /// The line that begins a turn; what the last one left is forgotten. Only after [`Signal::Ready`].
    pub fn prompt(&mut self, prompt: &Prompt) -> String {
        let id = self.next_id();
        self.turn = Some(Turn {
            id: id.clone(),
            step: 0,
            tool: false,
            calls: Vec::new(),
            approved: Vec::new(),
        });
        self.cancelled = false;
        self.pending.clear();
        self.text.clear();
        let params = json!({"sessionId": self.session(), "prompt": blocks(prompt)});
        Message::request(id, "session/prompt", &params).encode()
    }

    /// The line that cancels the turn, if one runs and was not cancelled before. The turn ends when the agent says so.
    pub fn cancel(&mut self) -> Option<String> {
        if self.turn.is_none() || std::mem::replace(&mut self.cancelled, true) {
            return None;
        }
        let params = json!({"sessionId": self.session()});
        Some(Message::notification("session/cancel", &params).encode())
    }

    /// The line that answers an ask; `None` if it was answered before or its turn is over.
    pub fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.id == ask.0)?;
        let Pending { id, wants } = self.pending.remove(at);
        let message = match wants {
            Wants::Choice(options, paths) => {
                if let (Answer::Allow, Some(turn)) = (answer, &mut self.turn) {
                    turn.approved.extend(paths);
                }
                Message::result(id, &outcome(&options, answer))
            }
            Wants::Text | Wants::Done => match answer {
                Answer::Returned { ok: true, output } => {
                    let result = match wants {
                        Wants::Text => json!({"content": output}),
                        _ => json!({}),
                    };
                    Message::result(id, &result)
                }
                Answer::NoSuchFile => Message::error(id, NOT_FOUND, "there is no such file"),
                Answer::Returned { output: why, .. } | Answer::Deny { reason: Some(why) } => {
                    Message::error(id, jsonrpc::INTERNAL_ERROR, why)
                }
                _ => Message::error(id, jsonrpc::INTERNAL_ERROR, "not permitted"),
            },
        };
        Some(message.encode())
    }

    /// Takes one line of the agent's.
    pub fn receive(&mut self, line: &[u8]) -> Vec<Signal> {
        let mut signals = Vec::new();
        match jsonrpc::decode(line) {
            Line::Blank | Line::Noise => {}
            Line::Message(Message::Notification { params, .. }) => {
                if let Some(params) = params
                    && let Ok(update) = params.read::<SessionUpdate<'_>>()
                    && self.is_ours(&update.session_id)
                {
                    self.on_update(&update.update, &mut signals);
                }
            }
            Line::Message(Message::Request { id, method, params }) => {
                self.on_request(id, &method, params.as_ref(), &mut signals);
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
        self.pending.clear();
        if self.turn.take().is_some() {
            return vec![Signal::Ended(Outcome::Failed(failure))];
        }
        let awaited = self.awaited.take();
        let failed = awaited.map(|_| {
            Signal::Failed(Failure {
                may_have_charged: false,
                ..failure
            })
        });
        failed.into_iter().collect()
    }

    /// The session's id; empty before it is known.
    pub fn session(&self) -> &str {
        self.peer.session.as_deref().unwrap_or_default()
    }

    /// The text since the last tool call, as it was sent: partial tries and notices of the agent stand in it. The exact
    /// answer is in the log.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of arguments of tools that are not over.
    pub fn held(&self) -> usize {
        let calls = self.turn.iter().flat_map(|turn| &turn.calls);
        let lengths = calls.map(|call| call.arguments.as_ref().map_or(0, String::len));
        lengths.sum()
    }

    /// Takes back the text of the step, when the log tells of a second try. Until then it may be shown as provisional.
    pub fn supersede(&mut self) -> Option<Event> {
        let step = self.turn.as_ref()?.step;
        let said = !std::mem::take(&mut self.text).is_empty();
        said.then_some(Event::Superseded { step })
    }

    fn next_id(&mut self) -> Id {
        self.ids += 1;
        Id::text(self.ids.to_string())
    }

    fn is_ours(&self, session: &str) -> bool {
        self.peer
            .session
            .as_deref()
            .is_none_or(|own| own == session)
    }

    fn ask(&mut self, phase: Phase, method: &str, params: &Value) -> String {
        let id = self.next_id();
        self.awaited = Some((id.clone(), phase));
        Message::request(id, method, params).encode()
    }

    fn on_response(
        &mut self,
        id: Option<&Id>,
        result: Result<Json<'_>, RpcError<'_>>,
        signals: &mut Vec<Signal>,
    ) {
        // An error without an id says that a line of ours could not be read: what is awaited will not come.
        let lost = id.is_none() && result.is_err();
        if let Some((_, phase)) = self.awaited.take_if(|(own, _)| lost || Some(&*own) == id) {
            signals.push(match result {
                Ok(result) => self.advance(phase, &result),
                // Restoring what the user did not ask for is no reason to fail.
                Err(_) if phase == Phase::Thinking && self.options.thinking.is_none() => {
                    self.ready()
                }
                Err(error) => Signal::Failed(refused(phase, &error)),
            });
        } else if self
            .turn
            .take_if(|turn| lost || Some(&turn.id) == id)
            .is_some()
        {
            self.pending.clear();
            signals.push(match result {
                Ok(result) => Signal::Answered(stop_reason(&result)),
                Err(error) => Signal::Ended(Outcome::Failed(failure(&error))),
            });
        }
    }

    /// What follows a step of the handshake that went well.
    fn advance(&mut self, done: Phase, result: &Json<'_>) -> Signal {
        match done {
            Phase::Initialize => {
                let hello: Hello = result.read().unwrap_or_default();
                self.peer.name = hello.agent_info.name;
                self.peer.version = hello.agent_info.version;
                self.peer.protocol = hello.protocol_version.map(|v| v.to_string());
                let cwd = self.options.directory.as_str();
                let (method, mut params) = match &self.options.session {
                    Session::New => ("session/new", json!({"cwd": cwd, "mcpServers": []})),
                    // Not `session/load`: that one first repeats the whole history to us.
                    Session::Resume(id) => {
                        self.peer.session = Some(id.clone());
                        let params = json!({"sessionId": id, "cwd": cwd, "mcpServers": []});
                        ("session/resume", params)
                    }
                };
                let more = &self.options.more_directories;
                if let (Value::Object(members), false) = (&mut params, more.is_empty()) {
                    members.insert("additionalDirectories".to_string(), json!(more));
                }
                Signal::Send(self.ask(Phase::Session, method, &params))
            }
            Phase::Session => {
                let session: SessionResult = result.read().unwrap_or_default();
                self.peer.session = session.session_id.or_else(|| self.peer.session.take());
                self.see_options(&session.config_options);
                let mut modes = session
                    .modes
                    .iter()
                    .flat_map(|modes| &modes.available_modes);
                // Not every answer lists the modes.
                let is_offered = session.modes.is_none() || modes.any(|mode| mode.id == ASKS);
                if self.options.asks && is_offered {
                    let params = json!({"sessionId": self.session(), "modeId": ASKS});
                    return Signal::Send(self.ask(Phase::Mode, "session/set_mode", &params));
                }
                self.set_model()
            }
            Phase::Mode => self.set_model(),
            Phase::Model => self.set_thinking(true),
            Phase::Thinking => self.ready(),
        }
    }

    fn set_model(&mut self) -> Signal {
        match self.options.model.clone() {
            Some(model) => {
                let params = json!({"sessionId": self.session(), "modelId": model});
                Signal::Send(self.ask(Phase::Model, "session/set_model", &params))
            }
            None => self.set_thinking(false),
        }
    }

    /// A switch of the model turns thinking off and goes on showing it as on, so what is shown must be set again.
    fn set_thinking(&mut self, switched: bool) -> Signal {
        let shown = self.thinking.clone().filter(|_| switched);
        match self.options.thinking.clone().or(shown) {
            Some(value) => {
                let params =
                    json!({"sessionId": self.session(), "configId": "thinking", "value": value});
                Signal::Send(self.ask(Phase::Thinking, "session/set_config_option", &params))
            }
            None => self.ready(),
        }
    }

    fn ready(&self) -> Signal {
        Signal::Ready(self.peer.clone())
    }

    /// Notes what thinking is shown as; a model without it has no such option.
    fn see_options(&mut self, options: &[ConfigOption]) {
        let thinking = options.iter().find(|option| option.id == "thinking");
        self.thinking = thinking.and_then(|option| option.current_value.clone());
    }

    fn on_update(&mut self, update: &Update<'_>, signals: &mut Vec<Signal>) {
        if update.kind == "config_option_update" {
            if let Some(options) = &update.config_options {
                self.see_options(options);
            }
            return;
        }
        // What comes outside a turn is an old session's history.
        let Some(turn) = &mut self.turn else {
            return;
        };
        match update.kind.as_str() {
            "agent_message_chunk" | "agent_thought_chunk" => {
                let Some(text) = update.chunk() else {
                    return;
                };
                if turn.step == 0 || std::mem::replace(&mut turn.tool, false) {
                    turn.step += 1;
                    self.text.clear();
                    signals.push(Signal::Event(Event::Step { step: turn.step }));
                }
                let step = turn.step;
                signals.push(Signal::Event(if update.kind == "agent_message_chunk" {
                    self.text.push_str(&text);
                    Event::Text { step, text }
                } else {
                    Event::Thinking { step, text }
                }));
            }
            "tool_call" | "tool_call_update" => {
                let Some(id) = update.tool_call_id.clone() else {
                    return;
                };
                if turn.step == 0 {
                    turn.step = 1;
                    signals.push(Signal::Event(Event::Step { step: 1 }));
                }
                turn.tool = true;
                if update.kind == "tool_call" {
                    let name = update.title.clone().unwrap_or_default();
                    signals.push(Signal::Event(Event::Tool {
                        call: id.clone(),
                        name: name.clone(),
                        agent: None,
                    }));
                    turn.calls.push(Call {
                        id: id.clone(),
                        name,
                        arguments: None,
                        paths: Vec::new(),
                        is_reported: false,
                    });
                }
                if let Some(call) = turn.calls.iter_mut().rfind(|call| call.id == id) {
                    call.learn(update);
                    if let Some(arguments) = call.arguments.as_ref().filter(|_| !call.is_reported) {
                        signals.push(Signal::Event(Event::ToolUsed {
                            call: id.clone(),
                            arguments: arguments.clone(),
                        }));
                        call.is_reported = true;
                    }
                }
                if let Some(status @ ("completed" | "failed")) = update.status.as_deref() {
                    let texts: Vec<String> =
                        update.blocks().iter().filter_map(Block::text).collect();
                    if let Some(call) = turn.calls.iter_mut().rfind(|call| call.id == id) {
                        // They are not needed any more.
                        call.arguments = None;
                    }
                    signals.push(Signal::Event(Event::ToolDone {
                        call: id,
                        ok: status == "completed",
                        output: start_of(&texts.concat()),
                    }));
                }
            }
            _ => {}
        }
    }

    fn on_request(
        &mut self,
        id: Id,
        method: &str,
        params: Option<&Json<'_>>,
        signals: &mut Vec<Signal>,
    ) {
        let refusal = match method {
            "session/request_permission" => {
                let request = params.and_then(|params| params.read::<PermissionRequest>().ok());
                let what = request
                    .as_ref()
                    .and_then(|request| self.understand(request));
                if let (Some(what), Some(request)) = (what, request) {
                    let paths = match &what {
                        Asked::Permission(permission) => permission.paths.clone(),
                        _ => Vec::new(),
                    };
                    let wants = Wants::Choice(request.options, paths);
                    return signals.push(self.asked(id, wants, what));
                }
                Message::result(id, &json!({"outcome": {"outcome": "cancelled"}}))
            }
            "fs/read_text_file" | "fs/write_text_file" if self.options.files => {
                let is_write = method == "fs/write_text_file";
                match params.map(Json::read::<TextFile>) {
                    Some(Ok(file))
                        if self.is_ours(&file.session_id) && file.content.is_some() == is_write =>
                    {
                        return signals.push(self.on_file(id, file));
                    }
                    _ => Message::error(id, jsonrpc::INVALID_PARAMS, "no file of this session"),
                }
            }
            "elicitation/create" => Message::result(id, &json!({"action": "decline"})),
            _ => Message::error(id, jsonrpc::METHOD_NOT_FOUND, "not supported"),
        };
        signals.push(Signal::Send(refusal.encode()));
    }

    /// Notes that an answer is owed, and asks for it.
    fn asked(&mut self, id: Id, wants: Wants, what: Asked) -> Signal {
        self.pending.push(Pending {
            id: id.clone(),
            wants,
        });
        Signal::Ask(Ask {
            id: AskId(id),
            what,
        })
    }

    fn on_file(&mut self, id: Id, file: TextFile) -> Signal {
        let path = file.path;
        // Tools name files relative to the directory too.
        let is_it =
            |named: &String| Path::new(&self.options.directory).join(named) == Path::new(&path);
        let turn = self.turn.as_mut();
        let approved = turn.and_then(|turn| {
            let at = turn.approved.iter().position(is_it)?;
            Some(turn.approved.swap_remove(at))
        });
        let calls = self.turn.iter().flat_map(|turn| turn.calls.iter().rev());
        let call = calls
            .into_iter()
            .find(|call| call.files().iter().any(is_it));
        let tool = call.map(|call| call.name.clone());
        let Some(content) = file.content else {
            return self.asked(id, Wants::Text, Asked::ReadFile { path, tool });
        };
        let permission = Permission {
            call: call.map(|call| call.id.clone()).unwrap_or_default(),
            // A sub-agent's calls are not announced; what writes is one of two tools, and to a rule the difference is the path.
            agent: call.is_none().then(String::new),
            tool: tool.unwrap_or_else(|| "Write".to_string()),
            action: format!("Writing {path}"),
            paths: vec![path.clone()],
            ..Permission::default()
        };
        let what = Asked::WriteFile {
            permission,
            content,
            approved: approved.is_some(),
        };
        self.asked(id, Wants::Done, what)
    }

    /// What is asked, by the options' ids; `None` when they are none that are known.
    fn understand(&self, request: &PermissionRequest) -> Option<Asked> {
        let call = &request.tool_call;
        let has = |is: fn(&str) -> bool| request.options.iter().any(|o| is(&o.option_id));
        let texts: Vec<String> = call.texts().collect();
        if has(|id| id.starts_with("plan_")) {
            return Some(Asked::Plan {
                text: texts.into_iter().next().unwrap_or_default(),
            });
        }
        if has(is_question) {
            let text = texts.into_iter().next().unwrap_or_default();
            return Some(Asked::Questions(vec![text]));
        }
        if !has(|id| id == "approve_once") {
            return None;
        }
        let turn = self.turn.as_ref();
        let known = turn.and_then(|t| t.calls.iter().rfind(|c| c.id == call.tool_call_id));
        let arguments = known.and_then(|call| call.arguments.clone());
        let mut paths = known.map(|call| call.paths.clone()).unwrap_or_default();
        paths.extend(call.content.iter().filter_map(|block| block.path.clone()));
        paths.dedup();
        Some(Asked::Permission(Permission {
            command: arguments.as_deref().and_then(command),
            // A sub-agent's calls are never announced, so what is not known is one's, whose name is not told.
            agent: known.is_none().then(String::new),
            tool: known.map_or_else(|| call.title.clone(), |call| call.name.clone()),
            call: call.tool_call_id.clone(),
            action: texts.into_iter().next_back().unwrap_or_default(),
            arguments,
            paths,
        }))
    }
}

impl Call {
    /// Takes over what an update tells about the arguments. They come as text while they are written, as a value later;
    /// after that, text is output.
    fn learn(&mut self, update: &Update<'_>) {
        if let Some(raw) = update.raw_input {
            self.arguments = Some(raw.get().to_string());
        } else if update.status.as_deref() == Some("in_progress")
            && let Some(text) = update.blocks().iter().find_map(|block| block.text())
            && serde_json::from_str::<&RawValue>(&text).is_ok()
        {
            self.arguments = Some(text);
        }
        let paths = update.blocks().into_iter().filter_map(|block| block.path);
        self.paths.extend(paths);
        self.paths.dedup();
    }

    /// The files that it is about, as it names them.
    fn files(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct OfFile {
            path: String,
        }
        let arguments = self.arguments.as_deref();
        let named = arguments.and_then(|arguments| serde_json::from_str::<OfFile>(arguments).ok());
        let named = named.map(|OfFile { path }| path);
        self.paths.iter().cloned().chain(named).collect()
    }
}

/// `q0_opt_1`, but not `q0_skip`.
fn is_question(option: &str) -> bool {
    let rest = option.strip_prefix('q').unwrap_or_default();
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.starts_with("_opt_")
}

/// The command in a shell tool's arguments.
fn command(arguments: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Shell {
        command: String,
    }
    serde_json::from_str(arguments)
        .ok()
        .map(|Shell { command }| command)
}

/// The answer to a permission request. What cannot be expressed cancels the request, which refuses.
fn outcome(options: &[Choice], answer: &Answer) -> Value {
    let by_id = |id: &str| options.iter().find(|o| o.option_id == id);
    let is_plan = options.iter().any(|o| o.option_id.starts_with("plan_"));
    let question = options.iter().any(|o| is_question(&o.option_id));
    let chosen = match answer {
        _ if question => None,
        Answer::Allow if is_plan => by_id("plan_approve"),
        Answer::Deny { reason: Some(_) } if is_plan => by_id("plan_revise"),
        _ if is_plan => by_id("plan_reject_and_exit"),
        Answer::Allow => by_id("approve_once"),
        _ => by_id("reject"),
    };
    let skip = || {
        options
            .iter()
            .find(|o| question && o.option_id.ends_with("_skip"))
    };
    match chosen.or_else(skip) {
        Some(choice) => {
            json!({"outcome": {"outcome": "selected", "optionId": choice.option_id}})
        }
        None => json!({"outcome": {"outcome": "cancelled"}}),
    }
}

/// The prompt as ACP takes it. One leading blank is enough to make a slash text.
fn blocks(prompt: &Prompt) -> Value {
    let mut guard = prompt.looks_like_a_command();
    let blocks = prompt.parts.iter().map(|part| match part {
        Part::Text(text) if std::mem::take(&mut guard) => {
            json!({"type": "text", "text": format!(" {text}")})
        }
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image { mime, base64 } => {
            json!({"type": "image", "data": base64, "mimeType": mime})
        }
    });
    Value::Array(blocks.collect())
}

fn stop_reason(result: &Json<'_>) -> Answered {
    let result: PromptResult = result.read().unwrap_or_default();
    match result.stop_reason.as_str() {
        "end_turn" => Answered::EndTurn,
        "cancelled" => Answered::Cancelled,
        "refusal" => Answered::Refused,
        other => Answered::Other(other.to_string()),
    }
}

/// Why the handshake failed.
fn refused(phase: Phase, error: &RpcError<'_>) -> Failure {
    let kind = match error.code {
        _ if phase == Phase::Initialize => FailureKind::WrongProtocol,
        -32000 => FailureKind::NotConfigured,
        _ if phase == Phase::Model => FailureKind::UnknownModel,
        jsonrpc::INVALID_PARAMS if error.message.contains("sessionId") => {
            FailureKind::UnknownSession
        }
        jsonrpc::INTERNAL_ERROR | jsonrpc::INVALID_PARAMS => FailureKind::Agent,
        _ => FailureKind::Protocol,
    };
    Failure {
        may_have_charged: false,
        ..Failure::new(kind, error.code.to_string(), &message(error))
    }
}

/// Why a prompt failed, where the agent admits it.
fn failure(error: &RpcError<'_>) -> Failure {
    let code = error.code.to_string();
    let data = error.data.as_ref().map_or("", Json::as_str);
    let status = crate::transport::agent::http_status(&error.message);
    let kind = match error.code {
        -32000 if status.is_some() => return Failure::from_service(code, status, &error.message),
        -32000 => FailureKind::NotConfigured,
        jsonrpc::INVALID_REQUEST if data.contains("turn.agent_busy") => FailureKind::Busy,
        jsonrpc::INVALID_PARAMS if error.message.contains("sessionId") => {
            FailureKind::UnknownSession
        }
        jsonrpc::INTERNAL_ERROR => {
            return Failure::new(FailureKind::Agent, code, &message(error));
        }
        _ => FailureKind::Protocol,
    };
    Failure {
        // Nothing that fails before the model is asked can cost anything.
        may_have_charged: false,
        ..Failure::new(kind, code, &message(error))
    }
}

/// The details where there are some: the message is then only "Internal error".
fn message(error: &RpcError<'_>) -> String {
    #[derive(Deserialize)]
    struct Details {
        details: String,
    }
    let data = error.data.as_ref();
    match data.and_then(|data| data.read::<Details>().ok()) {
        Some(Details { details }) => details,
        None => error.message.clone(),
    }
}

#[cfg(test)]
mod tests;
