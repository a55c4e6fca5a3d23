//! How a server ends: what is in flight, what still comes, and what is said about it.

use rustix::process::Signal;

use crate::support::server::{Pyserve, get};

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
    server.stderr.wait_for("going on for the drain delay");

    let response = before.exchange(get("/"));
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("Connection").as_deref(), Some("close"));
    assert_eq!(before.rest().0, b"");
    assert_eq!(server.get("/").status(), 200, "a new connection");

    server.stderr.wait_for("no more connections");
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.wait_exit(), 0);
    for line in ["the workers leave", "stopped in"] {
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
    let ready = || {
        crate::support::raw::Connection::tcp(port)
            .exchange(get("/-/ready"))
            .status()
    };
    assert_eq!(ready(), 200);
    server.signal(Signal::TERM);
    server.stderr.wait_for("going on for the drain delay");
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
        server.stderr.wait_for("going on for the drain delay");
        server.signal(signal);
        assert_eq!(server.wait_exit(), 128 + signal.as_raw());
    }
}

#[test]
fn a_signal_to_reopen_logs_changes_nothing() {
    let server = Pyserve::app("hello.py").ready();
    server.signal(Signal::USR1);
    server.stderr.wait_for("nothing to open again");
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
