//! kimi-agent, in Rust, over Kimi Wire 1.2. Measured with 1.8.0.
//!
//! It keeps its home, its sessions and its log as kimi-cli does. What differs:
//!
//! - It takes no reason with a refused tool and ends the turn; see [`crate::transport::wire`].
//! - It sends no `TurnEnd` after an error or a cancelled turn, and no HTTP status but in the message.
//! - It does not say how often it asked again, so an empty answer that it asked again for is missing from the usage.
//! - It loses what a service sends in one piece with the end of a stream.
//! - It speaks Wire whatever its arguments, and knows no `--add-dir`.

use crate::transport::agents::Dialect;
use crate::transport::agents::kimi_cli::DIALECT;
use crate::transport::agents::numbers;

/// kimi-agent.
pub static KIMI_AGENT: Dialect = Dialect {
    name: "kimi-agent",
    version: |line| {
        let version = line.strip_prefix("kimi-agent, version ")?;
        numbers(version).map(|_| Ok(version.to_string()))
    },
    takes_directories: false,
    ..DIALECT
};
