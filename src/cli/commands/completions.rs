//! `omk completions`: prints a script and touches nothing else.

use crate::catalog::{Catalog, Model, Status};
use crate::cli::commands::TABLE;
use crate::cli::doc::complete::{Shell, script};
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes};
use crate::cli::flags::{LowArgs, UsageError, value};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "completions",
    positionals: "SHELL",
    completes: Completes::Shells,
    at_most: 1,
    summary: "print a completion script for bash, zsh or fish",
    doc: "Prints a script that lets SHELL (bash, zsh or fish) complete the commands, flags and values of omk.",
    examples: &[
        (
            "omk completions bash > ~/.local/share/bash-completion/completions/omk",
            "For bash, from the next shell on.",
        ),
        (
            "omk completions zsh > ~/.zfunc/_omk",
            "For zsh, when ~/.zfunc is in $fpath.",
        ),
        (
            "omk completions fish > ~/.config/fish/completions/omk.fish",
            "For fish.",
        ),
    ],
    flags: &[],
    run: |invocation, env| run(CompletionsArgs::resolve(invocation.low)?, env),
};

/// What `omk completions` was asked.
#[derive(Debug, PartialEq)]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

impl CompletionsArgs {
    /// Needs the name of a shell.
    pub(crate) fn resolve(low: LowArgs) -> Result<CompletionsArgs, UsageError> {
        let names: Vec<&str> = Shell::ALL.iter().map(|shell| shell.name()).collect();
        let Some(shell) = low.positionals.first() else {
            return Err(UsageError::new("completions needs a shell")
                .hint(format!("one of {}", names.join(", "))));
        };
        match value::word(shell) {
            Ok(shell) => Ok(CompletionsArgs { shell }),
            Err(error) => Err(UsageError::new(format!("shell {error}"))),
        }
    }
}

/// Prints the script.
pub(crate) fn run(args: CompletionsArgs, env: &mut Env) -> Result<Exit, Failure> {
    // Those built in: a script lives longer than any price list.
    let catalog = Catalog::builtin();
    let served = |model: &&Model| model.status != Status::Retired;
    let models = catalog.models().iter().filter(served);
    let names: Vec<&str> = models.map(|model| &*model.id).collect();
    env.output.print(&script(&TABLE, args.shell, &names))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_needed_and_must_be_known() {
        let resolve = |words: &[&str]| {
            let positionals = words.iter().map(Into::into).collect();
            CompletionsArgs::resolve(LowArgs {
                positionals,
                ..LowArgs::default()
            })
        };
        assert_eq!(
            resolve(&["fish"]),
            Ok(CompletionsArgs { shell: Shell::Fish })
        );
        assert_eq!(resolve(&[]).unwrap_err().hints, ["one of bash, zsh, fish"]);
        assert_eq!(
            resolve(&["csh"]).unwrap_err().message,
            "shell `csh` is not one of bash, zsh, fish"
        );
    }
}
