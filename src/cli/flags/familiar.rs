//! What people know from other programs: `llm`, `codex exec`, `claude -p`, `gemini -p`, `aichat`, `ttok`.
//!
//! Where the meaning is the same, the other name is an alias; where it is not, the error says what omk has instead. A flag of
//! omk's own always comes first.

use std::ffi::{OsStr, OsString};

/// Another name for a flag.
#[derive(Debug, PartialEq)]
pub(crate) struct Alias {
    /// As it is typed, with its dashes.
    pub(crate) typed: &'static str,
    /// The commands that take it.
    pub(crate) on: &'static [&'static str],
    /// What it stands for.
    pub(crate) means: Means,
}

/// What an alias stands for.
#[derive(Debug, PartialEq)]
pub(crate) enum Means {
    /// The flag of this long name.
    Flag(&'static str),
    /// The same, where a bare number is a number of seconds.
    Seconds(&'static str),
    /// A value that names a flag; an empty name is the default.
    Choice(&'static [(&'static str, &'static str)]),
}

impl Alias {
    /// The long name of the one flag that it stands for.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        match self.means {
            Means::Flag(long) | Means::Seconds(long) => Some(long),
            Means::Choice(_) => None,
        }
    }

    /// A value as the flag takes it.
    pub(crate) fn value(&self, value: OsString) -> OsString {
        let bare = value
            .to_str()
            .is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        match self.means {
            Means::Seconds(_) if bare => {
                let mut seconds = value;
                seconds.push("s");
                seconds
            }
            _ => value,
        }
    }
}

const ASKING: &[&str] = &["prompt", "plan"];
const PROMPT: &[&str] = &["prompt"];

const fn same(typed: &'static str, on: &'static [&'static str], flag: &'static str) -> Alias {
    Alias {
        typed,
        on,
        means: Means::Flag(flag),
    }
}

/// Every alias.
pub(crate) const ALIASES: &[Alias] = &[
    same("--system-prompt", PROMPT, "system"),
    same("-a", PROMPT, "image"),
    same("--attachment", PROMPT, "image"),
    same("--resume", PROMPT, "session"),
    same("--output-schema", PROMPT, "schema"),
    same("--allowedTools", PROMPT, "allow"),
    same("--allowed-tools", PROMPT, "allow"),
    same(
        "--max-budget-usd",
        &["prompt", "plan", "estimate"],
        "max-usd",
    ),
    same("--cd", &["prompt", "plan", "estimate"], "directory"),
    Alias {
        typed: "--timeout",
        on: &["prompt", "plan", "estimate", "models update", "cost push"],
        means: Means::Seconds("deadline"),
    },
    Alias {
        typed: "--output-format",
        on: PROMPT,
        means: Means::Choice(&[
            ("text", ""),
            ("json", "json"),
            ("stream-json", "stream-json"),
        ]),
    },
    Alias {
        typed: "--output-format",
        on: &["plan"],
        means: Means::Choice(&[("text", ""), ("json", "json")]),
    },
];

/// The alias of that name on a command.
pub(crate) fn alias(typed: &str, command: &str) -> Option<&'static Alias> {
    let mut known = ALIASES.iter();
    known.find(|alias| alias.typed == typed && alias.on.contains(&command))
}

/// The other names of a flag of a command.
pub(crate) fn names(long: &str, command: &str) -> Vec<&'static str> {
    let own = |alias: &&Alias| alias.flag() == Some(long) && alias.on.contains(&command);
    ALIASES
        .iter()
        .filter(own)
        .map(|alias| alias.typed)
        .collect()
}

/// Flags of other programs: as typed, on which commands (none: before any), and what omk has instead.
const FLAG_HINTS: &[(&str, &[&str], &str)] = &[
    (
        "-p",
        ASKING,
        "leave it out: the answer is always printed, and nothing is asked in between",
    ),
    (
        "--print",
        ASKING,
        "leave it out: the answer is always printed, and nothing is asked in between",
    ),
    ("-p", &[], "`omk prompt \"...\"` asks a question"),
    ("--print", &[], "`omk prompt \"...\"` asks a question"),
    ("--prompt", &[], "`omk prompt \"...\"` asks a question"),
    (
        "-o",
        PROMPT,
        "--output-last-message FILE writes the answer to a file; options of the model have flags, such as --temperature 0.3",
    ),
    (
        "--yolo",
        ASKING,
        "--allow all lets an agent use every tool; --allow Read names one",
    ),
    (
        "--full-auto",
        ASKING,
        "--allow all lets an agent use every tool; --allow Read names one",
    ),
    (
        "--dangerously-skip-permissions",
        ASKING,
        "--allow all lets an agent use every tool; --allow Read names one",
    ),
    (
        "--key",
        ASKING,
        "a key in an argument is seen by every user of the machine: set MOONSHOT_API_KEY",
    ),
];

/// What omk has instead of a flag that it does not know.
pub(crate) fn flag_hint(typed: &str, command: Option<&str>) -> Option<&'static str> {
    let fits = |on: &[&str]| match command {
        Some(command) => on.contains(&command),
        None => on.is_empty(),
    };
    let found = FLAG_HINTS
        .iter()
        .find(|(name, on, _)| *name == typed && fits(on));
    found.map(|(_, _, hint)| *hint)
}

/// Commands of other programs, by their last word, and what omk has instead.
const COMMAND_HINTS: &[(&str, &str)] = &[
    (
        "ls",
        "`omk cost list` lists runs, `omk models` lists models",
    ),
    ("usage", "`omk cost report` adds up what runs used and cost"),
    (
        "logs",
        "`omk cost list` lists runs, `omk cost show last` shows the newest",
    ),
    ("count", "`omk estimate --count FILE` counts tokens"),
    ("tokens", "`omk estimate --count FILE` counts tokens"),
    ("version", "`omk --version` prints the version"),
    (
        "config",
        "settings are in $XDG_CONFIG_HOME/omk/config.json; the section FILES of omk(1) lists the keys",
    ),
    ("ask", "`omk prompt \"...\"` asks a question"),
    ("chat", "`omk prompt \"...\"` asks a question"),
    ("exec", "`omk prompt \"...\"` asks a question"),
    ("run", "`omk prompt \"...\"` asks a question"),
    (
        "login",
        "set MOONSHOT_API_KEY, or run `kimi` once and log in there",
    ),
    (
        "auth",
        "set MOONSHOT_API_KEY, or run `kimi` once and log in there",
    ),
];

/// What omk has instead of a command that it does not know.
pub(crate) fn command_hint(words: &OsStr) -> Option<&'static str> {
    let words = words.to_str()?;
    let last = words.rsplit(' ').next()?;
    let found = COMMAND_HINTS.iter().find(|(name, _)| *name == last)?;
    // A sentence may end in any word.
    (words.split(' ').count() <= 2).then_some(found.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::{TABLE, parse};
    use crate::cli::flags::parse::Parsed;
    use crate::cli::flags::{LowArgs, UsageError};

    fn parsed(line: &str) -> Result<Parsed, UsageError> {
        parse(line.split(' ').map(OsString::from))
    }

    #[track_caller]
    fn low(line: &str) -> LowArgs {
        match parsed(line) {
            Ok(Parsed::Run(invocation)) => invocation.low,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_alias_is_the_flag_it_stands_for() {
        for alias in ALIASES {
            for command in alias.on {
                let spec = TABLE.command(OsStr::new(command)).unwrap();
                let dashless = alias.typed.trim_start_matches('-');
                assert!(
                    !spec.flags().any(|flag| flag.long == dashless
                        || flag.short.map(String::from).as_deref() == Some(dashless)),
                    "{command} {} is a flag already",
                    alias.typed
                );
                match alias.means {
                    Means::Flag(long) | Means::Seconds(long) => {
                        let flag = TABLE.flag(long, Some(spec)).unwrap();
                        let value = ["5", "1", "Read", "30s", "a"]
                            .into_iter()
                            .find(|value| parsed(&format!("{command} --{long} {value}")).is_ok());
                        let value = value.unwrap();
                        let ours = low(&format!("{command} --{long} {value}"));
                        assert_eq!(low(&format!("{command} {} {value}", alias.typed)), ours);
                        assert!(spec.has(flag));
                    }
                    Means::Choice(choices) => {
                        for (value, long) in choices {
                            let ours = match *long {
                                "" => low(command),
                                long => low(&format!("{command} --{long}")),
                            };
                            assert_eq!(
                                low(&format!("{command} {} {value}", alias.typed)),
                                ours,
                                "{value}"
                            );
                            assert_eq!(low(&format!("{command} {}={value}", alias.typed)), ours);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn seconds_need_no_unit_in_a_timeout() {
        let seconds = low("prompt --timeout 90").deadline;
        assert_eq!(seconds, Some(std::time::Duration::from_secs(90)));
        assert_eq!(
            low("prompt --timeout 2m").deadline,
            low("prompt --deadline 2m").deadline
        );
        let error = parsed("prompt --timeout soon").unwrap_err();
        assert!(
            error.message.starts_with("--timeout: `soon` is not"),
            "{error:?}"
        );
    }

    #[test]
    fn an_unknown_output_format_is_named() {
        let error = parsed("prompt --output-format xml").unwrap_err();
        assert_eq!(
            error.message,
            "--output-format: `xml` is not one of text, json, stream-json"
        );
        assert!(parsed("prompt --output-format").is_err());
    }

    #[test]
    fn every_flag_hint_is_given() {
        for (typed, on, hint) in FLAG_HINTS {
            let lines: Vec<String> = match on {
                [] => vec![format!("{typed} x")],
                on => on
                    .iter()
                    .map(|command| format!("{command} {typed} x"))
                    .collect(),
            };
            for line in lines {
                let error = parsed(&line).unwrap_err();
                assert_eq!(error.hints, [*hint], "{line}");
            }
        }
    }

    #[test]
    fn every_command_hint_is_given() {
        for (word, hint) in COMMAND_HINTS {
            let error = parsed(word).unwrap_err();
            assert_eq!(error.hints, [*hint], "{word}");
        }
        for line in ["cost ls", "cost usage", "cost logs"] {
            assert!(
                parsed(line).unwrap_err().hints[0].contains("omk cost"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_question_without_a_command_is_recognised() {
        let error = parse(["What is a token?".into()]).unwrap_err();
        assert_eq!(error.hints, ["`omk prompt \"...\"` asks a question"]);
        let error = parse(["Please list the words that git ls".into()]).unwrap_err();
        assert_eq!(error.hints, ["`omk prompt \"...\"` asks a question"]);
    }

    #[test]
    fn a_letter_that_omk_lacks_is_not_called_a_long_flag() {
        let error = parsed("prompt -z").unwrap_err();
        assert_eq!(error.message, "there is no flag `-z`");
        assert_eq!(
            error.hints,
            ["`omk prompt -h` lists its flags; `-- -...` is text that begins with a dash"]
        );
        // Several letters at once are a long flag with one dash.
        let error = parsed("estimate -zeal").unwrap_err();
        assert!(error.hints[0].contains("two dashes"), "{error:?}");
    }
}
