//! Splitting text into pieces, the units within which a tokenizer merges.
//!
//! Each vocabulary comes with a regular expression that says where pieces end. The expressions
//! are few, fixed, and need no backtracking engine: here they are small hand-written scanners,
//! one for each family, held equal to the references by the differential tests.
//!
//! A scanner looks at a piece of a longer text, so it must know when it cannot know: a piece that
//! touches the end of what has been read so far may go on. It then answers `None`, and is asked
//! again with more text.
//!
//! The expressions (alternatives in order; `X` is `[^\s\p{L}\p{N}]`, `'c` the contractions
//! `'s 't 're 've 'm 'll 'd`, in any case except for p50k):
//!
//! - Kimi: `\p{Han}+`, then as o200k with letters other than Han and without the `/`.
//! - o200k: `[^\r\n\p{L}\p{N}]?U*l+'c?`, `[^\r\n\p{L}\p{N}]?U+l*'c?`, `\p{N}{1,3}`,
//!   ` ?X+[\r\n/]*`, `\s*[\r\n]+`, `\s+(?!\S)`, `\s+`, where `U` is any cased letter, mark or
//!   letter without case that may stand before the lower-case part, `l` one that may stand in it.
//! - cl100k: `'c`, `[^\r\n\p{L}\p{N}]?\p{L}+`, `\p{N}{1,3}`, ` ?X+[\r\n]*`, `\s+$`,
//!   `\s*[\r\n]`, `\s+(?!\S)`, `\s`.
//! - p50k, r50k: `'c`, ` ?\p{L}+`, ` ?\p{N}+`, ` ?X+`, `\s+$`, `\s+(?!\S)`, `\s`.
//!
//! Sources: OpenAI's `tiktoken_ext/openai_public.py`, Moonshot's `tokenization_kimi.py`.

use crate::tokens::class;
use crate::tokens::class::HAN;
use crate::tokens::class::LETTER;
use crate::tokens::class::LINE_END;
use crate::tokens::class::LOWER;
use crate::tokens::class::NUMBER;
use crate::tokens::class::SPACE;
use crate::tokens::class::UPPER;
use crate::tokens::window;
use crate::tokens::window::Rules;
use crate::tokens::window::Starts;
use crate::tokens::window::WINDOW;

/// A family of splitting expressions.
pub(crate) trait Pattern {
    /// Where the piece that starts at `at` ends. `last` says that `text` is all there is;
    /// without it, `None` means that the text read so far does not decide. `at` is a character's
    /// first byte and less than the length of `text`, which is UTF-8.
    fn end(text: &[u8], at: usize, last: bool) -> Option<usize>;

    /// The starts of pieces that can be seen at once in the window that opens at the start of one.
    fn starts(window: &[u8; WINDOW]) -> Starts;

    /// What the piece that starts `text` is, once it has outgrown every buffer.
    fn run(text: &[u8]) -> Run;
}

/// A piece without a bound, as the class of characters that keep it going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Characters that have one of these classes.
    Class(u8),
    /// A word of the cased families: upper-case part, lower-case part, contraction.
    Cased { han: bool },
    /// `X+`, then line ends, and slashes where the family takes them.
    Marks { line_ends: bool, slash: bool },
    /// White space; with `line_ends`, it breaks after the last line end.
    Space {
        /// `\s*[\r\n]+` is one of the alternatives.
        line_ends: bool,
        /// `\s+$` comes before it.
        all_at_end: bool,
    },
}

/// o200k, and Kimi with `KIMI`: words split where the case changes.
pub(crate) struct Cased<const KIMI: bool>;

/// cl100k.
pub(crate) struct Cl100k;

/// p50k and r50k.
pub(crate) struct P50k;

impl<const KIMI: bool> Rules for Cased<KIMI> {
    const CASED: bool = true;
    const SLASH: bool = !KIMI;
}

impl Rules for Cl100k {
    const CASED: bool = false;
    const SLASH: bool = false;
}

impl<const KIMI: bool> Cased<KIMI> {
    #[inline(always)]
    fn is_cased(class: u8) -> bool {
        is_cased(class, KIMI)
    }

    /// The end of the cased word at `at`, contraction included. The caller has seen that one
    /// stands there.
    ///
    /// `U*l+` is greedy and backs up: when no lower-case character follows the upper-case part,
    /// the last character of that part which is both (a letter without case, a mark) plays the
    /// lower-case one, and what comes after it is another piece. Without any such character the
    /// second alternative takes the whole part.
    fn word(text: &[u8], at: usize, last: bool) -> Option<usize> {
        let mut end = at;
        let mut both = None;
        loop {
            match class::at(text, end) {
                None if !last => return None,
                Some((class, len)) if Self::is_cased(class) => {
                    if class & UPPER == 0 {
                        break;
                    }
                    end += len;
                    if class & LOWER != 0 {
                        both = Some(end);
                    }
                }
                _ => return contraction(text, both.unwrap_or(end), last),
            }
        }
        loop {
            match class::at(text, end) {
                None if !last => return None,
                Some((class, len)) if Self::is_cased(class) && class & LOWER != 0 => end += len,
                _ => return contraction(text, end, last),
            }
        }
    }
}

impl<const KIMI: bool> Pattern for Cased<KIMI> {
    fn end(text: &[u8], at: usize, last: bool) -> Option<usize> {
        let (first, len) = class::at(text, at)?;
        if KIMI && first & HAN != 0 {
            return class_end(text, at + len, HAN, last);
        }
        if first & LETTER != 0 {
            return Self::word(text, at, last);
        }
        let next = at + len;
        if first & (NUMBER | LINE_END) == 0 {
            match class::at(text, next) {
                None if !last => return None,
                // A mark may itself be the character before the word, and then is.
                Some((class, _)) if Self::is_cased(class) => {
                    let lone = class & LOWER == 0 && Self::is_cased(first);
                    if !lone || Self::has_lower(text, next, last)? {
                        return Self::word(text, next, last);
                    }
                    return Some(next);
                }
                _ => {}
            }
            if Self::is_cased(first) {
                return contraction(text, next, last);
            }
        }
        if first & NUMBER != 0 {
            return number(text, next, last);
        }
        if let Some(start) = marks_start(text, at, last)? {
            return marks(text, start, true, !KIMI, last);
        }
        space(text, at, true, false, last)
    }

    #[inline(always)]
    fn starts(window: &[u8; WINDOW]) -> Starts {
        window::starts::<Self>(window)
    }

    fn run(text: &[u8]) -> Run {
        let (first, len) = class::at(text, 0).unwrap_or((0, 0));
        let (second, _) = class::at(text, len).unwrap_or((0, 0));
        if KIMI && first & HAN != 0 {
            Run::Class(HAN)
        } else if Self::is_cased(first) || first & LINE_END == 0 && Self::is_cased(second) {
            Run::Cased { han: KIMI }
        } else if is_space_run(first, second, text) {
            Run::Space {
                line_ends: true,
                all_at_end: false,
            }
        } else {
            Run::Marks {
                line_ends: true,
                slash: !KIMI,
            }
        }
    }
}

impl<const KIMI: bool> Cased<KIMI> {
    /// Whether the word at `at` has a lower-case part, or a character that can play it.
    fn has_lower(text: &[u8], mut at: usize, last: bool) -> Option<bool> {
        loop {
            match class::at(text, at) {
                None if !last => return None,
                Some((class, len)) if Self::is_cased(class) => {
                    if class & LOWER != 0 {
                        return Some(true);
                    }
                    at += len;
                }
                _ => return Some(false),
            }
        }
    }
}

impl Pattern for Cl100k {
    fn end(text: &[u8], at: usize, last: bool) -> Option<usize> {
        let (first, len) = class::at(text, at)?;
        let next = at + len;
        let after = contraction(text, at, last)?;
        if after > at {
            return Some(after);
        }
        if first & LETTER != 0 {
            return class_end(text, next, LETTER, last);
        }
        if first & (NUMBER | LINE_END) == 0 {
            match class::at(text, next) {
                None if !last => return None,
                Some((class, len)) if class & LETTER != 0 => {
                    return class_end(text, next + len, LETTER, last);
                }
                _ => {}
            }
        }
        if first & NUMBER != 0 {
            return number(text, next, last);
        }
        if let Some(start) = marks_start(text, at, last)? {
            return marks(text, start, true, false, last);
        }
        space(text, at, true, true, last)
    }

    #[inline(always)]
    fn starts(window: &[u8; WINDOW]) -> Starts {
        window::starts::<Self>(window)
    }

    fn run(text: &[u8]) -> Run {
        let (first, len) = class::at(text, 0).unwrap_or((0, 0));
        let (second, _) = class::at(text, len).unwrap_or((0, 0));
        if (first | second) & LETTER != 0 {
            Run::Class(LETTER)
        } else if is_space_run(first, second, text) {
            Run::Space {
                line_ends: true,
                all_at_end: true,
            }
        } else {
            Run::Marks {
                line_ends: true,
                slash: false,
            }
        }
    }
}

impl Pattern for P50k {
    fn end(text: &[u8], at: usize, last: bool) -> Option<usize> {
        let (first, len) = class::at(text, at)?;
        if first == 0 {
            let after = contraction(text, at, last)?;
            let lower = text
                .get(at..after)
                .is_some_and(|c| !c.iter().any(u8::is_ascii_uppercase));
            if after > at && lower && text.get(at + 1) != Some(&0xc5) {
                return Some(after);
            }
        }
        let (start, class) = if text.get(at) == Some(&b' ') {
            match class::at(text, at + 1) {
                None if !last => return None,
                Some((class, len)) => (at + 1 + len, class),
                None => (at + len, first),
            }
        } else {
            (at + len, first)
        };
        if class & LETTER != 0 {
            class_end(text, start, LETTER, last)
        } else if class & NUMBER != 0 {
            class_end(text, start, NUMBER, last)
        } else if class & SPACE == 0 {
            marks(text, start, false, false, last)
        } else {
            space(text, at, false, true, last)
        }
    }

    /// Its two users are models of the past: no window for them.
    #[inline(always)]
    fn starts(_: &[u8; WINDOW]) -> Starts {
        Starts {
            bits: 0,
            is_hard: true,
        }
    }

    fn run(text: &[u8]) -> Run {
        let (first, len) = class::at(text, 0).unwrap_or((0, 0));
        let (second, _) = class::at(text, len).unwrap_or((0, 0));
        let class = if text.first() == Some(&b' ') {
            second
        } else {
            first
        };
        if class & (LETTER | NUMBER) != 0 {
            Run::Class(class & (LETTER | NUMBER))
        } else if class & SPACE != 0 {
            Run::Space {
                line_ends: false,
                all_at_end: true,
            }
        } else {
            Run::Marks {
                line_ends: false,
                slash: false,
            }
        }
    }
}

fn is_space_run(first: u8, second: u8, text: &[u8]) -> bool {
    first & SPACE != 0 && (second & SPACE != 0 || text.first() != Some(&b' '))
}

/// Whether a character of these classes is part of a cased word; `han` keeps Han out of them.
#[inline(always)]
pub(crate) fn is_cased(class: u8, han: bool) -> bool {
    class & (UPPER | LOWER) != 0 && !(han && class & HAN != 0)
}

/// The end of the run of characters from `at` on that have one of these classes.
pub(crate) fn class_end(text: &[u8], at: usize, classes: u8, last: bool) -> Option<usize> {
    let mut end = at;
    loop {
        match class::at(text, end) {
            None if !last => return None,
            Some((class, len)) if class & classes != 0 => end += len,
            _ => return Some(end),
        }
    }
}

/// After one number: `\p{N}{1,3}` takes up to two more.
fn number(text: &[u8], at: usize, last: bool) -> Option<usize> {
    let mut end = at;
    for _ in 0..2 {
        match class::at(text, end) {
            None if !last => return None,
            Some((class, len)) if class & NUMBER != 0 => end += len,
            _ => break,
        }
    }
    Some(end)
}

/// Where the `X+` of ` ?X+` starts, if the piece at `at` is one.
fn marks_start(text: &[u8], at: usize, last: bool) -> Option<Option<usize>> {
    let is_mark = |class: u8| class & (LETTER | NUMBER | SPACE) == 0;
    match class::at(text, at) {
        Some((class, _)) if is_mark(class) => Some(Some(at)),
        Some(_) if text.get(at) == Some(&b' ') => match class::at(text, at + 1) {
            None if !last => None,
            Some((class, _)) if is_mark(class) => Some(Some(at + 1)),
            _ => Some(None),
        },
        _ => Some(None),
    }
}

/// The end of `X+`, with the line ends (and slashes) that may follow.
fn marks(text: &[u8], at: usize, line_ends: bool, slash: bool, last: bool) -> Option<usize> {
    let mut end = at;
    loop {
        match class::at(text, end) {
            None if !last => return None,
            Some((class, len)) if class & (LETTER | NUMBER | SPACE) == 0 => end += len,
            _ => break,
        }
    }
    loop {
        match text.get(end) {
            None if !last => return None,
            Some(b'\r' | b'\n') if line_ends => end += 1,
            Some(b'/') if slash => end += 1,
            _ => return Some(end),
        }
    }
}

/// The end of the white space at `at`: after its last line end if it has one and the family
/// breaks there, else before its last character, which belongs to what follows.
fn space(text: &[u8], at: usize, line_ends: bool, all_at_end: bool, last: bool) -> Option<usize> {
    let mut end = at;
    let mut after_line_end = None;
    let mut last_char = at;
    loop {
        match class::at(text, end) {
            None if !last => return None,
            Some((class, len)) if class & SPACE != 0 => {
                last_char = end;
                end += len;
                if class & LINE_END != 0 {
                    after_line_end = Some(end);
                }
            }
            None if all_at_end => return Some(end),
            found => {
                return Some(match after_line_end {
                    Some(end) if line_ends => end,
                    _ if found.is_none() || last_char == at => end,
                    _ => last_char,
                });
            }
        }
    }
}

/// The end of the contraction at `at`, or `at` when none stands there. In any case of its
/// letters; Unicode folds the long s to s, and so do the expressions.
#[inline(always)]
pub(crate) fn contraction(text: &[u8], at: usize, last: bool) -> Option<usize> {
    match text.get(at) {
        Some(b'\'') => contraction_after(text, at, last),
        None if !last => None,
        _ => Some(at),
    }
}

fn contraction_after(text: &[u8], at: usize, last: bool) -> Option<usize> {
    let byte = |n: usize| text.get(at + n).map(u8::to_ascii_lowercase);
    let len = match (byte(1), byte(2)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        (Some(0xc5), Some(0xbf)) => 3,
        (Some(b'r' | b'v' | b'l'), None) | (None, _) if !last => return None,
        _ => 0,
    };
    Some(at + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a whole text and checks that no shorter view of it claims another boundary.
    #[track_caller]
    fn check<P: Pattern>(text: &str, want: &[&str]) {
        let bytes = text.as_bytes();
        let mut at = 0;
        let mut got = Vec::new();
        while at < bytes.len() {
            let end = P::end(bytes, at, true).unwrap();
            for cut in (at + 1..bytes.len()).filter(|&cut| text.is_char_boundary(cut)) {
                if let Some(early) = P::end(&bytes[..cut], at, false) {
                    assert_eq!(early, end, "decided too early at {cut} of {text:?}");
                }
            }
            got.push(&text[at..end]);
            at = end;
        }
        assert_eq!(got, want);
    }

    type Kimi = Cased<true>;
    type O200k = Cased<false>;

    #[test]
    fn cased_families_split_where_case_changes() {
        check::<O200k>("HTTPServer parseJSON", &["HTTPServer", " parse", "JSON"]);
        check::<O200k>("don't DON'T I'll'd", &["don't", " DON'T", " I'll", "'d"]);
        check::<O200k>("it'ſ", &["it'ſ"]);
        check::<O200k>("AB文CD", &["AB文", "CD"]);
        check::<O200k>("AB文Cd", &["AB文Cd"]);
        check::<O200k>(
            "ABCDEFGHIJKLMNOP qrstuvwxyzabcdefg",
            &["ABCDEFGHIJKLMNOP", " qrstuvwxyzabcdefg"],
        );
    }

    #[test]
    fn a_mark_before_capitals_stands_alone() {
        check::<O200k>("\u{301}AB!", &["\u{301}", "AB", "!"]);
        check::<O200k>("\u{301}Ab!", &["\u{301}Ab", "!"]);
        check::<O200k>("!\u{301}\u{301}!", &["!\u{301}\u{301}", "!"]);
        check::<O200k>("\u{301}'s", &["\u{301}'s"]);
    }

    #[test]
    fn han_is_its_own_piece_for_kimi_only() {
        check::<Kimi>(
            "我说hello 世界，好",
            &["我说", "hello", " ", "世界", "，", "好"],
        );
        check::<O200k>("我说hello 世界，好", &["我说hello", " 世界", "，好"]);
        check::<Kimi>("12〇〇", &["12〇", "〇"]);
    }

    #[test]
    fn only_o200k_takes_slashes_after_marks() {
        check::<O200k>("();\n//x", &["();\n//", "x"]);
        check::<Kimi>("();\n//x", &["();\n", "//", "x"]);
        check::<Cl100k>("();\n//x", &["();\n", "//", "x"]);
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_word() {
        check::<Kimi>("a   b", &["a", "  ", " b"]);
        check::<Kimi>("a \n  \n   b", &["a", " \n  \n", "  ", " b"]);
        check::<Kimi>("a \n  ", &["a", " \n", "  "]);
        check::<Cl100k>("a \n  ", &["a", " \n  "]);
        check::<Cl100k>("a \n  b", &["a", " \n", " ", " b"]);
        check::<P50k>("a \n  b", &["a", " \n ", " b"]);
        check::<P50k>("  \n", &["  \n"]);
        check::<Kimi>("\u{a0}x\t\ty", &["\u{a0}x", "\t", "\ty"]);
    }

    #[test]
    fn numbers_come_in_threes_except_for_p50k() {
        check::<Kimi>("12345 1", &["123", "45", " ", "1"]);
        check::<P50k>("12345 1", &["12345", " 1"]);
    }

    #[test]
    fn contractions_stand_first_in_the_older_families() {
        check::<Cl100k>("it's 'SA 'x", &["it", "'s", " '", "SA", " '", "x"]);
        check::<Cl100k>("'SA", &["'S", "A"]);
        check::<P50k>("it's'S'll", &["it", "'s", "'", "S", "'ll"]);
        check::<P50k>("'ſ", &["'", "ſ"]);
        check::<Cl100k>("'ſx", &["'ſ", "x"]);
    }
}
