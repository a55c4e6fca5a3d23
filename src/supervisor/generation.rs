//! The Python side of one generation: its queue, its template, its workers.
//!
//! Carries out; what is to be done is decided in `plan`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use pyserve_wire::control::{Boot, FromTemplate, Preload};
use pyserve_wire::scoreboard::MAX_THREADS;
use rustix::net::SocketType;

use super::plan::GenerationSpec;
use super::policy::recycle::Seen;
use super::starting::{StackPipe, Starting};
use super::startup::StartupFacts;
use super::template::{HostFiles, Template, UNUSABLE_INTERPRETER};
use crate::config::{AppSettings, AppTarget};
use crate::front::upstream::workers::{Generation, Pool, Size};
use crate::os::{child, descriptors, process, sockets};

/// There is room for this many workers to be added by hand, however few there are at first.
const ROOM: u32 = 16;

/// What the plan has to know of the settings.
pub fn recipe(settings: &AppSettings) -> GenerationSpec {
    let workers = settings.workers.count;
    // As many again for successors that come before the others leave.
    let slots = 2 * settings.workers.most.max(ROOM);
    GenerationSpec {
        workers,
        slots: slots
            .min(MAX_THREADS as u32 / settings.threads.max(1))
            .max(settings.workers.most),
        preload: settings.preload,
        without_copies: match settings.workers.is_auto {
            true => workers,
            false => u32::MAX,
        },
    }
}

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageSender {
    /// The template.
    Template,
    /// The worker that was asked to become the template, by its number.
    Candidate(u32),
    /// The process that was the template once.
    Former(u32),
}

/// The Python side of one generation.
pub struct Python {
    /// Its queue and its scoreboard.
    pub generation: Generation,
    /// How it is run.
    pub settings: Arc<AppSettings>,
    /// The process that forks, while there is one.
    pub template: Option<Template>,
    /// The template that must not be forked, until its process has gone: what the import has
    /// started ends with it.
    pub refused: Option<Template>,
    /// True if the template was a worker.
    pub was_worker: bool,
    /// The worker that is asked to become the template, by its number.
    pub candidate: Option<(u32, Template)>,
    /// Templates of before that have not ended yet.
    pub former: Vec<Template>,
    /// Workers by process id: their number, and the process group they belong to, which is
    /// that of the template that forked them.
    pub workers: HashMap<u32, (u32, u32)>,
    /// Workers that the template was asked for, and of which it has not told yet.
    asked_for: HashSet<u32>,
    /// Workers by process id that were killed, and why.
    pub killed: HashMap<u32, &'static str>,
    /// Where the template, and workers that it forked, write their stacks while they start.
    stacks: Option<Arc<StackPipe>>,
    /// Its template has not said yet what became of the import.
    pub is_importing: bool,
    /// What is known about it.
    pub facts: StartupFacts,
}

impl Python {
    /// Makes queue and scoreboard of generation `number`; no process yet.
    ///
    /// # Errors
    /// The error of the system call for sockets and memory.
    pub fn new(number: u32, settings: &Arc<AppSettings>, pool: &Pool) -> io::Result<Self> {
        let size = Size {
            slots: recipe(settings).slots,
            threads: settings.threads,
        };
        let facts = StartupFacts {
            found: settings.interpreter.origin.clone(),
            ..StartupFacts::default()
        };
        Ok(Self {
            generation: pool.generation(number, size, settings.request_timeout)?,
            settings: Arc::clone(settings),
            template: None,
            refused: None,
            was_worker: false,
            candidate: None,
            former: Vec::new(),
            workers: HashMap::new(),
            asked_for: HashSet::new(),
            killed: HashMap::new(),
            stacks: None,
            is_importing: false,
            facts,
        })
    }

    /// Starts a template that logs to `log`; the one before, if any, leaves.
    ///
    /// # Errors
    /// The error of the system call for executing the interpreter.
    pub fn start_template(
        &mut self,
        preload: Preload,
        files: &HostFiles,
        log: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let settings = &self.settings;
        let (target, app_is_file) = match &settings.app.target {
            AppTarget::Module(name) => (name.clone(), false),
            AppTarget::File(path) => (text(path), true),
        };
        let boot = Boot {
            app: target,
            app_is_file,
            callable: settings.app.callable.clone().unwrap_or_default(),
            factory: settings.app.factory,
            find_factory: settings.app.found.is_some(),
            chdir: text(&settings.chdir),
            pythonpath: settings.pythonpath.iter().map(|dir| text(dir)).collect(),
            threads: settings.threads,
            workers: settings.workers.most,
            preload,
            dev: settings.dev,
            mount: settings.mount.clone(),
            find_static: settings.django_static,
            find_media: settings.django_media,
            refork: settings.refork.is_some(),
            apart: false,
            inherited: descriptors::inherited().to_vec(),
            name: settings.title(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.facts.interpreter = None;
        self.was_worker = false;
        self.is_importing = true;
        let (ours, theirs) = StackPipe::new()?;
        self.stacks = Some(Arc::new(ours));
        let template = self.generation.with_descriptors(|[queue, board]| {
            Template::start(
                &settings.interpreter.path,
                &settings.start_dir,
                &settings.env,
                files,
                boot,
                &[queue, board, log, theirs.as_fd()],
            )
        });
        // The one before, if any, sees its socket close.
        self.template = Some(template?);
        Ok(())
    }

    /// Has the template fork a worker.
    ///
    /// # Errors
    /// The error of the system call; a template that has gone is `BrokenPipe`.
    pub fn fork(&mut self, worker: u32) -> io::Result<()> {
        let template = self.template.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let pairs = (0..self.generation.threads()).map(|_| sockets::pair(SocketType::STREAM));
        let (ours, mut theirs): (Vec<_>, Vec<_>) =
            pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let (orders, obeyed) = sockets::pair(SocketType::SEQPACKET)?;
        theirs.push(obeyed);
        self.generation.attach(worker, ours, orders)?;
        template.fork(worker, &theirs)?;
        self.asked_for.insert(worker);
        Ok(())
    }

    /// Ends the template, which must not be forked, and what is left in its process group.
    pub fn refuse(&mut self) {
        self.refused = self.template.take();
        if let Some(template) = &self.refused {
            child::kill_group(template.pid);
        }
    }

    /// The template with this process id has forked a worker, which may begin now.
    pub fn forked(&mut self, worker: u32, pid: u32, template: u32) {
        self.asked_for.remove(&worker);
        self.workers.insert(pid, (worker, template));
        // One that has gone already needs no order.
        let _gone = self.generation.begin(worker);
    }

    /// True if the template was asked for a worker that it has not forked yet.
    pub fn awaits_fork(&self) -> bool {
        !self.asked_for.is_empty()
    }

    /// The template could not fork a worker.
    pub fn not_forked(&mut self, worker: u32) {
        self.asked_for.remove(&worker);
        self.generation.worker_exited(worker);
    }

    /// The template has ended, and its last message was taken: workers of which it did not
    /// tell leave before they begin. Process ids of those whose end it did not tell.
    pub fn template_ended(&mut self, template: u32) -> Vec<u32> {
        for worker in std::mem::take(&mut self.asked_for) {
            self.generation.worker_exited(worker);
        }
        let workers = self.workers.iter();
        // What it has left behind, ended or not, is our child by now.
        workers
            .filter(|(pid, (_, group))| *group == template && !child::is_ours(**pid))
            .map(|(pid, _)| *pid)
            .collect()
    }

    /// The next message of any of its templates.
    pub fn poll_message(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<(MessageSender, Option<FromTemplate>)> {
        let template = self.template.as_ref();
        let candidate = self.candidate.as_ref();
        let all = template
            .map(|template| (MessageSender::Template, template))
            .into_iter()
            .chain(
                candidate.map(|(worker, template)| (MessageSender::Candidate(*worker), template)),
            )
            .chain(
                self.former
                    .iter()
                    .map(|former| (MessageSender::Former(former.pid), former)),
            );
        for (speaker, template) in all.filter(|(_, template)| !template.closed) {
            if let Poll::Ready(message) = template.poll_receive(context) {
                return Poll::Ready((speaker, message));
            }
        }
        Poll::Pending
    }

    /// Asks a worker to become the template; it answers as [`MessageSender::Candidate`].
    ///
    /// # Errors
    /// The error of the system call; a worker that has gone is `NotFound`.
    pub fn promote(&mut self, worker: u32) -> io::Result<()> {
        let pid = self.pid(worker).ok_or(io::ErrorKind::NotFound)?;
        let (ours, theirs) = sockets::pair(SocketType::SEQPACKET)?;
        let template = Template::of_worker(pid, ours)?;
        self.generation.promote(worker, theirs.as_fd())?;
        self.candidate = Some((worker, template));
        Ok(())
    }

    /// Has the candidate follow the template, which ends. `false`: there is none any more.
    pub fn adopt(&mut self) -> bool {
        let Some((worker, template)) = self.candidate.take() else {
            return false;
        };
        let pid = template.pid;
        self.was_worker = true;
        self.workers.remove(&pid);
        self.generation.worker_exited(worker);
        if let Some(former) = self.template.replace(template) {
            former.dismiss();
            self.former.push(former);
        }
        tracing::info!(
            worker,
            pid,
            "the worker has become the template: all others are replaced by what it forks"
        );
        true
    }

    /// How its workers are, for the recycler; `memory`: look at that as well.
    pub fn seen(&self, memory: bool) -> Vec<Seen> {
        self.workers
            .iter()
            .filter(|(_, (worker, _))| self.generation.serves(*worker))
            .map(|(pid, (worker, _))| Seen {
                worker: *worker,
                pid: *pid,
                served: self.generation.served(*worker),
                memory: memory.then(|| process::resident_memory(*pid)).flatten(),
            })
            .collect()
    }

    /// The process of a worker.
    pub fn pid(&self, worker: u32) -> Option<u32> {
        let mut workers = self.workers.iter();
        workers
            .find(|(_, (number, _))| *number == worker)
            .map(|(pid, _)| *pid)
    }

    /// True if a template that ended with this status never got as far as running our host.
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
            self.settings.interpreter.path.display(),
            self.settings.interpreter.origin,
            child::describe_status(status)
        )
    }

    /// An error of the import, with the interpreter that it may come of behind it.
    pub fn why_not_imported(&self, traceback: &str) -> String {
        let python = self.facts.interpreter.as_ref();
        let version = python.map(|python| match python.is_venv {
            true => format!("{}, a virtual environment", python.version),
            false => format!("{}, no virtual environment", python.version),
        });
        let version = version.map_or(String::new(), |version| format!("{version}, "));
        let interpreter = &self.settings.interpreter;
        format!(
            "{}\npyserve: imported with {} ({version}from {}); another interpreter: --venv DIR or --python FILE",
            traceback.trim_end(),
            interpreter.path.display(),
            interpreter.origin
        )
    }

    /// Its processes that are on their way to serve: a template that imports, workers that are not
    /// ready.
    pub fn starting(&self) -> Vec<Starting> {
        let number = self.generation.number();
        let template = self.template.as_ref().filter(|_| self.is_importing);
        let template = template.map(|template| Starting {
            generation: number,
            worker: None,
            pid: template.pid,
            // Before that it may still run `sitecustomize`, which the signal would end.
            pipe: self
                .stacks
                .clone()
                .filter(|_| self.facts.interpreter.is_some()),
        });
        let workers = self.workers.iter();
        let workers = workers.filter(|(_, (worker, _))| !self.generation.is_ready(*worker));
        let workers = workers.map(|(pid, (worker, group))| {
            // The process that the template has just reaped may be another one by now.
            let can_tell =
                self.generation.has_begun(*worker, *pid) && process::is_in_group(*pid, *group);
            Starting {
                generation: number,
                worker: Some(*worker),
                pid: *pid,
                pipe: self.stacks.clone().filter(|_| can_tell),
            }
        });
        let mut starting: Vec<_> = template.into_iter().chain(workers).collect();
        starting.sort_by_key(|process| process.worker);
        starting
    }

    /// Kills a worker, and remembers why.
    pub fn kill(&mut self, worker: u32, why: &'static str) {
        if let Some(pid) = self.pid(worker) {
            self.killed.insert(pid, why);
            child::kill(pid);
        }
    }

    /// Ends the template of a generation that has no workers any more. One that still imports the
    /// application does not look at its socket, and what it has started belongs to it.
    pub fn end_template(&self) {
        match &self.template {
            Some(template) if self.is_importing => child::kill_group(template.pid),
            Some(template) => child::kill(template.pid),
            None => {}
        }
    }

    /// Kills template, workers, and what the application started in their groups.
    pub fn kill_all(&self) {
        self.groups().for_each(child::kill_group);
    }

    /// Process groups of template, workers, and what the application started.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        let template = self.template.as_ref().map(|template| template.pid);
        self.workers
            .values()
            .map(|(_, group)| *group)
            .chain(template)
            .chain(self.refused.as_ref().map(|template| template.pid))
            .chain(self.candidate.as_ref().map(|(_, template)| template.pid))
    }
}
