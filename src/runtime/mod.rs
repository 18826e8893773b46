//! Layer 0: what the standard library leaves out and every layer needs.
//!
//! Knows no domain word: nothing here has heard of a model, a token or a price.

pub mod atomic;
pub mod base64;
pub mod clock;
pub mod crc32c;
pub mod decimal;
pub mod file;
pub mod json;
pub mod process;
pub mod secret;
#[allow(
    unsafe_code,
    reason = "signals and processes: what the standard library lacks, justified call by call"
)]
pub mod signal;
pub(crate) mod table;
pub mod text;
pub mod words;
