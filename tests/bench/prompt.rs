//! What `omk prompt` adds to the service or agent that it asks: `cargo bench --bench prompt`.
//!
//! A service on 127.0.0.1 answers at once, so what is measured is everything else: from the start of a process to the
//! first byte that the service receives, to the first byte of the answer on standard output, and to the end. Over HTTP
//! beside `curl`, over stdio beside a driver that does the least that an agent can be asked with. Every number is a ratio,
//! or a difference, of things measured in the same run, in turn.
//!
//! `cargo bench --bench prompt -- [--quick]`. Agents are looked for in `OMK_TEST_AGENTS`, `target/agents` by default, laid
//! out as `.ci/run` installs them; without them their rows say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking and speaks by printing"
)]

#[allow(dead_code, reason = "shared with the other benchmark")]
mod report;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::{Table, Times};

/// Nothing that is measured here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

const ANSWER: &str = "Four.";
/// The least that is a plan.
const PLAN: &str = r#"{"kind": "repair", "complexity_score": 1, "complexity_reasoning": "one line", "slices": [{"id": "mend", "description": "Mend it", "write_set": ["a"], "estimated_difficulty": "easy"}], "dependencies": [], "acceptance_criteria": ["`true` exits 0"]}"#;

/// The moments of one run, since its start.
#[derive(Clone, Copy)]
struct Run {
    sent: Duration,
    answered: Duration,
    ended: Duration,
}

/// A service that answers at once and says when it was asked.
struct Service {
    address: SocketAddr,
    asked: Receiver<Instant>,
}

impl Service {
    /// It ends with the benchmark, which ends it with its process.
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A connection that breaks is the affair of the run that is measured, which fails.
                let _ = answer(stream.unwrap(), &sender);
            }
        });
        Service { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

fn answer(mut stream: TcpStream, asked: &Sender<Instant>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.peek(&mut [0])?;
    let moment = Instant::now();
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut request = String::new();
    reader.take(length).read_to_string(&mut request)?;
    asked.send(moment).unwrap();
    // Only a goal comes with the shape of its answer.
    let answer = if request.contains("\"response_format\"") {
        PLAN
    } else {
        ANSWER
    };
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "kimi-k3",
                           "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta =
        |delta: Value, end: Value| json!([{"index": 0, "delta": delta, "finish_reason": end}]);
    let body = [
        chunk(
            delta(json!({"role": "assistant", "content": answer}), Value::Null),
            Value::Null,
        ),
        chunk(delta(json!({}), json!("stop")), Value::Null),
        chunk(
            json!([]),
            json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
        ),
        "data: [DONE]\n\n".to_string(),
    ]
    .concat();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Everything generated is below the target directory.
fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("bench-prompt")
        .join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A command in surroundings of its own.
fn command(program: &Path, home: &Path, variables: &[(&str, String)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a program that prints the answer.
fn measure(mut command: Command, service: &Service) -> Run {
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut first = [0];
    let mut stdout = child.stdout.take().unwrap();
    stdout
        .read_exact(&mut first)
        .unwrap_or_else(|_| complain(&mut child));
    let answered = start.elapsed();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap();
    let ended = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    let sent = service.asked.recv_timeout(PATIENCE).unwrap() - start;
    Run {
        sent,
        answered,
        ended,
    }
}

fn complain(child: &mut Child) {
    let mut said = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut said);
    panic!("nothing was answered: {said}");
}

/// An agent, and what it has to be told to ask the service.
struct Agent {
    name: &'static str,
    program: PathBuf,
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// What it takes to speak its protocol, and the lines of a conversation: each with the id of its answer.
    args: &'static [&'static str],
    is_acp: bool,
}

fn agents(service: &Service) -> Vec<Result<Agent, String>> {
    let root = std::env::var_os("OMK_TEST_AGENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents"),
        PathBuf::from,
    );
    let there = |path: PathBuf, name: &str| match path.exists() {
        true => Ok(path),
        false => Err(format!("{name} is not installed (`.ci/run` installs it)")),
    };
    let cli = there(root.join("kimi-cli/bin/kimi"), "kimi-cli").map(|program| {
        let home = scratch("kimi-cli");
        std::fs::create_dir_all(home.join(".kimi")).unwrap();
        let config = format!(
            "default_model = \"m\"\n[models.m]\nprovider = \"p\"\nmodel = \"kimi-k3\"\nmax_context_size = 262144\n\
             [providers.p]\ntype = \"kimi\"\nbase_url = \"{}\"\napi_key = \"sk-x\"\n",
            service.url()
        );
        std::fs::write(home.join(".kimi/config.toml"), config).unwrap();
        Agent {
            name: "kimi-cli",
            program,
            home,
            variables: vec![("KIMI_DISABLE_TELEMETRY", "1".to_string())],
            args: &["--wire"],
            is_acp: false,
        }
    });
    let code = there(root.join("kimi-code/node_modules/.bin/kimi"), "Kimi Code").map(|program| {
        let node = root.join("kimi-code/node_modules/node/bin");
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = [node].into_iter().chain(std::env::split_paths(&others));
        let path = std::env::join_paths(path).unwrap();
        Agent {
            name: "Kimi Code",
            program,
            home: scratch("kimi-code"),
            variables: vec![
                ("PATH", path.to_string_lossy().into_owned()),
                ("KIMI_MODEL_NAME", "kimi-k3".to_string()),
                ("KIMI_MODEL_API_KEY", "sk-x".to_string()),
                ("KIMI_MODEL_BASE_URL", service.url()),
                ("KIMI_DISABLE_TELEMETRY", "1".to_string()),
                ("KIMI_CODE_NO_AUTO_UPDATE", "1".to_string()),
            ],
            args: &["acp"],
            is_acp: true,
        }
    });
    vec![cli, code]
}

/// The least that an agent can be asked with: greet, ask, take the answer, close its input, wait for its end.
fn drive(agent: &Agent, service: &Service) -> Run {
    let mut command = command(&agent.program, &agent.home, &agent.variables);
    command
        .args(agent.args)
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut talk = Talk {
        stdin: child.stdin.take().unwrap(),
        stdout: BufReader::new(child.stdout.take().unwrap()),
    };
    if agent.is_acp {
        let client =
            json!({"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false});
        talk.ask(
            1,
            "initialize",
            &json!({"protocolVersion": 1, "clientCapabilities": client}),
        );
        let cwd = agent.home.to_string_lossy();
        let session = talk.ask(2, "session/new", &json!({"cwd": cwd, "mcpServers": []}));
        let session = session["sessionId"].clone();
        let text = json!([{"type": "text", "text": "two and two?"}]);
        talk.ask(
            3,
            "session/prompt",
            &json!({"sessionId": session, "prompt": text}),
        );
    } else {
        let client = json!({"name": "bench", "version": "1"});
        talk.ask(
            1,
            "initialize",
            &json!({"protocol_version": "1.10", "client": client}),
        );
        talk.ask(2, "prompt", &json!({"user_input": "two and two?"}));
    }
    let answered = start.elapsed();
    drop(talk);
    assert!(child.wait().unwrap().success());
    let ended = start.elapsed();
    let sent = service.asked.recv_timeout(PATIENCE).unwrap() - start;
    Run {
        sent,
        answered,
        ended,
    }
}

struct Talk {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Talk {
    fn ask(&mut self, id: u32, method: &str, params: &Value) -> Value {
        let id = id.to_string();
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(self.stdin, "{line}").unwrap();
        loop {
            let mut line = String::new();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "the agent ended"
            );
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if message["id"] == json!(id) && message.get("method").is_none() {
                return message["result"].take();
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        println!("nothing is measured but by `cargo bench`");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let service = Service::start();
    let omk = Path::new(env!("CARGO_BIN_EXE_omk"));
    let mut table = Table::new(
        "What omk adds",
        &[
            "asked",
            "beside",
            "to the first byte sent",
            "to the answer",
            "to the end",
        ],
    );

    let home = scratch("http");
    let body = json!({"model": "kimi-k3", "stream": true, "stream_options": {"include_usage": true},
                      "messages": [{"role": "user", "content": "two and two?"}]});
    let (url, body) = (service.url(), body.to_string());
    let ours = || {
        let mut command = command(omk, &home, &[]);
        command.args(["prompt", "--no-stdin", "--base-url", &url, "two and two?"]);
        measure(command, &service)
    };
    let theirs = || {
        let mut command = command(Path::new("curl"), &home, &[]);
        command.args(["-sSN", "-H", "content-type: application/json", "-d", &body]);
        command.arg(format!("{url}/chat/completions"));
        measure(command, &service)
    };
    row(
        &mut table,
        "HTTP",
        "curl",
        if quick { 3 } else { 41 },
        &ours,
        &theirs,
    );

    let planned = || {
        let mut command = command(omk, &home, &[]);
        command.args(["plan", "--no-stdin", "--base-url", &url, "mend a"]);
        measure(command, &service)
    };
    row(
        &mut table,
        "HTTP, a plan",
        "curl",
        if quick { 3 } else { 41 },
        &planned,
        &theirs,
    );

    let mut missing = Vec::new();
    for agent in agents(&service) {
        match agent {
            Ok(agent) => {
                let ours = || {
                    let mut command = command(omk, &agent.home, &agent.variables);
                    command
                        .args(["prompt", "--no-stdin", "--kimi"])
                        .arg(&agent.program);
                    command.arg("two and two?");
                    measure(command, &service)
                };
                // The first run finds out what the agent is, which is kept.
                ours();
                let theirs = || drive(&agent, &service);
                row(
                    &mut table,
                    agent.name,
                    "the bare agent",
                    if quick { 1 } else { 11 },
                    &ours,
                    &theirs,
                );
            }
            Err(why) => missing.push(why),
        }
    }
    table.print(
        "A service on 127.0.0.1 that answers at once. Ratio of the medians, in brackets the least and the greatest of a \
         round; then the difference of the medians. The bare agent is greeted, asked once and closed by the shortest \
         driver; its \"answer\" is the end of its turn.",
    );
    for why in missing {
        println!("Not measured: {why}.");
    }
}

fn row(
    table: &mut Table,
    name: &str,
    beside: &str,
    rounds: usize,
    ours: &dyn Fn() -> Run,
    theirs: &dyn Fn() -> Run,
) {
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    ours();
    theirs();
    for _ in 0..rounds {
        our_runs.push(ours());
        their_runs.push(theirs());
    }
    let times = |runs: &[Run], of: fn(&Run) -> Duration| {
        Times::of(runs.iter().map(|run| of(run).as_secs_f64()).collect())
    };
    let cell = |of: fn(&Run) -> Duration| {
        let (ours, theirs) = (times(&our_runs, of), times(&their_runs, of));
        let more = (ours.median() - theirs.median()) * 1e3;
        format!("{}, {more:+.1} ms", ours.over(&theirs))
    };
    table.row(&[
        &name,
        &beside,
        &cell(|run| run.sent),
        &cell(|run| run.answered),
        &cell(|run| run.ended),
    ]);
}
