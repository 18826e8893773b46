//! The manual, in roff: `man/omk.1`, a page for each command, and the pages about everything else.
//!
//! The date is that of the release, so that the same table gives the same bytes on every day and machine. The committed files
//! are held equal to this rendering by a test, which rewrites them when `OMK_BLESS` is set.

use crate::cli::doc::help::facts;
use crate::cli::doc::page::{Block, PAGES, Page, blocks};
use crate::cli::doc::program::{DESCRIPTION, RELEASED, SUMMARY, VARIABLES};
use crate::cli::doc::{Span, spans};
use crate::cli::exit::EXITS;
use crate::cli::flags::table::Table;
use crate::cli::flags::{CommandSpec, Flag, shared};

/// Every file of the manual: its name and its text.
fn manual(table: &Table) -> Vec<(String, String)> {
    let mut files = vec![("omk.1".to_string(), overview(table))];
    for word in first_words(table) {
        files.push((format!("omk-{word}.1"), of_command(table, word)));
    }
    for page in PAGES {
        files.push((
            format!("omk-{}.{}", page.name, page.section),
            of_page(table, page),
        ));
    }
    files
}

/// The first words of the commands, each once.
fn first_words(table: &Table) -> Vec<&'static str> {
    let mut words = Vec::new();
    for spec in table.commands {
        let word = spec.name.split(' ').next().unwrap_or_default();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn header(name: &str, section: u8, summary: &str) -> String {
    let title = match section {
        1 => "User Commands",
        5 => "File Formats",
        _ => "Miscellaneous",
    };
    let mut out = format!(
        ".TH {} {section} {RELEASED} \"omk {}\" \"{title}\"\n.SH NAME\n",
        escape(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
    );
    wrap(
        &mut out,
        &format!("{} \\- {}", escape(name), marked(summary)),
    );
    out
}

/// `omk(1)`: the program, and where everything else is explained.
fn overview(table: &Table) -> String {
    let mut out = header("omk", 1, SUMMARY);
    section(&mut out, "SYNOPSIS");
    out.push_str("\\fBomk\\fR \\fICOMMAND\\fR [OPTIONS] [ARGUMENTS]\n");
    section(&mut out, "DESCRIPTION");
    paragraphs(&mut out, DESCRIPTION);
    section(&mut out, "COMMANDS");
    for spec in table.commands {
        item(&mut out, &bold(&format!("omk {}", spec.name)), spec.summary);
    }
    section(&mut out, "OPTIONS");
    for flag in shared::COMMON {
        option(&mut out, flag, "");
    }
    section(&mut out, "EXIT STATUS");
    for exit in EXITS {
        item(
            &mut out,
            &format!("\\fB{}\\fR \\- {}", exit.code, escape(exit.name)),
            exit.meaning,
        );
    }
    section(&mut out, "ENVIRONMENT");
    out.push_str("An empty variable counts as one that is not set.\n");
    for (variable, flag) in table.variables() {
        let own = flag.variables.iter();
        let before: Vec<&str> = own.copied().take_while(|name| *name != variable).collect();
        let mut doc = format!(
            "The value of {{--{}}} when the flag is not given",
            flag.long
        );
        if !before.is_empty() {
            doc.push_str(&format!(" and {} is not set", before.join(" and ")));
        }
        item(&mut out, &bold(variable), &format!("{doc}."));
    }
    for variable in VARIABLES {
        item(&mut out, &bold(variable.name), variable.doc);
    }
    section(&mut out, "EXAMPLES");
    let examples = table
        .commands
        .iter()
        .filter_map(|spec| spec.examples.first());
    for (line, doc) in examples {
        example(&mut out, line, doc);
    }
    section(&mut out, "SEE ALSO");
    let words = first_words(table).into_iter();
    let mut others: Vec<String> = words.map(|word| format!("omk-{word}(1)")).collect();
    others.extend(
        PAGES
            .iter()
            .map(|page| format!("omk-{}({})", page.name, page.section)),
    );
    prose(&mut out, &others.join(", "));
    out
}

/// `omk-cost(1)`: the commands that begin with one word.
fn of_command(table: &Table, word: &str) -> String {
    let begins = |spec: &&&CommandSpec| spec.name.split(' ').next() == Some(word);
    let specs: Vec<&CommandSpec> = table.commands.iter().filter(begins).copied().collect();
    let group = table.group(word.as_ref()).map(|group| group.summary);
    let own = specs
        .iter()
        .find(|spec| spec.name == word)
        .map(|spec| spec.summary);
    let mut out = header(&format!("omk-{word}"), 1, group.or(own).unwrap_or_default());
    section(&mut out, "SYNOPSIS");
    for (i, spec) in specs.iter().enumerate() {
        if i > 0 {
            out.push_str(".br\n");
        }
        synopsis(&mut out, spec);
    }
    for spec in &specs {
        match specs.len() {
            1 => section(&mut out, "DESCRIPTION"),
            _ => section(&mut out, &format!("omk {}", spec.name).to_uppercase()),
        }
        paragraphs(&mut out, spec.doc);
        for group in spec.flags {
            match group.title {
                "" if specs.len() == 1 => section(&mut out, "OPTIONS"),
                "" => out.push_str(".SS Options\n"),
                title => out.push_str(&format!(".SS \"{} options\"\n", escape(title))),
            }
            for flag in group.flags {
                option(&mut out, flag, spec.name);
            }
        }
        out.push_str(match specs.len() {
            1 => ".SH EXAMPLES\n",
            _ => ".SS Examples\n",
        });
        for (line, doc) in spec.examples {
            example(&mut out, line, doc);
        }
    }
    section(&mut out, "SEE ALSO");
    out.push_str("\\fBomk\\fR(1), which has the options of every command, the exit codes and the variables\n");
    out
}

fn of_page(table: &Table, page: &Page) -> String {
    let mut out = header(&format!("omk-{}", page.name), page.section, page.summary);
    let mut is_first = true;
    for block in blocks(&page.text(table)) {
        let begins_section = matches!(block, Block::Heading(_));
        match block {
            Block::Heading(text) => section(&mut out, text),
            Block::Paragraph(text) => {
                if !is_first {
                    out.push_str(".PP\n");
                }
                prose(&mut out, &text);
            }
            Block::Item(term, text) => item(&mut out, &bold(term), &text),
            Block::Code(lines) => code(&mut out, &lines, is_first),
        }
        is_first = begins_section;
    }
    section(&mut out, "SEE ALSO");
    out.push_str("\\fBomk\\fR(1)\n");
    out
}

fn example(out: &mut String, line: &str, doc: &str) {
    item(out, &bold(line), doc);
}

fn code(out: &mut String, lines: &str, is_first: bool) {
    if !is_first {
        out.push_str(".PP\n");
    }
    let lines = lines.lines().map(|line| guard(escape(line)));
    let lines: Vec<String> = lines.collect();
    out.push_str(&format!(".RS 4\n.EX\n{}\n.EE\n.RE\n", lines.join("\n")));
}

fn section(out: &mut String, name: &str) {
    out.push_str(&format!(
        ".SH {}\n",
        if name.contains(' ') {
            format!("\"{name}\"")
        } else {
            name.to_string()
        }
    ));
}

fn synopsis(out: &mut String, spec: &CommandSpec) {
    let arguments = if spec.positionals.is_empty() {
        String::new()
    } else {
        format!(" {}", escape(spec.positionals))
    };
    out.push_str(&format!(
        "{} [OPTIONS]{arguments}\n",
        bold(&format!("omk {}", spec.name))
    ));
}

fn option(out: &mut String, flag: &Flag, command: &str) {
    let mut heading = flag.short.map_or_else(String::new, |short| {
        format!("{}, ", bold(&format!("-{short}")))
    });
    heading.push_str(&bold(&format!("--{}", flag.long)));
    if let Some(value) = flag.value_name() {
        heading.push_str(&format!(" \\fI{}\\fR", escape(value)));
    }
    item(out, &heading, flag.doc);
    if let Some(facts) = facts(flag, command) {
        out.push_str(".IP\n");
        prose(out, &facts);
    }
}

fn item(out: &mut String, heading: &str, text: &str) {
    out.push_str(&format!(".TP\n{heading}\n"));
    prose(out, text);
}

fn paragraphs(out: &mut String, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            out.push_str(".PP\n");
        }
        prose(out, paragraph);
    }
}

/// A text with its marks, on lines short enough to read as a difference between two versions.
fn prose(out: &mut String, text: &str) {
    wrap(out, &marked(text));
}

fn wrap(out: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > 80 {
            out.push_str(&guard(std::mem::take(&mut line)));
            out.push('\n');
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&guard(line));
    out.push('\n');
}

fn marked(text: &str) -> String {
    let parts = spans(text).into_iter().map(|span| match span {
        Span::Plain(text) => escape(text),
        Span::Flag(text) | Span::Code(text) => bold(text),
    });
    parts.collect()
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

/// Text that roff shows as it is: backslashes, dashes (a bare one becomes a hyphen that cannot be
/// searched or copied) and quotes and carets that it would make typographic.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

/// A line that begins with a dot would be a request.
fn guard(line: String) -> String {
    if line.starts_with('.') {
        format!("\\&{line}")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::cli::commands::TABLE;

    #[test]
    fn the_committed_manual_is_this_rendering() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
        let pages = manual(&TABLE);
        let is_blessed = std::env::var_os("OMK_BLESS").is_some();
        for (name, text) in &pages {
            if is_blessed {
                std::fs::write(directory.join(name), text).unwrap();
            }
            let committed = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
            assert!(
                committed == *text,
                "man/{name} is stale: OMK_BLESS=1 cargo test --lib -- doc:: rewrites it"
            );
        }
        let known: BTreeSet<String> = pages.into_iter().map(|(name, _)| name).collect();
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_page = !name.ends_with(".svg");
            assert!(
                !is_page || known.contains(&name),
                "man/{name} is no page any more"
            );
        }
    }

    #[test]
    fn every_command_flag_variable_and_exit_code_is_in_the_manual() {
        let pages: Vec<String> = manual(&TABLE).into_iter().map(|(_, text)| text).collect();
        let whole = &pages[0];
        for spec in TABLE.commands {
            assert!(whole.contains(&bold(&format!("omk {}", spec.name))));
            let page = of_command(&TABLE, spec.name.split(' ').next().unwrap());
            for flag in spec.flags.iter().flat_map(|group| group.flags) {
                let name = bold(&format!("--{}", flag.long));
                assert!(page.contains(&name), "{} --{}", spec.name, flag.long);
            }
        }
        for (variable, _) in TABLE.variables() {
            assert!(whole.contains(&bold(variable)), "{variable}");
        }
        for exit in EXITS {
            let heading = format!("\\fB{}\\fR \\- ", exit.code);
            assert!(whole.contains(&heading), "{}", exit.code);
        }
    }

    #[test]
    fn roff_sees_no_request_where_text_was_meant() {
        let mut out = String::new();
        prose(&mut out, ".TH 'a' \\ -b");
        assert_eq!(out, "\\&.TH \\(aqa\\(aq \\e \\-b\n");
        assert_eq!(
            marked("{--json} or `-`"),
            "\\fB\\-\\-json\\fR or \\fB\\-\\fR"
        );
        const REQUESTS: &[&str] = &[
            "TH", "SH", "SS", "PP", "TP", "IP", "RS", "RE", "EX", "EE", "br",
        ];
        for (name, page) in manual(&TABLE) {
            for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
                let request = line.trim_start_matches('.').split(' ').next().unwrap();
                assert!(REQUESTS.contains(&request), "{name}: {line}");
            }
        }
    }
}
