//! A piece longer than any buffer: a gigabyte of one letter is one piece, and is counted in
//! bounded memory all the same.
//!
//! What a run of characters still belongs to can stay open for as long as the run lasts. White
//! space breaks after its last line end, a word after the last character that can play its
//! lower-case part, and a gigabyte may pass before it is known whether there is another one. So
//! the run is counted both ways at once: as one piece, and as what is certain followed by a piece
//! of its own. When another line end comes, the second count is dropped and starts anew.

use crate::tokens::class;
use crate::tokens::class::LETTER;
use crate::tokens::class::LINE_END;
use crate::tokens::class::LOWER;
use crate::tokens::class::NUMBER;
use crate::tokens::class::SPACE;
use crate::tokens::class::UPPER;
use crate::tokens::merge::Lengths;
use crate::tokens::merge::Merger;
use crate::tokens::split;
use crate::tokens::split::Run;

/// Sizes at which the stream changes its ways; tests shrink them to meet every border.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// An undecided piece of this many bytes becomes a [`LongRun`].
    pub(crate) run_at: usize,
    /// A run holds this many bytes before it drops what is settled.
    pub(crate) settle_at: usize,
}

/// The encoding of a piece that keeps growing, without what no continuation can change.
#[derive(Debug, Default)]
struct Growing {
    bytes: Vec<u8>,
    lengths: Lengths,
    settled: u64,
    /// How many bytes to hold before looking for a settled border again.
    look_at: usize,
}

impl Growing {
    /// Takes more bytes. They are encoded in batches: the end of a batch is encoded as if the
    /// piece ended there, and that work is for nothing when it goes on.
    fn push(&mut self, merger: &mut Merger, more: &[u8], limits: Limits) {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() - self.lengths.covered() < limits.settle_at / 4 {
            return;
        }
        self.lengths.extend(merger, &self.bytes);
        if self.bytes.len() < self.look_at.max(limits.settle_at) {
            return;
        }
        match self.lengths.settled(merger, &self.bytes) {
            Some((count, len)) => {
                self.lengths.forget(count, len);
                self.bytes.drain(..len);
                self.settled += count as u64;
                self.look_at = 0;
            }
            None => self.look_at = self.bytes.len() + limits.settle_at,
        }
    }

    fn count(&mut self, merger: &mut Merger) -> u64 {
        self.lengths.extend(merger, &self.bytes);
        self.settled + self.lengths.count() as u64
    }
}

/// A run being counted.
#[derive(Debug)]
pub(crate) struct LongRun {
    kind: Run,
    limits: Limits,
    started: bool,
    /// The lower-case part of a word, or the line ends after marks, have begun.
    second_part: bool,
    /// Whether a border has been passed up to which all is one piece.
    confirmed: bool,
    /// Everything as one piece.
    whole: Growing,
    /// The count up to the last such border, and what came after it as a piece of its own.
    split: Option<(u64, Growing)>,
}

impl LongRun {
    pub(crate) fn new(kind: Run, limits: Limits) -> LongRun {
        LongRun {
            kind,
            limits,
            started: false,
            second_part: false,
            confirmed: false,
            whole: Growing::default(),
            split: None,
        }
    }

    /// Takes what belongs to the run from the front of `text`. The number of bytes taken, and
    /// whether the run has ended there; the rest is for the next call, or for the splitter.
    pub(crate) fn feed(&mut self, merger: &mut Merger, text: &[u8], last: bool) -> (usize, bool) {
        match self.kind {
            Run::Class(classes) => self.feed_class(merger, text, classes, last),
            Run::Cased { han } => self.feed_cased(merger, text, han, last),
            Run::Marks { line_ends, slash } => {
                self.feed_marks(merger, text, line_ends, slash, last)
            }
            Run::Space {
                line_ends,
                all_at_end,
            } => self.feed_space(merger, text, line_ends, all_at_end, last),
        }
    }

    /// How many tokens the run is, once it has ended.
    pub(crate) fn count(&mut self, merger: &mut Merger) -> u64 {
        match &mut self.split {
            Some((before, after)) => *before + after.count(merger),
            None => self.whole.count(merger),
        }
    }

    /// How many bytes are held in memory.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        let split = self.split.as_ref();
        self.whole.bytes.len() + split.map_or(0, |(_, after)| after.bytes.len())
    }

    /// Adds `text`, of which all up to `border` belongs to one piece with what came before.
    fn grow(&mut self, merger: &mut Merger, text: &[u8], border: Option<usize>) {
        let (sure, open) = text
            .split_at_checked(border.unwrap_or(0))
            .unwrap_or((text, &[]));
        if border.is_some() {
            self.split = None;
            self.confirmed = true;
            self.whole.push(merger, sure, self.limits);
        }
        if open.is_empty() {
            return;
        }
        if self.confirmed {
            let whole = &mut self.whole;
            let start = || (whole.count(merger), Growing::default());
            let (_, after) = self.split.get_or_insert_with(start);
            after.push(merger, open, self.limits);
        }
        self.whole.push(merger, open, self.limits);
    }

    /// The length of the first character, which belongs to the run whatever its class.
    fn skip_first(&mut self, text: &[u8]) -> usize {
        if std::mem::replace(&mut self.started, true) {
            return 0;
        }
        class::at(text, 0).map_or(0, |(_, len)| len)
    }

    fn feed_class(
        &mut self,
        merger: &mut Merger,
        text: &[u8],
        classes: u8,
        last: bool,
    ) -> (usize, bool) {
        let start = self.skip_first(text);
        let end = split::class_end(text, start, classes, true).unwrap_or(text.len());
        self.grow(merger, text.get(..end).unwrap_or(text), Some(end));
        (end, last || end < text.len())
    }

    fn feed_cased(
        &mut self,
        merger: &mut Merger,
        text: &[u8],
        han: bool,
        last: bool,
    ) -> (usize, bool) {
        let is_cased = |class: u8| split::is_cased(class, han);
        let mut end = 0;
        let mut border = None;
        while let Some((class, len)) = class::at(text, end) {
            let first = !std::mem::replace(&mut self.started, true);
            if !is_cased(class) && !first {
                break;
            }
            if self.second_part && class & LOWER == 0 {
                break;
            }
            end += len;
            if class & LOWER != 0 && is_cased(class) {
                border = Some(end);
                self.second_part |= class & UPPER == 0;
            }
        }
        let contraction = if last || end < text.len() {
            split::contraction(text, end, last)
        } else {
            None
        };
        let taken = contraction.unwrap_or(end);
        self.grow(merger, text.get(..end).unwrap_or(text), border);
        if taken > end {
            let suffix = text.get(end..taken).unwrap_or(&[]);
            match &mut self.split {
                Some((_, after)) => after.push(merger, suffix, self.limits),
                None => self.whole.push(merger, suffix, self.limits),
            }
        }
        (taken, contraction.is_some())
    }

    fn feed_marks(
        &mut self,
        merger: &mut Merger,
        text: &[u8],
        line_ends: bool,
        slash: bool,
        last: bool,
    ) -> (usize, bool) {
        let mut end = self.skip_first(text);
        while let Some((class, len)) = class::at(text, end) {
            let line_end = class & LINE_END != 0 && line_ends;
            let is_mark = class & (LETTER | NUMBER | SPACE) == 0;
            let slash = slash && text.get(end) == Some(&b'/');
            self.second_part |= line_end;
            if !(line_end || slash || is_mark && !self.second_part) {
                break;
            }
            end += len;
        }
        self.grow(merger, text.get(..end).unwrap_or(text), Some(end));
        (end, last || end < text.len())
    }

    fn feed_space(
        &mut self,
        merger: &mut Merger,
        text: &[u8],
        line_ends: bool,
        all_at_end: bool,
        last: bool,
    ) -> (usize, bool) {
        let mut end = 0;
        let mut last_char = 0;
        let mut border = None;
        while let Some((class, len)) = class::at(text, end) {
            if class & SPACE == 0 {
                break;
            }
            last_char = end;
            end += len;
            if class & LINE_END != 0 && line_ends {
                border = Some(end);
            }
        }
        let at_end = end == text.len();
        if at_end && last && all_at_end {
            self.grow(merger, text, Some(end));
            return (end, true);
        }
        // The last character belongs to what follows, unless it is a line end or all there is.
        let taken = if border == Some(end) || at_end && last {
            end
        } else {
            last_char
        };
        let border = border.filter(|&border| border <= taken);
        self.grow(merger, text.get(..taken).unwrap_or(text), border);
        (taken, last || !at_end)
    }
}
