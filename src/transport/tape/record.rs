//! Recording: what stands between a client and its peer, and writes down what passes.
//!
//! Nothing here changes or delays what passes. A recording that fails, to a full disk or because of a secret, ends itself
//! and is reported at the end: an answer that is being paid for is not given up for it.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::runtime::secret::Secret;
use crate::transport::agents::Dialect;
use crate::transport::child::Exit;
use crate::transport::http::BodyStream;
use crate::transport::http::HttpResponse;
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
use crate::transport::tape::Fault;
use crate::transport::tape::Header;
use crate::transport::tape::TapeError;
use crate::transport::tape::failed;

/// Shortest secret that is looked for: no service gives out shorter ones, and a test's `key` stands in many a text.
const MIN_SECRET_BYTES: usize = 8;

/// Writes a tape. Clones write the same one.
#[derive(Clone)]
pub struct Recorder(Rc<RefCell<Writer>>);

struct Writer {
    sink: Sink,
    /// The secrets in each spelling.
    needles: Vec<Vec<u8>>,
    /// The end of the body so far, in which a secret may have begun.
    tail: Vec<u8>,
    /// Why nothing more is recorded.
    failure: Option<TapeError>,
}

enum Sink {
    Memory(Vec<u8>),
    File {
        file: File,
        part: PathBuf,
        path: PathBuf,
    },
    /// The recording is over.
    Closed,
}

impl Recorder {
    /// A tape that will stand at this path when [`Recorder::finish`] was called, in place of what is there, and beside it as
    /// `.part` until then, where what a recording that was killed has left gives way. For the owner's eyes only (mode 0600),
    /// as it holds what was asked. The secrets are what must not get onto it; shorter than 8 bytes they are not looked for.
    ///
    /// # Errors
    ///
    /// [`TapeError::Io`] when the path is no file's or cannot be written beside.
    pub fn create(path: &Path, header: &Header, secrets: &[Secret]) -> Result<Recorder, TapeError> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let error = io::Error::other("it is there and no file");
            return Err(failed("create", path, &error));
        }
        let mut part = path.as_os_str().to_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        // What is left of a recording that was killed.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &part, &error));
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        // Refuses a link that someone put there.
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options
            .open(&part)
            .map_err(|error| failed("create", &part, &error))?;
        let path = path.to_path_buf();
        let recorder = Recorder::new(Sink::File { file, part, path }, header, secrets);
        let failure = recorder.0.borrow().failure.clone();
        failure.map_or(Ok(recorder), Err)
    }

    /// No tape: what is recorded by this one is as it was, so that a caller needs no client of another type.
    pub fn off() -> Recorder {
        Recorder(Rc::new(RefCell::new(Writer {
            sink: Sink::Closed,
            needles: Vec::new(),
            tail: Vec::new(),
            failure: None,
        })))
    }

    /// A tape in memory, for [`Recorder::take`].
    pub fn in_memory(header: &Header, secrets: &[Secret]) -> Recorder {
        Recorder::new(Sink::Memory(Vec::new()), header, secrets)
    }

    fn new(sink: Sink, header: &Header, secrets: &[Secret]) -> Recorder {
        let secrets = secrets.iter().map(Secret::expose);
        let long = secrets.filter(|secret| secret.len() >= MIN_SECRET_BYTES);
        let mut needles: Vec<Vec<u8>> = long.flat_map(spellings).collect();
        needles.sort();
        needles.dedup();
        let mut writer = Writer {
            sink,
            needles,
            tail: Vec::new(),
            failure: None,
        };
        let mut line = serde_json::to_vec(header).unwrap_or_default();
        line.push(b'\n');
        writer.put(&line);
        Recorder(Rc::new(RefCell::new(writer)))
    }

    /// Ends the recording. Of a tape on disk the file takes its name.
    ///
    /// # Errors
    ///
    /// [`TapeError::Secret`] when a secret appeared, after which there is no file; [`TapeError::Io`] when the tape could not
    /// be written to its end, which then is in the `.part` file as far as it could.
    pub fn finish(&self) -> Result<(), TapeError> {
        self.close().map(|_| ())
    }

    /// Ends the recording of a tape in memory, and gives it. Nothing where it is on disk.
    ///
    /// # Errors
    ///
    /// As [`Recorder::finish`].
    pub fn take(&self) -> Result<Vec<u8>, TapeError> {
        self.close()
    }

    fn close(&self) -> Result<Vec<u8>, TapeError> {
        let mut writer = self.0.borrow_mut();
        writer.write(&Entry::End);
        let sink = std::mem::replace(&mut writer.sink, Sink::Closed);
        if let Some(failure) = &writer.failure {
            return Err(failure.clone());
        }
        match sink {
            Sink::Memory(bytes) => Ok(bytes),
            Sink::Closed => Ok(Vec::new()),
            Sink::File { file, part, path } => {
                let done = file
                    .sync_all()
                    .map_err(|error| failed("sync", &part, &error));
                drop(file);
                done?;
                fs::rename(&part, &path).map_err(|error| failed("rename to", &path, &error))?;
                Ok(Vec::new())
            }
        }
    }

    /// The same link, recorded from its start.
    pub fn link<L: Link>(&self, link: L) -> RecordedLink<L> {
        self.note(|| Entry::Start);
        RecordedLink {
            link,
            recorder: self.clone(),
        }
    }

    /// Notes how an agent ended.
    pub fn note_exit(&self, exit: Option<&Exit>) {
        let exit = exit.map(|exit| {
            Exit {
                // The rest, which nothing quotes, may be about the machine.
                stderr: exit.telling_lines().join("\n"),
                ..exit.clone()
            }
        });
        self.note(|| Entry::Exit(exit));
    }

    /// The same logs, recorded: the lines that say something in this dialect.
    pub fn logs<S: LogSource>(&self, logs: S, dialect: &'static Dialect) -> RecordedLogs<S> {
        RecordedLogs {
            logs,
            dialect,
            recorder: self.clone(),
        }
    }

    /// The same account of a conversation, recorded.
    pub fn context<C: ContextSource>(&self, context: C) -> RecordedContext<C> {
        RecordedContext {
            context,
            recorder: self.clone(),
        }
    }

    /// The same service, recorded.
    pub fn service<H: Service>(&self, service: H) -> RecordedService<H> {
        RecordedService {
            service,
            recorder: self.clone(),
        }
    }

    fn is_on(&self) -> bool {
        !matches!(self.0.borrow().sink, Sink::Closed)
    }

    fn note(&self, entry: impl FnOnce() -> Entry) {
        // A line can have megabytes, which are copied only for a tape.
        if self.is_on() {
            self.0.borrow_mut().write(&entry());
        }
    }
}

impl fmt::Debug for Recorder {
    /// Without what is recorded, and without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// How a secret may stand in what is recorded: as it is, and as JSON may write it.
fn spellings(secret: &str) -> [Vec<u8>; 3] {
    let quoted = Value::String(secret.to_string()).to_string();
    let escaped = quoted.trim_matches('"').to_string();
    let slashes = escaped.replace('/', "\\/");
    [secret.to_string(), escaped, slashes].map(String::into_bytes)
}

impl Writer {
    fn write(&mut self, entry: &Entry) {
        if matches!(self.sink, Sink::Closed) {
            return;
        }
        let line = entry.write();
        let mut has_secret = self.has_secret(&line);
        if let Entry::Body(bytes) | Entry::Send(bytes) | Entry::Receive(bytes) = entry {
            has_secret |= self.has_secret(bytes);
        }
        match entry {
            Entry::Body(bytes) if !self.needles.is_empty() => {
                let mut joined = std::mem::take(&mut self.tail);
                joined.extend_from_slice(bytes);
                has_secret |= self.has_secret(&joined);
                let longest = self.needles.iter().map(Vec::len).max().unwrap_or(0);
                self.tail = joined.split_off(joined.len().saturating_sub(longest));
            }
            Entry::Request { .. } => self.tail.clear(),
            _ => {}
        }
        match has_secret {
            true => self.give_up(TapeError::Secret),
            false => self.put(&line),
        }
    }

    fn has_secret(&self, bytes: &[u8]) -> bool {
        self.needles.iter().any(|needle| holds(bytes, needle))
    }

    fn put(&mut self, line: &[u8]) {
        match &mut self.sink {
            Sink::Memory(bytes) => bytes.extend_from_slice(line),
            Sink::File { file, part, .. } => {
                if let Err(error) = file.write_all(line) {
                    let failure = failed("write", part, &error);
                    self.give_up(failure);
                }
            }
            Sink::Closed => {}
        }
    }

    /// Records no more. What was written so far goes with a secret: what led to it is as good as a part of it.
    fn give_up(&mut self, failure: TapeError) {
        let sink = std::mem::replace(&mut self.sink, Sink::Closed);
        self.failure = Some(failure);
        if let (Sink::File { part, .. }, Some(TapeError::Secret)) = (sink, &self.failure)
            && let Err(error) = fs::remove_file(&part)
        {
            self.failure = Some(failed("remove", &part, &error));
        }
    }
}

/// Whether the bytes hold those in a row. The first one is looked for alone, which is fast.
fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else {
        return false;
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(needle) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// A link that is recorded.
#[derive(Debug)]
pub struct RecordedLink<L> {
    link: L,
    recorder: Recorder,
}

impl<L> RecordedLink<L> {
    /// The link itself.
    pub fn inner(&mut self) -> &mut L {
        &mut self.link
    }
}

impl<L: Link> Link for RecordedLink<L> {
    fn send(&mut self, line: &str, deadline: Instant) -> Result<(), LinkError> {
        // Before it is sent, so that a run which is killed over it shows what it was.
        self.recorder.note(|| Entry::Send(line.as_bytes().to_vec()));
        let sent = self.link.send(line, deadline);
        if let Err(error) = &sent {
            self.recorder.note(|| Entry::Error(Fault::of_link(error)));
        }
        sent
    }

    fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError> {
        let received = self.link.receive(deadline);
        match &received {
            Ok(Received::Line(line)) => self.recorder.note(|| Entry::Receive(line.to_vec())),
            Ok(Received::Eof) => self.recorder.note(|| Entry::Eof),
            Ok(Received::Timeout) => {}
            Err(error) => self.recorder.note(|| Entry::Error(Fault::of_link(error))),
        }
        received
    }
}

/// Logs that are recorded: the lines that hold a fact.
#[derive(Clone, Debug)]
pub struct RecordedLogs<S> {
    logs: S,
    dialect: &'static Dialect,
    recorder: Recorder,
}

impl<S: LogSource> LogSource for RecordedLogs<S> {
    fn follow(&mut self, session: &str) -> io::Result<bool> {
        let followed = self.logs.follow(session);
        self.recorder.note(|| match &followed {
            Ok(found) => Entry::Follow { found: *found },
            Err(error) => Entry::Error(Fault::of("log", &error.to_string())),
        });
        followed
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        let (recorder, dialect) = (&self.recorder, self.dialect);
        let mut has_facts = false;
        let read = self.logs.read(&mut |agent, line| {
            if recorder.is_on() && dialect.fact(line).is_some() {
                has_facts = true;
                recorder.note(|| Entry::Log {
                    agent: agent.to_string(),
                    line: line.to_vec(),
                });
            }
            on_line(agent, line);
        });
        match &read {
            Err(error) => recorder.note(|| Entry::Error(Fault::of("log", &error.to_string()))),
            Ok(()) if has_facts => recorder.note(|| Entry::Looked),
            Ok(()) => {}
        }
        read
    }

    fn place(&self) -> String {
        self.logs.place()
    }

    fn is_behind(&self) -> bool {
        self.logs.is_behind()
    }

    fn owns(&self, path: &str) -> bool {
        self.logs.owns(path)
    }
}

/// An agent's account of a conversation that is recorded: what is taken from it, as it stands there. The rest of the file
/// belongs to earlier runs.
#[derive(Clone, Debug)]
pub struct RecordedContext<C> {
    context: C,
    recorder: Recorder,
}

impl<C: ContextSource> ContextSource for RecordedContext<C> {
    fn answer(&self, sent: &str) -> Option<String> {
        let answer = self.context.answer(sent)?;
        self.recorder.note(|| Entry::Log {
            agent: session_log::MAIN.to_string(),
            line: json!({"role": "assistant", "content": answer})
                .to_string()
                .into_bytes(),
        });
        self.recorder.note(|| Entry::Looked);
        Some(answer)
    }

    /// On the tape that is a look which found nothing.
    fn has_lost_prompt(&self) -> bool {
        let has_lost = self.context.has_lost_prompt();
        if has_lost {
            self.recorder.note(|| Entry::Looked);
        }
        has_lost
    }
}

/// A service that is recorded.
#[derive(Debug)]
pub struct RecordedService<H> {
    service: H,
    recorder: Recorder,
}

/// The end of an address's path: what comes before is the service's own.
pub(super) fn endpoint(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let mut parts = path.rsplit('/');
    let (last, before) = (parts.next(), parts.next());
    format!(
        "{}/{}",
        before.unwrap_or_default(),
        last.unwrap_or_default()
    )
}

impl<H: Service> Service for RecordedService<H> {
    type Body = RecordedBody<H::Body>;

    fn set_timeout(&mut self, timeout: Duration) {
        self.service.set_timeout(timeout);
    }

    fn post_json_streaming(
        &mut self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
        idle: Duration,
    ) -> Result<Streamed<Self::Body>, TransportError> {
        self.recorder.note(|| Entry::Request {
            path: endpoint(url),
            body: body.to_vec(),
        });
        let streamed = self.service.post_json_streaming(url, bearer, body, idle);
        match streamed {
            Ok(Streamed::Body(body)) => {
                self.recorder.note(|| Entry::Response {
                    status: body.status(),
                    headers: body.headers(),
                });
                Ok(Streamed::Body(RecordedBody {
                    body,
                    recorder: self.recorder.clone(),
                }))
            }
            Ok(Streamed::Refused(response)) => {
                note_refusal(&self.recorder, &response);
                Ok(Streamed::Refused(response))
            }
            Err(error) => {
                self.recorder.note(|| Entry::Error(Fault::of_http(&error)));
                Err(error)
            }
        }
    }
}

fn note_refusal(recorder: &Recorder, response: &HttpResponse) {
    recorder.note(|| Entry::Response {
        status: response.status,
        headers: response.headers(),
    });
    if !response.body.is_empty() {
        recorder.note(|| Entry::Body(response.body.clone()));
    }
    recorder.note(|| Entry::Eof);
}

/// A body that is recorded in the pieces that are read.
#[derive(Debug)]
pub struct RecordedBody<B> {
    body: B,
    recorder: Recorder,
}

impl<B: BodyStream> BodyStream for RecordedBody<B> {
    fn status(&self) -> u16 {
        self.body.status()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.body.header(name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.body.headers()
    }

    fn trace_id(&self) -> Option<&str> {
        self.body.trace_id()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        let read = self.body.read(buffer);
        self.recorder.note(|| match &read {
            Ok(0) => Entry::Eof,
            Ok(length) => Entry::Body(buffer.get(..*length).unwrap_or_default().to_vec()),
            Err(error) => Entry::Error(Fault::of_http(error)),
        });
        read
    }
}
