//! Pages of the manual that are about no command: file formats, guarantees, what is measured.
//!
//! Their text is in `pages/`, in a small markup, or follows from a table. `omk help NAME` prints it, and the manual renders
//! the same text in roff.
//!
//! ```text
//! # HEADING
//!
//! A paragraph, up to an empty line. `code` and {--flag} are marked as in the flag table.
//!
//! * A term
//!   and what it means.
//!
//!     four spaces before a line to be shown as it is
//! ```

use std::borrow::Cow;

use serde_json::Value;

use crate::cli::doc::first_sentence;
use crate::cli::doc::schema;
use crate::cli::flags::table::Table;
use crate::fleet::document::KEPT_DAYS;
use crate::plan::finding::Code;

/// What members of documents mean, by their names, where the schema of a document says nothing else.
const MEMBERS: &str = include_str!("members.txt");

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its name for `omk help`; `omk-` stands before it in the manual.
    pub(crate) name: &'static str,
    /// The section of the manual: 5 for file formats, 7 for everything else.
    pub(crate) section: u8,
    /// One line.
    pub(crate) summary: &'static str,
    text: &'static str,
    /// What a table adds to the text.
    more: Option<fn(&Table) -> String>,
}

const fn page(
    name: &'static str,
    section: u8,
    summary: &'static str,
    text: &'static str,
    more: Option<fn(&Table) -> String>,
) -> Page {
    Page {
        name,
        section,
        summary,
        text,
        more,
    }
}

/// Every page, file formats first.
pub(crate) static PAGES: &[Page] = &[
    page(
        "config",
        5,
        "the config file",
        include_str!("pages/config.txt"),
        Some(config_keys),
    ),
    page(
        "prices",
        5,
        "the format of price files",
        include_str!("pages/prices.txt"),
        None,
    ),
    page(
        "plan-format",
        5,
        "the format of plans",
        include_str!("pages/plan-format.txt"),
        None,
    ),
    page(
        "json",
        5,
        "the JSON documents that omk prints",
        include_str!("pages/json.txt"),
        Some(documents),
    ),
    page(
        "ledger",
        7,
        "what the ledger guarantees, and how",
        include_str!("pages/ledger.txt"),
        None,
    ),
    page(
        "fleet",
        7,
        "one budget and one ledger for several machines",
        include_str!("pages/fleet.txt"),
        None,
    ),
    page(
        "security",
        7,
        "what an agent may do, and what is sent where",
        include_str!("pages/security.txt"),
        None,
    ),
    page(
        "speed",
        7,
        "how fast omk counts, and how that is measured",
        include_str!("pages/speed.txt"),
        None,
    ),
    page(
        "findings",
        7,
        "what `omk plan check` finds",
        include_str!("pages/findings.txt"),
        Some(findings),
    ),
];

/// Their names.
pub(crate) const NAMES: &[&str] = &[
    "config",
    "prices",
    "plan-format",
    "json",
    "ledger",
    "fleet",
    "security",
    "speed",
    "findings",
];

impl Page {
    /// The text, in the markup.
    pub(crate) fn text(&self, table: &Table) -> String {
        let days = KEPT_DAYS.to_string();
        let mut text = self.text.replace("KEPT_DAYS", &days);
        if let Some(more) = self.more {
            text.push('\n');
            text.push_str(&more(table));
        }
        text
    }
}

/// A part of a page.
#[derive(Debug, PartialEq)]
pub(super) enum Block<'a> {
    Heading(&'a str),
    Paragraph(String),
    /// A term and its explanation.
    Item(&'a str, String),
    /// Lines to show as they are.
    Code(String),
}

/// The parts of a text, in order.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    // A line of code may be empty, so code goes on until a line that is none.
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("# ") {
            blocks.push(Block::Heading(heading));
        } else if let Some(code) = line.strip_prefix("    ") {
            let mut all = vec![code];
            while let Some(next) = lines.next_if(|next| next.starts_with("    ")) {
                all.push(next.get(4..).unwrap_or_default());
            }
            blocks.push(Block::Code(all.join("\n")));
        } else if !line.trim().is_empty() {
            let mut rest = Vec::new();
            while let Some(next) = lines.next_if(|next| {
                let begins_another = next.starts_with("* ") || next.starts_with("# ");
                !next.trim().is_empty() && !begins_another
            }) {
                rest.push(next.trim());
            }
            match line.strip_prefix("* ") {
                Some(term) => blocks.push(Block::Item(term, rest.join(" "))),
                None => {
                    rest.insert(0, line.trim());
                    blocks.push(Block::Paragraph(rest.join(" ")));
                }
            }
        }
    }
    blocks
}

fn config_keys(table: &Table) -> String {
    let mut out = String::from("# KEYS\n\n");
    for flag in table.configurable() {
        let commands: Vec<&str> = table.owners(flag).map(|spec| spec.name).collect();
        let kind: Cow<'_, str> = match (flag.value_name(), flag.choices) {
            (None, _) => "true or false".into(),
            (Some(_), choices) if !choices.is_empty() => choices.join(", ").into(),
            (Some(value), _) => value.into(),
        };
        let meaning = first_sentence(flag.doc);
        // What nearly all commands have needs no list.
        let used = match commands.len() {
            0..8 => format!(" Used by: {}.", commands.join(", ")),
            _ => String::new(),
        };
        out.push_str(&format!("* {}: {kind}\n  {meaning}.{used}\n\n", flag.long));
    }
    out
}

fn findings(_: &Table) -> String {
    let (errors, warnings): (Vec<Code>, Vec<Code>) =
        Code::ALL.iter().partition(|code| code.id() < "OMK-P1");
    let mut out = String::new();
    for (title, codes) in [("ERRORS", errors), ("WARNINGS", warnings)] {
        out.push_str(&format!("# {title}\n\n"));
        for code in codes {
            let (id, name) = (code.id(), code.name());
            let (meaning, fix) = (code.meaning(), code.fix());
            out.push_str(&format!("* {id} - {name}\n  {meaning} Fix: {fix}.\n\n"));
        }
    }
    out
}

/// Every document with its members, from the schemas.
fn documents(_: &Table) -> String {
    let mut out = String::new();
    let all = schema::all();
    let shared = all.get("$defs").cloned().unwrap_or_default();
    for name in schema::NAMES {
        let Some(of) = all.get(*name) else { continue };
        let title = of.get("title").and_then(Value::as_str).unwrap_or_default();
        // A title names flags as they are typed.
        let words = title.split(' ').map(|word| match word.strip_prefix("--") {
            Some(flag) => {
                let name = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let (name, rest) = flag.split_at(name.len());
                Cow::Owned(format!("{{--{name}}}{rest}"))
            }
            None => Cow::Borrowed(word),
        });
        let title: Vec<Cow<'_, str>> = words.collect();
        out.push_str(&format!("# omk.{name}/1\n\n{}.\n\n", title.join(" ")));
        out.push_str(&members(of, &shared));
    }
    out.push_str(
        "# SHARED PARTS\n\nParts that several documents have, by the names of the schemas.\n\n",
    );
    for (name, part) in shared.as_object().into_iter().flatten() {
        if part.get("properties").is_none() {
            continue;
        }
        let about = part.get("description").and_then(Value::as_str);
        let about = about.map(|about| format!(" {about}")).unwrap_or_default();
        out.push_str(&format!("`{name}`:{about}\n\n{}", members(part, &shared)));
    }
    out
}

/// The members of an object by its schema, those of alternatives and shared parts included.
fn members(of: &Value, shared: &Value) -> String {
    let mut out = String::new();
    let parts = of.get("properties").and_then(Value::as_object);
    for (member, schema) in parts.into_iter().flatten() {
        if member == "schema" {
            continue;
        }
        let about = description(member, schema, shared).unwrap_or_default();
        let kind = capitalized(&kind(schema));
        out.push_str(&format!("* {member}\n  {kind}. {about}\n\n"));
    }
    for part in ["allOf", "anyOf"] {
        for one in of.get(part).and_then(Value::as_array).into_iter().flatten() {
            match one.get("$ref").and_then(Value::as_str) {
                Some(reference) => {
                    let name = reference.rsplit('/').next().unwrap_or_default();
                    // Every document has the envelope, which has a section of its own.
                    if name != "envelope" {
                        out.push_str(&format!("Also the members of `{name}`, see below.\n\n"));
                    }
                }
                None => out.push_str(&members(one, shared)),
            }
        }
    }
    out
}

/// What a member means: as its own schema says, else as the part that it refers to, else as all members of its name.
fn description<'a>(member: &str, schema: &'a Value, shared: &'a Value) -> Option<&'a str> {
    let own = schema.get("description").and_then(Value::as_str);
    let of_part = || {
        let reference = schema.get("$ref")?.as_str()?;
        let name = reference.rsplit('/').next()?;
        shared.get(name)?.get("description")?.as_str()
    };
    let of_name = || {
        let mut lines = MEMBERS.lines().filter_map(|line| line.split_once(' '));
        lines.find_map(|(name, about)| (name == member).then_some(about))
    };
    if member.ends_with("_exact") && schema.get("description").is_none() {
        return Some("The same as a decimal string.");
    }
    own.or_else(of_part).or_else(of_name)
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// The type of a member in words.
fn kind(schema: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return format!("See {}", reference.rsplit('/').next().unwrap_or_default());
    }
    if let Some(constant) = schema.get("const") {
        return text(constant);
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.iter().map(text).collect::<Vec<_>>().join(", ");
    }
    if let Some(Value::Array(several)) = schema.get("anyOf") {
        let kinds: Vec<String> = several.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    let of_items = || match schema.get("items") {
        Some(items) if items.get("properties").is_none() => {
            format!(" of {}", kind(items).to_lowercase())
        }
        Some(items) => {
            let names = items.get("properties").and_then(Value::as_object);
            let names: Vec<&str> = names
                .into_iter()
                .flatten()
                .map(|(k, _)| k.as_str())
                .collect();
            format!(" of objects: {}", names.join(", "))
        }
        None => String::new(),
    };
    match schema.get("type") {
        Some(Value::String(one)) if one == "array" => format!("Array{}", of_items()),
        Some(Value::String(one)) if one == "object" => {
            let names = schema.get("properties").and_then(Value::as_object);
            let names: Vec<&str> = names
                .into_iter()
                .flatten()
                .map(|(k, _)| k.as_str())
                .collect();
            match names.is_empty() {
                true => "Object".to_string(),
                false => format!("Object: {}", names.join(", ")),
            }
        }
        Some(Value::Array(several)) => several.iter().map(text).collect::<Vec<_>>().join(" or "),
        Some(one) => text(one),
        None => "Any value".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::TABLE;

    #[test]
    fn a_text_is_taken_apart() {
        let text = "# ONE\n\nSome\nwords.\n\n* A: b\n  what it\n  means\n* C\n\n    code\n\n    more\nend\n";
        assert_eq!(
            blocks(text),
            [
                Block::Heading("ONE"),
                Block::Paragraph("Some words.".to_string()),
                Block::Item("A: b", "what it means".to_string()),
                Block::Item("C", String::new()),
                Block::Code("code".to_string()),
                Block::Code("more".to_string()),
                Block::Paragraph("end".to_string()),
            ]
        );
    }

    #[test]
    fn every_page_has_a_text_and_one_name() {
        assert!(PAGES.iter().map(|page| page.name).eq(NAMES.iter().copied()));
        for page in PAGES {
            assert_eq!(
                TABLE.page(format!("omk-{}", page.name).as_ref()),
                Some(page.name)
            );
            assert!(TABLE.command(page.name.as_ref()).is_none());
            let text = page.text(&TABLE);
            assert!(matches!(blocks(&text).first(), Some(Block::Heading(_))));
        }
        assert_eq!(TABLE.page("nonsense".as_ref()), None);
    }

    #[test]
    fn every_member_of_a_document_is_explained() {
        fn walk(of: &Value, shared: &Value, wrong: &mut Vec<String>) {
            let members = of.get("properties").and_then(Value::as_object);
            for (member, schema) in members.into_iter().flatten() {
                if description(member, schema, shared).is_none() {
                    wrong.push(member.clone());
                }
            }
            match of {
                Value::Object(parts) => parts.values().for_each(|part| walk(part, shared, wrong)),
                Value::Array(parts) => parts.iter().for_each(|part| walk(part, shared, wrong)),
                _ => {}
            }
        }
        let all = schema::all();
        let mut wrong = Vec::new();
        walk(&all, &all["$defs"], &mut wrong);
        assert!(wrong.is_empty(), "not in members.txt: {wrong:?}");
    }

    #[test]
    fn tables_are_on_their_pages() {
        let text = |name: &str| {
            let page = PAGES.iter().find(|page| page.name == name);
            page.unwrap().text(&TABLE)
        };
        for code in Code::ALL {
            assert!(text("findings").contains(code.id()), "{}", code.id());
        }
        for name in schema::NAMES.iter().filter(|name| **name != "config") {
            let heading = format!("# omk.{name}/1\n");
            assert!(text("json").contains(&heading), "{name}");
        }
        for flag in TABLE.configurable() {
            let item = format!("\n* {}: ", flag.long);
            assert!(text("config").contains(&item), "{}", flag.long);
        }
    }
}
