//! JSON Schemas (draft 2020-12) of the documents that omk prints and of the files that it reads, for
//! `omk help --schema NAME`.
//!
//! They are data, in `schemas.json`; that of the config file follows from the flag table. The tests hold every document
//! they see against its schema. Members are only ever added to a document, so no schema forbids others.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::doc::Span;
use crate::cli::doc::first_sentence;
use crate::cli::doc::spans;
use crate::cli::flags::Takes;
use crate::cli::flags::table::Table;

/// What there is a schema of: documents by the name between `omk.` and `/1`, and the config file.
pub(crate) const NAMES: &[&str] = &[
    "batch",
    "classification",
    "config",
    "cost-budget",
    "cost-check",
    "cost-clear",
    "cost-explain",
    "cost-fleet",
    "cost-import",
    "cost-list",
    "cost-path",
    "cost-push",
    "cost-reconcile",
    "cost-record",
    "cost-recover",
    "cost-repair",
    "cost-report",
    "cost-settle",
    "cost-sync",
    "cost-verify",
    "doctor",
    "error",
    "estimate",
    "event",
    "models",
    "models-update",
    "plan",
    "plan-check",
    "plan-diff",
    "prices",
    "request",
    "result",
    "session-estimate",
    "sessions",
    "templates",
];

const SCHEMAS: &str = include_str!("schemas.json");

/// The schema of that name, as pretty JSON; `{}` for a name that is none of [`NAMES`].
pub(crate) fn text(table: &Table, name: &str) -> String {
    let schema = match name {
        "config" => config(table),
        name => document(name),
    };
    format!("{schema:#}\n")
}

/// All of those in the file, with their shared parts in `$defs`.
pub(crate) fn all() -> Value {
    serde_json::from_str(SCHEMAS).unwrap_or_default()
}

/// One of those in the file, with what it refers to.
fn document(name: &str) -> Value {
    let all = all();
    let Some(mut schema) = all.get(name).cloned() else {
        return json!({});
    };
    let shared = all.get("$defs").and_then(Value::as_object);
    let mut wanted = vec![schema.clone()];
    let mut used = Map::new();
    while let Some(part) = wanted.pop() {
        let text = part.to_string();
        for (name, definition) in shared.into_iter().flatten() {
            let is_used = text.contains(&format!("\"#/$defs/{name}\""));
            if is_used && used.insert(name.clone(), definition.clone()).is_none() {
                wanted.push(definition.clone());
            }
        }
    }
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".to_string(), dialect());
        members.insert("$id".to_string(), json!(format!("urn:omk:{name}:1")));
        if !used.is_empty() {
            members.insert("$defs".to_string(), used.into());
        }
    }
    schema
}

fn dialect() -> Value {
    json!("https://json-schema.org/draft/2020-12/schema")
}

/// That of the config file: the flags that it may set.
fn config(table: &Table) -> Value {
    let mut properties = Map::new();
    for flag in table.configurable() {
        let plain: String = spans(first_sentence(flag.doc))
            .into_iter()
            .map(|span| match span {
                Span::Plain(text) | Span::Flag(text) | Span::Code(text) => text,
            })
            .collect();
        let one = match flag.takes {
            Takes::Value(..) if !flag.choices.is_empty() => json!({"enum": flag.choices}),
            Takes::Value(..) => json!({"type": ["string", "number"]}),
            _ => json!({"type": "boolean"}),
        };
        let mut schema = match flag.repeats {
            true => json!({"anyOf": [one, {"type": "array", "items": one}]}),
            false => one,
        };
        if let Value::Object(members) = &mut schema {
            members.insert("description".to_string(), json!(plain));
        }
        properties.insert(flag.long.to_string(), schema);
    }
    json!({
        "$schema": dialect(),
        "$id": "urn:omk:config:1",
        "title": "The config file of omk: long names of flags and their values",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::TABLE;
    use crate::llm::schema::Validator;

    #[test]
    fn every_schema_is_sound_and_checked_in_full() {
        let all = all();
        let known = all.as_object().unwrap().keys().map(String::as_str);
        let mut known: Vec<&str> = known.filter(|name| *name != "$defs").collect();
        known.push("config");
        known.sort_unstable();
        assert_eq!(known, NAMES);
        for name in NAMES {
            let schema: Value = serde_json::from_str(&text(&TABLE, name)).unwrap();
            let validator = Validator::new(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(
                validator.unchecked().is_empty(),
                "{name}: {:?}",
                validator.unchecked()
            );
            assert_eq!(schema["$id"], format!("urn:omk:{name}:1"));
            assert!(schema["title"].is_string(), "{name}");
        }
    }

    #[test]
    fn a_config_file_is_checked() {
        let schema: Value = serde_json::from_str(&text(&TABLE, "config")).unwrap();
        let validator = Validator::new(&schema).unwrap();
        assert!(
            validator
                .check(&json!({"model": "kimi-k3", "quiet": true}))
                .is_empty()
        );
        assert_eq!(validator.check(&json!({"modle": "kimi-k3"})).len(), 1);
        assert_eq!(validator.check(&json!({"quiet": "yes"})).len(), 1);
    }

    #[test]
    fn a_price_file_is_checked() {
        let schema: Value = serde_json::from_str(&text(&TABLE, "prices")).unwrap();
        let validator = Validator::new(&schema).unwrap();
        let row = json!({"model": "own", "input": 1, "output": "2.50", "tiers": []});
        for file in [
            json!([row]),
            json!({"schema": "omk.prices/1", "models": [row]}),
        ] {
            assert!(
                validator.check(&file).is_empty(),
                "{:?}",
                validator.check(&file)
            );
        }
        let row = json!({"model": "own", "input": 1, "output": 2, "currency": "EUR"});
        assert!(!validator.check(&json!([row])).is_empty());
        assert!(
            !validator
                .check(&json!([{"model": "own", "inputs": 1}]))
                .is_empty()
        );
    }
}
