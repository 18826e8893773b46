//! `omk plan GOAL`: a goal becomes a plan, by asking a model.
//!
//! Whom to ask, within which limits and at what cost is `cli::ask`'s, as for a prompt; what to ask and how to read it is
//! `llm::planner`'s. This file gathers what the model is told, shows it where only that is wanted, and prints what came of
//! it. An agent plans without a single permission: whatever it asks for is denied, so that planning changes nothing.

mod args;

use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::cli::ask::Asker;
use crate::cli::ask::ResultReport;
use crate::cli::ask::screen::{Prints, Screen, Show, Shows};
use crate::cli::ask::status_of;
use crate::cli::commands::estimate::DEFAULT_MODEL;
use crate::cli::commands::plan;
use crate::cli::commands::plan::make::args::MakeArgs;
use crate::cli::commands::plan::show;
use crate::cli::commands::watch_signals;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::flags::value::Format;
use crate::cli::input::Source;
use crate::cli::prices;
use crate::cost::record::SessionStatus;
use crate::cost::record::SessionType;
use crate::llm::cost::CostEstimator;
use crate::llm::error::LlmError;
use crate::llm::planner::LlmPlanner;
use crate::llm::planner::PlanResult;
use crate::llm::planner::Planner;
use crate::llm::prompt;
use crate::llm::prompt::Brief;
use crate::llm::prompt::Prompt;
use crate::llm::types::Role;
use crate::plan::document::PlanDocument;
use crate::plan::document::PlanMembers;
use crate::plan::model::GoalClassification;
use crate::plan::model::GoalKind;
use crate::plan::model::Plan;
use crate::plan::repo;
use crate::plan::repo::Entry;
use crate::plan::repo::Tree;

pub(crate) use crate::cli::commands::plan::make::args::SPEC;

/// The work directory without the recordings of this very command: with one in it the repository would be another, and a
/// tape would never answer where it was made.
struct Untaped<'a> {
    root: PathBuf,
    tapes: Vec<&'a Path>,
}

impl Tree for Untaped<'_> {
    fn list(&mut self, directory: &Path, most: u64) -> io::Result<(Vec<Entry>, bool)> {
        let (mut entries, more) = repo::Directory(self.root.clone()).list(directory, most)?;
        let place = self.root.join(directory);
        entries.retain(|entry| {
            let path = place.join(&entry.name);
            !self.tapes.iter().any(|tape| self.root.join(tape) == path)
        });
        Ok((entries, more))
    }

    fn read(&mut self, file: &Path, most: usize) -> io::Result<Vec<u8>> {
        repo::Directory(self.root.clone()).read(file, most)
    }
}

/// Runs the command.
pub(crate) fn run(args: MakeArgs, env: &mut Env) -> Result<Exit, Failure> {
    watch_signals()?;
    let brief = brief(&args, env)?;
    args.ask
        .deadline
        .check("reading the directory for the model")?;
    if args.dry_run {
        return dry_run(&args, &brief, env);
    }
    let mut asker = Asker::open(&args.ask, SessionType::Plan, env)?;
    let mut budget = asker.so_far().token_budget();
    let silence = asker.silence();
    let mut screen = Screen::new(
        Show::Json,
        Shows {
            thinking: args.show_thinking,
            ..Shows::default()
        },
        Prints::Never,
        asker.price(),
        &mut env.output,
    )
    .silent_for(silence);
    let mut planner = LlmPlanner::new(&mut asker).max_output_tokens(args.max_output_tokens);
    if args.classify_only {
        let found = planner.classify(&brief, &mut budget, &mut screen);
        screen.finish();
        let is_vague = |found: &GoalClassification| found.kind() == GoalKind::Vague;
        return conclude(&args, asker, found, is_vague, classified, env);
    }
    let made = match args.separately {
        true => planner.plan_in_steps(&brief, &mut budget, &mut screen),
        false => planner.plan(&brief, &mut budget, &mut screen),
    };
    screen.finish();
    conclude(&args, asker, made, Plan::is_vague, planned, env)
}

/// What the model is told.
fn brief(args: &MakeArgs, env: &mut Env) -> Result<Brief, Failure> {
    let deadline = args.ask.deadline;
    let mut brief = Brief::new(args.goal.clone());
    args.ask.check_secrets("GOAL", &args.goal)?;
    for path in &args.context {
        let source = Source::File(path.clone());
        let text = plan::read_as(&source, args.lossy, deadline, env)?;
        args.ask.check_secrets(&source.name(), &text)?;
        brief.notes.push((source.name(), text));
    }
    if args.stdin {
        let text = plan::read_as(&Source::Stdin, args.lossy, deadline, env)?;
        args.ask.check_secrets("standard input", &text)?;
        if brief.goal.is_empty() {
            brief.goal = text;
        } else if !text.is_empty() {
            brief.notes.push(("standard input".to_string(), text));
        }
    }
    if brief.goal.trim().is_empty() {
        return Err(Failure::new(Exit::BadInput, "input", "the goal is empty")
            .hint("give a GOAL, or one on standard input"));
    }
    if args.tells_repo {
        let tapes = [&args.ask.record, &args.ask.replay];
        let mut tree = Untaped {
            root: env.directory()?,
            tapes: tapes.into_iter().flatten().map(PathBuf::as_path).collect(),
        };
        let mut is_over = || deadline.left().is_some_and(|left| left.is_zero());
        let walk = repo::walk(&mut tree, repo::DEFAULT_STEPS, &mut is_over);
        brief.repo = Some(walk.context);
    }
    Ok(brief)
}

/// Shows what would be sent, and what it would cost.
fn dry_run(args: &MakeArgs, brief: &Brief, env: &mut Env) -> Result<Exit, Failure> {
    let prompt = match (args.classify_only, args.separately) {
        (false, false) => prompt::plan(brief),
        // The others follow from its answer.
        _ => prompt::classify(brief),
    };
    let catalog = prices::load(&args.ask.price_files, env)?;
    let name = args.ask.model.as_ref().map(|(name, _)| name.as_str());
    let mut catalog = catalog;
    let name = name.unwrap_or(DEFAULT_MODEL);
    if let Some(price) = &args.ask.price {
        catalog.set_price(name, price.clone());
    }
    let estimator = CostEstimator::new(&catalog, name);
    let overhead = estimator.overhead(&[Role::System, Role::User]);
    let tokens = estimator
        .count(&prompt.system)
        .saturating_add(estimator.count(&prompt.text))
        .saturating_add(overhead.map_or(0, |known| known.tokens));
    let estimate = estimator.estimate(tokens, 0, args.max_output_tokens.unwrap_or(0));
    let usd = estimate.usd();
    if args.format == Format::Json {
        let document = json!({
            "schema": "omk.request/1", "ok": true, "exit": 0, "template": prompt.template.name(),
            "system": prompt.system, "text": prompt.text, "response_schema": prompt.schema.schema,
            "model": estimate.model.id, "input_tokens": tokens, "output_tokens": args.max_output_tokens,
            "usd": usd, "warnings": env.output.warnings(), "error": Value::Null,
        });
        env.output.json(&document)?;
        return Ok(Exit::Done);
    }
    let Prompt { system, text, .. } = &prompt;
    env.output.print(&format!("{system}\n\n{text}\n"))?;
    let price = usd.map_or("no known price".to_string(), |usd| usd.to_string());
    let answer = match args.max_output_tokens {
        Some(most) => format!("and an answer of {most}"),
        None => "before the answer".to_string(),
    };
    env.output.note(&format!(
        "nothing was sent; {}: {tokens} tokens {answer}, {price}",
        estimate.model.id
    ));
    Ok(Exit::Done)
}

/// Prints what a planner found out, and says how the run ended. What could not be written down comes along.
type Print<T> = fn(&MakeArgs, &Asker, T, Option<Failure>, &mut Env) -> Result<Exit, Failure>;

/// Closes the books and prints what came of it.
fn conclude<T>(
    args: &MakeArgs,
    mut asker: Asker,
    outcome: PlanResult<T>,
    is_vague: fn(&T) -> bool,
    print: Print<T>,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let (status, exit) = match &outcome {
        // The model has answered, and the user wants no guess.
        Ok(planned) if args.strict && is_vague(&planned.value) => {
            (SessionStatus::Settled, Exit::Invalid)
        }
        Ok(_) => (SessionStatus::Settled, Exit::Done),
        Err(failed) => {
            let exit = asker.failure(&failed.error).exit;
            (status_of(&failed.error, exit), exit)
        }
    };
    let lost = asker.close(status, exit).map(|lost| match lost.kind {
        "replay" if args.tells_repo => lost.hint(
            "the work directory is part of the request; with --no-context, at both times, it is not",
        ),
        _ => lost,
    });
    for warning in asker.warnings(outcome.is_ok()) {
        env.output.warning(warning);
    }
    for denial in &asker.so_far().progress().denials {
        env.output.warning(format!(
            "the agent wanted {} while it planned, which is denied: {}",
            match denial.tool.is_empty() {
                true => denial.kind.name(),
                false => &denial.tool,
            },
            denial.detail
        ));
    }
    if let Some(lost) = &lost {
        env.output.failure(lost);
    }
    // A run that was not the one on the tape is that above all, whatever it came to.
    if let Some(lost) = lost.as_ref().filter(|lost| lost.kind == "replay") {
        if args.format == Format::Json {
            let run = run_of(args, &asker, lost.exit, Some(lost), env)?;
            env.output.json(&Made::without_plan(args, None, run))?;
        }
        return Ok(lost.exit);
    }
    let exit = match outcome {
        Ok(planned) => print(args, &asker, planned.value, lost, env)?,
        Err(failed) => {
            let mut failure = asker.failure(&failed.error);
            let raw = match failed.error.root() {
                LlmError::Parse { raw, .. } => Some(raw.as_str()),
                _ => failed.rounds.last_answer(),
            };
            let is_json = args.format == Format::Json;
            if let Some(raw) = raw {
                failure = failure.hint(match is_json {
                    true => "the answer is in `raw`",
                    false => "the answer is above; with --json it is in `raw`",
                });
                if !is_json {
                    env.output.aside(&format!("{}\n", raw.trim_end()));
                }
            }
            env.output.failure(&failure);
            if is_json {
                let run = run_of(args, &asker, failure.exit, Some(&failure), env)?;
                env.output.json(&Made::without_plan(args, raw, run))?;
            }
            failure.exit
        }
    };
    env.output.flush()?;
    asker.tidy();
    Ok(exit)
}

/// Prints a plan.
fn planned(
    args: &MakeArgs,
    asker: &Asker,
    plan: Plan,
    lost: Option<Failure>,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let vague = plan.is_vague();
    let refinement = plan.parts().suggested_refinement.clone();
    let mut document = PlanDocument::new(plan);
    let estimator = CostEstimator::of(std::borrow::Cow::Borrowed(asker.so_far().model()));
    document.estimate = Some(estimator.work(&document.plan));
    let failure = too_vague(args, vague, refinement.as_deref(), env).or(lost);
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    let mut run = run_of(args, asker, exit, failure.as_ref(), env)?;
    // They stand among the plan's own members.
    document.usage = run.remove("usage");
    document.cost = run.remove("cost");
    if args.format == Format::Json {
        env.output.json(&Made {
            schema: None,
            plan: Some(PlanMembers::of(&document)),
            classification: None,
            raw: None,
            run,
        })?;
    } else {
        show::print(&document, args.format, env)?;
    }
    Ok(exit)
}

/// Prints a classification.
fn classified(
    args: &MakeArgs,
    asker: &Asker,
    found: GoalClassification,
    lost: Option<Failure>,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let vague = found.kind() == GoalKind::Vague;
    let failure = too_vague(args, vague, found.suggested_refinement(), env).or(lost);
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if args.format == Format::Json {
        let run = run_of(args, asker, exit, failure.as_ref(), env)?;
        env.output.json(&Made {
            schema: Some(args.schema()),
            plan: None,
            classification: Some(json!({
                "kind": found.kind().name(), "confidence": found.confidence(), "reasoning": found.reasoning(),
                "is_testable": found.is_testable(), "suggested_refinement": found.suggested_refinement(),
            })),
            raw: None,
            run,
        })?;
        return Ok(exit);
    }
    let testable = match found.is_testable() {
        true => "testable",
        false => "not testable",
    };
    env.output.print(&format!(
        "{}, {:.0}% sure, {testable}\n{}\n",
        found.kind(),
        found.confidence() * 100.0,
        found.reasoning()
    ))?;
    Ok(exit)
}

/// Says that a goal is vague; with `--strict` that is a failure.
fn too_vague(
    args: &MakeArgs,
    vague: bool,
    refinement: Option<&str>,
    env: &mut Env,
) -> Option<Failure> {
    if !vague {
        return None;
    }
    let detail = "the goal is vague, so this is a guess";
    if !args.strict {
        env.output.warning(match refinement {
            Some(better) => format!("{detail}; a clearer one: {better}"),
            None => detail.to_string(),
        });
        return None;
    }
    let failure = Failure::new(Exit::Invalid, "vague goal", detail);
    let failure = match refinement {
        Some(better) => failure.hint(format!("a clearer one: {better}")),
        None => failure.hint("say what shall be different afterwards, and how one will know"),
    };
    env.output.failure(&failure);
    Some(failure)
}

/// The members of a result that tell of the run.
fn run_of(
    args: &MakeArgs,
    asker: &Asker,
    exit: Exit,
    failure: Option<&Failure>,
    env: &Env,
) -> Result<serde_json::Map<String, Value>, Failure> {
    let warnings = env.output.warnings().to_vec();
    let report = ResultReport::new(&args.ask, asker.so_far(), exit, None, &warnings, failure);
    let value = serde_json::to_value(&report);
    match value {
        Ok(Value::Object(mut members)) => {
            // What is about one answer says nothing of a plan.
            for name in ["schema", "text", "value", "finish_reason", "complete"] {
                members.remove(name);
            }
            Ok(members)
        }
        _ => Err(Failure::new(
            Exit::Failed,
            "internal",
            "the result cannot be written",
        )),
    }
}

/// The document of a run.
#[derive(Serialize)]
struct Made<'a> {
    /// That of a plan stands among its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    #[serde(flatten)]
    plan: Option<PlanMembers<'a>>,
    #[serde(flatten)]
    classification: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(flatten)]
    run: serde_json::Map<String, Value>,
}

impl<'a> Made<'a> {
    /// That of a run that came to nothing; `raw` is the answer that is no plan.
    fn without_plan(
        args: &MakeArgs,
        raw: Option<&'a str>,
        run: serde_json::Map<String, Value>,
    ) -> Made<'a> {
        Made {
            schema: Some(args.schema()),
            plan: None,
            classification: None,
            raw,
            run,
        }
    }
}
