//! Absolute targets with an authority that `http` cannot hold.
//!
//! RFC 3986 §3.2.2 allows percent-encoded names and `IPvFuture`; `http` refuses them in a target,
//! but not in a field. RFC 9112 §3.2.2: the authority of the target replaces the `Host` field. So
//! hyper gets the path, and the authority in that field.

use std::borrow::Cow;

use super::target;
use crate::front::protocol::limits::valid_host;

const NAME: &[u8] = b"host:";

/// Authority and path of an absolute `http` target.
pub fn split(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let (begin, path) = target.split_at(target::path_start(target));
    let scheme = begin.windows(3).position(|part| part == b"://")?;
    let (scheme, authority) = (&begin[..scheme], &begin[scheme + 3..]);
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let is_host = !authority.is_empty() && valid_host(authority).is_some();
    let path = if path.is_empty() { b"/" } else { path };
    (is_http && is_host).then_some((authority, path))
}

/// The bytes after a request line, with `host` in place of each valid `Host` field. An invalid one
/// stays, and the request is refused for it (RFC 9112 §3.2); so is one of HTTP/1.1 that has none.
pub fn with_host<'a>(behind: &'a [u8], host: &[u8], is_http10: bool) -> Cow<'a, [u8]> {
    let field = [b"Host: ", host, b"\r\n"].concat();
    let (mut fields, mut has_host, mut at) = (Vec::new(), false, 0);
    for line in behind.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            // The head is incomplete.
            return Cow::Borrowed(behind);
        }
        if line.trim_ascii().is_empty() {
            break;
        }
        at += line.len();
        let is_host = line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME);
        has_host |= is_host;
        match is_host && valid_host(line[NAME.len()..].trim_ascii()).is_some() {
            true => {
                fields.extend_from_slice(&line[..NAME.len()]);
                fields.extend_from_slice(&field[NAME.len()..]);
            }
            false => fields.extend_from_slice(line),
        }
    }
    if is_http10 && !has_host {
        fields.extend_from_slice(&field);
    }
    fields.extend_from_slice(&behind[at..]);
    Cow::Owned(fields)
}
