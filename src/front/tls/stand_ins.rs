//! Certificates that no file has: those of challenges (RFC 8737), and self-signed ones until the first
//! certificate of an authority is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Certificates;
use crate::observe::codes;

/// The protocol of a handshake that validates a host (RFC 8737 §6.2).
pub const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// Interval of the log lines about refused handshakes for a host.
const LOG_AGAIN: Duration = Duration::from_secs(60);

type ByName = HashMap<String, Arc<CertifiedKey>>;

/// Certificates that no file has, by host.
#[derive(Debug, Default)]
pub struct StandIns {
    challenges: RwLock<ByName>,
    self_signed: RwLock<ByName>,
    /// Times of the last log lines about refused handshakes; only hosts of the settings are in it.
    refused: Mutex<HashMap<String, Instant>>,
}

impl StandIns {
    /// Replaces the certificates of challenges.
    pub fn set_challenges(&self, certificates: ByName) {
        *self.challenges.write() = certificates;
    }

    /// Replaces the self-signed certificates.
    pub fn set_self_signed(&self, certificates: ByName) {
        *self.self_signed.write() = certificates;
    }

    fn refuse(&self, name: &str) {
        let mut refused = self.refused.lock();
        let now = Instant::now();
        let last = refused.get(name);
        if last.is_none_or(|last| now.duration_since(*last) >= LOG_AGAIN) {
            refused.insert(name.to_owned(), now);
            tracing::warn!(
                code = codes::ACME,
                name,
                "TLS handshakes refused: the first certificate is not there yet (--acme-self-signed yes uses another until then)"
            );
        }
    }
}

/// Chooses the certificate of a handshake.
#[derive(Debug)]
pub struct Resolver {
    pub certificates: Arc<Certificates>,
    pub stand_ins: Arc<StandIns>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        // RFC 8737 §3: the only protocol that the client offers.
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none() {
            return self.stand_ins.challenges.read().get(&name?).cloned();
        }
        match self.certificates.awaited(name.as_deref()) {
            None => self.certificates.resolve(hello),
            Some(awaited) => {
                let own = self.stand_ins.self_signed.read().get(&awaited).cloned();
                if own.is_none() {
                    self.stand_ins.refuse(&awaited);
                }
                own
            }
        }
    }
}
