//! Task lists in Markdown: a box to tick for each task.
//!
//! - spec-kit: `- [ ] T012 [P] [US1] Create the model in src/models/user.py`. The list is worked from top to bottom, phase by
//!   phase; `[P]` marks tasks that may be done at the same time as others of their phase. (templates/tasks-template.md of
//!   github/spec-kit, and lists of public repositories, read 2026-11.)
//! - OpenSpec: `- [ ] 1.2 Add the endpoint`, in numbered sections. A task may have no number, and one indented is a step of
//!   the one above. Work goes from top to bottom. (openspec/changes of Fission-AI/OpenSpec, read 2026-11.)
//!
//! In both `(depends on T012, T013)` names what must come before. A phase is what stands under a heading of the second
//! level. Code blocks and comments are passed over. The files of a task are the paths in its words: with a slash and an
//! extension, or in backticks with an extension.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::plan::finding::Code;
use crate::plan::finding::Findings;
use crate::plan::graph;
use crate::plan::validate::way_round;
use crate::runtime::text::quote;

/// What introduces the ids that a task waits for.
const WAITS: &[&str] = &["depends on", "blocked by"];

/// What says before it that there is none to wait for.
const NEGATIONS: &[&str] = &["no longer", "not", "never"];

/// What may stand between ids that a task waits for.
const LINKS: &[&str] = &["", "and", "or", "&", "+", "task", "tasks", "both"];

/// What may stand between the ends of a range.
const RANGES: &[&str] = &["-", "–", "—", "to", "..", "through"];

/// How many earlier tasks that name a file a task is held against.
const RIVALS: usize = 50;

/// One task of the list.
struct Task<'t> {
    id: &'t str,
    at: usize,
    done: bool,
    parallel: bool,
    phase: usize,
    /// The description, with the lines that continue it.
    words: String,
}

impl Task<'_> {
    /// What a message calls it.
    fn name(&self) -> &str {
        match self.id {
            "" => "a task",
            id => id,
        }
    }
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    SpecKit,
    OpenSpec,
}

impl Dialect {
    /// The id at the beginning of a text, perhaps in bold or followed by a colon, and what follows it: `T`, digits and
    /// perhaps a letter, or numbers with points between them.
    fn id_of(self, text: &str) -> Option<(&str, &str)> {
        let bare = text.trim_start_matches(['*', '`']);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let length = match self {
            Dialect::SpecKit => {
                let number = bare.strip_prefix('T')?;
                let count = digits(number);
                let next = number.get(count..)?.bytes().next();
                let letter = next.is_some_and(|byte| byte.is_ascii_lowercase());
                (count > 0).then_some(1 + count + usize::from(letter))?
            }
            Dialect::OpenSpec => {
                let mut length = digits(bare);
                let mut points = 0;
                while let Some(rest) = bare.get(length..).and_then(|rest| rest.strip_prefix('.')) {
                    match digits(rest) {
                        0 => break,
                        count => (length, points) = (length + 1 + count, points + 1),
                    }
                }
                (points > 0).then_some(length)?
            }
        };
        let (id, rest) = bare.split_at_checked(length)?;
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-') {
            return None;
        }
        Some((id, rest.trim_start_matches(['*', '`', ':'])))
    }

    /// The id that a text within a sentence begins with; a range may follow it, as in `T003-T005`.
    fn mention(self, text: &str) -> Option<&str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' && self == Dialect::OpenSpec;
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let word = text.get(..end)?.trim_end_matches('.');
        let (id, rest) = self.id_of(word)?;
        rest.is_empty().then_some(id)
    }
}

/// Whose list a text is, if it has boxes to tick: spec-kit's where a task has such an id.
pub(super) fn dialect_of(text: &str) -> Option<Dialect> {
    let mut boxes = text.lines().filter_map(boxed).peekable();
    boxes.peek()?;
    let is_spec_kit = |(_, rest): (bool, &str)| {
        // `TXXX` is the placeholder of its template.
        let rest = rest.trim_start();
        Dialect::SpecKit.id_of(rest).is_some() || rest.starts_with("TXXX")
    };
    match boxes.any(is_spec_kit) {
        true => Some(Dialect::SpecKit),
        false => Some(Dialect::OpenSpec),
    }
}

/// Whether the box is ticked, and what follows it.
fn boxed(line: &str) -> Option<(bool, &str)> {
    let item = line.trim_start();
    let item = item.strip_prefix(['-', '*', '+'])?.trim_start();
    let item = item.strip_prefix('[')?;
    let (mark, rest) = item.split_at_checked(1)?;
    let rest = rest.strip_prefix(']')?;
    match mark {
        " " => Some((false, rest)),
        "x" | "X" => Some((true, rest)),
        _ => None,
    }
}

pub(super) fn check(text: &str, dialect: Dialect) -> (usize, Findings) {
    let mut findings = Findings::default();
    let tasks = tasks(text, dialect, &mut findings);
    if tasks.is_empty() {
        let message = match dialect {
            Dialect::SpecKit => "there is no task with an id such as T001",
            Dialect::OpenSpec => "there is no task, a line such as `- [ ] 1.1 Add the endpoint`",
        };
        findings.add(Code::Empty, "", 0, message);
    }
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (i, task) in tasks.iter().enumerate() {
        if !task.id.is_empty() && by_id.insert(task.id, i).is_some() {
            let message = format!("the id {} appears twice", task.id);
            findings.add(Code::DuplicateId, task.id, task.at, message);
        }
        if task.words.trim().is_empty() {
            findings.add(
                Code::Empty,
                task.id,
                task.at,
                format!("{} does not say what to do", task.name()),
            );
        }
    }
    let edges = edges(&tasks, dialect, &by_id, &mut findings);
    let id = |at: usize| tasks.get(at).map_or("", |task| task.id);
    let circle = graph::levels(tasks.len(), &edges).err().unwrap_or_default();
    if let Some(first) = circle.first().and_then(|first| tasks.get(*first)) {
        let message = format!("cycle: {}", way_round(&circle, id));
        findings.add(Code::Cycle, first.id, first.at, message);
    }
    for &(before, after) in &edges {
        let (Some(other), Some(task)) = (tasks.get(before), tasks.get(after)) else {
            continue;
        };
        // Within a circle there is no order to keep.
        if before > after && !(circle.contains(&before) && circle.contains(&after)) {
            let message = format!("{} depends on {}, which comes later", task.id, other.id);
            findings.add(Code::Order, task.id, task.at, message);
        }
        if task.done && !other.done {
            let message = format!(
                "{} is ticked and depends on {}, which is not",
                task.id, other.id
            );
            findings.add(Code::DoneTooEarly, task.id, task.at, message);
        }
    }
    conflicts(&tasks, &edges, &mut findings);
    (tasks.len(), findings)
}

fn tasks<'t>(text: &'t str, dialect: Dialect, findings: &mut Findings) -> Vec<Task<'t>> {
    let mut tasks: Vec<Task<'t>> = Vec::new();
    let (mut at, mut phase) = (0, 0);
    let mut fence: Option<&str> = None;
    let mut in_comment = false;
    // Whether the lines that are indented continue a task.
    let mut open = false;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let trimmed = line.trim();
        if let Some(mark) = fence {
            if trimmed.starts_with(mark) {
                fence = None;
            }
            continue;
        }
        if in_comment {
            in_comment = !line.contains("-->");
            continue;
        }
        if let Some(mark) = ["```", "~~~"]
            .into_iter()
            .find(|mark| trimmed.starts_with(mark))
        {
            fence = Some(mark);
            continue;
        }
        if let Some((_, comment)) = line.split_once("<!--")
            && boxed(line).is_none()
        {
            in_comment = !comment.contains("-->");
            continue;
        }
        if trimmed.starts_with("## ") {
            phase += 1;
        }
        let Some((done, rest)) = boxed(line) else {
            let continues = open && line.starts_with([' ', '\t']) && !trimmed.is_empty();
            if let Some(task) = tasks.last_mut().filter(|_| continues) {
                task.words.push(' ');
                task.words.push_str(trimmed);
            } else {
                open = false;
            }
            continue;
        };
        let spot = start + (line.len() - line.trim_start().len());
        let with_id = dialect.id_of(rest.trim_start());
        match with_id.or((dialect == Dialect::OpenSpec).then_some(("", rest))) {
            Some((id, rest)) => {
                let (parallel, words) = match dialect {
                    Dialect::SpecKit => labels(rest),
                    Dialect::OpenSpec => (false, rest),
                };
                open = true;
                tasks.push(Task {
                    id,
                    at: spot,
                    done,
                    parallel,
                    phase,
                    words: words.trim().to_string(),
                });
            }
            None => {
                open = false;
                let message = format!("no id such as T001: {}", quote(rest.trim()));
                findings.add(Code::NoId, "", spot, message);
            }
        }
    }
    tasks
}

/// Whether `[P]` is among the labels, and what follows them.
fn labels(text: &str) -> (bool, &str) {
    let mut rest = text.trim_start();
    let mut parallel = false;
    while let Some((label, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // A link begins with a bracket too.
        if after.starts_with('(') {
            break;
        }
        parallel |= label == "P";
        rest = after.trim_start();
    }
    (parallel, rest)
}

/// Pairs of places: the first must be done before the second.
fn edges(
    tasks: &[Task<'_>],
    dialect: Dialect,
    by_id: &HashMap<&str, usize>,
    findings: &mut Findings,
) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        for id in waits_for(&task.words, dialect, tasks) {
            match by_id.get(id.as_str()) {
                None => {
                    let message =
                        format!("{} depends on {id}, and there is no such task", task.name());
                    findings.add(Code::UnknownDependency, task.id, task.at, message);
                }
                Some(before) if *before == i => {
                    let message = format!("{} waits for itself", task.id);
                    findings.add(Code::SelfDependency, task.id, task.at, message);
                }
                Some(before) => edges.push((*before, i)),
            }
        }
    }
    edges
}

/// The ids after `depends on`, as far as nothing but links and ranges stands between them: what another word introduces, as
/// in `see T010`, is no dependency, nor is one of which more is said, as in `T012 dependency removed`. `T003-T005` is every
/// task between the two.
fn waits_for(words: &str, dialect: Dialect, tasks: &[Task<'_>]) -> Vec<String> {
    let lower = words.to_ascii_lowercase();
    let mut ids: Vec<String> = Vec::new();
    for wait in WAITS {
        for (at, found) in lower.match_indices(wait) {
            let before = lower.get(..at).unwrap_or_default().trim_end();
            if NEGATIONS.iter().any(|negation| before.ends_with(negation)) {
                continue;
            }
            let mut rest = words.get(at + found.len()..).unwrap_or_default();
            let mut last: Option<&str> = None;
            // Up to the next id, then the id.
            while let Some((start, id)) = next_mention(rest, dialect) {
                let link = rest.get(..start).unwrap_or_default();
                let link = link.trim_matches(|c: char| c.is_whitespace() || ",:*`[]/".contains(c));
                let is_range = last.is_some() && RANGES.contains(&link);
                let after = rest.get(start + id.len()..).unwrap_or_default();
                let is_linked = is_range || LINKS.contains(&link.to_ascii_lowercase().as_str());
                if !is_linked || says_more(after, last.is_none()) {
                    break;
                }
                if let Some(first) = last.filter(|_| is_range) {
                    ids.extend(between(first, id, tasks));
                }
                ids.push(id.to_string());
                last = Some(id);
                rest = after;
            }
        }
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids
}

/// The next id in a text, at the beginning of a word.
fn next_mention(text: &str, dialect: Dialect) -> Option<(usize, &str)> {
    let mut before = ' ';
    text.char_indices().find_map(|(at, c)| {
        let begins = c.is_ascii_alphanumeric() && !before.is_alphanumeric() && before != '_';
        before = c;
        let id = text.get(at..).filter(|_| begins)?;
        Some((at, dialect.mention(id)?))
    })
}

/// Whether the sentence goes on about the id, so that it is not just one of a list. Of the first id much may be said.
fn says_more(after: &str, is_first: bool) -> bool {
    let after = after.trim_start_matches([' ', '*', '`', ']']);
    let word = after.split(|c: char| !c.is_alphabetic()).next();
    let word = word.unwrap_or_default();
    match is_first {
        true => after.starts_with("dependency removed"),
        false => !LINKS.contains(&word) && !RANGES.contains(&word),
    }
}

/// The tasks whose numbers lie between two.
fn between(first: &str, last: &str, tasks: &[Task<'_>]) -> Vec<String> {
    let numbers = |id: &str| -> Option<Vec<u64>> {
        let digits = id.trim_start_matches('T');
        let digits = digits.trim_end_matches(|c: char| c.is_ascii_lowercase());
        digits.split('.').map(|part| part.parse().ok()).collect()
    };
    let (Some(first), Some(last)) = (numbers(first), numbers(last)) else {
        return Vec::new();
    };
    let inside = |task: &&Task<'_>| numbers(task.id).is_some_and(|n| first < n && n < last);
    let inside = tasks.iter().filter(inside);
    inside.map(|task| task.id.to_string()).collect()
}

/// Tasks of one phase that may be done at the same time, name the same file, and do not wait for each other. A task is held
/// against the last [`RIVALS`] before it that name the file.
fn conflicts(tasks: &[Task<'_>], edges: &[(usize, usize)], findings: &mut Findings) {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    for (from, to) in edges {
        if let Some(list) = before.get_mut(*to) {
            list.push(*from);
        }
    }
    let mut writers: HashMap<(usize, String), Vec<usize>> = HashMap::new();
    for (i, task) in tasks.iter().enumerate().filter(|(_, task)| task.parallel) {
        let mut awaited: Option<HashSet<usize>> = None;
        for path in paths(&task.words) {
            let all = writers.entry((task.phase, path.clone())).or_default();
            let rival = all.iter().rev().take(RIVALS).copied().find(|other| {
                let done = task.done && tasks.get(*other).is_some_and(|other| other.done);
                let awaited = awaited.get_or_insert_with(|| ancestors(&before, i));
                !done && !awaited.contains(other)
            });
            if let Some(rival) = rival.and_then(|rival| tasks.get(rival)) {
                let message = format!(
                    "{} and {} are both [P] and both name {}",
                    rival.id,
                    task.id,
                    quote(&path)
                );
                findings.add(Code::WriteConflict, task.id, task.at, message);
            }
            all.push(i);
        }
    }
}

/// Everything that must be done before a task.
fn ancestors(before: &[Vec<usize>], task: usize) -> HashSet<usize> {
    let (mut reached, mut open) = (HashSet::new(), vec![task]);
    while let Some(node) = open.pop() {
        for from in before.get(node).into_iter().flatten() {
            if reached.insert(*from) {
                open.push(*from);
            }
        }
    }
    reached
}

/// The files that a description names, each once.
fn paths(words: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        let word = word.trim_matches(|c: char| {
            matches!(c, '(' | ')' | ',' | ';' | ':' | '"' | '\'' | '.' | '*')
        });
        let bare = word.trim_matches('`');
        let named = bare.contains('/') || word.starts_with('`');
        let last = bare.rsplit('/').next().unwrap_or_default();
        let extension = last.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_path = named
            && (1..=10).contains(&extension.len())
            && extension.chars().all(|c| c.is_ascii_alphanumeric())
            && !bare.contains("://")
            && !bare.contains(['[', ']', '<', '>', '*', '{', '}', '(', ')', '=']);
        let path = bare.trim_start_matches("./").to_string();
        if is_path && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}
