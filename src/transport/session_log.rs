//! What agents write down and do not say: the logs of their sessions.
//!
//! Kimi Code hides failures, retries and usage from its protocol and writes them to `agents/main/wire.jsonl`; kimi-cli's
//! protocol is honest, but its background agents and its exact answer after a broken stream are only in its files. The
//! readers are pure: a line in, a fact out, and [`CodeLog`] adds the facts up. [`Tail`] follows a file that grows.
//! Refuses to add what is written more than once: only `usage.record` counts, its copies in other lines do not. Refuses
//! to compute the hashes in the paths: the session's own id finds its directory.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::transport::agent::Answered;
use crate::transport::agent::Failure;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Retry;
use crate::transport::agent::Usage;
use crate::transport::agent::UsageSum;
use crate::transport::wire::Typed;

/// The largest text file that is handed over: it travels in one line, which an answer of that size would too.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Longest session id: theirs have 44 characters.
const MAX_ID: usize = 128;
/// The longest prompt that Kimi Code keeps whole when it shortens a conversation, in tokens by its own estimate: of the last
/// 20,000 that the user said it leaves 2,000 to the first. Read in the source of 2.1.0.
const LONGEST_KEPT_PROMPT: usize = 18_000;

/// A file that grows, read from where it was to where it is.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Tail {
    /// From an offset on; 0 for a file that is not there yet.
    pub fn new(path: impl Into<PathBuf>, offset: u64) -> Tail {
        Tail {
            path: path.into(),
            offset,
            partial: Vec::new(),
        }
    }

    /// From the file's present end on, so that only what comes later is seen.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be looked at.
    pub fn at_end(path: impl Into<PathBuf>) -> io::Result<Tail> {
        let path = path.into();
        let offset = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Tail::new(path, offset))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives every line that has become whole since the last call; a last one without its end waits.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has become shorter: these logs are only ever added to. One that is not there yet is
    /// empty.
    pub fn read(&mut self, mut on_line: impl FnMut(&[u8])) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.offset == 0 => return Ok(()),
            Err(e) => return Err(e),
        };
        if file.metadata()?.len() < self.offset {
            let message = format!("{} has become shorter", self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let before = self.partial.len();
        file.read_to_end(&mut self.partial)?;
        self.offset += (self.partial.len() - before) as u64;
        // Only what is new can hold an end, so the part that waited is not searched again.
        let fresh = self.partial.get(before..).unwrap_or_default();
        let Some(last) = fresh.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let rest = self.partial.split_off(before + last + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let lines = whole.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            on_line(line);
        }
        Ok(())
    }
}

/// What stands on disk beside the link to Kimi Code: the logs of its sessions, and the text files that its tools hand over to
/// us. In its files, in files that are recorded, or in a recording.
pub trait LogSource {
    /// Finds the logs of a session and follows them from where they end now. Says whether there are any.
    ///
    /// # Errors
    ///
    /// They are there and cannot be read.
    fn follow(&mut self, session: &str) -> io::Result<bool>;

    /// Gives every line since the last time, with the number of its agent: 0 is the main one, the others follow as they
    /// come.
    ///
    /// # Errors
    ///
    /// As [`Tail::read`].
    fn read(&mut self, on_line: &mut dyn FnMut(usize, &[u8])) -> io::Result<()>;

    /// Where they are, or are looked for, in an error.
    fn place(&self) -> String;

    /// Whether a file lies in the directory of the session that is followed.
    fn owns(&self, path: &str) -> bool;

    /// A text file as a whole. What is no UTF-8 is replaced where it is only to be shown.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no regular file or larger than 64 MiB, or is no text and is not only to be shown.
    fn read_file(&self, path: &str, is_shown: bool) -> io::Result<String>;

    /// Writes a text file in place of what it holds. Its directory must be there.
    ///
    /// # Errors
    ///
    /// It cannot be written; what it holds is then as with any program that writes.
    fn write_file(&mut self, path: &str, content: &str) -> io::Result<()>;
}

/// The logs in an agent's home, its `KIMI_CODE_HOME`.
#[derive(Debug)]
pub struct SessionFiles {
    home: PathBuf,
    /// The session's; `None` before it is known.
    directory: Option<PathBuf>,
    /// The main agent's first.
    tails: Vec<Tail>,
}

impl SessionFiles {
    /// The logs in this home, of which none is followed yet.
    pub fn new(home: impl Into<PathBuf>) -> SessionFiles {
        SessionFiles {
            home: home.into(),
            directory: None,
            tails: Vec::new(),
        }
    }

    fn follows(&self, path: &Path) -> bool {
        self.tails.iter().any(|known| known.path() == path)
    }

    /// Where a session keeps its logs: by the agent's index, or by looking for its id.
    fn session_directory(&self, session: &str) -> io::Result<Option<PathBuf>> {
        let index = match fs::read(self.home.join("session_index.jsonl")) {
            Ok(index) => index,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        match code_session_dir(&index, session) {
            Some(directory) => Ok(Some(directory)),
            None => find_session(&self.home.join("sessions"), session),
        }
    }
}

impl Clone for SessionFiles {
    /// The same home, and nothing followed: what is followed belongs to one session.
    fn clone(&self) -> SessionFiles {
        SessionFiles::new(&self.home)
    }
}

impl LogSource for SessionFiles {
    fn follow(&mut self, session: &str) -> io::Result<bool> {
        let Some(directory) = self.session_directory(session)? else {
            return Ok(false);
        };
        // The main agent's may come with the prompt, the others' with their agents.
        let mut paths = vec![directory.join("agents/main/wire.jsonl")];
        paths.extend(logs(&directory)?);
        for path in paths {
            if !self.follows(&path) {
                self.tails.push(Tail::at_end(path)?);
            }
        }
        self.directory = Some(directory);
        Ok(true)
    }

    fn read(&mut self, on_line: &mut dyn FnMut(usize, &[u8])) -> io::Result<()> {
        if let Some(directory) = &self.directory {
            for path in logs(directory)? {
                if !self.follows(&path) {
                    self.tails.push(Tail::new(path, 0));
                }
            }
        }
        for (agent, tail) in self.tails.iter_mut().enumerate() {
            tail.read(|line| on_line(agent, line))?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        let main = self.tails.first().map(Tail::path);
        main.unwrap_or(&self.home).display().to_string()
    }

    fn owns(&self, path: &str) -> bool {
        let climbs = path.split('/').any(|part| part == "..");
        let directory = self.directory.as_ref();
        !climbs && directory.is_some_and(|directory| Path::new(path).starts_with(directory))
    }

    fn read_file(&self, path: &str, is_shown: bool) -> io::Result<String> {
        // A pipe or a device may never end.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("it is larger than 64 MiB"));
        }
        let bytes = fs::read(path)?;
        match is_shown {
            true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            false => String::from_utf8(bytes).map_err(io::Error::other),
        }
    }

    fn write_file(&mut self, path: &str, content: &str) -> io::Result<()> {
        fs::write(path, content)
    }
}

/// What kimi-cli and kimi-agent keep of a conversation and do not say: read in the session's file, in one that is recorded,
/// or in a recording. What cannot be read says nothing, which is what was known before.
pub trait ContextSource {
    /// The answer of the turn that has ended, where it is less than what was sent: after a stream that broke, that is what
    /// both tries said.
    fn answer(&self, sent: &str) -> Option<String>;

    /// Whether nothing is left of what the user said.
    fn has_lost_prompt(&self) -> bool;
}

/// A session's `context.jsonl` in an agent's home, its `KIMI_SHARE_DIR`; by default that of no session.
#[derive(Clone, Debug, Default)]
pub struct SessionContext {
    kept: Option<(PathBuf, String)>,
}

impl SessionContext {
    /// That of this session.
    pub fn new(home: impl Into<PathBuf>, session: impl Into<String>) -> SessionContext {
        SessionContext {
            kept: Some((home.into(), session.into())),
        }
    }

    fn read(&self) -> Option<Vec<u8>> {
        let (home, session) = self.kept.as_ref()?;
        let directory = find_session(&home.join("sessions"), session).ok()??;
        fs::read(directory.join("context.jsonl")).ok()
    }
}

impl ContextSource for SessionContext {
    fn answer(&self, sent: &str) -> Option<String> {
        let kept = legacy_answer(&self.read()?)?;
        // The try that broke was sent first. Anything else is not what this is about.
        let is_less = !kept.is_empty() && kept.len() < sent.len() && sent.ends_with(kept.as_str());
        is_less.then_some(kept)
    }

    fn has_lost_prompt(&self) -> bool {
        self.read().is_some_and(|kept| !legacy_has_prompt(&kept))
    }
}

/// A fact from a line of Kimi Code's log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CodeFact {
    /// A turn begins. Agents begin some that nobody asked for, such as after a background agent's end.
    Turn {
        /// Its number, which counts all of them.
        turn: u64,
        /// Whether a prompt of the user's began it.
        user: bool,
    },
    /// The model is asked.
    Call {
        /// Its name in the configuration.
        alias: String,
        /// Its name at the service.
        model: String,
    },
    /// The call has said something.
    Part,
    /// A call is over.
    Used {
        /// Its usage; `None` when the service did not tell.
        usage: Option<Usage>,
        /// The model's name in the configuration.
        alias: String,
        /// Whether it was the agent's own idea, to shorten its history.
        own: bool,
    },
    /// The conversation was shortened.
    Compacted {
        /// Whether something that the user said was left out.
        elided: bool,
    },
    /// A call failed and will be made again. What it said is void.
    Retry(Retry),
    /// An answer of the model's, exactly. Written at the end of the turn, one for each step.
    Message {
        /// Its text.
        text: String,
        /// Why it ended.
        finish: Finish,
    },
    /// A turn is over.
    Ended {
        /// Its number.
        turn: u64,
        /// How.
        end: TurnEnd,
    },
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The agent was done.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// The limit on steps ended it.
    MaxSteps,
    /// It failed.
    Failed(Failure),
}

/// The facts of one agent's log, added up.
#[derive(Debug, Default)]
pub struct CodeLog {
    usage: UsageSum,
    model: Option<String>,
    text: Option<String>,
    finish: Option<Finish>,
    turn: Option<u64>,
    end: Option<TurnEnd>,
    /// A call runs whose usage has not come.
    open: bool,
    /// It has said something.
    said: bool,
    /// A call of the turn was answered.
    answered: bool,
    /// Something that the user said was left out before the turn's first answer.
    elided: bool,
}

impl CodeLog {
    /// Takes a line, and gives its fact if it holds one.
    pub fn read_line(&mut self, line: &[u8]) -> Option<CodeFact> {
        let fact = code_fact(line)?;
        match &fact {
            CodeFact::Turn { turn, user: true } => {
                self.turn = Some(*turn);
                self.text = None;
                self.finish = None;
                self.end = None;
                self.answered = false;
                self.elided = false;
            }
            CodeFact::Call { model, .. } => {
                self.model = Some(model.clone());
                self.open = true;
                self.said = false;
            }
            CodeFact::Part => self.said = true,
            CodeFact::Used { usage, own, .. } => {
                self.open = false;
                self.answered |= !own;
                self.usage.add(*usage);
            }
            CodeFact::Compacted { elided } => self.elided |= *elided && !self.answered,
            CodeFact::Retry(retry) => self.close_call(retry.was_empty()),
            CodeFact::Message { text, finish } if self.end.is_none() => {
                self.text = Some(text.clone());
                self.finish = Some(finish.clone());
            }
            CodeFact::Ended { turn, end } => {
                self.close_call(match end {
                    TurnEnd::Cancelled => true,
                    TurnEnd::Failed(failure) => failure.kind == FailureKind::Empty,
                    _ => false,
                });
                if self.turn.is_none_or(|own| own == *turn) {
                    self.end = Some(end.clone());
                }
            }
            _ => {}
        }
        Some(fact)
    }

    /// Books a call that left no usage: one that said something before it broke may be on the bill, and one that was
    /// cancelled, or answered with nothing, in any case.
    fn close_call(&mut self, charged: bool) {
        if std::mem::take(&mut self.open) && (self.said || charged) {
            self.usage.add(None);
        }
    }

    /// The usage of every call since the log was followed, unasked turns' included: they are on the same bill.
    pub fn usage(&self) -> &UsageSum {
        &self.usage
    }

    /// Whether something that the user said was left out before the model first answered in the turn: what is oldest, or
    /// the prompt itself where [`code_keeps_whole`] says so.
    pub fn was_elided(&self) -> bool {
        self.elided
    }

    /// The model that was asked last, by its name at the service.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The exact text of the user's turn's last answer.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// How the user's turn ended; `None` until its line has come, which is some milliseconds after the protocol's answer.
    pub fn end(&self) -> Option<&TurnEnd> {
        self.end.as_ref()
    }

    /// The truth about a turn that the protocol says is over; `None` until the log has it.
    pub fn outcome(&self, answered: &Answered) -> Option<Outcome> {
        Some(match self.end.as_ref()? {
            TurnEnd::Failed(failure) => Outcome::Failed(failure.clone().after(&self.usage)),
            TurnEnd::Cancelled => Outcome::Cancelled,
            TurnEnd::MaxSteps => Outcome::MaxSteps { steps: None },
            TurnEnd::Completed if *answered == Answered::Refused => {
                Outcome::Finished(Finish::Filtered)
            }
            TurnEnd::Completed => Outcome::Finished(self.finish.clone().unwrap_or(Finish::Untold)),
        })
    }
}

/// The fact in a line of Kimi Code's log. Other lines, broken ones among them, hold none.
pub fn code_fact(line: &[u8]) -> Option<CodeFact> {
    // Most lines are of no interest and some are long: their type is read first, which copies nothing.
    let kind = serde_json::from_slice::<Kind>(line).ok()?.kind;
    match kind.as_str() {
        "turn.prompt" => {
            let line: TurnPrompt = serde_json::from_slice(line).ok()?;
            Some(CodeFact::Turn {
                turn: line.turn_id,
                user: line.origin.kind == "user",
            })
        }
        "llm.request" => {
            let line: LlmRequest = serde_json::from_slice(line).ok()?;
            Some(CodeFact::Call {
                alias: line.model_alias.unwrap_or_else(|| line.model.clone()),
                model: line.model,
            })
        }
        "context.append_loop_event" => {
            let line: LoopEvent = serde_json::from_slice(line).ok()?;
            (line.event.kind == "content.part").then_some(CodeFact::Part)
        }
        "usage.record" => {
            let line: UsageRecord = serde_json::from_slice(line).ok()?;
            let usage = Usage::from(line.usage);
            Some(CodeFact::Used {
                usage: (!usage.is_zero()).then_some(usage),
                alias: line.model,
                own: line.usage_scope == "session",
            })
        }
        "context.apply_compaction" => {
            let line: Compaction = serde_json::from_slice(line).ok()?;
            Some(CodeFact::Compacted {
                elided: line.kept_head_user_message_count.is_some(),
            })
        }
        "turn.step.retrying" => {
            let line: StepRetrying = serde_json::from_slice(line).ok()?;
            Some(CodeFact::Retry(Retry {
                attempt: line.next_attempt,
                of: line.max_attempts,
                wait: Duration::try_from_secs_f64(line.delay_ms / 1000.0).unwrap_or_default(),
                status: line.status_code,
                reason: super::agent::fit(&line.error_message),
            }))
        }
        "agent.message.appended" => {
            let line: MessageAppended = serde_json::from_slice(line).ok()?;
            let Appended { message, meta } = line.message;
            (message.role == "assistant").then(|| CodeFact::Message {
                text: message.content.text(),
                finish: meta.finish(),
            })
        }
        "turn.ended" => {
            let line: TurnEnded = serde_json::from_slice(line).ok()?;
            Some(CodeFact::Ended {
                turn: line.turn_id,
                end: line.end(),
            })
        }
        _ => None,
    }
}

/// The usage in a line of a kimi-cli session's `wire.jsonl`: told, not told, or nothing about it. Foreground
/// sub-agents' calls stand in the main file too, so of `subagents/*/wire.jsonl` only background agents' are to be added.
pub fn legacy_usage(line: &[u8]) -> Option<Option<Usage>> {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        message: Typed<'a>,
    }
    serde_json::from_slice::<Entry<'_>>(line)
        .ok()?
        .message
        .usage()
}

/// The exact text of the last answer in a kimi-cli session's `context.jsonl`, as a broken stream's first try left no
/// trace there. Fall back on what was sent.
pub fn legacy_answer(context: &[u8]) -> Option<String> {
    let mut lines = context.rsplit(|byte| *byte == b'\n');
    let message = lines.find_map(|line| {
        let message: ChatMessage = serde_json::from_slice(line).ok()?;
        // A user's message later than any answer means that this turn has none.
        matches!(message.role.as_str(), "assistant" | "user").then_some(message)
    })?;
    (message.role == "assistant").then(|| message.content.text())
}

/// Whether Kimi Code leaves a prompt as it is when it shortens the conversation that it ends. It reckons with four ASCII
/// characters to a token, and with one other.
pub fn code_keeps_whole(prompt: &str) -> bool {
    let ascii = prompt.bytes().filter(u8::is_ascii).count();
    let others = prompt.chars().count().saturating_sub(ascii);
    ascii.div_ceil(4).saturating_add(others) <= LONGEST_KEPT_PROMPT
}

/// Whether anything that the user said is left in a kimi-cli session's `context.jsonl`. When a new session's first prompt is
/// too long for the window, the agent shortens the conversation to nothing and asks the model all the same.
pub fn legacy_has_prompt(context: &[u8]) -> bool {
    let mut lines = context.split(|byte| *byte == b'\n');
    lines.any(|line| serde_json::from_slice::<Role>(line).is_ok_and(|line| line.role == "user"))
}

/// Whether a session's id can be given to an agent and looked for on disk: kimi-cli takes `../../etc/x` and makes it.
pub fn is_session_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= MAX_ID && id.chars().all(plain) && !id.starts_with(['.', '-'])
}

/// A session's directory by Kimi Code's `session_index.jsonl`. The last line about it counts, and may say that it is gone.
pub fn code_session_dir(index: &[u8], session: &str) -> Option<PathBuf> {
    let lines = index.rsplit(|byte| *byte == b'\n');
    let mut entries = lines.filter_map(|line| serde_json::from_slice::<IndexEntry>(line).ok());
    let entry = entries.find(|entry| entry.session_id == session)?;
    entry.session_dir.filter(|_| !entry.deleted)
}

/// A session's directory below `sessions`, whatever hash its parent's name holds: `sessions/*/<session>`. Works for both
/// agents. `None` if there is none, or more than one, as kimi-cli counts ids by directory.
///
/// # Errors
///
/// The directory is there and cannot be read.
pub fn find_session(sessions: &Path, session: &str) -> io::Result<Option<PathBuf>> {
    if !is_session_id(session) {
        return Ok(None);
    }
    let mut found = children(sessions)?
        .into_iter()
        .map(|parent| parent.join(session))
        .filter(|path| path.is_dir());
    let first = found.next();
    Ok(first.filter(|_| found.next().is_none()))
}

/// The logs in a session's directory, the main agent's first: `agents/*/wire.jsonl` (Kimi Code), or `wire.jsonl` and
/// `subagents/*/wire.jsonl` (kimi-cli). Agents come while a turn runs, so look again.
///
/// # Errors
///
/// A directory is there and cannot be read.
pub fn logs(session_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut agents = children(&session_dir.join("agents"))?;
    agents.sort_by_key(|path| (!path.ends_with("main"), path.clone()));
    let mut others = children(&session_dir.join("subagents"))?;
    others.sort();
    let directories = [vec![session_dir.to_path_buf()], agents, others].concat();
    let logs = directories.into_iter().map(|path| path.join("wire.jsonl"));
    Ok(logs.filter(|path| path.is_file()).collect())
}

/// What is in a directory; nothing if it is not there.
fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    entries.map(|entry| entry.map(|e| e.path())).collect()
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnPrompt {
    turn_id: u64,
    origin: Origin,
}

#[derive(Deserialize)]
struct Origin {
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LlmRequest {
    model: String,
    #[serde(default)]
    model_alias: Option<String>,
}

#[derive(Deserialize)]
struct LoopEvent {
    event: Kind,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageRecord {
    #[serde(default)]
    model: String,
    usage: CodeUsage,
    #[serde(default)]
    usage_scope: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CodeUsage {
    #[serde(default)]
    input_other: u64,
    #[serde(default)]
    output: u64,
    #[serde(default)]
    input_cache_read: u64,
    #[serde(default)]
    input_cache_creation: u64,
}

impl From<CodeUsage> for Usage {
    fn from(usage: CodeUsage) -> Usage {
        Usage {
            input: usage.input_other,
            cache_read: usage.input_cache_read,
            cache_write: usage.input_cache_creation,
            output: usage.output,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compaction {
    /// Told only where something is left out between the first of what the user said and the last.
    #[serde(default)]
    kept_head_user_message_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StepRetrying {
    #[serde(default)]
    next_attempt: u32,
    #[serde(default)]
    max_attempts: u32,
    #[serde(default)]
    delay_ms: f64,
    #[serde(default)]
    error_message: String,
    #[serde(default)]
    status_code: Option<u16>,
}

#[derive(Deserialize)]
struct MessageAppended {
    message: Appended,
}

#[derive(Deserialize)]
struct Appended {
    message: ChatMessage,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize)]
struct Role {
    role: String,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Content,
}

/// A message's content: a text, or parts of which some are text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
    Other(serde::de::IgnoredAny),
}

impl Default for Content {
    fn default() -> Content {
        Content::Text(String::new())
    }
}

impl Content {
    fn text(self) -> String {
        match self {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
            Content::Other(_) => String::new(),
        }
    }
}

#[derive(Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    finish: Option<RawFinish>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFinish {
    #[serde(default)]
    raw_finish_reason: Option<String>,
}

impl Meta {
    fn finish(self) -> Finish {
        match self.finish.and_then(|finish| finish.raw_finish_reason) {
            None => Finish::Untold,
            Some(reason) => match reason.as_str() {
                "stop" => Finish::Stop,
                "length" => Finish::Length,
                "content_filter" => Finish::Filtered,
                _ => Finish::Other(reason),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnEnded {
    turn_id: u64,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    error: Option<CodeError>,
}

#[derive(Default, Deserialize)]
struct CodeError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Box<RawValue>>,
    #[serde(default)]
    cause: Option<Box<CodeError>>,
    #[serde(default)]
    retryable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    status_code: Option<u16>,
    #[serde(default)]
    cause: Option<CodeError>,
}

impl TurnEnded {
    fn end(self) -> TurnEnd {
        match self.reason.as_str() {
            "completed" => TurnEnd::Completed,
            "cancelled" => TurnEnd::Cancelled,
            // What is neither is a failure, with or without a reason: never a success by default.
            _ => {
                let error = self.error.unwrap_or_default();
                if error.code == "loop.max_steps_exceeded" {
                    return TurnEnd::MaxSteps;
                }
                TurnEnd::Failed(error.failure())
            }
        }
    }
}

impl CodeError {
    fn failure(self) -> Failure {
        let details = self.details.as_ref();
        let details = details.and_then(|raw| serde_json::from_str::<Details>(raw.get()).ok());
        let (status, inner) = details.map_or((None, None), |d| (d.status_code, d.cause));
        let overflow = |error: &CodeError| error.code == "context.overflow";
        let is_overflow = overflow(&self)
            || inner.as_ref().is_some_and(overflow)
            || self.cause.as_deref().is_some_and(overflow);
        let failure = match self.code.as_str() {
            _ if is_overflow => Failure {
                status,
                ..Failure::new(FailureKind::Overflow, self.code, &self.message)
            },
            "provider.connection_error" if status.is_none() => {
                Failure::new(FailureKind::Connection, self.code, &self.message)
            }
            code if code.starts_with("provider.") => {
                let mut failure = Failure::from_service(code, status, &self.message);
                if failure.kind == FailureKind::Connection {
                    // An error of the service without a status: an answer that held nothing.
                    failure.kind = FailureKind::Empty;
                }
                failure
            }
            _ => Failure::new(FailureKind::Agent, self.code, &self.message),
        };
        Failure {
            retryable: failure.retryable || self.retryable,
            ..failure
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    session_id: String,
    #[serde(default)]
    session_dir: Option<PathBuf>,
    #[serde(default)]
    deleted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const CALL: Usage = Usage {
        input: 600,
        cache_read: 400,
        cache_write: 0,
        output: 30,
    };

    fn fixture(name: &str) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::read(root.join(format!("tests/fixtures/session_logs/{name}.jsonl"))).unwrap()
    }

    fn read(name: &str) -> (CodeLog, Vec<CodeFact>) {
        let mut log = CodeLog::default();
        let bytes = fixture(name);
        let lines = bytes.split(|byte| *byte == b'\n');
        let facts = lines.filter_map(|line| log.read_line(line)).collect();
        (log, facts)
    }

    fn retries(facts: &[CodeFact]) -> Vec<Option<u16>> {
        let statuses = facts.iter().filter_map(|fact| match fact {
            CodeFact::Retry(retry) => Some(retry.status),
            _ => None,
        });
        statuses.collect()
    }

    #[track_caller]
    fn finished(name: &str, text: &str, calls: u32, finish: Finish) -> Vec<CodeFact> {
        let (log, facts) = read(name);
        assert_eq!(log.text(), Some(text));
        assert_eq!((log.usage().calls, log.usage().untold), (calls, 0));
        assert_eq!(log.usage().told.output, u64::from(calls) * CALL.output);
        assert_eq!(
            log.usage().told.cache_read,
            u64::from(calls) * CALL.cache_read
        );
        assert_eq!(log.model(), Some("kimi-k2"));
        assert_eq!(
            log.outcome(&Answered::EndTurn),
            Some(Outcome::Finished(finish))
        );
        facts
    }

    #[test]
    fn each_call_counts_once_though_it_is_written_three_times() {
        let facts = finished("code_tool", "Hello", 2, Finish::Stop);
        assert!(retries(&facts).is_empty());
        assert_eq!(
            facts[0],
            CodeFact::Turn {
                turn: 0,
                user: true
            }
        );
        assert_eq!(
            facts[1],
            CodeFact::Call {
                alias: "__kimi_env_model__".to_string(),
                model: "kimi-k2".to_string()
            }
        );
    }

    #[test]
    fn sub_agents_have_files_of_their_own() {
        finished("code_subagent", "Hello", 2, Finish::Stop);
        let (sub, facts) = read("code_subagent.agent-0");
        assert_eq!(sub.usage().total(), Some(CALL));
        assert!(facts.contains(&CodeFact::Turn {
            turn: 0,
            user: false
        }));
    }

    #[test]
    fn retries_are_seen_and_the_text_before_them_is_not() {
        let facts = finished("code_rate_limited_once", "Hello", 1, Finish::Stop);
        assert_eq!(retries(&facts), [Some(429)]);
        // The stream that broke had begun to answer, and its usage will never be told.
        let (log, facts) = read("code_cut_once");
        assert_eq!(retries(&facts), [None]);
        assert_eq!(log.text(), Some("Hello"));
        assert_eq!((log.usage().told, log.usage().untold), (CALL, 1));
    }

    #[test]
    fn the_length_limit_shows_only_here() {
        finished("code_length", "cut sho", 1, Finish::Length);
    }

    #[test]
    fn failures_that_the_protocol_hides_are_told() {
        for (name, kind, status, charged) in [
            ("code_server_error", FailureKind::Server, 500, true),
            ("code_no_balance", FailureKind::Quota, 402, false),
        ] {
            let (log, _) = read(name);
            let Some(Outcome::Failed(failure)) = log.outcome(&Answered::EndTurn) else {
                panic!("{name}: {:?}", log.end());
            };
            assert_eq!((failure.kind, failure.status), (kind, Some(status)));
            assert_eq!(failure.may_have_charged, charged);
            assert_eq!(failure.code, "provider.api_error");
            assert_eq!((log.usage().total(), log.text()), (None, None));
        }
    }

    #[test]
    fn zeros_are_unknown() {
        let (log, _) = read("code_no_usage");
        assert_eq!((log.usage().calls, log.usage().untold), (0, 1));
        assert_eq!(log.text(), Some("Hello"));
        let (log, _) = read("code_cancelled");
        assert_eq!(log.usage().total(), None);
        assert_eq!(log.outcome(&Answered::Cancelled), Some(Outcome::Cancelled));
        assert_eq!(log.text(), Some("part "));
    }

    fn end(error: &str) -> TurnEnd {
        let line = format!(
            r#"{{"type":"turn.ended","turnId":3,"reason":"failed","error":{error},"durationMs":1}}"#
        );
        match code_fact(line.as_bytes()) {
            Some(CodeFact::Ended { turn: 3, end }) => end,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_without_a_recording_are_read_as_described() {
        for (error, kind) in [
            (
                r#"{"code":"provider.rate_limit","message":"429 slow","details":{"statusCode":429},"retryable":true}"#,
                FailureKind::RateLimited,
            ),
            (
                r#"{"code":"provider.connection_error","message":"terminated","details":null}"#,
                FailureKind::Connection,
            ),
            (
                r#"{"code":"provider.api_error","message":"The API returned an empty response."}"#,
                FailureKind::Empty,
            ),
            (
                r#"{"code":"provider.auth_error","message":"401 Invalid Authentication"}"#,
                FailureKind::Authentication,
            ),
            (
                r#"{"code":"compaction.failed","message":"x","cause":{"code":"context.overflow"}}"#,
                FailureKind::Overflow,
            ),
            (
                r#"{"code":"compaction.failed","message":"x","details":{"cause":{"code":"context.overflow"}}}"#,
                FailureKind::Overflow,
            ),
            (r#"{"code":"session.broken"}"#, FailureKind::Agent),
            ("null", FailureKind::Agent),
        ] {
            let TurnEnd::Failed(failure) = end(error) else {
                panic!("{error}");
            };
            assert_eq!(failure.kind, kind, "{error}");
        }
        assert_eq!(
            end(r#"{"code":"loop.max_steps_exceeded"}"#),
            TurnEnd::MaxSteps
        );
    }

    #[test]
    fn an_unasked_turn_costs_but_does_not_end_ours() {
        let mut log = CodeLog::default();
        for line in [
            r#"{"type":"turn.prompt","turnId":4,"origin":{"kind":"user"}}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":5,"output":1},"usageScope":"turn"}"#,
            r#"{"type":"turn.ended","turnId":3,"reason":"completed"}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":7,"output":1},"usageScope":"session"}"#,
            "not json",
        ] {
            log.read_line(line.as_bytes());
        }
        assert_eq!(log.end(), None);
        assert_eq!(log.outcome(&Answered::EndTurn), None);
        assert_eq!(log.usage().told.input, 12);
        log.read_line(br#"{"type":"turn.ended","turnId":4,"reason":"completed"}"#);
        assert_eq!(
            log.outcome(&Answered::Refused),
            Some(Outcome::Finished(Finish::Filtered))
        );
    }

    #[test]
    fn a_call_that_left_no_record_is_booked_when_it_may_have_cost() {
        let call = r#"{"type":"llm.request","model":"m"}"#;
        let part = r#"{"type":"context.append_loop_event","event":{"type":"content.part"}}"#;
        let cancelled = r#"{"type":"turn.ended","turnId":0,"reason":"cancelled"}"#;
        let failed = r#"{"type":"turn.ended","turnId":0,"reason":"failed"}"#;
        let empty = r#"{"type":"turn.step.retrying","errorMessage":"The API returned an empty response (none)."}"#;
        let refused = r#"{"type":"turn.step.retrying","errorMessage":"429 busy","statusCode":429}"#;
        let nothing = r#"{"type":"turn.ended","turnId":0,"reason":"failed","error":{"code":"provider.api_error","message":"The API returned an empty response."}}"#;
        for (lines, untold) in [
            (vec![call, empty, call, refused], 1),
            (vec![call, empty, call, nothing], 2),
            (vec![call, cancelled], 1),
            (vec![call, failed], 0),
            (vec![call, part, failed], 1),
            (vec![cancelled], 0),
        ] {
            let mut log = CodeLog::default();
            for line in &lines {
                log.read_line(line.as_bytes());
            }
            assert_eq!(log.usage().untold, untold, "{lines:?}");
        }
    }

    #[test]
    fn kimi_clis_file_is_read_like_its_protocol() {
        let status = r#"{"type":"StatusUpdate","payload":{"token_usage":{"input_other":40,"output":4},"message_id":"c"}}"#;
        let told = Some(Some(Usage {
            input: 40,
            output: 4,
            ..Usage::default()
        }));
        let nested = format!(r#"{{"type":"SubagentEvent","payload":{{"event":{status}}}}}"#);
        for (message, usage) in [
            (status, told),
            (nested.as_str(), told),
            (
                r#"{"type":"StatusUpdate","payload":{"message_id":"c"}}"#,
                Some(None),
            ),
            (r#"{"type":"StatusUpdate","payload":{}}"#, None),
            (r#"{"type":"CompactionBegin","payload":{}}"#, Some(None)),
            (r#"{"type":"TurnEnd"}"#, None),
        ] {
            let line = format!(r#"{{"timestamp":1.5,"message":{message}}}"#);
            assert_eq!(legacy_usage(line.as_bytes()), usage, "{line}");
        }
        let metadata = br#"{"type":"metadata","protocol_version":"1.10"}"#;
        assert_eq!(legacy_usage(metadata), None);
    }

    #[test]
    fn kimi_clis_answer_is_the_last_message() {
        let parts = r#"{"role":"user","content":"hi"}
{"role":"assistant","content":[{"type":"think","think":"hm"},{"type":"text","text":"who"},{"type":"text","text":"le"}]}
{"role":"_usage","token_count":12}
{"role":"_checkpoint","id":1}
"#;
        assert_eq!(legacy_answer(parts.as_bytes()).as_deref(), Some("whole"));
        let plain = br#"{"role":"assistant","content":"text"}"#;
        assert_eq!(legacy_answer(plain).as_deref(), Some("text"));
        let cancelled =
            b"{\"role\":\"assistant\",\"content\":\"old\"}\n{\"role\":\"user\",\"content\":\"x\"}";
        assert_eq!(legacy_answer(cancelled), None);
        assert_eq!(legacy_answer(b""), None);
    }

    #[test]
    fn a_prompt_that_kimi_cli_dropped_is_missed() {
        let kept = b"{\"role\":\"_system_prompt\",\"content\":\"You\"}\n{\"role\":\"user\",\"content\":\"x\"}\n";
        assert!(legacy_has_prompt(kept));
        let dropped = b"{\"role\":\"_system_prompt\",\"content\":\"a user\"}\n{\"role\":\"_checkpoint\",\"id\":0}\n";
        assert!(!legacy_has_prompt(dropped));
    }

    #[test]
    fn a_prompt_that_kimi_code_cuts_is_told_from_old_ones_that_it_leaves_out() {
        let compacted = r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2,"keptHeadUserMessageCount":1}"#;
        let whole =
            r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2}"#;
        let prompt = r#"{"type":"turn.prompt","turnId":1,"origin":{"kind":"user"}}"#;
        let used = |scope: &str| {
            format!(
                r#"{{"type":"usage.record","model":"m","usage":{{"inputOther":1}},"usageScope":"{scope}"}}"#
            )
        };
        let elided = |lines: &[&str]| {
            let mut log = CodeLog::default();
            for line in lines {
                log.read_line(line.as_bytes());
            }
            log.was_elided()
        };
        let (own, turn) = (used("session"), used("turn"));
        assert!(elided(&[prompt, &own, compacted]));
        assert!(!elided(&[prompt, &own, whole]));
        // The model has seen it by then, or it was in a turn before.
        assert!(!elided(&[prompt, &turn, &own, compacted]));
        assert!(!elided(&[compacted, prompt]));
        assert!(
            code_keeps_whole(&"abcd".repeat(18_000)) && !code_keeps_whole(&"字".repeat(18_001))
        );
    }

    #[test]
    fn ids_that_would_leave_the_directory_are_no_ids() {
        for id in ["session_4d8d6ac5-1634", "nightly", "a.b"] {
            assert!(is_session_id(id), "{id}");
        }
        let long = "x".repeat(MAX_ID + 1);
        for id in [
            "",
            "..",
            "../x",
            "a/b",
            "-rf",
            "a b",
            ".hidden",
            "é",
            long.as_str(),
        ] {
            assert!(!is_session_id(id), "{id}");
        }
    }

    #[test]
    fn the_index_knows_where_a_session_is_until_it_is_gone() {
        let index = br#"{"sessionId":"a","sessionDir":"/s/1/a","workDir":"/w"}
{"sessionId":"b","sessionDir":"/s/1/b","workDir":"/w"}
{"sessionId":"a","sessionDir":"/s/2/a","workDir":"/v"}
{"sessionId":"b","deleted":true}
"#;
        assert_eq!(code_session_dir(index, "a"), Some(PathBuf::from("/s/2/a")));
        assert_eq!(code_session_dir(index, "b"), None);
        assert_eq!(code_session_dir(index, "c"), None);
    }

    /// A directory that is gone with the value.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("omk-log-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Dir(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn sessions_and_their_logs_are_found() {
        let dir = Dir::new("find");
        let session = dir.0.join("wd_x_0123/s1");
        for name in ["agents/main", "agents/agent-0", "agents/empty"] {
            fs::create_dir_all(session.join(name)).unwrap();
        }
        for name in ["agents/main", "agents/agent-0"] {
            fs::write(session.join(name).join("wire.jsonl"), "").unwrap();
        }
        assert_eq!(find_session(&dir.0, "s1").unwrap(), Some(session.clone()));
        assert_eq!(find_session(&dir.0, "s2").unwrap(), None);
        assert_eq!(find_session(&dir.0.join("none"), "s1").unwrap(), None);
        let found = logs(&session).unwrap();
        let names = ["agents/main/wire.jsonl", "agents/agent-0/wire.jsonl"];
        assert_eq!(found, names.map(|name| session.join(name)));
        // Under two directories' hashes the id is ambiguous.
        fs::create_dir_all(dir.0.join("wd_y_4567/s1")).unwrap();
        assert_eq!(find_session(&dir.0, "s1").unwrap(), None);
    }

    #[test]
    fn files_are_read_as_text_and_written_as_given() {
        let dir = Dir::new("files");
        let path = |name: &str| dir.0.join(name).to_str().unwrap().to_string();
        let mut files = SessionFiles::new(&dir.0);
        files.write_file(&path("a"), "one\n").unwrap();
        files.write_file(&path("a"), "é").unwrap();
        assert_eq!(files.read_file(&path("a"), false).unwrap(), "é");
        let missing = files.read_file(&path("b"), true).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(files.write_file(&path("no/a"), "").is_err());
        // Shown it may be replaced; written back it would be lost.
        fs::write(path("latin"), b"caf\xe9").unwrap();
        assert_eq!(
            files.read_file(&path("latin"), true).unwrap(),
            "caf\u{fffd}"
        );
        assert!(files.read_file(&path("latin"), false).is_err());
        for (name, why) in [
            ("huge", "it is larger than 64 MiB"),
            (".", "it is no regular file"),
        ] {
            if name == "huge" {
                let file = File::create(path(name)).unwrap();
                file.set_len(MAX_FILE_BYTES + 1).unwrap();
            }
            assert_eq!(
                files.read_file(&path(name), true).unwrap_err().to_string(),
                why
            );
        }
        assert!(!files.owns(&path("a")), "no session is followed yet");
        fs::create_dir_all(dir.0.join("sessions/wd/s1/agents/main")).unwrap();
        assert!(files.follow("s1").unwrap());
        assert!(files.owns(&path("sessions/wd/s1/agents/main/plans/p.md")));
        assert!(!files.owns(&path("sessions/wd/s1/../../../a")));
        assert!(!files.owns(&path("sessions/wd/s10/a")));
    }

    #[test]
    fn a_tail_waits_for_whole_lines() {
        let dir = Dir::new("tail");
        let path = dir.0.join("wire.jsonl");
        let mut tail = Tail::at_end(&path).unwrap();
        let read = |tail: &mut Tail| {
            let mut lines = Vec::new();
            tail.read(|line| lines.push(String::from_utf8(line.to_vec()).unwrap()))
                .map(|()| lines)
        };
        assert!(read(&mut tail).unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        for (text, lines) in [
            ("one\ntw", vec!["one"]),
            ("", vec![]),
            ("o", vec![]),
            ("\n\nthree\n", vec!["two", "three"]),
        ] {
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(read(&mut tail).unwrap(), lines);
        }
        let mut late = Tail::at_end(&path).unwrap();
        file.write_all(b"four\n").unwrap();
        assert_eq!(read(&mut late).unwrap(), ["four"]);
        file.set_len(3).unwrap();
        assert!(read(&mut tail).is_err());
    }

    #[test]
    fn the_index_is_asked_first_for_a_sessions_directory() {
        let home = std::env::temp_dir().join(format!("omk-acp-index-{}", std::process::id()));
        fs::create_dir_all(home.join("sessions/wd_x/s")).unwrap();
        let files = SessionFiles::new(&home);
        let found = |session| files.session_directory(session).unwrap();
        assert_eq!(found("s"), Some(home.join("sessions/wd_x/s")));
        assert_eq!(found("t"), None);
        let index = r#"{"sessionId":"s","sessionDir":"/elsewhere/s"}"#;
        fs::write(home.join("session_index.jsonl"), index).unwrap();
        assert_eq!(found("s"), Some(PathBuf::from("/elsewhere/s")));
        fs::remove_dir_all(&home).unwrap();
    }

    proptest! {
        #[test]
        fn any_line_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (code_fact(&bytes), legacy_usage(&bytes), legacy_answer(&bytes));
            let _ = code_session_dir(&bytes, "x");
        }
    }
}
