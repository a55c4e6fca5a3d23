//! Orders of the front beside requests: to retire, to be promoted, to interrupt a request, to
//! report stacks.
//!
//! A thread that never touches Python waits for orders, so one is received whatever the application
//! does. A helper thread is started for work that needs the interpreter; if it cannot acquire the
//! interpreter in time, `faulthandler` reports the stacks.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use pyserve_wire::orders::{ORDER, ThreadStack, ToWorker, push_stack};
use rustix::net::Shutdown;

use crate::serve::WorkerShared;
use crate::stacks::{self, Fallback};
use crate::stage::ThreadStage;
use crate::{ffi, greenlets, log, package, sockets};

/// Pause before another attempt: a signal that arrived just before its thread began to wait in the
/// kernel did not interrupt the wait, and a greenlet may not be reached at once.
const AGAIN: Duration = Duration::from_millis(10);

/// Time for which a worker may continue after the front has exited: the time that Docker gives a
/// container to stop.
const WITHOUT_FRONT: Duration = Duration::from_secs(10);

/// Waits for [`ToWorker::Begin`]. `false`: it will not arrive. Detached.
pub fn may_begin(socket: &OwnedFd) -> bool {
    let mut buffer = [0; ORDER];
    loop {
        match sockets::receive_request(socket, &mut buffer, &mut Vec::new()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => {
                let order = received.map(|length| ToWorker::from_bytes(&buffer[..length]));
                return matches!(order, Ok(Ok(ToWorker::Begin)));
            }
        }
    }
}

/// State shared by the threads that carry out orders.
pub struct Orders {
    socket: OwnedFd,
    shared: Arc<WorkerShared>,
    fallback: Option<Fallback>,
    /// The class of the exception that interrupts.
    exception: Py<PyAny>,
    /// True if the interpreter is about to exit. Locked for reading by threads that attach or send
    /// signals; both would be fatal afterwards.
    is_closed: RwLock<bool>,
    /// True if we closed the socket ourselves: this worker becomes a template.
    is_left: AtomicBool,
}

impl Orders {
    /// Starts the thread that waits for orders, and returns it. The calling thread is Python's main
    /// thread.
    ///
    /// # Errors
    /// The error of installing a signal handler or starting a thread.
    pub fn follow(
        py: Python<'_>,
        shared: Arc<WorkerShared>,
        socket: OwnedFd,
    ) -> PyResult<(Arc<Self>, JoinHandle<()>)> {
        handle_interrupts(py, Arc::clone(&shared))?;
        let orders = Arc::new(Self {
            socket,
            shared,
            fallback: Fallback::prepare(py),
            exception: package::request_timeout(py)?.unbind(),
            is_closed: RwLock::new(false),
            is_left: AtomicBool::new(false),
        });
        if let Some(fallback) = &orders.fallback {
            crate::fork::hold_also(fallback.descriptor());
        }
        let following = Arc::clone(&orders);
        let thread = thread::Builder::new()
            .name("pyserve-orders".to_owned())
            .spawn(move || following.run())
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok((orders, thread))
    }

    /// Carries out no more orders: the interpreter exits.
    pub fn close(&self, py: Python<'_>) {
        py.detach(|| {
            *self
                .is_closed
                .write()
                .unwrap_or_else(PoisonError::into_inner) = true;
        });
    }

    /// After [`Orders::close`]: ends the thread that waits for orders, too.
    pub fn leave(&self, py: Python<'_>, following: JoinHandle<()>) {
        py.detach(|| {
            // The thread reads the end of the socket.
            self.is_left.store(true, Ordering::SeqCst);
            let _already_ended = rustix::net::shutdown(&self.socket, Shutdown::Read);
            // It has no result, even after a panic.
            let _ = following.join();
        });
    }

    fn run(self: Arc<Self>) {
        ffi::take_only(ffi::signals().1);
        let mut buffer = [0; ORDER];
        let mut descriptors = Vec::new();
        loop {
            match sockets::receive_request(&self.socket, &mut buffer, &mut descriptors) {
                // Also while the interpreter exits: a thread or an exit hook of the application may
                // block that, and nothing else would end this process.
                Ok(0) => {
                    if !self.is_left.load(Ordering::SeqCst) {
                        self.retire();
                        end_without_front();
                    }
                    return;
                }
                Ok(length) => {
                    let descriptor = descriptors.pop();
                    // The front has the same version; an unreadable message is ignored.
                    if let Ok(order) = ToWorker::from_bytes(&buffer[..length]) {
                        self.carry_out(order, descriptor);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn carry_out(self: &Arc<Self>, order: ToWorker, descriptor: Option<OwnedFd>) {
        match order {
            // Received already by `may_begin`.
            ToWorker::Begin => {}
            ToWorker::Retire => self.retire(),
            ToWorker::Promote => {
                let promotion = self.shared.promotion.lock();
                *promotion.unwrap_or_else(PoisonError::into_inner) = descriptor;
                self.retire();
            }
            ToWorker::Interrupt {
                thread,
                seq,
                patience_ms,
            } => {
                let patience = Duration::from_millis(patience_ms.into());
                self.interrupt(thread as usize, seq, patience);
            }
            ToWorker::Stacks { patience_ms } => {
                if let Some(answer) = descriptor {
                    self.tell_stacks(answer, Duration::from_millis(patience_ms.into()));
                }
            }
        }
    }

    /// Ends every thread that waits for a request; the others end before their next request.
    fn retire(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // A thread sets its waiting flag before it reads `stopping`: either it sees the new value,
        // or it is found here.
        while self.unless_closed(|| {
            let waiting = self.shared.stages.iter().filter(|stage| stage.is_waiting());
            waiting.map(|stage| stage.signal()).count() > 0
        }) == Some(true)
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn interrupt(self: &Arc<Self>, thread: usize, seq: u64, patience: Duration) {
        let until = Instant::now() + patience;
        let is_logged = Arc::new(AtomicBool::new(false));
        let (this, logged) = (Arc::clone(self), Arc::clone(&is_logged));
        let done = self.with_interpreter(patience / 2, move |py| {
            this.interrupt_attached(py, thread, seq, until, &logged);
        });
        if !done && !is_logged.swap(true, Ordering::Relaxed) {
            let stacks = self
                .fallback
                .as_ref()
                .map_or_else(String::new, Fallback::dump);
            let text = format!(
                "the request is over its deadline, and a thread holds the interpreter:\n{stacks}"
            );
            log::error_outside_python(seq, &text);
        }
    }

    fn interrupt_attached(
        &self,
        py: Python<'_>,
        thread: usize,
        seq: u64,
        until: Instant,
        is_logged: &AtomicBool,
    ) {
        let Some(stage) = self.shared.stages.get(thread) else {
            return;
        };
        if stage.seq() != seq {
            return;
        }
        let stack = match stacks::of_request(py, stage) {
            Ok(stack) => stack.unwrap_or_default(),
            Err(error) => log::traceback(py, &error),
        };
        // The thread may have detached meanwhile, so the request is checked again.
        if !stage.mark(py, seq) {
            return;
        }
        if !is_logged.swap(true, Ordering::Relaxed) {
            let text = format!("the request is over its deadline; its stack:\n{stack}");
            log::error(py, seq, &text);
        }
        // Logging detaches, too.
        while stage.awaits_interrupt(seq) && Instant::now() < until {
            if self.try_to_interrupt(py, stage, thread) {
                return;
            }
            py.detach(|| thread::sleep(AGAIN));
        }
    }

    /// Interrupts the marked request. `false`: try again.
    fn try_to_interrupt(&self, py: Python<'_>, stage: &ThreadStage, thread: usize) -> bool {
        let is_main = thread == 0;
        if let Some(root) = stage.suspended_root(py) {
            let is_done = take_and_error(py, &self.shared, thread)
                .and_then(|(take, error)| {
                    let arguments = (root, stage.ident(), take, error);
                    greenlets::call(py, "from_another_thread", arguments)
                })
                .and_then(|is_done| is_done.is_truthy());
            let has_hubs = || greenlets::call(py, "has_hubs", ()).and_then(|has| has.is_truthy());
            match is_done {
                Ok(true) => return true,
                // Else a greenlet that works for the request.
                Ok(false) if is_main || !has_hubs().unwrap_or(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    log::exception(py, stage.seq(), "cannot interrupt a greenlet", &error);
                    return true;
                }
            }
        }
        if is_main {
            stage.signal();
        } else {
            stage.raise(py, self.exception.bind(py));
        }
        !is_main
    }

    fn tell_stacks(self: &Arc<Self>, answer: OwnedFd, patience: Duration) {
        let (sender, receiver) = mpsc::channel();
        let this = Arc::clone(self);
        let is_attached = self.with_interpreter(patience, move |py| {
            let stacks = stacks::of_all_threads(py, &this.shared.stages);
            let stacks = stacks.unwrap_or_else(|error| {
                vec![ThreadStack {
                    text: log::traceback(py, &error),
                    ..ThreadStack::default()
                }]
            });
            // The receiver is gone if this took too long.
            let _ = sender.send(stacks);
        });
        let reported = match is_attached {
            true => receiver.recv_timeout(patience).ok(),
            false => None,
        };
        let stacks = reported.unwrap_or_else(|| {
            let text = self
                .fallback
                .as_ref()
                .map_or_else(String::new, Fallback::dump);
            vec![ThreadStack {
                text,
                ..ThreadStack::default()
            }]
        });
        let mut block = Vec::new();
        for stack in &stacks {
            push_stack(&mut block, stack);
        }
        // In a separate thread, because the client may read slowly.
        let _ = thread::Builder::new().spawn(move || sockets::send_all(&answer, &block, &[]));
    }

    /// Runs `work` attached to the interpreter, in a separate thread. `false`: it was not done in
    /// time; it will run as soon as the interpreter is free.
    fn with_interpreter(
        self: &Arc<Self>,
        patience: Duration,
        work: impl FnOnce(Python<'_>) + Send + 'static,
    ) -> bool {
        let (done, waiting) = mpsc::channel();
        let this = Arc::clone(self);
        let helper = thread::Builder::new()
            .name("pyserve-helper".to_owned())
            .spawn(move || {
                this.unless_closed(|| {
                    Python::try_attach(|py| {
                        // Attached: the work itself has no time limit.
                        let _ = done.send(());
                        work(py);
                    });
                });
            });
        helper.is_ok() && waiting.recv_timeout(patience).is_ok()
    }

    fn unless_closed<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let is_closed = self
            .is_closed
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        (!*is_closed).then(work)
    }
}

/// The front has exited, so a hanging request would never be interrupted: requests have some time
/// to finish, then the process exits.
fn end_without_front() {
    thread::sleep(WITHOUT_FRONT);
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
}

/// Installs the handler that interrupts the main thread's request, and only the marked one.
fn handle_interrupts(py: Python<'_>, shared: Arc<WorkerShared>) -> PyResult<()> {
    let handler = PyCFunction::new_closure(
        py,
        Some(c"pyserve_interrupt"),
        None,
        move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let py = arguments.py();
            let Some(stage) = shared.stages.first() else {
                return Ok(());
            };
            let is_to_be_raised = match stage.root(py).filter(|_| stage.is_marked()) {
                Some(root) => {
                    let (take, error) = take_and_error(py, &shared, 0)?;
                    let arguments = (root, arguments.get_item(1)?, take, error);
                    greenlets::call(py, "in_handler", arguments)?.is_truthy()?
                }
                None => stage.takes_interrupt(py),
            };
            match is_to_be_raised {
                true => Err(PyErr::from_value(package::request_timeout(py)?.call0()?)),
                false => Ok(()),
            }
        },
    )?;
    py.import("signal")?
        .call_method1("signal", (ffi::signals().0, handler))
        .map(|_| ())
}

/// The two callables for `greenlets.py`: the first returns true if the marked request of this
/// thread still runs, the second returns its exception.
fn take_and_error<'py>(
    py: Python<'py>,
    shared: &Arc<WorkerShared>,
    thread: usize,
) -> PyResult<(Bound<'py, PyCFunction>, Bound<'py, PyAny>)> {
    let shared = Arc::clone(shared);
    let meant = shared.stages.get(thread).map_or(0, ThreadStage::seq);
    let take = PyCFunction::new_closure(
        py,
        Some(c"pyserve_take"),
        None,
        move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> bool {
            let stage = shared.stages.get(thread);
            stage.is_some_and(|stage| stage.seq() == meant && stage.takes_interrupt(arguments.py()))
        },
    )?;
    Ok((take, package::request_timeout(py)?))
}
