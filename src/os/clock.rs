//! Clocks: that of the scoreboard, which all processes share, and one that stands still while
//! this process does: a container that was paused, a machine that slept.
//!
//! Pauses show as gaps between calls of [`tick`], which parts of the server make every
//! [`TICK`] where they have times to watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time between two calls of [`tick`].
pub const TICK: Duration = Duration::from_secs(1);
/// A longer time between two calls is a pause: a busy machine delays a timer by less.
const LONGEST_TICK: Duration = Duration::from_secs(3);

/// The pauses of this process.
static PAUSES: Pauses = Pauses {
    last: AtomicU64::new(0),
    total: AtomicU64::new(0),
};

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// [`monotonic_ns`] without the time in which this process stood still. It may fall back by such a
/// time, until [`tick`] has noticed it.
pub fn awake_ns() -> u64 {
    monotonic_ns().saturating_sub(PAUSES.total_ns())
}

/// Notices pauses. Returns [`awake_ns`].
pub fn tick() -> u64 {
    PAUSES.tick(monotonic_ns());
    awake_ns()
}

/// [`tick`] as an instant.
pub fn awake() -> Instant {
    PAUSES.tick(monotonic_ns());
    Instant::now() - paused()
}

/// The time in which this process stood still.
pub fn paused() -> Duration {
    Duration::from_nanos(PAUSES.total_ns())
}

/// Times in nanoseconds.
struct Pauses {
    /// The last tick; 0 before the first.
    last: AtomicU64,
    total: AtomicU64,
}

impl Pauses {
    fn tick(&self, now: u64) {
        let last = self.last.swap(now, Ordering::Relaxed);
        let gap = Duration::from_nanos(now.saturating_sub(last));
        if last > 0 && gap > LONGEST_TICK {
            let pause = (gap - TICK).as_nanos() as u64;
            self.total.fetch_add(pause, Ordering::Relaxed);
        }
    }

    fn total_ns(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gap_between_ticks_that_no_busy_machine_makes_is_a_pause() {
        const S: u64 = 1_000_000_000;
        let pauses = Pauses {
            last: AtomicU64::new(0),
            total: AtomicU64::new(0),
        };
        let after = |seconds: u64| {
            pauses.tick(seconds * S);
            pauses.total_ns() / S
        };
        assert_eq!(after(100), 0, "the first");
        assert_eq!(after(101), 0);
        assert_eq!(after(104), 0, "busy");
        assert_eq!(after(204), 99, "paused");
        assert_eq!(after(205), 99);
        assert_eq!(after(204), 99, "ticks of two threads");
        assert_eq!(after(214), 99 + 9);
    }
}
