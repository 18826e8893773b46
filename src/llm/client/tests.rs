//! What holds for every client: the double, the allowance and the way events are handed on.

use super::*;
use crate::llm::types::UsageSource;

/// Notes every event in a word or two.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<Stop> {
        self.0.push(match event {
            Event::Phase(phase) => format!("[{}]", phase.name()),
            Event::Step(step) => format!("step {step}"),
            Event::Text(text) => format!("text {text}"),
            Event::Thinking(text) => format!("thinking {text}"),
            Event::Superseded => "superseded".to_string(),
            Event::Retry(retry) => format!("retry {}", retry.attempt),
            Event::CallStarted { .. } => "call".to_string(),
            Event::CallEnded { .. } => "called".to_string(),
            Event::Tool(call) => format!("tool {}", call.tool),
            Event::Decision(decision) => format!("allowed {}", decision.allowed),
            Event::ToolDone(result) => format!("done {}", result.tool),
            Event::Usage(usage) => format!("usage {}", usage.total()),
            Event::Contradiction(found) => found.detail.clone(),
            Event::Session(session) => format!("session {session}"),
            Event::Answered => "answered".to_string(),
            Event::Tick => "tick".to_string(),
        });
        ControlFlow::Continue(())
    }
}

fn usage() -> Usage {
    Usage::from_prompt_total(Some(30), None, None, Some(12), UsageSource::Provider)
}

#[test]
fn the_mock_gives_its_replies_in_order_and_keeps_the_calls() {
    let refused = LlmError::Authentication {
        detail: "no".to_string(),
    };
    let mut client = MockLlmClient::default()
        .reply("one")
        .outcome(Err(refused.clone()));
    let mut budget = TokenBudget::unlimited();
    let answer = client.complete_with_system("be terse", "first", &mut budget);
    assert_eq!(answer, Ok(LlmResponse::of("one")));
    assert_eq!(client.complete("second", &mut budget), Err(refused));
    let error = client.complete("third", &mut budget).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no agent: the mock has no reply for call 3"
    );
    let texts: Vec<&str> = client.calls().iter().map(|c| c.text.as_str()).collect();
    assert_eq!(texts, ["first", "second", "third"]);
    assert_eq!(client.calls()[0].system.as_deref(), Some("be terse"));
    assert_eq!(client.remaining(), 0);
}

#[test]
fn the_mock_keeps_to_budget_and_observer_as_the_real_ones_do() {
    let reply = LlmResponse {
        usage: usage(),
        ..LlmResponse::of("hello")
    };
    let mut client = MockLlmClient::default().outcome(Ok(reply)).reply("never");
    let (mut budget, mut notes) = (TokenBudget::new(42), Notes::default());
    // A planner, say, takes a client by value; a reference does as well.
    fn ask(mut client: impl LlmClient, budget: &mut TokenBudget, notes: &mut Notes) -> LlmResponse {
        client.run(&Request::new("hi"), budget, notes).unwrap()
    }
    let answer = ask(&mut client, &mut budget, &mut notes);
    assert!(answer.is_complete());
    assert_eq!(
        notes.0,
        ["[waiting]", "[answering]", "text hello", "usage 42"]
    );
    let error = client.complete("hi", &mut budget).unwrap_err();
    assert_eq!(error.may_have_charged().name(), "no");
    assert!(
        matches!(error, LlmError::BudgetExhausted { begun: false, .. }),
        "{error}"
    );
    assert_eq!((client.calls().len(), client.remaining()), (1, 1));
    // What failed and may be billed counts with all that it was allowed.
    let lost = LlmError::Incomplete {
        detail: "cut".to_string(),
    };
    let mut client = MockLlmClient::default().outcome(Err(lost));
    let mut budget = TokenBudget::new(1000);
    client.complete("hi", &mut budget).unwrap_err();
    assert!(budget.is_exhausted());
}

#[test]
fn phases_come_before_what_belongs_to_them_and_once() {
    let mut notes = Notes::default();
    let mut emitter = Emitter::new(&mut notes);
    for event in [
        Event::Phase(Phase::Waiting),
        Event::Phase(Phase::Waiting),
        Event::Thinking(""),
        Event::Thinking("a"),
        Event::Thinking("b"),
        Event::Text("c"),
        Event::Usage(&usage()),
        Event::Text("d"),
        Event::Superseded,
        Event::Text("e"),
    ] {
        emitter.emit(event).unwrap();
    }
    assert!(emitter.has_output());
    assert_eq!(
        notes.0.join(", "),
        "[waiting], [thinking], thinking a, thinking b, [answering], text c, usage 42, text d, superseded, [answering], text e"
    );
}

#[test]
fn a_stop_says_why_and_whether_the_turn_had_begun() {
    let stop = |at: Event<'_>, stop: Stop| {
        let mut observer = |_: Event<'_>| ControlFlow::Break(stop.clone());
        Emitter::new(&mut observer).emit(at).unwrap_err()
    };
    let waiting = Event::Phase(Phase::Waiting);
    assert_eq!(
        stop(waiting, Stop::Interrupted),
        LlmError::Interrupted { begun: false }
    );
    assert_eq!(
        stop(Event::Text("a"), Stop::Interrupted),
        LlmError::Interrupted { begun: true }
    );
    // The second wait comes after an attempt that may have been charged.
    let mut phases = 0;
    let mut observer = |event: Event<'_>| match event {
        Event::Phase(_) if phases == 1 => ControlFlow::Break(Stop::Interrupted),
        Event::Phase(_) => {
            phases += 1;
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    };
    let mut emitter = Emitter::new(&mut observer);
    emitter.emit(waiting).unwrap();
    emitter.emit(Event::Superseded).unwrap();
    assert_eq!(
        emitter.emit(waiting),
        Err(LlmError::Interrupted { begun: true })
    );
    let budget = stop(Event::Usage(&usage()), Stop::Budget("0.20 USD".to_string()));
    assert_eq!(budget.to_string(), "budget exhausted: 0.20 USD");
    assert_eq!(budget.may_have_charged().name(), "yes");
    let output = stop(Event::Text("a"), Stop::Output("disk full".to_string()));
    assert_eq!(output.to_string(), "input/output: disk full");
}

#[test]
fn output_that_was_refused_was_shown_all_the_same() {
    // The observer may have printed it before it gave up.
    let mut observer = |event: Event<'_>| match event {
        Event::Text(_) => ControlFlow::Break(Stop::Interrupted),
        _ => ControlFlow::Continue(()),
    };
    let mut emitter = Emitter::new(&mut observer);
    emitter.emit(Event::Text("a")).unwrap_err();
    assert!(emitter.has_output());
}

#[test]
fn an_allowance_is_what_budget_model_and_caller_leave() {
    let mut config = LlmClientConfig::for_model("kimi-k3");
    // "hi" is 1 token and its wrapping 18, says the service's own counter.
    let request = Request::new("hi");
    let allow = |config: &LlmClientConfig, request: &Request, max| {
        let allowance = config.allowance(request, &TokenBudget::new(max)).unwrap();
        (allowance.input, allowance.output)
    };
    assert_eq!(allow(&config, &request, u64::MAX), (None, None));
    assert_eq!(allow(&config, &request, 100), (Some(19), Some(81)));
    assert_eq!(allow(&config, &request, 20), (Some(19), Some(1)));
    let short = request.clone().max_output_tokens(50);
    assert_eq!(allow(&config, &short, 100), (Some(19), Some(50)));
    assert_eq!(allow(&config, &short, u64::MAX), (None, Some(50)));
    config.max_output_tokens = Some(40);
    assert_eq!(allow(&config, &request, 100), (Some(19), Some(40)));
    assert_eq!(allow(&config, &short, 100), (Some(19), Some(50)));
    config.max_output_tokens = None;
    config.model.window = Some(60);
    assert_eq!(allow(&config, &request, 100), (Some(19), Some(41)));
    // One token of budget is no answer.
    let error = config.allowance(&request, &TokenBudget::new(19));
    assert_eq!(
        error.unwrap_err().to_string(),
        "budget exhausted: the prompt has 19 tokens, and of 19 there are 19 left"
    );
    let system = request.system("hi");
    assert_eq!(allow(&config, &system, 100).0, Some(31));
}
