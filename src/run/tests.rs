//! Runs against a client that fails as services do, with a ledger in memory.

use std::collections::VecDeque;

use super::*;
use crate::cost::budget::parse_budgets;
use crate::cost::sink::InMemoryCostSink;
use crate::llm::client::Emitter;
use crate::llm::client::MockLlmClient;
use crate::tokens::usage::TokenCounts;
use crate::tokens::usage::UsageSource;

/// One attempt of a service: what it says, what it reports, and its error if it fails.
#[derive(Clone, Debug)]
struct Act {
    text: &'static str,
    usage: Option<(u64, u64)>,
    error: Option<LlmError>,
}

/// A client that makes attempts as the HTTP client does: it asks before each, and retries what may be retried.
struct Attempts {
    acts: VecDeque<Act>,
    /// The limit of the answer that each attempt was allowed.
    caps: std::rc::Rc<std::cell::RefCell<Vec<Option<u64>>>>,
}

impl LlmClient for Attempts {
    fn run(
        &mut self,
        request: &Request,
        _: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let mut emitter = Emitter::new(observer);
        let mut attempt = 1;
        loop {
            let cap = emitter.before_attempt()?;
            let cap = cap.or(request.max_output_tokens);
            self.caps.borrow_mut().push(cap);
            emitter.emit(Event::Phase(Phase::Waiting))?;
            let act = self.acts.pop_front().expect("an act for each attempt");
            if act.error.is_none() || !act.text.is_empty() {
                emitter.emit(Event::Text(act.text))?;
            }
            let usage = act.usage.map(|(input_uncached, output)| {
                let counts = TokenCounts {
                    input_uncached,
                    output,
                    ..TokenCounts::default()
                };
                Usage::exact(counts, UsageSource::Provider)
            });
            if let Some(usage) = &usage {
                emitter.emit(Event::Usage(usage))?;
            }
            let Some(error) = act.error else {
                return Ok(LlmResponse {
                    model: Some("kimi-k3".to_string()),
                    usage: usage.unwrap_or(Usage::unknown(UsageSource::Provider)),
                    ..LlmResponse::of(act.text)
                });
            };
            if !error.is_retryable() || emitter.has_output() {
                return Err(error);
            }
            attempt += 1;
            emitter.emit(Event::Retry(&Retry {
                attempt,
                of: 9,
                wait: Duration::ZERO,
                error,
            }))?;
        }
    }
}

fn timeout() -> LlmError {
    LlmError::Timeout {
        phase: "waiting".to_string(),
        sent: true,
    }
}

fn busy() -> LlmError {
    LlmError::RateLimited {
        detail: "busy".to_string(),
        retry_after: None,
    }
}

fn fails(error: LlmError) -> Act {
    Act {
        text: "",
        usage: None,
        error: Some(error),
    }
}

fn answers(usage: Option<(u64, u64)>) -> Act {
    Act {
        text: "Paris.",
        usage,
        error: None,
    }
}

type Caps = std::rc::Rc<std::cell::RefCell<Vec<Option<u64>>>>;

fn run_of(
    acts: impl IntoIterator<Item = Act>,
    config: RunConfig,
    ledger: InMemoryCostSink,
) -> (Run<InMemoryCostSink>, Caps) {
    let caps = Caps::default();
    let client = Attempts {
        acts: acts.into_iter().collect(),
        caps: caps.clone(),
    };
    (Run::new(Box::new(client), config, ledger), caps)
}

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

fn question() -> Request {
    Request::new("What is the capital of France?").max_output_tokens(1_000)
}

#[test]
fn an_answer_is_recorded_with_its_attempt() {
    let config = RunConfig::new("kimi-k3");
    let (mut run, _) = run_of(
        [answers(Some((20, 3)))],
        config,
        InMemoryCostSink::default(),
    );
    assert_eq!(run.ask(&question()).unwrap().text, "Paris.");
    let record = run.finish();
    let [attempt] = &record.attempts[..] else {
        panic!("{record:?}");
    };
    assert_eq!(attempt.end.as_deref(), Some("answered"));
    assert_eq!(record.actual_usd, Some(usd("0.000105")));
    assert_eq!(record.at_most_usd(), record.actual_usd);
    assert_eq!(record.status, SessionStatus::Settled);
    assert_eq!(record.model.reported.as_deref(), Some("kimi-k3"));
}

#[test]
fn failed_attempts_that_may_be_billed_stay_in_the_amount() {
    let config = RunConfig::new("kimi-k3");
    let acts = [
        fails(timeout()),
        fails(busy()),
        fails(timeout()),
        answers(Some((20, 3))),
    ];
    let (mut run, _) = run_of(acts, config, InMemoryCostSink::default());
    run.ask(&question()).unwrap();
    assert_eq!(run.known_usd(), Some(usd("0.000105")));
    let bound = run.first_bound_usd().unwrap();
    assert_eq!(run.at_most_usd(), Some(usd("0.000105") + bound + bound));
    assert_eq!(run.usage().unwrap().unreported, 2);
    let record = run.finish();
    let charged: Vec<Charge> = record.attempts.iter().map(|a| a.charged).collect();
    assert_eq!(
        charged,
        [Charge::Unknown, Charge::No, Charge::Unknown, Charge::Yes]
    );
    assert_eq!(record.retries, 3);
}

#[test]
fn every_ending_without_usage_leaves_its_bound_in_the_ledger() {
    let incomplete = LlmError::Incomplete {
        detail: "cut".to_string(),
    };
    let full = LlmError::Io {
        detail: "no space left".to_string(),
    };
    for act in [
        answers(None),
        Act {
            text: "Par",
            ..fails(incomplete)
        },
        Act {
            text: "Par",
            ..fails(full)
        },
        Act {
            text: "Par",
            ..fails(timeout())
        },
        Act {
            text: "Par",
            ..fails(LlmError::Interrupted { begun: true })
        },
    ] {
        let what = format!("{act:?}");
        let (mut run, _) = run_of(
            [act],
            RunConfig::new("kimi-k3"),
            InMemoryCostSink::default(),
        );
        let _ = run.ask(&question());
        let bound = run.first_bound_usd();
        assert!(bound.is_some());
        let record = run.finish();
        assert_eq!(record.at_most_usd(), bound, "{what}");
        assert_eq!(record.actual_usd, None, "{what}");
        assert_ne!(record.charged, Charge::No, "{what}");
    }
}

#[test]
fn limits_are_held_before_every_attempt() {
    let limits = Limits {
        max_tokens: Some(100),
        max_usd: None,
    };
    let config = || RunConfig::new("kimi-k3").limits(limits);
    let reported = Act {
        usage: Some((25, 40)),
        ..fails(timeout())
    };
    let acts = [reported, fails(busy()), answers(Some((25, 3)))];
    let (mut run, caps) = run_of(acts, config(), InMemoryCostSink::default());
    let request = Request::new("What is the capital of France?");
    run.ask(&request).unwrap();
    let first = caps.borrow()[0].unwrap();
    // The first attempt used 65 of the 100, the second nothing.
    assert_eq!(
        *caps.borrow(),
        [Some(first), Some(first - 65), Some(first - 65)]
    );
    assert_eq!(run.usage().unwrap().total(), 65 + 28);

    let (mut run, caps) = run_of([fails(timeout())], config(), InMemoryCostSink::default());
    let error = run.ask(&request).unwrap_err();
    assert!(matches!(error, LlmError::BudgetExhausted { .. }), "{error}");
    assert_eq!(caps.borrow().len(), 1);
    assert_eq!(run.at_most_usd(), run.first_bound_usd());
}

#[test]
fn a_budget_admits_what_it_has_left_and_no_more() {
    let mut ledger = InMemoryCostSink::default();
    let price = RunConfig::new("kimi-k3");
    let (mut probe, _) = run_of(
        [fails(LlmError::Authentication {
            detail: "no".to_string(),
        })],
        price,
        InMemoryCostSink::default(),
    );
    let _ = probe.ask(&question());
    let bound = probe.first_bound_usd().unwrap();
    let cap = format!("{}/day", (bound + bound).exact_decimal());
    let mut served = 0;
    for _ in 0..12 {
        let config = RunConfig::new("kimi-k3").budgets(parse_budgets(&cap).unwrap());
        let cut = LlmError::Incomplete {
            detail: "cut".to_string(),
        };
        let (mut run, caps) = run_of(
            [Act {
                text: "Par",
                ..fails(cut)
            }],
            config,
            ledger,
        );
        let _ = run.ask(&question());
        served += caps.borrow().len();
        run.close(SessionStatus::Failed, 1);
        ledger = run.into_ledger().unwrap();
    }
    assert_eq!(served, 2);
}

#[test]
fn a_refused_run_has_sent_nothing() {
    let config = RunConfig::new("kimi-k3").budgets(parse_budgets("0.000001/day").unwrap());
    let client = MockLlmClient::default().reply("Paris.");
    let mut run = Run::new(Box::new(client), config, InMemoryCostSink::default());
    let error = run.ask(&question()).unwrap_err();
    assert!(matches!(
        error,
        LlmError::BudgetExhausted { begun: false, .. }
    ));
    assert_eq!(
        (run.charged(), run.at_most_usd()),
        (Charge::No, Some(Usd::ZERO))
    );
}

#[test]
fn a_replay_is_not_billed_and_not_recorded() {
    let config = RunConfig::new("kimi-k3").replay();
    let (mut run, _) = run_of(
        [answers(Some((20, 3)))],
        config,
        InMemoryCostSink::default(),
    );
    run.ask(&question()).unwrap();
    assert_eq!(
        (run.charged(), run.at_most_usd()),
        (Charge::No, Some(Usd::ZERO))
    );
    assert!(run.ledger().is_none());
}

#[test]
fn a_missing_ledger_does_not_keep_the_answer_but_a_budget_does() {
    let client = || Box::new(MockLlmClient::default().reply("Paris."));
    let missing = || Err(SinkError::new("HOME is not set"));
    let config = RunConfig::new("kimi-k3");
    let mut run = Run::<InMemoryCostSink>::with_ledger(client(), config, missing());
    assert!(run.ask(&question()).is_ok());
    let lost = run.close(SessionStatus::Settled, 0).unwrap();
    assert_eq!(lost.detail, "HOME is not set");
    let config = RunConfig::new("kimi-k3").budgets(parse_budgets("5/day").unwrap());
    let mut run = Run::<InMemoryCostSink>::with_ledger(client(), config, missing());
    assert!(matches!(run.ask(&question()), Err(LlmError::Io { .. })));
}
