//! What `omk prompt` takes: its place in the table of commands, its flags, and what they come to.

use std::path::PathBuf;

use crate::cli::ask::AskArgs;
use crate::cli::ask::screen::Show;
use crate::cli::env::Env;
use crate::cli::flags::value::{SchemaSource, VarValue};
use crate::cli::flags::{
    CommandSpec, Completes, Flag, FlagGroup, Invocation, Takes, UsageError, shared, value,
};
use crate::cli::typos;
use crate::runtime::text::escape_os;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "prompt",
    positionals: "[TEXT]...",
    completes: Completes::Nothing,
    at_most: usize::MAX,
    summary: "ask once and print the answer",
    doc: "Asks a model one question and prints its answer. The words of TEXT are joined by blanks. Each {--file} follows \
as a block with its name. Standard input is read when there is no TEXT, where `-` stands for it, and whenever it is a pipe \
or a file; beside a TEXT it follows as a block of its own.\n\n\
With a key in MOONSHOT_API_KEY or KIMI_API_KEY the service is asked over HTTP, otherwise the `kimi` on the path: Kimi Code \
2, or kimi-cli up to 1.51. The answer is the same; what is different is said: an agent may use tools when {--allow} lets \
it, and text of the steps before its answer goes to standard error.\n\n\
Before anything is sent the prompt is counted, the worst case is held against {--max-tokens}, {--max-usd} and OMK_BUDGET, \
and an open record of it stands in the ledger. What was used is written down as it becomes known, so that a run that is \
killed is not forgotten.\n\n\
A service or agent that fails in a way that may pass is asked again, as {--retries} says, until something of the answer \
was printed.\n\n\
A pattern of {--allow} for commands is compared with the whole command, in which `*` stands for any text. `Shell(git *)` allows \
one plain git command, never one with ; & | < > $ or a line break in it, and not the options and subcommands by which git runs \
or writes something else, such as `-c`, `--exec` or `--output`. A rule allows those by naming them, as \
`Shell(git rebase --exec *)` does. omk has such lists for git, npm, cargo, make, find, tar, curl, python and other known \
programs; of any other program `*` covers everything.\n\n\
In a pattern for files `*` stands for text without a slash, `?` for one character and `**` for any number of directories. A \
relative pattern is taken from the directory that omk runs in. Links are followed before paths are compared, and a link that \
leads out of what is allowed is refused. Files that hold keys, files that something runs by itself (those of git, startup \
files of shells, definitions of CI), and what omk and the agent keep for themselves need a rule with their exact name. What \
Kimi Code reads through omk has to be in that directory and may hold no keys: `Read(PATTERN)` allows more, and patterns for \
files of the directory are then all that may be read of it.\n\n\
A pattern is not a sandbox. It decides on what an agent asks for, by what the request says. A command that was allowed runs the \
project's own code, such as its tests and build scripts, with all the rights of the user; a list of options is never complete; \
and between a decision and the agent's own deed a file can change. Where an agent must not be able to do more than it was \
allowed to, use {--sandbox}.\n\n\
In a loop over lines, keep the loop's input from omk: `while read -r line; do omk prompt \"$line\" < /dev/null; done < lines`. \
A file that the loop has begun to read is not taken as part of the question, with a warning; a pipe cannot be told from one \
that is meant for omk.",
    examples: &[
        (
            "omk prompt \"Which of these functions has no test?\" < src/lib.rs",
            "A question about a file.",
        ),
        (
            "git diff --staged | omk prompt \"Write a commit message\" > msg.txt",
            "Text in, text out.",
        ),
        (
            "omk prompt --json --max-usd 0.20 --deadline 120s --allow Read \"...\" | jq .usage",
            "Limits, and the whole result as JSON.",
        ),
        (
            "omk prompt -f spec.md -f api.rs --image shot.png --system \"You are terse.\" \"...\"",
            "Files, a picture and instructions.",
        ),
        (
            "omk prompt --transport wire --kimi /path/to/kimi --session nightly \"go on\"",
            "A certain agent, and a conversation that goes on.",
        ),
        (
            "omk prompt --replay example \"In one sentence: why count tokens before asking?\"",
            "A recorded answer: works without a key, an agent or a network.",
        ),
    ],
    flags: &[
        FlagGroup {
            title: "Input",
            flags: &[
                &TEMPLATE,
                &VAR,
                &SYSTEM,
                &FILE,
                &IMAGE,
                &shared::DIRECTORY,
                &shared::ALLOW_SECRETS,
                &shared::LOSSY,
                &shared::NO_STDIN,
            ],
        },
        FlagGroup {
            title: "Sending",
            flags: &[
                &DRY_RUN,
                &shared::MODEL,
                &shared::TRANSPORT,
                &shared::BASE_URL,
                &shared::INSECURE,
                &shared::THINKING,
                &TEMPERATURE,
                &shared::RETRIES,
                &shared::IDLE_TIMEOUT,
                &shared::RECORD,
                &shared::REPLAY,
            ],
        },
        FlagGroup {
            title: "Limits",
            flags: &[
                &shared::MAX_USD,
                &shared::MAX_TOKENS,
                &shared::MAX_OUTPUT_TOKENS,
                &shared::DEADLINE,
                &crate::cli::fleet::FLEET_TIMEOUT,
            ],
        },
        FlagGroup {
            title: "Output",
            flags: &[
                &SCHEMA,
                &EXTRACT,
                &RAW,
                &NO_STREAM,
                &OUTPUT_LAST_MESSAGE,
                &shared::JSON,
                &STREAM_JSON,
                &VERBOSE,
                &shared::SHOW_THINKING,
                &shared::QUIET,
            ],
        },
        FlagGroup {
            title: "Agent",
            flags: &[
                &shared::KIMI,
                &ALLOW,
                &shared::SANDBOX,
                &shared::MAX_REPEATS,
                &SESSION,
            ],
        },
        FlagGroup {
            title: "Ledger",
            flags: &[
                &shared::NAME,
                &shared::TAG,
                &shared::PRICE,
                &shared::PRICE_FILE,
                &shared::STRICT_PRICES,
            ],
        },
    ],
    run: |invocation, env| super::run(PromptArgs::resolve(invocation, env)?, env),
};

static SYSTEM: Flag = Flag {
    long: "system",
    short: Some('s'),
    takes: Takes::Value("TEXT", |low, v| {
        low.ask.system = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Instructions for the model. Agents have their own and no place for others, so there it goes before the \
question.",
    configurable: true,
    ..Flag::BLANK
};

static TEMPLATE: Flag = Flag {
    long: "template",
    short: Some('t'),
    takes: Takes::Value("NAME|FILE", |low, v| {
        low.ask.template = Some(v.to_os_string());
        Ok(())
    }),
    doc: "Template of the question. A word names one of `omk templates`, everything else is a path. Its places, such as \
`NAME` in two pairs of braces, are filled by {--var}; `text` stands for the TEXT and `stdin` for standard input, which \
otherwise follow it. A JSON object before its text sets model, system, schema, limits and the like, for flags that are not \
given.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static VAR: Flag = Flag {
    long: "var",
    takes: Takes::Value("NAME=VALUE", |low, v| {
        low.ask.vars.push(value::var(v)?);
        Ok(())
    }),
    doc: "Value for a place of the template. NAME=@FILE takes the content of a file, NAME=@- standard input. Each place needs a \
value, and each value a place.",
    repeats: true,
    ..Flag::BLANK
};

static FILE: Flag = Flag {
    long: "file",
    short: Some('f'),
    takes: Takes::Value("FILE", |low, v| {
        low.ask.file.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "Text file that belongs to the question. It follows the TEXT as a block with its name, in the order given.",
    completes: Completes::Files,
    repeats: true,
    ..Flag::BLANK
};

static IMAGE: Flag = Flag {
    long: "image",
    short: Some('i'),
    takes: Takes::Value("FILE", |low, v| {
        low.ask.image.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "Picture that belongs to the question. PNG, JPEG, GIF or WebP, up to 100 MB. Its tokens are not counted \
before it is sent.",
    completes: Completes::Files,
    repeats: true,
    ..Flag::BLANK
};

static ALLOW: Flag = Flag {
    long: "allow",
    takes: Takes::Value("TOOL[(PATTERN)][,...]", |low, v| {
        low.ask.allow.extend(value::rules(v)?);
        Ok(())
    }),
    doc: "Tools that an agent may use without asking anyone. Names are the agent's, where Shell and Bash, and Read, \
Write and Edit with or without File, mean the same; `all` is every tool. A pattern narrows it to commands, as in `Shell(git *)`, or \
to files, as in `Write(src/**)`; the section on {--allow} above says what a pattern covers. The default is none: what is asked \
for is denied, the answer is printed, and the exit code is 6. kimi-cli and kimi-agent read files without asking. Within a git \
work tree Kimi Code does not ask before it changes a file; it has to hand the file to omk, which writes what is allowed.",
    repeats: true,
    configurable: true,
    ..Flag::BLANK
};

static DRY_RUN: Flag = Flag {
    long: "dry-run",
    takes: Takes::Nothing(|low| low.ask.dry_run = true),
    doc: "Print what would be sent, and send nothing. The destination, tokens, price, worst case and budgets follow on \
standard error, or all of it as JSON with {--json}; nothing is started, and the exit code is 5 where the prompt would be \
refused.",
    ..Flag::BLANK
};

static TEMPERATURE: Flag = Flag {
    long: "temperature",
    takes: Takes::Value("T", |low, v| {
        low.ask.temperature = Some(value::temperature(v)?);
        Ok(())
    }),
    doc: "How varied the answer may be. A decimal from 0 to 2; left out with a warning where the model or the agent \
takes none, as the Kimi models since K2.5. The default is the service's.",
    configurable: true,
    ..Flag::BLANK
};

static SESSION: Flag = Flag {
    long: "session",
    takes: Takes::Value("NAME", |low, v| {
        low.ask.conversation = Some(value::session_name(v)?);
        Ok(())
    }),
    doc: "Conversation to go on with, or to begin. An agent keeps it by this name for the directory it is begun in; \
letters, digits, `.`, `_` and `-`. A service keeps none, so over HTTP this is an error. By default each run begins a new one.",
    ..Flag::BLANK
};

static SCHEMA: Flag = Flag {
    long: "schema",
    takes: Takes::Value("FILE|JSON|FIELDS", |low, v| {
        low.ask.schema = Some(value::schema(v)?);
        Ok(())
    }),
    doc: "JSON Schema that the answer must satisfy. A file, the schema itself when it begins with a brace, or fields in short: \
`name, age int, score float, ok bool: is it sound?`. The answer is checked; one that fails is sent back once with what \
is wrong, and if that does not help the exit code is 4. Checked are type, properties, required, additionalProperties, items, \
enum, const, anyOf, oneOf, allOf, $ref and $defs within the file, and the bounds on numbers, lengths and items; other \
keywords are named in a warning.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static EXTRACT: Flag = Flag {
    long: "extract",
    short: Some('x'),
    takes: Takes::Nothing(|low| low.ask.extract = true),
    doc: "Print only the first code block of the answer. The lines between its fences, without them; an answer without a code \
block goes to standard error, and the exit code is 4.",
    ..Flag::BLANK
};

static RAW: Flag = Flag {
    long: "raw",
    takes: Takes::Nothing(|low| low.ask.raw = true),
    doc: "Print the answer as it came, byte for byte. By default an answer that does not end with a newline gets one.",
    configurable: true,
    ..Flag::BLANK
};

static NO_STREAM: Flag = Flag {
    long: "no-stream",
    short: Some('n'),
    takes: Takes::Nothing(|low| low.ask.no_stream = true),
    doc: "Print the answer when it is complete. By default the answer of a service is printed as it comes.",
    configurable: true,
    ..Flag::BLANK
};

static OUTPUT_LAST_MESSAGE: Flag = Flag {
    long: "output-last-message",
    takes: Takes::Value("FILE", |low, v| {
        low.ask.output_last_message = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Write the answer to FILE too. The file is replaced in one step, when there is an answer.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static VERBOSE: Flag = Flag {
    long: "verbose",
    short: Some('v'),
    takes: Takes::Nothing(|low| low.ask.verbose = true),
    doc: "Print each step to standard error. What is waited for, the session, and the tokens used so far.",
    configurable: true,
    ..Flag::BLANK
};

static STREAM_JSON: Flag = Flag {
    long: "stream-json",
    takes: Takes::Nothing(|low| low.ask.stream_json = true),
    doc: "Print one JSON document a line for each event. The last line is the result, as with {--json}.",
    ..Flag::BLANK
};

/// What `omk prompt` was asked.
#[derive(Debug)]
pub(crate) struct PromptArgs {
    pub(super) ask: AskArgs,
    /// The words of the question.
    pub(super) text: String,
    /// The template that they go into.
    pub(super) template: Option<String>,
    pub(super) vars: Vec<(String, VarValue)>,
    /// Standard input belongs to it.
    pub(super) stdin: bool,
    pub(super) files: Vec<PathBuf>,
    pub(super) images: Vec<PathBuf>,
    pub(super) system: Option<String>,
    pub(super) schema: Option<SchemaSource>,
    /// Only the first code block is printed.
    pub(super) extract: bool,
    /// No newline is added.
    pub(super) raw: bool,
    pub(super) no_stream: bool,
    pub(super) dry_run: bool,
    pub(super) verbose: bool,
    pub(super) last_message: Option<PathBuf>,
    pub(super) thinking: Option<crate::cli::flags::value::Thinking>,
    pub(super) temperature: Option<f64>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) lossy: bool,
    pub(super) show: Show,
    pub(super) show_thinking: bool,
}

impl PromptArgs {
    /// Settles defaults and conflicts.
    ///
    /// # Errors
    ///
    /// Arguments that exclude each other, or no question at all.
    pub(crate) fn resolve(invocation: Invocation, env: &mut Env) -> Result<PromptArgs, UsageError> {
        let Invocation { mut low, given, .. } = invocation;
        let ask = AskArgs::resolve(&mut low, &given, env)?;
        let mut dashes = 0;
        let mut words = Vec::new();
        for word in &low.positionals {
            if word == "-" {
                dashes += 1;
                continue;
            }
            let word = word.to_str().ok_or_else(|| {
                UsageError::new(format!("`{}` is not UTF-8", escape_os(word)))
                    .hint("give the text on standard input, with --lossy if it is damaged")
            })?;
            words.push(word);
        }
        if !low.is_literal && dashes == 0 {
            let otherwise = [
                "`omk prompt --file {} TEXT` asks about what is in it",
                "`omk prompt < {}` asks what is in it",
            ];
            typos::refuse_file("prompt", &words, &otherwise)?;
        }
        if dashes > 1 {
            return Err(UsageError::new(
                "`-` is given twice; standard input can be read once",
            ));
        }
        if dashes > 0 && low.no_stdin {
            return Err(UsageError::conflict("--no-stdin", "`-`"));
        }
        let fills_stdin = low
            .ask
            .vars
            .iter()
            .filter(|(_, value)| *value == VarValue::Stdin);
        let fills_stdin = fills_stdin.count() > 0;
        if fills_stdin && low.no_stdin {
            return Err(UsageError::conflict("--no-stdin", "--var NAME=@-"));
        }
        if !low.ask.vars.is_empty() && low.ask.template_body.is_none() {
            return Err(UsageError::new("--var fills a template, and there is none")
                .hint("--template NAME or FILE gives one"));
        }
        let is_silent =
            words.is_empty() && low.ask.file.is_empty() && low.ask.template_body.is_none();
        if is_silent && low.no_stdin {
            return Err(
                UsageError::new("--no-stdin leaves nothing to ask").hint("give a TEXT or a --file")
            );
        }
        if low.ask.dry_run && low.ask.stream_json {
            return Err(UsageError::conflict("--dry-run", "--stream-json")
                .hint("--json prints one document"));
        }
        let structured = low.json || low.ask.stream_json;
        if low.ask.extract && (structured || low.ask.schema.is_some()) {
            let other = match (low.ask.stream_json, low.json) {
                (true, _) => "--stream-json",
                (_, true) => "--json",
                _ => "--schema",
            };
            return Err(UsageError::conflict("--extract", other)
                .hint("--extract prints a code block of the answer, and nothing else"));
        }
        let stdin = !low.no_stdin && (dashes > 0 || is_silent || fills_stdin || env.takes_stdin());
        Ok(PromptArgs {
            ask,
            text: words.join(" "),
            template: low.ask.template_body.take(),
            vars: std::mem::take(&mut low.ask.vars),
            stdin,
            files: std::mem::take(&mut low.ask.file),
            images: std::mem::take(&mut low.ask.image),
            system: low.ask.system.take(),
            schema: low.ask.schema.take(),
            extract: low.ask.extract,
            raw: low.ask.raw,
            no_stream: low.ask.no_stream,
            dry_run: low.ask.dry_run,
            verbose: low.ask.verbose,
            last_message: low.ask.output_last_message.take(),
            thinking: low.ask.thinking,
            temperature: low.ask.temperature,
            max_output_tokens: low.ask.max_output_tokens,
            lossy: low.lossy,
            show: match (low.ask.stream_json, low.json) {
                (true, _) => Show::Stream,
                (false, true) => Show::Json,
                (false, false) => Show::Text,
            },
            show_thinking: low.ask.show_thinking,
        })
    }
}
