//! Reads and writes of the fast path; see [`crate::front::fast_path`].

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, ReadBuf};

use super::Stream;
use crate::front::client_limits::memory_budget::{HTTP2, SMALL};
use crate::front::fast_path::request::AtOnce;
use crate::front::give_way::give_way;
use crate::front::protocol::framing;
use crate::front::protocol::framing::{FramingPhase, PREFACE};
use crate::front::protocol::http2::Http2;
use crate::front::protocol::limits::PARSER_LIMIT;
use crate::front::protocol::plain::Recognised;

/// Number of bytes read at a time: requests of browsers have one or two KiB.
const ROOM: usize = 8 << 10;
/// Requests of one connection that are answered before others have their turn: as many as hyper
/// does.
const IN_A_ROW: usize = 16;

/// Longest body that is copied after its head, so that both are sent in one piece: a page, whose
/// copy costs less than a list of two pieces costs the kernel.
const COPIED: usize = 4 << 10;

/// Bytes that a socket usually accepts in one call. Of more, a client that reads slowly leaves a
/// part, after which the runtime's own call knows that the socket is full.
const ONE_CALL: usize = 64 << 10;

thread_local! {
    /// The output of the current pass. One per thread, because no connection keeps anything in it.
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The position up to which the requests in a buffer were answered.
enum Outcome {
    /// To this byte; after it there is nothing, or the beginning of a head.
    Until(usize),
    /// To this byte; others have their turn, or the client's socket is full.
    Pauses(usize),
    /// To this byte; hyper has the bytes before it.
    Handed(usize),
    /// To this byte; it and all later ones are for hyper.
    Raw(usize),
}

/// The next need of a connection without hyper.
pub enum Next {
    /// hyper for HTTP/1, for a head that the stream has.
    Http1,
    /// hyper for HTTP/2.
    Http2,
    /// The end: nothing more is read.
    End,
}

impl Stream {
    /// Answers requests without hyper, and waits for bytes that need it.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Next>> {
        // No room: the stream keeps the head.
        ready!(self.poll_heads(context, &mut ReadBuf::new(&mut [])))?;
        Poll::Ready(Ok(match self.framing.phase() {
            FramingPhase::Raw => Next::Http2,
            FramingPhase::Between => Next::End,
            _ => Next::Http1,
        }))
    }

    /// Reads requests while hyper holds none: answers those that the fast path can answer, and
    /// gives hyper the head of the first one that it cannot.
    pub(crate) fn poll_between(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.poll_heads(context, into) {
            Poll::Ready(Ok(())) if self.framing.phase() == FramingPhase::Raw => {
                self.poll_raw(context, into)
            }
            polled => polled,
        }
    }

    fn poll_heads(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut out = OUT.take();
        let mut early = std::mem::take(&mut self.early);
        let polled = self.poll_with(context, into, &mut early, &mut out);
        if !early.is_empty() {
            self.early = early;
        } else if self.framing.phase() != FramingPhase::Raw {
            self.early_memory.shrink(0);
        }
        OUT.set(out);
        polled
    }

    fn poll_with(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        early: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let mut room = [const { MaybeUninit::uninit() }; ROOM];
        let mut turn = IN_A_ROW;
        loop {
            ready!(self.poll_unsent(context))?;
            if self.activity.ends_after_fast_path() || self.framing.is_last() {
                return Poll::Ready(Ok(()));
            }
            if turn == 0 {
                return give_way(context);
            }
            let went = if early.len() > self.looked {
                self.answer_all(early, &mut turn, out, into)?
            } else if early.is_empty() {
                let mut buffer = ReadBuf::uninit(&mut room);
                ready!(self.poll_receive(context, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let went = self.answer_all(bytes, &mut turn, out, into)?;
                // Keeps the rest; mostly there is none.
                early.extend_from_slice(&bytes[went.length()..]);
                went.without_length()
            } else {
                // A head that arrives in several pieces.
                let mut buffer = ReadBuf::uninit(&mut room);
                ready!(self.poll_receive(context, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let room = early.len() + buffer.filled().len();
                if room > SMALL && !self.early_memory.grow(room.next_power_of_two()) {
                    // The rest of the head is not read.
                    self.refuse_head(early, into);
                    early.clear();
                    self.looked = 0;
                    return Poll::Ready(Ok(()));
                }
                early.extend_from_slice(buffer.filled());
                continue;
            };
            early.advance(went.length());
            match went {
                Outcome::Until(_) => self.looked = early.len(),
                Outcome::Pauses(_) => self.looked = 0,
                Outcome::Handed(_) | Outcome::Raw(_) => {
                    self.looked = 0;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Answers the requests in `bytes` in order.
    fn answer_all(
        &mut self,
        bytes: &[u8],
        turn: &mut usize,
        out: &mut Vec<u8>,
        into: &mut ReadBuf<'_>,
    ) -> io::Result<Outcome> {
        let mut at = 0;
        loop {
            let is_known = at == 0 && self.looked > 0;
            if is_known
                && framing::head::end(bytes, self.looked).is_none()
                && bytes.len() < PARSER_LIMIT
            {
                return Ok(Outcome::Until(0));
            }
            if self.framing.is_first() && at == 0 {
                if bytes.starts_with(PREFACE) {
                    self.framing.pass_all();
                    self.http2 = Http2::expected();
                    self.early_memory.hold(HTTP2);
                    return Ok(Outcome::Raw(0));
                }
                if PREFACE.starts_with(bytes) {
                    return Ok(Outcome::Until(0));
                }
            }
            // RFC 9112 §2.2: empty lines before a request are ignored.
            at += empty_lines(&bytes[at..]);
            if matches!(bytes[at..], [] | [b'\r']) {
                return Ok(Outcome::Until(at));
            }
            if *turn == 0
                || self
                    .fast_path
                    .as_ref()
                    .is_some_and(|lane| lane.unsent.is_some())
            {
                return Ok(Outcome::Pauses(at));
            }
            let heard = match &mut self.fast_path {
                Some(fast_path) => fast_path.answer(&self.activity, &bytes[at..], out),
                None => Recognised::NotEligible,
            };
            if let Recognised::Plain(answer) = heard {
                at += answer.brief.plain.length;
                *turn -= 1;
                self.framing.answered();
                self.activity.has_part_of_head(false);
                self.send(answer, out)?;
                continue;
            }
            return Ok(match self.give_head(&bytes[at..], into)? {
                Some(length) => Outcome::Handed(at + length),
                None => Outcome::Until(at),
            });
        }
    }

    /// Sends as much of a response as the socket accepts at once.
    fn send(&mut self, answer: AtOnce<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let (head, body) = (out.len(), &answer.body);
        let whole = head + body.len();
        if body.len() <= COPIED {
            out.extend_from_slice(body);
        }
        let sent = match &answer.sealed {
            Some(sealed) => self.socket().try_send_sealed(out, sealed),
            None => {
                let parts = [IoSlice::new(out), IoSlice::new(body)];
                let count = if out.len() < whole { 2 } else { 1 };
                self.socket().try_send(&parts[..count])
            }
        };
        let written = match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        };
        if let Ok(bytes @ 1..) = written {
            self.taking.wrote(bytes);
            if bytes == whole {
                answer.brief.sent(&answer.log, answer.body.len() as u64);
                return Ok(());
            }
        }
        if let Some(fast_path) = &mut self.fast_path {
            let taken = *written.as_ref().unwrap_or(&0);
            fast_path.keep(&self.activity, &out[..head], answer, taken);
        }
        written.map(|_| ())
    }

    /// Sends bytes of hyper's.
    pub(crate) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > ONE_CALL {
            return Pin::new(self.socket()).poll_write_vectored(context, parts);
        }
        if parts.len() == 1 || length > COPIED {
            return self.socket().poll_send(context, parts);
        }
        let mut out = OUT.take();
        out.clear();
        for part in parts {
            out.extend_from_slice(part);
        }
        let sent = self.socket().poll_send(context, &[IoSlice::new(&out)]);
        OUT.set(out);
        sent
    }

    /// Sends the rest of a response that did not fit into the socket.
    pub(crate) fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(fast_path) = &self.fast_path else {
                return Poll::Ready(Ok(()));
            };
            let Some(unsent) = &fast_path.unsent else {
                return Poll::Ready(Ok(()));
            };
            let socket = self.socket.as_mut().expect("taken only on drop");
            let written = Pin::new(socket).poll_write_vectored(context, &unsent.parts());
            let bytes = ready!(self.in_time(context, written))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(fast_path) = &mut self.fast_path {
                fast_path.took(&self.activity, bytes);
            }
        }
    }
}

impl Outcome {
    fn length(&self) -> usize {
        match *self {
            Self::Until(at) | Self::Pauses(at) | Self::Handed(at) | Self::Raw(at) => at,
        }
    }

    /// The same state without its length: the bytes up to there are gone.
    fn without_length(self) -> Self {
        match self {
            Self::Until(_) => Self::Until(0),
            Self::Pauses(_) => Self::Pauses(0),
            Self::Handed(_) => Self::Handed(0),
            Self::Raw(_) => Self::Raw(0),
        }
    }
}

/// Length of the empty lines at the beginning of `bytes`.
fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] = rest {
        rest = behind;
    }
    bytes.len() - rest.len()
}
