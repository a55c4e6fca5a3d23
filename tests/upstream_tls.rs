//! `--upstream https://…`: servers are verified, by the authorities of the system or of
//! `upstream_ca`, and get a certificate of this server if they ask for one. That requests and
//! responses pass as without TLS is checked in [`http_upstream`](crate::http_upstream) and
//! [`upstream_health`](crate::upstream_health).

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::backend::{Backend, Call, page};
use crate::support::nginx::Nginx;
use crate::support::server::{Pyserve, Server, get, post, request};
use crate::support::tls::{self, Authority, Issued, VALID, Validity, authority};
use crate::support::{DEADLINE, skipped, temp_dir, write_files};

fn pyserve() -> Pyserve {
    Pyserve::new().without("PYSERVE_PYTHON")
}

fn answer(mut call: Call) {
    while call.http_head().is_some() {
        call.send(page("the page"));
    }
}

/// A server with this certificate.
fn with(own: &Issued) -> Backend {
    Backend::tls_with(tls::server(own, None), answer)
}

/// pyserve before a server, with this file as its authorities.
fn trusting(backend: &Backend, ca: &Path) -> Pyserve {
    pyserve()
        .args(["--upstream", &backend.url()])
        .arg_file("--upstream-ca", ca)
}

/// Asserts that no request gets to the server, and that the log has the reason.
fn assert_refused(server: &Server, backend: &Backend, why: &str) {
    assert_eq!(server.get("/").status(), 502, "{why}");
    server.stderr.wait_for(why);
    assert_eq!(backend.calls(), 0, "{why}");
}

#[test]
fn the_authorities_are_those_of_the_system_or_of_the_setting() {
    let backend = with(&authority().issue(&["localhost", "127.0.0.1"]));
    let localhost = backend.url().replace("127.0.0.1", "localhost");
    // The system's, which OpenSSL's variable replaces.
    for url in [&backend.url(), &localhost] {
        let server = pyserve()
            .args(["--upstream", url])
            .env("SSL_CERT_FILE", authority().root())
            .ready();
        assert_eq!(server.get("/").text(), "the page", "{url}");
        let server = pyserve()
            .args(["--upstream", url, "--upstream-ca", "system"])
            .env("SSL_CERT_FILE", Authority::new().root())
            .ready();
        assert_eq!(server.get("/").status(), 502, "{url}");
        server
            .stderr
            .wait_for("not of a known authority (give the authority as upstream_ca)");
        // The setting replaces both.
        let server = pyserve()
            .args(["--upstream", url])
            .arg_file("--upstream-ca", &authority().root())
            .env("SSL_CERT_FILE", Authority::new().root())
            .ready();
        assert_eq!(server.get("/").text(), "the page", "{url}");
    }
}

#[test]
fn a_certificate_that_is_not_right_is_a_502_with_the_reason() {
    let own = authority();
    let past = Validity {
        from: "20200101000000Z",
        to: "20210101000000Z",
    };
    let future = Validity {
        from: "20900101000000Z",
        to: "20990101000000Z",
    };
    let names = &["localhost", "127.0.0.1"];
    for (issued, why) in [
        (
            own.issue_to("/CN=a", names, &past),
            "its certificate has expired",
        ),
        (
            own.issue_to("/CN=a", names, &future),
            "its certificate is not valid yet",
        ),
        (
            own.issue(&["a.test", "*.b.test"]),
            "its certificate is not for 127.0.0.1: it names a.test, *.b.test",
        ),
        // RFC 9525 §6.3: a common name names no host.
        (
            own.issue_to("/CN=127.0.0.1", &[], &VALID),
            "its certificate is not for 127.0.0.1",
        ),
        (Authority::new().issue(names), "not of a known authority"),
        (
            tls::self_signed("IP:127.0.0.1"),
            "as self-signed ones are (give it as upstream_ca)",
        ),
    ] {
        let backend = with(&issued);
        assert_refused(&trusting(&backend, &own.root()).ready(), &backend, why);
    }
}

#[test]
fn a_server_without_tls_or_without_a_word_is_told_from_one_with_a_wrong_certificate() {
    let plain = Backend::tcp(|mut call| {
        call.some();
        call.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let url = plain.url().replace("http:", "https:");
    let server = pyserve()
        .args(["--upstream", &url])
        .arg_file("--upstream-ca", &authority().root())
        .ready();
    assert_eq!(server.get("/").status(), 502);
    server.stderr.wait_for("it does not speak TLS on this port");
    let silent = Backend::tcp(|mut call| {
        call.rest();
    });
    let url = silent.url().replace("http:", "https:");
    let server = pyserve()
        .args(["--upstream", &url, "--upstream-connect-timeout", "200ms"])
        .arg_file("--upstream-ca", &authority().root())
        .ready();
    assert_eq!(server.get("/").status(), 504);
    server
        .stderr
        .wait_for("did not complete the TLS handshake within 0.2 s (--upstream-connect-timeout)");
}

#[test]
fn a_self_signed_certificate_is_accepted_only_as_its_own_authority() {
    let own = tls::self_signed("DNS:localhost,IP:127.0.0.1");
    let backend = with(&own);
    let server = trusting(&backend, &own.cert).ready();
    assert_eq!(server.get("/").text(), "the page");
    let other = tls::self_signed("DNS:localhost,IP:127.0.0.1");
    let backend = with(&own);
    assert_refused(
        &trusting(&backend, &other.cert).ready(),
        &backend,
        "its certificate is",
    );
    // The name counts as ever.
    let named = tls::self_signed("DNS:other.test");
    let backend = with(&named);
    let server = trusting(&backend, &named.cert).ready();
    assert_refused(&server, &backend, "its certificate is not for 127.0.0.1");
}

#[test]
fn the_name_of_the_setting_is_asked_for_and_verified() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let own = authority().issue(&["backend.test"]);
    let backend = Backend::tls_with(tls::server(&own, None), move |call| {
        let session = call.session();
        let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
        let name = session.server_name().map(str::to_owned);
        seen.lock().unwrap().push((name, alpn));
        answer(call);
    });
    let server = trusting(&backend, &authority().root())
        .args(["--upstream-tls-name", "Backend.test"])
        .ready();
    assert_eq!(server.get("/").text(), "the page");
    let expected = (Some("backend.test".to_owned()), Some(b"http/1.1".to_vec()));
    assert_eq!(*names.lock().unwrap(), [expected]);
    let server = trusting(&backend, &authority().root())
        .args(["--upstream-tls-name", "other.test"])
        .ready();
    assert_eq!(server.get("/").status(), 502);
    server
        .stderr
        .wait_for("its certificate is not for other.test: it names backend.test");
}

#[test]
fn sessions_are_resumed_for_requests_that_need_a_new_connection() {
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&kinds);
    let own = authority().issue(&["127.0.0.1"]);
    let backend = Backend::tls_with(tls::server(&own, None), move |mut call| {
        seen.lock().unwrap().push(call.session().handshake_kind());
        let head = call.http_head().unwrap();
        call.exactly(usize::from(head.starts_with("POST")));
        call.send(page("the page"));
    });
    let server = trusting(&backend, &authority().root()).ready();
    for _ in 0..3 {
        assert_eq!(server.exchange(&post("/", "x")).text(), "the page");
    }
    let kinds = kinds.lock().unwrap();
    let resumed = Some(rustls::HandshakeKind::Resumed);
    assert_eq!(kinds.len(), 3);
    assert_eq!(kinds[1..], [resumed, resumed], "{kinds:?}");
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let clients = Authority::new();
    let [own, client] = [
        authority().issue(&["127.0.0.1"]),
        clients.issue(&["pyserve"]),
    ];
    let asking = || Backend::tls_with(tls::server(&own, Some(&clients)), answer);
    let backend = asking();
    let server = trusting(&backend, &authority().root())
        .arg_file("--upstream-cert", &client.cert)
        .arg_file("--upstream-key", &client.key)
        .ready();
    assert_eq!(server.get("/").text(), "the page");
    for (flags, why) in [
        (None, "give upstream_cert and upstream_key"),
        (Some(authority().issue(&["pyserve"])), "with the alert"),
    ] {
        let backend = asking();
        let mut pyserve = trusting(&backend, &authority().root());
        if let Some(wrong) = &flags {
            pyserve = pyserve
                .arg_file("--upstream-cert", &wrong.cert)
                .arg_file("--upstream-key", &wrong.key);
        }
        assert_refused(&pyserve.ready(), &backend, why);
    }
}

#[test]
fn changed_authorities_are_used_without_a_restart() {
    let dir = temp_dir();
    let ca = dir.path().join("ca.pem");
    std::fs::copy(Authority::new().root(), &ca).unwrap();
    let backend = with(&authority().issue(&["127.0.0.1"]));
    let server = trusting(&backend, &ca).ready();
    assert_refused(&server, &backend, "not of a known authority");
    // By a reload.
    std::fs::copy(authority().root(), &ca).unwrap();
    server.signal(Signal::HUP);
    wait_for_status(&server, 200);
    // And by themselves; an idle connection was verified by the file before.
    std::fs::copy(Authority::new().root(), &ca).unwrap();
    server
        .stderr
        .wait_for("certificates for upstream servers read");
    wait_for_status(&server, 502);
    // A broken file leaves the one before in use.
    std::fs::copy(authority().root(), &ca).unwrap();
    wait_for_status(&server, 200);
    std::fs::write(&ca, "no certificate").unwrap();
    server.stderr.wait_for("refused: those before stay in use");
    assert_eq!(server.exchange(&post("/", "x")).status(), 200);
}

fn wait_for_status(server: &Server, status: u16) {
    let began = Instant::now();
    while server.get("/").status() != status {
        assert!(began.elapsed() < DEADLINE, "never {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server that responds with the signature of its client's certificate, and to `/held` only when released;
/// with the channels that report and release such a request.
fn holding(own: &Issued, clients: Option<&Authority>) -> (Backend, Receiver<()>, Sender<()>) {
    let (begun, begins) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel();
    let released = Mutex::new(released);
    let backend = Backend::tls_with(tls::server(own, clients), move |mut call| {
        while let Some(head) = call.http_head() {
            if head.starts_with("GET /held ") {
                begun.send(()).unwrap();
                released.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            }
            let shown = call.session().peer_certificates();
            call.send(page(
                &shown.map_or(String::new(), |chain| signature(&chain[0])),
            ));
        }
    });
    (backend, begins, release)
}

/// The end of the signature, by which a test distinguishes certificates.
fn signature(certificate: &[u8]) -> String {
    format!("{:?}", certificate.last_chunk::<8>().unwrap())
}

/// Files change while a response is awaited: its connection was verified by the old ones, and is
/// not reused.
#[test]
fn a_connection_in_flight_is_not_reused_after_the_authorities_have_changed() {
    // NTLM reserves a connection for its client (RFC 4559 §6).
    for authorization in ["", "Authorization: NTLM x\r\n"] {
        let dir = temp_dir();
        let ca = dir.path().join("ca.pem");
        std::fs::copy(authority().root(), &ca).unwrap();
        let (backend, begins, release) = holding(&authority().issue(&["127.0.0.1"]), None);
        let server = trusting(&backend, &ca).ready();
        let mut client = server.connect();
        client.send(request("GET", "/held", authorization));
        begins.recv_timeout(DEADLINE).unwrap();
        std::fs::copy(Authority::new().root(), &ca).unwrap();
        server
            .stderr
            .wait_for("certificates for upstream servers read");
        release.send(()).unwrap();
        assert_eq!(client.response().status(), 200, "the response goes on");
        let next = client.exchange(request("GET", "/", authorization));
        assert_eq!(next.status(), 502, "{authorization:?}");
        assert_eq!(server.get("/").status(), 502, "{authorization:?}");
        assert_eq!(backend.calls(), 1, "{authorization:?}");
    }
}

/// A reserved connection that is idle while the files change is not among those of the pool.
#[test]
fn a_reserved_connection_is_not_reused_after_the_authorities_have_changed() {
    let dir = temp_dir();
    let ca = dir.path().join("ca.pem");
    std::fs::copy(authority().root(), &ca).unwrap();
    let backend = with(&authority().issue(&["127.0.0.1"]));
    let server = trusting(&backend, &ca).ready();
    let mut client = server.connect();
    let ask = || request("GET", "/", "Authorization: Negotiate x\r\n");
    assert_eq!(client.exchange(ask()).status(), 200);
    assert_eq!(client.exchange(ask()).status(), 200);
    assert_eq!(backend.calls(), 1);
    std::fs::copy(Authority::new().root(), &ca).unwrap();
    server
        .stderr
        .wait_for("certificates for upstream servers read");
    assert_eq!(client.exchange(ask()).status(), 502);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn a_changed_certificate_of_this_server_is_shown_also_where_a_connection_was_in_flight() {
    let (dir, clients) = (temp_dir(), Authority::new());
    let [old, new] = [(); 2].map(|()| clients.issue(&["pyserve"]));
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let write = |issued: &Issued| {
        std::fs::copy(&issued.key, &key).unwrap();
        std::fs::copy(&issued.cert, &cert).unwrap();
    };
    write(&old);
    let own = authority().issue(&["127.0.0.1"]);
    let (backend, begins, release) = holding(&own, Some(&clients));
    let server = trusting(&backend, &authority().root())
        .arg_file("--upstream-cert", &cert)
        .arg_file("--upstream-key", &key)
        .ready();
    let shown = |issued: &Issued| signature(&issued.read().0[0]);
    let mut client = server.connect();
    client.send(get("/held"));
    begins.recv_timeout(DEADLINE).unwrap();
    write(&new);
    server
        .stderr
        .wait_for("certificates for upstream servers read");
    release.send(()).unwrap();
    assert_eq!(client.response().text(), shown(&old));
    assert_eq!(client.exchange(get("/")).text(), shown(&new));
}

/// A reload makes other servers of the settings, and the connection returns to those before.
#[test]
fn a_connection_in_flight_is_not_reused_after_a_reload_with_another_name() {
    let dir = temp_dir();
    let (backend, begins, release) = holding(&authority().issue(&["127.0.0.1"]), None);
    let settings = dir.path().join("pyserve.toml");
    let write = |name: &str| {
        let (url, ca) = (backend.url(), authority().root());
        let ca = ca.display();
        let text = format!("upstream = [\"{url}\"]\nupstream_ca = \"{ca}\"\n{name}");
        std::fs::write(&settings, text).unwrap();
    };
    write("");
    let server = pyserve().arg_file("--config", &settings).ready();
    let mut client = server.connect();
    client.send(request("GET", "/held", "Authorization: NTLM x\r\n"));
    begins.recv_timeout(DEADLINE).unwrap();
    write("upstream_tls_name = \"other.test\"\n");
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    release.send(()).unwrap();
    assert_eq!(client.response().status(), 200);
    // The reload may end this connection behind its response.
    assert_eq!(server.get("/").status(), 502);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn another_server_answers_while_one_has_a_wrong_certificate() {
    let wrong = with(&Authority::new().issue(&["127.0.0.1"]));
    let right = with(&authority().issue(&["127.0.0.1"]));
    let server = trusting(&wrong, &authority().root())
        .args(["--upstream", &right.url()])
        .ready();
    for _ in 0..8 {
        assert_eq!(server.get("/").status(), 200);
        assert_eq!(server.exchange(&post("/", "x")).status(), 200);
    }
    assert_eq!(wrong.calls(), 0);
}

/// RFC 9112 §9.8: a response that ends with the connection is complete only behind `close_notify`.
#[test]
fn a_response_without_a_length_is_complete_only_if_the_session_is() {
    for (is_truncated, long) in [(false, false), (true, false), (false, true), (true, true)] {
        let backend = Backend::tls(move |mut call| {
            call.http_head();
            let body = "x".repeat(if long { 1 << 20 } else { 10 });
            call.send(format!("HTTP/1.1 200 OK\r\n\r\n{body}"));
            if is_truncated {
                call.truncate();
            }
        });
        let server = pyserve().args(backend.flags()).ready();
        let response = server.get("/");
        let is_whole = response.status() == 200 && response.broken.is_none();
        assert_eq!(is_whole, !is_truncated, "{long}: {:?}", response.broken);
        if !is_truncated {
            assert_eq!(response.body.len(), if long { 1 << 20 } else { 10 });
        }
    }
    // A length needs none (RFC 9112 §9.8 as well).
    let backend = Backend::tls(|mut call| {
        call.http_head();
        call.send(page("the page"));
        call.truncate();
    });
    let server = pyserve().args(backend.flags()).ready();
    assert_eq!(server.get("/").text(), "the page");
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let backend = Backend::tls(|mut call| {
        while let Some(head) = call.http_head() {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let body = call.exactly(length.map_or(0, |digits| digits.parse().unwrap()));
            let length = body.len();
            call.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            ));
            call.send(body);
        }
    });
    let server = pyserve().args(backend.flags()).ready();
    let long: String = (0..3_000_000)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    let response = server.exchange(&post("/", &long));
    assert!(response.text() == long, "{:?}", response.broken);
}

#[test]
fn locations_have_their_own_authorities_names_and_certificates() {
    let (first, second) = (authority(), Authority::new());
    let clients = Authority::new();
    let one = with(&first.issue(&["one.test"]));
    let own = second.issue(&["two.test"]);
    let two = Backend::tls_with(tls::server(&own, Some(&clients)), answer);
    let client = clients.issue(&["pyserve"]);
    let dir = temp_dir();
    let settings = format!(
        "upstream_ca = {:?}\nupstream_tls_name = \"one.test\"\n\
         [[location]]\nprefix = \"/one\"\nupstream = {:?}\n\
         [[location]]\nprefix = \"/two\"\nupstream = {:?}\nupstream_ca = {:?}\n\
         upstream_tls_name = \"two.test\"\nupstream_cert = {:?}\nupstream_key = {:?}\n",
        first.root(),
        one.url(),
        two.url(),
        second.root(),
        client.cert,
        client.key,
    );
    write_files(dir.path(), &[("settings.toml", &settings)]);
    let server = Pyserve::app("hello.py")
        .arg_file("--config", &dir.path().join("settings.toml"))
        .ready();
    assert_eq!(server.get("/one/").text(), "the page");
    assert_eq!(server.get("/two/").text(), "the page");
}

#[test]
fn settings_that_cannot_hold_are_refused_at_the_start() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("empty.pem", ""),
            (
                "plain.toml",
                "[[location]]\nprefix = \"/\"\nupstream = \"http://a\"\nupstream_ca = \"ca.pem\"\n",
            ),
            (
                "uwsgi.toml",
                "[[location]]\nprefix = \"/\"\nupstream = \"uwsgi://127.0.0.1:1\"\nupstream_tls_name = \"a\"\n",
            ),
            (
                "pair.toml",
                "[[location]]\nprefix = \"/\"\nupstream = \"https://a\"\nupstream_cert = \"a.pem\"\n",
            ),
        ],
    );
    let https = &["--upstream", "https://a"][..];
    let with = |more: &[&'static str]| [https, more].concat();
    for (args, why) in [
        (with(&["--upstream-ca", "missing.pem"]), "missing.pem"),
        (with(&["--upstream-ca", "empty.pem"]), "BEGIN CERTIFICATE"),
        (
            with(&["--upstream-cert", "a.pem"]),
            "give upstream_key as well",
        ),
        (
            with(&["--upstream-key", "a.pem"]),
            "give upstream_cert as well",
        ),
        (
            with(&["--upstream-tls-name", "a b"]),
            "cannot be the name in a certificate",
        ),
        (
            vec!["--upstream", "https://-.a..b"],
            "cannot be the name in a certificate",
        ),
        (
            vec!["--config", "plain.toml"],
            "give the address as `https://`",
        ),
        (
            vec!["--config", "uwsgi.toml"],
            "means nothing for a server of uwsgi",
        ),
        (vec!["--config", "pair.toml"], "give upstream_key as well"),
    ] {
        let ended = pyserve().current_dir(dir.path()).args(&args).run();
        assert_eq!(ended.code, 78, "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    }
    // Without authorities no server could be verified.
    let ended = pyserve()
        .args(https)
        .env("SSL_CERT_FILE", dir.path().join("none"))
        .env("SSL_CERT_DIR", dir.path().join("none"))
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    for part in [
        "cannot use",
        "none of SSL_CERT_FILE",
        "give a file as upstream_ca",
    ] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let server = pyserve()
        .args([
            "--upstream",
            "http://127.0.0.1:1",
            "--upstream-tls-name",
            "a",
        ])
        .ready();
    server.stderr.wait_for("upstream_tls_name is not used");
}

/// One variable may name authorities while the other has a wrong path, which would else go unnoticed.
#[test]
fn paths_of_variables_without_authorities_are_warnings() {
    let dir = temp_dir();
    let root = authority().root();
    let (none, text) = (dir.path().join("none"), dir.path().join("text"));
    std::fs::write(&text, "not PEM").unwrap();
    let good = dir.path().join("good");
    std::fs::create_dir(&good).unwrap();
    std::fs::copy(&root, good.join("root.pem")).unwrap();
    let both = std::env::join_paths([&good, &none]).unwrap();
    for (file, dirs, expected) in [
        (&none, good.as_os_str(), "none of SSL_CERT_FILE: "),
        (
            &text,
            good.as_os_str(),
            "text of SSL_CERT_FILE: it has no certificates",
        ),
        (&root, none.as_os_str(), "none of SSL_CERT_DIR: "),
        (&root, &*both, "none of SSL_CERT_DIR: "),
    ] {
        let server = pyserve()
            .args(["--upstream", "https://127.0.0.1:1"])
            .env("SSL_CERT_FILE", file)
            .env("SSL_CERT_DIR", dirs)
            .ready();
        server.stderr.wait_for(expected);
    }
}

#[test]
fn redirects_that_name_the_server_are_mapped_back() {
    let address = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&address);
    let backend = Backend::tls(move |mut call| {
        while let Some(head) = call.http_head() {
            let scheme = if head.starts_with("GET /plain") {
                "http"
            } else {
                "https"
            };
            let address = told.lock().unwrap().clone();
            call.send(format!(
                "HTTP/1.1 302 Found\r\nLocation: {scheme}://{address}/next\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    });
    *address.lock().unwrap() = backend.address().to_owned();
    let server = pyserve().args(backend.flags()).ready();
    assert_eq!(server.get("/").header("Location").as_deref(), Some("/next"));
    // nginx's `proxy_redirect default` has the scheme of `proxy_pass`.
    let plain = server.get("/plain").header("Location").unwrap();
    assert!(plain.starts_with("http://127.0.0.1:"), "{plain}");
}

/// nginx with TLS on a port, behind pyserve: it ends sessions, sends tickets and asks for
/// certificates as OpenSSL does.
#[test]
fn nginx_with_tls_is_a_server_like_another() {
    let clients = Authority::new();
    let (own, client) = (
        authority().issue(&["nginx.test"]),
        clients.issue(&["pyserve"]),
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let dir = temp_dir();
    let long = "0123456789abcdef".repeat(1 << 16);
    write_files(dir.path(), &[("a.txt", "a file"), ("long.txt", &long)]);
    let nginx = Nginx::with_servers(&format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3; server_name nginx.test; ssl_certificate {}; \
         ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on; root {}; \
         keepalive_requests 3; location /who {{ return 200 \"$ssl_client_s_dn $ssl_server_name $ssl_protocol\"; }} }}",
        own.cert.display(),
        own.key.display(),
        clients.root().display(),
        dir.path().display(),
    ));
    let _nginx = match nginx {
        Ok(nginx) => nginx,
        Err(why) => return skipped("nginx with TLS as an upstream", &why),
    };
    let before = || {
        pyserve()
            .args(["--upstream", &format!("https://127.0.0.1:{port}")])
            .args([
                "--upstream-tls-name",
                "nginx.test",
                "--upstream-host",
                "nginx.test",
            ])
            .arg_file("--upstream-ca", &authority().root())
    };
    let server = before()
        .arg_file("--upstream-cert", &client.cert)
        .arg_file("--upstream-key", &client.key)
        .ready();
    for _ in 0..8 {
        assert_eq!(server.get("/a.txt").text(), "a file");
    }
    assert_eq!(
        server.get("/who").text(),
        "CN=server,O=Test nginx.test TLSv1.3"
    );
    assert!(server.get("/long.txt").text() == long);
    // nginx answers 400 inside of the session.
    let response = before().ready().get("/a.txt");
    assert_eq!(response.status(), 400);
    assert!(
        response.text().contains("No required SSL certificate"),
        "{response:?}"
    );
}
