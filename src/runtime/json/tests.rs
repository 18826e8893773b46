//! The grammar is serde_json's; finding the value, and saying where it is broken, is ours.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn whole(text: &str) -> Result<Node, JsonError> {
    let (node, end) = value_at(text, 0)?;
    match text[end..].trim_matches([' ', '\t', '\n', '\r']) {
        "" => Ok(node),
        _ => Err(JsonError::new(end, "more".to_string())),
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

/// Every value of a tree stands where it says.
fn stands(text: &str, node: &Node) {
    let source = &text[node.at..node.end];
    assert_eq!(
        serde_json::from_str::<Value>(source).unwrap(),
        to_value(&node.json)
    );
    match &node.json {
        Json::List(list) => list.iter().for_each(|node| stands(text, node)),
        Json::Object(members) => {
            for member in members {
                assert!(text[member.at..].starts_with('"'));
                stands(text, &member.value);
            }
        }
        _ => {}
    }
}

/// Both read it and read the same, or both refuse it. serde_json alone refuses numbers that no double holds.
fn agrees(text: &str) {
    match (whole(text), serde_json::from_str::<Value>(text)) {
        (Ok(node), Ok(value)) => {
            assert_eq!(to_value(&node.json), value, "{text}");
            stands(text, &node);
        }
        (Ok(_), Err(error)) => assert!(
            error.to_string().contains("out of range"),
            "{text}: {error}"
        ),
        (Err(error), Ok(_)) => assert!(error.message.contains("nested"), "{text}: {error:?}"),
        (Err(error), Err(_)) => {
            assert!(error.at <= text.len(), "{text}: {error:?}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
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
fn errors_name_the_path_and_the_offset() {
    for (text, at, path, message) in [
        (
            r#"{"a": [1, 2,]}"#,
            12,
            "$.a[2]",
            "expected a value, found `]`, after \"{\"a\": [1, 2,\"",
        ),
        (
            r#"{"a": 1,}"#,
            8,
            "$",
            "expected a key in double quotes, found `}`, after \"{\"a\": 1,\"",
        ),
        (
            r#"{"a": tru}"#,
            6,
            "$.a",
            "expected a value, found \"tru\", after \"{\"a\": \"",
        ),
        (
            r#"{"é": {"b": "#,
            13,
            "$[\"é\"].b",
            "the text ends within a value: the answer was cut off, or its end is missing, after \"{\"é\": {\"b\": \"",
        ),
        (
            r#"{"a": "some text"#,
            16,
            "$.a",
            "the text ends within a string: the answer was cut off, or its end is missing, after \"{\"a\": \"some text\"",
        ),
        (
            "{kind: 1}",
            1,
            "$",
            "expected a key in double quotes, found \"kind\", after \"{\"",
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
fn paths_quote_what_is_no_name() {
    assert_eq!(member("$", "slices"), "$.slices");
    assert_eq!(element(&member("$", "a b\n"), 2), "$[\"a b\\n\"][2]");
    assert_eq!(member("$", ""), "$[\"\"]");
}

#[test]
fn nesting_is_bounded_and_equal_keys_are_kept() {
    for text in [
        "[".repeat(1_000_000),
        format!("{}{}", "[".repeat(65), "]".repeat(65)),
    ] {
        let error = value_at(&text, 0).unwrap_err();
        assert_eq!(error.at, 64);
        assert!(
            error.message.starts_with("nested deeper than 64 levels"),
            "{error}"
        );
    }
    assert!(whole(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
    let Json::Object(members) = whole(r#"{"a":1,"b":2,"a":3}"#).unwrap().json else {
        panic!("an object");
    };
    let keys: Vec<(&str, usize)> = members.iter().map(|m| (m.key.as_str(), m.at)).collect();
    assert_eq!(keys, [("a", 1), ("b", 7), ("a", 13)]);
}

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
fn check_error(answer: &str, place: &str, message: &str) {
    let error = extract(answer).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{place}: {message}")),
        "{answer}: {error}"
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
    check_error("", "$, byte 0", "the answer is empty");
    check_error(
        "The answer is 42.",
        "$, byte 0",
        "no JSON value in the text \"The answer is 42.\"",
    );
    check_error(
        "{\"a\":1} or {\"a\":2}",
        "$, byte 11",
        "a second JSON value, \"{\"a\":2}\", after that at offset 0",
    );
    check_error("[1] or [2]", "$, byte 7", "a second JSON value");
    check_error(
        "```\n1\n```\n```\n2\n```",
        "$, byte 14",
        "a second JSON value",
    );
    check_error(
        "{\"a\":1}\n```\n{\"a\":2}\n```",
        "$, byte 0",
        "a second JSON value",
    );
    check_error(
        "x {\"a\":1,\"b\":2,\"a\":3}",
        "$.a, byte 15",
        "the key \"a\" appears twice in one object",
    );
    check_error(
        "```json\n[{\"k\\n\":1,\"k\\n\":1}]\n```",
        "$[0][\"k\\n\"], byte 18",
        "the key \"k\\n\" appears twice",
    );
    check_error("[1e999]", "$, byte 0", "number out of range");
    // A footnote is none.
    check("As in [1] and [2]: {\"a\": 3}", &json!({"a": 3}));
}

#[test]
fn a_part_of_a_broken_value_is_not_the_answer() {
    check_error(
        "Here: {\"a\": [1, 2], \"b\": ",
        "$.b, byte 25",
        "the text ends within a value: the answer was cut off",
    );
    check_error(
        "{\"a\": [1, 2], b: 3}",
        "$, byte 14",
        "expected a key in double quotes, found \"b\"",
    );
    check_error(
        "{'a': [1, 2]}",
        "$, byte 1",
        "expected a key in double quotes, found `'`",
    );
    check_error(
        "é\n{'a': [1, 2]",
        "$, byte 4",
        "expected a key in double quotes",
    );
    check_error(
        "```json\n{\"a\": 1,}\n```",
        "$, byte 16",
        "expected a key in double quotes",
    );
    check_error(
        &"[".repeat(100_000),
        &format!("${}, byte 64", "[0]".repeat(64)),
        "nested deeper than 64 levels",
    );
    // The prose beside a whole value in a fence may quote half a value.
    check(
        "I replaced {\"a\" by:\n```json\n{\"a\": 1}\n```",
        &json!({"a": 1}),
    );
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
                prop_assert!(error.at <= answer.len());
            }
        }
    }

    #[test]
    fn any_text_is_read_as_serde_json_reads_it(text in "[\\[\\]{}\":,0-9eE.+\\- a-z\\\\un]{0,24}|.{0,24}") {
        agrees(&text);
    }
}
