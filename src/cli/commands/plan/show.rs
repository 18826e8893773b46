//! `omk plan show`: a plan that there is, in another form.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::commands::plan;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::ErrorReport;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::flags::Invocation;
use crate::cli::flags::UsageError;
use crate::cli::flags::value::Format;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, shared};
use crate::cli::input::Source;
use crate::cli::prices;
use crate::plan::document::PlanDocument;
use crate::plan::document::PlanMembers;
use crate::plan::render;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "plan show",
    positionals: "FILE",
    completes: Completes::Files,
    at_most: 1,
    summary: "print a plan as text, Markdown, a graph or CSV",
    doc: "Prints the plan in FILE (`-` for standard input): slices by wave, the files they write, the critical path, \
the criteria, and what carrying it out may cost.\n\n\
The price is the one in the file, unless {--model} is given or the file has none. Then it is estimated from the plan's \
own token figures or from each slice's difficulty. The basis is printed with it.",
    examples: &[
        ("omk plan show plan.json", "A plan to read."),
        (
            "omk plan show plan.json --format mermaid",
            "Its graph, for a Markdown document.",
        ),
        (
            "omk plan show plan.json --format csv --model kimi-k3",
            "A row for each slice.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &plan::FORMAT,
            &MODEL,
            &shared::PRICE_FILE,
            &shared::READ_DEADLINE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(ShowArgs::resolve(invocation, env)?, env),
};

static MODEL: Flag = Flag {
    doc: "Model to price for. The default is kimi-k3; `omk models` lists the others.",
    ..shared::MODEL
};

/// What `omk plan show` was asked.
#[derive(Debug)]
pub(crate) struct ShowArgs {
    input: Source,
    format: Format,
    model: String,
    /// Whether the model was typed, so that its price replaces the one in the file.
    reprices: bool,
    price_files: Vec<PathBuf>,
    deadline: Deadline,
}

impl ShowArgs {
    /// Needs a file.
    pub(crate) fn resolve(invocation: Invocation, env: &Env) -> Result<ShowArgs, UsageError> {
        let typed = |flag: &str| invocation.given.contains(&flag);
        let reprices = typed("model") || typed("price-file");
        let low = invocation.low;
        let format = plan::format(&low)?;
        let Some(input) = plan::sources(low.positionals)?.pop() else {
            return Err(UsageError::new("plan show needs a FILE").hint("`-` is standard input"));
        };
        Ok(ShowArgs {
            input,
            format,
            model: plan::model(low.model)?,
            reprices,
            price_files: low.price_file,
            deadline: Deadline::new(env.started, low.deadline),
        })
    }
}

/// Prints the plan.
pub(crate) fn run(args: ShowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let mut document = plan::load(&args.input, args.deadline, env)?;
    // A graph has no price on it.
    let priced = !matches!(args.format, Format::Mermaid | Format::Dot | Format::Csv);
    if priced && (args.reprices || document.estimate.is_none()) {
        let catalog = prices::load(&args.price_files, env)?;
        document.estimate = Some(plan::estimate(&document.plan, &args.model, &catalog, env));
    }
    print(&document, args.format, env)?;
    Ok(Exit::Done)
}

/// Prints a valid plan in a form of [`render`].
pub(crate) fn print(document: &PlanDocument, format: Format, env: &mut Env) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let warnings = env.output.warnings().to_vec();
            env.output.json(&Shown {
                plan: PlanMembers::of(document),
                ok: true,
                exit: Exit::Done.code(),
                warnings: &warnings,
                error: None,
            })
        }
        Format::Markdown => env.output.print(&render::markdown(document)),
        Format::Mermaid => env.output.print(&render::mermaid(&document.plan)),
        Format::Dot => env.output.print(&render::dot(&document.plan)),
        Format::Csv => env.output.print(&render::csv(&document.plan)),
        _ => env.output.print(&render::text(document)),
    }
}

/// `omk.plan/1` as a result: the plan, and how the run went.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    plan: PlanMembers<'a>,
    ok: bool,
    exit: u8,
    warnings: &'a [String],
    error: Option<ErrorReport<'a>>,
}
