//! When to try again, and when to stop.
//!
//! A policy answers with a delay and never sleeps: the caller owns the clock, so no test waits and a deadline is kept to
//! the end. What may be retried at all is the error's to say ([`LlmError::is_retryable`]); and once a byte of an answer
//! was shown nothing may. The loop of attempts is one for every transport, in [`crate::llm::client`].

use std::time::Duration;

use crate::catalog::money::Charge;
use crate::llm::error::LlmError;

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
    /// After which failures another attempt may be made at all.
    pub repeats: Repeats,
}

/// After which failures that may pass another attempt may be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeats {
    /// Those before anything of an answer was handed over, billed or not: what a person waits for.
    #[default]
    Unseen,
    /// Those that cannot have been billed.
    Unbilled,
    /// All, though the prompt may then be paid for twice.
    All,
}

impl Repeats {
    pub(crate) fn allows(self, error: &LlmError, has_output: bool) -> bool {
        match self {
            Repeats::Unseen => !has_output,
            Repeats::Unbilled => error.may_have_charged() == Charge::No,
            Repeats::All => true,
        }
    }
}

impl Default for RetryPolicy {
    /// Four retries from half a second up to 32 seconds: the schedule of Moonshot's own client, with fewer attempts.
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_retries: 4,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(32),
            repeats: Repeats::Unseen,
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
            repeats: Repeats::Unseen,
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

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_batch_repeats_by_what_may_have_been_billed() {
        let cut = LlmError::Incomplete {
            detail: String::new(),
        };
        let busy = LlmError::Server {
            status: 503,
            detail: String::new(),
            retry_after: None,
        };
        for (repeats, error, has_output, allowed) in [
            (Repeats::Unseen, &cut, false, true),
            (Repeats::Unseen, &cut, true, false),
            (Repeats::Unbilled, &cut, false, false),
            (Repeats::Unbilled, &busy, true, true),
            (Repeats::All, &cut, true, true),
        ] {
            let is_allowed = repeats.allows(error, has_output);
            assert_eq!(is_allowed, allowed, "{repeats:?} {error:?}");
        }
    }

    #[test]
    fn a_delay_past_the_deadline_is_refused() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(0, None, 0, Some(ms(501))), Some(ms(500)));
        assert_eq!(policy.delay(0, None, 0, Some(ms(500))), None);
        assert_eq!(policy.delay(0, Some(ms(9000)), 0, Some(ms(5000))), None);
        assert_eq!(policy.delay(0, None, 0, Some(Duration::ZERO)), None);
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
            let policy = RetryPolicy { max_retries, base_delay, max_delay, repeats: Repeats::Unseen };
            if let Some(delay) = policy.delay(retries, asked, jitter, remaining) {
                prop_assert!(retries < max_retries);
                prop_assert!(remaining.is_none_or(|r| delay < r));
                prop_assert!(delay <= max_delay.saturating_add(max_delay / 4).max(MAX_RETRY_AFTER));
            }
        }
    }
}
