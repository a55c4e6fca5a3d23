//! A server of HTTP/1.1 as an upstream: gunicorn, another service, a front-end's dev server.
//!
//! 1. [`head`]: the request's head as the server gets it;
//! 2. [`super::servers`] gives a connection, used before or new;
//! 3. [`super::exchange`]: body and answer cross;
//! 4. [`tunnel`]: what becomes of a connection that switches protocols (WebSocket).
//!
//! A server may close an idle connection at the moment in which a request is sent over it.
//! So requests that must not run twice get a new connection, and others, should nothing come
//! back over a used one, a second try (RFC 9110 §9.2.2, RFC 9112 §9.3.1). A connection that a
//! client has authenticated is that client's alone ([`super::private`]).

pub mod head;
pub mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use http::{Version, request};

use super::exchange::{Dialect, ExchangeContext, ExchangeRequest, Outgoing};
use super::private::Owner;
use super::private::{self, PrivateLinks};
use super::servers::Servers;
use super::{Failure, Response};
use crate::front::body::request::RequestBody;
use crate::front::context::{RequestFacts, RequestLabel};
use crate::front::sendfile::file_pool::FilePool;

/// The servers. Clones share them.
#[derive(Clone)]
pub struct HttpProxy(Arc<ExchangeContext>);

impl HttpProxy {
    /// These servers.
    pub fn new(servers: Servers, files: FilePool) -> Self {
        Self(Arc::new(ExchangeContext::new(servers, files)))
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
        facts: &RequestFacts<'_>,
        body: RequestBody,
        links: &Arc<PrivateLinks>,
        identity: Arc<RequestLabel>,
    ) -> Result<Box<Response>, Failure> {
        let protocols = head::wanted_protocols(asked);
        let in_chunks = body.length().is_none();
        let head = Bytes::from(head::build(asked, facts, protocols.as_ref(), in_chunks));
        // What is being streamed cannot be sent a second time.
        let is_streamed = matches!(body, RequestBody::Stream(_));
        let errand = ExchangeRequest {
            fresh: is_streamed || !asked.method.is_idempotent() || protocols.is_some(),
            whole: Outgoing::new(head, body),
            dialect: Dialect::Http,
            protocols,
            identity,
            owner: Some(Owner {
                links: (asked.version <= Version::HTTP_11).then(|| Arc::clone(links)),
                authenticates: private::authenticates(&asked.headers),
            }),
        };
        self.0.answer(errand).await
    }
}
