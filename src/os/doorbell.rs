//! An eventfd that other processes ring (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// A new doorbell, close-on-exec; neither side waits in it.
///
/// # Errors
/// The error of the system call.
pub fn create() -> io::Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(eventfd(0, flags)?)
}

/// Forgets that it was rung.
///
/// # Errors
/// `WouldBlock` if it was not, or another process has done this.
pub fn answer(doorbell: impl AsFd) -> io::Result<()> {
    let mut count = [0; 8];
    Ok(rustix::io::read(doorbell, &mut count).map(drop)?)
}
