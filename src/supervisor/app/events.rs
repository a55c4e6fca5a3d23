//! Turns messages of templates, events of the pool and exits of processes into events of the plan.

use std::time::Instant;

use pyserve_wire::control::FromTemplate;

use super::{App, AppEvent, TemplateMessage};
use crate::front::upstream::workers::WorkerEvent;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::status::remember_error;
use crate::os::{child, process, terminal};
use crate::supervisor::generation::{KillReason, MessageSender};
use crate::supervisor::plan::PlanEvent;
use crate::supervisor::template::Template;

/// The role of a process.
enum Role {
    Worker(u32),
    Template,
    /// A template that must not fork.
    Refused,
    /// A template that a worker has replaced.
    Former,
}

impl App {
    /// Handles a message of a template.
    pub fn handle_message(&mut self, sent: TemplateMessage) {
        let (number, message) = (sent.generation, sent.message);
        match sent.sender {
            MessageSender::Template => self.take_message(number, message),
            MessageSender::Candidate(worker) => self.take_answer(number, worker, message),
            MessageSender::Former(pid) => self.handle_former_message(number, pid, message),
        }
    }

    /// Handles a message of this generation's template; `None` at the end of its socket.
    pub(super) fn take_message(&mut self, number: u32, message: Option<FromTemplate>) {
        let is_current = self.plan.current() == Some(number);
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        let Some(message) = message else {
            // The template exits or is unusable. Its exit status is known when it is reaped.
            let Some(template) = &mut python.template else {
                return;
            };
            template.closed = true;
            if !process::is_ending(template.pid) {
                python.kill_template(KillReason::Fault(
                    "killed by pyserve: it had closed its control socket",
                ));
            }
            return;
        };
        python.is_importing &= matches!(message, FromTemplate::Started(_));
        let event = match message {
            FromTemplate::Started(interpreter) => {
                python.facts.interpreter = Some(interpreter);
                return;
            }
            FromTemplate::Clean => PlanEvent::TemplateLoaded(number),
            // Sent once, by the worker before it became the template.
            FromTemplate::Promoted => return,
            FromTemplate::Imported(loaded) => {
                if !loaded.shared.is_empty() {
                    tracing::warn!(
                        code = codes::FORKED_UNSAFELY,
                        reasons = loaded.shared.join("; "),
                        "the workers share resources that are not fork-safe, because of --preload yes"
                    );
                }
                if is_current {
                    self.events.push(AppEvent::Files(loaded.files.clone()));
                }
                python.facts.loaded = Some(loaded);
                PlanEvent::TemplateLoaded(number)
            }
            FromTemplate::UnsafeToFork(reasons) => {
                tracing::warn!(
                    code = codes::UNSAFE_TO_FORK,
                    reasons = reasons.join("; "),
                    "the import left resources that are not fork-safe, so each worker imports for itself; to import once, open or start them in a function with @pyserve.after_fork, or at first use (--preload yes forks nevertheless, --preload no skips this check)"
                );
                python.facts.unsafe_to_fork = reasons;
                // `refused_ended` starts the next one when this process has exited.
                python.refuse();
                return;
            }
            FromTemplate::ImportFailed { traceback } => {
                let traceback = python.why_not_imported(&traceback);
                // Logged once, because the import is tried again and again.
                if python.facts.loaded.is_some() && self.last_error != traceback {
                    tracing::error!(
                        code = codes::IMPORT,
                        "the current code cannot be imported, so no worker can be started; running workers keep serving:\n{traceback}"
                    );
                    remember_error("a new template cannot import the application (see the log)");
                }
                self.last_error = traceback;
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
                self.process_ended(pid, Some(status));
                return;
            }
        };
        self.handle(event);
    }

    /// Handles an event of a worker of this generation.
    pub fn handle_worker_event(&mut self, number: u32, event: WorkerEvent) {
        if matches!(event, WorkerEvent::RequestsWait) {
            return self.requests_wait(Instant::now());
        }
        let is_current = self.plan.current() == Some(number);
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        match event {
            WorkerEvent::RequestsWait => {}
            // The worker has exited since.
            WorkerEvent::Ready { worker, .. } if !python.generation.is_ready(worker) => {}
            WorkerEvent::Ready { worker, loaded } => {
                tracing::debug!(worker, generation = number, "worker ready");
                python.has_served = true;
                if let Some(loaded) = loaded {
                    if is_current {
                        self.events.push(AppEvent::Files(loaded.files.clone()));
                    }
                    python.facts.loaded = Some(loaded);
                }
                self.handle(PlanEvent::WorkerReady(number, worker));
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
                self.last_error = traceback;
                self.handle(PlanEvent::ImportFailed(number));
            }
            WorkerEvent::Stuck { worker } => {
                METRICS.replaced.up("request_timeout");
                self.handle(PlanEvent::Stuck(number, worker));
            }
            WorkerEvent::Damaged => self.replace_damaged(number),
            WorkerEvent::ProtocolError { worker } => {
                METRICS.replaced.up("died");
                python.kill(
                    worker,
                    KillReason::Fault("killed by pyserve: it sent a malformed reply"),
                );
            }
            WorkerEvent::Unresponsive { worker } => {
                METRICS.replaced.up("unresponsive");
                tracing::error!(
                    code = codes::UNRESPONSIVE,
                    worker,
                    "worker takes no requests for 10 s: it is stopped, or a thread holds the interpreter between requests; replacing it"
                );
                python.kill(
                    worker,
                    KillReason::Fault("killed by pyserve: it took no requests for 10 s"),
                );
                self.handle(PlanEvent::Stuck(number, worker));
            }
            WorkerEvent::MustKill { worker } => {
                python.kill(
                    worker,
                    KillReason::Fault(
                        "killed by pyserve: its request did not end (--request-timeout)",
                    ),
                );
            }
        }
    }

    /// Replaces the template and all workers of a generation whose shared memory or sockets are damaged.
    fn replace_damaged(&mut self, number: u32) {
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        METRICS.replaced.up("damaged");
        remember_error("a worker damaged shared memory or sockets (see the log)");
        // This template forks workers for the previous queue.
        python.kill_template(KillReason::Fault(
            "killed by pyserve: its workers had damaged shared memory or sockets",
        ));
        let workers: Vec<_> = python.workers.values().map(|(worker, _)| *worker).collect();
        for worker in workers {
            // Their successors need not wait for their exit.
            self.handle(PlanEvent::Stuck(number, worker));
        }
    }

    /// Handles the exit of a process with this status, if it is known. `false`: the process is not of this application.
    pub fn process_ended(&mut self, pid: u32, status: Option<i32>) -> bool {
        let owner = self.generations.iter_mut().find_map(|(number, python)| {
            let is = |template: &Template| template.pid == pid;
            if let Some((worker, group)) = python.workers.remove(&pid) {
                // It may have died at the prompt of a debugger.
                terminal::take_back(group);
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
        terminal::take_back(pid);
        match owner {
            Some((number, Role::Worker(worker))) => self.worker_ended(number, worker, pid, status),
            Some((number, Role::Template)) => {
                self.template_ended(number, pid, status.unwrap_or_default())
            }
            Some((number, Role::Refused)) => self.refused_ended(number),
            Some((number, Role::Former)) => self.former_ended(number, pid),
            None => return false,
        }
        true
    }

    fn worker_ended(&mut self, number: u32, worker: u32, pid: u32, status: Option<i32>) {
        METRICS
            .worker_exits
            .up(child::kind_of_end(status.unwrap_or_default()));
        let python = self.generations.get_mut(&number);
        let killed = python.and_then(|python| python.killed.remove(&pid));
        let python = self.generations.get(&number);
        let was_ready = python.is_none_or(|python| python.generation.is_ready(worker));
        let reason = match killed {
            Some(KillReason::Unneeded(_)) => None,
            Some(KillReason::Fault(why)) => Some(why.to_owned()),
            None => self.why_ended(number, was_ready, status),
        };
        let has_failed = reason.is_some() && !was_ready;
        if let Some(reason) = reason {
            tracing::warn!(
                code = codes::WORKER_DIED,
                worker,
                pid,
                reason,
                "worker died"
            );
            remember_error(&format!("worker {worker} died: {reason}"));
        } else {
            tracing::debug!(worker, pid, killed = ?killed, "worker exited");
        }
        if let Some(python) = self.generations.get(&number) {
            python.generation.worker_exited(worker);
        }
        self.handle(PlanEvent::WorkerExited(number, worker));
        if has_failed {
            self.growth_failed(number);
        }
    }

    /// The reason why a worker ended that was not killed; `None` if it was to end.
    fn why_ended(&self, number: u32, was_ready: bool, status: Option<i32>) -> Option<String> {
        let is_clean = status.is_none_or(|status| child::exit_code(status) == Some(0));
        if is_clean && (was_ready || !self.plan.awaits_workers(number)) {
            return None;
        }
        if self.plan.current() == Some(number) {
            METRICS.replaced.up("died");
        }
        let how = status.map(child::describe_status);
        let how = how.unwrap_or_else(|| "unknown exit status".to_owned());
        Some(match was_ready {
            true => how,
            false => format!("{how}, before it was ready"),
        })
    }

    /// Ports and locks that the import took are free again.
    fn refused_ended(&mut self, number: u32) {
        if let Some(python) = self.generations.get_mut(&number) {
            python.refused = None;
        }
        self.handle(PlanEvent::TemplateUnsafe(number));
    }

    fn former_ended(&mut self, number: u32, pid: u32) {
        let unread = |app: &Self| {
            let mut former = app.generations.get(&number)?.former.iter();
            former.find(|former| former.pid == pid)?.unread()
        };
        while let Some(message) = unread(self) {
            self.handle_former_message(number, pid, Some(message));
        }
        if let Some(python) = self.generations.get_mut(&number) {
            python.former.retain(|former| former.pid != pid);
        }
        self.clear_up_after(number, pid);
    }

    /// Workers may have exited unreported if their template has exited too.
    fn clear_up_after(&mut self, number: u32, template: u32) {
        let python = self.generations.get_mut(&number);
        let unread = python.map_or(Vec::new(), |python| python.template_ended(template));
        for pid in unread {
            self.process_ended(pid, None);
        }
    }

    fn template_ended(&mut self, number: u32, pid: u32, status: i32) {
        // Messages that the template sent before its exit come first.
        let unread = |app: &Self| app.generations.get(&number)?.template.as_ref()?.unread();
        while let Some(message) = unread(self) {
            self.take_message(number, Some(message));
        }
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        if python.refused.is_some() {
            return self.refused_ended(number);
        }
        python.template = None;
        let killed = python.killed.remove(&pid);
        let reason = match killed.filter(|_| status == child::KILLED) {
            Some(KillReason::Unneeded(_)) => None,
            Some(KillReason::Fault(why)) => Some(why.to_owned()),
            None => Some(child::describe_status(status)),
        };
        // Our host, which ignores these signals, had not started.
        let is_struck = python.facts.interpreter.is_none() && child::was_commanded(status);
        match reason {
            None => tracing::debug!(pid, killed = ?killed, "template exited"),
            Some(reason) if is_struck => {
                tracing::info!(
                    pid,
                    reason,
                    "a signal for the server ended an interpreter that was starting: starting another"
                );
                self.handle(PlanEvent::TemplateStruck(number));
                return;
            }
            Some(_) if python.is_unusable(status) => {
                self.last_error = python.why_unusable(status);
                self.handle(PlanEvent::InterpreterUnusable(number));
            }
            Some(reason) => {
                tracing::warn!(code = codes::TEMPLATE_DIED, pid, reason, "template died");
                remember_error(&format!("template {pid} died: {reason}"));
            }
        }
        self.handle(PlanEvent::TemplateExited(number));
        self.clear_up_after(number, pid);
        // A worker may become the template again.
        self.look_after(Instant::now());
    }
}
