//! One companion of the settings: its process or the time of its next start.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::job::{Job, LastRun, Now};
use super::program::{ProcessEnvironment, start};
use crate::config::companions::Companion;
use crate::config::schedule::Schedule;
use crate::observe::codes;
use crate::observe::status::{CompanionStatus, LastRunStatus};
use crate::os::child;

/// A companion of the settings.
pub(super) struct Process {
    pub settings: Companion,
    pub state: CompanionState,
    pub backoff: Backoff,
    /// The times of a scheduled one.
    pub job: Option<Job>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompanionState {
    Running {
        pid: u32,
        since: Instant,
    },
    Waiting {
        until: Instant,
    },
    /// Starts when its predecessor has exited.
    Succeeding,
    /// Starts at its next time.
    Scheduled,
    Gone,
}

impl Process {
    pub(super) fn new(settings: Companion) -> Self {
        let now = Now::of_this_process();
        let schedule = settings.schedule.as_ref();
        let job = schedule.map(|schedule| Job::new(schedule, now));
        Self {
            state: match job {
                Some(_) => CompanionState::Scheduled,
                None => CompanionState::Waiting { until: now.instant },
            },
            settings,
            backoff: Backoff::default(),
            job,
        }
    }

    pub(super) fn succeeding(settings: Companion) -> Self {
        let new = Self::new(settings);
        match new.job {
            Some(_) => new,
            None => Self {
                state: CompanionState::Succeeding,
                ..new
            },
        }
    }

    /// A scheduled companion after a reload: a run goes on, with its old program.
    pub(super) fn rescheduled(mut self, settings: &Companion) -> Self {
        if let Some(schedule) = &settings.schedule
            && self.settings.schedule.as_ref() != Some(schedule)
        {
            let last = self.job.take().and_then(|job| job.last);
            let mut job = Job::new(schedule, Now::of_this_process());
            job.last = last;
            self.job = Some(job);
        }
        self
    }

    /// True if a run begins now. One that is due while the one before still works is skipped.
    pub(super) fn is_due(&mut self, has_room: impl FnOnce(&Companion) -> bool, now: Now) -> bool {
        let (Some(job), Some(schedule)) = (&mut self.job, &self.settings.schedule) else {
            return false;
        };
        if !job.is_due(schedule, now) {
            return false;
        }
        let is_free = self.state == CompanionState::Scheduled && has_room(&self.settings);
        if !is_free {
            let companion = &*self.settings.name;
            tracing::warn!(
                companion,
                "scheduled companion still runs: this run is skipped"
            );
        }
        is_free
    }

    pub(super) fn status(&self, now: Now) -> CompanionStatus {
        let schedule = self.settings.schedule.as_ref();
        let written = |time: Timestamp| match schedule {
            Some(Schedule::Cron(cron)) => cron.local(time),
            _ => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        let job = self.job.as_ref();
        CompanionStatus {
            name: self.settings.name.clone(),
            pid: self.pid(),
            schedule: schedule.map(ToString::to_string),
            next_run: job.and_then(|job| job.next(now)).map(written),
            last_run: job.and_then(|job| job.last).map(|last| LastRunStatus {
                began: written(last.began),
                took: last.ended.map(|(took, _)| took.as_secs_f64()),
                result: last.ended.map(|(_, status)| child::describe_status(status)),
            }),
        }
    }

    pub(super) fn run_ended(&mut self, pid: u32, status: i32, took: Duration) {
        self.state = CompanionState::Scheduled;
        if let Some(last) = self.job.as_mut().and_then(|job| job.last.as_mut()) {
            last.ended = Some((took, status));
        }
        let (companion, reason) = (&*self.settings.name, child::describe_status(status));
        match child::exit_code(status) {
            Some(0) => tracing::info!(companion, pid, ?took, "scheduled companion has ended"),
            _ => {
                tracing::warn!(
                    code = codes::COMPANION_ENDED,
                    companion,
                    pid,
                    reason,
                    ?took,
                    "scheduled companion has failed"
                );
            }
        }
    }

    /// True if a reload with these settings restarts it.
    pub(super) fn must_restart(&self, settings: &Companion, is_elsewhere: bool) -> bool {
        settings.restart_on_reload
            || is_elsewhere
            || self.settings.program != settings.program
            || self.settings.run_as != settings.run_as
            || self.job.is_some() != settings.schedule.is_some()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.state {
            CompanionState::Running { pid, .. } => Some(pid),
            CompanionState::Waiting { .. }
            | CompanionState::Succeeding
            | CompanionState::Scheduled
            | CompanionState::Gone => None,
        }
    }

    pub(super) fn start(
        &mut self,
        surroundings: &ProcessEnvironment,
        readers: &TaskTracker,
        now: Instant,
    ) {
        let companion = &*self.settings.name;
        let run_as = self.settings.run_as.as_ref();
        let started = start(&self.settings.program, surroundings, run_as);
        if let Some(job) = &mut self.job {
            job.last = Some(LastRun {
                began: Now::of_this_process().wall,
                ended: None,
            });
        }
        match started {
            Ok((pid, output)) => {
                tracing::info!(companion, pid, "companion started");
                readers.spawn(output.log(self.settings.name.clone()));
                self.state = CompanionState::Running { pid, since: now };
            }
            Err(error) if self.job.is_some() => {
                let program = &self.settings.program;
                tracing::error!(code = codes::COMPANION_START, companion, %program, %error, "cannot start scheduled companion");
                self.state = CompanionState::Scheduled;
            }
            Err(error) => {
                let pause = self.backoff.pause_after(Duration::ZERO);
                let program = &self.settings.program;
                tracing::error!(code = codes::COMPANION_START, companion, %program, %error, again_in = ?pause, "cannot start companion");
                self.state = CompanionState::Waiting { until: now + pause };
            }
        }
    }
}
