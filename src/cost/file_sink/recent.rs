//! The newest records, for whoever must not take long: an estimate before every prompt, say.
//!
//! A report reads everything there is. Here the work is bounded whatever the ledger holds: two listings, so many small files,
//! and the ends of the newest segments. What is left out is older than what is shown, but for records that were folded long
//! after they were made; so it serves for what is expected and not for what was spent.

use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use crate::cost::file_sink::FOLD_AT;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::is_id;
use crate::cost::file_sink::line;
use crate::cost::file_sink::line::Flaw;
use crate::cost::file_sink::newer;
use crate::cost::sink::Notes;
use crate::cost::sink::SinkError;
use crate::cost::view::RecordView;
use crate::cost::view::with_view;
use crate::runtime::atomic::FileSystem;

/// The most names that are listed. More than four folds' worth means that none has run; then an arbitrary part is seen.
const MOST_NAMES: usize = 4 * FOLD_AT;
/// The most records of segments that are shown, and where they are looked for.
const MOST_ROWS: usize = 256;
const MOST_SEGMENTS: usize = 3;
const MOST_BYTES: u64 = 1 << 19;

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Shows the newest records: of those not yet folded at most `most_files`, then the last ones of the newest segments. A
    /// record that is being folded at this moment may be shown twice or not at all. What cannot be read is passed over.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read, or is a newer version's.
    pub fn recent(
        &self,
        most_files: usize,
        visit: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<(), SinkError> {
        let loose = self.directory("loose");
        let names = match self.fs.names(&loose, MOST_NAMES) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(self.io_error("read", &loose, &e)),
        };
        let names = names.iter().map(|name| name.to_string_lossy());
        let mut ids: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_string))
            .filter(|id| is_id(id))
            .collect();
        // Ids begin with the time.
        ids.sort_unstable();
        let mut notes = Notes::default();
        for id in ids.iter().rev().take(most_files) {
            if let Some(version) = self.read_or_note("loose", id, &mut notes)? {
                with_view(&version.record, &mut *visit);
            }
        }
        let names = self.names("segments", ".jsonl", &mut notes)?;
        let mut rows = 0;
        // Names begin with the month; within one, a higher number is newer or holds what is newer.
        for name in names.iter().rev().take(MOST_SEGMENTS) {
            if rows < MOST_ROWS {
                rows += self.newest_rows(name, MOST_ROWS - rows, visit)?;
            }
        }
        Ok(())
    }

    /// Shows the records at the end of a segment, the last one first. How many.
    fn newest_rows(
        &self,
        name: &str,
        most: usize,
        visit: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<usize, SinkError> {
        let path = self.segment_path(name, ".jsonl");
        let read = || {
            let mut file = self.fs.open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(MOST_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(self.io_error("read", &path, &e)),
        };
        let mut rows = 0;
        for line in bytes
            .split_inclusive(|byte| *byte == b'\n')
            .rev()
            .take(most)
        {
            match line::open_record(line) {
                Err(Flaw::Newer(version)) => return Err(newer(&path, version)),
                Err(_) => {}
                Ok(record) => {
                    if let Ok(run) = serde_json::from_str(record.json) {
                        with_view(&run, &mut *visit);
                        rows += 1;
                    }
                }
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cost::file_sink::Fold;
    use crate::cost::record::SessionCost;
    use crate::cost::record::SessionStatus;
    use crate::cost::record::SessionType;
    use crate::cost::sink::CostSink;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("omk-recent-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_newest_files_and_the_newest_segments_are_shown() {
        let path = directory("shown");
        let mut sink = JsonFileCostSink::new(&path);
        let shown = |sink: &JsonFileCostSink, most| {
            let mut ids = Vec::new();
            sink.recent(most, &mut |run| ids.push(run.id.to_string()))
                .unwrap();
            ids.join("")
        };
        assert_eq!(shown(&sink, 9), "");
        for (id, day) in [("a", 1), ("b", 2), ("c", 3)] {
            let started = format!("2026-11-0{day}T00:00:00Z");
            let mut run = SessionCost::open(id, SessionType::Prompt, started);
            run.status = SessionStatus::Settled;
            sink.append(&run).unwrap();
        }
        assert_eq!(shown(&sink, 2), "cb");
        sink.fold(Fold::Now).unwrap();
        assert_eq!(shown(&sink, 2), "cba");
        let run = SessionCost::open("d", SessionType::Prompt, "2026-11-04T00:00:00Z");
        sink.append(&run).unwrap();
        assert_eq!(shown(&sink, 2), "dcba");
        // Nothing was created, locked or moved for it.
        std::fs::write(path.join("loose/x.json"), "torn").unwrap();
        assert_eq!(shown(&sink, 2), "dcba");
        let _ = std::fs::remove_dir_all(path);
    }
}
