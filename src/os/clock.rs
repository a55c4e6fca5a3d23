//! Clocks: that of the scoreboard, which all processes share, and one that stands still while
//! this process does.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Longest time between two calls of [`tick`] in a process that runs, with a busy machine
/// counted in.
const LONGEST_TICK_NS: u64 = 3_000_000_000;

/// Nanoseconds in which this process stood still.
static PAUSED: AtomicU64 = AtomicU64::new(0);
/// When [`tick`] was called last; 0 before the first call.
static LAST_TICK: AtomicU64 = AtomicU64::new(0);

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// [`monotonic_ns`] without the time in which this process stood still: a container that was
/// paused, a machine that slept. It may fall back by such a time, until [`tick`] has noticed it.
pub fn awake_ns() -> u64 {
    monotonic_ns().saturating_sub(PAUSED.load(Ordering::Relaxed))
}

/// Notices pauses; to be called every second. Returns [`awake_ns`].
pub fn tick() -> u64 {
    let now = monotonic_ns();
    let last = LAST_TICK.swap(now, Ordering::Relaxed);
    PAUSED.fetch_add(paused_between(last, now), Ordering::Relaxed);
    awake_ns()
}

fn paused_between(last: u64, now: u64) -> u64 {
    let gap = now.saturating_sub(last);
    if last == 0 || gap <= LONGEST_TICK_NS {
        return 0;
    }
    gap - LONGEST_TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gap_between_ticks_that_no_busy_machine_makes_is_a_pause() {
        const S: u64 = 1_000_000_000;
        assert_eq!(paused_between(0, 100 * S), 0);
        assert_eq!(paused_between(100 * S, 101 * S), 0);
        assert_eq!(paused_between(100 * S, 103 * S), 0);
        assert_eq!(paused_between(100 * S, 200 * S), 97 * S);
        assert_eq!(paused_between(100 * S, 99 * S), 0);
    }
}
