//! The authorities of the system, by which upstream servers and the authority of ACME are verified:
//! those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else those where OpenSSL finds them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{load_certs_from_paths, load_native_certs};

use super::TlsError;
use crate::observe::codes;

/// The authorities: more than a hundred files, read once for all upstreams of a reload. Blocks.
///
/// # Errors
/// There are none; the text ends with `remedy`, the setting that names others.
pub fn of_system(remedy: &str) -> Result<Arc<RootCertStore>, TlsError> {
    static KNOWN: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    const SAME_RELOAD: Duration = Duration::from_secs(1);
    let mut known = KNOWN.lock();
    if let Some((when, roots)) = &*known
        && when.elapsed() < SAME_RELOAD
    {
        return Ok(Arc::clone(roots));
    }
    let (found, defects, why) = match named_by_variables() {
        named if named.is_empty() => {
            let found = load_native_certs();
            let why = found.errors.first().map(|error| format!(": {error}"));
            (found.certs, Vec::new(), why.unwrap_or_default())
        }
        named => {
            let (found, defects) = read_named(&named);
            (found, defects, String::new())
        }
    };
    for defect in &defects {
        tracing::warn!(code = codes::CERTIFICATE, "{defect}");
    }
    let mut roots = RootCertStore::empty();
    // There may be old ones that rustls does not read.
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err(TlsError::new(match defects.first() {
            Some(defect) => format!(
                "there are no certificates of authorities, which https:// servers need: {defect} (correct it, or {remedy})"
            ),
            None => format!(
                "the system has no certificates of authorities, which https:// servers need{why} (install ca-certificates, or {remedy})"
            ),
        }));
    }
    let roots = Arc::new(roots);
    *known = Some((Instant::now(), Arc::clone(&roots)));
    Ok(roots)
}

/// The paths of the variables, each with its variable. Where there is one, no other is used.
fn named_by_variables() -> Vec<(&'static str, PathBuf)> {
    let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let file = file.map(|file| ("SSL_CERT_FILE", file));
    let dirs = std::env::var_os("SSL_CERT_DIR").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&dirs).collect();
    let dirs = dirs.into_iter().map(|dir| ("SSL_CERT_DIR", dir));
    // As the loader does: an empty element of a list means nothing.
    let dirs = dirs.filter(|(_, dir)| !dir.as_os_str().is_empty());
    file.into_iter().chain(dirs).collect()
}

/// The certificates of these paths, and for each path without one the reason. The others are used
/// without it, so that an authority that is trusted may be missing.
fn read_named(named: &[(&str, PathBuf)]) -> (Vec<CertificateDer<'static>>, Vec<String>) {
    let (mut all, mut defects) = (Vec::new(), Vec::new());
    for (variable, path) in named {
        let found = match *variable {
            "SSL_CERT_FILE" => load_certs_from_paths(Some(path), None),
            _ => load_certs_from_paths(None, Some(path)),
        };
        let why = match (found.errors.first(), found.certs.is_empty()) {
            (Some(error), _) => Some(error.to_string()),
            (None, true) => Some("it has no certificates".to_owned()),
            (None, false) => None,
        };
        defects
            .extend(why.map(|why| format!("cannot use {} of {variable}: {why}", path.display())));
        all.extend(found.certs);
    }
    (all, defects)
}
