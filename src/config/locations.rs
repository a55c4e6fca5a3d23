//! Locations: the `[[location]]` tables of `pyserve.toml`, resolved.
//!
//! A location is a prefix and one handler for the paths below it. This file lists the settings that
//! a table may have; [`super::resolve`] reads them. A setting that exists both for one location and
//! for all has the same name in both places, and the table takes precedence.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::Compression;
use super::settings::{self, Default, Setting};
use super::upstream::UpstreamSettings;

/// A location that is not served from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// `/old`, decoded and without a slash behind; `/` for everything.
    pub prefix: String,
    /// The handler.
    pub handler: Handler,
    /// True if the handler gets the prefix in `SCRIPT_NAME` and not in the path.
    pub strip_prefix: bool,
    /// Settings for its requests.
    pub settings: LocationSettings,
    /// Who may use it: an index of [`super::Config::access`].
    pub access: usize,
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
}

/// Sends clients elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A path that begins with one slash, or a URL with scheme and host; in ASCII.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// True if the rest of the path, and the query, are appended.
    pub keep_path: bool,
}

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
}

impl fmt::Display for Location {
    /// One line for people, `/old -> redirect 302 /new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.prefix)?;
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
        }
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
        EVERY.contains(&name)
            || KINDS
                .iter()
                .any(|(kind, settings)| *kind == name || settings.contains(&name))
    };
    let shared =
        settings::all().filter(move |setting| is_shared(setting.name) && !is_own(setting.name));
    OWN.iter().chain(shared)
}

/// Settings of every location that also exist for all.
const EVERY: &[&str] = &["access", "basic_auth", "basic_auth_realm", "satisfy"];

/// The handlers, each with the settings that only exist for it. Settings that also exist for all
/// locations have the same meaning here.
pub const KINDS: [(&str, &[&str]); 5] = [
    (
        "app",
        &[
            "strip_prefix",
            "env",
            "chdir",
            "python",
            "venv",
            "pythonpath",
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
            "request_timeout",
            "django_static",
            "django_media",
            "max_body",
            "body_timeout",
            "buffering",
            "request_buffering",
            "compress",
            "compress_min",
            "compress_private",
        ],
    ),
    (
        "upstream",
        &[
            "strip_prefix",
            "max_body",
            "body_timeout",
            "buffering",
            "request_buffering",
            "compress",
            "compress_min",
            "compress_private",
            "uwsgi_param",
            "uwsgi_modifier1",
            "uwsgi_modifier2",
            "upstream_connect_timeout",
            "upstream_send_timeout",
            "upstream_read_timeout",
            "balance",
        ],
    ),
    (
        "static",
        &[
            "missing",
            "max_age",
            "immutable",
            "precompressed",
            "types",
            "listing",
        ],
    ),
    ("redirect", &["status", "keep_path"]),
    ("respond", &["status", "content_type"]),
];

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

/// Settings that only a location has.
static OWN: &[Setting] = &[
    setting(
        "prefix",
        "PATH",
        "Paths that belong to it, as they read after decoding: `/api` and all below",
        Default::Value("/"),
    ),
    setting("static", "DIR", "Answers with files", Default::None),
    setting("redirect", "PATH|URL", "Sends clients there", Default::None),
    setting("respond", "TEXT", "Answers with a text", Default::None),
    setting(
        "strip_prefix",
        "yes|no",
        "With `app`, and `upstream` of uwsgi: the prefix stands in SCRIPT_NAME, not in PATH_INFO",
        Default::Computed("yes for `app`, no for `upstream`"),
    ),
    setting(
        "env",
        "{NAME = VALUE}",
        "With `app`: environment variables of its processes",
        Default::None,
    ),
    setting(
        "missing",
        "404|app|FILE",
        "With `static`: what answers where there is no file; `app` is what answers without this location",
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
        Default::Computed("manifest"),
    ),
    setting(
        "precompressed",
        "yes|no",
        "With `static`: send .br, .zst and .gz files beside a file in its place",
        Default::Computed("no"),
    ),
    setting(
        "listing",
        "yes|no",
        "With `static`: list directories without an index",
        Default::Computed("no"),
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
