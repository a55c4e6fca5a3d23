//! The beginning and the end of connections with TLS.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};
use crate::support::tls::authority;
use crate::support::{temp_dir, write_files};

fn handshakes(server: &Server, version: &str, outcome: &str) -> f64 {
    let name =
        format!("pyserve_tls_handshakes_total{{version=\"{version}\",outcome=\"{outcome}\"}}");
    server.metric(&name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn sessions_are_resumed_and_handshakes_counted() {
    let server = Pyserve::app("environ.py").with_tls().watched().ready();
    for (version, name) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let client = authority().client_with(&["http/1.1"], &[version], None);
        let connect = || {
            let client = client.clone();
            let secured = server.connect_tls_port().secured(client, "localhost");
            let mut connection = secured.unwrap();
            // Tickets of TLS 1.3 come behind the handshake.
            assert_eq!(connection.exchange(get("/")).status(), 200);
            connection.session().handshake_kind()
        };
        assert_eq!(connect(), Some(HandshakeKind::Full), "{name}");
        assert_eq!(connect(), Some(HandshakeKind::Resumed), "{name}");
        assert_eq!(handshakes(&server, name, "full"), 1.0);
        assert_eq!(handshakes(&server, name, "resumed"), 1.0);
    }
}

#[test]
fn a_silent_and_a_slow_handshake_are_bounded_as_a_slow_head_is() {
    let server = Pyserve::app("environ.py")
        .with_tls()
        .watched()
        .args(["--header-timeout", "500ms"])
        .ready();
    let began = Instant::now();
    let mut silent = server.connect_tls_port();
    // A record that announces 512 bytes, of which one comes now and then.
    let mut slow = server.connect_tls_port();
    slow.send([0x16, 3, 1, 2, 0]);
    let mut sent = 0;
    while slow.try_send([1]).is_ok() && began.elapsed() < Duration::from_secs(20) {
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sent < 300, "{sent}");
    assert_ne!(silent.rest().1, End::TimedOut);
    server.wait_for_metric(
        "pyserve_tls_handshakes_total{version=\"\",outcome=\"timed_out\"}",
        2.0,
    );
}

#[test]
fn what_is_no_tls_is_counted_and_closed() {
    let server = Pyserve::app("environ.py").with_tls().watched().ready();
    let mut connection = server.connect_tls_port();
    connection.send([0, 1, 2, 3, 4, 5]);
    assert_ne!(connection.rest().1, End::TimedOut);
    server.wait_for_metric(
        "pyserve_tls_handshakes_total{version=\"\",outcome=\"failed\"}",
        1.0,
    );
    drop(server.connect_tls_port());
    server.wait_for_metric(
        "pyserve_tls_handshakes_total{version=\"\",outcome=\"aborted\"}",
        1.0,
    );
}

#[test]
fn an_idle_connection_ends_with_close_notify() {
    let server = Pyserve::app("environ.py")
        .with_tls()
        .args(["--keepalive-timeout", "300ms"])
        .ready();
    let mut connection = server.connect_tls();
    assert_eq!(connection.exchange(get("/")).status(), 200);
    // An end without it is an error of rustls: `End::Reset`.
    assert_eq!(connection.rest(), (Vec::new(), End::Closed));
    // HTTP/2 sends GOAWAY before.
    let client = authority().client(&["h2"]);
    let secured = server.connect_tls_port().secured(client, "localhost");
    let mut connection = secured.unwrap();
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(connection.rest().1, End::Closed);
}

#[test]
fn a_stop_finishes_responses_and_ends_sessions_in_order() {
    let mut server = Pyserve::app("held.py").with_tls().ready();
    let mut idle = server.connect_tls();
    let mut busy = server.connect_tls();
    busy.send(get("/held"));
    let held = server.probe.held("/held");
    server.signal(Signal::TERM);
    assert_eq!(idle.rest(), (Vec::new(), End::Closed));
    held.release();
    let response = busy.response();
    assert_eq!((response.status(), response.broken), (200, None));
    assert_eq!(response.header("Connection").as_deref(), Some("close"));
    assert_eq!(busy.rest(), (Vec::new(), End::Closed));
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_reload_keeps_sessions_and_tickets() {
    let server = Pyserve::app("environ.py").with_tls().ready();
    let client = authority().client(&["http/1.1"]);
    let connect = || {
        let secured = server
            .connect_tls_port()
            .secured(client.clone(), "localhost");
        secured.unwrap()
    };
    let mut kept = connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(kept.exchange(get("/")).status(), 200);
    let mut resumed = connect();
    assert_eq!(resumed.exchange(get("/")).status(), 200);
    let kind = resumed.session().handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
}

#[test]
fn a_large_file_arrives_whole_at_a_client_that_reads_slowly() {
    const LENGTH: usize = 6 << 20;
    let dir = temp_dir();
    let bytes: String = (0..LENGTH / 8).map(|at| format!("{at:08}")).collect();
    write_files(dir.path(), &[("static/large.bin", &bytes)]);
    let server = Pyserve::new()
        .with_tls()
        .arg_file("--root", dir.path())
        .ready();
    let connection = Connection::tcp_that_takes_little(server.tls_port());
    let client = authority().client(&["http/1.1"]);
    let mut connection = connection.secured(client, "localhost").unwrap();
    for _ in 0..2 {
        connection.send(get("/static/large.bin"));
        let head = connection.response_to_head();
        assert_eq!(head.status(), 200);
        let mut received = Vec::new();
        while received.len() < LENGTH {
            let part = (LENGTH - received.len()).min(100_000);
            received.extend(connection.exactly(part));
        }
        assert!(received == bytes.as_bytes());
    }
}

#[test]
fn pipelined_files_that_a_client_does_not_take_at_once_arrive_whole() {
    const REQUESTS: usize = 402;
    let dir = temp_dir();
    // One is copied behind its head, one is sent from its own memory, one lies in a memory file.
    let files = [3_000, 9_000, 30_000].map(|length| "0123456789".repeat(length / 10));
    let targets = ["/static/a.txt", "/static/b.txt", "/static/c.txt"];
    for (target, text) in targets.iter().zip(&files) {
        write_files(dir.path(), &[(&target[1..], text)]);
    }
    let server = Pyserve::new()
        .with_tls()
        .arg_file("--root", dir.path())
        .ready();
    let connection = Connection::tcp_that_takes_little(server.tls_port());
    let client = authority().client(&["http/1.1"]);
    let mut connection = connection.secured(client, "localhost").unwrap();
    // In memory from the first response on.
    for target in targets {
        assert_eq!(connection.exchange(get(target)).status(), 200);
    }
    connection.send(targets.map(get).concat().repeat(REQUESTS / targets.len()));
    for at in 0..REQUESTS {
        let response = connection.response();
        assert_eq!(response.status(), 200, "{at}");
        assert!(
            response.body == files[at % targets.len()].as_bytes(),
            "{at}"
        );
    }
}

#[test]
fn a_flood_of_handshakes_leaves_others_their_turn() {
    let server = Pyserve::app("environ.py").with_tls().watched().ready();
    let mut kept = server.connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..4 {
                let hello = client_hello();
                let connections: Vec<_> = (0..100)
                    .map(|_| {
                        let mut one = Connection::tcp_from([127, 0, 0, 9], server.tls_port());
                        one.send(&hello);
                        one
                    })
                    .collect();
                drop(connections);
            }
        });
        while !flood.is_finished() {
            assert_eq!(kept.exchange(get("/")).status(), 200);
            assert_eq!(server.connect_tls().exchange(get("/")).status(), 200);
        }
    });
}

/// The first flight of a client.
fn client_hello() -> Vec<u8> {
    let client = authority().client(&["http/1.1"]);
    let name = crate::support::tls::server_name("localhost");
    let mut session = rustls::ClientConnection::new(client, name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

/// A ClientHello that announces 64 KiB less one, in records of 4 KiB.
fn endless_hello(bytes: usize) -> Vec<u8> {
    let mut hello = vec![1, 0, 0xFF, 0xFF, 3, 3];
    hello.resize(bytes, 0);
    let records = hello.chunks(4096).map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[0x16, 3, 1], &length[..], part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

#[test]
fn an_unfinished_handshake_is_limited_in_bytes() {
    let server = Pyserve::app("environ.py").with_tls().watched().ready();
    let failed = "pyserve_tls_handshakes_total{version=\"\",outcome=\"failed\"}";
    let mut waiting = server.connect_tls_port();
    waiting.send(endless_hello(30_000));
    let mut refused = server.connect_tls_port();
    let _closed_meanwhile = refused.try_send(endless_hello(60_000));
    assert_ne!(refused.rest().1, End::TimedOut);
    server.wait_for_metric(failed, 1.0);
    assert!(waiting.try_send([0x16]).is_ok(), "it may go on");
}

#[test]
fn unfinished_handshakes_stay_within_the_memory_budget() {
    let server = Pyserve::app("environ.py")
        .with_tls()
        .watched()
        .args(["--memory-budget", "16M"])
        .ready();
    let hello = endless_hello(31_000);
    // With 60 KiB each for the buffers, they would take all of the budget.
    let mut crowd: Vec<_> = (0..250).map(|_| server.connect_tls_port()).collect();
    for client in &mut crowd {
        let _closed_meanwhile = client.try_send(&hello);
    }
    let began = Instant::now();
    let refused = || {
        server
            .metric("pyserve_tls_handshakes_total{version=\"\",outcome=\"failed\"}")
            .unwrap_or_default()
    };
    while refused() < 1.0 {
        assert!(
            began.elapsed() < crate::support::DEADLINE,
            "none was refused"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(crowd);
    let mut client = server.connect_tls();
    assert_eq!(client.exchange(get("/")).status(), 200);
}

/// As nginx, which has the status 497 for it inside.
#[test]
fn plain_http_on_an_address_with_tls_gets_a_400_that_says_so() {
    let dir = temp_dir();
    write_files(dir.path(), &[("page.txt", "a file in memory")]);
    let server = Pyserve::app("environ.py")
        .with_tls()
        .watched()
        .args(["--proxy-protocol", "127.0.0.1"])
        .args(["--static", &format!("/static={}", dir.path().display())])
        .ready();
    let refused = |mut connection: Connection, target: &str| {
        let response = connection.exchange(get(target));
        assert_eq!(response.status(), 400, "{target}");
        let page = response.text();
        assert!(page.contains("https:// in place of http://"), "{page}");
        assert_eq!(response.header("strict-transport-security"), None);
        assert_eq!(connection.rest().1, End::Closed, "{target}");
    };
    for target in ["/", "/static/page.txt"] {
        let port = server.tls_port();
        refused(Connection::tcp_from([127, 0, 0, 2], port), target);
        // With the header of a balancer, and the request at once behind it.
        let mut connection = server.connect_tls_port();
        connection.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n");
        refused(connection, target);
    }
    server.wait_for_metric(
        "pyserve_tls_handshakes_total{version=\"\",outcome=\"failed\"}",
        4.0,
    );
}
