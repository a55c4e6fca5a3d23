//! One application: its plan, its generations of Python, and the pool above them.
//!
//! Feeds the plan with what happens and carries out what it says; what concerns the whole
//! server comes out as [`News`].

mod refork;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pyserve_wire::control::{FoundFiles, FromTemplate, Preload};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::care::Care;
use super::plan::{Action, Ending, Happened, LEAVING_ALONE, MOST_LEAVING, Plan};
use super::python::{self, Python, Speaker};
use super::recycle::Seen;
use super::startup::Facts;
use super::template::{HostFiles, Template};
use super::{AbortOnDrop, app_log};
use crate::config::AppSettings;
use crate::front::upstream::workers::{Event, Limits, Pool, Report};
use crate::observe::metrics::METRICS;
use crate::observe::status::remember_error;
use crate::observe::throttle::Throttle;
use crate::os::{child, descriptors};
use refork::Reforks;

/// What the rest of the server has to know.
#[derive(Debug)]
pub enum News {
    /// Every worker serves for the first time.
    Announce,
    /// The application wants these files served from now on.
    Files(Vec<FoundFiles>),
    /// The code that is on its way can take over.
    Prepared,
    /// It never will, in these words.
    ReloadFailed(String),
    /// Call [`App::happened`] with [`Happened::Timer`] at this time.
    WakeAt(Instant),
    /// The server cannot be of use.
    GiveUp(Ending),
    /// All workers have left.
    Gone,
}

/// A message of a template, or its end.
#[derive(Debug)]
pub struct Heard {
    generation: u32,
    speaker: Speaker,
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
    /// Whether every worker has been ready once.
    pub is_announced: bool,
    /// Whether all of its workers have left, as they were told.
    pub is_gone: bool,
    news: Vec<News>,
    no_fork: Throttle,
    pub(super) care: Care,
}

impl App {
    /// Application number `id`; no process yet.
    ///
    /// # Errors
    /// What the kernel says about files and sockets.
    pub fn new(
        id: usize,
        settings: AppSettings,
        reports: mpsc::UnboundedSender<Report>,
    ) -> io::Result<Self> {
        let limits = limits(&settings);
        let channel_readers = TaskTracker::new();
        let pool = Pool::new(id, limits, channel_readers.clone(), reports);
        let (log, log_sender) = app_log::pair()?;
        let log = Arc::new(log);
        let (followed, known) = (Arc::clone(&log), pool.clone());
        // What comes last is drained by `App::drain_log`.
        let follows_log =
            channel_readers.spawn(async move { app_log::follow(&followed, &known).await });
        let settings = Arc::new(settings);
        let first = Python::new(0, &settings, &pool)?;
        Ok(Self {
            id,
            plan: Plan::new(python::recipe(&settings)),
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
            care: Care::new(),
        })
    }

    /// Its number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// What is to be told since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The settings and facts of what serves, for the start-up block.
    pub fn facts(&self) -> (Arc<AppSettings>, Facts) {
        let current = self.current();
        let settings = current.map_or(&self.settings, |current| &current.settings);
        let facts = current.map(|current| current.facts.clone());
        (Arc::clone(settings), facts.unwrap_or_default())
    }

    /// The next message of any of its templates.
    pub fn poll_message(&self, context: &mut Context<'_>) -> Poll<Heard> {
        for (number, python) in &self.generations {
            if let Poll::Ready((speaker, message)) = python.poll_message(context) {
                return Poll::Ready(Heard {
                    generation: *number,
                    speaker,
                    message,
                });
            }
        }
        Poll::Pending
    }

    /// Takes a message of a template.
    pub fn hear(&mut self, heard: Heard) {
        let (number, message) = (heard.generation, heard.message);
        match heard.speaker {
            Speaker::Template => self.take_message(number, message),
            Speaker::Candidate(worker) => self.take_answer(number, worker, message),
            Speaker::Former(pid) => self.take_last_words(number, pid, message),
        }
    }

    /// Takes a message of the template of this generation; `None` when that says no more.
    fn take_message(&mut self, number: u32, message: Option<FromTemplate>) {
        let is_current = self.plan.current() == Some(number);
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        let Some(message) = message else {
            // It ends, or is of no use any more. How it ended is known when it is reaped.
            if let Some(template) = &mut python.template {
                template.closed = true;
                child::kill(template.pid);
            }
            return;
        };
        let group = python.template.as_ref().map_or(0, |template| template.pid);
        let happened = match message {
            FromTemplate::Started(interpreter) => {
                python.facts.interpreter = Some(interpreter);
                return;
            }
            FromTemplate::Clean => Happened::TemplateLoaded(number),
            // Said once, before it was the template.
            FromTemplate::Promoted => return,
            FromTemplate::Imported(loaded) => {
                if is_current {
                    self.news.push(News::Files(loaded.files.clone()));
                }
                python.facts.loaded = Some(loaded);
                Happened::TemplateLoaded(number)
            }
            FromTemplate::UnsafeToFork(reasons) => {
                tracing::warn!(
                    reasons = reasons.join("; "),
                    "importing the application left threads or sockets, so forking it is not safe: each worker imports for itself (--preload yes forces sharing, --preload no silences this)"
                );
                python.facts.unsafe_to_fork = reasons;
                python.template = None;
                Happened::TemplateUnsafe(number)
            }
            FromTemplate::ImportFailed { traceback } => {
                self.last_words = traceback;
                Happened::ImportFailed(number)
            }
            FromTemplate::Forked { worker, pid } => {
                python.workers.insert(pid, (worker, group));
                Happened::Forked(number, worker)
            }
            FromTemplate::ForkFailed { worker, why } => {
                return self.fork_failed(number, worker, &why);
            }
            FromTemplate::Exited { pid, status, .. } => {
                self.process_ended(pid, status);
                return;
            }
        };
        self.happened(happened);
    }

    /// Takes what the pool tells about a worker of this generation.
    pub fn take_event(&mut self, number: u32, event: Event) {
        let is_current = self.plan.current() == Some(number);
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        match event {
            Event::Ready { worker, loaded } => {
                tracing::debug!(worker, generation = number, "worker ready");
                if let Some(loaded) = loaded {
                    if is_current {
                        self.news.push(News::Files(loaded.files.clone()));
                    }
                    python.facts.loaded = Some(loaded);
                }
                self.happened(Happened::WorkerReady(number, worker));
            }
            Event::BootFailed { worker, traceback } => {
                if python.facts.loaded.is_some() {
                    tracing::error!(
                        worker,
                        "a worker cannot import the application:\n{traceback}"
                    );
                }
                self.last_words = traceback;
                self.happened(Happened::ImportFailed(number));
            }
            Event::Stuck { worker } => {
                METRICS.replaced.up("request_timeout");
                self.happened(Happened::Stuck(number, worker));
            }
            Event::Confused { worker } => {
                METRICS.replaced.up("died");
                python.kill(worker, "killed by pyserve: it sent what is no reply");
            }
            Event::Hopeless { worker } => {
                python.kill(
                    worker,
                    "killed by pyserve: its request did not end (--request-timeout)",
                );
            }
        }
    }

    /// A process has ended. `false`: it is none of this application's.
    pub fn process_ended(&mut self, pid: u32, status: i32) -> bool {
        let owner = self.generations.iter_mut().find_map(|(number, python)| {
            let worker = python.workers.remove(&pid);
            let is_template = || {
                let template = python.template.as_ref();
                template.is_some_and(|template| template.pid == pid)
            };
            match worker {
                Some((worker, _)) => Some((*number, Some(worker))),
                None => is_template().then_some((*number, None)),
            }
        });
        match owner {
            Some((number, Some(worker))) => self.worker_ended(number, worker, pid, status),
            Some((number, None)) => self.template_ended(number, pid, status),
            None => return false,
        }
        true
    }

    fn worker_ended(&mut self, number: u32, worker: u32, pid: u32, status: i32) {
        METRICS.worker_exits.up(child::kind_of_end(status));
        if child::exit_code(status) == Some(0) {
            tracing::debug!(worker, pid, "worker left");
        } else {
            let python = self.generations.get_mut(&number);
            let reason = match python.and_then(|python| python.killed.remove(&pid)) {
                Some(why) => why.to_owned(),
                None => {
                    if self.plan.current() == Some(number) {
                        METRICS.replaced.up("died");
                    }
                    child::describe_status(status)
                }
            };
            tracing::warn!(worker, pid, reason, "worker died");
            remember_error(&format!("worker {worker} died: {reason}"));
        }
        if let Some(python) = self.generations.get(&number) {
            python.generation.worker_exited(worker);
        }
        self.happened(Happened::WorkerExited(number, worker));
    }

    fn template_ended(&mut self, number: u32, pid: u32, status: i32) {
        // What it said before it ended comes first.
        let python = self.generations.get_mut(&number);
        let template = python.and_then(|python| python.template.take());
        while let Some(Ok(Some(message))) = template.as_ref().map(Template::try_receive) {
            self.take_message(number, Some(message));
        }
        let Some(python) = self.generations.get(&number) else {
            return;
        };
        if python.is_unusable(status) {
            self.last_words = python.why_unusable(status);
            self.happened(Happened::InterpreterUnusable(number));
        } else {
            tracing::warn!(
                pid,
                reason = child::describe_status(status),
                "template died"
            );
            let reason = child::describe_status(status);
            remember_error(&format!("template {pid} died: {reason}"));
        }
        self.happened(Happened::TemplateExited(number));
        // A worker may become the template again.
        self.look_after(Instant::now());
    }

    /// Asks the plan what to do, and does it.
    pub fn happened(&mut self, happened: Happened) {
        tracing::debug!(?happened);
        for action in self.plan.decide(happened, Instant::now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartTemplate(number, preload) => {
                if let Err(error) = self.start_template(number, preload) {
                    let interpreter = self.settings.interpreter.path.display();
                    let error = descriptors::explain(&error);
                    self.last_words = format!("cannot start {interpreter}: {error}");
                    tracing::error!(%interpreter, error, "cannot start the interpreter");
                    self.happened(Happened::TemplateExited(number));
                }
            }
            Action::Fork(number, worker) => {
                let forked = self
                    .generations
                    .get(&number)
                    .map(|python| python.fork(worker));
                if let Some(Err(error)) = forked {
                    self.fork_failed(number, worker, &descriptors::explain(&error));
                }
            }
            Action::Retire(number, worker) => {
                let retired = self
                    .generations
                    .get(&number)
                    .map(|python| python.generation.retire(worker));
                if let Some(Err(error)) = retired {
                    tracing::debug!(worker, %error, "cannot ask a worker to leave");
                }
            }
            Action::Promote(number, worker) => self.promote(number, worker),
            Action::Adopt(number) => self.adopt(number),
            Action::LetGo(number) => {
                if let Some(python) = self.generations.get_mut(&number) {
                    python.candidate = None;
                }
            }
            Action::Reloaded => {
                if let Some(settings) = self.coming.take() {
                    self.pool.set_limits(limits(&settings));
                    self.settings = settings;
                    self.look_after(Instant::now());
                }
            }
            Action::Wait => tracing::info!(
                "the reload waits: the {MOST_LEAVING} generations before have requests still, and the oldest has {} s for them",
                LEAVING_ALONE.as_secs()
            ),
            Action::Prepared => self.news.push(News::Prepared),
            Action::ReloadFailed => {
                self.coming = None;
                let words = std::mem::take(&mut self.last_words);
                self.news.push(News::ReloadFailed(words));
            }
            Action::Switch(number) => self.switch(number),
            Action::Discard(number) => {
                if let Some(python) = self.generations.get(&number) {
                    python.generation.close();
                    python.kill_all();
                }
            }
            Action::Forget(number) => {
                if let Some(python) = self.generations.remove(&number) {
                    python.generation.forget();
                }
            }
            Action::CloseQueues => {
                for python in self.generations.values() {
                    python.generation.close();
                }
            }
            Action::Announce => {
                self.is_announced = true;
                self.news.push(News::Announce);
            }
            Action::WakeAt(time) => self.news.push(News::WakeAt(time)),
            Action::GiveUp(ending) => self.news.push(News::GiveUp(ending)),
            Action::Gone => self.news.push(News::Gone),
        }
    }

    /// The plan tries again in a moment, for a reload a few times.
    fn fork_failed(&mut self, number: u32, worker: u32, why: &str) {
        if let Some(before) = self.no_fork.is_due() {
            tracing::error!(worker, why, before, "cannot fork a worker");
        }
        self.last_words = format!("cannot fork a worker: {why}");
        if let Some(python) = self.generations.get(&number) {
            python.generation.worker_exited(worker);
        }
        self.happened(Happened::ForkFailed(number, worker));
    }

    /// Starts a template; in a generation that is new if there is none of that number.
    ///
    /// # Errors
    /// What the kernel says about sockets, memory and the interpreter.
    pub fn start_template(&mut self, number: u32, preload: Preload) -> io::Result<()> {
        let python = match self.generations.entry(number) {
            Entry::Occupied(python) => python.into_mut(),
            Entry::Vacant(free) => {
                let settings = self.coming.as_ref().unwrap_or(&self.settings);
                free.insert(Python::new(number, settings, &self.pool)?)
            }
        };
        python.start_template(preload, &self.files, self.log_sender.as_fd())
    }

    fn switch(&mut self, number: u32) {
        let Some(python) = self.generations.get(&number) else {
            return;
        };
        self.pool.switch(&python.generation);
        if let Some(loaded) = &python.facts.loaded {
            self.news.push(News::Files(loaded.files.clone()));
        }
    }

    /// Brings the code that is there now up beside that which serves, run like this;
    /// [`News::Prepared`] or [`News::ReloadFailed`] tells how that went.
    pub fn reload(&mut self, settings: AppSettings) {
        let mut recipe = python::recipe(&settings);
        if settings.workers.count == self.settings.workers.count {
            // As many as there are by now.
            recipe.workers = self.plan.size().min(recipe.slots);
        }
        self.last_words.clear();
        self.coming = Some(Arc::new(settings));
        self.happened(Happened::Reload(recipe));
    }

    /// How it is run.
    pub(super) fn settings(&self) -> Arc<AppSettings> {
        Arc::clone(&self.settings)
    }

    pub(super) fn tell(&mut self, news: News) {
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
        let most = python::recipe(&self.settings).slots / 2;
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
        self.happened(Happened::Scale(workers));
        Ok(())
    }

    /// The files that the application wants served.
    pub fn found_files(&self) -> Vec<FoundFiles> {
        let loaded = self
            .current()
            .and_then(|python| python.facts.loaded.as_ref());
        loaded
            .map(|loaded| loaded.files.clone())
            .unwrap_or_default()
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

    /// As the settings name it, below the chdir.
    pub fn name(&self) -> String {
        let name = self.settings.app.to_string();
        let chdir = format!("{}/", self.settings.chdir.display());
        name.strip_prefix(&chdir)
            .map_or(name.clone(), str::to_owned)
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

    /// Kills everything that belongs to it.
    pub fn kill_all(&self) {
        self.generations.values().for_each(Python::kill_all);
    }

    /// Logs what Python said last.
    pub fn drain_log(&self) {
        app_log::drain(&self.log, &self.pool);
    }
}

fn limits(settings: &AppSettings) -> Limits {
    Limits {
        queue: settings.queue_limit,
        queue_timeout: settings.queue_timeout,
    }
}
