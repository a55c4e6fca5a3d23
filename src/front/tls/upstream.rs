//! TLS towards upstream servers: their authorities, their names, and the certificate with which this
//! server authenticates itself.
//!
//! Every certificate is verified: by its authority, its dates and its name. The files are read at the
//! start and at each reload, and again when they change; a session that has begun goes on until the
//! end of its request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::pair::{self, Stamp, problem};
use super::x509::Certificate;
use super::{TlsError, provider, roots};
use crate::config::upstream::UpstreamTls;
use crate::observe::codes;

/// TLS towards the servers of one upstream.
#[derive(Debug)]
pub struct TlsToServers {
    settings: UpstreamTls,
    current: Mutex<Current>,
    /// Number of times that changed files came into use; see [`TlsToServers::generation`].
    generation: AtomicU64,
}

/// The settings as rustls has them, and the state of their files.
#[derive(Debug)]
struct Current {
    config: Arc<ClientConfig>,
    files: Vec<Stamp>,
}

impl TlsToServers {
    /// TLS by these settings. Blocks.
    ///
    /// # Errors
    /// Files that cannot be read or used.
    pub fn new(settings: &UpstreamTls) -> Result<Self, TlsError> {
        Ok(Self {
            settings: settings.clone(),
            current: Mutex::new(Current::new(settings)?),
            generation: AtomicU64::new(0),
        })
    }

    /// A session with a server, by its number, and the generation of the files that verify it.
    ///
    /// # Errors
    /// The session cannot begin.
    pub fn session(&self, server: usize) -> Result<(ClientConnection, u64), TlsError> {
        let (config, generation) = {
            let current = self.current.lock();
            (Arc::clone(&current.config), self.generation())
        };
        let session = ClientConnection::new(config, self.settings.names[server].clone());
        let session = session.map_err(|error| self.explain(server, &error))?;
        Ok((session, generation))
    }

    /// The generation of the files in use. A session of an earlier one was verified by other
    /// authorities, or showed the server another certificate: no new request may use it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The meaning of an error in a handshake with a server, and the remedy.
    pub fn explain(&self, server: usize, error: &Error) -> TlsError {
        let name = self.settings.names[server].to_str();
        TlsError::new(match error {
            Error::InvalidCertificate(refused) => why_refused(refused, &name),
            error => why_broken(error, self.settings.own.is_some()),
        })
    }

    /// Reads files that have changed, and logs the result: true if new sessions differ from earlier
    /// ones. Blocks.
    pub fn look(&self) -> bool {
        let files = stamps(&self.settings);
        if self.current.lock().files == files {
            return false;
        }
        match Current::new(&self.settings) {
            Ok(read) => {
                let mut current = self.current.lock();
                *current = read;
                self.generation.fetch_add(1, Ordering::Relaxed);
                drop(current);
                tracing::info!("certificates for upstream servers read");
                true
            }
            Err(error) => {
                // Once for each state of the files.
                self.current.lock().files = files;
                tracing::error!(code = codes::CERTIFICATE, %error, "new certificates for upstream servers refused: those before stay in use");
                false
            }
        }
    }
}

/// The meaning of an error of the session that arrived behind the handshake: in TLS 1.3 a server
/// refuses a certificate after its own part is complete.
pub fn why_ended(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(why_broken(error, false))
}

fn why_refused(refused: &CertificateError, name: &str) -> String {
    match refused {
        // A known authority of the same name may have another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not of a known authority (give the authority as upstream_ca)".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet (is the clock right?)".into()
        }
        CertificateError::NotValidForName => wrong_name(name, &[]),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(name, presented),
        CertificateError::Other(other) if other.to_string().contains(AUTHORITY) => {
            "its certificate is that of an authority, as self-signed ones are (give it as upstream_ca)"
                .into()
        }
        refused => format!("its certificate is refused: {refused}"),
    }
}

/// webpki's name of that error, whose type rustls hides.
const AUTHORITY: &str = "CaUsedAsEndEntity";

fn wrong_name(name: &str, presented: &[String]) -> String {
    // `DnsName("example.org")`.
    let bare = |one: &String| {
        let (_, rest) = one.split_once('(').unwrap_or(("", one));
        rest.trim_matches([')', '"']).to_owned()
    };
    let names: Vec<_> = presented.iter().map(bare).collect();
    let names = match &*names {
        [] => "it has no such name".to_owned(),
        names => format!("it names {}", names.join(", ")),
    };
    format!(
        "its certificate is not for {name}: {names} (give a name of the certificate as upstream_tls_name)"
    )
}

fn why_broken(error: &Error, has_own: bool) -> String {
    match error {
        Error::InvalidMessage(_) => {
            "it does not speak TLS on this port (give http:// for a server without it)".into()
        }
        Error::AlertReceived(alert) => {
            let remedy = match has_own {
                true => "",
                false => " (if it asks for a certificate, give upstream_cert and upstream_key)",
            };
            format!("it refuses the TLS session with the alert {alert:?}{remedy}")
        }
        error => format!("no TLS session: {error}"),
    }
}

impl Current {
    fn new(settings: &UpstreamTls) -> Result<Self, TlsError> {
        // Before the reads: a change after them is noticed at the next look.
        let files = stamps(settings);
        let (roots, pinned) = authorities(settings)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
        let verifier = verifier
            .build()
            .map_err(|error| TlsError::new(format!("cannot verify upstream servers: {error}")))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(format!("cannot use TLS: {error}")))?
            // Stricter than rustls' own verifier nowhere but for pinned certificates.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { verifier, pinned }));
        let mut config = match &settings.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = pair::certificates(&own.cert, "certificate")?;
                let key = pair::private_key(&own.key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| problem("use the certificate", &own.cert, error))?
            }
        };
        // RFC 9325 §3.7: a server of another protocol does not take the requests for its own.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            files,
        })
    }
}

/// The authorities, and certificates that are accepted for themselves.
fn authorities(
    settings: &UpstreamTls,
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    const WHAT: &str = "authorities of upstream_ca";
    let Some(file) = &settings.ca else {
        let remedy = "give a file as upstream_ca";
        return Ok((roots::of_system(remedy)?, Vec::new()));
    };
    let mut roots = RootCertStore::empty();
    let given = pair::certificates(file, WHAT)?;
    for root in &given {
        roots
            .add(root.clone())
            .map_err(|error| problem(&format!("use the {WHAT}"), file, error))?;
    }
    Ok((Arc::new(roots), given))
}

/// The state of the files.
fn stamps(settings: &UpstreamTls) -> Vec<Stamp> {
    let ca = settings.ca.iter().map(|ca| Stamp::of(ca, ca));
    let own = settings.own.iter();
    ca.chain(own.map(|own| Stamp::of(&own.cert, &own.key)))
        .collect()
}

/// rustls' verifier, which also accepts a certificate that `upstream_ca` has itself: `openssl req
/// -x509` marks self-signed certificates as authorities, and webpki accepts none of those as a
/// server's. OpenSSL does. Name and dates are verified all the same.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pinned.contains(end_entity) {
            return self.verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        let read = Certificate::read(end_entity);
        let read = read.map_err(|_malformed| CertificateError::BadEncoding)?;
        let seconds = |time: std::time::SystemTime| {
            let since = time.duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        };
        if now.as_secs() < seconds(read.not_before) {
            return Err(CertificateError::NotValidYet.into());
        }
        if now.as_secs() > seconds(read.not_after) {
            return Err(CertificateError::Expired.into());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
