//! An external uWSGI, or any server that takes the uwsgi protocol, as an upstream.
//!
//! 1. [`packet`]: the variables become a packet; too many bytes are refused here;
//! 2. [`super::servers`] connects to one of the servers;
//! 3. [`super::exchange`]: body and answer cross.
//!
//! There is one request for each connection: the protocol has no other way.

mod packet;

use std::sync::Arc;

use bytes::Bytes;

use super::exchange::{Dialect, ExchangeContext, ExchangeRequest, Outgoing};
use super::servers::Servers;
use super::{Failure, Request, Response};
use crate::config::upstream::UwsgiSettings;
use crate::front::context::RequestLabel;
use crate::front::sendfile::file_pool::FilePool;

/// The servers, and how they are spoken to. Clones share them.
#[derive(Clone)]
pub struct Uwsgi {
    ground: Arc<ExchangeContext>,
    settings: Arc<UwsgiSettings>,
}

impl Uwsgi {
    /// These servers, spoken to like this.
    pub fn new(servers: Servers, settings: UwsgiSettings, files: FilePool) -> Self {
        Self {
            ground: Arc::new(ExchangeContext::new(servers, files)),
            settings: Arc::new(settings),
        }
    }

    /// The servers, for the log and for figures.
    pub fn servers(&self) -> &Servers {
        &self.ground.servers
    }

    /// Has a server answer the request. Dropping the future breaks the connection off.
    ///
    /// # Errors
    /// [`Failure`] says why there is no answer.
    pub async fn call(
        &self,
        request: Request,
        identity: Arc<RequestLabel>,
    ) -> Result<Box<Response>, Failure> {
        let packet = packet::build(&request.message, &self.settings)?;
        let errand = ExchangeRequest {
            whole: Outgoing::new(Bytes::from(packet), request.body),
            dialect: Dialect::Uwsgi,
            protocols: None,
            identity,
            fresh: true,
            owner: None,
        };
        self.ground.answer(errand).await
    }
}
