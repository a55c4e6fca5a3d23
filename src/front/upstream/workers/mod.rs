//! The embedded Python as an upstream: passes requests to worker threads and receives their
//! responses. No other file knows the transport.
//!
//! ```text
//! call() -> dispatcher: an entry, or wait -> queue: slot and ring -> any idle thread
//!    ^                                                                    |
//!    +-- dispatcher: the call with this number <- ring of that thread <---+
//!                                                 (doorbell.rs, channel.rs)
//! ```
//!
//! Requests and replies travel through shared memory (`pyserve_wire::request_ring` and
//! `reply_ring`), with system calls only where a side sleeps; descriptors travel over sockets
//! beside it. Workers can write to all of it: the front keeps its own account of what it has pushed
//! and read, and copies before it parses.
//!
//! At most the ready threads plus a small prefetch are handed out; the rest wait here,
//! where they can be counted, limited and dropped. A request is taken back through its claim
//! (`pyserve_wire::scoreboard`), wherever its word in the ring is. When a worker dies, requests
//! that its threads had taken are lost; untaken ones are handed out again under a new number, and
//! the thread that pops a stale word skips it.
//!
//! A [`Pool`] belongs to an application and outlives its [`Generation`]s, each of which has
//! its own queue, scoreboard and workers. A new generation takes over in one step: untaken
//! requests are withdrawn from the old one and handed out to the new one, and the old
//! workers see the end of their queue when they have finished.

mod audit;
mod channel;
mod deadlines;
pub mod demand;
mod dispatch_slot;
mod dispatcher;
mod doorbell;
mod generation;
pub mod head;
mod progress;
mod queue;
#[cfg(test)]
mod queue_simulation;
mod request_queue;
mod responsiveness;
mod route_costs;
mod slot_memory;
pub mod snapshot;
pub mod stacks;
mod timers;
mod worker_set;

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyserve_wire::control::Loaded;
use pyserve_wire::reply_ring;
use pyserve_wire::request_ring::Handed;
use pyserve_wire::scoreboard::Claim;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::front::body::response_stream::budget::Budget;
use crate::front::context::RequestLabel;
use crate::front::descriptors::Tries;
use crate::front::upstream::{Failure, Request, Response};
use dispatch_slot::DispatchSlot;
use dispatcher::{AdmissionOutcome, Dispatcher, QueuePosition};
pub use doorbell::ReplyMemory;
pub use generation::Generation;
use queue::{Queue, SendError};
use request_queue::{Admission, DisplacedError, QueueAddress};
use route_costs::Route;
use timers::Timers;
use worker_set::{GenerationState, PREFETCH, WorkerSet};

/// Longest time that a request waits behind others before those of another address make way. Far
/// above the time for which a message stays in the queue of fast workers.
const MAKE_WAY: Duration = Duration::from_millis(20);

/// The outcome of a request that was handed out.
enum Outcome {
    Answer(Result<Box<Response>, Failure>),
    /// It was untaken when a worker died, or when another generation took over: hand it out again.
    Again,
    /// It was untaken, and requests of another address are to overtake it: queue again.
    Requeue,
}

/// An event that a pool reports to the supervisor.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A worker serves.
    Ready {
        /// Number of the worker.
        worker: u32,
        /// The imported application, if the worker imported it.
        loaded: Option<Loaded>,
    },
    /// A worker could not import the application.
    BootFailed {
        /// Number of the worker.
        worker: u32,
        /// Python's traceback.
        traceback: String,
    },
    /// A worker violated the protocol; it must be killed.
    ProtocolError {
        /// Number of the worker.
        worker: u32,
    },
    /// A request that exceeded its deadline does not end: its worker takes no more requests.
    Stuck {
        /// Number of the worker.
        worker: u32,
    },
    /// A request has waited for longer than 20 ms for a thread; reported once until
    /// [`Pool::demand`] is asked for. It concerns no generation.
    RequestsWait,
    /// A worker damaged memory or sockets shared by all: none of them takes any more requests, and
    /// the template must be restarted.
    Damaged,
    /// A worker takes no requests, and runs none; it must be killed.
    Unresponsive {
        /// Number of the worker.
        worker: u32,
    },
    /// Only stuck requests are left in a worker; it must be killed.
    MustKill {
        /// Number of the worker.
        worker: u32,
    },
}

/// A [`WorkerEvent`] and its origin.
#[derive(Debug)]
pub struct Report {
    /// Index of the application.
    pub app: usize,
    /// Number of the generation.
    pub generation: u32,
    /// The event.
    pub event: WorkerEvent,
}

/// Limits of the request queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most requests that wait for a worker.
    pub queue: usize,
    /// Longest time that a request waits.
    pub queue_timeout: Duration,
    /// True if requests that are expected to be short overtake long ones of the same address.
    pub short_first: bool,
}

/// Size of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Most worker processes at a time, including those that are retiring.
    pub slots: u32,
    /// Threads of each.
    pub threads: u32,
}

/// The workers of one application, and the queue of requests that wait for them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    app: usize,
    budget: Arc<Budget>,
    state: Mutex<State>,
    timers: Timers,
    tasks: TaskTracker,
    reports: mpsc::UnboundedSender<Report>,
    /// It was reported that requests wait.
    is_waited_for: AtomicBool,
    /// See [`QueueLimits::short_first`].
    is_short_first: AtomicBool,
}

struct State {
    limits: QueueLimits,
    /// The reason why requests are refused.
    unusable: Option<Arc<str>>,
    table: Dispatcher,
    rosters: Vec<WorkerSet>,
}

/// Most bytes of memory through which the requests and replies of so many threads travel, if no
/// request has more than 4 KiB of header fields.
pub fn most_memory(threads: usize) -> usize {
    const REQUEST: usize = (64 + 8) << 10;
    (threads + PREFETCH) * REQUEST + threads * reply_ring::CAPACITY
}

impl Pool {
    /// The pool of application number `app`, without workers: all requests wait. Readers of
    /// channels are spawned on `tasks`.
    pub fn new(
        app: usize,
        limits: QueueLimits,
        tasks: TaskTracker,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        Self(Arc::new(Shared {
            app,
            budget: Budget::of_process(),
            state: Mutex::new(State {
                limits,
                unusable: None,
                table: Dispatcher::new(),
                rosters: Vec::new(),
            }),
            timers: Timers::default(),
            tasks,
            reports,
            is_waited_for: AtomicBool::new(false),
            is_short_first: AtomicBool::new(limits.short_first),
        }))
    }

    /// Gets a response from a worker thread for the client with the address `origin`.
    ///
    /// Dropping the future takes the request back if no thread has begun it, and cancels it
    /// otherwise.
    ///
    /// # Errors
    /// The [`Failure`] if there is no response.
    pub async fn call(
        &self,
        mut request: Request,
        identity: Arc<RequestLabel>,
        origin: QueueAddress,
    ) -> Result<Box<Response>, Failure> {
        let asked = Instant::now();
        let is_short_first = self.0.is_short_first.load(Ordering::Relaxed);
        let route = is_short_first.then(|| Route::of(&identity));
        let mut claimant = QueuePosition::new(origin).on(route).since(asked);
        let mut place = Reserved {
            shared: &self.0,
            spot: None,
        };
        loop {
            let Some(spot) = place.spot.take() else {
                place.spot = Some(self.0.spot(asked, &mut claimant).await?);
                continue;
            };
            let Some(begun) = self.0.begin(spot, &identity, claimant, asked) else {
                continue;
            };
            let Begun {
                crew,
                queue,
                seq,
                wait,
                mut answer,
            } = begun;
            let mut handed_out = HandedOut {
                crew: &crew,
                seq,
                stage: Stage::Unsent,
            };
            let mut tries = Tries::default();
            while let Err(error) = queue.fit(&mut request, &self.0.tasks) {
                if !tries.again(&error).await {
                    return Err(error.into());
                }
            }
            let is_live = |handed: Handed| {
                let board = crew.scoreboard();
                // The entry of a withdrawn request is freed by the thread that skips it.
                handed.entry < board.claims()
                    && matches!(
                        board.claim(handed.entry, handed.seq),
                        Claim::Unclaimed | Claim::Withdrawn
                    )
            };
            let outcome = match queue.send(&request, spot.entry, seq, is_live).await {
                Ok(()) => {
                    handed_out.stage = Stage::Sent;
                    self.0
                        .outcome(answer, &crew, spot.entry, seq, wait, origin)
                        .await?
                }
                Err(error) => {
                    if let SendError::Broken(damage) = error {
                        let mut state = self.0.lock();
                        crew.replace_queue(&mut state, &queue, damage);
                        crew.hand_out_again(&mut state, |untaken| untaken == seq);
                    }
                    // Another generation may have taken over before the request was in the queue,
                    // or the queue was just replaced.
                    match answer.try_recv() {
                        Ok(outcome) => outcome,
                        Err(_) => return Err(Failure::Transport(error.into())),
                    }
                }
            };
            handed_out.stage = Stage::Over;
            match outcome {
                Outcome::Answer(answer) => return answer,
                Outcome::Again => place.spot = Some(spot),
                Outcome::Requeue => {}
            }
        }
    }

    /// Sends requests to this generation from now on. Untaken requests of the old generation are
    /// moved to it; the old workers exit when they have finished their requests.
    pub fn switch(&self, generation: &Generation) {
        let mut state = self.0.lock();
        state.table.switch(generation.number());
        let before: Vec<_> = state
            .rosters
            .iter_mut()
            .filter(|roster| roster.crew.number != generation.number() && !roster.closed)
            .map(|roster| {
                roster.closed = true;
                (Arc::clone(&roster.crew), Arc::clone(&roster.queue))
            })
            .collect();
        for (crew, queue) in before {
            crew.hand_out_again(&mut state, |_| true);
            queue.end();
            state.remove_if_empty(crew.number);
        }
    }

    /// Sets the queue limits for later requests.
    pub fn set_limits(&self, limits: QueueLimits) {
        self.0
            .is_short_first
            .store(limits.short_first, Ordering::Relaxed);
        self.0.lock().limits = limits;
    }

    /// Refuses later and waiting requests with [`Failure::NotLoaded`] and this text; `None`: serves
    /// again.
    pub fn set_unusable(&self, why: Option<&str>) {
        let mut state = self.0.lock();
        state.unusable = why.map(Arc::from);
        if why.is_some() {
            state.table.turn_away();
        }
    }

    /// Numbers of requests handed out and waiting.
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.table.handed_out(), state.table.waiting())
    }

    /// The label of a request, for the log.
    pub fn identity(&self, seq: u64) -> Option<Arc<RequestLabel>> {
        self.0.lock().table.identity(seq)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// An entry, as soon as one is free.
    async fn spot(
        self: &Arc<Self>,
        asked: Instant,
        claimant: &mut QueuePosition,
    ) -> Result<DispatchSlot, Failure> {
        let (receiver, limits) = {
            let mut state = self.lock();
            if let Some(failure) = state.not_loaded() {
                return Err(failure);
            }
            let limits = state.limits;
            match state.table.ask(claimant, limits.queue) {
                AdmissionOutcome::Entry(spot) => return Ok(spot),
                AdmissionOutcome::Full => {
                    return Err(Failure::QueueFull {
                        limit: limits.queue,
                    });
                }
                AdmissionOutcome::Wait(receiver) => (receiver, limits),
            }
        };
        let mut waiting = Waiting {
            shared: self,
            receiver: Some(receiver),
        };
        let receiver = waiting.receiver.as_mut().expect("set above");
        let last = asked + limits.queue_timeout;
        let mut deadline = (Instant::now() + MAKE_WAY).min(last);
        let mut timer = self.timers.until(deadline);
        loop {
            match timer.limit(&mut *receiver).await {
                Some(Ok(Ok(spot))) => {
                    waiting.receiver = None;
                    return Ok(spot);
                }
                Some(Ok(Err(DisplacedError))) => {
                    return Err(Failure::QueueFull {
                        limit: limits.queue,
                    });
                }
                Some(Err(_closed)) => {
                    return Err(self.lock().not_loaded().unwrap_or(Failure::Stopping));
                }
                None if deadline < last => {
                    self.note_wait();
                    self.lock().make_way(claimant.origin(), None);
                    deadline = last;
                    timer.extend(deadline);
                }
                None => {
                    return Err(Failure::QueueTimeout {
                        waited: asked.elapsed(),
                    });
                }
            }
        }
    }

    /// Hands the request out under a number of its own. `None`: another generation has taken over,
    /// and the entry was released.
    fn begin(
        &self,
        spot: DispatchSlot,
        identity: &Arc<RequestLabel>,
        position: QueuePosition,
        asked: Instant,
    ) -> Option<Begun> {
        let mut state = self.lock();
        let (seq, answer) = state
            .table
            .begin(spot, Arc::clone(identity), position, asked)?;
        let roster = state.roster(spot.generation)?;
        let (crew, queue) = (Arc::clone(&roster.crew), Arc::clone(&roster.queue));
        // Under the lock: a withdrawal must find it published.
        crew.scoreboard().publish(spot.entry, seq);
        Some(Begun {
            crew,
            queue,
            seq,
            wait: Wait {
                asked,
                last: asked + state.limits.queue_timeout,
            },
            answer,
        })
    }

    /// The outcome of a request that is in the queue. Until a thread has taken it, it counts as
    /// waiting, and may time out.
    async fn outcome(
        &self,
        mut answer: oneshot::Receiver<Outcome>,
        crew: &GenerationState,
        entry: usize,
        seq: u64,
        Wait { asked, last }: Wait,
        origin: QueueAddress,
    ) -> Result<Outcome, Failure> {
        let mut deadline = (Instant::now() + MAKE_WAY).min(last);
        let mut timer = self.timers.until(deadline);
        let answered = loop {
            if let Some(answered) = timer.limit(&mut answer).await {
                break answered;
            }
            if crew.scoreboard().claim(entry, seq) != Claim::Unclaimed {
                // The application may take its time.
                drop(timer);
                break answer.await;
            }
            if deadline == last {
                // Dropping the call takes it back; a thread that is faster runs it for nothing, as
                // for any client that disconnects.
                let waited = asked.elapsed();
                return Err(Failure::QueueTimeout { waited });
            }
            self.note_wait();
            self.lock().make_way(origin, Some(seq));
            deadline = last;
            timer.extend(deadline);
        };
        answered.map_err(|_closed| Failure::Stopping)
    }
}

impl State {
    /// Returns requests of other addresses that are in the queue of the workers, before the one
    /// with the number `seq` if it is there already, to the waiting queue after one of `origin`.
    fn make_way(&mut self, origin: QueueAddress, seq: Option<u64>) {
        let current = |roster: &&WorkerSet| self.table.is_current(roster.crew.number);
        if let Some(crew) = self
            .rosters
            .iter()
            .find(current)
            .map(|it| Arc::clone(&it.crew))
        {
            crew.requeue_before(self, origin, seq);
        }
    }

    fn not_loaded(&self) -> Option<Failure> {
        let why = Arc::clone(self.unusable.as_ref()?);
        Some(Failure::NotLoaded { why })
    }

    fn roster(&mut self, generation: u32) -> Option<&mut WorkerSet> {
        self.rosters
            .iter_mut()
            .find(|roster| roster.crew.number == generation)
    }

    /// Forgets a generation that was closed and has neither processes nor channels left.
    fn remove_if_empty(&mut self, generation: u32) {
        if self
            .roster(generation)
            .is_some_and(|roster| roster.is_over())
        {
            self.rosters
                .retain(|roster| roster.crew.number != generation);
            self.table.remove(generation);
        }
    }
}

/// A request with a number.
struct Begun {
    crew: Arc<GenerationState>,
    queue: Arc<Queue>,
    seq: u64,
    wait: Wait,
    answer: oneshot::Receiver<Outcome>,
}

/// The time in which a thread must take a request.
#[derive(Clone, Copy)]
struct Wait {
    /// The beginning.
    asked: Instant,
    /// The end.
    last: Instant,
}

/// A position in the queue, released when the client disconnects.
struct Waiting<'a> {
    shared: &'a Shared,
    receiver: Option<oneshot::Receiver<Admission>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.table.stopped_waiting();
        // The entry may have been assigned just as the client left.
        if let Some(spot) = self
            .receiver
            .as_mut()
            .and_then(|receiver| receiver.try_recv().ok()?.ok())
        {
            state.table.release(spot);
        }
    }
}

/// An entry between two attempts, released when the client disconnects.
struct Reserved<'a> {
    shared: &'a Shared,
    spot: Option<DispatchSlot>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(spot) = self.spot {
            self.shared.lock().table.release(spot);
        }
    }
}

/// A request that is handed out, taken back when the client disconnects.
struct HandedOut<'a> {
    crew: &'a GenerationState,
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
            Stage::Unsent => self.crew.release(self.seq),
            Stage::Sent => self.crew.cancel(self.seq),
            Stage::Over => {}
        }
    }
}

#[cfg(test)]
mod tests;
