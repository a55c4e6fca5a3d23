//! The wait of a thread for a request in the ring, and the wake-up of another.
//!
//! A thread that was woken for a request pops it, or wakes another thread before it does anything
//! else. Nothing here uses Python: callers are detached.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyserve_wire::request_ring::RequestRing;
use rustix::thread::futex;

use crate::ffi;

/// Longest wait, after which a thread looks at everything anew.
pub const IDLE_WAIT: Duration = Duration::from_secs(1);

/// The end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There may be a request.
    Look,
    /// A signal was handled.
    Signal,
    /// The longest wait has passed.
    Timeout,
}

/// Waits until there may be a request for this thread, unless `is_off` says no.
pub fn wait(ring: &RequestRing<'_>, thread: usize, is_off: impl Fn() -> bool) -> Woken {
    let futex = ffi::futex(ring.futex(thread));
    // Before the announcement: the side that chooses this thread changes it.
    let seen = futex.load(Ordering::SeqCst);
    ring.announce_wait(thread);
    let mut woken = Woken::Look;
    if ring.is_empty() && !ring.has_ended() && !is_off() {
        let longest = rustix::time::Timespec::try_from(IDLE_WAIT).ok();
        // Not PRIVATE: the front wakes through its own mapping. With a timeout, a signal handler
        // always ends the wait (signal(7)).
        woken = match futex::wait(futex, futex::Flags::empty(), seen, longest.as_ref()) {
            Err(rustix::io::Errno::INTR) => Woken::Signal,
            Err(rustix::io::Errno::TIMEDOUT) => Woken::Timeout,
            _ => Woken::Look,
        };
    }
    ring.withdraw_wait(thread);
    woken
}

/// Wakes another thread if requests are left: for a thread that pops no more of them.
pub fn pass_on(ring: &RequestRing<'_>, thread: usize) {
    if ring.is_empty() {
        return;
    }
    if let Some(other) = ring.choose_waiting(thread + 1) {
        let futex = ffi::futex(ring.futex(other));
        futex.fetch_add(1, Ordering::SeqCst);
        let _woken = futex::wake(futex, futex::Flags::empty(), 1);
    }
}
