//! A response body on its way from an upstream to the client: read from the worker at once,
//! forwarded at once, kept in memory while it is short and in a file when it is long, with
//! back-pressure on the worker when neither has room.
//!
//! One side ([`BodySender`]) belongs to the task that reads from the upstream, the other
//! ([`ResponseBody`]) to the client's connection. Each notices when the other is dropped. Waiting
//! bytes are, in this order: pieces that the connection holds, those in the file, those in memory.
//! A client that keeps up never has anything in a file.

pub mod budget;
mod taking;
#[cfg(test)]
mod tests;

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use self::budget::Budget;
use self::taking::Streamed;
use super::response_spool::{ClientSpool, SpoolFile, Write};

/// Most bytes that a connection gets before it has sent the previous ones. hyper would take 256 KiB
/// and more of every response whose client is slow.
const IN_HAND: usize = 64 << 10;
/// Limit for an unbuffered response.
const IN_HAND_DIRECT: usize = 16 << 10;
/// Number of bytes read from the file at a time.
const BLOCK: usize = 64 << 10;
/// Time that a client has to make room before its response is written to a file. A client that
/// reads as fast as the application writes needs less, even on a busy machine.
const HESITATE: Duration = Duration::from_millis(5);

/// Settings for responses that are produced faster than the client reads them.
#[derive(Debug, Clone)]
pub enum Buffering {
    /// Memory first, then a file.
    Spool(ClientSpool),
    /// The upstream waits.
    Off,
}

/// The client's end.
pub struct ResponseBody(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Streamed(Box<Streamed>),
}

/// The upstream's end.
pub struct BodySender(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The client's end took something, was dropped, or has decided about buffering.
    changed: Notify,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    /// The pieces after those in the file.
    chunks: VecDeque<Bytes>,
    /// Their total length.
    buffered: usize,
    spooled: Option<SpoolFile>,
    /// Bytes on their way to the file: after its content, before the chunks. They count until
    /// they are written.
    writing: usize,
    /// Bytes that the connection holds and has not sent.
    in_hand: usize,
    buffering: Waiting,
    end: Option<Result<(), &'static str>>,
    app_time: Duration,
    client_gone: bool,
    reader: Option<Waker>,
}

#[derive(Default)]
enum Waiting {
    /// Undecided: the head is on its way to the client. Like [`Waiting::InMemory`].
    #[default]
    Undecided,
    Spool(ClientSpool),
    /// The disk has failed.
    InMemory,
    Direct,
}

/// Next step of the producer.
enum Step {
    /// Take more.
    Take,
    /// Wait for the client.
    Wait,
    /// Wait a moment for the client.
    Hesitate,
    /// Write to the file.
    Spool(Write),
}

impl ResponseBody {
    /// A complete body in memory.
    pub fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(Some(bytes)))
    }

    /// A complete body that waits in a file for its client. `None`: there is no room for a file, or
    /// the disk has failed.
    pub async fn in_file(bytes: Bytes, spool: ClientSpool) -> Option<Self> {
        let mut spooled = SpoolFile::new(spool);
        let length = bytes.len();
        if !spooled.make_room(length) {
            return None;
        }
        let (file, _written) = spooled.write(vec![bytes], length).run().await;
        spooled.wrote(file.ok()?, length);
        let (feed, body) = Self::streamed(Budget::of_process(), || ());
        feed.0.lock().spooled = Some(spooled);
        feed.end(Ok(()), Duration::ZERO);
        Some(body)
    }

    /// Creates a body that is produced piece by piece. `abandon` runs if the client disconnects
    /// before its end. Until [`ResponseBody::buffer`] is called, the producer waits when memory is
    /// full. Frames count against [`IN_HAND`] until they are dropped.
    pub fn streamed(
        budget: Arc<Budget>,
        abandon: impl FnOnce() + Send + Sync + 'static,
    ) -> (BodySender, Self) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            budget,
        });
        let body = Streamed {
            shared: Arc::clone(&shared),
            abandon: Some(Box::new(abandon)),
            reading: None,
            part: BLOCK,
        };
        (BodySender(shared), Self(Inner::Streamed(Box::new(body))))
    }

    /// Sets the buffering for a client that is slower than the upstream.
    pub fn buffer(&self, buffering: Buffering) {
        if let Inner::Streamed(streamed) = &self.0 {
            streamed.shared.lock().buffering = match buffering {
                Buffering::Spool(spool) => Waiting::Spool(spool),
                Buffering::Off => Waiting::Direct,
            };
            streamed.shared.changed.notify_one();
        }
    }

    /// The whole body, if it is complete in memory.
    pub fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref(),
            Inner::Streamed(_) => None,
        }
    }

    /// Sets the number of bytes of a piece, [`BLOCK`] at most.
    pub fn read_in_parts_of(&mut self, most: usize) {
        if let Inner::Streamed(streamed) = &mut self.0 {
            streamed.part = most.clamp(1, BLOCK);
        }
    }

    /// True while a part of it is being read from the disk.
    pub fn is_being_read(&self) -> bool {
        match &self.0 {
            Inner::Whole(_) => false,
            Inner::Streamed(streamed) => streamed.reading.is_some(),
        }
    }

    /// Total time that the application has taken, once the body has ended.
    pub fn app_time(&self) -> Option<Duration> {
        match &self.0 {
            Inner::Whole(_) => None,
            Inner::Streamed(streamed) => {
                let state = streamed.shared.lock();
                state.end.is_some().then_some(state.app_time)
            }
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Whole(bytes) => f
                .debug_tuple("Whole")
                .field(&bytes.as_ref().map(Bytes::len))
                .finish(),
            Inner::Streamed(_) => f.write_str("Streamed"),
        }
    }
}

impl BodySender {
    /// Adds a piece. `false`: the client has disconnected and the rest is not wanted.
    pub fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.0.lock();
        if state.client_gone {
            return false;
        }
        state.buffered += chunk.len();
        self.0.budget.add(chunk.len());
        state.chunks.push_back(chunk);
        wake(state.reader.take());
        true
    }

    /// Waits until there is room for more, or the body has been dropped.
    pub async fn room(&self) {
        let mut hesitated = false;
        loop {
            let step = self.0.next_step(hesitated);
            match step {
                Step::Take => return,
                // A client that takes something between this check and this wait has left a note in
                // `changed`.
                Step::Wait => self.0.changed.notified().await,
                Step::Hesitate => {
                    let _elapsed = tokio::time::timeout(HESITATE, self.fits()).await;
                    hesitated = true;
                }
                Step::Spool(write) => self.spool(write).await,
            }
        }
    }

    /// Ends the response, complete or truncated for the reason given.
    pub fn end(&self, result: Result<(), &'static str>, app_time: Duration) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(result);
            state.app_time = app_time;
        }
        wake(state.reader.take());
    }

    async fn fits(&self) {
        while !matches!(self.0.next_step(false), Step::Take) {
            self.0.changed.notified().await;
        }
    }

    async fn spool(&self, write: Write) {
        let length = write.length;
        let (result, mut write) = write.run().await;
        let mut state = self.0.lock();
        state.writing = 0;
        if state.client_gone {
            return;
        }
        match (result, &mut state.spooled) {
            (Ok(file), Some(spooled)) => spooled.wrote(file, length),
            _ => {
                // The pieces return to memory; the file is not used again for this response.
                state.buffering = Waiting::InMemory;
                for piece in std::mem::take(&mut write.pieces).into_iter().rev() {
                    state.chunks.push_front(piece);
                }
                state.buffered += length;
                if let Some(charge) = write.charge.take() {
                    charge.keep();
                }
            }
        }
        wake(state.reader.take());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn next_step(&self, hesitated: bool) -> Step {
        let mut state = self.lock();
        let is_behind = state
            .spooled
            .as_ref()
            .is_some_and(|spooled| spooled.unread() > 0);
        let limit = match &state.buffering {
            Waiting::Direct => 0,
            _ => self.budget.share(is_behind),
        };
        if state.client_gone || state.buffered <= limit {
            return Step::Take;
        }
        let Waiting::Spool(spool) = &state.buffering else {
            return Step::Wait;
        };
        if !is_behind && !hesitated {
            return Step::Hesitate;
        }
        let spool = spool.clone();
        let length = state.buffered;
        let spooled = state.spooled.get_or_insert_with(|| SpoolFile::new(spool));
        if !spooled.make_room(length) {
            return Step::Wait;
        }
        let mut write = spooled.write(Vec::new(), length);
        write.pieces = std::mem::take(&mut state.chunks).into();
        write.charge = Some(self.budget.charge(length));
        state.buffered = 0;
        state.writing = length;
        Step::Spool(write)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Inner::Whole(bytes) => {
                let chunk = bytes.take().filter(|chunk| !chunk.is_empty());
                Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
            Inner::Streamed(streamed) => {
                let chunk = std::task::ready!(streamed.poll(context));
                Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Streamed(streamed) => {
                let state = streamed.shared.lock();
                let on_disk = state.spooled.as_ref().map_or(0, SpoolFile::unread);
                state.chunks.is_empty()
                    && state.writing == 0
                    && on_disk == 0
                    && matches!(state.end, Some(Ok(())))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Streamed(_) => SizeHint::default(),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
