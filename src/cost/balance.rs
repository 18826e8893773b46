//! Readings of an account's balance at its provider, and what they say of the ledger.
//!
//! A balance is the only figure of a bill that Moonshot's service tells (`GET /users/me/balance`). What it fell by between two
//! readings is compared with what the ledger knows of the runs with that key in between: at least and at most. Pure: the
//! caller asks the service and keeps the readings.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::money::Currency;
use crate::catalog::money::Usd;
use crate::cost::fingerprint::fingerprint;
use crate::cost::record::SessionCost;

/// An amount that may be a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whether it is less than nothing.
    pub is_negative: bool,
    /// How much.
    pub amount: Usd,
}

impl Signed {
    /// Reads a decimal number, such as `-3.00001`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Signed> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let amount = Usd::parse(text).ok()?;
        Some(Signed {
            is_negative: is_negative && !amount.is_zero(),
            amount,
        })
    }

    /// What it is more than another.
    #[must_use]
    pub fn minus(self, other: Signed) -> Signed {
        let sum = |amount, is_negative| Signed {
            is_negative,
            amount,
        };
        if self.is_negative != other.is_negative {
            return sum(self.amount + other.amount, self.is_negative);
        }
        match self.amount.checked_sub(other.amount) {
            Some(rest) => sum(rest, self.is_negative && !rest.is_zero()),
            None => {
                let rest = other.amount.checked_sub(self.amount);
                sum(rest.unwrap_or(Usd::ZERO), !self.is_negative)
            }
        }
    }

    /// For people: `-CNY 0.5`, `$3.00`.
    pub fn shown_in(self, currency: Currency) -> String {
        let amount = self.amount.shown_in(currency);
        match self.is_negative {
            true => format!("-{amount}"),
            false => amount,
        }
    }
}

/// As a decimal: `-0.5`.
impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        write!(f, "{sign}{}", self.amount.exact_decimal())
    }
}

impl Serialize for Signed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Signed, D::Error> {
        let text = String::deserialize(deserializer)?;
        Signed::parse(&text).ok_or_else(|| serde::de::Error::custom("an amount is expected"))
    }
}

/// The name of a key in the ledger: enough to tell keys apart, and too little to find one.
pub fn key_name(key: &str) -> String {
    fingerprint(["key", key]).chars().take(16).collect()
}

/// A balance at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The service's host.
    pub host: String,
    /// The key, as [`key_name`] names it.
    pub key: String,
    /// What the amounts are in.
    pub currency: Currency,
    /// What may still be spent.
    pub available: Signed,
    /// Of that, vouchers; `None` where the service does not say.
    pub voucher: Option<Signed>,
    /// Of that, money; it may be a debt.
    pub cash: Option<Signed>,
}

/// What the ledger knows of the runs with a key between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Runs that were sent and may have been billed in that time.
    pub runs: u64,
    /// What they cost at least.
    pub at_least: Usd,
    /// What those with a bound can have cost at most.
    pub at_most: Usd,
    /// Runs that nothing bounds.
    pub unbounded: u64,
}

impl Known {
    /// Adds a run, if it is one with this key that may have been billed between the readings. One that was under way at a
    /// reading may have been billed before or after it, so it counts at most.
    pub fn add(&mut self, run: &SessionCost, from: &Reading, until: &Reading) {
        let is_of_key = run.key.as_deref() == Some(until.key.as_str())
            && run.peer == until.host
            && run.currency == until.currency;
        let started = run.started_at.as_str();
        let ended = run.ended_at.as_deref();
        let overlaps = *started < *until.at && ended.is_none_or(|ended| *ended > *from.at);
        if !is_of_key || !overlaps || run.at_most_usd() == Some(Usd::ZERO) {
            return;
        }
        self.runs += 1;
        let is_within = *started >= *from.at && ended.is_some_and(|ended| *ended <= *until.at);
        if is_within {
            self.at_least = self.at_least + at_least(run);
        }
        match run.at_most_usd() {
            Some(most) => self.at_most = self.at_most + most,
            None => self.unbounded += 1,
        }
    }

    /// What the ledger says to a balance that fell by this much.
    pub fn verdict(&self, spent: Signed) -> Verdict {
        let spent = match spent.is_negative {
            true => Usd::ZERO,
            false => spent.amount,
        };
        // Services show balances with five decimals.
        let slack = Usd::parse("0.00001").unwrap_or(Usd::ZERO);
        if spent + slack < self.at_least {
            Verdict::Less
        } else if self.unbounded == 0 && spent > self.at_most + slack {
            Verdict::More
        } else {
            Verdict::Within
        }
    }
}

/// What a run cost at least: what was reported, and what omk counted of attempts that did not report.
fn at_least(run: &SessionCost) -> Usd {
    let attempts = run.attempts.iter();
    let counted = attempts
        .filter_map(|attempt| attempt.at_least_usd)
        .fold(Usd::ZERO, |sum, usd| sum + usd);
    let known = run.actual_usd.unwrap_or(Usd::ZERO);
    match run.amendments.is_empty() {
        true => known.max(counted),
        false => known,
    }
}

crate::runtime::words::words! {
    /// How a change of a balance compares with the ledger.
    Verdict, "verdict" {
        /// There is no earlier reading.
        First = "first",
        /// It is between at least and at most.
        Within = "within",
        /// The balance fell by more than the ledger's runs can have cost.
        More = "more",
        /// It fell by less than they cost.
        Less = "less",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cost::record::Charge;
    use crate::cost::record::SessionStatus;
    use crate::cost::record::SessionType;

    fn signed(text: &str) -> Signed {
        Signed::parse(text).unwrap()
    }

    fn reading(at: &str) -> Reading {
        Reading {
            at: at.to_string(),
            host: "api.moonshot.ai".to_string(),
            key: key_name("sk-1"),
            currency: Currency::Usd,
            available: signed("10"),
            voucher: None,
            cash: Some(signed("-1")),
        }
    }

    fn run(started: &str, ended: Option<&str>, usd: &str) -> SessionCost {
        let mut run = SessionCost::open("1", SessionType::Prompt, started);
        run.ended_at = ended.map(str::to_string);
        run.status = SessionStatus::Settled;
        run.charged = Charge::Yes;
        run.peer = "api.moonshot.ai".to_string();
        run.key = Some(key_name("sk-1"));
        run.actual_usd = Usd::parse(usd).ok();
        run.worst_case_usd = run.actual_usd;
        run
    }

    #[test]
    fn runs_of_the_key_in_between_are_compared() {
        let (from, until) = (
            reading("2026-11-20T00:00:00Z"),
            reading("2026-11-21T00:00:00Z"),
        );
        let mut known = Known::default();
        let within = run("2026-11-20T01:00:00Z", Some("2026-11-20T02:00:00Z"), "1");
        let mut doubtful = run("2026-11-20T03:00:00Z", Some("2026-11-20T04:00:00Z"), "0.5");
        doubtful.worst_case_usd = Usd::parse("2").ok();
        // One that was under way at a reading counts at most.
        let across = run("2026-11-19T23:00:00Z", Some("2026-11-20T01:00:00Z"), "3");
        let before = run("2026-11-19T01:00:00Z", Some("2026-11-19T02:00:00Z"), "50");
        let mut of_other = run("2026-11-20T01:00:00Z", Some("2026-11-20T02:00:00Z"), "50");
        of_other.key = Some(key_name("sk-2"));
        for run in [&within, &doubtful, &across, &before, &of_other] {
            known.add(run, &from, &until);
        }
        let usd = |text| Usd::parse(text).unwrap();
        assert_eq!(
            (known.runs, known.at_least, known.at_most),
            (3, usd("1.5"), usd("6"))
        );
        for (spent, verdict) in [
            ("1.4", Verdict::Less),
            ("1.5", Verdict::Within),
            ("6.000005", Verdict::Within),
            ("6.1", Verdict::More),
            ("-5", Verdict::Less),
        ] {
            assert_eq!(known.verdict(signed(spent)), verdict, "{spent}");
        }
        let mut unbounded = within.clone();
        unbounded.actual_usd = None;
        unbounded.worst_case_usd = None;
        known.add(&unbounded, &from, &until);
        assert_eq!(known.verdict(signed("100")), Verdict::Within);
    }

    #[test]
    fn a_reading_reads_back_and_holds_no_key() {
        let json = serde_json::to_string(&reading("2026-11-20T00:00:00Z")).unwrap();
        assert!(
            json.contains("\"cash\":\"-1\"") && !json.contains("sk-1"),
            "{json}"
        );
        let read: Reading = serde_json::from_str(&json).unwrap();
        assert_eq!(read, reading("2026-11-20T00:00:00Z"));
        assert_eq!(key_name("sk-1").len(), 16);
    }

    proptest! {
        #[test]
        fn differences_are_those_of_whole_numbers(a in -1000_i64..1000, b in -1000_i64..1000) {
            let difference = signed(&a.to_string()).minus(signed(&b.to_string()));
            prop_assert_eq!(difference.to_string(), (a - b).to_string());
        }
    }
}
