//! Completion scripts for bash, zsh and fish.
//!
//! A script is static: names of commands, flags, choices and models are written into it, so
//! pressing tab starts no process and touches no network. It refuses dependencies: bash needs no
//! bash-completion.

use crate::cli::doc::first_sentence;
use crate::cli::flags::table::{COMMANDS, FLAGS, GROUPS, flags_of};
use crate::cli::flags::{CommandSpec, Completes, Flag};

/// A shell that has completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    /// GNU bash 3.2 or later.
    Bash,
    /// zsh with its completion system loaded.
    Zsh,
    /// fish 3 or later.
    Fish,
}

/// The shells by name.
pub(crate) const SHELLS: &[(&str, Shell)] = &[
    ("bash", Shell::Bash),
    ("zsh", Shell::Zsh),
    ("fish", Shell::Fish),
];

/// The script for a shell; `models` are offered where a model is expected.
pub(crate) fn script(shell: Shell, models: &[&str]) -> String {
    match shell {
        Shell::Bash => bash(models),
        Shell::Zsh => zsh(models),
        Shell::Fish => fish(models),
    }
}

/// The words to offer, separated by one space; `None` for names of files. They contain nothing that
/// a shell expands.
fn words(completes: Completes, choices: &[&str], models: &[&str]) -> Option<String> {
    let join = |words: &mut dyn Iterator<Item = &str>| Some(words.collect::<Vec<_>>().join(" "));
    match completes {
        Completes::Files => None,
        Completes::Nothing => join(&mut std::iter::empty()),
        Completes::Choices => join(&mut choices.iter().copied()),
        Completes::Models => join(&mut models.iter().copied()),
        Completes::Shells => join(&mut SHELLS.iter().map(|(name, _)| *name)),
        Completes::Commands => join(&mut first_words()),
    }
}

/// The words that may stand first.
fn first_words() -> impl Iterator<Item = &'static str> {
    first_commands().map(|(word, _)| word)
}

/// The same with what each does.
fn first_commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    let commands = COMMANDS.iter().map(|spec| (spec.name, spec.summary));
    let groups = GROUPS
        .iter()
        .map(|(word, command)| (*word, command.spec().summary));
    commands
        .filter(|(name, _)| !name.contains(' '))
        .chain(groups)
}

/// The second words of the commands that begin with this one, such as `update` after `models`.
fn second_words(first: &str) -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .filter_map(move |other| other.name.strip_prefix(first)?.strip_prefix(' '))
}

/// The second words of a group, separated by one space.
fn of_group(group: &str) -> String {
    second_words(group).collect::<Vec<_>>().join(" ")
}

/// What may follow a command that is no flag; `None` for names of files.
fn arguments(spec: &CommandSpec, models: &[&str]) -> Option<String> {
    let mut offered = words(spec.completes, &[], models)?;
    for word in second_words(spec.name) {
        offered.insert_str(0, &format!("{word} "));
    }
    Some(offered.trim_end().to_string())
}

/// Branches of a shell's `case` that follow the words of a command: state, then word, as one
/// pattern.
fn each_step(mut branch: impl FnMut(&str, &str)) {
    for (group, _) in GROUPS {
        branch(&format!(" {group}"), group);
    }
    for spec in COMMANDS {
        match spec.name.rsplit_once(' ') {
            Some((first, second)) => branch(&format!("{first} {second}"), spec.name),
            None => branch(&format!(" {}", spec.name), spec.name),
        }
    }
}

fn bash(models: &[&str]) -> String {
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
    each_step(|step, name| {
        out.push_str(&format!("            \"{step}\") command=\"{name}\" ;;\n"))
    });
    out.push_str("        esac\n    done\n    COMPREPLY=()\n    case \"$previous\" in\n");
    let reply = |offered: Option<String>| match offered {
        Some(offered) => format!("COMPREPLY=($(compgen -W \"{offered}\" -- \"$current\"))"),
        None => "_omk_files \"$current\"".to_string(),
    };
    for flag in FLAGS.iter().filter(|flag| flag.value_name().is_some()) {
        let short = flag
            .short
            .map_or_else(String::new, |short| format!(" | -{short}"));
        let reply = reply(words(flag.completes, flag.choices, models));
        out.push_str(&format!(
            "        --{}{short})\n            {reply}\n            return ;;\n",
            flag.long
        ));
    }
    out.push_str("    esac\n    case \"$command\" in\n");
    for spec in COMMANDS {
        let flags: Vec<String> = flags_of(spec.command)
            .map(|flag| format!("--{}", flag.long))
            .collect();
        out.push_str(&format!(
            "        \"{}\")\n            if [[ $current == -* ]]; then\n                {}\n            else\n                {}\n            fi ;;\n",
            spec.name,
            reply(Some(flags.join(" "))),
            reply(arguments(spec, models)),
        ));
    }
    for (group, command) in GROUPS {
        let flags: Vec<String> = flags_of(*command)
            .map(|flag| format!("--{}", flag.long))
            .collect();
        out.push_str(&format!(
            "        \"{group}\")\n            {} ;;\n",
            reply(Some(format!("{} {}", of_group(group), flags.join(" ")))),
        ));
    }
    let first = first_words()
        .chain(["--help", "--version"])
        .collect::<Vec<_>>()
        .join(" ");
    out.push_str(&format!(
        "        *)\n            {} ;;\n",
        reply(Some(first))
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

fn zsh(models: &[&str]) -> String {
    let mut out = String::from(
        "#compdef omk
# zsh completion for omk; put there by `omk completions zsh`.
_omk() {
    local command=\"\" i
    for ((i = 2; i < CURRENT; i++)); do
        case \"$command ${words[i]}\" in
",
    );
    each_step(|step, name| {
        out.push_str(&format!("            \"{step}\") command=\"{name}\" ;;\n"))
    });
    out.push_str("        esac\n    done\n    case \"$command\" in\n");
    for spec in COMMANDS {
        out.push_str(&format!(
            "        \"{}\")\n            _arguments -s -S \\\n",
            spec.name
        ));
        for flag in flags_of(spec.command) {
            out.push_str(&format!("                {} \\\n", zsh_flag(flag, models)));
        }
        // The words of the command itself are arguments to `_arguments`.
        let own = spec.name.split(' ').count();
        for place in 1..=own {
            out.push_str(&format!("                '{place}: :' \\\n"));
        }
        let action = zsh_action(arguments(spec, models));
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
    for (group, _) in GROUPS {
        out.push_str(&format!(
            "        \"{group}\")\n            compadd -- {} ;;\n",
            of_group(group)
        ));
    }
    let first: Vec<String> = first_commands()
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

fn zsh_flag(flag: &Flag, models: &[&str]) -> String {
    let text = zsh_text(first_sentence(flag.doc));
    let (long_end, short_end, value) = match flag.value_name() {
        // Every value has a name there; ours may hold a colon's worth of punctuation, so only its
        // letters are shown.
        Some(name) => {
            let name: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
            let action = zsh_action(words(flag.completes, flag.choices, models));
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

fn fish(models: &[&str]) -> String {
    let mut out = String::from(
        "# fish completion for omk; put there by `omk completions fish`.
function __omk_command
    set -l command ''
    for word in (commandline -opc)[2..-1]
        switch \"$command $word\"
",
    );
    each_step(|step, name| {
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
    for (word, summary) in first_commands() {
        out.push_str(&format!(
            "complete -c omk -n \"__omk_in ''\" -a {word} -d '{}'\n",
            fish_text(summary)
        ));
    }
    for (group, _) in GROUPS {
        out.push_str(&format!(
            "complete -c omk -n \"__omk_in {group}\" -a '{}'\n",
            of_group(group)
        ));
    }
    for spec in COMMANDS {
        let condition = format!("-n \"__omk_in {}\"", spec.name);
        match arguments(spec, models) {
            None => out.push_str(&format!("complete -c omk {condition} -F\n")),
            Some(offered) if offered.is_empty() => {}
            Some(offered) => out.push_str(&format!("complete -c omk {condition} -a '{offered}'\n")),
        }
        for flag in flags_of(spec.command) {
            let short = flag
                .short
                .map_or_else(String::new, |short| format!(" -s {short}"));
            let value = match (
                flag.value_name(),
                words(flag.completes, flag.choices, models),
            ) {
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

    #[test]
    fn every_script_knows_every_command_flag_choice_and_model() {
        for (name, shell) in SHELLS {
            let script = script(*shell, &["kimi-k3", "gpt-5.2"]);
            for spec in COMMANDS {
                assert!(script.contains(spec.name), "{name}: {}", spec.name);
            }
            for flag in FLAGS {
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
        for flag in FLAGS {
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
