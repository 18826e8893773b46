//! Decimal numbers as people write them, read without floating point.
//!
//! Prices, limits, shares and durations are all "a decimal, exact to so many places", and a double would round some of
//! them. So the digits become a whole number of the smallest unit. Refuses to round: a digit beyond the last place is an
//! error, as are signs, separators and currency marks.

use std::error::Error;
use std::fmt;

/// Why a text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not a decimal number: a currency sign, a comma, NaN, nothing at all.
    NotANumber,
    /// Less than zero.
    Negative,
    /// It has digits beyond the last place.
    TooPrecise,
    /// It does not fit.
    TooLarge,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecimalError::NotANumber => "not a decimal number",
            DecimalError::Negative => "negative",
            DecimalError::TooPrecise => "too many decimals",
            DecimalError::TooLarge => "too large",
        })
    }
}

impl Error for DecimalError {}

/// Reads `12`, `0.5`, `.5`, `5.` or `1e-3` as a whole number of units, `10^places` of them to one.
///
/// # Errors
///
/// See [`DecimalError`]. Zeros beyond the last place are fine: they say nothing.
pub fn parse(text: &str, places: u32) -> Result<u128, DecimalError> {
    plain(text.as_bytes(), places).map_or_else(|| parse_any(text, places), Ok)
}

/// The same for digits with at most one point among them, as nearly every amount of a ledger is written. `None` leaves it to
/// the general way, which knows what is wrong.
fn plain(text: &[u8], places: u32) -> Option<u128> {
    // So many digits fit.
    if text.len() > 19 {
        return None;
    }
    let (mut number, mut digits, mut point) = (0_u64, 0_u32, None);
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            _ => return None,
        }
    }
    let fraction = digits - point.unwrap_or(digits);
    let scale = 10_u128.checked_pow(places.checked_sub(fraction).filter(|_| digits > 0)?)?;
    u128::from(number).checked_mul(scale)
}

fn parse_any(text: &str, places: u32) -> Result<u128, DecimalError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent
                .parse::<i32>()
                .map_err(|_| DecimalError::NotANumber)?,
        ),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    // Trailing zeros must not count as precision, nor leading ones as size.
    let significant = digits.trim_end_matches('0');
    let dropped = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    if negative {
        return Err(DecimalError::Negative);
    }
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let shift = i64::from(exponent) + length(dropped) - length(fraction.len()) + i64::from(places);
    let shift = u32::try_from(shift).map_err(|_| DecimalError::TooPrecise)?;
    let number: u128 = significant.parse().map_err(|_| DecimalError::TooLarge)?;
    10_u128
        .checked_pow(shift)
        .and_then(|scale| number.checked_mul(scale))
        .ok_or(DecimalError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_decimal() {
        for (text, units) in [
            ("0", 0),
            ("-0", 0),
            ("12", 12_000),
            ("007.5", 7_500),
            (".5", 500),
            ("5.", 5_000),
            ("0.1000000000000000000000000", 100),
            ("1e-3", 1),
            ("10e-4", 1),
            ("1E3", 1_000_000),
        ] {
            assert_eq!(parse(text, 3), Ok(units), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_decimal_or_does_not_fit_is_refused() {
        use DecimalError::*;
        for (text, error) in [
            ("", NotANumber),
            (".", NotANumber),
            ("-", NotANumber),
            ("--1", NotANumber),
            ("+1", NotANumber),
            (" 1", NotANumber),
            ("$1", NotANumber),
            ("1,5", NotANumber),
            ("1.2.3", NotANumber),
            ("1e", NotANumber),
            ("1e5e5", NotANumber),
            ("1e99999999999", NotANumber),
            ("NaN", NotANumber),
            ("٣", NotANumber),
            ("-0.1", Negative),
            ("0.0001", TooPrecise),
            ("1e-2147483648", TooPrecise),
            ("0.1111111111111111111111111111111111111111111", TooPrecise),
            ("1e2147483647", TooLarge),
            ("340282366920938463463374607431768211456", TooLarge),
        ] {
            assert_eq!(parse(text, 3), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_written_out_is_read_back(units in any::<u64>(), places in 0_u32..=18) {
            let scale = 10_u64.pow(places);
            let text = format!("{}.{:0width$}", units / scale, units % scale, width = places as usize);
            let text = if places == 0 { units.to_string() } else { text };
            prop_assert_eq!(parse(&text, places), Ok(u128::from(units)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,50}|.{0,20}", places in 0_u32..=12) {
            let general = parse_any(&text, places);
            if let Some(units) = plain(text.as_bytes(), places) {
                prop_assert_eq!(Ok(units), general);
            }
        }
    }
}
