//! The kinds of text that throughput is measured on, each as long as is asked and made anew for each
//! number: whoever remembers pieces has not seen the next text.

use crate::corpus::{self, Random};

/// Makes a text of a kind: the number of the text, and how many bytes.
pub(crate) type Make = fn(usize, usize) -> String;

/// Every kind and its name.
pub(crate) const KINDS: &[(&str, Make)] = &[
    ("mixed text and code", corpus::mixed_part),
    ("English prose, recombined", english),
    ("Chinese prose, recombined", chinese),
    ("Markdown in twelve languages", markdown),
    ("JSON", json),
    ("minified JavaScript", javascript),
    ("git diff", diff),
    ("log with hex ids", log),
    ("CSV of numbers and dates", csv),
    ("long names", long_names),
    ("constants", constants),
    ("base64", base64),
    ("emoji", emoji),
    ("random letters", letters),
];

/// Words that follow each other in no order they had.
fn english(number: usize, bytes: usize) -> String {
    let words: Vec<&str> = corpus::ENGLISH.split_whitespace().collect();
    let mut random = Random::new(100 + number as u64);
    corpus::grow(bytes, |text| {
        text.push_str(random.pick(&words));
        // A word that was never one, now and then, as names are in prose.
        if random.below(12) == 0 {
            text.push(' ');
            text.push(char::from(b'A' + random.below(26) as u8));
            word(text, &mut random, 3, 9);
        }
        text.push_str(if random.below(80) == 0 { ".\n\n" } else { " " });
    })
}

fn chinese(number: usize, bytes: usize) -> String {
    corpus::chinese_of(200 + number as u64, bytes)
}

fn json(number: usize, bytes: usize) -> String {
    corpus::json_of(300 + number as u64, bytes)
}

/// A sentence in each of twelve languages, ours.
const SENTENCES: [&str; 12] = [
    "The count is right before the question is asked",
    "Die Zählung stimmt, bevor die Frage gestellt wird",
    "Le compte est juste avant que la question ne soit posée",
    "La cuenta es correcta antes de hacer la pregunta",
    "Liczba jest poprawna, zanim zostanie zadane pytanie",
    "Подсчёт верен прежде, чем задан вопрос",
    "Ο αριθμός είναι σωστός πριν τεθεί η ερώτηση",
    "העמודה נכונה לפני שנשאלת השאלה",
    "العدد صحيح قبل أن يطرح السؤال",
    "प्रश्न पूछने से पहले गिनती सही होती है",
    "質問をする前に数は正しい",
    "질문을 하기 전에 계산은 정확하다",
];

fn markdown(number: usize, bytes: usize) -> String {
    let mut random = Random::new(400 + number as u64);
    corpus::grow(bytes, |text| {
        let sentence = random.pick(&SENTENCES);
        let mut words: Vec<&str> = sentence.split(' ').collect();
        for _ in 0..words.len() {
            let (one, other) = (random.below(words.len()), random.below(words.len()));
            words.swap(one, other);
        }
        let words = words.join(" ");
        let id = random.below(100_000);
        text.push_str(&match random.below(6) {
            0 => format!("\n## {words}\n\n"),
            1 => format!("- **{words}**, [{id}](https://example.org/{id})\n"),
            2 => format!("| {words} | {id} | `{id:x}` |\n"),
            _ => format!("{words}. "),
        });
    })
}

/// Letters that are seldom a word.
fn word(text: &mut String, random: &mut Random, least: usize, most: usize) {
    let syllables = [
        "ka", "ro", "ti", "men", "sol", "ex", "va", "du", "lin", "par", "o", "qui", "str", "ez",
    ];
    let end = text.len() + least + random.below(most - least + 1);
    while text.len() < end {
        text.push_str(random.pick(&syllables));
    }
}

fn javascript(number: usize, bytes: usize) -> String {
    let mut random = Random::new(500 + number as u64);
    corpus::grow(bytes, |text| {
        let [a, b, c] = [0; 3].map(|_| char::from(b'a' + random.below(26) as u8));
        let mut name = String::new();
        word(&mut name, &mut random, 3, 14);
        let n = random.below(5_000);
        text.push_str(&match random.below(7) {
            0 => format!("function {a}({b},{c}){{return {b}.{name}({c}|{n})}}"),
            1 => format!("var {a}=t({n}),{b}=n.n({a});"),
            2 => format!("if(!{a}.{name}&&{b}>={n}){c}.push({{{name}:!0,id:\"{n:x}\"}});"),
            3 => format!("e.exports={{{name}:{a},_{name}:{n}}};"),
            4 => format!("{a}=({b}=>{b}.{name}?.[{n}]??void 0)({c}),"),
            5 => format!("for(let {a}=0;{a}<{b}.length;++{a}){c}+={b}[{a}].{name};"),
            _ => format!("this.{name}='{name}-{n}',"),
        });
    })
}

/// The sources of the dependencies as someone changes them.
fn diff(number: usize, bytes: usize) -> String {
    let source = corpus::mixed_part(50 + number, bytes);
    let mut random = Random::new(600 + number as u64);
    let mut lines = source.lines();
    corpus::grow(bytes, |text| {
        let (from, id) = (1 + random.below(3_000), random.next());
        if random.below(4) == 0 {
            let mut name = String::new();
            word(&mut name, &mut random, 4, 12);
            text.push_str(&format!(
                "diff --git a/src/{name}.rs b/src/{name}.rs\nindex {:08x}..{:08x} 100644\n--- a/src/{name}.rs\n+++ b/src/{name}.rs\n",
                id as u32,
                (id >> 32) as u32
            ));
        }
        text.push_str(&format!("@@ -{from},7 +{from},9 @@\n"));
        for _ in 0..9 {
            text.push(random.pick(&[' ', ' ', ' ', '+', '-']));
            text.push_str(lines.next().unwrap_or("}"));
            text.push('\n');
        }
    })
}

fn time(random: &mut Random) -> String {
    let [month, day, hour] = [12, 28, 24].map(|most| random.below(most));
    let [minute, second, milli] = [60, 60, 1000].map(|most| random.below(most));
    let (month, day) = (month + 1, day + 1);
    format!("2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn log(number: usize, bytes: usize) -> String {
    let words: Vec<&str> = corpus::ENGLISH.split_whitespace().collect();
    let mut random = Random::new(700 + number as u64);
    corpus::grow(bytes, |text| {
        let level = random.pick(&["INFO", "WARN", "ERROR", "DEBUG"]);
        let (a, b, span) = (random.next(), random.next(), random.next());
        let [one, other] = [0; 2].map(|_| random.pick(&words));
        let took = random.below(10_000);
        let time = time(&mut random);
        text.push_str(&format!(
            "{time} {level} request_id={a:016x}{b:016x} span={span:016x} {one} {other} took {took}ms\n"
        ));
    })
}

fn csv(number: usize, bytes: usize) -> String {
    let mut random = Random::new(800 + number as u64);
    corpus::grow(bytes, |text| {
        let [id, amount, share, count] =
            [1_000_000, 10_000_000, 1_000_000, 100_000].map(|most| random.below(most));
        let time = time(&mut random);
        text.push_str(&format!(
            "{id},{}.{:04},{},0.{share:06},{count}\n",
            amount / 10_000,
            amount % 10_000,
            &time[..10]
        ));
    })
}

/// As bindings to the interfaces of Windows have them.
fn long_names(number: usize, bytes: usize) -> String {
    let parts = [
        "Image",
        "File",
        "Machine",
        "Create",
        "Window",
        "Handle",
        "Query",
        "Interface",
        "Device",
        "Notify",
        "Callback",
        "Property",
        "Key",
        "Security",
        "Descriptor",
        "Async",
        "Buffer",
        "D3D12",
        "Http",
        "Rpc",
        "Token",
        "Privileges",
        "Wlan",
        "Registry",
        "Volume",
        "Enum",
        "Ex",
        "W",
        "Ole",
        "Dispatch",
        "Winsock",
    ];
    let mut random = Random::new(900 + number as u64);
    corpus::grow(bytes, |text| {
        let mut name = |least: usize, most: usize, between: &str| {
            let parts: Vec<&str> = (0..least + random.below(most))
                .map(|_| random.pick(&parts))
                .collect();
            parts.join(between)
        };
        let (constant, kind) = (name(2, 5, "_").to_uppercase(), name(2, 3, ""));
        let (function, given, answer) = (name(2, 5, ""), name(1, 2, ""), name(1, 2, ""));
        let library = name(1, 2, "").to_lowercase();
        let value = random.next() as u32;
        text.push_str(&format!(
            "pub const {constant}: {kind} = {value}u32;\nwindows_link::link!(\"{library}.dll\" \"system\" fn {function}(p{given} : \
*mut {given}, dw{kind} : u32) -> {answer});\n"
        ));
    })
}

/// As the bindings to a C library have them.
fn constants(number: usize, bytes: usize) -> String {
    let prefixes = [
        "SYS", "EV", "KEY", "IFLA", "NFT", "SO", "TCP", "PT", "ETH_P", "RTA", "CLONE", "O", "S",
        "F", "NL80211",
    ];
    let types = ["c_int", "c_uint", "c_ulong", "u16", "u32", "crate::c_int"];
    let mut random = Random::new(1000 + number as u64);
    corpus::grow(bytes, |text| {
        let mut name = random.pick(&prefixes).to_string();
        for _ in 0..1 + random.below(2) {
            name.push('_');
            word(&mut name, &mut random, 2, 8);
        }
        let value = random.next();
        let value = match random.below(3) {
            0 => format!("{}", value % 4096),
            1 => format!("0x{:x}", value >> (8 * random.below(8))),
            _ => format!("1 << {}", value % 32),
        };
        text.push_str(&format!(
            "pub const {}: {} = {value};\n",
            name.to_uppercase(),
            random.pick(&types)
        ));
    })
}

fn base64(number: usize, bytes: usize) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random::new(1100 + number as u64);
    corpus::grow(bytes, |text| {
        text.extend((0..76).map(|_| char::from(random.pick(digits))));
        text.push('\n');
    })
}

fn emoji(number: usize, bytes: usize) -> String {
    let joined = ["👩‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "🏳️‍🌈", "1️⃣"];
    let mut random = Random::new(1200 + number as u64);
    corpus::grow(bytes, |text| {
        for _ in 0..=random.below(3) {
            match random.below(5) {
                0 => text.push_str(random.pick(&joined)),
                _ => text.extend(char::from_u32(0x1f300 + random.below(0x350) as u32)),
            }
        }
        text.push(' ');
        word(text, &mut random, 2, 7);
        text.push(' ');
    })
}

fn letters(number: usize, bytes: usize) -> String {
    let mut random = Random::new(1300 + number as u64);
    corpus::grow(bytes, |text| {
        text.push(char::from(b'a' + random.below(26) as u8))
    })
}
