//! The end of a request: its line in the access log and its metrics, for both paths that answer
//! requests.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::observe::access_log::{AccessLog, AccessLogEntry, LogVars, TlsSession};
use crate::observe::handled_by::HandledBy;
use crate::observe::metrics::LocationMetrics;

/// The part of the log line that describes the component that answered.
#[derive(Default)]
pub struct Answer {
    /// The component.
    pub by: HandledBy,
    /// The worker, if one ran it.
    pub worker: Option<u32>,
    /// Time from the request's arrival until a worker thread took it.
    pub queue: Option<Duration>,
    /// Time in the application.
    pub app: Option<Duration>,
    /// Variables that the application has set for the log line.
    pub log_vars: Option<Box<LogVars>>,
}

impl Answer {
    /// By this component, without a worker.
    pub fn by(by: HandledBy) -> Self {
        Self {
            by,
            ..Self::default()
        }
    }
}

/// A request that has ended, with its response.
pub(super) struct Ended<'a> {
    /// The client's address.
    pub(super) remote: Option<IpAddr>,
    /// The time shown in the log line.
    pub(super) time: SystemTime,
    /// The method as it was sent.
    pub(super) method: &'a [u8],
    /// The target as it was sent.
    pub(super) target: &'a [u8],
    /// `HTTP/1.1`; empty if no request could be parsed.
    pub(super) protocol: &'a str,
    /// The client's TLS session, if there is one.
    pub(super) tls: Option<TlsSession>,
    /// The status of the response.
    pub(super) status: u16,
    /// Bytes of the response's body sent.
    pub(super) bytes: u64,
    /// The `Authorization` field.
    pub(super) authorization: Option<&'a [u8]>,
    /// The `Host` field.
    pub(super) host: Option<&'a [u8]>,
    /// The `Referer` field.
    pub(super) referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub(super) user_agent: Option<&'a [u8]>,
    /// The request's id.
    pub(super) request_id: &'a str,
    /// The time since the request's head was complete.
    pub(super) duration: Duration,
    /// The time since the first byte of the response was sent, if any was.
    pub(super) sending: Option<Duration>,
    /// The component that answered.
    pub(super) answer: &'a Answer,
}

impl Ended<'_> {
    /// Adds the request to the metrics of its location.
    pub(super) fn count(&self, place: &LocationMetrics) {
        let requests = place.handled(self.answer.by);
        requests.answered(self.status);
        requests.bytes.add(self.bytes);
        requests.duration.observe(self.duration);
        if let Some(sending) = self.sending {
            requests.send.observe(sending);
        }
        if let (Some(queue), Some(app)) = (self.answer.queue, self.answer.app) {
            requests.queue.observe(queue);
            requests.app.observe(app);
        }
    }

    /// Writes the log line.
    pub(super) fn log(&self, log: &AccessLog) {
        if log.is_off() {
            return;
        }
        log.record(&AccessLogEntry {
            remote: self.remote,
            time: self.time,
            method: self.method,
            target: self.target,
            protocol: self.protocol,
            tls: self.tls,
            status: self.status,
            bytes: self.bytes,
            user: self.authorization.and_then(basic_user).as_deref(),
            host: self.host,
            referer: self.referer,
            user_agent: self.user_agent,
            request_id: self.request_id,
            duration: self.duration,
            queue: self.answer.queue,
            app: self.answer.app,
            worker: self.answer.worker,
            handled_by: self.answer.by,
            log_vars: self.answer.log_vars.as_deref().map_or(&[], Vec::as_slice),
        });
    }
}

/// The user name of the Basic scheme (RFC 7617), which nginx logs as `$remote_user`.
fn basic_user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = str::from_utf8(authorization).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    user.truncate(user.iter().position(|byte| *byte == b':')?);
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_basic_authorization_is_found() {
        for (value, expected) in [
            ("Basic dXNlcjpwYXNz", Some(&b"user"[..])),
            ("basic dXNlcjo=", Some(b"user")),
            ("Bearer dXNlcjpwYXNz", None),
            ("Basic dXNlcg==", None),
            ("Basic !", None),
        ] {
            let user = basic_user(value.as_bytes());
            assert_eq!(user.as_deref(), expected, "{value}");
        }
    }
}
