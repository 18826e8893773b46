//! Tests of the ACP state machine.

use super::*;
use proptest::prelude::*;

fn sent(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn receive(acp: &mut Acp, message: &Value) -> Vec<Signal> {
    acp.receive(message.to_string().as_bytes())
}

/// The next line of the handshake, as an answer to the one before.
fn next(acp: &mut Acp, id: &str, result: &Value) -> Value {
    match &receive(acp, &json!({"id": id, "result": result}))[..] {
        [Signal::Send(line)] => sent(line),
        other => panic!("{other:?}"),
    }
}

/// A session `s` in which the prompt has the id 3.
fn prompted() -> Acp {
    let mut acp = Acp::new(Options::default());
    acp.start();
    next(&mut acp, "1", &json!({"protocolVersion": 1}));
    let ready = receive(&mut acp, &json!({"id": "2", "result": {"sessionId": "s"}}));
    assert!(matches!(&ready[..], [Signal::Ready(_)]));
    acp.prompt(&Prompt::text("hi"));
    acp
}

fn update(acp: &mut Acp, update: &Value) -> Vec<Signal> {
    let params = json!({"sessionId": "s", "update": update});
    receive(acp, &json!({"method": "session/update", "params": params}))
}

fn permission(options: &[(&str, &str)], title: &str) -> Value {
    let options: Vec<Value> = options
        .iter()
        .map(|(id, name)| json!({"optionId": id, "name": name, "kind": "allow_once"}))
        .collect();
    let content = json!([{"type": "content", "content": {"type": "text", "text": "What?"}}]);
    let call = json!({"toolCallId": "0:t", "title": title, "content": content});
    json!({"id": 0, "method": "session/request_permission", "params": {
        "sessionId": "s", "options": options, "toolCall": call,
    }})
}

const APPROVAL: &[(&str, &str)] = &[
    ("approve_once", "Approve once"),
    ("approve_always", "Approve for this session"),
    ("reject", "Reject"),
];
const PLAN: &[(&str, &str)] = &[
    ("plan_approve", "Approve"),
    ("plan_revise", "Revise"),
    ("plan_reject_and_exit", "Reject and Exit"),
];
const QUESTION: &[(&str, &str)] = &[("q0_opt_0", "A"), ("q0_opt_1", "B"), ("q0_skip", "Skip")];

#[test]
fn the_handshake_sets_mode_then_model_then_thinking() {
    let mut acp = Acp::new(Options {
        directory: "/project".to_string(),
        asks: true,
        model: Some("k2".to_string()),
        thinking: Some("high".to_string()),
        ..Options::default()
    });
    assert_eq!(
        sent(&acp.start())["params"]["clientCapabilities"]["terminal"],
        false
    );
    let session = next(&mut acp, "1", &json!({"agentInfo": {"version": "2.1.0"}}));
    assert_eq!(session["method"], "session/new");
    assert_eq!(
        session["params"],
        json!({"cwd": "/project", "mcpServers": []})
    );
    let mode = next(&mut acp, "2", &json!({"sessionId": "s"}));
    assert_eq!(mode["params"]["modeId"], "default");
    let model = next(&mut acp, "3", &json!({}));
    assert_eq!(model["params"]["modelId"], "k2");
    let thinking = next(&mut acp, "4", &json!({}));
    assert_eq!(thinking["params"]["value"], "high");
    let ready = receive(&mut acp, &json!({"id": "5", "result": {}}));
    let [Signal::Ready(peer)] = &ready[..] else {
        panic!("{ready:?}");
    };
    assert_eq!(peer.session.as_deref(), Some("s"));
    assert_eq!(peer.version.as_deref(), Some("2.1.0"));
}

#[test]
fn a_model_that_is_not_configured_is_told_from_no_login() {
    let mut acp = Acp::new(Options {
        model: Some("nosuch".to_string()),
        ..Options::default()
    });
    acp.start();
    next(&mut acp, "1", &json!({}));
    next(&mut acp, "2", &json!({"sessionId": "s"}));
    let details = "Model \"nosuch\" is not configured in config.toml.";
    let error = json!({"code": -32603, "message": "Internal error", "data": {"details": details}});
    let signals = receive(&mut acp, &json!({"id": "3", "error": error}));
    let [Signal::Failed(failure)] = &signals[..] else {
        panic!("{signals:?}");
    };
    assert_eq!(failure.kind, FailureKind::UnknownModel);
    assert_eq!(failure.message, details);
}

#[test]
fn a_mode_that_is_not_offered_is_not_set() {
    let mut acp = Acp::new(Options {
        asks: true,
        ..Options::default()
    });
    acp.start();
    next(&mut acp, "1", &json!({}));
    let modes = json!({"currentModeId": "build", "availableModes": [{"id": "build"}]});
    let result = json!({"id": "2", "result": {"sessionId": "s", "modes": modes}});
    assert!(matches!(
        &receive(&mut acp, &result)[..],
        [Signal::Ready(_)]
    ));
}

#[test]
fn a_switched_model_gets_its_thinking_back() {
    let mut acp = Acp::new(Options {
        model: Some("k2".to_string()),
        ..Options::default()
    });
    acp.start();
    next(&mut acp, "1", &json!({}));
    let shown = |value: &str| json!([{"id": "thinking", "currentValue": value}]);
    next(
        &mut acp,
        "2",
        &json!({"sessionId": "s", "configOptions": shown("on")}),
    );
    update(
        &mut acp,
        &json!({"sessionUpdate": "config_option_update", "configOptions": shown("high")}),
    );
    let thinking = next(&mut acp, "3", &json!({}));
    assert_eq!(
        thinking["params"],
        json!({"sessionId": "s", "configId": "thinking", "value": "high"})
    );
    // It was not asked for, so its failure is none of the turn.
    let error = json!({"id": "4", "error": {"code": -32602, "message": "Unknown thinking value"}});
    assert!(matches!(&receive(&mut acp, &error)[..], [Signal::Ready(_)]));
}

#[test]
fn a_resumed_session_keeps_its_id_and_its_history_is_not_the_answer() {
    let mut acp = Acp::new(Options {
        session: Session::Resume("s".to_string()),
        ..Options::default()
    });
    acp.start();
    let resume = next(&mut acp, "1", &json!({}));
    assert_eq!(resume["method"], "session/resume");
    let old =
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old"}});
    assert!(update(&mut acp, &old).is_empty());
    receive(&mut acp, &json!({"id": "2", "result": {}}));
    assert_eq!((acp.session(), acp.text()), ("s", ""));
}

#[test]
fn failures_of_the_handshake_have_kinds() {
    for (code, message, data, kind) in [
        (
            -32000,
            "Authentication required",
            json!(null),
            FailureKind::NotConfigured,
        ),
        (
            -32602,
            "Invalid params: Unknown sessionId: x",
            json!(null),
            FailureKind::UnknownSession,
        ),
        (
            -32603,
            "Internal error",
            json!({"details": "workspace root x does not exist"}),
            FailureKind::Agent,
        ),
    ] {
        let mut acp = Acp::new(Options::default());
        acp.start();
        next(&mut acp, "1", &json!({}));
        let error = json!({"code": code, "message": message, "data": data});
        let signals = receive(&mut acp, &json!({"id": "2", "error": error}));
        let [Signal::Failed(failure)] = &signals[..] else {
            panic!("{signals:?}");
        };
        assert_eq!(failure.kind, kind, "{message}");
        assert!(!failure.may_have_charged);
    }
    let mut acp = Acp::new(Options::default());
    acp.start();
    let wire = json!({"id": null, "error": {"code": -32600, "message": "Invalid request"}});
    let [Signal::Failed(failure)] = &receive(&mut acp, &wire)[..] else {
        panic!("no failure");
    };
    assert_eq!(failure.kind, FailureKind::WrongProtocol);
}

#[test]
fn the_three_kinds_of_permission_are_told_apart() {
    let mut acp = prompted();
    let asked = |acp: &mut Acp, options| match &receive(acp, &permission(options, "Bash"))[..] {
        [Signal::Ask(ask)] => ask.what.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(asked(&mut acp, APPROVAL), Asked::Permission(_)));
    assert_eq!(
        asked(&mut acp, PLAN),
        Asked::Plan {
            text: "What?".to_string()
        }
    );
    assert_eq!(
        asked(&mut acp, QUESTION),
        Asked::Questions(vec!["What?".to_string()])
    );
    let unknown = receive(&mut acp, &permission(&[("yes", "Yes")], "Bash"));
    let [Signal::Send(refusal)] = &unknown[..] else {
        panic!("{unknown:?}");
    };
    assert_eq!(sent(refusal)["result"]["outcome"]["outcome"], "cancelled");
    assert_eq!(sent(refusal)["id"], 0);
}

#[test]
fn no_answer_to_one_kind_says_yes_to_another() {
    let deny = |reason: Option<&str>| Answer::Deny {
        reason: reason.map(str::to_string),
    };
    let returned = Answer::Returned {
        ok: true,
        output: String::new(),
    };
    let table = [
        (APPROVAL, Answer::Allow, "approve_once"),
        (APPROVAL, deny(None), "reject"),
        (APPROVAL, returned.clone(), "reject"),
        (PLAN, Answer::Allow, "plan_approve"),
        (PLAN, deny(None), "plan_reject_and_exit"),
        (PLAN, deny(Some("shorter")), "plan_revise"),
        (QUESTION, Answer::Allow, "q0_skip"),
        (QUESTION, returned, "q0_skip"),
    ];
    for (options, answer, expected) in table {
        let mut acp = prompted();
        let signals = receive(&mut acp, &permission(options, "Bash"));
        let [Signal::Ask(ask)] = &signals[..] else {
            panic!("{signals:?}");
        };
        let line = sent(&acp.answer(&ask.id, &answer).unwrap());
        assert_eq!(
            line["result"]["outcome"]["optionId"], expected,
            "{answer:?}"
        );
        assert_eq!(acp.answer(&ask.id, &answer), None);
    }
}

#[test]
fn what_was_not_offered_is_declined() {
    let mut acp = prompted();
    for (method, member, value) in [
        ("elicitation/create", "result", json!({"action": "decline"})),
        (
            "fs/read_text_file",
            "error",
            json!({"code": -32601, "message": "not supported"}),
        ),
    ] {
        let signals = receive(&mut acp, &json!({"id": 7, "method": method, "params": {}}));
        let [Signal::Send(line)] = &signals[..] else {
            panic!("{signals:?}");
        };
        assert_eq!(sent(line)[member], value);
    }
}

/// A session `s` that hands its files over, in which a tool is about one.
fn handing_over(tool: &str, arguments: &Value) -> Acp {
    let mut acp = prompted();
    acp.options.files = true;
    acp.options.directory = "/project".to_string();
    update(
        &mut acp,
        &json!({"sessionUpdate": "tool_call", "toolCallId": "0:t", "title": tool}),
    );
    update(
        &mut acp,
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "0:t", "rawInput": arguments}),
    );
    acp
}

fn file(acp: &mut Acp, id: u64, method: &str, params: &Value) -> Ask {
    let mut params = params.clone();
    params["sessionId"] = json!("s");
    match &receive(acp, &json!({"id": id, "method": method, "params": params}))[..] {
        [Signal::Ask(ask)] => ask.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_handed_over_only_if_that_was_agreed() {
    for files in [false, true] {
        let options = Options {
            files,
            ..Options::default()
        };
        let hello = sent(&Acp::new(options).start());
        let can = &hello["params"]["clientCapabilities"]["fs"];
        assert_eq!(can, &json!({"readTextFile": files, "writeTextFile": files}));
    }
    let mut acp = handing_over("Write", &json!({"path": "a"}));
    for (method, params) in [
        (
            "fs/write_text_file",
            json!({"sessionId": "s", "path": "/project/a"}),
        ),
        (
            "fs/write_text_file",
            json!({"sessionId": "other", "path": "/a", "content": ""}),
        ),
        ("fs/read_text_file", json!({"sessionId": "s"})),
    ] {
        let signals = receive(
            &mut acp,
            &json!({"id": 1, "method": method, "params": params}),
        );
        let [Signal::Send(line)] = &signals[..] else {
            panic!("{signals:?}");
        };
        assert_eq!(sent(line)["error"]["code"], -32602, "{line}");
    }
}

#[test]
fn a_file_is_written_for_the_tool_that_is_about_it() {
    let mut acp = handing_over("Edit", &json!({"path": "src/a.rs", "old_string": "x"}));
    let write = json!({"path": "/project/src/a.rs", "content": "new"});
    let Ask { id, what } = file(&mut acp, 1, "fs/write_text_file", &write);
    let Asked::WriteFile {
        permission,
        content,
        approved,
    } = what
    else {
        panic!("{what:?}");
    };
    assert_eq!(
        (permission.tool.as_str(), permission.call.as_str()),
        ("Edit", "0:t")
    );
    assert_eq!(permission.paths, ["/project/src/a.rs"]);
    assert_eq!((content.as_str(), approved), ("new", false));
    let done = Answer::Returned {
        ok: true,
        output: String::new(),
    };
    assert_eq!(sent(&acp.answer(&id, &done).unwrap())["result"], json!({}));
    assert_eq!(acp.answer(&id, &done), None);
    // A sub-agent's tool is not known.
    let write = json!({"path": "/project/other", "content": ""});
    let Asked::WriteFile { permission, .. } = file(&mut acp, 2, "fs/write_text_file", &write).what
    else {
        panic!();
    };
    assert_eq!(
        (permission.tool.as_str(), permission.agent),
        ("Write", Some(String::new()))
    );
}

#[test]
fn what_was_approved_may_be_written_once() {
    let mut acp = handing_over("Write", &json!({"path": "a"}));
    update(
        &mut acp,
        &json!({"sessionUpdate": "tool_call_update", "toolCallId": "0:t",
            "content": [{"type": "diff", "path": "a", "newText": "new"}]}),
    );
    let signals = receive(&mut acp, &permission(APPROVAL, "Write"));
    let [Signal::Ask(ask)] = &signals[..] else {
        panic!("{signals:?}");
    };
    acp.answer(&ask.id, &Answer::Allow).unwrap();
    let mut is_approved = |id| {
        let write = json!({"path": "/project/a", "content": "new"});
        let what = file(&mut acp, id, "fs/write_text_file", &write).what;
        matches!(what, Asked::WriteFile { approved: true, .. })
    };
    assert!(is_approved(1));
    assert!(!is_approved(2));
}

#[test]
fn a_file_that_is_not_given_is_an_error_that_says_why() {
    let mut acp = handing_over("Read", &json!({"path": "/etc/hosts"}));
    let said = |answer: &Answer, acp: &mut Acp| {
        let ask = file(acp, 1, "fs/read_text_file", &json!({"path": "/etc/hosts"}));
        let Asked::ReadFile { tool, .. } = &ask.what else {
            panic!("{ask:?}");
        };
        assert_eq!(tool.as_deref(), Some("Read"));
        sent(&acp.answer(&ask.id, answer).unwrap())
    };
    let text = Answer::Returned {
        ok: true,
        output: "localhost".to_string(),
    };
    assert_eq!(
        said(&text, &mut acp)["result"],
        json!({"content": "localhost"})
    );
    assert_eq!(said(&Answer::NoSuchFile, &mut acp)["error"]["code"], -32002);
    let failed = Answer::Returned {
        ok: false,
        output: "it is no text".to_string(),
    };
    assert_eq!(said(&failed, &mut acp)["error"]["message"], "it is no text");
    for no in [Answer::Deny { reason: None }, Answer::Allow] {
        assert_eq!(said(&no, &mut acp)["error"]["message"], "not permitted");
    }
}

#[test]
fn another_sessions_words_are_not_ours() {
    let mut acp = prompted();
    let chunk =
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}});
    let params = json!({"sessionId": "other", "update": chunk});
    receive(
        &mut acp,
        &json!({"method": "session/update", "params": params}),
    );
    assert_eq!(acp.text(), "");
    update(&mut acp, &chunk);
    assert_eq!(acp.text(), "x");
    assert_eq!(acp.supersede(), Some(Event::Superseded { step: 1 }));
    assert_eq!(acp.supersede(), None);
    assert_eq!(acp.text(), "");
}

#[test]
fn a_slash_in_front_gets_a_blank() {
    let mut acp = prompted();
    let line = sent(&acp.prompt(&Prompt::text("/tmp is full")));
    assert_eq!(line["params"]["prompt"][0]["text"], " /tmp is full");
    let line = sent(&acp.prompt(&Prompt::text("plain")));
    assert_eq!(line["params"]["prompt"][0]["text"], "plain");
}

#[test]
fn the_end_of_the_stream_ends_the_turn() {
    let mut acp = prompted();
    let [Signal::Ended(Outcome::Failed(failure))] = &acp.closed()[..] else {
        panic!("no end");
    };
    assert!(failure.may_have_charged);
    assert_eq!(acp.closed(), []);
}

proptest! {
    #[test]
    fn any_update_is_taken(
        kind in "agent_message_chunk|tool_call|tool_call_update|usage_update|config_option_update|session_info_update",
        name in "content|toolCallId|title|status|rawInput|used|configOptions",
        value in prop_oneof![Just(json!(null)), Just(json!(-1)), Just(json!("x")), Just(json!([{}])), Just(json!({"text": 1}))],
    ) {
        let mut acp = prompted();
        let _ = update(&mut acp, &json!({"sessionUpdate": kind, name: value}));
    }
}
