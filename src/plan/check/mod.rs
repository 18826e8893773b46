//! Somebody's plan, looked at without asking anyone: what spoils it and what makes it doubtful.
//!
//! Deterministic and offline. It knows plans of our own (`omk.plan/1`, and what a model answers), `tasks.json` of
//! task-master and task lists of spec-kit in Markdown, told apart by what is in the text and never by its name. Each is
//! held to what its own tool says of it: where a format has no word for something, such as the files that a task of
//! task-master writes, nothing is reported missing. It refuses to judge the work itself; a vague criterion is found by its
//! words, in English, and is therefore a warning.

mod spec_kit;
mod task_master;

use crate::plan::document::PlanDocument;
use crate::plan::finding::Findings;
use crate::plan::read;
use crate::plan::read::Reader;
use crate::plan::validate::doubts;
use crate::runtime::json;
use crate::runtime::json::Node;
use crate::runtime::json::Wants;

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
    let is_json = text
        .trim_start_matches(['\u{feff}', ' ', '\t', '\n', '\r'])
        .starts_with('{');
    // Markdown with boxes to tick is a task list, unless it begins as an answer of a model does.
    if !is_json && spec_kit::has_boxes(text) {
        return Checked::of(PlanFormat::SpecKit, spec_kit::check(text));
    }
    match json::find(text, Wants::Object) {
        Ok(node) if task_master::is_one(&node) => {
            Checked::of(PlanFormat::TaskMaster, task_master::check(&node))
        }
        Ok(node) => Checked::of(PlanFormat::Omk, omk(text, &node)),
        Err(error) => Checked::of(PlanFormat::Omk, (0, read::broken(error))),
    }
}

impl Checked {
    fn of(format: PlanFormat, (items, findings): (usize, Findings)) -> Checked {
        Checked {
            format,
            items,
            findings: findings.sorted(),
        }
    }
}

fn omk(text: &str, node: &Node) -> (usize, Findings) {
    let items = node.get("slices").map_or(0, |slices| slices.items().len());
    let (document, findings) = PlanDocument::read(text, node);
    let mut reader = Reader { findings };
    for doubt in document.iter().flat_map(|document| doubts(&document.plan)) {
        reader.note(node, doubt.code, doubt.spot, doubt.message);
    }
    (items, reader.findings)
}

#[cfg(test)]
mod tests;
