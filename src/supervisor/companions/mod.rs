//! Processes beside the application: a queue's workers, a scheduler, an SSH server.
//!
//! Each runs in a process group of its own. One that exits is started again, after a pause that
//! grows ([`backoff`]), unless its settings say otherwise; the exit of an essential one stops the server. Their output goes to our
//! log, with their name ([`output`]). [`leaving`] stops them.
//!
//! - A reload that succeeded ([`Companions::follow`]) stops those that the settings no longer
//!   contain, and those whose code or settings may have changed. A successor starts when its
//!   predecessor has exited, unless its settings allow both at a time.
//! - A scheduled one ([`job`]) runs at its times, to its end, never twice at once: a run that is
//!   due while the one before still works is skipped. A reload lets it work.
//! - At an upgrade ([`handover`]), the same rules hold between two servers.
//! - When the server stops ([`Companions::stop`]), they stop after the workers, one by one, in the
//!   reverse order of their start.

mod backoff;
mod handover;
mod job;
mod leaving;
mod output;
mod process;
mod program;
mod shell;

use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::config::companions::{Companion, STOP_TIMEOUT};
use crate::observe::codes;
use crate::observe::status::CompanionStatus;
use crate::os::child;
pub use handover::CompanionHandover;
use job::Now;
pub use leaving::Leaving;
use process::{CompanionState, Process};
pub use program::{ProcessEnvironment, start};

/// All companions of a server.
pub struct Companions {
    /// In the order of the settings.
    list: Vec<Process>,
    /// Companions that a reload has asked to exit.
    former: Vec<RetiringCompanion>,
    /// Companions of the server whose place this one has taken.
    predecessors: Vec<CompanionHandover>,
    /// False while another server may start companions, too.
    may_start: bool,
    surroundings: ProcessEnvironment,
    readers: TaskTracker,
}

/// The consequence of a companion's exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It, or its successor, may be due: [`Companions::look`] returns the time.
    Restart,
    /// The server must stop.
    Fatal,
}

/// A process that a reload has asked to exit.
struct RetiringCompanion {
    settings: Companion,
    leaving: Leaving,
}

impl Companions {
    /// Creates the list; none of them runs yet.
    pub fn new(settings: &[Companion], surroundings: ProcessEnvironment) -> Self {
        Self {
            list: settings.iter().cloned().map(Process::new).collect(),
            former: Vec::new(),
            predecessors: Vec::new(),
            may_start: true,
            surroundings,
            readers: TaskTracker::new(),
        }
    }

    /// Starts those that are due, successors only if they `may_succeed`, and kills those whose
    /// deadline has passed. Returns the time of the next check.
    pub fn look(&mut self, now: Instant, may_succeed: bool) -> Option<Instant> {
        for former in &mut self.former {
            if former.leaving.is_late(now) {
                former.kill();
            }
        }
        let due = match self.may_start {
            true => self.start_due(now, may_succeed),
            false => None,
        };
        let former = self.former.iter();
        let deadlines = former.filter_map(|former| former.leaving.deadline());
        deadlines.chain(due).min()
    }

    fn start_due(&mut self, now: Instant, may_succeed: bool) -> Option<Instant> {
        let clock = Now {
            instant: now,
            ..Now::of_this_process()
        };
        let mut next = None;
        let mut at =
            |time: Instant| next = Some(next.map_or(time, |earlier: Instant| earlier.min(time)));
        for process in &mut self.list {
            if may_succeed
                && process.state == CompanionState::Succeeding
                && has_room(&process.settings, &self.former, &self.predecessors)
            {
                process.state = CompanionState::Waiting { until: now };
            }
            let is_waited_for = match process.state {
                CompanionState::Waiting { until } => until <= now,
                _ => {
                    let has_room =
                        |settings: &_| has_room(settings, &self.former, &self.predecessors);
                    may_succeed && process.is_due(has_room, clock)
                }
            };
            if is_waited_for {
                process.start(&self.surroundings, &self.readers, now);
            }
            if let Some(time) = process.job.as_ref().and_then(|job| job.look_at(clock)) {
                at(time);
            }
            if let CompanionState::Waiting { until } = process.state {
                at(until);
            }
        }
        next
    }

    /// Follows these settings from now on, with the current code.
    pub fn follow(
        &mut self,
        settings: &[Companion],
        surroundings: ProcessEnvironment,
        now: Instant,
    ) {
        let is_elsewhere = self.surroundings != surroundings;
        self.surroundings = surroundings;
        let mut before = std::mem::take(&mut self.list);
        for settings in settings {
            let same = before
                .iter()
                .position(|process| process.settings.name == settings.name)
                .map(|at| before.remove(at));
            let mut process = match same {
                Some(process) if process.job.is_some() && settings.schedule.is_some() => {
                    process.rescheduled(settings)
                }
                Some(process) if !process.must_restart(settings, is_elsewhere) => process,
                Some(process) => {
                    self.leave(process, settings.stop_timeout, now);
                    Process::succeeding(settings.clone())
                }
                None => Process::succeeding(settings.clone()),
            };
            process.settings = settings.clone();
            self.list.push(process);
        }
        for process in before {
            let stop_timeout = process.settings.stop_timeout;
            self.leave(process, stop_timeout, now);
        }
    }

    fn leave(&mut self, process: Process, stop_timeout: Option<Duration>, now: Instant) {
        if let Some(pid) = process.pid() {
            let companion = &*process.settings.name;
            tracing::info!(companion, pid, "stopping the old companion");
            let deadline = leaving::deadline(now, stop_timeout, None);
            self.former.push(RetiringCompanion {
                leaving: begin(pid, &process.settings, deadline),
                settings: process.settings,
            });
        }
    }

    /// Handles the exit of a process. `None`: it is not a companion.
    pub fn ended(&mut self, pid: u32, status: i32, now: Instant) -> Option<Ended> {
        let running = self
            .list
            .iter_mut()
            .find(|process| process.pid() == Some(pid));
        let Some(process) = running else {
            return self.former_ended(pid).then_some(Ended::Restart);
        };
        let CompanionState::Running { since, .. } = process.state else {
            return None;
        };
        // Kills its background processes too, or two of them would run after a restart.
        child::kill_group(pid);
        if process.job.is_some() {
            process.run_ended(pid, status, now.duration_since(since));
            return Some(Ended::Restart);
        }
        let (companion, reason) = (&*process.settings.name, child::describe_status(status));
        if process.settings.is_essential {
            process.state = CompanionState::Gone;
            tracing::error!(
                code = codes::ESSENTIAL_ENDED,
                companion,
                pid,
                reason,
                "an essential companion has exited"
            );
            return Some(Ended::Fatal);
        }
        if !process.settings.restart.follows(child::exit_code(status)) {
            process.state = CompanionState::Gone;
            match child::exit_code(status) {
                Some(0) => tracing::info!(companion, pid, "companion has ended"),
                _ => {
                    tracing::warn!(
                        code = codes::COMPANION_ENDED,
                        companion,
                        pid,
                        reason,
                        "companion has exited, and is not started again"
                    );
                }
            }
            return Some(Ended::Restart);
        }
        let pause = process.backoff.pause_after(now.duration_since(since));
        process.state = CompanionState::Waiting { until: now + pause };
        tracing::warn!(code = codes::COMPANION_ENDED, companion, pid, reason, again_in = ?pause, "companion has exited");
        Some(Ended::Restart)
    }

    /// `true`: the process was one that a reload has asked to exit.
    fn former_ended(&mut self, pid: u32) -> bool {
        let before = self.former.len();
        self.former.retain_mut(|former| {
            let is_over = former.leaving.ended(pid);
            if is_over {
                let (companion, pid) = (&*former.settings.name, former.leaving.pid());
                tracing::info!(companion, pid, "companion exited as asked");
            }
            !is_over
        });
        self.former.len() < before
    }

    /// Stops them, the last one first. Each may take the time of its settings, all together until
    /// `latest`. `reap` waits for the exit of any child.
    pub async fn stop(&mut self, latest: Instant, mut reap: impl AsyncFnMut() -> Vec<(u32, i32)>) {
        let latest = latest.max(Instant::now() + AT_LEAST);
        for former in &mut self.former {
            former.leaving.hurry(latest);
        }
        for mut process in std::mem::take(&mut self.list).into_iter().rev() {
            let Some(pid) = process.pid() else { continue };
            let companion = &*process.settings.name;
            tracing::info!(companion, pid, "stopping companion");
            let stop_timeout = process.settings.stop_timeout.unwrap_or(STOP_TIMEOUT);
            let deadline = leaving::deadline(Instant::now(), Some(stop_timeout), Some(latest));
            let leaving = begin(pid, &process.settings, deadline);
            process.state = CompanionState::Gone;
            self.former.push(RetiringCompanion {
                settings: process.settings,
                leaving,
            });
            self.until_ended(Some(pid), &mut reap).await;
        }
        // Companions that a reload had asked to exit.
        self.until_ended(None, &mut reap).await;
        // Their last output. A background process may keep the pipe open.
        self.readers.close();
        let _left_behind = tokio::time::timeout(LAST_OUTPUT, self.readers.wait()).await;
    }

    /// Waits for the exit of the companion with this main process, or of all; kills those whose
    /// deadline has passed.
    async fn until_ended(
        &mut self,
        pid: Option<u32>,
        reap: &mut impl AsyncFnMut() -> Vec<(u32, i32)>,
    ) {
        loop {
            let now = Instant::now();
            self.former.retain_mut(|former| {
                let is_late = former.leaving.is_late(now);
                if is_late {
                    former.kill();
                }
                !is_late
            });
            let is_awaited =
                |former: &&RetiringCompanion| pid.is_none_or(|pid| former.leaving.pid() == pid);
            if !self.former.iter().any(|former| is_awaited(&former)) {
                return;
            }
            let deadlines = self
                .former
                .iter()
                .filter_map(|former| former.leaving.deadline());
            let ended = match deadlines.min() {
                // Cancel-safe: what was reaped is handed over at once.
                Some(deadline) => tokio::time::timeout_at(deadline.into(), reap()).await,
                None => Ok(reap().await),
            };
            for (pid, _) in ended.unwrap_or_default() {
                self.former_ended(pid);
            }
        }
    }

    /// Their process groups.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        let former = self.former.iter().map(|former| former.leaving.pid());
        self.list.iter().filter_map(Process::pid).chain(former)
    }

    /// Their status, in the order of the settings.
    pub fn status(&self) -> Vec<CompanionStatus> {
        let now = Now::of_this_process();
        self.list
            .iter()
            .map(|process| process.status(now))
            .collect()
    }

    /// Kills all of them.
    pub fn kill(&mut self) {
        for mut former in self.former.drain(..) {
            former.leaving.kill();
        }
        for process in self.list.drain(..).rev() {
            if let Some(pid) = process.pid() {
                child::kill_group(pid);
            }
        }
    }
}

/// Asks a companion to exit, as its settings say.
fn begin(pid: u32, settings: &Companion, deadline: Option<Instant>) -> Leaving {
    let is_shell = settings.program.stays_in_shell();
    Leaving::begin(pid, is_shell, settings.stop_signal, deadline)
}

/// True if a companion with these settings may start beside those that have not ended.
fn has_room(
    settings: &Companion,
    former: &[RetiringCompanion],
    predecessors: &[CompanionHandover],
) -> bool {
    // A renamed companion is still the same program.
    let own = former.iter().filter(|former| {
        former.settings.name == settings.name || former.settings.program == settings.program
    });
    let others = predecessors.iter().filter(|one| one.precedes(settings));
    let before = own.count() + others.count();
    match settings.overlap {
        true => before < MOST_AT_A_TIME,
        false => before == 0,
    }
}

impl RetiringCompanion {
    fn kill(&mut self) {
        let (companion, pid) = (&*self.settings.name, self.leaving.pid());
        tracing::warn!(companion, pid, "companion did not stop in time: killed");
        self.leaving.kill();
    }
}

/// Least time for all companions when the server stops and its graceful timeout is used up.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Most old processes of one companion beside a new one: each keeps its memory, as generations of
/// workers do.
const MOST_AT_A_TIME: usize = 4;
/// Time to wait for the rest of the companions' output after their exit.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
