//! When the control group's memory will run out: pure, `(bytes in use, now) -> how near`.
//!
//! At a fixed share of the limit alone, an application that leaks fast under load would get
//! there between two looks. So near the limit we look more often, and what it grew since the
//! last look counts as well.

use std::time::{Duration, Instant};

/// Of the limit: with more in use, the kernel may end somebody soon.
const NEARLY_ALL: f64 = 0.95;
/// Of the limit: from here on growth counts. With 0.8, a leak of 60 MB/s in a group of 256 MiB
/// was faster than us; with less, every start would look like a leak.
const MUCH: f64 = 0.6;
/// With that growth the limit must be this far away: in that time a successor is forked and
/// the one that it replaces ends its request, on a machine that is busy.
const AHEAD: Duration = Duration::from_secs(2);
/// How often to look while there is room.
const SELDOM: Duration = Duration::from_secs(1);
/// How often to look else. It costs some ten microseconds.
const OFTEN: Duration = Duration::from_millis(200);

/// What is known from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    last: Option<(Instant, u64)>,
    /// Bytes a second, of the last looks.
    growth: f64,
    in_use: f64,
    /// Share of the limit that will be in use some time ahead.
    expected: f64,
}

impl Pressure {
    /// Takes in how many bytes of so many are in use.
    pub(crate) fn look(&mut self, used: u64, limit: u64, now: Instant) {
        let limit = limit.max(1) as f64;
        if let Some((before, was)) = self.last.replace((now, used)) {
            let passed = now.duration_since(before).max(OFTEN / 2).as_secs_f64();
            let growth = (used as f64 - was as f64) / passed;
            // What is freed is freed at once; what is taken at once need not go on.
            self.growth = growth.min((self.growth.max(0.0) + growth) / 2.0);
        }
        self.in_use = used as f64 / limit;
        self.expected = self.in_use + self.growth.max(0.0) * AHEAD.as_secs_f64() / limit;
    }

    /// True if somebody has to give memory back now.
    pub(crate) fn runs_out(&self) -> bool {
        self.in_use >= NEARLY_ALL || (self.in_use >= MUCH && self.expected >= 1.0)
    }

    /// How long until the next look.
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

    /// Looks at so many of 1000 bytes at milliseconds, and says at which memory runs out.
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
    fn it_runs_out_at_nearly_all_or_earlier_where_it_grows_fast() {
        check(&[(0, 949), (1000, 949), (2000, 950)], &[2000]);
        // A start takes much at once, and then no more.
        check(&[(0, 100), (1000, 599), (2000, 620), (2200, 620)], &[]);
        // Slowly: there is time until 95 %.
        check(&[(0, 800), (200, 802), (400, 804), (600, 806)], &[]);
        check(&[(0, 800), (200, 830), (400, 860), (600, 890)], &[400, 600]);
        // It grew, and then somebody left.
        check(&[(0, 820), (200, 900), (400, 810), (600, 812)], &[200]);
        check(&[(0, 2000)], &[0]);
    }

    #[test]
    fn near_the_limit_it_is_looked_at_often() {
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
