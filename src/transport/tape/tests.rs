//! The format, what is kept out of it, and what playing compares. Whole clients on a tape are tested with the clients.

use std::io;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::runtime::clock::Timer;
use crate::runtime::secret::Secret;
use crate::transport::agents::KIMI_CODE;
use crate::transport::http::BodyStream;
use crate::transport::http::Service;
use crate::transport::http::Streamed;
use crate::transport::link::Link;
use crate::transport::link::Received;
use crate::transport::session_log::ContextSource;
use crate::transport::session_log::LogSource;
use crate::transport::workspace::Workspace;

fn header() -> Header {
    let peer = Peer {
        kind: "kimi-cli".to_string(),
        version: "1.51.0".to_string(),
    };
    Header::new(Transport::Wire, "kimi-k3", Some(peer))
}

/// A tape with these lines after its header.
fn tape(lines: &[&str]) -> Vec<u8> {
    let mut text = serde_json::to_string(&header()).unwrap();
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    text.into_bytes()
}

fn player(lines: &[&str]) -> Player {
    Player::new(Tape::parse(&tape(lines)).unwrap())
}

/// What a service said, one piece each, and what a link did.
#[derive(Default)]
struct Script(Vec<Result<&'static [u8], LinkError>>);

impl Link for Script {
    fn send(&mut self, line: &str, _: Instant) -> Result<(), LinkError> {
        match line.contains("lost") {
            true => Err(LinkError::Closed),
            false => Ok(()),
        }
    }

    fn receive(&mut self, _: Instant) -> Result<Received<'_>, LinkError> {
        match self.0.pop() {
            None => Ok(Received::Eof),
            Some(Ok(b"")) => Ok(Received::Timeout),
            Some(line) => Ok(Received::Line(line?)),
        }
    }
}

#[test]
fn a_conversation_is_written_line_by_line() {
    let recorder = Recorder::in_memory(&header(), &[]);
    let script = vec![
        Err(LinkError::TooLong { limit: 9 }),
        Ok(&b"\xff"[..]),
        Ok(b""),
        Ok(b"[1,  2]"),
        Ok(b"noise"),
    ];
    let mut link = recorder.link(Script(script));
    let now = Instant::now();
    link.send(r#"{"id":1}"#, now).unwrap();
    for _ in 0..4 {
        link.receive(now).unwrap();
    }
    link.receive(now).unwrap_err();
    link.receive(now).unwrap();
    link.send(r#"{"lost":1}"#, now).unwrap_err();
    recorder.note_exit(Some(&Exit {
        code: Some(1),
        signal: None,
        stderr: "Traceback (most recent call last):\n  File x\nit hurts\n".to_string(),
    }));
    let bytes = recorder.take().unwrap();
    let (version, text) = (env!("CARGO_PKG_VERSION"), String::from_utf8(bytes).unwrap());
    let expected = format!(
        r#"{{"schema":"omk.tape/1","omk":"{version}","transport":"wire","model":"kimi-k3","peer":{{"kind":"kimi-cli","version":"1.51.0"}}}}
{{"on":"start"}}
{{"on":"send","json":{{"id":1}}}}
{{"on":"receive","text":"noise"}}
{{"on":"receive","json":[1,  2]}}
{{"on":"receive","hex":"ff"}}
{{"on":"error","error":{{"kind":"too long","limit":9}}}}
{{"on":"eof"}}
{{"on":"send","json":{{"lost":1}}}}
{{"on":"error","error":{{"kind":"closed"}}}}
{{"on":"exit","code":1,"stderr":"it hurts"}}
{{"on":"end"}}
"#
    );
    assert_eq!(text, expected);

    // And the same again from the tape.
    let tape = Tape::parse(text.as_bytes()).unwrap();
    assert!(tape.is_whole());
    let player = Player::new(tape);
    let mut link = player.start().unwrap();
    link.send("{ \"id\": 1 }", now).unwrap();
    for line in [&b"noise"[..], b"[1,  2]", b"\xff"] {
        assert_eq!(link.receive(now), Ok(Received::Line(line)));
    }
    assert_eq!(link.receive(now), Err(LinkError::TooLong { limit: 9 }));
    assert_eq!(link.receive(now), Ok(Received::Eof));
    // While the tape waits for us, time passes and nothing comes.
    let soon = Instant::now() + Duration::from_secs(3600);
    assert_eq!(link.receive(soon), Ok(Received::Timeout));
    assert!(player.timer().elapsed() > Duration::from_secs(3500));
    assert_eq!(link.send(r#"{"lost":1}"#, now), Err(LinkError::Closed));
    assert!(matches!(
        player.finish(),
        Err(TapeError::LeftOver { line: 11, .. })
    ));
    assert_eq!(player.stop().unwrap().stderr, "it hurts");
    assert_eq!(player.finish(), Ok(()));
}

#[test]
fn a_line_that_is_not_as_it_should_be_is_named() {
    for (lines, message) in [
        (
            &["{}"][..],
            "tape: line 2: missing field `on` at line 1 column 2",
        ),
        (
            &[r#"{"on":"start"}"#, r#"{"on":"dance"}"#],
            "tape: line 3: an unknown entry: dance",
        ),
        (
            &[r#"{"on":"send"}"#],
            "tape: line 2: send: expected one of json, text and hex",
        ),
        (
            &[r#"{"on":"body","hex":"f"}"#],
            "tape: line 2: hex: expected pairs of hexadecimal digits",
        ),
        (
            &[r#"{"on":"body","hex":"+1"}"#],
            "tape: line 2: hex: expected pairs of hexadecimal digits",
        ),
        (
            &[r#"{"on":"error","error":{"kind":"\u001b"}}"#],
            "tape: line 2: an unknown error: \\u{1b}",
        ),
        (
            &[r#"{"on":"response","status":200}"#],
            "tape: line 2: without headers",
        ),
        (
            &[r#"{"on":"end"}"#, "", r#"{"on":"start"}"#],
            "tape: line 4: something follows the end",
        ),
        (
            &[r#"{"on":"receive","te"#],
            "tape: line 2: EOF while parsing a string at line 1 column 19",
        ),
    ] {
        let error = Tape::parse(&tape(lines)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    for (bytes, message) in [
        (&b""[..], "tape: line 1: no header of a tape"),
        (b"{\"dir\":\"out\"}", "tape: line 1: no header of a tape"),
        (
            b"{\"schema\":\"omk.tape/2\"}",
            "tape: its format is omk.tape/2; this omk reads omk.tape/1",
        ),
        (
            b"{\"schema\":\"omk.tape/1\"}",
            "tape: line 1: missing field `omk` at line 1 column 23",
        ),
    ] {
        assert_eq!(Tape::parse(bytes).unwrap_err().to_string(), message);
    }
    assert!(!Tape::parse(&tape(&[])).unwrap().is_whole());
}

/// What a run is told that sends this where the tape has that.
#[track_caller]
fn check_sent(then: &str, now: &str, expected: Result<(), &str>) {
    let player = player(&[
        r#"{"on":"start"}"#,
        &format!(r#"{{"on":"send","json":{then}}}"#),
    ]);
    let sent = player.start().unwrap().send(now, Instant::now());
    let told = sent.map_err(|error| error.to_string());
    assert_eq!(
        told,
        expected.map_err(|detail| format!("tape: line 3: the run differs: {detail}"))
    );
    let finished = player.finish().map_err(|error| error.to_string());
    assert_eq!(finished, told, "the verdict is the same at the end");
}

#[test]
fn a_message_that_says_something_else_is_named_with_its_place() {
    check_sent(
        r#"{"id":"1","params":{"client":{"name":"omk","version":"0.1"},"cwd":"/a"}}"#,
        r#"{"params":{"cwd":"/b","client":{"version":"9","name":"omk"}},"id":"1"}"#,
        Ok(()),
    );
    check_sent(
        r#"{"params":{"sessionId":"a","prompt":[{"text":"The same, then this"}]}}"#,
        r#"{"params":{"sessionId":"b","prompt":[{"text":"The same, then\u001bthat"}]}}"#,
        Err(
            r#"$.params.prompt[0].text: from character 14 on "\u001bthat", and " this" on the tape"#,
        ),
    );
    check_sent(
        r#"{"a":[1,2]}"#,
        r#"{"a":[1]}"#,
        Err("$.a: 1 items, and 2 on the tape"),
    );
    check_sent(
        r#"{"a":1}"#,
        r#"{"a":1,"b":{}}"#,
        Err("$.b: only the run has it: an object of 0"),
    );
    check_sent(
        r#"{"a":1,"b":7}"#,
        r#"{"a":1}"#,
        Err("$.b: only the tape has it: 7"),
    );
    check_sent(
        r#"{"a":1}"#,
        r#"{"a":null}"#,
        Err("$.a: null, and 1 on the tape"),
    );
}

#[test]
fn more_and_less_and_other_than_the_tape_are_errors() {
    let empty = player(&[r#"{"on":"end"}"#]);
    assert_eq!(empty.finish(), Ok(()));
    assert_eq!(
        empty.start().unwrap_err().to_string(),
        "tape: it is at its end: an agent is started"
    );
    let cut = player(&[r#"{"on":"start"}"#]);
    let mut link = cut.start().unwrap();
    assert_eq!(
        link.receive(Instant::now()).unwrap_err().to_string(),
        "tape: it is at its end, as its recording was cut off: a line is awaited"
    );
    let http = player(&[r#"{"on":"request","path":"chat/completions","json":{}}"#]);
    assert_eq!(
        http.start().unwrap_err().to_string(),
        "tape: line 2: the run differs: an agent is started, but then a request was sent to chat/completions"
    );
    // Once it is another run, nothing that follows is compared any more.
    let again =
        http.service()
            .post_json_streaming("/chat/completions", None, b"{}", Duration::ZERO);
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("an agent is started")
    );
    let mut old = header();
    old.omk = "0.1.0".to_string();
    let text = format!(
        "{}\n{{\"on\":\"eof\"}}",
        serde_json::to_string(&old).unwrap()
    );
    let old = Player::new(Tape::parse(text.as_bytes()).unwrap());
    let error = old.start().unwrap_err().to_string();
    assert!(
        error.ends_with("there was no more to read (recorded by omk 0.1.0)"),
        "{error}"
    );
    let left = player(&[
        r#"{"on":"start"}"#,
        r#"{"on":"receive","text":"a\u001b"}"#,
        r#"{"on":"exit"}"#,
    ]);
    left.start().unwrap();
    assert_eq!(left.stop(), None);
    assert_eq!(
        left.finish().unwrap_err().to_string(),
        "tape: line 3: the run differs: the agent is ended, but then the agent sent a\\u{1b}"
    );
}

#[test]
fn the_key_does_not_get_onto_a_tape() {
    let secret = || Secret::new("sk-a/b\"cdefgh");
    for said in [
        "x sk-a/b\"cdefgh y",
        r#"{"text":"sk-a/b\"cdefgh"}"#,
        r#"{"text":"sk-a\/b\"cdefgh"}"#,
    ] {
        let recorder = Recorder::in_memory(&header(), &[secret()]);
        let mut link = recorder.link(Script::default());
        link.send(said, Instant::now()).unwrap();
        link.send("more", Instant::now()).unwrap();
        assert_eq!(recorder.take(), Err(TapeError::Secret), "{said}");
        assert_eq!(recorder.finish(), Err(TapeError::Secret), "and it stays so");
    }
    // Too short to be one, and no part of one.
    let recorder = Recorder::in_memory(&header(), &[Secret::new("key"), Secret::new(""), secret()]);
    recorder
        .link(Script::default())
        .send("a key sk-a/b\"cdefg", Instant::now())
        .unwrap();
    assert!(recorder.take().is_ok());
    assert!(!format!("{recorder:?}").contains("sk-"));
}

/// A service that gives a body piece by piece.
struct Pieces(Vec<&'static [u8]>);

impl BodyStream for Pieces {
    fn status(&self) -> u16 {
        200
    }

    fn header(&self, _: &str) -> Option<&str> {
        None
    }

    fn headers(&self) -> Vec<(String, String)> {
        vec![
            ("content-type".to_string(), "text/event-stream".to_string()),
            ("x-request-id".to_string(), "r-1".to_string()),
        ]
    }

    fn trace_id(&self) -> Option<&str> {
        None
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        match self.0.pop() {
            None => Ok(0),
            Some(b"!") => Err(TransportError::Silence {
                phase: Phase::Read,
                limit: Duration::from_millis(1500),
            }),
            Some(piece) => {
                buffer[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
        }
    }
}

impl Service for Pieces {
    type Body = Pieces;

    fn set_timeout(&mut self, _: Duration) {}

    fn post_json_streaming(
        &mut self,
        _: &str,
        _: Option<&Secret>,
        _: &[u8],
        _: Duration,
    ) -> Result<Streamed<Pieces>, TransportError> {
        match self.0.is_empty() {
            true => Err(TransportError::Connect {
                host: "gateway.example.org".to_string(),
                detail: "refused".to_string(),
            }),
            false => Ok(Streamed::Body(Pieces(std::mem::take(&mut self.0)))),
        }
    }
}

/// Posts and reads to the end or to an error.
fn exchange<H: Service>(service: &mut H, buffer: usize) -> (Vec<Vec<u8>>, Option<TransportError>) {
    let url = "https://gateway.example.org/tenant-7/v1/chat/completions?token=t";
    let key = Secret::new("sk-1234567890");
    let mut pieces = Vec::new();
    match service.post_json_streaming(url, Some(&key), b"{\"n\":1}", Duration::ZERO) {
        Err(error) => (pieces, Some(error)),
        Ok(Streamed::Refused(response)) => (vec![response.body], None),
        Ok(Streamed::Body(mut body)) => loop {
            let mut bytes = vec![0; buffer];
            match body.read(&mut bytes) {
                Ok(0) => return (pieces, None),
                Ok(length) => pieces.push(bytes[..length].to_vec()),
                Err(error) => return (pieces, Some(error)),
            }
        },
    }
}

#[test]
fn a_body_is_kept_in_its_pieces_and_a_service_without_its_name() {
    let recorder = Recorder::in_memory(&header(), &[Secret::new("sk-1234567890")]);
    let mut service = recorder.service(Pieces(vec![b"!", b"\xa9\n", b"data: \xc3"]));
    let silence = TransportError::Silence {
        phase: Phase::Read,
        limit: Duration::from_millis(1500),
    };
    let heard = (
        vec![b"data: \xc3".to_vec(), b"\xa9\n".to_vec()],
        Some(silence),
    );
    assert_eq!(exchange(&mut service, 100), heard);
    exchange(&mut service, 100).1.unwrap();
    let bytes = recorder.take().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    for absent in ["gateway", "tenant", "token", "sk-1234567890"] {
        assert!(!text.contains(absent), "{text}");
    }
    assert!(text.contains(r#"{"on":"request","path":"chat/completions","json":{"n":1}}"#));
    assert!(text.contains(r#"{"on":"body","hex":"646174613a20c3"}"#));

    let player = Player::new(Tape::parse(&bytes).unwrap());
    assert_eq!(exchange(&mut player.service(), 100), heard);
    assert_eq!(
        exchange(&mut player.service(), 100).1.unwrap().to_string(),
        "no connection to the service: refused"
    );
    assert_eq!(player.finish(), Ok(()));
    let again = Player::new(Tape::parse(&bytes).unwrap());
    assert_eq!(
        exchange(&mut again.service(), 5).0.concat(),
        heard.0.concat()
    );
}

#[test]
fn a_key_in_two_pieces_of_a_body_is_found() {
    let recorder = Recorder::in_memory(&header(), &[Secret::new("sk-1234567890")]);
    let mut service = recorder.service(Pieces(vec![b"90", b"345678", b"sk-12"]));
    exchange(&mut service, 100);
    assert_eq!(recorder.take(), Err(TapeError::Secret));
}

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("omk-tape-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_tape_has_its_name_when_it_is_whole_and_is_beside_it_until_then() {
    let scratch = Scratch::new("file");
    let path = scratch.0.join("x.jsonl");
    let part = scratch.0.join("x.jsonl.part");
    std::fs::write(&path, "old").unwrap();
    std::fs::write(&part, "of a run that was killed").unwrap();
    let recorder = Recorder::create(&path, &header(), &[]).unwrap();
    let mut link = recorder.link(Script::default());
    link.send("hello", Instant::now()).unwrap();
    // As far as the run came, so that nothing is lost when it is killed here.
    let cut = Tape::parse(&std::fs::read(&part).unwrap()).unwrap();
    assert_eq!((cut.entries.len(), cut.is_whole()), (2, false));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    recorder.finish().unwrap();
    assert!(
        Tape::parse(&std::fs::read(&path).unwrap())
            .unwrap()
            .is_whole()
    );
    assert!(!part.exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // No recording is none.
    let off = Recorder::off();
    off.link(Script::default())
        .send("x", Instant::now())
        .unwrap();
    assert_eq!(off.take(), Ok(Vec::new()));
    // The end of the recording is its end.
    link.send("late", Instant::now()).unwrap();
    recorder.finish().unwrap();
}

#[test]
fn a_tape_that_cannot_be_is_an_error_and_a_secret_leaves_no_file() {
    let scratch = Scratch::new("failures");
    let error = Recorder::create(&scratch.0, &header(), &[]).unwrap_err();
    assert!(
        error.to_string().ends_with("it is there and no file"),
        "{error}"
    );
    let error = Recorder::create(&scratch.0.join("no/x"), &header(), &[]).unwrap_err();
    assert!(error.to_string().starts_with("tape: create "), "{error}");
    let path = scratch.0.join("x");
    let recorder = Recorder::create(&path, &header(), &[Secret::new("sk-1234567890")]).unwrap();
    let mut link = recorder.link(Script::default());
    link.send("it is sk-1234567890", Instant::now()).unwrap();
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    assert_eq!(recorder.finish(), Err(TapeError::Secret));
    assert!(!path.exists());
}

/// Logs that hold three lines, and then cannot be read.
#[derive(Clone, Debug)]
struct Logs(u32);

impl LogSource for Logs {
    fn follow(&mut self, session: &str) -> std::io::Result<bool> {
        Ok(session == "s")
    }

    fn read(&mut self, on_line: &mut dyn FnMut(&str, &[u8])) -> std::io::Result<()> {
        self.0 += 1;
        match self.0 {
            1 => on_line("main", br#"{"type":"profile.bind","systemPrompt":"long"}"#),
            2 => on_line("main", br#"{"type":"llm.request","model":"kimi-k2"}"#),
            3 => on_line(
                "agent-1",
                br#"{"type":"turn.ended","turnId":0,"reason":"completed"}"#,
            ),
            _ => return Err(std::io::Error::other("it has become shorter")),
        }
        Ok(())
    }

    fn place(&self) -> String {
        "here".to_string()
    }

    fn owns(&self, path: &str) -> bool {
        path.starts_with("/session/")
    }
}

/// Files, of which one is there.
#[derive(Debug)]
struct Files;

impl Workspace for Files {
    fn read(&mut self, path: &str, _: bool) -> io::Result<String> {
        match path {
            "/there" => Ok("what it holds".to_string()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn write(&mut self, path: &str, _: &str) -> io::Result<()> {
        match path {
            "/full" => Err(io::Error::other("no space is left")),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_tape_whose_agents_have_numbers_is_played_too() {
    for (number, name) in [(0, "main"), (1, "agent-0")] {
        let line = format!(r#"{{"on":"log","agent":{number},"json":{{}}}}"#);
        let entry = Entry::read(line.as_bytes()).unwrap();
        let Entry::Log { agent, .. } = entry else {
            panic!("{entry:?}");
        };
        assert_eq!(agent, name);
    }
}

#[test]
fn of_a_log_the_facts_are_kept() {
    let recorder = Recorder::in_memory(&header(), &[]);
    let mut logs = recorder.logs(Logs(0), &KIMI_CODE);
    assert!(!logs.follow("x").unwrap());
    assert!(logs.follow("s").unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        logs.read(&mut |agent, line| seen.push((agent.to_string(), line.to_vec())))
            .unwrap();
    }
    logs.read(&mut |_, _| {}).unwrap_err();
    let bytes = recorder.take().unwrap();
    let player = Player::new(Tape::parse(&bytes).unwrap());
    let mut logs = player.logs();
    assert!(!logs.follow("any").unwrap());
    assert!(logs.follow("any").unwrap());
    let mut played = Vec::new();
    for looks in 1..=2 {
        logs.read(&mut |agent, line| played.push((agent.to_string(), line.to_vec())))
            .unwrap();
        assert_eq!(played, seen[1..=looks], "one look at a time");
    }
    let error = logs.read(&mut |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "it has become shorter");
    assert_eq!(player.finish(), Ok(()));
}

#[test]
fn a_file_that_was_handed_over_is_not_touched_when_it_is_played() {
    let told = |result: io::Result<String>| match result {
        Ok(content) => format!(r#"{{"id":1,"result":{{"content":"{content}"}}}}"#),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            r#"{"id":1,"error":{"code":-32002,"message":"there is no such file"}}"#.to_string()
        }
        Err(error) => format!(r#"{{"id":1,"error":{{"code":-32603,"message":"{error}"}}}}"#),
    };
    let written = |result: io::Result<()>| told(result.map(|()| String::new()));
    let recorder = Recorder::in_memory(&header(), &[]);
    let logs = recorder.logs(Logs(0), &KIMI_CODE);
    let mut files = Files;
    let mut link = recorder.link(Script::default());
    assert!(logs.owns("/session/plan.md"));
    let lines = [
        told(files.read("/there", false)),
        told(files.read("/gone", false)),
        written(files.write("/full", "x")),
        written(files.write("/session/plan.md", "x")),
    ];
    for line in &lines {
        link.send(line, Instant::now()).unwrap();
    }
    let player = Player::new(Tape::parse(&recorder.take().unwrap()).unwrap());
    let mut link = player.start().unwrap();
    let logs = player.logs();
    let mut files = player.files();
    for (line, owns) in lines.iter().zip([true, false, false, true]) {
        // Nobody has these files.
        assert_eq!(logs.owns("/session/plan.md"), owns, "{line}");
        assert_eq!(&told(files.read("/nowhere/a", false)), line);
        if !line.contains("what it holds") {
            assert_eq!(&written(files.write("/nowhere/a", "x")), line);
        }
        link.send(line, Instant::now()).unwrap();
    }
    assert_eq!(player.finish(), Ok(()));
}

#[test]
fn the_example_is_a_whole_tape() {
    let tape = Tape::example().unwrap();
    assert!(tape.is_whole());
    let header = tape.header();
    assert_eq!(
        (header.transport, header.model.as_str()),
        (Transport::Http, "kimi-k3")
    );
    assert!(header.note.as_deref().unwrap().starts_with("Invented"));
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            "[\\[\\]{}\"a1:,\n\r \u{2028}é]{0,12}".prop_map(String::into_bytes),
            Just(br#"{"a": [1.50, "\u0041"]}"#.to_vec()),
        ]
    };
    let faults = [
        TransportError::Timeout(Phase::Connect),
        TransportError::Redirect {
            detail: "x".to_string(),
        },
        TransportError::BodyTooLarge { limit: 7 },
    ];
    prop_oneof![
        Just(Entry::Start),
        bytes().prop_map(Entry::Send),
        bytes().prop_map(Entry::Receive),
        any::<bool>().prop_map(|found| Entry::Follow { found }),
        ("[a-z0-9-]{0,9}", bytes()).prop_map(|(agent, line)| Entry::Log { agent, line }),
        any::<Option<i32>>().prop_map(|code| Entry::Exit(Some(Exit {
            code,
            signal: None,
            stderr: "x".to_string(),
        }))),
        Just(Entry::Exit(None)),
        Just(Entry::Looked),
        (".{0,9}", bytes()).prop_map(|(path, body)| Entry::Request { path, body }),
        (
            any::<u16>(),
            prop::collection::vec((".{0,3}", ".{0,3}"), 0..3)
        )
            .prop_map(|(status, headers)| Entry::Response { status, headers }),
        bytes().prop_map(Entry::Body),
        Just(Entry::Eof),
        prop::sample::select(faults.to_vec())
            .prop_map(|error| Entry::Error(Fault::of_http(&error))),
    ]
}

proptest! {
    #[test]
    fn every_entry_reads_back(entry in any_entry()) {
        let line = entry.write();
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(Entry::read(&line), Ok(entry));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), line in "[{}\":,a-z0-9\\\\ ]{0,40}") {
        let _ = Tape::parse(&bytes);
        let _ = Tape::parse(&tape(&[&line]));
        let mut after = tape(&[]);
        after.push(b'\n');
        after.extend_from_slice(&bytes);
        if let Err(error) = Tape::parse(&after) {
            prop_assert!(!error.to_string().contains(char::is_control), "{}", error);
        }
    }

    #[test]
    fn any_tape_plays_to_an_end(entries in prop::collection::vec(any_entry(), 0..8)) {
        let mut bytes = tape(&[]);
        bytes.push(b'\n');
        bytes.extend(entries.iter().flat_map(Entry::write));
        let tape = Tape::parse(&bytes).unwrap();
        let player = Player::new(tape.clone());
        let (mut logs, soon) = (player.logs(), Instant::now());
        if let Ok(mut link) = player.start() {
            let _ = logs.follow("s");
            for _ in 0..4 {
                let _ = link.receive(soon).map(|_| ());
                let _ = logs.read(&mut |_, _| {});
                let _ = player.context().answer("{}");
                let _ = player.context().has_lost_prompt();
                let _ = link.send("{}", soon);
            }
            player.stop();
        }
        prop_assert!(player.finish().is_err() || !entries.is_empty(), "something was done");
        exchange(&mut Player::new(tape).service(), 7);
    }
}
