//! TLS on the listeners: pairs of certificates and keys, and the addresses that need them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Resolver, single, wrong};
use crate::config::acme::{self, AcmeSettings};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::{SettingEntry, SettingsTable};
use crate::config::tls::{
    CertificateFiles, ClientAuth, HttpsRedirect, HttpsSettings, TlsSettings, TlsVersion,
};
use crate::config::{ListenAddress, native, values};
use crate::os::key_files;

impl Resolver<'_> {
    pub(super) fn https(
        &mut self,
        chdir: &Path,
        bind: &[ListenAddress],
    ) -> Result<HttpsSettings, ConfigError> {
        let (tls, acme) = self.tls(chdir, bind)?;
        let redirect = self.redirect_to_https(bind)?;
        let client = tls.as_ref().and_then(|tls| tls.client.as_ref());
        let plain = bind.iter().find(|address| match address {
            ListenAddress::Tcp(address) => !address.ip().is_loopback(),
            ListenAddress::Tls(_) | ListenAddress::Unix(_) => false,
        });
        if let (Some(plain), true, HttpsRedirect::Off) = (
            plain,
            client.is_some_and(|client| client.is_required),
            &redirect,
        ) {
            self.warnings.push(format!(
                "clients of {plain} need no certificate, which --tls-client-ca asks for on addresses with TLS alone (give --redirect-to-https yes)"
            ));
        }
        Ok(HttpsSettings {
            tls,
            acme,
            redirect,
            hsts: self.hsts()?,
        })
    }

    /// The settings of TLS, and those of ACME; `None` where no address has it.
    fn tls(
        &mut self,
        chdir: &Path,
        bind: &[ListenAddress],
    ) -> Result<(Option<TlsSettings>, Option<AcmeSettings>), ConfigError> {
        let certs = self.many("tls_cert", |text| file(text, chdir))?;
        let keys = self.many("tls_key", |text| file(text, chdir))?;
        let mut certificates = pairs(certs.unwrap_or_default(), keys.unwrap_or_default())
            .map_err(|problem| self.refuse_tls(problem))?;
        for table in self.layers.iter().flat_map(|layer| &layer.certificates) {
            certificates.push(of_table(table, chdir)?);
        }
        let min = self.one("tls_min", |text| match text {
            "1.2" => Ok(TlsVersion::Tls12),
            "1.3" => Ok(TlsVersion::Tls13),
            _ => Err(invalid("no such version", "give `1.2` or `1.3`")),
        })?;
        let client = self.client_auth(chdir)?;
        let needs_client = client.as_ref().is_some_and(|client| client.is_required);
        let acme = self.acme(chdir, bind, needs_client)?;
        if let Some(acme) = &acme {
            certificates.extend(acme.names.iter().map(|name| CertificateFiles::Managed {
                file: acme::file(&acme.dir, name),
                name: name.clone(),
            }));
        }
        let is_used = bind.iter().any(ListenAddress::is_tls);
        if client.is_some() && !is_used && !self.is_foreign("tls_client_ca") {
            let problem = invalid(
                "no address has TLS, so every client is served without a certificate",
                "give --bind https://0.0.0.0:443",
            );
            return Err(self.refuse("tls_client_ca", problem));
        }
        match (is_used, certificates.is_empty()) {
            (true, true) => {
                let problem = invalid(
                    "an `https://` address needs a certificate",
                    "give --tls-cert FILE and --tls-key FILE, or --acme HOST",
                );
                Err(self.refuse("bind", problem))
            }
            (false, false) => {
                self.warnings.push(
                    "the certificates are not used: no address of --bind begins with https:// (give --bind https://0.0.0.0:443)"
                        .to_owned(),
                );
                Ok((None, None))
            }
            (false, true) => {
                self.warn_of_idle(&["tls_min"], "no address of --bind begins with https://");
                Ok((None, None))
            }
            (true, false) => {
                let tls = TlsSettings {
                    certificates,
                    min,
                    client,
                };
                Ok((Some(tls), acme))
            }
        }
    }

    fn client_auth(&mut self, chdir: &Path) -> Result<Option<ClientAuth>, ConfigError> {
        let ca = self.optional("tls_client_ca", |text| file(text, chdir))?;
        let is_required = self.one("tls_client_auth", |text| match text {
            "required" => Ok(true),
            "optional" => Ok(false),
            _ => Err(invalid("no such mode", "give `required` or `optional`")),
        })?;
        let crls = self.many("tls_client_crl", |text| file(text, chdir))?;
        let in_environ = self.one("tls_client_pem", values::yes_or_no)?;
        let Some(ca) = ca else {
            self.show_default("tls_client_ca", "none".to_owned());
            for name in ["tls_client_auth", "tls_client_crl", "tls_client_pem"] {
                if self.entry(name).is_some() {
                    let problem = invalid(
                        "clients are not asked for certificates",
                        "give --tls-client-ca FILE as well",
                    );
                    return Err(self.refuse(name, problem));
                }
            }
            return Ok(None);
        };
        Ok(Some(ClientAuth {
            ca,
            is_required,
            crls: crls.unwrap_or_default(),
            in_environ,
        }))
    }

    fn redirect_to_https(&mut self, bind: &[ListenAddress]) -> Result<HttpsRedirect, ConfigError> {
        let own = bind.iter().find_map(|address| match address {
            ListenAddress::Tls(address) => Some(address.port()),
            ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
        });
        self.one("redirect_to_https", |text| match (text, own) {
            ("no" | "off" | "false", _) => Ok(HttpsRedirect::Off),
            ("yes" | "on" | "true", Some(0)) => Err(invalid(
                "the port is chosen by the system",
                "give the port to which clients are redirected",
            )),
            ("yes" | "on" | "true", Some(port)) => Ok(HttpsRedirect::To(port)),
            ("yes" | "on" | "true", None) => Err(invalid(
                "no address has TLS",
                "give --bind https://0.0.0.0:443, or the port of the server that has it",
            )),
            (port, _) => {
                let port = values::count(port, 1, u32::from(u16::MAX));
                let port = port.map_err(|Invalid { problem, .. }| {
                    invalid(problem, "give `yes`, `no`, or a port")
                })?;
                Ok(HttpsRedirect::To(port as u16))
            }
        })
    }

    /// The value of `Strict-Transport-Security` (RFC 6797 §6.1).
    fn hsts(&mut self) -> Result<Option<String>, ConfigError> {
        self.one("hsts", |text| match text {
            "no" | "off" | "false" => Ok(None),
            // Has browsers forget it.
            text => seconds(text).map(|time| Some(format!("max-age={}", time.as_secs()))),
        })
    }

    fn refuse_tls(&self, problem: Invalid) -> ConfigError {
        match self.entry("tls_key").is_some() {
            true => self.refuse("tls_key", problem),
            false => self.refuse("tls_cert", problem),
        }
    }

    pub(super) fn refuse(&self, name: &str, problem: Invalid) -> ConfigError {
        match self.entry(name) {
            Some(entry) => wrong(name, &entry.values.join(" "), &entry.origin, problem),
            None => wrong(
                name,
                "",
                &crate::config::layers::SettingOrigin::Default,
                problem,
            ),
        }
    }
}

/// A whole number of seconds; two years, as browsers' lists want it, are more than other settings
/// allow.
fn seconds(text: &str) -> Result<Duration, Invalid> {
    match text.strip_suffix('d').unwrap_or_default().parse::<u32>() {
        Ok(days) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        Err(_) => match text.parse::<u32>() {
            Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
            Err(_) => values::duration(text),
        },
    }
}

pub(super) fn file(text: &str, chdir: &Path) -> Result<PathBuf, Invalid> {
    if text.is_empty() {
        return Err(invalid("no file", "give one in PEM"));
    }
    Ok(chdir.join(native::path(text)))
}

/// Certificates with their keys, by their places in the lists. Directories have no key.
fn pairs(certs: Vec<PathBuf>, keys: Vec<PathBuf>) -> Result<Vec<CertificateFiles>, Invalid> {
    let mut keys = keys.into_iter();
    let mut all = Vec::new();
    for cert in certs {
        if is_directory(&cert, keys.len() > 0) {
            all.push(CertificateFiles::Directory(cert));
            continue;
        }
        let key = keys.next().ok_or_else(|| {
            invalid(
                format!("no key belongs to {}", cert.display()),
                "give one --tls-key for each --tls-cert that is a file, in the same order",
            )
        })?;
        all.push(CertificateFiles::Pair { cert, key });
    }
    match keys.next() {
        Some(key) => Err(invalid(
            format!("no certificate belongs to {}", key.display()),
            "give one --tls-cert for each --tls-key, in the same order",
        )),
        None => Ok(all),
    }
}

/// True for a directory of pairs. A path at which this user may not look is one if it has no key.
fn is_directory(cert: &Path, has_key: bool) -> bool {
    match key_files::state(cert) {
        Ok(state) => state.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied && !has_key,
    }
}

fn of_table(table: &SettingsTable, chdir: &Path) -> Result<CertificateFiles, ConfigError> {
    let path = |name: &str, entry: &SettingEntry| single(name, entry, |text| file(text, chdir));
    let refuse = |problem: Invalid| wrong("certificate", "", &table.origin, problem);
    let Some(cert) = table.entry("cert") else {
        return Err(refuse(invalid(
            "no `cert`",
            "give a file in PEM, or a directory of pairs",
        )));
    };
    let cert = path("cert", cert)?;
    let key = table.entry("key");
    match (is_directory(&cert, key.is_some()), key) {
        (true, None) => Ok(CertificateFiles::Directory(cert)),
        (true, Some(_)) => Err(refuse(invalid(
            "a `key` beside a directory of pairs",
            "remove it, or name a file as `cert`",
        ))),
        (false, None) => Err(refuse(invalid("no `key`", "give the file of the key"))),
        (false, Some(key)) => Ok(CertificateFiles::Pair {
            cert,
            key: path("key", key)?,
        }),
    }
}
