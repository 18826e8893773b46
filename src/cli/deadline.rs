//! The bound on a whole run: `--deadline` counts from the start of the process, whatever is being
//! waited for.
//!
//! It refuses to be a timer: it only tells how much is left and names the phase in which nothing
//! was. Whoever waits asks it how long to wait.

use std::time::{Duration, Instant};

use crate::cli::exit::{Exit, Failure};

/// The end of the run, if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Instant,
    length: Option<Duration>,
}

impl Deadline {
    /// A run that began at `started` and may take `length`; `None` never ends.
    pub(crate) fn new(started: Instant, length: Option<Duration>) -> Deadline {
        Deadline { started, length }
    }

    /// How long the run may take; `None` without an end.
    pub(crate) fn length(self) -> Option<Duration> {
        self.length
    }

    /// The moment when it is over; `None` without an end, or with one that no clock can tell.
    pub(crate) fn until(self) -> Option<Instant> {
        self.started.checked_add(self.length?)
    }

    /// What is left, zero when it is over; `None` without an end.
    pub(crate) fn left(self) -> Option<Duration> {
        self.length
            .map(|length| length.saturating_sub(self.started.elapsed()))
    }

    /// Fails with exit 124 when nothing is left. `phase` completes "ran out while ...".
    pub(crate) fn check(self, phase: &str) -> Result<(), Failure> {
        self.check_with(Duration::ZERO, phase)
    }

    /// The same when all but an eighth is gone: asked after a wait that was given up, since whoever waits may leave a
    /// little time to say so.
    pub(crate) fn check_nearly(self, phase: &str) -> Result<(), Failure> {
        self.check_with(self.length.unwrap_or_default() / 8, phase)
    }

    fn check_with(self, enough: Duration, phase: &str) -> Result<(), Failure> {
        match (self.left(), self.length) {
            (Some(left), Some(length)) if left <= enough => {
                let detail = format!("{length:?} ran out while {phase}");
                Err(Failure::new(Exit::Deadline, "deadline", detail)
                    .hint("a longer --deadline allows more time"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_an_end_never_fails() {
        let deadline = Deadline::new(Instant::now(), None);
        assert_eq!(deadline.left(), None);
        assert!(deadline.check("waiting").is_ok());
    }

    #[test]
    fn the_failure_names_the_phase_and_the_length() {
        let failure = Deadline::new(Instant::now(), Some(Duration::ZERO))
            .check("waiting for input")
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Deadline);
        assert_eq!(failure.detail, "0ns ran out while waiting for input");
    }

    #[test]
    fn the_longest_duration_does_not_overflow() {
        let deadline = Deadline::new(Instant::now(), Some(Duration::MAX));
        assert!(deadline.check("waiting").is_ok());
    }
}
