//! Text from outside, made fit to show.
//!
//! A model's answer, a server's error body and a file name can all carry escape sequences that repaint a terminal, or
//! marks that reverse the reading order. Everything of that kind passes through here before it is shown; what is piped on
//! as a result is never touched.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;

/// Shows control characters, invisible marks and direction overrides as escapes; every other character stays.
///
/// Line feed, carriage return and tab become `\n`, `\r` and `\t`, the rest `\u{...}`. A backslash stays a backslash: the
/// result is for reading, not for parsing.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_escaped(&mut shown, c);
    }
    Cow::Owned(shown)
}

/// The same text with control characters and direction overrides shown as escapes: for an answer on a terminal, of which a
/// person wants the lines and every mark of a script. Line feeds, tabs and the ends of Windows lines stay.
///
/// Each character is decided on alone but for a carriage return, so a sequence that comes in two pieces is not lost sight of.
pub fn neutralize(text: &str) -> Cow<'_, str> {
    if !text.contains(moves_cursor) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => shown.push(c),
            c if moves_cursor(c) => push_escaped(&mut shown, c),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The same for JSON, which stays JSON.
pub fn neutralize_json(json: &str) -> Cow<'_, str> {
    if !json.contains(moves_cursor) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match moves_cursor(c) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn moves_cursor(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`escape`] for bytes that may not be UTF-8: each invalid byte is shown as `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut shown, c);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// [`escape`] for a file name or an argument.
pub fn escape_os(name: impl AsRef<OsStr>) -> String {
    // On Unix these are the very bytes; elsewhere only a lone surrogate shows as bytes.
    escape_bytes(name.as_ref().as_encoded_bytes())
}

/// Characters of a spot that [`quote`] keeps.
const MAX_QUOTED_CHARS: usize = 60;

/// A text from outside as a message quotes it: in quotes, on one line, at most 60 characters.
pub(crate) fn quote(spot: &str) -> String {
    format!("\"{}\"", escape(&truncate(spot, MAX_QUOTED_CHARS)))
}

/// The text that a part of an address stands for: `%41` is `A`. `None` where digits are missing, or it is not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The first characters of a text, at most `max_chars` with the `…` that says something is missing.
pub fn truncate(text: &str, max_chars: usize) -> Cow<'_, str> {
    let mut ends = text.char_indices().map(|(at, _)| at);
    // The cut leaves room for the ellipsis; whether one is needed shows only at the character after the last.
    let cut = ends.by_ref().nth(max_chars.saturating_sub(1));
    match (cut, ends.next()) {
        (Some(_), _) if max_chars == 0 => Cow::Borrowed(""),
        (Some(cut), Some(_)) => Cow::Owned(format!("{}…", text.get(..cut).unwrap_or_default())),
        _ => Cow::Borrowed(text),
    }
}

/// The candidates that someone may have meant by `wanted`, nearest first, at most `limit`.
///
/// Near is at most one slip for each three characters, or a candidate that begins with the text; case is ignored. A slip
/// is a character too many, too few, wrong, or swapped with its neighbour. Far guesses are refused: a wrong suggestion
/// costs more than none.
pub fn near_misses<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    // One character could mean anything. Nobody misspells a name of hundreds, and comparing takes quadratic time.
    if !(2..=128).contains(&wanted.len()) || wanted.chars().nth(1).is_none() {
        return Vec::new();
    }
    let allowed = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            // Whoever stopped typing is as likely as whoever slipped once.
            if lower.starts_with(&wanted) {
                return Some((usize::from(lower != wanted), candidate));
            }
            let slips = slips(&wanted, &lower);
            (slips <= allowed).then_some((slips, candidate))
        })
        .collect();
    near.sort_by_key(|(slips, _)| *slips);
    near.into_iter()
        .map(|(_, candidate)| candidate)
        .take(limit)
        .collect()
}

/// The first of [`near_misses`], for a hint that names one.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near_misses(wanted, candidates, 1).pop()
}

/// The number of slips between two texts: a table of edit distances, of which the last three rows are kept.
fn slips(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX - 1);
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut from_before = None;
    for (i, a) in from.chars().enumerate() {
        let mut row = vec![i + 1];
        let mut to_before = None;
        for (j, &b) in to.iter().enumerate() {
            let replaced = at(&last, j) + usize::from(a != b);
            let mut least = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if from_before == Some(b) && to_before == Some(a) {
                // Both texts have a character before this one, so the row and the column exist.
                least = least.min(at(&before_last, j.saturating_sub(1)) + 1);
            }
            row.push(least);
            to_before = Some(b);
        }
        before_last = std::mem::replace(&mut last, row);
        from_before = Some(a);
    }
    last.last().copied().unwrap_or(0)
}

fn push_escaped(shown: &mut String, c: char) {
    match c {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        c if is_unsafe(c) => shown.extend(c.escape_unicode()),
        c => shown.push(c),
    }
}

/// Control characters, line and paragraph separators, direction marks, and what takes no room at all.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}')
}

/// A number for people: whole below 10,000, then in k, M, G or T with three or four digits, such as `1.05M`.
pub fn human(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let unit = UNITS.into_iter().find(|(unit, _)| number >= *unit);
    let Some((unit, name)) = unit.filter(|_| number >= 10_000) else {
        return number.to_string();
    };
    let (digits, scale) = match number / unit {
        0..10 => (2, 100),
        _ => (1, 10),
    };
    let unit = u128::from(unit);
    let scaled = (u128::from(number) * scale + unit / 2) / unit;
    let (whole, part) = (scaled / scale, scaled % scale);
    let text = format!("{whole}.{part:0digits$}");
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percent_signs_stand_for_bytes() {
        assert_eq!(percent_decoded("a%20b%C3%A9").as_deref(), Some("a bé"));
        for broken in ["%", "%4", "%+1", "%zz", "%ff"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_answer_keeps_its_lines_and_scripts_and_moves_no_cursor() {
        let harmless = "a\tb\r\nκ 👩\u{200d}💻 می\u{200c}خواهم\n";
        assert_eq!(neutralize(harmless), harmless);
        assert_eq!(
            neutralize("\x1b[2Jx\r\u{9b}31m\u{7f}\u{202e}\x07"),
            "\\u{1b}[2Jx\\r\\u{9b}31m\\u{7f}\\u{202e}\\u{7}"
        );
        assert_eq!(
            neutralize_json("[\"\u{9b}\u{202e}é\"]\n"),
            "[\"\\u009b\\u202eé\"]\n"
        );
    }

    #[test]
    fn escapes_what_could_move_a_cursor() {
        assert_eq!(escape("plain текст 文字 é"), "plain текст 文字 é");
        assert_eq!(
            escape("a\x1b[31mred\x07\r\n\t"),
            "a\\u{1b}[31mred\\u{7}\\r\\n\\t"
        );
        assert_eq!(escape("abc\u{202e}txt.exe"), "abc\\u{202e}txt.exe");
        assert_eq!(escape("C:\\dir"), "C:\\dir");
        assert_eq!(escape_bytes(b"ok \xff\xc3 \x1b"), "ok \\xff\\xc3 \\u{1b}");
        assert_eq!(escape_os("a\nb"), "a\\nb");
    }

    #[test]
    fn truncates_on_a_character() {
        assert_eq!(truncate("", 3), "");
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abcd", 3), "ab…");
        assert_eq!(truncate("文字文字", 3), "文字…");
        assert_eq!(truncate("abc", 1), "…");
        assert_eq!(truncate("abc", 0), "");
        assert_eq!(truncate("a", 1), "a");
    }

    #[test]
    fn near_misses_come_nearest_first() {
        let names = ["kimi-k3", "kimi-k2.5", "gpt-5", "gpt-5.2"];
        assert_eq!(near_misses("kimi-k4", names, 9), ["kimi-k3"]);
        assert_eq!(near_misses("kimi-k", names, 9), ["kimi-k3", "kimi-k2.5"]);
        assert_eq!(near_misses("GPT-52", names, 9), ["gpt-5", "gpt-5.2"]);
        assert_eq!(near_misses("gpt", names, 9), ["gpt-5", "gpt-5.2"]);
        assert!(near_misses("llama", names, 9).is_empty());
        assert!(near_misses(&"x".repeat(100_000), names, 9).is_empty());
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["estimate", "models", "models update", "completions", "help"];
        for (typed, want) in [
            ("estimte", Some("estimate")),
            ("esitmate", Some("estimate")),
            ("model", Some("models")),
            ("est", Some("estimate")),
            ("comp", Some("completions")),
            ("hlep", Some("help")),
            ("prompt", None),
            ("x", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), want, "{typed}");
        }
    }

    #[test]
    fn slips_are_counted() {
        for (a, b, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("modle", "model", 1),
            ("modl", "model", 1),
            ("moddel", "model", 1),
            ("nodel", "model", 1),
            ("süß", "suss", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(slips(a, b), count, "{a} {b}");
            assert_eq!(slips(b, a), count, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_and_once_is_enough(text in any::<String>()) {
            let shown = escape(&text).into_owned();
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert_eq!(escape(&shown), shown.as_str());
            prop_assert_eq!(escape_bytes(text.as_bytes()), shown);
        }

        #[test]
        fn any_bytes_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!escape_bytes(&bytes).chars().any(is_unsafe));
        }

        #[test]
        fn truncation_keeps_the_bound_and_the_start(text in any::<String>(), max in 0_usize..20) {
            let shown = truncate(&text, max);
            prop_assert!(shown.chars().count() <= max);
            prop_assert!(text.starts_with(shown.trim_end_matches('…')) || text.contains('…'));
        }
    }

    #[test]
    fn numbers_for_people_have_few_digits() {
        for (number, shown) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10k"),
            (12_345, "12.3k"),
            (1_048_576, "1.05M"),
            (526_315_807, "526.3M"),
            (9_990_000, "9.99M"),
            (u64::MAX, "18446744.1T"),
        ] {
            assert_eq!(human(number), shown);
        }
    }
}
