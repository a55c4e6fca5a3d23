//! Decides how the server stops: pure, `(state, event, now) -> actions`.
//!
//! ```text
//! Serving -> (Delaying) -> Draining -> Leaving -> Over
//! ```
//!
//! *Delaying*: the server still serves, but readiness probes fail, and connections close after
//! their next response. *Draining*: no new connection is accepted; existing ones finish. *Leaving*:
//! the workers run their exit hooks. Each stage has a time limit.

use std::time::{Duration, Instant};

/// Least time of the workers for their exit hooks, even if the graceful timeout is used up.
const LEAVE_AT_LEAST: Duration = Duration::from_secs(1);

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownEvent {
    /// Stop gracefully.
    Asked,
    /// Another process serves: drain without a delay.
    HandedOver,
    /// Stop now, with this exit code.
    Now(u8),
    /// No connection and no request is left.
    Drained,
    /// No worker is left.
    Gone,
    /// The time requested by [`Action::WakeAt`] has come.
    Timer,
}

/// An action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stop accepting connections; finish the requests of existing ones.
    Drain,
    /// Close the connections that are left.
    CutConnections,
    /// Ask the workers of every application to leave.
    Leave,
    /// Come back with [`ShutdownEvent::Timer`] at this time.
    WakeAt(Instant),
    /// Kill the processes that are left, and exit with this code.
    Exit(u8),
}

/// The state of the stop.
#[derive(Debug)]
pub struct ShutdownPlan {
    phase: Phase,
    drain_delay: Duration,
    graceful_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Delaying { until: Instant },
    Draining { until: Instant },
    Leaving { until: Instant },
    Over,
}

impl ShutdownPlan {
    /// No stop is requested yet.
    pub fn new(drain_delay: Duration, graceful_timeout: Duration) -> Self {
        Self {
            phase: Phase::Serving,
            drain_delay,
            graceful_timeout,
        }
    }

    /// Changes the time limits of a stop that has not begun.
    pub fn set_times(&mut self, drain_delay: Duration, graceful_timeout: Duration) {
        self.drain_delay = drain_delay;
        self.graceful_timeout = graceful_timeout;
    }

    /// True if the stop has begun.
    pub fn has_begun(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// Takes an event; returns the actions.
    pub fn decide(&mut self, event: ShutdownEvent, now: Instant) -> Vec<Action> {
        match (event, self.phase) {
            (_, Phase::Over) => Vec::new(),
            (ShutdownEvent::Now(code), _) => self.exit(code),
            (ShutdownEvent::HandedOver, Phase::Serving) => self.drain(now),
            (ShutdownEvent::Asked, Phase::Serving) if self.drain_delay.is_zero() => self.drain(now),
            (ShutdownEvent::Asked, Phase::Serving) => {
                let until = now + self.drain_delay;
                self.phase = Phase::Delaying { until };
                vec![Action::WakeAt(until)]
            }
            (ShutdownEvent::Timer, Phase::Delaying { until }) if now >= until => self.drain(now),
            (ShutdownEvent::Drained, Phase::Draining { until }) => {
                self.leave(until.max(now + LEAVE_AT_LEAST))
            }
            (ShutdownEvent::Timer, Phase::Draining { until }) if now >= until => {
                let mut actions = vec![Action::CutConnections];
                actions.extend(self.leave(now + LEAVE_AT_LEAST));
                actions
            }
            (ShutdownEvent::Timer, Phase::Leaving { until }) if now >= until => self.exit(0),
            (
                ShutdownEvent::Timer,
                Phase::Delaying { until } | Phase::Draining { until } | Phase::Leaving { until },
            ) => {
                vec![Action::WakeAt(until)]
            }
            (ShutdownEvent::Gone, Phase::Leaving { .. }) => self.exit(0),
            _ => Vec::new(),
        }
    }

    fn drain(&mut self, now: Instant) -> Vec<Action> {
        let until = now + self.graceful_timeout;
        self.phase = Phase::Draining { until };
        vec![Action::Drain, Action::WakeAt(until)]
    }

    fn leave(&mut self, until: Instant) -> Vec<Action> {
        self.phase = Phase::Leaving { until };
        vec![Action::Leave, Action::WakeAt(until)]
    }

    fn exit(&mut self, code: u8) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Exit(code)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    /// Feeds events at milliseconds and compares the actions of each; times in actions are
    /// milliseconds too.
    #[track_caller]
    fn check(delay: Duration, story: &[(u64, ShutdownEvent, &[Expected])]) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stop = ShutdownPlan::new(delay, GRACE);
        for (ms, event, expected) in story {
            let expected: Vec<_> = expected
                .iter()
                .map(|expected| match expected {
                    Expected::Do(action) => *action,
                    Expected::WakeAt(ms) => Action::WakeAt(at(*ms)),
                })
                .collect();
            assert_eq!(stop.decide(*event, at(*ms)), expected, "{ms}: {event:?}");
        }
    }

    enum Expected {
        Do(Action),
        WakeAt(u64),
    }

    use Action::{CutConnections, Drain, Exit, Leave};
    use Expected::{Do, WakeAt};
    use ShutdownEvent::{Asked, Drained, Gone, HandedOver, Now, Timer};

    #[test]
    fn a_stop_drains_lets_the_workers_leave_and_ends() {
        check(
            Duration::ZERO,
            &[
                (0, Asked, &[Do(Drain), WakeAt(30_000)]),
                (1, Asked, &[]),
                (500, Drained, &[Do(Leave), WakeAt(30_000)]),
                (510, Gone, &[Do(Exit(0))]),
                (511, Gone, &[]),
            ],
        );
    }

    #[test]
    fn a_stop_that_takes_too_long_closes_the_connections() {
        check(
            Duration::ZERO,
            &[
                (0, Asked, &[Do(Drain), WakeAt(30_000)]),
                (20_000, Timer, &[WakeAt(30_000)]),
                (
                    30_000,
                    Timer,
                    &[Do(CutConnections), Do(Leave), WakeAt(31_000)],
                ),
                (30_001, Drained, &[]),
                (31_000, Timer, &[Do(Exit(0))]),
            ],
        );
    }

    #[test]
    fn a_late_end_of_the_last_request_leaves_time_for_the_exit_hooks() {
        check(
            Duration::ZERO,
            &[
                (0, Asked, &[Do(Drain), WakeAt(30_000)]),
                (29_999, Drained, &[Do(Leave), WakeAt(30_999)]),
            ],
        );
    }

    #[test]
    fn with_a_delay_the_server_still_serves_for_that_time() {
        let delay = Duration::from_secs(5);
        check(
            delay,
            &[
                (0, Asked, &[WakeAt(5000)]),
                (1000, Drained, &[]),
                (1000, Timer, &[WakeAt(5000)]),
                (5000, Timer, &[Do(Drain), WakeAt(35_000)]),
                (5001, Drained, &[Do(Leave), WakeAt(35_000)]),
            ],
        );
        check(
            delay,
            &[(0, Asked, &[WakeAt(5000)]), (1, Now(143), &[Do(Exit(143))])],
        );
    }

    #[test]
    fn a_server_that_has_handed_over_drains_without_the_delay() {
        check(
            Duration::from_secs(5),
            &[
                (0, HandedOver, &[Do(Drain), WakeAt(30_000)]),
                (1, Asked, &[]),
                (500, Drained, &[Do(Leave), WakeAt(30_000)]),
                (510, Gone, &[Do(Exit(0))]),
            ],
        );
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        check(
            Duration::ZERO,
            &[
                (0, Asked, &[Do(Drain), WakeAt(30_000)]),
                (1, Now(143), &[Do(Exit(143))]),
            ],
        );
    }
}
