//! Starts, watches, replaces and stops the Python processes, and runs the front beside them.
//!
//! [`app`] is one application and [`plan`] decides about it; [`shutdown`] decides how the server
//! stops. This file has their common parts: signals, exited children, the front. Starting a process
//! and reading a directory may block here, never in the front.

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
mod maintenance;
pub mod plan;
pub mod policy;
pub mod reload;
mod service;
pub mod shutdown;
pub mod signals;
pub mod starting;
pub mod startup;
mod status;
pub mod template;
pub mod upgrade;
pub mod uwsgi_service;

use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{CommandLine, Config, Resolved};
use crate::front::accept::listener::Listener;
use crate::front::admin::{Probes, SupervisorQuery};
use crate::front::tls::certificates::Certificates;
use crate::front::tls::tickets::TicketKey;
use crate::observe::codes;
use crate::os::pidfile::PidFile;
use crate::os::service_manager::Notifications;
use crate::os::{child, memory};
use app::{App, AppEvent, TemplateMessage};
use apps::Apps;
use companions::{Companions, Ended, ProcessEnvironment};
use control::fifo::FifoCommand;
use control::{Asked, Command};
use events::Events;
use front_builder::Front;
use interfaces::Interfaces;
use plan::Ending;
use reload::triggers::{Change, Watched};
use reload::{Load, Loaded, Reloads};
use service::Service;
use shutdown::StopSignals;
use shutdown::steps::ShutdownPlan;
use signals::Signals;
use upgrade::predecessor::Inherited;
use upgrade::{Sockets, Successor, Upgrade, UpgradeEvent};

/// Orders and questions that may wait for the supervisor.
const COMMANDS: usize = 16;
/// The exit of the server.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code, see `troubleshooting.md` in the manual.
    pub code: u8,
    /// The last text on stderr, such as the traceback of an import.
    pub last_error: String,
}

impl Outcome {
    /// The last text with the code of the message.
    pub fn coded_error(&self) -> String {
        codes::with_code(&self.last_error, codes::of_exit(self.code))
    }
}

impl From<&Outcome> for ExitCode {
    fn from(outcome: &Outcome) -> Self {
        Self::from(outcome.code)
    }
}

/// All that a server opens before privileges are dropped.
#[derive(Debug, Default)]
pub struct Bound {
    /// The listeners for clients.
    pub listeners: Vec<Listener>,
    /// The admin listener.
    pub admin: Option<Listener>,
    /// The file with the process id.
    pub pidfile: Option<PidFile>,
    /// The service manager.
    pub notifications: Notifications,
    /// Read before privileges are dropped: keys are often readable for root only.
    pub certificates: Option<Arc<Certificates>>,
    /// That of the process whose place this one takes.
    pub inherited: Option<Inherited>,
}

/// Serves until a stop is requested.
///
/// # Errors
/// The error of the system call for the sockets and memory that a server needs at its start.
pub async fn serve(
    (resolved, applications): Loaded,
    load: Load,
    mut bound: Bound,
) -> io::Result<Outcome> {
    let began = Instant::now();
    child::become_subreaper()?;
    let mut signals = Signals::new()?;
    let config = &resolved.config;
    let surroundings = ProcessEnvironment::of(config, &applications);
    let inherited = bound.inherited.as_ref().map(Inherited::secrets);
    let keys = inherited.map(|inherited| inherited.tickets.clone());
    let adopted = inherited.and_then(|inherited| inherited.adopted.clone());
    let sockets = Sockets::of(&bound.listeners, bound.admin.as_ref())?;
    let (upgrade_sender, mut upgrades) = mpsc::unbounded_channel();
    let upgrade = Upgrade::new(bound.inherited.take(), sockets, upgrade_sender);
    // Both are cancel-safe: nothing goes on once the old process has ended.
    let outcome = tokio::select! {
        outcome = run_before_start(config, &surroundings, &mut signals) => outcome,
        outcome = upgrade::alone(&mut upgrades) => Some(outcome),
    };
    if let Some(outcome) = outcome {
        return Ok(outcome);
    }
    let sources = (signals, upgrades);
    let loaded = (resolved, applications);
    let (mut supervisor, mut events) = Supervisor::new(
        began,
        loaded,
        (load, adopted),
        (bound, &keys.unwrap_or_default()),
        (upgrade, sources),
    )?;
    supervisor.start();
    while supervisor.code.is_none() || supervisor.waits_for_companions() {
        supervisor.next_event(&mut events).await;
        supervisor.take_events();
    }
    let mut signals = events.signals;
    let (mut outcome, successor) = supervisor.end(&mut signals).await;
    if let Some(successor) = successor
        && let Some(code) = upgrade::guardian::guard(successor, signals).await
    {
        outcome.code = code;
    }
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
    startup::log::note_failure(config, outcome.code, &outcome.last_error);
    Some(outcome)
}

struct Supervisor {
    resolved: Arc<Resolved>,
    began: Instant,
    stop: ShutdownPlan,
    reloads: Reloads,
    /// Receives a message at each change of a watched file.
    changed: mpsc::UnboundedSender<Change>,
    watcher: Option<(Watched, AbortOnDrop)>,
    apps: Apps,
    /// True if the listen addresses were logged.
    is_listening_logged: bool,
    /// True if readiness was logged.
    is_announced: bool,
    companions: Companions,
    interfaces: Interfaces,
    pidfile: Option<PidFile>,
    front: Front,
    drained: mpsc::UnboundedSender<()>,
    wake_at: Option<Instant>,
    stop_signals: StopSignals,
    stop_asked: Option<shutdown::StopAsked>,
    /// The server ends, and this process has handed over: companions get no more time.
    is_hurried: bool,
    /// The exit code, once it is known.
    code: Option<u8>,
    /// An essential companion has ended.
    companion_failed: bool,
    last_error: String,
    service: Service,
    upgrade: Upgrade,
}

impl Supervisor {
    /// The supervisor of these settings, and the events for which it waits; nothing is started yet.
    fn new(
        began: Instant,
        (resolved, applications): Loaded,
        (load, adopted): (Load, Option<CommandLine>),
        (bound, keys): (Bound, &[TicketKey]),
        (upgrade, (signals, upgrades)): (Upgrade, (Signals, mpsc::UnboundedReceiver<UpgradeEvent>)),
    ) -> io::Result<(Self, Events)> {
        let (reports, pool_reports) = mpsc::unbounded_channel();
        let resolved: Arc<Resolved> = Arc::new(resolved);
        let config = &resolved.config;
        let surroundings = ProcessEnvironment::of(config, &applications);
        let mut apps = Apps::new(reports);
        applications
            .into_iter()
            .try_for_each(|settings| apps.add(settings))?;
        let (asker, questions) = mpsc::channel(COMMANDS);
        let probes = Probes::new(asker);
        let front = Front::start(
            config,
            &apps.pools(&apps.serving_ids()),
            bound.listeners,
            (bound.certificates, keys),
            probes.clone(),
        )?;
        let (drained_sender, drained) = mpsc::unbounded_channel();
        let (commander, commands) = mpsc::channel(COMMANDS);
        let (loaded_sender, loaded) = mpsc::unbounded_channel();
        let (change_sender, changes) = mpsc::unbounded_channel();
        let events = Events {
            signals,
            pool_reports,
            questions,
            drained,
            commands,
            loaded,
            changes,
            upgrades,
        };
        let supervisor = Self {
            began,
            stop: ShutdownPlan::new(config.drain_delay, config.graceful_timeout),
            reloads: Reloads::new(load, adopted, loaded_sender),
            changed: change_sender,
            watcher: None,
            is_listening_logged: false,
            is_announced: false,
            apps,
            companions: Companions::new(&config.companions, surroundings),
            interfaces: Interfaces::new(config, commander, bound.admin, probes),
            pidfile: bound.pidfile,
            front,
            drained: drained_sender,
            wake_at: None,
            stop_signals: StopSignals::default(),
            stop_asked: None,
            is_hurried: false,
            code: None,
            companion_failed: false,
            last_error: String::new(),
            service: Service::new(bound.notifications),
            upgrade,
            resolved,
        };
        Ok((supervisor, events))
    }

    fn start(&mut self) {
        match self.upgrade.is_waiting() {
            true => self.companions.pause(),
            false => self.begin_to_serve(),
        }
        self.give_sign_of_life();
        self.announce();
        let leave_within = self.resolved.config.graceful_timeout;
        for app in self.apps.serving_mut() {
            app.leave_within = leave_within;
            app.handle(plan::PlanEvent::Start);
            app.look_after(Instant::now());
        }
        self.resume_sizes();
        self.watch();
        self.look_after_companions();
        self.take_events();
    }

    /// Calls `change` with the application of this number, if it still exists.
    fn with(&mut self, id: usize, change: impl FnOnce(&mut App)) {
        if let Some(app) = self.apps.get_mut(id) {
            change(app);
        }
    }

    /// The next message of a template, with the number of its application.
    async fn template_message(&self) -> (usize, TemplateMessage) {
        poll_fn(|context| {
            for app in self.apps.all() {
                if let Poll::Ready(message) = app.poll_message(context) {
                    return Poll::Ready((app.id(), message));
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
            if self.upgrade_ended(pid, status) {
                continue;
            }
            let mut apps = self.apps.all_mut();
            if apps.any(|app| app.process_ended(pid, Some(status))) {
                continue;
            }
            drop(apps);
            match self.companions.ended(pid, status, Instant::now()) {
                Some(Ended::Restart) => {
                    self.pass_on_runs();
                    self.look_after_companions();
                }
                Some(Ended::Fatal) => {
                    self.companion_failed = true;
                    self.ask_to_stop();
                }
                None => tracing::trace!(pid, "reaped an unknown process"),
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
        self.give_sign_of_life();
        self.stopping(shutdown::steps::ShutdownEvent::Timer);
        self.upgrade_timer();
        self.look_after_companions();
        for app in self.apps.all_mut() {
            app.handle(plan::PlanEvent::Timer);
        }
        for app in self.apps.serving_mut() {
            app.look_after(Instant::now());
        }
        for app in self.apps.joining_mut() {
            app.check_start(Instant::now());
        }
        self.retire_removed();
        self.overtake();
    }

    /// Removed applications leave when no site sends them requests.
    fn retire_removed(&mut self) {
        if let Some(time) = self.apps.retire_removed(Instant::now()) {
            self.wake_at(time);
        }
    }

    /// Repeated until there are no events: handling one may cause others.
    fn take_events(&mut self) {
        loop {
            let apps = self.apps.all_mut();
            let events: Vec<_> = apps
                .flat_map(|app| {
                    let id = app.id();
                    app.take_events().into_iter().map(move |event| (id, event))
                })
                .collect();
            if events.is_empty() {
                return;
            }
            for (id, event) in events {
                self.take(id, event);
            }
        }
    }

    fn take(&mut self, id: usize, event: AppEvent) {
        let serves = self.apps.serves(id);
        match event {
            AppEvent::Announce if serves => self.announce(),
            AppEvent::Announce | AppEvent::Prepared => self.app_prepared(id),
            AppEvent::ReloadFailed(text) => self.app_failed(id, &text),
            // A joining application is asked when it serves.
            AppEvent::Files(files) if serves => {
                let index = self.apps.serving().iter().position(|app| app.id() == id);
                let app = (id, index);
                self.front.serve_found(&self.resolved.config, app, &files);
            }
            AppEvent::Files(_) => {}
            AppEvent::WakeAt(time) => self.wake_at(time),
            AppEvent::Gone => {
                if self.apps.gone(id) {
                    self.stopping(shutdown::steps::ShutdownEvent::Gone);
                }
            }
            AppEvent::GiveUp(ending) => {
                let text = self
                    .apps
                    .get_mut(id)
                    .map(|app| std::mem::take(&mut app.last_error));
                let text = text.unwrap_or_default();
                if !serves {
                    return self.app_failed(id, &text);
                }
                let is_repairable = ending != Ending::InterpreterUnusable;
                if is_repairable && self.waits_for_repair(id, &text) {
                    return;
                }
                self.last_error = text;
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
            Command::Scale(workers, reply) => {
                let done = self.unless_handing_over();
                let _gone = reply.send(done.and_then(|()| self.scale(workers)));
            }
            Command::Maintenance(order, reply) => {
                let done = self.unless_handing_over();
                let switch = self.front.maintenance();
                let _gone = reply.send(done.map(|()| maintenance::obey(switch, order)));
            }
            Command::Upgrade(to, reply) => self.upgrade(to, Some(reply)),
            Command::Reload(None, reply) => self.reload(Some(reply)),
            Command::Reload(Some(line), reply) => self.adopt(line, reply),
            Command::Pools(reply) => {
                let pools = self.apps.all().map(|app| Asked {
                    name: app.name(),
                    pool: app.pool.clone(),
                    starting: app.starting(),
                });
                // The client may have disconnected meanwhile.
                let _gone = reply.send(pools.collect());
            }
            Command::Stop => self.ask_to_stop(),
            Command::Fifo(command) => self.obey_fifo(command),
        }
    }

    fn obey_fifo(&mut self, command: FifoCommand) {
        let signal = match command {
            FifoCommand::ReloadWorkers => return self.reload_in_place(None),
            FifoCommand::WritePidFile => return self.claim_pidfile(),
            FifoCommand::Stop => return self.ask_to_stop(),
            FifoCommand::Reload => Signal::HUP,
            FifoCommand::StopNow => Signal::QUIT,
            FifoCommand::More => Signal::TTIN,
            FifoCommand::Fewer => Signal::TTOU,
            FifoCommand::ReopenLogs => Signal::USR1,
        };
        self.signal(signal.as_raw(), false);
    }

    /// Writes the process id into the pidfile, if there is one.
    fn claim_pidfile(&mut self) {
        if let Some(Err(error)) = self.pidfile.as_mut().map(PidFile::claim) {
            tracing::warn!(%error, "cannot write the process id (set another file with --pidfile)");
        }
    }

    fn answer(&self, question: SupervisorQuery) {
        // The client may have disconnected meanwhile.
        match question {
            SupervisorQuery::Status(reply) => drop(reply.send(self.status())),
            SupervisorQuery::Ready(reply) => drop(reply.send(self.health())),
        }
    }

    /// Sets the number of workers of every application.
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

    /// Watches the files of the settings from now on.
    fn watch(&mut self) {
        let watched = Watched::new(&self.resolved.config);
        // Keeps the watcher if the files are the same, so that no change is missed.
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

    /// Logs the listen addresses, once, as soon as requests are answered.
    fn log_listening(&mut self) {
        if !std::mem::replace(&mut self.is_listening_logged, true) {
            startup::listening(self.resolved.config.log_format, &self.front.addresses);
        }
    }

    /// Logs that the server is ready, once.
    fn announce(&mut self) {
        let mut apps = self.apps.serving().iter();
        if self.is_announced || !apps.all(|app| app.is_announced) {
            return;
        }
        self.is_announced = true;
        self.log_listening();
        let (resolved, took) = (Arc::clone(&self.resolved), self.began.elapsed());
        self.notify_ready(took);
        self.tell_ready();
        let addresses = self.front.addresses.clone();
        let facts: Vec<_> = self.apps.serving().iter().map(App::facts).collect();
        // Counting the files of the static locations needs its own thread: a hung file system may
        // hold all threads of the front.
        let announce = move || {
            startup::ready(&resolved.config, &addresses, &facts, took);
            // Only the start needs nearly half of the code that is in memory by now.
            memory::unmap_clean_pages();
        };
        let thread = std::thread::Builder::new().name("pyserve-ready".into());
        if thread.spawn(announce.clone()).is_err() {
            // Without a thread nothing is counted, so this does not block.
            announce();
        }
    }
}

/// A task that is aborted when this is dropped.
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
