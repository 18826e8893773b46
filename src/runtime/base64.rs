//! Bytes as base64 text and back, in the standard alphabet with padding (RFC 4648, section 4): images within JSON, and the
//! keys and values of etcd.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Adds the base64 form of the bytes to a text.
pub fn encode_into(text: &mut String, bytes: &[u8]) {
    text.reserve(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            // A group of n bytes has n + 1 digits; padding stands for the rest.
            let value = (bits >> (18 - 6 * digit)) & 63;
            let symbol = ALPHABET
                .get(value as usize)
                .filter(|_| digit <= group.len());
            text.push(symbol.map_or('=', |symbol| char::from(*symbol)));
        }
    }
}

/// The bytes of a base64 text; `None` when it is not one.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (place, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && place + 1 < groups.len()) {
            return None;
        }
        let [a, b, c, d] = *group;
        let digit = |c: u8, at: usize| if at + padding >= 4 { Some(0) } else { value(c) };
        let bits = digit(a, 0)? << 18 | digit(b, 1)? << 12 | digit(c, 2)? << 6 | digit(d, 3)?;
        let [_, first, second, third] = bits.to_be_bytes();
        let all = [first, second, third];
        bytes.extend(all.iter().take(3 - padding));
    }
    Some(bytes)
}

fn value(symbol: u8) -> Option<u32> {
    let value = match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        encode_into(&mut text, bytes);
        text
    }

    #[test]
    fn the_standards_examples() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    proptest! {
        #[test]
        fn every_byte_can_be_read_back(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
            let digits = text.bytes().filter_map(|c| ALPHABET.iter().position(|a| *a == c));
            let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
            let read = bits.as_bytes().chunks_exact(8);
            let read: Vec<u8> = read.map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap()).collect();
            prop_assert_eq!(read, bytes);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "[A-Za-z0-9+/=_]{0,12}") {
            let _ = decode(text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Z", "Zg=", "Z===", "Zg==Zg==", "Z g=", "====", "Zm9_"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
