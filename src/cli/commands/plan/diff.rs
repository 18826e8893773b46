//! `omk plan diff`: what one plan has otherwise than another.
//!
//! Slices are told apart by their ids, since a plan is renumbered more easily than renamed. Both plans are priced anew for
//! one model: two prices of two models say nothing about the plans. The exit code is diff's: 0 for no difference, 1 for
//! some. The price is not a difference of its own; it follows from others.

use std::path::PathBuf;

use serde::Serialize;

use crate::catalog::money::Usd;
use crate::cli::commands::plan;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::flags::Invocation;
use crate::cli::flags::UsageError;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, shared};
use crate::cli::input::Source;
use crate::cli::prices;
use crate::plan::model::Plan;
use crate::plan::model::Slice;
use crate::plan::model::WorkEstimate;
use crate::runtime::text::escape;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "plan diff",
    positionals: "A B",
    completes: Completes::Files,
    at_most: 2,
    summary: "compare two plans",
    doc: "Compares plan A with plan B: slices added, removed and changed, waves, critical path, criteria, and what \
carrying them out may cost, both priced for the same model. Slices are matched by id. One of the two may be `-` for \
standard input. As with diff, the exit code is 0 if they are equal and 1 if they differ; above that something went \
wrong.",
    examples: &[
        ("omk plan diff old.json new.json", "What changed."),
        (
            "omk plan diff old.json new.json --json --model kimi-k3",
            "The same as one JSON document, priced for a model.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &MODEL,
            &shared::PRICE_FILE,
            &shared::READ_DEADLINE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(DiffArgs::resolve(invocation, env)?, env),
};

static MODEL: Flag = Flag {
    doc: "Model to price for. The default is kimi-k3; `omk models` lists the others.",
    ..shared::MODEL
};

/// What `omk plan diff` was asked.
#[derive(Debug)]
pub(crate) struct DiffArgs {
    before: Source,
    after: Source,
    model: String,
    price_files: Vec<PathBuf>,
    json: bool,
    deadline: Deadline,
}

impl DiffArgs {
    /// Needs two files.
    pub(crate) fn resolve(invocation: Invocation, env: &Env) -> Result<DiffArgs, UsageError> {
        let low = invocation.low;
        let mut inputs = plan::sources(low.positionals)?.into_iter();
        let (Some(before), Some(after)) = (inputs.next(), inputs.next()) else {
            return Err(UsageError::new("plan diff needs two plans")
                .hint("`omk plan diff A B`; `-` is standard input"));
        };
        Ok(DiffArgs {
            before,
            after,
            model: plan::model(low.model)?,
            price_files: low.price_file,
            json: low.json,
            deadline: Deadline::new(env.started, low.deadline),
        })
    }
}

/// Something that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Change {
    field: &'static str,
    before: String,
    after: String,
}

/// A slice of both plans that is not the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ChangedSlice {
    id: String,
    fields: Vec<Change>,
}

/// Everything that differs.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Difference {
    plan: Vec<Change>,
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<ChangedSlice>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.plan.is_empty()
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
    }
}

/// Notes a field that differs.
fn compare(changes: &mut Vec<Change>, field: &'static str, before: String, after: String) {
    if before != after {
        changes.push(Change {
            field,
            before,
            after,
        });
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or("none".to_string(), |value| value.to_string())
}

fn difference(before: &Plan, after: &Plan) -> Difference {
    let mut plan = Vec::new();
    let (a, b) = (before.parts(), after.parts());
    let mut field = |name, a: String, b: String| compare(&mut plan, name, a, b);
    field("goal_text", a.goal_text.clone(), b.goal_text.clone());
    field("kind", a.kind.to_string(), b.kind.to_string());
    field(
        "complexity_score",
        a.complexity.score().to_string(),
        b.complexity.score().to_string(),
    );
    field(
        "estimated_hours",
        or_none(a.complexity.estimated_hours()),
        or_none(b.complexity.estimated_hours()),
    );
    field(
        "is_testable",
        or_none(a.is_testable),
        or_none(b.is_testable),
    );
    field(
        "suggested_refinement",
        or_none(a.suggested_refinement.as_ref()),
        or_none(b.suggested_refinement.as_ref()),
    );
    field(
        "acceptance_criteria",
        a.acceptance_criteria.join("; "),
        b.acceptance_criteria.join("; "),
    );
    field(
        "waves",
        before.waves().len().to_string(),
        after.waves().len().to_string(),
    );
    field("critical_path", path(before), path(after));
    let ids = |plan: &Plan, other: &Plan| -> Vec<String> {
        let absent = plan
            .parts()
            .slices
            .iter()
            .filter(|slice| find(other, slice.id()).is_none());
        absent.map(|slice| slice.id().to_string()).collect()
    };
    let mut changed = Vec::new();
    for (at, slice) in a.slices.iter().enumerate() {
        let Some((other_at, other)) = find(after, slice.id()) else {
            continue;
        };
        let mut fields = Vec::new();
        let mut field = |name, a: String, b: String| compare(&mut fields, name, a, b);
        field(
            "description",
            slice.description().to_string(),
            other.description().to_string(),
        );
        field(
            "write_set",
            slice.write_set().join(", "),
            other.write_set().join(", "),
        );
        field(
            "estimated_difficulty",
            slice.estimated_difficulty().to_string(),
            other.estimated_difficulty().to_string(),
        );
        field(
            "estimated_tokens",
            or_none(slice.estimated_tokens()),
            or_none(other.estimated_tokens()),
        );
        field("after", awaited(before, at), awaited(after, other_at));
        let wave = |plan: &Plan, at| or_none(plan.wave_of(at).map(|wave| wave + 1));
        field("wave", wave(before, at), wave(after, other_at));
        if !fields.is_empty() {
            changed.push(ChangedSlice {
                id: slice.id().to_string(),
                fields,
            });
        }
    }
    Difference {
        plan,
        added: ids(after, before),
        removed: ids(before, after),
        changed,
    }
}

fn find<'p>(plan: &'p Plan, id: &str) -> Option<(usize, &'p Slice)> {
    plan.parts()
        .slices
        .iter()
        .enumerate()
        .find(|(_, slice)| slice.id() == id)
}

fn path(plan: &Plan) -> String {
    let slices = plan.critical_path().iter().filter_map(|at| plan.slice(*at));
    slices.map(Slice::id).collect::<Vec<_>>().join(" -> ")
}

/// The ids that a slice waits for, by name: their order in a plan means nothing.
fn awaited(plan: &Plan, slice: usize) -> String {
    let before = plan
        .parts()
        .dependencies
        .iter()
        .filter(|(_, after)| *after == slice);
    let mut ids: Vec<&str> = before
        .filter_map(|(before, _)| plan.slice(*before))
        .map(Slice::id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.is_empty() {
        true => "none".to_string(),
        false => ids.join(", "),
    }
}

/// The JSON document `omk.plan-diff/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    same: bool,
    #[serde(flatten)]
    difference: &'a Difference,
    estimate: Prices<'a>,
}

/// What carrying out each may cost, for one model.
#[derive(Serialize)]
struct Prices<'a> {
    model: &'a str,
    before: PriceOf<'a>,
    after: PriceOf<'a>,
}

#[derive(Serialize)]
struct PriceOf<'a> {
    input_tokens: u64,
    output_tokens: u64,
    usd: Option<Usd>,
    basis: &'a str,
}

impl<'a> PriceOf<'a> {
    fn of(estimate: &'a WorkEstimate) -> PriceOf<'a> {
        PriceOf {
            input_tokens: estimate.input_tokens,
            output_tokens: estimate.output_tokens,
            usd: estimate.usd,
            basis: &estimate.basis,
        }
    }
}

/// Compares the plans and prints what differs.
pub(crate) fn run(args: DiffArgs, env: &mut Env) -> Result<Exit, Failure> {
    let before = plan::load(&args.before, args.deadline, env)?.plan;
    let after = plan::load(&args.after, args.deadline, env)?.plan;
    let catalog = prices::load(&args.price_files, env)?;
    let price_before = plan::estimate(&before, &args.model, &catalog, env);
    // The model is the same, and so would be the warning.
    let price_after = crate::llm::cost::CostEstimator::new(&catalog, &args.model).work(&after);
    let difference = difference(&before, &after);
    let exit = if difference.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    };
    if args.json {
        env.output.document(
            "omk.plan-diff/1",
            exit,
            &Document {
                same: difference.is_empty(),
                difference: &difference,
                estimate: Prices {
                    model: &price_before.model,
                    before: PriceOf::of(&price_before),
                    after: PriceOf::of(&price_after),
                },
            },
            None,
        )?;
    } else {
        env.output
            .print(&text(&difference, &after, [&price_before, &price_after]))?;
    }
    Ok(exit)
}

/// Characters of a value that stands on one line with the other.
const SHORT: usize = 40;

/// Lines as diff marks them; nothing for no difference.
fn text(
    difference: &Difference,
    after: &Plan,
    [price_before, price_after]: [&WorkEstimate; 2],
) -> String {
    let mut out = String::new();
    if difference.is_empty() {
        return out;
    }
    let changes = |indent: &str, changes: &[Change], out: &mut String| {
        for Change {
            field,
            before,
            after,
        } in changes
        {
            let (before, after) = (escape(before), escape(after));
            let is_short = |text: &str| text.chars().count() <= SHORT && !text.contains("->");
            out.push_str(&match is_short(&before) && is_short(&after) {
                true => format!("{indent}{field}: {before} -> {after}\n"),
                false => format!("{indent}{field}\n{indent}  - {before}\n{indent}  + {after}\n"),
            });
        }
    };
    changes("", &difference.plan, &mut out);
    for id in &difference.removed {
        out.push_str(&format!("- {}\n", escape(id)));
    }
    for id in &difference.added {
        let description = find(after, id).map_or("", |(_, slice)| slice.description());
        out.push_str(&format!("+ {}: {}\n", escape(id), escape(description)));
    }
    for slice in &difference.changed {
        out.push_str(&format!("~ {}\n", escape(&slice.id)));
        changes("    ", &slice.fields, &mut out);
    }
    let tokens = |price: &WorkEstimate| price.input_tokens.saturating_add(price.output_tokens);
    let usd = |price: &WorkEstimate| price.usd.map_or("?".to_string(), |usd| format!("~{usd}"));
    out.push_str(&format!(
        "tokens: ~{} -> ~{}\nusd on {}: {} -> {}\n",
        tokens(price_before),
        tokens(price_after),
        escape(&price_before.model),
        usd(price_before),
        usd(price_after),
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::read::read_plan;

    fn plan(slices: &str, rest: &str) -> Plan {
        read_plan(&format!(
            r#"{{"kind":"repair","complexity_score":2,"slices":[{slices}]{rest}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn slices_are_told_apart_by_their_ids() {
        let a = r#"{"id":"a","description":"x"}"#;
        let b = r#"{"id":"b","description":"y","write_set":["y"]}"#;
        let before = plan(&format!("{a},{b}"), "");
        assert!(
            difference(&before, &plan(&format!("{b},{a}"), ""))
                .plan
                .len()
                <= 1
        );
        let other = plan(
            &format!(r#"{b},{{"id":"c","description":"z"}}"#),
            r#","dependencies":[["c","b"]]"#,
        );
        let found = difference(&before, &other);
        assert_eq!(
            (found.added, found.removed),
            (vec!["c".to_string()], vec!["a".to_string()])
        );
        assert_eq!(found.changed.len(), 1);
        let fields: Vec<_> = found.changed[0]
            .fields
            .iter()
            .map(|c| (c.field, c.before.as_str(), c.after.as_str()))
            .collect();
        assert_eq!(fields, [("after", "none", "c"), ("wave", "1", "2")]);
        let fields: Vec<_> = found
            .plan
            .iter()
            .map(|c| (c.field, c.before.as_str(), c.after.as_str()))
            .collect();
        assert_eq!(
            fields,
            [("waves", "1", "2"), ("critical_path", "a", "c -> b")]
        );
        assert!(difference(&before, &before).is_empty());
    }
}
