//! Certificates that the server gets and renews itself, from an authority that speaks ACME
//! (RFC 8555).

use std::path::{Path, PathBuf};

/// The settings of ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The hosts, each with a certificate of its own.
    pub names: Vec<String>,
    /// The address to which the authority writes.
    pub email: Option<String>,
    /// URL of the authority's directory.
    pub directory: String,
    /// Roots for the connection to the authority, in PEM; `None`: those of the system. Absolute.
    pub ca: Option<PathBuf>,
    /// The directory of the account, the certificates and the state; absolute.
    pub dir: PathBuf,
    /// External account binding (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// The way in which the authority validates a name first.
    pub challenge: Challenge,
    /// The other way, where it may be tried after a failure.
    pub alternative: Option<Challenge>,
    /// True if clients get a self-signed certificate until the first one is there.
    pub self_signed: bool,
}

/// An account that the authority knows from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its key identifier.
    pub kid: String,
    /// The file of its key, in base64url; absolute.
    pub key: PathBuf,
}

/// A way to prove the control over a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Challenge {
    /// A file over plain HTTP, at port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate in a TLS handshake, at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Challenge {
    /// The name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The port that the authority connects to.
    pub fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }
}

/// The file of the certificate for a host: the key, and the chain behind it. One file, so that both
/// are replaced at the same moment.
pub fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.pem"))
}
