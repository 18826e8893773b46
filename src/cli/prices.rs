//! The catalog in force for this run: what is compiled in, what `omk models update` fetched, the
//! price files, in that order; the last to speak of a model is heard.
//!
//! It refuses to go on with a list it cannot read whole: a wrong price is worse than no run. The JSON of a price is made
//! here too, so that every command shows it alike.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::catalog::price_file::PriceFile;
use crate::catalog::{Catalog, Model, Price};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::input::{read_file, stopped};
use crate::runtime::text::escape_os;

/// More than any list of prices; a larger file is another one, or has no end.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where `omk models update` keeps what it fetched; `None` without a config directory.
pub(crate) fn snapshot(env: &Env) -> Option<PathBuf> {
    Some(env.config_directory()?.join("models.dev.json"))
}

/// The models and rates in force.
///
/// # Errors
///
/// Exit 66 for a price file that cannot be opened, 78 for one with a mistake in it; the snapshot
/// is treated alike, except that it may be missing.
pub(crate) fn load(price_files: &[PathBuf], env: &Env) -> Result<Catalog, Failure> {
    let mut catalog = Catalog::builtin();
    if let Some(path) = snapshot(env)
        && let Some(bytes) = read(&path, "models update", env)?
    {
        catalog.apply(&parse(&bytes, &path).map_err(|failure| {
            failure.hint("`omk models update` fetches it anew; deleting it is safe")
        })?);
    }
    for path in price_files {
        let Some(bytes) = read(path, "--price-file", env)? else {
            let name = escape_os(path);
            let detail = format!("`{name}` does not exist");
            return Err(Failure::new(Exit::NoInput, "prices", detail)
                .hint("--price-file and OMK_PRICE_FILE name it"));
        };
        catalog.apply(&parse(&bytes, path)?);
    }
    Ok(catalog)
}

fn parse(bytes: &[u8], path: &Path) -> Result<PriceFile, Failure> {
    PriceFile::parse(bytes, path)
        .map_err(|error| Failure::new(Exit::Config, "prices", error.to_string()))
}

/// The bytes of a file, or `None` when there is none.
fn read(path: &Path, what: &str, env: &Env) -> Result<Option<Vec<u8>>, Failure> {
    match read_file(path, LARGEST, env) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let name = escape_os(path);
            let detail = format!("`{name}` of {what} is larger than 16 MiB, so no list of prices");
            Err(Failure::new(Exit::Config, "prices", detail))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let name = escape_os(path);
            if let Some(failure) = stopped(&error, &format!("`{name}`"), env.deadline) {
                return Err(failure);
            }
            let detail = format!("cannot read `{name}` of {what}: {error}");
            Err(Failure::new(Exit::NoInput, "prices", detail))
        }
    }
}

/// Where the rates of a row come from, as every JSON document shows it. What nobody said is `null`.
#[derive(Debug, Serialize)]
pub(crate) struct Provenance<'a> {
    currency: &'static str,
    unit: &'static str,
    as_of: Option<&'a str>,
    source: Option<&'a str>,
    origin: String,
}

impl<'a> Provenance<'a> {
    /// That of this row.
    pub(crate) fn of(model: &'a Model) -> Provenance<'a> {
        Provenance {
            currency: model
                .price
                .as_ref()
                .map(Price::currency)
                .unwrap_or_default()
                .name(),
            unit: "per 1M tokens",
            as_of: said(&model.as_of),
            source: said(&model.source),
            origin: model.origin.to_string(),
        }
    }
}

/// The catalog writes "nobody said" as an empty text.
pub(crate) fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The rates of a model in force and where they come from: the `price` of a result.
#[derive(Debug, Serialize)]
pub(crate) struct PriceReport<'a> {
    #[serde(flatten)]
    price: &'a Price,
    #[serde(flatten)]
    provenance: Provenance<'a>,
}

impl<'a> PriceReport<'a> {
    /// The report, if the model has a price.
    pub(crate) fn of(model: &'a Model) -> Option<PriceReport<'a>> {
        Some(PriceReport {
            price: model.price.as_ref()?,
            provenance: Provenance::of(model),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_price_says_where_it_comes_from() {
        let catalog = Catalog::builtin();
        let report = PriceReport::of(catalog.find("gpt-5.5").unwrap());
        let price = serde_json::to_value(report).unwrap();
        assert_eq!(price["cached_input"], json!(0.5));
        assert_eq!(price["cache_write"], Value::Null);
        assert_eq!(
            price["tiers"],
            json!([{"above": 272_000, "input": 10, "cached_input": 1, "cache_write": null, "cache_write_1h": null, "output": 45}])
        );
        assert_eq!(
            (&price["currency"], &price["unit"], &price["origin"]),
            (&json!("USD"), &json!("per 1M tokens"), &json!("builtin"))
        );
        assert!(PriceReport::of(catalog.find("k3").unwrap()).is_none());
    }
}
