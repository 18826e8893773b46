//! Templates of prompts: a text with `{{name}}` in it, and before it, if there is something to set, one JSON object.
//!
//! There is no language in it: a place is filled with a value, once, and what stands in the value is left as it is. The
//! header sets what the question is and what it may cost; it cannot choose the peer or what an agent may do, so a template
//! from elsewhere is safe to use.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value;
use crate::runtime::file;
use crate::runtime::text::{escape_os, nearest};

/// A template is a page of text.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The ending of a template that is kept by name.
const ENDING: &str = "txt";

/// The flags that a header may set.
pub(crate) const KEYS: &[&str] = &[
    "model",
    "system",
    "schema",
    "thinking",
    "temperature",
    "max-usd",
    "max-tokens",
    "max-output-tokens",
    "deadline",
    "extract",
];

/// The key of a header that is for people.
const DESCRIPTION: &str = "description";

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// Flags and their values.
    pub(crate) header: Map<String, Value>,
    /// What it is for.
    pub(crate) description: Option<String>,
    /// The text.
    pub(crate) body: String,
}

/// The directory of the templates that are kept by name.
pub(crate) fn directory(env: &Env) -> Option<PathBuf> {
    env.config_directory()
        .map(|directory| directory.join("templates"))
}

/// The file of a template: a word is a name, everything else is a path.
///
/// # Errors
///
/// Exit 78 when there is no directory for names.
pub(crate) fn path(named: &OsStr, env: &Env) -> Result<PathBuf, Failure> {
    let is_name = named
        .to_str()
        .is_some_and(|name| !name.is_empty() && !name.contains(['/', '\\', '.']));
    if !is_name {
        return Ok(named.into());
    }
    let Some(directory) = directory(env) else {
        let detail = "there is no config directory for templates";
        return Err(Failure::new(Exit::Config, "configuration", detail)
            .hint("set HOME or XDG_CONFIG_HOME, or name a file as ./NAME"));
    };
    Ok(directory.join(named).with_extension(ENDING))
}

/// Reads a template.
///
/// # Errors
///
/// Exit 66 when there is none, 78 when its header is wrong.
pub(crate) fn read(path: &Path) -> Result<Template, Failure> {
    let shown = escape_os(path);
    let missing = |detail: String| {
        Failure::new(Exit::NoInput, "input", detail)
            .hint("`omk templates` lists those kept by name; a path has a slash or an ending in it")
    };
    let text = file::read_regular(path, LARGEST)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8")))
        .map_err(|error| missing(format!("the template `{shown}`: {error}")))?;
    parse(&text).map_err(|detail| {
        let detail = format!("the template `{shown}`: {detail}");
        Failure::new(Exit::Config, "configuration", detail)
    })
}

/// A template of this text.
fn parse(text: &str) -> Result<Template, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut template = Template {
        header: Map::new(),
        description: None,
        body: text.to_string(),
    };
    // A place to fill begins with a brace too, but with two.
    if !text.trim_start().starts_with('{') || text.trim_start().starts_with("{{") {
        return Ok(template);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>();
    let header = match values.next() {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(format!("its header is not a JSON object: {error}")),
        None => return Ok(template),
    };
    let rest = text.get(values.byte_offset()..).unwrap_or_default();
    template.body = rest.trim_start_matches([' ', '\r', '\n']).to_string();
    for (key, value) in header {
        if key == DESCRIPTION {
            let text = value.as_str();
            template.description = Some(text.ok_or("`description` is not a string")?.to_string());
        } else if KEYS.contains(&key.as_str()) {
            template.header.insert(key, value);
        } else {
            let near = nearest(&key, KEYS.iter().copied());
            let known = near.map_or(KEYS.join(", "), |near| format!("did you mean `{near}`?"));
            return Err(format!("its header has an unknown key `{key}`: {known}"));
        }
    }
    Ok(template)
}

/// A part of a body.
enum Part<'a> {
    Text(&'a str),
    /// A place to fill.
    Place(&'a str),
}

/// The parts of a body; braces around what is no name are text.
fn parts(body: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while let Some(open) = body.get(at..).and_then(|rest| rest.find("{{")) {
        let open = at + open;
        let inside = body.get(open + 2..).unwrap_or_default();
        let name = inside.split_once("}}").map(|(name, _)| name);
        match name.filter(|name| value::is_name(name.trim())) {
            Some(name) => {
                parts.push(Part::Text(body.get(from..open).unwrap_or_default()));
                parts.push(Part::Place(name.trim()));
                at = open + name.len() + 4;
                from = at;
            }
            None => at = open + 1,
        }
    }
    parts.push(Part::Text(body.get(from..).unwrap_or_default()));
    parts
}

/// The names of the places of a body, each once.
pub(crate) fn places(body: &str) -> BTreeSet<&str> {
    let places = parts(body).into_iter().filter_map(|part| match part {
        Part::Place(name) => Some(name),
        Part::Text(_) => None,
    });
    places.collect()
}

/// The body with its places filled.
///
/// # Errors
///
/// Names the places without a value, and the values without a place.
pub(crate) fn fill(body: &str, values: &[(String, String)]) -> Result<String, String> {
    let places = places(body);
    let unknown: Vec<&str> = values
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !places.contains(name))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = places.into_iter().collect();
        let known = match known.is_empty() {
            true => "it has none".to_string(),
            false => format!("it has {}", known.join(", ")),
        };
        return Err(format!(
            "the template has no place named {}; {known}",
            unknown.join(", ")
        ));
    }
    let value = |name: &str| {
        let mut found = values.iter().rev();
        found
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    };
    let missing: Vec<&str> = places
        .into_iter()
        .filter(|name| value(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "the template has places without a value: {}",
            missing.join(", ")
        ));
    }
    let filled = parts(body).into_iter().map(|part| match part {
        Part::Text(text) => text,
        Part::Place(name) => value(name).map_or("", String::as_str),
    });
    Ok(filled.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn a_header_is_taken_off_the_text() {
        let template =
            parse("{\"model\": \"kimi-k3\", \"description\": \"For diffs\"}\nReview {{diff}}\n")
                .unwrap();
        assert_eq!(template.body, "Review {{diff}}\n");
        assert_eq!(template.description.as_deref(), Some("For diffs"));
        assert_eq!(Value::Object(template.header), json!({"model": "kimi-k3"}));
        for text in [
            "No header, {braces}",
            "{{name}} first",
            "",
            "  {{a}} {\"b\": 1}",
        ] {
            let template = parse(text).unwrap();
            assert_eq!((template.body.as_str(), template.header.len()), (text, 0));
        }
    }

    #[test]
    fn a_wrong_header_is_named() {
        for (text, detail) in [
            (
                "{\"modle\": 1}\nx",
                "its header has an unknown key `modle`: did you mean `model`?",
            ),
            (
                "{\"allow\": \"all\"}\nx",
                "its header has an unknown key `allow`: ",
            ),
            ("{\"description\": 1}\nx", "`description` is not a string"),
            ("{model}\nx", "its header is not a JSON object: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(detail), "{error}");
        }
    }

    #[test]
    fn places_are_filled_once() {
        let body = "{{a}} and {{ b-2 }}, {{a}}; {{}} {{1}} {{ x y }} {{{a}}} {{";
        let filled = fill(body, &values(&[("a", "{{b-2}}"), ("b-2", "two")])).unwrap();
        assert_eq!(
            filled,
            "{{b-2}} and two, {{b-2}}; {{}} {{1}} {{ x y }} {{{b-2}}} {{"
        );
        assert_eq!(places(body), BTreeSet::from(["a", "b-2"]));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let error = fill("{{a}} {{b}}", &values(&[("a", "1")])).unwrap_err();
        assert_eq!(error, "the template has places without a value: b");
        let error = fill("{{a}}", &values(&[("a", "1"), ("c", "2")])).unwrap_err();
        assert_eq!(error, "the template has no place named c; it has a");
        let error = fill("plain", &values(&[("c", "2")])).unwrap_err();
        assert_eq!(error, "the template has no place named c; it has none");
    }

    proptest! {
        #[test]
        fn values_stay_as_they_are(before in "[a-z{} \n]{0,20}", value in "[a-z{}\\$\n\u{e9}]{0,30}", after in "[a-z \n]{0,20}") {
            let body = format!("{before} {{{{place}}}} {after}");
            // Braces before it may make another place of it.
            prop_assume!(places(&body) == BTreeSet::from(["place"]));
            let filled = fill(&body, &values(&[("place", &value)])).unwrap();
            prop_assert_eq!(filled, format!("{before} {value} {after}"));
        }

        #[test]
        fn no_text_panics(text in "[{}a \"\n:]{0,40}") {
            let _ = parse(&text);
            let _ = fill(&text, &[]);
        }
    }
}
