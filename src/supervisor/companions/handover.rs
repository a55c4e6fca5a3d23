//! Companions at an upgrade: the old server stops its own, as at a reload; the new server starts each when
//! that of the old one has ended, or at once where both may run.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::job::{Job, JobState, Now};
use super::process::{CompanionState, Process};
use super::{Companions, RetiringCompanion};
use crate::config::companions::{Companion, Program};

/// A companion of the server that is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompanionHandover {
    name: String,
    program: Vec<String>,
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// The times of a scheduled one.
    job: Option<JobHandover>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct JobHandover {
    schedule: String,
    state: JobState,
}

impl CompanionHandover {
    fn of(process: &Process) -> Self {
        let job = process.job.as_ref().zip(process.settings.schedule.as_ref());
        Self {
            name: process.settings.name.clone(),
            program: words(&process.settings.program),
            pid: process.pid(),
            job: job.map(|(job, schedule)| JobHandover {
                schedule: schedule.to_string(),
                state: job.state(Now::of_this_process()),
            }),
        }
    }

    fn of_retiring(former: &RetiringCompanion) -> Self {
        Self {
            name: former.settings.name.clone(),
            program: words(&former.settings.program),
            pid: Some(former.leaving.pid()),
            job: None,
        }
    }

    /// True if a companion with these settings is the same one. A renamed companion is still the same
    /// program.
    pub(super) fn precedes(&self, settings: &Companion) -> bool {
        self.name == settings.name || self.program == words(&settings.program)
    }
}

impl Companions {
    /// Starts none until [`Companions::go_on`].
    pub fn pause(&mut self) {
        self.may_start = false;
    }

    /// Starts those that are due from now on.
    pub fn go_on(&mut self) {
        self.may_start = true;
    }

    /// All companions, for the server that takes this one's place.
    pub fn to_hand_over(&self) -> Vec<CompanionHandover> {
        let former = self.former.iter().map(CompanionHandover::of_retiring);
        let own = self.list.iter().map(CompanionHandover::of);
        // The companions of a server before this one may still work.
        let before = self.predecessors.iter().cloned();
        own.chain(former).chain(before).collect()
    }

    /// Goes on as the successor of these.
    pub fn take_over(&mut self, all: Vec<CompanionHandover>) {
        for process in &mut self.list {
            let Some(schedule) = &process.settings.schedule else {
                process.state = CompanionState::Succeeding;
                continue;
            };
            let same = all.iter().find(|one| one.name == process.settings.name);
            let job = same.and_then(|one| one.job.as_ref());
            if let Some(job) = job.filter(|job| job.schedule == schedule.to_string()) {
                let now = Now::of_this_process();
                process.job = Some(Job::resumed(schedule, &job.state, now));
            }
        }
        self.predecessors = all.into_iter().filter(|one| one.pid.is_some()).collect();
        self.may_start = true;
    }

    /// The companion of the former server with this process has ended; with `None`, all have.
    pub fn predecessor_ended(&mut self, pid: Option<u32>) {
        self.predecessors
            .retain(|one| pid.is_some() && one.pid != pid);
    }

    /// Another server has taken over: all are asked to end, without a limit unless the settings have one.
    /// A scheduled run works to its end.
    pub fn leave_to_successor(&mut self, now: Instant) {
        self.may_start = false;
        for process in std::mem::take(&mut self.list) {
            if process.job.is_some() && process.pid().is_some() {
                self.list.push(process);
                continue;
            }
            let stop_timeout = process.settings.stop_timeout;
            self.leave(process, stop_timeout, now);
        }
    }

    /// A run of the former server has ended.
    pub fn run_of_predecessor_ended(&mut self, name: &str, took: Duration, status: i32) {
        let mut all = self.list.iter_mut();
        let process = all.find(|process| process.settings.name == name);
        let job = process.and_then(|process| process.job.as_mut());
        if let Some(last) = job.and_then(|job| job.last.as_mut()) {
            last.ended.get_or_insert((took, status));
        }
    }

    /// Scheduled runs that have ended since this server has handed over: name, duration and wait status.
    pub fn take_finished_runs(&mut self) -> Vec<(String, Duration, i32)> {
        let (working, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list)
            .into_iter()
            .partition(|process| process.pid().is_some());
        self.list = working;
        let ended = over.into_iter().filter_map(|process| {
            let (took, status) = process.job?.last?.ended?;
            Some((process.settings.name, took, status))
        });
        ended.collect()
    }

    /// True while a process of a companion exists.
    pub fn are_left(&self) -> bool {
        !self.former.is_empty() || self.list.iter().any(|process| process.pid().is_some())
    }
}

fn words(program: &Program) -> Vec<String> {
    match program {
        Program::Shell(line) => vec![line.clone()],
        // The empty word distinguishes a program without arguments from a line.
        Program::Words(words) => std::iter::once(String::new())
            .chain(words.iter().cloned())
            .collect(),
    }
}
