//! Money without drift.
//!
//! A price list says `0.003625 USD per 1M tokens`, a bill adds up billions of those, and a budget gate compares the sum
//! with `0.05`. In floating point each step is nearly right and the comparison is sometimes wrong, so nothing here
//! computes in it: rates and amounts are integers of the unit in which every listed price is whole. Negative amounts and
//! amounts finer than that unit are errors. An amount is in US dollars unless what holds it has another [`Currency`].
//!
//! The unit: prices are listed per million tokens with at most six decimals, so one millionth of a dollar per million
//! tokens, which is 1e-12 USD a token, divides them all.

use std::error::Error;
use std::fmt;
use std::ops::Add;

use serde::Serialize;
use serde::Serializer;
use serde_json::Number;
use serde_json::Value;

use crate::runtime::decimal;
use crate::runtime::decimal::DecimalError;
use crate::runtime::words::words;

words! {
    /// Whether something may have cost money.
    Charge, "charge" {
        /// The peer worked, and bills for it.
        Yes = "yes",
        /// Nothing was sent, or the peer refused before it worked.
        No = "no",
        /// Something was sent, and it is not known whether it is billed.
        Unknown = "unknown",
    }
}

words! {
    /// What an amount is in. Amounts of two currencies are never added, and none is converted into another.
    #[derive(Default)]
    Currency, "currency" {
        /// US dollars.
        #[default]
        Usd = "USD",
        /// Renminbi, which Moonshot's platform in mainland China bills.
        Cny = "CNY",
    }
}

impl Currency {
    /// Whether it is US dollars.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) fn is_usd(&self) -> bool {
        *self == Currency::Usd
    }
}

impl Charge {
    /// That of two attempts together.
    #[must_use]
    pub const fn plus(self, other: Charge) -> Charge {
        match (self, other) {
            (Charge::Yes, _) | (_, Charge::Yes) => Charge::Yes,
            (Charge::No, Charge::No) => Charge::No,
            _ => Charge::Unknown,
        }
    }
}

/// Decimals of a rate in USD per 1M tokens.
const RATE_DECIMALS: u32 = 6;
/// Decimals of an amount in USD.
const USD_DECIMALS: u32 = 12;
const MICROS_PER_USD: u64 = 1_000_000;
const PICOS_PER_USD: u128 = 1_000_000_000_000;

/// Why a text or number is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountError {
    /// Not a decimal number: a currency sign, a comma, NaN, nothing at all.
    NotANumber,
    /// Less than zero.
    Negative,
    /// More decimals than the unit has; the number says how many are allowed.
    TooPrecise(u32),
    /// Above any price that is not a mistake.
    TooLarge,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AmountError::NotANumber => f.write_str("not a decimal number"),
            AmountError::Negative => f.write_str("negative"),
            AmountError::TooPrecise(decimals) => write!(f, "more than {decimals} decimals"),
            AmountError::TooLarge => f.write_str("too large"),
        }
    }
}

impl Error for AmountError {}

/// A price for tokens, exact: millionths of a US dollar per million tokens, from 0 to [`Rate::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// 1,000,000 USD per 1M tokens, a dollar a token: a number above it was meant in another unit.
    pub const MAX: Rate = Rate(1_000_000 * MICROS_PER_USD);

    /// A whole number of dollars per 1M tokens, at most [`Rate::MAX`].
    pub const fn from_usd(usd: u32) -> Rate {
        let micros = usd as u64 * MICROS_PER_USD;
        if micros > Rate::MAX.0 {
            Rate::MAX
        } else {
            Rate(micros)
        }
    }

    /// A quarter of this rate, rounded down to the unit.
    pub const fn quarter(self) -> Rate {
        Rate(self.0 / 4)
    }

    /// Reads a decimal number of USD per 1M tokens, such as `0.003625` or `3e-1`.
    ///
    /// # Errors
    ///
    /// See [`AmountError`]; at most six decimals.
    pub fn parse(text: &str) -> Result<Rate, AmountError> {
        match parse_scaled(text, RATE_DECIMALS)? {
            micros if micros > u128::from(Rate::MAX.0) => Err(AmountError::TooLarge),
            micros => u64::try_from(micros)
                .map(Rate)
                .map_err(|_| AmountError::TooLarge),
        }
    }

    /// The rate whose decimal reads as this double, if there is one: exact, though JSON numbers arrive as doubles.
    ///
    /// With k millionths below 2^53, `k / 1e6` is rounded correctly, so it gives the very double that the decimal reads
    /// as. Equality therefore decides what the text said, and a seventh decimal is noticed, not rounded away.
    ///
    /// # Errors
    ///
    /// See [`AmountError`]; at most six decimals.
    pub fn from_f64(usd: f64) -> Result<Rate, AmountError> {
        if !usd.is_finite() {
            return Err(AmountError::NotANumber);
        }
        if usd < 0.0 {
            return Err(AmountError::Negative);
        }
        if usd > 1_000_000.0 {
            return Err(AmountError::TooLarge);
        }
        // In range by the checks above, so the cast cannot saturate.
        let micros = (usd * 1e6).round() as u64;
        if micros as f64 / 1e6 == usd {
            Ok(Rate(micros))
        } else {
            Err(AmountError::TooPrecise(RATE_DECIMALS))
        }
    }

    /// Reads a JSON number, or a string that holds a decimal number.
    ///
    /// # Errors
    ///
    /// See [`AmountError`]; any other JSON value is [`AmountError::NotANumber`].
    pub fn from_json(value: &Value) -> Result<Rate, AmountError> {
        match value {
            Value::Number(number) => Rate::from_f64(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Rate::parse(text),
            _ => Err(AmountError::NotANumber),
        }
    }

    /// What this many tokens cost. Cannot overflow: at most 2^64 times 10^12, less than 2^104.
    pub fn times(self, tokens: u64) -> Usd {
        Usd(u128::from(self.0) * u128::from(tokens))
    }

    /// How many whole tokens an amount pays for; the largest number where they are free.
    pub fn affords(self, amount: Usd) -> u64 {
        match amount.0.checked_div(u128::from(self.0)) {
            Some(tokens) => u64::try_from(tokens).unwrap_or(u64::MAX),
            None => u64::MAX,
        }
    }

    /// The exact decimal, in USD per 1M tokens: `0.003625`, `3`.
    pub fn exact_decimal(self) -> String {
        written(u128::from(self.0), RATE_DECIMALS)
    }

    /// The JSON number of the exact decimal. Thirteen digits at most, so a double tells it from every other rate.
    pub fn to_json(self) -> Number {
        to_number(u128::from(self.0), RATE_DECIMALS)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(u128::from(self.0), RATE_DECIMALS))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// An amount of US dollars, exact to 1e-12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u128);

impl Usd {
    /// Nothing.
    pub const ZERO: Usd = Usd(0);

    /// A whole number of dollars.
    pub const fn from_usd(usd: u32) -> Usd {
        Usd(usd as u128 * PICOS_PER_USD)
    }

    /// One trillion dollars: a larger limit or figure is a mistake.
    const MAX_PARSED: u128 = 1_000_000_000_000 * PICOS_PER_USD;

    /// Reads a decimal number of dollars, such as `0.05`, without a currency sign.
    ///
    /// # Errors
    ///
    /// See [`AmountError`]; at most twelve decimals and one trillion dollars.
    pub fn parse(text: &str) -> Result<Usd, AmountError> {
        match parse_scaled(text, USD_DECIMALS)? {
            picos if picos > Usd::MAX_PARSED => Err(AmountError::TooLarge),
            picos => Ok(Usd(picos)),
        }
    }

    /// The sum, or nothing when it does not fit: above 3e26 USD.
    pub fn checked_add(self, other: Usd) -> Option<Usd> {
        self.0.checked_add(other.0).map(Usd)
    }

    /// The difference, or nothing when it would be a debt.
    pub fn checked_sub(self, other: Usd) -> Option<Usd> {
        self.0.checked_sub(other.0).map(Usd)
    }

    /// Whether it is nothing at all.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The exact decimal: `0.003723`, `12`, `0`.
    pub fn exact_decimal(self) -> String {
        written(self.0, USD_DECIMALS)
    }

    /// The amount for people where it is one of another currency: `$0.5` or `CNY 0.5`.
    pub fn shown_in(self, currency: Currency) -> String {
        match currency {
            Currency::Usd => self.to_string(),
            other => format!("{other} {}", self.to_string().trim_start_matches('$')),
        }
    }

    /// The nearest double; always finite. For showing and sorting, not for sums.
    pub fn as_f64(self) -> f64 {
        // 39 digits of decimal read as a finite double, and reading rounds once where a division would round twice.
        self.exact_decimal().parse().unwrap_or(f64::MAX)
    }

    /// The JSON number of the exact decimal, shortest form.
    ///
    /// JSON readers hold doubles, so beyond 15 significant digits it is the nearest one; [`Usd::exact_decimal`] has them all.
    pub fn to_json(self) -> Number {
        to_number(self.0, USD_DECIMALS)
    }
}

/// The sum; stops at the largest amount, 3e26 USD, which no sum of bills reaches: each is below 2^106 of 2^128 units.
/// Where amounts come from a file, use [`Usd::checked_add`].
impl Add for Usd {
    type Output = Usd;

    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

/// For people: a dollar sign, at least two decimals, and four significant digits where those come later. Rounded half up;
/// an amount that is not nothing never shows as `$0.00`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(self.0, USD_DECIMALS))
    }
}

/// As its exact decimal, a string: a number could lose digits.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.exact_decimal().serialize(serializer)
    }
}

/// An amount in JSON as the string of its exact decimal: for `#[serde(with = "exact")]` where no digit may be lost.
pub(crate) mod exact {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    use crate::catalog::money::USD_DECIMALS;
    use crate::catalog::money::Usd;
    use crate::catalog::money::parse_scaled;

    pub(crate) fn serialize<S: Serializer>(usd: &Usd, serializer: S) -> Result<S::Ok, S::Error> {
        usd.exact_decimal().serialize(serializer)
    }

    /// Unlike [`Usd::parse`] it takes any amount: a sum of many may be beyond what one of them can be.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_scaled(&text, USD_DECIMALS)
            .map(Usd)
            .map_err(serde::de::Error::custom)
    }
}

/// An amount as the string of its exact decimal, or null.
pub(crate) mod exact_option {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;
    use serde_json::Value;

    use crate::catalog::money::Usd;

    pub(crate) fn serialize<S: Serializer>(
        usd: &Option<Usd>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        usd.map(Usd::exact_decimal).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Usd>, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::Null => return Ok(None),
            Value::String(text) => text,
            // As documents show it.
            Value::Number(number) => number.to_string(),
            _ => return Err(serde::de::Error::custom("an amount is expected")),
        };
        Usd::parse(&text)
            .map(Some)
            .map_err(serde::de::Error::custom)
    }
}

/// Reads a decimal as a whole number of units, `decimals` of them to the dollar.
fn parse_scaled(text: &str, decimals: u32) -> Result<u128, AmountError> {
    decimal::parse(text, decimals).map_err(|error| match error {
        DecimalError::NotANumber => AmountError::NotANumber,
        DecimalError::Negative => AmountError::Negative,
        DecimalError::TooPrecise => AmountError::TooPrecise(decimals),
        DecimalError::TooLarge => AmountError::TooLarge,
    })
}

/// The exact decimal of a number of units, without trailing zeros.
fn written(units: u128, decimals: u32) -> String {
    let scale = 10_u128.pow(decimals);
    let width = decimals as usize;
    let text = format!("{}.{:0width$}", units / scale, units % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn to_number(units: u128, decimals: u32) -> Number {
    let text = written(units, decimals);
    let whole = text.parse::<u64>().ok().map(Number::from);
    whole
        .or_else(|| text.parse().ok().and_then(Number::from_f64))
        .unwrap_or_else(|| Number::from(0))
}

/// The form for people, see `Display` of [`Usd`].
fn shown(units: u128, decimals: u32) -> String {
    if units == 0 {
        return "$0".to_string();
    }
    // Digits before the point, negative when there are zeros after it: 12.3 has 2, 0.0123 has -1.
    let magnitude = i64::from(units.ilog10()) + 1 - i64::from(decimals);
    let kept = (4 - magnitude).clamp(2, i64::from(decimals));
    let kept = u32::try_from(kept).unwrap_or(decimals);
    let step = 10_u128.pow(decimals - kept);
    let rounded =
        (units / step).saturating_add(u128::from(units % step >= step.div_ceil(2) && step > 1));
    let scale = 10_u128.pow(kept);
    let mut fraction = format!("{:0width$}", rounded % scale, width = kept as usize);
    while fraction.len() > 2 && fraction.ends_with('0') {
        fraction.pop();
    }
    format!("${}.{fraction}", rounded / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn an_amount_pays_for_whole_tokens() {
        let rate = Rate::parse("2.5").unwrap();
        assert_eq!(rate.affords(usd("0.0000075")), 3);
        assert_eq!(rate.affords(usd("0.000007499999")), 2);
        assert_eq!(rate.times(3), usd("0.0000075"));
        assert_eq!(Rate::from_usd(0).affords(usd("1")), u64::MAX);
    }

    #[test]
    fn rates_are_read_exactly() {
        for (text, micros) in [
            ("0", 0),
            ("-0", 0),
            ("3", 3_000_000),
            ("3.00", 3_000_000),
            ("0.003625", 3_625),
            ("0.000001", 1),
            ("0.10000000000", 100_000),
            ("1e-6", 1),
            ("2.5e-1", 250_000),
            ("1E3", 1_000_000_000),
            ("007.5", 7_500_000),
            ("1000000", 1_000_000_000_000),
        ] {
            assert_eq!(Rate::parse(text), Ok(Rate(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_rate_is_refused() {
        use AmountError::*;
        for (text, error) in [
            ("", NotANumber),
            ("15$", NotANumber),
            ("$15", NotANumber),
            ("1,5", NotANumber),
            (".", NotANumber),
            ("+5", NotANumber),
            (" 5", NotANumber),
            ("1e", NotANumber),
            ("1e99999999999", NotANumber),
            ("NaN", NotANumber),
            ("inf", NotANumber),
            ("٣", NotANumber),
            ("-1", Negative),
            ("-0.000001", Negative),
            ("0.0000001", TooPrecise(6)),
            ("1e-2147483648", TooPrecise(6)),
            ("1000000.000001", TooLarge),
            ("1e2147483647", TooLarge),
            ("99999999999999999999999999999999999999999", TooLarge),
        ] {
            assert_eq!(Rate::parse(text), Err(error), "{text}");
        }
        for (number, error) in [
            (f64::NAN, NotANumber),
            (f64::INFINITY, NotANumber),
            (-0.5, Negative),
            (0.123_456_7, TooPrecise(6)),
            (1e-300, TooPrecise(6)),
            (1_000_000.5, TooLarge),
        ] {
            assert_eq!(Rate::from_f64(number), Err(error), "{number}");
        }
        assert_eq!(Rate::from_json(&Value::Bool(true)), Err(NotANumber));
    }

    #[test]
    fn amounts_for_people() {
        for (exact, shown) in [
            ("0", "$0"),
            ("0.003723", "$0.003723"),
            ("0.0037234999", "$0.003723"),
            ("0.0037235", "$0.003724"),
            ("12.345", "$12.35"),
            ("12.344999", "$12.34"),
            ("1.23456", "$1.235"),
            ("0.5", "$0.50"),
            ("5", "$5.00"),
            ("1234.5", "$1234.50"),
            ("0.99996", "$1.00"),
            ("9.9996", "$10.00"),
            ("0.000000000001", "$0.000000000001"),
            ("0.000000000123", "$0.000000000123"),
            ("1234567.895", "$1234567.90"),
        ] {
            let amount = usd(exact);
            assert_eq!(amount.to_string(), shown, "{exact}");
        }
        assert_eq!(Rate::parse("0.003625").unwrap().to_string(), "$0.003625");
        assert_eq!(Rate::parse("3").unwrap().to_string(), "$3.00");
        assert_eq!(format!("{:>8}|", usd("5")), "   $5.00|");
    }

    #[test]
    fn amounts_for_machines() {
        for (exact, json) in [
            ("0", "0"),
            ("12", "12"),
            ("0.1", "0.1"),
            ("0.003723", "0.003723"),
            ("12.5", "12.5"),
        ] {
            assert_eq!(usd(exact).exact_decimal(), exact);
            assert_eq!(usd(exact).to_json().to_string(), json);
            assert_eq!(
                serde_json::to_value(usd(exact)).unwrap(),
                Value::from(exact)
            );
        }
        assert_eq!(usd("0.000000000001").to_json().to_string(), "1e-12");
        assert_eq!(usd("0.000000000001").as_f64(), 1e-12);
        assert!(Usd(u128::MAX).as_f64().is_finite());
        assert_eq!(
            Usd(u128::MAX).to_string(),
            "$340282366920938463463374607.43"
        );
    }

    #[test]
    fn sums_are_checked() {
        assert_eq!(usd("0.1").checked_add(usd("0.2")), Some(usd("0.3")));
        assert_eq!(usd("0.1") + usd("0.2"), usd("0.3"));
        assert_eq!(Usd(u128::MAX).checked_add(Usd(1)), None);
        assert_eq!(usd("1").checked_sub(usd("1.5")), None);
        assert_eq!(
            Rate::MAX.times(u64::MAX).exact_decimal(),
            u64::MAX.to_string()
        );
    }

    proptest! {
        #[test]
        fn a_double_reads_as_its_shortest_decimal(number in prop_oneof![0.0..1e6_f64, (0..=1_000_000_000_000_u64).prop_map(|k| k as f64 / 1e6), any::<f64>()]) {
            let by_text = Rate::parse(&format!("{number}"));
            match Rate::from_f64(number) {
                Ok(rate) => prop_assert_eq!(by_text, Ok(rate)),
                Err(_) => prop_assert!(by_text.is_err(), "{}", number),
            }
        }

        #[test]
        fn rates_and_amounts_read_back(micros in 0..=1_000_000_000_000_u64, picos in 0..=Usd::MAX_PARSED) {
            prop_assert_eq!(Rate::parse(&Rate(micros).exact_decimal()), Ok(Rate(micros)));
            prop_assert_eq!(Rate::from_json(&Value::Number(Rate(micros).to_json())), Ok(Rate(micros)));
            prop_assert_eq!(Usd::parse(&Usd(picos).exact_decimal()), Ok(Usd(picos)));
        }

        #[test]
        fn something_never_shows_as_nothing(picos in 1..u128::MAX) {
            let shown = Usd(picos).to_string();
            prop_assert!(shown.contains(|c: char| ('1'..='9').contains(&c)), "{}", shown);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,50}|.{0,20}") {
            let _ = Rate::parse(&text);
            let _ = Usd::parse(&text);
        }
    }
}
