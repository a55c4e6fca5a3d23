//! PEP 3333, "Input and Error Streams": the body of a request, whole and no more than it.

use super::{SERVER, alone};
use crate::support::server::{get, post};

fn read_input(calls: &str, body: &str) -> Vec<String> {
    let calls = calls.replace(' ', "+");
    let response = SERVER.exchange(&post(&format!("/read_input?do={calls}"), body));
    let json = response.json();
    let pieces = json["pieces"].as_array().expect("pieces").iter();
    pieces
        .map(|piece| piece.as_str().expect("a string").to_owned())
        .collect()
}

#[test]
fn every_way_to_read_the_input_ends_with_the_body() {
    let body = "line one\nline two\nrest";
    for (calls, pieces) in [
        ("read", vec![r"b'line one\nline two\nrest'"]),
        ("read:-1 read", vec![r"b'line one\nline two\nrest'", "b''"]),
        (
            "read:4 read:0 read:1000 read:1000",
            vec!["b'line'", "b''", r"b' one\nline two\nrest'", "b''"],
        ),
        (
            "readline readline readline readline",
            vec![r"b'line one\n'", r"b'line two\n'", "b'rest'", "b''"],
        ),
        ("readline:4 readline:100", vec!["b'line'", r"b' one\n'"]),
        ("readline:-1 read:0", vec![r"b'line one\n'", "b''"]),
        (
            "readlines readlines",
            vec![r"[b'line one\n', b'line two\n', b'rest']", "[]"],
        ),
        (
            "readlines:1 read",
            vec![r"[b'line one\n']", r"b'line two\nrest'"],
        ),
        (
            "iterate iterate",
            vec![r"[b'line one\n', b'line two\n', b'rest']", "[]"],
        ),
        (
            "read:6 iterate",
            vec!["b'line o'", r"[b'ne\n', b'line two\n', b'rest']"],
        ),
    ] {
        assert_eq!(read_input(calls, body), pieces, "{calls}");
    }
    assert_eq!(
        read_input("read read:1 readline readlines iterate", ""),
        ["b''", "b''", "b''", "[]", "[]"]
    );
}

#[test]
fn the_input_never_shows_bytes_of_the_next_pipelined_request() {
    let mut connection = SERVER.connect();
    let first = post("/read_input?do=read+read:100+readline", "mine");
    connection.send(format!("{first}{}", get("/")));
    assert_eq!(connection.response().json()["pieces"][0], "b'mine'");
    assert_eq!(connection.response().text(), "hello");
}

#[test]
fn the_request_after_an_ignored_body_is_parsed_right() {
    let body = get("/smuggled");
    for length in [body.len(), 300_000] {
        let body = body.clone() + &"0".repeat(length - body.len());
        let mut connection = SERVER.connect();
        connection.send(post("/journal?ignore", &body));
        assert_eq!(connection.response().text(), "ignored");
        connection.send(get("/"));
        assert_eq!(connection.response().text(), "hello");
    }
    assert_eq!(SERVER.probe.notes.count("/smuggled"), 0);
}

#[test]
fn a_body_that_breaks_off_never_looks_complete_to_the_app() {
    let server = alone("1");
    for head in [
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    ] {
        let mut connection = server.connect();
        connection.send(format!(
            "POST /journal/broken HTTP/1.1\r\nHost: localhost\r\n{head}"
        ));
        connection.finish_sending();
        let (statuses, end) = connection.statuses_to_end();
        assert!(
            statuses.is_empty() || statuses == [400],
            "{statuses:?} {end:?}"
        );
    }
    assert_eq!(server.get("/").text(), "hello");
    assert_eq!(
        server.probe.notes.count("body of"),
        0,
        "the front reads bodies first"
    );
}
