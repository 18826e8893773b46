//! A model's answer, or a plan file, as the types that cannot hold nonsense.
//!
//! Pure, total and deterministic: any text gives a value or findings, the same ones every time, without IO, clock or
//! chance. Tolerant where nothing can be misunderstood, strict where something can, and every finding says where.
//!
//! # What is tolerated
//!
//! - Text before and after one JSON value, and so a fence around it. A second value, or the beginning of one, is not: no
//!   one can tell which is the answer.
//! - Members that are not known, but for a slice's own dependencies, which would be overlooked.
//! - Words in capitals (`Repair`), whole numbers written as `3.0` or `3e1`.
//! - What is missing or `null` and has a default:
//!
//! | member | default |
//! |---|---|
//! | `goal_text`, `reasoning`, `complexity_reasoning` | empty |
//! | `confidence`, `is_testable`, `suggested_refinement`, `estimated_hours`, `estimated_tokens` of a plan or slice | unknown |
//! | `dependencies`, `acceptance_criteria`, `write_set`, `templates` | none |
//! | `id` of a slice | `s1` for the first, `s2` for the second, and so on |
//! | `estimated_difficulty` | `medium` |
//!
//! Of a classification `reasoning` and `suggested_refinement` may be missing, of a complexity `reasoning` and
//! `estimated_hours`. `kind`, `complexity_score`, `slices` and a slice's `description` may not, nor may `confidence`,
//! `is_testable` and `score` where they are what was asked for.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::finding::element;
use crate::plan::finding::member;
use crate::plan::finding::quote;
use crate::plan::graph;
use crate::plan::json;
use crate::plan::json::Json;
use crate::plan::json::Member;
use crate::plan::json::Node;
use crate::plan::json::SyntaxError;
use crate::plan::model::Complexity;
use crate::plan::model::Difficulty;
use crate::plan::model::GoalClassification;
use crate::plan::model::GoalKind;
use crate::plan::model::MAX_HOURS;
use crate::plan::model::MAX_TOKENS;
use crate::plan::model::Plan;
use crate::plan::model::PlanParts;
use crate::plan::model::Slice;
use crate::plan::model::path_fault;
use crate::plan::model::write_conflicts;
use crate::runtime::decimal;
use crate::runtime::decimal::DecimalError;

/// The members in which a slice may name its dependencies, and must not.
const MISPLACED: &[&str] = &[
    "after",
    "blockedBy",
    "blocked_by",
    "dependencies",
    "depends",
    "dependsOn",
    "depends_on",
    "requires",
];

/// Characters before a broken spot that the message quotes.
const CONTEXT_CHARS: usize = 30;

/// Reads a plan.
///
/// # Errors
///
/// Every finding, in the order of the text.
pub fn read_plan(text: &str) -> Result<Plan, Findings> {
    let reading = plan_of(text);
    match reading.plan {
        Some(plan) if reading.findings.is_empty() => Ok(plan),
        _ => Err(reading.findings.sorted()),
    }
}

/// Reads a classification.
///
/// # Errors
///
/// Every finding, in the order of the text.
pub fn read_classification(text: &str) -> Result<GoalClassification, Findings> {
    whole(text, Wants::Object, |reader, node| {
        let fields = reader.fields(node, "$")?;
        let kind = reader.required(&fields, "kind", Reader::kind);
        let confidence = reader.required(&fields, "confidence", Reader::share);
        let reasoning = reader.optional(&fields, "reasoning", Reader::text);
        let is_testable = reader.required(&fields, "is_testable", Reader::boolean);
        let refinement = reader.optional(&fields, "suggested_refinement", Reader::text);
        let reasoning = reasoning.unwrap_or_default();
        GoalClassification::new(
            kind?,
            confidence?,
            reasoning,
            is_testable?,
            said(refinement),
        )
        .ok()
    })
}

/// Reads acceptance criteria: an array of texts, or an object with such an array under `criteria`. At least one.
///
/// # Errors
///
/// Every finding, in the order of the text.
pub fn read_criteria(text: &str) -> Result<Vec<String>, Findings> {
    whole(text, Wants::Any, |reader, node| {
        let (node, path) = match &node.json {
            Json::Object(_) => {
                let fields = reader.fields(node, "$")?;
                let Some(inner) = fields.get("criteria") else {
                    reader.missing(&fields, "criteria");
                    return None;
                };
                (inner, member("$", "criteria"))
            }
            _ => (node, "$".to_string()),
        };
        let criteria = reader.criteria(node, &path)?;
        if criteria.is_empty() {
            reader
                .findings
                .add(Code::Empty, path, node.at, "there is no criterion");
        }
        Some(criteria)
    })
}

/// Reads a complexity.
///
/// # Errors
///
/// Every finding, in the order of the text.
pub fn read_complexity(text: &str) -> Result<Complexity, Findings> {
    whole(text, Wants::Object, |reader, node| {
        let fields = reader.fields(node, "$")?;
        let score = reader.required(&fields, "score", Reader::score);
        let reasoning = reader.optional(&fields, "reasoning", Reader::text);
        let hours = reader.optional(&fields, "estimated_hours", Reader::hours);
        Complexity::new(score?, reasoning.unwrap_or_default(), hours).ok()
    })
}

/// What came of reading a plan: as much as there was.
pub(crate) struct PlanReading {
    /// The JSON value, if there is one.
    pub(crate) node: Option<Node>,
    /// The plan, if nothing spoils it.
    pub(crate) plan: Option<Plan>,
    /// What is wrong.
    pub(crate) findings: Findings,
}

/// Reads a plan and keeps what a closer look needs.
pub(crate) fn plan_of(text: &str) -> PlanReading {
    let mut reader = Reader::default();
    let (node, plan) = match extract(text, Wants::Object) {
        Ok(node) => {
            reader.find_duplicate_keys(&node, "$");
            let plan = reader.plan(&node);
            (Some(node), plan)
        }
        Err(error) => {
            reader
                .findings
                .add(Code::Syntax, error.path, error.at, error.message);
            (None, None)
        }
    };
    PlanReading {
        node,
        plan: plan.filter(|_| !reader.findings.has_errors()),
        findings: reader.findings,
    }
}

fn whole<T>(
    text: &str,
    wants: Wants,
    read: impl FnOnce(&mut Reader, &Node) -> Option<T>,
) -> Result<T, Findings> {
    let mut reader = Reader::default();
    let value = match extract(text, wants) {
        Ok(node) => {
            reader.find_duplicate_keys(&node, "$");
            read(&mut reader, &node)
        }
        Err(error) => {
            reader
                .findings
                .add(Code::Syntax, error.path, error.at, error.message);
            None
        }
    };
    match value {
        Some(value) if reader.findings.is_empty() => Ok(value),
        _ => Err(reader.findings.sorted()),
    }
}

/// What an answer should be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Object,
    /// An object or an array.
    Any,
}

/// The one JSON value in a text.
///
/// Prose has braces and brackets too, so a value is only begun by one that goes on like a value does. Each begun value
/// must end: were a broken one passed over, a piece of it could be taken for the answer.
pub(crate) fn extract(text: &str, wants: Wants) -> Result<Node, SyntaxError> {
    let begins_value = |at: usize| {
        let after = text.get(at + 1..).unwrap_or_default();
        let next = after
            .trim_start_matches([' ', '\t', '\n', '\r'])
            .bytes()
            .next();
        match (text.as_bytes().get(at), wants) {
            (Some(b'{'), _) => matches!(next, Some(b'"' | b'}')),
            (Some(b'['), Wants::Object) => matches!(next, Some(b'{' | b'[')),
            (Some(b'['), Wants::Any) => matches!(next, Some(b'"' | b'{' | b'[' | b']')),
            _ => false,
        }
    };
    let mut found: Option<Node> = None;
    let mut first_brace = None;
    let mut at = 0;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        at += offset;
        first_brace = first_brace.or(Some(at));
        if !begins_value(at) {
            at += 1;
            continue;
        }
        let (node, end) = json::value_at(text, at).map_err(|error| with_context(error, text))?;
        if let Some(first) = &found {
            return Err(SyntaxError {
                at,
                path: "$".to_string(),
                message: format!(
                    "a second JSON value, {}, after that at offset {}: answer with one",
                    spot(text, at),
                    first.at
                ),
            });
        }
        found = Some(node);
        at = end;
    }
    match (found, first_brace) {
        (Some(node), _) => Ok(node),
        // It may be no value, but whoever wrote it meant one: the error there says more than "nothing".
        (None, Some(at)) => json::value_at(text, at)
            .map(|(node, _)| node)
            .map_err(|error| with_context(error, text)),
        (None, None) => Err(SyntaxError {
            at: 0,
            path: "$".to_string(),
            message: match text.trim() {
                "" => "the answer is empty; a JSON value was expected".to_string(),
                text => format!("no JSON value in the text {}", quote(text)),
            },
        }),
    }
}

fn spot(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    let end = rest
        .char_indices()
        .nth(CONTEXT_CHARS)
        .map_or(rest.len(), |(end, _)| end);
    quote(rest.get(..end).unwrap_or_default())
}

/// The same error with the text before the spot.
fn with_context(error: SyntaxError, text: &str) -> SyntaxError {
    let before = text.get(..error.at).unwrap_or_default();
    let start = before
        .char_indices()
        .rev()
        .nth(CONTEXT_CHARS - 1)
        .map_or(0, |(start, _)| start);
    let context = before.get(start..).unwrap_or_default();
    SyntaxError {
        message: format!("{}, after {}", error.message, quote(context)),
        ..error
    }
}

/// A text that says something.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The members of an object.
pub(crate) struct Fields<'n> {
    members: &'n [Member],
    pub(crate) path: String,
    pub(crate) at: usize,
}

impl<'n> Fields<'n> {
    /// The value of that key, unless it is `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.raw(key).filter(|node| node.json != Json::Null)
    }

    fn raw(&self, key: &str) -> Option<&'n Node> {
        let found = self.members.iter().find(|member| member.key == key);
        found.map(|member| &member.value)
    }

    /// Every member in order.
    pub(crate) fn members(&self) -> &'n [Member] {
        self.members
    }
}

/// Reads values and notes what is wrong with them. A value with a finding is `None`, and reading goes on: whoever mends
/// the text wants to know everything at once.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) findings: Findings,
}

impl Reader {
    pub(crate) fn find_duplicate_keys(&mut self, node: &Node, path: &str) {
        match &node.json {
            Json::Object(members) => {
                let mut seen = HashSet::new();
                for Member { key, at, value } in members {
                    let path = member(path, key);
                    if !seen.insert(key) {
                        let message = format!("the key {} stands twice in one object", quote(key));
                        self.findings
                            .add(Code::DuplicateKey, path.as_str(), *at, message);
                    }
                    self.find_duplicate_keys(value, &path);
                }
            }
            Json::List(list) => {
                for (i, node) in list.iter().enumerate() {
                    self.find_duplicate_keys(node, &element(path, i));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        let message = format!("expected {expected}, found {}", node.json.described());
        self.findings.add(Code::WrongType, path, node.at, message);
    }

    fn missing(&mut self, fields: &Fields<'_>, key: &str) {
        let message = format!("the member {} is missing", quote(key));
        self.findings
            .add(Code::Missing, fields.path.as_str(), fields.at, message);
    }

    pub(crate) fn fields<'n>(&mut self, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        let Json::Object(members) = &node.json else {
            self.wrong_type(node, path, "an object");
            return None;
        };
        Some(Fields {
            members,
            path: path.to_string(),
            at: node.at,
        })
    }

    pub(crate) fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        read: fn(&mut Reader, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        read(self, fields.get(key)?, &member(&fields.path, key))
    }

    pub(crate) fn required<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        read: fn(&mut Reader, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        match fields.raw(key) {
            Some(node) => read(self, node, &member(&fields.path, key)),
            None => {
                self.missing(fields, key);
                None
            }
        }
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Node]> {
        match &node.json {
            Json::List(list) => Some(list),
            _ => {
                self.wrong_type(node, path, "an array");
                None
            }
        }
    }

    pub(crate) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.json {
            Json::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(node, path, "a text");
                None
            }
        }
    }

    /// A text that says something.
    pub(crate) fn words(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        if text.trim().is_empty() {
            self.findings
                .add(Code::Empty, path, node.at, "the text is empty");
            return None;
        }
        Some(text)
    }

    fn texts(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let list = self.list(node, path)?;
        let texts = list.iter().enumerate();
        let texts: Vec<_> = texts
            .map(|(i, node)| self.words(node, &element(path, i)))
            .collect();
        texts.into_iter().collect()
    }

    fn criteria(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        self.texts(node, path)
    }

    fn boolean(&mut self, node: &Node, path: &str) -> Option<bool> {
        match &node.json {
            Json::Bool(value) => Some(*value),
            _ => {
                self.wrong_type(node, path, "true or false");
                None
            }
        }
    }

    fn digits<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.json {
            Json::Number(digits) => Some(digits),
            _ => {
                self.wrong_type(node, path, "a number");
                None
            }
        }
    }

    fn out_of_range<T>(&mut self, node: &Node, path: &str, range: &str) -> Option<T> {
        let message = format!("expected {range}, found {}", node.json.described());
        self.findings.add(Code::OutOfRange, path, node.at, message);
        None
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn whole_number(
        &mut self,
        node: &Node,
        path: &str,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let number = decimal::parse(self.digits(node, path)?, 0);
        let number = number.map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        match number {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            Ok(_)
            | Err(
                DecimalError::TooPrecise
                | DecimalError::Negative
                | DecimalError::TooLarge
                | DecimalError::NotANumber,
            ) => self.out_of_range(
                node,
                path,
                &format!("a whole number from {least} to {most}"),
            ),
        }
    }

    fn score(&mut self, node: &Node, path: &str) -> Option<u8> {
        let score = self.whole_number(node, path, 1, 10)?;
        u8::try_from(score).ok()
    }

    pub(crate) fn tokens(&mut self, node: &Node, path: &str) -> Option<u64> {
        self.whole_number(node, path, 0, MAX_TOKENS)
    }

    fn real(&mut self, node: &Node, path: &str, most: f64) -> Option<f64> {
        // What no double holds reads as infinite, and is out of every range.
        let number: f64 = self.digits(node, path)?.parse().unwrap_or(f64::INFINITY);
        if (0.0..=most).contains(&number) {
            return Some(number);
        }
        self.out_of_range(node, path, &format!("a number from 0 to {most}"))
    }

    fn share(&mut self, node: &Node, path: &str) -> Option<f64> {
        self.real(node, path, 1.0)
    }

    fn hours(&mut self, node: &Node, path: &str) -> Option<f64> {
        self.real(node, path, MAX_HOURS)
    }

    fn kind(&mut self, node: &Node, path: &str) -> Option<GoalKind> {
        let word = self.text(node, path)?;
        let kind = word.trim().to_ascii_lowercase().parse();
        let names = GoalKind::ALL.iter().map(|kind| kind.name()).collect();
        self.known(kind.ok(), names, &word, node, path)
    }

    fn difficulty(&mut self, node: &Node, path: &str) -> Option<Difficulty> {
        let word = self.text(node, path)?;
        let difficulty = word.trim().to_ascii_lowercase().parse();
        let names = Difficulty::ALL
            .iter()
            .map(|difficulty| difficulty.name())
            .collect();
        self.known(difficulty.ok(), names, &word, node, path)
    }

    fn known<T>(
        &mut self,
        value: Option<T>,
        names: Vec<&str>,
        word: &str,
        node: &Node,
        path: &str,
    ) -> Option<T> {
        if value.is_none() {
            let message = format!(
                "expected one of {}, found {}",
                names.join(", "),
                quote(word)
            );
            self.findings.add(Code::UnknownWord, path, node.at, message);
        }
        value
    }

    /// The plan, if nothing is wrong with it; as many findings as there are in any case.
    fn plan(&mut self, node: &Node) -> Option<Plan> {
        let fields = self.fields(node, "$")?;
        if let Some(schema) = self.optional(&fields, "schema", Reader::text)
            && schema != "omk.plan/1"
        {
            let at = fields.get("schema").map_or(node.at, |node| node.at);
            let message = format!("expected omk.plan/1, found {}", quote(&schema));
            self.findings
                .add(Code::UnknownWord, member("$", "schema"), at, message);
        }
        let goal_text = self
            .optional(&fields, "goal_text", Reader::text)
            .unwrap_or_default();
        let kind = self.required(&fields, "kind", Reader::kind);
        let confidence = self.optional(&fields, "confidence", Reader::share);
        let reasoning = self
            .optional(&fields, "reasoning", Reader::text)
            .unwrap_or_default();
        let is_testable = self.optional(&fields, "is_testable", Reader::boolean);
        let suggested_refinement =
            said(self.optional(&fields, "suggested_refinement", Reader::text));
        let score = self.required(&fields, "complexity_score", Reader::score);
        let complexity_reasoning = self.optional(&fields, "complexity_reasoning", Reader::text);
        let hours = self.optional(&fields, "estimated_hours", Reader::hours);
        let slices = self
            .required(&fields, "slices", Reader::slices)
            .unwrap_or_default();
        let ids: Vec<&str> = slices.iter().map(|slice| slice.id.as_str()).collect();
        let dependencies = match fields.get("dependencies") {
            // Without slices every end would be unknown, which says nothing new.
            Some(node) if ids.is_empty() => {
                self.list(node, &member("$", "dependencies"));
                Vec::new()
            }
            Some(node) => self.dependencies(node, &member("$", "dependencies"), &ids),
            _ => Vec::new(),
        };
        self.graph(&fields, &slices, &dependencies);
        let acceptance_criteria = self.optional(&fields, "acceptance_criteria", Reader::criteria);
        let estimated_tokens = self.optional(&fields, "estimated_tokens", Reader::tokens);
        let templates = self.optional(&fields, "templates", Reader::texts);
        if self.findings.has_errors() {
            return None;
        }
        let parts = PlanParts {
            goal_text,
            kind: kind?,
            confidence,
            reasoning,
            is_testable,
            suggested_refinement,
            complexity: Complexity::new(score?, complexity_reasoning.unwrap_or_default(), hours)
                .ok()?,
            slices: slices
                .into_iter()
                .map(SliceReading::slice)
                .collect::<Option<_>>()?,
            dependencies,
            acceptance_criteria: acceptance_criteria.unwrap_or_default(),
            estimated_tokens,
            templates: templates.unwrap_or_default(),
        };
        match Plan::new(parts) {
            Ok(plan) => Some(plan),
            // Everything that it refuses was found above; were it not, the plan must still not pass.
            Err(error) => {
                self.findings
                    .add(Code::Contradiction, "$", node.at, error.to_string());
                None
            }
        }
    }

    fn slices(&mut self, node: &Node, path: &str) -> Option<Vec<SliceReading>> {
        let list = self.list(node, path)?;
        if list.is_empty() {
            self.findings
                .add(Code::Empty, path, node.at, "there is no slice");
        }
        let mut slices = Vec::with_capacity(list.len());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (i, node) in list.iter().enumerate() {
            let slice = self.slice(node, &element(path, i), i);
            if let Some(first) = seen.insert(slice.id.clone(), i) {
                let message = format!(
                    "the id {} is that of {} too",
                    quote(&slice.id),
                    element(path, first)
                );
                self.findings.add(
                    Code::DuplicateId,
                    member(&element(path, i), "id"),
                    slice.at,
                    message,
                );
            }
            slices.push(slice);
        }
        Some(slices)
    }

    /// As much of a slice as there is; it counts as one in any case, so that indices mean what they say.
    fn slice(&mut self, node: &Node, path: &str, index: usize) -> SliceReading {
        let mut slice = SliceReading {
            at: node.at,
            id: format!("s{}", index + 1),
            ..SliceReading::default()
        };
        let Some(fields) = self.fields(node, path) else {
            return slice;
        };
        if let Some(node) = fields.get("id") {
            slice.at = node.at;
            if let Some(id) = self.words(node, &member(path, "id")) {
                slice.id = id;
            }
        }
        slice.description = self.required(&fields, "description", Reader::words);
        if let Some(node) = fields.get("write_set") {
            let path = member(path, "write_set");
            if let Some(paths) = self.texts(node, &path) {
                for (i, one) in paths.iter().enumerate() {
                    if let Some(fault) = path_fault(one) {
                        let at = self
                            .list(node, &path)
                            .and_then(|list| list.get(i))
                            .map_or(node.at, |n| n.at);
                        let message = format!("{fault}: {}", quote(one));
                        self.findings
                            .add(Code::BadPath, element(&path, i), at, message);
                    }
                }
                slice.write_set = paths;
            }
            if let Json::List(list) = &node.json {
                slice.write_set_at = list.iter().map(|node| node.at).collect();
            }
        }
        slice.difficulty = self.optional(&fields, "estimated_difficulty", Reader::difficulty);
        slice.tokens = self.optional(&fields, "estimated_tokens", Reader::tokens);
        for Member { key, at, value } in fields.members() {
            let says_nothing = matches!(&value.json, Json::Null)
                || matches!(&value.json, Json::List(list) if list.is_empty());
            if MISPLACED.contains(&key.as_str()) && !says_nothing {
                let message =
                    "dependencies stand in `dependencies` of the plan, as pairs [before, after]";
                self.findings
                    .add(Code::MisplacedDependency, member(path, key), *at, message);
            }
        }
        slice
    }

    fn dependencies(&mut self, node: &Node, path: &str, ids: &[&str]) -> Vec<(usize, usize)> {
        let by_id: HashMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut pairs = Vec::new();
        for (i, node) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let path = element(path, i);
            let Some(ends) = self.list(node, &path) else {
                continue;
            };
            let [before, after] = ends else {
                let message = format!(
                    "expected a pair [before, after], found {} values",
                    ends.len()
                );
                self.findings.add(Code::WrongType, path, node.at, message);
                continue;
            };
            let before = self.end(before, &element(&path, 0), &by_id, ids.len());
            let after = self.end(after, &element(&path, 1), &by_id, ids.len());
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            if before == after {
                let id = ids.get(before).copied().unwrap_or_default();
                let message = format!("{} waits for itself", quote(id));
                self.findings
                    .add(Code::SelfDependency, path, node.at, message);
                continue;
            }
            pairs.push((before, after));
        }
        pairs
    }

    /// One end of a dependency: an index or an id.
    fn end(
        &mut self,
        node: &Node,
        path: &str,
        by_id: &HashMap<&str, usize>,
        count: usize,
    ) -> Option<usize> {
        match &node.json {
            Json::Text(id) => {
                let found = by_id.get(id.as_str()).copied();
                if found.is_none() {
                    let message = format!("there is no slice {}", quote(id));
                    self.findings
                        .add(Code::UnknownDependency, path, node.at, message);
                }
                found
            }
            Json::Number(digits) => {
                let index = decimal::parse(digits, 0)
                    .ok()
                    .and_then(|index| usize::try_from(index).ok());
                let index = index.filter(|index| *index < count);
                if index.is_none() {
                    let message = format!(
                        "there is no slice of index {}; they count from 0 to {}",
                        quote(digits).trim_matches('"'),
                        count.saturating_sub(1)
                    );
                    self.findings
                        .add(Code::UnknownDependency, path, node.at, message);
                }
                index
            }
            _ => {
                self.wrong_type(node, path, "the id or the index of a slice");
                None
            }
        }
    }

    /// A circle, or else who writes what at the same time.
    fn graph(
        &mut self,
        fields: &Fields<'_>,
        slices: &[SliceReading],
        dependencies: &[(usize, usize)],
    ) {
        let id = |at: usize| slices.get(at).map_or("", |slice| slice.id.as_str());
        match graph::levels(slices.len(), dependencies) {
            Err(circle) => {
                let at = fields.get("dependencies").map_or(fields.at, |node| node.at);
                let message = format!("a circle: {}", way_round(&circle, id));
                self.findings.add(
                    Code::Cycle,
                    member(&fields.path, "dependencies"),
                    at,
                    message,
                );
            }
            Ok(levels) => {
                let write_set = |at: usize| slices.get(at).map(|slice| slice.write_set.as_slice());
                for conflict in write_conflicts(&levels.waves, write_set) {
                    let (slice, place) = conflict.second;
                    let written = slices
                        .get(slice)
                        .and_then(|slice| slice.write_set.get(place));
                    let at = slices
                        .get(slice)
                        .and_then(|slice| slice.write_set_at.get(place));
                    let path = member(
                        &element(&member(&fields.path, "slices"), slice),
                        "write_set",
                    );
                    let message = format!(
                        "{} and {} may run at the same time and both write {}; let one depend on the other, or cut otherwise",
                        quote(id(conflict.first.0)),
                        quote(id(slice)),
                        quote(written.map_or("", String::as_str)),
                    );
                    let at = at.copied().unwrap_or(fields.at);
                    self.findings
                        .add(Code::WriteConflict, element(&path, place), at, message);
                }
            }
        }
    }
}

/// `a -> b -> a`, of a long circle the beginning and the end.
pub(crate) fn way_round<'i>(circle: &[usize], id: impl Fn(usize) -> &'i str) -> String {
    const SHOWN: usize = 12;
    let name = |at: &usize| {
        let quoted = quote(id(*at));
        quoted.trim_matches('"').to_string()
    };
    let mut names: Vec<String> = circle.iter().take(SHOWN).map(name).collect();
    if circle.len() > SHOWN {
        names.push(format!("({} more)", circle.len() - SHOWN));
    }
    names.extend(circle.first().map(name));
    names.join(" -> ")
}

/// What was read of a slice.
#[derive(Default)]
struct SliceReading {
    at: usize,
    id: String,
    description: Option<String>,
    write_set: Vec<String>,
    write_set_at: Vec<usize>,
    difficulty: Option<Difficulty>,
    tokens: Option<u64>,
}

impl SliceReading {
    fn slice(self) -> Option<Slice> {
        let difficulty = self.difficulty.unwrap_or(Difficulty::Medium);
        let slice = Slice::new(self.id, self.description?, self.write_set, difficulty).ok()?;
        slice.with_estimated_tokens(self.tokens).ok()
    }
}

#[cfg(test)]
mod tests;
