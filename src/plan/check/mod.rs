//! Somebody's plan, looked at without asking anyone: what spoils it and what makes it doubtful.
//!
//! Deterministic and offline. It knows plans of our own (`omk.plan/1`, and what a model answers), `tasks.json` of
//! task-master and task lists of spec-kit in Markdown, told apart by what is in the text and never by its name. Each is
//! held to what its own tool says of it: where a format has no word for something, such as the files that a task of
//! task-master writes, nothing is reported missing. It refuses to judge the work itself; a vague criterion is found by its
//! words, in English, and is therefore a warning.

mod spec_kit;
mod task_master;

use std::collections::HashSet;

use crate::plan::document::PlanDocument;
use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::finding::element;
use crate::plan::finding::member;
use crate::plan::finding::quote;
use crate::plan::json::Json;
use crate::plan::json::Node;
use crate::plan::model::Difficulty;
use crate::plan::model::GoalKind;
use crate::plan::model::Plan;
use crate::plan::read;
use crate::plan::read::Wants;

/// Whose plan it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanFormat {
    /// `omk.plan/1`, or what a model answers.
    Omk,
    /// `tasks.json` of task-master, with tags or without.
    TaskMaster,
    /// `tasks.md` of spec-kit.
    SpecKit,
}

impl PlanFormat {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            PlanFormat::Omk => "omk",
            PlanFormat::TaskMaster => "task-master",
            PlanFormat::SpecKit => "spec-kit",
        }
    }
}

/// What came of a look at a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it was taken for.
    pub format: PlanFormat,
    /// How many slices or tasks it has, as far as that could be read.
    pub items: usize,
    /// What was found, in the order of the text.
    pub findings: Findings,
}

/// Looks at a plan.
pub fn check(text: &str) -> Checked {
    let format = format_of(text);
    let (items, findings) = match format {
        PlanFormat::Omk => omk(text),
        PlanFormat::TaskMaster => task_master::check(text),
        PlanFormat::SpecKit => spec_kit::check(text),
    };
    Checked {
        format,
        items,
        findings: findings.sorted(),
    }
}

/// What a text is. JSON with tasks is task-master's, any other JSON is ours; Markdown with boxes to tick is spec-kit's
/// unless there is a JSON object in it, which an answer with prose around it has.
fn format_of(text: &str) -> PlanFormat {
    let is_json = text
        .trim_start_matches(['\u{feff}', ' ', '\t', '\n', '\r'])
        .starts_with('{');
    if !is_json && spec_kit::has_boxes(text) {
        return PlanFormat::SpecKit;
    }
    match read::extract(text, Wants::Object) {
        Ok(node) if task_master::is_one(&node) => PlanFormat::TaskMaster,
        _ => PlanFormat::Omk,
    }
}

fn omk(text: &str) -> (usize, Findings) {
    let (document, mut findings) = PlanDocument::read(text);
    let Ok(node) = read::extract(text, Wants::Object) else {
        return (0, findings);
    };
    let slices = find(&node, "slices");
    let items = slices.map_or(0, |node| elements(node).len());
    if let Some(document) = document {
        doubts(&document.plan, &node, &mut findings);
    }
    (items, findings)
}

/// What is doubtful about a plan that can be carried out.
fn doubts(plan: &Plan, node: &Node, findings: &mut Findings) {
    let parts = plan.parts();
    let at = |key: &str| find(node, key).map_or(node.at, |node| node.at);
    let within = |key: &str, i: usize| {
        let list = find(node, key).map(elements).unwrap_or_default();
        list.get(i).map_or(at(key), |node| node.at)
    };
    if parts.goal_text.trim().is_empty() {
        findings.add(
            Code::NoGoal,
            member("$", "goal_text"),
            at("goal_text"),
            "the plan does not say what it is for",
        );
    }
    match &parts.suggested_refinement {
        Some(better) => {
            let path = member("$", "suggested_refinement");
            let message = format!("the goal is vague; it suggests {}", quote(better));
            findings.add(Code::VagueGoal, path, at("suggested_refinement"), message);
        }
        None if plan.is_vague() => {
            let message = "the goal is vague, and no refinement is suggested";
            findings.add(Code::VagueGoal, member("$", "kind"), at("kind"), message);
        }
        None => {}
    }
    if parts.is_testable == Some(false) {
        let message = "by its own word no test could show that the goal is reached";
        findings.add(
            Code::NotTestable,
            member("$", "is_testable"),
            at("is_testable"),
            message,
        );
    }
    for (i, slice) in parts.slices.iter().enumerate() {
        let path = element(&member("$", "slices"), i);
        // Who audits looks and changes nothing.
        if slice.write_set().is_empty() && parts.kind != GoalKind::Audit {
            let message = format!("{} does not say which files it writes", quote(slice.id()));
            findings.add(
                Code::NoWriteSet,
                path.as_str(),
                within("slices", i),
                message,
            );
        }
        if slice.estimated_difficulty() == Difficulty::Complex {
            let message = format!("{} is complex: cut it again", quote(slice.id()));
            findings.add(
                Code::TooComplex,
                member(&path, "estimated_difficulty"),
                within("slices", i),
                message,
            );
        }
    }
    let path = member("$", "acceptance_criteria");
    if parts.acceptance_criteria.is_empty() {
        let message = "nothing says how one will know that the goal is reached";
        findings.add(
            Code::NoCriteria,
            path.as_str(),
            at("acceptance_criteria"),
            message,
        );
    }
    let mut seen = HashSet::new();
    for (i, criterion) in parts.acceptance_criteria.iter().enumerate() {
        let (path, at) = (element(&path, i), within("acceptance_criteria", i));
        if let Some(word) = vague_word(criterion) {
            let message = format!(
                "{word:?} says nothing that could be checked: {}",
                quote(criterion)
            );
            findings.add(Code::VagueCriterion, path.as_str(), at, message);
        }
        if !seen.insert(criterion.trim().to_lowercase()) {
            findings.add(
                Code::DuplicateCriterion,
                path,
                at,
                format!("stands twice: {}", quote(criterion)),
            );
        }
    }
}

/// The value of a member of an object.
fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.json {
        Json::Object(members) => members
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.value),
        _ => None,
    }
}

/// The elements of an array; none of anything else.
fn elements(node: &Node) -> &[Node] {
    match &node.json {
        Json::List(list) => list,
        _ => &[],
    }
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
mod tests;
