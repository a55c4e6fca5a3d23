//! Heads of responses, against httparse.

use bytes::Bytes;
use pyserve::internals::upstream::reply_head::{BodyLength, HeadEnd, ReplyHead, read};

use super::cuts;

/// Fields that must not reach a client.
const FOR_THE_NEXT_HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// A head ends at the same byte however it arrives; and what is understood is understood
/// as httparse does.
pub fn run(input: &[u8]) {
    let end = end(input);
    assert_eq!(HeadEnd::default().find(input), end);
    let mut by_bytes = HeadEnd::default();
    let found = (0..=input.len()).find_map(|length| by_bytes.find(&input[..length]));
    assert_eq!(found, end, "byte by byte");
    for cut in cuts(input) {
        let mut in_two = HeadEnd::default();
        let found = in_two.find(&input[..cut]).or_else(|| in_two.find(input));
        assert_eq!(found, end, "cut at {cut}");
    }
    let head = Bytes::copy_from_slice(&input[..end.unwrap_or(input.len())]);
    for is_http in [true, false] {
        match read(&head, is_http) {
            Err(error) => assert!(error.to_string().len() < 1000, "fits into a log line"),
            // Whoever has not seen the end does not ask; it must not panic, that is all.
            Ok(_) if end.is_none() => {}
            Ok(reply) => check(&head, &reply, is_http),
        }
    }
}

/// The first empty line ends a head.
fn end(input: &[u8]) -> Option<usize> {
    let mut length = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        if line == b"\n" || line == b"\r\n" {
            return Some(length);
        }
    }
    None
}

/// The same head in a version that the oracle knows. A server of HTTP speaks HTTP/1, and one of
/// uwsgi any version.
fn in_http_1(head: &[u8], is_http: bool) -> Vec<u8> {
    let end = head.iter().position(|byte| *byte == b' ');
    let (version, rest) = head.split_at(end.expect("a space behind the version"));
    match version.strip_prefix(b"HTTP/").expect("a version") {
        b"1.0" | b"1.1" => return head.to_vec(),
        [major, b'.', minor] => {
            assert!(major.is_ascii_digit() && minor.is_ascii_digit());
            assert!(!is_http || *major == b'1');
        }
        [major] => assert!(!is_http && major.is_ascii_digit()),
        other => panic!("{other:?} is no version"),
    }
    [b"HTTP/1.1", rest].concat()
}

fn check(head: &[u8], reply: &ReplyHead, is_http: bool) {
    let mut places = vec![httparse::EMPTY_HEADER; 1000];
    let status_line = head.starts_with(b"HTTP/");
    assert!(status_line || !is_http);
    let as_http_1 = if status_line {
        in_http_1(head, is_http)
    } else {
        Vec::new()
    };
    let fields: &[httparse::Header<'_>] = if status_line {
        let head = &as_http_1[..];
        let mut response = httparse::Response::new(&mut places);
        let parsed = response.parse(head);
        assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
        assert_eq!(response.code, Some(reply.status.as_u16()));
        assert!(!reply.stays_open || is_http && response.version == Some(1));
        response.headers
    } else {
        assert!(!reply.stays_open);
        match httparse::parse_headers(head, &mut places) {
            Ok(httparse::Status::Complete((length, fields))) if length == head.len() => fields,
            other => panic!("{other:?}"),
        }
    };
    let values = |name: &str| -> Vec<&[u8]> {
        let named = fields
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    for name in reply.headers.keys() {
        let kept: Vec<&[u8]> = reply
            .headers
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes())
            .collect();
        let mut sent = values(name.as_str());
        if name == "content-length" {
            sent.dedup();
        }
        assert_eq!(kept, sent, "{name}");
    }
    check_length(
        reply,
        &values("transfer-encoding"),
        &values("content-length"),
    );
    let listed = values("connection").concat().to_ascii_lowercase();
    for field in fields.iter() {
        let name = field.name.to_ascii_lowercase();
        let may_be_gone = FOR_THE_NEXT_HOP.contains(&&*name)
            || name.starts_with("x-accel-")
            || name.starts_with("proxy-auth")
            || matches!(&*name, "te" | "trailer" | "status" | "content-length")
            || listed.windows(name.len()).any(|at| at == name.as_bytes());
        assert!(may_be_gone || reply.headers.contains_key(&*name), "{name}");
    }
    for name in FOR_THE_NEXT_HOP {
        assert!(!reply.headers.contains_key(name), "{name}");
    }
}

/// RFC 9112 §6.3.
fn check_length(reply: &ReplyHead, codings: &[&[u8]], lengths: &[&[u8]]) {
    match reply.length {
        BodyLength::Chunked => {
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"));
            assert!(!reply.headers.contains_key("content-length"));
        }
        BodyLength::Bytes(length) => {
            assert!(codings.is_empty() && !lengths.is_empty());
            for text in lengths {
                assert!(text.iter().all(u8::is_ascii_digit));
                assert_eq!(str::from_utf8(text).unwrap().parse(), Ok(length));
            }
            assert!(reply.headers.contains_key("content-length"));
        }
        BodyLength::UntilClosed => assert!(codings.is_empty() && lengths.is_empty()),
    }
}
