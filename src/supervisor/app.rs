//! One application: its plan, its generations of Python, and the pool above them.
//!
//! Feeds the plan with what happens (`hearing`) and carries out what it says (`acting`); what
//! concerns the whole server comes out as [`AppEvent`].

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
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::imports::Imports;
use self::liveness::Liveness;
use self::maintenance::Maintenance;
use self::refork::Reforks;
use super::AbortOnDrop;
use super::generation;
use super::generation::{MessageSender, Python};
use super::plan::{Ending, Plan, PlanEvent};
use super::policy::recycle::Seen;
use super::starting::Starting;
use super::startup::StartupFacts;
use super::template::HostFiles;
use crate::config::AppSettings;
use crate::front::upstream::workers::{Pool, QueueLimits, Report};
use crate::observe::throttle::Throttle;

/// What the rest of the server has to know.
#[derive(Debug)]
pub enum AppEvent {
    /// Every worker serves for the first time.
    Announce,
    /// The application wants these files served from now on.
    Files(Vec<FoundFiles>),
    /// The code that is on its way can take over.
    Prepared,
    /// It never will, in these words.
    ReloadFailed(String),
    /// Call [`App::happened`] with [`PlanEvent::Timer`] at this time.
    WakeAt(Instant),
    /// The server cannot be of use.
    GiveUp(Ending),
    /// All workers have left.
    Gone,
}

/// A message of a template, or its end.
#[derive(Debug)]
pub struct TemplateMessage {
    generation: u32,
    speaker: MessageSender,
    message: Option<FromTemplate>,
}

/// One application.
pub struct App {
    id: usize,
    /// How it is run.
    settings: Arc<AppSettings>,
    /// How the generation is run that is on its way.
    coming: Option<Arc<AppSettings>>,
    plan: Plan,
    /// Where its requests go.
    pub pool: Pool,
    files: HostFiles,
    log: Arc<AsyncFd<OwnedFd>>,
    _follows_log: AbortOnDrop,
    log_sender: OwnedFd,
    generations: BTreeMap<u32, Python>,
    /// What Python said last about not being able to run it.
    pub last_words: String,
    reforks: Reforks,
    /// True if every worker has been ready once.
    pub is_announced: bool,
    /// True if all of its workers have left, as they were told.
    pub is_gone: bool,
    news: Vec<AppEvent>,
    no_fork: Throttle,
    care: Maintenance,
    liveness: Liveness,
    imports: Imports,
    /// How long a worker without requests may take to leave.
    pub leave_within: Duration,
}

impl App {
    /// Application number `id`; no process yet.
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
        // What comes last is drained by `App::drain_log`.
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
            last_words: String::new(),
            reforks: Reforks::default(),
            is_announced: false,
            is_gone: false,
            news: Vec::new(),
            no_fork: Throttle::default(),
            care: Maintenance::new(),
            liveness: Liveness::default(),
            imports: Imports::new(tasks),
            leave_within: Duration::from_secs(30),
        })
    }

    /// Its number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// What is to be told since the last call.
    pub fn take_news(&mut self) -> Vec<AppEvent> {
        std::mem::take(&mut self.news)
    }

    /// The settings and facts of what serves, for the start-up block.
    pub fn facts(&self) -> (Arc<AppSettings>, StartupFacts) {
        let current = self.current();
        let settings = current.map_or(&self.settings, |current| &current.settings);
        let facts = current.map(|current| current.facts.clone());
        (Arc::clone(settings), facts.unwrap_or_default())
    }

    /// The next message of any of its templates.
    pub fn poll_message(&self, context: &mut Context<'_>) -> Poll<TemplateMessage> {
        for (number, python) in &self.generations {
            if let Poll::Ready((speaker, message)) = python.poll_message(context) {
                return Poll::Ready(TemplateMessage {
                    generation: *number,
                    speaker,
                    message,
                });
            }
        }
        Poll::Pending
    }

    /// Asks the plan what to do, and does it.
    pub fn happened(&mut self, happened: PlanEvent) {
        tracing::debug!(?happened);
        for action in self.plan.decide(happened, Instant::now()) {
            self.act(action);
        }
    }

    /// Brings the code that is there now up beside that which serves, run like this;
    /// [`AppEvent::Prepared`] or [`AppEvent::ReloadFailed`] tells how that went.
    pub fn reload(&mut self, settings: AppSettings) {
        let mut recipe = generation::recipe(&settings);
        let (workers, before) = (&settings.workers, &self.settings.workers);
        if (workers.count, workers.most) == (before.count, before.most) {
            // As many as there are by now.
            recipe.workers = match workers.most > workers.count {
                true => self.size_of_next(&settings),
                false => self.plan.size().min(recipe.slots),
            };
        }
        self.last_words.clear();
        self.coming = Some(Arc::new(settings));
        self.happened(PlanEvent::Reload(recipe));
    }

    /// How it is run.
    pub(super) fn settings(&self) -> Arc<AppSettings> {
        Arc::clone(&self.settings)
    }

    pub(super) fn emit(&mut self, news: AppEvent) {
        self.news.push(news);
    }

    /// Workers that are to serve.
    pub fn size(&self) -> u32 {
        self.plan.size()
    }

    /// The generation that serves, and how its workers are.
    pub(super) fn serving_workers(&self, with_memory: bool) -> Option<(u32, Vec<Seen>)> {
        let number = self.plan.current()?;
        Some((number, self.generations.get(&number)?.seen(with_memory)))
    }

    /// Has so many workers serve from now on.
    ///
    /// # Errors
    /// In words, if there is no room for so many.
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
        self.happened(PlanEvent::Scale(workers));
        Ok(())
    }

    /// The files that the application wants served.
    pub fn found_files(&self) -> Vec<FoundFiles> {
        let loaded = self.loaded();
        loaded
            .map(|loaded| loaded.files.clone())
            .unwrap_or_default()
    }

    /// How long the code that serves took to be imported.
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

    /// Number of the generation that serves; its template's process, and whether that was a
    /// worker.
    pub fn serving(&self) -> (u32, Option<(u32, bool)>) {
        let template = self
            .current()
            .and_then(|python| Some((python.template.as_ref()?.pid, python.was_worker)));
        (self.plan.current().unwrap_or_default(), template)
    }

    /// Its processes that are on their way to serve.
    pub(super) fn starting(&self) -> Vec<Starting> {
        let generations = self.generations.values();
        generations.flat_map(Python::starting).collect()
    }

    /// As the settings name it, below the chdir.
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

    /// Ends it at once: it never ran a request.
    pub fn discard(&mut self) {
        self.kill_all();
        for python in std::mem::take(&mut self.generations).into_values() {
            python.generation.close();
            python.generation.forget();
        }
        self.drain_log();
        self.is_gone = true;
    }

    /// Process groups of everything that belongs to it.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.generations.values().flat_map(Python::groups)
    }

    /// Kills everything that belongs to it.
    pub fn kill_all(&self) {
        self.generations.values().for_each(Python::kill_all);
    }

    /// Logs what Python said last.
    pub fn drain_log(&self) {
        log::drain(&self.log, &self.pool);
    }
}

fn limits(settings: &AppSettings) -> QueueLimits {
    QueueLimits {
        queue: settings.queue_limit,
        queue_timeout: settings.queue_timeout,
    }
}
