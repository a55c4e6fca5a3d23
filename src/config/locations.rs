//! What answers where: what a location may say for itself.

use std::time::Duration;

/// What holds for the requests of one location; without a word of its own, what the settings
/// say for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocationSettings {
    /// Longest request body in bytes; `u64::MAX` for no limit.
    pub max_body: u64,
    /// How long a client may pause within its request's body.
    pub body_timeout: Duration,
}
