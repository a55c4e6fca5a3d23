//! The state of certificates that the server gets by ACME, for the status and the metrics.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::counters::Counter;

/// Numbers and states of ACME.
#[derive(Debug)]
pub struct AcmeMetrics {
    /// Certificates that were issued.
    pub issued: Counter,
    /// Attempts that failed.
    pub failed: Counter,
    certificates: Mutex<Vec<AcmeStatus>>,
}

/// The state of the certificate for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeStatus {
    /// The host.
    pub name: String,
    /// The state.
    pub state: AcmeState,
    /// The end of its validity (RFC 3339); `None` without a certificate.
    pub expires: Option<String>,
    /// The next attempt, or the renewal (RFC 3339); `None` while one is under way.
    pub next_attempt: Option<String>,
    /// The same in seconds since 1970.
    pub next_attempt_at: Option<u64>,
    /// Failures in succession.
    pub failures: u32,
    /// Reason of the last failure.
    pub last_error: Option<String>,
}

/// A state of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcmeState {
    /// There is no certificate yet.
    #[default]
    Missing,
    /// An order is under way.
    Ordering,
    /// It is valid.
    Valid,
    /// It has expired.
    Expired,
}

impl AcmeState {
    /// All.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Ordering, Self::Valid, Self::Expired];

    /// The word for people and for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ordering => "ordering",
            Self::Valid => "valid",
            Self::Expired => "expired",
        }
    }
}

impl AcmeMetrics {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            issued: Counter::new(),
            failed: Counter::new(),
            certificates: Mutex::new(Vec::new()),
        }
    }

    /// Sets the states.
    pub fn set(&self, all: Vec<AcmeStatus>) {
        *self.lock() = all;
    }

    /// The states.
    pub fn certificates(&self) -> Vec<AcmeStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<AcmeStatus>> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for AcmeMetrics {
    fn default() -> Self {
        Self::new()
    }
}
