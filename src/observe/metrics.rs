//! What is counted while the server runs, for status and metrics.
//!
//! One set for the process, like the log: whoever does something counts it, and nothing
//! is decided by it. Counting is a relaxed addition or two, without a lock or memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// All that is counted.
pub static METRICS: Metrics = Metrics {
    connections: Connections {
        accepted: Count::new(),
        open: Count::new(),
        active: Count::new(),
        reading: Count::new(),
    },
};

/// See [`METRICS`].
#[derive(Debug)]
pub struct Metrics {
    /// Clients' connections.
    pub connections: Connections,
}

/// Clients' connections.
#[derive(Debug)]
pub struct Connections {
    /// Since the start.
    pub accepted: Count,
    /// Now.
    pub open: Count,
    /// Open, with a request inside.
    pub active: Count,
    /// Open, with a head that has begun or is awaited for the first time.
    pub reading: Count,
}

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds so many.
    pub fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// One more.
    pub fn up(&self) {
        self.add(1);
    }

    /// Takes so many away, of those that were added.
    pub fn take(&self, many: u64) {
        self.0.fetch_sub(many, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.take(1);
    }

    /// How many.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
