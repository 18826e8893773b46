//! What a batch says: before it asks, while it does, and at the end.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::batch::State;
use crate::batch::drive::{States, Stopped, Tally};
use crate::batch::input::Format;
use crate::batch::journal::Journal;
use crate::catalog::money::Usd;
use crate::cli::commands::batch::Totals;
use crate::cli::commands::batch::args::BatchArgs;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cost::budget::Standing;
use crate::runtime::text::escape_os;

/// The JSON document `omk.batch/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    check: &'a CheckReport,
    run: Option<&'a RunReport>,
}

/// What the input is, and what an earlier run of the batch left.
#[derive(Serialize)]
pub(super) struct CheckReport {
    input: String,
    format: &'static str,
    output: Option<String>,
    prompts: u64,
    input_tokens: u64,
    input_usd: Option<Usd>,
    worst_case_usd: Option<Usd>,
    max_usd: Option<Usd>,
    budgets: Vec<BudgetReport>,
    before: Option<BeforeReport>,
    #[serde(skip)]
    with_images: u64,
}

#[derive(Serialize)]
struct BudgetReport {
    budget: String,
    limit_usd: Usd,
    spent_usd: Usd,
    reserved_usd: Usd,
    /// Whether the worst case fits; null where there is none.
    fits: Option<bool>,
}

/// What earlier runs left.
#[derive(Serialize)]
struct BeforeReport {
    answered: u64,
    /// Failed, and cannot have been billed.
    failed: u64,
    /// May have been billed.
    unknown: u64,
    /// Brought home by processes whose parent was killed.
    rescued: u64,
    at_most_usd: Usd,
    /// Prompts whose cost nothing bounds.
    unbounded: u64,
    /// To be asked now.
    wanted: u64,
}

fn count(states: &States, is: impl Fn(State) -> bool) -> u64 {
    let found = states.states.iter().filter(|state| is(**state)).count();
    u64::try_from(found).unwrap_or(u64::MAX)
}

impl CheckReport {
    pub(super) fn new(
        args: &BatchArgs,
        input: &str,
        format: Format,
        totals: &Totals,
        standings: &[Standing],
    ) -> CheckReport {
        let fits = |standing: &Standing| totals.worst_case.map(|worst| standing.fits(worst));
        CheckReport {
            input: input.to_string(),
            format: format.name(),
            output: args.output.as_ref().map(escape_os),
            prompts: totals.prompts,
            input_tokens: totals.input_tokens,
            input_usd: totals.usd,
            worst_case_usd: totals.worst_case,
            max_usd: args.ask.max_usd,
            budgets: standings
                .iter()
                .map(|standing| BudgetReport {
                    budget: standing.budget.to_string(),
                    limit_usd: standing.budget.limit,
                    spent_usd: standing.spent,
                    reserved_usd: standing.reserved,
                    fits: fits(standing),
                })
                .collect(),
            before: None,
            with_images: totals.with_images,
        }
    }

    /// What is doubtful before anything is sent.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.with_images > 0 {
            warnings.push(format!(
                "the pictures of {} prompts are not counted before they are sent: each counts as a full window",
                self.with_images
            ));
        }
        match (self.worst_case_usd, self.max_usd) {
            (Some(worst), Some(cap)) if worst > cap => warnings.push(format!(
                "the worst case is {worst}, and --max-usd {cap} may end the batch before"
            )),
            (None, _) => {
                warnings.push(
                    "no price is known for some of the prompts, so the worst case is not"
                        .to_string(),
                );
            }
            _ => {}
        }
        for budget in &self.budgets {
            if budget.fits == Some(false) {
                warnings.push(format!(
                    "the worst case does not fit in {}, which may end the batch before",
                    budget.budget
                ));
            }
        }
        warnings
    }

    /// Takes in what earlier runs left.
    pub(super) fn resume(
        &mut self,
        journal: &Journal,
        states: &States,
        rescued: u64,
        retry_unknown: bool,
    ) {
        self.before = Some(BeforeReport {
            answered: count(states, |state| state == State::Answered),
            failed: count(states, |state| state == State::Failed),
            unknown: count(states, |state| {
                matches!(state, State::Sent | State::Charged)
            }),
            rescued,
            at_most_usd: journal.spent(),
            unbounded: journal.unbounded(),
            wanted: count(states, |state| state.is_open(retry_unknown)),
        });
    }

    /// How many prompts are to be asked.
    pub(super) fn wanted(&self) -> u64 {
        self.before.as_ref().map_or(0, |before| before.wanted)
    }

    /// What a person should know of earlier runs.
    pub(super) fn note(&self) -> Option<String> {
        let before = self.before.as_ref()?;
        if before.answered + before.failed + before.unknown == 0 {
            return None;
        }
        Some(format!(
            "resuming: {} of {} answered, {} failed, {} may have been billed, {} at most so far; {} to ask",
            before.answered,
            self.prompts,
            before.failed,
            before.unknown,
            before.at_most_usd,
            before.wanted
        ))
    }
}

/// What this run did.
#[derive(Serialize)]
pub(super) struct RunReport {
    batch: String,
    answered: u64,
    cut: u64,
    invalid: u64,
    failed: u64,
    /// Prompts without an answer, of this run or of earlier ones.
    left: u64,
    /// Of these, those that may have been billed.
    unknown: u64,
    stopped: Option<&'static str>,
    classes: Vec<ClassReport>,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    /// The known part of the cost of this run.
    usd: Usd,
    /// Prompts of this run whose cost is not known exactly.
    cost_unknown: u64,
    /// What the batch can have cost at most, all runs together.
    at_most_usd: Usd,
    elapsed_s: f64,
    failed_file: Option<String>,
}

#[derive(Serialize)]
struct ClassReport {
    kind: String,
    failed: u64,
    retried: u64,
    example: String,
}

impl RunReport {
    pub(super) fn new(
        batch: &str,
        tally: &Tally,
        stopped: Option<&Stopped>,
        states: &States,
        (spent, elapsed): (Usd, Duration),
        failed_file: Option<&Path>,
    ) -> RunReport {
        RunReport {
            batch: batch.to_string(),
            answered: tally.answered,
            cut: tally.cut,
            invalid: tally.invalid,
            failed: tally.failed,
            left: count(states, |state| state != State::Answered),
            unknown: count(states, |state| {
                matches!(state, State::Sent | State::Charged)
            }),
            stopped: stopped.map(|stopped| match stopped {
                Stopped::Cap => "cap",
                Stopped::Budget(_) => "budget",
                Stopped::Failures => "failures",
                Stopped::Fatal(_) => "service",
                Stopped::Signal(_) => "signal",
                Stopped::Deadline => "deadline",
                Stopped::Workers => "workers",
            }),
            classes: tally
                .classes
                .iter()
                .map(|(kind, class)| ClassReport {
                    kind: kind.clone(),
                    failed: class.failed,
                    retried: class.retried,
                    example: class.example.clone(),
                })
                .collect(),
            input_tokens: tally.input_tokens,
            cached_tokens: tally.cached_tokens,
            output_tokens: tally.output_tokens,
            usd: tally.usd,
            cost_unknown: tally.unknown,
            at_most_usd: spent,
            elapsed_s: elapsed.as_secs_f64(),
            failed_file: failed_file.map(escape_os),
        }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn spent(&self) -> Usd {
        self.at_most_usd
    }
}

/// Says what a dry run found.
pub(super) fn checked(
    args: &BatchArgs,
    check: &CheckReport,
    env: &mut Env,
) -> Result<Exit, Failure> {
    if args.json {
        let document = Document { check, run: None };
        env.output
            .document("omk.batch/1", Exit::Done, &document, None)?;
        return Ok(Exit::Done);
    }
    let shown = |usd: Option<Usd>| usd.map_or("not known".to_string(), |usd| usd.to_string());
    let mut text = format!(
        "{} prompts ({}), {} tokens\nprompts alone  {}\nat most        {}\n",
        check.prompts,
        check.format,
        check.input_tokens,
        shown(check.input_usd),
        shown(check.worst_case_usd)
    );
    if let Some(cap) = check.max_usd {
        text.push_str(&format!("--max-usd      {cap}\n"));
    }
    for budget in &check.budgets {
        text.push_str(&format!(
            "{}: {} spent, {} reserved\n",
            budget.budget, budget.spent_usd, budget.reserved_usd
        ));
    }
    env.output.print(&text)?;
    env.output.note("nothing was sent");
    Ok(Exit::Done)
}

/// Says what came of the batch.
pub(super) fn finished(
    args: &BatchArgs,
    check: &CheckReport,
    run: &RunReport,
    failure: Option<Failure>,
    env: &mut Env,
) -> Result<Exit, Failure> {
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if args.json {
        if let Some(failure) = &failure {
            env.output.failure(failure);
        }
        let document = Document {
            check,
            run: Some(run),
        };
        env.output
            .document("omk.batch/1", exit, &document, failure.as_ref())?;
        return Ok(exit);
    }
    env.output.note(&format!(
        "{} of {} prompts answered, {} of them now; {} input and {} output tokens, {}",
        check.prompts - run.left,
        check.prompts,
        run.answered,
        run.input_tokens,
        run.output_tokens,
        match run.cost_unknown {
            0 => format!("{}", run.usd),
            _ => format!(
                "{} known, {} at most for the whole batch",
                run.usd, run.at_most_usd
            ),
        }
    ));
    for class in &run.classes {
        let example = match class.example.is_empty() {
            true => String::new(),
            false => format!(": {}", class.example),
        };
        env.output.note(&format!(
            "{}: {} failed, {} attempts made again{example}",
            class.kind, class.failed, class.retried
        ));
    }
    if let Some(path) = &run.failed_file {
        env.output
            .note(&format!("`{path}` has the prompts that failed"));
    }
    if let Some(failure) = &failure {
        env.output.failure(failure);
    }
    Ok(exit)
}

/// The line for someone at a terminal, of at most 80 columns for numbers of a usual size:
/// `omk: [####......] 412/1000, 3 failed, 8 asked, 120k tok/min, $0.41 (max $0.52), 3 min left`.
pub(super) fn progress(tally: &Tally, elapsed: Duration) -> String {
    let over = tally.answered + tally.failed;
    let wanted = tally.wanted.max(1);
    let tenths = usize::try_from(over.saturating_mul(10) / wanted)
        .unwrap_or(10)
        .min(10);
    let tokens = tally.input_tokens.saturating_add(tally.output_tokens);
    let millis = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let per_minute = u128::from(tokens) * 60_000 / u128::from(millis);
    let left = match over {
        0 => "?".to_string(),
        _ => {
            let rest = tally.wanted.saturating_sub(over);
            let seconds = u128::from(millis) * u128::from(rest) / u128::from(over) / 1000;
            match seconds {
                0..120 => format!("{seconds} s"),
                120..7200 => format!("{} min", seconds / 60),
                _ => format!("{} h", seconds / 3600),
            }
        }
    };
    format!(
        "omk: [{}{}] {over}/{} {} failed {} now {} tok/min {:.2} (max {:.2}) USD {left} left",
        "#".repeat(tenths),
        ".".repeat(10 - tenths),
        tally.wanted,
        tally.failed,
        tally.in_flight,
        short(per_minute),
        tally.usd.as_f64(),
        tally.spent.as_f64(),
    )
}

/// A number for people: `950`, `12k`, `3M`.
fn short(number: u128) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_progress_fits_a_terminal() {
        let tally = Tally {
            wanted: 10_000,
            answered: 4_000,
            failed: 12,
            in_flight: 16,
            input_tokens: 12_000_000,
            usd: Usd::from_usd(12),
            spent: Usd::from_usd(15),
            ..Tally::default()
        };
        let line = progress(&tally, Duration::from_secs(600));
        assert_eq!(
            line,
            "omk: [####......] 4012/10000 12 failed 16 now 1200k tok/min 12.00 (max 15.00) USD 14 min left"
        );
        let none = progress(&Tally::default(), Duration::ZERO);
        assert!(none.ends_with("? left"), "{none}");
    }
}
