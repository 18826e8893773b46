//! `omk help`: the parser turns it into a request for help, so there is only its place in the table.

use crate::cli::flags::{CommandSpec, Completes, UsageError};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "help",
    positionals: "[COMMAND]",
    completes: Completes::Commands,
    at_most: 2,
    summary: "explain omk, or one command in full",
    doc: "Prints the full help of COMMAND, or of omk as a whole. It is the same text that {--help} prints.",
    examples: &[
        ("omk help estimate", "Every flag of omk estimate."),
        ("omk help", "omk as a whole."),
    ],
    flags: &[],
    run: |_, _| Err(UsageError::new("help is not a command to run").into()),
};
