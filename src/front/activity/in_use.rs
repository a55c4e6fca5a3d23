//! A request in progress, its memory, and the rate at which its client takes the response.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Version;
use parking_lot::{Mutex, MutexGuard};

use super::Activity;
use crate::front::body::flushed::Flushed;
use crate::front::client_limits::in_hand::InHand;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource};
use crate::front::client_limits::min_rate::MinRate;
use crate::front::sendfile::queue::SendfileQueue;
use crate::observe::metrics::METRICS;

/// The rate at which a client takes one HTTP/2 response.
#[derive(Debug)]
pub(super) struct Taken(Mutex<(MinRate, Option<Instant>)>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, (MinRate, Option<Instant>)> {
        self.0.lock()
    }

    pub(super) fn is_overdue(&self) -> bool {
        let taken = self.lock();
        let (pace, waits) = &*taken;
        waits.is_some_and(|since| Instant::now() >= since + pace.left())
    }
}

/// A request in progress; lives as long as the request and its response.
#[derive(Debug)]
pub struct InUse {
    activity: Arc<Activity>,
    taken: Option<Arc<Taken>>,
    /// Memory of the request: of its head, then what its response still needs.
    held: Option<Reservation>,
    /// True for an error page that [`InUse::add_page`] has counted.
    is_page: bool,
}

impl InUse {
    /// A request's head is complete.
    pub fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        if activity.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            METRICS.connections.active.inc();
        }
        if activity.in_head.swap(false, Ordering::Relaxed) {
            METRICS.connections.reading.dec();
        }
        if version == Version::HTTP_2 {
            activity.http2.store(true, Ordering::Relaxed);
        }
        Self {
            activity: Arc::clone(activity),
            taken: None,
            held: None,
            is_page: false,
        }
    }

    /// Counts an error page for want of memory over HTTP/2. Returns false if the client has left
    /// too many responses.
    pub fn add_page(&mut self) -> bool {
        self.is_page = self.activity.unsent.add_page();
        self.is_page
    }

    /// Reserves memory for the request. Returns false if there is none.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        if bytes > 0 {
            let account = &self.activity.account;
            self.held = match self.activity.requests.load(Ordering::Relaxed) {
                1 => account.try_reserve_for_first(bytes),
                _ => account.try_reserve(Resource::Memory, bytes),
            };
        }
        bytes == 0 || self.held.is_some()
    }

    /// The account of the connection.
    pub fn account(&self) -> &Arc<Account> {
        &self.activity.account
    }

    /// Returns all but `bytes` of the memory of [`InUse::reserve`].
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            held.shrink(bytes);
        }
    }

    /// The memory of the response's parts.
    pub fn in_hand(&self) -> InHand {
        InHand::new(&self.activity.account, &self.activity.in_hand)
    }

    /// The response is sent from now on: the client's time runs until it asks for a part of the
    /// body ([`InUse::asked`]), and again once it was given one ([`InUse::gave`]).
    pub fn follow(&mut self) {
        if self.activity.http2.load(Ordering::Relaxed) {
            let pace = MinRate::new(self.activity.patience);
            let taken = Arc::new(Taken(Mutex::new((pace, Some(Instant::now())))));
            self.activity.streams().push(Arc::clone(&taken));
            self.taken = Some(taken);
        }
    }

    /// The connection's sendfile queue.
    pub fn sendfile_queue(&self) -> &SendfileQueue {
        &self.activity.sendfile_queue
    }

    /// The connection's flushes.
    pub fn flushes(&self) -> &Flushed {
        &self.activity.flushed
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
        let unsent = &self.activity.unsent;
        // A stream that is refused has neither.
        if self.is_page || self.held.is_some() && self.activity.is_http2() {
            unsent.add(&self.activity.account);
        }
        if self.is_page {
            unsent.page_ended();
        }
        self.activity.changed();
        if self.activity.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            METRICS.connections.active.dec();
        }
    }
}
