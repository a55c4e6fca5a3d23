//! The framing decisions compared with hyper's.

use std::cell::RefCell;

use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::head::ParsedHead;
use super::*;
use crate::front::protocol::limits::PARSER_LIMIT;

#[path = "../../../../tests/fuzz/targets/lenient_chunks.rs"]
mod lenient_chunks;

/// A request as hyper sees it: method, target, version, and the body if it is complete.
type Seen = (String, String, Version, Option<Vec<u8>>);

/// The requests that hyper finds in these bytes.
fn seen_by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await.ok();
        let body = body.map(|body| body.to_bytes().to_vec());
        let (method, target) = (head.method.to_string(), head.uri.to_string());
        seen.borrow_mut().push((method, target, head.version, body));
        Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let socket = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(PARSER_LIMIT);
    // The bytes end with a FIN, which would end the connection too early.
    http.half_close(true);
    let connection = http.serve_connection(socket, service);
    let _how_it_ends = runtime.block_on(connection);
    seen.into_inner()
}

/// The end of a request that begins with `bytes`.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Incomplete,
    Refused,
    /// The head as hyper gets it, its length and that of the whole request.
    Whole(Vec<u8>, usize, usize),
    Broken,
}

/// Reads one request that arrives `step` bytes at a time.
fn ending(bytes: &[u8], step: usize) -> Ending {
    let mut framing = Framing::default();
    let mut heads = (0..=bytes.len()).filter(|length| *length == bytes.len() || length % step == 0);
    let (head, length) = loop {
        let Some(upto) = heads.next() else {
            return Ending::Incomplete;
        };
        match head::read(&bytes[..upto], false) {
            ParsedHead::Incomplete => {}
            ParsedHead::Refused(..) => return Ending::Refused,
            ParsedHead::Whole(whole) => {
                framing.begin(whole.body, whole.is_last);
                break (whole.bytes.into_owned(), whole.length);
            }
        }
    };
    let mut end = length;
    for part in bytes[length..].chunks(step) {
        if !matches!(framing.phase(), FramingPhase::Body(_)) {
            break;
        }
        end += framing.take(part, u64::MAX).unwrap();
    }
    match framing.phase() {
        FramingPhase::Whole(_) => Ending::Whole(head, length, end),
        FramingPhase::Broken => Ending::Broken,
        _ => Ending::Incomplete,
    }
}

const NEXT: &[u8] = b"DELETE /next HTTP/1.1\r\nHost: h\r\n\r\n";

/// A request ends here where hyper ends it, and where readers end it that accept a bare LF or a
/// bare CR as a line end, regardless of how its bytes arrive.
fn check(bytes: &[u8]) -> Ending {
    let whole = ending(bytes, usize::MAX);
    for step in [1, 2, 3, 5, 11] {
        let parts = ending(bytes, step);
        // Garbage may be refused before its head ends.
        if whole != parts {
            panic!(
                "{whole:?}, {parts:?} with {step} bytes at a time of {:?}",
                bytes.escape_ascii()
            );
        }
    }
    if let Ending::Whole(head, length, end) = &whole {
        let (body, shown) = (&bytes[*length..*end], bytes.escape_ascii());
        let followed = [body, NEXT].concat();
        let seen = seen_by_hyper(&[head, &followed[..]].concat());
        let (.., complete) = seen
            .first()
            .unwrap_or_else(|| panic!("hyper refuses {shown}"));
        assert!(complete.is_some(), "hyper finds no end: {shown}");
        if let Some((method, target, ..)) = seen.get(1) {
            assert_eq!((&**method, &**target), ("DELETE", "/next"), "{shown}");
        }
        let ParsedHead::Whole(parsed) = head::read(bytes, false) else {
            panic!("a whole request has a whole head: {shown}");
        };
        if matches!(parsed.body, BodyRemainder::Chunks(_)) {
            for bare in [b'\n', b'\r'] {
                let lenient = lenient_chunks::read(&followed, bare);
                let expected = complete.clone().map(|content| (content, body.len()));
                assert_eq!(lenient, expected, "{:?} alone: {shown}", char::from(bare));
            }
        }
        if let Some(less) = body.len().checked_sub(1) {
            let seen = seen_by_hyper(&[head, &body[..less]].concat());
            assert_eq!(seen[0].3, None, "hyper waits for less: {shown}");
        }
    }
    whole
}

fn request(line: &str, rest: &str) -> Vec<u8> {
    let bytes = format!("{line}\r\nHost: h\r\n{rest}");
    bytes.chars().map(|byte| u32::from(byte) as u8).collect()
}

#[test]
fn bodies_end_where_their_framing_says() {
    for (fields, body, is_whole) in [
        ("", "", true),
        ("Content-Length: 0\r\n", "", true),
        ("Content-Length: 3\r\n", "abc", true),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc", true),
        ("Content-Length: 4\r\n", "abc", false),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", true),
        (
            "Transfer-Encoding: ChunkeD\r\n",
            "3\r\nabc\r\n00\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "3 \t;x=\"y\"\r\nabc\r\n0;z\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "1\r\na\r\n0\r\nX: y\r\n\r\n",
            true,
        ),
        ("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n", false),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
            true,
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            true,
        ),
    ] {
        let bytes = request("POST / HTTP/1.1", &format!("{fields}\r\n{body}"));
        match check(&bytes) {
            Ending::Whole(_, _, end) => assert!(is_whole && end == bytes.len(), "{fields}{body}"),
            Ending::Incomplete => assert!(!is_whole, "{fields}{body}"),
            other => panic!("{other:?} for {fields}{body}"),
        }
        // Bytes after a request do not belong to it.
        if is_whole {
            let behind = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            let ending = check(&behind);
            assert!(matches!(ending, Ending::Whole(_, _, end) if end == bytes.len()));
        }
    }
}

#[test]
fn chunks_whose_lines_do_not_end_with_crlf_are_malformed() {
    let long = |count| "0".repeat(count);
    for body in [
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1;x\na\r\n0\r\n\r\n",
        "1;\0\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "\t1\r\na\r\n0\r\n\r\n",
        "\r\n1\r\na\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\n\n",
        "0\r\n\r\r\n",
        "0\r\nX: y\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\n\n",
        "0\r\nX: y\nZ: z\r\n\r\n",
        "0\r\nX: y\rZ: z\r\n\r\n",
        "0\r\nX: y\0\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX: y\r\n folded\r\n\r\n",
        &format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)),
        &format!("0\r\nX: {}\r\n\r\n", "y".repeat(16 << 10)),
        &format!("{}\r\n\r\n", long(1025)),
        &format!("0{}\r\n\r\n", " ".repeat(1024)),
    ] {
        let fields = "Transfer-Encoding: chunked\r\n\r\n";
        let bytes = request("POST / HTTP/1.1", &format!("{fields}{body}"));
        let followed = [&bytes, NEXT].concat();
        assert_eq!(check(&followed), Ending::Broken, "{body:?}");
    }
    for body in [
        &format!("0\r\n{}\r\n", "X: y\r\n".repeat(100)),
        &format!("{}1\r\na\r\n{0}0\r\n\r\n", long(1000)),
        "0\r\nX:\r\nY:\t\u{e9} z\r\n\r\n",
    ] {
        let fields = "Transfer-Encoding: chunked\r\n\r\n";
        let bytes = request("POST / HTTP/1.1", &format!("{fields}{body}"));
        let ending = check(&[&bytes, NEXT].concat());
        assert!(matches!(ending, Ending::Whole(.., end) if end == bytes.len()));
    }
}

/// A head without a single LF was waited for until its timeout.
#[test]
fn a_request_line_that_ends_with_a_bare_cr_is_refused_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\rHost: h\r\r"[..],
        b"GET / HTTP/1.1\r\r",
        b"GET /\r",
    ] {
        let expected = match bytes {
            b"GET /\r" => Ending::Incomplete,
            _ => Ending::Refused,
        };
        assert_eq!(check(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn only_a_length_beside_chunks_makes_a_request_the_last() {
    for (fields, expected) in [
        ("", false),
        ("Content-Length: 3\r\n", false),
        ("Transfer-Encoding: chunked\r\n", false),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", true),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", true),
    ] {
        let bytes = request("POST / HTTP/1.1", &format!("{fields}\r\n"));
        let ParsedHead::Whole(whole) = head::read(&bytes, false) else {
            panic!("{fields}");
        };
        assert_eq!(whole.is_last, expected, "{fields}");
    }
}

#[test]
fn a_chunk_that_is_longer_than_the_body_may_be_is_refused_by_its_size() {
    let mut framing = Framing::default();
    framing.begin(BodyRemainder::Chunks(Chunks::default()), false);
    assert_eq!(framing.take(b"5\r\nabcde\r\n", 10), Ok(10));
    assert_eq!(framing.take(b"5\r\nabcde\r\n", 10), Ok(10));
    assert_eq!(framing.take(b"1\r", 10), Ok(2));
    assert_eq!(framing.take(b"\n", 10), Err(TooLong(10)));
}

#[test]
fn a_request_line_gets_its_normal_form() {
    for (line, expected) in [
        ("GET / HTTP/1.1", "GET / HTTP/1.1"),
        ("GET / HTTP/1.0", "GET / HTTP/1.0"),
        ("GET / HTTP/1.2", "GET / HTTP/1.1"),
        ("GET / HTTP/1.9", "GET / HTTP/1.1"),
        (
            "GET /?q={\"a\":1} HTTP/1.1",
            "GET /?q=%7B%22a%22:1%7D HTTP/1.1",
        ),
        ("GET /caf\u{e9} HTTP/1.0", "GET /caf%E9 HTTP/1.0"),
        ("GET http://h/^ HTTP/1.1", "GET http://h/%5E HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
    ] {
        let bytes = request(line, "\r\n");
        let Ending::Whole(head, length, end) = check(&bytes) else {
            panic!("{line}");
        };
        assert_eq!((length, end), (bytes.len(), bytes.len()));
        assert_eq!(head, request(expected, "\r\n"), "{line}");
    }
}

#[test]
fn malformed_heads_are_refused() {
    for line in [
        "",
        "GET",
        "GET /",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTP/0.9",
        "GET / HTTP/2.0",
        "GET / HTTP/1.1 ",
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http://{/ HTTP/1.1",
        "GET http://h\u{e9}/ HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        if line.is_empty() {
            continue;
        }
        assert_eq!(check(&request(line, "\r\n")), Ending::Refused, "{line:?}");
    }
    for field in [
        "A B: c",
        "A : b",
        ": b",
        "no colon",
        " A: b",
        "A: b\0",
        "A: b\rc",
        "Content-Length: x",
        "Content-Length:",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 18446744073709551615",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let bytes = request("POST / HTTP/1.1", &format!("{field}\r\n\r\n"));
        assert_eq!(check(&bytes), Ending::Refused, "{field:?}");
    }
    let bytes = request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(check(&bytes), Ending::Refused);
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        9 => Just("\r\n"),
        1 => prop::sample::select(vec!["\n", "\r", "\n\n", "\r\r\n", "\n\r", "\r\n\n"]),
    ]
}

proptest! {
    /// For any bytes in a target: it is refused, or hyper and the `http` crate accept it.
    #[test]
    fn a_target_is_refused_or_taken_by_hyper(
        start in "(/|http://h|\\*|)",
        rest in proptest::collection::vec(1u8.., 0..12),
    ) {
        let bytes = [b"GET ", start.as_bytes(), &rest, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        check(&bytes);
    }

    #[test]
    fn a_body_ends_where_hyper_ends_it(
        fields in "(Content-Length: [0-9]{0,2}\r\n|Transfer-Encoding: (chunked|gzip)(, chunked)?\r\n){0,2}",
        body in "([0-3a]{1,2}[ ;\t]{0,2}x?\r?\n[a0]{0,3}\r?\n|0\r\n(A: b\r\n)?\r\n|[ -~]{0,3}){0,4}",
    ) {
        check(&request("PUT / HTTP/1.1", &format!("{fields}\r\n{body}")));
    }

    /// A valid body in which some line ends are replaced or doubled, and a request after it.
    #[test]
    fn chunks_end_where_every_reader_ends_them_or_are_malformed(
        chunks in prop::collection::vec("0{0,2}1 ?(;x)?", 0..3),
        trailers in prop::collection::vec("[A-B]: [b\t]?", 0..3),
        ends in prop::collection::vec(line_end(), 10),
    ) {
        let mut ends = ends.into_iter();
        let mut is_sound = true;
        let mut end = || {
            let end = ends.next().expect("an end for each line");
            is_sound &= end == "\r\n";
            end
        };
        let mut body = String::new();
        for size in chunks {
            body += &format!("{size}{}a{}", end(), end());
        }
        body += &format!("0{}", end());
        for trailer in trailers {
            body += &format!("{trailer}{}", end());
        }
        body += end();
        let fields = "Transfer-Encoding: chunked\r\n\r\n";
        let bytes = request("PUT / HTTP/1.1", &format!("{fields}{body}"));
        check(&bytes);
        let ending = check(&[&bytes, NEXT].concat());
        if is_sound {
            prop_assert!(matches!(ending, Ending::Whole(.., end) if end == bytes.len()));
        }
    }

    #[test]
    fn any_bytes_have_one_end(bytes in "(GET /|PUT |)[a-zA-Z/:.% \r\n\u{0}-\u{ff}]{0,60}") {
        let bytes: Vec<u8> = bytes.chars().map(|byte| u32::from(byte) as u8).collect();
        let bytes = bytes.trim_ascii_start();
        let _ending = ending(bytes, 1);
        if let Ending::Whole(..) = ending(bytes, usize::MAX) {
            check(bytes);
        }
    }
}
