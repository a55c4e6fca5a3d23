//! PEP 3333, "The start_response() Callable": when the head leaves, and what may still change it.

use super::{SERVER, alone, check_is_500, check_is_broken};
use crate::support::server::get;

#[test]
fn bytes_from_write_precede_those_of_the_iterable() {
    assert_eq!(
        SERVER.get("/write_callable").text(),
        "written, twice, then iterated"
    );
}

#[test]
fn a_second_start_response_without_exc_info_raises_in_the_app() {
    let response = SERVER.get("/start_twice");
    assert_eq!(response.text(), "AssertionError");
    assert_eq!(response.status(), 200, "the first call stands");
}

#[test]
fn exc_info_before_any_byte_replaces_status_and_headers_completely() {
    let response = SERVER.get("/replace_start");
    assert_eq!(response.status_line(), "HTTP/1.1 503 Sorry");
    assert_eq!(response.headers("Content-Type"), ["text/html"]);
    assert_eq!(response.header("X-First"), None);
    assert_eq!(response.text(), "<p>sorry");
}

#[test]
fn exc_info_after_the_headers_raises_it_again_and_breaks_the_transfer() {
    let response = SERVER.get("/restart_late");
    check_is_broken(&response);
    let note = SERVER.probe.notes.wait_for("raised too late");
    assert!(
        note.contains(" application"),
        "the traceback is the app's: {note}"
    );
}

#[test]
fn exc_info_is_dropped_after_the_request() {
    let server = alone("1");
    let mut connection = server.connect();
    for _ in 0..200 {
        assert_eq!(connection.exchange(get("/leaky_frames")).status(), 500);
    }
    assert_eq!(connection.exchange(get("/leaky_frames?count")).text(), "0");
}

#[test]
fn start_response_alone_sends_no_headers() {
    let response = SERVER.get("/start_then_fail");
    check_is_500(&response);
    assert_eq!(response.header("X-Early"), None);
}

#[test]
fn a_generator_may_call_start_response_before_its_first_piece() {
    let response = SERVER.get("/late_start");
    assert_eq!(response.status_line(), "HTTP/1.1 202 Late");
    assert_eq!(response.header("X-Late").as_deref(), Some("yes"));
    assert_eq!(response.text(), "late");
}

#[test]
fn an_empty_first_piece_does_not_fix_the_headers() {
    let response = SERVER.get("/replace_start?after=empty");
    assert_eq!(response.status_line(), "HTTP/1.1 503 Sorry");
    assert_eq!(response.header("X-First"), None);
    assert_eq!(response.text(), "<p>sorry");
}

#[test]
fn an_app_that_never_calls_start_response_gets_500_and_a_log_line() {
    let response = SERVER.get("/no_start");
    check_is_500(&response);
    let id = response.header("X-Request-ID").expect("an id");
    SERVER.stderr.wait_for(&format!("request_id={id}"));
    SERVER.stderr.wait_for("start_response");
}
