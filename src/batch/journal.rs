//! What a batch has done so far, on disk: the answers, and beside them a journal from which a killed batch resumes.
//!
//! | file | holds |
//! |---|---|
//! | `OUT` (with `--ordered` `OUT.unordered`) | the answers, one document a line, as they came |
//! | `OUT.journal` | what was sent, answered or failed, one entry a line, oldest first |
//! | `OUT.rescue` | outcomes that workers had when their parent was gone |
//!
//! A prompt is in the journal as sent before a worker gets it. An answer is written and synced before the journal says so;
//! an entry that is missing for that reason is found again at the end of the output. So whatever moment the process is
//! killed at, each prompt is in one of the states of [`State`], and errs to the side of *may have been billed*.
//!
//! One process at a time holds the lock of the journal. Workers hold a shared lock of the rescue file, so that a batch that
//! is resumed waits for those of the killed one that are still at work, and takes their outcomes over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::batch::State;
use crate::batch::index::Table;
use crate::batch::index::hash;
use crate::batch::index::scratch;
use crate::catalog::money::Charge;
use crate::catalog::money::Usd;

/// The document that each line of the output is.
const RESULT: &str = "omk.result/1";

/// Where a batch keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The output that was named.
    pub out: PathBuf,
    /// Where the answers are collected: the output itself, or a file beside it that is put in order at the end.
    pub answers: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The outcomes of workers without a parent.
    pub rescue: PathBuf,
    /// The failed prompts, as the input of another batch.
    pub failed: PathBuf,
}

impl Paths {
    /// The files of a batch with this output.
    pub fn of(out: &Path, ordered: bool) -> Paths {
        let beside = |ending: &str| {
            let mut name = out.as_os_str().to_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        Paths {
            out: out.to_path_buf(),
            answers: match ordered {
                true => beside(".unordered"),
                false => out.to_path_buf(),
            },
            journal: beside(".journal"),
            rescue: beside(".rescue"),
            failed: out.with_extension("failed.jsonl"),
        }
    }

    /// The directory that they are in.
    pub fn directory(&self) -> &Path {
        let parent = self.out.parent();
        parent
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }
}

/// Why the files of a batch cannot be used.
#[derive(Debug)]
pub enum JournalError {
    /// Another process works on the same output.
    Busy,
    /// A file is not what it should be; says which and why.
    Foreign(String),
    /// A file could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Busy => f.write_str("another omk batch is writing to this output"),
            JournalError::Foreign(detail) => f.write_str(detail),
            JournalError::Io { path, error } => write!(f, "`{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for JournalError {}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError + use<'_> {
    move |error| JournalError::Io {
        path: path.to_path_buf(),
        error,
    }
}

/// A line of the journal; the first one names the batch.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    answered: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    failed: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    again: Option<Cow<'a, str>>,
    /// Of a sent prompt what it may cost, of another what it can have cost at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    usd: Option<String>,
    /// The length of the output with this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// It may have been billed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    charged: bool,
}

/// What came of a prompt: the header of a worker's message, whose document follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outcome {
    /// The prompt.
    pub id: String,
    /// There is an answer.
    pub answered: bool,
    /// The exit code that a run of its own would have had.
    pub exit: u8,
    /// The error's kind; empty for an answer.
    pub kind: String,
    /// What the error says, for people.
    pub message: String,
    /// It may have been billed.
    pub charged: bool,
    /// Exactly what it cost, as a decimal; `None` where that is not known.
    pub usd: Option<String>,
    /// What it can have cost at most, as a decimal; `None` where nothing bounds it.
    pub at_most_usd: Option<String>,
    /// Tokens of the prompt, cached ones included, over all attempts, as far as reported.
    pub input_tokens: u64,
    /// Those from the cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Attempts after the first.
    pub retries: u32,
    /// Bytes of the document that follows.
    pub length: usize,
}

/// The files of a batch, open.
#[derive(Debug)]
pub struct Journal {
    paths: Paths,
    /// The name of the batch, which its runs are tagged with.
    batch: String,
    file: File,
    rescue: File,
    answers: File,
    /// Bytes of the output, those not written yet included.
    end: u64,
    /// What is to be written at the next sync.
    new_answers: Vec<u8>,
    new_entries: Vec<u8>,
    /// What is under way, or was when the batch was killed, and may cost.
    outstanding: HashMap<String, Option<Usd>>,
    /// What the others can have cost at most.
    spent: Usd,
    /// Prompts whose cost nothing bounds.
    unbounded: u64,
}

/// What an earlier run of the batch left.
#[derive(Debug)]
pub struct Resumed {
    /// Rows of the hash of an id, its [`State`] and the place of the kind of its failure in `kinds`; the last one counts.
    pub events: Table,
    /// Kinds of failures.
    pub kinds: Vec<String>,
    /// Outcomes that workers had brought home after their parent was killed.
    pub rescued: u64,
    /// How long ago the journal was last written; `None` for a new one.
    pub since: Option<Duration>,
}

impl Resumed {
    fn event(&mut self, id: &str, state: State, kind: &str) -> io::Result<()> {
        let kind = kind_number(&mut self.kinds, kind);
        self.events.push([hash(id), state as u64, kind])
    }
}

/// The place of a kind in a list, where it is added when it is new.
pub fn kind_number(kinds: &mut Vec<String>, kind: &str) -> u64 {
    let place = kinds.iter().position(|known| known == kind);
    let place = place.unwrap_or_else(|| {
        kinds.push(kind.to_string());
        kinds.len() - 1
    });
    u64::try_from(place).unwrap_or(0)
}

impl Journal {
    /// Opens the files of a batch, made where they are missing, and reads what they hold. `name` is the batch's, if it is
    /// new; `input` says what the ids depend on, where they are numbers of lines. `waiting` is called before workers of a
    /// killed batch are waited for.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn open(
        paths: Paths,
        name: &str,
        input: Option<&str>,
        waiting: &mut dyn FnMut(),
    ) -> Result<(Journal, Resumed), JournalError> {
        let file = open(&paths.journal)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Busy),
            Err(TryLockError::Error(error)) => return Err(at(&paths.journal)(error)),
        }
        let written = file.metadata().ok().filter(|found| found.len() > 0);
        let written = written.and_then(|found| found.modified().ok());
        let since = written.map(|written| written.elapsed().unwrap_or_default());
        let rescue = open(&paths.rescue)?;
        if rescue.try_lock().is_err() {
            waiting();
            rescue.lock().map_err(at(&paths.rescue))?;
        }
        let is_apart = paths.answers != paths.out;
        if is_apart && paths.out.exists() && !paths.answers.exists() {
            // The answers of a batch that was finished, or that was not to be in order.
            fs::rename(&paths.out, &paths.answers).map_err(at(&paths.out))?;
        }
        let answers = open(&paths.answers)?;
        let events = scratch(paths.directory()).map_err(at(paths.directory()))?;
        let mut resumed = Resumed {
            events: Table::new(events),
            kinds: vec![String::new()],
            rescued: 0,
            since,
        };
        let mut journal = Journal {
            batch: name.to_string(),
            file,
            rescue,
            answers,
            end: 0,
            new_answers: Vec::new(),
            new_entries: Vec::new(),
            outstanding: HashMap::new(),
            spent: Usd::ZERO,
            unbounded: 0,
            paths,
        };
        journal.read(input, &mut resumed)?;
        journal.read_answers(&mut resumed)?;
        journal.read_rescued(&mut resumed)?;
        journal.sync()?;
        // From here on workers may take theirs.
        let path = &journal.paths.rescue;
        journal.rescue.unlock().map_err(at(path))?;
        let outstanding: Vec<String> = journal.outstanding.keys().cloned().collect();
        for id in outstanding {
            let path = journal.paths.directory();
            resumed.event(&id, State::Sent, "").map_err(at(path))?;
        }
        Ok((journal, resumed))
    }

    /// Reads the journal itself. A last line that was not finished is cut off.
    fn read(&mut self, input: Option<&str>, resumed: &mut Resumed) -> Result<(), JournalError> {
        let path = self.paths.journal.clone();
        let path = path.as_path();
        let scratch = self.paths.directory().to_path_buf();
        let length = trim(&mut self.file).map_err(at(path))?;
        if length == 0 {
            let header = Entry {
                batch: Some(self.batch.clone()),
                input: input.map(str::to_string),
                ..Entry::default()
            };
            self.entry(&header);
            return Ok(());
        }
        let file = self.file.try_clone().map_err(at(path))?;
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(0)).map_err(at(path))?;
        let mut line = String::new();
        let mut number = 0_u64;
        loop {
            line.clear();
            if reader.read_line(&mut line).map_err(at(path))? == 0 {
                break;
            }
            number += 1;
            let entry: Entry<'_> = serde_json::from_str(&line).map_err(|error| {
                JournalError::Foreign(format!(
                    "`{}`, line {number}: not a journal of omk batch: {error}",
                    path.display()
                ))
            })?;
            if number == 1 {
                let batch = entry.batch.ok_or_else(|| {
                    let detail = format!("`{}` is not a journal of omk batch", path.display());
                    JournalError::Foreign(detail)
                })?;
                self.batch = batch;
                if entry.input.as_deref() != input {
                    return Err(JournalError::Foreign(
                        "the input is not the one that this output was begun with, and its prompts are named by their \
                         lines: an answer could get the wrong name"
                            .to_string(),
                    ));
                }
                continue;
            }
            let usd = entry.usd.as_deref().and_then(|usd| Usd::parse(usd).ok());
            let event = match (&entry.sent, &entry.answered, &entry.failed) {
                (Some(id), _, _) => {
                    self.begin(id, usd);
                    None
                }
                (_, Some(id), _) => {
                    self.settle(id, usd);
                    self.end = self.end.max(entry.end.unwrap_or(0));
                    Some((id, State::Answered))
                }
                (_, _, Some(id)) => {
                    self.settle(id, usd);
                    let state = failed_state(entry.charged);
                    Some((id, state))
                }
                _ => None,
            };
            if let Some((id, state)) = event {
                let kind = entry.kind.as_deref().unwrap_or_default();
                resumed.event(id, state, kind).map_err(at(&scratch))?;
            }
        }
        Ok(())
    }

    /// Reads the answers that the journal does not know of yet.
    fn read_answers(&mut self, resumed: &mut Resumed) -> Result<(), JournalError> {
        #[derive(Deserialize)]
        struct Answer {
            schema: String,
            id: String,
            cost: Value,
        }
        let path = self.paths.answers.clone();
        let path = path.as_path();
        let length = trim(&mut self.answers).map_err(at(path))?;
        if length < self.end {
            return Err(JournalError::Foreign(format!(
                "`{}` is shorter than its journal says: answers were taken out of it. Without `{}` those that are \
                 missing are asked again",
                path.display(),
                self.paths.journal.display()
            )));
        }
        let file = self.answers.try_clone().map_err(at(path))?;
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(self.end)).map_err(at(path))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(at(path))?;
            if read == 0 {
                break;
            }
            let answer: Option<Answer> = serde_json::from_slice(&line).ok();
            let Some(answer) = answer.filter(|answer| answer.schema == RESULT) else {
                return Err(JournalError::Foreign(format!(
                    "`{}` holds something else than answers of omk batch",
                    path.display()
                )));
            };
            self.end += u64::try_from(read).unwrap_or(0);
            let usd = match answer.cost.get("at_most_usd") {
                Some(Value::Number(usd)) => Usd::parse(&usd.to_string()).ok(),
                _ => None,
            };
            let end = self.end;
            self.note_answered(&answer.id, usd, end);
            let scratch = self.paths.directory();
            let event = resumed.event(&answer.id, State::Answered, "");
            event.map_err(at(scratch))?;
        }
        Ok(())
    }

    /// Takes over what workers brought home after their parent was killed.
    fn read_rescued(&mut self, resumed: &mut Resumed) -> Result<(), JournalError> {
        let path = self.paths.rescue.clone();
        let path = path.as_path();
        let file = self.rescue.try_clone().map_err(at(path))?;
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(0)).map_err(at(path))?;
        let mut header = Vec::new();
        loop {
            header.clear();
            if reader.read_until(b'\n', &mut header).map_err(at(path))? == 0 {
                break;
            }
            // One that was not finished, as when the disk was full, is none.
            let Ok(outcome) = serde_json::from_slice::<Outcome>(&header) else {
                break;
            };
            let mut document = vec![0; outcome.length.saturating_add(1)];
            if reader.read_exact(&mut document).is_err() {
                break;
            }
            document.pop();
            resumed.rescued += 1;
            let state = match outcome.answered {
                true => State::Answered,
                false => failed_state(outcome.charged),
            };
            self.outcome(&outcome, &document);
            let scratch = self.paths.directory();
            let event = resumed.event(&outcome.id, state, &outcome.kind);
            event.map_err(at(scratch))?;
        }
        self.sync()?;
        self.rescue.set_len(0).map_err(at(path))
    }

    /// The name of the batch.
    pub fn batch(&self) -> &str {
        &self.batch
    }

    /// The files.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What the batch can have cost at most so far, in all its runs; what is under way at its worst case.
    pub fn spent(&self) -> Usd {
        let open = self.outstanding.values().flatten();
        open.fold(self.spent, |sum, usd| sum + *usd)
    }

    /// How many prompts can have cost more than is known.
    pub fn unbounded(&self) -> u64 {
        let open = self.outstanding.values().filter(|usd| usd.is_none());
        let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
        self.unbounded.saturating_add(open)
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        // A struct of texts and numbers: there is nothing that could fail.
        if let Ok(mut line) = serde_json::to_vec(entry) {
            line.push(b'\n');
            self.new_entries.append(&mut line);
        }
    }

    fn begin(&mut self, id: &str, usd: Option<Usd>) {
        if let Some(earlier) = self.outstanding.insert(id.to_string(), usd) {
            // That one was never heard of again.
            self.add(earlier);
        }
    }

    fn settle(&mut self, id: &str, usd: Option<Usd>) {
        let bound = self.outstanding.remove(id).flatten();
        self.add(usd.or(bound));
    }

    fn add(&mut self, usd: Option<Usd>) {
        match usd {
            Some(usd) => self.spent = self.spent + usd,
            None => self.unbounded += 1,
        }
    }

    /// A prompt is about to be given to a worker; `usd` is the most that it can cost.
    pub fn sent(&mut self, id: &str, usd: Option<Usd>) {
        self.begin(id, usd);
        self.entry(&Entry {
            sent: Some(id.into()),
            usd: usd.map(Usd::exact_decimal),
            ..Entry::default()
        });
    }

    /// Another attempt of a prompt is made: when that was matters for the pace of a batch that is resumed.
    pub fn went(&mut self, id: &str) {
        self.entry(&Entry {
            again: Some(id.into()),
            ..Entry::default()
        });
    }

    /// A worker has brought this home, with the document of the result.
    pub fn outcome(&mut self, outcome: &Outcome, document: &[u8]) {
        let at_most = outcome.at_most_usd.as_deref();
        let usd = at_most.and_then(|usd| Usd::parse(usd).ok());
        if outcome.answered {
            self.new_answers.extend_from_slice(document);
            self.new_answers.push(b'\n');
            let length = u64::try_from(document.len()).unwrap_or(0);
            self.end = self.end.saturating_add(length).saturating_add(1);
            self.note_answered(&outcome.id, usd, self.end);
            return;
        }
        self.settle(&outcome.id, usd);
        self.entry(&Entry {
            failed: Some(outcome.id.as_str().into()),
            usd: usd.map(Usd::exact_decimal),
            kind: Some(outcome.kind.clone()),
            charged: outcome.charged,
            ..Entry::default()
        });
    }

    fn note_answered(&mut self, id: &str, usd: Option<Usd>, end: u64) {
        self.settle(id, usd);
        self.entry(&Entry {
            answered: Some(id.into()),
            usd: usd.map(Usd::exact_decimal),
            end: Some(end),
            ..Entry::default()
        });
    }

    /// Writes what is new, and waits until it is on disk: the answers before the journal says that they are there.
    ///
    /// # Errors
    ///
    /// A file cannot be written; then nothing more may be sent.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if !self.new_answers.is_empty() {
            let path = self.paths.answers.as_path();
            append(&mut self.answers, &mut self.new_answers).map_err(at(path))?;
        }
        if !self.new_entries.is_empty() {
            let path = self.paths.journal.as_path();
            append(&mut self.file, &mut self.new_entries).map_err(at(path))?;
        }
        Ok(())
    }

    /// Writes the answers to the output in the order of the input, which is that of `index`.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn put_in_order(&mut self, index: &mut Table) -> Result<(), JournalError> {
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        if self.paths.answers == self.paths.out {
            return Ok(());
        }
        let directory = self.paths.directory();
        let answers = self.paths.answers.as_path();
        let mut places = Table::new(scratch(directory).map_err(at(directory))?);
        let mut found = Table::new(scratch(directory).map_err(at(directory))?);
        let mut reader = BufReader::new(self.answers.try_clone().map_err(at(answers))?);
        reader.seek(SeekFrom::Start(0)).map_err(at(answers))?;
        let (mut line, mut offset) = (Vec::new(), 0_u64);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(at(answers))?;
            if read == 0 {
                break;
            }
            let length = u64::try_from(read).unwrap_or(0);
            if let Ok(named) = serde_json::from_slice::<Named>(&line) {
                let row = [hash(&named.id), offset, length];
                found.push(row).map_err(at(directory))?;
            }
            offset += length;
        }
        index
            .join(&mut found, &mut |place, [_, offset, length]| {
                places.set(place, [offset, length, 0])
            })
            .map_err(at(directory))?;
        let mut name = self.paths.out.as_os_str().to_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let file = File::create(&new).map_err(at(&new))?;
        let mut writer = BufWriter::new(file);
        let mut source = self.answers.try_clone().map_err(at(answers))?;
        places
            .scan(&mut |_, [offset, length, _]| {
                source.seek(SeekFrom::Start(offset))?;
                io::copy(&mut (&source).take(length), &mut writer).map(drop)
            })
            .map_err(at(&new))?;
        let file = writer
            .into_inner()
            .map_err(|error| at(&new)(error.into_error()))?;
        file.sync_all().map_err(at(&new))?;
        fs::rename(&new, &self.paths.out).map_err(at(&self.paths.out))
    }

    /// Every prompt is answered: removes what only an unfinished batch needs.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn finish(self) -> Result<(), JournalError> {
        let mut files = vec![&self.paths.rescue, &self.paths.failed, &self.paths.journal];
        if self.paths.answers != self.paths.out {
            files.push(&self.paths.answers);
        }
        for path in files {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn failed_state(charged: bool) -> State {
    match charged {
        true => State::Charged,
        false => State::Failed,
    }
}

/// The files of a worker of a batch: where it leaves an outcome when the parent is gone.
#[derive(Debug)]
pub struct Rescue {
    path: PathBuf,
    file: File,
}

impl Rescue {
    /// Opens the rescue file, and holds it so that a batch that is resumed waits for this process.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn hold(paths: &Paths) -> Result<Rescue, JournalError> {
        let path = paths.rescue.clone();
        let file = open(&path)?;
        file.lock_shared().map_err(at(&path))?;
        Ok(Rescue { path, file })
    }

    /// Writes an outcome with its document, as [`frame`] makes them, in one piece.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn leave(&mut self, frame: &[u8]) -> Result<(), JournalError> {
        let written = self.file.write_all(frame);
        let synced = written.and_then(|()| self.file.sync_data());
        synced.map_err(at(&self.path))
    }
}

/// An outcome and its document as they go to the parent: a line of JSON, the document, a line end.
pub fn frame(mut outcome: Outcome, document: &[u8]) -> Vec<u8> {
    outcome.length = document.len();
    let mut frame = serde_json::to_vec(&outcome).unwrap_or_default();
    frame.push(b'\n');
    frame.extend_from_slice(document);
    frame.push(b'\n');
    frame
}

/// The charge of an error as a batch sees it: what is not known may have been billed.
pub fn may_be_billed(charge: Charge) -> bool {
    charge != Charge::No
}

/// Opens a file to read it and add to it; it is made when it is missing, for this user alone.
fn open(path: &Path) -> Result<File, JournalError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map_err(at(path))
}

fn append(file: &mut File, bytes: &mut Vec<u8>) -> io::Result<()> {
    file.write_all(bytes)?;
    bytes.clear();
    file.sync_data()
}

/// Cuts off a last line that was not finished. Returns the length.
fn trim(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let length = file.metadata()?.len();
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(from))?;
        let mut piece = Vec::new();
        Read::by_ref(file)
            .take(end - from)
            .read_to_end(&mut piece)?;
        if let Some(place) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = from + u64::try_from(place).unwrap_or(0) + 1;
            break;
        }
        end = from;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    struct World {
        directory: PathBuf,
    }

    impl World {
        fn new(name: &str) -> World {
            let name = format!("omk-journal-{}-{name}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
            World { directory }
        }

        fn paths(&self) -> Paths {
            Paths::of(&self.directory.join("out.jsonl"), false)
        }

        fn open(&self) -> Result<(Journal, Resumed), JournalError> {
            Journal::open(self.paths(), "b1", None, &mut || {})
        }

        /// The states of these ids, by what is on disk.
        fn states(&self, ids: &[&str]) -> (Journal, Vec<State>) {
            let (journal, mut resumed) = self.open().unwrap();
            let mut index = Table::new(scratch(&self.directory).unwrap());
            for id in ids {
                index.push([hash(id), 0, 0]).unwrap();
            }
            let mut states = vec![State::Pending; ids.len()];
            let all = [
                State::Pending,
                State::Sent,
                State::Answered,
                State::Failed,
                State::Charged,
            ];
            index
                .join(&mut resumed.events, &mut |place, [_, state, _]| {
                    states[usize::try_from(place).unwrap()] = all[usize::try_from(state).unwrap()];
                    Ok(())
                })
                .unwrap();
            (journal, states)
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    fn document(id: &str) -> Vec<u8> {
        format!("{{\"schema\":\"omk.result/1\",\"id\":\"{id}\",\"cost\":{{\"at_most_usd\":0.5}}}}")
            .into_bytes()
    }

    fn answered(id: &str) -> Outcome {
        Outcome {
            id: id.to_string(),
            answered: true,
            at_most_usd: Some("0.5".to_string()),
            ..Outcome::default()
        }
    }

    fn failed(id: &str, charged: bool) -> Outcome {
        Outcome {
            id: id.to_string(),
            kind: "server".to_string(),
            charged,
            at_most_usd: Some(if charged { "1" } else { "0" }.to_string()),
            ..Outcome::default()
        }
    }

    const TWO: Option<Usd> = Some(Usd::from_usd(2));

    #[test]
    fn each_prompt_is_found_in_its_state_again() {
        let world = World::new("states");
        {
            let (mut journal, _) = world.open().unwrap();
            for id in ["a", "b", "c", "d"] {
                journal.sent(id, TWO);
            }
            journal.outcome(&answered("a"), &document("a"));
            journal.outcome(&failed("b", false), b"");
            journal.outcome(&failed("c", true), b"");
            assert_eq!(journal.spent().exact_decimal(), "3.5");
            journal.sync().unwrap();
        }
        let (journal, states) = world.states(&["a", "b", "c", "d", "e"]);
        let expected = [
            State::Answered,
            State::Failed,
            State::Charged,
            State::Sent,
            State::Pending,
        ];
        assert_eq!(states, expected);
        assert_eq!(journal.spent().exact_decimal(), "3.5");
    }

    #[test]
    fn two_processes_do_not_write_to_one_output() {
        let world = World::new("lock");
        let first = world.open().unwrap();
        assert!(matches!(world.open(), Err(JournalError::Busy)));
        drop(first);
        world.open().unwrap();
    }

    #[test]
    fn an_answer_that_the_journal_does_not_know_is_found_in_the_output() {
        let world = World::new("tail");
        {
            let (mut journal, _) = world.open().unwrap();
            journal.sent("a", TWO);
            journal.sync().unwrap();
        }
        // Killed between the two files, and in the middle of a line.
        let mut out = document("a");
        out.extend_from_slice(b"\n{\"schema\":\"omk");
        fs::write(world.paths().out, &out).unwrap();
        let (journal, states) = world.states(&["a"]);
        assert_eq!(states, [State::Answered]);
        assert_eq!(journal.spent().exact_decimal(), "0.5");
        let text = fs::read(world.paths().out).unwrap();
        assert!(text.ends_with(b"}\n"));
    }

    #[test]
    fn what_a_worker_left_is_taken_over_once() {
        let world = World::new("rescue");
        {
            let (mut journal, _) = world.open().unwrap();
            journal.sent("a", TWO);
            journal.sent("b", TWO);
            journal.sync().unwrap();
        }
        {
            let mut rescue = Rescue::hold(&world.paths()).unwrap();
            rescue.leave(&frame(answered("a"), &document("a"))).unwrap();
            rescue.leave(&frame(failed("b", false), b"{}")).unwrap();
            rescue.leave(b"{\"id\":\"x\",\"answ").unwrap();
        }
        for _ in 0..2 {
            let (journal, states) = world.states(&["a", "b"]);
            assert_eq!(states, [State::Answered, State::Failed]);
            assert_eq!(journal.spent().exact_decimal(), "0.5");
        }
        let lines = fs::read_to_string(world.paths().out).unwrap();
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn other_files_are_refused_and_left_alone() {
        let world = World::new("foreign");
        fs::write(world.paths().out, "my notes\n").unwrap();
        let error = world.open().unwrap_err().to_string();
        assert!(error.contains("something else than answers"), "{error}");
        assert_eq!(fs::read(world.paths().out).unwrap(), b"my notes\n");
        let world = World::new("input");
        drop(Journal::open(world.paths(), "b", Some("x"), &mut || {}).unwrap());
        let error = Journal::open(world.paths(), "b", Some("y"), &mut || {}).unwrap_err();
        assert!(
            error.to_string().contains("named by their lines"),
            "{error}"
        );
        let world = World::new("short");
        {
            let (mut journal, _) = world.open().unwrap();
            journal.sent("a", TWO);
            journal.outcome(&answered("a"), &document("a"));
            journal.sync().unwrap();
        }
        fs::write(world.paths().out, "").unwrap();
        let error = world.open().unwrap_err().to_string();
        assert!(error.contains("shorter than its journal"), "{error}");
    }

    #[test]
    fn answers_are_put_in_the_order_of_the_input() {
        let world = World::new("order");
        let paths = Paths::of(&world.directory.join("out.jsonl"), true);
        let (mut journal, _) = Journal::open(paths.clone(), "b", None, &mut || {}).unwrap();
        let mut index = Table::new(scratch(&world.directory).unwrap());
        for id in ["a", "b", "c", "d"] {
            index.push([hash(id), 0, 0]).unwrap();
        }
        for id in ["d", "a", "c"] {
            journal.sent(id, TWO);
            journal.outcome(&answered(id), &document(id));
        }
        journal.sync().unwrap();
        journal.put_in_order(&mut index).unwrap();
        let text = fs::read(&paths.out).unwrap();
        let expected: Vec<u8> = ["a", "c", "d"]
            .iter()
            .flat_map(|id| [document(id), b"\n".to_vec()].concat())
            .collect();
        assert_eq!(text, expected);
        journal.finish().unwrap();
        assert_eq!(fs::read_dir(&world.directory).unwrap().count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Both files are cut at any byte, as a crash of the machine may do: no answer that is whole in the output is
        /// forgotten, and nothing that was sent counts as never sent, as long as the journal has its line.
        #[test]
        fn a_cut_at_any_byte_forgets_nothing(steps in prop::collection::vec((0_u8..6, 0_u8..4), 1..20), cut in 0.0..1.0_f64) {
            let world = World::new("cut");
            let name = |id: u8| format!("id{id}");
            {
                let (mut journal, _) = world.open().unwrap();
                for (id, step) in &steps {
                    let id = name(*id);
                    match step {
                        0 | 1 => journal.sent(&id, TWO),
                        2 => journal.outcome(&failed(&id, true), b""),
                        _ => journal.outcome(&answered(&id), &document(&id)),
                    }
                    journal.sync().unwrap();
                }
            }
            let paths = world.paths();
            let journal = fs::read(&paths.journal).unwrap();
            let first = journal.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let length = first + ((journal.len() - first) as f64 * cut) as usize;
            fs::write(&paths.journal, &journal[..length]).unwrap();
            let kept = String::from_utf8(journal[..length].to_vec()).unwrap();
            let out = fs::read_to_string(&paths.out).unwrap();
            let ids: Vec<String> = (0..6).map(name).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let (_, states) = world.states(&ids);
            for (id, state) in ids.iter().zip(states) {
                let is_answered = out.contains(&format!("\"{id}\""));
                let last = kept.rfind('\n').map_or("", |end| &kept[..end]);
                let is_known = last.lines().any(|line| line.contains(&format!("\"{id}\"")));
                if is_known {
                    prop_assert!(state != State::Pending, "{id} is {state:?}");
                }
                if is_answered && last.lines().rfind(|line| line.contains(&format!("\"{id}\""))).is_none_or(|line| line.contains("answered")) {
                    prop_assert_eq!(state, State::Answered);
                }
            }
        }
    }
}
