//! Somebody's plan, looked at without asking anyone: what spoils it and what makes it doubtful.
//!
//! Deterministic and offline. It knows plans of our own (`omk.plan/1`, and what a model answers), `tasks.json` of
//! task-master and task lists of spec-kit and OpenSpec, told apart by what is in the text and never by its name. Each is
//! held to what its own tool says of it: where a format has no word for something, such as the files that a task of
//! task-master writes, nothing is reported missing. It refuses to judge the work itself; a vague criterion is found by its
//! words, in English, and is therefore a warning.

mod task_list;
mod task_master;

use crate::plan::check::task_list::Dialect;
use crate::plan::document::PlanDocument;
use crate::plan::finding::Findings;
use crate::plan::read;
use crate::plan::read::Reader;
use crate::plan::validate::doubts;
use crate::runtime::json;
use crate::runtime::json::Node;
use crate::runtime::json::Wants;
use crate::runtime::words::words;

words! {
    /// Whose plan it is.
    PlanFormat, "format" {
        /// `omk.plan/1`, or what a model answers.
        Omk = "omk",
        /// `tasks.json` of task-master, with tags or without.
        TaskMaster = "task-master",
        /// `tasks.md` of spec-kit.
        SpecKit = "spec-kit",
        /// `tasks.md` of an OpenSpec change, or any other list of boxes to tick.
        OpenSpec = "openspec",
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

/// Looks at a plan of whatever format.
pub fn check(text: &str) -> Checked {
    let is_json = text
        .trim_start_matches(['\u{feff}', ' ', '\t', '\n', '\r'])
        .starts_with('{');
    // Markdown with boxes to tick is a task list, unless it begins as an answer of a model does.
    let dialect = task_list::dialect_of(text).filter(|_| !is_json);
    if let Some(dialect) = dialect {
        let format = match dialect {
            Dialect::SpecKit => PlanFormat::SpecKit,
            Dialect::OpenSpec => PlanFormat::OpenSpec,
        };
        return Checked::of(format, task_list::check(text, dialect));
    }
    match json::find(text, Wants::Object) {
        Ok(node) if task_master::is_one(&node) => {
            Checked::of(PlanFormat::TaskMaster, task_master::check(&node))
        }
        Ok(node) => Checked::of(PlanFormat::Omk, omk(text, &node)),
        Err(error) => Checked::of(PlanFormat::Omk, (0, read::broken(error))),
    }
}

/// Looks at a plan of a format that the caller knows.
pub fn check_as(text: &str, format: PlanFormat) -> Checked {
    let json = |check: &dyn Fn(&Node) -> (usize, Findings)| match json::find(text, Wants::Object) {
        Ok(node) => check(&node),
        Err(error) => (0, read::broken(error)),
    };
    let found = match format {
        PlanFormat::Omk => json(&|node| omk(text, node)),
        PlanFormat::TaskMaster => json(&task_master::check),
        PlanFormat::SpecKit => task_list::check(text, Dialect::SpecKit),
        PlanFormat::OpenSpec => task_list::check(text, Dialect::OpenSpec),
    };
    Checked::of(format, found)
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
