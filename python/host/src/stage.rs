//! The state of each thread that is visible to the rest of a worker, and the interruption of a
//! thread in one request and never in the next.
//!
//! Only the thread itself writes `seq`, and only while attached. The interrupting thread is
//! attached too, so the request cannot change between check and interruption.
//!
//! - Python's main thread gets a signal, which also ends most waits in the kernel. Its handler runs
//!   in that thread and raises only if the marked request still runs.
//! - While greenlets are in use, the thread may run another one than that of the request, which
//!   then waits in a hub: see [`crate::greenlets`].
//! - Other threads get an asynchronous exception, which Python raises at their next bytecode;
//!   dropping [`Running`] withdraws it if it was not raised.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::{ffi, greenlets, log};

/// One thread.
pub struct ThreadStage {
    /// The kernel's id of the thread; 0 before it runs.
    number: AtomicI32,
    /// Python's id of the thread.
    ident: AtomicU64,
    /// The request that it runs; 0 for none.
    seq: AtomicU64,
    /// The request that is to be interrupted; 0 for none.
    interrupted: AtomicU64,
    /// True if it waits for a request, or is about to.
    is_waiting: AtomicBool,
    /// The greenlet that runs its requests, once greenlets are in use.
    root: PyOnceLock<Py<PyAny>>,
}

/// A running request; it ends when this is dropped.
pub struct Running<'a, 'py> {
    py: Python<'py>,
    stage: &'a ThreadStage,
}

impl Default for ThreadStage {
    fn default() -> Self {
        Self {
            number: AtomicI32::new(0),
            ident: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            interrupted: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            root: PyOnceLock::new(),
        }
    }
}

impl ThreadStage {
    /// Registers the calling thread as this one.
    pub fn enter(&self) {
        self.ident.store(ffi::thread_ident(), Ordering::Relaxed);
        self.number.store(ffi::thread_number(), Ordering::Release);
    }

    /// Python's id of the thread.
    pub fn ident(&self) -> u64 {
        self.ident.load(Ordering::Relaxed)
    }

    /// The request that it runs; 0 for none.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// The thread runs request `seq` from now on.
    pub fn begin<'a, 'py>(&'a self, py: Python<'py>, seq: u64) -> Running<'a, 'py> {
        if self.root.get(py).is_none() && greenlets::are_loaded(py) {
            self.meet_greenlets(py);
        }
        self.seq.store(seq, Ordering::Relaxed);
        Running { py, stage: self }
    }

    /// Records the first use of greenlets in this thread.
    fn meet_greenlets(&self, py: Python<'_>) {
        greenlets::make_hub(py);
        match greenlets::call(py, "root", ()) {
            Ok(root) => {
                let _ = self.root.set(py, root.unbind());
            }
            Err(error) => log::exception(py, 0, "cannot find the greenlet of a thread", &error),
        }
    }

    /// The greenlet that runs its requests, while the thread runs another one.
    pub fn suspended_root<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let root = self.root(py)?;
        let answer = greenlets::call(py, "is_suspended", (&root,));
        answer
            .is_ok_and(|answer| answer.is_truthy().unwrap_or(false))
            .then_some(root)
    }

    /// The greenlet that runs its requests, if greenlets are in use.
    pub fn root<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.root.get(py).map(|root| root.bind(py).clone())
    }

    /// Marks request `seq` for interruption. `false`: the thread runs another one, or none.
    pub fn mark(&self, _py: Python<'_>, seq: u64) -> bool {
        let is_meant = seq != 0 && self.seq() == seq;
        if is_meant {
            self.interrupted.store(seq, Ordering::Relaxed);
        }
        is_meant
    }

    /// Interrupts the request that [`ThreadStage::mark`] marked at the next bytecode of the thread,
    /// which is not Python's main thread and runs the request's own greenlet.
    pub fn raise(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) {
        ffi::raise_in_thread(py, self.ident(), Some(exception));
    }

    /// In the thread itself: true, once, if its request is the marked one.
    pub fn takes_interrupt(&self, _py: Python<'_>) -> bool {
        let seq = self.seq();
        seq != 0
            && self
                .interrupted
                .compare_exchange(seq, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// True if the signal for request `seq` has not been handled yet: it may have arrived just
    /// before the thread began to wait in the kernel.
    pub fn awaits_interrupt(&self, seq: u64) -> bool {
        self.seq() == seq && self.interrupted.load(Ordering::Relaxed) == seq
    }

    /// True if the request that it runs is to be interrupted.
    pub fn is_marked(&self) -> bool {
        let seq = self.seq();
        seq != 0 && self.awaits_interrupt(seq)
    }

    /// Sends the thread the signal that interrupts.
    pub fn signal(&self) {
        let number = self.number.load(Ordering::Acquire);
        if number != 0 {
            ffi::signal_thread(number, ffi::signals().0);
        }
    }

    /// Records that the thread waits for a request, or no longer does. The order of this write and
    /// the thread's check of `stopping` matters, so the write is sequentially consistent.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    /// True if the thread waits for a request.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::SeqCst)
    }
}

impl Drop for Running<'_, '_> {
    fn drop(&mut self) {
        self.stage.seq.store(0, Ordering::Relaxed);
        if self.stage.interrupted.swap(0, Ordering::Relaxed) != 0 {
            ffi::raise_in_thread(self.py, self.stage.ident(), None);
        }
    }
}
