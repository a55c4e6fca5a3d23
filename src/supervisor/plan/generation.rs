//! The plan's state of one generation: its template and its workers, and the actions that they
//! need.

use std::time::{Duration, Instant};

use super::promotion::Promotion;
use super::{Action, GenerationSpec};

/// A worker that lives this long is not part of a crash loop.
const LONG_LIFE: Duration = Duration::from_secs(1);
/// Deaths in quick succession without a pause; the next ones cause one.
const FREE_DEATHS: u32 = 3;
/// The first pause between restarts; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Workers that may die before the first of their generation is ready; then the generation fails.
const BOOT_ATTEMPTS: u32 = 3;
/// Time for which a worker that was asked to leave delays the replacement of others.
pub(super) const RETIRING_ALONE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u32,
    pub(super) role: Role,
    pub(super) template: TemplatePhase,
    pub(super) recipe: GenerationSpec,
    pub(super) workers: Vec<WorkerPhase>,
    pub(super) refork: Promotion,
    /// Deaths in quick succession, of workers and templates.
    pub(super) quick_deaths: u32,
    /// Rounds of failed forks since the last fork.
    pub(super) failed_forks: u32,
    pub(super) ever_ready: bool,
    /// True if it has reported that it can take over.
    pub(super) is_prepared: bool,
    /// True if its start was delayed.
    pub(super) has_waited: bool,
    /// Time at which another one took over.
    pub(super) leaves_since: Option<Instant>,
    pub(super) no_fork_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Coming,
    Current,
    Leaving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplatePhase {
    Absent,
    Starting,
    Loaded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerPhase {
    Empty,
    Forking,
    Starting,
    Ready { since: Instant, worn: bool },
    Retiring { since: Instant },
}

impl Generation {
    /// True if it is coming and its template is to be started.
    pub(super) fn is_untouched(&self) -> bool {
        self.role == Role::Coming && self.template == TemplatePhase::Absent
    }

    /// Others must leave first, until `time` at the latest.
    pub(super) fn wait(&mut self, time: Instant, actions: &mut Vec<Action>) {
        if !self.has_waited {
            self.has_waited = true;
            actions.push(Action::Wait);
        }
        actions.push(Action::WakeAt(time));
    }

    pub(super) fn go_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.retire_surplus(now, actions);
        if self.awaits_adoption(actions) {
            return;
        }
        if let Some(time) = self.no_fork_before.filter(|time| *time > now) {
            actions.push(Action::WakeAt(time));
            return;
        }
        self.no_fork_before = None;
        match self.template {
            TemplatePhase::Absent => {
                self.template = TemplatePhase::Starting;
                actions.push(Action::StartTemplate(self.number, self.recipe.preload));
            }
            TemplatePhase::Starting => {}
            TemplatePhase::Loaded => self.fork_missing(now, actions),
        }
    }

    fn fork_missing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let live = self
            .count(|worker| !matches!(worker, WorkerPhase::Empty | WorkerPhase::Retiring { .. }));
        let mut missing = self.recipe.workers.saturating_sub(live);
        if live == self.recipe.workers && self.count(is_due_for_recycling) > 0 {
            // Its successor starts first, but only one at a time.
            match self.wait_for_the_retiring(now) {
                Some(until) => actions.push(Action::WakeAt(until)),
                None => missing = 1,
            }
        }
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if missing > 0 && *worker == WorkerPhase::Empty {
                *worker = WorkerPhase::Forking;
                self.refork.born(number as u32);
                missing -= 1;
                actions.push(Action::Fork(self.number, number as u32));
            }
        }
    }

    /// Time until which no other worker may be replaced.
    fn wait_for_the_retiring(&self, now: Instant) -> Option<Instant> {
        let mut until = self.workers.iter().filter_map(|worker| match worker {
            WorkerPhase::Retiring { since } => Some(*since + RETIRING_ALONE),
            _ => None,
        });
        until.find(|until| *until > now)
    }

    /// Asks workers to leave if more are ready than the target: first those due for recycling.
    fn retire_surplus(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.count(is_ready) > self.recipe.workers {
            let worn = self
                .workers
                .iter()
                .position(|worker| is_due_for_recycling(*worker));
            let last = self.workers.iter().rposition(|worker| is_ready(*worker));
            let Some(worker) = worn.or(last) else { return };
            self.workers[worker] = WorkerPhase::Retiring { since: now };
            actions.push(self.dismiss(worker as u32));
        }
    }

    /// `true`: none of them was ever ready, and the attempts are used up.
    pub(super) fn worker_died(&mut self, worker: u32, now: Instant) -> bool {
        let was = self.worker(worker);
        self.set(worker, WorkerPhase::Empty);
        self.no_candidate(worker);
        match was {
            WorkerPhase::Empty | WorkerPhase::Retiring { .. } => false,
            WorkerPhase::Ready { since, .. } if now.duration_since(since) >= LONG_LIFE => {
                self.quick_deaths = 0;
                false
            }
            _ => self.died_quickly(now),
        }
    }

    pub(super) fn died_quickly(&mut self, now: Instant) -> bool {
        self.quick_deaths += 1;
        if self.quick_deaths > FREE_DEATHS {
            self.pause(now);
        }
        let give_up = !self.ever_ready || self.role == Role::Coming;
        give_up && self.quick_deaths >= BOOT_ATTEMPTS
    }

    /// A fork failed; several at a time are one attempt. `true`: none of its workers was ever
    /// ready, and the attempts are used up.
    pub(super) fn fork_failed(&mut self, now: Instant) -> bool {
        if self.no_fork_before.is_some_and(|until| until > now) {
            return false;
        }
        self.no_fork_before = Some(now + pause_after(self.failed_forks));
        self.failed_forks += 1;
        let give_up = !self.ever_ready || self.role == Role::Coming;
        give_up && self.failed_forks >= BOOT_ATTEMPTS
    }

    fn pause(&mut self, now: Instant) {
        let doublings = self.quick_deaths.saturating_sub(FREE_DEATHS + 1);
        self.no_fork_before = Some(now + pause_after(doublings));
    }

    /// Forks that were requested from a template that has exited will not happen.
    pub(super) fn forget_forks(&mut self) {
        for worker in &mut self.workers {
            if *worker == WorkerPhase::Forking {
                *worker = WorkerPhase::Empty;
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.count(is_ready) >= self.recipe.workers
    }

    /// True if it is coming and has just become able to take over.
    pub(super) fn gets_prepared(&mut self) -> bool {
        let is_news = self.role == Role::Coming && !self.is_prepared && self.is_complete();
        self.is_prepared |= is_news;
        is_news
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count(|worker| worker != WorkerPhase::Empty) == 0
    }

    pub(super) fn count(&self, which: impl Fn(WorkerPhase) -> bool) -> u32 {
        self.workers.iter().filter(|worker| which(**worker)).count() as u32
    }

    pub(super) fn worker(&self, worker: u32) -> WorkerPhase {
        let slot = self.workers.get(worker as usize);
        slot.copied().unwrap_or(WorkerPhase::Empty)
    }

    pub(super) fn set(&mut self, worker: u32, state: WorkerPhase) {
        if let Some(slot) = self.workers.get_mut(worker as usize) {
            *slot = state;
        }
    }
}

pub(super) fn is_ready(worker: WorkerPhase) -> bool {
    matches!(worker, WorkerPhase::Ready { .. })
}

fn is_due_for_recycling(worker: WorkerPhase) -> bool {
    matches!(worker, WorkerPhase::Ready { worn: true, .. })
}

/// The pause before the next fork, which doubles with each attempt.
fn pause_after(doublings: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.pow(doublings.min(10))).min(LONGEST_PAUSE)
}
