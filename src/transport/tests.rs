//! Every recorded conversation, played to the state machines.
//!
//! The recorded client's part is taken by our own machine: what it sends is held against what was sent then, and the
//! agent's lines are given to it with the ids that it chose. What comes of each file stands in `expected.txt`.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::acp;
use super::acp::Acp;
use super::agent::Answer;
use super::agent::Answered;
use super::agent::Ask;
use super::agent::AskId;
use super::agent::Event;
use super::agent::Outcome;
use super::agent::Part;
use super::agent::Prompt;
use super::agent::Signal;
use super::agent::UsageSum;
use super::jsonrpc;
use super::wire;
use super::wire::Wire;

/// Either machine.
enum Machine {
    Wire(Box<Wire>),
    Acp(Box<Acp>),
}

/// Calls the same method on either.
macro_rules! either {
    ($machine:expr, $m:ident => $call:expr) => {
        match $machine {
            Machine::Wire($m) => $call,
            Machine::Acp($m) => $call,
        }
    };
}

struct Replay {
    machine: Machine,
    started: bool,
    in_turn: bool,
    /// Recorded ids of requests to ours.
    ids: HashMap<String, String>,
    /// Our id of a request whose recording was not kept.
    unseen: Option<String>,
    /// Lines that our machine sends by itself and that the recorded client is yet to send.
    sent: VecDeque<Value>,
    asks: Vec<Ask>,
    asked: usize,
    noise: usize,
    superseded: usize,
    retries: usize,
    report: String,
}

/// The key of an id, so that 1 and "1" differ.
fn key(id: &Value) -> String {
    id.to_string()
}

impl Replay {
    fn new(name: &str, lines: &[Value]) -> Replay {
        let before_prompt: Vec<&Value> = lines
            .iter()
            .filter(|line| line["dir"] == "out")
            .map(|line| &line["msg"])
            .take_while(|msg| msg["method"] != "session/prompt")
            .collect();
        let find = |method: &str| {
            let mut all = before_prompt.iter();
            all.find(|msg| msg["method"] == method)
                .map(|msg| &msg["params"])
        };
        let machine = if name.starts_with("acp_") || name == "legacy_acp" {
            let resumed = find("session/resume").or(find("session/load"));
            let session = resumed.map_or(acp::Session::New, |params| {
                acp::Session::Resume(params["sessionId"].as_str().unwrap().to_string())
            });
            let asks = find("session/set_mode").is_some_and(|params| params["modeId"] == "default");
            Machine::Acp(Box::new(Acp::new(acp::Options {
                client_version: "0.1".to_string(),
                directory: "/project".to_string(),
                session,
                asks,
                ..acp::Options::default()
            })))
        } else {
            Machine::Wire(Box::new(Wire::new(wire::Options {
                client_version: "0.1".to_string(),
            })))
        };
        Replay {
            machine,
            started: false,
            in_turn: false,
            ids: HashMap::new(),
            unseen: None,
            sent: VecDeque::new(),
            asks: Vec::new(),
            asked: 0,
            noise: 0,
            superseded: 0,
            retries: 0,
            report: format!("{name}\n"),
        }
    }

    fn play(mut self, lines: &[Value]) -> String {
        for line in lines {
            match (line["dir"].as_str(), &line["msg"]) {
                (Some("out"), Value::Null) => {
                    self.unseen = Some(self.prompt(&Prompt::text("5 MB")))
                }
                (Some("out"), msg) => self.on_out(msg),
                (Some("in"), Value::Null) => {}
                (Some("in"), msg) => match msg["_raw"].as_str() {
                    Some(raw) => self.receive(raw),
                    None => self.on_in(msg.clone()),
                },
                other => panic!("{other:?}"),
            }
        }
        let last = either!(&mut self.machine, m => m.closed());
        for signal in last {
            self.on_signal(signal);
        }
        self.report
    }

    fn on_out(&mut self, msg: &Value) {
        let id = key(&msg["id"]);
        match msg["method"].as_str() {
            Some("initialize") if !self.started => {
                self.started = true;
                let ours = parse(&either!(&mut self.machine, m => m.start()));
                self.ids
                    .insert(id, ours["id"].as_str().unwrap().to_string());
            }
            Some("prompt" | "session/prompt") if !self.in_turn && self.is_our_session(msg) => {
                let prompt = prompt_of(&msg["params"]);
                let ours = self.prompt(&prompt);
                self.ids.insert(id, ours);
            }
            Some("cancel" | "session/cancel") => {
                let line = either!(&mut self.machine, m => m.cancel());
                if let Some(line) = line {
                    let ours = parse(&line);
                    assert_eq!(ours["method"], msg["method"]);
                    if let Some(ours) = ours["id"].as_str() {
                        self.ids.insert(id, ours.to_string());
                    }
                }
            }
            Some(method) => {
                let method = method.replace("session/load", "session/resume");
                let at = self.sent.iter().position(|ours| ours["method"] == method);
                if let Some(ours) = at.and_then(|at| self.sent.remove(at)) {
                    let mut theirs = msg["params"].clone();
                    if let Some(servers) = theirs.get_mut("mcpServers") {
                        // Ours are never any.
                        *servers = json!([]);
                    }
                    assert_eq!(ours["params"], theirs, "{method}");
                    self.ids
                        .insert(id, ours["id"].as_str().unwrap().to_string());
                }
            }
            None => self.on_out_answer(msg),
        }
    }

    /// The recorded client answers an ask: ours decides the same, and says it in the same way.
    fn on_out_answer(&mut self, msg: &Value) {
        let id = key(&msg["id"]);
        let Some(at) = self.asks.iter().position(|ask| ask.id.to_string() == id) else {
            return;
        };
        let ask = self.asks.remove(at);
        let (answer, comparable) = decision(&msg["result"]);
        let line = self.answer(&ask.id, &answer).unwrap();
        if comparable {
            let theirs = msg.clone();
            let ours = parse(&line);
            assert_eq!(ours, theirs);
        }
    }

    fn answer(&mut self, id: &AskId, answer: &Answer) -> Option<String> {
        either!(&mut self.machine, m => m.answer(id, answer))
    }

    fn is_our_session(&self, msg: &Value) -> bool {
        match &self.machine {
            Machine::Wire(_) => true,
            Machine::Acp(acp) => msg["params"]["sessionId"] == acp.session(),
        }
    }

    fn prompt(&mut self, prompt: &Prompt) -> String {
        self.in_turn = true;
        let line = either!(&mut self.machine, m => m.prompt(prompt));
        parse(&line)["id"].as_str().unwrap().to_string()
    }

    fn on_in(&mut self, mut msg: Value) {
        let is_answer = msg.get("method").is_none() && !msg["id"].is_null();
        if is_answer {
            let ours = self.ids.remove(&key(&msg["id"]));
            let ours = ours.or_else(|| self.unseen.take());
            msg["id"] = json!(ours.unwrap_or_else(|| "none of ours".to_string()));
        }
        self.receive(&msg.to_string());
    }

    fn receive(&mut self, line: &str) {
        let is_noise = matches!(jsonrpc::decode(line.as_bytes()), jsonrpc::Line::Noise);
        self.noise += usize::from(is_noise);
        let signals = either!(&mut self.machine, m => m.receive(line.as_bytes()));
        for signal in signals {
            self.on_signal(signal);
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Send(line) => self.sent.push_back(parse(&line)),
            Signal::Ready(peer) => {
                let version = peer.version.unwrap_or_default();
                let protocol = peer.protocol.unwrap_or_default();
                writeln!(
                    self.report,
                    "  ready: version {version}, protocol {protocol}"
                )
                .unwrap();
            }
            Signal::Event(Event::Superseded { .. }) => self.superseded += 1,
            Signal::Event(Event::Retry(_)) => self.retries += 1,
            Signal::Event(_) => {}
            Signal::Ask(ask) => {
                self.asked += 1;
                self.asks.push(ask);
            }
            Signal::Ended(outcome) => self.on_end(&show(&outcome)),
            Signal::Answered(answered) => self.on_end(match answered {
                Answered::EndTurn => "says end of turn",
                Answered::Cancelled => "says cancelled",
                Answered::Refused => "says refused",
                Answered::Other(_) => "says something else",
            }),
            Signal::Failed(failure) => {
                let kind = failure.kind;
                writeln!(self.report, "  no session: {kind:?}: {failure}").unwrap();
            }
        }
    }

    fn on_end(&mut self, outcome: &str) {
        self.in_turn = false;
        self.asks.clear();
        write!(self.report, "  {outcome}").unwrap();
        if let Machine::Wire(wire) = &self.machine {
            write!(self.report, "; usage {}", show_usage(&wire.usage())).unwrap();
        }
        let counts = [
            ("asks", &mut self.asked),
            ("retries", &mut self.retries),
            ("superseded", &mut self.superseded),
            ("noise", &mut self.noise),
        ];
        for (name, count) in counts {
            match std::mem::take(count) {
                0 => {}
                count => write!(self.report, "; {name} {count}").unwrap(),
            }
        }
        let text = either!(&self.machine, m => m.text());
        let shown = match text.chars().count() {
            0..=60 => format!("{text:?}"),
            count => {
                let start: String = text.chars().take(30).collect();
                format!("{start:?}... of {count} characters")
            }
        };
        writeln!(self.report, "; text {shown}").unwrap();
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Finished(_) => "finished".to_string(),
        Outcome::GaveUp { reason } => format!("gave up: {reason}"),
        Outcome::DeadEnd => "dead end".to_string(),
        Outcome::Refused => "refused".to_string(),
        Outcome::Cancelled => "cancelled".to_string(),
        Outcome::MaxSteps { steps } => format!("max steps {steps:?}"),
        Outcome::Failed(failure) => format!(
            "failed: {:?}, status {:?}, retryable {}, may have charged {}",
            failure.kind, failure.status, failure.retryable, failure.may_have_charged
        ),
    }
}

fn show_usage(usage: &UsageSum) -> String {
    let told = usage.told;
    let figures = format!(
        "{}+{}+{}/{}",
        told.input, told.cache_read, told.cache_write, told.output
    );
    match (usage.total(), usage.calls) {
        (Some(_), _) => figures,
        (None, 0) => "unknown".to_string(),
        (None, _) => format!("unknown, at least {figures}"),
    }
}

fn prompt_of(params: &Value) -> Prompt {
    let input = params.get("user_input").unwrap_or(&params["prompt"]);
    let part = |part: &Value| match part["type"].as_str() {
        Some("image") => Some(Part::Image {
            mime: part["mimeType"].as_str()?.to_string(),
            base64: part["data"].as_str()?.to_string(),
        }),
        _ => Some(Part::Text(part["text"].as_str()?.to_string())),
    };
    match input {
        Value::String(text) => Prompt::text(text.as_str()),
        Value::Array(parts) => Prompt {
            parts: parts.iter().filter_map(part).collect(),
        },
        _ => Prompt::text(""),
    }
}

/// What the recorded client decided, and whether it said it in a way that we would use.
fn decision(result: &Value) -> (Answer, bool) {
    let deny = Answer::Deny { reason: None };
    let words = |key: &str| result[key].as_str();
    if let Some(option) = result["outcome"]["optionId"].as_str() {
        return match option {
            "approve_once" | "plan_approve" => (Answer::Allow, true),
            // Nobody is asked once for all, and nobody answers a question.
            "approve_always" => (Answer::Allow, false),
            "plan_revise" => {
                let reason = Some("again".to_string());
                (Answer::Deny { reason }, true)
            }
            option => (deny, !option.contains("_opt_")),
        };
    }
    match (words("response"), result.get("answers")) {
        (Some("approve"), _) => (Answer::Allow, true),
        (Some("approve_for_session"), _) => (Answer::Allow, false),
        (Some("reject"), _) => {
            let reason = words("feedback").map(str::to_string);
            (Answer::Deny { reason }, true)
        }
        (_, Some(answers)) => (deny, *answers == json!({})),
        _ => (deny, false),
    }
}

#[test]
fn every_recorded_conversation_comes_to_what_is_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    assert!(files.len() > 150);
    let mut reports = String::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<Value> = text.lines().map(parse).collect();
        reports.push_str(&Replay::new(name, &lines).play(&lines));
    }
    let expected = directory.join("expected.txt");
    if std::env::var_os("OMK_BLESS").is_some() {
        fs::write(&expected, &reports).unwrap();
    }
    let expected = fs::read_to_string(expected).unwrap();
    for (ours, theirs) in reports.lines().zip(expected.lines()) {
        assert_eq!(ours, theirs, "OMK_BLESS=1 writes the file anew");
    }
    assert_eq!(reports.lines().count(), expected.lines().count());
}

/// Over a real child: this very test binary, in which the test below plays the agent.
#[cfg(unix)]
mod over_a_child {
    use super::*;

    use std::io;
    use std::io::BufRead;
    use std::time::Duration;
    use std::time::Instant;

    use crate::transport::child::Child;
    use crate::transport::child::Program;
    use crate::transport::link::Link;
    use crate::transport::link::Received;

    /// Names the recording that the agent plays.
    const PLAY: &str = "OMK_TEST_PLAY";

    /// The agent's part: waits for a line where one was sent then, and says what was said then. Does nothing in a plain
    /// run of the tests. What the harness prints around it is noise, which an agent's output may hold.
    #[test]
    fn plays_the_agent_when_told_to() {
        let Ok(name) = std::env::var(PLAY) else {
            return;
        };
        let mut ids = HashMap::new();
        // The harness may have begun a line of its own.
        println!();
        let mut said = io::stdin().lock().lines();
        for line in recording(&name) {
            let mut msg = line["msg"].clone();
            if line["dir"] == "out" {
                let heard = parse(&said.next().unwrap().unwrap());
                ids.insert(key(&msg["id"]), heard["id"].clone());
                continue;
            }
            if msg.get("method").is_none() {
                msg["id"] = ids[&key(&msg["id"])].clone();
            }
            println!("{msg}");
        }
        // An agent ends when its input does.
        assert!(said.next().is_none());
    }

    fn recording(name: &str) -> Vec<Value> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
        let text = fs::read_to_string(directory.join(format!("{name}.jsonl"))).unwrap();
        text.lines().map(parse).collect()
    }

    fn agent(name: &str) -> Child {
        let mut program = Program::new(std::env::current_exe().unwrap());
        let test = "transport::tests::over_a_child::plays_the_agent_when_told_to";
        program.args = vec![test.into(), "--exact".into(), "--nocapture".into()];
        program.env = vec![(PLAY.into(), Some(name.into()))];
        Child::spawn(&program).unwrap()
    }

    /// Asks once, allowing everything, and gives back what the last signal was.
    fn converse(child: &mut Child, mut machine: Machine) -> (Signal, Machine) {
        let deadline = || Instant::now() + Duration::from_secs(60);
        let first = either!(&mut machine, m => m.start());
        child.send(&first, deadline()).unwrap();
        loop {
            let signals = match child.receive(deadline()).unwrap() {
                Received::Line(line) => either!(&mut machine, m => m.receive(line)),
                Received::Timeout => panic!("the agent says nothing"),
                Received::Eof => either!(&mut machine, m => m.closed()).into_iter().collect(),
            };
            for signal in signals {
                let line = match signal {
                    Signal::Send(line) => line,
                    Signal::Ready(_) => {
                        either!(&mut machine, m => m.prompt(&Prompt::text("go")))
                    }
                    Signal::Ask(ask) => {
                        either!(&mut machine, m => m.answer(&ask.id, &Answer::Allow)).unwrap()
                    }
                    Signal::Event(_) => continue,
                    last => return (last, machine),
                };
                child.send(&line, deadline()).unwrap();
            }
        }
    }

    #[test]
    fn a_turn_with_an_approval_goes_through_on_both_protocols() {
        let machines = [
            (
                "wire_approve",
                Machine::Wire(Box::new(Wire::new(wire::Options::default()))),
            ),
            (
                "acp_approve",
                Machine::Acp(Box::new(Acp::new(acp::Options::default()))),
            ),
        ];
        for (name, machine) in machines {
            let mut child = agent(name);
            let (last, machine) = converse(&mut child, machine);
            assert!(matches!(last, Signal::Ended(_) | Signal::Answered(_)));
            assert_eq!(either!(&machine, m => m.text()), "done", "{name}");
            let exit = child.stop(Duration::from_secs(60));
            assert_eq!(exit.code, Some(0), "{exit}");
        }
    }

    #[test]
    fn an_agent_that_ends_in_mid_turn_is_a_failure() {
        let mut child = agent("wire_huge_answer5m_many");
        let machine = Machine::Wire(Box::new(Wire::new(wire::Options::default())));
        let (last, _) = converse(&mut child, machine);
        let Signal::Ended(Outcome::Failed(failure)) = last else {
            panic!("{last:?}");
        };
        assert_eq!(failure.kind, crate::transport::agent::FailureKind::Exited);
    }
}
