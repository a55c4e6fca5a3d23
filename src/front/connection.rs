//! One client connection: hyper on our side of it, and what ends it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;

use super::activity::{Activity, Deadlines, Overdue};
use super::express::Express;
use super::http2;
use super::lingering;
use super::memory_budget::{self, Account};
use super::proxy_protocol::{self, Origin, Unreadable};
use super::request;
use super::request::context::{Ends, Scheme};
use super::request::limits::{MAX_HEAD, PARSER_LIMIT};
use super::request::unreadable;
use super::site::{CurrentSite, Site};
use super::socket::Socket;
use super::stop::Stop;
use super::stream::Stream;
use crate::observe::access_log::AccessLog;

/// How long connections over HTTP/1 may still bring a request when the server stops: it may be
/// on its way, or in the kernel already. Like nginx's `keepalive_min_timeout`.
const LAST_REQUEST: Duration = Duration::from_millis(250);

/// Requests at a time on one connection of HTTP/2: nginx's default.
const MOST_STREAMS: u32 = 128;
/// What one response of HTTP/2 may have waiting in memory before its body is asked for more:
/// with all streams 8 MiB a connection, where hyper's own number makes 50.
const SEND_BUFFER: usize = 64 << 10;
/// What a client may send ahead, on one stream and on all of a connection: 20 MB/s over 50 ms.
/// It is memory that [`request::received`] charges while nothing reads it.
const WINDOW: u32 = 1 << 20;
/// Streams that a client may have reset before we have looked at them (CVE-2023-44487) until
/// the connection is given up: h2's own number.
const MOST_RESETS: usize = 20;

/// Serves a connection until it ends or is asked to.
pub async fn serve(sites: Arc<CurrentSite>, mut socket: Socket, ends: Ends, stop: Stop) {
    let stop = stop.of_one();
    let site = sites.get();
    let deadlines = site.deadlines;
    let Some((ends, early)) = introduction(&site, &mut socket, ends, &deadlines, &stop).await
    else {
        return;
    };
    // A proxy of ours brings the connections of many.
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
    let _listed = site.connections.list(&activity, stop.drain.clone());
    drop(site);
    let express = Express::new(Arc::clone(&sites), stop.asked.clone());
    let (behind, mut left_behind) = oneshot::channel();
    let stream = Stream::new(socket, early, Arc::clone(&activity))
        .with_express(express)
        .leaving_behind(behind);
    converse(stream, sites, &activity, &deadlines, &access_log, &stop).await;
    if let Ok(socket) = left_behind.try_recv() {
        // Boxed: few connections come here, and all would have room for it.
        Box::pin(lingering::linger(socket, &stop)).await;
    }
}

/// Requests and responses, until the end of the connection.
async fn converse(
    stream: Stream,
    sites: Arc<CurrentSite>,
    activity: &Arc<Activity>,
    deadlines: &Deadlines,
    access_log: &AccessLog,
    stop: &Stop,
) {
    let ends = activity.ends;
    let seen = Arc::clone(activity);
    let asked = stop.asked.clone();
    let service = tower::service_fn(move |request: http::Request<_>| {
        let version = request.version();
        let is_http1 = version <= http::Version::HTTP_11;
        // Boxed once: hyper and the layers between move it several times.
        let answer = Box::pin(request::answer(sites.get(), Arc::clone(&seen), request));
        let asked = asked.clone();
        async move {
            let mut response = answer.await;
            if is_http1 && asked.is_cancelled() && response.status() != 101 {
                let close = http::HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            if version == http::Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
                // Else hyper adds `keep-alive` to our `close` for a client that asked for it.
                *response.version_mut() = version;
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
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
        .max_pending_accept_reset_streams(Some(match ends.trusted {
            // A proxy of ours brings the streams of many.
            true => usize::MAX,
            false => MOST_RESETS,
        }))
        // h2 counts them over the life of a connection; `http2::credit` counts their rate.
        .max_local_error_reset_streams(None);
    let mut connection =
        pin!(http.serve_connection_with_upgrades(
            TokioIo::new(stream),
            TowerToHyperService::new(service)
        ));
    let mut timer = pin!(tokio::time::sleep(deadlines.shortest()));
    let (mut stopping, mut last_call) = (false, false);
    let mut warned = false;
    loop {
        tokio::select! {
            // First the connection: what has arrived is looked at before it is given up.
            biased;
            // Cancel-safe: polled in place, never dropped before it ends.
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    note_end(access_log, activity, error.as_ref());
                }
                return;
            }
            // Cancel-safe: a timer.
            () = timer.as_mut() => match activity.overdue(deadlines) {
                // hyper does not know that a head has begun, and would close.
                Ok(_) if last_call && activity.awaits_rest_of_head() => {
                    timer.as_mut().reset(tokio::time::Instant::now() + LAST_REQUEST);
                }
                _ if last_call => {
                    if !activity.end_behind_express() {
                        connection.as_mut().graceful_shutdown();
                    }
                    last_call = false;
                    timer.as_mut().reset(tokio::time::Instant::now() + deadlines.shortest());
                }
                Ok(left) => timer.as_mut().reset(tokio::time::Instant::now() + left),
                Err(Overdue::Head) => {
                    tracing::debug!(peer = ends.peer.map(display), "connection closed: the head did not arrive in time");
                    return;
                }
                Err(overdue @ (Overdue::Send | Overdue::Idle)) if warned => {
                    tracing::debug!(peer = ends.peer.map(display), ?overdue, "connection closed: the client does not go on");
                    return;
                }
                Err(overdue @ (Overdue::Send | Overdue::Idle)) => {
                    // HTTP/2 clients are told, and what else they wait for goes on for a
                    // while; on HTTP/1 an idle connection ends by this.
                    if !activity.end_behind_express() {
                        connection.as_mut().graceful_shutdown();
                    }
                    warned = true;
                    let left = match overdue {
                        Overdue::Send => deadlines.send.grace,
                        _ => deadlines.keepalive,
                    };
                    timer.as_mut().reset(tokio::time::Instant::now() + left);
                }
            },
            // Cancel-safe: the token stays cancelled.
            () = stop.drain.cancelled(), if !stopping => {
                stopping = true;
                if activity.is_http2() {
                    // It says which requests it has not seen.
                    connection.as_mut().graceful_shutdown();
                } else {
                    // hyper would close without looking. A response ends the connection.
                    last_call = true;
                    timer.as_mut().reset(tokio::time::Instant::now() + LAST_REQUEST);
                }
            }
            // Cancel-safe: the token stays cancelled.
            () = stop.cut.cancelled() => return,
        }
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

/// What h2 has ended the connection for, if it was the client's fault.
fn broken_http2(error: &hyper::Error) -> Option<&h2::Error> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let is_fault =
        error.is_go_away() && error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR);
    is_fault.then_some(error)
}

/// Who is at the other end: the peer, or whom a balancer's PROXY header names; with the
/// bytes that were received behind that header. `None`: the connection is of no use.
async fn introduction(
    site: &Site,
    socket: &mut Socket,
    mut ends: Ends,
    deadlines: &Deadlines,
    stop: &Stop,
) -> Option<(Ends, Bytes)> {
    let mut early = Bytes::new();
    let mut is_known = true;
    if site.proxy_protocol.trusts(ends.peer_ip()) {
        let stopping = async {
            stop.drain.cancelled().await;
            tokio::time::sleep(LAST_REQUEST).await;
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
            // A probe that says nothing, however it ends.
            Err(error) if header.is_empty() || matches!(error, Unreadable::Io(_)) => {
                tracing::debug!(peer = ends.peer.map(display), %error, "connection ended");
                return None;
            }
            Err(error) => {
                tracing::warn!(peer = ends.peer.map(display), %error, "connection closed: --proxy-protocol lists the peer, but its PROXY header cannot be read");
                return None;
            }
        };
        is_known = !matches!(origin, Origin::Unknown { .. });
        match origin {
            Origin::Proxy | Origin::Unknown { tls: false } => {}
            Origin::Unknown { tls: true } => ends.scheme = Scheme::Https,
            Origin::Client {
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
    // Not to be taken for the balancer itself, whom we may trust.
    ends.trusted = is_known && site.trust.trusts(ends.peer_ip());
    Some((ends, early))
}
