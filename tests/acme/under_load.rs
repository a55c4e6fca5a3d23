//! Renewals while clients send requests; `benches/acme_renewals.py` has the full size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{pebble, server, start_short_lived, wait_for_certificate};
use crate::support::raw::Connection;
use crate::support::server::get;
use crate::support::temp_dir;

#[test]
fn renewals_fail_no_request_on_kept_and_new_connections() {
    let Some(mut pebble) = pebble("renewals under load") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    start_short_lived(&mut pebble, &server);
    let mut current = wait_for_certificate(&server, "one.test", None);
    let client = client(&pebble.root());
    let (port, is_over, answered) = (
        server.tls_port(),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let connect = || {
        let connection = Connection::tcp(port).secured(Arc::clone(&client), "one.test");
        connection.expect("a handshake")
    };
    let ask = |connection: &mut Connection| {
        assert_eq!(connection.exchange(get("/")).status(), 200);
        answered.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = connect();
            while !is_over.load(Ordering::Relaxed) {
                ask(&mut kept);
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ask(&mut connect());
            }
        });
        for _ in 0..2 {
            current = wait_for_certificate(&server, "one.test", Some(&current));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 100, "{answered:?}");
}

/// A client that trusts the authority alone.
fn client(root: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
