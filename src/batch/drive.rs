//! Works through a batch: gives prompts to the workers at the common pace and writes down what comes of them.
//!
//! One loop, which waits in one place: for a worker, a signal or the time of the next start. Before a prompt goes to a
//! worker the journal has it on disk, and before the next one goes out the answers that have come are on disk.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::batch::State;
use crate::batch::journal::Journal;
use crate::batch::journal::JournalError;
use crate::batch::journal::Outcome;
use crate::batch::journal::kind_number;
use crate::batch::pace::Limits;
use crate::batch::pace::Pace;
use crate::batch::pace::Ready;
use crate::batch::pool::Message;
use crate::batch::pool::Notice;
use crate::batch::pool::Pool;
use crate::catalog::money::Usd;
use crate::runtime::signal;
use crate::runtime::signal::Signal;

/// Kinds of failures after which no other prompt can succeed either.
const FATAL: [&str; 3] = ["authentication", "permission denied", "quota exhausted"];
/// The kind of a failure that a budget over several runs makes.
const BUDGET: &str = "budget exhausted";
/// Workers that may die for each one that is wanted, before the batch gives up.
const DEATHS: usize = 4;
/// Without anything else to wait for.
const LONG: Duration = Duration::from_secs(600);

/// A prompt to give to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its place in the input.
    pub place: u64,
    /// Its id.
    pub id: String,
    /// What the worker is told: one line of JSON.
    pub line: Vec<u8>,
    /// Tokens of the prompt and of the longest answer, for the limit of tokens a minute.
    pub tokens: u64,
    /// The most that it can cost.
    pub bound: Option<Usd>,
}

/// What is given out, and who hears of it.
pub trait Work {
    /// The next prompt that is to be asked.
    ///
    /// # Errors
    ///
    /// The input cannot be read any more.
    fn next_task(&mut self) -> io::Result<Option<Task>>;

    /// The command of a worker.
    ///
    /// # Errors
    ///
    /// There is none.
    fn worker(&mut self) -> io::Result<Command>;

    /// Something happened.
    fn on_progress(&mut self, tally: &Tally);
}

/// Within which limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The pace, and how many workers.
    pub pace: Limits,
    /// The most that the batch may cost, in all its runs.
    pub max_usd: Option<Usd>,
    /// The batch stops after so many failed prompts; `None` never.
    pub max_failures: Option<u64>,
    /// Prompts that may have been billed are asked again.
    pub retry_unknown: bool,
    /// How long ago the batch before this one, which is resumed, did something.
    pub since: Option<Duration>,
    /// When it has to be over.
    pub until: Option<Instant>,
    /// How often progress is shown; `None` for never.
    pub tick: Option<Duration>,
}

/// Why a batch ended before every prompt was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The next prompt could cost more than the cap leaves.
    Cap,
    /// A budget over several runs is used up; says which.
    Budget(String),
    /// So many prompts failed.
    Failures,
    /// No prompt can succeed; says why.
    Fatal(String),
    /// A signal came.
    Signal(Signal),
    /// The time is over.
    Deadline,
    /// Workers keep dying.
    Workers,
}

/// Failures of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Prompts that failed in the end.
    pub failed: u64,
    /// Attempts that failed and were made again.
    pub retried: u64,
    /// What the first of them said.
    pub example: String,
}

/// What a run of the batch came to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Prompts that this run is to ask.
    pub wanted: u64,
    /// Answered by this run.
    pub answered: u64,
    /// Of these, cut at the length limit.
    pub cut: u64,
    /// Of these, not as the schema wants them.
    pub invalid: u64,
    /// Failed in this run.
    pub failed: u64,
    /// With a worker.
    pub in_flight: usize,
    /// By the kind of failure.
    pub classes: BTreeMap<String, Class>,
    /// Tokens of prompts, as reported.
    pub input_tokens: u64,
    /// Of these, from the cache.
    pub cached_tokens: u64,
    /// Tokens of answers, as reported.
    pub output_tokens: u64,
    /// The known part of the cost of this run.
    pub usd: Usd,
    /// Prompts of this run whose cost is not known exactly.
    pub unknown: u64,
    /// What the batch can have cost at most so far, all runs together.
    pub spent: Usd,
}

/// What a worker is at.
enum Doing {
    Starting,
    Idle,
    Working { task: Task, started: Duration },
    Waiting { task: Task, due: Duration },
}

/// The states of all prompts, and the kinds of their failures.
#[derive(Debug)]
pub struct States {
    /// By place.
    pub states: Vec<State>,
    /// By place, places in `kinds`.
    pub kind_of: Vec<u16>,
    /// Kinds of failures; the first is empty.
    pub kinds: Vec<String>,
}

impl States {
    /// Notes the state of a prompt.
    pub fn set(&mut self, place: u64, state: State, kind: &str) {
        let number = kind_number(&mut self.kinds, kind);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(slot) = self.states.get_mut(place) {
            *slot = state;
        }
        if let Some(slot) = self.kind_of.get_mut(place) {
            *slot = u16::try_from(number).unwrap_or(0);
        }
    }
}

struct Drive<'a> {
    settings: Settings,
    pace: Pace,
    pool: Pool,
    doing: BTreeMap<usize, Doing>,
    journal: &'a mut Journal,
    states: &'a mut States,
    work: &'a mut dyn Work,
    /// Prompts that were taken and could not be given out.
    again: VecDeque<Task>,
    /// The input has no more.
    is_read: bool,
    /// A budget refused a prompt while others were under way: something has to end first.
    holds: bool,
    stopped: Option<Stopped>,
    deaths: usize,
    tally: Tally,
    started: Instant,
}

/// Works through the prompts of `work`, and returns what came of it and why it ended early, if it did. The journal is
/// synced.
///
/// # Errors
///
/// The journal or the output cannot be written, or the input cannot be read any more. What was under way is finished by the
/// workers, and found again when the batch is resumed.
pub fn drive(
    settings: Settings,
    wanted: u64,
    journal: &mut Journal,
    states: &mut States,
    work: &mut dyn Work,
) -> Result<(Tally, Option<Stopped>), JournalError> {
    let mut drive = Drive {
        pace: Pace::new(settings.pace),
        settings,
        pool: Pool::default(),
        doing: BTreeMap::new(),
        tally: Tally {
            wanted,
            spent: journal.spent(),
            ..Tally::default()
        },
        journal,
        states,
        work,
        again: VecDeque::new(),
        is_read: wanted == 0,
        holds: false,
        stopped: None,
        deaths: 0,
        started: Instant::now(),
    };
    if let Some(since) = settings.since {
        drive.pace.resume(since);
    }
    let workers = usize::try_from(wanted).unwrap_or(usize::MAX);
    for _ in 0..workers.min(settings.pace.width) {
        drive.start_worker()?;
    }
    drive.run()?;
    Ok((drive.tally, drive.stopped))
}

impl Drive<'_> {
    fn run(&mut self) -> Result<(), JournalError> {
        loop {
            self.check_end();
            let now = self.started.elapsed();
            let retry_at = self.go_on(now);
            let (given, start_at) = self.choose(now)?;
            self.journal.sync()?;
            for (place, task) in given {
                self.pool.tell(place, &task.line);
                let started = now;
                self.doing.insert(place, Doing::Working { task, started });
            }
            self.tally.in_flight = self.under_way() + self.waiting();
            self.tally.spent = self.journal.spent();
            self.work.on_progress(&self.tally);
            let is_done = self.is_read && self.again.is_empty() || self.stopped.is_some();
            if is_done && self.tally.in_flight == 0 {
                return Ok(());
            }
            let now = self.started.elapsed();
            let times = [retry_at, start_at].into_iter().flatten();
            let mut timeout = times.min().map_or(LONG, |at| at.saturating_sub(now));
            timeout = self.settings.tick.map_or(timeout, |tick| timeout.min(tick));
            if let (Some(until), None) = (self.settings.until, &self.stopped) {
                timeout = timeout.min(until.saturating_duration_since(Instant::now()));
            }
            let (_, said) = self.pool.wait(timeout);
            for (place, message) in said {
                self.hear(place, message)?;
            }
        }
    }

    /// Whether someone wants it to end.
    fn check_end(&mut self) {
        if let Some(signal) = signal::pending() {
            signal::acknowledge();
            self.stop(Stopped::Signal(signal));
            self.pool.signal(Signal::Terminate);
        }
        let is_over = self
            .settings
            .until
            .is_some_and(|until| Instant::now() >= until);
        if is_over && self.stopped.is_none() {
            self.stop(Stopped::Deadline);
            self.pool.signal(Signal::Terminate);
        }
    }

    /// Nothing new is given out any more, and whoever waits gives up. What is under way comes to its end.
    fn stop(&mut self, why: Stopped) {
        if self.stopped.is_some() && !matches!(why, Stopped::Signal(_)) {
            return;
        }
        self.stopped = Some(why);
        for (place, doing) in &self.doing {
            if matches!(doing, Doing::Waiting { .. }) {
                self.pool.dismiss(*place);
            }
        }
    }

    fn under_way(&self) -> usize {
        let doing = self.doing.values();
        doing
            .filter(|doing| matches!(doing, Doing::Working { .. }))
            .count()
    }

    fn waiting(&self) -> usize {
        let doing = self.doing.values();
        doing
            .filter(|doing| matches!(doing, Doing::Waiting { .. }))
            .count()
    }

    /// Lets those make their next attempt that have waited long enough. Returns when the next one has.
    fn go_on(&mut self, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut soon = |at: Duration| next = Some(next.map_or(at, |next| next.min(at)));
        let mut under_way = self.under_way();
        for (place, doing) in &mut self.doing {
            let Doing::Waiting { task, due } = doing else {
                continue;
            };
            if *due > now {
                soon(*due);
                continue;
            }
            match self.pace.ready(now, under_way, task.tokens) {
                Ready::Now => {
                    self.pace.start(now, task.tokens);
                    self.journal.went(&task.id);
                    self.pool.tell(*place, b"go");
                    under_way += 1;
                    let (task, started) = (task.clone(), now);
                    *doing = Doing::Working { task, started };
                }
                Ready::At(at) => soon(at),
                Ready::WhenOneEnds => {}
            }
        }
        next
    }

    /// Assigns prompts to workers, and notes it in the journal. Returns when the next prompt may start.
    #[allow(
        clippy::type_complexity,
        reason = "a list of pairs and a time, used once"
    )]
    fn choose(
        &mut self,
        now: Duration,
    ) -> Result<(Vec<(usize, Task)>, Option<Duration>), JournalError> {
        let mut given: Vec<(usize, Task)> = Vec::new();
        let mut start_at = None;
        let idle = self.doing.iter();
        let idle: Vec<usize> = idle
            .filter(|(_, doing)| matches!(doing, Doing::Idle))
            .map(|(place, _)| *place)
            .collect();
        for place in idle {
            if self.stopped.is_some() || self.holds {
                break;
            }
            let Some(task) = self.next_task()? else {
                break;
            };
            let under_way = self.under_way() + given.len();
            if !self.fits(&task) {
                let is_alone = under_way + self.waiting() == 0;
                self.again.push_front(task);
                if is_alone {
                    self.stop(Stopped::Cap);
                }
                break;
            }
            match self.pace.ready(now, under_way, task.tokens) {
                Ready::Now => {
                    self.pace.start(now, task.tokens);
                    self.journal.sent(&task.id, task.bound);
                    given.push((place, task));
                }
                Ready::At(at) => {
                    start_at = Some(at);
                    self.again.push_front(task);
                    break;
                }
                Ready::WhenOneEnds => {
                    self.again.push_front(task);
                    break;
                }
            }
        }
        Ok((given, start_at))
    }

    fn next_task(&mut self) -> Result<Option<Task>, JournalError> {
        if let Some(task) = self.again.pop_front() {
            return Ok(Some(task));
        }
        if self.is_read {
            return Ok(None);
        }
        let task = self.work.next_task().map_err(|error| JournalError::Io {
            path: "the input".into(),
            error,
        })?;
        self.is_read = task.is_none();
        Ok(task)
    }

    /// Whether the cap leaves what the prompt can cost.
    fn fits(&self, task: &Task) -> bool {
        let Some(cap) = self.settings.max_usd else {
            return true;
        };
        let left = cap.checked_sub(self.journal.spent());
        match (task.bound, left) {
            (Some(bound), Some(left)) => bound <= left,
            // What nothing bounds fits into no cap.
            _ => false,
        }
    }

    fn start_worker(&mut self) -> Result<(), JournalError> {
        let command = self.work.worker();
        let started = command.and_then(|command| self.pool.start(command));
        let place = started.map_err(|error| JournalError::Io {
            path: "a worker".into(),
            error,
        })?;
        self.doing.insert(place, Doing::Starting);
        Ok(())
    }

    fn hear(&mut self, place: usize, message: Message) -> Result<(), JournalError> {
        match message {
            Message::Ready => {
                self.doing.insert(place, Doing::Idle);
            }
            Message::Waiting(notice) => self.wait(place, &notice),
            Message::Done(outcome, document) => {
                if let Some(
                    Doing::Working { task, started } | Doing::Waiting { task, due: started },
                ) = self.doing.insert(place, Doing::Idle)
                {
                    self.take(task, started, &outcome, &document);
                }
            }
            Message::Gone => {
                let doing = self.doing.remove(&place);
                if let Some(Doing::Working { task, .. } | Doing::Waiting { task, .. }) = doing {
                    let outcome = Outcome {
                        id: task.id.clone(),
                        kind: "worker".to_string(),
                        message: "the process that asked it ended; see the messages above"
                            .to_string(),
                        charged: true,
                        at_most_usd: task.bound.map(Usd::exact_decimal),
                        exit: 1,
                        ..Outcome::default()
                    };
                    let retries = self.settings.retry_unknown;
                    let again = retries.then(|| task.clone());
                    let started = self.started.elapsed();
                    self.take(task, started, &outcome, b"");
                    if let Some(task) = again {
                        self.tally.failed = self.tally.failed.saturating_sub(1);
                        self.again.push_back(task);
                    }
                }
                self.deaths += 1;
                if self.deaths > DEATHS * self.settings.pace.width {
                    self.stop(Stopped::Workers);
                }
                if self.stopped.is_none() {
                    self.start_worker()?;
                }
            }
        }
        Ok(())
    }

    /// An attempt failed, and the worker wants to make another.
    fn wait(&mut self, place: usize, notice: &Notice) {
        let now = self.started.elapsed();
        let class = self.tally.classes.entry(notice.kind.clone()).or_default();
        class.retried += 1;
        let Some(Doing::Working { task, started }) = self.doing.remove(&place) else {
            return;
        };
        if notice.slows {
            let after = notice.retry_after_ms.map(Duration::from_millis);
            self.pace.refused(now, started, after);
        }
        let due = now.saturating_add(Duration::from_millis(notice.wait_ms));
        self.doing.insert(place, Doing::Waiting { task, due });
        if self.stopped.is_some() {
            self.pool.dismiss(place);
        }
    }

    /// A prompt came to its end.
    fn take(&mut self, task: Task, started: Duration, outcome: &Outcome, document: &[u8]) {
        self.holds = false;
        self.journal.outcome(outcome, document);
        let tally = &mut self.tally;
        tally.input_tokens = tally.input_tokens.saturating_add(outcome.input_tokens);
        tally.cached_tokens = tally.cached_tokens.saturating_add(outcome.cached_tokens);
        tally.output_tokens = tally.output_tokens.saturating_add(outcome.output_tokens);
        match outcome.usd.as_deref().and_then(|usd| Usd::parse(usd).ok()) {
            Some(usd) => tally.usd = tally.usd + usd,
            None => tally.unknown += 1,
        }
        if outcome.answered {
            tally.answered += 1;
            tally.cut += u64::from(outcome.exit == 3);
            tally.invalid += u64::from(outcome.exit == 4);
            self.pace.answered();
            self.states.set(task.place, State::Answered, "");
            return;
        }
        let state = match outcome.charged {
            true => State::Charged,
            false => State::Failed,
        };
        self.states.set(task.place, state, &outcome.kind);
        if outcome.kind == BUDGET && !outcome.charged {
            // What others have reserved comes back when they end.
            let is_alone = self.under_way() + self.waiting() == 0;
            self.again.push_front(task);
            match is_alone {
                true => self.stop(Stopped::Budget(outcome.message.clone())),
                false => self.holds = true,
            }
            return;
        }
        let class = self.tally.classes.entry(outcome.kind.clone()).or_default();
        class.failed += 1;
        if class.example.is_empty() {
            class.example.clone_from(&outcome.message);
        }
        self.tally.failed += 1;
        if outcome.kind == "rate limited" {
            self.pace.refused(self.started.elapsed(), started, None);
        }
        if FATAL.contains(&outcome.kind.as_str()) {
            self.stop(Stopped::Fatal(outcome.message.clone()));
        } else if self
            .settings
            .max_failures
            .is_some_and(|most| self.tally.failed >= most)
            && outcome.kind != "interrupted"
        {
            self.stop(Stopped::Failures);
        }
    }
}
