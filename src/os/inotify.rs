//! Waiting for a descriptor without blocking.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor with the runtime.
///
/// # Errors
/// The error of the system call.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, keeps it open while it lives, and has
    // no second owner that could close it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
