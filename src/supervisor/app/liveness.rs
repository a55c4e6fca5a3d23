//! Finds faulty processes, once a second: workers whose exit the template does not report,
//! templates that do not fork, workers that do not leave.
//!
//! Counts checks instead of seconds, so that nothing is killed when a paused container resumes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::App;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::{child, process};
use crate::supervisor::generation::Python;

/// Interval of the checks.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Checks at which a worker is missing before its exit is handled without the template.
const GONE: u32 = 2;
/// Checks during which a template may fork a worker: hooks before the fork run meanwhile.
const FORK: u32 = 10;

/// A fault of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    /// The worker with this process id has ended, and the template does not report it.
    Gone(u32),
    /// The template with this process id was asked for a worker.
    DoesNotFork(u32),
    /// The worker with this process id was asked to leave and runs no request.
    DoesNotLeave(u32),
}

/// Faults of the last check, and the number of checks in a row that found each.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    next: Option<Instant>,
    seen: HashMap<Fault, u32>,
}

impl Liveness {
    /// Takes the faults of one check; returns those that have exceeded their limit.
    fn look(&mut self, faults: Vec<Fault>, leave_within: Duration) -> Vec<Fault> {
        let leave = u32::try_from(leave_within.as_secs()).unwrap_or(u32::MAX);
        self.seen.retain(|fault, _| faults.contains(fault));
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
    /// Checks the processes if a check is due; returns the time of the next one.
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
            self.liveness.seen.remove(&fault);
            self.remedy(fault);
        }
        next
    }

    fn remedy(&mut self, fault: Fault) {
        match fault {
            Fault::Gone(pid) => {
                tracing::warn!(
                    pid,
                    "a worker has exited, and its template does not report it"
                );
                // The exit status is lost.
                self.process_ended(pid, 0);
            }
            Fault::DoesNotFork(pid) => {
                tracing::error!(
                    code = codes::TEMPLATE_HANGS,
                    pid,
                    "the template forks no worker for {FORK} s: it is stopped, or a hook before the fork hangs; replacing it"
                );
                child::kill(pid);
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
                        "the idle worker does not exit: a thread or an exit hook does not end (--graceful-timeout)"
                    );
                    python.kill(
                        worker,
                        "killed by pyserve: it did not exit (--graceful-timeout)",
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
    fn a_fault_that_has_ended_is_counted_from_zero_again() {
        let mut liveness = Liveness::default();
        let fault = Fault::DoesNotFork(7);
        for _ in 0..FORK {
            assert!(liveness.look(vec![fault], Duration::ZERO).is_empty());
        }
        assert!(liveness.look(vec![], Duration::ZERO).is_empty());
        assert!(liveness.look(vec![fault], Duration::ZERO).is_empty());
    }
}
