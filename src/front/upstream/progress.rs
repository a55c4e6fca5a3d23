//! What idle deadlines are measured by: while a server takes the request it need not answer, and
//! while one side of a tunnel talks the other may be silent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When something last went through, in either direction.
pub struct Progress {
    /// When it was first waited for.
    pub began: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    /// Nothing has gone through yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    /// Something goes through now.
    pub fn now(&self) {
        let elapsed = self.began.elapsed().as_millis();
        self.last_ms.store(elapsed as u64, Ordering::Relaxed);
    }

    /// When that was, to the millisecond; when it began if nothing has.
    pub fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}
