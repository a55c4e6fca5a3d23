//! How connections end whose clients are still sending: what nobody has read must not make
//! the kernel reset the connection, which destroys responses on their way (RFC 9112 §9.6).

use rustix::process::Signal;

use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, get, request};
use crate::support::{temp_dir, write_files};

/// So many requests in a row, longer together than what the server reads in advance.
fn in_a_row(count: usize, target: &str) -> String {
    let filler = format!("X-Filler: {}\r\n", "f".repeat(1000));
    request("GET", target, &filler).repeat(count)
}

/// Reads complete responses up to one that ends the connection; how many there were.
fn responses_to_close(client: &mut Connection) -> usize {
    for count in 1.. {
        let response = client.response();
        assert_eq!((response.status(), response.broken), (200, None));
        if response.header("Connection").as_deref() == Some("close") {
            return count;
        }
    }
    unreachable!("no end of responses")
}

fn assert_ends_well(mut client: Connection) {
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
}

#[test]
fn requests_that_nobody_reads_at_a_stop_do_not_reset_the_connection() {
    let mut server = Pyserve::app("held.py").ready();
    let mut client = server.connect();
    client.send(in_a_row(1, "/inside") + &in_a_row(199, "/"));
    let held = server.probe.held("/inside");
    server.signal(Signal::TERM);
    server.stderr.wait_for("listeners closed");
    held.release();
    assert_eq!(responses_to_close(&mut client), 1);
    // It cannot know yet, and goes on.
    client.send(in_a_row(10, "/"));
    assert_ends_well(client);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_response_on_its_way_survives_the_stop() {
    let mut server = Pyserve::app("big.py").ready();
    let mut client = Connection::tcp_that_takes_little(server.port());
    client.send(in_a_row(200, "/"));
    server.probe.notes.wait_for("called");
    server.signal(Signal::TERM);
    server.stderr.wait_for("listeners closed");
    // From here on the kernel holds what the server has said, and what it has not read.
    let count = responses_to_close(&mut client);
    assert!(count < 200, "{count}");
    assert_ends_well(client);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn files_asked_for_in_a_row_arrive_whole_up_to_the_last_at_a_stop() {
    let site = temp_dir();
    write_files(site.path(), &[("static/a.txt", "a file in memory")]);
    let mut server = Pyserve::app("hello.py")
        .args(["--root"])
        .args([site.path()])
        .ready();
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.exchange(get("/static/a.txt")).status(), 200);
        client.send(in_a_row(200, "/static/a.txt"));
    }
    server.signal(Signal::TERM);
    for mut client in clients {
        let (bytes, end) = client.rest();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(end, End::Closed);
        let (heads, bodies) = (
            text.matches("HTTP/1.1 200").count(),
            text.matches("a file in memory").count(),
        );
        assert!(heads == bodies && heads >= 1, "{heads} {bodies}");
        assert!(heads == 200 || text.contains("Connection: close"), "{text}");
    }
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn whoever_sends_on_behind_a_refusal_gets_it_whole() {
    let server = Pyserve::app("echo.py").args(["--max-body", "1K"]).ready();
    let more = "x".repeat(1 << 20);
    let long_head = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Long: {more}");
    let garbage = format!("garbage\r\n\r\n{more}");
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n{more}");
    let length = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n{more}");
    let closes = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{more}");
    for (request, status) in [
        (&long_head, 431),
        (&garbage, 400),
        (&chunked, 413),
        (&length, 413),
        (&closes, 200),
    ] {
        let mut client = server.connect();
        client.send(request);
        let response = client.response();
        assert_eq!((response.status(), response.broken), (status, None));
        client.send(&more);
        assert_ends_well(client);
    }
}

#[test]
fn the_end_behind_an_unread_body_is_announced_and_a_rest_that_is_here_costs_no_connection() {
    let site = temp_dir();
    write_files(site.path(), &[("static/a.txt", "a")]);
    let server = Pyserve::app("mirror.py")
        .args(["--request-buffering", "no", "--root"])
        .args([site.path()])
        .ready();
    let [file, app] = ["/static/a.txt", "/unread"]
        .map(|target| format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"));
    for (head, status) in [(&file, 405), (&app, 403)] {
        let mut client = server.connect();
        client.send(format!("{head}01234"));
        let response = client.response();
        assert_eq!(response.status(), status);
        assert_eq!(response.header("Connection").as_deref(), Some("close"));
        client.send("56789");
        assert_ends_well(client);
    }
    let mut client = server.connect();
    let response = client.exchange(format!("{file}0123456789"));
    assert_eq!(
        (response.status(), response.header("Connection")),
        (405, None)
    );
    assert_eq!(client.exchange(get("/static/a.txt")).text(), "a");
    // An application that has read all of it.
    let whole = app.replace("/unread", "/");
    let response = client.exchange(format!("{whole}0123456789"));
    assert_eq!(
        (response.status(), response.header("Connection")),
        (200, None)
    );
    assert_eq!(client.exchange(get("/static/a.txt")).text(), "a");
}
