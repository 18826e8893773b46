//! What `omk plan` takes: its place in the table of commands, its flags, and what they come to.

use std::path::PathBuf;

use crate::cli::ask::AskArgs;
use crate::cli::commands::plan;
use crate::cli::env::Env;
use crate::cli::flags::value::Format;
use crate::cli::flags::{
    CommandSpec, Completes, Flag, FlagGroup, Invocation, Takes, UsageError, shared,
};
use crate::cli::typos;
use crate::plan::document::SCHEMA;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "plan",
    positionals: "[GOAL]...",
    completes: Completes::Nothing,
    at_most: usize::MAX,
    summary: "turn a goal into a validated, priced plan",
    doc: "Asks a model to plan GOAL and validates the answer: unique slice ids, no cycles, no unknown dependencies, no \
two slices that run at the same time and write the same file, and acceptance criteria. An invalid plan is sent back \
once with the errors. If the second one is invalid too, the exit code is 4. Without a GOAL, standard input is the \
goal; otherwise it follows the goal as a text.\n\n\
The model is given names and figures about the directory ({--no-context} turns that off, {--dry-run} shows it). An \
agent plans without any permission, so planning changes nothing.\n\n\
The plan is printed with its waves (slices that can run at the same time), its critical path, what planning cost and \
what carrying it out may cost. Model, limits, retries, recordings and the ledger work as in `omk prompt`.",
    examples: &[
        (
            "omk plan \"Add OAuth login to the API\"",
            "A plan to read: kind, complexity, slices in waves, criteria, price.",
        ),
        (
            "omk plan --json < goal.md > plan.json",
            "The same as JSON, schema omk.plan/1.",
        ),
        (
            "omk plan --classify-only \"Make it faster\"",
            "What kind of goal it is, and whether it is vague.",
        ),
        (
            "omk plan --max-usd 0.10 --format markdown \"Add OAuth login\" > PLAN.md",
            "With a limit, as Markdown.",
        ),
    ],
    flags: &[
        FlagGroup {
            title: "Input",
            flags: &[
                &CONTEXT,
                &NO_CONTEXT,
                &shared::DIRECTORY,
                &shared::LOSSY,
                &shared::NO_STDIN,
            ],
        },
        FlagGroup {
            title: "Planning",
            flags: &[&CLASSIFY_ONLY, &SEPARATELY, &plan::STRICT],
        },
        FlagGroup {
            title: "Sending",
            flags: &[
                &DRY_RUN,
                &shared::MODEL,
                &shared::TRANSPORT,
                &shared::BASE_URL,
                &shared::INSECURE,
                &shared::ALLOW_SECRETS,
                &shared::THINKING,
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
                &plan::FORMAT,
                &shared::JSON,
                &shared::SHOW_THINKING,
                &shared::QUIET,
            ],
        },
        FlagGroup {
            title: "Agent",
            flags: &[&shared::KIMI],
        },
        shared::LEDGER,
    ],
    run: |invocation, env| super::run(MakeArgs::resolve(invocation, env)?, env),
};

static CONTEXT: Flag = Flag {
    long: "context",
    takes: Takes::Value("FILE", |low, v| {
        low.plan.context.push(PathBuf::from(v));
        Ok(())
    }),
    doc: "Text file to show the model beside the goal. Such as a specification or notes on the code.",
    completes: Completes::Files,
    repeats: true,
    ..Flag::BLANK
};

static NO_CONTEXT: Flag = Flag {
    long: "no-context",
    takes: Takes::Nothing(|low| low.plan.no_context = true),
    doc: "Give the model nothing but the goal. By default it gets languages, number of files, top-level names, tests, \
CI and build system of the directory, never the content of a file. Files that .gitignore covers are left out.",
    configurable: true,
    ..Flag::BLANK
};

static DRY_RUN: Flag = Flag {
    long: "dry-run",
    takes: Takes::Nothing(|low| low.plan.dry_run = true),
    doc: "Print what would be sent, and send nothing. Tokens and price follow on standard error; no network is used.",
    ..Flag::BLANK
};

static CLASSIFY_ONLY: Flag = Flag {
    long: "classify-only",
    takes: Takes::Nothing(|low| low.plan.classify_only = true),
    doc: "Only classify the goal. Prints the kind, the confidence and the reason; a request of a few hundred tokens.",
    ..Flag::BLANK
};

static SEPARATELY: Flag = Flag {
    long: "separately",
    takes: Takes::Nothing(|low| low.plan.separately = true),
    doc: "Ask for each part of the plan separately. Four requests for kind, slices, criteria and complexity, for \
models that do worse with everything at once.",
    configurable: true,
    ..Flag::BLANK
};

/// What `omk plan` was asked.
#[derive(Debug)]
pub(crate) struct MakeArgs {
    pub(super) ask: AskArgs,
    pub(super) goal: String,
    pub(super) stdin: bool,
    pub(super) context: Vec<PathBuf>,
    /// The model is told of the repository.
    pub(super) tells_repo: bool,
    pub(super) dry_run: bool,
    pub(super) classify_only: bool,
    pub(super) separately: bool,
    pub(super) strict: bool,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) lossy: bool,
    pub(super) show_thinking: bool,
    pub(super) format: Format,
}

impl MakeArgs {
    /// Settles defaults and conflicts.
    ///
    /// # Errors
    ///
    /// Arguments that exclude each other, or no goal at all.
    pub(crate) fn resolve(invocation: Invocation, env: &mut Env) -> Result<MakeArgs, UsageError> {
        let Invocation { mut low, given, .. } = invocation;
        let ask = AskArgs::resolve(&mut low, &given, env)?;
        let format = plan::format(&low)?;
        let mut words = Vec::new();
        let mut dashes = 0;
        for word in &low.positionals {
            match word.to_str() {
                Some("-") => dashes += 1,
                Some(word) => words.push(word),
                None => {
                    return Err(UsageError::new("the goal is not UTF-8")
                        .hint("give it on standard input, with --lossy if it is damaged"));
                }
            }
        }
        if !low.is_literal && dashes == 0 {
            typos::refuse_command(&words)?;
            let otherwise = [
                "`omk plan check {}` checks the plan in it",
                "`omk plan --context {} GOAL` shows it to the model",
                "`omk plan < {}` plans the goal in it",
            ];
            typos::refuse_file("plan", &words, &otherwise)?;
        }
        if dashes > 1 {
            return Err(UsageError::new(
                "`-` is given twice; standard input can be read once",
            ));
        }
        if low.no_stdin && dashes > 0 {
            return Err(UsageError::conflict("--no-stdin", "`-`"));
        }
        if low.no_stdin && words.is_empty() {
            return Err(UsageError::new("--no-stdin leaves no goal to plan").hint("give a GOAL"));
        }
        let drawn = matches!(
            format,
            Format::Markdown | Format::Mermaid | Format::Dot | Format::Csv
        );
        for (flag, is_given) in [
            ("--classify-only", low.plan.classify_only),
            ("--dry-run", low.plan.dry_run),
        ] {
            if is_given && drawn {
                return Err(UsageError::conflict(flag, "--format").hint("it prints text or --json"));
            }
        }
        if low.plan.no_context && !low.plan.context.is_empty() {
            return Err(UsageError::conflict("--context", "--no-context"));
        }
        Ok(MakeArgs {
            ask,
            goal: words.join(" "),
            stdin: !low.no_stdin && (dashes > 0 || words.is_empty() || env.takes_stdin()),
            context: low.plan.context,
            tells_repo: !low.plan.no_context,
            dry_run: low.plan.dry_run,
            classify_only: low.plan.classify_only,
            separately: low.plan.separately,
            strict: low.strict,
            max_output_tokens: low.ask.max_output_tokens,
            lossy: low.lossy,
            show_thinking: low.ask.show_thinking,
            format,
        })
    }

    /// The name of the document's schema.
    pub(super) fn schema(&self) -> &'static str {
        match self.classify_only {
            true => "omk.classification/1",
            false => SCHEMA,
        }
    }
}
