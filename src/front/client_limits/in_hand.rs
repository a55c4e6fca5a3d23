//! The memory of response parts that hyper has been given and has not sent.
//!
//! hyper asks for parts of a response long before its client takes them, over HTTP/2 of 128
//! responses at a time. Each part is charged to the connection's account until its last byte is
//! sent or dropped. Without room the response waits; one part of each connection is always sent, so
//! every client that reads is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use parking_lot::Mutex;

use super::ask_again::AskAgain;
use super::memory_budget::{Account, Reservation, Resource, SMALL};

/// Longest part that a body gives at a time.
const PART: usize = 64 << 10;
/// The part that a connection without any other gets, whatever is free.
const LEAST: usize = SMALL;
/// Responses of a connection that wait; with more, all of them ask again. A client may reset one
/// after the other.
const MOST_WAITING: usize = 256;

/// The parts that all responses of a connection hold.
#[derive(Debug, Default)]
pub struct OfConnection {
    bytes: AtomicUsize,
    /// Responses without room. The first of them gets a part when `bytes` is zero again: until then
    /// only memory that others release would help, for which [`AskAgain`] looks.
    waiting: Mutex<Vec<Waker>>,
}

impl OfConnection {
    fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST_WAITING {
            waiting.drain(..).for_each(Waker::wake);
        }
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        if bytes > 0 && self.bytes.fetch_sub(bytes, Ordering::Relaxed) == bytes {
            // Woken without the lock: a task may be polled at once by another thread.
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// The parts of one response.
#[derive(Debug)]
pub struct InHand {
    account: Arc<Account>,
    of_connection: Arc<OfConnection>,
    /// Room for the part that is asked for.
    room: Option<Room>,
    ask_again: AskAgain,
}

impl InHand {
    /// The parts of a response on a connection whose responses hold `of_connection`.
    pub fn new(account: &Arc<Account>, of_connection: &Arc<OfConnection>) -> Self {
        Self {
            account: Arc::clone(account),
            of_connection: Arc::clone(of_connection),
            room: None,
            ask_again: AskAgain::default(),
        }
    }

    /// Waits until there is room for the next part, and reserves it.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.room.is_none() {
            self.room = self.next_room();
            if self.room.is_none() {
                self.of_connection.wait(context.waker());
                // The last part may have been sent meanwhile.
                self.room = self.next_room();
            }
            if self.room.is_none() {
                ready!(self.ask_again.poll(context));
            }
        }
        self.ask_again.done();
        Poll::Ready(())
    }

    fn next_room(&self) -> Option<Room> {
        let is_first = self.of_connection.is_empty();
        self.long_part()
            .or_else(|| is_first.then(|| self.least_part()))
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
    of_connection: Arc<OfConnection>,
}

impl Room {
    fn new(reservation: Reservation, part: Reservation, of_connection: Arc<OfConnection>) -> Self {
        of_connection.add(reservation.amount());
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
        self.of_connection.add(bytes);
        self.of_connection.sub(before);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of_connection.sub(self.reservation.amount());
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
    use std::future::poll_fn;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    /// A response on a connection from an address of its own.
    fn response() -> InHand {
        let connection = Account::of_connection(Arc::new(Account::of_address()));
        InHand::new(&Arc::new(connection), &Arc::default())
    }

    async fn with_room() -> InHand {
        let mut response = response();
        poll_fn(|context| response.poll_room(context)).await;
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

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_response_without_room_goes_on_when_its_connection_has_sent_the_last_part() {
        let limit = Resource::Parts.pool().limit();
        let mut unread = Vec::new();
        for _ in 0..=limit / PART {
            unread.push(with_room().await);
        }
        let mut first = with_room().await;
        let part = first.charged(Bytes::from(vec![0; LEAST]));
        let mut second = InHand::new(&first.account, &first.of_connection);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let mut context = Context::from_waker(&waker);
        assert!(second.poll_room(&mut context).is_pending());
        assert!(!flag.0.load(Ordering::Relaxed));
        drop(part);
        assert!(flag.0.load(Ordering::Relaxed));
        // The pause of the timer goes on.
        assert!(second.poll_room(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_part_is_charged_with_its_length_until_it_is_dropped() {
        let mut response = with_room().await;
        let part = response.charged(Bytes::from(vec![0; 10_000]));
        let room = Arc::clone(&response.of_connection);
        assert_eq!(room.bytes.load(Ordering::Relaxed), 10_000);
        drop((response, part));
        assert!(room.is_empty());
    }
}
