//! Starts, watches, replaces and stops the Python processes, and runs the front beside them.
//!
//! [`app`] is one application and [`plan`] decides about it; [`shutdown`] decides how the server
//! ends. This file has what they share: signals, dead children, the front.
//! Starting a process and reading a directory may block here, which the front never does.

pub mod app;
mod apps;
mod before_start;
pub mod check;
pub mod companions;
pub mod control;
mod events;
mod front_builder;
pub mod generation;
mod interfaces;
pub mod plan;
pub mod policy;
pub mod reload;
pub mod shutdown;
pub mod signals;
pub mod starting;
pub mod startup;
mod status;
pub mod template;

use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Config, Resolved};
use crate::front::accept::listener::Listener;
use crate::front::admin::{Probes, SupervisorQuery};
use crate::observe::codes;
use crate::os::child;
use app::{App, AppEvent, TemplateMessage};
use apps::Apps;
use companions::{Companions, Ended, ProcessEnvironment};
use control::{Asked, Command};
use events::Events;
use front_builder::Front;
use interfaces::Interfaces;
use plan::Ending;
use reload::triggers::Watched;
use reload::{Load, Loaded, Reloads};
use shutdown::steps::ShutdownPlan;
use signals::Signals;

/// Orders and questions that may wait for the supervisor.
const COMMANDS: usize = 16;
/// How the server ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code, see `troubleshooting.md` in the manual.
    pub code: u8,
    /// What is to be the last thing on stderr, such as the traceback of an import.
    pub last_words: String,
}

impl Outcome {
    /// The last words with the code of the message.
    pub fn coded_words(&self) -> String {
        codes::with_code(&self.last_words, codes::of_exit(self.code))
    }
}

impl From<&Outcome> for ExitCode {
    fn from(outcome: &Outcome) -> Self {
        Self::from(outcome.code)
    }
}

/// Serves until told to stop.
///
/// # Errors
/// The error of the system call for the sockets and memory that a server needs at its start.
pub async fn serve(
    (resolved, applications): Loaded,
    load: Load,
    listeners: Vec<Listener>,
    admin: Option<Listener>,
) -> io::Result<Outcome> {
    let began = Instant::now();
    child::become_subreaper()?;
    let mut signals = Signals::new()?;
    let (reports, pool_reports) = mpsc::unbounded_channel();
    let resolved: Arc<Resolved> = Arc::new(resolved);
    let config = &resolved.config;
    let surroundings = ProcessEnvironment::of(config, &applications);
    if let Some(outcome) = run_before_start(config, &surroundings, &mut signals).await {
        return Ok(outcome);
    }
    let mut apps = Apps::new(reports);
    applications
        .into_iter()
        .try_for_each(|settings| apps.add(settings))?;
    let (asker, questions) = mpsc::channel(COMMANDS);
    let probes = Probes::new(asker);
    let front = Front::start(
        config,
        &apps.pools(&apps.serving_ids()),
        listeners,
        probes.clone(),
    )?;
    let (drained_sender, drained) = mpsc::unbounded_channel();
    let (commander, commands) = mpsc::channel(COMMANDS);
    let interfaces = Interfaces::open(config, commander, admin, probes);
    let (loaded_sender, loaded) = mpsc::unbounded_channel();
    let (change_sender, changes) = mpsc::unbounded_channel();
    let mut events = Events {
        signals,
        pool_reports,
        questions,
        drained,
        commands,
        loaded,
        changes,
    };
    let mut supervisor = Supervisor {
        began,
        stop: ShutdownPlan::new(config.drain_delay, config.graceful_timeout),
        reloads: Reloads::new(load, loaded_sender),
        changed: change_sender,
        watcher: None,
        is_heard_of: false,
        is_announced: false,
        apps,
        companions: Companions::new(&config.companions, surroundings),
        front,
        drained: drained_sender,
        wake_at: None,
        stop_signals: 0,
        stop_asked: None,
        code: None,
        companion_failed: false,
        last_words: String::new(),
        resolved,
    };
    supervisor.start();
    while supervisor.code.is_none() {
        supervisor.next_event(&mut events).await;
        supervisor.take_news();
    }
    let outcome = supervisor.end(events.signals).await;
    interfaces.close().await;
    Ok(outcome)
}

/// Runs the program that the settings want before the start; then there is an outcome if the server
/// must not start.
async fn run_before_start(
    config: &Config,
    surroundings: &ProcessEnvironment,
    signals: &mut Signals,
) -> Option<Outcome> {
    let program = config.before_start.as_ref()?;
    let within = config.graceful_timeout;
    let outcome = before_start::run(program, surroundings, within, signals).await?;
    startup::log::note_failure(config, outcome.code, &outcome.last_words);
    Some(outcome)
}

struct Supervisor {
    resolved: Arc<Resolved>,
    began: Instant,
    stop: ShutdownPlan,
    reloads: Reloads,
    /// Where changes of watched files are told.
    changed: mpsc::UnboundedSender<()>,
    watcher: Option<(Watched, AbortOnDrop)>,
    apps: Apps,
    /// True if it was said where the server listens.
    is_heard_of: bool,
    /// True if it was said that the server is ready.
    is_announced: bool,
    companions: Companions,
    front: Front,
    drained: mpsc::UnboundedSender<()>,
    wake_at: Option<Instant>,
    stop_signals: u32,
    stop_asked: Option<Instant>,
    /// The exit code, once it is known.
    code: Option<u8>,
    /// An essential companion has ended.
    companion_failed: bool,
    last_words: String,
}

impl Supervisor {
    fn start(&mut self) {
        self.announce();
        let leave_within = self.resolved.config.graceful_timeout;
        for app in self.apps.serving_mut() {
            app.leave_within = leave_within;
            app.happened(plan::PlanEvent::Start);
            app.look_after(Instant::now());
        }
        self.watch();
        self.look_after_companions();
        self.take_news();
    }

    /// Does something with the application of this number, unless that has gone.
    fn with(&mut self, id: usize, change: impl FnOnce(&mut App)) {
        if let Some(app) = self.apps.get_mut(id) {
            change(app);
        }
    }

    /// The next message of a template, with the number of its application.
    async fn template_message(&self) -> (usize, TemplateMessage) {
        poll_fn(|context| {
            for app in self.apps.all() {
                if let Poll::Ready(heard) = app.poll_message(context) {
                    return Poll::Ready((app.id(), heard));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Process groups of all applications and companions.
    fn groups(&self) -> Vec<u32> {
        let apps = self.apps.all().flat_map(App::groups);
        apps.chain(self.companions.groups()).collect()
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = child::reap() {
            let mut apps = self.apps.all_mut();
            if apps.any(|app| app.process_ended(pid, status)) {
                continue;
            }
            drop(apps);
            match self.companions.ended(pid, status, Instant::now()) {
                Some(Ended::Restart) => self.look_after_companions(),
                Some(Ended::Fatal) => {
                    self.companion_failed = true;
                    self.ask_to_stop();
                }
                None => tracing::trace!(pid, "reaped a process that is not ours"),
            }
        }
    }

    pub(super) fn look_after_companions(&mut self) {
        if let Some(time) = self.companions.look(Instant::now(), !self.is_stopping()) {
            self.wake_at(time);
        }
    }

    fn timer(&mut self) {
        self.wake_at = None;
        self.stopping(shutdown::steps::ShutdownEvent::Timer);
        self.look_after_companions();
        for app in self.apps.all_mut() {
            app.happened(plan::PlanEvent::Timer);
        }
        for app in self.apps.serving_mut() {
            app.look_after(Instant::now());
        }
        for app in self.apps.joining_mut() {
            app.check_start(Instant::now());
        }
        self.let_go();
        self.overtake();
    }

    /// Applications that were taken away leave as soon as nothing comes to them any more.
    fn let_go(&mut self) {
        if let Some(time) = self.apps.let_go(Instant::now()) {
            self.wake_at(time);
        }
    }

    /// Until there are none: what is done about some may make others.
    fn take_news(&mut self) {
        loop {
            let news = self.apps.all_mut();
            let news: Vec<_> = news
                .flat_map(|app| {
                    let id = app.id();
                    app.take_news().into_iter().map(move |news| (id, news))
                })
                .collect();
            if news.is_empty() {
                return;
            }
            for (id, news) in news {
                self.take(id, news);
            }
        }
    }

    fn take(&mut self, id: usize, news: AppEvent) {
        let serves = self.apps.serves(id);
        match news {
            AppEvent::Announce if serves => self.announce(),
            AppEvent::Announce | AppEvent::Prepared => self.app_prepared(id),
            AppEvent::ReloadFailed(words) => self.app_failed(id, &words),
            // What joins is asked when it serves.
            AppEvent::Files(files) if serves => {
                self.front.serve_found(&self.resolved.config, id, &files);
            }
            AppEvent::Files(_) => {}
            AppEvent::WakeAt(time) => self.wake_at(time),
            AppEvent::Gone => {
                if self.apps.gone(id) {
                    self.stopping(shutdown::steps::ShutdownEvent::Gone);
                }
            }
            AppEvent::GiveUp(ending) => {
                let words = self
                    .apps
                    .get_mut(id)
                    .map(|app| std::mem::take(&mut app.last_words));
                let words = words.unwrap_or_default();
                if !serves {
                    return self.app_failed(id, &words);
                }
                let is_repairable = ending != Ending::InterpreterUnusable;
                if is_repairable && self.waits_for_repair(id, &words) {
                    return;
                }
                self.last_words = words;
                let code = match ending {
                    Ending::NeverReady => 3,
                    Ending::ImportFailed => 4,
                    Ending::InterpreterUnusable => 78,
                };
                self.stopping(shutdown::steps::ShutdownEvent::Now(code));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Answer(question) => self.answer(question),
            Command::Scale(workers, reply) => drop(reply.send(self.scale(workers))),
            Command::Reload(reply) => self.reload(Some(reply)),
            Command::Pools(reply) => {
                let pools = self.apps.all().map(|app| Asked {
                    name: app.name(),
                    pool: app.pool.clone(),
                    starting: app.starting(),
                });
                // Who asked may have gone meanwhile.
                let _gone = reply.send(pools.collect());
            }
            Command::Stop => self.ask_to_stop(),
        }
    }

    fn answer(&self, question: SupervisorQuery) {
        // Who asked may have gone meanwhile.
        match question {
            SupervisorQuery::Status(reply) => drop(reply.send(self.status())),
            SupervisorQuery::Ready(reply) => drop(reply.send(self.health())),
        }
    }

    /// Has every application run so many workers.
    fn scale(&mut self, workers: u32) -> Result<(), String> {
        let mut apps = self.apps.serving_mut().iter_mut();
        apps.try_for_each(|app| app.scale(workers))
    }

    fn resize(&mut self, by: i32) {
        if self.is_stopping() {
            return;
        }
        for app in self.apps.serving_mut() {
            if let Err(why) = app.scale(app.size().saturating_add_signed(by)) {
                tracing::warn!("{why}");
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.has_begun()
    }

    /// Looks from now on at the files that the settings name.
    fn watch(&mut self) {
        let watched = Watched::new(&self.resolved.config);
        // Nothing that changes meanwhile is to be missed.
        if self.watcher.as_ref().map(|(watched, _)| watched) != watched.as_ref() {
            self.watcher = watched.map(|watched| {
                let task = tokio::spawn(watched.clone().watch(self.changed.clone()));
                (watched, AbortOnDrop(task))
            });
        }
    }

    fn wake_at(&mut self, time: Instant) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    /// Says where requests are answered, once, as soon as they are.
    fn say_listening(&mut self) {
        if !std::mem::replace(&mut self.is_heard_of, true) {
            startup::listening(self.resolved.config.log_format, &self.front.addresses);
        }
    }

    /// Says that the server is ready, once, as soon as it is.
    fn announce(&mut self) {
        let mut apps = self.apps.serving().iter();
        if self.is_announced || !apps.all(|app| app.is_announced) {
            return;
        }
        self.is_announced = true;
        self.say_listening();
        let (resolved, took) = (Arc::clone(&self.resolved), self.began.elapsed());
        let addresses = self.front.addresses.clone();
        let facts: Vec<_> = self.apps.serving().iter().map(App::facts).collect();
        // It counts the files of the static locations, on a thread of its own: those of the
        // front may all be held by a file system that hangs.
        let announce = move || startup::ready(&resolved.config, &addresses, &facts, took);
        let thread = std::thread::Builder::new().name("pyserve-ready".into());
        if thread.spawn(announce.clone()).is_err() {
            // Without a thread nothing is counted, so this is done at once.
            announce();
        }
    }
}

/// A task that ends with this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
