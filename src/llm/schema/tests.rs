//! Each keyword by a table: a schema, values that fit, values that do not.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn validator(schema: &Value) -> Validator {
    Validator::new(schema).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

#[track_caller]
fn check(schema: Value, fitting: &[Value], others: &[Value]) {
    let validator = validator(&schema);
    for value in fitting {
        let found = validator.check(value);
        assert!(found.is_empty(), "{schema}: {value}: {found:?}");
    }
    for value in others {
        assert!(!validator.check(value).is_empty(), "{schema}: {value}");
    }
}

#[track_caller]
fn violations(schema: Value, value: &Value) -> Vec<String> {
    let found = validator(&schema).check(value);
    found.iter().map(Violation::to_string).collect()
}

#[track_caller]
fn check_error(schema: Value, message: &str) {
    assert_eq!(Validator::new(&schema).unwrap_err().to_string(), message);
}

#[test]
fn types_and_the_whole_number_that_was_written_with_a_point() {
    check(
        json!({"type": "integer"}),
        &[json!(1), json!(1.0), json!(-3), json!(1e300)],
        &[json!(1.5), json!("1"), json!(null), json!(true)],
    );
    check(
        json!({"type": ["string", "null"]}),
        &[json!("a"), json!(null)],
        &[json!(1), json!([])],
    );
    check(
        json!({"type": "number"}),
        &[json!(1), json!(0.5)],
        &[json!("1")],
    );
    check(json!({"type": "object"}), &[json!({})], &[json!([])]);
    check(json!({"type": "boolean"}), &[json!(false)], &[json!(0)]);
    check(
        json!({"type": "string", "nullable": true}),
        &[json!("a"), json!(null)],
        &[json!(1)],
    );
    check(json!(true), &[json!(1)], &[]);
    check(json!({}), &[json!([{}])], &[]);
    check(json!(false), &[], &[json!(1)]);
}

#[test]
fn equal_values_are_equal_however_they_are_written() {
    check(
        json!({"const": 1}),
        &[json!(1), json!(1.0)],
        &[json!(true), json!("1"), json!(1.5)],
    );
    check(
        json!({"enum": [[false], {"a": 1, "b": 2}, null, "x"]}),
        &[
            json!([false]),
            json!({"b": 2.0, "a": 1}),
            json!(null),
            json!("x"),
        ],
        &[json!([0]), json!({"a": 1}), json!("y"), json!(false)],
    );
    check(
        json!({"const": 18_446_744_073_709_551_615_u64}),
        &[json!(u64::MAX)],
        &[json!(u64::MAX - 1)],
    );
    check(json!({"enum": []}), &[], &[json!(1)]);
}

#[test]
fn numbers_are_compared_exactly() {
    check(
        json!({"minimum": 1.1}),
        &[json!(1.1), json!(2), json!("x")],
        &[json!(1), json!(-5)],
    );
    check(
        json!({"maximum": 3}),
        &[json!(3.0), json!(-1)],
        &[json!(3.0001), json!(4)],
    );
    check(
        json!({"exclusiveMinimum": 0}),
        &[json!(0.001)],
        &[json!(0), json!(-1)],
    );
    check(
        json!({"exclusiveMaximum": 9_007_199_254_740_993_u64}),
        &[json!(9_007_199_254_740_992_u64)],
        &[json!(9_007_199_254_740_993_u64)],
    );
    check(
        json!({"minimum": 1e300}),
        &[json!(1e301)],
        &[json!(u64::MAX)],
    );
    check(
        json!({"maximum": -1e300}),
        &[json!(-1e301)],
        &[json!(i64::MIN), json!(0)],
    );
}

#[test]
fn lengths_count_characters_and_items() {
    check(
        json!({"minLength": 2, "maxLength": 3.0}),
        &[json!("💩é"), json!("abc"), json!(7)],
        &[json!("💩"), json!("abcd")],
    );
    check(
        json!({"minItems": 1, "maxItems": 2}),
        &[json!([1]), json!({})],
        &[json!([]), json!([1, 2, 3])],
    );
    check(json!({"maxLength": 1e30}), &[json!("any")], &[]);
}

#[test]
fn items_are_all_of_one_schema() {
    check(
        json!({"items": {"type": "integer"}}),
        &[json!([]), json!([1, 2]), json!({"0": "x"})],
        &[json!([1, "x"])],
    );
}

#[test]
fn properties_named_and_other() {
    let schema = json!({
        "properties": {"a": {"type": "integer"}, "b": {}},
        "required": ["a"],
        "additionalProperties": {"type": "string"},
    });
    check(
        schema,
        &[json!({"a": 1, "b": [], "c": "x"}), json!([])],
        &[json!({"b": 1}), json!({"a": "x"}), json!({"a": 1, "c": 2})],
    );
    check(
        json!({"additionalProperties": false}),
        &[json!({})],
        &[json!({"a": 1})],
    );
    check(
        json!({"properties": {"a": false}}),
        &[json!({"b": 1})],
        &[json!({"a": 1})],
    );
}

#[test]
fn combinations() {
    let (small, whole) = (json!({"maximum": 5}), json!({"type": "integer"}));
    check(
        json!({"allOf": [small, whole]}),
        &[json!(5)],
        &[json!(6), json!(1.5)],
    );
    check(
        json!({"anyOf": [small, whole]}),
        &[json!(1.5), json!(9)],
        &[json!(9.5)],
    );
    check(
        json!({"oneOf": [small, whole]}),
        &[json!(1.5), json!(9)],
        &[json!(9.5), json!(5)],
    );
}

#[test]
fn references_lead_anywhere_in_the_document_and_in_circles() {
    let tree = json!({
        "$id": "https://example.org/tree",
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"value": {"$ref": "#/$defs/a~1b"}, "next": {"$ref": "https://example.org/tree#"}},
                "required": ["value"],
                "additionalProperties": false,
            },
            "a/b": {"type": "integer"},
        },
    });
    check(
        tree,
        &[json!({"value": 1, "next": {"value": 2, "next": {"value": 3}}})],
        &[
            json!({"value": 1, "next": {"value": "x"}}),
            json!({"value": 1, "next": {}}),
        ],
    );
    check(
        json!({"properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/%61"}}}),
        &[json!({"b": "x"})],
        &[json!({"b": 1})],
    );
    // What stands beside a reference counts.
    let beside = json!({"$ref": "#/$defs/s", "maxLength": 1, "$defs": {"s": {"type": "string"}}});
    check(beside, &[json!("a")], &[json!("ab"), json!(1)]);
    for (schema, message) in [
        (
            json!({"items": {"$ref": "#/$defs/x"}}),
            "#/items/$ref: there is nothing at \"#/$defs/x\"",
        ),
        (
            json!({"$ref": "other.json"}),
            "#/$ref: only references within the document are followed",
        ),
        (
            json!({"$ref": "#name"}),
            "#/$ref: anchors are not followed; write a JSON pointer such as #/$defs/name",
        ),
        (
            json!({"$ref": "#/x", "x": 7}),
            "#/x: expected a schema, an object or a boolean, found 7",
        ),
        (
            json!({"properties": {"a": {"$id": "b"}}}),
            "#/properties/a/$id: below the root it would change what references mean",
        ),
        (
            json!({"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#"}]}]}),
            "#: it refers to itself without going into the value, so that checking would never end",
        ),
    ] {
        check_error(schema, message);
    }
}

#[test]
fn a_keyword_with_a_value_of_the_wrong_type_is_an_error_with_its_place() {
    for (schema, message) in [
        (
            json!(7),
            "#: expected a schema, an object or a boolean, found 7",
        ),
        (
            json!({"properties": {"a/b": {"minLength": -1}}}),
            "#/properties/a~1b/minLength: expected a whole number from 0, found -1",
        ),
        (
            json!({"items": {"required": "a"}}),
            "#/items/required: expected a list of names, found \"a\"",
        ),
        (
            json!({"type": "int"}),
            "#/type: expected one or more of null, boolean, integer, number, string, array, object, found \"int\"",
        ),
        (json!({"enum": 1}), "#/enum: expected a list, found 1"),
        (
            json!({"anyOf": []}),
            "#/anyOf: expected at least one schema",
        ),
        (
            json!({"allOf": {}}),
            "#/allOf: expected a list of schemas, found an object of 0",
        ),
        (
            json!({"minimum": "1"}),
            "#/minimum: expected a number, found \"1\"",
        ),
        (
            json!({"$defs": {"unused": []}}),
            "#/$defs/unused: expected a schema, an object or a boolean, found an array of 0",
        ),
    ] {
        check_error(schema, message);
    }
}

#[test]
fn what_is_not_checked_is_named() {
    let schema = json!({
        "title": "t",
        "x-order": 1,
        "not": {"$ref": "anywhere"},
        "requierd": ["a"],
        "properties": {
            "a": {"type": "string", "pattern": "^a", "format": "date"},
            "b": {"patternProperties": {"^x": false}, "additionalProperties": false},
            "c": {"prefixItems": [true], "items": false},
            "d": {"items": [{"type": "integer"}], "uniqueItems": true},
        },
    });
    let validator = validator(&schema);
    assert_eq!(
        validator.unchecked(),
        [
            "/not",
            "/properties/a/pattern",
            "/properties/b/additionalProperties",
            "/properties/b/patternProperties",
            "/properties/c/items",
            "/properties/c/prefixItems",
            "/properties/d/items",
            "/properties/d/uniqueItems",
            "/requierd",
        ]
    );
    // Whether `xy` is one of the additional ones only the pattern knows.
    assert!(
        validator
            .check(&json!({"b": {"xy": 1}, "c": [1, 2], "d": ["a"]}))
            .is_empty()
    );
}

#[test]
fn violations_say_where_and_what() {
    let schema = json!({
        "properties": {
            "slices": {"items": {"properties": {"id": {"type": "string"}}, "additionalProperties": false}},
            "kind": {"enum": ["a", 2]},
            "odd key": {"maxLength": 1},
        },
        "required": ["goal", "kind", "why"],
    });
    let value =
        json!({"slices": [{"id": "x"}, {"id": 7, "extra": 1}], "kind": "c", "odd key": "a\u{1b}b"});
    assert_eq!(
        violations(schema, &value),
        [
            "$: without \"goal\", \"why\"",
            "$.kind: expected one of \"a\", 2, found \"c\"",
            "$[\"odd key\"]: expected at most 1 characters, found 3",
            "$.slices[1].extra: no such property is allowed",
            "$.slices[1].id: expected string, found 7",
        ]
    );
    let schema = json!({"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "null"}}, "required": ["a"]}]});
    assert_eq!(
        violations(schema, &json!({"a": 1})),
        [
            "$: fits none of the 2 alternatives of anyOf; the nearest is number 1, but $: expected string, found an object of 1",
        ]
    );
    assert_eq!(
        violations(json!({"oneOf": [true, false, true]}), &json!(1)),
        ["$: fits 2 alternatives of oneOf (numbers 1, 3), not exactly one",]
    );
}

#[test]
fn bounds_end_what_would_not_and_say_so() {
    let many = violations(json!({"items": {"type": "string"}}), &json!(vec![1; 1000]));
    assert_eq!(many.len(), MAX_VIOLATIONS);
    // Two to the power of forty ways.
    let mut defs = serde_json::Map::new();
    for i in 0..40 {
        let next = format!("#/$defs/{}", i + 1);
        defs.insert(
            i.to_string(),
            json!({"allOf": [{"$ref": next}, {"$ref": next}]}),
        );
    }
    defs.insert("40".to_string(), json!(true));
    let schema = json!({"$ref": "#/$defs/0", "$defs": defs});
    assert_eq!(
        violations(schema, &json!(1)),
        ["$: not checked to the end: the schema takes too many steps",]
    );
    // A chain longer than the stack should ever be.
    let mut defs = serde_json::Map::new();
    for i in 0..10_000 {
        defs.insert(i.to_string(), json!({"$ref": format!("#/$defs/{}", i + 1)}));
    }
    defs.insert("10000".to_string(), json!(true));
    let schema = json!({"anyOf": [{"$ref": "#/$defs/0"}], "$defs": defs});
    assert_eq!(
        violations(schema, &json!(1)),
        ["$: not checked to the end: the schema leads too deep",]
    );
    let mut deep = json!(1);
    for _ in 0..=MAX_NESTING {
        deep = json!([deep]);
    }
    let found = violations(json!({"items": {"$ref": "#"}}), &deep);
    assert_eq!(found, ["$: more than 256 levels deep"]);
    assert!(Validator::new(&json!({"const": deep})).is_err());
    // As deep as JSON text can be, every level through anyOf and a reference.
    let mut deep = json!(1);
    for _ in 0..127 {
        deep = json!({"a": deep});
    }
    let schema = json!({"anyOf": [{"type": "integer"}, {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}]});
    check(schema, &[deep], &[]);
}

/// Schemas that are mostly sound, and references that mostly lead somewhere.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            json!({"type": "integer"}),
            json!({"type": ["string", "null"]}),
            json!({"enum": [1, "a", null]}),
            json!({"minimum": 0.5, "exclusiveMaximum": 2}),
            json!({"$ref": "#"}),
            json!({"$ref": "#/properties/a"}),
            json!({"minLength": 1, "maxLength": 2}),
            json!({"minItems": 1}),
            json!({"required": ["a"]}),
            json!({"type": 7}),
            json!({"$ref": "#/$defs/none"}),
        ]),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            inner
                .clone()
                .prop_map(|s| json!({"properties": {"a": s}, "additionalProperties": false})),
            inner
                .clone()
                .prop_map(|s| json!({"items": s, "maxItems": 2})),
            inner
                .clone()
                .prop_map(|s| json!({"additionalProperties": s, "$defs": {"x": s}})),
            list.clone().prop_map(|s| json!({"anyOf": s})),
            list.clone().prop_map(|s| json!({"oneOf": s})),
            list.prop_map(|s| json!({"allOf": s})),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ab\u{1b}]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab/~$]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any JSON, with keywords for keys.
fn anything_as_schema() -> impl Strategy<Value = Value> {
    let keyword = prop::sample::select(vec![
        "$ref",
        "$id",
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "items",
        "minimum",
        "anyOf",
        "allOf",
        "maxLength",
        "nullable",
        "exclusiveMinimum",
        "$defs",
        "prefixItems",
        "patternProperties",
    ]);
    any_value().prop_recursive(3, 12, 3, move |inner| {
        prop::collection::btree_map(keyword.clone(), inner, 0..4).prop_map(|map| {
            let members = map.into_iter().map(|(key, value)| (key.to_string(), value));
            Value::Object(members.collect())
        })
    })
}

proptest! {
    #[test]
    fn any_schema_checks_any_value_and_says_the_same_twice(schema in any_schema(), value in any_value()) {
        if let Ok(validator) = Validator::new(&schema) {
            let found = validator.check(&value);
            prop_assert_eq!(&validator.check(&value), &found);
            prop_assert!(found.len() <= MAX_VIOLATIONS);
            for violation in &found {
                prop_assert!(!violation.to_string().contains(char::is_control), "{}", violation);
            }
        }
    }

    #[test]
    fn any_json_is_read_as_a_schema_or_refused(schema in anything_as_schema(), value in any_value()) {
        match Validator::new(&schema) {
            Ok(validator) => {
                validator.check(&value);
                validator.check(&schema);
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{}", error),
        }
    }

    #[test]
    fn a_value_equals_itself_and_numbers_keep_their_order(value in any_value(), a in any::<i64>(), b in any::<f64>()) {
        let constant = validator(&json!({"const": value}));
        prop_assert!(constant.check(&value).is_empty());
        let (a, b) = (json!(a), json!(b));
        let above = validator(&json!({"exclusiveMinimum": b})).check(&a).is_empty();
        let at_most = validator(&json!({"maximum": b})).check(&a).is_empty();
        prop_assert!(above != at_most, "{} {}", a, b);
    }
}
