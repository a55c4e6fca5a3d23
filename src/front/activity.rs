//! What a connection is doing, and what its client is too late with.
//!
//! hyper has one timer for a head, which also runs while a connection is idle. Idle and
//! "the head has begun" have different limits here, so both are kept in [`Activity`]: the
//! wrapper around the socket sees when bytes arrive, [`InUse`] when a request runs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;

use super::flushed::Flushed;
use super::memory_budget::{Account, Reservation, Resource};
use super::outbox::Outbox;
use super::pace::{Pace, Patience};
use super::request::context::Ends;
use super::request::in_hand::InHand;
use super::request::received::Unread;
use super::request::refused::Waiting;
use super::upstream::private::PrivateLinks;
use crate::observe::metrics::METRICS;

/// Limits on waiting for a client.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a head, or from the accept, to its last.
    pub header: Duration,
    /// Between two requests.
    pub keepalive: Duration,
    /// While the client takes little or nothing of a response.
    pub send: Patience,
}

impl Deadlines {
    /// How long a connection may be left alone, whatever it does.
    pub fn shortest(&self) -> Duration {
        self.header.min(self.keepalive).min(self.send.grace)
    }
}

/// What a connection is doing, shared by its socket, its requests and its timer.
#[derive(Debug)]
pub struct Activity {
    /// Both ends.
    pub ends: Ends,
    /// The memory and descriptors that it takes.
    pub account: Arc<Account>,
    /// Bytes of responses that hyper has and has not sent.
    in_hand: Arc<AtomicUsize>,
    /// Files that it owes.
    pub outbox: Arc<Outbox>,
    /// How slowly the client may take what it asked for.
    pub patience: Patience,
    /// Requests that were refused below hyper.
    pub refused: Waiting,
    /// Request bodies of HTTP/2 that nothing has read yet.
    pub unread: Unread,
    began: Instant,
    /// Milliseconds from `began` to the last change between idle, head and request.
    since_ms: AtomicU64,
    /// The responses of HTTP/2 under way. One whose window the client keeps shut leaves no
    /// trace in the socket.
    streams: Mutex<Vec<Arc<Taken>>>,
    requests: AtomicUsize,
    in_head: AtomicBool,
    /// Bytes of a head have come, and hyper has none of them.
    head_in_part: AtomicBool,
    http2: AtomicBool,
    linger: AtomicBool,
    /// hyper has begun a request since it last held nothing.
    hyper_began: AtomicBool,
    /// The connection has left HTTP, behind a `101`.
    switched: AtomicBool,
    /// The most bytes that the present request's body may have, and the sizes of its chunks.
    body_limit: AtomicU64,
    announced: AtomicU64,
    /// Names of the present request's fields that are not in title case.
    has_spellings: AtomicBool,
    spellings: Mutex<Vec<Bytes>>,
    /// A response that hyper does not know is on its way to a client that takes its time.
    express: AtomicBool,
    /// The connection ends behind that response.
    express_ends: AtomicBool,
    /// Connections to servers behind us that are this client's alone.
    private_links: OnceLock<Arc<PrivateLinks>>,
    flushed: Flushed,
    /// The end of the connection is to be seen as a failure.
    broken: AtomicBool,
}

/// What a client is too late with.
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
    /// A connection that was just made.
    pub fn new(ends: Ends, patience: Patience) -> Self {
        METRICS.connections.accepted.up();
        METRICS.connections.open.up();
        METRICS.connections.reading.up();
        Self {
            ends,
            account: Arc::new(Account::of_address()),
            in_hand: Arc::default(),
            outbox: Arc::default(),
            patience,
            refused: Waiting::default(),
            unread: Unread::default(),
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
            has_spellings: AtomicBool::new(false),
            spellings: Mutex::default(),
            express: AtomicBool::new(false),
            express_ends: AtomicBool::new(false),
            private_links: OnceLock::new(),
            flushed: Flushed::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// The same with what it takes charged to `account`.
    pub fn charged_to(mut self, account: Arc<Account>) -> Self {
        self.account = account;
        self
    }

    /// Connections to servers behind us that are this client's alone.
    pub fn private_links(&self) -> &Arc<PrivateLinks> {
        self.private_links.get_or_init(Arc::default)
    }

    /// hyper has begun a request.
    pub fn hyper_began(&self) {
        self.hyper_began.store(true, Ordering::Relaxed);
    }

    /// True once hyper has begun a request and none is running any more.
    pub fn hyper_ended(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && self.hyper_began.load(Ordering::Relaxed)
    }

    /// hyper holds nothing.
    pub fn hyper_holds_nothing(&self) {
        self.hyper_began.store(false, Ordering::Relaxed);
    }

    /// The connection leaves HTTP.
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

    /// The chunks of the body have these sizes together, as far as they have come.
    pub fn announced(&self, bytes: u64) {
        self.announced.store(bytes, Ordering::Relaxed);
    }

    /// The body of the present request may have so many bytes. A chunk whose size exceeds them
    /// is refused before it arrives; whether one has come already.
    pub fn limit_body(&self, bytes: u64) -> bool {
        self.body_limit.store(bytes, Ordering::Relaxed);
        self.announced.load(Ordering::Relaxed) > bytes
    }

    /// The limit of [`Activity::limit_body`].
    pub fn body_limit(&self) -> u64 {
        self.body_limit.load(Ordering::Relaxed)
    }

    /// Keeps the names of the head that hyper reads next which are not in title case.
    pub fn note_spellings(&self, names: Vec<Bytes>) {
        *self.lock_spellings() = names;
        self.has_spellings.store(true, Ordering::Relaxed);
    }

    /// Those of the head that hyper has just read.
    pub fn take_spellings(&self) -> Vec<Bytes> {
        let any = &self.has_spellings;
        match any.load(Ordering::Relaxed) && any.swap(false, Ordering::Relaxed) {
            true => std::mem::take(&mut *self.lock_spellings()),
            false => Vec::new(),
        }
    }

    fn lock_spellings(&self) -> MutexGuard<'_, Vec<Bytes>> {
        let locked = self.spellings.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// hyper has written everything that it had.
    pub fn flushed(&self) {
        self.flushed.now();
    }

    /// The client must not take the end of the connection for the end of the response.
    pub fn breaks(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// True behind [`Activity::breaks`].
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// A request without hyper has come at `now` and been answered at once.
    pub fn answered_at_once(&self, now: Instant) {
        if self.in_head.swap(false, Ordering::Relaxed) {
            METRICS.connections.reading.down();
        }
        let since = now.saturating_duration_since(self.began).as_millis() as u64;
        self.since_ms.store(since, Ordering::Relaxed);
    }

    /// Whether a response that hyper does not know is on its way.
    pub fn express_is_sending(&self, is_sending: bool) {
        self.express.store(is_sending, Ordering::Relaxed);
    }

    /// Asks for the end of the connection behind the response that hyper does not know, if
    /// one is on its way.
    pub fn end_behind_express(&self) -> bool {
        let is_sending = self.express.load(Ordering::Relaxed);
        if is_sending {
            self.express_ends.store(true, Ordering::Relaxed);
        }
        is_sending
    }

    /// Whether the connection ends behind the response that hyper did not know.
    pub fn ends_behind_express(&self) -> bool {
        self.express_ends.load(Ordering::Relaxed)
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

    /// Whether a request has come over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// The client has sent something.
    pub fn bytes_arrived(&self) {
        let idle =
            self.requests.load(Ordering::Relaxed) == 0 && !self.in_head.load(Ordering::Relaxed);
        // Frames between HTTP/2 requests need not belong to a head.
        if idle && !self.http2.load(Ordering::Relaxed) {
            self.in_head.store(true, Ordering::Relaxed);
            METRICS.connections.reading.up();
            self.changed();
        }
    }

    /// A part of a head has come, of which hyper gets nothing before the rest.
    pub fn has_part_of_head(&self, has: bool) {
        self.head_in_part.store(has, Ordering::Relaxed);
    }

    /// True while hyper, which seems idle, is about to get a head.
    pub fn awaits_rest_of_head(&self) -> bool {
        self.head_in_part.load(Ordering::Relaxed)
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<Taken>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// How long it has been doing what it does.
    pub fn unchanged_for(&self) -> Duration {
        let since = Duration::from_millis(self.since_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(since)
    }

    /// How long the connection has been idle between two requests; `None`: it is not.
    pub fn idle_for(&self) -> Option<Duration> {
        let is_idle = self.requests.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed)
            && !self.express.load(Ordering::Relaxed)
            && !self.has_switched();
        is_idle.then(|| self.unchanged_for())
    }

    /// How long the client still has.
    ///
    /// # Errors
    /// What it is too late with.
    pub fn overdue(&self, deadlines: &Deadlines) -> Result<Duration, Overdue> {
        let shortest = deadlines.shortest();
        // A proxy of ours brings the responses of many: one that is slow must not end them.
        if !self.ends.trusted && self.streams().iter().any(|stream| stream.is_overdue()) {
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

impl Drop for Activity {
    fn drop(&mut self) {
        METRICS.connections.open.down();
        if *self.in_head.get_mut() {
            METRICS.connections.reading.down();
        }
    }
}

/// How a client takes one response of HTTP/2.
#[derive(Debug)]
struct Taken(Mutex<(Pace, Option<Instant>)>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, (Pace, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_overdue(&self) -> bool {
        let taken = self.lock();
        let (pace, waits) = &*taken;
        waits.is_some_and(|since| Instant::now() >= since + pace.left())
    }
}

/// Lives as long as a request and its response.
#[derive(Debug)]
pub struct InUse {
    activity: Arc<Activity>,
    taken: Option<Arc<Taken>>,
    /// Memory of the request: of its head, then what is left of it with its response.
    held: Option<Reservation>,
}

impl InUse {
    /// A request's head is complete.
    pub fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        if activity.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            METRICS.connections.active.up();
        }
        if activity.in_head.swap(false, Ordering::Relaxed) {
            METRICS.connections.reading.down();
        }
        if version == Version::HTTP_2 {
            activity.http2.store(true, Ordering::Relaxed);
        }
        Self {
            activity: Arc::clone(activity),
            taken: None,
            held: None,
        }
    }

    /// Reserves memory for the request. `false`: there is none.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        if bytes > 0 {
            let account = &self.activity.account;
            self.held = account.try_reserve(Resource::Memory, bytes);
        }
        bytes == 0 || self.held.is_some()
    }

    /// Returns all but so many bytes of [`InUse::reserve`].
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            held.shrink(bytes);
        }
    }

    /// The memory of the response's parts.
    pub fn in_hand(&self) -> InHand {
        InHand::new(&self.activity.account, &self.activity.in_hand)
    }

    /// The response leaves: from now on the client is waited for until it asks for a part
    /// of the body ([`InUse::asked`]), and again when it was given one ([`InUse::gave`]).
    pub fn follow(&mut self) {
        if self.activity.http2.load(Ordering::Relaxed) {
            let pace = Pace::new(self.activity.patience);
            let taken = Arc::new(Taken(Mutex::new((pace, Some(Instant::now())))));
            self.activity.streams().push(Arc::clone(&taken));
            self.taken = Some(taken);
        }
    }

    /// Waits until hyper has written what it was given before the first call with this `since`.
    pub fn poll_flushed(&self, context: &mut Context<'_>, since: &mut Option<u64>) -> Poll<()> {
        self.activity.flushed.poll(context, since)
    }

    /// See [`Activity::breaks`].
    pub fn breaks(&self) {
        self.activity.breaks();
    }

    /// The client has room for more.
    pub fn asked(&self) {
        if let Some(taken) = &self.taken {
            let (pace, waits) = &mut *taken.lock();
            if let Some(since) = waits.take() {
                pace.moved(since.elapsed(), 0);
            }
        }
    }

    /// The client was given bytes.
    pub fn gave(&self, bytes: usize) {
        if let Some(taken) = &self.taken {
            let (pace, waits) = &mut *taken.lock();
            pace.moved(Duration::ZERO, bytes as u64);
            *waits = Some(Instant::now());
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            let mut streams = self.activity.streams();
            streams.retain(|stream| !Arc::ptr_eq(stream, taken));
        }
        self.activity.changed();
        if self.activity.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            METRICS.connections.active.down();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let activity = Arc::new(Activity::new(Ends::default(), PATIENCE));
        assert_eq!(state(&activity), Ok(()), "the first head may take its time");
        let request = InUse::begin(&activity, Version::HTTP_11);
        assert_eq!(state(&activity), Ok(()), "a request runs");
        drop(request);
        assert_eq!(state(&activity), Err(Overdue::Idle));
        activity.bytes_arrived();
        assert_eq!(state(&activity), Ok(()), "the next head has begun");
    }

    #[test]
    fn frames_between_http2_requests_are_no_head() {
        let activity = Arc::new(Activity::new(Ends::default(), PATIENCE));
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
            let ends = Ends {
                trusted,
                ..Ends::default()
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
