//! Every exit code of the table is returned by the built program, by the shortest way there.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Stdio;

use crate::fake_agent;
use crate::sandbox::Sandbox;
use crate::server::{Reply, Server, nobody};
use crate::service::{Answer, Service};

/// What a shell adds to the number of the signal that ended a program.
const SIGNALLED: i32 = 128;

/// The codes that the help documents.
fn documented(sandbox: &Sandbox) -> BTreeSet<i32> {
    let help = sandbox.omk("--help").run();
    let (_, table) = help.stdout_text().split_once("Exit codes:\n").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines();
    rows.filter_map(|row| row.get(2..5)?.trim().parse().ok())
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn every_code_is_reached() {
    let sandbox = Sandbox::new("every_code_is_reached");
    sandbox.file("text", "text").file("latin1", b"caf\xe9");
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let mut seen = BTreeSet::new();
    let mut reach = |code, run: crate::sandbox::Run, stderr: &str| {
        run.run().code(code).stderr_contains(stderr);
        seen.insert(code);
    };
    reach(0, sandbox.omk("estimate text"), "");
    reach(
        1,
        sandbox.omk("models no-such-model"),
        "omk: models: no model matches `no-such-model`\n",
    );
    reach(2, sandbox.omk("estimate --bogus"), "omk: usage: ");
    reach(4, sandbox.omk("plan check text"), "omk: invalid plan: ");
    reach(
        5,
        sandbox.omk("estimate text --max-tokens 1"),
        "omk: budget: kimi-k3: 19 input tokens, --max-tokens allows 1\n",
    );
    reach(65, sandbox.omk("estimate latin1"), "omk: input: `latin1`: ");
    reach(
        66,
        sandbox.omk("estimate missing"),
        "omk: input: `missing` does not exist\n",
    );
    reach(
        74,
        sandbox.omk("estimate text").stdout_to(full()),
        "omk: output: cannot write to standard output: ",
    );
    reach(
        74,
        sandbox.omk("--help").stdout_to(full()),
        "omk: output: cannot write to standard output: ",
    );
    reach(
        75,
        sandbox.omk("models update --url").arg(nobody()),
        "omk: network: ",
    );
    let service = Service::new(|call| match call.asks("Tell.") {
        true => Answer::text(["Once upon"]).reason("length"),
        false => Answer::text(["four"]),
    });
    let prompt = |flags: &str| sandbox.omk(&format!("prompt --base-url {} {flags}", service.url()));
    reach(
        3,
        prompt("Tell."),
        "omk: cut: the answer ended at the length limit\n",
    );
    sandbox.file("number.json", r#"{"type": "number"}"#);
    reach(
        4,
        prompt("--schema number.json 2+2?"),
        "omk: invalid answer: ",
    );
    let agent = fake_agent::install(&sandbox, "wire_reject_feedback");
    reach(
        6,
        fake_agent::ask(&sandbox, &agent, "Go."),
        "omk: denied: Shell: ",
    );
    reach(
        69,
        fake_agent::ask(&sandbox, &sandbox.path("tmp"), "Go."),
        "omk: no agent: ",
    );
    let server = Server::new([Reply::http("403 Forbidden", &[], "")]);
    reach(
        77,
        sandbox.omk("models update --url").arg(server.url("/")),
        "omk: permission: ",
    );
    reach(
        78,
        sandbox.omk("estimate text").env("OMK_DEADLINE", "soon"),
        "omk: configuration: OMK_DEADLINE: ",
    );
    // The other end of the pipe is never written to and stays open.
    let (reader, writer) = std::io::pipe().unwrap();
    let deadline = sandbox
        .omk("estimate --deadline 50ms")
        .stdin_from(reader.into());
    reach(
        124,
        deadline,
        "omk: deadline: 50ms ran out while waiting for input on stdin\n",
    );
    drop(writer);
    for signal in [1, 2, 15] {
        let (reader, writer) = std::io::pipe().unwrap();
        let waiting = sandbox.omk("estimate").stdin_from(reader.into());
        let mut waiting = waiting.spawn();
        // The shell's own `kill`: slim systems have no program of that name.
        let kill = format!("kill -{signal} {}", waiting.id());
        let kill = Command::new("sh").args(["-c", &kill]).status();
        assert!(kill.unwrap().success());
        assert_eq!(waiting.wait().unwrap().signal(), Some(signal));
        seen.insert(SIGNALLED + signal);
        drop(writer);
    }
    assert_eq!(seen, documented(&sandbox));
}

#[test]
fn a_failure_under_json_has_the_code_in_the_document() {
    let sandbox = Sandbox::new("a_failure_under_json_has_the_code_in_the_document");
    sandbox
        .config(r#"{"modle": "k3"}"#)
        .file("latin1", b"caf\xe9");
    let outcome = sandbox.omk("estimate --json").run();
    let document = outcome.code(78).json();
    outcome.check(
        document["exit"] == 78 && document["error"]["kind"] == "configuration",
        "the code and the kind",
    );
    outcome.check(
        document["error"]["hint"] == "did you mean `model`?",
        "the hint",
    );
    sandbox.config("{}");
    let outcome = sandbox.omk("estimate --json latin1").run();
    let document = outcome.code(65).json();
    outcome.check(
        document["exit"] == 65 && document["ok"] == false,
        "the code",
    );
    outcome.check(document["error"]["retryable"] == false, "not retryable");
}
