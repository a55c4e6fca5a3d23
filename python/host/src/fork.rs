//! The one door through which this process forks, and what a fork by anybody else means.
//!
//! Forking goes through CPython's `os.fork`, so that the interpreter, and everyone who
//! called `os.register_at_fork`, takes part (Python C API, "Cautions about fork()"). The
//! same hook tells us when the *application* forks (`multiprocessing` does): that child
//! must neither hold our sockets open nor ever answer a request.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use rustix::fs::{Mode, OFlags};

/// Set around a fork of our own.
static OURS: AtomicBool = AtomicBool::new(false);
/// Set in a child that the application forked.
static FOREIGN: AtomicBool = AtomicBool::new(false);
/// What such a child must let go of. Written only while there is one thread.
static HELD: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Which side of the fork this is.
pub enum Side {
    /// The process that forked, with the child's process id.
    Parent(u32),
    /// The new process.
    Child,
}

/// Forks.
///
/// # Errors
/// What `os.fork` raises.
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

/// Moves all that exists out of the garbage collector's sight, so that it does not write
/// to (and copy) memory that all workers share.
///
/// # Errors
/// What `gc.freeze` raises.
pub fn freeze(py: Python<'_>) -> PyResult<()> {
    py.import("gc")?.call_method0("freeze").map(|_| ())
}

/// Has children that the application forks let go of our descriptors.
///
/// # Errors
/// What `os.register_at_fork` raises.
pub fn watch(py: Python<'_>) -> PyResult<()> {
    let arguments = PyDict::new(py);
    // A signal that reaches the child before its hooks have run waits for them.
    let hooks: [(_, fn()); 3] = [
        ("before", crate::ffi::hold_signals),
        ("after_in_parent", crate::ffi::release_signals),
        ("after_in_child", let_go),
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

/// Names the descriptors of this process that no child of the application may keep.
pub fn hold(descriptors: impl IntoIterator<Item = RawFd>) {
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *held = descriptors.into_iter().collect();
}

/// Names one more.
pub fn hold_also(descriptor: RawFd) {
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    held.push(descriptor);
}

/// True if this is a child that the application forked, and that came back into our code.
pub fn is_foreign() -> bool {
    FOREIGN.load(Ordering::Relaxed)
}

fn let_go() {
    if OURS.load(Ordering::Relaxed) {
        return crate::ffi::release_signals();
    }
    FOREIGN.store(true, Ordering::Relaxed);
    crate::title::show_child();
    // `Process.terminate()` of multiprocessing must end such a child.
    crate::ffi::obey_signals();
    crate::ffi::release_signals();
    let Ok(nothing) = null_device() else { return };
    // Nobody else can hold the lock: it is taken only before there are threads.
    if let Ok(held) = HELD.try_lock() {
        for fd in held.iter() {
            // A descriptor that cannot be replaced stays open: no worse than before.
            let _ = crate::ffi::replace(*fd, &nothing);
        }
    }
}

fn null_device() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
