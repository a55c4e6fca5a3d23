//! Malformed requests over HTTP/2 (RFC 9113 §8.1.1): each costs its own stream, with a
//! response and a line in the access log, and the connection goes on.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, Outcome, PADDED,
    PING, PRIORITY, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, frame, get_fields, push_field,
};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server};

const PRIORITY_FLAG: u8 = 0x20;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The fields of a GET for `path`.
fn get(path: &[u8]) -> Pairs {
    pairs(&[
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
    ])
}

fn pairs(fields: &[(&[u8], &[u8])]) -> Pairs {
    let pair = |(name, value): &(&[u8], &[u8])| (name.to_vec(), value.to_vec());
    fields.iter().map(pair).collect()
}

/// A GET with another value in a field, or with one field more.
fn with(name: &[u8], value: &[u8]) -> Pairs {
    let mut fields = get(b"/hello");
    match fields.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value.to_vec(),
        None => fields.push((name.to_vec(), value.to_vec())),
    }
    fields
}

fn without(name: &[u8]) -> Pairs {
    let mut fields = get(b"/hello");
    fields.retain(|(known, _)| known != name);
    fields
}

fn in_front(name: &[u8], value: &[u8]) -> Pairs {
    let mut fields = get(b"/hello");
    fields.insert(0, (name.to_vec(), value.to_vec()));
    fields
}

/// A block whose fields all become entries of the dynamic table.
fn indexed(fields: &Pairs) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_field(&mut block, 0x40, name, value);
    }
    block
}

/// RFC 9113 §8.2, §8.2.1, §8.2.2, §8.3, §8.3.1, §8.1.1; what the access log says of each.
fn malformed() -> Vec<(Pairs, &'static str)> {
    let hello = r#""GET /hello HTTP/2.0""#;
    let mut cases = vec![
        (with(b":path", b""), r#""GET - HTTP/2.0""#),
        (with(b":path", b"*"), r#""GET * HTTP/2.0""#),
        (with(b":path", b"hello"), r#""GET hello HTTP/2.0""#),
        (with(b":path", b"http://a/"), r#""GET http://a/ HTTP/2.0""#),
        (with(b":path", b"?a"), r#""GET ?a HTTP/2.0""#),
        (with(b":path", b"/a b"), r#""GET /a b HTTP/2.0""#),
        (with(b":path", b"/a\nb"), r#""GET /a\x0Ab HTTP/2.0""#),
        (with(b":path", b"/a\0"), r#""GET /a\x00 HTTP/2.0""#),
        (with(b":path", b"/\x7f"), r#""GET /\x7F HTTP/2.0""#),
        (with(b":method", b"G ET"), r#""G ET /hello HTTP/2.0""#),
        (with(b":method", b""), r#""- /hello HTTP/2.0""#),
        (with(b":method", b"G\xe9T"), r#""G\xE9T /hello HTTP/2.0""#),
        (with(b":method", b"CONNECT"), r#""CONNECT /hello HTTP/2.0""#),
        (without(b":method"), r#""- /hello HTTP/2.0""#),
        (without(b":path"), r#""GET - HTTP/2.0""#),
    ];
    let others = [
        without(b":scheme"),
        without(b":authority"),
        with(b":scheme", b""),
        with(b":scheme", b"ht tp"),
        with(b":scheme", b"ftp"),
        with(b":authority", b""),
        with(b":authority", b"a@b"),
        with(b":authority", b"a b"),
        with(b":authority", b"\xe9"),
        with(b":authority", b"[::1"),
        with(b":status", b"200"),
        with(b":unknown", b"x"),
        in_front(b":protocol", b"websocket"),
        in_front(b":unknown", b"x"),
        in_front(b":path", b"/hello"),
        in_front(b":method", b"GET"),
        in_front(b"x-first", b"before the pseudo-header fields"),
        with(b"", b"x"),
        with(b"X-Upper", b"x"),
        with(b"x y", b"x"),
        with(b"x:y", b"x"),
        with(b"x\0", b"x"),
        with(b"\xe9", b"x"),
        with(b"x", b"a\rb"),
        with(b"x", b"a\nb"),
        with(b"x", b"a\0b"),
        with(b"x", b"a\x01b"),
        with(b"x", b"a\x7fb"),
        with(b"x", b" a"),
        with(b"x", b"a "),
        with(b"x", b"\ta"),
        with(b"x", b"a\t"),
        with(b"x", b" "),
        with(b"connection", b"close"),
        with(b"keep-alive", b"timeout=5"),
        with(b"proxy-connection", b"close"),
        with(b"transfer-encoding", b"chunked"),
        with(b"upgrade", b"websocket"),
        with(b"te", b"gzip"),
        with(b"te", b"trailers, gzip"),
        with(b"content-length", b"5"),
        with(b"content-length", b"-1"),
        with(b"content-length", b"0, 0"),
        with(b"content-length", b""),
        with(b"host", b"elsewhere"),
    ];
    cases.extend(others.map(|fields| (fields, hello)));
    cases
}

fn served() -> Server {
    let args = ["--access-log", "combined", "--threads", "2"];
    Pyserve::app("every.py")
        .args(args)
        .args(["--proxy-protocol", "127.0.0.1"])
        .ready()
}

/// A connection of another client than all others: of each, only some are logged.
fn connect(server: &Server) -> Http2 {
    Http2::new(client(server))
}

fn client(server: &Server) -> Connection {
    static CLIENTS: AtomicU16 = AtomicU16::new(0);
    let [high, low] = CLIENTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut connection = server.connect();
    connection.send(format!("PROXY TCP4 10.0.{high}.{low} 10.1.0.1 4000 80\r\n"));
    connection
}

fn send(http2: &mut Http2, stream: u32, flags: u8, block: &[u8]) {
    assert!(http2.try_send(&frame(HEADERS, END_HEADERS | flags, stream, block)));
}

fn check_served(http2: &mut Http2, stream: u32) {
    assert_eq!(
        http2.outcome(stream),
        Outcome::Response(200, b"hello".into()),
        "stream {stream}"
    );
}

fn check_refused(http2: &mut Http2, stream: u32, what: &str) {
    match http2.outcome(stream) {
        Outcome::Response(400, body) => assert!(!body.is_empty() || what.contains("HEAD")),
        other => panic!("{other:?} for {what}"),
    }
}

fn shown(fields: &Pairs) -> String {
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_malformed_request_costs_its_stream_and_no_other() {
    let server = served();
    let hello = indexed(&get(b"/hello"));
    for (fields, line) in malformed() {
        let before = server.stdout.count(line);
        let what = shown(&fields);
        // Alone, between others, and with its fields in the table that all share.
        let mut http2 = connect(&server);
        send(&mut http2, 1, END_STREAM, &indexed(&fields));
        check_refused(&mut http2, 1, &what);
        send(&mut http2, 3, END_STREAM, &hello);
        send(&mut http2, 5, END_STREAM, &indexed(&fields));
        send(&mut http2, 7, END_STREAM, &hello);
        check_served(&mut http2, 3);
        check_refused(&mut http2, 5, &what);
        check_served(&mut http2, 7);
        // With a body behind it.
        send(&mut http2, 9, 0, &indexed(&fields));
        assert!(http2.try_send(&frame(DATA, END_STREAM, 9, b"hello")));
        if !what.contains("content-length: 5") && !what.contains(": elsewhere") {
            check_refused(&mut http2, 9, &what);
        }
        http2.round_trip();
        server.stdout.wait_for_nth(line, before + 2);
    }
}

#[test]
fn many_requests_go_on_behind_a_malformed_one() {
    let server = served();
    for (fields, _) in malformed().into_iter().step_by(7) {
        let mut http2 = connect(&server);
        send(&mut http2, 1, END_STREAM, &indexed(&get(b"/hello")));
        send(&mut http2, 3, END_STREAM, &indexed(&fields));
        check_served(&mut http2, 1);
        check_refused(&mut http2, 3, &shown(&fields));
        // The four newest entries of the client's table, if they are again the fields of a GET.
        send(&mut http2, 5, END_STREAM, &indexed(&get(b"/hello")));
        check_served(&mut http2, 5);
        for stream in (7..400).step_by(2) {
            send(&mut http2, stream, END_STREAM, &[0xC1, 0xC0, 0xBF, 0xBE]);
            check_served(&mut http2, stream);
        }
    }
}

#[test]
fn the_response_to_a_malformed_head_request_has_no_body() {
    let server = served();
    let mut http2 = connect(&server);
    let mut fields = with(b"X-Upper", b"x");
    fields[0].1 = b"HEAD".into();
    send(&mut http2, 1, END_STREAM, &indexed(&fields));
    assert_eq!(http2.outcome(1), Outcome::Response(400, vec![]));
    server.stdout.wait_for(r#""HEAD /hello HTTP/2.0" 400 0"#);
}

#[test]
fn a_head_that_is_too_large_costs_its_stream_and_is_logged() {
    let server = served();
    let mut http2 = connect(&server);
    // One entry of 4,000 bytes, meant 20 and, beyond four times the limit, 200 times.
    let mut block = indexed(&get(b"/large"));
    push_field(&mut block, 0x40, b"x-long", &[b'y'; 4000]);
    for (stream, count) in [(1, 20), (3, 200)] {
        let block = [&block[..], &vec![0xBE; count]].concat();
        send(&mut http2, stream, END_STREAM, &block);
        let outcome = http2.outcome(stream);
        assert!(
            matches!(outcome, Outcome::Response(..)),
            "{count}: {outcome:?}"
        );
    }
    server
        .stdout
        .wait_for_nth(r#""GET /large HTTP/2.0" 431"#, 2);
    server
        .stderr
        .wait_for("largest field is x-long with 4000 bytes");
    send(&mut http2, 5, END_STREAM, &indexed(&get(b"/hello")));
    check_served(&mut http2, 5);
}

#[test]
fn bytes_that_no_uri_contains_reach_the_application_percent_encoded() {
    let server = served();
    let mut http2 = connect(&server);
    let path = b"/environ/\xe9\xc3\xa9{}?q={\"a\":<1>}|\\^`";
    send(&mut http2, 1, END_STREAM, &indexed(&get(path)));
    let Outcome::Response(200, body) = http2.outcome(1) else {
        panic!("refused");
    };
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let entry = |name: &str| said["entries"][name][1].as_str().unwrap().to_owned();
    // PEP 3333: the decoded path, each byte a character of latin-1.
    assert_eq!(entry("PATH_INFO"), "/environ/\u{e9}\u{c3}\u{a9}{}");
    assert_eq!(entry("QUERY_STRING"), "q=%7B%22a%22:%3C1%3E%7D%7C%5C%5E%60");
    // All that come behind it, though h2's table is another one now.
    let hello = get(b"/hello");
    send(&mut http2, 3, END_STREAM, &indexed(&hello));
    send(&mut http2, 5, END_STREAM, &[0xC1, 0xC0, 0xBF, 0xBE]);
    check_served(&mut http2, 3);
    check_served(&mut http2, 5);
}

/// RFC 3986 §3.2.2: a registered name may have percent-encoded octets.
#[test]
fn a_host_with_percent_encoding_is_one_in_either_field() {
    let server = served();
    let mut http2 = connect(&server);
    let mut stream = 1;
    for host in ["x%41", "a%2eb:8080", "x%c3%a9", "[v1.a]"] {
        let both = {
            let mut fields = with(b":authority", host.as_bytes());
            fields.push((b"host".to_vec(), host.into()));
            fields
        };
        let mut alone = without(b":authority");
        alone.push((b"host".to_vec(), host.into()));
        for mut fields in [with(b":authority", host.as_bytes()), both, alone] {
            fields[2].1 = b"/environ/".to_vec();
            send(&mut http2, stream, END_STREAM, &indexed(&fields));
            let Outcome::Response(200, body) = http2.outcome(stream) else {
                panic!("{} is refused", shown(&fields));
            };
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(said["entries"]["HTTP_HOST"][1], *host);
            stream += 2;
        }
        let mut other = with(b":authority", host.as_bytes());
        other.push((b"host".to_vec(), b"elsewhere".to_vec()));
        send(&mut http2, stream, END_STREAM, &indexed(&other));
        check_refused(&mut http2, stream, host);
        stream += 2;
    }
    for host in ["x%4", "x%zz", "%"] {
        let fields = with(b":authority", host.as_bytes());
        send(&mut http2, stream, END_STREAM, &indexed(&fields));
        check_refused(&mut http2, stream, host);
        stream += 2;
    }
}

#[test]
fn an_asterisk_is_a_target_for_options_alone() {
    let server = served();
    let mut http2 = connect(&server);
    let mut fields = get(b"*");
    fields[0].1 = b"OPTIONS".into();
    send(&mut http2, 1, END_STREAM, &indexed(&fields));
    assert!(matches!(http2.outcome(1), Outcome::Response(200, _)));
    for (stream, method) in [(3, "GET"), (5, "POST"), (7, "HEAD")] {
        fields[0].1 = method.into();
        send(&mut http2, stream, END_STREAM, &indexed(&fields));
        check_refused(&mut http2, stream, method);
    }
}

#[test]
fn a_client_cannot_pretend_to_be_refused() {
    let server = served();
    let mut http2 = connect(&server);
    let mut fields = with(b"pyserve-refused", b"1");
    send(&mut http2, 1, END_STREAM, &indexed(&fields));
    check_served(&mut http2, 1);
    fields[2].1 = b"*".into();
    fields.remove(3);
    send(&mut http2, 3, END_STREAM, &indexed(&fields));
    check_refused(&mut http2, 3, "GET *");
    server.stdout.wait_for(r#""GET * HTTP/2.0" 400"#);
}

#[test]
fn malformed_trailers_reset_their_stream() {
    let server = served();
    let mut http2 = connect(&server);
    let mut post = get(b"/echo");
    post[0].1 = b"POST".into();
    let mut stream = 1;
    for (trailers, is_served) in [
        (pairs(&[]), true),
        (pairs(&[(b"x-sum", b"1")]), true),
        (pairs(&[(b":path", b"/")]), false),
        (pairs(&[(b"X-Sum", b"1")]), false),
        (pairs(&[(b"x-sum", b" 1")]), false),
        (pairs(&[(b"", b"1")]), false),
        (pairs(&[(b"connection", b"close")]), false),
        (pairs(&[(b"x-sum", b"1")]), true),
    ] {
        send(&mut http2, stream, 0, &indexed(&post));
        assert!(http2.try_send(&frame(DATA, 0, stream, b"")));
        send(&mut http2, stream, END_STREAM, &indexed(&trailers));
        let outcome = http2.outcome(stream);
        match is_served {
            true => assert!(matches!(outcome, Outcome::Response(200, _)), "{trailers:?}"),
            false => assert_eq!(
                outcome,
                Outcome::StreamError(PROTOCOL_ERROR),
                "{trailers:?}"
            ),
        }
        stream += 2;
    }
    send(&mut http2, stream, END_STREAM, &indexed(&get(b"/hello")));
    check_served(&mut http2, stream);
}

#[test]
fn a_content_length_that_the_body_contradicts_resets_the_stream() {
    let server = served();
    let mut http2 = connect(&server);
    for (stream, body) in [(1, &b"less"[..]), (3, b"more than five")] {
        let mut fields = with(b"content-length", b"5");
        fields[0].1 = b"POST".into();
        fields[2].1 = b"/echo".into();
        send(&mut http2, stream, 0, &indexed(&fields));
        assert!(http2.try_send(&frame(DATA, END_STREAM, stream, body)));
        assert_eq!(http2.outcome(stream), Outcome::StreamError(PROTOCOL_ERROR));
    }
    send(&mut http2, 5, END_STREAM, &indexed(&get(b"/hello")));
    check_served(&mut http2, 5);
}

#[test]
fn a_stream_that_depends_on_itself_keeps_the_tables_in_step() {
    // h2 resets such a stream without decoding its block; RFC 9113 §5.3.2 ignores priorities.
    let server = served();
    let mut http2 = connect(&server);
    let payload = [&[0, 0, 0, 1, 15][..], &indexed(&get(b"/hello"))].concat();
    send(&mut http2, 1, END_STREAM | PRIORITY_FLAG, &payload);
    check_served(&mut http2, 1);
    send(&mut http2, 3, END_STREAM, &[0xC1, 0xC0, 0xBF, 0xBE]);
    check_served(&mut http2, 3);
}

#[test]
fn blocks_in_pieces_with_padding_and_priority_are_read_alike() {
    let server = served();
    for (fields, is_served) in [(get(b"/hello"), true), (with(b"X", b"1"), false)] {
        let block = indexed(&fields);
        let (first, rest) = block.split_at(block.len() / 2);
        let (second, third) = rest.split_at(7);
        let head = [&[3, 0, 0, 0, 0, 7][..], first, &[0; 3]].concat();
        let sent = [
            frame(HEADERS, END_STREAM | PADDED | PRIORITY_FLAG, 1, &head),
            frame(CONTINUATION, 0, 1, &[]),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ]
        .concat();
        let mut whole = connect(&server);
        assert!(whole.try_send(&sent));
        let mut bytewise = connect(&server);
        for byte in sent {
            assert!(bytewise.try_send(&[byte]));
        }
        for http2 in [&mut whole, &mut bytewise] {
            match is_served {
                true => check_served(http2, 1),
                false => check_refused(http2, 1, "X"),
            }
            http2.round_trip();
        }
    }
}

#[test]
fn a_large_head_behind_a_malformed_request_is_written_in_frames_again() {
    let server = served();
    let mut http2 = connect(&server);
    send(&mut http2, 1, END_STREAM, &indexed(&with(b"X", b"1")));
    check_refused(&mut http2, 1, "X");
    let mut block = indexed(&get(b"/hello"));
    for number in 0..10 {
        push_field(
            &mut block,
            0,
            format!("x-{number}").as_bytes(),
            &[b'v'; 5000],
        );
    }
    let mut parts = block.chunks(16_384).peekable();
    assert!(http2.try_send(&frame(HEADERS, END_STREAM, 3, parts.next().unwrap())));
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        assert!(http2.try_send(&frame(CONTINUATION, flags, 3, part)));
    }
    check_served(&mut http2, 3);
}

#[test]
fn what_ends_a_connection_is_named_with_the_peer() {
    let open = |flags: u8| frame(HEADERS, flags, 1, &indexed(&get(b"/hello")));
    for (sent, code, why) in [
        (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80]),
            COMPRESSION_ERROR,
            "refers to an entry",
        ),
        (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3F, 0xE2, 0x1F]),
            COMPRESSION_ERROR,
            "size of the dynamic table",
        ),
        (
            [open(0), frame(DATA, 0, 1, b"x")].concat(),
            PROTOCOL_ERROR,
            "interrupts a header block",
        ),
        (
            [open(0), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            PROTOCOL_ERROR,
            "interrupts a header block",
        ),
        (
            frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0]),
            PROTOCOL_ERROR,
            "padding",
        ),
        (
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            FRAME_SIZE_ERROR,
            "wrong length",
        ),
        // RFC 9113 §6.4: on a stream that was never opened; h2 finds it.
        (
            frame(RST_STREAM, 0, 9, &[0, 0, 0, 8]),
            PROTOCOL_ERROR,
            "protocol error",
        ),
    ] {
        let server = Pyserve::app("every.py").ready();
        let mut http2 = Http2::new(server.connect());
        // Others are not touched.
        http2.headers(15, &get_fields("/hello"), true);
        http2.outcome(15);
        let mut http2 = Http2::new(server.connect());
        http2.round_trip();
        assert!(http2.try_send(&sent));
        let (codes, end) = http2.farewell();
        assert_eq!(codes, [code], "{why}");
        assert_ne!(end, End::TimedOut);
        let line = server.stderr.wait_for(why);
        assert!(
            line.contains("WARN") && line.contains("127.0.0.1:"),
            "{line}"
        );
    }
}

/// RFC 9113 §4.2, §5.1.1, §6.
#[test]
fn errors_of_the_connection_have_the_code_of_their_kind() {
    let server = served();
    let request = |stream| {
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &indexed(&get(b"/hello")),
        )
    };
    let window = |value: u32| [&[0, 4][..], &value.to_be_bytes()].concat();
    let late_setting = [[0, 9, 0, 0, 0, 0].repeat(100), window(1 << 31)].concat();
    for (sent, code) in [
        (frame(RST_STREAM, 0, 1, &[0]), FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, &[0; 5]), FRAME_SIZE_ERROR),
        (frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        (frame(PING, ACK, 0, &[0; 9]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 1, &[0; 5]), FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        (frame(DATA, PADDED, 1, &[]), FRAME_SIZE_ERROR),
        (frame(DATA, 0, 1, &[0; 16_385]), FRAME_SIZE_ERROR),
        (frame(UNKNOWN, 0, 0, &[0; 16_385]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &window(1 << 31)), FLOW_CONTROL_ERROR),
        (frame(SETTINGS, 0, 0, &window(u32::MAX)), FLOW_CONTROL_ERROR),
        (frame(SETTINGS, 0, 0, &late_setting), FLOW_CONTROL_ERROR),
        (frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 0]), PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 1, &[0; 4]), PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 0, &[0; 5]), PROTOCOL_ERROR),
        ([request(5), request(3)].concat(), PROTOCOL_ERROR),
        (
            [request(1), request(7), request(5)].concat(),
            PROTOCOL_ERROR,
        ),
        (
            [request(7), request(9), request(1)].concat(),
            PROTOCOL_ERROR,
        ),
        (request(2), PROTOCOL_ERROR),
    ] {
        for step in [sent.len(), 7] {
            let mut http2 = connect(&server);
            http2.round_trip();
            for part in sent.chunks(step) {
                http2.try_send(part);
            }
            let (codes, end) = http2.farewell();
            assert_eq!(codes, [code], "{:?}", &sent[..sent.len().min(32)]);
            assert_ne!(end, End::TimedOut);
        }
    }
}

/// RFC 9113 §5.1, §6.3, §6.9: the stream is reset, and the requests beside it are answered.
#[test]
fn errors_of_a_stream_reset_it_and_no_other() {
    let server = served();
    let post = |flags| frame(HEADERS, flags | END_HEADERS, 1, &indexed(&get(b"/hello")));
    let (open, ended) = (post(0), post(END_STREAM));
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"");
    for (sent, code) in [
        (
            [&open[..], &frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            PROTOCOL_ERROR,
        ),
        (
            [&open[..], &frame(WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 0])].concat(),
            PROTOCOL_ERROR,
        ),
        (
            [&open[..], &frame(PRIORITY, 0, 1, &[0; 3])].concat(),
            FRAME_SIZE_ERROR,
        ),
        (
            [&open[..], &frame(PRIORITY, 0, 1, &[])].concat(),
            FRAME_SIZE_ERROR,
        ),
        (
            [&ended[..], &frame(DATA, END_STREAM, 1, b"a")].concat(),
            STREAM_CLOSED,
        ),
        (
            [&ended[..], &frame(DATA, 0, 1, &[])].concat(),
            STREAM_CLOSED,
        ),
        (
            [&ended[..], &frame(DATA, 0, 1, &[b'a'; 1000]).repeat(20)].concat(),
            STREAM_CLOSED,
        ),
        ([&ended[..], &trailers].concat(), STREAM_CLOSED),
        (
            [
                &open[..],
                &frame(DATA, END_STREAM, 1, b"a"),
                &frame(DATA, 0, 1, b"b"),
            ]
            .concat(),
            STREAM_CLOSED,
        ),
    ] {
        let beside = &indexed(&get(b"/hello"));
        let beside = frame(HEADERS, END_HEADERS | END_STREAM, 3, beside);
        let room = frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 5]);
        let all = [&sent[..], &beside, &room].concat();
        for cut in [all.len(), sent.len() - 2] {
            // The first response cannot end, for its body has no room.
            let mut http2 = Http2::with_window(client(&server), 0);
            http2.round_trip();
            for part in [&all[..cut], &all[cut..]] {
                assert!(http2.try_send(part));
            }
            let shown = sent[sent.len() - 10..].escape_ascii();
            assert_eq!(http2.outcome(1), Outcome::StreamError(code), "{shown}");
            check_served(&mut http2, 3);
            http2.round_trip();
        }
    }
}

/// RFC 9113 §5.3.2: priorities are ignored; §6.4: a stream that was never opened is not reset.
#[test]
fn priorities_of_streams_that_were_never_opened_cause_no_reset() {
    let server = served();
    let request = |stream| {
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &indexed(&get(b"/hello")),
        )
    };
    for priority in [
        &[0, 0, 0, 1, 16][..],
        &[0x80, 0, 0, 1, 16],
        &[0; 5],
        &[0; 3],
        &[],
    ] {
        let mut http2 = connect(&server);
        assert!(http2.try_send(&frame(PRIORITY, 0, 1, priority)));
        http2.round_trip();
        for stream in [1, 3] {
            assert!(http2.try_send(&request(stream)));
            check_served(&mut http2, stream);
        }
        // Nor one that has ended.
        assert!(http2.try_send(&frame(PRIORITY, 0, 1, priority)));
        http2.round_trip();
    }
}

#[test]
fn a_response_to_head_over_http2_has_no_body_whatever_its_status() {
    let server = Pyserve::app("every.py").ready();
    let mut http2 = Http2::new(server.connect());
    for (stream, path, status) in [(1, "/hello", 200), (3, "/nothing/here", 500)] {
        let mut fields = get(path.as_bytes());
        fields[0].1 = b"HEAD".into();
        send(&mut http2, stream, END_STREAM, &indexed(&fields));
        let outcome = http2.outcome(stream);
        assert_eq!(outcome, Outcome::Response(status, vec![]), "{path}");
    }
}

/// Over both versions: what clients are refused for costs them next to nothing.
#[test]
fn a_flood_of_refused_requests_writes_few_lines_in_either_log() {
    for format in ["combined", "json"] {
        let server = Pyserve::app("every.py")
            // Of others a connection ends behind a burst of them.
            .args(["--access-log", format, "--trust", "127.0.0.1"])
            .watched()
            .ready();
        // A target of 3,700 bytes in the table, and a byte for each time that it is meant.
        let mut long = get(&[&b"/"[..], &[b'"'; 3700]].concat());
        long[2].0 = b":path".into();
        let mut block = indexed(&long);
        push_field(&mut block, 0, b"X-Upper", b"x");
        let mut http2 = Http2::new(server.connect());
        http2.allow(0, 1 << 29);
        send(&mut http2, 1, END_STREAM, &block);
        http2.outcome(1);
        // Method, scheme and host are the fourth, third and first newest entries.
        let mut again = vec![0xC1, 0xC0, 0xBF, 0xBE];
        push_field(&mut again, 0, b"X", b"");
        let sent: usize = (3..10_001)
            .step_by(2)
            .map(|stream| {
                send(&mut http2, stream, END_STREAM, &again);
                if stream % 100 == 1 {
                    http2.outcome(stream);
                }
                9 + again.len()
            })
            .sum();
        http2.round_trip();
        assert!((70_000..100_000).contains(&sent), "{sent}");
        // HTTP/1: refused by hyper, and by us.
        for number in 0..100 {
            let bad = ["GET /\x01 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"][number % 2];
            assert_eq!(server.exchange(bad).status(), 400);
        }
        // All of these have come when this one has.
        assert_eq!(server.get("/hello?last").status(), 200);
        server.stdout.wait_for("/hello?last");
        for (log, most) in [(&server.stdout, 51), (&server.stderr, 70)] {
            let lines = log.so_far();
            let bytes: usize = lines.iter().map(String::len).sum();
            assert!(lines.len() <= most, "{} lines", lines.len());
            assert!(bytes < 300_000, "{bytes} bytes");
        }
        server
            .stderr
            .wait_for("no more of them are logged for a while");
        // They are counted.
        let rejected = server.metric("pyserve_rejections_total{reason=\"bad_request\"}");
        assert!(
            rejected.is_some_and(|count| count >= 5000.0),
            "{rejected:?}"
        );
    }
}

/// Each was answered with 429, and had a line in the access log.
#[test]
fn malformed_requests_beyond_the_rate_limit_write_few_lines_as_well() {
    let server = Pyserve::app("every.py")
        .args(["--access-log", "combined", "--rate-limit", "1/h"])
        .args(["--trust", "127.0.0.1"])
        .watched()
        .ready();
    let mut http2 = Http2::new(server.connect());
    http2.allow(0, 1 << 29);
    let malformed = indexed(&with(b"X-Upper", b"x"));
    for stream in (1..601).step_by(2) {
        send(&mut http2, stream, END_STREAM, &malformed);
        let outcome = http2.outcome(stream);
        assert!(matches!(outcome, Outcome::Response(..)), "{outcome:?}");
    }
    let beyond = server.metric("pyserve_rejections_total{reason=\"rate_limit\"}");
    assert_eq!(beyond, Some(299.0));
    let too_often = server.exchange("GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(too_often.status(), 429);
    assert_eq!(too_often.header("Connection").as_deref(), Some("close"));
    // A request that is well-formed has its line.
    assert_eq!(server.get("/hello?last").status(), 429);
    server.stdout.wait_for("/hello?last");
    let lines = server.stdout.so_far().len();
    assert!(lines <= 51, "{lines} lines");
}
