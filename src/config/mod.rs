//! Settings: from flags, environment and `pyserve.toml` to one final [`Config`].
//!
//! 1. Each source becomes a [`layers::Layer`]: the flags in `cli`, the environment in
//!    [`environment`], the file in [`mod@file`]. All know only the table in [`settings`].
//!    Files of other servers become one below these three, in [`foreign`]. `loading` reads them all.
//! 2. [`resolve`] asks the layers in order of precedence, gives each value its meaning, and alone
//!    knows the defaults.
//!
//! The result is checked once and final: no code behind this point reads a setting again. Nothing
//! here opens sockets or starts processes.

pub mod access;
pub mod acme;
pub mod address;
pub mod adopted;
pub mod app;
pub mod companions;
pub mod compression;
pub mod control_target;
pub mod discovery;
pub mod environment;
pub mod error;
pub mod file;
pub mod foreign;
mod host_facts;
mod hosts;
pub mod htpasswd;
pub mod interpreter;
pub mod layers;
mod loading;
pub mod locations;
mod methods;
mod module_names;
pub mod native;
pub mod reach;
pub mod release;
pub mod request_headers;
pub mod resolve;
mod response_rules;
pub mod schedule;
mod segments;
pub mod settings;
pub mod sizing;
mod static_locations;
pub mod suggest;
pub mod tls;
pub mod trust;
pub mod upstream;
pub mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::control::Preload;

pub use address::ListenAddress;
pub use adopted::CommandLine;
pub use app::{AppRef, AppTarget};
pub use compression::{CompressTypes, Compression};
pub use control_target::{Control, ControlTarget};
pub use environment::Environment;
pub use error::ConfigError;
pub use host_facts::{HostFacts, enter_current_directory};
pub use hosts::{
    Extent, HostPattern, LONGEST_EXTENSION, LONGEST_NAME, Rank, Scheme, Scope, UnknownHost,
    extension_name,
};
pub use interpreter::Interpreter;
pub use loading::{is_image, load, load_reach, prestart, process_type, procfile};
pub use locations::{Location, LocationSettings};
pub use methods::{Methods, method_name};
pub use release::Release;
pub use response_rules::{ErrorPage, HeaderChange, HeaderRule, PageFile, ResponseRules};
pub use segments::{Segments, segment_beginning};
pub use static_locations::{
    EveryLocation, FileTypes, Immutable, Listing, MAX_RANGES, Missing, StaticLocation,
    StaticSettings,
};
pub use trust::{ForwardedFact, Trust};
pub use upstream::UpstreamSettings;
pub use values::Rate;

pub use crate::observe::access_log::Format as AccessLog;
pub use crate::observe::access_log::filter::{AccessLogFilter, AccessLogLines};
pub use crate::observe::access_log::pattern::Pattern;
pub use crate::observe::log_files::LogFiles;
pub use crate::observe::logs::LogFormat;

/// All settings, checked and final.
#[derive(Debug, Clone)]
pub struct Config {
    /// The applications, numbered as [`locations::Handler::App`] names them; none for a server
    /// of static files alone.
    pub apps: Vec<AppSettings>,
    /// Processes beside the applications.
    pub companions: Vec<companions::Companion>,
    /// Environment variables of applications, companions and `before_start`.
    pub env: Vec<(String, String)>,
    /// A line for the shell that runs before anything else; `None` for nothing.
    pub before_start: Option<companions::Program>,
    /// The base of relative paths by the name that the settings have for it; absolute. A link in it may lead
    /// elsewhere by now.
    pub chdir: PathBuf,
    /// Targets of the links on the way to the applications when these settings were read. The paths of code and
    /// of files to serve are free of links.
    pub release: Release,
    /// The current directory of the server, free of those links; absolute.
    pub current_dir: PathBuf,
    /// Directories with source of the applications, by the names that the settings have for them; absolute.
    pub source_dirs: Vec<PathBuf>,
    /// The physical path of each static and internal location, in this order.
    pub physical_dirs: Vec<PathBuf>,
    /// Addresses to listen on; at least one.
    pub bind: Vec<ListenAddress>,
    /// TLS on the addresses, and what belongs to it.
    pub https: tls::HttpsSettings,
    /// Locations served from disk, each prefix once.
    pub static_locations: Vec<StaticLocation>,
    /// Locations from which only the application can have files sent, each prefix once.
    pub internal_locations: Vec<StaticLocation>,
    /// Settings for every static location.
    pub every_location: EveryLocation,
    /// Settings for all static locations.
    pub static_files: StaticSettings,
    /// The user to run as once the addresses are bound; `None`: the user who starts the server.
    pub run_as: Option<RunAs>,
    /// Permissions and owner of the files of Unix sockets.
    pub socket_files: SocketFiles,
    /// Longest time for requests in flight at a graceful stop; zero stops at once.
    pub graceful_timeout: Duration,
    /// Time during which connections are accepted after a stop was requested.
    pub drain_delay: Duration,
    /// Longest time for the new process of an upgrade to get ready.
    pub upgrade_timeout: Duration,
    /// The file to which the outcome of the start is appended; absolute.
    pub startup_log: Option<PathBuf>,
    /// Locations that are not files, each prefix once; `--app` is the one at `/`.
    pub locations: Vec<Location>,
    /// Settings of locations that do not override them.
    pub location_settings: LocationSettings,
    /// Access to locations: without settings of their own at 0, then by [`Location::access`].
    pub access: Vec<access::AccessSettings>,
    /// The response to a request for a host that no location covers.
    pub unknown_host: UnknownHost,
    /// Rules for responses of locations that do not override them, and outside of locations.
    pub response_rules: Arc<ResponseRules>,
    /// Types of responses that are compressed.
    pub compress_types: CompressTypes,
    /// Limits for responses that wait on disk.
    pub response_spool: SpoolLimits,
    /// Longest time for a client to send its request headers.
    pub header_timeout: Duration,
    /// Time that an idle connection stays open.
    pub keepalive_timeout: Duration,
    /// Limits for clients.
    pub client_limits: ClientLimits,
    /// Peers whose forwarding headers are believed.
    pub trust: Trust,
    /// Peers that say in the PROXY protocol whose connection they hand on.
    pub proxy_protocol: Trust,
    /// Format of the access log.
    pub access_log: AccessLog,
    /// Requests that have a line in it, and its pattern.
    pub access_log_lines: AccessLogLines,
    /// The files of both logs.
    pub log_files: LogFiles,
    /// Permissions that new files do not get; `None`: as the process that starts the server has it.
    pub umask: Option<u32>,
    /// The file with the process id; absolute.
    pub pidfile: Option<PathBuf>,
    /// The FIFO with commands of one character; absolute.
    pub control_fifo: Option<PathBuf>,
    /// True if the variables and files of other images are read.
    pub is_image: bool,
    /// Format of all other log lines.
    pub log_format: LogFormat,
    /// A level or a filter of the `tracing` crates; it was parsed once and is right.
    pub log_level: String,
    /// True if responses carry `Server: pyserve`.
    pub server_header: bool,
    /// True if tracebacks may be shown to clients.
    pub dev: bool,
    /// Directory for large request bodies and for long responses; absolute.
    pub temp_dir: PathBuf,
    /// Address of the admin listener: probes, metrics and status.
    pub admin: Option<ListenAddress>,
    /// True if probes are also answered on the main listeners.
    pub admin_on_main: bool,
    /// Path of the control socket.
    pub control: Control,
    /// Threads of the HTTP front, at least one.
    pub front_threads: usize,
    /// The settings file that was read; absolute.
    pub settings_file: Option<PathBuf>,
    /// When the server reloads by itself, and what a reload does.
    pub reloads: ReloadSettings,
    /// Warnings to be logged before the server starts.
    pub warnings: Vec<String>,
}

/// Reasons for a reload, and its effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Files whose change is a reason; absolute.
    pub touch: Vec<PathBuf>,
    /// The same, whatever `ends` says; absolute.
    pub touch_workers: Vec<PathBuf>,
    /// True if a saved source file is a reason.
    pub autoreload: bool,
    /// True if the server ends where a reload is asked for.
    pub ends: bool,
}

/// A user to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The user's name, if it has one.
    pub name: Option<String>,
    /// The user's home directory.
    pub home: PathBuf,
}

/// Permissions and owner of the files of Unix sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketFiles {
    /// Permissions; `None`: as the umask leaves them.
    pub mode: Option<u32>,
    /// User and group that own them, each if it is given.
    pub owner: Option<(Option<u32>, Option<u32>)>,
}

impl Config {
    /// The location in which application number `index` answers.
    pub fn location_of(&self, index: usize) -> Option<&Location> {
        let is_its = |location: &&Location| location.handler == locations::Handler::App(index);
        self.locations.iter().find(is_its)
    }

    /// That location for people, mostly its prefix; no two applications have the same.
    pub fn place_of(&self, index: usize) -> String {
        self.location_of(index)
            .map_or_else(|| "/".to_owned(), Location::place)
    }

    /// Every location for people, but those of files that are there by themselves: the
    /// longest prefix first, as they are asked.
    pub fn location_lines(&self) -> Vec<String> {
        let files = self.static_locations.iter();
        let files = files.filter(|location| !location.predefined);
        let mut lines: Vec<_> = files
            .map(|location| {
                let missing = match &location.missing {
                    Missing::Refuse => String::new(),
                    Missing::App => ", else what answers without it".to_owned(),
                    Missing::Named(name) => format!(", else @{name}"),
                    Missing::Page(page) => format!(", else {page}"),
                };
                let (place, dir) = (location.place(), location.dir.display());
                let line = match &location.file {
                    Some(name) => format!("{place} -> file {dir}/{name}"),
                    None => format!("{place} -> files in {dir}{missing}"),
                };
                let line = format!("{line}{}", self.access[location.access]);
                (location.scope.rank(&location.prefix), line)
            })
            .chain(self.locations.iter().map(|location| {
                (
                    location.scope.rank(&location.prefix),
                    self.line_of(location),
                )
            }))
            .collect();
        lines.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// A location for people, `/old -> redirect 302 to /new`.
    pub fn line_of(&self, location: &Location) -> String {
        let access = &self.access[location.access];
        match location.handler {
            locations::Handler::App(index) => {
                let app = self
                    .apps
                    .get(index)
                    .map(|settings| settings.app.to_string());
                format!(
                    "{} -> app {}{access}",
                    location.place(),
                    app.unwrap_or_default()
                )
            }
            _ => format!("{location}{access}"),
        }
    }
}

/// Settings of one application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSettings {
    /// The application.
    pub app: AppRef,
    /// The interpreter that runs it.
    pub interpreter: Interpreter,
    /// The value of `SCRIPT_NAME` in its requests; mostly empty.
    pub mount: String,
    /// Environment variables of its own, besides those of pyserve.
    pub env: Vec<(String, String)>,
    /// Its directory; absolute.
    pub chdir: PathBuf,
    /// The directory in which its interpreter starts; absolute.
    pub start_dir: PathBuf,
    /// Further directories for `sys.path`; absolute.
    pub pythonpath: Vec<PathBuf>,
    /// Modules, and files of modules, that are imported before it.
    pub imports: Vec<String>,
    /// Its `sys.argv`; empty: its module or file alone.
    pub argv: Vec<PathBuf>,
    /// True if a Django project's collected files are served.
    pub django_static: bool,
    /// True if a Django project's uploaded files are served.
    pub django_media: bool,
    /// Number of worker processes.
    pub workers: Workers,
    /// When one of them is replaced.
    pub recycle: Recycle,
    /// After how many requests of one worker that becomes the template.
    pub refork: Option<u64>,
    /// Threads in each worker, at least one.
    pub threads: u32,
    /// True if the application is imported before the workers are forked.
    pub preload: Preload,
    /// Requests that may wait for a worker, at least one.
    pub queue_limit: usize,
    /// Longest time that a request may wait for a worker.
    pub queue_timeout: Duration,
    /// True if short requests overtake long ones in the queue.
    pub short_first: bool,
    /// Longest time that a request may keep a worker thread; `None`: as long as it likes.
    pub request_timeout: Option<Duration>,
    /// Address space of each of its processes in bytes; `None` for no limit.
    pub limit_as: Option<u64>,
    /// The module `uwsgi` of its processes; `None`: they have none.
    pub uwsgi_module: Option<UwsgiModule>,
    /// The file of gunicorn whose hooks the workers run, or `python:MODULE`.
    pub gunicorn_hooks: Option<PathBuf>,
    /// True if tracebacks may be shown to clients.
    pub dev: bool,
    /// Directory for the host extension if memory files are forbidden; absolute.
    pub temp_dir: PathBuf,
}

/// The module `uwsgi` of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UwsgiModule {
    /// Bytes of all its caches, of all applications together.
    pub cache: u64,
    /// The options that uWSGI was given, `None` for a flag without a value.
    pub options: Vec<(String, Option<Vec<u8>>)>,
}

impl AppSettings {
    /// The application as the settings name it, below its directory.
    pub fn name(&self) -> String {
        let name = self.app.to_string();
        let chdir = format!("{}/", self.chdir.display());
        name.strip_prefix(&chdir)
            .map_or(name.clone(), str::to_owned)
    }

    /// The same for the titles of its processes, which also show where it is mounted.
    pub fn title(&self) -> String {
        match &*self.mount {
            "" => self.name(),
            mount => format!("{} at {mount}", self.name()),
        }
    }
}

/// Limits for responses that wait on disk for their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of each.
    pub each: u64,
    /// Bytes of all together.
    pub total: u64,
}

/// Limits for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at a time, at least one; `None` for the usual number.
    pub connections: Option<u32>,
    /// Connections at a time from one address.
    pub connections_per_ip: Option<u32>,
    /// Requests from one address.
    pub rate: Option<Rate>,
    /// Requests from one address that may come at once, at least one.
    pub burst: u32,
    /// Bytes in a second that a client must send of a body and take of a response, in the
    /// long run; 0 for any.
    pub min_body_rate: u64,
    /// Bytes that all request bodies may take on disk; `u64::MAX` for no limit.
    pub spool: u64,
    /// Bytes of memory for everything that clients make the front hold.
    pub memory: usize,
}

/// Conditions for recycling a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// After so many requests.
    pub requests: Option<u64>,
    /// After so long.
    pub lifetime: Option<Duration>,
    /// When it takes so many bytes of memory.
    pub memory: Option<u64>,
}

/// Number of worker processes, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// Their number, at least one.
    pub count: u32,
    /// Largest number where it follows the demand.
    pub most: u32,
    /// True if both follow from the machine: workers are added only as copies of the template, and
    /// only while CPUs are idle.
    pub is_auto: bool,
    /// The arithmetic or the origin, in one line.
    pub reason: String,
}

/// A [`Config`], with what is known about where it comes from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The settings.
    pub config: Config,
    /// Each setting in the order of the help: name, value for people, origin.
    pub origins: Vec<(&'static str, String, String)>,
    /// Variables and files of an image that have a meaning, to be logged before the server starts.
    pub notices: Vec<String>,
}
