//! Byte-pair merging: how many tokens, and which, the bytes of one piece become.
//!
//! # The rule
//!
//! Start from single bytes. As long as two neighbours together are a token, join the pair whose
//! token has the lowest rank, the leftmost of equals. [`Parts`] does that for a short piece.
//!
//! # Why parts of a text can be merged apart
//!
//! Let *valid* mean: merging the bytes of two neighbouring tokens gives these two tokens again.
//!
//! **A sequence of tokens is the encoding of its text if and only if every neighbouring pair in
//! it is valid.** Suppose all pairs are valid, and look at the first join of the whole text that
//! reaches across a border of the sequence. Up to then every join happened inside one token, in
//! the order in which it happens when the two tokens at that border are merged alone, because
//! leaving out other joins does not reorder the rest. So the crossing join would be the next
//! one there as well, and the pair would not be valid. Hence nothing crosses, and inside the
//! borders each token's bytes become that token (the build script checks that they do, for every
//! token). The other direction is the same argument backwards.
//!
//! Two things follow, and this module lives on them:
//!
//! - A long piece is merged in blocks of bounded length, cut anywhere. Where the pair at a seam
//!   is not valid, a window around it is merged again, and widened until both of its own seams
//!   are valid. That is linear for every text, where the rule itself is quadratic, and it needs
//!   nothing but the short merge.
//! - Where the last few tokens stand there twice and the text goes on repeating them, so does the
//!   encoding: each pair has been seen to be valid. A run of one letter costs a comparison of
//!   bytes for each token.
//!
//! # Why characters can be merged whole
//!
//! Most steps of the rule, for text that is not Latin, do nothing but put the bytes of a
//! character together. They can be left out where no token that is not whole characters could
//! join the character to a neighbour ([`Table::crosses`]): then no join crosses its border before
//! it is complete, and since both halves of a token are older than the token (checked by the
//! build script), joins happen in the order of their ranks, so its being complete from the start
//! gives no pair an earlier turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::tokens::table::Table;

/// The most bytes that [`Parts`] merges, and the length of the blocks that a long piece is cut
/// into. Finding the lowest rank is a scan, so the work for each byte grows with it.
pub(crate) const BLOCK: usize = 128;

/// The longest cycle of tokens that is looked for in a repetitive text: a character outside the
/// vocabulary is up to four, a joined emoji a dozen.
const LONGEST_CYCLE: usize = 16;

/// After how many blocks to look for a cycle: a run worth the search is long, and text that does not
/// repeat should hardly notice it.
const LOOK_BACK_EVERY: usize = 8;

/// A count of basic steps, so that a test can hold the growth of work without a clock.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn add(n: usize) {
        STEPS.with(|steps| steps.set(steps.get() + n as u64));
    }

    /// The steps since the last call.
    pub(crate) fn take() -> u64 {
        STEPS.with(|steps| steps.replace(0))
    }
}

#[cfg(not(test))]
mod steps {
    #[inline(always)]
    pub(crate) fn add(_: usize) {}
}

/// A short piece as the parts it has been joined to so far.
///
/// Fixed arrays, linked by index: nothing is allocated, moved or cleared. A part is named by the
/// index of its first unit (a byte, or a whole character).
#[allow(
    clippy::indexing_slicing,
    reason = "every index is at most `units`, which is at most BLOCK, by construction"
)]
mod parts {
    use super::BLOCK;
    use super::steps;
    use crate::tokens::hash;
    use crate::tokens::hash::Key;
    use crate::tokens::table::NONE;
    use crate::tokens::table::Table;

    /// Room behind the bytes, so that a key is read in one go wherever it starts.
    const PADDED: usize = BLOCK + 16;

    /// Up to so many units the least turn is found by looking at all of them.
    const FEW: usize = 16;

    /// How many turns share one that notes the least of them, where there are more.
    const GROUP: usize = 8;

    /// The numbers from one below zero, to be copied where each part is linked with its neighbours.
    const INDICES: [u8; PADDED + 2] = {
        let mut indices = [u8::MAX; PADDED + 2];
        let mut at = 1;
        while at < indices.len() {
            indices[at] = at as u8 - 1;
            at += 1;
        }
        indices
    };

    #[derive(Debug)]
    pub(crate) struct Parts {
        bytes: [u8; PADDED],
        /// Where each unit starts; `begin[units]` is the length of the piece.
        begin: [u8; PADDED],
        next: [u8; PADDED],
        previous: [u8; PADDED],
        /// The token of a part that has been joined.
        rank: [u32; PADDED],
        /// For each part, the rank of what it and the next part would become, above its own
        /// index: the least of these numbers is the leftmost pair of lowest rank. All are
        /// [`NEVER`] when a merge is done, and so they are when the next one begins.
        turn: [i32; PADDED],
        /// The least turn of each group.
        least: [i32; BLOCK / GROUP],
        units: usize,
        count: usize,
    }

    /// Ranks stay below 2^23, indices below 2^8.
    const INDEX_BITS: u32 = 8;

    /// No turn.
    const NEVER: i32 = i32::MAX;

    impl Default for Parts {
        fn default() -> Parts {
            Parts {
                bytes: [0; PADDED],
                begin: [0; PADDED],
                next: [0; PADDED],
                previous: [0; PADDED],
                rank: [NONE; PADDED],
                turn: [NEVER; PADDED],
                least: [NEVER; BLOCK / GROUP],
                units: 0,
                count: 0,
            }
        }
    }

    impl Parts {
        /// Merges at most [`BLOCK`] bytes; what is beyond is ignored. How many tokens they become.
        pub(crate) fn merge(&mut self, table: &Table, piece: &[u8]) -> usize {
            let piece = piece.get(..BLOCK).unwrap_or(piece);
            self.bytes[..piece.len()].copy_from_slice(piece);
            if piece.is_ascii() {
                self.units = piece.len();
                self.begin[..=piece.len()].copy_from_slice(&INDICES[1..][..=piece.len()]);
            } else {
                self.cut_units(table, piece.len());
            }
            self.next[..=self.units].copy_from_slice(&INDICES[2..][..=self.units]);
            self.previous[..=self.units].copy_from_slice(&INDICES[..=self.units]);
            self.rank[..=self.units].fill(NONE);
            if self.units == piece.len() {
                // Pairs of bytes, nearly always of ASCII, which have a table of their own.
                for unit in 1..self.units {
                    let (first, second) = (self.bytes[unit - 1], self.bytes[unit]);
                    let rank = if (first | second).is_ascii() {
                        table.rank_of_pair(first, second)
                    } else {
                        self.rank_of(table, unit - 1, unit + 1)
                    };
                    self.turn[unit - 1] = turn_of(rank, unit - 1);
                }
            } else {
                for unit in 1..self.units {
                    let (from, to) = (self.begin[unit - 1], self.begin[unit + 1]);
                    let rank = self.rank_of(table, usize::from(from), usize::from(to));
                    self.turn[unit - 1] = turn_of(rank, unit - 1);
                }
            }
            self.count = self.units;
            if self.units <= FEW {
                self.join_all::<true>(table);
            } else {
                for group in 0..self.units.div_ceil(GROUP) {
                    self.note_least(group * GROUP);
                }
                self.join_all::<false>(table);
            }
            self.count
        }

        /// For each token, from where to where it goes, and its rank if that is known yet.
        #[inline]
        fn tokens(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
            let mut at = 0;
            std::iter::from_fn(move || {
                if at >= self.units {
                    return None;
                }
                let (start, rank) = (self.begin[at], self.rank[at]);
                at = usize::from(self.next[at]);
                Some((usize::from(start), usize::from(self.begin[at]), rank))
            })
        }

        /// The length of each token in bytes.
        #[inline]
        pub(crate) fn lengths(&self) -> impl Iterator<Item = u16> + '_ {
            self.tokens().map(|(from, to, _)| (to - from) as u16)
        }

        /// The rank of each token.
        #[inline]
        pub(crate) fn ranks<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = u32> + 'a {
            self.tokens().map(|(from, to, rank)| match rank {
                NONE => table.rank(&self.bytes[from..to]).unwrap_or(NONE),
                rank => rank,
            })
        }

        /// Cuts the first `len` bytes into units: whole characters where that cannot change the
        /// outcome, bytes elsewhere. A character can be whole if it is a token and no token could
        /// join a part of it to a neighbour.
        fn cut_units(&mut self, table: &Table, len: usize) {
            let mut at = 0;
            let mut units = 0;
            let mut crossed = false;
            while at < len {
                let [a, b, c, d] = [0, 1, 2, 3].map(|n| u32::from(self.bytes[at + n]));
                let word = a | b << 8 | c << 16 | d << 24;
                let (wide, is_token) = if a < 0x80 {
                    (1, true)
                } else if word & 0xc0_c0_f0 == 0x80_80_e0 {
                    let character = (a & 0xf) << 12 | (b & 0x3f) << 6 | c & 0x3f;
                    (3, table.has_character(character))
                } else if word & 0xc0_e0 == 0x80_c0 {
                    (2, table.has_character((a & 0x1f) << 6 | b & 0x3f))
                } else if word & 0xc0_c0_c0_f8 == 0x80_80_80_f0 {
                    (4, self.rank_of(table, at, at + 4) != NONE)
                } else {
                    (1, true)
                };
                let end = at + wide;
                let crosses = end < len && table.crosses(self.bytes[end - 1], self.bytes[end]);
                let step = if !is_token || crossed || crosses || end > len {
                    1
                } else {
                    wide
                };
                for unit in (at..end.min(len)).step_by(step) {
                    self.begin[units] = unit as u8;
                    units += 1;
                }
                crossed = crosses;
                at = end;
            }
            self.begin[units] = len as u8;
            self.units = units;
        }

        #[inline(always)]
        fn join_all<const ARE_FEW: bool>(&mut self, table: &Table) {
            loop {
                let lowest = if ARE_FEW {
                    steps::add(FEW);
                    least(&self.turn)
                } else {
                    steps::add(2 * GROUP);
                    least(&self.least)
                };
                if lowest == NEVER {
                    return;
                }
                let part = (lowest & ((1 << INDEX_BITS) - 1)) as usize;
                let joined = usize::from(self.next[part]);
                let after = usize::from(self.next[joined]);
                self.rank[part] = (lowest >> INDEX_BITS) as u32;
                self.next[part] = after as u8;
                self.previous[after] = part as u8;
                self.count -= 1;
                let from = usize::from(self.begin[part]);
                let to = usize::from(self.begin[after]);
                self.turn[joined] = NEVER;
                self.turn[part] = if after < self.units {
                    let end = usize::from(self.begin[usize::from(self.next[after])]);
                    turn_of(self.rank_of(table, from, end), part)
                } else {
                    NEVER
                };
                if part > 0 {
                    let before = usize::from(self.previous[part]);
                    let start = usize::from(self.begin[before]);
                    self.turn[before] = turn_of(self.rank_of(table, start, to), before);
                    if !ARE_FEW {
                        self.note_least(before);
                    }
                }
                if !ARE_FEW {
                    self.note_least(part);
                    self.note_least(joined);
                }
            }
        }

        /// Finds the least turn of the group that this part is in.
        #[inline(always)]
        fn note_least(&mut self, part: usize) {
            let from = part & !(GROUP - 1);
            self.least[part / GROUP] = least_of_group(&self.turn[from..]);
        }

        #[inline(always)]
        fn rank_of(&self, table: &Table, from: usize, to: usize) -> u32 {
            let len = to - from;
            match self.bytes[from..].first_chunk() {
                Some(bytes) if len <= hash::SHORT => {
                    let key = Key::new(bytes, len);
                    table.rank_of_key(key, key.hash())
                }
                _ => table.rank(&self.bytes[from..to]).unwrap_or(NONE),
            }
        }
    }

    /// The least of the first eight. Written out, because a compiler that is told to save room leaves a loop as one.
    #[inline(always)]
    fn least_of_group(turns: &[i32]) -> i32 {
        let Some([a, b, c, d, e, f, g, h]) = turns.first_chunk() else {
            return NEVER;
        };
        let (left, right) = (a.min(b).min(c.min(d)), e.min(f).min(g.min(h)));
        *left.min(right)
    }

    /// The least of the first sixteen.
    #[inline(always)]
    fn least(turns: &[i32]) -> i32 {
        least_of_group(turns).min(least_of_group(&turns[GROUP..]))
    }

    #[inline(always)]
    fn turn_of(rank: u32, part: usize) -> i32 {
        if rank == NONE {
            NEVER
        } else {
            (rank << INDEX_BITS | part as u32) as i32
        }
    }
}

use parts::Parts;

/// A vocabulary, and the room to merge in.
#[derive(Debug)]
pub(crate) struct Merger {
    pub(crate) table: &'static Table,
    parts: Parts,
}

impl Merger {
    pub(crate) fn new(table: &'static Table) -> Merger {
        Merger {
            table,
            parts: Parts::default(),
        }
    }

    /// How many tokens a piece becomes that is not one itself.
    pub(crate) fn count(&mut self, piece: &[u8]) -> usize {
        if piece.len() <= BLOCK {
            self.parts.merge(self.table, piece)
        } else {
            self.lengths(piece).count()
        }
    }

    /// Adds the ranks of the tokens that a piece becomes which is not one itself.
    pub(crate) fn ranks(&mut self, piece: &[u8], ranks: &mut Vec<u32>) {
        if piece.len() <= BLOCK {
            self.parts.merge(self.table, piece);
            ranks.extend(self.parts.ranks(self.table));
            return;
        }
        let mut rest = piece;
        for len in self.lengths(piece).iter() {
            let (token, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            ranks.extend(self.table.rank(token));
            rest = after;
        }
    }

    /// The tokens of a whole piece, as their lengths.
    fn lengths(&mut self, piece: &[u8]) -> Lengths {
        let mut lengths = Lengths::default();
        lengths.extend(self, piece);
        lengths
    }

    /// The lengths of the tokens that any bytes become.
    fn merge(&mut self, bytes: &[u8]) -> Vec<u16> {
        if bytes.len() <= BLOCK {
            self.parts.merge(self.table, bytes);
            self.parts.lengths().collect()
        } else {
            merge_wide(self.table, bytes)
        }
    }

    /// Whether the two tokens that meet at `seam` stay two when their bytes are merged.
    fn is_valid(&mut self, bytes: &[u8], seam: usize, left: u16, right: u16) -> bool {
        let from = seam - usize::from(left);
        let pair = bytes.get(from..seam + usize::from(right)).unwrap_or(&[]);
        if pair.len() <= BLOCK {
            let count = self.parts.merge(self.table, pair);
            count == 2 && self.parts.lengths().next() == Some(left)
        } else {
            merge_wide(self.table, pair) == [left, right]
        }
    }
}

/// The lengths of the tokens that any stretch of bytes becomes, by the rule itself with a heap:
/// for windows around a seam that outgrow [`Parts`].
#[allow(
    clippy::indexing_slicing,
    reason = "indices come from 0..bytes.len() and the links between them"
)]
fn merge_wide(table: &Table, bytes: &[u8]) -> Vec<u16> {
    let n = bytes.len();
    let mut next: Vec<usize> = (1..=n).collect();
    let mut previous: Vec<usize> = (0..n).map(|at| at.wrapping_sub(1)).collect();
    let mut alive = vec![true; n];
    let mut turns = BinaryHeap::new();
    let rank = |from: usize, next: &[usize]| {
        let second = *next.get(from)?;
        let end = *next.get(second)?;
        table.rank(&bytes[from..end]).map(|rank| (rank, end))
    };
    for at in 0..n {
        if let Some((rank, end)) = rank(at, &next) {
            turns.push(Reverse((rank, at, end)));
        }
    }
    while let Some(Reverse((_, at, end))) = turns.pop() {
        steps::add(1);
        // A turn is stale when either of its parts has been joined to something else since.
        if !alive[at] || next.get(next[at]) != Some(&end) {
            continue;
        }
        alive[next[at]] = false;
        next[at] = end;
        if end < n {
            previous[end] = at;
        }
        let before = previous[at];
        for from in [at, before] {
            if let Some((rank, end)) = rank(from, &next) {
                turns.push(Reverse((rank, from, end)));
            }
        }
    }
    let mut lengths = Vec::new();
    let mut at = 0;
    while at < n {
        lengths.push((next[at] - at) as u16);
        at = next[at];
    }
    lengths
}

/// The encoding of the first bytes of a long piece, as the lengths of its tokens, and how it
/// grows. The bytes stay with the caller, who passes all of them each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lengths {
    tokens: Vec<u16>,
    /// How many bytes the tokens cover.
    covered: usize,
}

impl Lengths {
    /// How many tokens there are.
    pub(crate) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// How many bytes they cover.
    pub(crate) fn covered(&self) -> usize {
        self.covered
    }

    /// The length of each token in bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.tokens.iter().map(|&token| usize::from(token))
    }

    /// Makes the encoding of `bytes[..covered]` that of all `bytes`.
    pub(crate) fn extend(&mut self, merger: &mut Merger, bytes: &[u8]) {
        let mut blocks = 0;
        while self.covered < bytes.len() {
            self.repeat(bytes);
            let end = bytes.len().min(self.covered + BLOCK);
            let Some(block) = bytes.get(self.covered..end).filter(|b| !b.is_empty()) else {
                return;
            };
            let mut lengths = [0; BLOCK];
            let count = merger.parts.merge(merger.table, block);
            for (to, len) in lengths.iter_mut().zip(merger.parts.lengths()) {
                *to = len;
            }
            self.append(merger, bytes, lengths.get(..count).unwrap_or(&[]));
            blocks += 1;
            if blocks % LOOK_BACK_EVERY == 0 {
                self.rewind_to_cycle(bytes);
            }
        }
    }

    /// If the tokens up to `at` end in the same cycle twice and the text goes on with it, the
    /// length of the cycle in tokens and in bytes. `end` is where the tokens up to `at` end.
    fn cycle(&self, bytes: &[u8], at: usize, end: usize) -> Option<(usize, usize)> {
        let next = bytes.get(end)?;
        let mut len = 0;
        for period in 1..=LONGEST_CYCLE {
            let from = (at + 1).checked_sub(period)?;
            len += usize::from(*self.tokens.get(from)?);
            // One byte tells nearly every text that does not repeat from one that does.
            if bytes.get(end - len) != Some(next) {
                continue;
            }
            let second = self.tokens.get(from..=at)?;
            let first = self.tokens.get(from.checked_sub(period)?..from)?;
            if first == second && repeats(bytes, end - len, len) && repeats(bytes, end, len) {
                return Some((period, len));
            }
        }
        None
    }

    /// Repeats the last tokens for as long as the text does, if they stand there twice.
    fn repeat(&mut self, bytes: &[u8]) {
        let Some(last) = self.tokens.len().checked_sub(1) else {
            return;
        };
        let Some((period, len)) = self.cycle(bytes, last, self.covered) else {
            return;
        };
        while repeats(bytes, self.covered, len) {
            steps::add(1);
            let from = self.tokens.len() - period;
            self.tokens.extend_from_within(from..);
            self.covered += len;
        }
    }

    /// If the newest tokens hold a cycle that the text goes on with, forgets what stands after
    /// it: [`Lengths::repeat`] will say it faster. It repeats the cycle to beyond what is covered
    /// now, so this cannot go round in circles.
    fn rewind_to_cycle(&mut self, bytes: &[u8]) {
        let mut end = self.covered;
        for at in (0..self.tokens.len()).rev().take(2 * LONGEST_CYCLE) {
            match self.cycle(bytes, at, end) {
                Some((_, len)) if end + len > self.covered => {
                    self.tokens.truncate(at + 1);
                    self.covered = end;
                    return;
                }
                _ => end -= self.tokens.get(at).map_or(0, |&token| usize::from(token)),
            }
        }
    }

    /// Appends the encoding of the bytes that follow, and merges the seam again.
    fn append(&mut self, merger: &mut Merger, bytes: &[u8], block: &[u16]) {
        let seam = self.covered;
        let block_len: usize = block.iter().map(|&token| usize::from(token)).sum();
        self.covered += block_len;
        let (Some(&left), Some(&right)) = (self.tokens.last(), block.first()) else {
            self.tokens.extend_from_slice(block);
            return;
        };
        if merger.is_valid(bytes, seam, left, right) {
            self.tokens.extend_from_slice(block);
            return;
        }
        let (mut lefts, mut rights) = (2, 2);
        loop {
            lefts = lefts.min(self.tokens.len());
            rights = rights.min(block.len());
            let kept = self.tokens.len() - lefts;
            let from = seam - sum(self.tokens.get(kept..));
            let to = seam + sum(block.get(..rights));
            let window = merger.merge(bytes.get(from..to).unwrap_or(&[]));
            let left_holds = match (
                kept.checked_sub(1).and_then(|k| self.tokens.get(k)),
                window.first(),
            ) {
                (Some(&before), Some(&first)) => merger.is_valid(bytes, from, before, first),
                _ => true,
            };
            let right_holds = match (window.last(), block.get(rights)) {
                (Some(&last), Some(&after)) => merger.is_valid(bytes, to, last, after),
                _ => true,
            };
            if left_holds && right_holds {
                self.tokens.truncate(kept);
                self.tokens.extend_from_slice(&window);
                self.tokens
                    .extend_from_slice(block.get(rights..).unwrap_or(&[]));
                return;
            }
            if !left_holds {
                lefts *= 2;
            }
            if !right_holds {
                rights *= 2;
            }
        }
    }

    /// A border that every continuation of `bytes` keeps, as the number of tokens before it and
    /// their length; everything before it can be forgotten. `None` if there is none to be had
    /// yet.
    ///
    /// The encoding of a longer text has its last border within these bytes less than `longest`
    /// before their end, and up to there it is the encoding of `bytes` up to there. So a border
    /// is kept by every continuation if the encodings up to each of the last `longest` bytes
    /// have it: if what each of them puts after it is valid with what stands before it.
    pub(crate) fn settled(&self, merger: &mut Merger, bytes: &[u8]) -> Option<(usize, usize)> {
        let longest = merger.table.longest();
        let mut border = self.covered;
        let mut count = self.tokens.len();
        while self.covered - border < 2 * longest {
            count = count.checked_sub(1)?;
            border -= usize::from(*self.tokens.get(count)?);
        }
        let before = *self.tokens.get(count.checked_sub(1)?)?;
        let mut tail = Lengths::default();
        let mut accepted = None;
        for end in self.covered + 1 - longest..=self.covered {
            tail.extend(merger, bytes.get(border..end)?);
            let first = *tail.tokens.first()?;
            if accepted != Some(first) && !merger.is_valid(bytes, border, before, first) {
                return None;
            }
            accepted = Some(first);
        }
        Some((count, border))
    }

    /// Forgets the first `count` tokens, which cover `len` bytes.
    pub(crate) fn forget(&mut self, count: usize, len: usize) {
        self.tokens.drain(..count.min(self.tokens.len()));
        self.covered -= len;
    }
}

fn sum(tokens: Option<&[u16]>) -> usize {
    tokens
        .unwrap_or(&[])
        .iter()
        .map(|&token| usize::from(token))
        .sum()
}

/// Whether the `len` bytes before `at` stand there again.
fn repeats(bytes: &[u8], at: usize, len: usize) -> bool {
    match (
        at.checked_sub(len).and_then(|from| bytes.get(from..at)),
        bytes.get(at..at + len),
    ) {
        (Some(before), Some(after)) => before == after,
        _ => false,
    }
}
