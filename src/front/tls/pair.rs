//! A certificate with its key, read from two files in PEM and checked.
//!
//! Errors are what makes a pair useless: files that cannot be read, a key of another certificate.
//! All else is a warning: with an expired certificate the server starts, so that an operator can reach it
//! and repair it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::pem::{why_unusable, without_marks};
use super::x509::Certificate;
use super::{TlsError, provider};
use crate::config::native;
use crate::os::key_reader::FileState;
use crate::os::{identity, key_files};

/// Days before the expiry from which on a certificate with a long lifetime is worth a warning.
const DAYS_OF_WARNING: i64 = 14;

/// A pair that can be used.
#[derive(Debug)]
pub struct Pair {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The state of both files when they were read.
    pub stamp: Stamp,
    /// The facts in the certificate.
    pub certificate: Certificate,
    /// Certificate, chain and key as rustls has them.
    pub certified: Arc<CertifiedKey>,
    /// Its defects.
    pub warnings: Vec<String>,
    private: PrivateKeyDer<'static>,
}

/// A pair for the server that takes this one's place, whose user may not be able to read the files.
#[derive(Clone, Serialize, Deserialize)]
pub struct SharedPair {
    /// The certificate's file, and the key's, as [`native::text`].
    files: (String, String),
    chain: Vec<Vec<u8>>,
    private: Vec<u8>,
}

impl fmt::Debug for SharedPair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPair")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl SharedPair {
    /// The certificate's file, and the key's.
    pub fn files(&self) -> (PathBuf, PathBuf) {
        (native::path(&self.files.0), native::path(&self.files.1))
    }
}

/// The state of two files, by which a change is noticed: links are followed, so the target of a link
/// counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp([FileState; 2]);

impl Stamp {
    /// The state of these files; zeros for one that is missing.
    pub fn of(cert: &Path, key: &Path) -> Self {
        Self([cert, key].map(|path| key_files::state(path).unwrap_or_default()))
    }
}

impl Pair {
    /// Reads a pair. Blocks.
    ///
    /// # Errors
    /// Files that cannot be read or used, with the file and the reason.
    pub fn read(cert: &Path, key: &Path, now: SystemTime) -> Result<Self, TlsError> {
        // Before the reads: a change after them is noticed at the next look.
        let stamp = Stamp::of(cert, key);
        Self::of(
            (cert, key),
            stamp,
            certificates(cert, "certificate")?,
            private_key(key)?,
            now,
        )
    }

    /// A pair that another server has read. Blocks.
    ///
    /// # Errors
    /// A pair that this server cannot use.
    pub fn shared(shared: &SharedPair, now: SystemTime) -> Result<Self, TlsError> {
        let (cert, key) = shared.files();
        let stamp = Stamp::of(&cert, &key);
        let chain = shared.chain.iter().cloned().map(CertificateDer::from);
        let private = PrivateKeyDer::try_from(shared.private.clone())
            .map_err(|error| problem("use the key", &key, error.to_owned()))?;
        Self::of((&cert, &key), stamp, chain.collect(), private, now)
    }

    /// The pair for another server.
    pub fn share(&self) -> SharedPair {
        let files = (self.cert.as_os_str(), self.key.as_os_str());
        SharedPair {
            files: (native::text(files.0), native::text(files.1)),
            chain: self.certified.cert.iter().map(|one| one.to_vec()).collect(),
            private: self.private.secret_der().to_vec(),
        }
    }

    fn of(
        (cert, key): (&Path, &Path),
        stamp: Stamp,
        certs: Vec<CertificateDer<'static>>,
        private: PrivateKeyDer<'static>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let first = certs
            .first()
            .ok_or_else(|| problem("use", cert, "it has no certificate".to_owned()))?;
        let certificate = of_file(cert, Certificate::read(first))?;
        let signer = provider()
            .key_provider
            .load_private_key(private.clone_key());
        // The errors of the provider name neither kind nor size.
        let signer = signer.map_err(|_error| {
            let why = "its kind is not supported (give RSA with 2048 to 8192 bits, ECDSA with P-256, P-384 or P-521, or Ed25519)";
            problem("use the key", key, why)
        })?;
        let certified = CertifiedKey::new(certs, signer);
        match certified.keys_match() {
            // A key without a public part to compare.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let order = match has_it_later(&certified) {
                    true => ", but to a later one in that file, which has to be the first",
                    false => "",
                };
                return Err(TlsError::new(format!(
                    "the key {} does not belong to the certificate {} for {}{order}",
                    key.display(),
                    cert.display(),
                    certificate.name()
                )));
            }
        }
        let mut pair = Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            stamp,
            certificate,
            certified: Arc::new(certified),
            warnings: Vec::new(),
            private,
        };
        pair.warnings = pair.defects(now);
        Ok(pair)
    }

    /// `example.org, *.example.org`; the subject where there is no name.
    pub fn names(&self) -> String {
        match self.certificate.names.is_empty() {
            true => self.certificate.subject.clone(),
            false => self.certificate.names.join(", "),
        }
    }

    /// `60 days left`.
    pub fn validity(&self, now: SystemTime) -> String {
        match self.certificate.days_left(now) {
            _ if now < self.certificate.not_before => "not valid yet".to_owned(),
            // Whole days: the first one begins with the expiry.
            -1 => "expired within the last day".to_owned(),
            left @ ..-1 => format!("expired {} ago", days(-left - 1)),
            left => format!("{} left", days(left)),
        }
    }

    /// Days before the expiry from which on it is worth a warning: fewer for a lifetime that is short.
    pub fn days_of_warning(&self) -> i64 {
        let lifetime = self.certificate.days_left(self.certificate.not_before);
        DAYS_OF_WARNING.min(lifetime / 3)
    }

    fn defects(&self, now: SystemTime) -> Vec<String> {
        let (certificate, cert) = (&self.certificate, self.cert.display());
        let mut defects = Vec::new();
        let left = certificate.days_left(now);
        let validity = self.validity(now);
        if now < certificate.not_before || left < self.days_of_warning() {
            defects.push(format!(
                "the certificate {cert} for {}: {validity}",
                self.names()
            ));
        }
        if certificate.names.is_empty() {
            defects.push(format!(
                "the certificate {cert} names no host (subjectAltName): browsers refuse it"
            ));
        }
        defects.extend(self.defect_of_chain());
        let mode = key_files::state(&self.key).map_or(0, |file| file.mode);
        if mode & 0o004 != 0 {
            defects.push(format!(
                "every user can read the key {} (chmod o-r)",
                self.key.display()
            ));
        }
        defects
    }

    /// RFC 8446 §4.4.2: each certificate certifies the one before it; the root may be left out.
    fn defect_of_chain(&self) -> Option<String> {
        let cert = self.cert.display();
        let mut issuer = self.certificate.issuer.clone();
        if self.certified.cert.len() == 1 && !self.certificate.is_self_issued() {
            return Some(format!(
                "the file {cert} has no intermediate certificate: clients that do not know {issuer} refuse it (give the file with the chain, as fullchain.pem of certbot)"
            ));
        }
        for (at, der) in self.certified.cert.iter().enumerate().skip(1) {
            let number = at + 1;
            let next = match Certificate::read(der) {
                Ok(next) => next,
                Err(error) => {
                    return Some(format!(
                        "the chain in {cert} is out of order: certificate {number} cannot be read: {error}"
                    ));
                }
            };
            if self.certified.cert[..at].contains(der) {
                return Some(format!(
                    "the chain in {cert} is out of order: certificate {number}, {}, is there twice (remove it)",
                    next.subject
                ));
            }
            if next.subject != issuer {
                return Some(format!(
                    "the chain in {cert} is out of order: certificate {number} is {}, where {issuer} has to be, which issued the one before it",
                    next.subject
                ));
            }
            issuer = next.issuer;
        }
        None
    }

    /// The kind of the key: the number (RFC 8446 §4.2.3) of the signature that it makes for a client of
    /// all kinds.
    pub fn kind_of_key(&self) -> Option<u16> {
        let all = provider()
            .signature_verification_algorithms
            .supported_schemes();
        self.certified
            .key
            .choose_scheme(&all)
            .map(|signer| signer.scheme().into())
    }
}

/// True if the key belongs to a certificate behind the first one.
fn has_it_later(certified: &CertifiedKey) -> bool {
    certified.cert.iter().skip(1).any(|one| {
        let alone = CertifiedKey::new(vec![one.clone()], Arc::clone(&certified.key));
        alone.keys_match().is_ok()
    })
}

fn days(days: i64) -> String {
    match days {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// The certificates in a file, at least one. `what` says what they are, in errors.
pub(super) fn certificates(
    path: &Path,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, what)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.and_then(|all| match all.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(all),
    });
    all.map_err(|error| {
        let why = why_unusable(&error, &text, "CERTIFICATE", "x509");
        problem(&format!("use the {what}"), path, why)
    })
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, "key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = text
            .windows(ENCRYPTED.len())
            .any(|bytes| bytes == ENCRYPTED);
        let why = match is_encrypted {
            true => "it is encrypted with a password (decrypt it: openssl pkey -in FILE -out NEW)"
                .to_owned(),
            false => why_unusable(&error, &text, "PRIVATE KEY", "pkey"),
        };
        problem("use the key", path, why)
    })
}

/// In the first line of PKCS #8, or in the header of older files.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

pub(super) fn read(path: &Path, what: &str) -> Result<Vec<u8>, TlsError> {
    let text = key_files::read(path).map_err(|error| {
        let doing = format!("read the {what}");
        match error.kind() {
            io::ErrorKind::InvalidData => problem(&doing, path, "not a file in PEM"),
            _ => problem(&doing, path, why_unread(&error)),
        }
    })?;
    Ok(without_marks(text))
}

/// The error, with the remedy where this user may not read a file.
pub(super) fn why_unread(error: &io::Error) -> String {
    match (error.kind(), identity::own()) {
        (io::ErrorKind::PermissionDenied, (0, _)) => format!(
            "{error} (root has no CAP_DAC_READ_SEARCH here: change the owner, or start the server as that one)"
        ),
        (io::ErrorKind::PermissionDenied, (uid, gid)) => format!(
            "{error} (uid {uid} reads it once it belongs to group {gid}, by chgrp, and has mode 640; with --uid, root reads it at a restart, and new pairs in a directory that is a --tls-cert since the start)"
        ),
        _ => error.to_string(),
    }
}

fn of_file<T>(path: &Path, read: Result<T, TlsError>) -> Result<T, TlsError> {
    read.map_err(|error| problem("use the certificate", path, error))
}

pub(super) fn problem(doing: &str, path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::new(format!("cannot {doing} {}: {why}", path.display()))
}
