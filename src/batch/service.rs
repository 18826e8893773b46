//! Batches that the service itself works through: files and batches of its API.
