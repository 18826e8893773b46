//! CRC-32C (Castagnoli), the checksum of iSCSI, ext4 and Btrfs: it notices every error of up to 32 bits in a row and every
//! odd number of flipped bits.
//!
//! Eight bytes at a time, from eight tables that the compiler computes: the processor's own instruction would need `unsafe`,
//! and one table alone is four times slower, which a report over a gigabyte of records would feel. Not a defence against
//! someone who means to deceive: who can write the file can write its checksum too.

/// The polynomial 0x1EDC6F41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

#[allow(
    clippy::indexing_slicing,
    reason = "computed by the compiler, which stops at an index that is out of range"
)]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= POLYNOMIAL;
            }
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The table's entry for the low byte of a number. A byte is always in range.
fn entry(table: &[u32; 256], number: u32) -> u32 {
    let [byte, ..] = number.to_le_bytes();
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The checksum of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    extend(0, bytes)
}

/// The checksum of what `crc` is the checksum of, followed by these bytes.
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let mut crc = !crc;
    let (words, rest) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in words {
        let low = crc ^ u32::from_le_bytes([*a, *b, *c, *d]);
        let high = u32::from_le_bytes([*e, *f, *g, *h]);
        crc = entry(t7, low)
            ^ entry(t6, low >> 8)
            ^ entry(t5, low >> 16)
            ^ entry(t4, low >> 24)
            ^ entry(t3, high)
            ^ entry(t2, high >> 8)
            ^ entry(t1, high >> 16)
            ^ entry(t0, high >> 24);
    }
    for byte in rest {
        crc = (crc >> 8) ^ entry(t0, crc ^ u32::from(*byte));
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRC algorithms.
    #[test]
    fn published_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, expected) in [
            (&b"123456789"[..], 0xe306_9283),
            (b"", 0),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
        ] {
            assert_eq!(crc32c(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_text_in_two_parts_has_the_checksum_of_the_whole() {
        let text = b"The quick brown fox jumps over the lazy dog";
        for at in 0..text.len() {
            let (first, rest) = text.split_at(at);
            assert_eq!(extend(crc32c(first), rest), crc32c(text));
        }
    }
}
