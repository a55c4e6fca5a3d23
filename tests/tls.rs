//! TLS on the listeners: certificates, what applications and logs see of a session, and how
//! connections begin and end. That requests are answered as without TLS is checked by the
//! [`matrix`](crate::matrix).

mod certificates;
mod clients;
mod connections;
mod documents;
mod half_close;
mod renewal;
mod schemes;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::server::{Pyserve, Server, get, request};
use crate::support::tls::{Issued, authority};
use crate::support::{temp_dir, write_files};

/// Arguments for these pairs.
fn pairs<'a>(pairs: &'a [&'a Issued]) -> Vec<&'a Path> {
    let each = |pair: &&'a Issued| {
        let [cert, key] = ["--tls-cert", "--tls-key"].map(Path::new);
        [cert, &*pair.cert, key, &*pair.key]
    };
    pairs.iter().flat_map(each).collect()
}

/// A server of one certificate after the other.
fn serving(issued: &[&Issued]) -> Pyserve {
    Pyserve::app("environ.py")
        .args(["--bind", "127.0.0.1:0", "--bind", "https://127.0.0.1:0"])
        .args(pairs(issued))
}

/// The certificate that a server sends to a client that asks for `name`, in PEM, by `openssl
/// s_client`; without a name the client sends no SNI.
fn certificate_for(server: &Server, name: Option<&str>) -> String {
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-connect"])
        .arg(format!("127.0.0.1:{}", server.tls_port()))
        .stdin(Stdio::null());
    match name {
        Some(name) => client.args(["-servername", name]),
        None => client.arg("-noservername"),
    };
    let said = client.output().expect("openssl");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let begin = said.find("-----BEGIN CERTIFICATE-----");
    let begin = begin.unwrap_or_else(|| panic!("no certificate: {said}"));
    let (certificate, _) = said[begin..].split_once("-----END").unwrap();
    certificate.to_owned()
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

fn entries(environ: &mut Value) -> Value {
    environ["entries"].take()
}

#[test]
fn the_application_sees_the_session_and_no_header_can_forge_it() {
    let server = Pyserve::app("environ.py")
        .with_tls()
        .args(["--access-log", "json"])
        .ready();
    let forged = "SSL-Protocol: x\r\nSSL_CIPHER: x\r\nSsl-Client-Verify: SUCCESS\r\nHTTPS: off\r\n";
    let asked = request("GET", "/page", forged);
    let mut said = server.connect_tls().exchange(&asked).json();
    let environ = entries(&mut said);
    for (name, expected) in [
        ("wsgi.url_scheme", "https"),
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("SSL_PROTOCOL", "TLSv1.3"),
        ("SSL_SERVER_NAME", "localhost"),
        ("SERVER_PORT", &server.tls_port().to_string()),
    ] {
        assert_eq!(environ[name][1], expected, "{name} in {environ:#}");
    }
    let cipher = environ["SSL_CIPHER"][1].as_str().unwrap();
    assert!(cipher.starts_with("TLS_"), "{cipher}");
    assert!(environ["SSL_CLIENT_VERIFY"].is_null(), "{environ:#}");
    let line = server.stdout.wait_for("\"target\":\"/page\"");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["tls_protocol"], "TLSv1.3");
    assert_eq!(line["tls_cipher"], cipher);
    // Nothing of it without TLS, whatever the client sends.
    let mut said = server.exchange(&asked).json();
    let environ = entries(&mut said);
    assert_eq!(environ["wsgi.url_scheme"][1], "http");
    for name in ["HTTPS", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_VERIFY"] {
        assert!(environ[name].is_null(), "{name} in {environ:#}");
    }
}

#[test]
fn the_oldest_version_is_that_of_the_settings() {
    let issued = authority().issue(&["localhost"]);
    let connect = |server: &Server, version| {
        let versions = &[version][..];
        let client = authority().client_with(&["http/1.1"], versions, None);
        server.connect_tls_port().secured(client, "localhost")
    };
    let server = serving(&[&issued]).ready();
    let mut connection = connect(&server, &rustls::version::TLS12).unwrap();
    let environ = entries(&mut connection.exchange(get("/")).json());
    assert_eq!(environ["SSL_PROTOCOL"][1], "TLSv1.2");
    let cipher = environ["SSL_CIPHER"][1].as_str().unwrap();
    assert!(cipher.starts_with("ECDHE-ECDSA-"), "{cipher}");
    let server = serving(&[&issued]).args(["--tls-min", "1.3"]).ready();
    assert!(connect(&server, &rustls::version::TLS12).is_err());
    assert!(connect(&server, &rustls::version::TLS13).is_ok());
}

/// Each version with the order of a client that would take the slowest first.
#[test]
fn the_server_chooses_the_cipher_suite() {
    let server = Pyserve::app("environ.py").with_tls().ready();
    for (version, words, expected) in [
        (
            "-tls1_3",
            [
                "-ciphersuites",
                "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
            ],
            "TLS_AES_128_GCM_SHA256",
        ),
        (
            "-tls1_2",
            [
                "-cipher",
                "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
            ],
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
    ] {
        let said = Command::new("openssl")
            .args(["s_client", version, "-connect"])
            .arg(format!("127.0.0.1:{}", server.tls_port()))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("openssl");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains(&format!("Cipher is {expected}")), "{said}");
    }
}

#[test]
fn alpn_chooses_http2_or_http1() {
    let server = Pyserve::app("environ.py").with_tls().ready();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = authority().client(offered);
        let connection = server
            .connect_tls_port()
            .secured(client, "localhost")
            .unwrap();
        let chosen = chosen.map(str::as_bytes);
        assert_eq!(connection.session().alpn_protocol(), chosen, "{offered:?}");
    }
    // RFC 7301 §3.2: nothing in common is an error.
    let client = authority().client(&["spdy/3"]);
    let refused = server.connect_tls_port().secured(client, "localhost");
    assert!(refused.is_err());
}

#[test]
fn plain_http_is_redirected_but_for_challenges_and_probes() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[("static/a.txt", "a"), ("challenges/token", "proof")],
    );
    let challenges = format!(
        "/.well-known/acme-challenge={}",
        dir.path().join("challenges").display()
    );
    let server = Pyserve::app("environ.py")
        .with_tls()
        .args(["--redirect-to-https", "443", "--admin-on-main", "yes"])
        .args(["--static", &challenges, "--trust", "127.0.0.1", "--root"])
        .args([dir.path()])
        .ready();
    let check = |method: &str, target: &str, fields: &str, status: u16, location: Option<&str>| {
        let response = server.exchange(&request(method, target, fields));
        let got = (response.status(), response.header("Location"));
        assert_eq!(
            got,
            (status, location.map(str::to_owned)),
            "{method} {target}"
        );
    };
    check("GET", "/a?b=/c", "", 301, Some("https://localhost/a?b=/c"));
    check("HEAD", "/a", "", 301, Some("https://localhost/a"));
    check(
        "POST",
        "/a",
        "Content-Length: 0\r\n",
        308,
        Some("https://localhost/a"),
    );
    check("DELETE", "/a", "", 308, Some("https://localhost/a"));
    check(
        "GET",
        "//evil.example/a",
        "",
        301,
        Some("https://localhost//evil.example/a"),
    );
    // A file in memory, twice: the second time on the fast path.
    check(
        "GET",
        "/static/a.txt",
        "",
        301,
        Some("https://localhost/static/a.txt"),
    );
    check(
        "GET",
        "/static/a.txt",
        "",
        301,
        Some("https://localhost/static/a.txt"),
    );
    check("GET", "/.well-known/acme-challenge/token", "", 200, None);
    check(
        "GET",
        "/.well-known/acme-challenge/../../a",
        "",
        301,
        Some("https://localhost/.well-known/acme-challenge/../../a"),
    );
    check("GET", "/-/ready", "", 200, None);
    // A trusted balancer that has TLS.
    check("GET", "/a", "X-Forwarded-Proto: https\r\n", 200, None);
    check(
        "GET",
        "/static/a.txt",
        "X-Forwarded-Proto: https\r\n",
        200,
        None,
    );
    let no_host = server.exchange("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(no_host.status(), 400);
    let over_tls = server.connect_tls().exchange(get("/a"));
    assert_eq!(over_tls.status(), 200);
}

#[test]
fn the_port_of_the_redirect_is_that_of_the_listener() {
    let ended = Pyserve::app("environ.py")
        .with_tls()
        .args(["--redirect-to-https", "yes"])
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("give the port"), "{}", ended.stderr);
    let ended = Pyserve::app("environ.py")
        .args(["--redirect-to-https", "yes"])
        .run();
    assert!(
        ended.stderr.contains("no address has TLS"),
        "{}",
        ended.stderr
    );
    let server = Pyserve::app("environ.py")
        .with_tls()
        .args(["--redirect-to-https", "8443"])
        .ready();
    let location = server.get("/a").header("Location");
    assert_eq!(location.as_deref(), Some("https://localhost:8443/a"));
}

#[test]
fn strict_transport_security_is_sent_over_https_only_and_never_twice() {
    let dir = temp_dir();
    write_files(dir.path(), &[("static/a.txt", "a"), ("own/b.txt", "b")]);
    let settings = format!(
        "hsts = \"30d\"\n[[location]]\nprefix = \"/own\"\nstatic = {:?}\n\
         header = {{ Strict-Transport-Security = \"max-age=1\" }}\n",
        dir.path().join("own")
    );
    write_files(dir.path(), &[("settings.toml", &settings)]);
    let server = Pyserve::app("environ.py")
        .with_tls()
        .arg_file("--config", &dir.path().join("settings.toml"))
        .arg_file("--root", dir.path())
        .ready();
    let values =
        |response: crate::support::raw::Response| response.headers("Strict-Transport-Security");
    // Files twice: the second time on the fast path.
    for target in ["/page", "/static/a.txt", "/static/a.txt", "/static/missing"] {
        let secured = server.connect_tls().exchange(get(target));
        assert_eq!(values(secured), ["max-age=2592000"], "{target}");
        // RFC 6797 §7.2.
        assert!(values(server.get(target)).is_empty(), "{target}");
    }
    for _ in 0..2 {
        let secured = server.connect_tls().exchange(get("/own/b.txt"));
        assert_eq!(values(secured), ["max-age=1"]);
    }
}

#[test]
fn curl_asks_over_http2_and_http1() {
    let server = Pyserve::app("environ.py").with_tls().ready();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let said = Command::new("curl")
            .args(["--silent", "--show-error", flag, "--cacert"])
            .arg(authority().root())
            .args(["--write-out", "\n%{http_version} %{ssl_verify_result}"])
            .arg(format!("https://localhost:{}/page", server.tls_port()))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.ends_with(&format!("\n{version} 0")), "{said}");
    }
}
