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

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyserve_wire::Malformed;
use pyserve_wire::frames::{BodyKind, ReplyKind, RequestHeader, read_request};
use pyserve_wire::scoreboard::{Activity, Scoreboard};

use crate::reply::{ReplyWriter, now_ns};
use crate::stage::ThreadStage;
use crate::wsgi::body_stream::BodyStream;
use crate::wsgi::call::call;
use crate::wsgi::environ::{Environs, ServerFacts};
use crate::wsgi::errors::Errors;
use crate::wsgi::input::Inputs;
use crate::wsgi::response::Response;
use crate::wsgi::start_response::StartResponse;
use crate::{fork, log, sockets};

/// Larger than any message that the front can send: a SEQPACKET message is limited by the send
/// buffer, usually 212,992 bytes.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// State shared by the threads of a worker.
pub struct WorkerShared {
    /// The application.
    pub app: Py<PyAny>,
    /// The request queue. A receive times out after a while, so that an idle thread sees
    /// `stopping`, and the main thread handles signals that another thread caught.
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
}

/// One thread, as the callable that runs it.
#[pyclass(frozen, name = "worker_thread", module = "pyserve")]
pub struct WorkerThread {
    shared: Arc<WorkerShared>,
    channel: Arc<OwnedFd>,
    /// Index of its line in the scoreboard.
    line: usize,
    /// Number in the worker; 0 is Python's main thread, where signal handlers run.
    number: usize,
    /// Locked only by this thread.
    turn: Mutex<RequestScope>,
}

/// State of the current request, and buffers that are kept between requests.
struct RequestScope {
    buffer: Vec<u8>,
    length: usize,
    /// The header of the last message received.
    header: Result<RequestHeader, Malformed>,
    files: Vec<OwnedFd>,
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
                    Claimed::Damaged(text) => log::error(py, 0, &text),
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
        let request = read_request(&turn.buffer[..turn.length])
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        let header = request.header;

        let errors = Bound::new(py, Errors::new(header.seq))?;
        let body_file = match header.body {
            BodyKind::Inline => None,
            BodyKind::File | BodyKind::Stream => turn.files.pop(),
        };
        let is_file = body_file.is_some();
        let input = match body_file {
            Some(socket) if header.body == BodyKind::Stream => {
                let board = self.shared.scoreboard;
                let (entry, seq) = (header.entry as usize, header.seq);
                let is_abandoned = move || board.is_cancelled(entry, seq);
                turn.inputs
                    .stream(py, BodyStream::new(socket, is_abandoned))?
            }
            Some(file) => turn.inputs.file(py, file, header.body_len)?,
            None => turn.inputs.inline(py, request.body)?,
        };
        let environ = turn
            .environs
            .build(py, request.vars, &input, errors.as_any())?;
        let mut reply = match turn.reply.take() {
            Some(reply) => reply,
            None => self.new_reply(),
        };
        reply.begin(header.seq, header.entry as usize, turn.claimed_ns);
        let response = Box::new(Response::new(reply, environ.is_head));
        let start = Bound::new(py, StartResponse::new(response))?;

        let running = self.stage().map(|stage| stage.begin(py, header.seq));
        let effect = call(
            self.shared.app.bind(py),
            environ.dict,
            &start,
            self.shared.is_dev,
            || self.record(Activity::Closing, header.seq),
        );
        drop(running);
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

    /// The thread with scoreboard line `line`.
    ///
    /// # Errors
    /// The exception of a lookup in Python.
    pub fn new(
        py: Python<'_>,
        shared: Arc<WorkerShared>,
        channel: Arc<OwnedFd>,
        line: usize,
        number: usize,
        facts: &ServerFacts<'_>,
    ) -> PyResult<Self> {
        Ok(Self {
            turn: Mutex::new(RequestScope {
                buffer: vec![0; LONGEST_MESSAGE],
                length: 0,
                header: read_request(&[]).map(|request| request.header),
                files: Vec::new(),
                claimed_ns: 0,
                pending: Pending::Nothing,
                reply: Some(ReplyWriter::new(Arc::clone(&channel), shared.scoreboard)),
                environs: Environs::new(py, facts)?,
                inputs: Inputs::new(py)?,
            }),
            shared,
            channel,
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
        loop {
            turn.files.clear();
            match self.receive(turn) {
                Ok(0) => return Wake::Over,
                Ok(length) => {
                    turn.length = length;
                    turn.header =
                        read_request(&turn.buffer[..length]).map(|request| request.header);
                    match &turn.header {
                        // A health check of the queue by the front; no request has this number.
                        Ok(header) if header.seq == 0 => continue,
                        Ok(header) => self.record(Activity::Received, header.seq),
                        Err(_) => {}
                    }
                    return Wake::Received;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                        if error.kind() == io::ErrorKind::WouldBlock {
                            // A timeout; or the application, in any worker, has made the queue
                            // non-blocking for all of them.
                            let _ = sockets::set_waiting(&self.shared.queue);
                        }
                        if self.number == 0 {
                            return Wake::Look;
                        }
                    }
                    io::ErrorKind::InvalidData => return Wake::Complaint(error.to_string()),
                    _ => return Wake::Over,
                },
            }
        }
    }

    /// The next message from the queue; 0 bytes if this thread gets no more.
    fn receive(&self, turn: &mut RequestScope) -> io::Result<usize> {
        fork::refuse_copy()?;
        let set_waiting = |is_waiting| self.stage().map(|stage| stage.set_waiting(is_waiting));
        set_waiting(true);
        // After the line above: the thread that sets it looks for waiting threads, and wakes them.
        let received = match self.shared.stopping.load(Ordering::SeqCst) {
            true => Ok(0),
            false => {
                sockets::receive_request(&self.shared.queue, &mut turn.buffer, &mut turn.files)
            }
        };
        set_waiting(false);
        received
    }

    /// Claims the received request, unless the front withdrew it meanwhile.
    fn claim(&self, _py: Python<'_>) -> Claimed {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let header = match &turn.header {
            Ok(header) => *header,
            Err(error) => return Claimed::Damaged(error.to_string()),
        };
        let entry = header.entry as usize;
        if entry >= self.shared.scoreboard.claims() {
            return Claimed::Damaged(format!("no claim number {entry} in the scoreboard"));
        }
        turn.claimed_ns = now_ns();
        if self.shared.scoreboard.take(entry, header.seq, self.line) {
            let board = &self.shared.scoreboard;
            board.record(self.line, Activity::Busy, header.seq, turn.claimed_ns);
            turn.pending = Pending::Answer;
            return Claimed::Yes;
        }
        let mut reply = turn.reply.take().unwrap_or_else(|| self.new_reply());
        reply.begin(header.seq, entry, turn.claimed_ns);
        reply.push(ReplyKind::Skipped, &[]);
        turn.reply = Some(reply);
        turn.pending = Pending::Skipped;
        Claimed::TooLate
    }

    /// Handles a failure of the host in a request: out of memory, or a panic.
    fn give_up(&self, py: Python<'_>, error: &PyErr) {
        let mut guard = self.lock();
        let turn = &mut *guard;
        let Ok(header) = turn.header.as_ref().copied() else {
            return;
        };
        log::exception(py, header.seq, "pyserve could not run the request", error);
        let mut reply = turn.reply.take().unwrap_or_else(|| self.new_reply());
        reply.begin(header.seq, header.entry as usize, turn.claimed_ns);
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
        ReplyWriter::new(Arc::clone(&self.channel), self.shared.scoreboard)
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

/// The result of a message from the queue.
enum Claimed {
    Yes,
    /// The front withdrew the request.
    TooLate,
    /// Not a valid request.
    Damaged(String),
}
