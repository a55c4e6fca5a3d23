//! Requests and responses on their way: who may wait for whom, and for how long.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::{before, in_front_of};
use crate::support::backend::{Backend, Call};
use crate::support::server::{get, post};

#[test]
fn an_answer_before_the_end_of_the_body_arrives() {
    // 8 MiB do not fit into the buffers of a socket: the server closes on an unread body.
    let body = "x".repeat(8 << 20);
    let backend = Backend::unix(|mut call| {
        call.packet();
        call.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    });
    let response = in_front_of(&backend).exchange(&post("/", &body));
    assert_eq!((response.status(), response.text().as_str()), (403, "no"));
    // And one that answers while it goes on reading.
    let backend = Backend::unix(|mut call| {
        let packet = call.packet();
        call.send("HTTP/1.1 200 OK\r\n\r\nfirst ");
        let read = call.body(&packet).len();
        call.send(format!("then {read}"));
    });
    let response = in_front_of(&backend).exchange(&post("/", &body));
    assert_eq!(response.text(), format!("first then {}", 8 << 20));
}

#[test]
fn an_answer_arrives_while_the_body_is_stuck() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    // It reads no byte of the body, and does not close either.
    let backend = Backend::unix(move |mut call| {
        call.packet();
        call.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        let _ = held.lock().unwrap().recv();
    });
    let response = in_front_of(&backend).exchange(&post("/", &"x".repeat(8 << 20)));
    assert_eq!((response.status(), response.text().as_str()), (403, "no"));
    drop(hold);
}

#[test]
fn a_slow_client_does_not_hold_the_server_behind() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        let length = 8 << 20;
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
        assert!(call.send("x".repeat(length)));
        sender.lock().unwrap().send(()).unwrap();
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    // It is through although the client has not read a byte.
    receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    let response = client.response();
    assert_eq!((response.body.len(), response.broken), (8 << 20, None));
}

#[test]
fn a_client_that_leaves_breaks_the_exchange_off() {
    let (sender, receiver): (Sender<usize>, _) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        // Nothing comes any more: this returns when the other side has gone.
        sender.lock().unwrap().send(0).unwrap();
        let rest = call.rest();
        sender.lock().unwrap().send(rest).unwrap();
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    client.reset();
    receiver.recv_timeout(crate::support::DEADLINE).unwrap();
}

#[test]
fn waiting_for_a_server_ends_in_504() {
    let silent = Backend::unix(|mut call| {
        call.rest();
    });
    let server = before(&[silent.address()])
        .args(["--upstream-read-timeout", "200ms"])
        .ready();
    assert_eq!(server.get("/").status(), 504);
    server
        .stderr
        .wait_for("did not answer within 0.2 s (--upstream-read-timeout)");

    // It takes the packet and not the body, which is longer than all buffers.
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let deaf = Backend::unix(move |mut call| {
        call.packet();
        let _ = held.lock().unwrap().recv();
    });
    let server = before(&[deaf.address()])
        .args(["--upstream-send-timeout", "200ms"])
        .ready();
    assert_eq!(
        server.exchange(&post("/", &"x".repeat(8 << 20))).status(),
        504
    );
    server.stderr.wait_for("(--upstream-send-timeout)");
    drop(hold);
}

#[test]
fn a_response_that_stops_in_the_middle_is_broken_off() {
    let backend = Backend::unix(|mut call: Call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        call.rest();
    });
    let server = before(&[backend.address()])
        .args(["--upstream-read-timeout", "200ms"])
        .ready();
    let response = server.get("/");
    assert_eq!(response.text(), "half");
    assert!(response.broken.is_some());
    server.stderr.wait_for("upstream response truncated");
}

#[test]
fn first_bytes_arrive_while_the_response_goes_on() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\n\r\nfirst");
        let _ = held.lock().unwrap().recv();
        call.send("last");
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    assert_eq!(client.response_to_head().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"first");
    drop(hold);
    assert_eq!(client.chunk().unwrap(), b"last");
    assert_eq!(client.chunk().unwrap(), b"");
}
