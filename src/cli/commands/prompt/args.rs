//! What `omk prompt` takes: its place in the table of commands, its flags, and what they come to.

use std::path::PathBuf;

use crate::cli::ask::AskArgs;
use crate::cli::ask::screen::{Show, Shows};
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
    doc: "Asks a model one question and prints the answer. The words of TEXT are joined by spaces. Each {--file} \
follows as a block with its name. Standard input is read if there is no TEXT, if `-` stands for it, and if it is a \
pipe or a file; with a TEXT it follows as a block.\n\n\
With a key in MOONSHOT_API_KEY or KIMI_API_KEY omk asks the service over HTTP. Otherwise it asks the `kimi` on the \
path: Kimi Code 2, or kimi-cli up to 1.51. Your scripts work the same with either. An agent may use tools if {--allow} \
permits them.\n\n\
Before anything is sent, omk counts the prompt, checks the worst case against {--max-tokens}, {--max-usd} and \
OMK_BUDGET, and writes an open record to the ledger. It updates the record as usage becomes known, so a run that is \
killed is not lost. See omk-ledger(7).\n\n\
A temporary failure is retried, see {--retries}, unless part of the answer was already printed.\n\n\
{--allow} takes tools with patterns. In a pattern for commands `*` stands for any text: `Shell(git *)` allows one \
plain git command, never a second one after ; & | or a line break, and none of the options by which git runs or writes \
something else, such as `-c` or `--output`. To allow one of those, name it: `Shell(git rebase --exec *)`. In a pattern \
for files `*` stays within a directory and `**` crosses directories; links are resolved first. Files that hold keys or \
that something runs by itself need their exact name. A pattern is not a sandbox: an allowed command can run anything. \
Use {--sandbox} where that matters. See omk-security(7).\n\n\
In a loop over lines, keep the loop's input away from omk: `while read -r line; do omk prompt \"$line\" < /dev/null; \
done < lines`. omk ignores a file that the loop has begun to read, with a warning; it cannot tell a pipe from one that \
is meant for it.",
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
                &SHOW_STEPS,
                &SHOW_TOOLS,
                &shared::SHOW_THINKING,
                &shared::QUIET,
            ],
        },
        FlagGroup {
            title: "Agent",
            flags: &[
                &shared::KIMI,
                &ALLOW,
                &ASK,
                &shared::ADD_DIR,
                &shared::SANDBOX,
                &shared::MAX_STEPS,
                &shared::MAX_REPEATS,
                &SESSION,
                &CONTINUE,
            ],
        },
        shared::LEDGER,
    ],
    run: |invocation, env| super::run(PromptArgs::resolve(invocation, env)?, env),
};

pub(in crate::cli::commands) static SYSTEM: Flag = Flag {
    long: "system",
    short: Some('s'),
    takes: Takes::Value("TEXT", |low, v| {
        low.ask.system = Some(value::name(v)?);
        Ok(())
    }),
    doc: "Instructions for the model. An agent has its own, so there the text goes before the question.",
    configurable: true,
    ..Flag::BLANK
};

pub(crate) static TEMPLATE: Flag = Flag {
    long: "template",
    short: Some('t'),
    takes: Takes::Value("NAME|FILE", |low, v| {
        low.ask.template = Some(v.to_os_string());
        Ok(())
    }),
    doc: "Template of the question. A word is a name from `omk templates`, everything else a path. {--var} fills its \
places; `text` stands for the TEXT and `stdin` for standard input, which otherwise follow it. A JSON object before the \
text can set model, system, schema and limits. See `omk help templates`.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static VAR: Flag = Flag {
    long: "var",
    takes: Takes::Value("NAME=VALUE", |low, v| {
        low.ask.vars.push(value::var(v)?);
        Ok(())
    }),
    doc: "Value for a place of the template. NAME=@FILE takes the content of a file, NAME=@- standard input. Every \
place needs a value.",
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
    doc: "Text file to add to the question. It follows the TEXT as a block with its name, in the order given.",
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
    doc: "Picture to add to the question. PNG, JPEG, GIF or WebP, up to 100 MB. Its tokens are not counted in advance.",
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
    doc: "Tools that an agent may use. A tool, a tool with a pattern for commands or files, such as `Shell(git *)` or \
`Write(src/**)`, or all. Shell and Bash mean the same, and so do Read and ReadFile, Write and WriteFile, Edit and \
EditFile. By default every request is denied; the answer is printed and the exit code is 6. See omk-security(7).",
    repeats: true,
    configurable: true,
    ..Flag::BLANK
};

static ASK: Flag = Flag {
    long: "ask",
    takes: Takes::Nothing(|low| low.ask.asks = true),
    doc: "Ask at the terminal about tools that no rule allows. The answer is y for this once, a for whatever else the rule shown \
allows until the end of the run, or n. Without a terminal this is an error. The wait counts for {--deadline}; questions of the model \
and plans are still refused.",
    ..Flag::BLANK
};

pub(in crate::cli::commands) static DRY_RUN: Flag = Flag {
    long: "dry-run",
    takes: Takes::Nothing(|low| low.ask.dry_run = true),
    doc: "Print what would be sent, and send nothing. Destination, tokens, price, worst case and budgets follow on \
standard error, or as JSON with {--json}. The exit code is 5 if the prompt would be refused.",
    ..Flag::BLANK
};

pub(in crate::cli::commands) static TEMPERATURE: Flag = Flag {
    long: "temperature",
    takes: Takes::Value("T", |low, v| {
        low.ask.temperature = Some(value::temperature(v)?);
        Ok(())
    }),
    doc: "How varied the answer may be. A decimal from 0 to 2. It is ignored with a warning if the model or agent \
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
    doc: "Conversation to go on with, or to begin. A name of letters, digits, `.`, `_` and `-`. An agent keeps it by this name for the \
directory it is begun in. A service keeps none, so over HTTP omk does, for this user alone: each turn sends the earlier ones again, a note \
on standard error says what was sent and what the service's cache covered, and `omk sessions` lists, shows and removes them; the \
model and the instructions are those of the turn before unless others are given. By default each run begins a new one.",
    ..Flag::BLANK
};

static CONTINUE: Flag = Flag {
    long: "continue",
    short: Some('c'),
    takes: Takes::Nothing(|low| low.ask.resume = true),
    doc: "Continue the newest conversation with a service. {--session} names another; `omk sessions list` shows them.",
    ..Flag::BLANK
};

pub(in crate::cli::commands) static SCHEMA: Flag = Flag {
    long: "schema",
    takes: Takes::Value("FILE|JSON|FIELDS", |low, v| {
        low.ask.schema = Some(value::schema(v)?);
        Ok(())
    }),
    doc: "JSON Schema that the answer must match. A file, the schema itself, or fields such as `name, age int, score \
float, ok bool: is it sound?`. An answer that does not match is sent back once with the errors; if the second one \
fails too, the exit code is 4. Supported: type, properties, required, additionalProperties, items, enum, const, anyOf, \
oneOf, allOf, $ref and $defs within the file, and bounds on numbers, lengths and items. Other keywords cause a \
warning.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static EXTRACT: Flag = Flag {
    long: "extract",
    short: Some('x'),
    takes: Takes::Nothing(|low| low.ask.extract = true),
    doc: "Print only the first code block of the answer. Without its fences. If there is none, the answer goes to \
standard error and the exit code is 4.",
    ..Flag::BLANK
};

static RAW: Flag = Flag {
    long: "raw",
    takes: Takes::Nothing(|low| low.ask.raw = true),
    doc: "Print the answer byte for byte. By default an answer without a newline at its end gets one.",
    configurable: true,
    ..Flag::BLANK
};

static NO_STREAM: Flag = Flag {
    long: "no-stream",
    short: Some('n'),
    takes: Takes::Nothing(|low| low.ask.no_stream = true),
    doc: "Print the answer when it is complete. By default the answer of a service is printed as it arrives.",
    configurable: true,
    ..Flag::BLANK
};

static OUTPUT_LAST_MESSAGE: Flag = Flag {
    long: "output-last-message",
    takes: Takes::Value("FILE", |low, v| {
        low.ask.output_last_message = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "Write the answer to FILE too. The file is replaced atomically, when there is an answer.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static VERBOSE: Flag = Flag {
    long: "verbose",
    short: Some('v'),
    takes: Takes::Nothing(|low| low.ask.verbose = true),
    doc: "Print each step to standard error. What omk waits for, the session, and the tokens used so far.",
    configurable: true,
    ..Flag::BLANK
};

static SHOW_STEPS: Flag = Flag {
    long: "show-steps",
    takes: Takes::Nothing(|low| low.ask.show_steps = true),
    doc: "Print an agent's text to standard error as it comes. By default the text of a step appears there when the next step begins. \
The answer is printed to standard output in either case, when it is complete.",
    configurable: true,
    ..Flag::BLANK
};

static SHOW_TOOLS: Flag = Flag {
    long: "show-tools",
    takes: Takes::Nothing(|low| low.ask.show_tools = true),
    doc: "Show the tools that an agent uses. On a terminal the line of progress names the tool and the start of its arguments; elsewhere \
each has a line on standard error. With {--stream-json} there are events `tool`, `permission` and `tool_result`, as `omk help --schema event` \
says.",
    configurable: true,
    ..Flag::BLANK
};

static STREAM_JSON: Flag = Flag {
    long: "stream-json",
    takes: Takes::Nothing(|low| low.ask.stream_json = true),
    doc: "Print one JSON document per line for each event. `omk help --schema event` lists the events. The last line is the result, \
as with {--json}.",
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
    pub(super) last_message: Option<PathBuf>,
    pub(super) thinking: Option<crate::cli::flags::value::Thinking>,
    pub(super) temperature: Option<f64>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) lossy: bool,
    pub(super) show: Show,
    pub(super) shows: Shows,
    /// A person is asked about tools that no rule allows.
    pub(super) asks: bool,
    /// A turn of the newest conversation.
    pub(super) resume: bool,
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
                "`omk prompt --file {} TEXT` asks about its content",
                "`omk prompt < {}` sends its content",
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
            return Err(
                UsageError::new("--var needs --template").hint("--template NAME or FILE gives one")
            );
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
        if low.ask.resume && ask.conversation.is_some() {
            return Err(UsageError::conflict("--continue", "--session"));
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
            shows: Shows {
                thinking: low.ask.show_thinking,
                steps: low.ask.show_steps,
                tools: low.ask.show_tools,
                verbose: low.ask.verbose,
            },
            asks: low.ask.asks,
            resume: low.ask.resume,
        })
    }
}
