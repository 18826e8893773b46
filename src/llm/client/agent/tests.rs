//! Whole runs of both clients against what agents really said: recorded conversations, and logs that grow as they did.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::llm::client::AcpLlmClient;
use crate::llm::client::LlmClient;
use crate::llm::client::Rule;
use crate::llm::client::Stop;
use crate::llm::client::WireLlmClient;
use crate::llm::retry::RetryPolicy;
use crate::llm::types::DenialKind;
use crate::runtime::clock::ManualTimer;
use crate::transport::acp::Options;
use crate::transport::agents::KIMI_CODE;

/// A time that client and agent share.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<ManualTimer>>);

impl Timer for Shared {
    fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed()
    }

    fn sleep(&mut self, duration: Duration) {
        self.0.borrow_mut().sleep(duration);
    }

    fn jitter(&mut self) -> u16 {
        0
    }
}

/// A recorded conversation as a link: waits for a line where one was sent then, and says what was said then, with the ids
/// that our side chose. Silence takes the time that it is waited for.
struct Recording {
    lines: VecDeque<Value>,
    sent: VecDeque<Value>,
    ids: HashMap<String, Value>,
    /// Whether the agent ends, rather than waits, where ours does not send what was sent then.
    ends: bool,
    /// What the agent writes down once it is asked.
    logs: Vec<(PathBuf, Vec<u8>)>,
    line: Vec<u8>,
    timer: Shared,
    /// What was answered to asks, over all attempts.
    answers: Rc<RefCell<Vec<Value>>>,
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn fixture(path: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join("tests/fixtures").join(path)).unwrap()
}

fn recording(name: &str) -> VecDeque<Value> {
    let text = String::from_utf8(fixture(&format!("transcripts/{name}.jsonl"))).unwrap();
    let all = text.lines().map(parse);
    // Ours always sets the mode, and is answered in any case.
    all.filter(|line| line["msg"]["id"] != "mode").collect()
}

impl Link for Recording {
    fn send(&mut self, line: &str, _: Instant) -> Result<(), LinkError> {
        let line = parse(line);
        if line["method"] == "session/prompt" {
            for (path, bytes) in self.logs.drain(..) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        if line["method"] == "session/set_mode" {
            assert_eq!(line["params"]["modeId"], "default");
            self.ids
                .insert(r#""our mode""#.to_string(), line["id"].clone());
            let answer = json!({"dir": "in", "msg": {"id": "our mode", "result": {}}});
            self.lines.push_front(answer);
            return Ok(());
        }
        if let Some(result) = line.get("result") {
            self.answers.borrow_mut().push(result.clone());
        }
        self.sent.push_back(line);
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError> {
        while let Some(line) = self.lines.front() {
            let mut message = line["msg"].clone();
            if line["dir"] == "out" {
                let Some(ours) = self.sent.pop_front() else {
                    break;
                };
                assert_eq!(ours["method"], message["method"], "{ours}");
                self.ids
                    .insert(message["id"].to_string(), ours["id"].clone());
                self.lines.pop_front();
                continue;
            }
            if message.get("method").is_none() {
                message["id"] = self.ids[&message["id"].to_string()].clone();
            }
            self.line = message.to_string().into_bytes();
            self.lines.pop_front();
            return Ok(Received::Line(&self.line));
        }
        if self.ends {
            return Ok(Received::Eof);
        }
        // A moment more, as part of the wait has passed before it began.
        let wait = deadline.saturating_duration_since(Instant::now());
        self.timer.sleep(wait + Duration::from_millis(1));
        Ok(Received::Timeout)
    }
}

/// Starts recordings, one for each attempt.
struct Player {
    links: VecDeque<Recording>,
    started: usize,
    /// How many there are now.
    running: Rc<Cell<usize>>,
}

impl Launch for &mut Player {
    type Link = Recording;

    fn launch(&mut self) -> Result<Recording, LinkError> {
        let link = self.links.pop_front().ok_or_else(|| LinkError::Spawn {
            program: "kimi".to_string(),
            detail: "no such file".to_string(),
            not_found: true,
        })?;
        self.started += 1;
        self.running.update(|running| running + 1);
        Ok(link)
    }

    fn stop(&mut self, _: &mut Recording, _: Duration) -> Option<Exit> {
        self.running.update(|running| running - 1);
        Some(Exit {
            code: Some(1),
            signal: None,
            stderr: "it hurts".to_string(),
        })
    }
}

/// What one run is given.
struct Case {
    /// Recordings, one for each attempt that may be made.
    names: Vec<&'static str>,
    /// The logs that go with an ACP recording, by agent, and whether the session is to be found at all.
    logs: Vec<(&'static str, &'static str)>,
    /// The main agent's log where no fixture will do.
    written: Option<String>,
    has_session: bool,
    /// The conversation as kimi-cli keeps it, if it is to be found.
    kept: Option<&'static str>,
    permissions: Permissions,
    budget: u64,
    /// Stop when an event's note begins like this.
    stop_at: Option<&'static str>,
    ends: bool,
}

impl Case {
    fn of(name: &'static str) -> Case {
        Case {
            names: vec![name],
            logs: Vec::new(),
            written: None,
            has_session: true,
            kept: None,
            permissions: Permissions::Nothing,
            budget: u64::MAX,
            stop_at: None,
            ends: false,
        }
    }

    fn logged(name: &'static str, log: &'static str) -> Case {
        Case {
            logs: vec![("main", log)],
            ..Case::of(name)
        }
    }

    fn allowing(self, permissions: Permissions) -> Case {
        Case {
            permissions,
            ..self
        }
    }

    fn run(self) -> Ran {
        let timer = Shared::default();
        let home = Home::new();
        let answers = Rc::new(RefCell::new(Vec::new()));
        let links = self.names.iter().map(|name| {
            let lines = recording(name);
            let mut sessions = lines.iter().map(|line| &line["msg"]["result"]["sessionId"]);
            let session = sessions
                .find_map(Value::as_str)
                .filter(|_| self.has_session);
            let logs = session.iter().flat_map(|session| {
                let directory = home.0.join("sessions/wd_x").join(session);
                fs::create_dir_all(&directory).unwrap();
                self.logs.iter().map(move |(agent, log)| {
                    let path = directory.join("agents").join(agent).join("wire.jsonl");
                    (path, fixture(&format!("session_logs/{log}.jsonl")))
                })
            });
            let mut logs: Vec<(PathBuf, Vec<u8>)> = logs.collect();
            if let (Some(session), Some(log)) = (session, &self.written) {
                let path = home.0.join("sessions/wd_x").join(session);
                let path = path.join("agents/main/wire.jsonl");
                logs.push((path, log.clone().into_bytes()));
            }
            Recording {
                lines,
                sent: VecDeque::new(),
                ids: HashMap::new(),
                ends: self.ends,
                logs,
                line: Vec::new(),
                timer: timer.clone(),
                answers: Rc::clone(&answers),
            }
        });
        let running = Rc::new(Cell::new(0));
        let mut player = Player {
            links: links.collect(),
            started: 0,
            running: running.clone(),
        };
        let mut seen: Vec<String> = Vec::new();
        let mut observer = |event: Event<'_>| {
            let note = match event {
                Event::Phase(phase) => phase.name().to_string(),
                Event::Step(step) => format!("step {step}"),
                Event::Text(text) => format!("{text:?}"),
                Event::Thinking(text) => format!("({text})"),
                Event::Superseded => "superseded".to_string(),
                Event::Retry(retry) => format!("retry {}/{}", retry.attempt, retry.of),
                Event::Usage(usage) => format!("usage {}", usage.total()),
                Event::Contradiction(found) => found.detail.clone(),
                Event::Answered => {
                    assert_eq!(
                        running.get(),
                        1,
                        "nobody waits for the agent's end to hear its answer"
                    );
                    "answered".to_string()
                }
                Event::Tool(_)
                | Event::Decision(_)
                | Event::ToolDone(_)
                | Event::CallStarted { .. }
                | Event::CallEnded { .. }
                | Event::Session(_)
                | Event::Tick => return ControlFlow::Continue(()),
            };
            let stops = self.stop_at.is_some_and(|at| note.starts_with(at));
            seen.push(note);
            match stops {
                true => ControlFlow::Break(Stop::Interrupted),
                false => ControlFlow::Continue(()),
            }
        };
        let mut config = LlmClientConfig::for_model("kimi-k3");
        config.retry = RetryPolicy {
            max_retries: u32::try_from(self.names.len()).unwrap() - 1,
            ..RetryPolicy::default()
        };
        let mut budget = TokenBudget::new(self.budget);
        let request = Request::new("go");
        let outcome = if self.names[0].starts_with("acp_") {
            AcpLlmClient::new(config, &mut player, Options::default(), &KIMI_CODE, &home.0)
                .with_permissions(self.permissions)
                .with_timer(timer.clone())
                .run(&request, &mut budget, &mut observer)
        } else {
            if let Some(kept) = self.kept {
                let directory = home.0.join("sessions/hash/s");
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("context.jsonl"), kept).unwrap();
            }
            WireLlmClient::new(config, &mut player)
                .in_session(&home.0, "s")
                .with_permissions(self.permissions)
                .with_timer(timer.clone())
                .run(&request, &mut budget, &mut observer)
        };
        assert_eq!(running.get(), 0, "every agent is ended");
        Ran {
            outcome,
            seen: seen.join(" "),
            used: budget.used_tokens(),
            started: player.started,
            waited: timer.elapsed(),
            answers: answers.take(),
        }
    }
}

/// What came of it.
struct Ran {
    outcome: Result<LlmResponse, LlmError>,
    seen: String,
    used: u64,
    started: usize,
    waited: Duration,
    answers: Vec<Value>,
}

impl Ran {
    #[track_caller]
    fn answer(self) -> LlmResponse {
        self.outcome.unwrap()
    }

    /// The error's kind, whether it may pass, and whether it cost money.
    #[track_caller]
    fn error(&self) -> (&'static str, bool, &'static str) {
        let error = self.outcome.as_ref().unwrap_err();
        (
            error.kind(),
            error.is_retryable(),
            error.may_have_charged().name(),
        )
    }
}

/// An agent's home that is gone with the value.
struct Home(PathBuf);

impl Home {
    fn new() -> Home {
        use std::sync::atomic::AtomicU32;
        use std::sync::atomic::Ordering;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("omk-agent-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Home(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tools(names: &[&str]) -> Permissions {
    Permissions::of(Rule::parse_list(&names.join(",")).unwrap())
}

#[test]
fn a_plain_turn_is_told_step_by_step() {
    let ran = Case::of("wire_plain").run();
    assert_eq!(
        ran.seen,
        "starting waiting step 1 waiting thinking (hm) (m) answering \"Hel\" \"lo\" usage 1030 answered"
    );
    assert_eq!(ran.used, 1030);
    let answer = ran.answer();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("Hello", None)
    );
    let usage = answer.usage;
    assert_eq!(
        (usage.input, usage.cache_read, usage.output, usage.source),
        (Some(600), Some(400), Some(30), UsageSource::Provider)
    );
    assert!(answer.warnings.is_empty());
}

#[test]
fn on_acp_the_log_knows_usage_model_and_end() {
    let ran = Case::logged("acp_plain", "code_length").run();
    assert!(
        ran.seen
            .ends_with("\"Hel\" \"lo\" usage 1030 superseded answering \"cut sho\" answered")
    );
    let answer = ran.answer();
    assert_eq!(answer.text, "cut sho");
    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
    assert_eq!(answer.model.as_deref(), Some("kimi-k2"));
    assert!(answer.session_id.unwrap().starts_with("session_4d8d6ac5"));
    assert_eq!(answer.usage.source, UsageSource::SessionLog);
}

#[test]
fn sub_agents_are_on_the_same_bill() {
    let case = Case {
        logs: vec![
            ("main", "code_subagent"),
            ("agent-0", "code_subagent.agent-0"),
        ],
        ..Case::of("acp_plain")
    };
    let ran = case.run();
    assert_eq!(ran.used, 3 * 1030);
    assert_eq!(ran.answer().usage.output, Some(90));
}

#[test]
fn a_sub_agent_that_works_on_is_waited_for_until_the_deadline() {
    let case = Case {
        logs: vec![
            ("main", "code_subagent"),
            ("agent-0", "code_unfinished.agent-0"),
        ],
        ..Case::of("acp_plain")
    };
    let ran = case.run();
    // The answer is there long before.
    assert!(ran.seen.contains("answered"), "{}", ran.seen);
    assert!(
        ran.waited >= LlmClientConfig::for_model("kimi-k3").timeout,
        "{:?}",
        ran.waited
    );
    let usage = ran.answer().usage;
    assert_eq!((usage.output, usage.unreported), (Some(60), 1));
}

#[test]
fn an_agent_that_changes_files_in_spite_of_a_no_is_found_out() {
    // It was allowed when this was recorded, so it goes on as no agent should.
    let answer = Case::logged("acp_write_edit", "code_tool").run().answer();
    assert_eq!(answer.denials.len(), 2);
    // The log is another conversation's, which is reported too.
    let [differs, used] = &answer.warnings[..] else {
        panic!("{:?}", answer.warnings);
    };
    assert!(differs.contains("differs from the session's log"));
    assert!(used.contains("used Write, Edit, which was not allowed"));
    let case = Case::logged("acp_write_edit", "code_tool").allowing(tools(&["Write", "Edit"]));
    let answer = case.run().answer();
    assert_eq!(answer.warnings, std::slice::from_ref(differs));
}

#[test]
fn an_allowed_tool_runs_and_its_step_is_not_the_answer() {
    for (case, tool, text) in [
        (Case::of("wire_approve"), "Shell", "done"),
        (Case::logged("acp_approve", "code_tool"), "Bash", "Hello"),
    ] {
        let ran = case.allowing(tools(&[tool])).run();
        assert!(ran.seen.contains("\"Let me run\""));
        let said = ran.answers[0].to_string();
        assert!(said.contains("\"approve"), "{said}");
        let answer = ran.answer();
        assert_eq!(answer.text, text);
        assert!(answer.denials.is_empty());
    }
}

#[test]
fn what_nobody_allowed_is_denied_and_recorded() {
    for (case, tool) in [
        (Case::of("wire_reject_feedback"), "Shell"),
        (Case::of("wire_reject"), "Shell"),
        (Case::logged("acp_reject", "code_tool"), "Bash"),
    ] {
        let ran = case.allowing(tools(&["Read", "Shell(ls *)", "Grep"])).run();
        let said = ran.answers[0].to_string();
        assert!(said.contains("\"reject\""), "{said}");
        let denials = ran.answer().denials;
        assert_eq!(denials.len(), 1);
        assert_eq!(
            (denials[0].kind, denials[0].tool.as_str()),
            (DenialKind::Tool, tool)
        );
        assert!(
            denials[0].detail.contains("echo hi"),
            "{}",
            denials[0].detail
        );
    }
}

#[test]
fn no_permission_answers_a_question_or_approves_a_plan() {
    for (case, kind, refusal) in [
        (
            Case::of("wire_question"),
            DenialKind::Question,
            "\"answers\":{}",
        ),
        (
            Case::logged("acp_question", "code_tool"),
            DenialKind::Question,
            "q0_skip",
        ),
        (
            Case::logged("acp_plan_exit_allow", "code_tool"),
            DenialKind::Plan,
            "plan_reject_and_exit",
        ),
    ] {
        let ran = case.allowing(Permissions::All).run();
        let said = ran.answers.last().unwrap().to_string();
        assert!(said.contains(refusal), "{said}");
        let denials = ran.answer().denials;
        assert_eq!(denials.last().unwrap().kind, kind);
    }
}

#[test]
fn failures_say_what_they_are_and_what_they_may_have_cost() {
    for (case, error) in [
        (Case::of("wire_err_400"), ("invalid prompt", false, "no")),
        (Case::of("wire_err_401"), ("authentication", false, "no")),
        (Case::of("wire_err_404"), ("model not found", false, "no")),
        (Case::of("wire_err_429"), ("rate limited", true, "no")),
        (Case::of("wire_err_500"), ("server error", true, "no")),
        (Case::of("wire_err_cut"), ("network", true, "unknown")),
        (Case::of("wire_err_empty"), ("empty answer", false, "yes")),
        (
            Case::of("wire_err_overflow"),
            ("context length exceeded", false, "no"),
        ),
        (
            Case::of("wire_max_steps"),
            ("budget exhausted", false, "yes"),
        ),
        (
            Case::of("wire_noauth_fresh"),
            ("not logged in", false, "no"),
        ),
        (Case::of("acp_err_401"), ("authentication", false, "no")),
        (Case::of("acp_noauth_fresh"), ("not logged in", false, "no")),
        (
            Case::logged("acp_err_500", "code_server_error"),
            ("server error", true, "no"),
        ),
        (
            Case::logged("acp_err_402quota", "code_no_balance"),
            ("quota exhausted", false, "no"),
        ),
    ] {
        let name = case.names[0];
        let ran = case.run();
        assert_eq!(ran.error(), error, "{name}");
    }
}

#[test]
fn a_failure_after_calls_that_were_paid_for_says_so() {
    // The first call of a turn with a tool, and then the end of one that was refused for its balance.
    let (tool, refused) = ("code_tool", "code_no_balance");
    let lines = |log| String::from_utf8(fixture(&format!("session_logs/{log}.jsonl"))).unwrap();
    let is = |line: &str, kind: &str| parse(line)["type"] == kind;
    let tool = lines(tool);
    let paid = tool.lines().find(|line| is(line, "usage.record")).unwrap();
    let refused = lines(refused);
    let log: String = refused
        .lines()
        .map(|line| match is(line, "turn.ended") {
            true => format!("{paid}\n{line}\n"),
            false => format!("{line}\n"),
        })
        .collect();
    let mut case = Case::of("acp_err_402quota");
    case.written = Some(log);
    let ran = case.run();
    assert_eq!(ran.error(), ("quota exhausted", false, "yes"));
    assert_eq!(ran.used, 1030);
}

#[test]
fn the_agents_own_retries_are_told_and_recorded() {
    let ran = Case::of("wire_err_429").run();
    assert!(ran.seen.ends_with("retry 2/3 retry 3/3"), "{}", ran.seen);
    let answer = Case::logged("acp_cut_then_ok", "code_cut_once")
        .run()
        .answer();
    assert_eq!((answer.text.as_str(), answer.retries.len()), ("Hello", 1));
    // The attempt that broke did not report; the other one's usage stays known.
    let usage = answer.usage;
    assert_eq!((usage.total(), usage.unreported), (1030, 1));
    let unreported =
        "calls of the model that did not report their usage: 1; the others used 1030 tokens";
    assert_eq!(answer.warnings.last().map(String::as_str), Some(unreported));
}

#[test]
fn another_attempt_is_made_only_while_nothing_was_shown_or_done() {
    let again = |first| Case {
        names: vec![first, "wire_plain"],
        permissions: Permissions::All,
        ..Case::of(first)
    };
    let ran = again("wire_err_500").run();
    assert_eq!(ran.started, 2);
    assert_eq!(ran.answer().retries.len(), 1);
    // Its text was shown; its tool was run.
    for first in ["wire_err_cut", "wire_cancel_tool"] {
        let ran = again(first).run();
        assert_eq!((ran.started, ran.error().1), (1, true), "{first}");
    }
}

#[test]
fn an_observer_who_stops_cancels_the_turn_and_learns_what_it_used() {
    let stopped = |case| Case {
        stop_at: Some("\"w3 "),
        ..case
    };
    for case in [
        Case::of("wire_cancel_mid_stream"),
        Case::logged("acp_cancel_mid_stream", "code_cancelled"),
    ] {
        let ran = stopped(case).run();
        assert_eq!(ran.error(), ("interrupted", false, "unknown"));
        assert!(ran.seen.ends_with("\"w3 \" usage 0"), "{}", ran.seen);
    }
    let early = Case {
        stop_at: Some("waiting"),
        ..Case::of("wire_plain")
    };
    assert_eq!(early.run().error(), ("interrupted", false, "no"));
}

#[test]
fn a_budget_that_is_passed_ends_the_turn() {
    let case = Case {
        budget: 1000,
        ..Case::of("wire_usage_multi")
    };
    let ran = case.run();
    assert_eq!(
        ran.outcome.as_ref().unwrap_err().to_string(),
        "budget exhausted: the turn has used 1010 tokens, and of 1000 there were 1000 left"
    );
    assert_eq!(ran.error().2, "yes");
    // The agent was faster than the cancellation, and what it used on top is on the bill.
    assert_eq!(ran.used, 2530);
    assert!(!ran.seen.contains("done"));
    let case = Case {
        budget: 10,
        ..Case::of("wire_plain")
    };
    assert_eq!(case.run().started, 0);
}

#[test]
fn silence_has_a_limit_and_a_tool_only_the_deadline() {
    let config = LlmClientConfig::for_model("kimi-k3");
    for (name, limit) in [
        ("wire_cancel_mid_stream", config.idle_timeout),
        ("wire_cancel_tool", config.timeout),
    ] {
        let ran = Case::of(name).allowing(Permissions::All).run();
        assert_eq!(ran.error().0, "timeout", "{name}");
        assert!(ran.error().1);
        assert!(ran.waited >= limit && ran.waited < limit + Duration::from_secs(1));
    }
}

#[test]
fn a_log_that_is_silent_or_not_there_is_no_success() {
    let ran = Case::of("acp_plain").run();
    assert_eq!(ran.error(), ("protocol", false, "unknown"));
    let said = ran.outcome.unwrap_err().to_string();
    assert!(
        said.ends_with("agents/main/wire.jsonl does not say how"),
        "{said}"
    );
    let case = Case {
        has_session: false,
        ..Case::of("acp_plain")
    };
    // Found out before anything was asked.
    let ran = case.run();
    assert_eq!(ran.error(), ("no agent", false, "no"));
    assert_eq!(ran.seen, "starting");
}

#[test]
fn an_agent_that_ends_or_never_starts_is_an_error_with_its_last_words() {
    let case = Case {
        ends: true,
        ..Case::of("wire_cancel_mid_stream")
    };
    let ran = case.run();
    assert_eq!(ran.error(), ("protocol", false, "unknown"));
    assert_eq!(
        ran.outcome.unwrap_err().to_string(),
        "protocol: the agent ended without an answer (exit code 1: it hurts)"
    );
    let mut nobody = Player {
        links: VecDeque::new(),
        started: 0,
        running: Rc::default(),
    };
    let config = LlmClientConfig::for_model("kimi-k3");
    let mut client = WireLlmClient::new(config, &mut nobody);
    let error = client.complete("hi", &mut TokenBudget::unlimited());
    assert_eq!(
        error.unwrap_err().to_string(),
        "no agent: cannot start kimi: no such file"
    );
}

#[test]
fn instructions_go_first_and_pictures_last() {
    let image = crate::llm::client::Image {
        media_type: "image/png".to_string(),
        bytes: b"f".to_vec(),
    };
    let asked = prompt(&Request::new("What?").system("Be terse.").image(image));
    let picture = Part::Image {
        mime: "image/png".to_string(),
        base64: "Zg==".to_string(),
    };
    assert_eq!(
        asked.parts,
        [Part::Text("Be terse.\n\nWhat?".to_string()), picture]
    );
}

/// Over a real child, for whom a shell speaks.
#[cfg(unix)]
#[test]
fn a_child_is_started_asked_and_its_last_words_are_quoted() {
    let ask = |script: &str| {
        let mut program = Program::new("/bin/sh");
        program.args = vec!["-c".into(), script.into()];
        let mut config = LlmClientConfig::for_model("kimi-k3");
        // No moment is that far away.
        (config.timeout, config.idle_timeout) = (Duration::MAX, Duration::MAX);
        let mut client = WireLlmClient::new(config, program);
        client.complete("hi", &mut TokenBudget::unlimited())
    };
    let answers = r#"
        read -r hello; echo '{"id":"1","result":{}}'
        read -r prompt; echo '{"method":"event","params":{"type":"ContentPart","payload":{"text":"yes"}}}'
        echo '{"id":"2","result":{"status":"finished"}}'; read -r nothing"#;
    assert_eq!(ask(answers).unwrap().text, "yes");
    let error = ask("echo 'no login' >&2; exit 3").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no agent: the agent ended without an answer (exit code 3: no login)"
    );
    assert_eq!(error.may_have_charged(), Charge::No);
}

#[test]
fn what_a_second_try_repeats_is_taken_from_the_conversation_as_it_was_kept() {
    let cut_once = |kept| Case {
        kept,
        ..Case::of("wire_err_cutonce")
    };
    let answer = r#"{"role":"user","content":"go"}
{"role":"assistant","content":"whole"}"#;
    let ran = cut_once(Some(answer)).run();
    assert!(
        ran.seen.contains("superseded answering \"whole\""),
        "{}",
        ran.seen
    );
    let response = ran.answer();
    assert_eq!(response.text, "whole");
    // The first try cost something, and nothing reports how much.
    assert_eq!(response.usage.unreported, 1);
    assert_eq!(response.warnings.len(), 1, "{:?}", response.warnings);
    // Without the file, or with something else in it, what was sent is all that is known.
    let other = r#"{"role":"assistant","content":"something else"}"#;
    for kept in [None, Some(other)] {
        assert_eq!(cut_once(kept).run().answer().text, "part one whole");
    }
}

#[test]
fn a_prompt_that_the_agent_drops_is_too_long() {
    let compacted = |kept| Case {
        kept: Some(kept),
        ..Case::of("wire_autocompact")
    };
    let dropped = r#"{"role":"_system_prompt","content":"You are"}
{"role":"_checkpoint","id":0}"#;
    let ran = compacted(dropped).run();
    assert_eq!(ran.error(), ("context length exceeded", false, "yes"));
    let kept = r#"{"role":"user","content":"go"}"#;
    assert!(compacted(kept).run().outcome.is_ok());
}
