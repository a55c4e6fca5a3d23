//! Keeps what happens thousands of times a second from filling the log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pause between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets one of many equal lines through in ten seconds.
#[derive(Debug, Default)]
pub struct Throttle {
    since: OnceLock<Instant>,
    /// Milliseconds from `since`, plus one, to the last line; 0 before the first.
    last_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// Nothing was written yet.
    pub const fn new() -> Self {
        Self {
            since: OnceLock::new(),
            last_ms: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// Returns the number of lines suppressed before this one if it may be written; else `None`.
    pub fn is_due(&self) -> Option<u64> {
        let since = self.since.get_or_init(Instant::now);
        self.is_due_at(since.elapsed())
    }

    fn is_due_at(&self, now: Duration) -> Option<u64> {
        let now_ms = now.as_millis() as u64 + 1;
        let last = self.last_ms.load(Ordering::Relaxed);
        let is_due = last == 0 || now_ms - last.min(now_ms) >= PAUSE.as_millis() as u64;
        // Of several at once, one writes.
        let wins = is_due
            && self
                .last_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if wins {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_and_tells_of_the_others() {
        let throttle = Throttle::default();
        let at = |seconds| throttle.is_due_at(Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(2));
        assert_eq!(at(11), None);
        assert_eq!(at(100), Some(1));
    }
}
