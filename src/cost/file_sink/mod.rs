//! The ledger on disk: records as files, written whole, folded into packs.
//!
//! # Layout
//!
//! ```text
//! loose/ID.json      one record, as its run writes it: open, updated, settled
//! folding/ID.json    a record over which nobody but the fold has power any more
//! packs/N.pack       up to some ten thousand records that are over, with an index
//! packs.json         which packs count
//! lock               held while one process folds or clears
//! ```
//!
//! Every file but the lock, which is empty, says its format and version and was written by [`crate::runtime::atomic`]. Files
//! are of mode 0600, directories of mode 0700.
//!
//! # Why it is so
//!
//! *Appending costs the same with ten records and with a million*: it writes one small file and looks at nothing else. What
//! makes a heap of small files slow is reading it, so [`JsonFileCostSink::fold`], run when a run's answer is out, moves
//! those that are over into packs once there are [`FOLD_AT`] of them. To find out whether it is time it reads at most that
//! many names. A pack is merged with smaller ones as in a binary counter, so a record is written about six times in its
//! life and there is one pack for each [`MAX_PACK`] records and a handful more.
//!
//! *A report reads columns, not records.* A pack's index has the columns that sums and filters need, a fifth of its bytes.
//! Sums by day and model, kept ready, would be smaller still; but a CI system tags each run with a number of its own, so
//! sums by tag are as many as runs, and a question about a tag *and* a model needs the rows in any case. One fast way that
//! answers every question was preferred to two, of which one would answer some.
//!
//! *Many records at once go straight into a pack*, see [`JsonFileCostSink::save_all`]: an import brings thousands, and a
//! file for each, synced, would take a minute where a pack takes a moment. The list that names the pack is the one step in
//! which all of them come to be; a crash before it leaves a pack that nobody lists and that the next one replaces.
//!
//! *Nobody waits.* A run's own file is written by the run alone, and a rename replaces it. Readers take no lock. The fold
//! takes one, and goes away if another process has it; the system gives it back when its owner ends, however that is.
//!
//! *A record only ever moves forward*: `loose`, `folding`, then a pack that `packs.json` names. Each step keeps the record
//! at its old place until it is, synced, at the new one, or is a rename. A reader looks in the same order, so whatever
//! moves away from under it is found further on; if a pack goes away before it is opened, the list has a newer one. A
//! crash between any two steps leaves a record at two places, and then the higher revision counts, the pack's if they are
//! equal. The next fold finishes what was begun. An id is in at most one listed pack.
//!
//! *An update during a fold is not lost*: the fold takes the file away by rename before it reads what it will keep, so a
//! later version is a new file in `loose`, whose revision is higher than the packed one.
//!
//! *What was cleared stays away*: packs first, loose files after them, so that no older version can come to light.
//!
//! A directory that changes may be listed without a name that a rename replaced at that moment; so a reader lists until
//! nothing new turns up.
//!
//! # What it refuses
//!
//! A file that is torn or not of the ledger is left where it is, with a warning, and never counted, moved or deleted. A
//! file of a later version is an error that names it: a sum without it would be wrong. `packs.json` is a list that the
//! packs can replace, each of which says which others it replaced; if it is damaged, the fold renames it and writes
//! another.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::sink::CostSink;
use crate::cost::sink::SinkError;
use crate::cost::sink::Whole;
use crate::cost::view::Period;
use crate::cost::view::RecordView;
use crate::cost::view::micros;
use crate::cost::view::with_view;
use crate::runtime::atomic;
use crate::runtime::atomic::AtomicWriteError;
use crate::runtime::atomic::Disk;
use crate::runtime::atomic::FileSystem;
use crate::runtime::clock;

mod fold;
mod pack;
mod recent;
mod row;
#[cfg(test)]
mod tests;

pub use fold::Fold;
pub use fold::Folded;
pub use fold::Removed;

use pack::Pack;
use pack::PackError;
use pack::PackInfo;
use pack::Spare;

/// The version of every file of the ledger that this program writes.
pub const VERSION: u32 = 1;
/// So many loose records are folded.
pub const FOLD_AT: usize = 512;
/// No pack grows beyond so many records.
pub const MAX_PACK: usize = 32_768;

const RECORD_FORMAT: &str = "omk-ledger-record";
const LIST_FORMAT: &str = "omk-ledger-packs";
/// The longest id, so that every file system takes it as a name.
const MAX_ID: usize = 128;
/// So often may the packs change while a reader opens them. Each change is a fold of another process, and a fold takes
/// longer than opening some files.
const MAX_CHANGES: usize = 100;
/// So many records of one beginning are many.
const MANY: usize = 16;
const NEWER: &str = "use the newer omk that wrote it; nothing was changed";

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

#[derive(Serialize, Deserialize)]
struct Loose<'a> {
    format: &'a str,
    version: u32,
    revision: u64,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// What every version of a file has in common.
#[derive(Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

/// `packs.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct List {
    format: String,
    version: u32,
    /// The number of the next pack.
    next: u64,
    packs: Vec<PackInfo>,
    /// Packs that were replaced, to be deleted.
    replaced: Vec<String>,
}

impl Default for List {
    fn default() -> List {
        List {
            format: LIST_FORMAT.to_string(),
            version: VERSION,
            next: 1,
            packs: Vec::new(),
            replaced: Vec::new(),
        }
    }
}

/// One version of a record.
#[derive(Clone, Debug)]
struct Version {
    revision: u64,
    record: SessionCost,
}

impl Version {
    fn is_over(&self) -> bool {
        self.record.status != SessionStatus::Open
    }

    /// When it began; that it says so was looked at when it was read.
    fn started(&self) -> i64 {
        clock::parse_rfc3339(&self.record.started_at).map_or(0, micros)
    }
}

/// Why a small file was not read.
enum FileError {
    Gone,
    Newer(u32),
    Odd(String),
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
        let mut warnings = Vec::new();
        let mut versions: BTreeMap<String, Version> = BTreeMap::new();
        self.unpacked(&mut warnings, |id| id.starts_with(prefix), &mut versions)?;
        for (info, file) in self.packs(&mut warnings, |pack| pack.may_hold_prefix(prefix))? {
            let Some(pack) = self.read_pack(&info.name, file, Spare::default(), &mut warnings)?
            else {
                continue;
            };
            let strings = pack.strings();
            let mut places = Vec::new();
            let rows = pack.rows(&strings, |entry| {
                let id = entry.view.id;
                let known = versions.get(id).map(|version| version.revision);
                if id.starts_with(prefix) && known.is_none_or(|known| known <= entry.revision) {
                    places.push((entry.at, entry.length, entry.revision));
                }
                match places.len() {
                    // Enough to say that they are many; but the very id may stand among them, and it is the first.
                    MANY.. => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            match rows {
                Ok(_) => {}
                // The record may be among those that can be read.
                Err(PackError::Damaged(why)) => warnings.push(self.damaged_rows(&info.name, &why)),
                Err(e) => return Err(self.pack_error(&info.name, e)),
            }
            for (at, length, revision) in places {
                let record = pack
                    .record(at, length)
                    .map_err(PackError::Io)
                    .and_then(|line| parse_record(&line))
                    .map_err(|e| self.pack_error(&info.name, e))?;
                versions.insert(record.id.clone(), Version { revision, record });
            }
        }
        if let Some(version) = versions.remove(prefix) {
            return Ok(Found::One(Box::new(version.record)));
        }
        Ok(match versions.len() {
            // It may be in what cannot be read.
            0 if !warnings.is_empty() => return Err(SinkError::new(warnings.join("; "))),
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

    /// Writes a version into `loose`, making the directory first where it is missing.
    fn write(&self, record: &SessionCost, revision: u64) -> Result<(), SinkError> {
        let json = self.json(record)?;
        let loose = Loose {
            format: RECORD_FORMAT,
            version: VERSION,
            revision,
            record: &json,
        };
        let mut bytes = serde_json::to_vec(&loose)
            .map_err(|e| SinkError::new(format!("the record {} was not kept: {e}", record.id)))?;
        bytes.push(b'\n');
        let path = self.file("loose", &record.id);
        match atomic::atomic_write_on(&self.fs, &path, &bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create("loose")?;
                atomic::atomic_write_on(&self.fs, &path, &bytes).map_err(|e| self.write_error(&e))
            }
            written => written.map_err(|e| self.write_error(&e)),
        }
    }

    /// Creates a directory of the ledger, so that a power cut does not take it away again.
    fn create(&self, name: &str) -> Result<(), SinkError> {
        let path = self.directory(name);
        let create = || {
            self.fs.create_directory(&path)?;
            self.fs.sync_directory(&self.root)?;
            match self.root.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.fs.sync_directory(parent),
                _ => Ok(()),
            }
        };
        create().map_err(|e| self.io_error("create", &path, &e))
    }

    /// One record's file.
    fn read_version(&self, directory: &str, id: &str) -> Result<Version, FileError> {
        let bytes = match self.fs.read(&self.file(directory, id)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(FileError::Gone),
            Err(e) => return Err(FileError::Io(e)),
        };
        let odd = |error: serde_json::Error| FileError::Odd(error.to_string());
        let mark: Mark = serde_json::from_slice(&bytes).map_err(odd)?;
        if mark.format != RECORD_FORMAT {
            return Err(FileError::Odd(format!("its format is \"{}\"", mark.format)));
        }
        if mark.version > VERSION {
            return Err(FileError::Newer(mark.version));
        }
        let loose: Loose<'_> = serde_json::from_slice(&bytes).map_err(odd)?;
        let record: SessionCost = serde_json::from_str(loose.record.get()).map_err(odd)?;
        if record.id != id {
            return Err(FileError::Odd(format!("it holds the record {}", record.id)));
        }
        if clock::parse_rfc3339(&record.started_at).is_err() {
            return Err(FileError::Odd("it does not say when it began".to_string()));
        }
        Ok(Version {
            revision: loose.revision,
            record,
        })
    }

    /// The same, with what cannot be used as a warning.
    fn read_or_warn(
        &self,
        directory: &str,
        id: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Version>, SinkError> {
        let path = self.file(directory, id);
        match self.read_version(directory, id) {
            Ok(version) => Ok(Some(version)),
            Err(FileError::Gone) => Ok(None),
            Err(FileError::Newer(version)) => Err(newer(&path, version)),
            Err(FileError::Odd(why)) => {
                warnings.push(format!(
                    "{} is left aside, it is no record: {why}",
                    path.display()
                ));
                Ok(None)
            }
            Err(FileError::Io(e)) => Err(self.io_error("read", &path, &e)),
        }
    }

    /// The ids of a directory's files; other names are warned of.
    fn ids(
        &self,
        directory: &str,
        warnings: &mut Vec<String>,
    ) -> Result<BTreeSet<String>, SinkError> {
        let path = self.directory(directory);
        let names = match self.fs.names(&path, usize::MAX) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(e) => return Err(self.io_error("read", &path, &e)),
        };
        let mut ids = BTreeSet::new();
        for name in names {
            let name = name.to_string_lossy();
            match name.strip_suffix(".json") {
                Some(id) if is_id(id) => {
                    ids.insert(id.to_string());
                }
                _ if atomic::is_temporary(&name) => {}
                _ => {
                    let path = path.join(&*name);
                    warnings.push(format!(
                        "{} is left aside, it is not of the ledger",
                        path.display()
                    ));
                }
            }
        }
        Ok(ids)
    }

    /// Adds the newest versions outside packs to `versions`.
    fn unpacked(
        &self,
        warnings: &mut Vec<String>,
        wanted: impl Fn(&str) -> bool,
        versions: &mut BTreeMap<String, Version>,
    ) -> Result<(), SinkError> {
        let mut add = |version: Version| {
            let known = versions.get(&version.record.id);
            if known.is_none_or(|known| known.revision < version.revision) {
                versions.insert(version.record.id.clone(), version);
            }
        };
        let mut seen = BTreeSet::new();
        loop {
            // Only the last listing's warnings are worth telling: they are the same each time.
            let mut odd = Vec::new();
            let mut ids = self.ids("loose", &mut odd)?;
            ids.append(&mut self.ids("folding", &mut odd)?);
            ids.retain(|id| wanted(id) && !seen.contains(id));
            if ids.is_empty() {
                warnings.append(&mut odd);
                return Ok(());
            }
            for id in ids {
                for directory in ["loose", "folding"] {
                    if let Some(version) = self.read_or_warn(directory, &id, warnings)? {
                        add(version);
                    }
                }
                seen.insert(id);
            }
        }
    }

    /// The latest revision of a record.
    fn revision(&self, id: &str) -> Result<Option<u64>, SinkError> {
        for directory in ["loose", "folding"] {
            match self.read_version(directory, id) {
                Ok(version) => return Ok(Some(version.revision)),
                Err(FileError::Gone) => {}
                Err(FileError::Newer(version)) => {
                    return Err(newer(&self.file(directory, id), version));
                }
                Err(FileError::Odd(why)) => {
                    let path = self.file(directory, id);
                    return Err(
                        SinkError::new(format!("{} is no record: {why}", path.display()))
                            .hint("move the file out of the ledger; it is not touched"),
                    );
                }
                Err(FileError::Io(e)) => {
                    return Err(self.io_error("read", &self.file(directory, id), &e));
                }
            }
        }
        let mut warnings = Vec::new();
        for (info, file) in self.packs(&mut warnings, |pack| pack.may_hold(id))? {
            let Some(pack) = self.read_pack(&info.name, file, Spare::default(), &mut warnings)?
            else {
                continue;
            };
            let strings = pack.strings();
            let mut revision = None;
            let rows = pack.rows(&strings, |entry| match entry.view.id.cmp(id) {
                Ordering::Less => ControlFlow::Continue(()),
                found => {
                    revision = (found == Ordering::Equal).then_some(entry.revision);
                    ControlFlow::Break(())
                }
            });
            match rows {
                _ if revision.is_some() => return Ok(revision),
                Ok(_) => {}
                Err(e) => return Err(self.pack_error(&info.name, e)),
            }
        }
        Ok(None)
    }

    fn pack_path(&self, name: &str) -> PathBuf {
        self.root.join("packs").join(name)
    }

    /// `packs.json`; `None` when it is not there, with a warning when it is damaged.
    fn read_list(&self, warnings: &mut Vec<String>) -> Result<Option<List>, SinkError> {
        let path = self.root.join("packs.json");
        let bytes = match self.fs.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io_error("read", &path, &e)),
        };
        let list = serde_json::from_slice::<Mark>(&bytes)
            .map_err(|e| e.to_string())
            .and_then(|mark| match mark {
                Mark { format, .. } if format != LIST_FORMAT => {
                    Err(format!("its format is \"{format}\""))
                }
                Mark { version, .. } if version > VERSION => Ok(Err(newer(&path, version))),
                _ => serde_json::from_slice::<List>(&bytes)
                    .map(Ok)
                    .map_err(|e| e.to_string()),
            });
        match list {
            Ok(list) => list.map(Some),
            Err(why) => {
                warnings.push(format!(
                    "{} is left aside, it is no list of packs: {why}; the packs are read without it",
                    path.display()
                ));
                Ok(None)
            }
        }
    }

    /// The list as the packs themselves tell it: all of them, without those that another one replaced.
    fn rebuild_list(&self, warnings: &mut Vec<String>) -> Result<List, SinkError> {
        let path = self.directory("packs");
        let names = match self.fs.names(&path, usize::MAX) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
            Err(e) => return Err(self.io_error("read", &path, &e)),
        };
        let mut list = List::default();
        for name in names {
            let name = name.to_string_lossy().into_owned();
            let Some(number) = pack_number(&name) else {
                if !atomic::is_temporary(&name) {
                    let path = path.join(&name);
                    warnings.push(format!(
                        "{} is left aside, it is not of the ledger",
                        path.display()
                    ));
                }
                continue;
            };
            list.next = list.next.max(number.saturating_add(1));
            if let Some(pack) = self.open_pack(&name, warnings)? {
                list.replaced.extend(pack.replaces().iter().cloned());
                list.packs.push(PackInfo {
                    name,
                    ..pack.info().clone()
                });
            }
        }
        list.packs
            .retain(|pack| !list.replaced.contains(&pack.name));
        list.packs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// A pack, unless it is gone or damaged, of which only the latter is warned of.
    fn open_pack(&self, name: &str, warnings: &mut Vec<String>) -> Result<Option<Pack>, SinkError> {
        match self.fs.open(&self.pack_path(name)) {
            Ok(file) => self.read_pack(name, file, Spare::default(), warnings),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.pack_error(name, PackError::Io(e))),
        }
    }

    fn read_pack(
        &self,
        name: &str,
        file: File,
        spare: Spare,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Pack>, SinkError> {
        match Pack::read(file, spare) {
            Ok(pack) => Ok(Some(pack)),
            Err(PackError::Damaged(why)) => {
                warnings.push(self.damaged_pack(name, &why));
                Ok(None)
            }
            Err(e) => Err(self.pack_error(name, e)),
        }
    }

    /// The listed packs, opened together: a fold may take away their names but not their contents.
    fn packs(
        &self,
        warnings: &mut Vec<String>,
        wanted: impl Fn(&PackInfo) -> bool,
    ) -> Result<Vec<(PackInfo, File)>, SinkError> {
        let mut gone = String::new();
        for _ in 0..MAX_CHANGES {
            let mut odd = Vec::new();
            let list = match self.read_list(&mut odd)? {
                Some(list) => list,
                None => self.rebuild_list(&mut odd)?,
            };
            let mut packs = Vec::new();
            let mut is_whole = true;
            for info in list.packs.into_iter().filter(&wanted) {
                match self.fs.open(&self.pack_path(&info.name)) {
                    Ok(file) => packs.push((info, file)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        gone = info.name;
                        is_whole = false;
                        break;
                    }
                    Err(e) => return Err(self.pack_error(&info.name, PackError::Io(e))),
                }
            }
            if is_whole {
                warnings.append(&mut odd);
                return Ok(packs);
            }
        }
        let path = self.pack_path(&gone);
        Err(SinkError::new(format!(
            "{} is listed in packs.json and is not there",
            path.display()
        ))
        .hint("bring the file back; or move packs.json out of the ledger, and what is there is read without it"))
    }

    fn damaged_rows(&self, name: &str, why: &str) -> String {
        format!("{}: {why}", self.pack_path(name).display())
    }

    fn damaged_pack(&self, name: &str, why: &str) -> String {
        format!(
            "{} is left aside with all its records, it is no whole pack: {why}",
            self.pack_path(name).display()
        )
    }
}

impl<F: FileSystem> JsonFileCostSink<F> {
    fn pack_error(&self, name: &str, error: PackError) -> SinkError {
        let path = self.pack_path(name);
        match error {
            PackError::Newer(version) => newer(&path, version),
            PackError::Io(e) => self.io_error("read", &path, &e),
            PackError::Damaged(why) => SinkError::new(self.damaged_pack(name, &why)),
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
    /// Looks for the id among loose records only: an id with time and chance in it is new, and a search of the packs would
    /// cost more the more there are. Who makes ids in another way asks [`JsonFileCostSink::contains`] first.
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
    ) -> Result<Vec<String>, SinkError> {
        self.scan_records(Period::default(), &mut |_, whole| match whole() {
            Some(record) => visit(&record),
            None => ControlFlow::Continue(()),
        })
    }

    fn scan(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        self.scan_records(period, &mut |view, _| visit(view))
    }

    fn scan_records(
        &self,
        period: Period,
        visit: &mut dyn FnMut(&RecordView<'_>, Whole<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<String>, SinkError> {
        let mut warnings = Vec::new();
        let mut versions = BTreeMap::new();
        self.unpacked(&mut warnings, |_| true, &mut versions)?;
        let wanted = |pack: &PackInfo| period.overlaps(pack.from, pack.until);
        let mut spare = Spare::default();
        for (info, file) in self.packs(&mut warnings, wanted)? {
            let Some(pack) =
                self.read_pack(&info.name, file, std::mem::take(&mut spare), &mut warnings)?
            else {
                continue;
            };
            let strings = pack.strings();
            let mut data = pack.data_window();
            let (mut odd, mut failed) = (0_usize, None);
            let rows = pack.rows(&strings, |entry| {
                let view = &entry.view;
                if !period.contains(view.started_micros)
                    || !packed_wins(&mut versions, view.id, entry.revision)
                {
                    return ControlFlow::Continue(());
                }
                let flow = visit(view, &mut || match data
                    .line(entry.at, entry.length)
                    .map(parse_record)
                {
                    Ok(Ok(record)) => Some(record),
                    Ok(Err(_)) => {
                        odd += 1;
                        None
                    }
                    Err(e) => {
                        failed = Some(e);
                        None
                    }
                });
                match &failed {
                    Some(_) => ControlFlow::Break(()),
                    None => flow,
                }
            });
            if let Some(e) = failed {
                return Err(self.pack_error(&info.name, PackError::Io(e)));
            }
            if odd > 0 {
                warnings
                    .push(self.damaged_pack(&info.name, &format!("{odd} of its records are odd")));
            }
            match rows {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(warnings),
                Err(PackError::Damaged(why)) => warnings.push(self.damaged_rows(&info.name, &why)),
                Err(e) => return Err(self.pack_error(&info.name, e)),
            }
            drop(strings);
            spare = pack.into_spare();
        }
        for version in versions.values() {
            let record = &version.record;
            let shown = with_view(record, |view| match period.contains(view.started_micros) {
                true => visit(view, &mut || Some(record.clone())),
                false => ControlFlow::Continue(()),
            });
            if shown.is_some_and(|flow| flow.is_break()) {
                break;
            }
        }
        Ok(warnings)
    }
}

/// Whether a packed version is the newest; the other one is forgotten then.
fn packed_wins(versions: &mut BTreeMap<String, Version>, id: &str, revision: u64) -> bool {
    // Most rows are older than everything loose, and a comparison with the ends is cheaper than a search.
    let is_within = match (versions.first_key_value(), versions.last_key_value()) {
        (Some((first, _)), Some((last, _))) => first.as_str() <= id && id <= last.as_str(),
        _ => false,
    };
    if !is_within {
        return true;
    }
    match versions.get(id) {
        Some(loose) if loose.revision > revision => false,
        Some(_) => {
            versions.remove(id);
            true
        }
        None => true,
    }
}

fn slice(data: &[u8], at: u64, length: u32) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    let length = usize::try_from(length).ok()?;
    data.get(at..at.checked_add(length)?)
}

fn parse_record(line: &[u8]) -> Result<SessionCost, PackError> {
    serde_json::from_slice(line).map_err(|e| PackError::Damaged(e.to_string()))
}

fn newer(path: &Path, version: u32) -> SinkError {
    SinkError::new(format!(
        "{} is of version {version} of the ledger, this omk knows up to {VERSION}",
        path.display()
    ))
    .hint(NEWER)
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

fn pack_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".pack")?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn pack_name(number: u64) -> String {
    format!("{number:08}.pack")
}
