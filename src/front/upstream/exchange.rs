//! One request and its answer over one connection, both ways at the same time, in a task of
//! their own, so that the answer is taken off the server whatever the client does.
//!
//! A server may answer before it has taken the whole body, and close: so the answer is read
//! while the body is sent, and a body that cannot be sent any more is no failure of its
//! own. What counts is the answer. It is over where its length says, or at the end of the
//! connection; an end that comes too early breaks the client's response off as well, or makes
//! a failure of it where the client has nothing yet.
//!
//! A request that may run twice goes to the next server as long as the client has nothing
//! (`exchange/tries.rs`).
//!
//! HTTP goes the same way as uwsgi: heads, chunks and timeouts are the same, and hyper's client
//! does not promise to read an answer when the body cannot be sent any more.

mod receiving;
mod sending;
mod tries;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::receiving::{READ, Receiving, To, deliver};
pub use self::sending::Outgoing;
use self::sending::send;
use super::http_proxy::tunnel::Switched;
use super::private::{Link, Owner, Ownership};
use super::progress::Progress;
use super::reply_head::ReplyHead;
use super::servers::{Reached, Servers};
use super::{Failure, Response};
use crate::front::body::request_stream;
use crate::front::body::response_stream::ResponseBody;
use crate::front::body::response_stream::budget::Budget;
use crate::front::context::RequestLabel;
use crate::front::sendfile::file_pool::FilePool;
use crate::observe::codes;

/// Servers with what an exchange needs beside them. One for each upstream.
pub struct ExchangeContext {
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
    Http,
}

/// A request for one of the servers.
pub struct ExchangeRequest {
    /// The request.
    pub whole: Outgoing,
    /// The protocol of the servers.
    pub dialect: Dialect,
    /// The protocols to which the server may switch.
    pub protocols: Option<HeaderValue>,
    /// The request in the logs.
    pub identity: Arc<RequestLabel>,
    /// It is sent over no connection that has served others.
    pub fresh: bool,
    /// The client.
    pub owner: Option<Owner>,
}

impl ExchangeContext {
    /// For these servers.
    pub fn new(servers: Servers, files: FilePool) -> Self {
        Self {
            servers,
            budget: Budget::of_process(),
            tasks: TaskTracker::new(),
            files,
        }
    }

    /// Sends what is left of the request, and receives the answer. Dropping the future
    /// breaks the connection off.
    ///
    /// # Errors
    /// [`Failure`] says why there is no answer.
    async fn exchange(
        self: &Arc<Self>,
        reached: Reached,
        outgoing: Outgoing,
        ownership: Ownership,
        errand: &ExchangeRequest,
    ) -> Result<Box<Response>, Failure> {
        let (answer, answered) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let broken_off = abandoned.clone().drop_guard();
        let exchange = Exchange {
            ground: Arc::clone(self),
            reached,
            ownership,
            dialect: errand.dialect,
            protocols: errand.protocols.clone(),
            identity: Arc::clone(&errand.identity),
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
    ground: Arc<ExchangeContext>,
    reached: Reached,
    ownership: Ownership,
    dialect: Dialect,
    protocols: Option<HeaderValue>,
    identity: Arc<RequestLabel>,
    /// Nobody wants the answer any more.
    abandoned: CancellationToken,
}

type Answer = oneshot::Sender<Result<Box<Response>, Failure>>;

impl Exchange {
    /// Sends, receives, and gives the answer to `answer`, its body in pieces if it is long.
    async fn run(self, outgoing: Outgoing, answer: Answer) {
        let Self {
            ground,
            reached:
                Reached {
                    link,
                    slot,
                    name,
                    is_reused,
                    in_flight: _until_it_is_over,
                },
            ownership,
            dialect,
            protocols,
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
            ownership,
            dialect,
            protocols,
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
            reader,
            buffer,
            to,
            ownership,
            ..
        } = receiving;
        let failure = match (result, writer_back) {
            (Ok(Done::Closed), _)
            | (Ok(Done::Open | Done::OpenIfQuiet), None)
            | (Err(ExchangeError::NobodyWants), _) => {
                return;
            }
            (Ok(done @ (Done::Open | Done::OpenIfQuiet)), Some(writer)) => {
                let link = Link {
                    socket: reader.unsplit(writer),
                    server: slot.server(),
                };
                // The client has its answer; its next request waits for this connection.
                if matches!(done, Done::OpenIfQuiet) && !link.socket.stays_quiet(STRAY).await {
                    return;
                }
                if let Some(link) = ownership.keep(link) {
                    ground.servers.keep(&slot, link.socket);
                }
                return;
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
        // It may close a used connection whenever it likes.
        let is_its_right = is_reused && matches!(failure, Failure::ClosedEarly { .. });
        if let Some(reason) = failure.of_server()
            && !is_its_right
        {
            ground.servers.count_failure(&slot, reason);
        }
        match to {
            To::Call(answer) => {
                if failure.is_illness() && !is_its_right {
                    ground.servers.failed(&slot);
                }
                let is_suspicious = matches!(
                    failure,
                    Failure::TooSlow { .. } | Failure::ClosedEarly { .. }
                );
                let speaks_http = dialect == Dialect::Uwsgi
                    && is_suspicious
                    && !slot.has_worked()
                    && ground.servers.speaks_http(&slot).await;
                // The next try waits for the place.
                drop(ownership);
                let _client_gone = answer.send(Err(match speaks_http {
                    true => Failure::SpeaksHttp { server: name },
                    false => failure,
                }));
            }
            // A server that has begun an answer is there. Its end is the application's, as is
            // a pause in a stream of events.
            To::Body(feed) => {
                let id = &identity.request_id;
                tracing::warn!(code = codes::TRUNCATED, request_id = %id, server = &*name, reason = %failure, "a response broke off");
                feed.end(Err("the server behind broke off"), sent.began.elapsed());
            }
            To::Nobody => {}
        }
    }
}

/// A body that a server sends to HEAD follows its head at once.
const STRAY: Duration = Duration::from_millis(50);

/// How a complete answer leaves the connection.
enum Done {
    /// Of no more use.
    Closed,
    /// Ready for another request.
    Open,
    /// The same, if no bytes follow that belong to no answer.
    OpenIfQuiet,
    /// In another protocol; the head says which.
    Switched(Box<ReplyHead>),
}

/// Why there is no answer, or only half of one.
enum ExchangeError {
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
    Body(request_stream::RequestBodyError),
}

impl ExchangeError {
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
