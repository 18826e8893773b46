//! How fast a batch may ask: one pace for all its workers.
//!
//! A state machine without a clock. Whoever drives it says what time it is, in time since the batch began, asks whether
//! the next request may start, and says what came of it.
//!
//! - *At once*: as many requests as there are workers. A 429 halves that and stops all starts for as long as the service
//!   asks, or for a second, two, four and so on up to a minute where it does not say; of several requests that were under way
//!   together only the first halves it. Each time as many answers in a row have come as are allowed at once, one more is
//!   allowed, until all workers are in use again.
//! - *A minute*: at most so many requests, and at most so many tokens of prompts and of the answers asked for, in any minute.
//!   Starts are spread evenly. The minute counts as 61 seconds, since requests do not all travel equally long.

use std::collections::VecDeque;
use std::time::Duration;

/// A minute, and a second for what is late.
const WINDOW: Duration = Duration::from_secs(61);
/// The first pause after a 429 that names no time; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of our own, and the longest that a service is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Tokens are counted in slices of so long.
const SLICE: Duration = Duration::from_secs(1);

/// The limits of a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once, at least 1.
    pub width: usize,
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute, prompts and the longest answers together.
    pub tpm: Option<u64>,
}

/// Whether the next request may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// At once.
    Now,
    /// Not before this time since the batch began.
    At(Duration),
    /// When another has ended.
    WhenOneEnds,
}

/// The pace.
#[derive(Clone, Debug)]
pub struct Pace {
    limits: Limits,
    /// Requests at once for now.
    width: usize,
    /// Nothing starts before this.
    paused_until: Duration,
    /// When the width was last halved.
    slowed_at: Option<Duration>,
    /// 429s in a row without an answer in between.
    refusals: u32,
    /// Answers since the width last changed.
    answers: usize,
    /// The next start by the limit of requests, and by that of tokens.
    next: Duration,
    /// Tokens started in the last minute, by slice.
    tokens: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// A pace at full speed.
    pub fn new(limits: Limits) -> Pace {
        Pace {
            limits,
            width: limits.width.max(1),
            paused_until: Duration::ZERO,
            slowed_at: None,
            refusals: 0,
            answers: 0,
            next: Duration::ZERO,
            tokens: VecDeque::new(),
        }
    }

    /// A batch before this one, killed and resumed, made its last request this long ago at least. By requests alone the
    /// next one keeps its distance; how many tokens were in the minute is not known, so it has to pass.
    pub fn resume(&mut self, since: Duration) {
        if let Some(rpm) = self.limits.rpm {
            self.next = share(WINDOW, 1, rpm);
        }
        if self.limits.tpm.is_some() {
            self.next = self.next.max(WINDOW.saturating_sub(since));
        }
    }

    /// Requests at once for now.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether a request of so many tokens may start at `now`, while others are under way.
    ///
    /// A request that alone has more tokens than a minute allows starts when nothing else did for a minute.
    pub fn ready(&mut self, now: Duration, under_way: usize, tokens: u64) -> Ready {
        if under_way >= self.width {
            return Ready::WhenOneEnds;
        }
        let mut at = self.paused_until.max(self.next);
        if let Some(limit) = self.limits.tpm {
            while self
                .tokens
                .front()
                .is_some_and(|(slice, _)| slice.saturating_add(SLICE + WINDOW) <= now)
            {
                self.tokens.pop_front();
            }
            let mut used: u64 = self.tokens.iter().map(|(_, tokens)| tokens).sum();
            // Slices leave the window one after the other, until there is room.
            for (slice, tokens_then) in &self.tokens {
                if used.saturating_add(tokens) <= limit {
                    break;
                }
                used = used.saturating_sub(*tokens_then);
                at = at.max(slice.saturating_add(SLICE + WINDOW));
            }
        }
        match at <= now {
            true => Ready::Now,
            false => Ready::At(at),
        }
    }

    /// A request of so many tokens starts.
    pub fn start(&mut self, now: Duration, tokens: u64) {
        let mut gap = Duration::ZERO;
        if let Some(rpm) = self.limits.rpm {
            gap = gap.max(share(WINDOW, 1, rpm));
        }
        if let Some(tpm) = self.limits.tpm {
            gap = gap.max(share(WINDOW, tokens.min(tpm), tpm));
            let slice = Duration::from_secs(now.as_secs());
            match self.tokens.back_mut() {
                Some((last, sum)) if *last == slice => *sum = sum.saturating_add(tokens),
                _ => self.tokens.push_back((slice, tokens)),
            }
        }
        self.next = now.saturating_add(gap);
    }

    /// The service refused a request, which had started at `started`, for coming too fast.
    pub fn refused(&mut self, now: Duration, started: Duration, retry_after: Option<Duration>) {
        let is_new = self.slowed_at.is_none_or(|slowed| started >= slowed);
        if is_new {
            self.width = (self.width / 2).max(1);
            self.slowed_at = Some(now);
            self.answers = 0;
            self.refusals = self.refusals.saturating_add(1);
        }
        let own = PAUSE.saturating_mul(2_u32.saturating_pow(self.refusals.saturating_sub(1)));
        let pause = retry_after.unwrap_or(own).min(LONGEST_PAUSE);
        self.paused_until = self.paused_until.max(now.saturating_add(pause));
    }

    /// A request was answered.
    pub fn answered(&mut self) {
        self.refusals = 0;
        self.answers = self.answers.saturating_add(1);
        if self.answers >= self.width && self.width < self.limits.width {
            self.width += 1;
            self.answers = 0;
        }
    }
}

/// The part of a time that `count` of `of` is, rounded up.
fn share(time: Duration, count: u64, of: u64) -> Duration {
    let nanos = time.as_nanos().saturating_mul(u128::from(count));
    let nanos = nanos.div_ceil(u128::from(of.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(width: usize, rpm: Option<u64>, tpm: Option<u64>) -> Pace {
        Pace::new(Limits { width, rpm, tpm })
    }

    #[test]
    fn without_limits_only_the_workers_limit_it() {
        let mut pace = pace(2, None, None);
        assert_eq!(pace.ready(Duration::ZERO, 1, 1_000_000), Ready::Now);
        assert_eq!(pace.ready(Duration::ZERO, 2, 1), Ready::WhenOneEnds);
    }

    #[test]
    fn a_refusal_stops_all_and_halves_what_goes_on_at_once() {
        let mut pace = pace(16, None, None);
        // A burst: four that were under way together.
        for _ in 0..4 {
            pace.refused(seconds(10), seconds(9), Some(seconds(7)));
        }
        assert_eq!(pace.width(), 8);
        assert_eq!(pace.ready(seconds(10), 0, 1), Ready::At(seconds(17)));
        assert_eq!(pace.ready(seconds(17), 7, 1), Ready::Now);
        assert_eq!(pace.ready(seconds(17), 8, 1), Ready::WhenOneEnds);
        pace.refused(seconds(18), seconds(17), None);
        assert_eq!(pace.width(), 4);
        // The second in a row, so two seconds.
        assert_eq!(pace.ready(seconds(18), 0, 1), Ready::At(seconds(20)));
        for _ in 0..20 {
            pace.refused(seconds(20), seconds(20), None);
        }
        assert_eq!(pace.width(), 1);
        assert_eq!(pace.ready(seconds(20), 0, 1), Ready::At(seconds(80)));
    }

    #[test]
    fn it_returns_to_full_speed_in_steps() {
        let mut pace = pace(4, None, None);
        pace.refused(seconds(1), seconds(0), None);
        assert_eq!(pace.width(), 2);
        let widths: Vec<usize> = (0..8)
            .map(|_| {
                pace.answered();
                pace.width()
            })
            .collect();
        assert_eq!(widths, [2, 3, 3, 3, 4, 4, 4, 4]);
        pace.refused(seconds(99), seconds(98), None);
        assert_eq!(pace.ready(seconds(99), 0, 1), Ready::At(seconds(100)));
    }

    #[test]
    fn starts_are_spread_over_the_minute() {
        let mut pace = pace(9, Some(61), None);
        pace.start(seconds(5), 1);
        assert_eq!(pace.ready(seconds(5), 0, 1), Ready::At(seconds(6)));
        assert_eq!(pace.ready(seconds(6), 0, 1), Ready::Now);
    }

    #[test]
    fn a_batch_that_is_resumed_keeps_its_distance_from_the_one_before() {
        let mut requests = pace(9, Some(61), None);
        requests.resume(seconds(0));
        assert_eq!(requests.ready(seconds(0), 0, 1), Ready::At(seconds(1)));
        let mut tokens = pace(9, None, Some(100));
        tokens.resume(seconds(20));
        assert_eq!(tokens.ready(seconds(0), 0, 1), Ready::At(seconds(41)));
    }

    #[test]
    fn a_prompt_larger_than_the_minute_goes_alone() {
        let mut pace = pace(9, None, Some(100));
        assert_eq!(pace.ready(seconds(0), 0, 500), Ready::Now);
        pace.start(seconds(0), 500);
        assert!(matches!(pace.ready(seconds(1), 0, 1), Ready::At(at) if at > seconds(61)));
    }

    proptest! {
        /// Whatever is asked for, no minute of the service's clock has more than is allowed, for requests that are up to
        /// half a second late.
        #[test]
        fn no_minute_has_more_than_is_allowed(
            rpm in 1_u64..200, tpm in 100_u64..5_000,
            requests in prop::collection::vec((1_u64..100, 0_u64..500, 0_u64..2_000), 1..200),
        ) {
            let mut pace = pace(4, Some(rpm), Some(tpm));
            let mut now = Duration::ZERO;
            let mut arrivals: Vec<(Duration, u64)> = Vec::new();
            for (tokens, late, idle) in requests {
                now += Duration::from_millis(idle);
                while let Ready::At(at) = pace.ready(now, 0, tokens) {
                    prop_assert!(at > now);
                    now = at;
                }
                pace.start(now, tokens);
                arrivals.push((now + Duration::from_millis(late), tokens));
            }
            arrivals.sort();
            for (from, _) in &arrivals {
                let minute: Vec<u64> = arrivals.iter()
                    .filter(|(at, _)| at >= from && *at < *from + seconds(60))
                    .map(|(_, tokens)| *tokens)
                    .collect();
                prop_assert!(u64::try_from(minute.len()).unwrap() <= rpm);
                prop_assert!(minute.iter().sum::<u64>() <= tpm);
            }
        }
    }
}
