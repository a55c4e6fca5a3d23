//! Reads the requests that can be answered from memory: the plainest GET and HEAD.
//!
//! Pure: bytes in, values out, nothing copied. A request with anything that could change its end,
//! the future of the connection, or the selection of the response in a way unknown here, is
//! [`Recognised::NotEligible`]: hyper reads it, from its first byte. hyper parses heads with
//! `httparse` too, so both see the same end of a request.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded;
use crate::config::Trust;
use crate::front::context::X_REQUEST_ID;

/// A request without a body, over HTTP/1.1, that leaves the connection open.
#[derive(Debug)]
pub struct Plain<'a> {
    /// True for HEAD, false for GET.
    pub is_head: bool,
    /// Its path and query as they were sent.
    pub target: &'a str,
    /// Length of its head, which is the whole request.
    pub length: usize,
    /// Its relevant header fields.
    pub fields: Fields<'a>,
}

/// The header fields that matter for a file or its log line.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    /// `Host`.
    pub host: &'a [u8],
    /// `Accept-Encoding`.
    pub accept_encoding: Option<&'a [u8]>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
    /// `Authorization`, the first one.
    pub authorization: Option<&'a [u8]>,
    /// `Referer`, the first one.
    pub referer: Option<&'a [u8]>,
    /// `User-Agent`, the first one.
    pub user_agent: Option<&'a [u8]>,
    /// Forwarding headers of a trusted peer; empty from others.
    pub forwarded: HeaderMap,
}

/// The result of looking at bytes.
#[derive(Debug)]
pub enum Recognised<T> {
    /// A plain request.
    Plain(T),
    /// The beginning of a possibly plain request.
    Incomplete,
    /// Anything else.
    NotEligible,
}

/// Longest target accepted here.
const MOST_TARGET: usize = 1024;
/// Most header fields; browsers send about 15.
const MOST_FIELDS: usize = 32;

/// The target, if the bytes begin like a plain request.
pub fn target(bytes: &[u8]) -> Recognised<&str> {
    let rest = match bytes {
        [b'G', b'E', b'T', b' ', rest @ ..] | [b'H', b'E', b'A', b'D', b' ', rest @ ..] => rest,
        _ if b"GET ".starts_with(bytes) || b"HEAD ".starts_with(bytes) => {
            return Recognised::Incomplete;
        }
        _ => return Recognised::NotEligible,
    };
    let target = rest.iter().position(|byte| !IN_TARGET[usize::from(*byte)]);
    match target {
        None if rest.len() <= MOST_TARGET => Recognised::Incomplete,
        Some(end) if rest[end] == b' ' && rest[0] == b'/' && end <= MOST_TARGET => {
            str::from_utf8(&rest[..end]).map_or(Recognised::NotEligible, Recognised::Plain)
        }
        _ => Recognised::NotEligible,
    }
}

/// Bytes with a literal meaning in a path or query (RFC 3986 §3.3, §3.4), and the percent sign.
/// Bytes that browsers and servers interpret differently are not among them.
const IN_TARGET: [bool; 256] = {
    let others = b"-._~!$&'()*+,;=:@/?%";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Reads a head whose target was found by [`target`]. `trusted`: the settings by which the peer's
/// forwarding headers are kept; `None` for a peer that is not trusted.
pub fn read<'a>(bytes: &'a [u8], trusted: Option<&Trust>) -> Recognised<Plain<'a>> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Recognised::Incomplete,
        Err(_) => return Recognised::NotEligible,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
    else {
        return Recognised::NotEligible;
    };
    let mut fields = Fields::default();
    let mut hosts = 0;
    for header in &*request.headers {
        if header.name.len() == 4 && header.name.eq_ignore_ascii_case("host") {
            hosts += 1;
            fields.host = header.value;
        } else if fields.take(header.name, header.value, trusted).is_none() {
            return Recognised::NotEligible;
        }
    }
    // RFC 9112 §3.2: exactly one.
    if hosts != 1 {
        return Recognised::NotEligible;
    }
    Recognised::Plain(Plain {
        is_head: method == "HEAD",
        target,
        length,
        fields,
    })
}

impl<'a> Fields<'a> {
    /// Records a field. `None`: with it, the request is not plain.
    fn take(&mut self, name: &'a str, value: &'a [u8], trusted: Option<&Trust>) -> Option<()> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // Names are compared by their length first: most match none of these.
        match name.len() {
            10 if is("connection") && !value.eq_ignore_ascii_case(b"keep-alive") => None,
            14 if is("content-length") => None,
            17 if is("transfer-encoding") => None,
            5 if is("range") => None,
            6 if is("expect") => None,
            7 if is("upgrade") => None,
            7 if is("trailer") => None,
            8 if is("if-range") || is("if-match") => None,
            12 if is("content-type") => None,
            19 if is("if-unmodified-since") => None,
            13 if is("if-none-match") => once(&mut self.if_none_match, value),
            17 if is("if-modified-since") => once(&mut self.if_modified_since, value),
            15 if is("accept-encoding") => once(&mut self.accept_encoding, value),
            13 if is("authorization") => first(&mut self.authorization, value),
            7 if is("referer") => first(&mut self.referer, value),
            10 if is("user-agent") => first(&mut self.user_agent, value),
            _ => match trusted {
                Some(trust) => self.keep_forwarded(name, value, trust),
                None => Some(()),
            },
        }
    }

    /// Keeps a field that [`forwarded`] or the request's id needs.
    fn keep_forwarded(&mut self, name: &str, value: &[u8], trust: &Trust) -> Option<()> {
        let own = trust.client_field();
        let is_own = own.is_some_and(|own| own.as_str().eq_ignore_ascii_case(name));
        if !is_own && !name.starts_with(['f', 'F', 'p', 'P', 'x', 'X']) {
            return Some(());
        }
        let name = HeaderName::try_from(name).ok()?;
        if forwarded::is_noticed(&name, trust) || name == X_REQUEST_ID {
            self.forwarded
                .append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(())
    }
}

/// A field that may occur only once.
fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A field whose first occurrence counts.
fn first<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) -> Option<()> {
    place.get_or_insert(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(bytes: &[u8]) -> Recognised<usize> {
        match target(bytes) {
            Recognised::Plain(_) => match read(bytes, Some(&Trust::default())) {
                Recognised::Plain(plain) => Recognised::Plain(plain.length),
                Recognised::Incomplete => Recognised::Incomplete,
                Recognised::NotEligible => Recognised::NotEligible,
            },
            Recognised::Incomplete => Recognised::Incomplete,
            Recognised::NotEligible => Recognised::NotEligible,
        }
    }

    #[test]
    fn a_plain_request_is_incomplete_until_its_last_byte() {
        let text =
            b"HEAD /a%20b?c HTTP/1.1\r\nhost: a\r\nIf-None-Match: \"x\"\r\nX-Real-IP: ::1\r\n\r\n";
        for length in 0..text.len() {
            let heard = heard(&text[..length]);
            assert!(
                matches!(heard, Recognised::Incomplete),
                "{length}: {heard:?}"
            );
        }
        let behind = [&text[..], b"GET / HT"].concat();
        assert!(matches!(heard(&behind), Recognised::Plain(length) if length == text.len()));
    }

    #[test]
    fn fields_are_found_and_what_a_trusted_peer_tells_is_kept() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nUSER-AGENT:  b \r\nUser-Agent: c\r\nX-Request-Id: d\r\n\r\n";
        let mut of_cdn = Trust::default();
        of_cdn.read_client_from(http::HeaderName::from_static("user-agent-ip"));
        let text = [&text[..text.len() - 2], b"User-Agent-IP: 1.2.3.4\r\n\r\n"].concat();
        let text = &*text;
        let by_default = Trust::default();
        for (trusted, count) in [(Some(&of_cdn), 2), (Some(&by_default), 1), (None, 0)] {
            let Recognised::Plain(plain) = read(text, trusted) else {
                panic!("it is plain");
            };
            assert_eq!((plain.fields.host, plain.target), (&b"a"[..], "/"));
            assert_eq!(plain.fields.user_agent, Some(&b"b"[..]));
            assert_eq!(plain.fields.forwarded.len(), count);
        }
    }

    #[test]
    fn what_could_end_elsewhere_or_mean_something_else_is_not_plain() {
        for lines in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nContent-Length: 0\r\n",
            "Host: a\r\ntransfer-encoding: chunked\r\n",
            "Host: a\r\nConnection: close\r\n",
            "Host: a\r\nConnection: keep-alive, upgrade\r\n",
            "Host: a\r\nUpgrade: h2c\r\n",
            "Host: a\r\nExpect: 100-continue\r\n",
            "Host: a\r\nIf-Modified-Since: x\r\nIf-Modified-Since: x\r\n",
            "Host: a\r\nRange: bytes=0-0\r\n",
            "Host : a\r\n",
            "Host: a\r\n b\r\n",
            &"A: b\r\n".repeat(MOST_FIELDS + 1),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
            assert!(
                matches!(heard(text.as_bytes()), Recognised::NotEligible),
                "{lines:?}"
            );
        }
        for line in [
            "GET / HTTP/1.0",
            "GET /# HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET  / HTTP/1.1",
            "POST / HTTP/1.1",
            "get / HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            let text = format!("{line}\r\nHost: a\r\n\r\n");
            assert!(
                matches!(heard(text.as_bytes()), Recognised::NotEligible),
                "{line:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in "(GET /|HEAD|)[a-zA-Z/:.% \r\n\u{0}-\u{ff}]{0,80}") {
            heard(bytes.as_bytes());
        }
    }
}
