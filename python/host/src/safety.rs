//! Whether this process may fork after the import: what a fork would share or lose.
//!
//! A thread does not exist in the child, but the locks that it holds do; a connection that
//! two processes use mixes their conversations up. Threads and connections that the import
//! left are named for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketAddrAny, SocketType, getpeername, getsockname};

use crate::doors;
use crate::wsgi::head::type_name;

/// The sockets of this process by descriptor, with what the kernel calls them.
pub fn open_sockets() -> BTreeMap<RawFd, String> {
    let mut sockets = BTreeMap::new();
    // Without /proc nothing can be found out, and nothing is claimed.
    for entry in fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let fd = name.to_str().and_then(|name| name.parse().ok());
        let target = fs::read_link(entry.path());
        if let (Some(fd), Ok(target)) = (fd, target) {
            let target = target.to_string_lossy();
            if target.starts_with("socket:") {
                sockets.insert(fd, target.into_owned());
            }
        }
    }
    sockets
}

/// Names what makes a fork unsafe: threads beside this one, and sockets that were not open
/// `before` the import.
pub fn reasons_not_to_fork(py: Python<'_>, before: &BTreeMap<RawFd, String>) -> Vec<String> {
    let mut reasons = threads(py);
    for (fd, name) in open_sockets() {
        if before.get(&fd) != Some(&name) {
            reasons.extend(doors::look_at(fd, describe).flatten());
        }
    }
    reasons
}

fn threads(py: Python<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut known = BTreeSet::from([rustix::thread::gettid().as_raw_nonzero().get()]);
    for (id, description) in python_threads(py).unwrap_or_default() {
        if known.insert(id) {
            reasons.push(description);
        }
    }
    for task in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let id = task.file_name().to_str().and_then(|id| id.parse().ok());
        if id.is_some_and(|id| !known.contains(&id)) {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            reasons.push(format!(
                "thread {:?} (not a Python thread)",
                name.trim_end()
            ));
        }
    }
    reasons
}

/// Native id and description of every other thread that `threading` knows.
fn python_threads(py: Python<'_>) -> PyResult<Vec<(i32, String)>> {
    let mut threads = Vec::new();
    let threading = py.import("threading")?;
    let own: u64 = threading.call_method0("get_ident")?.extract()?;
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        // Not by its native id: up to CPython 3.12 that is the parent's after a fork.
        if thread.getattr("ident")?.extract().ok() == Some(own) {
            continue;
        }
        let Ok(id) = thread.getattr("native_id").and_then(|id| id.extract()) else {
            continue;
        };
        let name = thread.getattr("name")?.to_string();
        let module = thread.get_type().getattr("__module__")?;
        let class = type_name(&thread);
        threads.push((id, format!("thread {name:?} ({module}.{class})")));
    }
    Ok(threads)
}

/// A socket that a fork would share; `None` for those that it may. Datagram sockets carry
/// whole messages one way (`statsd`, `syslog`), and the two ends of a socket pair are both
/// in this process.
fn describe(fd: BorrowedFd<'_>) -> Option<String> {
    if socket_type(fd).ok()? == SocketType::DGRAM {
        return None;
    }
    let own = getsockname(fd)
        .map(|address| text_of(&address))
        .unwrap_or_default();
    if socket_acceptconn(fd).unwrap_or(false) {
        return Some(format!("socket listening on {own}"));
    }
    let peer = text_of(&getpeername(fd).ok()??);
    match (own.is_empty(), peer.is_empty()) {
        (_, true) => None,
        (true, false) => Some(format!("socket -> {peer}")),
        (false, false) => Some(format!("socket {own} -> {peer}")),
    }
}

/// `127.0.0.1:5432`, `[::1]:80`, a path, `@name` for an abstract one, or empty.
fn text_of(address: &SocketAddrAny) -> String {
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        return address.to_string();
    }
    match rustix::net::SocketAddrUnix::try_from(address.clone()) {
        Ok(unix) => match (unix.path(), unix.abstract_name()) {
            (Some(path), _) => path.to_string_lossy().into_owned(),
            (None, Some(name)) if !name.is_empty() => {
                format!("@{}", String::from_utf8_lossy(name))
            }
            (None, _) => String::new(),
        },
        Err(_) => String::new(),
    }
}
