//! Limits on a request's head, checked before routing.
//!
//! Malformed heads were refused below hyper: over HTTP/1 by
//! [`framing`](crate::front::protocol::framing), over HTTP/2 by
//! [`http2`](crate::front::protocol::http2). Here are the rules about well-formed heads: their
//! size, with a log line that names the largest field, and the host that they are for.

use std::net::Ipv6Addr;

use http::header::{CONTENT_TYPE, COOKIE, EXPECT, HOST, TRANSFER_ENCODING};
use http::{Method, Version, request};

use super::refused::name_shown;
use crate::front::client_limits::memory_budget::{SMALL, STREAM};
use crate::front::error::Rejection;

/// Longest head in bytes: request line and header fields. uWSGI's default of 4096 is the best-known
/// cause of 502s behind nginx; its usual remedy, 32 to 64 KiB, is the default here. It fits into
/// the 65,535 bytes that the uwsgi protocol can carry.
pub const MAX_HEAD: usize = 64 << 10;
/// Limit of hyper's buffer, above [`MAX_HEAD`] so that a head that is too long can still be read,
/// and its largest field be named.
pub const PARSER_LIMIT: usize = 2 * MAX_HEAD;
/// Longest request target in bytes: nginx's limit for one line of a head is 8 KiB, uWSGI's
/// whole block 4 to 64 KiB.
pub const MAX_TARGET: usize = 32 << 10;

/// Most header fields of a request: hyper's limit for HTTP/1, Apache's and gunicorn's default;
/// needed for HTTP/2, where hyper has none.
pub const MAX_FIELDS: usize = 100;

/// Checks a head, and finds the authority that the request is for: that of an
/// absolute-form target or of HTTP/2's `:authority`, else the `Host` field.
///
/// # Errors
/// The [`Rejection`] that the client gets.
pub fn check(head: &request::Parts) -> Result<String, Rejection> {
    check_size(head)?;
    check_target(head)?;
    check_framing(head)?;
    check_unique(head)?;
    check_expectation(head)?;
    host(head)
}

/// Bytes of memory of a request while it is answered, in addition to its connection's: its fields,
/// also in the form for the application, and a stream's state.
pub fn memory(head: &request::Parts) -> usize {
    let stream = match head.version {
        Version::HTTP_2 => STREAM,
        _ => 0,
    };
    let fields = head.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    match fields + target {
        ..=SMALL => stream,
        large => stream + 2 * large,
    }
}

fn check_size(head: &request::Parts) -> Result<(), Rejection> {
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Rejection::TargetTooLong {
            length: target,
            limit: MAX_TARGET,
        });
    }
    // Cookies do not count: HTTP/2 clients may send each crumb as a field of its own
    // (RFC 9113 §8.2.3).
    let fields = head.headers.len();
    if fields > MAX_FIELDS && fields - head.headers.get_all(COOKIE).iter().count() > MAX_FIELDS {
        return Err(Rejection::TooManyFields {
            fields,
            limit: MAX_FIELDS,
        });
    }
    let field = |name: &str, value: &[u8]| name.len() + value.len() + 4;
    let fields = head
        .headers
        .iter()
        .map(|(name, value)| field(name.as_str(), value.as_bytes()));
    let total = target + fields.sum::<usize>();
    if total <= MAX_HEAD {
        return Ok(());
    }
    let biggest = head
        .headers
        .iter()
        .max_by_key(|(name, value)| field(name.as_str(), value.as_bytes()));
    let (biggest, length) = biggest.map_or(("", 0), |(name, value)| {
        (name.as_str(), value.as_bytes().len())
    });
    Err(Rejection::HeadTooLarge {
        total,
        limit: MAX_HEAD,
        biggest: name_shown(biggest.as_bytes()),
        length,
    })
}

/// RFC 9112 §3.2: the form of the target has to match the method.
fn check_target(head: &request::Parts) -> Result<(), Rejection> {
    if head.method == Method::CONNECT {
        return Err(Rejection::BadRequest("CONNECT is for proxies"));
    }
    let uri = &head.uri;
    match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        Some("*") if head.method == Method::OPTIONS => {}
        // Over HTTP/2 it comes with a scheme.
        Some("*") => return Err(Rejection::BadRequest("the request target is not a path")),
        Some(target) if target.starts_with('/') => {}
        // An absolute-form target may have an empty path followed by a query.
        Some(_) if uri.scheme().is_some() => {}
        _ => return Err(Rejection::BadRequest("the request target is not a path")),
    }
    if let Some(scheme) = uri.scheme_str()
        && scheme != "http"
        && scheme != "https"
    {
        return Err(Rejection::BadRequest(
            "the scheme of the request target is not http",
        ));
    }
    Ok(())
}

/// RFC 9112 §6.1: the only accepted transfer coding is `chunked`, once. Over HTTP/1 no other gets
/// here.
fn check_framing(head: &request::Parts) -> Result<(), Rejection> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Rejection::BadRequest(
                "the only transfer coding accepted is chunked",
            ));
        }
        if head.version == Version::HTTP_2 {
            return Err(Rejection::BadRequest("HTTP/2 has no transfer codings"));
        }
    }
    Ok(())
}

/// Fields that two readers could interpret differently if repeated.
fn check_unique(head: &request::Parts) -> Result<(), Rejection> {
    for name in [HOST, CONTENT_TYPE] {
        if head.headers.get_all(name).iter().nth(1).is_some() {
            return Err(Rejection::BadRequest("Host or Content-Type is given twice"));
        }
    }
    Ok(())
}

/// RFC 9112 §3.2: a 1.1 request without `Host`, or with a bad one, gets a 400; the
/// authority of the target wins over the field. RFC 9113 §8.3.1: both must agree.
fn host(head: &request::Parts) -> Result<String, Rejection> {
    const BAD: Rejection = Rejection::BadRequest("the Host field is not a host");
    let field = match head.headers.get(HOST) {
        None => None,
        Some(field) => Some(valid_host(field.as_bytes()).ok_or(BAD)?),
    };
    match (head.uri.authority(), field) {
        (Some(authority), field) => {
            let target = valid_host(authority.as_str().as_bytes()).ok_or(BAD)?;
            if head.version == Version::HTTP_2 && field.is_some_and(|field| field != target) {
                return Err(Rejection::BadRequest("Host and :authority differ"));
            }
            Ok(target.to_owned())
        }
        (None, Some(field)) => Ok(field.to_owned()),
        (None, None) if head.version == Version::HTTP_11 || head.version == Version::HTTP_2 => {
            Err(Rejection::BadRequest("the request names no host"))
        }
        (None, None) => Ok(String::new()),
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 §7.2, by the grammar of RFC 3986 §3.2.2, without user
/// information. It may be empty as a whole (RFC 9112 §3.2).
pub fn valid_host(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let port = match text.strip_prefix('[') {
        Some(literal) => {
            let (literal, port) = literal.split_once(']')?;
            is_ip_literal(literal).then_some(port)?
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_name = !name.is_empty() || text.is_empty();
            (is_name && is_reg_name(name.as_bytes())).then_some(port)?
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(text)
}

/// `IPv6address / IPvFuture`.
fn is_ip_literal(literal: &str) -> bool {
    let Some(future) = literal.strip_prefix(['v', 'V']) else {
        return literal.parse::<Ipv6Addr>().is_ok();
    };
    let Some((version, address)) = future.split_once('.') else {
        return false;
    };
    !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !address.is_empty()
        && address.bytes().all(|byte| byte == b':' || is_in_name(byte))
}

/// `*( unreserved / pct-encoded / sub-delims )`; includes IPv4 addresses.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                behind
            }
            [byte, behind @ ..] if is_in_name(*byte) => behind,
            _ => return false,
        };
    }
}

/// `unreserved / sub-delims`.
fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// RFC 9110 §10.1.1: the only defined expectation. HTTP/1.0 has none.
fn check_expectation(head: &request::Parts) -> Result<(), Rejection> {
    let lists = head.headers.get_all(EXPECT).iter();
    let mut members = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    let is_known = |member: &[u8]| {
        let member = member.trim_ascii();
        // RFC 9110 §5.6.1: empty members of a list are ignored.
        member.is_empty() || member.eq_ignore_ascii_case(b"100-continue")
    };
    match head.version == Version::HTTP_10 || members.all(is_known) {
        true => Ok(()),
        false => Err(Rejection::Expectation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn checked(build: impl FnOnce(request::Builder) -> request::Builder) -> Result<String, String> {
        let (head, ()) = build(Request::builder()).body(()).unwrap().into_parts();
        check(&head).map_err(|rejection| rejection.to_string())
    }

    #[test]
    fn the_authority_of_the_target_wins_over_the_host_field() {
        let host = checked(|r| r.uri("http://a.example:80/x").header("host", "b.example"));
        assert_eq!(host.unwrap(), "a.example:80");
        assert_eq!(
            checked(|r| r.uri("/x").header("host", "b.example")).unwrap(),
            "b.example"
        );
        assert_eq!(
            checked(|r| r.uri("/").version(Version::HTTP_10)).unwrap(),
            ""
        );
    }

    #[test]
    fn bad_heads_are_refused() {
        for (what, result) in [
            ("no host", checked(|r| r.uri("/"))),
            (
                "two hosts",
                checked(|r| r.uri("/").header("host", "a").header("host", "a")),
            ),
            (
                "user in host",
                checked(|r| r.uri("/").header("host", "u@a")),
            ),
            (
                "space in host",
                checked(|r| r.uri("/").header("host", "a b")),
            ),
            (
                "slash in host",
                checked(|r| r.uri("/").header("host", "a/b")),
            ),
            (
                "authority form",
                checked(|r| r.uri("a.example:80").header("host", "a")),
            ),
            ("star", checked(|r| r.uri("*").header("host", "a"))),
            (
                "connect",
                checked(|r| r.method("CONNECT").uri("a:80").header("host", "a")),
            ),
            ("ftp", checked(|r| r.uri("ftp://a/").header("host", "a"))),
            (
                "gzip, chunked",
                checked(|r| {
                    r.uri("/")
                        .header("host", "a")
                        .header("transfer-encoding", "gzip, chunked")
                }),
            ),
            (
                "chunked twice",
                checked(|r| {
                    r.uri("/")
                        .header("host", "a")
                        .header("transfer-encoding", "chunked")
                        .header("transfer-encoding", "chunked")
                }),
            ),
            (
                "two types",
                checked(|r| {
                    r.uri("/")
                        .header("host", "a")
                        .header("content-type", "a/b")
                        .header("content-type", "a/b")
                }),
            ),
            (
                "two authorities",
                checked(|r| {
                    r.version(Version::HTTP_2)
                        .uri("http://a/")
                        .header("host", "b")
                }),
            ),
        ] {
            assert!(result.is_err(), "{what}");
        }
        assert!(checked(|r| r.method("OPTIONS").uri("*").header("host", "a")).is_ok());
        assert!(checked(|r| r.uri("/").header("host", "[::1]:8000")).is_ok());
        assert!(
            checked(|r| r
                .uri("/")
                .header("host", "a")
                .header("transfer-encoding", "Chunked"))
            .is_ok()
        );
    }

    #[test]
    fn a_host_is_what_rfc_3986_says() {
        for good in [
            "",
            "a",
            "a.example",
            "A_b~-",
            "a:",
            "a:80",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::]",
            "[::1]:8000",
            "[::1]:",
            "[1:2:3:4:5:6:7:8]",
            "[::ffff:1.2.3.4]",
            "[v1.a:b]",
            "[V9f.x]:1",
            "caf%C3%A9",
            "a!$&'()*+,;=",
        ] {
            assert_eq!(valid_host(good.as_bytes()), Some(good));
        }
        for bad in [
            "[]",
            "[",
            "]",
            "[::g]",
            "[:::]",
            "[1:2:3]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[::1]80",
            "[127.0.0.1]",
            "[a]",
            "[v.a]",
            "[vg.a]",
            "[v1.]",
            "[v1]",
            "[fe80::1%25e]",
            "a[::1]",
            ":80",
            ":",
            "a:b",
            "a:80:80",
            "a:-1",
            "u@a",
            "a/b",
            "a b",
            "a%",
            "a%2",
            "a%gg",
            "a\\b",
            "a\"b",
            "a<b",
            "a{b}",
            "a|b",
            "a^b",
            "caf\u{e9}",
            "a,b c",
        ] {
            assert_eq!(valid_host(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_100_continue_can_be_expected() {
        let expecting = |version, lines: &[&'static str]| {
            checked(|mut r| {
                r = r.uri("/").header("host", "a").version(version);
                for line in lines {
                    r = r.header("expect", *line);
                }
                r
            })
            .is_ok()
        };
        for (lines, is_fine) in [
            (&["100-continue"][..], true),
            (&["100-Continue"], true),
            (&["100-continue, 100-continue"], true),
            (&["100-continue", "100-continue"], true),
            (&[""], true),
            (&["200-ok"], false),
            (&["100-continue, other"], false),
            (&["100-continue", "other"], false),
            (&["100-continue;a=b"], false),
        ] {
            assert_eq!(expecting(Version::HTTP_11, lines), is_fine, "{lines:?}");
            assert!(expecting(Version::HTTP_10, lines));
        }
    }

    #[test]
    fn a_head_that_is_too_large_names_its_biggest_field() {
        let result = checked(|r| {
            r.uri("/")
                .header("host", "a")
                .header("cookie", "c".repeat(60_000))
                .header("x-more", "m".repeat(6_000))
        });
        assert!(result.unwrap_err().contains("cookie"));
        let result = checked(|r| {
            r.uri(format!("/{}", "p".repeat(40_000)))
                .header("host", "a")
        });
        assert!(result.unwrap_err().contains("40001"));
    }
}
