//! Completion scripts for bash, zsh and fish.
//!
//! A script is static: names of commands, flags, choices and models are written into it, so
//! pressing tab starts no process and touches no network. It refuses dependencies: bash needs no
//! bash-completion.

use crate::cli::doc::first_sentence;
use crate::cli::flags::table::Table;
use crate::cli::flags::{CommandSpec, Completes, Flag};
use crate::runtime::words::words;

words! {
    /// A shell that has completions.
    pub(crate) Shell, "shell" {
        /// GNU bash 3.2 or later.
        Bash = "bash",
        /// zsh with its completion system loaded.
        Zsh = "zsh",
        /// fish 3 or later.
        Fish = "fish",
    }
}

/// The script for a shell; `models` are offered where a model is expected.
pub(crate) fn script(table: &Table, shell: Shell, models: &[&str]) -> String {
    let words = Words { table, models };
    match shell {
        Shell::Bash => bash(&words),
        Shell::Zsh => zsh(&words),
        Shell::Fish => fish(&words),
    }
}

/// The words that a script may offer.
struct Words<'a> {
    table: &'a Table,
    models: &'a [&'a str],
}

impl Words<'_> {
    /// The words to offer, separated by one space; `None` for names of files. They contain nothing that
    /// a shell expands.
    fn of(&self, completes: Completes, choices: &[&str]) -> Option<String> {
        Some(match completes {
            Completes::Files => return None,
            Completes::Nothing => String::new(),
            Completes::Choices => choices.join(" "),
            Completes::Models => self.models.join(" "),
            Completes::Shells => list(Shell::ALL.iter().map(|shell| shell.name())),
            Completes::Commands => list(self.first_commands().map(|(word, _)| word)),
        })
    }

    /// The values of a flag; `None` for names of files.
    fn of_flag(&self, flag: &Flag) -> Option<String> {
        self.of(flag.completes, flag.choices)
    }

    /// The words that may stand first, and what each does.
    fn first_commands(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let commands = self.table.commands.iter();
        let commands = commands.filter(|spec| !spec.name.contains(' '));
        let groups = self.table.groups.iter();
        commands
            .map(|spec| (spec.name, spec.summary))
            .chain(groups.map(|group| (group.name, group.summary)))
    }

    /// The commands that take a flag, and the groups that stand for such a command.
    fn owners(&self, flag: &Flag) -> Vec<&'static str> {
        let groups = self.table.groups.iter();
        let groups = groups.filter(|group| group.default.has(flag));
        self.table
            .owners(flag)
            .map(|spec| spec.name)
            .chain(groups.map(|group| group.name))
            .collect()
    }

    /// The second words of the commands that begin with this one, such as `update` after `models`.
    fn second_words(&self, first: &str) -> String {
        list(self.table.subcommands(first).map(|(second, _)| second))
    }

    /// What may follow a command that is no flag; `None` for names of files.
    fn arguments(&self, spec: &CommandSpec) -> Option<String> {
        let offered = self.of(spec.completes, &[])?;
        let offered = format!("{} {offered}", self.second_words(spec.name));
        Some(offered.trim().to_string())
    }

    /// Branches of a shell's `case` that follow the words of a command: state, then word, as one
    /// pattern.
    fn each_step(&self, mut branch: impl FnMut(&str, &str)) {
        for group in self.table.groups {
            branch(&format!(" {}", group.name), group.name);
        }
        for spec in self.table.commands {
            match spec.name.rsplit_once(' ') {
                Some((first, second)) => branch(&format!("{first} {second}"), spec.name),
                None => branch(&format!(" {}", spec.name), spec.name),
            }
        }
    }
}

/// Words separated by one space.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// The flags of a command, separated by one space.
fn flags(spec: &CommandSpec) -> String {
    let flags = spec.flags().map(|flag| format!("--{}", flag.long));
    flags.collect::<Vec<_>>().join(" ")
}

fn bash(offers: &Words<'_>) -> String {
    let mut out = String::from(
        "# bash completion for omk; put there by `omk completions bash`.
_omk() {
    local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"
    local command=\"\" word i
    # bash makes a word of its own of the `=` in `--flag=value`.
    if [[ $current == \"=\" ]]; then
        current=\"\"
    elif [[ $previous == \"=\" ]]; then
        previous=\"${COMP_WORDS[COMP_CWORD-2]}\"
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=\"${COMP_WORDS[i]}\"
        case \"$command $word\" in
",
    );
    offers.each_step(|step, name| {
        out.push_str(&format!("            \"{step}\") command=\"{name}\" ;;\n"))
    });
    out.push_str("        esac\n    done\n    COMPREPLY=()\n    case \"$command $previous\" in\n");
    let reply = |offered: Option<String>| match offered {
        Some(offered) => format!("COMPREPLY=($(compgen -W \"{offered}\" -- \"$current\"))"),
        None => "_omk_files \"$current\"".to_string(),
    };
    for flag in offers.table.flags() {
        if flag.value_name().is_none() {
            continue;
        }
        // Commands may have different flags of one name.
        let mut patterns = Vec::new();
        for name in offers.owners(flag) {
            patterns.push(format!("\"{name} --{}\"", flag.long));
            patterns.extend(flag.short.map(|short| format!("\"{name} -{short}\"")));
        }
        let reply = reply(offers.of_flag(flag));
        out.push_str(&format!(
            "        {})\n            {reply}\n            return ;;\n",
            patterns.join(" | ")
        ));
    }
    out.push_str("    esac\n    case \"$command\" in\n");
    for spec in offers.table.commands {
        out.push_str(&format!(
            "        \"{}\")\n            if [[ $current == -* ]]; then\n                {}\n            else\n                {}\n            fi ;;\n",
            spec.name,
            reply(Some(flags(spec))),
            reply(offers.arguments(spec)),
        ));
    }
    for group in offers.table.groups {
        let (second, flags) = (offers.second_words(group.name), flags(group.default));
        out.push_str(&format!(
            "        \"{}\")\n            {} ;;\n",
            group.name,
            reply(Some(format!("{second} {flags}"))),
        ));
    }
    let first = list(offers.first_commands().map(|(word, _)| word));
    out.push_str(&format!(
        "        *)\n            {} ;;\n",
        reply(Some(format!("{first} --help --version")))
    ));
    out.push_str(
        "    esac
}
_omk_files() {
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- \"$1\"))
}
complete -F _omk omk
",
    );
    out
}

fn zsh(offers: &Words<'_>) -> String {
    let mut out = String::from(
        "#compdef omk
# zsh completion for omk; put there by `omk completions zsh`.
_omk() {
    local command=\"\" i
    for ((i = 2; i < CURRENT; i++)); do
        case \"$command ${words[i]}\" in
",
    );
    offers.each_step(|step, name| {
        out.push_str(&format!("            \"{step}\") command=\"{name}\" ;;\n"))
    });
    out.push_str("        esac\n    done\n    case \"$command\" in\n");
    for spec in offers.table.commands {
        out.push_str(&format!(
            "        \"{}\")\n            _arguments -s -S \\\n",
            spec.name
        ));
        for flag in spec.flags() {
            out.push_str(&format!("                {} \\\n", zsh_flag(flag, offers)));
        }
        // The words of the command itself are arguments to `_arguments`.
        let own = spec.name.split(' ').count();
        for place in 1..=own {
            out.push_str(&format!("                '{place}: :' \\\n"));
        }
        let action = zsh_action(offers.arguments(spec));
        let place = if spec.at_most > 1 {
            "*".to_string()
        } else {
            (own + 1).to_string()
        };
        match spec.at_most {
            0 => out.push_str("                ;;\n"),
            _ => out.push_str(&format!(
                "                '{place}:{}:{action}' ;;\n",
                argument_name(spec)
            )),
        }
    }
    for group in offers.table.groups {
        out.push_str(&format!(
            "        \"{}\")\n            compadd -- {} ;;\n",
            group.name,
            offers.second_words(group.name)
        ));
    }
    let first: Vec<String> = offers
        .first_commands()
        .map(|(word, summary)| format!("'{word}:{}'", zsh_text(summary)))
        .collect();
    out.push_str(&format!(
        "        *)
            local -a commands=({})
            if [[ ${{words[CURRENT]}} == -* ]]; then
                compadd -- --help --version
            else
                _describe command commands
            fi ;;
    esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _omk \"$@\"
else
    compdef _omk omk
fi
",
        first.join(" ")
    ));
    out
}

fn zsh_flag(flag: &Flag, offers: &Words<'_>) -> String {
    let text = zsh_text(first_sentence(flag.doc));
    let (long_end, short_end, value) = match flag.value_name() {
        // Every value has a name there; ours may hold a colon's worth of punctuation, so only its
        // letters are shown.
        Some(name) => {
            let name: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
            let action = zsh_action(offers.of_flag(flag));
            ("=", "+", format!(":{name}:{action}"))
        }
        None => ("", "", String::new()),
    };
    let long = format!("--{}{long_end}", flag.long);
    match (flag.short, flag.repeats) {
        (Some(short), true) => format!("'*'{{-{short}{short_end},{long}}}'[{text}]{value}'"),
        (Some(short), false) => {
            format!(
                "'(-{short} --{})'{{-{short}{short_end},{long}}}'[{text}]{value}'",
                flag.long
            )
        }
        (None, true) => format!("'*{long}[{text}]{value}'"),
        (None, false) => format!("'{long}[{text}]{value}'"),
    }
}

fn zsh_action(offered: Option<String>) -> String {
    match offered {
        None => "_files".to_string(),
        Some(offered) if offered.is_empty() => " ".to_string(),
        Some(offered) => format!("({offered})"),
    }
}

fn argument_name(spec: &CommandSpec) -> String {
    spec.positionals
        .chars()
        .filter(char::is_ascii_alphabetic)
        .collect()
}

/// Text inside `'...[...]'`.
fn zsh_text(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\'', "'\\''")
        .replace('[', "\\[")
        .replace(']', "\\]")
        .replace(':', "\\:")
}

fn fish(offers: &Words<'_>) -> String {
    let mut out = String::from(
        "# fish completion for omk; put there by `omk completions fish`.
function __omk_command
    set -l command ''
    for word in (commandline -opc)[2..-1]
        switch \"$command $word\"
",
    );
    offers.each_step(|step, name| {
        out.push_str(&format!(
            "            case '{step}'\n                set command '{name}'\n"
        ))
    });
    out.push_str(
        "        end
    end
    echo $command
end
function __omk_in
    test (__omk_command) = \"$argv\"
end
complete -c omk -f
",
    );
    for (word, summary) in offers.first_commands() {
        out.push_str(&format!(
            "complete -c omk -n \"__omk_in ''\" -a {word} -d '{}'\n",
            fish_text(summary)
        ));
    }
    for group in offers.table.groups {
        out.push_str(&format!(
            "complete -c omk -n \"__omk_in {}\" -a '{}'\n",
            group.name,
            offers.second_words(group.name)
        ));
    }
    for spec in offers.table.commands {
        let condition = format!("-n \"__omk_in {}\"", spec.name);
        match offers.arguments(spec) {
            None => out.push_str(&format!("complete -c omk {condition} -F\n")),
            Some(offered) if offered.is_empty() => {}
            Some(offered) => out.push_str(&format!("complete -c omk {condition} -a '{offered}'\n")),
        }
        for flag in spec.flags() {
            let short = flag
                .short
                .map_or_else(String::new, |short| format!(" -s {short}"));
            let value = match (flag.value_name(), offers.of_flag(flag)) {
                (None, _) => String::new(),
                (Some(_), None) => " -r -F".to_string(),
                (Some(_), Some(offered)) if offered.is_empty() => " -x".to_string(),
                (Some(_), Some(offered)) => format!(" -x -a '{offered}'"),
            };
            let text = fish_text(first_sentence(flag.doc));
            out.push_str(&format!(
                "complete -c omk {condition}{short} -l {}{value} -d '{text}'\n",
                flag.long
            ));
        }
    }
    out
}

/// Text inside `'...'`.
fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::cli::commands::TABLE;

    #[test]
    fn every_script_knows_every_command_flag_choice_and_model() {
        for shell in Shell::ALL {
            let name = shell.name();
            let script = script(&TABLE, *shell, &["kimi-k3", "gpt-5.2"]);
            for spec in TABLE.commands {
                assert!(script.contains(spec.name), "{name}: {}", spec.name);
            }
            for flag in TABLE.flags() {
                let written = if *shell == Shell::Fish {
                    format!("-l {} ", flag.long)
                } else {
                    format!("--{}", flag.long)
                };
                assert!(script.contains(&written), "{name}: --{}", flag.long);
                assert!(
                    script.contains(&flag.choices.join(" ")),
                    "{name}: --{}",
                    flag.long
                );
            }
            assert!(script.contains("kimi-k3 gpt-5.2"), "{name}");
        }
    }

    #[test]
    fn offered_words_need_no_quotes() {
        let harmless = |word: &str| {
            word.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        for flag in TABLE.flags() {
            assert!(
                flag.choices.iter().all(|choice| harmless(choice)),
                "--{}",
                flag.long
            );
        }
        for model in Catalog::builtin().models() {
            assert!(harmless(&model.id), "{}", model.id);
        }
    }

    #[test]
    fn quotes_and_brackets_do_not_end_a_description() {
        assert_eq!(zsh_text("it's [a]: b"), "it'\\''s \\[a\\]\\: b");
        assert_eq!(fish_text("it's \\"), "it\\'s \\\\");
    }
}
