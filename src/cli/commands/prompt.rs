//! `omk prompt`: one question, one answer.
//!
//! This file puts the question together, shows what happens while it is answered, holds the answer against a schema and
//! prints it. The peer, the limits and the cost are `cli::ask`'s; what is shown meanwhile is its screen's.

pub(in crate::cli::commands) mod args;
mod code;
mod conversation;
mod dry_run;

use std::io;
use std::path::Path;

use serde_json::Value;

use crate::cli::ask::screen::{Prints, Screen, Show, Shown};
use crate::cli::ask::terminal::Terminal;
use crate::cli::ask::{Asker, ResultReport, status_of};
use crate::cli::commands::prompt::args::PromptArgs;
use crate::cli::commands::prompt::conversation::Kept;
use crate::cli::commands::watch_signals;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::{SchemaSource, VarValue};
use crate::cli::input::{Source, TextReader, read_file, stopped};
use crate::cli::output::Output;
use crate::cli::store::store;
use crate::cli::template;
use crate::cost::record::{SessionStatus, SessionType};
use crate::llm::client::{Image, LlmClient, Request, Schema};
use crate::llm::error::LlmError;
use crate::llm::schema::Validator;
use crate::llm::types::{Denial, FinishReason, LlmResponse};
use crate::runtime::json;
use crate::runtime::text::escape_os;

pub(crate) use crate::cli::commands::prompt::args::SPEC;

/// The largest text taken for a question: far above any window.
const LARGEST_TEXT: usize = 16 * 1024 * 1024;
/// The largest picture: what Moonshot takes for a whole request, says its guide on vision.
const LARGEST_IMAGE: u64 = 32 * 1024 * 1024;
/// The largest schema.
const LARGEST_SCHEMA: u64 = 4 * 1024 * 1024;

/// Runs the command.
pub(crate) fn run(mut args: PromptArgs, env: &mut Env) -> Result<Exit, Failure> {
    watch_signals()?;
    let schema = match &args.schema {
        Some(source) => Some(read_schema(source, env)?),
        None => None,
    };
    if let Some((_, validator)) = &schema {
        let unchecked = validator.unchecked();
        if !unchecked.is_empty() {
            let list = unchecked.join(", ");
            env.output
                .warning(format!("--schema: not checked by omk: {list}"));
        }
    }
    let mut request = question(&args, schema.as_ref().map(|(schema, _)| schema), env)?;
    let kept = conversation::open(&mut args, &mut request, env)?;
    args.ask.deadline.check("putting the question together")?;
    if args.dry_run {
        return dry_run::run(&args.ask, args.show == Show::Json, &request, env);
    }
    if !request.images.is_empty() && (args.ask.max_usd.is_some() || args.ask.max_tokens.is_some()) {
        env.output.warning(
            "pictures are not counted before they are sent: a limit holds for the text alone",
        );
    }
    let terminal = match args.asks {
        true => Some(open_terminal()?),
        false => None,
    };
    let mut asker = Asker::open(&args.ask, SessionType::Prompt, env)?;
    let mut budget = asker.so_far().token_budget();
    let mut screen = screen(&args, &asker, terminal, &mut env.output);
    let mut answered = asker.run(&request, &mut budget, &mut screen);
    if let Err(error) = &answered
        && asker.may_be_another_agent(error)
    {
        let terminal = screen.finish().terminal;
        let is_another = asker.is_another_agent(env);
        if is_another {
            let exit = asker.failure(error).exit;
            asker.close(status_of(error, exit), exit);
            asker = Asker::open(&args.ask, SessionType::Prompt, env)?;
        }
        screen = self::screen(&args, &asker, terminal, &mut env.output);
        if is_another {
            answered = asker.run(&request, &mut budget, &mut screen);
        }
    }
    let mut value = None;
    let mut invalid = None;
    if let (Ok(response), Some((_, validator))) = (&answered, &schema)
        && response.denials.is_empty()
    {
        match judge(&response.text, validator) {
            Ok(found) => value = Some(found),
            Err(why) => {
                screen.note("the answer does not satisfy the schema; asking once more");
                let again = repair(&request, &response.text, &why);
                let second = asker.run(&again, &mut budget, &mut screen);
                match second {
                    Ok(second) => {
                        match judge(&second.text, validator) {
                            Ok(found) => value = Some(found),
                            Err(why) => invalid = Some(why),
                        }
                        answered = Ok(second);
                    }
                    Err(error) => {
                        // The first answer was paid for, and is kept.
                        screen.note(&format!("asking once more failed: {error}"));
                        invalid = Some(why);
                    }
                }
            }
        }
    }
    if let Ok(response) = &answered
        && args.extract
        && code::first_block(&response.text).is_none()
    {
        invalid = Some("there is no code block in the answer".to_string());
    }
    let shown = screen.finish();
    let kept = kept.map(|kept| (kept, request.system.as_deref()));
    conclude(&args, asker, answered, (value, invalid), shown, kept, env)
}

/// The screen that this run is watched on.
fn screen<'a>(
    args: &PromptArgs,
    asker: &Asker,
    terminal: Option<Terminal>,
    output: &'a mut Output,
) -> Screen<'a> {
    let prints = match args.show {
        Show::Text if args.extract || args.schema.is_some() => Prints::Never,
        Show::Text if asker.so_far().is_agent() || args.no_stream => Prints::WhenWhole,
        Show::Text => Prints::AsItComes,
        _ => Prints::Never,
    };
    Screen::new(args.show, args.shows, prints, asker.price(), output)
        .silent_for(asker.silence())
        .last_step(args.ask.max_steps.filter(|_| !args.no_stream))
        .asking(terminal)
}

/// The terminal that `--ask` asks at.
fn open_terminal() -> Result<Terminal, Failure> {
    Terminal::open().map_err(|error| {
        let detail = format!("--ask needs a terminal to ask at: {error}");
        Failure::new(Exit::Usage, "usage", detail)
            .hint("without a person at hand, --allow says what an agent may do")
    })
}

/// Settles how it ended, closes the books and prints what is still to be printed.
fn conclude(
    args: &PromptArgs,
    mut asker: Asker,
    answered: Result<LlmResponse, LlmError>,
    (value, invalid): (Option<Value>, Option<String>),
    Shown {
        text: shown, gone, ..
    }: Shown,
    kept: Option<(Kept, Option<&str>)>,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let mut failure = match (&answered, &invalid) {
        (Ok(response), Some(why)) => Some(invalid_answer(why, response)),
        (Ok(response), None) if !response.text.starts_with(&shown) => Some(restarted()),
        (Ok(_), None) => None,
        (Err(error), _) => Some(asker.failure(error)),
    };
    let mut exit = match (&answered, &failure) {
        (_, Some(failure)) => failure.exit,
        (Ok(response), None) if !response.denials.is_empty() => Exit::Denied,
        (Ok(response), None) if response.finish_reason == Some(FinishReason::Length) => Exit::Cut,
        _ => Exit::Done,
    };
    // Someone who does not read any more is no failure of the run.
    if let Some(gone) = &gone {
        exit = gone.exit;
    }
    let status = match (&answered, &gone) {
        (_, Some(_)) => SessionStatus::Interrupted,
        (Ok(_), None) => SessionStatus::Settled,
        (Err(error), None) => status_of(error, exit),
    };
    let lost = asker.close(status, exit);
    if let Some(gone) = gone {
        return Err(gone);
    }
    // First the end of the answer, which a warning would otherwise follow on the same line of a terminal. One that is not
    // valid comes after what says so.
    let is_first = args.show == Show::Text && invalid.is_none();
    if let (true, Ok(response)) = (is_first, &answered) {
        print_answer(args, response, value.as_ref(), None, &shown, env)?;
        env.output.flush()?;
    }
    for warning in asker.warnings(answered.is_ok()) {
        env.output.warning(warning);
    }
    // A run that was not the one on the tape is that above all, whatever it came to.
    let is_other_run = lost.as_ref().is_some_and(|lost| lost.kind == "replay");
    if let Some(failure) = failure.as_ref().filter(|_| !is_other_run) {
        env.output.failure(failure);
    }
    if let Some(lost) = lost {
        env.output.failure(&lost);
        if exit == Exit::Done || is_other_run {
            exit = lost.exit;
            failure = Some(lost);
        }
    }
    if let (Ok(response), Some(path)) = (&answered, &args.last_message) {
        store(path, response.text.as_bytes())?;
    }
    let mut turn = None;
    if let (Some((kept, system)), Ok(response)) = (kept, &answered) {
        match kept.keep(response, &asker, system, env) {
            Ok(report) => turn = Some(report),
            Err(lost) => {
                env.output.failure(&lost);
                if exit == Exit::Done {
                    exit = lost.exit;
                    failure = Some(lost);
                }
            }
        }
    }
    match args.show {
        Show::Text => {
            if let Ok(response) = &answered {
                if invalid.is_some() {
                    let value = value.as_ref();
                    print_answer(args, response, value, invalid.as_deref(), &shown, env)?;
                }
                explain(exit, response, env);
            }
            if let Some(turn) = &turn {
                env.output.flush()?;
                env.output.note(&turn.line());
            }
        }
        Show::Json | Show::Stream => {
            let answer = answered
                .as_ref()
                .ok()
                .map(|response| (response, value.as_ref()));
            let warnings = env.output.warnings().to_vec();
            let run = asker.so_far();
            let report =
                ResultReport::new(&args.ask, run, exit, answer, &warnings, failure.as_ref())
                    .of_turn(turn.as_ref());
            env.output.json(&report)?;
        }
    }
    env.output.flush()?;
    asker.tidy();
    Ok(exit)
}

/// Prints the answer, or what of it was not printed as it came.
fn print_answer(
    args: &PromptArgs,
    response: &LlmResponse,
    value: Option<&Value>,
    invalid: Option<&str>,
    shown: &str,
    env: &mut Env,
) -> Result<(), Failure> {
    if invalid.is_some() {
        env.output.aside(&format!("{}\n", response.text.trim_end()));
        return Ok(());
    }
    if value.is_some() {
        // Without a fence or a word around it, and otherwise as it came.
        let json =
            json::extract(&response.text).map_or(response.text.as_str(), |found| found.source);
        return env.output.print(&format!("{json}\n"));
    }
    let text = match args.extract {
        true => code::first_block(&response.text).unwrap_or_default(),
        false => &response.text,
    };
    let Some(rest) = text.strip_prefix(shown) else {
        return Ok(());
    };
    env.output.print(rest)?;
    // Several answers in one file would otherwise stand on one line.
    if !text.ends_with('\n') && !args.raw {
        env.output.print("\n")?;
    }
    Ok(())
}

/// Says why the exit code is not 0 although there is an answer.
fn explain(exit: Exit, response: &LlmResponse, env: &mut Env) {
    match exit {
        Exit::Cut => env.output.failure(
            &Failure::new(Exit::Cut, "cut", "the answer ended at the length limit")
                .hint("increase --max-output-tokens, --max-tokens or --max-usd"),
        ),
        Exit::Denied => {
            let denied: Vec<String> = response
                .denials
                .iter()
                .map(|denial| match denial.tool.is_empty() {
                    true => format!("{}: {}", denial.kind, denial.detail),
                    false => format!("{}: {}", denial.tool, denial.detail),
                })
                .collect();
            let mut failure = Failure::new(Exit::Denied, "denied", denied.join("; "));
            for hint in denial_hints(&response.denials) {
                failure = failure.hint(hint);
            }
            env.output.failure(&failure);
        }
        _ => {}
    }
}

/// What allows what was denied, and nothing else.
fn denial_hints(denials: &[Denial]) -> Vec<String> {
    let mut rules: Vec<&str> = Vec::new();
    let mut hints = Vec::new();
    for denial in denials {
        let hint = match (&denial.rule, denial.tool.as_str()) {
            (Some(rule), _) => {
                if !rules.contains(&rule.as_str()) {
                    rules.push(rule);
                }
                continue;
            }
            (None, "") => "omk cannot answer questions; put the answer into the prompt".to_string(),
            (None, tool) => format!(
                "no rule with a pattern allows that use of {tool}: --allow {tool} allows every use of it"
            ),
        };
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    if !rules.is_empty() {
        let rules = quoted(&rules.join(","));
        hints.insert(0, format!("--allow {rules} allows it"));
    }
    hints
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ':' | '/');
    match word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// An answer of which the beginning was printed before the agent asked the model once more.
fn restarted() -> Failure {
    let detail = "the connection broke, and the answer that came then is not the one that was printed in part";
    Failure::new(Exit::Temporary, "incomplete answer", detail)
        .hint("--no-stream prints an answer when it is complete")
}

pub(in crate::cli::commands) fn invalid_answer(why: &str, response: &LlmResponse) -> Failure {
    let cut = match response.finish_reason {
        Some(FinishReason::Length) => "; it was cut at the length limit",
        _ => "",
    };
    Failure::new(Exit::Invalid, "invalid answer", format!("{why}{cut}"))
        .hint("the answer follows; with --json it is in `text`")
}

/// The value that an answer holds, if it satisfies the schema; otherwise what is wrong with it.
pub(in crate::cli::commands) fn judge(text: &str, validator: &Validator) -> Result<Value, String> {
    let found = json::extract(text).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let violations = validator.check(&found.value);
    if violations.is_empty() {
        return Ok(found.value);
    }
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Err(list.join("; "))
}

/// The question once more, with the answer and what is wrong with it. A run keeps no conversation, so it is all in one.
pub(in crate::cli::commands) fn repair(request: &Request, answer: &str, why: &str) -> Request {
    let mut again = request.clone();
    let tag = tag("answer", answer);
    again.text = format!(
        "{}\n\nThis was answered before, and the answer is not valid. What is wrong with it:\n{why}\n\nThe answer was:\n\
         <{tag}>\n{answer}\n</{tag}>\n\nAnswer again with the corrected JSON value and nothing else.",
        request.text
    );
    again
}

/// The question, put together from words, files and standard input.
fn question(args: &PromptArgs, schema: Option<&Value>, env: &mut Env) -> Result<Request, Failure> {
    let mut reader = TextReader::new(args.lossy, args.ask.deadline);
    let (mut text, takes_stdin) = match &args.template {
        Some(body) => filled(args, body, &mut reader, env)?,
        None => (args.text.clone(), args.stdin),
    };
    let label = if args.template.is_some() {
        "--template"
    } else {
        "TEXT"
    };
    args.ask.check_secrets(label, &text)?;
    args.ask
        .check_secrets("--system", args.system.as_deref().unwrap_or_default())?;
    for path in &args.files {
        let source = Source::File(path.clone());
        let content = read_text(&mut reader, &source, env)?;
        args.ask.check_secrets(&source.name(), &content)?;
        let tag = tag("file", &content);
        let name = source.name().replace('"', "'");
        append(&mut text, &format!("<{tag} name=\"{name}\">\n{content}"));
        close(&mut text, &tag);
    }
    if takes_stdin {
        let content = read_text(&mut reader, &Source::Stdin, env)?;
        args.ask.check_secrets("standard input", &content)?;
        // A pipe that is only there because nobody closed it says nothing, and is no part of the question.
        if text.is_empty() {
            text = content;
        } else if !content.is_empty() {
            let tag = tag("stdin", &content);
            append(&mut text, &format!("<{tag}>\n{content}"));
            close(&mut text, &tag);
        }
    }
    if text.trim().is_empty() {
        return Err(
            Failure::new(Exit::BadInput, "input", "the question is empty")
                .hint("give a TEXT, a --file, or text on standard input"),
        );
    }
    let mut request = Request::new(text);
    request.system.clone_from(&args.system);
    request.thinking = args.thinking;
    request.temperature = args.temperature;
    request.max_output_tokens = args.max_output_tokens;
    for path in &args.images {
        request.images.push(read_image(path, env)?);
    }
    if let Some(schema) = schema {
        demand(&mut request, schema);
    }
    Ok(request)
}

/// Asks for an answer that satisfies a schema.
pub(in crate::cli::commands) fn demand(request: &mut Request, schema: &Value) {
    // An agent takes no schema but in words, and to a service that ignores it they do no harm.
    request.text.push_str(&format!(
        "\n\nAnswer with one JSON value that satisfies this JSON Schema, and nothing else:\n{schema}"
    ));
    request.schema = Some(Schema {
        name: "answer".to_string(),
        schema: schema.clone(),
    });
}

/// The template with its places filled, and whether standard input is still to follow it.
fn filled(
    args: &PromptArgs,
    body: &str,
    reader: &mut TextReader,
    env: &mut Env,
) -> Result<(String, bool), Failure> {
    let places = template::places(body);
    let mut values = Vec::new();
    let mut takes_stdin = args.stdin;
    let is_given = |name: &str| args.vars.iter().any(|(known, _)| known == name);
    if places.contains("text") && !is_given("text") && !args.text.is_empty() {
        values.push(("text".to_string(), args.text.clone()));
    }
    if places.contains("stdin") && !is_given("stdin") && args.stdin {
        takes_stdin = false;
        let content = read_text(reader, &Source::Stdin, env)?;
        values.push(("stdin".to_string(), content));
    }
    for (name, value) in &args.vars {
        let content = match value {
            VarValue::Text(text) => text.clone(),
            VarValue::File(path) => read_text(reader, &Source::File(path.clone()), env)?,
            VarValue::Stdin => {
                takes_stdin = false;
                read_text(reader, &Source::Stdin, env)?
            }
        };
        values.push((name.clone(), content));
    }
    let mut text = template::fill(body, &values).map_err(|detail| {
        Failure::new(Exit::Usage, "usage", detail)
            .hint("--var NAME=VALUE fills a place, --var NAME=@FILE with the content of a file")
    })?;
    if !places.contains("text") && !args.text.is_empty() {
        text.truncate(text.trim_end().len());
        append(&mut text, &args.text);
    }
    Ok((text, takes_stdin))
}

/// The name of a block that cannot end within its content.
fn tag(name: &str, content: &str) -> String {
    let ends = |tag: &str| content.contains(&format!("</{tag}"));
    if !ends(name) {
        return name.to_string();
    }
    // Each number rules out one more, and the content holds finitely many.
    (2_u64..)
        .map(|number| format!("{name}-{number}"))
        .find(|tag| !ends(tag))
        .unwrap_or_else(|| name.to_string())
}

pub(in crate::cli::commands) fn append(text: &mut String, block: &str) {
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(block);
}

fn close(text: &mut String, tag: &str) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("</{tag}>"));
}

fn read_text(reader: &mut TextReader, source: &Source, env: &mut Env) -> Result<String, Failure> {
    let mut text = String::new();
    reader.read(source, env, &mut |piece| {
        if text.len().saturating_add(piece.len()) > LARGEST_TEXT {
            let detail = format!("{} is larger than 16 MiB", source.name());
            return Err(Failure::new(Exit::BadInput, "input", detail)
                .hint("no window takes that much; send a part of it"));
        }
        text.push_str(piece);
        Ok(())
    })?;
    Ok(text)
}

/// A file of at most so many bytes.
fn read_bytes(path: &Path, most: u64, what: &str, env: &Env) -> Result<Vec<u8>, Failure> {
    let shown = escape_os(path);
    let unreadable = |error: io::Error| {
        Failure::new(Exit::NoInput, "input", format!("`{shown}`: {error}"))
            .hint(format!("{what} names a file that can be read"))
    };
    read_file(path, most, env).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let detail = format!("`{shown}`: {error}");
            Failure::new(Exit::BadInput, "input", detail)
        }
        _ => stopped(&error, &format!("`{shown}`"), env.deadline)
            .unwrap_or_else(|| unreadable(error)),
    })
}

pub(in crate::cli::commands) fn read_image(path: &Path, env: &Env) -> Result<Image, Failure> {
    let bytes = read_bytes(path, LARGEST_IMAGE, "--image", env)?;
    let media_type = media_type(&bytes).ok_or_else(|| {
        let detail = format!("`{}` is not a PNG, JPEG, GIF or WebP file", escape_os(path));
        Failure::new(Exit::BadInput, "input", detail).hint("convert it, to PNG for instance")
    })?;
    Ok(Image {
        media_type: media_type.to_string(),
        bytes,
    })
}

/// The type of a picture, by how it begins; names of files lie.
pub(in crate::cli::commands) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some("image/gif")
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

pub(in crate::cli::commands) fn read_schema(
    source: &SchemaSource,
    env: &Env,
) -> Result<(Value, Validator), Failure> {
    let wrong = |detail: String| {
        let place = match source {
            SchemaSource::File(path) => format!(" `{}`", escape_os(path)),
            SchemaSource::Inline(_) => String::new(),
        };
        Failure::new(
            Exit::Config,
            "configuration",
            format!("--schema{place}: {detail}"),
        )
    };
    let schema: Value = match source {
        SchemaSource::Inline(schema) => schema.clone(),
        SchemaSource::File(path) => {
            let bytes = read_bytes(path, LARGEST_SCHEMA, "--schema", env)?;
            serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("is not JSON: {error}")))?
        }
    };
    let validator = Validator::new(&schema).map_err(|error| wrong(error.to_string()))?;
    Ok((schema, validator))
}
