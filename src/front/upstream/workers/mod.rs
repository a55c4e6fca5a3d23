//! The embedded Python as an upstream: how a request reaches a worker thread and its answer
//! comes back. No other file knows the transport.
//!
//! ```text
//! call() -> table: an entry, or wait in line -> one SEQPACKET queue -> any idle thread
//!    ^                                                                       |
//!    +---- table: who waits for this number <- channel of that thread <------+
//! ```
//!
//! At most the ready threads plus a small prefetch are handed out; the rest wait here,
//! where they can be counted, limited and dropped. The kernel's queue cannot be searched,
//! so a request is taken back through its claim (`pyserve_wire::scoreboard`). When a worker
//! dies, requests that its threads had taken are lost; those nobody had taken are handed
//! out again under a new number, and a stale message is skipped by whoever receives it.

mod channel;
pub mod snapshot;
mod table;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyserve_wire::control::Loaded;
use pyserve_wire::frames::{BodyKind, REQUEST_HEADER, RequestHeader};
use pyserve_wire::orders::ToWorker;
use pyserve_wire::scoreboard::{Activity, Claim, Scoreboard};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::front::request::context::Identity;
use crate::front::upstream::response_body::Budget;
use crate::front::upstream::{Failure, Request, RequestBody, Response};
use crate::os::memory::{self, SharedWords};
use crate::os::sockets;
use crate::os::watch::watch;
use channel::Channel;
use table::{Place, Table};

/// Requests handed out beyond the ready threads, so that a thread that finishes finds its
/// next one in the kernel and neither side sleeps in between. They lie in one queue that
/// every thread takes from, and each can be taken back, so they bind nobody. Measured with a
/// hello application, 2 workers and 64 connections: 18 µs of CPU a request with 2 of them,
/// 16.5 with 8, 15 with 32.
const PREFETCH: usize = 32;
/// Send buffer asked for on the request queue. Requests take up to about 130 KB each.
const QUEUE_BUFFER: usize = 4 << 20;

/// What happened to a request that was handed out.
enum Outcome {
    Answer(Result<Box<Response>, Failure>),
    /// Nobody had taken it when a worker died: hand it out again.
    Again,
}

/// What a pool tells the supervisor.
#[derive(Debug)]
pub enum Event {
    /// A worker serves.
    Ready {
        /// Number of the worker.
        worker: u32,
        /// What it imported, if it imported for itself.
        loaded: Option<Loaded>,
    },
    /// A worker could not import the application.
    BootFailed {
        /// Number of the worker.
        worker: u32,
        /// Python's traceback.
        traceback: String,
    },
    /// A worker sent what is no reply; it must be killed.
    Confused {
        /// Number of the worker.
        worker: u32,
    },
}

/// Sizes and limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most workers at a time, those on their way out included.
    pub workers: u32,
    /// Threads of each.
    pub threads: u32,
    /// Most requests that wait for a worker.
    pub queue: usize,
    /// Longest time that a request waits.
    pub queue_timeout: Duration,
}

/// The workers that serve one generation of the application, and their queue.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

pub(super) struct Shared {
    limits: Limits,
    queue: AsyncFd<OwnedFd>,
    /// Longest message that the queue takes in one piece.
    longest_message: usize,
    /// The workers' end, kept to be handed to the next template.
    queue_receiver: OwnedFd,
    board: SharedWords,
    pub(super) budget: Arc<Budget>,
    state: Mutex<State>,
    tasks: TaskTracker,
    events: mpsc::UnboundedSender<Event>,
}

struct State {
    table: Table,
    workers: HashMap<u32, Worker>,
}

struct Worker {
    ready: bool,
    /// It takes no more requests, and leaves when it has answered those it has.
    retiring: bool,
    exited: CancellationToken,
    /// Where it is told what is no request.
    orders: OwnedFd,
}

impl Pool {
    /// Makes the queue and the scoreboard. Readers of channels are spawned on `tasks`.
    ///
    /// # Errors
    /// What the kernel says about sockets and memory.
    pub fn new(
        limits: Limits,
        tasks: TaskTracker,
        events: mpsc::UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (sender, queue_receiver) = sockets::pair(SocketType::SEQPACKET)?;
        let buffer = sockets::grow_send_buffer(sender.as_fd(), QUEUE_BUFFER)?;
        sockets::set_nonblocking(sender.as_fd())?;
        let threads = limits.workers as usize * limits.threads as usize;
        let entries = threads + PREFETCH;
        let board = SharedWords::create("pyserve-scoreboard", Scoreboard::size(threads, entries))?;
        Scoreboard::create(board.words(), threads, entries);
        Ok(Self(Arc::new(Shared {
            limits,
            queue: watch(sender)?,
            // The kernel charges more than the bytes themselves.
            longest_message: buffer / 2,
            queue_receiver,
            board,
            budget: Arc::default(),
            state: Mutex::new(State {
                table: Table::new(entries),
                workers: HashMap::new(),
            }),
            tasks,
            events,
        })))
    }

    /// Has a worker thread answer the request.
    ///
    /// Dropping the future takes the request back if no thread has begun it, and tells the
    /// thread otherwise.
    ///
    /// # Errors
    /// [`Failure`] says why there is no answer.
    pub async fn call(
        &self,
        mut request: Request,
        identity: Arc<Identity>,
    ) -> Result<Box<Response>, Failure> {
        let asked = Instant::now();
        let entry = self.0.entry(asked).await?;
        let mut place = Reserved {
            shared: &self.0,
            entry,
            armed: true,
        };
        self.0.fit(&mut request)?;
        loop {
            let (seq, answer) = self.0.lock().table.begin(entry, Arc::clone(&identity));
            place.armed = false;
            self.0.scoreboard().publish(entry, seq);
            let mut handed_out = HandedOut {
                shared: &self.0,
                seq,
                stage: Stage::Unsent,
            };
            self.0.send(&mut request, entry, seq).await?;
            handed_out.stage = Stage::Sent;
            let outcome = self.0.outcome(answer, entry, seq, asked).await?;
            handed_out.stage = Stage::Over;
            match outcome {
                Outcome::Answer(answer) => return answer,
                Outcome::Again => place.armed = true,
            }
        }
    }

    /// Takes on a worker that was just forked; `channels` are our ends, one per thread, and
    /// `orders` that of the socket for what is no request.
    ///
    /// # Errors
    /// What the kernel says about registering them.
    pub fn attach(&self, worker: u32, channels: Vec<OwnedFd>, orders: OwnedFd) -> io::Result<()> {
        let exited = CancellationToken::new();
        let first = self.first_thread(worker);
        for (index, socket) in channels.into_iter().enumerate() {
            let thread = first + index;
            self.0.scoreboard().record(thread, Activity::Starting, 0, 0);
            let channel = Channel::new(Arc::clone(&self.0), worker, thread, socket)?;
            self.0.tasks.spawn(channel.run(exited.clone()));
        }
        self.0.lock().workers.insert(
            worker,
            Worker {
                ready: false,
                retiring: false,
                exited,
                orders,
            },
        );
        Ok(())
    }

    /// Has a worker take no more requests, finish those it has, and leave with exit code 0.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker; else what the kernel says about telling it.
    pub fn retire(&self, worker: u32) -> io::Result<()> {
        let mut state = self.0.lock();
        let Some(leaving) = state.workers.get_mut(&worker) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        leaving.retiring = true;
        let told = leaving.order(ToWorker::Retire);
        self.0.adjust_capacity(&mut state);
        told
    }

    /// A worker process has ended: what its threads had taken is lost, and what nobody had
    /// taken is handed out again.
    pub fn worker_exited(&self, worker: u32) {
        let first = self.first_thread(worker);
        for thread in first..first + self.0.limits.threads as usize {
            self.0.scoreboard().record(thread, Activity::Absent, 0, 0);
        }
        let mut state = self.0.lock();
        if let Some(worker) = state.workers.remove(&worker) {
            worker.exited.cancel();
        }
        self.0.adjust_capacity(&mut state);
        self.0.hand_out_again(&mut state);
    }

    /// Ends the queue: every worker thread that becomes idle leaves.
    pub fn close(&self) {
        let _already_closed =
            rustix::net::shutdown(self.0.queue.get_ref(), rustix::net::Shutdown::Write);
    }

    /// How many requests are handed out, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.table.handed_out(), state.table.waiting())
    }

    /// Who the request with this number is, for the log.
    pub fn identity(&self, seq: u64) -> Option<Arc<Identity>> {
        self.0.lock().table.identity(seq)
    }

    /// Descriptors that a template needs: the workers' end of the queue and the scoreboard.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.0.queue_receiver.as_fd(), self.0.board.file()]
    }

    /// Threads of each worker.
    pub fn threads(&self) -> u32 {
        self.0.limits.threads
    }

    fn first_thread(&self, worker: u32) -> usize {
        worker as usize * self.0.limits.threads as usize
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scoreboard(&self) -> Scoreboard<'_> {
        Scoreboard::open(self.board.words()).expect("laid out in Pool::new")
    }

    fn notify(&self, event: Event) {
        let _supervisor_gone = self.events.send(event);
    }

    /// An entry, as soon as there is one.
    async fn entry(self: &Arc<Self>, asked: Instant) -> Result<usize, Failure> {
        let receiver = {
            let mut state = self.lock();
            match state.table.ask(self.limits.queue) {
                Place::Entry(entry) => return Ok(entry),
                Place::Full => {
                    return Err(Failure::QueueFull {
                        limit: self.limits.queue,
                    });
                }
                Place::Wait(receiver) => receiver,
            }
        };
        let mut waiting = Waiting {
            shared: self,
            receiver: Some(receiver),
        };
        let receiver = waiting.receiver.as_mut().expect("set above");
        let deadline = (asked + self.limits.queue_timeout).into();
        match tokio::time::timeout_at(deadline, receiver).await {
            Ok(Ok(entry)) => {
                waiting.receiver = None;
                Ok(entry)
            }
            Ok(Err(_closed)) => Err(Failure::Stopping),
            Err(_elapsed) => Err(Failure::QueueTimeout {
                waited: asked.elapsed(),
            }),
        }
    }

    /// What becomes of a request that is in the queue. Until a thread has taken it, it still
    /// waits, and may wait too long.
    async fn outcome(
        &self,
        mut answer: oneshot::Receiver<Outcome>,
        entry: usize,
        seq: u64,
        asked: Instant,
    ) -> Result<Outcome, Failure> {
        let deadline = (asked + self.limits.queue_timeout).into();
        let answered = match tokio::time::timeout_at(deadline, &mut answer).await {
            Ok(answered) => answered,
            Err(_elapsed) => {
                if self.scoreboard().claim(entry, seq) == Claim::Unclaimed {
                    // Dropping the call takes it back; a thread that is quicker runs it for
                    // nobody, as for any client that leaves.
                    let waited = asked.elapsed();
                    return Err(Failure::QueueTimeout { waited });
                }
                answer.await
            }
        };
        answered.map_err(|_closed| Failure::Stopping)
    }

    /// Moves a body that the queue does not take in one piece into a memory file.
    fn fit(&self, request: &mut Request) -> io::Result<()> {
        if let RequestBody::Memory(body) = &request.body
            && request.message.len() + body.len() > self.longest_message
        {
            let length = body.len() as u64;
            let file = memory::sealed_file("pyserve-body", body)?.into();
            request.body = RequestBody::File { file, length };
        }
        Ok(())
    }

    async fn send(&self, request: &mut Request, entry: usize, seq: u64) -> io::Result<()> {
        let (kind, body_len, inline, descriptor) = match &request.body {
            RequestBody::Memory(body) => (BodyKind::Inline, body.len() as u64, &body[..], None),
            RequestBody::File { file, length } => {
                (BodyKind::File, *length, &[][..], Some(file.as_fd()))
            }
        };
        let header = RequestHeader {
            seq,
            entry: entry as u32,
            body: kind,
            body_len,
            vars_len: (request.message.len() - REQUEST_HEADER) as u32,
        };
        request.message[..REQUEST_HEADER].copy_from_slice(&header.to_bytes());
        let parts = [IoSlice::new(&request.message), IoSlice::new(inline)];
        let send = |queue: &OwnedFd| sockets::send(queue.as_fd(), &parts, descriptor.as_slice());
        match send(self.queue.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent.map(drop),
        }
        loop {
            let mut writable = self.queue.writable().await?;
            if let Ok(sent) = writable.try_io(|queue| send(queue.get_ref())) {
                return sent.map(drop);
            }
        }
    }

    /// Gives the answer to whoever waits for it.
    fn deliver(&self, seq: u64, answer: Result<Box<Response>, Failure>) {
        let reply = self
            .lock()
            .table
            .find(seq)
            .and_then(|(_, request)| request.reply.take());
        if let Some(reply) = reply {
            // If the client left meanwhile, the answer is dropped here, and a streamed body
            // cancels itself.
            let _client_gone = reply.send(Outcome::Answer(answer));
        }
    }

    /// The request has run to its end; its entry is free.
    fn release(&self, seq: u64) {
        let mut state = self.lock();
        if let Some((entry, _)) = state.table.find(seq) {
            state.table.release(entry);
        }
    }

    /// Nobody wants the answer any more.
    fn cancel(&self, seq: u64) {
        let mut state = self.lock();
        if let Some((entry, request)) = state.table.find(seq) {
            request.reply = None;
            if self.scoreboard().withdraw(entry, seq) {
                request.withdrawn = true;
            } else {
                self.scoreboard().cancel(entry, seq);
            }
        }
    }

    fn worker_ready(&self, worker: u32, loaded: Option<Loaded>) {
        let mut state = self.lock();
        if let Some(worker) = state.workers.get_mut(&worker) {
            worker.ready = true;
        }
        self.adjust_capacity(&mut state);
        drop(state);
        self.notify(Event::Ready { worker, loaded });
    }

    /// A thread's channel has ended: what it had taken is lost.
    fn thread_gone(&self, worker: u32, thread: usize) {
        let mut state = self.lock();
        let lost: Vec<_> = state
            .table
            .in_flight()
            .filter(|(entry, request)| {
                self.scoreboard().claim(*entry, request.seq) == Claim::Taken(thread)
            })
            .map(|(entry, request)| {
                let id = Arc::clone(&request.identity);
                tracing::error!(request_id = %id.request_id, method = %id.method, path = %id.target, worker,
                    "request lost: the worker died while it ran");
                (entry, request.reply.take())
            })
            .collect();
        for (entry, reply) in lost {
            if let Some(reply) = reply {
                let _client_gone = reply.send(Outcome::Answer(Err(Failure::WorkerLost { worker })));
            }
            state.table.release(entry);
        }
    }

    fn hand_out_again(&self, state: &mut State) {
        let board = self.scoreboard();
        let untaken: Vec<_> = state
            .table
            .in_flight()
            .filter(|(entry, request)| request.withdrawn || board.withdraw(*entry, request.seq))
            .map(|(entry, _)| entry)
            .collect();
        for entry in untaken {
            if let Some(reply) = state.table.take_back(entry)
                && reply.send(Outcome::Again).is_err()
            {
                state.table.release(entry);
            }
        }
    }

    fn adjust_capacity(&self, state: &mut State) {
        let serves = |worker: &&Worker| worker.ready && !worker.retiring;
        let ready = state.workers.values().filter(serves).count();
        state
            .table
            .set_capacity(ready * self.limits.threads as usize, PREFETCH);
    }
}

impl Worker {
    fn order(&self, order: ToWorker) -> io::Result<()> {
        let bytes = order.to_bytes();
        sockets::send(self.orders.as_fd(), &[IoSlice::new(&bytes)], &[]).map(drop)
    }
}

/// A place in line, given up when the client leaves.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    receiver: Option<oneshot::Receiver<usize>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.table.stopped_waiting();
        // The entry may have been given to us in the moment we left.
        if let Some(entry) = self
            .receiver
            .as_mut()
            .and_then(|receiver| receiver.try_recv().ok())
        {
            state.table.release(entry);
        }
    }
}

/// An entry between two attempts, given back when the client leaves.
struct Reserved<'a> {
    shared: &'a Arc<Shared>,
    entry: usize,
    armed: bool,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.armed {
            let mut state = self.shared.lock();
            state.table.release(self.entry);
        }
    }
}

/// A request that is handed out, taken back when the client leaves.
struct HandedOut<'a> {
    shared: &'a Arc<Shared>,
    seq: u64,
    stage: Stage,
}

enum Stage {
    /// Its message is not in the queue.
    Unsent,
    /// Its message is in the queue or with a thread.
    Sent,
    /// The outcome is known.
    Over,
}

impl Drop for HandedOut<'_> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent => self.shared.release(self.seq),
            Stage::Sent => self.shared.cancel(self.seq),
            Stage::Over => {}
        }
    }
}
