//! What agents say, in words that belong to no protocol.
//!
//! Wire, ACP and the agents' logs all end here, so nothing above this layer knows which of them was spoken. Two things
//! are settled once for all of them: what a failure means, read from codes and texts that each agent words in its own
//! way, and how usage adds up when part of it was never told. Refuses to guess: a figure nobody told is unknown, and a
//! question that was not recognised is answered by a refusal.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::runtime::text;
use crate::tokens::usage::Contradiction;
use crate::tokens::usage::Figures;
use crate::transport::jsonrpc::Id;

/// Characters of a peer's message kept in a failure.
const MAX_MESSAGE_CHARS: usize = 500;

/// Characters of a tool's output kept in an event.
const MAX_OUTPUT_CHARS: usize = 1000;

/// Tokens of one or more calls of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens read afresh.
    pub input: u64,
    /// Prompt tokens out of the cache.
    pub cache_read: u64,
    /// Prompt tokens written to the cache.
    pub cache_write: u64,
    /// Tokens of the answer, with the reasoning.
    pub output: u64,
}

impl Usage {
    /// Whether every figure is 0, which is how Kimi Code writes "not told".
    pub fn is_zero(&self) -> bool {
        *self == Usage::default()
    }

    /// Reads the figures of a call, under the names for input, output, cache read and cache write. Absent ones are 0. `None`
    /// where they cannot be used, or are null: then the call is one without a report.
    pub(super) fn read(raw: &Value, names: [&str; 4]) -> (Option<Usage>, Option<Contradiction>) {
        if raw.is_null() {
            return (None, None);
        }
        let mut figures = match Figures::of(raw) {
            Ok(figures) => figures,
            Err(reason) => return (None, Some(Contradiction::new(&[reason], raw))),
        };
        let [input, output, cache_read, cache_write] =
            names.map(|name| figures.count(name).unwrap_or(0));
        if !figures.reasons.is_empty() {
            return (None, Some(Contradiction::new(&figures.reasons, raw)));
        }
        let usage = Usage {
            input,
            cache_read,
            cache_write,
            output,
        };
        (Some(usage), None)
    }

    /// Both together.
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// The usage of many calls, some of which may not have told theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// What was told, added up: a lower bound when [`UsageSum::unreported`] is not 0.
    pub told: Usage,
    /// Calls that told theirs.
    pub calls: u32,
    /// Calls that were made, or may have been, and did not tell.
    pub unreported: u32,
}

impl UsageSum {
    /// Adds one call.
    pub fn add(&mut self, usage: Option<Usage>) {
        match usage {
            Some(usage) => {
                self.told = self.told.plus(&usage);
                self.calls = self.calls.saturating_add(1);
            }
            None => self.unreported = self.unreported.saturating_add(1),
        }
    }

    /// Adds the calls of another agent of the same session.
    pub fn merge(&mut self, other: &UsageSum) {
        self.told = self.told.plus(&other.told);
        self.calls = self.calls.saturating_add(other.calls);
        self.unreported = self.unreported.saturating_add(other.unreported);
    }

    /// The exact usage, if every call told its own and there was one.
    pub fn total(&self) -> Option<Usage> {
        (self.calls > 0 && self.unreported == 0).then_some(self.told)
    }
}

/// The agent at the other end, as it introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its name. All of them say "Kimi Code CLI"; the version tells them apart.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The version of the protocol it speaks.
    pub protocol: Option<String>,
    /// The session, when the agent chose it.
    pub session: Option<String>,
}

/// What happens during a turn.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A step begins: one call of the model and the tools it asks for. Steps count from 1; 0 is before the first.
    Step {
        /// Its number. May come twice, when a hook sends the agent back to work.
        step: u32,
    },
    /// More of the answer.
    Text {
        /// The step it belongs to.
        step: u32,
        /// The text.
        text: String,
    },
    /// More of the reasoning.
    Thinking {
        /// The step it belongs to.
        step: u32,
        /// The text.
        text: String,
    },
    /// All text and reasoning of the step so far is void: the call failed and is made again.
    Superseded {
        /// The step.
        step: u32,
    },
    /// A call of the model failed and will be made again.
    Retry(Retry),
    /// The model asks for a tool.
    Tool {
        /// The call's name, unique in the session.
        call: String,
        /// The tool.
        name: String,
        /// The sub-agent that uses it, if it is one.
        agent: Option<String>,
    },
    /// The arguments of a tool are known as a whole. Comes once for each call, before its end.
    ToolUsed {
        /// The call.
        call: String,
        /// Its arguments, as JSON text.
        arguments: String,
    },
    /// A tool is done.
    ToolDone {
        /// The call.
        call: String,
        /// Whether it worked.
        ok: bool,
        /// The start of its output.
        output: String,
    },
    /// A call of the model begins. In a log that is seen a little later.
    CallStarted {
        /// Tokens in the model's window after the call before, which this one's prompt has at least, where that is known.
        context: Option<u64>,
    },
    /// A call of the model is over; sub-agents' calls overlap.
    CallEnded(CallEnd),
    /// The usage of a call is wrong, so that it counts as one without a report.
    Contradiction(Contradiction),
    /// The agent has shortened its history.
    Compacted,
    /// The agent found the prompt too long for its window, and is about to ask with a part of it or with none.
    PromptCut,
}

/// How a call of the model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// It used that.
    Reported(Usage),
    /// It may have cost something, and what is not reported.
    Unreported,
    /// It was refused before it could cost anything.
    Refused,
}

/// A call of the model that will be made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The attempt to come, counted from 1.
    pub attempt: u32,
    /// Attempts in all.
    pub of: u32,
    /// How long the agent waits.
    pub wait: Duration,
    /// The HTTP status of the failure.
    pub status: Option<u16>,
    /// What went wrong, as far as the agent tells.
    pub reason: String,
}

impl Retry {
    /// Whether the failed call may have cost something although it said nothing: it was not refused by its status.
    pub(super) fn may_have_charged(&self) -> bool {
        self.status.is_none_or(|status| {
            !is_unbilled(status) && FailureKind::from_status(status).may_have_charged()
        })
    }
}

/// Names one [`Ask`] until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskId(pub(super) Id);

impl fmt::Display for AskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something the agent wants decided. It waits for ever, so each must be answered, or the turn cancelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// To answer it by.
    pub id: AskId,
    /// What it is.
    pub what: Asked,
}

/// The kinds of asks. They look alike on ACP, where approving the first option would answer a question for the user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Asked {
    /// May this tool run?
    Permission(Permission),
    /// What does this text file hold? An agent that hands over the writing of files hands over the reading as well.
    ReadFile {
        /// The file, absolute.
        path: String,
        /// The tool that wants to know, where that is known.
        tool: Option<String>,
    },
    /// Write this text file, in place of what it holds.
    WriteFile {
        /// The tool and the file.
        permission: Permission,
        /// What it is to hold.
        content: String,
        /// The tool asked for permission and got it.
        approved: bool,
    },
    /// Shall this plan be carried out?
    Plan {
        /// The plan, as far as it was shown.
        text: String,
    },
    /// The model asks the user something. Nobody is there to answer, so anything but a refusal is sent as one.
    Questions(Vec<String>),
}

/// A tool that waits for permission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// The call.
    pub call: String,
    /// The tool, such as `Shell` (kimi-cli) or `Bash` (Kimi Code).
    pub tool: String,
    /// What it is about to do, in the agent's words.
    pub action: String,
    /// The shell command, when it is one and was told exactly.
    pub command: Option<String>,
    /// The files it would change, as far as they were told.
    pub paths: Vec<String>,
    /// The arguments as JSON text, as far as they were told.
    pub arguments: Option<String>,
    /// Which sub-agent asks, if it is one.
    pub agent: Option<String>,
}

/// A decision on an [`Ask`]. One that does not fit what was asked is sent as a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, this once: runs the tool, carries out the plan.
    Allow,
    /// No. On Wire that ends the turn unless a reason is given; the reason goes to the model where the protocol has
    /// room for it.
    Deny {
        /// Why, or what to do instead.
        reason: Option<String>,
    },
    /// There is no such file.
    NoSuchFile,
    /// The file that was asked for, or what came of writing it.
    Returned {
        /// Whether it worked.
        ok: bool,
        /// Its output.
        output: String,
    },
}

/// What a state machine wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Send this line.
    Send(String),
    /// The handshake is over: a prompt may be sent.
    Ready(Peer),
    /// Something happened.
    Event(Event),
    /// Something is asked.
    Ask(Ask),
    /// The turn is over.
    Ended(Outcome),
    /// The peer says that the turn is over, and is known to hide how: its log has the truth.
    Answered(Answered),
    /// No turn is possible.
    Failed(Failure),
}

/// What a peer claims about the end of a turn. Not the truth: Kimi Code says "end of turn" for most failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It says that it is done.
    EndTurn,
    /// It says that it was cancelled.
    Cancelled,
    /// It says that the content was refused.
    Refused,
    /// It says something else, in its own word.
    Other(String),
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent was done. Whether the model's last answer was cut is told by some logs and by no protocol.
    Finished(Finish),
    /// The agent stopped without an answer, such as when it repeats one tool call.
    GaveUp {
        /// Why, in the agent's word or ours.
        reason: String,
    },
    /// The last step asked for a tool, and the agent could get no further.
    DeadEnd,
    /// The model declined to answer.
    Refused,
    /// We cancelled it.
    Cancelled,
    /// The limit on steps ended it.
    MaxSteps {
        /// The steps made, when told.
        steps: Option<u32>,
    },
    /// It failed.
    Failed(Failure),
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Nobody said.
    Unknown,
    /// It was done.
    Stop,
    /// The length limit cut it.
    Length,
    /// The content was refused.
    Filtered,
    /// It asked for tools. Never the end of a finished turn.
    ToolCalls,
    /// Anything else, in the provider's word.
    Other(String),
}

/// The kinds of failure, by how to fix them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The agent has no login, or no model that it can use.
    NotConfigured,
    /// The agent's configuration has no such model.
    UnknownModel,
    /// The service does not accept the key or login: 401.
    Authentication,
    /// The key does not allow this: 403.
    Forbidden,
    /// The balance is used up: 402.
    Quota,
    /// Too many requests: 429. Whether for a minute or a month is in the message.
    RateLimited,
    /// The prompt does not fit the window.
    Overflow,
    /// The content was refused.
    Filtered,
    /// The model lacks a needed ability, such as reading images.
    Unsupported,
    /// The service refuses the request for another reason: 400, 404 and the like.
    Rejected,
    /// The service failed: 5xx.
    Server,
    /// No connection, or it broke.
    Connection,
    /// The model said nothing, or only thought.
    Empty,
    /// Another turn is running.
    Busy,
    /// There is no such session.
    UnknownSession,
    /// The agent itself failed, such as over a tool server that will not start or a directory that is not there.
    Agent,
    /// The peer speaks another protocol.
    WrongProtocol,
    /// The peer broke the protocol, or says that we did.
    Protocol,
    /// The peer's output ended in mid-turn.
    Exited,
}

impl FailureKind {
    /// The kind that an HTTP status means.
    fn from_status(status: u16) -> FailureKind {
        match status {
            401 => FailureKind::Authentication,
            402 => FailureKind::Quota,
            403 => FailureKind::Forbidden,
            429 => FailureKind::RateLimited,
            408 | 409 | 500..=599 => FailureKind::Server,
            _ => FailureKind::Rejected,
        }
    }

    /// Whether the same prompt may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            FailureKind::RateLimited
                | FailureKind::Server
                | FailureKind::Connection
                | FailureKind::Empty
                | FailureKind::Busy
        )
    }

    /// Whether a call of the model that ends like this may have cost something.
    fn may_have_charged(self) -> bool {
        matches!(
            self,
            FailureKind::Filtered
                | FailureKind::Server
                | FailureKind::Connection
                | FailureKind::Empty
                | FailureKind::Agent
                | FailureKind::Protocol
                | FailureKind::Exited
        )
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The HTTP status of the service's answer, where one is told or stands in the text.
    pub status: Option<u16>,
    /// The peer's own name for it: a number, or a word such as `provider.rate_limit`.
    pub code: String,
    /// What the peer says, escaped and bounded.
    pub message: String,
    /// Whether trying again may help, by the kind or because the peer says so.
    pub retryable: bool,
    /// Whether the turn may have cost something: calls before the failing one, or the failing one itself.
    pub may_have_charged: bool,
}

impl Failure {
    /// A failure of that kind, with a message to be made fit to show.
    pub fn new(kind: FailureKind, code: impl Into<String>, message: &str) -> Failure {
        Failure {
            kind,
            status: None,
            code: code.into(),
            message: fit(message),
            retryable: kind.is_retryable(),
            may_have_charged: kind.may_have_charged(),
        }
    }

    /// The agent's output ended while something was awaited.
    pub(super) fn exited() -> Failure {
        let message = "the agent ended without an answer";
        Failure::new(FailureKind::Exited, "eof", message)
    }

    /// A failure of the service behind the agent: the status decides, which is looked for in the text if it is not told,
    /// then the text.
    pub(super) fn from_service(
        code: impl Into<String>,
        status: Option<u16>,
        message: &str,
    ) -> Failure {
        let status = status.or_else(|| http_status(message));
        let lower = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let kind = match status {
            Some(400 | 413 | 422) | None if says(OVERFLOW) => FailureKind::Overflow,
            Some(400) if says(FILTER) => FailureKind::Filtered,
            Some(status) => FailureKind::from_status(status),
            None if says(EMPTY) => FailureKind::Empty,
            None => FailureKind::Connection,
        };
        let failure = Failure::new(kind, code, message);
        Failure {
            status,
            may_have_charged: failure.may_have_charged && !status.is_some_and(is_unbilled),
            ..failure
        }
    }

    /// Takes into account what the turn did before it failed.
    pub(super) fn after(mut self, usage: &UsageSum) -> Failure {
        self.may_have_charged |= usage.calls > 0 || usage.unreported > 0;
        self
    }
}

impl fmt::Display for Failure {
    /// The message, or the code where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.message.is_empty() {
            &self.code
        } else {
            &self.message
        })
    }
}

/// Whether a failure of the service with this HTTP status is not billed: the service itself answered that it failed. A gateway
/// in front of it, which answers 502 or 504, does not know what the service did.
pub(crate) fn is_unbilled(status: u16) -> bool {
    matches!(status, 500 | 501 | 503)
}

/// Words of services and agents for a prompt that does not fit.
const OVERFLOW: &[&str] = &[
    "context_length_exceeded",
    "context length",
    "context window",
    "context.overflow",
    "token limit",
    "maximum context",
    "exceeded model token",
];
/// Words for refused content.
const FILTER: &[&str] = &["content_filter", "content filter", "high risk"];
/// Words for an answer without one.
const EMPTY: &[&str] = &["empty response", "only thinking content"];

/// Escaped, and no longer than a message needs to be.
pub(crate) fn fit(message: &str) -> String {
    // Escaping is linear, so a huge message is cut first.
    let cut = text::truncate(message.trim(), MAX_MESSAGE_CHARS);
    text::truncate(&text::escape(&cut), MAX_MESSAGE_CHARS).into_owned()
}

/// The start of what a tool put out, for an event.
pub(super) fn start_of(output: &str) -> String {
    text::truncate(output, MAX_OUTPUT_CHARS).into_owned()
}

/// The HTTP status in an agent's message: `Error code: 429 - ...` (kimi-cli), `Kimi API error (401 Unauthorized): ...`
/// (kimi-agent), `429 ...` and `Authentication required: 401 ...` (Kimi Code). Of a gateway's page kimi-cli hands on the
/// page alone, whose first heading says it: `<html><h1>502 Bad Gateway</h1>`.
pub(super) fn http_status(message: &str) -> Option<u16> {
    let page = message.starts_with('<').then_some(message);
    let starts = [
        Some(message),
        message.strip_prefix("Error code: "),
        message.split_once("error (").map(|(_, rest)| rest),
        message.strip_prefix("Authentication required: "),
    ];
    let headings = page
        .into_iter()
        .flat_map(|page| page.split('>').skip(1))
        .map(str::trim_start)
        .map(Some);
    let starts = starts.into_iter().chain(headings);
    starts.flatten().find_map(|rest| {
        let (digits, after) = rest.split_at_checked(3)?;
        let status = digits.parse().ok()?;
        let ends = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        (ends && (400..=599).contains(&status)).then_some(status)
    })
}

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

impl Prompt {
    /// A prompt of text alone.
    pub fn text(text: impl Into<String>) -> Prompt {
        Prompt {
            parts: vec![Part::Text(text.into())],
        }
    }

    /// Whether the agent would take it for a command of its own. What they take exactly differs (`/tmp is full` yes,
    /// `/etc/passwd` no), and a guard where none is needed costs one word, so any slash in front counts.
    pub(super) fn looks_like_a_command(&self) -> bool {
        let mut texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) if !text.trim().is_empty() => Some(text.trim_start()),
            _ => None,
        });
        texts.next().is_some_and(|text| text.starts_with('/'))
    }
}

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image {
        /// Such as `image/png`.
        mime: String,
        /// The file in base64.
        base64: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_where_each_agent_puts_it() {
        for (message, status) in [
            ("Error code: 429 - {'error': ...}", Some(429)),
            ("Kimi API error (401 Unauthorized): {...}", Some(401)),
            ("500 boom", Some(500)),
            ("Authentication required: 403 forbidden", Some(403)),
            ("429", Some(429)),
            ("Connection error.", None),
            ("4290 tokens too many", None),
            ("200 OK", None),
            ("terminated", None),
            ("", None),
            ("文字", None),
        ] {
            assert_eq!(http_status(message), status, "{message}");
        }
    }

    #[test]
    fn failures_of_the_service_are_sorted_by_what_mends_them() {
        use FailureKind::*;
        for (message, kind, retryable, charged) in [
            ("Error code: 401 - x", Authentication, false, false),
            ("Error code: 402 - x", Quota, false, false),
            ("Error code: 404 - x", Rejected, false, false),
            ("Error code: 429 - x", RateLimited, true, false),
            ("Error code: 502 - <html>", Server, true, true),
            ("Error code: 500 - x", Server, true, false),
            ("Error code: 503 - x", Server, true, false),
            (
                "<html>\n<head><title>502 Bad Gateway</title></head>",
                Server,
                true,
                true,
            ),
            (
                "Error code: 400 - {'type': 'content_filter'}",
                Filtered,
                false,
                true,
            ),
            (
                "Error code: 400 - Your request exceeded model token limit: 8",
                Overflow,
                false,
                false,
            ),
            ("Connection error.", Connection, true, true),
            ("The API returned an empty response.", Empty, true, true),
        ] {
            let failure = Failure::from_service("-32003", None, message);
            assert_eq!(failure.kind, kind, "{message}");
            assert_eq!(failure.retryable, retryable, "{message}");
            assert_eq!(failure.may_have_charged, charged, "{message}");
        }
        let spent = UsageSum {
            calls: 1,
            ..UsageSum::default()
        };
        let failure = Failure::from_service("x", Some(401), "no").after(&spent);
        assert!(failure.may_have_charged);
    }

    #[test]
    fn messages_are_bounded_and_escaped() {
        let failure = Failure::new(FailureKind::Agent, "1", &"\x1b".repeat(1_000_000));
        assert!(failure.message.chars().count() <= MAX_MESSAGE_CHARS);
        assert!(!failure.message.contains('\x1b'));
        let silent = Failure::new(FailureKind::Agent, "-32603", " ");
        assert_eq!(silent.to_string(), "-32603");
    }

    #[test]
    fn usage_is_exact_or_a_lower_bound() {
        let one = Usage {
            input: 1,
            cache_read: 2,
            cache_write: 3,
            output: u64::MAX,
        };
        let mut sum = UsageSum::default();
        assert_eq!(sum.total(), None);
        sum.add(Some(one));
        sum.add(Some(one));
        let twice = sum.total().unwrap();
        assert_eq!((twice.input, twice.output), (2, u64::MAX));
        sum.add(None);
        assert_eq!((sum.total(), sum.told), (None, twice));
        let mut both = sum;
        both.merge(&sum);
        assert_eq!((both.calls, both.unreported), (4, 2));
    }

    #[test]
    fn a_slash_in_front_looks_like_a_command() {
        for (text, is) in [
            ("/tmp is full", true),
            ("  /x", true),
            ("/etc/passwd", true),
            ("a /x", false),
            ("", false),
        ] {
            assert_eq!(Prompt::text(text).looks_like_a_command(), is, "{text}");
        }
        let image = Part::Image {
            mime: String::new(),
            base64: String::new(),
        };
        let parts = vec![image, Part::Text(" ".into()), Part::Text("/x".into())];
        assert!(Prompt { parts }.looks_like_a_command());
    }
}
