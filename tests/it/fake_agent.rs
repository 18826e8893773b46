//! `omk prompt` with an agent that is none: a script named `kimi` that plays a recorded conversation.
//!
//! The script answers `--version` by itself and otherwise becomes this very binary, told by a variable to run one test alone,
//! the player. What the harness prints around it is no JSON, and is skipped as any agent's noise is. So everyone can run
//! these tests, without an agent, a network or a wait; [`crate::agents`] has the real ones.

use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::result::same_again;
use crate::sandbox::{Run, Sandbox};

/// Names the conversation that the player plays.
const PLAYS: &str = "OMK_TEST_TRANSCRIPT";

/// Puts a `kimi` with these lines of shell into the sandbox, and gives the directory it is in.
pub(crate) fn script(sandbox: &Sandbox, lines: &str) -> PathBuf {
    let directory = sandbox.path("bin");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("kimi");
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Puts a kimi-cli into the sandbox that has only this conversation; each time it is asked for its version it says so in a
/// file `versions`.
pub(crate) fn install(sandbox: &Sandbox, transcript: &str) -> PathBuf {
    let player = std::env::current_exe().unwrap();
    let transcript = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/transcripts")
        .join(format!("{transcript}.jsonl"));
    let lines = format!(
        "if [ \"$1\" = --version ]; then echo asked >> '{}'; echo 'kimi, version 1.51.0'; exit; fi\n\
         {PLAYS}='{}' exec '{}' --exact fake_agent::the_player --nocapture --test-threads=1",
        sandbox.path("versions").display(),
        transcript.display(),
        player.display(),
    );
    script(sandbox, &lines)
}

/// A run that finds its agent in this directory, and nothing else on the path.
pub(crate) fn ask(sandbox: &Sandbox, directory: &Path, flags: &str) -> Run {
    sandbox
        .omk(&format!("prompt {flags}"))
        .env("PATH", directory)
}

/// Not a test but an agent, where the variable is set: says what the agent said, each time after what was said to it.
#[test]
fn the_player() {
    let Some(transcript) = std::env::var_os(PLAYS) else {
        return;
    };
    let transcript = std::fs::read_to_string(transcript).unwrap();
    let mut input = std::io::stdin().lock().lines();
    let mut said = || -> Value {
        let line = input.next();
        // A client that leaves early is done with us.
        let line = line.unwrap_or_else(|| std::process::exit(0)).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let mut output = std::io::stdout();
    // The harness has begun a line.
    output.write_all(b"\n").unwrap();
    let mut ids = Vec::new();
    for line in transcript.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let mut message = line["msg"].clone();
        if line["dir"] == "out" {
            let ours = said();
            assert_eq!(ours["method"], message["method"], "{ours}");
            ids.push((message["id"].clone(), ours["id"].clone()));
            continue;
        }
        if let Some(noise) = message["_raw"].as_str() {
            output.write_all(format!("{noise}\n").as_bytes()).unwrap();
            continue;
        }
        if message.get("method").is_none() {
            let ours = ids.iter().find(|(recorded, _)| *recorded == message["id"]);
            message["id"] = ours.unwrap().1.clone();
        }
        output.write_all(format!("{message}\n").as_bytes()).unwrap();
    }
    // Whatever is still said is not heard.
    loop {
        said();
    }
}

#[test]
fn a_plain_turn() {
    let sandbox = Sandbox::new("a_plain_turn");
    let agent = install(&sandbox, "wire_plain");
    ask(&sandbox, &agent, "Why?")
        .run()
        .code(0)
        .stdout("Hello\n")
        .stderr_contains("no price of the agent's model is known");
    let outcome = ask(&sandbox, &agent, "--show-thinking -q Why?").run();
    outcome.code(0).stdout("Hello\n").stderr("hmm\n");
    let outcome = ask(&sandbox, &agent, "--json -m kimi-k2.6 Why?").run();
    let result = outcome.code(0).json();
    outcome.check(
        result["usage"]
            == json!({
                "input": 600, "cache_read": 400, "cache_write": 0, "output": 30, "reasoning": null,
                "source": "provider",
            }),
        "the usage",
    );
    // 600 at 0.95, 400 at 0.16 and 30 at 4 USD for a million.
    outcome.check(result["cost"]["usd"] == json!(0.000_754), "the cost");
    outcome.check(result["peer"] == "kimi-cli 1.51.0", "the peer");
    outcome.check(result["transport"] == "wire", "the transport");
}

#[test]
fn an_error_has_the_status_of_the_service() {
    for (transcript, exit, kind, status) in [
        ("wire_err_400", 1, "invalid prompt", 400),
        ("wire_err_401", 77, "authentication", 401),
        ("wire_err_429", 75, "rate limited", 429),
        ("wire_err_500", 75, "server error", 500),
        ("wire_err_overflow", 5, "context length exceeded", 400),
    ] {
        let sandbox = Sandbox::new(&format!("an_error_has_the_status_{transcript}"));
        let agent = install(&sandbox, transcript);
        let outcome = ask(&sandbox, &agent, "--json Why?").run();
        let error = &outcome.code(exit).json()["error"];
        outcome.check(
            error["kind"] == kind && error["http_status"] == status,
            &format!("{kind}, {status}"),
        );
        ask(&sandbox, &agent, "Why?")
            .run()
            .code(exit)
            .stdout("")
            .stderr_contains(&format!("omk: {kind}: kimi-cli 1.51.0 over wire: "));
    }
}

/// The recorded conversations with kimi-cli and kimi-agent in which nothing was said but what omk says by itself: a
/// greeting, one prompt, answers to what is asked back.
fn conversations() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if !(name.starts_with("wire_") || name.starts_with("rust_")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .map(|line| -> Value { serde_json::from_str(line).unwrap() });
        let lines: Vec<Value> = lines.collect();
        // What was left out of a recording cannot be played.
        let is_whole = lines
            .iter()
            .all(|line| line["msg"].is_object() && line.get("note").is_none());
        let said = lines.iter().filter(|line| line["dir"] == "out");
        let asked: Vec<&str> = said
            .filter_map(|line| line["msg"]["method"].as_str())
            .collect();
        if is_whole && asked == ["initialize", "prompt"] {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// Each conversation with the exit code, the kind of error, the answer and the usage that omk makes of it, once allowed
/// nothing and once allowed everything. `OMK_BLESS=1` writes what it is today; then every line has to be read.
#[test]
fn every_recorded_conversation_has_its_exit_code() {
    let mut found = String::new();
    for name in conversations() {
        for flags in ["", "--allow all"] {
            let sandbox = Sandbox::new(&format!("every_recorded_{name}"));
            let agent = install(&sandbox, &name);
            let flags = format!("--json -q -m kimi-k2.6 {flags} Go.");
            let outcome = ask(&sandbox, &agent, &flags).run();
            let result = outcome.json();
            let exit = &result["exit"];
            outcome.code(i32::try_from(exit.as_i64().unwrap()).unwrap());
            let mut line = format!(
                "{name}{}: {exit}",
                &flags["--json -q -m kimi-k2.6".len()..flags.len() - 4]
            );
            if let Some(kind) = result["error"]["kind"].as_str() {
                line.push_str(&format!(", {kind} {}", result["error"]["http_status"]));
            }
            if let Some(text) = result["text"].as_str() {
                let cut: String = text.chars().take(40).collect();
                line.push_str(&format!(", {cut:?} of {}", text.chars().count()));
            }
            for denial in result["denials"].as_array().unwrap() {
                line.push_str(&format!(", denied {} {}", denial["kind"], denial["tool"]));
            }
            let usage = &result["usage"];
            line.push_str(&format!(
                ", {}+{}+{}/{}, charged {}",
                usage["input"],
                usage["cache_read"],
                usage["cache_write"],
                usage["output"],
                result["cost"]["charged"].as_str().unwrap()
            ));
            found.push_str(&line);
            found.push('\n');
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts/exits.txt");
    if std::env::var_os("OMK_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap());
}

/// What omk took from the session's own file is on the tape, so a replay needs no such file.
#[test]
fn a_stream_that_was_cut_is_repaired_again_from_the_tape() {
    let sandbox = Sandbox::new("a_stream_that_was_cut_is_repaired_again_from_the_tape");
    let agent = install(&sandbox, "wire_err_cutonce");
    let session = sandbox.path("home/.kimi/sessions/hash/nightly");
    std::fs::create_dir_all(&session).unwrap();
    let kept = "{\"role\":\"user\",\"content\":\"secret of an earlier run\"}\n\
                {\"role\":\"assistant\",\"content\":\"whole\"}\n";
    std::fs::write(session.join("context.jsonl"), kept).unwrap();
    let run = |flags: &str| {
        let flags = format!("--stream-json -m kimi-k2.6 {flags} Go.");
        same_again(ask(&sandbox, &agent, &flags).run().code(0))
    };
    let first = run("--session nightly --record cut.tape");
    assert_eq!(first.1["text"], "whole");
    let tape = std::fs::read_to_string(sandbox.path("work/cut.tape")).unwrap();
    assert!(!tape.contains("secret"), "{tape}");
    std::fs::remove_dir_all(&session).unwrap();
    assert_eq!(run("--replay cut.tape"), first);
    ask(&sandbox, &agent, "-m kimi-k2.6 --replay cut.tape Go.")
        .run()
        .code(0)
        .stdout("whole\n");
}

#[test]
fn a_tool_is_denied_or_allowed() {
    let sandbox = Sandbox::new("a_tool_is_denied_or_allowed");
    let agent = install(&sandbox, "wire_reject_feedback");
    let outcome = ask(&sandbox, &agent, "Go.").run();
    outcome.code(6).stdout("after reject\n");
    outcome.stderr_contains("hint: --allow 'Shell(");
    let outcome = ask(&sandbox, &agent, "--json Go.").run();
    let result = outcome.code(6).json();
    outcome.check(result["denials"][0]["tool"] == "Shell", "the tool");
    // An agent that ends the turn over a refusal is told the reason by a second prompt, and answers then.
    let agent = install(&sandbox, "rust_reject");
    let outcome = ask(&sandbox, &agent, "-m kimi-k2.6 Go.").run();
    outcome.code(6).stdout("Hello wörld, all of it.\n");
    outcome.stderr_contains("Let me run it.\n");
    outcome.stderr_contains("\nomk: denied: Shell: ");
    let outcome = ask(&sandbox, &agent, "--json Go.").run();
    let result = outcome.code(6).json();
    let denials = result["denials"].as_array().unwrap();
    outcome.check(denials.len() == 1, "one denial");
    outcome.check(result["usage"]["input"] == 2000, "both prompts' usage");
    let agent = install(&sandbox, "wire_approve");
    ask(&sandbox, &agent, "--allow Shell -q Go.")
        .run()
        .code(0)
        .stdout("done\n");
}

#[test]
fn what_is_no_agent_is_told_apart() {
    let sandbox = Sandbox::new("what_is_no_agent_is_told_apart");
    let hint = "hint: npm install -g @moonshot-ai/kimi-code\n";
    for (lines, says, hint) in [
        (
            "echo 'kimi, version 1.52.0'; echo 'kimi-cli is no longer maintained'",
            "kimi-cli 1.52.0 is a stub",
            hint,
        ),
        ("echo 'hello, world'", "no known Kimi agent", "hint: --kimi"),
        ("exit 3", "--version says nothing", "hint: --kimi"),
    ] {
        // A bare `kimi` would do something that nobody asked for.
        let lines = format!("[ \"$*\" = --version ] || echo ran > ran\n{lines}");
        let agent = script(&sandbox, &lines);
        let outcome = ask(&sandbox, &agent, "Why?").run();
        outcome.code(69).stdout("").stderr_contains(says);
        outcome.stderr_contains(hint);
        assert!(!sandbox.path("work/ran").exists());
    }
    let agent = script(&sandbox, "while :; do read -r line < \"$0\"; done");
    ask(&sandbox, &agent, "--deadline 300ms Why?")
        .run()
        .code(124)
        .stderr_contains("300ms ran out while asking ");
    let nothing = sandbox.path("work");
    let outcome = ask(&sandbox, &nothing, "Why?").run();
    outcome
        .code(69)
        .stdout("")
        .stderr_contains("hint: set MOONSHOT_API_KEY");
    let outcome = ask(&sandbox, &nothing, "--kimi missing Why?").run();
    outcome.code(69).stderr_contains("`missing`");
    let agent = install(&sandbox, "wire_plain");
    let outcome = ask(&sandbox, &agent, "--transport acp Why?").run();
    outcome
        .code(69)
        .stderr_contains("is kimi-cli 1.51.0, which does not speak acp");
}

/// A wrapper may start another agent than it did when it was asked. The run that finds out asks that one.
#[test]
fn an_agent_that_has_become_another_is_asked_as_that_in_the_same_run() {
    let sandbox = Sandbox::new("an_agent_that_has_become_another");
    let agent = install(&sandbox, "wire_plain");
    let path = agent.join("kimi");
    let lines = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = lines.split_once('\n').unwrap();
    let switch = "if [ -e new ]; then [ \"$1\" = --version ] && echo 2.1.0; exit 1; fi";
    std::fs::write(&path, format!("{head}\n{switch}\n{rest}")).unwrap();
    ask(&sandbox, &agent, "-q Why?").run().code(0);
    sandbox.file("new", "");
    // It is not kimi-cli any more, and what it is now does not start either.
    ask(&sandbox, &agent, "Why?")
        .run()
        .code(69)
        .stderr_contains("Kimi Code 2.1.0 over acp");
}

#[test]
fn what_an_agent_is_is_found_out_once() {
    let sandbox = Sandbox::new("what_an_agent_is_is_found_out_once");
    let agent = install(&sandbox, "wire_plain");
    let asked = || {
        ask(&sandbox, &agent, "-q Why?")
            .run()
            .code(0)
            .stdout("Hello\n");
        let versions = std::fs::read_to_string(sandbox.path("versions")).unwrap();
        versions.lines().count()
    };
    assert_eq!((asked(), asked()), (1, 1));
    // Another file is another agent, for all that is known.
    let path = agent.join("kimi");
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{lines}# newer\n")).unwrap();
    assert_eq!((asked(), asked()), (2, 2));
    // A cache that is broken is no obstacle.
    std::fs::write(sandbox.path("home/.cache/omk/agents.json"), "[{]").unwrap();
    assert_eq!(asked(), 3);
}
