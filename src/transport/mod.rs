//! Layer 2: a peer as bytes and lines.
//!
//! Nothing here knows a prompt's purpose, a plan or a price: what a reply means is decided in `llm`. Protocol types
//! never leave: [`wire`] and [`acp`] are state machines without input or output of their own that speak upward in the
//! words of [`agent`], and [`session_log`] reads what the agents write down and do not say. [`link`] is how lines travel,
//! [`child`] the one way in which they really do, and [`tape`] keeps what was said and says it again.

pub mod acp;
pub mod agent;
pub mod agents;
mod calls;
pub mod child;
pub mod fact;
pub mod http;
mod jsonrpc;
mod last_words;
#[cfg(unix)]
mod line;
pub mod link;
pub mod sandbox;
pub mod session_dir;
pub mod session_log;
pub mod session_turns;
pub mod sse;
pub mod tape;
pub mod wire;
mod wire_message;
pub mod workspace;

use crate::runtime::words::words;

words! {
    /// How a run reached its peer.
    Transport, "transport" {
        /// A service, over HTTP.
        Http = "http",
        /// kimi-cli or kimi-agent, over Kimi Wire.
        Wire = "wire",
        /// Kimi Code, over the Agent Client Protocol.
        Acp = "acp",
        /// Not at all: a session of an agent's own, imported from its log.
        Log = "log",
    }
}

impl Transport {
    /// Whether the peer is an agent, with tools and sessions, and not a plain service.
    pub const fn is_agent(self) -> bool {
        !matches!(self, Transport::Http)
    }
}

#[cfg(test)]
mod tests;
