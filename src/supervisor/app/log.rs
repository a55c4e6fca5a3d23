//! Copies log records of the Python processes into our log, with the request that they belong to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pyserve_wire::record::{self, Level, MAX_TEXT, Record, TEMPLATE};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;

use crate::front::upstream::workers::Pool;
use crate::os::inotify::watch;
use crate::os::sockets;

/// Room asked for in the log's send buffer, so that a burst of tracebacks does not make
/// worker threads wait.
const BUFFER: usize = 1 << 20;

/// Creates the socket pair; the second end is for the Python processes.
///
/// # Errors
/// The error of the system call.
pub fn pair() -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let (ours, theirs) = sockets::pair(SocketType::DGRAM)?;
    sockets::grow_send_buffer(theirs.as_fd(), BUFFER)?;
    sockets::set_nonblocking(ours.as_fd())?;
    Ok((watch(ours)?, theirs))
}

/// Logs records as they arrive.
pub async fn follow(log: &AsyncFd<OwnedFd>, pool: &Pool) {
    let mut buffer = vec![0; 2 * MAX_TEXT];
    loop {
        let Ok(mut readable) = log.readable().await else {
            return;
        };
        match readable.try_io(|log| sockets::receive(log.get_ref(), &mut buffer)) {
            Ok(Ok(length)) => write(&buffer[..length], pool),
            Ok(Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}

/// Logs the records that have arrived already; called before the process exits.
pub fn drain(log: &AsyncFd<OwnedFd>, pool: &Pool) {
    let mut buffer = vec![0; 2 * MAX_TEXT];
    while let Ok(length @ 1..) = sockets::receive(log.get_ref(), &mut buffer) {
        write(&buffer[..length], pool);
    }
}

fn write(bytes: &[u8], pool: &Pool) {
    let record = match record::read(bytes) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(%error, "malformed log record of a Python process");
            return;
        }
    };
    let Record {
        level,
        worker,
        pid,
        seq,
        text,
    } = record;
    let worker = if worker == TEMPLATE {
        "template".to_owned()
    } else {
        worker.to_string()
    };
    // A macro call for each level and case: tracing wants its fields at compile time.
    match (pool.identity(seq), level) {
        (Some(request), level) => {
            let (id, method, path) = (&request.request_id, &request.method, &request.target);
            match level {
                Level::Application | Level::Info => {
                    tracing::info!(target: "app", request_id = %id, %method, %path, worker, pid, "{text}")
                }
                Level::Warn => {
                    tracing::warn!(target: "app", request_id = %id, %method, %path, worker, pid, "{text}")
                }
                Level::Error => {
                    tracing::error!(target: "app", request_id = %id, %method, %path, worker, pid, "{text}")
                }
            }
        }
        (None, Level::Application | Level::Info) => {
            tracing::info!(target: "app", worker, pid, "{text}")
        }
        (None, Level::Warn) => tracing::warn!(target: "app", worker, pid, "{text}"),
        (None, Level::Error) => tracing::error!(target: "app", worker, pid, "{text}"),
    }
}
