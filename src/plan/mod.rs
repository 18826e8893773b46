//! Layer 3: plans as documents of any format.
//!
//! Reads a plan from a model's answer or a file, checks it, follows its dependencies, and prints it. Also gathers the
//! facts about a repository that a planner needs. Nothing here asks a model: the planner of `llm` does.

pub mod check;
pub mod document;
pub mod finding;
mod graph;
pub mod model;
pub mod read;
pub mod render;
pub mod repo;
mod validate;
