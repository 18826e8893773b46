//! Whole runs of each client, recorded and played back: every outcome comes again, to the last event.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::catalog::Catalog;
use crate::llm::client::AcpLlmClient;
use crate::llm::client::Event;
use crate::llm::client::HttpLlmClient;
use crate::llm::client::LlmClient;
use crate::llm::client::LlmClientConfig;
use crate::llm::client::Permissions;
use crate::llm::client::Request;
use crate::llm::client::WireLlmClient;
use crate::llm::cost::CostEstimator;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::runtime::clock::ManualTimer;
use crate::runtime::clock::Timer;
use crate::runtime::secret::Secret;
use crate::transport::Transport;
use crate::transport::acp::Options;
use crate::transport::agents::KIMI_CODE;
use crate::transport::http::Http;
use crate::transport::http::HttpConfig;
use crate::transport::http::server::Reply;
use crate::transport::http::server::Server;
use crate::transport::http::server::ok;
use crate::transport::link::Link;
use crate::transport::link::Received;
use crate::transport::session_log::ContextSource;
use crate::transport::session_log::LogSource;
use crate::transport::session_log::MAIN;
use crate::transport::tape::EXAMPLE_QUESTION;
use crate::transport::tape::Header;
use crate::transport::tape::Tape;

/// What became of a run, and all that was seen of it.
#[derive(Debug, PartialEq)]
struct Ran {
    outcome: Result<LlmResponse, LlmError>,
    seen: Vec<String>,
    used: u64,
}

fn ask<C: LlmClient>(client: &mut C, question: &str) -> Ran {
    let mut seen = Vec::new();
    let mut observer = |event: Event<'_>| {
        // The time of a replay is another, so what tells of it alone is too.
        if event != Event::Tick {
            seen.push(format!("{event:?}"));
        }
        ControlFlow::Continue(())
    };
    let mut budget = TokenBudget::unlimited();
    let outcome = client.run(&Request::new(question), &mut budget, &mut observer);
    Ran {
        outcome,
        seen,
        used: budget.used_tokens(),
    }
}

fn config() -> LlmClientConfig {
    LlmClientConfig::for_model("kimi-k3")
}

fn recorder(transport: Transport) -> Recorder {
    Recorder::in_memory(
        &Header::new(transport, "kimi-k3", None),
        &[Secret::new("sk-1234567890")],
    )
}

fn player(tape: &[u8]) -> Player {
    Player::new(Tape::parse(tape).unwrap())
}

fn fixtures(directory: &str, prefix: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("tests/fixtures").join(directory)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".jsonl")
    });
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// An agent that says what another client once heard, whatever it is told; then it is silent, and at last it ends. Its ids
/// are those of our requests, in order.
struct Script {
    lines: VecDeque<Value>,
    sent: VecDeque<Value>,
    ids: HashMap<String, Value>,
    line: Vec<u8>,
    silences: u32,
    /// Steps of the conversation, by which the logs go.
    steps: Rc<Cell<u32>>,
}

impl Link for Script {
    fn send(&mut self, line: &str, _: Instant) -> Result<(), LinkError> {
        self.sent.push_back(serde_json::from_str(line).unwrap());
        Ok(())
    }

    fn receive(&mut self, _: Instant) -> Result<Received<'_>, LinkError> {
        self.steps.set(self.steps.get() + 1);
        while let Some(mut line) = self.lines.pop_front() {
            let mut message = line["msg"].take();
            if line["dir"] == "out" {
                if let Some(ours) = self.sent.pop_front() {
                    self.ids
                        .insert(message["id"].to_string(), ours["id"].clone());
                }
                continue;
            }
            if message.get("method").is_none()
                && let Some(id) = self.ids.get(&message["id"].to_string())
            {
                message["id"] = id.clone();
            }
            self.line = match line["_raw"].as_str() {
                Some(raw) => raw.as_bytes().to_vec(),
                None => message.to_string().into_bytes(),
            };
            return Ok(Received::Line(&self.line));
        }
        self.silences += 1;
        match self.silences {
            1..20 => Ok(Received::Timeout),
            _ => Ok(Received::Eof),
        }
    }
}

/// Starts the same script for each attempt.
struct Starter {
    transcript: PathBuf,
    steps: Rc<Cell<u32>>,
}

impl Launch for Starter {
    type Link = Script;

    fn launch(&mut self) -> Result<Script, LinkError> {
        let text = fs::read_to_string(&self.transcript).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Ok(Script {
            lines: lines.collect(),
            sent: VecDeque::new(),
            ids: HashMap::new(),
            line: Vec::new(),
            silences: 0,
            steps: Rc::clone(&self.steps),
        })
    }

    fn stop(&mut self, _: &mut Script, _: Duration) -> Option<Exit> {
        Some(Exit {
            code: Some(1),
            signal: None,
            stderr: "first\nit hurts\n".to_string(),
        })
    }
}

/// A log of which a line more is there with each step of the conversation, and the rest when nothing else comes.
#[derive(Debug)]
struct Growing {
    lines: Rc<Vec<Vec<u8>>>,
    given: usize,
    looks: usize,
    steps: Rc<Cell<u32>>,
}

impl LogSource for Growing {
    fn follow(&mut self, _: &str) -> io::Result<bool> {
        Ok(true)
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> io::Result<()> {
        self.looks += 1;
        let until = (self.steps.get() as usize + self.looks).min(self.lines.len());
        for line in &self.lines[self.given.min(until)..until] {
            // Some lines are a sub-agent's.
            let is_sub_agents = line.len() % 7 == 0;
            on_line(if is_sub_agents { "agent-0" } else { MAIN }, line);
        }
        self.given = self.given.max(until);
        Ok(())
    }

    fn place(&self) -> String {
        "the tape".to_string()
    }

    // No recording hands over a file.
    fn owns(&self, _: &str) -> bool {
        false
    }
}

#[test]
fn every_recorded_conversation_over_wire_comes_again_from_its_tape() {
    let mut ended_well = 0;
    let rust = fixtures("transcripts", "rust_");
    for transcript in fixtures("transcripts", "wire_").into_iter().chain(rust) {
        for permissions in [Permissions::Nothing, Permissions::All] {
            let recorder = recorder(Transport::Wire);
            let launcher = Starter {
                transcript: transcript.clone(),
                steps: Rc::default(),
            };
            let mut client = WireLlmClient::new(config(), launcher)
                .with_permissions(permissions.clone())
                .recorded(&recorder)
                .with_timer(ManualTimer::default());
            let first = ask(&mut client, "go");
            let player = player(&recorder.take().unwrap());
            let mut client = WireLlmClient::replay(config(), &player).with_permissions(permissions);
            assert_eq!(ask(&mut client, "go"), first, "{}", transcript.display());
            assert_eq!(player.finish(), Ok(()), "{}", transcript.display());
            ended_well += u32::from(first.outcome.is_ok());
        }
    }
    assert!(ended_well > 20, "{ended_well}");
}

/// A session's file that says always the same: the answer, or that the prompt is lost.
struct Kept(Option<&'static str>);

impl ContextSource for Kept {
    fn answer(&self, _: &str) -> Option<String> {
        self.0.map(str::to_string)
    }

    fn has_lost_prompt(&self) -> bool {
        self.0.is_none()
    }
}

#[test]
fn what_was_taken_from_the_sessions_file_comes_again_without_the_file() {
    for (name, kept, facts) in [
        ("wire_err_cutonce", Some("whole"), 2),
        ("wire_autocompact", None, 1),
    ] {
        let recorder = recorder(Transport::Wire);
        let launcher = Starter {
            transcript: fixtures("transcripts", name).remove(0),
            steps: Rc::default(),
        };
        let mut client = WireLlmClient::new(config(), launcher)
            .with_context(Kept(kept))
            .recorded(&recorder)
            .with_timer(ManualTimer::default());
        let first = ask(&mut client, "go");
        match (&first.outcome, kept) {
            (Ok(response), Some(kept)) => assert_eq!(response.text, kept),
            (Err(error), None) => assert_eq!(error.kind(), "context length exceeded"),
            other => panic!("{other:?}"),
        }
        let tape = recorder.take().unwrap();
        let whole = player(&tape);
        let mut client = WireLlmClient::replay(config(), &whole);
        assert_eq!(ask(&mut client, "go"), first, "{name}");
        assert_eq!(whole.finish(), Ok(()), "{name}");
        // A tape from before this was recorded plays as it did.
        let text = String::from_utf8(tape).unwrap();
        let is_fact = |line: &&str| line.starts_with("{\"on\":\"lo");
        let (facts_found, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(is_fact);
        assert_eq!(facts_found.len(), facts, "{facts_found:?}");
        let older = player(rest.join("\n").as_bytes());
        let ran = ask(&mut WireLlmClient::replay(config(), &older), "go");
        assert_ne!(ran, first, "{name}");
        if kept.is_some() {
            assert_eq!(ran.outcome.unwrap().text, "part one whole");
            assert_eq!(older.finish(), Ok(()));
        }
    }
}

#[test]
fn every_recorded_conversation_over_acp_comes_again_with_its_log() {
    let logs = fixtures("session_logs", "code_");
    let mut ended_well = 0;
    for (at, transcript) in fixtures("transcripts", "acp_").into_iter().enumerate() {
        for shift in 0..2 {
            let recorder = recorder(Transport::Acp);
            let steps: Rc<Cell<u32>> = Rc::default();
            let log = fs::read(&logs[(at + shift) % logs.len()]).unwrap();
            let lines = log.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
            let source = Growing {
                lines: Rc::new(lines.collect()),
                given: 0,
                looks: 0,
                steps: Rc::clone(&steps),
            };
            let launcher = Starter {
                transcript: transcript.clone(),
                steps,
            };
            let mut client =
                AcpLlmClient::new(config(), launcher, Options::default(), &KIMI_CODE, "")
                    .with_logs(source)
                    .recorded(&recorder)
                    .with_timer(ManualTimer::default());
            let first = ask(&mut client, "go");
            let bytes = recorder.take().unwrap();
            let player = player(&bytes);
            let mut client =
                AcpLlmClient::replay(config(), &player, Options::default(), &KIMI_CODE);
            let what = format!(
                "{}: {}",
                transcript.display(),
                String::from_utf8_lossy(&bytes)
            );
            assert_eq!(ask(&mut client, "go"), first, "{what}");
            assert_eq!(player.finish(), Ok(()), "{what}");
            ended_well += u32::from(first.outcome.is_ok());
        }
    }
    assert!(ended_well > 20, "{ended_well}");
}

#[test]
fn an_agents_tape_is_played_to_the_same_question_only() {
    let recorder = recorder(Transport::Wire);
    let transcript = fixtures("transcripts", "wire_plain").remove(0);
    let launcher = Starter {
        transcript,
        steps: Rc::default(),
    };
    let mut client = WireLlmClient::new(config(), launcher).recorded(&recorder);
    ask(&mut client, "go").outcome.unwrap();
    let player = player(&recorder.take().unwrap());
    let ran = ask(&mut WireLlmClient::replay(config(), &player), "stop");
    let error = ran.outcome.unwrap_err();
    assert!(!error.is_retryable());
    let told = error.to_string();
    assert!(
        told.contains(
            r#"the run differs: $.params.user_input: from character 0 on "stop", and "go" on the tape"#
        ),
        "{told}"
    );
    assert!(told.contains(&player.finish().unwrap_err().to_string()));
    // A second question where the tape has one.
    let player = player_of_example();
    let mut client = HttpLlmClient::replay(config(), &player);
    ask(&mut client, EXAMPLE_QUESTION).outcome.unwrap();
    let error = ask(&mut client, "And?").outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "protocol: tape: it is at its end: a request is sent"
    );
}

fn player_of_example() -> Player {
    Player::new(Tape::example().unwrap())
}

#[test]
fn the_example_answers_and_its_usage_is_what_omk_counts() {
    let player = player_of_example();
    let ran = ask(
        &mut HttpLlmClient::replay(config(), &player),
        EXAMPLE_QUESTION,
    );
    assert_eq!(player.finish(), Ok(()));
    let answer = ran.outcome.unwrap();
    assert!(
        answer.is_complete() && answer.warnings.is_empty(),
        "{answer:?}"
    );
    assert_eq!(answer.request_id.as_deref(), Some("example-1"));
    let catalog = Catalog::builtin();
    let estimator = CostEstimator::new(&catalog, "kimi-k3");
    let overhead = estimator
        .overhead(&[crate::llm::types::Role::User])
        .unwrap();
    let thinking = "Tokens are what is billed, so counting them first gives the price.";
    let input = estimator.count(EXAMPLE_QUESTION) + overhead.tokens;
    let output = estimator.count(thinking) + estimator.count(&answer.text);
    assert_eq!(
        (answer.usage.input, answer.usage.output),
        (Some(input), Some(output))
    );
}

const TEXT: &str = "data: {\"model\":\"kimi-k3\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"H\u{e9}llo\"}}]}\n\n";
const THOUGHT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

fn stream(body: &str) -> Reply {
    ok(
        "200 OK",
        "content-type: text/event-stream\r\nmsh-request-id: r-1\r\n",
        body,
    )
}

/// An answer that announces more than comes.
fn cut(body: &str) -> Reply {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n";
    Reply::Bytes(format!("{head}{body}").into_bytes())
}

#[test]
fn every_exchange_over_http_comes_again_from_its_tape() {
    let busy = || {
        let body = r#"{"error":{"type":"engine_overloaded_error","message":"busy"}}"#;
        ok(
            "429 Too Many",
            "retry-after: 2\r\nx-request-id: r-0\r\n",
            body,
        )
    };
    let scripts: Vec<Vec<Reply>> = vec![
        vec![stream(&[THOUGHT, TEXT, LAST].concat())],
        vec![busy(), busy(), stream(&[TEXT, LAST].concat())],
        vec![cut(""), stream(&[TEXT, LAST].concat())],
        vec![cut(TEXT)],
        vec![stream(TEXT)],
        vec![ok("401 Unauthorized", "", r#"{"error":{"message":"no"}}"#)],
        vec![
            ok(
                "502 Bad Gateway",
                "content-type: text/html\r\n",
                "<html>bad",
            ),
            stream(&[TEXT, LAST].concat()),
        ],
        vec![ok("200 OK", "content-type: text/html\r\n", "<html>log in")],
        vec![ok(
            "200 OK",
            "content-type: application/json\r\n",
            r#"{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}"#,
        )],
        vec![
            stream("data: {\"error\":{\"type\":\"server_error\",\"message\":\"boom\"}}\n\n"),
            stream(&[TEXT, LAST].concat()),
        ],
        vec![Reply::Bytes(Vec::new()), Reply::Bytes(b"nonsense".to_vec())],
    ];
    let mut seen = Vec::new();
    for mut replies in scripts {
        replies.reverse();
        let server = Server::new(move |_| {
            replies
                .pop()
                .unwrap_or_else(|| ok("418 Off Script", "", ""))
        });
        let recorder = recorder(Transport::Http);
        let http = Http::new(HttpConfig::default()).unwrap();
        let key = Some(Secret::new("sk-1234567890"));
        let mut client = HttpLlmClient::new(config(), &server.url("/v1"), key, http)
            .recorded(&recorder)
            .with_timer(ManualTimer::default());
        let first = ask(&mut client, "hi");
        let bytes = recorder.take().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            !text.contains("127.0.0.1") && !text.contains("authorization"),
            "{text}"
        );
        let player = player(&bytes);
        let mut client = HttpLlmClient::replay(config(), &player);
        assert_eq!(ask(&mut client, "hi"), first, "{text}");
        assert_eq!(player.finish(), Ok(()), "{text}");
        seen.push(match first.outcome {
            Ok(answer) => format!("{} {}", answer.text, answer.retries.len()),
            Err(error) => error.kind().to_string(),
        });
    }
    assert_eq!(
        seen,
        [
            "H\u{e9}llo 0",
            "H\u{e9}llo 2",
            "H\u{e9}llo 1",
            "incomplete answer",
            "incomplete answer",
            "authentication",
            "H\u{e9}llo 1",
            "protocol",
            "whole 0",
            "H\u{e9}llo 1",
            "protocol",
        ]
    );
}

#[test]
fn several_questions_are_one_tape_and_one_that_is_not_asked_is_missed() {
    let server = Server::new(|_| stream(&[TEXT, LAST].concat()));
    let recorder = recorder(Transport::Http);
    let http = Http::new(HttpConfig::default()).unwrap();
    let mut client =
        HttpLlmClient::new(config(), &server.url("/v1"), None, http).recorded(&recorder);
    ask(&mut client, "one").outcome.unwrap();
    ask(&mut client, "two").outcome.unwrap();
    let bytes = recorder.take().unwrap();
    let whole = player(&bytes);
    let mut client = HttpLlmClient::replay(config(), &whole);
    ask(&mut client, "one").outcome.unwrap();
    let left = whole.finish().unwrap_err().to_string();
    assert_eq!(
        left,
        "tape: line 5: the run is over, and the tape goes on: a request was sent to chat/completions"
    );
    ask(&mut client, "two").outcome.unwrap();
    assert_eq!(whole.finish(), Ok(()));
    let other = player(&bytes);
    let mut client = HttpLlmClient::replay(config(), &other);
    let error = ask(&mut client, "two").outcome.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), ("protocol", false));
    assert_eq!(
        other.finish().unwrap_err().to_string(),
        "tape: line 2: the run differs: $.messages[0].content: from character 0 on \"two\", and \"one\" on the tape"
    );
}

#[test]
fn a_run_that_ended_by_its_deadline_ends_by_it_again_without_a_wait() {
    // The agent greets and is silent for ever.
    struct Mute(Option<Vec<u8>>, Shared);
    #[derive(Clone, Default)]
    struct Shared(Rc<Cell<Duration>>);
    impl Timer for Shared {
        fn elapsed(&self) -> Duration {
            self.0.get()
        }
        fn sleep(&mut self, duration: Duration) {
            self.0.set(self.0.get() + duration);
        }
        fn jitter(&mut self) -> u16 {
            0
        }
    }
    impl Link for Mute {
        fn send(&mut self, _: &str, _: Instant) -> Result<(), LinkError> {
            Ok(())
        }
        fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError> {
            match self.0.take() {
                Some(line) => {
                    self.0 = None;
                    let hello: Value = serde_json::from_slice(&line).unwrap();
                    assert_eq!(hello["id"], "1");
                    Ok(Received::Line(
                        br#"{"jsonrpc":"2.0","id":"1","result":{"protocol_version":"1.10"}}"#,
                    ))
                }
                None => {
                    let wait = deadline.saturating_duration_since(Instant::now());
                    self.1.sleep(wait + Duration::from_millis(1));
                    Ok(Received::Timeout)
                }
            }
        }
    }
    struct Muted(Shared);
    impl Launch for Muted {
        type Link = Mute;
        fn launch(&mut self) -> Result<Mute, LinkError> {
            Ok(Mute(Some(br#"{"id":"1"}"#.to_vec()), self.0.clone()))
        }
        fn stop(&mut self, _: &mut Mute, _: Duration) -> Option<Exit> {
            None
        }
    }
    let recorder = recorder(Transport::Wire);
    let time = Shared::default();
    let mut client = WireLlmClient::new(config(), Muted(time.clone()))
        .recorded(&recorder)
        .with_timer(time);
    let first = ask(&mut client, "go");
    assert_eq!(first.outcome.as_ref().unwrap_err().kind(), "timeout");
    let player = player(&recorder.take().unwrap());
    let mut client = WireLlmClient::replay(config(), &player);
    assert_eq!(ask(&mut client, "go"), first);
    assert_eq!(player.finish(), Ok(()));
}
