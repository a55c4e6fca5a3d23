//! An external uWSGI, or any server that takes the uwsgi protocol, as an upstream.
//!
//! 1. [`packet`]: the variables become a packet; too many bytes are refused here;
//! 2. [`super::servers`] connects to one of the servers, and a first write goes to it: as
//!    long as a server has taken nothing, another may get the request;
//! 3. [`exchange`]: body and answer cross, in a task of their own, so that the answer is
//!    taken off the server whatever the client does.
//!
//! There is one request for each connection: the protocol has no other way.

mod exchange;
mod packet;

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::response_body::Budget;
use super::servers::{Reached, Servers};
use super::{Failure, Request, Response};
use crate::config::upstream::{ServerAddress, UpstreamTimeouts, UwsgiSettings};
use crate::front::file_pool::FilePool;
use crate::front::request::context::Identity;
use exchange::{Exchange, Outgoing};

/// The servers, and how they are spoken to. Clones share them.
#[derive(Clone)]
pub struct Uwsgi(Arc<Shared>);

struct Shared {
    servers: Servers,
    settings: UwsgiSettings,
    budget: Arc<Budget>,
    tasks: TaskTracker,
    files: FilePool,
}

impl Uwsgi {
    /// Servers at these addresses, at least one.
    pub fn new(
        addresses: Vec<ServerAddress>,
        timeouts: UpstreamTimeouts,
        settings: UwsgiSettings,
        files: FilePool,
    ) -> Self {
        Self(Arc::new(Shared {
            servers: Servers::new(addresses, timeouts, files.clone()),
            settings,
            budget: Arc::default(),
            tasks: TaskTracker::new(),
            files,
        }))
    }

    /// The servers, for the log and for figures.
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// Has a server answer the request. Dropping the future breaks the connection off.
    ///
    /// # Errors
    /// [`Failure`] says why there is no answer.
    pub async fn call(
        &self,
        request: Request,
        identity: Arc<Identity>,
    ) -> Result<Box<Response>, Failure> {
        let packet = packet::build(&request.message, &self.0.settings)?;
        let mut outgoing = Outgoing::new(Bytes::from(packet), request.body);
        let reached = self.reach(&mut outgoing).await?;
        let (answer, answered) = oneshot::channel();
        let abandoned = CancellationToken::new();
        let broken_off = abandoned.clone().drop_guard();
        let exchange = Exchange {
            upstream: Arc::clone(&self.0),
            reached,
            identity,
            abandoned,
        };
        self.0.tasks.spawn(exchange.run(outgoing, answer));
        let response = answered
            .await
            .unwrap_or_else(|_not_told| Err(Failure::BadAnswer("it was not read".into())))?;
        // From here on the body notices a client that leaves.
        broken_off.disarm();
        Ok(response)
    }

    /// A server that has taken at least the first bytes.
    async fn reach(&self, outgoing: &mut Outgoing) -> Result<Reached, Failure> {
        let servers = &self.0.servers;
        let mut tries = servers.count();
        loop {
            let mut reached = servers.connect().await?;
            let mut first = outgoing.first();
            let write = reached.link.write_buf(&mut first);
            let why = match tokio::time::timeout(servers.timeouts.send, write).await {
                Ok(Ok(taken @ 1..)) => {
                    outgoing.taken(taken);
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
            // It has closed the connection unseen: another one may have the request.
            servers.failed(&reached.slot);
            tries -= 1;
            if tries == 0 {
                let server = reached.name;
                return Err(Failure::Unreachable { server, why });
            }
        }
    }
}
