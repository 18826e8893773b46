//! An agent that speaks Kimi Wire: kimi-cli up to 1.51 and kimi-agent.
//!
//! Its protocol is honest, so its word on the end of a turn and on usage is taken. The model is not offered the tool that
//! asks questions, since nobody is there to answer. Refuses tools and hooks of our own, and keeps no conversation: each run
//! is a process of its own, in the session that its arguments name.

use std::io;
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
use crate::transport::agent::Event;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Peer;
use crate::transport::agent::Prompt;
use crate::transport::agent::Signal;
use crate::transport::agent::UsageSum;
use crate::transport::child::Program;
use crate::transport::tape::PlayedTime;
use crate::transport::tape::Player;
use crate::transport::tape::Recorder;
use crate::transport::wire::Options;
use crate::transport::wire::Wire;

/// A client for one agent.
///
/// ```no_run
/// use omk::llm::client::{LlmClient, LlmClientConfig, Permissions, Rule, WireLlmClient};
/// use omk::llm::types::TokenBudget;
/// use omk::transport::child::Program;
/// use omk::transport::detect::Kind;
///
/// let mut program = Program::new("/usr/local/bin/kimi");
/// program.args = Kind::KimiCli.arguments().iter().map(Into::into).collect();
/// let config = LlmClientConfig::for_model("kimi-k3");
/// let mut client = WireLlmClient::new(config, program)
///     .with_permissions(Permissions::of(Rule::parse_list("Shell(ls *)")?));
/// let answer = client.complete("Which files are here?", &mut TokenBudget::new(50_000))?;
/// println!("{}", answer.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WireLlmClient<L: Launch = Program, T: Timer = SystemTimer> {
    config: LlmClientConfig,
    permissions: Permissions,
    launcher: L,
    timer: T,
}

impl<L: Launch> WireLlmClient<L> {
    /// A client that starts this agent for each attempt and lets it do nothing that it asks for.
    pub fn new(config: LlmClientConfig, launcher: L) -> WireLlmClient<L> {
        WireLlmClient {
            config,
            permissions: Permissions::default(),
            launcher,
            timer: SystemTimer::default(),
        }
    }
}

impl WireLlmClient<Player, PlayedTime> {
    /// A client for the agent on a tape. Nothing is started.
    pub fn replay(config: LlmClientConfig, player: &Player) -> Self {
        WireLlmClient::new(config, player.clone()).with_timer(player.timer())
    }
}

impl<L: Launch, T: Timer> WireLlmClient<L, T> {
    /// The same client with other permissions.
    #[must_use]
    pub fn with_permissions(self, permissions: Permissions) -> WireLlmClient<L, T> {
        WireLlmClient {
            permissions,
            ..self
        }
    }

    /// The same client with another sense of time.
    pub fn with_timer<U: Timer>(self, timer: U) -> WireLlmClient<L, U> {
        WireLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: self.launcher,
            timer,
        }
    }

    /// The same client, recorded.
    pub fn recorded(self, recorder: &Recorder) -> WireLlmClient<Recorded<L>, T> {
        WireLlmClient {
            config: self.config,
            permissions: self.permissions,
            launcher: Recorded::new(self.launcher, recorder),
            timer: self.timer,
        }
    }

    /// The configuration, such as to give the next run the rest of a deadline.
    pub fn config_mut(&mut self) -> &mut LlmClientConfig {
        &mut self.config
    }
}

impl<L: Launch, T: Timer> LlmClient for WireLlmClient<L, T> {
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
        let options = Options {
            client_version: env!("CARGO_PKG_VERSION").to_string(),
            ..Options::default()
        };
        run.ask(|| Wire::new(options.clone()), &mut self.timer, observer)
    }
}

impl Agent for Wire {
    const SOURCE: UsageSource = UsageSource::Provider;
    const LOOK_EVERY: Option<Duration> = None;
    const TRUTH_DELAY: Duration = Duration::ZERO;

    fn start(&mut self) -> String {
        Wire::start(self)
    }

    fn prompt(&mut self, prompt: &Prompt) -> String {
        Wire::prompt(self, prompt)
    }

    fn cancel(&mut self) -> Option<String> {
        Wire::cancel(self)
    }

    fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<String> {
        Wire::answer(self, ask, answer)
    }

    fn receive(&mut self, line: &[u8]) -> Vec<Signal> {
        Wire::receive(self, line)
    }

    fn closed(&mut self) -> Option<Signal> {
        Wire::closed(self)
    }

    fn ready(&mut self, _: &Peer) -> Result<(), LlmError> {
        Ok(())
    }

    fn look(&mut self) -> io::Result<Vec<Event>> {
        Ok(Vec::new())
    }

    /// Wire says how a turn ended when it says that it did, so this is not asked before it has.
    fn outcome(&self, answered: &Answered) -> Option<Outcome> {
        Some(match answered {
            Answered::Cancelled => Outcome::Cancelled,
            _ => Outcome::Finished(Finish::Untold),
        })
    }

    fn silence(&self) -> String {
        "the agent does not say how the turn ended".to_string()
    }

    fn usage(&self) -> UsageSum {
        *Wire::usage(self)
    }

    fn text(&self) -> &str {
        Wire::text(self)
    }

    fn streamed(&self) -> &str {
        Wire::text(self)
    }

    fn model(&self) -> Option<&str> {
        None
    }
}
