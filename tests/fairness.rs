//! The line for workers is shared fairly between client addresses.

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server};

const WAITING: &str = r#"pyserve_queue_waiting{application="held.py"}"#;

fn server(args: &[&str]) -> Server {
    Pyserve::app("held.py")
        .watched()
        .args(["--trust", "127.0.0.1"])
        .args(args)
        .ready()
}

/// Sends a request of a client behind the trusted proxy that we are.
fn send(server: &Server, address: &str, target: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n"
    ));
    connection
}

/// The targets of the requests that the application got, in this order, once
/// it got `number` of them: a note may arrive after the response.
fn called(server: &Server, number: usize) -> Vec<String> {
    server.probe.notes.wait_for_nth("called ", number);
    let notes = server.probe.notes.so_far();
    let called = notes.iter().filter_map(|note| note.strip_prefix("called "));
    called.map(str::to_owned).collect()
}

#[test]
fn an_address_with_many_slow_requests_delays_another_by_few() {
    let server = server(&[]);
    let _running = send(&server, "192.0.2.1", "/slow");
    let held = server.probe.held("/slow");
    let mut many: Vec<_> = (0..60)
        .map(|number| send(&server, "192.0.2.1", &format!("/gone/{number}")))
        .collect();
    // 32 of them lie in the queue of the workers.
    server.wait_for_metric(WAITING, 28.0);
    let mut other = send(&server, "2001:db8::1", "/gone/other");
    // It is not served for a moment: those in the queue make way.
    server.wait_for_metric(WAITING, 61.0);
    held.release();
    assert_eq!(other.response().status(), 200);
    for connection in &mut many {
        assert_eq!(connection.response().status(), 200);
    }
    let called = called(&server, 62);
    assert_eq!(called.len(), 62, "each ran once");
    let place = called.iter().position(|target| target == "/gone/other");
    assert!(place <= Some(2), "{called:?}");
}

#[test]
fn a_request_already_handed_out_passes_those_of_another_address() {
    let server = server(&[]);
    let _running = send(&server, "192.0.2.1", "/slow");
    let held = server.probe.held("/slow");
    let many: Vec<_> = (0..20)
        .map(|number| send(&server, "192.0.2.1", &format!("/gone/{number}")))
        .collect();
    server.wait_for_metric(r#"pyserve_queue_handed_out{application="held.py"}"#, 21.0);
    let mut other = send(&server, "192.0.2.2", "/gone/other");
    // It finds room in the queue of the workers, and the 20 ahead of it make way.
    server.wait_for_metric(WAITING, 20.0);
    held.release();
    assert_eq!(other.response().status(), 200);
    for mut connection in many {
        assert_eq!(connection.response().status(), 200);
    }
    assert_eq!(called(&server, 22)[1], "/gone/other");
}

#[test]
fn a_full_queue_refuses_the_address_that_fills_it() {
    let server = server(&["--queue-limit", "40"]);
    let _running = send(&server, "192.0.2.1", "/slow");
    let held = server.probe.held("/slow");
    let mut many: Vec<_> = (0..40)
        .map(|number| send(&server, "192.0.2.1", &format!("/gone/{number}")))
        .collect();
    server.wait_for_metric(WAITING, 8.0);
    let mut refused = send(&server, "192.0.2.1", "/gone/refused");
    assert_eq!(refused.response().status(), 503);
    let mut other = send(&server, "192.0.2.2", "/gone/other");
    let mut third = send(&server, "192.0.2.3", "/gone/third");
    server.wait_for_metric(WAITING, 40.0);
    held.release();
    assert_eq!(other.response().status(), 200);
    assert_eq!(third.response().status(), 200);
    let statuses: Vec<_> = many
        .iter_mut()
        .map(|connection| connection.response().status())
        .collect();
    let displaced = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(displaced, 2, "{statuses:?}");
}
