//! The newest records, for whoever must not take long: an estimate before every prompt, say.
//!
//! A report reads everything there is. Here the work is bounded whatever the ledger holds: one listing, so many small files,
//! and the index of one pack. What is left out is older than what is shown, but for records that were packed long after
//! they were made; so it serves for what is expected and not for what was spent.

use std::io;
use std::ops::ControlFlow;

use crate::cost::file_sink::FOLD_AT;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::PackError;
use crate::cost::file_sink::is_id;
use crate::cost::sink::SinkError;
use crate::cost::view::RecordView;
use crate::cost::view::with_view;
use crate::runtime::atomic::FileSystem;

/// The most names that are listed. More than four folds' worth means that none has run; then an arbitrary part is seen.
const MOST_NAMES: usize = 4 * FOLD_AT;

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Shows the newest records: of those not yet packed at most `most_files`, then the pack with the latest beginning. A
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
        let mut warnings = Vec::new();
        for id in ids.iter().rev().take(most_files) {
            if let Some(version) = self.read_or_warn("loose", id, &mut warnings)? {
                with_view(&version.record, &mut *visit);
            }
        }
        let list = self.read_list(&mut warnings)?.unwrap_or_default();
        let Some(newest) = list.packs.iter().max_by_key(|pack| pack.until) else {
            return Ok(());
        };
        let Some(pack) = self.open_pack(&newest.name, &mut warnings)? else {
            return Ok(());
        };
        let strings = pack.strings();
        let rows = pack.rows(&strings, |entry| {
            visit(&entry.view);
            ControlFlow::Continue(())
        });
        match rows {
            Err(PackError::Io(e)) => Err(self.pack_error(&newest.name, PackError::Io(e))),
            Ok(_) | Err(PackError::Damaged(_) | PackError::Newer(_)) => Ok(()),
        }
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
    fn the_newest_files_and_the_newest_pack_are_shown() {
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
        assert_eq!(shown(&sink, 2), "abc");
        let run = SessionCost::open("d", SessionType::Prompt, "2026-11-04T00:00:00Z");
        sink.append(&run).unwrap();
        assert_eq!(shown(&sink, 2), "dabc");
        // Nothing was created, locked or moved for it.
        std::fs::write(path.join("loose/x.json"), "torn").unwrap();
        assert_eq!(shown(&sink, 2), "dabc");
        let _ = std::fs::remove_dir_all(path);
    }
}
