//! When to try again, and when to stop.
//!
//! A policy answers with a delay and never sleeps: the caller owns the clock, so no test waits and a deadline is kept to
//! the end. What may be retried at all is the error's to say ([`LlmError::is_retryable`]); and once a byte of an answer
//! was shown nothing may. The loop that holds all of this together stands here once, under every transport.

use std::time::Duration;

use crate::llm::client::Emitter;
use crate::llm::client::Event;
use crate::llm::error::LlmError;
use crate::llm::types::LlmResponse;
use crate::runtime::clock::Timer;

/// The longest that a server's `Retry-After` is obeyed; a script would rather fail than hang for an hour.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often and how patiently to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub max_retries: u32,
    /// The delay before the first retry; it doubles each time.
    pub base_delay: Duration,
    /// The longest delay of our own, before jitter.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Four retries from half a second up to 32 seconds: the schedule of Moonshot's own client, with fewer attempts.
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_retries: 4,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(32),
        }
    }
}

impl RetryPolicy {
    /// A policy that never tries again.
    pub const fn none() -> RetryPolicy {
        RetryPolicy {
            max_retries: 0,
            base_delay: Duration::ZERO,
            max_delay: Duration::ZERO,
        }
    }

    /// How long to wait before the next attempt, or nothing when there is to be none.
    ///
    /// `retries` is how many were already made. A `retry_after` from the server wins over our own schedule, up to a
    /// minute. `jitter` is a random number from 0 to 1000 that lengthens our own delay by up to a quarter, so that
    /// clients that failed together do not come back together; larger ones count as 1000. `remaining` is the time left
    /// until the deadline: a delay that would use it all up is refused now rather than waited for in vain.
    pub fn delay(
        &self,
        retries: u32,
        retry_after: Option<Duration>,
        jitter: u16,
        remaining: Option<Duration>,
    ) -> Option<Duration> {
        if retries >= self.max_retries {
            return None;
        }
        let delay = match retry_after {
            Some(asked) => asked.min(MAX_RETRY_AFTER),
            None => {
                let doubled = 2_u32.saturating_pow(retries);
                let delay = self.base_delay.saturating_mul(doubled).min(self.max_delay);
                delay.saturating_add((delay / 4000).saturating_mul(u32::from(jitter.min(1000))))
            }
        };
        match remaining {
            Some(remaining) if delay >= remaining => None,
            _ => Some(delay),
        }
    }
}

/// An attempt that failed and the wait before the next, by us or by the agent itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The attempt to come. The first of all was 1, so this begins at 2.
    pub attempt: u32,
    /// Attempts in all, if none succeeds.
    pub of: u32,
    /// The wait before it.
    pub wait: Duration,
    /// Why the one before failed; it says as well whether that may have cost money.
    pub error: LlmError,
}

/// Makes attempts until one succeeds or no further may be made.
///
/// Another is made when the error may pass, nothing of an answer was handed to the observer, the policy has retries left
/// and its delay ends before the timeout. `timeout` covers everything, waits included; each attempt is handed the timer and
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
            Some(wait) if error.is_retryable() && !emitter.has_output() => wait,
            _ => return Err(error),
        };
        let retry = Retry {
            attempt: made.saturating_add(2),
            of: policy.max_retries.saturating_add(1),
            wait,
            error,
        };
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
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_schedule_doubles_up_to_its_cap_and_ends() {
        let policy = RetryPolicy {
            max_retries: 9,
            ..RetryPolicy::default()
        };
        let delays: Vec<_> = (0..10).map(|n| policy.delay(n, None, 0, None)).collect();
        let expected =
            [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 32_000, 32_000].map(|d| Some(ms(d)));
        assert_eq!(delays[..9], expected);
        assert_eq!(delays[9], None);
        assert_eq!(RetryPolicy::none().delay(0, None, 0, None), None);
    }

    #[test]
    fn jitter_adds_up_to_a_quarter() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.delay(0, None, 500, None),
            Some(Duration::from_micros(562_500))
        );
        assert_eq!(policy.delay(0, None, 1000, None), Some(ms(625)));
        assert_eq!(policy.delay(0, None, u16::MAX, None), Some(ms(625)));
    }

    #[test]
    fn the_server_knows_better() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(0, Some(ms(7000)), 1000, None), Some(ms(7000)));
        assert_eq!(policy.delay(3, Some(ms(0)), 1000, None), Some(ms(0)));
        assert_eq!(
            policy.delay(0, Some(ms(3_600_000)), 0, None),
            Some(ms(60_000))
        );
        assert_eq!(policy.delay(4, Some(ms(1)), 0, None), None);
    }

    #[test]
    fn a_delay_past_the_deadline_is_refused() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(0, None, 0, Some(ms(501))), Some(ms(500)));
        assert_eq!(policy.delay(0, None, 0, Some(ms(500))), None);
        assert_eq!(policy.delay(0, Some(ms(9000)), 0, Some(ms(5000))), None);
        assert_eq!(policy.delay(0, None, 0, Some(Duration::ZERO)), None);
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

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            any::<u64>().prop_map(Duration::from_secs),
            any::<u64>().prop_map(Duration::from_nanos),
            Just(Duration::MAX)
        ]
    }

    proptest! {
        #[test]
        fn no_policy_overflows_or_breaks_its_bounds(
            max_retries in any::<u32>(), base_delay in any_duration(), max_delay in any_duration(),
            retries in any::<u32>(), asked in prop::option::of(any_duration()), jitter in any::<u16>(), remaining in prop::option::of(any_duration()),
        ) {
            let policy = RetryPolicy { max_retries, base_delay, max_delay };
            if let Some(delay) = policy.delay(retries, asked, jitter, remaining) {
                prop_assert!(retries < max_retries);
                prop_assert!(remaining.is_none_or(|r| delay < r));
                prop_assert!(delay <= max_delay.saturating_add(max_delay / 4).max(MAX_RETRY_AFTER));
            }
        }
    }
}
