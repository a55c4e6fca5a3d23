//! The loop of one worker thread: receive a request, claim it, run it, reply, repeat.
//!
//! A thread is attached to the interpreter for its life and detaches around operations that may
//! wait. If there is no `close()` to call, sending a reply and receiving the next request happen in
//! one detached section. The request is claimed afterwards, while attached: if another thread holds
//! the interpreter until this worker is killed, the request was not begun, and the front sends it
//! to another worker. Each request runs in a copy of the thread's context, so that no context
//! variable outlives it.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyRuntimeError, PySystemExit, PyValueError};
use pyo3::prelude::*;
use pyserve_wire::frames::{BodyKind, REQUEST_HEADER, ReplyKind, RequestHeader};
use pyserve_wire::request_ring::{Handed, RequestRing};
use pyserve_wire::scoreboard::{Activity, Scoreboard};

use crate::gate::Gate;
use crate::outbox::Outbox;
use crate::reply::{ReplyWriter, now_ns};
use crate::stage::ThreadStage;
use crate::wait::{self, Woken};
use crate::wsgi::body_stream::BodyStream;
use crate::wsgi::call::call;
use crate::wsgi::environ::{Environs, ServerFacts};
use crate::wsgi::errors::Errors;
use crate::wsgi::input::Inputs;
use crate::wsgi::response::Response;
use crate::wsgi::start_response::StartResponse;
use crate::{breakpoints, fork, log, sockets, uwsgi_module};

/// A larger buffer is freed after the request.
const KEPT: usize = 64 * 1024;

/// State shared by the threads of a worker.
pub struct WorkerShared {
    /// The application.
    pub app: Py<PyAny>,
    /// The request queue.
    pub ring: RequestRing<'static>,
    /// The socket beside it, for requests with a descriptor.
    pub queue: Arc<OwnedFd>,
    /// Claims and activities.
    pub scoreboard: Scoreboard<'static>,
    /// True if tracebacks are sent to the front.
    pub is_dev: bool,
    /// True if no thread may take another request.
    pub stopping: AtomicBool,
    /// The control socket with which this worker continues as a template.
    pub promotion: Mutex<Option<OwnedFd>>,
    /// The state of each thread, thread 0 first.
    pub stages: Vec<ThreadStage>,
    /// Where the threads but the first wait until the worker is ready.
    pub gate: Arc<Gate>,
}

/// One thread, as the callable that runs it.
#[pyclass(frozen, name = "worker_thread", module = "pyserve")]
pub struct WorkerThread {
    shared: Arc<WorkerShared>,
    outbox: Arc<Outbox>,
    /// Index of its line in the scoreboard.
    line: usize,
    /// Number in the worker; 0 is Python's main thread, where signal handlers run.
    number: usize,
    /// Locked only by this thread.
    turn: Mutex<RequestScope>,
}

/// State of the current request, and buffers that are kept between requests.
struct RequestScope {
    /// The variables.
    buffer: Vec<u8>,
    /// The last request received.
    handed: Handed,
    /// Descriptors that came with it.
    files: Vec<OwnedFd>,
    /// There may be requests in the socket beside the queue.
    looks_at_socket: bool,
    claimed_ns: u64,
    pending: Pending,
    reply: Option<ReplyWriter>,
    environs: Environs,
    inputs: Inputs,
}

/// Frames to send before the next wait.
enum Pending {
    Nothing,
    /// The end of a response.
    Answer,
    /// The notice that a request was skipped.
    Skipped,
}

/// The reason why a detached wait ended.
enum Wake {
    /// A request was received.
    Received,
    /// Signal handlers may have to run.
    Look,
    /// A message for the log.
    Complaint(String),
    /// No more requests for this thread.
    Over,
}

#[pymethods]
impl WorkerThread {
    /// Serves until the queue ends.
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // An error of the kernel only costs speed.
        let _ = let_others_go_first(py);
        if let Some(stage) = this.stage() {
            stage.enter();
        }
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        let request = slf.getattr("request")?;
        if this.number > 0 && !py.detach(|| this.shared.gate.wait()) {
            return Ok(());
        }
        loop {
            match py.detach(|| this.wait()) {
                Wake::Received => match this.claim(py) {
                    Claimed::Yes => {
                        let done =
                            context
                                .call_method0(pyo3::intern!(py, "copy"))
                                .and_then(|copy| {
                                    copy.call_method1(pyo3::intern!(py, "run"), (&request,))
                                });
                        if let Err(error) = done {
                            this.give_up(py, &error);
                        }
                    }
                    Claimed::TooLate => {}
                    Claimed::NoSuch(entry) => {
                        let text = format!("no claim number {entry} in the scoreboard");
                        log::error(py, 0, &text);
                    }
                },
                Wake::Look => this.run_signal_handlers(py),
                Wake::Complaint(text) => log::error(py, 0, &text),
                Wake::Over => break,
            }
        }
        this.record(Activity::Absent, 0);
        Ok(())
    }

    /// Runs the claimed request.
    ///
    /// Panics are caught here: as a Python exception a panic would propagate into the Rust code
    /// that calls this (PyO3 resumes it there), and end the thread instead of the request.
    fn request(&self, py: Python<'_>) -> PyResult<()> {
        match catch_unwind(AssertUnwindSafe(|| self.run(py))) {
            Ok(done) => done,
            Err(panic) => Err(PyRuntimeError::new_err(panic_message(&*panic))),
        }
    }
}

impl WorkerThread {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let (seq, entry) = (turn.handed.seq, turn.handed.entry);
        let header = self.read_header(turn.handed)?;
        let ring = &self.shared.ring;
        ring.read_vars(entry, &header, &mut turn.buffer);

        let errors = Bound::new(py, Errors::new(seq))?;
        let is_file = header.body != BodyKind::Inline;
        let input = match (header.body, turn.files.pop()) {
            (BodyKind::Inline, _) => {
                let body = ring.body(entry, &header);
                turn.inputs.inline(py, body, header.inline_len())?
            }
            (BodyKind::Stream, Some(socket)) => {
                let board = self.shared.scoreboard;
                let is_abandoned = move || board.is_cancelled(entry, seq);
                turn.inputs
                    .stream(py, BodyStream::new(socket, is_abandoned))?
            }
            (BodyKind::File, Some(file)) => turn.inputs.file(py, file, header.body_len)?,
            (_, None) => return Err(PyValueError::new_err("a request without its descriptor")),
        };
        let environ = turn
            .environs
            .build(py, &turn.buffer, &input, errors.as_any())?;
        turn.buffer.clear();
        turn.buffer.shrink_to(KEPT);
        let mut reply = match turn.reply.take() {
            Some(reply) => reply,
            None => self.new_reply(),
        };
        reply.begin(seq, entry, turn.claimed_ns);
        let response = Box::new(Response::new(reply, environ.is_head));
        let start = Bound::new(py, StartResponse::new(response))?;

        uwsgi_module::begin_request();
        let running = self.stage().map(|stage| stage.begin(py, seq));
        let effect = call(
            self.shared.app.bind(py),
            environ.dict,
            &start,
            self.shared.is_dev,
            || self.record(Activity::Closing, seq),
        );
        drop(running);
        if self.shared.is_dev {
            breakpoints::end_session(py)?;
        }
        turn.reply = start.get().finish(py).map(|response| response.into_reply());
        errors.get().flush(py);
        if is_file {
            // Frees the disk space now, even if the application keeps the object. If it has
            // detached the buffer, the file is closed with the buffer.
            let _ = input.call_method0(pyo3::intern!(py, "close"));
        }
        if effect.wants_exit {
            self.shared.stopping.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The fixed part of the claimed request.
    fn read_header(&self, handed: Handed) -> PyResult<RequestHeader> {
        let header = self.shared.ring.header(handed.entry);
        let header = header.map_err(|error| PyValueError::new_err(error.to_string()))?;
        match header.seq == handed.seq {
            true => Ok(header),
            false => Err(PyValueError::new_err("another request in the slot")),
        }
    }

    /// The thread with scoreboard line `line`.
    ///
    /// # Errors
    /// The exception of a lookup in Python.
    pub fn new(
        py: Python<'_>,
        shared: Arc<WorkerShared>,
        outbox: Arc<Outbox>,
        line: usize,
        number: usize,
        facts: &ServerFacts<'_>,
    ) -> PyResult<Self> {
        Ok(Self {
            turn: Mutex::new(RequestScope {
                buffer: Vec::new(),
                handed: Handed {
                    seq: 0,
                    entry: 0,
                    has_descriptor: false,
                },
                files: Vec::new(),
                looks_at_socket: false,
                claimed_ns: 0,
                pending: Pending::Nothing,
                reply: Some(ReplyWriter::new(Arc::clone(&outbox), shared.scoreboard)),
                environs: Environs::new(py, facts)?,
                inputs: Inputs::new(py)?,
            }),
            shared,
            outbox,
            line,
            number,
        })
    }

    /// Sends the pending frames, then waits for a request. Detached.
    fn wait(&self) -> Wake {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let pending = std::mem::replace(&mut turn.pending, Pending::Nothing);
        if !matches!(pending, Pending::Nothing) {
            let flushed = turn.reply.as_mut().map_or(Ok(()), ReplyWriter::flush);
            // The scoreboard is shared with a child of the application.
            if matches!(pending, Pending::Answer) && !fork::is_foreign() {
                self.shared.scoreboard.count_served(self.line);
            }
            if flushed.is_err() {
                return Wake::Over;
            }
        }
        self.record(Activity::Idle, 0);
        let is_waiting = |is_waiting| self.stage().map(|stage| stage.set_waiting(is_waiting));
        loop {
            // Before a look at `stopping`: the thread that sets it looks for waiting threads, and
            // wakes them.
            is_waiting(true);
            let wake = self.receive(turn);
            is_waiting(false);
            match wake {
                Some(Wake::Received) => self.record(Activity::Received, turn.handed.seq),
                // Another thread takes the request for which this one may have been woken.
                Some(_) if !fork::is_foreign() => wait::pass_on(&self.shared.ring, self.line),
                Some(_) => {}
                None => continue,
            }
            if let Some(wake) = wake {
                return wake;
            }
        }
    }

    /// The next request, or the reason to look at something else; `None`: look again.
    fn receive(&self, turn: &mut RequestScope) -> Option<Wake> {
        let shared = &self.shared;
        turn.files.clear();
        if fork::refuse_copy().is_err() || shared.stopping.load(Ordering::SeqCst) {
            return Some(Wake::Over);
        }
        if turn.looks_at_socket {
            return self.receive_from_socket(turn);
        }
        if let Some(handed) = shared.ring.pop() {
            turn.handed = handed;
            turn.looks_at_socket = handed.has_descriptor;
            return (!handed.has_descriptor).then_some(Wake::Received);
        }
        if shared.ring.has_ended() {
            return Some(Wake::Over);
        }
        let is_stopping = || shared.stopping.load(Ordering::SeqCst);
        match wait::wait(&shared.ring, self.line, is_stopping) {
            Woken::Look => None,
            // The front has exited, or another worker has cut the queue off.
            Woken::Timeout if sockets::has_ended(&shared.queue) => Some(Wake::Over),
            // The main thread handles signals, also those that another thread caught.
            Woken::Timeout | Woken::Signal => {
                (self.number == 0 && shared.ring.is_empty()).then_some(Wake::Look)
            }
        }
    }

    /// A request with a descriptor. Another thread may have received the one that was popped; then
    /// the request of that thread is here, or none.
    fn receive_from_socket(&self, turn: &mut RequestScope) -> Option<Wake> {
        let mut bytes = [0; REQUEST_HEADER];
        match sockets::receive_request_now(&self.shared.queue, &mut bytes, &mut turn.files) {
            Ok(REQUEST_HEADER) => match RequestHeader::from_bytes(&bytes) {
                Ok(header) => {
                    turn.handed = Handed {
                        seq: header.seq,
                        entry: header.entry as usize,
                        has_descriptor: true,
                    };
                    Some(Wake::Received)
                }
                Err(error) => Some(Wake::Complaint(error.to_string())),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Some(Wake::Complaint(error.to_string()))
            }
            // Empty, or at its end, which the ring has as well.
            Ok(_) | Err(_) => {
                turn.looks_at_socket = false;
                None
            }
        }
    }

    /// Claims the received request, unless the front withdrew it meanwhile.
    fn claim(&self, _py: Python<'_>) -> Claimed {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let Handed { seq, entry, .. } = turn.handed;
        if entry >= self.shared.scoreboard.claims() {
            return Claimed::NoSuch(entry);
        }
        turn.claimed_ns = now_ns();
        if self.shared.scoreboard.take(entry, seq, self.line) {
            let board = &self.shared.scoreboard;
            board.record(self.line, Activity::Busy, seq, turn.claimed_ns);
            turn.looks_at_socket = false;
            turn.pending = Pending::Answer;
            return Claimed::Yes;
        }
        let mut reply = turn.reply.take().unwrap_or_else(|| self.new_reply());
        reply.begin(seq, entry, turn.claimed_ns);
        reply.push(ReplyKind::Skipped, &[]);
        turn.reply = Some(reply);
        turn.pending = Pending::Skipped;
        Claimed::TooLate
    }

    /// Handles a failure of the host in a request: out of memory, or a panic.
    fn give_up(&self, py: Python<'_>, error: &PyErr) {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let Handed { seq, entry, .. } = turn.handed;
        log::exception(py, seq, "pyserve could not run the request", error);
        let mut reply = turn.reply.take().unwrap_or_else(|| self.new_reply());
        reply.begin(seq, entry, turn.claimed_ns);
        reply.push(ReplyKind::Abort, &[]);
        turn.reply = Some(reply);
    }

    fn run_signal_handlers(&self, py: Python<'_>) {
        if let Err(error) = py.check_signals() {
            if error.is_instance_of::<PySystemExit>(py) {
                self.shared.stopping.store(true, Ordering::Relaxed);
            } else {
                log::exception(py, 0, "exception in a signal handler", &error);
            }
        }
    }

    fn stage(&self) -> Option<&ThreadStage> {
        self.shared.stages.get(self.number)
    }

    fn new_reply(&self) -> ReplyWriter {
        ReplyWriter::new(Arc::clone(&self.outbox), self.shared.scoreboard)
    }

    fn record(&self, activity: Activity, seq: u64) {
        let board = &self.shared.scoreboard;
        if !fork::is_foreign() {
            board.record(self.line, activity, seq, now_ns());
        }
    }

    fn lock(&self) -> MutexGuard<'_, RequestScope> {
        // A panic in a request poisons it; `give_up` and the next request replace any partial
        // state.
        self.turn
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Sets SCHED_BATCH for this thread, so that it does not preempt the running thread at a wake-up.
///
/// The front wakes a worker with every request that it dispatches. Otherwise the worker preempts
/// the front each time, which then dispatches one request at a time; measured with a hello
/// application on two CPUs: 24 µs of CPU per request instead of 18. The share of the CPU stays the
/// same. Processes of the application are not affected.
fn let_others_go_first(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    let batch: i32 = os.getattr("SCHED_BATCH")?.extract()?;
    let reset_on_fork: i32 = os.getattr("SCHED_RESET_ON_FORK")?.extract()?;
    let parameter = os.call_method1("sched_param", (0,))?;
    os.call_method1("sched_setscheduler", (0, batch | reset_on_fork, parameter))?;
    Ok(())
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", message.unwrap_or("without a message"))
}

/// The result of a request from the queue.
enum Claimed {
    Yes,
    /// The front withdrew the request.
    TooLate,
    /// Not a valid entry.
    NoSuch(usize),
}
