//! Keys in a text that is about to leave the machine.
//!
//! Only forms that nothing else has: a fixed prefix, an exact alphabet and length, and where the issuer defines one, a mark
//! in the middle. Prose and code must never match, so examples from manuals and placeholders (`ghp_xxxx…`, `AKIA…EXAMPLE`)
//! are told apart as well. A key without an unmistakable form, such as a password, is not found: this catches accidents, not
//! intent. It never shows what it found.

/// A key that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// What it is, such as `GitHub token`.
    pub kind: &'static str,
    /// The line that it begins in; the first is 1.
    pub line: usize,
}

/// One form of key.
struct Rule {
    kind: &'static str,
    /// What it begins with.
    prefix: &'static str,
    /// The length of the key that begins here, prefix included, if one does.
    measure: fn(&str) -> Option<usize>,
}

const fn rule(
    kind: &'static str,
    prefix: &'static str,
    measure: fn(&str) -> Option<usize>,
) -> Rule {
    Rule {
        kind,
        prefix,
        measure,
    }
}

const GITHUB: &str = "GitHub token";
const AWS: &str = "AWS access key";
const SLACK: &str = "Slack token";
const MODEL: &str = "key of a model service";

/// Every form, in the order in which they are looked for.
const RULES: &[Rule] = &[
    rule("private key", "-----BEGIN ", private_key),
    rule(GITHUB, "ghp_", |text| random(text, 4, 36..=36, is_alnum)),
    rule(GITHUB, "gho_", |text| random(text, 4, 36..=36, is_alnum)),
    rule(GITHUB, "ghu_", |text| random(text, 4, 36..=36, is_alnum)),
    rule(GITHUB, "ghs_", |text| random(text, 4, 36..=36, is_alnum)),
    rule(GITHUB, "ghr_", |text| random(text, 4, 36..=76, is_alnum)),
    rule(GITHUB, "github_pat_", |text| {
        let end = random(text, 11, 82..=82, is_word)?;
        (text.as_bytes().get(11 + 22) == Some(&b'_')).then_some(end)
    }),
    rule("GitLab token", "glpat-", |text| {
        random(text, 6, 20..=20, is_url_safe)
    }),
    rule(AWS, "AKIA", |text| random(text, 4, 16..=16, is_base32)),
    rule(AWS, "ASIA", |text| random(text, 4, 16..=16, is_base32)),
    rule(SLACK, "xoxb-", slack),
    rule(SLACK, "xoxp-", slack),
    rule(SLACK, "xoxa-", slack),
    rule(SLACK, "xoxr-", slack),
    rule(SLACK, "xoxs-", slack),
    rule(SLACK, "xapp-", slack),
    rule(
        "Slack webhook",
        "https://hooks.slack.com/services/T",
        |text| {
            let path = text.get(33..)?;
            let mut parts = path.split('/');
            let (team, hook) = (parts.next()?, parts.next()?);
            let is_id = |id: &str| {
                (8..=12).contains(&id.len())
                    && id
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            };
            if !is_id(team) || !is_id(hook) {
                return None;
            }
            random(
                text,
                33 + team.len() + 1 + hook.len() + 1,
                24..=24,
                is_alnum,
            )
        },
    ),
    rule("Google API key", "AIza", |text| {
        random(text, 4, 35..=35, is_url_safe)
    }),
    rule("Google client secret", "GOCSPX-", |text| {
        random(text, 7, 28..=28, is_url_safe)
    }),
    rule(MODEL, "sk-kimi-", |text| {
        random(text, 8, 40..=100, is_alnum)
    }),
    rule(MODEL, "sk-ant-", |text| {
        let end = random(text, 7, 90..=120, is_url_safe)?;
        text.get(..end)?.ends_with("AA").then_some(end)
    }),
    rule(MODEL, "sk-or-v1-", |text| random(text, 9, 64..=64, is_hex)),
    rule(MODEL, "sk-", |text| {
        // OpenAI's have their maker's name in base64 in the middle; the others are told by their length.
        let marked = || {
            let end = random(text, 3, 48..=220, is_url_safe)?;
            text.get(..end)?.contains("T3BlbkFJ").then_some(end)
        };
        marked()
            .or_else(|| random(text, 3, 48..=48, is_alnum))
            .or_else(|| random(text, 3, 32..=32, is_hex))
    }),
    rule("Stripe key", "sk_live_", |text| {
        random(text, 8, 24..=107, is_alnum)
    }),
    rule("Stripe key", "rk_live_", |text| {
        random(text, 8, 24..=107, is_alnum)
    }),
    rule("npm token", "npm_", |text| {
        random(text, 4, 36..=36, is_alnum)
    }),
    rule("PyPI token", "pypi-AgEIcHlwaS5vcmc", |text| {
        random(text, 20, 50..=400, is_url_safe)
    }),
    rule("SendGrid key", "SG.", |text| {
        let dot = text.get(3..)?.find('.')? + 3;
        if dot != 25 {
            return None;
        }
        random(text, 26, 43..=43, is_url_safe)
    }),
    rule("JSON web token", "eyJ", json_web_token),
];

/// The first key in a text, by its place.
pub fn find(text: &str) -> Option<Secret> {
    let first = RULES.iter().filter_map(|rule| {
        let places = text.match_indices(rule.prefix);
        let mut places = places.filter(|(at, _)| begins_word(text, *at));
        let (at, _) = places.find(|(at, _)| {
            let rest = text.get(*at..).unwrap_or_default();
            (rule.measure)(rest).is_some()
        })?;
        Some((at, rule.kind))
    });
    let (at, kind) = first.min_by_key(|(at, _)| *at)?;
    let before = text.get(..at).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    Some(Secret { kind, line })
}

/// Whether what stands before a place leaves it the beginning of a word.
fn begins_word(text: &str, at: usize) -> bool {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    match before.last() {
        None => true,
        // What an escape stands for ends a word: `\n` in a string of JSON.
        Some(_) if before.ends_with(b"\\n") || before.ends_with(b"\\t") => true,
        Some(byte) => !(is_url_safe(*byte) || matches!(byte, b'+' | b'.')),
    }
}

/// The end of `prefix` bytes and a random part of that length and alphabet that ends a word.
fn random(
    text: &str,
    prefix: usize,
    length: std::ops::RangeInclusive<usize>,
    fits: fn(u8) -> bool,
) -> Option<usize> {
    let rest = text.as_bytes().get(prefix..)?;
    let count = rest.iter().take_while(|byte| fits(**byte)).count();
    let follows = rest.get(count).copied();
    let ends_word = follows.is_none_or(|byte| !(is_url_safe(byte) || matches!(byte, b'+' | b'/')));
    let body = rest.get(..count)?;
    (length.contains(&count) && ends_word && is_plausible(body)).then_some(prefix + count)
}

/// Whether this looks drawn at random: placeholders repeat a character, count up, or say what they are.
fn is_plausible(body: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in body {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let (mut repeats, mut counts, mut longest) = (1, 1, 1);
    for pair in body.windows(2) {
        let [a, b] = pair else { continue };
        repeats = if a == b { repeats + 1 } else { 1 };
        counts = if a.checked_add(1) == Some(*b) {
            counts + 1
        } else {
            1
        };
        longest = longest.max(repeats).max(counts);
    }
    let lower = body.to_ascii_lowercase();
    let says = |word: &[u8]| lower.windows(word.len()).any(|window| window == word);
    // Of 16 characters out of 32, fewer than 8 different ones come once in ten thousand.
    let enough = if body.len() < 20 { 8 } else { 10 };
    distinct >= enough
        && longest < 5
        && !says(b"example")
        && !says(b"placeholder")
        && !says(b"your")
        && !says(b"xxxx")
        && !says(b"test")
        && !says(b"fake")
        && !says(b"dummy")
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_base32(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'2'..=b'7')
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// A block that holds a key: the line that opens it alone stands in many programs.
fn private_key(text: &str) -> Option<usize> {
    const LEAST: usize = 64;
    let label_end = text.get(11..)?.find("-----")? + 11;
    let label = text.get(11..label_end)?;
    let is_key = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
    if !is_key || label.len() > 40 {
        return None;
    }
    let rest = text.get(label_end + 5..)?;
    // In a string of JSON or of a program the lines end in `\n`.
    let body = rest.split("-----END").next().unwrap_or(rest);
    let body: String = body
        .chars()
        .take(4096)
        .collect::<String>()
        .replace("\\n", "\n");
    let lines = body.lines().map(str::trim);
    let key: usize = lines
        .map(|line| line.trim_matches(|c| matches!(c, '"' | '\'' | ',' | '\\' | '+' | ' ')))
        .filter(|line| !line.is_empty() && line.bytes().all(is_base64) && is_plausible_line(line))
        .map(str::len)
        .sum();
    (key >= LEAST).then_some(label_end + 5)
}

/// A line of base64 and not of a placeholder.
fn is_plausible_line(line: &str) -> bool {
    let bytes = line.as_bytes();
    let first = bytes.first().copied();
    !bytes.iter().all(|byte| Some(*byte) == first)
}

/// `xoxb-123456789012-1234567890123-…`: numbers, and a tail of at least 24.
fn slack(text: &str) -> Option<usize> {
    let count = text.bytes().take_while(|byte| is_url_safe(*byte)).count();
    let token = text.get(..count)?;
    let mut parts = token.split('-');
    parts.next()?;
    let tail = token.rsplit('-').next()?;
    let numbers = parts.filter(|part| part.len() >= 9 && part.bytes().all(|b| b.is_ascii_digit()));
    let fits = numbers.count() >= 1
        && (24..=64).contains(&tail.len())
        && tail.bytes().all(is_alnum)
        && is_plausible(tail.as_bytes());
    fits.then_some(count)
}

/// Three parts, of which the first two are JSON objects, the first one with an algorithm.
fn json_web_token(text: &str) -> Option<usize> {
    let fits = |byte: u8| is_url_safe(byte) || byte == b'.';
    let count = text.bytes().take_while(|byte| fits(*byte)).count();
    let token = text.get(..count)?;
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.len() < 40 || !payload.starts_with("eyJ") {
        return None;
    }
    let (header, payload) = (decode(header)?, decode(payload)?);
    let is_object = |bytes: &[u8]| bytes.starts_with(b"{\"") && bytes.ends_with(b"}");
    let holds = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    // The example that every manual shows.
    let is_example = holds(&payload, b"\"1234567890\"") || holds(&payload, b"example");
    let fits =
        is_object(&header) && holds(&header, b"\"alg\"") && is_object(&payload) && !is_example;
    fits.then_some(count)
}

/// What base64 for addresses, without padding, stands for.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn from a generator with a fixed seed, so that no real key stands here, and none that a scanner would report.
    fn drawn(length: usize, alphabet: &str) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        (0..length)
            .map(|_| alphabet[next() % alphabet.len()])
            .collect()
    }

    const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const HEX: &str = "0123456789abcdef";
    const DIGITS: &str = "0123456789";

    /// A key of every rule of the table, beside the rule's prefix.
    fn keys() -> Vec<(&'static str, String)> {
        let alnum = |length| drawn(length, ALNUM);
        let json = |text: &str| {
            let mut out = String::new();
            crate::runtime::base64::encode_into(&mut out, text.as_bytes());
            out.trim_end_matches('=')
                .replace('+', "-")
                .replace('/', "_")
        };
        let mut keys = vec![(
            "-----BEGIN ",
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{}\n{}\n-----END RSA PRIVATE KEY-----",
                alnum(64),
                alnum(64)
            ),
        )];
        for prefix in ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_"] {
            keys.push((prefix, format!("{prefix}{}", alnum(36))));
        }
        keys.push((
            "github_pat_",
            format!("github_pat_{}_{}", alnum(22), alnum(59)),
        ));
        keys.push(("glpat-", format!("glpat-{}", drawn(20, URL_SAFE))));
        for prefix in ["AKIA", "ASIA"] {
            keys.push((prefix, format!("{prefix}{}", drawn(16, BASE32))));
        }
        for prefix in ["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-"] {
            let numbers = format!("{}-{}", drawn(12, DIGITS), drawn(13, DIGITS));
            keys.push((prefix, format!("{prefix}{numbers}-{}", alnum(24))));
        }
        let app = format!(
            "xapp-1-A{}-{}-{}",
            drawn(10, BASE32),
            drawn(13, DIGITS),
            drawn(64, HEX)
        );
        keys.push(("xapp-", app));
        let hook = "https://hooks.slack.com/services/T";
        keys.push((
            hook,
            format!(
                "{hook}{}/B{}/{}",
                drawn(9, BASE32),
                drawn(9, BASE32),
                alnum(24)
            ),
        ));
        keys.push(("AIza", format!("AIza{}", drawn(35, URL_SAFE))));
        keys.push(("GOCSPX-", format!("GOCSPX-{}", drawn(28, URL_SAFE))));
        keys.push(("sk-kimi-", format!("sk-kimi-{}", alnum(64))));
        keys.push(("sk-ant-", format!("sk-ant-api03-{}AA", drawn(93, URL_SAFE))));
        keys.push(("sk-or-v1-", format!("sk-or-v1-{}", drawn(64, HEX))));
        keys.push(("sk-", format!("sk-{}", alnum(48))));
        keys.push(("sk-", format!("sk-{}", drawn(32, HEX))));
        keys.push((
            "sk-",
            format!(
                "sk-proj-{}T3BlbkFJ{}",
                drawn(74, URL_SAFE),
                drawn(74, URL_SAFE)
            ),
        ));
        for prefix in ["sk_live_", "rk_live_"] {
            keys.push((prefix, format!("{prefix}{}", alnum(24))));
        }
        keys.push((
            "pypi-AgEIcHlwaS5vcmc",
            format!("pypi-AgEIcHlwaS5vcmc{}", drawn(80, URL_SAFE)),
        ));
        keys.push((
            "SG.",
            format!("SG.{}.{}", drawn(22, URL_SAFE), drawn(43, URL_SAFE)),
        ));
        keys.push((
            "eyJ",
            format!(
                "{}.{}.{}",
                json(r#"{"alg":"HS256"}"#),
                json(r#"{"sub":"42","admin":true}"#),
                alnum(43)
            ),
        ));
        keys
    }

    #[test]
    fn every_rule_finds_its_key_and_says_where_and_what_it_is() {
        let keys = keys();
        for rule in RULES {
            let of_rule: Vec<&String> = keys
                .iter()
                .filter(|(prefix, _)| *prefix == rule.prefix)
                .map(|(_, key)| key)
                .collect();
            assert!(!of_rule.is_empty(), "no key for {}", rule.prefix);
            for key in of_rule {
                for text in [
                    key.to_string(),
                    format!("one\ntwo\nthe key is \"{key}\", keep it"),
                    format!("A={key}\n"),
                    format!("{{\"text\": \"first\\n{key}\"}}"),
                ] {
                    let found = find(&text).unwrap_or_else(|| panic!("{} in {text}", rule.prefix));
                    assert_eq!(found.kind, rule.kind, "{text}");
                    let line = if text.starts_with("one") { 3 } else { 1 };
                    assert_eq!(found.line, line, "{text}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_shorter_longer_or_part_of_a_word_is_none() {
        for (prefix, key) in keys() {
            if prefix == "-----BEGIN " {
                continue;
            }
            // A letter before it makes another word of it.
            assert_eq!(find(&format!("x{key}")), None, "{prefix}");
            // Half of it is not what its issuer gives out.
            let half = &key[..prefix.len() + (key.len() - prefix.len()) / 2];
            assert_eq!(find(half), None, "{half}");
        }
        for (prefix, length) in [("ghp_", 36), ("AKIA", 16), ("AIza", 35), ("npm_", 36)] {
            for other in [length - 1, length + 1] {
                let alphabet = if prefix == "AKIA" { BASE32 } else { ALNUM };
                assert_eq!(
                    find(&format!("{prefix}{}", drawn(other, alphabet))),
                    None,
                    "{prefix} {other}"
                );
            }
        }
    }

    #[test]
    fn prose_code_and_examples_are_no_keys() {
        for text in [
            "tokens such as ghp_ or github_pat_ begin that way",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "AKIAIOSFODNN7EXAMPLE",
            "AKIAXXXXXXXXXXXXXXXX",
            "sk-your-key-here",
            "sk-...",
            "risk-0123456789abcdef0123456789abcdef",
            "xoxb-your-token",
            "const HEADER: &str = \"-----BEGIN PRIVATE KEY-----\";",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo\n-----END PUBLIC KEY-----",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n-----END PRIVATE KEY-----",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
            "AIzaSyExampleExampleExampleExampleExamp",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    /// The sources of this repository's dependencies, when `OMK_SECRETS_FILES=1` asks for it: what is found there are keys
    /// that were put there as such, and no file of another kind.
    #[test]
    fn the_sources_of_the_dependencies_hold_no_false_positive() {
        if std::env::var_os("OMK_SECRETS_FILES").is_none() {
            return;
        }
        let home = std::env::var("CARGO_HOME")
            .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap()));
        let mut directories = vec![std::path::PathBuf::from(home).join("registry/src")];
        let (mut files, mut bytes, mut found) = (0_usize, 0, Vec::new());
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Ok(text) = std::fs::read_to_string(&path) {
                    files += 1;
                    bytes += text.len();
                    found.extend(
                        find(&text).map(|secret| format!("{}: {secret:?}", path.display())),
                    );
                }
            }
        }
        println!("{files} files, {bytes} bytes, found:\n{}", found.join("\n"));
        let others = found
            .iter()
            .filter(|line| !line.contains("private key"))
            .count();
        assert!(
            files > 100 && others * 10_000 <= files,
            "{others} of {files}"
        );
    }
}
