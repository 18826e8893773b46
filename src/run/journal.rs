//! The record of one run, kept on disk while the run goes on.
//!
//! The record is in the ledger before the first byte goes to a peer, and is written again whenever more is known, so a run
//! that is killed is not forgotten. A ledger that cannot be written does not keep the answer from its reader: the run goes
//! on, and its end reports the problem. Only a run under a budget refuses to start without a ledger.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::catalog::Billing;
use crate::catalog::Catalog;
use crate::catalog::Model;
use crate::catalog::Price;
use crate::catalog::TokenCounts;
use crate::catalog::host::Biller;
use crate::catalog::money::Currency;
use crate::catalog::money::Usd;
use crate::cost::budget::Budget;
use crate::cost::budget::Refusal;
use crate::cost::budget::Standing;
use crate::cost::budget::reserve;
use crate::cost::budget::standings;
use crate::cost::fingerprint::fingerprint;
use crate::cost::history::Expected;
use crate::cost::record::CostKind;
use crate::cost::record::Forecast;
use crate::cost::record::PriceUsed;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::SinkError;
use crate::cost::tracker::CostTracker;
use crate::fleet::member::Admission;
use crate::fleet::member::Refusal as FleetRefusal;
use crate::llm::client::Request;
use crate::llm::error::LlmError;
use crate::run::account::Account;
use crate::run::fleet::Fleet;
use crate::runtime::clock::Clock;
use crate::runtime::clock::SystemTimer;
use crate::runtime::clock::format_rfc3339;

/// The rates that a run is priced with.
pub(crate) struct Rates {
    catalog: Catalog,
    /// The row in force: of the model that was asked for, until the peer says who answered.
    model: Model,
    /// The rates were given for this run, whoever answers.
    fixed: bool,
    /// Where requests are sent; `None` for an agent, which does not say.
    host: Option<String>,
}

impl Rates {
    pub(crate) fn new(
        catalog: Catalog,
        mut model: Model,
        fixed: bool,
        host: Option<String>,
    ) -> Rates {
        // A row of the caller's own stays as it is.
        if let Some(host) = &host
            && !fixed
            && catalog.resolve(&model.id).price == model.price
        {
            model = catalog.resolve_at(&model.id, host).into_owned();
        }
        Rates {
            catalog,
            model,
            fixed,
            host,
        }
    }

    /// What amounts are in.
    fn currency(&self) -> Currency {
        let price = self.model.price.as_ref();
        let of_host = || self.host.as_deref().map(|host| Biller::of(host).currency());
        price
            .map(Price::currency)
            .or_else(of_host)
            .unwrap_or_default()
    }

    /// Whether it is not known who bills, so that the rates are only assumed.
    fn is_assumed(&self) -> bool {
        let host = self.host.as_deref().filter(|_| !self.fixed);
        host.is_some_and(|host| Catalog::is_assumed(&self.model, host))
    }

    /// The row in force.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the row of whoever answered, where it is listed.
    fn answered_by(&mut self, reported: &str) {
        if self.fixed {
            return;
        }
        let row = match &self.host {
            Some(host) => Some(self.catalog.resolve_at(reported, host)),
            None => self.catalog.find(reported).map(Cow::Borrowed),
        };
        if let Some(row) = row
            && (row.price.is_some() || self.model.price.is_none())
        {
            self.model = row.into_owned();
        }
    }

    /// The rates for the record, where it is known whose they are.
    fn used(&self, known: bool) -> Option<PriceUsed> {
        PriceUsed::of(&self.model).filter(|_| known || self.fixed)
    }
}

/// Where the record is kept, and the budgets that it is held against.
pub(crate) struct Store<S: CostSink> {
    pub(crate) tracker: Option<CostTracker<S>>,
    /// The first thing that went wrong with the ledger, which causes the rest.
    pub(crate) trouble: Option<SinkError>,
    pub(crate) budgets: Vec<Budget>,
    /// The budget that several machines share.
    pub(crate) fleet: Option<Box<dyn Fleet>>,
    pub(crate) clock: Clock,
}

/// The record of a run and what it follows from.
pub(crate) struct Journal<S: CostSink> {
    record: SessionCost,
    account: Account,
    rates: Rates,
    store: Store<S>,
    /// The record is in the ledger.
    opened: bool,
    /// How to fix what a budget or the ledger refused.
    remedy: Option<String>,
    /// What the fleet holds for the run; `None` before it is asked.
    in_fleet: Option<Option<Usd>>,
    fleet_refusal: Option<FleetRefusal>,
    fleet_warning: Option<String>,
    /// How long the model's answers were so far.
    expected: Option<Expected>,
    /// What it could cost at most before any of it was sent.
    first_bound: Option<Usd>,
}

impl<S: CostSink> Journal<S> {
    pub(crate) fn new(
        record: SessionCost,
        rates: Rates,
        store: Store<S>,
        expected: Option<Expected>,
    ) -> Journal<S> {
        let mut journal = Journal {
            account: Account::new(rates.model.vocabulary, None),
            record,
            rates,
            store,
            opened: false,
            remedy: None,
            in_fleet: None,
            fleet_refusal: None,
            fleet_warning: None,
            expected,
            first_bound: None,
        };
        journal.reprice();
        let record = &journal.record;
        journal.store.budgets.retain(|budget| budget.names(record));
        journal
    }

    /// The budgets that count this run.
    fn budgets(&self) -> Vec<Budget> {
        let budgets = self.store.budgets.iter();
        let meant = budgets.filter(|budget| budget.is_for(&self.record));
        meant.cloned().collect()
    }

    pub(crate) fn record(&self) -> &SessionCost {
        &self.record
    }

    pub(crate) fn record_mut(&mut self) -> &mut SessionCost {
        &mut self.record
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    pub(crate) fn model(&self) -> &Model {
        self.rates.model()
    }

    pub(crate) fn price(&self) -> Option<&Price> {
        self.record.price.as_ref().map(|used| &used.price)
    }

    pub(crate) fn expected(&self) -> Option<Expected> {
        self.expected
    }

    pub(crate) fn first_bound(&self) -> Option<Usd> {
        self.first_bound
    }

    pub(crate) fn has_budgets(&self) -> bool {
        !self.store.budgets.is_empty()
    }

    /// How to fix what was refused, if anything was.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The ledger, once the run is in it.
    pub(crate) fn sink(&self) -> Option<&S> {
        let tracker = self.store.tracker.as_ref().filter(|_| self.opened)?;
        Some(tracker.sink())
    }

    /// The ledger, whatever is in it.
    pub(crate) fn into_sink(self) -> Option<S> {
        self.store.tracker.map(CostTracker::into_sink)
    }

    /// An attempt of the account is about to be sent. Writes the record, and for the first attempt asks every budget.
    ///
    /// # Errors
    ///
    /// A budget over several runs does not have that much left, or cannot be kept without a ledger.
    pub(crate) fn begin(&mut self, request: &Request, input: u64) -> Result<(), LlmError> {
        self.record.status = SessionStatus::Open;
        if self.record.estimate.is_none() {
            let output_tokens = self.expected.map(|expected| expected.p50);
            let counts = output_tokens.map(|output| TokenCounts {
                input_uncached: input,
                output,
                ..TokenCounts::default()
            });
            self.record.estimate = Some(Forecast {
                input_tokens: input,
                output_tokens,
                usd: self
                    .price()
                    .zip(counts)
                    .map(|(price, counts)| price.cost(&counts).total()),
            });
            let system = request.system.as_deref().unwrap_or_default();
            let history = request.history.iter().map(|turn| turn.text.as_str());
            let parts = std::iter::once(system).chain(history);
            self.record.prompt_hash = Some(fingerprint(parts.chain([request.text.as_str()])));
        }
        self.note();
        self.first_bound = self.first_bound.or(self.record.worst_case_usd);
        let is_first = !self.opened;
        if is_first {
            self.announce()?;
        }
        let reserved = if is_first && self.has_budgets() {
            self.reserve()
        } else {
            self.save();
            self.held(false)
        };
        match (reserved, &mut self.store.fleet) {
            (Ok(()), _) => self.reserve_in_fleet(),
            (Err(error), Some(fleet)) if is_first => {
                fleet.withdraw(&self.record);
                Err(error)
            }
            (refused, _) => refused,
        }
    }

    /// Tells the fleet of the run before it is in the ledger, so that neither is forgotten when the process is killed.
    fn announce(&mut self) -> Result<(), LlmError> {
        let Some(fleet) = &mut self.store.fleet else {
            return Ok(());
        };
        match fleet.announce(&self.record) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.not_in_fleet(refusal)),
        }
    }

    /// Reserves in the fleet what the run can cost now, unless that is reserved there.
    fn reserve_in_fleet(&mut self) -> Result<(), LlmError> {
        let Some(fleet) = &mut self.store.fleet else {
            return Ok(());
        };
        let bound = self.record.worst_case_usd;
        let is_held = self
            .in_fleet
            .is_some_and(|held| held == bound || bound.is_some_and(|bound| held >= Some(bound)));
        if is_held {
            return Ok(());
        }
        match fleet.reserve(&self.record) {
            Ok(Admission::Granted) => {
                self.in_fleet = Some(bound);
                Ok(())
            }
            Ok(Admission::Offline(error)) => {
                self.in_fleet = Some(bound);
                self.record
                    .tags
                    .insert("fleet".to_string(), "offline".to_string());
                self.fleet_warning = Some(format!(
                    "sent without the fleet, as OMK_FLEET_OFFLINE allows: {error}"
                ));
                self.save();
                Ok(())
            }
            Err(refusal) => Err(self.not_in_fleet(refusal)),
        }
    }

    fn not_in_fleet(&mut self, refusal: FleetRefusal) -> LlmError {
        let error = LlmError::BudgetExhausted {
            detail: refusal.to_string(),
            begun: false,
        };
        self.remedy = refusal.hint();
        self.fleet_refusal = Some(refusal);
        error
    }

    /// Why the fleet did not admit the run.
    pub(crate) fn fleet_refusal(&self) -> Option<&FleetRefusal> {
        self.fleet_refusal.as_ref()
    }

    /// What of the run the fleet has not heard.
    pub(crate) fn fleet_warning(&self) -> Option<&str> {
        self.fleet_warning.as_deref()
    }

    /// Opens the record if every budget has that much left.
    fn reserve(&mut self) -> Result<(), LlmError> {
        self.remedy = None;
        let Some(tracker) = &mut self.store.tracker else {
            let trouble = self.store.trouble.take();
            let why = trouble.as_ref().map_or("", |error| error.detail.as_str());
            let detail = format!("OMK_BUDGET cannot be kept without a ledger: {why}");
            self.remedy = trouble.and_then(|error| error.hint);
            return Err(LlmError::Io { detail });
        };
        let mut timer = SystemTimer::default();
        let reserved = reserve(
            tracker,
            &mut self.record,
            &self.store.budgets,
            self.store.clock,
            &mut timer,
        );
        self.opened = !matches!(reserved, Err(Refusal::Ledger(_)));
        reserved.map_err(|refusal| self.refused(&refusal, false))
    }

    fn refused(&mut self, refusal: &Refusal, begun: bool) -> LlmError {
        self.remedy = refusal.hint();
        match refusal {
            Refusal::Ledger(error) => LlmError::Io {
                detail: format!("OMK_BUDGET cannot be kept without a ledger: {error}"),
            },
            refusal => LlmError::BudgetExhausted {
                detail: refusal.to_string(),
                begun,
            },
        }
    }

    /// Holds a bound that has grown since it was reserved against the budgets.
    ///
    /// The larger bound is in the ledger already, so others see it, but they do not agree to it: two runs that grow at the
    /// same moment can pass a cap together by what they grew.
    ///
    /// # Errors
    ///
    /// A budget does not have that much left, or the ledger cannot be read.
    pub(crate) fn held(&mut self, begun: bool) -> Result<(), LlmError> {
        let Some(tracker) = self.store.tracker.as_ref().filter(|_| self.has_budgets()) else {
            return Ok(());
        };
        if self.record.kind == CostKind::ListPriceEquivalent {
            return Ok(());
        }
        let now = self.store.clock.now();
        let own = Some(self.record.id.as_str());
        let standings = match standings(tracker, &self.budgets(), now, own) {
            Ok((standings, _)) => standings,
            Err(error) => return Err(self.refused(&Refusal::Ledger(error), begun)),
        };
        let needed = self.record.worst_case_usd;
        let refusal = |standing: &Standing| match needed {
            None => Some(Refusal::Unbounded(standing.budget.clone())),
            Some(needed) => (!standing.fits(needed)).then(|| Refusal::Over {
                standing: Box::new(standing.clone()),
                needed,
            }),
        };
        let uncounted = standings.iter().find_map(Standing::uncounted);
        match uncounted.or_else(|| standings.iter().find_map(refusal)) {
            Some(refusal) => Err(self.refused(&refusal, begun)),
            None => Ok(()),
        }
    }

    /// Holds a bound that has grown in the middle of a turn against the budgets, the fleet's too.
    ///
    /// # Errors
    ///
    /// As for [`Journal::held`], and what the fleet refuses.
    pub(crate) fn still_held(&mut self) -> Result<(), LlmError> {
        self.held(true)?;
        self.reserve_in_fleet()
    }

    /// Whoever answered is known now.
    pub(crate) fn answered_by(&mut self, reported: &str) {
        self.record.model.reported = Some(reported.to_string());
        self.rates.answered_by(reported);
        self.reprice();
    }

    /// Takes the rates in force for the record and the account.
    fn reprice(&mut self) {
        let known = self.rates.fixed || self.record.model.best().is_some();
        let model = &self.rates.model;
        self.record.price = self.rates.used(known);
        self.record.currency = self.rates.currency();
        if self.record.kind != CostKind::ListPriceEquivalent {
            self.record.kind = match (model.billing, known, &self.record.price) {
                (Billing::Subscription, true, _) => CostKind::ListPriceEquivalent,
                (Billing::Metered, _, Some(_)) if self.rates.is_assumed() => CostKind::Assumed,
                (Billing::Metered, _, Some(_)) => CostKind::Metered,
                _ => CostKind::Unknown,
            };
        }
        let price = self.price().cloned();
        self.account.reprice(self.rates.model.vocabulary, price);
    }

    /// Brings the record's figures up to date with the account, and writes it.
    pub(crate) fn update(&mut self) {
        self.note();
        self.save();
    }

    fn note(&mut self) {
        self.record.usage = self.account.usage();
        self.record.actual_usd = self.account.amount();
        self.record.worst_case_usd = self.account.at_most();
        self.record.charged = self.account.charged();
        self.record.attempts = self.account.attempts();
    }

    /// Closes the record. Returns why it could not be written as it should be.
    pub(crate) fn close(
        &mut self,
        status: SessionStatus,
        exit: u8,
        now: SystemTime,
    ) -> Option<SinkError> {
        if self.opened || self.store.trouble.is_some() {
            self.record.status = status;
            self.record.exit = Some(exit);
            self.record.ended_at = Some(format_rfc3339(now));
            self.update();
        }
        if let Some(fleet) = &mut self.store.fleet
            && let Err(error) = fleet.settle(&self.record)
        {
            self.fleet_warning = Some(format!(
                "the fleet has not heard of the end of this run, which waits for the next run or `omk cost sync`: {error}"
            ));
        }
        self.store.trouble.take()
    }

    fn save(&mut self) {
        let Some(tracker) = &mut self.store.tracker else {
            return;
        };
        let saved = match self.opened {
            true => tracker.update(&self.record),
            false => tracker.record(&self.record),
        };
        match saved {
            Ok(()) => self.opened = true,
            Err(error) => {
                self.store.trouble.get_or_insert(error);
            }
        }
    }
}
