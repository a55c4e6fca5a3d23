//! The ranges of a file that are known to be in memory, shared by all responses that send it.
//!
//! Asking the kernel costs a system call for each 128 KiB, and on file systems that give no answer
//! (overlay, on which the files of container images are) a visit to the
//! [`FilePool`](super::file_pool::FilePool). So one answer counts for a while, for every response. A few
//! ranges are kept, because clients that continue downloads or seek in a video read the same file
//! in several places. Pure: ranges and times in, ranges out.

use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Ranges of one file that were seen in memory.
#[derive(Debug, Default)]
pub struct Residency(Mutex<Vec<Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    range: Range<u64>,
    at: Instant,
}

impl Residency {
    /// The end of a range around `offset` that is known to be in memory.
    pub fn known_to(&self, offset: u64, now: Instant) -> Option<u64> {
        let seen = self.lock();
        let around = seen
            .iter()
            .filter(|seen| seen.range.contains(&offset) && seen.is_fresh(now));
        around.map(|seen| seen.range.end).max()
    }

    /// Notes a range that was seen in memory at `at`. One that continues another is joined to it,
    /// and counts for as long as the older of both.
    pub fn remember(&self, range: Range<u64>, at: Instant) {
        let mut seen = self.lock();
        let mut new = Seen { range, at };
        seen.retain(|old| {
            let is_fresh = old.is_fresh(new.at);
            let is_inside = new.range.start <= old.range.start && old.range.end <= new.range.end;
            let touches = old.range.start <= new.range.end && new.range.start <= old.range.end;
            if is_fresh && touches && !is_inside {
                new.range = old.range.start.min(new.range.start)..old.range.end.max(new.range.end);
                new.at = old.at.min(new.at);
            }
            is_fresh && !touches
        });
        if seen.len() == MOST {
            // The oldest.
            seen.remove(0);
        }
        seen.push(new);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock()
    }
}

impl Seen {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < TRUSTED
    }
}

/// Time for which a range seen in memory is assumed to stay there. The kernel takes pages back only
/// under pressure, and then those last used a long time ago.
const TRUSTED: Duration = Duration::from_secs(1);

/// Ranges that are kept of one file: as many as are read at the same time in separate places before
/// the kernel is asked again, few enough to look through in some nanoseconds.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(residency: &Residency, offset: u64, now: Instant) -> Option<u64> {
        residency.known_to(offset, now)
    }

    #[test]
    fn a_range_is_known_inside_of_it_and_for_a_while() {
        let (residency, start) = (Residency::default(), Instant::now());
        residency.remember(10..20, start);
        assert_eq!(known(&residency, 9, start), None);
        assert_eq!(known(&residency, 10, start), Some(20));
        assert_eq!(known(&residency, 19, start), Some(20));
        assert_eq!(known(&residency, 20, start), None);
        assert_eq!(known(&residency, 10, start + TRUSTED), None);
    }

    #[test]
    fn a_range_that_continues_another_counts_as_long_as_the_older_one() {
        let (residency, start) = (Residency::default(), Instant::now());
        residency.remember(0..10, start);
        residency.remember(10..20, start + TRUSTED / 2);
        assert_eq!(known(&residency, 0, start + TRUSTED / 2), Some(20));
        assert_eq!(known(&residency, 15, start + TRUSTED), None);
        // The whole, seen anew, is as young as that.
        residency.remember(0..20, start + TRUSTED);
        assert_eq!(known(&residency, 0, start + TRUSTED * 3 / 2), Some(20));
    }

    #[test]
    fn only_the_youngest_ranges_are_kept() {
        let (residency, now) = (Residency::default(), Instant::now());
        for number in 0..1000 {
            residency.remember(number * 10..number * 10 + 5, now);
        }
        assert_eq!(residency.lock().len(), MOST);
        assert_eq!(known(&residency, 0, now), None);
        assert_eq!(known(&residency, 9990, now), Some(9995));
    }

    proptest! {
        /// Nothing counts as in memory that was not seen there within the time.
        #[test]
        fn nothing_is_known_that_was_not_seen(
            steps in prop::collection::vec((0u64..60, 1u64..20, 0u32..400), 1..60)
        ) {
            let residency = Residency::default();
            let mut now = Instant::now();
            let mut seen = vec![None::<Instant>; 100];
            for (from, length, wait) in steps {
                now += Duration::from_millis(wait.into());
                residency.remember(from..from + length, now);
                for at in from..from + length {
                    seen[at as usize] = Some(now);
                }
                for offset in 0..100u64 {
                    let to = residency.known_to(offset, now).unwrap_or(offset);
                    for at in offset..to {
                        let when = seen[at as usize];
                        prop_assert!(when.is_some_and(|when| now - when < TRUSTED), "{at}");
                    }
                }
            }
        }
    }
}
