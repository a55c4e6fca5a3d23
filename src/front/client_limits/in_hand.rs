//! The memory of response parts that hyper has been given and has not sent.
//!
//! hyper asks for parts of a response long before its client takes them, over HTTP/2 of 128
//! responses at a time. Each part is charged to the connection's account until its last byte is
//! sent or dropped. Without room the response waits; one part of each connection is always sent, so
//! every client that reads is served.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, SMALL};

/// Longest part that a body gives at a time.
const PART: usize = 64 << 10;
/// The part that a connection without any other gets, whatever is free.
const LEAST: usize = SMALL;
/// The pause before a waiting response asks for memory again.
pub const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The parts of one response.
#[derive(Debug)]
pub struct InHand {
    account: Arc<Account>,
    /// Bytes of all responses of the connection.
    of_connection: Arc<AtomicUsize>,
    /// Room for the part that is asked for.
    room: Option<Room>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl InHand {
    /// The parts of a response on a connection whose responses hold `of_connection` bytes in all.
    pub fn new(account: &Arc<Account>, of_connection: &Arc<AtomicUsize>) -> Self {
        Self {
            account: Arc::clone(account),
            of_connection: Arc::clone(of_connection),
            room: None,
            pause: None,
        }
    }

    /// Waits until there is room for the next part, and reserves it.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.room.is_none() {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let reservation = match self.of_connection.load(Ordering::Relaxed) {
                0 => {
                    let room = self.account.try_reserve(Resource::Memory, PART);
                    Some(room.unwrap_or_else(|| self.account.hold(LEAST)))
                }
                _ => self.account.try_reserve(Resource::Memory, PART),
            };
            match reservation {
                Some(reservation) => {
                    let of_connection = Arc::clone(&self.of_connection);
                    self.room = Some(Room::new(reservation, of_connection));
                }
                None => self.pause = Some(Box::pin(tokio::time::sleep(ASK_AGAIN))),
            }
        }
        Poll::Ready(())
    }

    /// Bytes that the next part may have.
    pub fn room(&self) -> usize {
        let amount = |room: &Room| room.reservation.amount();
        self.room.as_ref().map_or(PART, amount)
    }

    /// Returns the reserved room: there is no part yet, and none is being read.
    pub fn has_none(&mut self) {
        self.room = None;
    }

    /// The part with its reservation, held until the connection drops the part.
    pub fn charged(&mut self, bytes: Bytes) -> Bytes {
        let Some(mut room) = self.room.take() else {
            return bytes;
        };
        room.fit(bytes.len());
        Bytes::from_owner(Part { bytes, _room: room })
    }
}

/// Memory for a part.
#[derive(Debug)]
struct Room {
    reservation: Reservation,
    of_connection: Arc<AtomicUsize>,
}

impl Room {
    fn new(reservation: Reservation, of_connection: Arc<AtomicUsize>) -> Self {
        of_connection.fetch_add(reservation.amount(), Ordering::Relaxed);
        Self {
            reservation,
            of_connection,
        }
    }

    fn fit(&mut self, bytes: usize) {
        let before = self.reservation.amount();
        self.reservation.shrink(bytes);
        // Only few HTTP/1 bodies give longer parts.
        self.reservation.hold(bytes);
        self.of_connection.fetch_add(bytes, Ordering::Relaxed);
        self.of_connection.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let amount = self.reservation.amount();
        self.of_connection.fetch_sub(amount, Ordering::Relaxed);
    }
}

struct Part {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
