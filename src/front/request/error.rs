//! Turns what went wrong into what the client gets: the only place that picks an error
//! status. It writes the small plain page and the log line, once, with the request's id.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::context::{Identity, Printed};
use crate::front::body::Body;
use crate::front::static_files::{ALLOW as ALLOWED, StaticError};
use crate::front::upstream::Failure;
use crate::front::upstream::request_stream::Broken;
use crate::observe::metrics::METRICS;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::are_exhausted;

static QUEUE_FULL: Throttle = Throttle::new();
static SPOOL_FULL: Throttle = Throttle::new();
static NO_MEMORY: Throttle = Throttle::new();
static NO_DESCRIPTORS: Throttle = Throttle::new();

/// Why a request is not answered as it asks.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The client broke a rule of HTTP.
    #[error("{0}")]
    BadRequest(&'static str),
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
        "the request head has {total} bytes (limit {limit}); its biggest field is {biggest} with {length} bytes"
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
        /// How many.
        fields: usize,
        /// The limit.
        limit: usize,
    },
    /// The address makes more requests than `--rate-limit` allows.
    #[error("the address makes too many requests (--rate-limit)")]
    TooManyRequests {
        /// How long it must wait for the next.
        wait: Duration,
    },
    /// The body is longer than `--max-body`.
    #[error("the request body is longer than {limit} bytes (the limit is set by --max-body)")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The client stopped sending its body, or is too slow.
    #[error(
        "the client pauses inside its body, or sends it too slowly (--body-timeout, --min-body-rate)"
    )]
    BodyTooSlow,
    /// The client broke off inside its body, or its chunks are malformed.
    #[error("the request body is broken: {0}")]
    BodyBroken(String),
    /// All bodies together take as much as they may.
    #[error("request bodies take all of the {limit} bytes that they may on disk (--max-spool)")]
    SpoolFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// The memory budget is used up, or this client's part of it.
    #[error("clients take all of the memory that they may (--memory-budget), or this one its part")]
    NoMemory,
    /// No descriptor became free in time, or spool files take all that they may, or this client
    /// its part.
    #[error(
        "no descriptor is left (ulimit -n), or spool files take all that they may, or this client its part"
    )]
    NoDescriptors,
    /// There is no room for the body.
    #[error("cannot spool the request body in {directory}: {error}")]
    Spool {
        /// The directory.
        directory: String,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// No location and no application answers this path.
    #[error("no location and no application for this path")]
    NotFound,
    /// The application wants a file sent that is in no internal location.
    #[error("the application wants {wanted} sent, which is in no location of --internal")]
    NotInternal {
        /// What it asked for.
        wanted: String,
    },
    /// A static file cannot be sent.
    #[error("static file: {0:?}")]
    Static(StaticError),
    /// The upstream has no answer.
    #[error(transparent)]
    Upstream(Failure),
    /// We panicked.
    #[error("internal error: {0}")]
    Panic(String),
}

impl From<Failure> for Rejection {
    /// What the client did wrong while its body was passed on is no failure of the upstream.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Body(Broken::TooLarge(limit)) => Self::BodyTooLarge { limit },
            Failure::Body(Broken::TooSlow) => Self::BodyTooSlow,
            Failure::Body(broken) => Self::BodyBroken(broken.to_string()),
            failure => Self::Upstream(failure),
        }
    }
}

struct Verdict {
    status: StatusCode,
    /// What the page says, for the client's eyes.
    words: &'static str,
    /// Whether the connection cannot go on, because the rest of the request is unread.
    close: bool,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Rejection {
    /// The same for a client that knows us below `prefix`, which a proxy has removed.
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

    /// Whether the head of the request is malformed, too large or not understood. Such requests cost a client
    /// next to nothing, so that either log has only some of them.
    pub fn is_of_the_head(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::Version
                | Self::Coding
                | Self::Expectation
                | Self::TargetTooLong { .. }
                | Self::HeadTooLarge { .. }
                | Self::TooManyFields { .. }
        )
    }

    /// Whether the body is. The access log has each of these.
    pub fn is_of_the_body(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. } | Self::BodyTooSlow | Self::BodyBroken(_)
        )
    }

    /// The response that the client gets; the log gets its line, if it `is_logged`.
    pub fn into_response(self, identity: &Identity, is_logged: bool) -> Response<Body> {
        if self.wants_descriptors() {
            return Self::NoDescriptors.into_response(identity, is_logged);
        }
        let verdict = self.verdict();
        if is_logged {
            self.log(verdict.status, identity);
        }
        if let Some(reason) = self.counted_as() {
            METRICS.rejections.up(reason);
        }
        let mut response = Response::new(Body::Full(self.page(&verdict, identity)));
        *response.status_mut() = verdict.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if verdict.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some((name, value)) = verdict.header {
            headers.insert(name, value);
        }
        response
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::BadRequest(_) => closing(
                StatusCode::BAD_REQUEST,
                "Your browser sent a request that this server cannot understand.",
            ),
            Self::Version => closing(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "This server does not speak that version of HTTP.",
            ),
            Self::Coding => closing(
                StatusCode::NOT_IMPLEMENTED,
                "This server does not know how your request is encoded.",
            ),
            Self::Expectation => verdict(
                StatusCode::EXPECTATION_FAILED,
                "This server does not know what your request expects.",
            ),
            Self::TargetTooLong { .. } => {
                closing(StatusCode::URI_TOO_LONG, "The address is too long.")
            }
            Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => closing(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The request's header fields, perhaps its cookies, are too large.",
            ),
            // RFC 6585 §4.
            Self::TooManyRequests { wait } => Verdict {
                header: Some((RETRY_AFTER, HeaderValue::from(seconds_up(*wait)))),
                ..verdict(
                    StatusCode::TOO_MANY_REQUESTS,
                    "You ask more often than this server allows. Please wait a moment.",
                )
            },
            Self::BodyTooLarge { .. } => closing(
                StatusCode::PAYLOAD_TOO_LARGE,
                "What you sent is larger than this server accepts.",
            ),
            Self::BodyTooSlow => closing(
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive in time.",
            ),
            Self::BodyBroken(_) => {
                closing(StatusCode::BAD_REQUEST, "The request did not arrive whole.")
            }
            Self::SpoolFull { .. } | Self::NoMemory | Self::NoDescriptors => Verdict {
                close: true,
                ..later("This server has no room for what you sent. Please try again in a moment.")
            },
            Self::Spool { .. } => closing(
                StatusCode::INSUFFICIENT_STORAGE,
                "This server has no room for what you sent.",
            ),
            Self::NotFound | Self::NotInternal { .. } => {
                verdict(StatusCode::NOT_FOUND, "There is nothing at this address.")
            }
            Self::Panic(_) => verdict(
                StatusCode::INTERNAL_SERVER_ERROR,
                "This server made a mistake.",
            ),
            Self::Static(error) => static_verdict(error),
            Self::Upstream(failure) => upstream_verdict(failure),
        }
    }

    fn log(&self, status: StatusCode, identity: &Identity) {
        let id = &identity.request_id;
        let method = Printed(identity.method_sent());
        let path = Printed(identity.target_sent());
        let status = status.as_u16();
        match self {
            // The host has logged the traceback, the pool the loss and the deadline, the
            // supervisor why the code cannot be loaded.
            Self::Upstream(
                Failure::Application { .. }
                | Failure::NotLoaded { .. }
                | Failure::WorkerLost { .. }
                | Failure::TimedOut { .. },
            ) => {}
            Self::Static(error) => match error {
                StaticError::Io(error) => {
                    tracing::error!(request_id = %id, %method, %path, status, %error, "cannot read a static file")
                }
                _ => {
                    tracing::debug!(request_id = %id, %method, %path, status, reason = %self, "request rejected")
                }
            },
            // With too much to do there are many of them; the access log has each.
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
                    tracing::warn!(request_id = %id, %method, %path, status, before, reason = %self, "request not served")
                }
            }
            Self::Upstream(_) | Self::Spool { .. } | Self::NotInternal { .. } => {
                tracing::warn!(request_id = %id, %method, %path, status, reason = %self, "request not served")
            }
            Self::Panic(_) => {
                tracing::error!(request_id = %id, %method, %path, status, reason = %self, "request failed")
            }
            // The access log has them; a line for each would be what a flood wants.
            Self::TooManyRequests { .. } => {
                tracing::debug!(request_id = %id, %method, %path, status, reason = %self, "request rejected")
            }
            Self::NotFound => {
                tracing::debug!(request_id = %id, %method, %path, status, "not found")
            }
            Self::BadRequest(_)
            | Self::Version
            | Self::Coding
            | Self::Expectation
            | Self::TargetTooLong { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyFields { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow
            | Self::BodyBroken(_) => {
                tracing::warn!(request_id = %id, %method, %path, status, reason = %self, "request rejected")
            }
        }
    }

    /// True for errors which say that this process has no descriptor left.
    fn wants_descriptors(&self) -> bool {
        match self {
            Self::Static(StaticError::Io(error))
            | Self::Spool { error, .. }
            | Self::Upstream(Failure::Transport(error)) => are_exhausted(error),
            Self::Upstream(Failure::NoDescriptors) => true,
            _ => false,
        }
    }

    /// The reason under which it is counted; `None` for what is the usual answer to a
    /// path or a condition.
    fn counted_as(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound => return None,
            Self::Static(error) => match error {
                StaticError::Io(_) => "static_file",
                _ => return None,
            },
            Self::BadRequest(_) | Self::Version | Self::Coding | Self::Expectation => "bad_request",
            Self::TargetTooLong { .. } | Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => {
                "head_too_large"
            }
            Self::TooManyRequests { .. } => "rate_limit",
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

    fn page(&self, verdict: &Verdict, identity: &Identity) -> Bytes {
        let code = verdict.status.as_u16();
        let reason = verdict.status.canonical_reason().unwrap_or_default();
        let words = verdict.words;
        let detail = match self {
            Self::Upstream(Failure::Application { traceback, .. }) => traceback,
            Self::Upstream(Failure::NotLoaded { why }) => &**why,
            _ => "",
        };
        let detail = match detail {
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

/// Whole seconds, at least one: `Retry-After` knows no others (RFC 9110 §10.2.3).
fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Why a probe or a scraper does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing at this path.
    NotFound,
    /// Neither GET nor HEAD.
    MethodNotAllowed,
    /// Requests would not be served.
    NotReady(String),
}

impl Refusal {
    /// What it gets instead.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The connection goes on.
fn verdict(status: StatusCode, words: &'static str) -> Verdict {
    Verdict {
        status,
        words,
        close: false,
        header: None,
    }
}

/// The rest of the request is unread.
fn closing(status: StatusCode, words: &'static str) -> Verdict {
    Verdict {
        close: true,
        ..verdict(status, words)
    }
}

/// The same request may be served in a second.
fn later(words: &'static str) -> Verdict {
    Verdict {
        header: Some((RETRY_AFTER, HeaderValue::from_static("1"))),
        ..verdict(StatusCode::SERVICE_UNAVAILABLE, words)
    }
}

fn upstream_verdict(failure: &Failure) -> Verdict {
    match failure {
        Failure::QueueFull { .. } | Failure::QueueTimeout { .. } => {
            later("This server is busy. Please try again in a moment.")
        }
        Failure::Stopping => Verdict {
            close: true,
            ..later("This server is restarting. Please try again in a moment.")
        },
        Failure::WorkerLost { .. }
        | Failure::BadAnswer(_)
        | Failure::Transport(_)
        | Failure::Body(_) => verdict(
            StatusCode::BAD_GATEWAY,
            "The application broke off while it worked on your request.",
        ),
        Failure::TimedOut { .. } => verdict(
            StatusCode::GATEWAY_TIMEOUT,
            "The application took too long to answer.",
        ),
        Failure::Unreachable { .. } | Failure::ClosedEarly { .. } | Failure::SpeaksHttp { .. } => {
            verdict(
                StatusCode::BAD_GATEWAY,
                "The application cannot be reached at the moment.",
            )
        }
        Failure::NoDescriptors => later("This server is busy. Please try again in a moment."),
        Failure::TooSlow { .. } => verdict(
            StatusCode::GATEWAY_TIMEOUT,
            "The application did not answer in time.",
        ),
        Failure::BlockTooLarge { .. } => verdict(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "The request's header fields, perhaps its cookies, are too large.",
        ),
        Failure::Application { .. } => verdict(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The application made a mistake.",
        ),
        Failure::NotLoaded { .. } => verdict(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The application cannot be loaded. It is tried again when a file is saved.",
        ),
    }
}

fn static_verdict(error: &StaticError) -> Verdict {
    match error {
        // Left to an application where there is none.
        StaticError::NotFound | StaticError::LeftToApp => {
            verdict(StatusCode::NOT_FOUND, "There is nothing at this address.")
        }
        // RFC 9110 §15.5.17: with the length, so that the client can ask better.
        StaticError::RangeNotSatisfiable { length } => Verdict {
            header: HeaderValue::try_from(format!("bytes */{length}"))
                .ok()
                .map(|range| (CONTENT_RANGE, range)),
            ..verdict(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The file is shorter than that.",
            )
        },
        StaticError::Forbidden => {
            verdict(StatusCode::FORBIDDEN, "This server may not read that file.")
        }
        StaticError::BadPath(_) => verdict(
            StatusCode::BAD_REQUEST,
            "Your browser sent an address that this server cannot understand.",
        ),
        StaticError::PreconditionFailed => verdict(
            StatusCode::PRECONDITION_FAILED,
            "The file has changed meanwhile.",
        ),
        StaticError::Io(_) => verdict(
            StatusCode::INTERNAL_SERVER_ERROR,
            "This server cannot read that file.",
        ),
        StaticError::MethodNotAllowed => Verdict {
            header: Some((ALLOW, HeaderValue::from_static(ALLOWED))),
            ..verdict(StatusCode::METHOD_NOT_ALLOWED, "Files can only be read.")
        },
        StaticError::RedirectToDirectory(location) => Verdict {
            header: HeaderValue::from_str(location)
                .ok()
                .map(|location| (LOCATION, location)),
            ..verdict(
                StatusCode::MOVED_PERMANENTLY,
                "The address of this directory ends in a slash.",
            )
        },
    }
}

/// Text for the inside of an HTML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rejection: Rejection, status: u16) -> Response<Body> {
        let response = rejection.into_response(&Identity::default(), true);
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
