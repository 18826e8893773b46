//! One attempt of a run, as the ledger keeps it: what its peer reported, what arrived, and what it may cost.
//!
//! The amounts of a run are sums over its attempts. Three of them matter, and they are never mixed up: what is *known*
//! because the peer reported it, what the run cost *at least* because omk counted more than was reported, and what it can
//! have cost *at most*.

use serde::Deserialize;
use serde::Serialize;

use crate::catalog::money::Charge;
use crate::catalog::money::Usd;
use crate::catalog::money::exact_option;
use crate::tokens::usage::Usage;

/// One attempt: a request to a service, or a turn of an agent with all its calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// How it ended: `answered`, or the kind of its error; `None` while it runs.
    pub end: Option<String>,
    /// Whether it may be billed.
    pub charged: Charge,
    /// What its peer reported.
    pub usage: Option<Usage>,
    /// Tokens of text and reasoning that arrived, as omk counted them.
    pub received_tokens: u64,
    /// The price of what was reported; `None` without a known price.
    #[serde(with = "exact_option")]
    pub known_usd: Option<Usd>,
    /// What it cost at least: what was reported, or what arrived where that is more. `None` without a known price.
    #[serde(with = "exact_option")]
    pub at_least_usd: Option<Usd>,
    /// What it can have cost at most; `None` where nothing bounds it.
    #[serde(with = "exact_option")]
    pub at_most_usd: Option<Usd>,
}
