//! Where a request ends, as `front/protocol/framing.rs` sees it, against hyper.
//!
//! A difference would let a part of one request be taken for another: where hyper sees the end
//! earlier, or waits for more.

use std::cell::RefCell;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pyserve::front::protocol::framing::head::{ParsedHead, read};
use pyserve::front::protocol::framing::{Framing, FramingPhase};
use pyserve::front::protocol::limits::PARSER_LIMIT;
use tokio::runtime::Runtime;

/// A request that tells where hyper sees the end of the one before.
const NEXT: &[u8] = b"DELETE /next HTTP/1.1\r\nHost: next\r\n\r\n";

/// A request is refused, or hyper ends it at the same byte, however it arrives.
pub fn run(input: &[u8]) {
    let Some((head, body)) = whole(input, usize::MAX) else {
        return;
    };
    for step in [1, 7] {
        let parts = whole(input, step);
        assert_eq!(parts.as_ref(), Some(&(head.clone(), body)), "by {step}");
    }
    let seen = seen_by_hyper(&[&head, body, NEXT].concat());
    let (_, is_complete) = seen.first().expect("hyper takes what is not refused");
    // Trailers that hyper cannot read break the body, and end the connection.
    if !is_complete {
        assert_eq!(seen.len(), 1, "{seen:?}");
    } else if let Some((method, _)) = seen.get(1) {
        assert_eq!(method, "DELETE", "{seen:?}");
    }
    if let Some(less) = body.len().checked_sub(1) {
        let seen = seen_by_hyper(&[&head, &body[..less]].concat());
        assert!(!seen[0].1, "one byte less is no body: {seen:?}");
    }
}

/// The head as hyper gets it, and the body, of a whole request.
fn whole(input: &[u8], step: usize) -> Option<(Vec<u8>, &[u8])> {
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
    is_whole.then(|| (whole.bytes.into_owned(), &behind[..length]))
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
    let connection = http.serve_connection(socket, service);
    let _how_it_ends = RUNTIME.with(|runtime| runtime.block_on(connection));
    seen.into_inner()
}
