//! Commits of git, written without starting git.
//!
//! A push costs some ten processes; three more for every commit would be a third of it. A loose object is its header and
//! its body, compressed with zlib and named by their SHA-1. Blocks may be stored as they are, so no compressor is needed.
//! SHA-1 names things here and protects nothing. Repositories whose names are SHA-256 are left to git itself.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use crate::cost::record::random;

/// Writes a commit without parents and files into a directory of objects. Returns its hash.
pub(crate) fn write_commit(
    objects: &Path,
    tree: &str,
    seconds: u64,
    message: &[u8],
) -> io::Result<String> {
    let who = format!("omk <omk@localhost> {seconds} +0000");
    let mut body = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n").into_bytes();
    body.extend_from_slice(message);
    if !message.ends_with(b"\n") {
        body.push(b'\n');
    }
    let mut object = format!("commit {}\0", body.len()).into_bytes();
    object.extend_from_slice(&body);
    let hash = hex(&sha1(&object));
    let (first, rest) = hash.split_at(2);
    let directory = objects.join(first);
    let path = directory.join(rest);
    if path.is_file() {
        return Ok(hash);
    }
    fs::create_dir_all(&directory)?;
    let beside = directory.join(format!("tmp_obj_{:x}", random()));
    let written = (|| {
        let mut file = fs::File::create_new(&beside)?;
        file.write_all(&stored(&object))?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map(|()| hash)
}

/// A zlib stream of blocks that are stored as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend_from_slice(&(b << 16 | a).to_be_bytes());
    stream
}

/// SHA-1, as FIPS 180-4 has it.
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    let bits = u64::try_from(bytes.len()).unwrap_or(0).wrapping_mul(8);
    padded.extend_from_slice(&bits.to_be_bytes());
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in padded.as_chunks::<64>().0 {
        let (words, _) = block.as_chunks::<4>();
        let mut schedule: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
        for at in 16..80_usize {
            let back = |by: usize| schedule.get(at - by).copied().unwrap_or(0);
            schedule.push((back(3) ^ back(8) ^ back(14) ^ back(16)).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in schedule.iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999_u32),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mixed)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    for (to, from) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = from.to_be_bytes();
    }
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_examples() {
        for (text, digest) in [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
        ] {
            assert_eq!(hex(&sha1(text.as_bytes())), digest);
        }
        let million = vec![b'a'; 1_000_000];
        assert_eq!(
            hex(&sha1(&million)),
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
        );
    }

    #[test]
    fn a_stored_stream_has_a_header_blocks_and_a_checksum() {
        assert_eq!(
            stored(b"abc"),
            [
                0x78, 1, 1, 3, 0, 0xfc, 0xff, b'a', b'b', b'c', 0x02, 0x4d, 0x01, 0x27
            ]
        );
        let long = stored(&[0; 0x1_0000]);
        assert_eq!(long.len(), 2 + 2 * 5 + 0x1_0000 + 4);
    }
}
