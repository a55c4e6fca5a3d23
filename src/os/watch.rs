//! Waiting for a descriptor without blocking.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor with the runtime.
///
/// # Errors
/// What the kernel says.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, keeps it open while it lives,
    // and nobody else closes it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
