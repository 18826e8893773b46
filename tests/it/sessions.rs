//! Conversations with a service, which omk keeps because the service does not.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::result::KEY;
use crate::sandbox::{Run, Sandbox, is_installed};
use crate::service::{Act, Answer, Service};

fn ask(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    sandbox
        .omk(&format!("prompt --base-url {} {flags}", service.url()))
        .env("MOONSHOT_API_KEY", KEY)
}

fn messages(service: &Service, call: usize) -> Vec<(String, String)> {
    let body = &service.calls()[call].body;
    let messages = body["messages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    messages
        .iter()
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

fn said(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(role, text)| (role.to_string(), text.to_string()))
        .collect()
}

#[test]
fn session_sends_what_was_said_before_and_says_so() {
    let sandbox = Sandbox::new("session_sends_what_was_said_before_and_says_so");
    let service = Service::new(|call| Answer::text([format!("answer {}", call.number)]));
    let outcome = ask(
        &sandbox,
        &service,
        "--session trip -m kimi-k2.6 --system Terse. one",
    )
    .run();
    outcome.code(0).stdout("answer 1\n");
    outcome.stderr_contains("session trip, turn 1: 0 tokens of history; ");
    let outcome = ask(&sandbox, &service, "--session trip two").run();
    outcome.code(0).stdout("answer 2\n");
    outcome.stderr_contains("session trip, turn 2: ");
    outcome.stderr_contains(" from the cache; $0.");
    let before = [
        ("system", "Terse."),
        ("user", "one"),
        ("assistant", "answer 1"),
    ];
    assert_eq!(
        messages(&service, 1),
        said(&[&before[..], &[("user", "two")]].concat())
    );
    // The model and the instructions go on, and the cache is found again.
    let calls = service.calls();
    assert_eq!(calls[1].body["model"], "kimi-k2.6");
    assert_eq!(calls[1].body["prompt_cache_key"], "omk-trip");
    assert_eq!(calls[0].body["prompt_cache_key"], "omk-trip");
    let outcome = ask(&sandbox, &service, "-c --json three").run();
    outcome.code(0);
    let result = outcome.json();
    assert_eq!(messages(&service, 2).len(), 6);
    assert_eq!(result["turn"]["turn"], 3);
    assert_eq!(result["turn"]["name"], "trip");
    assert!(result["turn"]["history_tokens"].as_u64().unwrap() >= 6);
    let usage = &result["usage"];
    assert_eq!(result["turn"]["cached_tokens"], usage["cache_read"]);
    assert_eq!(result["turn"]["usd"], result["cost"]["usd"]);
    // What is kept is for this user alone.
    let path = sandbox.path("home/.local/state/omk/sessions/http/trip.json");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path) & 0o777, 0o600);
    assert_eq!(mode(path.parent().unwrap()) & 0o777, 0o700);
}

#[test]
fn sessions_are_listed_shown_and_removed() {
    let sandbox = Sandbox::new("sessions_are_listed_shown_and_removed");
    let service = Service::new(|call| Answer::text([format!("answer {}", call.number)]));
    sandbox
        .omk("sessions list")
        .run()
        .code(0)
        .stdout("no conversations\n");
    sandbox.omk("sessions").run().code(0);
    ask(&sandbox, &service, "--session a one").run().code(0);
    ask(&sandbox, &service, "--session b two").run().code(0);
    let listed = sandbox.omk("sessions list --json").run().json();
    let names: Vec<&Value> = listed["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| &session["name"])
        .collect();
    assert_eq!(names, [&json!("b"), &json!("a")]);
    let outcome = sandbox.omk("sessions show a").run();
    outcome.code(0).stdout_contains("> one\n\nanswer 1\n");
    outcome.stdout_contains("# turn 1: 0 tokens of history, ");
    let shown = sandbox.omk("sessions show a --json").run().json();
    let turn = &shown["sessions"][0]["exchanges"][0];
    assert_eq!(
        (&turn["user"], &turn["assistant"]),
        (&json!("one"), &json!("answer 1"))
    );
    let bill = service.bill();
    let sum: u64 = ["a", "b"]
        .iter()
        .map(|name| {
            let shown = sandbox
                .omk(&format!("sessions show {name} --json"))
                .run()
                .json();
            let turn = &shown["sessions"][0]["exchanges"][0];
            turn["input_tokens"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(sum, bill.prompt);
    sandbox.omk("sessions remove a").run().code(0);
    sandbox.omk("sessions show a").run().code(66);
    sandbox.omk("sessions remove a").run().code(66);
    sandbox.omk("sessions show ../b").run().code(2);
    sandbox.omk("sessions show").run().code(2);
}

#[test]
fn session_keeps_no_turn_without_an_answer_and_none_of_two_at_once() {
    let sandbox = Sandbox::new("session_keeps_no_turn_without_an_answer_and_none_of_two_at_once");
    let service = Service::new(|call| match call.number {
        1 => Act::error("400 Bad Request", "invalid_request_error", "no"),
        2 => Act::Hold(Answer::text(["late"])),
        _ => Answer::text(["soon"]).into(),
    });
    ask(&sandbox, &service, "-c one")
        .run()
        .code(66)
        .stderr_contains("--session NAME begins one");
    ask(&sandbox, &service, "-c --session a one").run().code(2);
    ask(&sandbox, &service, "--session a one").run().code(1);
    sandbox
        .omk("sessions list")
        .run()
        .stdout("no conversations\n");
    let late = ask(&sandbox, &service, "--session a two").spawn();
    service.wait_for_calls(2);
    ask(&sandbox, &service, "--session a three").run().code(0);
    service.release();
    let late = late.wait_with_output().unwrap();
    assert_eq!(late.status.code(), Some(74));
    // The answer was paid for and is printed.
    assert_eq!(late.stdout, b"late\n");
    let shown = sandbox.omk("sessions show a --json").run().json();
    assert_eq!(
        shown["sessions"][0]["exchanges"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn session_is_counted_before_it_is_sent() {
    let sandbox = Sandbox::new("session_is_counted_before_it_is_sent");
    let service = Service::new(|_| Answer::text(["a word ".repeat(100)]));
    ask(&sandbox, &service, "--session a one").run().code(0);
    let outcome = ask(&sandbox, &service, "--session a --dry-run --json two").run();
    assert!(outcome.json()["input_tokens"].as_u64().unwrap() > 200);
    let outcome = ask(&sandbox, &service, "--session a --max-tokens 200 two").run();
    outcome.code(5);
    assert_eq!(service.calls().len(), 1);
}

/// What a newcomer types, on a terminal of 80 columns: nothing is wider, and nothing of a status line is left.
#[test]
fn newcomers_on_a_terminal_of_80_columns() {
    if !is_installed("script") {
        eprintln!("NOT TESTED: there is no `script` here");
        return;
    }
    let sandbox = Sandbox::new("newcomers_on_a_terminal_of_80_columns");
    let service = Service::new(|call| Answer::text([format!("answer {}", call.number)]));
    let url = service.url();
    sandbox.file(
        "in.jsonl",
        "{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"b\",\"prompt\":\"y\"}\n",
    );
    for (line, expected) in [
        (format!("omk prompt --base-url {url} Hello"), "answer 1"),
        (
            format!("omk prompt --base-url {url} --session a Hi"),
            "answer 2",
        ),
        (
            format!("omk prompt --base-url {url} -c again"),
            "session a, turn 2",
        ),
        ("omk sessions list".to_string(), "a            2"),
        ("omk".to_string(), "omk help"),
        ("omk -h".to_string(), "prompt"),
        ("omk batch -h".to_string(), "--retry-unknown"),
        ("omk prompt -h".to_string(), "--session"),
        (
            format!("omk batch --base-url {url} in.jsonl -o out.jsonl -j 2"),
            "2 of 2 prompts answered",
        ),
        (
            format!("omk batch --base-url {url} in.jsonl --dry-run"),
            "2 prompts (jsonl)",
        ),
    ] {
        let typed = format!("stty cols 80; {line}");
        let command = sandbox.command("script", ["-qec", &typed, "/dev/null"]);
        let outcome = command
            .env("MOONSHOT_API_KEY", KEY)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .run();
        let shown = screen(outcome.stdout_text());
        outcome.check(
            shown.contains(expected),
            &format!("expected {expected:?} on the screen:\n{shown}"),
        );
        let is_url = |line: &&str| line.contains("http://") || line.contains("https://");
        for line in shown.lines().filter(|line| !is_url(line)) {
            let width = line.chars().count();
            outcome.check(
                width <= 80 || line.starts_with("omk: "),
                &format!("{width} columns: {line}"),
            );
        }
    }
}

/// What is left on a screen: a line that was taken away is gone, and colours are none.
fn screen(text: &str) -> String {
    let mut shown = String::new();
    for line in text.replace("\r\n", "\n").split('\n') {
        let line = line.rsplit("\x1b[K").next().unwrap_or(line);
        let line = line.rsplit('\r').next().unwrap_or(line);
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            shown.push_str(before);
            rest = after.split_once('m').map_or("", |(_, after)| after);
        }
        shown.push_str(rest);
        shown.push('\n');
    }
    shown
}
