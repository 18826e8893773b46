//! A model service on 127.0.0.1, by behaviour: chat completions as OpenAI and Moonshot speak them.
//!
//! Unlike the script of [`crate::server`] it answers any number of connections, keeps them alive and streams. Each call of
//! the model is handed to a behaviour, which says what comes of it; the request is kept, and so is a bill: what a service
//! would charge for each call that it answered, in figures that differ from call to call, so that no sum is right by
//! chance. It ends by itself: dropping it ends every connection, and none waits for longer than a minute.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Whatever goes wrong, nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a held connection is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// More than any test opens.
const MOST_CONNECTIONS: usize = 100_000;
/// The largest request: two prompts of 5 MB with all that an agent adds.
const LARGEST: usize = 64 * 1024 * 1024;

/// A call of the model.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The first is 1.
    pub(crate) number: usize,
    /// The request line and headers.
    pub(crate) head: String,
    /// The request.
    pub(crate) body: Value,
    /// When it had arrived.
    pub(crate) at: Instant,
}

impl Call {
    /// The value of a header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }

    /// The last message.
    pub(crate) fn last(&self) -> &Value {
        let messages = self.body["messages"].as_array();
        messages.and_then(|all| all.last()).unwrap_or(&Value::Null)
    }

    /// A tool has answered, whatever was said since.
    pub(crate) fn after_tool(&self) -> bool {
        let mut messages = self.body["messages"].as_array().into_iter().flatten();
        messages.any(|message| message["role"] == "tool")
    }

    /// How many tools have run.
    pub(crate) fn tools(&self) -> usize {
        let messages = self.body["messages"].as_array().into_iter().flatten();
        messages.filter(|message| message["role"] == "tool").count()
    }

    /// A message of the user has this text in it.
    pub(crate) fn asks(&self, text: &str) -> bool {
        let messages = self.body["messages"].as_array().into_iter().flatten();
        let mut of_user = messages.filter(|message| message["role"] == "user");
        of_user.any(|message| message["content"].to_string().contains(text))
    }
}

/// What a call is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Tokens of the prompt, cached ones included.
    pub(crate) prompt: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
}

/// Where a service tells the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// In a chunk of its own at the end, spelled as Moonshot does.
    AtTheEnd,
    /// In the last choice, spelled as OpenAI does.
    InTheChoice,
    /// In both, and in every chunk before with what was used until then.
    Everywhere,
    /// Not at all.
    Nowhere,
    /// At the end, as this JSON, whatever it is.
    As(&'static str),
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a reason and `[DONE]`.
    Done,
    /// The connection breaks off after the text.
    Cut,
    /// The stream ends cleanly after the text, without a reason and without `[DONE]`.
    Early,
}

/// An answer of the model.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    thinking: Vec<String>,
    text: Vec<String>,
    tools: Vec<(String, Value)>,
    reason: &'static str,
    told: Told,
    end: End,
    /// Wait for the test before this piece of text.
    hold_before: Option<usize>,
    /// An error in the middle of the stream, after the text.
    error: Option<Value>,
    /// What it is charged, where that is not reckoned from the call.
    charge: Option<Charge>,
}

impl Answer {
    /// A plain one, in pieces.
    pub(crate) fn text<S: Into<String>>(pieces: impl IntoIterator<Item = S>) -> Answer {
        Answer {
            thinking: Vec::new(),
            text: pieces.into_iter().map(Into::into).collect(),
            tools: Vec::new(),
            reason: "stop",
            told: Told::AtTheEnd,
            end: End::Done,
            hold_before: None,
            error: None,
            charge: None,
        }
    }

    /// At this price.
    pub(crate) fn charged(self, prompt: u64, output: u64) -> Answer {
        let cached = 0;
        Answer {
            charge: Some(Charge {
                prompt,
                cached,
                output,
            }),
            ..self
        }
    }

    /// The call of a tool.
    pub(crate) fn tool(name: &str, arguments: Value) -> Answer {
        Answer {
            tools: vec![(name.to_string(), arguments)],
            reason: "tool_calls",
            ..Answer::text::<String>([])
        }
    }

    /// Calls of several tools at once.
    pub(crate) fn tools<'a>(calls: impl IntoIterator<Item = (&'a str, Value)>) -> Answer {
        let calls = calls.into_iter();
        Answer {
            tools: calls
                .map(|(name, arguments)| (name.to_string(), arguments))
                .collect(),
            reason: "tool_calls",
            ..Answer::text::<String>([])
        }
    }

    pub(crate) fn thinking(self, thinking: &[&str]) -> Answer {
        Answer {
            thinking: thinking.iter().map(ToString::to_string).collect(),
            ..self
        }
    }

    /// With words before the call of the tool.
    pub(crate) fn saying(self, text: &str) -> Answer {
        Answer {
            text: vec![text.to_string()],
            ..self
        }
    }

    pub(crate) fn reason(self, reason: &'static str) -> Answer {
        Answer { reason, ..self }
    }

    pub(crate) fn told(self, told: Told) -> Answer {
        Answer { told, ..self }
    }

    pub(crate) fn end(self, end: End) -> Answer {
        Answer { end, ..self }
    }

    pub(crate) fn hold_before(self, piece: usize) -> Answer {
        Answer {
            hold_before: Some(piece),
            ..self
        }
    }

    pub(crate) fn error(self, error: Value) -> Answer {
        Answer {
            error: Some(error),
            ..self
        }
    }
}

impl From<Answer> for Act {
    fn from(answer: Answer) -> Act {
        Act::Answer(answer)
    }
}

/// What comes of a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(Answer),
    /// An answer that is none: status line without the version, further header lines, body.
    Refuse(&'static str, Vec<String>, String),
    /// The connection is closed without a word.
    Drop,
    /// Nothing, until the test releases it or the client goes away. Then it is an answer after all.
    Hold(Answer),
}

impl Act {
    /// An error as the service words it.
    pub(crate) fn error(status: &'static str, kind: &str, message: &str) -> Act {
        let body = json!({"error": {"type": kind, "message": message}});
        let json = "content-type: application/json".to_string();
        Act::Refuse(status, vec![json], body.to_string())
    }

    /// The same with one more header line.
    pub(crate) fn header(mut self, line: &str) -> Act {
        if let Act::Refuse(_, headers, _) = &mut self {
            headers.push(line.to_string());
        }
        self
    }
}

type Behaviour = dyn Fn(&Call) -> Act + Send + Sync;

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    bill: Vec<(Charge, bool)>,
    /// Requests for anything else, by their first lines.
    others: Vec<String>,
    released: bool,
    /// Held connections that the client left.
    left: usize,
    streams: Vec<TcpStream>,
    balance: Option<&'static str>,
}

struct Shared {
    behaviour: Box<Behaviour>,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
    /// Stop only when the clients have left.
    drain: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The balance, for who shows the key.
    fn balance(&self, head: &str) -> Option<&'static str> {
        let authorized = format!("Bearer {}", crate::result::KEY);
        head.contains(&authorized)
            .then(|| self.state().balance)
            .flatten()
    }
}

/// A running service.
pub(crate) struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts one that behaves so.
    pub(crate) fn new<A: Into<Act>>(
        behaviour: impl Fn(&Call) -> A + Send + Sync + 'static,
    ) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Box::new(move |call| behaviour(call).into()),
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            drain: AtomicBool::new(false),
        });
        let all = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming().take(MOST_CONNECTIONS) {
                let stream = stream.unwrap();
                if all.stop.load(Ordering::SeqCst) {
                    break;
                }
                all.state().streams.push(stream.try_clone().unwrap());
                let one = Arc::clone(&all);
                // A client that hangs up early is what some tests are about.
                threads.push(std::thread::spawn(move || drop(serve(&stream, &one))));
            }
            if !all.drain.load(Ordering::SeqCst) {
                for stream in &all.state().streams {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Service {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Its address, as clients want it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it says of the account's balance from now on.
    pub(crate) fn set_balance(&self, balance: &'static str) {
        self.shared.state().balance = Some(balance);
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// Requests for anything but a call of the model, by their first lines.
    pub(crate) fn others(&self) -> Vec<String> {
        self.shared.state().others.clone()
    }

    /// What the answered calls were charged together, whether or not the client was told.
    pub(crate) fn bill(&self) -> Charge {
        let mut sum = Charge::default();
        for (charge, _) in &self.shared.state().bill {
            sum.prompt += charge.prompt;
            sum.cached += charge.cached;
            sum.output += charge.output;
        }
        sum
    }

    /// Every answered call told its usage.
    pub(crate) fn told_all(&self) -> bool {
        self.shared.state().bill.iter().all(|(_, told)| *told)
    }

    /// How many calls were answered, and so charged.
    pub(crate) fn charged(&self) -> usize {
        self.shared.state().bill.len()
    }

    /// Waits until that many calls have come.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, calls: usize) {
        self.wait("calls", |state| state.calls.len() >= calls);
    }

    /// Waits until a client has left a connection that is held.
    #[track_caller]
    pub(crate) fn wait_for_leaving(&self) {
        self.wait("a client to leave", |state| state.left > 0);
    }

    #[track_caller]
    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let state = self.shared.state();
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| !until(state));
        let timed_out = waited.unwrap().1.timed_out();
        assert!(!timed_out, "waited in vain for {what}");
    }

    /// Every call that ever came: clients that are gone may have left one that nobody has read yet, so each connection is
    /// read to its end.
    pub(crate) fn drain(self) -> Vec<Call> {
        self.shared.drain.store(true, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        drop(self);
        let state = shared.state();
        state.calls.clone()
    }

    /// Lets whatever is held go on.
    pub(crate) fn release(&self) {
        self.shared.state().released = true;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes it up.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some((head, body)) = read_request(&mut reader)? else {
            return Ok(());
        };
        let first = head.lines().next().unwrap_or_default().to_string();
        if first.starts_with("CONNECT ") {
            // A proxy, with itself at the end of every tunnel.
            shared.state().others.push(first);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            continue;
        }
        if !first.starts_with("POST ") || !first.contains("/chat/completions") {
            let is_balance = first.contains("/users/me/balance ");
            shared.state().others.push(first);
            if let Some(balance) = shared.balance(&head).filter(|_| is_balance) {
                let body = format!(
                    "{{\"code\":0,\"data\":{{\"available_balance\":{balance},\"cash_balance\":-1.5}},\"status\":true}}"
                );
                let json = vec!["content-type: application/json".to_string()];
                refuse(stream, &Act::Refuse("200 OK", json, body))?;
                continue;
            }
            let act = Act::error("404 Not Found", "resource_not_found_error", "no such path");
            refuse(stream, &act)?;
            continue;
        }
        let call = {
            let mut state = shared.state();
            let call = Call {
                number: state.calls.len() + 1,
                head,
                body: serde_json::from_slice(&body).unwrap_or_default(),
                at: Instant::now(),
            };
            state.calls.push(call.clone());
            shared.changed.notify_all();
            call
        };
        let charge = charge(&call, body.len());
        match (shared.behaviour)(&call) {
            Act::Answer(answer) => speak(stream, shared, &call, &answer, charge)?,
            Act::Hold(answer) => {
                hold(stream, shared)?;
                speak(stream, shared, &call, &answer, charge)?;
            }
            act @ Act::Refuse(..) => refuse(stream, &act)?,
            Act::Drop => return stream.shutdown(Shutdown::Both),
        }
    }
}

/// Figures that differ from call to call.
fn charge(call: &Call, bytes: usize) -> Charge {
    // Bounded, so that a test of thousands of calls can bound them too.
    let number = call.number as u64 % 1000;
    let prompt = 1000 + (bytes % 997) as u64 + number;
    Charge {
        prompt,
        cached: prompt / 3,
        output: 17 + 5 * number,
    }
}

/// The next request: head and body; nothing when the client is done.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    };
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let start = body.len();
            assert!(start + length <= LARGEST);
            body.resize(start + length, 0);
            reader.read_exact(&mut body[start..])?;
            reader.read_line(&mut line)?;
            if length == 0 {
                break;
            }
        }
    } else {
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        assert!(length <= LARGEST);
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(Some((head, body)))
}

fn refuse(mut stream: &TcpStream, act: &Act) -> io::Result<()> {
    let Act::Refuse(status, headers, body) = act else {
        return Ok(());
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nmsh-request-id: req-refused\r\n",
        body.len()
    );
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())
}

/// Waits until the test says so; an error when the client leaves first.
fn hold(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(GLANCE))?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if shared.state().released {
            return Ok(());
        }
        match stream.peek(&mut [0]) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            _ => break,
        }
    }
    shared.state().left += 1;
    shared.changed.notify_all();
    Err(io::ErrorKind::BrokenPipe.into())
}

/// Sends an answer, streamed if that was asked for, and puts it on the bill.
fn speak(
    mut stream: &TcpStream,
    shared: &Shared,
    call: &Call,
    answer: &Answer,
    charge: Charge,
) -> io::Result<()> {
    let streams = call.body["stream"] == true;
    let charge = answer.charge.unwrap_or(charge);
    let is_told = !matches!(answer.told, Told::Nowhere | Told::As(_))
        && answer.end == End::Done
        && answer.error.is_none();
    // Before the first byte: whoever has the answer must find it on the bill.
    shared.state().bill.push((charge, is_told));
    if !streams {
        let body = whole(call, answer, charge).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        return stream.write_all(format!("{head}{body}").as_bytes());
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nmsh-request-id: req-{}\r\n\r\n",
        call.number
    );
    stream.write_all(head.as_bytes())?;
    let say = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", call.number), "object": "chat.completion.chunk", "created": 1,
            "model": call.body["model"], "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        send(stream, &format!("data: {chunk}\n\n"))
    };
    let so_far = |output: u64| {
        (answer.told == Told::Everywhere)
            .then(|| json!({"prompt_tokens": charge.prompt, "completion_tokens": output}))
    };
    let delta = |delta: Value| json!([{"index": 0, "delta": delta, "finish_reason": null}]);
    say(delta(json!({"role": "assistant", "content": ""})), None)?;
    for piece in &answer.thinking {
        say(delta(json!({"reasoning_content": piece})), so_far(1))?;
    }
    for (at, piece) in answer.text.iter().enumerate() {
        if answer.hold_before == Some(at) {
            hold(stream, shared)?;
        }
        say(delta(json!({"content": piece})), so_far(2))?;
    }
    if let Some(error) = &answer.error {
        send(stream, &format!("data: {}\n\n", json!({"error": error})))?;
        return send(stream, "");
    }
    for (at, (name, arguments)) in answer.tools.iter().enumerate() {
        // In two pieces, as services send it.
        let arguments = arguments.to_string();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        let id = format!("t{}{at}", call.number);
        let begin = json!({"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": first}});
        say(delta(json!({"tool_calls": [begin]})), None)?;
        let go_on = json!({"index": at, "function": {"arguments": second}});
        say(delta(json!({"tool_calls": [go_on]})), None)?;
    }
    match answer.end {
        End::Cut => return stream.shutdown(Shutdown::Both),
        End::Early => return send(stream, ""),
        End::Done => {}
    }
    let mut last = json!([{"index": 0, "delta": {}, "finish_reason": answer.reason}]);
    if matches!(answer.told, Told::InTheChoice | Told::Everywhere) {
        last[0]["usage"] = json!({
            "prompt_tokens": charge.prompt, "completion_tokens": charge.output,
            "total_tokens": charge.prompt + charge.output,
            "prompt_tokens_details": {"cached_tokens": charge.cached},
        });
    }
    say(last, None)?;
    if matches!(answer.told, Told::AtTheEnd | Told::Everywhere) {
        say(json!([]), Some(usage(charge)))?;
    }
    if let Told::As(usage) = answer.told {
        say(json!([]), Some(serde_json::from_str(usage).unwrap()))?;
    }
    send(stream, "data: [DONE]\n\n")?;
    send(stream, "")
}

/// The usage as Moonshot spells it.
fn usage(charge: Charge) -> Value {
    json!({
        "prompt_tokens": charge.prompt, "completion_tokens": charge.output,
        "total_tokens": charge.prompt + charge.output, "cached_tokens": charge.cached,
    })
}

/// The answer to who did not ask for a stream.
fn whole(call: &Call, answer: &Answer, charge: Charge) -> Value {
    let message = json!({"role": "assistant", "content": answer.text.concat()});
    let choice = json!({"index": 0, "message": message, "finish_reason": answer.reason});
    json!({"model": call.body["model"], "choices": [choice], "usage": usage(charge)})
}

/// A piece of a body whose length nobody knows yet; the empty one ends it.
fn send(mut stream: &TcpStream, piece: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
}
