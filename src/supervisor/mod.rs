//! Starts, watches, replaces and stops the Python processes, and runs the front beside them.
//!
//! [`plan`] decides; this file feeds it what happens and carries out what it says.
//! Starting a process and reading a directory may block here, which the front never does.

pub mod app_log;
pub mod check;
pub mod control;
mod front_door;
pub mod plan;
mod python;
pub mod startup;
mod status;
pub mod template;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyserve_wire::control::{FromTemplate, Preload};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Interpreter};
use crate::front::listener::Listener;
use crate::front::upstream::workers::Event;
use crate::observe::status::remember_error;
use crate::os::child;
use control::{Command, ControlSocket};
use front_door::Front;
use plan::{Action, Ending, Happened, Plan};
use python::Python;
use startup::Facts;
use template::Template;

/// How long the killed may take to vanish before we end and leave them to init.
const LAST_REAP: Duration = Duration::from_millis(200);

/// Orders and questions that may wait for the supervisor.
const COMMANDS: usize = 16;
/// How long the last answers on the control socket may take.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

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
    let (commander, mut commands) = mpsc::channel(COMMANDS);
    let (ended, steering) = (CancellationToken::new(), TaskTracker::new());
    if let Some(socket) = ControlSocket::open(&config.control) {
        steering.spawn(socket.serve(commander.clone(), ended.clone(), steering.clone()));
    }
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
            message = supervisor.template_message() => supervisor.take_message(message),
            Some(event) = pool_events.recv() => supervisor.take_event(event),
            _ = signals.child.recv() => supervisor.reap(),
            _ = signals.terminate.recv() => supervisor.stop_signal(15),
            _ = signals.interrupt.recv() => supervisor.stop_signal(2),
            _ = signals.quit.recv() => supervisor.happened(Happened::StopNow(3)),
            Some(command) = commands.recv() => supervisor.obey(command),
            Some(()) = drained.recv() => supervisor.happened(Happened::Drained),
            () = sleep_until(wake_at), if wake_at.is_some() => {
                supervisor.wake_at = None;
                supervisor.happened(Happened::Timer);
            }
        }
    }
    let outcome = supervisor.end().await;
    // Whoever asked for the stop learns last that it is done.
    ended.cancel();
    steering.close();
    let _late = tokio::time::timeout(LAST_ANSWERS, steering.wait()).await;
    Ok(outcome)
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
    async fn template_message(&self) -> Option<FromTemplate> {
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
            FromTemplate::Started(interpreter) => {
                python.facts.interpreter = Some(interpreter);
                return;
            }
            FromTemplate::Clean => Happened::TemplateLoaded,
            FromTemplate::Imported(loaded) => {
                self.front.serve_found(&self.config, &loaded.files);
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
                    self.front.serve_found(&self.config, &loaded.files);
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
                let reason = child::describe_status(status);
                remember_error(&format!("worker {worker} died: {reason}"));
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
        if let Some(python) = self
            .python
            .as_ref()
            .filter(|python| python.is_unusable(status))
        {
            self.last_words = python.why_unusable(status);
            return self.happened(Happened::InterpreterUnusable);
        }
        tracing::warn!(
            pid,
            reason = child::describe_status(status),
            "template died"
        );
        self.happened(Happened::TemplateExited);
    }

    fn obey(&mut self, command: Command) {
        // Who asked may have gone meanwhile.
        match command {
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Health(reply) => drop(reply.send(self.health())),
            Command::Stop => self.stop(),
        }
    }

    fn stop_signal(&mut self, number: u8) {
        self.stop_signals += 1;
        if self.stop_signals > 1 {
            tracing::warn!("second signal: stopping at once");
            return self.happened(Happened::StopNow(number));
        }
        self.stop();
    }

    fn stop(&mut self) {
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
        let (config, took) = (Arc::clone(&self.config), self.began.elapsed());
        let facts = self.facts().cloned().unwrap_or_default();
        // It counts the files of the static locations.
        tokio::task::spawn_blocking(move || startup::ready(&config, &facts, took));
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
        let last_steps = move || {
            access_log.close();
            child::reap_the_killed(LAST_REAP);
        };
        let _done = tokio::task::spawn_blocking(last_steps).await;
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
