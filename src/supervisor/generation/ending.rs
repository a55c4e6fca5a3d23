//! Kills processes of a generation, and keeps the reason of each kill for the log.

use super::Python;
use crate::os::{child, process_tree, terminal};

/// The reason for which a process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The process was not needed any more: nothing is wrong with it.
    Unneeded(&'static str),
    /// The process misbehaved.
    Fault(&'static str),
}

/// The server stops before a worker is ready.
const NOT_READY: KillReason =
    KillReason::Unneeded("killed by pyserve: it was not ready when the server stopped");
/// The server stops and needs no further worker.
const NO_MORE_WORKERS: KillReason =
    KillReason::Unneeded("killed by pyserve: the server stops and needs no further worker");

impl Python {
    /// Kills a worker, and keeps the reason.
    pub fn kill(&mut self, worker: u32, why: KillReason) {
        if let Some(pid) = self.pid(worker) {
            self.killed.insert(pid, why);
            child::kill(pid);
        }
    }

    /// Kills a worker that does not exit, and keeps the reason: with its child processes, for which
    /// it may be waiting.
    pub fn kill_leaving(&mut self, worker: u32, why: KillReason) {
        if let Some(pid) = self.pid(worker) {
            self.killed.insert(pid, why);
            process_tree::kill_in_session(pid);
        }
    }

    /// Ends the queue because the server stops. Workers that are not ready hold no request, and their
    /// import or hook may hang, as may a hook in the template: these processes are killed with all
    /// that they have started.
    pub fn close(&mut self) {
        self.generation.close();
        self.is_closed = true;
        self.kill_starting();
    }

    /// Kills workers that are not ready, and a template that forks a worker, with their descendants.
    /// Ready workers finish their requests.
    pub(super) fn kill_starting(&mut self) {
        let (ready, starting): (Vec<_>, Vec<_>) = self
            .workers
            .iter()
            .map(|(pid, (worker, _))| (*pid, *worker))
            .partition(|(_, worker)| self.generation.is_ready(*worker));
        let mut roots: Vec<_> = starting.into_iter().map(|(pid, _)| pid).collect();
        self.killed
            .extend(roots.iter().map(|pid| (*pid, NOT_READY)));
        for template in self.template.iter().chain(&self.former) {
            if self.awaits_fork(template.pid) {
                self.killed.insert(template.pid, NO_MORE_WORKERS);
                roots.push(template.pid);
            }
        }
        if roots.is_empty() {
            return;
        }
        let ready = ready.into_iter().map(|(pid, _)| pid).collect();
        process_tree::kill(roots, &ready);
        // Only the group identifies processes whose parent has exited. Until a worker was ready, all
        // processes in it belong to imports and hooks.
        if !self.has_served {
            self.kill_all(NO_MORE_WORKERS);
        }
    }

    /// Kills the template, and keeps the reason.
    pub fn kill_template(&mut self, why: KillReason) {
        if let Some(template) = &self.template {
            self.killed.insert(template.pid, why);
            child::kill(template.pid);
        }
    }

    /// Stops the template, which must not fork, and the processes left in its group.
    pub fn refuse(&mut self) {
        self.refused = self.template.take();
        if let Some(template) = &self.refused {
            child::kill_group(template.pid);
        }
    }

    /// Stops the template of a generation without workers. One that still imports the application
    /// does not read its socket, and the processes that it has started belong to it.
    pub fn end_template(&self) {
        match &self.template {
            Some(template) if self.is_importing => child::kill_group(template.pid),
            Some(template) => child::kill(template.pid),
            None => {}
        }
    }

    /// Kills template, workers, and processes of the application in their groups.
    pub fn kill_all(&mut self, why: KillReason) {
        let template = self.template.as_ref().map(|template| template.pid);
        let processes = self.workers.keys().copied().chain(template);
        for pid in processes {
            self.killed.entry(pid).or_insert(why);
        }
        for group in self.groups() {
            child::kill_group(group);
            terminal::take_back(group);
        }
    }
}
