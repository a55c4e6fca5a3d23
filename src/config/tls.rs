//! TLS on the listeners: certificates with their keys, versions, redirects to `https`.

use std::fmt;
use std::path::PathBuf;

use super::acme::AcmeSettings;
use super::settings::{Default, Setting};

/// The settings of `https`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpsSettings {
    /// TLS on the addresses that have it; `None` if there are none.
    pub tls: Option<TlsSettings>,
    /// Certificates from an authority that speaks ACME; `None`: there are none.
    pub acme: Option<AcmeSettings>,
    /// Redirects of requests over plain HTTP.
    pub redirect: HttpsRedirect,
    /// The value of `Strict-Transport-Security` in responses over `https`; `None` for no such field.
    pub hsts: Option<String>,
}

/// The settings of TLS with clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// The certificates, at least one; the first is used where no other has the name.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is accepted.
    pub min: TlsVersion,
    /// Certificates of clients; `None`: they are not asked for.
    pub client: Option<ClientAuth>,
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// The authorities, in PEM; absolute.
    pub ca: PathBuf,
    /// False: a client may have none.
    pub is_required: bool,
    /// Revocation lists in PEM; absolute.
    pub crls: Vec<PathBuf>,
    /// True if applications get the certificate itself.
    pub in_environ: bool,
}

/// The place of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFiles {
    /// Two files in PEM; absolute.
    Pair {
        /// The certificate, and the intermediate ones behind it.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A directory of pairs, as Kubernetes and certbot lay them out; absolute.
    Directory(PathBuf),
    /// A file that ACME writes, with the key and the certificate; it may be missing.
    Managed {
        /// The file; absolute.
        file: PathBuf,
        /// The host of the certificate.
        name: String,
    },
}

impl fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair { cert, .. } => write!(f, "{}", cert.display()),
            Self::Directory(dir) => write!(f, "{}/", dir.display()),
            Self::Managed { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Requests over plain HTTP, where some listeners have TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpsRedirect {
    /// They are answered.
    #[default]
    Off,
    /// They are redirected to `https` at this port.
    To(u16),
}

/// Every setting of a `[[certificate]]`.
pub static CERTIFICATE_SETTINGS: &[Setting] = &[
    Setting {
        name: "cert",
        value_name: "FILE|DIR",
        heading: HEADING,
        help: "The certificate in PEM, with the intermediate ones behind it; or a directory of pairs",
        repeatable: false,
        default: Default::None,
    },
    Setting {
        name: "key",
        value_name: "FILE",
        heading: HEADING,
        help: "Its private key in PEM",
        repeatable: false,
        default: Default::None,
    },
];

const HEADING: &str = "Certificate";
