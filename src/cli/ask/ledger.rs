//! The books of one run: what it used, what that costs, and its record in the ledger.
//!
//! The record is on disk before the first byte goes to a peer, and is written again whenever more is known. A ledger that
//! cannot be written does not keep the answer from its reader: the run goes on, and says so at its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use crate::catalog::money::Charge;
use crate::catalog::money::Usd;
use crate::catalog::{Billing, Catalog, Model, TokenCounts};
use crate::cli::ask::AskArgs;
use crate::cli::ask::limits::Bounds;
use crate::cli::ask::peer::Peer;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::history::expected_outputs;
use crate::cost::budget::{Budget, Refusal, TagFilter, reserve, standings};
use crate::cost::file_sink::{Fold, JsonFileCostSink};
use crate::cost::fingerprint::fingerprint;
use crate::cost::history::Expected;
use crate::cost::record::{
    self, CostKind, Forecast, Owner, PriceUsed, SessionCost, SessionLogRef, SessionStatus,
    SessionType,
};
use crate::cost::sink::SinkError;
use crate::cost::tracker::CostTracker;
use crate::llm::client::{Event, Observer, Phase, Request, Stop};
use crate::llm::error::LlmError;
use crate::llm::retry::Retry;
use crate::llm::types::{Denial, LlmResponse, Usage, UsageSource};
use crate::runtime::clock::{Clock, SystemTimer, format_rfc3339};
use crate::transport::Transport;

/// Hosts whose keys are a subscription's.
const PLAN_HOSTS: [&str; 2] = ["api.kimi.com", "api.kimi.ai"];

/// Says where the log of a session stands.
type FindLog = dyn Fn(&str) -> Option<SessionLogRef>;

/// When what happened, in milliseconds since the run began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) spawn: Option<u64>,
    pub(crate) first_byte: Option<u64>,
}

/// The books.
pub(crate) struct Meter {
    record: SessionCost,
    tracker: Option<CostTracker<JsonFileCostSink>>,
    trouble: Option<SinkError>,
    /// What mends the refusal of a budget, or of a ledger without which none can be kept.
    remedy: Option<String>,
    /// The budgets over several runs that are meant for this one.
    budgets: Vec<Budget>,
    clock: Clock,
    /// The record is in the ledger.
    opened: bool,
    catalog: Catalog,
    /// What is reckoned with until the peer says who answered.
    model: Model,
    /// The rates were given for this run, whoever answers.
    fixed: bool,
    /// Of the requests that are over; `None` before the first.
    used: Option<Usage>,
    /// Of the one that runs.
    using: Option<Usage>,
    /// What the requests that are over came to; `None` when one of them is not known.
    spent: Option<Usd>,
    /// The most that one attempt of the request that runs can cost.
    attempt: Option<Usd>,
    /// How long the answers of the model were so far, by the ledger.
    pub(crate) expected: Option<Expected>,
    /// The most that the run was expected to come to before any of it was sent.
    pub(crate) worst_case: Option<Usd>,
    /// What failed attempts and requests that are over may have cost beyond what is known.
    doubtful: Option<Usd>,
    charged: Charge,
    replays: bool,
    started: Instant,
    pub(crate) timing: Timing,
    pub(crate) retries: Vec<Retry>,
    pub(crate) denials: Vec<Denial>,
    pub(crate) warnings: Vec<String>,
    pub(crate) request_ids: Vec<String>,
    finds_log: Option<Box<FindLog>>,
}

impl Meter {
    pub(super) fn new(
        args: &AskArgs,
        session_type: SessionType,
        peer: &Peer,
        requested: Option<String>,
        catalog: Catalog,
        model: Model,
        env: &mut Env,
    ) -> Result<Meter, Failure> {
        let now = env.clock.now();
        let mut record = SessionCost::open(
            record::new_id(now, std::process::id(), record::random()),
            session_type,
            format_rfc3339(now),
        );
        record.name = args.name.clone().unwrap_or_default();
        record.model.requested = requested;
        record.transport = Some(peer.transport());
        record.peer = peer.name();
        record.tags = tags(args, env);
        record.owner = Owner::current();
        let plan = PLAN_HOSTS.contains(&record.peer.as_str());
        let mut meter = Meter {
            tracker: None,
            trouble: None,
            remedy: None,
            budgets: Vec::new(),
            clock: env.clock,
            opened: false,
            record,
            catalog,
            model,
            fixed: args.price.is_some(),
            used: None,
            using: None,
            spent: Some(Usd::ZERO),
            attempt: None,
            expected: None,
            worst_case: None,
            doubtful: Some(Usd::ZERO),
            charged: Charge::No,
            replays: args.replay.is_some(),
            started: env.started,
            timing: Timing::default(),
            retries: Vec::new(),
            denials: Vec::new(),
            warnings: Vec::new(),
            request_ids: Vec::new(),
            finds_log: None,
        };
        meter.reprice();
        if plan {
            meter.record.kind = CostKind::ListPriceEquivalent;
        }
        // What is only played again costs nothing and is nobody's run.
        if !meter.replays {
            match crate::cli::ledger::open(env) {
                Ok(tracker) => meter.tracker = Some(tracker),
                Err(error) => meter.trouble = Some(error),
            }
            let mut budgets = crate::cli::ledger::budgets(env)?;
            budgets.retain(|budget| budget.is_for(&meter.record));
            meter.budgets = budgets;
            if meter.record.model.requested.is_some() {
                let tags = args.tags.iter().map(|(key, value)| TagFilter {
                    key: key.clone(),
                    value: Some(value.clone()),
                });
                let tags: Vec<TagFilter> = tags.collect();
                let expected = expected_outputs(&[&meter.model.id], &tags, env);
                meter.expected = expected.into_iter().next().flatten();
            }
        }
        Ok(meter)
    }

    /// The run's name.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// The record as it stands.
    pub(crate) fn record(&self) -> &SessionCost {
        &self.record
    }

    /// Mutable, for what is known of the peer before it is asked.
    pub(super) fn record_mut(&mut self) -> &mut SessionCost {
        &mut self.record
    }

    /// Says where the log of a session stands, once the peer names the session.
    pub(super) fn find_logs(&mut self, find: impl Fn(&str) -> Option<SessionLogRef> + 'static) {
        self.finds_log = Some(Box::new(find));
    }

    /// The catalog's row that is reckoned with.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// What it spent so far; `None` when that is not known.
    pub(crate) fn spent_usd(&self) -> Option<Usd> {
        let running = match self.using {
            Some(usage) => self.price(&usage)?,
            None => Usd::ZERO,
        };
        Some(self.spent? + running)
    }

    /// What it used so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        match (self.used, self.using) {
            (Some(used), Some(using)) => Some(used.plus(&using)),
            (used, using) => used.or(using),
        }
    }

    /// What mends the refusal that it met, if it did.
    pub(super) fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// Whether budgets over several runs hold for it.
    pub(super) fn has_budgets(&self) -> bool {
        !self.budgets.is_empty()
    }

    /// Whether it may have cost money; what is only played again does not.
    pub(crate) fn charged(&self) -> Charge {
        match self.replays {
            true => Charge::No,
            false => self.charged,
        }
    }

    /// Milliseconds since the run began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The peer with its protocol, for messages.
    pub(crate) fn who(&self) -> String {
        match self.record.transport == Some(Transport::Http) {
            true => self.record.peer.clone(),
            false => {
                let over = self.record.transport.map_or("", Transport::name);
                format!("{} over {over}", self.record.peer)
            }
        }
    }

    /// Opens the books for a request: from here on money may be in flight.
    ///
    /// # Errors
    ///
    /// A budget over several runs has no room for it.
    pub(super) fn begin(&mut self, request: &Request, bounds: &Bounds) -> Result<(), LlmError> {
        self.attempt = bounds.worst;
        self.record.status = SessionStatus::Open;
        if self.record.estimate.is_none() {
            let output_tokens = self.expected.map(|expected| expected.p50);
            let price = self.record.price.as_ref().zip(output_tokens);
            self.record.estimate = Some(Forecast {
                input_tokens: bounds.input,
                output_tokens,
                usd: price.map(|(used, output)| {
                    let counts = TokenCounts {
                        input_uncached: bounds.input,
                        output,
                        ..TokenCounts::default()
                    };
                    used.price.cost(&counts).total()
                }),
            });
            let system = request.system.as_deref().unwrap_or_default();
            self.record.prompt_hash = Some(fingerprint([system, request.text.as_str()]));
        }
        self.record.charged = Charge::Unknown;
        self.bound();
        self.worst_case = self.record.worst_case_usd;
        if self.opened || self.budgets.is_empty() {
            self.save();
            return match self.overdrawn() {
                Some(detail) => Err(LlmError::BudgetExhausted {
                    detail,
                    begun: false,
                }),
                None => Ok(()),
            };
        }
        self.reserve()
    }

    /// Opens the record if every budget has room for it.
    fn reserve(&mut self) -> Result<(), LlmError> {
        self.remedy = None;
        let Some(tracker) = &mut self.tracker else {
            let trouble = self.trouble.take();
            let why = trouble.as_ref().map_or("", |error| error.detail.as_str());
            let detail = format!("OMK_BUDGET cannot be kept without a ledger: {why}");
            self.remedy = trouble.and_then(|error| error.hint);
            return Err(LlmError::Io { detail });
        };
        let mut timer = SystemTimer::default();
        let record = &mut self.record;
        let reserved = reserve(tracker, record, &self.budgets, self.clock, &mut timer);
        self.opened = !matches!(reserved, Err(Refusal::Ledger(_)));
        self.remedy = reserved.as_ref().err().and_then(Refusal::hint);
        reserved.map_err(|refusal| match refusal {
            Refusal::Ledger(error) => LlmError::Io {
                detail: format!("OMK_BUDGET cannot be kept without a ledger: {error}"),
            },
            refusal => LlmError::BudgetExhausted {
                detail: refusal.to_string(),
                begun: false,
            },
        })
    }

    /// What a budget says to a bound that has grown since it was reserved: another request, or an attempt after one that
    /// may be billed. Asked after it is written down, so others see it; but without their agreement, so two runs that grow
    /// at the same moment can pass a cap by what they grew.
    fn overdrawn(&self) -> Option<String> {
        let tracker = self.tracker.as_ref().filter(|_| !self.budgets.is_empty())?;
        let needed = self.record.worst_case_usd?;
        let now = self.clock.now();
        let standings = standings(tracker, &self.budgets, now, Some(&self.record.id));
        let standings = match standings {
            Ok((standings, _)) => standings,
            // Whether there is room cannot be known, and a budget that nobody can check is not kept.
            Err(error) => return Some(Refusal::Ledger(error).to_string()),
        };
        let over = standings
            .into_iter()
            .find(|standing| !standing.fits(needed))?;
        let standing = Box::new(over);
        Some(Refusal::Over { standing, needed }.to_string())
    }

    /// The most that the run can come to: what is known, what is in doubt, and the attempt that runs.
    fn bound(&mut self) {
        let sum = |a: Option<Usd>, b: Option<Usd>| Some(a? + b?);
        self.record.worst_case_usd = sum(sum(self.spent, self.doubtful), self.attempt);
    }

    /// Takes the outcome of a request in.
    pub(super) fn end(&mut self, answer: &Result<LlmResponse, LlmError>) {
        let charged = match answer {
            Ok(response) => {
                self.record.model.reported =
                    response.model.clone().or(self.record.model.reported.take());
                self.reprice();
                if response.session_id.is_some() {
                    self.record.session_id.clone_from(&response.session_id);
                }
                self.denials.extend(response.denials.iter().cloned());
                self.warnings.extend(response.warnings.iter().cloned());
                self.request_ids.extend(response.request_id.clone());
                self.using = Some(response.usage);
                Charge::Yes
            }
            Err(error) => error.may_have_charged(),
        };
        self.charged = self.charged.plus(charged);
        let spent = match (charged, &self.using) {
            (Charge::No, None) => Some(Usd::ZERO),
            (_, Some(usage)) => self.price(usage),
            (_, None) => None,
        };
        if spent.is_none() || (answer.is_err() && charged == Charge::Unknown) {
            self.doubt();
        }
        self.spent = self.spent.and_then(|before| Some(before + spent?));
        if let Some(usage) = self
            .using
            .take()
            .or((charged != Charge::No).then(|| Usage::unknown(UsageSource::Provider)))
        {
            self.used = Some(self.used.map_or(usage, |used| used.plus(&usage)));
        }
        self.attempt = Some(Usd::ZERO);
        self.bound();
        self.note();
        self.save();
    }

    /// Adds the attempt that runs to what may have been billed.
    fn doubt(&mut self) {
        self.doubtful = self.doubtful.and_then(|sum| Some(sum + self.attempt?));
    }

    /// Closes the books. Returns why they could not be written.
    pub(super) fn close(
        &mut self,
        status: SessionStatus,
        exit: Exit,
        env: &mut Env,
    ) -> Option<Failure> {
        if self.opened || self.trouble.is_some() {
            self.record.status = status;
            self.record.exit = Some(exit.code());
            self.record.ended_at = Some(format_rfc3339(env.clock.now()));
            self.record.charged = match self.charged {
                Charge::Yes => Charge::Yes,
                Charge::No => Charge::No,
                Charge::Unknown => Charge::Unknown,
            };
            self.note();
            self.save();
        }
        let error = self.trouble.take()?;
        let detail = format!(
            "the run {} is not in the ledger as it should be: {}",
            self.record.id, error.detail
        );
        let failure = Failure::new(Exit::Io, "ledger", detail);
        Some(match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure.hint("OMK_LEDGER names a directory that can be written"),
        })
    }

    /// Folds the ledger where it is time to: after the answer is out, so that nobody waits for it.
    pub(super) fn fold(&self) {
        if let Some(tracker) = self.tracker.as_ref().filter(|_| self.opened) {
            // A later run does what this one could not, and `omk cost` says what is wrong.
            let _ = tracker.sink().fold(Fold::IfDue);
        }
    }

    /// Brings the record's figures up to date.
    fn note(&mut self) {
        self.record.usage = self.usage();
        self.record.actual_usd = self.spent_usd();
        self.record.retries = u32::try_from(self.retries.len()).unwrap_or(u32::MAX);
    }

    /// Takes the rates of whoever answers, once that is known and listed.
    fn reprice(&mut self) {
        if !self.fixed
            && let Some(reported) = &self.record.model.reported
            && let Some(row) = self.catalog.find(reported)
            && (row.price.is_some() || self.model.price.is_none())
        {
            self.model = row.clone();
        }
        let known = self.fixed || self.record.model.best().is_some();
        self.record.price = match &self.model.price {
            Some(price) if known => Some(PriceUsed {
                model: self.model.id.to_string(),
                price: price.clone(),
                as_of: self.model.as_of.to_string(),
                source: self.model.source.to_string(),
                origin: self.model.origin.to_string(),
            }),
            _ => None,
        };
        if self.record.kind != CostKind::ListPriceEquivalent {
            self.record.kind = match (self.model.billing, known, &self.record.price) {
                (Billing::Subscription, true, _) => CostKind::ListPriceEquivalent,
                (Billing::Metered, _, Some(_)) => CostKind::Metered,
                _ => CostKind::Unknown,
            };
        }
    }

    fn price(&self, usage: &Usage) -> Option<Usd> {
        let price = &self.record.price.as_ref()?.price;
        // Of calls that did not report, nothing is known.
        let counts = usage.counts().filter(|_| usage.is_complete())?;
        Some(price.cost(&counts).total())
    }

    fn save(&mut self) {
        let Some(tracker) = &mut self.tracker else {
            return;
        };
        let saved = match self.opened {
            true => tracker.update(&self.record),
            false => tracker.record(&self.record),
        };
        match saved {
            Ok(()) => self.opened = true,
            // The first trouble is the cause of the next.
            Err(error) => self.trouble = self.trouble.take().or(Some(error)),
        }
    }
}

/// The labels of a run: its flags', the environment's and the CI system's, in that order of precedence.
fn tags(args: &AskArgs, env: &Env) -> BTreeMap<String, String> {
    let text = |name: &str| {
        env.variable(name)
            .and_then(|value| value.into_string().ok())
    };
    let mut tags = BTreeMap::new();
    for (key, variables) in [
        (
            "repository",
            ["GITHUB_REPOSITORY", "CI_PROJECT_PATH", "BUILDKITE_REPO"],
        ),
        (
            "workflow",
            ["GITHUB_WORKFLOW", "CI_JOB_NAME", "BUILDKITE_PIPELINE_SLUG"],
        ),
        (
            "run",
            ["GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILDKITE_BUILD_NUMBER"],
        ),
    ] {
        if let Some(value) = variables.into_iter().find_map(text) {
            tags.insert(key.to_string(), value);
        }
    }
    for pair in text("OMK_TAGS").unwrap_or_default().split(',') {
        if let Some((key, value)) = pair.split_once('=') {
            tags.insert(key.trim().to_string(), value.trim().to_string());
        }
    }
    tags.extend(args.tags.iter().cloned());
    tags
}

/// Keeps the books while a request runs, in front of whoever else watches it.
pub(super) struct Watch<'a> {
    meter: &'a mut Meter,
    max_usd: Option<Usd>,
    inner: &'a mut dyn Observer,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        meter: &'a mut Meter,
        max_usd: Option<Usd>,
        inner: &'a mut dyn Observer,
    ) -> Watch<'a> {
        Watch {
            meter,
            max_usd,
            inner,
        }
    }
}

impl Observer for Watch<'_> {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        let meter = &mut *self.meter;
        match event {
            Event::Session(session) => {
                meter.record.session_id = Some(session.to_string());
                if let Some(find) = &meter.finds_log {
                    meter.record.log = find(session);
                }
                meter.save();
            }
            Event::Phase(Phase::Waiting) if meter.timing.spawn.is_none() => {
                let is_agent = meter.record.transport != Some(Transport::Http);
                meter.timing.spawn = is_agent.then(|| meter.elapsed_ms());
            }
            Event::Text(_) | Event::Thinking(_) if meter.timing.first_byte.is_none() => {
                meter.timing.first_byte = Some(meter.elapsed_ms());
            }
            Event::Retry(retry) => {
                let charged = retry.error.may_have_charged();
                meter.charged = meter.charged.plus(charged);
                meter.retries.push(retry.clone());
                if charged != Charge::No {
                    meter.doubt();
                    meter.bound();
                }
                meter.note();
                meter.save();
                if charged != Charge::No
                    && let Some(detail) = meter.overdrawn()
                {
                    return ControlFlow::Break(Stop::Budget(detail));
                }
            }
            Event::Usage(usage) => {
                meter.using = Some(*usage);
                meter.note();
                meter.save();
                if let (Some(limit), Some(spent)) = (self.max_usd, meter.spent_usd())
                    && spent > limit
                {
                    // The observer behind is told first: what was used was used.
                    let _ = self.inner.on_event(event);
                    let detail = format!("the turn has cost {spent}, --max-usd allows {limit}");
                    return ControlFlow::Break(Stop::Budget(detail));
                }
            }
            _ => {}
        }
        self.inner.on_event(event)
    }
}
