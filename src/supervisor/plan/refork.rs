//! Which worker becomes the template of its generation: part of the plan, and pure.
//!
//! ```text
//! Possible -> Chosen -> Asked -> Willing -> Done     once; a template that dies: Possible again
//!                         \---------\-----> Refused  for good
//! ```
//!
//! The chosen worker counts as worn: its successor comes first, from the template of before.
//! Then it is asked; when it is willing, and no fork is under way in the template of before,
//! it takes that one's place. All workers that were forked earlier are then stale, and
//! replaced as worn ones are.

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

    /// How a worker is asked to serve no more.
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

    /// This worker has gone, or does not want to. One that goes before it was asked leaves the
    /// choice to others.
    pub(super) fn no_candidate(&mut self, worker: u32) {
        match self.refork.stage {
            Stage::Chosen(chosen) if chosen == worker => self.refork.stage = Stage::Possible,
            Stage::Asked(asked) | Stage::Willing(asked) if asked == worker => {
                self.refork.stage = Stage::Refused;
            }
            _ => {}
        }
    }

    /// The template has gone. If it was a worker once, another may follow it some day.
    pub(super) fn no_template(&mut self) {
        if self.refork.stage == Stage::Done {
            self.refork.stage = Stage::Possible;
        }
    }

    /// Gives the template's place to the worker that is willing, as soon as no fork is under
    /// way in the one before. `true`: there is one, so there must be no more forks.
    pub(super) fn awaits_adoption(&mut self, actions: &mut Vec<Action>) -> bool {
        let Stage::Willing(worker) = self.refork.stage else {
            return false;
        };
        if self.recipe.preload == Preload::No {
            self.let_go(actions);
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

    /// True if a worker that gets ready is to be replaced again.
    pub(super) fn is_stale(&self, worker: u32) -> bool {
        self.refork.stale.contains(&worker)
    }

    /// No template is wanted any more.
    pub(super) fn let_go(&mut self, actions: &mut Vec<Action>) {
        if let Stage::Asked(_) | Stage::Willing(_) = self.refork.stage {
            self.refork.stage = Stage::Refused;
            actions.push(Action::LetGo(self.number));
        }
    }
}
