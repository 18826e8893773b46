//! What a peer or a file that has no end may cost: 64 MiB of memory, and a second after the deadline.
//!
//! Memory is the peak that Linux counts for the built program; elsewhere only the end is tested. Agents are scripts, see
//! [`wire_agent`]. A service here sends its bytes for as long as somebody takes them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fake_agent::{ask, script};
use crate::sandbox::{Outcome, Run, Sandbox};
use crate::signals::wire_agent;

/// The most that a hostile peer may cost, in KiB.
const MOST_KIB: u64 = 64 * 1024;
/// What every case gets.
const DEADLINE: Duration = Duration::from_secs(2);
const MIB: usize = 1024 * 1024;

/// Runs it within its limits. Another test may have the processor, so time is what the fastest of three runs takes.
#[track_caller]
fn held(name: &str, run: impl Fn() -> Run) -> Outcome {
    let mut tries = 0;
    loop {
        let outcome = run().run();
        println!("{name}: {} KiB, {:?}", outcome.peak_kib, outcome.took);
        outcome.check(outcome.peak_kib <= MOST_KIB, &format!("{name}: memory"));
        tries += 1;
        let in_time = outcome.took <= DEADLINE + Duration::from_secs(1);
        if in_time || tries == 3 {
            outcome.check(in_time, &format!("{name}: time"));
            return outcome;
        }
    }
}

/// A Kimi Code up to the point where its turn runs, with its log in `$log`; `rest` says what it does then.
pub(crate) fn acp_agent(sandbox: &Sandbox, rest: &str) -> PathBuf {
    let lines = format!(
        r#"if [ "$1" = --version ]; then echo '2.1.0'; exit; fi
id() {{ id=${{1#*\"id\":\"}}; id=${{id%%\"*}}; }}
answer() {{ printf '{{"jsonrpc":"2.0","id":"%s","result":%s}}\n' "$1" "$2"; }}
update() {{ printf '{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"s","update":%s}}}}\n' "$1"; }}
said() {{ printf '%s\n' "$1" >> "$log"; }}
used() {{ said '{{"type":"usage.record","model":"m","usage":{{"inputOther":600,"output":30}},"usageScope":"turn"}}'; }}
finish() {{
  said '{{"type":"context.append_loop_event","event":{{"type":"content.part","turnId":"0","part":{{"type":"text","text":"done"}}}}}}'
  said '{{"type":"context.append_loop_event","event":{{"type":"step.end","turnId":"0","rawFinishReason":"stop"}}}}'
  said '{{"type":"turn.ended","turnId":0,"reason":"completed"}}'
  answer "$prompt" '{{"stopReason":"end_turn"}}'
}}
read -r line; id "$line"; answer "$id" '{{"protocolVersion":1,"agentCapabilities":{{}}}}'
read -r line; id "$line"
session="$HOME/.kimi-code/sessions/wd_x/s"; log="$session/agents/main/wire.jsonl"
mkdir -p "$session/agents/main"; : > "$log"
answer "$id" '{{"sessionId":"s"}}'
read -r line; id "$line"; answer "$id" '{{}}'
read -r line; id "$line"; prompt=$id
said '{{"type":"turn.prompt","turnId":0,"origin":{{"kind":"user"}}}}'
said '{{"type":"llm.request","model":"kimi-k2.6"}}'
said '{{"type":"context.append_loop_event","event":{{"type":"step.begin","turnId":"0","step":1}}}}'
{rest}"#
    );
    script(sandbox, &lines)
}

/// A run of this agent that finds programs beside it.
fn prompt(sandbox: &Sandbox, agent: &Path, flags: &str) -> Run {
    let path = format!("{}:{}", agent.display(), std::env::var("PATH").unwrap());
    let flags = format!("--json --deadline 2s {flags} Go.");
    ask(sandbox, agent, &flags).env("PATH", path)
}

#[test]
fn what_an_agent_says_without_end_is_bounded() {
    for (name, rest) in [
        ("an endless line", r"tr '\0' x < /dev/zero"),
        ("endless noise", "yes noise"),
        ("endless errors", r"yes error >&2"),
        ("an endless line of errors", r"tr '\0' x < /dev/zero >&2"),
        (
            "an endless answer",
            r#"yes '{"jsonrpc":"2.0","method":"event","params":{"type":"ContentPart","payload":{"type":"text","text":"'"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}}'"#,
        ),
        (
            "endless thinking",
            r#"yes '{"jsonrpc":"2.0","method":"event","params":{"type":"ContentPart","payload":{"type":"think","think":"'"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}}'"#,
        ),
        (
            "endless arguments",
            r#"event ToolCall '{"type":"function","id":"t","function":{"name":"Shell","arguments":""}}'
yes '{"jsonrpc":"2.0","method":"event","params":{"type":"ToolCallPart","payload":{"arguments_part":"'"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}}'"#,
        ),
        (
            "endless calls of tools",
            r#"n=0; while :; do n=$((n+1)); event ToolCall '{"type":"function","id":"t'$n'","function":{"name":"Shell","arguments":"'$n"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}'; done"#,
        ),
        (
            "endless requests",
            r#"yes '{"jsonrpc":"2.0","method":"request","id":"r","params":{"type":"ApprovalRequest","payload":{"id":"r","tool_call_id":"t","sender":"Shell","action":"run","description":"'"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}}'"#,
        ),
        (
            "a large structure",
            r#"printf '{"jsonrpc":"2.0","method":"event","params":{"type":"ContentPart","payload":{"type":"text","x":['
head -c 15000000 /dev/zero | tr '\0' ' ' | sed 's/  /0,/g'; echo '0]}}}'; sleep 1000"#,
        ),
        (
            "a large result",
            r#"printf '{"jsonrpc":"2.0","id":"%s","result":{"x":[' "$prompt"
head -c 15000000 /dev/zero | tr '\0' ' ' | sed 's/  /0,/g'; echo '0]}}'; sleep 1000"#,
        ),
        (
            "large arguments",
            r#"printf '{"jsonrpc":"2.0","method":"event","params":{"type":"ToolCall","payload":{"type":"function","id":"t","function":{"name":"Write","arguments":"{\\"x\\":['
head -c 14000000 /dev/zero | tr '\0' ' ' | sed 's/  /0,/g'; echo '0]}"}}}}'; sleep 1000"#,
        ),
        (
            "an answer of 15 MB",
            r#"printf '{"jsonrpc":"2.0","method":"event","params":{"type":"ContentPart","payload":{"type":"text","text":"'
head -c 15000000 /dev/zero | tr '\0' x; echo '"}}}'; event TurnEnd '{}'; answer "$prompt" '{"status":"finished"}'; while read -r line; do :; done"#,
        ),
    ] {
        let sandbox = Sandbox::new(&format!("bounded_{}", name.replace(' ', "_")));
        let agent = wire_agent(&sandbox, rest);
        held(name, || prompt(&sandbox, &agent, ""));
    }
}

#[test]
fn what_an_agent_writes_into_its_log_without_end_is_bounded() {
    for (name, rest) in [
        (
            "a line of 300 MB",
            r#"{ head -c 300000000 /dev/zero | tr '\0' x; echo; } >> "$log"; used; finish; while read -r line; do :; done"#,
        ),
        (
            "an endless log",
            r#"yes '{"type":"x"}' | head -c 20000000 > unit; while :; do cat unit >> "$log"; sleep 0.05; done"#,
        ),
        (
            "an endless line",
            r#"head -c 20000000 /dev/zero | tr '\0' x > unit; while :; do cat unit >> "$log"; sleep 0.05; done"#,
        ),
        (
            "a link to /dev/zero",
            r#"ln -sf /dev/zero "$log"; answer "$prompt" '{"stopReason":"end_turn"}'; while read -r line; do :; done"#,
        ),
        (
            "a pipe",
            r#"rm "$log"; mkfifo "$log"; answer "$prompt" '{"stopReason":"end_turn"}'; while read -r line; do :; done"#,
        ),
        (
            "an endless text",
            r#"yes '{"type":"context.append_loop_event","event":{"type":"content.part","turnId":"0","part":{"type":"text","text":"'"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}}' | head -c 20000000 > unit; while :; do cat unit >> "$log"; sleep 0.05; done"#,
        ),
        (
            "many agents",
            r#"n=0; while :; do n=$((n+1)); mkdir "$session/agents/a$n"; echo '{}' > "$session/agents/a$n/wire.jsonl"; done"#,
        ),
        (
            "a large structure",
            r#"{ printf '{"type":"usage.record","x":['; head -c 5000000 /dev/zero | tr '\0' ' ' | sed 's/  /0,/g'; echo '0]}'; } >> "$log"; used; finish; while read -r line; do :; done"#,
        ),
    ] {
        let sandbox = Sandbox::new(&format!("bounded_log_{}", name.replace([' ', '/'], "_")));
        let agent = acp_agent(&sandbox, rest);
        let outcome = held(name, || prompt(&sandbox, &agent, ""));
        let result = outcome.json();
        outcome.check(result["cost"]["charged"] != "no", "the model was asked");
        let _ = std::fs::remove_dir_all(sandbox.path("home/.kimi-code"));
    }
}

/// A file of 300 MB, which takes no room.
fn huge(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(300_000_000).unwrap();
}

#[test]
fn a_file_that_an_agent_hands_over_is_bounded() {
    for (name, rest) in [
        (
            "a file of 15 MB to write",
            r#"{ printf '{"jsonrpc":"2.0","id":"w","method":"fs/write_text_file","params":{"sessionId":"s","path":"new.txt","content":"'
head -c 15000000 /dev/zero | tr '\0' x; echo '"}}'; }; read -r line; used; finish; while read -r line; do :; done"#,
        ),
        (
            "a file of 300 MB to read",
            r#"echo '{"jsonrpc":"2.0","id":"r","method":"fs/read_text_file","params":{"sessionId":"s","path":"huge"}}'
read -r line; used; finish; while read -r line; do :; done"#,
        ),
        (
            "a file that is as large as may be",
            r#"echo '{"jsonrpc":"2.0","id":"r","method":"fs/read_text_file","params":{"sessionId":"s","path":"odd"}}'
read -r line; used; finish; while read -r line; do :; done"#,
        ),
        (
            "endless files to read",
            r#"n=0; while :; do n=$((n+1)); echo '{"jsonrpc":"2.0","id":"r'$n'","method":"fs/read_text_file","params":{"sessionId":"s","path":"/etc/'$n"$(head -c 60000 /dev/zero | tr '\0' x)"'"}}'; read -r line; done"#,
        ),
    ] {
        let sandbox = Sandbox::new(&format!("handed_over_{}", name.replace(' ', "_")));
        huge(&sandbox.path("work/huge"));
        sandbox.file("odd", "\u{1}".repeat(3 * MIB));
        let agent = acp_agent(&sandbox, rest);
        let path = sandbox.path("work").display().to_string();
        let agent_text = std::fs::read_to_string(agent.join("kimi")).unwrap();
        let agent_text = agent_text
            .replace(r#""path":""#, &format!(r#""path":"{path}/"#))
            .replace(&format!("{path}//etc"), "/etc");
        std::fs::write(agent.join("kimi"), agent_text).unwrap();
        for allow in ["", "--allow Write", "--allow Read,Write"] {
            held(&format!("{name} {allow}"), || {
                prompt(&sandbox, &agent, allow)
            });
        }
    }
}

#[test]
fn what_an_agent_keeps_in_its_home_is_bounded() {
    let sandbox = Sandbox::new("what_an_agent_keeps_in_its_home");
    let home = sandbox.path("home/.kimi-code");
    std::fs::create_dir_all(&home).unwrap();
    let agent = acp_agent(&sandbox, "used; finish; while read -r line; do :; done");
    for name in ["session_index.jsonl", "config.toml"] {
        huge(&home.join(name));
        held(name, || prompt(&sandbox, &agent, ""));
        std::fs::remove_file(home.join(name)).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/zero", home.join(name)).unwrap();
        held(&format!("{name} as /dev/zero"), || {
            prompt(&sandbox, &agent, "")
        });
        std::fs::remove_file(home.join(name)).unwrap();
    }
    let sandbox = Sandbox::new("what_kimi_cli_keeps_in_its_home");
    let session = sandbox.path("home/.kimi/sessions/hash/nightly");
    std::fs::create_dir_all(&session).unwrap();
    let agent = wire_agent(
        &sandbox,
        r#"event ContentPart '{"type":"text","text":"par"}'
event StepRetry '{"n":1,"attempt":2,"max_attempts":3,"wait_seconds":0}'
event ContentPart '{"type":"text","text":"part"}'
event TurnEnd '{}'; answer "$prompt" '{"status":"finished"}'; while read -r line; do :; done"#,
    );
    huge(&session.join("context.jsonl"));
    held("context.jsonl", || {
        prompt(&sandbox, &agent, "--session nightly")
    });
    std::fs::remove_file(session.join("context.jsonl")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/zero", session.join("context.jsonl")).unwrap();
    held("context.jsonl as /dev/zero", || {
        prompt(&sandbox, &agent, "--session nightly")
    });
}

/// A service that answers one request with this, and then with the same bytes for as long as somebody takes them.
fn endless(head: &str, unit: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let head = head.to_string();
    std::thread::spawn(move || {
        // As many as one case may run, and no thread outlives its client for long.
        for stream in listener.incoming().take(12) {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let _ = stream.write_all(head.as_bytes());
            // An answer that ends says so.
            if unit.is_empty() {
                let _ = stream.write_all(b"0]}");
            } else {
                while stream.write_all(&unit).is_ok() {}
            }
        }
    });
    url
}

#[test]
fn what_a_service_sends_without_end_is_bounded() {
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let sse = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let text = |size: usize| {
        format!(
            "data: {{\"id\":\"a\",\"model\":\"kimi-k2.6\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "x".repeat(size)
        )
        .into_bytes()
    };
    let think = String::from_utf8(text(60_000))
        .unwrap()
        .replace("\"content\"", "\"reasoning_content\"");
    for (name, head, unit) in [
        ("an endless body", json, vec![b'x'; MIB]),
        ("an endless list", &*format!("{json}["), b"0,".repeat(MIB)),
        (
            "an endless line of events",
            &*format!("{sse}data: "),
            vec![b'x'; MIB],
        ),
        ("endless comments", sse, b": x\n".repeat(MIB / 4)),
        ("an endless comment", &*format!("{sse}: "), vec![b'x'; MIB]),
        ("an endless event", sse, b"data: x\n".repeat(MIB / 8)),
        ("an endless answer", sse, text(60_000)),
        ("endless thinking", sse, think.into_bytes()),
        (
            "an endless answer in small pieces",
            sse,
            text(1).repeat(1000),
        ),
        (
            "a large structure",
            &*format!(
                "{json}{{\"choices\":[{{\"message\":{{\"content\":[{}0]}}}}],\"data\":[{}0],\"x\":[",
                "[],".repeat(2_000_000),
                "[],".repeat(2_500_000)
            ),
            Vec::new(),
        ),
        (
            "a large structure of an error",
            "HTTP/1.1 400 Oh\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"error\":{\"message\":[0,[],\"",
            Vec::new(),
        ),
        (
            "endless headers",
            "HTTP/1.1 200 OK\r\n",
            b"a: b\r\n".repeat(10_000),
        ),
        (
            "an endless header",
            "HTTP/1.1 200 OK\r\na: ",
            vec![b'x'; MIB],
        ),
        (
            "an endless error",
            "HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\n\r\n{\"error\":{\"message\":\"",
            vec![b'x'; MIB],
        ),
    ] {
        let url = endless(head, unit);
        let sandbox = Sandbox::new(&format!("bounded_service_{}", name.replace(' ', "_")));
        for flags in ["--json", "--stream-json", "--no-stream --json"] {
            held(&format!("{name} {flags}"), || {
                sandbox
                    .omk(&format!(
                        "prompt --deadline 2s {flags} -m kimi-k2.6 --retries 0 Go."
                    ))
                    .env("OMK_BASE_URL", &url)
                    .env("MOONSHOT_API_KEY", "sk-test")
                    .stdout_to(std::process::Stdio::null())
            });
        }
        for line in ["models update --url", "estimate --exact --base-url"] {
            held(&format!("{name} {line}"), || {
                sandbox
                    .omk(&format!("{line} {url} --deadline 2s"))
                    .env("MOONSHOT_API_KEY", "sk-test")
                    .stdin("x")
            });
        }
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let sandbox = Sandbox::new("a_file_that_is_too_large");
    let huge = sandbox.path("work/huge");
    std::fs::File::create(&huge)
        .unwrap()
        .set_len(300_000_000)
        .unwrap();
    // Not only zeros.
    std::fs::write(sandbox.path("work/long"), "a ".repeat(100 * MIB)).unwrap();
    let base = |line: &str| {
        sandbox
            .omk(&format!("{line} --deadline 2s"))
            .env("MOONSHOT_API_KEY", "sk-test")
            .env("OMK_BASE_URL", "http://127.0.0.1:9/v1")
    };
    for file in ["huge", "long", "/dev/zero"] {
        for line in [
            "prompt Go. --replay FILE",
            "prompt Go. --price-file FILE",
            "prompt Go. --schema FILE",
            "prompt Go. --image FILE",
            "prompt Go. -f FILE",
            "plan Go. --context FILE",
            "plan check FILE",
            "plan show FILE",
            "plan diff FILE FILE",
            "prompt Go. --template ./FILE",
        ] {
            let line = line.replace("FILE", file);
            held(&line, || base(&line));
        }
        let path = match file {
            "/dev/zero" => PathBuf::from(file),
            _ => sandbox.path("work").join(file),
        };
        held(&format!("SSL_CERT_FILE {file}"), || {
            base("prompt Go.").env("SSL_CERT_FILE", &path)
        });
        let config = sandbox.path("config/omk/config.json");
        let _ = std::fs::remove_file(&config);
        std::os::unix::fs::symlink(&path, &config).unwrap();
        held(&format!("config {file}"), || base("prompt Go."));
        std::fs::remove_file(&config).unwrap();
    }
}

#[test]
fn a_ledger_of_large_files_is_bounded() {
    let sandbox = Sandbox::new("a_ledger_of_large_files");
    let agent = wire_agent(
        &sandbox,
        r#"event ContentPart '{"type":"text","text":"done"}'; event TurnEnd '{}'; answer "$prompt" '{"status":"finished"}'; while read -r line; do :; done"#,
    );
    prompt(&sandbox, &agent, "").run().code(0);
    let loose = sandbox.path("home/.local/state/omk/ledger/loose");
    for kind in ["long", "zeros", "/dev/zero", "pipe"] {
        let path = loose.join("20261121T173058715048Z-000025fc-e5f8bc6066ab.json");
        match kind {
            "long" => std::fs::write(&path, "[0,".repeat(100 * MIB)).unwrap(),
            "zeros" => huge(&path),
            "pipe" => assert!(
                std::process::Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            ),
            _ => std::os::unix::fs::symlink(kind, &path).unwrap(),
        }
        for line in [
            "cost list",
            "cost report",
            "cost check --max-usd 1",
            "cost verify",
            "cost export",
            "cost show last",
        ] {
            held(&format!("{kind}: {line}"), || sandbox.omk(line));
        }
        held(&format!("{kind}: a prompt"), || {
            prompt(&sandbox, &agent, "")
        });
        std::fs::remove_file(&path).unwrap();
    }
}
