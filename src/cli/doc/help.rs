//! Help for the terminal: short (`-h`) to remind, full (`--help`) to explain, of the whole and of
//! each command.
//!
//! Lines are at most 80 columns wide, whatever the terminal: asking it would be one more thing that
//! can fail.

use crate::cli::doc::{Span, first_sentence, spans};
use crate::cli::exit::EXITS;
use crate::cli::flags::parse::usage;
use crate::cli::flags::table::{COMMANDS, DESCRIPTION, FLAGS, SUMMARY, VARIABLES, flags_of};
use crate::cli::flags::{Command, Flag};

const WIDTH: usize = 80;

/// `omk 0.6.0`, the answer to `--version`.
pub(crate) fn version() -> String {
    format!("omk {}\n", env!("CARGO_PKG_VERSION"))
}

/// Help of a command, or of the whole; in full or in short.
pub(crate) fn help(command: Option<Command>, full: bool) -> String {
    match (command, full) {
        (None, false) => whole_short(),
        (None, true) => whole_full(),
        (Some(command), false) => command_short(command),
        (Some(command), true) => command_full(command),
    }
}

fn whole_short() -> String {
    let mut out =
        format!("omk: {SUMMARY}\n\nUsage: omk COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n");
    let width = commands_width();
    for spec in COMMANDS {
        row(&mut out, &format!("  {:width$}  ", spec.name), spec.summary);
    }
    out.push_str("\nOptions:\n");
    let common: Vec<&Flag> = FLAGS
        .iter()
        .filter(|flag| flag.on.len() == COMMANDS.len())
        .collect();
    flag_rows(&mut out, &common);
    out.push_str(
        "\n`omk help COMMAND` explains a command, `omk COMMAND -h` reminds of its options.\n",
    );
    out
}

fn whole_full() -> String {
    let mut out = format!("omk: {SUMMARY}\n\nUsage: omk COMMAND [OPTIONS] [ARGUMENTS]\n\n");
    paragraphs(&mut out, "", DESCRIPTION);
    out.push_str("\nCommands:\n");
    for spec in COMMANDS {
        out.push_str(&format!("  {}\n", usage(spec.command)));
        row(&mut out, "      ", spec.summary);
    }
    out.push_str("\nExamples:\n");
    for (line, doc) in COMMANDS.iter().filter_map(|spec| spec.examples.first()) {
        example(&mut out, line, doc);
    }
    out.push_str("\nExit codes:\n");
    for exit in EXITS {
        row(
            &mut out,
            &format!("  {:>3}  {:<13}  ", exit.code, exit.name),
            &plain(exit.meaning),
        );
    }
    out.push_str("\nVariables:\n");
    let mut variable = |name: &str, doc: &str| row(&mut out, &format!("  {name:<16}  "), doc);
    for flag in FLAGS {
        for name in flag.variables {
            variable(name, &format!("--{} when it is not given", flag.long));
        }
    }
    for own in VARIABLES {
        variable(own.name, &plain(own.doc));
    }
    out.push_str(
        "\n`omk help COMMAND` explains a command, the man page omk(1) the config file too.\n",
    );
    out
}

fn command_short(command: Command) -> String {
    let spec = command.spec();
    let mut out = format!(
        "omk {}: {}\n\nUsage: {}\n\nOptions:\n",
        spec.name,
        spec.summary,
        usage(command)
    );
    flag_rows(&mut out, &flags_of(command).collect::<Vec<_>>());
    out.push_str(&format!("\n`omk {} --help` explains them.\n", spec.name));
    out
}

fn command_full(command: Command) -> String {
    let spec = command.spec();
    let mut out = format!(
        "omk {}: {}\n\nUsage: {}\n\n",
        spec.name,
        spec.summary,
        usage(command)
    );
    paragraphs(&mut out, "", spec.doc);
    out.push_str("\nOptions:\n");
    for flag in flags_of(command) {
        out.push_str(&format!("  {}\n", heading(flag)));
        paragraphs(&mut out, "          ", flag.doc);
        if let Some(facts) = facts(flag) {
            row(&mut out, "          ", &facts);
        }
        out.push('\n');
    }
    out.push_str("Examples:\n");
    for (line, doc) in spec.examples {
        example(&mut out, line, doc);
    }
    out
}

/// `-m, --model NAME[,NAME...]`.
fn heading(flag: &Flag) -> String {
    let short = flag
        .short
        .map_or_else(|| "    ".to_string(), |short| format!("-{short}, "));
    let value = flag
        .value_name()
        .map_or_else(String::new, |name| format!(" {name}"));
    format!("{short}--{}{value}", flag.long)
}

/// What the table knows about a flag beside its text: `One of: a, b. May be repeated. Variable:
/// OMK_MODEL.`
pub(crate) fn facts(flag: &Flag) -> Option<String> {
    let mut facts = Vec::new();
    if !flag.choices.is_empty() {
        facts.push(format!("One of: {}.", flag.choices.join(", ")));
    }
    if flag.repeats {
        facts.push("May be repeated.".to_string());
    }
    match flag.variables {
        [] => {}
        [one] => facts.push(format!("Variable: {one}.")),
        several => facts.push(format!("Variables: {}.", several.join(", then "))),
    }
    if flag.configurable {
        facts.push(format!("Config key: {}.", flag.long));
    }
    (!facts.is_empty()).then(|| facts.join(" "))
}

fn commands_width() -> usize {
    COMMANDS
        .iter()
        .map(|spec| spec.name.len())
        .max()
        .unwrap_or(0)
}

fn flag_rows(out: &mut String, flags: &[&Flag]) {
    let width = flags
        .iter()
        .map(|flag| heading(flag).len())
        .max()
        .unwrap_or(0);
    for flag in flags {
        row(
            out,
            &format!("  {:width$}  ", heading(flag)),
            first_sentence(flag.doc),
        );
    }
}

fn example(out: &mut String, line: &str, doc: &str) {
    out.push_str(&format!("  {line}\n"));
    row(out, "      ", doc);
}

fn paragraphs(out: &mut String, indent: &str, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            out.push('\n');
        }
        row(out, indent, &plain(paragraph));
    }
}

/// The text without marks: references as they are typed, code in its backticks.
fn plain(text: &str) -> String {
    spans(text)
        .into_iter()
        .map(|span| match span {
            Span::Plain(text) | Span::Flag(text) => text.to_string(),
            Span::Code(text) => format!("`{text}`"),
        })
        .collect()
}

/// A text after its heading, wrapped under its own beginning.
fn row(out: &mut String, heading: &str, text: &str) {
    let indent = heading.chars().count();
    out.push_str(heading);
    let mut column = indent;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        }
        if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_help() -> Vec<String> {
        let commands = COMMANDS.iter().map(|spec| Some(spec.command));
        commands
            .chain([None])
            .flat_map(|command| [help(command, false), help(command, true)])
            .collect()
    }

    #[test]
    fn no_line_is_too_wide_or_ends_in_a_blank() {
        for text in every_help() {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH + 10, "{line}");
                assert!(!line.ends_with(' '), "{line:?}");
                assert!(!line.contains(['{', '}']), "{line}");
            }
        }
    }

    #[test]
    fn every_flag_stands_in_both_helps_of_its_commands_and_no_other() {
        for spec in COMMANDS {
            for flag in FLAGS {
                for full in [false, true] {
                    let listed = help(Some(spec.command), full)
                        .lines()
                        .filter_map(|line| line.strip_prefix("  "))
                        .filter_map(|line| line.strip_prefix(&heading(flag)))
                        // Another flag's name may begin as this one's does.
                        .any(|rest| rest.is_empty() || rest.starts_with("  "));
                    // Two commands may have different flags of one name.
                    let known = FLAGS.iter().filter(|other| heading(other) == heading(flag));
                    let mut known = known.filter(|other| other.is_on(spec.command));
                    assert_eq!(
                        listed,
                        known.next().is_some(),
                        "{} --{}",
                        spec.name,
                        flag.long
                    );
                }
            }
        }
    }

    #[test]
    fn the_whole_names_every_command_and_every_exit_code() {
        let (short, full) = (help(None, false), help(None, true));
        for spec in COMMANDS {
            assert!(
                short.contains(&format!("\n  {} ", spec.name)),
                "{}",
                spec.name
            );
            assert!(full.contains(&usage(spec.command)), "{}", spec.name);
        }
        for exit in EXITS {
            assert!(
                full.contains(&format!("\n  {:>3}  {}", exit.code, exit.name)),
                "{}",
                exit.code
            );
        }
    }

    #[test]
    fn text_is_wrapped_under_its_beginning() {
        let mut out = String::new();
        row(&mut out, "  x  ", &"word ".repeat(20));
        assert_eq!(
            out,
            format!(
                "  x  {}\n     {}\n",
                ["word"; 15].join(" "),
                ["word"; 5].join(" ")
            )
        );
        out.clear();
        row(&mut out, "", &"w".repeat(100));
        assert_eq!(out, format!("{}\n", "w".repeat(100)));
    }
}
