//! JSON as it was written: keys that stand twice, numbers digit by digit, and where everything stood.
//!
//! serde_json is what the rest of the house reads JSON with. It keeps the last of two equal keys, turns numbers into
//! doubles and forgets offsets, and those three are what a validator of somebody's plan must tell. So the grammar, which
//! is small, is read here, and a test holds it equal to serde_json's on any text. Nesting is bounded, so that no text
//! takes the stack.

use crate::plan::finding;

/// The deepest nesting that is read. A plan takes four.
const MAX_DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: usize,
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
            Json::Number(digits) => {
                format!("the number {}", finding::quote(digits).trim_matches('"'))
            }
            Json::Text(text) => format!("the text {}", finding::quote(text)),
            Json::List(_) => "an array".to_string(),
            Json::Object(_) => "an object".to_string(),
        }
    }
}

/// Why a text is no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The offset of the spot.
    pub(crate) at: usize,
    /// The path of the value that was being read.
    pub(crate) path: String,
    /// What was expected, and what was found.
    pub(crate) message: String,
}

/// Reads the value that begins at an offset, and says where it ends. What follows is not looked at.
///
/// # Errors
///
/// The first spot that is not JSON.
pub(crate) fn value_at(text: &str, at: usize) -> Result<(Node, usize), SyntaxError> {
    let mut reader = Reader {
        text,
        at,
        path: Vec::new(),
    };
    let node = reader.value()?;
    Ok((node, reader.at))
}

/// A step of the path to the value that is being read.
enum Step {
    Key(String),
    Index(usize),
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    path: Vec<Step>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        let path = self
            .path
            .iter()
            .fold("$".to_string(), |path, step| match step {
                Step::Key(key) => finding::member(&path, key),
                Step::Index(index) => finding::element(&path, *index),
            });
        SyntaxError {
            at: self.at.min(self.text.len()),
            path,
            message: message.into(),
        }
    }

    /// Something else was expected here.
    fn expected(&self, what: &str) -> SyntaxError {
        let rest = self.rest();
        let line = rest.lines().next().unwrap_or_default();
        let found = match line.chars().next() {
            _ if rest.is_empty() => "the end of the text".to_string(),
            None => "the end of the line".to_string(),
            // A word is quoted whole, a mark alone.
            Some(first) if !first.is_alphanumeric() => format!("`{first}`"),
            Some(_) => {
                let end = line.find(|c: char| !c.is_alphanumeric() && c != '_');
                finding::quote(line.get(..end.unwrap_or(line.len())).unwrap_or_default())
            }
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn value(&mut self) -> Result<Node, SyntaxError> {
        if self.path.len() >= MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.skip_blanks();
        let at = self.at;
        let json = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.list()?,
            Some(b'"') => Json::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Json::Number(self.number()?),
            _ => self.word()?,
        };
        Ok(Node { at, json })
    }

    fn word(&mut self) -> Result<Json, SyntaxError> {
        for (word, json) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(json);
            }
        }
        Err(self.expected("a value"))
    }

    fn object(&mut self) -> Result<Json, SyntaxError> {
        self.at += 1;
        let mut members = Vec::new();
        self.skip_blanks();
        if self.takes(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_blanks();
            let at = self.at;
            if self.peek() != Some(b'"') {
                let what = if members.is_empty() {
                    "a key in double quotes or `}`"
                } else {
                    "a key in double quotes after the comma"
                };
                return Err(self.expected(what));
            }
            let key = self.string()?;
            self.skip_blanks();
            if !self.takes(b':') {
                return Err(self.expected(&format!("`:` after the key {}", finding::quote(&key))));
            }
            self.path.push(Step::Key(key));
            let value = self.value()?;
            if let Some(Step::Key(key)) = self.path.pop() {
                members.push(Member { key, at, value });
            }
            self.skip_blanks();
            if self.takes(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.takes(b',') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn list(&mut self) -> Result<Json, SyntaxError> {
        self.at += 1;
        let mut elements = Vec::new();
        self.skip_blanks();
        if self.takes(b']') {
            return Ok(Json::List(elements));
        }
        loop {
            self.path.push(Step::Index(elements.len()));
            elements.push(self.value()?);
            self.path.pop();
            self.skip_blanks();
            if self.takes(b']') {
                return Ok(Json::List(elements));
            }
            if !self.takes(b',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn number(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.takes(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.expected("a digit")),
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a number with a leading zero"));
        }
        if self.takes(b'.') {
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(self
            .text
            .get(start..self.at)
            .unwrap_or_default()
            .to_string())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        self.digits();
        if self.at == start {
            return Err(self.expected("a digit"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = self.rest();
            let end = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .unwrap_or(rest.len());
            string.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(byte) => {
                    return Err(self.error(format!(
                        "a control character (0x{byte:02x}) in a text; it must be written as an escape"
                    )));
                }
                None => {
                    let spot = self.text.get(start..).unwrap_or_default();
                    return Err(self.error(format!(
                        "the text ends within the string {}: the answer was cut off, or a quote is missing",
                        finding::quote(spot.get(1..).unwrap_or_default())
                    )));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let letter = self.rest().chars().nth(1);
        let c = match letter {
            Some('u') => {
                self.at += 2;
                return self.unicode();
            }
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            _ => return Err(self.error("an escape that JSON does not have")),
        };
        self.at += 2;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.four_digits()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let lone = "half of a surrogate pair without the other";
        if first >= 0xdc00 || !self.rest().starts_with("\\u") {
            return Err(self.error(lone));
        }
        self.at += 2;
        match self.four_digits()? {
            second @ 0xdc00..=0xdfff => {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(code).ok_or_else(|| self.error(lone))
            }
            _ => Err(self.error(lone)),
        }
    }

    fn four_digits(&mut self) -> Result<u32, SyntaxError> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code =
            code.ok_or_else(|| self.error("an escape `\\u` without four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn whole(text: &str) -> Result<Node, SyntaxError> {
        let (node, end) = value_at(text, 0)?;
        match text[end..].trim_matches([' ', '\t', '\n', '\r']) {
            "" => Ok(node),
            _ => Err(SyntaxError {
                at: end,
                path: "$".to_string(),
                message: "more".to_string(),
            }),
        }
    }

    fn to_value(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(digits) => serde_json::from_str(digits).unwrap(),
            Json::Text(text) => Value::String(text.clone()),
            Json::List(list) => list.iter().map(|node| to_value(&node.json)).collect(),
            Json::Object(members) => {
                let pairs = members
                    .iter()
                    .map(|m| (m.key.clone(), to_value(&m.value.json)));
                Value::Object(pairs.collect())
            }
        }
    }

    /// Both read it and read the same, or both refuse it. serde_json alone refuses numbers that no double holds.
    fn agrees(text: &str) {
        match (whole(text), serde_json::from_str::<Value>(text)) {
            (Ok(node), Ok(value)) => assert_eq!(to_value(&node.json), value, "{text}"),
            (Ok(_), Err(error)) => assert!(
                error.to_string().contains("out of range"),
                "{text}: {error}"
            ),
            (Err(error), Ok(_)) => assert!(error.message.contains("nested"), "{text}: {error:?}"),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn the_grammar_is_serde_jsons() {
        for text in [
            "null",
            "nul",
            "nullx",
            "-",
            "-0",
            "01",
            "1.",
            ".5",
            "1.5e+3",
            "1e",
            "1e999",
            "\"\\u00e9\\ud83e\\udd80\"",
            "\"\\ud83e\"",
            "\"\\ud83e\\u0041\"",
            "\"\\udd80\"",
            "\"\\x\"",
            "\"a\tb\"",
            "\"a\\\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{}",
            "[]",
            " [ ] ",
            "{\"a\":{\"a\":[]}}",
            "tru",
            "\u{feff}1",
            "'a'",
            "",
            "{\"a\":1,\"a\":2}",
            "\"\\u12\"",
            "\"\\uD83E\\uDD80\"",
            "NaN",
            "+1",
            "\u{a0}1",
            "[1]x",
        ] {
            agrees(text);
        }
    }

    #[test]
    fn errors_name_the_path_and_the_spot() {
        for (text, at, path, message) in [
            (
                r#"{"a": [1, 2,]}"#,
                12,
                "$.a[2]",
                "expected a value, found `]`",
            ),
            (
                r#"{"a": 1,}"#,
                8,
                "$",
                "expected a key in double quotes after the comma, found `}`",
            ),
            (r#"{"a": tru}"#, 6, "$.a", "expected a value, found \"tru\""),
            (
                r#"{"a": {"b": "#,
                12,
                "$.a.b",
                "expected a value, found the end of the text",
            ),
            (
                r#"{"a": "some text"#,
                16,
                "$.a",
                "the text ends within the string \"some text\": the answer was cut off, or a quote is missing",
            ),
            (
                "{kind: 1}",
                1,
                "$",
                "expected a key in double quotes or `}`, found \"kind\"",
            ),
        ] {
            let error = value_at(text, 0).unwrap_err();
            assert_eq!(
                (error.at, error.path.as_str(), error.message.as_str()),
                (at, path, message)
            );
        }
    }

    #[test]
    fn nesting_is_bounded_and_equal_keys_are_kept() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(
            value_at(&deep, 0).unwrap_err().message,
            "nested deeper than 64 levels"
        );
        assert!(whole(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
        let Json::Object(members) = whole(r#"{"a":1,"b":2,"a":3}"#).unwrap().json else {
            panic!("an object");
        };
        let keys: Vec<(&str, usize)> = members.iter().map(|m| (m.key.as_str(), m.at)).collect();
        assert_eq!(keys, [("a", 1), ("b", 7), ("a", 13)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_serde_json_reads_it(text in "[\\[\\]{}\":,0-9eE.+\\- a-z\\\\un]{0,24}|.{0,24}") {
            agrees(&text);
        }

        #[test]
        fn any_value_is_read_back(
            value in prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool), any::<i64>().prop_map(Value::from), ".{0,8}".prop_map(Value::from)]
                .prop_recursive(4, 24, 4, |inner| prop_oneof![
                    prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                    prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
                ])
        ) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(to_value(&whole(&text).unwrap().json), value.clone());
            }
        }
    }
}
