//! Clients inside a TLS session that end their side of it, of the connection below, or of both.
//!
//! RFC 8446 §6.1: `close_notify` ends one direction of a session, and the peer may go on sending.
//! RFC 9112 §9.8: a request without it behind is complete by its own framing. nginx (epoll, at
//! `ngx_http_test_reading`) and Go's net/http answer in all three cases.

use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::half_close::site;
use crate::support::http2::{
    END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, block, frame, get_fields,
};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::tls::authority;

/// The end of a client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// `close_notify` and FIN.
    Both,
    /// FIN alone, as of a client whose process has ended.
    Cut,
    /// `close_notify` alone.
    Session,
}

const ENDS: [Ends; 3] = [Ends::Both, Ends::Cut, Ends::Session];
/// Clearly behind the request.
const LATER: Duration = Duration::from_millis(300);

fn connect(server: &Server, version: &'static SupportedProtocolVersion, alpn: &str) -> Connection {
    let client = authority().client_with(&[alpn], &[version], None);
    let secured = server.connect_tls_port().secured(client, "localhost");
    secured.expect("a handshake")
}

impl Ends {
    fn behind(self, client: &mut Connection, bytes: &[u8]) {
        // With `close_notify` alone, nothing would send what is held back.
        if self != Self::Session {
            client.cork();
        }
        client.send(bytes);
        self.end(client);
    }

    fn end(self, client: &mut Connection) {
        match self {
            Self::Both => client.finish_sending(),
            Self::Cut => client.cut_session(),
            Self::Session => client.end_session(),
        }
    }
}

fn check(tried: impl Fn(Ends, &'static SupportedProtocolVersion)) {
    for ends in ENDS {
        for version in [&TLS13, &TLS12] {
            tried(ends, version);
        }
    }
}

#[test]
fn a_client_that_ends_its_side_behind_its_requests_gets_its_answers() {
    let site = site();
    let server = Pyserve::app("echo.py")
        .with_tls_beside()
        .args(["--access-log", "combined", "--root"])
        .args([site.path()])
        .ready();
    let row = post("/", "one") + &get("/static/a.txt") + &post("/", &"two".repeat(20_000));
    let frames: Vec<u8> = ["/static/a.txt", "/page"]
        .into_iter()
        .zip([1, 3])
        .flat_map(|(path, stream)| {
            let block = block(&get_fields(path));
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        })
        .collect();
    check(|ends, version| {
        let mut client = connect(&server, version, "http/1.1");
        ends.behind(&mut client, row.as_bytes());
        let (bytes, end) = client.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches(" 200 OK").count(), 3, "{ends:?} {version:?}");
        assert!(text.contains("a file in memory") && text.ends_with("twotwo"));
        assert_eq!(end, End::Closed, "{ends:?} {version:?}");

        let mut client = connect(&server, version, "http/1.1");
        ends.behind(&mut client, get("/static/large.bin").as_bytes());
        let (bytes, end) = client.rest();
        assert!(bytes.ends_with(b"xxxend"), "{ends:?} {version:?}");
        assert_eq!(end, End::Closed, "{ends:?} {version:?}");

        let mut http2 = Http2::new(connect(&server, version, "h2"));
        ends.behind(http2.connection(), &frames);
        let file = Outcome::Response(200, b"a file in memory".into());
        assert_eq!(http2.outcome(1), file, "{ends:?} {version:?}");
        assert!(matches!(http2.outcome(3), Outcome::Response(200, _)));
        assert_eq!(http2.farewell().1, End::Closed, "{ends:?} {version:?}");
    });
    server.stdout.wait_for_nth("\"GET /page HTTP/2.0\" 200 ", 6);
    assert_eq!(server.stdout.count("\" 499 "), 0);
}

/// A server whose application holds its requests, and a client with one.
fn held_request(
    server: &Server,
    version: &'static SupportedProtocolVersion,
    h2: bool,
) -> Http2OrPlain {
    match h2 {
        true => {
            let mut http2 = Http2::new(connect(server, version, "h2"));
            let block = block(&get_fields("/held"));
            assert!(http2.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)));
            Http2OrPlain::Http2(http2)
        }
        false => {
            let mut client = connect(server, version, "http/1.1");
            client.send(get("/held"));
            Http2OrPlain::Plain(client)
        }
    }
}

enum Http2OrPlain {
    Http2(Http2),
    Plain(Connection),
}

impl Http2OrPlain {
    fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Http2(http2) => http2.connection(),
            Self::Plain(client) => client,
        }
    }

    fn status(&mut self) -> u16 {
        match self {
            Self::Http2(http2) => match http2.outcome(1) {
                Outcome::Response(status, _) => status,
                other => panic!("{other:?}"),
            },
            Self::Plain(client) => client.response().status(),
        }
    }
}

#[test]
fn a_session_that_ends_later_is_answered_until_the_connection_below_ends() {
    let server = Pyserve::app("held.py")
        .with_tls_beside()
        .args(["--access-log", "combined"])
        .ready();
    let mut left = 0;
    for version in [&TLS13, &TLS12] {
        for h2 in [false, true] {
            let mut client = held_request(&server, version, h2);
            let held = server.probe.held("/held");
            std::thread::sleep(LATER);
            client.connection().end_session();
            std::thread::sleep(LATER);
            held.release();
            assert_eq!(client.status(), 200, "{version:?} {h2}");
        }
    }
    // A FIN behind it means that the client has gone.
    for ends in [Ends::Both, Ends::Cut, Ends::Session] {
        for h2 in [false, true] {
            let mut client = held_request(&server, &TLS13, h2);
            let held = server.probe.held("/held");
            std::thread::sleep(LATER);
            ends.end(client.connection());
            if ends == Ends::Session {
                std::thread::sleep(LATER);
                drop(client);
            }
            left += 1;
            server.stdout.wait_for_nth("\" 499 ", left);
            held.release();
        }
    }
}
