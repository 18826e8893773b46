//! Layer 3: what work should cost and what it did cost.
//!
//! Never imports `llm`: figures come in as numbers, whichever client made them.

pub mod amend;
pub mod attempt;
pub mod balance;
pub mod budget;
pub mod estimator;
pub mod explain;
pub mod export;
pub mod file_sink;
pub mod fingerprint;
pub mod history;
pub mod otlp;
pub mod record;
pub mod recover;
pub mod report;
pub mod sink;
pub mod sums;
pub mod tracker;
pub mod view;

pub use crate::cost::estimator::CostEstimate;
pub use crate::cost::estimator::PricingTier;
pub use crate::cost::estimator::estimate_autopilot_cost;
pub use crate::cost::estimator::estimate_cost;
pub use crate::cost::estimator::estimate_ralph_cost;
pub use crate::cost::estimator::estimate_team_cost;
pub use crate::cost::file_sink::JsonFileCostSink;
pub use crate::cost::record::SessionCost;
pub use crate::cost::sink::CostSink;
pub use crate::cost::sink::InMemoryCostSink;
pub use crate::cost::tracker::CostTracker;
