//! The arguments of `omk batch`: its place in the table, its own flags, and what they come to.

use std::path::PathBuf;

use crate::batch::input::Format;
use crate::cli::ask::AskArgs;
use crate::cli::commands::prompt::args as prompt;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::flags::value::{self, SchemaSource, Thinking};
use crate::cli::flags::{
    CommandSpec, Completes, Flag, FlagGroup, Invocation, Takes, UsageError, shared,
};

/// The default number of workers.
const JOBS: u64 = 8;
/// The most workers: each is a process.
const MOST_JOBS: u64 = 256;
/// The default number of attempts after the first, as in Kimi Code.
const RETRIES: u32 = 9;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "batch",
    positionals: "[FILE|-]",
    completes: Completes::Files,
    at_most: 1,
    summary: "ask thousands of prompts within one budget, resumable",
    doc: "Asks every prompt of FILE, or of standard input, and writes one omk.result/1 document a line to the file of \
{--output}, with the prompt's id, as the answers come.\n\n\
FILE is JSONL, one object a line: `id` and `prompt`, or `messages` that end with one of the user; optional are `system`, `model`, `schema`, \
`image` (a file or a list of them), `vars` and `max_output_tokens`. Or it is CSV with a header row, where a column that is \
none of these is a variable. Or it is plain lines, which need a {--template}. A prompt of CSV or of plain lines without an id is \
named by its line. The name of FILE decides what it is, else its beginning, else {--as}. With {--template} the \
prompt fills the place `text`, or follows the template, and variables fill the other places; without one they fill places of the \
prompt itself.\n\n\
The whole input is checked before anything is sent: form, unique ids, templates, schemas, pictures, keys that look like secrets, windows and \
prices. The same command resumes a batch that was stopped or killed at any moment: what was answered is not asked again. A prompt that \
was under way when the batch was killed, or whose connection broke, may have been billed; it is asked again only with {--retry-unknown}. \
Until every prompt is answered two files stand beside the output, OUT.journal and OUT.rescue, and a batch resumes from them. \
Prompts that failed are written to OUT.failed.jsonl, which is an input itself.\n\n\
The prompts are asked by as many processes of omk as {--jobs} says, at one pace: a 429 stops all of them for as long as the \
service asks and halves how many prompts are under way, which then grows again one by one. {--max-usd} is for the batch as a \
whole, all its runs together: it ends with exit code 5 before the first prompt whose worst case does not fit. Budgets of \
OMK_BUDGET hold too. Where a cap, a budget or {--tpm} needs a bound on answers and there is none, it is 32768 tokens. Each prompt \
is a run in the ledger with the tag `batch`. The exit code is 0 when every prompt is answered, 3 when an answer \
was cut, 4 when one does not satisfy its schema.\n\n\
In memory omk keeps four bytes for each prompt; the index of the ids is a temporary file of 24 bytes a prompt beside the output.",
    examples: &[
        (
            "omk batch prompts.jsonl -o answers.jsonl -j 16 --max-usd 5",
            "Sixteen at once, for 5 USD at most. The same command resumes it.",
        ),
        (
            "omk batch prompts.jsonl --dry-run",
            "Check the input, count it and price it; nothing is sent.",
        ),
        (
            "omk batch words.txt -t translate.txt -o out.jsonl --ordered",
            "A line a prompt; answers in the order of the lines.",
        ),
        (
            "omk batch out.failed.jsonl -o again.jsonl --keep-going",
            "Once more what failed.",
        ),
    ],
    flags: &[
        FlagGroup {
            title: "Input",
            flags: &[
                &AS,
                &TEMPLATE,
                &prompt::SYSTEM,
                &prompt::SCHEMA,
                &shared::DIRECTORY,
                &shared::ALLOW_SECRETS,
            ],
        },
        FlagGroup {
            title: "Output",
            flags: &[
                &OUTPUT,
                &ORDERED,
                &prompt::DRY_RUN,
                &shared::JSON,
                &shared::QUIET,
            ],
        },
        FlagGroup {
            title: "Sending",
            flags: &[
                &JOBS_FLAG,
                &RPM,
                &TPM,
                &shared::MODEL,
                &shared::BASE_URL,
                &shared::INSECURE,
                &shared::THINKING,
                &prompt::TEMPERATURE,
                &shared::IDLE_TIMEOUT,
            ],
        },
        FlagGroup {
            title: "Failures",
            flags: &[&shared::RETRIES, &RETRY_UNKNOWN, &KEEP_GOING, &MAX_FAILURES],
        },
        FlagGroup {
            title: "Limits",
            flags: &[
                &shared::MAX_USD,
                &shared::MAX_OUTPUT_TOKENS,
                &shared::DEADLINE,
                &crate::cli::fleet::FLEET_TIMEOUT,
            ],
        },
        shared::LEDGER,
    ],
    run: |invocation, env| super::run(BatchArgs::resolve(invocation, env)?, env),
};

static OUTPUT: Flag = Flag {
    long: "output",
    short: Some('o'),
    takes: Takes::Value("OUT", |low, v| {
        low.batch.output = Some(PathBuf::from(v));
        Ok(())
    }),
    doc: "File of the answers. One omk.result/1 document a line, synced to disk as they come; a batch that was begun with it is resumed.",
    completes: Completes::Files,
    ..Flag::BLANK
};

static AS: Flag = Flag {
    long: "as",
    takes: Takes::Value("FORMAT", |low, v| {
        let formats =
            [Format::Jsonl, Format::Csv, Format::Lines].map(|format| (format.name(), format));
        low.batch.read_as = Some(value::choice(v, &formats)?);
        Ok(())
    }),
    doc: "Format of the input. The default follows from the name of the file, or from how its text begins.",
    choices: &["jsonl", "csv", "lines"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static TEMPLATE: Flag = Flag {
    doc: "Template of the prompts. A word names one of `omk templates`, everything else is a path. The prompt fills the \
place `text`, or follows the template; variables fill the other places.",
    ..prompt::TEMPLATE
};

static ORDERED: Flag = Flag {
    long: "ordered",
    takes: Takes::Nothing(|low| low.batch.ordered = true),
    doc: "Write the answers in the order of the input. They are collected in OUT.unordered, and OUT is written when the batch ends.",
    ..Flag::BLANK
};

static JOBS_FLAG: Flag = Flag {
    long: "jobs",
    short: Some('j'),
    takes: Takes::Value("N", |low, v| {
        low.batch.jobs = Some(positive(v, MOST_JOBS)?);
        Ok(())
    }),
    doc: "How many prompts are asked at once. From 1 to 256, each by a process of its own; the default is 8.",
    configurable: true,
    ..Flag::BLANK
};

static RPM: Flag = Flag {
    long: "rpm",
    takes: Takes::Value("N", |low, v| {
        low.batch.rpm = Some(positive(v, u64::MAX)?);
        Ok(())
    }),
    doc: "Most requests in any minute. Attempts that are made again count too; there is no limit by default.",
    configurable: true,
    ..Flag::BLANK
};

static TPM: Flag = Flag {
    long: "tpm",
    takes: Takes::Value("N", |low, v| {
        low.batch.tpm = Some(positive(v, u64::MAX)?);
        Ok(())
    }),
    doc: "Most tokens in any minute. Those of the prompts and of the longest answers together, which is how Moonshot counts; k and M are \
allowed. There is no limit by default.",
    configurable: true,
    ..Flag::BLANK
};

static KEEP_GOING: Flag = Flag {
    long: "keep-going",
    short: Some('k'),
    takes: Takes::Nothing(|low| low.batch.keep_going = true),
    doc: "Go on after prompts that failed. Without it the batch stops at the first; with it only a failure that every prompt would \
meet stops it, such as a refused key.",
    ..Flag::BLANK
};

static MAX_FAILURES: Flag = Flag {
    long: "max-failures",
    takes: Takes::Value("N", |low, v| {
        low.batch.max_failures = Some(positive(v, u64::MAX)?);
        Ok(())
    }),
    doc: "Stop when so many prompts have failed. Those under way are finished; the default is 1.",
    ..Flag::BLANK
};

static RETRY_UNKNOWN: Flag = Flag {
    long: "retry-unknown",
    takes: Takes::Nothing(|low| low.batch.retry_unknown = true),
    doc: "Ask again what may have been billed. That is a prompt that was under way when the batch was killed, and one whose answer broke \
off; it may be paid for twice.",
    ..Flag::BLANK
};

fn positive(value: &std::ffi::OsStr, most: u64) -> Result<u64, String> {
    match value::count(value)? {
        0 => Err("0 would never ask anything".to_string()),
        count if count > most => Err(format!("`{count}` is too many; the most is {most}")),
        count => Ok(count),
    }
}

/// What `omk batch` was asked.
#[derive(Debug)]
pub(crate) struct BatchArgs {
    pub(super) ask: AskArgs,
    /// `None` for standard input.
    pub(super) input: Option<PathBuf>,
    pub(super) read_as: Option<Format>,
    pub(super) template: Option<String>,
    pub(super) system: Option<String>,
    pub(super) schema: Option<SchemaSource>,
    pub(super) thinking: Option<Thinking>,
    pub(super) temperature: Option<f64>,
    pub(super) max_output_tokens: Option<u64>,
    /// `None` only of a dry run.
    pub(super) output: Option<PathBuf>,
    pub(super) ordered: bool,
    pub(super) dry_run: bool,
    pub(super) jobs: usize,
    pub(super) rpm: Option<u64>,
    pub(super) tpm: Option<u64>,
    pub(super) retries: u32,
    pub(super) retry_unknown: bool,
    pub(super) max_failures: Option<u64>,
    pub(super) json: bool,
}

impl BatchArgs {
    /// Settles defaults and conflicts.
    ///
    /// # Errors
    ///
    /// Arguments that exclude each other, or no output.
    pub(crate) fn resolve(invocation: Invocation, env: &Env) -> Result<BatchArgs, UsageError> {
        let Invocation { mut low, given, .. } = invocation;
        let mut ask = AskArgs::resolve(&mut low, &given, env)?;
        // A batch takes as long as it takes.
        ask.deadline = Deadline::new(env.started, low.deadline);
        let input = low.positionals.pop().filter(|name| name != "-");
        if input.is_none() && env.stdin.is_terminal() {
            return Err(UsageError::new("there is no input")
                .hint("name a FILE of prompts, or pipe them in with `-`"));
        }
        let batch = low.batch;
        if batch.output.is_none() && !low.ask.dry_run {
            return Err(
                UsageError::new("--output is missing: where do the answers go?").hint(
                    "-o OUT.jsonl names the file; --dry-run checks the input and sends nothing",
                ),
            );
        }
        if batch.keep_going && batch.max_failures.is_some() {
            return Err(UsageError::conflict("--keep-going", "--max-failures"));
        }
        let max_failures = match batch.keep_going {
            true => None,
            false => Some(batch.max_failures.unwrap_or(1)),
        };
        let retries = ask.retries.unwrap_or(RETRIES);
        Ok(BatchArgs {
            ask,
            input: input.map(PathBuf::from),
            read_as: batch.read_as,
            template: low.ask.template_body.take(),
            system: low.ask.system.take(),
            schema: low.ask.schema.take(),
            thinking: low.ask.thinking,
            temperature: low.ask.temperature,
            max_output_tokens: low.ask.max_output_tokens,
            output: batch.output,
            ordered: batch.ordered,
            dry_run: low.ask.dry_run,
            jobs: usize::try_from(batch.jobs.unwrap_or(JOBS)).unwrap_or(1),
            rpm: batch.rpm,
            tpm: batch.tpm,
            retries,
            retry_unknown: batch.retry_unknown,
            max_failures,
            json: low.json,
        })
    }
}
