//! The loop of attempts under every transport.

use std::time::Duration;

use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::error::LlmError;
use crate::llm::retry::Retry;
use crate::llm::retry::RetryPolicy;
use crate::llm::types::LlmResponse;
use crate::runtime::clock::Timer;

/// Makes attempts until one succeeds or no further may be made.
///
/// Another is made when the error may pass, the policy's [`Repeats`](crate::llm::retry::Repeats) allows it (by default until
/// something was handed to the observer that it cannot take back), the policy has retries left and its delay ends before the
/// timeout. `timeout` covers everything, waits included; each attempt is handed the timer and
/// told what is left of it. The retries are reported to the observer, who may stop there, and recorded in the response.
///
/// # Errors
///
/// That of the last attempt, or the observer's wish to stop.
pub(crate) fn with_retries(
    policy: &RetryPolicy,
    timeout: Duration,
    timer: &mut dyn Timer,
    emitter: &mut Emitter<'_>,
    mut attempt: impl FnMut(&mut Emitter<'_>, &mut dyn Timer, Duration) -> Result<LlmResponse, LlmError>,
) -> Result<LlmResponse, LlmError> {
    let started = timer.elapsed();
    let mut retries = Vec::new();
    for made in 0.. {
        let left = timeout.saturating_sub(timer.elapsed().saturating_sub(started));
        let error = match attempt(emitter, timer, left) {
            Ok(mut response) => {
                // An agent's own retries came after those attempts.
                retries.append(&mut response.retries);
                return Ok(LlmResponse {
                    retries,
                    ..response
                });
            }
            Err(error) => error,
        };
        let left = timeout.saturating_sub(timer.elapsed().saturating_sub(started));
        let delay = policy.delay(made, error.retry_after(), timer.jitter(), Some(left));
        let wait = match delay {
            Some(wait)
                if error.is_retryable() && policy.repeats.allows(&error, emitter.has_output()) =>
            {
                wait
            }
            _ => return Err(error),
        };
        let retry = Retry {
            attempt: made.saturating_add(2),
            of: policy.max_retries.saturating_add(1),
            wait,
            error,
        };
        emitter.take_back()?;
        emitter.emit(Event::Retry(&retry))?;
        retries.push(retry);
        timer.sleep(wait);
        emitter.check()?;
    }
    // Not reached: a policy refuses at the latest when its retries, which are fewer, are used up.
    Err(LlmError::Timeout {
        phase: "trying again".to_string(),
        sent: true,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::llm::client::Stop;
    use crate::runtime::clock::ManualTimer;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn server(retry_after: Option<Duration>) -> LlmError {
        LlmError::Server {
            status: 503,
            detail: "busy".to_string(),
            retry_after,
        }
    }

    /// The outcome of a series of attempts, with what was slept; `None` is an attempt that succeeds.
    fn attempts(
        timeout: Duration,
        script: Vec<Option<LlmError>>,
        shows_output: bool,
    ) -> (Result<LlmResponse, LlmError>, Vec<Duration>, u32) {
        let (mut timer, mut made, mut told) = (ManualTimer::default(), 0, 0);
        let mut observer = |event: Event<'_>| {
            told += u32::from(matches!(event, Event::Retry(_)));
            ControlFlow::Continue(())
        };
        let mut script = script.into_iter();
        let outcome = with_retries(
            &RetryPolicy::default(),
            timeout,
            &mut timer,
            &mut Emitter::new(&mut observer),
            |emitter, _, _| {
                made += 1;
                if shows_output {
                    emitter.emit(Event::Thinking("hm"))?;
                }
                match script.next().unwrap() {
                    Some(error) => Err(error),
                    None => Ok(LlmResponse::of("ok")),
                }
            },
        );
        assert_eq!(told + 1, made, "each retry is reported");
        (outcome, timer.slept().to_vec(), made)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_may_pass_is_tried_again_and_recorded() {
        let after = Some(ms(7000));
        let script = vec![Some(server(None)), Some(server(after)), None];
        let (outcome, slept, made) = attempts(HOUR, script, false);
        assert_eq!((slept, made), (vec![ms(500), ms(7000)], 3));
        let retry = |attempt, wait, retry_after| Retry {
            attempt,
            of: 5,
            wait,
            error: server(retry_after),
        };
        let expected = [retry(2, ms(500), None), retry(3, ms(7000), after)];
        assert_eq!(outcome.unwrap().retries, expected);
    }

    #[test]
    fn the_last_error_is_the_outcome() {
        let (outcome, slept, made) = attempts(HOUR, vec![Some(server(None)); 5], false);
        assert_eq!((outcome, made), (Err(server(None)), 5));
        assert_eq!(slept, [500, 1000, 2000, 4000].map(ms));
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        let refused = LlmError::InvalidPrompt {
            detail: String::new(),
            status: Some(400),
        };
        let (outcome, slept, made) = attempts(HOUR, vec![Some(refused.clone())], false);
        assert_eq!((outcome, slept, made), (Err(refused), vec![], 1));
    }

    #[test]
    fn nothing_is_tried_again_once_something_was_shown() {
        let (outcome, _, made) = attempts(HOUR, vec![Some(server(None))], true);
        assert_eq!((outcome, made), (Err(server(None)), 1));
    }

    #[test]
    fn the_deadline_covers_the_waits() {
        // 500 + 1000 ms fit into it, the next 2000 do not.
        let script = vec![Some(server(None)); 3];
        let (_, slept, made) = attempts(ms(3400), script, false);
        assert_eq!((slept, made), (vec![ms(500), ms(1000)], 3));
        let script = vec![Some(server(Some(ms(3000))))];
        assert_eq!(attempts(ms(3000), script, false).2, 1);
    }

    #[test]
    fn each_attempt_is_told_what_is_left() {
        let (mut timer, mut left) = (ManualTimer::default(), Vec::new());
        timer.sleep(ms(99_000));
        let outcome = with_retries(
            &RetryPolicy::default(),
            ms(1600),
            &mut timer,
            &mut Emitter::new(&mut ()),
            |_, _, time| {
                left.push(time);
                Err(server(None))
            },
        );
        assert_eq!(outcome, Err(server(None)));
        assert_eq!(left, [ms(1600), ms(1100), ms(100)]);
    }

    #[test]
    fn an_observer_can_stop_instead_of_waiting() {
        let mut timer = ManualTimer::default();
        let mut observer = |event: Event<'_>| match event {
            Event::Retry(_) => ControlFlow::Break(Stop::Interrupted),
            _ => ControlFlow::Continue(()),
        };
        let outcome = with_retries(
            &RetryPolicy::default(),
            HOUR,
            &mut timer,
            &mut Emitter::new(&mut observer),
            |_, _, _| Err(server(None)),
        );
        assert_eq!(outcome, Err(LlmError::Interrupted { begun: true }));
        assert_eq!(timer.slept(), []);
    }
}
