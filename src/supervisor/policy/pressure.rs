//! Predicts when the control group's memory runs out: pure, `(bytes in use, now) -> expected
//! share`.
//!
//! A fixed share of the limit alone is not enough: an application that leaks fast under load would
//! reach it between two checks. So near the limit the checks are more frequent, and growth since
//! the last check counts too.

use std::time::{Duration, Instant};

/// Share of the limit; above it the kernel may soon kill a process.
const NEARLY_ALL: f64 = 0.95;
/// Share of the limit; above it growth counts. With 0.8, a leak of 60 MB/s in a group of 256 MiB
/// was faster than us; with less, every start would look like a leak.
const MUCH: f64 = 0.6;
/// Least time until that growth reaches the limit: within it a successor is forked and its
/// predecessor finishes its request, on a busy machine.
const AHEAD: Duration = Duration::from_secs(2);
/// Interval of checks far from the limit.
const SELDOM: Duration = Duration::from_secs(1);
/// Interval of checks near the limit. A check costs some ten microseconds.
const OFTEN: Duration = Duration::from_millis(200);

/// State between two checks.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    last: Option<(Instant, u64)>,
    /// Growth in bytes per second at the last checks.
    growth: f64,
    in_use: f64,
    /// Expected share of the limit in use [`AHEAD`] from now.
    expected: f64,
}

impl Pressure {
    /// Records that `used` of `limit` bytes are in use.
    pub(crate) fn look(&mut self, used: u64, limit: u64, now: Instant) {
        let limit = limit.max(1) as f64;
        if let Some((before, was)) = self.last.replace((now, used)) {
            let passed = now.duration_since(before).max(OFTEN / 2).as_secs_f64();
            let growth = (used as f64 - was as f64) / passed;
            // A decrease counts at once; a sudden increase need not continue.
            self.growth = growth.min((self.growth.max(0.0) + growth) / 2.0);
        }
        self.in_use = used as f64 / limit;
        self.expected = self.in_use + self.growth.max(0.0) * AHEAD.as_secs_f64() / limit;
    }

    /// True if a worker must give memory back now.
    pub(crate) fn runs_out(&self) -> bool {
        self.in_use >= NEARLY_ALL || (self.in_use >= MUCH && self.expected >= 1.0)
    }

    /// Time until the next check.
    pub(crate) fn pause(&self) -> Duration {
        match self.in_use >= MUCH || self.expected >= MUCH {
            true => OFTEN,
            false => SELDOM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks so many of 1000 bytes at milliseconds, and returns those at which memory runs out.
    #[track_caller]
    fn check(looks: &[(u64, u64)], expected: &[u64]) {
        let start = Instant::now();
        let mut pressure = Pressure::default();
        let mut runs_out = Vec::new();
        for (ms, used) in looks {
            pressure.look(*used, 1000, start + Duration::from_millis(*ms));
            if pressure.runs_out() {
                runs_out.push(*ms);
            }
        }
        assert_eq!(runs_out, expected);
    }

    #[test]
    fn memory_runs_out_near_the_limit_or_earlier_with_fast_growth() {
        check(&[(0, 949), (1000, 949), (2000, 950)], &[2000]);
        // A start takes much at once, and then no more.
        check(&[(0, 100), (1000, 599), (2000, 620), (2200, 620)], &[]);
        // Slow growth: there is time until 95 %.
        check(&[(0, 800), (200, 802), (400, 804), (600, 806)], &[]);
        check(&[(0, 800), (200, 830), (400, 860), (600, 890)], &[400, 600]);
        // It grew, and then a process exited.
        check(&[(0, 820), (200, 900), (400, 810), (600, 812)], &[200]);
        check(&[(0, 2000)], &[0]);
    }

    #[test]
    fn near_the_limit_checks_are_frequent() {
        let now = Instant::now();
        let mut pressure = Pressure::default();
        assert_eq!(pressure.pause(), SELDOM);
        pressure.look(500, 1000, now);
        assert_eq!(pressure.pause(), SELDOM);
        pressure.look(590, 1000, now + SELDOM);
        assert_eq!(pressure.pause(), OFTEN, "soon it will be much");
        pressure.look(590, 0, now + 2 * SELDOM);
        assert!(pressure.runs_out());
    }
}
