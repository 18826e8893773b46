//! Segments: records of one month in a file that is never changed, and their sums beside them.
//!
//! ```text
//! {"format":"omk-ledger-segment","version":2,"crc32c":"...","records":512,"bytes":498123,"data_crc32c":"...",...}
//! {"format":"omk-ledger-record","version":2,"crc32c":"...","revision":2,"record":{...}}
//! ...
//! ```
//!
//! The first line says how many records follow and in how many bytes, so that a file that was cut is noticed before any
//! figure is used. The records are sorted by id.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::catalog::money::Usd;
use crate::cost::budget::Per;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::MAX_FILE;
use crate::cost::file_sink::UNREADABLE;
use crate::cost::file_sink::Version;
use crate::cost::file_sink::head;
use crate::cost::file_sink::line;
use crate::cost::file_sink::line::Flaw;
use crate::cost::file_sink::line::Record;
use crate::cost::file_sink::newer;
use crate::cost::record::SessionCost;
use crate::cost::sink::Damage;
use crate::cost::sink::Notes;
use crate::cost::sink::SinkError;
use crate::cost::sums::Grouped;
use crate::cost::sums::Grouping;
use crate::cost::sums::Sums;
use crate::cost::view::Period;
use crate::cost::view::readable_bound;
use crate::cost::view::with_view;
use crate::runtime::atomic;
use crate::runtime::atomic::AtomicFile;
use crate::runtime::atomic::FileSystem;
use crate::runtime::clock;
use crate::runtime::crc32c::crc32c;

const SEGMENT: &str = "omk-ledger-segment";
const GROUPS: &str = "omk-ledger-sums";
/// The ending of the files with sums.
pub(super) const SUMS: &str = ".sums";
const LINES: &str = ".jsonl";
/// The ending of a pack's name, which omk 0.6.0 wrote.
pub(super) const PACK_ENDING: &str = ".pack";
/// The list of packs, which is now only there to stop omk 0.6.0.
pub(super) const PACK_LIST: &str = "omk-ledger-packs";
/// So often may the segments change while a reader opens them. Each change is a fold of another process, and a fold takes
/// longer than opening some files.
const MAX_CHANGES: usize = 100;
/// A line is longer only where something is wrong: an agent's tool may return megabytes, but no record holds them.
const MAX_LINE: u64 = 1 << 23;

/// Looks at a record and its line; says why when it cannot be used.
pub(super) type Visit<'v> =
    dyn FnMut(&Record<'_>, &[u8]) -> Result<ControlFlow<()>, &'static str> + 'v;

/// What a pack of omk 0.6.0 says of the packs that it replaced.
fn pack_replaced(first_line: &[u8]) -> Vec<String> {
    #[derive(Default, Deserialize)]
    struct Header {
        replaces: Vec<String>,
    }

    let header = serde_json::from_slice::<Header>(first_line).unwrap_or_default();
    let names = header.replaces.iter();
    let stems = names.filter_map(|name| name.strip_suffix(PACK_ENDING));
    stems.map(str::to_string).collect()
}

/// A segment's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) records: u64,
    /// The bytes after this line, and their checksum.
    pub(super) bytes: u64,
    pub(super) data_crc32c: u32,
    /// The least and the greatest id.
    pub(super) first: String,
    pub(super) last: String,
    /// Segments whose records are all in here, as far as they are still wanted.
    pub(super) replaces: Vec<String>,
    /// A pack of omk 0.6.0: while it is there, this segment does not count, since others from that pack may be missing.
    pub(super) after: Option<String>,
}

/// What a file of stored records is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment of this month, such as `2026-11`.
    Segment(String),
    /// A pack of omk 0.6.0.
    Pack,
}

/// A segment or pack that was opened: what happens to its name does not matter any more.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) kind: Kind,
    /// The file's name without its ending.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// `None` for a pack, and when it is damaged.
    pub(super) header: Option<Header>,
    /// What counts no longer because it is in here.
    replaces: Vec<String>,
    pub(super) header_line: Vec<u8>,
    /// The length of the file.
    length: u64,
    file: BufReader<File>,
}

impl Stored {
    /// Whether a record of that id may be in here.
    pub(super) fn may_hold(&self, id: &str) -> bool {
        let header = self.header.as_ref();
        header.is_none_or(|header| header.first.as_str() <= id && id <= header.last.as_str())
    }

    /// The same for ids that begin so.
    pub(super) fn may_hold_prefix(&self, prefix: &str) -> bool {
        self.header.as_ref().is_none_or(|header| {
            header.last.as_str() >= prefix
                && (header.first.as_str() <= prefix || header.first.starts_with(prefix))
        })
    }

    /// Whether first line and length are as they were written. The lines are checked when they are read.
    pub(super) fn has_its_length(&self) -> bool {
        let head = u64::try_from(self.header_line.len()).unwrap_or(u64::MAX);
        let header = self.header.as_ref();
        header.is_some_and(|header| head.checked_add(header.bytes) == Some(self.length))
    }

    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        let header = self.header.as_ref();
        header.map_or(0, |header| {
            usize::try_from(header.records).unwrap_or(usize::MAX)
        })
    }

    /// Damage of it.
    pub(super) fn damage(&self, what: String, runs: u64, bound: Option<Usd>) -> Damage {
        Damage {
            path: self.path.clone(),
            what,
            runs,
            bound,
            began: match &self.kind {
                Kind::Segment(month) => month_period(month),
                Kind::Pack => Period::default(),
            },
        }
    }
}

/// The month in which a run began, such as `2026-11`.
pub(super) fn month_of(version: &Version) -> String {
    let date = clock::format_date(version.started());
    date.rsplit_once('-')
        .map_or(date.clone(), |(month, _)| month.to_string())
}

fn month_period(month: &str) -> Period {
    let first = clock::parse_rfc3339(&format!("{month}-01T00:00:00Z"));
    first.map_or_else(|_| Period::default(), |first| Per::Month.around(first))
}

/// Month and number of a segment's name.
pub(super) fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (month, number) = name.rsplit_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((month, number.parse().ok().filter(|_| is_number)?))
}

pub(super) fn segment_name(month: &str, number: u64) -> String {
    format!("{month}.{number:08}")
}

/// The sums of a segment, and of which one: its first line is different for any other contents.
#[derive(Serialize, Deserialize)]
struct KeptSums<'a> {
    of: &'a str,
    #[serde(borrow)]
    grouped: &'a RawValue,
}

impl<F: FileSystem> JsonFileCostSink<F> {
    pub(super) fn segment_path(&self, name: &str, ending: &str) -> PathBuf {
        self.directory("segments").join(format!("{name}{ending}"))
    }

    /// The segments and packs that count and may hold runs of the period, opened together.
    pub(super) fn stored(
        &self,
        notes: &mut Notes,
        period: Period,
    ) -> Result<Vec<Stored>, SinkError> {
        for _ in 0..MAX_CHANGES {
            let mut odd = Notes::default();
            let Some(mut all) = self.open_all(&mut odd, period)? else {
                continue;
            };
            notes.warnings.append(&mut odd.warnings);
            notes.damage.append(&mut odd.damage);
            let gone = dead(&all);
            all.retain(|stored| !gone.contains(&stored.name));
            return Ok(all);
        }
        Err(SinkError::new(format!(
            "{} changed each time that it was read",
            self.directory("segments").display()
        ))
        .hint("run the command again"))
    }

    /// All that were there at one moment, also those that do not count; `None` when there was no such moment.
    pub(super) fn open_all(
        &self,
        notes: &mut Notes,
        period: Period,
    ) -> Result<Option<Vec<Stored>>, SinkError> {
        let list = |notes: &mut Notes| -> Result<_, SinkError> {
            let packs = self.names("packs", PACK_ENDING, notes)?;
            Ok((self.names("segments", LINES, notes)?, packs))
        };
        let before = list(notes)?;
        let mut all = Vec::new();
        for name in &before.0 {
            let path = self.segment_path(name, LINES);
            let Some((month, _)) = parse_name(name) else {
                let warning = format!("{} is left aside: it is not of the ledger", path.display());
                notes.warnings.push(warning);
                continue;
            };
            if month_period(month).meets(period) {
                all.push((Kind::Segment(month.to_string()), name.clone(), path));
            }
        }
        for name in &before.1 {
            let path = self
                .directory("packs")
                .join(format!("{name}{}", PACK_ENDING));
            all.push((Kind::Pack, name.clone(), path));
        }
        let mut opened = Vec::new();
        for (kind, name, path) in all {
            match self.open_stored(kind, name, &path) {
                Ok(stored) => opened.push(stored?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(self.io_error("read", &path, &e)),
            }
        }
        let is_same = list(&mut Notes::default())? == before;
        Ok(is_same.then_some(opened))
    }

    fn open_stored(
        &self,
        kind: Kind,
        name: String,
        path: &Path,
    ) -> io::Result<Result<Stored, SinkError>> {
        let file = self.fs.open(path)?;
        let length = file.metadata()?.len();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header_line = Vec::new();
        (&mut file)
            .take(MAX_LINE)
            .read_until(b'\n', &mut header_line)?;
        let header: Option<Header> = match line::open(SEGMENT, &header_line) {
            Ok(members) => serde_json::from_str(&format!("{{{members}}}")).ok(),
            Err(Flaw::Newer(version)) => return Ok(Err(newer(path, version))),
            Err(_) => None,
        };
        let replaces = match (&kind, &header) {
            (Kind::Pack, _) => pack_replaced(&header_line),
            (_, Some(header)) => header.replaces.clone(),
            (_, None) => Vec::new(),
        };
        Ok(Ok(Stored {
            kind,
            name,
            path: path.to_path_buf(),
            header,
            replaces,
            header_line,
            length,
            file,
        }))
    }

    /// Shows the records of a segment or pack with their lines. What is damaged is passed over and noted.
    pub(super) fn records(
        &self,
        stored: &mut Stored,
        notes: &mut Notes,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, SinkError> {
        if stored.kind == Kind::Pack {
            return self.pack_records(stored, notes, visit);
        }
        let start = u64::try_from(stored.header_line.len()).unwrap_or(u64::MAX);
        let rewound = stored.file.seek(SeekFrom::Start(start));
        rewound.map_err(|e| self.io_error("read", &stored.path, &e))?;
        let mut flaws = Flaws::default();
        let (mut at, mut line) = (1_u64, Vec::new());
        loop {
            line.clear();
            at += 1;
            let read = (&mut stored.file)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line);
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => return Err(self.io_error("read", &stored.path, &e)),
            }
            let why = match line::open_record(&line) {
                Ok(record) => match visit(&record, &line) {
                    Ok(ControlFlow::Continue(())) => {
                        flaws.good += 1;
                        continue;
                    }
                    Ok(flow) => return Ok(flow),
                    Err(why) => why,
                },
                Err(Flaw::Newer(version)) => return Err(newer(&stored.path, version)),
                Err(Flaw::Damaged(why)) => why,
                Err(Flaw::Old) => UNREADABLE,
            };
            flaws.add(at, why, &line);
        }
        let Some(what) = flaws.describe(stored) else {
            return Ok(ControlFlow::Continue(()));
        };
        let kept = self.kept_sums(stored);
        let records = match (&stored.header, &kept) {
            (Some(header), _) => header.records,
            (None, Some(grouped)) => grouped.total().runs(),
            (None, None) => flaws.good + flaws.bad.max(1),
        };
        let runs = records.saturating_sub(flaws.good);
        let bound = match &kept {
            Some(grouped) => self.bound_beside(stored, grouped)?,
            None => flaws.bound.filter(|_| flaws.bad == runs),
        };
        notes.damage.push(stored.damage(what, runs, bound));
        Ok(ControlFlow::Continue(()))
    }

    /// What the records of a segment that cannot be read come to at most: what all of them did without those that can.
    fn bound_beside(&self, stored: &Stored, all: &Grouped) -> Result<Option<Usd>, SinkError> {
        let bytes = self
            .fs
            .read(&stored.path, MAX_FILE)
            .map_err(|e| self.io_error("read", &stored.path, &e))?;
        let mut readable = Sums::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Ok(record) = line::open_record(line)
                && let Ok(run) = serde_json::from_str::<SessionCost>(record.json)
            {
                with_view(&run, |view| readable.add(view));
            }
        }
        let all = all.total();
        let is_known = all.metered.unpriced == readable.metered.unpriced;
        let total = |sums: &Sums| sums.metered.usd + sums.metered.at_most;
        Ok(total(&all)
            .checked_sub(total(&readable))
            .filter(|_| is_known))
    }

    /// Whether a segment has a version of any of these records.
    pub(super) fn holds_any(
        &self,
        stored: &mut Stored,
        versions: &BTreeMap<String, Version>,
    ) -> Result<bool, SinkError> {
        if !versions.keys().any(|id| stored.may_hold(id)) {
            return Ok(false);
        }
        let flow = self.records(stored, &mut Notes::default(), &mut |record, _| {
            Ok(match versions.contains_key(&*head(record)?.id) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        Ok(flow.is_break())
    }

    /// The sums that were kept of a segment, unless they are missing, damaged or not of this segment.
    pub(super) fn kept_sums(&self, stored: &Stored) -> Option<Grouped> {
        let bytes = self
            .fs
            .read(&self.segment_path(&stored.name, SUMS), MAX_FILE)
            .ok()?;
        self.read_sums(stored, &bytes)
    }

    pub(super) fn read_sums(&self, stored: &Stored, bytes: &[u8]) -> Option<Grouped> {
        let members = line::open(GROUPS, bytes).ok()?;
        let object = format!("{{{members}}}");
        let kept: KeptSums<'_> = serde_json::from_str(&object).ok()?;
        // Without its first line, the name alone must do to say what was lost.
        let is_its = stored.header.is_none() || kept.of == fingerprint(&stored.header_line);
        serde_json::from_str(kept.grouped.get())
            .ok()
            .filter(|_| is_its)
    }

    /// Writes a segment of records by their ids, and then its sums. Its name.
    pub(super) fn write_segment(
        &self,
        name: &str,
        lines: &BTreeMap<String, (u64, Vec<u8>)>,
        replaces: Vec<String>,
        after: Option<String>,
    ) -> Result<Header, SinkError> {
        let mut data = Vec::new();
        let mut grouping = Grouping::default();
        for (_, line) in lines.values() {
            data.extend_from_slice(line);
            if let Ok(record) = line::open_record(line)
                && let Ok(run) = serde_json::from_str(record.json)
            {
                with_view(&run, |view| grouping.add(view));
            }
        }
        let edge = |entry: Option<(&String, _)>| entry.map_or(String::new(), |(id, _)| id.clone());
        let header = Header {
            records: u64::try_from(lines.len()).unwrap_or(u64::MAX),
            bytes: u64::try_from(data.len()).unwrap_or(u64::MAX),
            data_crc32c: crc32c(&data),
            first: edge(lines.first_key_value()),
            last: edge(lines.last_key_value()),
            replaces,
            after,
        };
        let path = self.segment_path(name, LINES);
        let header_line = self.sealed(SEGMENT, &header)?;
        let write = || {
            let mut file = AtomicFile::create(&self.fs, &path)?;
            file.write(header_line.as_bytes())?;
            file.write(&data)?;
            file.commit()
        };
        match write() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.first_segment()?;
                write().map_err(|e| self.write_error(&e))?;
            }
            written => written.map_err(|e| self.write_error(&e))?,
        }
        self.write_sums(name, header_line.as_bytes(), &grouping.finish());
        Ok(header)
    }

    /// Tells omk 0.6.0, which knows of no segments, that this ledger is not for it: it would report too little.
    fn first_segment(&self) -> Result<(), SinkError> {
        self.create("segments")?;
        let bytes = line::seal(PACK_LIST, "\"packs\":[]");
        self.put(
            &self.path().join("packs.json"),
            "segments",
            bytes.as_bytes(),
        )
    }

    fn sealed<T: Serialize>(&self, format: &str, value: &T) -> Result<String, SinkError> {
        let json = serde_json::to_string(value)
            .map_err(|e| SinkError::new(format!("write {}: {e}", self.path().display())))?;
        let members = json
            .strip_prefix('{')
            .and_then(|json| json.strip_suffix('}'));
        Ok(line::seal(format, members.unwrap_or_default()))
    }

    /// Keeps the sums of a segment. They can be made again at any time, so a failure is not worth an error.
    pub(super) fn write_sums(&self, name: &str, header_line: &[u8], grouped: &Grouped) {
        let path = self.segment_path(name, SUMS);
        let _ = serde_json::value::to_raw_value(grouped).map(|grouped| {
            let of = fingerprint(header_line);
            let kept = KeptSums {
                of: &of,
                grouped: &grouped,
            };
            let line = self.sealed(GROUPS, &kept).unwrap_or_default();
            atomic::atomic_write_on(&self.fs, &path, line.as_bytes())
        });
    }

    /// Adds up segments whose sums are missing or cannot be used.
    pub(super) fn keep_sums(&self, stored: &mut Stored) -> Result<(), SinkError> {
        let (mut grouping, mut notes) = (Grouping::default(), Notes::default());
        let _ = self.records(stored, &mut notes, &mut |record, _| {
            let run = serde_json::from_str(record.json).map_err(|_| UNREADABLE)?;
            with_view(&run, |view| grouping.add(view));
            Ok(ControlFlow::Continue(()))
        })?;
        if notes.damage.is_empty() {
            self.write_sums(&stored.name, &stored.header_line, &grouping.finish());
        }
        Ok(())
    }
}

fn fingerprint(header_line: &[u8]) -> String {
    format!("{:08x}", crc32c(header_line))
}

/// The names of what does not count: segments that another one replaced, or whose pack is still there.
pub(super) fn dead(all: &[Stored]) -> Vec<String> {
    let packs = || all.iter().filter(|stored| stored.kind == Kind::Pack);
    let waits = |stored: &&Stored| {
        let after = stored
            .header
            .as_ref()
            .and_then(|header| header.after.as_ref());
        after.is_some_and(|after| packs().any(|pack| pack.name == *after))
    };
    let waiting = all.iter().filter(waits).map(|stored| stored.name.clone());
    let replaced = all
        .iter()
        .flat_map(|stored| stored.replaces.iter().cloned());
    waiting.chain(replaced).collect()
}

/// What is wrong with a segment.
#[derive(Default)]
struct Flaws {
    good: u64,
    bad: u64,
    /// The first line that is damaged, and why.
    first: Option<(u64, &'static str)>,
    /// What the damaged lines still name together.
    bound: Option<Usd>,
}

impl Flaws {
    fn add(&mut self, at: u64, why: &'static str, line: &[u8]) {
        let before = match self.bad {
            0 => Some(Usd::ZERO),
            _ => self.bound,
        };
        self.bound = before
            .zip(readable_bound(line))
            .map(|(sum, more)| sum + more);
        self.bad += 1;
        self.first.get_or_insert((at, why));
    }

    /// `None` when nothing is wrong.
    fn describe(&self, stored: &Stored) -> Option<String> {
        let mut parts = Vec::new();
        match &stored.header {
            None => parts.push("its first line is not what was written".to_string()),
            Some(header) if header.records != self.good + self.bad => parts.push(format!(
                "it has {} of {} lines",
                self.good + self.bad,
                header.records
            )),
            Some(_) if !stored.has_its_length() && self.bad == 0 => {
                parts.push("it does not have the length that was written".to_string());
            }
            Some(_) => {}
        }
        if let Some((at, why)) = self.first {
            let more = match self.bad {
                1 => String::new(),
                bad => format!(", and {} more lines", bad - 1),
            };
            parts.push(format!("line {at}: {why}{more}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
