//! What an error of asking means for a script: its exit code, and how to fix it.

use crate::cli::deadline::Deadline;
use crate::cli::exit::{Exit, Failure};
use crate::cli::network;
use crate::llm::error::LlmError;
use crate::runtime::signal;

/// The failure of a run that asked `who`: the peer with its version and protocol.
pub(crate) fn failure(error: &LlmError, who: &str, is_agent: bool, deadline: Deadline) -> Failure {
    let root = error.root();
    if let (LlmError::Interrupted { begun }, Some(signal)) = (root, signal::caught()) {
        let phase = match begun {
            true => format!("{who} was answering"),
            false => format!("asking {who}"),
        };
        let failure = Failure::interrupted(signal, &phase);
        return match begun {
            true => failure.hint("`omk cost show` says what it used"),
            false => failure,
        };
    }
    let (exit, hint) = match root {
        LlmError::Timeout { phase, .. } => match deadline.check_nearly(phase) {
            Err(failure) => {
                return Failure {
                    detail: format!("{who}: {}", failure.detail),
                    ..failure
                };
            }
            Ok(()) => (
                Exit::Temporary,
                "try again; a longer --idle-timeout waits for longer",
            ),
        },
        LlmError::ContextLengthExceeded { .. } => (
            Exit::Budget,
            "shorten the prompt, or see `omk models` for a larger window",
        ),
        LlmError::BudgetExhausted { begun, .. } => (
            Exit::Budget,
            match begun {
                true => "the run was stopped; its cost is in the ledger",
                false => {
                    "nothing was sent; a smaller --max-output-tokens needs less, and --max-tokens, --max-usd and OMK_BUDGET set the limits"
                }
            },
        ),
        LlmError::Authentication { .. } if is_agent => (
            Exit::Permission,
            "run the agent once by hand and log in, or set MOONSHOT_API_KEY to ask the service",
        ),
        LlmError::EmptyAnswer { .. } => (
            Exit::Failed,
            "it was paid for; a larger --max-output-tokens leaves tokens for more than the reasoning",
        ),
        LlmError::GaveUp { .. } => (
            Exit::Failed,
            "it was paid for; the agent's session log shows what it tried",
        ),
        LlmError::DeadEnd { .. } => (
            Exit::Failed,
            "it was paid for; say in the prompt what to do where the tool does not help",
        ),
        LlmError::Refused { .. } => (
            Exit::Failed,
            "it was paid for; the same words will most likely be refused again",
        ),
        LlmError::ContentFiltered { .. } => (
            Exit::Failed,
            "the service objects to the prompt or to the answer; what it had written may be on the bill",
        ),
        LlmError::NotLoggedIn { .. } => (
            Exit::Permission,
            "run the agent once by hand and log in, and see that its config.toml is valid; or set MOONSHOT_API_KEY to ask \
             the service",
        ),
        LlmError::ModelNotConfigured { .. } => (
            Exit::Config,
            "leave -m out for the agent's default, or name one that its config.toml has",
        ),
        LlmError::AgentConfiguration { .. } => (Exit::Config, "correct the file that it names"),
        LlmError::Parse { .. } => (Exit::Invalid, ""),
        LlmError::Runaway { .. } => (
            Exit::Denied,
            "the turn was cancelled; --max-repeats N allows more",
        ),
        LlmError::Io { .. } => (Exit::Io, ""),
        LlmError::AgentUnavailable { .. } if !is_agent => (
            Exit::NoService,
            "see --base-url, the proxies in HTTPS_PROXY and NO_PROXY, and the certificates in SSL_CERT_FILE",
        ),
        LlmError::AgentUnavailable { .. } => (
            Exit::NoService,
            "run the agent once by hand to see the problem; use another one with --kimi PATH, or none with --transport http",
        ),
        error => network::refusal(error),
    };
    let message = root.to_string();
    let detail = message
        .strip_prefix(root.kind())
        .map_or(message.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let kind = match root {
        LlmError::AgentUnavailable { .. } if !is_agent => "no service",
        root => root.kind(),
    };
    let detail = match root {
        // A disk of ours is none of the service's business.
        LlmError::Io { .. } if !is_agent => detail.to_string(),
        _ => format!("{who}: {detail}"),
    };
    let mut failure = Failure::new(exit, kind, detail);
    failure.http_status = root.http_status();
    network::with_wait(failure, root, hint)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn of(error: &LlmError, length: Duration) -> Failure {
        failure(
            error,
            "host",
            false,
            Deadline::new(Instant::now(), Some(length)),
        )
    }

    #[test]
    fn a_timeout_is_the_deadlines_only_when_it_is_over() {
        let error = LlmError::Timeout {
            phase: "waiting for the agent".to_string(),
            sent: true,
        };
        let over = of(&error, Duration::ZERO);
        assert_eq!(
            (over.exit, over.detail.as_str()),
            (
                Exit::Deadline,
                "host: 0ns ran out while waiting for the agent"
            )
        );
        assert_eq!(of(&error, Duration::from_secs(3600)).exit, Exit::Temporary);
    }

    #[test]
    fn our_own_disk_is_not_blamed_on_the_service() {
        let error = LlmError::Io {
            detail: "OMK_BUDGET cannot be kept without a ledger".to_string(),
        };
        let failure = of(&error, Duration::from_secs(3600));
        assert_eq!(failure.detail, "OMK_BUDGET cannot be kept without a ledger");
        assert_eq!(failure.exit, Exit::Io);
    }

    #[test]
    fn a_failure_names_the_peer_and_keeps_the_services_wish() {
        let error = LlmError::RateLimited {
            detail: "slow down".to_string(),
            retry_after: Some(Duration::from_secs(7)),
        };
        let failure = of(&error, Duration::from_secs(3600));
        assert_eq!(failure.kind, "rate limited");
        assert_eq!(failure.detail, "host: slow down");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(failure.http_status, Some(429));
        assert_eq!(failure.hints, ["try again in 7 s"]);
    }
}
