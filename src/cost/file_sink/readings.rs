//! Readings of balances, kept beside the records: one file each, with a checksum as every line of the ledger has.

use serde_json::Value;

use crate::cost::balance::Reading;
use crate::cost::file_sink::JsonFileCostSink;
use crate::cost::file_sink::MAX_FILE;
use crate::cost::file_sink::is_id;
use crate::cost::file_sink::line;
use crate::cost::sink::SinkError;
use crate::runtime::atomic::FileSystem;

/// The directory, and the format of its files.
const DIRECTORY: &str = "readings";
const FORMAT: &str = "omk-ledger-reading";

impl<F: FileSystem> JsonFileCostSink<F> {
    /// Keeps a reading under this id, which is like a record's.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn keep_reading(&self, id: &str, reading: &Reading) -> Result<(), SinkError> {
        let json = serde_json::to_string(reading).map_err(|e| SinkError::new(e.to_string()))?;
        let line = line::seal(FORMAT, &format!("\"reading\":{json}"));
        let path = self.file(DIRECTORY, id);
        self.put(&path, DIRECTORY, line.as_bytes())
    }

    /// Every reading, oldest first, and a warning for each file that holds none.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn readings(&self) -> Result<(Vec<Reading>, Vec<String>), SinkError> {
        let mut warnings = Vec::new();
        let mut readings = Vec::new();
        let directory = self.directory(DIRECTORY);
        let names = match self.fs.names(&directory, usize::MAX) {
            Ok(names) => names,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(self.io_error("read", &directory, &e)),
        };
        let names = names.iter().map(|name| name.to_string_lossy());
        let mut ids: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_string))
            .filter(|id| is_id(id))
            .collect();
        ids.sort_unstable();
        for id in ids {
            let path = self.file(DIRECTORY, &id);
            let bytes = self.fs.read(&path, MAX_FILE);
            let bytes = bytes.map_err(|e| self.io_error("read", &path, &e))?;
            match read(&bytes) {
                Some(reading) => readings.push(reading),
                None => warnings.push(format!("{} is damaged and is not used", path.display())),
            }
        }
        Ok((readings, warnings))
    }
}

fn read(bytes: &[u8]) -> Option<Reading> {
    let members = line::open(FORMAT, bytes).ok()?;
    let mut value: Value = serde_json::from_str(&format!("{{{members}}}")).ok()?;
    serde_json::from_value(value.get_mut("reading")?.take()).ok()
}
