//! Help for the terminal: short (`-h`) to remind, full (`--help`) to explain, of the whole and of
//! each command.
//!
//! Lines are at most 80 columns wide, whatever the terminal: asking it would be one more thing that
//! can fail.

use crate::cli::doc::page::{Block, PAGES, Page, blocks};
use crate::cli::doc::program::{DESCRIPTION, SUMMARY, VARIABLES};
use crate::cli::doc::{Span, first_sentence, spans};
use crate::cli::exit::EXITS;
use crate::cli::flags::familiar;
use crate::cli::flags::parse::Topic;
use crate::cli::flags::table::{CommandGroup, Table};
use crate::cli::flags::{CommandSpec, Flag, shared};

const WIDTH: usize = 80;

/// `omk 0.6.0`, the answer to `--version`.
pub(crate) fn version() -> String {
    format!("omk {}\n", env!("CARGO_PKG_VERSION"))
}

/// Help in full or in short.
pub(crate) fn help(table: &Table, topic: Topic, full: bool) -> String {
    match (topic, full) {
        (Topic::Whole, false) => whole_short(table),
        (Topic::Whole, true) => whole_full(table),
        (Topic::Command(spec), false) => command_short(table, spec),
        (Topic::Command(spec), true) => command_full(table, spec),
        (Topic::Group(group), _) => of_group(table, group),
        (Topic::Page(name), _) => {
            let page = PAGES.iter().find(|page| page.name == name);
            page.map_or_else(String::new, |page| of_page(table, page))
        }
    }
}

fn whole_short(table: &Table) -> String {
    let mut out =
        format!("omk: {SUMMARY}\n\nUsage: omk COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n");
    let commands = table.commands.iter().map(|spec| (spec.name, *spec));
    command_rows(&mut out, commands);
    out.push_str("\nOptions:\n");
    flag_rows(&mut out, shared::COMMON, headings_width(shared::COMMON));
    out.push_str(
        "\n`omk help COMMAND` explains a command, `omk COMMAND -h` reminds of its options.\n",
    );
    out
}

fn whole_full(table: &Table) -> String {
    let mut out = format!("omk: {SUMMARY}\n\nUsage: omk COMMAND [OPTIONS] [ARGUMENTS]\n\n");
    paragraphs(&mut out, "", DESCRIPTION);
    out.push_str("\nCommands:\n");
    for spec in table.commands {
        out.push_str(&format!("  {}\n", spec.usage()));
        row(&mut out, "      ", spec.summary);
    }
    out.push_str("\nExamples:\n");
    for (line, doc) in table
        .commands
        .iter()
        .filter_map(|spec| spec.examples.first())
    {
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
    for (name, flag) in table.variables() {
        variable(name, &format!("--{} when it is not given", flag.long));
    }
    for own in VARIABLES {
        variable(own.name, &plain(own.doc));
    }
    out.push_str("\nMore help, with `omk help NAME`:\n");
    for page in PAGES {
        row(
            &mut out,
            &format!("  {:<11}  ", page.name),
            &plain(page.summary),
        );
    }
    out.push_str("\n`omk help COMMAND` explains a command.\n");
    out
}

/// The commands that begin with one word. It is the same in full and in short: each command has its own help.
fn of_group(table: &Table, group: &CommandGroup) -> String {
    let name = group.name;
    let mut out = format!(
        "omk {name}: {}\n\nUsage: omk {name} [COMMAND] [OPTIONS] [ARGUMENTS]\n\nCommands:\n",
        group.summary
    );
    command_rows(&mut out, table.subcommands(name));
    let default = group.default.name;
    out.push_str(&format!(
        "\n`omk {name}` alone is `omk {default}`.\n`omk {default} -h` lists the options of one of them, `--help` explains them.\n"
    ));
    out
}

fn of_page(table: &Table, page: &Page) -> String {
    let mut out = format!(
        "omk-{}({}): {}\n",
        page.name,
        page.section,
        plain(page.summary)
    );
    for block in blocks(&page.text(table)) {
        match block {
            Block::Heading(text) => out.push_str(&format!("\n{text}\n")),
            Block::Paragraph(text) => row(&mut out, "", &plain(&text)),
            Block::Code(lines) => {
                for line in lines.lines() {
                    out.push_str(format!("    {line}").trim_end());
                    out.push('\n');
                }
            }
            Block::Item(term, text) => {
                out.push_str(&format!("  {term}\n"));
                row(&mut out, "      ", &plain(&text));
            }
        }
        out.push('\n');
    }
    // One empty line at most between two blocks, and none at the end.
    while let Some(at) = out.find("\n\n\n") {
        out.remove(at);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The first lines of a command's help, with the commands that its name begins.
fn beginning(table: &Table, spec: &CommandSpec) -> String {
    let mut out = format!(
        "omk {}: {}\n\nUsage: {}\n",
        spec.name,
        spec.summary,
        spec.usage()
    );
    let longer: Vec<_> = table.subcommands(spec.name).collect();
    for (_, command) in &longer {
        out.push_str(&format!("       {}\n", command.usage()));
    }
    if !longer.is_empty() {
        out.push_str("\nCommands:\n");
        command_rows(&mut out, longer.into_iter());
    }
    out
}

/// The flags of a command under their headings, those of every command last.
fn groups(spec: &CommandSpec) -> Vec<(String, Vec<&'static Flag>)> {
    let mut groups: Vec<(String, Vec<&Flag>)> = Vec::new();
    for group in spec.flags {
        let title = match group.title {
            "" => "Options".to_string(),
            title => format!("{title} options"),
        };
        groups.push((title, group.flags.to_vec()));
    }
    match groups.as_mut_slice() {
        [(_, only)] => only.extend(shared::COMMON),
        [] => groups.push(("Options".to_string(), shared::COMMON.to_vec())),
        _ => groups.push(("Other options".to_string(), shared::COMMON.to_vec())),
    }
    groups
}

fn command_short(table: &Table, spec: &CommandSpec) -> String {
    let mut out = beginning(table, spec);
    let all: Vec<&Flag> = spec.flags().collect();
    let width = headings_width(&all);
    for (title, flags) in groups(spec) {
        out.push_str(&format!("\n{title}:\n"));
        flag_rows(&mut out, &flags, width);
    }
    out.push_str(&format!("\n`omk {} --help` explains them.\n", spec.name));
    out
}

fn command_full(table: &Table, spec: &CommandSpec) -> String {
    let mut out = beginning(table, spec);
    out.push('\n');
    paragraphs(&mut out, "", spec.doc);
    out.push('\n');
    for (title, flags) in groups(spec) {
        out.push_str(&format!("{title}:\n"));
        for flag in flags {
            out.push_str(&format!("  {}\n", heading(flag)));
            paragraphs(&mut out, "          ", flag.doc);
            if let Some(facts) = facts(flag, spec.name) {
                row(&mut out, "          ", &facts);
            }
            out.push('\n');
        }
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
pub(crate) fn facts(flag: &Flag, command: &str) -> Option<String> {
    let mut facts = Vec::new();
    let others = familiar::names(flag.long, command);
    if !others.is_empty() {
        facts.push(format!("Also: {}.", others.join(", ")));
    }
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

fn command_rows<'a>(out: &mut String, commands: impl Iterator<Item = (&'a str, &'a CommandSpec)>) {
    let commands: Vec<_> = commands.collect();
    let width = commands.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or(0);
    for (name, spec) in commands {
        row(out, &format!("  {name:width$}  "), spec.summary);
    }
}

/// The width of the widest heading.
fn headings_width(flags: &[&Flag]) -> usize {
    let widths = flags.iter().map(|flag| heading(flag).len());
    widths.max().unwrap_or(0)
}

fn flag_rows(out: &mut String, flags: &[&Flag], width: usize) {
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
    use crate::cli::commands::TABLE;

    fn every_help() -> Vec<String> {
        let commands = TABLE.commands.iter().map(|spec| Topic::Command(spec));
        let groups = TABLE.groups.iter().map(Topic::Group);
        commands
            .chain(groups)
            .chain(PAGES.iter().map(|page| Topic::Page(page.name)))
            .chain([Topic::Whole])
            .flat_map(|topic| [help(&TABLE, topic, false), help(&TABLE, topic, true)])
            .collect()
    }

    #[test]
    fn no_line_is_too_wide_or_ends_in_a_blank() {
        for text in every_help() {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH + 10, "{line}");
                assert!(!line.ends_with(' '), "{line:?}");
                assert!(!line.contains("{--"), "{line}");
            }
        }
    }

    #[test]
    fn every_flag_stands_in_both_helps_of_its_commands_and_no_other() {
        for spec in TABLE.commands {
            for flag in TABLE.flags() {
                for full in [false, true] {
                    let listed = help(&TABLE, Topic::Command(spec), full)
                        .lines()
                        .filter_map(|line| line.strip_prefix("  "))
                        .filter_map(|line| line.strip_prefix(&heading(flag)))
                        // Another flag's name may begin as this one's does.
                        .any(|rest| rest.is_empty() || rest.starts_with("  "));
                    // Two commands may have different flags of one name.
                    let known = spec.flags().any(|own| heading(own) == heading(flag));
                    assert_eq!(listed, known, "{} --{}", spec.name, flag.long);
                }
            }
        }
    }

    #[test]
    fn a_word_that_begins_commands_lists_them() {
        let group = &TABLE.groups[0];
        for full in [false, true] {
            let text = help(&TABLE, Topic::Group(group), full);
            for (second, spec) in TABLE.subcommands(group.name) {
                let line = text
                    .lines()
                    .find(|line| line.starts_with(&format!("  {second} ")));
                assert!(line.unwrap().ends_with(spec.summary), "{second}");
            }
        }
        let plan = help(
            &TABLE,
            Topic::Command(TABLE.command("plan".as_ref()).unwrap()),
            false,
        );
        assert!(plan.contains("\n  check  "), "{plan}");
    }

    #[test]
    fn flags_stand_under_what_they_are_for() {
        let spec = TABLE.command("prompt".as_ref()).unwrap();
        for full in [false, true] {
            let text = help(&TABLE, Topic::Command(spec), full);
            let (_, limits) = text.split_once("\nLimits options:\n").unwrap();
            let (limits, _) = limits.split_once("options:\n").unwrap();
            assert!(limits.contains("--max-usd USD"), "{limits}");
            assert!(!limits.contains("--image"), "{limits}");
            assert!(text.contains("\nOther options:\n  -h, --help"), "{text}");
        }
    }

    #[test]
    fn the_whole_names_every_command_and_every_exit_code() {
        let short = help(&TABLE, Topic::Whole, false);
        let full = help(&TABLE, Topic::Whole, true);
        for spec in TABLE.commands {
            assert!(
                short.contains(&format!("\n  {} ", spec.name)),
                "{}",
                spec.name
            );
            assert!(full.contains(&spec.usage()), "{}", spec.name);
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
