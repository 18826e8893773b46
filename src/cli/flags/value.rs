//! Text to values: the one grammar of counts, money, shares, durations and choices, whether they
//! come from the command line, a variable or the config file.
//!
//! Money never touches floating point. Every function says in its error what it would have
//! accepted, and refuses rather than rounds.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::catalog::Price;
use crate::catalog::money::{AmountError, Usd};
use crate::catalog::price_file::parse_price_flag;
use crate::cost::budget::{Budget, TagFilter, parse_budgets};
use crate::cost::record::SessionStatus;
use crate::llm::client::Rule;
pub(crate) use crate::llm::client::Thinking;
use crate::runtime::clock;
use crate::runtime::decimal::{self, DecimalError};
use crate::runtime::text::escape_os;
use crate::runtime::words::{Word, words};
use crate::transport::session_dir::is_session_id;

/// The largest limit in US dollars: far above any bill.
const MOST_USD: Usd = Usd::from_usd(1_000_000);

/// How much of the input the service has cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    /// That many tokens.
    Tokens(u64),
    /// That share of the input, in millionths: 1,000,000 is all of it.
    Millionths(u32),
}

words! {
    /// A kind of working session, for the heuristics of `--session`.
    pub(crate) Session, "session" {
        /// Several workers at once.
        Team = "team",
        /// One that plans and works by itself.
        Autopilot = "autopilot",
        /// The same prompt again and again.
        Ralph = "ralph",
    }
}

words! {
    /// A form in which plans, and what is found in them, are printed.
    pub(crate) Format, "format" {
        /// For people.
        Text = "text",
        /// One document.
        Json = "json",
        /// A document for people.
        Markdown = "markdown",
        /// A graph for Markdown.
        Mermaid = "mermaid",
        /// A graph for Graphviz.
        Dot = "dot",
        /// A row for each slice.
        Csv = "csv",
        /// Annotations of GitHub Actions.
        Github = "github",
        /// SARIF 2.1.0, for code scanning.
        Sarif = "sarif",
    }
}

/// A moment as it is written: the run's clock makes it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// So many whole days in UTC, today the first of them.
    Days(u64),
    /// So long ago.
    Ago(Duration),
    /// A day or a month in UTC: its first moment, and the first one after it.
    Date(SystemTime, SystemTime),
    /// A moment.
    Moment(SystemTime),
}

impl When {
    /// The first moment of it.
    pub(crate) fn start(&self, now: SystemTime) -> SystemTime {
        const DAY: u64 = 86_400;
        match self {
            When::Days(days) => {
                let since = now
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default();
                let back = days.saturating_sub(1).saturating_mul(DAY);
                let midnight = since.as_secs() - since.as_secs() % DAY;
                SystemTime::UNIX_EPOCH + Duration::from_secs(midnight.saturating_sub(back))
            }
            When::Ago(length) => now.checked_sub(*length).unwrap_or(SystemTime::UNIX_EPOCH),
            When::Date(from, _) => *from,
            When::Moment(moment) => *moment,
        }
    }

    /// The first moment after it.
    pub(crate) fn end(&self, now: SystemTime) -> SystemTime {
        match self {
            When::Date(_, until) => *until,
            other => other.start(now),
        }
    }

    /// Does it move with the clock?
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self, When::Days(_) | When::Ago(_))
    }
}

words! {
    /// What `omk cost export` writes.
    pub(crate) ExportFormat, "format" {
        /// A record a line.
        Jsonl = "jsonl",
        /// A run a line.
        Csv = "csv",
        /// Sums for a metrics system.
        OpenMetrics = "openmetrics",
    }
}

words! {
    /// What the files of an estimate are put together by.
    pub(crate) Grouping, "group" {
        /// The ending of the name.
        Ext = "ext",
        /// The directory at the top.
        Dir = "dir",
    }
}

words! {
    /// Which part of a text that is too long is cut off.
    pub(crate) CutFrom, "part" {
        /// The end: the beginning is kept.
        End = "end",
        /// The beginning: the end is kept.
        Start = "start",
        /// The middle: both ends are kept.
        Middle = "middle",
    }
}

/// The value as text.
pub(crate) fn text(value: &OsStr) -> Result<&str, String> {
    value
        .to_str()
        .ok_or_else(|| format!("`{}` is not UTF-8", escape_os(value)))
}

/// Any text but the empty one.
pub(crate) fn name(value: &OsStr) -> Result<String, String> {
    match text(value)? {
        "" => Err("the value is empty".to_string()),
        name => Ok(name.to_string()),
    }
}

/// Names separated by commas; none may be empty.
pub(crate) fn names(value: &OsStr) -> Result<Vec<String>, String> {
    let value = text(value)?;
    let names: Vec<String> = value
        .split(',')
        .map(|name| name.trim().to_string())
        .collect();
    if names.iter().any(String::is_empty) {
        return Err(format!(
            "`{value}` has an empty name; separate names by one comma"
        ));
    }
    Ok(names)
}

/// The one of `choices` that has this name.
pub(crate) fn choice<T: Copy>(value: &OsStr, choices: &[(&str, T)]) -> Result<T, String> {
    let value = text(value)?;
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*choice);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(format!("`{value}` is not one of {}", names.join(", ")))
}

/// A name of letters, digits, `-` and `_` that begins with a letter.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The word that has this name.
pub(crate) fn word<T: Word>(value: &OsStr) -> Result<T, String> {
    one_of(value, T::ALL)
}

/// The one of these words that has this name.
pub(crate) fn one_of<T: Word>(value: &OsStr, words: &[T]) -> Result<T, String> {
    let known: Vec<(&str, T)> = words.iter().map(|word| (word.name(), *word)).collect();
    choice(value, &known)
}

/// The address of a service, to which a path is added: without a query or a fragment.
pub(crate) fn base_url(value: &OsStr) -> Result<String, String> {
    let url = url(value)?;
    match url.split_once(['?', '#']) {
        Some((before, _)) => Err(format!(
            "`{before}` has a query or a fragment, and a path is added to it; leave out what follows `?` or `#`"
        )),
        None => Ok(url),
    }
}

/// An address that starts with `http://` or `https://`.
pub(crate) fn url(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    let rest = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !value.contains(char::is_whitespace) => {
            Ok(value.to_string())
        }
        _ => Err(format!(
            "`{value}` is not an address; write it as https://host/path"
        )),
    }
}

/// A number of things: a whole number from 0 to 18446744073709551615, with `k` or `M` for thousands
/// or millions (`4k`, `1.5M`).
pub(crate) fn count(value: &OsStr) -> Result<u64, String> {
    let value = text(value)?;
    let (digits, places) = match value.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 3),
        None => value
            .strip_suffix('M')
            .map_or((value, 0), |digits| (digits, 6)),
    };
    let error = || {
        format!(
            "`{value}` is not a count; write a whole number, such as 4000 or 4k, or 2M for two million"
        )
    };
    // `1.5k` is 1500, but a bare `1.0` or `1e3` is not how one writes a count.
    if digits.contains(['e', 'E']) || (places == 0 && digits.contains('.')) {
        return Err(error());
    }
    let count = decimal::parse(digits, places).map_err(|_| error())?;
    u64::try_from(count).map_err(|_| {
        format!(
            "`{value}` is too large a count; the largest is {}",
            u64::MAX
        )
    })
}

/// A count of at least one.
pub(crate) fn positive_count(value: &OsStr) -> Result<u64, String> {
    match count(value)? {
        0 => Err("`0` is too few; the least is 1".to_string()),
        count => Ok(count),
    }
}

/// A number of retries, 0 to 100.
pub(crate) fn retries(value: &OsStr) -> Result<u32, String> {
    match count(value)? {
        count @ 0..=100 => Ok(count as u32),
        count => Err(format!("`{count}` is too many; the most is 100")),
    }
}

/// A number of steps, 1 to 10000.
pub(crate) fn steps(value: &OsStr) -> Result<u32, String> {
    match count(value)? {
        count @ 1..=10_000 => Ok(count as u32),
        count => Err(format!("`{count}` is out of range; write 1 to 10000")),
    }
}

/// A temperature, 0 to 2.
pub(crate) fn temperature(value: &OsStr) -> Result<f64, String> {
    let value = text(value)?;
    match value.parse::<f64>() {
        Ok(temperature) if (0.0..=2.0).contains(&temperature) => Ok(temperature),
        _ => Err(format!(
            "`{value}` is not a temperature; use a decimal from 0 to 2, such as 0.3"
        )),
    }
}

/// A name that an agent takes for a session, and that is no path.
pub(crate) fn session_name(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    if is_session_id(value) {
        return Ok(value.to_string());
    }
    Err(format!(
        "`{value}` is not a session name; use letters, digits, `.`, `_` and `-`, and start with a letter or digit"
    ))
}

/// What fills a place of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VarValue {
    /// This text.
    Text(String),
    /// The content of a file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// `name=value`, `name=@FILE` or `name=@-`.
pub(crate) fn var(value: &OsStr) -> Result<(String, VarValue), String> {
    let value = text(value)?;
    let pair = value.split_once('=').filter(|(name, _)| is_name(name));
    let Some((name, content)) = pair else {
        return Err(format!(
            "`{value}` is not a template value; use name=value, name=@FILE or name=@-"
        ));
    };
    let content = match content.strip_prefix('@') {
        Some("-") => VarValue::Stdin,
        Some(path) if !path.is_empty() => VarValue::File(path.into()),
        _ => VarValue::Text(content.to_string()),
    };
    Ok((name.to_string(), content))
}

/// A JSON Schema: a file, or given in place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SchemaSource {
    /// To read.
    File(PathBuf),
    /// As it is.
    Inline(Value),
}

/// A file, a schema that begins with a brace, or fields as in [`fields`].
pub(crate) fn schema(value: &OsStr) -> Result<SchemaSource, String> {
    let Some(written) = value.to_str() else {
        return Ok(SchemaSource::File(value.into()));
    };
    if written.trim_start().starts_with('{') {
        return serde_json::from_str(written)
            .map(SchemaSource::Inline)
            .map_err(|error| format!("is not JSON: {error}"));
    }
    // A path with a blank in it is told from fields by its slash or its ending.
    let first = written.split([' ', ',', '\n']).next().unwrap_or_default();
    let is_path = first.len() == written.len() || first.contains('/') || written.ends_with(".json");
    match is_path {
        true => Ok(SchemaSource::File(value.into())),
        false => fields(written).map(SchemaSource::Inline),
    }
}

/// Fields in short, `name, age int, ok bool: is it sound?`: separated by commas, or by line ends where there are any; each
/// with a type (str is the default) and, after a colon, a description. All of them are required.
fn fields(written: &str) -> Result<Value, String> {
    let separator = if written.trim().contains('\n') {
        '\n'
    } else {
        ','
    };
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for field in written.split(separator) {
        let field = field.trim();
        if field.is_empty() {
            continue;
        }
        let (head, description) = match field.split_once(':') {
            Some((head, description)) => (head, Some(description.trim())),
            None => (field, None),
        };
        let mut words = head.split_whitespace();
        let (Some(name), kind, None) = (words.next(), words.next(), words.next()) else {
            return Err(format!(
                "`{field}` is not a field; use a name, a type and a description, such as `age int: in years`"
            ));
        };
        let kind = match kind.unwrap_or("str") {
            "str" | "string" => "string",
            "int" | "integer" => "integer",
            "float" | "number" => "number",
            "bool" | "boolean" => "boolean",
            other => {
                return Err(format!(
                    "type `{other}` of `{name}` is not one of str, int, float, bool"
                ));
            }
        };
        let mut property = json!({"type": kind});
        if let (Some(description), Some(members)) = (description, property.as_object_mut()) {
            members.insert("description".to_string(), json!(description));
        }
        if properties.insert(name.to_string(), property).is_some() {
            return Err(format!("the field `{name}` appears twice"));
        }
        required.push(name);
    }
    if required.is_empty() {
        return Err("it has no field".to_string());
    }
    Ok(json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    }))
}

/// Tools and patterns, separated by commas outside of parentheses.
pub(crate) fn rules(value: &OsStr) -> Result<Vec<Rule>, String> {
    Rule::parse_list(text(value)?)
}

/// Labels such as `team=infra,env=prod`.
pub(crate) fn tags(value: &OsStr) -> Result<Vec<(String, String)>, String> {
    let tag = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_string(), value.trim().to_string()))
        }
        _ => Err(format!("`{pair}` is not a label; use key=value")),
    };
    text(value)?.split(',').map(tag).collect()
}

/// Labels to look for, such as `ci` (any value) or `team=infra`, separated by commas.
pub(crate) fn tag_filters(value: &OsStr) -> Result<Vec<TagFilter>, String> {
    let filter = |part: &str| {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim().to_string())),
            None => (part.trim(), None),
        };
        match key {
            "" => Err(format!(
                "`{part}` names no label; write it as key or key=value"
            )),
            key => Ok(TagFilter {
                key: key.to_string(),
                value,
            }),
        }
    };
    text(value)?.split(',').map(filter).collect()
}

/// Budgets such as `5/day,tag:ci=1/day`; at least one.
pub(crate) fn budgets(value: &OsStr) -> Result<Vec<Budget>, String> {
    let budgets = parse_budgets(&name(value)?).map_err(|error| error.to_string())?;
    match budgets.is_empty() {
        true => Err("it has no budget; use for example 5/day".to_string()),
        false => Ok(budgets),
    }
}

/// States of runs, separated by commas.
pub(crate) fn statuses(value: &OsStr) -> Result<Vec<SessionStatus>, String> {
    let names = names(value)?;
    names.iter().map(|name| word(OsStr::new(name))).collect()
}

/// A moment: `7d` or `2w` for so many whole days up to today, `12h` for so long ago, a date, a month, or RFC 3339.
pub(crate) fn when(value: &OsStr) -> Result<When, String> {
    let written = text(value)?;
    let error = || {
        format!(
            "unrecognized date `{written}`; use 7d, 2w or 12h, a date such as 2026-11-01, a month such as 2026-11, or 2026-11-01T08:00:00Z"
        )
    };
    for (unit, days) in [('d', 1), ('w', 7)] {
        if let Some(number) = written.strip_suffix(unit) {
            let number: u64 = number.parse().map_err(|_| error())?;
            // A century: what is further back is a slip, and the ledger has no such runs.
            return match number.checked_mul(days) {
                Some(days @ 1..=36_525) => Ok(When::Days(days)),
                _ => Err(error()),
            };
        }
    }
    if clock::is_date_or_month(written) {
        return date(written).ok_or_else(error);
    }
    if let Ok(moment) = clock::parse_rfc3339(written) {
        return Ok(When::Moment(moment));
    }
    positive_duration(value).map(When::Ago).map_err(|_| error())
}

/// A day or a month with its end.
fn date(written: &str) -> Option<When> {
    let midnight = |date: &str| clock::parse_rfc3339(&format!("{date}T00:00:00Z")).ok();
    let day = Duration::from_secs(86_400);
    if written.len() > 7 {
        let from = midnight(written)?;
        return Some(When::Date(from, from.checked_add(day)?));
    }
    let from = midnight(&format!("{written}-01"))?;
    // No month is longer than 31 days, and none shorter than 27.
    let next = clock::format_date(from.checked_add(day * 31)?);
    Some(When::Date(
        from,
        midnight(&format!("{}-01", next.get(..7)?))?,
    ))
}

/// US dollars: a decimal such as `0.05`, `12` or `5e-2`, exact, from 0 to a million.
pub(crate) fn usd(value: &OsStr) -> Result<Usd, String> {
    let value = text(value)?;
    let example = "write US dollars as a decimal, such as 0.05";
    match Usd::parse(value) {
        Ok(usd) if usd <= MOST_USD => Ok(usd),
        Ok(_) | Err(AmountError::TooLarge) => {
            Err(format!("`{value}` is too large; at most 1000000 USD"))
        }
        Err(AmountError::TooPrecise(decimals)) => {
            Err(format!("`{value}` has more than {decimals} decimals"))
        }
        Err(AmountError::Negative) => Err(format!("`{value}` is negative; {example}")),
        Err(AmountError::NotANumber) => Err(format!("`{value}` is not an amount; {example}")),
    }
}

/// Rates in USD per 1M tokens, separated by commas: input, cached input, output. Without the one in the middle, or with
/// `-` for it, the cached rate is unknown.
pub(crate) fn price(value: &OsStr) -> Result<Price, String> {
    parse_price_flag(text(value)?)
}

/// A count of tokens, or a share of the input such as `80%` or `12.5%` (0 to 100, at most four
/// decimals).
pub(crate) fn cached(value: &OsStr) -> Result<Cached, String> {
    let written = text(value)?;
    let Some(percent) = written.strip_suffix('%') else {
        return count(value).map(Cached::Tokens);
    };
    match decimal::parse(percent, 4).map(u32::try_from) {
        Ok(Ok(millionths)) if millionths <= 1_000_000 => Ok(Cached::Millionths(millionths)),
        Err(DecimalError::TooPrecise) => Err(format!("`{written}` has more than four decimals")),
        _ => Err(format!(
            "`{written}` is not a share; write 0% to 100%, or a count of tokens"
        )),
    }
}

/// A duration: whole or decimal numbers, each with its unit `ms`, `s`, `m` or `h` (`500ms`, `1.5h`,
/// `1h30m`), up to 1000 hours, exact to the microsecond.
pub(crate) fn duration(value: &OsStr) -> Result<Duration, String> {
    const UNITS: &[(&str, u128)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    const LONGEST: u128 = 1_000 * 3_600_000_000;
    let value = text(value)?;
    let error = || {
        format!(
            "`{value}` is not a duration; write a number and a unit, such as 500ms, 30s, 2m or 1h"
        )
    };

    let mut rest = value;
    let mut micros: u128 = 0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c)).ok_or_else(error)?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let (_, millis) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(error)?;
        let thousandths = decimal::parse(number, 3).map_err(|_| error())?;
        micros = thousandths
            .checked_mul(*millis)
            .and_then(|part| micros.checked_add(part))
            .ok_or_else(error)?;
        rest = tail;
    }
    if value.is_empty() {
        return Err(error());
    }
    match u64::try_from(micros) {
        Ok(short) if micros <= LONGEST => Ok(Duration::from_micros(short)),
        _ => Err(format!("`{value}` is too long; at most 1000h")),
    }
}

/// A duration above zero: a deadline of zero could only fail.
pub(crate) fn positive_duration(value: &OsStr) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("the duration is zero; leave it out for no bound".to_string()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn a_value_of_a_template_is_text_a_file_or_stdin() {
        let read = |text: &str| var(OsStr::new(text));
        let named = |value| Ok(("a-1".to_string(), value));
        assert_eq!(read("a-1=b=c"), named(VarValue::Text("b=c".to_string())));
        assert_eq!(read("a-1="), named(VarValue::Text(String::new())));
        assert_eq!(read("a-1=@"), named(VarValue::Text("@".to_string())));
        assert_eq!(read("a-1=@x.txt"), named(VarValue::File("x.txt".into())));
        assert_eq!(read("a-1=@-"), named(VarValue::Stdin));
        for wrong in ["a", "=b", "1=b", "a b=c"] {
            assert!(
                read(wrong).unwrap_err().contains("use name=value"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_schema_is_a_file_json_or_fields() {
        let read = |text: &str| schema(OsStr::new(text));
        for path in [
            "answer.json",
            "./my schema",
            "dir/my schema.txt",
            "my schema.json",
            "answer",
        ] {
            assert_eq!(read(path), Ok(SchemaSource::File(path.into())), "{path}");
        }
        let inline = json!({"type": "array"});
        assert_eq!(
            read(" {\"type\": \"array\"}"),
            Ok(SchemaSource::Inline(inline))
        );
        assert!(read("{type").unwrap_err().starts_with("is not JSON"));
        let fields = json!({
            "type": "object", "additionalProperties": false, "required": ["name", "age", "ok"],
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer", "description": "in years"},
                "ok": {"type": "boolean"},
            },
        });
        for short in [
            "name, age int: in years, ok bool",
            "name\nage int: in years\n ok boolean\n",
        ] {
            assert_eq!(
                read(short),
                Ok(SchemaSource::Inline(fields.clone())),
                "{short}"
            );
        }
        assert_eq!(
            read("name, age dog").unwrap_err(),
            "type `dog` of `age` is not one of str, int, float, bool"
        );
        assert!(read("a, a").unwrap_err().contains("appears twice"));
        assert!(read("a b c, d").unwrap_err().contains("is not a field"));
        assert_eq!(read(", ").unwrap_err(), "it has no field");
    }

    #[test]
    fn moments_in_every_form() {
        let now = clock::parse_rfc3339("2026-11-20T10:47:59Z").unwrap();
        for (written, start, end) in [
            ("1d", "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z"),
            ("7d", "2026-11-14T00:00:00Z", "2026-11-14T00:00:00Z"),
            ("2w", "2026-11-07T00:00:00Z", "2026-11-07T00:00:00Z"),
            ("90m", "2026-11-20T09:17:59Z", "2026-11-20T09:17:59Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
            ("2026-02", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (
                "2026-11-01T08:00:00+01:00",
                "2026-11-01T07:00:00Z",
                "2026-11-01T07:00:00Z",
            ),
        ] {
            let when = when(OsStr::new(written)).unwrap();
            let moments = [when.start(now), when.end(now)].map(clock::format_rfc3339);
            assert_eq!(moments, [start, end], "{written}");
        }
        for wrong in [
            "",
            "d",
            "0d",
            "-1d",
            "99999999999999999999d",
            "2026-13",
            "2026-02-30",
            "yesterday",
            "0s",
        ] {
            assert!(when(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_and_states_to_look_for() {
        let filters = tag_filters(OsStr::new("ci, team = infra")).unwrap();
        assert_eq!(filters[0].to_string(), "ci");
        assert_eq!(filters[1].to_string(), "team=infra");
        assert!(tag_filters(OsStr::new("=x")).is_err());
        assert_eq!(
            statuses(OsStr::new("open,unknown")),
            Ok(vec![SessionStatus::Open, SessionStatus::Unknown])
        );
        assert!(statuses(OsStr::new("done")).is_err());
        assert!(budgets(OsStr::new(" ")).is_err() && budgets(OsStr::new("5")).is_err());
    }

    use super::*;

    fn os(value: &str) -> &OsStr {
        OsStr::new(value)
    }

    #[test]
    fn counts() {
        for (written, count) in [
            ("0", 0),
            ("007", 7),
            ("4000", 4000),
            ("4k", 4000),
            ("4K", 4000),
            ("1.5k", 1500),
            ("2M", 2_000_000),
            ("1.048576M", 1_048_576),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(super::count(os(written)), Ok(count), "{written}");
        }
        for written in [
            "",
            "k",
            "-1",
            "1.0",
            "1e3",
            "4 k",
            "4kk",
            "0.0001k",
            "x",
            "18446744073709551616",
            "99999999999999M",
            "٣",
        ] {
            let error = super::count(os(written)).unwrap_err();
            assert!(error.contains("count"), "{written}: {error}");
        }
    }

    #[test]
    fn money_has_bounds_and_every_refusal_a_reason() {
        for written in ["0", "-0", "0.05", ".5", "5e-2", "1e-12", "1000000"] {
            assert_eq!(usd(os(written)).ok(), Usd::parse(written).ok(), "{written}");
            assert!(usd(os(written)).is_ok(), "{written}");
        }
        for (written, reason) in [
            ("", "not an amount"),
            ("$1", "not an amount"),
            ("1,5", "not an amount"),
            ("-1", "is negative"),
            ("1e40", "too large"),
            ("1000000.01", "too large"),
            ("1e-13", "more than 12 decimals"),
        ] {
            let error = usd(os(written)).unwrap_err();
            assert!(error.contains(reason), "{written}: {error}");
        }
    }

    #[test]
    fn shares_and_counts_of_cached_tokens() {
        assert_eq!(cached(os("4k")), Ok(Cached::Tokens(4000)));
        assert_eq!(cached(os("80%")), Ok(Cached::Millionths(800_000)));
        assert_eq!(cached(os("12.5%")), Ok(Cached::Millionths(125_000)));
        assert_eq!(cached(os("100%")), Ok(Cached::Millionths(1_000_000)));
        for written in [
            "101%",
            "-1%",
            "%",
            "x%",
            "12.00001%",
            "x",
            "99999999999999999999%",
        ] {
            assert!(cached(os(written)).is_err(), "{written}");
        }
    }

    #[test]
    fn a_price_has_two_or_three_rates() {
        for written in ["0.6,0.15,2.5", "0.6, 0.15, 2.5"] {
            let price = price(os(written)).unwrap();
            assert_eq!(price.rates().output.exact_decimal(), "2.5");
        }
        for written in ["", "1", "1,2,3,4", "1,2,", "1,-2,3"] {
            assert!(price(os(written)).is_err(), "{written}");
        }
    }

    #[test]
    fn durations() {
        for (written, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(os(written)),
                Ok(Duration::from_millis(millis)),
                "{written}"
            );
        }
        assert_eq!(duration(os("0.001ms")), Ok(Duration::from_micros(1)));
        for written in [
            "",
            "30",
            "s",
            "30 s",
            "-1s",
            "1d",
            "1e3s",
            "30s1",
            "1.2.3s",
            "1001h",
            "99999999999999999999999999999999999999h",
        ] {
            assert!(duration(os(written)).is_err(), "{written}");
        }
        assert!(positive_duration(os("0ms")).is_err());
    }

    #[test]
    fn names_and_addresses() {
        assert_eq!(
            names(os("a, b")),
            Ok(vec!["a".to_string(), "b".to_string()])
        );
        assert!(names(os("a,,b")).is_err());
        assert!(names(os("")).is_err());
        assert!(name(os("")).is_err());
        assert!(url(os("https://api.example/v1")).is_ok());
        for written in ["api.example", "https://", "ftp://x", "https://a b"] {
            assert!(url(os(written)).is_err(), "{written}");
        }
    }

    #[test]
    fn a_choice_lists_the_others() {
        let choices = [("on", 1), ("off", 0)];
        assert_eq!(choice(os("off"), &choices), Ok(0));
        assert_eq!(
            choice(os("maybe"), &choices),
            Err("`maybe` is not one of on, off".to_string())
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_shown_by_its_bytes() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(
            count(OsStr::from_bytes(b"4\xff")),
            Err("`4\\xff` is not UTF-8".to_string())
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(written in ".{0,40}") {
            let value = os(&written);
            let _ = (count(value), usd(value), price(value), cached(value), duration(value), names(value), url(value));
        }

        #[test]
        fn what_looks_like_numbers_does_not_panic(written in "[-+0-9.eE,%kMmsh]{0,60}") {
            let value = os(&written);
            let _ = (count(value), usd(value), price(value), cached(value), duration(value));
        }
    }
}
