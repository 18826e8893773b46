//! Arguments to [`LowArgs`], read against the table.
//!
//! Parsing is pure: no variable, file or terminal is looked at, so help and version can never fail
//! for what they find. It refuses to guess: an unknown name is an error that suggests, a missing
//! value never swallows the next flag.

use std::ffi::{OsStr, OsString};

use crate::cli::flags::table::{COMMANDS, FLAGS, GROUPS, flag, flags_of, short};
use crate::cli::flags::{Command, Flag, LowArgs, Takes, UsageError};
use crate::runtime::text::{escape_os, nearest};

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    /// Nothing at all was given.
    Nothing,
    /// Help: of one command or of the whole, in full or in short.
    Help {
        command: Option<Command>,
        full: bool,
    },
    /// The version.
    Version,
    /// A command to run.
    Run(Box<Invocation>),
}

/// A command to run, with its arguments as typed.
#[derive(Debug, PartialEq)]
pub(crate) struct Invocation {
    /// Which command.
    pub(crate) command: Command,
    /// Its arguments.
    pub(crate) low: LowArgs,
    /// The long names of the flags that were typed: no variable or config key replaces them, and
    /// only they can be in conflict.
    pub(crate) given: Vec<&'static str>,
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// The first argument that is wrong, unless help or version was asked for before it.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.is_empty() {
        return Ok(Parsed::Nothing);
    }
    // Two commands may have different flags of one name, and a flag may stand before its command.
    let ahead = look_ahead(&args);
    let mut parser = lexopt::Parser::from_args(args);
    let mut command: Option<Command> = None;
    // The word that begins several commands, while the second one is still to come.
    let mut group: Option<&'static str> = None;
    let mut low = LowArgs::default();
    let mut given: Vec<&'static Flag> = Vec::new();

    while let Some(arg) = parser.next().map_err(|error| unexpected(&error))? {
        let (flag, typed) = match arg {
            lexopt::Arg::Value(word) => {
                command = Some(positional(command, &mut group, word, &mut low)?);
                continue;
            }
            lexopt::Arg::Long(name) => {
                let of = command.filter(|_| group.is_none()).or(ahead);
                let known = flag(name, of).ok_or_else(|| unknown_flag(name, command))?;
                (known, format!("--{name}"))
            }
            lexopt::Arg::Short(letter) => {
                let of = command.filter(|_| group.is_none()).or(ahead);
                let known = short(letter, of).ok_or_else(|| unknown_letter(letter))?;
                (known, format!("-{letter}"))
            }
        };
        match flag.takes {
            Takes::Help => {
                let second = match group {
                    Some(group) => second_command(group, &mut parser),
                    None => None,
                };
                let command = second.or(command).or_else(|| first_command(&mut parser));
                return Ok(Parsed::Help {
                    command,
                    full: typed.starts_with("--"),
                });
            }
            Takes::Version => return Ok(Parsed::Version),
            Takes::Nothing(set) => set(&mut low),
            Takes::Value(value_name, set) => {
                let value = value_of(&mut parser, &typed, value_name)?;
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
    if let Some(flag) = given.iter().find(|flag| !flag.is_on(command)) {
        return Err(misplaced(flag, command));
    }
    let spec = command.spec();
    if let Some(extra) = low.positionals.get(spec.at_most) {
        return Err(UsageError::new(format!(
            "`omk {}` takes no argument `{}`",
            spec.name,
            escape_os(extra)
        ))
        .hint(format!("usage: {}", usage(command))));
    }
    if command == Command::Help {
        return Ok(Parsed::Help {
            command: named(&low.positionals)?,
            full: true,
        });
    }
    Ok(Parsed::Run(Box::new(Invocation {
        command,
        low,
        given: given.iter().map(|flag| flag.long).collect(),
    })))
}

/// How a command is written: `omk estimate [OPTIONS] [FILE]...`.
pub(crate) fn usage(command: Command) -> String {
    let spec = command.spec();
    let space = if spec.positionals.is_empty() { "" } else { " " };
    format!("omk {} [OPTIONS]{space}{}", spec.name, spec.positionals)
}

/// Was `--json` among the arguments? Asked when they could not be parsed, to fail in the form that
/// was wanted.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
}

/// The command that the words among the arguments will turn out to be, as far as that can be told before flags are read.
fn look_ahead(args: &[OsString]) -> Option<Command> {
    let groups = || GROUPS.iter().map(|(group, _)| *group);
    let (place, first) = args.iter().enumerate().find_map(|(place, arg)| {
        let names = COMMANDS.iter().map(|spec| spec.name).chain(groups());
        names
            .into_iter()
            .find(|name| arg == name)
            .map(|name| (place, name))
    })?;
    let later = args.get(place + 1..).unwrap_or_default();
    let two = later
        .iter()
        .filter_map(|arg| arg.to_str())
        .find_map(|second| {
            let name = format!("{first} {second}");
            COMMANDS.iter().find(|spec| spec.name == name)
        });
    match two.or_else(|| COMMANDS.iter().find(|spec| spec.name == first)) {
        Some(spec) => Some(spec.command),
        None => group_command(first),
    }
}

/// What a word that begins several commands means by itself.
fn group_command(word: &str) -> Option<Command> {
    let group = GROUPS.iter().find(|(group, _)| *group == word);
    group.map(|(_, command)| *command)
}

/// Takes one word: the command, its second word, or an argument of it.
fn positional(
    command: Option<Command>,
    group: &mut Option<&'static str>,
    word: OsString,
    low: &mut LowArgs,
) -> Result<Command, UsageError> {
    if let Some(first) = group.take() {
        let mut name = OsString::from(format!("{first} "));
        name.push(&word);
        let spec = COMMANDS.iter().find(|spec| name == spec.name);
        return spec
            .map(|spec| spec.command)
            .ok_or_else(|| unknown_command(&name));
    }
    match command {
        None => match COMMANDS.iter().find(|spec| word == spec.name) {
            Some(spec) => Ok(spec.command),
            None => match GROUPS.iter().find(|(group, _)| word == *group) {
                Some((first, command)) => {
                    *group = Some(first);
                    Ok(*command)
                }
                None => Err(unknown_command(&word)),
            },
        },
        Some(command) => match second_word(command, &word) {
            Some(longer) if low.positionals.is_empty() => Ok(longer),
            _ => {
                low.positionals.push(word);
                Ok(command)
            }
        },
    }
}

/// The command that this word makes of the one before it, such as `update` of `models`.
fn second_word(command: Command, word: &OsStr) -> Option<Command> {
    let own = command.spec().name;
    let longer = COMMANDS.iter().find(|spec| {
        let rest = spec
            .name
            .strip_prefix(own)
            .and_then(|rest| rest.strip_prefix(' '));
        rest.is_some_and(|rest| word == rest)
    });
    longer.map(|spec| spec.command)
}

/// The value of the flag that was just read. One that is itself a known flag is taken for a
/// forgotten value: `--model=--json` says so when it is meant.
fn value_of(
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
    if is_known_flag(&next) {
        let next = escape_os(&next);
        let joined = if typed.starts_with("--") { "=" } else { "" };
        return Err(missing().hint(format!("`{typed}{joined}{next}` if `{next}` is the value")));
    }
    Ok(next)
}

fn is_known_flag(arg: &OsStr) -> bool {
    let Some(arg) = arg.to_str() else {
        return false;
    };
    match arg.strip_prefix("--") {
        Some(long) => {
            let name = long.split_once('=').map_or(long, |(name, _)| name);
            long.is_empty() || flag(name, None).is_some()
        }
        None => match arg.strip_prefix('-').map(|letters| letters.chars()) {
            Some(mut letters) => letters
                .next()
                .is_some_and(|letter| FLAGS.iter().any(|flag| flag.short == Some(letter))),
            None => false,
        },
    }
}

/// The command among the arguments that are left, for `omk --help estimate`.
fn first_command(parser: &mut lexopt::Parser) -> Option<Command> {
    let rest = parser.try_raw_args()?;
    let words: Vec<OsString> = rest
        .filter(|arg| !arg.as_encoded_bytes().starts_with(b"-"))
        .collect();
    named(words.get(..2).unwrap_or(&words))
        .or_else(|_| named(words.get(..1).unwrap_or(&words)))
        .ok()
        .flatten()
}

/// The command whose second word is among the arguments that are left, for `omk cost --help list`.
fn second_command(group: &str, parser: &mut lexopt::Parser) -> Option<Command> {
    let mut rest = parser.try_raw_args()?;
    let second = rest.find(|arg| !arg.as_encoded_bytes().starts_with(b"-"))?;
    let name = format!("{group} {}", second.to_str()?);
    let spec = COMMANDS.iter().find(|spec| spec.name == name);
    spec.map(|spec| spec.command)
}

/// The command of these words; `None` for no words.
fn named(words: &[OsString]) -> Result<Option<Command>, UsageError> {
    if words.is_empty() {
        return Ok(None);
    }
    let name = words.join(OsStr::new(" "));
    match COMMANDS.iter().find(|spec| name == spec.name) {
        Some(spec) => Ok(Some(spec.command)),
        None => match name.to_str().and_then(group_command) {
            Some(command) => Ok(Some(command)),
            None => Err(unknown_command(&name)),
        },
    }
}

fn unknown_command(word: &OsStr) -> UsageError {
    let shown = escape_os(word);
    let error = UsageError::new(format!("there is no command `{shown}`"));
    match nearest(&shown, COMMANDS.iter().map(|spec| spec.name)) {
        Some(name) => error.hint(format!("did you mean `omk {name}`?")),
        None => error.hint("`omk help` lists the commands"),
    }
}

fn unknown_flag(name: &str, command: Option<Command>) -> UsageError {
    let error = UsageError::new(format!("there is no flag `--{name}`"));
    let near = match command {
        Some(command) => nearest(name, flags_of(command).map(|flag| flag.long)),
        None => None,
    };
    match (
        near.or_else(|| nearest(name, FLAGS.iter().map(|flag| flag.long))),
        command,
    ) {
        (Some(near), _) => error.hint(format!("did you mean `--{near}`?")),
        (None, Some(command)) => {
            error.hint(format!("`omk {} -h` lists its flags", command.spec().name))
        }
        (None, None) => error.hint("`omk -h` lists the commands"),
    }
}

fn unknown_letter(letter: char) -> UsageError {
    UsageError::new(format!("there is no flag `-{letter}`"))
        .hint("a long flag has two dashes; for a file of such a name write `./-...`")
}

fn misplaced(flag: &Flag, command: Command) -> UsageError {
    let owners: Vec<String> = flag
        .on
        .iter()
        .map(|command| format!("`omk {}`", command.spec().name))
        .collect();
    let error = UsageError::new(format!(
        "`omk {}` has no flag `--{}`",
        command.spec().name,
        flag.long
    ));
    // The beginning of a flag of its own is more likely meant than a flag of another.
    let start = format!("{}-", flag.long);
    let own = flags_of(command).find(|own| own.long.starts_with(&start));
    let error = match own {
        Some(own) => error.hint(format!("did you mean `--{}`?", own.long)),
        None => error,
    };
    error.hint(format!(
        "--{} belongs to {}",
        flag.long,
        owners.join(" and ")
    ))
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
    use crate::cli::flags::value::{Cached, Session};

    fn parsed(line: &str) -> Result<Parsed, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
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
                matches!(parsed(line), Ok(Parsed::Run(i)) if i.command == Command::ModelsUpdate),
                "{line}"
            );
        }
        for (line, command) in [
            ("plan check a", Command::PlanCheck),
            ("plan --quiet show a", Command::PlanShow),
            ("plan diff a b", Command::PlanDiff),
            ("plan add check", Command::Plan),
            ("plan checks", Command::Plan),
        ] {
            assert!(
                matches!(parsed(line), Ok(Parsed::Run(i)) if i.command == command),
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
            ("cost", Command::CostReport),
            ("cost --json", Command::CostReport),
            ("cost report", Command::CostReport),
            ("cost list", Command::CostList),
            ("--json cost list", Command::CostList),
            ("cost --max-usd 5/day check", Command::CostCheck),
            ("--max-usd 5/day cost check", Command::CostCheck),
            ("cost export -o file", Command::CostExport),
            ("cost import kimi", Command::CostImport),
        ] {
            let parsed = parsed(line);
            assert!(
                matches!(&parsed, Ok(Parsed::Run(i)) if i.command == command),
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
                command: Some(Command::CostList),
                full: true,
            });
            assert_eq!(parsed(line), expected, "{line}");
        }
        let report = Ok(Parsed::Help {
            command: Some(Command::CostReport),
            full: true,
        });
        assert_eq!(parsed("help cost"), report);
    }

    #[test]
    fn every_example_of_the_documentation_parses() {
        for spec in COMMANDS {
            for (line, _) in spec.examples {
                let (_, own) = line.split_once("omk ").unwrap();
                let own = own.split(['|', '<', '>']).next().unwrap();
                match parsed(own) {
                    Ok(Parsed::Run(invocation)) => {
                        assert_eq!(invocation.command, spec.command, "{line}")
                    }
                    Ok(Parsed::Help { .. }) => assert_eq!(spec.command, Command::Help, "{line}"),
                    other => panic!("{line}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn help_and_version_win_over_what_follows() {
        let help = |command, full| Ok(Parsed::Help { command, full });
        assert_eq!(parsed("-h"), help(None, false));
        assert_eq!(parsed("--help"), help(None, true));
        assert_eq!(parsed("help"), help(None, true));
        assert_eq!(
            parsed("estimate -qh --bogus"),
            help(Some(Command::Estimate), false)
        );
        assert_eq!(
            parsed("--help estimate x"),
            help(Some(Command::Estimate), true)
        );
        assert_eq!(
            parsed("--help models update"),
            help(Some(Command::ModelsUpdate), true)
        );
        assert_eq!(parsed("--help nonsense"), help(None, true));
        assert_eq!(
            parsed("help models update"),
            help(Some(Command::ModelsUpdate), true)
        );
        assert_eq!(parsed("help -h"), help(Some(Command::Help), false));
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
            "did you mean `--output-tokens`?; --output belongs to `omk cost export`",
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
            "estimate -x",
            "there is no flag `-x`",
            "a long flag has two dashes; for a file of such a name write `./-...`",
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
            "--price-file belongs to `omk prompt` and `omk plan` and `omk estimate` and `omk plan show` and `omk plan diff` and `omk models` and `omk cost recover` and `omk cost import`",
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
            let mut words: Vec<String> = COMMANDS.iter().map(|spec| spec.name.to_string()).collect();
            words.extend(["update", "-", "--", "-=", "--=", "---", "1", "", "=x"].map(String::from));
            for flag in FLAGS {
                words.push(format!("--{}", flag.long));
                words.push(format!("--{}=1", flag.long));
                words.extend(flag.short.map(|short| format!("-{short}{}", char::from(glue))));
            }
            let args = picks.iter().map(|pick| OsString::from(&words[pick % words.len()]));
            let _ = parse(args);
        }
    }
}
