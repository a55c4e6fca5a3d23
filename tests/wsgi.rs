//! PEP 3333 as forty statements, each seen from the wire or from inside the application.
//!
//! The number in a comment is the statement's. One server with one worker and two threads
//! serves all behaviours; tests that need another arrangement start their own.

use std::net::TcpListener;
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::raw::{Connection, End, Response};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::skipped;

static SERVER: LazyLock<Server> =
    LazyLock::new(|| Pyserve::app("every.py").args(["--threads", "2"]).ready());

/// A server of its own for a test that counts on one thread or many failures.
fn alone(threads: &str) -> Server {
    Pyserve::app("every.py")
        .args(["--threads", threads])
        .ready()
}

fn entry(response: &Response, key: &str) -> String {
    let entry = response.json()["entries"][key].clone();
    assert_eq!(entry[0], "str", "{key}: {entry}");
    entry[1].as_str().expect("a string").to_owned()
}

fn absent(response: &Response, key: &str) -> bool {
    response.json()["entries"][key] == Value::Null
}

/// A request for the environ, with more header lines.
fn environ_of(lines: &str) -> Response {
    SERVER.exchange(&format!(
        "GET /environ HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
    ))
}

fn read_input(calls: &str, body: &str) -> Vec<String> {
    let calls = calls.replace(' ', "+");
    let response = SERVER.exchange(&post(&format!("/read_input?do={calls}"), body));
    let json = response.json();
    let pieces = json["pieces"].as_array().expect("pieces").iter();
    pieces
        .map(|piece| piece.as_str().expect("a string").to_owned())
        .collect()
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

// 1
#[test]
fn bytes_from_write_precede_those_of_the_iterable() {
    assert_eq!(
        SERVER.get("/write_callable").text(),
        "written, twice, then iterated"
    );
}

// 2
#[test]
fn a_second_start_response_without_exc_info_raises_in_the_app() {
    let response = SERVER.get("/start_twice");
    assert_eq!(response.text(), "AssertionError");
    assert_eq!(response.status(), 200, "the first call stands");
}

// 3
#[test]
fn exc_info_before_any_byte_replaces_status_and_headers_completely() {
    let response = SERVER.get("/replace_start");
    assert_eq!(response.status_line(), "HTTP/1.1 503 Sorry");
    assert_eq!(response.headers("Content-Type"), ["text/html"]);
    assert_eq!(response.header("X-First"), None);
    assert_eq!(response.text(), "<p>sorry");
}

// 4
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

// 5
#[test]
fn exc_info_is_dropped_after_the_request() {
    let server = alone("1");
    let mut connection = server.connect();
    for _ in 0..200 {
        assert_eq!(connection.exchange(get("/leaky_frames")).status(), 500);
    }
    assert_eq!(connection.exchange(get("/leaky_frames?count")).text(), "0");
}

// 6
#[test]
fn start_response_alone_sends_no_headers() {
    let response = SERVER.get("/start_then_fail");
    check_is_500(&response);
    assert_eq!(response.header("X-Early"), None);
}

// 7
#[test]
fn a_generator_may_call_start_response_before_its_first_piece() {
    let response = SERVER.get("/late_start");
    assert_eq!(response.status_line(), "HTTP/1.1 202 Late");
    assert_eq!(response.header("X-Late").as_deref(), Some("yes"));
    assert_eq!(response.text(), "late");
}

// 8
#[test]
fn an_empty_first_piece_does_not_fix_the_headers() {
    let response = SERVER.get("/replace_start?after=empty");
    assert_eq!(response.status_line(), "HTTP/1.1 503 Sorry");
    assert_eq!(response.header("X-First"), None);
    assert_eq!(response.text(), "<p>sorry");
}

// 9
#[test]
fn an_app_that_never_calls_start_response_gets_500_and_a_log_line() {
    let response = SERVER.get("/no_start");
    check_is_500(&response);
    let id = response.header("X-Request-ID").expect("an id");
    SERVER.stderr.wait_for(&format!("request_id={id}"));
    SERVER.stderr.wait_for("start_response");
}

// 10
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

// 10
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

// 11
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

// 11
#[test]
fn an_exception_of_close_is_logged_and_not_sent() {
    let response = SERVER.get("/closing?how=close_fails&token=c");
    assert_eq!(response.status(), 200);
    assert_eq!(response.text(), "onetwo");
    assert_eq!(response.broken, None);
    SERVER.stderr.wait_for("RuntimeError: close fails");
}

// 12
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

// 12, 13
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

// 14
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

// 14
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

// 15
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
        let told = response.header("Content-Length");
        if query == "as=one" {
            assert!(told.is_none() || told.as_deref() == length, "{told:?}");
        } else {
            assert_eq!(told.as_deref(), length, "{query}");
        }
        assert_eq!(
            response.header("Content-Type").as_deref(),
            Some("text/plain")
        );
        // A body would be taken for the next response.
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{query}");
    }
}

// 16
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
        let told = response.header("Content-Length");
        // RFC 9110 §8.6: a 304 may tell the length that a 200 would have, or not.
        assert!(
            told.is_none() || told.as_deref() == length,
            "{query}: {told:?}"
        );
        assert_eq!(response.header("Transfer-Encoding"), None, "{query}");
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{query}");
    }
}

// 17
#[test]
fn the_reason_phrase_is_kept() {
    for (status, line) in [
        ("418+I'm+tired", "HTTP/1.1 418 I'm tired"),
        ("404+", "HTTP/1.1 404 "),
        ("299+Mostly+%E9", "HTTP/1.1 299 Mostly \u{e9}"),
        ("200+Fine", "HTTP/1.1 200 Fine"),
    ] {
        let response = SERVER.get(&format!("/status?plain&body&status={status}"));
        assert_eq!(response.status_line(), line);
    }
}

// 17
#[test]
fn a_wrong_status_is_an_error_in_the_app() {
    for (number, query) in [
        "status=20+OK",
        "status=OK",
        "status=",
        "status=2000+OK",
        "status=200OK",
        "status=-20+OK",
        "status=200+O%0AK",
        "status=200+O%0DK",
        "status=200+O%00K",
        "status=200+OK%0D%0AX-Injected:+1",
        "status=099+Low",
        "kind=bytes",
        "kind=none",
        "kind=number",
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("status {number}");
        let response = SERVER.get(&format!(
            "/status?{query}&token={}",
            token.replace(' ', "+")
        ));
        check_is_500(&response);
        assert_eq!(response.header("X-Injected"), None, "{query}");
        let note = SERVER.probe.notes.wait_for(&format!("{token}: "));
        let known = ["ValueError", "TypeError", "AssertionError"];
        assert!(
            known.iter().any(|name| note.ends_with(name)),
            "{query}: {note}"
        );
    }
}

// 18
#[test]
fn a_header_that_could_inject_something_is_an_error_in_the_app() {
    for (number, query) in [
        "name=X-A&value=a%0D%0AX-Injected:+1",
        "name=X-A&value=a%0AX-Injected:+1",
        "name=X-A&value=a%0DX-Injected:+1",
        "name=X-A&value=a%00b",
        "name=X-A%0D%0AX-Injected&value=1",
        "name=X-A%0AX-Injected&value=1",
        "name=X%00A&value=1",
        "name=X-Injected:+1%0D%0AX&value=1",
        "name=&value=1",
        "name=X+A&value=1",
        "name=X-A:&value=1",
        "kind=tuple",
        "kind=generator",
        "kind=dict",
        "kind=none",
        "kind=triples",
        "kind=byte+name",
        "kind=byte+value",
        "kind=wide+value",
        "kind=number+value",
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("header {number}");
        let response = SERVER.get(&format!(
            "/header?{query}&token={}",
            token.replace(' ', "+")
        ));
        check_is_500(&response);
        assert_eq!(response.header("X-Injected"), None, "{query}");
        let note = SERVER.probe.notes.wait_for(&format!("{token}: "));
        let known = [
            "ValueError",
            "TypeError",
            "AssertionError",
            "UnicodeEncodeError",
        ];
        assert!(
            known.iter().any(|name| note.ends_with(name)),
            "{query}: {note}"
        );
    }
}

// 18
#[test]
fn header_values_of_latin_1_reach_the_wire_as_single_bytes() {
    let response = SERVER.get("/header?name=X-Name&value=caf%E9");
    assert_eq!(response.header("X-Name").as_deref(), Some("caf\u{e9}"));
}

// 18
#[test]
fn the_list_of_headers_is_left_as_the_app_made_it() {
    let server = alone("1");
    let mut connection = server.connect();
    for _ in 0..3 {
        assert_eq!(connection.exchange(get("/kept_list")).text(), "the same");
    }
}

// 19
#[test]
fn duplicate_response_headers_survive_in_order_and_names_keep_their_case() {
    let response = SERVER.get("/duplicates");
    assert_eq!(
        response.headers("Set-Cookie"),
        ["a=1; Path=/", "b=2, 3", "c=4"]
    );
    assert_eq!(
        response.headers("Link"),
        ["</a.css>; rel=preload", "</b.css>; rel=preload"]
    );
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in ["Set-Cookie", "X-CaSeD", "Link", "Content-Type"] {
        assert!(names.iter().any(|at| at == name), "{name} in {names:?}");
    }
}

// 20
#[test]
fn hop_by_hop_headers_of_the_app_are_not_sent() {
    let server = alone("1");
    for (name, value) in [
        ("Connection", "x-mine"),
        ("Keep-Alive", "timeout=1"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic"),
        ("TE", "trailers"),
        ("Trailer", "X-Late"),
        ("Trailers", "X-Late"),
        ("Transfer-Encoding", "gzip"),
        ("Upgrade", "h2c"),
    ] {
        let mut connection = server.connect();
        let response = connection.exchange(get(&format!("/hop_by_hop?name={name}&value={value}")));
        if response.status() == 200 {
            assert!(
                !response.headers(name).contains(&value.to_owned()),
                "{response:?}"
            );
            assert_eq!(response.text(), "ok", "{name}");
        } else {
            check_is_500(&response);
        }
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{name}");
        server.stderr.wait_for(name);
    }
}

// 20
#[test]
fn date_and_server_are_added_only_if_absent() {
    let response = SERVER.get("/hop_by_hop");
    assert_eq!(response.headers("Date").len(), 1);
    assert_eq!(response.headers("Server"), ["pyserve"]);
    let date = "Thu,+01+Jan+1970+00:00:00+GMT";
    let response = SERVER.get(&format!("/hop_by_hop?name=Date&value={date}"));
    assert_eq!(response.headers("Date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    let response = SERVER.get("/hop_by_hop?name=Server&value=mine");
    assert_eq!(response.headers("Server"), ["mine"]);
}

// 21
#[test]
fn path_info_is_the_decoded_path_as_latin_1_and_the_raw_form_is_kept() {
    for (target, path) in [
        ("/environ/caf%C3%A9", "/environ/caf\u{c3}\u{a9}"),
        ("/environ/%ff%FE", "/environ/\u{ff}\u{fe}"),
        ("/environ/a%2Fb", "/environ/a/b"),
        ("/environ/a;b=1+2", "/environ/a;b=1+2"),
        ("/environ//double", "/environ//double"),
        ("/environ/%25", "/environ/%"),
        ("/environ/%3F", "/environ/?"),
    ] {
        let response = SERVER.get(&format!("{target}?q=%20"));
        assert_eq!(entry(&response, "PATH_INFO"), path, "{target}");
        for raw in ["REQUEST_URI", "RAW_URI"] {
            assert_eq!(entry(&response, raw), format!("{target}?q=%20"));
        }
    }
}

// 21
#[test]
fn dot_segments_reach_the_app_as_sent_or_not_at_all() {
    for target in ["/environ/a/../b", "/environ/./b", "/environ/%2e%2e/b"] {
        let response = SERVER.get(target);
        if response.status() == 200 {
            let decoded = target.replace("%2e", ".");
            assert_eq!(entry(&response, "PATH_INFO"), decoded);
        } else {
            assert!(matches!(response.status(), 400 | 404), "{response:?}");
        }
    }
}

// 22
#[test]
fn the_app_is_mounted_at_the_root_whose_name_is_empty() {
    let response = SERVER.get("/environ/x");
    assert_eq!(entry(&response, "SCRIPT_NAME"), "");
    assert_eq!(entry(&response, "PATH_INFO"), "/environ/x");
}

// 23
#[test]
fn the_query_string_is_raw_and_always_there() {
    for (target, query) in [
        ("/environ", ""),
        ("/environ?", ""),
        ("/environ?a=%20&b=+&c", "a=%20&b=+&c"),
        ("/environ?a?b", "a?b"),
        ("/environ?%00%0a", "%00%0a"),
    ] {
        assert_eq!(entry(&SERVER.get(target), "QUERY_STRING"), query);
    }
}

// 24
#[test]
fn request_headers_arrive_joined_latin_1_and_unforged() {
    let mut request = b"POST /environ HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    request.extend(b"X-Two: a\r\nCookie: c=1\r\nX-Two: b\r\nCookie: d=2\r\n");
    request.extend(b"X-Latin: caf\xe9\r\nX_Under: 1\r\nProxy: http://evil\r\nX-Empty:\r\n");
    request.extend(b"Content-Type: text/x; charset=a\r\nContent-Length: 0\r\n\r\n");
    let response = SERVER.connect().exchange(request);
    let two = entry(&response, "HTTP_X_TWO");
    assert_eq!(two.replace(", ", ","), "a,b");
    assert_eq!(entry(&response, "HTTP_COOKIE"), "c=1; d=2");
    assert_eq!(entry(&response, "HTTP_X_LATIN"), "caf\u{e9}");
    assert_eq!(entry(&response, "HTTP_X_EMPTY"), "");
    assert_eq!(entry(&response, "CONTENT_TYPE"), "text/x; charset=a");
    for key in [
        "HTTP_CONTENT_TYPE",
        "HTTP_CONTENT_LENGTH",
        "HTTP_X_UNDER",
        "HTTP_PROXY",
    ] {
        assert!(absent(&response, key), "{key}");
    }
}

// 25
#[test]
fn content_length_is_true_after_the_chunks_are_joined_and_empty_without_a_body() {
    let response = SERVER.get("/environ");
    let length = &response.json()["entries"]["CONTENT_LENGTH"];
    assert!(*length == Value::Null || length[1] == "", "{length}");

    let response = SERVER.exchange(
        "POST /read_input HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
    );
    let json = response.json();
    assert_eq!(json["length"], "11");
    assert_eq!(json["terminated"], true);
    assert_eq!(json["coding"], Value::Null);
    assert_eq!(json["pieces"][0], "b'hello world'");
}

// 26
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

// 26
#[test]
fn the_input_never_shows_bytes_of_the_next_pipelined_request() {
    let mut connection = SERVER.connect();
    let first = post("/read_input?do=read+read:100+readline", "mine");
    connection.send(format!("{first}{}", get("/")));
    assert_eq!(connection.response().json()["pieces"][0], "b'mine'");
    assert_eq!(connection.response().text(), "hello");
}

// 27
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

// 28
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

// 29
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

// 29
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

// 29
#[test]
fn ranges_of_a_wrapped_file_are_left_to_the_app() {
    let response = SERVER
        .exchange("GET /files?of=file HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\n\r\n");
    assert_eq!(response.status(), 200);
    assert_eq!(response.body.len(), 160_000);
}

// 30
#[test]
fn environ_is_a_plain_dict_and_fresh() {
    let mut connection = SERVER.connect();
    for _ in 0..4 {
        let about = connection.exchange(get("/environ")).json();
        assert_eq!(about["type"], "builtins.dict");
        assert_eq!(about["seen_before"], false);
    }
}

// 31
#[test]
fn cgi_values_are_strings_and_name_the_server_and_protocol() {
    for (version, extra) in [("1.1", "Host: example.org:81\r\n"), ("1.0", "")] {
        let response = SERVER.exchange(&format!("GET /environ HTTP/{version}\r\n{extra}\r\n"));
        assert_eq!(
            entry(&response, "SERVER_PROTOCOL"),
            format!("HTTP/{version}")
        );
        assert_eq!(entry(&response, "REQUEST_METHOD"), "GET");
        assert!(!entry(&response, "SERVER_NAME").is_empty());
        let port: u16 = entry(&response, "SERVER_PORT")
            .parse()
            .expect("a number as text");
        assert!(port == SERVER.port() || port == 81, "{port}");
        let json = response.json();
        for (key, value) in json["entries"].as_object().unwrap() {
            if !key.starts_with("wsgi.") && *key == key.to_uppercase() {
                assert_eq!(value[0], "str", "{key}");
            }
        }
    }
}

// 31, 40
#[test]
fn server_and_peer_are_named_on_a_unix_socket_too() {
    let builder = Pyserve::app("environ.py");
    let path = builder.path("http.sock");
    let server = builder
        .args(["--bind", &format!("unix:{}", path.display())])
        .ready();
    let mut connection = Connection::unix(&path);
    let response = connection.exchange(get("/"));
    assert!(!entry(&response, "SERVER_NAME").is_empty());
    assert!(!entry(&response, "SERVER_PORT").is_empty());
    assert_eq!(entry(&response, "REMOTE_ADDR"), "");
    drop(server);
}

// 32
#[test]
fn wsgi_keys_have_the_right_types() {
    let json = SERVER.get("/environ").json();
    let entries = &json["entries"];
    assert_eq!(
        entries["wsgi.version"],
        serde_json::json!(["tuple", "(1, 0)"])
    );
    assert_eq!(
        entries["wsgi.url_scheme"],
        serde_json::json!(["str", "http"])
    );
    assert_eq!(entries["wsgi.run_once"], serde_json::json!(["bool", false]));
}

// 32
#[test]
fn wsgi_errors_takes_every_kind_of_write_at_any_time_from_any_thread() {
    SERVER.get("/errors_stream?token=alpha");
    for line in [
        "written",
        "lines",
        "more lines",
        "printed",
        "partial line",
        "threaded",
    ] {
        SERVER.stderr.wait_for(&format!("{line} alpha"));
    }
    // The stream of an earlier request, used when that one is over.
    let server = alone("1");
    server.get("/errors_stream?token=beta");
    assert_eq!(server.get("/errors_stream?late&token=gamma").text(), "late");
    server.stderr.wait_for("late gamma");
}

// 33
#[test]
fn multithread_and_multiprocess_tell_the_configuration() {
    for (workers, threads) in [("1", "1"), ("1", "3"), ("2", "1"), ("2", "2")] {
        let server = Pyserve::app("environ.py")
            .args(["--workers", workers, "--threads", threads])
            .ready();
        let json = server.get("/").json();
        assert_eq!(
            json["entries"]["wsgi.multithread"][1],
            threads != "1",
            "{workers}x{threads}"
        );
        assert_eq!(
            json["entries"]["wsgi.multiprocess"][1],
            workers != "1",
            "{workers}x{threads}"
        );
    }
}

// 34
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

// 34
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

// 35
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

// 36
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

// 37
#[test]
fn what_is_no_iterable_of_bytes_is_a_clear_error_in_the_log() {
    let server = alone("1");
    for kind in ["str", "str piece", "none", "none piece", "bytes", "number"] {
        check_is_500(&server.get(&format!("/bad_iterables?kind={}", kind.replace(' ', "+"))));
    }
    server.stderr.wait_for_nth("TypeError", 6);
}

// 38
#[test]
fn two_requests_in_one_worker_share_nothing() {
    let server = alone("2");
    let mut connections = [server.connect(), server.connect()];
    for (connection, token) in connections.iter_mut().zip(["left", "right"]) {
        connection.send(post(
            &format!("/together?token={token}"),
            &format!("body of {token}"),
        ));
    }
    let held = ["left", "right"].map(|token| server.probe.held(&format!("inside {token}")));
    for held in held {
        held.release();
    }
    let [left, right] = connections.map(|mut connection| connection.response().json());
    assert_eq!(left["token"], "left");
    assert_eq!(left["input"], "body of left");
    assert_eq!(right["token"], "right");
    assert_eq!(right["input"], "body of right");
    assert_eq!(left["pid"], right["pid"]);
    for own in ["environ", "stream", "thread"] {
        assert_ne!(left[own], right[own], "{own}");
    }
}

// 39
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

// 40
#[test]
fn remote_addr_is_an_address_without_port_or_brackets() {
    let response = environ_of("");
    assert_eq!(entry(&response, "REMOTE_ADDR"), "127.0.0.1");
    entry(&response, "REMOTE_PORT")
        .parse::<u16>()
        .expect("a port");
}

// 40
#[test]
fn remote_addr_of_ipv6_has_no_brackets() {
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("REMOTE_ADDR of IPv6", "there is no ::1");
        return;
    }
    let server = Pyserve::app("environ.py")
        .args(["--bind", "[::1]:0"])
        .ready();
    let line = server.stderr.wait_for("listening on ");
    let (_, address) = line.split_once("http://").expect("an address");
    let address = address.trim().parse().expect("an address with a port");
    let response = Connection::tcp_to(address).exchange(get("/"));
    assert_eq!(entry(&response, "REMOTE_ADDR"), "::1");
    assert_ne!(entry(&response, "SERVER_NAME"), "");
}

#[test]
fn the_first_thread_of_a_worker_is_the_main_thread_of_python() {
    let server = alone("1");
    assert_eq!(server.get("/environ").json()["main_thread"], true);
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
