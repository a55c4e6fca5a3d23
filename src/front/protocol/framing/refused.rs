//! Refused heads of HTTP/1, and the requests that hyper gets in their place
//! ([`refused`](crate::front::protocol::refused)).

use crate::front::error::Rejection;
use crate::front::protocol::refused::{Refused, kept};

/// A refused head.
#[derive(Debug)]
pub struct RefusedHead {
    /// The request as it was sent.
    pub request: Refused,
    /// The head of a request without a body that is answered in its place.
    pub stand_in: Vec<u8>,
    /// Length of the refused head, as far as received.
    pub length: usize,
}

impl RefusedHead {
    /// Refuses the head at the beginning of `bytes`.
    pub fn new(rejection: Rejection, bytes: &[u8], length: usize) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (method, target) = method_and_target(line);
        let fields = lines
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                Some((&line[..colon], &line[colon + 1..]))
            });
        Self {
            request: Refused::new(rejection, method, target),
            stand_in: stand_in(method == b"HEAD", line.ends_with(b" HTTP/1.0"), fields),
            length,
        }
    }
}

/// A line without two parts has no method, and is all target.
fn method_and_target(line: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    match (parts.next(), parts.next()) {
        (Some(method), Some(behind)) => {
            let version = behind.windows(6).rposition(|part| part == b" HTTP/");
            (method, &behind[..version.unwrap_or(behind.len())])
        }
        _ => (b"", line),
    }
}

fn stand_in<'a>(
    is_head: bool,
    is_http_10: bool,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<u8> {
    let method = if is_head { "HEAD" } else { "GET" };
    let minor = u8::from(!is_http_10);
    let mut head = format!("{method} / HTTP/1.{minor}\r\n").into_bytes();
    for (name, value) in kept(fields) {
        for part in [name.as_bytes(), b": ", &value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
