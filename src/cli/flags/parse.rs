//! Arguments to [`LowArgs`], read against the table.
//!
//! Parsing is pure: no variable, file or terminal is looked at, so help and version can never fail
//! for what they find. It refuses to guess: an unknown name is an error that suggests, a missing
//! value never swallows the next flag.

use std::ffi::{OsStr, OsString};

use crate::cli::flags::familiar::{self, Alias, Means};
use crate::cli::flags::table::{CommandGroup, Table};
use crate::cli::flags::{CommandSpec, Flag, Invocation, LowArgs, Takes, UsageError, value};
use crate::runtime::text::{escape_os, nearest, truncate};

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    /// Nothing at all was given.
    Nothing,
    /// Help, in full or in short.
    Help { topic: Topic, full: bool },
    /// Prints a JSON Schema instead of running.
    Schema(&'static str),
    /// The version.
    Version,
    /// A command to run.
    Run(Box<Invocation>),
}

/// What help is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Topic {
    /// The program.
    Whole,
    /// One command.
    Command(&'static CommandSpec),
    /// The commands that begin with one word.
    Group(&'static CommandGroup),
    /// A page of the manual that is about no command.
    Page(&'static str),
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// The first argument that is wrong, unless help or version was asked for before it.
pub(crate) fn parse(
    table: &Table,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.is_empty() {
        return Ok(Parsed::Nothing);
    }
    // Two commands may have different flags of one name, and a flag may stand before its command.
    let ahead = look_ahead(table, &args);
    let mut parser = lexopt::Parser::from_args(args);
    let mut command: Option<&'static CommandSpec> = None;
    // The word that begins several commands, while the second one is still to come.
    let mut group: Option<&'static CommandGroup> = None;
    let mut low = LowArgs::default();
    let mut given: Vec<&'static Flag> = Vec::new();

    loop {
        let next = parser.try_raw_args();
        low.is_literal |= next.is_some_and(|rest| rest.peek().is_some_and(|next| next == "--"));
        let Some(arg) = parser.next().map_err(|error| unexpected(&error))? else {
            break;
        };
        let (known, typed) = match arg {
            lexopt::Arg::Value(word) => {
                command = Some(positional(table, command, &mut group, word, &mut low)?);
                continue;
            }
            lexopt::Arg::Long(name) => {
                let of = command.filter(|_| group.is_none()).or(ahead);
                let typed = format!("--{name}");
                let known = known(table.flag(name, of), &typed, of)
                    .ok_or_else(|| unknown_flag(table, &typed, of))?;
                (known, typed)
            }
            lexopt::Arg::Short(letter) => {
                let of = command.filter(|_| group.is_none()).or(ahead);
                let typed = format!("-{letter}");
                let found = known(table.short(letter, of), &typed, of);
                let known = found.ok_or_else(|| {
                    let more = parser.optional_value().is_some();
                    unknown_letter(&typed, more, of)
                })?;
                (known, typed)
            }
        };
        let (flag, alias) = match known {
            Known::Flag(flag) => (flag, None),
            Known::Alias(alias) => match alias_of(table, &mut parser, &typed, alias, ahead)? {
                Some(flag) => (flag, Some(alias)),
                None => continue,
            },
        };
        match flag.takes {
            Takes::Help => {
                let topic = match (group, command) {
                    (Some(group), _) => second_command(table, group, &mut parser)
                        .map_or(Topic::Group(group), Topic::Command),
                    (None, Some(command)) => Topic::Command(command),
                    (None, None) => first_topic(table, &mut parser),
                };
                return Ok(Parsed::Help {
                    topic,
                    full: typed.starts_with("--"),
                });
            }
            Takes::Version => return Ok(Parsed::Version),
            Takes::Nothing(set) => set(&mut low),
            Takes::Value(value_name, set) => {
                let value = value_of(table, &mut parser, &typed, value_name)?;
                let value = match alias {
                    Some(alias) => alias.value(value),
                    None => value,
                };
                set(&mut low, &value)
                    .map_err(|error| UsageError::new(format!("{typed}: {error}")))?;
            }
        }
        if given.iter().all(|known| known.long != flag.long) {
            given.push(flag);
        }
    }

    let Some(command) = command else {
        return Err(UsageError::new("no command").hint("`omk help` lists them"));
    };
    if let Some(flag) = given.iter().find(|flag| !command.has(flag)) {
        return Err(misplaced(table, flag, command));
    }
    if let Some(extra) = low.positionals.get(command.at_most) {
        return Err(UsageError::new(format!(
            "`omk {}` takes no argument `{}`",
            command.name,
            escape_os(extra)
        ))
        .hint(format!("usage: {}", command.usage())));
    }
    if let Some(name) = low.schema_of {
        return match low.positionals.is_empty() {
            true => Ok(Parsed::Schema(name)),
            false => Err(UsageError::conflict("--schema", "a COMMAND")),
        };
    }
    if command.name == "help" {
        return Ok(Parsed::Help {
            topic: named(table, &low.positionals)?,
            full: true,
        });
    }
    Ok(Parsed::Run(Box::new(Invocation {
        command,
        low,
        given: given.iter().map(|flag| flag.long).collect(),
    })))
}

/// Was JSON asked for? Looked at when the arguments could not be parsed, to fail in the form that was wanted.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    let mut flags = args.iter().take_while(|arg| *arg != "--").peekable();
    while let Some(arg) = flags.next() {
        let spelt_out =
            arg == "--output-format" && flags.peek().is_some_and(|next| *next == "json");
        if spelt_out || arg == "--json" || arg == "--output-format=json" {
            return true;
        }
    }
    false
}

/// The command that the words among the arguments will turn out to be, as far as that can be told before flags are read.
fn look_ahead(table: &Table, args: &[OsString]) -> Option<&'static CommandSpec> {
    let (place, first) = args.iter().enumerate().find_map(|(place, arg)| {
        let known = table.command(arg).is_some() || table.group(arg).is_some();
        known.then_some((place, arg))
    })?;
    let mut later = args.get(place + 1..).unwrap_or_default().iter();
    let two = later.find_map(|second| table.command(&joined(first, second)));
    two.or_else(|| table.command(first))
        .or_else(|| table.group(first).map(|group| group.default))
}

/// Two words as the name of a command.
fn joined(first: &OsStr, second: &OsStr) -> OsString {
    let mut name = first.to_os_string();
    name.push(" ");
    name.push(second);
    name
}

/// Takes one word: the command, its second word, or an argument of it.
fn positional(
    table: &Table,
    command: Option<&'static CommandSpec>,
    group: &mut Option<&'static CommandGroup>,
    word: OsString,
    low: &mut LowArgs,
) -> Result<&'static CommandSpec, UsageError> {
    if let Some(first) = group.take() {
        let name = joined(OsStr::new(first.name), &word);
        return table
            .command(&name)
            .ok_or_else(|| unknown_command(table, &name));
    }
    let Some(command) = command else {
        *group = table.group(&word);
        let known = table
            .command(&word)
            .or_else(|| group.map(|group| group.default));
        return known.ok_or_else(|| unknown_command(table, &word));
    };
    let longer = table.command(&joined(OsStr::new(command.name), &word));
    match longer {
        Some(longer) if low.positionals.is_empty() => Ok(longer),
        _ => {
            low.positionals.push(word);
            Ok(command)
        }
    }
}

/// What a flag was found to be.
enum Known {
    Flag(&'static Flag),
    Alias(&'static Alias),
}

/// The command's own flag, else an alias, else the flag of another command, which is reported when the command is known.
fn known(found: Option<&'static Flag>, typed: &str, of: Option<&CommandSpec>) -> Option<Known> {
    let is_own = |flag: &Flag| of.is_none_or(|command| command.has(flag));
    let alias = of.and_then(|command| familiar::alias(typed, command.name));
    let hinted = familiar::flag_hint(typed, of.map(|command| command.name)).is_some();
    match (found, alias) {
        (Some(flag), _) if is_own(flag) => Some(Known::Flag(flag)),
        (_, Some(alias)) => Some(Known::Alias(alias)),
        (Some(_), None) if hinted => None,
        (found, None) => found.map(Known::Flag),
    }
}

/// The flag that an alias stands for; `None` where its value is the default.
fn alias_of(
    table: &Table,
    parser: &mut lexopt::Parser,
    typed: &str,
    alias: &Alias,
    of: Option<&CommandSpec>,
) -> Result<Option<&'static Flag>, UsageError> {
    let Means::Choice(choices) = alias.means else {
        return Ok(alias.flag().and_then(|long| table.flag(long, of)));
    };
    let value = value_of(table, parser, typed, "FORMAT")?;
    let long = value::choice(&value, choices)
        .map_err(|error| UsageError::new(format!("{typed}: {error}")))?;
    Ok(table.flag(long, of))
}

/// The value of the flag that was just read. One that is itself a known flag is taken for a
/// forgotten value: `--model=--json` says so when it is meant.
fn value_of(
    table: &Table,
    parser: &mut lexopt::Parser,
    typed: &str,
    value_name: &str,
) -> Result<OsString, UsageError> {
    if let Some(value) = parser.optional_value() {
        return Ok(value);
    }
    let missing = || UsageError::new(format!("{typed} needs a value: {typed} {value_name}"));
    let mut rest = parser.raw_args().map_err(|_| missing())?;
    let next = rest.next().ok_or_else(missing)?;
    if is_known_flag(table, &next) {
        let next = escape_os(&next);
        let joined = if typed.starts_with("--") { "=" } else { "" };
        return Err(missing().hint(format!("`{typed}{joined}{next}` if `{next}` is the value")));
    }
    Ok(next)
}

fn is_known_flag(table: &Table, arg: &OsStr) -> bool {
    let Some(arg) = arg.to_str() else {
        return false;
    };
    match arg.strip_prefix("--") {
        Some(long) => {
            let name = long.split_once('=').map_or(long, |(name, _)| name);
            long.is_empty() || table.flag(name, None).is_some()
        }
        None => {
            let letter = arg
                .strip_prefix('-')
                .and_then(|letters| letters.chars().next());
            letter.is_some_and(|letter| table.short(letter, None).is_some())
        }
    }
}

/// The command among the arguments that are left, for `omk --help estimate`.
fn first_topic(table: &Table, parser: &mut lexopt::Parser) -> Topic {
    let words: Vec<OsString> = match parser.try_raw_args() {
        Some(rest) => rest
            .filter(|arg| !arg.as_encoded_bytes().starts_with(b"-"))
            .collect(),
        None => Vec::new(),
    };
    named(table, words.get(..2).unwrap_or(&words))
        .or_else(|_| named(table, words.get(..1).unwrap_or(&words)))
        .unwrap_or(Topic::Whole)
}

/// The command whose second word is among the arguments that are left, for `omk cost --help list`.
fn second_command(
    table: &Table,
    group: &CommandGroup,
    parser: &mut lexopt::Parser,
) -> Option<&'static CommandSpec> {
    let mut rest = parser.try_raw_args()?;
    let second = rest.find(|arg| !arg.as_encoded_bytes().starts_with(b"-"))?;
    table.command(&joined(OsStr::new(group.name), &second))
}

/// What these words name.
fn named(table: &Table, words: &[OsString]) -> Result<Topic, UsageError> {
    if words.is_empty() {
        return Ok(Topic::Whole);
    }
    let name = words.join(OsStr::new(" "));
    let command = table.command(&name).map(Topic::Command);
    command
        .or_else(|| table.group(&name).map(Topic::Group))
        .or_else(|| table.page(&name).map(Topic::Page))
        .ok_or_else(|| unknown_command(table, &name))
}

fn unknown_command(table: &Table, word: &OsStr) -> UsageError {
    let shown = escape_os(word);
    let error = UsageError::new(format!("there is no command `{}`", truncate(&shown, 60)));
    if let Some(hint) = familiar::command_hint(word) {
        return error.hint(hint);
    }
    match nearest(&shown, table.commands.iter().map(|spec| spec.name)) {
        Some(name) => error.hint(format!("did you mean `omk {name}`?")),
        None if shown.split_whitespace().nth(2).is_some() => {
            error.hint("`omk prompt \"...\"` asks a question")
        }
        None => error.hint("`omk help` lists the commands"),
    }
}

fn unknown_flag(table: &Table, typed: &str, command: Option<&CommandSpec>) -> UsageError {
    let error = UsageError::new(format!("there is no flag `{typed}`"));
    if let Some(hint) = familiar::flag_hint(typed, command.map(|command| command.name)) {
        return error.hint(hint);
    }
    let name = typed.trim_start_matches('-');
    let near = command.and_then(|command| nearest(name, command.flags().map(|flag| flag.long)));
    match (
        near.or_else(|| nearest(name, table.flags().into_iter().map(|flag| flag.long))),
        command,
    ) {
        (Some(near), _) => error.hint(format!("did you mean `--{near}`?")),
        (None, Some(command)) => error.hint(format!("`omk {} -h` lists its flags", command.name)),
        (None, None) => error.hint("`omk -h` lists the commands"),
    }
}

/// A letter that is no flag; `more` follow it.
fn unknown_letter(typed: &str, more: bool, command: Option<&CommandSpec>) -> UsageError {
    let error = UsageError::new(format!("there is no flag `{typed}`"));
    if let Some(hint) = familiar::flag_hint(typed, command.map(|command| command.name)) {
        return error.hint(hint);
    }
    if more {
        return error.hint("a long flag has two dashes; for a file of such a name write `./-...`");
    }
    match command {
        Some(command) => error.hint(format!(
            "`omk {} -h` lists its flags; `-- -...` is text that begins with a dash",
            command.name
        )),
        None => error.hint("`omk -h` lists the commands"),
    }
}

fn misplaced(table: &Table, flag: &Flag, command: &CommandSpec) -> UsageError {
    let owners: Vec<String> = table
        .with_flag(flag.long)
        .map(|owner| format!("`omk {}`", owner.name))
        .collect();
    let error = UsageError::new(format!(
        "`omk {}` has no flag `--{}`",
        command.name, flag.long
    ));
    // The beginning of a flag of its own is more likely meant than a flag of another.
    let start = format!("{}-", flag.long);
    let own = command.flags().find(|own| own.long.starts_with(&start));
    let error = match own {
        Some(own) => error.hint(format!("did you mean `--{}`?", own.long)),
        None => error,
    };
    error.hint(format!("--{} belongs to {}", flag.long, owners.join(", ")))
}

/// The one error of the parser underneath that can occur here: a value where none belongs.
fn unexpected(error: &lexopt::Error) -> UsageError {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => UsageError::new(format!(
            "{option} takes no value, and `{}` was given",
            escape_os(value)
        )),
        other => UsageError::new(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::money::Usd;
    use crate::cli::commands::{TABLE, parse};
    use crate::cli::flags::value::{Cached, Session};

    fn parsed(line: &str) -> Result<Parsed, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn named_topic(name: &str) -> Topic {
        Topic::Command(TABLE.command(OsStr::new(name)).unwrap())
    }

    #[track_caller]
    fn run(line: &str) -> LowArgs {
        match parsed(line) {
            Ok(Parsed::Run(invocation)) => invocation.low,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn fails(line: &str, message: &str, hint: &str) {
        let error = parsed(line).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hints.join("; ").as_str()),
            (message, hint),
            "{line}"
        );
    }

    #[test]
    fn every_way_to_write_a_value() {
        for line in [
            "estimate --model=k3",
            "estimate --model k3",
            "estimate -mk3",
            "estimate -m k3",
            "estimate -m=k3",
            "--model k3 estimate",
        ] {
            assert_eq!(run(line).model, ["k3"], "{line}");
        }
        assert_eq!(run("estimate -qmk3").model, ["k3"]);
        assert_eq!(run("estimate --model=--json").model, ["--json"]);
        assert_eq!(
            run("estimate --price-file=").price_file,
            [std::path::PathBuf::new()]
        );
    }

    #[test]
    fn lists_grow_and_scalars_are_replaced() {
        assert_eq!(run("estimate -m a,b --model c").model, ["a", "b", "c"]);
        assert_eq!(run("estimate -o 1 -o 4k").output_tokens, Some(4000));
        assert_eq!(
            run("estimate --cached 1 --cached 80%").cached,
            Some(Cached::Millionths(800_000))
        );
        let invocation = parsed("estimate -o 1 -o 2 --quiet");
        assert!(matches!(invocation, Ok(Parsed::Run(i)) if i.given == ["output-tokens", "quiet"]));
    }

    #[test]
    fn values_become_what_they_mean() {
        let low =
            run("estimate --max-usd 0.05 --deadline 1m --session ralph --vocabulary o200k_base");
        assert_eq!(low.max_usd, Usd::parse("0.05").ok());
        assert_eq!(low.deadline, Some(Duration::from_secs(60)));
        assert_eq!(low.session, Some(Session::Ralph));
        assert_eq!(low.vocabulary, Some(crate::tokens::Vocabulary::O200k));
    }

    #[test]
    fn positionals_may_stand_anywhere() {
        assert_eq!(run("estimate a --lossy - b").positionals, ["a", "-", "b"]);
        assert_eq!(run("estimate -- --lossy -x").positionals, ["--lossy", "-x"]);
        assert!(!run("estimate -- --lossy").lossy);
        assert!(run("estimate -- a").is_literal && !run("estimate a").is_literal);
        assert!(!run("estimate --model=-- a").is_literal);
        assert_eq!(run("models kimi").positionals, ["kimi"]);
        assert_eq!(run("estimate update help").positionals, ["update", "help"]);
    }

    #[test]
    fn two_words_make_a_command() {
        for line in [
            "models update --json",
            "models --json update",
            "--json models update",
        ] {
            assert!(
                matches!(parsed(line), Ok(Parsed::Run(i)) if i.command.name == "models update"),
                "{line}"
            );
        }
        for (line, command) in [
            ("plan check a", "plan check"),
            ("plan --quiet show a", "plan show"),
            ("plan diff a b", "plan diff"),
            ("plan add check", "plan"),
            ("plan checks", "plan"),
        ] {
            assert!(
                matches!(parsed(line), Ok(Parsed::Run(i)) if i.command.name == command),
                "{line}"
            );
        }
        fails(
            "models update now",
            "`omk models update` takes no argument `now`",
            "usage: omk models update [OPTIONS]",
        );
        fails(
            "models a b",
            "`omk models` takes no argument `b`",
            "usage: omk models [OPTIONS] [NAME]",
        );
    }

    #[test]
    fn a_word_that_begins_several_commands() {
        for (line, command) in [
            ("cost", "cost report"),
            ("cost --json", "cost report"),
            ("cost report", "cost report"),
            ("cost list", "cost list"),
            ("--json cost list", "cost list"),
            ("cost --max-usd 5/day check", "cost check"),
            ("--max-usd 5/day cost check", "cost check"),
            ("cost export -o file", "cost export"),
            ("cost import kimi", "cost import"),
        ] {
            let parsed = parsed(line);
            assert!(
                matches!(&parsed, Ok(Parsed::Run(i)) if i.command.name == command),
                "{line}: {parsed:?}"
            );
        }
        assert_eq!(run("cost check --max-usd 5/day").cost.budgets.len(), 1);
        fails(
            "cost lst",
            "there is no command `cost lst`",
            "did you mean `omk cost list`?",
        );
        fails(
            "cost report list",
            "`omk cost report` takes no argument `list`",
            "usage: omk cost report [OPTIONS]",
        );
        for line in [
            "cost --help list",
            "help cost list",
            "--help cost list",
            "cost list --help",
        ] {
            let expected = Ok(Parsed::Help {
                topic: named_topic("cost list"),
                full: true,
            });
            assert_eq!(parsed(line), expected, "{line}");
        }
        let group = Ok(Parsed::Help {
            topic: Topic::Group(&TABLE.groups[0]),
            full: true,
        });
        assert_eq!(parsed("help cost"), group);
    }

    #[test]
    fn every_example_of_the_documentation_parses() {
        for spec in TABLE.commands {
            for (line, _) in spec.examples {
                let (_, own) = line.split_once("omk ").unwrap();
                let own = own.split(['|', '<', '>']).next().unwrap();
                match parsed(own) {
                    Ok(Parsed::Run(invocation)) => {
                        assert_eq!(invocation.command, *spec, "{line}")
                    }
                    Ok(Parsed::Help { .. } | Parsed::Schema(_)) => {
                        assert_eq!(spec.name, "help", "{line}");
                    }
                    other => panic!("{line}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn help_and_version_win_over_what_follows() {
        let help = |topic, full| Ok(Parsed::Help { topic, full });
        assert_eq!(parsed("-h"), help(Topic::Whole, false));
        assert_eq!(parsed("--help"), help(Topic::Whole, true));
        assert_eq!(parsed("help"), help(Topic::Whole, true));
        assert_eq!(
            parsed("estimate -qh --bogus"),
            help(named_topic("estimate"), false)
        );
        assert_eq!(
            parsed("--help estimate x"),
            help(named_topic("estimate"), true)
        );
        assert_eq!(
            parsed("--help models update"),
            help(named_topic("models update"), true)
        );
        assert_eq!(parsed("--help nonsense"), help(Topic::Whole, true));
        assert_eq!(
            parsed("help models update"),
            help(named_topic("models update"), true)
        );
        assert_eq!(parsed("help -h"), help(named_topic("help"), false));
        assert_eq!(parsed("-V estimate --bogus"), Ok(Parsed::Version));
        assert_eq!(parsed("models --version"), Ok(Parsed::Version));
        assert_eq!(parsed(""), Ok(Parsed::Nothing));
    }

    #[test]
    fn what_is_unknown_is_named_and_the_nearest_suggested() {
        fails(
            "estimate --modle k3",
            "there is no flag `--modle`",
            "did you mean `--model`?",
        );
        fails(
            "estimate --output 3",
            "`omk estimate` has no flag `--output`",
            "did you mean `--output-tokens`?; --output belongs to `omk batch`, `omk cost export`",
        );
        fails(
            "estimate --frobnicate",
            "there is no flag `--frobnicate`",
            "`omk estimate -h` lists its flags",
        );
        fails(
            "--frobnicate",
            "there is no flag `--frobnicate`",
            "`omk -h` lists the commands",
        );
        fails(
            "estimat",
            "there is no command `estimat`",
            "did you mean `omk estimate`?",
        );
        fails(
            "frobnicate",
            "there is no command `frobnicate`",
            "`omk help` lists the commands",
        );
        fails(
            "help estmate",
            "there is no command `estmate`",
            "did you mean `omk estimate`?",
        );
        fails(
            "estimate -z",
            "there is no flag `-z`",
            "`omk estimate -h` lists its flags; `-- -...` is text that begins with a dash",
        );
        fails("--json", "no command", "`omk help` lists them");
    }

    #[test]
    fn a_flag_of_another_command_says_whose() {
        fails(
            "estimate --all",
            "`omk estimate` has no flag `--all`",
            "--all belongs to `omk models`",
        );
        fails(
            "--url https://x models",
            "`omk models` has no flag `--url`",
            "--url belongs to `omk models update`",
        );
        fails(
            "completions --price-file x bash",
            "`omk completions` has no flag `--price-file`",
            "--price-file belongs to `omk prompt`, `omk batch`, `omk plan`, `omk plan show`, `omk plan diff`, `omk estimate`, `omk cost recover`, `omk cost import`, `omk models`",
        );
    }

    #[test]
    fn values_that_are_missing_or_too_many() {
        fails(
            "estimate --model",
            "--model needs a value: --model NAME[,NAME...]",
            "",
        );
        fails("estimate -m", "-m needs a value: -m NAME[,NAME...]", "");
        fails(
            "estimate --model --json",
            "--model needs a value: --model NAME[,NAME...]",
            "`--model=--json` if `--json` is the value",
        );
        fails(
            "estimate -m -q",
            "-m needs a value: -m NAME[,NAME...]",
            "`-m-q` if `-q` is the value",
        );
        fails(
            "estimate --lossy=yes",
            "--lossy takes no value, and `yes` was given",
            "",
        );
        fails(
            "estimate -q=yes",
            "-q takes no value, and `yes` was given",
            "",
        );
        fails(
            "estimate --max-usd -1",
            "--max-usd: `-1` is negative; write US dollars as a decimal, such as 0.05",
            "",
        );
        fails(
            "estimate -o many",
            "-o: `many` is not a count; write a whole number, such as 4000 or 4k, or 2M for two million",
            "",
        );
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let Ok(Parsed::Run(invocation)) = parse([
            bytes(b"estimate"),
            bytes(b"a\xff"),
            bytes(b"--price-file=\xfe"),
        ]) else {
            panic!("file names may be any bytes");
        };
        assert_eq!(invocation.low.positionals, [bytes(b"a\xff")]);
        assert_eq!(
            invocation.low.price_file,
            [std::path::PathBuf::from(bytes(b"\xfe"))]
        );
        let error = parse([bytes(b"estimate"), bytes(b"-m"), bytes(b"k\xff")]).unwrap_err();
        assert_eq!(error.message, "-m: `k\\xff` is not UTF-8");
        for word in [b"\xff".as_slice(), b"--\xff", b"-\xff"] {
            assert!(parse([bytes(word)]).is_err());
        }
    }

    #[test]
    fn json_is_recognised_in_what_cannot_be_parsed() {
        let wants = |line: &str| {
            wants_json(
                &line
                    .split_whitespace()
                    .map(OsString::from)
                    .collect::<Vec<_>>(),
            )
        };
        assert!(wants("estimate --bogus --json"));
        assert!(wants("prompt --bogus --output-format json"));
        assert!(wants("prompt --bogus --output-format=json"));
        assert!(!wants("prompt --bogus --output-format text"));
        assert!(!wants("estimate --bogus -- --json"));
        assert!(!wants("estimate"));
    }

    #[cfg(unix)]
    proptest! {
        #[test]
        fn no_bytes_panic(args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6)) {
            use std::os::unix::ffi::OsStringExt;
            let _ = parse(args.into_iter().map(OsString::from_vec));
        }
    }

    proptest! {
        #[test]
        fn no_arrangement_of_known_words_panics(picks in proptest::collection::vec(0usize..200, 0..8), glue in any::<u8>()) {
            let mut words: Vec<String> = TABLE.commands.iter().map(|spec| spec.name.to_string()).collect();
            words.extend(["update", "-", "--", "-=", "--=", "---", "1", "", "=x"].map(String::from));
            for flag in TABLE.flags() {
                words.push(format!("--{}", flag.long));
                words.push(format!("--{}=1", flag.long));
                words.extend(flag.short.map(|short| format!("-{short}{}", char::from(glue))));
            }
            let args = picks.iter().map(|pick| OsString::from(&words[pick % words.len()]));
            let _ = parse(args);
        }
    }
}
