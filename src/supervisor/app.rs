//! One application: its plan, its generations of Python processes, and the pool that queues for
//! them.
//!
//! Feeds the plan with events (`events`) and carries out its actions (`actions`). Events that
//! concern the whole server leave as [`AppEvent`].

mod actions;
mod elastic;
mod events;
mod imports;
mod liveness;
pub mod log;
mod maintenance;
mod refork;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pyserve_wire::control::{FoundFiles, FromTemplate, Loaded};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::imports::Imports;
use self::liveness::Liveness;
use self::maintenance::Maintenance;
use self::refork::Reforks;
use super::AbortOnDrop;
use super::generation;
use super::generation::{KillReason, MessageSender, Python};
use super::plan::{Ending, Plan, PlanEvent};
use super::policy::recycle::Seen;
use super::starting::Starting;
use super::startup::StartupFacts;
use super::template::HostFiles;
use crate::config::AppSettings;
use crate::front::upstream::workers::{Pool, QueueLimits, Report};
use crate::observe::throttle::Throttle;

/// Events of an application that concern the whole server.
#[derive(Debug)]
pub enum AppEvent {
    /// Every worker is ready for the first time.
    Announce,
    /// The application asks for these files to be served from now on.
    Files(Vec<FoundFiles>),
    /// The new generation is ready to take over.
    Prepared,
    /// The new generation failed, for this reason.
    ReloadFailed(String),
    /// Call [`App::handle`] with [`PlanEvent::Timer`] at this time.
    WakeAt(Instant),
    /// The application cannot be run.
    GiveUp(Ending),
    /// All workers have left.
    Gone,
}

/// The number of workers of an application, for the server that takes this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeState {
    /// Smallest and largest number of the settings.
    configured: (u32, u32),
    workers: u32,
}

/// A message of a template, or the end of its socket.
#[derive(Debug)]
pub struct TemplateMessage {
    generation: u32,
    sender: MessageSender,
    message: Option<FromTemplate>,
}

/// One application.
pub struct App {
    id: usize,
    /// Settings of the serving generation.
    settings: Arc<AppSettings>,
    /// Settings of the generation that a reload is starting.
    coming: Option<Arc<AppSettings>>,
    plan: Plan,
    /// Queues requests and dispatches them to workers.
    pub pool: Pool,
    files: HostFiles,
    log: Arc<AsyncFd<OwnedFd>>,
    _follows_log: AbortOnDrop,
    log_sender: OwnedFd,
    generations: BTreeMap<u32, Python>,
    /// The last error text of Python that explains why the application cannot run.
    pub last_error: String,
    reforks: Reforks,
    /// True if every worker has been ready once.
    pub is_announced: bool,
    /// True if all workers have exited after a request to leave.
    pub is_gone: bool,
    events: Vec<AppEvent>,
    no_fork: Throttle,
    care: Maintenance,
    liveness: Liveness,
    imports: Imports,
    /// Longest time that an idle worker may take to exit.
    pub leave_within: Duration,
}

impl App {
    /// Creates application number `id`, without a process.
    ///
    /// # Errors
    /// The error of the system call for files and sockets.
    pub fn new(
        id: usize,
        settings: AppSettings,
        reports: mpsc::UnboundedSender<Report>,
    ) -> io::Result<Self> {
        let limits = limits(&settings);
        let channel_readers = TaskTracker::new();
        let tasks = channel_readers.clone();
        let pool = Pool::new(id, limits, channel_readers.clone(), reports);
        let (log, log_sender) = log::pair()?;
        let log = Arc::new(log);
        let (followed, known) = (Arc::clone(&log), pool.clone());
        // Records that arrive last are read by `App::drain_log`.
        let follows_log =
            channel_readers.spawn(async move { log::follow(&followed, &known).await });
        let settings = Arc::new(settings);
        let first = Python::new(0, &settings, &pool)?;
        Ok(Self {
            id,
            plan: Plan::new(generation::recipe(&settings)),
            files: HostFiles::create(&settings.temp_dir)?,
            settings,
            coming: None,
            pool,
            log,
            _follows_log: AbortOnDrop(follows_log),
            log_sender,
            generations: BTreeMap::from([(0, first)]),
            last_error: String::new(),
            reforks: Reforks::default(),
            is_announced: false,
            is_gone: false,
            events: Vec::new(),
            no_fork: Throttle::default(),
            care: Maintenance::new(),
            liveness: Liveness::default(),
            imports: Imports::new(tasks),
            leave_within: Duration::from_secs(30),
        })
    }

    /// The number of the application.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<AppEvent> {
        std::mem::take(&mut self.events)
    }

    /// The settings and facts of the serving generation, for the start-up block.
    pub fn facts(&self) -> (Arc<AppSettings>, StartupFacts) {
        let current = self.current();
        let settings = current.map_or(&self.settings, |current| &current.settings);
        let facts = current.map(|current| current.facts.clone());
        (Arc::clone(settings), facts.unwrap_or_default())
    }

    /// The next message of any template of this application.
    pub fn poll_message(&self, context: &mut Context<'_>) -> Poll<TemplateMessage> {
        for (number, python) in &self.generations {
            if let Poll::Ready((sender, message)) = python.poll_message(context) {
                return Poll::Ready(TemplateMessage {
                    generation: *number,
                    sender,
                    message,
                });
            }
        }
        Poll::Pending
    }

    /// Passes an event to the plan and carries out the actions.
    pub fn handle(&mut self, event: PlanEvent) {
        tracing::debug!(event = ?event);
        for action in self.plan.decide(event, Instant::now()) {
            self.act(action);
        }
    }

    /// Starts a new generation with these settings beside the serving one. The outcome is
    /// [`AppEvent::Prepared`] or [`AppEvent::ReloadFailed`].
    pub fn reload(&mut self, settings: AppSettings) {
        let mut recipe = generation::recipe(&settings);
        let (workers, before) = (&settings.workers, &self.settings.workers);
        if (workers.count, workers.most) == (before.count, before.most) {
            // Keeps the current number of workers.
            recipe.workers = match workers.most > workers.count {
                true => self.size_of_next(&settings),
                false => self.plan.size().min(recipe.slots),
            };
        }
        self.last_error.clear();
        self.reload_begins();
        self.coming = Some(Arc::new(settings));
        self.handle(PlanEvent::Reload(recipe));
    }

    /// Settings of the serving generation.
    pub(super) fn settings(&self) -> Arc<AppSettings> {
        Arc::clone(&self.settings)
    }

    pub(super) fn emit(&mut self, event: AppEvent) {
        self.events.push(event);
    }

    /// Target number of workers.
    pub fn size(&self) -> u32 {
        self.plan.size()
    }

    /// The number of workers for the server that takes this one's place.
    pub(super) fn size_to_hand_over(&self) -> SizeState {
        let workers = &self.settings.workers;
        SizeState {
            configured: (workers.count, workers.most),
            workers: self.size(),
        }
    }

    /// Goes on with the number of workers of the server whose place this one takes, unless the setting has
    /// changed; as a reload does.
    pub(super) fn resume_size(&mut self, state: SizeState) {
        let workers = &self.settings.workers;
        if state.configured != (workers.count, workers.most) {
            return;
        }
        let wanted = match workers.most > workers.count {
            true => state.workers.clamp(workers.count, workers.most),
            false => state.workers,
        };
        if wanted != self.size() {
            self.handle(PlanEvent::Scale(wanted));
        }
    }

    /// Number of the serving generation, and the state of its workers.
    pub(super) fn serving_workers(&self, with_memory: bool) -> Option<(u32, Vec<Seen>)> {
        let number = self.plan.current()?;
        Some((number, self.generations.get(&number)?.seen(with_memory)))
    }

    /// Sets the target number of workers.
    ///
    /// # Errors
    /// A sentence, if there are not enough slots.
    pub fn scale(&mut self, workers: u32) -> Result<(), String> {
        let most = generation::recipe(&self.settings).slots / 2;
        if !(1..=most).contains(&workers) {
            return Err(format!(
                "{}: from 1 to {most} workers are possible without a restart",
                self.name()
            ));
        }
        tracing::info!(
            from = self.size(),
            to = workers,
            "number of workers changed"
        );
        self.hold_size();
        self.handle(PlanEvent::Scale(workers));
        Ok(())
    }

    /// The files that the application asks to be served.
    pub fn found_files(&self) -> Vec<FoundFiles> {
        let loaded = self.loaded();
        loaded
            .map(|loaded| loaded.files.clone())
            .unwrap_or_default()
    }

    /// Time that the import of the serving code took.
    pub fn import_time(&self) -> Duration {
        let loaded = self.loaded();
        Duration::from_millis(loaded.map_or(0, |loaded| loaded.import_ms))
    }

    /// The first generation.
    pub fn first(&mut self) -> Option<&mut Python> {
        self.generations.get_mut(&0)
    }

    /// The process of a worker.
    pub fn pid(&self, generation: u32, worker: u32) -> Option<u32> {
        self.generations.get(&generation)?.pid(worker)
    }

    /// Number of the serving generation; the process id of its template, and true if that was a
    /// worker before.
    pub fn serving(&self) -> (u32, Option<(u32, bool)>) {
        let template = self
            .current()
            .and_then(|python| Some((python.template.as_ref()?.pid, python.was_worker)));
        (self.plan.current().unwrap_or_default(), template)
    }

    /// Processes that are still starting.
    pub(super) fn starting(&self) -> Vec<Starting> {
        let generations = self.generations.values();
        generations.flat_map(Python::starting).collect()
    }

    /// The name of the application in the settings, relative to `chdir`.
    pub fn name(&self) -> String {
        self.settings.name()
    }

    fn loaded(&self) -> Option<&Loaded> {
        self.current()?.facts.loaded.as_ref()
    }

    fn current(&self) -> Option<&Python> {
        let number = self.plan.current()?;
        self.generations.get(&number)
    }

    /// Kills its processes at once: it never ran a request.
    pub fn discard(&mut self) {
        self.kill_all();
        for python in std::mem::take(&mut self.generations).into_values() {
            python.generation.close();
            python.generation.forget();
        }
        self.drain_log();
        self.is_gone = true;
    }

    /// Process groups of all its processes.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.generations.values().flat_map(Python::groups)
    }

    /// Kills all its processes.
    pub fn kill_all(&mut self) {
        for python in self.generations.values_mut() {
            python.kill_all(KillReason::Unneeded("killed by pyserve: the server ends"));
        }
    }

    /// Logs the records that are left in the log socket.
    pub fn drain_log(&self) {
        log::drain(&self.log, &self.pool);
    }
}

fn limits(settings: &AppSettings) -> QueueLimits {
    QueueLimits {
        queue: settings.queue_limit,
        queue_timeout: settings.queue_timeout,
        short_first: settings.short_first,
    }
}
