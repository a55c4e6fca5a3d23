//! One client connection: hyper on our side of it, and the deadlines between requests.
//!
//! hyper has one timer for a head, which also runs while a connection is idle. Idle and
//! "the head has begun" have different limits here, so both are kept in [`Activity`]: the
//! wrapper around the socket ([`Stream`]) sees when bytes arrive, [`InUse`] when a request runs.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Version;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::outbox::Outbox;
use super::request::context::Ends;
use super::request::limits::{MAX_HEAD, PARSER_LIMIT};
use super::request::{self, Site};
use super::stream::{Socket, Stream};

/// How long a connection that was just made may take to bring its request when the server
/// stops.
const FIRST_REQUEST_WHILE_STOPPING: Duration = Duration::from_millis(250);

/// Limits on waiting for a client.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a head, or from the accept, to its last.
    pub header: Duration,
    /// Between two requests.
    pub keepalive: Duration,
    /// While the client takes nothing of a response.
    pub send: Duration,
}

/// How connections are asked to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Finish what has begun, take no more.
    pub drain: CancellationToken,
    /// Break off.
    pub cut: CancellationToken,
}

/// Serves a connection until it ends or is asked to.
pub async fn serve(
    site: Arc<Site>,
    socket: Socket,
    ends: Ends,
    deadlines: Deadlines,
    stop: Stop,
    tasks: TaskTracker,
) {
    let activity = Arc::new(Activity::new(ends));
    let stream = Stream::new(socket, Arc::clone(&activity), tasks);
    let seen = Arc::clone(&activity);
    let service = tower::service_fn(move |request| {
        let answer = request::answer(Arc::clone(&site), Arc::clone(&seen), request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new()).title_case_headers(true);
    http.http1()
        .header_read_timeout(None)
        .max_buf_size(PARSER_LIMIT);
    http.http2()
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(Some(128));
    let mut connection =
        pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut timer = pin!(tokio::time::sleep(
        deadlines.header.min(deadlines.keepalive)
    ));
    let mut stopping = false;
    loop {
        tokio::select! {
            // Cancel-safe: polled in place, never dropped before it ends.
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = ?ends.peer, %error, "connection ended");
                }
                return;
            }
            // Cancel-safe: a timer.
            () = timer.as_mut() => match activity.overdue(&deadlines) {
                _ if stopping => {
                    connection.as_mut().graceful_shutdown();
                    timer.as_mut().reset(tokio::time::Instant::now() + deadlines.keepalive);
                }
                Ok(left) => timer.as_mut().reset(tokio::time::Instant::now() + left),
                Err(Overdue::Head) => {
                    tracing::debug!(peer = ?ends.peer, "connection closed: the head did not arrive in time");
                    return;
                }
                Err(Overdue::Send) => {
                    tracing::debug!(peer = ?ends.peer, "connection closed: the client takes nothing of the response");
                    return;
                }
                Err(Overdue::Idle) => {
                    // HTTP/2 clients are told; on HTTP/1 an idle connection ends by this.
                    connection.as_mut().graceful_shutdown();
                    timer.as_mut().reset(tokio::time::Instant::now() + deadlines.keepalive);
                }
            },
            // Cancel-safe: the token stays cancelled.
            () = stop.drain.cancelled(), if !stopping => {
                stopping = true;
                if activity.is_fresh() {
                    // Its first request may be on the way, or in the kernel already; hyper
                    // would close without looking.
                    timer.as_mut().reset(tokio::time::Instant::now() + FIRST_REQUEST_WHILE_STOPPING);
                } else {
                    connection.as_mut().graceful_shutdown();
                }
            }
            // Cancel-safe: the token stays cancelled.
            () = stop.cut.cancelled() => return,
        }
    }
}

/// What a connection is doing, shared by its socket, its requests and its timer.
#[derive(Debug)]
pub struct Activity {
    /// Both ends.
    pub ends: Ends,
    /// Files that it owes.
    pub outbox: Arc<Outbox>,
    began: Instant,
    /// Milliseconds from `began` to the last change between idle, head and request.
    since_ms: AtomicU64,
    /// Milliseconds from `began`, plus one, to the write that still waits for the client;
    /// 0 while none does.
    blocked_ms: AtomicU64,
    requests: AtomicUsize,
    in_head: AtomicBool,
    http2: AtomicBool,
    /// No request has come yet.
    fresh: AtomicBool,
    linger: AtomicBool,
}

enum Overdue {
    Head,
    Send,
    Idle,
}

impl Activity {
    fn new(ends: Ends) -> Self {
        Self {
            ends,
            outbox: Arc::default(),
            began: Instant::now(),
            since_ms: AtomicU64::new(0),
            blocked_ms: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            in_head: AtomicBool::new(true),
            http2: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            linger: AtomicBool::new(false),
        }
    }

    /// Part of the request stays unread: what still comes is to be swallowed after our
    /// last byte.
    pub fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// Whether [`Activity::linger`] was called.
    pub fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// The client has sent something.
    pub fn bytes_arrived(&self) {
        let idle =
            self.requests.load(Ordering::Relaxed) == 0 && !self.in_head.load(Ordering::Relaxed);
        // Frames between HTTP/2 requests need not belong to a head.
        if idle && !self.http2.load(Ordering::Relaxed) {
            self.in_head.store(true, Ordering::Relaxed);
            self.changed();
        }
    }

    /// A write has gone through, or waits for the client.
    pub fn wrote(&self, waits: bool) {
        let blocked = self.blocked_ms.load(Ordering::Relaxed);
        if waits && blocked == 0 {
            self.blocked_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        } else if !waits && blocked != 0 {
            self.blocked_ms.store(0, Ordering::Relaxed);
        }
    }

    fn changed(&self) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// How long the client still has, or what it is too late with.
    fn overdue(&self, deadlines: &Deadlines) -> Result<Duration, Overdue> {
        let shortest = deadlines
            .header
            .min(deadlines.keepalive)
            .min(deadlines.send);
        let blocked = self.blocked_ms.load(Ordering::Relaxed);
        if blocked > 0 && self.now_ms() + 1 - blocked >= deadlines.send.as_millis() as u64 {
            return Err(Overdue::Send);
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Ok(shortest);
        }
        let (limit, overdue) = match self.in_head.load(Ordering::Relaxed) {
            true => (deadlines.header, Overdue::Head),
            false => (deadlines.keepalive, Overdue::Idle),
        };
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        let left = (since + limit).saturating_sub(self.began.elapsed());
        // Never longer than the shorter limit: the connection may change meanwhile.
        if left.is_zero() {
            Err(overdue)
        } else {
            Ok(left.min(shortest))
        }
    }
}

/// Lives as long as a request and its response.
#[derive(Debug)]
pub struct InUse(Arc<Activity>);

impl InUse {
    /// A request's head is complete.
    pub fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.in_head.store(false, Ordering::Relaxed);
        activity.fresh.store(false, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            activity.http2.store(true, Ordering::Relaxed);
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.changed();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
