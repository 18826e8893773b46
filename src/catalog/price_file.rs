//! A user's own price list, and `--price`.
//!
//! Negotiated rates, resellers and models newer than this program all need prices that are not compiled in. The file is
//! JSON: `{"schema": "omk.prices/1", "models": [...]}` or the bare array. It is checked as a whole before any of it is in
//! force, because half a price list makes wrong bills: an unknown field, a price with a currency sign, or the same model
//! twice is an error that names the file, the row (counted from 1), and the field. A row with a `host` holds for requests
//! to that host only, and `currency` may be CNY.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;

use crate::catalog::Origin;
use crate::catalog::Price;
use crate::catalog::Rates;
use crate::catalog::Status;
use crate::catalog::Tier;
use crate::catalog::money::AmountError;
use crate::catalog::money::Currency;
use crate::catalog::money::Rate;
use crate::runtime::clock;
use crate::runtime::text;
use crate::tokens::Vocabulary;

/// The form that this version reads and writes.
pub const SCHEMA: &str = "omk.prices/1";

const TOP_FIELDS: [&str; 4] = ["schema", "fetched_at", "source", "models"];
const ROW_FIELDS: [&str; 16] = [
    "model",
    "provider",
    "host",
    "input",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "output",
    "tiers",
    "window",
    "max_output",
    "vocabulary",
    "status",
    "as_of",
    "source",
    "currency",
];
const TIER_FIELDS: [&str; 5] = ["above", "input", "cached_input", "cache_write", "output"];

/// A longer name is a mistake, and would make messages unreadable.
const MAX_NAME_CHARS: usize = 200;

/// What is wrong in a price file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceFileError {
    file: String,
    /// Counted from 1, with the model's name where it is known.
    row: Option<(usize, Option<String>)>,
    detail: String,
}

impl fmt::Display for PriceFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match &self.row {
            Some((index, Some(model))) => write!(f, ": row {index} ({model})")?,
            Some((index, None)) => write!(f, ": row {index}")?,
            None => {}
        }
        write!(f, ": {}", self.detail)
    }
}

impl Error for PriceFileError {}

/// One checked row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// The id, or `provider/id`, that the row is for.
    pub model: String,
    /// Who serves it.
    pub provider: Option<String>,
    /// The host that the price is for; `None` for every host where the model's provider bills.
    pub host: Option<String>,
    /// The price; nothing where the row says that there is none (`"input": null, "output": null`).
    pub price: Option<Price>,
    /// Tokens that fit.
    pub window: Option<u64>,
    /// Tokens of the longest answer.
    pub max_output: Option<u64>,
    /// The vocabulary to count with.
    pub vocabulary: Option<Vocabulary>,
    /// Whether it is still served.
    pub status: Option<Status>,
    /// The day or month for which the figures hold.
    pub as_of: Option<String>,
    /// Where they come from.
    pub source: Option<String>,
}

/// A checked price list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceFile {
    rows: Vec<PriceRow>,
    origin: Origin,
}

impl PriceFile {
    /// Checks the bytes of the file at `path`, which is not read here: the path is for messages and for [`Origin`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<PriceFile, PriceFileError> {
        let file = text::escape(&path.display().to_string()).into_owned();
        let in_file = |detail: String| PriceFileError {
            file: file.clone(),
            row: None,
            detail,
        };
        // Editors on Windows put a byte order mark before JSON.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let document: Value =
            serde_json::from_slice(bytes).map_err(|e| in_file(format!("not JSON: {e}")))?;
        let (models, fetched_at) = match &document {
            Value::Array(models) => (models, None),
            Value::Object(top) => read_top(top).map_err(in_file)?,
            other => {
                return Err(in_file(format!(
                    "expected an object or an array, found {}",
                    found(other)
                )));
            }
        };
        let path = Arc::new(path.to_path_buf());
        let origin = match fetched_at {
            Some(fetched_at) => Origin::ModelsDev { path, fetched_at },
            None => Origin::PriceFile(path),
        };
        let mut rows: Vec<PriceRow> = Vec::with_capacity(models.len());
        let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for (index, value) in (1..).zip(models) {
            let name = value.get("model").and_then(Value::as_str);
            let in_row = |detail: String| PriceFileError {
                file: file.clone(),
                row: Some((
                    index,
                    name.map(|n| text::truncate(&text::escape(n), 60).into_owned()),
                )),
                detail,
            };
            let row = read_row(value).map_err(in_row)?;
            let host = row.host.as_deref().unwrap_or_default();
            let key = format!("{} {}", host, row.model).to_lowercase();
            if let Some(first) = seen.insert(key, index) {
                return Err(in_row(format!("model: already in row {first}")));
            }
            rows.push(row);
        }
        Ok(PriceFile { rows, origin })
    }

    /// The rows, in the order of the file.
    pub fn rows(&self) -> &[PriceRow] {
        &self.rows
    }

    /// What the catalog calls these prices' origin: a snapshot says when it was fetched, any other list is the user's.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Reads `--price in,cached,out`, in USD per 1M tokens. The middle may be empty or `-`: the cached rate is unknown, and
/// cached tokens are billed in full. `in,out` leaves it out altogether.
///
/// # Errors
///
/// A sentence for the user that says which part is wrong.
pub fn parse_price_flag(value: &str) -> Result<Price, String> {
    let mut parts = value.split(',').map(str::trim);
    let (input, cached, output) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(input), Some(cached), Some(output), None) => (input, cached, output),
        (Some(input), Some(output), None, None) => (input, "", output),
        _ => {
            return Err(format!(
                "expected in,cached,out in USD per 1M tokens, such as 3,0.30,15, found {}",
                quoted(value)
            ));
        }
    };
    let part =
        |name: &str, part: &str| Rate::parse(part).map_err(|e| bad_rate(name, &quoted(part), e));
    let cached_input = match cached {
        "" | "-" => None,
        listed => Some(part("cached", listed)?),
    };
    let rates = Rates {
        input: part("in", input)?,
        cached_input,
        cache_write: None,
        cache_write_1h: None,
        output: part("out", output)?,
    };
    Ok(Price::new(rates, Vec::new()))
}

type Top<'a> = (&'a Vec<Value>, Option<Arc<str>>);

fn read_top(top: &Map<String, Value>) -> Result<Top<'_>, String> {
    known_fields(top, &TOP_FIELDS)?;
    match top.get("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        Some(other) => {
            return Err(format!(
                "schema: expected \"{SCHEMA}\", found {}",
                found(other)
            ));
        }
        None => return Err(format!("schema: missing, expected \"{SCHEMA}\"")),
    }
    let fetched_at = match string(top, "fetched_at")? {
        Some(time) if clock::parse_rfc3339(time).is_err() => {
            return Err(format!(
                "fetched_at: expected a time such as 2026-11-20T08:30:00Z, found {}",
                quoted(time)
            ));
        }
        other => other.map(Arc::from),
    };
    string(top, "source")?;
    match top.get("models") {
        Some(Value::Array(models)) => Ok((models, fetched_at)),
        Some(other) => Err(format!("models: expected an array, found {}", found(other))),
        None => Err("models: missing".to_string()),
    }
}

fn read_row(value: &Value) -> Result<PriceRow, String> {
    let Value::Object(row) = value else {
        return Err(format!("expected an object, found {}", found(value)));
    };
    known_fields(row, &ROW_FIELDS)?;
    let model = match string(row, "model")? {
        Some(name) if is_name(name) => name.to_string(),
        Some(name) => {
            return Err(format!(
                "model: expected a model's name, found {}",
                quoted(name)
            ));
        }
        None => return Err("model: missing".to_string()),
    };
    let currency = match string(row, "currency")? {
        Some(text) => text
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| format!("currency: expected USD or CNY, found {}", quoted(text)))?,
        None => Currency::Usd,
    };
    let host = match string(row, "host")? {
        Some(host) if host.is_empty() || host.contains(['/', ' ']) => {
            return Err(format!(
                "host: expected a host such as openrouter.ai, found {}",
                quoted(host)
            ));
        }
        host => host.map(str::to_string),
    };
    let vocabulary = match string(row, "vocabulary")? {
        Some(name) => Some(
            name.parse()
                .map_err(|error| format!("{error}, found {}", quoted(name)))?,
        ),
        None => None,
    };
    let status = match string(row, "status")? {
        None => None,
        Some("current") => Some(Status::Current),
        Some("deprecated") => Some(Status::Deprecated),
        Some("retired") => Some(Status::Retired),
        Some(other) => {
            return Err(format!(
                "status: expected current, deprecated or retired, found {}",
                quoted(other)
            ));
        }
    };
    let as_of = match string(row, "as_of")? {
        Some(date) if !clock::is_date_or_month(date) => {
            return Err(format!(
                "as_of: expected a date such as 2026-11-20, found {}",
                quoted(date)
            ));
        }
        other => other.map(str::to_string),
    };
    Ok(PriceRow {
        model,
        provider: string(row, "provider")?.map(str::to_string),
        host,
        price: read_price(row)?.map(|price| price.in_currency(currency)),
        window: count(row, "window")?,
        max_output: count(row, "max_output")?,
        vocabulary,
        status,
        as_of,
        source: string(row, "source")?.map(str::to_string),
    })
}

/// The price of a row. No price has to be said: both `input` and `output` null, and nothing else given. A row that merely
/// forgot them is an error.
fn read_price(row: &Map<String, Value>) -> Result<Option<Price>, String> {
    let is_null = |field: &str| row.get(field).is_some_and(Value::is_null);
    if is_null("input") && is_null("output") {
        let others = ["cached_input", "cache_write", "cache_write_1h", "tiers"];
        return match others
            .iter()
            .find(|f| row.get(**f).is_some_and(|v| !v.is_null()))
        {
            Some(field) => Err(format!("{field}: given, though input and output are null")),
            None => Ok(None),
        };
    }
    let rates = read_rates(row, "")?;
    let mut tiers = Vec::new();
    match row.get("tiers") {
        None | Some(Value::Null) => {}
        Some(Value::Array(listed)) => {
            for (index, tier) in (1..).zip(listed) {
                let tier = read_tier(tier, index)?;
                if tiers.iter().any(|other: &Tier| other.above == tier.above) {
                    return Err(format!("tiers: two tiers above {}", tier.above));
                }
                tiers.push(tier);
            }
        }
        Some(other) => return Err(format!("tiers: expected an array, found {}", found(other))),
    }
    Ok(Some(Price::new(rates, tiers)))
}

fn read_tier(value: &Value, index: usize) -> Result<Tier, String> {
    let at = format!("tiers: tier {index}: ");
    let Value::Object(tier) = value else {
        return Err(format!("{at}expected an object, found {}", found(value)));
    };
    known_fields(tier, &TIER_FIELDS).map_err(|e| format!("{at}{e}"))?;
    let above = count(tier, "above").map_err(|e| format!("{at}{e}"))?;
    Ok(Tier {
        above: above.ok_or_else(|| format!("{at}above: missing"))?,
        rates: read_rates(tier, &at)?,
    })
}

fn read_rates(fields: &Map<String, Value>, at: &str) -> Result<Rates, String> {
    let optional = |field: &str| match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => Rate::from_json(value)
            .map(Some)
            .map_err(|e| bad_rate(&format!("{at}{field}"), &found(value), e)),
    };
    let required = |field: &str| {
        optional(field)?.ok_or_else(|| format!("{at}{field}: missing, expected {EXPECTED_RATE}"))
    };
    Ok(Rates {
        input: required("input")?,
        cached_input: optional("cached_input")?,
        cache_write: optional("cache_write")?,
        cache_write_1h: optional("cache_write_1h")?,
        output: required("output")?,
    })
}

const EXPECTED_RATE: &str = "a number of USD per 1M tokens from 0 to 1000000";

fn bad_rate(field: &str, found: &str, error: AmountError) -> String {
    match error {
        // The bounds say it all.
        AmountError::NotANumber | AmountError::Negative | AmountError::TooLarge => {
            format!("{field}: expected {EXPECTED_RATE}, found {found}")
        }
        AmountError::TooPrecise(_) => format!("{field}: {error}, found {found}"),
    }
}

fn known_fields(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let hint = text::nearest(key, known.iter().copied())
                .map(|m| format!(", did you mean \"{m}\"?"))
                .unwrap_or_default();
            Err(format!("unknown field {}{hint}", quoted(key)))
        }
    }
}

fn string<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!(
            "{field}: expected a string, found {}",
            found(other)
        )),
    }
}

fn count(object: &Map<String, Value>, field: &str) -> Result<Option<u64>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(count) if count > 0 => Ok(Some(count)),
            _ => Err(format!(
                "{field}: expected a number of tokens above 0, found {}",
                found(value)
            )),
        },
    }
}

/// Whether a row may have this name: shown, it is itself.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().count() <= MAX_NAME_CHARS
        && name.trim() == name
        && text::escape(name) == name
}

/// A value as the file has it, short enough for one line.
fn found(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "an array".to_string(),
        Value::Object(_) => "an object".to_string(),
        other => other.to_string(),
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", text::truncate(&text::escape(value), 40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Billing;
    use crate::catalog::Catalog;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<PriceFile, String> {
        PriceFile::parse(text.as_bytes(), Path::new("prices.json")).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn refused(text: &str, message: &str) {
        assert_eq!(parse(text).unwrap_err(), format!("prices.json: {message}"));
    }

    #[test]
    fn a_bare_array_and_an_object_read_alike() {
        let rows = r#"[{"model": "a", "input": 1.5, "cached_input": "0.15", "output": 7}]"#;
        let object = format!(r#"{{"schema": "omk.prices/1", "models": {rows}}}"#);
        let marked = format!("\u{feff}{rows}");
        assert_eq!(parse(rows), parse(&object));
        assert_eq!(parse(rows), parse(&marked));
        let file = parse(rows).unwrap();
        let price = file.rows()[0].price.as_ref().unwrap();
        assert_eq!(price.rates().input, Rate::parse("1.5").unwrap());
        assert_eq!(
            price.rates().cached_input,
            Some(Rate::parse("0.15").unwrap())
        );
        assert_eq!(price.rates().cache_write, None);
    }

    #[test]
    fn errors_name_the_row_and_the_field() {
        refused(
            r#"[{"model":"a","input":1,"output":1},{"model":"b","input":1,"output":1},{"model":"kimi-k3","input":1,"output":"15$"}]"#,
            r#"row 3 (kimi-k3): output: expected a number of USD per 1M tokens from 0 to 1000000, found "15$""#,
        );
        refused(
            r#"[{"model":"a","input":1,"outptu":1}]"#,
            r#"row 1 (a): unknown field "outptu", did you mean "output"?"#,
        );
        refused(
            r#"[{"model":"a","input":1,"output":1,"zzz":1}]"#,
            r#"row 1 (a): unknown field "zzz""#,
        );
        refused(
            r#"[{"model":"a","input":-1,"output":1}]"#,
            "row 1 (a): input: expected a number of USD per 1M tokens from 0 to 1000000, found -1",
        );
        refused(
            r#"[{"model":"a","input":0.1234567,"output":1}]"#,
            "row 1 (a): input: more than 6 decimals, found 0.1234567",
        );
        refused(
            r#"[{"model":"a","output":1}]"#,
            "row 1 (a): input: missing, expected a number of USD per 1M tokens from 0 to 1000000",
        );
        refused(r#"[{"input":1,"output":1}]"#, "row 1: model: missing");
        refused(
            r#"[{"model":"","input":1,"output":1}]"#,
            r#"row 1 (): model: expected a model's name, found """#,
        );
        refused(
            r#"[{"model":"A","input":1,"output":1},{"model":"a","input":2,"output":2}]"#,
            "row 2 (a): model: already in row 1",
        );
        refused(
            r#"[{"model":"a","input":1,"output":1,"currency":"EUR"}]"#,
            r#"row 1 (a): currency: expected USD or CNY, found "EUR""#,
        );
        refused(
            r#"[{"model":"a","input":1,"output":1,"tiers":[{"above":9,"input":1,"output":1},{"above":9,"input":1,"output":1}]}]"#,
            "row 1 (a): tiers: two tiers above 9",
        );
        refused(
            r#"[{"model":"a","input":1,"output":1,"tiers":[{"input":1,"output":1}]}]"#,
            "row 1 (a): tiers: tier 1: above: missing",
        );
        refused(
            r#"[{"model":"a","input":1,"output":1,"window":0}]"#,
            "row 1 (a): window: expected a number of tokens above 0, found 0",
        );
        refused(
            r#"[{"model":"a","input":null,"output":null,"cached_input":1}]"#,
            "row 1 (a): cached_input: given, though input and output are null",
        );
        refused("[7]", "row 1: expected an object, found 7");
        refused("7", "expected an object or an array, found 7");
        refused("{}", r#"schema: missing, expected "omk.prices/1""#);
        refused(
            r#"{"schema":"omk.prices/2","models":[]}"#,
            r#"schema: expected "omk.prices/1", found "omk.prices/2""#,
        );
        assert!(
            parse("{")
                .unwrap_err()
                .starts_with("prices.json: not JSON: ")
        );
    }

    #[test]
    fn a_row_replaces_the_rates_and_keeps_the_other_facts() {
        let mut catalog = Catalog::builtin();
        let window = catalog.find("gpt-5.5").unwrap().window;
        let file = parse(
            r#"[{"model":"GPT-5.5","input":1,"output":2},
                {"model":"k3","input":0.5,"output":0.6},
                {"model":"kimi-k3","input":null,"output":null,"as_of":"2026-11"},
                {"model":"house-model","input":1,"output":1,"vocabulary":"cl100k_base","window":4096}]"#,
        )
        .unwrap();
        catalog.apply(&file);
        let model = catalog.find("gpt-5.5").unwrap();
        let price = model.price.as_ref().unwrap();
        assert_eq!(model.window, window);
        assert!(price.tiers().is_empty() && price.rates().cached_input.is_none());
        assert_eq!(
            model.origin,
            Origin::PriceFile(Arc::new("prices.json".into()))
        );
        assert_eq!(catalog.find("k3").unwrap().billing, Billing::Metered);
        assert_eq!(catalog.find("kimi-k3").unwrap().price, None);
        let house = catalog.find("house-model").unwrap();
        assert_eq!(
            (house.vocabulary, house.exact, house.window),
            (Vocabulary::Cl100k, true, Some(4096))
        );
    }

    #[test]
    fn a_row_for_an_alias_is_for_that_name_only() {
        let mut catalog = Catalog::builtin();
        let before = catalog.find("gpt-4o").unwrap().price.clone();
        catalog.apply(&parse(r#"[{"model":"gpt-4o-2024-08-06","input":1,"output":2}]"#).unwrap());
        assert_eq!(catalog.find("gpt-4o").unwrap().price, before);
        let own = catalog.find("gpt-4o-2024-08-06").unwrap();
        assert_eq!(own.price.as_ref().unwrap().rates().input, Rate::from_usd(1));
        assert_eq!(own.window, Some(128_000));
        assert_eq!(own.origin.to_string(), "prices.json");
    }

    #[test]
    fn price_flags() {
        let rates = |flag: &str| *parse_price_flag(flag).unwrap().rates();
        assert_eq!(
            rates("3,0.30,15").cached_input,
            Some(Rate::parse("0.3").unwrap())
        );
        for unknown in ["3,,15", "3,-,15", "3, - ,15", "3,15"] {
            assert_eq!(rates(unknown).cached_input, None, "{unknown}");
            assert_eq!(rates(unknown).output, Rate::from_usd(15), "{unknown}");
        }
        for (flag, part) in [
            ("", "expected in,cached,out"),
            ("1,2,3,4", "expected in,cached,out"),
            ("x,1,2", "in: "),
            ("1,x,2", "cached: "),
            ("1,2,", "out: "),
            ("-1,2,3", "in: "),
        ] {
            let error = parse_price_flag(flag).unwrap_err();
            assert!(error.starts_with(part), "{flag}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PriceFile::parse(&bytes, Path::new("p"));
        }

        #[test]
        fn nearly_right_rows_are_read_or_refused(
            field in prop::sample::select(ROW_FIELDS.to_vec()),
            value in prop::sample::select(vec!["null", "1", "-1", "1e300", "\"x\"", "[]", "{}", "true", "[{}]", "\"kimi\"", "0.00000001"]),
        ) {
            let text = format!(r#"[{{"model":"a","input":1,"output":1,"{field}":{value}}}]"#);
            let _ = parse(&text);
        }
    }
}
