//! The files of TLS at the start: certificates and authorities are read and checked while this
//! process may still be root, and the directory of ACME is created.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::config::locations::Handler;
use crate::config::tls::CertificateFiles;
use crate::config::upstream::UpstreamTls;
use crate::front::acme::store;
use crate::front::tls::certificates::Certificates;
use crate::front::tls::pair::SharedPair;
use crate::front::tls::upstream::TlsToServers;
use crate::front::tls::{client_auth, files};
use crate::observe::codes;
use crate::os::identity;

/// Reads the certificates, and logs their defects. Those for upstream servers are only checked.
/// `known` are those of the server whose place this one takes.
pub fn read(config: &Config, known: &[SharedPair]) -> anyhow::Result<Option<Arc<Certificates>>> {
    for tls in tls_to_servers(config) {
        TlsToServers::new(tls)?;
    }
    let certificates = certificates_of_listeners(config, known)?;
    // Only root can look with the eyes of another user.
    let run_as = config.run_as.as_ref();
    if let Some(run_as) = run_as.filter(|_| identity::own().0 == 0) {
        stay_able_to_read(config, certificates.as_deref(), (run_as.uid, run_as.gid))?;
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

/// Sees to it that files of TLS can be read when this process is that user, if need be by a process
/// that stays root.
fn stay_able_to_read(
    config: &Config,
    certificates: Option<&Certificates>,
    (uid, gid): (u32, u32),
) -> anyhow::Result<()> {
    let (mut paths, mut directories) = (Vec::new(), Vec::new());
    for tls in tls_to_servers(config) {
        paths.extend(tls.ca.clone());
        let own = tls.own.iter();
        paths.extend(own.flat_map(|own| [own.cert.clone(), own.key.clone()]));
    }
    if let Some(tls) = &config.https.tls {
        for one in &tls.certificates {
            match one {
                CertificateFiles::Pair { cert, key } => paths.extend([cert.clone(), key.clone()]),
                CertificateFiles::Directory(dir) => directories.push(dir.clone()),
                // It belongs to that user.
                CertificateFiles::Managed { .. } => {}
            }
        }
        let client = tls.client.iter();
        paths.extend(client.flat_map(|client| client.crls.iter().chain([&client.ca]).cloned()));
    }
    let pairs = certificates.map(Certificates::pairs).unwrap_or_default();
    let of_pairs = pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    let all: Vec<_> = of_pairs.chain(&paths).cloned().collect();
    let look = || -> Vec<_> {
        let error_of = |file: &PathBuf| Some((file.clone(), files::read(file).err()?));
        all.iter().filter_map(error_of).collect()
    };
    let unreadable = || identity::acting_as(uid, gid, look);
    if unreadable()?.is_empty() {
        return Ok(());
    }
    match files::start_reader(&paths, &directories) {
        Ok(()) => {
            tracing::info!("a process that stays root reads keys that uid {uid} cannot read");
        }
        Err(error) => tracing::debug!(%error, "no process that stays root"),
    }
    for (file, error) in unreadable()? {
        tracing::warn!(
            code = codes::CERTIFICATE,
            "a renewed certificate cannot be read after the start: uid {uid} may not read {}: {error} (give the file to a group of that user with chgrp and chmod 640, or restart the server after each renewal)",
            file.display()
        );
    }
    Ok(())
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
