//! Renderings of the flag table and of the manual's pages: [`help`] for the terminal, `man` for the manual, [`complete`]
//! for shells.
//!
//! The source text is plain. `{--flag}` refers to a flag and `` `...` `` is something to type; each rendering decides what
//! that looks like. No rendering has a text of its own: what is not in a table or a page is not documented.

pub(crate) mod complete;
pub(crate) mod help;
// The pages are committed files, so only the test that holds them equal to the table renders them.
#[cfg(test)]
mod man;
pub(crate) mod page;
pub(crate) mod program;
pub(crate) mod schema;

/// A part of a documentation text.
#[derive(Debug, PartialEq)]
enum Span<'a> {
    Plain(&'a str),
    /// A reference to a flag, dashes included.
    Flag(&'a str),
    /// Something to type.
    Code(&'a str),
}

/// The parts of a text, in order. A brace or backtick without its partner is plain.
fn spans(text: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '`']) {
        let (plain, marked) = rest.split_at(at);
        let (open, close) = if marked.starts_with('{') {
            ("{", '}')
        } else {
            ("`", '`')
        };
        let Some((inner, after)) = marked
            .strip_prefix(open)
            .and_then(|marked| marked.split_once(close))
        else {
            break;
        };
        spans.push(Span::Plain(plain));
        spans.push(if close == '}' {
            Span::Flag(inner)
        } else {
            Span::Code(inner)
        });
        rest = after;
    }
    spans.push(Span::Plain(rest));
    spans
}

/// The first sentence, without its full stop.
fn first_sentence(text: &str) -> &str {
    let sentence = text.split_once(". ").map_or(text, |(sentence, _)| sentence);
    sentence.strip_suffix('.').unwrap_or(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::TABLE;
    use crate::cli::doc::page::{Block, PAGES};
    use crate::cli::doc::program::{DESCRIPTION, VARIABLES};
    use crate::cli::exit::EXITS;

    fn every_text() -> Vec<(String, &'static str)> {
        let mut texts = vec![("the description".to_string(), DESCRIPTION)];
        texts.extend(
            TABLE
                .commands
                .iter()
                .map(|spec| (spec.name.to_string(), spec.doc)),
        );
        texts.extend(
            TABLE
                .flags()
                .into_iter()
                .map(|flag| (format!("--{}", flag.long), flag.doc)),
        );
        texts.extend(
            VARIABLES
                .iter()
                .map(|variable| (variable.name.to_string(), variable.doc)),
        );
        texts.extend(PAGES.iter().map(|page| {
            let text = page.text(&TABLE);
            let prose = page::blocks(&text)
                .into_iter()
                .filter_map(|block| match block {
                    Block::Paragraph(text) | Block::Item(_, text) => Some(text),
                    Block::Heading(_) | Block::Code(_) => None,
                });
            let prose: Vec<String> = prose.collect();
            let prose: &'static str = prose.join(" ").leak();
            (page.name.to_string(), prose)
        }));
        texts.extend(
            EXITS
                .iter()
                .map(|row| (format!("exit {}", row.code), row.meaning)),
        );
        texts
    }

    #[test]
    fn references_to_flags_are_not_stale() {
        for (place, text) in every_text() {
            for span in spans(text) {
                match span {
                    Span::Flag(name) => {
                        let known = name
                            .strip_prefix("--")
                            .and_then(|name| TABLE.flag(name, None));
                        assert!(known.is_some(), "{place} refers to {name}");
                    }
                    Span::Plain(plain) => {
                        assert!(
                            !plain.contains(['{', '}', '`']),
                            "{place} has a mark without its partner"
                        );
                        let typed = plain.replace("-h prints a summary, --help everything", "");
                        assert!(
                            !typed.contains("--"),
                            "{place} names a flag without braces: {plain}"
                        );
                    }
                    Span::Code(_) => {}
                }
            }
        }
    }

    /// Words that made readers stop.
    const ODD: &[&str] = &[
        "anybody",
        "blanks",
        "circle",
        "dear",
        "hitherto",
        "kin",
        "mend",
        "mends",
        "moment it",
        "nobody",
        "nought",
        "reckon",
        "somebody",
        "told",
        "untold",
        "whoever",
        "whom",
        "whosoever",
    ];
    /// The most words of a sentence.
    const LONGEST: usize = 30;

    #[test]
    fn texts_use_plain_words_and_short_sentences() {
        let mut wrong = Vec::new();
        for (place, text) in every_text() {
            let plain = text.replace("\n\n", ". ");
            for word in plain.split(|c: char| !c.is_alphanumeric() && c != '_') {
                if ODD.contains(&word.to_lowercase().as_str()) {
                    wrong.push(format!("{place}: {word}"));
                }
            }
            for sentence in plain.split(['.', ';', ':', '?']) {
                let words = sentence.split_whitespace().count();
                if words > LONGEST {
                    wrong.push(format!("{place}: {words} words: {sentence}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn first_sentences_stand_alone() {
        for flag in TABLE.flags() {
            let sentence = first_sentence(flag.doc);
            assert!(sentence.len() <= 60, "--{}: {sentence}", flag.long);
            assert!(
                !sentence.contains(['{', '`']),
                "--{}: {sentence}",
                flag.long
            );
        }
    }

    #[test]
    fn marks_are_taken_apart() {
        use Span::*;
        assert_eq!(
            spans("a {--b} `c`"),
            [Plain("a "), Flag("--b"), Plain(" "), Code("c"), Plain("")]
        );
        assert_eq!(spans("a {b"), [Plain("a {b")]);
        assert_eq!(spans(""), [Plain("")]);
    }
}
