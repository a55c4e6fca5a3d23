//! The state of a pool at one moment, for status and metrics.

use std::sync::Arc;

use pyserve_wire::scoreboard::Activity;

use super::dispatcher::Dispatcher;
use super::worker_set::{GenerationState, WorkerHandle};
use super::{Pool, State};
use crate::front::context::RequestLabel;

/// The state of a pool.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Requests handed to the workers.
    pub handed_out: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Limit of waiting requests.
    pub limit: usize,
    /// Requests that have overtaken longer ones.
    pub overtaken: u64,
    /// The workers that are attached, by number.
    pub workers: Vec<WorkerSnapshot>,
}

/// The state of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    /// Its generation.
    pub generation: u32,
    /// Its number in that generation.
    pub number: u32,
    /// True if it has been ready to serve.
    pub ready: bool,
    /// True if it takes no more requests.
    pub retiring: bool,
    /// Requests that its threads have finished.
    pub served: u64,
    /// Its threads, in order.
    pub threads: Vec<ThreadSnapshot>,
}

/// The state of a worker thread.
#[derive(Debug, Clone)]
pub struct ThreadSnapshot {
    /// Its activity.
    pub activity: Activity,
    /// Start of the activity, in nanoseconds of `CLOCK_MONOTONIC`; 0 if unreported.
    pub since_ns: u64,
    /// Its request.
    pub request: Option<Arc<RequestLabel>>,
}

impl Pool {
    /// Takes a snapshot of all generations.
    pub fn snapshot(&self) -> Snapshot {
        let mut guard = self.0.lock();
        let State {
            limits,
            table,
            rosters,
            ..
        } = &mut *guard;
        let workers = rosters
            .iter()
            .flat_map(|roster| {
                let mut workers: Vec<_> = roster.workers.iter().collect();
                workers.sort_unstable_by_key(|(number, _)| **number);
                workers
                    .into_iter()
                    .map(|(number, worker)| (&*roster.crew, *number, worker))
            })
            .map(|(crew, number, worker)| snapshot(crew, number, worker, table))
            .collect();
        Snapshot {
            handed_out: table.handed_out(),
            waiting: table.waiting(),
            limit: limits.queue,
            overtaken: table.overtaken(),
            workers,
        }
    }

    /// The reason why a new request would not be served: no worker is ready, or the queue is full.
    pub fn unready(&self) -> Option<&'static str> {
        let mut guard = self.0.lock();
        let State {
            limits,
            unusable,
            table,
            rosters,
        } = &mut *guard;
        if unusable.is_some() {
            return Some("the current code cannot be loaded");
        }
        let mut workers = rosters
            .iter()
            .filter(|roster| table.is_current(roster.crew.number))
            .flat_map(|roster| roster.workers.values());
        if !workers.any(|worker| worker.ready && !worker.retiring) {
            return Some("no worker is ready");
        }
        table.is_full(limits.queue).then_some("the queue is full")
    }
}

fn snapshot(
    crew: &GenerationState,
    number: u32,
    worker: &WorkerHandle,
    table: &mut Dispatcher,
) -> WorkerSnapshot {
    let board = crew.scoreboard();
    let count = crew.size.threads as usize;
    let first = number as usize * count;
    let mut served: u64 = 0;
    let threads = (first..first + count)
        .map(|at| {
            let line = board.line(at);
            served = served.wrapping_add(line.served);
            let has_one = matches!(
                line.activity,
                Activity::Received | Activity::Busy | Activity::Closing | Activity::Debugging
            );
            ThreadSnapshot {
                activity: line.activity,
                since_ns: line.since_ns,
                request: has_one.then(|| table.identity(line.seq)).flatten(),
            }
        })
        .collect();
    WorkerSnapshot {
        generation: crew.number,
        number,
        ready: worker.ready,
        retiring: worker.retiring || table.is_past(crew.number),
        served: served.saturating_sub(worker.served_before),
        threads,
    }
}
