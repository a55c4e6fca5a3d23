//! A head that hyper refuses although [`framing`](crate::front::protocol::framing) has accepted it:
//! hyper answers with a bare status and makes no request of it, so its log lines are written here.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::ended::{Answer, Ended};
use crate::front::activity::Activity;
use crate::front::context;
use crate::observe::access_log::AccessLog;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::refusals::{self, Logged};

/// Logs a head that hyper has refused.
pub fn note(log: &AccessLog, activity: &Activity, error: &hyper::Error) {
    let (ends, took) = (&activity.ends, activity.unchanged_for());
    let status = status(error).as_u16();
    let request_id = &context::request_id(&HeaderMap::new(), false);
    let ended = Ended {
        remote: ends.peer_ip(),
        time: SystemTime::now(),
        method: b"",
        target: b"",
        protocol: "",
        tls: activity.tls.as_ref().map(|tls| tls.session()),
        status,
        bytes: 0,
        authorization: None,
        host: None,
        referer: None,
        user_agent: None,
        request_id,
        duration: took,
        sending: None,
        answer: &Answer::default(),
    };
    ended.count(METRICS.requests.at(""));
    METRICS.rejections.up("unreadable");
    if refusals::refused(ends.peer_ip()) != Logged::Line {
        return;
    }
    tracing::warn!(code = codes::MALFORMED, %request_id, peer = ends.peer.map(tracing::field::display), status, %error, "request rejected: it cannot be read");
    ended.log(log);
}

/// The status that hyper has sent (`proto/h1/role.rs`, `Server::on_error`). It distinguishes the
/// two kinds of "too large" by their texts only.
fn status(error: &hyper::Error) -> StatusCode {
    match error.is_parse_too_large() {
        true if error.to_string().contains("URI") => StatusCode::URI_TOO_LONG,
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    }
}
