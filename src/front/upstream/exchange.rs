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

mod ending;
mod read_buffer;
mod receiving;
mod sending;
mod tries;

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::io::WriteHalf;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::read_buffer::ReadBuffer;
use self::receiving::{Receiving, To};
pub use self::sending::Outgoing;
use self::sending::send;
use super::private::{Owner, Ownership};
use super::progress::Progress;
use super::reply_head::ReplyHead;
use super::servers::{Reached, Servers};
use super::{Failure, Response};
use crate::front::body::request_stream;
use crate::front::body::response_stream::budget::Budget;
use crate::front::client_limits::memory_budget::Account;
use crate::front::context::RequestLabel;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::socket::Socket;

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
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
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
        let abandon_on_drop = abandoned.clone().drop_guard();
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
        let response = answered.await.unwrap_or_else(|_dropped| {
            Err(Failure::BadAnswer("the exchange was cancelled".into()))
        })?;
        // From here on the body detects a disconnected client.
        abandon_on_drop.disarm();
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
        let ended = {
            // Pinned here: an argument that is awaited inside would take its room twice.
            let sending = pin!(send(writer, outgoing, &sent, timeouts.send, &ground.files));
            send_and_receive(sending, &mut receiving).await
        };
        let Some((result, writer)) = ended else {
            return;
        };
        let broken = match (result, writer) {
            (Ok(Done::Closed), _)
            | (Ok(Done::Open | Done::OpenIfQuiet), None)
            | (Err(ExchangeError::Abandoned), _) => {
                return;
            }
            (Ok(Done::Open), Some(writer)) => return receiving.keep(writer),
            (Ok(Done::OpenIfQuiet), Some(writer)) => {
                // Boxed: these connections are few.
                return Box::pin(receiving.keep_if_quiet(writer)).await;
            }
            (Ok(Done::Switched(head)), Some(writer)) => return receiving.hand_over(*head, writer),
            (Ok(Done::Switched(_)), None) => {
                ExchangeError::Unusable("it switches protocols inside the request".into())
            }
            (Err(broken), _) => broken,
        };
        let failure = broken.into_failure(Arc::clone(&name), dialect, length);
        // Boxed: failures are few.
        Box::pin(receiving.fail(failure, name, is_reused, &identity)).await;
    }
}

/// The result of both directions of an exchange: that of the response, with the write half if the
/// whole request was sent.
type Ended = (Result<Done, ExchangeError>, Option<WriteHalf<Socket>>);

/// Sends and receives until the response ends. `None`: the response is no longer wanted.
async fn send_and_receive(
    mut sending: Pin<&mut impl Future<Output = Result<Option<WriteHalf<Socket>>, ExchangeError>>>,
    receiving: &mut Receiving<'_>,
) -> Option<Ended> {
    let abandoned = receiving.abandoned;
    let mut receive = pin!(receiving.run());
    let mut writer_back = None;
    let mut is_sending = true;
    loop {
        // Each branch resumes where it was: both futures live outside the loop, and the
        // token stays cancelled.
        tokio::select! {
            biased;
            () = abandoned.cancelled() => return None,
            result = &mut sending, if is_sending => match result {
                Ok(writer) => (is_sending, writer_back) = (false, writer),
                Err(broken) => return Some((Err(broken), writer_back)),
            },
            result = &mut receive => return Some((result, writer_back)),
        }
    }
}

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
    Abandoned,
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
            Self::Abandoned => Failure::BadAnswer("the client has disconnected".into()),
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
