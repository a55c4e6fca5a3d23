//! A server of HTTP/1.1 as an upstream: gunicorn, another service, a front-end's dev server.
//!
//! 1. [`head`]: the request's head as the server gets it;
//! 2. [`super::servers`] gives a connection, used before or new;
//! 3. [`super::exchange`]: body and answer cross;
//! 4. [`tunnel`]: what becomes of a connection that switches protocols (WebSocket).
//!
//! A server may close an idle connection at the moment in which a request is sent over it.
//! So requests that must not run twice get a new connection, and others, should nothing come
//! back over a used one, a second try (RFC 9110 §9.2.2, RFC 9112 §9.3.1).

pub mod head;
pub mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use http::request;

use super::exchange::{Dialect, Ground, Outgoing};
use super::servers::Servers;
use super::{Failure, RequestBody, Response};
use crate::front::file_pool::FilePool;
use crate::front::request::context::{Facts, Identity};

/// The servers. Clones share them.
#[derive(Clone)]
pub struct HttpProxy(Arc<Ground>);

impl HttpProxy {
    /// These servers.
    pub fn new(servers: Servers, files: FilePool) -> Self {
        Self(Arc::new(Ground::new(servers, files)))
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
        asked: &request::Parts,
        facts: &Facts<'_>,
        body: RequestBody,
        identity: Arc<Identity>,
    ) -> Result<Box<Response>, Failure> {
        let protocol = head::wanted_protocol(asked);
        let head = Bytes::from(head::build(asked, facts, protocol, body.length().is_none()));
        // What is being streamed cannot be sent a second time.
        let is_streamed = matches!(body, RequestBody::Stream(_));
        let whole = Outgoing::new(head, body);
        let dialect = Dialect::Http {
            may_switch: protocol.is_some(),
        };
        let mut fresh = is_streamed || !asked.method.is_idempotent() || protocol.is_some();
        loop {
            let mut outgoing = whole.clone();
            let reached = self.0.reach(&mut outgoing, fresh).await?;
            let is_reused = reached.is_reused;
            let exchange = self
                .0
                .exchange(reached, outgoing, dialect, Arc::clone(&identity));
            match exchange.await {
                Err(Failure::ClosedEarly { .. }) if is_reused => fresh = true,
                outcome => return outcome,
            }
        }
    }
}
