//! `omk cost` on the built program: ledgers made by running omk against a server of the test's, by the library, and from
//! logs of agents; and a run that is killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use omk::catalog::money::Usd;
use omk::cost::file_sink::{Fold, JsonFileCostSink};
use omk::cost::record::Transport;
use omk::cost::record::{
    Charge, CostKind, Owner, SessionCost, SessionLogRef, SessionStatus, SessionType, Usage,
    UsageSource, new_id,
};
use omk::cost::sink::CostSink;
use omk::runtime::clock::parse_rfc3339;
use serde_json::{Value, json};

use crate::sandbox::{Outcome, Run, Sandbox};
use crate::server::{Reply, Server, nobody};

/// The answer of a service to one question.
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"kimi-k3","choices":[{"index":0,"message":{"role":"assistant","content":"Four."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":30,"total_tokens":1030,"cached_tokens":400}}"#;

/// The same as a stream of events.
fn events() -> String {
    let mut text = String::new();
    for event in [
        r#"{"id":"c","model":"kimi-k3","choices":[{"index":0,"delta":{"role":"assistant","content":"Four."}}]}"#,
        r#"{"id":"c","model":"kimi-k3","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":30,"total_tokens":1030,"cached_tokens":400}}"#,
        "[DONE]",
    ] {
        text.push_str(&format!("data: {event}\n\n"));
    }
    text
}

fn answer(request: &str) -> Reply {
    match request {
        "stream" => Reply::http("200 OK", &["content-type: text/event-stream"], &events()),
        _ => Reply::http("200 OK", &["content-type: application/json"], ANSWER),
    }
}

/// A sandbox's ledger.
fn ledger(sandbox: &Sandbox) -> JsonFileCostSink {
    JsonFileCostSink::new(ledger_path(sandbox))
}

fn ledger_path(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("home/.local/state/omk/ledger")
}

/// A run that is over and cost so much.
fn settled(number: u64, started: &str, model: &str, usd: &str) -> SessionCost {
    let id = new_id(parse_rfc3339(started).unwrap(), 7, number);
    let mut run = SessionCost::open(id, SessionType::Prompt, started);
    run.ended_at = Some(started.to_string());
    run.status = SessionStatus::Settled;
    run.kind = CostKind::Metered;
    run.charged = Charge::Yes;
    run.transport = Some(Transport::Http);
    run.peer = "api.moonshot.ai".to_string();
    run.model.requested = Some(model.to_string());
    run.actual_usd = Usd::parse(usd).ok();
    run.owner.host = "here".to_string();
    run.usage = Some(Usage {
        input: Some(100),
        cache_read: None,
        cache_write: None,
        output: Some(10),
        reasoning: None,
        source: UsageSource::Provider,
        unreported: 0,
    });
    run
}

/// A run that is open, of a process that is gone.
fn killed(number: u64, started: &str) -> SessionCost {
    let mut run = settled(number, started, "kimi-k3", "0");
    run.status = SessionStatus::Open;
    run.ended_at = None;
    run.usage = None;
    run.actual_usd = None;
    run.charged = Charge::Unknown;
    run.worst_case_usd = Usd::parse("0.5").ok();
    // This machine, and a process number that no process has: they end at 2^22.
    run.owner = Owner {
        pid: 0x7fff_fff0,
        ..Owner::current()
    };
    run
}

fn keep(sandbox: &Sandbox, runs: &[SessionCost]) {
    let mut ledger = ledger(sandbox);
    for run in runs {
        ledger.append(run).unwrap();
    }
}

fn omk(sandbox: &Sandbox, line: &str) -> Run {
    sandbox
        .omk(line)
        .without("HOME")
        .env("HOME", sandbox.path("home"))
}

/// Runs that differ in everything that a report tells apart.
fn mixed() -> Vec<SessionCost> {
    let mut runs = vec![
        settled(1, "2026-11-19T10:00:00Z", "kimi-k3", "0.25"),
        settled(2, "2026-11-20T10:00:00Z", "kimi-k3", "0.005"),
        settled(3, "2026-11-20T11:00:00Z", "kimi-k2.6", "1"),
    ];
    runs[0].tags.insert("team".to_string(), "red".to_string());
    runs[2].tags.insert("team".to_string(), "blue".to_string());
    runs[2].tags.insert("ci".to_string(), "1".to_string());
    // A plan's, without a list price.
    let mut plan = settled(4, "2026-11-20T12:00:00Z", "k3", "0");
    plan.kind = CostKind::ListPriceEquivalent;
    plan.actual_usd = None;
    // Nobody knows a price.
    let mut unpriced = settled(5, "2026-11-20T13:00:00Z", "house", "0");
    unpriced.kind = CostKind::Unknown;
    unpriced.actual_usd = None;
    runs.extend([plan, unpriced, killed(6, "2026-11-20T14:00:00Z")]);
    runs
}

#[test]
fn what_prompts_cost_is_reported_listed_and_explained() {
    let sandbox = Sandbox::new("what_prompts_cost_is_reported_listed_and_explained");
    let server = Server::new(["stream", "stream"].map(answer));
    for tag in ["team=red", "team=blue"] {
        omk(&sandbox, "prompt --no-stdin --model kimi-k3 --json")
            .arg("--tag")
            .arg(tag)
            .arg("--base-url")
            .arg(server.url("/v1"))
            .arg("What is two and two?")
            .env("MOONSHOT_API_KEY", "sk-test")
            .run()
            .code(0);
    }
    let report = omk(&sandbox, "cost report --by model --json").run();
    let document = report.code(0).stderr("").json();
    assert_eq!(document["schema"], "omk.cost-report/1");
    assert_eq!(document["rows"][0]["key"], "kimi-k3");
    assert_eq!(document["total"]["runs"], 2);
    let usd = document["total"]["usd_exact"].as_str().unwrap();
    report.check(Usd::parse(usd).unwrap() > Usd::ZERO, "an amount");
    assert_eq!(
        document["total"]["tokens"],
        json!({"input": 1200, "cache_read": 800, "cache_write": 0, "output": 60, "untold_runs": 0})
    );
    let tags = omk(&sandbox, "cost --by tag --tag team --csv").run();
    let lines: Vec<String> = tags
        .code(0)
        .stdout_text()
        .lines()
        .map(str::to_string)
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("tag,runs,usd,"), "{lines:?}");
    let shown = omk(&sandbox, "cost show last --json").run();
    let record = &shown.code(0).json()["record"];
    assert_eq!(record["tags"]["team"], "blue");
    let explained = omk(&sandbox, "cost explain last --json").run();
    let document = explained.code(0).json();
    assert_eq!(document["sum_usd"], record["actual_usd"]);
    assert_eq!(document["lines"][1]["tokens"], 400);
    let list = omk(&sandbox, "cost list --json").run();
    let document = list.code(0).json();
    assert_eq!(document["matching"], 2);
    // The beginning that both names share is no name.
    let id = document["runs"][0]["id"].as_str().unwrap();
    omk(&sandbox, "cost show")
        .arg(&id[..8])
        .run()
        .code(1)
        .stderr_contains("begins the names of several runs");
    omk(&sandbox, "cost show")
        .arg(id)
        .run()
        .code(0)
        .stdout_contains("kimi-k3");
    omk(&sandbox, "cost show 1999")
        .run()
        .code(1)
        .stderr_contains("there is no run `1999`");
}

#[test]
fn a_table_keeps_apart_what_must_not_be_added() {
    let sandbox = Sandbox::new("a_table_keeps_apart_what_must_not_be_added");
    keep(&sandbox, &mixed());
    omk(&sandbox, "cost report --by model")
        .run()
        .code(0)
        .stderr("")
        .stdout(
            "model      runs  input  output     usd   share  in doubt  unpriced   plan
kimi-k2.6     1    100      10  $1.00    79.7%
kimi-k3       3    200      20  $0.255   20.3%  <= $0.50
house         1    100      10   -        0.0%               1 run
k3            1    100      10  $0        0.0%                      1 run
total         6    500      50  $1.255  100.0%  <= $0.50     1 run  1 run
in doubt: 1 run open (1), killed or not reported (0), at most $0.50 together; not in usd
unpriced: 1 run with neither amount nor bound; not in usd
plan: 1 run that a subscription paid for, $0 at list price; not in usd; 1 of them without a list price
",
        );
}

#[test]
fn reports_by_everything_and_of_any_time() {
    let sandbox = Sandbox::new("reports_by_everything_and_of_any_time");
    keep(&sandbox, &mixed());
    let report = |line: &str| {
        let outcome = omk(&sandbox, &format!("cost report --json {line}")).run();
        outcome.code(0).json()
    };
    let keys = |line: &str| {
        let document = report(line);
        let rows = document["rows"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["key"].as_str().unwrap_or("-").to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (line, expected) in [
        ("", "2026-11-19 2026-11-20"),
        ("--by month", "2026-11"),
        ("--by command", "prompt"),
        ("--by transport", "http"),
        ("--by peer", "api.moonshot.ai"),
        ("--by tag --tag team", "blue red -"),
        ("--by tag --tag team --tag ci=1", "blue"),
        ("--by tag", "ci=1 team=blue team=red -"),
        ("--tag ci", "2026-11-20"),
        ("--since 2026-11-20", "2026-11-20"),
        ("--until 2026-11-19", "2026-11-19"),
        (
            "--since 2026-11-20T10:30:00Z --until 2026-11 --by model",
            "kimi-k2.6 kimi-k3 house k3",
        ),
        ("--since 2027-01-01", ""),
    ] {
        assert_eq!(keys(line), expected, "{line}");
    }
    let total = &report("")["total"];
    assert_eq!(
        (&total["usd"], &total["usd_exact"]),
        (&json!(1.255), &json!("1.255"))
    );
    assert_eq!(
        total["in_doubt"],
        json!({"runs": 1, "at_least_usd": 0, "at_least_usd_exact": "0", "at_most_usd": 0.5, "at_most_usd_exact": "0.5"})
    );
    assert_eq!(
        total["plan"],
        json!({"runs": 1, "list_price_usd": 0, "list_price_usd_exact": "0", "unpriced_runs": 1})
    );
    assert_eq!(
        (&total["unpriced_runs"], &total["open_runs"]),
        (&json!(1), &json!(1))
    );
    // Folded, it says the same.
    let before = report("--by model");
    ledger(&sandbox).fold(Fold::Now).unwrap();
    assert_eq!(report("--by model"), before);
    omk(&sandbox, "cost report --json --csv").run().code(2);
    omk(
        &sandbox,
        "cost report --since 2026-11-20 --until 2026-11-01",
    )
    .run()
    .code(2);
    omk(&sandbox, "cost report --since soon --json")
        .run()
        .code(2)
        .stdout_contains("omk.error/1");
}

#[test]
fn without_a_ledger_every_command_says_so_and_makes_none() {
    let sandbox = Sandbox::new("without_a_ledger_every_command_says_so_and_makes_none");
    for (line, stdout) in [
        ("cost", "no runs\n"),
        ("cost report --by model", "no runs\n"),
        ("cost list", "no runs\n"),
        ("cost check --max-usd 5/day", ""),
        ("cost recover", "no open runs\n"),
        ("cost export", ""),
    ] {
        omk(&sandbox, line).run().code(0).stderr("").stdout(stdout);
    }
    omk(&sandbox, "cost show last")
        .run()
        .code(1)
        .stderr_contains("the ledger is empty");
    omk(&sandbox, "cost clear --before 1d")
        .run()
        .code(0)
        .stdout_contains("nothing to remove");
    let path = ledger_path(&sandbox);
    omk(&sandbox, "cost path")
        .run()
        .code(0)
        .stdout(&format!("{}\n", path.display()));
    omk(&sandbox, "cost path")
        .env("OMK_LEDGER", "/x/y")
        .run()
        .stdout("/x/y\n");
    assert!(!path.exists());
}

#[test]
fn a_list_is_of_the_newest_and_of_what_was_asked_for() {
    let sandbox = Sandbox::new("a_list_is_of_the_newest_and_of_what_was_asked_for");
    let runs = mixed();
    keep(&sandbox, &runs);
    let open = omk(&sandbox, "cost list --status open").run();
    open.code(0).stdout_contains("at most $0.50");
    assert_eq!(open.stdout_text().lines().count(), 2);
    let two = omk(&sandbox, "cost list --limit 2").run();
    two.code(0)
        .stderr("omk: 4 older ones are not listed; --limit lists more\n");
    let lines: Vec<&str> = two.stdout_text().lines().collect();
    assert!(
        lines[1].starts_with(&runs[5].id) && lines[2].starts_with(&runs[4].id),
        "{lines:?}"
    );
    assert!(lines[2].contains("unknown"), "{lines:?}");
    let document = omk(&sandbox, "cost list --since 2026-11-20 --tag team --json")
        .run()
        .code(0)
        .json();
    assert_eq!(
        document["runs"][0]["tags"],
        json!({"team": "blue", "ci": "1"})
    );
    assert_eq!(document["matching"], 1);
}

#[test]
fn a_gate_is_silent_while_all_is_well() {
    let sandbox = Sandbox::new("a_gate_is_silent_while_all_is_well");
    let now = omk::runtime::clock::format_rfc3339(std::time::SystemTime::now());
    let mut spent = settled(1, &now, "kimi-k3", "4");
    spent.tags.insert("ci".to_string(), "1".to_string());
    let mut open = killed(2, &now);
    open.owner = Owner::default();
    keep(&sandbox, &[spent, open]);
    for (line, budget) in [
        ("cost check --max-usd 5/day", ""),
        ("cost check --max-usd 4.5/month", ""),
        ("cost check --max-usd 4/day --tag ci", ""),
        ("cost check", "5/day,tag:ci=4/day"),
        ("cost check --max-usd 1/day --tag team", ""),
    ] {
        omk(&sandbox, line)
            .env("OMK_BUDGET", budget)
            .run()
            .code(0)
            .stdout("")
            .stderr("");
    }
    let over = omk(&sandbox, "cost check --max-usd 4.2/day,9/week").run();
    over.code(5)
        .stdout("")
        .stderr_contains("omk: budget: 4.2/day: spent $4.00, reserved $0.50, limit $4.20 a day\n");
    let over = omk(&sandbox, "cost check --json")
        .env("OMK_BUDGET", "tag:ci=3/week")
        .run();
    let document = over.code(5).json();
    assert_eq!(document["error"]["kind"], "budget");
    assert_eq!(
        document["budgets"][0],
        json!({"budget": "tag:ci=3/week", "per": "week", "tag": "ci", "currency": "USD", "limit_usd": 3, "limit_usd_exact": "3", "spent_usd": 4,
            "spent_usd_exact": "4", "reserved_usd": 0, "reserved_usd_exact": "0", "unknown_runs": 0, "over": true})
    );
    omk(&sandbox, "cost check")
        .run()
        .code(2)
        .stderr_contains("there is no budget to check");
    omk(&sandbox, "cost check")
        .env("OMK_BUDGET", "5")
        .run()
        .code(78);
    omk(&sandbox, "cost check --max-usd 5").run().code(2);
}

#[test]
fn exports_follow_their_formats() {
    let sandbox = Sandbox::new("exports_follow_their_formats");
    let runs = mixed();
    keep(&sandbox, &runs);
    let jsonl = omk(&sandbox, "cost export --since 2026-11-20").run();
    let mut records: Vec<SessionCost> = jsonl
        .code(0)
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(records, runs[1..]);
    let csv = omk(&sandbox, "cost export --format csv --tag ci").run();
    let lines: Vec<&str> = csv.code(0).stdout_text().lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with(",\"ci=1,team=blue\",,"), "{lines:?}");
    // To a file in pieces, with the same lines and nothing else left there.
    let to_file = |line: &str| {
        let out = omk(&sandbox, line).run();
        out.code(0).stdout("").stderr("");
        for entry in std::fs::read_dir(sandbox.path("work")).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with(".omk-"), "{name:?}");
        }
        std::fs::read_to_string(sandbox.path("work/runs")).unwrap()
    };
    std::fs::write(sandbox.path("work/runs"), "what was there before").unwrap();
    assert_eq!(
        to_file("cost export --since 2026-11-20 -o runs"),
        jsonl.stdout_text()
    );
    assert_eq!(
        to_file("cost export --format csv --tag ci -o runs"),
        csv.stdout_text()
    );
    // Replaced in one step, with nothing on standard output.
    let out = omk(&sandbox, "cost export --format openmetrics -o omk.prom").run();
    out.code(0).stdout("").stderr("");
    let text = std::fs::read_to_string(sandbox.path("work/omk.prom")).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "omk_cost_usd_total{model=\"kimi-k2.6\",transport=\"http\",type=\"prompt\",status=\"settled\"} 1\n",
        "omk_runs_unpriced_total{model=\"house\",transport=\"http\",type=\"prompt\",status=\"settled\"} 1\n",
        "omk_open_runs{model=\"kimi-k3\",transport=\"http\",type=\"prompt\",status=\"open\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    omk(&sandbox, "cost export --format openmetrics --since 7d")
        .run()
        .code(2);
    omk(&sandbox, "cost export -o missing/file").run().code(74);
}

#[test]
fn clearing_says_what_goes_and_keeps_what_is_open() {
    let sandbox = Sandbox::new("clearing_says_what_goes_and_keeps_what_is_open");
    let mut runs = mixed();
    runs.push(killed(9, "2026-11-19T00:00:00Z"));
    keep(&sandbox, &runs);
    ledger(&sandbox).fold(Fold::Now).unwrap();
    let refused = omk(&sandbox, "cost clear --before 2026-11-20").run();
    refused.code(2).stdout("").stderr_contains(
        "this would remove 1 run that began before 2026-11-20T00:00:00Z, $0.25 in all; 1 of that time are open and stay",
    );
    omk(&sandbox, "cost clear --before 2026-11-20 --dry-run")
        .run()
        .code(0)
        .stdout_contains("would remove 1 run");
    let count = |line: &str| omk(&sandbox, line).run().code(0).json()["matching"].clone();
    assert_eq!(count("cost list --json"), 7);
    let cleared = omk(&sandbox, "cost clear --before 2026-11-20 --yes --json")
        .run()
        .code(0)
        .json();
    assert_eq!(
        (&cleared["removed"], &cleared["open"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(count("cost list --json"), 6);
    assert_eq!(count("cost list --status open --json"), 2);
    omk(&sandbox, "cost clear").run().code(2);
}

/// Puts a session of Kimi Code into a sandbox's home.
fn code_session(sandbox: &Sandbox, session: &str, agents: &[(&str, &str)]) -> PathBuf {
    let directory = sandbox
        .path("home/.kimi-code/sessions/wd_x_0123456789ab")
        .join(session);
    for (agent, log) in agents {
        let agent = directory.join("agents").join(agent);
        std::fs::create_dir_all(&agent).unwrap();
        std::fs::write(agent.join("wire.jsonl"), log).unwrap();
    }
    directory
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/session_logs");
    std::fs::read_to_string(path.join(format!("{name}.jsonl"))).unwrap()
}

/// A killed run of an agent, whose log is in a sandbox's home.
fn killed_agent(
    sandbox: &Sandbox,
    number: u64,
    agent: &str,
    session: &str,
    offset: u64,
) -> SessionCost {
    // Before the turns of the fixtures.
    let mut run = killed(number, "2026-11-20T09:00:00Z");
    run.transport = Some(if agent == "Kimi Code" {
        Transport::Acp
    } else {
        Transport::Wire
    });
    run.peer = agent.to_string();
    run.session_id = Some(session.to_string());
    run.log = Some(SessionLogRef {
        agent: agent.to_string(),
        home: sandbox.path(if agent == "Kimi Code" {
            "home/.kimi-code"
        } else {
            "home/.kimi"
        }),
        offset,
    });
    run
}

/// The run of that place in the answer of `recover --json`.
fn recovered(outcome: &Outcome, place: usize) -> Value {
    outcome.code(0).json()["runs"][place].clone()
}

#[test]
fn a_killed_run_is_settled_from_the_log_of_its_agent() {
    let sandbox = Sandbox::new("a_killed_run_is_settled_from_the_log_of_its_agent");
    code_session(
        &sandbox,
        "session_a",
        &[
            ("main", &fixture("code_subagent")),
            ("agent-0", &fixture("code_subagent.agent-0")),
        ],
    );
    // Cancelled before it told anything; and a log that was there before the run and has nothing after it.
    code_session(
        &sandbox,
        "session_b",
        &[("main", &fixture("code_cancelled"))],
    );
    let before = fixture("code_tool");
    code_session(&sandbox, "session_c", &[("main", &before)]);
    keep(
        &sandbox,
        &[
            killed_agent(&sandbox, 1, "Kimi Code", "session_a", 0),
            killed_agent(&sandbox, 2, "Kimi Code", "session_b", 0),
            killed_agent(&sandbox, 3, "Kimi Code", "session_c", before.len() as u64),
            killed(4, "2026-11-20T09:00:00Z"),
        ],
    );
    sandbox.file(
        "prices.json",
        r#"[{"model": "kimi-k2", "input": 1, "cached_input": 0.5, "output": 10}]"#,
    );
    let dry = omk(
        &sandbox,
        "cost recover --dry-run --json --price-file prices.json",
    )
    .run();
    assert_eq!(recovered(&dry, 0)["status"], "settled");
    let outcome = omk(&sandbox, "cost recover --json --price-file prices.json").run();
    // Two calls of the main agent and one of its sub-agent: 3 x (600 + 400 / 2 + 30 x 10) / 1M.
    assert_eq!(recovered(&outcome, 0)["usd_exact"], "0.0033");
    assert_eq!(recovered(&outcome, 0)["status"], "settled");
    for place in 1..4 {
        let run = recovered(&outcome, place);
        assert_eq!(
            (&run["status"], &run["at_most_usd_exact"]),
            (&json!("unknown"), &json!("0.5")),
            "{place}"
        );
    }
    let shown = omk(&sandbox, "cost show 20260").run();
    shown.code(1);
    let list = omk(&sandbox, "cost list --status settled --json")
        .run()
        .code(0)
        .json();
    let run = &list["runs"][0];
    assert_eq!(
        run["usage"],
        json!({"input": 1800, "cache_read": 1200, "cache_write": 0, "output": 90, "reasoning": null, "source": "session-log"})
    );
    assert_eq!(run["model"], "kimi-k2");
    let explained = omk(&sandbox, "cost explain")
        .arg(run["id"].as_str().unwrap())
        .run();
    explained
        .code(0)
        .stdout_contains("from the agent's session log");
    // Again: nothing is open, and nothing changes.
    omk(&sandbox, "cost recover")
        .run()
        .code(0)
        .stdout("no open runs\n");
}

/// A turn in the log of kimi-cli.
fn legacy_turn(at: u64, output: u64, ended: bool) -> String {
    let mut text = format!(
        "{{\"timestamp\":{at},\"message\":{{\"type\":\"TurnBegin\",\"payload\":{{\"user_input\":\"hi\"}}}}}}\n{{\"timestamp\":{at}.5,\"message\":{{\"type\":\"StatusUpdate\",\"payload\":{{\"token_usage\":{{\"input_other\":600,\"output\":{output},\"input_cache_read\":400,\"input_cache_creation\":0}},\"message_id\":\"c1\"}}}}}}\n"
    );
    if ended {
        text.push_str(&format!(
            "{{\"timestamp\":{at}.9,\"message\":{{\"type\":\"TurnEnd\",\"payload\":{{}}}}}}\n"
        ));
    }
    text
}

fn legacy_session(sandbox: &Sandbox, session: &str, log: &str) -> PathBuf {
    let directory = sandbox.path("home/.kimi/sessions/0123").join(session);
    std::fs::create_dir_all(&directory).unwrap();
    let head = "{\"type\":\"metadata\",\"protocol_version\":\"1.10\"}\n";
    std::fs::write(directory.join("wire.jsonl"), format!("{head}{log}")).unwrap();
    directory
}

/// 2026-11-20T09:00:00Z.
const NINE: u64 = 1_795_165_200;

#[test]
fn a_session_that_was_gone_on_with_by_hand_is_not_the_runs() {
    let sandbox = Sandbox::new("a_session_that_was_gone_on_with_by_hand_is_not_the_runs");
    let mut run = killed_agent(&sandbox, 1, "kimi-cli", "run-1", 0);
    run.price = serde_json::from_value(json!({
        "model": "kimi-k3", "input": "1", "cached_input": "0.5", "cache_write": null, "cache_write_1h": null, "output": "10",
    }))
    .unwrap();
    run.model.requested = Some("nobody-lists-it".to_string());
    let log = format!(
        "{}{}",
        legacy_turn(NINE + 1, 30, true),
        legacy_turn(NINE + 600, 500, true)
    );
    legacy_session(&sandbox, "run-1", &log);
    // Cut in the middle: what is in the log is known, and one more call may have been made.
    let mut cut = killed_agent(&sandbox, 2, "kimi-cli", "run-2", 0);
    cut.price.clone_from(&run.price);
    legacy_session(&sandbox, "run-2", &legacy_turn(NINE + 1, 30, false));
    keep(&sandbox, &[run, cut]);
    let outcome = omk(&sandbox, "cost recover --json").run();
    assert_eq!(recovered(&outcome, 0)["usd_exact"], "0.0011");
    assert_eq!(recovered(&outcome, 0)["status"], "settled");
    let cut = recovered(&outcome, 1);
    assert_eq!(
        (&cut["status"], &cut["at_most_usd_exact"], &cut["log"]),
        (&json!("unknown"), &json!("0.50237"), &json!(true))
    );
    // The turn that someone typed later is imported, and the run's is not.
    let imported = omk(&sandbox, "cost import kimi --json")
        .run()
        .code(0)
        .json();
    assert_eq!(
        (&imported["added"], &imported["own"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(imported["sums"]["tokens"]["output"], 500);
}

#[test]
fn a_run_of_another_machine_is_left_alone_unless_told() {
    let sandbox = Sandbox::new("a_run_of_another_machine_is_left_alone_unless_told");
    let mut elsewhere = killed(1, "2026-11-20T09:00:00Z");
    elsewhere.owner.host = "elsewhere".to_string();
    let mut alive = killed(2, "2026-11-20T09:00:00Z");
    alive.owner = Owner::current();
    keep(&sandbox, &[elsewhere, alive]);
    let outcome = omk(&sandbox, "cost recover --json").run();
    outcome.stderr_contains("--all-hosts");
    assert_eq!(recovered(&outcome, 0)["stays"], "unseen");
    assert_ne!(recovered(&outcome, 1)["stays"], Value::Null);
    let outcome = omk(&sandbox, "cost recover --json --all-hosts").run();
    assert_eq!(recovered(&outcome, 0)["status"], "unknown");
}

#[test]
fn sessions_are_imported_once_with_their_sub_agents_and_real_models() {
    let sandbox = Sandbox::new("sessions_are_imported_once_with_their_sub_agents_and_real_models");
    let (main, sub) = (fixture("code_subagent"), fixture("code_subagent.agent-0"));
    let session = code_session(&sandbox, "session_a", &[("main", &main), ("agent-0", &sub)]);
    // A copy of it, as a fork makes one, and a session on the plan.
    code_session(
        &sandbox,
        "session_fork",
        &[("main", &main), ("agent-0", &sub)],
    );
    let plan = fixture("code_tool")
        .replace("__kimi_env_model__", "kimi-code/k3")
        .replace("\"kimi-k2\"", "\"k3\"");
    code_session(&sandbox, "session_plan", &[("main", &plan)]);
    // An older agent's: one sub-agent in the foreground, whose calls stand in both files, and one in the background.
    let foreground = legacy_turn(NINE, 7, true).replace(
        "\"message\":{\"type\":\"StatusUpdate\",\"payload\":",
        "\"message\":{\"type\":\"SubagentEvent\",\"payload\":{\"agent_id\":\"ae3\",\"event\":{\"type\":\"StatusUpdate\",\"payload\":",
    );
    let foreground = foreground.replace("\"message_id\":\"c1\"}}}", "\"message_id\":\"c1\"}}}}}");
    let legacy = legacy_session(&sandbox, "s1", &foreground);
    for agent in ["ae3", "b04"] {
        let directory = legacy.join("subagents").join(agent);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("wire.jsonl"), legacy_turn(NINE, 9, true)).unwrap();
    }
    sandbox.file(
        "prices.json",
        r#"[{"model": "kimi-k2", "input": 1, "cached_input": 0.5, "output": 10}]"#,
    );
    let line = "cost import kimi --json --price-file prices.json";
    let dry = omk(&sandbox, &format!("{line} --dry-run"))
        .run()
        .code(0)
        .json();
    assert_eq!(dry["added"], 5);
    omk(&sandbox, "cost list").run().stdout("no runs\n");
    let first = omk(&sandbox, line).run().code(0).json();
    assert_eq!((&first["added"], &first["known"]), (&json!(5), &json!(2)));
    assert_eq!(first["sums"]["usd"], 0.0033);
    assert_eq!(
        first["sums"]["plan"],
        json!({"runs": 1, "list_price_usd": 0, "list_price_usd_exact": "0", "unpriced_runs": 1})
    );
    // The foreground's 7 once, the background's 9 once.
    assert_eq!(first["sums"]["tokens"]["output"], 3 * 30 + 2 * 30 + 7 + 9);
    assert_eq!(first["sums"]["unpriced_runs"], 2);
    let second = omk(&sandbox, line).run().code(0).json();
    assert_eq!(
        (&second["added"], &second["updated"], &second["known"]),
        (&json!(0), &json!(0), &json!(7))
    );
    ledger(&sandbox).fold(Fold::Now).unwrap();
    let third = omk(&sandbox, line).run().code(0).json();
    assert_eq!((&third["added"], &third["known"]), (&json!(0), &json!(7)));
    let report = omk(&sandbox, "cost report --by model --json")
        .run()
        .code(0)
        .json();
    assert_eq!(report["rows"][0]["key"], "kimi-k2");
    // Another turn in the same session is news; one that is under way waits.
    let log = session.join("agents/main/wire.jsonl");
    let another = main.replace("msg_01M7W38WM7N23APHTJ819EGE7Z", "msg_2");
    let under_way = "{\"type\":\"turn.prompt\",\"turnId\":9,\"origin\":{\"kind\":\"user\"},\"promptId\":\"msg_3\",\"time\":1795165550000}\n{\"type\":\"usage.record\",\"model\":\"__kimi_env_model__\",\"usage\":{\"inputOther\":1,\"output\":1},\"time\":1795165550001}\n";
    std::fs::write(log, format!("{main}{another}{under_way}")).unwrap();
    let fourth = omk(&sandbox, line).run().code(0).json();
    assert_eq!(
        (&fourth["added"], &fourth["under_way"]),
        (&json!(1), &json!(1))
    );
    // The models of the older agent are not in its logs.
    let priced = omk(&sandbox, "cost import kimi --json --model kimi-k3")
        .run()
        .code(0)
        .json();
    assert_eq!(
        (&priced["updated"], &priced["added"]),
        (&json!(2), &json!(0))
    );
    omk(&sandbox, "cost import claude").run().code(2);
    omk(&sandbox, "cost import").run().code(2);
}

/// What another agent did is not Kimi's to bill, and what Kimi Code did afterwards in the same session is.
#[test]
fn a_session_copied_from_another_agent_is_not_billed_as_kimis() {
    let sandbox = Sandbox::new("a_session_copied_from_another_agent_is_not_billed_as_kimis");
    let foreign = "{\"type\":\"turn.prompt\",\"turnId\":0,\"origin\":{\"kind\":\"user\"},\"promptId\":\"msg_0\",\"time\":1795165500000}\n\
                   {\"type\":\"usage.record\",\"model\":\"claude\",\"usage\":{\"inputOther\":700,\"output\":70},\"time\":1795165500001}\n\
                   {\"type\":\"turn.ended\",\"turnId\":0,\"reason\":\"completed\",\"time\":1795165500002}\n";
    let log = format!("{foreign}{}", fixture("code_tool"));
    let import = |session: &str, state: &str| {
        let directory = code_session(&sandbox, session, &[("main", &log)]);
        std::fs::write(directory.join("state.json"), state).unwrap();
        let line = "cost import kimi --json --dry-run";
        let found = omk(&sandbox, line).run().code(0).json();
        std::fs::remove_dir_all(directory).unwrap();
        (found["added"].clone(), found["foreign_calls"].clone())
    };
    let own = import(
        "session_own",
        r#"{"custom":{"imported_from_kimi_cli":false}}"#,
    );
    assert_eq!(own, (json!(2), json!(0)));
    for state in [
        r#"{"custom":{"imported_from_claude_code":true}}"#,
        r#"{"importedFrom":"codex"}"#,
    ] {
        assert_eq!(
            import("session_copied", state),
            (json!(1), json!(1)),
            "{state}"
        );
    }
}

#[test]
fn a_usage_record_that_cannot_be_read_is_reported_and_leaves_the_turn_unsettled() {
    let sandbox = Sandbox::new("a_usage_record_that_cannot_be_read_is_reported");
    let log = fixture("code_tool");
    let record = log
        .lines()
        .find(|line| line.contains("usage.record"))
        .unwrap();
    let broken = "{\"type\":\"usage.record\",\"model\":\"__kimi_env_model__\",\"usage\":{\"inputOther\":-5,\"output\":[]}}";
    let log = log.replacen(record, &format!("{record}\n{broken}"), 1);
    code_session(&sandbox, "session_a", &[("main", &log)]);
    let outcome = omk(&sandbox, "cost import kimi --json").run();
    outcome.stderr_contains(
        "inputOther is -5, not a number of tokens; output is [], not a number of tokens",
    );
    outcome.stderr_contains("\"inputOther\":-5");
    let run = &omk(&sandbox, "cost list --json").run().code(0).json()["runs"][0];
    assert_eq!(
        (&run["status"], &run["usage"]["unreported"]),
        (&json!("unknown"), &json!(1))
    );
}

#[test]
fn homes_are_where_the_agents_say() {
    let sandbox = Sandbox::new("homes_are_where_the_agents_say");
    code_session(&sandbox, "session_a", &[("main", &fixture("code_tool"))]);
    std::fs::rename(sandbox.path("home/.kimi-code"), sandbox.path("elsewhere")).unwrap();
    let run = |home: &str| {
        omk(&sandbox, "cost import kimi")
            .env("KIMI_CODE_HOME", sandbox.path(home))
            .run()
    };
    run("nowhere").code(0).stdout_contains("0 turns added");
    run("elsewhere")
        .code(0)
        .stdout_contains("1 turn added: $0, 1 without a price\n");
}

/// Checks a request against the shape that OTLP publishes for spans in JSON, and gives the spans.
#[track_caller]
fn spans(request: &str) -> Vec<Value> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json"),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    only(&body, &["resourceSpans"]);
    let mut spans = Vec::new();
    for resource in body["resourceSpans"].as_array().unwrap() {
        only(resource, &["resource", "scopeSpans", "schemaUrl"]);
        only(&resource["resource"], &["attributes"]);
        attributes(&resource["resource"]["attributes"]);
        for scope in resource["scopeSpans"].as_array().unwrap() {
            only(scope, &["scope", "spans", "schemaUrl"]);
            only(&scope["scope"], &["name", "version"]);
            for span in scope["spans"].as_array().unwrap() {
                only(
                    span,
                    &[
                        "traceId",
                        "spanId",
                        "name",
                        "kind",
                        "startTimeUnixNano",
                        "endTimeUnixNano",
                        "attributes",
                        "status",
                    ],
                );
                hex(&span["traceId"], 32);
                hex(&span["spanId"], 16);
                assert!(matches!(span["kind"].as_u64(), Some(1..=5)), "{span}");
                let times = ["startTimeUnixNano", "endTimeUnixNano"]
                    .map(|key| span[key].as_str().unwrap().parse::<u64>().unwrap());
                assert!(times[0] <= times[1], "{span}");
                attributes(&span["attributes"]);
                if let Some(status) = span.get("status") {
                    only(status, &["code", "message"]);
                    assert!(matches!(status["code"].as_u64(), Some(0..=2)), "{span}");
                }
                spans.push(span.clone());
            }
        }
    }
    spans
}

#[track_caller]
fn only(value: &Value, keys: &[&str]) {
    for key in value.as_object().unwrap().keys() {
        assert!(keys.contains(&key.as_str()), "{key} in {value}");
    }
}

#[track_caller]
fn hex(value: &Value, digits: usize) {
    let text = value.as_str().unwrap();
    assert!(
        text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "{text}"
    );
    assert!(text.bytes().any(|b| b != b'0'), "{text}");
}

#[track_caller]
fn attributes(list: &Value) {
    let mut seen = std::collections::BTreeSet::new();
    for attribute in list.as_array().unwrap() {
        only(attribute, &["key", "value"]);
        assert!(
            seen.insert(attribute["key"].as_str().unwrap()),
            "{attribute} appears twice"
        );
        let value = attribute["value"].as_object().unwrap();
        assert_eq!(value.len(), 1, "{attribute}");
        match value.iter().next().unwrap() {
            (kind, Value::String(text)) if kind == "intValue" => {
                assert!(text.parse::<i64>().is_ok(), "{text}")
            }
            (kind, Value::String(_)) => assert_eq!(kind, "stringValue"),
            (kind, Value::Number(_)) => assert_eq!(kind, "doubleValue"),
            other => panic!("{other:?}"),
        }
    }
}

fn push(sandbox: &Sandbox, server: &Server) -> Run {
    omk(sandbox, "cost push --json --otlp").arg(server.url(""))
}

#[test]
fn a_collector_gets_every_run_once() {
    let sandbox = Sandbox::new("a_collector_gets_every_run_once");
    keep(&sandbox, &mixed());
    let ok = || Reply::http("200 OK", &["content-type: application/json"], "{}");
    let server = Server::new([
        Reply::http("503 Service Unavailable", &["retry-after: 0"], ""),
        Reply::http("429 Too Many Requests", &["retry-after: 0"], "slow down"),
        ok(),
        ok(),
    ]);
    let run = push(&sandbox, &server).env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b");
    let document = run.run().code(0).json();
    assert_eq!(
        (&document["sent"], &document["requests"], &document["open"]),
        (&json!(5), &json!(3), &json!(1))
    );
    let requests = server.requests();
    let sent = spans(&requests[2]);
    assert_eq!((requests.len(), sent.len()), (3, 5));
    assert!(
        requests[2].to_lowercase().contains("x-key: a b\r\n"),
        "{}",
        requests[2]
    );
    // The same body each time: a span that is sent twice can be told.
    assert_eq!(spans(&requests[0]), sent);
    let document = push(&sandbox, &server).run().code(0).json();
    assert_eq!(
        (&document["sent"], &document["known"]),
        (&json!(0), &json!(5))
    );
    assert_eq!(server.requests().len(), 3);
    // The open run, settled, and two new ones of two months are news, once.
    omk(&sandbox, "cost recover").run().code(0);
    keep(
        &sandbox,
        &[
            settled(70, "2026-11-20T10:00:00Z", "kimi-k3", "1"),
            settled(71, "2026-10-31T23:59:59Z", "kimi-k3", "1"),
        ],
    );
    assert_eq!(push(&sandbox, &server).run().code(0).json()["sent"], 3);
    let document = push(&sandbox, &server).run().code(0).json();
    assert_eq!(
        (&document["sent"], &document["known"]),
        (&json!(0), &json!(8))
    );
    let last = spans(&server.requests()[3]);
    assert!(
        last.iter()
            .any(|span| span["status"] == json!({"code": 2, "message": "unknown"})),
        "{last:?}"
    );
    // Another collector has none of them.
    let another = Server::new([Reply::http("200 OK", &[], "")]);
    assert_eq!(push(&sandbox, &another).run().code(0).json()["sent"], 8);
}

#[test]
fn what_a_collector_refuses_is_told_and_what_it_rejects_is_not_sent_again() {
    let sandbox =
        Sandbox::new("what_a_collector_refuses_is_told_and_what_it_rejects_is_not_sent_again");
    keep(&sandbox, &mixed());
    let partial = r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
    let server = Server::new([
        Reply::http("400 Bad Request", &[], "{\"message\":\"no\"}"),
        Reply::http("200 OK", &[], partial),
    ]);
    let refused = push(&sandbox, &server).run();
    let document = refused.code(1).json();
    assert_eq!(
        (&document["sent"], &document["error"]["http_status"]),
        (&json!(0), &json!(400))
    );
    let rejected = push(&sandbox, &server).run();
    let document = rejected.code(1).json();
    assert_eq!(
        (&document["sent"], &document["rejected"]),
        (&json!(5), &json!(2))
    );
    rejected.stderr_contains("too old");
    assert_eq!(push(&sandbox, &server).run().code(0).json()["sent"], 0);
    assert_eq!(server.requests().len(), 2);
    // Nobody is there, and there is no time to wait for anyone.
    let gone = omk(&sandbox, "cost push --deadline 700ms --otlp")
        .arg(
            nobody()
                .trim_end_matches('/')
                .replace("http://", "http://x@"),
        )
        .run();
    gone.check(!gone.stderr_text().contains("panicked"), "no panic");
    omk(&sandbox, "cost push")
        .run()
        .code(2)
        .stderr_contains("OTEL_EXPORTER_OTLP_ENDPOINT");
}

#[test]
fn an_estimate_learns_from_the_ledger() {
    let sandbox = Sandbox::new("an_estimate_learns_from_the_ledger");
    sandbox.file("text", "How many tokens is this?");
    let history = |line: &str| {
        let document = omk(&sandbox, &format!("estimate text --json {line}"))
            .run()
            .code(0)
            .json();
        document["models"][0]["history"].clone()
    };
    assert_eq!(history(""), Value::Null);
    let runs: Vec<SessionCost> = (1..=10)
        .map(|number| {
            let mut run = settled(number, "2026-11-20T10:00:00Z", "kimi-k3", "1");
            if let Some(usage) = &mut run.usage {
                usage.output = Some(number * 100);
            }
            if number > 5 {
                run.tags.insert("ci".to_string(), "1".to_string());
            }
            run
        })
        .collect();
    keep(&sandbox, &runs);
    let learnt = history("");
    assert_eq!(
        (
            &learnt["runs"],
            &learnt["output_tokens_p50"],
            &learnt["output_tokens_p90"]
        ),
        (&json!(10), &json!(500), &json!(900))
    );
    assert!(learnt["usd_p90"].as_f64() > learnt["usd_p50"].as_f64());
    ledger(&sandbox).fold(Fold::Now).unwrap();
    assert_eq!(history(""), learnt);
    assert_eq!(history("--tag ci")["output_tokens_p50"], 800);
    assert_eq!(history("--tag team"), Value::Null);
    assert_eq!(history("--model kimi-k2.6"), Value::Null);
    omk(&sandbox, "estimate text")
        .run()
        .code(0)
        .stderr("")
        .stdout_contains("\n  past output (10 runs): p50 500, p90 900 tokens; price $");
    omk(&sandbox, "estimate text --count")
        .run()
        .code(0)
        .stdout("6\n");
}

/// Waits for something that another process does.
#[track_caller]
fn until<T>(mut seen: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it did not happen"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_killed_stays_open_with_its_bound_until_it_is_recovered() {
    let sandbox =
        Sandbox::new("a_run_that_is_killed_stays_open_with_its_bound_until_it_is_recovered");
    let server = Server::new([Reply::Hold(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec(),
    )]);
    let mut child = omk(
        &sandbox,
        "prompt --no-stdin --model kimi-k3 --max-output-tokens 100",
    )
    .arg("--base-url")
    .arg(server.url("/v1"))
    .arg("What is two and two?")
    .env("MOONSHOT_API_KEY", "sk-test")
    .spawn();
    let loose = ledger_path(&sandbox).join("loose");
    // The record is there before anything is sent; the request says that it was.
    until(|| (!server.requests().is_empty()).then_some(()));
    let names = std::fs::read_dir(&loose)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names
            .filter(|name| name.to_string_lossy().ends_with(".json"))
            .count(),
        1
    );
    let at_work = omk(&sandbox, "cost recover --json").run();
    assert_eq!(recovered(&at_work, 0)["stays"], "running");
    // SIGKILL, to this process by its id.
    child.kill().unwrap();
    child.wait().unwrap();
    let open = omk(&sandbox, "cost list --status open --json")
        .run()
        .code(0)
        .json();
    let bound = open["runs"][0]["at_most_usd_exact"].as_str().unwrap();
    assert!(Usd::parse(bound).unwrap() > Usd::ZERO);
    let outcome = omk(&sandbox, "cost recover --json").run();
    let run = recovered(&outcome, 0);
    assert_eq!(
        (&run["status"], &run["at_most_usd_exact"]),
        (&json!("unknown"), &json!(bound))
    );
    let total = omk(&sandbox, "cost report --json").run().code(0).json()["total"].clone();
    assert_eq!(
        (
            &total["unknown_runs"],
            &total["in_doubt"]["at_most_usd_exact"]
        ),
        (&json!(1), &json!(bound))
    );
    omk(&sandbox, "cost recover")
        .run()
        .code(0)
        .stdout("no open runs\n");
}

#[test]
fn damage_is_reported_closes_budgets_and_is_put_aside() {
    let sandbox = Sandbox::new("damage_is_reported_closes_budgets_and_is_put_aside");
    let started = omk::runtime::clock::format_rfc3339(std::time::SystemTime::now());
    let mut sink = ledger(&sandbox);
    let mut run = settled(1, &started, "kimi-k3", "3");
    run.worst_case_usd = run.actual_usd;
    sink.append(&run).unwrap();
    omk(&sandbox, "cost verify")
        .run()
        .code(0)
        .stdout("1 run in 1 file, no damage\n");
    omk(&sandbox, "cost repair")
        .run()
        .code(0)
        .stdout("nothing to repair\n");
    let path = ledger_path(&sandbox).join(format!("loose/{}.json", run.id));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();

    let verified = omk(&sandbox, "cost verify --json").run();
    verified.code(74).stderr_contains("omk cost repair");
    let document: serde_json::Value = serde_json::from_str(verified.stdout_text()).unwrap();
    verified.check(document["damage"][0]["runs"] == 1, "one run");
    verified.check(document["damage"][0]["at_most_usd"] == 3, "its bound");
    verified.check(
        document["damage"][0]["at_most_usd_exact"] == "3",
        "its exact bound",
    );
    omk(&sandbox, "cost report")
        .run()
        .code(0)
        .stderr_contains("is damaged");
    omk(&sandbox, "cost check --max-usd 9/day")
        .run()
        .code(74)
        .stderr_contains("omk cost repair");

    omk(&sandbox, "cost repair")
        .run()
        .code(0)
        .stdout_contains(&format!("{} stands for it", run.id));
    let aside = ledger_path(&sandbox).join(format!("damaged/{}.json", run.id));
    assert_eq!(std::fs::read(aside).unwrap(), &bytes[..bytes.len() - 30]);
    omk(&sandbox, "cost verify").run().code(0);
    omk(&sandbox, "cost check --max-usd 9/day").run().code(0);
    omk(&sandbox, "cost check --max-usd 2/day").run().code(5);
}
