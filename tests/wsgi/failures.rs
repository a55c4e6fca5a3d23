//! Applications that raise: what the client gets, what the log says, and that the worker lives.

use super::{SERVER, alone, check_is_500, check_is_broken};

#[test]
fn exceptions_that_end_programs_end_only_the_request() {
    let server = alone("1");
    for what in [
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "MemoryError",
    ] {
        check_is_500(&server.get(&format!("/raises?what={what}")));
        server.stderr.wait_for(what);
        let next = server.get("/");
        assert_eq!(next.text(), "hello", "after {what}");
    }
}

#[test]
fn an_exception_after_the_headers_breaks_the_transfer_and_is_logged_with_its_request() {
    let response = SERVER.get("/raises?after=piece&what=LookupError");
    check_is_broken(&response);
    let id = response.header("X-Request-ID").expect("an id");
    let line = SERVER.stderr.wait_for(&format!("request_id={id}"));
    assert!(line.contains("GET"), "{line}");
    assert!(line.contains("/raises"), "{line}");
    SERVER
        .stderr
        .wait_for("LookupError: secret of the application");
    SERVER.stderr.wait_for("in pieces");
}

#[test]
fn what_is_no_iterable_of_bytes_is_a_clear_error_in_the_log() {
    let server = alone("1");
    for kind in ["str", "str piece", "none", "none piece", "bytes", "number"] {
        check_is_500(&server.get(&format!("/bad_iterables?kind={}", kind.replace(' ', "+"))));
    }
    server.stderr.wait_for_nth("TypeError", 6);
}
