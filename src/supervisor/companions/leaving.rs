//! A program that was asked to end: SIGTERM to its main process, SIGKILL to its process group.
//!
//! The main process alone gets SIGTERM, as under systemd with `KillMode=mixed`: Celery, gunicorn and
//! the like finish what they hold and end their own children, which die of a SIGTERM at once. It is
//! sent once, because a second one makes Celery drop its tasks.
//!
//! A script, and a line that the shell has to run ([`super::shell`]), have other main processes: the
//! shell dies of SIGTERM at once, its children become ours (we are a subreaper), and they get SIGTERM
//! in turn. The same goes for what any other main process leaves behind when it has ended. Those
//! behind a `|` see the end of their input, so they are asked only when nothing else is left.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::os::{child, process};

/// A program on its way out.
#[derive(Debug)]
pub struct Leaving {
    /// The process that was started, and the number of its process group.
    pid: u32,
    is_shell: bool,
    /// Processes that got SIGTERM and have not ended.
    asked: HashSet<u32>,
    /// When the group gets SIGKILL; `None`: it may take as long as it needs.
    deadline: Option<Instant>,
}

impl Leaving {
    /// Sends SIGTERM. `is_shell`: the process is a shell of ours that runs the program.
    pub fn begin(pid: u32, is_shell: bool, deadline: Option<Instant>) -> Self {
        child::terminate(pid);
        Self {
            pid,
            is_shell,
            asked: HashSet::from([pid]),
            deadline,
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When the group gets SIGKILL.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Brings the deadline forward to this time, if it is later.
    pub fn hurry(&mut self, latest: Instant) {
        self.deadline = Some(
            self.deadline
                .map_or(latest, |deadline| deadline.min(latest)),
        );
    }

    /// A child of ours has ended. `true`: nothing is left that may still finish its work.
    pub fn ended(&mut self, pid: u32) -> bool {
        self.asked.remove(&pid);
        // As long as the main process lives, the others of its group are its own affair.
        if self.is_shell || !self.asked.contains(&self.pid) {
            self.ask_orphans();
        }
        if self.asked.is_empty() {
            self.kill();
        }
        self.asked.is_empty()
    }

    /// True if its time is up.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends everything in the group at once.
    pub fn kill(&mut self) {
        child::kill_group(self.pid);
        self.deadline = None;
    }

    fn ask_orphans(&mut self) {
        // The shell itself is asked already.
        let orphans = process::children_in_group(self.pid).into_iter();
        let orphans = orphans.filter(|pid| !self.asked.contains(pid));
        let (behind_pipes, mut others): (Vec<_>, Vec<_>) =
            orphans.partition(|pid| process::reads_from_pipe(*pid));
        if others.is_empty() && self.asked.is_empty() {
            others = behind_pipes;
        }
        for pid in others {
            child::terminate(pid);
            self.asked.insert(pid);
        }
    }
}

/// When a program that is asked to end now gets SIGKILL: after its own time, but not later than `latest`.
pub fn deadline(
    now: Instant,
    stop_timeout: Option<Duration>,
    latest: Option<Instant>,
) -> Option<Instant> {
    let own = stop_timeout.map(|time| now + time);
    match (own, latest) {
        (Some(own), Some(latest)) => Some(own.min(latest)),
        (own, latest) => own.or(latest),
    }
}
