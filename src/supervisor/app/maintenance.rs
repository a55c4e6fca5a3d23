//! Recycles workers. [`crate::supervisor::policy::recycle`] decides; this file measures. `elastic`
//! adapts their number.

use std::time::{Duration, Instant};

use super::elastic::Elastic;
use super::{App, AppEvent};
use crate::config::AppSettings;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::cgroup;
use crate::os::memory_group::MemoryGroup;
use crate::supervisor::plan::PlanEvent;
use crate::supervisor::policy::pressure::Pressure;
use crate::supervisor::policy::recycle::{Reason, Recycler};

/// Interval where requests are counted: workers answer thousands a second.
const COUNTING: Duration = Duration::from_millis(50);

/// State between two checks.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    recycler: Recycler,
    pub(super) elastic: Elastic,
    group: Option<MemoryGroup>,
    pressure: Pressure,
    next: Option<Instant>,
    next_memory: Option<Instant>,
}

impl Maintenance {
    pub(super) fn new() -> Self {
        Self {
            group: cgroup::memory_group(),
            ..Self::default()
        }
    }

    /// The control group whose memory limit is the narrowest.
    pub(super) fn group(&self) -> Option<MemoryGroup> {
        self.group.clone()
    }

    /// True if the kernel may kill a process of the control group for want of memory soon.
    pub(super) fn memory_runs_out(&self) -> bool {
        self.pressure.runs_out()
    }

    /// Interval of the checks.
    fn every(&self, settings: &AppSettings, refork: Option<u64>) -> Option<Duration> {
        if settings.recycle.requests.or(refork).is_some() {
            Some(COUNTING)
        } else {
            let is_any = settings.recycle.lifetime.is_some()
                || settings.recycle.memory.is_some()
                || self.group.is_some();
            is_any.then(|| self.pressure.pause())
        }
    }
}

impl App {
    /// Checks the workers if a check is due.
    pub fn look_after(&mut self, now: Instant) {
        let next = self.check_processes(now);
        self.emit(AppEvent::WakeAt(next));
        let settings = self.settings();
        if let Some(next) = self.follow_demand(now) {
            self.emit(AppEvent::WakeAt(next));
        }
        let Some(every) = self.care.every(&settings, self.refork()) else {
            return;
        };
        if self.care.next.is_none_or(|next| now >= next) {
            self.care.next = Some(now + every);
            self.recycle(&settings, now);
        }
        if let Some(next) = self.care.next.map(|next| next.min(now + every)) {
            self.care.next = Some(next);
            self.emit(AppEvent::WakeAt(next));
        }
    }

    fn recycle(&mut self, settings: &AppSettings, now: Instant) {
        let care = &mut self.care;
        let with_memory = care.next_memory.is_none_or(|next| now >= next);
        if with_memory {
            if let Some(group) = &care.group {
                // An unreadable value must not cause a worker to be replaced.
                let used = group.used().unwrap_or(0);
                care.pressure.look(used, group.limit, now);
            }
            care.next_memory = Some(now + care.pressure.pause());
        }
        // Workers that are not needed leave before others are replaced.
        let no_memory_left =
            with_memory && self.care.memory_runs_out() && !self.has_surplus(settings);
        let Some((number, seen)) = self.serving_workers(with_memory) else {
            return;
        };
        let worn = self
            .care
            .recycler
            .look(&seen, &settings.recycle, no_memory_left, now);
        let warm = self
            .refork()
            .and_then(|requests| self.care.recycler.warm(&seen, requests));
        if let Some(worker) = warm {
            self.handle(PlanEvent::Warm(number, worker));
        }
        for (worker, reason) in worn {
            METRICS.replaced.up(reason.label());
            let code = matches!(reason, Reason::NoMemoryLeft(_)).then_some(codes::MEMORY_PRESSURE);
            tracing::info!(code, worker, %reason, "worker is due for recycling: starting its successor");
            self.handle(PlanEvent::WornOut(number, worker));
        }
    }
}
