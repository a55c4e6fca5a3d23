//! Servers behind pyserve that answer instead of an application of its own.

use std::path::Path;

use super::locations::{Given, make_room};
use super::{Resolver, wrong};
use crate::config::error::{ConfigError, invalid};
use crate::config::upstream::{
    Protocol, ServerAddress, UpstreamSettings, UpstreamTimeouts, UwsgiSettings, uwsgi_param,
};
use crate::config::values;

impl Resolver<'_> {
    /// The servers of `--uwsgi`; `None` where there is an application instead.
    pub(super) fn uwsgi(
        &mut self,
        chdir: &Path,
        tables: &[Given<'_>],
    ) -> Result<Option<UpstreamSettings>, ConfigError> {
        let forced = self.one("uwsgi_insecure", values::yes_or_no)?;
        let mut servers: Vec<ServerAddress> = Vec::new();
        let given = self.many("uwsgi", |text| {
            let server = ServerAddress::uwsgi(text, chdir)?;
            if !server.is_local() && !forced {
                // Whoever can speak uwsgi to a server owns its application, and the protocol
                // has neither encryption nor a password.
                return Err(invalid(
                    "a uwsgi server outside of this machine, whose protocol nothing protects",
                    "give a Unix socket or a loopback address, or --uwsgi-insecure yes in a network \
                     that nobody else reaches",
                ));
            }
            if servers.contains(&server) {
                return Err(invalid("the address is given twice", "remove one of them"));
            }
            servers.push(server);
            Ok(())
        })?;
        let params = self.many("uwsgi_param", uwsgi_param)?;
        let settings = UwsgiSettings {
            modifier1: self.one("uwsgi_modifier1", |text| values::count(text, 0, 255))? as u8,
            modifier2: self.one("uwsgi_modifier2", |text| values::count(text, 0, 255))? as u8,
            params: params.unwrap_or_default(),
            document_root: chdir.to_owned(),
        };
        let timeouts = self.upstream_timeouts()?;
        if given.is_none() || servers.is_empty() {
            return Ok(None);
        }
        if let (Some(app), Some(uwsgi)) = (self.entry("app"), self.entry("uwsgi")) {
            return Err(wrong(
                "uwsgi",
                &uwsgi.values.join(" "),
                &uwsgi.origin,
                invalid(
                    format!("{} names an application as well", app.origin),
                    "give only one of app and uwsgi",
                ),
            ));
        }
        make_room(tables, "the uWSGI of --uwsgi")?;
        self.show_default("app", "none, uwsgi answers".to_owned());
        Ok(Some(UpstreamSettings {
            protocol: Protocol::Uwsgi(settings),
            servers,
            timeouts,
        }))
    }

    pub(super) fn upstream_timeouts(&mut self) -> Result<UpstreamTimeouts, ConfigError> {
        Ok(UpstreamTimeouts {
            connect: self.one("upstream_connect_timeout", values::positive_duration)?,
            send: self.one("upstream_send_timeout", values::positive_duration)?,
            read: self.one("upstream_read_timeout", values::positive_duration)?,
        })
    }
}
