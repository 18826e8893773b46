//! What a program wrote to its standard error before it ended, in the few lines that say why.
//!
//! That is rarely the last line: a traceback's exception stands above advice to run with `--debug`, a panic's message above
//! advice to set `RUST_BACKTRACE`, and a box of text is wrapped in the middle of a word.

use serde::Deserialize;

/// The most lines that are quoted.
const MAX_LINES: usize = 5;
/// The lines quoted of a text of no known shape.
const OTHER_LINES: usize = 3;
/// How lines begin that say nothing about the reason.
const ADVICE: [&str; 8] = [
    "Run with --debug",
    "See logs:",
    "To resume this session:",
    "For further information visit",
    "note: run with `RUST_BACKTRACE",
    "Node.js v",
    "Try '",
    "Usage:",
];

/// The lines that say why, at most five, each without blanks around it.
pub(super) fn telling_lines(stderr: &str) -> Vec<String> {
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).collect();
    let found = panic(&lines)
        .or_else(|| toml(&lines))
        .or_else(|| exception(&lines))
        .or_else(|| boxed(&lines))
        .unwrap_or_else(|| other(&lines));
    let mut found: Vec<String> = found.into_iter().filter(|line| !line.is_empty()).collect();
    found.truncate(MAX_LINES);
    found
}

fn is_advice(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || ADVICE.iter().any(|advice| line.starts_with(advice))
}

/// A Rust panic: `thread 'main' panicked at src/main.rs:1:2:` and its message.
fn panic(lines: &[&str]) -> Option<Vec<String>> {
    let is_panic = |line: &&str| line.starts_with("thread '") && line.contains(" panicked at ");
    let at = lines.iter().rposition(is_panic)?;
    Some(until_advice(lines.get(at..)?))
}

/// An error in a TOML file as Rust's parser words it: the position, the line that it stands in, and what is wrong there.
fn toml(lines: &[&str]) -> Option<Vec<String>> {
    let at = lines
        .iter()
        .rposition(|line| line.contains("TOML parse error at line"))?;
    let mut found = until_advice(lines.get(at..)?);
    found.retain(|line| line.contains(char::is_alphanumeric));
    Some(found)
}

/// The exception of a Python traceback, or the error of a JavaScript stack: what follows the last of the indented frames.
fn exception(lines: &[&str]) -> Option<Vec<String>> {
    if let Some(at) = lines
        .iter()
        .rposition(|line| line.starts_with("Traceback (most recent call last)"))
    {
        let after = lines.get(at + 1..)?;
        let first = after
            .iter()
            .position(|line| !line.is_empty() && !line.starts_with([' ', '|']))?;
        return Some(until_advice(after.get(first..)?));
    }
    let is_frame = |line: &&&str| line.trim_start().starts_with("at ") && line.contains(':');
    let frame = lines.iter().position(|line| is_frame(&line))?;
    let before = lines.get(..frame)?;
    let first = before.iter().rposition(|line| {
        line.split(':')
            .next()
            .is_some_and(|word| word.ends_with("Error"))
    })?;
    Some(until_advice(before.get(first..)?))
}

/// A box of text, whose lines are one sentence that was wrapped.
fn boxed(lines: &[&str]) -> Option<Vec<String>> {
    let end = lines.iter().rposition(|line| line.starts_with('╰'))?;
    let inside = lines.get(..end)?;
    let start = inside.iter().rposition(|line| line.starts_with('╭'))?;
    let words: Vec<&str> = inside
        .get(start + 1..)?
        .iter()
        .flat_map(|line| line.trim_matches('│').split_whitespace())
        .collect();
    Some(vec![words.join(" ")])
}

/// The last lines that are not advice. A log line in JSON is its error.
fn other(lines: &[&str]) -> Vec<String> {
    let mut last: Vec<String> = lines
        .iter()
        .rev()
        .filter(|line| !is_advice(line))
        .take(OTHER_LINES)
        .map(|line| match error_of_json(line) {
            Some(error) => error,
            None => line.trim().to_string(),
        })
        .collect();
    last.reverse();
    last
}

/// The `error` of a log line in JSON.
fn error_of_json(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct LogLine {
        error: String,
    }
    let line: LogLine = serde_json::from_str(line).ok()?;
    Some(line.error)
}

fn until_advice(lines: &[&str]) -> Vec<String> {
    let telling = lines.iter().take_while(|line| !is_advice(line));
    telling.map(|line| line.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_that_say_why_are_found() {
        for (stderr, expected) in [
            (
                "starting\nTraceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nValueError: no such thing\nRun with --debug for full traceback",
                &["ValueError: no such thing"][..],
            ),
            (
                "thread 'main' panicked at src/main.rs:1:2:\ncalled `Option::unwrap()` on a `None` value\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                &[
                    "thread 'main' panicked at src/main.rs:1:2:",
                    "called `Option::unwrap()` on a `None` value",
                ],
            ),
            (
                "file:///x/main.mjs:12\n  throw new Error(\"x\");\n        ^\n\nError: Kimi Code needs Node 22\n    at main (file:///x/main.mjs:12:9)\n\nNode.js v20.1.0\n",
                &["Error: Kimi Code needs Node 22"],
            ),
            (
                "Usage: kimi [OPTIONS]\nTry 'kimi -h' for help.\n╭─ Error ─────────╮\n│ No such option: │\n│ --wir. Did you  │\n│ mean --wire?    │\n╰─────────────────╯\n",
                &["No such option: --wir. Did you mean --wire?"],
            ),
            (
                "Invalid TOML in configuration file /h/.kimi/config.toml: Control characters at line 3 col 13\nSee logs: /h/.kimi/logs/kimi.log\nRun with --debug for full traceback, or run kimi export to share diagnostics.",
                &[
                    "Invalid TOML in configuration file /h/.kimi/config.toml: Control characters at line 3 col 13",
                ],
            ),
            (
                "Invalid TOML in configuration file /h/.kimi/config.toml: TOML parse error at line 6, column 1\n  |\n6 | [providers.p]\n  | ^^^^^^^^^^^^^\nmissing field `api_key`\n\n",
                &[
                    "Invalid TOML in configuration file /h/.kimi/config.toml: TOML parse error at line 6, column 1",
                    "6 | [providers.p]",
                    "missing field `api_key`",
                ],
            ),
            (
                r#"{"level":"info","msg":"probe failed","error":"no provider configured"}"#,
                &["no provider configured"],
            ),
            ("one\n\ntwo\nthree\nfour\n", &["two", "three", "four"]),
            ("", &[]),
        ] {
            assert_eq!(telling_lines(stderr), expected, "{stderr}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[ a-z:'(){}\n│╭╰\"]{0,200}|(Traceback \\(most recent call last\\)\n|  at x:1\n|Error: y\n){0,8}") {
            prop_assert!(telling_lines(&text).len() <= MAX_LINES);
        }
    }
}
