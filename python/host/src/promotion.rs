//! How a worker that has warmed up becomes the template of others (`--refork`).
//!
//! It serves no more, its threads have ended, its hooks for before the exit have run. What is
//! left to do is to see whether the application left threads or connections behind, which a
//! fork would lose or share, and to take on what distinguishes a template. A worker that may
//! not become one says why, and exits like any other.

use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyserve_wire::control::FromTemplate;

use crate::{log, safety, sockets};

/// How long threads that have been told to end may take: those of the hooks for before the
/// exit, and ours, which the kernel still lists for a moment after they were joined.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// Makes a template of this process, unless that is not safe; tells the supervisor which.
/// `inherited`: the sockets that were open when it became a worker.
pub fn succeeds(py: Python<'_>, control: &OwnedFd, inherited: &BTreeMap<RawFd, String>) -> bool {
    let until = Instant::now() + PATIENCE;
    let mut reasons = safety::reasons_not_to_fork(py, inherited);
    while !reasons.is_empty() && Instant::now() < until {
        py.detach(|| thread::sleep(LOOK));
        reasons = safety::reasons_not_to_fork(py, inherited);
    }
    let is_safe = reasons.is_empty();
    let answer = match is_safe {
        true => {
            become_template(py);
            FromTemplate::Promoted
        }
        false => FromTemplate::UnsafeToFork(reasons),
    };
    let bytes = answer.to_bytes();
    // If the supervisor has changed its mind, the template sees the end of the socket.
    let _ = py.detach(|| sockets::send_message(control, &bytes));
    is_safe
}

fn become_template(py: Python<'_>) {
    // Workers that it forks are ended with it, not with those of the template before.
    let _ = rustix::process::setpgid(None, None);
    log::set_worker(pyserve_wire::record::TEMPLATE);
    // What is garbage now would be kept for good by the freeze before the first fork.
    let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
    if let Err(error) = collected {
        log::exception(py, 0, "cannot collect garbage", &error);
    }
}
