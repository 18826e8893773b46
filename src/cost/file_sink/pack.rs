//! A pack: many records in one file that is never changed.
//!
//! Three parts. A header of one JSON line says the format, how long the other parts are, and holds the strings that repeat:
//! models, peers, sets of tags. The index has a row for each record, a short JSON array sorted by id with the columns of a
//! [`RecordView`] and the place of the record. The records follow, a JSON line each. A sum reads header and index, a fifth
//! of the bytes, and borrows its strings from them; only who wants a whole record reads further. Refuses a file whose
//! length is not the one that its header tells: a torn pack is noticed before a row of it is counted.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::ControlFlow;

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::money::Usd;
use crate::cost::file_sink::VERSION;
use crate::cost::file_sink::row;
use crate::cost::file_sink::row::Row;
use crate::cost::file_sink::row::Rows;
use crate::cost::file_sink::row::TagSets;
use crate::cost::file_sink::slice;
use crate::cost::record::Charge;
use crate::cost::record::CostKind;
use crate::cost::record::Reservation;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::cost::record::Transport;
use crate::cost::record::Usage;
use crate::cost::record::UsageSource;
use crate::cost::view::RecordView;

const FORMAT: &str = "omk-ledger-pack";
/// A header holds at most the strings of a pack's records; a longer first line is no header.
const MAX_HEADER: u64 = 1 << 28;

/// So many bytes of records are read at once.
const WINDOW: u32 = 1 << 17;

/// What is known of a pack without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackInfo {
    /// The file's name.
    pub(super) name: String,
    /// How many records.
    pub(super) records: usize,
    /// The least id.
    pub(super) first: String,
    /// The greatest id.
    pub(super) last: String,
    /// When the earliest run began, microseconds since 1970.
    pub(super) from: i64,
    /// When the latest did.
    pub(super) until: i64,
}

impl PackInfo {
    /// Whether a record of that id would be in here if it is in a pack at all.
    pub(super) fn may_hold(&self, id: &str) -> bool {
        self.first.as_str() <= id && id <= self.last.as_str()
    }

    /// The same for ids that begin so.
    pub(super) fn may_hold_prefix(&self, prefix: &str) -> bool {
        self.last.as_str() >= prefix
            && (self.first.as_str() <= prefix || self.first.starts_with(prefix))
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    info: PackInfo,
    /// Packs whose records are all in here, as far as they are still wanted.
    replaces: Vec<String>,
    index_bytes: u64,
    data_bytes: u64,
    strings: Vec<String>,
    /// By far the longest part where each run has a label of its own, so it is the last and read by itself.
    #[serde(skip_deserializing)]
    tag_sets: Vec<Vec<(String, String)>>,
}

/// What stands before the sets of tags. A quote within a string has a mark before it, so this is a name and no text.
const TAG_SETS: &[u8] = b",\"tag_sets\":";

/// What every version of the format has in common.
#[derive(Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

/// Why a pack was not read.
#[derive(Debug)]
pub(super) enum PackError {
    /// The system's.
    Io(io::Error),
    /// It is of a later version.
    Newer(u32),
    /// It is torn, or no pack.
    Damaged(String),
}

impl From<io::Error> for PackError {
    fn from(error: io::Error) -> PackError {
        PackError::Io(error)
    }
}

fn damaged(error: impl std::fmt::Display) -> PackError {
    PackError::Damaged(error.to_string())
}

/// A row as it is shown.
pub(super) struct Entry<'a> {
    pub(super) view: RecordView<'a>,
    pub(super) revision: u64,
    /// Where the record stands in the data.
    pub(super) at: u64,
    pub(super) length: u32,
}

/// The memory of a pack that was read, for the next one. To give ten megabytes back to the system and to ask for them again,
/// pack by pack, takes as long as to read them.
#[derive(Default)]
pub(super) struct Spare {
    line: Vec<u8>,
    index: Vec<u8>,
}

/// A pack's header and index in memory, and its file.
pub(super) struct Pack {
    header: Header,
    tag_sets: TagSets,
    index: Vec<u8>,
    data_at: u64,
    file: File,
}

impl Pack {
    /// Reads header and index.
    pub(super) fn read(file: File, spare: Spare) -> Result<Pack, PackError> {
        let Spare {
            mut line,
            mut index,
        } = spare;
        line.clear();
        index.clear();
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        (&mut reader)
            .take(MAX_HEADER)
            .read_until(b'\n', &mut line)?;
        let place = line
            .windows(TAG_SETS.len())
            .position(|part| part == TAG_SETS);
        // The object without them, which has to be closed then.
        let mut start = line
            .get(..place.unwrap_or(line.len()))
            .unwrap_or_default()
            .to_vec();
        start.extend(place.map(|_| b'}'));
        let mark: Mark = serde_json::from_slice(&start).map_err(damaged)?;
        if mark.format != FORMAT {
            return Err(PackError::Damaged(format!(
                "its format is \"{}\"",
                mark.format
            )));
        }
        if mark.version > VERSION {
            return Err(PackError::Newer(mark.version));
        }
        let header: Header = serde_json::from_slice(&start).map_err(damaged)?;
        let head = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let told = head
            .checked_add(header.index_bytes)
            .and_then(|sum| sum.checked_add(header.data_bytes));
        if told != Some(length) {
            return Err(PackError::Damaged(format!(
                "it has {length} bytes, its header tells of {}",
                told.unwrap_or(u64::MAX)
            )));
        }
        let from = place.map_or(line.len(), |place| place + TAG_SETS.len());
        let to = line.len() - usize::from(line.ends_with(b"}\n")) * 2;
        let tag_sets = TagSets::read(line, from..to.max(from)).map_err(damaged)?;
        (&mut reader)
            .take(header.index_bytes)
            .read_to_end(&mut index)?;
        Ok(Pack {
            data_at: head + header.index_bytes,
            header,
            tag_sets,
            index,
            file: reader.into_inner(),
        })
    }

    /// What the next one may use.
    pub(super) fn into_spare(self) -> Spare {
        Spare {
            line: self.tag_sets.into_bytes(),
            index: self.index,
        }
    }

    pub(super) fn info(&self) -> &PackInfo {
        &self.header.info
    }

    pub(super) fn replaces(&self) -> &[String] {
        &self.header.replaces
    }

    /// The header's strings, laid out for rows to borrow from.
    pub(super) fn strings(&self) -> Strings<'_> {
        Strings {
            strings: &self.header.strings,
            tag_sets: &self.tag_sets,
            tags: self.tag_sets.pairs(),
        }
    }

    /// Shows each row until the visitor has enough. Rows that cannot be read are passed over and told of at the end.
    pub(super) fn rows<'a>(
        &'a self,
        strings: &'a Strings<'a>,
        mut visit: impl FnMut(Entry<'a>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, PackError> {
        let mut seen = 0;
        for row in Rows(&self.index) {
            if let Some(entry) = row.and_then(|row| strings.entry(row)) {
                seen += 1;
                if visit(entry).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        let records = self.header.info.records;
        if seen == records {
            Ok(ControlFlow::Continue(()))
        } else {
            Err(PackError::Damaged(format!(
                "{seen} of its {records} records can be read"
            )))
        }
    }

    /// Shows the rows with the greatest ids, so many at most, the greatest first. Rows that cannot be read are passed over.
    pub(super) fn newest_rows<'a>(
        &'a self,
        strings: &'a Strings<'a>,
        most: usize,
        mut visit: impl FnMut(Entry<'a>),
    ) {
        let lines = self.index.rsplit(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()).take(most) {
            if let Some(entry) = row::read(line).and_then(|row| strings.entry(row)) {
                visit(entry);
            }
        }
    }

    /// The bytes of one record.
    pub(super) fn record(&self, at: u64, length: u32) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_at.saturating_add(at)))?;
        let mut bytes = Vec::new();
        file.take(u64::from(length)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The records, to be read in about their order.
    pub(super) fn data_window(&self) -> Window<'_> {
        Window {
            pack: self,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes of all records.
    pub(super) fn data(&self) -> Result<Vec<u8>, PackError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A part of the records in memory: most of them are wanted one after the other, or few are.
pub(super) struct Window<'a> {
    pack: &'a Pack,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes of one record; fewer where the file has no more.
    pub(super) fn line(&mut self, at: u64, length: u32) -> io::Result<&[u8]> {
        let is_here = |window: &Self| {
            let place = at.checked_sub(window.at)?;
            slice(&window.bytes, place, length).map(|_| place)
        };
        let place = match is_here(self) {
            Some(place) => place,
            None => {
                self.bytes = self.pack.record(at, length.max(WINDOW))?;
                self.at = at;
                0
            }
        };
        Ok(slice(&self.bytes, place, length).unwrap_or_default())
    }
}

/// See [`Pack::strings`].
pub(super) struct Strings<'a> {
    strings: &'a [String],
    tag_sets: &'a TagSets,
    tags: Vec<(&'a str, &'a str)>,
}

impl<'a> Strings<'a> {
    fn text(&'a self, number: u32) -> Option<&'a str> {
        let text = self.strings.get(usize::try_from(number).ok()?)?;
        Some(text.as_str())
    }

    /// `None` when the row refers to what is not there.
    fn entry(&'a self, row: Row<'a>) -> Option<Entry<'a>> {
        let Row(id, revision, started_micros, words, model, requested, names, usage, ..) = row;
        let [session_type, status, kind, charged] = words;
        let [transport, peer, name, tags] = names;
        let name_of = |number: Option<u32>| match number {
            Some(number) => self.text(number).map(Some),
            None => Some(None),
        };
        let amount = |text: Option<&str>| match text {
            Some(text) => Usd::parse(text).ok().map(Some),
            None => Some(None),
        };
        let usage = match usage {
            Some((source, [input, cache_read, cache_write, output, reasoning])) => Some(Usage {
                input,
                cache_read,
                cache_write,
                output,
                reasoning,
                source: *UsageSource::ALL.get(usize::from(source))?,
                unreported: 0,
            }),
            None => None,
        };
        let view = RecordView {
            id,
            session_type: *SessionType::ALL.get(usize::from(session_type))?,
            name: self.text(name)?,
            started_micros,
            status: *SessionStatus::ALL.get(usize::from(status))?,
            requested: name_of(requested)?,
            model: name_of(model)?,
            transport: match self.text(transport)? {
                "" => None,
                name => Some(name.parse().ok()?),
            },
            peer: self.text(peer)?,
            usage,
            worst_case_usd: amount(row.9)?,
            // Only what is over is packed, and of that nothing is reserved.
            reservation: Reservation::Granted,
            actual_usd: amount(row.8)?,
            kind: *CostKind::ALL.get(usize::from(kind))?,
            charged: *Charge::ALL.get(usize::from(charged))?,
            retries: row.10,
            exit: row.11,
            tags: self.tags.get(self.tag_sets.place(tags)?)?,
            owner: None,
        };
        Some(Entry {
            view,
            revision,
            at: row.12,
            length: row.13,
        })
    }
}

/// Header, index and records, as they follow one another in the file.
pub(super) type Parts = [Vec<u8>; 3];

/// Writes a pack, record by record in ascending order of their ids.
#[derive(Default)]
pub(super) struct PackBuilder {
    info: Option<PackInfo>,
    strings: Vec<String>,
    numbers: HashMap<String, u32>,
    tag_sets: Vec<Vec<(String, String)>>,
    sets: HashMap<Vec<(String, String)>, u32>,
    index: Vec<u8>,
    data: Vec<u8>,
}

impl PackBuilder {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        self.strings.push(text.to_string());
        self.numbers.insert(text.to_string(), number);
        number
    }

    fn tag_set(&mut self, tags: &[(&str, &str)]) -> u32 {
        let set = tags.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let set: Vec<_> = set.collect();
        if let Some(number) = self.sets.get(&set) {
            return *number;
        }
        let number = u32::try_from(self.tag_sets.len()).unwrap_or(u32::MAX);
        self.tag_sets.push(set.clone());
        self.sets.insert(set, number);
        number
    }

    /// Adds a record; `line` is its JSON.
    pub(super) fn add(
        &mut self,
        view: &RecordView<'_>,
        revision: u64,
        line: &[u8],
    ) -> Result<(), serde_json::Error> {
        let place = |place: Option<usize>| {
            place
                .and_then(|place| u8::try_from(place).ok())
                .unwrap_or(u8::MAX)
        };
        let words = [
            place(
                SessionType::ALL
                    .iter()
                    .position(|x| *x == view.session_type),
            ),
            place(SessionStatus::ALL.iter().position(|x| *x == view.status)),
            place(CostKind::ALL.iter().position(|x| *x == view.kind)),
            place(Charge::ALL.iter().position(|x| *x == view.charged)),
        ];
        let usage = view.usage.map(|usage| {
            (
                place(UsageSource::ALL.iter().position(|x| *x == usage.source)),
                [
                    usage.input,
                    usage.cache_read,
                    usage.cache_write,
                    usage.output,
                    usage.reasoning,
                ],
            )
        });
        let names = [
            self.number(view.transport.map_or("", Transport::name)),
            self.number(view.peer),
            self.number(view.name),
            self.tag_set(view.tags),
        ];
        let actual = view.actual_usd.map(Usd::exact_decimal);
        let worst = view.worst_case_usd.map(Usd::exact_decimal);
        let row = Row(
            view.id,
            revision,
            view.started_micros,
            words,
            view.model.map(|model| self.number(model)),
            view.requested.map(|model| self.number(model)),
            names,
            usage,
            actual.as_deref(),
            worst.as_deref(),
            view.retries,
            view.exit,
            u64::try_from(self.data.len()).unwrap_or(u64::MAX),
            u32::try_from(line.len()).unwrap_or(u32::MAX),
        );
        serde_json::to_writer(&mut self.index, &row)?;
        self.index.push(b'\n');
        self.data.extend_from_slice(line);
        self.data.push(b'\n');
        let started = view.started_micros;
        match &mut self.info {
            Some(info) => {
                info.records += 1;
                info.last = view.id.to_string();
                info.from = info.from.min(started);
                info.until = info.until.max(started);
            }
            None => {
                self.info = Some(PackInfo {
                    name: String::new(),
                    records: 1,
                    first: view.id.to_string(),
                    last: view.id.to_string(),
                    from: started,
                    until: started,
                });
            }
        }
        Ok(())
    }

    /// The parts of the file, which are too long to be copied into one, and what to list of it; `None` when nothing was added.
    pub(super) fn finish(
        self,
        name: String,
        replaces: Vec<String>,
    ) -> Result<Option<(PackInfo, Parts)>, serde_json::Error> {
        let Some(info) = self.info else {
            return Ok(None);
        };
        let length = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let header = Header {
            format: FORMAT.to_string(),
            version: VERSION,
            info: PackInfo { name, ..info },
            replaces,
            index_bytes: length(&self.index),
            data_bytes: length(&self.data),
            strings: self.strings,
            tag_sets: self.tag_sets,
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        Ok(Some((header.info, [line, self.index, self.data])))
    }
}
