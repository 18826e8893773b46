//! What omk 0.6.0 wrote, for reading: records without a checksum, and packs.
//!
//! A pack has a first line that says how many records it has, a line for each with its columns, `["ID",REVISION,...]`, and a
//! line for each with the whole record. All that is needed of the columns is the revision. The first fold turns packs into
//! segments, see [`JsonFileCostSink::convert_packs`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::MAX_FILE;
use crate::cost::file_sink::MAX_SEGMENT;
use crate::cost::file_sink::Version;
use crate::cost::file_sink::line;
use crate::cost::file_sink::line::Record;
use crate::cost::file_sink::newer;
use crate::cost::file_sink::segment::Kind;
use crate::cost::file_sink::segment::Stored;
use crate::cost::file_sink::segment::Visit;
use crate::cost::file_sink::segment::month_of;
use crate::cost::file_sink::segment::segment_name;
use crate::cost::sink::Notes;
use crate::cost::sink::SinkError;
use crate::runtime::atomic::FileSystem;

const PACK: &str = "omk-ledger-pack";

/// A record's own file.
#[derive(Deserialize)]
pub(super) struct Loose<'a> {
    pub(super) revision: u64,
    #[serde(borrow)]
    pub(super) record: &'a RawValue,
}

#[derive(Deserialize)]
struct Mark<'a> {
    format: &'a str,
    version: u32,
}

#[derive(Deserialize)]
struct Info {
    records: u64,
}

#[derive(Deserialize)]
struct Header {
    info: Info,
    index_bytes: u64,
    data_bytes: u64,
}

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Shows the records of a pack, each in the line that it would have today.
    pub(super) fn pack_records(
        &self,
        stored: &Stored,
        notes: &mut Notes,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, SinkError> {
        let bytes = self
            .fs
            .read(&stored.path, MAX_FILE)
            .map_err(|e| self.io_error("read", &stored.path, &e))?;
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        if let Ok(mark) = serde_json::from_slice::<Mark<'_>>(first)
            && mark.format == PACK
            && mark.version > 1
        {
            return Err(newer(&stored.path, mark.version));
        }
        let header = serde_json::from_slice::<Header>(first).ok();
        let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
        let mut good = 0;
        for line in lines {
            if line.starts_with(b"[") {
                // The columns after the first two are in the record as well.
                if let Ok(columns) = serde_json::from_slice::<Vec<&RawValue>>(line)
                    && let [id, revision, ..] = &columns[..]
                    && let Ok(id) = serde_json::from_str(id.get())
                    && let Ok(revision) = revision.get().parse()
                {
                    revisions.insert(id, revision);
                }
                continue;
            }
            let Ok(run) = serde_json::from_slice::<crate::cost::file_sink::Head<'_>>(line) else {
                continue;
            };
            let (Some(revision), Ok(json)) = (revisions.get(&*run.id), std::str::from_utf8(line))
            else {
                continue;
            };
            let revision = *revision;
            let line = line::seal_record(revision, json);
            match visit(&Record { revision, json }, line.as_bytes()) {
                Ok(ControlFlow::Continue(())) => good += 1,
                Ok(flow) => return Ok(flow),
                Err(_) => {}
            }
        }
        let head = u64::try_from(first.len() + 1).unwrap_or(u64::MAX);
        let told = header.as_ref().map(|header| {
            let rest = header.index_bytes.saturating_add(header.data_bytes);
            (header.info.records, rest.saturating_add(head))
        });
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if told != Some((good, length)) {
            let records = told.map_or(good, |(records, _)| records);
            let what = format!("it is no whole pack; {good} of {records} records can be read");
            let lost = records.saturating_sub(good).max(1);
            notes.damage.push(stored.damage(what, lost, None));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Turns packs into segments. Those of one pack count from the moment that the pack is deleted, all of them at once.
    pub(super) fn convert_packs(
        &self,
        all: &mut [Stored],
        next: &mut u64,
        notes: &mut Notes,
    ) -> Result<(), SinkError> {
        for pack in all.iter_mut().filter(|stored| stored.kind == Kind::Pack) {
            let mut months: BTreeMap<String, BTreeMap<String, (u64, Vec<u8>)>> = BTreeMap::new();
            let before = notes.damage.len();
            let _ = self.records(pack, notes, &mut |record, line| {
                let version = Version::read(line.to_vec()).map_err(|_| super::UNREADABLE)?;
                let month = months.entry(month_of(&version)).or_default();
                month.insert(version.record.id, (record.revision, version.line));
                Ok(ControlFlow::Continue(()))
            })?;
            if notes.damage.len() > before {
                // It stays as it is until it is repaired.
                continue;
            }
            for (month, mut lines) in months {
                while !lines.is_empty() {
                    let rest = lines.keys().nth(MAX_SEGMENT).cloned();
                    let rest = rest.map_or_else(BTreeMap::new, |id| lines.split_off(&id));
                    let name = segment_name(&month, *next);
                    *next += 1;
                    self.write_segment(&name, &lines, Vec::new(), Some(pack.name.clone()))?;
                    lines = rest;
                }
            }
            self.delete(&pack.path)?;
            self.sync("packs")?;
        }
        Ok(())
    }
}
