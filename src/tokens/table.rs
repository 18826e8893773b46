//! A vocabulary as the binary carries it: a perfect hash table in read-only memory.
//!
//! Nothing is built when omk starts. A look-up touches one pilot, one slot and, for a token of
//! more than thirteen bytes, its own bytes; the pages that hold them are read on first use. Every
//! hit compares the whole token, so the hash decides speed and never a count.

use crate::tokens::hash;
use crate::tokens::hash::Key;

/// No rank: these bytes are not a token.
pub(crate) const NONE: u32 = u32::MAX;

/// How far to shift the second word of a slot to be left with the part that a [`Key`] has.
pub(crate) const KEY_SHIFT: u32 = 20;

/// One vocabulary. Two vocabularies of which one is the head of the other share a table and
/// differ in `ranks_below`.
#[derive(Debug)]
pub(crate) struct Table {
    /// Tokens of at most [`hash::SHORT`] bytes: one pilot, one slot.
    pilots: &'static [[u8; 2]],
    slots: &'static [[[u8; 8]; 2]],
    /// The others.
    long_pilots: &'static [[u8; 2]],
    long_keys: &'static [[u8; 8]],
    long_ranks: &'static [[u8; 3]],
    long: &'static [u8],
    /// The rank of each pair of ASCII bytes, or [`NONE`].
    pairs: &'static [[u8; 4]],
    /// One bit for each pair of bytes: does any token that is not whole characters have this
    /// pair, the second of which starts a character, inside it?
    crossings: &'static [u8],
    /// One bit for each code point below 0x10000: is the character a token?
    characters: &'static [u8],
    /// Ranks from here on belong to another vocabulary.
    ranks_below: u32,
    /// The length of the longest token in bytes.
    longest: usize,
}

/// Bytes at the start of a cache line, so that no slot lies on two.
#[repr(C, align(64))]
struct Aligned<const N: usize>([u8; N]);

macro_rules! part {
    ($name:literal, $part:literal) => {{
        const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".", $part));
        static ALIGNED: Aligned<{ BYTES.len() }> = Aligned(*include_bytes!(concat!(
            env!("OUT_DIR"),
            "/",
            $name,
            ".",
            $part
        )));
        &ALIGNED.0
    }};
}

macro_rules! table {
    ($name:literal, $ranks_below:expr, $longest:expr) => {
        Table {
            pilots: part!($name, "pilots").as_chunks().0,
            slots: part!($name, "slots").as_chunks().0.as_chunks().0,
            long_pilots: part!($name, "long_pilots").as_chunks().0,
            long_keys: part!($name, "long_keys").as_chunks().0,
            long_ranks: part!($name, "long_ranks").as_chunks().0,
            long: part!($name, "long"),
            pairs: part!($name, "pairs").as_chunks().0,
            crossings: part!($name, "crossings"),
            characters: part!($name, "characters"),
            ranks_below: $ranks_below,
            longest: $longest,
        }
    };
}

pub(crate) static KIMI: Table = table!("kimi", u32::MAX, 256);
pub(crate) static O200K: Table = table!("o200k", u32::MAX, 128);
pub(crate) static CL100K: Table = table!("cl100k", u32::MAX, 128);
pub(crate) static P50K: Table = table!("p50k", u32::MAX, 128);
/// The head of p50k, in the same memory.
pub(crate) static R50K: Table = Table {
    ranks_below: 50_256,
    ..P50K
};

/// The slot of this hash in a table of so many.
#[inline(always)]
fn slot_of(hash: u64, pilots: &[[u8; 2]], slots: usize) -> usize {
    let bucket = hash::bucket(hash, pilots.len());
    let pilot = pilots.get(bucket).map_or(0, |p| u16::from_le_bytes(*p));
    hash::slot(hash, pilot, slots)
}

impl Table {
    /// The rank of the token with this key and its hash, or [`NONE`]. Written without a branch on
    /// what it finds, so that the processor can work on several look-ups at once.
    #[inline(always)]
    pub(crate) fn rank_of_key(&self, key: Key, hash: u64) -> u32 {
        let slot = slot_of(hash, self.pilots, self.slots.len());
        let [low, high] = self.slots.get(slot).copied().unwrap_or_default();
        let (low, high) = (u64::from_le_bytes(low), u64::from_le_bytes(high));
        let rank = (high >> hash::RANK_SHIFT) as u32;
        let differs = low ^ key.low | (high ^ key.high) << KEY_SHIFT;
        if differs == 0 && rank < self.ranks_below {
            rank
        } else {
            NONE
        }
    }

    /// The rank of a token of more than [`hash::SHORT`] bytes.
    pub(crate) fn rank_of_long(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        let hash = hash::hash_long(bytes);
        let slot = slot_of(hash, self.long_pilots, self.long_keys.len());
        let key = u64::from_le_bytes(*self.long_keys.get(slot)?);
        if key & !0xffff_ff00 != hash::long_key(hash, 0, bytes.len()) {
            return None;
        }
        let offset = (key >> 8) as usize & 0xff_ffff;
        if self.long.get(offset..offset + bytes.len())? != bytes {
            return None;
        }
        let [low, middle, high] = *self.long_ranks.get(slot)?;
        let rank = u32::from_le_bytes([low, middle, high, 0]);
        (rank < self.ranks_below).then_some(rank)
    }

    /// The length of the longest token in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The rank of this token, which is also its id; `None` when these bytes are not a token.
    #[inline]
    pub(crate) fn rank(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > hash::SHORT {
            return self.rank_of_long(bytes);
        }
        let key = Key::of(bytes);
        Some(self.rank_of_key(key, key.hash())).filter(|&rank| rank != NONE)
    }

    /// The rank of these two ASCII bytes together, or [`NONE`].
    #[inline(always)]
    pub(crate) fn rank_of_pair(&self, first: u8, second: u8) -> u32 {
        let pair = usize::from(first & 0x7f) << 7 | usize::from(second & 0x7f);
        let rank = self
            .pairs
            .get(pair)
            .map_or(NONE, |r| u32::from_le_bytes(*r));
        if rank < self.ranks_below { rank } else { NONE }
    }

    /// Whether this character below 0x10000 is a token.
    #[inline(always)]
    pub(crate) fn has_character(&self, code_point: u32) -> bool {
        self.characters
            .get(code_point as usize >> 3)
            .is_some_and(|byte| byte >> (code_point & 7) & 1 != 0)
    }

    /// Whether some token that is not whole characters joins `left` to `right`, the first byte
    /// of a character. Where none does, no merge can reach across before both characters are
    /// complete.
    #[inline(always)]
    pub(crate) fn crosses(&self, left: u8, right: u8) -> bool {
        let bit = usize::from(left) << 8 | usize::from(right);
        self.crossings
            .get(bit >> 3)
            .is_some_and(|byte| byte >> (bit & 7) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vocabulary_holds_every_single_byte() {
        for table in [&KIMI, &O200K, &CL100K, &P50K, &R50K] {
            let mut ranks: Vec<u32> = (0..=255u8).map(|b| table.rank(&[b]).unwrap()).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..256).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn the_tokens_of_the_reference_are_found_by_their_rank_and_nothing_else_is() {
        let kimi = tiktoken::get_encoding("kimi_k2").unwrap();
        for rank in 0..kimi.vocab_size() as u32 {
            let token = kimi.decode(&[rank]);
            assert_eq!(KIMI.rank(&token), Some(rank));
            let mut longer = token.clone();
            longer.extend_from_slice(b"\0\x01");
            assert_eq!(KIMI.rank(&longer), None);
        }
        let r50k = tiktoken_rs::r50k_base_singleton();
        for rank in 0..50_256 {
            let token = r50k.decode_bytes(&[rank]).unwrap();
            assert_eq!(R50K.rank(&token), Some(rank));
            assert_eq!(P50K.rank(&token), Some(rank));
        }
    }

    #[test]
    fn p50k_knows_runs_of_spaces_that_r50k_does_not() {
        let spaces = b"                ";
        assert!(P50K.rank(spaces).is_some());
        let only_p50k = "  ".repeat(12);
        assert!(P50K.rank(only_p50k.as_bytes()).is_some());
        assert_eq!(R50K.rank(only_p50k.as_bytes()), None);
    }
}
