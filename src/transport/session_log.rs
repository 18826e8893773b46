//! Session logs: what agents write down and do not say.
//!
//! A [`Fact`] is what a line says, whichever agent wrote it; [`SessionLog`] adds the facts of one agent's log up. [`Tail`]
//! follows a file that grows, and [`LogSource`] the logs of a session, where sub-agents have their own. How each agent's
//! lines read stands in [`crate::transport::agents`]. The hashes in the paths are not computed: the session's own id finds
//! its directory. Nothing here writes a file.

mod tail;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::runtime::file;
use crate::transport::agent::Answered;
use crate::transport::agent::Event;
use crate::transport::agent::Finish;
use crate::transport::agent::Outcome;
use crate::transport::agent::UsageSum;
use crate::transport::agents::Dialect;
use crate::transport::agents::kimi_cli;
use crate::transport::calls::Calls;
use crate::transport::fact::Fact;
use crate::transport::fact::TurnEnd;
use crate::transport::fact::account;
use crate::transport::session_dir::find_session;
use crate::transport::session_dir::logs;

pub use crate::transport::session_log::tail::Tail;

/// How long the logs of a session are read in one call: an agent may write faster than that, and there is a deadline.
const LONGEST_LOOK: Duration = Duration::from_millis(100);
/// The largest `context.jsonl` that is read: some answers of 5 MB.
const MAX_CONTEXT: u64 = 16 * 1024 * 1024;
/// The longest text that is kept of an answer: more than any caller takes, so that one that is too long is still seen to be.
const MAX_TEXT: usize = 9 * 1024 * 1024;
/// Bytes of unfinished lines in all logs of a session.
const MAX_UNFINISHED: usize = 24 * 1024 * 1024;
/// Agents of a session.
const MAX_AGENTS: usize = 1000;
/// The name of the agent that was asked, among the agents of a session.
pub const MAIN: &str = "main";

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

    /// Whether the last look had no time for all that was there.
    fn is_behind(&self) -> bool {
        false
    }

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

    fn is_behind(&self) -> bool {
        (**self).is_behind()
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
    /// The files that they follow.
    known: BTreeSet<PathBuf>,
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
            known: BTreeSet::new(),
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
            if (is_main && !self.with_main) || self.known.contains(&path) {
                continue;
            }
            self.known.insert(path.clone());
            let name = match is_main {
                true => MAIN.to_string(),
                false => agent_of(&path),
            };
            if self.tails.len() >= MAX_AGENTS {
                return Err(beyond_limits(&path, "one of more than 1000 agents"));
            }
            self.tails.push((name, tail(path)?));
        }
        Ok(())
    }
}

/// No agent that means well writes this, so its bill is not to be trusted either.
fn beyond_limits(log: &Path, what: &str) -> io::Error {
    let message = format!("{} is {what}", log.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
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
        self.known.clear();
        self.take_up(Tail::at_end)?;
        Ok(self.directory.is_some())
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        self.take_up(|path| Ok(Tail::new(path, 0)))?;
        let until = Instant::now() + LONGEST_LOOK;
        let mut unfinished = 0;
        for (agent, tail) in &mut self.tails {
            tail.read_until(Some(until), |line| on_line(agent, line))?;
            unfinished += tail.unfinished();
            if unfinished > MAX_UNFINISHED {
                return Err(beyond_limits(tail.path(), "part of too much"));
            }
        }
        Ok(())
    }

    fn place(&self) -> String {
        let main = self.tails.first().map(|(_, tail)| tail.path());
        main.unwrap_or(&self.home).display().to_string()
    }

    fn is_behind(&self) -> bool {
        self.tails.iter().any(|(_, tail)| tail.is_behind())
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
        file::read_regular(&directory.join("context.jsonl"), MAX_CONTEXT).ok()
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

/// Adds what a fact says of a sub-agent's tools.
fn add_tool(agent: &str, fact: &Fact, events: &mut Vec<Event>) {
    match fact {
        Fact::Tool {
            call,
            name,
            arguments,
            ..
        } => {
            events.push(Event::Tool {
                call: call.clone(),
                name: name.clone(),
                agent: Some(agent.to_string()),
            });
            events.push(Event::ToolUsed {
                call: call.clone(),
                arguments: arguments.clone(),
            });
        }
        Fact::ToolDone { call, ok, output } => events.push(Event::ToolDone {
            call: call.clone(),
            ok: *ok,
            output: output.clone(),
        }),
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
        if let Some(fact) = self.dialect.fact(line) {
            self.read(fact, events);
        }
    }

    fn read(&mut self, fact: Fact, events: &mut Vec<Event>) {
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
                let kept = self.text.get_or_insert_default();
                if kept.len() <= MAX_TEXT {
                    kept.push_str(&text);
                }
            }
            Fact::Tool { turn, .. } if self.is_own_step && is_own(turn, self) => {
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
            TurnEnd::Completed | TurnEnd::Unknown => match (&self.finish, answered) {
                (Some(Finish::Filtered), _) => Outcome::Finished(Finish::Filtered),
                (_, Answered::Refused) => Outcome::Refused,
                (Some(Finish::ToolCalls), _) => Outcome::DeadEnd,
                _ if self.asks_for_tool => Outcome::DeadEnd,
                (finish, _) => Outcome::Finished(finish.clone().unwrap_or(Finish::Unknown)),
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

    /// Takes a line of an agent's log. What a sub-agent says of its retries is left out, and what the main agent says of its
    /// tools, which the protocol tells.
    pub fn read_line(&mut self, agent: &str, line: &[u8], events: &mut Vec<Event>) {
        let log = match self.logs.get_mut(agent) {
            Some(log) => log,
            None => {
                let log = SessionLog::new(self.dialect);
                self.logs.entry(agent.to_string()).or_insert(log)
            }
        };
        let Some(fact) = self.dialect.fact(line) else {
            return;
        };
        let before = events.len();
        if agent != MAIN {
            add_tool(agent, &fact, events);
        }
        log.read(fact, events);
        if agent != MAIN {
            // Its text is not needed.
            if let Some(text) = &mut log.text {
                text.clear();
            }
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

#[cfg(test)]
mod tests;
