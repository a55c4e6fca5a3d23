//! What happens to every request, written once, in order:
//!
//! 1. [`context`]: it gets an id; [`forwarded`]: what the client may not say for itself is
//!    removed, and the client found whom trusted proxies name; [`record`] begins its line in
//!    the access log;
//! 2. [`rate_limit`], [`limits`]: an address that asks too often and a head that breaks a rule
//!    go no further;
//! 3. [`router`]: the location of its path; [`files`]: a file that comes before it;
//! 4. [`application`]: [`spool`] reads the body to its end, [`environ`] builds the CGI
//!    variables, the upstream answers, if need be with a file to send
//!    ([`internal`]), and says what to do with it ([`accel`]);
//! 5. [`error`] turns what went wrong into a page;
//! 6. the response gets its last header fields.
//!
//! Requests for files in memory take a shorter way ([`at_once`]), by the same steps.

pub mod accel;
pub mod application;
pub mod at_once;
pub mod compression;
pub mod context;
pub mod environ;
pub mod error;
pub mod files;
pub mod fixed;
pub mod forwarded;
pub mod internal;
pub mod limits;
pub mod plain;
pub mod rate_limit;
pub mod record;
pub mod router;
pub mod spool;
pub mod unreadable;

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, SERVER, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;

use self::application::{Answerer, Asked};
use self::context::{Client, Identity, Target};
use self::error::Rejection;
use self::record::{Answer, BodyRead, Record, RecordedBody};
use self::router::Handler;
use super::activity::{Activity, InUse};
use super::admin::Probes;
use super::body::Body;
use super::site::Site;
use crate::observe::access_log::HandledBy;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers one request.
pub async fn answer(
    site: Arc<Site>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Response<RecordedBody> {
    let in_use = InUse::begin(&activity, request.version());
    let ends = activity.ends;
    let (mut head, body) = request.into_parts();
    activity.hyper_began(framed_length(&head, &body));
    let identity = Arc::new(Identity {
        request_id: context::request_id(&head.headers, ends.trusted),
        method: head.method.clone(),
        target: Target(
            head.uri
                .path_and_query()
                .map_or("*", |target| target.as_str())
                .to_owned(),
        ),
    });
    let mut client = forwarded::resolve(
        &mut head.headers,
        head.uri.authority().map(Authority::as_str),
        &ends,
        &site.trust,
    );
    let mut record = Record::begin(
        &site.access_log,
        &identity,
        &client,
        head.version,
        &head.headers,
    );
    let unread = !body.is_end_stream();
    let answered = {
        // Pinned here: an argument that is awaited inside would take its room twice.
        let routed = pin!(route(
            &site,
            &activity,
            &identity,
            &mut client,
            &mut head,
            body,
            &mut record,
        ));
        without_panic(routed).await
    };
    let mut response = answered.unwrap_or_else(|rejection| rejection.into_response(&identity));
    finish(&site, &head, &identity, &mut response);
    if unread && head.version < Version::HTTP_2 {
        end_behind_unread(&activity, record.body_read(), &mut response).await;
    }
    if unread && response.headers().get(CONNECTION).is_some() {
        activity.linger();
    }
    let (parts, mut body) = response.into_parts();
    if head.version != Version::HTTP_2 {
        // Last, when nothing will look at the body's bytes any more: from here on they are
        // stand-ins. HTTP/2 cuts bodies into frames, for which it needs the bytes.
        body.send_by(&activity.outbox);
    }
    let body = record.follow(parts.status, body, in_use);
    Response::from_parts(parts, body)
}

async fn route(
    site: &Site,
    activity: &Activity,
    identity: &Arc<Identity>,
    client: &mut Client,
    head: &mut request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<Body>, Rejection> {
    if let (Some(limit), Some(address)) = (&site.rate_limit, client.address) {
        limit
            .admit(address)
            .map_err(|wait| Rejection::TooManyRequests { wait })?;
    }
    let host = limits::check(head)?;
    if client.host.is_empty() {
        client.host = host;
    }
    let target = head
        .uri
        .path_and_query()
        .map_or("*", |target| target.as_str());
    let route = site.router.find(target);
    if let (Some(probes), Some(probe)) = (&site.probes, Probes::on_main(target)) {
        let said = probes.say(probe, &head.method, &head.headers).await;
        return Ok(said.map(Body::Full));
    }
    let otherwise = route.map(|(route, _)| route);
    let by_file = match files::answer(site, otherwise, head, target, record) {
        Some(answering) => answering.await,
        None => None,
    };
    if let Some(answer) = by_file {
        record.answered(Answer {
            by: HandledBy::Static,
            ..Answer::default()
        });
        return answer.map_err(|rejection| rejection.below(&client.prefix));
    }
    let Some((route, rest)) = route else {
        return Err(Rejection::NotFound);
    };
    record.located(route.prefix.as_str());
    let (mount, path) = route.mount(head.uri.path(), rest);
    let asked = Asked {
        activity,
        identity,
        client,
        mount,
        path,
    };
    match &route.handler {
        Handler::App(workers) => {
            let by = Answerer::Workers(workers);
            application::answer(site, by, &route.settings, &asked, head, body, record).await
        }
        Handler::Upstream(servers) => {
            let by = Answerer::Servers(servers);
            application::answer(site, by, &route.settings, &asked, head, body, record).await
        }
        Handler::Redirect(redirect) => Ok(fixed::redirect(redirect, rest)),
        Handler::Respond(fixed) => Ok(fixed.answer()),
    }
}

/// How many bytes the client sends behind the head, where that is known from the start.
fn framed_length(head: &request::Parts, body: &Incoming) -> Option<u64> {
    let is_told = head.version < Version::HTTP_2 && !head.headers.contains_key(UPGRADE);
    is_told.then(|| body.size_hint().exact()).flatten()
}

/// RFC 9112 §9.3: what is left of a request's body is read, or the connection closed, and then
/// §9.6 wants that announced.
async fn end_behind_unread(activity: &Activity, body: BodyRead, response: &mut Response<Body>) {
    let is_announced = response.headers().contains_key(CONNECTION);
    match body {
        BodyRead::Unwanted if !is_announced => {
            // hyper notices a dropped body when it is polled: a rest that is here already it
            // reads, and otherwise it announces the end itself.
            activity.linger();
            tokio::task::yield_now().await;
        }
        BodyRead::Begun if !is_announced => {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        _ => {}
    }
}

/// The fields that every response has. `Date` is hyper's; [`at_once`] writes the same.
fn finish(site: &Site, head: &request::Parts, identity: &Identity, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    set_if_absent(headers, X_REQUEST_ID, || {
        HeaderValue::from_str(&identity.request_id).ok()
    });
    if site.server_header {
        set_if_absent(headers, SERVER, || {
            Some(HeaderValue::from_static("pyserve"))
        });
    }
    if head.version == Version::HTTP_2 {
        headers.remove(CONNECTION);
    } else if site.connections.is_full() && !headers.contains_key(CONNECTION) {
        // Others wait for this one's place.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    } else if head.headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112 §6.1: a Content-Length beside Transfer-Encoding may be an attempt at
        // smuggling. hyper has dropped it by now and does not tell; closing after every
        // chunked request leaves nothing behind it to be smuggled.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn set_if_absent(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: impl FnOnce() -> Option<HeaderValue>,
) {
    if !headers.contains_key(&name)
        && let Some(value) = value()
    {
        headers.insert(name, value);
    }
}

/// A panic costs the request in which it happens, and nothing else.
async fn without_panic(
    mut work: Pin<&mut impl Future<Output = Result<Response<Body>, Rejection>>>,
) -> Result<Response<Body>, Rejection> {
    std::future::poll_fn(|context| {
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        poll.unwrap_or_else(|panic| {
            let words = panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned());
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Err(Rejection::Panic(words.unwrap_or_default())))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    fn size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// It is allocated and moved for every request: 6.7 KiB cost a hello request 1 µs.
    #[test]
    fn what_a_request_keeps_while_it_waits_stays_small() {
        let size = size(super::answer);
        assert!(size <= 4096, "{size} bytes");
    }
}
