//! The status of the supervisor and its applications.

use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::scoreboard::Activity;

use super::app::App;
use super::{Supervisor, maintenance};
use crate::front::client_limits::memory_budget::Resource;
use crate::front::context::RequestLabel;
use crate::front::upstream::workers::snapshot::{ThreadSnapshot, WorkerSnapshot};
use crate::observe::metrics::METRICS;
use crate::observe::status::{
    Application, ConnectionCounts, Queue, RequestStatus, ServerState, Status, TemplateStatus,
    ThreadActivity, ThreadStatus, WorkerState, WorkerStatus, last_errors,
};
use crate::os::{clock, process};

impl Supervisor {
    /// The whole status. Reads a line of `/proc` for each process.
    pub(super) fn status(&self) -> Status {
        let applications = self.applications();
        let pid = std::process::id();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            state: self.state(&applications),
            maintenance: maintenance::since(self.front.maintenance()),
            uptime: self.began.elapsed().as_secs_f64(),
            listeners: self
                .front
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            chdir: self.resolved.config.chdir.display().to_string(),
            image: self.resolved.config.is_image,
            memory: process::resident_memory(pid).unwrap_or_default(),
            memory_used: Resource::Memory.pool().used() as u64,
            memory_budget: Resource::Memory.pool().limit() as u64,
            open_descriptors: process::open_descriptors(),
            connections: ConnectionCounts {
                accepted: METRICS.connections.accepted.get(),
                open: METRICS.connections.open.get(),
                active: METRICS.connections.active.get(),
                reading: METRICS.connections.reading.get(),
            },
            applications,
            companions: self.companions.status(),
            acme: METRICS.acme.certificates(),
            last_errors: last_errors(),
        }
    }

    fn applications(&self) -> Vec<Application> {
        let serving = self.apps.serving();
        let config = &self.resolved.config;
        let serving = serving.iter().enumerate().map(|(index, app)| {
            let name = app.name();
            let is_alone = serving.iter().filter(|app| app.name() == name).count() == 1;
            let prefix = config.place_of(index);
            let name = match is_alone {
                true => name,
                false => format!("{name} at {prefix}"),
            };
            application(app, name, prefix)
        });
        let leaving = self.apps.leaving().map(|app| Application {
            leaving: true,
            ..application(app, app.name(), String::new())
        });
        serving.chain(leaving).collect()
    }

    /// `Ok` if requests would be served, else the reason.
    pub(super) fn health(&self) -> Result<(), String> {
        // The process that has taken over serves the same clients.
        if self.upgrade.is_over() {
            return Ok(());
        }
        if self.is_stopping() {
            return Err("stopping".to_owned());
        }
        if self.front.refuses_connections() {
            return Err(
                "new connections are not accepted: no descriptors (ulimit -n) or no memory left"
                    .to_owned(),
            );
        }
        for app in self.apps.serving() {
            if let Some(why) = app.pool.unready() {
                return Err(format!("{}: {why}", app.name()));
            }
        }
        Ok(())
    }

    fn state(&self, applications: &[Application]) -> ServerState {
        let is_ready = |worker: &WorkerStatus| worker.state == WorkerState::Ready;
        if self.is_stopping() {
            ServerState::Stopping
        } else if applications
            .iter()
            .all(|app| app.leaving || app.workers.iter().any(is_ready))
        {
            ServerState::Serving
        } else {
            ServerState::Starting
        }
    }
}

fn application(app: &App, name: String, prefix: String) -> Application {
    let snapshot = app.pool.snapshot();
    let now = clock::monotonic_ns();
    let (generation, template) = app.serving();
    Application {
        name,
        prefix,
        leaving: false,
        generation: u64::from(generation) + 1,
        template: template.map(|(pid, was_worker)| TemplateStatus {
            pid,
            memory: process::resident_memory(pid).unwrap_or_default(),
            was_worker,
        }),
        refork: app.refork_status(),
        queue: Queue {
            handed_out: snapshot.handed_out,
            waiting: snapshot.waiting,
            limit: snapshot.limit,
            overtakes: snapshot.overtaken,
        },
        scaling: app.scaling(),
        workers: snapshot
            .workers
            .into_iter()
            .map(|worker| {
                let pid = app.pid(worker.generation, worker.number);
                worker_status(worker, pid.unwrap_or_default(), now)
            })
            .collect(),
    }
}

fn worker_status(worker: WorkerSnapshot, pid: u32, now_ns: u64) -> WorkerStatus {
    // The threads of a leaving worker end before its process.
    let has_ended =
        |thread: &ThreadSnapshot| worker.retiring && thread.activity == Activity::Absent;
    let threads = worker.threads.iter().filter(|thread| !has_ended(thread));
    WorkerStatus {
        number: worker.number,
        pid,
        generation: u64::from(worker.generation) + 1,
        state: match (worker.retiring, worker.ready) {
            (true, _) => WorkerState::Leaving,
            (false, true) => WorkerState::Ready,
            (false, false) => WorkerState::Starting,
        },
        served: worker.served,
        memory: process::resident_memory(pid).unwrap_or_default(),
        threads: threads
            .map(|thread| thread_status(thread, now_ns))
            .collect(),
    }
}

fn thread_status(thread: &ThreadSnapshot, now_ns: u64) -> ThreadStatus {
    let since = match thread.since_ns {
        0 => Duration::ZERO,
        since => Duration::from_nanos(now_ns.saturating_sub(since)),
    };
    ThreadStatus {
        doing: match thread.activity {
            Activity::Absent | Activity::Starting => ThreadActivity::Starting,
            Activity::Idle => ThreadActivity::Idle,
            Activity::Received => ThreadActivity::Received,
            Activity::Busy | Activity::Debugging => ThreadActivity::Busy,
            Activity::Closing => ThreadActivity::Closing,
        },
        since: since.as_secs_f64(),
        request: thread.request.as_ref().map(request),
    }
}

/// Without the query, which may contain tokens.
fn request(identity: &Arc<RequestLabel>) -> RequestStatus {
    RequestStatus {
        id: identity.request_id.clone(),
        method: identity.method.to_string(),
        path: identity.target.without_query().to_string(),
    }
}
