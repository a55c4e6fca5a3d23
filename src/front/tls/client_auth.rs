//! Certificates of clients: the authorities and revocation lists by which they are verified, read
//! again when their files change.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::pair::{self, Stamp, problem};
use super::pem::why_unusable;
use super::{TlsError, provider};
use crate::config::tls::ClientAuth;

/// The verifier of these settings. Blocks.
///
/// # Errors
/// A file that cannot be read or used.
pub fn verifier(settings: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const WHAT: &str = "authorities of --tls-client-ca";
    let unusable =
        |error: &dyn std::fmt::Display| problem(&format!("use the {WHAT}"), &settings.ca, error);
    let mut roots = RootCertStore::empty();
    for root in pair::certificates(&settings.ca, WHAT)? {
        roots.add(root).map_err(|error| unusable(&error))?;
    }
    let mut lists = Vec::new();
    for path in &settings.crls {
        let text = pair::read(path, "revocation list")?;
        let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let read = read.and_then(|read| match read.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(read),
        });
        lists.extend(read.map_err(|error| {
            let why = why_unusable(&error, &text, "X509 CRL", "crl");
            problem("use the revocation list", path, why)
        })?);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    // An outdated list may lack what was revoked since, as for OpenSSL.
    let mut builder = builder.with_crls(lists).enforce_revocation_expiration();
    if !settings.is_required {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map_err(|error| match (&error, settings.crls.first()) {
            (VerifierBuilderError::InvalidCrl(_), Some(first)) => {
                let why = format!(
                    "{error} (give lists of version 2, as `crlnumber` of openssl makes them)"
                );
                problem("use the revocation lists from", first, why)
            }
            _ => unusable(&error),
        })
}

/// The state of the files.
pub fn stamps(settings: &ClientAuth) -> Vec<Stamp> {
    let files = std::iter::once(&settings.ca).chain(&settings.crls);
    let stamp = |file: &PathBuf| Stamp::of(file, file);
    files.map(stamp).collect()
}
