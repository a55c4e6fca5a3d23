//! gevent and eventlet, which make greenlets of threads: requests run side by side, and a deadline ends
//! the request that is meant.

use std::path::{Path, PathBuf};

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{python, skipped};

const LIBRARIES: [&str; 2] = ["gevent", "eventlet"];

/// The environment with both libraries; says that `what` is skipped where it cannot be had.
fn environment(what: &str) -> Option<PathBuf> {
    python::libraries()
        .map_err(|because| skipped(what, &because))
        .ok()
}

fn server(venv: &Path, library: &str, when: &str, threads: &str) -> Server {
    // Importing the library takes a while, and is a request's then.
    let timeout = if when == "request" { "6s" } else { "2s" };
    Pyserve::app("green.py")
        .without("PYSERVE_PYTHON")
        .env("GREEN", library)
        .env("WHEN", when)
        .args(["--venv".as_ref(), venv.as_os_str()])
        .args(["--threads", threads, "--request-timeout", timeout])
        .ready()
}

#[test]
fn a_thread_whose_request_waits_holds_no_other_up() {
    let Some(venv) = environment("threads under gevent and eventlet") else {
        return;
    };
    for library in LIBRARIES {
        for when in ["import", "fork"] {
            let server = server(&venv, library, when, "3");
            let worker = server.get("/").text();
            // All three threads are inside at once, or the last does not get there.
            let places = ["/wait/a", "/wait/b", "/wait/c"];
            let waiting: Vec<_> = places.map(|place| server.hold(place)).into();
            for (mut connection, held) in waiting {
                held.release();
                let response = connection.response();
                assert_eq!(response.status(), 200, "{library}, {when}");
                assert_eq!(response.text(), worker, "{library}, {when}");
            }
            assert_eq!(server.get("/sleep?0.1").text(), worker, "{library}");
        }
    }
}

#[test]
fn processes_of_requests_under_gevent_and_threads_are_warned_of_once() {
    let Some(venv) = environment("processes under gevent") else {
        return;
    };
    for (library, when, threads, expected) in [
        ("gevent", "import", "4", 1),
        ("gevent", "fork", "4", 1),
        ("gevent", "import", "1", 0),
        ("gevent-threads", "import", "4", 0),
        ("eventlet", "import", "4", 0),
    ] {
        let server = server(&venv, library, when, threads);
        let answers: Vec<_> = (0..8)
            .map(|_| {
                let mut connection = server.connect();
                connection.send(get("/process"));
                connection
            })
            .collect();
        for mut connection in answers {
            let response = connection.response();
            // What the warning is about is gevent's own; all others work.
            if expected == 0 {
                assert_eq!((response.status(), &*response.text()), (200, "a process"));
            }
        }
        let warned = server.stderr.count("gevent has patched subprocess");
        assert_eq!(warned, expected, "{library}, {when}, {threads}");
    }
}

#[test]
fn a_deadline_strikes_the_request_that_is_meant_and_no_other() {
    let Some(venv) = environment("deadlines under gevent and eventlet") else {
        return;
    };
    std::thread::scope(|scope| {
        for (library, when, threads) in [
            ("gevent", "import", "1"),
            ("eventlet", "import", "1"),
            ("gevent", "request", "1"),
            ("gevent", "import", "3"),
            ("gevent", "request", "3"),
        ] {
            let venv = &venv;
            scope.spawn(move || check_deadline(venv, library, when, threads));
        }
    });
}

fn check_deadline(venv: &Path, library: &str, when: &str, threads: &str) {
    let case = format!("{library} patched at {when}, {threads} threads");
    let server = server(venv, library, when, threads);
    let worker = server.get("/").text();
    let paths = match (threads, when) {
        ("1", "import") => ["/sleep?60", "/receive", "/spin", "/spawn"].as_slice(),
        ("1", _) => &["/sleep?60"],
        _ => &["/sleep?60", "/sleep?61", "/receive"],
    };
    let at_once = threads.parse().unwrap();
    for paths in paths.chunks(at_once) {
        let mut hung: Vec<Connection> = Vec::new();
        for path in paths {
            let mut connection = server.connect();
            connection.send(get(path));
            hung.push(connection);
        }
        for (connection, path) in hung.iter_mut().zip(paths) {
            assert_eq!(connection.response().status(), 504, "{case}: {path}");
        }
        // Also in the threads that were interrupted last.
        for _ in 0..2 * at_once {
            let next = server.get("/sleep?0.01");
            assert_eq!(next.text(), worker, "{case}: behind {paths:?}");
        }
    }
    let notes = &server.probe.notes;
    notes.wait_for_nth("ended by RequestTimeout", paths.len());
    assert_eq!(server.stderr.count("worker died"), 0, "{case}");
}

#[test]
fn a_request_in_a_hub_that_nobody_can_wake_costs_its_worker_and_no_other_request() {
    let Some(venv) = environment("eventlet's threads") else {
        return;
    };
    let server = server(&venv, "eventlet", "import", "2");
    let mut hung = Vec::new();
    for _ in 0..2 {
        let mut connection = server.connect();
        connection.send(get("/sleep?60"));
        hung.push(connection);
    }
    for connection in &mut hung {
        assert_eq!(connection.response().status(), 504);
    }
    // One of them is in the main thread, the other in a thread that eventlet cannot wake.
    server.stderr.wait_for("worker died");
    assert_eq!(server.get("/").status(), 200);
    let ended = server.probe.notes.count("ended by");
    let timeouts = server.probe.notes.count("ended by RequestTimeout");
    assert_eq!((ended, timeouts), (1, 1), "the main thread's alone");
}

#[test]
fn stacks_show_requests_that_wait_in_a_hub() {
    let Some(venv) = environment("stacks under gevent and eventlet") else {
        return;
    };
    for library in LIBRARIES {
        for threads in ["1", "2"] {
            let server = server(&venv, library, "import", threads);
            let waiting: Vec<_> = (0..threads.parse().unwrap())
                .map(|number| server.hold(&format!("/wait/{number}")))
                .collect();
            let control = server.probe.path("control");
            let stacks = Pyserve::bare().args(["stacks", "--control"]);
            let output = stacks.args([&control]).run();
            assert_eq!(output.code, 0, "{library}: {}", output.stderr);
            for number in 0..waiting.len() {
                let path = format!("GET /wait/{number} ");
                assert!(
                    output.stdout.contains(&path),
                    "{library}: {}",
                    output.stdout
                );
            }
            let inside = output.stdout.matches("in application").count();
            assert_eq!(inside, waiting.len(), "{library}: {}", output.stdout);
        }
    }
}
