//! What an application is told by its templates, by the pool and by the kernel, and what
//! that is to its plan.

use std::time::Instant;

use pyserve_wire::control::FromTemplate;

use super::{App, AppEvent, TemplateMessage};
use crate::front::upstream::workers::WorkerEvent;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::status::remember_error;
use crate::os::child;
use crate::supervisor::generation::MessageSender;
use crate::supervisor::plan::PlanEvent;
use crate::supervisor::template::Template;

/// What a process was.
enum Role {
    Worker(u32),
    Template,
    /// A template that must not be forked.
    Refused,
    /// The template once, until a worker became it.
    Former,
}

impl App {
    /// Takes a message of a template.
    pub fn hear(&mut self, heard: TemplateMessage) {
        let (number, message) = (heard.generation, heard.message);
        match heard.speaker {
            MessageSender::Template => self.take_message(number, message),
            MessageSender::Candidate(worker) => self.take_answer(number, worker, message),
            MessageSender::Former(pid) => self.take_last_words(number, pid, message),
        }
    }

    /// Takes a message of the template of this generation; `None` when that says no more.
    pub(super) fn take_message(&mut self, number: u32, message: Option<FromTemplate>) {
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
        python.is_importing &= matches!(message, FromTemplate::Started(_));
        let happened = match message {
            FromTemplate::Started(interpreter) => {
                python.facts.interpreter = Some(interpreter);
                return;
            }
            FromTemplate::Clean => PlanEvent::TemplateLoaded(number),
            // Said once, before it was the template.
            FromTemplate::Promoted => return,
            FromTemplate::Imported(loaded) => {
                if !loaded.shared.is_empty() {
                    tracing::warn!(
                        code = codes::FORKED_UNSAFELY,
                        reasons = loaded.shared.join("; "),
                        "the workers share what a fork breaks, because of --preload yes"
                    );
                }
                if is_current {
                    self.news.push(AppEvent::Files(loaded.files.clone()));
                }
                python.facts.loaded = Some(loaded);
                PlanEvent::TemplateLoaded(number)
            }
            FromTemplate::UnsafeToFork(reasons) => {
                tracing::warn!(
                    code = codes::UNSAFE_TO_FORK,
                    reasons = reasons.join("; "),
                    "the import left what a fork breaks, so each worker imports for itself; to import once, open or start it in a function with @pyserve.after_fork, or when it is first used (--preload yes forks nevertheless, --preload no does not look)"
                );
                python.facts.unsafe_to_fork = reasons;
                // The next one is started when the process has gone, see `refused_ended`.
                python.refuse();
                return;
            }
            FromTemplate::ImportFailed { traceback } => {
                let traceback = python.why_not_imported(&traceback);
                // Once: it is tried again and again.
                if python.facts.loaded.is_some() && self.last_words != traceback {
                    tracing::error!(
                        code = codes::IMPORT,
                        "the code that is there now cannot be imported, so no worker can be started until it can; those that run go on:\n{traceback}"
                    );
                    remember_error("a new template cannot import the application (see the log)");
                }
                self.last_words = traceback;
                PlanEvent::ImportFailed(number)
            }
            FromTemplate::Forked { worker, pid } => {
                let group = python.template.as_ref().map_or(0, |template| template.pid);
                python.forked(worker, pid, group);
                PlanEvent::Forked(number, worker)
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
    pub fn take_event(&mut self, number: u32, event: WorkerEvent) {
        if matches!(event, WorkerEvent::RequestsWait) {
            return self.requests_wait(Instant::now());
        }
        let is_current = self.plan.current() == Some(number);
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        match event {
            WorkerEvent::RequestsWait => {}
            // It has ended since.
            WorkerEvent::Ready { worker, .. } if !python.generation.is_ready(worker) => {}
            WorkerEvent::Ready { worker, loaded } => {
                tracing::debug!(worker, generation = number, "worker ready");
                if let Some(loaded) = loaded {
                    if is_current {
                        self.news.push(AppEvent::Files(loaded.files.clone()));
                    }
                    python.facts.loaded = Some(loaded);
                }
                self.happened(PlanEvent::WorkerReady(number, worker));
            }
            WorkerEvent::BootFailed { worker, traceback } => {
                let traceback = python.why_not_imported(&traceback);
                if python.facts.loaded.is_some() {
                    tracing::error!(
                        code = codes::IMPORT,
                        worker,
                        "a worker cannot import the application:\n{traceback}"
                    );
                }
                self.last_words = traceback;
                self.happened(PlanEvent::ImportFailed(number));
            }
            WorkerEvent::Stuck { worker } => {
                METRICS.replaced.up("request_timeout");
                self.happened(PlanEvent::Stuck(number, worker));
            }
            WorkerEvent::Damaged => {
                METRICS.replaced.up("damaged");
                remember_error("a worker damaged what the workers share (see the log)");
                // It forks workers for the queue of before. Another one is started.
                if let Some(template) = &python.template {
                    child::kill(template.pid);
                }
                let workers: Vec<_> = python.workers.values().map(|(worker, _)| *worker).collect();
                for worker in workers {
                    // Their successors need not wait for their ends.
                    self.happened(PlanEvent::Stuck(number, worker));
                }
            }
            WorkerEvent::ProtocolError { worker } => {
                METRICS.replaced.up("died");
                python.kill(worker, "killed by pyserve: it sent what is no reply");
            }
            WorkerEvent::Unresponsive { worker } => {
                METRICS.replaced.up("unresponsive");
                tracing::error!(
                    code = codes::UNRESPONSIVE,
                    worker,
                    "worker takes no requests for 10 s: it is stopped, or a thread holds the interpreter between requests; it is replaced"
                );
                python.kill(worker, "killed by pyserve: it took no requests for 10 s");
                self.happened(PlanEvent::Stuck(number, worker));
            }
            WorkerEvent::MustKill { worker } => {
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
            let is = |template: &Template| template.pid == pid;
            if let Some((worker, _)) = python.workers.remove(&pid) {
                Some((*number, Role::Worker(worker)))
            } else if python.template.as_ref().is_some_and(is) {
                Some((*number, Role::Template))
            } else if python.refused.as_ref().is_some_and(is) {
                Some((*number, Role::Refused))
            } else {
                let is_former = python.former.iter().any(is);
                is_former.then_some((*number, Role::Former))
            }
        });
        match owner {
            Some((number, Role::Worker(worker))) => self.worker_ended(number, worker, pid, status),
            Some((number, Role::Template)) => self.template_ended(number, pid, status),
            Some((number, Role::Refused)) => self.refused_ended(number),
            Some((number, Role::Former)) => self.former_ended(number, pid),
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
            tracing::warn!(
                code = codes::WORKER_DIED,
                worker,
                pid,
                reason,
                "worker died"
            );
            remember_error(&format!("worker {worker} died: {reason}"));
        }
        let mut has_served = true;
        if let Some(python) = self.generations.get(&number) {
            has_served = python.generation.is_ready(worker);
            python.generation.worker_exited(worker);
        }
        self.happened(PlanEvent::WorkerExited(number, worker));
        if !has_served && status != 0 {
            self.growth_failed(number);
        }
    }

    /// Ports and locks that the import took are free again.
    fn refused_ended(&mut self, number: u32) {
        if let Some(python) = self.generations.get_mut(&number) {
            python.refused = None;
        }
        self.happened(PlanEvent::TemplateUnsafe(number));
    }

    fn former_ended(&mut self, number: u32, pid: u32) {
        let unheard = |app: &Self| {
            let mut former = app.generations.get(&number)?.former.iter();
            former.find(|former| former.pid == pid)?.unheard()
        };
        while let Some(message) = unheard(self) {
            self.take_last_words(number, pid, Some(message));
        }
        if let Some(python) = self.generations.get_mut(&number) {
            python.former.retain(|former| former.pid != pid);
        }
        self.clear_up_after(number, pid);
    }

    /// Workers may have ended without a word of the template that has ended itself.
    fn clear_up_after(&mut self, number: u32, template: u32) {
        let python = self.generations.get_mut(&number);
        let unheard = python.map_or(Vec::new(), |python| python.template_ended(template));
        for pid in unheard {
            // How it ended is lost, that it ended is not.
            self.process_ended(pid, 0);
        }
    }

    fn template_ended(&mut self, number: u32, pid: u32, status: i32) {
        // What it said before it ended comes first.
        let unheard = |app: &Self| app.generations.get(&number)?.template.as_ref()?.unheard();
        while let Some(message) = unheard(self) {
            self.take_message(number, Some(message));
        }
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        if python.refused.is_some() {
            return self.refused_ended(number);
        }
        python.template = None;
        if python.is_unusable(status) {
            self.last_words = python.why_unusable(status);
            self.happened(PlanEvent::InterpreterUnusable(number));
        } else {
            tracing::warn!(
                code = codes::TEMPLATE_DIED,
                pid,
                reason = child::describe_status(status),
                "template died"
            );
            let reason = child::describe_status(status);
            remember_error(&format!("template {pid} died: {reason}"));
        }
        self.happened(PlanEvent::TemplateExited(number));
        self.clear_up_after(number, pid);
        // A worker may become the template again.
        self.look_after(Instant::now());
    }
}
