//! `omk estimate` as its users meet it: tables, gates, documents, bad input.

use serde_json::Value;

use crate::sandbox::Run;
use crate::sandbox::Sandbox;
use crate::server;
use crate::server::Reply;
use crate::server::Server;

fn document(sandbox: &Sandbox, line: &str, stdin: &[u8], code: i32) -> Value {
    let outcome = sandbox.omk(line).stdin(stdin).run();
    let document = outcome.code(code).json();
    assert_eq!(document["schema"], "omk.estimate/1", "{line}");
    assert_eq!(document["exit"], code, "{line}");
    assert_eq!(document["ok"], code == 0, "{line}");
    document
}

#[test]
fn one_text_is_one_line_for_each_model_cheapest_first() {
    let sandbox = Sandbox::new("one_text_is_one_line_for_each_model_cheapest_first");
    let outcome = sandbox
        .omk("estimate -m kimi-k3,gpt-5-nano,claude-sonnet-5")
        .stdin(b"How many tokens is this?")
        .run();
    outcome.code(0).stderr("").stdout(
        "model            text  template  input  window          usd  price date\n\
         gpt-5-nano          6       +~7    ~13    0.1%  $0.00000065  2026-07-02\n\
         claude-sonnet-5    ~6         ?     ~6    0.1%    $0.000018  2026-09-01\n\
         kimi-k3             6       +18     24    0.1%    $0.000072  2026-08-08\n",
    );
}

#[test]
fn several_inputs_are_counted_as_wc_does() {
    let sandbox = Sandbox::new("several_inputs_are_counted_as_wc_does");
    sandbox.file("a", "one two three").file("b", "");
    let outcome = sandbox
        .omk("estimate a b -")
        .stdin(b"\xef\xbb\xbf\r\n")
        .run();
    outcome.code(0).stderr("");
    let (inputs, models) = outcome.stdout_text().split_once("\n\n").unwrap();
    assert_eq!(
        inputs,
        "kimi  bytes  input\n   3     13  a\n   0      0  b\n   2      5  -\n   5     18  total"
    );
    assert!(models.starts_with("model "), "{models}");
}

#[test]
fn the_document_has_what_a_script_needs() {
    let sandbox = Sandbox::new("the_document_has_what_a_script_needs");
    let line = "estimate --json -m kimi-k3 -o 4k --cached 50%";
    let document = document(&sandbox, line, "你好, world".as_bytes(), 0);
    let model = &document["models"][0];
    for (field, want) in [
        ("model", Value::from("kimi-k3")),
        ("vocabulary", "kimi".into()),
        ("exact", true.into()),
        ("text_tokens", 3.into()),
        ("overhead_tokens", 18.into()),
        ("input_tokens", 21.into()),
        ("cached_tokens", 10.into()),
        ("output_tokens", 4000.into()),
        ("window", 1_048_576.into()),
        ("fits", true.into()),
        // 11 at 3, 10 at 0.30, 4000 at 15 USD per 1M.
        ("usd", 0.060036.into()),
    ] {
        assert_eq!(model[field], want, "{field}");
    }
    assert_eq!(model["price"]["output"], 15);
    assert_eq!(model["price"]["origin"], "builtin");
    assert_eq!(model["inputs"][0]["name"], "-");
    assert_eq!(model["inputs"][0]["bytes"], 13);
    assert_eq!(document["error"], Value::Null);
}

#[test]
fn a_long_prompt_takes_its_tier_whole() {
    let sandbox = Sandbox::new("a_long_prompt_takes_its_tier_whole");
    let text = "word ".repeat(300_000);
    let document = document(&sandbox, "estimate --json -m gpt-5.5", text.as_bytes(), 0);
    let model = &document["models"][0];
    let tokens = model["input_tokens"].as_u64().unwrap();
    assert_eq!(model["tier_above"], 272_000);
    assert_eq!(model["usd"], tokens as f64 * 10.0 / 1e6);
}

#[test]
fn gates_fail_by_name_and_print_the_estimate_all_the_same() {
    let sandbox = Sandbox::new("gates_fail_by_name_and_print_the_estimate_all_the_same");
    sandbox.file("text", "word ".repeat(1000));
    for (gate, said) in [
        (
            "--max-usd 0.002",
            "omk: budget: kimi-k3: $0.003057, --max-usd allows $0.002\n",
        ),
        (
            "--max-tokens 1000",
            "omk: budget: kimi-k3: 1019 input tokens, --max-tokens allows 1000\n",
        ),
    ] {
        let outcome = sandbox.omk(&format!("estimate text {gate}")).run();
        outcome.code(5).stderr(said).stdout_contains("kimi-k3");
        let document = document(&sandbox, &format!("estimate text --json {gate}"), b"", 5);
        assert_eq!(document["error"]["kind"], "budget");
        assert_eq!(document["models"][0]["text_tokens"], 1001);
    }
    sandbox
        .omk("estimate text --max-usd 0.004 --max-tokens 1019")
        .run()
        .code(0)
        .stderr("");
}

#[test]
fn a_text_that_does_not_fit_says_by_how_much() {
    let sandbox = Sandbox::new("a_text_that_does_not_fit_says_by_how_much");
    sandbox.file("text", "word ".repeat(9000));
    sandbox
        .omk("estimate text -m moonshot-v1-8k --quiet")
        .run()
        .code(5)
        .stderr_contains("9008 tokens do not fit in the context window of");
    let document = document(&sandbox, "estimate text --json -m moonshot-v1-8k", b"", 5);
    assert_eq!(document["models"][0]["fits"], false);
    assert_eq!(document["error"]["kind"], "window");
}

#[test]
fn an_unknown_price_is_null_and_never_that_of_a_similar_name() {
    let sandbox = Sandbox::new("an_unknown_price_is_null_and_never_that_of_a_similar_name");
    let found = document(&sandbox, "estimate --json -m kimi-k33", b"x", 0);
    assert_eq!(found["models"][0]["usd"], Value::Null);
    assert_eq!(found["models"][0]["price"], Value::Null);
    assert_eq!(found["models"][0]["exact"], true);
    assert!(
        found["warnings"][0]
            .as_str()
            .unwrap()
            .contains("did you mean kimi-k3")
    );
    for gate in ["--strict-prices", "--max-usd 1"] {
        let refused = document(
            &sandbox,
            &format!("estimate --json -m kimi-k33 {gate}"),
            b"x",
            78,
        );
        assert_eq!(refused["error"]["kind"], "price", "{gate}");
    }
    let given = "estimate --json -m kimi-k33 --strict-prices --price 1,0.1,4 -o 1M";
    let given = document(&sandbox, given, b"x", 0);
    assert_eq!(given["models"][0]["usd"], 4.000019);
    assert_eq!(given["models"][0]["price"]["origin"], "--price");
}

#[test]
fn a_subscription_has_no_price_per_token() {
    let sandbox = Sandbox::new("a_subscription_has_no_price_per_token");
    let found = document(&sandbox, "estimate --json -m kimi-for-coding", b"x", 0);
    assert_eq!(found["models"][0]["usd"], Value::Null);
    assert!(
        found["warnings"][0]
            .as_str()
            .unwrap()
            .contains("subscription")
    );
}

#[test]
fn a_price_file_overrides_and_its_mistakes_are_named() {
    let sandbox = Sandbox::new("a_price_file_overrides_and_its_mistakes_are_named");
    sandbox
        .file(
            "mine.json",
            r#"[{"model": "kimi-k3", "input": 1, "output": 2}]"#,
        )
        .file(
            "bad.json",
            r#"[{"model": "kimi-k3", "input": "1$", "output": 2}]"#,
        );
    let line = "estimate --json --price-file mine.json --cached 9";
    let found = document(&sandbox, line, b"x", 0);
    assert_eq!(found["models"][0]["usd"], 0.000019);
    assert_eq!(found["models"][0]["price"]["origin"], "mine.json");
    assert!(
        found["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no rate for cached input")
    );
    sandbox
        .omk("estimate --price-file bad.json")
        .stdin(b"x")
        .run()
        .code(78)
        .stderr_contains("bad.json: row 1 (kimi-k3): input: ");
    let missing = document(&sandbox, "estimate --json --price-file nope.json", b"x", 66);
    assert_eq!(missing["models"], Value::Array(Vec::new()));
}

#[test]
fn ids_stand_on_a_line_each() {
    let sandbox = Sandbox::new("ids_stand_on_a_line_each");
    sandbox
        .omk("estimate --ids --vocabulary cl100k_base")
        .stdin(b"hello world")
        .run()
        .code(0)
        .stdout("15339\n1917\n");
    let marker = b"<|endoftext|>";
    let special = sandbox
        .omk("estimate --ids --special --vocabulary o200k_base")
        .stdin(marker);
    special.run().code(0).stdout("199999\n");
    let text = sandbox
        .omk("estimate --count --vocabulary o200k_base")
        .stdin(marker);
    text.run().code(0).stdout("7\n");
}

#[test]
fn bad_bytes_are_named_by_their_offset_and_lossy_replaces_them() {
    let sandbox = Sandbox::new("bad_bytes_are_named_by_their_offset_and_lossy_replaces_them");
    let mut text = "x".repeat(300_000).into_bytes();
    text.push(0xff);
    let outcome = sandbox.omk("estimate").stdin(text).run();
    outcome
        .code(65)
        .stdout("")
        .stderr_contains("offset 300000")
        .stderr_contains("hint: --lossy");
    sandbox
        .omk("estimate --count --lossy")
        .stdin(b"a\xffb")
        .run()
        .code(0);
    let nul = sandbox.omk("estimate").stdin(b"ab\0").run();
    nul.code(65)
        .stderr_contains("NUL")
        .stderr_contains("offset 2");
}

#[test]
fn bad_files_are_all_named_and_the_others_counted() {
    let sandbox = Sandbox::new("bad_files_are_all_named_and_the_others_counted");
    sandbox.file("good", "hello").file("latin1", b"caf\xe9");
    sandbox.file("dir/inside", "");
    let outcome = sandbox.omk("estimate missing good dir latin1 gone").run();
    outcome
        .code(66)
        .stdout_contains("kimi-k3")
        .stderr_contains("`missing` does not exist")
        .stdout_contains("dir/inside")
        .stderr_contains("`latin1`: ")
        .stderr_contains("`gone` does not exist");
    let document = document(&sandbox, "estimate --json missing good gone", b"", 66);
    assert_eq!(document["models"][0]["inputs"].as_array().unwrap().len(), 1);
    assert_eq!(document["models"][0]["text_tokens"], 1);
}

#[test]
fn awkward_texts_are_counted_without_a_hang() {
    let sandbox = Sandbox::new("awkward_texts_are_counted_without_a_hang");
    for (name, text, tokens) in [
        ("nothing", String::new(), 0),
        ("blanks", " ".repeat(2_000_000), 7813),
        ("one letter", "a".repeat(5_000_000), 625_000),
        ("marks", "\u{301}".repeat(1_000_000), 1_000_000),
        ("line ends", "\r\n\n\r".repeat(1000), 2000),
        ("a mark alone", "\u{301}".to_string(), 1),
        ("a byte order mark", "\u{feff}".to_string(), 1),
    ] {
        let outcome = sandbox.omk("estimate --count").stdin(text.as_bytes()).run();
        assert_eq!(
            outcome.code(0).stdout_text(),
            format!("{tokens}\n"),
            "{name}"
        );
    }
}

#[test]
fn sessions_are_guessed_and_gated() {
    let sandbox = Sandbox::new("sessions_are_guessed_and_gated");
    // 30 minutes, 4 workers, 1000 tokens a minute, one round of rework: 156,000 tokens, a quarter
    // of them output; an architect costs 6 and 24 USD per 1M.
    let team = "estimate --session team --duration 30m --workers 4 --role architect";
    sandbox.omk(team).run().code(0).stderr("").stdout(
        "session  tier       input  output      usd\n\
         team     premium  ~117000  ~39000  ~$1.638\n",
    );
    let outcome = sandbox.omk(&format!("{team} --json --max-usd 1.5")).run();
    let document = outcome.code(5).json();
    assert_eq!(document["schema"], "omk.session-estimate/1");
    assert_eq!(document["usd"], 1.638);
    for (line, usd) in [
        ("--session autopilot --duration 1m", 0.0035),
        ("--session ralph --duration 1m --iterations 1", 0.00455),
        ("--session ralph --duration 1m --tier budget", 0.000875),
        (
            "--session team --duration 1m --iterations 0 --workers 2",
            0.007,
        ),
    ] {
        let outcome = sandbox.omk(&format!("estimate --json {line}")).run();
        assert_eq!(outcome.code(0).json()["usd"], usd, "{line}");
    }
    sandbox
        .omk("estimate --session team --duration 1m --role clown")
        .run()
        .code(0)
        .stderr_contains("the role `clown` is not known");
}

/// `omk estimate --exact` on "hello", against a server that gives this reply.
fn exact(name: &str, reply: Reply) -> (Sandbox, Server, Run) {
    let sandbox = Sandbox::new(name);
    let server = Server::new([reply]);
    let run = sandbox
        .omk("estimate --exact --json")
        .env("KIMI_BASE_URL", server.url("/v1"))
        .env("MOONSHOT_API_KEY", "sk-not-for-print")
        .stdin(b"hello");
    (sandbox, server, run)
}

#[test]
fn the_service_is_asked_only_for_exact_and_its_count_is_billed() {
    let reply = Reply::http(
        "200 OK",
        &[],
        r#"{"code": 0, "data": {"total_tokens": 21}}"#,
    );
    let (_sandbox, server, run) = exact(
        "the_service_is_asked_only_for_exact_and_its_count_is_billed",
        reply,
    );
    let outcome = run.run();
    let document = outcome.code(0).stderr("").json();
    let model = &document["models"][0];
    assert_eq!(model["service_tokens"], 21);
    assert_eq!(model["input_tokens"], 21);
    assert_eq!(model["text_tokens"], 1);
    assert_eq!(model["usd"], 0.000063);
    let requests = server.requests();
    let request = requests.first().unwrap();
    assert!(request.starts_with("POST /v1/tokenizers/estimate-token-count HTTP/1.1\r\n"));
    assert!(
        request
            .to_lowercase()
            .contains("authorization: bearer sk-not-for-print\r\n")
    );
    assert!(
        request.contains(r#"{"messages":[{"content":"hello","role":"user"}],"model":"kimi-k3"}"#)
    );
}

#[test]
fn the_difference_to_the_service_is_shown() {
    let sandbox = Sandbox::new("the_difference_to_the_service_is_shown");
    let server = Server::new([Reply::http(
        "200 OK",
        &[],
        r#"{"data": {"total_tokens": 17}}"#,
    )]);
    sandbox
        .omk("estimate --exact --base-url")
        .arg(server.url("/v1/"))
        .env("KIMI_API_KEY", "k")
        .stdin(b"hello")
        .run()
        .code(0)
        .stdout(
            "model    text  template  service  difference  input  window        usd  price date\n\
             kimi-k3     1       +18       17          -2     17    0.1%  $0.000051  2026-08-08\n",
        );
}

#[test]
fn what_the_service_refuses_is_told_apart() {
    for (number, (status, body, code, kind)) in [
        (
            "401 Unauthorized",
            r#"{"error":{"message":"Invalid Authentication"}}"#,
            77,
            "authentication",
        ),
        (
            "403 Forbidden",
            r#"{"error":{"message":"not open"}}"#,
            77,
            "permission denied",
        ),
        (
            "404 Not Found",
            r#"{"error":{"message":"Not found the model"}}"#,
            1,
            "model not found",
        ),
        (
            "429 Too Many Requests",
            r#"{"error":{"type":"rate_limit_reached_error","message":"max RPM"}}"#,
            75,
            "rate limited",
        ),
        (
            "429 Too Many Requests",
            r#"{"error":{"type":"exceeded_current_quota_error","message":"no"}}"#,
            77,
            "quota exhausted",
        ),
        (
            "502 Bad Gateway",
            "<html>bad gateway</html>",
            75,
            "server error",
        ),
        ("200 OK", r#"{"total": 3}"#, 1, "without data.total_tokens"),
        ("200 OK", "not json", 1, "without data.total_tokens"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = Reply::http(status, &["retry-after: 7"], body);
        let (_sandbox, _server, run) = exact(&format!("what_the_service_refuses_{number}"), reply);
        let outcome = run.run();
        let document = outcome.code(code).stderr_contains(kind).json();
        assert_eq!(document["error"]["retryable"], code == 75, "{status}");
        if code == 75 {
            assert_eq!(document["error"]["retry_after_s"], 7, "{status}");
        }
        assert!(!outcome.stderr_text().contains("sk-not-for-print"));
        assert!(!outcome.stdout_text().contains("sk-not-for-print"));
    }
}

#[test]
fn a_service_that_cannot_be_asked_ends_the_run_with_a_reason() {
    let sandbox = Sandbox::new("a_service_that_cannot_be_asked_ends_the_run_with_a_reason");
    let ask = |line: &str| sandbox.omk(line).stdin(b"hello");
    ask("estimate --exact")
        .run()
        .code(77)
        .stderr_contains("hint: set MOONSHOT_API_KEY");
    ask("estimate --exact -m gpt-4o")
        .env("MOONSHOT_API_KEY", "k")
        .run()
        .code(2)
        .stderr_contains("does not serve gpt-4o");
    ask("estimate --exact")
        .env("MOONSHOT_API_KEY", "k")
        .env("OMK_BASE_URL", server::nobody())
        .run()
        .code(75);
    let silent = Server::new([Reply::Hold(Vec::new())]);
    ask("estimate --exact --deadline 300ms")
        .env("MOONSHOT_API_KEY", "k")
        .env("OMK_BASE_URL", silent.url(""))
        .run()
        .code(124)
        .stderr_contains("300ms ran out");
}
