//! One run in the ledger: what was asked of whom, what it used, what that cost and how sure we are.
//!
//! A record says what is known and nothing else: an absent figure is unknown, never 0. It carries the very rates that its
//! amount was made with, so that it can be explained years after the rates have changed, and a hash of the prompt, never
//! its text. Amounts are written as decimal strings, since a JSON number that passes through a double may lose a cent's
//! last digits. Refuses to know which client made the figures.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::catalog::Model;
use crate::catalog::Price;
use crate::catalog::Rates;
use crate::catalog::Tier;
pub use crate::catalog::money::Charge;
use crate::catalog::money::Currency;
use crate::catalog::money::Rate;
use crate::catalog::money::Usd;
use crate::catalog::money::exact_option;
use crate::cost::attempt::Attempt;
use crate::cost::estimator::CostEstimate;
use crate::runtime::clock;
use crate::runtime::process;
use crate::runtime::words::words;
pub use crate::tokens::usage::Usage;
pub use crate::tokens::usage::UsageSource;
pub use crate::transport::Transport;

words! {
    /// What kind of run it was.
    SessionType, "session type" {
        /// `omk prompt`.
        Prompt = "prompt",
        /// `omk plan`.
        Plan = "plan",
        /// A session that was not omk's, read from an agent's own log.
        Import = "import",
        /// Several agents in one role, started by a program that records here.
        Team = "team",
        /// One agent that takes a task through its phases by itself.
        Autopilot = "autopilot",
        /// One agent in a loop until all stories are done.
        Ralph = "ralph",
    }
}

words! {
    /// How far a run has come.
    SessionStatus, "status" {
        /// It runs, or was killed while it did: money may be in flight.
        Open = "open",
        /// It ended with an answer, and what it used is known.
        Settled = "settled",
        /// It ended without one, and what it used is known as far as it ever will be.
        Failed = "failed",
        /// Someone stopped it: a signal, a deadline, a budget.
        Interrupted = "interrupted",
        /// It was killed, and nobody knows what it used; at most its worst case.
        Unknown = "unknown",
    }
}

words! {
    /// How an amount is to be read.
    CostKind, "kind" {
        /// Billed per token.
        Metered = "metered",
        /// Paid for by a subscription; the amount is what the tokens would cost at list price.
        ListPriceEquivalent = "list-price-equivalent",
        /// No price is known.
        Unknown = "unknown",
        /// Billed by a host that omk does not know, and so perhaps at other rates: the amount is what the tokens cost at
        /// the maker's list price. Budgets count it.
        Assumed = "list-price-assumed",
    }
}

impl CostKind {
    /// The name in documents, where an assumed amount is one at list price like that of a subscription.
    pub const fn label(self) -> &'static str {
        match self {
            CostKind::Assumed => CostKind::ListPriceEquivalent.name(),
            kind => kind.name(),
        }
    }
}

words! {
    /// What the worst case of an open run means to the budgets of others.
    Reservation, "reservation" {
        /// It counts, and the run may spend it: it fitted, or no budget was set.
        Granted = "granted",
        /// It counts, and the run is still finding out whether it fits; nothing was sent.
        Asked = "asked",
        /// It does not count: the run stepped back for an earlier one and will ask again; nothing was sent.
        Waiting = "waiting",
    }
}

impl Reservation {
    fn granted() -> Reservation {
        Reservation::Granted
    }
}

/// What a run was expected to cost, before anything was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Tokens of the prompt as counted.
    pub input_tokens: u64,
    /// Tokens that the answer was expected to have; the most that it may have where nothing better is known.
    pub output_tokens: Option<u64>,
    /// The price of both.
    #[serde(with = "exact_option")]
    pub usd: Option<Usd>,
}

impl From<CostEstimate> for Forecast {
    /// The estimate of a session, by which its record is compared later.
    fn from(estimate: CostEstimate) -> Forecast {
        Forecast {
            input_tokens: estimate.input_tokens(),
            output_tokens: Some(estimate.output_tokens()),
            usd: Some(estimate.usd()),
        }
    }
}

/// The rates that an amount was made with, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceUsed {
    /// The name of the catalog's row.
    pub model: String,
    /// The rates.
    pub price: Price,
    /// The day or month for which they are known to hold; empty when nobody said.
    pub as_of: String,
    /// Where a reader finds them again; empty when nobody said.
    pub source: String,
    /// `builtin`, a price file, models.dev or `--price`.
    pub origin: String,
}

/// The model of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNames {
    /// As asked for; `None` where the agent chose.
    pub requested: Option<String>,
    /// As the peer says that answered.
    pub reported: Option<String>,
}

impl ModelNames {
    /// The better known of the two: who answered, else who was asked.
    pub fn best(&self) -> Option<&str> {
        self.reported.as_deref().or(self.requested.as_deref())
    }
}

/// Where an agent keeps its own account of a run, for `omk cost recover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLogRef {
    /// `kimi-cli` or `kimi-code`: which rules the log follows.
    pub agent: String,
    /// The agent's home, under which the session is found by its id.
    pub home: PathBuf,
    /// Where the main log ended before the run, in bytes: what stands before belongs to other runs.
    pub offset: u64,
}

/// The process that owns a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// What tells it from a later process with the same number, such as the kernel's start time; empty where the system
    /// does not tell.
    pub started: String,
}

impl Owner {
    /// This process.
    pub fn current() -> Owner {
        let pid = std::process::id();
        Owner {
            host: process::host_name(),
            pid,
            started: process::birth(pid).unwrap_or_default(),
        }
    }

    /// Whether it still runs; `None` when that cannot be seen from here: another machine, another container, or a system
    /// that does not tell one process from the next of the same number.
    pub fn is_alive(&self) -> Option<bool> {
        if self.host != process::host_name() {
            return None;
        }
        process::is_alive(self.pid, &self.started)
    }
}

/// A name for a run that begins now, such as `20261120T104759123456Z-0001f3a7-9c01d3ab4e5f`: time to the microsecond in UTC,
/// the process, and chance.
///
/// Ids sort by time, name a file or a part of a URL as they are, and no two machines make the same one but by a coincidence
/// of 1 in 2^48 within one microsecond and process number.
pub fn new_id(now: SystemTime, pid: u32, random: u64) -> String {
    // The fixed width is what makes them sort: `2026-11-20T10:47:59.123456Z` without its marks.
    let moment = clock::format_rfc3339(now);
    let (seconds, fraction) = match moment.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (moment.trim_end_matches('Z'), ""),
    };
    let seconds: String = seconds.chars().filter(|c| !"-:".contains(*c)).collect();
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    format!(
        "{seconds}{micros}Z-{pid:08x}-{:012x}",
        random & 0xffff_ffff_ffff
    )
}

/// A number for [`new_id`], from the randomness with which the standard library seeds its hash maps.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// What a record said of its cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// How far the run was.
    pub status: SessionStatus,
    /// Whether it may be billed.
    pub charged: Charge,
    /// The known amount.
    #[serde(with = "exact_option")]
    pub usd: Option<Usd>,
    /// What it could have cost at most.
    #[serde(with = "exact_option")]
    pub at_most_usd: Option<Usd>,
}

/// A settlement by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Who: the user and the machine; empty where the system does not say.
    pub by: String,
    /// Why, in the words of whoever did it; empty for none.
    pub note: String,
    /// What the record said before.
    pub before: Stated,
    /// And after.
    pub after: Stated,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCost {
    /// The run's name: unique across machines, ascending with time.
    pub id: String,
    /// What its amounts are in, those too that are named after US dollars.
    #[serde(default, skip_serializing_if = "Currency::is_usd")]
    pub currency: Currency,
    /// What kind of run it was.
    pub session_type: SessionType,
    /// A name for people, `--name`; empty for none. Never text of the prompt.
    pub name: String,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<String>,
    /// How far it is.
    pub status: SessionStatus,
    /// Who was asked and who answered.
    pub model: ModelNames,
    /// `http`, `wire` or `acp`; `log` for a session that was imported.
    #[serde(deserialize_with = "transport")]
    pub transport: Option<Transport>,
    /// The agent and its version, such as `kimi-cli 1.51.0`; the service's host for HTTP.
    pub peer: String,
    /// The key that was sent, as [`crate::cost::balance::key_name`] names it; `None` for an agent, which has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The peer's name for the conversation.
    pub session_id: Option<String>,
    /// Where the agent's own account of it stands.
    pub log: Option<SessionLogRef>,
    /// What it used so far; `None` when nobody told anything.
    pub usage: Option<Usage>,
    /// Expected before it began.
    pub estimate: Option<Forecast>,
    /// What it can cost at most, while that is not known better.
    #[serde(with = "exact_option")]
    pub worst_case_usd: Option<Usd>,
    /// What that means to the budgets of other runs, while it is open.
    #[serde(default = "Reservation::granted")]
    pub reservation: Reservation,
    /// The attempts, in order; none in records of omk 0.6 and of imported sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Settlements by hand, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amendments: Vec<Amendment>,
    /// What is known of its cost: the price of what was reported. `None` when nothing was, or no price is known.
    #[serde(with = "exact_option")]
    pub actual_usd: Option<Usd>,
    /// How the amount is to be read.
    pub kind: CostKind,
    /// The rates it was made with.
    pub price: Option<PriceUsed>,
    /// Whether it may have cost money.
    pub charged: Charge,
    /// Attempts that failed before the last one.
    pub retries: u32,
    /// omk's exit code; `None` while it runs.
    pub exit: Option<u8>,
    /// Labels of the user and of the CI system.
    pub tags: BTreeMap<String, String>,
    /// Whose run it is.
    pub owner: Owner,
    /// A fingerprint of the prompt, to tell equal prompts; it is no secret keeper.
    pub prompt_hash: Option<String>,
}

impl SessionCost {
    /// A run that begins now, of which nothing is known yet.
    pub fn open(
        id: impl Into<String>,
        session_type: SessionType,
        started_at: impl Into<String>,
    ) -> SessionCost {
        SessionCost {
            id: id.into(),
            currency: Currency::Usd,
            session_type,
            name: String::new(),
            started_at: started_at.into(),
            ended_at: None,
            status: SessionStatus::Open,
            model: ModelNames::default(),
            transport: None,
            peer: String::new(),
            key: None,
            session_id: None,
            log: None,
            usage: None,
            estimate: None,
            worst_case_usd: None,
            reservation: Reservation::Granted,
            attempts: Vec::new(),
            amendments: Vec::new(),
            actual_usd: None,
            kind: CostKind::Unknown,
            price: None,
            charged: Charge::No,
            retries: 0,
            exit: None,
            tags: BTreeMap::new(),
            owner: Owner::default(),
            prompt_hash: None,
        }
    }

    /// What it can have cost at most, which is what budgets count. `None` when nothing bounds it: that is unknown, not 0.
    pub fn at_most_usd(&self) -> Option<Usd> {
        Reckoning {
            status: self.status,
            reservation: self.reservation,
            charged: self.charged,
            actual_usd: self.actual_usd,
            worst_case_usd: self.worst_case_usd,
        }
        .at_most_usd()
    }
}

/// The columns that decide what a run counts with in budgets.
pub(crate) struct Reckoning {
    pub(crate) status: SessionStatus,
    pub(crate) reservation: Reservation,
    pub(crate) charged: Charge,
    pub(crate) actual_usd: Option<Usd>,
    pub(crate) worst_case_usd: Option<Usd>,
}

impl Reckoning {
    pub(crate) fn at_most_usd(&self) -> Option<Usd> {
        let spent = self.actual_usd.unwrap_or(Usd::ZERO);
        match self.status {
            SessionStatus::Open if self.reservation == Reservation::Waiting => Some(Usd::ZERO),
            SessionStatus::Open | SessionStatus::Unknown => {
                self.worst_case_usd.map(|worst| worst.max(spent))
            }
            _ if self.charged == Charge::No => Some(Usd::ZERO),
            // Imported sessions and records of omk 0.6 may have an amount without a bound: it was all there was.
            _ => self
                .worst_case_usd
                .map(|worst| worst.max(spent))
                .or(self.actual_usd),
        }
    }
}

/// How it was reached, or nothing where an empty text says that no peer was.
fn transport<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Transport>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    name.filter(|name| !name.is_empty())
        .map(|name| name.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// The rates as the ledger writes them: decimal strings of USD per 1M tokens.
#[derive(Serialize, Deserialize)]
struct RatesRow {
    input: String,
    cached_input: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    output: String,
}

#[derive(Serialize, Deserialize)]
struct TierRow {
    above: u64,
    #[serde(flatten)]
    rates: RatesRow,
}

#[derive(Serialize, Deserialize)]
struct PriceRow {
    model: String,
    #[serde(flatten)]
    rates: RatesRow,
    #[serde(default)]
    tiers: Vec<TierRow>,
    #[serde(default, skip_serializing_if = "Currency::is_usd")]
    currency: Currency,
    #[serde(default)]
    as_of: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    origin: String,
}

impl RatesRow {
    fn of(rates: &Rates) -> RatesRow {
        let written = |rate: Option<Rate>| rate.map(Rate::exact_decimal);
        RatesRow {
            input: rates.input.exact_decimal(),
            cached_input: written(rates.cached_input),
            cache_write: written(rates.cache_write),
            cache_write_1h: written(rates.cache_write_1h),
            output: rates.output.exact_decimal(),
        }
    }

    fn read<E: serde::de::Error>(&self) -> Result<Rates, E> {
        let read = |text: &String| Rate::parse(text).map_err(E::custom);
        Ok(Rates {
            input: read(&self.input)?,
            cached_input: self.cached_input.as_ref().map(read).transpose()?,
            cache_write: self.cache_write.as_ref().map(read).transpose()?,
            cache_write_1h: self.cache_write_1h.as_ref().map(read).transpose()?,
            output: read(&self.output)?,
        })
    }
}

impl PriceUsed {
    /// The rates of a row of the catalog; `None` where it has none.
    pub fn of(model: &Model) -> Option<PriceUsed> {
        Some(PriceUsed {
            model: model.id.to_string(),
            price: model.price.clone()?,
            as_of: model.as_of.to_string(),
            source: model.source.to_string(),
            origin: model.origin.to_string(),
        })
    }
}

impl Serialize for PriceUsed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tiers = self.price.tiers().iter().map(|tier| TierRow {
            above: tier.above,
            rates: RatesRow::of(&tier.rates),
        });
        PriceRow {
            model: self.model.clone(),
            rates: RatesRow::of(self.price.rates()),
            tiers: tiers.collect(),
            currency: self.price.currency(),
            as_of: self.as_of.clone(),
            source: self.source.clone(),
            origin: self.origin.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PriceUsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PriceUsed, D::Error> {
        let row = PriceRow::deserialize(deserializer)?;
        let tiers = row.tiers.iter().map(|tier| {
            Ok(Tier {
                above: tier.above,
                rates: tier.rates.read()?,
            })
        });
        let tiers = tiers.collect::<Result<_, D::Error>>()?;
        Ok(PriceUsed {
            price: Price::new(row.rates.read()?, tiers).in_currency(row.currency),
            model: row.model,
            as_of: row.as_of,
            source: row.source,
            origin: row.origin,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Option<Usd> {
        Some(Usd::parse(text).unwrap())
    }

    #[test]
    fn a_record_reads_back_to_the_last_digit() {
        let mut record = SessionCost::open(
            "20261120T104759Z-1",
            SessionType::Prompt,
            "2026-11-20T10:47:59Z",
        );
        record.actual_usd = usd("123456789.000000000001");
        record.usage = Some(Usage {
            input: Some(1),
            cache_read: None,
            cache_write: Some(0),
            output: Some(2),
            reasoning: None,
            source: UsageSource::SessionLog,
            unreported: 0,
        });
        record.price = Some(PriceUsed {
            model: "kimi-k3".to_string(),
            price: Price::new(
                Rates {
                    input: Rate::parse("0.600001").unwrap(),
                    cached_input: Some(Rate::parse("0.15").unwrap()),
                    cache_write: None,
                    cache_write_1h: None,
                    output: Rate::parse("2.5").unwrap(),
                },
                Vec::new(),
            ),
            as_of: "2026-11".to_string(),
            source: String::new(),
            origin: "builtin".to_string(),
        });
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<SessionCost>(&json).unwrap(), record);
        assert!(
            json.contains(r#""actual_usd":"123456789.000000000001""#),
            "{json}"
        );
    }

    #[test]
    fn what_is_not_known_counts_with_its_bound() {
        let mut run = SessionCost::open("1", SessionType::Prompt, "2026-11-20T10:47:59Z");
        assert_eq!(run.at_most_usd(), None);
        run.worst_case_usd = usd("2");
        run.actual_usd = usd("0.5");
        run.charged = Charge::Yes;
        for (status, reserved) in [
            (SessionStatus::Open, "2"),
            (SessionStatus::Unknown, "2"),
            (SessionStatus::Settled, "2"),
        ] {
            run.status = status;
            assert_eq!(run.at_most_usd(), usd(reserved), "{status}");
        }
        // Of omk 0.6 and of imported sessions, the amount is all there is.
        run.worst_case_usd = None;
        assert_eq!(run.at_most_usd(), usd("0.5"));
        run.worst_case_usd = usd("2");
        run.actual_usd = None;
        assert_eq!(run.at_most_usd(), usd("2"));
        run.charged = Charge::No;
        assert_eq!(run.at_most_usd(), Some(Usd::ZERO));
    }

    #[test]
    fn ids_sort_by_time_and_name_files() {
        let at = |text| clock::parse_rfc3339(text).unwrap();
        let id = |text, random| new_id(at(text), 0x1f3a7, random);
        assert_eq!(
            id("2026-11-20T10:47:59.123456789Z", u64::MAX),
            "20261120T104759123456Z-0001f3a7-ffffffffffff"
        );
        assert_eq!(
            id("2026-11-20T10:47:59Z", 1),
            "20261120T104759000000Z-0001f3a7-000000000001"
        );
        let moments = [
            "2026-11-20T10:47:59Z",
            "2026-11-20T10:47:59.000001Z",
            "2026-11-20T10:47:59.1Z",
            "2026-11-20T10:48:00Z",
        ];
        assert!(moments.map(|moment| id(moment, 0)).is_sorted());
        assert_ne!(random(), random());
    }

    #[test]
    fn this_process_owns_what_it_runs() {
        let owner = Owner::current();
        assert_ne!(owner.is_alive(), Some(false));
        let elsewhere = Owner {
            host: format!("{}-not", owner.host),
            ..owner
        };
        assert_eq!(elsewhere.is_alive(), None);
    }

    #[test]
    fn a_record_from_before_reservations_counts() {
        let run = SessionCost::open("1", SessionType::Prompt, "2026-11-20T10:47:59Z");
        let mut json = serde_json::to_value(&run).unwrap();
        json.as_object_mut().unwrap().remove("reservation");
        let read: SessionCost = serde_json::from_value(json).unwrap();
        assert_eq!(read, run);
    }
}
