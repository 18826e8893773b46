//! Tables on disk, so that the memory of a batch does not grow with it: rows of three numbers in a file without a name.
//!
//! An id stands in a table by its hash. Joins go through a table several times, each time for a part of the hashes that
//! fits into `PART` entries of memory.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a row.
const ROW: usize = 24;
/// Rows are written in pieces of so many bytes.
const PIECE: usize = 48 * 1024;
/// Hashes looked at in one pass: about 4 MB of memory.
const PART: u64 = 1 << 17;

/// The hash of an id, the same in every process of one version of omk.
pub fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// A file without a name in this directory, for this user alone. It is gone with the process, however that ends.
///
/// # Errors
///
/// The directory cannot be written.
pub fn scratch(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = directory.join(format!(".omk-batch-{}-{number}", std::process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Rows of three numbers in a file.
#[derive(Debug)]
pub struct Table {
    file: File,
    /// Rows in the file.
    written: u64,
    /// Rows that are not in it yet.
    buffer: Vec<u8>,
}

impl Table {
    /// An empty table in an empty file.
    pub fn new(file: File) -> Table {
        Table {
            file,
            written: 0,
            buffer: Vec::new(),
        }
    }

    /// How many rows it has.
    pub fn len(&self) -> u64 {
        let waiting = u64::try_from(self.buffer.len() / ROW).unwrap_or(0);
        self.written.saturating_add(waiting)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn push(&mut self, row: [u64; 3]) -> io::Result<()> {
        for number in row {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
        match self.buffer.len() >= PIECE {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes a row at a place of a table that has no fixed length; rows that were left out are zero.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn set(&mut self, place: u64, row: [u64; 3]) -> io::Result<()> {
        self.flush()?;
        self.file.seek(SeekFrom::Start(offset(place)))?;
        let bytes: Vec<u8> = row.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.file.write_all(&bytes)?;
        self.written = self.written.max(place.saturating_add(1));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let added = self.len();
        self.file.seek(SeekFrom::Start(offset(self.written)))?;
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.written = added;
        Ok(())
    }

    /// The row at this place.
    ///
    /// # Errors
    ///
    /// There is none, or the file cannot be read.
    pub fn get(&mut self, place: u64) -> io::Result<[u64; 3]> {
        self.flush()?;
        self.file.seek(SeekFrom::Start(offset(place)))?;
        let mut bytes = [0; ROW];
        self.file.read_exact(&mut bytes)?;
        Ok(numbers(&bytes))
    }

    /// Hands every row over, with its place.
    ///
    /// # Errors
    ///
    /// The file cannot be read, and whatever `take` returns.
    pub fn scan(
        &mut self,
        take: &mut dyn FnMut(u64, [u64; 3]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.flush()?;
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(PIECE, &self.file);
        for place in 0..self.written {
            let mut bytes = [0; ROW];
            reader.read_exact(&mut bytes)?;
            take(place, numbers(&bytes))?;
        }
        Ok(())
    }

    fn parts(&self) -> u64 {
        self.len() / PART + 1
    }

    /// Pairs of places whose rows begin with the same hash, at most so many; each with the first place of that hash.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn repeated(&mut self, most: usize) -> io::Result<Vec<(u64, u64)>> {
        let parts = self.parts();
        let mut found = Vec::new();
        for part in 0..parts {
            let mut first = HashMap::new();
            self.scan(&mut |place, [hash, ..]| {
                if hash % parts == part {
                    let known = *first.entry(hash).or_insert(place);
                    if known != place && found.len() < most {
                        found.push((known, place));
                    }
                }
                Ok(())
            })?;
        }
        found.sort_by_key(|(_, place)| *place);
        Ok(found)
    }

    /// Hands over each row of `events` whose hash stands in this table too, with its place here. Those of one hash come in
    /// their order.
    ///
    /// # Errors
    ///
    /// A file cannot be read, and whatever `take` returns.
    pub fn join(
        &mut self,
        events: &mut Table,
        take: &mut dyn FnMut(u64, [u64; 3]) -> io::Result<()>,
    ) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let parts = self.parts();
        for part in 0..parts {
            let mut places = HashMap::new();
            self.scan(&mut |place, [hash, ..]| {
                if hash % parts == part {
                    places.insert(hash, place);
                }
                Ok(())
            })?;
            events.scan(&mut |_, row| {
                let [hash, ..] = row;
                match places.get(&hash) {
                    Some(place) => take(*place, row),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }
}

fn offset(place: u64) -> u64 {
    let row = u64::try_from(ROW).unwrap_or(0);
    place.saturating_mul(row)
}

fn numbers(bytes: &[u8; ROW]) -> [u64; 3] {
    let (chunks, _) = bytes.as_chunks::<8>();
    let mut numbers = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(scratch(&std::env::temp_dir()).unwrap())
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_in_any_order() {
        let mut table = table();
        for number in 0..5_000 {
            table.push([number, number * 2, u64::MAX - number]).unwrap();
        }
        assert_eq!(table.len(), 5_000);
        assert_eq!(table.get(4_999).unwrap(), [4_999, 9_998, u64::MAX - 4_999]);
        assert_eq!(table.get(0).unwrap(), [0, 0, u64::MAX]);
        table.push([7, 7, 7]).unwrap();
        table.set(1, [9, 9, 9]).unwrap();
        let mut sum = 0;
        table
            .scan(&mut |place, [first, ..]| {
                sum += u64::from(place == first);
                Ok(())
            })
            .unwrap();
        assert_eq!((sum, table.len()), (4_999, 5_001));
        assert!(table.get(5_001).is_err());
    }

    #[test]
    fn repeated_ids_are_found_in_every_part() {
        let mut table = table();
        let count = PART * 2 + 10;
        for number in 0..count {
            table.push([hash(&number.to_string()), number, 0]).unwrap();
        }
        assert_eq!(table.repeated(9).unwrap(), []);
        for number in [5, PART + 5, 5] {
            table.push([hash(&number.to_string()), number, 0]).unwrap();
        }
        let expected = [(5, count), (PART + 5, count + 1), (5, count + 2)];
        assert_eq!(table.repeated(9).unwrap(), expected);
        assert_eq!(table.repeated(1).unwrap().len(), 1);
    }

    #[test]
    fn events_reach_their_places_in_order() {
        let (mut table, mut events) = (table(), table());
        let count = PART + 3;
        for number in 0..count {
            table.push([hash(&number.to_string()), number, 0]).unwrap();
        }
        for (id, state) in [("3", 1), ("x", 1), ("131073", 1), ("3", 2)] {
            events.push([hash(id), state, 0]).unwrap();
        }
        let mut found = Vec::new();
        let mut take = |place, [_, state, _]: [u64; 3]| {
            found.push((place, state));
            Ok(())
        };
        table.join(&mut events, &mut take).unwrap();
        found.sort_by_key(|(place, _)| *place);
        assert_eq!(found, [(3, 1), (3, 2), (131_073, 1)]);
    }
}
