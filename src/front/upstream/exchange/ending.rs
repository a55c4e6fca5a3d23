//! The end of an exchange: its connection is kept or switches protocols, or its failure is counted
//! and reported.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::WriteHalf;

use super::receiving::{Receiving, To, deliver};
use super::{Dialect, ExchangeContext};
use crate::front::body::response_stream::ResponseBody;
use crate::front::context::RequestLabel;
use crate::front::socket::Socket;
use crate::front::upstream::Failure;
use crate::front::upstream::balance::Slot;
use crate::front::upstream::http_proxy::tunnel::Switched;
use crate::front::upstream::private::{Link, Ownership};
use crate::front::upstream::reply_head::ReplyHead;
use crate::observe::codes;

/// The body of a server's invalid response to HEAD follows its head at once.
const STRAY: Duration = Duration::from_millis(50);

impl Receiving<'_> {
    /// Keeps the connection for the next request.
    pub(super) fn keep(self, writer: WriteHalf<Socket>) {
        let socket = self.reader.unsplit(writer);
        keep(self.ground, self.slot, self.ownership, socket);
    }

    /// Keeps the connection if no stray bytes follow the response.
    pub(super) async fn keep_if_quiet(self, writer: WriteHalf<Socket>) {
        let mut socket = self.reader.unsplit(writer);
        // The client has its response; its next request waits for this connection.
        if socket.stays_quiet(STRAY).await {
            keep(self.ground, self.slot, self.ownership, socket);
        }
    }

    /// Hands the connection over to the protocol that the head names.
    pub(super) fn hand_over(self, head: ReplyHead, writer: WriteHalf<Socket>) {
        let switched = Switched {
            link: self.reader.unsplit(writer),
            early: self.buffer.into_rest(),
            limit: self.limit,
            tasks: self.ground.tasks.clone(),
        };
        let nothing = ResponseBody::whole(Bytes::new());
        deliver(self.to, head, nothing, Some(switched), self.sent);
    }

    /// Counts the failure against the server, and reports it to the receiver of the response.
    pub(super) async fn fail(
        self,
        failure: Failure,
        server: Arc<str>,
        is_reused: bool,
        identity: &RequestLabel,
    ) {
        let servers = &self.ground.servers;
        // A server may close an idle connection at any time.
        let is_its_right = is_reused && matches!(failure, Failure::ClosedEarly { .. });
        if let Some(reason) = failure.of_server()
            && !is_its_right
        {
            servers.count_failure(self.slot, reason);
        }
        match self.to {
            To::Call(answer) => {
                if failure.is_illness() && !is_its_right {
                    servers.failed(self.slot);
                }
                let is_suspicious = matches!(
                    failure,
                    Failure::TooSlow { .. } | Failure::ClosedEarly { .. }
                );
                let speaks_http = self.dialect == Dialect::Uwsgi
                    && is_suspicious
                    && !self.slot.has_worked()
                    && servers.speaks_http(self.slot).await;
                // The next attempt waits for this slot.
                drop(self.ownership);
                let _client_gone = answer.send(Err(match speaks_http {
                    true => Failure::SpeaksHttp { server },
                    false => failure,
                }));
            }
            // A server that has begun a response is healthy. A truncated response is the
            // application's fault, and so is a pause in a stream of events.
            To::Body(feed) => {
                let id = &identity.request_id;
                tracing::warn!(code = codes::TRUNCATED, request_id = %id, server = &*server, reason = %failure, "upstream response truncated");
                feed.end(
                    Err("the upstream server truncated the response"),
                    self.sent.began.elapsed(),
                );
            }
            To::Discarded => {}
        }
    }
}

/// Keeps the connection for its owner, or for any client if it has none.
fn keep(ground: &ExchangeContext, slot: &Slot, ownership: Ownership, socket: Socket) {
    let server = slot.server();
    if let Some(link) = ownership.keep(Link { socket, server }) {
        ground.servers.keep(slot, link.socket);
    }
}
