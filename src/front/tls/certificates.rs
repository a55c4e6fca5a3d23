//! The certificates of the server: chosen by the name that a client asks for, and read again when
//! their files change.
//!
//! 1. [`Certificates::read`] reads all pairs at the start; an error ends it.
//! 2. [`Certificates::look`], called now and then, compares the state of the files with the one in
//!    which they were read. A pair that changed is read again. If it cannot be used, the one before
//!    stays: certificate and key are rarely written at the same moment, so only a pair that stays
//!    like this for [`SETTLES`] is reported.
//! 3. rustls asks for the certificate of each handshake.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::pair::{Pair, SharedPair, Stamp, problem, why_unread};
use crate::config::tls::CertificateFiles;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::key_files;

/// Interval between two looks at the files.
pub const LOOK: Duration = Duration::from_secs(1);
/// Time for which a broken pair, or one without files, is taken for one that is being written.
const SETTLES: Duration = Duration::from_secs(2);
/// Interval of the warnings that a certificate expires.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The certificates of the server.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<CertificateFiles>,
    current: RwLock<Arc<Named>>,
    watch: Mutex<Watch>,
}

/// State of the looks at the files.
#[derive(Debug, Default)]
struct Watch {
    /// Changed pairs that cannot be used, by the certificate's file.
    broken: HashMap<PathBuf, Broken>,
    /// Pairs whose files are gone, and since when, by the certificate's file.
    gone: HashMap<PathBuf, Instant>,
    /// Times of the last warnings of an expiry, by the certificate's file.
    warned: HashMap<PathBuf, Instant>,
}

#[derive(Debug)]
struct Broken {
    stamp: Stamp,
    since: Instant,
    error: String,
    is_reported: bool,
}

/// Pairs, and the positions of those with a name.
#[derive(Debug)]
struct Named {
    pairs: Vec<Arc<Pair>>,
    by_name: HashMap<String, Vec<usize>>,
    /// Hosts for which ACME orders a certificate.
    managed: Vec<String>,
}

impl Certificates {
    /// Reads all certificates. Blocks.
    ///
    /// # Errors
    /// The first pair that cannot be used.
    pub fn read(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        Self::read_or_share(files, &[])
    }

    /// The same; pairs that this user may not read are those of the server whose place this one takes.
    /// Blocks.
    ///
    /// # Errors
    /// The first pair that cannot be used.
    pub fn read_or_share(
        files: &[CertificateFiles],
        shared: &[SharedPair],
    ) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let mut pairs = Vec::new();
        for one in files {
            let mut found = places(one);
            if let CertificateFiles::Managed { .. } = one {
                pairs.extend(found.iter().filter_map(|(file, _)| managed(file, now)));
                continue;
            }
            if let (CertificateFiles::Directory(dir), true) = (one, found.is_empty()) {
                let below = shared.iter().map(SharedPair::files);
                found.extend(below.filter(|(cert, _)| cert.starts_with(dir)));
            }
            if let (CertificateFiles::Directory(dir), true) = (one, found.is_empty()) {
                let names = key_files::names(dir);
                names.map_err(|error| problem("look into", dir, why_unread(&error)))?;
                return Err(TlsError::new(format!(
                    "no certificates in {one} (tls.crt with tls.key, fullchain.pem with privkey.pem, or NAME.crt with NAME.key, there or in its directories)"
                )));
            }
            for (cert, key) in found {
                let pair = Pair::read(&cert, &key, now).or_else(|error| {
                    let is_it = |pair: &&SharedPair| pair.files() == (cert.clone(), key.clone());
                    let kept = shared.iter().find(is_it).filter(|_| is_denied(&cert, &key));
                    kept.map_or(Err(error), |kept| Pair::shared(kept, now))
                });
                pairs.push(Arc::new(pair?));
            }
        }
        let certificates = Self {
            files: files.to_vec(),
            current: RwLock::new(Arc::new(Named::new(pairs, files))),
            watch: Mutex::default(),
        };
        certificates.publish();
        Ok(certificates)
    }

    /// The files of the certificates.
    pub fn files(&self) -> &[CertificateFiles] {
        &self.files
    }

    /// The current pairs.
    pub fn pairs(&self) -> Vec<Arc<Pair>> {
        self.current.read().pairs.clone()
    }

    /// True if a connection for one name may carry requests for another: they have the same
    /// certificate (RFC 9113 §9.1.1).
    pub fn are_same(&self, one: &str, other: &str) -> bool {
        if one.eq_ignore_ascii_case(other) {
            return true;
        }
        let current = Arc::clone(&self.current.read());
        let of = |name: &str| {
            let name = name.to_ascii_lowercase();
            current.of(Some(&name)).next().cloned()
        };
        match (of(one), of(other)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
            _ => false,
        }
    }

    /// The host without a certificate whose first one is awaited, where a client asks for `name`; for
    /// one that is unknown where there is no certificate at all.
    pub fn awaited(&self, name: Option<&str>) -> Option<String> {
        let current = self.current.read();
        let asked = name.filter(|name| current.managed.iter().any(|managed| managed == name));
        match asked {
            Some(name) => (!current.covers(name)).then(|| name.to_owned()),
            None if current.pairs.is_empty() => current.managed.first().cloned(),
            None => None,
        }
    }

    /// Defects of the current pairs; the expiry is not warned of again for a day.
    pub fn warnings(&self) -> Vec<String> {
        let mut watch = self.watch.lock();
        let pairs = self.pairs();
        for pair in &pairs {
            watch.warned.insert(pair.cert.clone(), Instant::now());
        }
        let warnings = pairs.iter().flat_map(|pair| &pair.warnings);
        warnings.cloned().chain(unused(&pairs)).collect()
    }

    /// Reads pairs whose files have changed, and logs what came of it. Blocks.
    pub fn look(&self) {
        let mut watch = self.watch.lock();
        let (now, time) = (Instant::now(), SystemTime::now());
        let before = self.pairs();
        let mut pairs = Vec::new();
        let mut has_changed = false;
        for (cert, key) in self.files.iter().flat_map(places) {
            let old = before.iter().find(|pair| pair.cert == cert);
            let stamp = Stamp::of(&cert, &key);
            if let Some(old) = old.filter(|old| old.stamp == stamp) {
                watch.broken.remove(&cert);
                pairs.push(Arc::clone(old));
                continue;
            }
            match watch.read(&cert, &key, stamp, (now, time), old.is_some()) {
                Some(pair) => {
                    has_changed = true;
                    pairs.push(Arc::new(pair));
                }
                None => pairs.extend(old.cloned()),
            }
        }
        let kept = watch.missing(&before, &pairs, now);
        has_changed |= pairs.len() + kept.len() < before.len();
        pairs.extend(kept);
        if has_changed {
            *self.current.write() = Arc::new(Named::new(pairs, &self.files));
            self.publish();
        }
        self.warn_of_expiry(&mut watch, now, time);
    }

    fn warn_of_expiry(&self, watch: &mut Watch, now: Instant, time: SystemTime) {
        for pair in self.pairs() {
            let is_near = pair.certificate.days_left(time) < pair.days_of_warning();
            let last = watch.warned.get(&pair.cert);
            let is_due = last.is_none_or(|last| now.duration_since(*last) >= WARN_AGAIN);
            if is_near && is_due {
                watch.warned.insert(pair.cert.clone(), now);
                tracing::warn!(code = codes::CERTIFICATE, names = pair.names(), file = %pair.cert.display(),
                    "certificate expires: {}", pair.validity(time));
            }
        }
    }

    /// Sets the metrics of expiry.
    fn publish(&self) {
        let pairs = self.pairs();
        let all = pairs.iter().map(|pair| {
            let certificate = &pair.certificate;
            (certificate.name().to_owned(), certificate.expiry())
        });
        METRICS.tls.set_certificates(all.collect());
    }
}

impl Watch {
    /// Of the pairs of before those whose files are gone, and that stay in use: a directory may lack
    /// one for a moment, or seem empty, while its links are exchanged. The others are logged.
    fn missing(
        &mut self,
        before: &[Arc<Pair>],
        found: &[Arc<Pair>],
        now: Instant,
    ) -> Vec<Arc<Pair>> {
        let is_missing = |old: &&Arc<Pair>| !found.iter().any(|pair| pair.cert == old.cert);
        let missing: Vec<_> = before.iter().filter(is_missing).cloned().collect();
        let is_known = |cert: &PathBuf| missing.iter().any(|old| old.cert == *cert);
        self.gone.retain(|cert, _| is_known(cert));
        let mut stays = |old: &Arc<Pair>| {
            let since = *self.gone.entry(old.cert.clone()).or_insert(now);
            let stays = found.is_empty() || now.duration_since(since) < SETTLES;
            if !stays {
                tracing::warn!(code = codes::CERTIFICATE, names = old.names(), file = %old.cert.display(),
                    "certificate no longer used: its files are gone");
            }
            stays
        };
        missing.iter().filter(|old| stays(old)).cloned().collect()
    }

    /// Reads a pair that is new or has changed. `None`: it cannot be used, which is logged once.
    fn read(
        &mut self,
        cert: &Path,
        key: &Path,
        stamp: Stamp,
        (now, time): (Instant, SystemTime),
        has_old: bool,
    ) -> Option<Pair> {
        if let Some(broken) = self.broken.get_mut(cert)
            && broken.stamp == stamp
        {
            if !broken.is_reported && now.duration_since(broken.since) >= SETTLES {
                broken.is_reported = true;
                let meanwhile = match has_old {
                    true => "the one before stays in use",
                    false => "it is not used",
                };
                tracing::error!(
                    code = codes::CERTIFICATE,
                    error = broken.error,
                    "new certificate refused: {meanwhile}"
                );
            }
            return None;
        }
        match Pair::read(cert, key, time) {
            Ok(pair) => {
                self.broken.remove(cert);
                self.warned.insert(cert.to_owned(), now);
                tracing::info!(names = pair.names(), file = %cert.display(), "certificate read: {}", pair.validity(time));
                for warning in &pair.warnings {
                    tracing::warn!(code = codes::CERTIFICATE, "{warning}");
                }
                Some(pair)
            }
            Err(error) => {
                let broken = Broken {
                    stamp,
                    since: now,
                    error: error.to_string(),
                    is_reported: false,
                };
                self.broken.insert(cert.to_owned(), broken);
                None
            }
        }
    }
}

impl Named {
    fn new(pairs: Vec<Arc<Pair>>, files: &[CertificateFiles]) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            for name in &pair.certificate.names {
                by_name.entry(name.clone()).or_default().push(at);
            }
        }
        let managed = files.iter().filter_map(|files| match files {
            CertificateFiles::Managed { name, .. } => Some(name.clone()),
            CertificateFiles::Pair { .. } | CertificateFiles::Directory(_) => None,
        });
        Self {
            pairs,
            by_name,
            managed: managed.collect(),
        }
    }

    /// The positions of the pairs with a name, or with a wildcard for it.
    fn with_name(&self, name: &str) -> Option<&Vec<usize>> {
        self.by_name.get(name).or_else(|| {
            // RFC 9525 §6.3: for one label.
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }

    fn covers(&self, name: &str) -> bool {
        self.with_name(name).is_some()
    }

    /// The pairs for a name: those that have it, else those with a wildcard for it, else the first.
    fn of(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<Pair>> {
        let found = name.and_then(|name| self.with_name(name));
        let found = found.map_or(&[0][..], Vec::as_slice);
        found.iter().filter_map(|at| self.pairs.get(*at))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let current = Arc::clone(&self.current.read());
        let mut candidates = current.of(name.as_deref());
        let first = candidates.next()?;
        // There may be an RSA and an ECDSA certificate for one name.
        let is_usable = |pair: &&Arc<Pair>| {
            let schemes = hello.signature_schemes();
            pair.certified.key.choose_scheme(schemes).is_some()
        };
        let chosen = std::iter::once(first).chain(candidates).find(is_usable);
        Some(Arc::clone(&chosen.unwrap_or(first).certified))
    }
}

/// Warnings of pairs that no client gets: others before them have all of their names, and a key of the
/// same kind.
fn unused(pairs: &[Arc<Pair>]) -> Vec<String> {
    let mut first: HashMap<_, &Pair> = HashMap::new();
    let mut warnings = Vec::new();
    for pair in pairs {
        let kind = pair.kind_of_key();
        let names = &pair.certificate.names;
        let hides = names.iter().map(|name| first.get(&(kind, name)).copied());
        let hides: Option<Vec<_>> = hides.collect();
        if let Some(hides) = hides.as_ref().and_then(|hides| hides.first()) {
            warnings.push(format!(
                "the certificate {} for {} is not used: {} before it has its names, and a key of the same kind (remove one of them)",
                pair.cert.display(),
                pair.names(),
                hides.cert.display()
            ));
        }
        for name in names {
            first.entry((kind, name)).or_insert(pair);
        }
    }
    warnings
}

/// A pair in a file that ACME writes. One that cannot be used is ordered anew.
fn managed(file: &Path, now: SystemTime) -> Option<Arc<Pair>> {
    match Pair::read(file, file, now) {
        Ok(pair) => Some(Arc::new(pair)),
        Err(error) => {
            tracing::error!(code = codes::CERTIFICATE, %error, "certificate of ACME not used");
            None
        }
    }
}

/// True if neither this user nor the process that stays root may read one of the files.
fn is_denied(cert: &Path, key: &Path) -> bool {
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    [cert, key]
        .iter()
        .any(|file| key_files::read(file).is_err_and(refused))
}

/// The pairs of files at a place.
fn places(files: &CertificateFiles) -> Vec<(PathBuf, PathBuf)> {
    match files {
        CertificateFiles::Pair { cert, key } => vec![(cert.clone(), key.clone())],
        CertificateFiles::Managed { file, .. } if file.is_file() => {
            vec![(file.clone(), file.clone())]
        }
        CertificateFiles::Managed { .. } => Vec::new(),
        CertificateFiles::Directory(dir) => {
            let mut found = pairs_in(dir);
            for below in entries(dir) {
                // `..data` and `..2026_11_28` of Kubernetes are targets of the links beside them.
                let is_hidden = below
                    .file_name()
                    .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
                if !is_hidden && is_dir(&below) {
                    found.extend(pairs_in(&below));
                }
            }
            found
        }
    }
}

/// Names of a certificate and its key: Kubernetes' and certbot's.
const FIXED_NAMES: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("fullchain.pem", "privkey.pem")];

fn pairs_in(dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for (cert, key) in FIXED_NAMES {
        let (cert, key) = (dir.join(cert), dir.join(key));
        if is_file(&cert) && is_file(&key) {
            found.push((cert, key));
        }
    }
    for cert in entries(dir) {
        let is_certificate = cert
            .extension()
            .is_some_and(|ending| ending == "crt" || ending == "pem");
        let key = cert.with_extension("key");
        let is_known = found.iter().any(|(known, _)| *known == cert);
        if is_certificate && !is_known && is_file(&key) {
            found.push((cert, key));
        }
    }
    found
}

/// The entries of a directory, sorted: the first pair is the default.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let names = key_files::names(dir).unwrap_or_default();
    names.into_iter().map(|name| dir.join(name)).collect()
}

fn is_file(path: &Path) -> bool {
    key_files::state(path).is_ok_and(|state| state.is_file())
}

fn is_dir(path: &Path) -> bool {
    key_files::state(path).is_ok_and(|state| state.is_dir())
}
