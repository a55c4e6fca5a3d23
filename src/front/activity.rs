//! What a connection is doing, and what its client is too late with.
//!
//! hyper has one timer for a head, which also runs while a connection is idle. Idle and
//! "the head has begun" have different limits here, so both are kept in [`Activity`]: the
//! wrapper around the socket sees when bytes arrive, [`InUse`] when a request runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Version;

use super::outbox::Outbox;
use super::request::context::Ends;
use crate::observe::metrics::METRICS;

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
    pub fn new(ends: Ends) -> Self {
        METRICS.connections.accepted.up();
        METRICS.connections.open.up();
        METRICS.connections.reading.up();
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

    /// Whether no request has come yet.
    pub fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
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

    /// How long the client still has.
    ///
    /// # Errors
    /// What it is too late with.
    pub fn overdue(&self, deadlines: &Deadlines) -> Result<Duration, Overdue> {
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

impl Drop for Activity {
    fn drop(&mut self) {
        METRICS.connections.open.down();
        if *self.in_head.get_mut() {
            METRICS.connections.reading.down();
        }
    }
}

/// Lives as long as a request and its response.
#[derive(Debug)]
pub struct InUse(Arc<Activity>);

impl InUse {
    /// A request's head is complete.
    pub fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        if activity.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            METRICS.connections.active.up();
        }
        if activity.in_head.swap(false, Ordering::Relaxed) {
            METRICS.connections.reading.down();
        }
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
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
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
        send: Duration::from_secs(3600),
    };

    fn state(activity: &Activity) -> Result<(), Overdue> {
        activity.overdue(&DEADLINES).map(|_left| ())
    }

    #[test]
    fn each_state_of_a_connection_has_its_own_deadline() {
        let activity = Arc::new(Activity::new(Ends::default()));
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
        let activity = Arc::new(Activity::new(Ends::default()));
        drop(InUse::begin(&activity, Version::HTTP_2));
        activity.bytes_arrived();
        assert_eq!(state(&activity), Err(Overdue::Idle));
    }

    #[test]
    fn a_client_that_takes_nothing_is_overdue_even_while_a_request_runs() {
        let activity = Arc::new(Activity::new(Ends::default()));
        let _request = InUse::begin(&activity, Version::HTTP_11);
        let at_once = Deadlines {
            send: Duration::ZERO,
            ..DEADLINES
        };
        activity.wrote(true);
        assert_eq!(activity.overdue(&at_once), Err(Overdue::Send));
        activity.wrote(false);
        assert!(activity.overdue(&at_once).is_ok());
    }
}
