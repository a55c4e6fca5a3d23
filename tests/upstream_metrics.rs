//! What the metrics say of servers behind pyserve.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, page};
use crate::support::server::{Pyserve, Server, get};

fn watched(addresses: &[&str]) -> Server {
    let mut builder = Pyserve::new().without("PYSERVE_PYTHON").watched();
    for address in addresses {
        builder = builder.args(["--upstream", address]);
    }
    builder.args(["--upstream-read-timeout", "300ms"]).ready()
}

/// The samples of this family, by what is behind the name of the server, zeros left out.
fn samples(server: &Server, family: &str, of: &str) -> Vec<String> {
    let label = format!("server=\"{of}\"");
    let page = server.admin("/-/metrics").text();
    let lines = page
        .lines()
        .filter(|line| line.starts_with(family) && line.contains(&label));
    let rest = lines.map(|line| line.split_once(&label).unwrap().1.to_owned());
    rest.filter(|rest| !rest.ends_with(" 0")).collect()
}

#[test]
fn requests_connections_and_what_is_in_flight_are_counted_for_each_server() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let (arrived, arrivals) = channel::<()>();
    let arrived = Mutex::new(arrived);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        if packet.vars["PATH_INFO"] == "/held" {
            arrived.lock().unwrap().send(()).unwrap();
            let _over = held.lock().unwrap().recv();
        }
        call.send(page("x"));
    });
    let of = backend.address();
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .watched()
        .args(["--uwsgi", of])
        .ready();
    let counted = |family: &str| samples(&server, family, of);
    let nothing = Vec::<String>::new();
    assert_eq!(counted("pyserve_upstream_requests_total"), nothing);
    for _ in 0..3 {
        assert_eq!(server.get("/").text(), "x");
    }
    let mut client = server.connect();
    client.send(get("/held"));
    arrivals.recv().unwrap();
    let began = Instant::now();
    while counted("pyserve_upstream_requests_in_flight") != ["} 1"] {
        // Places are given back behind the responses.
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert_eq!(counted("pyserve_upstream_requests_total"), ["} 4"]);
    assert_eq!(counted("pyserve_upstream_connections_total"), ["} 4"]);
    drop(hold);
    assert_eq!(client.response().text(), "x");
    while counted("pyserve_upstream_requests_in_flight") != nothing {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert_eq!(counted("pyserve_upstream_failures_total"), nothing);
}

#[test]
fn failures_are_counted_by_what_they_were() {
    let backend = Backend::tcp(|mut call| {
        let head = call.http_head().unwrap_or_default();
        if head.starts_with("GET /garbage") {
            call.send("<html>\r\n\r\n");
        } else if head.starts_with("GET /cut") {
            call.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        } else if head.starts_with("GET /slow") {
            call.rest();
        }
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = free.local_addr().unwrap().to_string();
    drop(free);
    let here = format!("http://{}", backend.address());
    let server = watched(&[&here]);
    for path in ["/closed", "/garbage", "/cut", "/slow", "/slow"] {
        // A status, or a head and half a body; or nothing, if that broke off before the head.
        let mut client = server.connect();
        client.send(get(path));
        if client.try_head().is_ok() && path == "/cut" {
            client.rest();
        }
    }
    let family = "pyserve_upstream_failures_total";
    let mut failures = samples(&server, family, backend.address());
    failures.sort();
    let expected = ["bad_answer\"} 2", "closed_early\"} 1", "too_slow\"} 2"];
    let expected = expected.map(|rest| format!(",reason=\"{rest}"));
    assert_eq!(failures, expected);
    let both = watched(&[&format!("http://{gone}"), &here]);
    // Of two requests one finds the first gone.
    both.get("/garbage");
    both.get("/garbage");
    let failures = samples(&both, family, &gone);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].starts_with(",reason=\"unreachable\"}"));
}
