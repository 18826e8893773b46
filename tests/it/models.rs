//! `omk models` and `omk models update` on the built program: what is shown, and that a failed update leaves the list in
//! use as it was, byte for byte.

use crate::sandbox::{Outcome, Sandbox};
use crate::server::{Reply, Server, nobody};

/// A list as models.dev serves it: a builtin model at another price, and one of its own.
const LIST: &str = r#"{"moonshotai": {"id": "moonshotai", "models": {
    "kimi-k3": {"id": "kimi-k3", "cost": {"input": 2.5, "output": 12, "cache_read": 0.003625}, "limit": {"context": 1048576, "output": 131072}},
    "kimi-k9": {"id": "kimi-k9", "cost": {"input": 1, "output": 2}, "limit": {"context": 4096, "output": 4096}},
    "kimi-free": {"id": "kimi-free", "cost": {"input": 0, "output": 0}}
}}}"#;

/// Where the fetched list is kept, below the sandbox.
const SNAPSHOT: &str = "config/omk/models.dev.json";

fn update(sandbox: &Sandbox, url: &str) -> crate::sandbox::Run {
    sandbox.omk("models update --url").arg(url)
}

/// A sandbox with a fetched list in use, and the bytes of it.
fn with_list(name: &str) -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new(name);
    let server = Server::new([Reply::http("200 OK", &[], LIST)]);
    update(&sandbox, &server.url("/")).run().code(0);
    let bytes = std::fs::read(sandbox.path(SNAPSHOT)).unwrap();
    (sandbox, bytes)
}

/// The row of a model in `omk models --json`.
#[track_caller]
fn row(outcome: &Outcome, model: &str) -> serde_json::Value {
    let document = outcome.code(0).stderr("").json();
    let rows = document["models"].as_array().unwrap();
    let row = rows.iter().find(|row| row["model"] == model);
    outcome.check(row.is_some(), &format!("a row of {model}"));
    row.unwrap().clone()
}

#[test]
fn the_table_is_for_people_and_the_document_for_programs() {
    let sandbox = Sandbox::new("the_table_is_for_people_and_the_document_for_programs");
    let outcome = sandbox.omk("models gpt-5.5").run();
    outcome.code(0).stderr("").stdout(
        "USD per 1M tokens
model          provider  window vocabulary input cached write output as of
gpt-5.5        openai   1050000 o200k_base     5    0.5     -     30 2026-07-02
  above 272000                                10      1     -     45
",
    );
    let all = sandbox.omk("models --all --json").run();
    let document = all.code(0).stderr("").json();
    assert_eq!(document["schema"], "omk.models/1");
    assert_eq!(document["ok"], true);
    assert_eq!(document["exit"], 0);
    assert_eq!(document["error"], serde_json::Value::Null);
    let k3 = row(&all, "kimi-k3");
    assert_eq!(
        (&k3["origin"], &k3["price"]["cached_input"]),
        (&"builtin".into(), &0.3.into())
    );
    assert_eq!(
        (&k3["currency"], &k3["unit"]),
        (&"USD".into(), &"per 1M tokens".into())
    );
    // A flat fee is no price of nothing.
    let plan = row(&all, "kimi-for-coding");
    assert_eq!(
        (&plan["billing"], &plan["price"]),
        (&"subscription".into(), &serde_json::Value::Null)
    );
    assert_eq!(row(&all, "kimi-k2.5")["status"], "retired");
    // The numbers of the document are the digits of the list.
    all.stdout_contains(r#""cached_input":0.003625,"#);
}

#[test]
fn a_name_without_a_model_is_a_failure_with_a_hint() {
    let sandbox = Sandbox::new("a_name_without_a_model_is_a_failure_with_a_hint");
    let outcome = sandbox.omk("models kimi-k33").run();
    outcome
        .code(1)
        .stdout("")
        .stderr_contains("omk: models: no model matches `kimi-k33`\nhint: did you mean `kimi-k3`");
    let outcome = sandbox.omk("models kimi-k33 --json").run();
    assert_eq!(outcome.code(1).json()["error"]["kind"], "models");
}

#[test]
fn a_price_file_is_in_the_listing() {
    let sandbox = Sandbox::new("a_price_file_is_in_the_listing");
    sandbox.file(
        "prices.json",
        r#"[{"model": "house", "input": 1, "output": 2, "window": 10}]"#,
    );
    let outcome = sandbox.omk("models house --json --price-file prices.json");
    let house = row(&outcome.run(), "house");
    assert_eq!(
        (&house["origin"], &house["as_of"]),
        (&"prices.json".into(), &serde_json::Value::Null)
    );
    sandbox
        .omk("models house --price-file prices.json")
        .run()
        .code(0)
        .stdout_contains("house -            10 ~o200k_base     1      -     -      2 -\n");
    sandbox.file("prices.json", r#"[{"model": "house"}]"#);
    let outcome = sandbox.omk("models --price-file prices.json").run();
    outcome
        .code(78)
        .stderr_contains("omk: prices: prices.json: row 1 (house): input: missing");
}

#[test]
fn a_fetched_list_is_in_force_from_then_on() {
    let sandbox = Sandbox::new("a_fetched_list_is_in_force_from_then_on");
    // The directory is made when it is not there.
    std::fs::remove_dir_all(sandbox.path("config")).unwrap();
    let server = Server::new([
        Reply::http("302 Found", &["location: /api.json"], ""),
        Reply::http("200 OK", &["content-type: application/json"], LIST),
    ]);
    let url = server.url("/");
    let path = sandbox.path(SNAPSHOT);
    let outcome = update(&sandbox, &format!("{url}?key=sk-1")).run();
    outcome.code(0).stderr("").stdout(&format!(
        "2 models with a price, 1 without, from {url} to {}\n",
        path.display()
    ));
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /?key=sk-1 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(
        requests[1].starts_with("GET /api.json HTTP/1.1\r\n"),
        "{requests:?}"
    );

    let listing = sandbox.omk("models kimi --json").run();
    let k3 = row(&listing, "kimi-k3");
    let origin = k3["origin"].as_str().unwrap();
    assert!(
        origin.starts_with("models.dev of ") && origin.ends_with(&path.display().to_string()),
        "{origin}"
    );
    assert_eq!(k3["price"]["cached_input"], 0.003625);
    assert_eq!(row(&listing, "kimi-k9")["window"], 4096);
    assert_eq!(row(&listing, "kimi-free")["price"], serde_json::Value::Null);
    // What the list does not speak of is as it was.
    assert_eq!(row(&listing, "kimi-k3.1-pro")["origin"], "builtin");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path), 0o600);
        assert_eq!(mode(sandbox.path("config/omk")), 0o700);
    }
}

#[test]
fn an_update_under_json_is_one_document() {
    let sandbox = Sandbox::new("an_update_under_json_is_one_document");
    let server = Server::new([
        Reply::http("200 OK", &[], LIST),
        Reply::http("429 Too Many Requests", &["retry-after: 7"], ""),
    ]);
    let document = update(&sandbox, &server.url("/"))
        .arg("--json")
        .run()
        .code(0)
        .json();
    assert_eq!(document["schema"], "omk.models-update/1");
    assert_eq!(
        (&document["priced"], &document["unpriced"]),
        (&2.into(), &1.into())
    );
    let outcome = update(&sandbox, &server.url("/")).arg("--json").run();
    let error = &outcome.code(75).json()["error"];
    assert_eq!(
        (
            &error["retryable"],
            &error["retry_after_s"],
            &error["http_status"]
        ),
        (&true.into(), &7.into(), &429.into())
    );
    outcome.stderr_contains("hint: try again in 7 s\n");
}

#[test]
fn whatever_the_server_does_wrong_the_list_in_use_stays() {
    let (sandbox, before) = with_list("whatever_the_server_does_wrong_the_list_in_use_stays");
    let html = "<!doctype html><title>Sign in</title>";
    let whole = LIST.len();
    let cases = [
        (Reply::http("200 OK", &[], "{\"mo"), 1, "not JSON"),
        (
            Reply::http("200 OK", &[], html),
            1,
            "not a models.dev price list: not JSON",
        ),
        (Reply::http("200 OK", &[], "{}"), 1, "moonshotai: missing"),
        (
            Reply::http("404 Not Found", &[], html),
            1,
            "HTTP 404, nothing is there",
        ),
        (
            Reply::http("401 Unauthorized", &[], ""),
            77,
            "HTTP 401, the key is missing or wrong",
        ),
        (
            Reply::http("403 Forbidden", &[], ""),
            77,
            "HTTP 403, access is denied",
        ),
        (
            Reply::http("503 Service Unavailable", &["x-request-id: r-1"], ""),
            75,
            "HTTP 503, the service has trouble (request r-1)\nhint: try again later\n",
        ),
        (
            Reply::Bytes(
                format!("HTTP/1.1 200 OK\r\ncontent-length: {whole}\r\n\r\n{{").into_bytes(),
            ),
            75,
            "omk: network: ",
        ),
        (
            Reply::Hold(b"HTTP/1.1 200 OK\r\ncontent-length: 67108865\r\n\r\n".to_vec()),
            1,
            "answer too large: more than 16777216 bytes",
        ),
        (
            Reply::Bytes(b"220 mail.example ESMTP\r\n\r\n".to_vec()),
            1,
            "omk: network: ",
        ),
        // Hangs up without a word.
        (Reply::Bytes(Vec::new()), 75, "omk: network: "),
    ];
    for (reply, code, stderr) in cases {
        let server = Server::new([reply]);
        let outcome = update(&sandbox, &server.url("/")).run();
        outcome.code(code).stdout("").stderr_contains(stderr);
        assert_eq!(std::fs::read(sandbox.path(SNAPSHOT)).unwrap(), before);
    }
    let outcome = update(&sandbox, &nobody()).run();
    outcome
        .code(75)
        .stderr_contains("no connection to 127.0.0.1: ");
    assert_eq!(std::fs::read(sandbox.path(SNAPSHOT)).unwrap(), before);
    // Nor is anything left beside it.
    let names = std::fs::read_dir(sandbox.path("config/omk")).unwrap();
    assert_eq!(names.count(), 1);
}

#[test]
fn a_spoilt_list_is_named_and_an_update_mends_it() {
    let (sandbox, before) = with_list("a_spoilt_list_is_named_and_an_update_mends_it");
    let half = &before[..before.len() / 2];
    std::fs::write(sandbox.path(SNAPSHOT), half).unwrap();
    let outcome = sandbox.omk("models").run();
    outcome
        .code(78)
        .stdout("")
        .stderr_contains("models.dev.json: not JSON: ")
        .stderr_contains("hint: `omk models update` fetches it anew; deleting it is safe\n");
    let server = Server::new([Reply::http("200 OK", &[], LIST)]);
    update(&sandbox, &server.url("/")).run().code(0);
    sandbox.omk("models").run().code(0);
}

#[test]
fn the_deadline_ends_a_slow_update() {
    let (sandbox, before) = with_list("the_deadline_ends_a_slow_update");
    for (start, phase) in [
        ("", "waiting for the answer"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{",
            "reading the answer",
        ),
    ] {
        let server = Server::new([Reply::Hold(start.into())]);
        let outcome = update(&sandbox, &server.url("/"))
            .arg("--deadline")
            .arg("200ms")
            .run();
        outcome
            .code(124)
            .stderr_contains(&format!("omk: deadline: 200ms ran out while {phase}: "));
        assert_eq!(std::fs::read(sandbox.path(SNAPSHOT)).unwrap(), before);
    }
}

#[test]
fn a_list_that_cannot_be_kept_is_an_input_output_error() {
    let sandbox = Sandbox::new("a_list_that_cannot_be_kept_is_an_input_output_error");
    let script = || [Reply::http("200 OK", &[], LIST)];
    // Modes do not stop root, so it is the kind of file that stands in the way.
    let server = Server::new(script());
    std::fs::create_dir(sandbox.path(SNAPSHOT)).unwrap();
    let outcome = update(&sandbox, &server.url("/")).run();
    outcome.code(74).stderr_contains("omk: output: cannot ");
    std::fs::remove_dir(sandbox.path(SNAPSHOT)).unwrap();
    assert_eq!(
        std::fs::read_dir(sandbox.path("config/omk"))
            .unwrap()
            .count(),
        0
    );

    let server = Server::new(script());
    sandbox.file("own.json", "{}").file("not-a-directory", "");
    let outcome = update(&sandbox, &server.url("/"))
        .env("OMK_CONFIG", "own.json")
        .env("XDG_CONFIG_HOME", sandbox.path("work/not-a-directory"))
        .run();
    outcome
        .code(74)
        .stderr_contains("omk: output: cannot create `");

    let outcome = update(&sandbox, "http://127.0.0.1:1/")
        .without("XDG_CONFIG_HOME")
        .without("HOME")
        .run();
    outcome
        .code(78)
        .stderr_contains("there is no config directory\nhint: HOME or ");
}

#[test]
fn the_variables_of_the_network_are_obeyed() {
    let sandbox = Sandbox::new("the_variables_of_the_network_are_obeyed");
    let refusing = || Server::new([Reply::http("403 Forbidden", &[], "")]);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let proxy = refusing();
        let outcome = update(&sandbox, "http://models.invalid/api.json")
            .env(variable, proxy.url(""))
            .run();
        outcome.code(1).stderr_contains(": proxy: ");
        let requests = proxy.requests();
        assert!(
            requests[0].starts_with("CONNECT models.invalid:80 HTTP/1.1\r\n"),
            "{requests:?}"
        );
    }
    let server = Server::new([Reply::http("200 OK", &[], LIST)]);
    update(&sandbox, &server.url("/"))
        .env("HTTP_PROXY", nobody())
        .env("NO_PROXY", "127.0.0.1")
        .run()
        .code(0);
    update(&sandbox, "http://models.invalid/")
        .env("HTTP_PROXY", nobody())
        .run()
        .code(75)
        .stderr_contains("no connection to the proxy for models.invalid: ");
    update(&sandbox, "http://models.invalid/")
        .env("HTTP_PROXY", "http://joe:hunter2@")
        .run()
        .code(78)
        .stderr_contains("hint: check HTTPS_PROXY, ");
    update(&sandbox, "http://models.invalid/")
        .env("SSL_CERT_FILE", "missing.pem")
        .run()
        .code(78)
        .stderr_contains("SSL_CERT_FILE missing.pem: ");
}
