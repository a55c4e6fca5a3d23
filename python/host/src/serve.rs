//! The loop of one worker thread: receive a request, claim it, run it, reply, again.
//!
//! A thread is attached to the interpreter for its life and detaches around what may wait.
//! Where there is no `close()` to call, sending a reply and receiving the next request
//! happen in one detached section. The request is claimed behind that, with the interpreter
//! in hand: should another thread keep the interpreter to itself until this worker is killed,
//! nothing was begun, and the front has the request run elsewhere. Each request runs in a copy
//! of the thread's context, so that no context variable outlives it.

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
use crate::{breakpoints, fork, log, sockets};

/// Larger than any message that the front can send: a SEQPACKET message is bounded by the
/// send buffer, usually 212,992 bytes.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// What the threads of a worker share.
pub struct WorkerShared {
    /// The application.
    pub app: Py<PyAny>,
    /// Where requests come from. Receiving gives up after a while, so that a thread without
    /// work sees `stopping`, and the main thread sees signals that another thread caught.
    pub queue: Arc<OwnedFd>,
    /// Claims and activities.
    pub scoreboard: Scoreboard<'static>,
    /// Tracebacks go to the front.
    pub is_dev: bool,
    /// No thread takes another request.
    pub stopping: AtomicBool,
    /// The control socket with which this worker is to go on as a template.
    pub promotion: Mutex<Option<OwnedFd>>,
    /// What each thread does, thread 0 first.
    pub stages: Vec<ThreadStage>,
}

/// One thread, as the callable that runs it.
#[pyclass(frozen, name = "worker_thread", module = "pyserve")]
pub struct WorkerThread {
    shared: Arc<WorkerShared>,
    channel: Arc<OwnedFd>,
    /// Line in the scoreboard.
    line: usize,
    /// Number in the worker; 0 is Python's main thread, where signal handlers run.
    number: usize,
    /// Only this thread ever locks it.
    turn: Mutex<RequestScope>,
}

/// What belongs to the request under way, and what is kept from one to the next.
struct RequestScope {
    buffer: Vec<u8>,
    length: usize,
    /// Of the message that was received last.
    header: Result<RequestHeader, Malformed>,
    files: Vec<OwnedFd>,
    claimed_ns: u64,
    pending: Pending,
    reply: Option<ReplyWriter>,
    environs: Environs,
    inputs: Inputs,
}

/// What is to be sent before the next wait.
enum Pending {
    Nothing,
    /// The end of an answer.
    Answer,
    /// That a request was skipped.
    Skipped,
}

/// Why a detached wait ended.
enum Wake {
    /// There is a request.
    Received,
    /// Signal handlers may have to run.
    Look,
    /// Something to log.
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
        // A kernel that refuses costs speed and nothing else.
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

    /// Runs the request that was claimed.
    ///
    /// A panic ends here: as Python's exception it would go on in whatever calls this from
    /// Rust (PyO3 resumes it there), and cost the thread and not the request.
    fn request(&self, py: Python<'_>) -> PyResult<()> {
        match catch_unwind(AssertUnwindSafe(|| self.run(py))) {
            Ok(done) => done,
            Err(panic) => Err(PyRuntimeError::new_err(words(&*panic))),
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
        if self.shared.is_dev {
            breakpoints::end_session(py)?;
        }
        turn.reply = start.get().finish(py).map(|response| response.into_reply());
        errors.get().flush(py);
        if is_file {
            // The disk space is wanted back now, whatever the application keeps. If it has
            // detached the buffer, the file goes with what it took.
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
    /// What looking things up in Python raises.
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

    /// Sends what is pending, then waits for a request. Detached.
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
                        // The front asks whether the queue is whole; no request has this number.
                        Ok(header) if header.seq == 0 => continue,
                        Ok(header) => self.record(Activity::Received, header.seq),
                        Err(_) => {}
                    }
                    return Wake::Received;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                        if error.kind() == io::ErrorKind::WouldBlock {
                            // The time is up; or the application, in any worker, has made the
                            // queue non-blocking for all of them.
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

    /// The next message from the queue; 0 bytes if there is to be none for this thread.
    fn receive(&self, turn: &mut RequestScope) -> io::Result<usize> {
        fork::refuse_copy()?;
        let set_waiting = |is_waiting| self.stage().map(|stage| stage.set_waiting(is_waiting));
        set_waiting(true);
        // Behind the line above: whoever sets it looks for those who wait, and wakes them.
        let received = match self.shared.stopping.load(Ordering::SeqCst) {
            true => Ok(0),
            false => {
                sockets::receive_request(&self.shared.queue, &mut turn.buffer, &mut turn.files)
            }
        };
        set_waiting(false);
        received
    }

    /// Takes the request that was received, unless the front took it back meanwhile.
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

    /// The host itself went wrong in a request: out of memory, or a panic.
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
        // A panic in a request poisons it; `give_up` and the next request replace what it
        // may have left half done.
        self.turn
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Has this thread, when it wakes up, wait until whoever runs there has done its turn.
///
/// The front wakes a worker with every request that it hands out. Without this the worker
/// interrupts the front each time, which then hands out one request at a time; measured
/// with a hello application on two CPUs: 24 µs of CPU a request instead of 18. The share of
/// the CPU stays the same. What the application starts is not affected.
fn let_others_go_first(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    let batch: i32 = os.getattr("SCHED_BATCH")?.extract()?;
    let reset_on_fork: i32 = os.getattr("SCHED_RESET_ON_FORK")?.extract()?;
    let parameter = os.call_method1("sched_param", (0,))?;
    os.call_method1("sched_setscheduler", (0, batch | reset_on_fork, parameter))?;
    Ok(())
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", said.unwrap_or("without words"))
}

/// What became of a message from the queue.
enum Claimed {
    Yes,
    /// The front took the request back.
    TooLate,
    /// It is no request.
    Damaged(String),
}
