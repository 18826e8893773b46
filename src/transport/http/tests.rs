//! The client against the [`Server`] on 127.0.0.1. No test sleeps and none judges by the clock: a slow server is one that
//! holds the connection until the client gives up.

use std::net::TcpListener;

use super::server::Reply;
use super::server::Server;
use super::server::ok;
use super::*;

fn http() -> Http {
    Http::new(HttpConfig {
        timeout: Duration::from_secs(20),
        max_body_bytes: 1000,
        ..HttpConfig::default()
    })
    .unwrap()
}

#[test]
fn a_page_is_fetched_with_our_name_and_no_key() {
    let server = Server::new(|_| {
        ok(
            "200 OK",
            "content-type: text/plain\r\nset-cookie: a=b\r\n",
            "hello",
        )
    });
    let response = http().get(&server.url("/x?y=1"), None).unwrap();
    assert!(response.is_success());
    assert_eq!(
        (response.status, response.body.as_slice()),
        (200, b"hello".as_slice())
    );
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(response.header("set-cookie"), None);
    let request = server.requests()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /x?y=1 http/1.1\r\n"), "{request}");
    assert!(
        request.contains(&format!(
            "user-agent: omk/{}\r\n",
            env!("CARGO_PKG_VERSION")
        )),
        "{request}"
    );
    assert!(!request.contains("authorization"), "{request}");
}

#[test]
fn json_is_posted_with_the_key() {
    let server = Server::new(|_| {
        ok(
            "200 OK",
            "msh-request-id: r-1\r\nx-request-id: r-2\r\n",
            "{}",
        )
    });
    let response = http()
        .post_json(
            &server.url("/v1/chat"),
            Some(&Secret::new("sk-1")),
            b"{\"a\":1}",
        )
        .unwrap();
    assert_eq!(response.trace_id(), Some("r-1"));
    let request = &server.requests()[0];
    assert!(
        request
            .to_ascii_lowercase()
            .contains("authorization: bearer sk-1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("content-type: application/json\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
}

#[test]
fn an_error_status_is_an_answer_with_its_body() {
    let body = r#"{"error":{"type":"resource_not_found_error","message":"Not found the model x"}}"#;
    let server = Server::new(move |_| ok("404 Not Found", "", body));
    let response = http().get(&server.url("/"), None).unwrap();
    assert_eq!(
        (response.status, response.body.as_slice()),
        (404, body.as_bytes())
    );
    assert!(!response.is_success());
}

#[test]
fn retry_after_is_read_in_seconds_or_as_a_date() {
    for (value, wait) in [
        ("7", Some(7)),
        (" 0 ", Some(0)),
        ("-1", None),
        ("1.5", None),
        ("99999999999999999999", Some(u64::from(u32::MAX))),
        ("Fri, 20 Nov 2020 08:30:00 GMT", Some(0)),
        ("tomorrow", None),
    ] {
        let header = format!("retry-after: {value}\r\n");
        let server = Server::new(move |_| ok("429 Too Many Requests", &header, ""));
        let response = http().get(&server.url("/"), None).unwrap();
        assert_eq!(response.status, 429);
        assert_eq!(
            response.retry_after(),
            wait.map(Duration::from_secs),
            "{value}"
        );
    }
}

#[test]
fn chunks_are_put_together_and_counted() {
    let chunked = |chunks: usize| {
        let mut bytes =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
        for _ in 0..chunks {
            bytes.extend_from_slice(b"64\r\n");
            bytes.extend_from_slice(&[b'x'; 100]);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    };
    let server = Server::new(move |request| {
        Reply::Bytes(chunked(if request.contains("/ten") { 10 } else { 11 }))
    });
    assert_eq!(
        http().get(&server.url("/ten"), None).unwrap().body.len(),
        1000
    );
    let error = http().get(&server.url("/eleven"), None).unwrap_err();
    assert_eq!(error, TransportError::BodyTooLarge { limit: 1000 });
}

#[test]
fn a_body_of_known_size_over_the_limit_is_refused() {
    let server = Server::new(|_| ok("200 OK", "", &"x".repeat(1001)));
    let error = http().get(&server.url("/"), None).unwrap_err();
    assert_eq!(error.to_string(), "answer too large: more than 1000 bytes");
    assert!(error.may_have_arrived());
}

#[test]
fn a_body_that_announces_too_much_is_not_waited_for() {
    let server = Server::new(|_| Reply::hold("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"));
    let error = http().get(&server.url("/"), None).unwrap_err();
    assert_eq!(error, TransportError::BodyTooLarge { limit: 1000 });
}

#[test]
fn names_are_looked_up_and_late_answers_not_used() {
    let server = Server::new(|_| ok("200 OK", "", "here"));
    let url = format!("http://localhost:{}/", server.port());
    // A name of the machine itself, so that no network is asked. Where it means ::1 alone nobody answers.
    match http().get(&url, None) {
        Ok(response) => assert_eq!(response.body, b"here"),
        Err(error) => assert!(matches!(error, TransportError::Connect { .. }), "{error:?}"),
    }
    let uri: Uri = "http://127.0.0.1/".parse().unwrap();
    let no_time = NextTimeout {
        after: ureq::unversioned::transport::time::Duration::from_millis(0),
        ..NextTimeout::default()
    };
    let config = Agent::config_builder().build();
    let late = OneThread::default().resolve(&uri, &config, no_time);
    assert!(
        matches!(late, Err(ureq::Error::Timeout(ureq::Timeout::Resolve))),
        "{late:?}"
    );
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxies = Proxies {
        all: Some(format!("http://{address}")),
        ..Proxies::default()
    };
    let config = HttpConfig {
        proxies,
        ..HttpConfig::default()
    };
    let error = Http::new(config)
        .unwrap()
        .get("http://a.invalid/", None)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no connection to the proxy for a.invalid: "),
        "{error}"
    );
}

#[test]
fn a_body_cut_short_is_an_error() {
    let server = Server::new(|_| {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_vec())
    });
    let error = http().get(&server.url("/"), None).unwrap_err();
    assert!(
        matches!(
            error,
            TransportError::Io { .. } | TransportError::Protocol { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn what_is_not_http_is_an_error() {
    let server = Server::new(|_| Reply::Bytes(b"220 mail.example ESMTP\r\n\r\n".to_vec()));
    let error = http().get(&server.url("/"), None).unwrap_err();
    assert!(
        matches!(
            error,
            TransportError::Protocol { .. } | TransportError::Io { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn the_deadline_names_where_it_struck() {
    let server = Server::new(|request| {
        if request.contains("/silent") {
            Reply::hold("")
        } else {
            Reply::hold("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf")
        }
    });
    let mut http = http();
    http.set_timeout(Duration::from_millis(200));
    let error = http
        .post_json(&server.url("/silent"), None, b"{}")
        .unwrap_err();
    assert_eq!(error, TransportError::Timeout(Phase::Wait));
    assert!(error.may_have_arrived());
    let error = http.get(&server.url("/half"), None).unwrap_err();
    assert_eq!(error, TransportError::Timeout(Phase::Read));
}

#[test]
fn nobody_listening_is_no_connection() {
    // Bound and closed at once, so the port is free and nobody answers on it.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = http().get(&format!("http://{address}/"), None).unwrap_err();
    assert!(
        matches!(&error, TransportError::Connect { host, .. } if host == "127.0.0.1"),
        "{error:?}"
    );
    assert!(!error.may_have_arrived());
}

#[test]
fn redirects_are_followed_only_without_a_key() {
    let target = Server::new(|_| ok("200 OK", "", "there"));
    let location = format!("location: {}\r\n", target.url("/there"));
    let server = Server::new(move |_| ok("307 Temporary Redirect", &location, ""));
    let key = Secret::new("sk-1");
    assert_eq!(http().get(&server.url("/"), None).unwrap().body, b"there");
    assert_eq!(target.requests().len(), 1);
    assert_eq!(
        http().get(&server.url("/"), Some(&key)).unwrap().status,
        307
    );
    assert_eq!(
        http()
            .post_json(&server.url("/"), Some(&key), b"{}")
            .unwrap()
            .status,
        307
    );
    assert_eq!(
        http()
            .post_json(&server.url("/"), None, b"{}")
            .unwrap()
            .status,
        307
    );
    assert_eq!(
        target.requests().len(),
        1,
        "the key or the prompt went on to another host"
    );
}

#[test]
fn a_ring_of_redirects_ends() {
    let server = Server::new(|_| ok("302 Found", "location: /again\r\n", ""));
    let error = http().get(&server.url("/"), None).unwrap_err();
    assert!(
        matches!(error, TransportError::Redirect { .. }),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 1 + MAX_REDIRECTS as usize);
}

#[test]
fn bad_addresses_are_refused_before_anything_is_sent() {
    for url in [
        "",
        "example.com",
        "ftp://example.com/",
        "/v1",
        "http://",
        "http://a b/",
        "https://user:pass@example.com/",
    ] {
        let error = http().get(url, Some(&Secret::new("sk-1"))).unwrap_err();
        assert!(
            matches!(error, TransportError::BadUrl { .. }),
            "{url}: {error:?}"
        );
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
}

#[test]
fn the_key_and_a_proxys_password_are_in_no_message() {
    let config = HttpConfig {
        proxies: Proxies {
            all: Some("http://joe:hunter2@".to_string()),
            ..Proxies::default()
        },
        ..HttpConfig::default()
    };
    let http = Http::new(config).unwrap();
    let error = http
        .get("http://127.0.0.1:1/", Some(&Secret::new("sk-1")))
        .unwrap_err();
    assert!(
        matches!(error, TransportError::BadProxy { .. }),
        "{error:?}"
    );
    for shown in [
        format!("{error}"),
        format!("{error:?}"),
        format!("{http:?}"),
    ] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("sk-1"),
            "{shown}"
        );
    }
    assert!(error.hint().unwrap().contains("NO_PROXY"));
}

#[test]
fn a_proxy_is_asked_and_no_proxy_goes_around_it() {
    let proxy = Server::new(|_| ok("403 Forbidden", "", ""));
    let server = Server::new(|_| ok("200 OK", "", "direct"));
    let through = |no_proxy: Option<&str>| {
        let proxies = Proxies {
            http: Some(proxy.url("")),
            no_proxy: no_proxy.map(String::from),
            ..Proxies::default()
        };
        Http::new(HttpConfig {
            proxies,
            ..HttpConfig::default()
        })
        .unwrap()
        .get(&server.url("/"), None)
    };
    assert!(matches!(
        through(None).unwrap_err(),
        TransportError::Proxy { .. }
    ));
    assert_eq!(proxy.requests().len(), 1);
    assert_eq!(server.requests().len(), 0);
    assert_eq!(through(Some("127.0.0.1")).unwrap().body, b"direct");
    assert_eq!(proxy.requests().len(), 1);
}

/// A SOCKS5 proxy that lets one client through to whatever it asks for, and says what that was.
fn socks_proxy() -> (String, std::thread::JoinHandle<String>) {
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;
    use std::net::TcpStream;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut take = |length: usize| {
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes).unwrap();
            bytes
        };
        let methods = take(2)[1];
        take(methods.into());
        client.write_all(&[5, 0]).unwrap();
        let mut take = |length: usize| {
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes).unwrap();
            bytes
        };
        let host = match take(4)[3] {
            1 => take(4)
                .iter()
                .map(u8::to_string)
                .collect::<Vec<_>>()
                .join("."),
            _ => {
                let length = take(1)[0];
                String::from_utf8(take(length.into())).unwrap()
            }
        };
        let port = take(2);
        let port = u16::from_be_bytes([port[0], port[1]]);
        let mut server = TcpStream::connect((host.as_str(), port)).unwrap();
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut request = [0; 4096];
        let length = client.read(&mut request).unwrap();
        server.write_all(&request[..length]).unwrap();
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).unwrap();
        client.write_all(&answer).unwrap();
        format!("{host}:{port}")
    });
    (address.to_string(), thread)
}

#[test]
fn a_socks_proxy_is_asked_for_the_host() {
    for scheme in ["socks5", "socks5h", "socks"] {
        let server = Server::new(|_| ok("200 OK", "", "through"));
        let (address, asked) = socks_proxy();
        let proxies = Proxies {
            all: Some(format!("{scheme}://{address}")),
            ..Proxies::default()
        };
        let http = Http::new(HttpConfig {
            proxies,
            ..HttpConfig::default()
        });
        let answer = http.unwrap().get(&server.url("/"), None).unwrap();
        assert_eq!(answer.body, b"through", "{scheme}");
        assert_eq!(
            asked.join().unwrap(),
            format!("127.0.0.1:{}", server.port())
        );
    }
}

/// What an environment can hold must never end the program.
#[test]
fn odd_proxies_keys_and_addresses_are_errors() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for scheme in [
        "http", "https", "socks", "socks4", "socks4a", "socks5", "socks5h",
    ] {
        for rest in [
            "",
            "://",
            ":///",
            "://é",
            "://:0",
            "://[::1",
            "://127.0.0.1:99999",
            "://a@b@c",
            &format!("://{closed}"),
            &format!("://user:p%zz@{closed}"),
        ] {
            for url in ["http://example.invalid/", "https://example.invalid/"] {
                let config = HttpConfig {
                    timeout: Duration::from_secs(5),
                    proxies: Proxies {
                        all: Some(format!("{scheme}{rest}")),
                        ..Proxies::default()
                    },
                    ..HttpConfig::default()
                };
                let answer = Http::new(config).unwrap().get(url, None);
                assert!(answer.is_err(), "{scheme}{rest} {url}");
            }
        }
    }
    let server = Server::new(|_| ok("200 OK", "", ""));
    let http = Http::new(HttpConfig::default()).unwrap();
    for key in ["sk-é", "sk-\u{7f}", "sk-\n", "sk-\0", "", "字"] {
        // Sent or refused, but no more than that.
        let _ = http.get(&server.url("/"), Some(&Secret::new(key)));
    }
    for url in [
        "",
        "é",
        "http://",
        "http://é/",
        "http://[::1",
        "http://a b/",
        "http://127.0.0.1:99999/",
    ] {
        assert!(http.get(url, None).is_err(), "{url}");
    }
}

#[test]
fn proxies_are_chosen_by_scheme_and_host() {
    let proxies = Proxies {
        https: Some("http://secure:1".to_string()),
        http: Some(" ".to_string()),
        all: Some("http://all:1".to_string()),
        no_proxy: Some("localhost, .internal,example.com:8443,*.corp.net,::1".to_string()),
    };
    for (url, chosen) in [
        ("https://api.moonshot.ai/v1", Some("http://secure:1")),
        ("http://api.moonshot.ai/v1", Some("http://all:1")),
        ("https://localhost:8080/", None),
        ("https://notlocalhost/", Some("http://secure:1")),
        ("https://a.internal/", None),
        ("https://internal/", None),
        ("https://example.com:8443/", None),
        ("https://example.com/", Some("http://secure:1")),
        ("https://x.corp.net/", None),
        ("http://[::1]:9/", None),
    ] {
        assert_eq!(proxies.for_uri(&url.parse().unwrap()), chosen, "{url}");
    }
    let none = Proxies {
        no_proxy: Some("*".to_string()),
        ..proxies
    };
    assert_eq!(
        none.for_uri(&"https://api.moonshot.ai/".parse().unwrap()),
        None
    );
}

#[test]
fn a_useless_file_of_certificates_is_named() {
    let missing = PathBuf::from("/nowhere/ca.pem");
    let empty = PathBuf::from("/dev/null");
    for path in [missing, empty] {
        let config = HttpConfig {
            ca_file: Some(path.clone()),
            ..HttpConfig::default()
        };
        let error = Http::new(config).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("tls: SSL_CERT_FILE {}: ", path.display())),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
}

/// All that a stream brings, and why it ended if not of itself.
fn drain(mut stream: HttpStream) -> (Vec<u8>, Option<TransportError>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 7]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, None),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) => return (bytes, Some(error)),
        }
    }
}

fn stream(http: &Http, server: &Server, idle: Duration) -> HttpStream {
    let key = Secret::new("sk-1");
    match http.post_json_streaming(&server.url("/"), Some(&key), b"{}", idle) {
        Ok(Streamed::Body(stream)) => stream,
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(20);
/// Ample for a server on the same machine to say the little that it says.
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn a_success_is_read_as_it_comes_and_beyond_the_limit_of_bodies() {
    let server = Server::new(|_| {
        let headers = "content-type: text/event-stream\r\nx-request-id: r-1\r\n";
        ok("200 OK", headers, &"x".repeat(5000))
    });
    let stream = stream(&http(), &server, LONG);
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.trace_id(), Some("r-1"));
    assert!(!format!("{stream:?}").contains("sk-1"));
    let (bytes, error) = drain(stream);
    assert_eq!((bytes.len(), error), (5000, None));
    let request = server.requests()[0].to_ascii_lowercase();
    for line in [
        "accept: text/event-stream",
        "accept-encoding: identity",
        "content-type: application/json",
        "authorization: bearer sk-1",
    ] {
        assert!(request.contains(&format!("{line}\r\n")), "{request}");
    }
}

#[test]
fn a_refusal_comes_whole_and_bounded() {
    let server = Server::new(|request| match request.contains("large") {
        true => ok("400 Bad Request", "", &"x".repeat(1001)),
        false => ok("429 Too Many Requests", "retry-after: 7\r\n", "slow down"),
    });
    let post = |body: &[u8]| http().post_json_streaming(&server.url("/"), None, body, LONG);
    match post(b"small").unwrap() {
        Streamed::Refused(response) => {
            assert_eq!((response.status, &*response.body), (429, &b"slow down"[..]));
            assert_eq!(response.retry_after(), Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        post(b"large").unwrap_err(),
        TransportError::BodyTooLarge { limit: 1000 }
    );
}

#[test]
fn a_redirect_of_a_streaming_post_is_an_answer() {
    let server = Server::new(|_| ok("307 Temporary Redirect", "location: /else\r\n", ""));
    let answer = http().post_json_streaming(&server.url("/"), None, b"{}", LONG);
    assert!(matches!(answer, Ok(Streamed::Refused(r)) if r.status == 307));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn silence_is_told_from_the_deadline() {
    let server = Server::new(|request| match request.ends_with("first") {
        true => Reply::hold(""),
        false => Reply::hold("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf"),
    });
    let silence = |phase| TransportError::Silence {
        phase,
        limit: SHORT,
    };
    let first = http().post_json_streaming(&server.url("/"), None, b"first", SHORT);
    let error = first.unwrap_err();
    assert_eq!(error, silence(Phase::Wait));
    assert!(error.may_have_arrived());
    assert_eq!(
        error.to_string(),
        "silence: nothing for 500ms while waiting for the answer"
    );
    let (bytes, error) = drain(stream(&http(), &server, SHORT));
    assert_eq!(
        (bytes.as_slice(), error),
        (&b"half"[..], Some(silence(Phase::Read)))
    );
    let mut http = http();
    http.set_timeout(SHORT);
    let first = http.post_json_streaming(&server.url("/"), None, b"first", LONG);
    assert_eq!(first.unwrap_err(), TransportError::Timeout(Phase::Wait));
    let (bytes, error) = drain(stream(&http, &server, LONG));
    assert_eq!(
        (bytes.as_slice(), error),
        (&b"half"[..], Some(TransportError::Timeout(Phase::Read)))
    );
}

#[test]
fn no_time_is_too_long_or_too_short_to_say() {
    let server = Server::new(|_| ok("200 OK", "", "hello"));
    let mut http = http();
    http.set_timeout(Duration::MAX);
    assert_eq!(
        drain(stream(&http, &server, Duration::MAX)),
        (b"hello".to_vec(), None)
    );
    let held = Server::new(|_| Reply::hold(""));
    let answer = http.post_json_streaming(&held.url("/"), None, b"{}", Duration::ZERO);
    // A millisecond may not even do for a connection.
    assert!(matches!(
        answer.unwrap_err(),
        TransportError::Silence { .. } | TransportError::Timeout(Phase::Connect)
    ));
}

#[test]
fn a_stream_cut_short_is_an_error() {
    for cut in [
        "content-length: 50\r\n\r\nshort",
        "transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "transfer-encoding: chunked\r\n\r\n32\r\nshort",
    ] {
        let cut = format!("HTTP/1.1 200 OK\r\n{cut}");
        let server = Server::new(move |_| Reply::Bytes(cut.clone().into_bytes()));
        let (bytes, error) = drain(stream(&http(), &server, LONG));
        assert_eq!(bytes, b"short");
        assert!(
            matches!(error, Some(TransportError::Io { .. })),
            "{error:?}"
        );
    }
}
