//! Builds the perfect hash table of a vocabulary.
//!
//! Hash and displace: tokens are grouped into small buckets, and for each bucket, the largest
//! first, a pilot is searched that sends all its tokens to slots still free. A look-up is then
//! one pilot, one slot, one comparison, whatever the text. Two per cent of the slots stay empty
//! so that the last buckets find theirs quickly.

use std::error::Error;
use std::path::Path;

use crate::crossings;
use crate::hash;

/// Tokens for each bucket, on average: more makes the pilots smaller and their search longer.
const PER_BUCKET: usize = 4;

/// A token on its way into a table; `value` is what the slot holds.
struct Entry<T> {
    hash: u64,
    value: T,
}

/// Writes the tables of a vocabulary, all little endian.
///
/// For tokens of at most [`hash::SHORT`] bytes `NAME.pilots` (u16) and `NAME.slots` (u128: the bytes, their
/// number, the rank). For longer ones `NAME.long_pilots` (u16), `NAME.long_keys` (u64), `NAME.long_ranks`
/// (u24) and `NAME.long` (their bytes). For all `NAME.pairs`,
/// `NAME.characters` and `NAME.crossings` (see there).
pub(crate) fn write(out: &Path, name: &str, tokens: &[Vec<u8>]) -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut short = Vec::new();
    let mut long = Vec::new();
    for (rank, token) in tokens.iter().enumerate() {
        if token.is_empty() {
            continue;
        }
        let rank = u32::try_from(rank)?;
        if token.len() <= hash::SHORT {
            let key = hash::Key::of(token);
            if rank >> (64 - hash::RANK_SHIFT) != 0 {
                return Err(format!("{name}: rank {rank} does not fit into a slot").into());
            }
            let high = key.high | u64::from(rank) << hash::RANK_SHIFT;
            let value = u128::from(key.low) | u128::from(high) << 64;
            let hash = key.hash();
            short.push(Entry { hash, value });
        } else {
            if token.len() > 256 || bytes.len() >= 1 << 24 {
                return Err(format!("{name}: token {rank} does not fit into a long key").into());
            }
            let hash = hash::hash_long(token);
            let offset = u32::try_from(bytes.len())?;
            bytes.extend_from_slice(token);
            let value = (hash::long_key(hash, offset, token.len()), rank);
            long.push(Entry { hash, value });
        }
    }
    let (pilots, slots) = place(&short).ok_or_else(|| format!("{name}: no pilot"))?;
    let (long_pilots, long_slots) = place(&long).ok_or_else(|| format!("{name}: no pilot"))?;

    let u16s = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let slots: Vec<u8> = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
    let keys: Vec<u8> = long_slots
        .iter()
        .flat_map(|(key, _)| key.to_le_bytes())
        .collect();
    let ranks = long_slots
        .iter()
        .flat_map(|(_, rank)| rank.to_le_bytes().into_iter().take(3));
    for (part, bytes) in [
        ("pilots", u16s(&pilots)),
        ("slots", slots),
        ("long_pilots", u16s(&long_pilots)),
        ("long_keys", keys),
        ("long_ranks", ranks.collect()),
        ("long", bytes),
        ("pairs", pairs(tokens)),
        ("crossings", crossings::bits(tokens)),
        ("characters", characters(tokens)),
    ] {
        std::fs::write(out.join(format!("{name}.{part}")), bytes)?;
    }
    Ok(())
}

/// The rank of each pair of ASCII bytes, as u32 at `first << 7 | second`; the greatest number for none.
/// A merge starts with nothing but such pairs.
fn pairs(tokens: &[Vec<u8>]) -> Vec<u8> {
    let mut pairs = vec![u32::MAX; 1 << 14];
    for (rank, token) in tokens.iter().enumerate() {
        if let [first, second] = **token
            && let Some(pair) = pairs.get_mut(usize::from(first) << 7 | usize::from(second))
            && first.is_ascii()
            && second.is_ascii()
        {
            *pair = rank as u32;
        }
    }
    pairs.iter().flat_map(|rank| rank.to_le_bytes()).collect()
}

/// One bit for each code point below 0x10000: is the character a token?
fn characters(tokens: &[Vec<u8>]) -> Vec<u8> {
    let mut bits = vec![0u8; 0x1_0000 / 8];
    for token in tokens {
        let mut characters = std::str::from_utf8(token).unwrap_or_default().chars();
        if let (Some(character), None) = (characters.next(), characters.next())
            && let Some(byte) = bits.get_mut(character as usize >> 3)
        {
            *byte |= 1 << (character as usize & 7);
        }
    }
    bits
}

/// The pilots for these, and what each slot holds.
fn place<T: Copy + Default>(entries: &[Entry<T>]) -> Option<(Vec<u16>, Vec<T>)> {
    let count = entries.len() + entries.len() / 50;
    let buckets = entries.len() / PER_BUCKET;
    let hashes: Vec<u64> = entries.iter().map(|entry| entry.hash).collect();
    let pilots = pilots(&hashes, buckets, count)?;
    let mut slots = vec![T::default(); count];
    for entry in entries {
        let pilot = pilots.get(hash::bucket(entry.hash, buckets))?;
        let slot = hash::slot(entry.hash, *pilot, count);
        *slots.get_mut(slot)? = entry.value;
    }
    Some((pilots, slots))
}

/// A pilot for each bucket, or `None` when two tokens have one hash or no pilot fits: both mean
/// that the hash constants must change.
fn pilots(hashes: &[u64], buckets: usize, slots: usize) -> Option<Vec<u16>> {
    let mut members = vec![Vec::new(); buckets];
    for &hash in hashes {
        members.get_mut(hash::bucket(hash, buckets))?.push(hash);
    }
    let mut order: Vec<usize> = (0..buckets).collect();
    order.sort_by_key(|&bucket| std::cmp::Reverse(members.get(bucket).map_or(0, Vec::len)));

    let mut taken = vec![false; slots];
    let mut pilots = vec![0u16; buckets];
    let mut chosen = Vec::new();
    for bucket in order {
        let hashes = members.get(bucket)?;
        let pilot = (0..=u16::MAX).find(|&pilot| {
            chosen.clear();
            for &hash in hashes {
                let slot = hash::slot(hash, pilot, slots);
                if taken.get(slot) != Some(&false) || chosen.contains(&slot) {
                    return false;
                }
                chosen.push(slot);
            }
            true
        })?;
        for slot in &chosen {
            *taken.get_mut(*slot)? = true;
        }
        *pilots.get_mut(bucket)? = pilot;
    }
    Some(pilots)
}
