//! Locations: the `[[location]]` tables of `pyserve.toml`, resolved.
//!
//! A location is a prefix and one handler for the paths below it. This file lists the settings that
//! a table may have; [`super::resolve`] reads them. A setting that exists both for one location and
//! for all has the same name in both places, and the table takes precedence.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::error::{Invalid, invalid};
use super::request_headers::RequestHeaderRule;
use super::settings::{self, Default, Setting};
use super::upstream::UpstreamSettings;
use super::{Compression, ResponseRules, Scope};

/// A location that is not served from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// `/old`, decoded and without a slash behind; `/` for everything. An exact path keeps its slash.
    pub prefix: String,
    /// Its hosts, and what the path stands for.
    pub scope: Scope,
    /// The handler.
    pub handler: Handler,
    /// The prefix that the handler gets apart from the path (in `SCRIPT_NAME`, or replaced by
    /// another); `None` for none. That of another location where it passes requests to that one.
    pub mount: Option<String>,
    /// The name by which other locations refer to it.
    pub name: Option<String>,
    /// True if requests reach it by its name alone (nginx: `location @name`).
    pub is_named_only: bool,
    /// Settings for its requests.
    pub settings: LocationSettings,
    /// Its access: an index of [`super::Config::access`].
    pub access: usize,
    /// Changes of header fields of its requests.
    pub request_headers: Vec<RequestHeaderRule>,
    /// Variables that its application finds in the environ besides those of every request.
    pub variables: Vec<(String, OsString)>,
    /// Rules for its responses.
    pub rules: Arc<ResponseRules>,
}

/// The handler of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// The application of this number.
    App(usize),
    /// Servers behind pyserve.
    Upstream(UpstreamSettings),
    /// Sends clients elsewhere.
    Redirect(Redirect),
    /// Says a text.
    Respond(Respond),
    /// Says the counts of connections and requests.
    Counts,
}

/// Sends clients elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A path that begins with one slash, or a URL with scheme and host; in ASCII. [`HOST`] stands for
    /// the host of the request.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// True if the rest of the path, and the query, are appended.
    pub keep_path: bool,
}

/// Stands for the host of a request, without its port, in the target of a redirect (nginx: `$host`).
pub const HOST: &str = "{host}";

/// Says a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// The text.
    pub text: String,
    /// From 200 to 599.
    pub status: StatusCode,
    /// The `Content-Type`, visible ASCII.
    pub content_type: String,
}

/// Settings for the requests of one location; those that it does not set come from the settings for
/// all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocationSettings {
    /// Longest request body in bytes; `u64::MAX` for no limit.
    pub max_body: u64,
    /// True if responses are read from the upstream faster than their clients take them (nginx:
    /// `proxy_buffering`).
    pub buffering: bool,
    /// True if the whole request body is read before the upstream gets the request (nginx:
    /// `proxy_request_buffering`).
    pub request_buffering: bool,
    /// Compression of responses.
    pub compression: Compression,
    /// Longest pause between two reads of a request body.
    pub body_timeout: Duration,
    /// True if the application or server gets the normal form of the path (nginx: `$document_uri`).
    pub normal_path: bool,
}

impl Location {
    /// The location for people, mostly its prefix.
    pub fn place(&self) -> String {
        match &self.name {
            Some(name) if self.is_named_only => format!("@{name}"),
            _ => self.scope.place(&self.prefix),
        }
    }
}

impl fmt::Display for Location {
    /// One line for people, `/old -> redirect 302 /new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.place())?;
        match &self.handler {
            Handler::App(index) => write!(f, "app number {index}"),
            Handler::Upstream(upstream) => write!(f, "{upstream}"),
            Handler::Redirect(Redirect {
                to,
                status,
                keep_path,
            }) => {
                let behind = if *keep_path {
                    " and the rest of the path"
                } else {
                    ""
                };
                write!(f, "redirect {} to {to}{behind}", status.as_u16())
            }
            Handler::Respond(Respond { text, status, .. }) => {
                write!(f, "respond {} {text:?}", status.as_u16())
            }
            Handler::Counts => f.write_str("counts of connections and requests"),
        }
    }
}

/// Name of the location of `--app`, `--upstream` or `--uwsgi`.
pub const WHOLE_SITE: &str = "app";

/// Reads `@NAME`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn reference(text: &str) -> Result<String, Invalid> {
    match text.strip_prefix('@') {
        Some(name) => location_name(name),
        None => Err(invalid(
            "no `@` before the name of a location",
            "give one as in `@app`",
        )),
    }
}

/// Reads the name of a location.
///
/// # Errors
/// [`Invalid`] for anything but letters, digits and `-_.`.
pub fn location_name(text: &str) -> Result<String, Invalid> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(invalid(
            "not the name of a location",
            "give letters, digits, `-`, `_` and `.`, as in `old-media`",
        )),
    }
}

/// The setting of a location of this name.
pub fn named(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Every setting of a location.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    let is_own = |name: &str| OWN.iter().any(|own| own.name == name);
    let is_shared = |name: &str| {
        OF_EVERY_KIND.contains(&name)
            || KINDS.iter().any(|(kind, _)| *kind == name)
            || owners(name).next().is_some()
    };
    let shared =
        settings::all().filter(move |setting| is_shared(setting.name) && !is_own(setting.name));
    OWN.iter().chain(shared)
}

/// Settings of every location that also exist for all locations.
const OF_EVERY_KIND: [&str; 7] = [
    "header",
    "charset",
    "error_page",
    "access",
    "basic_auth",
    "basic_auth_realm",
    "satisfy",
];

/// The handlers, each with the settings that only exist for some of them. Settings that also exist
/// for all locations have the same meaning here.
pub const KINDS: [(&str, &[&[&str]]); 8] = [
    (
        "app",
        &[
            &[
                "strip_prefix",
                "uwsgi_param",
                "env",
                "chdir",
                "python",
                "venv",
                "pythonpath",
                "import",
                "argv",
                "workers",
                "max_workers",
                "threads",
                "max_requests",
                "max_worker_lifetime",
                "max_worker_memory",
                "refork",
                "preload",
                "queue_limit",
                "queue_timeout",
                "short_first",
                "request_timeout",
                "django_static",
                "django_media",
            ],
            BODIES,
        ],
    ),
    (
        "upstream",
        &[
            &[
                "strip_prefix",
                "replace_prefix",
                "upstream_host",
                "upstream_redirects",
                "upstream_cookie_paths",
                "upstream_ca",
                "upstream_tls_name",
                "upstream_cert",
                "upstream_key",
                "uwsgi_param",
                "uwsgi_modifier1",
                "uwsgi_modifier2",
                "upstream_connect_timeout",
                "upstream_send_timeout",
                "upstream_read_timeout",
                "balance",
            ],
            BODIES,
        ],
    ),
    ("pass", &[&["uwsgi_param"], BODIES]),
    ("static", &[&["missing", "index", "html", "listing"], FILES]),
    ("file", &[FILES]),
    ("redirect", &[&["status", "keep_path"]]),
    ("respond", &[&["status", "content_type"]]),
    ("stub_status", &[]),
];

/// Settings for requests and responses that pass through.
const BODIES: &[&str] = &[
    "normal_path",
    "request_header",
    "max_body",
    "body_timeout",
    "buffering",
    "request_buffering",
    "compress",
    "compress_min",
    "compress_private",
    "intercept_errors",
];

/// Settings for files.
const FILES: &[&str] = &[
    "max_age",
    "immutable",
    "precompressed",
    "types",
    "compress",
    "max_ranges",
];

/// The handlers to which a setting belongs; none if it belongs to all of them.
pub fn owners(name: &str) -> impl Iterator<Item = &'static str> {
    let of_kind = move |(kind, settings): (&'static str, &[&[&str]])| {
        let is_own = settings.iter().any(|list| list.contains(&name));
        is_own.then_some(kind)
    };
    KINDS.into_iter().filter_map(of_kind)
}

const fn setting(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    default: Default,
) -> Setting {
    Setting {
        name,
        value_name,
        heading: "Location",
        help,
        repeatable: false,
        default,
    }
}

const fn several(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    default: Default,
) -> Setting {
    Setting {
        repeatable: true,
        ..setting(name, value_name, help, default)
    }
}

/// Settings that only a location has.
static OWN: &[Setting] = &[
    setting(
        "prefix",
        "PATH",
        "Paths that belong to it, as they read after decoding: `/api` and all below",
        Default::Value("/"),
    ),
    setting(
        "path",
        "PATH",
        "In place of `prefix`: this path alone, as it reads after decoding",
        Default::None,
    ),
    setting(
        "starts_with",
        "PATH",
        "In place of `prefix`: every path that begins with these characters, `/secret.bak` and `/secrets` too for `/secret`; a `prefix` of the same path precedes it",
        Default::None,
    ),
    setting(
        "scheme",
        "http|https",
        "Only requests over this scheme; behind a trusted proxy, the one that the proxy names",
        Default::Computed("both"),
    ),
    setting(
        "ignore_case",
        "yes|no",
        "Compare `prefix`, `path` or `starts_with` without regard to the case of ASCII letters",
        Default::Value("no"),
    ),
    several(
        "host",
        "HOST",
        "Hosts that it is for: `example.org`, all below `*.example.org`, or `*` for those that no other location names",
        Default::Computed("every host"),
    ),
    several(
        "extension",
        "EXT",
        "Only paths whose last segment has one of these extensions, in any case, as in `css`; such a location precedes one of the same prefix without",
        Default::Computed("every path"),
    ),
    several(
        "segment",
        "TEXT",
        "Only paths with a segment that begins so, in any case, as in `.git`; with `!` an exception, as in `.` and `!.well-known`; such a location precedes one of the same prefix without",
        Default::Computed("every path"),
    ),
    several(
        "method",
        "METHOD",
        "Only requests with one of these methods, as in `OPTIONS`, or with any other, as in `!GET`; such a location precedes one of the same prefix without",
        Default::Computed("every method"),
    ),
    setting(
        "name",
        "NAME",
        "A name for `pass` and `missing`; without prefix, path, scheme, host and method, no request reaches it otherwise",
        Default::None,
    ),
    setting(
        "pass",
        "@NAME",
        "Answers with the application or the servers of the location of this name; `@app` is the application of --app",
        Default::None,
    ),
    setting("static", "DIR", "Answers with files", Default::None),
    setting(
        "file",
        "FILE",
        "With `path`: answers with this file",
        Default::None,
    ),
    setting("redirect", "PATH|URL", "Sends clients there", Default::None),
    setting("respond", "TEXT", "Answers with a text", Default::None),
    setting(
        "stub_status",
        "yes",
        "Answers with the counts of connections and requests, as nginx's `stub_status`",
        Default::None,
    ),
    setting(
        "header_inherit",
        "yes|no",
        "Also apply the `header` rules for all locations, before its own",
        Default::Value("yes"),
    ),
    setting(
        "strip_prefix",
        "yes|no",
        "With `app`, and `upstream` of uwsgi: the prefix stands in SCRIPT_NAME, not in PATH_INFO; with `upstream` of HTTP: the prefix is removed from the path",
        Default::Computed("yes for `app`, no for `upstream`"),
    ),
    setting(
        "replace_prefix",
        "PATH",
        "With `upstream` of HTTP: the path, percent-encoded, that the server gets in place of the prefix",
        Default::None,
    ),
    setting(
        "upstream_cookie_paths",
        "yes|no",
        "With `replace_prefix` or `strip_prefix`: also replace the paths of the server's cookies, back to the prefix",
        Default::Value("no"),
    ),
    setting(
        "env",
        "{NAME = VALUE}",
        "With `app`: environment variables of its processes",
        Default::None,
    ),
    setting(
        "missing",
        "404|app|@NAME|FILE",
        "With `static`: what answers where there is no file; `app` is what answers without this location, `@NAME` the location of this name",
        Default::Value("404"),
    ),
    setting(
        "max_age",
        "TIME",
        "With `static`: how long clients may use a file without asking",
        Default::Computed("60, and 0 for HTML"),
    ),
    setting(
        "immutable",
        "auto|manifest|no",
        "With `static`: which files clients may keep for a year",
        Default::Computed("no"),
    ),
    setting(
        "precompressed",
        "yes|no",
        "With `static`: send .br, .zst and .gz files beside a file in its place",
        Default::Computed("no"),
    ),
    setting(
        "index",
        "yes|no",
        "With `static`: answer for a directory with its index.html; no is nginx's `try_files $uri`",
        Default::Value("yes"),
    ),
    several(
        "request_header",
        "[set|add|remove] NAME: VALUE",
        "Header field of requests that its application or server gets, as by nginx's `proxy_set_header`; {client} in a value is the client's address, and so on",
        Default::None,
    ),
    setting(
        "html",
        "yes|no",
        "With `static`: page.html answers for `/page`, as by nginx's `try_files $uri $uri.html`",
        Default::Computed("no"),
    ),
    setting(
        "listing",
        "yes|no|json",
        "With `static`: list directories without an index, as HTML or as clients ask, or always as JSON",
        Default::Computed("no"),
    ),
    setting(
        "max_ranges",
        "N",
        "With `static` and `file`: most ranges in a request, one that asks for more gets the whole file; 0: no ranges (nginx: `max_ranges`)",
        Default::Value("32"),
    ),
    setting(
        "status",
        "CODE",
        "With `redirect` and `respond`: the status",
        Default::Computed("302; 200"),
    ),
    setting(
        "keep_path",
        "yes|no",
        "With `redirect`: put the path behind the prefix, and the query, behind it",
        Default::Computed("yes, unless it has a query or fragment of its own"),
    ),
    setting(
        "content_type",
        "TYPE",
        "With `respond`: the Content-Type",
        Default::Value("text/plain; charset=utf-8"),
    ),
];
