//! What is wrong with a plan: a code that stays the same, where, and in words.
//!
//! A model is shown findings to correct its answer, a person to correct a file, a CI system to mark a line; so the code is
//! stable, the place is a JSON path as well as an offset, and the message quotes the spot. Refuses to say how bad a finding
//! is case by case: the code decides, 0xx is an error and 1xx a warning.

use std::fmt;

use crate::runtime::text;

/// Findings kept of one text. A text with more is broken as a whole, and no one reads them all.
const MAX_FINDINGS: usize = 100;

/// Whether a finding spoils the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The plan can be carried out, and may not be meant so.
    Warning,
    /// The plan cannot be carried out as it stands.
    Error,
}

impl Severity {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

macro_rules! codes {
    ($( $variant:ident = $id:literal $severity:ident $name:literal $meaning:literal fix $fix:literal, )+) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $( #[doc = $meaning] $variant, )+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$( Code::$variant ),+];

            /// The code itself, such as `OMK-P011`. It never changes its meaning.
            pub const fn id(self) -> &'static str {
                match self { $( Code::$variant => $id, )+ }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $( Code::$variant => Severity::$severity, )+ }
            }

            /// A name of one to three words.
            pub const fn name(self) -> &'static str {
                match self { $( Code::$variant => $name, )+ }
            }

            /// What it means, as the manual says it.
            pub const fn meaning(self) -> &'static str {
                match self { $( Code::$variant => $meaning, )+ }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $( Code::$variant => $fix, )+ }
            }
        }
    };
}

codes! {
    Syntax = "OMK-P001" Error "syntax"
        "The text holds no JSON value, a broken one, one that is nested too deep, or more than one."
        fix "give one JSON value, complete and without comments or trailing commas",
    DuplicateKey = "OMK-P002" Error "duplicate key"
        "A key appears twice in one object, so it is not clear which value is meant."
        fix "remove one of the two members",
    WrongType = "OMK-P003" Error "wrong type"
        "A value is of another type than its place asks for, such as a text for a number."
        fix "write a value of the type that the message names",
    Missing = "OMK-P004" Error "missing member"
        "A member is missing that has no default."
        fix "add the member",
    UnknownWord = "OMK-P005" Error "unknown word"
        "A kind, a difficulty or a status is unknown."
        fix "use one of the words that the message lists",
    OutOfRange = "OMK-P006" Error "out of range"
        "A number is outside its range, or has decimals where a whole one is meant."
        fix "use a number within the range that the message names",
    Empty = "OMK-P007" Error "empty"
        "There is no slice or task, or an id, a description or a criterion is empty."
        fix "fill it in, or remove what is empty",
    DuplicateId = "OMK-P008" Error "duplicate id"
        "Two slices or tasks have the same id."
        fix "give one of the two another id",
    UnknownDependency = "OMK-P009" Error "unknown dependency"
        "A dependency names a slice or task that is not there."
        fix "correct the id, add the task, or remove the dependency",
    SelfDependency = "OMK-P010" Error "self-dependency"
        "A slice or task waits for itself, or a subtask for its own task."
        fix "remove the dependency",
    Cycle = "OMK-P011" Error "cycle"
        "Dependencies form a cycle; the message shows it."
        fix "remove one of the dependencies in the cycle",
    WriteConflict = "OMK-P012" Error "write conflict"
        "Two slices or tasks that may run at the same time write the same file."
        fix "let one depend on the other, or split the work by file",
    BadPath = "OMK-P013" Error "bad path"
        "A path of a write set is empty, absolute, or may leave the work directory."
        fix "write the path relative to the work directory, without `..`",
    MisplacedDependency = "OMK-P014" Error "misplaced dependency"
        "A slice lists its own dependencies, where they would be ignored."
        fix "move it to `dependencies` of the plan, as a pair [before, after]",
    Order = "OMK-P015" Error "order"
        "A task of a list that is worked from top to bottom depends on one further down."
        fix "move the task below the one it depends on",
    Contradiction = "OMK-P016" Error "contradiction"
        "The waves or the critical path in the file are not those of its dependencies."
        fix "leave the member out: it is computed from the dependencies",
    NoCriteria = "OMK-P101" Warning "no criteria"
        "Nothing says how one will know that the plan, or a task, is done."
        fix "add a criterion that a command or a test can check",
    VagueCriterion = "OMK-P102" Warning "vague criterion"
        "A criterion has words such as `properly` and nothing to check: no number, name, path or quotation."
        fix "name a command, a figure or a file that shows it",
    NoWriteSet = "OMK-P103" Warning "no write set"
        "A slice does not say which files it writes, so conflicts cannot be found."
        fix "list the files in `write_set`",
    TooComplex = "OMK-P104" Warning "too complex"
        "A slice has the difficulty complex and should be split."
        fix "split it into smaller tasks",
    VagueGoal = "OMK-P105" Warning "vague goal"
        "The goal is of the kind vague; the message has the suggested refinement."
        fix "say what should be different afterwards",
    NoGoal = "OMK-P106" Warning "no goal"
        "The plan does not say what it is for."
        fix "add `goal_text`",
    DuplicateCriterion = "OMK-P107" Warning "duplicate criterion"
        "A criterion appears twice."
        fix "remove one of the two",
    NoDescription = "OMK-P108" Warning "no description"
        "A task has a title and nothing that says what to do."
        fix "add a description or details",
    DoneTooEarly = "OMK-P109" Warning "done too early"
        "A task is marked as done, and one that it depends on is not."
        fix "reopen the task, or finish the one it depends on first",
    NoId = "OMK-P110" Warning "no id"
        "A line of a task list has a checkbox and no id, so nothing can depend on it."
        fix "give the task an id such as T001",
    NotTestable = "OMK-P111" Warning "not testable"
        "The plan says that no test can show whether its goal is reached."
        fix "state a result that a test can observe",
    TokenMismatch = "OMK-P112" Warning "token mismatch"
        "The plan states a number of tokens that differs from the sum of its slices. It may differ by a quarter if each slice has an estimate, and by three times if typical figures are used."
        fix "correct the estimate of the plan, or those of its slices",
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub code: Code,
    /// Where, such as `$.slices[2].write_set[0]`; in Markdown the id of the task, or nothing.
    pub path: String,
    /// The offset of the spot in the text, in bytes.
    pub at: usize,
    /// In words, with the spot quoted; without control characters.
    pub message: String,
}

impl fmt::Display for Finding {
    /// `OMK-P011: $.dependencies: cycle: a -> b -> a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.id())?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything found in one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    omitted: usize,
}

impl Findings {
    /// Notes a finding.
    pub(crate) fn add(
        &mut self,
        code: Code,
        path: impl Into<String>,
        at: usize,
        message: impl Into<String>,
    ) {
        if self.list.len() >= MAX_FINDINGS {
            self.omitted += 1;
            return;
        }
        self.list.push(Finding {
            code,
            path: path.into(),
            at,
            message: text::escape(&message.into()).into_owned(),
        });
    }

    /// The findings in the order of the text.
    pub(crate) fn sorted(mut self) -> Findings {
        self.list
            .sort_by(|a, b| (a.at, a.code, &a.path).cmp(&(b.at, b.code, &b.path)));
        self
    }

    /// The findings, at most a hundred.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many more there are.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// How many of the list are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let of_it = |finding: &&Finding| finding.code.severity() == severity;
        self.list.iter().filter(of_it).count()
    }

    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl std::error::Error for Findings {}

impl fmt::Display for Findings {
    /// One after the other, separated by `; `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.list.iter().enumerate() {
            let between = if i > 0 { "; " } else { "" };
            write!(f, "{between}{finding}")?;
        }
        match self.omitted {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Line and column of an offset, both from 1; columns count characters.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_their_numbers_tell_the_severity() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert!(
                Code::ALL[..i]
                    .iter()
                    .all(|other| other.id() != code.id() && other.name() != code.name())
            );
            let number: u32 = code.id().strip_prefix("OMK-P").unwrap().parse().unwrap();
            assert_eq!(
                code.severity() == Severity::Error,
                number < 100,
                "{}",
                code.id()
            );
            assert!(code.meaning().ends_with('.') && !code.fix().ends_with('.'));
        }
    }

    #[test]
    fn places_are_lines_and_columns() {
        for (at, place) in [
            (0, (1, 1)),
            (2, (1, 2)),
            (3, (1, 3)),
            (4, (2, 1)),
            (99, (2, 2)),
        ] {
            assert_eq!(line_and_column("aé\nb", at), place, "{at}");
        }
    }

    #[test]
    fn a_hundred_findings_are_enough() {
        let mut findings = Findings::default();
        for at in (0..150).rev() {
            findings.add(Code::Empty, "$", at, "x");
        }
        let findings = findings.sorted();
        assert_eq!((findings.list().len(), findings.omitted()), (100, 50));
        assert_eq!(findings.list()[0].at, 50);
        assert!(
            findings
                .to_string()
                .ends_with("; OMK-P007: $: x; and 50 more")
        );
    }
}
