//! `omk doctor`, in a place where nothing is, where something is wrong, and with the real agents.

use std::path::Path;

use serde_json::{Value, json};

use crate::agents::{Agent, Cli, Code, Stage, case, cases, finish};
use crate::fake_agent::{install, script};
use crate::sandbox::{Outcome, Run, Sandbox};
use crate::server::{Reply, Server, nobody};

cases! { an_agent_is_found_and_started }

/// The checks of that name.
#[track_caller]
fn checks(outcome: &Outcome, name: &str) -> Vec<Value> {
    let document = outcome.json();
    let all = document["checks"].as_array().unwrap();
    all.iter()
        .filter(|check| check["check"] == name)
        .cloned()
        .collect()
}

/// The one check of that name has this state, and these words in what was found or how to fix it.
#[track_caller]
fn expect(outcome: &Outcome, name: &str, state: &str, words: &str) {
    let found = checks(outcome, name);
    outcome.check(found.len() == 1, &format!("one check of {name}"));
    let shown = format!("{} {}", found[0]["detail"], found[0]["hint"]);
    outcome.check(
        found[0]["state"] == state && shown.contains(words),
        &format!("{name}: {state}, {words}"),
    );
}

fn doctor(sandbox: &Sandbox, flags: &str) -> Run {
    sandbox
        .omk(&format!("doctor --json {flags}"))
        .env("PATH", sandbox.path("bin"))
}

#[test]
fn where_nothing_is_wrong_it_succeeds_on_one_screen() {
    let sandbox = Sandbox::new("where_nothing_is_wrong");
    let outcome = doctor(&sandbox, "--offline").run();
    outcome.code(0);
    expect(&outcome, "agent", "warning", "npm install -g");
    expect(&outcome, "key", "ok", "none is set");
    expect(&outcome, "ledger", "ok", "writable");
    expect(&outcome, "config", "ok", "no config file");
    expect(&outcome, "prices", "ok", "built in");
    expect(&outcome, "sandbox", "warning", "apt-get install bubblewrap");
    outcome.check(!sandbox.path("home/.local").exists(), "nothing is made");
    let text = sandbox.omk("doctor --offline").run();
    text.code(0).stderr("");
    text.check(text.stdout_text().lines().count() <= 24, "one screen");
}

#[test]
fn what_is_wrong_is_named_with_its_fix() {
    let sandbox = Sandbox::new("what_is_wrong_is_named");
    sandbox.config(r#"{"model": "kimi-k2.6", "deadlien": "3s"}"#);
    std::fs::write(sandbox.path("config/omk/models.dev.json"), "{").unwrap();
    let outcome = doctor(&sandbox, "--offline")
        .env("OMK_BUDGET", "5/decade")
        .env("SSL_CERT_FILE", "/nonexistent/ca.pem")
        .env("HTTPS_PROXY", "ftp://proxy")
        .run();
    let failure = &outcome.code(1).json()["error"];
    outcome.check(failure["kind"] == "doctor", "the kind");
    expect(&outcome, "config", "error", "`deadlien`");
    expect(&outcome, "prices", "error", "models.dev.json");
    expect(&outcome, "budgets", "error", "OMK_BUDGET=5/day");
    expect(&outcome, "certificates", "error", "SSL_CERT_FILE");
    // A value of another command's setting.
    sandbox.config(r#"{"transport": "pigeon"}"#);
    let outcome = doctor(&sandbox, "--offline").run();
    expect(&outcome, "config", "error", "transport");
    // It removes what it fetched itself, and leaves the config file to its owner.
    let outcome = doctor(&sandbox, "--offline --fix").run();
    outcome.code(1);
    let fixed = &checks(&outcome, "prices")[0];
    outcome.check(fixed["fixed"] == true, "the price list is removed");
    expect(&outcome, "config", "error", "transport");
    assert!(!sandbox.path("config/omk/models.dev.json").exists());
}

#[test]
fn a_key_is_held_against_its_host() {
    let sandbox = Sandbox::new("a_key_is_held_against_its_host");
    let with = |key: &str, url: &str, flags: &str| {
        let run = doctor(&sandbox, flags).env("MOONSHOT_API_KEY", key);
        run.env("OMK_BASE_URL", url).run()
    };
    let plan = with("sk-kimi-x", "https://api.moonshot.cn/v1", "--offline");
    expect(plan.code(1), "key", "error", "api.kimi.com/coding/v1");
    let other = with("sk-x", "https://api.kimi.com/coding/v1", "--offline");
    expect(other.code(1), "key", "error", "sk-kimi-");
    let right = with("sk-x", "https://api.moonshot.cn/v1", "--offline");
    expect(right.code(0), "key", "ok", "not tried");
    let clear = with("sk-x", "http://192.0.2.1/v1", "");
    expect(clear.code(1), "key", "error", "unencrypted");
    for (status, exit, state, words) in [
        ("200 OK", 0, "ok", "takes it"),
        ("401 Unauthorized", 1, "error", "does not take the key"),
        ("404 Not Found", 0, "warning", "HTTP 404"),
    ] {
        let server = Server::new([Reply::http(status, &[], "{}")]);
        let outcome = with("sk-test", &server.url("/v1"), "");
        expect(outcome.code(exit), "key", state, words);
        assert!(server.requests()[0].starts_with("GET /v1/models "));
        outcome.check(
            !outcome.stdout_text().contains("sk-test"),
            "the key is shown",
        );
    }
    let silent = with("sk-x", &format!("{}v1", nobody()), "");
    expect(
        silent.code(1),
        "key",
        "error",
        "check the address and the network",
    );
}

#[test]
fn it_repairs_the_ledger_and_installs_completions() {
    let sandbox = Sandbox::new("it_repairs_the_ledger");
    let loose = sandbox.path("home/.local/state/omk/ledger/loose");
    std::fs::create_dir_all(&loose).unwrap();
    std::fs::write(
        loose.join("20261121T173058715048Z-000025fc-e5f8bc6066ab.json"),
        "{\"bro",
    )
    .unwrap();
    let outcome = doctor(&sandbox, "--offline")
        .env("SHELL", "/bin/bash")
        .run();
    expect(outcome.code(1), "ledger", "error", "omk cost repair");
    expect(&outcome, "completions", "warning", "omk completions bash >");
    let fixed = doctor(&sandbox, "--offline --fix")
        .env("SHELL", "/bin/bash")
        .run();
    expect(fixed.code(0), "ledger", "ok", "put aside");
    expect(&fixed, "completions", "ok", "written to");
    let after = doctor(&sandbox, "--offline")
        .env("SHELL", "/bin/bash")
        .run();
    expect(after.code(0), "ledger", "ok", "no damage");
    expect(&after, "completions", "ok", "has them");
    let place = sandbox.path("home/.local/share/bash-completion/completions/omk");
    let printed = sandbox.omk("completions bash").run();
    assert_eq!(
        std::fs::read_to_string(&place).unwrap(),
        printed.stdout_text()
    );
    std::fs::write(&place, "old").unwrap();
    let old = doctor(&sandbox, "--offline")
        .env("SHELL", "/bin/bash")
        .run();
    expect(&old, "completions", "warning", "another version");
}

#[cfg(unix)]
#[test]
fn a_ledger_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new("a_ledger_that_cannot_be_written");
    // A file in its place stops root too.
    std::fs::write(sandbox.path("tmp/file"), "").unwrap();
    let outcome = doctor(&sandbox, "--offline")
        .env("OMK_LEDGER", sandbox.path("tmp/file"))
        .run();
    let found = &checks(outcome.code(1), "ledger")[0];
    outcome.check(found["state"] == "error", "the ledger");
}

/// A program of this name beside the agent.
fn beside(directory: &Path, name: &str, lines: &str) {
    use std::os::unix::fs::PermissionsExt;

    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_agent_for_a_newer_node_is_named_as_such() {
    let sandbox = Sandbox::new("an_agent_for_a_newer_node");
    let directory = script(&sandbox, "");
    std::fs::write(
        directory.join("kimi"),
        "#!/usr/bin/env node\nimport x from 'y';\n",
    )
    .unwrap();
    std::fs::write(
        sandbox.path("package.json"),
        json!({"name": "agent", "engines": {"node": ">=22.19.0"}}).to_string(),
    )
    .unwrap();
    let outcome = doctor(&sandbox, "--offline").run();
    expect(
        outcome.code(1),
        "agent",
        "error",
        "there is no `node` on the path",
    );
    beside(
        &directory,
        "node",
        "[ \"$1\" = --version ] && echo v20.20.2 || { echo SyntaxError >&2; exit 1; }",
    );
    let outcome = doctor(&sandbox, "--offline").run();
    expect(outcome.code(1), "agent", "error", "is v20.20.2");
    expect(&outcome, "agent", "error", "it needs Node >=22.19.0");
    // A question says so too.
    let outcome = sandbox.omk("prompt Go.").env("PATH", &directory).run();
    outcome
        .code(69)
        .stderr_contains("it needs Node >=22.19.0, and ");
}

#[test]
fn an_agent_that_does_not_speak_is_named() {
    let sandbox = Sandbox::new("an_agent_that_does_not_speak");
    script(
        &sandbox,
        "[ \"$1\" = --version ] && { echo 'kimi, version 1.51.0'; exit; }\necho 'broken installation' >&2; exit 3",
    );
    let outcome = doctor(&sandbox, "--offline").run();
    expect(outcome.code(1), "agent", "error", "broken installation");
    let agent = &outcome.json()["agents"][0];
    outcome.check(
        agent["starts"] == false && agent["version"] == "1.51.0",
        "the agent",
    );
    script(&sandbox, "echo 'kimi, version 1.52.0'");
    let outcome = doctor(&sandbox, "--offline").run();
    expect(outcome.code(1), "agent", "error", "is a stub");
    install(&sandbox, "wire_plain");
    let outcome = doctor(&sandbox, "--offline").run();
    expect(outcome.code(0), "agent", "ok", "reads files without asking");
}

fn an_agent_is_found_and_started(stage: &Stage) {
    let sandbox = stage.sandbox("doctor");
    let run = stage.omk(&sandbox, &nobody(), "doctor --offline --json");
    let outcome = finish(run, &sandbox);
    let document = outcome.code(0).json();
    let agent = &document["agents"][0];
    let (name, reads) = match stage.kind {
        Cli => ("kimi-cli", "reads files without asking"),
        Agent => ("kimi-agent", "reads files without asking"),
        Code => ("Kimi Code", "reads through omk"),
    };
    outcome.check(agent["agent"] == name, "the name");
    outcome.check(agent["protocol"] == stage.kind.transport(), "the protocol");
    outcome.check(
        agent["starts"] == true && agent["start_ms"].is_u64(),
        "it starts",
    );
    outcome.check(
        agent["reads"].as_str().unwrap().starts_with(reads),
        "how it reads",
    );
    if stage.kind == Code {
        // An older Node before the right one.
        let directory = sandbox.path("old");
        std::fs::create_dir_all(&directory).unwrap();
        beside(
            &directory,
            "node",
            "[ \"$1\" = --version ] && echo v20.20.2 || exit 1",
        );
        let path = format!("{}:/usr/bin:/bin", directory.display());
        let run = stage.omk(&sandbox, &nobody(), "doctor --offline --json");
        let outcome = run.env("PATH", path).run();
        expect(
            outcome.code(1),
            "agent",
            "error",
            "it needs Node >=22.19.0, and ",
        );
    }
}
