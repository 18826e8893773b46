//! The columns of a record that sums, filters and tables need, without the rest of it.
//!
//! A report over a million runs must not build a million [`SessionCost`]s to add up one column. A view borrows: from a record
//! in memory, or from a row of the ledger's index that was read without its record. Refuses to be kept: it lives as long
//! as the row under it, so a sum stays a sum and does not become a second ledger in memory.

use std::time::Duration;
use std::time::SystemTime;

use crate::catalog::money::Currency;
use crate::catalog::money::Usd;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::Owner;
use crate::cost::record::Reckoning;
use crate::cost::record::Reservation;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::Transport;
use crate::cost::record::Usage;
use crate::runtime::clock;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Some columns of one run, named as in [`SessionCost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The run's name.
    pub id: &'a str,
    /// What kind of run it was.
    pub session_type: SessionType,
    /// A name for people; empty for none.
    pub name: &'a str,
    /// When it began, in microseconds since 1970, rounded down.
    pub started_micros: i64,
    /// How far it is.
    pub status: SessionStatus,
    /// The model as asked for.
    pub requested: Option<&'a str>,
    /// The model that answered, else the one asked for.
    pub model: Option<&'a str>,
    /// `http`, `wire` or `acp`.
    pub transport: Option<Transport>,
    /// The agent or the service.
    pub peer: &'a str,
    /// What it used.
    pub usage: Option<Usage>,
    /// What its amounts are in.
    pub currency: Currency,
    /// What it can cost at most.
    pub worst_case_usd: Option<Usd>,
    /// What that means to budgets, while it is open.
    pub reservation: Reservation,
    /// What it did cost.
    pub actual_usd: Option<Usd>,
    /// How the amount is to be read.
    pub kind: CostKind,
    /// Whether it may have cost money.
    pub charged: Charge,
    /// Attempts that failed before the last one.
    pub retries: u32,
    /// omk's exit code.
    pub exit: Option<u8>,
    /// Labels, by key.
    pub tags: &'a [(&'a str, &'a str)],
    /// Whose run it is, while it is open; `None` for one that is over.
    pub owner: Option<&'a Owner>,
}

impl RecordView<'_> {
    /// The day it began, counted from 1970-01-01 in UTC.
    pub fn day(&self) -> i64 {
        self.started_micros.div_euclid(MICROS_PER_DAY)
    }

    /// When it began.
    pub fn started(&self) -> SystemTime {
        let since = Duration::from_micros(self.started_micros.unsigned_abs());
        let moment = if self.started_micros < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(since)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        moment.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The value of a label.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let mut tags = self.tags.iter();
        tags.find(|(known, _)| *known == key)
            .map(|(_, value)| *value)
    }

    /// As [`SessionCost::at_most_usd`].
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

/// Shows the view of a record. `None`, and nothing is shown, when the start is not an RFC 3339 time.
pub fn with_view<T>(record: &SessionCost, show: impl FnOnce(&RecordView<'_>) -> T) -> Option<T> {
    let started_micros = micros(clock::parse_rfc3339(&record.started_at).ok()?);
    let tags = record.tags.iter();
    let tags: Vec<(&str, &str)> = tags.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Some(show(&RecordView {
        id: &record.id,
        session_type: record.session_type,
        name: &record.name,
        started_micros,
        status: record.status,
        requested: record.model.requested.as_deref(),
        model: record.model.best(),
        transport: record.transport,
        peer: &record.peer,
        usage: record.usage,
        currency: record.currency,
        worst_case_usd: record.worst_case_usd,
        reservation: record.reservation,
        actual_usd: record.actual_usd,
        kind: record.kind,
        charged: record.charged,
        retries: record.retries,
        exit: record.exit,
        tags: &tags,
        owner: (record.status == SessionStatus::Open).then_some(&record.owner),
    }))
}

/// The most that a run can have cost, from what can still be read of its damaged record.
///
/// The bound that it names, or its amount if that is more; the amount alone where the run is settled. Looks for the fields
/// by their names, because what is torn is no JSON.
pub(crate) fn readable_bound(record: &[u8]) -> Option<Usd> {
    let text = String::from_utf8_lossy(record);
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
        let (value, _) = rest.split_once('"')?;
        Some(value.to_string())
    };
    let amount = |name| Usd::parse(&field(name)?).ok();
    let is_settled = field("status").as_deref() == Some(SessionStatus::Settled.name());
    match (amount("worst_case_usd"), amount("actual_usd")) {
        (Some(bound), actual) => Some(bound.max(actual.unwrap_or(Usd::ZERO))),
        (None, actual) => actual.filter(|_| is_settled),
    }
}

/// A stretch of time by when runs began; the end is not part of it. The default is all of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub from: Option<SystemTime>,
    /// The first moment after it.
    pub until: Option<SystemTime>,
}

impl Period {
    /// Whether a run that began then is of it.
    pub fn contains(&self, started_micros: i64) -> bool {
        self.from.is_none_or(|from| started_micros >= micros(from))
            && self
                .until
                .is_none_or(|until| started_micros < micros(until))
    }

    /// Whether some moment is of both.
    pub fn meets(&self, other: Period) -> bool {
        let before = |from: Option<SystemTime>, until: Option<SystemTime>| match (from, until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        before(self.from, other.until) && before(other.from, self.until)
    }

    /// Whether it begins and ends at midnight in UTC, so that each day is of it or is not.
    pub(crate) fn is_of_days(&self) -> bool {
        let at_midnight = |moment: Option<SystemTime>| {
            moment.is_none_or(|moment| micros(moment).rem_euclid(MICROS_PER_DAY) == 0)
        };
        at_midnight(self.from) && at_midnight(self.until)
    }

    /// Whether the first moment of a day, counted from 1970-01-01, is of it.
    pub(crate) fn contains_day(&self, day: i64) -> bool {
        self.contains(day.saturating_mul(MICROS_PER_DAY))
    }
}

/// Microseconds since 1970, rounded down.
pub(crate) fn micros(moment: SystemTime) -> i64 {
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            let nanos = before.duration().as_nanos();
            i64::try_from(nanos.div_ceil(1000)).map_or(i64::MIN, |micros| -micros)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_says_what_its_record_says() {
        let mut record = SessionCost::open("a", SessionType::Plan, "2026-11-20T23:59:59.999999Z");
        record.tags.insert("ci".to_string(), "1".to_string());
        record.model.requested = Some("kimi".to_string());
        record.model.reported = Some("kimi-k3".to_string());
        record.worst_case_usd = Some(Usd::from_usd(3));
        let seen = with_view(&record, |view| {
            assert_eq!(view.tag("ci"), Some("1"));
            assert_eq!(view.tag("c"), None);
            assert_eq!(
                (view.model, view.requested),
                (Some("kimi-k3"), Some("kimi"))
            );
            assert_eq!(view.at_most_usd(), record.at_most_usd());
            assert_eq!(clock::format_rfc3339(view.started()), record.started_at);
            assert_eq!(view.owner, Some(&record.owner));
            view.day()
        });
        assert_eq!(seen, Some(20_777));
        record.started_at = "yesterday".to_string();
        assert_eq!(with_view(&record, |_| ()), None);
    }

    #[test]
    fn a_torn_record_still_names_its_bound() {
        let mut record = SessionCost::open("a", SessionType::Plan, "2026-11-20T23:59:59Z");
        let mut check = |expected: [Option<&str>; 2], change: &dyn Fn(&mut SessionCost)| {
            change(&mut record);
            let json = serde_json::to_vec(&record).unwrap();
            let expected = expected.map(|usd| usd.map(|usd| Usd::parse(usd).unwrap()));
            assert_eq!(readable_bound(&json), expected[0]);
            assert_eq!(readable_bound(&json[..20]), expected[1]);
        };
        check([None, None], &|_| {});
        check([None, None], &|run| run.actual_usd = Usd::parse("0.5").ok());
        check([Some("0.5"), None], &|run| {
            run.status = SessionStatus::Settled
        });
        check([Some("2"), None], &|run| {
            run.worst_case_usd = Some(Usd::from_usd(2))
        });
        check([Some("3"), None], &|run| {
            run.actual_usd = Some(Usd::from_usd(3))
        });
    }

    #[test]
    fn a_period_ends_before_its_end() {
        let at = |text: &str| clock::parse_rfc3339(text).unwrap();
        let day = Period {
            from: Some(at("2026-11-20T00:00:00Z")),
            until: Some(at("2026-11-21T00:00:00Z")),
        };
        for (moment, inside) in [
            ("2026-11-19T23:59:59.999999Z", false),
            ("2026-11-20T00:00:00Z", true),
            ("2026-11-20T23:59:59.999999Z", true),
            ("2026-11-21T00:00:00Z", false),
        ] {
            assert_eq!(day.contains(micros(at(moment))), inside, "{moment}");
        }
        assert!(day.is_of_days() && day.contains_day(20_777) && !day.contains_day(20_778));
        let hour = Period {
            from: Some(at("2026-11-20T23:00:00Z")),
            until: None,
        };
        let next_day = Period {
            from: day.until,
            until: None,
        };
        assert!(!hour.is_of_days());
        for (a, b, meets) in [
            (day, hour, true),
            (day, next_day, false),
            (hour, next_day, true),
        ] {
            assert_eq!((a.meets(b), b.meets(a)), (meets, meets));
            assert!(a.meets(Period::default()));
        }
        assert!(Period::default().contains(i64::MIN));
        assert_eq!(micros(at("1969-12-31T23:59:59.9999995Z")), -1);
    }
}
