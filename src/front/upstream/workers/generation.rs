//! One generation of workers: its queue, its scoreboard, and what its channels report.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::control::Loaded;
use pyserve_wire::frames::{BodyKind, REQUEST_HEADER, RequestHeader};
use pyserve_wire::orders::ToWorker;
use pyserve_wire::scoreboard::{Activity, Claim, Scoreboard};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::progress::Progress;
use super::{Event, Outcome, Pool, Report, Shared, Size, State};
use crate::front::upstream::response_body::budget::Budget;
use crate::front::upstream::{Failure, Request, RequestBody, Response};
use crate::observe::metrics::METRICS;
use crate::os::memory::{self, SharedWords};
use crate::os::sockets;
use crate::os::watch::watch;

/// Requests handed out beyond the ready threads, so that a thread that finishes finds its
/// next one in the kernel and neither side sleeps in between. They lie in one queue that
/// every thread takes from, and each can be taken back, so they bind nobody. Measured with a
/// hello application, 2 workers and 64 connections: 18 µs of CPU a request with 2 of them,
/// 16.5 with 8, 15 with 32.
const PREFETCH: usize = 32;
/// Send buffer asked for on the request queue. Requests take up to about 130 KB each.
const QUEUE_BUFFER: usize = 4 << 20;

/// The workers that run one state of the application's code, seen from outside.
#[derive(Clone)]
pub struct Generation(pub(super) Arc<Crew>);

/// The same, seen from the pool.
pub(super) struct Crew {
    pub(super) pool: Arc<Shared>,
    pub(super) number: u32,
    pub(super) size: Size,
    queue: AsyncFd<OwnedFd>,
    /// Longest message that the queue takes in one piece.
    longest_message: usize,
    /// The workers' end, kept to be handed to the next template.
    queue_receiver: OwnedFd,
    board: SharedWords,
    pub(super) budget: Arc<Budget>,
    /// For each line of the scoreboard.
    pub(super) progress: Vec<Progress>,
}

/// Who belongs to a generation at the moment.
pub(super) struct Roster {
    pub(super) crew: Arc<Crew>,
    pub(super) workers: HashMap<u32, Worker>,
    /// Channels that are still read.
    channels: usize,
    /// It gets no more requests.
    pub(super) closed: bool,
}

pub(super) struct Worker {
    /// What others have counted on its lines of the scoreboard.
    pub(super) served_before: u64,
    pub(super) ready: bool,
    /// It takes no more requests, and leaves when it has answered those it has.
    pub(super) retiring: bool,
    exited: CancellationToken,
    /// Where it is told what is no request.
    orders: OwnedFd,
}

impl Roster {
    /// Whether nothing can happen in it any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.workers.is_empty() && self.channels == 0
    }
}

impl Pool {
    /// Makes the queue and the scoreboard of another generation, which gets no requests
    /// before [`Pool::switch`]. `request_timeout`: how long a request may keep a thread.
    ///
    /// # Errors
    /// What the kernel says about sockets and memory.
    pub fn generation(
        &self,
        number: u32,
        size: Size,
        request_timeout: Option<Duration>,
    ) -> io::Result<Generation> {
        let (sender, queue_receiver) = sockets::pair(SocketType::SEQPACKET)?;
        let buffer = sockets::grow_send_buffer(sender.as_fd(), QUEUE_BUFFER)?;
        sockets::set_nonblocking(sender.as_fd())?;
        let threads = size.slots as usize * size.threads as usize;
        let entries = threads + PREFETCH;
        let board = SharedWords::create("pyserve-scoreboard", Scoreboard::size(threads, entries))?;
        Scoreboard::create(board.words(), threads, entries);
        let crew = Arc::new(Crew {
            pool: Arc::clone(&self.0),
            number,
            size,
            queue: watch(sender)?,
            // The kernel charges more than the bytes themselves.
            longest_message: buffer / 2,
            queue_receiver,
            board,
            budget: Arc::clone(&self.0.budget),
            progress: (0..threads).map(|_| Progress::default()).collect(),
        });
        let kept = Crew::keep_deadlines(Arc::downgrade(&crew), request_timeout);
        self.0.tasks.spawn(kept);
        let mut state = self.0.lock();
        state.table.add(number, entries);
        state.rosters.push(Roster {
            crew: Arc::clone(&crew),
            workers: HashMap::new(),
            channels: 0,
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

    /// Takes on a worker that was just forked; `channels` are our ends, one per thread, and
    /// `orders` that of the socket for what is no request.
    ///
    /// # Errors
    /// What the kernel says about registering them.
    pub fn attach(&self, worker: u32, channels: Vec<OwnedFd>, orders: OwnedFd) -> io::Result<()> {
        let exited = CancellationToken::new();
        let first = self.first_thread(worker);
        let mut readers = Vec::new();
        for (index, socket) in channels.into_iter().enumerate() {
            let thread = first + index;
            self.0.scoreboard().record(thread, Activity::Starting, 0, 0);
            readers.push(Channel::new(Arc::clone(&self.0), worker, thread, socket)?);
        }
        let lines = (first..first + readers.len()).map(|at| self.0.scoreboard().line(at));
        let served_before = lines.map(|line| line.served).sum();
        if let Some(roster) = self.0.pool.lock().roster(self.0.number) {
            roster.channels += readers.len();
            roster.workers.insert(
                worker,
                Worker {
                    served_before,
                    ready: false,
                    retiring: false,
                    exited: exited.clone(),
                    orders,
                },
            );
        }
        for reader in readers {
            self.0.pool.tasks.spawn(reader.run(exited.clone()));
        }
        Ok(())
    }

    /// Requests that a worker has answered, from its very first one on.
    pub fn served(&self, worker: u32) -> u64 {
        let before = {
            let mut state = self.0.pool.lock();
            let roster = state.roster(self.0.number);
            let worker = roster.and_then(|roster| roster.workers.get(&worker));
            worker.map_or(0, |worker| worker.served_before)
        };
        let first = self.first_thread(worker);
        let lines = first..first + self.0.size.threads as usize;
        let board = self.0.scoreboard();
        let all: u64 = lines.map(|line| board.line(line).served).sum();
        all.saturating_sub(before)
    }

    /// Whether a worker has said that it serves, and has not ended.
    pub fn is_ready(&self, worker: u32) -> bool {
        let mut state = self.0.pool.lock();
        let roster = state.roster(self.0.number);
        let worker = roster.and_then(|roster| roster.workers.get(&worker));
        worker.is_some_and(|worker| worker.ready)
    }

    /// Whether a worker takes requests.
    pub fn serves(&self, worker: u32) -> bool {
        let mut state = self.0.pool.lock();
        let roster = state.roster(self.0.number);
        let worker = roster.and_then(|roster| roster.workers.get(&worker));
        worker.is_some_and(|worker| worker.ready && !worker.retiring)
    }

    /// Tells a worker that was just forked that it may begin.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker; else what the kernel says about telling it.
    pub fn begin(&self, worker: u32) -> io::Result<()> {
        let mut state = self.0.pool.lock();
        let roster = state.roster(self.0.number);
        let worker = roster.and_then(|roster| roster.workers.get(&worker));
        worker.map_or(Err(io::ErrorKind::NotFound.into()), |worker| {
            worker.order(ToWorker::Begin, &[])
        })
    }

    /// Has a worker take no more requests, finish those it has, and leave with exit code 0.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker; else what the kernel says about telling it.
    pub fn retire(&self, worker: u32) -> io::Result<()> {
        self.0.retire(worker)
    }

    /// As [`Generation::retire`], but instead of leaving the worker becomes a template with
    /// this end of a control socket.
    ///
    /// # Errors
    /// As [`Generation::retire`].
    pub fn promote(&self, worker: u32, control: BorrowedFd<'_>) -> io::Result<()> {
        self.0.end_of_service(worker, ToWorker::Promote, &[control])
    }

    /// A worker process has ended, or serves no more: what its threads had taken is lost, and what nobody had
    /// taken is handed out again.
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
        let gone = state
            .roster(self.0.number)
            .and_then(|roster| roster.workers.remove(&worker));
        if let Some(worker) = gone {
            worker.exited.cancel();
        }
        self.0.adjust_capacity(&mut state);
        self.0.hand_out_again(&mut state, |_| true);
        state.remove_if_empty(self.0.number);
    }

    /// Ends the queue: every worker thread that becomes idle leaves.
    pub fn close(&self) {
        let mut state = self.0.pool.lock();
        if let Some(roster) = state.roster(self.0.number) {
            roster.closed = true;
        }
        self.0.end_queue();
        state.remove_if_empty(self.0.number);
    }

    /// Nothing of it runs any more, whatever became of workers that were asked for.
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

    /// Descriptors that a template needs: the workers' end of the queue and the scoreboard.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.0.queue_receiver.as_fd(), self.0.board.file()]
    }

    /// Threads of each worker.
    pub fn threads(&self) -> u32 {
        self.0.size.threads
    }

    fn first_thread(&self, worker: u32) -> usize {
        worker as usize * self.0.size.threads as usize
    }
}

impl Crew {
    pub(super) fn scoreboard(&self) -> Scoreboard<'_> {
        Scoreboard::open(self.board.words()).expect("laid out in Pool::generation")
    }

    pub(super) fn retire(&self, worker: u32) -> io::Result<()> {
        self.end_of_service(worker, ToWorker::Retire, &[])
    }

    fn end_of_service(
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
        let told = leaving.order(order, descriptors);
        self.adjust_capacity(&mut state);
        told
    }

    /// Tells the supervisor.
    pub(super) fn notify(&self, event: Event) {
        let report = Report {
            app: self.pool.app,
            generation: self.number,
            event,
        };
        let _supervisor_gone = self.pool.reports.send(report);
    }

    /// Ends the queue; what lies in it is still received.
    pub(super) fn end_queue(&self) {
        let _already_ended =
            rustix::net::shutdown(self.queue.get_ref(), rustix::net::Shutdown::Write);
    }

    /// Moves a body that the queue does not take in one piece into a memory file, and has one
    /// that still arrives flow into a socket.
    pub(super) fn fit(&self, request: &mut Request) -> io::Result<()> {
        if let RequestBody::Stream(stream) = &mut request.body {
            stream.fill_socket(&self.pool.tasks)?;
        }
        if let RequestBody::Memory(body) = &request.body
            && request.message.len() + body.len() > self.longest_message
        {
            let length = body.len() as u64;
            let file = memory::sealed_file("pyserve-body", body)?.into();
            request.body = RequestBody::File { file, length };
        }
        Ok(())
    }

    pub(super) async fn send(
        &self,
        request: &mut Request,
        entry: usize,
        seq: u64,
    ) -> io::Result<()> {
        let (kind, body_len, inline, descriptor) = match &request.body {
            RequestBody::Memory(body) => (BodyKind::Inline, body.len() as u64, &body[..], None),
            RequestBody::File { file, length } => {
                (BodyKind::File, *length, &[][..], Some(file.as_fd()))
            }
            RequestBody::Stream(stream) => (BodyKind::Stream, 0, &[][..], stream.socket()),
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
    pub(super) fn deliver(&self, seq: u64, answer: Result<Box<Response>, Failure>) {
        let reply = self
            .pool
            .lock()
            .table
            .find(self.number, seq)
            .and_then(|(_, request)| request.reply.take());
        if let Some(reply) = reply {
            // If the client left meanwhile, the answer is dropped here, and a streamed body
            // cancels itself.
            let _client_gone = reply.send(Outcome::Answer(answer));
        }
    }

    /// The request has run to its end; its entry is free.
    pub(super) fn release(&self, seq: u64) {
        let mut state = self.pool.lock();
        if let Some((spot, request)) = state.table.find(self.number, seq) {
            if request.timed_out {
                METRICS.timeouts.up(match request.stuck {
                    true => "late",
                    false => "interrupted",
                });
            }
            state.table.release(spot);
        }
    }

    /// Nobody wants the answer any more.
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

    /// The worker says that it serves, unless it has `exited` meanwhile: then another one may
    /// have its number by now.
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
        self.notify(Event::Ready { worker, loaded });
    }

    /// A thread's channel has ended: what it had taken is lost. If the worker has `exited`,
    /// another one may have its number by now.
    pub(super) fn thread_gone(&self, worker: u32, thread: usize, exited: bool) {
        let mut state = self.pool.lock();
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
                    tracing::error!(request_id = %id.request_id, method = %id.method, path = %id.target, worker,
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
        if let Some(roster) = state.roster(self.number) {
            roster.channels -= 1;
        }
        state.remove_if_empty(self.number);
    }

    /// Takes back what no thread has taken, of the requests whose numbers are `wanted`, for
    /// whoever waits for the answers to hand it out again.
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

    fn adjust_capacity(&self, state: &mut State) {
        let ready = state.roster(self.number).map_or(0, |roster| {
            let serves = |worker: &&Worker| worker.ready && !worker.retiring;
            roster.workers.values().filter(serves).count()
        });
        let threads = ready * self.size.threads as usize;
        state.table.set_capacity(self.number, threads, PREFETCH);
    }
}

impl Worker {
    pub(super) fn order(&self, order: ToWorker, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = order.to_bytes();
        sockets::send(self.orders.as_fd(), &[IoSlice::new(&bytes)], descriptors).map(drop)
    }
}
