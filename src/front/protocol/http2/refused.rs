//! Malformed requests of HTTP/2 (RFC 9113 §8.1.1), and the requests that hyper gets in their place
//! ([`refused`](crate::front::protocol::refused)).
//!
//! hyper gets a substitute on the same stream, so that streams, windows, limits, logs and metrics
//! are handled as usual. That request is `GET *`, which no client can send: it is malformed itself.
//! It carries the id of its stream, under which the malformed one waits. Even if the id is unknown,
//! the response is 400.

use super::hpack::{Fields, write_literal};
use crate::front::error::Rejection;
use crate::front::protocol::limits::MAX_HEAD;
use crate::front::protocol::refused::{FIELD, Refused, kept, name_shown};

/// A request with these fields.
pub fn request(fields: &Fields, rejection: Rejection) -> Refused {
    let first = |wanted: &[u8]| {
        let found = fields.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value).unwrap_or_default()
    };
    Refused::new(rejection, first(b":method"), first(b":path"))
}

/// The reason to refuse a request whose head is too large.
pub fn too_large(fields: &Fields) -> Rejection {
    let (name, length) = fields.biggest();
    Rejection::HeadTooLarge {
        total: fields.size,
        limit: MAX_HEAD,
        biggest: name_shown(name),
        length,
    }
}

/// Appends the block of the substitute for a request with these fields on `stream`.
pub fn write_stand_in(stream: u32, fields: &Fields, block: &mut Vec<u8>) {
    let number = stream.to_string();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "*"),
        (FIELD, &number),
    ] {
        write_literal(block, name.as_bytes(), value.as_bytes());
    }
    for (name, value) in kept(fields.iter()) {
        write_literal(block, name.as_bytes(), &value);
    }
}
