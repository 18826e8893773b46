//! Folding loose records into segments, keeping many new ones at once, and clearing old ones: what only one process at a
//! time may do.
//!
//! All hold the lock. See the parent module for why a crash between any two steps is harmless.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use crate::cost::file_sink::FOLD_AT;
use crate::cost::file_sink::FileError;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::MAX_SEGMENT;
use crate::cost::file_sink::UNREADABLE;
use crate::cost::file_sink::Version;
use crate::cost::file_sink::head;
use crate::cost::file_sink::segment::Kind;
use crate::cost::file_sink::segment::SUMS;
use crate::cost::file_sink::segment::Stored;
use crate::cost::file_sink::segment::dead;
use crate::cost::file_sink::segment::month_of;
use crate::cost::file_sink::segment::parse_name;
use crate::cost::file_sink::segment::segment_name;
use crate::cost::record::SessionCost;
use crate::cost::sink::Notes;
use crate::cost::sink::Removed;
use crate::cost::sink::SinkError;
use crate::cost::view::Period;
use crate::runtime::atomic;
use crate::runtime::atomic::FileSystem;
use crate::runtime::clock;

/// So many records one fold takes at most, so that no single run pays for a long backlog.
const MAX_FOLD: usize = 8192;
/// So long a command that must change the ledger waits for another process. A fold takes some tenths of a second; the first
/// one after omk 0.6.0 may take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// When to fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// When [`FOLD_AT`] loose records are over. To be called by every run when its answer is out: it costs a listing of at
    /// most that many names when it is not yet time.
    IfDue,
    /// However few they are.
    Now,
}

/// What a fold did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    /// Nothing: it was not yet time.
    NotDue,
    /// Nothing: another process is at it.
    Busy,
    /// So many records are in segments now.
    Done {
        /// How many were folded.
        records: usize,
        /// What was left aside and why, or is damaged.
        warnings: Vec<String>,
    },
}

/// Records by their ids: the revision and the line.
type Lines = BTreeMap<String, (u64, Vec<u8>)>;

/// The segments, in the hands of the one process that may change them.
pub(super) struct Shelf {
    pub(super) segments: Vec<Stored>,
    /// The number of the next segment.
    pub(super) next: u64,
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Moves records that are over into segments.
    ///
    /// # Errors
    ///
    /// The step that failed; every record is still there, once.
    pub fn fold(&self, when: Fold) -> Result<Folded, SinkError> {
        if when == Fold::IfDue {
            let loose = self.directory("loose");
            match self.fs.names(&loose, FOLD_AT) {
                Ok(names) if names.len() < FOLD_AT => return Ok(Folded::NotDue),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Folded::NotDue),
                Err(e) => return Err(self.io_error("read", &loose, &e)),
            }
        }
        let Some(_lock) = self.lock()? else {
            return Ok(Folded::Busy);
        };
        let mut notes = Notes::default();
        let mut shelf = self.shelf(&mut notes)?;
        let Some(claims) = self.claim(when, &mut notes)? else {
            return Ok(Folded::NotDue);
        };
        let (records, done) = self.keep(&mut shelf, &claims, &mut notes)?;
        for id in done {
            self.delete(&self.file("folding", id))?;
        }
        self.sync("folding")?;
        let warnings = notes.lines();
        Ok(Folded::Done { records, warnings })
    }

    /// Keeps many records, each new or in place of the one of its id. Those that are over become part of one segment for
    /// each month, which is synced once; one by one they would be synced thousands of times. They are held in memory
    /// together, so a caller with more than some thousands brings them in batches. Returns warnings of what was left aside.
    ///
    /// A record that is loose, and all of them while another process folds, are kept one by one.
    ///
    /// # Errors
    ///
    /// One of them cannot be kept, and then none is; or the step that failed, and then nobody can be sure of each that it is
    /// kept. Each is there as it was before or as given, and to bring them again does no harm.
    pub fn save_all(&self, records: Vec<SessionCost>) -> Result<Vec<String>, SinkError> {
        let (mut notes, mut single) = (Notes::default(), Vec::new());
        let mut news = BTreeMap::new();
        for record in records {
            let version = self.version(1, &record)?;
            // What is loose has an owner, who may write it at any moment.
            let is_loose = ["loose", "folding"].iter().any(|directory| {
                let read = self.read_version(directory, &version.record.id);
                !matches!(read, Err(FileError::Gone))
            });
            match is_loose || !version.is_over() {
                true => single.push(version.record),
                false => drop(news.insert(version.record.id.clone(), version)),
            }
        }
        let mut done = BTreeSet::new();
        if let Some(_lock) = self.lock()? {
            let mut shelf = self.shelf(&mut notes)?;
            for stored in &mut shelf.segments {
                let wanted = news.iter().collect();
                for (id, revision) in self.held(stored, &wanted, &mut Notes::default())? {
                    if let Some(version) = news.get_mut(&id) {
                        *version = self.version(revision.saturating_add(1), &version.record)?;
                    }
                }
            }
            let (_, kept) = self.keep(&mut shelf, &news, &mut notes)?;
            done = kept.into_iter().cloned().collect::<BTreeSet<String>>();
        }
        let rest = news.into_iter().filter(|(id, _)| !done.contains(id));
        single.extend(rest.map(|(_, version)| version.record));
        for record in single {
            let known = self.revision(&record.id)?.unwrap_or(0);
            self.write(&record, known.saturating_add(1))?;
        }
        Ok(notes.lines())
    }

    /// Removes the records that are over and began before a moment. Waits up to a minute for another process that folds.
    ///
    /// # Errors
    ///
    /// Another process holds the lock for longer, or the step that failed; each record is still there or is gone, and none
    /// is partly.
    pub fn remove(&self, before: SystemTime) -> Result<Removed, SinkError> {
        if !self.exists()? {
            return Ok(Removed::default());
        }
        let _lock = self.lock_patiently()?;
        let mut notes = Notes::default();
        let mut shelf = self.shelf(&mut notes)?;
        let outside = self.unfolded(&mut notes, |_| true)?;
        let mut gone = BTreeSet::new();
        for at in 0..shelf.segments.len() {
            self.remove_stored(&mut shelf, at, before, &outside, &mut gone, &mut notes)?;
        }
        // The loose versions go last: while one is there, an older one in a segment would come to light.
        for (id, version) in &outside {
            if !version.is_over() || version.started() >= before {
                continue;
            }
            if self.fs.modified(&self.file("loose", id)).is_ok() {
                self.take(id)?;
            }
            // What was taken away may be a later version than the one that was looked at.
            match self.read_or_note("folding", id, &mut notes)? {
                Some(version) if version.is_over() => {
                    self.delete(&self.file("folding", id))?;
                    gone.insert(id.clone());
                }
                _ => {}
            }
        }
        self.sync("loose")?;
        self.sync("folding")?;
        Ok(Removed {
            records: gone.len(),
            warnings: notes.lines(),
        })
    }

    /// Writes a segment without what is to go, in one step.
    fn remove_stored(
        &self,
        shelf: &mut Shelf,
        at: usize,
        before: SystemTime,
        outside: &BTreeMap<String, Version>,
        gone: &mut BTreeSet<String>,
        notes: &mut Notes,
    ) -> Result<(), SinkError> {
        let Some(stored) = shelf.segments.get_mut(at) else {
            return Ok(());
        };
        let Some((month, _)) = parse_name(&stored.name) else {
            return Ok(());
        };
        if month > clock::format_date(before).as_str() {
            return Ok(());
        }
        let (name, path, month) = (stored.name.clone(), stored.path.clone(), month.to_string());
        let (mut rest, mut lost) = (Lines::new(), Vec::new());
        let damaged = notes.damage.len();
        let _ = self.records(stored, notes, &mut |record, line| {
            let version = Version::read(line.to_vec()).map_err(|_| UNREADABLE)?;
            let id = version.record.id.clone();
            let is_open = outside.get(&id).is_some_and(|version| !version.is_over());
            if version.started() >= before || is_open {
                rest.insert(id, (record.revision, version.line));
            } else {
                lost.push(id);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if lost.is_empty() || notes.damage.len() > damaged {
            return Ok(());
        }
        if !rest.is_empty() {
            let new = segment_name(&month, shelf.next);
            shelf.next += 1;
            self.write_segment(&new, &rest, vec![name.clone()], None)?;
        }
        gone.extend(lost);
        self.delete(&path)?;
        self.delete(&self.segment_path(&name, SUMS))
    }

    /// Whether there is a ledger at all: nothing is created only to find nothing in it.
    pub(super) fn exists(&self) -> Result<bool, SinkError> {
        match self.fs.names(self.path(), 1) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.io_error("read", self.path(), &e)),
        }
    }

    pub(super) fn lock(&self) -> Result<Option<File>, SinkError> {
        let path = self.path().join("lock");
        let locked = match self.fs.try_lock(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create("folding")?;
                self.fs.try_lock(&path)
            }
            locked => locked,
        };
        locked.map_err(|e| self.io_error("lock", &path, &e))
    }

    /// The lock, after waiting for whoever has it.
    pub(super) fn lock_patiently(&self) -> Result<File, SinkError> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
            if waited >= PATIENCE {
                return Err(SinkError::new(format!(
                    "another omk has been at work on {} for more than {} seconds",
                    self.path().display(),
                    PATIENCE.as_secs()
                ))
                .hint("run the command again when it has ended"));
            }
            self.fs.pause(PAUSE);
            waited += PAUSE;
        }
    }

    /// The segments, put in order: what a crash left is deleted, packs of omk 0.6.0 become segments, and missing sums are
    /// made.
    pub(super) fn shelf(&self, notes: &mut Notes) -> Result<Shelf, SinkError> {
        // Nobody else changes segments while the lock is held.
        let all = |notes: &mut Notes| -> Result<Vec<Stored>, SinkError> {
            Ok(self.open_all(notes, Period::default())?.unwrap_or_default())
        };
        let mut found = all(notes)?;
        let numbers = found.iter().filter_map(|stored| parse_name(&stored.name));
        let mut next = numbers.map(|(_, number)| number).max().unwrap_or(0) + 1;
        let dead = dead(&found);
        for stored in found.iter().filter(|stored| dead.contains(&stored.name)) {
            self.delete(&stored.path)?;
            self.delete(&self.segment_path(&stored.name, SUMS))?;
        }
        found.retain(|stored| !dead.contains(&stored.name));
        if found.iter().any(|stored| stored.kind == Kind::Pack) {
            self.convert_packs(&mut found, &mut next, notes)?;
            found = all(&mut Notes::default())?;
        }
        found.retain(|stored| matches!(stored.kind, Kind::Segment(_)));
        for stored in &mut found {
            if self.kept_sums(stored).is_none() {
                self.keep_sums(stored)?;
            }
        }
        self.sweep();
        Ok(Shelf {
            segments: found,
            next,
        })
    }

    /// Deletes unfinished files that killed processes left, and sums without a segment. A failure is no loss, and the next
    /// fold tries again.
    fn sweep(&self) {
        for directory in ["", "loose", "folding", "segments", "packs"] {
            atomic::sweep_on(&self.fs, &self.directory(directory));
        }
        let directory = self.directory("segments");
        for name in self.fs.names(&directory, usize::MAX).unwrap_or_default() {
            let name = name.to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix(SUMS)
                && self
                    .fs
                    .modified(&self.segment_path(stem, ".jsonl"))
                    .is_err()
            {
                let _ = self.fs.remove(&directory.join(name));
            }
        }
    }

    /// Takes the records that are over for the fold. `None` when there are not enough of them.
    fn claim(
        &self,
        when: Fold,
        notes: &mut Notes,
    ) -> Result<Option<BTreeMap<String, Version>>, SinkError> {
        let mut claims = BTreeMap::new();
        for id in self
            .names("folding", ".json", notes)?
            .into_iter()
            .take(MAX_FOLD)
        {
            if let Some(version) = self.read_or_note("folding", &id, notes)?
                && version.is_over()
            {
                claims.insert(id, version);
            }
        }
        let mut over = Vec::new();
        for id in self.names("loose", ".json", notes)? {
            if claims.len() + over.len() >= MAX_FOLD {
                break;
            }
            let version = self.read_or_note("loose", &id, notes)?;
            if version.is_some_and(|version| version.is_over()) {
                over.push(id);
            }
        }
        if when == Fold::IfDue && claims.len() + over.len() < FOLD_AT {
            return Ok(None);
        }
        for id in over {
            self.take(&id)?;
            // Read again: a later version may have come in between.
            match self.read_or_note("folding", &id, notes)? {
                Some(version) if version.is_over() => claims.insert(id, version),
                _ => claims.remove(&id),
            };
        }
        Ok(Some(claims))
    }

    /// Takes a loose record out of everyone else's hands.
    fn take(&self, id: &str) -> Result<(), SinkError> {
        let (from, to) = (self.file("loose", id), self.file("folding", id));
        let taken = match self.fs.rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create("folding")?;
                self.fs.rename(&from, &to)
            }
            taken => taken,
        };
        taken.map_err(|e| self.io_error("rename", &from, &e))
    }

    /// Deletes a file that nobody needs any more.
    pub(super) fn delete(&self, path: &Path) -> Result<(), SinkError> {
        match self.fs.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.io_error("delete", path, &e)),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&self, directory: &str) -> Result<(), SinkError> {
        let path = self.directory(directory);
        match self.fs.sync_directory(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.io_error("sync", &path, &e)),
            _ => Ok(()),
        }
    }

    /// The lines of a segment by their ids.
    pub(super) fn all_lines(
        &self,
        stored: &mut Stored,
        notes: &mut Notes,
    ) -> Result<Lines, SinkError> {
        let mut all = Lines::new();
        let _ = self.records(stored, notes, &mut |record, line| {
            let id = head(record)?.id.into_owned();
            all.insert(id, (record.revision, line.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    /// The revisions that a segment has of some records.
    fn held(
        &self,
        stored: &mut Stored,
        wanted: &BTreeMap<&String, &Version>,
        notes: &mut Notes,
    ) -> Result<BTreeMap<String, u64>, SinkError> {
        let mut held = BTreeMap::new();
        if wanted.keys().any(|id| stored.may_hold(id)) {
            let _ = self.records(stored, notes, &mut |record, _| {
                let id = head(record)?.id.into_owned();
                if wanted.contains_key(&id) {
                    held.insert(id, record.revision);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(held)
    }

    /// Puts records into segments of their months, together with segments that are small or hold older versions of them.
    /// How many, and which are stored now, those included that were before.
    pub(super) fn keep<'a>(
        &self,
        shelf: &mut Shelf,
        versions: &'a BTreeMap<String, Version>,
        notes: &mut Notes,
    ) -> Result<(usize, BTreeSet<&'a String>), SinkError> {
        let mut months: BTreeMap<String, BTreeMap<&'a String, &'a Version>> = BTreeMap::new();
        for (id, version) in versions {
            months
                .entry(month_of(version))
                .or_default()
                .insert(id, version);
        }
        let (mut count, mut done) = (0, BTreeSet::new());
        for (month, mut fresh) in months {
            let kind = Kind::Segment(month.clone());
            let mut of_month: Vec<&mut Stored> = shelf.segments.iter_mut().collect();
            of_month.retain(|stored| stored.kind == kind);
            of_month.sort_by_key(|stored| stored.records());
            // A segment with an earlier version must be written anew; one with the same version needs nothing.
            let (mut merged, mut small) = (Vec::new(), Vec::new());
            let mut total = 0;
            for stored in of_month {
                let damaged = notes.damage.len();
                let held = self.held(stored, &fresh, notes)?;
                let mut is_earlier = false;
                fresh.retain(|id, version| match held.get(*id) {
                    Some(revision) if *revision >= version.revision => !done.insert(*id),
                    held => {
                        is_earlier |= held.is_some();
                        true
                    }
                });
                let is_too_much = total > 0 && total + stored.records() > 2 * MAX_SEGMENT;
                if notes.damage.len() > damaged || (is_earlier && is_too_much) {
                    // It stays as it is, and so do the later versions of what is in it.
                    fresh.retain(|id, _| !held.contains_key(*id));
                } else if is_earlier {
                    total += stored.records();
                    merged.push(stored);
                } else {
                    small.push(stored);
                }
            }
            // Smaller segments join, as digits are carried when a binary counter is raised.
            total += fresh.len();
            for stored in small {
                if stored.records() > total || stored.records() + total > MAX_SEGMENT {
                    break;
                }
                total += stored.records();
                merged.push(stored);
            }
            if fresh.is_empty() {
                continue;
            }
            let (mut lines, mut replaced) = (Lines::new(), Vec::new());
            for stored in merged {
                let damaged = notes.damage.len();
                let mut all = self.all_lines(stored, notes)?;
                if notes.damage.len() == damaged {
                    lines.append(&mut all);
                    replaced.push((stored.name.clone(), stored.path.clone()));
                }
            }
            for (id, version) in &fresh {
                lines.insert((*id).clone(), (version.revision, version.line.clone()));
            }
            let name = segment_name(&month, shelf.next);
            shelf.next += 1;
            let names = replaced.iter().map(|(name, _)| name.clone()).collect();
            self.write_segment(&name, &lines, names, None)?;
            for (name, path) in replaced {
                self.delete(&path)?;
                self.delete(&self.segment_path(&name, SUMS))?;
            }
            count += fresh.len();
            done.extend(fresh.keys());
        }
        Ok((count, done))
    }
}
