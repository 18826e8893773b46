//! The one JSON value in a text: where it stands, what it holds, or what is wrong with it and where.
//!
//! serde_json reads the grammar. What it forgets is kept here, because whoever corrects a text needs it: equal keys,
//! numbers digit by digit, and offsets, which follow from the [`RawValue`]s it borrows from the text. An answer of a model
//! may have prose or a fence around the value. A second value, or a broken one, is an error: nobody can tell which is
//! meant, and a part of a broken value must not be taken for the answer.

use std::error::Error;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::runtime::text::escape;
use crate::runtime::text::quote;

/// The deepest nesting that is read, which bounds the stack. A plan takes four levels.
const MAX_DEPTH: usize = 64;

/// Longest key that a path shows without quotes.
const MAX_KEY_BYTES: usize = 60;

/// Characters before the offset of an error that its message quotes.
const CONTEXT_CHARS: usize = 30;

/// White space, and the byte order mark that some editors put in front.
const BLANKS: [char; 5] = ['\u{feff}', ' ', '\t', '\n', '\r'];

/// A value with its place in the text, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) json: Json,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// Members in order, equal keys included.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// Where the key begins.
    pub(crate) at: usize,
    pub(crate) value: Node,
}

impl Json {
    /// What it is, with its article.
    pub(crate) fn described(&self) -> String {
        match self {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(digits) => format!("the number {}", quote(digits).trim_matches('"')),
            Json::Text(text) => format!("the text {}", quote(text)),
            Json::List(_) => "an array".to_string(),
            Json::Object(_) => "an object".to_string(),
        }
    }
}

impl Node {
    /// The value of a member of an object, `null` included.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.json {
            Json::Object(members) => {
                let found = members.iter().find(|member| member.key == key);
                found.map(|member| &member.value)
            }
            _ => None,
        }
    }

    /// The elements of an array; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.json {
            Json::List(list) => list,
            _ => &[],
        }
    }

    /// Calls `found` with the path and the offset of each key that its object has already.
    pub(crate) fn duplicates(&self, path: &str, found: &mut dyn FnMut(&str, &str, usize)) {
        match &self.json {
            Json::Object(members) => {
                let mut seen = std::collections::HashSet::new();
                for Member { key, at, value } in members {
                    let path = member(path, key);
                    if !seen.insert(key) {
                        found(&path, key, *at);
                    }
                    value.duplicates(&path, found);
                }
            }
            Json::List(list) => {
                for (i, node) in list.iter().enumerate() {
                    node.duplicates(&element(path, i), found);
                }
            }
            _ => {}
        }
    }
}

/// Why a text holds no single JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The offset of the place, in bytes.
    pub at: usize,
    /// The path of the value that was being read, such as `$.slices[1]`.
    pub path: String,
    /// What is wrong there, with the text before it; without control characters.
    pub message: String,
}

impl JsonError {
    fn new(at: usize, message: String) -> JsonError {
        JsonError {
            at,
            path: "$".to_string(),
            message,
        }
    }
}

impl fmt::Display for JsonError {
    /// `$.a, byte 12: expected a value, found "tru", after "{"a": "`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: {}", self.path, self.at, self.message)
    }
}

impl Error for JsonError {}

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

/// Finds the one JSON value of any kind in a text: the whole of it, the content of its one fence that is JSON, or the one
/// object or array in its prose. An array of numbers or words in prose counts only where nothing else does: it may be a
/// footnote.
///
/// ```
/// use omk::runtime::json::extract;
///
/// let found = extract("Here you are:\n```json\n{\"a\": 1}\n```\nAnything else?")?;
/// assert_eq!((found.value["a"].as_u64(), found.source), (Some(1), "{\"a\": 1}"));
/// assert!(extract("{\"a\": 1} or {\"a\": 2}").is_err());
/// # Ok::<(), omk::runtime::json::JsonError>(())
/// ```
///
/// # Errors
///
/// There is no value, more than one, a broken one, one nested deeper than 64 levels, or an object with equal keys.
pub fn extract(text: &str) -> Result<Found<'_>, JsonError> {
    let node = find(text, Wants::Value)?;
    let mut first = None;
    node.duplicates("$", &mut |path, key, at| {
        first.get_or_insert_with(|| JsonError {
            path: path.to_string(),
            ..JsonError::new(at, duplicate_message(key))
        });
    });
    let source = text.get(node.at..node.end).unwrap_or_default();
    match (first, serde_json::from_str(source)) {
        (Some(error), _) => Err(error),
        (None, Ok(value)) => Ok(Found {
            value,
            source,
            offset: node.at,
        }),
        // The grammar was right, so what is left is a number that no double holds.
        (None, Err(error)) => Err(JsonError::new(node.at, said(&error))),
    }
}

/// What to say of a key that its object has already.
pub(crate) fn duplicate_message(key: &str) -> String {
    format!("the key {} appears twice in one object", quote(key))
}

/// What a text should hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// An object; an array of arrays or objects is found too, to say that it is none.
    Object,
    /// An object or an array.
    List,
    /// A value of any kind.
    Value,
}

/// The one JSON value in a text.
///
/// # Errors
///
/// There is none, a broken one, one that is nested too deep, or more than one. Equal keys are no error here.
pub(crate) fn find(text: &str, wants: Wants) -> Result<Node, JsonError> {
    let counts =
        |node: &Node| wants == Wants::Value || matches!(node.json, Json::Object(_) | Json::List(_));
    let whole = |start: usize, end: usize| {
        let part = text.get(start..end).unwrap_or_default();
        let body = part.trim_start_matches(BLANKS);
        let (node, end) = value_at(text, start + part.len() - body.len()).ok()?;
        let rest = text.get(end..start + part.len())?;
        (rest.trim_matches(BLANKS).is_empty() && counts(&node)).then_some(node)
    };
    if let Some(node) = whole(0, text.len()) {
        return Ok(node);
    }
    let mut found: Option<Node> = None;
    for (start, end) in fences(text) {
        match (whole(start, end), &found) {
            (Some(node), Some(first)) => return Err(second(text, node.at, first)),
            (Some(node), None) => found = Some(node),
            (None, _) => {}
        }
    }
    let fenced = found.as_ref().map(|node| (node.at, node.end));
    // Arrays that are perhaps only footnotes.
    let mut notes: Vec<Node> = Vec::new();
    let mut first_bracket = None;
    let mut at = 0;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        at += offset;
        if let Some((_, end)) = fenced.filter(|(start, _)| *start == at) {
            at = end;
            continue;
        }
        first_bracket = first_bracket.or(Some(at));
        at = match begins(text, at, wants) {
            Begins::Value => match (value_at(text, at), &found) {
                (Ok((node, _)), Some(first)) => return Err(second(text, node.at, first)),
                (Ok((node, end)), None) => {
                    found = Some(node);
                    end
                }
                (Err(_), Some(_)) if fenced.is_some() => at + 1,
                (Err(error), _) => return Err(error),
            },
            Begins::Note => match value_at(text, at) {
                Ok((node, end)) => {
                    notes.push(node);
                    end
                }
                Err(_) => closing(text, at).unwrap_or(at + 1),
            },
            // `{name}` and `[see below]`: what stands between the brackets is no value of its own.
            Begins::Nothing => match closing(text, at) {
                Some(end) => end,
                None if fenced.is_some() || text.as_bytes().get(at) == Some(&b'[') => at + 1,
                None => break,
            },
        };
    }
    let mut notes = notes.into_iter();
    match (found, notes.next(), notes.next()) {
        (Some(node), _, _) | (None, Some(node), None) => Ok(node),
        (None, Some(first), Some(other)) => Err(second(text, other.at, &first)),
        (None, None, _) => Err(match (first_bracket, text.trim()) {
            // It may be no value, but one was meant: the error there says more than "no value".
            (Some(at), _) => match value_at(text, at) {
                Err(error) => error,
                Ok((node, _)) => return Ok(node),
            },
            (None, "") => {
                JsonError::new(0, "the answer is empty; a JSON value was expected".into())
            }
            (None, text) => JsonError::new(0, format!("no JSON value in the text {}", quote(text))),
        }),
    }
}

/// What a bracket in prose may begin.
enum Begins {
    Value,
    Note,
    Nothing,
}

/// Prose has brackets too, so a value is only begun by one that goes on as a value does.
fn begins(text: &str, at: usize, wants: Wants) -> Begins {
    let after = text.get(at + 1..).unwrap_or_default();
    let next = after
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .bytes()
        .next();
    match (text.as_bytes().get(at), next, wants) {
        (Some(b'{'), Some(b'"' | b'}'), _) => Begins::Value,
        (Some(b'['), Some(b'{' | b'['), _) => Begins::Value,
        (Some(b'['), Some(b'"' | b']'), Wants::List | Wants::Value) => Begins::Value,
        (Some(b'['), _, Wants::Value) => Begins::Note,
        _ => Begins::Nothing,
    }
}

fn second(text: &str, at: usize, first: &Node) -> JsonError {
    let rest = text.get(at..).unwrap_or_default();
    let end = rest.char_indices().nth(CONTEXT_CHARS);
    let spot = rest.get(..end.map_or(rest.len(), |(end, _)| end));
    JsonError::new(
        at,
        format!(
            "a second JSON value, {}, after that at offset {}: answer with one",
            quote(spot.unwrap_or_default()),
            first.at
        ),
    )
}

/// The contents of the fences, from and to. A JSON string holds no line end, so no line of a value can be taken for a
/// fence.
fn fences(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if line.trim_start().starts_with("```") {
            open = match open {
                None => Some(next),
                Some(start) => {
                    found.push((start, at));
                    None
                }
            };
        }
        at = next;
    }
    // Models forget the last one, or were cut just before it.
    found.extend(open.map(|start| (start, text.len())));
    found
}

/// The end of the brackets that begin at an offset; prose has no strings.
fn closing(text: &str, at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, byte) in text.bytes().enumerate().skip(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return Some(i + 1);
        }
    }
    None
}

/// Reads the value at an offset, and says where it ends. What follows is not looked at.
///
/// # Errors
///
/// The first place that is not JSON, or is nested too deep.
pub(crate) fn value_at(text: &str, at: usize) -> Result<(Node, usize), JsonError> {
    let rest = text.get(at..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
    let error = match values.next() {
        Some(Ok(raw)) => match tree(text, raw, 1) {
            Ok(node) => {
                let end = node.end;
                return Ok((node, end));
            }
            Err((start, error)) => explain(text, at, start, error.as_ref()),
        },
        Some(Err(error)) => explain(text, at, at, Some(&error)),
        None => explain(text, at, at, None),
    };
    Err(error)
}

/// The tree of a value that serde_json has found to be one. Each level is read once more, which the depth bounds.
///
/// # Errors
///
/// Where reading began, and what serde_json says; nothing where the value is nested too deep.
fn tree(
    text: &str,
    raw: &RawValue,
    depth: usize,
) -> Result<Node, (usize, Option<serde_json::Error>)> {
    let source = raw.get();
    // Both are parts of one text, so the difference of their addresses is the offset.
    let at = source.as_ptr().addr() - text.as_ptr().addr();
    let failed = |error| (at, Some(error));
    if depth > MAX_DEPTH && source.starts_with(['{', '[']) {
        return Err((at, None));
    }
    let json = match source.bytes().next() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(source).map_err(failed)?;
            let mut object = Vec::with_capacity(members.len());
            for (key, value) in members {
                let at = key.get().as_ptr().addr() - text.as_ptr().addr();
                object.push(Member {
                    key: serde_json::from_str(key.get()).map_err(|error| (at, Some(error)))?,
                    at,
                    value: tree(text, value, depth + 1)?,
                });
            }
            Json::Object(object)
        }
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(source).map_err(failed)?;
            let list = list.into_iter().map(|raw| tree(text, raw, depth + 1));
            Json::List(list.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Json::Text(serde_json::from_str(source).map_err(failed)?),
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'n') => Json::Null,
        _ => Json::Number(source.to_string()),
    };
    Ok(Node {
        at,
        end: at + source.len(),
        json,
    })
}

/// The members of an object in order.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The error of the value at `value`, which came up while reading from `start`.
fn explain(text: &str, value: usize, start: usize, error: Option<&serde_json::Error>) -> JsonError {
    let said = error.map(said).unwrap_or_default();
    let part = text.get(start..).unwrap_or_default();
    let mut at = match error {
        Some(error) if !error.is_eof() => start + offset(part, error),
        _ => text.len(),
    };
    let mut found = at < text.len();
    let mut message = match said.as_str() {
        "" => "expected a value".to_string(),
        "key must be a string" | "trailing comma" => "expected a key in double quotes".to_string(),
        "expected value" | "expected ident" => {
            // Back to where the word began.
            let before = text.get(start..at).unwrap_or_default();
            at -= before.len() - before.trim_end_matches(char::is_alphanumeric).len();
            "expected a value".to_string()
        }
        said if said.starts_with("EOF while parsing") => {
            let within = said.replace("EOF while parsing", "the text ends within");
            format!("{within}: the answer was cut off, or its end is missing")
        }
        said if said.starts_with("control character") => {
            (at, found) = (at + 1, false);
            "a control character in a text; it must be written as an escape".to_string()
        }
        "invalid escape" => {
            (at, found) = (at.saturating_sub(1), false);
            "an escape that JSON does not have".to_string()
        }
        "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
            found = false;
            "half of a surrogate pair without the other".to_string()
        }
        said => said.to_string(),
    };
    let within =
        said.starts_with("expected `,`") || said.ends_with("list") || said.ends_with("object");
    let (path, too_deep) = path_to(text, value, at, within);
    if let Some(deep) = too_deep {
        (at, found) = (deep, false);
        message = format!("nested deeper than {MAX_DEPTH} levels");
    }
    if found {
        message.push_str(&format!(", found {}", token(text, at)));
    }
    let before = text.get(..at).unwrap_or_default();
    let context = before.char_indices().rev().nth(CONTEXT_CHARS - 1);
    let context = before.get(context.map_or(0, |(at, _)| at)..);
    JsonError {
        at,
        path,
        message: format!("{message}, after {}", quote(context.unwrap_or_default())),
    }
}

/// What stands at an offset: a word whole, of anything else a character.
fn token(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    match (rest.chars().next(), word) {
        (Some(c), Some(0)) => format!("`{}`", escape(c.encode_utf8(&mut [0; 4]))),
        (_, word) => quote(rest.get(..word.unwrap_or(rest.len())).unwrap_or_default()),
    }
}

/// What serde_json says, without the place, which it gives in lines and columns of a part.
fn said(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    escape(said.strip_suffix(&place).unwrap_or(&said)).into_owned()
}

/// The offset of an error. Lines count from 1, and so do columns, in bytes; serde_json has taken the byte it complains of.
fn offset(part: &str, error: &serde_json::Error) -> usize {
    let lines = part
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    let before: usize = lines.map(str::len).sum();
    let mut at = (before + error.column().saturating_sub(1)).min(part.len());
    while !part.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The path of what is read at an offset of a value that is JSON up to there, and where it is nested too deep, if it is.
/// `container` asks for the array or object there and not for the value in it.
fn path_to(text: &str, start: usize, at: usize, container: bool) -> (String, Option<usize>) {
    /// The key that was read last, or the index.
    enum Step<'t> {
        Key(Option<&'t str>),
        Index(usize),
    }
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut too_deep = None;
    let mut i = start;
    while i < at {
        let byte = text.as_bytes().get(i).copied().unwrap_or_default();
        if matches!(byte, b'{' | b'[') && steps.len() >= MAX_DEPTH {
            too_deep = Some(i);
            break;
        }
        match (byte, steps.last_mut()) {
            (b'"', last) => {
                let string = i;
                i += 1;
                while i < at && text.as_bytes().get(i) != Some(&b'"') {
                    i += 1 + usize::from(text.as_bytes().get(i) == Some(&b'\\'));
                }
                let rest = text.get(i + 1..).unwrap_or_default();
                if rest.trim_start_matches(BLANKS).starts_with(':')
                    && let Some(Step::Key(key)) = last
                {
                    *key = text.get(string..=i);
                }
            }
            (b'{', _) => steps.push(Step::Key(None)),
            (b'[', _) => steps.push(Step::Index(0)),
            (b'}' | b']', _) => drop(steps.pop()),
            (b',', Some(Step::Key(key))) => *key = None,
            (b',', Some(Step::Index(index))) => *index += 1,
            _ => {}
        }
        i += 1;
    }
    if container && too_deep.is_none() {
        steps.pop();
    }
    let path = steps.iter().fold("$".to_string(), |path, step| match step {
        Step::Key(None) => path,
        Step::Key(Some(key)) => {
            let plain = serde_json::from_str::<String>(key);
            member(&path, plain.as_deref().unwrap_or(key))
        }
        Step::Index(index) => element(&path, *index),
    });
    (path, too_deep)
}

/// The path of a member.
pub(crate) fn member(path: &str, key: &str) -> String {
    let is_name = |key: &str| {
        key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    if is_name(key) && key.len() <= MAX_KEY_BYTES {
        format!("{path}.{key}")
    } else {
        format!("{path}[{}]", quote(key))
    }
}

/// The path of an element.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

#[cfg(test)]
mod tests;
