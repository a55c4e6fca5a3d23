//! Memory for each request, reserved before its future is allocated.
//!
//! A request without room in the memory budget gets a 503. A client of HTTP/2 can leave such pages
//! unread on all of its streams, where each takes as much memory as a small response. So a
//! connection has few of them ([`unsent_streams`](crate::front::client_limits::unsent_streams)); its
//! further streams are reset with REFUSED_STREAM. RFC 9113 §8.7: no processing has occurred, and the client may
//! retry any of these requests.
//!
//! Malformed requests, whose stand-ins come here too, take memory for their page alone.

use std::sync::Arc;

use http::uri::Authority;
use http::{Request, StatusCode, Version, request};
use hyper::body::Incoming;

use super::record::Record;
use crate::front::activity::{Activity, InUse};
use crate::front::client_limits::memory_budget::SMALL;
use crate::front::context::{self, RequestLabel, Target};
use crate::front::error::Rejection;
use crate::front::protocol::refused::Refused;
use crate::front::protocol::{forwarded, limits};
use crate::front::site::Site;
use crate::observe::refusals::{self, Logged};

/// A request that gets a response.
pub struct Admitted {
    /// The request's head.
    pub head: request::Parts,
    /// The request's body.
    pub body: Incoming,
    /// Set for a request that was refused for its head.
    pub refused: Option<Refused>,
    /// The request's part of its connection, with the reserved memory.
    pub in_use: InUse,
    /// False if the response is the error page for want of memory.
    pub has_memory: bool,
}

/// Reserves memory for `request`.
///
/// # Errors
/// The reset of the stream, if there is no memory for an error page either.
pub fn admit(
    site: &Site,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Admitted, h2::Error> {
    let mut in_use = InUse::begin(activity, request.version());
    let (head, body) = request.into_parts();
    let refused = activity.refused.take(&head);
    let is_http2 = head.version == Version::HTTP_2;
    let wanted = match (&refused, is_http2) {
        (None, _) => limits::memory(&head),
        (Some(_), true) => SMALL,
        // Part of the memory of its connection.
        (Some(_), false) => 0,
    };
    let has_memory = in_use.reserve(wanted);
    if has_memory || !is_http2 || in_use.add_page() {
        return Ok(Admitted {
            head,
            body,
            has_memory: has_memory || refused.is_some(),
            refused,
            in_use,
        });
    }
    activity.refused.resets_stream();
    note(site, activity, head, refused);
    Err(h2::Reason::REFUSED_STREAM.into())
}

/// The label of a request.
pub fn label(head: &request::Parts, refused: Option<&Refused>, is_trusted: bool) -> RequestLabel {
    let label = match refused {
        Some(refused) => refused.identity(),
        None => {
            let target = head.uri.path_and_query();
            let target = target.map_or("*", |target| target.as_str());
            RequestLabel {
                method: head.method.clone(),
                target: Target(target.to_owned()),
                ..RequestLabel::default()
            }
        }
    };
    RequestLabel {
        request_id: context::request_id(&head.headers, is_trusted),
        ..label
    }
}

/// Counts and logs a request whose stream is refused.
fn note(site: &Site, activity: &Activity, mut head: request::Parts, refused: Option<Refused>) {
    let ends = &activity.ends;
    let identity = Arc::new(label(&head, refused.as_ref(), ends.trusted));
    let authority = head.uri.authority().map(Authority::as_str);
    let client = forwarded::resolve(&mut head.headers, authority, ends, &site.trust);
    let log = &site.access_log;
    let mut record = Record::begin(log, &identity, &client, &head);
    record.ends(StatusCode::SERVICE_UNAVAILABLE);
    if refused.is_some() && refusals::refused(client.address) != Logged::Line {
        record.leave_unlogged();
    }
    Rejection::NoMemory.note(StatusCode::SERVICE_UNAVAILABLE, &identity, true);
}
