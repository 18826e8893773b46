//! A conversation with a peer as a file: recorded as it happens, played back without the peer.
//!
//! A tape is text, one JSON object a line, `omk.tape/1`. The first line is the [`Header`]; each other one is something that
//! happened, in order, whatever the transport. [`Recorder`] writes it from between a client and its peer, [`Player`] stands
//! in for the peer: it says what was said then and compares what is asked now with what was asked then.
//!
//! # What is on it
//!
//! - Of an agent: `start`, each line sent (`send`) and received (`receive`), the end of its output (`eof`) and of itself
//!   (`exit`, with the last line of its standard error); of the logs of its session whether they were found (`follow`) and
//!   each line that holds a fact (`log`), up to the end of a look (`looked`). The other lines, its system prompt among
//!   them, are nobody's business. Over Wire the logs are silent but for two facts: the answer as the session's file has it,
//!   where that is less than what was sent, and a look without a line when the file has lost the prompt.
//! - Of a service: `request` with the body and the end of the path, `response` with the status and the headers that help,
//!   `body` in the pieces that came, its `eof`. Not the host nor the rest of the path: they may name someone's gateway, and
//!   a replay must not depend on them.
//! - `error` for what went wrong, and `end` when recording ended as it should.
//!
//! Bytes stand as `json` where they are an object or array on one line, verbatim; else as `text`, and as `hex` where they
//! are no text, such as half a character at the end of a piece. Moments are not on it: a replay takes no time, see
//! [`Player::timer`].
//!
//! # What is not
//!
//! No header of a request is recorded, no environment, no argument; a path of this machine only where the protocol itself
//! carries one. A key that appears all the same, because the peer repeats it, ends the recording and removes the file; it
//! is found as it is, in JSON's spelling, and across pieces of a body, but not where a model spells it out in several
//! events.
//!
//! # When it is written
//!
//! Line by line, into a file beside the one that was named, which takes that name when the recording ends. So whoever
//! finds a tape under its name finds a whole one, and the tape of a run that was killed, which is the one that someone
//! wants to look at, is in the `.part` file as far as the run came.

mod play;
mod record;

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

pub use crate::transport::tape::play::PlayedBody;
pub use crate::transport::tape::play::PlayedContext;
pub use crate::transport::tape::play::PlayedFiles;
pub use crate::transport::tape::play::PlayedLink;
pub use crate::transport::tape::play::PlayedLogs;
pub use crate::transport::tape::play::PlayedService;
pub use crate::transport::tape::play::PlayedTime;
pub use crate::transport::tape::play::Player;
pub use crate::transport::tape::record::RecordedBody;
pub use crate::transport::tape::record::RecordedContext;
pub use crate::transport::tape::record::RecordedLink;
pub use crate::transport::tape::record::RecordedLogs;
pub use crate::transport::tape::record::RecordedService;
pub use crate::transport::tape::record::Recorder;

use crate::runtime::text;
use crate::transport::Transport;
use crate::transport::child::Exit;
use crate::transport::http::Phase;
use crate::transport::http::TransportError;
use crate::transport::link::LinkError;
use crate::transport::session_log;

/// The name of the format.
const SCHEMA: &str = "omk.tape/1";
/// Characters of a tape's text kept in an error.
const MAX_SHOWN_CHARS: usize = 120;

/// A question and a short answer over HTTP, so that `omk prompt` can be tried where there is neither key nor agent. Invented,
/// as its header says. The question is [`EXAMPLE_QUESTION`].
pub const EXAMPLE: &str = include_str!("example.jsonl");
/// What is asked on [`EXAMPLE`].
pub const EXAMPLE_QUESTION: &str = "In one sentence: why count tokens before asking?";

/// Which agent it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The program, such as `kimi-cli`.
    pub kind: String,
    /// Its version, as it says.
    pub version: String,
}

/// The first line of a tape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    schema: String,
    /// The version of omk that recorded it.
    pub omk: String,
    /// How the peer was reached.
    pub transport: Transport,
    /// The model that was asked for, by the name that the service knows.
    pub model: String,
    /// The agent; a service has no version to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// A word to the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Header {
    /// For a recording by this omk.
    pub fn new(transport: Transport, model: impl Into<String>, peer: Option<Peer>) -> Header {
        Header {
            schema: SCHEMA.to_string(),
            omk: env!("CARGO_PKG_VERSION").to_string(),
            transport,
            model: model.into(),
            peer,
            note: None,
        }
    }
}

/// A tape that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tape {
    header: Header,
    /// What happened, with the line that says so, counted from 1.
    entries: Vec<(usize, Entry)>,
    is_whole: bool,
}

impl Tape {
    /// Reads a tape.
    ///
    /// # Errors
    ///
    /// [`TapeError::Version`] for another format, [`TapeError::Malformed`] for a line that is not as it should be. A tape
    /// without its end is read: [`Tape::is_whole`].
    pub fn parse(bytes: &[u8]) -> Result<Tape, TapeError> {
        let mut lines = bytes.split(|byte| *byte == b'\n').zip(1..);
        let first = lines.next().map(|(line, _)| line).unwrap_or_default();
        let header = read_header(first)?;
        let (mut entries, mut is_whole) = (Vec::new(), false);
        for (line, number) in lines {
            if line.trim_ascii().is_empty() {
                continue;
            }
            if is_whole {
                return Err(malformed(number, "something follows the end"));
            }
            match Entry::read(line) {
                Ok(Entry::End) => is_whole = true,
                Ok(entry) => entries.push((number, entry)),
                Err(detail) => return Err(malformed(number, &detail)),
            }
        }
        Ok(Tape {
            header,
            entries,
            is_whole,
        })
    }

    /// Whether a file that begins with these bytes may be a tape.
    pub fn begins(bytes: &[u8]) -> bool {
        let first = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        read_header(first).is_ok()
    }

    /// The tape of [`EXAMPLE`].
    ///
    /// # Errors
    ///
    /// As [`Tape::parse`]; a test holds that there is none.
    pub fn example() -> Result<Tape, TapeError> {
        Tape::parse(EXAMPLE.as_bytes())
    }

    /// Its first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether its recording ended as it should, rather than with the program.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }
}

fn read_header(line: &[u8]) -> Result<Header, TapeError> {
    #[derive(Deserialize)]
    struct Schema {
        schema: String,
    }
    let schema = serde_json::from_slice::<Schema>(line).map(|header| header.schema);
    match schema {
        Ok(schema) if schema == SCHEMA => {}
        Ok(found) => {
            return Err(TapeError::Version {
                found: shown(&found),
            });
        }
        Err(_) => return Err(malformed(1, "no header of a tape")),
    }
    serde_json::from_slice(line).map_err(|error| malformed(1, &error.to_string()))
}

fn malformed(line: usize, detail: &str) -> TapeError {
    TapeError::Malformed {
        line,
        detail: shown(detail),
    }
}

fn shown(said: &str) -> String {
    let cut = text::truncate(said, MAX_SHOWN_CHARS);
    text::escape(&cut).into_owned()
}

/// Why a tape cannot be recorded or played.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TapeError {
    /// The file cannot be written.
    Io {
        /// Which step failed, such as `create`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
    /// A secret appeared in the conversation, so nothing of it was kept.
    Secret,
    /// It is a tape of another format.
    Version {
        /// Which.
        found: String,
    },
    /// A line is not as it should be.
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// Something else is done than was done at the recording.
    Differs {
        /// The line of the tape, counted from 1.
        line: usize,
        /// How it differs.
        detail: String,
    },
    /// More is done than is on the tape.
    AtEnd {
        /// What is done.
        detail: String,
        /// Whether the recording was cut off there.
        is_cut: bool,
    },
    /// Less is done than is on the tape.
    LeftOver {
        /// The line of the tape with which it goes on, counted from 1.
        line: usize,
        /// What stands there.
        detail: String,
    },
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TapeError::Io { step, path, detail } => {
                write!(f, "tape: {step} {}: {detail}", path.display())
            }
            TapeError::Secret => f.write_str(
                "tape: the key stands in the conversation, where the prompt or the peer repeats it, so the tape was not kept",
            ),
            TapeError::Version { found } => {
                write!(f, "tape: its format is {found}; this omk reads {SCHEMA}")
            }
            TapeError::Malformed { line, detail } => write!(f, "tape: line {line}: {detail}"),
            TapeError::Differs { line, detail } => {
                write!(f, "tape: line {line}: the run differs: {detail}")
            }
            TapeError::AtEnd { detail, is_cut } => {
                let why = if *is_cut {
                    ", as its recording was cut off"
                } else {
                    ""
                };
                write!(f, "tape: it is at its end{why}: {detail}")
            }
            TapeError::LeftOver { line, detail } => {
                write!(f, "tape: line {line}: the run is over, and the tape goes on: {detail}")
            }
        }
    }
}

impl Error for TapeError {}

fn failed(step: &'static str, path: &Path, error: &std::io::Error) -> TapeError {
    TapeError::Io {
        step,
        path: path.to_path_buf(),
        detail: error.to_string(),
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// An agent was started.
    Start,
    /// A line to it.
    Send(Vec<u8>),
    /// A line from it.
    Receive(Vec<u8>),
    /// The logs of its session were looked for.
    Follow { found: bool },
    /// A line of one of them, with its agent's name.
    Log { agent: String, line: Vec<u8> },
    /// That was all of one look into the logs.
    Looked,
    /// An agent was ended, and how, where that is known.
    Exit(Option<Exit>),
    /// A request to a service.
    Request { path: String, body: Vec<u8> },
    /// The beginning of its answer.
    Response {
        status: u16,
        headers: Vec<(String, String)>,
    },
    /// A piece of its body.
    Body(Vec<u8>),
    /// The end of a body, or of an agent's output.
    Eof,
    /// What was done last failed.
    Error(Fault),
    /// The recording is over.
    End,
}

/// An agent of a session.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Agent {
    Name(String),
    Number(u16),
}

/// A line as it is written and read. Which fields it has depends on the first.
#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    on: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Agent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl<'a> Line<'a> {
    fn on(on: &'a str) -> Line<'a> {
        Line {
            on,
            ..Line::default()
        }
    }

    /// With bytes, in the plainest form that gives them back.
    fn with(self, bytes: &'a [u8]) -> Line<'a> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let mut hex = String::with_capacity(bytes.len().saturating_mul(2));
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
            }
            return Line {
                hex: Some(hex),
                ..self
            };
        };
        let is_one_line = text.starts_with(['{', '[']) && !text.contains(['\n', '\r']);
        let json = is_one_line
            .then(|| serde_json::from_str::<&RawValue>(text).ok())
            .flatten()
            .filter(|json| json.get().len() == text.len());
        match json {
            Some(json) => Line {
                json: Some(json),
                ..self
            },
            None => Line {
                text: Some(text.to_string()),
                ..self
            },
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match (self.json, &self.text, &self.hex) {
            (Some(json), None, None) => Ok(json.get().as_bytes().to_vec()),
            (None, Some(text), None) => Ok(text.as_bytes().to_vec()),
            (None, None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2);
                let bytes = digits.map(|pair| {
                    let digits = std::str::from_utf8(pair).ok()?;
                    let plain = digits.len() == 2 && digits.bytes().all(|d| d.is_ascii_hexdigit());
                    u8::from_str_radix(digits, 16).ok().filter(|_| plain)
                });
                let bytes: Option<Vec<u8>> = bytes.collect();
                bytes.ok_or_else(|| "hex: expected pairs of hexadecimal digits".to_string())
            }
            _ => Err(format!(
                "{}: expected one of json, text and hex",
                shown(self.on)
            )),
        }
    }
}

/// A field that has to be there.
fn needed<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("without {name}"))
}

impl Entry {
    /// Reads a line.
    fn read(line: &[u8]) -> Result<Entry, String> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        Ok(match line.on {
            "start" => Entry::Start,
            "send" => Entry::Send(line.bytes()?),
            "receive" => Entry::Receive(line.bytes()?),
            "follow" => Entry::Follow {
                found: needed(line.found, "found")?,
            },
            "log" => Entry::Log {
                line: line.bytes()?,
                agent: match needed(line.agent, "agent")? {
                    Agent::Name(name) => name,
                    // How omk wrote it up to 0.6.
                    Agent::Number(0) => session_log::MAIN.to_string(),
                    Agent::Number(number) => format!("agent-{}", number - 1),
                },
            },
            "looked" => Entry::Looked,
            "exit" => Entry::Exit(line.stderr.map(|stderr| Exit {
                code: line.code,
                signal: line.signal,
                stderr,
            })),
            "request" => Entry::Request {
                body: line.bytes()?,
                path: needed(line.path, "path")?,
            },
            "response" => Entry::Response {
                status: needed(line.status, "status")?,
                headers: needed(line.headers, "headers")?,
            },
            "body" => Entry::Body(line.bytes()?),
            "eof" => Entry::Eof,
            "error" => {
                let fault = needed(line.error, "error")?;
                match fault.is_known() {
                    true => Entry::Error(fault),
                    false => return Err(format!("an unknown error: {}", shown(&fault.kind))),
                }
            }
            "end" => Entry::End,
            other => return Err(format!("an unknown entry: {}", shown(other))),
        })
    }

    /// Writes a line, with its end.
    fn write(&self) -> Vec<u8> {
        let line = match self {
            Entry::Start => Line::on("start"),
            Entry::Send(bytes) => Line::on("send").with(bytes),
            Entry::Receive(bytes) => Line::on("receive").with(bytes),
            Entry::Follow { found } => Line {
                found: Some(*found),
                ..Line::on("follow")
            },
            Entry::Log { agent, line } => Line {
                agent: Some(Agent::Name(agent.clone())),
                ..Line::on("log").with(line)
            },
            Entry::Looked => Line::on("looked"),
            Entry::Exit(None) => Line::on("exit"),
            Entry::Exit(Some(exit)) => Line {
                code: exit.code,
                signal: exit.signal,
                stderr: Some(exit.stderr.clone()),
                ..Line::on("exit")
            },
            Entry::Request { path, body } => Line {
                path: Some(path.clone()),
                ..Line::on("request").with(body)
            },
            Entry::Response { status, headers } => Line {
                status: Some(*status),
                headers: Some(headers.clone()),
                ..Line::on("response")
            },
            Entry::Body(bytes) => Line::on("body").with(bytes),
            Entry::Eof => Line::on("eof"),
            Entry::Error(fault) => Line {
                error: Some(fault.clone()),
                ..Line::on("error")
            },
            Entry::End => Line::on("end"),
        };
        // Every key is a string and every value plain, so there is nothing that could fail.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// What it is, for an error.
    fn describe(&self) -> String {
        match self {
            Entry::Start => "an agent was started".to_string(),
            Entry::Send(line) => format!("omk sent {}", excerpt(line)),
            Entry::Receive(line) => format!("the agent sent {}", excerpt(line)),
            Entry::Follow { .. } => "the session's log was looked for".to_string(),
            Entry::Log { .. } | Entry::Looked => "the session's log went on".to_string(),
            Entry::Exit(_) => "the agent was ended".to_string(),
            Entry::Request { path, .. } => format!("a request was sent to {}", shown(path)),
            Entry::Response { status, .. } => format!("the service answered {status}"),
            Entry::Body(_) => "the answer went on".to_string(),
            Entry::Eof => "there was no more to read".to_string(),
            Entry::Error(fault) => format!("there was an error: {}", shown(&fault.kind)),
            Entry::End => "the recording ended".to_string(),
        }
    }
}

/// The beginning of a line, for an error.
fn excerpt(line: &[u8]) -> String {
    let start = line.get(..4 * MAX_SHOWN_CHARS).unwrap_or(line);
    text::truncate(&text::escape_bytes(start), MAX_SHOWN_CHARS).into_owned()
}

/// An error of a link, of a log or of HTTP. Without a host, as everything here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Fault {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// The phases of an exchange by name.
const PHASES: [(Phase, &str); 5] = [
    (Phase::Resolve, "resolve"),
    (Phase::Connect, "connect"),
    (Phase::Send, "send"),
    (Phase::Wait, "wait"),
    (Phase::Read, "read"),
];

/// The host in an error, on a tape.
const SOME_HOST: &str = "the service";

impl Fault {
    fn of(kind: &str, detail: &str) -> Fault {
        Fault {
            kind: kind.to_string(),
            detail: detail.to_string(),
            ..Fault::default()
        }
    }

    /// Whether it is one of reading a log, which happens beside the link.
    fn is_of_log(&self) -> bool {
        self.kind == "log"
    }

    fn of_link(error: &LinkError) -> Fault {
        match error {
            LinkError::Closed => Fault::of("closed", ""),
            LinkError::NotRead => Fault::of("not read", ""),
            LinkError::TooLong { limit } => Fault {
                limit: u64::try_from(*limit).ok(),
                ..Fault::of("too long", "")
            },
            LinkError::Io { detail } => Fault::of("io", detail),
            other => Fault::of("io", &other.to_string()),
        }
    }

    fn into_link(self) -> LinkError {
        match self.kind.as_str() {
            "closed" => LinkError::Closed,
            "not read" => LinkError::NotRead,
            "too long" => LinkError::TooLong {
                limit: usize::try_from(self.limit.unwrap_or(0)).unwrap_or(usize::MAX),
            },
            _ => LinkError::Io {
                detail: self.detail,
            },
        }
    }

    fn of_http(error: &TransportError) -> Fault {
        let phase = |phase: Phase| {
            let found = PHASES.iter().find(|(known, _)| *known == phase);
            found.map(|(_, name)| name.to_string())
        };
        match error {
            TransportError::Timeout(at) => Fault {
                phase: phase(*at),
                ..Fault::of("timeout", "")
            },
            TransportError::Silence { phase: at, limit } => Fault {
                phase: phase(*at),
                limit: u64::try_from(limit.as_millis()).ok(),
                ..Fault::of("silence", "")
            },
            TransportError::Dns { .. } => Fault::of("dns", ""),
            TransportError::Connect { detail, .. } => Fault::of("connect", detail),
            TransportError::Tls { detail } => Fault::of("tls", detail),
            TransportError::BadProxy { detail } => Fault::of("bad proxy", detail),
            TransportError::Proxy { detail } => Fault::of("proxy", detail),
            TransportError::BodyTooLarge { limit } => Fault {
                limit: Some(*limit),
                ..Fault::of("body too large", "")
            },
            TransportError::BadUrl { detail } => Fault::of("bad url", detail),
            TransportError::Redirect { detail } => Fault::of("redirect", detail),
            TransportError::Protocol { detail } => Fault::of("protocol", detail),
            TransportError::Io { detail } => Fault::of("io", detail),
            // A tape cannot press Ctrl-C; what it can play is a connection that broke.
            TransportError::Interrupted(_) => Fault::of("io", "interrupted"),
            TransportError::Tape { detail } => Fault::of("protocol", detail),
        }
    }

    fn into_http(self) -> TransportError {
        let named = self.phase.as_deref();
        let phase = PHASES.iter().find(|(_, name)| Some(*name) == named);
        let phase = phase.map_or(Phase::Wait, |(phase, _)| *phase);
        let (detail, limit) = (self.detail, self.limit.unwrap_or(0));
        let host = SOME_HOST.to_string();
        match self.kind.as_str() {
            "timeout" => TransportError::Timeout(phase),
            "silence" => TransportError::Silence {
                phase,
                limit: Duration::from_millis(limit),
            },
            "dns" => TransportError::Dns { host },
            "connect" => TransportError::Connect { host, detail },
            "tls" => TransportError::Tls { detail },
            "bad proxy" => TransportError::BadProxy { detail },
            "proxy" => TransportError::Proxy { detail },
            "body too large" => TransportError::BodyTooLarge { limit },
            "bad url" => TransportError::BadUrl { detail },
            "redirect" => TransportError::Redirect { detail },
            "io" => TransportError::Io { detail },
            _ => TransportError::Protocol { detail },
        }
    }

    fn is_known(&self) -> bool {
        const KINDS: &[&str] = &[
            "bad proxy",
            "bad url",
            "body too large",
            "closed",
            "connect",
            "dns",
            "io",
            "log",
            "not read",
            "protocol",
            "proxy",
            "redirect",
            "silence",
            "timeout",
            "tls",
            "too long",
        ];
        let phase = self.phase.as_deref();
        let has_phase = phase.is_none_or(|phase| PHASES.iter().any(|(_, name)| *name == phase));
        KINDS.contains(&self.kind.as_str()) && has_phase
    }
}

#[cfg(test)]
mod tests;
