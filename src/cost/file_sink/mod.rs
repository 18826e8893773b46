//! The ledger on disk: records as files, written whole, folded into monthly segments.
//!
//! # Layout
//!
//! ```text
//! loose/ID.json                  one record, as its run writes it: open, updated, settled
//! folding/ID.json                a record that the fold has taken and nobody else writes any more
//! segments/2026-11.00000007.jsonl  up to some ten thousand records of runs that are over and began in that month
//! segments/2026-11.00000007.sums   those records added up; can be deleted at any time
//! damaged/                       what `omk cost repair` put aside
//! lock                           held while one process folds, clears or repairs
//! ```
//!
//! Every file but the lock, which is empty, consists of lines with a format, a version and a checksum, see [`line`], and was
//! written by [`crate::runtime::atomic`]. Files have mode 0600, directories mode 0700.
//!
//! # Design
//!
//! *Appending costs the same with ten records and with a million*: it writes one small file and looks at nothing else. Many
//! small files are slow to read, so [`JsonFileCostSink::fold`], called when a run's answer is out, moves the records that
//! are over into segments once there are [`FOLD_AT`] of them. To find out whether it is time it reads at most that many
//! names. A segment is merged with smaller ones of its month as in a binary counter, so a record is copied about six times
//! in its life.
//!
//! *Records are read by serde_json, and sums are kept*: a report by day, model, peer or a label with few values adds up one
//! small file for each segment. It reads the records themselves where that file is missing, of another version or does not
//! know the label that the report is about.
//!
//! *Many records at once go straight into segments*, see [`JsonFileCostSink::save_all`]: an import brings thousands, and
//! syncing a file for each would take a minute.
//!
//! *A run waits for nobody.* Its own file is written by the run alone, and a rename replaces it. Readers take no lock. The
//! fold takes one and gives up if another process has it; the system releases it when its owner ends, however that is.
//!
//! *A record only moves forward*: `loose`, `folding`, a segment. Each step keeps the record at its old place until it is,
//! synced, at the new one, or is a rename. A reader looks in the same order, so whatever moves away under it is found
//! further on. A crash between any two steps leaves a record in two places, and then the higher revision counts, the
//! segment's if they are equal. The next fold finishes what was begun.
//!
//! *No list says which segments count*: the rename that puts a segment in place is the step that makes it count, and its
//! first line names the segments that it replaces, which count no longer. They are deleted at once, or by the next process
//! that takes the lock. A reader opens all segments and lists them once more; if the names have changed, it starts again.
//!
//! *An update during a fold is not lost*: the fold takes the file away by rename before it reads what it will keep, so a
//! later version is a new file in `loose`, whose revision is higher than the folded one.
//!
//! *What was cleared stays away*: segments first, loose files after them, so that no older version can come to light.
//!
//! # Damage
//!
//! What is torn or changed is never summed, moved or deleted. A reader reports it as [`Damage`], with the bound that can
//! still be read, and a budget that it may concern refuses; `repair` puts it aside. A file of a later version is an error
//! that names it: a sum without it would be wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cost::file_sink::line::Flaw;
use crate::cost::file_sink::line::Record;
use crate::cost::file_sink::segment::Stored;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::Damage;
use crate::cost::sink::Notes;
use crate::cost::sink::Removed;
use crate::cost::sink::Runs;
use crate::cost::sink::SinkError;
use crate::cost::sink::Whole;
use crate::cost::sums::Labels;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::cost::view::readable_bound;
use crate::cost::view::with_view;
use crate::runtime::atomic;
use crate::runtime::atomic::AtomicWriteError;
use crate::runtime::atomic::Disk;
use crate::runtime::atomic::FileSystem;
use crate::runtime::clock;

mod fold;
mod line;
mod packs;
mod readings;
mod recent;
mod repair;
mod segment;
#[cfg(test)]
mod tests;

pub use fold::Fold;
pub use fold::Folded;
pub use repair::PutAside;
pub use repair::Verified;

/// The version of every file of the ledger that this program writes.
pub const VERSION: u32 = 2;
/// So many loose records are folded.
pub const FOLD_AT: usize = 512;
/// No segment grows beyond so many records.
pub const MAX_SEGMENT: usize = 16_384;

/// The longest id, so that every file system takes it as a name.
const MAX_ID: usize = 128;
/// The largest file of one record.
const MAX_RECORD: u64 = 4 * 1024 * 1024;
/// The largest file of many records.
const MAX_FILE: u64 = 40 * 1024 * 1024;
const DAY: Duration = Duration::from_secs(86_400);
/// So many records with one prefix are many.
const MANY: usize = 16;

/// A ledger in a directory.
#[derive(Clone, Debug)]
pub struct JsonFileCostSink<F: FileSystem = Disk> {
    root: PathBuf,
    fs: F,
}

/// What was found for the beginning of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    None,
    /// The record.
    One(Box<SessionCost>),
    /// More than one; the ids, ascending, or the first few of them.
    Many(Vec<String>),
}

/// One version of a record, with the line that holds it.
#[derive(Clone, Debug)]
struct Version {
    revision: u64,
    record: SessionCost,
    line: Vec<u8>,
}

impl Version {
    /// Reads a record's line.
    fn read(bytes: Vec<u8>) -> Result<Version, FileError> {
        let read = |record: &Record<'_>| -> Result<SessionCost, FileError> {
            serde_json::from_str(record.json).map_err(|e| FileError::Damaged(e.to_string()))
        };
        let (revision, record, line) = match line::open_record(&bytes) {
            Ok(record) => (record.revision, read(&record)?, bytes),
            Err(Flaw::Old) => {
                let loose: packs::Loose<'_> = serde_json::from_slice(&bytes)
                    .map_err(|e| FileError::Damaged(e.to_string()))?;
                let json = loose.record.get();
                let line = line::seal_record(loose.revision, json).into_bytes();
                let revision = loose.revision;
                (revision, read(&Record { revision, json })?, line)
            }
            Err(Flaw::Newer(version)) => return Err(FileError::Newer(version)),
            Err(Flaw::Damaged(why)) => return Err(FileError::Damaged(why.to_string())),
        };
        if clock::parse_rfc3339(&record.started_at).is_err() {
            let why = "it does not say when the run began".to_string();
            return Err(FileError::Damaged(why));
        }
        Ok(Version {
            revision,
            record,
            line,
        })
    }

    fn is_over(&self) -> bool {
        self.record.status != SessionStatus::Open
    }

    /// When it began; that it says so was checked when it was read.
    fn started(&self) -> SystemTime {
        clock::parse_rfc3339(&self.record.started_at).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What tells where a record belongs, read without the rest of it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Why a record's own file was not read.
enum FileError {
    Gone,
    Newer(u32),
    /// It is whole, and not what should be there.
    Foreign(String),
    Damaged(String),
    Io(io::Error),
}

impl JsonFileCostSink {
    /// The ledger of this directory, which need not be there yet. Nothing is read or written.
    pub fn new(root: impl Into<PathBuf>) -> JsonFileCostSink {
        JsonFileCostSink::on(Disk, root)
    }
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// The ledger of this directory of some file system.
    pub fn on(fs: F, root: impl Into<PathBuf>) -> JsonFileCostSink<F> {
        JsonFileCostSink {
            root: root.into(),
            fs,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether there is a record of this id.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn contains(&self, id: &str) -> Result<bool, SinkError> {
        Ok(is_id(id) && self.revision(id)?.is_some())
    }

    /// The record of this id, or the only one whose id begins so.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn find(&self, prefix: &str) -> Result<Found, SinkError> {
        let mut notes = Notes::default();
        let mut versions = self.unfolded(&mut notes, |id| id.starts_with(prefix))?;
        for mut stored in self.stored(&mut notes, Period::default())? {
            if !stored.may_hold_prefix(prefix) {
                continue;
            }
            let mut found = 0;
            let flow = self.records(&mut stored, &mut notes, &mut |record, line| {
                let id = head(record)?.id;
                let known = versions.get(&*id).map(|version| version.revision);
                if id.starts_with(prefix) && known.is_none_or(|known| known <= record.revision) {
                    let version = Version::read(line.to_vec()).map_err(|_| UNREADABLE)?;
                    versions.insert(id.into_owned(), version);
                    found += 1;
                }
                Ok(match found {
                    // Enough to say that they are many; but the very id may be among them, and it is the first.
                    MANY.. => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                })
            })?;
            if flow.is_break() {
                break;
            }
        }
        if let Some(version) = versions.remove(prefix) {
            return Ok(Found::One(Box::new(version.record)));
        }
        Ok(match versions.len() {
            // It may be in what cannot be read.
            0 if !notes.damage.is_empty() => {
                return Err(SinkError::new(notes.lines().join("; ")));
            }
            0 => Found::None,
            1 => versions
                .into_values()
                .next()
                .map_or(Found::None, |version| Found::One(Box::new(version.record))),
            _ => Found::Many(versions.into_keys().collect()),
        })
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&self, directory: &str, id: &str) -> PathBuf {
        self.root.join(directory).join(format!("{id}.json"))
    }

    /// A record's JSON, if it can be kept.
    fn json(&self, record: &SessionCost) -> Result<Box<RawValue>, SinkError> {
        let refused = |error: &dyn fmt::Display| {
            SinkError::new(format!("the record {} was not kept: {error}", record.id))
        };
        if !is_id(&record.id) {
            return Err(refused(&"its id cannot be the name of a file"));
        }
        if clock::parse_rfc3339(&record.started_at).is_err() {
            return Err(refused(&"it does not say when it began"));
        }
        let json = serde_json::value::to_raw_value(record).map_err(|e| refused(&e))?;
        // An amount beyond all reason, say: what could not be read again would be lost.
        match serde_json::from_str::<SessionCost>(json.get()) {
            Ok(read) if read == *record => Ok(json),
            Ok(_) => Err(refused(&"it would not read back as it is")),
            Err(e) => Err(refused(&e)),
        }
    }

    /// A version of a record, if it can be kept.
    fn version(&self, revision: u64, record: &SessionCost) -> Result<Version, SinkError> {
        let json = self.json(record)?;
        Ok(Version {
            revision,
            line: line::seal_record(revision, json.get()).into_bytes(),
            record: record.clone(),
        })
    }

    /// Writes a version into `loose`, making the directory first where it is missing.
    fn write(&self, record: &SessionCost, revision: u64) -> Result<(), SinkError> {
        let line = line::seal_record(revision, self.json(record)?.get());
        self.put(&self.file("loose", &record.id), "loose", line.as_bytes())
    }

    /// Writes a file of one of the ledger's directories.
    fn put(&self, path: &Path, directory: &str, bytes: &[u8]) -> Result<(), SinkError> {
        let written = match atomic::atomic_write_on(&self.fs, path, bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create(directory)?;
                atomic::atomic_write_on(&self.fs, path, bytes)
            }
            written => written,
        };
        written.map_err(|e| self.write_error(&e))
    }

    /// Creates a directory of the ledger, so that a power cut does not take it away again.
    fn create(&self, name: &str) -> Result<(), SinkError> {
        let path = self.directory(name);
        atomic::create_directory_on(&self.fs, &path).map_err(|e| self.io_error("create", &path, &e))
    }

    /// One record's file.
    fn read_version(&self, directory: &str, id: &str) -> Result<Version, FileError> {
        let bytes = match self.fs.read(&self.file(directory, id), MAX_RECORD) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                return Err(FileError::Damaged(e.to_string()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(FileError::Gone),
            Err(e) => return Err(FileError::Io(e)),
        };
        let version = Version::read(bytes)?;
        if version.record.id != id {
            let why = format!("it holds the record {}", version.record.id);
            return Err(FileError::Foreign(why));
        }
        Ok(version)
    }

    /// The same, with what cannot be used as a note.
    fn read_or_note(
        &self,
        directory: &str,
        id: &str,
        notes: &mut Notes,
    ) -> Result<Option<Version>, SinkError> {
        let path = self.file(directory, id);
        match self.read_version(directory, id) {
            Ok(version) => return Ok(Some(version)),
            Err(FileError::Gone) => {}
            Err(FileError::Newer(version)) => return Err(newer(&path, version)),
            Err(FileError::Foreign(why)) => {
                let warning = format!("{} is left aside: {why}", path.display());
                notes.warnings.push(warning);
            }
            Err(FileError::Damaged(what)) => {
                let bytes = self.fs.read(&path, MAX_RECORD).unwrap_or_default();
                notes.damage.push(Damage {
                    what,
                    runs: 1,
                    bound: readable_bound(&bytes),
                    began: began(id),
                    path,
                });
            }
            Err(FileError::Io(e)) => return Err(self.io_error("read", &path, &e)),
        }
        Ok(None)
    }

    /// The names of a directory's files that have this ending; others are warned of.
    fn names(
        &self,
        directory: &str,
        ending: &str,
        notes: &mut Notes,
    ) -> Result<BTreeSet<String>, SinkError> {
        let path = self.directory(directory);
        let names = match self.fs.names(&path, usize::MAX) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(e) => return Err(self.io_error("read", &path, &e)),
        };
        let mut found = BTreeSet::new();
        for name in names {
            let name = name.to_string_lossy();
            match name.strip_suffix(ending) {
                Some(stem) if is_id(stem) => {
                    found.insert(stem.to_string());
                }
                _ if atomic::is_temporary(&name) || name.ends_with(segment::SUMS) => {}
                _ => {
                    let path = path.join(&*name);
                    let warning =
                        format!("{} is left aside: it is not of the ledger", path.display());
                    notes.warnings.push(warning);
                }
            }
        }
        Ok(found)
    }

    /// The newest versions outside segments.
    fn unfolded(
        &self,
        notes: &mut Notes,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Version>, SinkError> {
        let mut versions: BTreeMap<String, Version> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        loop {
            // A directory that changes may be listed without a name that a rename replaced at that moment; so it is listed
            // until nothing new turns up. Only the last listing's notes are kept: they are the same each time.
            let mut odd = Notes::default();
            let mut ids = self.names("loose", ".json", &mut odd)?;
            ids.append(&mut self.names("folding", ".json", &mut odd)?);
            ids.retain(|id| wanted(id) && !seen.contains(id));
            if ids.is_empty() {
                notes.warnings.append(&mut odd.warnings);
                return Ok(versions);
            }
            for id in ids {
                for directory in ["loose", "folding"] {
                    if let Some(version) = self.read_or_note(directory, &id, notes)? {
                        let known = versions.get(&id);
                        if known.is_none_or(|known| known.revision < version.revision) {
                            versions.insert(id.clone(), version);
                        }
                    }
                }
                seen.insert(id);
            }
        }
    }

    /// The latest revision of a record.
    fn revision(&self, id: &str) -> Result<Option<u64>, SinkError> {
        let mut notes = Notes::default();
        for directory in ["loose", "folding"] {
            if let Some(version) = self.read_or_note(directory, id, &mut notes)? {
                return Ok(Some(version.revision));
            }
            // Whatever the file is, writing over it would destroy it.
            if let Some(note) = notes.lines().first() {
                return Err(SinkError::new(note.clone()).hint(
                    "`omk cost repair` puts damaged records aside; a file that is not of the ledger must be moved by hand",
                ));
            }
        }
        let mut revision = None;
        for mut stored in self.stored(&mut notes, Period::default())? {
            if stored.may_hold(id) {
                let _ = self.records(&mut stored, &mut notes, &mut |record, _| {
                    if head(record)?.id != id {
                        return Ok(ControlFlow::Continue(()));
                    }
                    revision = Some(record.revision);
                    Ok(ControlFlow::Break(()))
                })?;
            }
        }
        match revision {
            // It may be in what cannot be read.
            None => notes.require_whole(began(id)).map(|()| None),
            found => Ok(found),
        }
    }

    fn write_error(&self, error: &AtomicWriteError) -> SinkError {
        self.hinted(SinkError::new(error.to_string()), error.kind())
    }

    fn io_error(&self, step: &str, path: &Path, error: &io::Error) -> SinkError {
        let error_text = format!("{step} {}: {error}", path.display());
        self.hinted(SinkError::new(error_text), error.kind())
    }

    fn hinted(&self, error: SinkError, kind: io::ErrorKind) -> SinkError {
        let root = self.root.display();
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                error.hint(format!("make room on the disk that holds {root}"))
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => error.hint(
                format!("make {root} writable, or set OMK_LEDGER to a directory that is"),
            ),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => error.hint(format!(
                "a file stands where {root} needs a directory; move it, or set OMK_LEDGER to another directory"
            )),
            _ => error,
        }
    }
}

impl<F: FileSystem> CostSink for JsonFileCostSink<F> {
    fn remove(&mut self, before: SystemTime) -> Result<Removed, SinkError> {
        JsonFileCostSink::remove(self, before)
    }

    /// Looks for the id among loose records only: an id with time and chance in it is new, and a search of the segments
    /// would cost more the more there are. Who makes ids in another way asks [`JsonFileCostSink::contains`] first.
    fn append(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        // An id that is no name leads nowhere; `write` refuses it.
        let known = is_id(&record.id).then(|| self.read_version("loose", &record.id));
        match known {
            None | Some(Err(FileError::Gone)) => self.write(record, 1),
            Some(Err(FileError::Io(e))) => {
                Err(self.io_error("read", &self.file("loose", &record.id), &e))
            }
            Some(_) => Err(SinkError::new(format!("the id {} is taken", record.id))),
        }
    }

    fn save(&mut self, record: &SessionCost) -> Result<(), SinkError> {
        let revision = if is_id(&record.id) {
            self.revision(&record.id)?
        } else {
            None
        };
        match revision {
            Some(revision) => self.write(record, revision.saturating_add(1)),
            None => Err(SinkError::new(format!("there is no record {}", record.id))),
        }
    }

    fn load(
        &self,
        visit: &mut dyn FnMut(&SessionCost) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.scan_records(Period::default(), &mut |_, whole| match whole() {
            Some(record) => visit(&record),
            None => ControlFlow::Continue(()),
        })
    }

    fn scan(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        self.scan_records(period, &mut |view, _| visit(view))
    }

    fn scan_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Notes, SinkError> {
        let mut notes = Notes::default();
        let mut versions = self.unfolded(&mut notes, |_| true)?;
        for mut stored in self.stored(&mut notes, period)? {
            let flow = self.scan_stored(&mut stored, period, &mut versions, &mut notes, visit)?;
            if flow.is_break() {
                return Ok(notes);
            }
        }
        for version in versions.values() {
            if show(&version.record, period, visit).is_break() {
                break;
            }
        }
        Ok(notes)
    }

    fn sums(
        &self,
        period: Period,
        labels: &Labels,
        visit: &mut dyn FnMut(&Runs<'_>),
    ) -> Result<Notes, SinkError> {
        let mut notes = Notes::default();
        let mut versions = self.unfolded(&mut notes, |_| true)?;
        for mut stored in self.stored(&mut notes, period)? {
            if period.is_of_days()
                && stored.has_its_length()
                && let Some(grouped) = self.kept_sums(&stored)
                && grouped.answers(labels)
                && !self.holds_any(&mut stored, &versions)?
            {
                for (group, sums) in &grouped.groups {
                    if period.contains_day(group.day) {
                        visit(&Runs::Many(group, sums));
                    }
                }
                continue;
            }
            let mut one = |view: &RecordView<'_>, _: Whole<'_>| {
                visit(&Runs::One(view));
                ControlFlow::Continue(())
            };
            let _ = self.scan_stored(&mut stored, period, &mut versions, &mut notes, &mut one)?;
        }
        for version in versions.values() {
            let _ = show(&version.record, period, &mut |view, _| {
                visit(&Runs::One(view));
                ControlFlow::Continue(())
            });
        }
        Ok(notes)
    }
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Shows the records of a segment that began in the period and of which there is no later version. An earlier version
    /// elsewhere is forgotten.
    fn scan_stored(
        &self,
        stored: &mut Stored,
        period: Period,
        versions: &mut BTreeMap<String, Version>,
        notes: &mut Notes,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SinkError> {
        self.records(stored, notes, &mut |record, _| {
            let revision = record.revision;
            let record: SessionCost = serde_json::from_str(record.json).map_err(|_| UNREADABLE)?;
            match versions.get(&record.id) {
                Some(later) if later.revision > revision => return Ok(ControlFlow::Continue(())),
                Some(_) => drop(versions.remove(&record.id)),
                None => {}
            }
            Ok(show(&record, period, visit))
        })
    }
}

/// Shows a record if it began in the period.
fn show(
    record: &SessionCost,
    period: Period,
    visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let shown = with_view(record, |view| match period.contains(view.started_micros) {
        true => visit(view, &mut || Some(record.clone())),
        false => ControlFlow::Continue(()),
    });
    shown.unwrap_or(ControlFlow::Continue(()))
}

/// A line whose checksum is right and that holds no record all the same.
const UNREADABLE: &str = "it holds no record";

/// The id of a record.
fn head<'a>(record: &Record<'a>) -> Result<Head<'a>, &'static str> {
    serde_json::from_str(record.json).map_err(|_| UNREADABLE)
}

/// When a run of this id can have begun: ids begin with the day, `20261120T104759`. A day more on either side, because the
/// id is made a moment before or after the run's beginning is noted. All of time for any other id.
fn began(id: &str) -> Period {
    let moment = || {
        let part = |range| {
            id.get(range)
                .filter(|part: &&str| part.bytes().all(|b| b.is_ascii_digit()))
        };
        let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
        clock::parse_rfc3339(&format!("{year}-{month}-{day}T00:00:00Z")).ok()
    };
    let day = moment();
    Period {
        from: day.and_then(|day| day.checked_sub(DAY)),
        until: day.and_then(|day| day.checked_add(2 * DAY)),
    }
}

fn newer(path: &Path, version: u32) -> SinkError {
    SinkError::new(format!(
        "{} is of version {version} of the ledger, this omk knows up to {VERSION}",
        path.display()
    ))
    .hint("use the newer omk that wrote it; nothing was changed")
}

/// Whether an id can be a file's name everywhere and leads out of no directory.
fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= MAX_ID
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
