//! Receives the response: the head, then the body in each of its framings.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::read_buffer::{READ, READ_BODY, ReadBuffer};
use super::{Answer, Dialect, Done, ExchangeContext, ExchangeError};
use crate::front::body::response_stream::{BodySender, ResponseBody};
use crate::front::socket::Socket;
use crate::front::tls::upstream::why_ended;
use crate::front::upstream::Response;
use crate::front::upstream::balance::Slot;
use crate::front::upstream::chunks::{Chunk, Chunks};
use crate::front::upstream::http_proxy::tunnel::Switched;
use crate::front::upstream::private::Ownership;
use crate::front::upstream::progress::Progress;
use crate::front::upstream::reply_head::{self, BodyLength, HeadEnd, ReplyHead};

/// Most bytes of a body that are read before its head is passed on, if they have already arrived.
const MOST_AHEAD: u64 = READ_BODY as u64;

const NO_LAST_CHUNK: &str = "it ends before its last chunk";

fn cut_short(left: u64, length: u64) -> ExchangeError {
    ExchangeError::Unusable(format!(
        "it ends {left} bytes before its Content-Length of {length}"
    ))
}

/// Informational heads before one response. A server that sends 102 to keep a long request alive
/// (RFC 2518 §10.1) sends dozens; without a limit a response could be delayed for ever, because
/// each head restarts the read timeout.
#[derive(Default)]
struct Interim {
    count: usize,
    bytes: usize,
}

impl Interim {
    const MOST: usize = 100;

    /// Counts an informational head against the limits. The limit in bytes of one head holds for
    /// all of them together (nginx bounds early hints the same way).
    fn count(&mut self, length: usize) -> Result<(), ExchangeError> {
        self.count += 1;
        self.bytes += length;
        if self.count > Self::MOST || self.bytes > reply_head::LONGEST {
            let (most, bytes) = (Self::MOST, reply_head::LONGEST);
            return Err(ExchangeError::Unusable(format!(
                "it sends more than {most} informational responses or {bytes} bytes of them"
            )));
        }
        Ok(())
    }
}

/// The receiving half of an exchange.
pub(super) struct Receiving<'a> {
    pub(super) reader: ReadHalf<Socket>,
    pub(super) buffer: ReadBuffer,
    pub(super) sent: &'a Progress,
    pub(super) limit: Duration,
    pub(super) slot: &'a Slot,
    pub(super) ground: &'a ExchangeContext,
    pub(super) ownership: Ownership,
    pub(super) dialect: Dialect,
    pub(super) protocols: Option<HeaderValue>,
    pub(super) abandoned: &'a CancellationToken,
    pub(super) is_head: bool,
    pub(super) to: To,
}

/// The receiver of the response.
pub(super) enum To {
    Call(Answer),
    Body(BodySender),
    Discarded,
}

pub(super) fn deliver(
    to: To,
    head: ReplyHead,
    body: ResponseBody,
    switched: Option<Switched>,
    sent: &Progress,
) {
    if let To::Call(answer) = to {
        let mut headers = head.headers;
        if let (Some(_), Some(protocol)) = (&switched, head.upgrade) {
            headers.insert(UPGRADE, protocol);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        // A client that has disconnected by now drops the body, which cancels the exchange.
        let _client_gone = answer.send(Ok(Box::new(Response {
            status: head.status,
            reason: head.reason,
            headers,
            header_case: head.header_case,
            body,
            file: None,
            switched,
            worker: None,
            app_time: sent.began.elapsed(),
            log_vars: None,
        })));
    }
}

impl Receiving<'_> {
    pub(super) async fn run(&mut self) -> Result<Done, ExchangeError> {
        let head = self.head().await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Done::Switched(Box::new(head)));
        }
        let is_bodiless = self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
            );
        let length = match is_bodiless {
            true => BodyLength::Bytes(0),
            false => head.length,
        };
        if let Some(body) = self.whole_body(length).await? {
            let is_over = length == BodyLength::Chunked || length == BodyLength::UntilClosed;
            let stays_open = head.stays_open && !is_over;
            self.begins(&head);
            self.deliver(head, ResponseBody::whole(body));
            return Ok(self.done(stays_open));
        }
        self.begins(&head);
        let stays_open = head.stays_open && length != BodyLength::UntilClosed;
        let abandoned = self.abandoned.clone();
        let budget = Arc::clone(&self.ground.budget);
        let (feed, body) = ResponseBody::streamed(budget, move || abandoned.cancel());
        self.deliver(head, body);
        self.to = To::Body(feed);
        match length {
            BodyLength::Bytes(length) => self.bytes(length).await?,
            BodyLength::Chunked => self.chunks().await?,
            BodyLength::UntilClosed => self.until_closed().await?,
        }
        if let To::Body(feed) = &self.to {
            feed.end(Ok(()), self.sent.began.elapsed());
        }
        Ok(self.done(stays_open))
    }

    /// Records a usable response.
    fn begins(&mut self, head: &ReplyHead) {
        self.ground.servers.succeeded(self.slot);
        self.ownership.answered(&head.headers);
    }

    /// The whole body, if it has already arrived. Also reads ahead to the end of the connection: a
    /// truncated response can still become a failure.
    async fn whole_body(&mut self, length: BodyLength) -> Result<Option<Bytes>, ExchangeError> {
        let wanted = match length {
            BodyLength::Bytes(length) => length,
            BodyLength::Chunked | BodyLength::UntilClosed => u64::MAX,
        };
        let mut end = None;
        let ahead = wanted.min(MOST_AHEAD) as usize;
        while self.buffer.len() < ahead && end.is_none() {
            let missing = ahead - self.buffer.len();
            // Without memory nothing is read ahead.
            if !self.buffer.make_room(missing) {
                break;
            }
            match self.read_at_once().await {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => end = Some(Ok(())),
                Poll::Ready(Err(error)) => end = Some(Err(error)),
                Poll::Pending => break,
            }
        }
        match (length, end) {
            (BodyLength::Bytes(length), _) if self.buffer.len() as u64 >= length => {
                Ok(Some(self.buffer.take(length as usize)))
            }
            (_, None) => Ok(None),
            (BodyLength::Bytes(length), Some(_)) => {
                Err(cut_short(length - self.buffer.len() as u64, length))
            }
            (BodyLength::Chunked, Some(_)) => self.all_chunks().map(Some),
            (BodyLength::UntilClosed, Some(Ok(()))) => {
                Ok(Some(self.buffer.take(self.buffer.len())))
            }
            (BodyLength::UntilClosed, Some(Err(error))) => {
                Err(ExchangeError::Unusable(error.to_string()))
            }
        }
    }

    /// Called after the end of the connection: no more bytes will arrive.
    fn all_chunks(&mut self) -> Result<Bytes, ExchangeError> {
        let (mut chunks, mut body) = (Chunks::default(), BytesMut::new());
        loop {
            let chunk = chunks.next(self.buffer.for_read());
            match chunk.map_err(|bad| ExchangeError::Unusable(bad.to_string()))? {
                Chunk::Data(piece) => body.extend_from_slice(&piece),
                Chunk::Over => return Ok(body.freeze()),
                Chunk::NeedMore => return Err(ExchangeError::Unusable(NO_LAST_CHUNK.into())),
            }
        }
    }

    /// Reads the bytes that have arrived, without waiting for more.
    async fn read_at_once(&mut self) -> Poll<io::Result<usize>> {
        let read = {
            let mut read = pin!(self.reader.read_buf(self.buffer.for_read()));
            poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await
        };
        self.buffer.was_read();
        read
    }

    /// Bytes after a response do not belong to any request. Some servers (waitress) answer HEAD
    /// with a body, which RFC 9110 §9.3.2 forbids and which may still be in transit: the next
    /// request on the connection would get it as its response. So after HEAD a shared connection is
    /// closed; one that a client has authenticated is kept if no bytes arrive for a while, because
    /// that client's next request would be refused without it.
    fn done(&self, stays_open: bool) -> Done {
        match stays_open && self.buffer.is_empty() {
            true if !self.is_head => Done::Open,
            true if self.ownership.is_private() => Done::OpenIfQuiet,
            _ => Done::Closed,
        }
    }

    async fn head(&mut self) -> Result<ReplyHead, ExchangeError> {
        let mut end = HeadEnd::default();
        let mut interim = Interim::default();
        loop {
            let found = end.find(&self.buffer);
            if found.unwrap_or(self.buffer.len()) > reply_head::LONGEST {
                let limit = reply_head::LONGEST;
                return Err(ExchangeError::Unusable(format!(
                    "its head has more than {limit} bytes"
                )));
            }
            if let Some(length) = found {
                let is_http = self.dialect != Dialect::Uwsgi;
                let head = reply_head::read(&self.buffer.take(length), is_http)
                    .map_err(|bad| ExchangeError::Unusable(bad.to_string()))?;
                end = HeadEnd::default();
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return self.switch(head);
                }
                // RFC 9110 §15.2: the final response follows informational heads.
                if !head.status.is_informational() {
                    self.check(&head).await?;
                    return Ok(head);
                }
                interim.count(length)?;
            } else if !self.read(READ).await? {
                return Err(match self.buffer.is_empty() {
                    true => ExchangeError::NoAnswer,
                    false => ExchangeError::Unusable("it ends inside its head".into()),
                });
            }
        }
    }

    /// A server that has only ever responded 400 may not speak the protocol.
    async fn check(&self, head: &ReplyHead) -> Result<(), ExchangeError> {
        let servers = &self.ground.servers;
        if self.dialect == Dialect::Uwsgi
            && head.status == StatusCode::BAD_REQUEST
            && !self.slot.has_worked()
            && servers.speaks_http(self.slot).await
        {
            return Err(ExchangeError::SpeaksHttp);
        }
        Ok(())
    }

    /// RFC 9110 §7.8: only to a protocol that the client has offered.
    fn switch(&mut self, head: ReplyHead) -> Result<ReplyHead, ExchangeError> {
        let offered = self.protocols.as_ref().ok_or_else(|| {
            let why = "it switches protocols unasked";
            ExchangeError::Unusable(why.into())
        })?;
        let mut offered = offered.as_bytes().split(|byte| *byte == b',');
        let chosen = head.upgrade.as_ref().map(HeaderValue::as_bytes);
        let is_offered = |chosen: &[u8]| {
            offered.any(|offered| offered.trim_ascii().eq_ignore_ascii_case(chosen))
        };
        if !chosen.is_none_or(is_offered) {
            let why = "it switches to a protocol that was not asked for";
            return Err(ExchangeError::Unusable(why.into()));
        }
        self.ground.servers.succeeded(self.slot);
        Ok(head)
    }

    fn deliver(&mut self, head: ReplyHead, body: ResponseBody) {
        let to = std::mem::replace(&mut self.to, To::Discarded);
        deliver(to, head, body, None, self.sent);
    }

    async fn bytes(&mut self, length: u64) -> Result<(), ExchangeError> {
        let mut left = length;
        loop {
            let piece = left.min(self.buffer.len() as u64);
            left -= piece;
            let piece = self.buffer.take(piece as usize);
            self.feed(piece).await?;
            // Bytes after the length are not part of the response (RFC 9112 §6.3).
            if left == 0 {
                return Ok(());
            }
            if !self.read(READ_BODY).await? {
                return Err(cut_short(left, length));
            }
        }
    }

    async fn chunks(&mut self) -> Result<(), ExchangeError> {
        let mut chunks = Chunks::default();
        loop {
            let chunk = chunks.next(self.buffer.for_read());
            match chunk.map_err(|bad| ExchangeError::Unusable(bad.to_string()))? {
                Chunk::Data(piece) => self.feed(self.buffer.compact(piece)).await?,
                Chunk::Over => return Ok(()),
                Chunk::NeedMore => {
                    if !self.read(READ_BODY).await? {
                        return Err(ExchangeError::Unusable(NO_LAST_CHUNK.into()));
                    }
                }
            }
        }
    }

    async fn until_closed(&mut self) -> Result<(), ExchangeError> {
        loop {
            let piece = self.buffer.take(self.buffer.len());
            self.feed(piece).await?;
            match self.read_or_end(READ_BODY).await? {
                Ok(1..) => {}
                Ok(0) => return Ok(()),
                // A reset is not an end: the response may have been longer.
                Err(error) => return Err(ExchangeError::Unusable(error.to_string())),
            }
        }
    }

    async fn feed(&mut self, piece: Bytes) -> Result<(), ExchangeError> {
        let To::Body(feed) = &self.to else {
            return Ok(());
        };
        if !piece.is_empty() && !feed.push(piece) {
            return Err(ExchangeError::Abandoned);
        }
        let mut room = pin!(feed.room());
        if poll_fn(|context| Poll::Ready(room.as_mut().poll(context)))
            .await
            .is_pending()
        {
            self.buffer.release();
            room.await;
        }
        Ok(())
    }

    /// Reads more into the buffer. `false`: the connection has ended, cleanly or not; an error is one of
    /// its TLS session.
    async fn read(&mut self, room: usize) -> Result<bool, ExchangeError> {
        match self.read_or_end(room).await? {
            Ok(read) => Ok(read > 0),
            Err(error) => match why_ended(&error) {
                Some(why) => Err(ExchangeError::Unusable(why)),
                None => Ok(false),
            },
        }
    }

    /// Number of bytes read; 0 at the end of the connection.
    async fn read_or_end(&mut self, room: usize) -> Result<io::Result<usize>, ExchangeError> {
        self.buffer.make_room(room);
        let mut since = Instant::now();
        let mut read = pin!(self.reader.read_buf(self.buffer.for_read()));
        let end = loop {
            match timeout_at((since + self.limit).into(), &mut read).await {
                Ok(end) => break end,
                Err(_elapsed) if self.sent.last() > since => since = self.sent.last(),
                Err(_elapsed) => {
                    let setting = "upstream-read-timeout";
                    return Err(ExchangeError::TooLate("answer", setting, self.limit));
                }
            }
        };
        self.buffer.was_read();
        Ok(end)
    }
}
