//! How lines travel between us and a peer, and how that can fail.
//!
//! One trait, so that a state machine can be driven by a real child, by a recording that is played back, or by a
//! test. Every wait ends at a deadline that the caller gives. Refuses to know what the lines say.

use std::error::Error;
use std::fmt;
use std::time::Instant;

/// What came of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// Nothing until the deadline. What has arrived of a line is kept.
    Timeout,
    /// The peer will say nothing more.
    Eof,
}

/// Lines to a peer and back.
pub trait Link {
    /// Sends one line, to which the end is added.
    ///
    /// # Errors
    ///
    /// The peer is gone, or does not read until the deadline.
    fn send(&mut self, line: &str, deadline: Instant) -> Result<(), LinkError>;

    /// Waits for the next line, until the deadline. A deadline in the past still takes what has arrived.
    ///
    /// # Errors
    ///
    /// The line is too long, or reading failed. An end without a line feed is not an error: the rest is given as a line.
    fn receive(&mut self, deadline: Instant) -> Result<Received<'_>, LinkError>;
}

/// Why a link failed. Texts from the peer are escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The program could not be started.
    Spawn {
        /// The program.
        program: String,
        /// What the system says.
        detail: String,
        /// Whether there is no such program, so that naming another may help.
        not_found: bool,
    },
    /// The peer no longer reads: it has ended, or closed its standard input.
    Closed,
    /// The peer did not read the line in time; part of it may be sent, so nothing more can be.
    NotRead,
    /// The peer sent a line over the limit.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// Reading or writing failed.
    Io {
        /// What happened.
        detail: String,
    },
    /// The conversation is played from a tape, and is not the one on it.
    Tape {
        /// How it differs.
        detail: String,
    },
    /// This build cannot talk to a child: the platform has no Unix sockets.
    Unsupported,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Spawn {
                program, detail, ..
            } => write!(f, "cannot start {program}: {detail}"),
            LinkError::Closed => f.write_str("the agent closed its input"),
            LinkError::NotRead => f.write_str("the agent does not read its input"),
            LinkError::TooLong { limit } => {
                write!(f, "the agent sent a line of more than {limit} bytes")
            }
            LinkError::Io { detail } => write!(f, "talking to the agent: {detail}"),
            // It says of itself what it is.
            LinkError::Tape { detail } => f.write_str(detail),
            LinkError::Unsupported => f.write_str(
                "agents over stdio need Unix sockets, which this platform lacks; use --transport http",
            ),
        }
    }
}

impl Error for LinkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_happened() {
        for (error, message) in [
            (
                LinkError::Spawn {
                    program: "kimi".to_string(),
                    detail: "no such file".to_string(),
                    not_found: true,
                },
                "cannot start kimi: no such file",
            ),
            (
                LinkError::TooLong { limit: 9 },
                "the agent sent a line of more than 9 bytes",
            ),
            (LinkError::Closed, "the agent closed its input"),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }
}
