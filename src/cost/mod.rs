//! Floor 3: what work should cost and what it did cost.
//!
//! Never imports `llm`: this floor is handed figures and does not care which agent made them.

pub mod amend;
pub mod attempt;
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
