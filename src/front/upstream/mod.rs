//! Upstreams: a request in, a response out.
//!
//! [`Request`] and [`Response`] are common to every kind of upstream; [`workers`] is the embedded
//! Python, [`uwsgi`] an external uWSGI, [`http_proxy`] any HTTP server. An upstream never picks a
//! status for a failure: it returns a [`Failure`], and `front/error.rs` maps it to the client's
//! response.

mod affinity;
pub mod balance;
pub mod chunks;
mod compact;
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
use crate::front::tls::TlsError;
use crate::front::tls::upstream::TlsToServers;
use crate::observe::access_log::LogVars;
use http_proxy::HttpProxy;
use http_proxy::mapping::Mapping;
use http_proxy::tunnel::Switched;
use servers::Servers;
use uwsgi::Uwsgi;

/// A request with its body.
#[derive(Debug)]
pub struct Request {
    /// The CGI variables, see `pyserve_wire::vars`, preceded by as many spare bytes as the
    /// upstream's own header takes ([`pyserve_wire::frames::REQUEST_HEADER`]).
    pub message: Vec<u8>,
    /// The body.
    pub body: RequestBody,
}

/// A response from an upstream.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, if it differs from the standard one for the status.
    pub reason: Option<Bytes>,
    /// Header fields, duplicates in the order the application gave them.
    pub headers: HeaderMap,
    /// Field names that are not in title case, as written by the application.
    pub header_case: Vec<Bytes>,
    /// The body, unless it is a file.
    pub body: ResponseBody,
    /// The body as a range of a file.
    pub file: Option<(File, FilePiece)>,
    /// The upstream connection, if it switches to another protocol (status 101).
    pub switched: Option<Switched>,
    /// Number of the worker that ran the request; `None` for an upstream server.
    pub worker: Option<u32>,
    /// Time from when a worker or server accepted the request until its response arrived.
    pub app_time: Duration,
    /// Variables for the access log, if the application has set some.
    pub log_vars: Option<Box<LogVars>>,
}

/// The reason for the absence of a response.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request queue is full.
    #[error("the request queue is full ({limit} requests wait)")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The request waited for a worker for the longest permitted time.
    #[error("no worker became free within {} s", .waited.as_secs_f32())]
    QueueTimeout {
        /// Time spent waiting.
        waited: Duration,
    },
    /// The server is shutting down, or ended the workers that had the request.
    #[error("the server is stopping")]
    Stopping,
    /// The worker died while it ran the request.
    #[error("the worker died while it ran the request")]
    WorkerLost {
        /// Number of the worker.
        worker: u32,
    },
    /// The application exceeded its deadline.
    #[error("the application took longer than {} s", .timeout.as_secs_f32())]
    TimedOut {
        /// Number of the worker.
        worker: u32,
        /// The deadline.
        timeout: Duration,
    },
    /// The application raised, or violated PEP 3333, before its head was sent.
    #[error("the application failed")]
    Application {
        /// Number of the worker.
        worker: u32,
        /// The traceback in `--dev`, else empty.
        traceback: String,
    },
    /// The current code cannot be loaded (`--dev`; otherwise the old code keeps serving).
    #[error("the application cannot be loaded")]
    NotLoaded {
        /// The reason: usually a traceback.
        why: Arc<str>,
    },
    /// The request could not be sent to a worker.
    #[error("cannot send the request to a worker: {0}")]
    Transport(#[from] std::io::Error),
    /// The client did not send its whole body while it was streamed upstream.
    #[error(transparent)]
    Body(crate::front::body::request_stream::RequestBodyError),
    /// The response was malformed.
    #[error("invalid response: {0}")]
    BadAnswer(String),
    /// An upstream server cannot be connected to.
    #[error("cannot connect to {server}: {why}")]
    Unreachable {
        /// Its address.
        server: Arc<str>,
        /// The error of the system call, and the remedy.
        why: String,
    },
    /// There is no descriptor for a connection to a server.
    #[error("no descriptor is left for a connection (ulimit -n)")]
    NoDescriptors,
    /// An upstream server timed out.
    #[error("{server} did not {doing} within {} s (--{setting})", .limit.as_secs_f32())]
    TooSlow {
        /// Its address.
        server: Arc<str>,
        /// The step that timed out.
        doing: &'static str,
        /// The setting with the timeout.
        setting: &'static str,
        /// Its value.
        limit: Duration,
    },
    /// An upstream server closed the connection without a response.
    #[error("{server} closed the connection without a response: {}", why_closed(*.packet))]
    ClosedEarly {
        /// Its address.
        server: Arc<str>,
        /// Length in bytes of header and variables in the uwsgi protocol.
        packet: Option<usize>,
    },
    /// A server that is configured as uwsgi responds in HTTP.
    #[error("{server} speaks HTTP, not uwsgi (uWSGI: `socket` instead of `http-socket`)")]
    SpeaksHttp {
        /// Its address.
        server: Arc<str>,
    },
    /// The request's variables do not fit into the uwsgi protocol.
    #[error(
        "the request takes {total} bytes of variables (limit of the uwsgi protocol {limit}); the largest is {biggest} with {length} bytes"
    )]
    BlockTooLarge {
        /// Bytes of all variables.
        total: usize,
        /// The limit in bytes.
        limit: usize,
        /// Name of the largest variable.
        biggest: String,
        /// Length of its value in bytes.
        length: usize,
    },
}

impl Failure {
    /// The metrics label of a failure of an upstream server; `None` if the server is not at fault.
    /// Failed connects are counted with each attempt.
    fn of_server(&self) -> Option<&'static str> {
        match self {
            Self::TooSlow { .. } => Some("too_slow"),
            Self::ClosedEarly { .. } => Some("closed_early"),
            Self::SpeaksHttp { .. } => Some("speaks_http"),
            Self::BadAnswer(_) => Some("bad_answer"),
            _ => None,
        }
    }

    /// True if the failure counts against the server's health. A uWSGI that closes on a long packet
    /// may be healthy: its buffer is too small for this request.
    fn is_illness(&self) -> bool {
        let is_long = |packet: usize| packet > USUAL_BUFFER;
        match self {
            Self::ClosedEarly { packet, .. } => !packet.is_some_and(is_long),
            failure => failure.of_server().is_some(),
        }
    }
}

/// uWSGI's default `buffer-size`.
const USUAL_BUFFER: usize = 4096;

/// The likely reasons why uWSGI closed: it does so when a packet exceeds its buffer, which it
/// reports in its own log only, and when a worker dies.
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

/// External servers that handle requests instead of the embedded application. Clones share them.
#[derive(Clone)]
pub enum Upstream {
    /// Servers of the uwsgi protocol.
    Uwsgi(Uwsgi),
    /// HTTP servers.
    Http(HttpProxy),
}

impl Upstream {
    /// The servers described by the settings. Blocks if they have TLS.
    ///
    /// # Errors
    /// Files for TLS that cannot be used.
    pub fn new(settings: &UpstreamSettings, files: &FilePool) -> Result<Self, TlsError> {
        let tls = settings.tls.as_ref().map(TlsToServers::new).transpose()?;
        let is_tls = tls.is_some();
        let servers = Servers::new(settings, tls, files.clone());
        Ok(match &settings.protocol {
            Protocol::Uwsgi(uwsgi) => {
                Self::Uwsgi(Uwsgi::new(servers, uwsgi.clone(), files.clone()))
            }
            Protocol::Http(http) => {
                let mapping = Mapping::new(http, &settings.servers, is_tls);
                Self::Http(HttpProxy::new(servers, mapping, files.clone()))
            }
        })
    }

    /// The servers, for logs and metrics.
    pub fn servers(&self) -> &Servers {
        match self {
            Self::Uwsgi(uwsgi) => uwsgi.servers(),
            Self::Http(http) => http.servers(),
        }
    }
}
