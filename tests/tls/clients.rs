//! Certificates of clients, and requests on the connection of another name.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::entries;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, request};
use crate::support::tls::{Authority, Issued, VALID, Validity, authority};
use crate::support::{DEADLINE, temp_dir};

/// A server that asks for certificates of this authority.
fn asking(clients: &Authority, args: &[&Path]) -> Pyserve {
    Pyserve::app("environ.py")
        .with_tls()
        .arg_file("--tls-client-ca", &clients.root())
        .args(args)
}

/// The answer to a request of a client with this certificate; `None` if the server refuses it. With
/// TLS 1.3 a client learns of that behind the handshake.
fn ask(server: &Server, own: Option<&Issued>, asked: &str) -> Option<serde_json::Value> {
    let client = authority().client_with(&["http/1.1"], rustls::ALL_VERSIONS, own);
    let secured = server.connect_tls_port().secured(client, "localhost");
    let mut connection: Connection = secured.ok()?;
    connection.try_send(asked).ok()?;
    let head = connection.try_head().ok()?;
    let length = head.header("Content-Length")?.parse().ok()?;
    serde_json::from_slice(&connection.exactly(length)).ok()
}

/// A field of a certificate, as OpenSSL prints it.
fn printed(of: &Issued, words: &[&str]) -> String {
    let said = Command::new("openssl")
        .args(["x509", "-noout", "-in"])
        .arg(&of.cert)
        .args(words)
        .output()
        .expect("openssl");
    let said = String::from_utf8(said.stdout).unwrap();
    let (_, value) = said.trim().split_once('=').expect("a value");
    value.to_owned()
}

const FORGED: &str = "SSL-Client-Verify: SUCCESS\r\nSSL_CLIENT_S_DN: CN=root\r\n\
                      Ssl-Client-S-Dn: CN=root\r\nSSL-Client-Fingerprint: 00\r\n\
                      Ssl_Client_Serial: 01\r\nSSL-Client-Cert: x\r\n";

#[test]
fn a_required_certificate_reaches_the_application_as_openssl_writes_it() {
    let clients = Authority::new();
    let own = clients.issue_to(
        "/C=DE/O=Acme, Inc \\+ \"x\"/CN=Jörg #1",
        &["client"],
        &VALID,
    );
    let others = Authority::new();
    let foreign = others.issue(&["client"]);
    let server = asking(&clients, &[]).ready();
    let asked = request("GET", "/", FORGED);
    assert!(ask(&server, None, &asked).is_none());
    assert!(ask(&server, Some(&foreign), &asked).is_none());
    let environ = entries(&mut ask(&server, Some(&own), &asked).expect("an answer"));
    let dn = ["-subject", "-nameopt", "RFC2253"];
    let issuer = ["-issuer", "-nameopt", "RFC2253"];
    for (name, expected) in [
        ("SSL_CLIENT_VERIFY", "SUCCESS".to_owned()),
        ("SSL_CLIENT_S_DN", printed(&own, &dn)),
        ("SSL_CLIENT_I_DN", printed(&own, &issuer)),
        ("SSL_CLIENT_SERIAL", printed(&own, &["-serial"])),
        ("SSL_CLIENT_M_SERIAL", printed(&own, &["-serial"])),
        ("SSL_CLIENT_V_START", printed(&own, &["-startdate"])),
        ("SSL_CLIENT_V_END", printed(&own, &["-enddate"])),
        (
            "SSL_CLIENT_FINGERPRINT",
            printed(&own, &["-fingerprint", "-sha1"])
                .replace(':', "")
                .to_lowercase(),
        ),
    ] {
        assert_eq!(environ[name][1], expected, "{name}");
    }
    // RFC 2253 §2.4, in the order of §2.1.
    let dn = environ["SSL_CLIENT_S_DN"][1].as_str().unwrap();
    let left = environ["SSL_CLIENT_V_REMAIN"][1].as_str().unwrap();
    assert!(left.parse::<u32>().unwrap() > 1000, "{left}");
    assert_eq!(dn, "CN=J\\C3\\B6rg #1,O=Acme\\, Inc \\+ \\\"x\\\",C=DE");
    assert!(environ["SSL_CLIENT_CERT"].is_null());
}

#[test]
fn refused_clients_are_logged_with_their_reason_and_counted() {
    let clients = Authority::new();
    let [revoked, good] = [(); 2].map(|()| clients.issue(&["client"]));
    let over = Validity {
        from: "20200101000000Z",
        to: "20210101000000Z",
    };
    let expired = clients.issue_to("/CN=expired", &["client"], &over);
    let others = Authority::new();
    let foreign = others.issue(&["client"]);
    let list = clients.revocations(&[&revoked]);
    let server = asking(&clients, &[Path::new("--tls-client-crl"), &list])
        .watched()
        .ready();
    let wait_for_count = |reason: &str, value| {
        let name = "pyserve_tls_client_certificates_refused_total";
        server.wait_for_metric(&format!("{name}{{reason=\"{reason}\"}}"), value);
    };
    wait_for_count("missing", 0.0);
    for (own, reason, line) in [
        (None, "missing", "the client has no certificate"),
        (
            Some(&foreign),
            "unknown_issuer",
            "no authority in --tls-client-ca",
        ),
        (Some(&expired), "expired", "certificate has expired"),
        (Some(&revoked), "revoked", "certificate is revoked"),
    ] {
        // One line stands for all three.
        for _ in 0..3 {
            assert!(ask(&server, own, &get("/")).is_none(), "{reason}");
        }
        let line = server.stderr.wait_for(line);
        assert!(
            line.contains("127.0.0.1") && line.contains(reason),
            "{line}"
        );
        wait_for_count(reason, 3.0);
    }
    assert!(ask(&server, Some(&good), &get("/")).is_some());
    assert_eq!(server.stderr.count("TLS handshake refused"), 4);
}

#[test]
fn an_optional_certificate_may_be_missing_and_is_given_in_pem_if_asked_for() {
    let clients = Authority::new();
    let own = clients.issue(&["client"]);
    let server = asking(
        &clients,
        &["--tls-client-auth", "optional", "--tls-client-pem", "yes"].map(Path::new),
    )
    .ready();
    let asked = request("GET", "/", FORGED);
    let environ = entries(&mut ask(&server, None, &asked).expect("an answer"));
    assert_eq!(environ["SSL_CLIENT_VERIFY"][1], "NONE");
    assert!(environ["SSL_CLIENT_S_DN"].is_null(), "{environ:#}");
    let environ = entries(&mut ask(&server, Some(&own), &asked).expect("an answer"));
    let leaf = super::text(&own.cert.with_file_name("cert.pem"));
    assert_eq!(environ["SSL_CLIENT_CERT"][1], *leaf);
}

#[test]
fn revoked_certificates_are_refused_and_new_lists_are_read() {
    let clients = Authority::new();
    let [revoked, good] = [(); 2].map(|()| clients.issue(&["client"]));
    let dir = temp_dir();
    let list = dir.path().join("crl.pem");
    std::fs::copy(clients.revocations(&[]), &list).unwrap();
    let server = asking(&clients, &[Path::new("--tls-client-crl"), &list]).ready();
    assert!(ask(&server, Some(&revoked), &get("/")).is_some());
    std::fs::copy(clients.revocations(&[&revoked]), &list).unwrap();
    let began = Instant::now();
    while ask(&server, Some(&revoked), &get("/")).is_some() {
        assert!(began.elapsed() < DEADLINE, "the old list");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(ask(&server, Some(&good), &get("/")).is_some());
    // A broken list leaves the one before in use.
    std::fs::write(&list, "no list").unwrap();
    server.stderr.wait_for("refused: those before stay in use");
    assert!(ask(&server, Some(&good), &get("/")).is_some());
    assert!(ask(&server, Some(&revoked), &get("/")).is_none());
}

#[test]
fn settings_for_clients_need_authorities() {
    let ended = Pyserve::app("environ.py")
        .with_tls()
        .args(["--tls-client-auth", "optional"])
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("--tls-client-ca"), "{}", ended.stderr);
    let ended = Pyserve::app("environ.py")
        .with_tls()
        .args(["--tls-client-ca", "/dev/null"])
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
}

/// Nobody is to believe that clients are asked for certificates where they are not.
#[test]
fn plain_addresses_beside_client_certificates_are_noticed() {
    let ended = Pyserve::app("environ.py")
        .args(["--bind", "127.0.0.1:0"])
        .arg_file("--tls-client-ca", &authority().root())
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no address has TLS"),
        "{}",
        ended.stderr
    );
    let own = authority().issue(&["localhost"]);
    let check = |plain: &str, more: &[&str]| {
        let ended = Pyserve::app("environ.py")
            .args(["check", "--bind", plain, "--bind", "https://127.0.0.1:8443"])
            .arg_file("--tls-client-ca", &authority().root())
            .arg_file("--tls-cert", &own.cert)
            .arg_file("--tls-key", &own.key)
            .args(more)
            .run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let said = ended.stdout + &ended.stderr;
        said.contains("0.0.0.0:8080 need no certificate")
    };
    assert!(check("0.0.0.0:8080", &[]));
    for (plain, more) in [
        ("127.0.0.1:8080", &[][..]),
        ("0.0.0.0:8080", &["--redirect-to-https", "yes"]),
        ("0.0.0.0:8080", &["--tls-client-auth", "optional"]),
    ] {
        assert!(!check(plain, more), "{plain} {more:?}");
    }
}

#[test]
fn a_coalesced_request_for_another_certificate_is_misdirected() {
    let [first, second] =
        [&["a.test", "b.test"][..], &["c.test"]].map(|names| authority().issue(names));
    let server = super::serving(&[&first, &second]).ready();
    let port = server.tls_port();
    let status = |name: &str, host: &str| {
        let said = Command::new("curl")
            .args(["--silent", "--show-error", "--http2", "--cacert"])
            .arg(authority().root())
            .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
            .args(["--header", &format!("Host: {host}")])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg(format!("https://{name}:{port}/"))
            .output()
            .expect("curl");
        let said = String::from_utf8(said.stdout).unwrap();
        said.parse::<u16>().unwrap()
    };
    assert_eq!(status("a.test", "a.test"), 200);
    assert_eq!(status("a.test", "A.test:8443"), 200);
    assert_eq!(status("a.test", "b.test"), 200);
    assert_eq!(status("a.test", "c.test"), 421);
    assert_eq!(status("c.test", "c.test"), 200);
    assert_eq!(status("c.test", "b.test"), 421);
}
