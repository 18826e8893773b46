//! `omk plan GOAL` against the real agents, with a service of our own as their model.
//!
//! Each case is run with kimi-cli, with Kimi Code and with kimi-agent, each time in a home of its own. It holds the exit code, the document,
//! the number of calls of the model and the bill, that no process is left behind, and that the work directory is afterwards
//! what it was before: planning changes nothing. Where the agents are looked for is said in [`crate::agents`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::agents::{Agent, Cli, Code, MODEL, Stage, case, cases, finish};
use crate::plan_ask::{FINDING, GOOD, circle, vague};
use crate::result::{billed, ledger, unbilled, unknown};
use crate::sandbox::{Outcome, Sandbox};
use crate::service::{Act, Answer, Call, Service};

cases! {
    plan_good plan_repaired plan_refused plan_budget plan_beyond_the_budget plan_deadline plan_vague plan_separately
    plan_tool_is_denied plan_tool_is_denied_whatever_the_config_allows plan_writing_is_denied plan_recorded_and_replayed
}

/// What became of one run.
struct Seen {
    outcome: Outcome,
    service: Service,
    sandbox: Sandbox,
}

/// Every file below a directory, with what is in it.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.clone(), Vec::new());
            found.extend(tree(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Plans in a sandbox of its own, which a project lies in; afterwards the project is what it was.
#[track_caller]
fn plan_in(
    stage: &Stage,
    sandbox: Sandbox,
    flags: &str,
    behaviour: impl Fn(&Call) -> Act + Send + Sync + 'static,
) -> Seen {
    sandbox
        .file("src/main.rs", "fn main() {}\n")
        .file("Cargo.toml", "");
    let before = tree(&sandbox.path("work"));
    let service = Service::new(behaviour);
    let run = stage.omk(&sandbox, &service.url(), &format!("plan {flags} Add login"));
    let outcome = finish(run, &sandbox);
    assert_eq!(tree(&sandbox.path("work")), before, "the work directory");
    Seen {
        outcome,
        service,
        sandbox,
    }
}

#[track_caller]
fn plan(
    stage: &Stage,
    flags: &str,
    behaviour: impl Fn(&Call) -> Act + Send + Sync + 'static,
) -> Seen {
    let suffix = if flags.contains("--json") {
        "json"
    } else {
        "text"
    };
    plan_in(stage, stage.sandbox(suffix), flags, behaviour)
}

/// These answers in turn, the last one for ever.
fn in_turn(texts: &[&str]) -> impl Fn(&Call) -> Act + Clone + use<> {
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    move |call| {
        let at = call.number.min(texts.len()) - 1;
        Answer::text([texts[at].clone()]).into()
    }
}

/// A plan came of it, after so many calls.
#[track_caller]
fn good(stage: &Stage, seen: &Seen, calls: usize) -> Value {
    let outcome = &seen.outcome;
    let document = outcome.code(0).json();
    for (field, value) in [
        ("/schema", json!("omk.plan/1")),
        ("/ok", json!(true)),
        ("/goal_text", json!("Add login")),
        ("/waves", json!([["store", "page"], ["route"]])),
        ("/critical_path", json!(["store", "route"])),
        ("/transport", json!(stage.kind.transport())),
        ("/model/requested", json!(MODEL)),
        ("/cost/charged", json!("yes")),
        ("/error", json!(null)),
    ] {
        let found = document.pointer(field);
        outcome.check(
            found == Some(&value),
            &format!("{field}: {found:?}, not {value}"),
        );
    }
    billed(outcome, &seen.service);
    assert_eq!(seen.service.calls().len(), calls, "calls of the model");
    let runs = ledger(&seen.sandbox.path("work"));
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (&runs[0]["session_type"], &runs[0]["usage"]),
        (&json!("plan"), &document["usage"])
    );
    document
}

fn plan_good(stage: &Stage) {
    let text = plan(stage, "", in_turn(&[GOOD]));
    text.outcome
        .code(0)
        .stderr("")
        .stdout_contains("Add login")
        .stdout_contains("`GET /login` answers 302");
    let json = plan(stage, "--json", in_turn(&[GOOD]));
    let document = good(stage, &json, 1);
    assert_eq!(document["templates"], json!(["plan/1"]));
    assert_eq!(document["warnings"], json!([]));
    assert_eq!(document["denials"], json!([]));
    // What a dry run shows is what the model is told.
    let dry = plan(stage, "--dry-run --json", in_turn(&[GOOD]));
    let shown = dry.outcome.code(0).json();
    assert_eq!(dry.service.calls().len(), 0);
    for part in ["system", "text"] {
        let escaped = shown[part].to_string();
        let call = &json.service.calls()[0];
        assert!(call.asks(escaped.trim_matches('"')), "{part}: {escaped}");
    }
    assert!(json.service.calls()[0].asks("primary language: Rust"));
}

fn plan_repaired(stage: &Stage) {
    let seen = plan(stage, "--json", in_turn(&[&circle(), GOOD]));
    let document = good(stage, &seen, 2);
    assert_eq!(document["templates"], json!(["plan/1", "repair/1"]));
    let calls = seen.service.calls();
    assert!(!calls[0].asks(FINDING) && calls[1].asks(FINDING));
}

fn plan_refused(stage: &Stage) {
    let seen = plan(stage, "--json", in_turn(&["I cannot.", &circle()]));
    let outcome = &seen.outcome;
    let document = outcome.code(4).json();
    outcome.check(document["raw"] == circle(), "the answer is kept");
    outcome.check(document["error"]["kind"] == "invalid answer", "the kind");
    let message = document["error"]["message"].to_string();
    outcome.check(message.contains(FINDING), "the finding is named");
    billed(outcome, &seen.service);
    assert_eq!(seen.service.calls().len(), 2);
    let text = plan(stage, "", in_turn(&["I cannot."]));
    text.outcome
        .code(4)
        .stdout("")
        .stderr_contains("I cannot.\n")
        .stderr_contains("OMK-P001");
}

fn plan_budget(stage: &Stage) {
    for flags in ["--max-usd 0.000001 --json", "--max-tokens 10 --json"] {
        let seen = plan(stage, flags, in_turn(&[GOOD]));
        let document = seen.outcome.code(5).json();
        let kind = "budget exhausted";
        seen.outcome
            .check(document["error"]["kind"] == kind, "the kind");
        unbilled(&seen.outcome, &seen.service);
        assert_eq!(seen.service.calls().len(), 0);
    }
}

/// The question fits, and what the call is charged does not: the repair is not asked for.
fn plan_beyond_the_budget(stage: &Stage) {
    let dry = plan(stage, "--dry-run --json", in_turn(&[GOOD]));
    let tokens = dry.outcome.code(0).json()["input_tokens"].as_u64().unwrap();
    assert_eq!(dry.service.calls().len(), 0);
    let flags = format!("--max-tokens {} --json", tokens + 1);
    let seen = plan(stage, &flags, in_turn(&[&circle(), GOOD]));
    let document = seen.outcome.code(5).json();
    let kind = "budget exhausted";
    seen.outcome
        .check(document["error"]["kind"] == kind, "the kind");
    seen.outcome
        .check(document["cost"]["charged"] == "yes", "charged");
    billed(&seen.outcome, &seen.service);
    assert_eq!(seen.service.calls().len(), 1);
}

fn plan_deadline(stage: &Stage) {
    // Long enough for an agent to start on a busy machine.
    let held = |_: &Call| Act::Hold(Answer::text([GOOD]));
    let seen = plan(stage, "--deadline 15s --json", held);
    let document = seen.outcome.code(124).json();
    seen.outcome
        .check(document["error"]["kind"] == "deadline", "the kind");
    unknown(&seen.outcome);
    seen.service.wait_for_leaving();
    assert_eq!(seen.service.calls().len(), 1);
}

fn plan_vague(stage: &Stage) {
    let seen = plan(stage, "--json", in_turn(&[&vague()]));
    let document = good(stage, &seen, 1);
    let warning = document["warnings"][0].to_string();
    assert!(warning.contains("the goal is vague"), "{warning}");
    let seen = plan(stage, "--strict --json", in_turn(&[&vague()]));
    let document = seen.outcome.code(4).json();
    seen.outcome
        .check(document["error"]["kind"] == "vague goal", "the kind");
    billed(&seen.outcome, &seen.service);
}

fn plan_separately(stage: &Stage) {
    let class =
        r#"{"kind": "repair", "confidence": 0.8, "reasoning": "Broken.", "is_testable": true}"#;
    let criteria = r#"{"criteria": ["`make test` passes"]}"#;
    let complexity = r#"{"score": 7, "reasoning": "Much.", "estimated_hours": 12}"#;
    let answers = in_turn(&[class, GOOD, criteria, complexity]);
    let seen = plan(stage, "--separately --json", answers);
    let document = good(stage, &seen, 4);
    assert_eq!(document["kind"], "repair");
    assert_eq!(document["complexity_score"], 7);
}

/// A tool is wanted first, and then the plan comes all the same.
fn after(tool: &'static str, arguments: Value) -> impl Fn(&Call) -> Act + Clone {
    move |call| match call.after_tool() {
        true => Answer::text([GOOD]).into(),
        false => Answer::tool(tool, arguments.clone()).into(),
    }
}

#[track_caller]
fn denied(stage: &Stage, seen: &Seen, tool: &str) {
    let document = good(stage, seen, 2);
    let outcome = &seen.outcome;
    let denials = document["denials"].as_array().unwrap();
    outcome.check(denials.len() == 1, "one denial");
    outcome.check(denials[0]["tool"] == tool, "the tool");
    let warnings = document["warnings"].to_string();
    outcome.check(
        warnings.contains("while it planned, which is denied"),
        "a warning",
    );
}

fn plan_tool_is_denied(stage: &Stage) {
    let shell = stage.kind.shell();
    let wants = after(shell, json!({"command": "touch made"}));
    let text = plan(stage, "", wants.clone());
    text.outcome
        .code(0)
        .stdout_contains("Add login")
        .stderr_contains(&format!(
            "omk: warning: the agent wanted {shell} while it planned"
        ))
        .stderr_contains("touch made");
    denied(stage, &plan(stage, "--json", wants), shell);
    // Nor can it be allowed.
    let seen = plan(stage, "--allow all", in_turn(&[GOOD]));
    seen.outcome.code(2);
    assert_eq!(seen.service.calls().len(), 0);
}

fn plan_tool_is_denied_whatever_the_config_allows(stage: &Stage) {
    let shell = stage.kind.shell();
    let sandbox = stage.sandbox("json");
    sandbox.config(r#"{"allow": ["all"]}"#);
    let wants = after(shell, json!({"command": "touch made"}));
    denied(stage, &plan_in(stage, sandbox, "--json", wants), shell);
}

fn plan_writing_is_denied(stage: &Stage) {
    let tool = match stage.kind {
        Cli | Agent => "WriteFile",
        Code => "Write",
    };
    let sandbox = stage.sandbox("json");
    // Where Kimi Code writes without asking.
    std::fs::create_dir(sandbox.path("work/.git")).unwrap();
    sandbox.file(".git/HEAD", "ref: refs/heads/main\n");
    let file = sandbox.path("work/made");
    let wants = after(tool, json!({"path": file, "content": "made"}));
    denied(stage, &plan_in(stage, sandbox, "--json", wants), tool);
}

fn plan_recorded_and_replayed(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let service = Service::new(in_turn(&[&circle(), GOOD]));
    let line = "plan --record plan.tape --json Add login";
    let first = finish(stage.omk(&sandbox, &service.url(), line), &sandbox);
    let first = first.code(0).json();
    let again = finish(
        sandbox.omk("plan --replay plan.tape --json Add login"),
        &sandbox,
    );
    let again = again.code(0).json();
    for member in ["slices", "waves", "templates"] {
        assert_eq!(again[member], first[member], "{member}");
    }
    assert_eq!(again["cost"]["charged"], "no");
    assert_eq!(service.calls().len(), 2);
}
