//! A client's socket as hyper sees it: bytes are sent as they are, and in place of stand-ins the
//! kernel sends a file.
//!
//! 1. Every write is searched for stand-ins ([`crate::front::sendfile::queue`]);
//! 2. bytes before the first stand-in are sent, held back briefly so that they share a packet with
//!    the file;
//! 3. if the file's next bytes are not in the page cache, the
//!    [`FilePool`](crate::front::sendfile::file_pool) reads them, while the thread serves others;
//! 4. `sendfile` sends as many as the socket accepts.
//!
//! It reads one request at a time for hyper ([`crate::front::protocol::framing`]), with its body if
//! that has arrived, answers some requests before hyper sees them ([`crate::front::fast_path`]), and detects that a client with a
//! complete request disconnects; frames of HTTP/2 pass through [`crate::front::protocol::http2`].
//! It also reports arriving bytes to the connection's [`Activity`], and closes the connection of a
//! client that reads too slowly ([`crate::front::client_limits::min_rate`]).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use self::frame_turn::FrameTurn;
use crate::front::activity::Activity;
use crate::front::client_limits::ask_again::AskAgain;
use crate::front::client_limits::memory_budget::{Reservation, Resource};
use crate::front::client_limits::min_rate::SendRate;
use crate::front::fast_path::FastPath;
use crate::front::give_way::give_way;
use crate::front::protocol::framing::{Framing, FramingPhase};
use crate::front::protocol::http2::Http2;
use crate::front::sendfile::file_source::{BLOCK, Source, became_shorter};
use crate::front::sendfile::queue::{Piece, Plan};
use crate::front::socket::Socket;
use crate::os::{sendfile, sockets};

/// The error of a write to a client that is too slow.
const TOO_SLOW: &str = "the client reads the response too slowly (--body-timeout, --min-body-rate)";
/// Bytes of files that one connection sends before others have their turn: 0.2 ms (nginx's
/// `sendfile_max_chunk` has the same default).
const TURN: usize = 2 << 20;

/// The socket that hyper writes to.
pub struct Stream {
    socket: Option<Socket>,
    /// Bytes received and not yet examined; they precede those that the socket receives.
    early: BytesMut,
    /// Number of its bytes known to be the beginning of a head.
    looked: usize,
    /// Memory of `early` for a long head; over HTTP/2 that of the connection.
    early_memory: Reservation,
    /// Memory of hyper's buffers, once it has read a head.
    hyper_memory: Reservation,
    /// The rest of a head for which hyper had no room.
    head: Bytes,
    framing: Framing,
    /// The socket has bytes of which the runtime does not know.
    has_unread: bool,
    /// Timer for another attempt while there is no memory for the bodies of HTTP/2.
    no_memory: AskAgain,
    /// The client has half-closed the connection, and waits for its responses.
    is_half_closed: bool,
    /// The bytes of a client of HTTP/2 have ended, which hyper does not know.
    has_end_of_requests: bool,
    /// The time of the newest request behind which the socket has been found without a FIN.
    found_open: Option<Instant>,
    /// Timer of the next check of a half-closed client.
    look_again: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
    /// Receiver of the socket of a client that may still be sending.
    behind: Option<oneshot::Sender<Socket>>,
    /// The write side is closed, and everything has been sent.
    is_shut_down: bool,
    sending: Option<Sending>,
    taking: SendRate,
    http2: Http2,
    frame_turn: FrameTurn,
    /// The fast path.
    fast_path: Option<FastPath>,
    /// Bytes of files sent since others had their turn.
    in_a_row: usize,
}

/// A piece of a file being sent.
struct Sending {
    piece: Piece,
    step: Step,
}

enum Step {
    /// By the kernel.
    Send,
    /// The next bytes are being read into the page cache.
    Fetch(Job<()>),
    /// A block is being read, because the kernel cannot send this file.
    Read(Job<Bytes>),
    /// The block is being sent.
    Copy(Bytes),
}

/// Reads the next block of a file that the kernel cannot send.
fn read(source: &Arc<Source>, offset: u64, length: usize) -> Step {
    let read = Arc::clone(source).read(offset, BLOCK.min(length));
    Step::Read(Box::pin(read))
}

type Job<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Stream {
    /// A stream over `socket`, of which `early` has been read already.
    pub fn new(socket: Socket, early: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            socket: Some(socket),
            early: early.into(),
            looked: 0,
            early_memory: Reservation::none(Arc::clone(&activity.account), Resource::Memory),
            hyper_memory: Reservation::none(Arc::clone(&activity.account), Resource::Memory),
            head: Bytes::new(),
            framing: Framing::default(),
            has_unread: false,
            no_memory: AskAgain::default(),
            is_half_closed: false,
            has_end_of_requests: false,
            found_open: None,
            look_again: None,
            taking: SendRate::new(activity.patience),
            activity,
            behind: None,
            is_shut_down: false,
            sending: None,
            http2: Http2::default(),
            frame_turn: FrameTurn::default(),
            fast_path: None,
            in_a_row: 0,
        }
    }

    /// Enables the fast path.
    pub fn with_fast_path(mut self, fast_path: FastPath) -> Self {
        self.fast_path = Some(fast_path);
        self
    }

    /// Hands over the socket on close if the client may still be sending, for a [lingering
    /// close](super::lingering_close).
    pub fn leaving_behind(mut self, to: oneshot::Sender<Socket>) -> Self {
        self.behind = Some(to);
        self
    }

    /// Returns the memory of hyper's buffers.
    pub(crate) fn hyper_is_gone(&mut self) {
        self.hyper_memory.shrink(0);
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("taken only on drop")
    }

    fn poll_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        let plan = self.activity.sendfile_queue.plan(parts);
        if let Err(error) = &plan {
            tracing::error!(%error, "connection closed");
        }
        match plan? {
            Plan::Bytes => {
                let written = match self.http2.corrected(parts) {
                    None => self.poll_send(context, parts),
                    Some(bytes) => Pin::new(self.socket()).poll_write(context, &bytes),
                };
                if self.http2.is_there() {
                    if let Poll::Ready(Ok(written)) = written {
                        self.http2.sent(parts, written, &self.activity.refused);
                    }
                    // Where nothing is sent, resets may have been queued.
                    self.count_http2();
                    if self.has_end_of_requests && self.http2.open_streams() == 0 {
                        // The read side waits for the last response.
                        context.waker().wake_by_ref();
                    }
                }
                self.in_time(context, written)
            }
            Plan::Head(1) => self.poll_head(context, &parts[0]),
            Plan::Head(count) => {
                let written = Pin::new(self.socket()).poll_write_vectored(context, &parts[..count]);
                self.in_time(context, written)
            }
            Plan::File => self.poll_file(context),
        }
    }

    /// Sends the bytes in front of a file. Without the flag they would leave in a packet of their
    /// own, because the socket does not delay (nginx: `tcp_nopush`).
    fn poll_head(&mut self, context: &mut Context<'_>, head: &[u8]) -> Poll<io::Result<usize>> {
        if self.socket().is_tls() {
            let written = self.socket().poll_send(context, &[IoSlice::new(head)]);
            return self.in_time(context, written);
        }
        loop {
            ready!(self.poll_write_ready(context))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let send = |socket: BorrowedFd<'_>| Ok(rustix::net::send(socket, head, flags)?);
            match self.socket().try_write_with(send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return self.in_time(context, Poll::Ready(sent)),
            }
        }
    }

    /// Sends as much of the oldest piece as the socket accepts.
    fn poll_file(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.in_a_row >= TURN {
            self.in_a_row = 0;
            return give_way(context);
        }
        let mut sending = match self.sending.take() {
            Some(sending) => sending,
            None => {
                let piece = self.activity.sendfile_queue.next();
                let piece = piece.ok_or_else(|| {
                    io::Error::other("the sendfile queue is shorter than its byte count")
                })?;
                let step = Step::Send;
                Sending { piece, step }
            }
        };
        let polled = self.poll_sending(context, &mut sending);
        match &polled {
            Poll::Ready(Ok(sent)) => {
                self.in_a_row += sent;
                self.activity.sent_of_file(*sent);
                sending.piece.offset += *sent as u64;
                sending.piece.length -= sent;
                if sending.piece.length > 0 {
                    self.sending = Some(sending);
                }
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a file could not be sent completely");
            }
            Poll::Pending => {
                self.in_a_row = 0;
                self.sending = Some(sending);
            }
        }
        polled
    }

    fn poll_sending(
        &mut self,
        context: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<io::Result<usize>> {
        let Piece {
            source,
            offset,
            length,
        } = &sending.piece;
        loop {
            match &mut sending.step {
                Step::Send => {
                    ready!(self.poll_write_ready(context))?;
                    let count = source.in_memory(*offset, *length);
                    if count == 0 {
                        let fetch = Arc::clone(source).fetch(*offset);
                        sending.step = Step::Fetch(Box::pin(fetch));
                        continue;
                    }
                    if self.socket().is_tls() {
                        sending.step = read(source, *offset, count);
                        continue;
                    }
                    let send = |socket: BorrowedFd<'_>| {
                        sendfile::send(socket, &source.shared.file, *offset, count)
                    };
                    match self.socket().try_write_with(send) {
                        Ok(0) => {
                            return Poll::Ready(Err(self.file_failed(source, became_shorter())));
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                            sending.step = read(source, *offset, *length);
                        }
                        sent => return self.in_time(context, Poll::Ready(sent)),
                    }
                }
                Step::Fetch(job) => {
                    ready!(job.as_mut().poll(context))
                        .map_err(|error| self.file_failed(source, error))?;
                    sending.step = Step::Send;
                }
                Step::Read(job) => {
                    let block = ready!(job.as_mut().poll(context))
                        .map_err(|error| self.file_failed(source, error))?;
                    sending.step = Step::Copy(block);
                }
                Step::Copy(block) => {
                    let written = Pin::new(self.socket()).poll_write(context, block);
                    let written = ready!(self.in_time(context, written))?;
                    block.advance(written);
                    if block.is_empty() {
                        sending.step = Step::Send;
                    }
                    return Poll::Ready(Ok(written));
                }
            }
        }
    }

    /// The response is truncated because of its file.
    fn file_failed(&self, source: &Source, error: io::Error) -> io::Error {
        source.report(&error);
        self.activity.sendfile_queue.fail();
        error
    }

    fn poll_write_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket().poll_write_ready(context) {
            Poll::Pending => self.poll_too_slow(context).map(Err),
            ready => ready,
        }
    }

    /// Returns a write's result, and closes the connection of a client that reads too slowly.
    fn in_time(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.poll_too_slow(context).map(Err),
            Poll::Ready(Ok(bytes)) => {
                self.taking.wrote(bytes);
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }

    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let socket = self.socket.as_ref().expect("taken only on drop");
        let unsent = || sockets::unacknowledged(socket.as_fd()).unwrap_or(0);
        let slow = self.taking.poll_too_slow(context, unsent);
        slow.map(|()| {
            tracing::debug!(
                peer = self.activity.ends.peer.map(tracing::field::display),
                "connection closed: {TOO_SLOW}"
            );
            io::Error::new(io::ErrorKind::TimedOut, TOO_SLOW)
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            return self.give_rest_of_head(into);
        }
        if self.activity.has_switched() {
            self.framing.pass_all();
        }
        match self.framing.phase() {
            FramingPhase::Between => self.poll_between(context, into),
            FramingPhase::Body(_) => self.poll_body(context, into),
            FramingPhase::Whole(since) => self.poll_end_of_client(context, since),
            FramingPhase::Raw => self.poll_raw(context, into),
            FramingPhase::Broken => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_parts(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_parts(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only called when hyper has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.framing.phase(), FramingPhase::Whole(_)) && self.activity.hyper_ended() {
            self.settle(context);
        }
        self.activity.flushed();
        Pin::new(self.socket()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context))?;
        ready!(Pin::new(self.socket()).poll_shutdown(context))?;
        self.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// True if the client has sent bytes that are unread, or may be about to, because it does not
    /// wait for one response before its next request. nginx checks the same conditions.
    fn may_still_receive(&self, socket: &mut Socket) -> bool {
        self.activity.lingers()
            || !self.early.is_empty()
            || !self.framing.is_between()
            || socket.has_buffered()
            || rustix::io::ioctl_fionread(&*socket).is_ok_and(|bytes| bytes > 0)
    }

    /// True after the last byte of the last response, with the write side closed.
    ///
    /// hyper does not close the connection where a request asked for an upgrade and got a plain
    /// response: it hands the stream over as for an upgrade, and drops it.
    fn has_said_all(&self, socket: &mut Socket) -> bool {
        let is_plain = !self.activity.has_switched() && !self.http2.is_there();
        let is_dropped_whole = is_plain && self.activity.hyper_ended();
        self.is_shut_down || is_dropped_whole && socket.end_writing().is_ok()
    }

    /// True if no response is in progress, so that the end of the connection truncates none.
    fn is_between_responses(&self) -> bool {
        let is_sending = self
            .fast_path
            .as_ref()
            .is_some_and(|lane| lane.unsent.is_some());
        match self.http2.is_there() {
            true => self.http2.open_streams() == 0,
            false => self.framing.is_between() && !is_sending,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.activity.sendfile_queue.end();
        // A session ends by `close_notify`, also where a timeout ends the connection.
        if !self.activity.is_broken()
            && !self.is_shut_down
            && self.is_between_responses()
            && let Some(socket) = self.socket.as_mut().filter(|socket| socket.is_tls())
        {
            let _peer_gone = socket.end_writing();
        }
        // A truncated response has to be visible as such at once.
        if self.activity.is_broken() {
            if let Some(socket) = self.socket.take() {
                abort::abort(socket);
            }
        } else if let (Some(mut socket), Some(to)) = (self.socket.take(), self.behind.take())
            && self.may_still_receive(&mut socket)
            && self.has_said_all(&mut socket)
        {
            let _with_the_server = to.send(socket.without_session());
        }
    }
}

pub use fast_path::Next;

mod abort;
mod body_at_once;
mod fast_path;
mod frame_turn;
mod reading;
#[cfg(test)]
mod tests;
