//! The scheduling policy of the front's threads.

#![allow(
    unsafe_code,
    reason = "rustix has no sched_setscheduler, which reads one structure of the stack"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use libc::{SCHED_BATCH, SCHED_OTHER};

/// True if this process was started with the normal policy, which it has replaced.
static IS_CHANGED: AtomicBool = AtomicBool::new(false);

/// Puts the calling thread under `SCHED_BATCH` (sched(7)): its wake-ups preempt no other thread. A
/// thread that was started under another policy than the normal one keeps that. Where the kernel
/// or a system call filter refuses, nothing changes.
///
/// Measured with a Flask application on two CPUs: without it the front interrupts the workers, and
/// takes 25 µs of CPU per request instead of 18.
pub fn never_preempt() {
    // SAFETY: 0 is the calling thread.
    if unsafe { libc::sched_getscheduler(0) } == SCHED_OTHER && set(SCHED_BATCH) {
        IS_CHANGED.store(true, Ordering::Relaxed);
    }
}

/// Undoes [`never_preempt`] in a child, which inherits the policy. Async-signal-safe.
pub(super) fn restore_policy() {
    if IS_CHANGED.load(Ordering::Relaxed) {
        set(SCHED_OTHER);
    }
}

/// Async-signal-safe.
fn set(policy: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads `parameters` during the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}
