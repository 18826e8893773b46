//! Tests of the Wire state machine.

use std::time::Duration;

use super::*;
use crate::transport::agent::CallEnd;
use proptest::prelude::*;

/// A conversation whose prompt has the id 1.
fn prompted() -> Wire {
    let mut wire = Wire::new(Options::default());
    wire.prompt(&Prompt::text("hi"));
    wire
}

fn event(wire: &mut Wire, kind: &str, payload: &Value) -> Vec<Signal> {
    let params = json!({"type": kind, "payload": payload});
    wire.receive(Message::notification("event", &params).encode().as_bytes())
}

fn sent(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn ids_are_strings_and_the_handshake_may_be_refused() {
    let mut wire = Wire::new(Options::default());
    let first = sent(&wire.start());
    assert_eq!(first["id"], "1");
    assert_eq!(first["params"]["protocol_version"], "1.10");
    assert_eq!(first["params"]["capabilities"]["supports_question"], false);
    let refused = br#"{"id":"1","error":{"code":-32601,"message":"no"}}"#;
    assert_eq!(wire.receive(refused), [Signal::Ready(Peer::default())]);

    wire.start();
    let acp = br#"{"id":"2","error":{"code":-32602,"message":"Invalid params","data":{"protocolVersion":{}}}}"#;
    let [Signal::Failed(failure)] = &wire.receive(acp)[..] else {
        panic!("no failure");
    };
    assert_eq!(failure.kind, FailureKind::WrongProtocol);
}

#[test]
fn a_slash_in_front_is_guarded() {
    let mut wire = Wire::new(Options::default());
    let line = sent(&wire.prompt(&Prompt::text("/tmp is full")));
    let input = &line["params"]["user_input"];
    assert_eq!(input[0]["text"], SLASH_GUARD);
    assert_eq!(input[1]["text"], "/tmp is full");
    let image = Part::Image {
        mime: "image/png".to_string(),
        base64: "AA==".to_string(),
    };
    let parts = vec![Part::Text("see".to_string()), image];
    let line = sent(&wire.prompt(&Prompt { parts }));
    let input = &line["params"]["user_input"];
    assert_eq!(input[1]["image_url"]["url"], "data:image/png;base64,AA==");
    assert_eq!(input.as_array().unwrap().len(), 2);
}

#[test]
fn a_step_that_begins_again_takes_its_text_back() {
    let mut wire = prompted();
    event(&mut wire, "StepBegin", &json!({"n": 1}));
    event(
        &mut wire,
        "ContentPart",
        &json!({"type": "text", "text": "part"}),
    );
    let again = event(&mut wire, "StepBegin", &json!({"n": 1}));
    assert_eq!(again[0], Signal::Event(Event::Superseded { step: 1 }));
    event(
        &mut wire,
        "ContentPart",
        &json!({"type": "text", "text": "whole"}),
    );
    assert_eq!(wire.text(), "whole");
    // The attempt that was cut may be on the bill.
    assert_eq!(wire.usage().unreported, 1);
}

#[test]
fn a_retry_after_text_takes_it_back_and_one_after_nothing_does_not() {
    let mut wire = prompted();
    event(&mut wire, "StepBegin", &json!({"n": 1}));
    let retry =
        json!({"n": 1, "next_attempt": 2, "max_attempts": 3, "wait_s": 0.5, "status_code": 429});
    let quiet = event(&mut wire, "StepRetry", &retry);
    let refused = Signal::Event(Event::CallEnded(CallEnd::Refused));
    let [first, Signal::Event(Event::Retry(told)), _] = &quiet[..] else {
        panic!("{quiet:?}");
    };
    assert_eq!(first, &refused);
    assert_eq!((told.attempt, told.of, told.status), (2, 3, Some(429)));
    assert_eq!(told.wait, Duration::from_millis(500));
    assert_eq!(wire.usage().unreported, 0);
    event(
        &mut wire,
        "ContentPart",
        &json!({"type": "text", "text": "x"}),
    );
    let loud = event(&mut wire, "StepRetry", &json!({"wait_s": -1.0}));
    assert_eq!(loud[0], Signal::Event(Event::Superseded { step: 1 }));
    assert_eq!((wire.text(), wire.usage().unreported), ("", 1));
}

#[test]
fn answers_that_do_not_fit_are_refusals() {
    let returned = Answer::Returned {
        ok: true,
        output: String::new(),
    };
    let approval = Shape::Approval("r".to_string()).answer(&returned);
    assert_eq!(approval["response"], "reject");
    for answer in [Answer::Allow, returned] {
        let question = Shape::Questions("q".to_string()).answer(&answer);
        assert_eq!(question["answers"], json!({}));
    }
}

#[test]
fn a_turn_whose_last_step_asked_for_a_tool_is_not_finished() {
    let tool =
        json!({"type": "function", "id": "t", "function": {"name": "Shell", "arguments": "{}"}});
    let finished = br#"{"id":"1","result":{"status":"finished"}}"#;
    let mut wire = prompted();
    event(&mut wire, "StepBegin", &json!({"n": 1}));
    event(&mut wire, "ToolCall", &tool);
    let end = wire.receive(finished);
    assert_eq!(end.last(), Some(&Signal::Ended(Outcome::DeadEnd)));
    let mut wire = prompted();
    event(&mut wire, "StepBegin", &json!({"n": 1}));
    event(&mut wire, "ToolCall", &tool);
    event(&mut wire, "StepBegin", &json!({"n": 2}));
    let end = wire.receive(finished);
    assert!(matches!(
        end.last(),
        Some(Signal::Ended(Outcome::Finished(_)))
    ));
}

#[test]
fn a_sub_agents_calls_are_accounted_for_one_by_one() {
    let mut wire = prompted();
    let of = |agent: &str, kind: &str, payload: &Value| json!({"agent_id": agent, "event": {"type": kind, "payload": payload}});
    let used = json!({"token_usage": {"input_other": 5, "output": 1}, "message_id": "c"});
    for (agent, kind, payload) in [
        ("a", "StepBegin", &json!({"n": 1})),
        ("b", "StepBegin", &json!({"n": 1})),
        ("a", "StatusUpdate", &used),
    ] {
        event(&mut wire, "SubagentEvent", &of(agent, kind, payload));
    }
    assert_eq!((wire.usage().calls, wire.usage().unreported), (1, 0));
    assert!(wire.includes("a") && !wire.includes("c"));
    wire.receive(br#"{"id":"1","result":{"status":"finished"}}"#);
    // The other one's call never reported.
    assert_eq!((wire.usage().calls, wire.usage().unreported), (1, 1));
}

#[test]
fn a_refusal_can_say_what_to_do_instead() {
    let deny = Answer::Deny {
        reason: Some("use ls".to_string()),
    };
    let result = Shape::Approval("r".to_string()).answer(&deny);
    assert_eq!(result["feedback"], "use ls");
}

/// Refuses a command in the turn's first step; the agent ends the turn over it, whether it repeats the reason or not.
fn refused(wire: &mut Wire, prompt: &str, echo: &Value) -> Vec<Signal> {
    event(wire, "StepBegin", &json!({"n": 1}));
    let payload =
        json!({"id": "r", "tool_call_id": "t", "sender": "Shell", "action": "run command"});
    let params = json!({"type": "ApprovalRequest", "payload": payload});
    let line = Message::request(Id::text("r"), "request", &params).encode();
    let [Signal::Ask(ask)] = &wire.receive(line.as_bytes())[..] else {
        panic!("no ask");
    };
    let deny = Answer::Deny {
        reason: Some("not here".to_string()),
    };
    wire.answer(&ask.id, &deny).unwrap();
    event(wire, "ApprovalResponse", echo);
    let line = json!({"id": prompt, "result": {"status": "finished"}}).to_string();
    wire.receive(line.as_bytes())
}

#[test]
fn a_reason_that_an_agent_does_not_take_is_given_as_a_prompt() {
    let deaf = json!({"request_id": "r", "response": "reject"});
    let mut wire = prompted();
    let [Signal::Send(line)] = &refused(&mut wire, "1", &deaf)[..] else {
        panic!("no prompt");
    };
    let line = sent(line);
    assert_eq!(
        (&line["id"], &line["method"]),
        (&json!("2"), &json!("prompt"))
    );
    assert_eq!(line["params"]["user_input"], "not here");
    // The same turn goes on, and so do its steps.
    let begun = event(&mut wire, "StepBegin", &json!({"n": 1}));
    assert!(begun.contains(&Signal::Event(Event::Step { step: 2 })));
    event(
        &mut wire,
        "ContentPart",
        &json!({"type": "text", "text": "without"}),
    );
    let end = wire.receive(br#"{"id":"2","result":{"status":"finished"}}"#);
    assert!(matches!(
        end.last(),
        Some(Signal::Ended(Outcome::Finished(_)))
    ));
    assert_eq!(wire.text(), "without");
}

#[test]
fn a_reason_that_was_taken_is_not_given_twice_nor_for_ever() {
    let heard = json!({"request_id": "r", "response": "reject", "feedback": ""});
    let mut wire = prompted();
    let end = refused(&mut wire, "1", &heard);
    assert!(matches!(end.last(), Some(Signal::Ended(_))));
    // Nor is who has cancelled the turn interested.
    let deaf = json!({"request_id": "r", "response": "reject"});
    let mut wire = prompted();
    wire.cancel().unwrap();
    assert!(matches!(
        refused(&mut wire, "1", &deaf).last(),
        Some(Signal::Ended(_))
    ));
    let mut wire = prompted();
    let mut prompts = 0;
    for prompt in 1_u32.. {
        match &refused(&mut wire, &prompt.to_string(), &deaf)[..] {
            [Signal::Send(_)] => prompts += 1,
            end => {
                assert!(
                    matches!(end.last(), Some(Signal::Ended(Outcome::Finished(_)))),
                    "{end:?}"
                );
                break;
            }
        }
    }
    assert_eq!(prompts, MOST_PROMPTS_AFTER_REFUSALS);
}

#[test]
fn an_unknown_request_is_answered_at_once() {
    let mut wire = prompted();
    let line = br#"{"method":"request","id":"x","params":{"type":"FutureRequest","payload":{}}}"#;
    let [Signal::Send(answer)] = &wire.receive(line)[..] else {
        panic!("no answer");
    };
    assert_eq!(sent(answer)["error"]["code"], jsonrpc::METHOD_NOT_FOUND);
}

#[test]
fn the_end_of_the_stream_ends_the_turn() {
    let mut wire = prompted();
    event(&mut wire, "StepBegin", &json!({"n": 1}));
    let Some(Signal::Ended(Outcome::Failed(failure))) = wire.closed().pop() else {
        panic!("no end");
    };
    assert_eq!(failure.kind, FailureKind::Exited);
    assert!(failure.may_have_charged);
    assert_eq!(wire.closed(), []);
    let mut wire = Wire::new(Options::default());
    wire.start();
    assert!(matches!(wire.closed()[..], [Signal::Failed(_)]));
}

#[test]
fn an_error_without_an_id_ends_what_is_awaited() {
    let mut wire = prompted();
    let line = br#"{"id":null,"error":{"code":-32600,"message":"Invalid request"}}"#;
    let Some(Signal::Ended(Outcome::Failed(failure))) = wire.receive(line).pop() else {
        panic!("no end");
    };
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(!failure.may_have_charged);
    assert!(wire.receive(line).is_empty());
}

#[test]
fn cancelling_is_said_once() {
    let mut wire = prompted();
    assert_eq!(sent(&wire.cancel().unwrap())["method"], "cancel");
    assert_eq!(wire.cancel(), None);
    wire.receive(br#"{"id":"1","result":{"status":"cancelled"}}"#);
    assert_eq!(wire.cancel(), None);
}

proptest! {
    #[test]
    fn any_payload_is_taken(
        kind in "StepBegin|ContentPart|StepRetry|ToolCall|ToolResult|StatusUpdate|SubagentEvent|ApprovalRequest|ApprovalResponse|QuestionRequest|HookRequest",
        name in "n|type|text|id|event|token_usage|payload|questions|function",
        method in "event|request",
        value in prop_oneof![Just(json!(null)), Just(json!(-1)), Just(json!("x")), Just(json!([])), Just(json!({"type": "SubagentEvent"}))],
    ) {
        let mut wire = prompted();
        let line = json!({"method": method, "id": method.strip_prefix("req"), "params": {"type": kind, "payload": {name: value}}});
        let _ = wire.receive(line.to_string().as_bytes());
    }
}
