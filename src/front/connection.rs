//! One client connection: hyper as its server, its deadlines and its end.

pub mod lingering_close;
pub mod proxy_protocol;
pub mod stream;
pub mod timeouts;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Deadlines};
use super::client_limits::displacement::{Displaceable, WithoutRequest};
use super::client_limits::memory_budget;
use super::client_limits::memory_budget::Account;
use super::context::{Endpoints, Scheme};
use super::fast_path::FastPath;
use super::protocol::http2;
use super::protocol::limits::{MAX_HEAD, PARSER_LIMIT};
use super::request;
use super::request::unreadable;
use super::shutdown::Shutdown;
use super::site::{CurrentSite, Site};
use super::socket::Socket;
use crate::front::connection::proxy_protocol::{ProxyHeader, Unreadable};
use crate::front::connection::stream::Stream;
use crate::front::connection::timeouts::{LAST_REQUEST, Step, Timeouts};
use crate::observe::access_log::AccessLog;
use crate::observe::codes;

/// Concurrent requests on one HTTP/2 connection: nginx's default.
const MOST_STREAMS: u32 = 128;
/// Bytes of one HTTP/2 response that may wait in memory before its body is polled again: with all
/// streams 8 MiB per connection; hyper's default makes 50.
const SEND_BUFFER: usize = 64 << 10;
/// Window of each stream and of a connection: 20 MB/s over 50 ms.
/// [`received`](super::body::received) charges unread bytes to memory.
const WINDOW: u32 = 1 << 20;
/// Streams that a client may reset before they are accepted (CVE-2023-44487) until the connection
/// is closed: h2's default.
const MOST_RESETS: usize = 20;

/// Serves a connection until it ends or the server stops.
pub async fn serve(sites: Arc<CurrentSite>, mut socket: Socket, ends: Endpoints, stop: Shutdown) {
    let stop = stop.of_one();
    let site = sites.get();
    let deadlines = site.deadlines;
    let Some((ends, early)) = introduction(&site, &mut socket, ends, &deadlines, &stop).await
    else {
        return;
    };
    // A trusted proxy carries the connections of many clients.
    let address = ends.peer_ip().filter(|_| !ends.trusted);
    let Ok(guest) = site.connections.enter(address) else {
        return;
    };
    let account = Arc::new(match &guest {
        Some(guest) => Account::of_connection(Arc::clone(guest.account())),
        None => Account::of_address(),
    });
    let _base = account.hold(memory_budget::CONNECTION);
    let access_log = Arc::clone(&site.access_log);
    let activity = Arc::new(Activity::new(ends, deadlines.send).charged_to(account));
    let _listed = site
        .connections
        .listed
        .enter(&activity, address, stop.drain.clone());
    drop(site);
    let fast_path = FastPath::new(Arc::clone(&sites), stop.asked.clone());
    let (behind, mut left_behind) = oneshot::channel();
    let stream = Stream::new(socket, early, Arc::clone(&activity))
        .with_fast_path(fast_path)
        .leaving_behind(behind);
    converse(stream, sites, &activity, &deadlines, &access_log, &stop).await;
    if let Ok(socket) = left_behind.try_recv() {
        // Boxed: few connections linger, and every connection's task would be larger.
        Box::pin(lingering_close::linger(socket, &stop)).await;
    }
}

/// Serves requests until the end of the connection.
async fn converse(
    stream: Stream,
    sites: Arc<CurrentSite>,
    activity: &Arc<Activity>,
    deadlines: &Deadlines,
    access_log: &AccessLog,
    stop: &Shutdown,
) {
    let seen = Arc::clone(activity);
    let asked = stop.asked.clone();
    let service = tower::service_fn(move |request: http::Request<_>| {
        let version = request.version();
        let site = sites.get();
        let admitted = request::admission::admit(&site, &seen, request);
        // Boxed once: hyper and its layers move it several times.
        let answer =
            admitted.map(|admitted| Box::pin(request::answer(site, Arc::clone(&seen), admitted)));
        let asked = asked.clone();
        async move {
            let mut response = answer?.await?;
            set_persistence(&mut response, version, &asked);
            // hyper resets a stream with the code of an error of h2.
            Ok::<_, h2::Error>(response)
        }
    });
    let http = builder(activity.ends.trusted);
    let mut connection =
        pin!(http.serve_connection_with_upgrades(
            TokioIo::new(stream),
            TowerToHyperService::new(service)
        ));
    let mut timeouts = Timeouts::new(activity, deadlines);
    let mut timer = pin!(tokio::time::sleep(deadlines.shortest()));
    let mut stopping = false;
    loop {
        let step = tokio::select! {
            // The connection first: bytes that have arrived are read before it is closed.
            biased;
            // Cancel-safe: polled in place, never dropped before it ends.
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    note_end(access_log, activity, error.as_ref());
                }
                return;
            }
            // Cancel-safe: a timer.
            () = timer.as_mut() => timeouts.fired(),
            // Cancel-safe: the token stays cancelled.
            () = stop.drain.cancelled(), if !stopping => {
                stopping = true;
                timeouts.drained()
            }
            // Cancel-safe: the token stays cancelled.
            () = stop.cut.cancelled() => return,
        };
        let wait = match step {
            Step::Close => return,
            Step::Wait(time) => Some(time),
            Step::Finish(time) => {
                if !activity.end_after_fast_path() {
                    connection.as_mut().graceful_shutdown();
                }
                time
            }
        };
        if let Some(time) = wait {
            timer.as_mut().reset(tokio::time::Instant::now() + time);
        }
    }
}

/// hyper with the limits of a connection.
fn builder(is_trusted: bool) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new()).title_case_headers(true);
    http.http1()
        .header_read_timeout(None)
        .max_buf_size(PARSER_LIMIT);
    http.http2()
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(Some(MOST_STREAMS))
        .max_send_buf_size(SEND_BUFFER)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_pending_accept_reset_streams(Some(match is_trusted {
            // A trusted proxy carries the streams of many clients.
            true => usize::MAX,
            false => MOST_RESETS,
        }))
        // h2 counts them over the life of a connection; `http2::credit` limits their rate.
        .max_local_error_reset_streams(None);
    http
}

/// Announces the end of an HTTP/1 connection when the server stops, and keeps hyper from
/// contradicting our own announcement.
fn set_persistence<B>(response: &mut Response<B>, version: Version, asked: &CancellationToken) {
    if version <= Version::HTTP_11 && asked.is_cancelled() && response.status() != 101 {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if version == Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
        // Else hyper adds `keep-alive` to our `close` for a client that asked for it.
        *response.version_mut() = version;
    }
}

fn note_end(log: &AccessLog, activity: &Activity, error: &(dyn std::error::Error + 'static)) {
    let hypers = error.downcast_ref::<hyper::Error>();
    if let Some(broken) = hypers.and_then(broken_http2) {
        http2::log_end(activity.ends.peer, broken);
        return;
    }
    match hypers {
        Some(error) if error.is_parse() => {
            unreadable::note(log, &activity.ends, activity.unchanged_for(), error);
        }
        _ => tracing::debug!(peer = activity.ends.peer.map(display), %error, "connection ended"),
    }
}

/// The error with which h2 ended the connection, if it was the client's fault.
fn broken_http2(error: &hyper::Error) -> Option<&h2::Error> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let is_fault =
        error.is_go_away() && error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR);
    is_fault.then_some(error)
}

/// A connection whose PROXY header has not arrived.
#[derive(Debug)]
struct Unintroduced {
    since: Instant,
    displaced: AtomicBool,
}

impl Unintroduced {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            displaced: AtomicBool::new(false),
        }
    }
}

impl Displaceable for Unintroduced {
    fn without_request(&self) -> Option<WithoutRequest> {
        Some(WithoutRequest::Head(self.since.elapsed()))
    }

    fn displace(&self) {
        self.displaced.store(true, Ordering::Relaxed);
    }
}

/// The addresses of the peer, or those in a balancer's PROXY header; with the bytes that were
/// received after that header. `None`: the connection is closed.
async fn introduction(
    site: &Site,
    socket: &mut Socket,
    mut ends: Endpoints,
    deadlines: &Deadlines,
    stop: &Shutdown,
) -> Option<(Endpoints, Bytes)> {
    let mut early = Bytes::new();
    let mut is_known = true;
    if site.proxy_protocol.trusts(ends.peer_ip()) {
        let waiting = Arc::new(Unintroduced::new());
        let peer = ends.peer_ip();
        let _listed = site
            .connections
            .listed
            .enter(&waiting, peer, stop.drain.clone());
        let stopping = async {
            stop.drain.cancelled().await;
            if !waiting.displaced.load(Ordering::Relaxed) {
                tokio::time::sleep(LAST_REQUEST).await;
            }
        };
        let mut header = proxy_protocol::buffer();
        // Nothing is lost by dropping the branches that were too late: the connection ends.
        let read = tokio::select! {
            read = proxy_protocol::read_into(&mut header, socket) => read,
            () = tokio::time::sleep(deadlines.header) => Err(Unreadable::Late),
            () = stopping => return None,
            () = stop.cut.cancelled() => return None,
        };
        let origin = match read {
            Ok((origin, behind)) => {
                early = behind;
                origin
            }
            // A probe that sends nothing, however it ends.
            Err(error) if header.is_empty() || matches!(error, Unreadable::Io(_)) => {
                tracing::debug!(peer = ends.peer.map(display), %error, "connection ended");
                return None;
            }
            Err(error) => {
                tracing::warn!(code = codes::PROXY_HEADER, peer = ends.peer.map(display), %error, "connection closed: --proxy-protocol lists the peer, but its PROXY header cannot be read");
                return None;
            }
        };
        is_known = !matches!(origin, ProxyHeader::Unknown { .. });
        match origin {
            ProxyHeader::Proxy | ProxyHeader::Unknown { tls: false } => {}
            ProxyHeader::Unknown { tls: true } => ends.scheme = Scheme::Https,
            ProxyHeader::Client {
                source,
                destination,
                tls,
            } => {
                (ends.peer, ends.local) = (Some(source), Some(destination));
                if tls {
                    ends.scheme = Scheme::Https;
                }
            }
        }
    }
    // A client whose address is unknown is not the balancer, which may be trusted.
    ends.trusted = is_known && site.trust.trusts(ends.peer_ip());
    Some((ends, early))
}
