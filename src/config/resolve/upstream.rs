//! Servers behind pyserve that answer instead of an application of its own.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;

use super::tables::{Given, make_room, spelled};
use super::tls::file;
use super::{Resolver, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingOrigin;
use crate::config::upstream::{
    BalanceBy, HttpSettings, OwnCertificate, Protocol, Replacement, ServerAddress, UpstreamHost,
    UpstreamSettings, UpstreamTimeouts, UpstreamTls, UwsgiSettings, upstream_host, uwsgi_param,
};
use crate::config::{Extent, values};

/// Settings shared by all upstreams.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// True if uwsgi may leave this machine.
    insecure: bool,
    uwsgi: UwsgiSettings,
    http: HttpSettings,
    timeouts: UpstreamTimeouts,
    balance: BalanceBy,
    tls: TlsToServers,
}

/// The settings of TLS, for servers that have it.
#[derive(Debug, Clone, Default)]
struct TlsToServers {
    /// `None`: the authorities of the system.
    ca: Option<PathBuf>,
    /// The name of all servers; `None`: the host of each address.
    name: Option<ServerName<'static>>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// The kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uwsgi,
    Http,
    Https,
}

impl Kind {
    fn of(text: &str) -> Self {
        match text {
            text if text.starts_with("uwsgi:") || text.starts_with("uwsgi+") => Self::Uwsgi,
            text if text.starts_with("https:") => Self::Https,
            _ => Self::Http,
        }
    }
}

impl Servers {
    /// The servers with these addresses, each `http://…`, `https://…`, `http+unix:…`, `uwsgi://…`
    /// or `uwsgi+unix:…`, all of one kind; in `uwsgi` alone, also without a scheme.
    ///
    /// # Errors
    /// The text that cannot be used, and why.
    pub(super) fn at<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str>,
        uwsgi: bool,
        chdir: &Path,
    ) -> Result<UpstreamSettings, (&'a str, Invalid)> {
        let mut servers: Vec<ServerAddress> = Vec::new();
        let mut first = None;
        let mut names = Vec::new();
        for text in texts {
            let kind = if uwsgi { Kind::Uwsgi } else { Kind::of(text) };
            let read = match kind {
                _ if *first.get_or_insert(kind) != kind => Err(invalid(
                    "servers of different protocols side by side (http, https, uwsgi)",
                    "give servers of one kind",
                )),
                Kind::Uwsgi => self.uwsgi(text, chdir),
                Kind::Http => ServerAddress::http(text, chdir),
                Kind::Https => ServerAddress::http(text, chdir).and_then(|server| {
                    names.push(self.tls.name_of(&server)?);
                    Ok(server)
                }),
            };
            match read {
                Ok(server) if servers.contains(&server) => {
                    let twice = invalid("the address is given twice", "remove one of them");
                    return Err((text, twice));
                }
                Ok(server) => servers.push(server),
                Err(invalid) => return Err((text, invalid)),
            }
        }
        Ok(UpstreamSettings {
            protocol: match first {
                Some(Kind::Uwsgi) => Protocol::Uwsgi(self.uwsgi.clone()),
                _ => Protocol::Http(self.http.clone()),
            },
            servers,
            timeouts: self.timeouts,
            balance: self.balance,
            tls: (first == Some(Kind::Https)).then(|| self.tls.to(names)),
        })
    }

    /// The servers of a table, which may say some things for itself.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub(super) fn of_table(
        &self,
        given: &Given<'_>,
        strip_prefix: bool,
        chdir: &Path,
    ) -> Result<UpstreamSettings, ConfigError> {
        let mut own = self.clone();
        let uwsgi = &mut own.uwsgi;
        if let Some(params) = given.many("uwsgi_param", uwsgi_param)? {
            uwsgi.params = params;
        }
        given.set("uwsgi_modifier1", &mut uwsgi.modifier1, modifier)?;
        given.set("uwsgi_modifier2", &mut uwsgi.modifier2, modifier)?;
        own.http = own.http.of_table(given, strip_prefix)?;
        let timeouts = &mut own.timeouts;
        for (timeout, name) in [
            (&mut timeouts.connect, "upstream_connect_timeout"),
            (&mut timeouts.send, "upstream_send_timeout"),
            (&mut timeouts.read, "upstream_read_timeout"),
        ] {
            given.set(name, timeout, values::positive_duration)?;
        }
        given.set("balance", &mut own.balance, balance)?;
        own.tls = own.tls.of_table(given, chdir)?;
        let (name, origin) = (spelled("upstream"), given.origin("upstream"));
        let texts = given
            .entry("upstream")
            .map_or(&[][..], |entry| &entry.values);
        let settings = own
            .at(texts.iter().map(String::as_str), false, chdir)
            .map_err(|(text, invalid)| wrong(&name, text, origin, invalid))?;
        if settings.servers.is_empty() {
            let remedy = "give one, as in `http://127.0.0.1:8080`";
            return Err(wrong(&name, "", origin, invalid("no server", remedy)));
        }
        let given_of = |names: &'static [&'static str]| {
            let mut names = names.iter();
            names.find(|name| given.entry(name).is_some())
        };
        let problem = match &settings.protocol {
            Protocol::Http(http) if http.host == UpstreamHost::Server && several(&settings) => {
                let remedy = "give one host for all, or remove it";
                Some((
                    "upstream_host",
                    "several servers have no common address",
                    remedy,
                ))
            }
            Protocol::Http(_) if settings.tls.is_some() => None,
            Protocol::Http(_) => given_of(&FOR_TLS).map(|name| {
                let remedy = "give the address as `https://`, or remove it";
                (*name, "it means nothing for a server without TLS", remedy)
            }),
            Protocol::Uwsgi(_) => given_of(&FOR_HTTP)
                .or_else(|| given_of(&FOR_TLS))
                .map(|name| (*name, "it means nothing for a server of uwsgi", "remove it")),
        };
        if let Some((name, problem, remedy)) = problem {
            let value = given.entry(name).map(|entry| entry.values.join(" "));
            let problem = invalid(problem, remedy);
            let (value, origin) = (value.unwrap_or_default(), given.origin(name));
            return Err(wrong(&spelled(name), &value, origin, problem));
        }
        Ok(settings)
    }

    fn uwsgi(&self, text: &str, chdir: &Path) -> Result<ServerAddress, Invalid> {
        let server = ServerAddress::uwsgi(text, chdir)?;
        if server.is_local() || self.insecure {
            return Ok(server);
        }
        // Whoever can speak uwsgi to a server owns its application, and the protocol has
        // neither encryption nor a password.
        Err(invalid(
            "a uwsgi server outside of this machine, whose protocol nothing protects",
            "give a Unix socket or a loopback address, or --uwsgi-insecure yes in a network that \
             nobody else reaches",
        ))
    }
}

fn balance(text: &str) -> Result<BalanceBy, Invalid> {
    let choices = [
        ("requests", BalanceBy::Requests),
        ("address", BalanceBy::Address),
    ];
    values::choice(text, &choices)
}

impl Resolver<'_> {
    /// Reads the settings shared by all upstreams.
    pub(super) fn servers(&mut self, chdir: &Path) -> Result<Servers, ConfigError> {
        let params = self.many("uwsgi_param", uwsgi_param)?;
        Ok(Servers {
            insecure: self.one("uwsgi_insecure", values::yes_or_no)?,
            uwsgi: UwsgiSettings {
                modifier1: self.one("uwsgi_modifier1", modifier)?,
                modifier2: self.one("uwsgi_modifier2", modifier)?,
                params: params.unwrap_or_default(),
                document_root: chdir.to_owned(),
            },
            http: HttpSettings {
                host: self.one("upstream_host", upstream_host)?,
                replacement: None,
                redirects: self.one("upstream_redirects", values::yes_or_no)?,
                cookie_paths: false,
            },
            timeouts: UpstreamTimeouts {
                connect: self.one("upstream_connect_timeout", values::positive_duration)?,
                send: self.one("upstream_send_timeout", values::positive_duration)?,
                read: self.one("upstream_read_timeout", values::positive_duration)?,
            },
            balance: self.one("balance", balance)?,
            tls: self.tls_to_servers(chdir)?,
        })
    }

    fn tls_to_servers(&mut self, chdir: &Path) -> Result<TlsToServers, ConfigError> {
        let ca = self.one("upstream_ca", |text| authorities(text, chdir))?;
        let name = self.optional("upstream_tls_name", server_name)?;
        if name.is_none() {
            self.show_default("upstream_tls_name", "the host of the address".to_owned());
        }
        let mut pair = [None, None];
        for (setting, place) in ["upstream_cert", "upstream_key"].into_iter().zip(&mut pair) {
            *place = self.optional(setting, |text| file(text, chdir))?;
            if place.is_none() {
                self.show_default(setting, "none".to_owned());
            }
        }
        let [cert, key] = pair;
        if let Some((given, problem)) = unpaired(&cert, &key) {
            let entry = self.entry(given);
            let value = entry.map_or_else(String::new, |entry| entry.values.join(" "));
            let origin = entry.map_or(&SettingOrigin::Default, |entry| &entry.origin);
            return Err(wrong(given, &value, origin, problem));
        }
        Ok(TlsToServers {
            ca,
            name,
            cert,
            key,
        })
    }

    /// Warns of settings for TLS where no server has it.
    fn warn_of_unused_tls(&mut self, whole: Option<&UpstreamSettings>, tables: &[Given<'_>]) {
        let is_tls = |given: &Given<'_>| {
            let entry = given.entry("upstream");
            entry.is_some_and(|entry| {
                entry
                    .values
                    .iter()
                    .any(|text| Kind::of(text) == Kind::Https)
            })
        };
        if whole.is_some_and(|settings| settings.tls.is_some()) || tables.iter().any(is_tls) {
            return;
        }
        if let Some(name) = FOR_TLS.into_iter().find(|name| self.entry(name).is_some()) {
            self.warnings.push(format!(
                "{name} is not used: the address of no upstream server begins with https://"
            ));
        }
    }

    /// The servers of `--uwsgi` or `--upstream`; `None` where there is an application instead.
    pub(super) fn upstream(
        &mut self,
        servers: &Servers,
        chdir: &Path,
        tables: &[Given<'_>],
    ) -> Result<Option<UpstreamSettings>, ConfigError> {
        let mut given = None;
        for name in ["uwsgi", "upstream"] {
            let Some(entry) = self.entry(name).filter(|entry| !entry.values.is_empty()) else {
                self.show_default(name, "none".to_owned());
                continue;
            };
            let refuse = |text: &str, invalid| wrong(name, text, &entry.origin, invalid);
            for (other, what) in [("app", "an application"), ("uwsgi", "servers")] {
                if let Some(twin) = self.entry(other).filter(|_| other != name) {
                    let problem = format!("{} names {what} as well", twin.origin);
                    let remedy = format!("give only one of {other} and {name}");
                    let all = entry.values.join(" ");
                    return Err(refuse(&all, invalid(problem, remedy)));
                }
            }
            let texts = entry.values.iter().map(String::as_str);
            let settings = servers.at(texts, name == "uwsgi", chdir);
            let settings = settings.map_err(|(text, invalid)| refuse(text, invalid))?;
            if servers.http.host == UpstreamHost::Server && several(&settings) {
                let problem = "several servers have no common address (--upstream-host server)";
                let remedy = "give one server, or the host as --upstream-host";
                return Err(refuse(&entry.values.join(" "), invalid(problem, remedy)));
            }
            let (shown, origin) = (entry.values.join(", "), entry.origin.to_string());
            make_room(tables, &format!("the server of --{name}"))?;
            self.show(name, shown, origin);
            self.show_default("app", format!("none, --{name} answers"));
            given = Some(settings);
        }
        self.warn_of_unused_tls(given.as_ref(), tables);
        Ok(given)
    }
}

impl TlsToServers {
    /// These settings with those of a table.
    fn of_table(mut self, given: &Given<'_>, chdir: &Path) -> Result<Self, ConfigError> {
        given.set("upstream_ca", &mut self.ca, |text| authorities(text, chdir))?;
        if let Some(name) = given.optional("upstream_tls_name", server_name)? {
            self.name = Some(name);
        }
        let cert = given.optional("upstream_cert", |text| file(text, chdir))?;
        let key = given.optional("upstream_key", |text| file(text, chdir))?;
        if let Some((name, problem)) = unpaired(&cert, &key) {
            let value = given.entry(name).map(|entry| entry.values.join(" "));
            let value = value.unwrap_or_default();
            return Err(wrong(&spelled(name), &value, given.origin(name), problem));
        }
        if cert.is_some() {
            (self.cert, self.key) = (cert, key);
        }
        Ok(self)
    }

    fn name_of(&self, server: &ServerAddress) -> Result<ServerName<'static>, Invalid> {
        match (&self.name, server) {
            (Some(name), _) => Ok(name.clone()),
            (None, ServerAddress::Tcp { host, .. }) => server_name(host),
            (None, ServerAddress::Unix(_)) => server_name(""),
        }
    }

    fn to(&self, names: Vec<ServerName<'static>>) -> UpstreamTls {
        let pair = self.cert.clone().zip(self.key.clone());
        UpstreamTls {
            ca: self.ca.clone(),
            names,
            own: pair.map(|(cert, key)| OwnCertificate { cert, key }),
        }
    }
}

/// The setting that lacks its twin.
fn unpaired(cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<(&'static str, Invalid)> {
    match (cert, key) {
        (Some(_), None) => Some((
            "upstream_cert",
            invalid(
                "no key belongs to the certificate",
                "give upstream_key as well",
            ),
        )),
        (None, Some(_)) => Some((
            "upstream_key",
            invalid(
                "no certificate belongs to the key",
                "give upstream_cert as well",
            ),
        )),
        _ => None,
    }
}

/// `system`, or a file.
fn authorities(text: &str, chdir: &Path) -> Result<Option<PathBuf>, Invalid> {
    match text {
        "system" => Ok(None),
        text => file(text, chdir).map(Some),
    }
}

/// A name or an address that can stand in a certificate.
fn server_name(text: &str) -> Result<ServerName<'static>, Invalid> {
    let name = ServerName::try_from(text.to_ascii_lowercase());
    name.map_err(|_invalid| {
        invalid(
            format!("{text:?} cannot be the name in a certificate"),
            "give a host name or an address, for instance as upstream_tls_name",
        )
    })
}

/// Settings for servers with TLS.
const FOR_TLS: [&str; 4] = [
    "upstream_ca",
    "upstream_tls_name",
    "upstream_cert",
    "upstream_key",
];

/// Settings of a table that only HTTP servers obey.
const FOR_HTTP: [&str; 4] = [
    "replace_prefix",
    "upstream_host",
    "upstream_redirects",
    "upstream_cookie_paths",
];

fn several(settings: &UpstreamSettings) -> bool {
    settings.servers.len() > 1
}

impl HttpSettings {
    /// These settings with what a table says.
    fn of_table(mut self, given: &Given<'_>, strip_prefix: bool) -> Result<Self, ConfigError> {
        given.set("upstream_host", &mut self.host, upstream_host)?;
        given.set("upstream_redirects", &mut self.redirects, values::yes_or_no)?;
        let cookie_paths = &mut self.cookie_paths;
        given.set("upstream_cookie_paths", cookie_paths, values::yes_or_no)?;
        let by = match given.optional("replace_prefix", url_path)? {
            Some(by) => Some(by),
            None => strip_prefix.then(|| "/".to_owned()),
        };
        if let Some(entry) = given
            .entry("strip_prefix")
            .filter(|_| given.entry("replace_prefix").is_some())
        {
            let problem = invalid(
                "replace_prefix says what becomes of the prefix",
                "remove one of them",
            );
            return Err(wrong(
                &spelled("strip_prefix"),
                &entry.values.join(" "),
                &entry.origin,
                problem,
            ));
        }
        self.replacement = by.map(|by| Replacement {
            prefix: match &*given.prefix {
                "/" => String::new(),
                prefix => utf8_percent_encode(prefix, ESCAPED).to_string(),
            },
            by: match given.scope.extent == Extent::Exact {
                true => by,
                false => by.trim_end_matches('/').to_owned(),
            },
        });
        Ok(self)
    }
}

/// Everything but RFC 3986's unreserved, sub-delims, `:`, `@` and the slash between names.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The path of a URL, percent-encoded, without dot segments.
fn url_path(text: &str) -> Result<String, Invalid> {
    let remedy = "give a path as in `/other`, percent-encoded, without a query";
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_path = text.starts_with('/')
        && !text.contains("//")
        && !text.contains(['?', '#', '\\'])
        && !text.split('/').any(|name| matches!(name, "." | ".."));
    match is_visible && is_path {
        true => Ok(text.to_owned()),
        false => Err(invalid("not the path of a URL", remedy)),
    }
}

fn modifier(text: &str) -> Result<u8, Invalid> {
    values::count(text, 0, 255).map(|modifier| modifier as u8)
}
