//! `omk help`: the parser turns it into a request for help, so there is only its place in the table.

use crate::cli::doc::schema;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, UsageError, value};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "help",
    positionals: "[COMMAND|PAGE]",
    completes: Completes::Commands,
    at_most: 2,
    summary: "explain omk, a command or a topic",
    doc: "Prints the full help of a command, a page of the manual such as ledger or security, or the help of omk as a whole. \
For a command it is the text that {--help} prints. With {--schema} it prints the JSON Schema of a document instead.",
    examples: &[
        ("omk help estimate", "Every flag of omk estimate."),
        (
            "omk help security",
            "What an agent may do, and what is sent where.",
        ),
        ("omk help", "omk as a whole, with the list of pages."),
        (
            "omk help --schema result",
            "The JSON Schema of what omk prompt --json prints.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[&SCHEMA],
    }],
    run: |_, _| Err(UsageError::new("help is not a command to run").into()),
};

static SCHEMA: Flag = Flag {
    long: "schema",
    takes: Takes::Value("NAME", |low, v| {
        let names: Vec<(&str, &'static str)> = schema::NAMES.iter().map(|n| (*n, *n)).collect();
        low.schema_of = Some(value::choice(v, &names)?);
        Ok(())
    }),
    doc: "Print the JSON Schema of a document or file. Draft 2020-12; the document `omk.result/1` is called result.",
    choices: schema::NAMES,
    completes: Completes::Choices,
    ..Flag::BLANK
};
