//! The one function that forks this process, and the handling of forks by the application.
//!
//! Forking uses CPython's `os.fork`, so that the interpreter and all hooks of `os.register_at_fork`
//! take part (Python C API, "Cautions about fork()").
//!
//! A child that the *application* forks must neither hold our sockets open nor ever take or answer
//! a request. It is recognised in three ways:
//!
//! 1. Python's hook for the child (`os.fork`, `os.forkpty`, `multiprocessing`).
//! 2. The C library's hook (`pthread_atfork`), for libraries in C.
//! 3. Memory that the kernel clears in a copy of the process, for a raw system call; it is checked
//!    before each request and each reply, at the cost of one load.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use rustix::fs::{Mode, OFlags};

/// Set during a fork by the host.
static OURS: AtomicBool = AtomicBool::new(false);
/// Set in a child that the application forked.
static FOREIGN: AtomicBool = AtomicBool::new(false);
/// Set in such a child if Python's hooks have run there.
static IS_KNOWN_TO_PYTHON: AtomicBool = AtomicBool::new(false);
/// Not zero in this process, zero in its copies. `None` if the kernel does not clear memory.
static MARK: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
/// Id of the process in which the application runs, to compare if there is no [`MARK`].
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// Descriptors that such a child must close. Written only while there is one thread.
static HELD: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// The null device, opened before the application can use up all descriptors.
static NOTHING: OnceLock<OwnedFd> = OnceLock::new();

/// The side of the fork.
pub enum Side {
    /// The process that forked, with the child's process id.
    Parent(u32),
    /// The new process.
    Child,
}

/// Forks.
///
/// # Errors
/// The exception of `os.fork`.
pub fn fork(py: Python<'_>) -> PyResult<Side> {
    OURS.store(true, Ordering::Relaxed);
    let pid = py
        .import("os")
        .and_then(|os| os.call_method0("fork"))
        .and_then(|pid| pid.extract::<i32>());
    OURS.store(false, Ordering::Relaxed);
    match pid? {
        0 => Ok(Side::Child),
        pid => u32::try_from(pid)
            .map(Side::Parent)
            .map_err(|_| PyOSError::new_err("os.fork returned a negative number")),
    }
}

/// Excludes all existing objects from garbage collection, so that it does not write to (and copy)
/// memory that all workers share.
///
/// # Errors
/// The exception of `gc.freeze`.
pub fn freeze(py: Python<'_>) -> PyResult<()> {
    py.import("gc")?.call_method0("freeze").map(|_| ())
}

/// Makes children that the application forks close our descriptors.
///
/// # Errors
/// The exception of `os.register_at_fork`.
pub fn watch(py: Python<'_>) -> PyResult<()> {
    MARK.get_or_init(crate::ffi::memory_lost_in_copies);
    mark();
    if let Ok(nothing) = null_device() {
        // A second one is not needed.
        let _ = NOTHING.set(nothing);
    }
    crate::ffi::run_in_children(close_held_in_c);
    let arguments = PyDict::new(py);
    // A signal that reaches the child before its hooks have run is delivered after them.
    let hooks: [(_, fn()); 3] = [
        ("before", prepare_fork),
        ("after_in_parent", crate::ffi::release_signals),
        ("after_in_child", close_held),
    ];
    for (moment, hook) in hooks {
        let hook = PyCFunction::new_closure(
            py,
            Some(c"pyserve_at_fork"),
            None,
            move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| hook(),
        )?;
        arguments.set_item(moment, hook)?;
    }
    py.import("os")?
        .call_method("register_at_fork", (), Some(&arguments))
        .map(|_| ())
}

/// Sets the descriptors of this process that no child of the application may keep.
pub fn hold(descriptors: impl IntoIterator<Item = RawFd>) {
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *held = descriptors.into_iter().collect();
}

/// Adds a descriptor to them.
pub fn hold_also(descriptor: RawFd) {
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    held.push(descriptor);
}

/// True in a child that the application forked and that has returned into our code.
pub fn is_foreign() -> bool {
    FOREIGN.load(Ordering::Relaxed) || !is_marked()
}

/// Keeps a child that the application forked from taking or answering a request.
///
/// A child that Python does not know exits here: its interpreter cannot be finalised, because that
/// would wait for threads which exist in the parent only.
///
/// # Errors
/// `NotConnected` in such a child.
pub fn refuse_copy() -> io::Result<()> {
    if !is_foreign() {
        return Ok(());
    }
    if !IS_KNOWN_TO_PYTHON.load(Ordering::Relaxed) {
        crate::ffi::exit_now(0);
    }
    Err(io::ErrorKind::NotConnected.into())
}

/// Marks this process as the one in which the application runs.
fn mark() {
    if let Some(Some(mark)) = MARK.get() {
        mark.store(1, Ordering::Relaxed);
    }
    PROCESS.store(own_number(), Ordering::Relaxed);
}

fn is_marked() -> bool {
    match MARK.get() {
        Some(Some(mark)) => mark.load(Ordering::Relaxed) != 0,
        Some(None) => PROCESS.load(Ordering::Relaxed) == own_number(),
        // `watch` runs before any Python code of the application.
        None => true,
    }
}

fn own_number() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The hook before a fork, which runs after those of the application.
fn prepare_fork() {
    if OURS.load(Ordering::Relaxed) {
        // The process has one thread when it forks.
        crate::start_watch::end();
    }
    crate::ffi::hold_signals();
}

/// The hook of Python, which runs after that of the C library.
fn close_held() {
    if OURS.load(Ordering::Relaxed) {
        mark();
        // Hooks of the application follow, and may hang.
        crate::start_watch::begin();
        return crate::ffi::release_signals();
    }
    IS_KNOWN_TO_PYTHON.store(true, Ordering::Relaxed);
    if !FOREIGN.load(Ordering::Relaxed) {
        close_held_in_c();
    }
    crate::title::show_child();
    // `Process.terminate()` of multiprocessing must end such a child.
    crate::ffi::obey_signals();
    crate::ffi::release_signals();
}

/// The hook of the C library. It may neither allocate memory nor use Python.
extern "C" fn close_held_in_c() {
    if OURS.load(Ordering::Relaxed) {
        return;
    }
    FOREIGN.store(true, Ordering::Relaxed);
    // The lock is taken only before there are threads.
    let Ok(held) = HELD.try_lock() else { return };
    let kept = NOTHING
        .get()
        .filter(|kept| crate::ffi::is_null_device(kept));
    let fresh = kept.is_none().then(|| null_device().ok()).flatten();
    let nothing = kept.or(fresh.as_ref());
    for fd in held.iter() {
        // The number stays in use if possible: the child might open a file under it, which the
        // owner of the number would close.
        let is_replaced = nothing.is_some_and(|it| crate::ffi::replace(*fd, it).is_ok());
        if !is_replaced {
            crate::ffi::close(*fd);
        }
    }
}

fn null_device() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
