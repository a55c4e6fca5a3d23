//! What answers requests, put together once: locations, application, limits, logs.

use std::sync::{Arc, PoisonError, RwLock};

use super::activity::Deadlines;
use super::admin::Probes;
use super::body::encoder::Encoders;
use super::body::request_spool::Spool;
use super::body::response_spool::ResponseSpool;
use super::client_limits::connections::Connections;
use super::client_limits::rate_limit::RateLimit;
use super::header_case::HeaderCase;
use super::routing::router::Router;
use super::sendfile::file_pool::FilePool;
use super::static_files::StaticFiles;
use super::static_files::found::FoundFiles;
use super::static_files::internal::InternalFiles;
use crate::config::{CompressTypes, Trust};
use crate::observe::access_log::AccessLog;

/// Everything that answers requests.
pub struct Site {
    /// The static locations.
    pub static_files: StaticFiles,
    /// Files that the application turned out to have.
    pub found_files: Arc<FoundFiles>,
    /// Files that only the application can have sent; `None` where there are none.
    pub internal_files: Option<InternalFiles>,
    /// How long clients may take.
    pub deadlines: Deadlines,
    /// Who answers where no file does.
    pub router: Router,
    /// Tells on the main listeners whether requests are served; `None`: does not.
    pub probes: Option<Probes>,
    /// Reads request bodies.
    pub spool: Spool,
    /// Where long responses wait for slow clients.
    pub response_spool: Arc<ResponseSpool>,
    /// Encodes responses.
    pub encoders: Encoders,
    /// Which types of responses are encoded.
    pub compress_types: CompressTypes,
    /// Reads files.
    pub files: FilePool,
    /// Where requests are logged.
    pub access_log: Arc<AccessLog>,
    /// True if responses name the server.
    pub server_header: bool,
    /// Number of connections.
    pub connections: Arc<Connections>,
    /// How many requests an address may make; `None` for any number.
    pub rate_limit: Option<RateLimit>,
    /// Whose statements about their clients are believed.
    pub trust: Trust,
    /// Who says in the PROXY protocol whose connection it hands on.
    pub proxy_protocol: Trust,
    /// How the application spells its header names.
    pub spellings: HeaderCase,
}

/// The site of this moment. A request keeps the one that it found when it came.
pub struct CurrentSite(RwLock<Arc<Site>>);

impl CurrentSite {
    /// It is this one at first.
    pub fn new(site: Site) -> Self {
        Self(RwLock::new(Arc::new(site)))
    }

    /// From now on it is this one; the one before.
    pub fn set(&self, site: Site) -> Arc<Site> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, Arc::new(site))
    }

    /// That of this moment.
    pub fn get(&self) -> Arc<Site> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
