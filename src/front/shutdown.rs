//! The steps of the server's shutdown, as connections see them.

use tokio_util::sync::CancellationToken;

/// The tokens by which connections learn of the shutdown; each step cancels one.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// The shutdown has begun: readiness fails, and connections end with their next response, while
    /// new ones are still accepted.
    pub asked: CancellationToken,
    /// Finish requests in progress, accept no new ones.
    pub drain: CancellationToken,
    /// Close at once.
    pub cut: CancellationToken,
}

impl Shutdown {
    /// The same for one connection, which may also be drained alone.
    pub fn of_one(&self) -> Self {
        Self {
            drain: self.drain.child_token(),
            ..self.clone()
        }
    }
}
