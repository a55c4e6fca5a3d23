//! Counters of TLS handshakes, and the expiry of certificates.

use std::sync::{Mutex, PoisonError};

use super::counters::Counter;

/// Counters of TLS.
#[derive(Debug)]
pub struct TlsMetrics {
    /// Handshakes, by version and outcome.
    pub handshakes: Handshakes,
    certificates: Mutex<Vec<(String, u64)>>,
}

/// Handshakes, by version and outcome.
#[derive(Debug)]
pub struct Handshakes {
    /// Complete ones, of TLS 1.2 and 1.3: with the certificate, and resumed without it.
    complete: [[Counter; 2]; 2],
    /// Ended by an error of the protocol, or because client and server have nothing in common.
    pub failed: Counter,
    /// Ended by the client, or by the network.
    pub aborted: Counter,
    /// Not complete in time.
    pub timed_out: Counter,
}

/// Versions as their labels have them.
const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
/// Kinds of complete handshakes.
const KINDS: [&str; 2] = ["full", "resumed"];

impl TlsMetrics {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            handshakes: Handshakes {
                complete: [const { [const { Counter::new() }; 2] }; 2],
                failed: Counter::new(),
                aborted: Counter::new(),
                timed_out: Counter::new(),
            },
            certificates: Mutex::new(Vec::new()),
        }
    }

    /// Sets the certificates in use: the name, and the expiry in seconds since 1970.
    pub fn set_certificates(&self, mut all: Vec<(String, u64)>) {
        // Of two certificates for one name the one that expires first is shown.
        all.sort();
        all.dedup_by(|later, first| later.0 == first.0);
        *self.lock() = all;
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Vec<(String, u64)> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, u64)>> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TlsMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshakes {
    /// A handshake is complete; `version` as OpenSSL writes it.
    pub fn completed(&self, version: &str, is_resumed: bool) {
        let of_version = &self.complete[usize::from(version == VERSIONS[1])];
        of_version[usize::from(is_resumed)].inc();
    }

    /// Version, outcome and number of all handshakes.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let complete = VERSIONS.iter().zip(&self.complete);
        let complete = complete.flat_map(|(version, kinds)| {
            let kinds = KINDS.iter().zip(kinds);
            kinds.map(|(kind, count)| (*version, *kind, count.get()))
        });
        let others = [
            ("failed", &self.failed),
            ("aborted", &self.aborted),
            ("timed_out", &self.timed_out),
        ];
        complete.chain(others.map(|(outcome, count)| ("", outcome, count.get())))
    }
}
