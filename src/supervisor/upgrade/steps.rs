//! Decides how an upgrade goes on: pure, `(state, event, now) -> actions`.
//!
//! ```text
//! Idle -> Starting -> TakingOver -> HandedOver
//!   ^________|____________|          a failure at any step before the last changes nothing
//! ```
//!
//! *Starting*: the new process reads its settings and starts its applications. *TakingOver*: it is
//! ready, has got the state of this process, and begins to accept connections. *HandedOver*: it serves,
//! and this process drains.

use std::time::{Duration, Instant};

/// Time for a ready process to take over: it opens a few files.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeStep {
    /// The new process was started; it has so long to get ready.
    Started(Duration),
    /// The new process is ready.
    Ready,
    /// The new process accepts connections.
    Serves,
    /// The new process has ended or cannot go on, for this reason.
    Failed(String),
    /// A graceful stop was asked for.
    StopAsked,
    /// The time of [`Action::WakeAt`] has come.
    Timer,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the new process the state of this one.
    SendState,
    /// Stop accepting, and drain: the new process serves.
    HandOver,
    /// Have the new process stop as this one was asked to.
    StopSuccessor,
    /// End the new process, and go on as if there had been none.
    GiveUp(String),
    /// Stop this process gracefully.
    Stop,
    /// Come back with [`UpgradeStep::Timer`] at this time.
    WakeAt(Instant),
}

/// The state of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// The new process gets ready.
    Starting {
        /// The latest time.
        until: Instant,
        /// The time that it had in all.
        limit: Duration,
    },
    /// The new process takes over.
    TakingOver {
        /// The latest time.
        until: Instant,
        /// A stop was asked for meanwhile.
        stops: bool,
    },
    /// The new process serves.
    HandedOver,
}

impl Phase {
    /// Takes an event; returns the actions.
    pub fn decide(&mut self, event: UpgradeStep, now: Instant) -> Vec<Action> {
        let (next, actions) = self.next(event, now);
        *self = next;
        actions
    }

    /// True while a new process gets ready or takes over.
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::TakingOver { .. })
    }

    fn next(self, event: UpgradeStep, now: Instant) -> (Self, Vec<Action>) {
        match (self, event) {
            (Self::Idle, UpgradeStep::Started(limit)) => {
                let until = now + limit;
                (Self::Starting { until, limit }, vec![Action::WakeAt(until)])
            }
            (Self::Starting { .. }, UpgradeStep::Ready) => {
                let until = now + TAKE_OVER;
                let next = Self::TakingOver {
                    until,
                    stops: false,
                };
                (next, vec![Action::SendState, Action::WakeAt(until)])
            }
            (Self::TakingOver { stops, .. }, UpgradeStep::Serves) => {
                let stop = stops.then_some(Action::StopSuccessor);
                let actions = std::iter::once(Action::HandOver).chain(stop);
                (Self::HandedOver, actions.collect())
            }
            (Self::Starting { until, limit }, UpgradeStep::Timer) if now >= until => {
                let seconds = limit.as_secs_f64();
                let why = format!("it was not ready after {seconds} s (--upgrade-timeout)");
                (Self::Idle, vec![Action::GiveUp(why)])
            }
            (Self::TakingOver { until, stops }, UpgradeStep::Timer) if now >= until => {
                let seconds = TAKE_OVER.as_secs();
                let why = format!("it was ready, but did not take over within {seconds} s");
                (Self::Idle, given_up(why, stops))
            }
            (Self::Starting { until, .. } | Self::TakingOver { until, .. }, UpgradeStep::Timer) => {
                (self, vec![Action::WakeAt(until)])
            }
            (Self::Starting { .. }, UpgradeStep::Failed(why)) => {
                (Self::Idle, vec![Action::GiveUp(why)])
            }
            (Self::TakingOver { stops, .. }, UpgradeStep::Failed(why)) => {
                (Self::Idle, given_up(why, stops))
            }
            (Self::Starting { .. }, UpgradeStep::StopAsked) => {
                let why = "the server was asked to stop".to_owned();
                (Self::Idle, given_up(why, true))
            }
            // The new process may have accepted connections already.
            (Self::TakingOver { until, .. }, UpgradeStep::StopAsked) => {
                (Self::TakingOver { until, stops: true }, Vec::new())
            }
            (Self::Idle, UpgradeStep::StopAsked) => (self, vec![Action::Stop]),
            _ => (self, Vec::new()),
        }
    }
}

fn given_up(why: String, stops: bool) -> Vec<Action> {
    let stop = stops.then_some(Action::Stop);
    std::iter::once(Action::GiveUp(why)).chain(stop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use UpgradeStep::{Failed, Ready, Serves, Started, StopAsked, Timer};

    const LIMIT: Duration = Duration::from_secs(60);

    /// Feeds events at seconds and compares the actions of each, without those about timers.
    #[track_caller]
    fn check(story: &[(u64, UpgradeStep, &[&str])], end: &str) {
        let start = Instant::now();
        let mut phase = Phase::default();
        for (seconds, event, expected) in story {
            let now = start + Duration::from_secs(*seconds);
            let actions = phase.decide(event.clone(), now);
            let actions = actions.iter().map(|action| format!("{action:?}"));
            let actions: Vec<_> = actions.filter(|text| !text.contains("WakeAt")).collect();
            assert_eq!(actions, *expected, "{seconds}: {event:?}");
        }
        let phase = format!("{phase:?}");
        assert!(phase.starts_with(end), "{phase}");
    }

    #[test]
    fn a_process_that_is_ready_takes_over_and_then_this_one_drains() {
        check(
            &[
                (0, Started(LIMIT), &[]),
                (5, Ready, &["SendState"]),
                (5, Serves, &["HandOver"]),
                // A process that serves may end: it is the server.
                (6, Failed("exit code 1".into()), &[]),
                (6, StopAsked, &[]),
                (99, Timer, &[]),
            ],
            "HandedOver",
        );
    }

    #[test]
    fn a_process_that_ends_or_hangs_at_any_step_changes_nothing() {
        let why = || Failed("exit code 1".into());
        let expected = r#"GiveUp("exit code 1")"#;
        check(&[(0, Started(LIMIT), &[]), (1, why(), &[expected])], "Idle");
        check(
            &[
                (0, Started(LIMIT), &[]),
                (1, Ready, &["SendState"]),
                (2, why(), &[expected]),
                // What arrives late is from a process that has been given up.
                (2, Serves, &[]),
                (3, Started(LIMIT), &[]),
            ],
            "Starting",
        );
        check(
            &[
                (0, Started(LIMIT), &[]),
                (59, Timer, &[]),
                (
                    60,
                    Timer,
                    &[r#"GiveUp("it was not ready after 60 s (--upgrade-timeout)")"#],
                ),
            ],
            "Idle",
        );
        check(
            &[
                (0, Started(LIMIT), &[]),
                (59, Ready, &["SendState"]),
                (60, Timer, &[]),
                (
                    69,
                    Timer,
                    &[r#"GiveUp("it was ready, but did not take over within 10 s")"#],
                ),
            ],
            "Idle",
        );
    }

    #[test]
    fn a_stop_ends_a_process_that_is_not_ready_and_waits_for_one_that_takes_over() {
        check(&[(0, StopAsked, &["Stop"])], "Idle");
        check(
            &[
                (0, Started(LIMIT), &[]),
                (
                    1,
                    StopAsked,
                    &[r#"GiveUp("the server was asked to stop")"#, "Stop"],
                ),
            ],
            "Idle",
        );
        check(
            &[
                (0, Started(LIMIT), &[]),
                (1, Ready, &["SendState"]),
                (1, StopAsked, &[]),
                (2, Serves, &["HandOver", "StopSuccessor"]),
            ],
            "HandedOver",
        );
        check(
            &[
                (0, Started(LIMIT), &[]),
                (1, Ready, &["SendState"]),
                (1, StopAsked, &[]),
                (2, Failed("gone".into()), &[r#"GiveUp("gone")"#, "Stop"]),
            ],
            "Idle",
        );
    }
}
