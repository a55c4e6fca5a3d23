//! Has an application answer, in workers of ours or in servers behind us: the body is read
//! to its end, the variables are built, the call is made.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{Response, request};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;

use super::accel::Accel;
use super::context::{Client, Facts, Identity};
use super::error::Rejection;
use super::received::Received;
use super::record::{Answer, Record};
use super::{compression, environ, internal};
use crate::config::LocationSettings;
use crate::front::activity::Activity;
use crate::front::body::Body;
use crate::front::connections::Network;
use crate::front::memory_budget::{Account, Resource, SMALL};
use crate::front::site::Site;
use crate::front::spelling::ETAG_AS_WRITTEN;
use crate::front::static_files;
use crate::front::upstream::response_body::{Buffering, ResponseBody};
use crate::front::upstream::response_spool::ResponseSpool;
use crate::front::upstream::workers::Pool;
use crate::front::upstream::{self, RequestBody, Upstream};
use crate::observe::access_log::HandledBy;

/// What is known about the request besides its head.
pub struct Asked<'a> {
    /// The connection.
    pub activity: &'a Activity,
    /// Who it is in the logs.
    pub identity: &'a Arc<Identity>,
    /// Who asks, and for which host.
    pub client: &'a Client,
    /// Decoded path at which the application is mounted; mostly empty.
    pub mount: &'a str,
    /// What is left of the path behind it, percent-encoded.
    pub path: &'a str,
}

/// Who is to answer.
#[derive(Clone, Copy)]
pub enum Answerer<'a> {
    /// Workers of ours.
    Workers(&'a Pool),
    /// Servers behind us.
    Servers(&'a Upstream),
}

impl Answerer<'_> {
    /// uwsgi knows no body whose length nobody has told.
    fn may_stream(&self, body: &Received) -> bool {
        !matches!(self, Self::Servers(Upstream::Uwsgi(_))) || body.size_hint().exact().is_some()
    }
}

/// Reads the body, calls the application, and makes a response of what it says.
///
/// # Errors
/// The [`Rejection`] that the client gets.
pub async fn answer(
    site: &Site,
    answerer: Answerer<'_>,
    settings: &LocationSettings,
    asked: &Asked<'_>,
    head: &request::Parts,
    body: Received,
    record: &mut Record,
) -> Result<Response<Body>, Rejection> {
    let has_body = !body.is_end_stream() || head.headers.contains_key(CONTENT_LENGTH);
    if asked.activity.limit_body(settings.max_body) {
        let limit = settings.max_body;
        return Err(Rejection::BodyTooLarge { limit });
    }
    let (body, _share) = match body.is_end_stream() {
        true => (RequestBody::Memory(Bytes::new()), None),
        false if !settings.request_buffering && answerer.may_stream(&body) => {
            // It may still be arriving when the application has answered.
            asked.activity.linger();
            let share = site.spool.share_of_stream(&asked.activity.account)?;
            let stream = site.spool.stream(body, settings)?;
            record.streams(stream.is_over());
            (RequestBody::Stream(Box::new(stream)), Some(share))
        }
        // Boxed: what every request is moved around with stays small.
        false => {
            let (body, share) =
                Box::pin(site.spool.read(body, settings, &asked.activity.account)).await?;
            (body, Some(share))
        }
    };
    let facts = Facts {
        ends: &asked.activity.ends,
        client: asked.client,
        mount: asked.mount,
        path: asked.path,
        request_id: &asked.identity.request_id,
        body_length: body.length().filter(|_| has_body),
    };
    let handed_over = Instant::now();
    let identity = Arc::clone(asked.identity);
    let by = match answerer {
        Answerer::Workers(_) => HandledBy::App,
        Answerer::Servers(_) => HandledBy::Upstream,
    };
    record.answered(Answer {
        by,
        ..Answer::default()
    });
    let mut response = match answerer {
        Answerer::Workers(pool) => {
            let message = environ::build(head, &facts)?;
            let origin = asked.client.address.map(Network::from);
            pool.call(upstream::Request { message, body }, identity, origin)
                .await?
        }
        // Boxed: what every request is moved around with stays small.
        Answerer::Servers(Upstream::Uwsgi(uwsgi)) => {
            let message = environ::build(head, &facts)?;
            Box::pin(uwsgi.call(upstream::Request { message, body }, identity)).await?
        }
        Answerer::Servers(Upstream::Http(http)) => {
            let links = asked.activity.private_links();
            Box::pin(http.call(head, &facts, body, links, identity)).await?
        }
    };
    let app = response.app_time;
    record.answered(Answer {
        by,
        worker: response.worker,
        // The head's app time began when a thread took the request.
        queue: Some(handed_over.elapsed().saturating_sub(app)),
        app: Some(app),
    });
    if let Some(switched) = response.switched.take() {
        // The client's end is ready when it has our answer.
        let client = head.extensions.get::<OnUpgrade>().cloned();
        switched.join(client.ok_or(Rejection::BadRequest("this connection cannot be upgraded"))?);
    }
    let may_ask_for_files = site.internal_files.is_some() || by == HandledBy::Upstream;
    // Without internal locations its own words about a file are for a proxy in front of us.
    let is_told = Accel::is_in(&response.headers)
        && (may_ask_for_files || !internal::is_asked_for(&response.headers));
    let accel = match is_told {
        true => Accel::take(&mut response.headers),
        false => Accel::default(),
    };
    if may_ask_for_files && let Some(wanted) = internal::Wanted::take(&mut response.headers) {
        // The worker's own body, usually empty, is dropped.
        let said = std::mem::take(&mut response.headers);
        let files = site.internal_files.as_ref();
        let mut file = Box::pin(internal::answer(files, &wanted, head, said)).await?;
        // The file's own entity tag replaces the application's.
        let spellings = with_etag(&response.spellings);
        site.spellings.apply(&spellings, file.extensions_mut());
        return Ok(accel.apply(file));
    }
    let buffering = accel.buffering.unwrap_or(settings.buffering);
    let account = &asked.activity.account;
    let response = from_upstream(site, settings, buffering, head, response, account).await?;
    Ok(accel.apply(response))
}

async fn from_upstream(
    site: &Site,
    settings: &LocationSettings,
    buffering: bool,
    head: &request::Parts,
    answer: Box<upstream::Response>,
    account: &Arc<Account>,
) -> Result<Response<Body>, Rejection> {
    let answer = *answer;
    let mut said = Response::new(());
    *said.status_mut() = answer.status;
    *said.headers_mut() = answer.headers;
    let reason = answer.reason.map(ReasonPhrase::try_from);
    if let Some(Ok(reason)) = reason {
        said.extensions_mut().insert(reason);
    }
    let mut spellings = answer.spellings;
    if answer.file.is_some() && !said.headers().contains_key(ETAG) {
        spellings = with_etag(&spellings);
    }
    site.spellings.apply(&spellings, said.extensions_mut());
    if let Some((file, piece)) = answer.file {
        // The worker is free already: the file goes the way of static files.
        let (method, asked) = (&head.method, &head.headers);
        let sent = static_files::handed_over(file, piece, method, asked, said, &site.files);
        let sent = Box::pin(sent).await.map_err(Rejection::Static)?;
        return Ok(sent.map(Body::from));
    }
    let body = Box::pin(with_room(answer.body, account, &site.response_spool)).await?;
    body.buffer(match buffering {
        true => Buffering::Spool(Arc::clone(&site.response_spool)),
        false => Buffering::Off,
    });
    let case = compression::Case {
        method: &head.method,
        asked: &head.headers,
        compression: &settings.compression,
        types: &site.compress_types,
    };
    Ok(compression::compress(&case, said, body, &site.encoders, account).await)
}

/// The body with its memory reserved: one that came whole waits as a whole for its client.
/// Without room it goes to a file.
///
/// # Errors
/// There is no room in either.
async fn with_room(
    body: ResponseBody,
    account: &Arc<Account>,
    spool: &Arc<ResponseSpool>,
) -> Result<ResponseBody, Rejection> {
    let Some(bytes) = body.as_whole().filter(|bytes| bytes.len() > SMALL) else {
        return Ok(body);
    };
    let bytes = bytes.clone();
    match account.try_reserve(Resource::Memory, bytes.len()) {
        Some(reservation) => Ok(ResponseBody::whole(reservation.around(bytes))),
        None => ResponseBody::in_file(bytes, spool)
            .await
            .ok_or(Rejection::NoMemory),
    }
}

/// These spellings, and that of an entity tag of ours.
fn with_etag(spellings: &[Bytes]) -> Vec<Bytes> {
    let is_other = |name: &&Bytes| !name.eq_ignore_ascii_case(&ETAG_AS_WRITTEN);
    let others = spellings.iter().filter(is_other).cloned();
    others.chain([ETAG_AS_WRITTEN]).collect()
}

impl RequestBody {
    /// Its length in bytes; `None` if only its end will tell.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
            Self::Stream(stream) => stream.length,
        }
    }
}
