//! Ctrl-C and its kin: a run that a signal ends is settled, says so, and leaves no process behind.
//!
//! The agent is a script that speaks Wire and starts a tool in a session of its own, which no signal to a process group
//! reaches.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fake_agent::{ask, script};
use crate::sandbox::Sandbox;
use crate::service::{Act, Answer, Service};

/// No step of a test takes longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kimi-cli up to the point where its turn runs; `rest` says what it does then. `$prompt` is the number of the prompt.
pub(crate) fn wire_agent(sandbox: &Sandbox, rest: &str) -> PathBuf {
    let lines = format!(
        r#"if [ "$1" = --version ]; then echo 'kimi, version 1.51.0'; exit; fi
id() {{ id=${{1#*\"id\":\"}}; id=${{id%%\"*}}; }}
event() {{ printf '{{"jsonrpc":"2.0","method":"event","params":{{"type":"%s","payload":%s}}}}\n' "$1" "$2"; }}
answer() {{ printf '{{"jsonrpc":"2.0","id":"%s","result":%s}}\n' "$1" "$2"; }}
read -r line; id "$line"
answer "$id" '{{"protocol_version":"1.10","server":{{"name":"Kimi Code CLI","version":"1.51.0"}}}}'
read -r line; id "$line"; prompt=$id
event TurnBegin '{{"user_input":"Go."}}'
event StepBegin '{{"n":1}}'
event StatusUpdate '{{"token_usage":{{"input_other":600,"output":30,"input_cache_read":400,"input_cache_creation":0}}}}'
{rest}"#
    );
    script(sandbox, &lines)
}

/// Waits until a file has a line, and gives it.
#[track_caller]
pub(crate) fn line_of(path: &Path) -> String {
    let started = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Some((line, _)) = text.split_once('\n')
        {
            return line.to_string();
        }
        assert!(started.elapsed() < PATIENCE, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process is there and is not just waiting to be waited for.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, None | Some("Z" | "X"))
}

pub(crate) fn signal(name: &str, pid: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {pid}")])
        .status();
    assert!(status.unwrap().success());
}

/// Waits for a program, and gives what it wrote.
#[track_caller]
pub(crate) fn end(mut child: Child) -> (ExitStatus, String, String) {
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                panic!("it does not end");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    (status, out, err)
}

pub(crate) const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

/// The one record of the ledger.
fn record(sandbox: &Sandbox) -> Value {
    let outcome = sandbox.omk("cost list --json").run();
    let list = outcome.code(0).json();
    outcome.check(
        list["runs"].as_array().is_some_and(|all| all.len() == 1),
        "one record",
    );
    list["runs"][0].clone()
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_in_mid_turn_settles_the_run_and_ends_every_process() {
    for (name, code) in SIGNALS {
        let sandbox = Sandbox::new(&format!("a_signal_in_mid_turn_{name}"));
        let agent = wire_agent(
            &sandbox,
            r#"setsid sh -c 'trap "" TERM HUP INT; echo $$ > tool; exec sleep 1000' &
read -r line; id "$line"; echo "$line" > cancel; answer "$id" '{}'
event TurnEnd '{}'
answer "$prompt" '{"status":"cancelled"}'
while read -r line; do :; done"#,
        );
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", agent.display());
        let run = ask(&sandbox, &agent, "--json -m kimi-k2.6 Go.")
            .env("PATH", path)
            .spawn();
        let tool = line_of(&sandbox.path("work/tool"));
        assert!(lives(&tool));
        signal(name, &run.id().to_string());
        let (status, out, err) = end(run);
        assert_eq!(status.code(), Some(code), "{err}");
        assert!(!lives(&tool), "{name}: the tool lives on");
        let result: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(result["exit"], code, "{out}");
        assert_eq!(result["error"]["kind"], "interrupted", "{out}");
        assert_eq!(result["usage"]["input"], 600, "{out}");
        assert!(
            err.contains(&format!("omk: interrupted: SIG{name} while ")),
            "{err}"
        );
        let cancel = std::fs::read_to_string(sandbox.path("work/cancel")).unwrap();
        assert!(cancel.contains("\"cancel\""), "{cancel}");
        let record = record(&sandbox);
        assert_eq!(record["status"], "interrupted", "{record}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_that_answers_nothing_any_more_is_ended_all_the_same() {
    let sandbox = Sandbox::new("an_agent_that_answers_nothing_any_more");
    let agent = wire_agent(
        &sandbox,
        "trap '' TERM HUP INT\necho $$ > agent\nwhile :; do sleep 1; done",
    );
    let path = format!("{}:{}", agent.display(), std::env::var("PATH").unwrap());
    let run = ask(&sandbox, &agent, "Go.").env("PATH", path).spawn();
    let pid = line_of(&sandbox.path("work/agent"));
    signal("INT", &run.id().to_string());
    let (status, _, err) = end(run);
    assert_eq!(status.code(), Some(130), "{err}");
    assert!(!lives(&pid));
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_the_program_at_once_and_the_agent_with_it() {
    let sandbox = Sandbox::new("a_second_signal_ends_the_program_at_once");
    let agent = wire_agent(
        &sandbox,
        "trap '' TERM HUP INT\necho $$ > agent\nread -r line; echo \"$line\" > cancel\nwhile :; do sleep 1; done",
    );
    let path = format!("{}:{}", agent.display(), std::env::var("PATH").unwrap());
    let run = ask(&sandbox, &agent, "Go.").env("PATH", path).spawn();
    let pid = line_of(&sandbox.path("work/agent"));
    signal("INT", &run.id().to_string());
    // It has noticed the first one, and waits for the agent now.
    line_of(&sandbox.path("work/cancel"));
    signal("INT", &run.id().to_string());
    let (status, out, err) = end(run);
    assert_eq!((status.code(), out.as_str()), (Some(130), ""), "{err}");
    let started = Instant::now();
    while lives(&pid) {
        assert!(started.elapsed() < PATIENCE, "the agent lives on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_signal_while_a_service_answers_or_is_waited_for_settles_the_run() {
    for (name, code) in SIGNALS {
        for phase in ["waiting", "answering"] {
            let sandbox = Sandbox::new(&format!("a_signal_over_http_{name}_{phase}"));
            let service = Service::new(move |_| match phase {
                "waiting" => Act::Hold(Answer::text(["one"])),
                _ => Act::Answer(Answer::text(["one", "two"]).hold_before(1)),
            });
            let run = sandbox
                .omk("prompt --json -m kimi-k2.6 Go.")
                .env("OMK_BASE_URL", service.url())
                .env("MOONSHOT_API_KEY", "sk-test")
                .spawn();
            service.wait_for_calls(1);
            signal(name, &run.id().to_string());
            let (status, out, err) = end(run);
            assert_eq!(status.code(), Some(code), "{phase}: {err}");
            let result: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(result["exit"], code, "{out}");
            assert_eq!(result["error"]["kind"], "interrupted", "{out}");
            assert_eq!(record(&sandbox)["status"], "interrupted");
        }
    }
}

#[test]
fn a_signal_while_standard_input_is_read_ends_the_run_before_anything_is_asked() {
    for (name, code) in SIGNALS {
        let sandbox = Sandbox::new(&format!("a_signal_while_standard_input_is_read_{name}"));
        let mut run = sandbox
            .omk("prompt --json -")
            .env("MOONSHOT_API_KEY", "sk-test")
            .stdin_from(Stdio::piped())
            .spawn();
        // It says that it waits, and then it does.
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"waiting for input on stdin") {
            run.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        signal(name, &run.id().to_string());
        let (status, out, err) = end(run);
        assert_eq!(status.code(), Some(code), "{err}");
        let result: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(result["error"]["kind"], "interrupted", "{out}");
    }
}

#[test]
fn a_command_that_costs_nothing_ends_as_any_program_does() {
    let sandbox = Sandbox::new("a_command_that_costs_nothing_ends");
    let mut run = sandbox.omk("estimate -").stdin_from(Stdio::piped()).spawn();
    let mut byte = [0];
    run.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
    signal("INT", &run.id().to_string());
    assert_eq!(end(run).0.signal(), Some(2));
}
