//! The normal form of a request target.
//!
//! Browsers and other clients send bytes in a target that RFC 3986 does not allow there: `"`, `<`,
//! `>`, `` ` ``, `{`, `}`, `|`, `\`, `^` and bytes above 0x7f. nginx accepts them. They are
//! accepted here too, as if the client had percent-encoded them: locations, files, applications and
//! upstreams all see that one form. Control characters, spaces and DEL are refused.

use std::borrow::Cow;

/// The bytes of a target that stay as they are.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = true;
        byte += 1;
    }
    let encoded = b"\"<>`{}|\\^";
    let mut at = 0;
    while at < encoded.len() {
        table[encoded[at] as usize] = false;
        at += 1;
    }
    table
};

/// True for a target in its normal form.
pub fn is_normal(target: &[u8]) -> bool {
    target.iter().all(|byte| PLAIN[usize::from(*byte)])
}

/// Number of bytes that are percent-encoded in the normal form of a path.
pub fn unusual(path: &[u8]) -> usize {
    let is_unusual = |byte: &&u8| !PLAIN[usize::from(**byte)];
    path.iter().filter(is_unusual).count()
}

/// Percent-encodes the bytes that are not allowed in a target, and adds a missing path. An
/// authority before the path is left unchanged: it is a valid host or the request is refused.
pub fn normal(target: &[u8]) -> Cow<'_, [u8]> {
    let (authority, path) = target.split_at(path_start(target));
    // RFC 9112 §3.2.1: an empty path is `/`.
    let has_path = authority.is_empty() || !matches!(path.first(), Some(b'?' | b'#'));
    if has_path && is_normal(target) {
        return Cow::Borrowed(target);
    }
    let mut normal = Vec::with_capacity(target.len() + 16);
    normal.extend_from_slice(authority);
    if !has_path {
        normal.push(b'/');
    }
    encode(path, &mut normal);
    Cow::Owned(normal)
}

/// Any bytes as text without white space and controls, for logs.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    encode(bytes, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn encode(bytes: &[u8], to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match PLAIN[usize::from(byte)] {
            true => to.push(byte),
            false => to.extend([
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 0xF)],
            ]),
        }
    }
}

/// The index of the path, after the authority in absolute form (RFC 9112 §3.2.2).
pub(super) fn path_start(target: &[u8]) -> usize {
    if matches!(target.first(), Some(b'/' | b'*')) {
        return 0;
    }
    let Some(scheme) = target.windows(3).position(|part| part == b"://") else {
        return 0;
    };
    let authority = scheme + 3;
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    let length = target[authority..].iter().position(ends);
    length.map_or(target.len(), |length| authority + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_a_uri_cannot_have_are_encoded_and_others_stay() {
        for (target, expected) in [
            (&b"/a?b=c&d[]=%7B"[..], &b"/a?b=c&d[]=%7B"[..]),
            (b"/?q={\"a\":1}", b"/?q=%7B%22a%22:1%7D"),
            (b"/<>`|\\^", b"/%3C%3E%60%7C%5C%5E"),
            (b"/caf\xc3\xa9?\xe9", b"/caf%C3%A9?%E9"),
            (b"http://a.example/{", b"http://a.example/%7B"),
            (b"http://a.example?{", b"http://a.example/?%7B"),
            (b"http://a.example?a", b"http://a.example/?a"),
            (b"http://a.example", b"http://a.example"),
            (b"http://{/{", b"http://{/%7B"),
            (b"*", b"*"),
        ] {
            assert_eq!(&*normal(target), expected, "{target:?}");
        }
    }
}
