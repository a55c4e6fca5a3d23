//! Memory limits of waiting responses: of each one, and of all together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use crate::front::client_limits::memory_budget::{Pool, Resource};

/// Most bytes of one response in memory: pages and JSON fit. nginx has 64 KiB.
pub const PER_RESPONSE: usize = 256 << 10;
/// Limit of a response while all together have used up half of [`ALL_RESPONSES`], and the number of
/// bytes collected for a write while the client is behind.
pub const WHEN_SHORT: usize = 64 << 10;
/// Most bytes of all responses together, and never over a quarter of the memory budget; at this
/// limit each response waits for its client, or is written to its file, piece by piece.
pub const ALL_RESPONSES: usize = 64 << 20;

/// Bytes of responses in memory.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    /// The pool that contains this budget.
    memory: &'static Pool,
}

impl Default for Budget {
    fn default() -> Self {
        static NO_LIMIT: Pool = Pool::new(usize::MAX / 2);
        Self {
            used: AtomicUsize::new(0),
            memory: &NO_LIMIT,
        }
    }
}

impl Budget {
    /// The budget of all upstreams, independent of reloads: memory belongs to the process.
    pub fn of_process() -> Arc<Self> {
        static OF_PROCESS: LazyLock<Arc<Budget>> = LazyLock::new(|| {
            Arc::new(Budget {
                memory: Resource::Memory.pool(),
                ..Budget::default()
            })
        });
        Arc::clone(&OF_PROCESS)
    }

    /// Number of bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.memory.add(bytes);
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.take(bytes);
    }

    /// Takes over the return of bytes that have been added.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        Charge {
            budget: Arc::clone(self),
            bytes,
        }
    }

    /// Limit of one response; `is_behind`: its client has not yet read what is in its file.
    pub(crate) fn share(&self, is_behind: bool) -> usize {
        let limit = self.memory.limit();
        let (most, free) = (ALL_RESPONSES.min(limit / 4), self.memory.free());
        match self.used() {
            used if used > most || free < limit / 8 => 0,
            used if is_behind || used > most / 2 || free < limit / 2 => WHEN_SHORT,
            _ => PER_RESPONSE,
        }
    }
}

/// Bytes of a budget, returned when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Leaves the bytes in the budget: the caller returns them.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.take(self.bytes);
    }
}
