//! What a pool is doing at one moment, for status and metrics.

use std::sync::Arc;

use pyserve_wire::scoreboard::Activity;

use super::Pool;
use crate::front::request::context::Identity;

/// A pool at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Requests handed to the workers.
    pub handed_out: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Most that may wait.
    pub limit: usize,
    /// The workers that are attached, by number.
    pub workers: Vec<WorkerSnapshot>,
}

/// A worker at one moment.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    /// Its number.
    pub number: u32,
    /// Whether it serves.
    pub ready: bool,
    /// Requests that its threads have finished.
    pub served: u64,
    /// Its threads, in order.
    pub threads: Vec<ThreadSnapshot>,
}

/// A worker thread at one moment.
#[derive(Debug, Clone)]
pub struct ThreadSnapshot {
    /// What it does.
    pub activity: Activity,
    /// Since when, in nanoseconds of `CLOCK_MONOTONIC`; 0 if it never said.
    pub since_ns: u64,
    /// The request that it runs.
    pub request: Option<Arc<Identity>>,
}

impl Pool {
    /// What everybody does now.
    pub fn snapshot(&self) -> Snapshot {
        let board = self.0.scoreboard();
        let mut state = self.0.lock();
        let mut workers: Vec<_> = state
            .workers
            .iter()
            .map(|(number, worker)| (*number, worker.ready))
            .collect();
        workers.sort_unstable();
        let mut threads = |worker| {
            let first = self.first_thread(worker);
            let lines = (first..first + self.0.limits.threads as usize).map(|at| board.line(at));
            let mut served = 0;
            let threads = lines.map(|line| {
                served += line.served;
                let is_inside = matches!(line.activity, Activity::Busy | Activity::Closing);
                ThreadSnapshot {
                    activity: line.activity,
                    since_ns: line.since_ns,
                    request: is_inside.then(|| state.table.identity(line.seq)).flatten(),
                }
            });
            let threads = threads.collect();
            (threads, served)
        };
        let workers = workers
            .into_iter()
            .map(|(number, ready)| {
                let (threads, served) = threads(number);
                WorkerSnapshot {
                    number,
                    ready,
                    served,
                    threads,
                }
            })
            .collect();
        Snapshot {
            handed_out: state.table.handed_out(),
            waiting: state.table.waiting(),
            limit: self.0.limits.queue,
            workers,
        }
    }

    /// Why new requests would not be served: no worker is ready, or the queue is full.
    pub fn unready(&self) -> Option<&'static str> {
        let state = self.0.lock();
        if !state.workers.values().any(|worker| worker.ready) {
            return Some("no worker is ready");
        }
        (state.table.waiting() >= self.0.limits.queue).then_some("the queue is full")
    }
}
