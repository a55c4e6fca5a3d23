//! TLS towards clients, by rustls: the settings of sessions, the certificates, and a TCP
//! connection inside a session.
//!
//! ```text
//! config::tls -> certificates (files -> pair -> x509) -> Tls (rustls::ServerConfig)
//! socket      -> connection::handshake -> TlsStream, one kind of front::socket::Socket
//! ```
//!
//! The cryptography is aws-lc-rs, which has the post-quantum group X25519MLKEM768 that browsers
//! offer first. The module knows neither HTTP nor the limits of clients.

pub mod certificates;
pub mod facts;
pub mod pair;
pub mod stream;
pub mod x509;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::{SupportedProtocolVersion, version};

use self::certificates::Certificates;
use crate::config::tls::{TlsSettings, TlsVersion};

/// The protocols that are offered by ALPN (RFC 7301), best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// An error of the settings or of a file for TLS.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct TlsError {
    problem: String,
}

impl TlsError {
    /// An error with this text.
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}

/// The settings of sessions with clients.
#[derive(Clone)]
pub struct Tls {
    /// The settings as rustls has them.
    pub config: Arc<ServerConfig>,
    /// The certificates.
    pub certificates: Arc<Certificates>,
}

/// State that sessions of earlier settings share with later ones.
#[derive(Debug, Clone)]
pub struct Resumption {
    /// Encrypts session tickets; the key changes every six hours, and the one before stays valid
    /// for as long again.
    tickets: Arc<dyn ProducesTickets>,
}

impl Resumption {
    /// Tickets with a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, TlsError> {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()
            .map_err(|error| TlsError::new(format!("cannot make session tickets: {error}")))?;
        Ok(Self { tickets })
    }
}

impl Tls {
    /// The sessions of these settings.
    ///
    /// # Errors
    /// Versions that the provider does not have.
    pub fn new(
        settings: &TlsSettings,
        certificates: Arc<Certificates>,
        resumption: &Resumption,
    ) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(settings.min))
            .map_err(|error| TlsError::new(format!("cannot use TLS: {error}")))?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.ticketer = Arc::clone(&resumption.tickets);
        Ok(Self {
            config: Arc::new(config),
            certificates,
        })
    }
}

/// The provider of the cryptography, named here only.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match min {
        TlsVersion::Tls12 => &FROM_12,
        TlsVersion::Tls13 => &FROM_12[..1],
    }
}
