//! What an agent may do without asking anyone.
//!
//! Rules name tools, and narrow them to commands or files by a pattern. Agents call the same tool by different names, so
//! names are compared by what they mean. A pattern is held against the whole command, and never lets a second command
//! through: whatever a shell would read as more than one plain command is denied, quoted or not. Refuses to answer
//! questions and to approve plans, whatever is allowed.

use std::fmt;

use crate::llm::types::Denial;
use crate::llm::types::DenialKind;
use crate::transport::agent::Answer;
use crate::transport::agent::Asked;
use crate::transport::agent::Permission;
use crate::transport::agents::common_tool;

/// What a denied tool is told. With a reason agents go on without the tool; without one, some end the turn.
const DENIED: &str = "This tool is not permitted here. Go on without it.";
/// What makes more, or something else, of a command than its own words say.
const SHELL_SYNTAX: &[char] = &[
    ';', '&', '|', '<', '>', '$', '`', '(', ')', '{', '}', '\n', '\r', '\\', '\0',
];

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

    fn allows(&self, permission: &Permission) -> bool {
        match self {
            Permissions::Nothing => false,
            Permissions::Tools(rules) => rules.iter().any(|rule| rule.allows(permission)),
            Permissions::All => true,
        }
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
    pub(super) fn decide(&self, what: &Asked) -> (Answer, Option<Denial>) {
        let refusal = Answer::Deny { reason: None };
        let denial = |kind, tool: &str, detail: &str| {
            Some(Denial {
                kind,
                tool: tool.to_string(),
                detail: detail.to_string(),
            })
        };
        match what {
            Asked::Permission(permission) if self.allows(permission) => (Answer::Allow, None),
            Asked::Permission(permission) => (
                Answer::Deny {
                    reason: Some(DENIED.to_string()),
                },
                denial(DenialKind::Tool, &permission.tool, &permission.action),
            ),
            // It reads whatever it wants without asking anyway.
            Asked::ReadFile { .. } => (Answer::Allow, None),
            Asked::WriteFile { approved: true, .. } => (Answer::Allow, None),
            Asked::WriteFile { permission, .. } => {
                self.decide(&Asked::Permission(permission.clone()))
            }
            // A reason would have the plan revised and shown again.
            Asked::Plan { text } => (refusal, denial(DenialKind::Plan, "", text)),
            Asked::Questions(questions) => {
                let detail = questions.join("; ");
                (refusal, denial(DenialKind::Question, "", &detail))
            }
        }
    }
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
    /// What it may be used for: the command, or every one of the files. `*` stands for any text. `None` for anything.
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
                "`{tool}` is no tool; write a name such as Read, a name with a pattern such as Shell(git *), or all"
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

    fn allows(&self, permission: &Permission) -> bool {
        if common_tool(&self.tool) != common_tool(&permission.tool) {
            return false;
        }
        let Some(pattern) = &self.pattern else {
            return true;
        };
        match &permission.command {
            Some(command) => !command.contains(SHELL_SYNTAX) && matches(pattern, command.trim()),
            // What is not told exactly cannot be held against a pattern.
            None => {
                let fits = |path: &String| {
                    let climbs = path.split(['/', '\\']).any(|part| part == "..");
                    !climbs && matches(pattern, path)
                };
                !permission.paths.is_empty() && permission.paths.iter().all(fits)
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

/// Whether `*` can stand for something everywhere so that the pattern is the text. Linear in the text for each star.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(rules: &str, permission: &Permission) -> bool {
        Permissions::of(Rule::parse_list(rules).unwrap()).allows(permission)
    }

    fn shell(tool: &str, command: &str) -> Permission {
        Permission {
            tool: tool.to_string(),
            command: Some(command.to_string()),
            ..Permission::default()
        }
    }

    #[test]
    fn names_mean_the_same_with_either_agent() {
        for (rule, tool) in [
            ("Shell", "Bash"),
            ("Bash", "Shell"),
            ("Write", "WriteFile"),
            ("edit", "StrReplaceFile"),
            ("all", "Anything"),
            ("mcp__x:y", "mcp__x:y"),
        ] {
            assert!(allows(rule, &shell(tool, "ls")), "{rule} {tool}");
        }
        assert!(!allows("Read,Write", &shell("Bash", "ls")));
    }

    #[test]
    fn a_pattern_lets_one_plain_command_through() {
        for (pattern, command, allowed) in [
            ("git *", "git status", true),
            ("git *", "  git status ", true),
            ("git *", "git", false),
            ("git *", "gitk", false),
            ("git *", "git log; rm -rf /", false),
            ("git *", "git log && reboot", false),
            ("git *", "git log | sh", false),
            ("git *", "git log > /etc/passwd", false),
            ("git *", "git log $(reboot)", false),
            ("git *", "git log `reboot`", false),
            ("git *", "git log\nreboot", false),
            ("git * --stat", "git diff --stat", true),
            ("git * --stat", "git diff", false),
            ("*", "anything at all", true),
            ("ls", "ls", true),
            ("ls", "ls -l", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
        ] {
            let rule = format!("Shell({pattern})");
            assert_eq!(
                allows(&rule, &shell("Bash", command)),
                allowed,
                "{pattern}: {command}"
            );
        }
    }

    #[test]
    fn a_pattern_needs_to_know_what_it_judges() {
        let mut write = Permission {
            tool: "Write".to_string(),
            ..Permission::default()
        };
        assert!(allows("Write", &write) && !allows("Write(src/*)", &write));
        write.paths = vec!["src/a.rs".to_string()];
        assert!(allows("Write(src/*)", &write));
        write.paths.push("src/../Cargo.toml".to_string());
        assert!(!allows("Write(src/*)", &write));
    }

    #[test]
    fn rules_are_read_and_written_back() {
        let rules = Rule::parse_list("Read, Shell(git log --format=(a),b) ,Write").unwrap();
        let shown: Vec<String> = rules.iter().map(Rule::to_string).collect();
        assert_eq!(shown, ["Read", "Shell(git log --format=(a),b)", "Write"]);
        for wrong in [
            "",
            "Shell(",
            "Shell()",
            "a,,b",
            "all(x)",
            "rm -rf",
            "Shell(a)b",
            "Read)",
        ] {
            assert!(Rule::parse_list(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Permissions::of(Rule::parse_list("Read,all").unwrap()),
            Permissions::All
        );
        assert_eq!(Permissions::of(Vec::new()), Permissions::Nothing);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), command in any::<String>()) {
            if let Ok(rules) = Rule::parse_list(&text) {
                Permissions::of(rules).allows(&shell("Bash", &command));
            }
        }

        #[test]
        fn what_a_star_stands_for_does_not_matter(a in "[a-c]{0,4}", b in "[a-c]{0,4}", c in "[a-c]{0,4}") {
            let pattern = format!("{}*{}", a, c);
            let text = format!("{}{}{}", a, b, c);
            prop_assert!(matches(&pattern, &text));
        }
    }

    #[test]
    fn a_file_is_written_if_its_tool_was_approved_or_a_rule_is_about_it() {
        let rules = |rules| Permissions::of(Rule::parse_list(rules).unwrap());
        let write = |approved| Asked::WriteFile {
            permission: Permission {
                tool: "Write".to_string(),
                action: "Writing /p/a".to_string(),
                paths: vec!["/p/a".to_string()],
                ..Permission::default()
            },
            content: String::new(),
            approved,
        };
        for (permissions, approved, is_allowed) in [
            (Permissions::Nothing, false, false),
            (Permissions::Nothing, true, true),
            (rules("Edit"), false, false),
            (rules("Write(/p/*)"), false, true),
            (rules("Write(/q/*)"), false, false),
        ] {
            let (answer, denial) = permissions.decide(&write(approved));
            assert_eq!(answer == Answer::Allow, is_allowed);
            assert_eq!(
                denial.map(|denial| denial.tool),
                (!is_allowed).then(|| "Write".to_string())
            );
        }
        let read = Asked::ReadFile {
            path: "/p/a".to_string(),
            tool: None,
        };
        assert_eq!(Permissions::Nothing.decide(&read), (Answer::Allow, None));
    }
}
