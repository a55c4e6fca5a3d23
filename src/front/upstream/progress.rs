//! The base of idle timeouts: while a server accepts the request it need not respond, and while one
//! side of a tunnel sends the other may be silent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time of the last transfer, in either direction.
pub struct Progress {
    /// Time of creation.
    pub began: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    /// No transfer yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    /// Records a transfer.
    pub fn now(&self) {
        let elapsed = self.began.elapsed().as_millis();
        self.last_ms.store(elapsed as u64, Ordering::Relaxed);
    }

    /// Time of the last transfer, to the millisecond; the time of creation if there was none.
    pub fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}
