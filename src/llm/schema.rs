//! The part of JSON Schema that is written in practice for answers of a model, and for omk's own documents.
//!
//! Checked: `type` (with `nullable` beside it), `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`,
//! `minItems`, `maxItems`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength` (in code
//! points), `allOf`, `anyOf`, `oneOf`, `$ref` within the document by JSON pointer, `$defs`, `definitions`, and `true` and
//! `false` as schemas. As in draft 2020-12, what stands beside a `$ref` counts. This is all that Moonshot accepts
//! (github.com/MoonshotAI/walle, docs/mfjs-spec.md), and the bounds that schema generators add.
//!
//! Every other keyword that says something about a value is named by [`Validator::unchecked`], misspelt ones too; only
//! `format`, which is an annotation, the other annotations, and keywords that begin with `x-` are passed over.
//!
//! Refused: a keyword with a value of the wrong type, a `$ref` that leads nowhere or out of the document, an `$id` below the
//! root, and a schema that refers to itself without going into the value. Checking is bounded in depth, in steps and in the
//! number of violations, and says so where it met a bound.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use crate::runtime::json::element;
use crate::runtime::json::member;
use crate::runtime::text;
use crate::runtime::text::quote;

/// Violations reported at most: nobody repairs more at a time.
const MAX_VIOLATIONS: usize = 20;
/// Levels of a schema or a value. JSON text has no more than 128, says its parser.
const MAX_NESTING: usize = 256;
/// Schemas entered within each other while checking: several for each level of the value.
const MAX_DEPTH: usize = 512;
/// Schemas entered at least, and for each value, before checking is given up.
const MIN_STEPS: u64 = 1_000_000;
const STEPS_PER_VALUE: u64 = 256;
/// Characters of a list of values in a message.
const MAX_SHOWN_CHARS: usize = 300;

/// What the value of a keyword must be.
#[derive(Clone, Copy)]
enum Shape {
    Anything,
    Types,
    Text,
    Boolean,
    Number,
    /// A whole number from 0.
    Count,
    Values,
    Names,
    Schema,
    /// At least one schema.
    Schemas,
    NamedSchemas,
}

/// The keywords that are checked.
const KEYWORDS: &[(&str, Shape)] = &[
    ("$defs", Shape::NamedSchemas),
    ("$id", Shape::Text),
    ("$ref", Shape::Text),
    ("additionalProperties", Shape::Schema),
    ("allOf", Shape::Schemas),
    ("anyOf", Shape::Schemas),
    ("const", Shape::Anything),
    ("definitions", Shape::NamedSchemas),
    ("enum", Shape::Values),
    ("exclusiveMaximum", Shape::Number),
    ("exclusiveMinimum", Shape::Number),
    ("items", Shape::Schema),
    ("maxItems", Shape::Count),
    ("maxLength", Shape::Count),
    ("maximum", Shape::Number),
    ("minItems", Shape::Count),
    ("minLength", Shape::Count),
    ("minimum", Shape::Number),
    ("nullable", Shape::Boolean),
    ("oneOf", Shape::Schemas),
    ("properties", Shape::NamedSchemas),
    ("required", Shape::Names),
    ("type", Shape::Types),
];

/// Keywords that say nothing about a value.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$schema",
    "$vocabulary",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "format",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

const TYPES: &[&str] = &[
    "null", "boolean", "integer", "number", "string", "array", "object",
];

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// The JSON pointer of the place, empty for the root.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl SchemaError {
    fn new(pointer: &str, message: impl Into<String>) -> SchemaError {
        SchemaError {
            pointer: pointer.to_string(),
            message: message.into(),
        }
    }
}

impl fmt::Display for SchemaError {
    /// With `#` in front, so that the root has a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}: {}", text::escape(&self.pointer), self.message)
    }
}

impl Error for SchemaError {}

/// What is wrong with a value, and where. Both are fit to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The place: `$` for the whole, `$.slices[0].id` for a part.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A schema, read and found sound.
///
/// ```
/// use omk::llm::schema::Validator;
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 2}}, "required": ["n"]});
/// let validator = Validator::new(&schema)?;
/// assert!(validator.check(&json!({"n": 7})).is_empty());
/// let violations = validator.check(&json!({"n": "7"}));
/// assert_eq!(violations[0].to_string(), r#"$.n: expected integer, found "7""#);
/// assert_eq!(validator.unchecked(), ["/properties/n/multipleOf"]);
/// # Ok::<(), omk::llm::schema::SchemaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Validator {
    schema: Value,
    unchecked: Vec<String>,
}

impl Validator {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// It is no valid schema, or holds what the module's documentation says is refused.
    pub fn new(schema: &Value) -> Result<Validator, SchemaError> {
        if size(schema).is_none() {
            let message = format!("more than {MAX_NESTING} levels deep");
            return Err(SchemaError::new("", message));
        }
        let mut reader = Reader {
            root: schema,
            read: HashSet::new(),
            found: vec![String::new()],
            unchecked: Vec::new(),
        };
        // Reading a schema finds others, which wait in the list: a chain of references may be long.
        while let Some(pointer) = reader.found.pop() {
            if let Some(found) = schema.pointer(&pointer) {
                reader.schema(found, &pointer)?;
            }
        }
        comes_to_an_end(schema, reader.read)?;
        reader.unchecked.sort();
        reader.unchecked.dedup();
        Ok(Validator {
            schema: schema.clone(),
            unchecked: reader.unchecked,
        })
    }

    /// The JSON pointers of the keywords that are not checked, sorted: for a warning.
    pub fn unchecked(&self) -> &[String] {
        &self.unchecked
    }

    /// What is wrong with a value, at most 20 things, the same each time; empty if it fits.
    ///
    /// A value too deep or a schema too entangled to be checked to the end is a violation that says so: what was not
    /// checked does not pass.
    pub fn check(&self, value: &Value) -> Vec<Violation> {
        let whole = |message: String| Violation {
            path: "$".to_string(),
            message,
        };
        let Some(values) = size(value) else {
            return vec![whole(format!("more than {MAX_NESTING} levels deep"))];
        };
        let mut checker = Checker {
            root: &self.schema,
            steps: values.saturating_mul(STEPS_PER_VALUE).max(MIN_STEPS),
            gave_up: None,
        };
        let mut violations = checker.check(&self.schema, value, "$", 0);
        violations.truncate(MAX_VIOLATIONS);
        if let Some(reason) = checker.gave_up {
            violations.truncate(MAX_VIOLATIONS - 1);
            violations.push(whole(reason.to_string()));
        }
        violations
    }
}

/// The values in a value, itself included; `None` where it is too deep.
fn size(value: &Value) -> Option<u64> {
    let mut count = 0_u64;
    let mut left = vec![(value, 0_usize)];
    while let Some((value, depth)) = left.pop() {
        if depth > MAX_NESTING {
            return None;
        }
        count += 1;
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => left.extend(members.values().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Some(count)
}

/// The place in the document that a reference names.
fn pointer_of(root: &Value, reference: &str) -> Result<String, &'static str> {
    let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let id = root.get("$id").and_then(Value::as_str).unwrap_or_default();
    if !document.is_empty() && document != id.trim_end_matches('#') {
        return Err("only references within the document are followed");
    }
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return Err("anchors are not followed; write a JSON pointer such as #/$defs/name");
    }
    text::percent_decoded(fragment).ok_or("the fragment is no text")
}

/// Reads a schema and everything below it.
struct Reader<'a> {
    root: &'a Value,
    /// Pointers of what was read.
    read: HashSet<String>,
    /// Pointers of what is still to be read.
    found: Vec<String>,
    unchecked: Vec<String>,
}

impl<'a> Reader<'a> {
    fn schema(&mut self, schema: &'a Value, pointer: &str) -> Result<(), SchemaError> {
        if !self.read.insert(pointer.to_string()) {
            return Ok(());
        }
        let members = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(members) => members,
            other => {
                let message = format!(
                    "expected a schema, an object or a boolean, found {}",
                    show(other)
                );
                return Err(SchemaError::new(pointer, message));
            }
        };
        for (key, value) in members {
            let at = format!("{pointer}/{}", token(key));
            let keyword = KEYWORDS.iter().find(|(name, _)| name == key);
            match keyword {
                // Which properties it speaks of depends on the patterns.
                Some(_) if is_unclear(members, key) => self.unchecked.push(at),
                Some((_, shape)) => self.keyword(key, *shape, value, &at)?,
                None if ANNOTATIONS.contains(&key.as_str()) || key.starts_with("x-") => {}
                None => self.unchecked.push(at),
            }
            if key == "$id" && !pointer.is_empty() {
                let at = format!("{pointer}/$id");
                let message = "below the root it would change what references mean";
                return Err(SchemaError::new(&at, message));
            }
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        key: &str,
        shape: Shape,
        value: &'a Value,
        at: &str,
    ) -> Result<(), SchemaError> {
        let (fits, expected) = match (shape, value) {
            (Shape::Anything, _) => (true, ""),
            (Shape::Types, _) => {
                let named =
                    |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
                let fits = match value {
                    Value::Array(values) => !values.is_empty() && values.iter().all(named),
                    value => named(value),
                };
                (
                    fits,
                    "one or more of null, boolean, integer, number, string, array, object",
                )
            }
            (Shape::Text, _) => (value.is_string(), "a string"),
            (Shape::Boolean, _) => (value.is_boolean(), "true or false"),
            (Shape::Number, _) => (value.is_number(), "a number"),
            (Shape::Count, Value::Number(number)) => (
                is_whole(number) && number.as_f64().is_some_and(|number| number >= 0.0),
                "a whole number from 0",
            ),
            (Shape::Count, _) => (false, "a number"),
            (Shape::Values, _) => (value.is_array(), "a list"),
            (Shape::Names, _) => {
                let list = value.as_array();
                let fits = list.is_some_and(|names| names.iter().all(Value::is_string));
                (fits, "a list of names")
            }
            (Shape::Schema, _) => {
                self.schema(value, at)?;
                (true, "")
            }
            (Shape::Schemas, Value::Array(list)) => {
                if list.is_empty() {
                    return Err(SchemaError::new(at, "expected at least one schema"));
                }
                for (i, schema) in list.iter().enumerate() {
                    self.schema(schema, &format!("{at}/{i}"))?;
                }
                (true, "")
            }
            (Shape::Schemas, _) => (false, "a list of schemas"),
            (Shape::NamedSchemas, Value::Object(members)) => {
                for (name, schema) in members {
                    self.schema(schema, &format!("{at}/{}", token(name)))?;
                }
                (true, "")
            }
            (Shape::NamedSchemas, _) => (false, "an object"),
        };
        if !fits {
            let message = format!("expected {expected}, found {}", show(value));
            return Err(SchemaError::new(at, message));
        }
        if let ("$ref", Value::String(reference)) = (key, value) {
            let pointer = pointer_of(self.root, reference);
            let pointer = pointer.map_err(|message| SchemaError::new(at, message))?;
            if self.root.pointer(&pointer).is_none() {
                let message = format!("there is nothing at {}", quote(reference));
                return Err(SchemaError::new(at, message));
            }
            self.found.push(pointer);
        }
        Ok(())
    }
}

/// Refuses schemas of which one leads back to itself for the same value.
fn comes_to_an_end(root: &Value, pointers: HashSet<String>) -> Result<(), SchemaError> {
    let mut pointers: Vec<String> = pointers.into_iter().collect();
    pointers.sort();
    let (mut open, mut done) = (HashSet::new(), HashSet::new());
    // Each is entered, and, below what it leads to, left.
    let mut stack: Vec<(String, bool)> = Vec::new();
    for pointer in pointers {
        stack.push((pointer, false));
        while let Some((pointer, leaving)) = stack.pop() {
            if leaving {
                open.remove(&pointer);
                done.insert(pointer);
                continue;
            }
            if open.contains(&pointer) {
                let message = "it refers to itself without going into the value, so that checking would never end";
                return Err(SchemaError::new(&pointer, message));
            }
            let members = root.pointer(&pointer).and_then(Value::as_object);
            let Some(members) = members.filter(|_| !done.contains(&pointer)) else {
                continue;
            };
            open.insert(pointer.clone());
            stack.push((pointer.clone(), true));
            if let Some(Value::String(reference)) = members.get("$ref") {
                stack.extend(pointer_of(root, reference).map(|to| (to, false)));
            }
            for key in ["allOf", "anyOf", "oneOf"] {
                let list = members.get(key).and_then(Value::as_array);
                let count = list.map_or(0, Vec::len);
                stack.extend((0..count).map(|i| (format!("{pointer}/{key}/{i}"), false)));
            }
        }
    }
    Ok(())
}

/// Whether a keyword depends on one that is not checked.
fn is_unclear(members: &Map<String, Value>, key: &str) -> bool {
    match key {
        "additionalProperties" => members.contains_key("patternProperties"),
        "items" => {
            members.contains_key("prefixItems") || members.get(key).is_some_and(Value::is_array)
        }
        _ => false,
    }
}

/// A key as a part of a JSON pointer.
fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// One check of a value.
struct Checker<'a> {
    root: &'a Value,
    /// Schemas that may still be entered.
    steps: u64,
    /// Why not everything was checked.
    gave_up: Option<&'static str>,
}

impl Checker<'_> {
    /// What a value has against it, somewhat more than [`MAX_VIOLATIONS`] at most.
    fn check(&mut self, schema: &Value, value: &Value, path: &str, depth: usize) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut add = |message: String| {
            found.push(Violation {
                path: path.to_string(),
                message,
            })
        };
        if depth > MAX_DEPTH {
            self.gave_up = Some("not checked to the end: the schema leads too deep");
        } else if self.steps == 0 {
            self.gave_up = Some("not checked to the end: the schema takes too many steps");
        }
        if self.gave_up.is_some() {
            return found;
        }
        self.steps -= 1;
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(false) => {
                add("nothing is allowed here".to_string());
                return found;
            }
            _ => return found,
        };
        for (key, wanted) in members {
            if let Some(message) = objection(members, key, wanted, value) {
                add(message);
            }
        }
        for (key, wanted) in members {
            if found.len() >= MAX_VIOLATIONS || is_unclear(members, key) {
                continue;
            }
            match (key.as_str(), wanted, value) {
                ("$ref", Value::String(reference), _) => {
                    let pointer = pointer_of(self.root, reference).unwrap_or_default();
                    if let Some(schema) = self.root.pointer(&pointer) {
                        found.extend(self.check(schema, value, path, depth + 1));
                    }
                }
                ("allOf", Value::Array(list), _) => {
                    for schema in list {
                        found.extend(self.check(schema, value, path, depth + 1));
                    }
                }
                ("anyOf" | "oneOf", Value::Array(list), _) => {
                    found.extend(self.alternatives(key, list, value, path, depth + 1));
                }
                ("items", schema, Value::Array(items)) => {
                    for (i, item) in items.iter().enumerate() {
                        if found.len() >= MAX_VIOLATIONS {
                            break;
                        }
                        found.extend(self.check(schema, item, &element(path, i), depth + 1));
                    }
                }
                ("properties", Value::Object(named), Value::Object(values)) => {
                    for (name, value) in values {
                        if let Some(schema) = named.get(name) {
                            found.extend(self.check(schema, value, &member(path, name), depth + 1));
                        }
                    }
                }
                ("additionalProperties", schema, Value::Object(values)) => {
                    let named = members.get("properties").and_then(Value::as_object);
                    let is_named = |name: &str| named.is_some_and(|named| named.contains_key(name));
                    for (name, value) in values.iter().filter(|(name, _)| !is_named(name)) {
                        let path = member(path, name);
                        match schema {
                            Value::Bool(false) => found.push(Violation {
                                path,
                                message: "no such property is allowed".to_string(),
                            }),
                            schema => found.extend(self.check(schema, value, &path, depth + 1)),
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// `anyOf` and `oneOf`. Where no alternative fits, the nearest shows best what is missing.
    fn alternatives(
        &mut self,
        key: &str,
        list: &[Value],
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Option<Violation> {
        let mut fitting: Vec<String> = Vec::new();
        let mut nearest: Option<(usize, Vec<Violation>)> = None;
        for (number, schema) in (1..).zip(list) {
            let why = self.check(schema, value, path, depth);
            if self.gave_up.is_some() {
                return None;
            }
            match why.len() {
                0 if key == "anyOf" => return None,
                0 => fitting.push(number.to_string()),
                count if nearest.as_ref().is_none_or(|(_, best)| count < best.len()) => {
                    nearest = Some((number, why));
                }
                _ => {}
            }
        }
        let message = match (&fitting[..], nearest) {
            ([_], _) => return None,
            ([], nearest) => {
                let mut message = format!("fits none of the {} alternatives of {key}", list.len());
                if let Some((number, first)) =
                    nearest.and_then(|(number, why)| Some((number, why.into_iter().next()?)))
                {
                    message.push_str(&format!("; the nearest is number {number}, but {first}"));
                }
                message
            }
            (several, _) => format!(
                "fits {} alternatives of oneOf (numbers {}), not exactly one",
                several.len(),
                several.join(", ")
            ),
        };
        Some(Violation {
            path: path.to_string(),
            message,
        })
    }
}

/// What a keyword that looks at the value alone has against it.
fn objection(
    members: &Map<String, Value>,
    key: &str,
    wanted: &Value,
    value: &Value,
) -> Option<String> {
    let refused = |fits: bool, expected: String| {
        (!fits).then(|| format!("expected {expected}, found {}", show(value)))
    };
    let counted = |count: usize, what: &str, is_least: bool| {
        let bound = wanted.as_f64()?;
        let (fits, words) = match is_least {
            true => (count as f64 >= bound, "at least"),
            false => (count as f64 <= bound, "at most"),
        };
        (!fits).then(|| format!("expected {words} {bound} {what}, found {count}"))
    };
    match (key, value) {
        ("type", _) => {
            let names: Vec<&str> = match wanted {
                Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
                name => name.as_str().into_iter().collect(),
            };
            let nullable = value.is_null() && members.get("nullable") == Some(&Value::Bool(true));
            let fits = nullable || names.iter().any(|name| is_of(name, value));
            refused(fits, names.join(" or "))
        }
        ("enum", _) => {
            let values = wanted.as_array()?;
            let shown: Vec<String> = values.iter().map(show).collect();
            let expected = match shown.is_empty() {
                true => "nothing, as the list is empty".to_string(),
                false => format!(
                    "one of {}",
                    text::truncate(&shown.join(", "), MAX_SHOWN_CHARS)
                ),
            };
            refused(values.iter().any(|wanted| equal(wanted, value)), expected)
        }
        ("const", _) => refused(equal(wanted, value), show(wanted)),
        (
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum",
            Value::Number(number),
        ) => {
            let Value::Number(bound) = wanted else {
                return None;
            };
            let order = compare(number, bound);
            let (fits, words) = match key {
                "minimum" => (order.is_ge(), "at least"),
                "maximum" => (order.is_le(), "at most"),
                "exclusiveMinimum" => (order.is_gt(), "more than"),
                _ => (order.is_lt(), "less than"),
            };
            refused(fits, format!("{words} {bound}"))
        }
        ("minLength" | "maxLength", Value::String(text)) => {
            counted(text.chars().count(), "characters", key == "minLength")
        }
        ("minItems" | "maxItems", Value::Array(items)) => {
            counted(items.len(), "items", key == "minItems")
        }
        ("required", Value::Object(values)) => {
            let names = wanted.as_array()?.iter().filter_map(Value::as_str);
            let missing = names.filter(|name| !values.contains_key(*name));
            let missing: Vec<String> = missing.take(MAX_VIOLATIONS).map(quote).collect();
            (!missing.is_empty()).then(|| format!("without {}", missing.join(", ")))
        }
        _ => None,
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => name == "number" || name == "integer" && is_whole(number),
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Whole numbers exactly, others as the doubles that they are.
fn compare(a: &Number, b: &Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        // There is no NaN in JSON.
        _ => a
            .as_f64()
            .partial_cmp(&b.as_f64())
            .unwrap_or(Ordering::Equal),
    }
}

/// Whether two values are the same however they are written: 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (a, b) => a == b,
    }
}

/// A value for a message.
fn show(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => format!("an object of {}", members.len()),
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
