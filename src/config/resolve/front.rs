//! Listeners, trusted proxies, and the directory for large bodies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Resolver, existing_directory, wrong};
use crate::config::error::ConfigError;
use crate::config::layers::SettingOrigin;
use crate::config::{ForwardedFact, ListenAddress, Trust, trust, values};

impl Resolver<'_> {
    pub(super) fn bind(&mut self, chdir: &Path) -> Result<Vec<ListenAddress>, ConfigError> {
        let parse = |text: &str| ListenAddress::parse(text, chdir);
        if let Some(addresses) = self.many("bind", parse)?
            && !addresses.is_empty()
        {
            return Ok(addresses);
        }
        let tcp =
            |ip: Ipv4Addr, port: u16| ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(ip), port));
        let (address, origin) = match self.surroundings.environment.variable("PORT") {
            None => (tcp(Ipv4Addr::LOCALHOST, 8000), SettingOrigin::Default),
            Some(port) => {
                let origin = SettingOrigin::Variable("PORT".to_owned());
                let port = port.to_string_lossy();
                let number = values::count(&port, 0, u32::from(u16::MAX))
                    .map_err(|invalid| wrong("bind", &port, &origin, invalid))?;
                (tcp(Ipv4Addr::UNSPECIFIED, number as u16), origin)
            }
        };
        self.show("bind", address.to_string(), origin.to_string());
        Ok(vec![address])
    }

    /// A setting that lists peers.
    pub(super) fn peers(&mut self, setting: &'static str) -> Result<Trust, ConfigError> {
        let mut trust = Trust::default();
        let given = self.many(setting, |text| {
            text.split(',').try_for_each(|part| trust.add(part.trim()))
        })?;
        if given.is_none() {
            self.show_default(setting, "none".to_owned());
        }
        Ok(trust)
    }

    /// The trusted proxies with what they may say.
    pub(super) fn trust(&mut self) -> Result<Trust, ConfigError> {
        let mut trust = self.peers("trust")?;
        let fields = self.many("trust_fields", |text| {
            let parts = text
                .split(',')
                .map(|part| ForwardedFact::parse(part.trim()));
            parts.collect::<Result<Vec<_>, _>>()
        })?;
        if fields.is_none() {
            self.show_default("trust_fields", "for, proto, host, port, prefix".to_owned());
        }
        let fields = fields.unwrap_or_default().into_iter().flatten().collect();
        let hops = self.optional("trust_hops", |text| values::count(text, 1, 50))?;
        if hops.is_none() {
            self.show_default("trust_hops", "all".to_owned());
        }
        trust.limit(fields, hops.map(|hops| hops as usize));
        match self.optional("trust_header", trust::client_field)? {
            Some(field) => trust.read_client_from(field),
            None => self.show_default("trust_header", "X-Forwarded-For, else Forwarded".to_owned()),
        }
        Ok(trust)
    }

    pub(super) fn front_threads(&mut self) -> Result<usize, ConfigError> {
        let given = self.optional("front_threads", |text| {
            values::count(text, 1, MOST_FRONT_THREADS)
        })?;
        Ok(match given {
            Some(threads) => threads as usize,
            None => {
                // For a hello application, front and workers take the same CPU time (5 µs each);
                // for any other, the front takes less: a fifth with Flask, a fiftieth with Django.
                // So half of the CPUs are enough whatever the application does, and the workers
                // have the other half at least. Eight threads answer a million requests a second.
                // On two CPUs, a second thread costs nothing that could be measured (hello
                // 10 to 15 µs a request, files of 1 KiB 2.6 to 4.2, with one and with two),
                // and takes CPU time from the workers at the worst moment.
                let threads = (self.surroundings.machine.cpus() / 2).clamp(1, 8);
                self.show_default("front_threads", threads.to_string());
                threads as usize
            }
        })
    }

    pub(super) fn temp_dir(&mut self, chdir: &Path) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = self.optional("temp_dir", |text| existing_directory(text, chdir))? {
            return Ok(dir);
        }
        let (dir, origin) = match self.surroundings.environment.variable("TMPDIR") {
            Some(dir) => (
                chdir.join(dir),
                SettingOrigin::Variable("TMPDIR".to_owned()),
            ),
            None => (PathBuf::from("/tmp"), SettingOrigin::Default),
        };
        self.show("temp_dir", dir.display().to_string(), origin.to_string());
        Ok(dir)
    }
}

/// Most threads of the front; more than there are CPUs are never of use.
const MOST_FRONT_THREADS: u32 = 256;
