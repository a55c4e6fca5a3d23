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
            let is_first = self.of_connection.load(Ordering::Relaxed) == 0;
            self.room = self
                .long_part()
                .or_else(|| is_first.then(|| self.least_part()));
            if self.room.is_none() {
                self.pause = Some(Box::pin(tokio::time::sleep(ASK_AGAIN)));
            }
        }
        Poll::Ready(())
    }

    fn long_part(&self) -> Option<Room> {
        let part = self.account.try_reserve(Resource::Parts, PART)?;
        let memory = self.account.try_reserve(Resource::Memory, PART)?;
        Some(Room::new(memory, part, Arc::clone(&self.of_connection)))
    }

    fn least_part(&self) -> Room {
        let part = Reservation::none(Arc::clone(&self.account), Resource::Parts);
        let memory = self.account.hold(LEAST);
        Room::new(memory, part, Arc::clone(&self.of_connection))
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
    /// The same of [`Resource::Parts`]; none for a part of [`LEAST`] bytes.
    part: Reservation,
    of_connection: Arc<AtomicUsize>,
}

impl Room {
    fn new(reservation: Reservation, part: Reservation, of_connection: Arc<AtomicUsize>) -> Self {
        of_connection.fetch_add(reservation.amount(), Ordering::Relaxed);
        Self {
            reservation,
            part,
            of_connection,
        }
    }

    fn fit(&mut self, bytes: usize) {
        let before = self.reservation.amount();
        self.reservation.shrink(bytes);
        self.part.shrink(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A response on a connection from an address of its own.
    fn response() -> InHand {
        let connection = Account::of_connection(Arc::new(Account::of_address()));
        InHand::new(&Arc::new(connection), &Arc::default())
    }

    async fn with_room() -> InHand {
        let mut response = response();
        std::future::poll_fn(|context| response.poll_room(context)).await;
        response
    }

    #[tokio::test]
    async fn unread_parts_take_a_fraction_of_the_memory_and_each_connection_gets_a_short_one() {
        let limit = Resource::Parts.pool().limit();
        assert_eq!(limit, Resource::Memory.pool().limit() / 8);
        let mut unread = Vec::new();
        for _ in 0..2 * limit / PART {
            unread.push(with_room().await);
        }
        let long = unread.iter().filter(|response| response.room() == PART);
        assert!(long.count() * PART <= limit);
        let short = with_room().await;
        assert_eq!(short.room(), LEAST);
        drop(unread);
        assert!(Resource::Parts.pool().free() > limit / 2);
    }

    #[tokio::test]
    async fn a_part_is_charged_with_its_length_until_it_is_dropped() {
        let mut response = with_room().await;
        let part = response.charged(Bytes::from(vec![0; 10_000]));
        let room = Arc::clone(&response.of_connection);
        assert_eq!(room.load(Ordering::Relaxed), 10_000);
        drop((response, part));
        assert_eq!(room.load(Ordering::Relaxed), 0);
    }
}
