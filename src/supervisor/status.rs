//! What the supervisor says about itself and its applications.

use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::scoreboard::Activity;

use super::Supervisor;
use super::app::App;
use crate::front::client_limits::memory_budget::Resource;
use crate::front::context::Identity;
use crate::front::upstream::workers::snapshot::{ThreadSnapshot, WorkerSnapshot};
use crate::observe::metrics::METRICS;
use crate::observe::status::{
    Application, Connections, Doing, Queue, Request, State, Status, Template, Thread, Worker,
    WorkerState, last_errors,
};
use crate::os::{clock, process};

impl Supervisor {
    /// How everything is. Reads a line of `/proc` for each process.
    pub(super) fn status(&self) -> Status {
        let applications = self.applications();
        let pid = std::process::id();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            state: self.state(&applications),
            uptime: self.began.elapsed().as_secs_f64(),
            listeners: self
                .front
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            chdir: self.resolved.config.chdir.display().to_string(),
            memory: process::resident_memory(pid).unwrap_or_default(),
            memory_used: Resource::Memory.pool().used() as u64,
            memory_budget: Resource::Memory.pool().limit() as u64,
            open_descriptors: process::open_descriptors(),
            connections: Connections {
                accepted: METRICS.connections.accepted.read(),
                open: METRICS.connections.open.read(),
                active: METRICS.connections.active.read(),
                reading: METRICS.connections.reading.read(),
            },
            applications,
            last_errors: last_errors(),
        }
    }

    fn applications(&self) -> Vec<Application> {
        let serving = self.apps.serving();
        let config = &self.resolved.config;
        let serving = serving.iter().enumerate().map(|(index, app)| {
            let name = app.name();
            let is_alone = serving.iter().filter(|app| app.name() == name).count() == 1;
            let prefix = config.prefix_of(index).to_owned();
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

    /// Whether requests would be served, and if not, why.
    pub(super) fn health(&self) -> Result<(), String> {
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

    fn state(&self, applications: &[Application]) -> State {
        let is_ready = |worker: &Worker| worker.state == WorkerState::Ready;
        if self.is_stopping() {
            State::Stopping
        } else if applications
            .iter()
            .all(|app| app.leaving || app.workers.iter().any(is_ready))
        {
            State::Serving
        } else {
            State::Starting
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
        template: template.map(|(pid, was_worker)| Template {
            pid,
            memory: process::resident_memory(pid).unwrap_or_default(),
            was_worker,
        }),
        refork: app.refork_status(),
        queue: Queue {
            handed_out: snapshot.handed_out,
            waiting: snapshot.waiting,
            limit: snapshot.limit,
        },
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

fn worker_status(worker: WorkerSnapshot, pid: u32, now_ns: u64) -> Worker {
    // The threads of a leaving worker end before it does.
    let has_ended =
        |thread: &ThreadSnapshot| worker.retiring && thread.activity == Activity::Absent;
    let threads = worker.threads.iter().filter(|thread| !has_ended(thread));
    Worker {
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

fn thread_status(thread: &ThreadSnapshot, now_ns: u64) -> Thread {
    let since = match thread.since_ns {
        0 => Duration::ZERO,
        since => Duration::from_nanos(now_ns.saturating_sub(since)),
    };
    Thread {
        doing: match thread.activity {
            Activity::Absent | Activity::Starting => Doing::Starting,
            Activity::Idle => Doing::Idle,
            Activity::Received => Doing::Received,
            Activity::Busy => Doing::Busy,
            Activity::Closing => Doing::Closing,
        },
        since: since.as_secs_f64(),
        request: thread.request.as_ref().map(request),
    }
}

/// Without the query, in which people put tokens.
fn request(identity: &Arc<Identity>) -> Request {
    Request {
        id: identity.request_id.clone(),
        method: identity.method.to_string(),
        path: identity.target.without_query().to_string(),
    }
}
