//! One call: a request in, a response out, whoever answers it.
//!
//! [`Request`] and [`Response`] are what every kind of upstream speaks; [`workers`] is the
//! embedded Python. An upstream never picks a status for a failure: it says what happened
//! ([`Failure`]), and `front/request/error.rs` decides what the client gets.

pub mod response_body;
pub mod response_spool;
pub mod workers;

use std::fs::File;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pyserve_wire::frames::FilePiece;

use response_body::ResponseBody;

/// A request, complete with its body.
#[derive(Debug)]
pub struct Request {
    /// The CGI variables, see `pyserve_wire::vars`, behind as many spare bytes as the
    /// upstream's own header takes ([`pyserve_wire::frames::REQUEST_HEADER`]).
    pub message: Vec<u8>,
    /// The body.
    pub body: RequestBody,
}

/// A request body that has been read to its end.
#[derive(Debug)]
pub enum RequestBody {
    /// Small enough to stay in memory; empty where there is none.
    Memory(Bytes),
    /// In an unlinked file, from its first byte on.
    File {
        /// The file.
        file: File,
        /// Its length in bytes.
        length: u64,
    },
}

/// What the upstream answered.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, if it is not the usual one for the status.
    pub reason: Option<Bytes>,
    /// Header fields, duplicates in the order the application gave them.
    pub headers: HeaderMap,
    /// Field names that are not in title case, as the application spelt them.
    pub spellings: Vec<Bytes>,
    /// The body, unless it is a file.
    pub body: ResponseBody,
    /// The body as a piece of a file.
    pub file: Option<(File, FilePiece)>,
    /// Number of the worker that ran it.
    pub worker: u32,
    /// Time from when a worker thread took the request until it had this answer.
    pub app_time: Duration,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// As many requests wait as may.
    #[error("the request queue is full ({limit} requests wait)")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The request waited for a worker as long as it may.
    #[error("no worker became free within {} s", .waited.as_secs_f32())]
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// The server stops and takes no new requests.
    #[error("the server is stopping")]
    Stopping,
    /// The worker died while it ran the request.
    #[error("the worker died while it ran the request")]
    WorkerLost {
        /// Number of the worker.
        worker: u32,
    },
    /// The application took longer than it may.
    #[error("the application took longer than {} s", .timeout.as_secs_f32())]
    TimedOut {
        /// Number of the worker.
        worker: u32,
        /// How long it might have taken.
        timeout: Duration,
    },
    /// The application raised, or broke the rules of WSGI, before its head was out.
    #[error("the application failed")]
    Application {
        /// Number of the worker.
        worker: u32,
        /// The traceback in `--dev`, else empty.
        traceback: String,
    },
    /// The request could not be handed over.
    #[error("cannot hand the request to a worker: {0}")]
    Transport(#[from] std::io::Error),
    /// The answer made no sense.
    #[error("the worker's answer cannot be used: {0}")]
    BadAnswer(String),
}
