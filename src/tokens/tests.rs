//! The counts against the reference tokenizers: the one test that matters most.
//!
//! `OMK_DIFFERENTIAL=N` sets how many random texts are tried for each vocabulary.

use super::*;
use crate::tokens::run::Limits;
use crate::tokens::split::Cased;
use crate::tokens::split::Cl100k;
use crate::tokens::split::Pattern;
use crate::tokens::window::WINDOW;

/// A small generator of reproducible randomness (xorshift*): a million texts in a few seconds.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Ends and beginnings that the expressions treat in their own way.
const ATOMS: &[&str] = &[
    "'s",
    "'S",
    "'ſ",
    "'t",
    "'re",
    "'VE",
    "'ll",
    "'lL",
    "'d",
    "'m",
    "'",
    "''",
    "ſ",
    "K",
    "the",
    " the",
    "The",
    " THE",
    "camelCase",
    "HTTPServer",
    "x",
    "A",
    "é",
    "É",
    "e\u{301}",
    "\u{301}",
    "\u{300}\u{301}",
    "ǅ",
    "ʰ",
    "你",
    "你好",
    "世界和平",
    "々",
    "〇",
    "⺀",
    "\u{302a}",
    "の",
    "カタカナ",
    "한국어",
    "привет",
    "ПРИВЕТ",
    "שלום",
    "مرحبا",
    "नमस्ते",
    "สวัสดี",
    "1",
    "12",
    "123",
    "1234567",
    "½",
    "²",
    "٣",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    " \n",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "\u{85}",
    "\u{b}",
    "\u{200b}",
    "\u{feff}",
    "!",
    "!!",
    "...",
    "();",
    "//",
    "/",
    "/*",
    "\n/",
    "-->",
    "====",
    "----------",
    "😀",
    "👩‍👩‍👧",
    "🇩🇪",
    "<|endoftext|>",
    "[EOS]",
    "\0",
    "\u{7f}",
    "\u{10ffff}",
    "\u{fffd}",
    "_",
    "__init__",
    "=>",
    "&&",
    "#",
    "\"",
    "\\n",
];

fn random_char(random: &mut Random) -> char {
    loop {
        let limit = random.pick(&[0x80, 0x800, 0x3000, 0xa000, 0x1_0000, 0x3_0000, 0x11_0000]);
        if let Some(c) = char::from_u32(random.below(limit) as u32) {
            return c;
        }
    }
}

/// One of the characters that the rules of windows tell apart.
fn random_ascii(random: &mut Random) -> char {
    let all = b"abeltrsvmd ABS  \n\r\t\x0b\x0c0123/.'_;\0\x7f";
    let few = b"aB 1.\n'/";
    if random.below(2) == 0 {
        char::from(random.pick(all))
    } else {
        char::from(random.pick(few))
    }
}

fn random_text(random: &mut Random) -> String {
    let mut text = String::new();
    let style = random.below(8);
    let most = match style {
        5 => 90,
        // Long enough for windows.
        6 | 7 => 300,
        _ => 24,
    };
    for _ in 0..random.below(most) {
        match style {
            0 => text.push(random_char(random)),
            1 => text.push(char::from(random.below(128) as u8)),
            2 => text.push(char::from_u32(0x4e00 + random.below(0x51a0) as u32).unwrap()),
            3 => {
                let atom = random.pick(ATOMS);
                for _ in 0..1 + random.below(4) {
                    text.push_str(atom);
                }
            }
            4 if random.below(3) == 0 => text.push(random_char(random)),
            6 => text.push(random_ascii(random)),
            7 => {
                let atom = random.pick::<&str>(ATOMS);
                if atom.is_ascii() || random.below(30) == 0 {
                    text.push_str(atom);
                }
            }
            _ => text.push_str(random.pick::<&str>(ATOMS)),
        }
    }
    text
}

/// Moonshot's expression, from `tokenization_kimi.py`.
const KIMI_PATTERN: &str = concat!(
    r"[\p{Han}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);

/// Kimi's tokenizer as Moonshot runs it: its ranks and its expression, in OpenAI's engine.
fn kimi() -> &'static tiktoken_rs::CoreBPE {
    static KIMI: std::sync::LazyLock<tiktoken_rs::CoreBPE> = std::sync::LazyLock::new(|| {
        let ranks = tiktoken::get_encoding("kimi_k2").unwrap();
        let tokens = (0..ranks.vocab_size() as u32).map(|rank| (ranks.decode(&[rank]), rank));
        let none = [("<|none|>".to_string(), 1 << 20)].into_iter().collect();
        tiktoken_rs::CoreBPE::new(tokens.collect(), none, KIMI_PATTERN).unwrap()
    });
    &KIMI
}

/// The reference for Kimi is the expression that Moonshot publishes. The crate `tiktoken` scans
/// by hand, as we do, and leaves the long s out of contractions: `t'ſ's` is one piece, and two
/// there. On every other text the two agree, and are held to it.
fn reference(vocabulary: Vocabulary, text: &str) -> Vec<u32> {
    let openai = match vocabulary {
        Vocabulary::Kimi => {
            let ids = kimi().encode_ordinary(text);
            if !text.contains("'ſ") {
                let crate_ids = tiktoken::get_encoding("kimi_k2").unwrap().encode(text);
                assert_eq!(crate_ids, ids, "the references differ: {text:?}");
            }
            return ids;
        }
        Vocabulary::O200k => tiktoken_rs::o200k_base_singleton(),
        Vocabulary::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        Vocabulary::P50k => tiktoken_rs::p50k_base_singleton(),
        Vocabulary::R50k => tiktoken_rs::r50k_base_singleton(),
    };
    openai.encode_ordinary(text)
}

#[track_caller]
fn check(vocabulary: Vocabulary, text: &str) {
    let want = reference(vocabulary, text);
    assert_eq!(
        encode(text, vocabulary, &[]),
        want,
        "{}: {text:?}",
        vocabulary.name()
    );
    assert_eq!(count(text, vocabulary), want.len() as u64);
}

/// The count of a text that arrives in random parts, through buffers so small that every border
/// is met.
fn count_in_parts(vocabulary: Vocabulary, text: &str, random: &mut Random) -> u64 {
    let limits = Limits {
        run_at: 16 + random.below(40),
        settle_at: 1 + random.below(900),
    };
    let mut counter = Counter::with_limits(vocabulary, limits);
    let mut rest = text;
    while !rest.is_empty() {
        let mut cut = (1 + random.below(40)).min(rest.len());
        while !rest.is_char_boundary(cut) {
            cut += 1;
        }
        counter.push(&rest[..cut]);
        rest = &rest[cut..];
    }
    counter.finish()
}

fn differential(vocabulary: Vocabulary, seed: u64) {
    let texts = std::env::var("OMK_DIFFERENTIAL").map_or(2_000, |n| n.parse().unwrap());
    let mut random = Random(seed);
    for _ in 0..texts {
        let text = random_text(&mut random);
        check(vocabulary, &text);
        let parts = count_in_parts(vocabulary, &text, &mut random);
        assert_eq!(parts, count(&text, vocabulary), "in parts: {text:?}");
    }
}

#[test]
fn random_texts_count_as_the_reference_kimi() {
    differential(Vocabulary::Kimi, 1);
}

#[test]
fn random_texts_count_as_the_reference_o200k() {
    differential(Vocabulary::O200k, 2);
}

#[test]
fn random_texts_count_as_the_reference_cl100k() {
    differential(Vocabulary::Cl100k, 3);
}

#[test]
fn random_texts_count_as_the_reference_p50k() {
    differential(Vocabulary::P50k, 4);
}

#[test]
fn random_texts_count_as_the_reference_r50k() {
    differential(Vocabulary::R50k, 5);
}

/// The starts that a window claims are those that the scanners find, and it claims all up to where it stops.
fn check_windows<P: Pattern>(seed: u64) {
    let texts = std::env::var("OMK_DIFFERENTIAL").map_or(20_000, |n| n.parse::<usize>().unwrap());
    let mut random = Random(seed);
    let mut claimed = 0;
    for _ in 0..texts {
        let mut text = String::new();
        let one_kind = random.below(4) == 0;
        let kind = random_ascii(&mut random);
        while text.len() < 2 * WINDOW {
            match random.below(200) {
                0 => text.push(random_char(&mut random)),
                1 => text.push_str(random.pick::<&str>(ATOMS)),
                2.. if one_kind && random.below(8) > 0 => text.push(kind),
                _ => text.push(random_ascii(&mut random)),
            }
        }
        let bytes = text.as_bytes();
        let starts = P::starts(bytes.first_chunk().unwrap());
        let (mut at, mut bits) = (0, 0);
        while bits < starts.bits {
            at = P::end(bytes, at, true).unwrap();
            bits |= 1u64.checked_shl(at as u32).unwrap_or(0);
        }
        assert_eq!(bits, starts.bits, "{text:?}");
        assert!(bits != 0 || starts.is_hard, "{text:?}");
        claimed += bits.count_ones();
    }
    assert!(claimed as usize > 5 * texts, "{claimed} starts claimed");
}

#[test]
fn windows_find_the_pieces_that_scanners_find() {
    check_windows::<Cased<true>>(40);
    check_windows::<Cased<false>>(41);
    check_windows::<Cl100k>(42);
}

/// Pieces that only a run can hold: long, of one class, with inner borders.
fn random_run(random: &mut Random) -> String {
    let alphabet: &[&str] = match random.below(9) {
        0 => &["a"],
        1 => &["a", "b"],
        2 => &[" ", " ", " ", "\n"],
        3 => &[" ", "\t", "\u{a0}", "\r\n"],
        4 => &["A", "A", "A", "文", "a"],
        5 => &["漢", "字", "あ"],
        6 => &["=", "-", "\u{301}", "⺀", "/"],
        7 => &["\u{301}", "\u{300}", "A", "e"],
        _ => &["1", "²", "٣"],
    };
    let mut text = String::new();
    if random.below(2) == 0 {
        text.push_str(random.pick::<&str>(ATOMS));
    }
    for _ in 0..random.below(6) {
        let unit = random.pick::<&str>(alphabet);
        for _ in 0..random.below(900) {
            text.push_str(if random.below(50) == 0 {
                random.pick::<&str>(alphabet)
            } else {
                unit
            });
        }
    }
    if random.below(2) == 0 {
        text.push_str(random.pick::<&str>(ATOMS));
    }
    text
}

#[test]
fn long_runs_count_as_the_reference_however_they_arrive() {
    let texts = std::env::var("OMK_DIFFERENTIAL").map_or(60, |n| n.parse::<usize>().unwrap() / 30);
    let mut random = Random(6);
    for _ in 0..texts {
        let text = random_run(&mut random);
        for &vocabulary in Vocabulary::ALL {
            check(vocabulary, &text);
            let parts = count_in_parts(vocabulary, &text, &mut random);
            assert_eq!(
                parts,
                count(&text, vocabulary),
                "{} in parts: {text:?}",
                vocabulary.name()
            );
        }
    }
}

/// Makes a text of so many units.
type TextOf = Box<dyn Fn(usize) -> String>;

/// What five megabytes of each would be, here small enough to count steps.
fn worst_cases() -> Vec<(&'static str, TextOf)> {
    let random_of = |seed: u64, chars: fn(usize) -> char| -> TextOf {
        Box::new(move |n| {
            let mut random = Random(seed);
            (0..n).map(|_| chars(random.below(20_000))).collect()
        })
    };
    let repeated =
        |unit: &'static str| -> Box<dyn Fn(usize) -> String> { Box::new(move |n| unit.repeat(n)) };
    vec![
        ("one letter", repeated("a")),
        ("spaces", repeated(" ")),
        ("newlines", repeated("\n")),
        ("one Han character", repeated("漢")),
        ("a mark", repeated("\u{301}")),
        ("contractions", repeated("'s'S'ſ")),
        ("a joined emoji", repeated("👩‍👩‍👧")),
        (
            "random letters",
            random_of(7, |n| char::from(b'a' + (n % 26) as u8)),
        ),
        (
            "two letters",
            random_of(8, |n| char::from(b'a' + (n % 2) as u8)),
        ),
        ("blanks and line ends", random_of(9, |n| [' ', '\n'][n % 2])),
        (
            "random Han",
            random_of(10, |n| char::from_u32(0x4e00 + n as u32).unwrap()),
        ),
        (
            "random marks",
            random_of(11, |n| char::from_u32(0x300 + n as u32 % 0x70).unwrap()),
        ),
    ]
}

#[test]
fn twice_the_text_is_about_twice_the_work() {
    for &vocabulary in Vocabulary::ALL {
        for (name, text) in worst_cases() {
            let work = |n: usize| {
                let text = text(n);
                merge::steps::take();
                count(&text, vocabulary);
                merge::steps::take() + text.len() as u64
            };
            let (once, twice) = (work(20_000), work(40_000));
            assert!(
                twice * 10 <= once * 23,
                "{name} in {}: {once} steps, then {twice}",
                vocabulary.name()
            );
        }
    }
}

#[test]
fn memory_does_not_grow_with_a_run() {
    for unit in ["a", " ", "\n", "漢", "xyz", "=", "\u{301}"] {
        let mut counter = Counter::with_limits(
            Vocabulary::Kimi,
            Limits {
                run_at: 1024,
                settle_at: 4096,
            },
        );
        let part = unit.repeat(1000);
        let mut most = 0;
        for _ in 0..100 {
            counter.push(&part);
            most = most.max(counter.held_bytes());
        }
        assert!(most < 20_000, "{unit:?}: {most} bytes held");
        assert_eq!(counter.finish(), count(&part.repeat(100), Vocabulary::Kimi));
    }
}

#[test]
fn special_tokens_are_text_unless_asked_for() {
    let text = "<|im_user|>user<|im_middle|>hi<|im_end|>";
    let special = Special::of(Vocabulary::Kimi, "kimi-k2.6");
    let ids = encode(text, Vocabulary::Kimi, special);
    let want = tiktoken::get_encoding("kimi_k2").unwrap();
    assert_eq!(ids, want.encode_with_special_tokens(text));
    assert_eq!(ids.len(), 5);
    assert!(count(text, Vocabulary::Kimi) > 15);
    assert_eq!(
        Special::of(Vocabulary::Kimi, "kimi-k3")[2].text,
        "<|end_of_msg|>"
    );
}

#[test]
fn special_tokens_are_found_however_the_text_is_cut() {
    let mut random = Random(12);
    for &vocabulary in Vocabulary::ALL {
        let special = Special::of(vocabulary, "kimi-k2.6");
        for _ in 0..300 {
            let mut text = String::new();
            for _ in 0..random.below(8) {
                match random.below(3) {
                    0 => text.push_str(random.pick(special).text),
                    1 => {
                        text.push_str(random.pick::<&str>(&["<", "<|", "[", "<|im_", "[EO", "|>"]))
                    }
                    _ => text.push_str(random.pick::<&str>(ATOMS)),
                }
            }
            let want = encode(&text, vocabulary, special).len() as u64;
            let mut counter = Counter::new(vocabulary).recognising(special);
            for c in text.chars() {
                counter.push(c.encode_utf8(&mut [0; 4]));
            }
            assert_eq!(counter.finish(), want, "{text:?}");
            let mut at_once = Counter::new(vocabulary).recognising(special);
            at_once.push(&text);
            assert_eq!(at_once.finish(), want, "{text:?}");
        }
    }
}
