//! `tasks.json` of task-master: tasks with subtasks, in one list or in one for each tag.
//!
//! Ids are whole numbers or texts. A dependency of a task is an id; of a subtask it is the number of a sibling, or else an
//! id such as `3` or `3.1`. Lists of different tags know nothing of each other. (docs/task-structure.md and the files of
//! public repositories, read 2026-11.)

use std::collections::HashMap;

use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::graph;
use crate::plan::read::Fields;
use crate::plan::read::Reader;
use crate::plan::validate::way_round;
use crate::runtime::json::Json;
use crate::runtime::json::Node;
use crate::runtime::json::element;
use crate::runtime::json::member;
use crate::runtime::text::quote;

/// Every status that its versions know.
const STATUSES: &[&str] = &[
    "pending",
    "in-progress",
    "done",
    "completed",
    "review",
    "deferred",
    "cancelled",
    "blocked",
    "todo",
];

/// Whether a value looks like such a file: tasks at the top, or below every tag that is an object. The tasks of an editor,
/// as in `.vscode/tasks.json`, have neither an id nor a title.
pub(super) fn is_one(node: &Node) -> bool {
    if node.get("slices").is_some() || node.get("schema").is_some() {
        return false;
    }
    let holds_tasks = |node: &Node| match node.get("tasks") {
        Some(tasks) if matches!(tasks.json, Json::List(_)) => {
            let is_task = |task: &Node| task.get("id").is_some() || task.get("title").is_some();
            let is_empty = tasks.items().is_empty() && node.get("version").is_none();
            is_empty || tasks.items().iter().any(is_task)
        }
        _ => false,
    };
    match &node.json {
        Json::Object(members) => {
            holds_tasks(node) || members.iter().any(|member| holds_tasks(&member.value))
        }
        _ => false,
    }
}

pub(super) fn check(node: &Node) -> (usize, Findings) {
    let mut reader = Reader::default();
    reader.find_duplicate_keys(node);
    let mut items = 0;
    if let Some(tasks) = node.get("tasks") {
        items += list(&mut reader, tasks, &member("$", "tasks"));
    } else if let Some(fields) = reader.fields(node, "$") {
        for tag in fields.members() {
            if let Some(tasks) = tag.value.get("tasks") {
                items += list(&mut reader, tasks, &member(&member("$", &tag.key), "tasks"));
            }
        }
    }
    (items, reader.findings)
}

/// A task or a subtask.
struct Task {
    /// `3`, or `3.1` for a subtask.
    id: String,
    /// The id of its task, for a subtask.
    parent: Option<String>,
    path: String,
    at: usize,
    status: String,
    dependencies: Vec<(String, String, usize)>,
}

impl Task {
    fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "done" | "completed" | "cancelled")
    }
}

/// Looks at the tasks of one list; says how many there are, subtasks included.
fn list(reader: &mut Reader, node: &Node, path: &str) -> usize {
    let Some(nodes) = reader.list(node, path) else {
        return 0;
    };
    if nodes.is_empty() {
        reader
            .findings
            .add(Code::Empty, path, node.at, "there is no task");
    }
    let mut tasks = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let path = element(path, i);
        let id = task(reader, node, &path, None, &mut tasks);
        let Some(subtasks) = node.get("subtasks").filter(|node| node.json != Json::Null) else {
            continue;
        };
        let path = member(&path, "subtasks");
        if reader.list(subtasks, &path).is_some() {
            for (i, node) in subtasks.items().iter().enumerate() {
                task(reader, node, &element(&path, i), id.as_deref(), &mut tasks);
            }
        }
    }
    graph(reader, path, &tasks);
    tasks.len()
}

/// Reads one task and looks at everything that does not take the others.
fn task(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    parent: Option<&str>,
    tasks: &mut Vec<Task>,
) -> Option<String> {
    let fields = reader.fields(node, path)?;
    let own = reader.required(&fields, "id", id)?;
    let id = match parent {
        // A subtask may spell its whole id out.
        Some(parent) if !own.starts_with(&format!("{parent}.")) => format!("{parent}.{own}"),
        _ => own,
    };
    let title = reader.required(&fields, "title", Reader::words);
    let says = |key: &str| matches!(fields.get(key).map(|node| &node.json), Some(Json::Text(text)) if !text.trim().is_empty());
    let status = reader
        .optional(&fields, "status", Reader::text)
        .unwrap_or_else(|| "pending".to_string());
    if !STATUSES.contains(&status.as_str()) {
        let message = format!(
            "expected one of {}, found {}",
            STATUSES.join(", "),
            quote(&status)
        );
        let at = fields.get("status").map_or(node.at, |node| node.at);
        reader
            .findings
            .add(Code::UnknownWord, member(path, "status"), at, message);
    }
    let task = Task {
        dependencies: dependencies(reader, &fields),
        id: id.clone(),
        parent: parent.map(str::to_string),
        path: path.to_string(),
        at: node.at,
        status,
    };
    let named = format!("task {} {}", task.id, quote(&title.unwrap_or_default()));
    if !says("description") && !says("details") {
        let message = format!("{named} has neither a description nor details");
        reader
            .findings
            .add(Code::NoDescription, path, node.at, message);
    }
    if parent.is_none() && !task.is_done() && !says("testStrategy") && !says("acceptanceCriteria") {
        let message = format!("{named} has no testStrategy");
        reader
            .findings
            .add(Code::NoCriteria, path, node.at, message);
    }
    tasks.push(task);
    Some(id)
}

fn id(reader: &mut Reader, node: &Node, path: &str) -> Option<String> {
    match &node.json {
        Json::Number(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.clone())
        }
        Json::Text(_) => reader.words(node, path).map(|id| id.trim().to_string()),
        _ => {
            reader.wrong_type(node, path, "an id, a whole number or a text");
            None
        }
    }
}

/// The dependencies as they are written, each with its path and offset.
fn dependencies(reader: &mut Reader, fields: &Fields<'_>) -> Vec<(String, String, usize)> {
    let path = member(&fields.path, "dependencies");
    let Some(list) = fields
        .get("dependencies")
        .and_then(|node| reader.list(node, &path))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (i, node) in list.iter().enumerate() {
        let path = element(&path, i);
        if let Some(id) = id(reader, node, &path) {
            found.push((id, path, node.at));
        }
    }
    found
}

fn graph(reader: &mut Reader, path: &str, tasks: &[Task]) {
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (i, task) in tasks.iter().enumerate() {
        if let Some(first) = by_id
            .get(task.id.as_str())
            .and_then(|first| tasks.get(*first))
        {
            let message = format!("the id {} is that of {} too", quote(&task.id), first.path);
            reader.findings.add(
                Code::DuplicateId,
                member(&task.path, "id"),
                task.at,
                message,
            );
        } else {
            by_id.insert(&task.id, i);
        }
    }
    let mut edges = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        for (id, path, at) in &task.dependencies {
            let sibling = task.parent.as_ref().map(|parent| format!("{parent}.{id}"));
            let found = sibling
                .and_then(|id| by_id.get(id.as_str()))
                .or_else(|| by_id.get(id.as_str()));
            let Some(&before) = found else {
                let message = format!(
                    "{} depends on {}, and there is no such task",
                    task.id,
                    quote(id)
                );
                reader
                    .findings
                    .add(Code::UnknownDependency, path.as_str(), *at, message);
                continue;
            };
            let Some(other) = tasks.get(before) else {
                continue;
            };
            if before == i || task.parent.as_ref() == Some(&other.id) {
                let message = match before == i {
                    true => format!("{} waits for itself", task.id),
                    false => format!("{} waits for the task that it is a part of", task.id),
                };
                reader
                    .findings
                    .add(Code::SelfDependency, path.as_str(), *at, message);
                continue;
            }
            edges.push((before, i));
            if matches!(task.status.as_str(), "done" | "completed") && !other.is_done() {
                let message = format!(
                    "{} is {} and depends on {}, which is {}",
                    task.id,
                    task.status,
                    other.id,
                    quote(&other.status)
                );
                reader
                    .findings
                    .add(Code::DoneTooEarly, path.as_str(), *at, message);
            }
        }
    }
    if let Err(circle) = graph::levels(tasks.len(), &edges) {
        let id = |at: usize| tasks.get(at).map_or("", |task| task.id.as_str());
        let at = circle
            .first()
            .and_then(|first| tasks.get(*first))
            .map_or(0, |task| task.at);
        reader.findings.add(
            Code::Cycle,
            path,
            at,
            format!("cycle: {}", way_round(&circle, id)),
        );
    }
}
