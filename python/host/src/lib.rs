//! pyserve's WSGI host: PEP 3333 inside the application's own interpreter.
//!
//! ```text
//! boot.py -> run -> template (imports the application, forks, reports)
//! \-> worker -> serve (one loop per thread) -> wsgi (one request)
//! \-> orders (a thread without Python: retire, interrupt, stacks)
//! \-> promotion -> template (`--refork`)
//! \-> safety (may this process fork?), apart (a worker without a fork)
//! ```
//!
//! The host communicates with the rest of pyserve only in the formats of `pyserve-wire`. It blocks
//! freely, but never while attached to the interpreter: whatever may wait runs detached. The one
//! file with unsafe code is `ffi.rs`.

#![allow(
    clippy::disallowed_methods,
    reason = "the host has no event loop: it may block"
)]

mod apart;
mod breakpoints;
mod ffi;
mod fork;
mod gate;
mod greenlets;
mod gunicorn_hooks;
mod import_app;
mod inherited;
mod lazy_imports;
mod log;
mod orders;
mod outbox;
mod package;
mod promotion;
mod reply;
mod safety;
mod serve;
mod sockets;
mod stacks;
mod stage;
mod start_watch;
mod template;
mod threads;
mod title;
mod uwsgi_module;
mod wait;
mod worker;
mod wsgi;

/// The extension module that `boot.py` loads.
#[pyo3::pymodule]
mod _pyserve_host {
    use pyo3::prelude::*;

    /// Runs the template, and the workers in the processes that it forks. Returns when the process
    /// may exit normally.
    #[pyfunction]
    fn run(py: Python<'_>, control_fd: i32, host_fd: i32) -> PyResult<()> {
        crate::log::report_panics();
        crate::apart::remember_host(host_fd);
        crate::template::run(py, crate::ffi::adopt(control_fd))
    }
}
