//! The client against a scripted server on 127.0.0.1: what was sent, what came of it, how often it was asked. Pauses between
//! attempts are noted and not made.

use std::ops::ControlFlow;

use super::*;
use crate::catalog::money::Charge;
use crate::llm::client::Image;
use crate::llm::client::Stop;
use crate::llm::types::FinishReason;
use crate::llm::types::Usage;
use crate::llm::types::UsageSource;
use crate::runtime::clock::ManualTimer;
use crate::transport::http::HttpConfig;
use crate::transport::http::server::Reply;
use crate::transport::http::server::Server;
use crate::transport::http::server::ok;

const TEXT: &str =
    r#"{"model":"kimi-k3","choices":[{"index":0,"delta":{"content":"Hello"}}],"usage":null}"#;
const MORE: &str = r#"{"choices":[{"index":0,"delta":{"content":", you."}}]}"#;
const THOUGHT: &str = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}}"#;
const DONE: &str = "[DONE]";

/// Events as they stand in a body.
fn events(data: &[&str]) -> String {
    let events = data.iter().map(|data| format!("data: {data}\n\n"));
    events.collect()
}

/// A stream that ends well.
fn stream(data: &[&str]) -> Reply {
    let headers = "content-type: text/event-stream\r\nmsh-request-id: r-1\r\n";
    ok("200 OK", headers, &events(data))
}

/// The same as bytes of a body that announces more than comes.
fn cut_stream(data: &[&str]) -> Vec<u8> {
    let body = events(data);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n{body}"
    )
    .into_bytes()
}

fn refusal(status: &str, headers: &str, kind: &str, message: &str) -> Reply {
    let body = serde_json::json!({"error": {"type": kind, "message": message}});
    ok(status, headers, &body.to_string())
}

/// The n-th request gets the n-th reply, and those after it the last status that nobody expects.
fn script(replies: impl IntoIterator<Item = Reply>) -> Server {
    let mut replies: Vec<Reply> = replies.into_iter().collect();
    replies.reverse();
    Server::new(move |_| {
        replies
            .pop()
            .unwrap_or_else(|| ok("418 Off Script", "", ""))
    })
}

fn config(model: &str) -> LlmClientConfig {
    LlmClientConfig {
        timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        ..LlmClientConfig::for_model(model)
    }
}

fn client(config: LlmClientConfig, base_url: &str) -> HttpLlmClient<ManualTimer> {
    let http = Http::new(HttpConfig::default()).unwrap();
    HttpLlmClient::new(config, base_url, Some(Secret::new("sk-1")), http)
        .with_timer(ManualTimer::default())
}

/// What a run came to.
struct Run {
    outcome: Result<LlmResponse, LlmError>,
    /// Everything observed, in short: text in quotes, reasoning in parentheses.
    seen: String,
    slept: Vec<Duration>,
    used: u64,
}

impl Run {
    fn of(config: LlmClientConfig, server: &Server, request: &Request) -> Run {
        Run::within(TokenBudget::unlimited(), config, server, request)
    }

    fn within(
        mut budget: TokenBudget,
        config: LlmClientConfig,
        server: &Server,
        request: &Request,
    ) -> Run {
        let mut client = client(config, &server.url("/v1/"));
        let mut seen = Vec::new();
        let mut observer = |event: Event<'_>| {
            match event {
                Event::Text(text) => seen.push(format!("\"{text}\"")),
                Event::Thinking(text) => seen.push(format!("({text})")),
                Event::Retry(retry) => seen.push(format!("retry {}/{}", retry.attempt, retry.of)),
                Event::Usage(usage) => seen.push(format!("usage {}", usage.total())),
                Event::Phase(phase) => seen.push(phase.name().to_string()),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let outcome = client.run(request, &mut budget, &mut observer);
        let shown = format!("{client:?} {outcome:?}");
        assert!(!shown.contains("sk-1"), "{shown}");
        Run {
            outcome,
            seen: seen.join(" "),
            slept: client.timer.slept().to_vec(),
            used: budget.used_tokens(),
        }
    }

    /// A question to Kimi K3.
    fn ask(server: &Server) -> Run {
        Run::of(config("kimi-k3"), server, &Request::new("hi"))
    }

    #[track_caller]
    fn answer(self) -> LlmResponse {
        self.outcome.unwrap()
    }

    #[track_caller]
    fn error(&self) -> String {
        self.outcome.as_ref().unwrap_err().to_string()
    }
}

fn reported() -> Usage {
    Usage::from_prompt_total(Some(19), Some(10), None, Some(21), UsageSource::Provider)
}

#[test]
fn a_plain_answer_streams() {
    let server = script([stream(&[TEXT, MORE, STOP, USAGE, DONE])]);
    let run = Run::ask(&server);
    assert_eq!(run.seen, "waiting answering \"Hello\" \", you.\" usage 40");
    assert_eq!(run.used, 40);
    let expected = LlmResponse {
        model: Some("kimi-k3".to_string()),
        usage: reported(),
        request_id: Some("r-1".to_string()),
        ..LlmResponse::of("Hello, you.")
    };
    assert_eq!(run.answer(), expected);
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(
        lower.contains("authorization: bearer sk-1\r\n"),
        "{request}"
    );
    assert_eq!(lower.matches("user-agent: omk/").count(), 1, "{request}");
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let expected = chat::body("kimi-k3", &Request::new("hi"), None);
    assert_eq!(body.as_bytes(), expected);
}

#[test]
fn reasoning_is_told_apart_and_no_part_of_the_answer() {
    let server = script([stream(&[THOUGHT, THOUGHT, TEXT, STOP, USAGE, DONE])]);
    let run = Run::ask(&server);
    assert_eq!(
        run.seen,
        "waiting thinking (hm) (hm) answering \"Hello\" usage 40"
    );
    assert_eq!(run.answer().text, "Hello");
}

#[test]
fn usage_counts_once_wherever_it_is_told() {
    let in_choice = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":19,"completion_tokens":21,"cached_tokens":10}}]}"#;
    for data in [
        [TEXT, STOP, USAGE, DONE],
        [TEXT, in_choice, "", DONE],
        [TEXT, in_choice, USAGE, DONE],
    ] {
        let run = Run::ask(&script([stream(&data)]));
        assert_eq!(run.used, 40);
        assert_eq!(run.answer().usage, reported());
    }
}

#[test]
fn usage_that_was_not_told_is_unknown_and_counted_here_for_the_budget() {
    let server = script([stream(&[THOUGHT, TEXT, STOP, DONE])]);
    let budget = TokenBudget::new(1000);
    let run = Run::within(budget, config("kimi-k3"), &server, &Request::new("hi"));
    // 19 for the prompt, 1 for each text.
    assert_eq!(run.used, 21);
    let answer = run.answer();
    assert_eq!(answer.usage, Usage::unknown(UsageSource::Provider));
    assert_eq!(answer.warnings, ["the service did not report the usage"]);
}

#[test]
fn a_budget_limits_the_answer_or_stops_the_question() {
    let server = script([stream(&[TEXT, STOP, USAGE, DONE])]);
    let budget = TokenBudget::new(100);
    let request = Request::new("hi");
    let run = Run::within(budget, config("kimi-k3"), &server, &request);
    assert_eq!(run.used, 40);
    assert!(server.requests()[0].contains(r#""max_completion_tokens":81"#));
    let run = Run::within(TokenBudget::new(19), config("kimi-k3"), &server, &request);
    assert_eq!(run.outcome.unwrap_err().may_have_charged(), Charge::No);
    assert_eq!((run.seen.as_str(), server.requests().len()), ("", 1));
}

#[test]
fn every_refusal_has_its_kind_and_is_asked_once() {
    for (status, kind, message, shown) in [
        (
            "400 Bad Request",
            "invalid_request_error",
            "Invalid request",
            "invalid prompt: Invalid request (request r-1)",
        ),
        (
            "400 Bad Request",
            "content_filter",
            "high risk",
            "content filtered: high risk (request r-1)",
        ),
        (
            "400 Bad Request",
            "invalid_request_error",
            "Your request exceeded model token limit : 9",
            "context length exceeded: Your request exceeded model token limit : 9 (request r-1)",
        ),
        (
            "401 Unauthorized",
            "invalid_authentication_error",
            "Invalid Authentication",
            "authentication: Invalid Authentication (request r-1)",
        ),
        (
            "402 Payment Required",
            "",
            "no membership",
            "quota exhausted: no membership (request r-1)",
        ),
        (
            "403 Forbidden",
            "permission_denied_error",
            "not open",
            "permission denied: not open (request r-1)",
        ),
        (
            "404 Not Found",
            "resource_not_found_error",
            "Not found the model x",
            "model not found: Not found the model x (request r-1)",
        ),
        (
            "413 Content Too Large",
            "",
            "Request exceeds the maximum size",
            "invalid prompt: Request exceeds the maximum size (request r-1)",
        ),
        (
            "429 Too Many Requests",
            "exceeded_current_quota_error",
            "check your balance",
            "quota exhausted: check your balance (request r-1)",
        ),
        (
            "307 Temporary Redirect",
            "",
            "elsewhere",
            "protocol: http status 307: elsewhere (request r-1)",
        ),
    ] {
        let server = script([refusal(status, "msh-request-id: r-1\r\n", kind, message)]);
        let run = Run::ask(&server);
        assert_eq!(run.error(), shown);
        assert_eq!(
            (server.requests().len(), run.slept.len(), run.used),
            (1, 0, 0)
        );
        assert_eq!(run.seen, "waiting");
    }
}

#[test]
fn what_may_pass_is_asked_again_until_the_retries_are_used_up() {
    for (status, kind, shown) in [
        (
            "429 Too Many Requests",
            "rate_limit_reached_error",
            "rate limited: later",
        ),
        (
            "500 Internal Server Error",
            "server_error",
            "server error: 500: later",
        ),
        (
            "503 Service Unavailable",
            "server_unavailable",
            "server error: 503: later",
        ),
    ] {
        let server = script((0..5).map(|_| refusal(status, "", kind, "later")));
        let run = Run::ask(&server);
        assert_eq!(
            (run.error(), server.requests().len()),
            (shown.to_string(), 5)
        );
        let expected = [500, 1000, 2000, 4000].map(Duration::from_millis);
        assert_eq!(run.slept, expected);
        assert_eq!(
            run.seen,
            "waiting retry 2/5 waiting retry 3/5 waiting retry 4/5 waiting retry 5/5 waiting"
        );
    }
}

#[test]
fn once_refused_is_not_refused_for_ever() {
    let server = script([
        refusal(
            "429 Too Many Requests",
            "retry-after: 7\r\n",
            "engine_overloaded_error",
            "busy",
        ),
        ok("502 Bad Gateway", "", "<html>\n<h1>Bad Gateway</h1>"),
        ok("504 Gateway Timeout", "content-type: text/html\r\n", ""),
        stream(&[TEXT, STOP, USAGE, DONE]),
    ]);
    let run = Run::ask(&server);
    assert_eq!(
        run.seen,
        "waiting retry 2/5 waiting retry 3/5 waiting retry 4/5 waiting answering \"Hello\" usage 40"
    );
    // The server's wish first, then our own schedule.
    assert_eq!(run.slept, [7000, 1000, 2000].map(Duration::from_millis));
    assert_eq!((server.requests().len(), run.used), (4, 40));
    let retries = run.answer().retries;
    let shown: Vec<String> = retries.iter().map(|r| r.error.to_string()).collect();
    assert_eq!(
        shown,
        [
            "rate limited: busy",
            "server error: 502: <html>\\n<h1>Bad Gateway</h1>",
            "server error: 504: http status 504 with an empty body",
        ]
    );
    let charged = retries.iter().map(|r| r.error.may_have_charged());
    assert_eq!(charged.reduce(Charge::plus), Some(Charge::Unknown));
}

#[test]
fn every_attempt_sends_the_same() {
    let server = script([
        ok("500 Internal Server Error", "", ""),
        stream(&[TEXT, STOP, DONE]),
    ]);
    let request = Request::new("hi").system("be terse").image(Image {
        media_type: "image/png".to_string(),
        bytes: vec![1, 2, 3],
    });
    assert!(
        Run::of(config("kimi-k3"), &server, &request)
            .outcome
            .is_ok()
    );
    let requests = server.requests();
    assert_eq!(requests[0], requests[1]);
    assert!(requests[0].contains("data:image/png;base64,AQID"));
}

#[test]
fn no_retries_means_none() {
    let server = script([ok("500 Internal Server Error", "", "")]);
    let mut config = config("kimi-k3");
    config.retry = crate::llm::retry::RetryPolicy::none();
    assert!(
        Run::of(config, &server, &Request::new("hi"))
            .outcome
            .is_err()
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nobody_listening_is_tried_again_and_free_of_charge() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut client = client(config("kimi-k3"), &format!("http://{address}"));
    let error = client
        .complete("hi", &mut TokenBudget::unlimited())
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.may_have_charged()),
        ("network", Charge::No)
    );
    assert_eq!(client.timer.slept().len(), 4);
}

#[test]
fn a_cut_before_any_output_is_tried_again() {
    let whole = || stream(&[TEXT, STOP, USAGE, DONE]);
    let keep_alive = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n: ping\n\n".to_vec();
    for cut in [
        // No answer at all, half a header, no event, half an event, an event without text, a clean end.
        Reply::Bytes(Vec::new()),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        Reply::Bytes(keep_alive),
        Reply::Bytes([cut_stream(&[]), b"data: {\"choices\"".to_vec()].concat()),
        Reply::Bytes(cut_stream(&[
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
        ])),
        stream(&[]),
    ] {
        let server = script([cut, whole()]);
        let run = Run::ask(&server);
        assert_eq!(
            run.seen,
            "waiting retry 2/5 waiting answering \"Hello\" usage 40"
        );
        assert_eq!(server.requests().len(), 2);
        let retries = run.answer().retries;
        assert_eq!(retries[0].error.may_have_charged(), Charge::Unknown);
    }
}

#[test]
fn a_cut_after_output_is_final() {
    for (data, seen) in [
        ([TEXT, MORE], "waiting answering \"Hello\" \", you.\""),
        ([THOUGHT, ""], "waiting thinking (hm)"),
    ] {
        let server = script([Reply::Bytes(cut_stream(&data))]);
        let run = Run::ask(&server);
        assert_eq!(
            run.error(),
            "incomplete answer: connection broke: Peer disconnected"
        );
        assert_eq!((run.seen.as_str(), server.requests().len()), (seen, 1));
        let charged = run.outcome.unwrap_err().may_have_charged();
        assert_eq!(charged, Charge::Unknown);
    }
    let server = script([stream(&[TEXT])]);
    let run = Run::ask(&server);
    assert_eq!(
        run.error(),
        "incomplete answer: the stream ended in the middle of the answer (request r-1)"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_broken_answer_is_counted_for_the_budget() {
    let server = script([Reply::Bytes(cut_stream(&[TEXT]))]);
    let budget = TokenBudget::new(1000);
    let run = Run::within(budget, config("kimi-k3"), &server, &Request::new("hi"));
    assert!(run.outcome.is_err());
    // The service may bill all that the request allowed, whatever of it arrived.
    assert_eq!(run.used, 1000);
}

#[test]
fn a_cut_after_the_models_last_word_loses_no_answer() {
    let server = script([Reply::Bytes(cut_stream(&[TEXT, STOP]))]);
    let answer = Run::ask(&server).answer();
    assert!(answer.is_complete());
    assert_eq!(answer.text, "Hello");
    assert_eq!(
        answer.warnings,
        [
            "the service did not report the usage",
            "the stream broke off after the answer: connection broke: Peer disconnected",
        ]
    );
    // Nor does one after [DONE], which nobody waits for.
    let server = script([Reply::Hold(cut_stream(&[TEXT, STOP, USAGE, DONE]))]);
    assert_eq!(Run::ask(&server).answer().warnings, Vec::<String>::new());
}

#[test]
fn an_error_in_mid_stream_is_the_services_own() {
    let busy = r#"{"error":{"type":"engine_overloaded_error","message":"busy"}}"#;
    let server = script([stream(&[busy]), stream(&[TEXT, STOP, DONE])]);
    assert_eq!(Run::ask(&server).answer().retries.len(), 1);
    let server = script([stream(&[TEXT, busy])]);
    let run = Run::ask(&server);
    assert_eq!(
        run.error(),
        "incomplete answer: rate limited: error inside a 200 answer: busy (request r-1)"
    );
    assert_eq!(server.requests().len(), 1);
    let refused = r#"{"error":{"type":"content_filter","message":"no"}}"#;
    let server = script([stream(&[TEXT, refused])]);
    assert_eq!(
        Run::ask(&server).error(),
        "content filtered: error inside a 200 answer: no (request r-1)"
    );
}

#[test]
fn silence_and_the_deadline_end_the_wait_and_say_so() {
    // Ample for a server on the same machine to say the little that it says.
    let short = Duration::from_millis(500);
    let mut silence = config("kimi-k3");
    silence.idle_timeout = short;
    silence.retry = crate::llm::retry::RetryPolicy::none();
    let mut deadline = config("kimi-k3");
    deadline.timeout = short;
    for (config, before, after) in [
        (
            silence,
            "timeout: waiting for the answer: nothing came for 500ms",
            "timeout: reading the answer: nothing came for 500ms",
        ),
        (
            deadline,
            "timeout: waiting for the answer",
            "timeout: reading the answer",
        ),
    ] {
        let server = script([Reply::hold("")]);
        let run = Run::of(config.clone(), &server, &Request::new("hi"));
        assert!(run.error().starts_with(before), "{}", run.error());
        assert_eq!(run.seen.split(' ').next(), Some("waiting"));
        let server = script([Reply::Hold(cut_stream(&[TEXT]))]);
        let run = Run::of(config, &server, &Request::new("hi"));
        assert!(run.error().starts_with(after), "{}", run.error());
        assert_eq!(run.seen, "waiting answering \"Hello\"");
        let charged = run.outcome.unwrap_err().may_have_charged();
        assert_eq!(charged, Charge::Unknown);
    }
}

#[test]
fn an_observer_ends_the_answer() {
    for (stop, shown) in [
        (Stop::Interrupted, "interrupted: in mid-turn"),
        (
            Stop::Budget("1 USD".to_string()),
            "budget exhausted: 1 USD (request r-1)",
        ),
    ] {
        // Held open: whoever does not hang up waits.
        let head = "HTTP/1.1 200 OK\r\nmsh-request-id: r-1\r\ncontent-length: 9999\r\n\r\n";
        let server = script([Reply::hold(format!("{head}{}", events(&[TEXT, MORE])))]);
        let mut client = client(config("kimi-k3"), &server.url(""));
        let mut texts = 0;
        let mut observer = |event: Event<'_>| match event {
            Event::Text(_) => {
                texts += 1;
                ControlFlow::Break(stop.clone())
            }
            _ => ControlFlow::Continue(()),
        };
        let budget = &mut TokenBudget::unlimited();
        let error = client.run(&Request::new("hi"), budget, &mut observer);
        assert_eq!(error.unwrap_err().to_string(), shown);
        assert_eq!((texts, server.requests().len()), (1, 1));
    }
    // Before anything was sent.
    let server = script([]);
    let mut client = client(config("kimi-k3"), &server.url(""));
    let mut observer = |_: Event<'_>| ControlFlow::Break(Stop::Interrupted);
    let outcome = client.run(
        &Request::new("hi"),
        &mut TokenBudget::unlimited(),
        &mut observer,
    );
    assert_eq!(outcome, Err(LlmError::Interrupted { begun: false }));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn answers_that_are_none_or_cut_say_so() {
    let ended = |reason: &str| {
        format!(
            r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}],"usage":{{"prompt_tokens":19,"completion_tokens":16}}}}"#
        )
    };
    let error = |data: &[&str]| {
        let server = script([stream(data)]);
        let run = Run::ask(&server);
        assert_eq!((server.requests().len(), run.used), (1, 35));
        run.error()
    };
    assert_eq!(
        error(&[THOUGHT, &ended("length"), DONE]),
        "empty answer: the output limit of 16 tokens was spent on reasoning (request r-1)"
    );
    assert_eq!(
        error(&[&ended("stop"), DONE]),
        "empty answer: the model said nothing (finish_reason stop) (request r-1)"
    );
    assert_eq!(
        error(&[TEXT, &ended("content_filter"), DONE]),
        "content filtered: the service ended the answer for its content (request r-1)"
    );
    let answer = Run::ask(&script([stream(&[TEXT, &ended("length"), DONE])])).answer();
    assert_eq!(
        (answer.text.as_str(), answer.is_complete()),
        ("Hello", false)
    );
    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
}

#[test]
fn a_service_that_does_not_stream_is_understood() {
    let body = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","reasoning_content":"hm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":21}}"#;
    let json = "content-type: application/json; charset=utf-8\r\n";
    let run = Run::ask(&script([ok("200 OK", json, body)]));
    assert_eq!(
        run.seen,
        "waiting thinking (hm) answering \"Hello\" usage 40"
    );
    assert!(run.answer().is_complete());
    let body = r#"{"error":{"type":"invalid_authentication_error","message":"who?"}}"#;
    let run = Run::ask(&script([ok("200 OK", json, body)]));
    assert_eq!(
        run.error(),
        "authentication: error inside a 200 answer: who?"
    );
}

#[test]
fn what_is_no_stream_is_quoted() {
    let html = "content-type: text/html; charset=utf-8\r\n";
    let page = "\n<!doctype html><title>Log in</title>";
    let run = Run::ask(&script([ok("200 OK", html, page)]));
    assert_eq!(
        run.error(),
        "protocol: expected an event stream, found text/html; charset=utf-8: <!doctype html><title>Log in</title>"
    );
    let run = Run::ask(&script([stream(&["<html>"])]));
    assert!(
        run.error().starts_with(
            "protocol: an event is no chunk of an answer: expected value at line 1 column 1: <html>"
        ),
        "{}",
        run.error()
    );
    let invalid = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ndata: \xff\n".to_vec();
    let run = Run::ask(&script([Reply::Bytes(invalid)]));
    assert_eq!(
        run.error(),
        "protocol: the event stream: invalid UTF-8 at byte 6"
    );
}

#[test]
fn five_megabytes_come_and_go() {
    // In many small events and in one.
    let word = r#"{"choices":[{"delta":{"content":"fifty bytes of an answer that goes on and on and on"}}]}"#;
    let small = format!(
        "{}{}",
        events(&[word]).repeat(100_000),
        events(&[STOP, DONE])
    );
    let large = format!(
        "{}{}",
        events(&[&format!(
            r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#,
            "x".repeat(5_100_000)
        )]),
        events(&[STOP, DONE])
    );
    for body in [small, large] {
        let server = script([ok("200 OK", "content-type: text/event-stream\r\n", &body)]);
        let request = Request::new("long ".repeat(1_000_000));
        let mut client = client(config("kimi-k3"), &server.url(""));
        let answer = client.run(&request, &mut TokenBudget::unlimited(), &mut ());
        assert_eq!(answer.unwrap().text.len(), 5_100_000);
        let asked = server.requests();
        assert!(asked[0].len() > 5_000_000 && asked[0].ends_with('}'));
    }
}

#[test]
fn an_answer_has_a_largest_size() {
    let mut config = config("kimi-k3");
    config.max_answer_bytes = 150;
    let data = vec![TEXT; 50];
    let run = Run::of(
        config.clone(),
        &script([stream(&data)]),
        &Request::new("hi"),
    );
    assert_eq!(
        run.error(),
        "protocol: answer too large: more than 150 bytes (request r-1)"
    );
    let event = format!(r#"{{"new":"{}"}}"#, "x".repeat(200));
    let run = Run::of(
        config.clone(),
        &script([stream(&[&event])]),
        &Request::new("hi"),
    );
    assert_eq!(
        run.error(),
        "protocol: the event stream: event of more than 150 bytes at byte 0 (request r-1)"
    );
    let json = ok("200 OK", "content-type: application/json\r\n", &event);
    let run = Run::of(config, &script([json]), &Request::new("hi"));
    assert_eq!(
        run.error(),
        "protocol: answer too large: more than 150 bytes"
    );
}

#[test]
fn a_temperature_that_cannot_be_sent_is_reported() {
    let server = script([
        stream(&[TEXT, STOP, USAGE, DONE]),
        stream(&[TEXT, STOP, USAGE, DONE]),
    ]);
    let request = Request::new("hi").temperature(0.2);
    let answer = Run::of(config("kimi-k3"), &server, &request).answer();
    assert_eq!(
        answer.warnings,
        ["the temperature was left out: kimi-k3 takes none"]
    );
    let answer = Run::of(config("moonshot-v1-8k"), &server, &request).answer();
    assert_eq!(answer.warnings, Vec::<String>::new());
    assert!(!server.requests()[0].contains("temperature"));
    assert!(server.requests()[1].contains(r#""temperature":0.2"#));
}
