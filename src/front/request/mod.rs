//! What happens to every request, written once, in order:
//!
//! 1. [`context`]: it gets an id, and [`record`] begins its line in the access log;
//! 2. [`limits`]: a head that breaks a rule goes no further;
//! 3. [`forwarded`]: what the client may not say for itself is removed;
//! 4. the router: a static location, unless it leaves the path to the application; else
//!    the application;
//! 5. [`spool`]: the body is read to its end; [`environ`]: the CGI variables are built;
//! 6. the upstream answers, if need be with a file to send ([`internal`]), or [`error`] turns
//!    its failure into a page;
//! 7. the response gets its last header fields.

pub mod context;
pub mod environ;
pub mod error;
pub mod files;
pub mod forwarded;
pub mod internal;
pub mod limits;
pub mod record;
pub mod spool;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, SERVER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;

use self::context::{Ends, Identity, Target};
use self::error::Rejection;
use self::record::{Answer, Record, RecordedBody};
use super::activity::{Activity, InUse};
use super::body::Body;
use super::site::Site;
use super::static_files;
use super::upstream::{self, RequestBody};
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
    let mut record = Record::begin(
        &site.access_log,
        &identity,
        &ends,
        head.version,
        &head.headers,
    );
    let unread = !body.is_end_stream();
    let answered =
        without_panic(route(&site, &ends, &identity, &mut head, body, &mut record)).await;
    let mut response = answered.unwrap_or_else(|rejection| rejection.into_response(&identity));
    finish(&site, &head, &identity, &mut response);
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
    ends: &Ends,
    identity: &Arc<Identity>,
    head: &mut request::Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<Body>, Rejection> {
    let host = limits::check(head)?;
    forwarded::strip(&mut head.headers, ends.trusted);
    let target = head
        .uri
        .path_and_query()
        .map_or("*", |target| target.as_str());
    let by_file = match files::answer(site, head, target) {
        Some(answering) => answering.await,
        None => None,
    };
    if let Some(answer) = by_file {
        record.answered(Answer {
            by: HandledBy::Static,
            ..Answer::default()
        });
        return answer;
    }
    let Some(workers) = &site.workers else {
        return Err(Rejection::NotFound);
    };
    let has_body = !body.is_end_stream() || head.headers.contains_key(CONTENT_LENGTH);
    let body = match body.is_end_stream() {
        true => RequestBody::Memory(Bytes::new()),
        // Boxed: what every request is moved around with stays small.
        false => Box::pin(site.spool.read(body)).await?,
    };
    let facts = environ::Facts {
        ends,
        host: &host,
        request_id: &identity.request_id,
        body_length: has_body.then(|| body.length()),
    };
    let message = environ::build(head, &facts)?;
    let handed_over = Instant::now();
    let call = workers.call(upstream::Request { message, body }, Arc::clone(identity));
    record.answered(Answer {
        by: HandledBy::App,
        ..Answer::default()
    });
    let mut response = call.await?;
    let app = response.app_time;
    record.answered(Answer {
        by: HandledBy::App,
        worker: Some(response.worker),
        // The head's app time began when a thread took the request.
        queue: (!site.access_log.is_off()).then(|| handed_over.elapsed().saturating_sub(app)),
        app: Some(app),
    });
    if let Some(files) = &site.internal_files
        && let Some(wanted) = internal::Wanted::take(&mut response.headers)
    {
        // The worker's own body, usually empty, is dropped.
        let said = std::mem::take(&mut response.headers);
        return Box::pin(internal::answer(files, &wanted, head, said)).await;
    }
    from_upstream(site, head, *response).await
}

async fn from_upstream(
    site: &Site,
    head: &request::Parts,
    answer: upstream::Response,
) -> Result<Response<Body>, Rejection> {
    let mut said = Response::new(());
    *said.status_mut() = answer.status;
    *said.headers_mut() = answer.headers;
    let reason = answer.reason.map(ReasonPhrase::try_from);
    if let Some(Ok(reason)) = reason {
        said.extensions_mut().insert(reason);
    }
    site.spellings
        .apply(&answer.spellings, said.extensions_mut());
    if let Some((file, piece)) = answer.file {
        // The worker is free already: the file goes the way of static files.
        let (method, asked) = (&head.method, &head.headers);
        let sent = static_files::handed_over(file, piece, method, asked, said, &site.files);
        let sent = Box::pin(sent).await.map_err(Rejection::Static)?;
        return Ok(sent.map(Body::from));
    }
    let is_unsaid = head.method == Method::HEAD && !said.headers().contains_key(CONTENT_LENGTH);
    let body = match is_unsaid {
        true => Body::Unsaid,
        false => Body::Upstream(answer.body),
    };
    Ok(said.map(|()| body))
}

/// The fields that every response has. `Date` is hyper's.
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
    work: impl Future<Output = Result<Response<Body>, Rejection>>,
) -> Result<Response<Body>, Rejection> {
    let mut work = pin!(work);
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

impl RequestBody {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}
