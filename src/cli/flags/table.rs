//! The table: every command, and what can be looked up in it.
//!
//! The list itself stands in [`crate::cli::commands`]; the parser, the help, the man page, the completions, the variables
//! and the config file are all readings of it.

use std::ffi::OsStr;

use crate::cli::flags::{CommandSpec, Flag};

/// Every command, in the order of the documentation.
pub(crate) struct Table {
    /// The commands.
    pub(crate) commands: &'static [&'static CommandSpec],
    /// The words that begin several commands and are none.
    pub(crate) groups: &'static [CommandGroup],
    /// The names of the manual's pages that are about no command.
    pub(crate) pages: &'static [&'static str],
}

/// A word that begins several commands and is none.
#[derive(Debug, PartialEq)]
pub(crate) struct CommandGroup {
    /// The word.
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// What it means by itself.
    pub(crate) default: &'static CommandSpec,
}

impl Table {
    /// The command of this name.
    pub(crate) fn command(&self, name: &OsStr) -> Option<&'static CommandSpec> {
        self.commands.iter().find(|spec| name == spec.name).copied()
    }

    /// The group of this name.
    pub(crate) fn group(&self, name: &OsStr) -> Option<&'static CommandGroup> {
        self.groups.iter().find(|group| name == group.name)
    }

    /// The page of this name, with or without `omk-` as in the manual.
    pub(crate) fn page(&self, name: &OsStr) -> Option<&'static str> {
        let name = name.to_str()?;
        let name = name.strip_prefix("omk-").unwrap_or(name);
        self.pages.iter().find(|page| **page == name).copied()
    }

    /// The commands whose name is this one and one word more.
    pub(crate) fn subcommands(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (&'static str, &'static CommandSpec)> {
        self.commands.iter().filter_map(move |spec| {
            let second = spec.name.strip_prefix(name)?.strip_prefix(' ')?;
            Some((second, *spec))
        })
    }

    /// Every flag once, in the order of the documentation.
    pub(crate) fn flags(&self) -> Vec<&'static Flag> {
        let mut flags: Vec<&'static Flag> = Vec::new();
        for flag in self.commands.iter().flat_map(|spec| spec.flags()) {
            if !flags.iter().any(|known| std::ptr::eq(*known, flag)) {
                flags.push(flag);
            }
        }
        flags
    }

    /// The flag of that long name: the command's own where there is one, since two commands may have different flags of
    /// one name.
    pub(crate) fn flag(&self, long: &str, command: Option<&CommandSpec>) -> Option<&'static Flag> {
        self.find(command, &|flag| flag.long == long)
    }

    /// The same by its letter.
    pub(crate) fn short(
        &self,
        letter: char,
        command: Option<&CommandSpec>,
    ) -> Option<&'static Flag> {
        self.find(command, &|flag| flag.short == Some(letter))
    }

    fn find(
        &self,
        command: Option<&CommandSpec>,
        is_it: &dyn Fn(&Flag) -> bool,
    ) -> Option<&'static Flag> {
        let own = command.and_then(|command| command.flags().find(|flag| is_it(flag)));
        own.or_else(|| {
            let mut all = self.commands.iter().flat_map(|spec| spec.flags());
            all.find(|flag| is_it(flag))
        })
    }

    /// The commands that take this very flag.
    pub(crate) fn owners(&self, flag: &Flag) -> impl Iterator<Item = &'static CommandSpec> {
        self.commands.iter().filter(|spec| spec.has(flag)).copied()
    }

    /// The commands that take a flag of this name.
    pub(crate) fn with_flag(&self, long: &str) -> impl Iterator<Item = &'static CommandSpec> {
        let commands = self.commands.iter();
        commands
            .filter(move |spec| spec.flags().any(|own| own.long == long))
            .copied()
    }

    /// The variables that set flags, each once: flags of one name share theirs.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &'static Flag)> {
        let mut variables: Vec<(&'static str, &'static Flag)> = Vec::new();
        for flag in self.flags() {
            for name in flag.variables {
                if !variables.iter().any(|(known, _)| known == name) {
                    variables.push((name, flag));
                }
            }
        }
        variables
    }

    /// The flags that a config file may set, one of each name.
    pub(crate) fn configurable(&self) -> Vec<&'static Flag> {
        let mut names = Vec::new();
        let mut flags = self.flags();
        flags.retain(|flag| {
            let is_new = flag.configurable && !names.contains(&flag.long);
            if is_new {
                names.push(flag.long);
            }
            is_new
        });
        flags
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ffi::OsStr;

    use crate::cli::commands::TABLE;
    use crate::cli::doc::program::VARIABLES;
    use crate::cli::flags::{Completes, LowArgs, Takes};

    fn is_word(name: &str) -> bool {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
    }

    #[test]
    fn longs_and_shorts_are_well_formed_and_unique() {
        for spec in TABLE.commands {
            let (mut longs, mut shorts) = (BTreeSet::new(), BTreeSet::new());
            for flag in spec.flags() {
                assert!(is_word(flag.long), "--{}", flag.long);
                assert!(longs.insert(flag.long), "--{} appears twice", flag.long);
                if let Some(short) = flag.short {
                    assert!(
                        short.is_ascii_alphabetic() && shorts.insert(short),
                        "-{short}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_flag_is_documented() {
        for flag in TABLE.flags() {
            let name = flag.long;
            assert!(
                flag.doc.ends_with('.') && !flag.doc.contains('\n') && !flag.doc.contains("  "),
                "--{name}"
            );
        }
    }

    #[test]
    fn every_value_flag_names_its_value_and_no_switch_has_choices() {
        for flag in TABLE.flags() {
            match flag.value_name() {
                Some(name) => assert!(
                    name.starts_with(|c: char| c.is_ascii_uppercase()),
                    "--{}",
                    flag.long
                ),
                None => assert!(
                    flag.choices.is_empty() && !flag.repeats && flag.variables.is_empty(),
                    "--{} is a switch",
                    flag.long
                ),
            }
            assert_eq!(
                flag.choices.is_empty(),
                flag.completes != Completes::Choices,
                "--{}",
                flag.long
            );
        }
    }

    #[test]
    fn every_choice_is_accepted_and_nothing_else() {
        for flag in TABLE
            .flags()
            .into_iter()
            .filter(|flag| !flag.choices.is_empty())
        {
            let Takes::Value(_, set) = flag.takes else {
                panic!("--{}", flag.long)
            };
            for choice in flag.choices {
                assert_eq!(
                    set(&mut LowArgs::default(), OsStr::new(choice)),
                    Ok(()),
                    "--{} {choice}",
                    flag.long
                );
            }
            let error = set(&mut LowArgs::default(), OsStr::new("nonsense")).unwrap_err();
            assert_eq!(
                error,
                format!("`nonsense` is not one of {}", flag.choices.join(", "))
            );
        }
    }

    #[test]
    fn every_setter_changes_the_arguments() {
        let samples = [
            "1",
            "1%",
            "1,2,3",
            "30s",
            "https://host/v1",
            "text",
            "a=b",
            "5/day",
            "open",
            "OMK-P001",
        ];
        for flag in TABLE.flags() {
            let mut low = LowArgs::default();
            match flag.takes {
                Takes::Nothing(set) => set(&mut low),
                Takes::Value(_, set) => {
                    let accepted = |sample: &&str| set(&mut low, OsStr::new(sample)).is_ok();
                    assert!(
                        samples.iter().chain(flag.choices).any(accepted),
                        "--{}",
                        flag.long
                    );
                }
                Takes::Help | Takes::Version => continue,
            }
            assert_ne!(low, LowArgs::default(), "--{} sets nothing", flag.long);
        }
    }

    #[test]
    fn variables_are_unique_and_named_after_the_flag() {
        let mut seen = BTreeMap::new();
        for flag in TABLE.flags() {
            for variable in flag.variables {
                let other = seen.insert(*variable, flag.long);
                assert!(other.is_none_or(|other| other == flag.long), "{variable}");
            }
            if let Some(own) = flag.variables.first() {
                assert_eq!(
                    *own,
                    format!("OMK_{}", flag.long.to_uppercase().replace('-', "_"))
                );
            }
        }
        for variable in VARIABLES {
            assert!(
                seen.insert(variable.name, "").is_none(),
                "{}",
                variable.name
            );
        }
    }

    #[test]
    fn commands_are_unique_and_each_has_a_summary_and_an_example() {
        let mut names = BTreeSet::new();
        for spec in TABLE.commands {
            assert!(
                spec.name.split(' ').all(is_word) && names.insert(spec.name),
                "{}",
                spec.name
            );
            assert!(
                !spec.summary.ends_with('.') && spec.summary.len() <= 60,
                "{}",
                spec.name
            );
            assert!(!spec.examples.is_empty(), "{}", spec.name);
            assert_eq!(
                spec.positionals.is_empty(),
                spec.at_most == 0,
                "{}",
                spec.name
            );
            for (line, doc) in spec.examples {
                assert!(
                    line.contains(&format!("omk {}", spec.name)) && doc.ends_with('.'),
                    "{line}"
                );
            }
        }
    }
}
