//! A head that is not served: [`head`](crate::front::framing::head) refuses it below hyper.
//!
//! hyper would answer it with a status and nothing else, and no request would come of it. So
//! hyper is given a request in its place ([`Refused::stand_in`]), which is answered with the
//! [`Rejection`]: by the way of every request, with a page and a line in each log. What hyper
//! refuses all the same gets its lines here ([`note`]).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode};

use super::context::{self, Ends};
use super::error::Rejection;
use crate::front::framing::target;
use crate::observe::access_log::{AccessLog, Entry, HandledBy};
use crate::observe::metrics::METRICS;

/// Longest target of a refused request in the logs.
const LONGEST_SHOWN: usize = 1024;
/// Longest method.
const LONGEST_METHOD: usize = 32;
/// Fields that the logs and the client's address are made of.
const KEPT: [&[u8]; 7] = [
    b"host",
    b"referer",
    b"user-agent",
    b"forwarded",
    b"x-forwarded-for",
    b"x-real-ip",
    b"x-request-id",
];

/// A request that is refused for its head.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// Its method; `-` where it has none.
    pub method: Method,
    /// Its target, or its whole request line where that has no parts, percent-encoded.
    pub target: String,
    is_http_10: bool,
    /// Its well-formed lines that the logs need.
    fields: Vec<u8>,
}

impl Refused {
    /// The request that begins with `bytes`.
    pub fn new(rejection: Rejection, bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.splitn(2, |byte| *byte == b' ');
        let method = parts.next().unwrap_or_default();
        let method = Some(method).filter(|method| method.len() <= LONGEST_METHOD);
        let method = method.and_then(|method| Method::from_bytes(method).ok());
        let (method, shown) = match (method, parts.next()) {
            (Some(method), Some(behind)) => {
                let version = behind.windows(6).rposition(|part| part == b" HTTP/");
                (method, &behind[..version.unwrap_or(behind.len())])
            }
            _ => (NO_METHOD.parse().unwrap_or_default(), line),
        };
        let mut target = target::printable(&shown[..shown.len().min(LONGEST_SHOWN)]);
        target.truncate(LONGEST_SHOWN);
        Self {
            rejection,
            method,
            target,
            is_http_10: line.ends_with(b" HTTP/1.0"),
            fields: kept(lines),
        }
    }

    /// The head of a request without a body that is answered in its place.
    pub fn stand_in(&self) -> Vec<u8> {
        let method = match self.method {
            Method::HEAD => "HEAD",
            _ => "GET",
        };
        let minor = u8::from(!self.is_http_10);
        let mut head = format!("{method} / HTTP/1.{minor}\r\n").into_bytes();
        head.extend_from_slice(&self.fields);
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Stands in a log for the method of a line that has none.
const NO_METHOD: &str = "-";

/// The well-formed ones of the fields that are kept, the first of each name.
fn kept<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut has_come = [false; KEPT.len()];
    for line in lines.take_while(|line| !matches!(line, [] | [b'\r'])) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = KEPT
            .iter()
            .position(|kept| kept.eq_ignore_ascii_case(&line[..colon]));
        let is_well_formed = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        if let Some(place) = name.and_then(|name| has_come.get_mut(name))
            && !*place
            && line.len() <= LONGEST_SHOWN
            && line.iter().all(is_well_formed)
        {
            *place = true;
            fields.extend_from_slice(line);
            fields.extend_from_slice(b"\r\n");
        }
    }
    fields
}

/// Notes a head that took so long from its first byte on, and that hyper has refused.
pub fn note(log: &AccessLog, ends: &Ends, took: Duration, error: &hyper::Error) {
    let status = status(error).as_u16();
    let request_id = &context::request_id(&HeaderMap::new(), false);
    tracing::warn!(%request_id, peer = ends.peer.map(tracing::field::display), status, %error, "request rejected: it cannot be read");
    let requests = METRICS.requests.at("").handled(HandledBy::Front);
    requests.answered(status);
    requests.duration.observe(took);
    METRICS.rejections.up("unreadable");
    if log.is_off() {
        return;
    }
    log.record(&Entry {
        remote: ends.peer_ip(),
        time: SystemTime::now(),
        method: "",
        target: b"",
        protocol: "",
        status,
        bytes: 0,
        referer: None,
        user_agent: None,
        user: None,
        host: None,
        request_id,
        duration: took,
        queue: None,
        app: None,
        worker: None,
        handled_by: HandledBy::Front,
    });
}

/// What hyper has answered (`proto/h1/role.rs`, `Server::on_error`). It tells the two kinds of
/// "too large" apart by their words alone.
fn status(error: &hyper::Error) -> StatusCode {
    match error.is_parse_too_large() {
        true if error.to_string().contains("URI") => StatusCode::URI_TOO_LONG,
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    }
}
