//! How a run ends: one table of exit codes, and the failure that carries one.
//!
//! Lower layers know nothing of exit codes; commands turn their errors into a [`Failure`] here, and
//! `cli::main` prints it. The table feeds the program, the help and the man page. It refuses codes
//! that omk cannot return today: a script must be able to trust every row.

use std::time::Duration;

use serde::Serialize;

use crate::runtime::signal::Signal;

/// What a run came to. The discriminant is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command did what it was asked.
    Done = 0,
    /// Anything that no other row describes.
    Failed = 1,
    /// The command line is wrong; nothing was read or sent.
    Usage = 2,
    /// The answer was cut at the length limit, and printed.
    Cut = 3,
    /// The answer is not what was asked for, or a plan has mistakes.
    Invalid = 4,
    /// A gate (`--max-usd`, `--max-tokens`) or the context window is exceeded.
    Budget = 5,
    /// An agent was denied a tool; the answer was printed.
    Denied = 6,
    /// The input was read and is not acceptable text.
    BadInput = 65,
    /// An input file is missing, is a directory or may not be read.
    NoInput = 66,
    /// There is no agent or service that could be asked.
    NoService = 69,
    /// Reading or writing failed half-way.
    Io = 74,
    /// A service or a network failed in a way that may pass.
    Temporary = 75,
    /// The service refused the key.
    Permission = 77,
    /// A variable, the config file or a price file is wrong, or a price is missing.
    Config = 78,
    /// `--deadline` ran out.
    Deadline = 124,
    /// SIGHUP ended the run.
    HungUp = 129,
    /// SIGINT ended the run.
    Interrupted = 130,
    /// SIGTERM ended the run.
    Terminated = 143,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// One row of the table of exit codes.
pub(crate) struct ExitRow {
    /// The number that the shell sees.
    pub(crate) code: u8,
    /// One or two words for it.
    pub(crate) name: &'static str,
    /// When it is returned; the same markup as in the documentation of a flag.
    pub(crate) meaning: &'static str,
}

const fn row(exit: Exit, name: &'static str, meaning: &'static str) -> ExitRow {
    ExitRow {
        code: exit as u8,
        name,
        meaning,
    }
}

/// Every exit code, in ascending order.
pub(crate) const EXITS: &[ExitRow] = &[
    row(
        Exit::Done,
        "done",
        "success; also if the reader of standard output closed it early",
    ),
    row(
        Exit::Failed,
        "failed",
        "any failure that no other code describes; of `omk plan diff`: the plans differ",
    ),
    row(
        Exit::Usage,
        "usage",
        "wrong command line; nothing was read, written or sent",
    ),
    row(
        Exit::Cut,
        "cut",
        "the answer was cut at the length limit, and printed",
    ),
    row(
        Exit::Invalid,
        "invalid",
        "the answer does not match {--schema} or is not a valid plan, after one repair; or `omk plan check` found errors, or with {--strict} warnings",
    ),
    row(
        Exit::Budget,
        "budget",
        "{--max-usd}, {--max-tokens}, a budget or the context window is exceeded; the message says whether anything was sent",
    ),
    row(
        Exit::Denied,
        "denied",
        "an agent was denied a tool or an answer; its text was printed",
    ),
    row(
        Exit::BadInput,
        "bad input",
        "the input is not UTF-8, contains a NUL, or contains a key; the message says where",
    ),
    row(
        Exit::NoInput,
        "no input",
        "an input file is missing, is a directory or cannot be read; the others were processed",
    ),
    row(
        Exit::NoService,
        "no service",
        "no agent or API key was found, or the agent or the sandbox cannot be used",
    ),
    row(
        Exit::Io,
        "input/output",
        "reading or writing failed, for instance on a full disk; also if the run could not be written to the ledger",
    ),
    row(
        Exit::Temporary,
        "temporary",
        "a temporary failure of the network or the service: try again",
    ),
    row(
        Exit::Permission,
        "permission",
        "the service rejected the key, or there is no key or login",
    ),
    row(
        Exit::Config,
        "configuration",
        "a variable, the config file, a price file or the agent's configuration is wrong, or a price that is needed is not known",
    ),
    row(
        Exit::Deadline,
        "deadline",
        "{--deadline} passed; the message says what omk was waiting for",
    ),
    row(
        Exit::HungUp,
        "hung up",
        "stopped by SIGHUP; the turn was cancelled, and the ledger has its usage",
    ),
    row(
        Exit::Interrupted,
        "interrupted",
        "the same for SIGINT (Ctrl-C); a second one ends omk at once",
    ),
    row(Exit::Terminated, "terminated", "the same for SIGTERM"),
];

/// Why a run ended without doing what it was asked.
///
/// Printed as `omk: kind: detail`, lower case and without a full stop, then one `hint: ...` line
/// for each hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// One word for scripts and people, such as `usage` or `input`.
    pub(crate) kind: &'static str,
    /// What happened, naming the thing it happened to.
    pub(crate) detail: String,
    /// How to fix it: the exact command, flag or setting.
    pub(crate) hints: Vec<String>,
    /// How long the service asks to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    /// What the service answered, if it did.
    pub(crate) http_status: Option<u16>,
}

impl Failure {
    /// A failure without hints.
    pub(crate) fn new(exit: Exit, kind: &'static str, detail: impl Into<String>) -> Failure {
        Failure {
            exit,
            kind,
            detail: detail.into(),
            hints: Vec::new(),
            retry_after: None,
            http_status: None,
        }
    }

    /// The same failure with one more hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// The reader of standard output went away: nothing to say, and nothing went wrong. Ends the
    /// run with exit 0.
    pub(crate) fn reader_gone() -> Failure {
        Failure::new(Exit::Done, "", "")
    }

    /// A signal asked the program to stop. `phase` completes "SIGINT while ...".
    pub(crate) fn interrupted(signal: Signal, phase: &str) -> Failure {
        let exit = match signal {
            Signal::HangUp => Exit::HungUp,
            Signal::Interrupt => Exit::Interrupted,
            Signal::Terminate | Signal::Kill => Exit::Terminated,
        };
        let detail = format!("{} while {phase}", signal.name());
        Failure::new(exit, "interrupted", detail)
    }

    /// Is there nothing to print?
    pub(crate) fn is_silent(&self) -> bool {
        self.exit == Exit::Done
    }

    /// May the very same command succeed when it is run again?
    pub(crate) fn is_retryable(&self) -> bool {
        self.exit == Exit::Temporary
    }

    /// The `error` member of a JSON result.
    pub(crate) fn report(&self) -> ErrorReport<'_> {
        ErrorReport {
            kind: self.kind,
            message: &self.detail,
            hint: (!self.hints.is_empty()).then(|| self.hints.join("; ")),
            retryable: self.is_retryable(),
            retry_after_s: self.retry_after.map(|wait| wait.as_secs()),
            http_status: self.http_status,
        }
    }

    /// One failure that stands for several: it names all of them and exits as the first does.
    /// `None` for none.
    pub(crate) fn merge(failures: Vec<Failure>) -> Option<Failure> {
        let mut failures = failures.into_iter();
        let mut merged = failures.next()?;
        for failure in failures {
            merged.detail.push_str("; ");
            merged.detail.push_str(&failure.detail);
            for hint in failure.hints {
                if !merged.hints.contains(&hint) {
                    merged.hints.push(hint);
                }
            }
        }
        Some(merged)
    }
}

/// The `error` member of a JSON result. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorReport<'a> {
    kind: &'a str,
    message: &'a str,
    hint: Option<String>,
    retryable: bool,
    retry_after_s: Option<u64>,
    http_status: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_ascending_order_of_distinct_codes() {
        for pair in EXITS.windows(2) {
            assert!(
                pair[0].code < pair[1].code,
                "{} before {}",
                pair[0].code,
                pair[1].code
            );
        }
    }

    #[test]
    fn every_exit_has_a_row_and_every_row_a_meaning() {
        use Exit::*;
        for exit in [
            Done,
            Failed,
            Usage,
            Cut,
            Invalid,
            Budget,
            Denied,
            BadInput,
            NoInput,
            NoService,
            Io,
            Temporary,
            Permission,
            Config,
            Deadline,
            HungUp,
            Interrupted,
            Terminated,
        ] {
            let rows = EXITS.iter().filter(|row| row.code == exit.code()).count();
            assert_eq!(rows, 1, "{exit:?}");
        }
        for row in EXITS {
            assert!(
                !row.name.is_empty() && !row.meaning.is_empty() && !row.meaning.ends_with('.'),
                "{}",
                row.code
            );
        }
    }

    #[test]
    fn a_failure_is_reported_whole() {
        let failure = Failure::new(Exit::NoInput, "input", "`a` is missing")
            .hint("name another")
            .hint("or none");
        assert_eq!(
            serde_json::to_string(&failure.report()).unwrap(),
            r#"{"kind":"input","message":"`a` is missing","hint":"name another; or none","retryable":false,"retry_after_s":null,"http_status":null}"#
        );
    }

    #[test]
    fn merging_keeps_every_detail_and_each_hint_once() {
        assert_eq!(Failure::merge(Vec::new()), None);
        let first = Failure::new(Exit::NoInput, "input", "a").hint("h");
        let second = Failure::new(Exit::BadInput, "input", "b").hint("h");
        let merged = Failure::merge(vec![first, second]).unwrap();
        assert_eq!(
            merged,
            Failure::new(Exit::NoInput, "input", "a; b").hint("h")
        );
    }
}
