//! The threads of a worker other than Python's main thread.
//!
//! They are instances of `threading.Thread`, so that applications can list them. Where gevent or
//! eventlet have patched `threading`, those would be greenlets of the main thread, which never run
//! while it waits for a request: there the host starts native threads.
//!
//! They start before the worker is ready, because a process may get no more of them, and wait at
//! the [`Gate`] until it is.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::gate::Gate;
use crate::serve::WorkerThread;
use crate::{greenlets, log};

/// Stack of a native thread, unless `threading.stack_size()` is set: the size that glibc gives
/// Python's threads with the usual `ulimit -s` of 8 MiB.
const STACK: usize = 8 << 20;

/// All of them, the first is thread 1.
pub struct Threads<'py> {
    py: Python<'py>,
    gate: Arc<Gate>,
    bodies: Vec<Bound<'py, WorkerThread>>,
    by_threading: Vec<Bound<'py, PyAny>>,
    ours: Vec<JoinHandle<()>>,
}

impl<'py> Threads<'py> {
    /// Creates the threads; none of them runs yet.
    ///
    /// # Errors
    /// The exception of `threading`.
    pub fn new(
        py: Python<'py>,
        gate: Arc<Gate>,
        bodies: Vec<Bound<'py, WorkerThread>>,
    ) -> PyResult<Self> {
        let mut threads = Self {
            py,
            gate,
            bodies,
            by_threading: Vec::new(),
            ours: Vec::new(),
        };
        if threads.bodies.is_empty() || greenlets::has_patched_threads(py)? {
            return Ok(threads);
        }
        let class = py.import("threading")?.getattr("Thread")?;
        for (body, number) in std::mem::take(&mut threads.bodies).into_iter().zip(1..) {
            let settings = PyDict::new(py);
            settings.set_item("target", body)?;
            settings.set_item("name", name(number))?;
            threads.by_threading.push(class.call((), Some(&settings))?);
        }
        Ok(threads)
    }

    /// Starts them; they wait at the gate.
    ///
    /// # Errors
    /// The error of the system call or of `threading`; the threads that were started have ended.
    pub fn start(mut self) -> PyResult<Self> {
        match self.start_all() {
            Ok(()) => Ok(self),
            Err(error) => self.leave().and(Err(error)),
        }
    }

    fn start_all(&mut self) -> PyResult<()> {
        for (number, thread) in self.by_threading.iter().enumerate() {
            if let Err(error) = thread.call_method0("start") {
                self.by_threading.truncate(number);
                return Err(error);
            }
        }
        if self.bodies.is_empty() {
            return Ok(());
        }
        let stack = stack_size(self.py);
        greenlets::make_hub(self.py);
        for (body, number) in self.bodies.drain(..).zip(1..) {
            let body = body.unbind();
            let thread = thread::Builder::new()
                .name(name(number))
                .stack_size(stack)
                .spawn(move || Python::attach(|py| run(py, &body, number)))
                .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            self.ours.push(thread);
        }
        Ok(())
    }

    /// Lets them serve.
    pub fn serve(&self) {
        self.gate.decide(true);
    }

    /// Ends them before they have served.
    ///
    /// # Errors
    /// The exception of `threading`.
    pub fn leave(self) -> PyResult<()> {
        self.gate.decide(false);
        self.join()
    }

    /// Waits until they have ended.
    ///
    /// # Errors
    /// The exception of `threading`.
    pub fn join(self) -> PyResult<()> {
        for thread in &self.by_threading {
            thread.call_method0("join")?;
        }
        self.py.detach(|| {
            for thread in self.ours {
                // A panic has been logged.
                let _ = thread.join();
            }
        });
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("pyserve-{number}")
}

fn stack_size(py: Python<'_>) -> usize {
    let size = py
        .import("threading")
        .and_then(|threading| threading.call_method0("stack_size"))
        .and_then(|size| size.extract());
    match size {
        Ok(0) | Err(_) => STACK,
        Ok(size) => size,
    }
}

fn run(py: Python<'_>, body: &Py<WorkerThread>, number: usize) {
    greenlets::make_hub(py);
    // The name matters only to applications that show it.
    let _ = py
        .import("threading")
        .and_then(|threading| threading.call_method0("current_thread"))
        .and_then(|thread| thread.setattr("name", name(number)));
    if let Err(error) = body.bind(py).call0() {
        log::exception(py, 0, "a thread of the worker has ended", &error);
    }
    if greenlets::are_loaded(py)
        && let Err(error) = greenlets::call(py, "leave", ())
    {
        log::exception(py, 0, "cannot destroy the hub of a thread", &error);
    }
}
