//! Builds the front from the settings, and starts its listeners.

use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use pyserve_wire::control;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::startup;
use crate::config::{
    AppSettings, Config, Immutable, ListenAddress, Location, StaticLocation, StaticSettings,
    UpstreamSettings, locations,
};
use crate::front::accept::listener::Listener;
use crate::front::access::Access;
use crate::front::access::attempts::Attempts;
use crate::front::acme::Acme;
use crate::front::activity::Deadlines;
use crate::front::admin::Probes;
use crate::front::body::encoder::Encoders;
use crate::front::body::request_spool::{Spool, SpoolSpace};
use crate::front::body::response_spool::ResponseSpool;
use crate::front::client_limits::connections::Connections;
use crate::front::client_limits::memory_budget;
use crate::front::client_limits::min_rate::Patience;
use crate::front::client_limits::rate_limit::RateLimit;
use crate::front::header_case::HeaderCase;
use crate::front::maintenance::MaintenanceSwitch;
use crate::front::routing::fixed::Fixed;
use crate::front::routing::origin::Hosts;
use crate::front::routing::prefix::Prefix;
use crate::front::routing::router::{Handler, Route, Router};
use crate::front::sendfile::file_pool::FilePool;
use crate::front::shutdown::Shutdown;
use crate::front::site::{CurrentSite, Https, Site};
use crate::front::static_files;
use crate::front::static_files::found::FoundFiles;
use crate::front::static_files::internal::InternalFiles;
use crate::front::static_files::{Cache, Locations, StaticFiles};
use crate::front::tls::certificates::Certificates;
use crate::front::tls::pair::SharedPair;
use crate::front::tls::tickets::TicketKey;
use crate::front::tls::{self, Tls, certificates};
use crate::front::upstream::Upstream;
use crate::front::upstream::workers::Pool;
use crate::observe::access_log::AccessLog;
use crate::observe::codes;

/// The listeners and connections.
pub struct Front {
    /// Stops the connections.
    pub stop: Shutdown,
    /// The tasks of listeners and connections.
    pub connections: TaskTracker,
    /// The listen addresses as they are printed.
    pub addresses: Vec<ListenAddress>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    kept: Kept,
    site: Arc<CurrentSite>,
    past: Vec<Weak<Site>>,
    /// Cancelled when connections may be accepted.
    open: CancellationToken,
}

/// State that a new site takes over from the previous one.
struct Kept {
    files: FilePool,
    /// The part of `files` for static locations.
    location_files: FilePool,
    /// The cache of static files, with its size and revalidation interval.
    cache: Mutex<Option<((u64, Duration), Cache)>>,
    found_files: Arc<FoundFiles>,
    access_log: Arc<AccessLog>,
    connections: Arc<Connections>,
    /// Bytes of request bodies on disk.
    spooled_requests: Arc<AtomicU64>,
    /// Bytes of responses on disk.
    spooled_responses: Arc<AtomicU64>,
    probes: Probes,
    encoders: Encoders,
    attempts: Arc<Attempts>,
    maintenance: Arc<MaintenanceSwitch>,
    /// The certificates that were read when keys of root could be read.
    certificates: Option<Arc<Certificates>>,
    tls: tls::Kept,
    acme: Acme,
}

/// Descriptors that the front holds for the workers of all applications: for each worker its order
/// socket and a channel of each thread, for each application its control socket, queue, scoreboard
/// and log.
fn workers_descriptors(config: &Config) -> u64 {
    const EACH_APP: u64 = 4;
    let of =
        |app: &AppSettings| EACH_APP + u64::from(app.workers.most) * (1 + u64::from(app.threads));
    config.apps.iter().map(of).sum()
}

impl Front {
    /// Prepares the listeners, which accept from [`Front::open`] on; `pools` are those of the applications, by number.
    ///
    /// # Errors
    /// Locations that contradict each other.
    pub fn start(
        config: &Config,
        pools: &[Pool],
        listeners: Vec<Listener>,
        (certificates, keys): (Option<Arc<Certificates>>, &[TicketKey]),
        probes: Probes,
    ) -> io::Result<Self> {
        let files = FilePool::default();
        let acme = Acme::default();
        let kept = Kept {
            location_files: files.part(FilePool::OF_LOCATIONS),
            files,
            cache: Mutex::default(),
            found_files: Arc::default(),
            access_log: Arc::new(AccessLog::new(
                config.access_log,
                config.access_log_lines.clone(),
            )),
            connections: Arc::new(Connections::new(
                &config.client_limits,
                workers_descriptors(config),
            )),
            spooled_requests: Arc::default(),
            spooled_responses: Arc::default(),
            probes,
            encoders: Encoders::default(),
            attempts: Arc::default(),
            maintenance: Arc::default(),
            certificates,
            tls: tls::Kept::new(Arc::clone(&acme.challenges.stand_ins), keys)
                .map_err(io::Error::other)?,
            acme,
        };
        let front = Self {
            stop: Shutdown::default(),
            connections: TaskTracker::new(),
            addresses: listeners
                .iter()
                .map(|listener| listener.address.clone())
                .collect(),
            access_log: Arc::clone(&kept.access_log),
            site: Arc::new(CurrentSite::new(kept.site(config, pools, None)?)),
            kept,
            past: Vec::new(),
            open: CancellationToken::new(),
        };
        for listener in listeners {
            startup::bound(config.log_format, &listener.address);
            let accept = listener.accept(
                front.open.clone(),
                Arc::clone(&front.site),
                front.stop.clone(),
                front.connections.clone(),
            );
            front.connections.spawn(async {
                if let Err(error) = accept.await {
                    tracing::error!(code = codes::ACCEPT, %error, "cannot accept connections");
                }
            });
        }
        front.look_for_upstreams();
        front.look_for_certificates();
        front.follow_acme(config);
        Ok(front)
    }

    /// Accepts connections from now on.
    pub fn open(&self) {
        self.open.cancel();
    }

    /// The keys of session tickets and the certificates, for the server that takes this one's place.
    pub fn secrets(&self) -> (Vec<TicketKey>, Vec<SharedPair>) {
        let site = self.site.get();
        let tls = site.https.tls.as_ref();
        let pairs = tls.map(|tls| tls.certificates.pairs()).unwrap_or_default();
        let pairs = pairs.iter().map(|pair| pair.share()).collect();
        (self.kept.tls.keys(), pairs)
    }

    /// The switch of maintenance mode, the same for all sites.
    pub fn maintenance(&self) -> &MaintenanceSwitch {
        &self.kept.maintenance
    }

    /// True while the kernel has no descriptors or memory for new connections.
    pub fn refuses_connections(&self) -> bool {
        self.kept.connections.refuses()
    }

    /// Builds the site of these settings, for [`Front::change`]; `pools` are those of the
    /// applications, in the order of the settings.
    ///
    /// # Errors
    /// Locations that contradict each other.
    pub fn site(&self, config: &Config, pools: &[Pool]) -> io::Result<Site> {
        self.kept.site(config, pools, Some(&self.site.get()))
    }

    /// Orders the certificates of these settings.
    fn follow_acme(&self, config: &Config) {
        let settings = config.https.acme.as_ref();
        let (tasks, stopping) = (&self.connections, &self.stop.drain);
        let (acme, files) = (&self.kept.acme, &self.kept.files);
        acme.follow(settings, files, tasks, stopping);
    }

    /// Sends new requests to this site, which is one of these settings.
    pub fn change(&mut self, site: Site, config: &Config) {
        self.follow_acme(config);
        let before = self.site.set(site);
        self.past.retain(|site| site.strong_count() > 0);
        self.past.push(Arc::downgrade(&before));
        self.look_for_upstreams();
    }

    /// Sites that still answer requests of the time before the last [`Front::change`].
    pub fn past(&self) -> Vec<Weak<Site>> {
        self.past.clone()
    }

    /// Resolves and logs upstreams that were not reachable at the start.
    fn look_for_upstreams(&self) {
        for upstream in self.site.get().router.upstreams() {
            let (upstream, stopping) = (upstream.clone(), self.stop.drain.clone());
            self.connections.spawn(async move {
                // Both are cancel-safe: after a stop an unfinished check does not matter.
                tokio::select! {
                    () = upstream.servers().wait_until_there() => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
    }

    /// Reads certificates again when their files change.
    fn look_for_certificates(&self) {
        let (site, stopping) = (Arc::clone(&self.site), self.stop.drain.clone());
        self.connections.spawn(async move {
            loop {
                // Both are cancel-safe: a timer, and a token that stays cancelled.
                tokio::select! {
                    () = tokio::time::sleep(certificates::LOOK) => {}
                    () = stopping.cancelled() => return,
                }
                let site = site.get();
                let upstreams = site
                    .router
                    .upstreams()
                    .filter(|upstream| upstream.servers().has_tls());
                let upstreams: Vec<_> = upstreams.cloned().collect();
                let tls = site.https.tls.clone();
                if tls.is_some() || !upstreams.is_empty() {
                    let look = move || {
                        tls.iter().for_each(Tls::look);
                        let all = upstreams.iter();
                        all.for_each(|upstream| upstream.servers().look());
                        Ok(())
                    };
                    // It fails where there is no thread: the next look may find one.
                    let _looked: io::Result<()> = site.files.run(look).await;
                }
            }
        });
    }

    /// Serves the files that application `app` has reported, on the hosts of application number
    /// `index` of the settings.
    pub fn serve_found(
        &self,
        config: &Config,
        (app, index): (usize, Option<usize>),
        found: &[control::FoundFiles],
    ) {
        let (settings, cache) = (&config.static_files, self.kept.cache(config));
        let files = found.iter().filter_map(|found| {
            let dir = config.release.settle(Path::new(&*found.dir));
            let mut location = StaticLocation::new(&*found.prefix, dir);
            if let Some(owner) = index.and_then(|index| config.location_of(index)) {
                location.scope.hosts.clone_from(&owner.scope.hosts);
                location.scope.scheme = owner.scope.scheme;
            }
            let location = match &*found.source {
                // Only `collectstatic` writes there.
                "STATIC_ROOT" => location.of_a_build(),
                // A `staticfiles.json` there may be an upload.
                "MEDIA_ROOT" => StaticLocation {
                    immutable: Immutable::No,
                    ..location
                },
                _ => location,
            };
            match Locations::new([config.every_location.complete(location)]) {
                Ok(location) => Some(StaticFiles::new(location, settings.clone(), self.kept.location_files.clone(), &cache)),
                Err(error) => {
                    tracing::warn!(source = found.source, %error, "the application's files are not served");
                    None
                }
            }
        });
        self.kept.found_files.set(app, files.collect());
    }
}

impl Kept {
    /// The cache of static files; a new one if the settings have changed it.
    fn cache(&self, config: &Config) -> Cache {
        let settings = &config.static_files;
        let wanted = (settings.cache, settings.check);
        let mut kept = self.cache.lock();
        match &*kept {
            Some((made_for, cache)) if *made_for == wanted => cache.clone(),
            _ => {
                let cache = Cache::new(settings);
                *kept = Some((wanted, cache.clone()));
                cache
            }
        }
    }

    fn https(&self, config: &Config, before: Option<&Site>) -> io::Result<Https> {
        let hsts = config.https.hsts.as_deref().map(HeaderValue::from_str);
        Ok(Https {
            tls: self.tls(config, before)?,
            challenges: (config.https.acme.is_some()).then(|| self.acme.challenges.clone()),
            redirect: config.https.redirect,
            hsts: hsts.transpose().map_err(io::Error::other)?,
        })
    }

    /// TLS by these settings. Certificates of the same files are not read again here: keys may have
    /// become unreadable, and [`Certificates::look`] follows changes.
    fn tls(&self, config: &Config, before: Option<&Site>) -> io::Result<Option<Tls>> {
        let before = before.and_then(|site| site.https.tls.as_ref());
        let Some(settings) = &config.https.tls else {
            // The addresses stay until a restart.
            return Ok(before.cloned());
        };
        let known = before.map(|tls| &tls.certificates);
        let mut known = known.or(self.certificates.as_ref()).into_iter();
        let same = known.find(|known| known.files() == settings.certificates);
        let certificates = match same {
            Some(same) => Arc::clone(same),
            None => {
                let read = Certificates::read(&settings.certificates).map_err(io::Error::other)?;
                for warning in read.warnings() {
                    tracing::warn!(code = codes::CERTIFICATE, "{warning}");
                }
                Arc::new(read)
            }
        };
        let tls = Tls::new(settings, certificates, &self.tls);
        tls.map(Some).map_err(io::Error::other)
    }

    /// Builds the site of these settings, as the successor of `before`.
    fn site(&self, config: &Config, pools: &[Pool], before: Option<&Site>) -> io::Result<Site> {
        let (files, cache) = (&self.files, self.cache(config));
        let locations =
            Locations::new(config.static_locations.clone()).map_err(io::Error::other)?;
        let internal =
            Locations::new(config.internal_locations.clone()).map_err(io::Error::other)?;
        // The application names each file, so no name is hidden from it.
        let everything = StaticSettings {
            hidden: true,
            ..config.static_files.clone()
        };
        let internal_files = (!config.internal_locations.is_empty()).then(|| InternalFiles {
            files: StaticFiles::new(internal, everything, self.location_files.clone(), &cache),
            release: config.release.clone(),
        });
        let routes = routes(config, pools, files)?;
        let access = Access::all(&config.access, files, &self.attempts)?;
        let https = self.https(config, before)?;
        // From here on nothing fails.
        let limits = &config.client_limits;
        self.connections.limit_each(limits.connections_per_ip);
        memory_budget::set_memory_limit(limits.memory);
        let counted = before.and_then(|before| before.rate_limit.as_ref());
        Ok(Site {
            static_files: StaticFiles::new(
                locations,
                config.static_files.clone(),
                self.location_files.clone(),
                &cache,
            ),
            found_files: Arc::clone(&self.found_files),
            internal_files,
            router: Router::new(routes),
            access,
            hosts: hosts(config),
            unknown_host: config.unknown_host,
            response_rules: static_files::response_rules(
                &config.response_rules,
                &config.every_location.types,
            ),
            maintenance: Arc::clone(&self.maintenance),
            probes: config.admin_on_main.then(|| self.probes.clone()),
            spool: Spool {
                directory: config.temp_dir.clone(),
                min_rate: config.client_limits.min_body_rate,
                room: Arc::new(SpoolSpace::new(
                    limits.spool,
                    Arc::clone(&self.spooled_requests),
                )),
                files: files.clone(),
            },
            encoders: self.encoders.clone(),
            compress_types: config.compress_types.clone(),
            response_spool: Arc::new(ResponseSpool::new(
                config.temp_dir.clone(),
                files.clone(),
                config.response_spool,
                Arc::clone(&self.spooled_responses),
            )),
            files: files.clone(),
            access_log: Arc::clone(&self.access_log),
            server_header: config.server_header,
            keeps_alive: !config.keepalive_timeout.is_zero(),
            connections: Arc::clone(&self.connections),
            rate_limit: RateLimit::under(limits, counted),
            trust: config.trust.clone(),
            proxy_protocol: config.proxy_protocol.clone(),
            header_case: HeaderCase::default(),
            https,
            deadlines: deadlines(config),
        })
    }
}

/// The time limits for a client.
fn deadlines(config: &Config) -> Deadlines {
    Deadlines {
        header: config.header_timeout,
        keepalive: match config.keepalive_timeout {
            // Over HTTP/2, where no response announces the end.
            Duration::ZERO => Duration::from_secs(1),
            timeout => timeout,
        },
        send: Patience {
            grace: config.location_settings.body_timeout,
            rate: config.client_limits.min_body_rate,
        },
    }
}

/// The hosts that locations name, with their schemes.
fn hosts(config: &Config) -> Hosts {
    let files = config.static_locations.iter().map(|at| &at.scope);
    let scopes = files.chain(config.locations.iter().map(|at| &at.scope));
    Hosts::new(scopes)
}

/// The locations other than static files.
fn routes<'a>(config: &'a Config, pools: &[Pool], files: &FilePool) -> io::Result<Vec<Route>> {
    // Locations that pass requests to the servers of another one share their connections.
    let mut known: Vec<(&UpstreamSettings, Upstream)> = Vec::new();
    let route = |location: &'a Location| {
        let prefix = Prefix::in_scope(&location.prefix, &location.scope);
        let prefix = prefix.map_err(io::Error::other)?;
        let mount = match &location.mount {
            Some(mount) if *mount == location.prefix => Some(prefix.clone()),
            Some(mount) => Some(Prefix::new(mount).map_err(io::Error::other)?),
            None => None,
        };
        Ok(Route {
            prefix,
            scope: location.scope.clone(),
            rank: location.scope.rank(&location.prefix),
            handler: match &location.handler {
                locations::Handler::App(index) => {
                    let pool = pools.get(*index).ok_or(io::ErrorKind::NotFound)?;
                    Handler::App(pool.clone())
                }
                locations::Handler::Upstream(settings) => {
                    let mut before = known.iter();
                    let same = before.find(|(other, _)| *other == settings);
                    let upstream = match same {
                        Some((_, upstream)) => upstream.clone(),
                        None => Upstream::new(settings, files).map_err(io::Error::other)?,
                    };
                    known.push((settings, upstream.clone()));
                    Handler::Upstream(upstream)
                }
                locations::Handler::Redirect(redirect) => Handler::Redirect(redirect.clone()),
                locations::Handler::Respond(respond) => Handler::Respond(Fixed::new(respond)),
                locations::Handler::Counts => Handler::Counts,
            },
            mount,
            name: location.name.clone(),
            is_named_only: location.is_named_only,
            settings: location.settings,
            access: location.access,
            request_headers: location.request_headers.clone(),
            variables: location.variables.clone(),
            rules: static_files::response_rules(&location.rules, &config.every_location.types),
        })
    };
    config.locations.iter().map(route).collect()
}
