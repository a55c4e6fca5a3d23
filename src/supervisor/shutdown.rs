//! Stops the server: carries out the actions of [`crate::supervisor::shutdown::steps`], and the
//! steps after the last request.

pub mod steps;

use std::time::{Duration, Instant};

use rustix::process::Signal as Number;

use super::app::App;
use super::signals::Signals;
use super::startup;
use super::{Outcome, Successor, Supervisor, before_start, plan};
use crate::observe::codes;
use crate::os::{child, clock, key_files};

/// Longest wait for cancelled requests to end: tasks on hung file systems do not end.
const LAST_REQUESTS: Duration = Duration::from_millis(200);
/// Longest wait for the exit of killed processes before they are left to init.
const LAST_REAP: Duration = Duration::from_millis(200);

/// Longest wait for the exit of a child whose signal may have been missed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Number of SIGTERM and SIGINT that arrived.
#[derive(Debug, Default)]
pub(super) struct StopSignals {
    /// By the kernel.
    direct: u32,
    /// By the guardian of an upgraded server.
    forwarded: u32,
}

impl StopSignals {
    fn most(&self) -> u32 {
        self.direct.max(self.forwarded)
    }
}

/// When the stop was requested.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopAsked {
    at: Instant,
    /// Pauses of the whole server before.
    paused: Duration,
}

impl StopAsked {
    pub(super) fn now() -> Self {
        clock::tick();
        let (at, paused) = (Instant::now(), clock::paused());
        Self { at, paused }
    }

    /// The end of a time that stands still while the server does.
    fn after(&self, time: Duration) -> Instant {
        self.at + time + clock::paused().saturating_sub(self.paused)
    }
}

/// The real time at which to look at the clock again, for an event at `time` without pauses: the
/// requests in flight stand still in a pause as well, so their time goes on from where it was.
fn next_look(time: Instant, paused: Duration, now: Instant) -> Instant {
    (time + paused).min(now + clock::TICK)
}

impl Supervisor {
    pub(super) fn stop_signal(&mut self, number: u8, is_forwarded: bool) {
        let before = self.stop_signals.most();
        match is_forwarded {
            true => self.stop_signals.forwarded += 1,
            false => self.stop_signals.direct += 1,
        }
        match self.stop_signals.most() {
            // The terminal, or a service manager, has sent the same signal to this process and to the
            // guardian.
            most if most == before => {}
            1 if self.upgrade.is_over() => self.hurry(),
            1 => self.ask_to_stop(),
            _ => {
                tracing::warn!("second signal: stopping at once");
                self.stopping(steps::ShutdownEvent::Now(128 + number));
            }
        }
    }

    pub(super) fn ask_to_stop(&mut self) {
        if !self.stop_may_begin() {
            return;
        }
        let loads = self.apps.all().map(|app| app.pool.load());
        let (running, waiting) = loads.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let delay = self.resolved.config.drain_delay;
        if !self.is_stopping() {
            self.stop_asked = Some(StopAsked::now());
            self.notify_stopping();
            if delay.is_zero() {
                tracing::info!(running, waiting, "stopping gracefully");
            } else {
                let delay_s = delay.as_secs_f32();
                tracing::info!(
                    running,
                    waiting,
                    delay_s,
                    "stopping gracefully: still accepting connections for the drain delay"
                );
            }
        }
        self.front.stop.asked.cancel();
        self.cancel_reload();
        self.stopping(steps::ShutdownEvent::Asked);
    }

    pub(super) fn stopping(&mut self, event: steps::ShutdownEvent) {
        let now = clock::awake();
        for action in self.stop.decide(event, now) {
            match action {
                steps::Action::Drain => {
                    if !self.upgrade.is_over() {
                        tracing::info!("stopping: listeners closed, finishing in-flight requests");
                        // Else these descriptors would keep them open.
                        self.upgrade.close_sockets();
                    }
                    self.drain();
                }
                steps::Action::CutConnections => {
                    tracing::warn!(
                        code = codes::GRACEFUL_TIMEOUT,
                        "graceful timeout expired: closing the connections that are left"
                    );
                    self.front.stop.cut.cancel();
                }
                steps::Action::Leave => {
                    tracing::info!("stopping: asking the workers to exit");
                    for app in self.apps.all_mut() {
                        app.handle(plan::PlanEvent::Leave);
                    }
                    if self.apps.are_gone() {
                        self.stopping(steps::ShutdownEvent::Gone);
                    }
                }
                steps::Action::WakeAt(time) => {
                    self.wake_at(next_look(time, clock::paused(), Instant::now()));
                }
                steps::Action::Exit(code) => {
                    self.abandon_upgrade();
                    self.apps.all_mut().for_each(App::kill_all);
                    self.code = Some(code);
                }
            }
        }
    }

    fn drain(&self) {
        self.front.stop.drain.cancel();
        let (connections, drained) = (self.front.connections.clone(), self.drained.clone());
        connections.close();
        tokio::spawn(async move {
            connections.wait().await;
            let _supervisor_gone = drained.send(());
        });
    }

    /// Not awaited after a second signal, or after a signal to stop at once.
    async fn stop_companions(&mut self, signals: &mut Signals) {
        let Signals {
            child,
            terminate,
            interrupt,
            quit,
            ..
        } = signals;
        let is_hurried = self.code.is_some_and(|code| code >= 128);
        let (mut signal, mut reaped) = (None, Vec::new());
        if !is_hurried {
            let config = &self.resolved.config;
            let asked = self.stop_asked.unwrap_or_else(StopAsked::now);
            let latest = asked.after(config.drain_delay + config.graceful_timeout);
            let reap = async || {
                let _at_the_latest = tokio::time::timeout(LOOK_AGAIN, child.recv()).await;
                let ended: Vec<_> = std::iter::from_fn(child::reap).collect();
                reaped.extend(ended.iter().copied());
                ended
            };
            // Every branch is cancel-safe: companions that were not stopped are killed below.
            tokio::select! {
                () = self.companions.stop(latest, reap) => {}
                _ = terminate.recv() => signal = Some((Number::TERM, "SIGTERM")),
                _ = interrupt.recv() => signal = Some((Number::INT, "SIGINT")),
                _ = quit.recv() => signal = Some((Number::QUIT, "SIGQUIT")),
            }
        }
        self.companions.kill();
        for (pid, status) in reaped {
            self.upgrade_ended(pid, status);
        }
        if let Some((signal, name)) = signal {
            self.pass_on(signal.as_raw(), name);
        }
    }

    /// Ends what is left; returns the outcome, and the process that has taken over.
    pub(super) async fn end(mut self, signals: &mut Signals) -> (Outcome, Option<Successor>) {
        self.stop_companions(signals).await;
        self.apps.all().for_each(App::drain_log);
        // Requests that still wait are cancelled, and have their line in the log.
        self.front.stop.cut.cancel();
        self.front.stop.drain.cancel();
        self.front.connections.close();
        let _hung = tokio::time::timeout(LAST_REQUESTS, self.front.connections.wait()).await;
        // Both end soon, and have nothing left to delay. A hung file system may hold all threads
        // for files.
        self.front.access_log.close();
        key_files::end_reader();
        for (pid, status) in child::reap_the_killed(LAST_REAP) {
            self.upgrade_ended(pid, status);
        }
        let code = match self.code.unwrap_or(0) {
            0 if self.companion_failed => before_start::FAILED,
            code => code,
        };
        let last_error = match code {
            3 if self.last_error.is_empty() => {
                "pyserve: the workers keep dying before they are ready (see the log above)"
                    .to_owned()
            }
            0 => String::new(),
            _ => self.last_error,
        };
        if !self.is_announced && code != 0 {
            startup::log::note_failure(&self.resolved.config, code, &last_error);
        }
        let took = self
            .stop_asked
            .map_or(Duration::ZERO, |asked| asked.at.elapsed());
        match &self.upgrade.successor {
            Some(successor) => successor.log_the_end_of_this_process(),
            None if code == 0 => tracing::info!("stopped in {:.2} s", took.as_secs_f64()),
            None => {}
        }
        self.interfaces.close().await;
        (Outcome { code, last_error }, self.upgrade.successor.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_looked_for_every_second_until_the_event() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let paused = Duration::from_secs(99);
        assert_eq!(next_look(at(300), Duration::ZERO, at(0)), at(10));
        assert_eq!(next_look(at(4), Duration::ZERO, at(0)), at(4));
        assert_eq!(next_look(at(51), paused, at(1039)), at(1041));
    }
}
