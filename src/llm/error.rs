//! Why there is no answer, in terms a caller can act on.
//!
//! Two questions decide what happens next, and every error answers both: may trying again help, and may this attempt
//! have cost money? The second is answered "unknown" where nobody can know, never "no" out of optimism. Refuses to carry
//! secrets: details come from peers through [`crate::runtime::text`] and from [`TransportError`], which hold none.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::catalog::money::Charge;
use crate::runtime::text;
use crate::transport::agent::is_unbilled;
use crate::transport::http::TransportError;

/// Characters of a peer's message kept in an error.
const MAX_DETAIL_CHARS: usize = 300;

/// How the message of an error begins that came inside a success.
const INSIDE_SUCCESS: &str = "error inside a 200 answer: ";

/// Why a request to a model failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LlmError {
    /// Time ran out. Retried when the policy and the deadline leave room.
    Timeout {
        /// What was going on, such as `connecting` or `waiting for the answer`.
        phase: String,
        /// Whether the request can have reached the model by then.
        sent: bool,
    },
    /// The service answered 429 for now: too many requests, or it is overloaded. Retried; its `Retry-After` is kept.
    RateLimited {
        /// What it says.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The connection failed or broke. Retried.
    Network {
        /// What happened.
        detail: String,
        /// Whether the request can have reached the model.
        sent: bool,
    },
    /// The service failed: 5xx and its like. Retried.
    Server {
        /// The HTTP status.
        status: u16,
        /// What it says.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The service does not accept the request as it is.
    InvalidPrompt {
        /// What it says.
        detail: String,
        /// The HTTP status that said so, where it was one.
        status: Option<u16>,
    },
    /// Prompt and answer do not fit the model's window.
    ContextLengthExceeded {
        /// What it says.
        detail: String,
        /// The HTTP status that said so, where it was one.
        status: Option<u16>,
    },
    /// The service refuses the content.
    ContentFiltered {
        /// What it says.
        detail: String,
        /// The HTTP status that said so, where it was one.
        status: Option<u16>,
    },
    /// No key, a wrong one, or one for another host.
    Authentication {
        /// What it says.
        detail: String,
    },
    /// The key is right and does not allow this.
    PermissionDenied {
        /// What it says.
        detail: String,
    },
    /// The service does not know the model, or not for this key.
    ModelNotFound {
        /// What it says.
        detail: String,
        /// The HTTP status that said so, where it was one.
        status: Option<u16>,
    },
    /// The account's balance or its day's allowance is used up: waiting a minute will not help.
    QuotaExhausted {
        /// What it says.
        detail: String,
        /// The HTTP status that said so, where it was one.
        status: Option<u16>,
    },
    /// The answer broke off: the stream ended, or failed, before the model was done. Retried when nothing of it was shown.
    Incomplete {
        /// How it ended.
        detail: String,
    },
    /// The model was done and there is no answer, such as when reasoning used the output limit up. Not retried: it was paid
    /// for, and the same request would most likely pay for nothing again.
    EmptyAnswer {
        /// What there was instead.
        detail: String,
    },
    /// The agent stopped without an answer, such as when it repeats one tool call. Not retried: it was paid for.
    GaveUp {
        /// Why it stopped.
        detail: String,
    },
    /// The agent's turn ended in a tool call, as kimi-cli's does when it can get no further. Not retried: it was paid for.
    DeadEnd {
        /// How it ended.
        detail: String,
    },
    /// The model declined to answer. Not retried: it was paid for.
    Refused {
        /// What it said instead.
        detail: String,
    },
    /// The answer came and cannot be understood.
    Parse {
        /// What is wrong with it.
        detail: String,
        /// The answer, whole: it was paid for.
        raw: String,
    },
    /// The caller's own budget does not allow it.
    BudgetExhausted {
        /// Which limit, and by how much.
        detail: String,
        /// Whether the turn had begun, so that tokens were used.
        begun: bool,
    },
    /// Reading or writing on this machine failed.
    Io {
        /// What happened, with the path.
        detail: String,
    },
    /// No agent to ask: not installed, not logged in, or it would not start.
    AgentUnavailable {
        /// What was tried.
        detail: String,
    },
    /// The agent is not logged in, or has no model that it can use.
    NotLoggedIn {
        /// What it says.
        detail: String,
    },
    /// The agent's configuration has no such model.
    ModelNotConfigured {
        /// What it says.
        detail: String,
    },
    /// The agent cannot read its configuration.
    AgentConfiguration {
        /// What it says, with the file and the line where it names them.
        detail: String,
    },
    /// The peer broke its protocol.
    Protocol {
        /// What it did.
        detail: String,
    },
    /// An agent did the same over and over, and was stopped.
    Runaway {
        /// What it did.
        detail: String,
    },
    /// Someone stopped it, such as with Ctrl-C.
    Interrupted {
        /// Whether the turn had begun.
        begun: bool,
    },
    /// An agent's turn failed after it had done more than the failure itself would cost. It speaks as its cause does, but
    /// about the money.
    MidTurn {
        /// What ended the turn.
        cause: Box<LlmError>,
        /// Whether the turn as a whole cost money.
        charged: Charge,
    },
}

impl LlmError {
    /// Whether the same request may succeed if it is sent again later.
    pub fn is_retryable(&self) -> bool {
        match self {
            LlmError::MidTurn { cause, .. } => cause.is_retryable(),
            LlmError::Timeout { .. }
            | LlmError::RateLimited { .. }
            | LlmError::Network { .. }
            | LlmError::Server { .. }
            | LlmError::Incomplete { .. } => true,
            LlmError::InvalidPrompt { .. }
            | LlmError::ContextLengthExceeded { .. }
            | LlmError::ContentFiltered { .. }
            | LlmError::Authentication { .. }
            | LlmError::PermissionDenied { .. }
            | LlmError::ModelNotFound { .. }
            | LlmError::QuotaExhausted { .. }
            | LlmError::EmptyAnswer { .. }
            | LlmError::GaveUp { .. }
            | LlmError::DeadEnd { .. }
            | LlmError::Refused { .. }
            | LlmError::Parse { .. }
            | LlmError::BudgetExhausted { .. }
            | LlmError::Io { .. }
            | LlmError::AgentUnavailable { .. }
            | LlmError::NotLoggedIn { .. }
            | LlmError::ModelNotConfigured { .. }
            | LlmError::AgentConfiguration { .. }
            | LlmError::Protocol { .. }
            | LlmError::Runaway { .. }
            | LlmError::Interrupted { .. } => false,
        }
    }

    /// Whether this attempt may have cost money.
    ///
    /// A request that a 429 interrupted is not charged, says Kimi's help centre (rate limits); 4xx are refused unread.
    pub fn may_have_charged(&self) -> Charge {
        let if_sent = |sent: bool| if sent { Charge::Unknown } else { Charge::No };
        match self {
            LlmError::MidTurn { charged, .. } => *charged,
            LlmError::Timeout { sent, .. } | LlmError::Network { sent, .. } => if_sent(*sent),
            LlmError::Runaway { .. } => Charge::Unknown,
            LlmError::Interrupted { begun } => if_sent(*begun),
            LlmError::BudgetExhausted { begun: true, .. }
            | LlmError::EmptyAnswer { .. }
            | LlmError::GaveUp { .. }
            | LlmError::DeadEnd { .. }
            | LlmError::Refused { .. }
            | LlmError::Parse { .. } => Charge::Yes,
            LlmError::Server { status, .. } if is_unbilled(*status) => Charge::No,
            LlmError::Server { .. }
            | LlmError::Incomplete { .. }
            | LlmError::ContentFiltered { .. }
            | LlmError::Io { .. }
            | LlmError::Protocol { .. } => Charge::Unknown,
            LlmError::BudgetExhausted { begun: false, .. }
            | LlmError::RateLimited { .. }
            | LlmError::InvalidPrompt { .. }
            | LlmError::ContextLengthExceeded { .. }
            | LlmError::Authentication { .. }
            | LlmError::PermissionDenied { .. }
            | LlmError::ModelNotFound { .. }
            | LlmError::QuotaExhausted { .. }
            | LlmError::NotLoggedIn { .. }
            | LlmError::ModelNotConfigured { .. }
            | LlmError::AgentConfiguration { .. }
            | LlmError::AgentUnavailable { .. } => Charge::No,
        }
    }

    /// How long the service asks to wait before another attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            LlmError::RateLimited { retry_after, .. } | LlmError::Server { retry_after, .. } => {
                *retry_after
            }
            LlmError::MidTurn { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// The HTTP status that the service answered with, as far as it is known.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            LlmError::MidTurn { cause, .. } => cause.http_status(),
            LlmError::Server { status, .. } => Some(*status),
            LlmError::InvalidPrompt { status, .. }
            | LlmError::ContextLengthExceeded { status, .. }
            | LlmError::ContentFiltered { status, .. }
            | LlmError::ModelNotFound { status, .. }
            | LlmError::QuotaExhausted { status, .. } => *status,
            LlmError::RateLimited { .. } => Some(429),
            LlmError::Authentication { .. } => Some(401),
            LlmError::PermissionDenied { .. } => Some(403),
            _ => None,
        }
    }

    /// The kind, as it begins the message and as JSON output names it.
    pub fn kind(&self) -> &'static str {
        match self {
            LlmError::Timeout { .. } => "timeout",
            LlmError::RateLimited { .. } => "rate limited",
            LlmError::Network { .. } => "network",
            LlmError::Server { .. } => "server error",
            LlmError::InvalidPrompt { .. } => "invalid prompt",
            LlmError::ContextLengthExceeded { .. } => "context length exceeded",
            LlmError::ContentFiltered { .. } => "content filtered",
            LlmError::Authentication { .. } => "authentication",
            LlmError::PermissionDenied { .. } => "permission denied",
            LlmError::ModelNotFound { .. } => "model not found",
            LlmError::QuotaExhausted { .. } => "quota exhausted",
            LlmError::Incomplete { .. } => "incomplete answer",
            LlmError::EmptyAnswer { .. } => "empty answer",
            LlmError::GaveUp { .. } => "gave up",
            LlmError::DeadEnd { .. } => "dead end",
            LlmError::Refused { .. } => "refused",
            LlmError::Parse { .. } => "invalid answer",
            LlmError::BudgetExhausted { .. } => "budget exhausted",
            LlmError::Io { .. } => "input/output",
            LlmError::AgentUnavailable { .. } => "no agent",
            LlmError::NotLoggedIn { .. } => "not logged in",
            LlmError::ModelNotConfigured { .. } => "model not configured",
            LlmError::AgentConfiguration { .. } => "agent configuration",
            LlmError::Protocol { .. } => "protocol",
            LlmError::Runaway { .. } => "runaway agent",
            LlmError::Interrupted { .. } => "interrupted",
            LlmError::MidTurn { cause, .. } => cause.kind(),
        }
    }

    /// The error of an HTTP answer that is no success, by status and by the `error.type` and message in its body.
    ///
    /// The table is Moonshot's (platform.kimi.ai/docs/api/errors, read 2026-02), which is OpenAI's with more types. 429 has
    /// four meanings, of which only two pass with time.
    pub fn from_http(status: u16, body: &[u8], retry_after: Option<Duration>) -> LlmError {
        let ErrorBody { kind, detail } = ErrorBody::read(body, status);
        let message = detail.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        // Moonshot's limit on requests a minute says it in the message and not always in a header.
        let retry_after = retry_after.or_else(|| seconds_after(&message, "try again after "));
        match status {
            400 | 413 | 422 if is_overflow(&message) => LlmError::ContextLengthExceeded {
                detail,
                status: Some(status),
            },
            400 if kind == "content_filter" || says(&["high risk"]) => LlmError::ContentFiltered {
                detail,
                status: Some(status),
            },
            401 if says(&["model id does not exist"]) => LlmError::ModelNotFound {
                detail,
                status: Some(status),
            },
            401 => LlmError::Authentication { detail },
            402 => LlmError::QuotaExhausted {
                detail,
                status: Some(status),
            },
            403 => LlmError::PermissionDenied { detail },
            404 => LlmError::ModelNotFound {
                detail,
                status: Some(status),
            },
            408 | 409 | 500..=599 => LlmError::Server {
                status,
                detail,
                retry_after,
            },
            429 if kind == "exceeded_current_quota_error"
                || kind == "rate_limit_error"
                || kind == "insufficient_quota"
                || says(&[
                    "balance",
                    "recharge",
                    "quota",
                    "suspended",
                    "in arrears",
                    "usage limit",
                    "tpd",
                    "per day",
                    "daily",
                ]) =>
            {
                LlmError::QuotaExhausted {
                    detail,
                    status: Some(status),
                }
            }
            429 => LlmError::RateLimited {
                detail,
                retry_after,
            },
            400..=499 => LlmError::InvalidPrompt {
                detail,
                status: Some(status),
            },
            _ => LlmError::Protocol {
                detail: format!("http status {status}: {detail}"),
            },
        }
    }

    /// The error in an event of a stream that began with a success: the same body without a status of its own.
    ///
    /// The status is its `code` where that is one, else the one that the same `type` has in the table. An unknown type is
    /// the service's failure, with the status 200 that it really sent. The message says that it came inside a success.
    pub fn from_event(body: &[u8]) -> LlmError {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let error = parsed.as_ref().and_then(|v| v.get("error"));
        let field = |name: &str| error.and_then(|e| e.get(name));
        let code = field("code").and_then(|code| match code {
            Value::String(code) => code.parse().ok(),
            code => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        });
        let status = match code {
            Some(status @ 400..=599) => Some(status),
            _ => match field("type").and_then(Value::as_str).unwrap_or_default() {
                "content_filter" | "invalid_request_error" => Some(400),
                "invalid_authentication_error" | "incorrect_api_key_error" => Some(401),
                "permission_denied_error" | "access_terminated_error" => Some(403),
                "resource_not_found_error" => Some(404),
                "engine_overloaded_error"
                | "rate_limit_reached_error"
                | "exceeded_current_quota_error"
                | "rate_limit_error"
                | "insufficient_quota" => Some(429),
                _ => None,
            },
        };
        let error = match status {
            Some(status) => LlmError::from_http(status, body, None),
            None => LlmError::Server {
                status: 200,
                detail: ErrorBody::read(body, 200).detail,
                retry_after: None,
            },
        };
        error.with_detail(|detail| format!("{INSIDE_SUCCESS}{detail}"))
    }

    /// The error itself, where it ended a turn that cost more than it says.
    pub fn root(&self) -> &LlmError {
        match self {
            LlmError::MidTurn { cause, .. } => cause.root(),
            error => error,
        }
    }

    /// The same error at the end of a turn that cost what is said here, if that is more than the error itself says.
    #[must_use]
    pub(crate) fn of_turn(self, charged: Charge) -> LlmError {
        let own = self.may_have_charged();
        match own.plus(charged) {
            both if both == own => self,
            charged => LlmError::MidTurn {
                cause: Box::new(self),
                charged,
            },
        }
    }

    /// The same error, naming the request to those who run the service.
    #[must_use]
    pub fn of_request(mut self, id: Option<&str>) -> LlmError {
        if let (Some(id), Some(detail)) = (id, self.detail_mut()) {
            detail.push_str(" (request ");
            detail.push_str(id);
            detail.push(')');
        }
        self
    }

    /// The same error in other words.
    #[must_use]
    pub(crate) fn with_detail(mut self, reword: impl Fn(&str) -> String) -> LlmError {
        if let Some(detail) = self.detail_mut() {
            *detail = reword(detail);
        }
        self
    }

    /// The text that Display ends with, where there is one.
    fn detail_mut(&mut self) -> Option<&mut String> {
        match self {
            LlmError::Timeout { phase: detail, .. }
            | LlmError::RateLimited { detail, .. }
            | LlmError::Network { detail, .. }
            | LlmError::Server { detail, .. }
            | LlmError::InvalidPrompt { detail, .. }
            | LlmError::ContextLengthExceeded { detail, .. }
            | LlmError::ContentFiltered { detail, .. }
            | LlmError::Authentication { detail }
            | LlmError::PermissionDenied { detail }
            | LlmError::ModelNotFound { detail, .. }
            | LlmError::QuotaExhausted { detail, .. }
            | LlmError::Incomplete { detail }
            | LlmError::EmptyAnswer { detail }
            | LlmError::GaveUp { detail }
            | LlmError::DeadEnd { detail }
            | LlmError::Refused { detail }
            | LlmError::Parse { detail, .. }
            | LlmError::BudgetExhausted { detail, .. }
            | LlmError::Io { detail }
            | LlmError::AgentUnavailable { detail }
            | LlmError::NotLoggedIn { detail }
            | LlmError::ModelNotConfigured { detail }
            | LlmError::AgentConfiguration { detail }
            | LlmError::Protocol { detail } => Some(detail),
            LlmError::MidTurn { cause, .. } => cause.detail_mut(),
            LlmError::Runaway { detail } => Some(detail),
            LlmError::Interrupted { .. } => None,
        }
    }
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let LlmError::MidTurn { cause, .. } = self {
            return cause.fmt(f);
        }
        f.write_str(self.kind())?;
        match self {
            LlmError::Timeout { phase, .. } => write!(f, ": {phase}"),
            // The status of a stream that began well says nothing about its end.
            LlmError::Server {
                status: 200,
                detail,
                ..
            } => write!(f, ": {detail}"),
            LlmError::Server { status, detail, .. } => write!(f, ": {status}: {detail}"),
            LlmError::Interrupted { begun: true } => f.write_str(": in mid-turn"),
            LlmError::Interrupted { begun: false } => f.write_str(": before the turn began"),
            // Said above, kind and all.
            LlmError::MidTurn { .. } => Ok(()),
            LlmError::RateLimited { detail, .. }
            | LlmError::Network { detail, .. }
            | LlmError::InvalidPrompt { detail, .. }
            | LlmError::ContextLengthExceeded { detail, .. }
            | LlmError::ContentFiltered { detail, .. }
            | LlmError::Authentication { detail }
            | LlmError::PermissionDenied { detail }
            | LlmError::ModelNotFound { detail, .. }
            | LlmError::QuotaExhausted { detail, .. }
            | LlmError::Incomplete { detail }
            | LlmError::EmptyAnswer { detail }
            | LlmError::GaveUp { detail }
            | LlmError::DeadEnd { detail }
            | LlmError::Refused { detail }
            | LlmError::Parse { detail, .. }
            | LlmError::BudgetExhausted { detail, .. }
            | LlmError::Io { detail }
            | LlmError::AgentUnavailable { detail }
            | LlmError::Runaway { detail }
            | LlmError::NotLoggedIn { detail }
            | LlmError::ModelNotConfigured { detail }
            | LlmError::AgentConfiguration { detail }
            | LlmError::Protocol { detail } => write!(f, ": {detail}"),
        }
    }
}

impl Error for LlmError {}

impl From<TransportError> for LlmError {
    fn from(error: TransportError) -> LlmError {
        let sent = error.may_have_arrived();
        match error {
            TransportError::Timeout(phase) => LlmError::Timeout {
                phase: phase.to_string(),
                sent,
            },
            TransportError::Interrupted(_) => LlmError::Interrupted { begun: sent },
            TransportError::Silence { phase, limit } => LlmError::Timeout {
                phase: format!("{phase}: nothing came for {limit:?}"),
                sent,
            },
            TransportError::Dns { .. }
            | TransportError::Connect { .. }
            | TransportError::Io { .. } => LlmError::Network {
                detail: error.to_string(),
                sent,
            },
            // Trying again fixes none of these, and nothing was sent.
            TransportError::Tls { .. }
            | TransportError::BadProxy { .. }
            | TransportError::Proxy { .. }
            | TransportError::BadUrl { .. } => LlmError::AgentUnavailable {
                detail: error.to_string(),
            },
            other => LlmError::Protocol {
                detail: other.to_string(),
            },
        }
    }
}

/// What an error body tells: `{"error": {"type", "message"}}`, or whatever a gateway put there instead.
struct ErrorBody {
    kind: String,
    detail: String,
}

impl ErrorBody {
    fn read(body: &[u8], status: u16) -> ErrorBody {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let error = parsed.as_ref().and_then(|v| v.get("error"));
        let field = |name: &str| error.and_then(|e| e.get(name)).and_then(Value::as_str);
        let message = field("message").or_else(|| error.and_then(Value::as_str));
        let shown = match message {
            Some(message) => text::escape(message.trim()).into_owned(),
            None => text::escape_bytes(body.trim_ascii()),
        };
        let shown = shown.trim_end_matches('.');
        ErrorBody {
            kind: field("type").unwrap_or_default().to_string(),
            detail: match shown {
                "" => format!("http status {status} with an empty body"),
                shown => text::truncate(shown, MAX_DETAIL_CHARS).into_owned(),
            },
        }
    }
}

/// The wait in a message such as "please try again after 2 seconds".
fn seconds_after(message: &str, words: &str) -> Option<Duration> {
    let (_, rest) = message.split_once(words)?;
    let (seconds, unit) = rest.split_once(' ')?;
    let seconds: u32 = seconds.parse().ok()?;
    unit.starts_with("second")
        .then(|| Duration::from_secs(u64::from(seconds)))
}

/// The ways in which services say that a prompt is too long.
fn is_overflow(message: &str) -> bool {
    let says = |words: &[&str]| words.iter().all(|word| message.contains(word));
    says(&["context length"])
        || says(&["context window"])
        || says(&["exceeded", "token limit"])
        || says(&["token length too long"])
        || says(&["exceed", "max", "tokens"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http::Phase;
    use proptest::prelude::*;

    fn http(status: u16, kind: &str, message: &str) -> LlmError {
        let body = serde_json::json!({"error": {"type": kind, "message": message}}).to_string();
        LlmError::from_http(status, body.as_bytes(), Some(Duration::from_secs(3)))
    }

    #[test]
    fn a_turn_may_cost_more_than_its_end() {
        let limited = http(429, "rate_limit_reached_error", "slow down");
        assert_eq!(limited.clone().of_turn(Charge::No), limited);
        let turn = limited.clone().of_turn(Charge::Yes);
        assert_eq!(turn.may_have_charged(), Charge::Yes);
        assert_eq!(turn.root(), &limited);
        assert_eq!(
            (turn.to_string(), turn.kind(), turn.is_retryable()),
            (limited.to_string(), limited.kind(), true)
        );
        assert_eq!(turn.retry_after(), limited.retry_after());
        let named = turn.of_request(Some("r-1")).to_string();
        assert!(named.ends_with("slow down (request r-1)"), "{named}");
        // One that already says the worst has nothing to add.
        let empty = LlmError::EmptyAnswer {
            detail: String::new(),
        };
        assert_eq!(empty.clone().of_turn(Charge::Unknown), empty);
    }

    #[test]
    fn moonshots_table_of_errors() {
        for (status, kind, message, name, retryable) in [
            (
                400,
                "content_filter",
                "The request was rejected because it was considered high risk",
                "content filtered",
                false,
            ),
            (
                400,
                "invalid_request_error",
                "Invalid request: temperature",
                "invalid prompt",
                false,
            ),
            (
                400,
                "invalid_request_error",
                "Input token length too long",
                "context length exceeded",
                false,
            ),
            (
                400,
                "invalid_request_error",
                "Your request exceeded model token limit: 262144",
                "context length exceeded",
                false,
            ),
            (
                401,
                "invalid_authentication_error",
                "Invalid Authentication",
                "authentication",
                false,
            ),
            (
                401,
                "",
                "Your model id does not exist, recognized as other:kimi-k3.",
                "model not found",
                false,
            ),
            (
                402,
                "",
                "membership cannot be verified",
                "quota exhausted",
                false,
            ),
            (
                403,
                "permission_denied_error",
                "The API you are accessing is not open",
                "permission denied",
                false,
            ),
            (
                404,
                "resource_not_found_error",
                "Not found the model x or Permission denied",
                "model not found",
                false,
            ),
            (
                413,
                "",
                "Request exceeds the maximum size",
                "invalid prompt",
                false,
            ),
            (
                429,
                "engine_overloaded_error",
                "The engine is currently overloaded, please try again later",
                "rate limited",
                true,
            ),
            (
                429,
                "rate_limit_reached_error",
                "max RPM: 3, please try again after 1 seconds",
                "rate limited",
                true,
            ),
            (
                429,
                "rate_limit_reached_error",
                "your account reached max TPD rate limit: 1500000",
                "quota exhausted",
                false,
            ),
            (
                429,
                "exceeded_current_quota_error",
                "Your account is suspended",
                "quota exhausted",
                false,
            ),
            (
                429,
                "",
                "You exceeded your current token quota, please check your account balance",
                "quota exhausted",
                false,
            ),
            (
                429,
                "rate_limit_error",
                "You've reached your usage limit for this period",
                "quota exhausted",
                false,
            ),
            (500, "server_error", "boom", "server error", true),
            (503, "server_unavailable", "", "server error", true),
            (529, "overloaded_error", "", "server error", true),
            (409, "", "conflict", "server error", true),
            (302, "", "", "protocol", false),
        ] {
            let error = http(status, kind, message);
            assert_eq!(error.kind(), name, "{status} {kind} {message}");
            assert_eq!(error.is_retryable(), retryable, "{status} {kind} {message}");
        }
    }

    #[test]
    fn messages_are_one_line_without_a_stop() {
        assert_eq!(
            http(401, "x", "Invalid Authentication.").to_string(),
            "authentication: Invalid Authentication"
        );
        assert_eq!(
            LlmError::from_http(504, b"<html>\n<h1>Gateway\x1b[1m", None).to_string(),
            "server error: 504: <html>\\n<h1>Gateway\\u{1b}[1m"
        );
        assert_eq!(
            LlmError::from_http(503, b"", None).to_string(),
            "server error: 503: http status 503 with an empty body"
        );
        let long = LlmError::from_http(400, "x".repeat(9999).as_bytes(), None).to_string();
        assert_eq!(
            long.chars().count(),
            "invalid prompt: ".len() + MAX_DETAIL_CHARS
        );
        let begun = LlmError::Interrupted { begun: true };
        assert_eq!(begun.to_string(), "interrupted: in mid-turn");
    }

    #[test]
    fn money_is_no_only_where_that_is_certain() {
        use Charge::*;
        let detail = String::new;
        for (error, charged) in [
            (LlmError::from(TransportError::Timeout(Phase::Connect)), No),
            (
                LlmError::from(TransportError::Timeout(Phase::Wait)),
                Unknown,
            ),
            (LlmError::from(TransportError::Dns { host: detail() }), No),
            (
                LlmError::from(TransportError::Io { detail: detail() }),
                Unknown,
            ),
            (
                LlmError::from(TransportError::BodyTooLarge { limit: 1 }),
                Unknown,
            ),
            (http(429, "", ""), No),
            (http(500, "", ""), No),
            (http(503, "", ""), No),
            (http(502, "", ""), Unknown),
            (http(504, "", ""), Unknown),
            (http(401, "", ""), No),
            (
                LlmError::Parse {
                    detail: detail(),
                    raw: detail(),
                },
                Yes,
            ),
            (
                LlmError::BudgetExhausted {
                    detail: detail(),
                    begun: false,
                },
                No,
            ),
            (
                LlmError::BudgetExhausted {
                    detail: detail(),
                    begun: true,
                },
                Yes,
            ),
            (LlmError::Interrupted { begun: true }, Unknown),
            (LlmError::Incomplete { detail: detail() }, Unknown),
            (LlmError::EmptyAnswer { detail: detail() }, Yes),
            (LlmError::from_event(b"{}"), Unknown),
        ] {
            assert_eq!(error.may_have_charged(), charged, "{error}");
        }
        assert_eq!(
            [Yes, No, Unknown].map(Charge::name),
            ["yes", "no", "unknown"]
        );
    }

    #[test]
    fn the_transports_errors_are_sorted_by_what_mends_them() {
        let timeout = LlmError::from(TransportError::Timeout(Phase::Wait));
        assert_eq!(timeout.to_string(), "timeout: waiting for the answer");
        assert!(timeout.is_retryable());
        let refused = TransportError::Connect {
            host: "h".to_string(),
            detail: "refused".to_string(),
        };
        assert!(LlmError::from(refused).is_retryable());
        let tls = LlmError::from(TransportError::Tls {
            detail: "UnknownIssuer".to_string(),
        });
        assert_eq!(tls.to_string(), "no agent: tls: UnknownIssuer");
        assert!(!tls.is_retryable());
    }

    #[test]
    fn an_event_has_the_status_of_its_code_or_type() {
        for (event, shown) in [
            (
                r#"{"error":{"type":"engine_overloaded_error","message":"busy"}}"#,
                "rate limited: error inside a 200 answer: busy",
            ),
            (
                r#"{"error":{"type":"x","code":503,"message":"busy"}}"#,
                "server error: 503: error inside a 200 answer: busy",
            ),
            (
                r#"{"error":{"code":"401","message":"who?"}}"#,
                "authentication: error inside a 200 answer: who?",
            ),
            (
                r#"{"error":{"type":"content_filter","message":"no"}}"#,
                "content filtered: error inside a 200 answer: no",
            ),
            (
                r#"{"error":{"type":"exceeded_current_quota_error","message":"pay"}}"#,
                "quota exhausted: error inside a 200 answer: pay",
            ),
            (
                r#"{"error":{"type":"new","code":7,"message":"odd"}}"#,
                "server error: error inside a 200 answer: odd",
            ),
            (
                r#"{"error":"odd"}"#,
                "server error: error inside a 200 answer: odd",
            ),
        ] {
            assert_eq!(LlmError::from_event(event.as_bytes()).to_string(), shown);
        }
    }

    #[test]
    fn an_error_names_the_request() {
        let error = http(500, "", "boom").of_request(Some("r-1"));
        assert_eq!(error.to_string(), "server error: 500: boom (request r-1)");
        let same = http(500, "", "boom").of_request(None);
        assert_eq!(same.to_string(), "server error: 500: boom");
        let stopped = LlmError::Interrupted { begun: true };
        assert_eq!(stopped.clone().of_request(Some("r-1")), stopped);
    }

    #[test]
    fn attempts_together_cost_what_the_worst_of_them_may() {
        use Charge::*;
        for (a, b, both) in [(No, No, No), (No, Unknown, Unknown), (Unknown, Yes, Yes)] {
            assert_eq!((a.plus(b), b.plus(a)), (both, both));
        }
    }

    #[test]
    fn only_waiting_errors_carry_a_wait() {
        assert_eq!(
            http(429, "", "").retry_after(),
            Some(Duration::from_secs(3))
        );
        assert_eq!(
            http(503, "", "").retry_after(),
            Some(Duration::from_secs(3))
        );
        assert_eq!(http(401, "", "").retry_after(), None);
        for (message, wait) in [
            ("Max RPM: 3. Please try again after 12 seconds.", Some(12)),
            ("please try again after 1 second", Some(1)),
            ("please try again after a while", None),
            ("please try again after 2 minutes", None),
            ("please try again after -1 seconds", None),
            ("please try again later", None),
        ] {
            let body = serde_json::json!({"error": {"message": message}}).to_string();
            let error = LlmError::from_http(429, body.as_bytes(), None);
            assert_eq!(
                error.retry_after(),
                wait.map(Duration::from_secs),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_answer_becomes_an_error(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..80)) {
            let error = LlmError::from_http(status, &body, None);
            prop_assert!(!error.to_string().contains(char::is_control));
            prop_assert!(!LlmError::from_event(&body).to_string().contains(char::is_control));
        }
    }
}
