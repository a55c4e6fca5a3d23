//! One request and its answer over one connection, both ways at the same time.
//!
//! A server may answer before it has taken the whole body, and close: so the answer is read
//! while the body is sent, and a body that cannot be sent any more is no failure of its
//! own. What counts is the answer. It is over where its length says, or at the end of the
//! connection; an end that comes too early breaks the client's response off as well.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::front::file_pool::FilePool;
use crate::front::request::context::Identity;
use crate::front::upstream::balance::Slot;
use crate::front::upstream::chunks::{Chunk, Chunks};
use crate::front::upstream::reply_head::{self, BodyLength, HeadEnd, ReplyHead};
use crate::front::upstream::response_body::{Feed, ResponseBody};
use crate::front::upstream::servers::{Link, Reached};
use crate::front::upstream::{Failure, RequestBody, Response};

/// Room for one read: usual heads with small pages.
const READ: usize = 16 << 10;
/// Room for one read of a body that is longer than that.
const READ_BODY: usize = 64 << 10;
/// How much of a body's file is read at a time.
const READ_FILE: usize = 256 << 10;

/// What is still to be sent.
pub(super) struct Outgoing {
    head: Chain<Bytes, Bytes>,
    file: Option<(std::fs::File, u64)>,
    /// Length of the packet, for the message about a server that found it too long.
    packet: usize,
}

impl Outgoing {
    pub(super) fn new(packet: Bytes, body: RequestBody) -> Self {
        let length = packet.len();
        let (body, file) = match body {
            RequestBody::Memory(body) => (body, None),
            RequestBody::File { file, length } => (Bytes::new(), Some((file, length))),
        };
        Self {
            head: packet.chain(body),
            file,
            packet: length,
        }
    }

    /// What is to be sent first; stays until it is [`Outgoing::taken`].
    pub(super) fn first(&self) -> Chain<&[u8], &[u8]> {
        let (packet, body) = (self.head.first_ref(), self.head.last_ref());
        Buf::chain(packet.as_ref(), body.as_ref())
    }

    pub(super) fn taken(&mut self, bytes: usize) {
        self.head.advance(bytes);
    }
}

/// One request on its way.
pub(super) struct Exchange {
    pub(super) upstream: Arc<Shared>,
    pub(super) reached: Reached,
    pub(super) identity: Arc<Identity>,
    /// Nobody wants the answer any more.
    pub(super) abandoned: CancellationToken,
}

type Answer = oneshot::Sender<Result<Box<Response>, Failure>>;

impl Exchange {
    /// Sends, receives, and gives the answer to `answer`, its body in pieces if it is long.
    pub(super) async fn run(self, outgoing: Outgoing, answer: Answer) {
        let Self {
            upstream,
            reached: Reached { link, slot, name },
            identity,
            abandoned,
        } = self;
        let (reader, writer) = tokio::io::split(link);
        let timeouts = upstream.servers.timeouts;
        let packet = outgoing.packet;
        let sent = Sent::new();
        let mut receiving = Receiving {
            reader,
            buffer: BytesMut::with_capacity(READ),
            sent: &sent,
            limit: timeouts.read,
            slot: &slot,
            upstream: &upstream,
            abandoned: &abandoned,
            is_head: identity.method == Method::HEAD,
            to: To::Call(answer),
        };
        let result = {
            let mut receive = pin!(receiving.run());
            let mut sending = pin!(send(
                writer,
                outgoing,
                &sent,
                timeouts.send,
                &upstream.files
            ));
            let mut is_sending = true;
            loop {
                // Each branch goes on where it was: both futures live outside of the loop,
                // and the token stays cancelled.
                tokio::select! {
                    biased;
                    () = abandoned.cancelled() => return,
                    result = &mut receive => break result,
                    result = &mut sending, if is_sending => match result {
                        Ok(()) => is_sending = false,
                        Err(broken) => break Err(broken),
                    },
                }
            }
        };
        let Err(broken) = result else { return };
        let mut failure = match broken {
            Broken::NobodyWants => return,
            Broken::TooLate(doing, setting, limit) => {
                upstream.servers.failed(&slot);
                Failure::TooSlow {
                    server: Arc::clone(&name),
                    doing,
                    setting,
                    limit,
                }
            }
            Broken::NoAnswer => Failure::ClosedEarly {
                server: Arc::clone(&name),
                packet,
            },
            Broken::SpeaksHttp => Failure::SpeaksHttp {
                server: Arc::clone(&name),
            },
            Broken::Unusable(why) => Failure::BadAnswer(why),
            Broken::File(error) => Failure::Transport(error),
        };
        match receiving.to {
            To::Call(answer) => {
                let is_suspicious = matches!(
                    failure,
                    Failure::ClosedEarly { .. } | Failure::TooSlow { .. }
                );
                if is_suspicious && !slot.has_worked() && upstream.servers.speaks_http(&slot).await
                {
                    failure = Failure::SpeaksHttp { server: name };
                }
                let _client_gone = answer.send(Err(failure));
            }
            To::Body(feed) => {
                let id = &identity.request_id;
                tracing::warn!(request_id = %id, server = &*name, reason = %failure, "a response broke off");
                feed.end(Err("the server behind broke off"), sent.began.elapsed());
            }
            To::Nobody => {}
        }
    }
}

/// Why there is no answer, or only half of one.
enum Broken {
    /// The client has gone.
    NobodyWants,
    /// What the server did not do, which setting says so, and how long it had.
    TooLate(&'static str, &'static str, Duration),
    /// It closed the connection without a byte.
    NoAnswer,
    /// It answered in HTTP, to a packet that it did not understand.
    SpeaksHttp,
    /// What came cannot be used.
    Unusable(String),
    /// The body cannot be read from its file.
    File(io::Error),
}

/// When the server last took something: while it does, it need not answer.
struct Sent {
    began: Instant,
    last_ms: AtomicU64,
}

impl Sent {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let elapsed = self.began.elapsed().as_millis();
        self.last_ms.store(elapsed as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// Sends everything. That the server takes no more is no error: the answer will tell.
async fn send(
    mut writer: WriteHalf<Link>,
    mut outgoing: Outgoing,
    sent: &Sent,
    limit: Duration,
    files: &FilePool,
) -> Result<(), Broken> {
    let mut at = 0;
    loop {
        while outgoing.head.has_remaining() {
            match timeout(limit, writer.write_buf(&mut outgoing.head)).await {
                Ok(Ok(1..)) => sent.now(),
                Ok(Ok(0) | Err(_)) => return Ok(()),
                Err(_elapsed) => {
                    let setting = "upstream-send-timeout";
                    return Err(Broken::TooLate("take the request", setting, limit));
                }
            }
        }
        let Some((file, length)) = outgoing.file.take().filter(|(_, length)| at < *length) else {
            return Ok(());
        };
        let wanted = (length - at).min(READ_FILE as u64) as usize;
        let read = files.run(move || {
            let mut piece = vec![0; wanted];
            file.read_exact_at(&mut piece, at).map(|()| (file, piece))
        });
        let (file, piece) = read.await.map_err(Broken::File)?;
        at += wanted as u64;
        outgoing.file = Some((file, length));
        outgoing.head = Bytes::from(piece).chain(Bytes::new());
    }
}

/// The way back.
struct Receiving<'a> {
    reader: ReadHalf<Link>,
    buffer: BytesMut,
    sent: &'a Sent,
    limit: Duration,
    slot: &'a Slot,
    upstream: &'a Shared,
    abandoned: &'a CancellationToken,
    is_head: bool,
    to: To,
}

/// Who gets what comes.
enum To {
    Call(Answer),
    Body(Feed),
    Nobody,
}

impl Receiving<'_> {
    async fn run(&mut self) -> Result<(), Broken> {
        let head = self.head().await?;
        let is_bodiless = self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let length = match is_bodiless {
            true => BodyLength::Bytes(0),
            false => head.length,
        };
        if let BodyLength::Bytes(length) = length
            && self.buffer.len() as u64 >= length
        {
            let body = self.buffer.split_to(length as usize).freeze();
            self.deliver(head, ResponseBody::whole(body));
            return Ok(());
        }
        let abandoned = self.abandoned.clone();
        let budget = Arc::clone(&self.upstream.budget);
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
        Ok(())
    }

    async fn head(&mut self) -> Result<ReplyHead, Broken> {
        let mut end = HeadEnd::default();
        loop {
            let found = end.find(&self.buffer);
            if found.unwrap_or(self.buffer.len()) > reply_head::LONGEST {
                let limit = reply_head::LONGEST;
                return Err(Broken::Unusable(format!(
                    "its head has more than {limit} bytes"
                )));
            }
            if let Some(length) = found {
                let head = reply_head::read(&self.buffer.split_to(length).freeze())
                    .map_err(|bad| Broken::Unusable(bad.to_string()))?;
                end = HeadEnd::default();
                // RFC 9110 §15.2: others follow. A switch of protocols cannot be, because
                // nobody has asked for one.
                if !head.status.is_informational() {
                    self.check(&head).await?;
                    return Ok(head);
                }
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Broken::Unusable("it switches protocols unasked".into()));
                }
            } else if !self.read(READ).await? {
                return Err(match self.buffer.is_empty() {
                    true => Broken::NoAnswer,
                    false => Broken::Unusable("it ends inside its head".into()),
                });
            }
        }
    }

    /// A server that has never answered anything but 400 may not know the protocol at all.
    async fn check(&self, head: &ReplyHead) -> Result<(), Broken> {
        let servers = &self.upstream.servers;
        if head.status == StatusCode::BAD_REQUEST
            && !self.slot.has_worked()
            && servers.speaks_http(self.slot).await
        {
            return Err(Broken::SpeaksHttp);
        }
        servers.succeeded(self.slot);
        Ok(())
    }

    fn deliver(&mut self, head: ReplyHead, body: ResponseBody) {
        if let To::Call(answer) = std::mem::replace(&mut self.to, To::Nobody) {
            // A client that has left by now drops the body, which cancels us.
            let _client_gone = answer.send(Ok(Box::new(Response {
                status: head.status,
                reason: head.reason,
                headers: head.headers,
                spellings: head.spellings,
                body,
                file: None,
                worker: None,
                app_time: self.sent.began.elapsed(),
            })));
        }
    }

    async fn bytes(&mut self, length: u64) -> Result<(), Broken> {
        let mut left = length;
        loop {
            let piece = left.min(self.buffer.len() as u64);
            left -= piece;
            let piece = self.buffer.split_to(piece as usize).freeze();
            self.feed(piece).await?;
            // Nothing behind the length is part of the answer (RFC 9112 §6.3).
            if left == 0 {
                return Ok(());
            }
            if !self.read(READ_BODY).await? {
                return Err(Broken::Unusable(format!(
                    "it ends {left} bytes before its Content-Length of {length}"
                )));
            }
        }
    }

    async fn chunks(&mut self) -> Result<(), Broken> {
        let mut chunks = Chunks::default();
        loop {
            let chunk = chunks.next(&mut self.buffer);
            match chunk.map_err(|bad| Broken::Unusable(bad.to_string()))? {
                Chunk::Data(piece) => self.feed(piece).await?,
                Chunk::Over => return Ok(()),
                Chunk::NeedMore => {
                    if !self.read(READ_BODY).await? {
                        return Err(Broken::Unusable("it ends before its last chunk".into()));
                    }
                }
            }
        }
    }

    async fn until_closed(&mut self) -> Result<(), Broken> {
        loop {
            let piece = self.buffer.split().freeze();
            self.feed(piece).await?;
            match self.read_or_end(READ_BODY).await? {
                Ok(1..) => {}
                Ok(0) => return Ok(()),
                // A reset is no end: the answer may have been longer.
                Err(error) => return Err(Broken::Unusable(error.to_string())),
            }
        }
    }

    async fn feed(&mut self, piece: Bytes) -> Result<(), Broken> {
        let To::Body(feed) = &self.to else {
            return Ok(());
        };
        if !piece.is_empty() && !feed.push(piece) {
            return Err(Broken::NobodyWants);
        }
        feed.room().await;
        Ok(())
    }

    /// Reads more into the buffer. `false`: the connection is over, in whatever way.
    async fn read(&mut self, room: usize) -> Result<bool, Broken> {
        let end = self.read_or_end(room).await?;
        Ok(matches!(end, Ok(1..)))
    }

    /// How many bytes came; none at the end of the connection.
    async fn read_or_end(&mut self, room: usize) -> Result<io::Result<usize>, Broken> {
        self.buffer.reserve(room);
        let mut since = Instant::now();
        let mut read = pin!(self.reader.read_buf(&mut self.buffer));
        loop {
            match timeout_at((since + self.limit).into(), &mut read).await {
                Ok(end) => return Ok(end),
                Err(_elapsed) if self.sent.last() > since => since = self.sent.last(),
                Err(_elapsed) => {
                    let setting = "upstream-read-timeout";
                    return Err(Broken::TooLate("answer", setting, self.limit));
                }
            }
        }
    }
}
