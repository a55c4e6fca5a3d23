//! Carries out the actions of the plan.

use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use pyserve_wire::control::Preload;

use super::{App, AppEvent, limits};
use crate::observe::codes;
use crate::os::descriptors;
use crate::supervisor::generation::{KillReason, Python};
use crate::supervisor::plan::{Action, LEAVING_ALONE, MOST_LEAVING, PlanEvent};
use crate::supervisor::uwsgi_service;

/// The reload that started the generation failed or was cancelled.
const DISCARDED: KillReason = KillReason::Unneeded("killed by pyserve: the reload is given up");
/// The generation is the oldest of too many.
const LEAVES_TOO_LATE: KillReason = KillReason::Fault(
    "killed by pyserve: it still had requests, and too many old generations are leaving",
);

impl App {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::StartTemplate(number, preload) => {
                if let Err(error) = self.start_template(number, preload) {
                    self.not_started(number, &error);
                }
            }
            Action::Fork(number, worker) => {
                let forked = self
                    .generations
                    .get_mut(&number)
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
            Action::DismissCandidate(number) => {
                if let Some(python) = self.generations.get_mut(&number) {
                    python.candidate = None;
                }
            }
            Action::Reloaded => {
                if let Some(settings) = self.coming.take() {
                    self.pool.set_limits(limits(&settings));
                    self.settings = settings;
                    self.release_size(Instant::now());
                    self.look_after(Instant::now());
                }
            }
            Action::Wait => tracing::info!(
                "the reload waits: {MOST_LEAVING} old generations still have requests; the oldest is killed after {} s",
                LEAVING_ALONE.as_secs()
            ),
            Action::Prepared => self.events.push(AppEvent::Prepared),
            Action::ReloadFailed => {
                self.coming = None;
                let text = std::mem::take(&mut self.last_error);
                self.events.push(AppEvent::ReloadFailed(text));
            }
            Action::Switch(number) => self.switch(number),
            Action::Discard(number) => {
                let is_new = self.plan.current() < Some(number);
                if let Some(python) = self.generations.get_mut(&number) {
                    python.generation.close();
                    python.kill_all(if is_new { DISCARDED } else { LEAVES_TOO_LATE });
                }
            }
            Action::Forget(number) => {
                if let Some(python) = self.generations.remove(&number) {
                    python.generation.forget();
                    python.end_template();
                }
            }
            Action::CloseQueues => {
                for python in self.generations.values_mut() {
                    python.close();
                }
            }
            Action::Announce => {
                self.is_announced = true;
                self.events.push(AppEvent::Announce);
            }
            Action::WakeAt(time) => self.events.push(AppEvent::WakeAt(time)),
            Action::GiveUp(ending) => self.events.push(AppEvent::GiveUp(ending)),
            Action::Gone => self.events.push(AppEvent::Gone),
        }
    }

    /// A retry does not help if the interpreter itself is unusable.
    fn not_started(&mut self, number: u32, error: &io::Error) {
        let settings = self.coming.as_ref().unwrap_or(&self.settings);
        let interpreter = &settings.interpreter;
        let (path, origin) = (interpreter.path.display(), &interpreter.origin);
        let mut error_text = descriptors::explain(error);
        if error.kind() == io::ErrorKind::NotFound && interpreter.path.exists() {
            error_text.push_str(
                ": the file exists, but the interpreter of its #! line or its dynamic linker does not",
            );
        }
        let is_its_own = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
        ) || error.raw_os_error()
            == Some(rustix::io::Errno::NOEXEC.raw_os_error());
        let advice = match is_its_own {
            true => " (choose another with --python or --venv)",
            false => "",
        };
        self.last_error =
            format!("pyserve: cannot start {path} (from {origin}): {error_text}{advice}");
        let (is_known, text) = (self.is_announced, self.last_error.clone());
        if is_its_own && !is_known {
            self.handle(PlanEvent::InterpreterUnusable(number));
        } else {
            tracing::error!(code = codes::INTERPRETER, interpreter = %path, error = error_text, "cannot start the interpreter");
        }
        self.last_error = text;
        self.handle(PlanEvent::TemplateExited(number));
    }

    /// The plan tries again after a pause; a reload tries a few times only.
    pub(super) fn fork_failed(&mut self, number: u32, worker: u32, why: &str) {
        if let Some(before) = self.no_fork.is_due() {
            tracing::error!(
                code = codes::FORK_FAILED,
                worker,
                why,
                before,
                "cannot fork a worker"
            );
        }
        self.last_error = format!("cannot fork a worker: {why}");
        if let Some(python) = self.generations.get_mut(&number) {
            python.not_forked(worker);
        }
        self.handle(PlanEvent::ForkFailed(number, worker));
        self.growth_failed(number);
    }

    /// Starts a template, and creates generation `number` if it does not exist.
    ///
    /// # Errors
    /// The error of the system call for sockets, memory and the interpreter.
    pub fn start_template(&mut self, number: u32, preload: Preload) -> io::Result<()> {
        let python = match self.generations.entry(number) {
            Entry::Occupied(python) => python.into_mut(),
            Entry::Vacant(free) => {
                let settings = self.coming.as_ref().unwrap_or(&self.settings);
                free.insert(Python::new(number, settings, &self.pool)?)
            }
        };
        let module = python.settings.uwsgi_module.as_ref();
        let door = module.map(|module| uwsgi_service::door(module.cache));
        let log = self.log_sender.as_fd();
        python.start_template(preload, &self.files, log, door.transpose()?)
    }

    fn switch(&mut self, number: u32) {
        let Some(python) = self.generations.get(&number) else {
            return;
        };
        self.pool.switch(&python.generation);
        if let Some(loaded) = &python.facts.loaded {
            self.events.push(AppEvent::Files(loaded.files.clone()));
        }
    }
}
