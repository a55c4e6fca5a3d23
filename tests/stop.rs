//! How a server ends: what is in flight, what still comes, and what is said about it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::handshake::Handshake;
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, get};
use crate::support::skipped;

crate::clients_over_tls! {
    during_the_drain_delay_requests_are_answered_and_connections_end_with_them,
    quit_and_a_second_term_stop_at_once_also_in_the_delay,
    a_request_whose_head_is_half_there_at_the_stop_is_answered,
}

#[test]
fn during_the_drain_delay_requests_are_answered_and_connections_end_with_them() {
    let mut server = Pyserve::app("held.py")
        .args(["--drain-delay", "600ms", "--threads", "2"])
        .ready();
    let mut before = server.connect();
    assert_eq!(before.exchange(get("/")).header("Connection"), None);
    let mut inside = server.connect();
    inside.send(get("/inside"));
    let held = server.probe.held("/inside");
    server.signal(Signal::TERM);
    server
        .stderr
        .wait_for("still accepting connections for the drain delay");

    let response = before.exchange(get("/"));
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("Connection").as_deref(), Some("close"));
    assert_eq!(before.rest().0, b"");
    assert_eq!(server.get("/").status(), 200, "a new connection");

    server.stderr.wait_for("listeners closed");
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.wait_exit(), 0);
    for line in ["asking the workers to exit", "stopped in"] {
        server.stderr.wait_for(line);
    }
}

#[test]
fn a_server_that_drains_is_not_ready() {
    let server = Pyserve::app("held.py")
        .args(["--drain-delay", "30", "--admin", "127.0.0.1:0"])
        .ready();
    let line = server.stderr.wait_for("probes, metrics and status on");
    let port = line
        .rsplit(':')
        .next()
        .and_then(|port| port.trim().trim_end_matches('/').parse().ok())
        .expect("a port");
    let ready = || Connection::tcp(port).exchange(get("/-/ready")).status();
    assert_eq!(ready(), 200);
    server.signal(Signal::TERM);
    server
        .stderr
        .wait_for("still accepting connections for the drain delay");
    assert_eq!(ready(), 503);
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn quit_and_a_second_term_stop_at_once_also_in_the_delay() {
    for signal in [Signal::QUIT, Signal::TERM] {
        let mut server = Pyserve::app("held.py")
            .args(["--drain-delay", "30"])
            .ready();
        server.signal(Signal::TERM);
        server
            .stderr
            .wait_for("still accepting connections for the drain delay");
        server.signal(signal);
        assert_eq!(server.wait_exit(), 128 + signal.as_raw());
    }
}

#[test]
fn a_signal_to_reopen_logs_changes_nothing() {
    let server = Pyserve::app("hello.py").ready();
    server.signal(Signal::USR1);
    server.stderr.wait_for("no log files to reopen");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn the_startup_log_has_the_block_and_the_failure() {
    let builder = Pyserve::app("hello.py");
    let log = builder.path("startup.log");
    let server = builder.args(["--startup-log"]).args([&log]).ready();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("workers") && text.contains("ready in"),
        "{text}"
    );
    drop(server);

    let builder = Pyserve::app("boot_fails.py");
    let log = builder.path("startup.log");
    let ended = builder.args(["--startup-log"]).args([&log]).run();
    assert_eq!(ended.code, 4);
    // The directory has gone with the server; that it ended like this is what counts.
}

#[test]
fn over_http2_clients_are_told_and_get_what_they_asked_for() {
    let mut server = Pyserve::app("held.py").ready();
    let mut http2 = Http2::new(server.connect());
    let fields = get_fields("/inside");
    http2.headers(1, &fields, true);
    let held = server.probe.held("/inside");
    server.signal(Signal::TERM);
    // A GOAWAY without an error, while the request still runs.
    let farewell = std::iter::repeat_with(|| http2.ping()).find_map(Result::err);
    assert_eq!(farewell, Some(0));
    held.release();
    let outcome = http2.outcome(1);
    assert!(matches!(outcome, Outcome::Response(200, _)), "{outcome:?}");
    let (codes, end) = http2.farewell();
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    assert_eq!(end, End::Closed);
    assert_eq!(server.wait_exit(), 0);
}

/// More than the runtime takes in one go.
const CROWD: usize = 300;

#[test]
fn connections_that_only_the_kernel_has_accepted_are_answered() {
    let builder = Pyserve::app("hello.py");
    let path = builder.path("http.sock");
    let mut server = builder
        .args(["--bind", "127.0.0.1:0", "--bind", "[::]:0", "--bind"])
        .args([format!("unix:{}", path.display())])
        .ready();
    let line = server.stderr.wait_for("listening on http://[::]:");
    let port = line
        .rsplit(':')
        .next()
        .unwrap()
        .trim()
        .trim_end_matches('/');
    let port: u16 = port.parse().expect("a port");
    let over_ipv6: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    let over_both: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    server.signal(Signal::STOP);
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|number| match number % 4 {
            0 => server.connect(),
            1 => Connection::tcp_to(over_ipv6),
            2 => Connection::tcp_to(over_both),
            _ => Connection::unix(&path),
        })
        .collect();
    for connection in &mut crowd {
        connection.send(get("/"));
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for connection in &mut crowd {
        let response = connection.response();
        assert_eq!(response.text(), "hello");
        assert_eq!(response.header("Connection").as_deref(), Some("close"));
    }
    assert_eq!(server.wait_exit(), 0);
    assert!(!path.exists());
}

#[test]
fn a_client_in_the_middle_of_its_handshake_is_answered() {
    // A machine may be too busy for us to be in time. Then nothing is proved, and we try again.
    for _ in 0..10 {
        let mut server = Pyserve::app("hello.py").ready();
        let mut handshake = match Handshake::begin(server.port()) {
            Ok(handshake) => handshake,
            Err(error) => {
                return skipped("half a handshake", &format!("of a raw socket: {error}"));
            }
        };
        let stopped = Instant::now();
        server.signal(Signal::TERM);
        server.stderr.wait_for("listeners closed");
        handshake.finish(&get("/"));
        if stopped.elapsed() > Duration::from_millis(200) {
            continue;
        }
        let answer = handshake.answer().expect("no reset");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert_eq!(server.wait_exit(), 0);
        return;
    }
    skipped("half a handshake", "this machine is too busy");
}

#[test]
fn a_request_whose_head_is_half_there_at_the_stop_is_answered() {
    let mut server = Pyserve::app("hello.py").ready();
    let request = get("/");
    let (one, two) = request.split_at(20);
    let mut clients = [server.connect(), server.connect()];
    assert_eq!(clients[1].exchange(&request).status(), 200);
    for client in &mut clients {
        client.send(one);
    }
    // The parts have been read once a later request has been answered.
    assert_eq!(server.get("/").status(), 200);
    server.signal(Signal::TERM);
    server.stderr.wait_for("listeners closed");
    // Longer than an idle connection has for its last request.
    std::thread::sleep(Duration::from_millis(500));
    for mut client in clients {
        client.send(two);
        let response = client.response();
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("Connection").as_deref(), Some("close"));
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
    assert_eq!(server.wait_exit(), 0);
}
