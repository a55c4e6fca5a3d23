//! ACME: hosts, the authority, and the ways to prove the control over a host.

use std::path::{Path, PathBuf};

use super::Resolver;
use super::tls::file;
use crate::config::acme::{AcmeSettings, Challenge, ExternalAccount};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::{ListenAddress, settings, values};

/// Let's Encrypt.
const PUBLIC: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Let's Encrypt for tests, with higher limits and an untrusted root.
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// Domains in which public authorities have their directories.
const PUBLIC_AUTHORITIES: [&str; 5] = [
    "letsencrypt.org",
    "zerossl.com",
    "pki.goog",
    "ssl.com",
    "buypass.com",
];
/// Domains that DNS never has, so that no public authority may certify a name in them: RFC 6761,
/// RFC 6762 with appendix G, RFC 7686, RFC 8375, RFC 9476; `mail` as ICANN decided.
const PRIVATE_DOMAINS: [&str; 15] = [
    "alt",
    "corp",
    "example",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localhost",
    "mail",
    "onion",
    "private",
    "test",
];

impl Resolver<'_> {
    /// The settings of ACME; `None` without a host. `needs_client` is true where the handshake fails
    /// for clients without a certificate.
    pub(super) fn acme(
        &mut self,
        chdir: &Path,
        bind: &[ListenAddress],
        needs_client: bool,
    ) -> Result<Option<AcmeSettings>, ConfigError> {
        let directory = self.one("acme_directory", directory)?;
        let names = self.acme_names(&directory)?;
        let email = self.optional("acme_email", email)?;
        let ca = self.optional("acme_ca", |text| file(text, chdir))?;
        let dir = self.optional("acme_dir", |text| file(text, chdir))?;
        let dir = dir.unwrap_or_else(|| self.acme_dir());
        let external_account = self.external_account(chdir)?;
        let wanted = self.one("acme_challenge", |text| match text {
            "auto" => Ok(None),
            "http-01" => Ok(Some(Challenge::Http01)),
            "tls-alpn-01" => Ok(Some(Challenge::TlsAlpn01)),
            _ => Err(invalid(
                "no such challenge",
                "give `auto`, `http-01` or `tls-alpn-01`",
            )),
        })?;
        let self_signed = self.one("acme_self_signed", values::yes_or_no)?;
        for (name, is_set) in [("acme_email", email.is_some()), ("acme_ca", ca.is_some())] {
            if !is_set {
                self.show_default(name, "none".to_owned());
            }
        }
        if names.is_empty() {
            let others = settings::all().map(|setting| setting.name);
            let others: Vec<_> = others.filter(|name| name.starts_with("acme_")).collect();
            self.warn_of_idle(&others, "give the host of a certificate with --acme");
            return Ok(None);
        }
        if !bind.iter().any(ListenAddress::is_tls) {
            let problem = invalid(
                "no address has TLS",
                "give --bind https://0.0.0.0:443 as well",
            );
            return Err(self.refuse("acme", problem));
        }
        let has_plain = bind.iter().any(|address| !address.is_tls());
        let (challenge, alternative) = match (wanted, has_plain, needs_client) {
            (Some(Challenge::Http01), false, _) => {
                let problem = invalid(
                    "no address has plain HTTP",
                    "give --bind 0.0.0.0:80 as well",
                );
                return Err(self.refuse("acme_challenge", problem));
            }
            (Some(Challenge::TlsAlpn01) | None, false, true)
            | (Some(Challenge::TlsAlpn01), true, true) => {
                let problem = invalid(
                    "the authority has no certificate for --tls-client-ca, so its handshakes fail",
                    "give --bind 0.0.0.0:80 and --acme-challenge http-01, or --tls-client-auth optional",
                );
                return Err(self.refuse("acme", problem));
            }
            (Some(one), ..) => (one, None),
            (None, true, true) => (Challenge::Http01, None),
            (None, true, false) => (Challenge::Http01, Some(Challenge::TlsAlpn01)),
            (None, false, false) => (Challenge::TlsAlpn01, None),
        };
        Ok(Some(AcmeSettings {
            names,
            email,
            directory,
            ca,
            dir,
            external_account,
            challenge,
            alternative,
            self_signed,
        }))
    }

    /// The hosts, each once.
    fn acme_names(&mut self, directory: &str) -> Result<Vec<String>, ConfigError> {
        let one = match is_public(directory) {
            true => public_host,
            false => host,
        };
        let mut names: Vec<String> = Vec::new();
        for name in self.many("acme", one)?.unwrap_or_default() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// `StateDirectory=` of systemd sets the variable; of several directories the first is used.
    fn acme_dir(&mut self) -> PathBuf {
        let state = self.surroundings.environment.variable("STATE_DIRECTORY");
        let state = state.and_then(|dirs| std::env::split_paths(dirs).next());
        let dir = state
            .unwrap_or_else(|| PathBuf::from("/var/lib/pyserve"))
            .join("acme");
        self.show_default("acme_dir", dir.display().to_string());
        dir
    }

    fn external_account(&mut self, chdir: &Path) -> Result<Option<ExternalAccount>, ConfigError> {
        let kid = self.optional("acme_eab_kid", |text| match text {
            "" => Err(invalid("no identifier", "give the one of the authority")),
            text => Ok(text.to_owned()),
        })?;
        let key = self.optional("acme_eab_key", |text| file(text, chdir))?;
        match (kid, key) {
            (Some(kid), Some(key)) => Ok(Some(ExternalAccount { kid, key })),
            (Some(_), None) => {
                let problem = invalid("no key belongs to it", "give --acme-eab-key FILE as well");
                Err(self.refuse("acme_eab_kid", problem))
            }
            (None, Some(_)) => {
                let problem = invalid(
                    "no identifier belongs to it",
                    "give --acme-eab-kid ID as well",
                );
                Err(self.refuse("acme_eab_key", problem))
            }
            (None, None) => {
                for name in ["acme_eab_kid", "acme_eab_key"] {
                    self.show_default(name, "none".to_owned());
                }
                Ok(None)
            }
        }
    }
}

/// A host as DNS writes it, in lower case (RFC 1123 §2.1).
fn host(text: &str) -> Result<String, Invalid> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.starts_with("*.") {
        return Err(invalid(
            "a wildcard needs a challenge over DNS, which there is not",
            "give each host, or use certbot with --tls-cert",
        ));
    }
    if !name.is_ascii() {
        return Err(invalid(
            "not a host of DNS",
            "give it in Punycode, as xn--bcher-kva.example",
        ));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    // No domain of the first level is a number (RFC 3696 §2), so that is another way to write an address.
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let unbracketed = name.trim_start_matches('[').trim_end_matches(']');
    if is_number || unbracketed.parse::<std::net::IpAddr>().is_ok() {
        return Err(invalid(
            "an IP address",
            "give the name of a host, or a certificate for the address with --tls-cert",
        ));
    }
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_')
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(name),
        false => Err(invalid(
            "not the name of a host",
            "give it as example.org, without a scheme and a port",
        )),
    }
}

/// The same for a public authority: a name that DNS has (Baseline Requirements of the CA/Browser
/// Forum, §4.2.2 and §7.1.2.7.12).
fn public_host(text: &str) -> Result<String, Invalid> {
    let name = host(text)?;
    let domain = PRIVATE_DOMAINS.iter().find(|domain| is_in(&name, domain));
    let why = match domain {
        Some(domain) if *domain != name => format!("a name in the private domain `{domain}`"),
        _ if !name.contains('.') => "a name without a domain".to_owned(),
        Some(_) => "a private domain".to_owned(),
        None if name.contains('_') => "a name with an underscore".to_owned(),
        None => return Ok(name),
    };
    Err(invalid(
        format!("{why}, for which no public authority gives a certificate"),
        "give a name of the public DNS, the --acme-directory of a private authority, or a certificate with --tls-cert",
    ))
}

/// True for a name that is the domain, or in it.
fn is_in(name: &str, domain: &str) -> bool {
    let before = name.strip_suffix(domain);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// True if the authority with this directory is a public one that is known.
fn is_public(directory: &str) -> bool {
    let url = directory.parse::<http::Uri>().ok();
    let host = url.and_then(|url| Some(url.host()?.to_ascii_lowercase()));
    host.is_some_and(|host| PUBLIC_AUTHORITIES.iter().any(|domain| is_in(&host, domain)))
}

fn email(text: &str) -> Result<String, Invalid> {
    let text = text.strip_prefix("mailto:").unwrap_or(text);
    let is_address = text
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    // RFC 8555 §7.3: one address, without header fields.
    match is_address && !text.contains(['?', ',', ' ']) && text.is_ascii() {
        true => Ok(text.to_owned()),
        false => Err(invalid("not an address", "give one as admin@example.org")),
    }
}

fn directory(text: &str) -> Result<String, Invalid> {
    match text {
        "letsencrypt" | "production" => Ok(PUBLIC.to_owned()),
        "staging" => Ok(STAGING.to_owned()),
        url => {
            let is_url = url.parse::<http::Uri>().is_ok_and(|uri| {
                uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
            });
            match is_url {
                true => Ok(url.to_owned()),
                // RFC 8555 §6.1.
                false => Err(invalid(
                    "not an https:// URL",
                    "give the directory of the authority, `letsencrypt` or `staging`",
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_that_a_certificate_may_name() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        };
        check("example.org", Some("example.org"));
        check("Example.ORG.", Some("example.org"));
        check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
        check("localhost", Some("localhost"));
        let long = "a".repeat(63);
        check(&long, Some(&long));
        for wrong in [
            "",
            ".",
            "a..b",
            "*.example.org",
            "bücher.example",
            "https://example.org",
            "example.org:443",
            "-a.example",
            "a-.example",
            "127.0.0.1",
            "127.1",
            "::1",
            "[::1]",
            "../x",
            "a/b",
            &"a".repeat(64),
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn public_authorities_certify_names_of_the_public_dns_alone() {
        for name in [
            "example.org",
            "localhost.example.org",
            "lan.de",
            "mytest.de",
            "a.mail.ru",
        ] {
            assert_eq!(public_host(name).unwrap(), name);
        }
        for (name, why) in [
            ("localhost", "without a domain"),
            ("LOCALHOST.", "without a domain"),
            ("shop", "without a domain"),
            ("test", "without a domain"),
            ("shop.local", "the private domain `local`"),
            ("a.b.Internal", "the private domain `internal`"),
            ("shop.test", "the private domain `test`"),
            ("nas.home.arpa", "the private domain `home.arpa`"),
            ("home.arpa", "a private domain"),
            ("my_shop.example.org", "an underscore"),
        ] {
            let problem = public_host(name).unwrap_err().problem;
            assert!(problem.contains(why), "{name}: {problem}");
            assert!(host(name).is_ok(), "{name}");
        }
        for of in [PUBLIC, STAGING, "https://acme.ZeroSSL.com/v2/DV90"] {
            assert!(is_public(of), "{of}");
        }
        for of in [
            "https://127.0.0.1:14000/dir",
            "https://ca.example.org/",
            "https://notssl.com/",
        ] {
            assert!(!is_public(of), "{of}");
        }
    }

    #[test]
    fn directories_are_names_or_urls_with_https() {
        assert_eq!(directory("staging").unwrap(), STAGING);
        assert_eq!(directory("letsencrypt").unwrap(), PUBLIC);
        let own = "https://127.0.0.1:14000/dir";
        assert_eq!(directory(own).unwrap(), own);
        for wrong in ["http://example.org/dir", "example.org", "", "https:///x"] {
            assert!(directory(wrong).is_err(), "{wrong}");
        }
    }
}
