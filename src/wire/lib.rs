//! The protocols between front, supervisor and the Python processes.
//!
//! Bytes in, values out: this crate owns no descriptor and does no I/O, so that both ends of every
//! channel are built from the same definition and can be tested alone.
//!
//! - [`vars`]: key/value blocks, the encoding of the uwsgi protocol;
//! - [`frames`]: a request on its way to a worker thread, and the frames of its reply;
//! - [`control`]: supervisor and template;
//! - [`request_ring`], [`reply_ring`]: the layout of the shared memory through which requests and
//!   replies travel;
//! - [`maps`]: the kernel's text of a process's memory map;
//! - [`orders`]: messages from the front to a worker beside the queue;
//! - [`record`]: log records of the Python side;
//! - [`shared_bytes`]: bytes in such memory;
//! - [`scoreboard`]: the layout of the shared memory with the state of all worker threads.

pub mod control;
pub mod frames;
pub mod maps;
pub mod orders;
pub mod pieces;
pub mod record;
pub mod reply_ring;
pub mod request_ring;
pub mod scoreboard;
pub mod shared_bytes;
mod shared_header;
pub mod vars;

/// Bytes that do not follow the format of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {detail}")]
pub struct Malformed {
    /// The structure that was being read.
    pub what: &'static str,
    /// The fault found in it.
    pub detail: &'static str,
}

pub(crate) fn malformed(what: &'static str, detail: &'static str) -> Malformed {
    Malformed { what, detail }
}
