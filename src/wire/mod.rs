//! Bytes to types and back, one format a file, with no state.

mod error;
#[allow(dead_code, reason = "the formats that read through it come next")]
mod reader;
mod stream_config;

pub use error::{Fault, WireError};
pub use stream_config::StreamConfig;
