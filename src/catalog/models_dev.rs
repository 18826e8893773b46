//! models.dev's price list, turned into ours.
//!
//! `https://models.dev/api.json` lists every provider's models with prices in USD per 1M tokens. This conversion is pure:
//! bytes in, an [`omk.prices/1`](crate::catalog::price_file::SCHEMA) document out, so the fetching, the checking and the
//! replacing of the file on disk are three separate steps. Refuses a document that is not plausibly that list (no
//! providers, no Moonshot, a negative or absurd price), since it would replace one that works. Of the makers' own providers
//! it keeps everything; of resellers that omk knows the host of, the Kimi models, each with its host.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use serde_json::error::Category;
use serde_json::json;
use serde_json::value::RawValue;

use crate::catalog::host;
use crate::catalog::money::AmountError;
use crate::catalog::money::Rate;
use crate::catalog::price_file::SCHEMA;
use crate::catalog::price_file::is_name;
use crate::runtime::clock;

/// Where the document is served.
pub const URL: &str = "https://models.dev/api.json";

/// The makers' own providers. Where two list one id (Alibaba serves others' models too), the earlier in this list is kept.
const FIRST_PARTY: [&str; 10] = [
    "moonshotai",
    "openai",
    "anthropic",
    "google",
    "deepseek",
    "xai",
    "mistral",
    "minimax",
    "zai",
    "alibaba",
];

/// Moonshot's other two, of which models.dev has no price.
const UNPRICED: [&str; 2] = ["moonshotai-cn", "kimi-code-plan"];

/// Whether a provider sells models of its own, so that what it lists is no resale.
fn is_own(provider: &str) -> bool {
    FIRST_PARTY.contains(&provider) || UNPRICED.contains(&provider)
}

/// The largest text of one provider: what is read takes many times as much memory.
const MAX_PROVIDER: usize = 1024 * 1024;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelsDevError(String);

impl fmt::Display for ModelsDevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a models.dev price list: {}", self.0)
    }
}

impl Error for ModelsDevError {}

/// A converted document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The price file to store.
    pub document: Vec<u8>,
    /// Models in it with a price.
    pub priced: usize,
    /// Models in it without one: subscriptions, previews and what lists zero for everything.
    pub unpriced: usize,
}

/// The texts of the makers' own providers and of resellers with a known host. Nothing is kept of the others, which may be many.
fn providers(bytes: &[u8]) -> Result<BTreeMap<String, &RawValue>, ModelsDevError> {
    struct Providers;

    impl<'de> Visitor<'de> for Providers {
        type Value = BTreeMap<String, &'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of providers")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if FIRST_PARTY.contains(&&*name) || host::of_provider(&name).is_some() {
                    found.insert(name, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let found = reader
        .deserialize_map(Providers)
        .and_then(|found| reader.end().map(|()| found));
    found.map_err(|error| {
        ModelsDevError(match error.classify() {
            Category::Data => "expected an object of providers".to_string(),
            _ => format!("not JSON: {error}"),
        })
    })
}

/// Converts the bytes of `api.json`, fetched from `url` at `fetched_at`.
///
/// Models of all-zero cost get no price, because zero there means "not metered". A price finer than a millionth of a
/// dollar per 1M tokens is rounded up to one.
///
/// # Errors
///
/// See the module: the whole document is refused, with the provider and model that gave it away.
pub fn convert(
    bytes: &[u8],
    url: &str,
    fetched_at: SystemTime,
) -> Result<Conversion, ModelsDevError> {
    let providers = providers(bytes)?;
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    for provider in FIRST_PARTY {
        let Some(found) = providers.get(provider) else {
            if provider == "moonshotai" {
                return Err(ModelsDevError(format!("{provider}: missing")));
            }
            continue;
        };
        if found.get().len() > MAX_PROVIDER {
            return Err(ModelsDevError(format!("{provider}: larger than 1 MiB")));
        }
        let found: Value = serde_json::from_str(found.get())
            .map_err(|e| ModelsDevError(format!("not JSON: {e}")))?;
        let Some(Value::Object(models)) = found.get("models") else {
            return Err(ModelsDevError(format!("{provider}: no models")));
        };
        for (id, model) in models {
            // Not our business which names others allow; a row we could not read back is left out.
            if !is_name(id) {
                continue;
            }
            let row = convert_model(provider, id, model, fetched_at)
                .map_err(|e| ModelsDevError(format!("{provider}/{id}: {e}")))?;
            if seen.insert(id.to_lowercase()) {
                rows.push(row);
            }
        }
    }
    for (provider, listed) in &providers {
        let Some(host) = host::of_provider(provider).filter(|_| !is_own(provider)) else {
            continue;
        };
        if listed.get().len() > MAX_PROVIDER {
            continue;
        }
        let Ok(listed) = serde_json::from_str::<Value>(listed.get()) else {
            continue;
        };
        let models = listed.get("models").and_then(Value::as_object);
        for (id, model) in models.into_iter().flatten() {
            if !is_name(id) || !id.to_ascii_lowercase().contains("kimi") {
                continue;
            }
            // A reseller's mistake is no reason to do without the makers' prices.
            let row = convert_model(provider, id, model, fetched_at);
            if let Ok(Value::Object(mut row)) = row
                && row.get("input").is_some_and(Value::is_number)
            {
                row.insert("host".into(), host.into());
                rows.push(row.into());
            }
        }
    }
    let unpriced = rows
        .iter()
        .filter(|row| row.get("input").is_some_and(Value::is_null))
        .count();
    let priced = rows.len() - unpriced;
    if priced == 0 {
        return Err(ModelsDevError("no model has a price".to_string()));
    }
    let document = json!({
        "schema": SCHEMA,
        "fetched_at": clock::format_rfc3339(fetched_at),
        "source": url,
        "models": rows,
    });
    let mut document =
        serde_json::to_vec_pretty(&document).map_err(|e| ModelsDevError(e.to_string()))?;
    document.push(b'\n');
    Ok(Conversion {
        document,
        priced,
        unpriced,
    })
}

fn convert_model(
    provider: &str,
    id: &str,
    model: &Value,
    fetched_at: SystemTime,
) -> Result<Value, String> {
    let Value::Object(model) = model else {
        return Err("expected an object".to_string());
    };
    let mut row = Map::new();
    row.insert("model".into(), id.into());
    row.insert("provider".into(), provider.into());
    match model.get("cost") {
        Some(Value::Object(cost)) if !is_free(cost) => convert_cost(cost, &mut row)?,
        None | Some(Value::Null | Value::Object(_)) => {
            row.insert("input".into(), Value::Null);
            row.insert("output".into(), Value::Null);
        }
        Some(_) => return Err("cost: expected an object".to_string()),
    }
    for (ours, theirs) in [("window", "context"), ("max_output", "output")] {
        // Some rows have 0 for "does not apply"; that is no window.
        if let Some(tokens) = model
            .get("limit")
            .and_then(|l| l.get(theirs))
            .and_then(Value::as_u64)
            && tokens > 0
        {
            row.insert(ours.into(), tokens.into());
        }
    }
    let status = match model.get("status").and_then(Value::as_str) {
        Some("deprecated") => "deprecated",
        _ => "current",
    };
    row.insert("status".into(), status.into());
    // Their date is of the model, not of the price: the price is what the document said on the day it was fetched.
    row.insert("as_of".into(), clock::format_date(fetched_at).into());
    row.insert(
        "source".into(),
        format!("models.dev {provider}/{id}").into(),
    );
    Ok(Value::Object(row))
}

fn convert_cost(cost: &Map<String, Value>, row: &mut Map<String, Value>) -> Result<(), String> {
    let rates = convert_rates(cost).map_err(|e| format!("cost: {e}"))?;
    row.extend(rates);
    let mut tiers: Vec<(u64, Value)> = Vec::new();
    if let Some(Value::Array(listed)) = cost.get("tiers") {
        for listed in listed {
            let kind = listed
                .get("tier")
                .and_then(|t| t.get("type"))
                .and_then(Value::as_str);
            let above = listed
                .get("tier")
                .and_then(|t| t.get("size"))
                .and_then(Value::as_u64);
            // Tiers by something other than the prompt's size are not ours to bill by.
            if let (Some("context"), Some(above @ 1..), Value::Object(fields)) =
                (kind, above, listed)
            {
                push_tier(&mut tiers, above, fields)?;
            }
        }
    }
    // The older way to say the same.
    if tiers.is_empty()
        && let Some(Value::Object(fields)) = cost.get("context_over_200k")
    {
        push_tier(&mut tiers, 200_000, fields)?;
    }
    if !tiers.is_empty() {
        row.insert(
            "tiers".into(),
            tiers.into_iter().map(|(_, tier)| tier).collect(),
        );
    }
    Ok(())
}

fn push_tier(
    tiers: &mut Vec<(u64, Value)>,
    above: u64,
    fields: &Map<String, Value>,
) -> Result<(), String> {
    if tiers.iter().any(|(other, _)| *other == above) {
        return Err(format!("cost: two tiers above {above}"));
    }
    let mut tier = convert_rates(fields).map_err(|e| format!("cost: tier above {above}: {e}"))?;
    tier.insert("above".into(), above.into());
    tiers.push((above, Value::Object(tier)));
    Ok(())
}

fn convert_rates(fields: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut rates = Map::new();
    for (ours, theirs, required) in [
        ("input", "input", true),
        ("cached_input", "cache_read", false),
        ("cache_write", "cache_write", false),
        ("output", "output", true),
    ] {
        match fields.get(theirs) {
            Some(Value::Number(number)) => {
                let rate = rate_rounded_up(number.as_f64().unwrap_or(f64::NAN))
                    .map_err(|e| format!("{theirs}: {e}, found {number}"))?;
                rates.insert(ours.into(), Value::Number(rate.to_json()));
            }
            None | Some(Value::Null) if !required => {}
            None | Some(Value::Null) => return Err(format!("{theirs}: missing")),
            Some(_) => return Err(format!("{theirs}: expected a number")),
        }
    }
    Ok(rates)
}

/// Their prices are sometimes the quotient of another currency; a millionth of a dollar per 1M tokens more is nothing.
fn rate_rounded_up(usd: f64) -> Result<Rate, AmountError> {
    match Rate::from_f64(usd) {
        Err(AmountError::TooPrecise(_)) => Rate::from_f64((usd * 1e6).ceil() / 1e6),
        other => other,
    }
}

/// Whether everything listed is zero, which says "not billed by the token" and not "free".
fn is_free(cost: &Map<String, Value>) -> bool {
    let zero = |field: &str| {
        cost.get(field)
            .and_then(Value::as_f64)
            .is_none_or(|n| n == 0.0)
    };
    ["input", "output", "cache_read", "cache_write"]
        .into_iter()
        .all(zero)
        && ["input", "output"]
            .into_iter()
            .all(|f| cost.get(f).is_none_or(Value::is_number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::Origin;
    use crate::catalog::Status;
    use crate::catalog::price_file::PriceFile;
    use proptest::prelude::*;
    use std::path::Path;

    fn noon() -> SystemTime {
        clock::parse_rfc3339("2026-11-20T12:00:00Z").unwrap()
    }

    fn converted(document: Value) -> Result<Conversion, String> {
        convert(document.to_string().as_bytes(), URL, noon()).map_err(|e| e.to_string())
    }

    fn moonshot(models: Value) -> Value {
        json!({"moonshotai": {"id": "moonshotai", "models": models}})
    }

    fn sample() -> Value {
        json!({
            "moonshotai": {"id": "moonshotai", "npm": "x", "models": {
                "kimi-k3": {"id": "kimi-k3", "cost": {"input": 3, "output": 15, "cache_read": 0.3, "reasoning": 1}, "limit": {"context": 1048576, "output": 131072}, "brand_new_key": []},
                "kimi-free": {"id": "kimi-free", "cost": {"input": 0, "output": 0}, "limit": {"context": 0, "output": 0}},
                "kimi-bare": {"id": "kimi-bare"},
            }},
            "google": {"models": {
                "gem": {"cost": {"input": 1.25, "output": 10, "context_over_200k": {"input": 2.5, "output": 15}}, "status": "deprecated"},
                "gem-2": {"cost": {"input": 1.25, "output": 10, "cache_read": 0.033_333_333_3, "tiers": [{"tier": {"type": "context", "size": 5000}, "input": 2, "output": 12, "cache_read": 0.4}]}},
            }},
            "alibaba": {"models": {"KIMI-K3": {"cost": {"input": 99, "output": 99}}}},
            "reseller": {"models": {"kimi-k3": {"cost": {"input": -5, "output": "?"}}}},
            "openrouter": {"models": {
                "moonshotai/kimi-k3": {"cost": {"input": 2.1, "output": 9}},
                "moonshotai/kimi-odd": {"cost": {"input": -5, "output": "?"}},
                "moonshotai/kimi-free": {"cost": {"input": 0, "output": 0}},
                "openai/gpt": {"cost": {"input": 1, "output": 2}},
            }},
        })
    }

    #[test]
    fn the_makers_rows_are_kept_and_read_back() {
        let conversion = converted(sample()).unwrap();
        assert_eq!((conversion.priced, conversion.unpriced), (4, 2));
        let file = PriceFile::parse(&conversion.document, Path::new("snapshot.json")).unwrap();
        let Origin::ModelsDev { fetched_at, .. } = file.origin() else {
            panic!("{:?}", file.origin());
        };
        assert_eq!(&**fetched_at, "2026-11-20T12:00:00Z");
        let mut catalog = Catalog::builtin();
        catalog.apply(&file);
        let resold = catalog.resolve_at("moonshotai/kimi-k3", "openrouter.ai");
        let price = resold.price.as_ref().unwrap();
        assert_eq!(price.rates().input.exact_decimal(), "2.1");
        assert_eq!(resold.origin, *file.origin());
        let kimi = catalog.find("kimi-k3").unwrap();
        assert_eq!(
            kimi.price.as_ref().unwrap().rates().input,
            Rate::from_usd(3)
        );
        assert_eq!(kimi.max_output, Some(131_072));
        assert_eq!(kimi.as_of, "2026-11-20");
        assert_eq!(catalog.find("kimi-free").unwrap().price, None);
        let gem = catalog.find("gem").unwrap();
        assert_eq!(gem.status, Status::Deprecated);
        assert_eq!(gem.price.as_ref().unwrap().tiers()[0].above, 200_000);
        let gem = catalog.find("google/gem-2").unwrap().price.clone().unwrap();
        assert_eq!(
            gem.rates().cached_input,
            Some(Rate::parse("0.033334").unwrap())
        );
        assert_eq!(
            gem.tiers()[0].rates.cached_input,
            Some(Rate::parse("0.4").unwrap())
        );
    }

    #[test]
    fn what_would_spoil_a_good_snapshot_is_refused() {
        for (document, reason) in [
            (json!([]), "expected an object of providers"),
            (json!({}), "moonshotai: missing"),
            (json!({"error": "rate limited"}), "moonshotai: missing"),
            (json!({"moonshotai": {}}), "moonshotai: no models"),
            (moonshot(json!({})), "no model has a price"),
            (
                moonshot(json!({"k": {"cost": {"input": 0, "output": 0}}})),
                "no model has a price",
            ),
            (
                moonshot(json!({"k": {"cost": {"input": -1, "output": 1}}})),
                "moonshotai/k: cost: input: negative, found -1",
            ),
            (
                moonshot(json!({"k": {"cost": {"input": 1e9, "output": 1}}})),
                "moonshotai/k: cost: input: too large, found 1000000000.0",
            ),
            (
                moonshot(json!({"k": {"cost": {"input": "3", "output": 1}}})),
                "moonshotai/k: cost: input: expected a number",
            ),
            (
                moonshot(json!({"k": {"cost": {"output": 1}}})),
                "moonshotai/k: cost: input: missing",
            ),
            (
                moonshot(json!({"k": 7})),
                "moonshotai/k: expected an object",
            ),
        ] {
            assert_eq!(
                converted(document),
                Err(format!("not a models.dev price list: {reason}"))
            );
        }
        let html = convert(b"<html>", URL, noon()).unwrap_err();
        assert!(html.to_string().contains("not JSON"), "{html}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            prop::sample::select(vec![
                "input",
                "output",
                "cache_read",
                "cache_write",
                "tiers",
                "tier",
                "type",
                "size",
                "cost",
                "limit",
                "context",
                "status",
                "context_over_200k"
            ])
            .prop_map(String::from),
            "\\PC{0,6}",
        ];
        leaf.prop_recursive(5, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|m| m.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_converted_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = convert(&bytes, URL, noon());
        }

        #[test]
        fn any_model_is_refused_or_reads_back(
            models in prop::collection::btree_map(".{0,9}", any_json(), 0..4),
            input in 0.0..2e6_f64,
        ) {
            let mut models: Map<String, Value> = models.into_iter().collect();
            models.insert("sure".into(), json!({"cost": {"input": input, "output": 1, "tiers": [{"tier": {"type": "context", "size": 9}, "input": input, "output": 0}]}}));
            if let Ok(conversion) = converted(moonshot(Value::Object(models))) {
                let file = PriceFile::parse(&conversion.document, Path::new("s")).unwrap();
                prop_assert_eq!(file.rows().len(), conversion.priced + conversion.unpriced);
                prop_assert_eq!(file.rows().iter().filter(|r| r.price.is_some()).count(), conversion.priced);
            }
        }
    }
}
