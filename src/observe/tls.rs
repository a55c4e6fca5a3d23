//! Counters of TLS handshakes, and the expiry of certificates.

use std::sync::{Mutex, PoisonError};

use super::counters::Counter;

/// Counters of TLS.
#[derive(Debug)]
pub struct TlsMetrics {
    /// Handshakes, by version and outcome.
    pub handshakes: Handshakes,
    /// Handshakes that failed for the client's certificate, by [`ClientRefusal`].
    client_refusals: [Counter; ClientRefusal::ALL.len()],
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

/// The reason why the certificate of a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRefusal {
    /// The client has none, and needs one.
    Missing,
    /// It is of no authority that is trusted.
    UnknownIssuer,
    /// It, or one of its chain, is not valid any longer.
    Expired,
    /// It, or one of its chain, is not valid yet.
    NotYetValid,
    /// An authority has revoked it.
    Revoked,
    /// There is no revocation list of its authority.
    NoRevocationList,
    /// The revocation list of its authority is outdated.
    OutdatedRevocationList,
    /// It is malformed, made for another purpose, or its key is not that of the client.
    Invalid,
}

impl ClientRefusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::UnknownIssuer,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::NoRevocationList,
        Self::OutdatedRevocationList,
        Self::Invalid,
    ];

    /// The label in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::NoRevocationList => "no_revocation_list",
            Self::OutdatedRevocationList => "outdated_revocation_list",
            Self::Invalid => "invalid",
        }
    }
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
            client_refusals: [const { Counter::new() }; ClientRefusal::ALL.len()],
            certificates: Mutex::new(Vec::new()),
        }
    }

    /// Counts a handshake that failed for the client's certificate.
    pub fn refused_client(&self, why: ClientRefusal) {
        self.client_refusals[why as usize].inc();
    }

    /// The number of handshakes that failed for the client's certificate, for each reason.
    pub fn refused_clients(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = ClientRefusal::ALL.iter().zip(&self.client_refusals);
        all.map(|(why, count)| (why.as_str(), count.get()))
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
