//! One call: a request in, a response out, whoever answers it.
//!
//! [`Request`] and [`Response`] are what every kind of upstream speaks; [`workers`] is the
//! embedded Python, [`uwsgi`] an external uWSGI, [`http_proxy`] any server of HTTP. An upstream
//! never picks a status for a failure: it says what happened ([`Failure`]), and
//! `front/error.rs` decides what the client gets.

pub mod balance;
pub mod chunks;
pub mod exchange;
pub mod http_proxy;
pub mod private;
mod progress;
pub mod reply_head;
pub mod servers;
pub mod uwsgi;
pub mod workers;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pyserve_wire::frames::FilePiece;

use crate::config::UpstreamSettings;
use crate::config::upstream::Protocol;
use crate::front::body::request::RequestBody;
use crate::front::body::response_stream::ResponseBody;
use crate::front::sendfile::file_pool::FilePool;
use http_proxy::HttpProxy;
use http_proxy::tunnel::Switched;
use servers::Servers;
use uwsgi::Uwsgi;

/// A request with its body.
#[derive(Debug)]
pub struct Request {
    /// The CGI variables, see `pyserve_wire::vars`, behind as many spare bytes as the
    /// upstream's own header takes ([`pyserve_wire::frames::REQUEST_HEADER`]).
    pub message: Vec<u8>,
    /// The body.
    pub body: RequestBody,
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
    /// The connection to the server, if it goes on in another protocol (status 101).
    pub switched: Option<Switched>,
    /// Number of the worker that ran it, if it was one of ours.
    pub worker: Option<u32>,
    /// Time from when somebody took the request until there was this answer.
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
    /// The server stops, or gives up the workers that had the request.
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
    /// The code that is there now cannot be run (`--dev`; else the code before it serves).
    #[error("the application cannot be loaded")]
    NotLoaded {
        /// Why: mostly a traceback.
        why: Arc<str>,
    },
    /// The request could not be handed over.
    #[error("cannot hand the request to a worker: {0}")]
    Transport(#[from] std::io::Error),
    /// The client did not send all of its body while it was passed on.
    #[error(transparent)]
    Body(crate::front::body::request_stream::RequestBodyError),
    /// The answer made no sense.
    #[error("the answer cannot be used: {0}")]
    BadAnswer(String),
    /// A server behind us cannot be connected to.
    #[error("cannot connect to {server}: {why}")]
    Unreachable {
        /// Its address.
        server: Arc<str>,
        /// The error of the system call, and what to do about it.
        why: String,
    },
    /// There is no descriptor for a connection to a server.
    #[error("no descriptor is left for a connection (ulimit -n)")]
    NoDescriptors,
    /// A server behind us takes too long.
    #[error("{server} did not {doing} within {} s (--{setting})", .limit.as_secs_f32())]
    TooSlow {
        /// Its address.
        server: Arc<str>,
        /// What it did not do.
        doing: &'static str,
        /// The setting that says how long it may take.
        setting: &'static str,
        /// What it says.
        limit: Duration,
    },
    /// A server behind us closed the connection without an answer.
    #[error("{server} closed the connection without an answer: {}", why_closed(*.packet))]
    ClosedEarly {
        /// Its address.
        server: Arc<str>,
        /// Length in bytes of header and variables, in the uwsgi protocol.
        packet: Option<usize>,
    },
    /// A server that was said to speak uwsgi does not.
    #[error("{server} speaks HTTP, not uwsgi (uWSGI: `socket` instead of `http-socket`)")]
    SpeaksHttp {
        /// Its address.
        server: Arc<str>,
    },
    /// The request's variables do not fit into the uwsgi protocol.
    #[error(
        "the request takes {total} bytes of variables (limit of the uwsgi protocol {limit}); the biggest is {biggest} with {length} bytes"
    )]
    BlockTooLarge {
        /// Bytes of all variables.
        total: usize,
        /// The limit in bytes.
        limit: usize,
        /// Name of the biggest variable.
        biggest: String,
        /// Length of its value in bytes.
        length: usize,
    },
}

impl Failure {
    /// What a server behind us has failed in, as metrics call it; `None` where it is not its
    /// fault. What could not be connected to is counted with each try.
    fn of_server(&self) -> Option<&'static str> {
        match self {
            Self::TooSlow { .. } => Some("too_slow"),
            Self::ClosedEarly { .. } => Some("closed_early"),
            Self::SpeaksHttp { .. } => Some("speaks_http"),
            Self::BadAnswer(_) => Some("bad_answer"),
            _ => None,
        }
    }

    /// True if it shows that the server is not well. A uWSGI that closes on a long packet may
    /// be well: its buffer is too small for this request.
    fn is_illness(&self) -> bool {
        let is_long = |packet: usize| packet > USUAL_BUFFER;
        match self {
            Self::ClosedEarly { packet, .. } => !packet.is_some_and(is_long),
            failure => failure.of_server().is_some(),
        }
    }
}

/// uWSGI's `buffer-size` where its settings do not say.
const USUAL_BUFFER: usize = 4096;

/// uWSGI closes like this when a packet is longer than its buffer, and says so in its own
/// log alone; and when a worker dies.
fn why_closed(packet: Option<usize>) -> String {
    match packet {
        Some(packet) if packet > USUAL_BUFFER => format!(
            "its buffer-size is probably smaller than the {packet} bytes of this request (uWSGI's default is {USUAL_BUFFER}; set buffer-size = 65535)"
        ),
        _ => {
            "its worker died or was killed (see its own log, and the time limits there)".to_owned()
        }
    }
}

/// Servers that answer instead of an application of ours. Clones share them.
#[derive(Clone)]
pub enum Upstream {
    /// They speak the uwsgi protocol.
    Uwsgi(Uwsgi),
    /// They speak HTTP.
    Http(HttpProxy),
}

impl Upstream {
    /// Servers as the settings describe them.
    pub fn new(settings: &UpstreamSettings, files: &FilePool) -> Self {
        let addresses = settings.servers.clone();
        let servers = Servers::new(addresses, settings.timeouts, files.clone());
        match &settings.protocol {
            Protocol::Uwsgi(uwsgi) => {
                Self::Uwsgi(Uwsgi::new(servers, uwsgi.clone(), files.clone()))
            }
            Protocol::Http => Self::Http(HttpProxy::new(servers, files.clone())),
        }
    }

    /// The servers, for the log and for figures.
    pub fn servers(&self) -> &Servers {
        match self {
            Self::Uwsgi(uwsgi) => uwsgi.servers(),
            Self::Http(http) => http.servers(),
        }
    }
}
