//! Runs a request in an application, in workers or on upstream servers: reads the body, builds the
//! variables, makes the call.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{Response, request};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;

use super::accel::Accel;
use super::ended::Answer;
use super::record::Record;
use super::{compression, environ, internal};
use crate::config::LocationSettings;
use crate::front::activity::Activity;
use crate::front::body::Body;
use crate::front::body::received::Received;
use crate::front::body::request::RequestBody;
use crate::front::body::response_spool::ClientSpool;
use crate::front::body::response_stream::{Buffering, ResponseBody};
use crate::front::client_limits::memory_budget::{Account, Resource, SMALL};
use crate::front::client_limits::network::Network;
use crate::front::context::{Client, RequestFacts, RequestLabel};
use crate::front::error::Rejection;
use crate::front::header_case::ETAG_AS_WRITTEN;
use crate::front::site::Site;
use crate::front::static_files::{self, Content};
use crate::front::upstream::workers::Pool;
use crate::front::upstream::{self, Upstream};
use crate::observe::handled_by::HandledBy;

/// The facts about a request besides its head.
pub struct Asked<'a> {
    /// The connection.
    pub activity: &'a Activity,
    /// The request's label in the logs.
    pub identity: &'a Arc<RequestLabel>,
    /// The client and the host that it requests.
    pub client: &'a Client,
    /// Decoded path at which the application is mounted; usually empty.
    pub mount: &'a str,
    /// The rest of the path behind the mount, percent-encoded.
    pub path: &'a str,
    /// True if that is the normal form, by the settings.
    pub normal_path: bool,
    /// Variables of the location besides those of every request.
    pub variables: &'a [(String, OsString)],
}

/// The upstream that answers.
#[derive(Clone, Copy)]
pub enum Answerer<'a> {
    /// Our own workers.
    Workers(&'a Pool),
    /// Upstream servers.
    Servers(&'a Upstream),
}

impl Answerer<'_> {
    /// The uwsgi protocol has no body of unknown length.
    fn may_stream(&self, body: &Received) -> bool {
        !matches!(self, Self::Servers(Upstream::Uwsgi(_))) || body.size_hint().exact().is_some()
    }

    fn handled_by(&self) -> HandledBy {
        match self {
            Self::Workers(_) => HandledBy::App,
            Self::Servers(_) => HandledBy::Upstream,
        }
    }
}

/// Reads the body, calls the application, and makes its reply a response.
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
            // The body may still be arriving when the application has answered.
            asked.activity.linger();
            let share = site.spool.share_of_stream(&asked.activity.account)?;
            let stream = site.spool.stream(body, settings)?;
            record.streams(stream.is_over());
            (RequestBody::Stream(Box::new(stream)), Some(share))
        }
        // Boxed: keeps the future of every request small.
        false => {
            let (body, share) =
                Box::pin(site.spool.read(body, settings, &asked.activity.account)).await?;
            (body, Some(share))
        }
    };
    let mut response = call(answerer, asked, head, body, has_body, record).await?;
    if let Some(switched) = response.switched.take() {
        // The client's end of the tunnel is ready after our response.
        let client = head.extensions.get::<OnUpgrade>().cloned();
        switched.join(client.ok_or(Rejection::BadRequest("this connection cannot be upgraded"))?);
    }
    let may_ask_for_files =
        site.internal_files.is_some() || answerer.handled_by() == HandledBy::Upstream;
    // Without internal locations, `X-Accel-*` fields beside a file are meant for a proxy in front
    // of us.
    let is_told = Accel::is_in(&response.headers)
        && (may_ask_for_files || !internal::is_asked_for(&response.headers));
    let accel = match is_told {
        true => Accel::take(&mut response.headers),
        false => Accel::default(),
    };
    if may_ask_for_files && let Some(wanted) = internal::InternalTarget::take(&mut response.headers)
    {
        // The worker's own body, usually empty, is dropped.
        let said = std::mem::take(&mut response.headers);
        let internal = site.internal_files.as_ref();
        let mut file = Box::pin(internal::answer(internal, &wanted, head, said)).await?;
        // The file's own entity tag replaces the application's.
        let header_case = with_etag(&response.header_case);
        site.header_case.apply(&header_case, file.extensions_mut());
        return Ok(accel.apply(file));
    }
    let buffering = accel.buffering.unwrap_or(settings.buffering);
    let account = &asked.activity.account;
    let response = from_upstream(site, settings, buffering, head, response, account).await?;
    Ok(accel.apply(response))
}

/// Passes the request on and waits for its response.
async fn call(
    answerer: Answerer<'_>,
    asked: &Asked<'_>,
    head: &request::Parts,
    body: RequestBody,
    has_body: bool,
    record: &mut Record,
) -> Result<Box<upstream::Response>, Rejection> {
    let facts = RequestFacts {
        ends: &asked.activity.ends,
        tls: asked.activity.tls.as_deref(),
        client: asked.client,
        mount: asked.mount,
        path: asked.path,
        normal_path: asked.normal_path,
        request_id: &asked.identity.request_id,
        body_length: body.length().filter(|_| has_body),
        variables: asked.variables,
    };
    let handed_over = Instant::now();
    let identity = Arc::clone(asked.identity);
    let account = &asked.activity.account;
    let by = answerer.handled_by();
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
        // Boxed: keeps the future of every request small.
        Answerer::Servers(Upstream::Uwsgi(uwsgi)) => {
            let message = environ::build(head, &facts)?;
            let (request, client) = (upstream::Request { message, body }, asked.client.address);
            Box::pin(uwsgi.call(request, identity, account, client)).await?
        }
        Answerer::Servers(Upstream::Http(http)) => {
            let links = asked.activity.private_links();
            Box::pin(http.call(head, &facts, body, links, identity, account)).await?
        }
    };
    let app = response.app_time;
    record.answered(Answer {
        by,
        worker: response.worker,
        // The app time in the response's head counts from when a thread took the request.
        queue: Some(handed_over.elapsed().saturating_sub(app)),
        app: Some(app),
        log_vars: response.log_vars.take(),
    });
    Ok(response)
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
    let mut header_case = answer.header_case;
    if answer.file.is_some() && !said.headers().contains_key(ETAG) {
        header_case = with_etag(&header_case);
    }
    site.header_case.apply(&header_case, said.extensions_mut());
    let mut body = answer.body;
    if let Some((file, piece)) = answer.file {
        // The worker is free already: the file is sent as static files are.
        let (method, asked) = (&head.method, &head.headers);
        let sent = static_files::handed_over(file, piece, method, asked, said, &site.files);
        let (parts, content) = Box::pin(sent)
            .await
            .map_err(Rejection::Static)?
            .into_parts();
        said = Response::from_parts(parts, ());
        body = match content {
            Content::Bytes(bytes) => ResponseBody::whole(bytes),
            // HEAD and 304 have the fields of the GET.
            Content::Empty if piece.length <= static_files::IN_ONE_READ => body,
            content => return Ok(said.map(|()| content.into())),
        };
    }
    let body = match body.as_whole() {
        // The usual response; the rest of this would cost an allocation and four atomic counts.
        Some(bytes) if bytes.len() <= SMALL => body,
        // Boxed: keeps the future of every request small.
        _ => Box::pin(buffered(site, buffering, body, account)).await?,
    };
    let case = compression::Case {
        method: &head.method,
        asked: &head.headers,
        compression: &settings.compression,
        types: &site.compress_types,
    };
    Ok(compression::compress(&case, said, body, &site.encoders, account).await)
}

/// The body with its memory reserved and its buffering set: a complete body waits in memory for its
/// client, or in a file where there is no room.
///
/// # Errors
/// There is no room in either.
async fn buffered(
    site: &Site,
    buffering: bool,
    body: ResponseBody,
    account: &Arc<Account>,
) -> Result<ResponseBody, Rejection> {
    let spool = ClientSpool {
        spool: Arc::clone(&site.response_spool),
        account: Arc::clone(account),
    };
    let body = match body.as_whole().cloned() {
        None => body,
        Some(bytes) => match account.try_reserve(Resource::Memory, bytes.len()) {
            Some(reservation) => ResponseBody::whole(reservation.around(bytes)),
            None => ResponseBody::in_file(bytes, spool.clone())
                .await
                .ok_or(Rejection::NoMemory)?,
        },
    };
    body.buffer(match buffering {
        true => Buffering::Spool(spool),
        false => Buffering::Off,
    });
    Ok(body)
}

/// These names, and that of the entity tag added here.
fn with_etag(header_case: &[Bytes]) -> Vec<Bytes> {
    let is_other = |name: &&Bytes| !name.eq_ignore_ascii_case(&ETAG_AS_WRITTEN);
    let others = header_case.iter().filter(is_other).cloned();
    others.chain([ETAG_AS_WRITTEN]).collect()
}

impl RequestBody {
    /// The length in bytes; `None` if it is not known in advance.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
            Self::Stream(stream) => stream.length,
        }
    }
}
