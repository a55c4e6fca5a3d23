//! One client connection: hyper as its server, its deadlines and its end.

mod conversation;
mod handshake;
pub mod lingering_close;
pub mod proxy_protocol;
mod service;
pub mod stream;
pub mod timeouts;
pub mod wakeups;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::activity::{Activity, Deadlines};
use super::client_limits::displacement::{Displaceable, WithoutRequest};
use super::client_limits::memory_budget;
use super::client_limits::memory_budget::Account;
use super::context::Endpoints;
use super::fast_path::FastPath;
use super::protocol::http2;
use super::request::unreadable;
use super::shutdown::Shutdown;
use super::site::{CurrentSite, Site};
use super::socket::Socket;
use crate::config::Scheme;
use crate::front::connection::conversation::{Conversation, Event, Failure, LINGERS};
use crate::front::connection::proxy_protocol::{ProxyHeader, Unreadable};
use crate::front::connection::service::Answering;
use crate::front::connection::stream::Stream;
use crate::front::connection::timeouts::{LAST_REQUEST, Step, Timeouts};
use crate::front::connection::wakeups::Wakeups;
use crate::observe::access_log::AccessLog;
use crate::observe::codes;
use crate::observe::throttle::Throttle;

/// Serves a connection until it ends or the server stops; with `is_tls` inside a TLS session.
pub async fn serve(
    sites: Arc<CurrentSite>,
    mut socket: Socket,
    ends: Endpoints,
    is_tls: bool,
    stop: Shutdown,
) {
    let stop = stop.of_one();
    let site = sites.get();
    let deadlines = site.deadlines;
    let Some((mut ends, mut early)) =
        introduction(&site, &mut socket, ends, &deadlines, &stop).await
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
    let mut tls = None;
    let mut _of_session = None;
    if is_tls {
        _of_session = Some(account.hold(memory_budget::TLS));
        let received = std::mem::take(&mut early);
        // Boxed: plain connections have no room for it in their tasks.
        let secured = Box::pin(handshake::secure(
            &site,
            socket,
            received,
            address,
            &account,
            deadlines.header,
            &stop,
        ));
        let Some(secured) = secured.await else {
            return;
        };
        (socket, tls, early) = (secured.socket, secured.facts, secured.early);
        if tls.is_some() {
            ends.scheme = Scheme::Https;
        }
    }
    let lacks_tls = is_tls && tls.is_none();
    let access_log = Arc::clone(&site.access_log);
    let activity = Activity::new(ends, deadlines.send).charged_to(account);
    let activity = Arc::new(activity.inside(tls).lacking_tls(lacks_tls));
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
    let service = Answering {
        sites,
        activity: Arc::clone(&activity),
        asked: Arc::new(stop.asked.clone()),
    };
    let conversation = Conversation::new(stream, service);
    converse(conversation, &activity, &deadlines, &access_log, &stop).await;
    if let Ok(socket) = left_behind.try_recv() {
        // Boxed: few connections linger, and every connection's task would be larger.
        activity.begin_lingering();
        Box::pin(lingering_close::linger(socket, &stop, || {
            activity.gives_way()
        }))
        .await;
    }
}

/// Serves requests until the end of the connection.
async fn converse(
    mut conversation: Conversation,
    activity: &Activity,
    deadlines: &Deadlines,
    access_log: &AccessLog,
    stop: &Shutdown,
) {
    let mut timeouts = Timeouts::new(activity, deadlines);
    let mut timer = pin!(tokio::time::sleep(deadlines.shortest()));
    let mut drain = pin!(stop.drain.cancelled());
    let mut cut = pin!(stop.cut.cancelled());
    let mut stopping = false;
    let mut wakeups = Wakeups::default();
    loop {
        let step = poll_fn(|context| {
            // The connection first: bytes that have arrived are read before it is closed.
            while let Poll::Ready(event) = conversation.poll(context) {
                match event {
                    Event::Begun => {
                        let look = tokio::time::Instant::now() + LINGERS;
                        if look < timer.deadline() {
                            timer.as_mut().reset(look);
                            wakeups.renewed();
                        }
                    }
                    Event::Ended(Ok(())) => return Poll::Ready(Step::Close),
                    Event::Ended(Err(failure)) => {
                        note_end(access_log, activity, &failure);
                        return Poll::Ready(Step::Close);
                    }
                }
            }
            wakeups.poll(context, |context| {
                if timer.as_mut().poll(context).is_ready() {
                    let may_release = conversation.release();
                    return Poll::Ready(match timeouts.fired() {
                        Step::Wait(time) if may_release => Step::Wait(time.min(LINGERS)),
                        step => step,
                    });
                }
                if !stopping && drain.as_mut().poll(context).is_ready() {
                    stopping = true;
                    return Poll::Ready(timeouts.drained());
                }
                cut.as_mut().poll(context).map(|()| Step::Close)
            })
        });
        let wait = match step.await {
            Step::Close => return,
            Step::Wait(time) => Some(time),
            Step::Finish(time) => {
                if !activity.end_after_fast_path() {
                    conversation.end();
                }
                time
            }
        };
        if let Some(time) = wait {
            timer.as_mut().reset(tokio::time::Instant::now() + time);
        }
    }
}

fn note_end(log: &AccessLog, activity: &Activity, failure: &Failure) {
    let peer = activity.ends.peer.map(tracing::field::display);
    match failure {
        Failure::Http(error) => match broken_http2(error) {
            Some(broken) => http2::log_end(activity.ends.peer, broken),
            None if error.is_parse() => {
                unreadable::note(log, activity, error);
            }
            None => tracing::debug!(peer, %error, "connection ended"),
        },
        Failure::Socket(error) => tracing::debug!(peer, %error, "connection ended"),
    }
}

/// The error with which h2 ended the connection, if it was the client's fault.
fn broken_http2(error: &hyper::Error) -> Option<&h2::Error> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let is_fault =
        error.is_go_away() && error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR);
    is_fault.then_some(error)
}

/// A connection whose PROXY header or TLS handshake is not complete.
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

    /// Waits until the connection has to end: at once for a client that waits for its place, after a
    /// moment where the server stops.
    async fn must_end(&self, stop: &Shutdown) {
        stop.drain.cancelled().await;
        if !self.displaced.load(Ordering::Relaxed) {
            tokio::time::sleep(LAST_REQUEST).await;
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

/// Logs a PROXY header that was refused, as seldom as other refusals.
fn note_unreadable(ends: &Endpoints, error: &Unreadable) {
    static REFUSALS: Throttle = Throttle::new();
    let peer = ends.peer.map(tracing::field::display);
    match REFUSALS.is_due() {
        Some(before) => {
            tracing::warn!(code = codes::PROXY_HEADER, peer, %error, refused_before = before, "connection closed: --proxy-protocol lists the peer, but its PROXY header cannot be read");
        }
        None => tracing::debug!(peer, %error, "connection closed: unreadable PROXY header"),
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
        let _memory = Arc::new(Account::of_address()).hold(memory_budget::CONNECTION);
        let mut header = proxy_protocol::buffer();
        // Nothing is lost by dropping the branches that were too late: the connection ends.
        let read = tokio::select! {
            read = proxy_protocol::read_into(&mut header, socket) => read,
            () = tokio::time::sleep(deadlines.header) => Err(Unreadable::Late),
            () = waiting.must_end(stop) => return None,
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
                note_unreadable(&ends, &error);
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
