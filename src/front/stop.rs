//! The end of the server, as connections hear of it.

use tokio_util::sync::CancellationToken;

/// How connections are asked to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The end has been asked for: not ready any more, and connections end with their next
    /// response, while new ones are still accepted.
    pub asked: CancellationToken,
    /// Finish what has begun, take no more.
    pub drain: CancellationToken,
    /// Break off.
    pub cut: CancellationToken,
}

impl Stop {
    /// The same for one connection, which may also be asked to drain alone.
    pub fn of_one(&self) -> Self {
        Self {
            drain: self.drain.child_token(),
            ..self.clone()
        }
    }
}
