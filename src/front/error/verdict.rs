//! The status, the words and the header fields of the response to each rejection: the only place that
//! picks an error status.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_RANGE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

use super::Rejection;
use crate::front::access::AccessRefused;
use crate::front::static_files::{ALLOW as ALLOWED, StaticError};
use crate::front::upstream::Failure;

/// The response to a rejection, without its page.
pub(super) struct Verdict {
    pub(super) status: StatusCode,
    /// The text of the page, for the client.
    pub(super) words: &'static str,
    /// True if the connection must close, because the rest of the request is unread.
    pub(super) close: bool,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
}

/// For plain HTTP on an address with TLS.
const NO_TLS: &str = "This address needs TLS: use https:// in place of http://.";

impl Rejection {
    /// Its status, words and fields.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::BadRequest(_) => closing(
                StatusCode::BAD_REQUEST,
                "Your browser sent a request that this server cannot understand.",
            ),
            Self::NoTls => closing(StatusCode::BAD_REQUEST, NO_TLS),
            Self::Version => closing(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "This server does not support that version of HTTP.",
            ),
            Self::Coding => closing(
                StatusCode::NOT_IMPLEMENTED,
                "This server does not support the encoding of your request.",
            ),
            Self::Expectation => verdict(
                StatusCode::EXPECTATION_FAILED,
                "This server does not support the expectation of your request.",
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
                    "You have sent too many requests. Please wait a moment.",
                )
            },
            Self::Access(refused) => access_verdict(refused),
            Self::Maintenance(mode) => Verdict {
                header: Some((RETRY_AFTER, HeaderValue::from(seconds_up(mode.retry_after)))),
                ..verdict(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "This site is being maintained. Please try again later.",
                )
            },
            Self::BodyTooLarge { .. } => closing(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Your request is larger than this server accepts.",
            ),
            Self::BodyTooSlow => closing(
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive in time.",
            ),
            Self::BodyBroken(_) => closing(
                StatusCode::BAD_REQUEST,
                "The request did not arrive completely.",
            ),
            Self::SpoolFull { .. } | Self::NoMemory | Self::NoDescriptors => Verdict {
                close: true,
                ..later("This server has no room for your request. Please try again in a moment.")
            },
            Self::Spool { .. } => closing(
                StatusCode::INSUFFICIENT_STORAGE,
                "This server has no room for your request.",
            ),
            // RFC 9110 §15.5.20.
            Self::UnknownHost => verdict(
                StatusCode::MISDIRECTED_REQUEST,
                "This server does not serve that host.",
            ),
            // `Unanswered` gets no page.
            Self::NotFound | Self::NotInternal { .. } | Self::Unanswered => {
                verdict(StatusCode::NOT_FOUND, "There is nothing at this address.")
            }
            Self::Panic(_) => verdict(
                StatusCode::INTERNAL_SERVER_ERROR,
                "An internal error occurred.",
            ),
            Self::Static(error) => static_verdict(error),
            Self::Upstream(failure) => upstream_verdict(failure),
        }
    }
}

/// Whole seconds, at least one, as `Retry-After` requires (RFC 9110 §10.2.3).
fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Keeps the connection open.
fn verdict(status: StatusCode, words: &'static str) -> Verdict {
    Verdict {
        status,
        words,
        close: false,
        header: None,
    }
}

/// Closes the connection: the rest of the request is unread.
fn closing(status: StatusCode, words: &'static str) -> Verdict {
    Verdict {
        close: true,
        ..verdict(status, words)
    }
}

/// Asks for a retry after one second.
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
            "The application failed while it worked on your request.",
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
            "The application failed to answer your request.",
        ),
        Failure::NotLoaded { .. } => verdict(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The application cannot be loaded. The next saved file triggers another attempt.",
        ),
    }
}

fn access_verdict(refused: &AccessRefused) -> Verdict {
    match refused {
        AccessRefused::Address => {
            verdict(StatusCode::FORBIDDEN, "This address is not open to you.")
        }
        AccessRefused::Password(challenge) => Verdict {
            header: Some((WWW_AUTHENTICATE, challenge.clone())),
            ..verdict(
                StatusCode::UNAUTHORIZED,
                "This address needs a user and a password.",
            )
        },
        AccessRefused::Attempts => Verdict {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..later("Too many passwords are being checked. Please try again in a moment.")
        },
        AccessRefused::File(_) => verdict(
            StatusCode::INTERNAL_SERVER_ERROR,
            "This server cannot check passwords at the moment.",
        ),
    }
}

fn static_verdict(error: &StaticError) -> Verdict {
    match error {
        // A path left to the application is not found where there is none.
        StaticError::NotFound | StaticError::LeftToApp => {
            verdict(StatusCode::NOT_FOUND, "There is nothing at this address.")
        }
        // RFC 9110 §15.5.17: with the length, so that the client can correct its range.
        StaticError::RangeNotSatisfiable { length } => Verdict {
            header: HeaderValue::try_from(format!("bytes */{length}"))
                .ok()
                .map(|range| (CONTENT_RANGE, range)),
            ..verdict(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The requested range is not within the file.",
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
            "The file has changed in the meantime.",
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
