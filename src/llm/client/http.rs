//! A service that speaks OpenAI's chat completions over HTTP, with Moonshot's rules.
//!
//! Always streams: a long answer that is not streamed ends in a gateway's timeout, and a stream shows at once that it
//! works. The answer is done when the model gave a reason or the service said `[DONE]`; a stream that ends before is an
//! error, however cleanly it ends. Refuses tools, earlier turns and any User-Agent but our own, and takes redirects for
//! answers: a prompt goes to the host that was named.

mod chat;

use std::borrow::Cow;
use std::time::Duration;

use crate::catalog::money::Charge;
use crate::llm::client::Allowance;
use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::client::LlmClient;
use crate::llm::client::LlmClientConfig;
use crate::llm::client::Observer;
use crate::llm::client::Phase;
use crate::llm::client::Request;
use crate::llm::client::Thinking;
use crate::llm::client::attempts::with_retries;
use crate::llm::client::http::chat::Answer;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::llm::types::TokenBudget;
use crate::llm::types::Usage;
use crate::runtime::clock::SystemTimer;
use crate::runtime::clock::Timer;
use crate::runtime::secret::Secret;
use crate::runtime::text;
use crate::tokens;
use crate::transport::http::BodyStream;
use crate::transport::http::Http;
use crate::transport::http::Service;
use crate::transport::http::Streamed;
use crate::transport::http::TransportError;
use crate::transport::sse::Decoder;
use crate::transport::tape::PlayedService;
use crate::transport::tape::PlayedTime;
use crate::transport::tape::Player;
use crate::transport::tape::RecordedService;
use crate::transport::tape::Recorder;

/// Where questions go, below the service's address.
const ENDPOINT: &str = "/chat/completions";
/// Bytes taken off the stream at a time: above the size of a TLS record, so that one read empties one.
const READ_BYTES: usize = 32 * 1024;
/// Characters of a body that is no stream, in the error about it.
const MAX_SHOWN_CHARS: usize = 300;

/// A client for one service and model.
///
/// ```no_run
/// use omk::llm::client::{HttpLlmClient, LlmClient, LlmClientConfig};
/// use omk::llm::types::TokenBudget;
/// use omk::runtime::secret::Secret;
/// use omk::transport::http::{Http, HttpConfig};
///
/// let config = LlmClientConfig::for_model("kimi-k3");
/// let key = Secret::new(std::env::var("MOONSHOT_API_KEY")?);
/// let http = Http::new(HttpConfig::default())?;
/// let mut client = HttpLlmClient::new(config, "https://api.moonshot.ai/v1", Some(key), http);
/// let answer = client.complete("What is the capital of France?", &mut TokenBudget::new(5_000))?;
/// println!("{}", answer.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HttpLlmClient<T: Timer = SystemTimer, H: Service = Http> {
    config: LlmClientConfig,
    url: String,
    key: Option<Secret>,
    http: H,
    timer: T,
}

impl HttpLlmClient {
    /// A client for the service at this address, which ends before `/chat/completions`. The key goes to that host alone.
    ///
    /// Of the HTTP client's own settings its proxies, certificates and largest body, here that of an error, hold; its
    /// timeout gives way to the configuration's.
    pub fn new(
        config: LlmClientConfig,
        base_url: &str,
        key: Option<Secret>,
        http: Http,
    ) -> HttpLlmClient {
        HttpLlmClient {
            config,
            url: format!("{}{ENDPOINT}", base_url.trim_end_matches('/')),
            key,
            http,
            timer: SystemTimer::default(),
        }
    }
}

impl HttpLlmClient<PlayedTime, PlayedService> {
    /// A client for the service on a tape. Nothing is sent.
    pub fn replay(config: LlmClientConfig, player: &Player) -> Self {
        HttpLlmClient {
            config,
            url: ENDPOINT.to_string(),
            key: None,
            http: player.service(),
            timer: player.timer(),
        }
    }
}

impl<T: Timer, H: Service> HttpLlmClient<T, H> {
    /// The same client with another sense of time between attempts. An attempt itself takes the time that it takes.
    pub fn with_timer<U: Timer>(self, timer: U) -> HttpLlmClient<U, H> {
        HttpLlmClient {
            config: self.config,
            url: self.url,
            key: self.key,
            http: self.http,
            timer,
        }
    }

    /// The same client, recorded.
    pub fn recorded(self, recorder: &Recorder) -> HttpLlmClient<T, RecordedService<H>> {
        HttpLlmClient {
            config: self.config,
            url: self.url,
            key: self.key,
            http: recorder.service(self.http),
            timer: self.timer,
        }
    }
}

impl<T: Timer, H: Service> LlmClient for HttpLlmClient<T, H> {
    fn set_timeout(&mut self, timeout: Duration) {
        self.config.timeout = timeout;
    }

    fn run(
        &mut self,
        request: &Request,
        budget: &mut TokenBudget,
        observer: &mut dyn Observer,
    ) -> Result<LlmResponse, LlmError> {
        let model = self.config.model.id.as_ref();
        let mut exchange = Exchange {
            config: &self.config,
            url: &self.url,
            key: self.key.as_ref(),
            http: &mut self.http,
            request,
            budget,
        };
        let mut response = with_retries(
            &self.config.retry,
            self.config.timeout,
            &mut self.timer,
            &mut Emitter::new(observer),
            |emitter, _, left| exchange.attempt(left, emitter),
        )?;
        if request.temperature.is_some() && !chat::takes_temperature(model) {
            let warning = format!("the temperature was left out: {model} takes none");
            response.warnings.push(warning);
        }
        if let Some(how) = request.thinking
            && !(how == Thinking::On || chat::thinking(model, how).is_some())
        {
            let warning = format!(
                "--thinking {} was left out: {model} cannot be told so",
                how.name()
            );
            response.warnings.push(warning);
        }
        Ok(response)
    }
}

/// What all attempts of one run share.
struct Exchange<'a, H> {
    config: &'a LlmClientConfig,
    url: &'a str,
    key: Option<&'a Secret>,
    http: &'a mut H,
    request: &'a Request,
    budget: &'a mut TokenBudget,
}

impl<H: Service> Exchange<'_, H> {
    fn attempt(
        &mut self,
        left: Duration,
        emitter: &mut Emitter<'_>,
    ) -> Result<LlmResponse, LlmError> {
        // What earlier attempts used, or may have used, is no longer there for this one.
        let mut allowance = self.config.allowance(self.request, self.budget)?;
        let cap = emitter.before_attempt()?;
        allowance.output = [allowance.output, cap].into_iter().flatten().min();
        let mut used = Used::default();
        let answered = self.exchange(&allowance, left, &mut used, emitter);
        let charged = match &answered {
            Ok(_) => Charge::Yes,
            Err(error) => error.may_have_charged(),
        };
        self.budget.record_usage(match (used, charged) {
            (
                Used {
                    is_final: true,
                    tokens,
                },
                _,
            ) => tokens,
            (_, Charge::No) => 0,
            (Used { tokens, .. }, _) if answered.is_ok() => tokens,
            // Nobody knows what it used beyond what was seen, but not more than it was allowed.
            (Used { tokens, .. }, _) => tokens.max(allowance.at_most()),
        });
        answered
    }

    fn exchange(
        &mut self,
        allowance: &Allowance,
        left: Duration,
        used: &mut Used,
        emitter: &mut Emitter<'_>,
    ) -> Result<LlmResponse, LlmError> {
        emitter.emit(Event::Phase(Phase::Waiting))?;
        self.http.set_timeout(left);
        let idle = self.config.idle_timeout;
        let body = chat::body(
            self.config.model.id.as_ref(),
            self.request,
            allowance.output,
        );
        let streamed = self
            .http
            .post_json_streaming(self.url, self.key, &body, idle)?;
        let mut stream = match streamed {
            Streamed::Body(stream) => stream,
            Streamed::Refused(response) => {
                let wait = response.retry_after();
                let body = self.without_key(&response.body);
                let error = LlmError::from_http(response.status, &body, wait);
                return Err(error.of_request(response.trace_id()));
            }
        };
        let mut answer = Answer::default();
        let read = self.read(&mut stream, &mut answer, emitter);
        *used = self.used(&answer, allowance);
        let request_id = stream.trace_id();
        let broke = match read {
            Ok(()) => None,
            Err(Broken::Connection(error)) if answer.has_ended() => Some(error),
            Err(Broken::Connection(error)) => {
                return Err(broken(error, &answer).of_request(request_id));
            }
            Err(Broken::Answer(error)) => {
                let error = error.with_detail(|detail| {
                    String::from_utf8_lossy(&self.without_key(detail.as_bytes())).into_owned()
                });
                return Err(error.of_request(request_id));
            }
        };
        let mut response = answer
            .into_response()
            .map_err(|error| error.of_request(request_id))?;
        if let Some(error) = broke {
            let warning = format!("the stream broke off after the answer: {error}");
            response.warnings.push(warning);
        }
        response.request_id = request_id.map(str::to_string);
        Ok(response)
    }

    /// Reads until the service says that there is no more, or the stream ends.
    fn read(
        &self,
        stream: &mut dyn BodyStream,
        answer: &mut Answer,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), Broken> {
        let limit = self.config.max_answer_bytes;
        let content_type = stream.header("content-type").unwrap_or_default();
        let content_type = content_type.to_ascii_lowercase();
        if content_type.contains("html") {
            return Err(Broken::Answer(no_stream(stream, &content_type)));
        }
        let is_whole = content_type.contains("json") && !content_type.contains("event-stream");
        let mut whole = Vec::new();
        let mut decoder = Decoder::new(limit);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = stream.read(&mut buffer).map_err(Broken::Connection)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if is_whole {
                whole.extend_from_slice(bytes);
            } else {
                decoder.feed(bytes);
            }
            while let Some(event) = decoder.next_event().map_err(|error| {
                Broken::Answer(LlmError::Protocol {
                    detail: format!("the event stream: {error}"),
                })
            })? {
                answer.take(event.data, emitter).map_err(Broken::Answer)?;
            }
            if answer.len().max(whole.len()) > limit {
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                let error = TransportError::BodyTooLarge { limit };
                return Err(Broken::Answer(error.into()));
            }
            if answer.is_done() || length == 0 {
                break;
            }
        }
        if is_whole {
            // A service that does not stream says everything in one chunk.
            let whole = String::from_utf8_lossy(&whole);
            answer.take(&whole, emitter).map_err(Broken::Answer)?;
        }
        Ok(())
    }

    /// What a service says, without our key in it: some quote the key that they do not take.
    fn without_key<'b>(&self, said: &'b [u8]) -> Cow<'b, [u8]> {
        let key = self.key.map_or("", Secret::expose);
        let quotes = |text: &[u8]| text.windows(key.len()).any(|part| part == key.as_bytes());
        if key.is_empty() || !quotes(said) {
            return Cow::Borrowed(said);
        }
        let text = String::from_utf8_lossy(said);
        Cow::Owned(text.replace(key, "[the key]").into_bytes())
    }

    /// What was seen to be used: the service's own figures, or a count of what came where it reported none.
    fn used(&self, answer: &Answer, allowance: &Allowance) -> Used {
        let tokens = match (answer.usage(), allowance.input) {
            (Some(usage), _) => usage.total(),
            (None, Some(input)) if answer.len() > 0 => {
                let vocabulary = self.config.model.vocabulary;
                [answer.text(), answer.thinking()]
                    .iter()
                    .map(|text| tokens::count(text, vocabulary))
                    .fold(input, u64::saturating_add)
            }
            (None, _) => 0,
        };
        Used {
            tokens,
            is_final: answer.usage().is_some_and(Usage::is_complete),
        }
    }
}

/// Tokens that an attempt was seen to use.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    tokens: u64,
    /// The service reported all of them.
    is_final: bool,
}

/// Why reading ended early.
enum Broken {
    /// The connection failed: after the model's last word that loses no answer.
    Connection(TransportError),
    /// What came is no answer, or is not wanted further.
    Answer(LlmError),
}

/// The error of a connection that failed before the answer was done. A timeout stays one; anything else is named by what it
/// did to the answer.
fn broken(error: TransportError, answer: &Answer) -> LlmError {
    match error {
        TransportError::Timeout(_)
        | TransportError::Silence { .. }
        | TransportError::Interrupted(_) => error.into(),
        _ if answer.len() > 0 => LlmError::Incomplete {
            detail: error.to_string(),
        },
        _ => error.into(),
    }
}

/// The error of a page where a stream should be: a portal's login form, or a website instead of its API.
fn no_stream(stream: &mut dyn BodyStream, content_type: &str) -> LlmError {
    let mut page = vec![0; 4 * MAX_SHOWN_CHARS];
    // The beginning explains it; that it cannot be read explains nothing more.
    let length = stream.read(&mut page).unwrap_or(0);
    let shown = text::escape_bytes(page.get(..length).unwrap_or_default().trim_ascii());
    LlmError::Protocol {
        detail: format!(
            "expected an event stream, found {content_type}: {}",
            text::truncate(&shown, MAX_SHOWN_CHARS)
        ),
    }
}

#[cfg(test)]
mod tests;
