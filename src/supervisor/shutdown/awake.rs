//! A clock for the times of a stop, which stands still while the server does: a container that was
//! paused, a machine that slept. The requests in flight stood still as well, so their time goes on
//! from where it was.
//!
//! Pauses show as gaps between looks at the clock, so the supervisor looks every [`LOOK`] while it
//! stops. Pure: times in, times out.

use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A longer time between two looks is a pause: a busy machine delays a timer by less.
const LONGEST_LOOK: Duration = Duration::from_secs(3);

/// The clock. It runs from the first look.
#[derive(Debug, Default)]
pub struct AwakeClock {
    last: Option<Instant>,
    paused: Duration,
}

impl AwakeClock {
    /// The time without the pauses until `now`.
    pub fn at(&mut self, now: Instant) -> Instant {
        let gap = self.last.map_or(Duration::ZERO, |last| now - last);
        self.last = Some(now);
        if gap > LONGEST_LOOK {
            self.paused += gap - LOOK;
        }
        now - self.paused
    }

    /// The pauses so far.
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// The real time at which to look again, for an event at `time` of this clock.
    pub fn next_look(&self, time: Instant, now: Instant) -> Instant {
        (time + self.paused).min(now + LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_in_a_pause_and_runs_on_a_busy_machine() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut clock = AwakeClock::default();
        assert_eq!(clock.at(at(0)), at(0));
        assert_eq!(clock.next_look(at(300), at(0)), at(10));
        assert_eq!(clock.next_look(at(4), at(0)), at(4));
        assert_eq!(clock.at(at(10)), at(10));
        assert_eq!(clock.at(at(39)), at(39), "busy");
        assert_eq!(clock.at(at(1039)), at(49), "paused");
        assert_eq!(clock.paused(), Duration::from_secs(99));
        assert_eq!(clock.next_look(at(51), at(1039)), at(1041));
        assert_eq!(clock.at(at(1045)), at(55));
    }
}
