//! What the store does not have yet: one small file for each run, in the ledger's directory.
//!
//! A file is written before the run is reserved anywhere and removed when the store holds its end. It says how far the run
//! came, so that after a crash it is known whether anything can have been sent.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::cost::record::Owner;
use crate::fleet::document::Hold;
use crate::runtime::atomic;
use crate::runtime::file;
use crate::runtime::text;

const FORMAT: &str = "omk-fleet-item";
const VERSION: u32 = 1;
/// The largest file of a run.
const MAX_ITEM: u64 = 4 * 1024 * 1024;

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It asks the store; nothing was sent.
    Asked,
    /// The store has its reservation.
    Granted,
    /// The store could not be reached, and it was sent without a reservation.
    Offline,
}

/// A run that the store must still hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    format: String,
    version: u32,
    /// The run's id.
    pub run: String,
    /// How far it came.
    pub phase: Phase,
    /// The process that owns it.
    pub owner: Owner,
    /// Its reservation.
    pub hold: Hold,
}

impl Item {
    /// A run that is about to ask.
    pub fn new(run: impl Into<String>, owner: Owner, hold: Hold) -> Item {
        Item {
            format: FORMAT.to_string(),
            version: VERSION,
            run: run.into(),
            phase: Phase::Asked,
            owner,
            hold,
        }
    }
}

/// The files of one fleet.
#[derive(Clone, Debug)]
pub struct Outbox {
    directory: PathBuf,
}

impl Outbox {
    /// The outbox in this directory, which need not be there yet.
    pub fn new(directory: impl Into<PathBuf>) -> Outbox {
        Outbox {
            directory: directory.into(),
        }
    }

    fn path(&self, run: &str) -> PathBuf {
        self.directory.join(format!("{run}.json"))
    }

    /// Writes an item, so that a crash does not take it away again.
    ///
    /// # Errors
    ///
    /// It is as it was before.
    pub fn put(&self, item: &Item) -> io::Result<()> {
        let bytes = serde_json::to_vec(item)?;
        let path = self.path(&item.run);
        let written = atomic::atomic_write(&path, &bytes);
        let written = match written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&self.directory)?;
                atomic::atomic_write(&path, &bytes)
            }
            written => written,
        };
        written.map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// Removes an item; one that is not there is removed.
    ///
    /// # Errors
    ///
    /// It stays.
    pub fn remove(&self, run: &str) -> io::Result<()> {
        match fs::remove_file(self.path(run)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One item.
    pub fn get(&self, run: &str) -> Option<Item> {
        read(&self.path(run)).ok().flatten()
    }

    /// Every item, by id, and what could not be read.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn items(&self) -> io::Result<(Vec<Item>, Vec<String>)> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let (mut items, mut warnings) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(item) => items.extend(item),
                Err(error) => {
                    warnings.push(format!("{} is ignored: {error}", text::escape_os(&path)))
                }
            }
        }
        items.sort_by(|a, b| a.run.cmp(&b.run));
        Ok((items, warnings))
    }
}

/// `None` for a file that went away.
fn read(path: &Path) -> io::Result<Option<Item>> {
    let bytes = match file::read_regular(path, MAX_ITEM) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let item: Item = serde_json::from_slice(&bytes)?;
    if item.format != FORMAT || item.version != VERSION {
        let why = "it is of another format or version";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Some(item))
}

/// Creates a directory that others cannot read.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}
