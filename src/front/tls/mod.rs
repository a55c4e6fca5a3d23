//! TLS by rustls, towards clients and upstream servers: the settings of sessions, the certificates,
//! and a TCP connection inside a session.
//!
//! ```text
//! config::tls -> certificates (files, pair, x509) -> Tls (rustls::ServerConfig)
//! socket      -> connection::handshake -> TlsStream, one kind of front::socket::Socket
//! config::upstream -> upstream (rustls::ClientConfig) -> upstream::servers -> TlsStream
//! ```
//!
//! The cryptography is aws-lc-rs, which has the post-quantum group X25519MLKEM768 that browsers
//! offer first. The module knows neither HTTP nor the limits of clients.

pub mod certificates;
pub mod client_auth;
pub mod facts;
pub mod pair;
pub mod pem;
pub mod refused_clients;
pub mod roots;
pub mod stand_ins;
pub mod stream;
pub mod tickets;
pub mod upstream;
pub mod x509;

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, version};

use self::certificates::Certificates;
use self::pair::Stamp;
use self::stand_ins::{CHALLENGE_PROTOCOL, Resolver, StandIns};
use self::tickets::{TicketKey, Tickets};
use crate::config::tls::{CertificateFiles, ClientAuth, TlsSettings, TlsVersion};
use crate::observe::codes;

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
    /// The certificates.
    pub certificates: Arc<Certificates>,
    settings: TlsSettings,
    kept: Kept,
    current: Arc<Mutex<Current>>,
}

/// The settings as rustls has them, and the state of the files that are a part of them.
struct Current {
    config: Arc<ServerConfig>,
    client_files: Vec<Stamp>,
}

/// State that sessions of earlier settings share with later ones.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Encrypts session tickets.
    tickets: Arc<Tickets>,
    /// Certificates that no file has.
    stand_ins: Arc<StandIns>,
}

impl Kept {
    /// Tickets with the keys of the server whose place this one takes; with a new one if there is none.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(stand_ins: Arc<StandIns>, keys: &[TicketKey]) -> Result<Self, TlsError> {
        let tickets = tickets_with(keys)?;
        Ok(Self { tickets, stand_ins })
    }

    /// The keys, for the server that takes this one's place.
    pub fn keys(&self) -> Vec<TicketKey> {
        self.tickets.keys()
    }
}

fn tickets_with(keys: &[TicketKey]) -> Result<Arc<Tickets>, TlsError> {
    let tickets = Tickets::with(keys);
    tickets
        .map(Arc::new)
        .map_err(|error| TlsError::new(format!("cannot make session tickets: {error}")))
}

impl Tls {
    /// The sessions of these settings. Blocks.
    ///
    /// # Errors
    /// Files for the certificates of clients that cannot be used.
    pub fn new(
        settings: &TlsSettings,
        certificates: Arc<Certificates>,
        kept: &Kept,
    ) -> Result<Self, TlsError> {
        let current = Current::new(settings, &certificates, kept)?;
        Ok(Self {
            certificates,
            settings: settings.clone(),
            kept: kept.clone(),
            current: Arc::new(Mutex::new(current)),
        })
    }

    /// The settings as rustls has them.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().config)
    }

    /// The settings for the certificates of clients.
    pub fn client_auth(&self) -> Option<&ClientAuth> {
        self.settings.client.as_ref()
    }

    /// Reads files that have changed. Blocks.
    pub fn look(&self) {
        self.certificates.look();
        let Some(client) = self.client_auth() else {
            return;
        };
        let stamps = client_auth::stamps(client);
        if self.current.lock().client_files == stamps {
            return;
        }
        match Current::new(&self.settings, &self.certificates, &self.kept) {
            Ok(current) => {
                *self.current.lock() = current;
                tracing::info!("authorities and revocation lists of clients read");
            }
            Err(error) => {
                // Once for each state of the files.
                self.current.lock().client_files = stamps;
                tracing::error!(code = codes::CERTIFICATE, %error, "new authorities or revocation lists of clients refused: those before stay in use");
            }
        }
    }
}

impl Current {
    fn new(
        settings: &TlsSettings,
        certificates: &Arc<Certificates>,
        kept: &Kept,
    ) -> Result<Self, TlsError> {
        // Before the reads: a change after them is noticed at the next look.
        let client = settings.client.as_ref();
        let client_files = client.map(client_auth::stamps).unwrap_or_default();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(settings.min))
            .map_err(|error| TlsError::new(format!("cannot use TLS: {error}")))?;
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some(client) => builder.with_client_cert_verifier(client_auth::verifier(client)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver {
            certificates: Arc::clone(certificates),
            stand_ins: Arc::clone(&kept.stand_ins),
        }));
        // RFC 9325 §4.2 leaves it open; scanners report a server without an order.
        config.ignore_client_order = true;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        let is_managed =
            |files: &CertificateFiles| matches!(files, CertificateFiles::Managed { .. });
        if settings.certificates.iter().any(is_managed) {
            config.alpn_protocols.push(CHALLENGE_PROTOCOL.to_vec());
        }
        config.ticketer = match client {
            None => Arc::clone(&kept.tickets) as Arc<dyn ProducesTickets>,
            // A ticket stands for the verification of its client, by these authorities and lists.
            Some(_) => tickets_with(&[])?,
        };
        Ok(Self {
            config: Arc::new(config),
            client_files,
        })
    }
}

/// The provider of the cryptography. AES with keys of 128 bits is the fastest of its
/// cipher suites, all of which are strong, and so comes first.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_later = |suite: &SupportedCipherSuite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(is_later);
    Arc::new(provider)
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match min {
        TlsVersion::Tls12 => &FROM_12,
        TlsVersion::Tls13 => &FROM_12[..1],
    }
}
