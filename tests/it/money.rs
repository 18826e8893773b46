//! A budget binds however a run ends: every ending that may be billed leaves its bound in the ledger.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

use omk::catalog::money::Usd;
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

/// Holds that `report`, `list` and `explain` say the same of every run, and that the budgets count its upper bound.
#[track_caller]
pub(crate) fn agree(sandbox: &Sandbox) {
    let usd = |value: &Value| Usd::parse(value.as_str().unwrap_or("0")).unwrap();
    let list = sandbox
        .omk("cost list --limit 100 --json")
        .run()
        .code(0)
        .json();
    let mut sum = Usd::ZERO;
    for run in list["runs"].as_array().unwrap() {
        let explain = format!("cost explain {} --json", run["id"].as_str().unwrap());
        let explained = sandbox.omk(&explain).run().code(0).json();
        for name in ["usd_exact", "at_most_usd_exact"] {
            assert_eq!(run[name], explained[name], "{run}");
        }
        let attempts = explained["attempts"].as_array().unwrap();
        let most = attempts
            .iter()
            .map(|attempt| usd(&attempt["at_most_usd_exact"]));
        let most = most.fold(Usd::ZERO, |sum, usd| sum + usd);
        assert_eq!(most, usd(&run["at_most_usd_exact"]), "{explained}");
        sum = sum + most;
    }
    let report = sandbox.omk("cost report --json").run().code(0).json();
    let total = &report["total"];
    let known = usd(&total["usd_exact"]) + usd(&total["in_doubt"]["at_most_usd_exact"]);
    assert_eq!(known, sum, "{total}");
    let limit = sum.exact_decimal();
    let checked = check(sandbox, &format!("{limit}/month"))
        .arg("--json")
        .run();
    let standing = &checked.code(0).json()["budgets"][0];
    assert_eq!(
        usd(&standing["spent_usd_exact"]) + usd(&standing["reserved_usd_exact"]),
        sum
    );
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
    agree(&sandbox);
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
        || {
            let answer = Answer::text(["some", " words"]).told(Told::Nowhere);
            Act::Hold(answer)
        },
        |sandbox, service| run_without_reader(prompt(sandbox, service, ""), service),
    );
}

/// Runs it to its end; whoever reads its output leaves when the model has been asked.
pub(crate) fn run_without_reader(run: Run, service: &Service) {
    let calls = service.calls().len();
    let (reader, writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run.stdout_to(Stdio::from(writer)).run());
        while service.calls().len() == calls && !running.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(reader);
        service.release();
    });
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

/// Asks at a host of that name, which is the service behind a proxy.
fn ask_at(sandbox: &Sandbox, service: &Service, host: &str, flags: &str) -> Run {
    let line = format!("prompt --base-url http://{host}/v1 --insecure {flags} Why?");
    let proxy = service.url().replace("/v1", "");
    let run = sandbox.omk(&line).env("MOONSHOT_API_KEY", KEY);
    run.env("HTTP_PROXY", proxy)
}

fn told_all() -> Service {
    let usage = r#"{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}"#;
    Service::new(move |_| Answer::text(["fine"]).told(Told::As(usage)))
}

#[test]
fn at_an_unknown_host_the_list_price_is_marked_counted_and_can_be_settled() {
    let sandbox = Sandbox::new("at_an_unknown_host_the_list_price_is_marked");
    let service = told_all();
    let ask = |host: &str| {
        let run = ask_at(&sandbox, &service, host, "-m kimi-k3 --json");
        run.env("OMK_BUDGET", "5/day").run()
    };
    let outcome = ask("gateway.example");
    let result = outcome.code(0).json();
    let id = result["run_id"].as_str().unwrap();
    let cost = &result["cost"];
    outcome.check(cost["kind"] == "list-price-equivalent", "the mark");
    outcome.check(cost["usd_exact"] == "0.0045", "the list price");
    let warning = format!("omk cost settle {id} --usd");
    let warned = outcome.stderr_text().matches(&warning).count();
    outcome.check(warned == 1, "one warning");
    // It may be billed, so it counts.
    check(&sandbox, "0.004/day").run().code(5);
    let listed = sandbox.omk("cost list --json").run().code(0).json();
    assert_eq!(listed["runs"][0]["kind"], "list-price-equivalent");
    sandbox
        .omk(&format!("cost explain {id}"))
        .run()
        .code(0)
        .stdout_contains("does not know who bills at gateway.example");
    let settle = format!("cost settle {id} --usd 0.002");
    sandbox.omk(&settle).run().code(0);
    check(&sandbox, "0.004/day").run().code(0);
    for host in ["api.moonshot.ai", "localhost"] {
        let outcome = ask(host);
        let cost = &outcome.code(0).json()["cost"];
        outcome.check(cost["kind"] == "metered", "billed per token");
        outcome.check(!outcome.stderr_text().contains("settle"), "no warning");
    }
}

#[test]
fn another_providers_price_is_its_own_or_none() {
    let sandbox = Sandbox::new("another_providers_price_is_its_own_or_none");
    let service = told_all();
    let name = "-m moonshotai/kimi-k3 --json";
    let outcome = ask_at(&sandbox, &service, "openrouter.ai", name).run();
    let cost = &outcome.code(0).json()["cost"];
    outcome.check(cost["usd"].is_null() && cost["kind"] == "unknown", "none");
    sandbox.file(
        "prices.json",
        r#"[{"model": "moonshotai/kimi-k3", "host": "openrouter.ai", "input": 2.1, "output": 9}]"#,
    );
    let flags = format!("{name} --price-file prices.json");
    let outcome = ask_at(&sandbox, &service, "openrouter.ai", &flags).run();
    let cost = &outcome.code(0).json()["cost"];
    outcome.check(cost["usd_exact"] == "0.003", "its own price");
    outcome.check(cost["kind"] == "metered", "billed per token");
}

#[test]
fn what_is_billed_in_cny_is_never_added_to_dollars() {
    let sandbox = Sandbox::new("what_is_billed_in_cny_is_never_added_to_dollars");
    let service = told_all();
    let host = "api.moonshot.cn";
    let ask = |flags: &str, budget: &str| {
        let flags = format!("-m kimi-k3 --json {flags}");
        let run = ask_at(&sandbox, &service, host, &flags);
        run.env("OMK_BUDGET", budget).run()
    };
    ask("", "5/day")
        .code(5)
        .stderr_contains("this run is billed in CNY")
        .stderr_contains("30cny/day");
    ask("--max-usd 1", "")
        .code(5)
        .stderr_contains("billed in CNY");
    assert_eq!(service.calls().len(), 0);
    let outcome = ask("--max-output-tokens 1000", "5/day,0.2cny/day");
    let result = outcome.code(0).json();
    let cost = &result["cost"];
    // 1000 tokens at 20 CNY and 100 at 100 CNY, for a million.
    outcome.check(cost["usd"].is_null(), "no dollars");
    outcome.check(cost["cny_exact"] == "0.03", "CNY");
    outcome.check(
        cost["price"]["currency"] == "CNY",
        "the currency of the rates",
    );
    ask("--max-output-tokens 2000", "5/day,0.2cny/day")
        .code(5)
        .stderr_contains("limit CNY 0.20, spent CNY 0.03");
    let usd = sandbox.omk("prompt --base-url http://127.0.0.1:1/v1 -m kimi-k3 --retries 0 Why?");
    usd.env("MOONSHOT_API_KEY", KEY).run();
    let report = sandbox.omk("cost report --json").run().code(0).json();
    assert_eq!(report["total"]["usd"], 0);
    assert_eq!(report["total"]["cny"]["spent_cny_exact"], "0.03");
    sandbox
        .omk("cost report")
        .run()
        .code(0)
        .stdout_contains(", CNY 0.03; not in usd");
    sandbox.omk("cost list").run().stdout_contains("CNY 0.03");
    check(&sandbox, "0.01cny/day")
        .run()
        .code(5)
        .stderr_contains("spent CNY 0.03");
    check(&sandbox, "0.01/day").run().code(0);
    let listed = sandbox.omk("cost list --json").run().code(0).json();
    let runs = listed["runs"].as_array().unwrap();
    let run = runs.iter().find(|run| run["cny"].is_number()).unwrap();
    assert_eq!(
        (&run["usd"], &run["currency"]),
        (&Value::Null, &Value::from("CNY"))
    );
    let id = run["id"].as_str().unwrap();
    sandbox
        .omk(&format!("cost settle {id} --usd 1"))
        .run()
        .code(2);
    sandbox
        .omk(&format!("cost settle {id} --cny 0.02"))
        .run()
        .code(0)
        .stdout_contains("settled: CNY 0.02");
    let exported = sandbox.omk("cost export").run();
    exported.stdout_contains("\"actual_cny_exact\":\"0.02\"");
}

#[test]
fn an_old_price_is_said_to_be_old_once() {
    let sandbox = Sandbox::new("an_old_price_is_said_to_be_old_once");
    let service = told_all();
    for (as_of, times) in [("2020-01-01", 1), ("2020-01", 1), ("2999-01-01", 0)] {
        let row = format!(r#"[{{"model": "house", "input": 1, "output": 2, "as_of": "{as_of}"}}]"#);
        sandbox.file("prices.json", &row);
        let url = service.url();
        let line = format!("prompt --base-url {url} -m house --price-file prices.json Why?");
        let outcome = sandbox.omk(&line).env("MOONSHOT_API_KEY", KEY).run();
        let text = outcome.code(0).stderr_text();
        let said = text.matches("the price of house is of").count();
        outcome.check(said == times, "the warning");
    }
}

#[test]
fn the_ledger_is_held_against_the_balance_of_the_account() {
    let sandbox = Sandbox::new("the_ledger_is_held_against_the_balance_of_the_account");
    let service = told_all();
    let reconcile = |host: &str| {
        let line = format!("cost reconcile --insecure --json --base-url http://{host}/v1");
        let proxy = service.url().replace("/v1", "");
        let run = sandbox.omk(&line).env("MOONSHOT_API_KEY", KEY);
        run.env("HTTP_PROXY", proxy).run()
    };
    let host = "api.moonshot.ai";
    service.set_balance("49.58894");
    let first = reconcile(host).code(0).json();
    assert_eq!(
        (&first["verdict"], &first["runs"]),
        (&Value::from("first"), &Value::from(0))
    );
    assert_eq!(first["balance_usd"], 49.58894);
    assert_eq!(first["cash_usd_exact"], "-1.5");
    // 1000 tokens at 3 USD and 100 at 15, for a million.
    ask_at(&sandbox, &service, host, "-m kimi-k3").run().code(0);
    service.set_balance("49.58444");
    let outcome = reconcile(host);
    let second = outcome.code(0).json();
    assert_eq!(second["spent_usd_exact"], "0.0045");
    assert_eq!(
        (&second["at_least_usd_exact"], &second["runs"]),
        (&Value::from("0.0045"), &Value::from(1))
    );
    assert_eq!(
        (&second["verdict"], &second["since"]),
        (&Value::from("within"), &first["at"])
    );
    // Someone else used the key.
    service.set_balance("40");
    let third = reconcile(host).code(0).json();
    assert_eq!(
        (&third["verdict"], &third["runs"]),
        (&Value::from("more"), &Value::from(0))
    );
    assert!(
        third["shared_key"]
            .as_str()
            .unwrap()
            .contains("not only the runs in this ledger")
    );
    // The account was topped up while a run was made.
    ask_at(&sandbox, &service, host, "-m kimi-k3").run().code(0);
    service.set_balance("60");
    assert_eq!(reconcile(host).code(0).json()["verdict"], "less");
    // The other platform has an account of its own, in CNY.
    let cny = reconcile("api.moonshot.cn").code(0).json();
    assert_eq!(
        (&cny["verdict"], &cny["balance_cny"]),
        (&Value::from("first"), &Value::from(60))
    );
    assert_eq!(cny["balance_usd"], Value::Null);
    // The key is nowhere.
    let ledger = sandbox
        .omk("cost path")
        .run()
        .code(0)
        .stdout_text()
        .trim()
        .to_string();
    for directory in ["readings", "loose"] {
        for entry in std::fs::read_dir(std::path::Path::new(&ledger).join(directory)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains(KEY), "{text}");
        }
    }
    let line = format!("cost reconcile --base-url {}", service.url());
    let text = sandbox.omk(&line).env("MOONSHOT_API_KEY", KEY).run();
    text.code(0)
        .stdout_contains("this is the first reading of this key");
    sandbox
        .omk(&line)
        .run()
        .code(77)
        .stderr_contains("MOONSHOT_API_KEY");
}
