//! Starts, watches, replaces and stops the Python processes, and runs the front beside them.
//!
//! [`plan`] decides; this file feeds it what happens and carries out what it says.
//! Starting a process and reading a directory may block here, which the front never does.

pub mod app_log;
pub mod plan;
pub mod startup;
pub mod template;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use pyserve_wire::control::{Boot, FromTemplate, Preload};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::config::{AppTarget, Config, Interpreter};
use crate::front::connection::{Deadlines, Stop};
use crate::front::file_pool::FilePool;
use crate::front::listener::Listener;
use crate::front::request::Site;
use crate::front::request::spool::Spool;
use crate::front::spelling::Spellings;
use crate::front::static_files::Locations;
use crate::front::upstream::workers::{Event, Limits, Pool};
use crate::observe::access_log::AccessLog;
use crate::os::{child, sockets};
use plan::{Action, Ending, Happened, Plan};
use startup::Facts;
use template::{HostFiles, Template, UNUSABLE_INTERPRETER};

/// How the server ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code, see DESIGN's table in the README.
    pub code: u8,
    /// What is to be the last thing on stderr, such as the traceback of an import.
    pub last_words: String,
}

impl From<&Outcome> for ExitCode {
    fn from(outcome: &Outcome) -> Self {
        Self::from(outcome.code)
    }
}

/// Serves until told to stop.
///
/// # Errors
/// What the kernel says about the sockets and memory that a server needs at its start.
pub async fn serve(
    config: Config,
    interpreter: Option<Interpreter>,
    listeners: Vec<Listener>,
) -> io::Result<Outcome> {
    let began = Instant::now();
    child::become_subreaper()?;
    let mut signals = Signals::new()?;
    let config = Arc::new(config);
    let (events, mut pool_events) = mpsc::unbounded_channel();
    let python = match interpreter {
        Some(interpreter) => Some(Python::new(&config, interpreter, events)?),
        None => None,
    };
    let front = Front::start(
        &config,
        python.as_ref().map(|python| python.pool.clone()),
        listeners,
    )?;
    let workers = if python.is_some() {
        config.workers.count
    } else {
        0
    };
    let plan = Plan::new(workers, config.preload, config.graceful_timeout);
    let (drained_sender, mut drained) = mpsc::unbounded_channel();
    let mut supervisor = Supervisor {
        config,
        began,
        plan,
        python,
        front,
        drained: drained_sender,
        wake_at: None,
        stop_signals: 0,
        ending: None,
        last_words: String::new(),
    };
    supervisor.happened(Happened::Start);
    while supervisor.ending.is_none() {
        let wake_at = supervisor.wake_at.map(tokio::time::Instant::from_std);
        // Every branch is cancel-safe: channels, signals and sockets keep what is not
        // taken, and the timer is made anew from `wake_at`.
        tokio::select! {
            biased;
            message = supervisor.from_template() => supervisor.take_message(message),
            Some(event) = pool_events.recv() => supervisor.take_event(event),
            _ = signals.child.recv() => supervisor.reap(),
            _ = signals.terminate.recv() => supervisor.stop_signal(15),
            _ = signals.interrupt.recv() => supervisor.stop_signal(2),
            _ = signals.quit.recv() => supervisor.happened(Happened::StopNow(3)),
            Some(()) = drained.recv() => supervisor.happened(Happened::Drained),
            () = sleep_until(wake_at), if wake_at.is_some() => {
                supervisor.wake_at = None;
                supervisor.happened(Happened::Timer);
            }
        }
    }
    Ok(supervisor.end().await)
}

/// Imports the application in a template, and says what was found or what is wrong.
///
/// # Errors
/// What the kernel says about starting the interpreter.
pub async fn check(config: Config, interpreter: Interpreter) -> io::Result<(Facts, Outcome)> {
    let config = Arc::new(Config {
        preload: Preload::Yes,
        ..config
    });
    let (events, _unused) = mpsc::unbounded_channel();
    let mut signals = Signals::new()?;
    let mut python = Python::new(&config, interpreter, events)?;
    python.start_template(&config, Preload::Yes)?;
    let template = python.template.as_ref().expect("started above");
    let answer = tokio::select! {
        message = template.receive() => message,
        _ = signals.terminate.recv() => None,
        _ = signals.interrupt.recv() => None,
    };
    app_log::drain(&python.log, &python.pool);
    let outcome = |code, last_words| Outcome { code, last_words };
    let outcome = match answer {
        Some(FromTemplate::Imported(interpreter, loaded)) => {
            python.facts.interpreter = Some(interpreter);
            python.facts.loaded = Some(loaded);
            outcome(0, String::new())
        }
        Some(FromTemplate::ImportFailed { traceback }) => outcome(4, traceback),
        _ => {
            signals.child.recv().await;
            match child::reap().and_then(|(_, status)| child::exit_code(status)) {
                Some(UNUSABLE_INTERPRETER) => outcome(78, String::new()),
                _ => outcome(
                    4,
                    "the interpreter ended while it imported the application".to_owned(),
                ),
            }
        }
    };
    child::kill_group(python.template.as_ref().map_or(0, |template| template.pid));
    Ok((python.facts, outcome))
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

/// The front: listeners and connections.
struct Front {
    stop: Stop,
    connections: TaskTracker,
    access_log: Arc<AccessLog>,
}

impl Front {
    fn start(config: &Config, pool: Option<Pool>, listeners: Vec<Listener>) -> io::Result<Self> {
        let files = FilePool::default();
        let locations = config
            .static_locations
            .iter()
            .map(|location| (location.prefix.clone(), location.dir.clone()));
        let access_log = Arc::new(AccessLog::new(config.access_log));
        let site = Arc::new(Site {
            locations: Locations::new(locations).map_err(io::Error::other)?,
            workers: pool,
            spool: Spool {
                directory: config.temp_dir.clone(),
                max_body: config.max_body,
                idle_timeout: config.body_timeout,
                files: files.clone(),
            },
            files,
            access_log: Arc::clone(&access_log),
            server_header: config.server_header,
            spellings: Spellings::default(),
        });
        let deadlines = Deadlines {
            header: config.header_timeout,
            keepalive: config.keepalive_timeout,
            send: config.body_timeout,
        };
        let trust = Arc::new(config.trust.clone());
        let (stop, connections) = (Stop::default(), TaskTracker::new());
        for listener in listeners {
            startup::listening(config.log_format, &listener.address);
            let accept = listener.accept(
                Arc::clone(&site),
                Arc::clone(&trust),
                deadlines,
                stop.clone(),
                connections.clone(),
            );
            connections.spawn(async {
                if let Err(error) = accept.await {
                    tracing::error!(%error, "cannot accept connections");
                }
            });
        }
        Ok(Self {
            stop,
            connections,
            access_log,
        })
    }
}

/// The Python side of one generation.
struct Python {
    pool: Pool,
    interpreter: Interpreter,
    files: HostFiles,
    log: Arc<AsyncFd<OwnedFd>>,
    log_sender: OwnedFd,
    template: Option<Template>,
    /// Workers by process id: their number, and the process group they belong to.
    workers: HashMap<u32, (u32, u32)>,
    facts: Facts,
}

impl Python {
    fn new(
        config: &Config,
        interpreter: Interpreter,
        events: mpsc::UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let limits = Limits {
            workers: config.workers.count,
            threads: config.threads,
            queue: config.queue_limit,
            queue_timeout: config.queue_timeout,
        };
        let channel_readers = TaskTracker::new();
        let pool = Pool::new(limits, channel_readers.clone(), events)?;
        let (log, log_sender) = app_log::pair()?;
        let log = Arc::new(log);
        let (followed, known) = (Arc::clone(&log), pool.clone());
        // Ends with the runtime; what comes last is drained by `Supervisor::end`.
        channel_readers.spawn(async move { app_log::follow(&followed, &known).await });
        let facts = Facts {
            found: interpreter.origin.clone(),
            ..Facts::default()
        };
        Ok(Self {
            pool,
            interpreter,
            files: HostFiles::create(&config.temp_dir)?,
            log,
            log_sender,
            template: None,
            workers: HashMap::new(),
            facts,
        })
    }

    fn start_template(&mut self, config: &Config, preload: Preload) -> io::Result<()> {
        let Some(app) = &config.app else {
            return Err(io::Error::other("there is no application"));
        };
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let (target, app_is_file) = match &app.target {
            AppTarget::Module(name) => (name.clone(), false),
            AppTarget::File(path) => (text(path), true),
        };
        let boot = Boot {
            app: target,
            app_is_file,
            callable: app.callable.clone().unwrap_or_default(),
            factory: app.factory,
            chdir: text(&config.chdir),
            pythonpath: config.pythonpath.iter().map(|dir| text(dir)).collect(),
            threads: config.threads,
            workers: config.workers.count,
            preload,
            dev: config.dev,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let [queue, board] = self.pool.descriptors();
        let descriptors = [queue, board, self.log_sender.as_fd()];
        // The one before, if any, sees its socket close and leaves.
        self.template = Some(Template::start(
            &self.interpreter.path,
            &self.files,
            boot,
            &descriptors,
        )?);
        Ok(())
    }

    fn fork(&self, worker: u32) -> io::Result<()> {
        let template = self.template.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let pairs = (0..self.pool.threads()).map(|_| sockets::pair(SocketType::STREAM));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        self.pool.attach(worker, ours)?;
        template.fork(worker, &theirs)
    }

    fn kill_all(&self) {
        let template = self.template.as_ref().map(|template| template.pid);
        let groups = self
            .workers
            .values()
            .map(|(_, group)| *group)
            .chain(template);
        for group in groups {
            child::kill_group(group);
        }
    }
}

struct Supervisor {
    config: Arc<Config>,
    began: Instant,
    plan: Plan,
    python: Option<Python>,
    front: Front,
    drained: mpsc::UnboundedSender<()>,
    wake_at: Option<Instant>,
    stop_signals: u32,
    ending: Option<Ending>,
    last_words: String,
}

impl Supervisor {
    async fn from_template(&self) -> Option<FromTemplate> {
        match self
            .python
            .as_ref()
            .and_then(|python| python.template.as_ref())
        {
            Some(template) if !template.closed => template.receive().await,
            _ => std::future::pending().await,
        }
    }

    fn take_message(&mut self, message: Option<FromTemplate>) {
        let Some(python) = &mut self.python else {
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
            FromTemplate::Clean(interpreter) => {
                python.facts.interpreter = Some(interpreter);
                Happened::TemplateLoaded
            }
            FromTemplate::Imported(interpreter, loaded) => {
                python.facts.interpreter = Some(interpreter);
                python.facts.loaded = Some(loaded);
                Happened::TemplateLoaded
            }
            FromTemplate::UnsafeToFork(reasons) => {
                tracing::warn!(
                    reasons = reasons.join("; "),
                    "importing the application left threads or sockets, so forking it is not safe: each worker imports for itself (--preload yes forces sharing, --preload no silences this)"
                );
                python.facts.unsafe_to_fork = reasons;
                python.template = None;
                Happened::TemplateUnsafe
            }
            FromTemplate::ImportFailed { traceback } => {
                self.last_words = traceback;
                Happened::ImportFailed
            }
            FromTemplate::Forked { worker, pid } => {
                python.workers.insert(pid, (worker, group));
                Happened::Forked(worker)
            }
            FromTemplate::ForkFailed { worker, why } => {
                tracing::error!(worker, why, "cannot fork a worker");
                python.pool.worker_exited(worker);
                Happened::ForkFailed(worker)
            }
            FromTemplate::Exited { pid, status, .. } => return self.process_ended(pid, status),
        };
        self.happened(happened);
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Ready { worker, loaded } => {
                tracing::debug!(worker, "worker ready");
                if let (Some(python), Some(loaded)) = (&mut self.python, loaded) {
                    python.facts.loaded = Some(loaded);
                }
                self.happened(Happened::WorkerReady(worker));
            }
            Event::BootFailed { worker, traceback } => {
                if self.facts().is_some_and(|facts| facts.loaded.is_some()) {
                    tracing::error!(
                        worker,
                        "a worker cannot import the application:\n{traceback}"
                    );
                }
                self.last_words = traceback;
                self.happened(Happened::ImportFailed);
            }
            Event::Confused { worker } => {
                let workers = self.python.iter().flat_map(|python| &python.workers);
                for (pid, _) in workers.filter(|(_, (number, _))| *number == worker) {
                    child::kill(*pid);
                }
            }
        }
    }

    fn facts(&self) -> Option<&Facts> {
        self.python.as_ref().map(|python| &python.facts)
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = child::reap() {
            self.process_ended(pid, status);
        }
    }

    fn process_ended(&mut self, pid: u32, status: i32) {
        let Some(python) = &mut self.python else {
            return;
        };
        if let Some((worker, _)) = python.workers.remove(&pid) {
            if child::exit_code(status) == Some(0) {
                tracing::debug!(worker, pid, "worker left");
            } else {
                tracing::warn!(
                    worker,
                    pid,
                    reason = child::describe_status(status),
                    "worker died"
                );
            }
            python.pool.worker_exited(worker);
            self.happened(Happened::WorkerExited(worker));
        } else if python
            .template
            .as_ref()
            .is_some_and(|template| template.pid == pid)
        {
            self.template_ended(pid, status);
        } else {
            tracing::trace!(pid, "reaped a process that is not ours");
        }
    }

    fn template_ended(&mut self, pid: u32, status: i32) {
        // What it said before it ended comes first.
        let template = self
            .python
            .as_mut()
            .and_then(|python| python.template.take());
        while let Some(Ok(Some(message))) = template.as_ref().map(Template::try_receive) {
            self.take_message(Some(message));
        }
        if self.ending.is_some() {
            return;
        }
        if child::exit_code(status) == Some(UNUSABLE_INTERPRETER) {
            return self.happened(Happened::InterpreterUnusable);
        }
        tracing::warn!(
            pid,
            reason = child::describe_status(status),
            "template died"
        );
        self.happened(Happened::TemplateExited);
    }

    fn stop_signal(&mut self, number: u8) {
        self.stop_signals += 1;
        if self.stop_signals > 1 {
            tracing::warn!("second signal: stopping at once");
            return self.happened(Happened::StopNow(number));
        }
        let (running, waiting) = self
            .python
            .as_ref()
            .map_or((0, 0), |python| python.pool.load());
        tracing::info!(running, waiting, "stopping: finishing what is in flight");
        self.happened(Happened::Stop);
    }

    fn happened(&mut self, happened: Happened) {
        tracing::debug!(?happened);
        for action in self.plan.decide(happened, Instant::now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartTemplate(preload) => self.start_template(preload),
            Action::Fork(worker) => {
                let forked = self.python.as_ref().map(|python| python.fork(worker));
                if let Some(Err(error)) = forked {
                    tracing::error!(worker, %error, "cannot fork a worker");
                    self.happened(Happened::ForkFailed(worker));
                }
            }
            Action::Announce => self.announce(),
            Action::Drain => self.drain(),
            Action::CutConnections => {
                tracing::warn!("the graceful timeout is over: breaking off what still runs");
                self.front.stop.cut.cancel();
            }
            Action::CloseQueue => {
                if let Some(python) = &self.python {
                    python.pool.close();
                }
            }
            Action::KillAll => {
                if let Some(python) = &self.python {
                    python.kill_all();
                }
            }
            Action::WakeAt(time) => {
                self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
            }
            Action::Exit(ending) => self.ending = Some(ending),
        }
    }

    fn start_template(&mut self, preload: Preload) {
        let Some(python) = &mut self.python else {
            return;
        };
        if let Err(error) = python.start_template(&self.config, preload) {
            let interpreter = python.interpreter.path.display();
            tracing::error!(%interpreter, %error, "cannot start the interpreter");
            self.happened(Happened::TemplateExited);
        }
    }

    fn announce(&self) {
        let no_facts = Facts::default();
        startup::ready(
            &self.config,
            self.facts().unwrap_or(&no_facts),
            self.began.elapsed(),
        );
    }

    fn drain(&self) {
        self.front.stop.drain.cancel();
        let (connections, drained) = (self.front.connections.clone(), self.drained.clone());
        connections.close();
        tokio::spawn(async move {
            connections.wait().await;
            let _supervisor_gone = drained.send(());
        });
    }

    async fn end(self) -> Outcome {
        if let Some(python) = &self.python {
            app_log::drain(&python.log, &python.pool);
        }
        let access_log = Arc::clone(&self.front.access_log);
        let _flushed = tokio::task::spawn_blocking(move || access_log.close()).await;
        let code = match self.ending.unwrap_or(Ending::Clean) {
            Ending::Clean => 0,
            Ending::Signal(number) => 128 + number,
            Ending::NeverReady => 3,
            Ending::ImportFailed => 4,
            Ending::InterpreterUnusable => 78,
        };
        let last_words = match code {
            3 if self.last_words.is_empty() => {
                "pyserve: the workers keep dying before they are ready (see the log above)"
                    .to_owned()
            }
            0 => String::new(),
            _ => self.last_words,
        };
        if code == 0 {
            tracing::info!("stopped");
        }
        Outcome { code, last_words }
    }
}

async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
