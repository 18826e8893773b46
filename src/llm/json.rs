//! The one JSON value in a model's answer.
//!
//! Asked for JSON, models put it in a fence, say a word before it or wish a nice day after it. All of that is stepped over;
//! what is refused is everything where a reader would have to choose: two values, a value that is broken or cut, a key
//! that stands twice in one object. A part of a broken value is never taken for the answer. Pure and total; every error
//! names the byte at which it was found. Outside a fence only an object or an array counts, since any sentence may hold a
//! number; an answer that is nothing but a value may be of any kind.

use std::error::Error;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;
use serde_json::error::Category;

use crate::runtime::text;

/// Characters of a key kept in an error.
const MAX_SHOWN_CHARS: usize = 60;

/// The value of an answer and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    /// The value.
    pub value: Value,
    /// Its text.
    pub source: &'a str,
    /// Where that begins in the answer, in bytes.
    pub offset: usize,
}

/// Why an answer holds no one JSON value. Offsets are bytes from the answer's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtractError {
    /// There is none.
    Missing,
    /// There are two or more, and nobody can tell which is meant.
    Several {
        /// Where the first begins.
        first: usize,
        /// Where the second does.
        second: usize,
    },
    /// There is one that is not valid JSON, or is cut.
    Malformed {
        /// Where it begins.
        start: usize,
        /// Where it goes wrong.
        at: usize,
        /// What is wrong there.
        detail: String,
    },
    /// A key stands twice in one object, so that readers differ on its value.
    DuplicateKey {
        /// The last byte of the second one.
        at: usize,
        /// The key, escaped and shortened.
        key: String,
    },
}

impl fmt::Display for ExtractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExtractError::Missing => f.write_str("no JSON value in the answer"),
            ExtractError::Several { first, second } => write!(
                f,
                "more than one JSON value in the answer: at byte {first} and at byte {second}"
            ),
            ExtractError::Malformed { start, at, detail } => {
                write!(
                    f,
                    "the JSON value at byte {start} is broken at byte {at}: {detail}"
                )
            }
            ExtractError::DuplicateKey { at, key } => {
                write!(
                    f,
                    "the key \"{key}\" stands twice in one object, the second time up to byte {at}"
                )
            }
        }
    }
}

impl Error for ExtractError {}

/// Finds the one JSON value in a text: the whole of it, the content of its one fence that is JSON, or the one object or
/// array in its prose.
///
/// ```
/// use omk::llm::json::extract;
///
/// let found = extract("Here you are:\n```json\n{\"a\": 1}\n```\nAnything else?")?;
/// assert_eq!((found.value["a"].as_u64(), found.source), (Some(1), "{\"a\": 1}"));
/// assert!(extract("{\"a\": 1} or {\"a\": 2}").is_err());
/// # Ok::<(), omk::llm::json::ExtractError>(())
/// ```
///
/// # Errors
///
/// See [`ExtractError`].
pub fn extract(answer: &str) -> Result<Found<'_>, ExtractError> {
    match whole(answer, 0) {
        Err(ExtractError::Malformed { .. } | ExtractError::Missing) => {}
        done => return done,
    }
    let mut fenced: Option<Found<'_>> = None;
    for (offset, content) in fences(answer) {
        match (whole(content, offset), &fenced) {
            (Ok(found), None) => fenced = Some(found),
            (Ok(found), Some(first)) => {
                return Err(ExtractError::Several {
                    first: first.offset,
                    second: found.offset,
                });
            }
            (Err(error @ ExtractError::DuplicateKey { .. }), _) => return Err(error),
            // Another language's, or broken: then the search below finds out where.
            (Err(_), _) => {}
        }
    }
    match fenced {
        Some(found) => Ok(found),
        None => search(answer),
    }
}

/// The text as a value and nothing else.
fn whole(part: &str, base: usize) -> Result<Found<'_>, ExtractError> {
    let blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    let body = part.trim_start_matches(blank);
    let start = base.saturating_add(part.len().saturating_sub(body.len()));
    let body = body.trim_end_matches(blank);
    if body.is_empty() {
        return Err(ExtractError::Missing);
    }
    let (value, length) = first(body, start)?;
    match length == body.len() {
        true => Ok(Found {
            value,
            source: body,
            offset: start,
        }),
        false => Err(ExtractError::Malformed {
            start,
            at: start.saturating_add(length),
            detail: "something follows the value".to_string(),
        }),
    }
}

/// The contents of the fences, with where they begin. A JSON string holds no line end, so no line of a value can be taken
/// for a fence.
fn fences(answer: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut open = None;
    let mut at = 0_usize;
    for line in answer.split_inclusive('\n') {
        let next = at.saturating_add(line.len());
        if line.trim_start().starts_with("```") {
            open = match open {
                None => Some(next),
                Some(start) => {
                    found.push((start, answer.get(start..at).unwrap_or_default()));
                    None
                }
            };
        }
        at = next;
    }
    // Models forget the last one, or were cut just before it.
    if let Some(start) = open {
        found.push((start, answer.get(start..).unwrap_or_default()));
    }
    found
}

/// The one object or array in a text of prose.
fn search(answer: &str) -> Result<Found<'_>, ExtractError> {
    let mut found: Option<Found<'_>> = None;
    let mut at = 0_usize;
    while let Some(skipped) = answer.get(at..).and_then(|rest| rest.find(['{', '['])) {
        let start = at.saturating_add(skipped);
        let rest = answer.get(start..).unwrap_or_default();
        match first(rest, start) {
            Ok((value, length)) => {
                if let Some(found) = found {
                    return Err(ExtractError::Several {
                        first: found.offset,
                        second: start,
                    });
                }
                found = Some(Found {
                    value,
                    source: rest.get(..length).unwrap_or_default(),
                    offset: start,
                });
                at = start.saturating_add(length);
            }
            Err(error) => match (&error, closes(rest)) {
                // `[see below]` and `{name}` are prose. What stands between the brackets is no value of its own: it may
                // be the inside of one in another language's notation.
                (ExtractError::Malformed { at: broken, .. }, Some(length))
                    if is_first_token(rest, broken.saturating_sub(start)) =>
                {
                    at = start.saturating_add(length);
                }
                _ => return Err(error),
            },
        }
    }
    found.ok_or(ExtractError::Missing)
}

/// Whether the first thing after the bracket in front stands there.
fn is_first_token(rest: &str, at: usize) -> bool {
    rest.get(1..at)
        .is_some_and(|before| before.trim().is_empty())
}

/// The length up to the end of the bracket in front, strings being unknown to prose.
fn closes(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return Some(at.saturating_add(1));
        }
    }
    None
}

/// The value that a text begins with, and its length.
fn first(body: &str, start: usize) -> Result<(Value, usize), ExtractError> {
    let mut values = serde_json::Deserializer::from_str(body).into_iter::<Unique>();
    match values.next() {
        None => Err(ExtractError::Missing),
        Some(Ok(Unique(value))) => Ok((value, values.byte_offset().min(body.len()))),
        Some(Err(error)) => {
            let at = start.saturating_add(offset(body, error.line(), error.column()));
            Err(match error.classify() {
                // Nothing else of ours is refused for what it says.
                Category::Data => ExtractError::DuplicateKey {
                    at,
                    key: message(&error),
                },
                Category::Eof => ExtractError::Malformed {
                    start,
                    at: start.saturating_add(body.len()),
                    detail: "it is cut off".to_string(),
                },
                _ => ExtractError::Malformed {
                    start,
                    at,
                    detail: message(&error),
                },
            })
        }
    }
}

/// What the parser says, without the place, which it gives in lines and columns of a part.
fn message(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text::escape(said.strip_suffix(&place).unwrap_or(&said)).into_owned()
}

/// Lines count from 1, and so do columns, in bytes; the parser has taken the byte that it complains about.
fn offset(body: &str, line: usize, column: usize) -> usize {
    let lines = body.split_inclusive('\n').take(line.saturating_sub(1));
    let before = lines.fold(0_usize, |sum, line| sum.saturating_add(line.len()));
    let at = before.saturating_add(column.saturating_sub(1));
    at.min(body.len())
}

/// A value whose objects say each thing once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(Visitor).map(Unique)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON has no words for the others, so none can have been read.
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown = text::truncate(&key, MAX_SHOWN_CHARS).into_owned();
                return Err(de::Error::custom(shown));
            }
            let Unique(value) = members.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(answer: &str, value: &Value) {
        let found = extract(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(&found.value, value, "{answer}");
        assert_eq!(
            answer.get(found.offset..found.offset + found.source.len()),
            Some(found.source)
        );
    }

    #[track_caller]
    fn check_error(answer: &str, message: &str) {
        assert_eq!(
            extract(answer).unwrap_err().to_string(),
            message,
            "{answer}"
        );
    }

    #[test]
    fn an_answer_that_is_a_value_may_be_of_any_kind() {
        for value in [
            json!(null),
            json!(true),
            json!(-7),
            json!(1.5),
            json!("a } b"),
            json!([1, [2]]),
            json!({"a": {"b": []}}),
        ] {
            check(&value.to_string(), &value);
            check(&format!("\u{feff}\n {value}\r\n"), &value);
            check(&format!("```json\n{value}\n```"), &value);
            check(&format!("```\n{value}\n"), &value);
        }
    }

    #[test]
    fn prose_and_fences_around_it_are_stepped_over() {
        let value = json!({"a": [1, "```"]});
        for answer in [
            "Sure! {\"a\": [1, \"```\"]} Bye.",
            "See [below], {name}:\n{\"a\": [1, \"```\"]}",
            "Not [1], but:\n```json\n{\"a\": [1, \"```\"]}\n```\nIt has [2] parts.",
            "```python\nx = {'a': [1]}\n```\n  ```JSON\n  {\"a\": [1, \"```\"]}\n  ```",
        ] {
            check(answer, &value);
        }
    }

    #[test]
    fn where_one_would_have_to_choose_there_is_an_error() {
        check_error("", "no JSON value in the answer");
        check_error("The answer is 42.", "no JSON value in the answer");
        check_error(
            "[1] or {\"a\":2}",
            "more than one JSON value in the answer: at byte 0 and at byte 7",
        );
        check_error(
            "```\n1\n```\n```\n2\n```",
            "more than one JSON value in the answer: at byte 4 and at byte 14",
        );
        check_error(
            "x {\"a\":1,\"b\":2,\"a\":3}",
            "the key \"a\" stands twice in one object, the second time up to byte 17",
        );
        check_error(
            "```json\n[{\"k\\n\":1,\"k\\n\":1}]\n```",
            "the key \"k\\n\" stands twice in one object, the second time up to byte 22",
        );
    }

    #[test]
    fn a_part_of_a_broken_value_is_not_the_answer() {
        check_error(
            "Here: {\"a\": [1, 2], \"b\": ",
            "the JSON value at byte 6 is broken at byte 25: it is cut off",
        );
        check_error(
            "{\"a\": [1, 2], b: 3}",
            "the JSON value at byte 0 is broken at byte 14: key must be a string",
        );
        check_error("{'a': [1, 2]}", "no JSON value in the answer");
        check_error(
            "é\n{'a': [1, 2]",
            "the JSON value at byte 3 is broken at byte 4: key must be a string",
        );
        check_error(
            "```json\n{\"a\": 1,}\n```",
            "the JSON value at byte 8 is broken at byte 16: trailing comma",
        );
        let deep = "[".repeat(100_000);
        assert!(matches!(
            extract(&deep),
            Err(ExtractError::Malformed { .. })
        ));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_is_found_in_a_fence_and_as_it_is(value in any_json()) {
            for answer in [
                value.to_string(),
                format!("{value:#}"),
                format!("So:\n```json\n{value:#}\n```\nThat [is] it."),
            ] {
                let found = extract(&answer).unwrap();
                prop_assert_eq!(&found.value, &value);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(answer in "[\\[\\]{}\",:a1`\n é\\\\-]{0,40}") {
            match extract(&answer) {
                Ok(found) => {
                    let again: Value = serde_json::from_str(found.source).unwrap();
                    prop_assert_eq!(again, found.value);
                }
                Err(error) => {
                    prop_assert!(!error.to_string().contains(char::is_control), "{}", error);
                    if let ExtractError::Malformed { start, at, .. } = error {
                        prop_assert!(start <= at && at <= answer.len());
                    }
                }
            }
        }
    }
}
