//! Decides what to do with the generations, templates and workers of one application: pure,
//! `(state, event, now) -> actions`.
//!
//! ```text
//! generation: Coming -> Current -> Leaving -> forgotten      a coming one that fails is discarded
//! template:   Starting -> Loaded            a dead one is started again, with back-off;
//!                ^  \-> (unsafe: again, without preloading)       its workers keep serving
//! worker:     Empty -> Forking -> Starting -> Ready -> (Retiring) -> Empty
//! ```
//!
//! A warm worker may become the template (`refork`).
//!
//! A generation reports when all of its workers are ready, and takes over on request (other
//! applications may not be ready yet); the previous one then leaves. A worker that is due for
//! recycling (*worn*) is asked to leave when its successor is ready, one at a time. `shutdown`
//! decides about the whole server; sockets, clocks and processes belong to `app` and `mod.rs`,
//! which feed events in and carry actions out.

mod generation;
mod promotion;
mod refork;

use std::time::{Duration, Instant};

use pyserve_wire::control::Preload;

use generation::{Generation, Role, TemplatePhase, WorkerPhase, is_ready};
use promotion::Promotion;

/// Generations that may be leaving at a time: each keeps its memory.
pub(super) const MOST_LEAVING: usize = 4;
/// Time that the next generation waits at this limit; then the oldest is killed for it.
pub(super) const LEAVING_ALONE: Duration = Duration::from_secs(30);

/// An event. The first number is that of a generation, the second that of a worker in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanEvent {
    /// The supervisor starts.
    Start,
    /// The template can fork workers.
    TemplateLoaded(u32),
    /// The template must not fork; another one must be started without preloading.
    TemplateUnsafe(u32),
    /// The application cannot be imported.
    ImportFailed(u32),
    /// The interpreter cannot run our host, and has reported the reason.
    InterpreterUnusable(u32),
    /// The template's process has exited.
    TemplateExited(u32),
    /// The template's process has ended by a signal for the server, before it ran our code: another
    /// one may start at once.
    TemplateStruck(u32),
    /// A worker could not be forked.
    ForkFailed(u32, u32),
    /// A worker was forked.
    Forked(u32, u32),
    /// A worker serves.
    WorkerReady(u32, u32),
    /// A worker is due for recycling.
    WornOut(u32, u32),
    /// A worker has answered enough requests to become the template.
    Warm(u32, u32),
    /// The worker that was asked to become the template agrees.
    Promoted(u32, u32),
    /// It cannot become the template, and exits.
    Refused(u32, u32),
    /// A request of a worker does not end: the worker takes no more, and will be killed.
    Stuck(u32, u32),
    /// A worker's process has exited.
    WorkerExited(u32, u32),
    /// Start a generation like this. Not while another one is starting.
    Reload(GenerationSpec),
    /// The new generation is to take over: after [`Action::Prepared`].
    TakeOver,
    /// The new generation is to be discarded.
    DiscardNew,
    /// Set the number of workers, also of a generation that is starting.
    Scale(u32),
    /// The same by demand: in each generation within its range.
    FollowDemand(u32),
    /// Every worker is to leave when its requests are finished.
    Leave,
    /// The time requested by [`Action::WakeAt`] has come.
    Timer,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a template with this kind of import, in a generation that may be new.
    StartTemplate(u32, Preload),
    /// Request the fork of this worker from the template.
    Fork(u32, u32),
    /// Ask this worker to leave.
    Retire(u32, u32),
    /// Ask this worker to become the template.
    Promote(u32, u32),
    /// The worker that has agreed becomes the template of its generation; the previous one exits.
    Adopt(u32),
    /// The worker that was asked to become the template is to exit instead.
    DismissCandidate(u32),
    /// Send requests to this generation from now on; all others leave.
    Switch(u32),
    /// Kill the processes of this generation.
    Discard(u32),
    /// The generation has no processes any more.
    Forget(u32),
    /// Every worker is ready for the first time.
    Announce,
    /// The new generation is not started yet: too many are still leaving.
    Wait,
    /// The new generation can take over.
    Prepared,
    /// The new generation serves.
    Reloaded,
    /// The new generation has failed.
    ReloadFailed,
    /// Ask all workers to leave when they are idle.
    CloseQueues,
    /// Come back with [`PlanEvent::Timer`] at this time.
    WakeAt(Instant),
    /// The application cannot be run.
    GiveUp(Ending),
    /// After [`PlanEvent::Leave`]: no worker is left.
    Gone,
}

/// The reason why an application cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No worker was ever ready.
    NeverReady,
    /// The application cannot be imported.
    ImportFailed,
    /// The interpreter cannot run our host.
    InterpreterUnusable,
}

/// The parameters of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationSpec {
    /// Target number of workers.
    pub workers: u32,
    /// Smallest and largest target by demand.
    pub range: (u32, u32),
    /// Most workers at a time, leaving ones included.
    pub slots: u32,
    /// The template's kind of import.
    pub preload: Preload,
    /// Most workers that serve where each of them imports for itself.
    pub without_copies: u32,
}

/// The state of one application.
#[derive(Debug)]
pub struct Plan {
    phase: Phase,
    recipe: GenerationSpec,
    /// The oldest first; at most one is current, at most one is coming.
    generations: Vec<Generation>,
    next: u32,
    announced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Leaving,
    Over,
}

impl Plan {
    /// A plan for an application with these parameters.
    pub fn new(recipe: GenerationSpec) -> Self {
        Self {
            phase: Phase::Serving,
            recipe,
            generations: Vec::new(),
            next: 0,
            announced: false,
        }
    }

    /// Target number of workers.
    pub fn size(&self) -> u32 {
        self.recipe.workers
    }

    /// Number of the generation that gets the requests, or will get the first ones.
    pub fn current(&self) -> Option<u32> {
        self.in_role(Role::Current).map(|current| current.number)
    }

    /// True if a worker of the current generation may become the template.
    pub fn may_refork(&self) -> bool {
        self.in_role(Role::Current)
            .is_some_and(Generation::may_refork)
    }

    /// True if the workers of the current generation are copies of a template that has imported
    /// the application.
    pub fn makes_copies(&self) -> bool {
        self.in_role(Role::Current)
            .is_some_and(|current| current.recipe.preload != Preload::No)
    }

    /// True if workers of a generation are to become ready, or to go on serving.
    pub fn awaits_workers(&self, number: u32) -> bool {
        let mut all = self.generations.iter();
        let generation = all.find(|generation| generation.number == number);
        self.phase == Phase::Serving
            && generation.is_some_and(|generation| generation.role != Role::Leaving)
    }

    /// True if another generation is starting.
    pub fn is_reloading(&self) -> bool {
        self.in_role(Role::Coming).is_some()
    }

    /// Takes an event; returns the actions.
    pub fn decide(&mut self, event: PlanEvent, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Over {
            return actions;
        }
        match event {
            PlanEvent::Start => {
                self.add(Role::Current, self.recipe);
                // Requests that arrive before its workers are ready wait in the queue.
                actions.push(Action::Switch(0));
            }
            PlanEvent::Timer => {}
            PlanEvent::Reload(recipe) => self.reload(recipe),
            PlanEvent::TakeOver => self.take_over(now, &mut actions),
            PlanEvent::DiscardNew => self.cancel_reload(&mut actions),
            PlanEvent::Scale(workers) => self.scale_by_hand(workers),
            PlanEvent::FollowDemand(workers) => self.follow_demand(workers),
            PlanEvent::Leave => self.leave(&mut actions),
            PlanEvent::TemplateLoaded(number) => {
                self.with(number, |generation| {
                    generation.template = TemplatePhase::Loaded
                });
            }
            PlanEvent::TemplateUnsafe(number) => self.template_unsafe(number),
            PlanEvent::ImportFailed(number) => {
                self.failed(number, Ending::ImportFailed, &mut actions);
            }
            PlanEvent::InterpreterUnusable(number) => {
                self.failed(number, Ending::InterpreterUnusable, &mut actions);
            }
            PlanEvent::TemplateExited(number) => self.template_exited(number, now, &mut actions),
            PlanEvent::TemplateStruck(number) => {
                self.with(number, |generation| {
                    generation.template = TemplatePhase::Absent
                });
            }
            PlanEvent::Forked(number, worker) => self.with(number, |generation| {
                generation.failed_forks = 0;
                if generation.worker(worker) == WorkerPhase::Forking {
                    generation.set(worker, WorkerPhase::Starting);
                }
            }),
            PlanEvent::ForkFailed(number, worker) => {
                self.fork_failed(number, worker, now, &mut actions);
            }
            PlanEvent::WorkerReady(number, worker) => self.ready(number, worker, now, &mut actions),
            PlanEvent::WornOut(number, worker) => self.with(number, |generation| {
                if let WorkerPhase::Ready { since, .. } = generation.worker(worker) {
                    generation.set(worker, WorkerPhase::Ready { since, worn: true });
                }
            }),
            PlanEvent::Warm(number, worker) => {
                self.with(number, |generation| generation.choose(worker));
            }
            PlanEvent::Promoted(number, worker) => {
                self.with(number, |generation| generation.promoted(worker));
            }
            PlanEvent::Refused(number, worker) => {
                self.with(number, |generation| generation.no_candidate(worker));
            }
            PlanEvent::Stuck(number, worker) => self.with(number, |generation| {
                // Its successor need not wait for its exit.
                if is_ready(generation.worker(worker)) {
                    generation.set(worker, WorkerPhase::Retiring { since: now });
                }
            }),
            PlanEvent::WorkerExited(number, worker) => {
                let give_up = self
                    .generation(number)
                    .is_some_and(|generation| generation.worker_died(worker, now));
                if give_up {
                    self.failed(number, Ending::NeverReady, &mut actions);
                }
            }
        }
        self.go_on(now, &mut actions);
        actions
    }

    fn template_unsafe(&mut self, number: u32) {
        self.with(number, |generation| {
            let recipe = &mut generation.recipe;
            recipe.preload = Preload::No;
            recipe.workers = recipe.workers.min(recipe.without_copies);
            // It stays unused until it exits because its socket is closed.
            generation.template = TemplatePhase::Absent;
            generation.no_template();
        });
    }

    fn template_exited(&mut self, number: u32, now: Instant, actions: &mut Vec<Action>) {
        let give_up = self.generation(number).is_some_and(|generation| {
            // One that dies while it forks does so again.
            let is_quick = generation.template == TemplatePhase::Starting
                || generation.count(|worker| worker == WorkerPhase::Forking) > 0;
            let give_up =
                is_quick && (generation.died_quickly(now) || generation.role == Role::Coming);
            generation.template = TemplatePhase::Absent;
            generation.no_template();
            generation.forget_forks();
            give_up
        });
        if give_up {
            self.failed(number, Ending::NeverReady, actions);
        }
    }

    fn fork_failed(&mut self, number: u32, worker: u32, now: Instant, actions: &mut Vec<Action>) {
        let give_up = self.generation(number).is_some_and(|generation| {
            generation.set(worker, WorkerPhase::Empty);
            generation.fork_failed(now)
        });
        if give_up {
            self.failed(number, Ending::NeverReady, actions);
        }
    }

    fn reload(&mut self, recipe: GenerationSpec) {
        if self.phase == Phase::Serving && !self.is_reloading() {
            self.add(Role::Coming, recipe);
        }
    }

    fn scale_by_hand(&mut self, workers: u32) {
        self.scale(|recipe| {
            // Where there are fewer slots, successors need some as well.
            let most = (recipe.slots / 2).max(recipe.range.1);
            workers.min(most)
        });
    }

    fn follow_demand(&mut self, workers: u32) {
        self.scale(|recipe| {
            let (least, most) = recipe.range;
            workers.max(least).min(most)
        });
    }

    fn scale(&mut self, workers: impl Fn(&GenerationSpec) -> u32) {
        let generations = self.generations.iter_mut();
        let recipes = generations.map(|generation| &mut generation.recipe);
        for recipe in recipes.chain([&mut self.recipe]) {
            recipe.workers = workers(recipe).max(1);
        }
    }

    fn leave(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Serving {
            self.cancel_reload(actions);
            self.phase = Phase::Leaving;
            actions.push(Action::CloseQueues);
        }
    }

    fn ready(&mut self, number: u32, worker: u32, now: Instant, actions: &mut Vec<Action>) {
        let Some(generation) = self.generation(number) else {
            return;
        };
        match generation.worker(worker) {
            // It has exited before this event: no other event about it would follow.
            WorkerPhase::Empty => return,
            WorkerPhase::Retiring { .. } => {}
            WorkerPhase::Forking | WorkerPhase::Starting | WorkerPhase::Ready { .. } => {
                let (since, worn) = (now, generation.is_stale(worker));
                generation.set(worker, WorkerPhase::Ready { since, worn });
            }
        }
        generation.ever_ready = true;
        let is_current = generation.role == Role::Current;
        if is_current && generation.is_complete() && !self.announced {
            self.announced = true;
            actions.push(Action::Announce);
        }
    }

    /// The coming generation becomes the current one.
    fn take_over(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(number) = self.in_role(Role::Coming).map(|coming| coming.number) else {
            return;
        };
        for generation in &mut self.generations {
            generation.role = if generation.number == number {
                self.recipe = generation.recipe;
                Role::Current
            } else {
                generation.leaves_since.get_or_insert(now);
                Role::Leaving
            };
        }
        actions.extend([Action::Switch(number), Action::Reloaded]);
        if !self.announced {
            self.announced = true;
            actions.push(Action::Announce);
        }
        let leaving = self.generations.len() - 1;
        for generation in &self.generations[..leaving.saturating_sub(MOST_LEAVING)] {
            actions.push(Action::Discard(generation.number));
        }
    }

    /// A generation has failed. For the current one that stops the server, unless it has served:
    /// then a worker that cannot import is an ordinary crash.
    fn failed(&mut self, number: u32, ending: Ending, actions: &mut Vec<Action>) {
        let is_serving = self.phase == Phase::Serving;
        let Some(generation) = self.generation(number) else {
            return;
        };
        match generation.role {
            Role::Coming => self.cancel_reload(actions),
            Role::Current if !generation.ever_ready && is_serving => {
                self.phase = Phase::Over;
                actions.push(Action::GiveUp(ending));
            }
            Role::Current | Role::Leaving => {}
        }
    }

    fn cancel_reload(&mut self, actions: &mut Vec<Action>) {
        for generation in &mut self.generations {
            if generation.role == Role::Coming {
                generation.role = Role::Leaving;
                actions.extend([Action::Discard(generation.number), Action::ReloadFailed]);
            }
        }
    }

    /// Starts missing workers, asks surplus ones to leave, forgets generations that have left.
    fn go_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == Phase::Over {
            return;
        }
        let nobody_before = self.earliest_start(now);
        for generation in &mut self.generations {
            if self.phase == Phase::Serving && generation.role != Role::Leaving {
                if let Some(time) = nobody_before.filter(|_| generation.is_untouched()) {
                    generation.wait(time, actions);
                    continue;
                }
                generation.go_on(now, actions);
                if generation.gets_prepared() {
                    actions.push(Action::Prepared);
                }
            } else {
                generation.dismiss_candidate(actions);
            }
        }
        let everybody_leaves = self.phase == Phase::Leaving;
        self.generations.retain(|generation| {
            let leaves = everybody_leaves || generation.role == Role::Leaving;
            let is_over = leaves && generation.is_empty();
            if is_over {
                actions.push(Action::Forget(generation.number));
            }
            !is_over
        });
        if self.phase == Phase::Leaving && self.generations.is_empty() {
            self.phase = Phase::Over;
            actions.push(Action::Gone);
        }
    }

    /// Time until which no generation may be started, because the most are leaving.
    fn earliest_start(&self, now: Instant) -> Option<Instant> {
        let mut leaving = self
            .generations
            .iter()
            .filter(|generation| !generation.is_empty())
            .filter_map(|generation| generation.leaves_since);
        let oldest = leaving.next()?;
        let are_many = leaving.count() + 1 >= MOST_LEAVING;
        let until = oldest + LEAVING_ALONE;
        (are_many && until > now).then_some(until)
    }

    fn add(&mut self, role: Role, recipe: GenerationSpec) {
        self.generations.push(Generation {
            number: self.next,
            role,
            template: TemplatePhase::Absent,
            recipe,
            workers: vec![WorkerPhase::Empty; recipe.slots.max(recipe.workers) as usize],
            refork: Promotion::default(),
            quick_deaths: 0,
            failed_forks: 0,
            ever_ready: false,
            is_prepared: false,
            has_waited: false,
            leaves_since: None,
            no_fork_before: None,
        });
        self.next += 1;
    }

    fn in_role(&self, role: Role) -> Option<&Generation> {
        let mut all = self.generations.iter();
        all.find(|generation| generation.role == role)
    }

    fn generation(&mut self, number: u32) -> Option<&mut Generation> {
        let mut all = self.generations.iter_mut();
        all.find(|generation| generation.number == number)
    }

    fn with(&mut self, number: u32, change: impl FnOnce(&mut Generation)) {
        if let Some(generation) = self.generation(number) {
            change(generation);
        }
    }
}

#[cfg(test)]
mod tests;
