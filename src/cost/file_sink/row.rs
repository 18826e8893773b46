//! One row of a pack's index, and the one form in which it is written.
//!
//! A report over a million runs reads a million rows, so reading a row is most of what it takes. A general JSON parser asks
//! of each byte what it may mean; here the next byte is known, since [`serde_json`] wrote the row without blanks and in one
//! order. [`Cursor`] reads that form and nothing else. Refuses to judge: what is not in that form, an escape in a string, say,
//! is left to the general parser, which decides what is a row.

use std::ops::Range;

use serde::Deserialize;
use serde::Serialize;

/// One row. Names stand once in the header, so a row refers to them by number; an enum is its place in `ALL`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row<'a>(
    #[serde(borrow)] pub(super) &'a str,
    pub(super) u64,         // 1 revision
    pub(super) i64,         // 2 started
    pub(super) [u8; 4],     // 3 type, status, kind, charged
    pub(super) Option<u32>, // 4 model
    pub(super) Option<u32>, // 5 requested
    pub(super) [u32; 4],    // 6 transport, peer, name, set of tags
    // 7 who counted; input, cache read, cache write, output, reasoning
    pub(super) Option<(u8, [Option<u64>; 5])>,
    #[serde(borrow)] pub(super) Option<&'a str>, // 8 actual
    #[serde(borrow)] pub(super) Option<&'a str>, // 9 worst case
    pub(super) u32,                              // 10 retries
    pub(super) Option<u8>,                       // 11 exit
    pub(super) u64,                              // 12 offset in the data
    pub(super) u32,                              // 13 length there
);

/// The rows of an index, each `None` that cannot be read.
pub(super) struct Rows<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Rows<'a> {
    type Item = Option<Row<'a>>;

    fn next(&mut self) -> Option<Option<Row<'a>>> {
        while let Some((b'\n', rest)) = self.0.split_first() {
            self.0 = rest;
        }
        let mut cursor = Cursor(self.0);
        if let Some(row) = cursor.row().filter(|_| cursor.has(b'\n')) {
            self.0 = cursor.0;
            return Some(Some(row));
        }
        let mut lines = self.0.splitn(2, |byte| *byte == b'\n');
        let line = lines.next().filter(|line| !line.is_empty())?;
        self.0 = lines.next().unwrap_or_default();
        Some(read(line))
    }
}

/// A row by the general parser.
pub(super) fn read(line: &[u8]) -> Option<Row<'_>> {
    serde_json::from_slice(line).ok()
}

/// What is left of a text that is read from the front. A method that returns `None` may have read a part.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// Goes over this byte if it is the next.
    pub(super) fn has(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.has(byte).then_some(())
    }

    /// A string without escapes.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        self.skip(b'"')?;
        let end = self
            .0
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        self.skip(b'"')?;
        std::str::from_utf8(text).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let (first, mut rest) = self.0.split_first()?;
        let mut number = u64::from(first.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        while let Some((byte @ b'0'..=b'9', after)) = rest.split_first() {
            // A zero before other digits is no JSON.
            let shifted = number.checked_mul(10).filter(|shifted| *shifted > 0)?;
            number = shifted.checked_add(u64::from(byte - b'0'))?;
            rest = after;
        }
        self.0 = rest;
        Some(number)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let is_negative = self.has(b'-');
        let number: i64 = self.small()?;
        match is_negative {
            // `-0` is a number with a fraction to the general parser, and the least number is rare.
            true => number.checked_neg().filter(|number| *number < 0),
            false => Some(number),
        }
    }

    fn or_null<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.0.first() != Some(&b'n') {
            return read(self).map(Some);
        }
        self.0 = self.0.strip_prefix(b"null")?;
        Some(None)
    }

    fn list<T: Copy + Default, const N: usize>(
        &mut self,
        read: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<[T; N]> {
        let mut list = [T::default(); N];
        let mut before = b'[';
        for item in &mut list {
            self.skip(before)?;
            *item = read(self)?;
            before = b',';
        }
        self.skip(b']')?;
        Some(list)
    }

    fn usage(&mut self) -> Option<(u8, [Option<u64>; 5])> {
        self.skip(b'[')?;
        let source = self.small()?;
        self.skip(b',')?;
        let counts = self.list(|cursor| cursor.or_null(Cursor::number))?;
        self.skip(b']')?;
        Some((source, counts))
    }

    fn after_comma<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        self.skip(b',')?;
        read(self)
    }

    /// A row in the form in which it is written.
    fn row(&mut self) -> Option<Row<'a>> {
        self.skip(b'[')?;
        let row = Row(
            self.text()?,
            self.after_comma(Cursor::number)?,
            self.after_comma(Cursor::signed)?,
            self.after_comma(|cursor| cursor.list(Cursor::small))?,
            self.after_comma(|cursor| cursor.or_null(Cursor::small))?,
            self.after_comma(|cursor| cursor.or_null(Cursor::small))?,
            self.after_comma(|cursor| cursor.list(Cursor::small))?,
            self.after_comma(|cursor| cursor.or_null(Cursor::usage))?,
            self.after_comma(|cursor| cursor.or_null(Cursor::text))?,
            self.after_comma(|cursor| cursor.or_null(Cursor::text))?,
            self.after_comma(Cursor::small)?,
            self.after_comma(|cursor| cursor.or_null(Cursor::small))?,
            self.after_comma(Cursor::number)?,
            self.after_comma(Cursor::small)?,
        );
        self.skip(b']')?;
        Some(row)
    }
}

/// The labels of a pack's runs: a text, and where in it each key and each value stands.
#[derive(Default)]
pub(super) struct TagSets {
    text: String,
    /// A key, its value, the next key.
    spans: Vec<(usize, usize)>,
    /// Where in `spans` each set ends.
    ends: Vec<usize>,
}

impl TagSets {
    /// Reads `[[["key","value"],...],...]`, which stands in a line from one place to another.
    pub(super) fn read(line: Vec<u8>, place: Range<usize>) -> Result<TagSets, serde_json::Error> {
        let mut sets = TagSets::default();
        let json = line.get(place.clone()).unwrap_or_default();
        let is_plain = sets.plain(json, place.start).is_some();
        let line = match String::from_utf8(line) {
            Ok(text) if is_plain => {
                sets.text = text;
                return Ok(sets);
            }
            Ok(text) => text.into_bytes(),
            Err(other) => other.into_bytes(),
        };
        let json = line.get(place).unwrap_or_default();
        sets = TagSets::default();
        for set in serde_json::from_slice::<Vec<Vec<(String, String)>>>(json)? {
            for text in set.iter().flat_map(|(key, value)| [key, value]) {
                let start = sets.text.len();
                sets.text.push_str(text);
                sets.spans.push((start, sets.text.len()));
            }
            sets.ends.push(sets.spans.len());
        }
        Ok(sets)
    }

    /// Finds where in a text in the form in which it is written each key and each value stands. `None` for any other form.
    fn plain(&mut self, json: &[u8], start: usize) -> Option<()> {
        let mut cursor = Cursor(json);
        cursor.skip(b'[')?;
        while !cursor.has(b']') {
            if !self.ends.is_empty() {
                cursor.skip(b',')?;
            }
            cursor.skip(b'[')?;
            let before = self.spans.len();
            while !cursor.has(b']') {
                if self.spans.len() > before {
                    cursor.skip(b',')?;
                }
                for mark in [b'[', b','] {
                    cursor.skip(mark)?;
                    let length = cursor.text()?.len();
                    // The quote is behind it.
                    let end = start + json.len() - cursor.0.len() - 1;
                    self.spans.push((end - length, end));
                }
                cursor.skip(b']')?;
            }
            self.ends.push(self.spans.len());
        }
        cursor.0.is_empty().then_some(())
    }

    /// The memory of the text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// All keys and values, one set after the other.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        let text = |(start, end): (usize, usize)| self.text.get(start..end).unwrap_or_default();
        let mut pairs = Vec::with_capacity(self.spans.len() / 2);
        let (spans, _) = self.spans.as_chunks::<2>();
        pairs.extend(spans.iter().map(|[key, value]| (text(*key), text(*value))));
        pairs
    }

    /// Where among the pairs a set stands.
    pub(super) fn place(&self, number: u32) -> Option<Range<usize>> {
        let number = usize::try_from(number).ok()?;
        let start = match number.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some(start / 2..self.ends.get(number)? / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(index: &[u8]) -> Vec<Option<Row<'_>>> {
        Rows(index).collect()
    }

    fn by_lines(index: &[u8]) -> Vec<Option<Row<'_>>> {
        let lines = index.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.is_empty()).map(read).collect()
    }

    fn sets(json: &[u8]) -> Option<Vec<Vec<(String, String)>>> {
        let line = [b"{,", json, b"}"].concat();
        let sets = TagSets::read(line, 2..json.len() + 2).ok()?;
        let pairs = sets.pairs();
        let numbers = 0..u32::try_from(sets.ends.len()).unwrap();
        let owned = numbers.map(|number| {
            let set = pairs[sets.place(number).unwrap()].iter();
            set.map(|(key, value)| (key.to_string(), value.to_string()))
                .collect()
        });
        Some(owned.collect())
    }

    type Numbers = (u64, i64, [u8; 4], Option<u32>, [u32; 4], Option<u8>);

    fn written(
        id: &str,
        numbers: &Numbers,
        counts: [Option<u64>; 5],
        usd: Option<&str>,
    ) -> Vec<u8> {
        let (n, signed, words, model, names, exit) = *numbers;
        let used = exit.map(|source| (source, counts));
        let row = Row(
            id, n, signed, words, model, None, names, used, usd, None, names[0], exit, n, 7,
        );
        let mut line = serde_json::to_vec(&row).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn what_is_written_is_read_without_the_general_parser() {
        let numbers = (
            u64::MAX,
            -1,
            [0, 255, 1, 2],
            Some(u32::MAX),
            [0, 1, 2, 3],
            Some(9),
        );
        let line = written(
            "a-1",
            &numbers,
            [Some(1), None, Some(0), Some(u64::MAX), None],
            Some("0.5"),
        );
        let mut cursor = Cursor(&line);
        assert_eq!(cursor.row(), read(&line));
        assert_eq!(cursor.0, b"\n");
        let json = br#"[[["a","b"],["c",""]],[]]"#;
        assert!(TagSets::default().plain(json, 0).is_some());
    }

    #[test]
    fn sets_are_read_in_any_form_of_json() {
        let owned = |sets: &[&[(&str, &str)]]| {
            let own = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
            let sets = sets.iter().map(|set| set.iter().map(own).collect());
            Some(sets.collect())
        };
        for (json, expected) in [
            ("[]", owned(&[])),
            (r#"[[],[["a","b"]],[]]"#, owned(&[&[], &[("a", "b")], &[]])),
            (
                r#"[[["ä","\n"],["c",""]]]"#,
                owned(&[&[("ä", "\n"), ("c", "")]]),
            ),
            (r#" [ [["a","b"]] ]"#, owned(&[&[("a", "b")]])),
            (r#"[[["a","b"]],]"#, None),
            (r#"[[["a","b"],]]"#, None),
            (r#"[[["a"]]]"#, None),
            (r#"[[["a","b"]]"#, None),
            (r#"[[["a","b"]]]x"#, None),
        ] {
            assert_eq!(sets(json.as_bytes()), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn rows_are_read_as_the_general_parser_reads_them(
            id in ".{0,12}",
            numbers in any::<Numbers>(),
            counts in any::<[Option<u64>; 5]>(),
            usd in proptest::option::of("[0-9.\"\\\\]{0,6}"),
            (at, byte) in any::<(usize, u8)>(),
            is_cut in any::<bool>(),
        ) {
            let mut index = written(&id, &numbers, counts, usd.as_deref());
            prop_assert_eq!(rows(&index), by_lines(&index));
            index.extend(written("b", &numbers, counts, None));
            index.extend(written("c", &numbers, counts, None));
            let at = at % index.len();
            index[at] = byte;
            if is_cut {
                index.truncate(at);
            }
            prop_assert_eq!(rows(&index), by_lines(&index));
        }

        #[test]
        fn a_digit_or_a_mark_anywhere_is_judged_alike(
            at in any::<usize>(),
            byte in proptest::sample::select(&b"0123456789-+.,eE[]\"\\n \t"[..]),
        ) {
            let numbers = (10, -20, [0, 1, 2, 3], Some(4), [5, 6, 7, 8], Some(1));
            let mut line = written("a", &numbers, [Some(1), None, Some(0), Some(30), None], Some("0.5"));
            let at = at % line.len();
            line[at] = byte;
            prop_assert_eq!(rows(&line), by_lines(&line));
            line.insert(at, byte);
            prop_assert_eq!(rows(&line), by_lines(&line));
        }

        #[test]
        fn sets_with_any_byte_changed_are_judged_as_the_general_parser_judges_them(
            tags in proptest::collection::vec(proptest::collection::vec((".{0,3}", ".{0,3}"), 0..3), 0..3),
            (at, byte) in any::<(usize, u8)>(),
        ) {
            let mut json = serde_json::to_vec(&tags).unwrap();
            let at = at % json.len();
            json[at] = byte;
            prop_assert_eq!(sets(&json), serde_json::from_slice(&json).ok());
        }
    }
}
