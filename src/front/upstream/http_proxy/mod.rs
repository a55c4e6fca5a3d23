//! An HTTP/1.1 server as an upstream: gunicorn, another service, a front-end's dev server.
//!
//! 1. [`mapping`]: the server's names and paths; [`head`]: builds the request head;
//! 2. [`super::servers`] provides a kept-alive or new connection;
//! 3. [`super::exchange`] sends the request and receives the response;
//! 4. [`tunnel`]: takes over a connection that switches protocols (WebSocket).
//!
//! A server may close an idle connection just as a request is sent over it. So non-idempotent
//! requests get a new connection, and others are retried if no byte comes back over a kept-alive
//! one (RFC 9110 §9.2.2, RFC 9112 §9.3.1). A connection that a client has authenticated serves that
//! client alone ([`super::private`]).

pub mod head;
pub mod mapping;
pub mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use http::{Version, request};

use self::mapping::Mapping;
use super::exchange::{Dialect, ExchangeContext, ExchangeRequest, Outgoing};
use super::private::Owner;
use super::private::{self, PrivateLinks};
use super::servers::Servers;
use super::{Failure, Response};
use crate::front::body::request::RequestBody;
use crate::front::client_limits::memory_budget::Account;
use crate::front::context::{RequestFacts, RequestLabel};
use crate::front::sendfile::file_pool::FilePool;

/// The servers. Clones share them.
#[derive(Clone)]
pub struct HttpProxy {
    context: Arc<ExchangeContext>,
    mapping: Arc<Mapping>,
}

impl HttpProxy {
    /// A proxy to these servers.
    pub fn new(servers: Servers, mapping: Mapping, files: FilePool) -> Self {
        Self {
            context: Arc::new(ExchangeContext::new(servers, files)),
            mapping: Arc::new(mapping),
        }
    }

    /// The servers, for logs and metrics.
    pub fn servers(&self) -> &Servers {
        &self.context.servers
    }

    /// Gets a response to the request. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The [`Failure`] if there is no response.
    pub async fn call(
        &self,
        asked: &request::Parts,
        facts: &RequestFacts<'_>,
        body: RequestBody,
        links: &Arc<PrivateLinks>,
        identity: Arc<RequestLabel>,
        account: &Arc<Account>,
    ) -> Result<Box<Response>, Failure> {
        let protocols = head::wanted_protocols(asked);
        let in_chunks = body.length().is_none();
        let target = self.mapping.target(asked, facts.path, facts.normal_path);
        let host = self.mapping.host(facts.client);
        let line = head::RequestLine {
            target: &target,
            host: &host,
        };
        let head = head::build(&line, asked, facts, protocols.as_ref(), in_chunks);
        let head = Bytes::from(head);
        // A stream cannot be sent a second time.
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
            client: facts.client.address,
            account: Arc::clone(account),
        };
        let mut response = self.context.answer(errand).await?;
        let outer = &facts.client.prefix;
        self.mapping.map_back(&mut response.headers, outer);
        Ok(response)
    }
}
