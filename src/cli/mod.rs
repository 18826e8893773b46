//! The command line: flags, variables, terminals and exit codes. No other layer knows them.
//!
//! A run is: parse the arguments (pure), let help and version go before anything is touched, fill
//! in variables and the config file, resolve what the command needs, run it, flush, and turn the
//! outcome into an exit code.

mod ask;
mod commands;
mod config;
mod deadline;
mod doc;
mod env;
mod exit;
mod flags;
mod fleet;
mod history;
mod input;
mod json;
mod ledger;
mod network;
mod output;
mod prices;
mod store;
mod template;
mod typos;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::commands::TABLE;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::parse::{Parsed, Topic, parse, wants_json};

/// Runs the program on the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut env = Env::process();
    ExitCode::from(run(args, &mut env).code())
}

/// The whole program; what it says has been said when this returns.
fn run(args: Vec<OsString>, env: &mut Env) -> Exit {
    let json = wants_json(&args);
    let outcome = match parse(&TABLE, args) {
        Ok(parsed) => dispatch(parsed, env),
        Err(error) => Err(error.into()),
    };
    let exit = match outcome {
        Ok(exit) => exit,
        Err(failure) => report(&with_key_hint(failure, env), json, env),
    };
    env.output.say_failures();
    match env.output.flush() {
        Ok(()) => exit,
        // The verdict stands: a gate that failed has failed, whether or not someone read the
        // result.
        // It has been said already when a write before the last one failed.
        Err(_) if exit == Exit::Io => exit,
        Err(failure) => {
            env.output.failure(&failure);
            if exit == Exit::Done {
                failure.exit
            } else {
                exit
            }
        }
    }
}

fn dispatch(parsed: Parsed, env: &mut Env) -> Result<Exit, Failure> {
    match parsed {
        Parsed::Nothing => {
            env.output
                .help(&doc::help::help(&TABLE, Topic::Whole, false));
            return Ok(Exit::Usage);
        }
        Parsed::Help { topic, full } => env.output.print(&doc::help::help(&TABLE, topic, full))?,
        Parsed::Schema(name) => env.output.print(&doc::schema::text(&TABLE, name))?,
        Parsed::Version => env.output.print(&doc::help::version())?,
        Parsed::Run(invocation) => return commands::run(invocation, env),
    }
    Ok(Exit::Done)
}

/// A failure for want of a key, where there is one that omk does not read.
fn with_key_hint(failure: Failure, env: &Env) -> Failure {
    let is_set = |name: &str| env.variable(name).is_some();
    let wants_key = matches!(failure.kind, "authentication" | "no agent")
        && !is_set("MOONSHOT_API_KEY")
        && !is_set("KIMI_API_KEY");
    if !wants_key || !(is_set("OPENAI_API_KEY") || is_set("OPENAI_BASE_URL")) {
        return failure;
    }
    failure.hint("OPENAI_API_KEY and OPENAI_BASE_URL are not read: set MOONSHOT_API_KEY and OMK_BASE_URL to the same values")
}

/// Says why the run failed: on standard error, and with `--json` also as the one document on
/// standard output.
fn report(failure: &Failure, json: bool, env: &mut Env) -> Exit {
    env.output.failure(failure);
    if json && !failure.is_silent() && !env.output.has_printed() {
        // When this fails too, the flush that follows says so.
        let nothing = serde_json::Map::new();
        let _ = env
            .output
            .document("omk.error/1", failure.exit, &nothing, Some(failure));
    }
    failure.exit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    fn omk(line: &str) -> (Exit, String, String) {
        let (mut env, out, err) = world(&[("OMK_CONFIG", "/nonexistent/config.json")], b"");
        let exit = run(
            line.split_whitespace().map(OsString::from).collect(),
            &mut env,
        );
        (exit, out.text(), err.text())
    }

    #[test]
    fn nothing_asked_is_a_usage_error_with_the_short_help() {
        let (exit, out, err) = omk("");
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err, doc::help::help(&TABLE, Topic::Whole, false));
    }

    #[test]
    fn help_and_version_do_not_look_at_the_config_file() {
        for line in [
            "-h",
            "--help",
            "help",
            "help estimate",
            "estimate -h",
            "--version",
            "estimate -V",
            "completions zsh",
        ] {
            let (exit, out, err) = omk(line);
            assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{line}");
            assert!(!out.is_empty(), "{line}");
        }
        assert_eq!(omk("estimate").0, Exit::Config);
    }

    #[test]
    fn a_usage_error_is_one_json_document_when_json_was_asked() {
        let (exit, out, err) = omk("estimate --json --modle x");
        assert_eq!(exit, Exit::Usage);
        assert_eq!(
            out,
            "{\"schema\":\"omk.error/1\",\"ok\":false,\"exit\":2,\"warnings\":[],\"error\":{\"kind\":\"usage\",\"message\":\"there is no \
             flag `--modle`\",\"hint\":\"did you mean `--model`?\",\"retryable\":false,\
             \"retry_after_s\":null,\"http_status\":null}}\n"
        );
        assert_eq!(
            err,
            "omk: usage: there is no flag `--modle`\nhint: did you mean `--model`?\n"
        );
        assert_eq!(omk("estimate --modle x").1, "");
    }
}
