//! First certificates and renewals.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{
    certificate_in, handshake, pebble, server, start, start_short_lived, status,
    wait_for_certificate, wait_for_status, with_acme,
};
use crate::support::pebble::PebbleSettings;
use crate::support::server::{Pyserve, get};
use crate::support::temp_dir;

#[test]
fn the_first_certificate_comes_by_http_before_redirects_and_maintenance() {
    let Some(mut pebble) = pebble("a certificate by HTTP-01") else {
        return;
    };
    let dir = temp_dir();
    let store = dir.path().join("acme");
    let server = server(&pebble, &store, &["one.test"])
        .args(["--acme-challenge", "http-01", "--redirect-to-https", "8443"])
        .ready();
    assert_eq!(server.get("/").status(), 301);
    // RFC 8446 §6.2: an alert, and no certificate of another host.
    assert_eq!(certificate_in(&handshake(&server, "one.test")), None);
    server
        .stderr
        .wait_for("TLS handshakes refused: the first certificate is not there yet");
    wait_for_status(&server, "one.test", "state", &json!("ordering"));
    let maintenance = std::process::Command::new(env!("CARGO_BIN_EXE_pyserve"))
        .args(["maintenance", "on"])
        .env("PYSERVE_CONTROL", server.probe.path("control"))
        .output()
        .unwrap();
    assert!(maintenance.status.success(), "{maintenance:?}");
    start(&mut pebble, &server);
    wait_for_certificate(&server, "one.test", None);
    for line in [
        "ACME account made",
        "certificate ordered",
        "challenge of the authority answered over HTTP",
        "certificate issued",
        "certificate read: ",
    ] {
        server.stderr.wait_for(line);
    }
    wait_for_status(&server, "one.test", "state", &json!("valid"));
    let entry = status(&server, "one.test");
    assert_eq!(entry["failures"], 0);
    assert!(
        entry["next_attempt"].as_str() < entry["expires"].as_str(),
        "{entry}"
    );
    let state = "pyserve_acme_certificate_state{name=\"one.test\",state=\"valid\"}";
    assert_eq!(server.metric(state), Some(1.0));
    assert_eq!(
        server.metric("pyserve_acme_orders_total{outcome=\"issued\"}"),
        Some(1.0)
    );
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store), 0o700);
    for entry in std::fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    // Nothing is answered for a challenge that is over.
    let token = "/.well-known/acme-challenge/anything";
    assert_ne!(server.get(token).text(), "");
    let account = &pebble.seen("/sign-me-up")[0].payload;
    assert_eq!(account["termsOfServiceAgreed"], true);
}

#[test]
fn a_certificate_comes_by_a_handshake_where_there_is_no_plain_http() {
    let Some(mut pebble) = pebble("a certificate by TLS-ALPN-01") else {
        return;
    };
    let dir = temp_dir();
    let server = Pyserve::app("environ.py").args(["--bind", "https://127.0.0.1:0"]);
    let server = with_acme(server, &pebble, dir.path(), &["alpn.test", "second.test"]).started();
    server.stderr.wait_for("ready in ");
    pebble.start(1, server.tls_port(), &PebbleSettings::default());
    wait_for_certificate(&server, "alpn.test", None);
    wait_for_certificate(&server, "second.test", None);
    server
        .stderr
        .wait_for("challenge of the authority answered in a TLS handshake");
    // Once a challenge is over its protocol has no certificate (RFC 8737 §3).
    let said = std::process::Command::new("openssl")
        .args([
            "s_client",
            "-alpn",
            "acme-tls/1",
            "-servername",
            "alpn.test",
            "-connect",
        ])
        .arg(format!("127.0.0.1:{}", server.tls_port()))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(certificate_in(&said), None, "{said}");
}

#[test]
fn the_window_of_the_authority_renews_a_certificate_early_and_connections_go_on() {
    let Some(mut pebble) = pebble("a renewal by renewal information") else {
        return;
    };
    let dir = temp_dir();
    pebble.set_windows(&[(-7200, -3600), (86400, 2 * 86400)]);
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    let mut kept = server.connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
    start(&mut pebble, &server);
    let first = wait_for_certificate(&server, "one.test", None);
    wait_for_certificate(&server, "one.test", Some(&first));
    server.stderr.wait_for("renewal window of the authority");
    assert_eq!(kept.exchange(get("/")).status(), 200);
    let orders = pebble.seen("/order-plz");
    let signed: Vec<_> = orders
        .iter()
        .filter(|seen| seen.payload.is_object())
        .collect();
    let replaced = |at: usize| signed[at].payload["replaces"].as_str();
    assert_eq!(replaced(0), None);
    // RFC 9773 §5, §4.1: two parts in base64url, the ones of the question.
    let replaces = signed.last().unwrap().payload["replaces"].as_str().unwrap();
    let asked = &pebble.seen("/renewal-info/")[0].path;
    assert_eq!(asked.strip_prefix("/renewal-info/"), Some(replaces));
    assert_eq!(replaces.split('.').count(), 2, "{replaces}");
    // The next window is tomorrow.
    let line = server
        .stderr
        .wait_for_nth("renewal window of the authority", 2);
    assert!(line.contains("one.test"), "{line}");
    wait_for_status(&server, "one.test", "state", &json!("valid"));
    let issued = "pyserve_acme_orders_total{outcome=\"issued\"}";
    assert_eq!(server.metric(issued), Some(2.0));
}

#[test]
fn an_authority_whose_windows_are_always_over_gets_no_endless_orders() {
    let Some(mut pebble) = pebble("renewal information that is always over") else {
        return;
    };
    let dir = temp_dir();
    pebble.set_windows(&[(-7200, -3600)]);
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    start(&mut pebble, &server);
    // The first and two early ones; then the usual time.
    server.stderr.wait_for_nth("certificate issued", 3);
    server
        .stderr
        .wait_for_nth("renewal window of the authority", 3);
    wait_for_status(&server, "one.test", "state", &json!("valid"));
    let entry = status(&server, "one.test");
    let next = entry["next_attempt_at"].as_u64().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(next > now + 86400, "{entry}");
}

#[test]
fn a_self_signed_certificate_is_used_only_if_asked_for_and_only_until_the_first() {
    let Some(mut pebble) = pebble("a self-signed certificate") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"])
        .args(["--acme-self-signed", "yes"])
        .ready();
    let said = handshake(&server, "one.test");
    assert!(
        said.contains("issuer=CN = pyserve self-signed")
            || said.contains("issuer=CN=pyserve self-signed"),
        "{said}"
    );
    start(&mut pebble, &server);
    wait_for_certificate(&server, "one.test", None);
}

#[test]
fn certificates_of_files_are_used_beside_those_of_acme() {
    let Some(mut pebble) = pebble("certificates of files beside those of ACME") else {
        return;
    };
    let dir = temp_dir();
    let server = with_acme(
        Pyserve::app("environ.py").with_tls(),
        &pebble,
        dir.path(),
        &["one.test"],
    )
    .ready();
    assert!(certificate_in(&handshake(&server, "localhost")).is_some());
    // Not the one of the other host.
    assert_eq!(certificate_in(&handshake(&server, "one.test")), None);
    start(&mut pebble, &server);
    wait_for_certificate(&server, "one.test", None);
    let said = handshake(&server, "localhost");
    assert!(!said.contains("Pebble"), "{said}");
}

#[test]
fn another_authority_issues_the_certificate_anew_and_the_one_in_use_goes_on_meanwhile() {
    let (Some(mut first), Some(mut second)) = (pebble("an authority"), pebble("another authority"))
    else {
        return;
    };
    let dir = temp_dir();
    let server_of_first = server(&first, dir.path(), &["one.test"]).ready();
    start(&mut first, &server_of_first);
    let before = wait_for_certificate(&server_of_first, "one.test", None);
    drop(server_of_first);
    let server = server(&second, dir.path(), &["one.test"]).ready();
    let said = handshake(&server, "one.test");
    assert_eq!(certificate_in(&said).as_deref(), Some(&*before), "{said}");
    start(&mut second, &server);
    wait_for_certificate(&server, "one.test", Some(&before));
    // A certificate of another authority is none that it could replace (RFC 9773 §5).
    let orders = second.seen("/order-plz");
    assert!(orders.iter().all(|seen| seen.payload["replaces"].is_null()));
}

#[test]
fn a_short_lived_certificate_is_renewed_without_renewal_information() {
    let Some(mut pebble) = pebble("a short-lived certificate") else {
        return;
    };
    let dir = temp_dir();
    let server = server(&pebble, dir.path(), &["one.test"]).ready();
    start_short_lived(&mut pebble, &server);
    let first = wait_for_certificate(&server, "one.test", None);
    wait_for_certificate(&server, "one.test", Some(&first));
}
