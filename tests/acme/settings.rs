//! Settings of ACME: errors, and the output of `pyserve check`.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, page};
use crate::support::server::Pyserve;
use crate::support::tls::{self, authority};
use crate::support::{DEADLINE, temp_dir};

#[test]
fn settings_that_cannot_work_are_errors() {
    let check = |args: &[&str], expected: &[&str]| {
        let ended = Pyserve::app("environ.py").args(args).run();
        assert_eq!(ended.code, 78, "{args:?}: {}", ended.stderr);
        for part in expected {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    };
    let tls = ["--bind", "https://127.0.0.1:0"];
    let with = |more: &[&'static str]| -> Vec<&str> { tls.iter().chain(more).copied().collect() };
    let private = |more: &[&'static str]| -> Vec<&str> {
        let directory = ["--acme", "a.test", "--acme-directory", "https://a.test/dir"];
        tls.iter().chain(&directory).chain(more).copied().collect()
    };
    check(
        &["--acme", "example.org"],
        &["no address has TLS", "--bind https://"],
    );
    check(&with(&[]), &["needs a certificate", "--acme HOST"]);
    check(&with(&["--acme", "*.a.test"]), &["wildcard"]);
    check(
        &with(&["--acme", "https://a.test"]),
        &["not the name of a host"],
    );
    check(&with(&["--acme", "127.0.0.1"]), &["an IP address"]);
    for name in ["localhost", "shop.local", "my_shop.example.org"] {
        check(
            &with(&["--acme", name]),
            &[name, "no public authority", "--acme-directory"],
        );
    }
    check(
        &private(&["--acme-challenge", "http-01"]),
        &["no address has plain HTTP"],
    );
    check(
        &private(&["--acme-challenge", "dns-01"]),
        &["no such challenge"],
    );
    check(
        &with(&["--acme", "a.test", "--acme-directory", "http://a.test/dir"]),
        &["not an https:// URL"],
    );
    check(&private(&["--acme-email", "me"]), &["not an address"]);
    check(&private(&["--acme-eab-kid", "x"]), &["--acme-eab-key FILE"]);
    check(
        &private(&["--tls-client-ca", "ca.pem"]),
        &["--tls-client-auth optional"],
    );
}

#[test]
fn a_check_shows_the_state_of_each_host_and_defects_of_the_directory() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(dir.path().join("static")).unwrap();
    let check = |store: &std::path::Path| {
        let ended = Pyserve::bare()
            .args([
                "check",
                "--bind",
                "https://127.0.0.1:0",
                "--acme",
                "example.org",
            ])
            .args(["--acme-directory", "staging"])
            .arg_file("--acme-dir", store)
            .arg_file("--root", dir.path())
            .run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    };
    let shown = check(dir.path());
    assert!(
        shown.contains("https://acme-staging-v02.api.letsencrypt.org/directory by tls-alpn-01"),
        "{shown}"
    );
    assert!(
        shown.contains("example.org  missing, next attempt"),
        "{shown}"
    );
    assert!(!dir.path().join("lock").exists());
    let shown = check(&file);
    assert!(shown.contains("cannot write to the directory"), "{shown}");
}

/// As towards upstream servers, and as OpenSSL does.
#[test]
fn the_authority_is_verified_by_the_roots_of_the_system_and_its_variables() {
    let own = authority().issue(&["127.0.0.1"]);
    let dir = temp_dir();
    let hashed = dir.path().join("hashed");
    std::fs::create_dir(&hashed).unwrap();
    std::fs::copy(authority().root(), hashed.join("root.pem")).unwrap();
    let rehashed = Command::new("openssl").arg("rehash").arg(&hashed).output();
    assert!(rehashed.unwrap().status.success());
    for (variable, path) in [
        ("SSL_CERT_DIR", &hashed),
        ("SSL_CERT_FILE", &authority().root()),
    ] {
        let backend = Backend::tls_with(tls::server(&own, None), |mut call| {
            while call.http_head().is_some() {
                call.send(page("not a directory of ACME"));
            }
        });
        let _server = Pyserve::app("environ.py")
            .args(["--bind", "https://127.0.0.1:0", "--acme", "a.test"])
            .args(["--acme-directory", &backend.url()])
            .arg_file("--acme-dir", &dir.path().join(variable))
            .env(variable, path)
            .ready();
        let began = Instant::now();
        while backend.calls() == 0 {
            assert!(began.elapsed() < DEADLINE, "{variable}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
