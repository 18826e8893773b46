//! The man page `man/omk.1`, in roff.
//!
//! It carries no date: the same table must give the same bytes on every day and machine. The
//! committed file is held equal to this rendering by a test, which rewrites it when `OMK_BLESS` is
//! set.

use crate::cli::doc::help::facts;
use crate::cli::doc::program::{DESCRIPTION, SUMMARY, VARIABLES};
use crate::cli::doc::{Span, spans};
use crate::cli::exit::EXITS;
use crate::cli::flags::table::Table;
use crate::cli::flags::{CommandSpec, Flag, shared};
use crate::plan::finding::Code;

/// What the page says about the files that omk reads; the same markup as elsewhere.
const CONFIG_FILE: &str = "Settings, read when no OMK_CONFIG names another file: one JSON object \
whose keys are names of flags without their dashes, such as \
`{\"model\": \"kimi-k3\", \"output-tokens\": 800, \"strict-prices\": true}`. A value is written as on \
the command line, or as a JSON number; a switch takes true or false; a flag that may be repeated \
also takes an array. An unknown key is an error. Without XDG_CONFIG_HOME the directory is \
$HOME/.config.";

/// The whole page.
fn man(table: &Table) -> String {
    let mut out = format!(
        ".TH OMK 1 \"\" \"omk {}\" \"User Commands\"\n",
        env!("CARGO_PKG_VERSION")
    );
    section(&mut out, "NAME");
    out.push_str(&format!("omk \\- {}\n", escape(SUMMARY)));
    section(&mut out, "SYNOPSIS");
    for (i, spec) in table.commands.iter().enumerate() {
        if i > 0 {
            out.push_str(".br\n");
        }
        synopsis(&mut out, spec);
    }
    section(&mut out, "DESCRIPTION");
    paragraphs(&mut out, DESCRIPTION);
    section(&mut out, "COMMANDS");
    for spec in table.commands {
        out.push_str(&format!(".SS \"omk {}\"\n", escape(spec.name)));
        synopsis(&mut out, spec);
        out.push_str(".PP\n");
        paragraphs(&mut out, spec.doc);
    }
    section(&mut out, "OPTIONS");
    for spec in table.commands {
        for group in spec.flags {
            let purpose = match group.title {
                "" => String::new(),
                title => format!(": {}", title.to_lowercase()),
            };
            let name = escape(spec.name);
            out.push_str(&format!(".SS \"Options of omk {name}{purpose}\"\n"));
            group
                .flags
                .iter()
                .for_each(|flag| option(&mut out, flag, spec.name));
        }
    }
    out.push_str(".SS \"Options of every command\"\n");
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
    section(&mut out, "FINDINGS");
    out.push_str("What `omk plan check` finds. Codes from OMK\\-P001 are errors, those from OMK\\-P101 warnings.\n".replace("`omk plan check`", &bold("omk plan check")).as_str());
    for code in Code::ALL {
        let heading = format!("{} \\- {}", bold(code.id()), escape(code.name()));
        item(&mut out, &heading, code.meaning());
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
    section(&mut out, "FILES");
    item(
        &mut out,
        &bold("$XDG_CONFIG_HOME/omk/config.json"),
        CONFIG_FILE,
    );
    let keys: Vec<&str> = table.configurable().iter().map(|flag| flag.long).collect();
    out.push_str(".IP\n");
    prose(&mut out, &format!("The keys: {}.", keys.join(", ")));
    section(&mut out, "EXAMPLES");
    let examples = table.commands.iter().flat_map(|spec| spec.examples);
    for (i, (line, doc)) in examples.enumerate() {
        if i > 0 {
            out.push_str(".PP\n");
        }
        prose(&mut out, doc);
        out.push_str(&format!(".PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n", escape(line)));
    }
    out
}

pub(super) fn section(out: &mut String, name: &str) {
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

pub(super) fn item(out: &mut String, heading: &str, text: &str) {
    out.push_str(&format!(".TP\n{heading}\n"));
    prose(out, text);
}

pub(super) fn paragraphs(out: &mut String, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            out.push_str(".PP\n");
        }
        prose(out, paragraph);
    }
}

/// A text with its marks, on lines short enough to read as a difference between two versions.
fn prose(out: &mut String, text: &str) {
    let mut line = String::new();
    for word in marked(text).split(' ') {
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

pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

/// Text that roff shows as it is: backslashes, dashes (a bare one becomes a hyphen that cannot be
/// searched or copied) and quotes and carets that it would make typographic.
pub(super) fn escape(text: &str) -> String {
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
    use super::*;
    use crate::cli::commands::TABLE;

    #[test]
    fn the_committed_page_is_this_rendering() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("man")
            .join("omk.1");
        if std::env::var_os("OMK_BLESS").is_some() {
            std::fs::write(&path, man(&TABLE)).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == man(&TABLE),
            "man/omk.1 is stale: OMK_BLESS=1 cargo test --lib rewrites it"
        );
    }

    #[test]
    fn every_command_flag_variable_and_exit_code_is_on_the_page() {
        let page = man(&TABLE);
        for spec in TABLE.commands {
            assert!(
                page.contains(&format!(".SS \"omk {}\"", spec.name)),
                "{}",
                spec.name
            );
        }
        for flag in TABLE.flags() {
            assert!(
                page.contains(&bold(&format!("--{}", flag.long))),
                "--{}",
                flag.long
            );
            for variable in flag.variables {
                assert!(page.contains(&bold(variable)), "{variable}");
            }
        }
        for code in Code::ALL {
            assert!(page.contains(&bold(code.id())), "{}", code.id());
        }
        for exit in EXITS {
            assert!(
                page.contains(&format!("\\fB{}\\fR \\- ", exit.code)),
                "{}",
                exit.code
            );
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
        for line in man(&TABLE)
            .lines()
            .filter(|line| line.starts_with(['.', '\'']))
        {
            let request = line.trim_start_matches('.').split(' ').next().unwrap();
            assert!(REQUESTS.contains(&request), "{line}");
        }
    }
}
