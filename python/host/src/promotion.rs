//! How a worker that has warmed up becomes the template of others (`--refork`).
//!
//! It serves no more, its threads have ended, its hooks for before the exit have run. What is
//! left to do is to see whether the application left what a fork would lose or share
//! ([`crate::safety`]), and to take on what distinguishes a template. A worker that may
//! not become one says why, and exits like any other.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyserve_wire::control::FromTemplate;

use crate::inherited::Inherited;
use crate::{apart, log, safety, sockets};

/// Makes a template of this process, unless that is not safe, and reports which to the
/// supervisor. `inherited`: descriptors that do not count.
pub fn succeeds(
    py: Python<'_>,
    control: &OwnedFd,
    origin: &Inherited,
    inherited: &BTreeMap<RawFd, String>,
) -> bool {
    let ours = [control.as_raw_fd(), origin.queue.as_raw_fd(), apart::host()];
    let ours: Vec<_> = ours.into_iter().chain(log::descriptor()).collect();
    let reasons = safety::reasons_not_to_fork(py, &ours, inherited, safety::LONG);
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
