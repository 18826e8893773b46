//! One HTTP exchange, bounded in time and size.
//!
//! A thin layer over ureq that settles what a library must leave open: every wait ends at a deadline, every body at a
//! size, every error says what to look at, and the key goes to the host it was meant for and nowhere else. A long
//! answer can be read as it comes ([`Http::post_json_streaming`]); then silence has a bound of its own, and the size is
//! the reader's to bound, who alone knows what it keeps. It reads no environment: proxies and certificates come in as
//! values, so a test or an embedding program decides. A status such as 404 is an answer, not an error; what it means is
//! for the layer above. Refuses to follow a redirect with a key in hand, and to leave HTTPS for HTTP.
//!
//! One wait is not ours to end: the system's look-up of a host name blocks until the system gives up (by default after
//! some seconds for each name server). ureq would leave it to a second thread that is abandoned at the deadline, but this
//! program has one thread. So a look-up may outlast the deadline; it is then reported as such, and nothing is sent.

use std::error::Error;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use ureq::Agent;
use ureq::AsSendBody;
use ureq::Body;
use ureq::BodyReader;
use ureq::Proxy;
use ureq::http::Request;
use ureq::http::Response;
use ureq::http::Uri;
use ureq::http::request::Builder;
use ureq::tls::Certificate;
use ureq::tls::ClientCert;
use ureq::tls::PemItem;
use ureq::tls::PrivateKey;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::Buffers;
use ureq::unversioned::transport::ConnectProxyConnector;
use ureq::unversioned::transport::ConnectionDetails;
use ureq::unversioned::transport::Connector;
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::RustlsConnector;
use ureq::unversioned::transport::SocksConnector;
use ureq::unversioned::transport::TcpConnector;
use ureq::unversioned::transport::Transport;

use crate::runtime::clock;
use crate::runtime::file;
use crate::runtime::secret::Secret;
use crate::runtime::signal;
use crate::runtime::text;

/// Redirects followed when no key is in hand; a price list needs one or two.
const MAX_REDIRECTS: u32 = 5;
/// A host that does not pick up in this time will not, however long the answer itself may take.
const MAX_CONNECT: Duration = Duration::from_secs(10);
/// The longest time that a wait is given, a year: ureq adds times up without a look at overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The shortest: a socket takes no timeout of nothing.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// How long a wait for the server goes on before it is looked whether a signal came.
const SIGNAL_LOOK: Duration = Duration::from_millis(100);
/// The largest file of certificates: those of a whole system have half a MiB.
const MAX_CERTIFICATES: u64 = 16 * 1024 * 1024;
/// Longest value kept of a header.
const MAX_HEADER_CHARS: usize = 300;

/// The headers that are kept: an allow-list, because others can carry cookies and account names.
const KEPT_HEADERS: [&str; 9] = [
    "content-type",
    "retry-after",
    "msh-request-id",
    "x-msh-trace-id",
    "x-request-id",
    "x-trace-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

/// The headers above that name one request to the people who run the service, best first.
const TRACE_HEADERS: [&str; 4] = [
    "msh-request-id",
    "x-msh-trace-id",
    "x-trace-id",
    "x-request-id",
];

/// How to reach servers.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// For the whole exchange, from the name look-up to the last byte of the body.
    pub timeout: Duration,
    /// Largest body accepted, after decompression.
    pub max_body_bytes: u64,
    /// The ways around and through proxies.
    pub proxies: Proxies,
    /// A PEM file of root certificates that replaces the built-in ones: the value of `SSL_CERT_FILE`.
    pub ca_file: Option<PathBuf>,
    /// PEM files of a client certificate with its chain, and of its private key, for servers that ask for one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl Default for HttpConfig {
    /// Ten minutes, 16 MiB, no proxy, built-in certificates.
    fn default() -> HttpConfig {
        HttpConfig {
            timeout: Duration::from_secs(600),
            max_body_bytes: 16 * 1024 * 1024,
            proxies: Proxies::default(),
            ca_file: None,
            client_certificate: None,
        }
    }
}

/// The values of the usual proxy variables; an empty one counts as absent.
///
/// A proxy's address may hold a password, so `Debug` shows only whether one is set.
#[derive(Clone, Default)]
pub struct Proxies {
    /// `HTTPS_PROXY`: for `https` addresses.
    pub https: Option<String>,
    /// `HTTP_PROXY`: for `http` addresses.
    pub http: Option<String>,
    /// `ALL_PROXY`: for those that have none of their own.
    pub all: Option<String>,
    /// `NO_PROXY`: hosts to reach directly, by comma; a name covers its subdomains, `*` everything.
    pub no_proxy: Option<String>,
}

impl Proxies {
    fn for_uri(&self, uri: &Uri) -> Option<&str> {
        let own = match uri.scheme_str() {
            Some("https") => &self.https,
            _ => &self.http,
        };
        let set = |value: &Option<String>| {
            value
                .as_deref()
                .map(str::trim)
                .filter(|v| !v.is_empty())
                .is_some()
        };
        let chosen = if set(own) { own } else { &self.all };
        let chosen = chosen.as_deref().map(str::trim).filter(|v| !v.is_empty())?;
        (!self.is_direct(uri)).then_some(chosen)
    }

    fn is_direct(&self, uri: &Uri) -> bool {
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let port = uri.port_u16().map(|p| p.to_string());
        let entries = self.no_proxy.as_deref().unwrap_or_default();
        entries
            .split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty())
            .any(|entry| {
                let entry = entry.to_ascii_lowercase();
                // `host:port` means that port only; an address with more colons is IPv6.
                let (name, wanted_port) = match entry.split_once(':') {
                    Some((name, port)) if !port.contains(':') => (name, Some(port)),
                    _ => (entry.as_str(), None),
                };
                let name = name
                    .trim_start_matches("*.")
                    .trim_start_matches('.')
                    .trim_matches(['[', ']']);
                let covers = entry == "*"
                    || host == name
                    || host
                        .strip_suffix(name)
                        .is_some_and(|sub| !name.is_empty() && sub.ends_with('.'));
                covers && wanted_port.is_none_or(|wanted| port.as_deref() == Some(wanted))
            })
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("all", &self.all.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// How far an exchange came before time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Looking the host's name up.
    Resolve,
    /// Connecting, TLS and proxy included.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the first bytes of the answer.
    Wait,
    /// Reading the rest of it.
    Read,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "looking up the host",
            Phase::Connect => "connecting",
            Phase::Send => "sending the request",
            Phase::Wait => "waiting for the answer",
            Phase::Read => "reading the answer",
        })
    }
}

/// Why there is no answer. None of these texts holds a key, a proxy's password or the query part of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// The time of [`HttpConfig::timeout`] is over, or the host did not pick up.
    Timeout(Phase),
    /// The server neither sent nor took a byte for the whole idle timeout of a streaming exchange.
    Silence {
        /// How far the exchange came.
        phase: Phase,
        /// The idle timeout.
        limit: Duration,
    },
    /// The host has no address.
    Dns {
        /// The host.
        host: String,
    },
    /// Nobody listens, or the network is down.
    Connect {
        /// The host.
        host: String,
        /// What the system says.
        detail: String,
    },
    /// No trust in the server's certificate, or no common protocol. Behind an inspecting proxy, `SSL_CERT_FILE` fixes it.
    Tls {
        /// What the TLS library says.
        detail: String,
    },
    /// The proxy's address is not one.
    BadProxy {
        /// What is wrong.
        detail: String,
    },
    /// The proxy refuses.
    Proxy {
        /// What is wrong.
        detail: String,
    },
    /// The body is larger than [`HttpConfig::max_body_bytes`].
    BodyTooLarge {
        /// That limit.
        limit: u64,
    },
    /// The address is not one.
    BadUrl {
        /// What is wrong.
        detail: String,
    },
    /// Too many redirects, or one that leaves HTTPS.
    Redirect {
        /// What is wrong.
        detail: String,
    },
    /// What the server sent is not HTTP, or not whole.
    Protocol {
        /// What is wrong.
        detail: String,
    },
    /// The connection broke.
    Io {
        /// What the system says.
        detail: String,
    },
    /// A signal asked the program to stop.
    Interrupted(Phase),
    /// The exchange is played from a tape, and is not the one on it.
    Tape {
        /// How it differs.
        detail: String,
    },
}

impl TransportError {
    /// Whether the server can have received the request: `false` when it certainly has not, so that nothing was charged.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            TransportError::Timeout(phase)
            | TransportError::Interrupted(phase)
            | TransportError::Silence { phase, .. } => {
                !matches!(phase, Phase::Resolve | Phase::Connect)
            }
            TransportError::Dns { .. }
            | TransportError::Connect { .. }
            | TransportError::Tls { .. }
            | TransportError::BadProxy { .. }
            | TransportError::Proxy { .. }
            | TransportError::BadUrl { .. }
            | TransportError::Tape { .. } => false,
            TransportError::BodyTooLarge { .. }
            | TransportError::Redirect { .. }
            | TransportError::Protocol { .. }
            | TransportError::Io { .. } => true,
        }
    }

    /// The setting that fixes it, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            TransportError::Tls { .. } => Some(
                "behind an inspecting proxy, set SSL_CERT_FILE to a PEM file with its root certificate",
            ),
            TransportError::BadProxy { .. } | TransportError::Proxy { .. } => {
                Some("check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or name the host in NO_PROXY")
            }
            _ => None,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Timeout(phase) => write!(f, "timeout: {phase}"),
            TransportError::Interrupted(phase) => write!(f, "interrupted while {phase}"),
            TransportError::Silence { phase, limit } => {
                write!(f, "silence: nothing for {limit:?} while {phase}")
            }
            TransportError::Dns { host } => write!(f, "host not found: {host}"),
            TransportError::Connect { host, detail } => {
                write!(f, "no connection to {host}: {detail}")
            }
            TransportError::Tls { detail } => write!(f, "tls: {detail}"),
            TransportError::BadProxy { detail } | TransportError::Proxy { detail } => {
                write!(f, "proxy: {detail}")
            }
            TransportError::BodyTooLarge { limit } => {
                write!(f, "answer too large: more than {limit} bytes")
            }
            TransportError::BadUrl { detail } => write!(f, "bad address: {detail}"),
            TransportError::Redirect { detail } => write!(f, "redirect: {detail}"),
            TransportError::Protocol { detail } => write!(f, "protocol: {detail}"),
            TransportError::Io { detail } => write!(f, "connection broke: {detail}"),
            // It says of itself what it is.
            TransportError::Tape { detail } => f.write_str(detail),
        }
    }
}

impl Error for TransportError {}

/// The headers of an answer that help: content type, retry-after, rate limits and request ids. Control characters are
/// escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptHeaders(Vec<(&'static str, String)>);

impl KeptHeaders {
    fn of(response: &Response<Body>) -> KeptHeaders {
        KeptHeaders::keep(|name| response.headers().get(name).map(|value| value.as_bytes()))
    }

    /// The same out of headers that were written down.
    pub(super) fn read(headers: &[(String, String)]) -> KeptHeaders {
        KeptHeaders::keep(|name| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_bytes())
        })
    }

    fn keep<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> KeptHeaders {
        let kept = KEPT_HEADERS.iter().filter_map(|name| {
            let shown = text::escape_bytes(value(name)?);
            Some((*name, text::truncate(&shown, MAX_HEADER_CHARS).into_owned()))
        });
        KeptHeaders(kept.collect())
    }

    /// All of them, to be written down.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.0.iter();
        pairs
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(kept, _)| *kept == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn trace_id(&self) -> Option<&str> {
        TRACE_HEADERS.iter().find_map(|name| self.get(name))
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status: u16,
    /// The whole body, decompressed.
    pub body: Vec<u8>,
    headers: KeptHeaders,
}

impl HttpResponse {
    pub(super) fn new(status: u16, body: Vec<u8>, headers: KeptHeaders) -> HttpResponse {
        HttpResponse {
            status,
            body,
            headers,
        }
    }

    /// The headers that were kept, to be written down.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        self.headers.pairs()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header, by its lower-case name. Only those that help are kept: content type, retry-after, rate limits and
    /// request ids. Control characters are escaped.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// How long the server asks to wait, when it says so in whole seconds. Services that count tokens do; the date form
    /// is taken as not said.
    pub fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(self.header("retry-after")?, SystemTime::now())
    }

    /// What the service's people call this request, for an error message.
    pub fn trace_id(&self) -> Option<&str> {
        self.headers.trace_id()
    }
}

/// The wait that a `Retry-After` asks for: a number of seconds of any size, or a date as HTTP writes it.
fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is longer than anyone waits.
        return Some(Duration::from_secs(
            value
                .parse()
                .unwrap_or(u64::from(u32::MAX))
                .min(u64::from(u32::MAX)),
        ));
    }
    let moment = clock::parse_http_date(value)?;
    Some(moment.duration_since(now).unwrap_or_default())
}

/// Who answers posts of JSON with a stream: a service over HTTP, one that is recorded, or a recording.
pub trait Service {
    /// A successful answer.
    type Body: BodyStream;

    /// As [`Http::set_timeout`].
    fn set_timeout(&mut self, timeout: Duration);

    /// As [`Http::post_json_streaming`].
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    fn post_json_streaming(
        &mut self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
        idle: Duration,
    ) -> Result<Streamed<Self::Body>, TransportError>;
}

/// A successful answer whose body is still under way.
pub trait BodyStream {
    /// The HTTP status, 200 to 299.
    fn status(&self) -> u16;

    /// As [`HttpResponse::header`].
    fn header(&self, name: &str) -> Option<&str>;

    /// The headers that were kept, to be written down.
    fn headers(&self) -> Vec<(String, String)>;

    /// As [`HttpResponse::trace_id`].
    fn trace_id(&self) -> Option<&str>;

    /// The next bytes, as soon as there are any; 0 at the end.
    ///
    /// # Errors
    ///
    /// As [`HttpStream::read`].
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError>;
}

impl Service for Http {
    type Body = HttpStream;

    fn set_timeout(&mut self, timeout: Duration) {
        Http::set_timeout(self, timeout);
    }

    fn post_json_streaming(
        &mut self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
        idle: Duration,
    ) -> Result<Streamed, TransportError> {
        Http::post_json_streaming(self, url, bearer, body, idle)
    }
}

impl BodyStream for HttpStream {
    fn status(&self) -> u16 {
        self.status
    }

    fn header(&self, name: &str) -> Option<&str> {
        HttpStream::header(self, name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.headers.pairs()
    }

    fn trace_id(&self) -> Option<&str> {
        HttpStream::trace_id(self)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        HttpStream::read(self, buffer)
    }
}

/// What a streaming exchange brings.
#[derive(Debug)]
pub enum Streamed<B = HttpStream> {
    /// A status of 2xx: the body is read as it comes.
    Body(B),
    /// Any other status: the body is an explanation and was read to its end.
    Refused(HttpResponse),
}

/// A successful answer whose body is still under way. Dropping it hangs up.
pub struct HttpStream {
    /// The HTTP status, 200 to 299.
    pub status: u16,
    headers: KeptHeaders,
    reader: BodyReader<'static>,
    uri: Uri,
    idle: Duration,
}

impl HttpStream {
    /// A header, as [`HttpResponse::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// What the service's people call this request, for an error message.
    pub fn trace_id(&self) -> Option<&str> {
        self.headers.trace_id()
    }

    /// The next bytes of the body, decompressed, as soon as there are any; 0 at its end. How much is read in all is for the
    /// caller to bound.
    ///
    /// # Errors
    ///
    /// [`TransportError::Silence`] when nothing came for the idle timeout, [`TransportError::Timeout`] at the deadline,
    /// [`TransportError::Io`] when the connection broke or the body ended short of its announced length.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        self.reader.read(buffer).map_err(|error| {
            let error = ureq::Error::from(error);
            translate(error, &self.uri, Phase::Read, Some(self.idle))
        })
    }
}

impl fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStream")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// A client. Cheap to ask twice: connections are kept, and shared with its clones.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    config: HttpConfig,
}

impl Http {
    /// A client that keeps to the configuration.
    ///
    /// # Errors
    ///
    /// [`TransportError::Tls`] when the file of certificates cannot be read or holds none. Proxies are looked at when they
    /// are needed: a broken one must not keep a host in `NO_PROXY` from being reached.
    pub fn new(config: HttpConfig) -> Result<Http, TransportError> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &config.ca_file {
            let certificates = read_certificates("SSL_CERT_FILE", path)?;
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        if let Some((chain, key)) = &config.client_certificate {
            let chain = read_certificates("client certificate", chain)?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, read_key(key)?)));
        }
        let agent = Agent::config_builder()
            // ureq would read the environment by itself.
            .proxy(None)
            .tls_config(tls.build())
            .http_status_as_error(false)
            .user_agent(concat!("omk/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::with_parts(agent, connector(), OneThread::default());
        Ok(Http { agent, config })
    }

    /// Changes the time for the exchanges that follow: what a caller with a deadline over several has left.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.config.timeout = timeout;
    }

    /// Fetches an address. With a key in hand redirects are not followed but returned.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub fn get(&self, url: &str, bearer: Option<&Secret>) -> Result<HttpResponse, TransportError> {
        // A key goes to the host it was meant for and no further.
        let redirects = if bearer.is_some() { 0 } else { MAX_REDIRECTS };
        self.exchange(Request::get(parse_url(url)?), bearer, (), redirects)
    }

    /// Posts JSON. Redirects are returned, never followed: neither the key nor the prompt goes to another host.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub fn post_json(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
    ) -> Result<HttpResponse, TransportError> {
        let request = Request::post(parse_url(url)?).header("content-type", "application/json");
        self.exchange(request, bearer, body, 0)
    }

    /// The same with headers of the caller's, whose values may be keys. Redirects as in [`Http::post_json`].
    ///
    /// # Errors
    ///
    /// See [`TransportError`]; [`TransportError::BadUrl`] for what cannot be a header.
    pub fn post_json_with(
        &self,
        url: &str,
        headers: &[(String, Secret)],
        body: &[u8],
    ) -> Result<HttpResponse, TransportError> {
        let mut request = Request::post(parse_url(url)?).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value.expose());
        }
        self.exchange(request, None, body, 0)
    }

    /// Posts JSON and reads a successful answer as it comes: server-sent events, in the end. Redirects as in
    /// [`Http::post_json`].
    ///
    /// `idle` bounds every single wait for the server, from the first byte sent to the last one read, between a
    /// millisecond and a year; [`HttpConfig::timeout`] still bounds the whole. [`HttpConfig::max_body_bytes`] holds for an
    /// answer that is no success.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub fn post_json_streaming(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
        idle: Duration,
    ) -> Result<Streamed, TransportError> {
        let idle = idle.clamp(MIN_TIMEOUT, MAX_TIMEOUT);
        let request = Request::post(parse_url(url)?)
            .header("content-type", "application/json")
            .header("accept", "text/event-stream")
            // Compressed, events would wait in the server's buffer until a block is full.
            .header("accept-encoding", "identity");
        let (response, uri) = self.send(request, bearer, body, 0, Some(idle))?;
        if !response.status().is_success() {
            let refused = self.read(response, &uri, Some(idle))?;
            return Ok(Streamed::Refused(refused));
        }
        Ok(Streamed::Body(HttpStream {
            status: response.status().as_u16(),
            headers: KeptHeaders::of(&response),
            reader: response.into_body().into_reader(),
            uri,
            idle,
        }))
    }

    fn exchange<S: AsSendBody>(
        &self,
        request: Builder,
        bearer: Option<&Secret>,
        body: S,
        redirects: u32,
    ) -> Result<HttpResponse, TransportError> {
        let (response, uri) = self.send(request, bearer, body, redirects, None)?;
        self.read(response, &uri, None)
    }

    /// Sends the request and waits for status and headers of the answer.
    fn send<S: AsSendBody>(
        &self,
        mut request: Builder,
        bearer: Option<&Secret>,
        body: S,
        redirects: u32,
        idle: Option<Duration>,
    ) -> Result<(Response<Body>, Uri), TransportError> {
        if let Some(key) = bearer {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        // A key with a line break in it, say; the library's message is left out lest it quote one.
        let request = request.body(body).map_err(|_| TransportError::BadUrl {
            detail: "the key or the address cannot be sent in a header".to_string(),
        })?;
        let uri = request.uri().clone();
        let proxy = match self.config.proxies.for_uri(&uri) {
            None => None,
            // ureq's own message for a bad address shows nothing of it, and neither do we: it may hold a password.
            Some(address) => {
                let proxy = Proxy::new(address).map_err(|e| TransportError::BadProxy {
                    detail: e.to_string(),
                })?;
                Some(proxy)
            }
        };
        let through_proxy = proxy.is_some();
        let timeout = self.config.timeout.min(MAX_TIMEOUT);
        // A little under the whole, so that an unreachable host is told from a slow one.
        let connect = MAX_CONNECT.min(timeout - timeout / 10);
        let request = self
            .agent
            .configure_request(request)
            .proxy(proxy)
            .timeout_global(Some(timeout))
            .timeout_connect(Some(idle.map_or(connect, |idle| connect.min(idle))))
            .timeout_per_read(idle)
            .timeout_per_write(idle)
            .max_redirects(redirects)
            .https_only(uri.scheme_str() == Some("https"))
            .build();
        let response =
            self.agent
                .run(request)
                .map_err(|e| match translate(e, &uri, Phase::Wait, idle) {
                    // Whoever looks at the server would look in the wrong place.
                    TransportError::Dns { host } if through_proxy => TransportError::Dns {
                        host: format!("the proxy for {host}"),
                    },
                    TransportError::Connect { host, detail } if through_proxy => {
                        let host = format!("the proxy for {host}");
                        TransportError::Connect { host, detail }
                    }
                    error => error,
                })?;
        Ok((response, uri))
    }

    fn read(
        &self,
        response: Response<Body>,
        uri: &Uri,
        idle: Option<Duration>,
    ) -> Result<HttpResponse, TransportError> {
        let headers = KeptHeaders::of(&response);
        let status = response.status().as_u16();
        let limit = self.config.max_body_bytes;
        // What announces itself as too large need not be read to be refused.
        if response.body().content_length() > Some(limit) {
            return Err(TransportError::BodyTooLarge { limit });
        }
        let mut body = Vec::new();
        // One byte over the limit is enough to know, and the count is of what came out of gzip: a small answer that
        // unpacks to gigabytes ends here too.
        let mut reader = response
            .into_body()
            .into_reader()
            .take(limit.saturating_add(1));
        reader
            .read_to_end(&mut body)
            .map_err(|e| translate(ureq::Error::from(e), uri, Phase::Read, idle))?;
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
            return Err(TransportError::BodyTooLarge { limit });
        }
        Ok(HttpResponse {
            status,
            body,
            headers,
        })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What ureq connects with by default, but that waits end when a signal comes.
fn connector() -> impl Connector<()> {
    ()
        // The address of a proxy leads to another connection, so these come first.
        .chain(SocksConnector::default())
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        // Below TLS, which then never sees a wait that was cut into slices.
        .chain(Interruptible)
        .chain(RustlsConnector::default())
}

/// Cuts long waits for input into slices, between which a signal is noticed.
#[derive(Debug)]
struct Interruptible;

impl<In: Transport> Connector<In> for Interruptible {
    type Out = Sliced<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Sliced<In>>, ureq::Error> {
        interrupted()?;
        Ok(chained.map(Sliced))
    }
}

/// An error if a signal came.
fn interrupted() -> Result<(), ureq::Error> {
    match signal::pending() {
        // Not `Interrupted`, which readers take as a reason to try again.
        Some(_) => Err(std::io::Error::other("interrupted").into()),
        None => Ok(()),
    }
}

/// A connection whose waits for input are cut into slices.
#[derive(Debug)]
struct Sliced<T>(T);

impl<T: Transport> Transport for Sliced<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        interrupted()?;
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        let started = Instant::now();
        loop {
            interrupted()?;
            let left = timeout.after.saturating_sub(started.elapsed());
            let slice = NextTimeout {
                after: left.min(SIGNAL_LOOK).into(),
                per_read: None,
                ..timeout
            };
            match self.0.await_input(slice) {
                Err(ureq::Error::Timeout(_)) if left > SIGNAL_LOOK => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// Looks names up on the thread that asks.
#[derive(Debug, Default)]
struct OneThread(DefaultResolver);

impl Resolver for OneThread {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let started = Instant::now();
        // Without a bound ureq starts no thread. The time that the look-up took is held against it afterwards.
        let found = self.0.resolve(uri, config, NextTimeout::default());
        interrupted()?;
        if started.elapsed() >= *timeout.after {
            return Err(ureq::Error::Timeout(ureq::Timeout::Resolve));
        }
        // ureq hands on the system's error, which says no more than this.
        found.map_err(|error| match error {
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            error => error,
        })
    }
}

fn parse_url(url: &str) -> Result<Uri, TransportError> {
    let bad = |detail: String| TransportError::BadUrl { detail };
    let uri: Uri = url.parse().map_err(|e| bad(format!("{e}")))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => return Err(bad("expected http://host or https://host".to_string())),
    }
    // A password in an address ends up in logs and errors; there is a variable for it.
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(bad(
            "a user name or password does not belong in it".to_string()
        ));
    }
    Ok(uri)
}

fn read_pem(name: &str, path: &Path) -> Result<Vec<u8>, TransportError> {
    file::read_regular(path, MAX_CERTIFICATES).map_err(|e| TransportError::Tls {
        detail: format!("{name} {}: {e}", path.display()),
    })
}

fn read_certificates(name: &str, path: &Path) -> Result<Vec<Certificate<'static>>, TransportError> {
    let failed = |detail: String| TransportError::Tls {
        detail: format!("{name} {}: {detail}", path.display()),
    };
    let pem = read_pem(name, path)?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| failed(e.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(failed("no certificate in it".to_string()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKey<'static>, TransportError> {
    let pem = read_pem("client key", path)?;
    // The library's message is left out lest it quote the key.
    PrivateKey::from_pem(&pem).map_err(|_| TransportError::Tls {
        detail: format!("client key {}: no private key in it", path.display()),
    })
}

/// ureq's error in our words. `phase` is where the exchange stood, for the deadline that covers all of it; `idle` the bound
/// of a single wait.
fn translate(
    error: ureq::Error,
    uri: &Uri,
    phase: Phase,
    idle: Option<Duration>,
) -> TransportError {
    use std::io::ErrorKind;
    use ureq::Timeout;

    let host = uri.host().unwrap_or_default().to_string();
    let detail = text::escape(&error.to_string()).into_owned();
    if signal::pending().is_some() {
        return TransportError::Interrupted(phase);
    }
    match error {
        ureq::Error::Timeout(which @ (Timeout::PerRead | Timeout::PerWrite)) => {
            let phase = match which {
                Timeout::PerWrite => Phase::Send,
                _ => phase,
            };
            match idle {
                Some(limit) => TransportError::Silence { phase, limit },
                None => TransportError::Timeout(phase),
            }
        }
        ureq::Error::Timeout(which) => TransportError::Timeout(match which {
            Timeout::Resolve => Phase::Resolve,
            Timeout::Connect => Phase::Connect,
            Timeout::SendRequest | Timeout::SendBody => Phase::Send,
            Timeout::RecvResponse => Phase::Wait,
            Timeout::RecvBody => Phase::Read,
            _ => phase,
        }),
        ureq::Error::HostNotFound => TransportError::Dns { host },
        ureq::Error::ConnectionFailed => TransportError::Connect { host, detail },
        ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::Pem(_)
        | ureq::Error::TlsRequired => TransportError::Tls { detail },
        ureq::Error::InvalidProxyUrl => TransportError::BadProxy { detail },
        ureq::Error::ConnectProxyFailed(_) => TransportError::Proxy { detail },
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => TransportError::BadUrl { detail },
        ureq::Error::TooManyRedirects
        | ureq::Error::RedirectFailed
        | ureq::Error::RequireHttpsOnly(_) => {
            TransportError::Redirect {
                // ureq's text for the last shows the whole address, query and all.
                detail: match error {
                    ureq::Error::RequireHttpsOnly(_) => "it leaves https".to_string(),
                    _ => detail,
                },
            }
        }
        ureq::Error::BodyExceedsLimit(limit) => TransportError::BodyTooLarge { limit },
        ureq::Error::Io(e) => match e.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => TransportError::Timeout(phase),
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable => TransportError::Connect {
                host,
                detail: e.to_string(),
            },
            // rustls reports a refused certificate through the stream it wraps.
            ErrorKind::InvalidData if uri.scheme_str() == Some("https") && phase != Phase::Read => {
                TransportError::Tls {
                    detail: e.to_string(),
                }
            }
            _ => TransportError::Io {
                detail: e.to_string(),
            },
        },
        _ => TransportError::Protocol { detail },
    }
}

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
