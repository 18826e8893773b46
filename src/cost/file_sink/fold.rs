//! Folding loose records into packs, packing many new ones, and clearing old ones: what only one process at a time may do.
//!
//! All hold the lock, and none waits for it. See the parent module for why a crash between any two steps is harmless.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;
use std::time::SystemTime;

use crate::cost::file_sink::FOLD_AT;
use crate::cost::file_sink::FileError;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::List;
use crate::cost::file_sink::MAX_PACK;
use crate::cost::file_sink::Version;
use crate::cost::file_sink::pack::Entry;
use crate::cost::file_sink::pack::Pack;
use crate::cost::file_sink::pack::PackBuilder;
use crate::cost::file_sink::pack::PackError;
use crate::cost::file_sink::pack::PackInfo;
use crate::cost::file_sink::pack_name;
use crate::cost::file_sink::slice;
use crate::cost::record::SessionCost;
use crate::cost::sink::SinkError;
use crate::cost::view::micros;
use crate::cost::view::with_view;
use crate::runtime::atomic;
use crate::runtime::atomic::AtomicFile;
use crate::runtime::atomic::FileSystem;

/// So many records one fold takes at most, so that no single run pays for a long backlog.
const MAX_FOLD: usize = 8192;

/// No write takes so long: what is older and unfinished was left by a process that was killed.
const MAX_WRITE: Duration = Duration::from_secs(86_400);

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
    /// So many records are in packs now, with warnings of what was left aside.
    Done {
        /// How many were folded.
        records: usize,
        /// What was left aside and why.
        warnings: Vec<String>,
    },
}

/// What clearing removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many records.
    pub records: usize,
    /// What was left aside and why.
    pub warnings: Vec<String>,
}

/// A record on its way into a pack.
#[allow(
    clippy::large_enum_variant,
    reason = "a few hundred at a time, in one pass"
)]
enum Source<'a> {
    Claim(&'a Version),
    Packed(Box<Entry<'a>>, &'a [u8]),
}

/// A pack that will be written anew.
struct Old {
    info: PackInfo,
    pack: Pack,
    data: Vec<u8>,
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Moves records that are over into packs.
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
        let mut warnings = Vec::new();
        let list = self.list_to_change(&mut warnings)?;
        let Some(claims) = self.claim(when, &mut warnings)? else {
            return Ok(Folded::NotDue);
        };
        let packed = self.packed(&list, &claims, &mut warnings)?;
        let (records, done) = self.pack_claims(list, &claims, &packed, &mut warnings)?;
        for id in done {
            self.discard(id)?;
        }
        self.sync("folding")?;
        Ok(Folded::Done { records, warnings })
    }

    /// Keeps many records, each new or in place of the one of its id. Those that are over become part of one pack, which is
    /// synced once; one by one they would be synced thousands of times. They are held in memory together, so a caller with
    /// more than some thousands brings them in batches. Returns warnings of what was left aside.
    ///
    /// A record that is loose, and all of them while another process folds, are kept one by one.
    ///
    /// # Errors
    ///
    /// One of them cannot be kept, and then none is; or the step that failed, and then nobody can be sure of each that it is
    /// kept. Each is there as it was before or as given, and to bring them again does no harm.
    pub fn save_all(&self, records: Vec<SessionCost>) -> Result<Vec<String>, SinkError> {
        let (mut warnings, mut single) = (Vec::new(), Vec::new());
        let mut news = BTreeMap::new();
        for record in records {
            self.json(&record)?;
            let version = Version {
                revision: 1,
                record,
            };
            // What is loose has an owner, who may write it at any moment.
            let is_loose = ["loose", "folding"].iter().any(|directory| {
                let read = self.read_version(directory, &version.record.id);
                !matches!(read, Err(FileError::Gone))
            });
            match is_loose || !version.is_over() {
                true => single.push(version),
                false => drop(news.insert(version.record.id.clone(), version)),
            }
        }
        let mut packed_now = BTreeSet::new();
        if let Some(_lock) = self.lock()? {
            let list = self.list_to_change(&mut warnings)?;
            let packed = self.packed(&list, &news, &mut warnings)?;
            for (id, (_, revision)) in &packed {
                if let Some(version) = news.get_mut(id) {
                    version.revision = revision.saturating_add(1);
                }
            }
            let (_, done) = self.pack_claims(list, &news, &packed, &mut warnings)?;
            packed_now = done.into_iter().map(str::to_string).collect();
        }
        for (id, version) in news {
            if !packed_now.contains(&id) {
                single.push(version);
            }
        }
        for Version { record, .. } in single {
            let known = self.revision(&record.id)?.unwrap_or(0);
            self.write(&record, known.saturating_add(1))?;
        }
        Ok(warnings)
    }

    /// Removes the records that are over and began before a moment.
    ///
    /// # Errors
    ///
    /// Another process is folding, or the step that failed; each record is still there or is gone, and none is partly.
    pub fn remove(&self, before: SystemTime) -> Result<Removed, SinkError> {
        let before = micros(before);
        if !self.exists()? {
            return Ok(Removed::default());
        }
        let Some(_lock) = self.lock()? else {
            return Err(SinkError::new(format!(
                "another omk is at work on {}",
                self.path().display()
            ))
            .hint("it takes a second or so; run the command again"));
        };
        let mut removed = Removed::default();
        let mut list = self.list_to_change(&mut removed.warnings)?;
        let mut outside = BTreeMap::new();
        self.unpacked(&mut removed.warnings, |_| true, &mut outside)?;
        let mut gone = BTreeSet::new();
        self.remove_packed(
            &mut list,
            before,
            &outside,
            &mut gone,
            &mut removed.warnings,
        )?;
        // The loose versions go last: while one is there, an older one in a pack would come to light.
        for directory in ["loose", "folding"] {
            for id in self.ids(directory, &mut Vec::new())? {
                let is_old = outside
                    .get(&id)
                    .is_some_and(|version| version.is_over() && version.started() < before);
                if !is_old {
                    continue;
                }
                if directory == "loose" {
                    self.take(&id)?;
                }
                // What was taken away may be a later version than the one that was looked at.
                match self.read_or_warn("folding", &id, &mut removed.warnings)? {
                    Some(version) if version.is_over() => {
                        self.discard(&id)?;
                        gone.insert(id);
                    }
                    _ => {}
                }
            }
        }
        self.sync("loose")?;
        self.sync("folding")?;
        removed.records = gone.len();
        Ok(removed)
    }

    /// Writes the packs without what is to go, one after the other, each in one step.
    fn remove_packed(
        &self,
        list: &mut List,
        before: i64,
        outside: &BTreeMap<String, Version>,
        gone: &mut BTreeSet<String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), SinkError> {
        for info in list.packs.clone() {
            if info.from >= before {
                continue;
            }
            let Some(old) = self.read_old(&info, warnings)? else {
                continue;
            };
            let strings = old.pack.strings();
            let mut builder = PackBuilder::default();
            let mut failure = None;
            let mut lost = Vec::new();
            let rows = old.pack.rows(&strings, |entry| {
                let id = entry.view.id;
                let is_wanted = entry.view.started_micros >= before
                    || outside.get(id).is_some_and(|version| !version.is_over());
                if !is_wanted {
                    lost.push(id.to_string());
                    return ControlFlow::Continue(());
                }
                let line = slice(&old.data, entry.at, entry.length).unwrap_or_default();
                match builder.add(&entry.view, entry.revision, line) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(e) => {
                        failure = Some(PackError::Damaged(e.to_string()));
                        ControlFlow::Break(())
                    }
                }
            });
            if let Some(e) = rows.err().or(failure) {
                return Err(self.pack_error(&info.name, e));
            }
            if lost.is_empty() {
                continue;
            }
            let new = self.write_pack(builder, &mut list.next, vec![info.name.clone()])?;
            list.packs.retain(|pack| pack.name != info.name);
            list.packs.extend(new);
            list.replaced = vec![info.name];
            self.write_list(list)?;
            gone.extend(lost);
            self.delete_replaced(list)?;
        }
        Ok(())
    }

    /// Whether there is a ledger at all: nothing is created only to find nothing in it.
    fn exists(&self) -> Result<bool, SinkError> {
        match self.fs.names(self.path(), 1) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.io_error("read", self.path(), &e)),
        }
    }

    fn lock(&self) -> Result<Option<File>, SinkError> {
        let path = self.path().join("lock");
        let locked = match self.fs.try_lock(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create("packs")?;
                self.fs.try_lock(&path)
            }
            locked => locked,
        };
        locked.map_err(|e| self.io_error("lock", &path, &e))
    }

    /// The list, put in order: a damaged one is renamed, and what a crash left is deleted.
    fn list_to_change(&self, warnings: &mut Vec<String>) -> Result<List, SinkError> {
        let mut odd = Vec::new();
        let list = match self.read_list(&mut odd)? {
            Some(list) => list,
            None => {
                let list = self.rebuild_list(&mut odd)?;
                let path = self.path().join("packs.json");
                let aside = self
                    .path()
                    .join(format!("packs.damaged-{}.json", list.next));
                match self.fs.rename(&path, &aside) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(self.io_error("rename", &path, &e)),
                }
                list
            }
        };
        warnings.append(&mut odd);
        self.delete_replaced(&list)?;
        self.sweep();
        Ok(list)
    }

    /// Deletes unfinished files that killed processes left. Their age is told from the list's: both are by the clock of the
    /// file system, so no other one is asked. A failure is nobody's loss, and the next fold tries again.
    fn sweep(&self) {
        let Ok(listed) = self.fs.modified(&self.path().join("packs.json")) else {
            return;
        };
        for directory in ["", "loose", "folding", "packs"] {
            let directory = self.directory(directory);
            let names = self.fs.names(&directory, usize::MAX).unwrap_or_default();
            for name in names {
                if !atomic::is_temporary(&name.to_string_lossy()) {
                    continue;
                }
                let path = directory.join(name);
                let age = self
                    .fs
                    .modified(&path)
                    .map(|written| listed.duration_since(written));
                if matches!(age, Ok(Ok(age)) if age > MAX_WRITE) {
                    let _ = self.fs.remove(&path);
                }
            }
        }
    }

    fn delete_replaced(&self, list: &List) -> Result<(), SinkError> {
        for name in &list.replaced {
            let path = self.pack_path(name);
            match self.fs.remove(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.io_error("delete", &path, &e)),
            }
        }
        Ok(())
    }

    fn write_list(&self, list: &List) -> Result<(), SinkError> {
        let path = self.path().join("packs.json");
        let mut bytes = serde_json::to_vec(list)
            .map_err(|e| SinkError::new(format!("write {}: {e}", path.display())))?;
        bytes.push(b'\n');
        atomic::atomic_write_on(&self.fs, &path, &bytes).map_err(|e| self.write_error(&e))
    }

    /// Takes the records that are over for the fold. `None` when there are not enough of them.
    fn claim(
        &self,
        when: Fold,
        warnings: &mut Vec<String>,
    ) -> Result<Option<BTreeMap<String, Version>>, SinkError> {
        let mut claims = BTreeMap::new();
        for id in self.ids("folding", warnings)?.into_iter().take(MAX_FOLD) {
            if let Some(version) = self.read_or_warn("folding", &id, warnings)?
                && version.is_over()
            {
                claims.insert(id, version);
            }
        }
        let mut over = Vec::new();
        for id in self.ids("loose", warnings)? {
            if claims.len() + over.len() >= MAX_FOLD {
                break;
            }
            let version = self.read_or_warn("loose", &id, warnings)?;
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
            match self.read_or_warn("folding", &id, warnings)? {
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

    /// Deletes a record that was taken.
    fn discard(&self, id: &str) -> Result<(), SinkError> {
        let path = self.file("folding", id);
        match self.fs.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(self.io_error("delete", &path, &e))
            }
            _ => Ok(()),
        }
    }

    fn sync(&self, directory: &str) -> Result<(), SinkError> {
        let path = self.directory(directory);
        match self.fs.sync_directory(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.io_error("sync", &path, &e)),
            _ => Ok(()),
        }
    }

    /// A pack with its records in memory; `None` with a warning when anything of it is damaged, for then it must stay.
    fn read_old(
        &self,
        info: &PackInfo,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Old>, SinkError> {
        let Some(pack) = self.open_pack(&info.name, warnings)? else {
            return Ok(None);
        };
        let data = pack.data().map_err(|e| self.pack_error(&info.name, e))?;
        let strings = pack.strings();
        let mut is_whole = true;
        let rows = pack.rows(&strings, |entry| {
            is_whole &= slice(&data, entry.at, entry.length).is_some();
            ControlFlow::Continue(())
        });
        match rows {
            Ok(_) if is_whole => {}
            Err(PackError::Io(e)) => return Err(self.pack_error(&info.name, PackError::Io(e))),
            _ => {
                warnings.push(self.damaged_rows(&info.name, "not all of its records can be read"));
                return Ok(None);
            }
        }
        drop(strings);
        let info = info.clone();
        Ok(Some(Old { info, pack, data }))
    }

    /// Writes a pack, synced; `None` when it would be empty.
    fn write_pack(
        &self,
        builder: PackBuilder,
        next: &mut u64,
        replaces: Vec<String>,
    ) -> Result<Option<PackInfo>, SinkError> {
        let name = pack_name(*next);
        let path = self.pack_path(&name);
        let built = builder
            .finish(name, replaces)
            .map_err(|e| SinkError::new(format!("write {}: {e}", path.display())))?;
        let Some((info, parts)) = built else {
            return Ok(None);
        };
        let write = || {
            let mut file = AtomicFile::create(&self.fs, &path)?;
            for part in &parts {
                file.write(part)?;
            }
            file.commit()
        };
        match write() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create("packs")?;
                write().map_err(|e| self.write_error(&e))?;
            }
            written => written.map_err(|e| self.write_error(&e))?,
        }
        *next += 1;
        Ok(Some(info))
    }

    /// Where records are packed already: the place of the pack in the list, and the revision there.
    fn packed(
        &self,
        list: &List,
        claims: &BTreeMap<String, Version>,
        warnings: &mut Vec<String>,
    ) -> Result<BTreeMap<String, (usize, u64)>, SinkError> {
        let mut packed = BTreeMap::new();
        for (place, info) in list.packs.iter().enumerate() {
            if !claims.keys().any(|id| info.may_hold(id)) {
                continue;
            }
            let Some(pack) = self.open_pack(&info.name, warnings)? else {
                continue;
            };
            let strings = pack.strings();
            let rows = pack.rows(&strings, |entry| {
                if claims.contains_key(entry.view.id) {
                    packed.insert(entry.view.id.to_string(), (place, entry.revision));
                }
                ControlFlow::Continue(())
            });
            if let Err(PackError::Io(e)) = rows {
                return Err(self.pack_error(&info.name, PackError::Io(e)));
            }
        }
        Ok(packed)
    }

    /// Puts records into a pack, together with packs that are small or hold older versions of them. How many, and which are
    /// packed now, those included that were before.
    fn pack_claims<'a>(
        &self,
        mut list: List,
        claims: &'a BTreeMap<String, Version>,
        packed: &BTreeMap<String, (usize, u64)>,
        warnings: &mut Vec<String>,
    ) -> Result<(usize, Vec<&'a str>), SinkError> {
        let mut merged = BTreeSet::new();
        let mut size = 0;
        let mut fresh: BTreeMap<&str, &Version> = BTreeMap::new();
        let mut done: Vec<&str> = Vec::new();
        for (id, version) in claims {
            match packed.get(id) {
                Some((_, revision)) if *revision >= version.revision => done.push(id),
                Some((place, _)) => {
                    let records = list.packs.get(*place).map_or(0, |pack| pack.records);
                    if !merged.contains(place) && size > 0 && size + records > 2 * MAX_PACK {
                        // Too much at once; it stays where it is for the next fold.
                        continue;
                    }
                    if merged.insert(*place) {
                        size += records;
                    }
                    fresh.insert(id, version);
                }
                None => {
                    fresh.insert(id, version);
                }
            }
        }
        // Smaller packs join it, as digits are carried when a binary counter is raised.
        let mut total = size + fresh.len();
        if !fresh.is_empty() {
            let mut small: Vec<(usize, usize)> = list
                .packs
                .iter()
                .enumerate()
                .filter(|(place, _)| !merged.contains(place))
                .map(|(place, pack)| (pack.records, place))
                .collect();
            small.sort_unstable();
            for (records, place) in small {
                if records > total || records + total > MAX_PACK {
                    break;
                }
                merged.insert(place);
                total += records;
            }
        }
        let mut olds = Vec::new();
        for place in merged {
            let Some(info) = list.packs.get(place) else {
                continue;
            };
            match self.read_old(info, warnings)? {
                Some(old) => olds.push(old),
                // It must stay as it is, and so must the later versions of what is in it.
                None => fresh.retain(|id, _| packed.get(*id).is_none_or(|(of, _)| *of != place)),
            }
        }
        let count = fresh.len();
        if count > 0 {
            self.merge(&mut list, &olds, &fresh)?;
        }
        done.extend(fresh.keys());
        Ok((count, done))
    }

    /// Writes one pack in place of some, with these records in addition.
    fn merge(
        &self,
        list: &mut List,
        olds: &[Old],
        fresh: &BTreeMap<&str, &Version>,
    ) -> Result<(), SinkError> {
        let strings: Vec<_> = olds.iter().map(|old| old.pack.strings()).collect();
        let mut sources: BTreeMap<&str, Source<'_>> = BTreeMap::new();
        for (old, strings) in olds.iter().zip(&strings) {
            let rows = old.pack.rows(strings, |entry| {
                let line = slice(&old.data, entry.at, entry.length).unwrap_or_default();
                sources.insert(entry.view.id, Source::Packed(Box::new(entry), line));
                ControlFlow::Continue(())
            });
            if let Err(e) = rows {
                return Err(self.pack_error(&old.info.name, e));
            }
        }
        for (id, version) in fresh {
            sources.insert(id, Source::Claim(version));
        }
        let mut builder = PackBuilder::default();
        for source in sources.values() {
            let added = match source {
                Source::Packed(entry, line) => builder.add(&entry.view, entry.revision, line),
                Source::Claim(version) => serde_json::to_vec(&version.record).and_then(|line| {
                    let add = with_view(&version.record, |view| {
                        builder.add(view, version.revision, &line)
                    });
                    // That it says when it began was looked at when it was read.
                    add.unwrap_or(Ok(()))
                }),
            };
            added.map_err(|e| SinkError::new(format!("fold {}: {e}", self.path().display())))?;
        }
        let replaced: Vec<String> = olds.iter().map(|old| old.info.name.clone()).collect();
        let written = self.write_pack(builder, &mut list.next, replaced.clone())?;
        list.packs.retain(|pack| !replaced.contains(&pack.name));
        list.packs.extend(written);
        list.replaced = replaced;
        self.write_list(list)?;
        self.delete_replaced(list)
    }
}
