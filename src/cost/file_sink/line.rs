//! A line of the ledger: a JSON object that carries the checksum of what it says.
//!
//! ```text
//! {"format":"omk-ledger-record","version":2,"crc32c":"9ae0daaf","revision":3,"record":{...}}
//! ```
//!
//! The checksum is of everything between the comma after it and the last brace. What stands before it and after it has one
//! form, so a change anywhere in the line is noticed. A record keeps its line for life: a fold copies it from the record's
//! own file into a segment, and nothing in between computes a checksum of what it may have damaged itself.

use serde::Deserialize;

use crate::cost::file_sink::VERSION;
use crate::runtime::crc32c::crc32c;

/// The format of a record's line.
pub(super) const RECORD: &str = "omk-ledger-record";

/// Why a line cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is of a later version.
    Newer(u32),
    /// It is of the version of omk 0.6.0, which had no checksums.
    Old,
    /// It is not what was written; says why.
    Damaged(&'static str),
}

/// What the lines of every version have in common.
#[derive(Deserialize)]
struct Mark<'a> {
    format: &'a str,
    version: u32,
}

/// A record as its line holds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Which version of the record it is, ascending.
    pub(super) revision: u64,
    /// The record's JSON.
    pub(super) json: &'a str,
}

fn start(format: &str) -> String {
    format!("{{\"format\":\"{format}\",\"version\":{VERSION},\"crc32c\":\"")
}

/// A line of some format. `members` are those of a JSON object, without its braces.
pub(super) fn seal(format: &str, members: &str) -> String {
    let crc = crc32c(members.as_bytes());
    format!("{}{crc:08x}\",{members}}}\n", start(format))
}

/// The members of a line that is whole.
pub(super) fn open<'a>(format: &str, line: &'a [u8]) -> Result<&'a str, Flaw> {
    let Some(rest) = line.strip_prefix(start(format).as_bytes()) else {
        return Err(other(format, line));
    };
    let Some(rest) = rest.strip_suffix(b"}\n") else {
        return Err(Flaw::Damaged("it is cut short"));
    };
    let whole = rest.split_at_checked(8).and_then(|(crc, rest)| {
        let members = rest.strip_prefix(b"\",")?;
        let expected = format!("{:08x}", crc32c(members));
        let text = std::str::from_utf8(members).ok()?;
        (crc == expected.as_bytes()).then_some(text)
    });
    whole.ok_or(Flaw::Damaged("its checksum does not match"))
}

/// Why a line does not begin as it should.
fn other(format: &str, line: &[u8]) -> Flaw {
    match serde_json::from_slice::<Mark<'_>>(line) {
        Ok(mark) if mark.format == format && mark.version > VERSION => Flaw::Newer(mark.version),
        Ok(mark) if mark.format == format && mark.version == 1 => Flaw::Old,
        _ if line.is_empty() => Flaw::Damaged("it is empty"),
        _ => Flaw::Damaged("it does not begin as a line of the ledger does"),
    }
}

/// The line of a record.
pub(super) fn seal_record(revision: u64, json: &str) -> String {
    seal(
        RECORD,
        &format!("\"revision\":{revision},\"record\":{json}"),
    )
}

/// The record of a line that is whole.
pub(super) fn open_record(line: &[u8]) -> Result<Record<'_>, Flaw> {
    let members = open(RECORD, line)?;
    let record = members.strip_prefix("\"revision\":").and_then(|rest| {
        let (revision, json) = rest.split_once(",\"record\":")?;
        let revision = revision.parse().ok()?;
        Some(Record { revision, json })
    });
    record.ok_or(Flaw::Damaged("it holds no record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_no_changed_bit_goes_unnoticed() {
        let line = seal_record(7, "{\"id\":\"a\"}").into_bytes();
        let record = Record {
            revision: 7,
            json: "{\"id\":\"a\"}",
        };
        assert_eq!(open_record(&line), Ok(record));
        for at in 0..line.len() {
            assert!(open_record(&line[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = line.clone();
                flipped[at] ^= 1 << bit;
                assert!(open_record(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn other_versions_are_told_apart_from_damage() {
        let line = |version| format!("{{\"format\":\"{RECORD}\",\"version\":{version},\"x\":1}}\n");
        assert_eq!(open_record(line(1).as_bytes()), Err(Flaw::Old));
        assert_eq!(open_record(line(3).as_bytes()), Err(Flaw::Newer(3)));
        for other in [
            line(0),
            line(-1),
            line(3).replace("record", "pack"),
            String::new(),
        ] {
            assert!(
                matches!(open_record(other.as_bytes()), Err(Flaw::Damaged(_))),
                "{other}"
            );
        }
    }
}
