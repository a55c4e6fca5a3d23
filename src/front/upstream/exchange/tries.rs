//! Tries servers one after the other until one responds.
//!
//! As long as a server has received no byte of a request, any request may go to the next server.
//! After that, only an idempotent request (RFC 9110 §9.2.2) whose body can be sent again may:
//! nginx's rule too (`proxy_next_upstream` without `non_idempotent`). No server gets a request
//! twice, except one that closed a kept-alive connection just as the request was sent.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Buf;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{ExchangeContext, ExchangeRequest, Outgoing};
use crate::front::upstream::private::Ownership;
use crate::front::upstream::servers::Reached;
use crate::front::upstream::{Failure, Response};
use crate::observe::codes;

/// The attempts of one request so far.
struct Attempts {
    fresh: bool,
    may_repeat: bool,
    /// Servers that have failed.
    failed: Vec<usize>,
    client: Option<IpAddr>,
}

impl ExchangeContext {
    /// Gets a response from one of the servers. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The [`Failure`] of the server that was tried last.
    pub async fn answer(
        self: &Arc<Self>,
        errand: ExchangeRequest,
    ) -> Result<Box<Response>, Failure> {
        let may_repeat = errand.identity.method.is_idempotent() && errand.whole.can_be_repeated();
        let mut tries = Attempts {
            fresh: errand.fresh,
            may_repeat,
            failed: Vec::new(),
            client: errand.client,
        };
        loop {
            let mut outgoing = errand.whole.clone();
            let mut ownership = match &errand.owner {
                None => Ownership::none(),
                Some(owner) => Ownership::of(owner, self.servers.id).await,
            };
            let reached = self
                .reach(&mut outgoing, &mut ownership, &mut tries)
                .await?;
            let (is_reused, server) = (reached.is_reused, reached.slot.server());
            let name = Arc::clone(&reached.name);
            let failure = match self.exchange(reached, outgoing, ownership, &errand).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if !may_repeat || failure.of_server().is_none() {
                return Err(failure);
            }
            if is_reused && matches!(failure, Failure::ClosedEarly { .. }) {
                tries.fresh = true;
                continue;
            }
            tries.failed.push(server);
            if tries.failed.len() >= self.servers.count() {
                return Err(failure);
            }
            let id = &errand.identity.request_id;
            tracing::warn!(code = codes::NEXT_SERVER, request_id = %id, server = &*name, reason = %failure, "upstream server failed: retrying the request on the next one");
        }
    }

    /// A server that has received at least the first bytes.
    async fn reach(
        &self,
        outgoing: &mut Outgoing,
        ownership: &mut Ownership,
        tries: &mut Attempts,
    ) -> Result<Reached, Failure> {
        let servers = &self.servers;
        loop {
            let mut reached = match ownership.take().and_then(|link| servers.again(link)) {
                Some(reached) => reached,
                None => {
                    let fresh = tries.fresh || ownership.is_private();
                    let connected =
                        servers.connect(fresh, tries.may_repeat, &tries.failed, tries.client);
                    connected.await?
                }
            };
            let mut first = outgoing.first();
            let write = reached.link.write_buf(&mut first);
            let failure = match timeout(servers.timeouts.send, write).await {
                Ok(Ok(taken @ 1..)) => {
                    outgoing.head.advance(taken);
                    return Ok(reached);
                }
                // The server closed the connection before it saw the request.
                Ok(_) if reached.is_reused => {
                    tries.fresh = true;
                    continue;
                }
                Ok(taken) => {
                    servers.count_failure(&reached.slot, "closed_early");
                    Failure::Unreachable {
                        server: reached.name,
                        why: match taken {
                            Err(error) => error.to_string(),
                            Ok(_) => "it accepts no bytes".to_owned(),
                        },
                    }
                }
                Err(_elapsed) => {
                    servers.count_failure(&reached.slot, "too_slow");
                    Failure::TooSlow {
                        server: reached.name,
                        doing: "read the request",
                        setting: "upstream-send-timeout",
                        limit: servers.timeouts.send,
                    }
                }
            };
            servers.failed(&reached.slot);
            tries.failed.push(reached.slot.server());
            if tries.failed.len() >= servers.count() {
                return Err(failure);
            }
        }
    }
}
