//! How much of responses may wait in memory: of each, and of all together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// Most bytes of one response that wait in memory: pages and JSON. nginx has 64 KiB.
pub const PER_RESPONSE: usize = 256 << 10;
/// What a response may hold while all together have used up half of [`ALL_RESPONSES`], and
/// how much is collected for a write while the client is behind.
pub const WHEN_SHORT: usize = 64 << 10;
/// Most bytes of all responses together: when there are so many, each waits for its client, or
/// goes to its file, piece by piece.
pub const ALL_RESPONSES: usize = 64 << 20;

/// Bytes that responses hold in memory.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// That of all applications and servers behind us, whatever settings come and go: memory
    /// is the process's.
    pub fn of_process() -> Arc<Self> {
        static OF_PROCESS: LazyLock<Arc<Budget>> = LazyLock::new(Arc::default);
        Arc::clone(&OF_PROCESS)
    }

    /// How many there are.
    pub fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many of them one response may hold, whose client `is_behind` what is in its file.
    pub(super) fn share(&self, is_behind: bool) -> usize {
        match self.used() {
            used if used > ALL_RESPONSES => 0,
            used if is_behind || used > ALL_RESPONSES / 2 => WHEN_SHORT,
            _ => PER_RESPONSE,
        }
    }
}
