//! Finds faulty processes, once a second: workers whose exit the template does not report,
//! templates that do not fork, workers that do not leave.
//!
//! Counts checks instead of seconds, so that nothing is killed when a paused container resumes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::App;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::{process, terminal};
use crate::supervisor::generation::{KillReason, Python};

/// Interval of the checks.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Checks at which a worker is missing before its exit is handled without the template.
const GONE: u32 = 2;
/// Checks during which a template may fork a worker: hooks before the fork run meanwhile.
pub(super) const FORK: u32 = 10;
/// Checks during which a template may report its stack: longer than [`Starting::stacks`] waits.
///
/// [`Starting::stacks`]: crate::supervisor::starting::Starting::stacks
const ANSWER: u32 = 3;

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
    /// Templates that fork no worker, and how many looks ago they were asked where they are.
    asked: HashMap<u32, u32>,
}

impl Liveness {
    /// Takes the faults of one check; returns those that have exceeded their limit.
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
            self.remedy(fault);
        }
        next
    }

    /// Asks a template that forks no worker where it is, and kills it when it has had time to answer.
    fn replace_template(&mut self, pid: u32) {
        match self.liveness.asked.get_mut(&pid) {
            Some(&mut ANSWER) => {
                self.liveness.seen.remove(&Fault::DoesNotFork(pid));
                let mut all = self.generations.values_mut();
                let is = |python: &&mut Python| {
                    let template = python.template.as_ref();
                    template.is_some_and(|template| template.pid == pid)
                };
                if let Some(python) = all.find(is) {
                    python.kill_template(KillReason::Fault(
                        "killed by pyserve: it forked no worker for 10 s",
                    ));
                }
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
                    "a worker has exited, and its template does not report it"
                );
                self.process_ended(pid, None);
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
                        "the idle worker does not exit: a thread or an exit hook does not end (--graceful-timeout)"
                    );
                    python.kill_leaving(
                        worker,
                        KillReason::Fault(
                            "killed by pyserve: it did not exit (--graceful-timeout)",
                        ),
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
        && python.awaits_fork(template.pid)
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
