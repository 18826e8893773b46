//! `omk prompt` over HTTP, against a service that does everything that services do.
//!
//! Each test holds the exit code, standard output to the byte, the result's fields, the number of calls and the bill. In
//! every run the key is looked for in whatever the program prints, and the ledger has what the result has.

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::result::{KEY, billed, document, run, unbilled, unknown};
use crate::sandbox::{Run, Sandbox};
use crate::server::nobody;
use crate::service::{Act, Answer, Call, End, Service, Told};

/// A run that asks this service.
fn ask(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    ask_at(sandbox, &service.url(), flags)
}

fn ask_at(sandbox: &Sandbox, url: &str, flags: &str) -> Run {
    sandbox
        .omk(&format!("prompt --base-url {url} {flags}"))
        .env("MOONSHOT_API_KEY", KEY)
}

/// The content of the last message of a call.
fn content(call: &Call) -> &str {
    call.last()["content"].as_str().unwrap()
}

/// The service that gives one plain answer.
fn plain() -> Service {
    Service::new(|_| Answer::text(["The ans", "wer.\n"]))
}

#[test]
fn http_plain_answer_and_the_bill() {
    let sandbox = Sandbox::new("http_plain_answer_and_the_bill");
    for told in [Told::AtTheEnd, Told::InTheChoice, Told::Everywhere] {
        let service = Service::new(move |_| Answer::text(["The ans", "wer.\n"]).told(told));
        let outcome = run(ask(&sandbox, &service, "-m kimi-k2.6 Why?"));
        outcome.code(0).stdout("The answer.\n").stderr("");
        let outcome = run(ask(&sandbox, &service, "-m kimi-k2.6 --json Why?"));
        outcome.code(0).stderr("");
        let result = outcome.json();
        for (field, value) in [
            ("/ok", json!(true)),
            ("/exit", json!(0)),
            ("/text", json!("The answer.\n")),
            ("/value", json!(null)),
            ("/model/requested", json!("kimi-k2.6")),
            ("/model/reported", json!("kimi-k2.6")),
            ("/transport", json!("http")),
            ("/peer", json!(service.url()[7..].trim_end_matches("/v1"))),
            ("/session_id", json!(null)),
            ("/request_ids", json!(["req-2"])),
            ("/finish_reason", json!("stop")),
            ("/complete", json!(true)),
            ("/usage/source", json!("provider")),
            ("/cost/kind", json!("metered")),
            ("/cost/charged", json!("yes")),
            ("/retries", json!([])),
            ("/denials", json!([])),
            ("/warnings", json!([])),
            ("/error", json!(null)),
        ] {
            let found = result.pointer(field);
            outcome.check(
                found == Some(&value),
                &format!("{field}: {found:?}, not {value}"),
            );
        }
        assert_eq!(service.calls().len(), 2);
        assert_eq!(service.others(), [""; 0]);
        // The bill of both; the result has that of its own run.
        let single = Service::new(move |_| Answer::text(["x"]).told(told));
        billed(&run(ask(&sandbox, &single, "--json Why?")), &single);
    }
}

#[test]
fn http_the_request_is_as_the_service_wants_it() {
    let sandbox = Sandbox::new("http_the_request_is_as_the_service_wants_it");
    let service = plain();
    run(ask(&sandbox, &service, "-m kimi-k2.6 Why is it so?")).code(0);
    let calls = service.calls();
    let [call] = &calls[..] else {
        panic!("{calls:?}")
    };
    // Fixed sampling: nothing that a Kimi model would refuse.
    assert_eq!(
        call.body,
        json!({
            "model": "kimi-k2.6",
            "messages": [{"role": "user", "content": "Why is it so?"}],
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
    assert_eq!(call.header("authorization"), format!("Bearer {KEY}"));
    let agents: Vec<&str> = call
        .head
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("user-agent:"))
        .collect();
    assert_eq!(agents.len(), 1, "{agents:?}");
    let own = concat!("omk/", env!("CARGO_PKG_VERSION"));
    assert!(call.header("user-agent").starts_with(own), "{agents:?}");
    assert!(call.head.starts_with("POST /v1/chat/completions HTTP/1.1"));
}

#[test]
fn http_thinking_is_not_the_answer() {
    let sandbox = Sandbox::new("http_thinking_is_not_the_answer");
    let service = Service::new(|_| Answer::text(["Four."]).thinking(&["two and ", "two"]));
    run(ask(&sandbox, &service, "2+2?"))
        .code(0)
        .stdout("Four.\n")
        .stderr("");
    run(ask(&sandbox, &service, "--show-thinking 2+2?"))
        .code(0)
        .stdout("Four.\n")
        .stderr("two and two\n");
    let outcome = run(ask(&sandbox, &service, "--json 2+2?"));
    assert_eq!(outcome.code(0).json()["text"], "Four.");
}

/// A service that refuses, and what is made of it: exit code, kind, status, calls, and whether it may have cost money.
struct Refused {
    name: &'static str,
    act: fn() -> Act,
    exit: i32,
    kind: &'static str,
    status: Option<u16>,
    calls: usize,
    charged: &'static str,
}

const REFUSALS: &[Refused] = &[
    Refused {
        name: "400",
        act: || {
            Act::error(
                "400 Bad Request",
                "invalid_request_error",
                "bad temperature",
            )
        },
        exit: 1,
        kind: "invalid prompt",
        status: Some(400),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "400_high_risk",
        act: || Act::error("400 Bad Request", "content_filter", "considered high risk"),
        exit: 1,
        kind: "content filtered",
        status: Some(400),
        calls: 1,
        charged: "unknown",
    },
    Refused {
        name: "401",
        act: || {
            Act::error(
                "401 Unauthorized",
                "invalid_authentication_error",
                "Invalid",
            )
        },
        exit: 77,
        kind: "authentication",
        status: Some(401),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "402",
        act: || Act::error("402 Payment Required", "", "membership not verified"),
        exit: 77,
        kind: "quota exhausted",
        status: Some(402),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "403",
        act: || Act::error("403 Forbidden", "permission_denied_error", "not open"),
        exit: 77,
        kind: "permission denied",
        status: Some(403),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "404",
        act: || Act::error("404 Not Found", "resource_not_found_error", "no such model"),
        exit: 1,
        kind: "model not found",
        status: Some(404),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "429_quota",
        act: || {
            Act::error(
                "429 Too Many Requests",
                "exceeded_current_quota_error",
                "balance",
            )
        },
        exit: 77,
        kind: "quota exhausted",
        status: Some(429),
        calls: 1,
        charged: "no",
    },
    Refused {
        name: "429_for_ever",
        act: || {
            Act::error(
                "429 Too Many Requests",
                "engine_overloaded_error",
                "overloaded",
            )
        },
        exit: 75,
        kind: "rate limited",
        status: Some(429),
        calls: 2,
        charged: "no",
    },
    Refused {
        name: "500",
        act: || Act::error("500 Internal Server Error", "server_error", "oops"),
        exit: 75,
        kind: "server error",
        status: Some(500),
        calls: 2,
        charged: "no",
    },
    Refused {
        name: "html_502",
        act: || {
            let html = "content-type: text/html".to_string();
            let page = "<html><h1>502 Bad Gateway</h1></html>".to_string();
            Act::Refuse("502 Bad Gateway", vec![html], page)
        },
        exit: 75,
        kind: "server error",
        status: Some(502),
        calls: 2,
        charged: "unknown",
    },
    Refused {
        name: "dropped",
        act: || Act::Drop,
        exit: 75,
        kind: "network",
        status: None,
        calls: 2,
        charged: "unknown",
    },
    Refused {
        name: "overflow",
        act: || {
            let message = "Invalid request: Your request exceeded model token limit: 262144";
            Act::error("400 Bad Request", "invalid_request_error", message)
        },
        exit: 5,
        kind: "context length exceeded",
        status: Some(400),
        calls: 1,
        charged: "no",
    },
];

#[test]
fn http_refusals() {
    for case in REFUSALS {
        let sandbox = Sandbox::new(&format!("http_refusals_{}", case.name));
        let act = case.act;
        let service = Service::new(move |_| act());
        let outcome = run(ask(&sandbox, &service, "--retries 1 --json Why?"));
        let result = outcome.code(case.exit).json();
        let error = &result["error"];
        outcome.check(error["kind"] == case.kind, "the kind");
        outcome.check(error["http_status"] == json!(case.status), "the status");
        outcome.check(error["retryable"] == json!(case.exit == 75), "retryable");
        outcome.check(result["cost"]["charged"] == case.charged, "charged");
        outcome.check(result["text"].is_null(), "no text");
        outcome.check(result["complete"] == false, "not complete");
        outcome.check(
            result["retries"].as_array().map(Vec::len) == Some(case.calls - 1),
            "retries",
        );
        if case.charged == "no" {
            unbilled(&outcome, &service);
        } else {
            unknown(&outcome);
        }
        assert_eq!(service.calls().len(), case.calls, "{}", case.name);
        // Without JSON nothing is on standard output, and the message names the peer.
        let outcome = run(ask(&sandbox, &service, "--retries 0 Why?"));
        outcome.code(case.exit).stdout("");
        let peer = service.url()[7..].replace("/v1", "");
        outcome.stderr_contains(&format!("omk: {}: {peer}: ", case.kind));
        assert_eq!(service.calls().len(), case.calls + 1, "--retries 0");
        if case.status.is_some() {
            outcome.stderr_contains("(request req-refused)");
        }
    }
}

#[test]
fn http_nobody_listens() {
    let sandbox = Sandbox::new("http_nobody_listens");
    let outcome = run(ask_at(&sandbox, &nobody(), "--retries 0 --json Why?"));
    let result = outcome.code(75).json();
    outcome.check(result["error"]["kind"] == "network", "the kind");
    outcome.check(result["cost"]["charged"] == "no", "nothing was sent");
    outcome.check(result["usage"].is_null(), "no usage");
}

fn overloaded() -> Act {
    Act::error(
        "429 Too Many Requests",
        "engine_overloaded_error",
        "overloaded",
    )
}

#[test]
fn http_429_once_is_tried_again() {
    let sandbox = Sandbox::new("http_429_once_is_tried_again");
    let service = Service::new(|call| match call.number {
        1 => overloaded(),
        _ => Answer::text(["recovered"]).into(),
    });
    let outcome = run(ask(&sandbox, &service, "--json Why?"));
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "recovered", "the text");
    let retry = &result["retries"][0];
    outcome.check(
        retry["attempt"] == 2 && retry["of"] == 5 && retry["http_status"] == 429,
        "the retry",
    );
    outcome.check(retry["charged"] == "no", "the retry was free");
    billed(&outcome, &service);
    assert_eq!(service.calls().len(), 2);
}

#[test]
fn http_retry_after_comes_first() {
    let sandbox = Sandbox::new("http_retry_after_comes_first");
    let service = Service::new(|call| match call.number {
        1 => overloaded().header("retry-after: 1"),
        _ => Answer::text(["recovered"]).into(),
    });
    let outcome = run(ask(&sandbox, &service, "--json Why?"));
    let result = outcome.code(0).json();
    outcome.check(result["retries"][0]["wait_s"] == 1.0, "the service's wait");
    assert_eq!(service.calls().len(), 2);
    // One that does not fit the deadline is not waited for at all, and is told.
    let service = Service::new(|_| overloaded().header("retry-after: 3600"));
    let outcome = run(ask(&sandbox, &service, "--deadline 30s --json Why?"));
    let result = outcome.code(75).json();
    outcome.check(result["error"]["retry_after_s"] == 3600, "retry_after_s");
    unbilled(&outcome, &service);
    assert_eq!(service.calls().len(), 1);
    run(ask(&sandbox, &service, "--deadline 30s Why?"))
        .code(75)
        .stderr_contains("hint: try again in 3600 s\n");
}

#[test]
fn http_a_stream_that_is_cut_is_printed_once_and_not_tried_again() {
    let sandbox = Sandbox::new("http_a_stream_that_is_cut_is_printed_once_and_not_tried_again");
    for end in [End::Cut, End::Early] {
        let service = Service::new(move |_| Answer::text(["part ", "one"]).end(end));
        let outcome = run(ask(&sandbox, &service, "Why?"));
        outcome.code(75).stdout("part one");
        outcome.stderr_contains("omk: incomplete answer: ");
        // With --json nothing of it was printed.
        let outcome = run(ask(&sandbox, &service, "--json --retries 1 Why?"));
        let result = outcome.code(75).json();
        outcome.check(result["error"]["kind"] == "incomplete answer", "the kind");
        outcome.check(result["complete"] == false, "not complete");
        outcome.check(result["cost"]["charged"] != "no", "it may have cost money");
        unknown(&outcome);
        assert_eq!(service.calls().len(), 3);
    }
}

#[test]
fn http_a_stream_that_is_cut_before_anything_is_printed_is_tried_again() {
    let sandbox = Sandbox::new("http_a_stream_that_is_cut_before_anything_is_printed");
    sandbox.file("schema.json", r#"{"type": "string"}"#);
    for flags in ["--json", "--no-stream", "--schema schema.json"] {
        let service = Service::new(|call| match call.number {
            1 => Answer::text(["\"par"]).end(End::Cut),
            _ => Answer::text(["\"part ", "one\""]),
        });
        let outcome = run(ask(&sandbox, &service, &format!("{flags} Why?")));
        outcome.code(0);
        if flags == "--json" {
            let result = outcome.json();
            outcome.check(result["text"] == "\"part one\"", "the text");
            outcome.check(
                result["retries"][0]["charged"] == "unknown",
                "the first try",
            );
        } else {
            outcome.stdout("\"part one\"\n");
        }
        assert_eq!(service.calls().len(), 2);
    }
}

#[test]
fn http_an_error_in_the_stream_is_an_error() {
    let sandbox = Sandbox::new("http_an_error_in_the_stream_is_an_error");
    let service = Service::new(|_| {
        Answer::text(["part"])
            .error(json!({"type": "engine_overloaded_error", "message": "overloaded"}))
    });
    let outcome = run(ask(&sandbox, &service, "--json --retries 0 Why?"));
    let result = outcome.code(75).json();
    outcome.check(result["error"]["kind"] == "incomplete answer", "the kind");
    let message = result["error"]["message"].to_string();
    outcome.check(
        message.contains("error inside a 200 answer: overloaded"),
        &message,
    );
    unknown(&outcome);
    // Before the first word it is a refusal like any other, and is tried again.
    let service = Service::new(|call| match call.number {
        1 => Answer::text([""; 0])
            .error(json!({"type": "engine_overloaded_error", "message": "overloaded"})),
        _ => Answer::text(["recovered"]),
    });
    let outcome = run(ask(&sandbox, &service, "--json Why?"));
    outcome.check(outcome.code(0).json()["text"] == "recovered", "the text");
    assert_eq!(service.calls().len(), 2);
}

#[test]
fn http_an_empty_answer_was_paid_for() {
    let sandbox = Sandbox::new("http_an_empty_answer_was_paid_for");
    let service = Service::new(|_| Answer::text([""; 0]).thinking(&["hm"]).reason("length"));
    let outcome = run(ask(&sandbox, &service, "--json Why?"));
    let result = outcome.code(1).json();
    outcome.check(result["error"]["kind"] == "empty answer", "the kind");
    outcome.check(result["cost"]["charged"] == "yes", "charged");
    billed(&outcome, &service);
    assert_eq!(service.calls().len(), 1);
    run(ask(&sandbox, &service, "Why?"))
        .code(1)
        .stdout("")
        .stderr_contains("hint: it was paid for; a larger --max-output-tokens");
}

#[test]
fn http_a_usage_that_is_not_told_is_unknown() {
    let sandbox = Sandbox::new("http_a_usage_that_is_not_told_is_unknown");
    let service = Service::new(|_| Answer::text(["fine"]).told(Told::Nowhere));
    let outcome = run(ask(&sandbox, &service, "--json Why?"));
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "fine", "the text");
    outcome.check(result["cost"]["charged"] == "yes", "charged");
    unknown(&outcome);
    // Without a limit the service may have answered up to the window of 262144 tokens.
    let cost = &result["cost"];
    outcome.check(
        cost["at_most_usd"].as_f64() > cost["at_least_usd"].as_f64(),
        "the bounds",
    );
    let most = result["budget"]["worst_case_usd"].as_f64().unwrap();
    let warnings = [
        "the service did not report the usage".to_string(),
        format!("the usage was not reported, so the cost is not known: at most ${most:.2}"),
    ];
    outcome.check(result["warnings"] == json!(warnings), "the warnings");
    run(ask(&sandbox, &service, "Why?"))
        .code(0)
        .stdout("fine\n")
        .stderr(
            &warnings
                .map(|warning| format!("omk: warning: {warning}\n"))
                .concat(),
        );
}

#[test]
fn http_slow_first_byte() {
    let sandbox = Sandbox::new("http_slow_first_byte");
    let hold = || Service::new(|_| Act::Hold(Answer::text(["late"])));
    let service = hold();
    let outcome = run(ask(&sandbox, &service, "--deadline 400ms --json Why?"));
    let result = outcome.code(124).json();
    outcome.check(result["error"]["kind"] == "deadline", "the kind");
    outcome.check(result["cost"]["charged"] == "unknown", "charged");
    unknown(&outcome);
    outcome.check(
        result["error"]["message"]
            .as_str()
            .unwrap()
            .contains("400ms ran out while waiting for the answer"),
        "the phase",
    );
    service.wait_for_leaving();
    assert_eq!(service.calls().len(), 1);
    let service = hold();
    let outcome = run(ask(
        &sandbox,
        &service,
        "--idle-timeout 200ms --retries 0 --json Why?",
    ));
    let result = outcome.code(75).json();
    outcome.check(result["error"]["kind"] == "timeout", "the kind");
    service.wait_for_leaving();
    let service = hold();
    let waiting = ask(&sandbox, &service, "Why?").spawn();
    service.wait_for_calls(1);
    service.release();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"late\n"[..])
    );
}

#[test]
fn http_silence_in_the_middle_ends_at_the_idle_timeout() {
    let sandbox = Sandbox::new("http_silence_in_the_middle_ends_at_the_idle_timeout");
    let service = Service::new(|_| Answer::text(["part", "never"]).hold_before(1));
    let outcome = run(ask(&sandbox, &service, "--idle-timeout 200ms Why?"));
    outcome.code(75).stdout("part");
    outcome.stderr_contains("omk: timeout: ");
    service.wait_for_leaving();
    // The second of the default retries would print the beginning again.
    assert_eq!(service.calls().len(), 1);
}

/// Text of that many bytes, of which no two thousand are alike.
fn long(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&format!("internationalisation {number}\n"));
    }
    text.truncate(bytes);
    text
}

#[test]
fn http_5_mb_each_way() {
    let sandbox = Sandbox::new("http_5_mb_each_way");
    let service = Service::new(|_| {
        let answer = long(5_000_000);
        let pieces = answer.as_bytes().chunks(250_000);
        Answer::text(pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()))
    });
    // Prose: short enough in tokens for the window, long in bytes.
    let prompt =
        "a b c d e f g h ".repeat(5_000_000 / 16 / 8) + &"internationalisation ".repeat(208_000);
    let outcome = run(ask(&sandbox, &service, "").stdin(prompt.clone()));
    outcome.code(0).stderr("");
    assert!(
        outcome.stdout_text().trim_end() == long(5_000_000).trim_end(),
        "the answer"
    );
    let calls = service.calls();
    assert!(content(&calls[0]) == prompt, "the prompt");
    assert!(prompt.len() > 4_900_000, "{}", prompt.len());
    let outcome = run(ask(&sandbox, &service, "--json").stdin(prompt));
    assert!(outcome.code(0).json()["text"] == long(5_000_000));
}

#[test]
fn http_a_prompt_that_does_not_fit_is_not_sent() {
    let sandbox = Sandbox::new("http_a_prompt_that_does_not_fit_is_not_sent");
    let service = plain();
    let prompt = "a b c d e f g h ".repeat(40_000);
    let outcome = run(ask(&sandbox, &service, "-m kimi-k2.6 --json").stdin(prompt));
    let result = outcome.code(5).json();
    outcome.check(
        result["error"]["kind"] == "context length exceeded",
        "the kind",
    );
    unbilled(&outcome, &service);
    assert_eq!(service.calls().len(), 0);
}

#[test]
fn http_text_appears_as_it_comes_and_a_reader_may_leave() {
    let sandbox = Sandbox::new("http_text_appears_as_it_comes_and_a_reader_may_leave");
    let service = Service::new(|_| Answer::text(["first ", "second"]).hold_before(1));
    let mut child = ask(&sandbox, &service, "Why?").spawn();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 6];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first ");
    service.release();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "second\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // What follows is more than a pipe holds, so the program learns that nobody reads.
    let service =
        Service::new(|_| Answer::text(["first ".to_string(), long(1_000_000)]).hold_before(1));
    let mut child = ask(&sandbox, &service, "Why?").spawn();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    service.release();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr)),
        (Some(0), Ok(String::new()))
    );
    // A file that is full is another matter.
    #[cfg(target_os = "linux")]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let service = plain();
        let run = ask(&sandbox, &service, "Why?").stdout_to(Stdio::from(full.unwrap()));
        run.run()
            .code(74)
            .stderr_contains("omk: output: cannot write to standard output: ");
    }
}

#[test]
fn http_stream_json_is_one_event_a_line_and_the_result_last() {
    let sandbox = Sandbox::new("http_stream_json_is_one_event_a_line_and_the_result_last");
    let service = Service::new(|call| match call.number {
        1 => overloaded().header("retry-after: 0"),
        _ => Answer::text(["Fo", "ur."]).thinking(&["hm"]).into(),
    });
    let outcome = run(ask(
        &sandbox,
        &service,
        "--stream-json --show-thinking 2+2?",
    ));
    outcome.code(0).stderr("");
    let lines: Vec<Value> = outcome
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (result, events) = lines.split_last().unwrap();
    let of = |kind: &str| -> Vec<&Value> {
        events.iter().filter(|line| line["event"] == kind).collect()
    };
    assert_eq!(of("text").len(), 2);
    assert_eq!(
        (&of("text")[0]["text"], &of("text")[1]["text"]),
        (&json!("Fo"), &json!("ur."))
    );
    assert_eq!(of("thinking")[0]["text"], "hm");
    assert_eq!(of("retry")[0]["http_status"], 429);
    assert_eq!(
        of("usage").last().unwrap()["output"],
        result["usage"]["output"]
    );
    assert_eq!(result["text"], "Four.");
    billed(&outcome, &service);
    // A failure is the last line as well.
    let outcome = run(ask_at(
        &sandbox,
        &nobody(),
        "--stream-json --retries 0 2+2?",
    ));
    outcome.code(75);
    assert_eq!(document(&outcome)["exit"], 75);
}

const SCHEMA: &str = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}"#;

#[test]
fn http_schema_good_repaired_and_refused() {
    let sandbox = Sandbox::new("http_schema_good_repaired_and_refused");
    sandbox.file("schema.json", SCHEMA);
    let service = Service::new(|_| Answer::text(["Here:\n```json\n{\"n\":", " 4}\n```\n"]));
    run(ask(&sandbox, &service, "--schema schema.json 2+2?"))
        .code(0)
        .stdout("{\"n\": 4}\n")
        .stderr("");
    let format = &service.calls()[0].body["response_format"];
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert_eq!(
        (&format["type"], &format["json_schema"]["schema"]),
        (&json!("json_schema"), &schema)
    );
    let service = Service::new(|call| match call.number {
        1 => Answer::text([r#"{"n": "four"}"#]),
        _ => Answer::text([r#"{"n": 4}"#]),
    });
    let outcome = run(ask(&sandbox, &service, "--schema schema.json --json 2+2?"));
    let result = outcome.code(0).json();
    outcome.check(result["value"] == json!({"n": 4}), "the value");
    outcome.check(result["text"] == r#"{"n": 4}"#, "the text");
    billed(&outcome, &service);
    let calls = service.calls();
    assert_eq!(calls.len(), 2);
    let again = content(&calls[1]);
    assert!(again.contains(r#"{"n": "four"}"#), "{again}");
    assert!(
        again.starts_with("2+2?") && again.contains("$.n: expected integer"),
        "{again}"
    );
    let service = Service::new(|_| Answer::text(["It is four."]));
    let outcome = run(ask(&sandbox, &service, "--schema schema.json 2+2?"));
    outcome.code(4).stdout("");
    outcome
        .stderr_contains("It is four.\n")
        .stderr_contains("omk: invalid answer: ");
    let outcome = run(ask(&sandbox, &service, "--schema schema.json --json 2+2?"));
    let result = outcome.code(4).json();
    outcome.check(
        result["text"] == "It is four." && result["value"].is_null(),
        "the answer is kept",
    );
    outcome.check(result["error"]["kind"] == "invalid answer", "the kind");
    assert_eq!(service.calls().len(), 4);
}

#[test]
fn http_an_answer_cut_at_the_length_limit_is_printed() {
    let sandbox = Sandbox::new("http_an_answer_cut_at_the_length_limit_is_printed");
    let service = Service::new(|_| Answer::text(["Once upon a"]).reason("length"));
    run(ask(&sandbox, &service, "--max-output-tokens 3 Tell."))
        .code(3)
        .stdout("Once upon a\n")
        .stderr_contains("omk: cut: the answer ended at the length limit\nhint: ");
    assert_eq!(service.calls()[0].body["max_completion_tokens"], 3);
    let outcome = run(ask(&sandbox, &service, "--json Tell."));
    let result = outcome.code(3).json();
    outcome.check(
        result["complete"] == false && result["finish_reason"] == "length",
        "cut",
    );
    outcome.check(result["ok"] == false && result["exit"] == 3, "the code");
}

#[test]
fn http_budgets_hold_before_anything_is_sent() {
    let sandbox = Sandbox::new("http_budgets_hold_before_anything_is_sent");
    let service = plain();
    for limit in ["--max-usd 0.000001", "--max-tokens 5"] {
        let outcome = run(ask(
            &sandbox,
            &service,
            &format!("{limit} --json Why is it so?"),
        ));
        let result = outcome.code(5).json();
        outcome.check(result["error"]["kind"] == "budget exhausted", "the kind");
        unbilled(&outcome, &service);
        run(ask(&sandbox, &service, &format!("{limit} Why is it so?")))
            .code(5)
            .stdout("")
            .stderr_contains("hint: nothing was sent; ");
    }
    assert_eq!(service.calls().len(), 0);
    // What is left for the answer, by the program's own count of the prompt.
    let estimate = sandbox.omk("estimate --json").stdin("Why is it so?").run();
    let input = estimate.json()["models"][0]["input_tokens"]
        .as_u64()
        .unwrap();
    let limit = |call: usize| service.calls()[call].body["max_completion_tokens"].as_u64();
    run(ask(&sandbox, &service, "--max-tokens 500 Why is it so?")).code(0);
    assert_eq!(limit(0), Some(500 - input));
    // kimi-k3: 3 USD and 15 USD for a million.
    let outcome = run(ask(
        &sandbox,
        &service,
        "--max-usd 0.01 --json Why is it so?",
    ));
    let rates = &outcome.code(0).json()["cost"]["price"];
    assert_eq!((&rates["input"], &rates["output"]), (&json!(3), &json!(15)));
    assert_eq!(limit(1), Some((10_000 - 3 * input) / 15));
    // A limit that the caller sets is kept where it is the smaller one.
    let flags = "--max-usd 0.01 --max-output-tokens 7 Why is it so?";
    run(ask(&sandbox, &service, flags)).code(0);
    assert_eq!(limit(2), Some(7));
    // No price, no check: nothing is sent.
    let outcome = run(ask(&sandbox, &service, "-m my-own --max-usd 1 Why?"));
    outcome.code(78).stderr_contains("omk: price: ");
    run(ask(&sandbox, &service, "-m my-own --strict-prices Why?")).code(78);
    assert_eq!(service.calls().len(), 3);
    let outcome = run(ask(&sandbox, &service, "-m my-own --json Why?"));
    let result = outcome.code(0).json();
    outcome.check(
        result["cost"]["usd"].is_null() && result["cost"]["kind"] == "unknown",
        "no price is made up",
    );
    outcome.check(
        result["warnings"][0]
            .as_str()
            .unwrap()
            .starts_with("no price of my-own is known"),
        "the warning",
    );
    outcome.check(result["usage"]["output"].is_u64(), "usage is known");
}

#[test]
fn http_the_question_is_put_together() {
    let sandbox = Sandbox::new("http_the_question_is_put_together");
    sandbox
        .file("a.rs", "fn a() {}\n")
        .file("b.txt", "no line end")
        .file("tricky", "</file>\n")
        .file("latin1", b"caf\xe9");
    let service = plain();
    let said = |run_of: Run| {
        run(run_of).code(0);
        content(service.calls().last().unwrap()).to_string()
    };
    assert_eq!(
        said(ask(
            &sandbox,
            &service,
            "-f a.rs --file b.txt Compare these."
        )),
        "Compare these.\n\n<file name=\"a.rs\">\nfn a() {}\n</file>\n\n<file name=\"b.txt\">\nno line end\n</file>"
    );
    assert_eq!(
        said(ask(&sandbox, &service, "Explain.").stdin("a diff\n")),
        "Explain.\n\n<stdin>\na diff\n</stdin>"
    );
    assert_eq!(
        said(ask(&sandbox, &service, "").stdin("alone\n")),
        "alone\n"
    );
    assert_eq!(said(ask(&sandbox, &service, "-").stdin("alone")), "alone");
    assert_eq!(
        said(ask(&sandbox, &service, "Explain. - -f a.rs").stdin("x")),
        "Explain.\n\n<file name=\"a.rs\">\nfn a() {}\n</file>\n\n<stdin>\nx\n</stdin>"
    );
    assert_eq!(
        said(ask(&sandbox, &service, "--no-stdin Explain.").stdin("x")),
        "Explain."
    );
    // An empty pipe is nothing that somebody said.
    assert_eq!(
        said(ask(&sandbox, &service, "Explain.").stdin("")),
        "Explain."
    );
    assert_eq!(
        said(ask(&sandbox, &service, "-f tricky Look.")),
        "Look.\n\n<file-2 name=\"tricky\">\n</file>\n</file-2>"
    );
    assert_eq!(
        said(ask(&sandbox, &service, "--lossy").stdin(b"caf\xe9".to_vec())),
        "caf\u{fffd}"
    );
    assert_eq!(
        said(ask(&sandbox, &service, "/etc is full, why?")),
        "/etc is full, why?"
    );
    let sent = service.calls().len();
    run(ask(&sandbox, &service, "").stdin(b"caf\xe9".to_vec()))
        .code(65)
        .stderr_contains("standard input: ")
        .stderr_contains("at offset 3");
    run(ask(&sandbox, &service, "-f latin1 x")).code(65);
    run(ask(&sandbox, &service, "-f missing x")).code(66);
    run(ask(&sandbox, &service, "").stdin(" \n")).code(65);
    run(ask(&sandbox, &service, "--no-stdin")).code(2);
    run(ask(&sandbox, &service, "- - x").stdin("x")).code(2);
    assert_eq!(service.calls().len(), sent, "nothing of these was sent");
}

/// A picture of one pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01";

#[test]
fn http_images_instructions_and_reasoning() {
    let sandbox = Sandbox::new("http_images_instructions_and_reasoning");
    sandbox.file("shot.jpg", PNG).file("note.png", "text");
    let service = plain();
    let body = |flags: &str| {
        run(ask(&sandbox, &service, flags)).code(0);
        service.calls().last().unwrap().body.clone()
    };
    let messages = body("--image shot.jpg --system Be.terse. What is this?")["messages"].clone();
    assert_eq!(
        messages[0],
        json!({"role": "system", "content": "Be.terse."})
    );
    let url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB";
    assert_eq!(
        messages[1]["content"],
        json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}])
    );
    assert_eq!(
        body("-m kimi-k2.6 --thinking off Why?")["thinking"],
        json!({"type": "disabled"})
    );
    assert_eq!(
        body("-m kimi-k3 --thinking high Why?")["reasoning_effort"],
        "high"
    );
    let sent = service.calls().len();
    run(ask(&sandbox, &service, "--image note.png Why?")).code(65);
    run(ask(&sandbox, &service, "--image missing.png Why?")).code(66);
    run(ask(&sandbox, &service, "--allow all Why?"))
        .code(2)
        .stderr_contains("over HTTP");
    assert_eq!(service.calls().len(), sent);
    // What the model takes none of is left out, with a warning.
    let outcome = run(ask(
        &sandbox,
        &service,
        "-m kimi-k2.6 --temperature 0.3 Why?",
    ));
    outcome
        .code(0)
        .stderr_contains("omk: warning: the temperature was left out");
    assert_eq!(
        service.calls().last().unwrap().body["temperature"],
        Value::Null
    );
    run(ask(
        &sandbox,
        &service,
        "-q -m kimi-k2.6 --temperature 0.3 Why?",
    ))
    .code(0)
    .stderr("");
}

#[test]
fn http_the_key_is_not_printed_even_if_the_service_says_it() {
    let sandbox = Sandbox::new("http_the_key_is_not_printed_even_if_the_service_says_it");
    let service = Service::new(|call| {
        let key = call.header("authorization").to_string();
        let message = format!("Incorrect API key provided: {key}");
        Act::error("401 Unauthorized", "incorrect_api_key_error", &message)
    });
    run(ask(&sandbox, &service, "--json Why?")).code(77);
    run(ask(&sandbox, &service, "Why?")).code(77);
    run(ask(&sandbox, &service, "--stream-json Why?")).code(77);
}

#[test]
fn http_proxies_are_obeyed() {
    let sandbox = Sandbox::new("http_proxies_are_obeyed");
    let proxy = plain();
    let address = proxy.url().replace("/v1", "");
    let through = run(
        ask_at(&sandbox, "http://model.invalid/v1", "--insecure Why?").env("HTTP_PROXY", &address),
    );
    through.code(0).stdout("The answer.\n");
    assert_eq!(proxy.calls()[0].header("host"), "model.invalid");
    assert_eq!(proxy.others(), ["CONNECT model.invalid:80 HTTP/1.1"]);
    // The service itself is reached directly.
    let direct = plain();
    let outcome = run(ask(&sandbox, &direct, "Why?")
        .env("HTTP_PROXY", &address)
        .env("NO_PROXY", "127.0.0.1"));
    outcome.code(0).stdout("The answer.\n");
    assert_eq!((proxy.calls().len(), direct.calls().len()), (1, 1));
    let outcome = run(ask(&sandbox, &direct, "--json Why?").env("HTTP_PROXY", "ftp://proxy"));
    let result = outcome.code(69).json();
    outcome.check(result["error"]["kind"] == "no service", "the kind");
    outcome.check(
        result["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("HTTPS_PROXY"),
        "the hint",
    );
    run(ask(&sandbox, &direct, "Why?").env("SSL_CERT_FILE", "missing.pem"))
        .code(78)
        .stderr_contains("hint: SSL_CERT_FILE names a PEM file");
}

#[test]
fn http_odd_proxies_end_in_an_exit_code() {
    let sandbox = Sandbox::new("http_odd_proxies_end_in_an_exit_code");
    for scheme in ["socks5", "socks5h", "socks4", "socks4a"] {
        let proxy = nobody().replace("http://", &format!("{scheme}://"));
        let outcome = run(ask_at(
            &sandbox,
            "http://model.invalid/v1",
            "--insecure --retries 0 --json Why?",
        )
        .env("ALL_PROXY", proxy.trim_end_matches('/')));
        let result = outcome.code(75).json();
        outcome.check(result["error"]["kind"] == "network", "the kind");
        outcome.check(result["cost"]["charged"] == "no", "nothing was sent");
    }
}

#[test]
fn http_the_deadline_covers_waiting_for_the_question() {
    let sandbox = Sandbox::new("http_the_deadline_covers_waiting_for_the_question");
    let service = plain();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"half a ques").unwrap();
    let outcome = run(ask(&sandbox, &service, "--deadline 100ms").stdin_from(reader.into()));
    outcome
        .code(124)
        .stderr_contains("100ms ran out while waiting for input on stdin");
    drop(writer);
    assert_eq!(service.calls().len(), 0);
}
