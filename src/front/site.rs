//! The site: the locations, application, limits and logs that answer requests.

use http::HeaderValue;
use parking_lot::RwLock;
use std::sync::Arc;

use super::access::Access;
use super::acme::challenges::Challenges;
use super::activity::Deadlines;
use super::admin::Probes;
use super::body::encoder::Encoders;
use super::body::request_spool::Spool;
use super::body::response_spool::ResponseSpool;
use super::client_limits::connections::Connections;
use super::client_limits::rate_limit::RateLimit;
use super::header_case::HeaderCase;
use super::maintenance::MaintenanceSwitch;
use super::response_rules::ResponseRules;
use super::routing::origin::Hosts;
use super::routing::router::{Route, Router};
use super::sendfile::file_pool::FilePool;
use super::static_files::StaticFiles;
use super::static_files::found::FoundFiles;
use super::static_files::internal::InternalFiles;
use super::tls::Tls;
use crate::config::tls::HttpsRedirect;
use crate::config::{CompressTypes, Trust, UnknownHost};
use crate::observe::access_log::AccessLog;

/// The components that answer requests.
pub struct Site {
    /// The static locations.
    pub static_files: StaticFiles,
    /// Static locations found in the application's settings.
    pub found_files: Arc<FoundFiles>,
    /// The internal locations; `None` where there are none.
    pub internal_files: Option<InternalFiles>,
    /// TLS with clients, and what belongs to it.
    pub https: Https,
    /// Time limits for clients.
    pub deadlines: Deadlines,
    /// The location for a path that no file answers.
    pub router: Router,
    /// Access to locations, by their index; at 0 that of locations without settings of their own.
    pub access: Vec<Access>,
    /// Rules for responses that belong to no location.
    pub response_rules: ResponseRules,
    /// The hosts that locations name.
    pub hosts: Hosts,
    /// The response to a request for another host.
    pub unknown_host: UnknownHost,
    /// Maintenance mode.
    pub maintenance: Arc<MaintenanceSwitch>,
    /// Answers `/-/live` and `/-/ready` on the main listeners; `None`: they do not.
    pub probes: Option<Probes>,
    /// Reads request bodies.
    pub spool: Spool,
    /// Buffers long responses for slow clients.
    pub response_spool: Arc<ResponseSpool>,
    /// Encodes responses.
    pub encoders: Encoders,
    /// Media types of responses to encode.
    pub compress_types: CompressTypes,
    /// Reads files.
    pub files: FilePool,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// True if responses have a `Server` field.
    pub server_header: bool,
    /// True if a connection takes another request after a response.
    pub keeps_alive: bool,
    /// The counter of connections.
    pub connections: Arc<Connections>,
    /// The request rate of an address; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
    /// Proxies whose forwarding headers are trusted.
    pub trust: Trust,
    /// Balancers that send a PROXY header.
    pub proxy_protocol: Trust,
    /// The case of the application's header names.
    pub header_case: HeaderCase,
}

/// TLS with clients, and what belongs to it.
pub struct Https {
    /// The sessions; `None` where no listener has TLS.
    pub tls: Option<Tls>,
    /// Answers to an authority that validates a host; `None` without ACME.
    pub challenges: Option<Challenges>,
    /// Redirects of requests over plain HTTP.
    pub redirect: HttpsRedirect,
    /// The value of `Strict-Transport-Security` over `https`.
    pub hsts: Option<HeaderValue>,
}

impl Site {
    /// Access to the location that answers where no file does; without one, that of the whole site.
    pub fn access_of(&self, route: Option<&Route>) -> &Access {
        &self.access[route.map_or(0, |route| route.access)]
    }
}

/// The current site. A request keeps the one that was current when it arrived.
pub struct CurrentSite(RwLock<Arc<Site>>);

impl CurrentSite {
    /// Starts with this site.
    pub fn new(site: Site) -> Self {
        Self(RwLock::new(Arc::new(site)))
    }

    /// Replaces the site; returns the one before.
    pub fn set(&self, site: Site) -> Arc<Site> {
        let mut current = self.0.write();
        std::mem::replace(&mut current, Arc::new(site))
    }

    /// The current site.
    pub fn get(&self) -> Arc<Site> {
        Arc::clone(&self.0.read())
    }
}
