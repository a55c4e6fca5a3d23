//! Decides what to do with template and workers: pure, `(state, event, now) -> actions`.
//!
//! ```text
//! template:  Starting -> Loaded            a dead one is started again, with back-off;
//!               ^  \-> (unsafe: again, without preloading)       its workers go on serving
//! worker:    Empty -> Forking -> Starting -> Ready -> (dies) -> Empty
//! server:    Serving -> Draining -> Leaving -> Exit
//! ```
//!
//! Sockets, clocks and processes are the business of `supervisor/mod.rs`, which feeds
//! events in and carries actions out.

use std::time::{Duration, Instant};

use pyserve_wire::control::Preload;

/// A worker that lives this long is not part of a crash loop.
const LONG_LIFE: Duration = Duration::from_secs(1);
/// Deaths in quick succession that are answered at once; from then on there is a pause.
const FREE_DEATHS: u32 = 3;
/// The first pause between restarts; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Workers that may die before any was ever ready; then the server gives up.
const BOOT_ATTEMPTS: u32 = 3;
/// What workers get at least to run their exit hooks, even when the graceful timeout is
/// used up.
const LEAVE_AT_LEAST: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// The supervisor begins.
    Start,
    /// The template can fork workers.
    TemplateLoaded,
    /// The template must not be forked; another one has to be started without preloading.
    TemplateUnsafe,
    /// The application cannot be imported.
    ImportFailed,
    /// The interpreter cannot run our host, and has said why.
    InterpreterUnusable,
    /// The template's process has gone.
    TemplateExited,
    /// A worker could not be forked.
    ForkFailed(u32),
    /// A worker was forked.
    Forked(u32),
    /// A worker serves.
    WorkerReady(u32),
    /// A worker's process has gone.
    WorkerExited(u32),
    /// Finish what is in flight and leave.
    Stop,
    /// Leave now; exit with this code.
    StopNow(u8),
    /// No connection and no request is left.
    Drained,
    /// The time asked for by [`Action::WakeAt`] has come.
    Timer,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a template that imports like this.
    StartTemplate(Preload),
    /// Have the template fork this worker.
    Fork(u32),
    /// Every worker serves for the first time.
    Announce,
    /// Stop accepting connections, finish the requests of those there are.
    Drain,
    /// Cut the connections that are left.
    CutConnections,
    /// Tell the workers to leave when they are idle.
    CloseQueue,
    /// Kill template and workers.
    KillAll,
    /// Come back with [`Happened::Timer`] at this time.
    WakeAt(Instant),
    /// End the process.
    Exit(Ending),
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As it was told to.
    Clean,
    /// By a signal that would not wait; exit code 128 + its number.
    Signal(u8),
    /// No worker ever got ready: exit code 3.
    NeverReady,
    /// The application cannot be imported: exit code 4.
    ImportFailed,
    /// The interpreter cannot run our host: exit code 78, the settings name another one.
    InterpreterUnusable,
}

/// The state of template, workers and server.
#[derive(Debug)]
pub struct Plan {
    phase: Phase,
    template: Template,
    preload: Preload,
    workers: Vec<Worker>,
    graceful_timeout: Duration,
    /// Deaths in quick succession, of workers and templates alike.
    quick_deaths: u32,
    announced: bool,
    ever_ready: bool,
    no_fork_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining { until: Instant },
    Leaving { until: Instant },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Template {
    Absent,
    Starting,
    Loaded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Empty,
    Forking,
    Starting,
    Ready { since: Instant },
}

impl Plan {
    /// A plan for so many workers.
    pub fn new(workers: u32, preload: Preload, graceful_timeout: Duration) -> Self {
        Self {
            phase: Phase::Serving,
            template: Template::Absent,
            preload,
            workers: vec![Worker::Empty; workers as usize],
            graceful_timeout,
            quick_deaths: 0,
            announced: false,
            ever_ready: false,
            no_fork_before: None,
        }
    }

    /// Takes an event in, and says what to do.
    pub fn decide(&mut self, happened: Happened, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match happened {
            Happened::Start => {
                if self.workers.is_empty() {
                    actions.push(Action::Announce);
                }
            }
            Happened::InterpreterUnusable => return self.give_up(Ending::InterpreterUnusable),
            Happened::TemplateLoaded => self.template = Template::Loaded,
            Happened::TemplateUnsafe => {
                self.preload = Preload::No;
                // It stays where it is, unused, until it ends because its socket is closed.
                self.template = Template::Absent;
            }
            Happened::ImportFailed => return self.give_up(Ending::ImportFailed),
            Happened::TemplateExited => {
                if self.template == Template::Starting && self.template_died(now) {
                    return self.give_up(Ending::NeverReady);
                }
                self.template = Template::Absent;
                self.forget_forks();
            }
            Happened::Forked(worker) => self.advance(worker, Worker::Forking, Worker::Starting),
            Happened::ForkFailed(worker) => {
                self.set(worker, Worker::Empty);
                self.pause(now);
            }
            Happened::WorkerReady(worker) => {
                self.set(worker, Worker::Ready { since: now });
                self.ever_ready = true;
                let all_ready = self
                    .workers
                    .iter()
                    .all(|worker| matches!(worker, Worker::Ready { .. }));
                if all_ready && !self.announced {
                    self.announced = true;
                    actions.push(Action::Announce);
                }
            }
            Happened::WorkerExited(worker) => {
                if self.worker_died(worker, now) {
                    return self.give_up(Ending::NeverReady);
                }
            }
            Happened::Stop => {
                if self.phase == Phase::Serving {
                    let until = now + self.graceful_timeout;
                    self.phase = Phase::Draining { until };
                    actions.extend([Action::Drain, Action::WakeAt(until)]);
                }
            }
            Happened::StopNow(signal) => return self.give_up(Ending::Signal(signal)),
            Happened::Drained => {
                if let Phase::Draining { until } = self.phase {
                    self.leave(until.max(now + LEAVE_AT_LEAST), &mut actions);
                }
            }
            Happened::Timer => self.timer(now, &mut actions),
        }
        self.go_on(now, &mut actions);
        actions
    }

    fn timer(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Draining { until } if now >= until => {
                actions.push(Action::CutConnections);
                self.leave(now + LEAVE_AT_LEAST, actions);
            }
            Phase::Leaving { until } if now >= until => {
                self.phase = Phase::Over;
                actions.extend([Action::KillAll, Action::Exit(Ending::Clean)]);
            }
            _ => {}
        }
    }

    fn leave(&mut self, until: Instant, actions: &mut Vec<Action>) {
        self.phase = Phase::Leaving { until };
        actions.extend([Action::CloseQueue, Action::WakeAt(until)]);
    }

    /// Starts what is missing, or ends when nothing is left.
    fn go_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.phase {
            // Only files are served.
            Phase::Serving | Phase::Draining { .. } if self.workers.is_empty() => return,
            Phase::Serving | Phase::Draining { .. } => {}
            Phase::Leaving { .. } => {
                if self.workers.iter().all(|worker| *worker == Worker::Empty) {
                    self.phase = Phase::Over;
                    actions.extend([Action::KillAll, Action::Exit(Ending::Clean)]);
                }
                return;
            }
            Phase::Over => return,
        }
        if let Some(time) = self.no_fork_before.filter(|time| *time > now) {
            actions.push(Action::WakeAt(time));
            return;
        }
        self.no_fork_before = None;
        match self.template {
            Template::Absent => {
                self.template = Template::Starting;
                actions.push(Action::StartTemplate(self.preload));
            }
            Template::Starting => {}
            Template::Loaded => {
                for (number, worker) in self.workers.iter_mut().enumerate() {
                    if *worker == Worker::Empty {
                        *worker = Worker::Forking;
                        actions.push(Action::Fork(number as u32));
                    }
                }
            }
        }
    }

    /// `true`: give up.
    fn worker_died(&mut self, worker: u32, now: Instant) -> bool {
        let was = self
            .workers
            .get(worker as usize)
            .copied()
            .unwrap_or(Worker::Empty);
        self.set(worker, Worker::Empty);
        match was {
            Worker::Empty => false,
            Worker::Ready { since } if now.duration_since(since) >= LONG_LIFE => {
                self.quick_deaths = 0;
                false
            }
            _ => {
                self.died_quickly(now);
                !self.ever_ready
                    && self.phase == Phase::Serving
                    && self.quick_deaths >= BOOT_ATTEMPTS
            }
        }
    }

    /// `true`: give up.
    fn template_died(&mut self, now: Instant) -> bool {
        self.died_quickly(now);
        !self.ever_ready && self.phase == Phase::Serving && self.quick_deaths >= BOOT_ATTEMPTS
    }

    fn died_quickly(&mut self, now: Instant) {
        self.quick_deaths += 1;
        if self.quick_deaths > FREE_DEATHS {
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Instant) {
        let doublings = self.quick_deaths.saturating_sub(FREE_DEATHS + 1).min(10);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        self.no_fork_before = Some(now + pause);
    }

    /// Forks that were asked of a template that has gone will not happen.
    fn forget_forks(&mut self) {
        for worker in &mut self.workers {
            if *worker == Worker::Forking {
                *worker = Worker::Empty;
            }
        }
    }

    fn give_up(&mut self, ending: Ending) -> Vec<Action> {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        // A server that has served does not end because new code cannot be imported.
        if ending == Ending::ImportFailed && self.ever_ready {
            return Vec::new();
        }
        self.phase = Phase::Over;
        vec![Action::KillAll, Action::Exit(ending)]
    }

    fn set(&mut self, worker: u32, state: Worker) {
        if let Some(slot) = self.workers.get_mut(worker as usize) {
            *slot = state;
        }
    }

    fn advance(&mut self, worker: u32, from: Worker, to: Worker) {
        if self.workers.get(worker as usize) == Some(&from) {
            self.set(worker, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    struct Story {
        plan: Plan,
        start: Instant,
    }

    impl Story {
        fn new(workers: u32) -> Self {
            Self {
                plan: Plan::new(workers, Preload::Auto, GRACE),
                start: Instant::now(),
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        #[track_caller]
        fn check(&mut self, ms: u64, happened: Happened, expected: &[Action]) {
            let now = self.at(ms);
            assert_eq!(self.plan.decide(happened, now), expected);
        }

        fn serving(workers: u32) -> Self {
            let mut story = Self::new(workers);
            let now = story.start;
            story.plan.decide(Happened::Start, now);
            story.plan.decide(Happened::TemplateLoaded, now);
            for worker in 0..workers {
                story.plan.decide(Happened::Forked(worker), now);
                story.plan.decide(Happened::WorkerReady(worker), now);
            }
            story
        }
    }

    #[test]
    fn a_start_goes_from_template_to_workers_to_the_announcement() {
        let mut story = Story::new(2);
        story.check(0, Happened::Start, &[Action::StartTemplate(Preload::Auto)]);
        story.check(
            1,
            Happened::TemplateLoaded,
            &[Action::Fork(0), Action::Fork(1)],
        );
        story.check(2, Happened::Forked(0), &[]);
        story.check(2, Happened::Forked(1), &[]);
        story.check(3, Happened::WorkerReady(1), &[]);
        story.check(4, Happened::WorkerReady(0), &[Action::Announce]);
    }

    #[test]
    fn a_server_of_files_alone_starts_no_python() {
        let mut story = Story::new(0);
        story.check(0, Happened::Start, &[Action::Announce]);
        let until = story.at(30_001);
        story.check(1, Happened::Stop, &[Action::Drain, Action::WakeAt(until)]);
        let drained = story.plan.decide(Happened::Drained, story.at(2));
        assert_eq!(drained.last(), Some(&Action::Exit(Ending::Clean)));
    }

    #[test]
    fn an_unsafe_template_is_followed_by_one_that_does_not_import() {
        let mut story = Story::new(1);
        story.check(0, Happened::Start, &[Action::StartTemplate(Preload::Auto)]);
        story.check(
            1,
            Happened::TemplateUnsafe,
            &[Action::StartTemplate(Preload::No)],
        );
        story.check(2, Happened::TemplateLoaded, &[Action::Fork(0)]);
    }

    #[test]
    fn a_dead_worker_is_replaced_at_once() {
        let mut story = Story::serving(2);
        for second in 2..20 {
            story.check(second * 1000, Happened::WorkerExited(1), &[Action::Fork(1)]);
            story.check(second * 1000, Happened::Forked(1), &[]);
            story.check(second * 1000, Happened::WorkerReady(1), &[]);
            story.check(second * 1000 + 1, Happened::Timer, &[]);
        }
    }

    #[test]
    fn a_crash_loop_of_a_server_that_has_served_backs_off_and_goes_on() {
        let mut story = Story::serving(1);
        for _ in 0..3 {
            story.check(10, Happened::WorkerExited(0), &[Action::Fork(0)]);
        }
        let until = story.at(10 + 100);
        story.check(10, Happened::WorkerExited(0), &[Action::WakeAt(until)]);
        story.check(110, Happened::Timer, &[Action::Fork(0)]);
        let until = story.at(110 + 200);
        story.check(110, Happened::WorkerExited(0), &[Action::WakeAt(until)]);
        story.check(310, Happened::Timer, &[Action::Fork(0)]);
        story.check(320, Happened::WorkerReady(0), &[]);
        story.check(2000, Happened::WorkerExited(0), &[Action::Fork(0)]);
    }

    #[test]
    fn a_server_whose_workers_never_get_ready_gives_up() {
        let mut story = Story::new(1);
        story.check(0, Happened::Start, &[Action::StartTemplate(Preload::Auto)]);
        story.check(0, Happened::TemplateLoaded, &[Action::Fork(0)]);
        story.check(1, Happened::WorkerExited(0), &[Action::Fork(0)]);
        story.check(2, Happened::WorkerExited(0), &[Action::Fork(0)]);
        story.check(
            3,
            Happened::WorkerExited(0),
            &[Action::KillAll, Action::Exit(Ending::NeverReady)],
        );
        story.check(4, Happened::WorkerExited(0), &[]);
    }

    #[test]
    fn an_import_error_ends_a_server_that_never_served() {
        let mut story = Story::new(1);
        story.check(0, Happened::Start, &[Action::StartTemplate(Preload::Auto)]);
        story.check(
            1,
            Happened::ImportFailed,
            &[Action::KillAll, Action::Exit(Ending::ImportFailed)],
        );
    }

    #[test]
    fn a_template_that_dies_is_replaced_while_its_workers_go_on() {
        let mut story = Story::serving(2);
        story.check(
            5,
            Happened::TemplateExited,
            &[Action::StartTemplate(Preload::Auto)],
        );
        story.check(6, Happened::WorkerExited(0), &[]);
        story.check(7, Happened::TemplateLoaded, &[Action::Fork(0)]);
    }

    #[test]
    fn forks_asked_of_a_dead_template_are_asked_of_the_next() {
        let mut story = Story::serving(1);
        story.check(2000, Happened::WorkerExited(0), &[Action::Fork(0)]);
        story.check(
            2001,
            Happened::TemplateExited,
            &[Action::StartTemplate(Preload::Auto)],
        );
        story.check(2002, Happened::TemplateLoaded, &[Action::Fork(0)]);
    }

    #[test]
    fn a_stop_drains_lets_the_workers_leave_and_ends() {
        let mut story = Story::serving(2);
        let (until, later) = (story.at(30_000), story.at(30_000));
        story.check(0, Happened::Stop, &[Action::Drain, Action::WakeAt(until)]);
        story.check(1, Happened::Stop, &[]);
        story.check(
            500,
            Happened::Drained,
            &[Action::CloseQueue, Action::WakeAt(later)],
        );
        story.check(510, Happened::WorkerExited(0), &[]);
        story.check(
            511,
            Happened::WorkerExited(1),
            &[Action::KillAll, Action::Exit(Ending::Clean)],
        );
    }

    #[test]
    fn a_worker_that_dies_while_draining_is_replaced_for_those_who_still_wait() {
        let mut story = Story::serving(1);
        story.plan.decide(Happened::Stop, story.start);
        story.check(2000, Happened::WorkerExited(0), &[Action::Fork(0)]);
    }

    #[test]
    fn a_stop_that_takes_too_long_is_cut() {
        let mut story = Story::serving(1);
        story.plan.decide(Happened::Stop, story.start);
        let until = story.at(31_000);
        story.check(
            30_000,
            Happened::Timer,
            &[
                Action::CutConnections,
                Action::CloseQueue,
                Action::WakeAt(until),
            ],
        );
        story.check(
            31_000,
            Happened::Timer,
            &[Action::KillAll, Action::Exit(Ending::Clean)],
        );
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let mut story = Story::serving(1);
        story.plan.decide(Happened::Stop, story.start);
        story.check(
            1,
            Happened::StopNow(15),
            &[Action::KillAll, Action::Exit(Ending::Signal(15))],
        );
    }
}
