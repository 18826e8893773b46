//! A budget binds however a run ends: every ending that may be billed leaves its bound in the ledger.

use std::fs::OpenOptions;
use std::process::Stdio;

use serde_json::Value;

use crate::result::{KEY, ledger};
use crate::sandbox::{Run, Sandbox};
use crate::service::{Act, Answer, End, Service, Told};

/// 1000 tokens of answer at most cost 49 cents: a cap of a dollar has room for two such runs.
const FLAGS: &str = "--retries 0 --price 1,1,490 --max-output-tokens 1000";

fn prompt(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    let url = service.url();
    sandbox
        .omk(&format!("prompt --base-url {url} {FLAGS} {flags} Why?"))
        .env("MOONSHOT_API_KEY", KEY)
        .env("OMK_BUDGET", "1/day")
}

fn check(sandbox: &Sandbox, budget: &str) -> Run {
    sandbox.omk("cost check").env("OMK_BUDGET", budget)
}

/// Runs it twelve times. Two are sent, and what the commands say of the ledger agrees.
#[track_caller]
fn two_of_twelve(name: &str, act: fn() -> Act, run: impl Fn(&Sandbox, &Service)) {
    let sandbox = Sandbox::new(&format!("two_of_twelve_{name}"));
    let service = Service::new(move |_| act());
    for _ in 0..12 {
        run(&sandbox, &service);
    }
    assert_eq!(service.calls().len(), 2, "{name}: calls");
    check(&sandbox, "0.9/day")
        .run()
        .code(5)
        .stderr_contains("reserved $0.98");
    check(&sandbox, "1/day").run().code(0);
    let records = ledger(&sandbox.path("work"));
    let bound = |record: &Value| record["worst_case_usd"].as_str().map(str::to_string);
    let sent: Vec<&Value> = records.iter().filter(|r| r["charged"] != "no").collect();
    assert_eq!(sent.len(), 2, "{name}: {records:?}");
    for record in &sent {
        assert!(bound(record).unwrap().starts_with("0.4900"), "{record}");
        assert_eq!(record["actual_usd"], Value::Null, "{record}");
        assert_eq!(record["attempts"].as_array().map(Vec::len), Some(1));
    }
    // The bill says that one of them was not charged, so there is room for one more.
    let id = sent[0]["id"].as_str().unwrap();
    sandbox
        .omk(&format!("cost settle {id} --void --note refunded"))
        .run()
        .code(0)
        .stdout_contains("settled: $0");
    sandbox
        .omk(&format!("cost explain {id}"))
        .run()
        .code(0)
        .stdout_contains("(refunded)");
    for _ in 0..2 {
        run(&sandbox, &service);
    }
    assert_eq!(service.calls().len(), 3, "{name}: after a run was voided");
}

#[test]
fn a_cut_answer_counts_with_its_bound() {
    two_of_twelve(
        "cut",
        || {
            Answer::text(["half"])
                .end(End::Cut)
                .told(Told::Nowhere)
                .into()
        },
        |sandbox, service| {
            prompt(sandbox, service, "").run();
        },
    );
}

#[test]
fn an_answer_without_usage_counts_with_its_bound() {
    two_of_twelve(
        "silent",
        || Answer::text(["fine"]).told(Told::Nowhere).into(),
        |sandbox, service| {
            prompt(sandbox, service, "").run();
        },
    );
}

#[test]
fn negative_usage_counts_with_the_bound() {
    two_of_twelve(
        "negative",
        || {
            let told = Told::As(r#"{"prompt_tokens":-5,"completion_tokens":-7}"#);
            Answer::text(["fine"]).told(told).into()
        },
        |sandbox, service| {
            let outcome = prompt(sandbox, service, "").run();
            let text = outcome.stderr_text();
            let is_refused = text.contains("budget exhausted");
            let is_told = text.contains("prompt_tokens is -5, not a number of tokens");
            outcome.check(is_refused || is_told, "a warning");
        },
    );
}

#[test]
fn contradictory_usage_counts_with_the_greater_reading_and_is_shown_raw() {
    for (number, (raw, usd, at_most)) in [
        // 5 tokens at 1 USD and 9 cached ones at 0.5, 2 of the answer at 490, for a million.
        (
            r#"{"prompt_tokens":5,"completion_tokens":2,"cached_tokens":9}"#,
            Some("0.0009895"),
            Some("0.0009895"),
        ),
        (
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":120}"#,
            Some("0.0246"),
            Some("0.0246"),
        ),
        (r#"[100,50]"#, None, None),
        (
            r#"{"prompt_tokens":9,"completion_tokens":9223372036854775808}"#,
            None,
            None,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let sandbox = Sandbox::new(&format!("contradictory_usage_{number}"));
        let service = Service::new(move |_| Answer::text(["fine"]).told(Told::As(raw)));
        let url = service.url();
        let flags = "--price 1,0.5,490 --max-output-tokens 1000 --json";
        let outcome = sandbox
            .omk(&format!("prompt --base-url {url} {flags} Why?"))
            .env("MOONSHOT_API_KEY", KEY)
            .run();
        outcome.stderr_contains("the reported usage is wrong");
        let cost = &outcome.code(0).json()["cost"];
        let raw: Value = serde_json::from_str(raw).unwrap();
        outcome.check(cost["contradictions"][0]["raw"] == raw, "the raw usage");
        outcome.check(cost["usd_exact"].as_str() == usd, "the greater reading");
        match at_most {
            Some(most) => outcome.check(cost["at_most_usd_exact"] == most, "nothing is open"),
            // 1000 tokens of the answer may be billed.
            None => outcome.check(cost["at_most_usd"].as_f64() > Some(0.49), "the bound"),
        };
    }
}

#[test]
fn a_gateway_timeout_counts_with_its_bound() {
    two_of_twelve(
        "gateway",
        || Act::error("504 Gateway Timeout", "server_error", "too slow"),
        |sandbox, service| {
            prompt(sandbox, service, "").run();
        },
    );
}

#[test]
fn a_dropped_connection_counts_with_its_bound() {
    two_of_twelve(
        "dropped",
        || Act::Drop,
        |sandbox, service| {
            prompt(sandbox, service, "").run();
        },
    );
}

#[test]
fn a_deadline_counts_with_its_bound() {
    two_of_twelve(
        "deadline",
        || Act::Hold(Answer::text(["late"])),
        |sandbox, service| {
            prompt(sandbox, service, "--deadline 300ms").run();
        },
    );
}

#[test]
fn a_full_disk_counts_with_its_bound() {
    two_of_twelve(
        "full",
        || Answer::text(["some", " words"]).told(Told::Nowhere).into(),
        |sandbox, service| {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            prompt(sandbox, service, "")
                .stdout_to(Stdio::from(full))
                .run();
        },
    );
}

#[test]
fn a_reader_that_went_away_counts_with_its_bound() {
    two_of_twelve(
        "reader",
        || Answer::text(["some", " words"]).told(Told::Nowhere).into(),
        |sandbox, service| {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            prompt(sandbox, service, "")
                .stdout_to(Stdio::from(writer))
                .run();
        },
    );
}

#[test]
fn a_run_of_unknown_cost_closes_budgets_until_it_is_settled() {
    let sandbox = Sandbox::new("a_run_of_unknown_cost_closes_budgets_until_it_is_settled");
    let service = Service::new(|_| Answer::text(["fine"]));
    let url = service.url();
    let ask = |flags: &str| {
        sandbox
            .omk(&format!("prompt --base-url {url} {flags} Why?"))
            .env("MOONSHOT_API_KEY", KEY)
    };
    ask("-m nobody-knows-this").run().code(0);
    check(&sandbox, "1/day")
        .run()
        .code(5)
        .stderr_contains("1 run of unknown cost");
    sandbox
        .omk("cost check --allow-unknown")
        .env("OMK_BUDGET", "1/day")
        .run()
        .code(0);
    ask("--price 1,1,1 --max-output-tokens 10")
        .env("OMK_BUDGET", "1/day")
        .run()
        .code(5)
        .stderr_contains("omk cost settle");
    assert_eq!(service.calls().len(), 1);
    let listed = sandbox.omk("cost list --unknown --json").run();
    assert_eq!(listed.code(0).json()["matching"], 1);
    let records = ledger(&sandbox.path("work"));
    let run = records.iter().find(|run| run["charged"] == "yes").unwrap();
    let id = run["id"].as_str().unwrap();
    sandbox
        .omk(&format!("cost settle {id} --usd 0.25 --json"))
        .run()
        .code(0)
        .stdout_contains("\"usd_exact\":\"0.25\"");
    check(&sandbox, "1/day").run().code(0);
    check(&sandbox, "0.2/day")
        .run()
        .code(5)
        .stderr_contains("spent $0.25");
    ask("--price 1,1,1 --max-output-tokens 10")
        .env("OMK_BUDGET", "1/day")
        .run()
        .code(0);
}

#[test]
fn limits_shrink_by_what_failed_attempts_may_have_cost() {
    let sandbox = Sandbox::new("limits_shrink_by_what_failed_attempts_may_have_cost");
    let service = Service::new(|_| Act::error("504 Gateway Timeout", "server_error", "too slow"));
    let url = service.url();
    let outcome = sandbox
        .omk(&format!(
            "prompt --base-url {url} --price 1,1,490 --max-usd 0.6 --max-output-tokens 1000 --json Why?"
        ))
        .env("MOONSHOT_API_KEY", KEY)
        .run();
    let result = outcome.code(5).json();
    // The second attempt had what the first left of the 60 cents, and there was nothing for a third.
    assert_eq!(service.calls().len(), 2);
    let limits: Vec<u64> = service
        .calls()
        .iter()
        .map(|call| call.body["max_completion_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(limits[0], 1000);
    assert!(limits[1] > 200 && limits[1] < 230, "{limits:?}");
    let most = result["cost"]["at_most_usd"].as_f64().unwrap();
    assert!(most > 0.59 && most <= 0.6, "{most}");
}
