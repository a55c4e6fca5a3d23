//! One request and its answer over one connection, both ways at the same time, in a task of
//! their own, so that the answer is taken off the server whatever the client does.
//!
//! A server may answer before it has taken the whole body, and close: so the answer is read
//! while the body is sent, and a body that cannot be sent any more is no failure of its
//! own. What counts is the answer. It is over where its length says, or at the end of the
//! connection; an end that comes too early breaks the client's response off as well.
//!
//! HTTP goes the same way as uwsgi: heads, chunks and timeouts are the same, and hyper's client
//! does not promise to read an answer when the body cannot be sent any more.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::balance::Slot;
use super::chunks::{Chunk, Chunks};
use super::http_proxy::tunnel::Switched;
use super::reply_head::{self, BodyLength, HeadEnd, ReplyHead};
use super::request_stream::{self, RequestStream};
use super::response_body::{Budget, Feed, ResponseBody};
use super::servers::{Reached, Servers};
use super::{Failure, RequestBody, Response};
use crate::front::file_pool::FilePool;
use crate::front::request::context::Identity;
use crate::front::socket::Socket;

/// Room for one read: usual heads with small pages.
const READ: usize = 16 << 10;
/// Room for one read of a body that is longer than that.
const READ_BODY: usize = 64 << 10;
/// How much of a body's file is read at a time.
const READ_FILE: usize = 256 << 10;

/// Servers with what an exchange needs beside them. One for each upstream.
pub struct Ground {
    /// The servers.
    pub servers: Servers,
    budget: Arc<Budget>,
    tasks: TaskTracker,
    files: FilePool,
}

/// What the servers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// uwsgi: one request for each connection, and heads of HTTP or CGI.
    Uwsgi,
    /// HTTP/1.1.
    Http {
        /// Whether the request asks for another protocol.
        may_switch: bool,
    },
}

/// What is still to be sent. A clone begins where the original stands.
pub struct Outgoing {
    head: Chain<Bytes, Bytes>,
    file: Option<(Arc<std::fs::File>, u64)>,
    /// Cannot begin anew: clones share it.
    stream: Option<Arc<Mutex<Box<RequestStream>>>>,
    /// Length of the head, for the message about a server that found it too long.
    length: usize,
}

impl Clone for Outgoing {
    fn clone(&self) -> Self {
        let (head, body) = (self.head.first_ref(), self.head.last_ref());
        Self {
            head: Buf::chain(head.clone(), body.clone()),
            file: self.file.clone(),
            stream: self.stream.clone(),
            length: self.length,
        }
    }
}

impl Outgoing {
    /// A head in the server's protocol, and the body behind it.
    pub fn new(head: Bytes, body: RequestBody) -> Self {
        let length = head.len();
        let nothing = Bytes::new();
        let (body, file, stream) = match body {
            RequestBody::Memory(body) => (body, None, None),
            RequestBody::File { file, length } => (nothing, Some((Arc::new(file), length)), None),
            RequestBody::Stream(stream) => (nothing, None, Some(Arc::new(Mutex::new(stream)))),
        };
        Self {
            head: head.chain(body),
            file,
            stream,
            length,
        }
    }

    /// What is to be sent first; stays until it is taken.
    fn first(&self) -> Chain<&[u8], &[u8]> {
        let (head, body) = (self.head.first_ref(), self.head.last_ref());
        Buf::chain(head.as_ref(), body.as_ref())
    }
}

impl Ground {
    /// For these servers.
    pub fn new(servers: Servers, files: FilePool) -> Self {
        Self {
            servers,
            budget: Arc::default(),
            tasks: TaskTracker::new(),
            files,
        }
    }

    /// A server that has taken at least the first bytes. As long as one has taken nothing,
    /// another may get the request. Unless it is to be `fresh`, the connection may have
    /// served other requests.
    ///
    /// # Errors
    /// [`Failure`] of the server that was tried last.
    pub async fn reach(
        &self,
        outgoing: &mut Outgoing,
        mut fresh: bool,
    ) -> Result<Reached, Failure> {
        let servers = &self.servers;
        let mut tries = servers.count();
        loop {
            let mut reached = servers.connect(fresh).await?;
            let mut first = outgoing.first();
            let write = reached.link.write_buf(&mut first);
            let why = match timeout(servers.timeouts.send, write).await {
                Ok(Ok(taken @ 1..)) => {
                    outgoing.head.advance(taken);
                    return Ok(reached);
                }
                Ok(Ok(0)) => "it takes nothing".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => {
                    servers.failed(&reached.slot);
                    return Err(Failure::TooSlow {
                        server: reached.name,
                        doing: "take the request",
                        setting: "upstream-send-timeout",
                        limit: servers.timeouts.send,
                    });
                }
            };
            // It has closed the connection unseen.
            if reached.is_reused {
                fresh = true;
                continue;
            }
            servers.failed(&reached.slot);
            tries -= 1;
            if tries == 0 {
                let server = reached.name;
                return Err(Failure::Unreachable { server, why });
            }
        }
    }

    /// Sends what is left of the request, and receives the answer. Dropping the future
    /// breaks the connection off.
    ///
    /// # Errors
    /// [`Failure`] says why there is no answer.
    pub async fn exchange(
        self: &Arc<Self>,
        reached: Reached,
        outgoing: Outgoing,
        dialect: Dialect,
        identity: Arc<Identity>,
    ) -> Result<Box<Response>, Failure> {
        let (answer, answered) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let broken_off = abandoned.clone().drop_guard();
        let exchange = Exchange {
            ground: Arc::clone(self),
            reached,
            dialect,
            identity,
            abandoned,
        };
        self.tasks.spawn(exchange.run(outgoing, answer));
        let response = answered
            .await
            .unwrap_or_else(|_not_told| Err(Failure::BadAnswer("it was not read".into())))?;
        // From here on the body notices a client that leaves.
        broken_off.disarm();
        Ok(response)
    }
}

/// One request on its way.
struct Exchange {
    ground: Arc<Ground>,
    reached: Reached,
    dialect: Dialect,
    identity: Arc<Identity>,
    /// Nobody wants the answer any more.
    abandoned: CancellationToken,
}

type Answer = oneshot::Sender<Result<Box<Response>, Failure>>;

impl Exchange {
    /// Sends, receives, and gives the answer to `answer`, its body in pieces if it is long.
    async fn run(self, outgoing: Outgoing, answer: Answer) {
        let Self {
            ground,
            reached: Reached {
                link, slot, name, ..
            },
            dialect,
            identity,
            abandoned,
        } = self;
        let (reader, writer) = tokio::io::split(link);
        let timeouts = ground.servers.timeouts;
        let length = outgoing.length;
        let sent = Progress::new();
        let mut receiving = Receiving {
            reader,
            buffer: BytesMut::with_capacity(READ),
            sent: &sent,
            limit: timeouts.read,
            slot: &slot,
            ground: &ground,
            dialect,
            abandoned: &abandoned,
            is_head: identity.method == Method::HEAD,
            to: To::Call(answer),
        };
        let mut writer_back = None;
        let result = {
            let mut receive = pin!(receiving.run());
            let mut sending = pin!(send(writer, outgoing, &sent, timeouts.send, &ground.files));
            let mut is_sending = true;
            loop {
                // Each branch goes on where it was: both futures live outside of the loop,
                // and the token stays cancelled.
                tokio::select! {
                    biased;
                    () = abandoned.cancelled() => return,
                    result = &mut sending, if is_sending => match result {
                        Ok(writer) => (is_sending, writer_back) = (false, writer),
                        Err(broken) => break Err(broken),
                    },
                    result = &mut receive => break result,
                }
            }
        };
        let Receiving {
            reader, buffer, to, ..
        } = receiving;
        let failure = match (result, writer_back) {
            (Ok(Done::Closed), _) | (Ok(Done::Open), None) | (Err(Broken::NobodyWants), _) => {
                return;
            }
            (Ok(Done::Open), Some(writer)) => {
                return ground.servers.keep(&slot, reader.unsplit(writer));
            }
            (Ok(Done::Switched(head)), Some(writer)) => {
                let switched = Switched {
                    link: reader.unsplit(writer),
                    early: buffer.freeze(),
                    limit: timeouts.read,
                    tasks: ground.tasks.clone(),
                };
                return deliver(
                    to,
                    *head,
                    ResponseBody::whole(Bytes::new()),
                    Some(switched),
                    &sent,
                );
            }
            (Ok(Done::Switched(_)), None) => {
                Failure::BadAnswer("it switches protocols inside the request".into())
            }
            (Err(broken), _) => broken.into_failure(Arc::clone(&name), dialect, length),
        };
        let is_slow = matches!(failure, Failure::TooSlow { .. });
        if is_slow {
            ground.servers.failed(&slot);
        }
        match to {
            To::Call(answer) => {
                let is_suspicious = is_slow || matches!(failure, Failure::ClosedEarly { .. });
                let speaks_http = dialect == Dialect::Uwsgi
                    && is_suspicious
                    && !slot.has_worked()
                    && ground.servers.speaks_http(&slot).await;
                let _client_gone = answer.send(Err(match speaks_http {
                    true => Failure::SpeaksHttp { server: name },
                    false => failure,
                }));
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

/// How a complete answer leaves the connection.
enum Done {
    /// Of no more use.
    Closed,
    /// Ready for another request.
    Open,
    /// In another protocol; the head says which.
    Switched(Box<ReplyHead>),
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
    /// The client does not send all of it.
    Body(request_stream::Broken),
}

impl Broken {
    fn into_failure(self, server: Arc<str>, dialect: Dialect, length: usize) -> Failure {
        match self {
            Self::NobodyWants => Failure::BadAnswer("nobody wants it".into()),
            Self::TooLate(doing, setting, limit) => Failure::TooSlow {
                server,
                doing,
                setting,
                limit,
            },
            Self::NoAnswer => Failure::ClosedEarly {
                server,
                packet: (dialect == Dialect::Uwsgi).then_some(length),
            },
            Self::SpeaksHttp => Failure::SpeaksHttp { server },
            Self::Unusable(why) => Failure::BadAnswer(why),
            Self::File(error) => Failure::Transport(error),
            Self::Body(broken) => Failure::Body(broken),
        }
    }
}

/// When something last went through: while the server takes the request, it need not answer.
pub(super) struct Progress {
    pub(super) began: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) {
        let elapsed = self.began.elapsed().as_millis();
        self.last_ms.store(elapsed as u64, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// Sends everything, and gives the writing end back. `None`: the server takes no more, which
/// is no error; the answer will tell.
async fn send(
    mut writer: WriteHalf<Socket>,
    mut outgoing: Outgoing,
    sent: &Progress,
    limit: Duration,
    files: &FilePool,
) -> Result<Option<WriteHalf<Socket>>, Broken> {
    let mut at = 0;
    loop {
        while outgoing.head.has_remaining() {
            match timeout(limit, writer.write_buf(&mut outgoing.head)).await {
                Ok(Ok(1..)) => sent.now(),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Err(_elapsed) => {
                    let setting = "upstream-send-timeout";
                    return Err(Broken::TooLate("take the request", setting, limit));
                }
            }
        }
        if let Some(stream) = &outgoing.stream {
            // Of a client that breaks off the server learns by the end of the connection,
            // before it has as many bytes as were promised.
            match stream.lock().await.next().await.map_err(Broken::Body)? {
                Some(piece) => outgoing.head = piece.chain(Bytes::new()),
                None => return Ok(Some(writer)),
            }
            sent.now();
            continue;
        }
        let Some((file, length)) = outgoing.file.take().filter(|(_, length)| at < *length) else {
            return Ok(Some(writer));
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
    reader: ReadHalf<Socket>,
    buffer: BytesMut,
    sent: &'a Progress,
    limit: Duration,
    slot: &'a Slot,
    ground: &'a Ground,
    dialect: Dialect,
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

fn deliver(
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
        // A client that has left by now drops the body, which cancels us.
        let _client_gone = answer.send(Ok(Box::new(Response {
            status: head.status,
            reason: head.reason,
            headers,
            spellings: head.spellings,
            body,
            file: None,
            switched,
            worker: None,
            app_time: sent.began.elapsed(),
        })));
    }
}

impl Receiving<'_> {
    async fn run(&mut self) -> Result<Done, Broken> {
        let head = self.head().await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Done::Switched(Box::new(head)));
        }
        let is_bodiless = self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let length = match is_bodiless {
            true => BodyLength::Bytes(0),
            false => head.length,
        };
        let stays_open = head.stays_open && self.dialect != Dialect::Uwsgi;
        if let BodyLength::Bytes(length) = length
            && self.buffer.len() as u64 >= length
        {
            let body = self.buffer.split_to(length as usize).freeze();
            self.deliver(head, ResponseBody::whole(body));
            return Ok(self.done(stays_open));
        }
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
        Ok(self.done(stays_open && length != BodyLength::UntilClosed))
    }

    /// Bytes behind an answer belong to nothing that was asked.
    fn done(&self, stays_open: bool) -> Done {
        match stays_open && self.buffer.is_empty() {
            true => Done::Open,
            false => Done::Closed,
        }
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
                let is_http = self.dialect != Dialect::Uwsgi;
                let head = reply_head::read(&self.buffer.split_to(length).freeze(), is_http)
                    .map_err(|bad| Broken::Unusable(bad.to_string()))?;
                end = HeadEnd::default();
                let may_switch = Dialect::Http { may_switch: true };
                let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
                // RFC 9110 §15.2: behind other informational heads comes the answer.
                if !head.status.is_informational() || switches && self.dialect == may_switch {
                    self.check(&head).await?;
                    return Ok(head);
                }
                if switches {
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
        let servers = &self.ground.servers;
        if self.dialect == Dialect::Uwsgi
            && head.status == StatusCode::BAD_REQUEST
            && !self.slot.has_worked()
            && servers.speaks_http(self.slot).await
        {
            return Err(Broken::SpeaksHttp);
        }
        servers.succeeded(self.slot);
        Ok(())
    }

    fn deliver(&mut self, head: ReplyHead, body: ResponseBody) {
        let to = std::mem::replace(&mut self.to, To::Nobody);
        deliver(to, head, body, None, self.sent);
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
