//! Challenges that are pending: what the server answers when an authority validates a host. They are
//! in the directory too, so that all servers that share it answer, and also after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::der::Key;
use super::error::AcmeError;
use super::jws::sha256;
use super::state::PendingChallenges;
use crate::front::body::Body;
use crate::front::routing::fixed::ACME_CHALLENGES;
use crate::front::tls;
use crate::front::tls::stand_ins::StandIns;

/// Validity of self-signed certificates, in seconds, around now.
const VALID: u64 = 365 * 24 * 3600;

/// The challenges that are pending. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    tokens: Arc<RwLock<HashMap<String, String>>>,
    /// Certificates for handshakes.
    pub stand_ins: Arc<StandIns>,
}

impl Challenges {
    /// The answer to a request for a token that is pending: before redirects, locations and
    /// maintenance mode. Others go on, for instance to the files of certbot.
    pub fn answer(&self, method: &Method, target: &str) -> Option<Response<Body>> {
        let token = target.strip_prefix(ACME_CHALLENGES)?;
        let is_read = *method == Method::GET || *method == Method::HEAD;
        let authorization = self.tokens.read().get(token).filter(|_| is_read).cloned()?;
        tracing::info!(token, "challenge of the authority answered over HTTP");
        let mut response = Response::new(Body::Full(authorization.into()));
        let plain = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        Some(response)
    }

    /// Replaces all.
    ///
    /// # Errors
    /// A certificate for a handshake cannot be made.
    pub fn set(&self, pending: &PendingChallenges) -> Result<(), AcmeError> {
        let mut certificates = HashMap::new();
        for (name, authorization) in &pending.alpn {
            let key = Key::generate()?;
            let digest = sha256(authorization.as_bytes());
            let certificate = key.challenge(name, around_now(), &digest)?;
            certificates.insert(name.clone(), certified(key, certificate)?);
        }
        self.stand_ins.set_challenges(certificates);
        *self.tokens.write() = pending.http.clone().into_iter().collect();
        Ok(())
    }

    /// Uses self-signed certificates for hosts that have no other.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn set_self_signed(&self, names: &[String]) -> Result<(), AcmeError> {
        let mut certificates = HashMap::new();
        for name in names {
            let key = Key::generate()?;
            let certificate = key.self_signed(name, around_now())?;
            certificates.insert(name.clone(), certified(key, certificate)?);
        }
        self.stand_ins.set_self_signed(certificates);
        Ok(())
    }
}

/// From an hour ago, for clocks that are late.
fn around_now() -> (u64, u64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    (now.saturating_sub(3600), now + VALID)
}

fn certified(key: Key, certificate: Vec<u8>) -> Result<Arc<CertifiedKey>, AcmeError> {
    let private = PrivatePkcs8KeyDer::from(key.pkcs8).into();
    let signer = tls::provider().key_provider.load_private_key(private);
    let signer = signer.map_err(|error| AcmeError::internal("cannot use the key", error))?;
    let certificate = CertificateDer::from(certificate);
    Ok(Arc::new(CertifiedKey::new(vec![certificate], signer)))
}
