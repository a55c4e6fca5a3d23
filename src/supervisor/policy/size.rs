//! Adapts the number of workers within a range such as `--workers 2..8`: pure.
//!
//! One more when requests have waited at every check for a second; one less when fewer workers
//! would have been enough for half a minute.

use std::time::{Duration, Instant};

/// Interval of the checks.
pub const LOOK: Duration = Duration::from_millis(250);
/// Time that requests must wait before a worker is added.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time that a worker must be superfluous before it is removed.
const IDLE: Duration = Duration::from_secs(30);

/// The measured demand.
#[derive(Debug, Clone, Copy)]
pub struct QueueDemand {
    /// Requests that run or wait.
    pub requests: u64,
    /// Current target number of workers.
    pub workers: u32,
    /// Threads of each worker.
    pub threads: u32,
    /// True if there is memory for another worker.
    pub is_room: bool,
}

/// Follows the demand.
#[derive(Debug, Default)]
pub struct Sizer {
    waits_since: Option<Instant>,
    /// Time since which one worker less would be enough.
    idle_since: Option<Instant>,
}

impl Sizer {
    /// The target number of workers, from `least` to `most`.
    pub fn look(&mut self, demand: QueueDemand, least: u32, most: u32, now: Instant) -> u32 {
        let QueueDemand {
            requests,
            workers,
            threads,
            is_room,
        } = demand;
        let threads = u64::from(threads);
        let waits = requests > u64::from(workers) * threads;
        // With a fifth to spare.
        let is_idle = requests * 5 <= u64::from(workers.saturating_sub(1)) * threads * 4;
        let since = |since: Option<Instant>, holds: bool| holds.then(|| since.unwrap_or(now));
        self.waits_since = since(self.waits_since, waits);
        self.idle_since = since(self.idle_since, is_idle);
        let lasts = |since: Option<Instant>, time| since.is_some_and(|since| now >= since + time);
        let wanted = if lasts(self.waits_since, PATIENCE) && is_room {
            workers + 1
        } else if lasts(self.idle_since, IDLE) {
            workers - 1
        } else {
            workers
        };
        let wanted = wanted.clamp(least, most);
        if wanted != workers {
            *self = Self::default();
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_workers_follows_the_waiting_requests() {
        let start = Instant::now();
        let mut sizer = Sizer::default();
        let mut workers = 2;
        // Milliseconds, requests that run or wait, workers afterwards; two threads each.
        for (ms, requests, expected) in [
            (0, 4, 2),
            (250, 9, 2),
            (1000, 9, 2),
            (1250, 9, 3),
            (1500, 9, 3),
            (2250, 6, 3),
            (2500, 20, 3),
            (3500, 20, 4),
            (4500, 20, 4),
            (5000, 20, 4),
            (6000, 0, 4),
            (20_000, 0, 4),
            (30_000, 5, 4),
            (31_000, 3, 4),
            (60_999, 3, 4),
            (61_000, 3, 3),
            (61_250, 0, 3),
            (91_250, 0, 2),
            (200_000, 0, 2),
            (300_000, 0, 2),
        ] {
            let demand = QueueDemand {
                requests,
                workers,
                threads: 2,
                is_room: true,
            };
            let now = start + Duration::from_millis(ms);
            workers = sizer.look(demand, 2, 4, now);
            assert_eq!(workers, expected, "{ms}");
        }
    }

    #[test]
    fn without_memory_no_worker_is_added() {
        let start = Instant::now();
        let mut sizer = Sizer::default();
        for second in 0..10 {
            let demand = QueueDemand {
                requests: 100,
                workers: 1,
                threads: 1,
                is_room: false,
            };
            let now = start + Duration::from_secs(second);
            assert_eq!(sizer.look(demand, 1, 8, now), 1);
        }
    }
}
