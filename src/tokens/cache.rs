//! What pieces became, remembered.
//!
//! Real text repeats its words and names. A look-up in a table of several megabytes waits for
//! memory, and merging costs twenty times a look-up; what was seen lately is in the level-2 cache of
//! the processor. The slots are direct mapped and hold the piece's own bytes, so a hit is exact, a
//! miss costs one comparison, and nothing is ever evicted with work. Their pages are zeroed memory
//! that the system hands out on first touch: a short text pays for the few it uses.

use crate::tokens::hash::Key;
use crate::tokens::table::KEY_SHIFT;

/// 16,384 slots of 16 bytes: 256 KiB.
const SLOTS: usize = 1 << 14;

/// What there is to begin with: a page is not worth it for a few lines.
const FEW_SLOTS: usize = 1 << 6;

/// The longest piece beyond [`hash::SHORT`] that is remembered, in bytes.
const LONGEST: usize = 24;

/// 4,096 slots of 32 bytes: 128 KiB.
const LONG_SLOTS: usize = 1 << 12;

/// The most ids that are remembered for one piece.
pub(crate) const IDS: usize = 6;

/// What one vocabulary makes of pieces: a value for each, and where several ids are wanted, these.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The words of a [`Key`]; the value stands above the second. Zero is empty.
    slots: Vec<[u64; 2]>,
    /// The piece's bytes, zero padded, and its length and value in one word; zero is empty.
    long_slots: Vec<[u64; 4]>,
    /// The ids of slots that stand for several tokens; empty when only counts are wanted.
    ids: Vec<[u32; IDS]>,
    /// The same for long pieces.
    long_ids: Vec<[u32; IDS]>,
}

/// What is remembered of a piece: the id of its one token, or the number of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(u32);

impl Value {
    #[inline(always)]
    pub(crate) fn one(id: u32) -> Value {
        Value(id << 1 | 1)
    }

    #[inline(always)]
    pub(crate) fn several(count: usize) -> Value {
        Value((count as u32) << 1)
    }

    #[inline(always)]
    pub(crate) fn count(self) -> u64 {
        // Without a branch, for which of the two it is cannot be foreseen.
        let is_one = self.0 & 1;
        u64::from(is_one | self.0 >> 1 & is_one.wrapping_sub(1))
    }

    /// The id, if it is one token.
    #[inline(always)]
    pub(crate) fn id(self) -> Option<u32> {
        (self.0 & 1 != 0).then_some(self.0 >> 1)
    }
}

impl Cache {
    /// A cache for a short text.
    pub(crate) fn new(with_ids: bool) -> Cache {
        Cache::with_slots(FEW_SLOTS, 1, with_ids)
    }

    /// Makes it one for a long text. It forgets what it knew.
    pub(crate) fn grow(&mut self) {
        if self.slots.len() < SLOTS {
            *self = Cache::with_slots(SLOTS, LONG_SLOTS, !self.ids.is_empty());
        }
    }

    fn with_slots(slots: usize, long_slots: usize, with_ids: bool) -> Cache {
        Cache {
            slots: vec![[0; 2]; slots],
            long_slots: vec![[0; 4]; long_slots],
            ids: vec![[0; IDS]; if with_ids { slots } else { 0 }],
            long_ids: vec![[0; IDS]; if with_ids { long_slots } else { 0 }],
        }
    }

    #[inline(always)]
    fn index(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    /// What is remembered of the piece with this key and its hash.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key, hash: u64) -> Option<Value> {
        let [low, high] = self.slots.get(self.index(hash))?;
        let differs = (low ^ key.low) | (high ^ key.high) << KEY_SHIFT;
        (differs == 0).then_some(Value((high >> (64 - KEY_SHIFT)) as u32))
    }

    /// The ids of a piece that is remembered as several.
    #[inline]
    pub(crate) fn ids(&self, hash: u64, value: Value) -> &[u32] {
        let ids = self.ids.get(self.index(hash));
        ids.and_then(|ids| ids.get(..value.count() as usize))
            .unwrap_or(&[])
    }

    /// Remembers a piece; its ids are those of several tokens, where they are wanted.
    pub(crate) fn set(&mut self, key: Key, hash: u64, value: Value, ids: &[u32]) {
        let index = self.index(hash);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = [key.low, key.high | u64::from(value.0) << (64 - KEY_SHIFT)];
        }
        if let Some(place) = self.ids.get_mut(index) {
            for (to, from) in place.iter_mut().zip(ids) {
                *to = *from;
            }
        }
    }

    /// The words of a long slot for this piece, without its value, and where it goes.
    #[inline]
    fn long(&self, piece: &[u8]) -> Option<([u64; 4], usize)> {
        let mut bytes = [0u8; LONGEST];
        bytes.get_mut(..piece.len())?.copy_from_slice(piece);
        let [a, b, c] = bytes.as_chunks().0 else {
            return None;
        };
        let [a, b, c] = [a, b, c].map(|word| u64::from_le_bytes(*word));
        let low = a ^ c.rotate_left(29);
        let hash = Key { low, high: b }.hash();
        Some((
            [a, b, c, (piece.len() as u64) << 32],
            hash as usize & self.long_slots.len().wrapping_sub(1),
        ))
    }

    /// What is remembered of a long piece.
    #[inline]
    pub(crate) fn get_long(&self, piece: &[u8]) -> Option<(Value, &[u32])> {
        let (key, index) = self.long(piece)?;
        let slot = self.long_slots.get(index)?;
        let value = Value(slot[3] as u32);
        let is_it = key[..3] == slot[..3] && key[3] == slot[3] >> 32 << 32;
        let ids = self.long_ids.get(index).map_or(&[][..], |ids| ids);
        let ids = ids.get(..value.count() as usize).unwrap_or(&[]);
        is_it.then_some((value, ids))
    }

    /// Remembers a long piece.
    #[inline]
    pub(crate) fn set_long(&mut self, piece: &[u8], value: Value, ids: &[u32]) {
        let Some(([a, b, c, len], index)) = self.long(piece) else {
            return;
        };
        if let Some(slot) = self.long_slots.get_mut(index) {
            *slot = [a, b, c, len | u64::from(value.0)];
        }
        if let Some(place) = self.long_ids.get_mut(index) {
            for (to, from) in place.iter_mut().zip(ids) {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_exactly_the_piece_it_was_given() {
        let mut cache = Cache::new(true);
        let key = Key::of(b"abc");
        assert_eq!(cache.get(key, key.hash()), None);
        cache.set(key, key.hash(), Value::several(2), &[7, 8]);
        let value = cache.get(key, key.hash()).unwrap();
        assert_eq!(value.count(), 2);
        assert_eq!(cache.ids(key.hash(), value), [7, 8]);
        // Another piece in the same slot is not it.
        assert_eq!(cache.get(Key::of(b"abc\0"), key.hash()), None);
        cache.set(key, key.hash(), Value::one(199_997), &[]);
        assert_eq!(cache.get(key, key.hash()).unwrap().id(), Some(199_997));
    }

    #[test]
    fn remembers_long_pieces_up_to_a_length() {
        let mut cache = Cache::new(true);
        for len in [LONGEST - 1, LONGEST] {
            let piece = &[b'x'; LONGEST][..len];
            assert_eq!(cache.get_long(piece), None);
            cache.set_long(piece, Value::several(3), &[1, 2, 3]);
            assert_eq!(
                cache.get_long(piece),
                Some((Value::several(3), &[1, 2, 3][..]))
            );
        }
        cache.set_long(&[b'x'; LONGEST + 1], Value::several(4), &[]);
        assert_eq!(cache.get_long(&[b'x'; LONGEST + 1]), None);
    }
}
