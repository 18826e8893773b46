//! Looking for damage, and putting it aside.
//!
//! Repair never deletes: a damaged file is copied whole into `damaged/` first. What can be read of it stays in the ledger; for
//! the rest there is one new record of status `unknown` with the label [`DAMAGED`], whose bound is what could still be read
//! of theirs. It counts in every budget of its time, and `omk cost clear` and settling by hand work on it as on any other.
//! Without a readable bound its cost is unknown, which a budget must not take for nothing either.
//!
//! Such a record is dated as late as the runs can have begun, at most now: then the budgets of today count it. The order of
//! the steps is copy, new record, new segment: a crash in between leaves the damage where it was, and budgets closed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::MAX_FILE;
use crate::cost::file_sink::UNREADABLE;
use crate::cost::file_sink::Version;
use crate::cost::file_sink::head;
use crate::cost::file_sink::is_id;
use crate::cost::file_sink::segment::Kind;
use crate::cost::file_sink::segment::SUMS;
use crate::cost::file_sink::segment::month_of;
use crate::cost::file_sink::segment::segment_name;
use crate::cost::record::Charge;
use crate::cost::record::SessionCost;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::sink::DAMAGED;
use crate::cost::sink::Damage;
use crate::cost::sink::Notes;
use crate::cost::sink::SinkError;
use crate::cost::sums::Grouping;
use crate::cost::view::Period;
use crate::cost::view::with_view;
use crate::runtime::atomic::FileSystem;
use crate::runtime::clock;
use crate::runtime::crc32c::crc32c;

/// What was found by reading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The files that were read.
    pub files: u64,
    /// The records that are whole.
    pub records: u64,
    /// What was left aside, and what is damaged.
    pub notes: Notes,
}

/// A damaged file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// The file, and what was wrong with it.
    pub damage: Damage,
    /// Where its bytes are now.
    pub to: PathBuf,
    /// The id of the record that stands for the runs that could not be read; `None` if none was lost.
    pub stands_for: Option<String>,
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Reads everything, sums included, and changes nothing.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn verify(&self) -> Result<Verified, SinkError> {
        let mut found = Verified::default();
        let notes = &mut found.notes;
        for directory in ["loose", "folding"] {
            for id in self.names(directory, ".json", notes)? {
                found.files += 1;
                let version = self.read_or_note(directory, &id, notes)?;
                found.records += u64::from(version.is_some());
            }
        }
        for mut stored in self.stored(notes, Period::default())? {
            found.files += 1;
            let (before, mut grouping) = (notes.damage.len(), Grouping::default());
            let _ = self.records(&mut stored, notes, &mut |record, _| {
                let run: SessionCost = serde_json::from_str(record.json).map_err(|_| UNREADABLE)?;
                with_view(&run, |view| grouping.add(view)).ok_or(UNREADABLE)?;
                found.records += 1;
                Ok(ControlFlow::Continue(()))
            })?;
            let is_segment = stored.kind != Kind::Pack;
            let bytes = self.fs.read(&stored.path, MAX_FILE);
            let bytes = bytes.map_err(|e| self.io_error("read", &stored.path, &e))?;
            let data = bytes.get(stored.header_line.len()..).unwrap_or_default();
            let sum = stored.header.as_ref().map(|header| header.data_crc32c);
            if is_segment && notes.damage.len() == before && sum != Some(crc32c(data)) {
                let what = "its lines are not those that were written".to_string();
                notes.damage.push(stored.damage(what, 0, None));
            }
            let path = self.segment_path(&stored.name, SUMS);
            let Ok(kept) = self.fs.read(&path, MAX_FILE) else {
                continue;
            };
            found.files += 1;
            let is_right = self.read_sums(&stored, &kept) == Some(grouping.finish());
            if is_segment && notes.damage.len() == before && !is_right {
                let what = "it does not hold the sums of its segment and is not used".to_string();
                let damage = stored.damage(what, 0, None);
                notes.damage.push(Damage { path, ..damage });
            }
        }
        Ok(found)
    }

    /// Puts what is damaged aside, see the module. `now` dates the records that stand for what was lost.
    ///
    /// # Errors
    ///
    /// The step that failed; what was not put aside is still reported as damage.
    pub fn repair(&self, now: SystemTime) -> Result<(Vec<PutAside>, Vec<String>), SinkError> {
        let mut aside = Vec::new();
        if !self.exists()? {
            return Ok((aside, Vec::new()));
        }
        let _lock = self.lock_patiently()?;
        let mut shelf = self.shelf(&mut Notes::default())?;
        let notes = self.verify()?.notes;
        for damage in notes.damage {
            let name = damage.path.file_name().unwrap_or_default().to_os_string();
            let to = self.directory("damaged").join(name);
            let bytes = self.fs.read(&damage.path, MAX_FILE);
            let bytes = bytes.map_err(|e| self.io_error("read", &damage.path, &e))?;
            self.put(&to, "damaged", &bytes)?;
            let stem = damage.path.file_stem().unwrap_or_default();
            let stem = stem.to_string_lossy().into_owned();
            let directory = damage.path.parent().and_then(Path::file_name);
            let directory = directory.unwrap_or_default().to_string_lossy().into_owned();
            let is_own = directory == "loose" || directory == "folding";
            let id = if is_own {
                stem.clone()
            } else {
                format!("damaged-{stem}")
            };
            let stands_for = (damage.runs > 0 && is_id(&id)).then_some(id);
            if let Some(id) = &stands_for {
                let revision = self.last_revision(id)?.saturating_add(1);
                self.write(&substitute(id, &damage, now), revision)?;
            }
            match directory.as_str() {
                "folding" => self.delete(&damage.path)?,
                "segments" | "packs" => self.rebuild(&damage.path, &mut shelf.next)?,
                _ => {}
            }
            aside.push(PutAside {
                damage,
                to,
                stands_for,
            });
        }
        Ok((aside, notes.warnings))
    }

    /// The greatest revision of a record that can be read anywhere; 0 for none.
    fn last_revision(&self, id: &str) -> Result<u64, SinkError> {
        let mut last = 0;
        for directory in ["loose", "folding"] {
            let version = self.read_version(directory, id);
            last = last.max(version.map_or(0, |version| version.revision));
        }
        for mut stored in self.stored(&mut Notes::default(), Period::default())? {
            let _ = self.records(&mut stored, &mut Notes::default(), &mut |record, _| {
                if head(record)?.id == id {
                    last = last.max(record.revision);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(last)
    }

    /// Writes what can be read of a segment or pack anew, and the sums of a segment that only lacks those.
    fn rebuild(&self, path: &Path, next: &mut u64) -> Result<(), SinkError> {
        let is_sums = path.extension().is_some_and(|ending| ending == "sums");
        let all = self.stored(&mut Notes::default(), Period::default())?;
        let path = if is_sums {
            path.with_extension("jsonl")
        } else {
            path.to_path_buf()
        };
        let Some(mut stored) = all.into_iter().find(|stored| stored.path == path) else {
            return Ok(());
        };
        if is_sums {
            return self.keep_sums(&mut stored);
        }
        let mut months: BTreeMap<String, BTreeMap<String, (u64, Vec<u8>)>> = BTreeMap::new();
        let _ = self.records(&mut stored, &mut Notes::default(), &mut |record, line| {
            let version = Version::read(line.to_vec()).map_err(|_| UNREADABLE)?;
            let month = months.entry(month_of(&version)).or_default();
            month.insert(version.record.id, (record.revision, version.line));
            Ok(ControlFlow::Continue(()))
        })?;
        let is_pack = stored.kind == Kind::Pack;
        for (month, lines) in months {
            let name = segment_name(&month, *next);
            *next += 1;
            match is_pack {
                true => self.write_segment(&name, &lines, Vec::new(), Some(stored.name.clone()))?,
                false => self.write_segment(&name, &lines, vec![stored.name.clone()], None)?,
            };
        }
        self.delete(&stored.path)?;
        self.delete(&self.segment_path(&stored.name, SUMS))?;
        self.sync(if is_pack { "packs" } else { "segments" })
    }
}

/// The record that stands for what could not be read.
fn substitute(id: &str, damage: &Damage, now: SystemTime) -> SessionCost {
    let last = damage
        .began
        .until
        .and_then(|until| until.checked_sub(Duration::from_micros(1)));
    let began = moment_of(id).unwrap_or_else(|| last.map_or(now, |last| last.min(now)));
    let mut run = SessionCost::open(id, SessionType::Prompt, clock::format_rfc3339(began));
    run.ended_at = Some(run.started_at.clone());
    run.status = SessionStatus::Unknown;
    run.charged = Charge::Unknown;
    run.worst_case_usd = damage.bound;
    let file = damage
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    run.name = match damage.runs {
        1 => "a damaged record".to_string(),
        runs => format!("{runs} damaged records"),
    };
    run.tags.insert(DAMAGED.to_string(), file);
    run
}

/// The moment with which an id begins, `20261120T104759`.
fn moment_of(id: &str) -> Option<SystemTime> {
    let part = |range| id.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
    let is_moment = part(8..9)? == "T";
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    clock::parse_rfc3339(&text).ok().filter(|_| is_moment)
}
