//! A single run: admit, ask, settle, record.
//!
//! A [`Run`] is a client that keeps to limits and to a ledger. Before each attempt it counts the request, holds it against
//! the limits of the run and the budgets over all runs, and writes an open record with what the run may cost at most. While
//! the peer works it feeds what happens to the [`account`] and keeps the record up to date. At the end the record is
//! settled. It prints nothing, and knows no flags, variables or terminals.
//!
//! ```
//! use omk::cost::budget::parse_budgets;
//! use omk::cost::sink::InMemoryCostSink;
//! use omk::catalog::money::Usd;
//! use omk::llm::client::{MockLlmClient, Request};
//! use omk::run::{Limits, Run, RunConfig};
//!
//! let client = MockLlmClient::default().reply("Paris.");
//! let limits = Limits { max_usd: Some(Usd::parse("0.05")?), ..Limits::default() };
//! let config = RunConfig::new("kimi-k3").limits(limits).budgets(parse_budgets("5/day")?);
//! let mut run = Run::new(Box::new(client), config, InMemoryCostSink::default());
//! let answer = run.ask(&Request::new("What is the capital of France?"))?;
//! let record = run.finish();
//! println!("{}: {:?}, at most {:?}", answer.text, record.actual_usd, record.at_most_usd());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod account;
pub mod conversation;
pub mod fleet;
mod journal;
pub(crate) mod limits;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;
use std::time::Instant;

use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::catalog::Price;
use crate::catalog::money::Charge;
use crate::catalog::money::Usd;
use crate::cost::balance::key_name;
use crate::cost::budget::Budget;
use crate::cost::history::Expected;
use crate::cost::record;
use crate::cost::record::CostKind;
use crate::cost::record::Owner;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionLogRef;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::Transport;
use crate::cost::sink::CostSink;
use crate::cost::sink::SinkError;
use crate::cost::tracker::CostTracker;
use crate::fleet::member::Refusal;
use crate::llm::client::Approval;
use crate::llm::client::Decision;
use crate::llm::client::Event;
use crate::llm::client::LlmClient;
use crate::llm::client::Observer;
use crate::llm::client::Phase;
use crate::llm::client::Request;
use crate::llm::client::Stop;
use crate::llm::error::LlmError;
use crate::llm::retry::Retry;
use crate::llm::types::Denial;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::run::fleet::Fleet;
use crate::run::journal::Journal;
use crate::run::journal::Rates;
use crate::run::journal::Store;
use crate::run::limits::Counted;
use crate::run::limits::Situation;
use crate::runtime::clock::Clock;
use crate::runtime::clock::format_rfc3339;
use crate::tokens::usage::Contradiction;
use crate::tokens::usage::Usage;

pub use crate::run::limits::Limits;

/// How long a run takes at most where its config does not say: Moonshot ends a request after 900 s, by its table of errors.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Hosts whose keys belong to a subscription.
const PLAN_HOSTS: [&str; 2] = ["api.kimi.com", "api.kimi.ai"];

/// Contradictory reports that are kept of one run.
const MAX_CONTRADICTIONS: usize = 16;

/// Finds the log of a session by its name.
type FindLog = dyn Fn(&str) -> Option<SessionLogRef>;

/// What a run is, beside its client and its ledger.
pub struct RunConfig {
    record: SessionCost,
    catalog: Catalog,
    model: Model,
    fixed_price: bool,
    limits: Limits,
    budgets: Vec<Budget>,
    expected: Option<Expected>,
    fleet: Option<Box<dyn Fleet>>,
    is_replay: bool,
    clock: Clock,
    started: Instant,
    timeout: Duration,
}

impl RunConfig {
    /// A prompt to a model of the compiled-in catalog, over HTTP, without limits.
    pub fn new(model: &str) -> RunConfig {
        let catalog = Catalog::builtin();
        let row = catalog.resolve(model).into_owned();
        RunConfig::of(SessionType::Prompt, Some(model.to_string()), catalog, row)
    }

    /// A run of any kind. `requested` is the model that is asked for, `None` where an agent chooses it; `model` is the row
    /// to reckon with until the peer says who answered.
    pub fn of(
        session_type: SessionType,
        requested: Option<String>,
        catalog: Catalog,
        model: Model,
    ) -> RunConfig {
        let clock = Clock::System;
        let now = clock.now();
        let id = record::new_id(now, std::process::id(), record::random());
        let mut record = SessionCost::open(id, session_type, format_rfc3339(now));
        record.model.requested = requested;
        record.transport = Some(Transport::Http);
        record.owner = Owner::current();
        RunConfig {
            record,
            catalog,
            model,
            fixed_price: false,
            limits: Limits::default(),
            budgets: Vec::new(),
            expected: None,
            fleet: None,
            is_replay: false,
            clock,
            started: Instant::now(),
            timeout: LONGEST,
        }
    }

    /// With limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> RunConfig {
        self.limits = limits;
        self
    }

    /// With budgets over several runs; those that are not for this run are ignored.
    #[must_use]
    pub fn budgets(mut self, budgets: Vec<Budget>) -> RunConfig {
        self.budgets = budgets;
        self
    }

    /// With a budget that several machines share, asked after the machine's own.
    #[must_use]
    pub fn fleet(mut self, fleet: Box<dyn Fleet>) -> RunConfig {
        self.fleet = Some(fleet);
        self
    }

    /// With another peer than a service: how it is reached, and its name.
    #[must_use]
    pub fn peer(mut self, transport: Transport, name: impl Into<String>) -> RunConfig {
        self.record.transport = Some(transport);
        self.record.peer = name.into();
        if PLAN_HOSTS.contains(&self.record.peer.as_str()) {
            self.record.kind = CostKind::ListPriceEquivalent;
        }
        self
    }

    /// With the key that the service is asked with. Only its fingerprint is kept.
    #[must_use]
    pub fn key(mut self, key: &str) -> RunConfig {
        self.record.key = Some(key_name(key));
        self
    }

    /// With a name and labels for reports.
    #[must_use]
    pub fn labels(
        mut self,
        name: impl Into<String>,
        tags: impl IntoIterator<Item = (String, String)>,
    ) -> RunConfig {
        self.record.name = name.into();
        self.record.tags.extend(tags);
        self
    }

    /// With rates that hold for this run, whoever answers: the model's row has them.
    #[must_use]
    pub fn fixed_price(mut self) -> RunConfig {
        self.fixed_price = true;
        self
    }

    /// With what the model's answers were like so far, for the forecast.
    #[must_use]
    pub fn expected(mut self, expected: Option<Expected>) -> RunConfig {
        self.expected = expected;
        self
    }

    /// With a time of day and a beginning other than now.
    #[must_use]
    pub fn clock(mut self, clock: Clock, started: Instant) -> RunConfig {
        let now = clock.now();
        self.record.id = record::new_id(now, std::process::id(), record::random());
        self.record.started_at = format_rfc3339(now);
        self.clock = clock;
        self.started = started;
        self
    }

    /// With a bound on the whole run, counted from its beginning.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> RunConfig {
        self.timeout = timeout;
        self
    }

    /// As the replay of a recording: nothing is sent, nothing can be billed, and nothing is recorded.
    #[must_use]
    pub fn replay(mut self) -> RunConfig {
        self.is_replay = true;
        self
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The record as it begins, such as to see its labels.
    pub fn record(&self) -> &SessionCost {
        &self.record
    }
}

/// When what happened, in milliseconds since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The agent was started and greeted; `None` for a service.
    pub spawn: Option<u64>,
    /// The first text or reasoning arrived.
    pub first_byte: Option<u64>,
}

/// What happened in a run, for its report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When what happened.
    pub timing: Timing,
    /// Attempts that failed before another was made.
    pub retries: Vec<Retry>,
    /// What the agent wanted and was denied.
    pub denials: Vec<Denial>,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// Usage that contradicts itself, as the peer reported it.
    pub contradictions: Vec<Contradiction>,
    /// The peer's names for the requests.
    pub request_ids: Vec<String>,
    /// Text of the last step that has not ended, which is no answer yet.
    pub partial: String,
}

impl Progress {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Text(text) => self.partial.push_str(text),
            // What stands before a tool call is not the beginning of an answer.
            Event::Step(_) | Event::Superseded | Event::Retry(_) | Event::Tool(_) => {
                self.partial.clear();
            }
            _ => {}
        }
    }
}

/// A client that keeps to the limits and the ledger of one run.
pub struct Run<S: CostSink> {
    client: Box<dyn LlmClient>,
    journal: Journal<S>,
    limits: Limits,
    /// It is known which model will answer, so that its price holds.
    is_named: bool,
    is_replay: bool,
    started: Instant,
    timeout: Duration,
    clock: Clock,
    progress: Progress,
    find_log: Option<Box<FindLog>>,
}

impl<S: CostSink> Run<S> {
    /// A run that asks this client and is recorded in this ledger. Nothing is sent or written yet.
    pub fn new(client: Box<dyn LlmClient>, config: RunConfig, ledger: S) -> Run<S> {
        Run::with_ledger(client, config, Ok(ledger))
    }

    /// The same where the ledger may be missing: the run goes on without it, unless a budget needs it, and its end says
    /// why.
    pub fn with_ledger(
        client: Box<dyn LlmClient>,
        config: RunConfig,
        ledger: Result<S, SinkError>,
    ) -> Run<S> {
        let is_replay = config.is_replay;
        let (tracker, trouble) = match ledger {
            _ if is_replay => (None, None),
            Ok(sink) => (Some(CostTracker::new(sink)), None),
            Err(error) => (None, Some(error)),
        };
        let store = Store {
            tracker,
            trouble,
            budgets: match is_replay {
                true => Vec::new(),
                false => config.budgets,
            },
            fleet: config.fleet.filter(|_| !is_replay),
            clock: config.clock,
        };
        let is_named = config.record.model.requested.is_some() || config.fixed_price;
        let host = match (is_replay, config.record.transport) {
            (false, Some(Transport::Http)) => Some(config.record.peer.clone()),
            _ => None,
        };
        let rates = Rates::new(
            config.catalog,
            config.model,
            config.fixed_price,
            host.filter(|host| !host.is_empty()),
        );
        Run {
            client,
            journal: Journal::new(config.record, rates, store, config.expected),
            limits: config.limits,
            is_named,
            is_replay,
            started: config.started,
            timeout: config.timeout,
            clock: config.clock,
            progress: Progress::default(),
            find_log: None,
        }
    }

    /// Says which session of its own the agent works in, and how to find a session's log by its name.
    pub fn log_of(
        &mut self,
        session: Option<&str>,
        find: impl Fn(&str) -> Option<SessionLogRef> + 'static,
    ) {
        let record = self.journal.record_mut();
        record.session_id = session.map(str::to_string);
        record.log = session.and_then(&find);
        self.find_log = Some(Box::new(find));
    }

    /// Asks without watching, within the limits.
    ///
    /// # Errors
    ///
    /// As [`LlmClient::run`], and [`LlmError::BudgetExhausted`] where a limit or a budget does not allow it.
    pub fn ask(&mut self, request: &Request) -> Result<LlmResponse, LlmError> {
        let mut budget = self.token_budget();
        self.run(request, &mut budget, &mut ())
    }

    /// The run's limit in tokens as a budget.
    pub fn token_budget(&self) -> TokenBudget {
        let limit = self.limits.max_tokens;
        limit.map_or(TokenBudget::unlimited(), TokenBudget::new)
    }

    /// The record as it stands.
    pub fn record(&self) -> &SessionCost {
        self.journal.record()
    }

    /// The row of the catalog that the run is priced by.
    pub fn model(&self) -> &Model {
        self.journal.model()
    }

    /// The rates in force, once it is known whose.
    pub fn price(&self) -> Option<&Price> {
        self.journal.price()
    }

    /// What happened so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What it has used so far, as reported.
    pub fn usage(&self) -> Option<Usage> {
        self.journal.account().usage()
    }

    /// The known part of its cost; `None` when nothing was reported, or no price is known.
    pub fn known_usd(&self) -> Option<Usd> {
        self.journal.account().amount()
    }

    /// What it cost at least; `None` without a known price.
    pub fn at_least_usd(&self) -> Option<Usd> {
        self.journal.account().at_least()
    }

    /// What it can have cost at most; `None` where nothing bounds it. A replay costs nothing.
    pub fn at_most_usd(&self) -> Option<Usd> {
        match self.is_replay {
            true => Some(Usd::ZERO),
            false => self.journal.account().at_most(),
        }
    }

    /// What it could cost at most before anything was sent.
    pub fn first_bound_usd(&self) -> Option<Usd> {
        self.journal.first_bound()
    }

    /// Whether it may have cost money.
    pub fn charged(&self) -> Charge {
        match self.is_replay {
            true => Charge::No,
            false => self.journal.account().charged(),
        }
    }

    /// What the model's answers were like so far.
    pub fn expected(&self) -> Option<Expected> {
        self.journal.expected()
    }

    /// Milliseconds since the run began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The peer with its protocol, for messages.
    pub fn peer(&self) -> String {
        let record = self.record();
        match record.transport {
            Some(transport) if transport.is_agent() => format!("{} over {transport}", record.peer),
            _ => record.peer.clone(),
        }
    }

    /// Whether it asks an agent.
    pub fn is_agent(&self) -> bool {
        self.record().transport.is_some_and(Transport::is_agent)
    }

    /// How to fix what a budget or the ledger refused, if it did.
    pub fn remedy(&self) -> Option<&str> {
        self.journal.remedy()
    }

    /// Why the fleet did not admit the run, if it did not.
    pub fn fleet_refusal(&self) -> Option<&Refusal> {
        self.journal.fleet_refusal()
    }

    /// What of the run the fleet has not heard, and why.
    pub fn fleet_warning(&self) -> Option<&str> {
        self.journal.fleet_warning()
    }

    /// Settles the record as answered, and returns it.
    pub fn finish(mut self) -> SessionCost {
        // A caller that must know whether the ledger could be written uses `close`.
        let _ = self.close(SessionStatus::Settled, 0);
        self.journal.record().clone()
    }

    /// Closes the record: how the run ended, and the exit code that goes with it. Returns why the record could not be
    /// written as it should be.
    pub fn close(&mut self, status: SessionStatus, exit: u8) -> Option<SinkError> {
        self.journal.close(status, exit, self.clock.now())
    }

    /// The ledger, once the run is in it.
    pub fn ledger(&self) -> Option<&S> {
        self.journal.sink()
    }

    /// The ledger, to use it for something else.
    pub fn into_ledger(self) -> Option<S> {
        self.journal.into_sink()
    }

    /// Admits the next attempt: counts it, holds it against limits and budgets, and writes it down.
    fn admit(&mut self, request: &Request) -> Result<Option<u64>, LlmError> {
        let is_agent = self.is_agent();
        let counted = Counted::of(request, self.journal.model());
        let allowance = limits::admit(
            request,
            &counted,
            Situation {
                limits: self.limits,
                model: self.journal.model(),
                price: self.journal.price().filter(|_| self.is_named),
                is_agent,
                has_budgets: self.journal.has_budgets(),
                account: self.journal.account(),
            },
        )?;
        let account = self.journal.account_mut();
        match is_agent {
            true => account.begin_turn(allowance.bound),
            false => account.begin_call(allowance.bound),
        }
        let begun = self.journal.begin(request, counted.input);
        if begun.is_err() {
            // It was refused before it was sent.
            self.journal.account_mut().end("refused", Charge::No);
            self.journal.update();
        }
        begun.map(|()| allowance.max_output)
    }
}

impl<S: CostSink> LlmClient for Run<S> {
    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        self.progress.partial.clear();
        let max_output = self.admit(request)?;
        let mut limited = Cow::Borrowed(request);
        if max_output != request.max_output_tokens {
            limited.to_mut().max_output_tokens = max_output;
        }
        let left = self.timeout.saturating_sub(self.started.elapsed());
        self.client.set_timeout(left);
        // The client is lent to the watch's run for the time of the call.
        let mut client = std::mem::replace(&mut self.client, Box::new(Absent));
        let mut watch = Watch {
            run: self,
            request,
            observer,
            step: Step::default(),
        };
        let answer = client.run(&limited, budget, &mut watch);
        self.client = client;
        self.end(&answer);
        answer
    }
}

impl<S: CostSink> Run<S> {
    /// Takes the outcome of a request in.
    fn end(&mut self, answer: &Result<LlmResponse, LlmError>) {
        match answer {
            Ok(response) => {
                if let Some(model) = &response.model {
                    self.journal.answered_by(model);
                }
                if response.session_id.is_some() {
                    let record = self.journal.record_mut();
                    record.session_id.clone_from(&response.session_id);
                }
                self.progress
                    .denials
                    .extend(response.denials.iter().cloned());
                self.progress
                    .warnings
                    .extend(response.warnings.iter().cloned());
                self.progress
                    .request_ids
                    .extend(response.request_id.clone());
                let account = self.journal.account_mut();
                account.report(response.usage);
                account.end("answered", Charge::Yes);
            }
            Err(error) => {
                let charged = error.may_have_charged();
                let account = self.journal.account_mut();
                account.end(error.root().kind(), charged);
            }
        }
        self.journal.update();
    }
}

/// The client of a run while its own is at work.
struct Absent;

impl LlmClient for Absent {
    fn run(
        &mut self,
        _: &Request,
        _: &mut TokenBudget,
        _: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        Err(LlmError::AgentUnavailable {
            detail: "the client is at work".to_string(),
        })
    }
}

/// Feeds what happens to the account and the record, and passes it on.
struct Watch<'a, S: CostSink> {
    run: &'a mut Run<S>,
    request: &'a Request,
    observer: &'a mut dyn Observer,
    step: Step,
}

/// What is known of an agent's step.
#[derive(Default)]
struct Step {
    /// It has asked for a tool, so another call follows.
    asks_for_tool: bool,
    /// Tokens of its call's prompt and answer, once that is over.
    context: Option<u64>,
}

impl<S: CostSink> Watch<'_, S> {
    /// Holds the turn's next call against the budgets as soon as it is known that there will be one: what cannot be paid for
    /// is not begun.
    fn after_tool_call(&mut self) -> ControlFlow<Stop> {
        match (self.step.asks_for_tool, self.step.context.take()) {
            (true, Some(context)) => self.next_call(context),
            (false, context) => {
                self.step.context = context;
                ControlFlow::Continue(())
            }
            (true, None) => ControlFlow::Continue(()),
        }
    }

    /// Bounds the turn's next call anew by the context so far. The larger bound must fit before the call goes on.
    fn next_call(&mut self, context: u64) -> ControlFlow<Stop> {
        let bound = limits::next_call(context, self.run.journal.model());
        self.run.journal.account_mut().next_call(Some(bound));
        self.run.journal.update();
        match self.run.journal.still_held() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(stop(error)),
        }
    }

    /// Why the turn must not make its next call, if it must not.
    fn over(&mut self) -> Option<String> {
        let known = self.run.journal.account().known();
        if let (Some(limit), Some(known)) = (self.run.limits.max_usd, known)
            && known > limit
        {
            return Some(format!(
                "the turn has cost {known}, --max-usd allows {limit}"
            ));
        }
        None
    }
}

impl<S: CostSink> Observer for Watch<'_, S> {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        let is_agent = self.run.is_agent();
        self.run.progress.take(&event);
        match event {
            Event::Session(session) => {
                let log = self.run.find_log.as_ref().and_then(|find| find(session));
                let record = self.run.journal.record_mut();
                record.session_id = Some(session.to_string());
                record.log = log.or(record.log.take());
                self.run.journal.update();
            }
            Event::Phase(Phase::Waiting) if self.run.progress.timing.spawn.is_none() => {
                self.run.progress.timing.spawn = is_agent.then(|| self.run.elapsed_ms());
            }
            Event::Text(text) | Event::Thinking(text) => {
                if self.run.progress.timing.first_byte.is_none() {
                    self.run.progress.timing.first_byte = Some(self.run.elapsed_ms());
                }
                self.run.journal.account_mut().receive(text);
            }
            Event::CallStarted {
                context: Some(tokens),
            } => {
                self.step = Step::default();
                self.next_call(tokens)?;
            }
            Event::CallEnded {
                usage: Some(usage), ..
            } => {
                self.step.context = Some(usage.total());
            }
            Event::Tool(_) => {
                self.step.asks_for_tool = true;
                self.observer.on_event(event)?;
                return self.after_tool_call();
            }
            Event::Step(_) => self.step = Step::default(),
            Event::Retry(retry) => {
                let charged = retry.error.may_have_charged();
                let progress = &mut self.run.progress;
                progress.retries.push(retry.clone());
                let retries = u32::try_from(progress.retries.len()).unwrap_or(u32::MAX);
                self.run.journal.record_mut().retries = retries;
                let account = self.run.journal.account_mut();
                match (is_agent, charged) {
                    (true, Charge::No) => {}
                    (true, _) => account.repeat_call(),
                    (false, charged) => account.end(retry.error.root().kind(), charged),
                }
                self.run.journal.update();
            }
            Event::Contradiction(contradiction) => {
                let progress = &mut self.run.progress;
                if !progress.contradictions.contains(contradiction)
                    && progress.contradictions.len() < MAX_CONTRADICTIONS
                {
                    progress.warnings.push(contradiction.detail.clone());
                    progress.contradictions.push(contradiction.clone());
                }
            }
            Event::Usage(usage) => {
                self.run.journal.account_mut().report(*usage);
                self.run.journal.update();
                if is_agent && let Some(detail) = self.over() {
                    // The observer hears of it first: what was used was used.
                    let _ = self.observer.on_event(event);
                    return ControlFlow::Break(Stop::Budget(detail));
                }
                self.observer.on_event(event)?;
                return self.after_tool_call();
            }
            _ => {}
        }
        self.observer.on_event(event)
    }

    fn approve(&mut self, what: &Decision<'_>, left: Duration) -> Approval {
        self.observer.approve(what, left)
    }

    fn can_take_back(&self) -> bool {
        self.observer.can_take_back()
    }

    fn before_attempt(&mut self, attempt: u32) -> ControlFlow<Stop, Option<u64>> {
        self.observer.before_attempt(attempt)?;
        // The first attempt was admitted with the request, and an agent's further ones belong to its turn.
        if attempt <= 1 || self.run.is_agent() {
            return ControlFlow::Continue(None);
        }
        match self.run.admit(self.request) {
            Ok(max_output) => ControlFlow::Continue(max_output),
            Err(error) => ControlFlow::Break(stop(error)),
        }
    }
}

/// What ends a run whose next attempt or call is not admitted.
fn stop(error: LlmError) -> Stop {
    match error {
        LlmError::BudgetExhausted { detail, .. } => Stop::Budget(detail),
        // Such as a ledger that cannot be read: a budget that cannot be checked is not kept.
        LlmError::Io { detail } => Stop::Output(detail),
        error => Stop::Output(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
