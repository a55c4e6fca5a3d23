//! Detects that hyper has written everything that it was given.
//!
//! hyper closes a connection at the moment in which a body fails, and drops what it has not
//! written: the client would get nothing of a response whose first part was ready. So a body
//! reports its error only when the rest is written.

use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::Version;
use tokio::time::Sleep;

/// Longest time that HTTP/2 takes to write a head.
const MOMENT: Duration = Duration::from_millis(10);

/// The socket reports flushes here, and bodies wait for them.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Checked at every flush: without a waiting body a flush costs nothing more.
    is_awaited: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    flushes: u64,
    bodies: Vec<Waker>,
}

impl Flushed {
    /// Reports a flush.
    pub fn now(&self) {
        if !self.is_awaited.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock();
        self.is_awaited.store(false, Ordering::Relaxed);
        waiting.flushes += 1;
        for body in waiting.bodies.drain(..) {
            body.wake();
        }
    }

    /// Waits for the first flush after the first call, which sets `since`.
    pub fn poll(&self, context: &mut Context<'_>, since: &mut Option<u64>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        if *since.get_or_insert(waiting.flushes) < waiting.flushes {
            return Poll::Ready(());
        }
        waiting.bodies.push(context.waker().clone());
        self.is_awaited.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// The end of a body that has failed, while the connection still writes what it was given.
pub struct Break {
    error: Option<io::Error>,
    way: Way,
}

enum Way {
    /// Until the next flush.
    Flush(Option<u64>),
    /// HTTP/2 may have flushed before. Bodies of upstreams have waited for the rest themselves,
    /// except for a head.
    Moment(Pin<Box<Sleep>>),
}

impl Break {
    /// The end of a body that failed with `error`, over this version of HTTP.
    pub fn new(error: io::Error, version: Version) -> Self {
        Self {
            error: Some(error),
            way: match version {
                Version::HTTP_2 => Way::Moment(Box::pin(tokio::time::sleep(MOMENT))),
                _ => Way::Flush(None),
            },
        }
    }

    /// Returns the error once the connection may see it.
    pub fn poll(&mut self, context: &mut Context<'_>, flushed: &Flushed) -> Poll<io::Error> {
        match &mut self.way {
            Way::Flush(since) => ready!(flushed.poll(context, since)),
            Way::Moment(moment) => ready!(moment.as_mut().poll(context)),
        }
        let error = self.error.take();
        Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::Other.into()))
    }
}
