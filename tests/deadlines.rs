//! Requests that do not end: the client's response, the escalation, and other requests meanwhile.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::support::DEADLINE;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};

fn server(timeout: &str, threads: &str) -> Server {
    Pyserve::app("hung.py")
        .args(["--request-timeout", timeout, "--threads", threads])
        .ready()
}

#[test]
fn a_request_over_its_deadline_gets_504_and_its_worker_goes_on() {
    for (kind, threads) in [("sleeps", "1"), ("loops", "1"), ("loops", "2")] {
        let server = server("2s", threads);
        let worker = server.get("/").text();
        let path = format!("/{kind}");
        let begun = Instant::now();
        let response = server.get(&path);
        let took = begun.elapsed();
        assert_eq!(response.status(), 504, "{kind}: {response:?}");
        // Without a deadline it ends after a minute. On a busy machine the server may be late.
        assert!(
            took >= Duration::from_secs(2) && took < DEADLINE,
            "{kind}: {took:?} for a deadline of 2 s"
        );
        let ended = format!("{path} ended by RequestTimeout");
        server.probe.notes.wait_for(&ended);
        assert_eq!(server.get("/").text(), worker, "{kind}: the same worker");
        // The request by the front, its stack by the worker.
        let line = server.stderr.wait_for("request exceeded its deadline");
        assert!(line.contains("GET") && line.contains(&path), "{line}");
        assert!(line.contains("worker"), "{line}");
        server.stderr.wait_for("its stack:");
        server.stderr.wait_for(&format!("in {kind}"));
    }
}

#[test]
fn a_request_that_nothing_ends_costs_its_worker_and_nobody_else() {
    for kind in ["swallows", "holds", "computes"] {
        let server = server("500ms", "1");
        let worker = server.get("/").text();
        let path = format!("/{kind}");
        let mut hung = server.connect();
        hung.send(get(&path));
        server.probe.notes.wait_for(&format!("called {path}"));
        let mut behind = server.connect();
        behind.send(get("/"));
        assert_eq!(hung.response().status(), 504, "{kind}");
        let next = behind.response();
        assert_eq!(next.status(), 200, "{kind}: {next:?}");
        assert_ne!(next.text(), worker, "{kind}: another worker");
        server.stderr.wait_for(&format!("in {kind}"));
        // What it asked first, the hung one, and the one behind: each once.
        server.probe.notes.wait_for_nth("called /", 3);
        assert_eq!(server.probe.notes.count("called /"), 3, "{kind}");
    }
}

#[test]
fn a_body_may_go_on_beyond_the_deadline_and_beside_a_stuck_request() {
    // The stuck request is answered after 3 s and given up after 6; the body ends when there is
    // a successor. After 9 s the worker would not wait for it any longer.
    let server = server("3s", "2");
    let worker = server.get("/").text();
    let mut hung = server.connect();
    hung.send(get("/swallows"));
    server.probe.notes.wait_for("called /swallows");
    let mut sibling = server.connect();
    sibling.send(get("/ticks"));
    let ticking = server.probe.held("/ticks");
    server.stderr.wait_for("its worker will be replaced");
    let next = server.get("/");
    assert_eq!(next.status(), 200);
    assert_ne!(next.text(), worker, "a successor");
    assert_eq!(server.stderr.count("worker died"), 0, "and that before");
    ticking.release();
    let sibling = sibling.response();
    assert_eq!((sibling.status(), sibling.broken), (200, None));
    assert!(sibling.text().ends_with(" end"));
    assert_eq!(hung.response().status(), 504);
    let line = server.stderr.wait_for("worker died");
    assert!(line.contains("killed by pyserve"), "{line}");
}

/// Whether a thread has a request that it cannot begin.
fn is_received(server: &Server) -> bool {
    let threads = r#"pyserve_worker_threads{application="hung.py",state="received"}"#;
    server.metric(threads) == Some(1.0)
}

#[test]
fn what_a_sibling_had_received_while_the_interpreter_was_taken_is_run_elsewhere_once() {
    let server = Pyserve::app("hung.py")
        .watched()
        .args(["--request-timeout", "2s", "--threads", "2"])
        .ready();
    let mut hung = server.connect();
    hung.send(get("/holds"));
    server.probe.notes.wait_for("called /holds");
    // Whoever is quicker than the hold is answered at once.
    let mut behind: Vec<Connection> = Vec::new();
    let begun = |server: &Server| server.probe.notes.count("called /");
    while !is_received(&server) {
        if begun(&server) == 1 + behind.len() {
            behind.push(server.connect());
            behind.last_mut().expect("pushed").send(get("/"));
        }
    }
    assert_eq!(hung.response().status(), 504);
    for connection in &mut behind {
        let response = connection.response();
        assert_eq!(response.status(), 200, "{response:?}");
    }
    server
        .probe
        .notes
        .wait_for_nth("called /", 1 + behind.len());
    assert_eq!(begun(&server), 1 + behind.len(), "each once");
    assert_eq!(server.stderr.count("request lost"), 0);
}

#[test]
fn no_request_waits_for_an_interpreter_that_is_taken_while_another_worker_is_free() {
    let server = Pyserve::app("hung.py")
        .watched()
        .env("PYSERVE_WORKERS", "2")
        .args(["--request-timeout", "0", "--threads", "2"])
        .args(["--log-level", "debug"])
        .ready();
    // A thread that has not begun to wait would never get the interpreter.
    let idle = r#"pyserve_worker_threads{application="hung.py",state="idle"}"#;
    server.wait_for_metric(idle, 4.0);
    let mut hung = server.connect();
    hung.send(get("/holds"));
    server.probe.notes.wait_for("called /holds");
    // Threads that wait are woken in the order in which they began to, so its turn comes.
    // On a loaded machine a thread of the other worker may wait again before its turn.
    let (mut asked, began) = (0, Instant::now());
    while server.stderr.count("did not begin it") == 0 {
        assert!(began.elapsed() < DEADLINE, "its sibling receives none");
        assert_eq!(server.get("/").status(), 200);
        asked += 1;
    }
    server.probe.notes.wait_for_nth("called /", 1 + asked);
    assert_eq!(server.probe.notes.count("called /"), 1 + asked, "each once");
}

#[test]
fn requests_over_their_deadline_are_counted_by_what_ended_them() {
    let server = Pyserve::app("hung.py")
        .watched()
        .args(["--request-timeout", "300ms"])
        .ready();
    for (path, end) in [("/sleeps", "interrupted"), ("/computes", "killed")] {
        assert_eq!(server.get(path).status(), 504);
        // Behind it, in the same worker or its successor.
        assert_eq!(server.get("/").status(), 200);
        let name = format!("pyserve_request_timeouts_total{{end={end:?}}}");
        server.wait_for_metric(&name, 1.0);
    }
    let replaced = r#"pyserve_workers_replaced_total{reason="request_timeout"}"#;
    assert_eq!(server.metric(replaced), Some(1.0));
}

#[test]
fn both_threads_of_a_worker_are_interrupted() {
    let server = server("500ms", "2");
    let worker = server.get("/").text();
    let mut hung: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for (number, connection) in hung.iter_mut().enumerate() {
        connection.send(get(&format!("/loops-{number}")));
    }
    for (number, connection) in hung.iter_mut().enumerate() {
        assert_eq!(connection.response().status(), 504);
        let ended = format!("/loops-{number} ended by RequestTimeout");
        server.probe.notes.wait_for(&ended);
    }
    assert_eq!(server.get("/").text(), worker);
}

#[test]
fn a_body_that_does_not_go_on_is_broken_off() {
    let server = server("500ms", "1");
    let mut connection = server.connect();
    connection.send(get("/stream"));
    assert_eq!(connection.response_to_head().status(), 200);
    assert_eq!(connection.chunk().unwrap(), b"piece 0");
    let held = server.probe.held("/stream");
    assert!(connection.chunk().is_err(), "no orderly end");
    server
        .probe
        .notes
        .wait_for("/stream ended by RequestTimeout");
    drop(held);
}

#[test]
fn a_request_whose_client_left_has_a_deadline_as_well() {
    let server = server("500ms", "1");
    let mut connection = server.connect();
    connection.send(get("/sleeps"));
    server.probe.notes.wait_for("called /sleeps");
    drop(connection);
    server
        .probe
        .notes
        .wait_for("/sleeps ended by RequestTimeout");
}

#[test]
fn a_deadline_at_the_end_of_a_request_never_strikes_the_next_one() {
    for threads in ["1", "2"] {
        let server = server("200ms", threads);
        let mut connection = server.connect();
        for _ in 0..15 {
            let near = connection.exchange(get("/near"));
            assert!(matches!(near.status(), 200 | 504), "{near:?}");
            let next = connection.exchange(get("/"));
            assert_eq!(next.status(), 200, "{next:?}");
        }
    }
}

#[test]
fn a_worker_whose_server_was_killed_ends_whatever_it_does() {
    let mut server = server("0", "1");
    let worker = server.get("/").text();
    let mut hung = server.connect();
    hung.send(get("/computes"));
    server.probe.notes.wait_for("called /computes");
    let pid = worker.parse().ok().and_then(Pid::from_raw);
    let ends = pidfd_open(pid.expect("a pid"), PidfdFlags::empty()).unwrap();
    server.signal(Signal::KILL);
    server.wait_exit();
    let limit = Timespec {
        tv_sec: 25,
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&ends, PollFlags::IN)], Some(&limit));
    assert_eq!(
        ended,
        Ok(1),
        "it holds the interpreter, and nobody can tell it to stop"
    );
}
