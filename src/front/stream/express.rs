//! The express lane's reads and writes; see [`crate::front::express`].

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use crate::front::request::at_once::AtOnce;
use crate::front::request::plain::Heard;

/// What is read at a time: requests of browsers have one or two KiB.
const ROOM: usize = 8 << 10;
/// Requests that one connection is answered before the others have their turn: as many as
/// hyper does.
const IN_A_ROW: usize = 16;

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
        let mut room = [const { MaybeUninit::uninit() }; ROOM];
        let mut turn = IN_A_ROW;
        loop {
            ready!(self.poll_unsent(context))?;
            if self.activity.ends_behind_express() {
                // Bytes that nobody reads make the kernel reset the connection, and a reset
                // destroys what is on its way.
                if !self.early.is_empty() || !self.socket().is_quiet() {
                    self.activity.linger();
                }
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
            match self.answer_all(context, bytes, &mut turn)? {
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
        context: &mut Context<'_>,
        bytes: &[u8],
        turn: &mut usize,
    ) -> io::Result<Went> {
        let mut at = 0;
        while at < bytes.len() {
            let Some(express) = &mut self.express else {
                return Ok(Went::Up(at));
            };
            if *turn == 0 || express.unsent.is_some() {
                return Ok(Went::Pauses(at));
            }
            match express.answer(&self.activity, &bytes[at..]) {
                Heard::Plain(answer) => {
                    at += answer.brief.plain.length;
                    *turn -= 1;
                    self.send(context, answer)?;
                }
                Heard::Incomplete => return Ok(Went::Until(at)),
                Heard::Other => return Ok(Went::Up(at)),
            }
        }
        Ok(Went::Until(at))
    }

    /// Sends a response as far as the client takes it at once.
    fn send(&mut self, context: &mut Context<'_>, answer: AtOnce<'_>) -> io::Result<()> {
        let Some(express) = &self.express else {
            return Ok(());
        };
        let socket = self.socket.as_mut().expect("taken only on drop");
        let whole = express.head.len() + answer.body.len();
        let written = match answer.body.is_empty() {
            true => Pin::new(socket).poll_write(context, &express.head),
            false => {
                let parts = [IoSlice::new(&express.head), IoSlice::new(&answer.body)];
                Pin::new(socket).poll_write_vectored(context, &parts)
            }
        };
        let written = self.in_time(context, written);
        match (written, &mut self.express) {
            (Poll::Ready(Ok(bytes)), _) if bytes == whole => {
                answer.brief.sent(&answer.log, answer.body.len() as u64);
                Ok(())
            }
            (written, Some(express)) => {
                let taken = match &written {
                    Poll::Ready(Ok(bytes)) => *bytes,
                    _ => 0,
                };
                express.keep(&self.activity, answer, taken);
                match written {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(()),
                }
            }
            (_, None) => Ok(()),
        }
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
        Poll::Ready(self.arrived(&into.filled()[begun..]))
    }
}
