//! Turns a warm worker into the template of others (`--refork`).
//!
//! It serves no more requests, its threads have ended, its `before_exit` hooks have run. This file
//! checks for resources of the application that are not fork-safe ([`crate::safety`]), and sets up
//! what distinguishes a template. A worker that may not become one reports the reasons, and exits.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyserve_wire::control::FromTemplate;

use crate::inherited::Inherited;
use crate::{apart, lazy_imports, log, safety, sockets};

/// Makes this process a template, unless that is unsafe, and reports the outcome to the supervisor.
/// `inherited`: descriptors that do not count.
pub fn succeeds(
    py: Python<'_>,
    control: &OwnedFd,
    origin: &Inherited,
    inherited: &BTreeMap<RawFd, String>,
) -> bool {
    let ours = [control.as_raw_fd(), origin.queue.as_raw_fd(), apart::host()];
    let ours: Vec<_> = ours.into_iter().chain(log::descriptor()).collect();
    // Those of modules that requests imported.
    lazy_imports::load(py);
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
    // If the supervisor has changed its mind, the template reads the end of the socket.
    let _ = py.detach(|| sockets::send_message(control, &bytes));
    is_safe
}

fn become_template(py: Python<'_>) {
    // Workers that it forks are killed with it, not with those of the previous template.
    let _ = rustix::process::setpgid(None, None);
    log::set_worker(pyserve_wire::record::TEMPLATE);
    // Garbage that exists now would be kept forever by the freeze before the first fork.
    let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
    if let Err(error) = collected {
        log::exception(py, 0, "cannot collect garbage", &error);
    }
}
