//! The life of a worker process, from the fork to its exit.
//!
//! 1. Become this worker: log, scoreboard lines (its title is set before).
//! 2. Import the application, if the template did not.
//! 3. Run the `after_fork` hooks, send `Ready`.
//! 4. Follow orders ([`crate::orders`]), and serve: thread 0 is Python's main thread, the others
//!    are in [`crate::threads`].
//! 5. Run the `before_exit` hooks.
//! 6. Continue as the template of others ([`crate::promotion`]), if ordered and safe. Else
//!    returning from here exits the interpreter normally: `threading` waits for the application's
//!    threads, and `atexit` runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyserve_wire::control::{Loaded, Preload, cut_to_end};
use pyserve_wire::frames::{MAX_PAYLOAD, ReplyKind};
use pyserve_wire::scoreboard::{Activity, Scoreboard};

use crate::import_app::{self, Imported};
use crate::inherited::Inherited;
use crate::orders::Orders;
use crate::outbox::{Doorbell, Outbox};
use crate::reply::{ReplyWriter, now_ns};
use crate::safety::{descriptors, objects};
use crate::serve::{WorkerShared, WorkerThread};
use crate::stage::ThreadStage;
use crate::threads::Threads;
use crate::wsgi::environ::ServerFacts;
use crate::{
    breakpoints, fork, greenlets, gunicorn_hooks, log, package, promotion, stacks, start_watch,
    uwsgi_module,
};

/// Exit status of a worker that could not start.
const BOOT_FAILED: i32 = 1;

/// A worker that was just forked.
pub struct ForkedWorker {
    /// Resources that it inherits from its template.
    pub origin: Inherited,
    /// Its number.
    pub worker: u32,
    /// One channel for each thread.
    pub channels: Vec<OwnedFd>,
    /// The socket for orders.
    pub orders: OwnedFd,
    /// The memory for replies.
    pub replies: OwnedFd,
    /// The eventfd that wakes the front.
    pub doorbell: OwnedFd,
}

impl ForkedWorker {
    /// The worker with the descriptors that came with its number, in their order.
    pub fn new(origin: Inherited, worker: u32, mut descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [doorbell, replies, orders] = [(); 3].map(|()| descriptors.pop());
        Some(Self {
            origin,
            worker,
            channels: descriptors,
            orders: orders?,
            replies: replies?,
            doorbell: doorbell?,
        })
    }

    /// The socket for orders among the descriptors that come with a worker's number.
    pub fn orders_of(descriptors: &[OwnedFd]) -> Option<&OwnedFd> {
        descriptors.iter().nth_back(2)
    }
}

/// The role of the process after serving.
pub enum AfterServing {
    /// Exit.
    Exit,
    /// Fork workers, controlled by this socket.
    Template(Box<Inherited>, OwnedFd),
}

/// Runs the worker until it stops serving.
///
/// # Errors
/// `SystemExit` with the exit status of the process.
pub fn run(py: Python<'_>, newborn: ForkedWorker) -> PyResult<AfterServing> {
    let boot = &newborn.origin.boot;
    // With `--preload yes`, resources that the import has left open are shared already.
    let inherited = match (boot.refork, boot.preload) {
        (false, _) => BTreeMap::new(),
        (true, Preload::Yes) => descriptors::open(),
        (true, _) => descriptors::inherited(&boot.inherited),
    };
    let ForkedWorker {
        mut origin,
        worker,
        channels,
        orders,
        replies,
        doorbell,
    } = newborn;
    let Some(doorbell) = Doorbell::open(&replies, doorbell) else {
        return Err(PySystemExit::new_err(BOOT_FAILED));
    };
    drop(replies);
    let ends = Ends {
        channels,
        orders,
        doorbell: Arc::new(doorbell),
    };
    let control = live(py, &mut origin, worker, ends)?;
    Ok(match control {
        Some(control) if promotion::succeeds(py, &control, &origin, &inherited) => {
            AfterServing::Template(Box::new(origin), control)
        }
        _ => AfterServing::Exit,
    })
}

/// The resources of a worker beside the inherited ones.
struct Ends {
    channels: Vec<OwnedFd>,
    orders: OwnedFd,
    doorbell: Arc<Doorbell>,
}

/// Serves until it is asked to leave; returns a control socket if it was ordered to become a
/// template.
fn live(
    py: Python<'_>,
    origin: &mut Inherited,
    worker: u32,
    ends: Ends,
) -> PyResult<Option<OwnedFd>> {
    log::set_worker(worker);
    let ours = descriptors_of(origin, &ends);
    let Ends {
        channels,
        orders,
        doorbell,
    } = ends;
    fork::hold(ours.iter().copied());
    let threads = channels.len();
    let first_line = worker as usize * threads;
    record_start(&origin.scoreboard, first_line..first_line + threads);
    let channels = channels.into_iter().enumerate();
    let outbox = |(thread, channel)| Outbox::new(&doorbell, thread, channel).map(Arc::new);
    let mut outboxes = channels.map_while(outbox).collect::<Vec<_>>().into_iter();
    let Some(outbox) = outboxes.next() else {
        return Err(PySystemExit::new_err(BOOT_FAILED));
    };
    let mut reply = ReplyWriter::new(Arc::clone(&outbox), origin.scoreboard);
    reply.begin(0, 0, now_ns());

    let started = start(py, origin, worker);
    // A child that the import forked has returned here: it is not a worker.
    if fork::refuse_copy().is_err() {
        return Ok(None);
    }
    let (app, block) = match started {
        Ok(Started { app, loaded }) => (app, loaded.map(|loaded| loaded.to_bytes())),
        Err(text) => {
            let text = cut_to_end(&text, MAX_PAYLOAD);
            reply.push(ReplyKind::BootFailed, text.as_bytes());
            // If the front has exited too, the error is irrelevant.
            let _ = py.detach(|| reply.flush());
            return Err(PySystemExit::new_err(BOOT_FAILED));
        }
    };
    if worker == 0 {
        greenlets::warn_of_processes(py, origin.boot.threads);
    }
    if let Some(pipe) = origin.stacks.take() {
        stacks::stop_dumping(py);
        fork::hold(ours.into_iter().filter(|fd| *fd != pipe.as_raw_fd()));
    }
    if origin.boot.dev
        && let Err(error) = breakpoints::show_waiting(py, origin.scoreboard, first_line)
    {
        log::exception(py, 0, "breakpoints have no prompt", &error);
    }
    let shared = Arc::new(shared(origin, app, threads));
    let own_outbox = Arc::clone(&outbox);
    let (main, others) = threads_of(py, origin, &shared, first_line, outbox, outboxes)?;

    let (orders, following, others) = begin_threads(py, &shared, orders, others)?;
    reply.push(ReplyKind::Ready, block.as_deref().unwrap_or_default());
    let served = match py.detach(|| own_outbox.check().and_then(|()| reply.flush())) {
        Ok(()) => serve(py, &main, others),
        // The front has exited, or the application has closed our descriptors.
        Err(_) => others.leave(),
    };
    // A child that the application forked has no thread that could carry out orders.
    if fork::is_foreign() {
        return served.map(|()| None);
    }
    orders.close(py);
    served?;
    let promotion = shared.promotion.lock();
    let control = promotion.unwrap_or_else(PoisonError::into_inner).take();
    if control.is_some() {
        orders.leave(py, following);
    }
    Ok(control)
}

/// The descriptors that the worker holds.
fn descriptors_of(origin: &Inherited, ends: &Ends) -> Vec<RawFd> {
    let channels = ends.channels.iter().map(AsRawFd::as_raw_fd);
    channels
        .chain([origin.queue.as_raw_fd(), ends.orders.as_raw_fd()])
        .chain([ends.doorbell.descriptor()])
        .chain(log::descriptor())
        .chain(origin.stacks.iter().map(AsRawFd::as_raw_fd))
        .chain(origin.door.iter().map(|door| door.as_raw_fd()))
        .collect()
}

/// Records this process in its lines of the scoreboard.
fn record_start(scoreboard: &Scoreboard, lines: Range<usize>) {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    for line in lines {
        scoreboard.set_pid(line, pid);
        scoreboard.record(line, Activity::Starting, 0, now_ns());
    }
}

/// The state that the threads of the worker share.
fn shared(origin: &Inherited, app: Py<PyAny>, threads: usize) -> WorkerShared {
    WorkerShared {
        app,
        queue: Arc::clone(&origin.queue),
        ring: origin.ring,
        scoreboard: origin.scoreboard,
        is_dev: origin.boot.dev,
        stopping: AtomicBool::new(false),
        promotion: Mutex::new(None),
        stages: (0..threads).map(|_| ThreadStage::default()).collect(),
        gate: Arc::default(),
    }
}

/// The thread on Python's main thread, and the others, each with its outbox.
fn threads_of<'py>(
    py: Python<'py>,
    origin: &Inherited,
    shared: &Arc<WorkerShared>,
    first_line: usize,
    main: Arc<Outbox>,
    others: impl Iterator<Item = Arc<Outbox>>,
) -> PyResult<(Bound<'py, WorkerThread>, Threads<'py>)> {
    let facts = ServerFacts {
        is_multithread: origin.boot.threads > 1,
        is_multiprocess: origin.boot.workers > 1,
        version: &origin.boot.version,
    };
    let thread = |outbox, number| -> PyResult<Bound<'py, WorkerThread>> {
        let (shared, line) = (Arc::clone(shared), first_line + number);
        let thread = WorkerThread::new(py, shared, outbox, line, number, &facts)?;
        Bound::new(py, thread)
    };
    let main = thread(main, 0)?;
    let others = others
        .zip(1..)
        .map(|(outbox, number)| thread(outbox, number));
    let gate = Arc::clone(&shared.gate);
    let others = Threads::new(py, gate, others.collect::<PyResult<_>>()?)?;
    Ok((main, others))
}

/// Starts the thread that follows orders and the other threads, which wait until the worker is
/// ready.
fn begin_threads<'py>(
    py: Python<'py>,
    shared: &Arc<WorkerShared>,
    orders: OwnedFd,
    others: Threads<'py>,
) -> PyResult<(Arc<Orders>, JoinHandle<()>, Threads<'py>)> {
    let (orders, following) = Orders::follow(py, Arc::clone(shared), orders)
        .map_err(|error| without_threads(py, &error))?;
    // The thread that follows orders reads the end of the socket from now on.
    py.detach(start_watch::end);
    let others = others.start();
    let others = others.map_err(|error| without_threads(py, &error))?;
    Ok((orders, following, others))
}

/// The exit of a worker that gets no thread, with a line in the log.
fn without_threads(py: Python<'_>, error: &PyErr) -> PyErr {
    let text = format!(
        "cannot start the threads of this worker: {} (check `ulimit -u`, the container's pids.max and its memory limit)",
        error.value(py)
    );
    log::error(py, 0, &text);
    PySystemExit::new_err(BOOT_FAILED)
}

/// Runs all threads until they have ended, then the hooks.
fn serve(py: Python<'_>, main: &Bound<'_, WorkerThread>, others: Threads<'_>) -> PyResult<()> {
    others.serve();
    main.call0()?;
    // A child that the application forked has returned here: it is not a worker.
    if fork::is_foreign() {
        return Ok(());
    }
    others.join()?;
    package::run_before_exit(py);
    Ok(())
}

/// The steps between the fork and readiness in which the application may fail.
fn start(py: Python<'_>, origin: &Inherited, worker: u32) -> Result<Started, String> {
    let raised = |error: PyErr| log::traceback(py, &error);
    package::set_worker(py, worker).map_err(raised)?;
    uwsgi_module::set_worker(py, origin, worker).map_err(raised)?;
    gunicorn_hooks::load(py, &origin.boot, worker).map_err(raised)?;
    let started = match &origin.app {
        Some(app) => {
            objects::reseed(py);
            Started {
                app: app.clone_ref(py),
                loaded: None,
            }
        }
        None => {
            let Imported { app, loaded } = import_app::import(py, &origin.boot)?;
            Started {
                app,
                loaded: Some(loaded),
            }
        }
    };
    package::run_after_fork(py).map_err(raised)?;
    Ok(started)
}

/// The application, and the facts to report if this worker imported it.
struct Started {
    app: Py<PyAny>,
    loaded: Option<Loaded>,
}
