//! `omk batch`: resuming, limits, pace and failures, on the built program against the service of the tests.
//!
//! The acceptance run is [`batch_killed_again_and_again`]; `OMK_BATCH_PROMPTS` and `OMK_BATCH_KILLS` give it another size.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::result::KEY;
use crate::sandbox::{Run, Sandbox, violations};
use crate::service::{Act, Answer, Call, Charge, End, Service};

/// The command with these flags; the input is `in.jsonl` and the output `out.jsonl`.
fn batch(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    batch_of(sandbox, service, &format!("in.jsonl -o out.jsonl {flags}"))
}

fn batch_of(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    sandbox
        .omk(&format!("batch --base-url {} {flags}", service.url()))
        .env("MOONSHOT_API_KEY", KEY)
}

/// Writes an input of so many prompts, named `p0` and so on.
fn prompts(sandbox: &Sandbox, count: usize) {
    let line = |number: usize| {
        let row = json!({"id": format!("p{number}"), "prompt": format!("question {number}?")});
        format!("{row}\n")
    };
    sandbox.file("in.jsonl", (0..count).map(line).collect::<String>());
}

/// The same with prompts long enough for what the service charges: it counts up to 3000 tokens, and a model that omk does not
/// know may count each byte as one.
fn long_prompts(sandbox: &Sandbox, count: usize) {
    let filling = "and so on ".repeat(300);
    let line = |number: usize| {
        let prompt = format!("question {number}? {filling}");
        let row = json!({"id": format!("p{number}"), "prompt": prompt});
        format!("{row}\n")
    };
    sandbox.file("in.jsonl", (0..count).map(line).collect::<String>());
}

/// A model without a catalog row, at the prices of [`price`], whose answers are as long as the service's at most.
const LONG: &str = "-m house-model --price 3,0.3,15 --max-output-tokens 6000";

/// The documents of a file, each held against its schema.
fn lines(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(sandbox.path("work").join(name)).unwrap_or_default();
    let documents: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for document in &documents {
        assert_eq!(violations(document), "", "{document}");
    }
    documents
}

fn ids(documents: &[Value]) -> Vec<&str> {
    let ids = documents.iter();
    ids.map(|document| document["id"].as_str().unwrap())
        .collect()
}

/// The files of the working directory.
fn files(sandbox: &Sandbox) -> BTreeSet<String> {
    let entries = std::fs::read_dir(sandbox.path("work")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// These and no other files are left.
fn only(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// An answer that says which prompt it is for.
fn echo(call: &Call) -> Answer {
    let asked = call.last()["content"].as_str().unwrap_or_default();
    let beginning: String = asked.chars().take(40).collect();
    Answer::text([format!("answer to {beginning}")])
}

/// What the ledger has, one record a run.
fn ledger(sandbox: &Sandbox) -> Vec<Value> {
    let outcome = sandbox.omk("cost export --format jsonl").run();
    outcome.code(0);
    let lines = outcome.stdout_text().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// An amount in units of 1e-12 USD.
fn units(usd: &Value) -> u128 {
    let text = usd.as_str().unwrap();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<12}").parse().unwrap()
}

/// What kimi-k3 charges for this, in units of 1e-12 USD: 3, 0.3 and 15 USD for a million tokens.
fn price(charge: Charge) -> u128 {
    let uncached = u128::from(charge.prompt - charge.cached);
    let cached = u128::from(charge.cached);
    uncached * 3_000_000 + cached * 300_000 + u128::from(charge.output) * 15_000_000
}

/// What the ledger says that everything cost, at least and at most.
fn ledger_sums(sandbox: &Sandbox) -> (u128, u128) {
    let records = ledger(sandbox);
    let attempts = records
        .iter()
        .flat_map(|record| record["attempts"].as_array().unwrap().clone());
    attempts.fold((0, 0), |(least, most), attempt| {
        (
            least + units(&attempt["at_least_usd_exact"]),
            most + units(&attempt["at_most_usd_exact"]),
        )
    })
}

#[test]
fn batch_answers_every_prompt_once() {
    let sandbox = Sandbox::new("batch_answers_every_prompt_once");
    let service = Service::new(echo);
    prompts(&sandbox, 20);
    let outcome = batch(&sandbox, &service, "-j 4 --json").run();
    outcome.code(0);
    let summary = outcome.json();
    assert_eq!(summary["run"]["answered"], 20);
    assert_eq!(summary["run"]["left"], 0);
    let answers = lines(&sandbox, "out.jsonl");
    let unique: BTreeSet<&str> = ids(&answers).into_iter().collect();
    assert_eq!((answers.len(), unique.len()), (20, 20));
    for answer in &answers {
        let number = answer["id"].as_str().unwrap().trim_start_matches('p');
        assert_eq!(answer["text"], format!("answer to question {number}?"));
        assert_eq!(answer["schema"], "omk.result/1");
    }
    // Nothing of an unfinished batch is left.
    assert_eq!(files(&sandbox), only(&["in.jsonl", "out.jsonl"]));
    // One record a prompt, tagged, and the bill is the ledger's to the token.
    let records = ledger(&sandbox);
    assert_eq!(records.len(), 20);
    for record in &records {
        assert_eq!(record["tags"]["batch"], summary["run"]["batch"]);
    }
    let bill = price(service.bill());
    assert_eq!(ledger_sums(&sandbox), (bill, bill));
    let bill = service.bill();
    assert_eq!(summary["run"]["input_tokens"], bill.prompt);
    assert_eq!(summary["run"]["cached_tokens"], bill.cached);
    assert_eq!(summary["run"]["output_tokens"], bill.output);
    // Once more: there is nothing to ask.
    let outcome = batch(&sandbox, &service, "-j 4 --json").run();
    outcome.code(0);
    assert_eq!(outcome.json()["before"]["answered"], 20);
    assert_eq!(service.calls().len(), 20);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 20);
}

#[test]
fn batch_checks_the_whole_input_before_anything_is_sent() {
    let sandbox = Sandbox::new("batch_checks_the_whole_input_before_anything_is_sent");
    let service = Service::new(echo);
    let key = format!("ghp_{}", "NqVwYS81VP7Hb1DX8pPd5khxE3pyIgKpaUnA");
    let rows = [
        r#"{"id": "a", "prompt": "fine"}"#,
        r#"{"id": "b", "promt": "a typo"}"#,
        r#"{"id": "c"}"#,
        r#"{"id": "a", "prompt": "again"}"#,
        r#"{"id": "d", "prompt": "x", "image": "no.png"}"#,
        r#"{"id": "e", "prompt": "x", "schema": {"type": 7}}"#,
        &json!({"id": "f", "prompt": format!("key {key}")}).to_string(),
    ];
    sandbox.file("in.jsonl", rows.join("\n"));
    let outcome = batch(&sandbox, &service, "").run();
    outcome.code(65);
    for expected in [
        "line 2, column 19: unknown field `promt`",
        "line 3, column 1: the prompt is empty",
        "line 4, column 1: its id is that of line 1 too",
        "line 5, column 1: the picture `no.png`",
        "line 6, column 1: schema: ",
        "line 7, column 1: a ",
        "nothing was sent",
    ] {
        outcome.stderr_contains(expected);
    }
    outcome.check(!outcome.stderr_text().contains(&key), "the key is printed");
    assert_eq!(service.calls().len(), 0);
    assert_eq!(files(&sandbox), only(&["in.jsonl"]));
    sandbox.file("in.jsonl", "");
    batch(&sandbox, &service, "").run().code(65);
    batch_of(&sandbox, &service, "none.jsonl -o out.jsonl")
        .run()
        .code(66);
    batch_of(&sandbox, &service, "in.jsonl").run().code(2);
}

#[test]
fn batch_reads_csv_lines_conversations_and_standard_input() {
    let sandbox = Sandbox::new("batch_reads_csv_lines_conversations_and_standard_input");
    let service = Service::new(echo);
    sandbox.file("t.txt", "Translate to {{lang}}: {{text}}");
    sandbox.file("in.csv", "prompt,lang,note\n\"a, b\",fr,x\nc,de,y\n");
    batch_of(&sandbox, &service, "in.csv -o csv.jsonl -t ./t.txt -j 1")
        .run()
        .code(0);
    let answers = lines(&sandbox, "csv.jsonl");
    assert_eq!(ids(&answers), ["2", "3"]);
    assert_eq!(answers[0]["text"], "answer to Translate to fr: a, b");
    let words =
        || batch_of(&sandbox, &service, "- -o lines.jsonl -j 1 --ordered").stdin("one\n\ntwo\n");
    let outcome = words().run();
    outcome
        .code(65)
        .stderr_contains("plain lines need a --template");
    sandbox.file("w.txt", "Say {{text}}");
    words().arg("-t").arg("./w.txt").run().code(0);
    let answers = lines(&sandbox, "lines.jsonl");
    assert_eq!(ids(&answers), ["1", "3"]);
    assert_eq!(answers[1]["text"], "answer to Say two");
    let calls = service.calls().len();
    let conversation = json!({
        "id": "x", "model": "kimi-k2.6", "max_output_tokens": 9,
        "messages": [
            {"role": "system", "content": "Be terse."}, {"role": "user", "content": "1+1"},
            {"role": "assistant", "content": "2"}, {"role": "user", "content": "and 3?"},
        ],
    });
    let filled = json!({"id": "y", "prompt": "Hi {{name}}", "vars": {"name": "Ada"}});
    sandbox.file("in.jsonl", format!("{conversation}\n{filled}\n"));
    batch(&sandbox, &service, "-j 1 --system Short.")
        .run()
        .code(0);
    let asked = &service.calls()[calls..];
    let messages = asked[0].body["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(messages[0]["content"], "Be terse.");
    assert_eq!(asked[0].body["model"], "kimi-k2.6");
    assert_eq!(asked[0].body["max_completion_tokens"], 9);
    assert_eq!(asked[1].body["messages"][0]["content"], "Short.");
    assert_eq!(asked[1].last()["content"], "Hi Ada");
}

#[test]
fn batch_names_lines_only_as_long_as_the_input_is_the_same() {
    let sandbox = Sandbox::new("batch_names_lines_only_as_long_as_the_input_is_the_same");
    let service = Service::new(|call| match call.number {
        2 => Act::error("400 Bad Request", "invalid_request_error", "no"),
        _ => echo(call).into(),
    });
    sandbox.file("w.txt", "Say {{text}}");
    let run = || {
        let flags = "in.txt -o out.jsonl -t ./w.txt -j 1 -k";
        batch_of(&sandbox, &service, flags).run()
    };
    sandbox.file("in.txt", "one\ntwo\n");
    run().code(1);
    sandbox.file("in.txt", "zero\none\ntwo\n");
    run().code(65).stderr_contains("named by their lines");
    assert_eq!(service.calls().len(), 2);
    sandbox.file("in.txt", "one\ntwo\n");
    run().code(0);
    assert_eq!(ids(&lines(&sandbox, "out.jsonl")), ["1", "2"]);
}

#[test]
fn batch_cap_ends_it_and_a_larger_one_resumes_it() {
    let sandbox = Sandbox::new("batch_cap_ends_it_and_a_larger_one_resumes_it");
    let service = Service::new(echo);
    prompts(&sandbox, 30);
    let run = |cap: &str| {
        let flags = format!("-j 4 --max-output-tokens 1000 --json --max-usd {cap}");
        batch(&sandbox, &service, &flags).run()
    };
    // A call costs about 0.003 USD, and 0.0153 at most.
    let outcome = run("0.05");
    outcome
        .code(5)
        .stderr_contains("does not leave what the next prompt can cost")
        .stderr_contains("a larger --max-usd");
    let summary = outcome.json();
    assert_eq!(summary["run"]["stopped"], "cap");
    let answered = lines(&sandbox, "out.jsonl").len();
    assert!((5..20).contains(&answered), "{answered}");
    assert_eq!(summary["run"]["left"], 30 - answered);
    assert!(price(service.bill()) <= 50_000_000_000);
    // The same cap again: it is the batch's, not the run's.
    let calls = service.calls().len();
    run("0.05").code(5);
    assert_eq!(service.calls().len(), calls);
    run("0.5").code(0);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 30);
    assert_eq!(service.calls().len(), 30);
}

#[test]
fn batch_keeps_to_a_budget_over_runs() {
    let sandbox = Sandbox::new("batch_keeps_to_a_budget_over_runs");
    let service = Service::new(echo);
    prompts(&sandbox, 30);
    let run = |budget: &str| {
        let run = batch(&sandbox, &service, "-j 4 --max-output-tokens 1000 --json");
        run.env("OMK_BUDGET", budget).run()
    };
    let outcome = run("0.05/day");
    outcome.code(5).stderr_contains("0.05/day");
    assert_eq!(outcome.json()["run"]["stopped"], "budget");
    assert!(price(service.bill()) <= 50_000_000_000);
    assert!(lines(&sandbox, "out.jsonl").len() > 4);
    run("5/day").code(0);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 30);
    let bill = price(service.bill());
    assert_eq!(ledger_sums(&sandbox), (bill, bill));
}

#[test]
fn batch_slows_all_workers_down_when_one_is_told_to() {
    let sandbox = Sandbox::new("batch_slows_all_workers_down_when_one_is_told_to");
    let service = Service::new(|call| match call.number {
        // A burst.
        5..=8 => Act::error(
            "429 Too Many Requests",
            "rate_limit_reached_error",
            "slow down",
        )
        .header("retry-after: 2"),
        _ => echo(call).into(),
    });
    prompts(&sandbox, 24);
    let outcome = batch(&sandbox, &service, "-j 4 --json").run();
    outcome.code(0);
    let calls = service.calls();
    assert_eq!(calls.len(), 28);
    // Those under way with the first of the burst are over within a moment; then nobody asks for two seconds.
    let gaps = calls.windows(2).map(|pair| pair[1].at - pair[0].at);
    let pause = gaps.max().unwrap();
    assert!(pause >= Duration::from_millis(1900), "{pause:?}");
    let classes = &outcome.json()["run"]["classes"];
    assert_eq!(classes[0]["kind"], "rate limited");
    assert_eq!(classes[0]["retried"], 4);
    assert_eq!(classes[0]["failed"], 0);
    // One record for a prompt, however often it was asked.
    assert_eq!(ledger(&sandbox).len(), 24);
}

#[test]
fn batch_keeps_the_pace_by_the_clock_of_the_service() {
    let sandbox = Sandbox::new("batch_keeps_the_pace_by_the_clock_of_the_service");
    let service = Service::new(echo);
    prompts(&sandbox, 25);
    batch(&sandbox, &service, "-j 8 --rpm 1200").run().code(0);
    let calls = service.calls();
    // 20 a second, spread evenly: 24 gaps of 51 ms, but for the first call, which may be late.
    let took = calls[24].at - calls[0].at;
    assert!(took >= Duration::from_millis(700), "{took:?}");
    prompts(&sandbox, 2);
    let flags = "in.jsonl -o tokens.jsonl --tpm 100 --max-output-tokens 100";
    let outcome = batch_of(&sandbox, &service, flags).run();
    outcome.code(65).stderr_contains("--tpm allows 100");
}

#[test]
fn batch_failures_stop_it_or_do_not_and_are_an_input() {
    let sandbox = Sandbox::new("batch_failures_stop_it_or_do_not_and_are_an_input");
    let service = Service::new(
        |call| match call.asks("question 3?") || call.asks("question 7?") {
            true => Act::error("400 Bad Request", "invalid_request_error", "not this one"),
            false => echo(call).into(),
        },
    );
    prompts(&sandbox, 12);
    let outcome = batch(&sandbox, &service, "-j 1 --json").run();
    outcome
        .code(1)
        .stderr_contains("1 x invalid prompt")
        .stderr_contains("--keep-going");
    assert_eq!(outcome.json()["run"]["stopped"], "failures");
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 3);
    let outcome = batch(&sandbox, &service, "-j 1 -k --json").run();
    outcome.code(1);
    assert_eq!(outcome.json()["run"]["failed"], 2);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 10);
    let failed = lines(&sandbox, "out.failed.jsonl");
    assert_eq!(ids(&failed), ["p3", "p7"]);
    let error = json!({"kind": "invalid prompt", "charged": "no"});
    assert_eq!(failed[0]["error"], error);
    assert_eq!(failed[0]["prompt"], "question 3?");
    let mended = Service::new(echo);
    batch_of(&sandbox, &mended, "out.failed.jsonl -o rest.jsonl -j 1")
        .run()
        .code(0);
    assert_eq!(ids(&lines(&sandbox, "rest.jsonl")), ["p3", "p7"]);
    // And the batch itself, once the service takes them.
    batch(&sandbox, &mended, "").run().code(0);
    assert!(!files(&sandbox).contains("out.failed.jsonl"));
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 12);
    // No prompt can be answered with a key that is refused.
    let locked =
        Service::new(|_| Act::error("401 Unauthorized", "invalid_authentication_error", "no"));
    let outcome = batch_of(&sandbox, &locked, "in.jsonl -o locked.jsonl -j 2 -k").run();
    outcome.code(77);
    assert!(locked.calls().len() <= 2);
}

#[test]
fn batch_asks_what_may_have_been_billed_again_only_when_told_to() {
    let sandbox = Sandbox::new("batch_asks_what_may_have_been_billed_again_only_when_told_to");
    let service = Service::new(|call| match call.number {
        2 => echo(call).end(End::Cut),
        _ => echo(call),
    });
    long_prompts(&sandbox, 4);
    let run = |flags: &str| batch(&sandbox, &service, &format!("{LONG} -j 1 {flags}")).run();
    let outcome = run("-k --json");
    outcome.code(1).stderr_contains("--retry-unknown");
    assert_eq!(outcome.json()["run"]["unknown"], 1);
    assert_eq!(service.calls().len(), 4);
    let failed = lines(&sandbox, "out.failed.jsonl");
    assert_eq!(failed[0]["error"]["charged"], "unknown");
    // Not by itself.
    run("").code(1);
    assert_eq!(service.calls().len(), 4);
    run("--retry-unknown").code(0);
    assert_eq!(service.calls().len(), 5);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 4);
    let (least, most) = ledger_sums(&sandbox);
    let bill = price(service.bill());
    assert!(least <= bill && bill <= most, "{least} {bill} {most}");
}

#[test]
fn batch_holds_answers_against_a_schema() {
    let sandbox = Sandbox::new("batch_holds_answers_against_a_schema");
    let service = Service::new(
        |call| match (call.asks("question 1?"), call.asks("not valid")) {
            (true, _) => Answer::text(["no JSON"]),
            (_, false) => Answer::text(["{\"age\": \"?\"}"]),
            (_, true) => Answer::text(["{\"age\": 7}"]),
        },
    );
    prompts(&sandbox, 2);
    let run = batch(&sandbox, &service, "-j 1 --json");
    run.arg("--schema").arg("age int, name").run().code(4);
    assert_eq!(service.calls().len(), 4);
    let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}});
    sandbox.file("out.jsonl", "");
    let run = batch(&sandbox, &service, "-j 1 --json");
    let outcome = run.arg("--schema").arg(schema.to_string()).run();
    outcome.code(4);
    let answers = lines(&sandbox, "out.jsonl");
    assert_eq!(answers[0]["value"], json!({"age": 7}));
    assert_eq!(answers[1]["exit"], 4);
    assert_eq!(answers[1]["ok"], false);
    let bill = price(service.bill());
    assert_eq!(ledger_sums(&sandbox), (bill, bill));
}

#[test]
fn batch_can_be_in_order() {
    let sandbox = Sandbox::new("batch_can_be_in_order");
    let service = Service::new(|call| match call.asks("question 0?") && call.number < 3 {
        true => Act::error("503 Unavailable", "server_unavailable", "busy"),
        false => echo(call).into(),
    });
    prompts(&sandbox, 12);
    batch(&sandbox, &service, "-j 4 --ordered").run().code(0);
    let expected: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    assert_eq!(ids(&lines(&sandbox, "out.jsonl")), expected);
    assert_eq!(files(&sandbox), only(&["in.jsonl", "out.jsonl"]));
    batch(&sandbox, &service, "-j 4 --ordered").run().code(0);
    assert_eq!(ids(&lines(&sandbox, "out.jsonl")), expected);
}

#[test]
fn batch_dry_run_prices_and_sends_nothing() {
    let sandbox = Sandbox::new("batch_dry_run_prices_and_sends_nothing");
    let service = Service::new(echo);
    prompts(&sandbox, 3);
    let flags = "in.jsonl --dry-run --max-output-tokens 100 --max-usd 0.001 --json";
    let run = batch_of(&sandbox, &service, flags);
    let outcome = run.env("OMK_BUDGET", "1/day").run();
    outcome.code(0).stderr_contains("the worst case is ");
    let check = outcome.json();
    assert_eq!(check["run"], json!(null));
    assert_eq!(check["prompts"], 3);
    assert_eq!(check["budgets"][0]["fits"], true);
    assert_eq!((service.calls().len(), files(&sandbox).len()), (0, 1));
}

/// The processes that a process has started.
fn children(child: &Child) -> Vec<u32> {
    let pid = child.id();
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Sends a signal, if the process is still there.
fn kill(pid: u32, signal: &str) {
    let mut command = std::process::Command::new("kill");
    command.args([signal, &pid.to_string()]);
    command.stderr(Stdio::null()).status().unwrap();
}

/// Runs to the end, however long that takes.
#[track_caller]
fn to_the_end(run: Run) -> Value {
    let output = run.spawn().wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?} {shown}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn batch_takes_over_what_was_under_way_when_it_was_killed() {
    let sandbox = Sandbox::new("batch_takes_over_what_was_under_way_when_it_was_killed");
    let service = Service::new(|call| match call.number {
        1..=4 => Act::Hold(echo(call)),
        _ => echo(call).into(),
    });
    prompts(&sandbox, 10);
    let mut killed = batch(&sandbox, &service, "-j 4").spawn();
    service.wait_for_calls(4);
    // While it works nobody else may.
    let outcome = batch(&sandbox, &service, "-j 4").run();
    outcome
        .code(75)
        .stderr_contains("another omk batch is writing");
    killed.kill().unwrap();
    killed.wait().unwrap();
    // Its workers still wait for their answers, and bring them home.
    service.release();
    let summary = to_the_end(batch(&sandbox, &service, "-j 4 --json"));
    assert_eq!(summary["before"]["rescued"], 4);
    assert_eq!(summary["before"]["unknown"], 0);
    assert_eq!(service.calls().len(), 10);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 10);
    let bill = price(service.bill());
    assert_eq!(ledger_sums(&sandbox), (bill, bill));
}

#[test]
fn batch_is_interrupted_cleanly() {
    let sandbox = Sandbox::new("batch_is_interrupted_cleanly");
    let service = Service::new(|call| match call.number {
        3..=4 => Act::Hold(echo(call)),
        _ => echo(call).into(),
    });
    prompts(&sandbox, 10);
    let running = batch(&sandbox, &service, "-j 2 --json").spawn();
    service.wait_for_calls(4);
    kill(running.id(), "-INT");
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["run"]["stopped"], "signal");
    assert_eq!(summary["run"]["answered"], 2);
    assert_eq!(summary["run"]["unknown"], 2);
    service.release();
    batch(&sandbox, &service, "-j 2 --retry-unknown")
        .run()
        .code(0);
    assert_eq!(lines(&sandbox, "out.jsonl").len(), 10);
}

fn size(variable: &str, default: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(default, |given| given.parse().unwrap())
}

/// The faults of a bad day: bursts of 429, errors, answers that break off, slow ones.
fn faulty(call: &Call) -> Act {
    let number = call.number;
    if number % 97 < 8 {
        return Act::error("429 Too Many Requests", "rate_limit_reached_error", "slow")
            .header("retry-after: 0");
    }
    if number.is_multiple_of(31) {
        return Act::error("500 Internal Server Error", "server_error", "oops");
    }
    if number.is_multiple_of(43) {
        std::thread::sleep(Duration::from_millis(200));
    }
    match number.is_multiple_of(37) {
        true => echo(call).end(End::Cut).into(),
        false => echo(call).into(),
    }
}

#[test]
fn batch_killed_again_and_again() {
    let sandbox = Sandbox::new("batch_killed_again_and_again");
    let (count, kills) = (size("OMK_BATCH_PROMPTS", 400), size("OMK_BATCH_KILLS", 6));
    let service = Service::new(faulty);
    long_prompts(&sandbox, count);
    let rpm = size("OMK_BATCH_RPM", 60_000);
    let flags =
        format!("{LONG} -j 16 --retry-unknown --keep-going --json --max-usd 1000 --rpm {rpm}");
    let started = Instant::now();
    let mut random = 88_172_645_463_325_252_u64;
    let mut most_threads = 0;
    let step = count / (kills + 1);
    for killed in 0..kills {
        let mut running = batch(&sandbox, &service, &flags)
            .stdout_to(Stdio::null())
            .spawn();
        // At a random moment: so many calls after the last one.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = usize::try_from(random % 1000).unwrap() * step / 1000;
        service.wait_for_calls(killed * step + moment.max(1));
        let workers = children(&running);
        for pid in workers.iter().copied().chain([running.id()]) {
            most_threads = most_threads.max(threads(pid));
        }
        running.kill().unwrap();
        running.wait().unwrap();
        // Every other time some of the workers too, as when the machine runs out of memory.
        if killed % 2 == 1 {
            for pid in workers.iter().step_by(3) {
                kill(*pid, "-KILL");
            }
        }
    }
    let summary = to_the_end(batch(&sandbox, &service, &flags));
    assert_eq!(most_threads, 1, "a process has more than one thread");
    let answers = lines(&sandbox, "out.jsonl");
    let unique: BTreeSet<&str> = ids(&answers).into_iter().collect();
    assert_eq!((answers.len(), unique.len()), (count, count));
    for answer in &answers {
        let number = answer["id"].as_str().unwrap().trim_start_matches('p');
        let text = answer["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("answer to question {number}? and")));
    }
    assert_eq!(files(&sandbox), only(&["in.jsonl", "out.jsonl"]));
    // The bill is within what the ledger says, and of what was answered it is the ledger's to the token.
    let bill = price(service.bill());
    let (least, most) = ledger_sums(&sandbox);
    assert!(least <= bill && bill <= most, "{least} {bill} {most}");
    let told: u128 = answers.iter().map(usage_price).sum();
    let runs = answers.iter().map(|answer| answer["run_id"].as_str());
    let runs: BTreeSet<&str> = runs.map(Option::unwrap).collect();
    let records = ledger(&sandbox);
    let known: u128 = records
        .iter()
        .filter(|record| runs.contains(record["id"].as_str().unwrap()))
        .flat_map(|record| record["attempts"].as_array().unwrap().clone())
        .map(|attempt| units(&attempt["known_usd_exact"]))
        .sum();
    assert_eq!(known, told);
    // No minute had more requests than were allowed.
    let calls = service.calls();
    let minute = |from: &Call| {
        let after = calls.iter().filter(|call| call.at >= from.at);
        after
            .filter(|call| call.at - from.at < Duration::from_secs(60))
            .count()
    };
    let busiest = calls
        .iter()
        .step_by(1 + calls.len() / 100)
        .map(minute)
        .max();
    assert!(busiest.unwrap() <= rpm, "{busiest:?} calls in a minute");
    println!(
        "{count} prompts, {kills} kills, {:?}: {} calls, bill {bill}, ledger {least} to {most} (1e-12 USD), busiest minute \
         {busiest:?} calls; last run {}",
        started.elapsed(),
        calls.len(),
        summary["run"]
    );
}

fn usage_price(answer: &Value) -> u128 {
    let figure = |name: &str| answer["usage"][name].as_u64().unwrap();
    price(Charge {
        prompt: figure("input") + figure("cache_read"),
        cached: figure("cache_read"),
        output: figure("output"),
    })
}

#[test]
fn batch_memory_does_not_grow_with_the_input() {
    let sandbox = Sandbox::new("batch_memory_does_not_grow_with_the_input");
    let service = Service::new(echo);
    let peak = |count: usize| {
        prompts(&sandbox, count);
        let url = service.url();
        let omk = sandbox.omk(&format!("batch --base-url {url} in.jsonl --dry-run"));
        let mut running = omk.env("MOONSHOT_API_KEY", KEY).spawn();
        let status = PathBuf::from(format!("/proc/{}/status", running.id()));
        let mut peak = 0;
        while running.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let number = line.map(|line| line.trim().trim_end_matches(" kB").to_string());
            let kilobytes = number.and_then(|number| number.parse::<u64>().ok());
            peak = peak.max(kilobytes.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    };
    let largest = size("OMK_BATCH_LINES", 60_000);
    let (small, large) = (peak(1_000), peak(largest));
    println!("peak memory: {small} kB for 1000 prompts, {large} kB for {largest}");
    assert!(large < small + 8 * 1024, "{small} kB, {large} kB");
}

#[test]
fn batch_does_not_ask_agents() {
    let sandbox = Sandbox::new("batch_does_not_ask_agents");
    prompts(&sandbox, 1);
    let outcome = sandbox.omk("batch in.jsonl -o out.jsonl").run();
    outcome.code(69);
    assert_eq!(files(&sandbox), only(&["in.jsonl"]));
}
