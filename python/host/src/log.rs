//! Log records of this process: datagrams to the front, or standard error if the front has exited.
//!
//! One log per process, because `wsgi.errors` may be used from any thread at any time.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyserve_wire::record::{Level, MAX_TEXT, Record, TEMPLATE};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::sockets;

/// Longest wait of a record for the front; after it the record goes to standard error. The kernel
/// queues only few datagrams (`net.unix.max_dgram_qlen`, often 10), so a burst of records has to
/// wait for the reader.
const PATIENCE: Duration = Duration::from_secs(1);

static SOCKET: OnceLock<OwnedFd> = OnceLock::new();
static WORKER: AtomicU32 = AtomicU32::new(TEMPLATE);
static PID: AtomicU32 = AtomicU32::new(0);

/// Sends records to this socket from now on.
pub fn open(socket: OwnedFd) {
    // There is no second boot message; if there were one, the first socket would stay.
    let _ = SOCKET.set(socket);
    set_worker(TEMPLATE);
}

/// Sets the worker number of the records from now on.
pub fn set_worker(worker: u32) {
    WORKER.store(worker, Ordering::Relaxed);
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    PID.store(pid.unsigned_abs(), Ordering::Relaxed);
}

/// The descriptor of the log, which forked children must close.
pub fn descriptor() -> Option<RawFd> {
    SOCKET.get().map(OwnedFd::as_raw_fd)
}

/// Logs the text that the application wrote to `wsgi.errors` in request `seq`.
pub fn application(py: Python<'_>, seq: u64, text: &str) {
    write(py, Level::Application, seq, text);
}

/// Logs a warning.
pub fn warn(py: Python<'_>, seq: u64, text: &str) {
    write(py, Level::Warn, seq, text);
}

/// Logs an error: a request failed, or another event that is not reported elsewhere.
pub fn error(py: Python<'_>, seq: u64, text: &str) {
    write(py, Level::Error, seq, text);
}

/// [`error`] from a thread that does not touch Python. Blocks.
pub fn error_outside_python(seq: u64, text: &str) {
    let mut rest = text;
    loop {
        let (part, behind) = split(rest);
        let sent = match try_send(Level::Error, seq, part) {
            Err(Errno::AGAIN) => patiently(Level::Error, seq, part),
            sent => sent,
        };
        if sent.is_err() {
            to_standard_error(part);
        }
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

/// Logs `doing` with the traceback of `error`.
pub fn exception(py: Python<'_>, seq: u64, doing: &str, error: &PyErr) {
    let traceback = traceback(py, error);
    write(py, Level::Error, seq, &format!("{doing}\n{traceback}"));
}

/// The traceback of `error` as Python prints it, without the final line end.
pub fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let lines = py
        .import("traceback")
        .and_then(|module| {
            let value = error.value(py);
            module.call_method1(
                "format_exception",
                (error.get_type(py), value, error.traceback(py)),
            )
        })
        .and_then(|lines| pyo3::types::PyString::new(py, "").call_method1("join", (lines,)));
    match lines {
        Ok(lines) => lines
            .cast::<pyo3::types::PyString>()
            .map(|text| text.to_string_lossy().trim_end().to_owned())
            .unwrap_or_else(|_| error.to_string()),
        // An exception whose own `__str__` raises, or no memory left.
        Err(_) => error.to_string(),
    }
}

/// Logs Rust panics, instead of a stray line on standard error. PyO3 turns a panic into an
/// exception, which fails the request.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("panic in pyserve's host: {panic}");
        if try_send(Level::Error, 0, &text).is_err() {
            to_standard_error(&text);
        }
    }));
}

fn write(py: Python<'_>, level: Level, seq: u64, text: &str) {
    let mut rest = text;
    loop {
        let (part, behind) = split(rest);
        send(py, level, seq, part);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

fn send(py: Python<'_>, level: Level, seq: u64, text: &str) {
    match try_send(level, seq, text) {
        Ok(()) => {}
        Err(Errno::AGAIN) => {
            if py.detach(|| patiently(level, seq, text)).is_err() {
                py.detach(|| to_standard_error(text));
            }
        }
        Err(_) => py.detach(|| to_standard_error(text)),
    }
}

fn patiently(level: Level, seq: u64, text: &str) -> Result<(), Errno> {
    let socket = SOCKET.get().ok_or(Errno::BADF)?;
    let _ = sockets::wait_writable(socket, Some(PATIENCE));
    try_send(level, seq, text)
}

fn try_send(level: Level, seq: u64, text: &str) -> Result<(), Errno> {
    let socket = SOCKET.get().ok_or(Errno::BADF)?;
    let record = Record {
        level,
        worker: WORKER.load(Ordering::Relaxed),
        pid: PID.load(Ordering::Relaxed),
        seq,
        text,
    };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, &record.to_bytes(), flags).map(|_| ())
}

fn to_standard_error(text: &str) {
    use std::io::Write;
    // There is no other way to report it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The longest piece of `text` that fits into one record, and the rest.
fn split(text: &str) -> (&str, &str) {
    if text.len() <= MAX_TEXT {
        return (text, "");
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end)
}
