//! The authorities of the system, by which upstream servers and the authority of ACME are verified:
//! those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else those where OpenSSL finds them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::RootCertStore;

use super::TlsError;

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
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // There may be old ones that rustls does not read.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        return Err(TlsError::new(format!(
            "the system has no certificates of authorities, which https:// servers need{} (install ca-certificates, or {remedy})",
            why.unwrap_or_default()
        )));
    }
    let roots = Arc::new(roots);
    *known = Some((Instant::now(), Arc::clone(&roots)));
    Ok(roots)
}
