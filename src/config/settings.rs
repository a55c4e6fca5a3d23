//! The table of settings: every name, once, with its help and its default. A file below
//! `settings/` has the entries under one heading of the help, or a few.
//!
//! The command line is generated from it, the environment and `pyserve.toml` are checked
//! against it, and [`super::resolve`] gives each entry its meaning. One name has three
//! spellings: `--max-body`, `PYSERVE_MAX_BODY`, `max_body`. A setting that stands here and
//! is not read by the resolver is found by a test there.

mod access;
mod acme;
mod application;
mod limits;
mod listening;
mod operations;
mod responses;
mod static_files;
mod tls;
mod upstream;
mod workers;

/// Every setting, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    TABLE.iter().copied().flatten()
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name in `pyserve.toml`, `max_body`; the other spellings follow from it.
    pub name: &'static str,
    /// The placeholder of the value in the help, `BYTES`; empty for a plain switch.
    pub value_name: &'static str,
    /// Heading of the help under which it stands.
    pub heading: &'static str,
    /// The help text, one or two lines.
    pub help: &'static str,
    /// True if it may be given more than once.
    pub repeatable: bool,
    /// The default.
    pub default: Default,
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This text, read like a value of a source.
    Value(&'static str),
    /// Something found out at start; the text says what.
    Computed(&'static str),
    /// Nothing.
    None,
}

impl Setting {
    /// `max-body`, the name behind `--`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// `PYSERVE_MAX_BODY`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// True if it is a switch that needs no value on the command line.
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// True if it may stand in `pyserve.toml`: all but the path of that file itself.
    pub fn is_for_file(&self) -> bool {
        self.name != "config"
    }

    /// True if a value may have blanks and commas: several stand on lines of their own in a
    /// variable.
    pub fn is_a_line(&self) -> bool {
        matches!(self.name, "header" | "error_page" | "request_header")
    }

    /// True if quotes around a whole value may belong to it.
    pub fn may_have_quotes(&self) -> bool {
        self.name == "access_log_format"
    }

    /// A few words for the short help, `pyserve -h`; none for options that it omits.
    pub fn short_help(&self) -> Option<&'static str> {
        let (_, help) = COMMON.iter().find(|(name, _)| *name == self.name)?;
        Some(help)
    }

    /// True if few sites need it: the manual has it under "Advanced options".
    #[cfg(test)]
    pub fn is_advanced(&self) -> bool {
        ADVANCED.contains(&self.name)
    }

    /// The help with the default behind it.
    pub fn full_help(&self) -> String {
        match self.default {
            Default::Value(text) | Default::Computed(text) => {
                format!("{} [default: {text}]", self.help)
            }
            Default::None => self.help.to_owned(),
        }
    }
}

/// The setting of this name.
pub fn named(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Prefix of the environment variables.
pub const PREFIX: &str = "PYSERVE_";

/// The options of the short help, `-h`, with their help in a few words: one screen.
const COMMON: &[(&str, &str)] = &[
    ("app", "WSGI application; without it, one is searched for"),
    ("chdir", "Directory of the application"),
    ("upstream", "Forward to this server instead; repeatable"),
    ("python", "Interpreter of the application"),
    ("venv", "Virtual environment of the application"),
    ("bind", "Address to listen on; repeatable [127.0.0.1:8000]"),
    ("trust", "Proxies that may set X-Forwarded-* headers"),
    ("uid", "User to run as once the addresses are bound"),
    ("static", "Serve the files of DIR below PREFIX; repeatable"),
    ("workers", "Worker processes, or a range"),
    ("threads", "Threads in each worker [1]"),
    ("max_requests", "Replace a worker after so many requests"),
    ("before_start", "Shell command to run before the start"),
    ("request_timeout", "Time of a request in a worker [60]"),
    ("max_body", "Longest request body [100M]"),
    ("access_log", "Format of the access log"),
    ("log_level", "off, error, warn, info, debug, trace [info]"),
    ("admin", "Address for probes, metrics and status"),
    ("config", "File with settings [./pyserve.toml]"),
    ("dev", "For development: tracebacks, reload on save"),
];

/// Options that few sites need.
#[cfg(test)]
const ADVANCED: &[&str] = &[
    "admin_on_main",
    "balance",
    "basic_auth_realm",
    "compress_min",
    "compress_private",
    "compress_types",
    "front_threads",
    "image",
    "max_response_spool",
    "memory_budget",
    "min_body_rate",
    "prestart",
    "rate_burst",
    "response_spool_total",
    "satisfy",
    "server_header",
    "startup_log",
    "static_cache",
    "static_check",
    "static_hidden",
    "static_index",
    "static_links",
    "static_listing",
    "tls_client_auth",
    "tls_client_crl",
    "tls_client_pem",
    "tls_min",
    "upstream_cert",
    "upstream_connect_timeout",
    "upstream_host",
    "upstream_key",
    "upstream_redirects",
    "upstream_send_timeout",
    "upstream_tls_name",
    "uwsgi_cache",
    "uwsgi_insecure",
    "uwsgi_modifier1",
    "uwsgi_modifier2",
    "uwsgi_param",
];

/// The table, by the headings of the help.
static TABLE: &[&[Setting]] = &[
    application::APPLICATION,
    upstream::UPSTREAM,
    application::PYTHON,
    listening::LISTENING,
    tls::TLS,
    acme::ACME,
    static_files::STATIC_FILES,
    responses::RESPONSES,
    workers::WORKERS,
    limits::LIMITS,
    access::ACCESS,
    operations::LOGGING,
    operations::WATCHING,
    operations::OTHER,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn twenty_options_are_common_and_none_of_them_is_advanced() {
        assert_eq!(COMMON.len(), 20);
        let common = COMMON.iter().map(|(name, _)| name);
        for name in common.chain(ADVANCED) {
            assert!(named(name).is_some(), "{name}");
        }
        assert!(!all().any(|setting| setting.short_help().is_some() && setting.is_advanced()));
    }

    #[test]
    fn names_are_unique_and_spell_in_all_three_ways() {
        let mut seen = BTreeSet::new();
        for setting in all() {
            assert!(
                seen.insert(setting.name),
                "{} stands there twice",
                setting.name
            );
            assert!(
                setting
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{} does not spell as a flag and a variable",
                setting.name
            );
            assert!(!setting.help.ends_with('.'), "{}", setting.name);
        }
        let max_body = named("max_body").unwrap();
        assert_eq!(max_body.flag(), "max-body");
        assert_eq!(max_body.variable(), "PYSERVE_MAX_BODY");
    }
}
