//! The Python side of one generation: its queue, its template, its workers.
//!
//! Carries out; what is to be done is decided in `plan`.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pyserve_wire::control::{Boot, Preload};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::app_log;
use super::startup::Facts;
use super::template::{HostFiles, Template, UNUSABLE_INTERPRETER};
use crate::config::{AppTarget, Config, Interpreter};
use crate::front::upstream::workers::{Event, Limits, Pool};
use crate::os::{child, sockets};

/// The Python side of one generation.
pub struct Python {
    /// Its queue.
    pub pool: Pool,
    /// The interpreter that it runs in.
    pub interpreter: Interpreter,
    files: HostFiles,
    /// Our end of its log.
    pub log: Arc<AsyncFd<OwnedFd>>,
    log_sender: OwnedFd,
    /// The process that forks, while there is one.
    pub template: Option<Template>,
    /// Workers by process id: their number, and the process group they belong to.
    pub workers: HashMap<u32, (u32, u32)>,
    /// What is known about it.
    pub facts: Facts,
}

impl Python {
    /// Makes queue, scoreboard and log; no process yet.
    ///
    /// # Errors
    /// What the kernel says about sockets and memory.
    pub fn new(
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

    /// Starts a template; the one before, if any, leaves.
    ///
    /// # Errors
    /// What the kernel says about executing the interpreter.
    pub fn start_template(&mut self, config: &Config, preload: Preload) -> io::Result<()> {
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
            find_static: config.django_static,
            find_media: config.django_media,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let [queue, board] = self.pool.descriptors();
        let descriptors = [queue, board, self.log_sender.as_fd()];
        self.facts.interpreter = None;
        // The one before, if any, sees its socket close.
        self.template = Some(Template::start(
            &self.interpreter.path,
            &self.files,
            boot,
            &descriptors,
        )?);
        Ok(())
    }

    /// Has the template fork a worker.
    ///
    /// # Errors
    /// What the kernel says; a template that has gone is `BrokenPipe`.
    pub fn fork(&self, worker: u32) -> io::Result<()> {
        let template = self.template.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let pairs = (0..self.pool.threads()).map(|_| sockets::pair(SocketType::STREAM));
        let (ours, mut theirs): (Vec<_>, Vec<_>) =
            pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let (orders, obeyed) = sockets::pair(SocketType::SEQPACKET)?;
        theirs.push(obeyed);
        self.pool.attach(worker, ours, orders)?;
        template.fork(worker, &theirs)
    }

    /// Whether a template that ended with this status never got as far as running our host.
    pub fn is_unusable(&self, status: i32) -> bool {
        self.facts.interpreter.is_none() && child::exit_code(status).is_some()
    }

    /// What is to be said about such an interpreter; nothing if it has said so itself.
    pub fn why_unusable(&self, status: i32) -> String {
        if child::exit_code(status) == Some(UNUSABLE_INTERPRETER) {
            return String::new();
        }
        format!(
            "pyserve: {} (from {}) ended with {} before it ran anything: is it a CPython? (choose another with --python or --venv)",
            self.interpreter.path.display(),
            self.interpreter.origin,
            child::describe_status(status)
        )
    }

    /// Kills template, workers, and what the application started in their groups.
    pub fn kill_all(&self) {
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
