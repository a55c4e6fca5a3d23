//! Finds processes that do not do their part, once a second: workers whose end the template
//! does not report, templates that do not fork, workers that do not leave.
//!
//! Looks are counted instead of seconds, so a container that is paused and goes on kills
//! nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::App;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::{child, process, terminal};
use crate::supervisor::generation::Python;

/// How often to look.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Looks at which a worker has gone before its end is taken note of without the template.
const GONE: u32 = 2;
/// Looks for which a template may take to fork a worker: hooks before the fork run meanwhile.
pub(super) const FORK: u32 = 10;
/// Looks that a template may take to answer where it is: longer than [`Starting::stacks`] waits.
///
/// [`Starting::stacks`]: crate::supervisor::starting::Starting::stacks
const ANSWER: u32 = 3;

/// Something that is wrong with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    /// The worker with this process id has ended, and the template does not report it.
    Gone(u32),
    /// The template with this process id was asked for a worker.
    DoesNotFork(u32),
    /// The worker with this process id was asked to leave and runs no request.
    DoesNotLeave(u32),
}

/// Faults of the last look, and at how many in a row each was seen.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    next: Option<Instant>,
    seen: HashMap<Fault, u32>,
    /// Templates that fork no worker, and how many looks ago they were asked where they are.
    asked: HashMap<u32, u32>,
}

impl Liveness {
    /// Takes in the faults of a look; those that have lasted as long as they may.
    fn look(&mut self, faults: Vec<Fault>, leave_within: Duration) -> Vec<Fault> {
        let leave = u32::try_from(leave_within.as_secs()).unwrap_or(u32::MAX);
        self.seen.retain(|fault, _| faults.contains(fault));
        self.asked
            .retain(|pid, _| faults.contains(&Fault::DoesNotFork(*pid)));
        faults.iter().for_each(|fault| {
            *self.seen.entry(*fault).or_default() += 1;
        });
        let is_over = |fault: &Fault| {
            let most = match fault {
                Fault::Gone(_) => GONE,
                Fault::DoesNotFork(_) => FORK,
                Fault::DoesNotLeave(_) => leave.max(1),
            };
            self.seen[fault] > most
        };
        faults.into_iter().filter(is_over).collect()
    }
}

impl App {
    /// Looks, if it is time to; when to look again.
    pub(super) fn check_processes(&mut self, now: Instant) -> Instant {
        if let Some(next) = self.liveness.next.filter(|next| now < *next) {
            return next;
        }
        self.look_at_imports();
        let next = now + EVERY;
        self.liveness.next = Some(next);
        let current = self.plan.current();
        let faults = self
            .generations
            .iter()
            .flat_map(|(number, python)| faults(python, current == Some(*number)))
            .collect();
        for fault in self.liveness.look(faults, self.leave_within) {
            self.remedy(fault);
        }
        next
    }

    /// Asks a template that forks no worker where it is, and kills it when it has had time to answer.
    fn replace_template(&mut self, pid: u32) {
        match self.liveness.asked.get_mut(&pid) {
            Some(&mut ANSWER) => {
                self.liveness.seen.remove(&Fault::DoesNotFork(pid));
                child::kill(pid);
            }
            Some(looks) => *looks += 1,
            None => {
                self.liveness.asked.insert(pid, 1);
                self.ask_template(pid);
            }
        }
    }

    fn remedy(&mut self, fault: Fault) {
        if !matches!(fault, Fault::DoesNotFork(_)) {
            self.liveness.seen.remove(&fault);
        }
        match fault {
            Fault::Gone(pid) => {
                tracing::warn!(
                    pid,
                    "a worker has ended, and its template does not report it"
                );
                // How it ended is lost.
                self.process_ended(pid, 0);
            }
            Fault::DoesNotFork(pid) => {
                self.replace_template(pid);
            }
            Fault::DoesNotLeave(pid) => {
                METRICS.replaced.up("did_not_leave");
                let python = self
                    .generations
                    .values_mut()
                    .find(|python| python.workers.contains_key(&pid));
                if let Some(python) = python {
                    let (worker, _) = python.workers[&pid];
                    tracing::warn!(
                        code = codes::DOES_NOT_EXIT,
                        worker,
                        pid,
                        "the worker does not leave although it runs no request: a thread or an exit hook does not end (--graceful-timeout)"
                    );
                    python.kill(
                        worker,
                        "killed by pyserve: it did not leave (--graceful-timeout)",
                    );
                }
            }
        }
    }
}

fn faults(python: &Python, is_current: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (pid, (worker, _)) in &python.workers {
        if process::has_ended(*pid) {
            faults.push(Fault::Gone(*pid));
        } else if (!is_current || python.generation.is_retiring(*worker))
            && python.generation.is_idle(*worker)
        {
            faults.push(Fault::DoesNotLeave(*pid));
        }
    }
    if let Some(template) = &python.template
        && python.awaits_fork()
        // Else a person debugs a hook.
        && terminal::foreground_group() != Some(template.pid)
    {
        faults.push(Fault::DoesNotFork(template.pid));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_must_last() {
        let mut liveness = Liveness::default();
        let within = Duration::from_secs(3);
        let (gone, stays) = (Fault::Gone(7), Fault::DoesNotLeave(8));
        let mut when = Vec::new();
        for look in 1..=5 {
            for fault in liveness.look(vec![gone, stays], within) {
                when.push((look, fault));
            }
        }
        let first = |fault| when.iter().find(|(_, found)| *found == fault).unwrap().0;
        assert_eq!((first(gone), first(stays)), (3, 4));
    }

    #[test]
    fn a_fault_that_is_over_begins_anew() {
        let mut liveness = Liveness::default();
        let fault = Fault::DoesNotFork(7);
        for _ in 0..FORK {
            assert!(liveness.look(vec![fault], Duration::ZERO).is_empty());
        }
        assert!(liveness.look(vec![], Duration::ZERO).is_empty());
        assert!(liveness.look(vec![fault], Duration::ZERO).is_empty());
    }
}
