//! What makes a plan valid, in one place: the parser, [`Plan::new`] and `omk plan check` all ask here.
//!
//! A problem names its place by [`Spot`]. Whoever has the text turns that into an offset, whoever has none into a path.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::graph;
use crate::plan::graph::Levels;
use crate::plan::model::Difficulty;
use crate::plan::model::GoalKind;
use crate::plan::model::InvalidValue;
use crate::plan::model::MAX_TOKENS;
use crate::plan::model::Plan;
use crate::plan::model::PlanParts;
use crate::plan::model::Slice;
use crate::runtime::json::element;
use crate::runtime::json::member;
use crate::runtime::text::quote;

impl Slice {
    /// A slice without an estimate of its tokens.
    ///
    /// # Errors
    ///
    /// When the id or the description is blank, or a path of the write set is blank or leaves the work directory.
    pub fn new(
        id: impl Into<String>,
        description: impl Into<String>,
        write_set: Vec<String>,
        estimated_difficulty: Difficulty,
    ) -> Result<Slice, InvalidValue> {
        Slice {
            id: id.into(),
            description: description.into(),
            write_set,
            estimated_difficulty,
            estimated_tokens: None,
        }
        .valid()
    }

    fn valid(self) -> Result<Slice, InvalidValue> {
        match of_slice(&self, 0).first() {
            Some(problem) => Err(InvalidValue::new(format!(
                "{}: {}",
                problem.spot.path(),
                problem.message
            ))),
            None => Ok(self),
        }
    }

    /// The same with an estimate of the tokens that it takes.
    ///
    /// # Errors
    ///
    /// When it is above [`MAX_TOKENS`].
    pub fn with_estimated_tokens(self, tokens: Option<u64>) -> Result<Slice, InvalidValue> {
        Slice {
            estimated_tokens: tokens,
            ..self
        }
        .valid()
    }
}

impl Plan {
    /// Puts the parts together.
    ///
    /// # Errors
    ///
    /// What [`Plan::validate`] finds.
    pub fn new(parts: PlanParts) -> Result<Plan, Findings> {
        match examine(&parts) {
            (problems, Some(levels)) if problems.is_empty() => Ok(Plan::in_levels(parts, levels)),
            (problems, _) => Err(without_text(problems)),
        }
    }

    /// Everything that keeps the parts from being a plan, each by its path: no slice, two slices with one id, a dependency
    /// on nothing, on itself or in a cycle, slices that may run at the same time and write the same file, a path that
    /// leaves the work directory, a text that must say something and is blank, a figure out of range. The offsets are 0,
    /// since there is no text.
    pub fn validate(parts: &PlanParts) -> Findings {
        without_text(examine(parts).0)
    }

    /// The plan of parts that were found valid.
    pub(crate) fn in_levels(parts: PlanParts, levels: Levels) -> Plan {
        let weights: Vec<u64> = parts.slices.iter().map(Slice::expected_tokens).collect();
        let critical_path = graph::heaviest_path(&levels.order, &parts.dependencies, &weights);
        Plan {
            parts,
            order: levels.order,
            waves: levels.waves,
            critical_path,
        }
    }
}

/// A place in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// A member of the plan.
    Member(&'static str),
    /// An element of a list of the plan.
    Element(&'static str, usize),
    /// A slice.
    Slice(usize),
    /// A member of a slice.
    SliceMember(usize, &'static str),
    /// A path that a slice writes.
    Written(usize, usize),
}

impl Spot {
    /// The path in the document.
    pub(crate) fn path(self) -> String {
        let slice = |at: usize| element("$.slices", at);
        match self {
            Spot::Member(key) => member("$", key),
            Spot::Element(key, at) => element(&member("$", key), at),
            Spot::Slice(at) => slice(at),
            Spot::SliceMember(at, key) => member(&slice(at), key),
            Spot::Written(at, place) => element(&member(&slice(at), "write_set"), place),
        }
    }
}

/// Something that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) spot: Spot,
    pub(crate) message: String,
}

impl Problem {
    fn new(code: Code, spot: Spot, message: impl Into<String>) -> Problem {
        Problem {
            code,
            spot,
            message: message.into(),
        }
    }

    fn empty(spot: Spot) -> Problem {
        Problem::new(Code::Empty, spot, "the text is empty")
    }
}

/// Findings by path alone, for a plan that no text holds.
pub(crate) fn without_text(problems: Vec<Problem>) -> Findings {
    let mut findings = Findings::default();
    for problem in problems {
        findings.add(problem.code, problem.spot.path(), 0, problem.message);
    }
    findings
}

/// What keeps the parts from being a plan, and the order of its slices unless there is a cycle.
pub(crate) fn examine(parts: &PlanParts) -> (Vec<Problem>, Option<Levels>) {
    let mut problems = Vec::new();
    if parts.slices.is_empty() {
        let spot = Spot::Member("slices");
        problems.push(Problem::new(Code::Empty, spot, "there is no slice"));
    }
    if let Some(confidence) = parts.confidence
        && !(0.0..=1.0).contains(&confidence)
    {
        let message = format!("expected a number from 0 to 1, found the number {confidence}");
        let spot = Spot::Member("confidence");
        problems.push(Problem::new(Code::OutOfRange, spot, message));
    }
    problems.extend(tokens(
        parts.estimated_tokens,
        Spot::Member("estimated_tokens"),
    ));
    let is_blank = |text: &String| text.trim().is_empty();
    if parts.suggested_refinement.as_ref().is_some_and(is_blank) {
        problems.push(Problem::empty(Spot::Member("suggested_refinement")));
    }
    for (key, texts) in [
        ("acceptance_criteria", &parts.acceptance_criteria),
        ("templates", &parts.templates),
    ] {
        let blank = texts.iter().enumerate().filter(|(_, text)| is_blank(text));
        problems.extend(blank.map(|(i, _)| Problem::empty(Spot::Element(key, i))));
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, slice) in parts.slices.iter().enumerate() {
        problems.extend(of_slice(slice, i));
        if let Some(other) = seen.insert(slice.id(), i) {
            let other = Spot::Slice(other).path();
            let message = format!("the id {} is that of {other} too", quote(slice.id()));
            let spot = Spot::SliceMember(i, "id");
            problems.push(Problem::new(Code::DuplicateId, spot, message));
        }
    }
    let id = |at: usize| parts.slices.get(at).map_or("", Slice::id);
    for (i, (before, after)) in parts.dependencies.iter().enumerate() {
        let spot = Spot::Element("dependencies", i);
        let count = parts.slices.len();
        if let Some(missing) = [before, after].into_iter().find(|end| **end >= count) {
            let message = no_such_index(missing, count);
            problems.push(Problem::new(Code::UnknownDependency, spot, message));
        } else if before == after {
            let message = format!("{} waits for itself", quote(id(*before)));
            problems.push(Problem::new(Code::SelfDependency, spot, message));
        }
    }
    let levels = match graph::levels(parts.slices.len(), &parts.dependencies) {
        Ok(levels) => levels,
        Err(cycle) => {
            let message = format!("cycle: {}", way_round(&cycle, id));
            let spot = Spot::Member("dependencies");
            problems.push(Problem::new(Code::Cycle, spot, message));
            return (problems, None);
        }
    };
    let write_set = |at: usize| parts.slices.get(at).map(Slice::write_set);
    for conflict in write_conflicts(&levels.waves, write_set) {
        let (slice, place) = conflict.second;
        let path = write_set(slice).and_then(|paths| paths.get(place));
        let message = format!(
            "{} and {} may run at the same time and both write {}; let one depend on the other, or cut otherwise",
            quote(id(conflict.first.0)),
            quote(id(slice)),
            quote(path.map_or("", String::as_str)),
        );
        let spot = Spot::Written(slice, place);
        problems.push(Problem::new(Code::WriteConflict, spot, message));
    }
    (problems, Some(levels))
}

/// What is wrong with a slice by itself.
pub(crate) fn of_slice(slice: &Slice, at: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, text) in [("id", slice.id()), ("description", slice.description())] {
        if text.trim().is_empty() {
            problems.push(Problem::empty(Spot::SliceMember(at, key)));
        }
    }
    for (place, path) in slice.write_set().iter().enumerate() {
        let spot = Spot::Written(at, place);
        if path.trim().is_empty() {
            problems.push(Problem::empty(spot));
        } else if let Some(fault) = path_fault(path) {
            let message = format!("{fault}: {}", quote(path));
            problems.push(Problem::new(Code::BadPath, spot, message));
        }
    }
    let spot = Spot::SliceMember(at, "estimated_tokens");
    problems.extend(tokens(slice.estimated_tokens(), spot));
    problems
}

fn tokens(tokens: Option<u64>, spot: Spot) -> Option<Problem> {
    let tokens = tokens.filter(|tokens| *tokens > MAX_TOKENS)?;
    let message =
        format!("expected a whole number from 0 to {MAX_TOKENS}, found the number {tokens}");
    Some(Problem::new(Code::OutOfRange, spot, message))
}

/// What is wrong with a path of a write set; nothing for one that stays below the work directory.
fn path_fault(path: &str) -> Option<&'static str> {
    let drive = |path: &str| path.chars().nth(1) == Some(':');
    if path.chars().any(char::is_control) {
        Some("a path with a control character")
    } else if path.starts_with(['/', '\\', '~']) || drive(path) {
        Some("an absolute path; write it relative to the work directory")
    } else if path.split(['/', '\\']).any(|part| part == "..") {
        Some("a path with `..`, which may leave the work directory")
    } else {
        None
    }
}

/// The parts of a path that tell it from others: `./src//a.rs` is `src/a.rs`.
fn parts_of(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
}

/// Two slices that may run at the same time and write the same file.
struct WriteConflict {
    /// The earlier slice and the place of the path in its write set.
    first: (usize, usize),
    /// The later one, and the place in its.
    second: (usize, usize),
}

/// Every conflict, in the order of waves and slices. Two paths meet when they are equal, or when one is a directory above
/// the other. Wildcards are not expanded.
fn write_conflicts<S: AsRef<[String]>>(
    waves: &[Vec<usize>],
    write_set: impl Fn(usize) -> Option<S>,
) -> Vec<WriteConflict> {
    let mut conflicts = Vec::new();
    for slices in waves {
        // Who writes a path, and who writes something below it. Each path and each prefix of it is looked at once.
        let mut whole: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut below: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for &slice in slices {
            let Some(paths) = write_set(slice) else {
                continue;
            };
            let mut own = Vec::new();
            let mut met: HashSet<usize> = HashSet::new();
            for (place, path) in paths.as_ref().iter().enumerate() {
                let mut prefixes: Vec<String> = Vec::new();
                for part in parts_of(path) {
                    let before = prefixes.last().map_or("", String::as_str);
                    prefixes.push(format!("{before}/{part}"));
                }
                let Some(full) = prefixes.pop() else {
                    continue;
                };
                let meets = prefixes.iter().chain([&full]);
                let other = meets
                    .filter_map(|prefix| whole.get(prefix))
                    .chain(below.get(&full))
                    .min();
                if let Some(&first) = other
                    && met.insert(first.0)
                {
                    conflicts.push(WriteConflict {
                        first,
                        second: (slice, place),
                    });
                }
                own.push((place, full, prefixes));
            }
            for (place, full, prefixes) in own {
                whole.entry(full).or_insert((slice, place));
                for prefix in prefixes {
                    below.entry(prefix).or_insert((slice, place));
                }
            }
        }
    }
    conflicts
}

/// What to say of an index that no slice has.
pub(crate) fn no_such_index(index: impl std::fmt::Display, count: usize) -> String {
    format!(
        "there is no slice with index {index}; indices go from 0 to {}",
        count.saturating_sub(1)
    )
}

/// `a -> b -> a`, of a long cycle the beginning and the end.
pub(crate) fn way_round<'i>(cycle: &[usize], id: impl Fn(usize) -> &'i str) -> String {
    const SHOWN: usize = 12;
    let name = |at: &usize| {
        let quoted = quote(id(*at));
        quoted.trim_matches('"').to_string()
    };
    let mut names: Vec<String> = cycle.iter().take(SHOWN).map(name).collect();
    if cycle.len() > SHOWN {
        names.push(format!("({} more)", cycle.len() - SHOWN));
    }
    names.extend(cycle.first().map(name));
    names.join(" -> ")
}

/// How many times a plan's own figure may differ from the sum of its slices, where each has an estimate and where some are
/// typical for their difficulty.
const MAX_RATIO_OF_ESTIMATES: f64 = 1.25;
const MAX_RATIO_OF_TYPICAL: f64 = 3.0;

/// What is doubtful about a valid plan.
pub(crate) fn doubts(plan: &Plan) -> Vec<Problem> {
    let parts = plan.parts();
    let mut problems = Vec::new();
    let mut add = |code, spot, message: String| problems.push(Problem::new(code, spot, message));
    if parts.goal_text.trim().is_empty() {
        let message = "the plan does not say what it is for".to_string();
        add(Code::NoGoal, Spot::Member("goal_text"), message);
    }
    match &parts.suggested_refinement {
        Some(better) => {
            let message = format!("the goal is vague; it suggests {}", quote(better));
            add(
                Code::VagueGoal,
                Spot::Member("suggested_refinement"),
                message,
            );
        }
        None if plan.is_vague() => {
            let message = "the goal is vague, and no refinement is suggested".to_string();
            add(Code::VagueGoal, Spot::Member("kind"), message);
        }
        None => {}
    }
    if parts.is_testable == Some(false) {
        let message = "by its own word no test could show that the goal is reached".to_string();
        add(Code::NotTestable, Spot::Member("is_testable"), message);
    }
    for (i, slice) in parts.slices.iter().enumerate() {
        // An audit changes nothing.
        if slice.write_set().is_empty() && parts.kind != GoalKind::Audit {
            let message = format!("{} does not say which files it writes", quote(slice.id()));
            add(Code::NoWriteSet, Spot::Slice(i), message);
        }
        if slice.estimated_difficulty() == Difficulty::Complex {
            let message = format!("{} is complex: cut it again", quote(slice.id()));
            let spot = Spot::SliceMember(i, "estimated_difficulty");
            add(Code::TooComplex, spot, message);
        }
    }
    if let Some(stated) = parts.estimated_tokens {
        let expected = parts.slices.iter().map(Slice::expected_tokens);
        let sum = expected.fold(0, u64::saturating_add);
        let (most, whose) = match parts.slices.iter().all(|s| s.estimated_tokens().is_some()) {
            true => (MAX_RATIO_OF_ESTIMATES, "its slices add up to"),
            false => (MAX_RATIO_OF_TYPICAL, "its slices typically take"),
        };
        let (less, more) = (stated.min(sum), stated.max(sum));
        if more as f64 > most * less as f64 {
            let message = format!("the plan states {stated} tokens, and {whose} {sum}");
            add(
                Code::TokenMismatch,
                Spot::Member("estimated_tokens"),
                message,
            );
        }
    }
    if parts.acceptance_criteria.is_empty() {
        let message = "nothing says how one will know that the goal is reached".to_string();
        add(
            Code::NoCriteria,
            Spot::Member("acceptance_criteria"),
            message,
        );
    }
    let mut seen = HashSet::new();
    for (i, criterion) in parts.acceptance_criteria.iter().enumerate() {
        let spot = Spot::Element("acceptance_criteria", i);
        if let Some(word) = vague_word(criterion) {
            let message = format!(
                "{word:?} says nothing that could be checked: {}",
                quote(criterion)
            );
            add(Code::VagueCriterion, spot, message);
        }
        if !seen.insert(criterion.trim().to_lowercase()) {
            let message = format!("appears twice: {}", quote(criterion));
            add(Code::DuplicateCriterion, spot, message);
        }
    }
    problems
}

/// Words that sound like a criterion and are none.
const VAGUE: &[&str] = &[
    "adequate",
    "appropriate",
    "appropriately",
    "as expected",
    "as needed",
    "better",
    "clean",
    "correctly",
    "easy to use",
    "efficient",
    "efficiently",
    "elegant",
    "etc",
    "fast",
    "good",
    "gracefully",
    "high quality",
    "improved",
    "intuitive",
    "maintainable",
    "nice",
    "performant",
    "properly",
    "reasonable",
    "robust",
    "scalable",
    "seamless",
    "seamlessly",
    "smooth",
    "smoothly",
    "user friendly",
    "user-friendly",
    "well",
    "works",
];

/// The first vague word of a criterion that has nothing to hold on to: no figure, no quotation, no name of a file, a command
/// or a function.
fn vague_word(criterion: &str) -> Option<&'static str> {
    let holds = |word: &str| {
        let word =
            word.trim_matches(|c: char| matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '(' | ')'));
        word.starts_with("--") || word.contains(['/', '_', '.', '(', '='])
    };
    if criterion.contains(['`', '"', '“', '\''])
        || criterion.chars().any(|c| c.is_numeric())
        || criterion.split_whitespace().any(holds)
    {
        return None;
    }
    let lower = criterion.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '-';
    VAGUE.iter().copied().find(|vague| {
        lower.match_indices(vague).any(|(at, found)| {
            let before = lower.get(..at).unwrap_or_default();
            let after = lower.get(at + found.len()..).unwrap_or_default();
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vague_words_are_found_where_nothing_else_is_said() {
        for (criterion, word) in [
            ("The login works", Some("works")),
            ("Code is clean.", Some("clean")),
            ("It is user-friendly", Some("user-friendly")),
            ("Handles errors gracefully", Some("gracefully")),
            ("The network is up", None),
            ("A cleanup job runs", None),
            ("Works for 100 users", None),
            ("`make test` works", None),
            ("src/a.rs is clean", None),
            ("--json works", None),
            (
                "A wrong password is refused with the message \"no\", correctly",
                None,
            ),
            ("An expired token is refused", None),
        ] {
            assert_eq!(vague_word(criterion), word, "{criterion}");
        }
    }

    proptest! {
        #[test]
        fn conflicts_are_those_of_every_pair(sets in prop::collection::vec(prop::collection::vec("[ab](/[ab]){0,2}/?", 0..3), 1..5)) {
            let waves = vec![(0..sets.len()).collect::<Vec<_>>()];
            let found = write_conflicts(&waves, |at| sets.get(at));
            let meets = |a: &str, b: &str| {
                let (a, b): (Vec<_>, Vec<_>) = (parts_of(a).collect(), parts_of(b).collect());
                a.starts_with(&b) || b.starts_with(&a)
            };
            let any = (0..sets.len()).any(|i| (0..i).any(|j| sets[i].iter().any(|a| sets[j].iter().any(|b| meets(a, b)))));
            prop_assert_eq!(!found.is_empty(), any);
            for conflict in found {
                let path = |(slice, place): (usize, usize)| sets[slice][place].clone();
                prop_assert!(meets(&path(conflict.first), &path(conflict.second)));
                prop_assert!(conflict.first.0 < conflict.second.0);
            }
        }
    }
}
