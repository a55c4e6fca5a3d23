//! One generation of workers: the interface for the supervisor.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::orders::ToWorker;
use pyserve_wire::scoreboard::{Activity, Claim, Scoreboard};
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::doorbell::{Doorbell, ReplyMemory};
use super::progress::Progress;
use super::worker_set::{GenerationState, PREFETCH, WorkerHandle, WorkerSet, new_queue};
use super::{Pool, Size};
use crate::os::memory::SharedWords;

/// The workers that run one state of the application's code.
#[derive(Clone)]
pub struct Generation(pub(super) Arc<GenerationState>);

impl Pool {
    /// Creates the queue and the scoreboard of a new generation, which gets no requests before
    /// [`Pool::switch`]. `request_timeout`: longest time for which a request may occupy a thread.
    ///
    /// # Errors
    /// The error of the system call for sockets and memory.
    pub fn generation(
        &self,
        number: u32,
        size: Size,
        request_timeout: Option<Duration>,
    ) -> io::Result<Generation> {
        let threads = size.slots as usize * size.threads as usize;
        let entries = threads + PREFETCH;
        let doorbell = Arc::new(Doorbell::new()?);
        let queue = Arc::new(new_queue(size, &doorbell)?);
        doorbell.serve(&queue);
        let board = SharedWords::create("pyserve-scoreboard", Scoreboard::size(threads, entries))?;
        Scoreboard::create(board.words(), threads, entries);
        let crew = Arc::new(GenerationState {
            pool: Arc::clone(&self.0),
            number,
            size,
            board,
            doorbell,
            budget: Arc::clone(&self.0.budget),
            progress: (0..threads).map(|_| Progress::default()).collect(),
        });
        let kept = GenerationState::keep_deadlines(Arc::downgrade(&crew), request_timeout);
        self.0.tasks.spawn(kept);
        self.0.tasks.spawn(Arc::clone(&crew.doorbell).run());
        let mut state = self.0.lock();
        state.table.add(number, entries);
        state.rosters.push(WorkerSet {
            crew: Arc::clone(&crew),
            queue,
            workers: HashMap::new(),
            channels: Vec::new(),
            closed: false,
        });
        Ok(Generation(crew))
    }
}

impl Generation {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// Adds a worker that was just forked; `channels` are the front's ends, one per thread, `replies`
    /// is the memory for what it sends, and `orders` that of the socket for orders.
    ///
    /// # Errors
    /// The error of the system call for registering them.
    pub fn attach(
        &self,
        worker: u32,
        channels: Vec<OwnedFd>,
        replies: &Arc<ReplyMemory>,
        orders: OwnedFd,
    ) -> io::Result<()> {
        let exited = CancellationToken::new();
        let first = self.first_thread(worker);
        let mut readers = Vec::new();
        for (index, socket) in channels.into_iter().enumerate() {
            let thread = first + index;
            self.0.scoreboard().record(thread, Activity::Starting, 0, 0);
            let crew = Arc::clone(&self.0);
            let inbox = self.0.doorbell.add(Arc::clone(replies), index);
            let ends = (socket, inbox);
            readers.push(Channel::new(crew, worker, thread, ends, exited.clone())?);
        }
        let lines = (first..first + readers.len()).map(|at| self.0.scoreboard().line(at));
        let served_before = lines.fold(0, |sum: u64, line| sum.wrapping_add(line.served));
        if let Some(roster) = self.0.pool.lock().roster(self.0.number) {
            roster.channels.extend(first..first + readers.len());
            roster.workers.insert(
                worker,
                WorkerHandle {
                    served_before,
                    ready: false,
                    retiring: false,
                    exited,
                    orders,
                },
            );
        }
        for reader in readers {
            self.0.pool.tasks.spawn(reader.run());
        }
        Ok(())
    }

    /// Number of responses of a worker since its start.
    pub fn served(&self, worker: u32) -> u64 {
        let before = self.look(worker, |worker| worker.served_before);
        let first = self.first_thread(worker);
        let lines = first..first + self.0.size.threads as usize;
        let board = self.0.scoreboard();
        let all = lines.fold(0, |sum: u64, line| {
            sum.wrapping_add(board.line(line).served)
        });
        all.saturating_sub(before.unwrap_or(0))
    }

    /// True if a worker has reported ready and has not ended.
    pub fn is_ready(&self, worker: u32) -> bool {
        self.look(worker, |worker| worker.ready).unwrap_or(false)
    }

    /// True if a worker has begun its own start: it runs the host under this process ID.
    pub fn has_begun(&self, worker: u32, pid: u32) -> bool {
        self.0.scoreboard().line(self.first_thread(worker)).pid == pid
    }

    /// True if a worker takes requests.
    pub fn serves(&self, worker: u32) -> bool {
        let serves = |worker: &WorkerHandle| worker.ready && !worker.retiring;
        self.look(worker, serves).unwrap_or(false)
    }

    /// True if a worker that has served takes no more requests.
    pub fn is_retiring(&self, worker: u32) -> bool {
        self.look(worker, |worker| worker.retiring).unwrap_or(false)
    }

    /// True if no thread of a worker has a request.
    pub fn is_idle(&self, worker: u32) -> bool {
        let first = self.first_thread(worker);
        let board = self.0.scoreboard();
        (first..first + self.0.size.threads as usize).all(|thread| {
            let activity = board.line(thread).activity;
            matches!(activity, Activity::Idle | Activity::Absent)
        })
    }

    /// Orders a worker that was just forked to begin.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker; else the error of sending the order.
    pub fn begin(&self, worker: u32) -> io::Result<()> {
        let ordered = self.look(worker, |worker| worker.order(ToWorker::Begin, &[]));
        ordered.unwrap_or(Err(io::ErrorKind::NotFound.into()))
    }

    /// Orders a worker to take no more requests, finish those in flight, and exit with code 0.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker; else the error of sending the order.
    pub fn retire(&self, worker: u32) -> io::Result<()> {
        self.0.retire(worker)
    }

    /// Like [`Generation::retire`], but instead of exiting the worker becomes a template with this
    /// end of a control socket.
    ///
    /// # Errors
    /// As [`Generation::retire`].
    pub fn promote(&self, worker: u32, control: BorrowedFd<'_>) -> io::Result<()> {
        self.0.end_of_service(worker, ToWorker::Promote, &[control])
    }

    /// Handles a worker process that has ended, or no longer serves: requests taken by its threads
    /// are lost, and untaken ones are handed out again.
    pub fn worker_exited(&self, worker: u32) {
        let first = self.first_thread(worker);
        let threads = first..first + self.0.size.threads as usize;
        let board = self.0.scoreboard();
        for thread in threads.clone() {
            board.record(thread, Activity::Absent, 0, 0);
        }
        let mut state = self.0.pool.lock();
        for (spot, request) in state.table.in_flight(self.0.number) {
            if let Claim::Taken(thread) = board.claim(spot.entry, request.seq) {
                request.orphaned |= threads.contains(&thread);
            }
        }
        let roster = state.roster(self.0.number);
        let gone = roster.and_then(|roster| {
            let gone = roster.workers.remove(&worker)?;
            let unheard: Vec<_> = threads
                .clone()
                .filter(|thread| !roster.channels.contains(thread))
                .collect();
            Some((gone, unheard, Arc::clone(&roster.queue)))
        });
        if let Some((gone, unheard, queue)) = gone {
            // The end of the other channels does the same.
            for thread in unheard {
                self.0.lose(&mut state, worker, thread, true);
            }
            let worker = gone;
            worker.exited.cancel();
            queue.forget(threads);
            // Threads also leave if another worker has shut the shared queue down.
            if let Some(damage) = queue.damage().filter(|_| worker.ready) {
                self.0.replace_queue(&mut state, &queue, damage);
            }
        }
        self.0.adjust_capacity(&mut state);
        self.0.hand_out_all_again(&mut state);
        state.remove_if_empty(self.0.number);
    }

    /// Ends the queue: every worker thread exits when it becomes idle.
    pub fn close(&self) {
        let mut state = self.0.pool.lock();
        if let Some(roster) = state.roster(self.0.number) {
            roster.closed = true;
            roster.queue.end();
        }
        state.remove_if_empty(self.0.number);
    }

    /// Closes the generation and drops all its workers, including those that never reported.
    pub fn forget(&self) {
        let mut state = self.0.pool.lock();
        if let Some(roster) = state.roster(self.0.number) {
            roster.closed = true;
            for (_, worker) in roster.workers.drain() {
                worker.exited.cancel();
            }
        }
        state.remove_if_empty(self.0.number);
    }

    /// Passes the descriptors that a template needs to `use_them`: the workers' end of the socket
    /// beside the queue, the memory of the queue, and the scoreboard.
    pub fn with_descriptors<T>(&self, use_them: impl FnOnce([BorrowedFd<'_>; 3]) -> T) -> T {
        let board = self.0.board.file();
        match self.0.queue() {
            Some(queue) => use_them([queue.receiver(), queue.memory(), board]),
            // The generation is gone: its template finds no queue, and exits.
            None => use_them([board, board, board]),
        }
    }

    /// The eventfd that workers ring when they have written replies.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.0.doorbell.bell()
    }

    /// Threads of each worker.
    pub fn threads(&self) -> u32 {
        self.0.size.threads
    }

    /// Reads the state of a worker; `None` if the number is unknown.
    fn look<T>(&self, worker: u32, at: impl FnOnce(&WorkerHandle) -> T) -> Option<T> {
        let mut state = self.0.pool.lock();
        let roster = state.roster(self.0.number)?;
        roster.workers.get(&worker).map(at)
    }

    fn first_thread(&self, worker: u32) -> usize {
        worker as usize * self.0.size.threads as usize
    }
}
