//! Kimi Code 2, over the Agent Client Protocol and its session's own log.
//!
//! The protocol says "end of turn" for most failures, tells no usage and streams broken tries as if they were the answer.
//! So the log is followed from before the prompt: retries and usage are read from it while the turn runs, and how it ended,
//! what it used and the exact answer when it is over. Refuses to ask where the log cannot be found, and to take a turn for a
//! success whose log stays silent.

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
use crate::llm::client::permissions;
use crate::llm::client::tape::Recorded;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::llm::types::UsageSource;
use crate::runtime::clock::SystemTimer;
use crate::runtime::clock::Timer;
use crate::transport::acp::Acp;
use crate::transport::acp::LOG_DELAY;
use crate::transport::acp::Options;
use crate::transport::agent::Answer;
use crate::transport::agent::Answered;
use crate::transport::agent::AskId;
use crate::transport::agent::Asked;
use crate::transport::agent::Event;
use crate::transport::agent::Outcome;
use crate::transport::agent::Part;
use crate::transport::agent::Peer;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::agents::Dialect;
use crate::transport::agents::kimi_code;
use crate::transport::child::Program;
use crate::transport::session_log::LogSource;
use crate::transport::session_log::SessionFiles;
use crate::transport::session_log::SessionLog;
use crate::transport::session_log::SessionLogs;
use crate::transport::tape::PlayedTime;
use crate::transport::tape::Player;
use crate::transport::tape::Recorder;
use crate::transport::workspace::Disk;
use crate::transport::workspace::Workspace;

/// How often the log is looked into while the turn runs. The agent waits half a second at least before it tries again, so
/// a retry is seen before the next try says anything.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client for one agent.
///
/// ```no_run
/// use omk::llm::client::{AcpLlmClient, LlmClient, LlmClientConfig};
/// use omk::llm::types::TokenBudget;
/// use omk::transport::acp::Options;
/// use omk::transport::agents::KIMI_CODE;
/// use omk::transport::child::Program;
///
/// let mut program = Program::new("/usr/local/bin/kimi");
/// program.args = vec!["acp".into()];
/// let options = Options {
///     directory: "/tmp".to_string(),
///     ..Options::default()
/// };
/// let config = LlmClientConfig::for_model("kimi-k3");
/// let mut client = AcpLlmClient::new(config, program, options, &KIMI_CODE, "/var/lib/kimi-code");
/// let answer = client.complete("What is the capital of France?", &mut TokenBudget::new(50_000))?;
/// println!("{}", answer.text);
/// # Ok::<(), omk::llm::error::LlmError>(())
/// ```
#[derive(Debug)]
pub struct AcpLlmClient<L: Launch = Program, T: Timer = SystemTimer> {
    config: LlmClientConfig,
    permissions: Permissions,
    launcher: L,
    options: Options,
    dialect: &'static Dialect,
    logs: Box<dyn LogSource>,
    workspace: Box<dyn Workspace>,
    timer: T,
}

impl<L: Launch> AcpLlmClient<L> {
    /// A client that starts this agent for each attempt and lets it do nothing that it asks for. `home` is where the agent
    /// keeps its sessions.
    ///
    /// The agent is put in the mode in which it asks before it acts, whatever it is configured to.
    pub fn new(
        config: LlmClientConfig,
        launcher: L,
        options: Options,
        dialect: &'static Dialect,
        home: impl Into<PathBuf>,
    ) -> AcpLlmClient<L> {
        AcpLlmClient {
            config,
            permissions: Permissions::default(),
            launcher,
            options: Options {
                client_version: env!("CARGO_PKG_VERSION").to_string(),
                asks: true,
                ..options
            },
            dialect,
            logs: Box::new(SessionFiles::new(dialect, home)),
            workspace: Box::new(Disk),
            timer: SystemTimer::default(),
        }
    }
}

impl AcpLlmClient<Player, PlayedTime> {
    /// A client for the agent on a tape. Nothing is started and no file is read.
    pub fn replay(
        config: LlmClientConfig,
        player: &Player,
        options: Options,
        dialect: &'static Dialect,
    ) -> Self {
        let client = AcpLlmClient::new(config, player.clone(), options, dialect, PathBuf::new());
        client
            .with_logs(player.logs())
            .with_workspace(player.files())
            .with_timer(player.timer())
    }
}

impl<L: Launch, T: Timer> AcpLlmClient<L, T> {
    /// The same client with other permissions.
    #[must_use]
    pub fn with_permissions(self, permissions: Permissions) -> AcpLlmClient<L, T> {
        AcpLlmClient {
            permissions,
            ..self
        }
    }

    /// The same client with another sense of time.
    pub fn with_timer<U: Timer>(self, timer: U) -> AcpLlmClient<L, U> {
        AcpLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: self.launcher,
            options: self.options,
            dialect: self.dialect,
            logs: self.logs,
            workspace: self.workspace,
            timer,
        }
    }

    /// The same client with its sessions' logs in another place.
    #[must_use]
    pub fn with_logs(self, logs: impl LogSource + 'static) -> AcpLlmClient<L, T> {
        AcpLlmClient {
            logs: Box::new(logs),
            ..self
        }
    }

    /// The same client with the user's files in another place.
    #[must_use]
    pub fn with_workspace(self, workspace: impl Workspace + 'static) -> AcpLlmClient<L, T> {
        AcpLlmClient {
            workspace: Box::new(workspace),
            ..self
        }
    }

    /// The same client, recorded: what the agent says and is sent, and what its sessions' logs say.
    pub fn recorded(self, recorder: &Recorder) -> AcpLlmClient<Recorded<L>, T> {
        AcpLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: Recorded::new(self.launcher, recorder),
            options: self.options,
            dialect: self.dialect,
            logs: Box::new(recorder.logs(self.logs, self.dialect)),
            workspace: self.workspace,
            timer: self.timer,
        }
    }
}

impl<L: Launch, T: Timer> LlmClient for AcpLlmClient<L, T> {
    fn set_timeout(&mut self, timeout: Duration) {
        self.config.timeout = timeout;
    }

    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let options = Options {
            // Where it may do all, its own writing is what was asked for.
            files: self.permissions != Permissions::All,
            ..self.options.clone()
        };
        let source: RefCell<&mut dyn LogSource> = RefCell::new(&mut *self.logs);
        let workspace: RefCell<&mut dyn Workspace> = RefCell::new(&mut *self.workspace);
        let dialect = self.dialect;
        let mut run = Run {
            config: &self.config,
            permissions: &self.permissions,
            launcher: &mut self.launcher,
            request,
            budget,
        };
        let agent = || Logged {
            acp: Acp::new(options.clone()),
            source: &source,
            workspace: &workspace,
            logs: SessionLogs::new(dialect),
            keeps_whole: true,
            unread: false,
        };
        run.ask(agent, &mut self.timer, observer)
    }
}

/// The protocol, and the log that tells the truth about it.
struct Logged<'a> {
    acp: Acp,
    source: &'a RefCell<&'a mut dyn LogSource>,
    workspace: &'a RefCell<&'a mut dyn Workspace>,
    /// What the agents' logs say.
    logs: SessionLogs,
    /// Whether the prompt is short enough to survive when the agent shortens the conversation.
    keeps_whole: bool,
    /// The log was longer at the end than there was time to read.
    unread: bool,
}

impl Agent for Logged<'_> {
    fn source(&self) -> UsageSource {
        UsageSource::SessionLog
    }

    fn look_every(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    fn truth_delay(&self) -> Duration {
        LOG_DELAY
    }

    fn start(&mut self) -> String {
        self.acp.start()
    }

    fn prompt(&mut self, prompt: &Prompt) -> String {
        self.keeps_whole = prompt.parts.iter().all(|part| match part {
            Part::Text(text) => kimi_code::keeps_whole(text),
            _ => true,
        });
        self.acp.prompt(prompt)
    }

    fn cancel(&mut self) -> Option<String> {
        self.acp.cancel()
    }

    fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String> {
        self.acp.answer(ask, answer)
    }

    fn receive(&mut self, line: &[u8]) -> Vec<Signal> {
        self.acp.receive(line)
    }

    fn held(&self) -> usize {
        self.acp.held()
    }

    fn closed(&mut self) -> Vec<Signal> {
        self.acp.closed()
    }

    fn on_file(&mut self, what: &Asked) -> Answer {
        let mut workspace = self.workspace.borrow_mut();
        let done = match what {
            Asked::ReadFile { path, tool } => {
                // What a tool shows may be shown with replacements; what one writes back may not.
                let is_shown = tool.as_deref().is_some_and(permissions::reads);
                workspace.read(path, is_shown)
            }
            Asked::WriteFile {
                permission,
                content,
                ..
            } => permission
                .paths
                .iter()
                .try_for_each(|path| workspace.write(path, content))
                .map(|()| String::new()),
            _ => return Answer::Deny { reason: None },
        };
        match done {
            Ok(output) => Answer::Returned { ok: true, output },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::NoSuchFile,
            Err(error) => Answer::Returned {
                ok: false,
                output: error.to_string(),
            },
        }
    }

    fn owns(&self, path: &str) -> bool {
        self.source.borrow().owns(path)
    }

    fn ready(&mut self, peer: &Peer) -> Result<(), LlmError> {
        let session = peer.session.as_deref().unwrap_or_default();
        let error = match self.source.borrow_mut().follow(session) {
            Ok(true) => return Ok(()),
            Ok(false) => "there is none".to_string(),
            Err(error) => error.to_string(),
        };
        Err(LlmError::AgentUnavailable {
            detail: format!(
                "the log of the session {session:?} was looked for in {} and {error}; without it nobody would know how \
                 the turn ended",
                self.source.borrow().place()
            ),
        })
    }

    fn look(&mut self) -> io::Result<Vec<Event>> {
        let Logged {
            acp, source, logs, ..
        } = self;
        let mut found = Vec::new();
        source.borrow_mut().read(&mut |agent, line| {
            logs.read_line(agent, line, &mut found);
        })?;
        let mut events = Vec::with_capacity(found.len());
        for event in found {
            if matches!(event, Event::Retry(_)) {
                events.extend(acp.supersede());
            }
            events.push(event);
        }
        if !self.keeps_whole && self.logs.main().is_some_and(SessionLog::was_elided) {
            events.push(Event::PromptCut);
        }
        Ok(events)
    }

    fn outcome(&self, answered: &Answered) -> Option<Outcome> {
        self.logs.main()?.outcome(answered)
    }

    fn silence(&self) -> String {
        format!(
            "the agent says that the turn is over, and its log {} does not say how",
            self.source.borrow().place()
        )
    }

    fn usage(&self) -> UsageSum {
        let mut usage = self.logs.usage_without(|_| false);
        if self.unread {
            // The rest may hold calls that are not known.
            usage.add(None);
        }
        usage
    }

    fn is_busy(&self) -> bool {
        self.logs.is_busy_without(|_| false)
    }

    fn close(&mut self) -> Vec<Event> {
        // Its log is complete now. What cannot be read is what was not reported.
        let mut events = self.look().unwrap_or_default();
        self.unread = self.source.borrow().is_behind();
        self.logs.close_without(|_| false, &mut events);
        events
    }

    fn text(&self) -> &str {
        let exact = self.logs.main().and_then(SessionLog::text);
        exact.unwrap_or_else(|| self.acp.text())
    }

    fn streamed(&self) -> &str {
        self.acp.text()
    }

    fn model(&self) -> Option<&str> {
        self.logs.main()?.model()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use crate::transport::agent::CallEnd;
    use crate::transport::agent::Finish;
    use crate::transport::agent::Usage;
    use crate::transport::agents::KIMI_CODE;

    /// A session of which the log holds an earlier turn.
    fn session(home: &Path) -> PathBuf {
        let path = home.join("sessions/wd_x/s/agents/main/wire.jsonl");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        append(
            &path,
            &[
                USED,
                r#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#,
            ],
        );
        path
    }

    /// An agent in that session, greeted and ready for a prompt.
    fn greeted<'a>(
        source: &'a RefCell<&'a mut dyn LogSource>,
        workspace: &'a RefCell<&'a mut dyn Workspace>,
    ) -> Logged<'a> {
        let mut agent = Logged {
            acp: Acp::new(Options::default()),
            source,
            workspace,
            logs: SessionLogs::new(&KIMI_CODE),
            keeps_whole: true,
            unread: false,
        };
        agent.start();
        agent.receive(br#"{"id":"1","result":{}}"#);
        let signals = agent.receive(br#"{"id":"2","result":{"sessionId":"s"}}"#);
        let [Signal::Ready(peer)] = &signals[..] else {
            panic!("{signals:?}");
        };
        agent.ready(peer).unwrap();
        agent
    }

    fn append(path: &Path, lines: &[&str]) {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }

    const USED: &str = r#"{"type":"usage.record","model":"m","usage":{"inputOther":5,"output":2},"usageScope":"turn"}"#;

    #[test]
    fn a_retry_takes_back_what_was_streamed_before_it_and_old_turns_are_not_counted() {
        let home = std::env::temp_dir().join(format!("omk-acp-{}", std::process::id()));
        let path = session(&home);
        let (mut files, mut disk) = (SessionFiles::new(&KIMI_CODE, &home), Disk);
        let source: RefCell<&mut dyn LogSource> = RefCell::new(&mut files);
        let workspace: RefCell<&mut dyn Workspace> = RefCell::new(&mut disk);
        let mut agent = greeted(&source, &workspace);
        agent.prompt(&Prompt::text("go"));
        let chunk = r#"{"method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"part "}}}}"#;
        agent.receive(chunk.as_bytes());
        assert_eq!(
            (agent.streamed(), agent.usage()),
            ("part ", UsageSum::default())
        );
        append(
            &path,
            &[
                r#"{"type":"turn.prompt","turnId":1,"origin":{"kind":"user"}}"#,
                r#"{"type":"llm.request","model":"kimi-k2"}"#,
                r#"{"type":"context.append_loop_event","event":{"type":"content.part","part":{"type":"text","text":"part "}}}"#,
                r#"{"type":"turn.step.retrying","nextAttempt":2,"maxAttempts":10,"delayMs":500,"errorMessage":"terminated"}"#,
            ],
        );
        let events = agent.look().unwrap();
        assert!(
            matches!(
                &events[..],
                [Event::CallStarted { .. }, Event::CallEnded(CallEnd::Unreported), Event::Superseded { step: 1 }, Event::Retry(retry)]
                    if retry.attempt == 2
            ),
            "{events:?}"
        );
        assert_eq!(agent.streamed(), "");
        assert_eq!(agent.outcome(&Answered::EndTurn), None);
        append(
            &path,
            &[
                USED,
                r#"{"type":"context.append_loop_event","event":{"type":"step.begin","turnId":"1","step":2}}"#,
                r#"{"type":"context.append_loop_event","event":{"type":"content.part","turnId":"1","part":{"type":"text","text":"whole"}}}"#,
                r#"{"type":"context.append_loop_event","event":{"type":"step.end","turnId":"1","finishReason":"end_turn","rawFinishReason":"stop"}}"#,
                r#"{"type":"turn.ended","turnId":1,"reason":"completed"}"#,
            ],
        );
        let usage = Usage {
            input: 5,
            output: 2,
            ..Usage::default()
        };
        assert_eq!(
            agent.look().unwrap(),
            [Event::CallEnded(CallEnd::Reported(usage))]
        );
        assert_eq!(
            agent.outcome(&Answered::EndTurn),
            Some(Outcome::Finished(Finish::Stop))
        );
        assert_eq!((agent.text(), agent.model()), ("whole", Some("kimi-k2")));
        // The first try said something, and what it cost will never be told.
        let sum = agent.usage();
        assert_eq!((sum.told, sum.calls, sum.unreported), (usage, 1, 1));
        fs::remove_dir_all(home).unwrap();
    }
}
