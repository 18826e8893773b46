//! Asking a model: one trait for every way to reach one.
//!
//! A caller hands over a [`Request`], a budget and an observer, and gets an answer or an error; who it was that answered,
//! a service over HTTP, an agent over a pipe or a double in a test, it need not know. Everything that happens on the
//! way is an [`Event`], and every event is an occasion to stop. The trait is object-safe, so a program can choose its client at
//! run time and keep it as a `Box<dyn LlmClient>`.

pub mod acp;
mod agent;
mod attempts;
pub mod http;
mod mock;
mod permissions;
pub mod tape;
pub mod wire;

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::Value;

pub use crate::llm::client::acp::AcpLlmClient;
pub use crate::llm::client::agent::Launch;
pub use crate::llm::client::http::HttpLlmClient;
pub use crate::llm::client::mock::MockLlmClient;
pub use crate::llm::client::permissions::Permissions;
pub use crate::llm::client::permissions::Place;
pub use crate::llm::client::permissions::Rule;
pub use crate::llm::client::tape::Recorded;
pub use crate::llm::client::wire::WireLlmClient;

use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::catalog::money::Charge;
use crate::llm::cost::CostEstimator;
use crate::llm::error::LlmError;
use crate::llm::retry::Retry;
use crate::llm::retry::RetryPolicy;
use crate::llm::types::DenialKind;
use crate::llm::types::LlmResponse;
use crate::llm::types::Role;
use crate::llm::types::TokenBudget;
use crate::llm::types::Usage;
use crate::runtime::signal;
use crate::runtime::words::words;
use crate::tokens::usage::Contradiction;

/// Someone who answers prompts.
pub trait LlmClient {
    /// Asks once and waits for the whole answer, handing it to the observer as it comes.
    ///
    /// Whatever was used is counted in the budget, on failure too. Failures that may pass are retried as
    /// [`LlmClientConfig::retry`] says, until something of the answer was handed to the observer.
    ///
    /// # Errors
    ///
    /// See [`LlmError`]; [`LlmError::BudgetExhausted`] before anything is sent when the prompt alone is more than the
    /// budget has left.
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError>;

    /// Sets how long the next run may take in all, such as the rest of a deadline. A client that waits for nothing ignores it.
    fn set_timeout(&mut self, timeout: Duration) {
        let _ = timeout;
    }

    /// Asks a question without watching the events.
    ///
    /// # Errors
    ///
    /// As [`LlmClient::run`].
    fn complete(
        &mut self,
        prompt: &str,
        budget: &mut TokenBudget,
    ) -> Result<LlmResponse, LlmError> {
        self.run(&Request::new(prompt), budget, &mut ())
    }

    /// Asks a question under instructions.
    ///
    /// # Errors
    ///
    /// As [`LlmClient::run`].
    fn complete_with_system(
        &mut self,
        system: &str,
        prompt: &str,
        budget: &mut TokenBudget,
    ) -> Result<LlmResponse, LlmError> {
        self.run(&Request::new(prompt).system(system), budget, &mut ())
    }
}

impl<C: LlmClient + ?Sized> LlmClient for &mut C {
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        C::run(self, request, budget, observer)
    }

    fn set_timeout(&mut self, timeout: Duration) {
        C::set_timeout(self, timeout);
    }
}

impl<C: LlmClient + ?Sized> LlmClient for Box<C> {
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        C::run(self, request, budget, observer)
    }

    fn set_timeout(&mut self, timeout: Duration) {
        C::set_timeout(self, timeout);
    }
}

/// What is asked.
///
/// ```
/// use omk::llm::client::Request;
///
/// let request = Request::new("What is this?").system("You are terse.").max_output_tokens(200);
/// assert_eq!(request.system.as_deref(), Some("You are terse."));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The instructions.
    pub system: Option<String>,
    /// Earlier turns of the conversation, oldest first. An agent keeps its own, so there it must be empty.
    pub history: Vec<Turn>,
    /// The question.
    pub text: String,
    /// Pictures that belong to the question.
    pub images: Vec<Image>,
    /// The longest answer, in tokens, reasoning included; [`LlmClientConfig::max_output_tokens`] where not said. An agent
    /// has no such limit to set.
    pub max_output_tokens: Option<u64>,
    /// 0 for the likeliest answer, up to 1 or 2 by service for a varied one. Left out, with a warning, for models that take
    /// none.
    pub temperature: Option<f64>,
    /// Whether, or how hard, the model reasons first; its own way where not said. Left out, with a warning, for models that
    /// have no such setting. An agent is told when it is started, not here.
    pub thinking: Option<Thinking>,
    /// The shape that the answer must have, where the transport can ask for one. It is not checked here.
    pub schema: Option<Schema>,
    /// What requests with a common beginning share, so that the service finds its cache again.
    pub cache_key: Option<String>,
}

impl Request {
    /// A question and nothing else.
    pub fn new(text: impl Into<String>) -> Request {
        Request {
            text: text.into(),
            ..Request::default()
        }
    }

    /// With instructions.
    #[must_use]
    pub fn system(mut self, system: impl Into<String>) -> Request {
        self.system = Some(system.into());
        self
    }

    /// The roles of its messages, in order.
    pub(crate) fn roles(&self) -> Vec<Role> {
        let system = self.system.as_ref().map(|_| Role::System);
        let history = self.history.iter().map(|turn| turn.role);
        system
            .into_iter()
            .chain(history)
            .chain([Role::User])
            .collect()
    }

    /// The texts of its messages, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let history = self.history.iter().map(|turn| turn.text.as_str());
        let system = self.system.as_deref().into_iter();
        system.chain(history).chain([self.text.as_str()])
    }

    /// With one more picture.
    #[must_use]
    pub fn image(mut self, image: Image) -> Request {
        self.images.push(image);
        self
    }

    /// With a limit on the answer.
    #[must_use]
    pub fn max_output_tokens(mut self, tokens: u64) -> Request {
        self.max_output_tokens = Some(tokens);
        self
    }

    /// With a temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Request {
        self.temperature = Some(temperature);
        self
    }

    /// With a shape for the answer.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Request {
        self.schema = Some(schema);
        self
    }

    /// With a key for the cache.
    #[must_use]
    pub fn cache_key(mut self, key: impl Into<String>) -> Request {
        self.cache_key = Some(key.into());
        self
    }
}

/// An earlier message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who said it: the user or the assistant.
    pub role: Role,
    /// What was said.
    pub text: String,
}

words! {
    /// Whether, or how hard, a model reasons before it answers.
    Thinking, "thinking" {
        /// It does.
        On = "on",
        /// It does not.
        Off = "off",
        /// A little.
        Low = "low",
        /// Thoroughly.
        High = "high",
        /// As much as it can.
        Max = "max",
    }
}

/// A picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Its media type, such as `image/png`.
    pub media_type: String,
    /// The file as it is.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Image {
    /// Without the bytes, of which there can be millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("media_type", &self.media_type)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// The shape of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// A name for it: letters, digits, `_` and `-`.
    pub name: String,
    /// The JSON Schema. Moonshot takes a subset (github.com/MoonshotAI/walle, docs/mfjs-spec.md).
    pub schema: Value,
}

/// How a client asks, whatever the transport.
#[derive(Clone, Debug)]
pub struct LlmClientConfig {
    /// The model: its name for the service, its vocabulary and what fits into its window.
    pub model: Model,
    /// The longest answer, in tokens, where a request does not say; `None` for the service's own limit.
    pub max_output_tokens: Option<u64>,
    /// The largest answer kept, in bytes, reasoning included.
    pub max_answer_bytes: usize,
    /// For a whole run: connecting, waiting, every retry and every pause between them.
    pub timeout: Duration,
    /// For a peer's silence within it. A model that thinks is not silent, but one that reads a long prompt is.
    pub idle_timeout: Duration,
    /// Whether and when to try again.
    pub retry: RetryPolicy,
    /// Where an agent works, for rules about files.
    pub place: Place,
    /// How often an agent may use the same tool with the same arguments in one turn.
    pub max_repeats: u32,
    /// The most steps of an agent's turn.
    pub max_steps: Option<u32>,
}

impl LlmClientConfig {
    /// For a row of the catalog: 64 MiB, 15 minutes (Moonshot ends a request after 900 s, says its table of errors), 2
    /// minutes of silence, the usual retries.
    pub fn new(model: Model) -> LlmClientConfig {
        LlmClientConfig {
            model,
            max_output_tokens: None,
            max_answer_bytes: 8 * 1024 * 1024,
            timeout: Duration::from_secs(15 * 60),
            idle_timeout: Duration::from_secs(2 * 60),
            place: Place::default(),
            max_repeats: 20,
            max_steps: None,
            retry: RetryPolicy::default(),
        }
    }

    /// For a model by name, as the compiled-in catalog knows it.
    pub fn for_model(name: &str) -> LlmClientConfig {
        LlmClientConfig::new(Catalog::builtin().resolve(name).into_owned())
    }

    /// What a request may use, held against a budget before anything is sent.
    ///
    /// # Errors
    ///
    /// [`LlmError::BudgetExhausted`] when the prompt leaves no room for an answer.
    pub(crate) fn allowance(
        &self,
        request: &Request,
        budget: &TokenBudget,
    ) -> Result<Allowance, LlmError> {
        let asked = request.max_output_tokens.or(self.max_output_tokens);
        if budget.max_tokens() == u64::MAX {
            return Ok(Allowance {
                input: None,
                output: asked,
            });
        }
        let estimator = CostEstimator::of(Cow::Borrowed(&self.model));
        let overhead = estimator.overhead(&request.roles());
        let overhead = overhead.map_or(0, |known| known.tokens);
        let counts = request.texts().map(|text| estimator.count(text));
        let input = counts.fold(overhead, u64::saturating_add);
        let left = budget.remaining().saturating_sub(input);
        if left == 0 {
            return Err(LlmError::BudgetExhausted {
                detail: format!(
                    "the prompt has {input} tokens, and of {} there are {} left",
                    budget.max_tokens(),
                    budget.remaining()
                ),
                begun: false,
            });
        }
        // A limit beyond what the model has is refused by the service, though the budget would allow it.
        let window = self.model.window.map(|window| window.saturating_sub(input));
        let most = [asked, self.model.max_output, window].into_iter().flatten();
        Ok(Allowance {
            input: Some(input),
            output: Some(most.fold(left, u64::min).max(1)),
        })
    }
}

impl Allowance {
    /// The most tokens that an attempt can use; 0 where no budget asks for it.
    pub(crate) fn at_most(&self) -> u64 {
        self.input
            .map_or(0, |input| input.saturating_add(self.output.unwrap_or(0)))
    }
}

/// What [`LlmClientConfig::allowance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Tokens of the prompt without its pictures, counted only where a budget asks for it.
    pub(crate) input: Option<u64>,
    /// The limit to set for the answer.
    pub(crate) output: Option<u64>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// An agent is being started and greeted.
    Starting,
    /// The request is on its way, or was sent and nothing came back yet.
    Waiting,
    /// The model reasons.
    Thinking,
    /// The model answers.
    Answering,
}

impl Phase {
    /// The name for people and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Waiting => "waiting",
            Phase::Thinking => "thinking",
            Phase::Answering => "answering",
        }
    }
}

/// What happens during a run, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// The run is at this phase now. Comes before the first text of it, and again for each attempt and step.
    Phase(Phase),
    /// The conversation has this name with the peer. Comes before anything is asked in it.
    Session(&'a str),
    /// An agent begins a step, a call of the model and the tools it asks for; they count from 1. The text of the last step
    /// is the answer. A plain service has no steps.
    Step(u32),
    /// More of the answer. Never empty.
    Text(&'a str),
    /// More of the reasoning. Never empty.
    Thinking(&'a str),
    /// Text and reasoning of the step so far are void: the agent makes the call again.
    Superseded,
    /// An attempt failed, and after a wait comes another.
    Retry(&'a Retry),
    /// An agent's call of the model begins, its sub-agents' included. It is noticed up to 0.1 s later where a log tells it.
    CallStarted {
        /// Tokens in the model's window after this agent's call before, which this one's prompt has at least. `None` for the
        /// first, and where it is not known.
        context: Option<u64>,
    },
    /// An agent's call of the model is over. Every call that begins ends so, at the latest with the run.
    CallEnded {
        /// What it used; `None` where that was not reported.
        usage: Option<&'a Usage>,
        /// Whether it cost something: `No` where the service refused it.
        charged: Charge,
    },
    /// An agent uses a tool: its arguments are known, and it runs as soon as that is allowed.
    Tool(ToolCall<'a>),
    /// It was decided whether an agent may have what it asks for.
    Decision(Decision<'a>),
    /// A tool of an agent is done.
    ToolDone(ToolResult<'a>),
    /// The usage of the whole run so far, in place of what an earlier event told.
    Usage(&'a Usage),
    /// The peer reported figures that contradict each other or are no counts of tokens. They count with the greater reading,
    /// or as not reported.
    Contradiction(&'a Contradiction),
    /// The text of the step so far is the answer, whole and final. An agent may still take its time to end; a plain service
    /// has said its last word and needs no such event.
    Answered,
    /// Nothing happened for a while: an occasion to show how long, or to stop. About once a second with an agent.
    Tick,
}

/// An agent's use of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolCall<'a> {
    /// The call's name, unique in the session.
    pub call: &'a str,
    /// The tool, by the agent's name for it.
    pub tool: &'a str,
    /// The arguments as JSON text; empty where they were not told.
    pub arguments: &'a str,
    /// The sub-agent that uses it, if it is one.
    pub agent: Option<&'a str>,
}

/// What came of an agent's use of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolResult<'a> {
    /// The call's name.
    pub call: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// Whether it worked.
    pub ok: bool,
    /// The start of its output, 1000 characters at most.
    pub output: &'a str,
    /// The sub-agent that used it, if it is one.
    pub agent: Option<&'a str>,
}

/// Whether an agent may have what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What kind of thing it asks for.
    pub kind: DenialKind,
    /// The tool; empty for the other kinds.
    pub tool: &'a str,
    /// What it is about, in the agent's words.
    pub detail: &'a str,
    /// Whether it may.
    pub allowed: bool,
    /// The rule that allows it, or the narrowest one that would; `None` where no rule does.
    pub rule: Option<&'a str>,
    /// The sub-agent that asks, if it is one; empty where its name is not told.
    pub agent: Option<&'a str>,
}

/// What a person says to the use of a tool that no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// It may not run.
    No,
    /// It may run this once.
    Once,
    /// It may run, and so may whatever else [`Decision::rule`] allows, to the end of the run.
    Always,
}

/// Why an observer wants no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Someone interrupted.
    Interrupted,
    /// A budget that the observer keeps is used up; the text says which and by how much.
    Budget(String),
    /// The answer cannot be passed on, such as to a full disk; the text says what happened.
    Output(String),
}

/// Someone who watches a run and may end it.
///
/// Implemented by `()`, who watches nothing, and by every fitting closure.
///
/// ```
/// use std::ops::ControlFlow;
/// use omk::llm::client::{Event, LlmClient, MockLlmClient, Request};
/// use omk::llm::types::TokenBudget;
///
/// let mut client = MockLlmClient::default().reply("Hello.");
/// let mut shown = String::new();
/// let mut observer = |event: Event<'_>| {
///     if let Event::Text(text) = event {
///         shown.push_str(text);
///     }
///     ControlFlow::Continue(())
/// };
/// let answer = client.run(&Request::new("Hi"), &mut TokenBudget::unlimited(), &mut observer)?;
/// assert_eq!(answer.text, shown);
/// # Ok::<(), omk::llm::error::LlmError>(())
/// ```
pub trait Observer {
    /// Takes note. `Break` ends the run as soon as the transport can, with the error that fits the reason.
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop>;

    /// Asked before each attempt of a run, the first of which is 1: whether it may be made, and how long its answer may be
    /// in tokens where that is less than the request allows. An agent has no such limit to set.
    fn before_attempt(&mut self, attempt: u32) -> ControlFlow<Stop, Option<u64>> {
        let _ = attempt;
        ControlFlow::Continue(None)
    }

    /// Asked before a tool is denied that no rule allows, such as to ask a person, for `left` at most.
    fn approve(&mut self, what: &Decision<'_>, left: Duration) -> Approval {
        let _ = (what, left);
        Approval::No
    }

    /// Whether text that was handed over can be taken back by [`Event::Superseded`], because it was not shown. Then an
    /// answer that broke off is asked for again.
    fn can_take_back(&self) -> bool {
        false
    }
}

impl Observer for () {
    fn on_event(&mut self, _: Event<'_>) -> ControlFlow<Stop> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(Event<'_>) -> ControlFlow<Stop>> Observer for F {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        self(event)
    }
}

/// Hands events to an observer and keeps what every transport must know of them: whether output was shown, and how far the
/// run is.
pub(crate) struct Emitter<'o> {
    observer: &'o mut dyn Observer,
    phase: Option<Phase>,
    attempt: u32,
    has_begun: bool,
    has_output: bool,
    /// Text was handed over that is to be taken back before another attempt.
    has_text: bool,
}

impl<'o> Emitter<'o> {
    pub(crate) fn new(observer: &'o mut dyn Observer) -> Emitter<'o> {
        Emitter {
            observer,
            phase: None,
            attempt: 0,
            has_begun: false,
            has_output: false,
            has_text: false,
        }
    }

    /// Whether text or reasoning was handed over, or something else rules out another attempt.
    pub(crate) fn has_output(&self) -> bool {
        self.has_output
    }

    /// Notes that something was done that must not be done twice, such as a tool's work: as good as output.
    pub(crate) fn mark_acted(&mut self) {
        self.has_begun = true;
        self.has_output = true;
    }

    /// Hands an event over, and before the first text of a phase the phase. Empty text is not worth an event.
    ///
    /// # Errors
    ///
    /// What the observer stops for.
    pub(crate) fn emit(&mut self, event: Event<'_>) -> Result<(), LlmError> {
        let phase = match event {
            Event::Text("") | Event::Thinking("") => return Ok(()),
            Event::Text(_) => Some(Phase::Answering),
            Event::Thinking(_) => Some(Phase::Thinking),
            Event::Phase(phase) => Some(phase),
            // The next attempt or step waits anew, and says so.
            Event::Retry(_) | Event::Step(_) | Event::Superseded => {
                self.phase = None;
                None
            }
            Event::CallStarted { .. }
            | Event::CallEnded { .. }
            | Event::Tool(_)
            | Event::Decision(_)
            | Event::ToolDone(_)
            | Event::Usage(_)
            | Event::Contradiction(_)
            | Event::Answered
            | Event::Tick
            | Event::Session(_) => None,
        };
        // When the first wait is announced nothing was sent yet; whatever else happens shows that something was.
        self.has_begun |= !matches!(
            event,
            Event::Phase(Phase::Starting | Phase::Waiting) | Event::Session(_) | Event::Tick
        );
        if let Some(phase) = phase
            && self.phase != Some(phase)
        {
            self.phase = Some(phase);
            self.hand_over(Event::Phase(phase))?;
        }
        match event {
            Event::Phase(_) => return Ok(()),
            Event::Text(_) | Event::Thinking(_) => {
                self.has_text = true;
                self.has_output |= !self.observer.can_take_back();
            }
            Event::Superseded => self.has_text = false,
            _ => {}
        }
        self.hand_over(event)
    }

    /// Whether a signal asks the program to stop.
    ///
    /// # Errors
    ///
    /// [`LlmError::Interrupted`] if one does.
    pub(crate) fn check(&self) -> Result<(), LlmError> {
        match signal::pending() {
            Some(_) => Err(LlmError::Interrupted {
                begun: self.has_begun,
            }),
            None => Ok(()),
        }
    }

    /// Takes back what the attempt that failed has said.
    ///
    /// # Errors
    ///
    /// What the observer stops for.
    pub(crate) fn take_back(&mut self) -> Result<(), LlmError> {
        match self.has_text {
            true => self.emit(Event::Superseded),
            false => Ok(()),
        }
    }

    /// Asks the observer about a tool that no rule allows.
    pub(crate) fn approve(&mut self, what: &Decision<'_>, left: Duration) -> Approval {
        self.observer.approve(what, left)
    }

    /// Asks the observer before an attempt.
    ///
    /// # Errors
    ///
    /// What the observer stops for.
    pub(crate) fn before_attempt(&mut self) -> Result<Option<u64>, LlmError> {
        self.attempt = self.attempt.saturating_add(1);
        let answer = self.observer.before_attempt(self.attempt);
        self.unless_stopped(answer)
    }

    fn hand_over(&mut self, event: Event<'_>) -> Result<(), LlmError> {
        let answer = self.observer.on_event(event);
        self.unless_stopped(answer)
    }

    fn unless_stopped<T>(&self, answer: ControlFlow<Stop, T>) -> Result<T, LlmError> {
        let begun = self.has_begun;
        match answer {
            ControlFlow::Continue(value) => Ok(value),
            ControlFlow::Break(Stop::Interrupted) => Err(LlmError::Interrupted { begun }),
            ControlFlow::Break(Stop::Budget(detail)) => {
                Err(LlmError::BudgetExhausted { detail, begun })
            }
            ControlFlow::Break(Stop::Output(detail)) => Err(LlmError::Io { detail }),
        }
    }
}

#[cfg(test)]
mod tests;
