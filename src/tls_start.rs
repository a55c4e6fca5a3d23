//! The files of TLS at the start: certificates and authorities are read and checked while this
//! process may still be root, and the directory of ACME is created.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::config::locations::Handler;
use crate::config::tls::CertificateFiles;
use crate::config::upstream::UpstreamTls;
use crate::front::acme::store;
use crate::front::tls::certificates::Certificates;
use crate::front::tls::client_auth;
use crate::front::tls::pair::SharedPair;
use crate::front::tls::upstream::TlsToServers;
use crate::observe::codes;
use crate::os::{identity, key_files};

/// Reads the certificates, and logs their defects. Those for upstream servers are only checked.
/// `known` are those of the server whose place this one takes.
pub fn read(config: &Config, known: &[SharedPair]) -> anyhow::Result<Option<Arc<Certificates>>> {
    for tls in tls_to_servers(config) {
        TlsToServers::new(tls)?;
    }
    let certificates = certificates_of_listeners(config, known)?;
    let files = Files::of(config, certificates.as_deref());
    match &config.run_as {
        // Only root can look with the eyes of another user.
        Some(run_as) if identity::own().0 == 0 => {
            stay_able_to_read(&files, (run_as.uid, run_as.gid))?;
        }
        // Others have just read all files themselves, but for pairs of the server before.
        _ => {
            if !known.is_empty() {
                warn_of_unreadable(&files.unreadable(), identity::own());
            }
        }
    }
    Ok(certificates)
}

fn tls_to_servers(config: &Config) -> impl Iterator<Item = &UpstreamTls> {
    let handlers = config.locations.iter().map(|location| &location.handler);
    handlers.filter_map(|handler| match handler {
        Handler::Upstream(settings) => settings.tls.as_ref(),
        _ => None,
    })
}

fn certificates_of_listeners(
    config: &Config,
    known: &[SharedPair],
) -> anyhow::Result<Option<Arc<Certificates>>> {
    let Some(tls) = &config.https.tls else {
        return Ok(None);
    };
    let certificates = Certificates::read_or_share(&tls.certificates, known)?;
    if let Some(client) = &tls.client {
        client_auth::verifier(client)?;
    }
    for warning in certificates.warnings() {
        tracing::warn!(code = codes::CERTIFICATE, "{warning}");
    }
    Ok(Some(Arc::new(certificates)))
}

/// The files of TLS that have to be readable after the start.
struct Files {
    /// Those of the settings.
    named: Vec<PathBuf>,
    /// Directories of pairs.
    directories: Vec<PathBuf>,
    /// The files of the current pairs, also of those in directories.
    of_pairs: Vec<PathBuf>,
}

impl Files {
    fn of(config: &Config, certificates: Option<&Certificates>) -> Self {
        let (mut named, mut directories) = (Vec::new(), Vec::new());
        for tls in tls_to_servers(config) {
            named.extend(tls.ca.clone());
            let own = tls.own.iter();
            named.extend(own.flat_map(|own| [own.cert.clone(), own.key.clone()]));
        }
        if let Some(tls) = &config.https.tls {
            for one in &tls.certificates {
                match one {
                    CertificateFiles::Pair { cert, key } => {
                        named.extend([cert.clone(), key.clone()]);
                    }
                    CertificateFiles::Directory(dir) => directories.push(dir.clone()),
                    // It belongs to the user of the server.
                    CertificateFiles::Managed { .. } => {}
                }
            }
            let client = tls.client.iter();
            named.extend(client.flat_map(|client| client.crls.iter().chain([&client.ca]).cloned()));
        }
        let pairs = certificates.map(Certificates::pairs).unwrap_or_default();
        let of_pairs = pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        Self {
            named,
            directories,
            of_pairs: of_pairs.cloned().collect(),
        }
    }

    /// Those that cannot be read now, with the reason.
    fn unreadable(&self) -> Vec<(PathBuf, io::Error)> {
        let all: BTreeSet<_> = self.named.iter().chain(&self.of_pairs).collect();
        let error_of = |file: &PathBuf| Some((file.clone(), key_files::read(file).err()?));
        all.into_iter().filter_map(error_of).collect()
    }
}

/// Sees to it that files of TLS can be read when this process is that user, if need be by a process
/// that stays root.
fn stay_able_to_read(files: &Files, (uid, gid): (u32, u32)) -> anyhow::Result<()> {
    let unreadable = || identity::acting_as(uid, gid, || files.unreadable());
    if unreadable()?.is_empty() {
        return Ok(());
    }
    match key_files::start_reader(&files.named, &files.directories) {
        Ok(()) => {
            tracing::info!("a process that stays root reads keys that uid {uid} cannot read");
        }
        Err(error) => tracing::debug!(%error, "no process that stays root"),
    }
    warn_of_unreadable(&unreadable()?, (uid, gid));
    Ok(())
}

fn warn_of_unreadable(files: &[(PathBuf, io::Error)], (uid, gid): (u32, u32)) {
    for (file, error) in files {
        tracing::warn!(
            code = codes::CERTIFICATE,
            "a renewed certificate cannot be read after the start: uid {uid} may not read {}: {error} (give the file to its group {gid} with chgrp and chmod 640, or restart the server after each renewal)",
            file.display()
        );
    }
}

/// Creates the directory of ACME while this is possible, and says at the start if the server is not
/// going to be able to write there.
pub fn prepare_acme(config: &Config) -> anyhow::Result<()> {
    let Some(acme) = &config.https.acme else {
        return Ok(());
    };
    let owner = config
        .run_as
        .as_ref()
        .filter(|_| identity::own().0 == 0)
        .map(|run_as| (run_as.uid, run_as.gid));
    let tried = match store::create(&acme.dir, owner) {
        Err(error) => Err(error),
        Ok(()) => match owner {
            None => store::try_directory(&acme.dir),
            Some((uid, gid)) => identity::acting_as(uid, gid, || store::try_directory(&acme.dir))?,
        },
    };
    if let Err(error) = tried {
        let uid = owner.map_or(identity::own().0, |(uid, _)| uid);
        tracing::error!(code = codes::ACME, uid, "no certificates by ACME: {error}");
    }
    Ok(())
}
