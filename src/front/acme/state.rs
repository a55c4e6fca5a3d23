//! The state that survives a restart: attempts, orders, windows, and pending challenges.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schedule::Window;
use crate::config::acme::Challenge;

/// The state of all certificates, by host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub certificates: BTreeMap<String, CertificateState>,
}

/// The state of the certificate for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateState {
    /// URL of the authority that issued the certificate in use.
    pub issued_by: String,
    /// Times of issue, the last ones only.
    pub issued: Vec<u64>,
    /// Failures in succession.
    pub failures: u32,
    /// No attempt before this time.
    pub not_before: u64,
    /// Reason of the last failure.
    pub last_error: Option<String>,
    /// The challenge of the next attempt.
    pub challenge: Option<Challenge>,
    /// The order that is not complete.
    pub order: Option<PendingOrder>,
    /// The window for the renewal.
    pub renewal: Option<Renewal>,
}

/// An order that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingOrder {
    /// Its URL.
    pub url: String,
    /// URL of the authority.
    pub directory: String,
}

/// Renewal information about one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The identifier of the certificate (RFC 9773 §4.1).
    pub certificate: String,
    /// The last window; `None`: the authority has none.
    pub window: Option<Window>,
    /// The authority is asked again at this time.
    pub ask_at: u64,
}

/// Answers to challenges, by token and by host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingChallenges {
    /// Key authorizations of HTTP-01, by token.
    pub http: BTreeMap<String, String>,
    /// Key authorizations of TLS-ALPN-01, by host.
    pub alpn: BTreeMap<String, String>,
}
