//! Clients that close their side of the connection, and clients that go.
//!
//! A FIN that comes with a request means that the client sends nothing more, and the response
//! is sent (nginx does so for files, gunicorn and uWSGI always). One that comes more than
//! 50 ms behind it, or a reset, means that it has gone: 499. Over a Unix socket the two differ
//! for the kernel as well.

use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, page};
use crate::support::http2::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, Outcome, block, frame, get_fields,
};
use crate::support::probe::Held;
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get, post, request};
use crate::support::{temp_dir, write_files};

crate::clients_over_tls! {
    an_application_may_take_its_time_for_a_client_that_has_half_closed,
    an_application_may_take_its_time_for_an_http2_client_that_has_half_closed,
    a_client_that_goes_later_is_499_whatever_lies_behind_its_request,
    a_client_that_half_closes_and_goes_later_is_499,
    an_http2_client_that_goes_later_is_499,
}

/// Clearly behind the request.
const LATER: Duration = Duration::from_millis(300);
const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Sends requests and a FIN at once; all that comes back.
fn half_closing(mut client: Connection, requests: impl AsRef<[u8]>) -> String {
    client.send_and_finish(requests);
    let (bytes, end) = client.rest();
    assert_eq!(end, End::Closed);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(connect: impl Fn() -> Connection, requests: &str, bodies: &[&str]) {
    // Each time, not most of the time.
    for turn in 0..20 {
        let text = half_closing(connect(), requests);
        assert_eq!(
            text.matches(" 200 OK").count(),
            bodies.len(),
            "{turn}: {text}"
        );
        let mut rest = &*text;
        for body in bodies {
            let at = rest
                .find(body)
                .unwrap_or_else(|| panic!("{turn}: no {body} in {text}"));
            rest = &rest[at + body.len()..];
        }
    }
}

/// A file in memory, and one that is sent in many pieces.
pub fn site() -> tempfile::TempDir {
    let site = temp_dir();
    let large = "x".repeat(3 << 20) + "end";
    write_files(
        site.path(),
        &[
            ("static/a.txt", "a file in memory"),
            ("static/large.bin", &large),
        ],
    );
    site
}

#[test]
fn a_client_that_half_closes_behind_its_request_gets_its_answer() {
    let site = site();
    let socket = site.path().join("socket");
    let server = Pyserve::app("echo.py")
        .args([
            "--access-log",
            "combined",
            "--bind",
            "127.0.0.1:0",
            "--bind",
        ])
        .args([format!("unix:{}", socket.display())])
        .args(["--root"])
        .args([site.path()])
        .ready();
    let tcp = || server.connect();
    let unix = || Connection::unix(&socket);
    let long_way = request("GET", "/static/a.txt", "If-Match: *\r\n");
    for connect in [&tcp as &dyn Fn() -> Connection, &unix] {
        check(connect, &get("/static/a.txt"), &["a file in memory"]);
        check(connect, &long_way, &["a file in memory"]);
        check(connect, &post("/", "hello"), &["hello"]);
        check(connect, CHUNKED, &["hello"]);
        check(
            connect,
            "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
            &["hi"],
        );
        let row =
            post("/", "one") + &get("/static/a.txt") + &long_way + CHUNKED + &post("/", "two");
        let bodies = [
            "one",
            "a file in memory",
            "a file in memory",
            "hello",
            "two",
        ];
        check(connect, &row, &bodies);
        let text = half_closing(connect(), get("/static/large.bin"));
        assert!(text.ends_with("xxxend"), "{} bytes", text.len());
    }
    assert_eq!(server.stdout.count("\" 499 "), 0);
}

#[test]
fn a_client_behind_a_balancer_may_half_close_as_well() {
    let server = Pyserve::app("hello.py")
        .args(["--proxy-protocol", "127.0.0.1"])
        .ready();
    let text = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 444\r\n".to_owned() + &get("/");
    check(|| server.connect(), &text, &["hello"]);
}

#[test]
fn servers_behind_us_answer_clients_that_half_close() {
    let http = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            // Longer than a FIN may be late.
            std::thread::sleep(Duration::from_millis(60));
            call.send(page("from http"));
        }
    });
    let uwsgi = Backend::saying("HTTP/1.1 200 OK\r\n\r\nfrom uwsgi");
    for (option, address, body) in [
        (
            "--upstream",
            format!("http://{}", http.address()),
            "from http",
        ),
        ("--uwsgi", uwsgi.address().to_owned(), "from uwsgi"),
    ] {
        let server = Pyserve::new()
            .without("PYSERVE_PYTHON")
            .args([option, &address])
            .ready();
        check(|| server.connect(), &get("/"), &[body]);
    }
}

#[test]
fn an_application_may_take_its_time_for_a_client_that_has_half_closed() {
    let server = Pyserve::app("held.py").ready();
    for behind in ["", "\r\n"] {
        let mut client = server.connect();
        client.send_and_finish(get("/slow") + behind);
        let held = server.probe.held("/slow");
        std::thread::sleep(LATER);
        held.release();
        assert_eq!(client.response().status(), 200);
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
}

/// A server with an access log, and a request that its application holds.
fn holding(behind: &str) -> (Server, Connection, Held) {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "combined"])
        .ready();
    let mut client = server.connect();
    client.send(get("/left") + behind);
    let held = server.probe.held("/left");
    (server, client, held)
}

#[test]
fn a_client_that_goes_later_is_499_whatever_lies_behind_its_request() {
    let long = post("/", &"x".repeat(30_000));
    for behind in ["", "\r\n", &get("/"), "garbage", &long] {
        let (server, mut client, held) = holding("");
        client.send(behind);
        std::thread::sleep(LATER);
        drop(client);
        server.stdout.wait_for("\"GET /left HTTP/1.1\" 499 ");
        held.release();
        assert_eq!(server.get("/").status(), 200);
        server.stdout.wait_for("\"GET / HTTP/1.1\"");
        assert_eq!(
            server.stdout.count("\"GET / HTTP/1.1\""),
            1,
            "nothing of it runs"
        );
    }
    for behind in ["", "\r\n", &get("/")] {
        let (server, client, held) = holding(behind);
        client.reset();
        server.stdout.wait_for("\"GET /left HTTP/1.1\" 499 ");
        drop(held);
    }
}

#[test]
fn a_client_that_half_closes_and_goes_later_is_499() {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "combined"])
        .ready();
    let mut client = server.connect();
    client.send_and_finish(get("/left") + "\r\n");
    let held = server.probe.held("/left");
    std::thread::sleep(LATER);
    client.reset();
    server.stdout.wait_for("\"GET /left HTTP/1.1\" 499 ");
    drop(held);
}

#[test]
fn a_unix_socket_shows_whether_its_client_has_gone() {
    let dir = temp_dir();
    let socket = dir.path().join("socket");
    let server = Pyserve::app("held.py")
        .args([
            "--access-log",
            "combined",
            "--bind",
            "127.0.0.1:0",
            "--bind",
        ])
        .args([format!("unix:{}", socket.display())])
        .ready();
    for behind in ["", "\r\n"] {
        let mut client = Connection::unix(&socket);
        client.send(get("/late") + behind);
        let held = server.probe.held("/late");
        std::thread::sleep(LATER);
        client.finish_sending();
        std::thread::sleep(LATER);
        held.release();
        assert_eq!(client.response().status(), 200, "it only half-closed");
    }
    for (turn, behind) in ["", "\r\n"].into_iter().enumerate() {
        let mut at_once = Connection::unix(&socket);
        at_once.send(get("/left") + behind);
        let held = server.probe.held("/left");
        drop(at_once);
        server
            .stdout
            .wait_for_nth("\"GET /left HTTP/1.1\" 499 ", turn + 1);
        held.release();
    }
}

#[test]
fn clients_that_went_cost_no_worker_whatever_lies_behind_their_requests() {
    let (server, busy, held) = holding("");
    for _ in 0..6 {
        let mut client = server.connect();
        client.send(get("/gone") + "\r\n");
        let mut pipelining = server.connect();
        pipelining.send(get("/gone") + &get("/gone"));
        // Both requests have been read once a later one has been refused.
        assert_eq!(server.exchange("GET / HTTP/9.0\r\n\r\n").status(), 505);
        client.reset();
        pipelining.reset();
    }
    server
        .stdout
        .wait_for_nth("\"GET /gone HTTP/1.1\" 499 ", 12);
    held.release();
    let mut busy = busy;
    assert_eq!(busy.response().status(), 200);
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(server.probe.notes.count("called /gone"), 0);
}

#[test]
fn a_server_behind_us_sees_that_a_client_has_gone() {
    let (seen, ended) = channel();
    let backend = Backend::tcp(move |mut call| {
        call.http_head();
        seen.send("asked").unwrap();
        call.rest();
        let _ = seen.send("ended");
    });
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--access-log", "combined", "--upstream"])
        .args([format!("http://{}", backend.address())])
        .ready();
    for behind in ["", "\r\n", &get("/")] {
        let mut client = server.connect();
        client.send(get("/") + behind);
        assert_eq!(ended.recv_timeout(DEADLINE), Ok("asked"));
        client.reset();
        assert_eq!(ended.recv_timeout(DEADLINE), Ok("ended"), "{behind:?}");
    }
    server.stdout.wait_for_nth("\" 499 ", 3);
}

/// A GET over HTTP/2.
fn http2_get(stream: u32, path: &str) -> Vec<u8> {
    let flags = END_HEADERS | END_STREAM;
    frame(HEADERS, flags, stream, &block(&get_fields(path)))
}

/// GOAWAY of a client that opens no more streams (RFC 9113 §6.8).
fn http2_goaway() -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[0; 8])
}

#[test]
fn an_http2_client_that_half_closes_behind_its_requests_gets_its_answers() {
    let site = temp_dir();
    write_files(site.path(), &[("static/a.txt", "a file in memory")]);
    let socket = site.path().join("socket");
    let server = Pyserve::app("hello.py")
        .args(["--access-log", "combined", "--bind", "127.0.0.1:0"])
        .args(["--bind", &format!("unix:{}", socket.display())])
        .args(["--root"])
        .args([site.path()])
        .ready();
    let row = [http2_get(1, "/static/a.txt"), http2_get(3, "/page")].concat();
    let tcp = || server.connect();
    let unix = || Connection::unix(&socket);
    let mut requests = 0;
    for connect in [&tcp as &dyn Fn() -> Connection, &unix] {
        for behind in [Vec::new(), http2_goaway()] {
            for _ in 0..5 {
                let mut http2 = Http2::new(connect());
                http2.send_and_finish(&[&row[..], &behind].concat());
                let file = Outcome::Response(200, b"a file in memory".into());
                assert_eq!(http2.outcome(1), file);
                assert!(matches!(http2.outcome(3), Outcome::Response(200, _)));
                let (codes, end) = http2.farewell();
                assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
                assert_eq!(end, End::Closed);
                requests += 1;
            }
        }
    }
    let line = "\"GET /page HTTP/2.0\" 200 ";
    server.stdout.wait_for_nth(line, requests);
    assert_eq!(server.stdout.count("\" 499 "), 0);
}

#[test]
fn an_application_may_take_its_time_for_an_http2_client_that_has_half_closed() {
    let server = Pyserve::app("held.py").ready();
    let mut http2 = Http2::new(server.connect());
    // The body of the other request is incomplete, so it is reset.
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/post"),
        (":authority", "localhost"),
    ];
    let post = frame(HEADERS, END_HEADERS, 3, &block(&post));
    http2.send_and_finish(&[http2_get(1, "/slow"), post].concat());
    let held = server.probe.held("/slow");
    std::thread::sleep(LATER);
    held.release();
    assert!(matches!(http2.outcome(1), Outcome::Response(200, _)));
    assert_eq!(http2.farewell().1, End::Closed);
}

#[test]
fn an_http2_client_that_goes_later_is_499() {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "combined"])
        .ready();
    let mut http2 = Http2::new(server.connect());
    assert!(http2.try_send(&http2_get(1, "/left")));
    let held = server.probe.held("/left");
    std::thread::sleep(LATER);
    http2.finish_sending();
    server.stdout.wait_for("\"GET /left HTTP/2.0\" 499 ");
    held.release();
}

#[test]
fn each_request_of_an_http2_client_that_goes_at_once_is_logged() {
    let site = temp_dir();
    let socket = site.path().join("socket");
    let server = Pyserve::app("hello.py")
        .args(["--access-log", "combined", "--bind", "127.0.0.1:0"])
        .args(["--bind", &format!("unix:{}", socket.display())])
        .ready();
    let row = [http2_get(1, "/gone"), http2_get(3, "/gone")].concat();
    for turn in 1..=5 {
        for (of_two, connection) in [server.connect(), Connection::unix(&socket)]
            .into_iter()
            .enumerate()
        {
            let mut http2 = Http2::new(connection);
            // With nothing unread the connection ends by a FIN, not by a reset.
            http2.round_trip();
            http2.send_and_finish(&row);
            drop(http2);
            let lines = 4 * (turn - 1) + 2 * (of_two + 1);
            server.stdout.wait_for_nth("\"GET /gone HTTP/2.0\" ", lines);
        }
    }
}
