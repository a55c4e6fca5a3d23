//! Framing of requests, forged headers and injected responses, as raw bytes.
//!
//! "Refused" means 400 (501 where the coding is not known) and the end of the connection,
//! with nothing behind it interpreted: each refused request has another one behind it,
//! which the application would note.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::http2::{Http2, Outcome};
use crate::support::raw::End;
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{temp_dir, write_files};

static SERVER: LazyLock<Server> =
    LazyLock::new(|| Pyserve::app("every.py").args(["--threads", "2"]).ready());

/// The head of a POST whose further lines and body are `rest`.
fn posting(rest: &str) -> Vec<u8> {
    let mut request = b"POST /journal/refused HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    request.extend(latin1(rest));
    request
}

/// Characters up to U+00FF as the bytes of the same number.
fn latin1(text: &str) -> Vec<u8> {
    let byte = |character| u8::try_from(u32::from(character)).expect("latin-1");
    text.chars().map(byte).collect()
}

fn check_refused(request: &[u8]) {
    check_answer(request, &[400]);
}

fn check_answer(request: &[u8], allowed: &[u16]) {
    static CHECKS: AtomicUsize = AtomicUsize::new(0);
    // Paths of its own keep this check apart from those that run beside it.
    let number = CHECKS.fetch_add(1, Ordering::Relaxed);
    let request = replaced(request, b"refused", format!("refused-{number}.").as_bytes());
    let smuggled = get(&format!("/journal/smuggled-{number}."));
    let shown = request.escape_ascii().to_string();
    let mut connection = SERVER.connect();
    // A server that refuses early may have closed when the last bytes come.
    let _ = connection.try_send([&request, smuggled.as_bytes()].concat());
    let (statuses, end) = connection.statuses_to_end();
    assert_eq!(statuses.len(), 1, "{statuses:?} for {shown}");
    assert!(allowed.contains(&statuses[0]), "{statuses:?} for {shown}");
    assert_ne!(end, End::TimedOut, "left open: {shown}");
    SERVER.get(&format!("/journal/after-{number}."));
    let notes = &SERVER.probe.notes;
    notes.wait_for(&format!("called GET /journal/after-{number}."));
    for wrong in ["smuggled", "refused"] {
        let called = format!("/journal/{wrong}-{number}.");
        assert_eq!(notes.count(&called), 0, "{wrong}: {shown}");
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match text.windows(from.len()).position(|part| part == from) {
        Some(at) => [&text[..at], to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}

fn environ_with(lines: &str) -> Value {
    let mut request = b"GET /environ HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    request.extend(latin1(lines));
    request.extend(b"\r\n");
    let response = SERVER.connect().exchange(request);
    assert_eq!(response.status(), 200, "{response:?}");
    response.json()["entries"].clone()
}

// 1
#[test]
fn length_beside_chunked_is_refused_or_the_chunks_win_and_the_connection_closes() {
    for order in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 600\r\n",
    ] {
        let mut connection = SERVER.connect();
        let mut request = b"POST /journal/both HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        request.extend(format!("{order}\r\n3\r\nabc\r\n0\r\n\r\n").bytes());
        request.extend(b"GET /journal/smuggled1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let _ = connection.try_send(request);
        let (bytes, end) = connection.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert_ne!(end, End::TimedOut, "the connection is closed");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        assert!(
            text.starts_with("HTTP/1.1 400")
                || text.starts_with("HTTP/1.1 200") && text.ends_with('3'),
            "{text}"
        );
    }
    assert_eq!(SERVER.probe.notes.count("smuggled1"), 0);
}

// 2. A space behind the number belongs to the field's white space (RFC 9110 §5.5).
#[test]
fn a_length_that_is_not_one_number_is_refused() {
    for length in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5_0",
        "Content-Length: 5.0",
        "Content-Length:",
        "Content-Length: \u{b}5",
        "Content-Length: 5\u{a0}",
        "Content-Length: 99999999999999999999999999",
    ] {
        check_refused(&posting(&format!("{length}\r\n\r\nhello")));
    }
}

// 3
#[test]
fn a_coding_that_is_not_exactly_chunked_is_refused() {
    for coding in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        "identity",
        "gzip",
        "\u{b}chunked",
        "chunked\u{b}",
        "\u{c}chunked",
        "\u{85}chunked",
        "chunked\u{a0}",
        "\"chunked\"",
        "chunked;q=1",
        "",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let request = posting(&format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"));
        check_answer(&request, &[400, 501]);
        // Never a fall-back to the length.
        let request = posting(&format!(
            "Transfer-Encoding: {coding}\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
        ));
        check_answer(&request, &[400, 501]);
    }
}

// 3. RFC 9112 §6.1: a coding that is not known is not implemented, if the body has an end.
#[test]
fn a_coding_in_front_of_chunked_is_501_and_a_body_without_an_end_400() {
    for (coding, status) in [
        ("gzip, chunked", 501),
        ("gzip\r\nTransfer-Encoding: chunked", 501),
        ("foo;bar=\"baz\" ,\tChunked", 501),
        ("identity, chunked", 501),
        ("gzip", 400),
        ("identity", 400),
        ("chunked, gzip", 400),
        ("chunked, chunked", 400),
        ("gzip, chunked, chunked", 400),
        ("g zip, chunked", 400),
        (",chunked", 400),
        ("chunked;a=b", 400),
        ("", 400),
    ] {
        let request = posting(&format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"));
        check_answer(&request, &[status]);
    }
}

// 4
#[test]
fn white_space_or_other_bytes_in_a_header_name_are_refused() {
    for line in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding : chunked",
        "X-A\u{a0}: 1",
        " X-A: 1",
        "X A: 1",
        "X-\u{e9}: 1",
        ": 1",
        "no colon",
        "X-A(1): 1",
    ] {
        check_refused(&posting(&format!("{line}\r\n\r\n")));
    }
}

// 5
#[test]
fn chunked_in_http_1_0_is_refused() {
    check_refused(
        b"POST /journal/refused HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
}

// 6
#[test]
fn bare_cr_nul_and_folded_lines_in_the_head_are_refused() {
    for line in [
        "X-A: a\rb",
        "X-A: a\r",
        "X-A: a\0b",
        "X-A: a\r\n folded",
        "X-A: a\r\n\tfolded",
        "X-A: \u{1}",
        "X-A: \u{7f}",
    ] {
        check_refused(&posting(&format!("{line}\r\n\r\n")));
    }
    check_refused(b"GET /journal/refused\0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    check_refused(b"GET /journal/refused\r HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

// 6
#[test]
fn bare_line_feeds_in_the_head_are_refused_or_consistently_line_ends() {
    let mut connection = SERVER.connect();
    connection.send("GET /environ HTTP/1.1\nHost: localhost\nX-A: 1\nX-B: 2\n\n");
    connection.send(get("/"));
    let response = connection.response();
    if response.status() == 200 {
        let entries = response.json()["entries"].clone();
        assert_eq!(entries["HTTP_X_A"][1], "1");
        assert_eq!(entries["HTTP_X_B"][1], "2");
        assert_eq!(connection.response().text(), "hello");
    } else {
        assert_eq!(response.status(), 400);
        assert!(connection.statuses_to_end().0.is_empty());
    }
}

// 7
#[test]
fn malformed_chunks_are_refused_and_the_body_never_looks_complete() {
    for chunks in [
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "0_3\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
        "3;ext=\rx\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3;ext=a\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Trailer : 1\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3;ext=\0\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\r\r\n",
        "3\r\nabc\r\n0\r\nX-Trailer: 1\n\n",
        "3\r\nabc\r\n0\r\nX-Trailer: 1\n\r\n",
        "3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\n",
        "3\r\nabc\r\n0\r\nX-Trailer: 1\rX: 2\r\n\r\n",
    ] {
        let request = posting(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        check_refused(&request);
    }
}

// 7. RFC 9112 §11.2: nginx refuses them for `return` as well, whose answer needs no body.
#[test]
fn malformed_chunks_are_refused_where_no_body_is_read() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[(
            "pyserve.toml",
            "[[location]]\nprefix = \"/text\"\nrespond = \"text\"\n\
             [[location]]\nprefix = \"/moved\"\nredirect = \"/text\"\n",
        )],
    );
    let server = Pyserve::app("every.py").current_dir(dir.path()).ready();
    for path in ["/text", "/moved", "/journal/refused"] {
        for chunks in ["0\r\n\n", "1\r\na\r\n0\r\nX: y\n\n", "x\r\n"] {
            let mut connection = server.connect();
            connection.send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {chunks}POST /text HTTP/1.1\r\nHost: localhost\r\nContent-Length: 52\r\n\r\n\
                 GET /journal/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ));
            let (statuses, end) = connection.statuses_to_end();
            assert_eq!(statuses, [400], "{path} {chunks:?}");
            assert_ne!(end, End::TimedOut, "{path} {chunks:?}");
        }
    }
    assert_eq!(server.probe.notes.count("smuggled"), 0);
}

// 6. nginx answers at once as well.
#[test]
fn a_head_whose_lines_end_with_a_bare_cr_is_refused_at_once() {
    check_refused(b"GET /journal/refused HTTP/1.1\rHost: localhost\r\r");
    check_refused(b"POST /journal/refused HTTP/1.1\r\nHost: localhost\rX: y\r\r");
}

// 7
#[test]
fn a_connection_goes_on_behind_chunks_however_they_arrive() {
    let chunked = "POST /journal HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;ext=\"a\"\r\nabc\r\n00A \r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
    let all = chunked.repeat(2) + "\r\n" + &get("/") + chunked;
    for step in [1, 10, 64, all.len()] {
        let mut connection = SERVER.connect();
        for part in all.as_bytes().chunks(step) {
            connection.send(part);
        }
        for body in ["13", "13", "hello", "13"] {
            let response = connection.response();
            assert_eq!(
                (response.status(), &*response.text()),
                (200, body),
                "{step}"
            );
            assert_eq!(response.header("Connection"), None);
        }
        assert_eq!(connection.exchange(get("/")).text(), "hello");
    }
}

// 7
#[test]
fn a_chunk_that_cannot_fit_is_refused_before_its_bytes_come() {
    let server = Pyserve::app("every.py").args(["--max-body", "1K"]).ready();
    for (chunks, status) in [
        ("401\r\n", 413),
        ("7fffffffffffffff\r\n", 413),
        ("ffffffffffffffff\r\n", 413),
        ("5\r\nabcde\r\n3fc\r\n", 413),
        ("10000000000000000", 400),
    ] {
        let head = "POST /journal/refused HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (now, later) in [(format!("{head}{chunks}"), ""), (head.to_owned(), chunks)] {
            let mut connection = server.connect();
            connection.send(now);
            connection.send(later);
            let response = connection.response();
            assert_eq!(response.status(), status, "{chunks}");
            assert_eq!(response.header("Connection").as_deref(), Some("close"));
            assert_eq!(connection.rest(), (vec![], End::Closed));
        }
    }
    assert_eq!(server.probe.notes.count("refused"), 0);
}

// 7
#[test]
fn a_missing_last_chunk_is_no_complete_body() {
    for chunks in [
        "3\r\nabc\r\n",
        "3\r\nabc\r\n0",
        "3\r\nabc\r\n0\r\n",
        "3\r\nab",
    ] {
        let mut connection = SERVER.connect();
        connection.send(format!(
            "POST /journal/cut HTTP/1.1\r\nHost: localhost\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunks}"
        ));
        connection.finish_sending();
        let (statuses, _) = connection.statuses_to_end();
        assert!(
            statuses.is_empty() || statuses == [400],
            "{statuses:?} for {chunks:?}"
        );
    }
    assert_eq!(SERVER.get("/").text(), "hello");
    assert_eq!(SERVER.probe.notes.count("/journal/cut"), 0);
}

// 8
#[test]
fn trailers_never_become_entries_of_environ() {
    let response = SERVER.exchange(
        "POST /environ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Trailer\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\
         Authorization: Basic eA==\r\nX-Trailer: 1\r\n\r\n",
    );
    if response.status() == 400 {
        return;
    }
    let entries = &response.json()["entries"];
    assert_eq!(entries["CONTENT_LENGTH"][1], "3");
    assert_eq!(entries["HTTP_HOST"][1], "localhost");
    for key in ["HTTP_AUTHORIZATION", "HTTP_X_TRAILER"] {
        assert_eq!(entries[key], Value::Null, "{key}");
    }
}

// 9
#[test]
fn bytes_of_an_unread_body_are_never_a_request() {
    let hidden = get("/journal/hidden");
    for length in [hidden.len(), 500_000] {
        let hidden = hidden.clone() + &"x".repeat(length - hidden.len());
        let mut connection = SERVER.connect();
        connection.send(post("/journal?ignore", &hidden));
        assert_eq!(connection.response().text(), "ignored");
        connection.send(format!(
            "POST /journal?ignore HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{hidden}\r\n0\r\n\r\n"
        ));
        assert_eq!(connection.response().text(), "ignored");
        connection.send(get("/"));
        assert_eq!(connection.response().text(), "hello");
    }
    assert_eq!(SERVER.get("/").text(), "hello");
    assert_eq!(SERVER.probe.notes.count("hidden"), 0);
}

// 10
#[test]
fn doubled_or_malformed_host_and_doubled_content_type_are_refused() {
    for lines in [
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a:port\r\n",
        "Host: []\r\n",
        "Host: [::g]\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [::1]80\r\n",
        "Host: [127.0.0.1]\r\n",
        "Host: [v1.]\r\n",
        "Host: :80\r\n",
        "Host: a:80:80\r\n",
        "Host: a%zz\r\n",
        "Host: a, b\r\n",
        "Host: \u{1}\r\n",
        "Host: localhost\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n",
    ] {
        check_refused(format!("GET /journal/refused HTTP/1.1\r\n{lines}\r\n").as_bytes());
    }
}

// 11
#[test]
fn the_authority_of_an_absolute_target_replaces_host() {
    let response = SERVER
        .exchange("GET http://other.example:81/environ/x?y HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let entries = &response.json()["entries"];
    assert_eq!(entries["HTTP_HOST"][1], "other.example:81");
    assert_eq!(entries["PATH_INFO"][1], "/environ/x");
    assert_eq!(entries["QUERY_STRING"][1], "y");
}

/// RFC 3986 §3.2.2: a registered name may have percent-encoded octets.
#[test]
fn an_absolute_target_may_have_a_percent_encoded_host() {
    for host in ["x%41", "a%2eb:81", "x%c3%a9"] {
        for (line, fields) in [
            ("/environ/x?y HTTP/1.1", "hOST:localhost\r\n"),
            (
                "/environ/x?y HTTP/1.1",
                "X-A: b\r\nHost: localhost\r\nX-C: d\r\n",
            ),
            ("/environ/x?y HTTP/1.0", ""),
        ] {
            let request = format!("GET http://{host}{line}\r\n{fields}\r\n");
            let response = SERVER.exchange(&request);
            let entries = &response.json()["entries"];
            assert_eq!(entries["HTTP_HOST"][1], *host);
            assert_eq!(entries["PATH_INFO"][1], "/environ/x");
            assert_eq!(entries["QUERY_STRING"][1], "y");
        }
        let sent = SERVER.exchange(&format!(
            "POST http://{host}/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        ));
        assert_eq!(sent.status(), 200);
        for fields in ["", "Host: a b\r\n", "Host: a\r\nHost: a\r\n"] {
            let request = format!("GET http://{host}/journal/refused HTTP/1.1\r\n{fields}\r\n");
            check_refused(request.as_bytes());
        }
    }
    for host in ["x%4", "x%zz", "u@x%41"] {
        let line = format!("GET http://{host}/journal/refused HTTP/1.1\r\n");
        check_refused((line + "Host: a\r\n\r\n").as_bytes());
    }
}

// 11
#[test]
fn targets_that_do_not_fit_the_method_are_refused() {
    for target in [
        "localhost:80",
        "*",
        "relative",
        "?query",
        "http:///journal/refused",
        "//",
    ] {
        if target == "//" {
            // A path of two slashes is an ordinary path.
            assert_eq!(SERVER.get("//").status(), 200);
            continue;
        }
        check_refused(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    }
    let response = SERVER.exchange("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(response.status() < 500, "{response:?}");
    let response = SERVER.exchange("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert!((400..=501).contains(&response.status()), "{response:?}");
}

// 12
#[test]
fn malformed_http_2_requests_are_errors_of_the_stream() {
    const GOOD: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/journal/refused2"),
        (":authority", "localhost"),
    ];
    let with = |extra: &[(&'static str, &'static str)]| [&GOOD[..], extra].concat();
    let without = |name: &str| {
        GOOD.into_iter()
            .filter(|field| field.0 != name)
            .collect::<Vec<_>>()
    };
    let path = |path| [&without(":path")[..], &[(":path", path)]].concat();
    for fields in [
        with(&[("x-a", "a\r\nb")]),
        with(&[("x-a", "a\nb")]),
        with(&[("x-a", "a\0b")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("upgrade", "h2c")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "1")]),
        with(&[("x a", "1")]),
        with(&[(":path", "/journal/refused2")]),
        with(&[(":unknown", "1")]),
        with(&[("x-a", "1"), (":authority", "late")]),
        with(&[("host", "other.example")]),
        without(":method"),
        without(":path"),
        without(":scheme"),
        path("no-slash"),
        path(""),
    ] {
        let mut http2 = Http2::new(SERVER.connect());
        http2.headers(1, &fields, true);
        match http2.outcome(1) {
            Outcome::StreamError(_) | Outcome::ConnectionError(_) | Outcome::Response(400, _) => {}
            outcome => panic!("{outcome:?} for {fields:?}"),
        }
    }
    assert_eq!(SERVER.get("/").text(), "hello");
    assert_eq!(SERVER.probe.notes.count("refused2"), 0);
}

// 13, 14, 17
#[test]
fn no_header_forges_an_entry_of_environ() {
    let before = environ_with("");
    let after = environ_with(
        "X_Forwarded_For: 1.2.3.4\r\nX_Forwarded_Proto: https\r\nRemote_User: root\r\n\
         Proxy: http://evil\r\nREMOTE_USER: root\r\nSCRIPT_NAME: /x\r\nPATH_INFO: /x\r\n\
         UWSGI_SCHEME: https\r\nHTTPS: on\r\n\
         Remote-User: root\r\nScript-Name: /x\r\nPath-Info: /x\r\nwsgi.url_scheme: https\r\n",
    );
    for key in [
        "SCRIPT_NAME",
        "PATH_INFO",
        "REMOTE_ADDR",
        "wsgi.url_scheme",
        "REMOTE_USER",
        "HTTPS",
    ] {
        assert_eq!(before[key], after[key], "{key}");
    }
    for key in [
        "HTTP_X_FORWARDED_FOR",
        "HTTP_PROXY",
        "HTTP_UWSGI_SCHEME",
        "UWSGI_SCHEME",
        "HTTP_SCRIPT_NAME_",
    ] {
        assert_eq!(after[key], Value::Null, "{key}");
    }
    // Headers with a dash have names of their own, which forge nothing.
    assert_eq!(after["HTTP_REMOTE_USER"][1], "root");
}

// 15
#[test]
fn forwarding_headers_of_a_peer_that_is_not_trusted_change_nothing_and_are_removed() {
    let before = environ_with("");
    let after = environ_with(
        "X-Forwarded-Proto: https\r\nX-Forwarded-SSL: on\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4;proto=https;host=evil\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 444\r\nX-Forwarded-Prefix: /evil\r\n\
         X-Forwarded-Server: evil\r\nX-Forwarded-Protocol: https\r\nFront-End-Https: on\r\n",
    );
    for key in [
        "REMOTE_ADDR",
        "SERVER_PORT",
        "SERVER_NAME",
        "SCRIPT_NAME",
        "wsgi.url_scheme",
    ] {
        assert_eq!(before[key], after[key], "{key}");
    }
    for (key, value) in after.as_object().unwrap() {
        let forwarding = ["FORWARDED", "REAL_IP"]
            .iter()
            .any(|part| key.contains(part));
        assert!(!forwarding, "{key}: {value}");
    }
    assert_eq!(after["HTTP_HOST"][1], "localhost");
}

#[test]
fn a_request_id_of_a_peer_that_is_not_trusted_is_replaced() {
    let request = "GET /environ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: forged\r\n\r\n";
    let response = SERVER.exchange(request);
    let id = response.header("X-Request-ID").expect("an id");
    assert_ne!(id, "forged");
    assert_eq!(response.json()["entries"]["HTTP_X_REQUEST_ID"][1], *id);
}

// 16
#[test]
fn a_trusted_peer_may_tell_of_its_client_and_name_the_request() {
    let server = Pyserve::app("environ.py")
        .args(["--trust", "127.0.0.0/8"])
        .ready();
    let response = server.exchange(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine-1\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n\r\n",
    );
    let entries = &response.json()["entries"];
    assert_eq!(entries["HTTP_X_FORWARDED_FOR"][1], "9.9.9.9, 1.2.3.4");
    assert_eq!(entries["HTTP_X_FORWARDED_PROTO"][1], "https");
    assert_eq!(entries["HTTP_X_REQUEST_ID"][1], "mine-1");
    assert_eq!(response.header("X-Request-ID").as_deref(), Some("mine-1"));

    for bad in ["a b", "", "<script>", "\u{e9}", &"x".repeat(5000)] {
        let mut request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: ".to_vec();
        request.extend(latin1(bad));
        request.extend(b"\r\n\r\n");
        let response = server.connect().exchange(request);
        let id = response.header("X-Request-ID").expect("an id");
        assert_ne!(id, latin1(bad).escape_ascii().to_string());
        assert!(
            id.chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '-'),
            "{id}"
        );
    }
}

// 19, 20
#[test]
fn user_input_with_line_ends_in_response_headers_injects_nothing() {
    for query in [
        "to=/%0d%0aX-Injected:%201",
        "to=/%0aX-Injected:%201",
        "to=/%0dX-Injected:%201",
        "cookie=%0d%0aX-Injected:%201",
        "cookie=%0d%0a%0d%0a%3Cscript%3E",
        "status=302+Found%0d%0aX-Injected:%201",
        "to=/%00",
    ] {
        let response = SERVER.get(&format!("/injection?{query}"));
        assert_eq!(response.status(), 500, "{query}");
        assert_eq!(response.header("X-Injected"), None, "{query}");
        assert!(!response.text().contains("script"), "{query}");
    }
}

/// nginx: `ngx_http_parse_complex_uri` refuses a NUL of the decoded path. A query is not decoded.
#[test]
fn an_encoded_nul_in_the_path_is_refused_for_every_answerer() {
    for target in ["/%00", "/environ%00", "/a/%00/../b", "/%00?x"] {
        assert_eq!(SERVER.get(target).status(), 400, "{target}");
    }
    for target in ["/%2500", "/?%00"] {
        assert_ne!(SERVER.get(target).status(), 400, "{target}");
    }
}
