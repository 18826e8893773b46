//! Floor 3: what work should cost and what it did cost.
//!
//! Never imports `llm`: this floor is handed figures and does not care which agent made them.

pub mod budget;
pub mod estimator;
pub mod file_sink;
pub mod fingerprint;
pub mod record;
pub mod recover;
pub mod sink;
pub mod tracker;
pub mod view;
