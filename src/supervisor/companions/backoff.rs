//! Back-off before a companion is started again: pure.

use std::time::Duration;

/// Counts ends in quick succession.
#[derive(Debug, Default)]
pub struct Backoff {
    quick_ends: u32,
}

impl Backoff {
    /// The pause before the next start of a program that ran for this time.
    pub fn pause_after(&mut self, lived: Duration) -> Duration {
        if lived >= LONG_LIFE {
            self.quick_ends = 0;
        }
        let doublings = self.quick_ends.min(10);
        self.quick_ends += 1;
        (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
    }
}

/// A program that ran this long did start; its exit is unrelated to the previous one.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Short enough for a scheduler, long enough to avoid a busy loop.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A repaired program is started again within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_while_exits_follow_quickly() {
        let mut backoff = Backoff::default();
        let mut pauses = (0..20).map(|_| backoff.pause_after(Duration::ZERO));
        let first: Vec<_> = pauses
            .by_ref()
            .take(4)
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(first, [200, 400, 800, 1600]);
        assert_eq!(pauses.last(), Some(LONGEST_PAUSE));
        assert_eq!(backoff.pause_after(LONG_LIFE), FIRST_PAUSE);
    }
}
