//! One request and its response over one upstream connection, in both directions at once, in a task
//! of its own, so that the response is read from the server whatever the client does.
//!
//! A server may respond before it has read the whole body, and close: so the response is read while
//! the body is sent, and a failed send of the body is not a failure of the exchange. The response
//! alone decides. It ends where its length says, or at the end of the connection; a truncated
//! response is truncated for the client too, or becomes a failure if the client has received
//! nothing yet.
//!
//! An idempotent request is retried on the next server as long as the client has received nothing
//! (`exchange/tries.rs`).
//!
//! HTTP uses the same code as uwsgi: heads, chunks and timeouts are the same, and hyper's client
//! does not promise to read a response when the body cannot be sent any more.

mod read_buffer;
mod receiving;
mod sending;
mod tries;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::read_buffer::ReadBuffer;
use self::receiving::{Receiving, To, deliver};
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
use crate::front::client_limits::memory_budget::Account;
use crate::front::context::RequestLabel;
use crate::front::sendfile::file_pool::FilePool;
use crate::observe::codes;

/// Servers with their file pool: one for each upstream.
pub struct ExchangeContext {
    /// The servers.
    pub servers: Servers,
    budget: Arc<Budget>,
    tasks: TaskTracker,
    files: FilePool,
}

/// The protocol of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// uwsgi: one request per connection; response heads in HTTP or CGI form.
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
    /// The protocols to which the server may switch (`Upgrade`).
    pub protocols: Option<HeaderValue>,
    /// The request's label in the logs.
    pub identity: Arc<RequestLabel>,
    /// True if the request must not use a kept-alive connection.
    pub fresh: bool,
    /// The client.
    pub owner: Option<Owner>,
    /// The account that the memory of the exchange is charged to.
    pub account: Arc<Account>,
}

impl ExchangeContext {
    /// A context for these servers.
    pub fn new(servers: Servers, files: FilePool) -> Self {
        Self {
            servers,
            budget: Budget::of_process(),
            tasks: TaskTracker::new(),
            files,
        }
    }

    /// Sends the rest of the request and receives the response. Dropping the future closes the
    /// connection.
    ///
    /// # Errors
    /// The [`Failure`] if there is no response.
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
            account: Arc::clone(&errand.account),
            abandoned,
        };
        self.tasks.spawn(exchange.run(outgoing, answer));
        let response = answered
            .await
            .unwrap_or_else(|_not_told| Err(Failure::BadAnswer("it was not read".into())))?;
        // From here on the body detects a disconnected client.
        broken_off.disarm();
        Ok(response)
    }
}

/// One request in flight.
struct Exchange {
    ground: Arc<ExchangeContext>,
    reached: Reached,
    ownership: Ownership,
    dialect: Dialect,
    protocols: Option<HeaderValue>,
    identity: Arc<RequestLabel>,
    account: Arc<Account>,
    /// Cancelled when the response is no longer wanted.
    abandoned: CancellationToken,
}

type Answer = oneshot::Sender<Result<Box<Response>, Failure>>;

impl Exchange {
    /// Sends, receives, and passes the response to `answer`, its body in pieces if it is long.
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
            account,
            abandoned,
        } = self;
        let (reader, writer) = tokio::io::split(link);
        let timeouts = ground.servers.timeouts;
        let length = outgoing.length;
        let sent = Progress::new();
        let mut receiving = Receiving {
            reader,
            buffer: ReadBuffer::new(account),
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
                // Each branch resumes where it was: both futures live outside the loop, and the
                // token stays cancelled.
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
                    early: buffer.into_rest(),
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
        // A server may close an idle connection at any time.
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
                // The next attempt waits for this slot.
                drop(ownership);
                let _client_gone = answer.send(Err(match speaks_http {
                    true => Failure::SpeaksHttp { server: name },
                    false => failure,
                }));
            }
            // A server that has begun a response is healthy. A truncated response is the
            // application's fault, and so is a pause in a stream of events.
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

/// The state of the connection after a complete response.
enum Done {
    /// Not reusable.
    Closed,
    /// Reusable.
    Open,
    /// Open if no bytes follow that belong to no response.
    OpenIfQuiet,
    /// Switched to the protocol named in the head.
    Switched(Box<ReplyHead>),
}

/// The reason for a missing or truncated response.
enum ExchangeError {
    /// The client has disconnected.
    NobodyWants,
    /// A timeout: the step, the setting and its value.
    TooLate(&'static str, &'static str, Duration),
    /// The server closed the connection without sending a byte.
    NoAnswer,
    /// The server responded in HTTP to a uwsgi packet.
    SpeaksHttp,
    /// The response is malformed.
    Unusable(String),
    /// The request body cannot be read from its file.
    File(io::Error),
    /// The client did not send its whole body.
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
