//! The body of a request as hyper delivers it, and the memory that h2 uses for such bodies.
//!
//! A body that arrived with its head over HTTP/1 does not come through hyper
//! ([`crate::front::connection::stream`]).
//!
//! A client of HTTP/2 sends as much as its windows allow, 1 MiB on each connection. h2 keeps the
//! bytes while they are unread: the worker of a streamed body or the disk of a spooled one is slow.
//! [`Unread`] charges them to the memory of the connection, frame by frame. Without room the socket
//! is not read ([`Unread::may_read`]), until bodies are read or others return memory.
//!
//! The count is an upper bound: the unread rest of a body that is dropped early is unknown.
//! WINDOW_UPDATE frames of the connection correct it, and a connection without streams has none.

use parking_lot::{Mutex, MutexGuard};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::front::client_limits::memory_budget::{Account, Reservation, Resource};

/// Unread bytes that are part of [`HTTP2`](crate::front::client_limits::memory_budget::HTTP2).
const INCLUDED: usize = 16 << 10;
/// Bytes read at a time.
const READ: usize = 16 << 10;
/// Memory that h2 uses for a DATA frame in addition to its payload: an entry in the buffer of
/// events, which grows by doubling, and its share of a read buffer. Measured with frames of 300
/// bytes.
const FRAME: usize = 512;
/// Longest payload of a frame (RFC 9113 §4.2); the server announces no other.
const LONGEST: u64 = 16 << 10;

/// Frames and their payload.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of payload.
    pub bytes: u64,
    /// The number of frames.
    pub frames: u64,
}

/// Flow control on a connection (RFC 9113 §5.2).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// DATA frames received.
    pub data: Amount,
    /// Those received since the connection last had no stream, if it ever had none.
    pub since_idle: Option<Amount>,
    /// Bytes by which the window of the connection was opened.
    pub credited: u64,
}

/// A request's body.
#[derive(Debug)]
pub struct Received {
    body: Source,
    /// The connection, over HTTP/2.
    unread: Option<Arc<Unread>>,
    /// More was requested than had arrived.
    waits: bool,
}

#[derive(Debug)]
enum Source {
    /// hyper reads it.
    Hyper(Incoming),
    /// All of it, until it is taken.
    Memory(Option<Bytes>),
}

impl Received {
    /// A body received over HTTP/1.
    pub fn over_http1(body: Incoming) -> Self {
        Self {
            body: Source::Hyper(body),
            unread: None,
            waits: false,
        }
    }

    /// A body that arrived with its head.
    pub fn whole(body: Bytes) -> Self {
        Self {
            body: Source::Memory(Some(body)),
            unread: None,
            waits: false,
        }
    }

    /// True if bytes of it may be in the socket.
    pub fn is_unread(&self) -> bool {
        match &self.body {
            Source::Hyper(body) => !body.is_end_stream(),
            Source::Memory(_) => false,
        }
    }

    /// Takes a body that arrived with its head.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.body {
            Source::Hyper(_) => None,
            Source::Memory(body) => body.take(),
        }
    }

    /// A body received over HTTP/2.
    pub fn over_http2(body: Incoming, unread: &Arc<Unread>) -> Self {
        // Most requests have no body.
        let unread = (!body.is_end_stream()).then(|| Arc::clone(unread));
        if let Some(unread) = &unread {
            let mut state = unread.lock();
            state.bodies += 1;
            state.busy += 1;
        }
        Self {
            body: Source::Hyper(body),
            unread,
            waits: false,
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.body {
            Source::Hyper(body) => Pin::new(body).poll_frame(context),
            Source::Memory(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        if let Some(unread) = &self.unread {
            let length = match &polled {
                Poll::Ready(Some(Ok(frame))) => frame.data_ref().map(Bytes::len),
                _ => None,
            };
            let waits = polled.is_pending();
            if waits != self.waits || length.is_some() {
                unread.lock().polled(self.waits, waits, length);
                self.waits = waits;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Hyper(body) => body.is_end_stream(),
            Source::Memory(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Hyper(body) => body.size_hint(),
            Source::Memory(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(unread) = &self.unread {
            let mut state = unread.lock();
            state.bodies -= 1;
            state.busy -= usize::from(!self.waits);
        }
    }
}

/// Memory that h2 uses for the bodies of one connection.
#[derive(Debug, Default)]
pub struct Unread(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Number of bodies, and of those that have not been found empty.
    bodies: usize,
    busy: usize,
    received: Amount,
    read: Amount,
    /// A lower bound of the bytes announced by WINDOW_UPDATE frames of the connection.
    credited: Amount,
    memory: Option<Reservation>,
}

impl Unread {
    /// True if the socket may be read: there is memory, or nothing is unread. `has_paused`: the
    /// socket was not read for a moment, during which bodies that had more were read.
    pub fn may_read(&self, account: &Arc<Account>, has_paused: bool) -> bool {
        let mut state = self.lock();
        let unread = state.unread();
        let wanted = unread + READ;
        if wanted <= INCLUDED + READ {
            return true;
        }
        let memory = state
            .memory
            .get_or_insert_with(|| Reservation::none(Arc::clone(account), Resource::Memory));
        memory.grow(wanted - INCLUDED) || has_paused && state.busy == 0
    }

    /// Counts the flow control of the connection.
    pub fn count(&self, flow: Flow, account: &Arc<Account>) {
        if flow == Flow::default() {
            return;
        }
        let mut state = self.lock();
        state.received.bytes += flow.data.bytes;
        state.received.frames += flow.data.frames;
        let Amount { bytes, frames } = state.received;
        if let (Some(since), 0) = (flow.since_idle, state.bodies) {
            state.read = Amount {
                bytes: bytes - since.bytes,
                frames: frames - since.frames,
            };
        }
        // The first WINDOW_UPDATE enlarges the window, and releases nothing.
        state.credited.bytes = (state.credited.bytes + flow.credited).min(bytes);
        state.credited.frames = state.credited.bytes / LONGEST;
        let unread = state.unread();
        if unread > INCLUDED {
            let none = || Reservation::none(Arc::clone(account), Resource::Memory);
            let memory = state.memory.get_or_insert_with(none);
            memory.hold(unread - INCLUDED);
        }
        state.shrink();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// Upper bound of the memory that h2 uses, in bytes.
    fn unread(&self) -> usize {
        let since = |part: fn(&Amount) -> u64| {
            let gone = part(&self.read).max(part(&self.credited));
            usize::try_from(part(&self.received).saturating_sub(gone)).unwrap_or(usize::MAX / 2)
        };
        since(|amount| amount.bytes) + FRAME * since(|amount| amount.frames)
    }

    fn shrink(&mut self) {
        let unread = self.unread();
        if let Some(memory) = &mut self.memory {
            memory.shrink(unread.saturating_sub(INCLUDED));
        }
    }

    /// Records that a body was polled, with the length of the frame that it returned, if any.
    fn polled(&mut self, waited: bool, waits: bool, length: Option<usize>) {
        self.busy = self.busy + usize::from(waited) - usize::from(waits);
        if let Some(length) = length {
            self.read.bytes += length as u64;
            self.read.frames += 1;
            self.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::client_limits::memory_budget::Resource::Memory;

    const FRAMES: usize = 64;

    fn data(bytes: usize) -> Flow {
        let bytes = bytes as u64;
        let data = Amount { bytes, frames: 1 };
        Flow {
            data,
            ..Flow::default()
        }
    }

    /// A connection with one body, of which so many frames have arrived.
    fn filled(account: &Arc<Account>, frames: usize, length: usize) -> Unread {
        let unread = Unread::default();
        unread.lock().bodies = 1;
        unread.lock().busy = 1;
        for _ in 0..frames {
            unread.count(data(length), account);
        }
        unread
    }

    fn held(unread: &Unread) -> usize {
        unread.lock().memory.as_ref().map_or(0, Reservation::amount)
    }

    #[test]
    fn unread_frames_are_charged_until_they_are_read_or_credited() {
        let account = Arc::new(Account::of_address());
        let unread = filled(&account, FRAMES, READ);
        assert_eq!(held(&unread), FRAMES * (READ + FRAME) - INCLUDED);
        for _ in 0..FRAMES / 4 {
            unread.lock().polled(false, false, Some(READ));
        }
        assert_eq!(held(&unread), FRAMES / 4 * 3 * (READ + FRAME) - INCLUDED);
        // The rest was dropped unread.
        let credited = (FRAMES * READ) as u64;
        let window = Flow {
            credited,
            ..Flow::default()
        };
        unread.count(window, &account);
        assert_eq!(held(&unread), 0);
        let tiny = filled(&account, 10_000, 1);
        assert!(held(&tiny) > 9_000 * FRAME, "frames of one byte");
        let idle = Flow {
            since_idle: Some(Amount::default()),
            ..Flow::default()
        };
        tiny.count(idle, &account);
        assert!(held(&tiny) > 0, "a body is left");
        tiny.lock().bodies = 0;
        tiny.count(idle, &account);
        assert_eq!(held(&tiny), 0);
    }

    #[test]
    fn without_room_only_bodies_that_are_read_go_on() {
        let account = Arc::new(Account::of_connection(Arc::new(Account::of_address())));
        // More than one connection may use.
        let share = Memory.pool().limit() / 4;
        let unread = filled(&account, share / READ, READ);
        assert!(!unread.may_read(&account, false) && !unread.may_read(&account, true));
        unread.lock().polled(false, true, None);
        assert!(!unread.may_read(&account, false) && unread.may_read(&account, true));
        assert!(Unread::default().may_read(&account, false));
    }
}
