//! What an agent may do without asking anyone.
//!
//! Rules name tools, and narrow them to commands or files by a pattern. Agents call the same tool by different names, so
//! names are compared by what they mean. A pattern for commands is compared with the whole command and never lets a second
//! one through, nor what a program is known to run by its options ([`shell`]). A pattern for files is compared with the real
//! path of each file, links resolved ([`path`]). Files that something runs by itself, that hold keys, or that omk and the
//! agent keep for themselves need a rule that names them exactly. Questions are never answered and plans never approved,
//! whatever is allowed.
//!
//! This decides what an agent *asks* for. What it does without asking, and what a command that was allowed goes on to do, is
//! beyond it: a pattern is not a sandbox.

mod path;
mod shell;

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::llm::types::Denial;
use crate::llm::types::DenialKind;
use crate::transport::agent::Answer;
use crate::transport::agent::Asked;
use crate::transport::agent::Permission;
use crate::transport::agents::common_tool;

use path::Pattern;
pub use path::Place;

/// What a denied tool is told. With a reason agents go on without the tool; without one, some end the turn.
const DENIED: &str = "This tool is not permitted here. Go on without it.";
/// The arguments that name the file of a tool.
const PATH_ARGUMENTS: [&str; 4] = ["path", "file_path", "filePath", "notebook_path"];

/// What an agent may do without asking anyone. It covers tools alone: no permission answers a question or approves a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Nothing that it has to ask for.
    #[default]
    Nothing,
    /// What one of these rules allows.
    Tools(Vec<Rule>),
    /// Every tool.
    All,
}

impl Permissions {
    /// The permissions of some rules, of which one may be `all`.
    pub fn of(rules: Vec<Rule>) -> Permissions {
        if rules.is_empty() {
            Permissions::Nothing
        } else if rules
            .iter()
            .any(|rule| rule.tool == "all" && rule.pattern.is_none())
        {
            Permissions::All
        } else {
            Permissions::Tools(rules)
        }
    }

    fn allows(&self, permission: &Permission, place: &Place) -> bool {
        match self {
            Permissions::Nothing => false,
            Permissions::Tools(rules) => rules.iter().any(|rule| rule.allows(permission, place)),
            // What omk and the agent keep for themselves is not a tool's business even then.
            Permissions::All => !files(permission)
                .iter()
                .filter_map(|path| place.real(path))
                .any(|real| place.is_protected(&real)),
        }
    }

    /// Allows more.
    pub(super) fn add(&mut self, more: Vec<Rule>) {
        match self {
            Permissions::Nothing => *self = Permissions::Tools(more),
            // What that does not cover belongs to omk or to the agent, and is decided on each time.
            Permissions::All => {}
            Permissions::Tools(rules) => rules.extend(more),
        }
    }

    /// The rule that allows this, as it was written.
    pub(super) fn rule_for(&self, permission: &Permission, place: &Place) -> Option<String> {
        match self {
            Permissions::Nothing => None,
            Permissions::All => Some("all".to_string()),
            Permissions::Tools(rules) => {
                let rule = rules.iter().find(|rule| rule.allows(permission, place))?;
                Some(rule.to_string())
            }
        }
    }

    /// Whether an agent may be given a file to read: one of the work directory that holds no keys, or one that a rule is
    /// about. Rules with patterns for files of the work directory are all that may be read of it.
    fn lets_read(&self, path: &str, place: &Place) -> bool {
        let Some(real) = place.real(path) else {
            return false;
        };
        let none = Vec::new();
        let rules = match self {
            Permissions::Tools(rules) => rules,
            Permissions::Nothing | Permissions::All => &none,
        };
        let mut is_allowed = matches!(self, Permissions::All);
        let mut is_narrowed = false;
        for rule in rules {
            if !reads(&rule.tool) && !writes(&rule.tool) {
                continue;
            }
            let Some(text) = &rule.pattern else {
                is_allowed |= reads(&rule.tool);
                continue;
            };
            let Some(pattern) = Pattern::new(text, place) else {
                continue;
            };
            if pattern.matches(&real) {
                if pattern.is_exact {
                    return true;
                }
                is_allowed = true;
            }
            is_narrowed |= reads(&rule.tool) && pattern.is_inside;
        }
        !place.is_secret(&real) && (is_allowed || (place.holds(&real) && !is_narrowed))
    }

    /// Whether a tool that changes things may run without having asked: some rule has to be about it.
    pub(super) fn covers(&self, tool: &str) -> bool {
        match self {
            Permissions::All => true,
            Permissions::Nothing => false,
            Permissions::Tools(rules) => rules
                .iter()
                .any(|rule| common_tool(&rule.tool) == common_tool(tool)),
        }
    }

    /// The decision on an ask, with the record of it if it is a no.
    pub(super) fn decide(&self, what: &Asked, place: &Place) -> (Answer, Option<Denial>) {
        let refusal = Answer::Deny { reason: None };
        let denial = |kind, tool: &str, detail: &str| {
            Some(Denial {
                kind,
                tool: tool.to_string(),
                detail: detail.to_string(),
                rule: None,
            })
        };
        match what {
            Asked::Permission(permission) => self.decide_tool(permission, place),
            Asked::ReadFile { path, tool } => {
                if self.lets_read(path, place) {
                    return (Answer::Allow, None);
                }
                let permission = Permission {
                    tool: tool.clone().unwrap_or_else(|| "Read".to_string()),
                    action: format!("Reading {path}"),
                    paths: vec![path.clone()],
                    ..Permission::default()
                };
                let mut denied = denied(&permission, place);
                // Whichever tool needs the content, reading is what was refused.
                denied.rule = narrowest("Read", &permission, place);
                (denied_answer(), Some(denied))
            }
            Asked::WriteFile {
                permission,
                approved,
                ..
            } => {
                let is_plain = permission.paths.iter().all(|path| place.is_plain(path));
                // A person may have approved what no rule is about. But a link may have been put in the way since.
                if *approved && is_plain {
                    return (Answer::Allow, None);
                }
                self.decide_tool(permission, place)
            }
            // A reason would have the plan revised and shown again.
            Asked::Plan { text } => (refusal, denial(DenialKind::Plan, "", text)),
            Asked::Questions(questions) => {
                let detail = questions.join("; ");
                (refusal, denial(DenialKind::Question, "", &detail))
            }
        }
    }

    fn decide_tool(&self, permission: &Permission, place: &Place) -> (Answer, Option<Denial>) {
        match self.allows(permission, place) {
            true => (Answer::Allow, None),
            false => (denied_answer(), Some(denied(permission, place))),
        }
    }
}

impl Place {
    /// An ask for a file with its real path, which is the one that was decided on; `None` for any other.
    pub(super) fn resolved(&self, what: &Asked) -> Option<Asked> {
        let real = |path: &String| match self.real(path) {
            Some(real) => real.to_string_lossy().into_owned(),
            None => path.clone(),
        };
        match what {
            Asked::ReadFile { path, tool } => Some(Asked::ReadFile {
                path: real(path),
                tool: tool.clone(),
            }),
            Asked::WriteFile {
                permission,
                content,
                approved,
            } => Some(Asked::WriteFile {
                permission: Permission {
                    paths: permission.paths.iter().map(real).collect(),
                    ..permission.clone()
                },
                content: content.clone(),
                approved: *approved,
            }),
            _ => None,
        }
    }
}

fn denied_answer() -> Answer {
    Answer::Deny {
        reason: Some(DENIED.to_string()),
    }
}

/// The record of a denial, with the narrowest rule that would have allowed it.
fn denied(permission: &Permission, place: &Place) -> Denial {
    Denial {
        kind: DenialKind::Tool,
        tool: permission.tool.clone(),
        detail: permission.action.clone(),
        rule: narrowest(&permission.tool, permission, place),
    }
}

/// The narrowest rule that allows this, if one with a pattern does; for a tool without commands and files its name.
fn narrowest(tool: &str, permission: &Permission, place: &Place) -> Option<String> {
    let rules: Vec<Rule> = if common_tool(tool) == "bash" {
        let pattern = shell::narrowest(permission.command.as_deref()?)?;
        vec![Rule::new(tool, Some(&pattern)).ok()?]
    } else {
        let mut rules = Vec::new();
        for path in files(permission) {
            let shown = place.shown(&place.real(&path)?);
            rules.push(Rule::new(tool, Some(&shown)).ok()?);
        }
        if rules.is_empty() && !reads(tool) && !writes(tool) {
            rules.push(Rule::new(tool, None).ok()?);
        }
        rules
    };
    let shown: Vec<String> = rules.iter().map(Rule::to_string).collect();
    let shown = shown.join(",");
    // Only what is read back as the same rules.
    let is_exact = |rule: &Rule| {
        rule.pattern
            .as_ref()
            .is_none_or(|p| !p.contains(['*', '?']))
    };
    let reads_back = Rule::parse_list(&shown).is_ok_and(|read| read == rules);
    (!rules.is_empty() && reads_back && rules.iter().all(is_exact)).then_some(shown)
}

/// The files that a tool is about: those that were told, and those that its arguments name.
fn files(permission: &Permission) -> Vec<String> {
    let mut files = permission.paths.clone();
    let arguments = permission.arguments.as_deref().unwrap_or_default();
    if let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) {
        for name in PATH_ARGUMENTS {
            match arguments.get(name) {
                Some(Value::String(path)) if !files.contains(path) => files.push(path.clone()),
                _ => {}
            }
        }
    }
    files
}

/// A tool that may be used, and for what.
///
/// ```
/// use omk::llm::client::Rule;
///
/// let rules = Rule::parse_list("Read,Shell(git *)")?;
/// assert_eq!(rules.len(), 2);
/// assert_eq!(rules[1].to_string(), "Shell(git *)");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The tool, by any of its names: `Shell` (kimi-cli) and `Bash` (Kimi Code) are one, and so are `Read` and `ReadFile`,
    /// `Write` and `WriteFile`, `Edit` and `StrReplaceFile`.
    pub tool: String,
    /// What it may be used for: the command, or every one of the files. `None` for anything but files that have to be named
    /// exactly. In a command `*` stands for any text, but for what the program is known to run; in a path `*` stands for text
    /// without a slash and `**` for any number of directories, and a relative one is taken from the work directory.
    pub pattern: Option<String>,
}

impl Rule {
    /// Reads rules such as `Read,Shell(git *)`, separated by commas outside of parentheses.
    ///
    /// # Errors
    ///
    /// What is wrong with the first rule that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Rule>, String> {
        let mut rules = Vec::new();
        let mut rest = text;
        loop {
            let (rule, after) = match (rest.find('('), rest.find(',')) {
                (Some(open), comma) if comma.is_none_or(|comma| open < comma) => {
                    let close = closing(rest)
                        .ok_or_else(|| format!("`{rest}` has no closing parenthesis"))?;
                    let tool = rest.get(..open).unwrap_or_default();
                    let pattern = rest.get(open + 1..close).unwrap_or_default();
                    (Rule::new(tool, Some(pattern))?, rest.get(close + 1..))
                }
                (_, Some(comma)) => (
                    Rule::new(rest.get(..comma).unwrap_or_default(), None)?,
                    rest.get(comma..),
                ),
                (_, None) => (Rule::new(rest, None)?, None),
            };
            rules.push(rule);
            let after = after.unwrap_or_default().trim_start();
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None if after.is_empty() => return Ok(rules),
                None => {
                    return Err(format!(
                        "`{after}` follows a pattern; separate rules by a comma"
                    ));
                }
            }
        }
    }

    fn new(tool: &str, pattern: Option<&str>) -> Result<Rule, String> {
        let tool = tool.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if tool.is_empty() || !tool.chars().all(fits) {
            return Err(format!(
                "`{tool}` is not a tool; use a name such as Read, a name with a pattern such as Shell(git *), or all"
            ));
        }
        if pattern.is_some_and(|pattern| pattern.trim().is_empty()) {
            return Err(format!(
                "`{tool}()` has an empty pattern; leave the parentheses out to allow it all"
            ));
        }
        if tool == "all" && pattern.is_some() {
            return Err("`all` takes no pattern".to_string());
        }
        Ok(Rule {
            tool: tool.to_string(),
            pattern: pattern.map(|pattern| pattern.trim().to_string()),
        })
    }

    fn allows(&self, permission: &Permission, place: &Place) -> bool {
        if common_tool(&self.tool) != common_tool(&permission.tool) {
            return false;
        }
        if common_tool(&self.tool) == "bash" {
            return match (&self.pattern, &permission.command) {
                (None, _) => true,
                (Some(pattern), Some(command)) => shell::allows(pattern, command),
                // What is not told exactly cannot be compared with a pattern.
                (Some(_), None) => false,
            };
        }
        let files = files(permission);
        let real: Option<Vec<PathBuf>> = files.iter().map(|path| place.real(path)).collect();
        let Some(real) = real else {
            return false;
        };
        let is_sensitive = |real: &PathBuf| match reads(&permission.tool) {
            true => place.is_secret(real),
            false => place.is_sensitive(real),
        };
        match &self.pattern {
            None => !real.iter().any(is_sensitive),
            Some(text) => {
                let Some(pattern) = Pattern::new(text, place) else {
                    return false;
                };
                let fits = |real: &PathBuf| {
                    pattern.matches(real) && (pattern.is_exact || !is_sensitive(real))
                };
                !real.is_empty() && real.iter().all(fits)
            }
        }
    }
}

/// The parenthesis that closes the first one; a pattern may hold pairs of them.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => return None,
        }
        (depth == 0).then_some(at)
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Some(pattern) => write!(f, "{}({pattern})", self.tool),
            None => f.write_str(&self.tool),
        }
    }
}

/// Whether a tool changes files, as far as its name tells.
pub(super) fn writes(tool: &str) -> bool {
    matches!(common_tool(tool).as_str(), "write" | "edit")
}

/// Whether a tool shows a file and changes none.
pub(super) fn reads(tool: &str) -> bool {
    common_tool(tool) == "read"
}

#[cfg(test)]
mod tests;
