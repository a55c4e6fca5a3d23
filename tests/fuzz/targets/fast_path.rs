//! Requests that the fast path takes, against hyper, which would read them otherwise.
//!
//! The two must not differ about any byte: where one sees the end of a request, or a field,
//! that the other does not, somebody's request is taken for a part of another's.

use std::cell::RefCell;

use http::{HeaderMap, Method, Request, Response, Version, request};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pyserve::internals::Trust;
use pyserve::internals::protocol::forwarded::is_noticed;
use pyserve::internals::protocol::limits::{PARSER_LIMIT, check, valid_host};
use pyserve::internals::protocol::plain::{Plain, Recognised, read, target};
use tokio::runtime::Runtime;

/// What the lane has room for.
const ROOM: usize = 8 << 10;
/// A request that tells where hyper sees the end of the one before.
const NEXT: &[u8] = b"DELETE /next HTTP/1.1\r\nHost: next\r\n\r\n";

/// Whatever the lane takes, hyper understands in the same way, to the last byte.
pub fn run(input: &[u8]) {
    let input = &input[..input.len().min(ROOM)];
    for trusted in [true, false] {
        match heard(input, trusted) {
            Recognised::Plain(plain) => check_plain(input, &plain, trusted),
            Recognised::Incomplete => {
                let seen = seen_by_hyper(input);
                assert!(seen.is_empty(), "hyper does not wait: {seen:?}");
            }
            Recognised::NotEligible => {}
        }
    }
}

/// As the lane asks: first for the target, then for the rest.
fn heard(input: &[u8], trusted: bool) -> Recognised<Plain<'_>> {
    match target(input) {
        Recognised::Plain(target) => {
            let trust = Trust::default();
            let heard = read(input, trusted.then_some(&trust));
            if let Recognised::Plain(plain) = &heard {
                assert_eq!(plain.target, target);
            }
            heard
        }
        Recognised::Incomplete => Recognised::Incomplete,
        Recognised::NotEligible => Recognised::NotEligible,
    }
}

fn check_plain(input: &[u8], plain: &Plain<'_>, trusted: bool) {
    let length = plain.length;
    let unfinished = seen_by_hyper(&input[..length - 1]);
    assert!(unfinished.is_empty(), "one byte less: {unfinished:?}");
    let seen = seen_by_hyper(&[&input[..length], NEXT].concat());
    // The second is there only if the first ends where it should, without a body, and leaves
    // the connection open.
    let [(head, is_empty), (next, _)] = &seen[..] else {
        panic!("two requests: {seen:?}");
    };
    assert_eq!((&next.method, next.uri.path()), (&Method::DELETE, "/next"));
    assert!(is_empty);
    let method = if plain.is_head {
        Method::HEAD
    } else {
        Method::GET
    };
    assert_eq!((&head.method, head.version), (&method, Version::HTTP_11));
    let asked = head.uri.path_and_query().map(|target| target.as_str());
    assert_eq!(asked, Some(plain.target));
    assert!(head.uri.authority().is_none());
    check_fields(plain, &head.headers, trusted);
    // The lane takes those alone whose host is valid.
    let host = check(head).ok();
    assert_eq!(host.as_deref(), valid_host(plain.fields.host));
}

fn check_fields(plain: &Plain<'_>, headers: &HeaderMap, trusted: bool) {
    let fields = &plain.fields;
    let values = |name: &str| -> Vec<&[u8]> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.as_bytes()).collect()
    };
    for (name, once) in [
        ("host", Some(fields.host)),
        ("accept-encoding", fields.accept_encoding),
        ("if-none-match", fields.if_none_match),
        ("if-modified-since", fields.if_modified_since),
    ] {
        assert_eq!(values(name), Vec::from_iter(once), "{name}");
    }
    for (name, first) in [
        ("authorization", fields.authorization),
        ("referer", fields.referer),
        ("user-agent", fields.user_agent),
    ] {
        assert_eq!(values(name).first().copied(), first, "{name}");
    }
    for name in [
        "content-length",
        "transfer-encoding",
        "range",
        "expect",
        "upgrade",
        "trailer",
        "if-range",
        "if-match",
        "if-unmodified-since",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        if trusted && (is_noticed(name, &Trust::default()) || name == "x-request-id") {
            kept.append(name, value.clone());
        }
    }
    assert_eq!(fields.forwarded, kept);
}

/// The requests that hyper finds in these bytes, and whether each has no body.
fn seen_by_hyper(bytes: &[u8]) -> Vec<(request::Parts, bool)> {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        seen.borrow_mut().push((head, body.is_end_stream()));
        async { Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let socket = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    // As `front/connection.rs` has it.
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(PARSER_LIMIT);
    let connection = http.serve_connection(socket, service);
    let _how_it_ends = RUNTIME.with(|runtime| runtime.block_on(connection));
    seen.into_inner()
}
