//! The time of day as a value, time that passes as another, and RFC 3339 without a crate.
//!
//! Nothing below the command line asks the system for the time: it is handed a [`Clock`], so a test can stop it. What
//! waits is handed a [`Timer`] in the same way, so that no test does. Only UTC is written. Local time zones are refused on purpose: a ledger shared between machines must sort by its text.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::runtime::signal;

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
/// 0000-01-01T00:00:00Z, the first moment that four digits of year can say.
const MIN_SECONDS: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z, the last.
const MAX_SECONDS: i64 = 253_402_300_799;

/// Where a moment comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// Always the same moment.
    Fixed(SystemTime),
}

impl Clock {
    /// The moment now, by this clock.
    pub fn now(self) -> SystemTime {
        match self {
            Clock::System => SystemTime::now(),
            Clock::Fixed(moment) => moment,
        }
    }
}

/// Time as it passes, for what waits between attempts.
pub trait Timer {
    /// Time since some moment that stays the same. Never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits.
    fn sleep(&mut self, duration: Duration);

    /// A number from 0 to 1000, another each time, so that those who failed together do not come back together. No
    /// secret may rest on it.
    fn jitter(&mut self) -> u16;
}

impl<T: Timer> Timer for &mut T {
    fn elapsed(&self) -> Duration {
        T::elapsed(self)
    }

    fn sleep(&mut self, duration: Duration) {
        T::sleep(self, duration);
    }

    fn jitter(&mut self) -> u16 {
        T::jitter(self)
    }
}

/// The system's time.
#[derive(Clone, Copy, Debug)]
pub struct SystemTimer(Instant);

impl Default for SystemTimer {
    fn default() -> SystemTimer {
        SystemTimer(Instant::now())
    }
}

impl Timer for SystemTimer {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Ends early when a signal asks the program to stop.
    fn sleep(&mut self, duration: Duration) {
        signal::sleep(duration);
    }

    fn jitter(&mut self) -> u16 {
        // The standard library seeds each state anew, which is all the randomness that it has to offer.
        let random = RandomState::new().hash_one(self.elapsed()) % 1001;
        u16::try_from(random).unwrap_or(0)
    }
}

/// A time that passes only when someone sleeps: for tests, of this crate and of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManualTimer {
    slept: Vec<Duration>,
}

impl ManualTimer {
    /// Every sleep so far, in order.
    pub fn slept(&self) -> &[Duration] {
        &self.slept
    }
}

impl Timer for ManualTimer {
    fn elapsed(&self) -> Duration {
        let sum = self.slept.iter();
        sum.fold(Duration::ZERO, |sum, slept| sum.saturating_add(*slept))
    }

    fn sleep(&mut self, duration: Duration) {
        self.slept.push(duration);
    }

    fn jitter(&mut self) -> u16 {
        0
    }
}

/// A text is not a moment in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTimeError;

impl fmt::Display for ParseTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time such as 2026-11-20T08:30:00Z")
    }
}

impl std::error::Error for ParseTimeError {}

/// `2026-11-20T08:30:00Z`, with 3, 6 or 9 digits of fraction when there is one: the shortest form that reads back exactly.
///
/// A moment outside the years 0 to 9999 is moved to the nearest one inside: RFC 3339 has no words for it.
pub fn format_rfc3339(moment: SystemTime) -> String {
    let (seconds, nanos) = since_epoch(moment);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let date_time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match nanos {
        0 => format!("{date_time}Z"),
        n if n.is_multiple_of(1_000_000) => format!("{date_time}.{:03}Z", n / 1_000_000),
        n if n.is_multiple_of(1_000) => format!("{date_time}.{:06}Z", n / 1_000),
        n => format!("{date_time}.{n:09}Z"),
    }
}

/// The date alone: `2026-11-20`.
pub fn format_date(moment: SystemTime) -> String {
    let (seconds, _) = since_epoch(moment);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Reads RFC 3339: any offset, `T` or `t`, up to nine digits of fraction, and the leap second 60 as the second after it.
///
/// # Errors
///
/// Anything else, among it dates that do not exist, local times without an offset, and years over 9999.
pub fn parse_rfc3339(text: &str) -> Result<SystemTime, ParseTimeError> {
    let mut rest = Scanner(text.as_bytes());
    let days = rest.date()?;
    rest.one_of(b"Tt")?;
    let hour = rest.number(2, 23)?;
    rest.one_of(b":")?;
    let minute = rest.number(2, 59)?;
    rest.one_of(b":")?;
    let second = rest.number(2, 60)?;
    let nanos = rest.fraction()?;
    let offset = rest.offset()?;
    if !rest.0.is_empty() {
        return Err(ParseTimeError);
    }
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
    from_epoch(seconds, nanos)
}

/// Whether the text is a calendar date (`2026-11-20`) or a month (`2026-11`), as facts are dated.
pub fn is_date_or_month(text: &str) -> bool {
    let mut rest = Scanner(text.as_bytes());
    if rest.date().is_ok() && rest.0.is_empty() {
        return true;
    }
    let mut rest = Scanner(text.as_bytes());
    let month = rest
        .number(4, 9999)
        .and_then(|_| rest.one_of(b"-"))
        .and_then(|_| rest.number(2, 12));
    matches!(month, Ok(1..)) && rest.0.is_empty()
}

/// Whole seconds since 1970 rounded down, and the nanoseconds above them; clamped to the years 0 to 9999.
fn since_epoch(moment: SystemTime) -> (i64, u32) {
    let (seconds, nanos) = match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (
            i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            after.subsec_nanos(),
        ),
        Err(e) => {
            let before = e.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |s| -s);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), NANOS_PER_SECOND - nanos),
            }
        }
    };
    match seconds {
        ..MIN_SECONDS => (MIN_SECONDS, 0),
        MIN_SECONDS..=MAX_SECONDS => (seconds, nanos),
        _ => (MAX_SECONDS, 0),
    }
}

fn from_epoch(seconds: i64, nanos: u32) -> Result<SystemTime, ParseTimeError> {
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Err(ParseTimeError);
    }
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    moment
        .and_then(|m| m.checked_add(Duration::from_nanos(u64::from(nanos))))
        .ok_or(ParseTimeError)
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Counts from 0000-03-01 instead, so that the leap day is the last of its year, in eras of 400 years of 146,097 days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is 0. Five months from March on have 153 days.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = 400 * era + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`] for a date that exists.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// What is left of the text; each step takes its part or fails.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Result<u8, ParseTimeError> {
        match self.0.split_first() {
            Some((first, rest)) if allowed.contains(first) => {
                self.0 = rest;
                Ok(*first)
            }
            _ => Err(ParseTimeError),
        }
    }

    /// Exactly `digits` digits with a value up to `max`.
    fn number(&mut self, digits: usize, max: i64) -> Result<i64, ParseTimeError> {
        let mut value = 0;
        for _ in 0..digits {
            let digit = self.one_of(b"0123456789")?;
            value = value * 10 + i64::from(digit - b'0');
        }
        if value > max {
            Err(ParseTimeError)
        } else {
            Ok(value)
        }
    }

    fn date(&mut self) -> Result<i64, ParseTimeError> {
        let year = self.number(4, 9999)?;
        self.one_of(b"-")?;
        let month = self.number(2, 12)?;
        self.one_of(b"-")?;
        let day = self.number(2, 31)?;
        if month == 0 || day == 0 || day > days_in_month(year, month) {
            return Err(ParseTimeError);
        }
        Ok(days_from_civil(year, month, day))
    }

    fn fraction(&mut self) -> Result<u32, ParseTimeError> {
        if self.one_of(b".").is_err() {
            return Ok(0);
        }
        let mut scale = NANOS_PER_SECOND / 10;
        let mut nanos = scale * u32::from(self.one_of(b"0123456789")? - b'0');
        while let Ok(digit) = self.one_of(b"0123456789") {
            if scale == 1 {
                return Err(ParseTimeError);
            }
            scale /= 10;
            nanos += scale * u32::from(digit - b'0');
        }
        Ok(nanos)
    }

    fn offset(&mut self) -> Result<i64, ParseTimeError> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Ok(0),
        };
        let hours = self.number(2, 23)?;
        self.one_of(b":")?;
        let minutes = self.number(2, 59)?;
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

/// A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`. The two older forms are not written any more.
pub fn parse_http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.split_once(", ")?;
    let mut fields = date.split(' ');
    let (day, month, year) = (fields.next()?, fields.next()?, fields.next()?);
    let (time, zone) = (fields.next()?, fields.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if zone != "GMT" || fields.next().is_some() || year.len() != 4 || day.len() != 2 {
        return None;
    }
    parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64, nanos: u32) -> SystemTime {
        from_epoch(seconds, nanos).unwrap()
    }

    #[test]
    fn known_moments_in_both_directions() {
        let table = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_795_163_400, 0, "2026-11-20T08:30:00Z"),
            (1_795_163_400, 5_000_000, "2026-11-20T08:30:00.005Z"),
            (1_795_163_400, 5_000, "2026-11-20T08:30:00.000005Z"),
            (1_795_163_400, 5, "2026-11-20T08:30:00.000000005Z"),
            (-2_203_891_201, 999_000_000, "1900-02-28T23:59:59.999Z"),
            (MIN_SECONDS, 0, "0000-01-01T00:00:00Z"),
            (MAX_SECONDS, 0, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, nanos, text) in table {
            assert_eq!(format_rfc3339(at(seconds, nanos)), text);
            assert_eq!(parse_rfc3339(text), Ok(at(seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn offsets_case_and_leap_seconds() {
        let noon = parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
        for same in [
            "2026-11-20t12:00:00z",
            "2026-11-20T14:30:00+02:30",
            "2026-11-20T07:00:00.000-05:00",
        ] {
            assert_eq!(parse_rfc3339(same), Ok(noon), "{same}");
        }
        assert_eq!(
            parse_rfc3339("2016-12-31T23:59:60Z"),
            parse_rfc3339("2017-01-01T00:00:00Z")
        );
    }

    #[test]
    fn what_is_not_rfc3339_is_refused() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T08:30:00",
            "2026-11-20 08:30:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T08:30:61Z",
            "2026-11-20T08:30:00.Z",
            "2026-11-20T08:30:00.1234567890Z",
            "2026-11-20T08:30:00Zjunk",
            "+2026-11-20T08:30:00Z",
            "9999-12-31T23:59:59-01:00",
            "２026-11-20T08:30:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), Err(ParseTimeError), "{text}");
        }
    }

    #[test]
    fn dates_and_months() {
        assert_eq!(format_date(at(1_795_163_400, 0)), "2026-11-20");
        for text in ["2026-11-20", "2026-11", "2000-02-29"] {
            assert!(is_date_or_month(text), "{text}");
        }
        for text in [
            "2026",
            "2026-00",
            "2026-13",
            "2026-11-31",
            "after 2026-08",
            "2026-11-",
            "2026-11-20 ",
        ] {
            assert!(!is_date_or_month(text), "{text}");
        }
    }

    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(
            parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(at(784_111_777, 0))
        );
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_fixed_clock_stands_still() {
        let clock = Clock::Fixed(at(7, 0));
        assert_eq!(clock.now(), clock.now());
        assert!(Clock::System.now() > at(1_700_000_000, 0));
    }

    #[test]
    fn a_manual_timer_moves_by_sleeping() {
        fn wait(mut timer: impl Timer, millis: u64) -> (Duration, u16) {
            timer.sleep(Duration::from_millis(millis));
            (timer.elapsed(), timer.jitter())
        }
        let mut timer = ManualTimer::default();
        assert_eq!(wait(&mut timer, 2000), (Duration::from_secs(2), 0));
        assert_eq!(wait(&mut timer, 500), (Duration::from_millis(2500), 0));
        assert_eq!(timer.slept().len(), 2);
    }

    #[test]
    fn the_systems_jitter_stays_in_its_range() {
        let mut timer = SystemTimer::default();
        assert!((0..100).all(|_| timer.jitter() <= 1000));
    }

    proptest! {
        #[test]
        fn every_moment_reads_back(seconds in MIN_SECONDS..=MAX_SECONDS, nanos in 0..NANOS_PER_SECOND) {
            let moment = at(seconds, nanos);
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(moment)), Ok(moment));
        }

        #[test]
        fn days_are_a_bijection(days in -800_000_i64..4_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert!((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_rfc3339(&text);
            let _ = is_date_or_month(&text);
        }
    }
}
