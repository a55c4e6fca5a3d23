//! Reads one request for hyper, then waits for the client to disconnect.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::Stream;
use super::body_at_once::AtOnce;
use crate::front::client_limits::memory_budget::{HTTP2, HYPER};
use crate::front::error::Rejection;
use crate::front::fast_path::FastPath;
use crate::front::protocol::framing::BodyRemainder;
use crate::front::protocol::framing::head;
use crate::front::protocol::framing::head::ParsedHead;
use crate::front::protocol::framing::refused::RefusedHead;
use crate::front::protocol::http2;
use crate::front::protocol::http2::{End, Http2};
use crate::front::protocol::refused::NEXT;
use crate::os::sockets::{self, PeerEnd};

/// Number of bytes of a request body that hyper gets at a time. hyper doubles its buffer after a
/// read that fills what it expected, so that a slow upload would keep the buffer of its fastest
/// moment; one byte less than a power of two keeps it at 16 KiB instead of 32.
pub(crate) const READ_BODY: usize = (16 << 10) - 1;

/// A FIN within this time after a request over TCP is a half-close: the client waits for the
/// response. A later one means that the client has disconnected. TCP shows no difference. Clients
/// that half-close do so at once (`nc`, probes of balancers). The end of a TLS session
/// (`close_notify`) decides nothing: a client that disconnects sends a FIN as well.
const HALF_CLOSE: Duration = Duration::from_millis(50);

/// Pause between two checks of a client that has half-closed. A failing write detects a disconnect
/// sooner.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Time for hyper to begin the requests of a client that has disconnected right after them.
const BEGIN: Duration = Duration::from_millis(1);

const MALFORMED_CHUNKS: &str = "its chunks are malformed";

impl Stream {
    /// Gives hyper the head at the beginning of `bytes`, and returns its length, with that of its
    /// body if it was taken at once; `None`: the head is incomplete.
    ///
    /// # Errors
    /// The error of the socket.
    pub(crate) fn give_head(
        &mut self,
        bytes: &[u8],
        into: &mut ReadBuf<'_>,
    ) -> io::Result<Option<usize>> {
        let keeps_case = self.fast_path.as_ref().is_some_and(FastPath::keeps_case);
        Ok(match head::read(bytes, keeps_case) {
            ParsedHead::Incomplete => {
                self.activity.bytes_arrived();
                self.activity.has_part_of_head(true);
                None
            }
            ParsedHead::Whole(whole) if whole.body.is_malformed(&bytes[whole.length..]) => {
                // A response that reads no body would not notice the error. nginx refuses the
                // request too.
                let rejection = Rejection::BodyBroken(MALFORMED_CHUNKS.to_owned());
                let refused = RefusedHead::new(rejection, bytes, whole.length);
                self.give_refused(refused, into);
                Some(whole.length)
            }
            ParsedHead::Whole(whole) => {
                let behind = &bytes[whole.length..];
                let at_once = match into.remaining() >= whole.bytes.len() {
                    true => self.body_at_once(&whole, behind)?,
                    false => None,
                };
                if !whole.header_case.is_empty() {
                    self.activity.note_header_case(whole.header_case);
                }
                let Some(AtOnce { body, used, digits }) = at_once else {
                    self.begin(&whole.bytes, whole.body, whole.is_last, into);
                    return Ok(Some(whole.length));
                };
                self.activity.note_body(body);
                let start = into.filled().len();
                self.begin(&whole.bytes, BodyRemainder::Length(0), whole.is_last, into);
                into.filled_mut()[start..][digits].fill(b'0');
                Some(whole.length + used)
            }
            ParsedHead::Refused(refused) => {
                let length = refused.length;
                self.give_refused(*refused, into);
                Some(length)
            }
        })
    }

    /// Refuses the head that begins with `bytes`, because there is no memory for the rest.
    pub(crate) fn refuse_head(&mut self, bytes: &[u8], into: &mut ReadBuf<'_>) {
        self.give_refused(
            RefusedHead::new(Rejection::NoMemory, bytes, bytes.len()),
            into,
        );
    }

    /// Gives hyper a stand-in for a head that is refused. Nothing after it is read.
    fn give_refused(&mut self, refused: RefusedHead, into: &mut ReadBuf<'_>) {
        self.activity.refused.add(NEXT, refused.request);
        self.activity.linger();
        self.begin(&refused.stand_in, BodyRemainder::Length(0), true, into);
    }

    fn begin(&mut self, head: &[u8], body: BodyRemainder, is_last: bool, into: &mut ReadBuf<'_>) {
        self.hyper_memory.hold(HYPER);
        self.activity.body_begins();
        self.activity.has_part_of_head(false);
        self.framing.begin(body, is_last);
        let (now, later) = head.split_at(head.len().min(into.remaining()));
        into.put_slice(now);
        if !later.is_empty() {
            self.head = Bytes::copy_from_slice(later);
        }
        self.activity.bytes_arrived();
    }

    /// Gives hyper the next part of a head for which it had no room.
    pub(crate) fn give_rest_of_head(&mut self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.head.len().min(into.remaining());
        into.put_slice(&self.head.split_to(length));
        if self.head.is_empty() {
            self.head = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives hyper the next part of a request's body, and nothing after its end.
    pub(crate) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let limit = self.activity.body_limit();
        if !self.early.is_empty() {
            let length = self.early.len().min(into.remaining());
            let taken = self.framing.take(&self.early[..length], limit);
            let taken = taken.map_err(io::Error::other)?;
            self.activity.announced(self.framing.announced());
            into.put_slice(&self.early[..taken]);
            self.early.advance(taken);
            if self.early.is_empty() {
                self.early = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        // One byte more than missing, so that the runtime notices that there is nothing more.
        let missing = usize::try_from(self.framing.missing()).unwrap_or(usize::MAX);
        let room = into
            .remaining()
            .min(READ_BODY)
            .min(missing.saturating_add(1));
        let mut part = ReadBuf::new(into.initialize_unfilled_to(room));
        ready!(self.poll_receive(context, &mut part))?;
        let bytes = part.filled();
        let taken = self.framing.take(bytes, limit).map_err(io::Error::other)?;
        self.activity.announced(self.framing.announced());
        self.early.extend_from_slice(&bytes[taken..]);
        into.advance(taken);
        Poll::Ready(Ok(()))
    }

    /// Gives hyper all bytes: valid HTTP/2, or what follows a `101`.
    pub(crate) fn poll_raw(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = into.filled().len();
        self.http2.give(into);
        // All bytes received may be held back.
        while into.filled().len() == begun {
            if self.has_end_of_requests {
                return self.poll_answered(context);
            }
            ready!(self.frame_turn.poll(context));
            if self.early.is_empty() {
                ready!(self.poll_memory(context));
                let received = self.poll_frames(context, into);
                if received.is_pending() {
                    self.found_open = self.http2.awaits_responses_since();
                }
                ready!(received)?;
                if into.filled().len() == begun && into.remaining() > 0 && self.half_closes()? {
                    self.has_end_of_requests = true;
                    self.http2.end_of_requests();
                    self.http2.give(into);
                    continue;
                }
            } else {
                let room = self.room_for_frames(into);
                let length = self.early.len().min(room);
                into.put_slice(&self.early[..length]);
                self.early.advance(length);
                if self.early.is_empty() {
                    self.early = BytesMut::new();
                }
            }
            if into.filled().len() == begun {
                break;
            }
            self.activity.bytes_arrived();
            self.check_frames(into, begun)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The most bytes for hyper to read next.
    fn room_for_frames(&self, into: &ReadBuf<'_>) -> usize {
        match self.http2 {
            Http2::Absent => into.remaining(),
            _ => self.frame_turn.most(into.remaining()),
        }
    }

    /// Reads as many frames from the socket as a turn has.
    fn poll_frames(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.room_for_frames(into);
        if room == into.remaining() {
            return self.poll_receive(context, into);
        }
        let mut part = ReadBuf::new(into.initialize_unfilled_to(room));
        let received = self.poll_receive(context, &mut part);
        let length = part.filled().len();
        into.advance(length);
        received
    }

    /// True if the end of a client's bytes is held back from hyper, which would drop all requests
    /// of HTTP/2 at once, even those it has not begun. The rule is that of HTTP/1
    /// ([`Stream::poll_end_of_client`]).
    fn half_closes(&mut self) -> io::Result<bool> {
        let Some(since) = self.http2.awaits_responses_since() else {
            return Ok(false);
        };
        match self.socket().peer_end()? {
            // The end of a TLS session alone: the connection below has not ended.
            PeerEnd::Open => {}
            PeerEnd::Sent if self.is_late(since) => return Ok(false),
            PeerEnd::Sent => self.is_half_closed = true,
            PeerEnd::Gone => {
                self.is_half_closed = true;
                // hyper begins the requests in the meantime, so that each is logged.
                self.look_again = Some(Box::pin(tokio::time::sleep(BEGIN)));
            }
        }
        Ok(true)
    }

    /// True if a FIN that is seen now means that the client has disconnected, which has sent its
    /// newest request at `since`.
    ///
    /// A FIN found at the first look behind the request came with it, however late that look is.
    fn is_late(&mut self, since: Instant) -> bool {
        let is_first_look = self.found_open != Some(since);
        self.socket().is_tcp() && !is_first_look && since.elapsed() > HALF_CLOSE
    }

    /// Waits until a client of HTTP/2 that has half-closed has all its responses, or disconnects.
    fn poll_answered(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.http2.awaits_responses_since() {
            Some(since) => self.poll_end_of_client(context, since),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Waits until there is memory for more of the bodies of HTTP/2, or all of them are read.
    fn poll_memory(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.http2.is_there() {
            return Poll::Ready(());
        }
        let activity = &self.activity;
        let mut has_paused = false;
        loop {
            let is_pausing = self.no_memory.is_pausing();
            if !is_pausing && activity.unread.may_read(&activity.account, has_paused) {
                self.no_memory.done();
                return Poll::Ready(());
            }
            ready!(self.no_memory.poll(context));
            has_paused = true;
        }
    }

    /// Charges the memory of h2: request bodies, and the streams whose request has ended here before
    /// their last frame is sent.
    pub(super) fn count_http2(&mut self) {
        let activity = &self.activity;
        let flow = self.http2.take_flow();
        activity.unread.count(flow, &activity.account);
        activity.limit_unsent(self.http2.open_streams());
    }

    /// Leaves in `into`, after `begun`, the part of the received bytes that is for hyper.
    fn check_frames(&mut self, into: &mut ReadBuf<'_>, begun: usize) -> io::Result<()> {
        let activity = &self.activity;
        let bytes = &into.filled()[begun..];
        let passed = self
            .http2
            .received(bytes, activity.ends.trusted, &activity.refused);
        let passed = passed.map_err(|end| self.end_http2(end))?;
        self.frame_turn.add(self.http2.take_cost(), bytes.len());
        match self.http2.held_head() {
            // A frame of the usual length is a part of the connection's own memory.
            0..=HTTP2 => self.early_memory.shrink(HTTP2),
            head if self.early_memory.grow(HTTP2 + head) => {}
            _ => return Err(self.end_http2(End::NoMemory)),
        }
        self.count_http2();
        into.set_filled(begun + passed);
        self.http2.give(into);
        Ok(())
    }

    /// Sends and logs the reason why a connection of HTTP/2 ends.
    fn end_http2(&mut self, end: End) -> io::Error {
        http2::log_end(self.activity.ends.peer, &end);
        if let Some(goaway) = self.http2.goaway(end) {
            // A client that floods may not read either.
            let _sent = self.socket().try_send(&[IoSlice::new(&goaway)]);
        }
        io::Error::other(end)
    }

    /// Waits for the client of a request, complete since `since`, to disconnect, and gives hyper
    /// none of the bytes after it. Returns the end of the stream, or an error, once the client has
    /// disconnected.
    pub(crate) fn poll_end_of_client(
        &mut self,
        context: &mut Context<'_>,
        since: Instant,
    ) -> Poll<io::Result<()>> {
        while !self.is_half_closed {
            let ready = self.socket().poll_read_ready(context);
            if ready.is_pending() {
                self.found_open = Some(since);
            }
            ready!(ready)?;
            match self.socket().peer_end()? {
                PeerEnd::Open => {
                    self.found_open = Some(since);
                    self.has_unread = true;
                }
                PeerEnd::Gone => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                // Unix sockets show the difference.
                PeerEnd::Sent if self.is_late(since) => return Poll::Ready(Ok(())),
                PeerEnd::Sent => self.is_half_closed = true,
            }
        }
        self.poll_reset(context)
    }

    /// Waits until a client that has half-closed disconnects. The runtime reports nothing after a
    /// FIN, so the socket is polled now and then.
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let later = || Box::pin(tokio::time::sleep(LOOK_AGAIN));
        let timer = self.look_again.get_or_insert_with(later);
        while timer.as_mut().poll(context).is_ready() {
            timer
                .as_mut()
                .reset(tokio::time::Instant::now() + LOOK_AGAIN);
            let socket = self.socket.as_ref().expect("taken only on drop");
            if sockets::peer_end(socket.as_fd())? == PeerEnd::Gone {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        Poll::Pending
    }

    /// Called when hyper has written the response to a whole request.
    pub(crate) fn settle(&mut self, context: &Context<'_>) {
        if self.activity.has_switched() {
            return self.framing.pass_all();
        }
        self.framing.settle();
        self.activity.hyper_holds_nothing();
        // hyper has read before this, and found nothing.
        let is_more = !self.early.is_empty()
            || self.has_unread
            || self.is_half_closed
            || self.socket().has_buffered();
        if is_more || self.framing.is_last() {
            context.waker().wake_by_ref();
        }
    }

    /// Reads from the socket.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_unread {
            // The runtime's readiness was cleared although there is something.
            match self.socket().try_receive(into) {
                Ok(()) => {
                    // Records that are read do not show how many there are.
                    self.has_unread = into.remaining() == 0 || self.socket().is_tls();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.has_unread = false,
                    io::ErrorKind::Interrupted => {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    _ => return Poll::Ready(Err(error)),
                },
            }
        }
        Pin::new(self.socket()).poll_read(context, into)
    }
}
