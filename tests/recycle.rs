//! Workers that are replaced while they serve, and more or fewer of them.

use std::collections::HashSet;

use rustix::process::Signal;

use crate::support::server::{Pyserve, Server};

/// Asks until `worker` is answered by somebody else.
fn until_another(server: &Server, worker: &str) -> String {
    let mut connection = server.connect();
    loop {
        let response = connection.exchange(crate::support::server::get("/"));
        assert_eq!(response.status(), 200, "{response:?}");
        if response.text() != worker {
            return response.text();
        }
    }
}

#[test]
fn a_worker_is_replaced_after_its_requests_and_runs_its_exit_hooks() {
    let server = Pyserve::app("hooks.py")
        .args(["--max-requests", "20"])
        .ready();
    let mut connection = server.connect();
    while server.stderr.count("worker is due for recycling") == 0 {
        let response = connection.exchange(crate::support::server::get("/"));
        assert_eq!(response.status(), 200);
    }
    server
        .probe
        .notes
        .wait_for("pyserve.before_exit in worker 0");
    server
        .probe
        .notes
        .wait_for("pyserve.after_fork in worker 1");
    assert_eq!(server.get("/").text(), "frozen True, worker 1");
}

#[test]
fn a_worker_is_replaced_when_it_is_old() {
    let server = Pyserve::app("hello.py")
        .args(["--max-worker-lifetime", "1"])
        .ready();
    server.stderr.wait_for("worker is due for recycling");
    server.stderr.wait_for("s old");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn signals_change_the_number_of_workers() {
    let server = Pyserve::app("dying.py").ready();
    let first = server.get("/").text();
    // Held inside, so another one has to answer.
    let mut inside = server.connect();
    inside.send(crate::support::server::get("/wait"));
    let held = server.probe.held("/wait");
    server.signal(Signal::TTIN);
    let second = until_another(&server, &first);
    held.release();
    assert_eq!(inside.response().status(), 200);

    server.signal(Signal::TTOU);
    server.stderr.wait_for("to=1");
    let mut seen = HashSet::new();
    // The one that was added leaves; what it was given before, it answers.
    loop {
        let worker = server.get("/").text();
        seen.insert(worker.clone());
        if !std::path::Path::new(&format!("/proc/{second}")).exists() {
            break;
        }
    }
    assert_eq!(server.get("/").text(), first, "{seen:?}");
    server.signal(Signal::TTOU);
    server.stderr.wait_for("from 1 to 16 workers");
}

#[test]
fn a_range_of_workers_grows_while_requests_wait() {
    let server = Pyserve::app("held.py").args(["--workers", "1..2"]).ready();
    let mut inside: Vec<_> = ["/first", "/second"]
        .into_iter()
        .map(|path| {
            let mut connection = server.connect();
            connection.send(crate::support::server::get(path));
            connection
        })
        .collect();
    let held = [server.probe.held("/first"), server.probe.held("/second")];
    server.stderr.wait_for("follows the demand");
    held.into_iter().for_each(|held| held.release());
    for connection in &mut inside {
        assert_eq!(connection.response().status(), 200);
    }
}
