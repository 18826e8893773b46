//! The network as commands use it: one client from the environment, and one reading of what goes wrong.
//!
//! The proxy variables and `SSL_CERT_FILE` are looked at here and nowhere else, only by commands that send something. It
//! refuses to retry: a failure that may pass is exit 75, with the wait that the service asked for, and the caller or a
//! script decides.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::llm::error::LlmError;
use crate::runtime::text::escape_os;
use crate::transport::http::{Http, HttpConfig, HttpResponse, Proxies, TransportError};

/// How long an exchange may take where no `--deadline` says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer: far above any list of models, and below what would trouble a small machine.
const LARGEST: u64 = 16 * 1024 * 1024;

/// A client for what is left of the deadline, or for [`TIMEOUT`] without one.
///
/// # Errors
///
/// Exit 78 for a variable that cannot be used, 124 when nothing is left.
pub(crate) fn http(env: &Env, deadline: Deadline) -> Result<Http, Failure> {
    deadline.check("preparing a request")?;
    let config = config(env, deadline.left().unwrap_or(TIMEOUT))?;
    Http::new(config).map_err(|error| {
        // All that can be wrong before an address is known is the file of certificates.
        Failure::new(Exit::Config, "configuration", error.to_string()).hint(
            "SSL_CERT_FILE names a PEM file of root certificates; unset it for those built in",
        )
    })
}

/// What the environment says about the network.
///
/// # Errors
///
/// Exit 78 for a variable that cannot be used.
pub(crate) fn config(env: &Env, timeout: Duration) -> Result<HttpConfig, Failure> {
    Ok(HttpConfig {
        timeout,
        max_body_bytes: LARGEST,
        proxies: Proxies {
            https: proxy_variable(env, "HTTPS_PROXY")?,
            http: proxy_variable(env, "HTTP_PROXY")?,
            all: proxy_variable(env, "ALL_PROXY")?,
            no_proxy: proxy_variable(env, "NO_PROXY")?,
        },
        ca_file: env.variable("SSL_CERT_FILE").map(Into::into),
        client_certificate: None,
    })
}

/// Refuses to send a key where others can read it on its way.
///
/// # Errors
///
/// Exit 78 for `http://` and a host that is not this machine.
pub(crate) fn check_encrypted(url: &str) -> Result<(), Failure> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Ok(());
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    // What stands before an `@` is a user and a password.
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    let is_local = host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
    if is_local {
        return Ok(());
    }
    let detail = format!(
        "{}: the key would be sent unencrypted to another machine",
        shown(url)
    );
    Err(Failure::new(Exit::Config, "configuration", detail)
        .hint("use https://, or --insecure if the network is trusted"))
}

/// The lower case goes first, as in curl: it is what people set by hand.
fn proxy_variable(env: &Env, name: &str) -> Result<Option<String>, Failure> {
    let lower = name.to_ascii_lowercase();
    let found = [lower.as_str(), name]
        .into_iter()
        .find_map(|name| env.variable(name).map(|value| (name, value)));
    match found {
        None => Ok(None),
        Some((name, value)) => value.into_string().map(Some).map_err(|value: OsString| {
            let detail = format!("{name}: `{}` is not UTF-8", escape_os(value));
            Failure::new(Exit::Config, "configuration", detail)
        }),
    }
}

/// Why an exchange brought no answer. A timeout is the deadline's (exit 124) where there is one and it is over; otherwise
/// it is the network's.
pub(crate) fn no_answer(error: &TransportError, url: &str, deadline: Deadline) -> Failure {
    let url = shown(url);
    if let TransportError::Timeout(phase) = error
        && let Err(failure) = deadline.check_nearly(&format!("{phase}: {url}"))
    {
        return failure;
    }
    let (exit, kind) = match error {
        TransportError::Timeout(_)
        | TransportError::Silence { .. }
        | TransportError::Dns { .. }
        | TransportError::Connect { .. }
        | TransportError::Io { .. } => (Exit::Temporary, "network"),
        TransportError::BadProxy { .. } => (Exit::Config, "configuration"),
        _ => (Exit::Failed, "network"),
    };
    let failure = Failure::new(exit, kind, format!("{url}: {error}"));
    match (error.hint(), error) {
        (Some(hint), _) => failure.hint(hint),
        (None, TransportError::Timeout(_)) => failure.hint("a longer --deadline allows more time"),
        (None, TransportError::Connect { .. } | TransportError::Dns { .. }) => {
            failure.hint("check the address and the network; HTTPS_PROXY names a proxy")
        }
        _ => failure,
    }
}

/// Why an answer is none, by its status; nothing for a good one.
pub(crate) fn check_status(response: &HttpResponse, url: &str) -> Result<(), Failure> {
    if response.is_success() {
        return Ok(());
    }
    let status = response.status;
    let (exit, kind, meaning) = match status {
        401 => (
            Exit::Permission,
            "permission",
            "the key is missing or wrong",
        ),
        403 => (Exit::Permission, "permission", "access is denied"),
        404 | 410 => (Exit::Failed, "service", "nothing is there"),
        408 | 504 => (Exit::Temporary, "service", "it took the service too long"),
        429 => (Exit::Temporary, "service", "too many requests"),
        500..=599 => (Exit::Temporary, "service", "the service has trouble"),
        300..=399 => (Exit::Failed, "service", "a redirect that leads nowhere"),
        _ => (Exit::Failed, "service", "the service refuses"),
    };
    let mut detail = format!("{}: HTTP {status}, {meaning}", shown(url));
    if let Some(id) = response.trace_id() {
        detail.push_str(&format!(" (request {id})"));
    }
    let mut failure = Failure::new(exit, kind, detail);
    failure.http_status = Some(status);
    if exit == Exit::Temporary {
        failure.retry_after = response.retry_after();
        let hint = match failure.retry_after {
            Some(wait) => format!("try again in {} s", wait.as_secs()),
            None => "try again later".to_string(),
        };
        failure = failure.hint(hint);
    }
    Err(failure)
}

/// Why a service that speaks the language of model services gave no answer: what it says itself, told apart by
/// [`LlmError::from_http`].
pub(crate) fn refused(response: &HttpResponse, url: &str) -> Failure {
    let error = LlmError::from_http(response.status, &response.body, response.retry_after());
    let (exit, hint) = refusal(&error);
    let mut detail = format!("{}: {error}", shown(url));
    if let Some(id) = response.trace_id() {
        detail.push_str(&format!(" (request {id})"));
    }
    let mut failure = Failure::new(exit, "service", detail);
    failure.http_status = Some(response.status);
    with_wait(failure, &error, hint)
}

/// What a service's refusal means for a script, and how to fix it; empty where that is not known.
pub(crate) fn refusal(error: &LlmError) -> (Exit, &'static str) {
    match error {
        LlmError::Authentication { .. } => (
            Exit::Permission,
            "MOONSHOT_API_KEY must be a key for this very host: those of .ai, .cn and the coding plan differ",
        ),
        LlmError::PermissionDenied { .. } => (
            Exit::Permission,
            "see the account's console: the model may need a top-up or another plan",
        ),
        LlmError::QuotaExhausted { .. } => (
            Exit::Permission,
            "top the account up, or wait for the next period of the plan",
        ),
        LlmError::ModelNotFound { .. } => (
            Exit::Failed,
            "see `omk models`; the key may not allow this one",
        ),
        error if error.is_retryable() => (Exit::Temporary, "try again later"),
        _ => (Exit::Failed, ""),
    }
}

/// The failure with the wait that the service asks for, or else with how to fix it.
pub(crate) fn with_wait(mut failure: Failure, error: &LlmError, hint: &str) -> Failure {
    failure.retry_after = error.retry_after();
    match failure.retry_after {
        Some(wait) => failure.hint(format!("try again in {} s", wait.as_secs())),
        None if hint.is_empty() => failure,
        None => failure.hint(hint),
    }
}

/// An address for a message: without its query, which may hold a key.
pub(crate) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cli::env::tests::world;
    use crate::transport::http::Phase;

    #[test]
    fn proxies_are_found_in_either_case() {
        let of = |variables: &[(&str, &str)]| {
            proxy_variable(&world(variables, b"").0, "HTTPS_PROXY").unwrap()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "a")]).as_deref(), Some("a"));
        let both = [("HTTPS_PROXY", "a"), ("https_proxy", "b")];
        assert_eq!(of(&both).as_deref(), Some("b"));
        // An empty one counts as unset, in this case too.
        let empty = [("HTTPS_PROXY", "a"), ("https_proxy", "")];
        assert_eq!(of(&empty).as_deref(), Some("a"));
    }

    #[test]
    fn a_useless_file_of_certificates_is_a_mistake_of_the_configuration() {
        let (env, ..) = world(&[("SSL_CERT_FILE", "/nowhere/ca.pem")], b"");
        let failure = http(&env, Deadline::new(Instant::now(), None)).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(
            failure
                .detail
                .starts_with("tls: SSL_CERT_FILE /nowhere/ca.pem: "),
            "{failure:?}"
        );
    }

    #[test]
    fn a_key_is_sent_unencrypted_to_this_machine_only() {
        for (url, allowed) in [
            ("https://api.moonshot.ai/v1", true),
            ("http://127.0.0.1:8080/v1", true),
            ("http://127.9.9.9/v1", true),
            ("http://localhost:1", true),
            ("http://[::1]:80/v1", true),
            ("http://10.0.0.1/v1", false),
            ("http://api.moonshot.ai/v1", false),
            ("http://localhost.example.com/v1", false),
            ("http://127.0.0.1.example.com/v1", false),
            ("http://[fe80::1]/v1", false),
            ("http://localhost:x@example.com/v1", false),
            ("http://user:x@localhost/v1", true),
        ] {
            assert_eq!(check_encrypted(url).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_timeout_is_the_deadlines_only_when_there_is_one_and_it_is_over() {
        let exit = |length: Option<Duration>, phase| {
            let error = TransportError::Timeout(phase);
            no_answer(
                &error,
                "https://a/?key=1",
                Deadline::new(Instant::now(), length),
            )
        };
        let over = exit(Some(Duration::ZERO), Phase::Wait);
        assert_eq!(over.exit, Exit::Deadline);
        assert_eq!(
            over.detail,
            "0ns ran out while waiting for the answer: https://a/"
        );
        assert_eq!(exit(None, Phase::Wait).exit, Exit::Temporary);
        // The host did not pick up; the deadline was hours away.
        let long = Some(Duration::from_secs(36_000));
        assert_eq!(exit(long, Phase::Connect).exit, Exit::Temporary);
    }

    #[test]
    fn every_error_has_its_exit_code_and_shows_no_query() {
        let detail = || "x".to_string();
        let host = || "a".to_string();
        for (error, exit) in [
            (TransportError::Dns { host: host() }, Exit::Temporary),
            (
                TransportError::Connect {
                    host: host(),
                    detail: detail(),
                },
                Exit::Temporary,
            ),
            (TransportError::Io { detail: detail() }, Exit::Temporary),
            (TransportError::BadProxy { detail: detail() }, Exit::Config),
            (TransportError::Proxy { detail: detail() }, Exit::Failed),
            (TransportError::Tls { detail: detail() }, Exit::Failed),
            (TransportError::BodyTooLarge { limit: 1 }, Exit::Failed),
            (TransportError::Protocol { detail: detail() }, Exit::Failed),
        ] {
            let deadline = Deadline::new(Instant::now(), Some(Duration::ZERO));
            let failure = no_answer(&error, "https://a/b?key=sk-1", deadline);
            assert_eq!(failure.exit, exit, "{error:?}");
            assert!(failure.detail.starts_with("https://a/b: "), "{failure:?}");
        }
    }
}
