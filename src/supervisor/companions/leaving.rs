//! Stops a program: SIGTERM, or the signal of its settings, to its main process, SIGKILL to its process group.
//!
//! Only the main process gets SIGTERM, as under systemd with `KillMode=mixed`: Celery, gunicorn and
//! the like finish their work and stop their own children, which die of a SIGTERM at once. It is
//! sent once, because a second one makes Celery drop its tasks.
//!
//! A script, and a line that needs the shell ([`super::shell`]), are different: the shell dies of
//! SIGTERM at once, its children are reparented to us (we are a subreaper), and they get SIGTERM in
//! turn. The same applies to children left by any other main process. Processes behind a `|` see
//! end of file, so they are asked only when nothing else is left.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::os::child::StopSignal;
use crate::os::{child, process};

/// A program that is stopping.
#[derive(Debug)]
pub struct Leaving {
    /// The process that was started; its id is also the id of its process group.
    pid: u32,
    is_shell: bool,
    signal: StopSignal,
    /// Processes that got the signal and have not exited.
    asked: HashSet<u32>,
    /// Time of SIGKILL to the group; `None`: never.
    deadline: Option<Instant>,
}

impl Leaving {
    /// Sends the signal. `is_shell`: the process is a shell that we started to run the program.
    pub fn begin(pid: u32, is_shell: bool, signal: StopSignal, deadline: Option<Instant>) -> Self {
        child::ask_to_stop(pid, signal);
        Self {
            pid,
            is_shell,
            signal,
            asked: HashSet::from([pid]),
            deadline,
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Time of SIGKILL to the group.
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

    /// Handles the exit of a child. `true`: no process is left that may still finish its work.
    pub fn ended(&mut self, pid: u32) -> bool {
        self.asked.remove(&pid);
        // While the main process lives, it manages the other processes of its group.
        if self.is_shell || !self.asked.contains(&self.pid) {
            self.ask_orphans();
        }
        if self.asked.is_empty() {
            self.kill();
        }
        self.asked.is_empty()
    }

    /// True if the deadline has passed.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Kills the process group.
    pub fn kill(&mut self) {
        child::kill_group(self.pid);
        self.deadline = None;
    }

    fn ask_orphans(&mut self) {
        // The shell itself has got the signal already.
        let orphans = process::children_in_group(self.pid).into_iter();
        let orphans = orphans.filter(|pid| !self.asked.contains(pid));
        let (behind_pipes, mut others): (Vec<_>, Vec<_>) =
            orphans.partition(|pid| process::reads_from_pipe(*pid));
        if others.is_empty() && self.asked.is_empty() {
            others = behind_pipes;
        }
        for pid in others {
            child::ask_to_stop(pid, self.signal);
            self.asked.insert(pid);
        }
    }
}

/// Time of SIGKILL for a program that is stopped now: its own timeout, but not later than `latest`.
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
