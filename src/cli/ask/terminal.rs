//! Asking the person at the terminal whether an agent may use a tool.
//!
//! The terminal is opened by its own name, so standard input and output stay what they are. What was typed before a question
//! is dropped: it cannot have been meant as the answer.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::time::Duration;

use crate::llm::client::{Approval, Decision};
use crate::runtime::text::{escape, truncate};

/// Characters of what a tool is about to do that a question shows.
const MAX_SHOWN: usize = 2000;

/// The terminal that omk runs in.
pub(crate) struct Terminal {
    file: File,
}

impl Terminal {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn open() -> io::Result<Terminal> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        Ok(Terminal { file })
    }

    /// Asks, until there is an answer that it understands. No answer in time is a no, and so is a signal.
    pub(crate) fn approve(&mut self, what: &Decision<'_>, left: Duration) -> Approval {
        // What cannot be written to the terminal is not answered there either.
        let until = std::time::Instant::now().checked_add(left);
        let left = || {
            until.map_or(left, |until| {
                until.saturating_duration_since(std::time::Instant::now())
            })
        };
        while self.line(Duration::ZERO).is_some() {}
        let _ = self.file.write_all(question(what).as_bytes());
        while let Some(line) = self.line(left()) {
            if let Some(approval) = answer(&line, what.rule.is_some()) {
                return approval;
            }
            let _ = self.file.write_all(CHOICES.as_bytes());
        }
        let _ = self.file.write_all(b"\n");
        Approval::No
    }

    /// The next line; `None` when there is none in time, at the end of input and after a signal.
    #[cfg(unix)]
    fn line(&mut self, left: Duration) -> Option<Vec<u8>> {
        use std::io::Read;
        use std::os::fd::AsFd;

        use crate::runtime::signal;

        if signal::wait(Some(self.file.as_fd()), left) != signal::Wake::Ready {
            return None;
        }
        // A terminal hands over one line at a time.
        let mut line = vec![0; 1024];
        let count = self.file.read(&mut line).ok().filter(|count| *count > 0)?;
        line.truncate(count);
        Some(line)
    }

    #[cfg(not(unix))]
    fn line(&mut self, _: Duration) -> Option<Vec<u8>> {
        None
    }
}

/// What may be answered.
const CHOICES: &str = "Answer y, a or n: ";

fn question(what: &Decision<'_>) -> String {
    let who = match what.agent {
        Some(_) => "A sub-agent",
        None => "The agent",
    };
    let detail = escape(what.detail);
    let detail = truncate(&detail, MAX_SHOWN);
    let always = match what.rule {
        Some(rule) => format!("  a  yes, and whatever else {} allows\n", escape(rule)),
        None => String::new(),
    };
    format!(
        "{who} wants to use {}: {detail}\n  y  yes, once\n{always}  n  no\nAllow it? ",
        escape(what.tool)
    )
}

/// What a line means; `None` for one that is no answer.
fn answer(line: &[u8], has_rule: bool) -> Option<Approval> {
    let line = String::from_utf8_lossy(line).trim().to_ascii_lowercase();
    match line.as_str() {
        "y" | "yes" | "once" => Some(Approval::Once),
        "a" | "always" if has_rule => Some(Approval::Always),
        "n" | "no" | "" => Some(Approval::No),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::types::DenialKind;

    #[test]
    fn only_an_answer_is_taken_for_one() {
        for (line, has_rule, approval) in [
            ("y\n", false, Some(Approval::Once)),
            ("YES\r\n", false, Some(Approval::Once)),
            ("a\n", true, Some(Approval::Always)),
            ("a\n", false, None),
            ("\n", true, Some(Approval::No)),
            ("n", true, Some(Approval::No)),
            ("yno\n", true, None),
        ] {
            assert_eq!(answer(line.as_bytes(), has_rule), approval, "{line:?}");
        }
    }

    #[test]
    fn a_question_cannot_move_the_cursor() {
        let question = question(&Decision {
            kind: DenialKind::Tool,
            tool: "Shell",
            detail: "rm \x1b[2K\rls",
            allowed: false,
            rule: Some("Shell(rm *)"),
            agent: None,
        });
        assert!(!question.contains(['\x1b', '\r']), "{question:?}");
        assert!(
            question.contains("whatever else Shell(rm *) allows"),
            "{question}"
        );
    }
}
