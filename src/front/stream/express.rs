//! The express lane's reads and writes; see [`crate::front::express`].

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use crate::front::request::at_once::AtOnce;
use crate::front::request::plain::Heard;

/// What is read at a time: requests of browsers have one or two KiB.
const ROOM: usize = 8 << 10;
/// Requests that one connection is answered before the others have their turn: as many as
/// hyper does.
const IN_A_ROW: usize = 16;

/// Longest body that is copied behind its head, for which sending is cheaper in one piece: a
/// page, of which the copy costs less than what the kernel does for a list of two pieces.
const COPIED: usize = 4 << 10;

thread_local! {
    /// What is sent next. Each thread has one, for no connection keeps anything in it.
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How far the requests in a buffer were answered.
enum Went {
    /// To this byte; behind it is something for hyper.
    Up(usize),
    /// To this byte; behind it a request begins, or nothing is.
    Until(usize),
    /// To this byte; others have their turn, or the client takes no more.
    Pauses(usize),
}

impl Stream {
    /// Reads for hyper, and answers what can be answered without it.
    pub(super) fn poll_express(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut out = OUT.take();
        let polled = self.poll_with(context, into, &mut out);
        OUT.set(out);
        polled
    }

    fn poll_with(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let mut room = [const { MaybeUninit::uninit() }; ROOM];
        let mut turn = IN_A_ROW;
        loop {
            ready!(self.poll_unsent(context))?;
            if self.activity.ends_behind_express() {
                return Poll::Ready(Ok(()));
            }
            if turn == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::uninit(&mut room);
            let early = self.early.split_to(self.early.len().min(ROOM));
            buffer.put_slice(&early);
            let read = match buffer.remaining() {
                0 => Poll::Ready(Ok(())),
                _ => Pin::new(self.socket()).poll_read(context, &mut buffer),
            };
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return read;
            }
            // Whatever else there was: what came before it comes first.
            let is_all = read.is_pending() || bytes.len() == early.len();
            match self.answer_all(bytes, &mut turn, out)? {
                Went::Up(at) => return self.hand_over(&bytes[at..], into),
                Went::Until(at)
                    if at < bytes.len() && (is_all || bytes.len() == ROOM && at == 0) =>
                {
                    return self.hand_over(&bytes[at..], into);
                }
                Went::Until(at) | Went::Pauses(at) => self.put_back(&bytes[at..]),
            }
        }
    }

    /// Answers the requests in `bytes`, one after the other.
    fn answer_all(
        &mut self,
        bytes: &[u8],
        turn: &mut usize,
        out: &mut Vec<u8>,
    ) -> io::Result<Went> {
        let mut at = 0;
        while at < bytes.len() {
            let Some(express) = &mut self.express else {
                return Ok(Went::Up(at));
            };
            if *turn == 0 || express.unsent.is_some() {
                return Ok(Went::Pauses(at));
            }
            match express.answer(&self.activity, &bytes[at..], out) {
                Heard::Plain(answer) => {
                    at += answer.brief.plain.length;
                    *turn -= 1;
                    self.send(answer, out)?;
                }
                Heard::Incomplete => return Ok(Went::Until(at)),
                Heard::Other => return Ok(Went::Up(at)),
            }
        }
        Ok(Went::Until(at))
    }

    /// Sends a response as far as the client takes it at once.
    fn send(&mut self, answer: AtOnce<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let (head, body) = (out.len(), &answer.body);
        let whole = head + body.len();
        if body.len() <= COPIED {
            out.extend_from_slice(body);
        }
        let written = match self.try_send(out, if out.len() < whole { body } else { b"" }) {
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
        if let Some(express) = &mut self.express {
            let taken = *written.as_ref().unwrap_or(&0);
            express.keep(&self.activity, &out[..head], answer, taken);
        }
        written.map(|_| ())
    }

    /// Sends two pieces, or what the socket takes of them. `writev`, with which others send,
    /// is for files and takes 0.2 µs more.
    fn try_send(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let socket = self.socket.as_ref().expect("taken only on drop");
        socket.try_write_with(|socket| {
            Ok(match body.is_empty() {
                true => rustix::net::send(socket, head, SendFlags::NOSIGNAL)?,
                false => {
                    let parts = [IoSlice::new(head), IoSlice::new(body)];
                    let mut control = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?
                }
            })
        })
    }

    /// Sends the rest of a response that the client did not take at once.
    pub(super) fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(express) = &self.express else {
                return Poll::Ready(Ok(()));
            };
            let Some(unsent) = &express.unsent else {
                return Poll::Ready(Ok(()));
            };
            let socket = self.socket.as_mut().expect("taken only on drop");
            let written = Pin::new(socket).poll_write_vectored(context, &unsent.parts());
            let bytes = ready!(self.in_time(context, written))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(express) = &mut self.express {
                express.took(&self.activity, bytes);
            }
        }
    }

    /// Keeps bytes for the next time.
    fn put_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut all = BytesMut::with_capacity(bytes.len() + self.early.len());
        all.extend_from_slice(bytes);
        all.extend_from_slice(&self.early);
        self.early = all.freeze();
    }

    /// Gives bytes to hyper, and keeps those for which it has no room.
    fn hand_over(&mut self, bytes: &[u8], into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let begun = into.filled().len();
        if let Some(express) = &self.express {
            into.put_slice(express.before(bytes));
        }
        let (now, later) = bytes.split_at(bytes.len().min(into.remaining()));
        self.put_back(later);
        into.put_slice(now);
        Poll::Ready(self.arrived(into, begun))
    }
}
