//! PEP 3333, statement by statement, each seen from the wire or from inside the application.
//!
//! One server with one worker and two threads serves all behaviours; tests that need another
//! arrangement start their own.

mod body;
mod environ;
mod failures;
mod head;
mod input;
mod start_response;

use std::sync::LazyLock;

use crate::support::raw::{End, Response};
use crate::support::server::{Pyserve, Server, get, post};

static SERVER: LazyLock<Server> =
    LazyLock::new(|| Pyserve::app("every.py").args(["--threads", "2"]).ready());

/// A server of its own for a test that counts on one thread or many failures.
fn alone(threads: &str) -> Server {
    Pyserve::app("every.py")
        .args(["--threads", threads])
        .ready()
}

/// The error page of a request that failed before its headers, and nothing of the app.
fn check_is_500(response: &Response) {
    assert_eq!(response.status(), 500, "{response:?}");
    assert_eq!(response.broken, None);
    assert!(!response.text().contains("Traceback"), "{response:?}");
    assert!(!response.text().contains("secret"), "{response:?}");
}

/// A response that failed after its first piece: cut off behind it, or replaced by the
/// error page where the failure came before the piece had left.
fn check_is_broken(response: &Response) {
    if response.status() == 200 {
        assert_eq!(response.text(), "the beginning");
        assert!(
            matches!(response.broken, Some(End::Closed | End::Reset)),
            "{response:?}"
        );
    } else {
        check_is_500(response);
        assert!(!response.text().contains("the beginning"), "{response:?}");
    }
}

#[test]
fn the_test_applications_and_the_server_satisfy_wsgiref_validate() {
    let server = Pyserve::app("validated.py")
        .env("VALIDATED", "every")
        .ready();
    for (request, body) in [
        (get("/hello"), "hello"),
        (get("/late_start"), "late"),
        (get("/write_callable"), "written, twice, then iterated"),
        (get("/replace_start"), "<p>sorry"),
        (get("/lengths?as=generator"), "0123456789"),
        (post("/journal?ignore", "x"), "ignored"),
        (post("/journal", "four"), "4"),
    ] {
        let response = server.exchange(&request);
        assert_eq!(response.text(), body, "{request}");
        assert_eq!(response.broken, None, "{request}");
    }
    let pieces = server.exchange(&post("/read_input?do=read:3+readline+iterate", "abcdef\ng"));
    assert_eq!(pieces.json()["pieces"][0], "b'abc'", "{pieces:?}");
    let head = "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(server.exchange(head).status(), 200);
    assert_eq!(server.stderr.count("AssertionError"), 0);
}
