//! Starts a worker in a new interpreter, for a template that must not fork although it has not
//! imported the application: `sitecustomize`, or a `.pth` file, has started a thread or opened
//! something that is not fork-safe. The new interpreter runs them again, for this worker alone.
//!
//! The template writes the two messages that it received, `Boot` and `Fork`, into a new control
//! socket and starts the interpreter as pyserve does. [`crate::template::run`] reads them there.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyserve_wire::control::{Boot, ToTemplate};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::safety::descriptors;
use crate::sockets;

/// The argument of `python -c`; it runs the boot file.
const BOOT_LINE: &str = include_str!("../../pyserve/boot_line.txt");
/// The script that loads the host.
const BOOT_FILE: &str = include_str!("../../pyserve/boot.py");

/// Descriptor of the file from which this host was loaded.
static HOST: AtomicI32 = AtomicI32::new(-1);

/// Remembers the descriptor of the file from which this host was loaded.
pub fn remember_host(fd: RawFd) {
    HOST.store(fd, Ordering::Relaxed);
}

/// The descriptor of the file from which this host was loaded.
pub fn host() -> RawFd {
    HOST.load(Ordering::Relaxed)
}

/// Starts worker number `worker`; returns its process id. `shared`: the socket and the
/// memory of the queue, the scoreboard memory, the log, the pipe for stacks and the door, if there is one. `channels`: those of the threads, followed by the
/// other descriptors of the worker.
///
/// # Errors
/// The error of the system call or of `subprocess`.
pub fn spawn(
    py: Python<'_>,
    known: &Boot,
    shared: &[BorrowedFd<'_>],
    worker: u32,
    channels: &[BorrowedFd<'_>],
) -> PyResult<u32> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(os_error)?;
    let boot = ToTemplate::Boot(Box::new(Boot {
        apart: true,
        ..known.clone()
    }));
    let fork = ToTemplate::Fork { worker };
    sockets::send_message_with(&ours, &boot.to_bytes(), shared)?;
    sockets::send_message_with(&ours, &fork.to_bytes(), channels)?;
    let file = boot_file()?;
    let inherited = [file.as_raw_fd(), host(), theirs.as_raw_fd()];
    let executable = py.import("sys")?.getattr("executable")?;
    let mut command = vec![
        executable.extract::<OsString>()?,
        "-c".into(),
        BOOT_LINE.trim_end().into(),
    ];
    command.extend(inherited.map(|fd| fd.to_string().into()));
    let settings = PyDict::new(py);
    // Descriptors that pyserve inherited are passed to every process of the application.
    let passed_on = descriptors::inherited(&known.inherited).into_keys();
    let passed_on: Vec<_> = passed_on.chain(inherited).collect();
    settings.set_item("pass_fds", passed_on)?;
    let process = py
        .import("subprocess")?
        .call_method("Popen", (command,), Some(&settings))?;
    // The template collects its status, not the module `subprocess`.
    process.setattr("returncode", 0)?;
    process.getattr("pid")?.extract()
}

fn boot_file() -> PyResult<OwnedFd> {
    let file = memfd_create("pyserve-boot", MemfdFlags::CLOEXEC).map_err(os_error)?;
    let mut file = std::fs::File::from(file);
    file.write_all(BOOT_FILE.as_bytes())?;
    Ok(file.into())
}

fn os_error(error: rustix::io::Errno) -> PyErr {
    PyOSError::new_err((
        error.raw_os_error(),
        std::io::Error::from(error).to_string(),
    ))
}

/// Borrows all of them.
pub fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
