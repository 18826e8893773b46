//! Layer 4: ask a model, understand the answer.
//!
//! Never imports `cost`: a client reports tokens, and [`crate::run`] joins them with the ledger.

pub mod client;
pub mod cost;
pub mod error;
pub mod parser;
pub mod planner;
pub mod prompt;
pub mod retry;
pub mod schema;
pub mod secrets;
pub mod types;

pub use crate::llm::client::AcpLlmClient;
pub use crate::llm::client::HttpLlmClient;
pub use crate::llm::client::LlmClient;
pub use crate::llm::client::LlmClientConfig;
pub use crate::llm::client::MockLlmClient;
pub use crate::llm::client::WireLlmClient;
pub use crate::llm::cost::CostEstimator;
pub use crate::llm::error::LlmError;
pub use crate::llm::parser::parse_classification_json;
pub use crate::llm::parser::parse_complexity_json;
pub use crate::llm::parser::parse_criteria_json;
pub use crate::llm::parser::parse_plan_json;
pub use crate::llm::planner::LlmPlanner;
pub use crate::llm::planner::MockPlanner;
pub use crate::llm::planner::Planner;
pub use crate::llm::retry::RetryPolicy;
pub use crate::llm::types::Complexity;
pub use crate::llm::types::Difficulty;
pub use crate::llm::types::GoalClassification;
pub use crate::llm::types::GoalKind;
pub use crate::llm::types::LlmResponse;
pub use crate::llm::types::LlmUsage;
pub use crate::llm::types::Plan;
pub use crate::llm::types::RepoContext;
pub use crate::llm::types::Slice;
pub use crate::llm::types::TokenBudget;
