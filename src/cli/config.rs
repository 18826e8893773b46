//! Settings that were not typed: from a flag's variables, else from the config file, else none.
//!
//! The config file is one JSON object whose keys are long flag names. Variables and keys go through
//! the setters of the flag table, so a value means the same wherever it stands. The file is read at
//! most once, only for commands that take a setting. It refuses unknown keys: a misspelt limit that
//! is silently ignored costs money.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::Invocation;
use crate::cli::flags::table::Table;
use crate::cli::flags::value::{self, SchemaSource};
use crate::cli::flags::{Completes, Flag, LowArgs, Takes};
use crate::cli::template;
use crate::runtime::text::{escape_os, nearest};

/// A config file has a dozen keys; whatever is larger is some other file.
const LARGEST: u64 = 1 << 20;

/// Fills in what the command line left open.
///
/// # Errors
///
/// Exit 78, naming the variable, or the file and the key.
pub(crate) fn fill(table: &Table, invocation: &mut Invocation, env: &Env) -> Result<(), Failure> {
    let command = invocation.command;
    let mut settled = invocation.given.clone();
    settled.extend(from_template(invocation, env)?);
    if command
        .flags()
        .all(|flag| !flag.configurable && flag.variables.is_empty())
    {
        return Ok(());
    }
    for flag in command.flags() {
        if settled.contains(&flag.long) {
            continue;
        }
        let set = flag
            .variables
            .iter()
            .find_map(|name| env.variable(name).map(|value| (name, value)));
        if let Some((name, value)) = set {
            apply(flag, &mut invocation.low, &value)
                .map_err(|error| wrong(format!("{name}: {error}")))?;
            settled.push(flag.long);
        }
    }
    let Some((path, named)) = path(env) else {
        return Ok(());
    };
    match read(&path) {
        Ok(bytes) => from_file(table, invocation, &settled, &path, &bytes),
        // Only the file that someone named has to be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => Ok(()),
        Err(error) => Err(wrong(format!("cannot read {}: {error}", escape_os(path)))),
    }
}

/// Reads the template that was named. Its header sets flags that were not given; gives back their names.
fn from_template(invocation: &mut Invocation, env: &Env) -> Result<Vec<&'static str>, Failure> {
    let Some(named) = invocation.low.ask.template.take() else {
        return Ok(Vec::new());
    };
    let path = template::path(&named, env)?;
    let template = template::read(&path)?;
    invocation.low.ask.template_body = Some(template.body);
    let mut set = Vec::new();
    for flag in invocation.command.flags() {
        let Some(value) = template.header.get(flag.long) else {
            continue;
        };
        if invocation.given.contains(&flag.long) {
            continue;
        }
        let low = &mut invocation.low;
        let applied = match (flag.long, value) {
            ("schema", Value::Object(_)) => {
                low.ask.schema = Some(SchemaSource::Inline(value.clone()));
                Ok(())
            }
            // Fields in short are no name of a file.
            ("schema", Value::String(text)) => match value::schema(text.as_ref()) {
                Ok(SchemaSource::File(_)) => set_from_json(flag, low, value, &path),
                Ok(fields) => {
                    low.ask.schema = Some(fields);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            _ => set_from_json(flag, low, value, &path),
        };
        applied
            .map_err(|error| wrong(format!("{}: `{}`: {error}", escape_os(&path), flag.long)))?;
        set.push(flag.long);
    }
    Ok(set)
}

/// The config file, and whether `OMK_CONFIG` named it.
fn path(env: &Env) -> Option<(PathBuf, bool)> {
    match env.variable("OMK_CONFIG") {
        Some(path) => Some((path.into(), true)),
        None => env
            .config_directory()
            .map(|directory| (directory.join("config.json"), false)),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB, so not a config file",
        ));
    }
    Ok(bytes)
}

/// Reads the whole config file, the settings of other commands included. Gives its path, or nothing if there is none.
///
/// # Errors
///
/// As [`fill`].
pub(crate) fn check(table: &Table, env: &Env) -> Result<Option<PathBuf>, Failure> {
    let Some((path, named)) = path(env) else {
        return Ok(None);
    };
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot read {}: {error}", escape_os(path)))),
    };
    let shown = escape_os(&path);
    let settings: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("{shown} is no JSON object: {error}")))?;
    for (key, value) in &settings {
        let known = table.configurable();
        let Some(flag) = known.iter().find(|flag| flag.long == key) else {
            return Err(wrong(format!("{shown} has an unknown key `{key}`")));
        };
        set_from_json(flag, &mut LowArgs::default(), value, &path)
            .map_err(|error| wrong(format!("{shown}: `{key}`: {error}")))?;
    }
    Ok(Some(path))
}

/// Takes over what the file says, but for the flags that are `settled`.
fn from_file(
    table: &Table,
    invocation: &mut Invocation,
    settled: &[&str],
    path: &Path,
    bytes: &[u8],
) -> Result<(), Failure> {
    let shown = escape_os(path);
    let settings: Value = serde_json::from_slice(bytes)
        .map_err(|error| wrong(format!("{shown} is not JSON: {error}")))?;
    let Value::Object(settings) = settings else {
        return Err(wrong(format!(
            "{shown} holds no JSON object; it needs flag names and values in braces"
        )));
    };
    for (key, value) in &settings {
        let is_key = |flag: &&Flag| flag.configurable && flag.long == key;
        let own = invocation.command.flags().find(is_key);
        let known = table.configurable();
        if own.is_none() && !known.iter().any(is_key) {
            let error = wrong(format!("{shown} has an unknown key `{key}`"));
            return Err(match nearest(key, known.iter().map(|flag| flag.long)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("the FILES section of the man page lists the keys"),
            });
        }
        if let Some(flag) = own
            && !settled.contains(&flag.long)
        {
            set_from_json(flag, &mut invocation.low, value, path)
                .map_err(|error| wrong(format!("{shown}: `{key}`: {error}")))?;
        }
    }
    Ok(())
}

fn set_from_json(flag: &Flag, low: &mut LowArgs, value: &Value, path: &Path) -> Result<(), String> {
    match (&flag.takes, value) {
        (Takes::Nothing(_), Value::Bool(false)) => Ok(()),
        (Takes::Nothing(set), Value::Bool(true)) => {
            set(low);
            Ok(())
        }
        (Takes::Value(..), Value::String(text)) => {
            let mut text = OsString::from(text);
            // A name in a file cannot depend on where the program happens to be run.
            if flag.completes == Completes::Files
                && let Some(directory) = path.parent()
            {
                text = directory.join(text).into_os_string();
            }
            apply(flag, low, &text)
        }
        (Takes::Value(..), Value::Number(number)) => apply(flag, low, &number.to_string().into()),
        (Takes::Value(..), Value::Array(values)) if flag.repeats => {
            values.iter().try_for_each(|value| match value {
                Value::Array(_) => Err("is an array within an array".to_string()),
                value => set_from_json(flag, low, value, path),
            })
        }
        (Takes::Nothing(_), _) => Err("expected true or false".to_string()),
        _ if flag.repeats => Err("expected a string, or an array of strings".to_string()),
        _ => Err("expected a string or a number".to_string()),
    }
}

fn apply(flag: &Flag, low: &mut LowArgs, value: &OsString) -> Result<(), String> {
    match flag.takes {
        Takes::Value(_, set) => set(low, value),
        Takes::Nothing(set) => {
            set(low);
            Ok(())
        }
        Takes::Help | Takes::Version => Ok(()),
    }
}

fn wrong(detail: String) -> Failure {
    Failure::new(Exit::Config, "configuration", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::{TABLE, parse};
    use crate::cli::env::tests::world;
    use crate::cli::flags::parse::Parsed;

    fn invocation(line: &str) -> Box<Invocation> {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Parsed::Run(invocation)) => invocation,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn from_json(line: &str, json: &str) -> Result<LowArgs, Failure> {
        let mut invocation = invocation(line);
        let path = Path::new("/etc/omk/config.json");
        from_file(&TABLE, &mut invocation, &[], path, json.as_bytes())?;
        Ok(invocation.low)
    }

    #[test]
    fn a_flag_beats_its_variable_and_the_first_variable_beats_the_next() {
        let variables = [("OMK_MODEL", "own"), ("KIMI_MODEL_NAME", "other")];
        for (line, variables, want) in [
            ("estimate -m flag", &variables[..], "flag"),
            ("estimate", &variables[..], "own"),
            ("estimate", &variables[1..], "other"),
        ] {
            let mut invocation = invocation(line);
            fill(&TABLE, &mut invocation, &world(variables, b"").0).unwrap();
            assert_eq!(invocation.low.model, [want], "{line}");
        }
    }

    #[test]
    fn what_is_settled_is_left_alone_by_the_file() {
        let mut invocation = invocation("estimate -m own");
        let json = br#"{"model": "file", "quiet": true}"#;
        from_file(&TABLE, &mut invocation, &["model"], Path::new("c"), json).unwrap();
        assert_eq!(invocation.low.model, ["own"]);
        assert!(invocation.low.quiet);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let failure = fill(
            &TABLE,
            &mut invocation("estimate"),
            &world(&[("OMK_DEADLINE", "soon")], b"").0,
        )
        .unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(
            failure
                .detail
                .starts_with("OMK_DEADLINE: `soon` is not a duration"),
            "{}",
            failure.detail
        );
    }

    #[test]
    fn values_of_the_file_are_read_as_flags_are() {
        let json = r#"{"model": ["a", "b,c"], "output-tokens": 800, "max-usd": 0.05, "max-tokens": "4k",
                       "strict-prices": true, "quiet": false, "price-file": "rates.json", "deadline": "30s"}"#;
        let typed =
            "estimate -m a,b,c -o 800 --max-usd 0.05 --max-tokens 4k --strict-prices --deadline 30s
                     --price-file /etc/omk/rates.json";
        assert_eq!(from_json("estimate", json), Ok(invocation(typed).low));
    }

    #[test]
    fn keys_of_other_commands_are_left_alone() {
        let low = from_json("models", r#"{"model": "a", "price-file": "/p"}"#).unwrap();
        assert_eq!(low, invocation("models --price-file /p").low);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, detail) in [
            (
                "{",
                "/etc/omk/config.json is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "[]",
                "/etc/omk/config.json holds no JSON object; it needs flag names and values in braces",
            ),
            (
                r#"{"modle": "a"}"#,
                "/etc/omk/config.json has an unknown key `modle`",
            ),
            (
                r#"{"json": true}"#,
                "/etc/omk/config.json has an unknown key `json`",
            ),
            (
                r#"{"quiet": "yes"}"#,
                "/etc/omk/config.json: `quiet`: expected true or false",
            ),
            (
                r#"{"model": null}"#,
                "/etc/omk/config.json: `model`: expected a string, or an array of strings",
            ),
            (
                r#"{"deadline": []}"#,
                "/etc/omk/config.json: `deadline`: expected a string or a number",
            ),
            (
                r#"{"model": [["a"]]}"#,
                "/etc/omk/config.json: `model`: is an array within an array",
            ),
            (
                r#"{"max-usd": -1}"#,
                "/etc/omk/config.json: `max-usd`: `-1` is negative; write US dollars as a decimal, such as 0.05",
            ),
        ] {
            let failure = from_json("estimate", json).unwrap_err();
            assert_eq!(
                (failure.exit, failure.detail.as_str()),
                (Exit::Config, detail),
                "{json}"
            );
        }
        assert_eq!(
            from_json("estimate", r#"{"modle": 1}"#).unwrap_err().hints,
            ["did you mean `model`?"]
        );
    }

    #[test]
    fn the_directory_follows_xdg() {
        let directory = |variables: &[(&str, &str)]| world(variables, b"").0.config_directory();
        assert_eq!(
            directory(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]),
            Some("/x/omk".into())
        );
        assert_eq!(
            directory(&[("XDG_CONFIG_HOME", "x"), ("HOME", "/h")]),
            Some("/h/.config/omk".into())
        );
        assert_eq!(directory(&[("HOME", "/h")]), Some("/h/.config/omk".into()));
        assert_eq!(directory(&[]), None);
    }

    #[test]
    fn only_a_named_file_has_to_exist() {
        let none = [("HOME", "/nonexistent")];
        assert_eq!(
            fill(&TABLE, &mut invocation("estimate"), &world(&none, b"").0),
            Ok(())
        );
        let named = [("OMK_CONFIG", "/nonexistent/c.json")];
        let failure = fill(&TABLE, &mut invocation("estimate"), &world(&named, b"").0).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(
            failure
                .detail
                .starts_with("cannot read /nonexistent/c.json: "),
            "{}",
            failure.detail
        );
        // A command without settings reads no file at all.
        assert_eq!(
            fill(
                &TABLE,
                &mut invocation("completions bash"),
                &world(&named, b"").0
            ),
            Ok(())
        );
    }
}
