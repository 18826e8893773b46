//! `omk prompt` against the real agents: long turns, unusual endings, budgets over several runs, what is seen meanwhile.
//!
//! As in [`crate::agents`], each case is run with every agent that is installed, and holds the exit code, the text, the usage
//! against the bill, the ledger and the processes.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::agents::{
    Agent, Cli, Code, Kind, Stage, case, cases, commands, configuration, finish, left_behind,
};
use crate::result::{billed, bounded, events, ledger, recorded};
use crate::sandbox::{Outcome, Sandbox, is_installed, lines_without_age};
use crate::service::{Act, Answer, Call, Service};
use crate::signals::{SIGNALS, end, lives, signal};

cases! {
    two_hundred_steps a_hundred_parallel_tools compactions_in_between unfinished_sub_agent
    the_readmes_budget a_budget_over_runs a_call_beyond_the_budget max_steps the_last_step_is_printed_as_it_comes
    steps_are_shown tools_are_shown a_person_is_asked further_directories a_reader_that_leaves part_of_an_answer
    signals_during_a_tool signals_in_a_terminal background_command filtered length dead_login socks
}

/// The model's command, counted by the tools that ran before.
fn step(kind: Kind, call: &Call) -> Answer {
    Answer::tool(
        kind.shell(),
        json!({"command": format!("echo {}", call.tools())}),
    )
}

/// Asks in this sandbox with these flags, to the end.
#[track_caller]
fn asked(stage: &Stage, sandbox: &Sandbox, service: &Service, flags: &str) -> Outcome {
    let outcome = finish(stage.ask(sandbox, &service.url(), flags), sandbox);
    recorded(&outcome);
    outcome
}

fn two_hundred_steps(stage: &Stage) {
    let kind = stage.kind;
    for says in [true, false] {
        let service = Service::new(move |call: &Call| match (call.tools(), says) {
            (200, _) => Answer::text(["The ", "end."]),
            (_, true) => step(kind, call).saying("On we go."),
            (_, false) => step(kind, call),
        });
        let sandbox = stage.sandbox("json");
        // kimi-agent stops after 100 by itself.
        let flags = "--json --allow all --max-steps 201 Go.";
        let outcome = asked(stage, &sandbox, &service, flags);
        let result = outcome.code(0).json();
        outcome.check(result["text"] == "The end.", "the text");
        outcome.check(result["warnings"] == json!([]), "no warnings");
        assert_eq!(service.calls().len(), 201);
        billed(&outcome, &service);
    }
}

fn a_hundred_parallel_tools(stage: &Stage) {
    let read = match stage.kind {
        Cli | Agent => "ReadFile",
        Code => "Read",
    };
    let service = Service::new(move |call: &Call| match call.tools() {
        0 => Answer::tools(
            (1..=100).map(|line| (read, json!({"path": "file", "line_offset": line}))),
        )
        .saying("All of it."),
        _ => Answer::text(["Read."]),
    });
    let sandbox = stage.sandbox("json");
    sandbox.file("file", "line\n".repeat(200));
    let outcome = asked(stage, &sandbox, &service, "--json --allow all Go.");
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "Read.", "the text");
    assert_eq!(service.calls().len(), 2);
    billed(&outcome, &service);
}

/// The agent's window is full again and again, and each time it asks the model to shorten the history. Of kimi-cli's calls
/// for that nothing reports the usage.
fn compactions_in_between(stage: &Stage) {
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| {
        let is_compaction = call.body["tools"].as_array().is_none_or(Vec::is_empty)
            || call.last().to_string().to_lowercase().contains("compact");
        if is_compaction {
            return Answer::text(["A summary of what was said and done so far."]);
        }
        match call.number {
            1..12 => Answer::tool(
                kind.shell(),
                json!({"command": format!("echo {}", call.number)}),
            )
            .saying("On we go.")
            // Nearly all of the window that the agent is configured with.
            .charged(if call.number % 4 == 3 { 250_000 } else { 2_000 }, 50),
            _ => Answer::text(["The end."]),
        }
    });
    let sandbox = stage.sandbox("json");
    let outcome = asked(stage, &sandbox, &service, "--json --allow all Go.");
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "The end.", "the text");
    let calls = service.calls();
    assert!(calls.len() >= 12, "{}", calls.len());
    bounded(&outcome, &service);
    if result["usage"]["unreported"].is_null() {
        billed(&outcome, &service);
    }
}

/// A sub-agent that is still at work at the deadline: its call may be on the bill.
fn unfinished_sub_agent(stage: &Stage) {
    if stage.kind == Agent {
        // It has none in the background.
        return;
    }
    let service = Service::new(|call: &Call| -> Act {
        if call.asks("SUBTASK") && !call.asks("Go.") {
            return Act::Hold(Answer::text(["late"]));
        }
        match call.after_tool() {
            false => {
                let task = json!({"description": "do sub", "prompt": "SUBTASK please",
                    "subagent_type": "coder", "run_in_background": true});
                Answer::tool("Agent", task).into()
            }
            true => Answer::text(["main done"]).into(),
        }
    });
    let sandbox = stage.sandbox("json");
    let flags = "--json --allow all --deadline 20s Go.";
    let outcome = asked(stage, &sandbox, &service, flags);
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "main done", "the text");
    outcome.check(result["usage"]["unreported"] == 1, "one call in flight");
    bounded(&outcome, &service);
    let run = &ledger(&sandbox.path("work"))[0];
    assert_eq!(run["usage"]["unreported"], 1, "{run}");
}

/// The README's own example.
fn the_readmes_budget(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.after_tool() {
        false => step(kind, call),
        true => Answer::text(["done"]),
    });
    for run in 1..=3 {
        let flags = "--json --allow all --tag ci=1 Go.";
        let run_of = stage
            .ask(&sandbox, &service.url(), flags)
            .env("OMK_BUDGET", "5/day,40/month,tag:ci=1/day");
        let outcome = finish(run_of, &sandbox);
        outcome.code(0);
        assert_eq!(service.calls().len(), 2 * run);
    }
    let spent: u64 = ledger(&sandbox.path("work"))
        .iter()
        .map(|run| run["usage"]["output"].as_u64().unwrap())
        .sum();
    assert_eq!(spent, service.bill().output);
}

/// What 1,000 tokens cost of an answer of the model's, in USD: 4 for a million.
const PER_1000: f64 = 0.004;

/// The bound of a call is 32,768 tokens of an answer and somewhat more of a prompt, at 4 and 0.95 USD for a million.
const BOUND: f64 = 0.1725;

/// What was spent by earlier runs is not there for later ones, and a turn ends before the call that would not fit.
fn a_budget_over_runs(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let kind = stage.kind;
    // Each call costs 0.04 USD. What is begun beyond the fourth call is not answered.
    let service = Service::new(move |call: &Call| match call.number {
        0..=4 => Act::from(step(kind, call).charged(1, 10_000)),
        _ => Act::Hold(Answer::text(["late"])),
    });
    let budget = BOUND + 3.5 * 10.0 * PER_1000;
    let run = |flags: &str| {
        let run = stage
            .ask(&sandbox, &service.url(), flags)
            .env("OMK_BUDGET", format!("{budget}/day"));
        finish(run, &sandbox)
    };
    let first = run("--json --allow all --max-steps 2 Go.");
    first.code(5).stderr_contains("--max-steps 2");
    assert_eq!(service.charged(), 2);
    let second = run("--json --allow all Go.");
    let result = second.code(5).json();
    second.check(result["error"]["kind"] == "budget exhausted", "the kind");
    second.check(
        result["error"]["message"].to_string().contains("/day"),
        "the budget",
    );
    // The fourth call leaves less than the bound of a fifth. One that the agent had begun by then was cancelled.
    assert_eq!(service.charged(), 4);
    let calls = service.calls().len();
    assert!(calls <= 5, "{calls}");
    let spent = service.bill().output as f64 / 1000.0 * PER_1000;
    assert!(spent <= budget, "{spent} of {budget}");
    let third = run("--json --allow all Go.");
    third.code(5);
    assert_eq!(service.calls().len(), calls, "nothing was sent");
}

/// A call that costs more than any step is expected to: the overshoot is that one call, and no other follows.
fn a_call_beyond_the_budget(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.number {
        1 => Act::from(step(kind, call).charged(1, 100_000)),
        _ => Act::Hold(Answer::text(["late"])),
    });
    let run = stage
        .ask(&sandbox, &service.url(), "--json --allow all Go.")
        .env("OMK_BUDGET", "0.25/day");
    let outcome = finish(run, &sandbox);
    let result = outcome.code(5).json();
    outcome.check(result["error"]["kind"] == "budget exhausted", "the kind");
    let beyond = service.bill().output as f64 / 1000.0 * PER_1000 - 0.25;
    let one_call = 100.0 * PER_1000;
    outcome.check(
        beyond <= one_call,
        &format!("{beyond} USD beyond the budget"),
    );
    bounded(&outcome, &service);
    let calls = service.calls().len();
    assert!(calls <= 2, "{calls}");
}

fn max_steps(stage: &Stage) {
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.tools() {
        3 => Answer::text(["done"]),
        _ => step(kind, call),
    });
    let sandbox = stage.sandbox("json");
    let outcome = asked(
        stage,
        &sandbox,
        &service,
        "--json --allow all --max-steps 3 Go.",
    );
    let result = outcome.code(5).json();
    outcome.check(result["error"]["kind"] == "budget exhausted", "the kind");
    let message = result["error"]["message"].to_string();
    outcome.check(message.contains("--max-steps 3"), &message);
    assert_eq!(service.calls().len(), 3);
    billed(&outcome, &service);
    let sandbox = stage.sandbox("text");
    let outcome = asked(stage, &sandbox, &service, "--allow all --max-steps 4 Go.");
    outcome.code(0).stdout("done\n");
}

/// Reads from a pipe until this has come.
#[track_caller]
fn read_until(pipe: &mut impl Read, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let count = pipe.read(&mut byte).unwrap();
        let text = String::from_utf8_lossy(&seen);
        assert!(count > 0, "{wanted:?} did not come: {text}");
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// In the last step that is allowed, text can only be the answer.
fn the_last_step_is_printed_as_it_comes(stage: &Stage) {
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.tools() {
        0 => step(kind, call).saying("Let me see."),
        _ => Answer::text(["The ", "answer."]).hold_before(1),
    });
    let sandbox = stage.sandbox("text");
    let flags = "--allow all --max-steps 2 --no-stdin Go.";
    let mut run = stage.ask(&sandbox, &service.url(), flags).spawn();
    let begun = read_until(run.stdout.as_mut().unwrap(), "The ");
    assert_eq!(begun, "The ");
    service.release();
    let (status, out, err) = end(run);
    assert_eq!(
        (status.code(), out.as_str()),
        (Some(0), "answer.\n"),
        "{err}"
    );
    assert_eq!(left_behind(&sandbox), [""; 0]);
}

fn steps_are_shown(stage: &Stage) {
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.tools() {
        0 => step(kind, call).saying("Let me see."),
        _ => Answer::text(["The ", "answer."]).hold_before(1),
    });
    let sandbox = stage.sandbox("text");
    let flags = "--allow all --show-steps --no-stdin Go.";
    let mut run = stage.ask(&sandbox, &service.url(), flags).spawn();
    let begun = read_until(run.stderr.as_mut().unwrap(), "The ");
    assert_eq!(begun, "Let me see.\nThe ");
    service.release();
    let (status, out, err) = end(run);
    assert_eq!(status.code(), Some(0), "{err}");
    let said = lines_without_age(&err);
    assert_eq!(
        (out.as_str(), said.as_str()),
        ("The answer.\n", "answer.\n")
    );
}

fn tools_are_shown(stage: &Stage) {
    let shell = stage.kind.shell();
    let flags = [
        "--allow",
        "Shell(echo *)",
        "--show-tools",
        "--no-stdin",
        "Go.",
    ];
    let behaviour = move |call: &Call| match call.tools() {
        0 => Answer::tool(shell, json!({"command": "echo hello"})),
        1 => Answer::tool(shell, json!({"command": "touch made"})),
        _ => Answer::text(["done"]),
    };
    let service = Service::new(behaviour);
    let sandbox = stage.sandbox("json");
    let run = stage.ask(&sandbox, &service.url(), "--stream-json");
    let run = flags.iter().fold(run, |run, flag| run.arg(*flag));
    let outcome = finish(run, &sandbox);
    outcome.code(6);
    let events = events(&outcome);
    let of = |kind: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect()
    };
    let (tools, results, decisions) = (of("tool"), of("tool_result"), of("permission"));
    outcome.check(tools.len() == 2 && results.len() == 2, "two tools");
    outcome.check(tools[0]["tool"] == shell, "the tool");
    let arguments = tools[0]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    outcome.check(
        arguments == json!({"command": "echo hello"}),
        "its arguments",
    );
    outcome.check(tools[0]["call"] == results[0]["call"], "the call");
    outcome.check(results[0]["ok"] == true, "it worked");
    let output = results[0]["output"].to_string();
    outcome.check(output.contains("hello"), &output);
    let decided: Vec<_> = decisions
        .iter()
        .map(|event| (&event["allowed"], &event["rule"]))
        .collect();
    let rule = format!("{shell}(touch made)");
    outcome.check(
        decided
            == [
                (&json!(true), &json!("Shell(echo *)")),
                (&json!(false), &json!(rule)),
            ],
        &format!("{decided:?}"),
    );
    // As text each has a line.
    let service = Service::new(behaviour);
    let sandbox = stage.sandbox("text");
    let run = stage.ask(&sandbox, &service.url(), "");
    let run = flags.iter().fold(run, |run, flag| run.arg(*flag));
    let outcome = finish(run, &sandbox);
    outcome
        .code(6)
        .stderr_contains(&format!("omk: tool: {shell} "));
}

/// A run in a terminal.
struct Typing {
    child: Child,
}

impl Typing {
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        read_until(self.child.stdout.as_mut().unwrap(), text)
    }

    fn type_in(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }
}

fn a_person_is_asked(stage: &Stage) {
    if !is_installed("script") {
        return;
    }
    let shell = stage.kind.shell();
    let service = Service::new(move |call: &Call| {
        let command = match call.tools() {
            0 => "touch one",
            1 => "touch two",
            2 => "git status",
            3 => "git status",
            _ => return Answer::text(["done"]),
        };
        Answer::tool(shell, json!({"command": command}))
    });
    let sandbox = stage.sandbox("json");
    let run = stage.ask(&sandbox, &service.url(), "--ask --json --no-stdin Go.");
    let child = run.in_terminal("> out").spawn();
    let mut typing = Typing { child };
    // An answer that is none is asked for again.
    let asked = typing.wait_for("Allow it?");
    assert!(asked.contains("touch one"), "{asked}");
    typing.type_in("what\n");
    typing.wait_for("Answer y, a or n");
    typing.type_in("y\n");
    let asked = typing.wait_for("Allow it?");
    assert!(asked.contains("touch two"), "{asked}");
    typing.type_in("n\n");
    // Once for both.
    let asked = typing.wait_for("Allow it?");
    assert!(asked.contains("git status"), "{asked}");
    typing.type_in("a\n");
    let (status, rest, _) = end(typing.child);
    assert_eq!(status.code(), Some(6), "{rest}");
    assert!(!rest.contains("Allow it?"), "{rest}");
    let out = std::fs::read_to_string(sandbox.path("work/out")).unwrap();
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["text"], "done", "{out}");
    let denials = result["denials"].as_array().unwrap();
    assert_eq!(denials.len(), 1, "{out}");
    assert!(sandbox.path("work/one").exists() && !sandbox.path("work/two").exists());
    // Without a terminal there is nobody to ask.
    let outcome = finish(
        stage.bare(&sandbox, "prompt --ask --no-stdin Go."),
        &sandbox,
    );
    if std::fs::File::open("/dev/tty").is_err() {
        outcome.code(2).stderr_contains("--ask needs a terminal");
    }
}

/// A directory beside the work directory, which the agent is told of and from which it may read.
fn further_directories(stage: &Stage) {
    let read = match stage.kind {
        Cli | Agent => "ReadFile",
        Code => "Read",
    };
    let sandbox = stage.sandbox("json");
    sandbox.file("../other/note", "a note\n");
    // Where the search for a repository ends.
    sandbox.file("../other/.git/HEAD", "ref: refs/heads/main\n");
    let note = std::fs::canonicalize(sandbox.path("other/note")).unwrap();
    let service = Service::new(move |call: &Call| match call.tools() {
        0 => Answer::tool(read, json!({"path": note})),
        _ => Answer::text(["done"]),
    });
    let outcome = asked(
        stage,
        &sandbox,
        &service,
        "--json --add-dir ../other --no-stdin Go.",
    );
    if stage.kind == Agent {
        outcome.code(2);
        return;
    }
    outcome.code(0);
    let calls = service.calls();
    assert!(
        calls[1].last().to_string().contains("a note"),
        "{}",
        calls[1].last()
    );
    let outcome = asked(
        stage,
        &sandbox,
        &service,
        "--add-dir nowhere --no-stdin Go.",
    );
    outcome.code(66).stderr_contains("--add-dir `nowhere`");
}

/// Nobody reads the answer any more, so nothing more is paid for it.
fn a_reader_that_leaves(stage: &Stage) {
    let service = Service::new(|_: &Call| Act::Hold(Answer::text(["late"])));
    let sandbox = stage.sandbox("text");
    let mut run = stage
        .ask(&sandbox, &service.url(), "--no-stdin Why?")
        .spawn();
    service.wait_for_calls(1);
    drop(run.stdout.take());
    let status = run.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    service.wait_for_leaving();
    assert_eq!(left_behind(&sandbox), [""; 0]);
    assert_eq!(ledger(&sandbox.path("work"))[0]["status"], "interrupted");
}

/// What had come of the answer at the deadline, and after a signal, is in the result.
fn part_of_an_answer(stage: &Stage) {
    let behaviour = |_: &Call| Answer::text(["The first ", "part."]).hold_before(1);
    let service = Service::new(behaviour);
    let sandbox = stage.sandbox("json");
    let outcome = asked(
        stage,
        &sandbox,
        &service,
        "--json --deadline 15s --no-stdin Why?",
    );
    let result = outcome.code(124).json();
    outcome.check(result["text"] == "The first ", "the text");
    outcome.check(result["complete"] == false, "not complete");
    let sandbox = stage.sandbox("text");
    let service = Service::new(behaviour);
    let flags = "--stream-json --no-stdin Why?";
    let mut run = stage.ask(&sandbox, &service.url(), flags).spawn();
    read_until(run.stdout.as_mut().unwrap(), "The first ");
    signal("INT", &run.id().to_string());
    let (_, out, _) = end(run);
    let result: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&result["text"], &result["exit"]),
        (&json!("The first "), &json!(130))
    );
}

/// The processes of a tool that runs in a sandbox, by a word of their command lines.
fn at_work(sandbox: &Sandbox, word: &str) -> Vec<String> {
    let found = crate::agents::processes(&sandbox.path(""));
    found
        .into_iter()
        .filter(|line| line.contains(word))
        .collect()
}

#[track_caller]
fn wait_for_tool(sandbox: &Sandbox, word: &str) {
    let started = std::time::Instant::now();
    while at_work(sandbox, word).is_empty() {
        assert!(started.elapsed().as_secs() < 60, "no {word}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn signals_during_a_tool(stage: &Stage) {
    for (name, code) in SIGNALS {
        let service = Service::new(commands(stage.kind, "sleep 613"));
        let sandbox = stage.sandbox("json");
        let flags = "--json --allow all --no-stdin Go.";
        let run = stage.ask(&sandbox, &service.url(), flags).spawn();
        wait_for_tool(&sandbox, "sleep 613");
        signal(name, &run.id().to_string());
        let (status, out, err) = end(run);
        assert_eq!(status.code(), Some(code), "{name}: {err}");
        assert_eq!(
            crate::agents::processes(&sandbox.path("")),
            [""; 0],
            "{name}"
        );
        let result: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(result["error"]["kind"], "interrupted", "{out}");
        // What stands before a tool call is not the beginning of an answer.
        assert!(result["text"].is_null(), "{out}");
        // kimi-cli reports the call's usage after its tools, if it still comes to that.
        let cost = &result["cost"];
        assert_ne!(cost["charged"], "no", "{out}");
        assert!(cost["at_most_usd"].is_number(), "{out}");
        let run = &ledger(&sandbox.path("work"))[0];
        assert!(run["ended_at"].is_string(), "{run}");
        assert_eq!(run["exit"], code, "{run}");
    }
}

/// Ctrl-C as a terminal sends it.
fn signals_in_a_terminal(stage: &Stage) {
    if !is_installed("script") {
        return;
    }
    let service = Service::new(commands(stage.kind, "sleep 613"));
    let sandbox = stage.sandbox("json");
    let flags = "--json --allow all --no-stdin Go.";
    let run = stage.ask(&sandbox, &service.url(), flags);
    let child = run.in_terminal("> out").spawn();
    let mut typing = Typing { child };
    wait_for_tool(&sandbox, "sleep 613");
    typing.type_in("\x03");
    let (status, shown, _) = end(typing.child);
    assert_eq!(status.code(), Some(130), "{shown}");
    assert_eq!(left_behind(&sandbox), [""; 0]);
    let out = std::fs::read_to_string(sandbox.path("work/out")).unwrap();
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["exit"], 130, "{out}");
    assert_eq!(ledger(&sandbox.path("work"))[0]["exit"], 130);
}

/// A command in the background does not outlive a turn that ends well.
fn background_command(stage: &Stage) {
    let kind = stage.kind;
    let service = Service::new(move |call: &Call| match call.tools() {
        0 => {
            let arguments = match kind {
                Code => {
                    json!({"command": "sleep 613", "run_in_background": true, "description": "wait"})
                }
                Cli | Agent => json!({"command": "sleep 613 > /dev/null 2>&1 &"}),
            };
            Answer::tool(kind.shell(), arguments)
        }
        _ => Answer::text(["done"]),
    });
    let sandbox = stage.sandbox("json");
    let outcome = asked(
        stage,
        &sandbox,
        &service,
        "--json --allow all --no-stdin Go.",
    );
    let result = outcome.code(0).json();
    outcome.check(result["text"] == "done", "the text");
    billed(&outcome, &service);
}

/// Wire does not tell why the model stopped, and neither does any file of kimi-cli's or kimi-agent's: the answer is then not
/// said to be complete.
fn filtered(stage: &Stage) {
    let service = Service::new(|_: &Call| Answer::text(["half"]).reason("content_filter"));
    let sandbox = stage.sandbox("json");
    let outcome = asked(stage, &sandbox, &service, "--json --no-stdin Why?");
    if stage.kind == Code {
        let result = outcome.code(1).json();
        outcome.check(result["error"]["kind"] == "content filtered", "the kind");
        outcome.check(result["complete"] == false, "not complete");
    } else {
        let result = outcome.code(0).json();
        outcome.check(result["complete"].is_null(), "nobody knows");
    }
    bounded(&outcome, &service);
}

fn length(stage: &Stage) {
    let service = Service::new(|_: &Call| Answer::text(["half"]).reason("length"));
    let sandbox = stage.sandbox("json");
    let outcome = asked(stage, &sandbox, &service, "--json --no-stdin Why?");
    if stage.kind == Code {
        let result = outcome.code(3).json();
        outcome.check(result["finish_reason"] == "length", "the reason");
        outcome.check(result["complete"] == false, "not complete");
    } else {
        let result = outcome.code(0).json();
        outcome.check(result["complete"].is_null(), "nobody knows");
    }
    let text = outcome.json()["text"].clone();
    outcome.check(text == "half", "the text");
    billed(&outcome, &service);
}

/// A model without a key is a login that is missing.
fn dead_login(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let text = configuration("m", &[("m", "kimi-k2.6")], "http://127.0.0.1:1/v1");
    let without_key = text.lines().filter(|line| !line.starts_with("api_key"));
    let without_key: Vec<&str> = without_key.collect();
    stage.configure(&sandbox, &without_key.join("\n"));
    let outcome = finish(
        stage.bare(&sandbox, "prompt --json --no-stdin Why?"),
        &sandbox,
    );
    outcome.json();
    outcome.check(
        outcome.json()["exit"] == if stage.kind == Code { 77 } else { 78 },
        "no login; kimi-cli and kimi-agent call the configuration broken",
    );
    outcome.check(outcome.json()["cost"]["charged"] == "no", "charged");
}

/// The agent's own library may not know SOCKS. Whatever it says, the run ends with an error and nothing panics.
fn socks(stage: &Stage) {
    for scheme in ["socks5", "socks5h", "socks4", "socks4a"] {
        // Every variable with one scheme, and every scheme with one variable.
        let variables: &[&str] = match scheme {
            "socks5" => &["ALL_PROXY", "HTTPS_PROXY", "http_proxy"],
            _ => &["ALL_PROXY"],
        };
        for &variable in variables {
            let service = Service::new(|_: &Call| Answer::text(["fine"]));
            let sandbox = stage.sandbox("json");
            let run = stage
                .ask(
                    &sandbox,
                    &service.url(),
                    "--json --retries 0 --no-stdin Why?",
                )
                .env(variable, format!("{scheme}://127.0.0.1:1"));
            let outcome = finish(run, &sandbox);
            let result = outcome.json();
            let exit = result["exit"].as_u64().unwrap();
            outcome.check(
                [0, 1, 69, 75, 78].contains(&exit),
                &format!("{variable}={scheme}: exit {exit}"),
            );
            outcome.check(
                !outcome.stderr_text().contains("panicked at src"),
                "no panic",
            );
            if exit == 0 {
                billed(&outcome, &service);
            } else {
                outcome.check(result["error"]["message"].is_string(), "a message");
                bounded_or_free(&outcome, &service);
            }
        }
    }
}

#[track_caller]
fn bounded_or_free(outcome: &Outcome, service: &Service) {
    assert_eq!(service.charged(), 0);
    let cost = &outcome.json()["cost"];
    outcome.check(
        cost["charged"] == "no" || cost["at_most_usd"].is_number(),
        "nothing, or a bound",
    );
}

/// Whoever looks for processes must find one that is there.
#[cfg(target_os = "linux")]
#[test]
fn a_process_of_a_sandbox_is_found() {
    let sandbox = Sandbox::new("a_process_of_a_sandbox_is_found");
    let mut child = sandbox
        .command("sleep", ["614"])
        .stdin_from(Stdio::null())
        .spawn();
    wait_for_tool(&sandbox, "sleep 614");
    assert!(lives(&child.id().to_string()));
    child.kill().unwrap();
    child.wait().unwrap();
}
