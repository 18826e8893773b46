//! `omk prompt` against the real agents, with a service of our own as their model.
//!
//! Each case is run with kimi-cli, with Kimi Code and with kimi-agent, as text and as JSON, each time in a home of its own. It
//! holds the exit code, standard output to the byte, the result's fields, the ledger's record, the number of calls of the
//! model, the bill, and that no process is left behind. The agents are looked for in `OMK_TEST_AGENTS`, else in
//! `target/agents` below the repository: a virtual environment `kimi-cli`, an npm prefix `kimi-code` and a
//! `kimi-agent/bin/kimi-agent`. An agent that is not there is skipped, and said so; with `OMK_REQUIRE_AGENTS` that is a
//! failure, but not of kimi-agent, which no registry has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::result::{self, KEY, at_least, billed, document, ledger, same_again, unbilled, unknown};
use crate::sandbox::{Outcome, Run, Sandbox};
use crate::server::nobody;
use crate::service::{Act, Answer, Call, End, Service, Told};

pub(crate) const MODEL: &str = "kimi-k2.6";

/// Processes have that long to be gone: kimi-cli takes 0.7 s, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cli,
    Code,
    Agent,
}

pub(crate) use Kind::{Agent, Cli, Code};

impl Kind {
    fn directory(self) -> &'static str {
        match self {
            Cli => "kimi-cli",
            Code => "kimi-code",
            Agent => "kimi-agent",
        }
    }

    /// What the agent calls its shell.
    pub(crate) fn shell(self) -> &'static str {
        match self {
            Cli | Agent => "Shell",
            Code => "Bash",
        }
    }

    pub(crate) fn transport(self) -> &'static str {
        match self {
            Cli | Agent => "wire",
            Code => "acp",
        }
    }
}

/// The place where agents are installed.
fn agents() -> PathBuf {
    let named = std::env::var_os("OMK_TEST_AGENTS").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents"))
}

/// The program of an agent, if it is installed.
fn program(kind: Kind) -> Option<PathBuf> {
    let directory = agents().join(kind.directory());
    let program = match kind {
        Cli => directory.join("bin/kimi"),
        Code => directory.join("node_modules/.bin/kimi"),
        Agent => directory.join("bin/kimi-agent"),
    };
    if program.is_file() {
        return Some(program);
    }
    static SAID: [Once; 3] = [const { Once::new() }; 3];
    let text = format!(
        "{} is not installed in {}",
        kind.directory(),
        agents().display()
    );
    let required = kind != Agent && std::env::var_os("OMK_REQUIRE_AGENTS").is_some();
    assert!(!required, "{text}, and OMK_REQUIRE_AGENTS is set");
    SAID[kind as usize].call_once(|| {
        // Past the harness, which keeps what a passing test prints to itself.
        let how = match kind {
            Cli | Code => "see .ci/run",
            Agent => "no registry has it",
        };
        let line = format!("skipped: {text}: none of its tests says anything; {how}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    });
    None
}

/// One case with one agent.
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    name: String,
    program: PathBuf,
}

/// What became of one run.
struct Seen {
    outcome: Outcome,
    service: Service,
    sandbox: Sandbox,
}

impl Stage {
    pub(crate) fn sandbox(&self, suffix: &str) -> Sandbox {
        Sandbox::new(&format!("{}_{}_{suffix}", self.kind.directory(), self.name))
    }

    /// A prompt in this sandbox.
    pub(crate) fn ask(&self, sandbox: &Sandbox, url: &str, flags: &str) -> Run {
        self.omk(sandbox, url, &format!("prompt {flags}"))
    }

    /// A run in this sandbox that asks the agent as it is.
    pub(crate) fn bare(&self, sandbox: &Sandbox, line: &str) -> Run {
        let run = sandbox.omk(line).arg("--kimi").arg(&self.program);
        match self.kind {
            Cli | Agent => run,
            Code => {
                let node = agents().join("kimi-code/node_modules/node/bin");
                let others = std::env::var_os("PATH").unwrap_or_default();
                let all = [node].into_iter().chain(std::env::split_paths(&others));
                run.env("PATH", std::env::join_paths(all).unwrap())
            }
        }
    }

    /// The agent's configuration.
    pub(crate) fn configure(&self, sandbox: &Sandbox, text: &str) {
        let home = sandbox.path(match self.kind {
            Cli | Agent => "home/.kimi",
            Code => "home/.kimi-code",
        });
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("config.toml"), text).unwrap();
    }

    /// A run in this sandbox that asks the agent, whose model is this service.
    pub(crate) fn omk(&self, sandbox: &Sandbox, url: &str, line: &str) -> Run {
        let run = self.bare(sandbox, line).env("KIMI_MODEL_NAME", MODEL);
        match self.kind {
            Cli | Agent => {
                self.configure(sandbox, &configuration("m", &[("m", MODEL)], url));
                run
            }
            Code => run
                .env("KIMI_MODEL_API_KEY", KEY)
                .env("KIMI_MODEL_BASE_URL", url),
        }
    }

    /// Asks a service that behaves so, in a sandbox of its own.
    #[track_caller]
    fn once(
        &self,
        flags: &[&str],
        behaviour: impl Fn(&Call) -> Act + Send + Sync + 'static,
    ) -> Seen {
        let suffix = if flags.contains(&"--json") {
            "json"
        } else {
            "text"
        };
        let sandbox = self.sandbox(suffix);
        let service = Service::new(behaviour);
        let run = self.ask(&sandbox, &service.url(), "");
        let run = flags.iter().fold(run, |run, flag| run.arg(*flag));
        let outcome = finish(run, &sandbox);
        Seen {
            outcome,
            service,
            sandbox,
        }
    }

    /// The same as text and as JSON.
    #[track_caller]
    fn both(
        &self,
        flags: &[&str],
        behaviour: impl Fn(&Call) -> Act + Send + Sync + Clone + 'static,
    ) -> [Seen; 2] {
        let text = self.once(flags, behaviour.clone());
        let json = self.once(&[&["--json"], flags].concat(), behaviour);
        [text, json]
    }
}

/// A configuration with these models, by name and id, at a service.
pub(crate) fn configuration(default: &str, models: &[(&str, &str)], url: &str) -> String {
    let mut text = format!("default_model = \"{default}\"\n");
    for (name, id) in models {
        text.push_str(&format!(
            "[models.\"{name}\"]\nprovider = \"p\"\nmodel = \"{id}\"\nmax_context_size = 262144\n\
             capabilities = [\"thinking\"]\n"
        ));
    }
    text.push_str(&format!(
        "[providers.p]\ntype = \"kimi\"\nbase_url = \"{url}\"\napi_key = \"{KEY}\"\n"
    ));
    text
}

/// Runs it to its end; afterwards no process of the sandbox is left, and the key is nowhere to be read.
#[track_caller]
pub(crate) fn finish(run: Run, sandbox: &Sandbox) -> Outcome {
    let outcome = result::run(run);
    let left = left_behind(sandbox);
    outcome.check(left.is_empty(), &format!("left behind: {left:?}"));
    outcome
}

/// The processes whose environment or directory is the sandbox's, after they had time to end.
pub(crate) fn left_behind(sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.path("");
    let started = Instant::now();
    loop {
        let left = processes(&root);
        if left.is_empty() || started.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn processes(root: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;

    let home = [b"HOME=", root.join("home").as_os_str().as_bytes(), b"\0"].concat();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = Vec::new();
    for entry in entries {
        let process = entry.path();
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        let is_ours = environment.windows(home.len()).any(|part| part == home)
            || std::fs::read_link(process.join("cwd")).is_ok_and(|at| at.starts_with(root));
        if is_ours {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("{}: {line}", process.display()));
        }
    }
    found
}

/// Elsewhere nobody tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn processes(_: &Path) -> Vec<String> {
    Vec::new()
}

macro_rules! cases {
    ($($name:ident)*) => {
        mod kimi_cli {
            $(#[test] fn $name() { super::case(super::Cli, stringify!($name), super::$name); })*
        }
        mod kimi_code {
            $(#[test] fn $name() { super::case(super::Code, stringify!($name), super::$name); })*
        }
        mod kimi_agent {
            $(#[test] fn $name() { super::case(super::Agent, stringify!($name), super::$name); })*
        }
    };
}
pub(crate) use cases;

pub(crate) fn case(kind: Kind, name: &str, case: fn(&Stage)) {
    if let Some(program) = program(kind) {
        case(&Stage {
            kind,
            name: name.to_string(),
            program,
        });
    }
}

cases! {
    plain_answer thinking tool_approved tool_approved_by_pattern tool_denied written_in_a_git_tree question sub_agent
    cancelled_by_the_deadline no_time_to_start budget_ends_a_turn status_400 status_401 status_402 status_404
    status_429_once status_429_for_ever status_429_with_retry_after status_500 html_502 refused cut_for_ever
    cut_once clean_early_end empty_answer empty_once overflow slow_first_byte five_mb_each_way usage_missing slash
    conversation schema omk_is_killed prompt_beyond_the_agents_window many_steps repeated_tool
    background_sub_agent interrupted_turn not_logged_in unknown_model broken_configuration another_name
}

fn text(text: &'static str) -> impl Fn(&Call) -> Act + Clone {
    move |_| Answer::text([text]).into()
}

/// The fields that every good answer has.
#[track_caller]
fn good(stage: &Stage, seen: &Seen, text: &str, calls: usize) -> Value {
    let outcome = &seen.outcome;
    let result = outcome.code(0).json();
    outcome.check(result["ok"] == true && result["exit"] == 0, "ok");
    outcome.check(result["text"] == text, &format!("text: {text}"));
    outcome.check(
        result["transport"] == stage.kind.transport(),
        "the transport",
    );
    outcome.check(result["session_id"].is_string(), "the session");
    outcome.check(result["cost"]["charged"] == "yes", "charged");
    outcome.check(result["error"].is_null(), "no error");
    outcome.check(result["denials"] == json!([]), "no denials");
    assert_eq!(seen.service.calls().len(), calls, "calls of the model");
    result
}

/// The fields that every failure has.
#[track_caller]
fn bad(seen: &Seen, exit: i32, kind: &str, status: Option<u16>) -> Value {
    let outcome = &seen.outcome;
    let result = outcome.code(exit).json();
    outcome.check(result["ok"] == false, "not ok");
    outcome.check(result["text"].is_null(), "no text");
    outcome.check(result["complete"] == false, "not complete");
    outcome.check(result["error"]["kind"] == kind, &format!("kind: {kind}"));
    outcome.check(
        result["error"]["http_status"] == json!(status),
        &format!("status: {status:?}"),
    );
    outcome.check(
        result["error"]["retryable"] == json!(exit == 75),
        "retryable",
    );
    result
}

/// A failure of the service: as text nothing is printed, and the message names the agent and its protocol.
#[track_caller]
fn fails(
    stage: &Stage,
    flags: &[&str],
    act: Act,
    exit: i32,
    kind: &str,
    status: Option<u16>,
    calls: usize,
) -> Value {
    let [plain, json] = stage.both(&[flags, &["Why?"]].concat(), move |_| act.clone());
    plain.outcome.code(exit).stdout("");
    let who = match stage.kind {
        Cli => "kimi-cli 1.51.0 over wire",
        Agent => "kimi-agent 1.",
        Code => "Kimi Code 2.",
    };
    plain
        .outcome
        .stderr_contains(&format!("omk: {kind}: {who}"));
    for seen in [&plain, &json] {
        assert_eq!(seen.service.calls().len(), calls, "calls of the model");
    }
    let result = bad(&json, exit, kind, status);
    match result["cost"]["charged"].as_str() {
        Some("no") => unbilled(&json.outcome, &json.service),
        _ => unknown(&json.outcome),
    }
    result
}

fn plain_answer(stage: &Stage) {
    // To the byte: with what is at its edges.
    let text = "\n  The answer.\n\n";
    let behaviour = |_: &Call| Answer::text(["\n  The ans", "wer.\n\n"]).into();
    let [plain, json] = stage.both(&["Why?"], behaviour);
    plain.outcome.code(0).stdout(text).stderr("");
    assert_eq!(plain.service.calls().len(), 1);
    let result = good(stage, &json, text, 1);
    billed(&json.outcome, &json.service);
    let (source, reported, finish) = match stage.kind {
        Cli | Agent => ("provider", Value::Null, Value::Null),
        Code => ("session-log", json!(MODEL), json!("stop")),
    };
    let outcome = &json.outcome;
    outcome.check(result["usage"]["source"] == source, "the source");
    outcome.check(result["model"]["requested"] == MODEL, "requested");
    outcome.check(result["model"]["reported"] == reported, "reported");
    outcome.check(result["finish_reason"] == finish, "the reason");
    outcome.check(result["warnings"] == json!([]), "no warnings");
    outcome.check(result["retries"] == json!([]), "no retries");
    outcome.check(result["timing"]["spawn_ms"].is_u64(), "the time to start");
    assert!(json.service.calls()[0].asks("Why?"));
}

fn thinking(stage: &Stage) {
    let behaviour = |_: &Call| {
        Answer::text(["Four."])
            .thinking(&["two and ", "two"])
            .into()
    };
    let [plain, json] = stage.both(&["2+2?"], behaviour);
    plain.outcome.code(0).stdout("Four.\n").stderr("");
    good(stage, &json, "Four.", 1);
    billed(&json.outcome, &json.service);
    let shown = stage.once(&["--show-thinking", "2+2?"], behaviour);
    shown
        .outcome
        .code(0)
        .stdout("Four.\n")
        .stderr("two and two\n");
}

/// A command first, then an answer.
pub(crate) fn commands(kind: Kind, command: &'static str) -> impl Fn(&Call) -> Act + Clone {
    move |call| match call.after_tool() {
        true => Answer::text(["done"]).into(),
        false => Answer::tool(kind.shell(), json!({"command": command}))
            .saying("Let me see.")
            .into(),
    }
}

fn tool_approved(stage: &Stage) {
    let command = "echo made > made";
    let [plain, json] = stage.both(&["--allow", "Shell", "Go."], commands(stage.kind, command));
    // What the agent says on the way is no part of the answer.
    plain
        .outcome
        .code(0)
        .stdout("done\n")
        .stderr("Let me see.\n");
    good(stage, &json, "done", 2);
    billed(&json.outcome, &json.service);
    for seen in [&plain, &json] {
        let made = std::fs::read_to_string(seen.sandbox.path("work/made"));
        assert_eq!(made.unwrap(), "made\n");
    }
}

fn tool_approved_by_pattern(stage: &Stage) {
    let flags = ["--allow", "Shell(touch *)", "Go."];
    let [plain, json] = stage.both(&flags, commands(stage.kind, "touch made"));
    plain.outcome.code(0).stdout("done\n");
    good(stage, &json, "done", 2);
    billed(&json.outcome, &json.service);
    assert!(json.sandbox.path("work/made").exists());
    let denied = stage.once(&flags, commands(stage.kind, "touch made; touch more"));
    denied.outcome.code(6);
    assert!(!denied.sandbox.path("work/made").exists());
}

fn tool_denied(stage: &Stage) {
    let [plain, json] = stage.both(&["Go."], commands(stage.kind, "touch made"));
    plain.outcome.code(6).stdout("done\n");
    plain
        .outcome
        .stderr_contains(&format!("hint: --allow '{}(", stage.kind.shell()));
    let outcome = &json.outcome;
    let result = outcome.code(6).json();
    outcome.check(result["ok"] == false && result["exit"] == 6, "the code");
    outcome.check(result["text"] == "done", "the text");
    let denial = &result["denials"][0];
    outcome.check(denial["tool"] == stage.kind.shell(), "the tool");
    outcome.check(
        denial["detail"].to_string().contains("touch made"),
        "the command",
    );
    billed(outcome, &json.service);
    for seen in [&plain, &json] {
        assert_eq!(seen.service.calls().len(), 2);
        assert!(!seen.sandbox.path("work/made").exists());
    }
}

/// Within a git work tree Kimi Code asks nobody before it writes, appends to or edits a file there. It hands the file over,
/// and it is not written unless that is allowed.
fn written_in_a_git_tree(stage: &Stage) {
    let (write, edit) = match stage.kind {
        Cli | Agent => ("WriteFile", "StrReplaceFile"),
        Code => ("Write", "Edit"),
    };
    let change = |old: &str, new: &str| match stage.kind {
        Cli | Agent => json!({"edit": {"old": old, "new": new}}),
        Code => json!({"old_string": old, "new_string": new}),
    };
    let new = json!({"content": "new\n"});
    let more = json!({"content": "more\n", "mode": "append"});
    let other = change("here", "there");
    let elsewhere = "Write(another),Edit(another)";
    for (tool, rules, wants, before, after) in [
        (write, ["", "Write"], &new, None, "new\n"),
        (
            write,
            [elsewhere, "Write(made)"],
            &new,
            Some("old\n"),
            "new\n",
        ),
        (write, ["", "Write"], &more, Some("some\n"), "some\nmore\n"),
        (write, ["", "Write"], &more, None, "more\n"),
        (edit, ["", "Edit"], &other, Some("here\n"), "there\n"),
    ] {
        for allow in rules {
            let sandbox = stage.sandbox("json");
            std::fs::create_dir(sandbox.path("work/.git")).unwrap();
            sandbox.file(".git/HEAD", "ref: refs/heads/main\n");
            let file = sandbox.path("work/made");
            if let Some(before) = before {
                sandbox.file("made", before);
            }
            let named = json!({"path": file});
            let mut arguments = wants.clone();
            arguments["path"] = json!(file);
            let service = Service::new(move |call: &Call| match call.tools() {
                // It must have read what it changes.
                0 => Act::from(Answer::tool(
                    if tool.ends_with("File") {
                        "ReadFile"
                    } else {
                        "Read"
                    },
                    named.clone(),
                )),
                1 => Answer::tool(tool, arguments.clone()).into(),
                _ => Answer::text(["done"]).into(),
            });
            let run = stage.omk(&sandbox, &service.url(), "prompt --json --no-stdin Go.");
            let run = match allow {
                "" => run,
                allow => run.arg("--allow").arg(allow),
            };
            let outcome = finish(run, &sandbox);
            let is_allowed = !allow.is_empty() && allow != elsewhere;
            let result = outcome.code(if is_allowed { 0 } else { 6 }).json();
            let now = std::fs::read_to_string(sandbox.path("work/made")).ok();
            let then = if is_allowed { Some(after) } else { before };
            outcome.check(now.as_deref() == then, &format!("the file: {now:?}"));
            outcome.check(result["warnings"] == json!([]), "no warning");
            outcome.check(service.calls().len() == 3, "three calls");
        }
    }
}

fn question(stage: &Stage) {
    let options = json!([{"label": "A", "description": "a"}, {"label": "B", "description": "b"}]);
    let questions =
        json!({"questions": [{"question": "Which one?", "header": "Pick", "options": options}]});
    let behaviour = move |call: &Call| match call.after_tool() {
        true => Answer::text(["done"]).into(),
        false => Answer::tool("AskUserQuestion", questions.clone()).into(),
    };
    let [plain, json] = stage.both(&["--allow", "all", "Go."], behaviour);
    // kimi-cli is told that nobody is there, so its model has no such tool; Kimi Code asks, and is told then.
    let (exit, denials) = match stage.kind {
        Cli | Agent => (0, 0),
        Code => (6, 1),
    };
    plain.outcome.code(exit).stdout("done\n");
    let result = json.outcome.code(exit).json();
    json.outcome.check(result["text"] == "done", "the text");
    let denied = result["denials"].as_array().unwrap();
    json.outcome.check(denied.len() == denials, "denials");
    if let Some(denial) = denied.first() {
        json.outcome.check(denial["kind"] == "question", "the kind");
        json.outcome.check(
            denial["detail"].to_string().contains("Which one?"),
            "the question",
        );
    }
    billed(&json.outcome, &json.service);
    let calls = json.service.calls();
    assert_eq!(calls.len(), 2);
    // Nobody chose an answer for the user.
    let answer = calls[1].last()["content"].to_string();
    assert!(!answer.contains("\\\"A\\\""), "{answer}");
}

fn sub_agent(stage: &Stage) {
    let (kind, shell) = (stage.kind, stage.kind.shell());
    let behaviour = move |call: &Call| -> Act {
        let is_sub = call.asks("SUBTASK");
        match (is_sub, call.after_tool()) {
            (false, false) => {
                let (tool, which) = match kind {
                    Cli | Code => ("Agent", "subagent_type"),
                    Agent => ("Task", "subagent_name"),
                };
                let task =
                    json!({"description": "do sub", "prompt": "SUBTASK please", which: "coder"});
                Answer::tool(tool, task).into()
            }
            (true, false) => Answer::tool(shell, json!({"command": "echo sub"}))
                .saying("sub working")
                .into(),
            (true, true) => Answer::text(["sub finished with a long enough summary "; 12]).into(),
            (false, true) => Answer::text(["main done"]).into(),
        }
    };
    let [plain, json] = stage.both(&["--allow", "all", "Go."], behaviour);
    plain.outcome.code(0).stdout("main done\n");
    good(stage, &json, "main done", 4);
    billed(&json.outcome, &json.service);
}

fn held(answer: &'static str) -> impl Fn(&Call) -> Act + Clone {
    move |_| Act::Hold(Answer::text([answer]))
}

fn cancelled_by_the_deadline(stage: &Stage) {
    // Long enough for an agent to start on a busy machine.
    let [plain, json] = stage.both(&["--deadline", "15s", "Why?"], held("late"));
    plain
        .outcome
        .code(124)
        .stdout("")
        .stderr_contains("15s ran out while waiting for the agent");
    let result = bad(&json, 124, "deadline", None);
    json.outcome
        .check(result["cost"]["charged"] == "unknown", "charged");
    unknown(&json.outcome);
    for seen in [&plain, &json] {
        seen.service.wait_for_leaving();
        assert_eq!(seen.service.calls().len(), 1);
    }
}

fn no_time_to_start(stage: &Stage) {
    // It runs out while the agent is asked for its version, or while it starts: kimi-agent does both in 10 ms.
    let deadline = match stage.kind {
        Cli | Code => "250ms",
        Agent => "1ms",
    };
    let [plain, json] = stage.both(&["--deadline", deadline, "Why?"], text("never"));
    plain.outcome.code(124).stdout("");
    let result = json.outcome.code(124).json();
    json.outcome
        .check(result["error"]["kind"] == "deadline", "the kind");
    for seen in [plain, json] {
        assert_eq!(seen.service.calls().len(), 0);
    }
}

fn budget_ends_a_turn(stage: &Stage) {
    // One call is charged more than that, and the tool that follows would take for ever.
    let flags = ["--max-tokens", "900", "--allow", "all", "Go."];
    let [plain, json] = stage.both(&flags, commands(stage.kind, "sleep 600"));
    plain
        .outcome
        .code(5)
        .stdout("")
        .stderr_contains("omk: budget exhausted: ");
    let result = bad(&json, 5, "budget exhausted", None);
    json.outcome
        .check(result["cost"]["charged"] == "yes", "charged");
    billed(&json.outcome, &json.service);
    assert_eq!(json.service.calls().len(), 1);
}

fn status_400(stage: &Stage) {
    let act = Act::error("400 Bad Request", "invalid_request_error", "bad thing");
    let result = fails(stage, &[], act, 1, "invalid prompt", Some(400), 1);
    assert_eq!(result["cost"]["charged"], "no");
}

fn status_401(stage: &Stage) {
    let act = Act::error("401 Unauthorized", "invalid_authentication_error", "no");
    let result = fails(stage, &[], act, 77, "authentication", Some(401), 1);
    assert_eq!(result["cost"]["charged"], "no");
}

fn status_402(stage: &Stage) {
    let act = Act::error("402 Payment Required", "", "membership not verified");
    let result = fails(stage, &[], act, 77, "quota exhausted", Some(402), 1);
    assert_eq!(result["cost"]["charged"], "no");
}

fn status_404(stage: &Stage) {
    let act = Act::error("404 Not Found", "resource_not_found_error", "no such model");
    let result = fails(stage, &[], act, 1, "model not found", Some(404), 1);
    assert_eq!(result["cost"]["charged"], "no");
}

fn overloaded() -> Act {
    Act::error("429 Too Many Requests", "engine_overloaded_error", "busy")
}

fn status_429_once(stage: &Stage) {
    let behaviour = |call: &Call| match call.number {
        1 => overloaded(),
        _ => Answer::text(["recovered"]).into(),
    };
    let [plain, json] = stage.both(&["Why?"], behaviour);
    plain.outcome.code(0).stdout("recovered\n");
    let result = good(stage, &json, "recovered", 2);
    billed(&json.outcome, &json.service);
    // kimi-cli's library tries again without a word.
    let retries = result["retries"].as_array().unwrap();
    match stage.kind {
        Cli | Agent => assert_eq!(retries.len(), 0),
        Code => assert_eq!(
            (retries.len(), &retries[0]["http_status"]),
            (1, &json!(429))
        ),
    }
}

/// The attempts of an agent with one retry: kimi-cli's library makes three of each.
fn attempts(kind: Kind) -> usize {
    match kind {
        Cli => 6,
        Code | Agent => 2,
    }
}

fn status_429_for_ever(stage: &Stage) {
    let calls = attempts(stage.kind);
    let flags = ["--retries", "1"];
    let result = fails(
        stage,
        &flags,
        overloaded(),
        75,
        "rate limited",
        Some(429),
        calls,
    );
    assert_eq!(result["cost"]["charged"], "no");
    // kimi-agent tries again without a word.
    let told = usize::from(stage.kind != Agent);
    assert_eq!(result["retries"].as_array().unwrap().len(), told);
}

fn status_429_with_retry_after(stage: &Stage) {
    let behaviour = |call: &Call| match call.number {
        1 => overloaded().header("retry-after: 1"),
        _ => Answer::text(["recovered"]).into(),
    };
    let [plain, json] = stage.both(&["Why?"], behaviour);
    plain.outcome.code(0).stdout("recovered\n");
    good(stage, &json, "recovered", 2);
    billed(&json.outcome, &json.service);
}

fn status_500(stage: &Stage) {
    let act = Act::error("500 Internal Server Error", "server_error", "oops");
    let calls = attempts(stage.kind);
    let flags = ["--retries", "1"];
    let result = fails(stage, &flags, act, 75, "server error", Some(500), calls);
    // A service that says so itself bills nothing.
    assert_eq!(result["cost"]["charged"], "no");
}

fn html_502(stage: &Stage) {
    let page = "<html><h1>502 Bad Gateway</h1></html>".to_string();
    let act = Act::Refuse(
        "502 Bad Gateway",
        vec!["content-type: text/html".to_string()],
        page,
    );
    let calls = attempts(stage.kind);
    let flags = ["--retries", "1"];
    fails(stage, &flags, act, 75, "server error", Some(502), calls);
}

fn refused(stage: &Stage) {
    for (suffix, flags) in [
        ("text", "--retries 0 Why?"),
        ("json", "--retries 0 --json Why?"),
    ] {
        let sandbox = stage.sandbox(suffix);
        let url = nobody();
        let outcome = finish(stage.ask(&sandbox, &format!("{url}v1"), flags), &sandbox);
        outcome.code(75);
        if suffix == "text" {
            outcome.stdout("").stderr_contains("omk: network: ");
        } else {
            let result = outcome.json();
            outcome.check(result["error"]["kind"] == "network", "the kind");
            outcome.check(result["error"]["retryable"] == true, "retryable");
            unknown(&outcome);
        }
    }
}

fn cut_for_ever(stage: &Stage) {
    let calls = match stage.kind {
        // One unannounced second try.
        Cli => 2,
        Code => 2,
        // Not tried again.
        Agent => 1,
    };
    let act = Answer::text(["part ", "one"]).end(End::Cut).into();
    let result = fails(stage, &["--retries", "1"], act, 75, "network", None, calls);
    assert_ne!(result["cost"]["charged"], "no");
}

fn cut_once(stage: &Stage) {
    let behaviour = |call: &Call| match call.number {
        1 => Answer::text(["part ", "one"]).end(End::Cut).into(),
        _ => Answer::text(["part ", "one and two"]).into(),
    };
    let [plain, json] = stage.both(&["Why?"], behaviour);
    if stage.kind == Agent {
        // It makes no second try once an answer has begun, and omk none after an agent.
        plain.outcome.code(75).stdout("");
        bad(&json, 75, "network", None);
        assert_eq!(json.service.calls().len(), 1);
        return;
    }
    plain.outcome.code(0).stdout("part one and two\n");
    good(stage, &json, "part one and two", 2);
    // The first try is on the bill, and nothing reports for how much.
    at_least(&json.outcome, &json.service);
    let streamed = stage.once(&["--stream-json", "Why?"], behaviour);
    let events = streamed.outcome.stdout_text().lines();
    let mut shown = String::new();
    for event in events.map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        match event["event"].as_str() {
            Some("text") => shown.push_str(event["text"].as_str().unwrap()),
            Some("superseded") => shown.clear(),
            _ => {}
        }
    }
    assert_eq!(shown, "part one and two", "what a reader of the events has");
    assert_eq!(document(&streamed.outcome)["text"], "part one and two");
    // A replay has neither the agent nor its files, and comes to the same.
    let sandbox = stage.sandbox("record");
    let service = Service::new(behaviour);
    let line = "prompt --record cut.tape --stream-json Why?";
    let first = finish(stage.omk(&sandbox, &service.url(), line), &sandbox);
    std::fs::remove_dir_all(sandbox.path("home")).unwrap();
    let again = |flags: &str| sandbox.omk(&format!("prompt --replay cut.tape {flags} Why?"));
    let replayed = again("--stream-json").run();
    assert_eq!(same_again(replayed.code(0)), same_again(first.code(0)));
    again("").run().code(0).stdout("part one and two\n");
    assert_eq!(service.calls().len(), 2);
}

fn clean_early_end(stage: &Stage) {
    // Neither agent takes that for an error; that the whole answer is there is not claimed.
    let behaviour = |_: &Call| Answer::text(["half an ans"]).end(End::Early).into();
    let [plain, json] = stage.both(&["Why?"], behaviour);
    plain.outcome.code(0).stdout("half an ans\n");
    let result = good(stage, &json, "half an ans", 1);
    json.outcome
        .check(result["complete"].is_null(), "complete: null");
    json.outcome.check(
        result["warnings"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "a warning",
    );
    unknown(&json.outcome);
}

fn empty_answer(stage: &Stage) {
    let behaviour = |_: &Call| Answer::text([""; 0]).into();
    let [plain, json] = stage.both(&["--retries", "1", "Why?"], behaviour);
    plain
        .outcome
        .code(1)
        .stdout("")
        .stderr_contains("omk: empty answer: ");
    let result = bad(&json, 1, "empty answer", None);
    json.outcome
        .check(result["cost"]["charged"] == "yes", "charged");
    unknown(&json.outcome);
    assert_eq!(json.service.calls().len(), 2);
}

fn empty_once(stage: &Stage) {
    let behaviour = |call: &Call| match call.number {
        1 => Answer::text([""; 0]),
        _ => Answer::text(["fine"]),
    };
    let json = stage.once(&["--json", "Why?"], move |call| behaviour(call).into());
    let result = good(stage, &json, "fine", 2);
    match stage.kind {
        // The empty answer is on the bill, and nothing reports for how much.
        Cli | Code => at_least(&json.outcome, &json.service),
        // Nor does kimi-agent say that there was one, so nothing but the second can be known.
        Agent => {
            assert_eq!(result["usage"]["output"], 27);
            assert_eq!(result["retries"], json!([]));
        }
    }
}

fn overflow(stage: &Stage) {
    let message = "Invalid request: Your request exceeded model token limit: 262144";
    let act = Act::error("400 Bad Request", "invalid_request_error", message);
    // Kimi Code tries to compact what there is.
    let calls = match stage.kind {
        Cli | Agent => 1,
        Code => 3,
    };
    let kind = "context length exceeded";
    let [plain, json] = stage.both(&["Why?"], move |_| act.clone());
    plain.outcome.code(5).stdout("");
    plain.outcome.stderr_contains(&format!("omk: {kind}: "));
    let result = json.outcome.code(5).json();
    json.outcome
        .check(result["error"]["kind"] == kind, "the kind");
    json.outcome.check(result["text"].is_null(), "no text");
    assert_eq!(json.service.calls().len(), calls);
}

fn slow_first_byte(stage: &Stage) {
    let sandbox = stage.sandbox("text");
    let service = Service::new(held("late"));
    let waiting = stage.ask(&sandbox, &service.url(), "Why?").spawn();
    service.wait_for_calls(1);
    service.release();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"late\n"[..]),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(service.calls().len(), 1);
    assert_eq!(left_behind(&sandbox), [""; 0]);
}

fn five_mb_each_way(stage: &Stage) {
    let answer = "0123456789abcde\n".repeat(5_000_000 / 16);
    let pieces: Vec<String> = answer
        .as_bytes()
        .chunks(250_000)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect();
    let service = Service::new(move |_| Answer::text(pieces.clone()));
    // Few tokens for its length, and a window to match.
    let prompt = "internationalisation ".repeat(5_000_000 / 21);
    let ask = |flags: &str, suffix: &str| {
        let sandbox = stage.sandbox(suffix);
        let run = stage
            .ask(&sandbox, &service.url(), flags)
            .env("KIMI_MODEL_NAME", "kimi-k3")
            .env("KIMI_MODEL_MAX_CONTEXT_SIZE", "8000000");
        finish(run.stdin(prompt.clone()), &sandbox)
    };
    let outcome = ask("", "text");
    outcome.code(0);
    assert!(outcome.stdout_text() == answer, "the answer");
    let outcome = ask("--json", "json");
    assert!(outcome.code(0).json()["text"] == *answer, "the answer");
    let calls = service.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[0].asks(&prompt), "the prompt");
}

fn usage_missing(stage: &Stage) {
    let behaviour = |_: &Call| Answer::text(["fine"]).told(Told::Nowhere).into();
    let [plain, json] = stage.both(&["Why?"], behaviour);
    plain
        .outcome
        .code(0)
        .stdout("fine\n")
        .stderr_contains("the usage was not reported, so the cost is not known: at most $");
    good(stage, &json, "fine", 1);
    unknown(&json.outcome);
}

fn slash(stage: &Stage) {
    let question = "/tmp is full, why?";
    let [plain, json] = stage.both(&[question], text("Too many files."));
    plain.outcome.code(0).stdout("Too many files.\n");
    good(stage, &json, "Too many files.", 1);
    billed(&json.outcome, &json.service);
    assert!(json.service.calls()[0].asks(question));
}

fn conversation(stage: &Stage) {
    let sandbox = stage.sandbox("text");
    let service = Service::new(|call| match call.number {
        1 => Answer::text(["I will remember."]),
        _ => Answer::text(["It was blue."]),
    });
    let ask = |words: &str| {
        let flags = format!("--session nightly --json {words}");
        finish(stage.ask(&sandbox, &service.url(), &flags), &sandbox)
    };
    let first = ask("Remember blue.");
    let second = ask("Which colour?");
    let (first, second) = (first.code(0).json(), second.code(0).json());
    assert_eq!(second["text"], "It was blue.");
    assert_eq!(first["session_id"], second["session_id"]);
    // Only the second call is the second run's.
    let output = |result: &Value| result["usage"]["output"].as_u64();
    assert_eq!(
        output(&first).unwrap() + output(&second).unwrap(),
        service.bill().output
    );
    let calls = service.calls();
    assert_eq!(calls.len(), 2);
    let messages = calls[1].body["messages"].to_string();
    assert!(calls[1].asks("Remember blue.") && messages.contains("I will remember."));
}

fn schema(stage: &Stage) {
    let sandbox = stage.sandbox("text");
    sandbox.file("schema.json", r#"{"type": "object", "required": ["n"]}"#);
    let service = Service::new(|call| match call.number {
        1 => Answer::text(["It is four."]),
        _ => Answer::text(["{\"n\": 4}"]),
    });
    let run = stage.ask(&sandbox, &service.url(), "--schema schema.json --json 2+2?");
    let outcome = finish(run, &sandbox);
    let result = outcome.code(0).json();
    outcome.check(result["value"] == json!({"n": 4}), "the value");
    billed(&outcome, &service);
    assert_eq!(service.calls().len(), 2);
}

fn omk_is_killed(stage: &Stage) {
    let sandbox = stage.sandbox("text");
    let service = Service::new(held("late"));
    let mut waiting = stage.ask(&sandbox, &service.url(), "Why?").spawn();
    service.wait_for_calls(1);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert_eq!(left_behind(&sandbox), [""; 0]);
    service.wait_for_leaving();
    // Nobody could write how it ended, and so the ledger does not say that it was free.
    let runs = ledger(&sandbox.path("work"));
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (&runs[0]["status"], &runs[0]["charged"]),
        (&json!("open"), &json!("unknown"))
    );
}

fn prompt_beyond_the_agents_window(stage: &Stage) {
    // It fits the model's window, and not the one that the agent was configured with. kimi-cli drops such a prompt and
    // Kimi Code its middle; both ask with what is left and are content with the answer. kimi-agent does not count before it
    // asks, so its prompt is whole and the service decides.
    let sandbox = stage.sandbox("json");
    let service = Service::new(|_| Answer::text(["I see no question."]));
    let prompt = "internationalisation ".repeat(40_000);
    let run = stage
        .ask(&sandbox, &service.url(), "--record window.tape --json")
        .env("KIMI_MODEL_MAX_CONTEXT_SIZE", "60000")
        .stdin(prompt.clone());
    let outcome = finish(run, &sandbox);
    let kind = "context length exceeded";
    if stage.kind == Agent {
        let result = outcome.code(0).json();
        outcome.check(result["text"] == "I see no question.", "the text");
        let calls = service.calls();
        assert_eq!(calls.len(), 1);
        assert!(calls[0].asks(&prompt), "the prompt");
    } else {
        let result = outcome.code(5).json();
        outcome.check(result["error"]["kind"] == kind, "the kind");
        outcome.check(result["text"].is_null(), "no text");
        outcome.check(result["cost"]["charged"] != "no", "it may have asked");
    }
    // That the prompt was dropped is on the tape, without the file that showed it.
    std::fs::remove_dir_all(sandbox.path("home/.kimi/sessions")).unwrap_or_default();
    let replayed = sandbox.omk("prompt --replay window.tape --json");
    let replayed = replayed.stdin(prompt).run();
    let (first, again) = (outcome.json(), replayed.json());
    for field in ["/exit", "/text", "/usage", "/error/kind"] {
        let (first, again) = (first.pointer(field), again.pointer(field));
        replayed.check(
            again == first,
            &format!("{field}: {again:?}, not {first:?}"),
        );
    }
    // A prompt that is too long for the model is not even given to the agent.
    let calls = service.calls().len();
    let run = stage.ask(&sandbox, &service.url(), "--json");
    let outcome = finish(run.stdin("a b c d ".repeat(80_000)), &sandbox);
    let result = outcome.code(5).json();
    outcome.check(result["error"]["kind"] == kind, "the kind");
    outcome.check(result["cost"]["charged"] == "no", "nothing was sent");
    assert_eq!(service.calls().len(), calls);
}

/// Each step with or without words, of one tool or of ten at a time. Of more than about 97 messages Kimi Code writes some to
/// its log after the end of the turn.
fn many_steps(stage: &Stage) {
    let (read, shell) = match stage.kind {
        Cli | Agent => ("ReadFile", "Shell"),
        Code => ("Read", "Bash"),
    };
    for (steps, parallel, says) in [
        (60, 1, true),
        (60, 1, false),
        (12, 10, true),
        (12, 10, false),
    ] {
        let behaviour = move |call: &Call| -> Act {
            let step = call.tools() / parallel;
            if step == steps {
                return Answer::text(["The ", "end."]).into();
            }
            // The same call over and over again would be taken for a dead end.
            let tools = (0..parallel).map(|number| match parallel {
                1 => (shell, json!({"command": format!("echo {step}")})),
                _ => (
                    read,
                    json!({"path": "file", "line_offset": step * parallel + number + 1}),
                ),
            });
            let answer = Answer::tools(tools);
            match says {
                true => answer.saying(&format!("Step {step}.")).into(),
                false => answer.into(),
            }
        };
        let sandbox = stage.sandbox("json");
        sandbox.file("file", "line\n".repeat(200));
        let service = Service::new(behaviour);
        let run = stage.ask(
            &sandbox,
            &service.url(),
            "--json --allow all --no-stdin Go.",
        );
        let seen = Seen {
            outcome: finish(run, &sandbox),
            service,
            sandbox,
        };
        let result = good(stage, &seen, "The end.", steps + 1);
        billed(&seen.outcome, &seen.service);
        seen.outcome
            .check(result["warnings"] == json!([]), "no warnings");
        if stage.kind == Code {
            seen.outcome
                .check(result["finish_reason"] == "stop", "the reason");
        }
    }
}

fn repeated_tool(stage: &Stage) {
    let shell = stage.kind.shell();
    let behaviour = move |call: &Call| -> Act {
        match call.number {
            1..=40 => Answer::tool(shell, json!({"command": "echo same"}))
                .saying("Once more.")
                .into(),
            _ => Answer::text(["done"]).into(),
        }
    };
    let [plain, json] = stage.both(&["--allow", "all", "Go."], behaviour);
    if stage.kind == Agent {
        // It would go on for ever.
        plain
            .outcome
            .code(6)
            .stderr_contains("omk: runaway agent: ");
        return;
    }
    let kind = match stage.kind {
        Code => "gave up",
        Cli | Agent => "dead end",
    };
    plain
        .outcome
        .code(1)
        .stdout("")
        .stderr_contains(&format!("omk: {kind}: "));
    let result = bad(&json, 1, kind, None);
    json.outcome
        .check(result["cost"]["charged"] == "yes", "charged");
    billed(&json.outcome, &json.service);
}

/// Its calls are in a log of its own, and it may work on when the turn is over.
fn background_sub_agent(stage: &Stage) {
    if stage.kind == Agent {
        // It has none.
        return;
    }
    let behaviour = |call: &Call| -> Act {
        if call.asks("SUBTASK") && !call.asks("Go.") {
            return match call.tools() {
                0..3 => Answer::tool(
                    if call.body.to_string().contains("\"Bash\"") {
                        "Bash"
                    } else {
                        "Shell"
                    },
                    json!({"command": format!("echo {}", call.tools())}),
                )
                .into(),
                _ => Answer::text(["sub finished with a long enough summary "; 12]).into(),
            };
        }
        match call.after_tool() {
            false => {
                let task = json!({"description": "do sub", "prompt": "SUBTASK please",
                    "subagent_type": "coder", "run_in_background": true});
                Answer::tool("Agent", task).into()
            }
            true => Answer::text(["main done"]).into(),
        }
    };
    let seen = stage.once(&["--json", "--allow", "all", "Go."], behaviour);
    let result = seen.outcome.code(0).json();
    seen.outcome
        .check(result["text"] == "main done", "the text");
    // Four calls of the sub-agent's, two of the main agent's; Kimi Code makes one more when the sub-agent is done.
    assert!(seen.service.calls().len() >= 6);
    match result["usage"]["unreported"].as_u64() {
        None => billed(&seen.outcome, &seen.service),
        // The last call of all may have been cut by the end of the agent.
        Some(calls) => {
            seen.outcome.check(calls == 1, "one call");
            at_least(&seen.outcome, &seen.service);
        }
    }
}

/// A run that is killed in the second call of its turn: that call may be on the bill.
fn interrupted_turn(stage: &Stage) {
    let sandbox = stage.sandbox("text");
    let shell = stage.kind.shell();
    let service = Service::new(move |call: &Call| match call.after_tool() {
        false => Act::from(Answer::tool(shell, json!({"command": "echo one"}))),
        true => Act::Hold(Answer::text(["late"])),
    });
    let run = stage.ask(&sandbox, &service.url(), "--allow all --no-stdin Go.");
    let mut waiting = run.spawn();
    service.wait_for_calls(2);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert_eq!(left_behind(&sandbox), [""; 0]);
    let known = service.bill();
    let check = |what: &str| {
        let runs = ledger(&sandbox.path("work"));
        assert_eq!(runs.len(), 1, "{what}");
        let usage = &runs[0]["usage"];
        assert_eq!(runs[0]["status"], "unknown", "{what}: {}", runs[0]);
        assert_eq!(usage["output"], known.output, "{what}");
        assert_eq!(usage["unreported"], 1, "{what}");
    };
    sandbox.omk("cost recover").run().code(0);
    check("recovered");
    // The same as a session of someone's own.
    std::fs::remove_dir_all(sandbox.path("home/.local/state/omk/ledger")).unwrap();
    if stage.kind == Agent {
        // It may die before it writes that the turn is over, which an import then takes for one under way for an hour.
        let sessions = sandbox.path("home/.kimi/sessions");
        let inside = |path: &Path| {
            std::fs::read_dir(path)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path()
        };
        let log = inside(&inside(&sessions)).join("wire.jsonl");
        let log = std::fs::File::options().write(true).open(log).unwrap();
        let earlier = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
        log.set_modified(earlier).unwrap();
    }
    sandbox.omk("cost import kimi").run().code(0);
    check("imported");
}

fn not_logged_in(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let outcome = finish(stage.bare(&sandbox, "prompt --json Why?"), &sandbox);
    let result = outcome.code(77).json();
    outcome.check(result["error"]["kind"] == "not logged in", "the kind");
    outcome.check(result["cost"]["charged"] == "no", "charged");
}

fn unknown_model(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    let service = Service::new(text("never"));
    let url = service.url();
    stage.configure(
        &sandbox,
        &configuration("m", &[("m", MODEL), ("other", MODEL)], &url),
    );
    let run = stage.bare(&sandbox, "prompt --json -m nosuch Why?");
    let outcome = finish(run, &sandbox);
    let result = outcome.code(78).json();
    outcome.check(
        result["error"]["kind"] == "model not configured",
        "the kind",
    );
    let message = result["error"]["message"].to_string();
    outcome.check(
        message.contains("no model `nosuch`; it has m, other"),
        &message,
    );
    outcome.check(result["cost"]["charged"] == "no", "charged");
    assert_eq!(service.calls().len(), 0);
}

fn broken_configuration(stage: &Stage) {
    let sandbox = stage.sandbox("json");
    stage.configure(&sandbox, "default_model = \"m\"\n[models.m]\nmodel = \"x\n");
    let outcome = finish(stage.bare(&sandbox, "prompt --json Why?"), &sandbox);
    if stage.kind == Code {
        // It says the same as without any.
        outcome.code(77);
        return;
    }
    let result = outcome.code(78).json();
    outcome.check(result["error"]["kind"] == "agent configuration", "the kind");
    let message = result["error"]["message"].to_string();
    outcome.check(
        message.contains("config.toml") && message.contains("line 3"),
        &message,
    );
}

/// A name in the agent's configuration is not the model, and without `-m` the default is.
fn another_name(stage: &Stage) {
    for (flags, requested) in [("", "kimi-k3"), ("-m kimi-k2.6", "kimi-k2.6")] {
        let sandbox = stage.sandbox("json");
        let service = Service::new(text("fine"));
        let models = [("kimi-k2.6", "kimi-k3")];
        stage.configure(
            &sandbox,
            &configuration("kimi-k2.6", &models, &service.url()),
        );
        let line = format!("prompt --json --max-usd 1 {flags} Why?");
        let outcome = finish(stage.bare(&sandbox, &line), &sandbox);
        let result = outcome.code(0).json();
        outcome.check(result["model"]["requested"] == requested, "requested");
        outcome.check(
            result["cost"]["price"]["input"] == 3,
            "the price of kimi-k3",
        );
        billed(&outcome, &service);
    }
}

/// A script may start another agent than it did when it was asked for its version.
#[cfg(unix)]
#[test]
fn a_verdict_about_an_agent_is_forgotten_when_it_does_not_start() {
    use std::os::unix::fs::PermissionsExt;

    let sandbox = Sandbox::new("a_verdict_about_an_agent_is_forgotten_when_it_does_not_start");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && exec cat version\nexit 1\n";
    sandbox.file("kimi", script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.path("work/kimi"), mode).unwrap();
    for (version, name) in [
        ("kimi, version 1.51.0", "kimi-cli 1.51.0"),
        ("2.1.0", "Kimi Code 2.1.0"),
    ] {
        sandbox.file("version", version);
        let outcome = sandbox.omk("prompt --kimi ./kimi --no-stdin Why?").run();
        outcome.code(69).stderr_contains(name);
    }
}
