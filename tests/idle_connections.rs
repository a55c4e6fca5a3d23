//! Idle keep-alive connections: their memory, and that each goes on as any other connection.

use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::cost::{many_descriptors, memory};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get, post, request};

const CONNECTIONS: usize = 1_000;
/// Bytes of memory for each: 10 KiB, and a fifth more for a debug build.
const EACH: u64 = 12 << 10;

/// Waits until each of so many connections takes no more than [`EACH`] bytes.
#[track_caller]
fn wait_for_memory(server: &Server, before: u64) {
    let began = Instant::now();
    let mut busy = server.connect();
    loop {
        // The allocator returns memory when it is called.
        for _ in 0..20 {
            assert_eq!(busy.exchange(get("/hello")).status(), 200);
        }
        let each = memory(server).saturating_sub(before) / CONNECTIONS as u64;
        if each <= EACH {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{each} bytes each");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn idle_connections_take_ten_kib_each_and_are_served_again() {
    many_descriptors();
    let mut server = Pyserve::app("every.py")
        .args(["--header-timeout", "60s", "--keepalive-timeout", "60s"])
        .watched()
        .ready();
    for _ in 0..50 {
        assert_eq!(server.connect().exchange(get("/hello")).status(), 200);
    }
    let before = memory(&server);
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for connection in &mut connections {
        assert_eq!(connection.exchange(get("/hello")).text(), "hello");
    }
    wait_for_memory(&server, before);

    // Requests of all kinds are served as on a new connection.
    let mut next = connections.iter_mut();
    let body = "b".repeat(100_000);
    let echoed = next.next().unwrap().exchange(post("/echo", &body));
    assert!(echoed.text() == body);
    let pipelined = next.next().unwrap();
    pipelined.send(get("/hello") + &post("/echo", "second") + &get("/hello"));
    for expected in ["hello", "second", "hello"] {
        assert_eq!(pipelined.response().text(), expected);
    }
    let split = next.next().unwrap();
    let parts = post("/echo", "parts");
    for part in parts.as_bytes().chunks(7) {
        split.send(part);
    }
    assert_eq!(split.response().text(), "parts");
    // A head that is longer than what hyper reads at a time.
    let long = next.next().unwrap();
    let lines: String = (0..6)
        .map(|at| format!("X-{at}: {}\r\n", "v".repeat(4_000)))
        .collect();
    let head = request("GET", "/hello", &lines);
    assert_eq!(long.exchange(head).text(), "hello");
    let malformed = next.next().unwrap();
    malformed.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(malformed.response().status(), 400);
    assert_eq!(malformed.rest(), (Vec::new(), End::Closed));
    let last = next.next().unwrap();
    last.send("GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(last.response().text(), "hello");
    assert_eq!(last.rest(), (Vec::new(), End::Closed));
    // RFC 9113 §3.4: HTTP/2 begins with the first bytes of a connection.
    let switched = next.next().unwrap();
    switched.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(switched.response().status(), 505);
    // An idle connection that ends, and one inside a head.
    next.next().unwrap().finish_sending();
    let left = next.next().unwrap();
    left.send("GET /hello HTTP/1.1\r\nHo");
    left.finish_sending();
    assert_eq!(left.rest(), (Vec::new(), End::Closed));

    // The server's end closes those that are idle.
    server.signal(rustix::process::Signal::TERM);
    for connection in next {
        assert_eq!(connection.rest(), (Vec::new(), End::Closed));
    }
    assert_eq!(server.wait_exit(), 0);
}
