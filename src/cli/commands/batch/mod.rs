//! `omk batch`: thousands of prompts, one budget, nothing lost, nothing paid for twice.
//!
//! This file checks the input, opens the journal, lets [`drive`] do the work and says what came of it. What a prompt becomes is
//! in [`prepare`], the processes that ask are in [`worker`], and everything that is no flag, file name or message is in
//! [`crate::batch`].

mod args;
mod prepare;
mod report;
mod worker;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::batch::State;
use crate::batch::drive::{Settings, States, Stopped, Tally, Task, Work, drive};
use crate::batch::index::{Table, hash, scratch};
use crate::batch::input::{Format, Problem, Reader, Row};
use crate::batch::journal::{Journal, JournalError, Paths};
use crate::batch::pace::Limits;
use crate::catalog::money::Usd;
use crate::cli::ask::desk::Desk;
use crate::cli::commands::batch::args::BatchArgs;
use crate::cli::commands::batch::prepare::Preparer;
use crate::cli::commands::batch::report::{CheckReport, RunReport};
use crate::cli::commands::watch_signals;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::input::copy_stdin;
use crate::cli::ledger;
use crate::cost::budget::{Budget, Standing, standings};
use crate::cost::record;
use crate::runtime::crc32c::crc32c;
use crate::runtime::text::escape_os;

pub(crate) use crate::cli::commands::WORKER;
pub(crate) use crate::cli::commands::batch::args::SPEC;

/// Mistakes of the input that are shown; of the rest the number.
const MOST_PROBLEMS: usize = 20;
/// How often someone at a terminal sees how far it is.
const TICK: Duration = Duration::from_millis(250);

/// Runs the command, or is one of its workers.
pub(crate) fn run(args: BatchArgs, env: &mut Env) -> Result<Exit, Failure> {
    if env.variable(WORKER).is_some() {
        return worker::run(&args, env);
    }
    watch_signals()?;
    let input = Input::open(&args, env)?;
    let budgets = ledger::budgets(env)?;
    let desk = Desk::open(&args.ask, env)?;
    let mut preparer = Preparer::new(&args, input.format, !budgets.is_empty(), env)?;
    let mut checked = check(&args, &input, &desk, &mut preparer, env)?;
    let standing = budget_standings(&budgets, env)?;
    let mut report = CheckReport::new(&args, &input.name, input.format, &checked.totals, &standing);
    for warning in report.warnings() {
        env.output.warning(warning);
    }
    if args.dry_run {
        return report::checked(&args, &report, env);
    }
    let out = args.output.clone().unwrap_or_default();
    let paths = Paths::of(&out, args.ordered);
    let now = env.clock.now();
    let name = record::new_id(now, std::process::id(), record::random());
    let name = format!("batch-{name}");
    let numbered = checked.fingerprint.as_deref();
    let (mut journal, mut resumed) = Journal::open(paths, &name, numbered, &mut || {
        env.output.note(
            "waiting for the processes of a batch that was killed to finish what they are at",
        );
    })
    .map_err(unusable)?;
    let mut states = States {
        states: vec![State::Pending; checked.count()],
        kind_of: vec![0; checked.count()],
        kinds: std::mem::take(&mut resumed.kinds),
    };
    apply(&mut checked.index, &mut resumed.events, &mut states)
        .map_err(|error| unreadable(Path::new(&out), &error))?;
    report.resume(&journal, &states, resumed.rescued, args.retry_unknown);
    let wanted = report.wanted();
    if let Some(note) = report.note() {
        env.output.note(&note);
    }
    let settings = Settings {
        pace: Limits {
            width: args.jobs,
            rpm: args.rpm,
            tpm: args.tpm,
        },
        max_usd: args.ask.max_usd,
        max_failures: args.max_failures,
        retry_unknown: args.retry_unknown,
        since: resumed.since,
        until: args.ask.deadline.until(),
        tick: io::stderr().is_terminal().then_some(TICK),
    };
    let started = Instant::now();
    let (tally, stopped) = {
        let open = states.open_places(args.retry_unknown);
        let mut source = Source {
            input: &input,
            reader: input.reader(&checked.columns)?,
            place: 0,
            open,
            batch: journal.batch().to_string(),
            preparer: &mut preparer,
            desk: &desk,
            started,
            env,
        };
        drive(settings, wanted, &mut journal, &mut states, &mut source).map_err(unusable)?
    };
    env.output.status(None);
    journal.put_in_order(&mut checked.index).map_err(unusable)?;
    let paths = journal.paths().clone();
    let failed = write_failed(&paths.failed, &input, &checked.columns, &states)
        .map_err(|error| unreadable(&paths.failed, &error))?;
    let spent = journal.spent();
    let is_whole = states.states.iter().all(|state| *state == State::Answered);
    let batch = journal.batch().to_string();
    if is_whole {
        journal.finish().map_err(unusable)?;
    }
    tidy(env);
    let run = RunReport::new(
        &batch,
        &tally,
        stopped.as_ref(),
        &states,
        (spent, started.elapsed()),
        (failed > 0).then_some(paths.failed.as_path()),
    );
    let failure = conclude(&args, &tally, stopped.as_ref(), &run, &states);
    report::finished(&args, &report, &run, failure, env)
}

/// The prompts, in a file that can be read again.
struct Input {
    file: File,
    /// Its name for people.
    name: String,
    format: Format,
}

impl Input {
    fn open(args: &BatchArgs, env: &mut Env) -> Result<Input, Failure> {
        let (mut file, name) = match &args.input {
            Some(path) => {
                let missing = |error: io::Error| {
                    let detail = format!("`{}`: {error}", escape_os(path));
                    Failure::new(Exit::NoInput, "input", detail)
                };
                let file = File::open(path).map_err(missing)?;
                match file.metadata().map_err(missing)?.is_file() {
                    true => (file, escape_os(path)),
                    false => {
                        let mut file = file;
                        let mut spool = spool(args)?;
                        io::copy(&mut file, &mut spool).map_err(missing)?;
                        (spool, escape_os(path))
                    }
                }
            }
            None => {
                let mut spool = spool(args)?;
                copy_stdin(&mut spool, args.ask.deadline, env)?;
                (spool, "-".to_string())
            }
        };
        let begin = file.seek(SeekFrom::Start(0));
        let mut beginning = Vec::new();
        let read = begin.and_then(|_| {
            let piece = BufReader::with_capacity(256, &file);
            io::Read::read_to_end(&mut io::Read::take(piece, 256), &mut beginning)
        });
        read.map_err(|error| unreadable(Path::new(&name), &error))?;
        let beginning = String::from_utf8_lossy(&beginning).into_owned();
        let format = args
            .read_as
            .unwrap_or_else(|| Format::detect(&name, &beginning));
        Ok(Input { file, name, format })
    }

    /// A reader from the beginning. There is one at a time: they share the file's position.
    fn reader(&self, columns: &[String]) -> Result<Reader<impl BufRead + use<'_>>, Failure> {
        let _ = columns;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))
            .map_err(|error| unreadable(Path::new(&self.name), &error))?;
        let reader = BufReader::with_capacity(64 * 1024, file);
        Ok(Reader::new(reader, self.format))
    }
}

/// A file for what cannot be read twice.
fn spool(args: &BatchArgs) -> Result<File, Failure> {
    let temporary = std::env::temp_dir();
    let directory = match &args.output {
        Some(out) => Paths::of(out, false).directory().to_path_buf(),
        None => temporary,
    };
    scratch(&directory).map_err(|error| unreadable(&directory, &error))
}

/// What the whole input is and takes.
#[derive(Debug, Default)]
struct Totals {
    prompts: u64,
    input_tokens: u64,
    /// The price of the prompts alone; `None` where a price is not known.
    usd: Option<Usd>,
    /// With the longest answers.
    worst_case: Option<Usd>,
    /// Prompts with a file of their own, whose tokens are not counted.
    with_images: u64,
}

/// The input, found in order.
struct Checked {
    /// For each prompt the hash of its id, its line and its offset.
    index: Table,
    columns: Vec<String>,
    totals: Totals,
    /// What the input is, where its prompts are named by their lines.
    fingerprint: Option<String>,
}

impl Checked {
    fn count(&self) -> usize {
        usize::try_from(self.totals.prompts).unwrap_or(usize::MAX)
    }
}

/// Reads the whole input and names everything that is wrong with it.
fn check(
    args: &BatchArgs,
    input: &Input,
    desk: &Desk,
    preparer: &mut Preparer<'_>,
    env: &mut Env,
) -> Result<Checked, Failure> {
    let directory = args.output.as_ref().map(|out| {
        let paths = Paths::of(out, false);
        paths.directory().to_path_buf()
    });
    let directory = directory.unwrap_or_else(std::env::temp_dir);
    let index = scratch(&directory).map_err(|error| unreadable(&directory, &error))?;
    let mut index = Table::new(index);
    let mut totals = Totals {
        usd: Some(Usd::ZERO),
        worst_case: Some(Usd::ZERO),
        ..Totals::default()
    };
    let mut problems: Vec<Problem> = Vec::new();
    let mut count = 0_u64;
    let mut sum = 0_u32;
    let mut note = |problem: Problem| {
        count += 1;
        if problems.len() < MOST_PROBLEMS {
            problems.push(problem);
        }
    };
    let unread = |error: io::Error| unreadable(Path::new(&input.name), &error);
    let mut reader = input.reader(&[])?;
    let watched = io::stderr().is_terminal();
    let mut drawn = Instant::now();
    while let Some(record) = reader.next_record().map_err(unread)? {
        args.ask.deadline.check("checking the input")?;
        if let Some(signal) = crate::runtime::signal::pending() {
            return Err(Failure::interrupted(signal, "checking the input"));
        }
        if watched && drawn.elapsed() >= TICK * 4 {
            drawn = Instant::now();
            let line = format!("omk: checking the input, line {}", record.line);
            env.output.status(Some(&line));
        }
        let row = match record.row {
            Ok(row) => row,
            Err(problem) => {
                note(problem);
                continue;
            }
        };
        index
            .push([hash(&row.id), record.line, record.offset])
            .map_err(unread)?;
        totals.prompts += 1;
        totals.with_images += u64::from(!row.image.is_empty());
        if input.format.numbers() {
            let text = row.prompt.as_deref().unwrap_or_default();
            let parts = [&sum.to_le_bytes()[..], row.id.as_bytes(), text.as_bytes()];
            sum = crc32c(&parts.concat());
        }
        let job = preparer.job(row, "", env);
        match job.and_then(|job| preparer.size(&job, desk)) {
            Ok(size) => {
                totals.input_tokens = totals.input_tokens.saturating_add(size.input);
                totals.usd = totals.usd.zip(size.usd).map(|(sum, usd)| sum + usd);
                let worst = totals.worst_case.zip(size.bound);
                totals.worst_case = worst.map(|(sum, bound)| sum + bound);
            }
            Err(message) => note(Problem {
                line: record.line,
                column: 1,
                message,
            }),
        }
    }
    env.output.status(None);
    let columns = reader.columns().to_vec();
    drop(reader);
    for (first, second) in index.repeated(MOST_PROBLEMS).map_err(unread)? {
        let [_, line, _] = index.get(first).map_err(unread)?;
        let [_, second, _] = index.get(second).map_err(unread)?;
        note(Problem {
            line: second,
            column: 1,
            message: format!("its id is that of line {line} too; each id must be there once"),
        });
    }
    if count > 0 {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        return Err(wrong_input(&input.name, &problems, count));
    }
    if totals.prompts == 0 {
        let detail = format!("`{}` has no prompts", input.name);
        return Err(Failure::new(Exit::BadInput, "input", detail));
    }
    let has_ids = columns.iter().any(|name| name == "id");
    let numbered = input.format.numbers() && !has_ids;
    Ok(Checked {
        fingerprint: numbered.then(|| format!("{:08x}-{}", sum, totals.prompts)),
        index,
        columns,
        totals,
    })
}

fn wrong_input(name: &str, problems: &[Problem], count: u64) -> Failure {
    let list: Vec<String> = problems
        .iter()
        .map(|problem| format!("{name}: {problem}"))
        .collect();
    let shown = u64::try_from(list.len()).unwrap_or(u64::MAX);
    let more = match count.saturating_sub(shown) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let detail = format!("{}{more}", list.join("; "));
    Failure::new(Exit::BadInput, "input", detail)
        .hint("nothing was sent; correct these lines, `omk batch --dry-run` checks again")
}

/// How much of each budget over several runs is left.
fn budget_standings(budgets: &[Budget], env: &Env) -> Result<Vec<Standing>, Failure> {
    if budgets.is_empty() {
        return Ok(Vec::new());
    }
    let unreadable = |error: crate::cost::sink::SinkError| {
        let failure = Failure::new(Exit::Io, "ledger", error.detail);
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let ledger = ledger::open(env).map_err(unreadable)?;
    let found = standings(&ledger, budgets, env.clock.now(), None).map_err(unreadable)?;
    Ok(found.0)
}

/// Brings what the journal knows to the places of the input.
fn apply(index: &mut Table, events: &mut Table, states: &mut States) -> io::Result<()> {
    let kinds = states.kinds.clone();
    index.join(events, &mut |place, [_, state, kind]| {
        let state = match state {
            1 => State::Sent,
            2 => State::Answered,
            3 => State::Failed,
            4 => State::Charged,
            _ => State::Pending,
        };
        let kind = usize::try_from(kind).ok().and_then(|kind| kinds.get(kind));
        states.set(place, state, kind.map_or("", String::as_str));
        Ok(())
    })
}

impl States {
    /// For each place, whether its prompt is to be asked now; what fails in this run is not asked again in it.
    fn open_places(&self, retry_unknown: bool) -> Vec<bool> {
        let states = self.states.iter();
        states.map(|state| state.is_open(retry_unknown)).collect()
    }
}

/// Gives the prompts of the input out.
struct Source<'a, 'b, R> {
    input: &'a Input,
    reader: Reader<R>,
    place: u64,
    open: Vec<bool>,
    batch: String,
    preparer: &'a mut Preparer<'b>,
    desk: &'a Desk,
    started: Instant,
    env: &'a mut Env,
}

impl<R: BufRead> Work for Source<'_, '_, R> {
    fn next_task(&mut self) -> io::Result<Option<Task>> {
        let changed = |why: &str| {
            let detail = format!("{} was changed in the meantime: {why}", self.input.name);
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        while let Some(record) = self.reader.next_record()? {
            let place = self.place;
            self.place += 1;
            let is_open = usize::try_from(place)
                .ok()
                .and_then(|place| self.open.get(place));
            if is_open != Some(&true) {
                continue;
            }
            let row = record
                .row
                .map_err(|problem| changed(&problem.to_string()))?;
            let job = self.preparer.job(row, &self.batch, self.env);
            let job = job.map_err(|why| changed(&why))?;
            let size = self.preparer.size(&job, self.desk);
            let size = size.map_err(|why| changed(&why))?;
            return Ok(Some(Task {
                place,
                line: serde_json::to_vec(&job)?,
                id: job.id,
                tokens: size.tokens,
                bound: size.bound,
            }));
        }
        Ok(None)
    }

    fn worker(&mut self) -> io::Result<Command> {
        // The very program that runs, even when another one was installed in its place since.
        let own = Path::new("/proc/self/exe");
        let program = match own.exists() {
            true => own.to_path_buf(),
            false => std::env::current_exe()?,
        };
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).env(WORKER, "1");
        Ok(command)
    }

    fn on_progress(&mut self, tally: &Tally) {
        if io::stderr().is_terminal() {
            let line = report::progress(tally, self.started.elapsed());
            self.env.output.status(Some(&line));
        }
    }
}

/// Writes the prompts that have no answer and are not simply left to be asked, as the input of another batch; returns how many. An older file
/// goes where there are none.
fn write_failed(
    path: &PathBuf,
    input: &Input,
    columns: &[String],
    states: &States,
) -> io::Result<u64> {
    let has_failed = |state: &State| !matches!(state, State::Answered | State::Pending);
    if !states.states.iter().any(has_failed) {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(0),
        };
    }
    let mut writer = BufWriter::new(File::create(path)?);
    let reader = input.reader(columns);
    let mut reader = reader.map_err(|failure| io::Error::other(failure.detail))?;
    let mut places = states.states.iter().zip(&states.kind_of);
    let mut count = 0;
    while let Some(record) = reader.next_record()? {
        let Some((state, kind)) = places.next() else {
            break;
        };
        let (true, Ok(row)) = (has_failed(state), record.row) else {
            continue;
        };
        let kind = states
            .kinds
            .get(usize::from(*kind))
            .map_or("", String::as_str);
        let error = serde_json::json!({
            "kind": match kind.is_empty() {
                true => "killed",
                false => kind,
            },
            "charged": match state {
                State::Failed => "no",
                _ => "unknown",
            },
        });
        let row = Row {
            error: Some(error),
            ..row
        };
        serde_json::to_writer(&mut writer, &row)?;
        writer.write_all(b"\n")?;
        count += 1;
    }
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_data()?;
    Ok(count)
}

/// Keeps the ledger in order.
fn tidy(env: &Env) {
    if let Ok(ledger) = ledger::open(env) {
        // A later run does what this one could not.
        let _ = ledger.into_sink().fold(crate::cost::file_sink::Fold::IfDue);
    }
}

/// How the batch ended, if not with an answer to every prompt.
fn conclude(
    args: &BatchArgs,
    tally: &Tally,
    stopped: Option<&Stopped>,
    run: &RunReport,
    states: &States,
) -> Option<Failure> {
    let again = "the same command asks what is left";
    let left = run.left();
    Some(match stopped {
        Some(Stopped::Cap) => {
            let cap = args.ask.max_usd.unwrap_or(Usd::ZERO);
            let detail = format!(
                "--max-usd {cap} does not leave what the next prompt can cost: {} so far at most, {left} prompts left",
                run.spent()
            );
            Failure::new(Exit::Budget, "budget", detail).hint(format!(
                "{again} with a larger --max-usd; a smaller --max-output-tokens needs less"
            ))
        }
        Some(Stopped::Budget(why)) => Failure::new(
            Exit::Budget,
            "budget",
            format!("{why}; {left} prompts left"),
        )
        .hint(format!("{again} when the budget allows it")),
        Some(Stopped::Fatal(why)) => Failure::new(
            Exit::Permission,
            "service",
            format!("{why}; {left} prompts left"),
        ),
        Some(Stopped::Signal(signal)) => Failure::interrupted(*signal, "asking").hint(again),
        Some(Stopped::Deadline) => {
            let detail = format!("the deadline ran out with {left} prompts left");
            Failure::new(Exit::Deadline, "deadline", detail).hint(again)
        }
        Some(Stopped::Workers) => {
            let detail = "the processes that ask keep ending; see their messages above";
            Failure::new(Exit::Failed, "workers", detail)
        }
        Some(Stopped::Failures) => {
            let detail = format!("{}; {left} prompts left", failures(tally));
            Failure::new(Exit::Failed, "failed", detail)
                .hint("--keep-going or --max-failures N goes on")
                .hint(again)
        }
        None => {
            let unknown = |state: &&State| matches!(state, State::Sent | State::Charged);
            let unknown = states.states.iter().filter(unknown).count();
            if left > 0 {
                let failure = match tally.failed {
                    0 => Failure::new(
                        Exit::Failed,
                        "failed",
                        format!("{unknown} prompts may have been billed, and were not asked again"),
                    ),
                    _ => Failure::new(Exit::Failed, "failed", failures(tally)),
                };
                return Some(match unknown {
                    0 => failure.hint(again),
                    _ => failure
                        .hint("--retry-unknown asks them again, though they may be paid for twice"),
                });
            }
            if tally.invalid > 0 {
                let detail = format!("{} answers do not satisfy their schema", tally.invalid);
                return Some(
                    Failure::new(Exit::Invalid, "invalid answer", detail)
                        .hint("they are in the output, with `exit` 4"),
                );
            }
            if tally.cut > 0 {
                let detail = format!("{} answers ended at the length limit", tally.cut);
                return Some(Failure::new(Exit::Cut, "cut", detail)
                    .hint("they are in the output, with `exit` 3; a larger --max-output-tokens leaves more room"));
            }
            return None;
        }
    })
}

/// What failed, by kind.
fn failures(tally: &Tally) -> String {
    let failed = tally.classes.iter().filter(|(_, class)| class.failed > 0);
    let list: Vec<String> = failed
        .map(|(kind, class)| format!("{} x {kind} ({})", class.failed, class.example))
        .collect();
    format!("{} prompts failed: {}", tally.failed, list.join("; "))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let detail = format!("`{}`: {error}", escape_os(path));
    Failure::new(Exit::Io, "input/output", detail)
}

/// The files of a batch cannot be used.
fn unusable(error: JournalError) -> Failure {
    let detail = error.to_string();
    match error {
        JournalError::Busy => Failure::new(Exit::Temporary, "busy", detail)
            .hint("wait for it, or name another --output"),
        JournalError::Foreign(_) => Failure::new(Exit::BadInput, "output", detail)
            .hint("name another --output to begin a new batch"),
        JournalError::Io { .. } => Failure::new(Exit::Io, "output", detail),
    }
}
