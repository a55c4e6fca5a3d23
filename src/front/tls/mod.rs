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
pub mod client_auth;
pub mod facts;
pub mod pair;
pub mod stream;
pub mod tickets;
pub mod x509;

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::{SupportedProtocolVersion, version};

use self::certificates::Certificates;
use self::pair::Stamp;
use self::tickets::{TicketKey, Tickets};
use crate::config::tls::{ClientAuth, TlsSettings, TlsVersion};
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
    resumption: Resumption,
    current: Arc<Mutex<Current>>,
}

/// The settings as rustls has them, and the state of the files that are a part of them.
struct Current {
    config: Arc<ServerConfig>,
    client_files: Vec<Stamp>,
}

/// State that sessions of earlier settings share with later ones.
#[derive(Debug, Clone)]
pub struct Resumption {
    tickets: Arc<Tickets>,
}

impl Resumption {
    /// Tickets with a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, TlsError> {
        Self::with(&[])
    }

    /// Tickets with the keys of the server whose place this one takes.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with(keys: &[TicketKey]) -> Result<Self, TlsError> {
        let tickets = Tickets::with(keys)
            .map_err(|error| TlsError::new(format!("cannot make session tickets: {error}")))?;
        Ok(Self {
            tickets: Arc::new(tickets),
        })
    }

    /// The keys, for the server that takes this one's place.
    pub fn keys(&self) -> Vec<TicketKey> {
        self.tickets.keys()
    }
}

impl Tls {
    /// The sessions of these settings. Blocks.
    ///
    /// # Errors
    /// Files for the certificates of clients that cannot be used.
    pub fn new(
        settings: &TlsSettings,
        certificates: Arc<Certificates>,
        resumption: &Resumption,
    ) -> Result<Self, TlsError> {
        let current = Current::new(settings, &certificates, resumption)?;
        Ok(Self {
            certificates,
            settings: settings.clone(),
            resumption: resumption.clone(),
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
        match Current::new(&self.settings, &self.certificates, &self.resumption) {
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
        resumption: &Resumption,
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
        let mut config = builder.with_cert_resolver(Arc::clone(certificates) as _);
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.ticketer = match client {
            None => Arc::clone(&resumption.tickets) as Arc<dyn ProducesTickets>,
            // A ticket stands for the verification of its client, by these authorities and lists.
            Some(_) => Resumption::new()?.tickets,
        };
        Ok(Self {
            config: Arc::new(config),
            client_files,
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
