//! Counters, histograms, and counts by reason. Counting is a relaxed atomic addition or two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds so many.
    pub fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes so many away, of those that were added.
    pub fn sub(&self, many: u64) {
        self.0.fetch_sub(many, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.sub(1);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in seconds: from what a file takes to what makes
/// people give up. Prometheus' own (5 ms to 10 s), and some on both sides.
pub const BOUNDS: [f64; 16] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`BOUNDS`], and one for what took longer.
    buckets: [Counter; BOUNDS.len() + 1],
    total_ns: Counter,
}

impl Histogram {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].inc();
        self.total_ns.add(took.as_nanos() as u64);
    }

    /// For each of [`BOUNDS`], and for infinity, how many took at most that long.
    pub fn cumulated(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].get();
            sum
        })
    }

    /// All durations together, in seconds.
    pub fn total_seconds(&self) -> f64 {
        self.total_ns.get() as f64 / 1e9
    }
}

/// Most reasons of a [`ReasonCounter`].
const REASONS: usize = 32;

/// Number of events by reason. Reasons are words of the source code.
#[derive(Debug)]
pub struct ReasonCounter {
    reasons: &'static [&'static str],
    counts: [Counter; REASONS],
}

impl ReasonCounter {
    /// Zero for each of these reasons. All are exported from the start: a series that appears with its first event
    /// has no increase (Prometheus, "Instrumentation", "Avoid missing metrics").
    ///
    /// # Panics
    ///
    /// With more than 32 reasons, when the constant is evaluated.
    pub(super) const fn new(reasons: &'static [&'static str]) -> Self {
        assert!(reasons.len() <= REASONS, "REASONS is too small");
        Self {
            reasons,
            counts: [const { Counter::new() }; REASONS],
        }
    }

    /// Counts an event. Its reason is one of those given to [`ReasonCounter::new`]; one with another reason
    /// is logged and not counted, as a number that is missing is no cause to end a server.
    pub fn up(&self, reason: &str) {
        let place = self.reasons.iter().position(|known| *known == reason);
        match place.and_then(|place| self.counts.get(place)) {
            Some(count) => count.inc(),
            None => tracing::error!(reason, "no counter has this reason (a defect of pyserve)"),
        }
    }

    /// Every reason, and the number of its events.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(Counter::get);
        self.reasons.iter().copied().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_every_bucket_that_is_not_shorter() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 100, 90_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let cumulated = histogram.cumulated();
        let at = |bound: f64| cumulated[BOUNDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((at(0.000_5), at(0.001), at(0.002_5)), (1, 2, 3));
        assert_eq!((at(0.05), at(0.1), at(60.0)), (3, 4, 4));
        assert_eq!(cumulated[BOUNDS.len()], 5);
        assert!((histogram.total_seconds() - 90.103).abs() < 1e-6);
    }

    #[test]
    fn reasons_are_told_apart() {
        let tally = ReasonCounter::new(&["a", "b", "c"]);
        for reason in ["b", "a", "b", "another"] {
            tally.up(reason);
        }
        let all: Vec<_> = tally.all().collect();
        assert_eq!(all, [("a", 1), ("b", 2), ("c", 0)]);
    }
}
