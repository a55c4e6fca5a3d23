//! The PROXY protocol in front of HTTP: who may speak it, what the application learns, and
//! what becomes of headers that cannot be read.

use serde_json::Value;

use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn server() -> Server {
    let app = Pyserve::app("every.py").args(["--proxy-protocol", "127.0.0.1"]);
    app.args(["--trust", "10.0.0.0/8,127.0.0.1"]).ready()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn environ(server: &Server, header: &[u8], fields: &str) -> Value {
    let request = format!("GET /environ HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let mut connection = server.connect();
    let response = connection.exchange([header, request.as_bytes()].concat());
    response.json()["entries"].take()
}

fn remote(entries: &Value) -> (&str, &str, &str) {
    let text = |key: &str| entries[key][1].as_str().unwrap();
    (
        text("REMOTE_ADDR"),
        text("SERVER_PORT"),
        text("wsgi.url_scheme"),
    )
}

#[test]
fn both_versions_name_the_client_also_over_http_2() {
    let server = server();
    let line = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 444\r\n";
    let entries = environ(&server, line, "X-Forwarded-For: 6.6.6.6\r\n");
    assert_eq!(remote(&entries), ("203.0.113.9", "444", "http"));
    assert_eq!(entries["REMOTE_PORT"][1], "4711");
    assert!(
        entries["HTTP_X_FORWARDED_FOR"].is_null(),
        "the client is not trusted"
    );

    let ipv4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 0xBB];
    let over_tls = [&ipv4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    let entries = environ(&server, &v2(0x21, 0x11, &over_tls), "");
    assert_eq!(remote(&entries), ("203.0.113.9", "443", "https"));

    let mut connection = server.connect();
    connection.send(v2(0x21, 0x11, &ipv4));
    let mut http2 = Http2::new(connection);
    let fields = get_fields("/environ");
    http2.headers(1, &fields, true);
    let Outcome::Response(200, body) = http2.outcome(1) else {
        panic!("no response");
    };
    let about: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(remote(&about["entries"]), ("203.0.113.9", "443", "http"));
}

#[test]
fn a_trusted_address_in_the_header_may_name_its_own_client() {
    let entries = environ(
        &server(),
        b"PROXY TCP4 10.1.1.1 192.0.2.1 4711 80\r\n",
        "X-Forwarded-For: 203.0.113.9\r\n",
    );
    assert_eq!(remote(&entries).0, "203.0.113.9");
}

#[test]
fn without_an_address_the_peer_is_shown_but_only_local_is_trusted() {
    let server = server();
    let unix = v2(0x21, 0x31, &[b'x'; 216]);
    let declared = "X-Forwarded-For: 203.0.113.9\r\n";
    for (header, expected) in [
        (&b"PROXY UNKNOWN\r\n"[..], "127.0.0.1"),
        (&unix, "127.0.0.1"),
        (&v2(0x21, 0x00, &[]), "127.0.0.1"),
        (&v2(0x20, 0x00, &[]), "203.0.113.9"),
    ] {
        let entries = environ(&server, header, declared);
        assert_eq!(remote(&entries).0, expected, "{}", header.escape_ascii());
    }
}

#[test]
fn a_header_and_a_request_may_come_byte_by_byte() {
    let server = server();
    for header in [
        b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n".to_vec(),
        v2(0x20, 0x00, &[4, 0, 0]),
    ] {
        let mut connection = server.connect();
        for byte in header.iter().chain(get("/hello").as_bytes()) {
            connection.send([*byte]);
        }
        assert_eq!(connection.response().text(), "hello");
        assert_eq!(connection.exchange(get("/hello")).text(), "hello");
    }
}

#[test]
fn what_is_no_header_ends_the_connection_without_an_answer() {
    let server = Pyserve::app("every.py")
        .args(["--proxy-protocol", "127.0.0.1", "--log-level", "debug"])
        .ready();
    let oversized = [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat();
    let truncated = [SIGNATURE, &[0x21, 0x11, 0, 12, 1, 2, 3]].concat();
    for (bytes, why) in [
        (get("/journal").into_bytes(), "not a PROXY header"),
        (oversized, "too long"),
        (truncated, "ended inside"),
        (v2(0x21, 0x11, &[1, 2, 3]), "truncated"),
        (b"PROXY TCP4 garbage\r\n".to_vec(), "is malformed"),
        (
            format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes(),
            "no end",
        ),
    ] {
        let mut connection = server.connect();
        connection.send(&bytes);
        connection.finish_sending();
        let (answer, end) = connection.rest();
        assert_eq!(answer, b"", "{}", bytes.escape_ascii());
        assert_ne!(end, End::TimedOut, "{}", bytes.escape_ascii());
        server.stderr.wait_for(why);
    }
    // One warning for all: the others are for the level debug.
    assert_eq!(server.stderr.count("WARN"), 1);
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn a_header_that_does_not_come_meets_the_deadline_of_heads() {
    let server = Pyserve::app("hello.py")
        .args(["--proxy-protocol", "127.0.0.1", "--header-timeout", "200ms"])
        .args(["--log-level", "debug"])
        .ready();
    for begun in [&b""[..], b"PROXY ", &SIGNATURE[..7]] {
        let mut connection = server.connect();
        connection.send(begun);
        assert_ne!(connection.rest().1, End::TimedOut);
    }
    server.stderr.wait_for_nth("did not arrive in time", 2);
    assert_eq!(server.stderr.count("WARN"), 1);
}

#[test]
fn a_probe_that_says_nothing_is_no_warning_however_it_ends() {
    let server = Pyserve::app("hello.py")
        .args(["--proxy-protocol", "127.0.0.1", "--header-timeout", "100ms"])
        .args(["--log-level", "debug"])
        .ready();
    let mut closed_by_us = server.connect();
    closed_by_us.finish_sending();
    drop(closed_by_us);
    let reset = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    rustix::net::sockopt::set_socket_linger(&reset, Some(std::time::Duration::ZERO)).unwrap();
    drop(reset);
    let mut silent = server.connect();
    assert_ne!(silent.rest().1, End::TimedOut);
    // Their lines are there, and none is a warning.
    server.stderr.wait_for_nth("connection ended", 3);
    assert_eq!(server.stderr.count("WARN"), 0);
}

#[test]
fn nobody_else_may_speak_it() {
    let server = Pyserve::app("every.py")
        .args(["--proxy-protocol", "192.0.2.0/24"])
        .ready();
    for header in [
        b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 444\r\n".to_vec(),
        v2(0x20, 0x00, &[]),
    ] {
        let mut connection = server.connect();
        connection.send([&header, get("/journal").as_bytes()].concat());
        let (statuses, end) = connection.statuses_to_end();
        assert_eq!(statuses, [400]);
        assert_ne!(end, End::TimedOut);
    }
    assert_eq!(server.get("/hello").text(), "hello");
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn a_balancer_on_a_unix_socket_may_speak_it() {
    let builder = Pyserve::app("environ.py").args(["--proxy-protocol", "unix"]);
    let path = builder.path("http.sock");
    let server = builder
        .args(["--bind", &format!("unix:{}", path.display())])
        .ready();
    server.stderr.wait_for("ready in ");
    let mut connection = Connection::unix(&path);
    connection.send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 444\r\n");
    let entries = connection.exchange(get("/")).json()["entries"].take();
    assert_eq!(remote(&entries), ("203.0.113.9", "444", "http"));
}
