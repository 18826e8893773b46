//! JSON Schema, as far as an answer of a model needs it: no regular expressions, nothing fetched, nothing guessed.
//!
//! Checked: `type` (with `nullable` beside it), `enum`, `const`, `properties`, `required`, `additionalProperties`,
//! `propertyNames`, `minProperties`, `maxProperties`, `dependentRequired`, `dependentSchemas`, `dependencies`, `items`,
//! `prefixItems`, `additionalItems`, `contains`, `minContains`, `maxContains`, `minItems`, `maxItems`, `uniqueItems`,
//! `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum` (as numbers, and as the booleans of draft 4),
//! `multipleOf`, `minLength`, `maxLength` (in code points), `allOf`, `anyOf`, `oneOf`, `not`, `if`, `then`, `else`,
//! `$ref` within the document by JSON pointer, and `true` and `false` as schemas. Where the drafts differ, that of 2020-12
//! holds: what stands beside a `$ref` counts.
//!
//! Not checked, and named by [`Validator::unchecked`]: `pattern`, `patternProperties` (and `additionalProperties` beside
//! it, which depends on it), `format`, `unevaluatedItems`, `unevaluatedProperties`, `contentEncoding`, `contentMediaType`,
//! `contentSchema`, `$dynamicRef`, `$recursiveRef`, and every keyword that JSON Schema does not know, since most of those
//! are misspelt; only those that begin with `x-` are someone's on purpose.
//!
//! Refused: a keyword with a value of the wrong type, a `$ref` that leads nowhere or out of the document, an `$id` below the
//! root, which would change what the references mean, and a schema that refers to itself without going into the value.
//!
//! Pure and total. A schema becomes a table of nodes that refer to each other by number, so a cycle in it costs nothing;
//! checking is bounded in depth, in steps and in the number of violations, and says so where a bound was met.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use crate::runtime::text;

/// Violations reported at most: who repairs an answer needs no more at a time.
const MAX_VIOLATIONS: usize = 20;
/// Levels of a schema or an answer. JSON text has no more than 128, says its parser.
const MAX_NESTING: usize = 256;
/// Schemas entered within each other while checking: several for each level of the answer.
const MAX_DEPTH: usize = 512;
/// Schemas entered at least, and for each value of the answer, before checking is given up.
const MIN_STEPS: u64 = 1_000_000;
/// See [`MIN_STEPS`].
const STEPS_PER_VALUE: u64 = 256;
/// Characters of a value or a key shown in a message.
const MAX_SHOWN_CHARS: usize = 60;

/// Keywords that say something about a value which is not checked.
const UNCHECKED: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "format",
    "pattern",
    "patternProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords that say nothing about a value. `$defs` and `definitions` hold schemas, which are read all the same.
const SILENT: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// The JSON pointer of the place, empty for the root.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
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
/// let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "format": "int32"}}, "required": ["n"]});
/// let validator = Validator::new(&schema)?;
/// assert!(validator.check(&json!({"n": 7})).is_empty());
/// let violations = validator.check(&json!({"n": "7"}));
/// assert_eq!(violations[0].to_string(), r#"$.n: expected integer, found "7""#);
/// assert_eq!(validator.unchecked(), ["/properties/n/format"]);
/// # Ok::<(), omk::llm::schema::SchemaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Validator {
    nodes: Vec<Vec<Check>>,
    unchecked: Vec<String>,
}

/// A schema's place in the table.
type Node = usize;

/// One thing that a schema asks for.
#[derive(Clone, Debug)]
enum Check {
    /// `false`.
    Nothing,
    Type(Vec<Kind>),
    /// The allowed values in their canonical form, and as a message shows them.
    Enum {
        allowed: HashSet<String>,
        shown: String,
    },
    Range {
        bound: Num,
        is: Bound,
    },
    MultipleOf {
        divisor: Decimal,
        shown: String,
    },
    Length {
        at_least: bool,
        bound: u64,
    },
    ItemCount {
        at_least: bool,
        bound: u64,
    },
    PropertyCount {
        at_least: bool,
        bound: u64,
    },
    Unique,
    Items {
        first: Vec<Node>,
        rest: Option<Node>,
    },
    Contains {
        what: Node,
        at_least: u64,
        at_most: Option<u64>,
    },
    Required(Vec<String>),
    Properties {
        named: HashMap<String, Node>,
        others: Option<Node>,
    },
    PropertyNames(Node),
    DependentRequired(Vec<(String, Vec<String>)>),
    DependentSchemas(Vec<(String, Node)>),
    /// `$ref` and `allOf`.
    All(Vec<Node>),
    Any(Vec<Node>),
    One(Vec<Node>),
    Not(Node),
    If {
        condition: Node,
        then: Option<Node>,
        otherwise: Option<Node>,
    },
}

impl Check {
    /// The schemas that it holds against the very same value.
    fn in_place(&self) -> Vec<Node> {
        match self {
            Check::All(nodes) | Check::Any(nodes) | Check::One(nodes) => nodes.clone(),
            Check::Not(node) => vec![*node],
            Check::If {
                condition,
                then,
                otherwise,
            } => [Some(*condition), *then, *otherwise]
                .into_iter()
                .flatten()
                .collect(),
            Check::DependentSchemas(nodes) => nodes.iter().map(|(_, node)| *node).collect(),
            _ => Vec::new(),
        }
    }
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Null,
        Kind::Boolean,
        Kind::Integer,
        Kind::Number,
        Kind::String,
        Kind::Array,
        Kind::Object,
    ];

    const fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }

    fn covers(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Integer, Value::Number(number)) => is_whole(number),
            (Kind::Null, Value::Null)
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Number, Value::Number(_))
            | (Kind::String, Value::String(_))
            | (Kind::Array, Value::Array(_))
            | (Kind::Object, Value::Object(_)) => true,
            _ => false,
        }
    }
}

/// Which side of a bound is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Above,
    AtMost,
    Below,
}

impl Bound {
    const fn words(self) -> &'static str {
        match self {
            Bound::AtLeast => "at least",
            Bound::Above => "more than",
            Bound::AtMost => "at most",
            Bound::Below => "less than",
        }
    }

    fn allows(self, found: Ordering) -> bool {
        match self {
            Bound::AtLeast => found != Ordering::Less,
            Bound::Above => found == Ordering::Greater,
            Bound::AtMost => found != Ordering::Greater,
            Bound::Below => found == Ordering::Less,
        }
    }
}

impl Validator {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// It is no valid schema, or holds what the module's documentation says is refused.
    pub fn new(schema: &Value) -> Result<Validator, SchemaError> {
        if size(schema).is_none() {
            return Err(SchemaError {
                pointer: String::new(),
                message: format!("more than {MAX_NESTING} levels deep"),
            });
        }
        let mut reader = Reader {
            root: schema,
            root_id: schema
                .get("$id")
                .and_then(Value::as_str)
                .map(|id| id.trim_end_matches('#')),
            known: HashMap::new(),
            pointers: Vec::new(),
            unchecked: Vec::new(),
        };
        reader.node(String::new());
        let mut nodes = Vec::new();
        // Reading a schema finds others, which wait in the list.
        while let Some(pointer) = reader.pointers.get(nodes.len()) {
            let pointer = pointer.clone();
            nodes.push(reader.read(&pointer)?);
        }
        if let Some(node) = circle(&nodes) {
            return Err(SchemaError {
                pointer: reader.pointers.get(node).cloned().unwrap_or_default(),
                message: "it refers to itself without going into the value, so that checking would never end"
                    .to_string(),
            });
        }
        reader.unchecked.sort();
        reader.unchecked.dedup();
        Ok(Validator {
            nodes,
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
        let mut report = Report {
            violations: Vec::new(),
            most: MAX_VIOLATIONS,
        };
        let Some(values) = size(value) else {
            let message = format!("more than {MAX_NESTING} levels deep");
            report.add(&Path::Root, message);
            return report.violations;
        };
        let steps = values.saturating_mul(STEPS_PER_VALUE).max(MIN_STEPS);
        let mut checker = Checker {
            nodes: &self.nodes,
            steps,
            gave_up: None,
        };
        checker.check(0, value, &Path::Root, &mut report, 0);
        if let Some(reason) = checker.gave_up {
            report.violations.truncate(MAX_VIOLATIONS.saturating_sub(1));
            report.add(&Path::Root, reason.to_string());
        }
        report.violations
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
        count = count.saturating_add(1);
        let below = depth.saturating_add(1);
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, below))),
            Value::Object(members) => left.extend(members.values().map(|value| (value, below))),
            _ => {}
        }
    }
    Some(count)
}

/// A node on a circle of schemas for the same value, if there is one.
fn circle(nodes: &[Vec<Check>]) -> Option<Node> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; nodes.len()];
    for start in 0..nodes.len() {
        // A node is on the stack twice: to be entered, and below what it leads to, to be left.
        let mut stack = vec![(start, false)];
        while let Some((node, leaving)) = stack.pop() {
            let Some(mark) = marks.get_mut(node) else {
                continue;
            };
            match (leaving, *mark) {
                (true, _) => *mark = Mark::Done,
                (false, Mark::Done) => {}
                (false, Mark::Open) => return Some(node),
                (false, Mark::New) => {
                    *mark = Mark::Open;
                    stack.push((node, true));
                    let checks = nodes.get(node).into_iter().flatten();
                    for next in checks.flat_map(Check::in_place) {
                        match marks.get(next) {
                            Some(Mark::Open) => return Some(next),
                            Some(Mark::New) => stack.push((next, false)),
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    None
}

/// Reads schemas out of a document.
struct Reader<'a> {
    root: &'a Value,
    root_id: Option<&'a str>,
    known: HashMap<String, Node>,
    /// By number; those without a node yet are still to be read.
    pointers: Vec<String>,
    unchecked: Vec<String>,
}

impl<'a> Reader<'a> {
    /// The node of a place, which is read later if it was not before.
    fn node(&mut self, pointer: String) -> Node {
        if let Some(node) = self.known.get(&pointer) {
            return *node;
        }
        let node = self.pointers.len();
        self.pointers.push(pointer.clone());
        self.known.insert(pointer, node);
        node
    }

    fn read(&mut self, pointer: &str) -> Result<Vec<Check>, SchemaError> {
        match self.root.pointer(pointer) {
            Some(Value::Bool(true)) => Ok(Vec::new()),
            Some(Value::Bool(false)) => Ok(vec![Check::Nothing]),
            Some(Value::Object(members)) => {
                let here = Here {
                    members,
                    pointer: pointer.to_string(),
                };
                self.checks(&here)
            }
            Some(other) => Err(SchemaError {
                pointer: pointer.to_string(),
                message: format!(
                    "expected a schema, an object or a boolean, found {}",
                    show(other)
                ),
            }),
            // Only a reference can lead nowhere, and it looks first.
            None => Err(SchemaError {
                pointer: pointer.to_string(),
                message: "there is nothing here".to_string(),
            }),
        }
    }

    fn checks(&mut self, here: &Here<'a>) -> Result<Vec<Check>, SchemaError> {
        let mut checks = Vec::new();
        self.read_references(here, &mut checks)?;
        read_values(here, &mut checks)?;
        self.read_arrays(here, &mut checks)?;
        self.read_objects(here, &mut checks)?;
        self.read_combinations(here, &mut checks)?;
        for key in ["$defs", "definitions"] {
            if let Some(members) = here.object(key)? {
                for name in members.keys() {
                    self.node(here.at2(key, name));
                }
            }
        }
        for key in here.members.keys() {
            if UNCHECKED.contains(&key.as_str()) || !is_known(key) {
                self.unchecked.push(here.at(key));
            }
        }
        Ok(checks)
    }

    fn read_references(
        &mut self,
        here: &Here<'a>,
        checks: &mut Vec<Check>,
    ) -> Result<(), SchemaError> {
        let id = here.string("$id")?;
        if id.is_some() && !here.pointer.is_empty() {
            return Err(here.error("$id", "below the root it would change what references mean"));
        }
        let Some(reference) = here.string("$ref")? else {
            return Ok(());
        };
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        if !document.is_empty() && Some(document) != self.root_id {
            return Err(here.error("$ref", "only references within the document are followed"));
        }
        let Some(pointer) = percent_decoded(fragment) else {
            return Err(here.error("$ref", "the fragment is no text"));
        };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let message = "anchors are not followed; write a JSON pointer such as #/$defs/name";
            return Err(here.error("$ref", message));
        }
        if self.root.pointer(&pointer).is_none() {
            let message = format!("there is nothing at {}", show_text(reference));
            return Err(here.error("$ref", &message));
        }
        checks.push(Check::All(vec![self.node(pointer)]));
        Ok(())
    }

    fn read_arrays(&mut self, here: &Here<'a>, checks: &mut Vec<Check>) -> Result<(), SchemaError> {
        for (key, at_least) in [("minItems", true), ("maxItems", false)] {
            if let Some(bound) = here.count(key)? {
                checks.push(Check::ItemCount { at_least, bound });
            }
        }
        if here.boolean("uniqueItems")? == Some(true) {
            checks.push(Check::Unique);
        }
        let mut first = self.list(here, "prefixItems")?.unwrap_or_default();
        let rest = match here.members.get("items") {
            // As before 2020: a schema for each of the first items, and another keyword for the others.
            Some(Value::Array(_)) => {
                if !first.is_empty() {
                    return Err(here.error("items", "a list has no place beside prefixItems"));
                }
                first = self.list(here, "items")?.unwrap_or_default();
                self.single(here, "additionalItems")
            }
            Some(_) => {
                // Without a list in `items` it says nothing, but must be a schema.
                self.single(here, "additionalItems");
                self.single(here, "items")
            }
            None => {
                self.single(here, "additionalItems");
                None
            }
        };
        if !first.is_empty() || rest.is_some() {
            checks.push(Check::Items { first, rest });
        }
        let (at_least, at_most) = (here.count("minContains")?, here.count("maxContains")?);
        if let Some(what) = self.single(here, "contains") {
            checks.push(Check::Contains {
                what,
                at_least: at_least.unwrap_or(1),
                at_most,
            });
        }
        Ok(())
    }

    fn read_objects(
        &mut self,
        here: &Here<'a>,
        checks: &mut Vec<Check>,
    ) -> Result<(), SchemaError> {
        for (key, at_least) in [("minProperties", true), ("maxProperties", false)] {
            if let Some(bound) = here.count(key)? {
                checks.push(Check::PropertyCount { at_least, bound });
            }
        }
        if let Some(names) = here.names("required")? {
            checks.push(Check::Required(names));
        }
        let named = self.members(here, "properties")?;
        let mut others = self.single(here, "additionalProperties");
        if here.object("patternProperties")?.is_some() && others.is_some() {
            // Which properties it speaks of depends on the patterns.
            self.unchecked.push(here.at("additionalProperties"));
            others = None;
        }
        if named.is_some() || others.is_some() {
            checks.push(Check::Properties {
                named: named.unwrap_or_default().into_iter().collect(),
                others,
            });
        }
        if let Some(node) = self.single(here, "propertyNames") {
            checks.push(Check::PropertyNames(node));
        }
        let mut required = Vec::new();
        let mut schemas = self.members(here, "dependentSchemas")?.unwrap_or_default();
        for key in ["dependentRequired", "dependencies"] {
            for (name, needs) in here.object(key)?.into_iter().flatten() {
                match names(needs) {
                    Some(needs) => required.push((name.clone(), needs)),
                    None if key == "dependencies" && !needs.is_array() => {
                        schemas.push((name.clone(), self.node(here.at2(key, name))));
                    }
                    None => {
                        return Err(SchemaError {
                            pointer: here.at2(key, name),
                            message: "expected a list of names".to_string(),
                        });
                    }
                }
            }
        }
        if !required.is_empty() {
            checks.push(Check::DependentRequired(required));
        }
        if !schemas.is_empty() {
            checks.push(Check::DependentSchemas(schemas));
        }
        Ok(())
    }

    fn read_combinations(
        &mut self,
        here: &Here<'a>,
        checks: &mut Vec<Check>,
    ) -> Result<(), SchemaError> {
        type Make = fn(Vec<Node>) -> Check;
        let table: [(&str, Make); 3] = [
            ("allOf", Check::All),
            ("anyOf", Check::Any),
            ("oneOf", Check::One),
        ];
        for (key, make) in table {
            match self.list(here, key)? {
                None => {}
                Some(nodes) if nodes.is_empty() => {
                    return Err(here.error(key, "expected at least one schema"));
                }
                Some(nodes) => checks.push(make(nodes)),
            }
        }
        if let Some(node) = self.single(here, "not") {
            checks.push(Check::Not(node));
        }
        let (then, otherwise) = (self.single(here, "then"), self.single(here, "else"));
        if let Some(condition) = self.single(here, "if") {
            checks.push(Check::If {
                condition,
                then,
                otherwise,
            });
        }
        Ok(())
    }

    /// A keyword's schema.
    fn single(&mut self, here: &Here<'_>, key: &str) -> Option<Node> {
        let is_there = here.members.contains_key(key);
        is_there.then(|| self.node(here.at(key)))
    }

    /// A keyword's list of schemas.
    fn list(&mut self, here: &Here<'_>, key: &str) -> Result<Option<Vec<Node>>, SchemaError> {
        match here.members.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                let nodes = (0..items.len()).map(|i| self.node(here.at2(key, &i.to_string())));
                Ok(Some(nodes.collect()))
            }
            Some(other) => Err(here.expected(key, "a list of schemas", other)),
        }
    }

    /// A keyword's schemas by name.
    fn members(
        &mut self,
        here: &Here<'_>,
        key: &str,
    ) -> Result<Option<Vec<(String, Node)>>, SchemaError> {
        let Some(members) = here.object(key)? else {
            return Ok(None);
        };
        let nodes = members
            .keys()
            .map(|name| (name.clone(), self.node(here.at2(key, name))));
        Ok(Some(nodes.collect()))
    }
}

/// The keywords about one value, whatever is in it.
fn read_values(here: &Here<'_>, checks: &mut Vec<Check>) -> Result<(), SchemaError> {
    let nullable = here.boolean("nullable")? == Some(true);
    if let Some(mut kinds) = here.kinds()? {
        if nullable && !kinds.contains(&Kind::Null) {
            kinds.push(Kind::Null);
        }
        checks.push(Check::Type(kinds));
    }
    match here.members.get("enum") {
        None => {}
        Some(Value::Array(values)) => checks.push(Check::Enum {
            allowed: values.iter().map(canonical).collect(),
            shown: match &values[..] {
                [] => "nothing, as the list is empty".to_string(),
                values => {
                    let shown: Vec<String> = values.iter().map(show).collect();
                    format!(
                        "one of {}",
                        text::truncate(&shown.join(", "), 5 * MAX_SHOWN_CHARS)
                    )
                }
            },
        }),
        Some(other) => return Err(here.expected("enum", "a list", other)),
    }
    if let Some(value) = here.members.get("const") {
        checks.push(Check::Enum {
            allowed: HashSet::from([canonical(value)]),
            shown: show(value),
        });
    }
    for (key, exclusive, plain, strict) in [
        ("minimum", "exclusiveMinimum", Bound::AtLeast, Bound::Above),
        ("maximum", "exclusiveMaximum", Bound::AtMost, Bound::Below),
    ] {
        let bound = here.number(key)?;
        let is_strict = match here.members.get(exclusive) {
            // As in draft 4: it speaks of the bound beside it.
            Some(Value::Bool(is_strict)) => *is_strict,
            Some(_) => {
                let bound = here.number(exclusive)?.map(Num::of);
                checks.extend(bound.map(|bound| Check::Range { bound, is: strict }));
                false
            }
            None => false,
        };
        checks.extend(bound.map(|bound| Check::Range {
            bound: Num::of(bound),
            is: if is_strict { strict } else { plain },
        }));
    }
    if let Some(divisor) = here.number("multipleOf")? {
        match Decimal::of(divisor) {
            Some(decimal) if decimal.digits > 0 && !decimal.negative => {
                checks.push(Check::MultipleOf {
                    divisor: decimal,
                    shown: divisor.to_string(),
                });
            }
            _ => return Err(here.error("multipleOf", "expected a number above 0")),
        }
    }
    for (key, at_least) in [("minLength", true), ("maxLength", false)] {
        if let Some(bound) = here.count(key)? {
            checks.push(Check::Length { at_least, bound });
        }
    }
    for key in ["pattern", "format"] {
        here.string(key)?;
    }
    Ok(())
}

/// Whether a keyword is checked, or may be left out without a word.
fn is_known(key: &str) -> bool {
    const CHECKED: &[&str] = &[
        "$ref",
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "if",
        "items",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "nullable",
        "oneOf",
        "prefixItems",
        "properties",
        "propertyNames",
        "required",
        "then",
        "type",
        "uniqueItems",
    ];
    CHECKED.contains(&key) || SILENT.contains(&key) || key.starts_with("x-")
}

/// An object that is a schema, and its place.
struct Here<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
}

impl<'a> Here<'a> {
    fn at(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, token(key))
    }

    fn at2(&self, key: &str, name: &str) -> String {
        format!("{}/{}/{}", self.pointer, token(key), token(name))
    }

    fn error(&self, key: &str, message: &str) -> SchemaError {
        SchemaError {
            pointer: self.at(key),
            message: message.to_string(),
        }
    }

    fn expected(&self, key: &str, what: &str, found: &Value) -> SchemaError {
        self.error(key, &format!("expected {what}, found {}", show(found)))
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>, SchemaError> {
        match self.members.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.expected(key, "a string", other)),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, SchemaError> {
        match self.members.get(key) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(other) => Err(self.expected(key, "true or false", other)),
        }
    }

    fn number(&self, key: &str) -> Result<Option<&'a Number>, SchemaError> {
        match self.members.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(other) => Err(self.expected(key, "a number", other)),
        }
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, SchemaError> {
        match self.members.get(key) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(other) => Err(self.expected(key, "an object", other)),
        }
    }

    /// A whole number from 0. One beyond what is countable here is as good as the largest.
    fn count(&self, key: &str) -> Result<Option<u64>, SchemaError> {
        let Some(number) = self.number(key)? else {
            return Ok(None);
        };
        match Num::of(number) {
            Num::Whole(count) if count >= 0 => Ok(Some(u64::try_from(count).unwrap_or(u64::MAX))),
            Num::Other(count) if count.fract() == 0.0 && count > 0.0 => Ok(Some(u64::MAX)),
            _ => {
                let found = Value::Number(number.clone());
                Err(self.expected(key, "a whole number from 0", &found))
            }
        }
    }

    fn names(&self, key: &str) -> Result<Option<Vec<String>>, SchemaError> {
        match self.members.get(key) {
            None => Ok(None),
            // Draft 3 put a boolean here; nobody else knows it.
            Some(value) => match names(value) {
                Some(names) => Ok(Some(names)),
                None => Err(self.expected(key, "a list of names", value)),
            },
        }
    }

    fn kinds(&self) -> Result<Option<Vec<Kind>>, SchemaError> {
        let Some(value) = self.members.get("type") else {
            return Ok(None);
        };
        let kind = |value: &Value| {
            let name = value.as_str()?;
            Kind::ALL.into_iter().find(|kind| kind.name() == name)
        };
        let kinds: Option<Vec<Kind>> = match value {
            Value::Array(values) if !values.is_empty() => values.iter().map(kind).collect(),
            value => kind(value).map(|kind| vec![kind]),
        };
        match kinds {
            Some(kinds) => Ok(Some(kinds)),
            None => {
                let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                let what = format!("one or more of {}", names.join(", "));
                Err(self.expected("type", &what, value))
            }
        }
    }
}

fn names(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter().map(Value::as_str);
    names.map(|name| name.map(str::to_string)).collect()
}

/// A key as a part of a JSON pointer.
fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A fragment of an address as text; `None` if it is none.
fn percent_decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Where a value stands, as a list from the inside out.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => f.write_str("$"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                match key.chars().all(plain) && !key.starts_with(|c: char| c.is_ascii_digit()) {
                    true if !key.is_empty() => {
                        write!(f, "{parent}.{}", text::truncate(key, MAX_SHOWN_CHARS))
                    }
                    _ => write!(f, "{parent}[{}]", show_text(key)),
                }
            }
        }
    }
}

/// The violations found so far.
struct Report {
    violations: Vec<Violation>,
    most: usize,
}

impl Report {
    fn is_full(&self) -> bool {
        self.violations.len() >= self.most
    }

    fn add(&mut self, path: &Path<'_>, message: String) {
        if !self.is_full() {
            self.violations.push(Violation {
                path: path.to_string(),
                message,
            });
        }
    }
}

/// One check of a value.
struct Checker<'a> {
    nodes: &'a [Vec<Check>],
    /// Schemas that may still be entered.
    steps: u64,
    /// Why not everything was checked.
    gave_up: Option<&'static str>,
}

impl Checker<'_> {
    /// Holds a value against a schema. Says whether it fits; violations beyond the most are not looked for.
    fn check(
        &mut self,
        node: Node,
        value: &Value,
        path: &Path<'_>,
        report: &mut Report,
        depth: usize,
    ) -> bool {
        if depth > MAX_DEPTH {
            self.gave_up = Some("not checked to the end: the schema leads too deep");
        } else if self.steps == 0 {
            self.gave_up = Some("not checked to the end: the schema takes too many steps");
        }
        self.steps = self.steps.saturating_sub(1);
        let nodes = self.nodes;
        let mut fits = true;
        for check in nodes.get(node).into_iter().flatten() {
            if self.gave_up.is_some() || report.is_full() {
                return false;
            }
            fits &= match (check, value) {
                (Check::Items { .. } | Check::Contains { .. }, Value::Array(items)) => {
                    self.check_items(check, items, path, report, depth)
                }
                (
                    Check::Properties { .. } | Check::PropertyNames(_) | Check::DependentSchemas(_),
                    Value::Object(members),
                ) => self.check_members(check, members, value, path, report, depth),
                (
                    Check::All(_)
                    | Check::Any(_)
                    | Check::One(_)
                    | Check::Not(_)
                    | Check::If { .. },
                    _,
                ) => self.check_in_place(check, value, path, report, depth),
                _ => match objection(check, value) {
                    Some(message) => {
                        self.complain(report, path, message);
                        false
                    }
                    None => true,
                },
            };
        }
        fits
    }

    /// Reports a violation, unless checking was given up: then nothing that follows is known to be one.
    fn complain(&self, report: &mut Report, path: &Path<'_>, message: String) {
        if self.gave_up.is_none() {
            report.add(path, message);
        }
    }

    /// Whether a value fits, with at most so many reasons why not.
    fn verdict(
        &mut self,
        node: Node,
        value: &Value,
        path: &Path<'_>,
        most: usize,
        depth: usize,
    ) -> Result<(), Vec<Violation>> {
        let mut report = Report {
            violations: Vec::new(),
            most,
        };
        match self.check(node, value, path, &mut report, depth.saturating_add(1)) {
            true => Ok(()),
            false => Err(report.violations),
        }
    }

    fn check_items(
        &mut self,
        check: &Check,
        items: &[Value],
        path: &Path<'_>,
        report: &mut Report,
        depth: usize,
    ) -> bool {
        let below = depth.saturating_add(1);
        match check {
            Check::Items { first, rest } => {
                let mut fits = true;
                for (i, item) in items.iter().enumerate() {
                    let Some(node) = first.get(i).or(rest.as_ref()) else {
                        break;
                    };
                    fits &= self.check(*node, item, &Path::Index(path, i), report, below);
                    if report.is_full() || self.gave_up.is_some() {
                        return false;
                    }
                }
                fits
            }
            Check::Contains {
                what,
                at_least,
                at_most,
            } => {
                let mut found = 0_u64;
                for (i, item) in items.iter().enumerate() {
                    let place = Path::Index(path, i);
                    if self.verdict(*what, item, &place, 1, depth).is_ok() {
                        found = found.saturating_add(1);
                    }
                }
                if found < *at_least {
                    let message =
                        format!("expected at least {at_least} items as in contains, found {found}");
                    self.complain(report, path, message);
                    return false;
                }
                if let Some(at_most) = at_most.filter(|at_most| found > *at_most) {
                    let message =
                        format!("expected at most {at_most} items as in contains, found {found}");
                    self.complain(report, path, message);
                    return false;
                }
                true
            }
            _ => true,
        }
    }

    fn check_members(
        &mut self,
        check: &Check,
        members: &Map<String, Value>,
        value: &Value,
        path: &Path<'_>,
        report: &mut Report,
        depth: usize,
    ) -> bool {
        let below = depth.saturating_add(1);
        let mut fits = true;
        match check {
            Check::Properties { named, others } => {
                for (name, member) in members {
                    let place = Path::Key(path, name);
                    fits &= match (named.get(name), others) {
                        (Some(node), _) => self.check(*node, member, &place, report, below),
                        (None, Some(node)) if self.refuses_all(*node) => {
                            self.complain(
                                report,
                                &place,
                                "no such property is allowed".to_string(),
                            );
                            false
                        }
                        (None, Some(node)) => self.check(*node, member, &place, report, below),
                        (None, None) => true,
                    };
                    if report.is_full() || self.gave_up.is_some() {
                        return false;
                    }
                }
            }
            Check::PropertyNames(node) => {
                for name in members.keys() {
                    let name_value = Value::String(name.clone());
                    if let Err(why) = self.verdict(*node, &name_value, path, 1, depth) {
                        let why = why.into_iter().next().map(|first| first.message);
                        let message = format!(
                            "the name does not fit propertyNames: {}",
                            why.unwrap_or_default()
                        );
                        self.complain(report, &Path::Key(path, name), message);
                        fits = false;
                    }
                }
            }
            Check::DependentSchemas(nodes) => {
                for (name, node) in nodes {
                    if members.contains_key(name) {
                        fits &= self.check(*node, value, path, report, below);
                    }
                }
            }
            _ => {}
        }
        fits
    }

    fn refuses_all(&self, node: Node) -> bool {
        matches!(
            self.nodes.get(node).map(Vec::as_slice),
            Some([Check::Nothing])
        )
    }

    fn check_in_place(
        &mut self,
        check: &Check,
        value: &Value,
        path: &Path<'_>,
        report: &mut Report,
        depth: usize,
    ) -> bool {
        let below = depth.saturating_add(1);
        match check {
            Check::All(nodes) => {
                let mut fits = true;
                for node in nodes {
                    fits &= self.check(*node, value, path, report, below);
                }
                fits
            }
            Check::Any(nodes) => {
                let mut nearest: Option<(usize, Vec<Violation>)> = None;
                for (i, node) in nodes.iter().enumerate() {
                    match self.verdict(*node, value, path, MAX_VIOLATIONS, depth) {
                        Ok(()) => return true,
                        Err(why) => {
                            let best = nearest.as_ref().map_or(usize::MAX, |(_, why)| why.len());
                            if why.len() < best {
                                nearest = Some((i, why));
                            }
                        }
                    }
                }
                self.complain(report, path, none_fits("anyOf", nodes.len(), nearest));
                false
            }
            Check::One(nodes) => {
                let mut fitting = Vec::new();
                let mut nearest: Option<(usize, Vec<Violation>)> = None;
                for (i, node) in nodes.iter().enumerate() {
                    match self.verdict(*node, value, path, MAX_VIOLATIONS, depth) {
                        Ok(()) => fitting.push(i.saturating_add(1).to_string()),
                        Err(why) => {
                            let best = nearest.as_ref().map_or(usize::MAX, |(_, why)| why.len());
                            if why.len() < best {
                                nearest = Some((i, why));
                            }
                        }
                    }
                }
                match &fitting[..] {
                    [_] => return true,
                    [] => self.complain(report, path, none_fits("oneOf", nodes.len(), nearest)),
                    several => {
                        let message = format!(
                            "fits {} alternatives of oneOf (numbers {}), not exactly one",
                            several.len(),
                            several.join(", ")
                        );
                        self.complain(report, path, message);
                    }
                }
                false
            }
            Check::Not(node) => {
                let is_it = self.verdict(*node, value, path, 1, depth).is_ok();
                if is_it {
                    self.complain(report, path, "fits what it must not".to_string());
                }
                !is_it
            }
            Check::If {
                condition,
                then,
                otherwise,
            } => {
                let holds = self.verdict(*condition, value, path, 1, depth).is_ok();
                match if holds { then } else { otherwise } {
                    Some(node) => self.check(*node, value, path, report, below),
                    None => true,
                }
            }
            _ => true,
        }
    }
}

/// What to say when no alternative fits: the one that is nearest shows best what is missing.
fn none_fits(keyword: &str, of: usize, nearest: Option<(usize, Vec<Violation>)>) -> String {
    let mut message = format!("fits none of the {of} alternatives of {keyword}");
    if let Some((i, why)) = nearest
        && let Some(first) = why.first()
    {
        let number = i.saturating_add(1);
        message.push_str(&format!("; the nearest is number {number}, but {first}"));
    }
    message
}

/// What a check that looks at the value alone has against it.
fn objection(check: &Check, value: &Value) -> Option<String> {
    match (check, value) {
        (Check::Nothing, _) => Some("nothing is allowed here".to_string()),
        (Check::Type(kinds), _) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let fits = kinds.iter().any(|kind| kind.covers(value));
            (!fits).then(|| format!("expected {}, found {}", names.join(" or "), show(value)))
        }
        (Check::Enum { allowed, shown }, _) => {
            let fits = allowed.contains(&canonical(value));
            (!fits).then(|| format!("expected {shown}, found {}", show(value)))
        }
        (Check::Range { bound, is }, Value::Number(number)) => {
            let fits = is.allows(Num::of(number).compare(*bound));
            (!fits).then(|| format!("expected {} {bound}, found {number}", is.words()))
        }
        (Check::MultipleOf { divisor, shown }, Value::Number(number)) => {
            let fits = Decimal::of(number).is_some_and(|decimal| decimal.is_multiple_of(divisor));
            (!fits).then(|| format!("expected a multiple of {shown}, found {number}"))
        }
        (Check::Length { at_least, bound }, Value::String(text)) => {
            let most = usize::try_from(*bound).unwrap_or(usize::MAX);
            // One more than the bound is enough to know, except for the message.
            let enough = text.chars().take(most.saturating_add(1)).count();
            miscount(*at_least, *bound, enough, "characters", || {
                text.chars().count()
            })
        }
        (Check::ItemCount { at_least, bound }, Value::Array(items)) => {
            miscount(*at_least, *bound, items.len(), "items", || items.len())
        }
        (Check::PropertyCount { at_least, bound }, Value::Object(members)) => {
            miscount(*at_least, *bound, members.len(), "properties", || {
                members.len()
            })
        }
        (Check::Unique, Value::Array(items)) => {
            let mut seen = HashMap::with_capacity(items.len());
            items.iter().enumerate().find_map(|(i, item)| {
                let first = seen.insert(canonical(item), i)?;
                Some(format!("items {first} and {i} are equal: {}", show(item)))
            })
        }
        (Check::Required(names), Value::Object(members)) => {
            missing(names, members).map(|names| format!("without {names}"))
        }
        (Check::DependentRequired(rules), Value::Object(members)) => {
            rules.iter().find_map(|(name, needs)| {
                let missing = members
                    .contains_key(name)
                    .then(|| missing(needs, members))
                    .flatten()?;
                Some(format!("with {}, but without {missing}", show_text(name)))
            })
        }
        _ => None,
    }
}

/// The names that are not there, for a message.
fn missing(names: &[String], members: &Map<String, Value>) -> Option<String> {
    let missing = names.iter().filter(|name| !members.contains_key(*name));
    let shown: Vec<String> = missing
        .take(MAX_VIOLATIONS)
        .map(|name| show_text(name))
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn miscount(
    at_least: bool,
    bound: u64,
    found: usize,
    what: &str,
    exact: impl Fn() -> usize,
) -> Option<String> {
    let count = u64::try_from(found).unwrap_or(u64::MAX);
    let (fits, words) = match at_least {
        true => (count >= bound, "at least"),
        false => (count <= bound, "at most"),
    };
    (!fits).then(|| format!("expected {words} {bound} {what}, found {}", exact()))
}

/// A value for a message.
fn show(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => format!("an object of {}", members.len()),
        Value::String(text) => show_text(text),
        other => other.to_string(),
    }
}

/// Text for a message: in quotes, escaped, and no longer than helps.
fn show_text(text: &str) -> String {
    let cut = text::truncate(text, MAX_SHOWN_CHARS);
    let quoted = Value::String(cut.into_owned()).to_string();
    text::escape(&quoted).into_owned()
}

/// A text that is the same for equal values and for no others: numbers by what they are, members by name.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match Num::of(number) {
            Num::Whole(whole) => out.push_str(&whole.to_string()),
            Num::Other(other) => out.push_str(&format!("{other:e}")),
        },
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_canonical(member, out);
                out.push(',');
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A number as exactly as JSON's parser keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Num {
    /// Every number without a fraction up to 2^126, however it was written.
    Whole(i128),
    Other(f64),
}

impl Num {
    fn of(number: &Number) -> Num {
        if let Some(whole) = number.as_i128() {
            return Num::Whole(whole);
        }
        let float = number.as_f64().unwrap_or(0.0);
        match float.fract() == 0.0 && float.abs() < 2_f64.powi(126) {
            true => Num::Whole(float as i128),
            false => Num::Other(float),
        }
    }

    fn compare(self, other: Num) -> Ordering {
        match (self, other) {
            (Num::Whole(a), Num::Whole(b)) => a.cmp(&b),
            // There is no NaN in JSON.
            (Num::Other(a), Num::Other(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Num::Whole(a), Num::Other(b)) => compare_whole(a, b),
            (Num::Other(a), Num::Whole(b)) => compare_whole(b, a).reverse(),
        }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Num::Whole(whole) => write!(f, "{whole}"),
            Num::Other(other) => write!(f, "{other:?}"),
        }
    }
}

/// A whole number below 2^126 against one that has a fraction or is larger.
fn compare_whole(whole: i128, other: f64) -> Ordering {
    if other.abs() >= 2_f64.powi(126) {
        return if other > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        };
    }
    // One with a fraction is below 2^53, so its floor is exact, and a whole number is never equal to it.
    match whole <= other.floor() as i128 {
        true => Ordering::Less,
        false => Ordering::Greater,
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// A number as it is written: `digits` times ten to the `exponent`. So 0.3 is a multiple of 0.1, which it is not in binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// At most 20 digits.
    digits: u128,
    exponent: i32,
}

impl Decimal {
    fn of(number: &Number) -> Option<Decimal> {
        if let Some(whole) = number.as_i128() {
            return Some(Decimal {
                negative: whole < 0,
                digits: whole.unsigned_abs(),
                exponent: 0,
            });
        }
        // The shortest digits that read back as the same number: `-1.5e-7`.
        let written = format!("{:e}", number.as_f64()?);
        let (mantissa, exponent) = written.split_once('e')?;
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i32 = exponent.parse().ok()?;
        Some(Decimal {
            negative,
            digits: format!("{whole}{fraction}").parse().ok()?,
            exponent: exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?,
        })
    }

    fn is_multiple_of(self, divisor: &Decimal) -> bool {
        let shift = self.exponent.saturating_sub(divisor.exponent);
        let (mut left, mut right) = (self.digits, divisor.digits);
        if right == 0 {
            return false;
        }
        if shift < 0 {
            for _ in shift..0 {
                // Larger than what it is to divide, so only nothing is a multiple of it.
                if right > left {
                    return left == 0;
                }
                right = right.saturating_mul(10);
            }
            return left.is_multiple_of(right);
        }
        left %= right;
        for _ in 0..shift {
            left = left.saturating_mul(10) % right;
        }
        left == 0
    }
}

#[cfg(test)]
mod tests;
