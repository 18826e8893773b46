//! Playing: what stands in for a peer, and says what it said.
//!
//! Strict: what is asked must be what was asked, in the same order and to the end. JSON is compared by what it says, not by
//! how it is written, and without what differs for a reason: omk's version, the directory that an agent works in, the
//! session that it was given, and the key to a service's cache. The first difference ends the run and is what
//! [`Player::finish`] reports.
//!
//! Takes no time. Where the peer was silent at the recording, or nothing more was heard from it, time jumps to the end of
//! the wait, so that a run which ended by a deadline ends by one again, at once. A run that someone interrupted does not
//! end in the same words, since nobody does so again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

use crate::runtime::clock::Timer;
use crate::runtime::secret::Secret;
use crate::runtime::text;
use crate::transport::acp;
use crate::transport::agents::kimi_cli;
use crate::transport::child::Exit;
use crate::transport::http::BodyStream;
use crate::transport::http::HttpResponse;
use crate::transport::http::KeptHeaders;
use crate::transport::http::Service;
use crate::transport::http::Streamed;
use crate::transport::http::TransportError;
use crate::transport::link::Link;
use crate::transport::link::LinkError;
use crate::transport::link::Received;
use crate::transport::session_log;
use crate::transport::session_log::ContextSource;
use crate::transport::session_log::LogSource;
use crate::transport::tape::Entry;
use crate::transport::tape::Header;
use crate::transport::tape::Tape;
use crate::transport::tape::TapeError;
use crate::transport::tape::record::endpoint;
use crate::transport::workspace::Workspace;

/// What may differ, by JSON pointer.
const INCIDENTAL: [&str; 5] = [
    "/params/client/version",
    "/params/clientInfo/version",
    "/params/cwd",
    "/params/sessionId",
    "/prompt_cache_key",
];
/// Characters shown of a text that differs, from a little before where it does.
const MAX_SHOWN_CHARS: usize = 40;

/// Plays a tape. Clones play the same one, from where it is.
#[derive(Clone)]
pub struct Player(Rc<RefCell<Reel>>);

struct Reel {
    header: Header,
    entries: VecDeque<(usize, Entry)>,
    is_whole: bool,
    time: Duration,
    /// The first thing that was not as on the tape: after it nothing is.
    broken: Option<TapeError>,
}

impl Player {
    /// A player at the tape's beginning.
    pub fn new(tape: Tape) -> Player {
        Player(Rc::new(RefCell::new(Reel {
            header: tape.header,
            entries: tape.entries.into(),
            is_whole: tape.is_whole,
            time: Duration::ZERO,
            broken: None,
        })))
    }

    /// The tape's first line.
    pub fn header(&self) -> Header {
        self.0.borrow().header.clone()
    }

    /// The directory that an agent worked in, as far as it was told.
    pub fn directory(&self) -> Option<String> {
        let reel = self.0.borrow();
        reel.entries.iter().find_map(|(_, entry)| match entry {
            Entry::Send(line) => {
                let line: serde_json::Value = serde_json::from_slice(line).ok()?;
                line.pointer("/params/cwd")?.as_str().map(str::to_string)
            }
            _ => None,
        })
    }

    /// The time that passes on it. Whoever plays must go by this one, or waits in vain.
    pub fn timer(&self) -> PlayedTime {
        PlayedTime(self.clone())
    }

    /// The logs of the sessions on it.
    pub fn logs(&self) -> PlayedLogs {
        PlayedLogs {
            player: self.clone(),
            with_main: true,
        }
    }

    /// The logs of the sub-agents on it, without the main agent's.
    pub fn sub_agent_logs(&self) -> PlayedLogs {
        PlayedLogs {
            with_main: false,
            ..self.logs()
        }
    }

    /// The user's files on it.
    pub fn files(&self) -> PlayedFiles {
        PlayedFiles(self.clone())
    }

    /// What the agent on it keeps of a conversation.
    pub fn context(&self) -> PlayedContext {
        PlayedContext(self.clone())
    }

    /// The service on it.
    pub fn service(&self) -> PlayedService {
        PlayedService(self.clone())
    }

    /// Starts the next agent on it.
    ///
    /// # Errors
    ///
    /// [`LinkError::Tape`] when no agent was started at this point.
    pub fn start(&self) -> Result<PlayedLink, LinkError> {
        self.expect("an agent is started", |entry| match entry {
            Entry::Start => Ok(()),
            _ => Err(None),
        })
        .map_err(of_link)?;
        Ok(PlayedLink {
            player: self.clone(),
            line: Vec::new(),
        })
    }

    /// Ends the agent on it, and says how it ended then.
    pub fn stop(&self) -> Option<Exit> {
        // A difference is kept for the end: there is nobody here to hear of it.
        self.expect("the agent is ended", |entry| match entry {
            Entry::Exit(exit) => Ok(exit.clone()),
            _ => Err(None),
        })
        .ok()
        .flatten()
    }

    /// Says whether the run was the one on the tape, to its end. What is left over is an error: a tape that is played in
    /// part says nothing about the rest, such as a second question that was not asked.
    ///
    /// # Errors
    ///
    /// The first difference, or [`TapeError::LeftOver`].
    pub fn finish(&self) -> Result<(), TapeError> {
        let reel = self.0.borrow();
        match (&reel.broken, reel.entries.front()) {
            (Some(broken), _) => Err(broken.clone()),
            (None, Some((line, entry))) => Err(TapeError::LeftOver {
                line: *line,
                detail: entry.describe(),
            }),
            (None, None) => Ok(()),
        }
    }

    /// Takes the next entry if it is what is done now. `fits` gives what it holds, or why it is another, where more can be
    /// said than that.
    fn expect<R>(
        &self,
        done: &str,
        fits: impl FnOnce(&Entry) -> Result<R, Option<String>>,
    ) -> Result<R, TapeError> {
        let mut reel = self.0.borrow_mut();
        if let Some(broken) = &reel.broken {
            return Err(broken.clone());
        }
        let error = match reel.entries.front() {
            None => TapeError::AtEnd {
                detail: done.to_string(),
                is_cut: !reel.is_whole,
            },
            Some((line, entry)) => match fits(entry) {
                Ok(found) => {
                    reel.entries.pop_front();
                    return Ok(found);
                }
                Err(why) => {
                    let why =
                        why.unwrap_or_else(|| format!("{done}, but then {}", entry.describe()));
                    TapeError::Differs {
                        line: *line,
                        // Another version may ask otherwise, which is nobody's mistake.
                        detail: match reel.header.omk.as_str() {
                            env!("CARGO_PKG_VERSION") => why,
                            other => format!("{why} (recorded by omk {})", super::shown(other)),
                        },
                    }
                }
            },
        };
        reel.broken = Some(error.clone());
        Err(error)
    }

    /// Takes the next entry if it is one of these. Nothing is wrong if it is not.
    fn take<R>(&self, fits: impl FnOnce(&Entry) -> Option<R>) -> Result<Option<R>, TapeError> {
        let mut reel = self.0.borrow_mut();
        if let Some(broken) = &reel.broken {
            return Err(broken.clone());
        }
        let found = reel.entries.front().and_then(|(_, entry)| fits(entry));
        if found.is_some() {
            reel.entries.pop_front();
        }
        Ok(found)
    }

    /// What the agent is sent next about a file that it handed over: its text, nothing if it was written, or what was wrong.
    fn replied(&self) -> io::Result<String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Reply {
            result: Text,
            error: Option<Fault>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Text {
            content: String,
        }
        #[derive(Deserialize)]
        struct Fault {
            code: i64,
            message: String,
        }
        let next = self.0.borrow();
        let reply: Reply = match next.entries.front() {
            Some((_, Entry::Send(line))) => serde_json::from_slice(line).unwrap_or_default(),
            _ => Reply::default(),
        };
        match reply.error {
            Some(fault) if fault.code == acp::NOT_FOUND => Err(io::ErrorKind::NotFound.into()),
            Some(fault) => Err(io::Error::other(fault.message)),
            None => Ok(reply.result.content),
        }
    }

    fn pass(&self, time: Duration) {
        let mut reel = self.0.borrow_mut();
        reel.time = reel.time.saturating_add(time);
    }
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reel = self.0.borrow();
        f.debug_struct("Player")
            .field("header", &reel.header)
            .field("left", &reel.entries.len())
            .finish_non_exhaustive()
    }
}

fn of_link(error: TapeError) -> LinkError {
    LinkError::Tape {
        detail: error.to_string(),
    }
}

fn of_http(error: TapeError) -> TransportError {
    TransportError::Tape {
        detail: error.to_string(),
    }
}

/// The time on a tape, which passes only by waiting.
#[derive(Clone, Debug)]
pub struct PlayedTime(Player);

impl Timer for PlayedTime {
    fn elapsed(&self) -> Duration {
        self.0.0.borrow().time
    }

    fn sleep(&mut self, duration: Duration) {
        self.0.pass(duration);
    }

    fn jitter(&mut self) -> u16 {
        0
    }
}

/// An agent on a tape.
#[derive(Debug)]
pub struct PlayedLink {
    player: Player,
    line: Vec<u8>,
}

impl Link for PlayedLink {
    fn send(&mut self, line: &str, _: Instant) -> Result<(), LinkError> {
        let done = format!("omk sends {}", super::excerpt(line.as_bytes()));
        self.player
            .expect(&done, |entry| match entry {
                Entry::Send(then) => same(then, line.as_bytes()).map_err(Some),
                _ => Err(None),
            })
            .map_err(of_link)?;
        let fault = self.player.take(|entry| match entry {
            Entry::Error(fault) if !fault.is_of_log() => Some(fault.clone()),
            _ => None,
        });
        match fault.map_err(of_link)? {
            Some(fault) => Err(fault.into_link()),
            None => Ok(()),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError> {
        enum Heard {
            Line(Vec<u8>),
            Eof,
            Error(LinkError),
        }
        let heard = self.player.take(|entry| match entry {
            Entry::Receive(line) => Some(Heard::Line(line.clone())),
            Entry::Eof => Some(Heard::Eof),
            Entry::Error(fault) if !fault.is_of_log() => {
                Some(Heard::Error(fault.clone().into_link()))
            }
            _ => None,
        });
        match heard.map_err(of_link)? {
            Some(Heard::Line(line)) => {
                self.line = line;
                return Ok(Received::Line(&self.line));
            }
            Some(Heard::Eof) => return Ok(Received::Eof),
            Some(Heard::Error(error)) => return Err(error),
            None => {}
        }
        let at_end = self.player.0.borrow().entries.is_empty();
        if at_end {
            // Not even the agent's end is there, so nobody knows what came next.
            self.player
                .expect::<()>("a line is awaited", |_| Err(None))
                .map_err(of_link)?;
        }
        // A moment more, as part of the wait has passed before it began.
        let wait = deadline.saturating_duration_since(Instant::now());
        self.player
            .pass(wait.saturating_add(Duration::from_millis(1)));
        Ok(Received::Timeout)
    }
}

/// The logs on a tape.
#[derive(Clone, Debug)]
pub struct PlayedLogs {
    player: Player,
    with_main: bool,
}

impl LogSource for PlayedLogs {
    fn follow(&mut self, _: &str) -> io::Result<bool> {
        let fits = |entry: &Entry| match entry {
            Entry::Follow { found } => Some(Ok(*found)),
            Entry::Error(fault) if fault.is_of_log() => {
                Some(Err(io::Error::other(fault.detail.clone())))
            }
            _ => None,
        };
        if !self.with_main {
            // Tapes of omk up to 0.6 do not have it.
            let found = self.player.take(fits).map_err(io::Error::other)?;
            return found.unwrap_or(Ok(true));
        }
        let found = self
            .player
            .expect("the session's log is looked for", |entry| {
                fits(entry).ok_or(None)
            });
        found.map_err(io::Error::other)?
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        let mut has_facts = self.with_main;
        loop {
            let next = self.player.take(|entry| match entry {
                // The main agent's is what the context says.
                Entry::Log { agent, line } if self.with_main || agent != session_log::MAIN => {
                    Some(Ok(Some((agent.clone(), line.clone()))))
                }
                Entry::Looked if has_facts => Some(Ok(None)),
                Entry::Error(fault) if fault.is_of_log() => Some(Err(fault.detail.clone())),
                _ => None,
            });
            match next.map_err(io::Error::other)? {
                Some(Ok(Some((agent, line)))) => {
                    has_facts = true;
                    on_line(&agent, &line);
                }
                Some(Err(detail)) => return Err(io::Error::other(detail)),
                Some(Ok(None)) | None => return Ok(()),
            }
        }
    }

    fn place(&self) -> String {
        "the tape".to_string()
    }

    fn owns(&self, _: &str) -> bool {
        self.player.replied().is_ok()
    }
}

/// The user's files on a tape: what the agent was sent about each. Nothing is read and nothing written.
#[derive(Clone, Debug)]
pub struct PlayedFiles(Player);

impl Workspace for PlayedFiles {
    fn read(&mut self, _: &str, _: bool) -> io::Result<String> {
        self.0.replied()
    }

    fn write(&mut self, _: &str, _: &str) -> io::Result<()> {
        self.0.replied().map(drop)
    }
}

/// An agent's account of a conversation on a tape. One that was recorded before there was any has none, which says nothing.
#[derive(Clone, Debug)]
pub struct PlayedContext(Player);

impl PlayedContext {
    /// Takes the next entry if it is one of these. A difference that was found before is told at the end.
    fn take<R>(&self, fits: impl FnOnce(&Entry) -> Option<R>) -> Option<R> {
        self.0.take(fits).ok().flatten()
    }

    fn has_looked(&self) -> bool {
        self.take(|entry| matches!(entry, Entry::Looked).then_some(()))
            .is_some()
    }
}

impl ContextSource for PlayedContext {
    fn answer(&self, _: &str) -> Option<String> {
        let line = self.take(|entry| match entry {
            Entry::Log { line, .. } => Some(line.clone()),
            _ => None,
        })?;
        // What follows a look that does not end is another line than is awaited, and is found out there.
        self.has_looked();
        kimi_cli::last_answer(&line)
    }

    fn has_lost_prompt(&self) -> bool {
        self.has_looked()
    }
}

/// A service on a tape.
#[derive(Clone, Debug)]
pub struct PlayedService(Player);

impl Service for PlayedService {
    type Body = PlayedBody;

    fn set_timeout(&mut self, _: Duration) {}

    fn post_json_streaming(
        &mut self,
        url: &str,
        _: Option<&Secret>,
        body: &[u8],
        _: Duration,
    ) -> Result<Streamed<PlayedBody>, TransportError> {
        let path = endpoint(url);
        self.0
            .expect("a request is sent", |entry| match entry {
                Entry::Request { path: then, .. } if *then != path => Err(Some(format!(
                    "the request goes to {}, and went to {}",
                    super::shown(&path),
                    super::shown(then)
                ))),
                Entry::Request { body: then, .. } => same(then, body).map_err(Some),
                _ => Err(None),
            })
            .map_err(of_http)?;
        let answer = self.0.expect("an answer is awaited", |entry| match entry {
            Entry::Response { status, headers } => Ok(Ok((*status, KeptHeaders::read(headers)))),
            Entry::Error(fault) => Ok(Err(fault.clone().into_http())),
            _ => Err(None),
        });
        let (status, headers) = answer.map_err(of_http)??;
        let mut stream = PlayedBody {
            player: self.0.clone(),
            status,
            headers,
            piece: VecDeque::new(),
        };
        if (200..300).contains(&status) {
            return Ok(Streamed::Body(stream));
        }
        let mut body = Vec::new();
        while let Some(piece) = stream.next_piece()? {
            body.extend_from_slice(&piece);
        }
        let refusal = HttpResponse::new(status, body, stream.headers);
        Ok(Streamed::Refused(refusal))
    }
}

/// The body of an answer on a tape.
#[derive(Debug)]
pub struct PlayedBody {
    player: Player,
    status: u16,
    headers: KeptHeaders,
    /// What did not go into the reader's last buffer.
    piece: VecDeque<u8>,
}

impl PlayedBody {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        let next = self
            .player
            .expect("the answer is read on", |entry| match entry {
                Entry::Body(bytes) => Ok(Ok(Some(bytes.clone()))),
                Entry::Eof => Ok(Ok(None)),
                Entry::Error(fault) => Ok(Err(fault.clone().into_http())),
                _ => Err(None),
            });
        next.map_err(of_http)?
    }
}

impl BodyStream for PlayedBody {
    fn status(&self) -> u16 {
        self.status
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.headers.pairs()
    }

    fn trace_id(&self) -> Option<&str> {
        self.headers.trace_id()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        // Nothing would mean the end, so an empty piece is passed over.
        while self.piece.is_empty() && !buffer.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece.into(),
                None => return Ok(0),
            }
        }
        io::Read::read(&mut self.piece, buffer).map_err(|error| TransportError::Io {
            detail: error.to_string(),
        })
    }
}

/// Whether two messages say the same; if not, where they begin to differ.
fn same(then: &[u8], now: &[u8]) -> Result<(), String> {
    if then == now {
        return Ok(());
    }
    let parsed = (
        serde_json::from_slice::<Value>(then),
        serde_json::from_slice::<Value>(now),
    );
    let (Ok(mut then), Ok(mut now)) = parsed else {
        return Err(format!(
            "omk sends {}, and sent {}",
            super::excerpt(now),
            super::excerpt(then)
        ));
    };
    for pointer in INCIDENTAL {
        for value in [&mut then, &mut now] {
            remove(value, pointer);
        }
    }
    match difference(&then, &now, "$") {
        None => Ok(()),
        Some(difference) => Err(difference),
    }
}

fn remove(value: &mut Value, pointer: &str) {
    if let Some((parent, key)) = pointer.rsplit_once('/')
        && let Some(Value::Object(members)) = value.pointer_mut(parent)
    {
        members.remove(key);
    }
}

/// The first difference between two values. Both were parsed, which bounds their depth.
fn difference(then: &Value, now: &Value, path: &str) -> Option<String> {
    let absent = |path: &str, key: &str, whose: &str, value: &Value| {
        let (key, value) = (super::shown(key), short(value, 0));
        Some(format!("{path}.{key}: only {whose} has it: {value}"))
    };
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (key, a) in then {
                let found = match now.get(key) {
                    Some(b) => difference(a, b, &format!("{path}.{}", super::shown(key))),
                    None => absent(path, key, "the tape", a),
                };
                if found.is_some() {
                    return found;
                }
            }
            let more = now.iter().find(|(key, _)| !then.contains_key(*key));
            more.and_then(|(key, value)| absent(path, key, "the run", value))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| difference(a, b, &format!("{path}[{i}]")))
        }
        (Value::Array(a), Value::Array(b)) => Some(format!(
            "{path}: {} items, and {} on the tape",
            b.len(),
            a.len()
        )),
        (a, b) if a == b => None,
        (Value::String(a), Value::String(b)) => {
            let equal = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
            Some(format!(
                "{path}: from character {equal} on {}, and {} on the tape",
                short(now, equal),
                short(then, equal)
            ))
        }
        (a, b) => Some(format!(
            "{path}: {}, and {} on the tape",
            short(b, 0),
            short(a, 0)
        )),
    }
}

/// A value for an error, a text from that character on.
fn short(value: &Value, from: usize) -> String {
    let shown = match value {
        Value::String(text) => {
            let rest: String = text.chars().skip(from).take(MAX_SHOWN_CHARS + 1).collect();
            Value::from(text::truncate(&rest, MAX_SHOWN_CHARS)).to_string()
        }
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => format!("an object of {}", members.len()),
        other => other.to_string(),
    };
    text::escape(&shown).into_owned()
}
