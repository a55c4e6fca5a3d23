//! Promotes a warm worker to template (`--refork`): sends the request, handles the response and
//! logs the outcome. [`crate::supervisor::plan`] decides when, and which worker.

use pyserve_wire::control::FromTemplate;

use super::App;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::status::Refork;
use crate::supervisor::generation::Python;
use crate::supervisor::plan::PlanEvent;

/// The state of the promotion.
#[derive(Debug, Default)]
pub(super) struct Reforks {
    promoted: u64,
    last_failure: Option<String>,
}

impl App {
    /// Number of requests after which a worker may become the template; `None` if refork is off.
    pub(in crate::supervisor) fn refork(&self) -> Option<u64> {
        self.settings.refork.filter(|_| self.plan.may_refork())
    }

    /// The state of the promotion for the status page.
    pub fn refork_status(&self) -> Option<Refork> {
        Some(Refork {
            after: self.settings.refork?,
            promoted: self.reforks.promoted,
            last_failure: self.reforks.last_failure.clone(),
        })
    }

    /// Asks a worker to become the template.
    pub(super) fn promote(&mut self, number: u32, worker: u32) {
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        tracing::info!(worker, "asking a warm worker to become the template");
        METRICS.replaced.up("refork");
        if let Err(error) = python.promote(worker) {
            tracing::error!(worker, %error, "cannot make a worker the template: replacing it instead");
            let _gone_already = python.generation.retire(worker);
            self.refork_failed("failed", error.to_string());
            self.handle(PlanEvent::Refused(number, worker));
        }
    }

    /// Handles a message of the worker that was asked to become the template.
    pub(super) fn take_answer(&mut self, number: u32, worker: u32, message: Option<FromTemplate>) {
        if message == Some(FromTemplate::Promoted) {
            return self.handle(PlanEvent::Promoted(number, worker));
        }
        let (outcome, why) = match message {
            Some(FromTemplate::UnsafeToFork(reasons)) => ("refused", Some(reasons.join("; "))),
            _ => ("failed", None),
        };
        if let Some(reasons) = &why {
            tracing::warn!(
                code = codes::REFORK_REFUSED,
                worker,
                reasons,
                "the application holds resources that are not fork-safe, so a worker cannot become the template (--refork): it is replaced, and no other worker is tried before the next reload"
            );
        }
        if let Some(python) = self.generations.get_mut(&number) {
            python.candidate = None;
        }
        self.refork_failed(outcome, why.unwrap_or_else(|| "it ended".to_owned()));
        self.handle(PlanEvent::Refused(number, worker));
    }

    /// The worker that has agreed replaces the template.
    pub(super) fn adopt(&mut self, number: u32) {
        match self.generations.get_mut(&number).map(Python::adopt) {
            Some(true) => {}
            Some(false) => return self.handle(PlanEvent::TemplateExited(number)),
            None => return,
        }
        self.reforks.promoted += 1;
        METRICS.reforks.up("promoted");
        let python = self.generations.get(&number);
        for _ in python.map(|python| python.seen(false)).unwrap_or_default() {
            METRICS.replaced.up("refork");
        }
    }

    fn refork_failed(&mut self, outcome: &'static str, why: String) {
        METRICS.reforks.up(outcome);
        self.reforks.last_failure = Some(why);
    }

    /// Handles a message of a former template about the workers that it forked.
    pub(super) fn handle_former_message(
        &mut self,
        number: u32,
        pid: u32,
        message: Option<FromTemplate>,
    ) {
        let Some(python) = self.generations.get_mut(&number) else {
            return;
        };
        match message {
            Some(FromTemplate::Forked { worker, pid: child }) => {
                python.forked(worker, child, pid);
            }
            Some(FromTemplate::Exited { pid, status, .. }) => {
                self.process_ended(pid, Some(status));
            }
            // It was asked to exit before it was loaded.
            Some(_) => {}
            // Its exit status is known when it is reaped.
            None => {
                let mut former = python.former.iter_mut();
                if let Some(former) = former.find(|former| former.pid == pid) {
                    former.closed = true;
                }
            }
        }
    }
}
