//! One generation of workers, for the pool and its channels: its queue, its scoreboard, its
//! members, and the outcome of their requests.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::control::Loaded;
use pyserve_wire::orders::ToWorker;
use pyserve_wire::scoreboard::{Claim, Scoreboard};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::dispatch_slot::DispatchSlot;
use super::dispatcher::InFlight;
use super::doorbell::Doorbell;
use super::progress::Progress;
use super::queue::Queue;
use super::request_queue::QueueAddress;
use super::{Outcome, Report, Shared, Size, State, WorkerEvent};
use crate::front::body::response_stream::budget::Budget;
use crate::front::upstream::{Failure, Response};
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::memory::SharedWords;
use crate::os::sockets;

/// Requests handed out beyond the ready threads, so that a thread that finishes finds its next one
/// in the ring and neither side sleeps in between. They are in one queue that every thread takes
/// from, and each can be taken back, so they are not bound to a worker. Measured with a hello
/// application, 2 workers and 64 connections: 18 µs of CPU a request with 2 of them, 16.5 with 8,
/// 15 with 32.
pub(super) const PREFETCH: usize = 32;

/// The state of a generation for its whole life.
pub(super) struct GenerationState {
    pub(super) pool: Arc<Shared>,
    pub(super) number: u32,
    pub(super) size: Size,
    pub(super) board: SharedWords,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) budget: Arc<Budget>,
    /// One for each line of the scoreboard.
    pub(super) progress: Vec<Progress>,
}

/// The current members of a generation.
pub(super) struct WorkerSet {
    pub(super) crew: Arc<GenerationState>,
    pub(super) queue: Arc<Queue>,
    pub(super) workers: HashMap<u32, WorkerHandle>,
    /// Threads whose channels are still being read; twice if the number of a worker was reused meanwhile.
    pub(super) channels: Vec<usize>,
    /// It gets no more requests.
    pub(super) closed: bool,
}

pub(super) struct WorkerHandle {
    /// Requests counted by earlier workers on its lines of the scoreboard.
    pub(super) served_before: u64,
    pub(super) ready: bool,
    /// It takes no more requests, and exits when it has finished those it has.
    pub(super) retiring: bool,
    pub(super) exited: CancellationToken,
    /// The socket for orders.
    pub(super) orders: OwnedFd,
}

impl WorkerSet {
    /// True if the generation is closed and has neither workers nor channels left.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.workers.is_empty() && self.channels.is_empty()
    }
}

impl Drop for GenerationState {
    fn drop(&mut self) {
        self.doorbell.close();
    }
}

/// A queue for a generation of this size.
///
/// # Errors
/// The error of the system call for sockets and memory.
pub(super) fn new_queue(size: Size, doorbell: &Doorbell) -> io::Result<Queue> {
    let threads = size.slots as usize * size.threads as usize;
    let queue = Queue::new(threads, threads + PREFETCH, doorbell.later())?;
    Ok(queue.for_workers_of(size.threads as usize))
}

impl GenerationState {
    pub(super) fn scoreboard(&self) -> Scoreboard<'_> {
        // Workers can write to this memory: only the words are taken from there.
        let threads = self.progress.len();
        Scoreboard::over(self.board.words(), threads, threads + PREFETCH)
    }

    /// The current queue; `None` if the generation is forgotten.
    pub(super) fn queue(&self) -> Option<Arc<Queue>> {
        let mut state = self.pool.lock();
        Some(Arc::clone(&state.roster(self.number)?.queue))
    }

    pub(super) fn retire(&self, worker: u32) -> io::Result<()> {
        self.end_of_service(worker, ToWorker::Retire, &[])
    }

    pub(super) fn end_of_service(
        &self,
        worker: u32,
        order: ToWorker,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut state = self.pool.lock();
        let workers = state.roster(self.number).map(|roster| &mut roster.workers);
        let Some(leaving) = workers.and_then(|workers| workers.get_mut(&worker)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        leaving.retiring = true;
        let ordered = leaving.order(order, descriptors);
        self.adjust_capacity(&mut state);
        ordered
    }

    /// Reports an event to the supervisor.
    pub(super) fn notify(&self, event: WorkerEvent) {
        let report = Report {
            app: self.pool.app,
            generation: self.number,
            event,
        };
        let _supervisor_gone = self.pool.reports.send(report);
    }

    /// Replaces `queue` after a worker has damaged what all workers of the generation share, unless
    /// it was replaced already; its untaken requests are handed out again. The workers exit at the
    /// end of their queue, and the supervisor starts a template with the new one.
    pub(super) fn replace_queue(&self, state: &mut State, queue: &Arc<Queue>, damage: &str) {
        let Some(roster) = state.roster(self.number) else {
            return;
        };
        if roster.closed || !Arc::ptr_eq(&roster.queue, queue) {
            return;
        }
        match new_queue(self.size, &self.doorbell) {
            Ok(other) => {
                roster.queue = Arc::new(other);
                self.doorbell.serve(&roster.queue);
            }
            Err(error) => {
                tracing::error!(%error, "cannot create another queue for the workers");
                return;
            }
        }
        queue.end();
        for worker in roster.workers.values_mut() {
            worker.retiring = true;
        }
        tracing::error!(
            code = codes::DAMAGED,
            damage,
            "a worker damaged shared memory or sockets: replacing all workers"
        );
        self.adjust_capacity(state);
        self.hand_out_again(state, |_| true);
        self.notify(WorkerEvent::Damaged);
    }

    /// Delivers the response to the call that waits for it.
    pub(super) fn deliver(&self, seq: u64, answer: Result<Box<Response>, Failure>) {
        let reply = self
            .pool
            .lock()
            .table
            .find(self.number, seq)
            .and_then(|(_, request)| request.reply.take());
        if let Some(reply) = reply {
            // If the client has disconnected, the response is dropped here, and a streamed body
            // cancels itself.
            let _client_gone = reply.send(Outcome::Answer(answer));
        }
    }

    /// Ends a request whose entry is free afterwards.
    pub(super) fn release(&self, seq: u64) {
        drop(self.end(seq, None));
    }

    /// Ends a request that took so long, and delivers its response unless the call has one.
    pub(super) fn finish(
        &self,
        seq: u64,
        took: Duration,
        answer: Option<Result<Box<Response>, Failure>>,
    ) {
        if let (Some(reply), Some(answer)) = (self.end(seq, Some(took)), answer) {
            let _client_gone = reply.send(Outcome::Answer(answer));
        }
    }

    /// Frees the entry of a request. The sender, if the call still waits for a response.
    fn end(&self, seq: u64, took: Option<Duration>) -> Option<oneshot::Sender<Outcome>> {
        let mut state = self.pool.lock();
        let (spot, request) = state.table.find(self.number, seq)?;
        let reply = request.reply.take();
        if request.timed_out {
            METRICS.timeouts.up(match request.stuck {
                true => "late",
                false => "interrupted",
            });
        }
        if let Some(took) = took {
            state.table.learn(spot, took);
        }
        state.table.release(spot);
        reply
    }

    /// Frees the entry of a withdrawn request whose message a thread has skipped.
    pub(super) fn skipped(&self, seq: u64) {
        let mut state = self.pool.lock();
        // A thread also skips the message of a request that another one runs, if a worker has set
        // the queue back.
        if let Some((spot, request)) = state.table.find(self.number, seq)
            && request.withdrawn
        {
            state.table.release(spot);
        }
    }

    /// Cancels a request whose response is no longer wanted.
    pub(super) fn cancel(&self, seq: u64) {
        let mut state = self.pool.lock();
        if let Some((spot, request)) = state.table.find(self.number, seq) {
            request.reply = None;
            if self.scoreboard().withdraw(spot.entry, seq) {
                request.withdrawn = true;
            } else {
                self.scoreboard().cancel(spot.entry, seq);
            }
        }
    }

    /// Handles a worker's ready report, unless it has `exited` meanwhile: then its number may have
    /// been reused.
    pub(super) fn worker_ready(
        &self,
        worker: u32,
        loaded: Option<Loaded>,
        exited: &CancellationToken,
    ) {
        let mut state = self.pool.lock();
        let roster = state.roster(self.number);
        let newcomer = roster.and_then(|roster| roster.workers.get_mut(&worker));
        match newcomer {
            Some(newcomer) if !exited.is_cancelled() => newcomer.ready = true,
            _ => return,
        }
        self.adjust_capacity(&mut state);
        drop(state);
        self.notify(WorkerEvent::Ready { worker, loaded });
    }

    /// Handles the end of a thread's channel: the request that it had taken is lost. If the worker
    /// has `exited`, its number may have been reused. Returns true if the worker was not expected to leave.
    pub(super) fn thread_gone(&self, worker: u32, thread: usize, exited: bool) -> bool {
        let mut state = self.pool.lock();
        self.lose(&mut state, worker, thread, exited);
        let mut is_unexpected = false;
        if let Some(roster) = state.roster(self.number) {
            if let Some(at) = roster.channels.iter().position(|other| *other == thread) {
                roster.channels.swap_remove(at);
            }
            if let Some(gone) = roster.workers.get_mut(&worker).filter(|_| !exited) {
                // It takes no more requests, even if its exit is noticed later.
                is_unexpected = !std::mem::replace(&mut gone.retiring, true);
                self.adjust_capacity(&mut state);
            }
        }
        state.remove_if_empty(self.number);
        is_unexpected
    }

    /// Fails the requests that a thread has taken after the end of its channel; if the worker has
    /// `exited`, those that were its own.
    pub(super) fn lose(&self, state: &mut State, worker: u32, thread: usize, exited: bool) {
        let board = self.scoreboard();
        let lost: Vec<_> = state
            .table
            .in_flight(self.number)
            .filter(|(_, request)| request.orphaned || !exited)
            .filter(|(spot, request)| board.claim(spot.entry, request.seq) == Claim::Taken(thread))
            .map(|(spot, request)| {
                let id = Arc::clone(&request.identity);
                if request.timed_out {
                    METRICS.timeouts.up("killed");
                } else {
                    tracing::error!(code = codes::REQUEST_LOST, request_id = %id.request_id, method = %id.method, path = %id.target, worker,
                        "request lost: the worker died while it ran");
                }
                (spot, request.reply.take())
            })
            .collect();
        for (spot, reply) in lost {
            if let Some(reply) = reply {
                let _client_gone = reply.send(Outcome::Answer(Err(Failure::WorkerLost { worker })));
            }
            state.table.release(spot);
        }
    }

    /// Takes all untaken requests back after a worker has gone; the calls that wait hand them out
    /// again. Their words leave the queue, which no thread may read for long.
    pub(super) fn hand_out_all_again(&self, state: &mut State) {
        if let Some(queue) = state.roster(self.number).map(|it| Arc::clone(&it.queue)) {
            queue.clear();
        }
        self.hand_out_again(state, |_| true);
    }

    /// Takes untaken requests back whose numbers are `wanted`; the calls that wait hand them out
    /// again.
    pub(super) fn hand_out_again(&self, state: &mut State, wanted: impl Fn(u64) -> bool) {
        let board = self.scoreboard();
        let untaken: Vec<_> = state
            .table
            .in_flight(self.number)
            .filter(|(_, request)| wanted(request.seq))
            .filter(|(spot, request)| request.withdrawn || board.withdraw(spot.entry, request.seq))
            .map(|(spot, _)| spot)
            .collect();
        for spot in untaken {
            if let Some(reply) = state.table.take_back(spot)
                && reply.send(Outcome::Again).is_err()
            {
                state.table.release(spot);
            }
        }
    }

    /// Returns untaken requests of addresses other than `origin` to the waiting queue; only those
    /// before the request with the number `seq`, and only if that is more than one per thread. From
    /// then on few requests are handed out ahead, until the waiting queue is empty.
    pub(super) fn requeue_before(&self, state: &mut State, origin: QueueAddress, seq: Option<u64>) {
        let board = self.scoreboard();
        let untaken = |spot: DispatchSlot, request: &InFlight| {
            request.origin != origin
                && seq.is_none_or(|seq| request.seq < seq)
                && !request.withdrawn
                && board.claim(spot.entry, request.seq) == Claim::Unclaimed
        };
        let threads = state.table.threads(self.number);
        let others = state.table.in_flight(self.number);
        if others
            .filter(|(spot, request)| untaken(*spot, request))
            .count()
            <= threads
        {
            return;
        }
        state.table.set_slow();
        for (spot, request) in state.table.in_flight(self.number) {
            // Its entry is free when a thread has skipped its message.
            if untaken(spot, request) && board.withdraw(spot.entry, request.seq) {
                request.withdrawn = true;
                let reply = request.reply.take();
                let _client_gone = reply.map(|reply| reply.send(Outcome::Requeue));
            }
        }
    }

    pub(super) fn adjust_capacity(&self, state: &mut State) {
        let ready = state.roster(self.number).map_or(0, |roster| {
            let serves = |worker: &&WorkerHandle| worker.ready && !worker.retiring;
            roster.workers.values().filter(serves).count()
        });
        let threads = ready * self.size.threads as usize;
        state.table.set_capacity(self.number, threads, PREFETCH);
    }
}

impl WorkerHandle {
    pub(super) fn order(&self, order: ToWorker, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = order.to_bytes();
        sockets::send(self.orders.as_fd(), &[IoSlice::new(&bytes)], descriptors).map(drop)
    }
}
