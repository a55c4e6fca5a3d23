//! Turns failures into responses. [`verdict`] picks the status; here are the small plain page and the
//! log line, with the request's id.

mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use self::verdict::Verdict;
use super::context::{Printed, RequestLabel};
use crate::front::access::AccessRefused;
use crate::front::body::Body;
use crate::front::body::request_spool::SpoolError;
use crate::front::body::request_stream::RequestBodyError;
use crate::front::maintenance::Maintenance;
use crate::front::static_files::StaticError;
use crate::front::upstream::Failure;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::are_exhausted;

static QUEUE_FULL: Throttle = Throttle::new();
static SPOOL_FULL: Throttle = Throttle::new();
static NO_MEMORY: Throttle = Throttle::new();
static NO_DESCRIPTORS: Throttle = Throttle::new();

/// The reason for which a request is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The client broke a rule of HTTP.
    #[error("{0}")]
    BadRequest(&'static str),
    /// nginx has the status 497 for it, which clients get as 400.
    #[error("plain HTTP on an address with TLS")]
    NoTls,
    /// RFC 9110 §15.6.6: another major version of HTTP.
    #[error("the request line names a version of HTTP other than 1")]
    Version,
    /// RFC 9112 §6.1: a transfer coding in front of `chunked`.
    #[error("the only transfer coding accepted is chunked")]
    Coding,
    /// RFC 9110 §10.1.1: an expectation other than `100-continue`.
    #[error("the request expects something other than 100-continue")]
    Expectation,
    /// The request target is too long.
    #[error("the request target has {length} bytes (limit {limit})")]
    TargetTooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The head is too large.
    #[error(
        "the request head has {total} bytes (limit {limit}); its largest field is {biggest} with {length} bytes"
    )]
    HeadTooLarge {
        /// Bytes of the whole head.
        total: usize,
        /// The limit in bytes.
        limit: usize,
        /// Name of the biggest field.
        biggest: String,
        /// Length of its value in bytes.
        length: usize,
    },
    /// There are too many header fields.
    #[error("the request has {fields} header fields (limit {limit})")]
    TooManyFields {
        /// Number of fields.
        fields: usize,
        /// The limit.
        limit: usize,
    },
    /// The address makes more requests than `--rate-limit` allows.
    #[error("the address makes too many requests (--rate-limit)")]
    TooManyRequests {
        /// The time until the address may send its next request.
        wait: Duration,
    },
    /// The client has no access to the location.
    #[error(transparent)]
    Access(#[from] AccessRefused),
    /// The site is in maintenance.
    #[error("the site is in maintenance (pyserve maintenance)")]
    Maintenance(Arc<Maintenance>),
    /// The body is longer than `--max-body`.
    #[error("the request body is longer than {limit} bytes (the limit is set by --max-body)")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The client stopped sending its body, or is too slow.
    #[error(
        "the client stopped sending its body, or sends it too slowly (--body-timeout, --min-body-rate)"
    )]
    BodyTooSlow,
    /// The client disconnected inside its body, or its chunks are malformed.
    #[error("the request body is broken: {0}")]
    BodyBroken(String),
    /// The disk limit of request bodies is reached, or this address's share of it.
    #[error(
        "request bodies on disk have reached the limit of {limit} bytes (--max-spool), or this client its share of it"
    )]
    SpoolFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// The memory budget is used up, or this client's share of it.
    #[error(
        "the memory budget of clients is used up (--memory-budget), or this client's share of it"
    )]
    NoMemory,
    /// No descriptor became free in time, or spool files have reached their limit, or this client
    /// its share of it.
    #[error(
        "no descriptor is left (ulimit -n), or spool files or files that are sent have reached their limit of descriptors, or this client its share of it"
    )]
    NoDescriptors,
    /// The body cannot be written to disk.
    #[error("cannot spool the request body in {directory}: {error}")]
    Spool {
        /// The directory.
        directory: String,
        /// The error of the system call.
        error: std::io::Error,
    },
    /// No location and no application answers this path.
    #[error("no location and no application for this path")]
    NotFound,
    /// No location is for the host that the request names.
    #[error("no location is for this host")]
    UnknownHost,
    /// The settings close the connection without a response.
    #[error("the settings give no response")]
    Unanswered,
    /// The application delegates a file that is in no internal location.
    #[error("the application delegated {wanted}, which is in no location of --internal")]
    NotInternal {
        /// The path that it named.
        wanted: String,
    },
    /// A static file cannot be sent.
    #[error("static file: {0:?}")]
    Static(StaticError),
    /// The upstream has no answer.
    #[error(transparent)]
    Upstream(Failure),
    /// A panic of the server.
    #[error("internal error: {0}")]
    Panic(String),
}

impl From<SpoolError> for Rejection {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::BodyTooLarge { limit } => Self::BodyTooLarge { limit },
            SpoolError::BodyTooSlow => Self::BodyTooSlow,
            SpoolError::BodyBroken(reason) => Self::BodyBroken(reason),
            SpoolError::SpoolFull { limit } => Self::SpoolFull { limit },
            SpoolError::NoMemory => Self::NoMemory,
            SpoolError::NoDescriptors => Self::NoDescriptors,
            SpoolError::Spool { directory, error } => Self::Spool { directory, error },
        }
    }
}

impl From<Failure> for Rejection {
    /// A fault of the client in its body, while that is passed on, is not a failure of the
    /// upstream.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Body(RequestBodyError::TooLarge(limit)) => Self::BodyTooLarge { limit },
            Failure::Body(RequestBodyError::TooSlow) => Self::BodyTooSlow,
            Failure::Body(broken) => Self::BodyBroken(broken.to_string()),
            failure => Self::Upstream(failure),
        }
    }
}

/// nginx's status, in logs alone, of a request whose connection is closed without a response.
pub fn unanswered() -> StatusCode {
    StatusCode::from_u16(444).expect("three digits")
}

impl Rejection {
    /// Prepends `prefix`, which a proxy has removed from the path, to the location of a redirect.
    pub fn below(self, prefix: &str) -> Self {
        match self {
            Self::Static(StaticError::RedirectToDirectory(location)) if !prefix.is_empty() => {
                Self::Static(StaticError::RedirectToDirectory(format!(
                    "{prefix}{location}"
                )))
            }
            other => other,
        }
    }

    /// True if the head of the request is malformed, too large or unsupported. Such requests cost a
    /// client next to nothing, so both logs only have a sample of them.
    pub fn is_of_the_head(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::NoTls
                | Self::Version
                | Self::Coding
                | Self::Expectation
                | Self::TargetTooLong { .. }
                | Self::HeadTooLarge { .. }
                | Self::TooManyFields { .. }
        )
    }

    /// True if the body is malformed, too large or too slow. The access log has each of these.
    pub fn is_of_the_body(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. } | Self::BodyTooSlow | Self::BodyBroken(_)
        )
    }

    /// True if its page shows a traceback (`--dev`).
    pub fn has_detail(&self) -> bool {
        !self.detail().is_empty()
    }

    fn detail(&self) -> &str {
        match self {
            Self::Upstream(Failure::Application { traceback, .. }) => traceback,
            Self::Upstream(Failure::NotLoaded { why }) => why,
            _ => "",
        }
    }

    /// The response that the client gets; writes the log line if `is_logged`.
    pub fn into_response(self, identity: &RequestLabel, is_logged: bool) -> Response<Body> {
        if self.wants_descriptors() {
            return Self::NoDescriptors.into_response(identity, is_logged);
        }
        let verdict = self.verdict();
        self.note(verdict.status, identity, is_logged);
        let (page, content_type) = match &self {
            Self::Maintenance(mode) => mode.page.clone(),
            _ => None,
        }
        .unwrap_or_else(|| (self.page(&verdict, identity), "text/html; charset=utf-8"));
        let mut response = Response::new(Body::Full(page));
        *response.status_mut() = verdict.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if verdict.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some((name, value)) = verdict.header {
            headers.insert(name, value);
        }
        response
    }

    /// Counts the rejection, and writes its log line if `is_logged`.
    pub fn note(&self, status: StatusCode, identity: &RequestLabel, is_logged: bool) {
        if is_logged {
            self.log(status, identity);
        }
        if let Some(reason) = self.counted_as() {
            METRICS.rejections.up(reason);
        }
    }

    /// The code of the log message; see the manual, `troubleshooting.md`.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::SpoolFull { .. } => Some(codes::SPOOL_FULL),
            Self::NoMemory => Some(codes::MEMORY_BUDGET),
            Self::NoDescriptors => Some(codes::SPOOL_DESCRIPTORS),
            Self::Spool { .. } => Some(codes::SPOOL_DISK),
            Self::NotInternal { .. } => Some(codes::NOT_INTERNAL),
            Self::Static(StaticError::Io(_)) => Some(codes::STATIC_FILE),
            Self::BodyTooLarge { .. } | Self::BodyTooSlow | Self::BodyBroken(_) => {
                Some(codes::BODY)
            }
            Self::Upstream(failure) => match failure {
                Failure::QueueFull { .. } | Failure::QueueTimeout { .. } => Some(codes::QUEUE),
                Failure::Unreachable { .. } => Some(codes::UNREACHABLE),
                Failure::TooSlow { .. } => Some(codes::UPSTREAM_TIMEOUT),
                Failure::BadAnswer(_)
                | Failure::ClosedEarly { .. }
                | Failure::SpeaksHttp { .. } => Some(codes::BAD_RESPONSE),
                _ => None,
            },
            _ if self.is_of_the_head() => Some(codes::MALFORMED),
            _ => None,
        }
    }

    fn log(&self, status: StatusCode, identity: &RequestLabel) {
        let id = &identity.request_id;
        let method = Printed(identity.method_sent());
        let path = Printed(identity.target_sent());
        let (status, code) = (status.as_u16(), self.code());
        match self {
            // The host has logged the traceback, the pool the loss and the deadline, the supervisor
            // the reason for which the code cannot be loaded.
            Self::Upstream(
                Failure::Application { .. }
                | Failure::NotLoaded { .. }
                | Failure::WorkerLost { .. }
                | Failure::TimedOut { .. },
            ) => {}
            Self::Static(error) => match error {
                StaticError::Io(error) => {
                    tracing::error!(code, request_id = %id, %method, %path, status, %error, "cannot read a static file")
                }
                _ => {
                    tracing::debug!(request_id = %id, %method, %path, status, reason = %self, "request rejected")
                }
            },
            // Frequent under overload; the access log has each.
            Self::Upstream(Failure::QueueFull { .. } | Failure::QueueTimeout { .. })
            | Self::SpoolFull { .. }
            | Self::NoMemory
            | Self::NoDescriptors => {
                let throttle = match self {
                    Self::SpoolFull { .. } => &SPOOL_FULL,
                    Self::NoMemory => &NO_MEMORY,
                    Self::NoDescriptors => &NO_DESCRIPTORS,
                    _ => &QUEUE_FULL,
                };
                if let Some(before) = throttle.is_due() {
                    tracing::warn!(code, request_id = %id, %method, %path, status, before, reason = %self, "request not served")
                }
            }
            Self::Upstream(_) | Self::Spool { .. } | Self::NotInternal { .. } => {
                tracing::warn!(code, request_id = %id, %method, %path, status, reason = %self, "request not served")
            }
            Self::Panic(_) => {
                tracing::error!(request_id = %id, %method, %path, status, reason = %self, "request failed")
            }
            // The access log has them; a line for each would amplify a flood.
            Self::TooManyRequests { .. } | Self::Access(_) | Self::Maintenance(_) => {
                tracing::debug!(request_id = %id, %method, %path, status, reason = %self, "request rejected")
            }
            Self::NotFound | Self::UnknownHost | Self::Unanswered => {
                tracing::debug!(request_id = %id, %method, %path, status, "not found")
            }
            Self::BadRequest(_)
            | Self::NoTls
            | Self::Version
            | Self::Coding
            | Self::Expectation
            | Self::TargetTooLong { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyFields { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow
            | Self::BodyBroken(_) => {
                tracing::warn!(code, request_id = %id, %method, %path, status, reason = %self, "request rejected")
            }
        }
    }

    /// True for errors that mean that this process has no descriptor left.
    fn wants_descriptors(&self) -> bool {
        match self {
            Self::Static(StaticError::Io(error))
            | Self::Spool { error, .. }
            | Self::Upstream(Failure::Transport(error)) => are_exhausted(error),
            Self::Upstream(Failure::NoDescriptors) => true,
            _ => false,
        }
    }

    /// The `reason` label in the metrics; `None` for a usual response to a path or a condition.
    fn counted_as(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound | Self::UnknownHost | Self::Unanswered => return None,
            Self::Static(error) => match error {
                StaticError::Io(_) => "static_file",
                _ => return None,
            },
            Self::BadRequest(_)
            | Self::NoTls
            | Self::Version
            | Self::Coding
            | Self::Expectation => "bad_request",
            Self::TargetTooLong { .. } | Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => {
                "head_too_large"
            }
            Self::TooManyRequests { .. } => "rate_limit",
            Self::Access(refused) => match refused {
                AccessRefused::Address => "address_denied",
                AccessRefused::Password(_) => "password",
                AccessRefused::Attempts => "password_attempts",
                AccessRefused::File(_) => "password_file",
            },
            Self::Maintenance(_) => "maintenance",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow => "body_timeout",
            Self::BodyBroken(_) => "body_broken",
            Self::SpoolFull { .. } => "spool_full",
            Self::NoMemory => "memory",
            Self::NoDescriptors => "descriptors",
            Self::Spool { .. } => "spool",
            Self::NotInternal { .. } => "not_internal",
            Self::Panic(_) => "panic",
            Self::Upstream(failure) => match failure {
                Failure::QueueFull { .. } => "queue_full",
                Failure::QueueTimeout { .. } => "queue_timeout",
                Failure::Stopping => "stopping",
                Failure::WorkerLost { .. } => "worker_lost",
                Failure::Application { .. } => "application",
                Failure::NotLoaded { .. } => "not_loaded",
                Failure::TimedOut { .. } => "request_timeout",
                Failure::Transport(_) => "transport",
                Failure::Body(_) => "body_broken",
                Failure::BadAnswer(_) => "bad_answer",
                Failure::NoDescriptors => "descriptors",
                Failure::Unreachable { .. } => "upstream_unreachable",
                Failure::TooSlow { .. } => "upstream_timeout",
                _ => "upstream",
            },
        })
    }

    fn page(&self, verdict: &Verdict, identity: &RequestLabel) -> Bytes {
        let code = verdict.status.as_u16();
        let reason = verdict.status.canonical_reason().unwrap_or_default();
        let words = verdict.words;
        let detail = match self.detail() {
            "" => String::new(),
            detail => format!("<pre>{}</pre>\n", escaped(detail)),
        };
        let id = escaped(&identity.request_id);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title></head>\n\
             <body><h1>{code} {reason}</h1>\n<p>{words}</p>\n{detail}<p><small>Request {id}</small></p></body></html>\n"
        )
        .into()
    }
}

/// The reason for which a probe or a scraper is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The path is unknown.
    NotFound,
    /// The method is neither GET nor HEAD.
    MethodNotAllowed,
    /// Requests would not be served.
    NotReady(String),
}

impl Refusal {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Escapes text for an HTML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;

    fn check(rejection: Rejection, status: u16) -> Response<Body> {
        let response = rejection.into_response(&RequestLabel::default(), true);
        assert_eq!(response.status().as_u16(), status);
        response
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let response = check(Failure::QueueFull { limit: 3 }.into(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn an_unread_body_closes_the_connection() {
        let response = check(Rejection::BodyTooLarge { limit: 1 }, 413);
        assert_eq!(response.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_traceback_is_shown_only_if_there_is_one_and_escaped() {
        let page = |traceback: &str| {
            let failure = Failure::Application {
                worker: 0,
                traceback: traceback.to_owned(),
            };
            match check(failure.into(), 500).into_body() {
                Body::Full(page) => String::from_utf8(page.to_vec()).unwrap(),
                _ => panic!("a page"),
            }
        };
        assert!(!page("").contains("<pre>"));
        assert!(page("File <x>").contains("<pre>File &lt;x&gt;</pre>"));
    }
}
