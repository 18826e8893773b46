//! An agent that speaks Kimi Wire: kimi-cli up to 1.51 and kimi-agent.
//!
//! Its protocol is honest, so its word on the end of a turn and on usage is taken. The model is not offered the tool that
//! asks questions, since nobody is there to answer. Refuses tools and hooks of our own, and keeps no conversation: each run
//! is a process of its own, in the session that its arguments name.
//!
//! Two things kimi-cli does not say. It makes a second try after a stream that broke, and sends both tries' text; and it
//! drops a new session's first prompt that is too long for the window, and asks without it. Where the session's file is
//! known, [`WireLlmClient::in_session`], the answer is taken from there and the missing prompt is an error.
//!
//! kimi-agent 1.8 does neither, and hides others that no file tells: how often it asked again, so an empty answer that it
//! asked again for is missing from the usage; and that it drops what came in one piece with the end of a stream. So an
//! answer over Wire is never said to be complete.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::llm::client::LlmClient;
use crate::llm::client::LlmClientConfig;
use crate::llm::client::Observer;
use crate::llm::client::Permissions;
use crate::llm::client::Request;
use crate::llm::client::agent::Agent;
use crate::llm::client::agent::Launch;
use crate::llm::client::agent::Run;
use crate::llm::client::tape::Recorded;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::llm::types::UsageSource;
use crate::runtime::clock::SystemTimer;
use crate::runtime::clock::Timer;
use crate::transport::agent::Answer;
use crate::transport::agent::Answered;
use crate::transport::agent::AskId;
use crate::transport::agent::Asked;
use crate::transport::agent::Event;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Peer;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::agents::KIMI_CLI;
use crate::transport::child::Program;
use crate::transport::session_log::ContextSource;
use crate::transport::session_log::LogSource;
use crate::transport::session_log::SessionContext;
use crate::transport::session_log::SessionFiles;
use crate::transport::session_log::SessionLogs;
use crate::transport::tape::PlayedContext;
use crate::transport::tape::PlayedTime;
use crate::transport::tape::Player;
use crate::transport::tape::RecordedContext;
use crate::transport::tape::Recorder;
use crate::transport::wire::Options;
use crate::transport::wire::Wire;

/// How often the logs of sub-agents are looked into while the turn runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A client for one agent.
///
/// ```no_run
/// use omk::llm::client::{LlmClient, LlmClientConfig, Permissions, Rule, WireLlmClient};
/// use omk::llm::types::TokenBudget;
/// use omk::transport::child::Program;
///
/// let mut program = Program::new("/usr/local/bin/kimi");
/// program.args = vec!["--wire".into()];
/// let config = LlmClientConfig::for_model("kimi-k3");
/// let mut client = WireLlmClient::new(config, program)
///     .with_permissions(Permissions::of(Rule::parse_list("Shell(ls *)")?));
/// let answer = client.complete("Which files are here?", &mut TokenBudget::new(50_000))?;
/// println!("{}", answer.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WireLlmClient<
    L: Launch = Program,
    T: Timer = SystemTimer,
    C: ContextSource = SessionContext,
> {
    config: LlmClientConfig,
    permissions: Permissions,
    launcher: L,
    context: C,
    /// The session with the logs of its sub-agents, where it is known.
    session: Option<(String, Box<dyn LogSource>)>,
    timer: T,
}

impl<L: Launch> WireLlmClient<L> {
    /// A client that starts this agent for each attempt and lets it do nothing that it asks for.
    pub fn new(config: LlmClientConfig, launcher: L) -> WireLlmClient<L> {
        WireLlmClient {
            config,
            permissions: Permissions::default(),
            launcher,
            context: SessionContext::default(),
            session: None,
            timer: SystemTimer::default(),
        }
    }
}

impl WireLlmClient<Player, PlayedTime, PlayedContext> {
    /// A client for the agent on a tape. Nothing is started and no file is read.
    pub fn replay(config: LlmClientConfig, player: &Player) -> Self {
        let client = WireLlmClient::new(config, player.clone());
        client
            .with_context(player.context())
            .with_logs("", player.sub_agent_logs())
            .with_timer(player.timer())
    }
}

impl<L: Launch, T: Timer> WireLlmClient<L, T> {
    /// The same client, told which session its agent's arguments name and the home that the agent keeps it in, its
    /// `KIMI_SHARE_DIR`.
    #[must_use]
    pub fn in_session(
        self,
        home: impl Into<PathBuf>,
        session: impl Into<String>,
    ) -> WireLlmClient<L, T> {
        let (home, session) = (home.into(), session.into());
        let logs = SessionFiles::new(&KIMI_CLI, &home).sub_agents_only();
        self.with_context(SessionContext::new(home, &session))
            .with_logs(session, logs)
    }
}

impl<L: Launch, T: Timer, C: ContextSource> WireLlmClient<L, T, C> {
    /// The same client with other permissions.
    #[must_use]
    pub fn with_permissions(self, permissions: Permissions) -> WireLlmClient<L, T, C> {
        WireLlmClient {
            permissions,
            ..self
        }
    }

    /// The same client with another sense of time.
    pub fn with_timer<U: Timer>(self, timer: U) -> WireLlmClient<L, U, C> {
        WireLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: self.launcher,
            context: self.context,
            session: self.session,
            timer,
        }
    }

    /// The same client with what its agent keeps of the conversation in another place.
    pub fn with_context<D: ContextSource>(self, context: D) -> WireLlmClient<L, T, D> {
        WireLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: self.launcher,
            context,
            session: self.session,
            timer: self.timer,
        }
    }

    /// The same client with its session's sub-agents' logs in another place.
    #[must_use]
    pub fn with_logs(
        self,
        session: impl Into<String>,
        logs: impl LogSource + 'static,
    ) -> WireLlmClient<L, T, C> {
        WireLlmClient {
            session: Some((session.into(), Box::new(logs))),
            ..self
        }
    }

    /// The same client, recorded: what the agent says, and what is taken from the session's files.
    pub fn recorded(
        self,
        recorder: &Recorder,
    ) -> WireLlmClient<Recorded<L>, T, RecordedContext<C>> {
        let session = self.session.map(|(session, logs)| {
            let logs: Box<dyn LogSource> = Box::new(recorder.logs(logs, &KIMI_CLI));
            (session, logs)
        });
        WireLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: Recorded::new(self.launcher, recorder),
            context: recorder.context(self.context),
            session,
            timer: self.timer,
        }
    }
}

impl<L: Launch, T: Timer, C: ContextSource> LlmClient for WireLlmClient<L, T, C> {
    fn set_timeout(&mut self, timeout: Duration) {
        self.config.timeout = timeout;
    }

    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let mut run = Run {
            config: &self.config,
            permissions: &self.permissions,
            launcher: &mut self.launcher,
            request,
            budget,
        };
        let options = Options {
            client_version: env!("CARGO_PKG_VERSION").to_string(),
        };
        let context = &self.context;
        let session = RefCell::new(self.session.as_mut());
        let agent = || Filed {
            wire: Wire::new(options.clone()),
            context,
            session: &session,
            logs: SessionLogs::new(&KIMI_CLI),
            ended: false,
            exact: None,
        };
        run.ask(agent, &mut self.timer, observer)
    }
}

/// A session's name, and the logs of its sub-agents.
type Session<'a> = Option<&'a mut (String, Box<dyn LogSource>)>;

/// The protocol, and what the agent keeps on disk.
struct Filed<'a> {
    wire: Wire,
    context: &'a dyn ContextSource,
    session: &'a RefCell<Session<'a>>,
    /// What the logs of sub-agents say. Those that the agent waits for are on the wire too.
    logs: SessionLogs,
    /// The turn is over.
    ended: bool,
    /// The answer that was kept, if it is less than what was sent.
    exact: Option<String>,
}

impl Agent for Filed<'_> {
    fn source(&self) -> UsageSource {
        UsageSource::Provider
    }

    fn look_every(&self) -> Option<Duration> {
        self.session.borrow().is_some().then_some(LOOK_EVERY)
    }

    fn truth_delay(&self) -> Duration {
        Duration::ZERO
    }

    fn start(&mut self) -> String {
        self.wire.start()
    }

    fn prompt(&mut self, prompt: &Prompt) -> String {
        self.wire.prompt(prompt)
    }

    fn cancel(&mut self) -> Option<String> {
        self.wire.cancel()
    }

    fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String> {
        self.wire.answer(ask, answer)
    }

    fn receive(&mut self, line: &[u8]) -> Vec<Signal> {
        let mut signals = self.wire.receive(line);
        if signals.contains(&Signal::Event(Event::Compacted)) && self.context.has_lost_prompt() {
            signals.push(Signal::Event(Event::PromptCut));
        }
        self.ended |= signals.iter().any(|s| matches!(s, Signal::Ended(_)));
        signals
    }

    fn held(&self) -> usize {
        self.wire.held()
    }

    fn closed(&mut self) -> Vec<Signal> {
        self.wire.closed()
    }

    /// Wire has no such request.
    fn on_file(&mut self, _: &Asked) -> Answer {
        Answer::Deny { reason: None }
    }

    fn owns(&self, _: &str) -> bool {
        false
    }

    fn ready(&mut self, _: &Peer) -> Result<(), LlmError> {
        match &mut *self.session.borrow_mut() {
            // A session that begins has no directory yet.
            Some((session, logs)) => logs.follow(session).map(|_| ()).map_err(unread),
            None => Ok(()),
        }
    }

    fn look(&mut self) -> io::Result<Vec<Event>> {
        if self.ended && self.exact.is_none() {
            self.exact = self.context.answer(self.wire.text());
        }
        let Filed {
            wire,
            session,
            logs,
            ..
        } = self;
        let mut events = Vec::new();
        if let Some((_, source)) = &mut *session.borrow_mut() {
            source.read(&mut |agent, line| {
                let before = events.len();
                logs.read_line(agent, line, &mut events);
                if wire.includes(agent) {
                    events.truncate(before);
                }
            })?;
        }
        Ok(events)
    }

    /// Wire says how a turn ended when it says that it did, so this is not asked before it has.
    fn outcome(&self, answered: &Answered) -> Option<Outcome> {
        Some(match answered {
            Answered::Cancelled => Outcome::Cancelled,
            _ => Outcome::Finished(Finish::Unknown),
        })
    }

    fn silence(&self) -> String {
        "the agent does not say how the turn ended".to_string()
    }

    fn usage(&self) -> UsageSum {
        let mut usage = self.wire.usage();
        usage.merge(&self.logs.usage_without(|agent| self.wire.includes(agent)));
        if self.exact.is_some() {
            // The try that broke is on the bill too, and nothing reports for how much.
            usage.add(None);
        }
        usage
    }

    fn is_busy(&self) -> bool {
        self.logs.is_busy_without(|agent| self.wire.includes(agent))
    }

    fn close(&mut self) -> Vec<Event> {
        // What cannot be read is what was not reported.
        let mut events = self.look().unwrap_or_default();
        self.logs
            .close_without(|agent| self.wire.includes(agent), &mut events);
        events
    }

    fn text(&self) -> &str {
        self.exact.as_deref().unwrap_or(self.wire.text())
    }

    fn streamed(&self) -> &str {
        self.wire.text()
    }

    fn model(&self) -> Option<&str> {
        None
    }
}

fn unread(error: io::Error) -> LlmError {
    LlmError::Io {
        detail: format!("the session's logs: {error}"),
    }
}
