//! Kimi Code 2, over the Agent Client Protocol and its session's own log.
//!
//! The protocol says "end of turn" for most failures, tells no usage and streams broken tries as if they were the answer.
//! So the log is followed from before the prompt: retries and usage are read from it while the turn runs, and how it ended,
//! what it used and the exact answer when it is over. Refuses to ask where the log cannot be found, and to take a turn for a
//! success whose log stays silent.

use std::fs;
use std::io;
use std::path::Path;
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
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::llm::types::UsageSource;
use crate::runtime::clock::SystemTimer;
use crate::runtime::clock::Timer;
use crate::transport::acp::Acp;
use crate::transport::acp::LOG_DELAY;
use crate::transport::acp::Mode;
use crate::transport::acp::Options;
use crate::transport::agent::Answer;
use crate::transport::agent::Answered;
use crate::transport::agent::AskId;
use crate::transport::agent::Event;
use crate::transport::agent::Outcome;
use crate::transport::agent::Part;
use crate::transport::agent::Peer;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::child::Program;
use crate::transport::session_log;
use crate::transport::session_log::CodeFact;
use crate::transport::session_log::CodeLog;
use crate::transport::session_log::Tail;

/// How often the log is looked into while the turn runs. The agent waits half a second at least before it tries again, so
/// a retry is seen before the next try says anything.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client for one agent.
///
/// ```no_run
/// use omk::llm::client::{AcpLlmClient, LlmClient, LlmClientConfig};
/// use omk::llm::types::TokenBudget;
/// use omk::transport::acp::Options;
/// use omk::transport::child::Program;
/// use omk::transport::detect::Kind;
///
/// let mut program = Program::new("/usr/local/bin/kimi");
/// program.args = Kind::KimiCode.arguments().iter().map(Into::into).collect();
/// let options = Options {
///     directory: "/tmp".to_string(),
///     ..Options::default()
/// };
/// let config = LlmClientConfig::for_model("kimi-k3");
/// let mut client = AcpLlmClient::new(config, program, options, "/var/lib/kimi-code");
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
    home: PathBuf,
    timer: T,
}

impl<L: Launch> AcpLlmClient<L> {
    /// A client that starts this agent for each attempt and lets it do nothing that it asks for. `home` is where the agent
    /// keeps its sessions, its `KIMI_CODE_HOME`.
    ///
    /// A mode that the options leave open is [`Mode::Default`], not the agent's configured one: in some it asks for nothing,
    /// so that nothing could be denied.
    pub fn new(
        config: LlmClientConfig,
        launcher: L,
        options: Options,
        home: impl Into<PathBuf>,
    ) -> AcpLlmClient<L> {
        AcpLlmClient {
            config,
            permissions: Permissions::default(),
            launcher,
            options: Options {
                client_version: env!("CARGO_PKG_VERSION").to_string(),
                mode: options.mode.or(Some(Mode::Default)),
                ..options
            },
            home: home.into(),
            timer: SystemTimer::default(),
        }
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
            home: self.home,
            timer,
        }
    }

    /// The configuration, such as to give the next run the rest of a deadline.
    pub fn config_mut(&mut self) -> &mut LlmClientConfig {
        &mut self.config
    }
}

impl<L: Launch, T: Timer> LlmClient for AcpLlmClient<L, T> {
    fn run<O: Observer>(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut O,
    ) -> Result<LlmResponse, LlmError> {
        let mut run = Run {
            config: &self.config,
            permissions: &self.permissions,
            launcher: &mut self.launcher,
            request,
            budget,
        };
        let (options, home) = (&self.options, &self.home);
        let agent = || Logged {
            acp: Acp::new(options.clone()),
            home: home.clone(),
            directory: None,
            logs: Vec::new(),
            keeps_whole: true,
        };
        run.ask(agent, &mut self.timer, observer)
    }
}

/// The protocol, and the log that tells the truth about it.
struct Logged {
    acp: Acp,
    home: PathBuf,
    /// The session's; `None` before it is known.
    directory: Option<PathBuf>,
    /// The agents' logs, the main one's first.
    logs: Vec<Followed>,
    /// Whether the prompt is short enough to survive when the agent shortens the conversation.
    keeps_whole: bool,
}

/// A log that is followed.
struct Followed {
    tail: Tail,
    log: CodeLog,
}

impl Followed {
    fn new(tail: Tail) -> Followed {
        Followed {
            tail,
            log: CodeLog::default(),
        }
    }
}

impl Logged {
    fn main(&self) -> Option<&CodeLog> {
        self.logs.first().map(|followed| &followed.log)
    }

    /// Finds the session's directory and follows the logs in it from where they end now.
    fn follow(&mut self, session: &str) -> io::Result<bool> {
        let Some(directory) = session_directory(&self.home, session)? else {
            return Ok(false);
        };
        // The main agent's may come with the prompt, the others' with their agents.
        let mut paths = vec![directory.join("agents/main/wire.jsonl")];
        paths.extend(session_log::logs(&directory)?);
        for path in paths {
            if !self.follows(&path) {
                self.logs.push(Followed::new(Tail::at_end(path)?));
            }
        }
        self.directory = Some(directory);
        Ok(true)
    }

    fn follows(&self, path: &Path) -> bool {
        self.logs.iter().any(|known| known.tail.path() == path)
    }
}

/// Where a session keeps its logs: by the agent's index, or by looking for its id.
fn session_directory(home: &Path, session: &str) -> io::Result<Option<PathBuf>> {
    let index = match fs::read(home.join("session_index.jsonl")) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    match session_log::code_session_dir(&index, session) {
        Some(directory) => Ok(Some(directory)),
        None => session_log::find_session(&home.join("sessions"), session),
    }
}

impl Agent for Logged {
    const SOURCE: UsageSource = UsageSource::SessionLog;
    const LOOK_EVERY: Option<Duration> = Some(LOOK_EVERY);
    const TRUTH_DELAY: Duration = LOG_DELAY;

    fn start(&mut self) -> String {
        self.acp.start()
    }

    fn prompt(&mut self, prompt: &Prompt) -> String {
        self.keeps_whole = prompt.parts.iter().all(|part| match part {
            Part::Text(text) => session_log::code_keeps_whole(text),
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

    fn closed(&mut self) -> Option<Signal> {
        self.acp.closed()
    }

    fn ready(&mut self, peer: &Peer) -> Result<(), LlmError> {
        let session = peer.session.as_deref().unwrap_or_default();
        let error = match self.follow(session) {
            Ok(true) => return Ok(()),
            Ok(false) => "there is none".to_string(),
            Err(error) => error.to_string(),
        };
        Err(LlmError::AgentUnavailable {
            detail: format!(
                "the log of the session {session:?} was looked for in {} and {error}; without it nobody would know how \
                 the turn ended",
                self.home.display()
            ),
        })
    }

    fn look(&mut self) -> io::Result<Vec<Event>> {
        if let Some(directory) = &self.directory {
            for path in session_log::logs(directory)? {
                if !self.follows(&path) {
                    self.logs.push(Followed::new(Tail::new(path, 0)));
                }
            }
        }
        let Logged { acp, logs, .. } = self;
        let mut events = Vec::new();
        for (at, Followed { tail, log }) in logs.iter_mut().enumerate() {
            tail.read(|line| match log.read_line(line) {
                Some(CodeFact::Used { usage, .. }) => events.push(Event::Usage(usage)),
                // A sub-agent's retries are as little shown as its text.
                Some(CodeFact::Retry(retry)) if at == 0 => {
                    events.extend(acp.supersede());
                    events.push(Event::Retry(retry));
                }
                _ => {}
            })?;
        }
        if !self.keeps_whole && self.main().is_some_and(CodeLog::was_elided) {
            events.push(Event::PromptCut);
        }
        Ok(events)
    }

    fn outcome(&self, answered: &Answered) -> Option<Outcome> {
        self.main()?.outcome(answered)
    }

    fn silence(&self) -> String {
        let path = self.logs.first().map(|followed| followed.tail.path());
        let path = path.unwrap_or(&self.home);
        format!(
            "the agent says that the turn is over, and its log {} does not say how",
            path.display()
        )
    }

    fn usage(&self) -> UsageSum {
        let mut sum = UsageSum::default();
        for followed in &self.logs {
            sum.merge(followed.log.usage());
        }
        sum
    }

    fn text(&self) -> &str {
        let exact = self.main().and_then(CodeLog::text);
        exact.unwrap_or_else(|| self.acp.text())
    }

    fn streamed(&self) -> &str {
        self.acp.text()
    }

    fn model(&self) -> Option<&str> {
        self.main()?.model()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;

    use crate::transport::agent::Finish;
    use crate::transport::agent::Usage;

    /// A session of which the log holds an earlier turn, greeted and ready for a prompt.
    fn greeted(home: &Path) -> (Logged, PathBuf) {
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
        let mut agent = Logged {
            acp: Acp::new(Options::default()),
            home: home.to_path_buf(),
            directory: None,
            logs: Vec::new(),
            keeps_whole: true,
        };
        agent.start();
        agent.receive(br#"{"id":"1","result":{}}"#);
        let signals = agent.receive(br#"{"id":"2","result":{"sessionId":"s"}}"#);
        let [Signal::Ready(peer)] = &signals[..] else {
            panic!("{signals:?}");
        };
        agent.ready(peer).unwrap();
        (agent, path)
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
        let (mut agent, path) = greeted(&home);
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
                r#"{"type":"context.append_loop_event","event":{"type":"content.part"}}"#,
                r#"{"type":"turn.step.retrying","nextAttempt":2,"maxAttempts":10,"delayMs":500,"errorMessage":"terminated"}"#,
            ],
        );
        let events = agent.look().unwrap();
        assert!(
            matches!(&events[..], [Event::Superseded { step: 1 }, Event::Retry(retry)] if retry.attempt == 2),
            "{events:?}"
        );
        assert_eq!(agent.streamed(), "");
        assert_eq!(agent.outcome(&Answered::EndTurn), None);
        append(
            &path,
            &[
                USED,
                r#"{"type":"agent.message.appended","message":{"message":{"role":"assistant","content":"whole"},"meta":{"finish":{"rawFinishReason":"stop"}}}}"#,
                r#"{"type":"turn.ended","turnId":1,"reason":"completed"}"#,
            ],
        );
        let usage = Usage {
            input: 5,
            output: 2,
            ..Usage::default()
        };
        assert_eq!(agent.look().unwrap(), [Event::Usage(Some(usage))]);
        assert_eq!(
            agent.outcome(&Answered::EndTurn),
            Some(Outcome::Finished(Finish::Stop))
        );
        assert_eq!((agent.text(), agent.model()), ("whole", Some("kimi-k2")));
        // The first try said something, and what it cost will never be told.
        let sum = agent.usage();
        assert_eq!((sum.told, sum.calls, sum.untold), (usage, 1, 1));
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn the_index_is_asked_first_for_a_sessions_directory() {
        let home = std::env::temp_dir().join(format!("omk-acp-index-{}", std::process::id()));
        fs::create_dir_all(home.join("sessions/wd_x/s")).unwrap();
        let found = |session| session_directory(&home, session).unwrap();
        assert_eq!(found("s"), Some(home.join("sessions/wd_x/s")));
        assert_eq!(found("t"), None);
        let index = r#"{"sessionId":"s","sessionDir":"/elsewhere/s"}"#;
        fs::write(home.join("session_index.jsonl"), index).unwrap();
        assert_eq!(found("s"), Some(PathBuf::from("/elsewhere/s")));
        fs::remove_dir_all(&home).unwrap();
    }
}
