//! A text that is more likely a command or a file than a question: it stops before anything is sent or paid for.

use std::path::Path;

use crate::cli::flags::UsageError;
use crate::runtime::text::escape;
use crate::runtime::text::nearest;

/// Words that other tools have for what `omk plan` calls otherwise.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("compare", "plan diff"),
    ("lint", "plan check"),
    ("list", "plan show"),
    ("ls", "plan show"),
    ("print", "plan show"),
    ("validate", "plan check"),
    ("verify", "plan check"),
    ("view", "plan show"),
];

/// The second words of `omk plan`.
const SECOND_WORDS: &[&str] = &["check", "show", "diff"];

/// Refuses a goal of one or two words that begins with a misspelt command, such as `chekc plan.json`.
pub(crate) fn refuse_command(words: &[&str]) -> Result<(), UsageError> {
    let (first, rest) = match words {
        [first] => (*first, ""),
        [first, second] if !second.contains(char::is_whitespace) => (*first, *second),
        _ => return Ok(()),
    };
    if first.contains(char::is_whitespace) {
        return Ok(());
    }
    let known = OTHER_WORDS.iter().find(|(word, _)| *word == first);
    let meant = match known {
        Some((_, command)) => (*command).to_string(),
        None => match nearest(first, SECOND_WORDS.iter().copied()) {
            Some(command) => format!("plan {command}"),
            None => return Ok(()),
        },
    };
    let file = match rest {
        "" => "FILE",
        file => file,
    };
    let error = UsageError::new(format!("`omk plan` has no command `{}`", escape(first)));
    Err(error
        .hint(format!("did you mean `omk {meant} {}`?", escape(file)))
        .hint(format!(
            "`omk plan -- {}` plans it as a goal",
            escape(&words.join(" "))
        )))
}

/// Refuses a text that is the name of a file; `otherwise` are commands for what may have been meant.
pub(crate) fn refuse_file(
    command: &str,
    words: &[&str],
    otherwise: &[&str],
) -> Result<(), UsageError> {
    let [name] = words else {
        return Ok(());
    };
    if !Path::new(name).is_file() {
        return Ok(());
    }
    let name = escape(name);
    let mut error = UsageError::new(format!("`{name}` is a file, not a text"));
    for other in otherwise {
        error = error.hint(other.replace("{}", &name));
    }
    Err(error.hint(format!("`omk {command} -- {name}` sends the name itself")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_commands_are_not_goals() {
        for words in [
            &["chekc", "plan.json"][..],
            &["list"],
            &["lint", "x"],
            &["shwo", "a.json"],
            &["validate"],
        ] {
            assert!(refuse_command(words).is_err(), "{words:?}");
        }
        for words in [
            &["Add OAuth login"][..],
            &["list all users in a table"],
            &["list", "all users"],
            &["list", "all", "users"],
            &["refactor"],
            &[],
        ] {
            assert!(refuse_command(words).is_ok(), "{words:?}");
        }
        let error = refuse_command(&["chekc", "plan.json"]).unwrap_err();
        assert_eq!(error.message, "`omk plan` has no command `chekc`");
        assert_eq!(
            error.hints,
            [
                "did you mean `omk plan check plan.json`?",
                "`omk plan -- chekc plan.json` plans it as a goal"
            ]
        );
    }
}
