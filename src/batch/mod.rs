//! Many prompts as one piece of work: the input, the index of its ids, the journal that a killed batch resumes from, and
//! the pace that all its workers share.
//!
//! Nothing here starts a process, sends a request or prints. Kept in memory for each prompt of the input: two bytes of
//! state ([`State`]) and two for the kind of its failure. The ids and where each prompt stands are in a temporary file of
//! 24 bytes a prompt.

#[cfg(unix)]
pub mod drive;
pub mod index;
pub mod input;
pub mod journal;
pub mod pace;
#[cfg(unix)]
pub mod pool;

/// How far a prompt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It was never sent.
    #[default]
    Pending = 0,
    /// It was given to a worker, and no outcome is known: it may have been billed.
    Sent = 1,
    /// Its answer is in the output.
    Answered = 2,
    /// It failed, and cannot have been billed.
    Failed = 3,
    /// It failed, and may have been billed.
    Charged = 4,
}

impl State {
    /// Whether it is asked when the batch is run, or run again.
    pub fn is_open(self, retry_unknown: bool) -> bool {
        match self {
            State::Pending | State::Failed => true,
            State::Sent | State::Charged => retry_unknown,
            State::Answered => false,
        }
    }
}
