//! A program that uses the library as its contract promises, written as a user would write it: one `use` per module, no
//! name below it. What does not compile here is broken for users.

use std::ops::ControlFlow;

use omk::cost::{
    CostEstimate, CostSink, CostTracker, InMemoryCostSink, JsonFileCostSink, PricingTier,
    SessionCost, estimate_autopilot_cost, estimate_cost, estimate_ralph_cost, estimate_team_cost,
};
use omk::llm::{
    AcpLlmClient, CostEstimator, Difficulty, GoalKind, HttpLlmClient, LlmClient, LlmClientConfig,
    LlmError, LlmPlanner, LlmResponse, LlmUsage, MockLlmClient, MockPlanner, Planner, RetryPolicy,
    TokenBudget, WireLlmClient, parse_classification_json, parse_complexity_json,
    parse_criteria_json, parse_plan_json,
};

use omk::cost::record::{SessionStatus, SessionType};
use omk::cost::view::{Period, RecordView};
use omk::llm::prompt::Brief;
use omk::runtime::atomic::atomic_write;
use omk::tokens::usage::{TokenCounts, UsageSource};

use crate::sandbox::Sandbox;

const PLAN: &str = r#"{"goal_text": "add OAuth", "kind": "greenfield", "complexity_score": 4,
    "complexity_reasoning": "known parts", "estimated_hours": null,
    "slices": [{"id": "a", "description": "routes", "write_set": ["src/a.rs"], "estimated_difficulty": "easy"},
               {"id": "b", "description": "tests", "write_set": ["tests/b.rs"], "estimated_difficulty": "medium"}],
    "dependencies": [[0, 1]], "acceptance_criteria": ["a user can log in"], "estimated_tokens": 20000}"#;

/// Any client, as a program keeps it.
fn ask(client: &mut dyn LlmClient, budget: &mut TokenBudget) -> Result<LlmResponse, LlmError> {
    client.complete_with_system("You are terse.", "What is the capital of France?", budget)
}

#[test]
fn a_client_is_an_object_and_its_double_keeps_to_the_budget() {
    let counts = TokenCounts {
        input_uncached: 40,
        output: 10,
        ..TokenCounts::default()
    };
    let mut answer = LlmResponse::of("Paris.");
    answer.usage = LlmUsage::exact(counts, UsageSource::Provider);
    let mut client: Box<dyn LlmClient> =
        Box::new(MockLlmClient::default().outcome(Ok(answer)).outcome(Err(
            LlmError::RateLimited {
                detail: "slow down".to_string(),
                retry_after: None,
            },
        )));
    let mut budget = TokenBudget::new(1000);
    assert_eq!(ask(client.as_mut(), &mut budget).unwrap().text, "Paris.");
    assert_eq!(budget.used_tokens(), 50);
    assert!(
        ask(client.as_mut(), &mut budget)
            .unwrap_err()
            .is_retryable()
    );
    // Refused, so not billed.
    assert_eq!(budget.used_tokens(), 50);
    // A prompt that does not fit is not sent by any client.
    let mut client = MockLlmClient::default().reply("never asked for");
    let error = ask(&mut client, &mut TokenBudget::new(5)).unwrap_err();
    assert!(matches!(error, LlmError::BudgetExhausted { .. }), "{error}");
    assert_eq!((client.calls().len(), client.remaining()), (0, 1));
}

#[test]
fn a_planner_plans_with_any_client() {
    let client: Box<dyn LlmClient> = Box::new(MockLlmClient::default().reply(PLAN));
    let mut planner = LlmPlanner::new(client);
    let mut budget = TokenBudget::unlimited();
    let planned = planner
        .plan(&Brief::new("add OAuth"), &mut budget, &mut ())
        .unwrap();
    let parts = planned.value.parts();
    let kind = parts.kind;
    assert_eq!((parts.slices.len(), kind), (2, GoalKind::Greenfield));

    let plan = parse_plan_json(PLAN).unwrap();
    let mut double = MockPlanner::default().planned(Ok(plan.into()));
    let double: &mut dyn Planner = &mut double;
    let planned = double
        .plan(&Brief::new("add OAuth"), &mut budget, &mut ())
        .unwrap();
    let difficulty = planned.value.parts().slices[1].estimated_difficulty();
    assert_eq!(difficulty, Difficulty::Medium);
}

#[test]
fn parsers_take_what_a_model_writes() {
    let classification = r#"{"kind": "repair", "confidence": 0.9, "reasoning": "it broke", "is_testable": true,
        "suggested_refinement": null}"#;
    let classification = parse_classification_json(classification).unwrap();
    assert_eq!(classification.kind(), GoalKind::Repair);
    assert_eq!(parse_criteria_json(r#"["one", "two"]"#).unwrap().len(), 2);
    let complexity = r#"{"score": 7, "reasoning": "large", "estimated_hours": 12}"#;
    assert_eq!(parse_complexity_json(complexity).unwrap().score(), 7);
    let wrong = parse_plan_json("no plan").unwrap_err();
    assert!(matches!(wrong, LlmError::Parse { .. }), "{wrong:?}");
}

#[test]
fn a_sessions_estimate_is_kept_and_cleared_with_its_record() {
    let sandbox = Sandbox::new("library-session");
    let estimates: [(SessionType, CostEstimate); 4] = [
        (SessionType::Team, estimate_team_cost(600, 3, "architect")),
        (SessionType::Autopilot, estimate_autopilot_cost(600, 2)),
        (SessionType::Ralph, estimate_ralph_cost(600, 2, 5)),
        (
            SessionType::Team,
            estimate_cost(600, 3, 0, PricingTier::Premium),
        ),
    ];
    let mut tracker = CostTracker::new(JsonFileCostSink::new(sandbox.path("ledger")));
    let mut in_memory = InMemoryCostSink::default();
    for (n, (kind, estimate)) in estimates.into_iter().enumerate() {
        let started = format!("2026-11-20T10:47:5{n}Z");
        let mut run = SessionCost::open(format!("run-{n}"), kind, started);
        run.estimate = Some(estimate.into());
        tracker.record(&run).unwrap();
        in_memory.append(&run).unwrap();
        run.status = SessionStatus::Settled;
        run.ended_at = Some("2026-11-20T11:00:00Z".to_string());
        tracker.settle(&run).unwrap();
    }
    let mut seen = Vec::new();
    let mut visit = |run: &SessionCost| {
        let estimate = run.estimate.as_ref().unwrap();
        seen.push((run.id.clone(), run.session_type, estimate.usd.unwrap()));
        ControlFlow::Continue(())
    };
    tracker.sink().load(&mut visit).unwrap();
    seen.sort();
    let expected = estimates.iter().enumerate();
    let expected = expected.map(|(n, (kind, of))| (format!("run-{n}"), *kind, of.usd()));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(tracker.clear().unwrap().records, 4);
    let mut left = 0;
    let count = &mut |_: &RecordView<'_>| {
        left += 1;
        ControlFlow::Continue(())
    };
    tracker.report(Period::default(), count).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn an_estimate_is_written_and_read_as_json() {
    let estimate = estimate_cost(3600, 2, 1, PricingTier::default());
    let path = Sandbox::new("library-estimate").path("estimate.json");
    atomic_write(&path, &serde_json::to_vec(&estimate).unwrap()).unwrap();
    let read: CostEstimate = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(read, estimate);
    assert_eq!(CostEstimate::default().total_tokens(), 0);
    let tier: PricingTier = serde_json::from_str("\"premium\"").unwrap();
    assert_eq!(tier, PricingTier::Premium);
}

#[test]
fn a_prompt_is_counted_and_priced_without_a_client() {
    let catalog = omk::catalog::Catalog::builtin();
    let estimator = CostEstimator::new(&catalog, "kimi-k3");
    let tokens = estimator.count("How many tokens is this?");
    let usd = estimator.estimate(tokens, 0, 500).usd().unwrap();
    assert_eq!((tokens, usd.exact_decimal().as_str()), (6, "0.007518"));
    assert!(RetryPolicy::default().max_retries > 0);
}

/// The three real clients are made from the same settings and are clients. Nothing is sent.
#[test]
fn every_client_is_made_from_one_configuration() {
    use omk::transport::acp::{Options, Session};
    use omk::transport::agents::KIMI_CODE;
    use omk::transport::child::Program;
    use omk::transport::http::{Http, HttpConfig};

    let config = LlmClientConfig::for_model("kimi-k3");
    let http = Http::new(HttpConfig::default()).unwrap();
    let program = Program::new("/nonexistent/kimi");
    let directory = std::env::temp_dir();
    let clients: [Box<dyn LlmClient>; 3] = [
        Box::new(HttpLlmClient::new(
            config.clone(),
            "http://127.0.0.1:9/v1",
            None,
            http,
        )),
        Box::new(WireLlmClient::new(config.clone(), program.clone())),
        Box::new(AcpLlmClient::new(
            config,
            program,
            Options {
                client_version: "1".to_string(),
                directory: directory.display().to_string(),
                session: Session::New,
                asks: true,
                model: None,
                thinking: None,
                files: true,
                more_directories: Vec::new(),
            },
            &KIMI_CODE,
            directory.clone(),
        )),
    ];
    for mut client in clients {
        // The prompt alone is more than the budget, so that no client sends it.
        let error = ask(client.as_mut(), &mut TokenBudget::new(3)).unwrap_err();
        assert!(matches!(error, LlmError::BudgetExhausted { .. }), "{error}");
    }
}
