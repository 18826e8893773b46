//! Session logs: what agents write down and do not say.
//!
//! A [`Fact`] is what a line says, whichever agent wrote it; [`SessionLog`] adds the facts of one agent's log up. [`Tail`]
//! follows a file that grows, and [`LogSource`] the logs of a session, where sub-agents have their own. How each agent's
//! lines read stands in [`crate::transport::agents`]. The hashes in the paths are not computed: the session's own id finds
//! its directory. Nothing here writes a file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::runtime::file;
use crate::tokens::usage::Contradiction;
use crate::transport::agent::Answered;
use crate::transport::agent::Event;
use crate::transport::agent::Failure;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::Retry;
use crate::transport::agent::Usage;
use crate::transport::agent::UsageSum;
use crate::transport::agents::Dialect;
use crate::transport::agents::kimi_cli;
use crate::transport::calls::Calls;

/// The longest line of a log that is kept: a prompt or an answer of 5 MB stands in one.
const MAX_LOG_LINE: usize = 16 * 1024 * 1024;
/// Bytes of a log that are read at once.
const PIECE: usize = 256 * 1024;
/// Bytes before the place where a log was read to that have to stay as they are.
const WITNESS: usize = 4 * 1024;
/// Longest session id: theirs have 44 characters.
const MAX_ID: usize = 128;
/// The name of the agent that was asked, among the agents of a session.
pub const MAIN: &str = "main";

/// A file that grows, read from where it was to where it is.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
    /// The line that is being read is too long to be kept.
    skips: bool,
    /// The last bytes before the offset, as they were read: they stay as they are in a file that is only added to.
    seen: Vec<u8>,
}

impl Tail {
    /// From an offset on; 0 for a file that is not there yet.
    pub fn new(path: impl Into<PathBuf>, offset: u64) -> Tail {
        Tail {
            path: path.into(),
            offset,
            partial: Vec::new(),
            skips: false,
            seen: Vec::new(),
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

    /// Gives every line that has become whole since the last call; a last one without its end waits. A line of more than 16
    /// MiB is left out: no figure stands in one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a regular file, or was changed other than by adding to it: then nothing in it can be
    /// trusted any more. One that is not there yet is empty.
    pub fn read(&mut self, mut on_line: impl FnMut(&[u8])) -> io::Result<()> {
        let mut source = match file::Source::open_regular(&self.path, None) {
            Ok(source) => source,
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.offset == 0 => return Ok(()),
            Err(e) => return Err(e),
        };
        // What is added while this reads is the next call's.
        let end = source.file().metadata()?.len();
        let seen = u64::try_from(self.seen.len()).unwrap_or(0);
        if end < self.offset || !self.is_as_seen(&mut source, seen)? {
            let how = if end < self.offset {
                "become shorter"
            } else {
                "been changed where it was already read"
            };
            let message = format!("{} has {how}", self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut piece = vec![0; PIECE];
        while self.offset < end {
            let most = usize::try_from(end - self.offset)
                .unwrap_or(PIECE)
                .min(PIECE);
            let count = source.read(piece.get_mut(..most).unwrap_or_default())?;
            if count == 0 {
                break;
            }
            let read = piece.get(..count).unwrap_or_default();
            self.offset += u64::try_from(count).unwrap_or(0);
            self.remember(read);
            self.cut(read, &mut on_line);
        }
        Ok(())
    }

    /// Whether the bytes before the offset are still those that were read. Leaves the file at the offset.
    fn is_as_seen(&self, source: &mut file::Source, seen: u64) -> io::Result<bool> {
        source.seek(self.offset.saturating_sub(seen))?;
        let mut now = vec![0; self.seen.len()];
        match source.read_exact(&mut now) {
            Ok(()) => Ok(now == self.seen),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Keeps the last bytes that were read.
    fn remember(&mut self, read: &[u8]) {
        self.seen.extend_from_slice(read);
        let surplus = self.seen.len().saturating_sub(WITNESS);
        self.seen.drain(..surplus);
    }

    /// Gives the lines that end in these bytes, and keeps the rest.
    fn cut(&mut self, read: &[u8], on_line: &mut impl FnMut(&[u8])) {
        let mut parts = read.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let has_end = parts.peek().is_some();
            self.skips |= self.partial.len() + part.len() > MAX_LOG_LINE;
            match (self.skips, self.partial.is_empty(), has_end) {
                (true, ..) => self.partial = Vec::new(),
                (false, true, true) if part.is_empty() => {}
                (false, true, true) => on_line(part),
                (false, ..) => {
                    self.partial.extend_from_slice(part);
                    if has_end {
                        on_line(&self.partial);
                        self.partial.clear();
                    }
                }
            }
            if has_end {
                self.skips = false;
            }
        }
    }
}

/// The logs of a session's agents: in files, in files that are recorded, or in a recording.
pub trait LogSource: fmt::Debug {
    /// Finds the logs of a session and follows them from where they end now. Says whether there are any.
    ///
    /// # Errors
    ///
    /// They are there and cannot be read.
    fn follow(&mut self, session: &str) -> io::Result<bool>;

    /// Gives every line since the last time, with the name of its agent: [`MAIN`], or a sub-agent's. Those come while a turn
    /// runs.
    ///
    /// # Errors
    ///
    /// As [`Tail::read`].
    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()>;

    /// Where they are, or are looked for, in an error.
    fn place(&self) -> String;

    /// Whether a file is a text in the directory of the session that is followed, such as a plan. Logs are not.
    fn owns(&self, path: &str) -> bool;
}

impl LogSource for Box<dyn LogSource> {
    fn follow(&mut self, session: &str) -> io::Result<bool> {
        (**self).follow(session)
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        (**self).read(on_line)
    }

    fn place(&self) -> String {
        (**self).place()
    }

    fn owns(&self, path: &str) -> bool {
        (**self).owns(path)
    }
}

/// The logs in an agent's home.
#[derive(Debug)]
pub struct SessionFiles {
    dialect: &'static Dialect,
    home: PathBuf,
    /// Whether the main agent's log is followed too.
    with_main: bool,
    /// The session, which has no directory before its first prompt with some agents.
    session: Option<String>,
    directory: Option<PathBuf>,
    /// Each with its agent's name.
    tails: Vec<(String, Tail)>,
}

impl SessionFiles {
    /// The logs in this home, of which none is followed yet.
    pub fn new(dialect: &'static Dialect, home: impl Into<PathBuf>) -> SessionFiles {
        SessionFiles {
            dialect,
            home: home.into(),
            with_main: true,
            session: None,
            directory: None,
            tails: Vec::new(),
        }
    }

    /// The same without the main agent's log, for an agent whose protocol says it all.
    #[must_use]
    pub fn sub_agents_only(self) -> SessionFiles {
        SessionFiles {
            with_main: false,
            ..self
        }
    }

    /// Starts to follow the logs that have come, from where `tail` says.
    fn take_up(&mut self, tail: impl Fn(PathBuf) -> io::Result<Tail>) -> io::Result<()> {
        if self.directory.is_none()
            && let Some(session) = &self.session
        {
            self.directory = self.dialect.session_directory(&self.home, session)?;
        }
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let main = directory.join(self.dialect.main_log);
        let mut logs = logs(directory)?;
        if self.with_main && !logs.contains(&main) {
            // It may come with the prompt.
            logs.insert(0, main.clone());
        }
        for path in logs {
            let is_main = path == main;
            if (is_main && !self.with_main)
                || self.tails.iter().any(|(_, known)| known.path() == path)
            {
                continue;
            }
            let name = match is_main {
                true => MAIN.to_string(),
                false => agent_of(&path),
            };
            self.tails.push((name, tail(path)?));
        }
        Ok(())
    }
}

/// The name of a sub-agent, by its log.
pub fn agent_of(log: &Path) -> String {
    let name = log.parent().and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl LogSource for SessionFiles {
    fn follow(&mut self, session: &str) -> io::Result<bool> {
        self.session = Some(session.to_string());
        self.directory = None;
        self.tails.clear();
        self.take_up(Tail::at_end)?;
        Ok(self.directory.is_some())
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        self.take_up(|path| Ok(Tail::new(path, 0)))?;
        for (agent, tail) in &mut self.tails {
            tail.read(|line| on_line(agent, line))?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        let main = self.tails.first().map(|(_, tail)| tail.path());
        main.unwrap_or(&self.home).display().to_string()
    }

    fn owns(&self, path: &str) -> bool {
        let climbs = path.split('/').any(|part| part == "..");
        let directory = self.directory.as_ref();
        // Its plans, and nothing that says what it has done.
        !climbs
            && path.ends_with(".md")
            && directory.is_some_and(|directory| Path::new(path).starts_with(directory))
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
        let kept = kimi_cli::last_answer(&self.read()?)?;
        // The try that broke was sent first. Anything else is not what this is about.
        let is_less = !kept.is_empty() && kept.len() < sent.len() && sent.ends_with(kept.as_str());
        is_less.then_some(kept)
    }

    fn has_lost_prompt(&self) -> bool {
        self.read().is_some_and(|kept| !kimi_cli::has_prompt(&kept))
    }
}

/// What a line of a session's log says, whichever agent wrote it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// A turn begins. Agents begin some that nobody asked for, such as after a background agent's end.
    Turn {
        /// Its number, which counts all of them.
        turn: Option<u64>,
        /// Whether a prompt of the user's began it.
        user: bool,
        /// The agent's name for the prompt, the same in every copy of the log.
        prompt: Option<String>,
    },
    /// A step of a turn begins: one answer of the model and the tools it asks for.
    Step {
        /// The turn.
        turn: Option<u64>,
    },
    /// The model is asked.
    Call {
        /// Its name in the configuration.
        alias: Option<String>,
        /// Its name at the service.
        model: Option<String>,
    },
    /// The call has said something.
    Part {
        /// The text, where it is part of the answer.
        text: Option<String>,
        /// The turn.
        turn: Option<u64>,
    },
    /// The model asks for a tool.
    Tool {
        /// The turn.
        turn: Option<u64>,
    },
    /// A step is over.
    StepEnd {
        /// The turn.
        turn: Option<u64>,
        /// Why the model stopped.
        finish: Finish,
    },
    /// A call is over.
    Used {
        /// Its usage; `None` when the service did not report it.
        usage: Option<Usage>,
        /// The model's name in the configuration.
        alias: Option<String>,
        /// Whether the agent made the call to shorten its history.
        own: bool,
        /// Tokens in the model's window now.
        context: Option<u64>,
        /// Why the usage cannot be used, where it was reported and cannot.
        contradiction: Option<Contradiction>,
    },
    /// Tokens in the model's window now.
    Context(u64),
    /// A call was made whose usage is never reported.
    Unreported,
    /// The conversation was shortened.
    Compacted {
        /// Whether something that the user said was left out.
        elided: bool,
    },
    /// A call failed and will be made again. What it said is void.
    Retry(Retry),
    /// A turn is over.
    Ended {
        /// Its number.
        turn: Option<u64>,
        /// How.
        end: TurnEnd,
    },
    /// Something that a sub-agent did, in the log of the agent that waits for it.
    OfSubAgent {
        /// The sub-agent, by the name of its directory.
        agent: String,
        /// What it did.
        fact: Box<Fact>,
    },
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The agent was done.
    Completed,
    /// The agent stopped for a reason of its own, without an answer.
    GaveUp(String),
    /// It was cancelled.
    Cancelled,
    /// The limit on steps ended it.
    MaxSteps,
    /// It failed.
    Failed(Failure),
    /// The log does not say.
    Untold,
}

impl TurnEnd {
    /// Whether a call that was under way may have cost something.
    fn may_have_charged(&self) -> bool {
        match self {
            TurnEnd::Failed(failure) => failure.may_have_charged,
            _ => true,
        }
    }
}

/// Takes a fact about calls. Facts about anything else are left alone.
pub(super) fn account(calls: &mut Calls, fact: &Fact, events: &mut Vec<Event>) {
    match fact {
        Fact::Call { .. } => calls.begin(events),
        Fact::Part { .. } | Fact::Tool { .. } => calls.said(),
        Fact::Used {
            usage,
            context,
            contradiction,
            ..
        } => {
            events.extend(contradiction.clone().map(Event::Contradiction));
            calls.report(*usage, events);
            if let Some(context) = context {
                calls.measured(*context);
            }
        }
        Fact::Context(tokens) => calls.measured(*tokens),
        Fact::Unreported => calls.unreported(events),
        Fact::Retry(retry) => calls.end(retry.may_have_charged(), events),
        Fact::Ended { end, .. } => calls.end(end.may_have_charged(), events),
        _ => {}
    }
}

/// The log of one agent, added up from where it was followed.
#[derive(Debug)]
pub struct SessionLog {
    dialect: &'static Dialect,
    calls: Calls,
    model: Option<String>,
    /// The user's turn.
    turn: Option<u64>,
    /// A turn runs, the user's or another.
    runs: bool,
    /// The step under way, or the last one, belongs to the user's turn.
    is_own_step: bool,
    text: Option<String>,
    finish: Option<Finish>,
    /// The last step asked for a tool.
    asks_for_tool: bool,
    end: Option<TurnEnd>,
    /// A call of the turn was answered.
    answered: bool,
    /// Something that the user said was left out before the turn's first answer.
    elided: bool,
}

impl SessionLog {
    /// A log of which nothing was read.
    pub fn new(dialect: &'static Dialect) -> SessionLog {
        SessionLog {
            dialect,
            calls: Calls::default(),
            model: None,
            turn: None,
            runs: false,
            is_own_step: true,
            text: None,
            finish: None,
            asks_for_tool: false,
            end: None,
            answered: false,
            elided: false,
        }
    }

    /// Takes a line. What it says of calls and retries is added to the events.
    pub fn read_line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let Some(fact) = self.dialect.fact(line) else {
            return;
        };
        account(&mut self.calls, &fact, events);
        let is_own = |turn: Option<u64>, log: &SessionLog| {
            log.end.is_none() && (turn.is_none() || log.turn.is_none() || turn == log.turn)
        };
        match fact {
            Fact::Turn { turn, user, .. } => {
                self.runs = true;
                if user {
                    self.turn = turn;
                    self.text = None;
                    self.finish = None;
                    self.asks_for_tool = false;
                    self.end = None;
                    self.answered = false;
                    self.elided = false;
                }
            }
            Fact::Call { model, .. } => self.model = model.or(self.model.take()),
            Fact::Step { turn } => {
                self.is_own_step = is_own(turn, self);
                if self.is_own_step {
                    self.text = Some(String::new());
                    self.finish = None;
                    self.asks_for_tool = false;
                }
            }
            Fact::Part {
                text: Some(text),
                turn,
            } if self.is_own_step && is_own(turn, self) => {
                self.text.get_or_insert_default().push_str(&text);
            }
            Fact::Tool { turn } if self.is_own_step && is_own(turn, self) => {
                self.asks_for_tool = true;
            }
            Fact::StepEnd { turn, finish } if self.is_own_step && is_own(turn, self) => {
                self.finish = Some(finish);
            }
            Fact::Used { own, .. } => self.answered |= !own,
            Fact::Compacted { elided } => self.elided |= elided && !self.answered,
            Fact::Retry(retry) => events.push(Event::Retry(retry)),
            Fact::Ended { turn, end } => {
                self.runs = false;
                if self.turn.is_none() || turn.is_none() || self.turn == turn {
                    self.end = Some(end);
                }
            }
            _ => {}
        }
    }

    /// The usage of every call since the log was followed, unasked turns' included: they are on the same bill.
    pub fn usage(&self) -> &UsageSum {
        self.calls.sum()
    }

    /// Whether a turn or a call is under way.
    pub fn is_busy(&self) -> bool {
        self.runs || self.calls.is_open()
    }

    /// No more will come of it: a call that is under way will not report.
    pub fn close(&mut self, events: &mut Vec<Event>) {
        self.calls.end(true, events);
        self.runs = false;
    }

    /// Whether something that the user said was left out before the model first answered in the turn: what is oldest, or
    /// the prompt itself where [`crate::transport::agents::kimi_code::keeps_whole`] says so.
    pub fn was_elided(&self) -> bool {
        self.elided
    }

    /// The model that was asked last, by its name at the service.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The exact text of the last step of the user's turn.
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
            TurnEnd::Failed(failure) => Outcome::Failed(failure.clone().after(self.usage())),
            TurnEnd::Cancelled => Outcome::Cancelled,
            TurnEnd::MaxSteps => Outcome::MaxSteps { steps: None },
            TurnEnd::GaveUp(reason) => Outcome::GaveUp {
                reason: reason.clone(),
            },
            TurnEnd::Completed | TurnEnd::Untold => match (&self.finish, answered) {
                (_, Answered::Refused) => Outcome::Finished(Finish::Filtered),
                (Some(Finish::ToolCalls), _) => Outcome::unfinished(),
                _ if self.asks_for_tool => Outcome::unfinished(),
                (finish, _) => Outcome::Finished(finish.clone().unwrap_or(Finish::Untold)),
            },
        })
    }
}

/// The logs of all agents of a session.
#[derive(Debug)]
pub struct SessionLogs {
    dialect: &'static Dialect,
    logs: BTreeMap<String, SessionLog>,
}

impl SessionLogs {
    /// Logs of which nothing was read.
    pub fn new(dialect: &'static Dialect) -> SessionLogs {
        SessionLogs {
            dialect,
            logs: BTreeMap::new(),
        }
    }

    /// Takes a line of an agent's log. What a sub-agent says of its retries is left out.
    pub fn read_line(&mut self, agent: &str, line: &[u8], events: &mut Vec<Event>) {
        let log = match self.logs.get_mut(agent) {
            Some(log) => log,
            None => {
                let log = SessionLog::new(self.dialect);
                self.logs.entry(agent.to_string()).or_insert(log)
            }
        };
        let before = events.len();
        log.read_line(line, events);
        if agent != MAIN {
            let of_calls = events.split_off(before).into_iter();
            events.extend(of_calls.filter(|event| !matches!(event, Event::Retry(_))));
        }
    }

    /// The log of the agent that was asked.
    pub fn main(&self) -> Option<&SessionLog> {
        self.logs.get(MAIN)
    }

    /// The usage of all agents but these.
    pub fn usage_without(&self, known: impl Fn(&str) -> bool) -> UsageSum {
        let mut sum = UsageSum::default();
        for (_, log) in self.logs.iter().filter(|(name, _)| !known(name)) {
            sum.merge(log.usage());
        }
        sum
    }

    /// Whether an agent but these is at work.
    pub fn is_busy_without(&self, known: impl Fn(&str) -> bool) -> bool {
        let mut others = self.logs.iter().filter(|(name, _)| !known(name));
        others.any(|(_, log)| log.is_busy())
    }

    /// No more will come of any but these.
    pub fn close_without(&mut self, known: impl Fn(&str) -> bool, events: &mut Vec<Event>) {
        for (_, log) in self.logs.iter_mut().filter(|(name, _)| !known(name)) {
            log.close(events);
        }
    }
}

/// Whether a session's id can be given to an agent and looked for on disk: kimi-cli takes `../../etc/x` and makes it.
pub fn is_session_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= MAX_ID && id.chars().all(plain) && !id.starts_with(['.', '-'])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::agent::CallEnd;
    use crate::transport::agent::FailureKind;
    use crate::transport::agents::KIMI_CLI;
    use crate::transport::agents::KIMI_CODE;
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

    fn read(name: &str) -> (SessionLog, Vec<Event>) {
        let mut log = SessionLog::new(&KIMI_CODE);
        let mut events = Vec::new();
        for line in fixture(name).split(|byte| *byte == b'\n') {
            log.read_line(line, &mut events);
        }
        (log, events)
    }

    fn of(lines: &[&str]) -> SessionLog {
        let mut log = SessionLog::new(&KIMI_CODE);
        for line in lines {
            log.read_line(line.as_bytes(), &mut Vec::new());
        }
        log
    }

    fn retries(events: &[Event]) -> Vec<Option<u16>> {
        let statuses = events.iter().filter_map(|event| match event {
            Event::Retry(retry) => Some(retry.status),
            _ => None,
        });
        statuses.collect()
    }

    #[track_caller]
    fn finished(name: &str, text: &str, calls: u32, finish: Finish) -> Vec<Event> {
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
        // Each call begins with what the window held after the one before.
        let started = |context| Event::CallStarted { context };
        let reported = Event::CallEnded(CallEnd::Reported(CALL));
        let expected = [
            started(None),
            reported.clone(),
            started(Some(1030)),
            reported,
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn sub_agents_have_files_of_their_own() {
        finished("code_subagent", "Hello", 2, Finish::Stop);
        let (sub, _) = read("code_subagent.agent-0");
        assert_eq!(sub.usage().total(), Some(CALL));
        assert!(!sub.is_busy());
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
            assert_eq!((log.usage().total(), log.text()), (None, Some("")));
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

    #[test]
    fn an_unasked_turn_costs_but_does_not_end_ours() {
        let mut log = of(&[
            r#"{"type":"turn.prompt","turnId":4,"origin":{"kind":"user"}}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":5,"output":1},"usageScope":"turn"}"#,
            r#"{"type":"turn.ended","turnId":3,"reason":"completed"}"#,
            r#"{"type":"usage.record","model":"a","usage":{"inputOther":7,"output":1},"usageScope":"session"}"#,
            "not json",
        ]);
        assert_eq!(log.end(), None);
        assert_eq!(log.outcome(&Answered::EndTurn), None);
        assert_eq!(log.usage().told.input, 12);
        let end = br#"{"type":"turn.ended","turnId":4,"reason":"completed"}"#;
        log.read_line(end, &mut Vec::new());
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
        let lost = r#"{"type":"turn.step.retrying","errorMessage":"500 oops","statusCode":500}"#;
        let no_balance = r#"{"type":"turn.ended","turnId":0,"reason":"failed","error":{"code":"provider.api_error","message":"402 no","details":{"statusCode":402}}}"#;
        for (lines, untold) in [
            (vec![call, empty, call, refused], 1),
            (vec![call, empty, call, nothing], 2),
            (vec![call, cancelled], 1),
            (vec![call, failed], 1),
            (vec![call, lost], 1),
            (vec![call, no_balance], 0),
            (vec![call, part, failed], 1),
            (vec![cancelled], 0),
        ] {
            assert_eq!(of(&lines).usage().untold, untold, "{lines:?}");
        }
    }

    #[test]
    fn a_prompt_that_is_cut_is_told_from_old_ones_that_are_left_out() {
        let compacted = r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2,"keptHeadUserMessageCount":1}"#;
        let whole =
            r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2}"#;
        let prompt = r#"{"type":"turn.prompt","turnId":1,"origin":{"kind":"user"}}"#;
        let used = |scope: &str| {
            format!(
                r#"{{"type":"usage.record","model":"m","usage":{{"inputOther":1}},"usageScope":"{scope}"}}"#
            )
        };
        let elided = |lines: &[&str]| of(lines).was_elided();
        let (own, turn) = (used("session"), used("turn"));
        assert!(elided(&[prompt, &own, compacted]));
        assert!(!elided(&[prompt, &own, whole]));
        // The model has seen it by then, or it was in a turn before.
        assert!(!elided(&[prompt, &turn, &own, compacted]));
        assert!(!elided(&[compacted, prompt]));
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
        let mut file = fs::File::create(&path).unwrap();
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
        let found = |session| KIMI_CODE.session_directory(&home, session).unwrap();
        assert_eq!(found("s"), Some(home.join("sessions/wd_x/s")));
        assert_eq!(found("t"), None);
        let index = r#"{"sessionId":"s","sessionDir":"/elsewhere/s"}"#;
        fs::write(home.join("session_index.jsonl"), index).unwrap();
        assert_eq!(found("s"), Some(PathBuf::from("/elsewhere/s")));
        fs::remove_dir_all(&home).unwrap();
    }

    /// A line of a step of the turn 0.
    fn step(kind: &str, rest: &str) -> String {
        format!(
            r#"{{"type":"context.append_loop_event","event":{{"type":"{kind}","turnId":"0"{rest}}}}}"#
        )
    }

    #[test]
    fn the_answer_is_the_text_of_the_last_step_however_long_the_turn() {
        let part = |text: &str| {
            step(
                "content.part",
                &format!(r#","part":{{"type":"text","text":"{text}"}}"#),
            )
        };
        let end = |reason: &str| step("step.end", &format!(r#","rawFinishReason":"{reason}""#));
        let appended = r#"{"type":"agent.message.appended","kind":"event","message":{"message":{"role":"assistant","content":"step"}}}"#;
        for says in [true, false] {
            let mut lines =
                vec![r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#.to_string()];
            for number in 0..200 {
                lines.push(step("step.begin", ""));
                if says {
                    lines.push(part(&format!("step {number}")));
                }
                for _ in 0..100 {
                    lines.push(step("tool.call", ""));
                }
                lines.push(end("tool_calls"));
                if number % 50 == 0 {
                    lines.push(
                        r#"{"type":"context.apply_compaction","tokensBefore":9}"#.to_string(),
                    );
                }
            }
            lines.extend([
                step("step.begin", ""),
                part("The "),
                part("end."),
                end("stop"),
            ]);
            lines.push(r#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#.to_string());
            // Of a long turn these come late, and are of no account.
            lines.extend(std::iter::repeat_n(appended.to_string(), 10_000));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let log = of(&lines);
            assert_eq!(log.text(), Some("The end."));
            let finished = Outcome::Finished(Finish::Stop);
            assert_eq!(log.outcome(&Answered::EndTurn), Some(finished));
        }
    }

    #[test]
    fn a_turn_that_ends_in_a_tool_call_is_not_finished() {
        let begin = r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#;
        let ended = r#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#;
        let (step_begin, tool) = (step("step.begin", ""), step("tool.call", ""));
        let step_end = step("step.end", r#","finishReason":"tool_use""#);
        for lines in [
            [begin, &step_begin, &tool, ended],
            [begin, &step_begin, &step_end, ended],
        ] {
            let log = of(&lines);
            assert_eq!(log.outcome(&Answered::EndTurn), Some(Outcome::unfinished()));
        }
        let broke = r#"{"type":"turn.ended","turnId":0,"reason":"completed","stopReason":"repeat_breaker"}"#;
        let reason = "repeat_breaker".to_string();
        assert_eq!(
            of(&[begin, &step_begin, broke]).outcome(&Answered::EndTurn),
            Some(Outcome::GaveUp { reason })
        );
    }

    #[test]
    fn a_sub_agents_log_is_followed_from_its_first_line() {
        let dir = Dir::new("sub");
        let session = dir.0.join("sessions/hash/s1");
        let mut files = SessionFiles::new(&KIMI_CLI, &dir.0).sub_agents_only();
        // The session has no directory before its first prompt.
        assert!(!files.follow("s1").unwrap());
        let mut read = || {
            let mut lines = Vec::new();
            files
                .read(&mut |agent, line| {
                    lines.push((
                        agent.to_string(),
                        String::from_utf8_lossy(line).into_owned(),
                    ));
                })
                .unwrap();
            lines
        };
        assert!(read().is_empty());
        fs::create_dir_all(session.join("subagents/a1")).unwrap();
        fs::write(session.join("wire.jsonl"), "main\n").unwrap();
        fs::write(session.join("subagents/a1/wire.jsonl"), "one\n").unwrap();
        assert_eq!(read(), [("a1".to_string(), "one".to_string())]);
        assert!(read().is_empty());
    }

    #[test]
    fn files_of_the_session_are_the_agents_own() {
        let dir = Dir::new("own");
        let path = |name: &str| dir.0.join(name).to_str().unwrap().to_string();
        let mut files = SessionFiles::new(&KIMI_CODE, &dir.0);
        assert!(!files.owns(&path("a")), "no session is followed yet");
        fs::create_dir_all(dir.0.join("sessions/wd/s1/agents/main")).unwrap();
        assert!(files.follow("s1").unwrap());
        assert!(files.owns(&path("sessions/wd/s1/agents/main/plans/p.md")));
        assert!(!files.owns(&path("sessions/wd/s1/../../../a")));
        assert!(!files.owns(&path("sessions/wd/s10/a")));
    }
}
