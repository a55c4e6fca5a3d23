//! The facts about a TLS session that applications and logs see, in the words of OpenSSL, which
//! nginx and mod_ssl use as well.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::{CipherSuite, CommonState, ProtocolVersion};

use super::pem;
use super::x509::{self, Certificate};
use crate::config::tls::ClientAuth;
use crate::observe::access_log::TlsSession;

/// The facts about one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`: `SSL_PROTOCOL`.
    pub protocol: &'static str,
    /// `TLS_AES_128_GCM_SHA256`: `SSL_CIPHER`.
    pub cipher: &'static str,
    /// The name that the client asked for by SNI (RFC 6066 §3), in lower case: `SSL_SERVER_NAME`.
    pub server_name: Option<Box<str>>,
    /// The client's certificate; `None` where clients are not asked for one.
    pub client: Option<ClientFacts>,
}

/// The facts about the certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFacts {
    /// The client has none.
    Without,
    /// It was verified.
    Verified(Box<VerifiedClient>),
}

/// The verified certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedClient {
    /// The facts in it.
    pub certificate: Certificate,
    /// Its SHA-1 digest in hexadecimal digits, as nginx writes it.
    pub fingerprint: String,
    /// Begin of its validity, as OpenSSL prints it.
    pub begin: String,
    /// End of its validity.
    pub end: String,
    /// The certificate in PEM, where applications get it.
    pub pem: Option<String>,
}

impl TlsFacts {
    /// The part for the log.
    pub fn session(&self) -> TlsSession {
        TlsSession {
            protocol: self.protocol,
            cipher: self.cipher,
        }
    }

    /// The facts about a session whose handshake is complete.
    pub fn of(
        session: &CommonState,
        server_name: Option<&str>,
        client: Option<&ClientAuth>,
    ) -> Self {
        let suite = session.negotiated_cipher_suite();
        Self {
            protocol: session.protocol_version().map_or("", protocol),
            cipher: suite.map_or("", |suite| cipher(suite.suite())),
            server_name: server_name.map(|name| name.to_ascii_lowercase().into()),
            client: client.map(|settings| ClientFacts::of(session, settings)),
        }
    }
}

impl ClientFacts {
    fn of(session: &CommonState, settings: &ClientAuth) -> Self {
        let sent = session.peer_certificates().and_then(<[_]>::first);
        // webpki has read it as well.
        let read = sent.and_then(|der| Some((der, Certificate::read(der).ok()?)));
        match read {
            None => Self::Without,
            Some((der, certificate)) => Self::Verified(Box::new(VerifiedClient {
                fingerprint: fingerprint(der),
                begin: x509::printed(certificate.not_before),
                end: x509::printed(certificate.not_after),
                certificate,
                pem: settings
                    .in_environ
                    .then(|| pem::written("CERTIFICATE", der)),
            })),
        }
    }
}

/// nginx: `$ssl_client_fingerprint`. It names a certificate that was verified by stronger digests.
fn fingerprint(der: &[u8]) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "",
    }
}

/// OpenSSL's name of a cipher suite that the provider has.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_provider_has_a_name() {
        for suite in &crate::front::tls::provider().cipher_suites {
            assert_ne!(cipher(suite.suite()), "", "{suite:?}");
        }
    }
}
