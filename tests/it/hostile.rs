//! Peers and files that mean harm, and what omk does about them.
//!
//! Agents are scripts that speak Wire, see [`crate::signals`]. The decisions on single commands and paths are tested where
//! they are made, on a corpus in `tests/fixtures/attacks`.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::fake_agent::ask;
use crate::limits::acp_agent;
use crate::sandbox::{Run, Sandbox, is_installed};
use crate::server::nobody;
use crate::service::{Answer, Service};
use crate::signals::{lives, wire_agent};

/// Of a form that GitHub gives out, put together so that no scanner takes this file for one that holds a key.
fn key() -> String {
    format!("gh{}_{}", 'p', "Zq3vN8kLw0XyT5bRm2HsJd7GfCa9PeUi4oVt")
}

/// A run of this agent that finds programs beside it.
fn with_path(sandbox: &Sandbox, agent: &Path, flags: &str) -> Run {
    let path = format!("{}:{}", agent.display(), std::env::var("PATH").unwrap());
    ask(sandbox, agent, flags).env("PATH", path)
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_that_nobody_writes_to_meets_the_deadline_wherever_a_file_is_read() {
    let sandbox = Sandbox::new("a_pipe_that_nobody_writes_to");
    let pipe = sandbox.path("work/pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for line in [
        "prompt --deadline 300ms -f pipe Go.",
        "prompt --deadline 300ms --image pipe Go.",
        "prompt --deadline 300ms --schema pipe Go.",
        "prompt --deadline 300ms --price-file pipe Go.",
        "prompt --deadline 300ms --replay pipe Go.",
        "plan --deadline 300ms --context pipe Go.",
        "estimate --deadline 300ms pipe",
        "plan check --deadline 300ms pipe",
    ] {
        let run = sandbox.omk(line).env("MOONSHOT_API_KEY", "sk-test");
        let run = run.env("OMK_BASE_URL", nobody());
        run.run().code(124).stderr_contains("`pipe`");
    }
}

#[test]
fn a_key_in_a_prompt_is_found_before_anything_is_sent_and_never_shown() {
    let sandbox = Sandbox::new("a_key_in_a_prompt");
    let service = Service::new(|_| Answer::text(["ok"]));
    let key = key();
    sandbox.file("notes.txt", format!("first\nsecond\ntoken = \"{key}\"\n"));
    let prompt = |flags: &str| {
        sandbox
            .omk(&format!("prompt {flags}"))
            .env("OMK_BASE_URL", service.url())
            .env("MOONSHOT_API_KEY", "sk-test")
    };
    for (run, place) in [
        (prompt("-f notes.txt Go."), "notes.txt, line 3"),
        (prompt("--json -f notes.txt Go."), "notes.txt, line 3"),
        (prompt("-").stdin(key.clone()), "standard input, line 1"),
        (prompt("").arg(format!("Use {key}")), "TEXT, line 1"),
        (prompt("Go. --system").arg(key.clone()), "--system, line 1"),
    ] {
        let outcome = run.run();
        outcome.code(65).stderr_contains(place);
        outcome.stderr_contains("contains a GitHub token");
        outcome.check(!outcome.stderr_text().contains(&key), "the key is shown");
        outcome.check(!outcome.stdout_text().contains(&key), "the key is shown");
    }
    assert_eq!(service.calls().len(), 0);
    prompt("--allow-secrets -f notes.txt Go.")
        .run()
        .code(0)
        .stdout("ok\n");
}

#[test]
fn a_key_is_not_sent_unencrypted_to_another_machine() {
    let sandbox = Sandbox::new("a_key_is_not_sent_unencrypted");
    // An address for documentation, where nobody is.
    let prompt = |flags: &str| {
        sandbox
            .omk(&format!(
                "prompt --deadline 300ms --base-url http://192.0.2.1/v1 {flags} Go."
            ))
            .env("MOONSHOT_API_KEY", "sk-test")
    };
    let outcome = prompt("").run();
    outcome
        .code(78)
        .stderr_contains("the key would be sent unencrypted");
    outcome.stderr_contains("--insecure");
    let outcome = prompt("--insecure").run();
    outcome.check(
        !outcome.stderr_text().contains("unencrypted"),
        "it is sent then",
    );
    let exact = "estimate --exact --deadline 300ms --base-url http://192.0.2.1/v1";
    let count = |flags: &str| {
        let run = sandbox.omk(&format!("{exact} {flags}")).stdin("x");
        run.env("MOONSHOT_API_KEY", "sk-test").run()
    };
    let outcome = count("");
    outcome
        .code(78)
        .stderr_contains("the key would be sent unencrypted");
    let outcome = count("--insecure");
    outcome.check(
        !outcome.stderr_text().contains("unencrypted"),
        "it is sent then",
    );
    let outcome = sandbox
        .omk("prompt --base-url http://127.0.0.1/v1?key=1 Go.")
        .run();
    outcome.code(2).stderr_contains("has a query or a fragment");
}

#[test]
fn an_agent_that_repeats_itself_is_stopped() {
    let sandbox = Sandbox::new("an_agent_that_repeats_itself");
    let agent = wire_agent(
        &sandbox,
        r#"n=0
while [ $n -lt 30 ]; do
  n=$((n+1))
  event ToolCall '{"type":"function","id":"t'$n'","function":{"name":"Shell","arguments":"{\"command\":\"ls\"}"}}'
  event ToolResult '{"tool_call_id":"t'$n'","return_value":{"is_error":false,"output":"","message":"","display":[]}}'
done
read -r line; id "$line"; answer "$id" '{}'; answer "$prompt" '{"status":"cancelled"}'
while read -r line; do :; done"#,
    );
    let outcome = with_path(&sandbox, &agent, "--json -m kimi-k2.6 Go.").run();
    let result = outcome.code(6).json();
    outcome.check(result["error"]["kind"] == "runaway agent", "the kind");
    outcome.stderr_contains("the agent used Shell 21 times with the same arguments: ");
    with_path(&sandbox, &agent, "--max-repeats 2 Go.")
        .run()
        .code(6)
        .stderr_contains("the agent used Shell 3 times");
}

#[cfg(target_os = "linux")]
#[test]
fn after_the_deadline_no_process_of_an_agent_is_left_whatever_it_does() {
    for (name, rest) in [
        (
            "ignores",
            "trap '' TERM HUP INT; echo $$ > pid; while :; do sleep 1; done",
        ),
        (
            "session",
            "setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > pid; while :; do sleep 1; done' & sleep 1000",
        ),
        // The child's parent is gone before anyone looks.
        (
            "orphan",
            "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' &) ; sleep 1000",
        ),
        ("forks", "sh -c 'echo $$ > pid; exec sleep 1000' & exit 0"),
    ] {
        let sandbox = Sandbox::new(&format!("after_the_deadline_{name}"));
        let agent = wire_agent(&sandbox, rest);
        let outcome = with_path(&sandbox, &agent, "--deadline 2s Go.").run();
        let pid = std::fs::read_to_string(sandbox.path("work/pid")).unwrap();
        outcome.check(!lives(pid.trim()), "it lives on");
        // The exit of an agent is seen though its child holds the pipes.
        outcome.code(if name == "forks" { 1 } else { 124 });
        println!("{name}: {:?}", outcome.took);
    }
}

/// What a terminal shows of a run, by `script` of util-linux; `None` where there is none.
fn on_a_terminal(sandbox: &Sandbox, line: &str, url: &str) -> Option<String> {
    if !is_installed("script") {
        println!("skipped: there is no `script`");
        return None;
    }
    let line = format!("omk {line} 2>/dev/null");
    let outcome = sandbox
        .command("script", ["-qec", line.as_str(), "/dev/null"])
        .env("OMK_BASE_URL", url)
        .env("MOONSHOT_API_KEY", "sk-test")
        .run();
    Some(outcome.code(0).stdout_text().to_string())
}

#[cfg(target_os = "linux")]
#[test]
fn control_sequences_in_an_answer_do_not_reach_a_terminal_and_do_reach_a_pipe() {
    let sandbox = Sandbox::new("control_sequences_in_an_answer");
    // One is cut in two between the pieces of a stream.
    let pieces = [
        "a\u{1b}",
        "[2Jb\u{9b}31m\r",
        "c\u{1b}]0;title\u{7}\n\tlast\u{202e}",
    ];
    let service = Service::new(move |_| Answer::text(pieces));
    for flags in ["", "--no-stream", "--json", "--stream-json"] {
        let line = format!("prompt {flags} -q -m kimi-k2.6 Go.");
        let piped = sandbox
            .omk(&line)
            .env("OMK_BASE_URL", service.url())
            .env("MOONSHOT_API_KEY", "sk-test")
            .run();
        piped.code(0);
        if !flags.contains("json") {
            piped.stdout(&format!("{}\n", pieces.concat()));
        }
        let Some(shown) = on_a_terminal(&sandbox, &line, &service.url()) else {
            return;
        };
        // The terminal itself ends a line with both.
        let bad = shown.replace("\r\n", "\n");
        let bad =
            bad.contains(|c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}');
        assert!(!bad, "{flags}: {shown:?}");
        if flags.contains("json") {
            let last = shown.lines().last().unwrap();
            let result: serde_json::Value = serde_json::from_str(last).unwrap();
            assert_eq!(result["text"], pieces.concat(), "{flags}");
        } else {
            assert!(
                shown.contains("a\\u{1b}[2Jb\\u{9b}31m\\rc\\u{1b}]0;title\\u{7}"),
                "{shown:?}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn an_export_may_be_read_by_whom_the_umask_lets() {
    use std::os::unix::fs::PermissionsExt;

    let sandbox = Sandbox::new("an_export_may_be_read");
    let mode = |name: &str| {
        let metadata = std::fs::metadata(sandbox.path("work").join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    sandbox.file("there", "old");
    let keep = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(sandbox.path("work/there"), keep).unwrap();
    for (umask, name, expected) in [
        ("022", "shared", 0o644),
        ("027", "group", 0o640),
        ("077", "own", 0o600),
        ("022", "there", 0o640),
    ] {
        let line = format!("umask {umask}; omk cost export --format openmetrics -o {name}");
        sandbox.command("sh", ["-c", line.as_str()]).run().code(0);
        assert_eq!(mode(name), expected, "{name}: {:o}", mode(name));
    }
    let left = std::fs::read_dir(sandbox.path("work")).unwrap().count();
    assert_eq!(left, 4, "nothing is left beside them");
}

#[test]
fn a_bill_that_an_agent_changed_becomes_a_bound() {
    let forged = r#"{"type":"usage.record","model":"m","usage":{"inputOther":600000000,"output":300000000},"usageScope":"turn"}"#;
    for (name, change) in [
        // What omk has read already is another text now, or is not there.
        (
            "rewritten",
            format!(
                "{{ echo '{forged}'; cat \"$log\"; }} > \"$log.new\"; mv \"$log.new\" \"$log\""
            ),
        ),
        ("shorter", format!("echo '{forged}' > \"$log\"")),
        ("removed", "rm \"$log\"".to_string()),
        (
            "linked",
            "mv \"$log\" \"$log.old\"; ln -s /dev/zero \"$log\"".to_string(),
        ),
    ] {
        let sandbox = Sandbox::new(&format!("a_bill_that_an_agent_changed_{name}"));
        let agent = acp_agent(
            &sandbox,
            // omk looks every so often, and has the first figures when it asks.
            &format!(
                "used; update '{{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{{\"type\":\"text\",\"text\":\"x\"}}}}'; sleep 1; {change}; sleep 1; finish; while read -r line; do :; done"
            ),
        );
        let outcome = with_path(&sandbox, &agent, "--json --deadline 30s Go.").run();
        let result = outcome.json();
        outcome.check(
            result["ok"] == false && result["text"].is_null(),
            "it failed",
        );
        outcome.check(
            result["cost"]["charged"] == "unknown",
            "the charge is not known",
        );
        let input = result["usage"]["input"].as_u64().unwrap_or(0);
        outcome.check(input <= 600, "what was forged counts");
        let shown = sandbox.omk("cost show last --json").run();
        let run = shown.code(0).json();
        shown.check(
            run["record"]["charged"] == "unknown" && !run.to_string().contains("600000000"),
            "the ledger",
        );
    }
}

/// Whether the tests of the sandbox can run; where they cannot, that is said, or with `OMK_REQUIRE_SANDBOX` a failure.
pub(crate) fn has_bubblewrap() -> bool {
    let works = is_installed("bwrap")
        && Command::new("bwrap")
            .args([
                "--ro-bind",
                "/",
                "/",
                "--unshare-pid",
                "--proc",
                "/proc",
                "true",
            ])
            .status()
            .is_ok_and(|status| status.success());
    assert!(
        works || std::env::var_os("OMK_REQUIRE_SANDBOX").is_none(),
        "bubblewrap does not work here, and OMK_REQUIRE_SANDBOX is set"
    );
    if !works {
        println!("skipped: bubblewrap does not work here");
    }
    works
}

#[cfg(target_os = "linux")]
#[test]
fn in_a_sandbox_a_hostile_tool_reads_and_writes_nothing_else_and_outlives_nothing() {
    if !has_bubblewrap() {
        return;
    }
    for (mode, writes) in [("read-only", false), ("workspace", true)] {
        let sandbox = Sandbox::new(&format!("in_a_sandbox_{mode}"));
        let canary = sandbox.path("home/canary");
        std::fs::write(&canary, "secret of the user").unwrap();
        std::fs::create_dir_all(sandbox.path("outside")).unwrap();
        std::fs::write(sandbox.path("outside/file"), "kept").unwrap();
        sandbox.file("here", "kept");
        // It reports to its own home, the one place that it may always write to.
        let agent = wire_agent(
            &sandbox,
            r#"report() { echo "$1" >> "$HOME/.kimi/report"; }
cat "$HOME/canary" > "$HOME/.kimi/stolen" 2>&1 && report 'read the canary'
ls "$HOME" | grep -q canary && report 'saw the canary'
{ echo x > ../outside/file; } 2>/dev/null && report 'wrote outside'
{ echo x > /etc/omk-test; } 2>/dev/null && report 'wrote to /etc'
{ echo x > "$HOME/.bashrc"; } 2>/dev/null
{ cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness; } 2>/dev/null && report 'wrote to /proc/sys'
{ echo x > here; } 2>/dev/null && report 'wrote to the work directory'
echo x > /tmp/omk-hostile && report 'wrote to its own /tmp'
[ "$(ls /proc | grep -c '^[0-9]')" -lt 20 ] && report 'sees its own processes'
mount -o remount,rw / 2>/dev/null && report 'remounted'
setsid sh -c 'trap "" TERM HUP INT; exec sleep 4321.5' </dev/null >/dev/null 2>&1 &
event ContentPart '{"type":"text","text":"done"}'
event TurnEnd '{}'
answer "$prompt" '{"status":"finished"}'
while read -r line; do :; done"#,
        );
        let flags = format!("--sandbox {mode} --allow all -q -m kimi-k2.6 Go.");
        let outcome = with_path(&sandbox, &agent, &flags).run();
        outcome.code(0).stdout("done\n");
        let report = std::fs::read_to_string(sandbox.path("home/.kimi/report")).unwrap();
        let mut expected = vec!["wrote to its own /tmp", "sees its own processes"];
        if writes {
            expected.insert(0, "wrote to the work directory");
        }
        let lines: Vec<&str> = report.lines().collect();
        outcome.check(lines == expected, &format!("{mode}: {report}"));
        let stolen = std::fs::read_to_string(sandbox.path("home/.kimi/stolen")).unwrap();
        outcome.check(
            !stolen.contains("secret of the user"),
            "the canary was read",
        );
        assert_eq!(
            std::fs::read_to_string(&canary).unwrap(),
            "secret of the user"
        );
        assert_eq!(
            std::fs::read_to_string(sandbox.path("outside/file")).unwrap(),
            "kept"
        );
        assert!(!sandbox.path("home/.bashrc").exists() && !Path::new("/tmp/omk-hostile").exists());
        let here = std::fs::read_to_string(sandbox.path("work/here")).unwrap();
        assert_eq!(here == "kept", !writes);
        let sleeps = Command::new("sh")
            .args([
                "-c",
                "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 4321[.]5'",
            ])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(sleeps.stdout).unwrap().trim(),
            "0",
            "{mode}"
        );
    }
}

#[test]
fn without_bubblewrap_nothing_runs() {
    let sandbox = Sandbox::new("without_bubblewrap_nothing_runs");
    let agent = wire_agent(&sandbox, "echo ran > ran");
    let outcome = ask(&sandbox, &agent, "--json --sandbox workspace Go.").run();
    let result = outcome.code(69).json();
    outcome.check(result["error"]["kind"] == json!("no sandbox"), "the kind");
    assert!(!sandbox.path("work/ran").exists());
    let outcome = sandbox
        .omk("prompt --sandbox workspace Go.")
        .env("MOONSHOT_API_KEY", "sk-test")
        .run();
    outcome.code(2).stderr_contains("--sandbox needs an agent");
}
