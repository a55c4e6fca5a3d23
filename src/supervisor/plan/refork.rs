//! Selects the worker that becomes the template of its generation: part of the plan, and pure.
//!
//! ```text
//! Possible -> Chosen -> Asked -> Willing -> Done     once; a template that dies: Possible again
//!                         \---------\-----> Refused  for good
//! ```
//!
//! The chosen worker counts as due for recycling: its successor comes first, from the previous
//! template. Then it is asked. When it agrees, and the previous template has no fork under way, it
//! takes over. All workers that were forked earlier are then stale, and replaced like those due for
//! recycling.

use super::Action;
use super::generation::{Generation, Role, TemplatePhase, WorkerPhase};
use super::promotion::Stage;
use pyserve_wire::control::Preload;

impl Generation {
    pub(super) fn may_refork(&self) -> bool {
        self.refork.stage == Stage::Possible && self.recipe.preload != Preload::No
    }

    /// This worker has warmed up.
    pub(super) fn choose(&mut self, worker: u32) {
        if let WorkerPhase::Ready { since, worn: false } = self.worker(worker)
            && self.may_refork()
            && self.role == Role::Current
        {
            self.refork.stage = Stage::Chosen(worker);
            self.set(worker, WorkerPhase::Ready { since, worn: true });
        }
    }

    /// The action that makes a worker leave.
    pub(super) fn dismiss(&mut self, worker: u32) -> Action {
        if self.refork.stage == Stage::Chosen(worker) {
            self.refork.stage = Stage::Asked(worker);
            return Action::Promote(self.number, worker);
        }
        Action::Retire(self.number, worker)
    }

    pub(super) fn promoted(&mut self, worker: u32) {
        if self.refork.stage == Stage::Asked(worker) {
            self.refork.stage = Stage::Willing(worker);
        }
    }

    /// This worker has exited, or refuses. One that exits before it was asked leaves the choice
    /// open.
    pub(super) fn no_candidate(&mut self, worker: u32) {
        match self.refork.stage {
            Stage::Chosen(chosen) if chosen == worker => self.refork.stage = Stage::Possible,
            Stage::Asked(asked) | Stage::Willing(asked) if asked == worker => {
                self.refork.stage = Stage::Refused;
            }
            _ => {}
        }
    }

    /// The template has exited. If it was a worker before, another may become the template later.
    pub(super) fn no_template(&mut self) {
        if self.refork.stage == Stage::Done {
            self.refork.stage = Stage::Possible;
        }
    }

    /// Makes the worker that has agreed the template when the previous one has no fork under way.
    /// `true`: a worker has agreed, so there must be no more forks.
    pub(super) fn awaits_adoption(&mut self, actions: &mut Vec<Action>) -> bool {
        let Stage::Willing(worker) = self.refork.stage else {
            return false;
        };
        if self.recipe.preload == Preload::No {
            self.dismiss_candidate(actions);
            return false;
        }
        if self.count(|worker| worker == WorkerPhase::Forking) > 0 {
            return true;
        }
        self.refork.stage = Stage::Done;
        self.template = TemplatePhase::Loaded;
        self.set(worker, WorkerPhase::Empty);
        for (number, worker) in self.workers.iter_mut().enumerate() {
            match worker {
                WorkerPhase::Ready { worn, .. } => *worn = true,
                WorkerPhase::Starting => self.refork.stale.push(number as u32),
                WorkerPhase::Empty | WorkerPhase::Forking | WorkerPhase::Retiring { .. } => {}
            }
        }
        actions.push(Action::Adopt(self.number));
        false
    }

    /// True if a worker that becomes ready is to be replaced again.
    pub(super) fn is_stale(&self, worker: u32) -> bool {
        self.refork.stale.contains(&worker)
    }

    /// No new template is needed any more.
    pub(super) fn dismiss_candidate(&mut self, actions: &mut Vec<Action>) {
        if let Stage::Asked(_) | Stage::Willing(_) = self.refork.stage {
            self.refork.stage = Stage::Refused;
            actions.push(Action::DismissCandidate(self.number));
        }
    }
}
