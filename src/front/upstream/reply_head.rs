//! Parses the response head of a uwsgi or HTTP server: bytes in, status and fields out.
//!
//! It is an HTTP/1 head or, as CGI programs write it, fields alone with the status among them
//! (nginx accepts both). Lines end with CRLF or LF. Anything else is refused: a head that two
//! parsers could read differently must not be passed on.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::front::header_case::is_title_case;

/// Longest head in bytes. nginx takes 4 or 8 KiB, and large cookies are the usual reason for its
/// "upstream sent too big header"; twice the limit for client heads.
pub const LONGEST: usize = 128 << 10;

/// Most fields of a head; real ones have dozens.
const MOST_FIELDS: usize = 1000;

/// Hop-by-hop headers, and CGI's instructions to the server. Fields listed in `Connection` are
/// removed too. `X-Accel-*` is handled by `front/request/accel.rs`.
const NOT_FOR_CLIENTS: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A parsed response head.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, if it differs from the standard one for the status.
    pub reason: Option<Bytes>,
    /// The fields for the client, in order.
    pub headers: HeaderMap,
    /// Field names that are not in title case, as written by the server.
    pub header_case: Vec<Bytes>,
    /// Framing of the body.
    pub length: BodyLength,
    /// True if the connection may be used for another request afterwards (RFC 9112 §9.3).
    pub stays_open: bool,
    /// The protocol that a `101` switches to.
    pub upgrade: Option<HeaderValue>,
}

/// Framing of a body, if the request and the status allow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// This number of bytes.
    Bytes(u64),
    /// Chunked coding.
    Chunked,
    /// The body ends with the connection.
    UntilClosed,
}

/// The fault of a malformed head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// A line that is neither a status line nor a field.
    #[error("{0:?} is neither a status line nor a header field")]
    Line(String),
    /// A field value that cannot be forwarded.
    #[error("the value of the header field {0} cannot be forwarded")]
    Value(String),
    /// The status is not a number from 100 to 999.
    #[error("{0:?} is not a status code")]
    Status(String),
    /// Too many fields.
    #[error("too many header fields")]
    TooMany,
    /// Lengths that differ or are not numbers.
    #[error("its Content-Length is {0:?}")]
    Length(String),
    /// An unsupported transfer coding.
    #[error("its Transfer-Encoding is {0:?}")]
    Coding(String),
}

/// Finds the end of a head that arrives in pieces; reads each byte once.
#[derive(Debug, Default)]
pub struct HeadEnd {
    seen: usize,
    line: usize,
}

impl HeadEnd {
    /// Length of the head with its empty line, once that is in `bytes`, which must begin with the
    /// bytes of the previous call.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes
            .get(self.seen..)?
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let end = self.seen + at;
            let line = &bytes[self.line..end];
            (self.seen, self.line) = (end + 1, end + 1);
            if matches!(line, b"" | b"\r") {
                return Some(end + 1);
            }
        }
        self.seen = bytes.len();
        None
    }
}

/// Parses a head that [`HeadEnd`] has found. In HTTP it begins with a status line (RFC 9112 §4);
/// unless `is_http` it may be a CGI program's.
///
/// # Errors
/// [`BadHead`] if it is malformed, or the framing of its body is ambiguous.
pub fn read(head: &Bytes, is_http: bool) -> Result<ReplyHead, BadHead> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .peekable();
    let first = lines.peek().copied().unwrap_or_default();
    let status_line = match first.starts_with(b"HTTP/") {
        true => {
            lines.next();
            Some(status_line(first, is_http)?)
        }
        // An empty head is invalid; a CGI program sends at least `Content-Type`.
        false if is_http || first.is_empty() => return Err(BadHead::Line(shown(first))),
        false => None,
    };
    let mut headers = HeaderMap::with_capacity(8);
    let mut header_case = Vec::new();
    for (count, line) in lines.enumerate() {
        if count >= MOST_FIELDS {
            return Err(BadHead::TooMany);
        }
        let (name, parsed, value) = field(head, line)?;
        if !is_title_case(name) {
            header_case.push(head.slice_ref(name));
        }
        headers
            .try_append(parsed, value)
            .map_err(|_full| BadHead::TooMany)?;
    }
    let (minor, (status, reason)) = match status_line {
        Some(status_line) => status_line,
        None => (0, cgi_status(&headers)?),
    };
    let length = body_length(&mut headers)?;
    let closes = listed(&headers).any(|name| name.eq_ignore_ascii_case(b"close"));
    // RFC 9112 §6.1: a 204 has no chunks, and RFC 9110 §15.3.6: a 205 no content. A server that
    // announces content may send it.
    let may_send_more = match status {
        StatusCode::NO_CONTENT => length == BodyLength::Chunked,
        StatusCode::RESET_CONTENT => length != BodyLength::Bytes(0),
        _ => false,
    };
    let stays_open = is_http && minor >= 1 && !closes && !may_send_more;
    let upgrade = headers.get(UPGRADE).cloned();
    remove_what_is_not_for_clients(&mut headers);
    let usual = status.canonical_reason().unwrap_or_default().as_bytes();
    Ok(ReplyHead {
        reason: (reason != usual).then(|| Bytes::copy_from_slice(&reason)),
        status,
        headers,
        header_case,
        length,
        stays_open,
        upgrade,
    })
}

/// A status and its reason.
type Status = (StatusCode, Vec<u8>);

/// Parses a status line (RFC 9112 §4) into the minor version and the status. Some servers omit the
/// space before an empty reason.
fn status_line(line: &[u8], is_http: bool) -> Result<(u8, Status), BadHead> {
    let bad = || BadHead::Status(shown(line));
    let (version, rest) = split_at_space(line).ok_or_else(bad)?;
    let minor = minor_version(version, is_http).ok_or_else(bad)?;
    Ok((minor, status(rest).ok_or_else(bad)?))
}

/// The minor version of `HTTP/1.1`; `None` for an invalid version or another protocol than the one
/// in use. A uwsgi server may repeat `SERVER_PROTOCOL`, as uWSGI does: its version is the client's,
/// and does not describe the response. RFC 9110 §2.5: a higher minor version is treated as our own.
fn minor_version(word: &[u8], is_http: bool) -> Option<u8> {
    let (major, minor) = match word.strip_prefix(b"HTTP/")? {
        [major, b'.', minor] => (*major, *minor),
        [major] if !is_http => (*major, b'0'),
        _ => return None,
    };
    let is_version = major.is_ascii_digit() && minor.is_ascii_digit();
    (is_version && (major == b'1' || !is_http)).then(|| minor - b'0')
}

/// RFC 3875 §6.3.3 and §6.2.3: the field `Status`, else 302 with a `Location`, else 200.
fn cgi_status(headers: &HeaderMap) -> Result<Status, BadHead> {
    match headers.get("status") {
        Some(value) => {
            status(value.as_bytes()).ok_or_else(|| BadHead::Status(shown(value.as_bytes())))
        }
        None if headers.contains_key(LOCATION) => Ok((StatusCode::FOUND, b"Found".to_vec())),
        None => Ok((StatusCode::OK, b"OK".to_vec())),
    }
}

fn status(text: &[u8]) -> Option<Status> {
    let (code, reason) = split_at_space(text).unwrap_or((text, b""));
    let status = StatusCode::from_bytes(code).ok()?;
    // A reason may contain the same bytes as a field value.
    HeaderValue::from_bytes(reason).ok()?;
    Some((status, reason.trim_ascii().to_vec()))
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

/// RFC 9112 §5: no space before the colon, and no obsolete line folding (`HeaderName` rejects
/// both).
fn field<'a>(head: &Bytes, line: &'a [u8]) -> Result<(&'a [u8], HeaderName, HeaderValue), BadHead> {
    let bad = || BadHead::Line(shown(line));
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(bad)?;
    let name = &line[..colon];
    let parsed = HeaderName::from_bytes(name).map_err(|_| bad())?;
    let value = without_blanks(&line[colon + 1..]);
    // A slice of the head, not a copy: the value lives as long as the response does.
    match HeaderValue::from_maybe_shared(head.slice_ref(value)) {
        Ok(value) => Ok((name, parsed, value)),
        Err(_) => Err(BadHead::Value(shown(name))),
    }
}

/// Trims a value: only space and tab may surround it (RFC 9110 §5.6.3). `trim_ascii` also removes a
/// stray CR, which ends the line for some parsers.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', inside @ ..] | [inside @ .., b' ' | b'\t'] = value {
        value = inside;
    }
    value
}

/// RFC 9112 §6.3. Chunked coding overrides `Content-Length`, which is removed.
fn body_length(headers: &mut HeaderMap) -> Result<BodyLength, BadHead> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() {
            return Err(BadHead::Coding(shown(coding.as_bytes())));
        }
        headers.remove(CONTENT_LENGTH);
        return Ok(BodyLength::Chunked);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next().cloned() else {
        return Ok(BodyLength::UntilClosed);
    };
    let number = first
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    match number {
        Some(number) if lengths.all(|other| *other == first) => {
            headers.insert(CONTENT_LENGTH, first);
            Ok(BodyLength::Bytes(number))
        }
        _ => Err(BadHead::Length(shown(first.as_bytes()))),
    }
}

/// The elements of the `Connection` fields.
pub fn listed(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    listed_in(headers, &CONNECTION)
}

/// The elements of all fields named `name` (RFC 9110 §5.6.1).
pub fn listed_in<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lists = headers.get_all(name).iter();
    lists
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn remove_what_is_not_for_clients(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = listed(headers)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        // It frames the body, so it is kept even if it is listed.
        .filter(|name| *name != CONTENT_LENGTH)
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in NOT_FOR_CLIENTS {
        headers.remove(name);
    }
}

/// The beginning of a server's bytes, for an error text.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(head: &[u8]) -> Result<ReplyHead, BadHead> {
        let length = HeadEnd::default().find(head).expect("a whole head");
        read(&Bytes::copy_from_slice(&head[..length]), false)
    }

    /// Status, reason, fields and length in one line.
    fn line(head: &str) -> String {
        match parsed(head.as_bytes()) {
            Ok(head) => {
                let fields = head.headers.iter().map(|(name, value)| {
                    format!(" {name}={}", String::from_utf8_lossy(value.as_bytes()))
                });
                let reason = head.reason.map(|reason| format!(" {reason:?}"));
                let (status, length) = (head.status.as_u16(), head.length);
                let fields: String = fields.collect();
                format!("{status}{} {length:?}{fields}", reason.unwrap_or_default())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn heads_of_http_and_of_cgi() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "200 UntilClosed"),
            ("HTTP/1.0 404 Not Found\nA: b\n\n", "404 UntilClosed a=b"),
            ("HTTP/1.1 299 Odd\r\n\r\n", "299 b\"Odd\" UntilClosed"),
            ("HTTP/1.1 204\r\n\r\n", "204 b\"\" UntilClosed"),
            (
                "Status: 404 Not Found\r\nX:y\r\n\r\n",
                "404 UntilClosed x=y",
            ),
            // uWSGI repeats the client's protocol.
            ("HTTP/2.0 404 Not Found\r\n\r\n", "404 UntilClosed"),
            ("HTTP/2 200 OK\r\n\r\n", "200 UntilClosed"),
            ("HTTP/3.0 204 No Content\r\n\r\n", "204 UntilClosed"),
            ("Content-Type: a/b\n\n", "200 UntilClosed content-type=a/b"),
            ("Location: /x\r\n\r\n", "302 UntilClosed location=/x"),
            (
                "HTTP/1.1 200 OK\r\nStatus: 500 No\r\n\r\n",
                "200 UntilClosed",
            ),
            (
                "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
                "200 UntilClosed set-cookie=a set-cookie=b",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                "200 Bytes(5) content-length=5",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "200 Chunked",
            ),
        ] {
            assert_eq!(line(head), expected, "{head:?}");
        }
    }

    #[test]
    fn what_is_for_the_next_hop_is_removed() {
        let head = "HTTP/1.1 200 OK\r\nConnection: close, X-Own, Content-Length\r\nX-Own: 1\r\n\
                    Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authenticate: x\r\n\
                    Proxy-Authorization: x\r\nTE: x\r\nTrailer: x\r\nUpgrade: x\r\nStatus: x\r\nContent-Length: 3\r\nX-Kept: 1\r\n\r\n";
        assert_eq!(line(head), "200 Bytes(3) content-length=3 x-kept=1");
    }

    #[test]
    fn what_is_not_sure_is_refused() {
        for head in [
            "\r\n",
            "hello\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/ 200 OK\r\n\r\n",
            "HTTP/x.1 200 OK\r\n\r\n",
            "HTTP/11.1 200 OK\r\n\r\n",
            "HTTP/2.00 200 OK\r\n\r\n",
            "HTTP/-1.0 200 OK\r\n\r\n",
            "HTTP/2,0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "Status: all is well\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\x0c\r\n\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parsed(head.as_bytes()).is_err(), "{head:?}: {}", line(head));
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:\n".repeat(40_000));
        assert_eq!(parsed(many.as_bytes()).err(), Some(BadHead::TooMany));
    }

    #[test]
    fn in_http_a_status_line_comes_first_and_tells_what_follows() {
        let http = |head: &'static str| read(&Bytes::from_static(head.as_bytes()), true);
        assert!(http("Content-Type: a/b\r\n\r\n").is_err());
        assert!(http("<html>\r\n\r\n").is_err());
        assert!(http("HTTP/2.0 200 OK\r\n\r\n").is_err());
        assert!(http("HTTP/1 200 OK\r\n\r\n").is_err());
        for (head, stays_open) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.2 200 OK\r\n\r\n", true),
            (
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(http(head).unwrap().stays_open, stays_open, "{head:?}");
        }
    }

    /// Length of the head if the bytes arrive in these pieces.
    fn found_in_pieces(bytes: &[u8], cuts: &[usize]) -> Option<usize> {
        let mut end = HeadEnd::default();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        cuts.iter().find_map(|cut| end.find(&bytes[..*cut]))
    }

    #[test]
    fn a_head_is_found_whole_wherever_it_is_split() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: b\n\r\nbody\r\n\r\n";
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(found_in_pieces(bytes, &[first, second]), Some(24));
            }
        }
    }

    proptest! {
        #[test]
        fn the_end_does_not_depend_on_how_the_bytes_are_split(
            bytes in "[a\r\n: ]{0,60}", cuts in prop::collection::vec(0usize..1000, 0..8)
        ) {
            let whole = HeadEnd::default().find(bytes.as_bytes());
            prop_assert_eq!(found_in_pieces(bytes.as_bytes(), &cuts), whole);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = (read(&bytes, false), read(&bytes, true));
        }

        #[test]
        fn heads_that_are_nearly_right_are_read_without_a_panic(
            bytes in "(HTTP/1.[01] [0-9]{2,4} [ -~]{0,9})?\r?\n?((Content-Length|Transfer-Encoding|Connection|Status|[a-z\\-]{1,9}):[ -~\t]{0,12}\r?\n){0,6}\r?\n?"
        ) {
            if let Ok(head) = read(&Bytes::from(bytes.into_bytes()), false) {
                prop_assert!(!head.headers.contains_key(TRANSFER_ENCODING));
                prop_assert!(!head.headers.contains_key(CONNECTION));
                prop_assert!(head.headers.get_all(CONTENT_LENGTH).iter().count() <= 1);
            }
        }
    }
}
