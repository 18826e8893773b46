//! Cuts a text to a number of tokens, at the end of a character.

use crate::cli::flags::value::CutFrom;

/// What stands where the middle of a text was.
const GAP: &str = "\n[...]\n";

/// The text without what is too much of it; `count` counts tokens. The result never has more than `most`, unless the line
/// in place of a middle alone has.
pub(super) fn cut(
    text: &str,
    most: u64,
    from: CutFrom,
    count: &mut dyn FnMut(&str) -> u64,
) -> String {
    if count(text) <= most {
        return text.to_string();
    }
    match from {
        CutFrom::End => head(text, most, count).to_string(),
        CutFrom::Start => tail(text, most, count).to_string(),
        CutFrom::Middle => {
            let room = most.saturating_sub(count(GAP));
            // Where the parts meet the gap, tokens may be split in more.
            for spare in 0..=room {
                let half = (room - spare).div_ceil(2);
                let start = head(text, half, count);
                let rest = text.get(start.len()..).unwrap_or_default();
                let end = tail(rest, (room - spare) - half, count);
                let whole = format!("{start}{GAP}{end}");
                if count(&whole) <= most {
                    return whole;
                }
            }
            head(text, most, count).to_string()
        }
    }
}

/// The longest beginning of so many tokens, as far as halving finds it.
fn head<'a>(text: &'a str, most: u64, count: &mut dyn FnMut(&str) -> u64) -> &'a str {
    let at = search(text.len(), |bytes| {
        let end = text.floor_char_boundary(bytes);
        count(text.get(..end).unwrap_or_default()) <= most
    });
    text.get(..text.floor_char_boundary(at)).unwrap_or_default()
}

/// The longest end of so many tokens, as far as halving finds it.
fn tail<'a>(text: &'a str, most: u64, count: &mut dyn FnMut(&str) -> u64) -> &'a str {
    let at = search(text.len(), |bytes| {
        let start = text.ceil_char_boundary(text.len() - bytes);
        count(text.get(start..).unwrap_or_default()) <= most
    });
    text.get(text.ceil_char_boundary(text.len() - at)..)
        .unwrap_or_default()
}

/// No token is longer: what does not fit with so many bytes more does not fit at all.
const LONGEST_TOKEN: usize = 128;

/// The largest number of bytes that fits, at most `most`; nothing always fits. It first doubles, so that a short part of a
/// long text costs what a short text costs. Within a word a longer part can have fewer tokens, hence the last look.
fn search(most: usize, mut fits: impl FnMut(usize) -> bool) -> usize {
    let mut high = 64.min(most);
    let mut low = 0;
    while fits(high) {
        low = high;
        if high == most {
            return most;
        }
        high = high.saturating_mul(2).min(most);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let furthest = low.saturating_add(LONGEST_TOKEN).min(most);
    let further = (low + 1..=furthest).rev().find(|bytes| fits(*bytes));
    further.unwrap_or(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::{self, Vocabulary};

    fn count(text: &str) -> u64 {
        tokens::count(text, Vocabulary::Kimi)
    }

    #[test]
    fn the_part_that_is_named_is_cut_off() {
        let text = "one two three four five six seven eight nine ten eleven twelve thirteen";
        let cut = |most, from| cut(text, most, from, &mut count);
        assert_eq!(cut(4, CutFrom::End), "one two three four");
        assert_eq!(cut(3, CutFrom::End), "one two three");
        assert_eq!(cut(2, CutFrom::Start), " twelve thirteen");
        let middle = cut(9, CutFrom::Middle);
        assert!(
            middle.starts_with("one ") && middle.ends_with(" thirteen"),
            "{middle}"
        );
        assert!(middle.contains(GAP), "{middle}");
        for from in CutFrom::ALL {
            assert_eq!(cut(100, *from), text);
            assert_eq!(count(&cut(1, *from)), 1);
        }
    }

    proptest! {
        #[test]
        fn no_part_has_too_many_tokens(text in "[a-z \u{e9}\u{6f22}\u{1f980}\n]{0,200}", most in 1u64..40) {
            for from in CutFrom::ALL {
                let part = cut(&text, most, *from, &mut count);
                prop_assert!(count(&part) <= most, "{part:?}");
                match from {
                    CutFrom::End => prop_assert!(text.starts_with(&part)),
                    CutFrom::Start => prop_assert!(text.ends_with(&part)),
                    CutFrom::Middle => {}
                }
            }
        }
    }
}
