//! Preserves the case of header names: the application's and an upstream's towards clients, the
//! clients' towards HTTP upstreams. Names that we make or that arrived over HTTP/2 get the case of
//! the standard that defines them.
//!
//! Names are case-insensitive (RFC 9110 §5.1), but people compare them and broken clients exist, so
//! `ETag` should not become `Etag`. hyper writes title case by itself; any other case comes from a
//! private extension that only its own parser makes. So hyper's parser reads each new set of names
//! once, from a request made up here, and the extension it attaches is kept and copied into
//! responses.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Extensions, Request, Response, Version, request};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

/// Header names of a request that its client does not write in title case.
#[derive(Debug, Clone)]
pub struct HeaderNames(pub Vec<Bytes>);

/// Names whose standards do not write them in title case: in lower case, and in the standard's case
/// (IANA, "Hypertext Transfer Protocol (HTTP) Field Name Registry").
const STANDARD: [(&str, &str); 31] = [
    ("a-im", "A-IM"),
    ("accept-ch", "Accept-CH"),
    ("alpn", "ALPN"),
    ("cdn-loop", "CDN-Loop"),
    ("content-id", "Content-ID"),
    ("content-md5", "Content-MD5"),
    ("dav", "DAV"),
    ("dnt", "DNT"),
    ("dpop", "DPoP"),
    ("dpr", "DPR"),
    ("ect", "ECT"),
    ("etag", "ETag"),
    ("im", "IM"),
    ("last-event-id", "Last-Event-ID"),
    ("mime-version", "MIME-Version"),
    ("nel", "NEL"),
    ("odata-maxversion", "OData-MaxVersion"),
    ("odata-version", "OData-Version"),
    ("p3p", "P3P"),
    ("rtt", "RTT"),
    ("schedule-tag", "Schedule-Tag"),
    ("sec-ch-ua", "Sec-CH-UA"),
    ("sec-gpc", "Sec-GPC"),
    ("sec-websocket-accept", "Sec-WebSocket-Accept"),
    ("sec-websocket-extensions", "Sec-WebSocket-Extensions"),
    ("sec-websocket-key", "Sec-WebSocket-Key"),
    ("sec-websocket-protocol", "Sec-WebSocket-Protocol"),
    ("sec-websocket-version", "Sec-WebSocket-Version"),
    ("soapaction", "SOAPAction"),
    ("te", "TE"),
    ("www-authenticate", "WWW-Authenticate"),
];

/// Client hints have common prefixes (RFC 8942 defines no names).
const HINTS: (&str, &str) = ("sec-ch-", "Sec-CH-");
const HINTS_ABOUT_THE_AGENT: (&str, &str) = ("sec-ch-ua-", "Sec-CH-UA-");

/// Writes the name of a request's field: in the client's case, else in title case; over HTTP/2,
/// where all names are in lower case, in the case of its standard.
pub fn write_name(name: &str, asked: &request::Parts, to: &mut Vec<u8>) {
    let spelt = asked.extensions.get::<HeaderNames>();
    let is_it = |spelt: &&Bytes| spelt.eq_ignore_ascii_case(name.as_bytes());
    if let Some(spelt) = spelt.and_then(|spelt| spelt.0.iter().find(is_it)) {
        return to.extend_from_slice(spelt);
    }
    let standard = |name: &str| STANDARD.iter().find(|known| known.0 == name);
    let rest = match asked.version == Version::HTTP_2 {
        true => {
            if let Some((_, written)) = standard(name) {
                return to.extend_from_slice(written.as_bytes());
            }
            let begins = [HINTS_ABOUT_THE_AGENT, HINTS].into_iter();
            let mut rests = begins.filter_map(|(begin, written)| {
                name.strip_prefix(begin).map(|rest| (written, rest))
            });
            rests.next().map_or(name, |(written, rest)| {
                to.extend_from_slice(written.as_bytes());
                rest
            })
        }
        false => name,
    };
    let mut starts_word = true;
    for byte in rest.bytes() {
        to.push(match starts_word {
            true => byte.to_ascii_uppercase(),
            false => byte,
        });
        starts_word = byte == b'-';
    }
}

/// Most sets of names kept. An application has a handful; one that makes up names for each response
/// gets title case beyond this.
const MOST_SETS: usize = 256;

/// The sets of names seen so far.
#[derive(Debug, Default)]
pub struct HeaderCase(RwLock<HashMap<Vec<Bytes>, Extensions>>);

impl HeaderCase {
    /// Makes hyper write these names, none of them in title case, as they are.
    pub fn apply(&self, names: &[Bytes], extensions: &mut Extensions) {
        if names.is_empty() {
            return;
        }
        let known = self.0.read();
        if let Some(case) = known.get(names) {
            extensions.extend(case.clone());
            return;
        }
        let full = known.len() >= MOST_SETS;
        drop(known);
        if let (false, Some(case)) = (full, learn(names)) {
            extensions.extend(case.clone());
            // The names are slices of a response, which must not stay in memory.
            let names = names
                .iter()
                .map(|name| Bytes::copy_from_slice(name))
                .collect();
            self.0.write().insert(names, case);
        }
    }
}

/// `ETag`, where the field is our own.
pub const ETAG_AS_WRITTEN: Bytes = Bytes::from_static(b"ETag");

/// True if the name is in title case, as hyper writes it by itself: `Content-Type`.
pub fn is_title_case(name: &[u8]) -> bool {
    let mut starts_word = true;
    name.iter().all(|byte| {
        let fits = if starts_word {
            !byte.is_ascii_lowercase()
        } else {
            !byte.is_ascii_uppercase()
        };
        starts_word = *byte == b'-';
        fits
    })
}

/// Has hyper's parser read a request with these names.
fn learn(names: &[Bytes]) -> Option<Extensions> {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    for name in names {
        head.extend_from_slice(name);
        head.extend_from_slice(b": 0\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let service = service_fn(move |mut request: Request<Incoming>| {
        *keep.lock() = Some(std::mem::take(request.extensions_mut()));
        std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let mut parser = http1::Builder::new();
    parser.preserve_header_case(true).header_read_timeout(None);
    let connection = parser.serve_connection(Memory { head, read: 0 }, service);
    // Everything is in memory, so one poll is enough.
    let _done = pin!(connection).poll(&mut Context::from_waker(Waker::noop()));
    seen.lock().take()
}

/// A connection that returns the bytes of a head and discards the response.
struct Memory {
    head: Vec<u8>,
    read: usize,
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.head[self.read..];
        let length = rest.len().min(into.remaining());
        into.put_slice(&rest[..length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_learnt_once_and_found_again() {
        let header_case = HeaderCase::default();
        for _ in 0..2 {
            let mut extensions = Extensions::new();
            header_case.apply(
                &[Bytes::from_static(b"ETag"), Bytes::from_static(b"x-lower")],
                &mut extensions,
            );
            assert!(!extensions.is_empty(), "hyper's parser attached its case");
        }
        assert_eq!(header_case.0.read().len(), 1);
    }

    #[test]
    fn names_of_a_request_are_written_as_its_client_or_their_standard_spells_them() {
        let spelt = HeaderNames(vec![
            Bytes::from_static(b"x-lower"),
            Bytes::from_static(b"X-API-Key"),
        ]);
        for (version, spelt, name, expected) in [
            (Version::HTTP_11, Some(&spelt), "x-lower", "x-lower"),
            (Version::HTTP_11, Some(&spelt), "x-api-key", "X-API-Key"),
            (Version::HTTP_11, Some(&spelt), "dnt", "Dnt"),
            (Version::HTTP_11, None, "x-lower", "X-Lower"),
            (Version::HTTP_2, None, "dnt", "DNT"),
            (
                Version::HTTP_2,
                None,
                "sec-websocket-key",
                "Sec-WebSocket-Key",
            ),
            (Version::HTTP_2, None, "sec-ch-ua", "Sec-CH-UA"),
            (
                Version::HTTP_2,
                None,
                "sec-ch-ua-platform",
                "Sec-CH-UA-Platform",
            ),
            (
                Version::HTTP_2,
                None,
                "sec-ch-prefers-color-scheme",
                "Sec-CH-Prefers-Color-Scheme",
            ),
            (Version::HTTP_2, None, "user-agent", "User-Agent"),
        ] {
            let (mut head, ()) = Request::new(()).into_parts();
            head.version = version;
            if let Some(spelt) = spelt {
                head.extensions.insert(spelt.clone());
            }
            let mut written = Vec::new();
            write_name(name, &head, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
        assert!(STANDARD.is_sorted());
    }

    #[test]
    fn title_case_is_distinguished_from_other_cases() {
        for (name, expected) in [
            ("Content-Type", true),
            ("X-1a", true),
            ("ETag", false),
            ("content-type", false),
            ("X-Request-ID", false),
            ("WWW-Authenticate", false),
        ] {
            assert_eq!(is_title_case(name.as_bytes()), expected, "{name}");
        }
    }
}
