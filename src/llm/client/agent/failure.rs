//! What the failures of an agent and of its link mean as errors.

use crate::llm::error::LlmError;
use crate::transport::agent::Failure;
use crate::transport::agent::FailureKind;
use crate::transport::child::Exit;
use crate::transport::link::LinkError;

/// The error of an agent that cannot be started.
pub(super) fn not_started(error: LinkError) -> LlmError {
    LlmError::AgentUnavailable {
        detail: error.to_string(),
    }
}

/// The error of an agent that ended, with what it said last.
pub(super) fn ended(error: LlmError, exit: &Exit) -> LlmError {
    match error {
        LlmError::AgentUnavailable { .. } if exit.blames_configuration() => {
            LlmError::AgentConfiguration {
                detail: exit.telling_lines().join("; "),
            }
        }
        error => error.with_detail(|detail| format!("{detail} ({exit})")),
    }
}

/// The error of a link that broke.
pub(super) fn broken(error: LinkError, asked: bool) -> LlmError {
    let detail = error.to_string();
    match error {
        LinkError::NotRead => LlmError::Timeout {
            phase: detail,
            sent: asked,
        },
        LinkError::Io { .. } => LlmError::Io { detail },
        _ if asked => LlmError::Protocol { detail },
        _ => LlmError::AgentUnavailable { detail },
    }
}

/// The error of a call of the model, made by the agent: as if it had been ours where the status is known.
pub(super) fn failed_call(status: Option<u16>, detail: String) -> LlmError {
    match status {
        Some(status) => LlmError::from_http(status, detail.as_bytes(), None),
        None => LlmError::Network { detail, sent: true },
    }
}

/// The error of a turn that failed, or of a handshake if nothing was asked yet.
pub(super) fn failed(failure: Failure, asked: bool) -> LlmError {
    let (detail, status) = (failure.to_string(), failure.status);
    match failure.kind {
        FailureKind::Overflow => LlmError::ContextLengthExceeded { detail, status },
        FailureKind::Filtered => LlmError::ContentFiltered { detail, status },
        FailureKind::Authentication => LlmError::Authentication { detail },
        FailureKind::Forbidden => LlmError::PermissionDenied { detail },
        FailureKind::Quota => LlmError::QuotaExhausted { detail, status },
        FailureKind::Empty => LlmError::EmptyAnswer { detail },
        FailureKind::Unsupported | FailureKind::UnknownSession => {
            LlmError::InvalidPrompt { detail, status }
        }
        FailureKind::NotConfigured => LlmError::NotLoggedIn { detail },
        FailureKind::UnknownModel => LlmError::ModelNotConfigured { detail },
        FailureKind::WrongProtocol | FailureKind::Agent => LlmError::AgentUnavailable { detail },
        FailureKind::Exited if asked => LlmError::Protocol { detail },
        FailureKind::Exited => LlmError::AgentUnavailable { detail },
        FailureKind::Busy => LlmError::RateLimited {
            detail,
            retry_after: None,
        },
        FailureKind::RateLimited
        | FailureKind::Server
        | FailureKind::Rejected
        | FailureKind::Connection => failed_call(failure.status, detail),
        _ => LlmError::Protocol { detail },
    }
}
