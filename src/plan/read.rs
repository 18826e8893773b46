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

use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::model::Complexity;
use crate::plan::model::Difficulty;
use crate::plan::model::GoalClassification;
use crate::plan::model::GoalKind;
use crate::plan::model::MAX_HOURS;
use crate::plan::model::MAX_TOKENS;
use crate::plan::model::Plan;
use crate::plan::model::PlanParts;
use crate::plan::model::Slice;
use crate::plan::validate;
use crate::plan::validate::Spot;
use crate::plan::validate::no_such_index;
use crate::runtime::decimal;
use crate::runtime::decimal::DecimalError;
use crate::runtime::json;
use crate::runtime::json::Json;
use crate::runtime::json::JsonError;
use crate::runtime::json::Member;
use crate::runtime::json::Node;
use crate::runtime::json::Wants;
use crate::runtime::json::element;
use crate::runtime::json::member;
use crate::runtime::text::quote;

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

/// Reads a plan.
///
/// # Errors
///
/// Every finding, in the order of the text.
pub fn read_plan(text: &str) -> Result<Plan, Findings> {
    whole(text, Wants::Object, Reader::plan)
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
    whole(text, Wants::List, |reader, node| {
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

/// Reads what a text holds; any finding is an error.
fn whole<T>(
    text: &str,
    wants: Wants,
    read: impl FnOnce(&mut Reader, &Node) -> Option<T>,
) -> Result<T, Findings> {
    let mut reader = Reader::default();
    let value = match json::find(text, wants) {
        Ok(node) => {
            reader.find_duplicate_keys(&node);
            read(&mut reader, &node)
        }
        Err(error) => {
            reader.findings = broken(error);
            None
        }
    };
    match value {
        Some(value) if reader.findings.is_empty() => Ok(value),
        _ => Err(reader.findings.sorted()),
    }
}

/// The finding of a text that holds no single JSON value.
pub(crate) fn broken(error: JsonError) -> Findings {
    let mut findings = Findings::default();
    findings.add(Code::Syntax, error.path, error.at, error.message);
    findings
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

/// Reads values and notes what is wrong with them. A value with a finding is `None`, and reading goes on: whoever corrects
/// the text wants to know everything at once.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) findings: Findings,
}

impl Reader {
    pub(crate) fn find_duplicate_keys(&mut self, node: &Node) {
        node.duplicates("$", &mut |path, key, at| {
            let message = json::duplicate_message(key);
            self.findings.add(Code::DuplicateKey, path, at, message);
        });
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

    pub(crate) fn texts(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let list = self.list(node, path)?;
        let texts = list.iter().enumerate();
        let texts: Vec<_> = texts
            .map(|(i, node)| self.text(node, &element(path, i)))
            .collect();
        texts.into_iter().collect()
    }

    /// Texts, each in its place: the path stands for one that is none.
    fn texts_in_place(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let list = self.list(node, path)?.iter().enumerate();
        let text = |(i, node)| {
            let path = element(path, i);
            self.text(node, &path).unwrap_or(path)
        };
        Some(list.map(text).collect())
    }

    /// Texts that say something.
    fn criteria(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let list = self.list(node, path)?;
        let texts = list.iter().enumerate();
        let texts: Vec<_> = texts
            .map(|(i, node)| self.words(node, &element(path, i)))
            .collect();
        texts.into_iter().collect()
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
    pub(crate) fn plan(&mut self, node: &Node) -> Option<Plan> {
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
        let slices = self.required(&fields, "slices", Reader::slices);
        let ids: Vec<&str> = slices.iter().flatten().map(Slice::id).collect();
        let (dependencies, places) = match fields.get("dependencies") {
            // Without slices every end would be unknown, which says nothing new.
            Some(node) if ids.is_empty() => {
                self.list(node, &member("$", "dependencies"));
                Default::default()
            }
            Some(node) => self.dependencies(node, &member("$", "dependencies"), &ids),
            None => Default::default(),
        };
        let acceptance_criteria =
            self.optional(&fields, "acceptance_criteria", Reader::texts_in_place);
        let estimated_tokens = self.optional(&fields, "estimated_tokens", Reader::tokens);
        let templates = self.optional(&fields, "templates", Reader::texts_in_place);
        // What could not be read is a finding already; a placeholder lets the rest be examined.
        let parts = PlanParts {
            goal_text,
            kind: kind.unwrap_or(GoalKind::Vague),
            confidence,
            reasoning,
            is_testable,
            suggested_refinement,
            complexity: Complexity::new(
                score.unwrap_or(1),
                complexity_reasoning.unwrap_or_default(),
                hours,
            )
            .ok()?,
            slices: slices?,
            dependencies,
            acceptance_criteria: acceptance_criteria.unwrap_or_default(),
            estimated_tokens,
            templates: templates.unwrap_or_default(),
        };
        let (problems, levels) = validate::examine(&parts);
        for problem in problems {
            let spot = match problem.spot {
                Spot::Element("dependencies", i) => {
                    Spot::Element("dependencies", places.get(i).copied().unwrap_or(i))
                }
                spot => spot,
            };
            self.note(node, problem.code, spot, problem.message);
        }
        match levels {
            Some(levels) if !self.findings.has_errors() => Some(Plan::in_levels(parts, levels)),
            _ => None,
        }
    }

    /// Adds a finding of a place in the plan that `node` is.
    pub(crate) fn note(&mut self, node: &Node, code: Code, spot: Spot, message: String) {
        let within = |key: &str, i: usize| {
            let list = node.get(key);
            list.and_then(|list| list.items().get(i)).or(list)
        };
        let place = match spot {
            Spot::Member(key) => node.get(key),
            Spot::Element(key, i) => within(key, i),
            Spot::Slice(i) => within("slices", i),
            Spot::SliceMember(i, key) => {
                let slice = within("slices", i);
                slice.and_then(|slice| slice.get(key)).or(slice)
            }
            Spot::Written(i, place) => {
                let paths = within("slices", i).and_then(|slice| slice.get("write_set"));
                paths.and_then(|paths| paths.items().get(place))
            }
        };
        let at = place.unwrap_or(node).at;
        self.findings.add(code, spot.path(), at, message);
    }

    /// The slices; each counts as one however little of it could be read, so that indices mean what they say.
    fn slices(&mut self, node: &Node, path: &str) -> Option<Vec<Slice>> {
        let list = self.list(node, path)?.iter().enumerate();
        Some(
            list.map(|(i, node)| self.slice(node, &element(path, i), i))
                .collect(),
        )
    }

    fn slice(&mut self, node: &Node, path: &str, index: usize) -> Slice {
        let mut slice = Slice {
            id: format!("s{}", index + 1),
            description: "?".to_string(),
            write_set: Vec::new(),
            estimated_difficulty: Difficulty::Medium,
            estimated_tokens: None,
        };
        let Some(fields) = self.fields(node, path) else {
            return slice;
        };
        if let Some(id) = self.optional(&fields, "id", Reader::words) {
            slice.id = id;
        }
        if let Some(description) = self.required(&fields, "description", Reader::text) {
            slice.description = description;
        }
        if let Some(write_set) = self.optional(&fields, "write_set", Reader::texts_in_place) {
            slice.write_set = write_set;
        }
        if let Some(difficulty) = self.optional(&fields, "estimated_difficulty", Reader::difficulty)
        {
            slice.estimated_difficulty = difficulty;
        }
        slice.estimated_tokens = self.optional(&fields, "estimated_tokens", Reader::tokens);
        for Member { key, at, value } in fields.members() {
            let says_nothing = matches!(&value.json, Json::Null)
                || matches!(&value.json, Json::List(list) if list.is_empty());
            if MISPLACED.contains(&key.as_str()) && !says_nothing {
                let message =
                    "dependencies belong in `dependencies` of the plan, as pairs [before, after]";
                self.findings
                    .add(Code::MisplacedDependency, member(path, key), *at, message);
            }
        }
        slice
    }

    /// The pairs that could be read, and the place of each in the list.
    fn dependencies(
        &mut self,
        node: &Node,
        path: &str,
        ids: &[&str],
    ) -> (Vec<(usize, usize)>, Vec<usize>) {
        let by_id: HashMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let (mut pairs, mut places) = (Vec::new(), Vec::new());
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
            if let (Some(before), Some(after)) = (before, after) {
                pairs.push((before, after));
                places.push(i);
            }
        }
        (pairs, places)
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
                    let message = no_such_index(quote(digits).trim_matches('"'), count);
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
}

#[cfg(test)]
mod tests;
