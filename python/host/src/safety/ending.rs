//! Stops everything that the import has started, in a template that will not fork: workers that
//! import for themselves must find ports, locks and directories free.
//!
//! 1. Exit functions run, as at the exit of the interpreter.
//! 2. Child processes and their descendants get SIGTERM, then SIGKILL.
//!
//! A thread limits both: it kills the children and calls back if they take too long.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{objects, processes};

/// Limit for exit functions and the exit of all processes together.
const LIMIT: Duration = Duration::from_secs(2);
/// Time for processes to exit after SIGTERM.
const GRACE: Duration = Duration::from_millis(500);
/// Interval of the checks meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Stops everything that was started. `give_up` is called in another thread, and must not return,
/// if that takes too long.
pub fn end_all(py: Python<'_>, give_up: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel::<()>();
    let bound = thread::Builder::new().spawn(move || {
        if is_done.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            signal_all(Signal::KILL);
            give_up();
        }
    });
    // Without a thread there is no limit.
    let Ok(bound) = bound else {
        return signal_all(Signal::KILL);
    };
    objects::end(py);
    py.detach(|| {
        end_processes();
        drop(done);
        // It returns now, or it has begun to give up and ends the process.
        let _ = bound.join();
    });
}

fn end_processes() {
    signal_all(Signal::TERM);
    let until = Instant::now() + GRACE;
    while !descendants().is_empty() {
        if Instant::now() >= until {
            signal_all(Signal::KILL);
        }
        while matches!(waitpid(None, WaitOptions::NOHANG), Ok(Some(_))) {}
        thread::sleep(LOOK);
    }
}

fn signal_all(signal: Signal) {
    for pid in descendants() {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // One that has exited since needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Children, their children and so on: parents first.
fn descendants() -> Vec<u32> {
    let mut all = processes::children(std::process::id());
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        let children = processes::children(*parent);
        all.extend(children);
        next += 1;
    }
    all
}
