//! The state of a connection, and its deadlines.
//!
//! hyper has one timer for a head, which also runs while a connection is idle. Here the idle time
//! and the time for a head have different limits, so both are kept in [`Activity`]: the wrapper
//! around the socket reports when bytes arrive, [`InUse`] when a request runs.

mod in_use;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

pub use self::in_use::InUse;
use self::in_use::Taken;
use super::body::flushed::Flushed;
use super::body::received::Unread;
use super::client_limits::displacement::{Displaceable, WithoutRequest};
use super::client_limits::in_hand::OfConnection;
use super::client_limits::memory_budget::Account;
use super::client_limits::min_rate::Patience;
use super::client_limits::unsent_streams::UnsentStreams;
use super::context::Endpoints;
use super::protocol::refused::PendingRefusals;
use super::sendfile::queue::SendfileQueue;
use super::tls::facts::TlsFacts;
use super::upstream::private::PrivateLinks;
use crate::observe::metrics::METRICS;

/// Time limits for a client.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a head, or from the accept, to the last byte of the head.
    pub header: Duration,
    /// Between two requests.
    pub keepalive: Duration,
    /// For a client that takes little or nothing of a response.
    pub send: Patience,
}

impl Deadlines {
    /// The shortest of the limits: the interval at which a connection is checked.
    pub fn shortest(&self) -> Duration {
        self.header.min(self.keepalive).min(self.send.grace)
    }
}

/// The state of a connection, shared by its socket, its requests and its timer.
#[derive(Debug)]
pub struct Activity {
    /// The addresses of both ends.
    pub ends: Endpoints,
    /// The facts about its TLS session; `None` without one.
    pub tls: Option<Arc<TlsFacts>>,
    /// True for plain HTTP on an address with TLS.
    pub lacks_tls: bool,
    /// The memory and descriptors that the connection holds.
    pub account: Arc<Account>,
    /// Bytes of responses that hyper holds and has not sent.
    in_hand: Arc<OfConnection>,
    /// HTTP/2 responses that only h2 has.
    unsent: UnsentStreams,
    /// Files still to be sent.
    pub sendfile_queue: Arc<SendfileQueue>,
    /// The minimum rate at which the client must take responses.
    pub patience: Patience,
    /// Requests that were refused below hyper.
    pub refused: PendingRefusals,
    /// Bodies of HTTP/2 requests that have not been read.
    pub unread: Arc<Unread>,
    began: Instant,
    /// Milliseconds from `began` to the last change between idle, head and request.
    since_ms: AtomicU64,
    /// The HTTP/2 responses in progress. One whose window the client keeps closed is not visible at
    /// the socket.
    streams: Mutex<Vec<Arc<Taken>>>,
    requests: AtomicUsize,
    in_head: AtomicBool,
    /// Bytes of a head have arrived, none of which hyper has got.
    head_in_part: AtomicBool,
    http2: AtomicBool,
    linger: AtomicBool,
    /// hyper has begun a request since it last held nothing.
    hyper_began: AtomicBool,
    /// The connection has switched protocols with a `101`.
    switched: AtomicBool,
    /// Limit of the current request's body in bytes, and the sum of its chunk sizes.
    body_limit: AtomicU64,
    announced: AtomicU64,
    /// True if the current request has header names that are not in title case.
    has_header_case: AtomicBool,
    header_case: Mutex<Vec<Bytes>>,
    /// The body that arrived with the current head.
    has_body: AtomicBool,
    body: Mutex<Bytes>,
    /// A response of the fast path is being sent to a client that did not take it at once.
    fast_path_sending: AtomicBool,
    /// The connection ends after that response.
    ends_after_fast_path: AtomicBool,
    /// Upstream connections that belong to this client only.
    private_links: OnceLock<Arc<PrivateLinks>>,
    flushed: Flushed,
    /// The connection is to end visibly as a failure.
    broken: AtomicBool,
    /// The connection ends for others that wait, unless a request has begun.
    displaced: AtomicBool,
    /// The conversation has ended, and the lingering close has begun.
    ended: AtomicBool,
}

/// The step that a client is late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The rest of a head.
    Head,
    /// Taking a response.
    Send,
    /// The next request.
    Idle,
}

impl Activity {
    /// The state of a new connection.
    pub fn new(ends: Endpoints, patience: Patience) -> Self {
        METRICS.connections.accepted.inc();
        METRICS.connections.open.inc();
        METRICS.connections.reading.inc();
        Self {
            ends,
            tls: None,
            lacks_tls: false,
            account: Arc::new(Account::of_address()),
            in_hand: Arc::default(),
            unsent: UnsentStreams::default(),
            sendfile_queue: Arc::default(),
            patience,
            refused: PendingRefusals::default(),
            unread: Arc::default(),
            began: Instant::now(),
            since_ms: AtomicU64::new(0),
            streams: Mutex::default(),
            requests: AtomicUsize::new(0),
            in_head: AtomicBool::new(true),
            head_in_part: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            hyper_began: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            body_limit: AtomicU64::new(u64::MAX),
            announced: AtomicU64::new(0),
            has_header_case: AtomicBool::new(false),
            header_case: Mutex::default(),
            has_body: AtomicBool::new(false),
            body: Mutex::default(),
            fast_path_sending: AtomicBool::new(false),
            ends_after_fast_path: AtomicBool::new(false),
            private_links: OnceLock::new(),
            flushed: Flushed::default(),
            broken: AtomicBool::new(false),
            displaced: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Charges the connection's resources to `account`.
    pub fn charged_to(mut self, account: Arc<Account>) -> Self {
        self.account = account;
        self
    }

    /// Sets the TLS session.
    pub fn inside(mut self, tls: Option<Arc<TlsFacts>>) -> Self {
        self.tls = tls;
        self
    }

    /// Marks plain HTTP on an address with TLS, whose requests are refused.
    pub fn lacking_tls(mut self, lacks_tls: bool) -> Self {
        self.lacks_tls = lacks_tls;
        self
    }

    /// Upstream connections that belong to this client only.
    pub fn private_links(&self) -> &Arc<PrivateLinks> {
        self.private_links.get_or_init(Arc::default)
    }

    /// hyper has begun a request.
    pub fn hyper_began(&self) {
        self.hyper_began.store(true, Ordering::Relaxed);
    }

    /// True once hyper has begun a request and no request is running.
    pub fn hyper_ended(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && self.hyper_began.load(Ordering::Relaxed)
    }

    /// hyper holds nothing.
    pub fn hyper_holds_nothing(&self) {
        self.hyper_began.store(false, Ordering::Relaxed);
    }

    /// True if hyper has held nothing of the connection for `time`, and no head has begun.
    pub fn hyper_is_idle_for(&self, time: Duration) -> bool {
        let holds = self.hyper_began.load(Ordering::Relaxed)
            || self.serves()
            || self.in_head.load(Ordering::Relaxed)
            || self.has_switched();
        !holds && self.unchanged_for() >= time
    }

    /// The connection switches protocols.
    pub fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// True once [`Activity::switch`] was called.
    pub fn has_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// A request begins whose body has no limit yet.
    pub fn body_begins(&self) {
        self.body_limit.store(u64::MAX, Ordering::Relaxed);
        self.announced.store(0, Ordering::Relaxed);
    }

    /// Sets the sum of the chunk sizes received so far.
    pub fn announced(&self, bytes: u64) {
        self.announced.store(bytes, Ordering::Relaxed);
    }

    /// Limits the current request's body to `bytes`. A chunk whose size exceeds the rest is refused
    /// before it arrives. Returns true if such a chunk has arrived already.
    pub fn limit_body(&self, bytes: u64) -> bool {
        self.body_limit.store(bytes, Ordering::Relaxed);
        self.announced.load(Ordering::Relaxed) > bytes
    }

    /// The limit set by [`Activity::limit_body`].
    pub fn body_limit(&self) -> u64 {
        self.body_limit.load(Ordering::Relaxed)
    }

    /// Stores the names in the next head for hyper that are not in title case.
    pub fn note_header_case(&self, names: Vec<Bytes>) {
        *self.lock_header_case() = names;
        self.has_header_case.store(true, Ordering::Relaxed);
    }

    /// Takes the stored names of the head that hyper has just parsed.
    pub fn take_header_case(&self) -> Vec<Bytes> {
        let any = &self.has_header_case;
        match any.load(Ordering::Relaxed) && any.swap(false, Ordering::Relaxed) {
            true => std::mem::take(&mut *self.lock_header_case()),
            false => Vec::new(),
        }
    }

    /// Stores the body of the next head for hyper, which gets a length of zero in its place.
    pub fn note_body(&self, body: Bytes) {
        *self.body.lock() = body;
        self.has_body.store(true, Ordering::Relaxed);
    }

    /// Takes the stored body of the head that hyper has just parsed.
    pub fn take_body(&self) -> Option<Bytes> {
        let any = &self.has_body;
        let is_there = any.load(Ordering::Relaxed) && any.swap(false, Ordering::Relaxed);
        is_there.then(|| std::mem::take(&mut *self.body.lock()))
    }

    fn lock_header_case(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.header_case.lock()
    }

    /// hyper has written everything that it had.
    pub fn flushed(&self) {
        self.flushed.now();
    }

    /// Marks the response as truncated: the client must not take the end of the connection for its
    /// end.
    pub fn breaks(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// True after [`Activity::breaks`].
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The fast path received a request at `now`, and its response was sent at once.
    pub fn answered_at_once(&self, now: Instant) {
        if self.in_head.swap(false, Ordering::Relaxed) {
            METRICS.connections.reading.dec();
        }
        let since = now.saturating_duration_since(self.began).as_millis() as u64;
        self.since_ms.store(since, Ordering::Relaxed);
    }

    /// Sets if a response of the fast path is being sent.
    pub fn set_fast_path_sending(&self, is_sending: bool) {
        self.fast_path_sending.store(is_sending, Ordering::Relaxed);
    }

    /// Ends the connection after the response of the fast path. False if none is being sent.
    pub fn end_after_fast_path(&self) -> bool {
        let is_sending = self.fast_path_sending.load(Ordering::Relaxed);
        if is_sending {
            self.ends_after_fast_path.store(true, Ordering::Relaxed);
        }
        is_sending
    }

    /// True if the connection ends after the response of the fast path.
    pub fn ends_after_fast_path(&self) -> bool {
        self.ends_after_fast_path.load(Ordering::Relaxed)
    }

    /// True if the connection is to be closed for others, and its head is still incomplete.
    pub fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
            && matches!(self.without_request(), Some(WithoutRequest::Head(_)))
    }

    /// The lingering close begins.
    pub fn begin_lingering(&self) {
        self.changed();
        self.ended.store(true, Ordering::Relaxed);
    }

    /// True if the lingering close is to end for others that wait.
    pub fn gives_way(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Part of the request stays unread: bytes that arrive after our last byte are discarded.
    pub fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// True if [`Activity::linger`] was called.
    pub fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    /// So many HTTP/2 streams are `open`, as the client sees it.
    pub fn limit_unsent(&self, open: usize) {
        self.refused.limit_resets(open);
        let others = self.requests.load(Ordering::Relaxed) + self.refused.unsent_resets();
        self.unsent.limit(open.saturating_sub(others));
    }

    /// True if a request has come over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// The client has sent bytes.
    pub fn bytes_arrived(&self) {
        let idle =
            self.requests.load(Ordering::Relaxed) == 0 && !self.in_head.load(Ordering::Relaxed);
        // Frames between HTTP/2 requests need not belong to a head.
        if idle && !self.http2.load(Ordering::Relaxed) {
            self.in_head.store(true, Ordering::Relaxed);
            METRICS.connections.reading.inc();
            self.changed();
        }
    }

    /// Sets if a part of a head has arrived that hyper gets only with the rest.
    pub fn has_part_of_head(&self, has: bool) {
        self.head_in_part.store(has, Ordering::Relaxed);
    }

    /// True while hyper, which seems idle, is about to get a head.
    pub fn awaits_rest_of_head(&self) -> bool {
        self.head_in_part.load(Ordering::Relaxed)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<Taken>>> {
        self.streams.lock()
    }

    /// The socket has taken bytes of a file. With the last of them the connection becomes idle.
    pub fn sent_of_file(&self, bytes: usize) {
        self.sendfile_queue.sent(bytes);
        if self.sendfile_queue.unsent().bytes == 0 {
            self.changed();
        }
    }

    /// True while a request is in progress, or the end of a file that hyper counts as sent is still
    /// to be sent. A client that takes it too slowly is the business of
    /// [`SendRate`](super::client_limits::min_rate::SendRate).
    fn serves(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0 || self.sendfile_queue.unsent().bytes > 0
    }

    fn changed(&self) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Time since the last change of state.
    pub fn unchanged_for(&self) -> Duration {
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(since)
    }

    /// The time until the connection must be checked again.
    ///
    /// # Errors
    /// The step for which the client has exceeded its limit.
    pub fn overdue(&self, deadlines: &Deadlines) -> Result<Duration, Overdue> {
        let shortest = deadlines.shortest();
        // A trusted proxy carries the responses of many clients: a slow one must not end them.
        if !self.ends.trusted && self.streams().iter().any(|stream| stream.is_overdue()) {
            return Err(Overdue::Send);
        }
        if self.serves() {
            return Ok(shortest);
        }
        let (limit, overdue) = match self.in_head.load(Ordering::Relaxed) {
            true => (deadlines.header, Overdue::Head),
            false => (deadlines.keepalive, Overdue::Idle),
        };
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        let left = (since + limit).saturating_sub(self.began.elapsed());
        // At most the shortest limit: the state may change meanwhile.
        if left.is_zero() {
            Err(overdue)
        } else {
            Ok(left.min(shortest))
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        METRICS.connections.open.dec();
        if *self.in_head.get_mut() {
            METRICS.connections.reading.dec();
        }
    }
}

impl Displaceable for Activity {
    fn without_request(&self) -> Option<WithoutRequest> {
        if self.ended.load(Ordering::Relaxed) {
            return Some(WithoutRequest::Lingering(self.unchanged_for()));
        }
        let serves =
            self.serves() || self.fast_path_sending.load(Ordering::Relaxed) || self.has_switched();
        let state = match self.in_head.load(Ordering::Relaxed) {
            true => WithoutRequest::Head,
            false => WithoutRequest::Idle,
        };
        (!serves).then(|| state(self.unchanged_for()))
    }

    fn displace(&self) {
        self.displaced.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;
    use crate::front::sendfile::file_pool::FilePool;
    use crate::front::sendfile::file_source::Source;
    use crate::front::sendfile::queue::Piece;

    const DEADLINES: Deadlines = Deadlines {
        header: Duration::from_secs(3600),
        keepalive: Duration::ZERO,
        send: PATIENCE,
    };
    const PATIENCE: Patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };

    fn state(activity: &Activity) -> Result<(), Overdue> {
        activity.overdue(&DEADLINES).map(|_left| ())
    }

    #[test]
    fn each_state_of_a_connection_has_its_own_deadline() {
        let activity = Arc::new(Activity::new(Endpoints::default(), PATIENCE));
        assert_eq!(state(&activity), Ok(()), "the first head may take its time");
        let request = InUse::begin(&activity, Version::HTTP_11);
        assert_eq!(state(&activity), Ok(()), "a request runs");
        drop(request);
        assert_eq!(state(&activity), Err(Overdue::Idle));
        activity.bytes_arrived();
        assert_eq!(state(&activity), Ok(()), "the next head has begun");
    }

    #[test]
    fn a_connection_is_not_idle_while_the_end_of_a_file_is_sent() {
        let file = tempfile::tempfile().unwrap();
        let source = Source::new(file, 10, FilePool::new(1));
        let activity = Arc::new(Activity::new(Endpoints::default(), PATIENCE));
        let request = InUse::begin(&activity, Version::HTTP_11);
        let _stand_in = activity.sendfile_queue.note(Piece {
            source: Arc::new(source),
            offset: 0,
            length: 10,
        });
        // hyper has all of the response.
        drop(request);
        for _ in 0..2 {
            assert_eq!(state(&activity), Ok(()));
            assert!(activity.without_request().is_none(), "nor displaced");
            activity.sent_of_file(5);
        }
        assert_eq!(state(&activity), Err(Overdue::Idle));
        assert!(activity.without_request().is_some());
    }

    #[test]
    fn frames_between_http2_requests_are_no_head() {
        let activity = Arc::new(Activity::new(Endpoints::default(), PATIENCE));
        drop(InUse::begin(&activity, Version::HTTP_2));
        activity.bytes_arrived();
        assert_eq!(state(&activity), Err(Overdue::Idle));
    }

    #[test]
    fn a_client_that_takes_nothing_is_overdue_even_while_a_request_runs() {
        let overdue = |trusted| {
            let at_once = Patience {
                grace: Duration::ZERO,
                rate: 0,
            };
            let ends = Endpoints {
                trusted,
                ..Endpoints::default()
            };
            let activity = Arc::new(Activity::new(ends, at_once));
            let mut request = InUse::begin(&activity, Version::HTTP_2);
            request.follow();
            let shut = state(&activity);
            request.asked();
            let asked = state(&activity);
            drop(request);
            (shut, asked, activity.streams().len())
        };
        assert_eq!(overdue(false), (Err(Overdue::Send), Ok(()), 0));
        assert_eq!(overdue(true), (Ok(()), Ok(()), 0), "a proxy of ours");
    }
}
