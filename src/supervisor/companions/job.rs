//! The times of a scheduled companion: when it is due, when it ran last. Pure.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::schedule::Schedule;

/// One moment, by both clocks: periods follow the one that never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub instant: Instant,
    pub wall: Timestamp,
}

impl Now {
    pub(super) fn of_this_process() -> Self {
        Self {
            instant: Instant::now(),
            wall: Timestamp::now(),
        }
    }
}

/// The times of a scheduled companion.
#[derive(Debug, Clone)]
pub(super) struct Job {
    next: Next,
    /// The last run.
    pub last: Option<LastRun>,
}

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRun {
    pub began: Timestamp,
    /// Its duration and its wait status; `None` while it runs.
    pub ended: Option<(Duration, i32)>,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Wall {
        at: Timestamp,
        /// The time from which `at` was computed.
        since: Timestamp,
    },
    Tick(Instant),
    Never,
}

/// Longest time between two looks at the clock: it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);
/// A clock that is set back by more is a corrected one: the next run follows the new time.
const CORRECTION: SignedDuration = SignedDuration::from_secs(60);

/// The times of a scheduled companion, for the server that takes this one's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JobState {
    next: NextState,
    /// Start of the last run, its duration in seconds, and its wait status.
    last: Option<(String, Option<(f64, i32)>)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum NextState {
    /// The time, and the one from which it was computed (RFC 3339).
    Wall(String, String),
    /// Seconds until then.
    In(f64),
    Never,
}

impl Job {
    /// Its state for another server.
    pub(super) fn state(&self, now: Now) -> JobState {
        JobState {
            next: match self.next {
                Next::Wall { at, since } => NextState::Wall(at.to_string(), since.to_string()),
                Next::Tick(at) => {
                    NextState::In(at.saturating_duration_since(now.instant).as_secs_f64())
                }
                Next::Never => NextState::Never,
            },
            last: self.last.map(|last| {
                let ended = last
                    .ended
                    .map(|(took, status)| (took.as_secs_f64(), status));
                (last.began.to_string(), ended)
            }),
        }
    }

    /// A job that goes on with the times of another server, for the same schedule.
    pub(super) fn resumed(schedule: &Schedule, state: &JobState, now: Now) -> Self {
        let mut job = Self::new(schedule, now);
        let next = match &state.next {
            NextState::Wall(at, since) => match (at.parse(), since.parse()) {
                (Ok(at), Ok(since)) => Some(Next::Wall { at, since }),
                _ => None,
            },
            NextState::In(seconds) => Duration::try_from_secs_f64(*seconds)
                .ok()
                .and_then(|rest| now.instant.checked_add(rest))
                .map(Next::Tick),
            NextState::Never => Some(Next::Never),
        };
        job.next = next.unwrap_or(job.next);
        job.last = state.last.as_ref().and_then(|(began, ended)| {
            let ended = ended
                .and_then(|(took, status)| Some((Duration::try_from_secs_f64(took).ok()?, status)));
            Some(LastRun {
                began: began.parse().ok()?,
                ended,
            })
        });
        job
    }

    /// A companion that has this schedule from now on.
    pub(super) fn new(schedule: &Schedule, now: Now) -> Self {
        Self {
            next: Next::after(schedule, now),
            last: None,
        }
    }

    /// True if a run is due; the one behind it is next then.
    pub(super) fn is_due(&mut self, schedule: &Schedule, now: Now) -> bool {
        let (is_due, is_corrected) = match self.next {
            Next::Wall { at, since } => (at <= now.wall, now.wall < since - CORRECTION),
            Next::Tick(at) => (at <= now.instant, false),
            Next::Never => (false, false),
        };
        if is_due || is_corrected {
            self.next = Next::after(schedule, now);
        }
        is_due && !is_corrected
    }

    /// The time at which to look again.
    pub(super) fn look_at(&self, now: Now) -> Option<Instant> {
        match self.next {
            Next::Wall { at, .. } => {
                let rest = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
                Some(now.instant + rest.min(LOOK))
            }
            Next::Tick(at) => Some(at),
            Next::Never => None,
        }
    }

    /// The time of the next run.
    pub(super) fn next(&self, now: Now) -> Option<Timestamp> {
        match self.next {
            Next::Wall { at, .. } => Some(at),
            Next::Tick(at) => {
                let rest = SignedDuration::try_from(at.saturating_duration_since(now.instant));
                now.wall.checked_add(rest.ok()?).ok()
            }
            Next::Never => None,
        }
    }
}

impl Next {
    fn after(schedule: &Schedule, now: Now) -> Self {
        match schedule {
            Schedule::Every(period) => {
                let at = now.instant.checked_add(*period);
                at.map_or(Self::Never, Self::Tick)
            }
            Schedule::Cron(cron) => match cron.next_after(now.wall) {
                Some(at) => Self::Wall {
                    at,
                    since: now.wall,
                },
                None => Self::Never,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schedule::Cron;
    use jiff::tz::TimeZone;

    fn daily() -> Schedule {
        Schedule::Cron(Box::new(Cron::parse("0 3 * * *", TimeZone::UTC).unwrap()))
    }

    #[test]
    fn a_run_is_due_once_at_its_time_and_late_rather_than_never() {
        let began = Instant::now();
        let at = |seconds: u64, wall: &str| Now {
            instant: began + Duration::from_secs(seconds),
            wall: wall.parse().unwrap(),
        };
        let schedule = daily();
        let start = at(0, "2026-11-28T02:00:00Z");
        let mut job = Job::new(&schedule, start);
        assert_eq!(
            job.next(start),
            Some("2026-11-28T03:00:00Z".parse().unwrap())
        );
        assert_eq!(job.look_at(start), Some(began + LOOK));
        let just_before = at(3599, "2026-11-28T02:59:59.5Z");
        assert!(!job.is_due(&schedule, just_before));
        let half = Duration::from_millis(500);
        assert_eq!(job.look_at(just_before), Some(just_before.instant + half));
        let then = at(3600, "2026-11-28T03:00:00.01Z");
        assert!(job.is_due(&schedule, then) && !job.is_due(&schedule, then));
        // The machine slept over one run: one, not two.
        let late = at(3700, "2026-11-30T09:00:00Z");
        assert!(job.is_due(&schedule, late) && !job.is_due(&schedule, late));
        assert_eq!(
            job.next(late),
            Some("2026-12-01T03:00:00Z".parse().unwrap())
        );
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_no_run_unless_it_was_wrong() {
        let began = Instant::now();
        let at = |wall: &str| Now {
            instant: began,
            wall: wall.parse().unwrap(),
        };
        let schedule = daily();
        let mut job = Job::new(&schedule, at("2026-11-28T02:00:00Z"));
        assert!(job.is_due(&schedule, at("2026-11-28T03:00:00Z")));
        assert!(!job.is_due(&schedule, at("2026-11-28T02:59:30Z")));
        assert!(!job.is_due(&schedule, at("2026-11-28T03:00:01Z")), "twice");
        // A machine that began in the year 2030.
        let mut job = Job::new(&schedule, at("2030-01-01T00:00:00Z"));
        let now = at("2026-11-28T02:00:00Z");
        assert!(!job.is_due(&schedule, now));
        assert_eq!(job.next(now), Some("2026-11-28T03:00:00Z".parse().unwrap()));
    }

    #[test]
    fn another_server_goes_on_with_the_times_of_this_one() {
        let wall: Timestamp = "2026-11-28T02:00:00Z".parse().unwrap();
        let now = |seconds: u64| Now {
            instant: Instant::now(),
            wall: wall + SignedDuration::from_secs(seconds as i64),
        };
        let hourly = Schedule::Every(Duration::from_secs(3600));
        for schedule in [hourly, daily()] {
            let mut job = Job::new(&schedule, now(0));
            job.last = Some(LastRun {
                began: wall,
                ended: Some((Duration::from_millis(1500), 256)),
            });
            let state = serde_json::to_string(&job.state(now(0))).unwrap();
            let state: JobState = serde_json::from_str(&state).unwrap();
            let resumed = Job::resumed(&schedule, &state, now(0));
            let expected = "2026-11-28T03:00:00Z".parse::<Timestamp>().unwrap();
            let apart = resumed.next(now(0)).unwrap().duration_since(expected);
            assert!(apart.abs() < SignedDuration::from_secs(5), "{apart:?}");
            assert_eq!(resumed.last, job.last);
        }
    }

    #[test]
    fn a_period_begins_at_the_start_and_does_not_follow_the_wall_clock() {
        let began = Instant::now();
        let wall: Timestamp = "2026-11-28T02:00:00Z".parse().unwrap();
        let at = |seconds: u64| Now {
            instant: began + Duration::from_secs(seconds),
            wall,
        };
        let schedule = Schedule::Every(Duration::from_secs(600));
        let mut job = Job::new(&schedule, at(0));
        assert!(!job.is_due(&schedule, at(599)));
        assert!(job.is_due(&schedule, at(600)) && !job.is_due(&schedule, at(1199)));
        assert_eq!(
            job.look_at(at(700)),
            Some(began + Duration::from_secs(1200))
        );
        assert_eq!(
            job.next(at(1000)),
            Some(wall + SignedDuration::from_secs(200))
        );
    }
}
