//! A short name for a prompt, the same wherever and whenever it is asked.
//!
//! The ledger must tell whether two runs asked the same thing without keeping what was asked. 128 bits of FNV-1a, written
//! down here so that no release of a library can change them. Refuses to be more than it is: it tells prompts apart and
//! keeps no secret. Who can guess a prompt can check the guess, and who wants to can make two prompts with one name.

const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The fingerprint of some parts in order, 32 hexadecimal digits. Where one part ends counts: `ab` and `c` is not `a` and `bc`.
pub fn fingerprint<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut hash = OFFSET;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for part in parts {
        let part = part.as_ref();
        // The length first, or the parts would run together.
        take(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        take(part);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_every_release() {
        let none: [&str; 0] = [];
        assert_eq!(fingerprint(none), "6c62272e07bb014262b821756295c58d");
        assert_eq!(fingerprint(["hello"]), "2e5b502d462502fc5e5dcb2c452ccbb8");
        assert_eq!(
            fingerprint(["system", "hello"]),
            "ae2226d276995b9957e52de3c37e671d"
        );
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
        assert_ne!(fingerprint(["", "a"]), fingerprint(["a", ""]));
        assert_ne!(fingerprint(["a"]), fingerprint(["a", ""]));
    }
}
