//! `omk estimate --session`: what a working session may cost, by the heuristics of
//! `cost::estimator`. No text is read and no model is named; the result is a figure to budget by.

use serde_json::json;

use crate::cli::commands::estimate::SessionArgs;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::value::Session;
use crate::cost::estimator;
use crate::cost::estimator::CostEstimate;
use crate::cost::estimator::PricingTier;
use crate::runtime::table::Align;
use crate::runtime::table::Table;

pub(super) fn run(args: &SessionArgs, env: &mut Env) -> Result<Exit, Failure> {
    if let (Some(role), None) = (&args.role, args.tier)
        && estimator::tier_for_role(role).is_none()
    {
        env.output.warning(format!(
            "the role `{role}` is not known: it is priced as standard; --tier chooses the class"
        ));
    }
    let estimate = estimate(args);
    let name = kind(args.session);
    let mut verdicts = Vec::new();
    if let Some(limit) = args.max_tokens
        && estimate.total_tokens() > limit
    {
        let tokens = estimate.total_tokens();
        let detail = format!("{name}: {tokens} tokens, --max-tokens allows {limit}");
        verdicts.push(Failure::new(Exit::Budget, "budget", detail));
    }
    if let Some(limit) = args.max_usd
        && estimate.usd() > limit
    {
        let usd = estimate.usd();
        let detail = format!("{name}: {usd}, --max-usd allows {limit}");
        verdicts.push(Failure::new(Exit::Budget, "budget", detail));
    }
    for verdict in &verdicts {
        env.output.failure_after_result(verdict);
    }
    let failure = Failure::merge(verdicts);
    let exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
    if args.json {
        let document = json!({
            "schema": "omk.session-estimate/1",
            "ok": failure.is_none(),
            "exit": exit.code(),
            "session": name,
            "duration_s": args.duration.as_secs(),
            "workers": args.workers,
            "iterations": args.iterations,
            "role": args.role,
            "tier": estimate.tier().name(),
            "input_tokens": estimate.input_tokens(),
            "output_tokens": estimate.output_tokens(),
            "usd": estimate.usd(),
            "basis": "heuristic",
            "warnings": env.output.warnings(),
            "error": failure.as_ref().map(Failure::report),
        });
        env.output.json(&document)?;
    } else {
        let mut table = Table::new(vec![
            ("session", Align::Left),
            ("tier", Align::Left),
            ("input", Align::Right),
            ("output", Align::Right),
            ("usd", Align::Right),
        ]);
        table.row(vec![
            name.to_string(),
            estimate.tier().to_string(),
            format!("~{}", estimate.input_tokens()),
            format!("~{}", estimate.output_tokens()),
            format!("~{}", estimate.usd()),
        ]);
        env.output.print(&table.render())?;
    }
    Ok(exit)
}

fn kind(session: Session) -> &'static str {
    match session {
        Session::Team => "team",
        Session::Autopilot => "autopilot",
        Session::Ralph => "ralph",
    }
}

/// The quick estimate of the session's kind, unless flags say more than it takes.
fn estimate(args: &SessionArgs) -> CostEstimate {
    let seconds = args.duration.as_secs();
    let workers = usize::try_from(args.workers).unwrap_or(usize::MAX);
    let role = args.role.as_deref();
    let quick = match (args.session, args.iterations) {
        (Session::Team, None) => {
            estimator::estimate_team_cost(seconds, workers, role.unwrap_or(""))
        }
        (Session::Autopilot, phases) if workers == 1 => {
            estimator::estimate_autopilot_cost(seconds, phases.unwrap_or(0))
        }
        (Session::Ralph, iterations) if workers == 1 => {
            estimator::estimate_ralph_cost(seconds, iterations.unwrap_or(0), 0)
        }
        (_, iterations) => {
            let tier = PricingTier::Standard;
            estimator::estimate_cost(seconds, workers, iterations.unwrap_or(0), tier)
        }
    };
    let tier = args.tier.or_else(|| estimator::tier_for_role(role?));
    tier.map_or(quick, |tier| quick.at(tier))
}
