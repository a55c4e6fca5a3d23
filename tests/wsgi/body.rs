//! PEP 3333: what the application returns: its length, when its pieces leave, and that it is
//! closed.

use super::{SERVER, alone, check_is_500};
use crate::support::raw::End;
use crate::support::server::get;

#[test]
fn close_is_called_exactly_once_however_the_request_ends() {
    let server = alone("1");
    let cases = [
        ("GET", "how=normal", 200),
        ("GET", "how=empty", 200),
        ("GET", "how=first_fails", 500),
        ("GET", "how=list", 200),
        ("GET", "how=close_fails", 200),
        ("GET", "status=304+Not+Modified", 304),
        ("GET", "status=204+No+Content", 204),
        ("HEAD", "how=normal", 200),
        ("HEAD", "how=list", 200),
    ];
    for query in ["how=piece_fails&token=broken", "how=held&token=last"] {
        // Either status may have left before the failure.
        let response = server.get(&format!("/closing?{query}"));
        assert!(matches!(response.status(), 200 | 500), "{response:?}");
    }
    server.probe.held("in close").release();
    server.probe.notes.wait_for("closed last");
    assert_eq!(server.probe.notes.count("closed broken"), 1);
    for (number, (method, query, status)) in cases.into_iter().enumerate() {
        let token = format!("c{number:02}");
        let path = format!("/closing?{query}&token={token}");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(server.exchange(&request).status(), status, "{request}");
        server.probe.notes.wait_for(&format!("closed {token}"));
        // The one thread has served this after everything that belongs to the other.
        assert_eq!(server.get("/").text(), "hello");
        assert_eq!(
            server.probe.notes.count(&format!("closed {token}")),
            1,
            "{request}"
        );
    }
}

#[test]
fn close_of_a_wrapped_reader_is_called_once() {
    let server = alone("1");
    for of in ["reader", "file"] {
        server.get(&format!("/files?of={of}"));
        server.probe.notes.wait_for(&format!("closed {of}"));
        assert_eq!(server.get("/").text(), "hello");
        assert_eq!(server.probe.notes.count(&format!("closed {of}")), 1);
    }
}

#[test]
fn close_runs_before_the_thread_takes_the_next_request() {
    let server = alone("1");
    let first = server.get("/closing?how=held&token=first");
    assert_eq!(
        first.text(),
        "onetwo",
        "the response does not wait for close()"
    );
    let mut second = server.connect();
    second.send(get("/closing?token=second"));
    server.probe.held("in close").release();
    assert_eq!(second.response().text(), "onetwo");
    server.probe.notes.wait_for("closed second");
    let notes = server.probe.notes.so_far();
    let at = |note: &str| notes.iter().position(|line| line == note);
    assert!(at("closed first") < at("called second"), "{notes:?}");
}

#[test]
fn an_exception_of_close_is_logged_and_not_sent() {
    let response = SERVER.get("/closing?how=close_fails&token=c");
    assert_eq!(response.status(), 200);
    assert_eq!(response.text(), "onetwo");
    assert_eq!(response.broken, None);
    SERVER.stderr.wait_for("RuntimeError: close fails");
}

#[test]
fn the_server_tells_the_length_of_lists_and_tuples() {
    for shape in ["one", "tuple", "two", "nothing"] {
        let response = SERVER.get(&format!("/lengths?as={shape}"));
        let body = if shape == "nothing" { "" } else { "0123456789" };
        let length = response.header("Content-Length");
        assert_eq!(length, Some(body.len().to_string()), "{shape}");
        assert_eq!(response.text(), body, "{shape}");
    }
    assert_eq!(SERVER.get("/lengths?as=generator").text(), "0123456789");
}

#[test]
fn an_unknown_length_is_chunked_in_http_1_1_and_ends_with_the_connection_in_1_0() {
    let server = alone("1");
    let respond = |request: &str| {
        let mut connection = server.connect();
        connection.send(request);
        // The generator is asked for its pieces one by one, so the length is unknown.
        let head = connection.response_to_head();
        server.probe.held("after one").release();
        server.probe.held("after two").release();
        assert_eq!(head.header("Content-Length"), None);
        (head, connection)
    };
    let (head, mut connection) = respond(&get("/held_body"));
    assert_eq!(head.headers("Transfer-Encoding"), ["chunked"]);
    for chunk in ["one", "two", "three", ""] {
        assert_eq!(connection.chunk().unwrap(), chunk.as_bytes());
    }
    let (head, mut connection) =
        respond("GET /held_body HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(head.header("Transfer-Encoding"), None);
    assert_eq!(connection.rest(), (b"onetwothree".to_vec(), End::Closed));
}

#[test]
fn bytes_beyond_the_declared_length_are_cut_and_logged() {
    let server = alone("1");
    for shape in ["one", "two", "generator"] {
        let mut connection = server.connect();
        let response = connection.exchange(get(&format!("/lengths?as={shape}&length=7")));
        assert_eq!(
            response.header("Content-Length").as_deref(),
            Some("7"),
            "{shape}"
        );
        assert_eq!(response.text(), "0123456", "{shape}");
        let next = connection.exchange(get("/"));
        assert_eq!(next.text(), "hello", "{shape}: the connection is in step");
    }
    server.stderr.wait_for_nth("Content-Length", 3);
}

#[test]
fn fewer_bytes_than_declared_break_the_connection() {
    for shape in ["one", "two", "generator"] {
        let response = SERVER.get(&format!("/lengths?as={shape}&length=11"));
        if response.status() == 200 {
            assert!(response.broken.is_some(), "{shape}: {response:?}");
        } else {
            // Known before the headers went out.
            check_is_500(&response);
        }
    }
}

#[test]
fn head_keeps_the_headers_and_drops_the_body() {
    for (query, length) in [
        ("as=one", Some("10")),
        ("as=one&length=10", Some("10")),
        ("as=generator&length=10", Some("10")),
        ("as=generator", None),
    ] {
        let mut connection = SERVER.connect();
        let request = format!("HEAD /lengths?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = connection.exchange(&request);
        assert_eq!(response.status(), 200, "{query}");
        let declared = response.header("Content-Length");
        if query == "as=one" {
            assert!(
                declared.is_none() || declared.as_deref() == length,
                "{declared:?}"
            );
        } else {
            assert_eq!(declared.as_deref(), length, "{query}");
        }
        assert_eq!(
            response.header("Content-Type").as_deref(),
            Some("text/plain")
        );
        // A body would be taken for the next response.
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{query}");
    }
}

#[test]
fn responses_without_a_body_have_none_and_no_framing_for_one() {
    for (query, length) in [
        ("status=204+No+Content&body", None),
        ("status=204+No+Content&length=4&body", None),
        ("status=304+Not+Modified&length=4", Some("4")),
        ("status=304+Not+Modified&length=4&body", Some("4")),
    ] {
        let mut connection = SERVER.connect();
        let response = connection.exchange(get(&format!("/status?{query}")));
        assert_eq!(response.status_line()[9..12], query[7..10], "{query}");
        let declared = response.header("Content-Length");
        // RFC 9110 §8.6: a 304 may tell the length that a 200 would have, or not.
        assert!(
            declared.is_none() || declared.as_deref() == length,
            "{query}: {declared:?}"
        );
        assert_eq!(response.header("Transfer-Encoding"), None, "{query}");
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{query}");
    }
}

#[test]
fn a_wrapped_file_is_sent_from_its_position_within_its_declared_length() {
    let content: Vec<u8> = (0..20_000)
        .flat_map(|n| format!("{n:07}\n").into_bytes())
        .collect();
    for (query, from, length) in [
        ("of=file", 0, None),
        ("of=file&seek=8", 8, None),
        ("of=file&seek=8&length=16", 8, Some(16)),
        ("of=file&seek=160000", 160_000, None),
        ("of=bytesio", 0, None),
        ("of=bytesio&seek=12", 12, None),
        ("of=reader", 0, None),
        ("of=reader&length=9", 0, Some(9)),
    ] {
        let mut connection = SERVER.connect();
        let response = connection.exchange(get(&format!("/files?{query}")));
        let to = length.map_or(content.len(), |length| from + length);
        assert_eq!(response.status(), 200, "{query}");
        assert!(
            response.body == content[from..to],
            "{query}: {} bytes",
            response.body.len()
        );
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{query}");
    }
}

#[test]
fn a_wrapper_inside_another_iterable_is_not_bypassed() {
    let response = SERVER.get("/files?of=wrapped");
    assert!(
        response
            .text()
            .starts_with("ooooooo\nooooooo1\n".get(..8).unwrap())
    );
    assert!(!response.text().contains('0'));
}

#[test]
fn ranges_of_a_wrapped_file_are_left_to_the_app() {
    let response = SERVER
        .exchange("GET /files?of=file HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\n\r\n");
    assert_eq!(response.status(), 200);
    assert_eq!(response.body.len(), 160_000);
}

#[test]
fn a_piece_is_visible_before_the_next_one_is_made() {
    let mut connection = SERVER.connect();
    connection.send(get("/held_body"));
    assert_eq!(connection.response_to_head().status(), 200);
    assert_eq!(connection.chunk().unwrap(), b"one");
    SERVER.probe.held("after one").release();
    assert_eq!(connection.chunk().unwrap(), b"two");
    SERVER.probe.held("after two").release();
    assert_eq!(connection.chunk().unwrap(), b"three");
    assert_eq!(connection.chunk().unwrap(), b"");
}

#[test]
fn a_written_piece_is_visible_at_once() {
    let server = alone("1");
    let mut connection = server.connect();
    connection.send(get("/held_write"));
    assert_eq!(connection.response_to_head().status(), 200);
    assert_eq!(connection.chunk().unwrap(), b"one");
    server.probe.held("after one").release();
    assert_eq!(connection.chunk().unwrap(), b"two");
    assert_eq!(connection.chunk().unwrap(), b"");
}

#[test]
fn a_client_that_leaves_ends_the_iteration_and_closes() {
    let server = alone("1");
    let mut connection = server.connect();
    connection.send(get("/endless"));
    assert_eq!(connection.response_to_head().status(), 200);
    let held = server.probe.held("streaming");
    drop(connection);
    held.release();
    server.probe.notes.wait_for("closed after ");
    assert_eq!(server.get("/").text(), "hello");
}
