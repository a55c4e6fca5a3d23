//! The request head for an upstream HTTP server (RFC 9110 §7.6, RFC 9112 §3).
//!
//! Hop-by-hop headers are removed; the body gets its actual length, or chunked coding; and the
//! client is described by `X-Forwarded-*`, from which `front/protocol/forwarded.rs` has removed the
//! values of untrusted clients.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Version, request};

use crate::config::request_headers::{
    FORWARDED_FOR as FOR, FORWARDED_HOST as HOST_ASKED, FORWARDED_PORT as PORT,
    FORWARDED_PROTO as PROTO,
};
use crate::front::context::{RequestFacts, Stated, is_plain};
use crate::front::header_case::write_name;
use crate::front::upstream::reply_head::{listed, listed_in};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that are not forwarded, or that this file writes itself.
const NOT_PASSED: [HeaderName; 16] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    FOR,
    HOST_ASKED,
    PORT,
    PROTO,
    REQUEST_ID,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
];

/// The protocols to which the client asks to switch, if the request is valid: HTTP/1.1 with
/// `upgrade` listed in `Connection` (RFC 9110 §7.8). The method does not matter, nor does a body,
/// after which the new protocol begins. `h2c` is excluded: its requests would bypass all checks.
pub fn wanted_protocols(asked: &request::Parts) -> Option<HeaderValue> {
    // Most requests have no `Upgrade`.
    asked.headers.get(UPGRADE)?;
    let is_listed = listed(&asked.headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    if asked.version != Version::HTTP_11 || asked.method == Method::CONNECT || !is_listed {
        return None;
    }
    let mut wanted = Vec::new();
    for protocol in listed_in(&asked.headers, &UPGRADE) {
        if protocol.is_empty() || protocol.eq_ignore_ascii_case(b"h2c") {
            continue;
        }
        if !wanted.is_empty() {
            wanted.extend_from_slice(b", ");
        }
        wanted.extend_from_slice(protocol);
    }
    (!wanted.is_empty()).then_some(())?;
    HeaderValue::from_maybe_shared(Bytes::from(wanted)).ok()
}

/// Target and host as the server gets them.
pub struct RequestLine<'a> {
    /// The request target.
    pub target: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
}

/// Writes the head. `in_chunks`: the length of the body is unknown.
pub fn build(
    line: &RequestLine<'_>,
    asked: &request::Parts,
    facts: &RequestFacts<'_>,
    protocols: Option<&HeaderValue>,
    in_chunks: bool,
) -> Vec<u8> {
    let client = facts.client;
    let mut head = Vec::with_capacity(1024);
    for part in [asked.method.as_str(), " ", line.target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    push(&mut head, &HOST, line.host.as_bytes());
    let for_one_hop: Vec<&[u8]> = listed(&asked.headers).collect();
    for (name, value) in &asked.headers {
        let is_for_one_hop = for_one_hop
            .iter()
            .any(|listed| name.as_str().as_bytes().eq_ignore_ascii_case(listed));
        // An empty header would carry no information.
        let is_passed = !NOT_PASSED.contains(name) && is_plain(name) && !value.is_empty();
        if is_passed && !is_for_one_hop {
            write_name(name.as_str(), asked, &mut head);
            push_value(&mut head, value.as_bytes());
        }
    }
    push(&mut head, &REQUEST_ID, facts.request_id.as_bytes());
    let stated = asked.extensions.get::<Stated>();
    let is_stated = |of: fn(&Stated) -> bool| stated.is_some_and(of);
    match is_stated(|stated| stated.addresses) {
        true => push(&mut head, &FOR, value(asked, &FOR)),
        false => push(&mut head, &FOR, &forwarded_for(asked, facts)),
    }
    let scheme = match is_stated(|stated| stated.scheme) {
        true => value(asked, &PROTO),
        false => client.scheme.as_str().as_bytes(),
    };
    push(&mut head, &PROTO, scheme);
    let host = match is_stated(|stated| stated.host) {
        true => value(asked, &HOST_ASKED),
        false => client.host.as_bytes(),
    };
    push(&mut head, &HOST_ASKED, host);
    let mut number = itoa::Buffer::new();
    let port = match is_stated(|stated| stated.port) {
        true => value(asked, &PORT),
        false => number.format(client.server_port).as_bytes(),
    };
    push(&mut head, &PORT, port);
    // RFC 9110 §8.6: a GET without content has no `Content-Length`. WebSocket servers take one for
    // the announcement of a body, and wait for it or refuse it.
    let is_plain_upgrade = protocols.is_some() && asked.method == Method::GET;
    let length = facts.body_length;
    if let Some(length) = length.filter(|length| *length > 0 || !is_plain_upgrade) {
        push(&mut head, &CONTENT_LENGTH, number.format(length).as_bytes());
    }
    if in_chunks {
        push(&mut head, &TRANSFER_ENCODING, b"chunked");
    }
    if let Some(protocols) = protocols {
        push(&mut head, &CONNECTION, b"upgrade");
        push(&mut head, &UPGRADE, protocols.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The value of the first field of a name.
fn value<'a>(asked: &'a request::Parts, name: &HeaderName) -> &'a [u8] {
    asked.headers.get(name).map_or(b"", HeaderValue::as_bytes)
}

/// The addresses from trusted proxies, followed by the peer of the connection.
fn forwarded_for(asked: &request::Parts, facts: &RequestFacts<'_>) -> Vec<u8> {
    let mut list = Vec::new();
    let peer = facts.ends.peer_ip().map(|ip| ip.to_string());
    let said = asked.headers.get_all(FOR).iter().map(HeaderValue::as_bytes);
    for part in said.chain(peer.as_ref().map(String::as_bytes)) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(part);
    }
    list
}

/// An empty header carries no information, except `Host`, which is required.
fn push(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    if value.is_empty() && *name != HOST {
        return;
    }
    let mut starts_word = true;
    for byte in name.as_str().bytes() {
        head.push(match starts_word {
            true => byte.to_ascii_uppercase(),
            false => byte,
        });
        starts_word = byte == b'-';
    }
    push_value(head, value);
}

fn push_value(head: &mut Vec<u8>, value: &[u8]) {
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
