//! Where a request ends, as `front/protocol/framing.rs` sees it, against hyper.
//!
//! A difference would let a part of one request be taken for another: where hyper sees the end
//! earlier, or waits for more. The same goes for a server in front that takes a bare LF or a bare
//! CR for a line end (RFC 9112 §11.2), so the end is compared with that of such readers as well.

use std::cell::RefCell;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pyserve::internals::protocol::framing::head::{ParsedHead, read};
use pyserve::internals::protocol::framing::{BodyRemainder, Framing, FramingPhase};
use pyserve::internals::protocol::limits::PARSER_LIMIT;
use tokio::runtime::Runtime;

use super::lenient_chunks;

/// A request that tells where hyper sees the end of the one before.
const NEXT: &[u8] = b"DELETE /next HTTP/1.1\r\nHost: next\r\n\r\n";

/// A request is refused, or every reader ends it at the same byte, however it arrives. The
/// chunks of a request are tried with each line end that could be taken for another as well.
pub fn run(input: &[u8]) {
    check(input);
    if let ParsedHead::Whole(head) = read(input, true)
        && !matches!(head.body, BodyRemainder::Length(_))
    {
        let chunks = &input[head.length..];
        let ends = (0..chunks.len()).filter(|at| chunks[*at..].starts_with(b"\r\n"));
        for at in ends.take(MOST_ENDS) {
            for other in [&b"\n"[..], b"\r", b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n"] {
                let at = head.length + at;
                let changed = [&input[..at], other, &input[at + 2..]].concat();
                check(&changed);
                check(&[&changed, NEXT].concat());
            }
        }
    }
}

fn check(input: &[u8]) {
    let Some(request) = whole(input, usize::MAX) else {
        return;
    };
    for step in [1, 7] {
        assert_eq!(whole(input, step).as_ref(), Some(&request), "by {step}");
    }
    let (head, body, is_chunked) = request;
    let seen = seen_by_hyper(&[&head, body, NEXT].concat());
    let (_, is_complete) = seen.first().expect("hyper takes what is not refused");
    assert!(is_complete, "hyper finds the end of the body: {seen:?}");
    let next = seen.get(1).map(|(method, _)| &**method);
    let may_end = [&b"connection"[..], b"upgrade", b"CONNECT", b" HTTP/1.0"];
    // RFC 9112 §6.1: with both lengths, the connection ends behind the request.
    let is_last = is_chunked && contains(&head, b"content-length");
    match is_last || may_end.iter().any(|word| contains(&head, word)) {
        true => assert!(next.is_none_or(|method| method == "DELETE"), "{seen:?}"),
        false => assert_eq!(next, Some("DELETE"), "{seen:?}"),
    }
    if is_chunked {
        for bare in [b'\n', b'\r'] {
            let lenient = lenient_chunks::read(&[body, NEXT].concat(), bare);
            let end = lenient.map(|(_, end)| end);
            assert_eq!(end, Some(body.len()), "line ends with {bare:?} alone");
        }
    }
    if let Some(less) = body.len().checked_sub(1) {
        let seen = seen_by_hyper(&[&head, &body[..less]].concat());
        assert!(!seen[0].1, "one byte less is no body: {seen:?}");
    }
}

/// Line ends of a body that are changed.
const MOST_ENDS: usize = 8;

fn contains(head: &[u8], word: &[u8]) -> bool {
    let mut parts = head.windows(word.len());
    parts.any(|part| part.eq_ignore_ascii_case(word))
}

/// The head as hyper gets it, the body, and if it is chunked, of a whole request.
fn whole(input: &[u8], step: usize) -> Option<(Vec<u8>, &[u8], bool)> {
    let ParsedHead::Whole(whole) = read(input, true) else {
        return None;
    };
    let mut framing = Framing::default();
    framing.begin(whole.body, whole.is_last);
    let behind = &input[whole.length..];
    let mut length = 0;
    for part in behind.chunks(step) {
        if matches!(framing.phase(), FramingPhase::Body(_)) {
            length += framing.take(part, u64::MAX).expect("no limit");
        }
    }
    let is_whole = matches!(framing.phase(), FramingPhase::Whole(_));
    let is_chunked = matches!(whole.body, BodyRemainder::Chunks(_));
    is_whole.then(|| (whole.bytes.into_owned(), &behind[..length], is_chunked))
}

/// The methods of the requests that hyper finds, and whether each has a complete body.
fn seen_by_hyper(bytes: &[u8]) -> Vec<(String, bool)> {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    let seen = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let is_complete = body.collect().await.is_ok();
        seen.borrow_mut()
            .push((head.method.to_string(), is_complete));
        Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let socket = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    // As `front/connection.rs` has it.
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(PARSER_LIMIT);
    // All bytes are here at once, with their end, which would end the connection too early.
    http.half_close(true);
    let connection = http.serve_connection(socket, service);
    let _how_it_ends = RUNTIME.with(|runtime| runtime.block_on(connection));
    seen.into_inner()
}
