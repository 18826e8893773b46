//! The hash and the perfect-hash slot function that the build script and the library share.
//!
//! Both sides compile this one file, so a table can only ever be read the way it was written.
//! The hash is a folded multiply (the 128-bit product of two words, its halves xored): a few
//! cycles for the keys of up to sixteen bytes that almost all tokens are. It needs to spread
//! well, not to resist an attacker: every hit is verified against the token's own bytes, and
//! the table never grows or probes, so no input can make it slow.

/// The longest token that a slot holds whole; longer ones live in the table's byte store.
pub(crate) const SHORT: usize = 13;

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xd6e8_feb8_6659_fd93;
const K3: u64 = 0xa076_1d64_78bd_642f;

/// How far the rank stands up in the second word of a slot.
pub(crate) const RANK_SHIFT: u32 = 46;

/// For each length: which bits of the two words of text belong to the key.
#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would stop"
)]
const MASKS: [[u64; 2]; 16] = {
    let mut masks = [[0; 2]; 16];
    let mut len = 1;
    while len <= SHORT {
        masks[len] = if len <= 8 {
            [u64::MAX >> (64 - 8 * len), 0]
        } else {
            [u64::MAX, u64::MAX >> (128 - 8 * len)]
        };
        len += 1;
    }
    masks
};

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A byte string of 1 to [`SHORT`] bytes: the bytes, zero padded to 13, and the length above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl Key {
    /// The key of the first `len` of these bytes; `len` is at most [`SHORT`].
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8; 16], len: usize) -> Key {
        let [low, high] = MASKS.get(len & 15).copied().unwrap_or_default();
        let word = u128::from_le_bytes(*bytes);
        Key {
            low: word as u64 & low,
            high: (word >> 64) as u64 & high | (len as u64) << 40,
        }
    }

    /// The key of bytes that have nothing behind them to read.
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Key {
        let mut padded = [0; 16];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        Key::new(&padded, bytes.len())
    }

    #[inline(always)]
    pub(crate) fn hash(self) -> u64 {
        fold(self.low ^ K1, self.high ^ K2)
    }
}

/// Hash of a token of more than [`SHORT`] bytes.
#[inline(always)]
pub(crate) fn hash_long(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let last = bytes.last_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let mut hash = fold(first ^ K3 ^ bytes.len() as u64, last ^ K1);
    if bytes.len() > 16 {
        for word in bytes.get(8..bytes.len() - 8).unwrap_or(&[]).chunks(8) {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(word) {
                *to = *from;
            }
            hash = fold(hash ^ u64::from_le_bytes(padded) ^ K1, K2);
        }
    }
    hash
}

/// What the table stores for a long token: a flag, which no empty slot has, 31 bits of its hash, where
/// its bytes are and how many.
#[inline(always)]
pub(crate) fn long_key(hash: u64, offset: u32, len: usize) -> u64 {
    long_tag(hash) | (u64::from(offset) << 8) | (len as u64 - 1)
}

/// The part of a long key that the hash determines.
#[inline(always)]
pub(crate) fn long_tag(hash: u64) -> u64 {
    (1 << 63) | ((hash << 32) & 0x7fff_ffff_0000_0000)
}

/// The bucket whose pilot decides where this hash goes.
#[inline(always)]
pub(crate) fn bucket(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// The slot of this hash under a pilot: the build script searched a pilot for each bucket so
/// that no two tokens share a slot.
#[inline(always)]
pub(crate) fn slot(hash: u64, pilot: u16, slots: usize) -> usize {
    let mixed = (hash ^ u64::from(pilot).wrapping_mul(K3)).wrapping_mul(K2);
    (((mixed >> 32) * slots as u64) >> 32) as usize
}
