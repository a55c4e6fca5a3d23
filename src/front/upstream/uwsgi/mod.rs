//! An external uWSGI, or any server of the uwsgi protocol, as an upstream.
//!
//! 1. [`packet`]: encodes the variables as a packet; refuses too many bytes;
//! 2. [`super::servers`] connects to one of the servers;
//! 3. [`super::exchange`] sends the request and receives the response.
//!
//! The protocol allows one request per connection.

mod packet;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::exchange::{Dialect, ExchangeContext, ExchangeRequest, Outgoing};
use super::servers::Servers;
use super::{Failure, Request, Response};
use crate::config::upstream::UwsgiSettings;
use crate::front::client_limits::memory_budget::Account;
use crate::front::context::RequestLabel;
use crate::front::sendfile::file_pool::FilePool;

/// The servers and their protocol settings. Clones share them.
#[derive(Clone)]
pub struct Uwsgi {
    ground: Arc<ExchangeContext>,
    settings: Arc<UwsgiSettings>,
}

impl Uwsgi {
    /// An upstream of these servers.
    pub fn new(servers: Servers, settings: UwsgiSettings, files: FilePool) -> Self {
        Self {
            ground: Arc::new(ExchangeContext::new(servers, files)),
            settings: Arc::new(settings),
        }
    }

    /// The servers, for logs and metrics.
    pub fn servers(&self) -> &Servers {
        &self.ground.servers
    }

    /// Gets a response to the request. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The [`Failure`] if there is no response.
    pub async fn call(
        &self,
        request: Request,
        identity: Arc<RequestLabel>,
        account: &Arc<Account>,
        client: Option<IpAddr>,
    ) -> Result<Box<Response>, Failure> {
        let packet = packet::build(&request.message, &self.settings)?;
        let errand = ExchangeRequest {
            whole: Outgoing::new(Bytes::from(packet), request.body),
            dialect: Dialect::Uwsgi,
            protocols: None,
            identity,
            fresh: true,
            owner: None,
            client,
            account: Arc::clone(account),
        };
        self.ground.answer(errand).await
    }
}
