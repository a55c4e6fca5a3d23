//! Servers behind pyserve that answer instead of an application of its own.

use std::path::Path;

use super::tables::{Given, make_room, spelled};
use super::{Resolver, wrong};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::upstream::{
    BalanceBy, Protocol, ServerAddress, UpstreamSettings, UpstreamTimeouts, UwsgiSettings,
    uwsgi_param,
};
use crate::config::values;

/// Settings shared by all upstreams.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// True if uwsgi may leave this machine.
    insecure: bool,
    uwsgi: UwsgiSettings,
    timeouts: UpstreamTimeouts,
    balance: BalanceBy,
}

impl Servers {
    /// The servers with these addresses, each `http://…`, `http+unix:…`, `uwsgi://…` or
    /// `uwsgi+unix:…`, all of one kind; in `uwsgi` alone, also without a scheme.
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
        let mut protocol = None;
        for text in texts {
            let is_uwsgi = uwsgi || text.starts_with("uwsgi:") || text.starts_with("uwsgi+");
            let read = match is_uwsgi {
                _ if *protocol.get_or_insert(is_uwsgi) != is_uwsgi => Err(invalid(
                    "servers of uwsgi and of HTTP side by side",
                    "give servers of one kind",
                )),
                true => self.uwsgi(text, chdir),
                false => ServerAddress::http(text, chdir),
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
            protocol: match protocol {
                Some(true) => Protocol::Uwsgi(self.uwsgi.clone()),
                _ => Protocol::Http,
            },
            servers,
            timeouts: self.timeouts,
            balance: self.balance,
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
        let timeouts = &mut own.timeouts;
        for (timeout, name) in [
            (&mut timeouts.connect, "upstream_connect_timeout"),
            (&mut timeouts.send, "upstream_send_timeout"),
            (&mut timeouts.read, "upstream_read_timeout"),
        ] {
            given.set(name, timeout, values::positive_duration)?;
        }
        given.set("balance", &mut own.balance, balance)?;
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
        if strip_prefix && settings.protocol == Protocol::Http {
            return Err(wrong(
                &spelled("strip_prefix"),
                "true",
                given.origin("strip_prefix"),
                invalid(
                    "a server of HTTP gets the path as the client sent it",
                    "remove it, and have the server answer below the prefix",
                ),
            ));
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
            timeouts: UpstreamTimeouts {
                connect: self.one("upstream_connect_timeout", values::positive_duration)?,
                send: self.one("upstream_send_timeout", values::positive_duration)?,
                read: self.one("upstream_read_timeout", values::positive_duration)?,
            },
            balance: self.one("balance", balance)?,
        })
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
            let (shown, origin) = (entry.values.join(", "), entry.origin.to_string());
            make_room(tables, &format!("the server of --{name}"))?;
            self.show(name, shown, origin);
            self.show_default("app", format!("none, --{name} answers"));
            given = Some(settings);
        }
        Ok(given)
    }
}

fn modifier(text: &str) -> Result<u8, Invalid> {
    values::count(text, 0, 255).map(|modifier| modifier as u8)
}
