//! Ends a worker that is still starting when the front has exited.
//!
//! Until [`crate::orders`] follows the front's orders, application code may hang: a hook of
//! `os.register_at_fork`, the import in a process that imports for itself, a hook after the fork. A
//! thread that never uses Python waits for the end of the socket for orders meanwhile. It starts
//! before the first of these, as the first hook in the child, and ends before the worker is ready.
//!
//! A template that was a worker is watched in the same way while hooks run before its forks. The
//! kernel ends others with the front, see [`crate::template`].

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::ffi;

/// The socket that [`begin`] watches; -1 if there is none.
static NEXT: AtomicI32 = AtomicI32::new(-1);
/// The watch of this process.
static CURRENT: Mutex<Option<Watch>> = Mutex::new(None);
/// Stack of the thread: it makes two system calls.
const STACK: usize = 64 << 10;

struct Watch {
    /// Ends the thread when it is written to.
    over: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

/// Sets the socket that [`begin`] watches.
pub fn prepare(socket: Option<&OwnedFd>) {
    NEXT.store(socket.map_or(-1, AsRawFd::as_raw_fd), Ordering::Relaxed);
}

/// Begins to watch the socket of [`prepare`]. Without a thread or a descriptor, the process is not
/// watched.
pub fn begin() {
    let socket = NEXT.swap(-1, Ordering::Relaxed);
    if socket < 0 {
        return;
    }
    let Ok(over) = eventfd(0, EventfdFlags::CLOEXEC) else {
        return;
    };
    let over = Arc::new(over);
    let watched = Arc::clone(&over);
    let thread = thread::Builder::new()
        .name("pyserve-start".to_owned())
        .stack_size(STACK)
        .spawn(move || watch(socket, &watched));
    if let Ok(thread) = thread {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Watch { over, thread });
    }
}

/// Ends the watch, and its thread. Not for a child that the application has forked: it has no such
/// thread.
pub fn end() {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Watch { over, thread }) = current.take()
        && rustix::io::write(&over, &1_u64.to_ne_bytes()).is_ok()
    {
        // It has no result.
        let _ = thread.join();
    }
}

fn watch(socket: RawFd, over: &OwnedFd) {
    ffi::take_only(ffi::signals().1);
    let wait = |socket: std::os::fd::BorrowedFd<'_>| {
        loop {
            // Messages are not read here: only the end of the socket is an event.
            let mut sources = [
                PollFd::from_borrowed_fd(socket, PollFlags::empty()),
                PollFd::new(over, PollFlags::IN),
            ];
            match poll(&mut sources, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
                Ok(_) if !sources[1].revents().is_empty() => return false,
                // `NVAL`: the worker has closed the socket, and exits.
                Ok(_) => return sources[0].revents().contains(PollFlags::HUP),
            }
        }
    };
    if ffi::look_at(socket, wait) == Some(true) {
        // It works on no request.
        ffi::exit_now(0);
    }
}
