//! Tests of session logs.

use super::*;
use crate::transport::agent::CallEnd;
use crate::transport::agent::FailureKind;
use crate::transport::agent::Usage;
use crate::transport::agents::KIMI_CLI;
use crate::transport::agents::KIMI_CODE;
use std::fs;
use std::io::Write;

const CALL: Usage = Usage {
    input: 600,
    cache_read: 400,
    cache_write: 0,
    output: 30,
};

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join(format!("tests/fixtures/session_logs/{name}.jsonl"))).unwrap()
}

fn read(name: &str) -> (SessionLog, Vec<Event>) {
    let mut log = SessionLog::new(&KIMI_CODE);
    let mut events = Vec::new();
    for line in fixture(name).split(|byte| *byte == b'\n') {
        log.read_line(line, &mut events);
    }
    (log, events)
}

fn of(lines: &[&str]) -> SessionLog {
    let mut log = SessionLog::new(&KIMI_CODE);
    for line in lines {
        log.read_line(line.as_bytes(), &mut Vec::new());
    }
    log
}

fn retries(events: &[Event]) -> Vec<Option<u16>> {
    let statuses = events.iter().filter_map(|event| match event {
        Event::Retry(retry) => Some(retry.status),
        _ => None,
    });
    statuses.collect()
}

#[track_caller]
fn finished(name: &str, text: &str, calls: u32, finish: Finish) -> Vec<Event> {
    let (log, facts) = read(name);
    assert_eq!(log.text(), Some(text));
    assert_eq!((log.usage().calls, log.usage().unreported), (calls, 0));
    assert_eq!(log.usage().told.output, u64::from(calls) * CALL.output);
    assert_eq!(
        log.usage().told.cache_read,
        u64::from(calls) * CALL.cache_read
    );
    assert_eq!(log.model(), Some("kimi-k2"));
    assert_eq!(
        log.outcome(&Answered::EndTurn),
        Some(Outcome::Finished(finish))
    );
    facts
}

#[test]
fn each_call_counts_once_though_it_is_written_three_times() {
    let facts = finished("code_tool", "Hello", 2, Finish::Stop);
    assert!(retries(&facts).is_empty());
    // Each call begins with what the window held after the one before.
    let started = |context| Event::CallStarted { context };
    let reported = Event::CallEnded(CallEnd::Reported(CALL));
    let expected = [
        started(None),
        reported.clone(),
        started(Some(1030)),
        reported,
    ];
    assert_eq!(facts, expected);
}

#[test]
fn sub_agents_have_files_of_their_own() {
    finished("code_subagent", "Hello", 2, Finish::Stop);
    let (sub, _) = read("code_subagent.agent-0");
    assert_eq!(sub.usage().total(), Some(CALL));
    assert!(!sub.is_busy());
}

#[test]
fn retries_are_seen_and_the_text_before_them_is_not() {
    let facts = finished("code_rate_limited_once", "Hello", 1, Finish::Stop);
    assert_eq!(retries(&facts), [Some(429)]);
    // The stream that broke had begun to answer, and its usage will never be told.
    let (log, facts) = read("code_cut_once");
    assert_eq!(retries(&facts), [None]);
    assert_eq!(log.text(), Some("Hello"));
    assert_eq!((log.usage().told, log.usage().unreported), (CALL, 1));
}

#[test]
fn the_length_limit_shows_only_here() {
    finished("code_length", "cut sho", 1, Finish::Length);
}

#[test]
fn failures_that_the_protocol_hides_are_told() {
    for (name, kind, status, charged) in [
        ("code_server_error", FailureKind::Server, 500, false),
        ("code_no_balance", FailureKind::Quota, 402, false),
    ] {
        let (log, _) = read(name);
        let Some(Outcome::Failed(failure)) = log.outcome(&Answered::EndTurn) else {
            panic!("{name}: {:?}", log.end());
        };
        assert_eq!((failure.kind, failure.status), (kind, Some(status)));
        assert_eq!(failure.may_have_charged, charged);
        assert_eq!(failure.code, "provider.api_error");
        assert_eq!((log.usage().total(), log.text()), (None, Some("")));
    }
}

#[test]
fn zeros_are_unknown() {
    let (log, _) = read("code_no_usage");
    assert_eq!((log.usage().calls, log.usage().unreported), (0, 1));
    assert_eq!(log.text(), Some("Hello"));
    let (log, _) = read("code_cancelled");
    assert_eq!(log.usage().total(), None);
    assert_eq!(log.outcome(&Answered::Cancelled), Some(Outcome::Cancelled));
    assert_eq!(log.text(), Some("part "));
}

#[test]
fn an_unasked_turn_costs_but_does_not_end_ours() {
    let mut log = of(&[
        r#"{"type":"turn.prompt","turnId":4,"origin":{"kind":"user"}}"#,
        r#"{"type":"usage.record","model":"a","usage":{"inputOther":5,"output":1},"usageScope":"turn"}"#,
        r#"{"type":"turn.ended","turnId":3,"reason":"completed"}"#,
        r#"{"type":"usage.record","model":"a","usage":{"inputOther":7,"output":1},"usageScope":"session"}"#,
        "not json",
    ]);
    assert_eq!(log.end(), None);
    assert_eq!(log.outcome(&Answered::EndTurn), None);
    assert_eq!(log.usage().told.input, 12);
    let end = br#"{"type":"turn.ended","turnId":4,"reason":"completed"}"#;
    log.read_line(end, &mut Vec::new());
    assert_eq!(log.outcome(&Answered::Refused), Some(Outcome::Refused));
}

#[test]
fn a_call_that_left_no_record_is_booked_when_it_may_have_cost() {
    let call = r#"{"type":"llm.request","model":"m"}"#;
    let part = r#"{"type":"context.append_loop_event","event":{"type":"content.part"}}"#;
    let cancelled = r#"{"type":"turn.ended","turnId":0,"reason":"cancelled"}"#;
    let failed = r#"{"type":"turn.ended","turnId":0,"reason":"failed"}"#;
    let empty = r#"{"type":"turn.step.retrying","errorMessage":"The API returned an empty response (none)."}"#;
    let refused = r#"{"type":"turn.step.retrying","errorMessage":"429 busy","statusCode":429}"#;
    let nothing = r#"{"type":"turn.ended","turnId":0,"reason":"failed","error":{"code":"provider.api_error","message":"The API returned an empty response."}}"#;
    let lost = r#"{"type":"turn.step.retrying","errorMessage":"502 oops","statusCode":502}"#;
    let no_balance = r#"{"type":"turn.ended","turnId":0,"reason":"failed","error":{"code":"provider.api_error","message":"402 no","details":{"statusCode":402}}}"#;
    for (lines, unreported) in [
        (vec![call, empty, call, refused], 1),
        (vec![call, empty, call, nothing], 2),
        (vec![call, cancelled], 1),
        (vec![call, failed], 1),
        (vec![call, lost], 1),
        (vec![call, no_balance], 0),
        (vec![call, part, failed], 1),
        (vec![cancelled], 0),
    ] {
        assert_eq!(of(&lines).usage().unreported, unreported, "{lines:?}");
    }
}

#[test]
fn a_prompt_that_is_cut_is_told_from_old_ones_that_are_left_out() {
    let compacted = r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2,"keptHeadUserMessageCount":1}"#;
    let whole = r#"{"type":"context.apply_compaction","tokensBefore":9,"keptUserMessageCount":2}"#;
    let prompt = r#"{"type":"turn.prompt","turnId":1,"origin":{"kind":"user"}}"#;
    let used = |scope: &str| {
        format!(
            r#"{{"type":"usage.record","model":"m","usage":{{"inputOther":1}},"usageScope":"{scope}"}}"#
        )
    };
    let elided = |lines: &[&str]| of(lines).was_elided();
    let (own, turn) = (used("session"), used("turn"));
    assert!(elided(&[prompt, &own, compacted]));
    assert!(!elided(&[prompt, &own, whole]));
    // The model has seen it by then, or it was in a turn before.
    assert!(!elided(&[prompt, &turn, &own, compacted]));
    assert!(!elided(&[compacted, prompt]));
}

/// A directory that is gone with the value.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("omk-log-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn sessions_and_their_logs_are_found() {
    let dir = Dir::new("find");
    let session = dir.0.join("wd_x_0123/s1");
    for name in ["agents/main", "agents/agent-0", "agents/empty"] {
        fs::create_dir_all(session.join(name)).unwrap();
    }
    for name in ["agents/main", "agents/agent-0"] {
        fs::write(session.join(name).join("wire.jsonl"), "").unwrap();
    }
    assert_eq!(find_session(&dir.0, "s1").unwrap(), Some(session.clone()));
    assert_eq!(find_session(&dir.0, "s2").unwrap(), None);
    assert_eq!(find_session(&dir.0.join("none"), "s1").unwrap(), None);
    let found = logs(&session).unwrap();
    let names = ["agents/main/wire.jsonl", "agents/agent-0/wire.jsonl"];
    assert_eq!(found, names.map(|name| session.join(name)));
    // Under two directories' hashes the id is ambiguous.
    fs::create_dir_all(dir.0.join("wd_y_4567/s1")).unwrap();
    assert_eq!(find_session(&dir.0, "s1").unwrap(), None);
}

#[test]
fn a_tail_waits_for_whole_lines() {
    let dir = Dir::new("tail");
    let path = dir.0.join("wire.jsonl");
    let mut tail = Tail::at_end(&path).unwrap();
    let read = |tail: &mut Tail| {
        let mut lines = Vec::new();
        tail.read(|line| lines.push(String::from_utf8(line.to_vec()).unwrap()))
            .map(|()| lines)
    };
    assert!(read(&mut tail).unwrap().is_empty());
    let mut file = fs::File::create(&path).unwrap();
    for (text, lines) in [
        ("one\ntw", vec!["one"]),
        ("", vec![]),
        ("o", vec![]),
        ("\n\nthree\n", vec!["two", "three"]),
    ] {
        file.write_all(text.as_bytes()).unwrap();
        assert_eq!(read(&mut tail).unwrap(), lines);
    }
    let mut late = Tail::at_end(&path).unwrap();
    file.write_all(b"four\n").unwrap();
    assert_eq!(read(&mut late).unwrap(), ["four"]);
    file.set_len(3).unwrap();
    assert!(read(&mut tail).is_err());
}

#[test]
fn the_index_is_asked_first_for_a_sessions_directory() {
    let home = std::env::temp_dir().join(format!("omk-acp-index-{}", std::process::id()));
    fs::create_dir_all(home.join("sessions/wd_x/s")).unwrap();
    let found = |session| KIMI_CODE.session_directory(&home, session).unwrap();
    assert_eq!(found("s"), Some(home.join("sessions/wd_x/s")));
    assert_eq!(found("t"), None);
    let index = r#"{"sessionId":"s","sessionDir":"/elsewhere/s"}"#;
    fs::write(home.join("session_index.jsonl"), index).unwrap();
    assert_eq!(found("s"), Some(PathBuf::from("/elsewhere/s")));
    fs::remove_dir_all(&home).unwrap();
}

/// A line of a step of the turn 0.
fn step(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"type":"context.append_loop_event","event":{{"type":"{kind}","turnId":"0"{rest}}}}}"#
    )
}

#[test]
fn the_answer_is_the_text_of_the_last_step_however_long_the_turn() {
    let part = |text: &str| {
        step(
            "content.part",
            &format!(r#","part":{{"type":"text","text":"{text}"}}"#),
        )
    };
    let end = |reason: &str| step("step.end", &format!(r#","rawFinishReason":"{reason}""#));
    let appended = r#"{"type":"agent.message.appended","kind":"event","message":{"message":{"role":"assistant","content":"step"}}}"#;
    for says in [true, false] {
        let mut lines =
            vec![r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#.to_string()];
        for number in 0..200 {
            lines.push(step("step.begin", ""));
            if says {
                lines.push(part(&format!("step {number}")));
            }
            for _ in 0..100 {
                lines.push(step("tool.call", ""));
            }
            lines.push(end("tool_calls"));
            if number % 50 == 0 {
                lines.push(r#"{"type":"context.apply_compaction","tokensBefore":9}"#.to_string());
            }
        }
        lines.extend([
            step("step.begin", ""),
            part("The "),
            part("end."),
            end("stop"),
        ]);
        lines.push(r#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#.to_string());
        // Of a long turn these come late, and are of no account.
        lines.extend(std::iter::repeat_n(appended.to_string(), 10_000));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let log = of(&lines);
        assert_eq!(log.text(), Some("The end."));
        let finished = Outcome::Finished(Finish::Stop);
        assert_eq!(log.outcome(&Answered::EndTurn), Some(finished));
    }
}

#[test]
fn a_turn_that_ends_in_a_tool_call_is_not_finished() {
    let begin = r#"{"type":"turn.prompt","turnId":0,"origin":{"kind":"user"}}"#;
    let ended = r#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#;
    let (step_begin, tool) = (step("step.begin", ""), step("tool.call", ""));
    let step_end = step("step.end", r#","finishReason":"tool_use""#);
    for lines in [
        [begin, &step_begin, &tool, ended],
        [begin, &step_begin, &step_end, ended],
    ] {
        let log = of(&lines);
        assert_eq!(log.outcome(&Answered::EndTurn), Some(Outcome::DeadEnd));
    }
    let broke =
        r#"{"type":"turn.ended","turnId":0,"reason":"completed","stopReason":"repeat_breaker"}"#;
    let reason = "repeat_breaker".to_string();
    assert_eq!(
        of(&[begin, &step_begin, broke]).outcome(&Answered::EndTurn),
        Some(Outcome::GaveUp { reason })
    );
}

#[test]
fn a_sub_agents_log_is_followed_from_its_first_line() {
    let dir = Dir::new("sub");
    let session = dir.0.join("sessions/hash/s1");
    let mut files = SessionFiles::new(&KIMI_CLI, &dir.0).sub_agents_only();
    // The session has no directory before its first prompt.
    assert!(!files.follow("s1").unwrap());
    let mut read = || {
        let mut lines = Vec::new();
        files
            .read(&mut |agent, line| {
                lines.push((
                    agent.to_string(),
                    String::from_utf8_lossy(line).into_owned(),
                ));
            })
            .unwrap();
        lines
    };
    assert!(read().is_empty());
    fs::create_dir_all(session.join("subagents/a1")).unwrap();
    fs::write(session.join("wire.jsonl"), "main\n").unwrap();
    fs::write(session.join("subagents/a1/wire.jsonl"), "one\n").unwrap();
    assert_eq!(read(), [("a1".to_string(), "one".to_string())]);
    assert!(read().is_empty());
}

#[test]
fn files_of_the_session_are_the_agents_own() {
    let dir = Dir::new("own");
    let path = |name: &str| dir.0.join(name).to_str().unwrap().to_string();
    let mut files = SessionFiles::new(&KIMI_CODE, &dir.0);
    assert!(!files.owns(&path("a")), "no session is followed yet");
    fs::create_dir_all(dir.0.join("sessions/wd/s1/agents/main")).unwrap();
    assert!(files.follow("s1").unwrap());
    assert!(files.owns(&path("sessions/wd/s1/agents/main/plans/p.md")));
    assert!(!files.owns(&path("sessions/wd/s1/../../../a")));
    assert!(!files.owns(&path("sessions/wd/s10/a")));
}
