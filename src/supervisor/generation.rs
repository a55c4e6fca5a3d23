//! The Python side of one generation: its queue, its template, its workers.
//!
//! Carries out the decisions of `plan`.

mod ending;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use pyserve_wire::control::{Boot, FromTemplate, Preload, STACKS_SIGNAL, UwsgiFacts};
use pyserve_wire::scoreboard::MAX_THREADS;
use rustix::net::SocketType;

pub use ending::KillReason;

use super::plan::GenerationSpec;
use super::policy::recycle::Seen;
use super::starting::{StackPipe, Starting};
use super::startup::StartupFacts;
use super::template::{HostFiles, Template, UNUSABLE_INTERPRETER};
use crate::config::{AppSettings, AppTarget};
use crate::front::upstream::workers::{Generation, Pool, ReplyMemory, Size};
use crate::os::{child, descriptors, process, sockets, terminal};

/// Slots for workers that are added by hand, even if the settings have few.
const ROOM: u32 = 16;

/// The settings that the plan needs.
pub fn recipe(settings: &AppSettings) -> GenerationSpec {
    let workers = settings.workers.count;
    // The same number again, for successors that start before the others leave.
    let slots = 2 * settings.workers.most.max(ROOM);
    GenerationSpec {
        workers,
        range: (workers, settings.workers.most),
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

/// The sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageSender {
    /// The template.
    Template,
    /// The worker that was asked to become the template, by its number.
    Candidate(u32),
    /// A process that was the template before.
    Former(u32),
}

/// The Python side of one generation.
pub struct Python {
    /// Its queue and its scoreboard.
    pub generation: Generation,
    /// Settings of the generation.
    pub settings: Arc<AppSettings>,
    /// The process that forks, if there is one.
    pub template: Option<Template>,
    /// The template that must not fork, until its process has exited: processes that the import has
    /// started end with it.
    pub refused: Option<Template>,
    /// True if the template was a worker before.
    pub was_worker: bool,
    /// The worker that is asked to become the template, by its number.
    pub candidate: Option<(u32, Template)>,
    /// Former templates that have not exited yet.
    pub former: Vec<Template>,
    /// Workers by process id: their number and their process group, which is that of the template
    /// that forked them.
    pub workers: HashMap<u32, (u32, u32)>,
    /// Workers whose fork was requested and is not reported yet, with the template that was asked.
    asked_for: HashMap<u32, u32>,
    /// Killed workers and templates by process id, with the reason.
    pub killed: HashMap<u32, KillReason>,
    /// The pipe to which the template, and workers that it forked, write their stacks while they
    /// start.
    stacks: Option<Arc<StackPipe>>,
    /// True while the template has not reported the outcome of the import.
    pub is_importing: bool,
    /// The server stops: no further worker begins.
    is_closed: bool,
    /// True if a worker was ready once.
    pub has_served: bool,
    /// What is known about it.
    pub facts: StartupFacts,
}

impl Python {
    /// Creates the queue and scoreboard of generation `number`, without a process.
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
            asked_for: HashMap::new(),
            killed: HashMap::new(),
            stacks: None,
            is_importing: false,
            is_closed: false,
            has_served: false,
            facts,
        })
    }

    /// Starts a template that logs to `log`; the previous one, if any, exits. `door`: to the service
    /// behind `import uwsgi`.
    ///
    /// # Errors
    /// The error of the system call for executing the interpreter.
    pub fn start_template(
        &mut self,
        preload: Preload,
        files: &HostFiles,
        log: BorrowedFd<'_>,
        door: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let settings = &self.settings;
        let (target, app_is_file) = match &settings.app.target {
            AppTarget::Module(name) => (name.into(), false),
            AppTarget::File(path) => (path.clone(), true),
        };
        let boot = Boot {
            app: target,
            app_is_file,
            callable: settings.app.callable.clone().unwrap_or_default(),
            factory: settings.app.factory,
            arguments: settings.app.arguments.clone(),
            find_factory: settings.app.found.is_some(),
            chdir: settings.chdir.clone(),
            pythonpath: settings.pythonpath.clone(),
            imports: settings.imports.clone(),
            argv: settings.argv.clone(),
            threads: settings.threads,
            workers: settings.workers.most,
            preload,
            dev: settings.dev,
            terminal_group: if settings.dev {
                terminal::own_group()
            } else {
                0
            },
            mount: settings.mount.clone(),
            find_static: settings.django_static,
            find_media: settings.django_media,
            gunicorn_hooks: settings.gunicorn_hooks.clone().unwrap_or_default(),
            refork: settings.refork.is_some(),
            apart: false,
            inherited: descriptors::inherited().to_vec(),
            name: settings.title(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uwsgi: door.and(self.uwsgi_facts()),
        };
        self.facts.interpreter = None;
        self.was_worker = false;
        self.is_importing = true;
        let (ours, theirs) = StackPipe::new()?;
        self.stacks = Some(Arc::new(ours));
        let template = self.generation.with_descriptors(|[queue, ring, board]| {
            let shared = [queue, ring, board, log, theirs.as_fd()];
            let descriptors: Vec<_> = shared.into_iter().chain(door).collect();
            Template::start(
                &settings.interpreter.path,
                &settings.start_dir,
                &settings.env,
                settings.limit_as,
                files,
                boot,
                &descriptors,
            )
        });
        // The previous one, if any, reads the end of its socket.
        self.template = Some(template?);
        Ok(())
    }

    /// The facts for `import uwsgi`.
    fn uwsgi_facts(&self) -> Option<UwsgiFacts> {
        let module = self.settings.uwsgi_module.as_ref()?;
        Some(UwsgiFacts {
            options: module.options.clone(),
            master: std::process::id(),
            is_reload: self.generation.number() > 0,
        })
    }

    /// Requests the fork of a worker.
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
        let replies = Arc::new(ReplyMemory::new(ours.len())?);
        self.generation.attach(worker, ours, &replies, orders)?;
        let theirs = theirs.iter().map(AsFd::as_fd);
        let theirs: Vec<_> = theirs
            .chain([replies.file(), self.generation.doorbell()])
            .collect();
        template.fork(worker, &theirs)?;
        self.asked_for.insert(worker, template.pid);
        Ok(())
    }

    /// Handles the fork of a worker by the template with this process id; the worker may begin.
    pub fn forked(&mut self, worker: u32, pid: u32, template: u32) {
        self.asked_for.remove(&worker);
        self.workers.insert(pid, (worker, template));
        if self.is_closed {
            return self.kill_starting();
        }
        // A worker that has exited already needs no order.
        let _gone = self.generation.begin(worker);
    }

    /// True if the fork of a worker was requested from this template and is not reported yet.
    pub fn awaits_fork(&self, template: u32) -> bool {
        self.asked_for.values().any(|asked| *asked == template)
    }

    /// Handles a failed fork.
    pub fn not_forked(&mut self, worker: u32) {
        self.asked_for.remove(&worker);
        self.generation.worker_exited(worker);
    }

    /// Handles the exit of the template, after its last message: workers whose fork it did not
    /// report leave before they begin. Returns process ids of workers whose exit it did not report.
    pub fn template_ended(&mut self, template: u32) -> Vec<u32> {
        let unreported = self
            .asked_for
            .extract_if(|_, asked| *asked == template)
            .map(|(worker, _)| worker);
        for worker in unreported {
            self.generation.worker_exited(worker);
        }
        let workers = self.workers.iter();
        // Its children, exited or not, are reparented to us by now.
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
        for (sender, template) in all.filter(|(_, template)| !template.closed) {
            if let Poll::Ready(message) = template.poll_receive(context) {
                return Poll::Ready((sender, message));
            }
        }
        Poll::Pending
    }

    /// Asks a worker to become the template; it answers as [`MessageSender::Candidate`].
    ///
    /// # Errors
    /// The error of the system call; a worker that has exited is `NotFound`.
    pub fn promote(&mut self, worker: u32) -> io::Result<()> {
        let pid = self.pid(worker).ok_or(io::ErrorKind::NotFound)?;
        let (ours, theirs) = sockets::pair(SocketType::SEQPACKET)?;
        let template = Template::of_worker(pid, ours)?;
        self.generation.promote(worker, theirs.as_fd())?;
        self.candidate = Some((worker, template));
        Ok(())
    }

    /// Replaces the template, which exits, by the candidate. `false`: there is no candidate.
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
            "the worker has become the template: replacing all other workers by forks of it"
        );
        true
    }

    /// The state of its workers, for the recycler; with `memory`, their resident set sizes too.
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

    /// True if a template with this exit status never ran our host.
    pub fn is_unusable(&self, status: i32) -> bool {
        self.facts.interpreter.is_none() && child::exit_code(status).is_some()
    }

    /// The error text for such an interpreter; empty if it has reported the error itself.
    pub fn why_unusable(&self, status: i32) -> String {
        if child::exit_code(status) == Some(UNUSABLE_INTERPRETER) {
            return String::new();
        }
        format!(
            "pyserve: {} (from {}) exited with {} before it ran any code: is it CPython? (choose another with --python or --venv)",
            self.settings.interpreter.path.display(),
            self.settings.interpreter.origin,
            child::describe_status(status)
        )
    }

    /// The text of an import error, followed by the interpreter that may be its cause.
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

    /// Processes that are still starting: a template that imports, workers that are not ready.
    pub fn starting(&self) -> Vec<Starting> {
        let number = self.generation.number();
        let template = self.template.as_ref().filter(|_| self.is_importing);
        // Without its handler the signal would kill the process.
        let pipe = |pid| {
            let pipe = self.stacks.clone();
            pipe.filter(|_| process::handles(pid, STACKS_SIGNAL))
        };
        let template = template.map(|template| Starting {
            generation: number,
            worker: None,
            pid: template.pid,
            has_begun: self.facts.interpreter.is_some(),
            pipe: pipe(template.pid),
        });
        let workers = self.workers.iter();
        let workers = workers.filter(|(_, (worker, _))| !self.generation.is_ready(*worker));
        let workers = workers.map(|(pid, (worker, group))| Starting {
            generation: number,
            worker: Some(*worker),
            pid: *pid,
            has_begun: self.generation.has_begun(*worker, *pid),
            // The template may have reaped this process, and its id may be in use again.
            pipe: pipe(*pid).filter(|_| process::is_in_group(*pid, *group)),
        });
        let mut starting: Vec<_> = template.into_iter().chain(workers).collect();
        starting.sort_by_key(|process| process.worker);
        starting
    }

    /// The template, for a look at its stack.
    pub fn template_process(&self) -> Option<Starting> {
        self.template.as_ref().map(|template| Starting {
            generation: self.generation.number(),
            worker: None,
            pid: template.pid,
            has_begun: true,
            pipe: self.stacks.clone(),
        })
    }

    /// Process groups of template, workers, and processes of the application.
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
