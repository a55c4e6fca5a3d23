//! The rules for the fields of a request (RFC 9113 §8.1.1, §8.2, §8.3).
//!
//! h2 knows most of these rules too, but ends the connection, or resets the stream without a
//! response, if a request violates one. So this refuses everything that h2 or `http` would, and it
//! refuses fields by the rules of [`limits`](crate::front::protocol::limits) where these are the
//! same.

use http::Method;
use http::uri::{Authority, Scheme};

use super::hpack::Fields;
use crate::front::protocol::framing::target;
use crate::front::protocol::limits::valid_host;

/// The rule of HTTP that a request violates.
pub type MalformedReason = &'static str;

/// Continuation of a request after its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Unchanged.
    Sent,
    /// With so many bytes of its path percent-encoded, and with `Host` in place of an authority
    /// that `http` cannot hold ([`is_held`]).
    Rewritten(usize),
}

/// The pseudo-header fields of a request (RFC 9113 §8.3.1).
#[derive(Debug, Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
}

/// Checks the fields of a request's head. `ends`: it has no body and no trailers.
///
/// # Errors
/// The first rule that they violate.
pub fn check_request(fields: &Fields, ends: bool) -> Result<Form, MalformedReason> {
    let mut pseudo = Pseudo::default();
    let mut behind = false;
    let mut content_length = None;
    let mut host = None;
    for (name, value) in fields.iter() {
        match name.strip_prefix(b":") {
            Some(_) if behind => return Err("a pseudo-header field comes after other fields"),
            Some(name) => pseudo.add(name, value)?,
            None => {
                behind = true;
                check_field(name, value)?;
                match name {
                    b"content-length" => check_length(value, &mut content_length)?,
                    b"host" => host = Some(value),
                    _ => {}
                }
            }
        }
    }
    // RFC 9113 §8.1.1.
    if ends && content_length.is_some_and(|length| length > 0) {
        return Err("Content-Length announces a body that the request does not have");
    }
    pseudo.check(host)
}

/// True if `http` accepts the authority. It refuses percent-encoded names and `IPvFuture`, which
/// RFC 3986 §3.2.2 allows.
pub fn is_held(authority: &[u8]) -> bool {
    is_plain(authority) || Authority::try_from(authority).is_ok()
}

/// Checks trailers (RFC 9113 §8.1).
///
/// # Errors
/// The first rule that they violate.
pub fn check_trailers(fields: &Fields) -> Result<(), MalformedReason> {
    for (name, value) in fields.iter() {
        if name.starts_with(b":") {
            return Err("trailers contain a pseudo-header field");
        }
        check_field(name, value)?;
    }
    Ok(())
}

impl<'a> Pseudo<'a> {
    fn add(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), MalformedReason> {
        let place = match name {
            b"method" => &mut self.method,
            b"scheme" => &mut self.scheme,
            b"authority" => &mut self.authority,
            b"path" => &mut self.path,
            // `:status` is for responses (§8.3.2), `:protocol` for servers that announce it
            // (RFC 8441 §3).
            _ => return Err("a pseudo-header field is not one of a request"),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err("a pseudo-header field is given twice"),
        }
    }

    /// RFC 9113 §8.3.1.
    fn check(&self, host: Option<&[u8]>) -> Result<Form, MalformedReason> {
        let method = self.method.ok_or("the request has no :method")?;
        if Method::from_bytes(method).is_err() {
            return Err("the method is not a token");
        }
        if method == b"CONNECT" {
            return Err("CONNECT is for proxies");
        }
        match self.scheme.ok_or("the request has no :scheme")? {
            b"http" | b"https" => {}
            other if Scheme::try_from(other).is_ok() => {}
            _ => return Err("the :scheme is not a scheme"),
        }
        if self.authority.is_some_and(|authority| !is_host(authority)) {
            return Err("the :authority is not a host");
        }
        let path = self.path.ok_or("the request has no :path")?;
        let form = check_path(method, path)?;
        match (self.authority.filter(|authority| !is_held(authority)), host) {
            (None, _) => Ok(form),
            (Some(authority), Some(host)) if authority != host => Err("Host and :authority differ"),
            (Some(_), _) => Ok(Form::Rewritten(target::unusual(path))),
        }
    }
}

/// RFC 9113 §8.3.1: never empty; without userinfo.
fn is_host(authority: &[u8]) -> bool {
    !authority.is_empty() && (is_plain(authority) || valid_host(authority).is_some())
}

/// True for most names, which need no closer look.
fn is_plain(authority: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    authority.iter().all(is_plain)
}

/// RFC 9113 §8.3.1: an absolute path, or `*` for OPTIONS.
fn check_path(method: &[u8], path: &[u8]) -> Result<Form, MalformedReason> {
    match path {
        b"*" if method == b"OPTIONS" => return Ok(Form::Sent),
        [b'/', ..] => {}
        _ => return Err("the request target is not a path"),
    }
    if path.iter().any(|byte| *byte <= b' ' || *byte == 0x7F) {
        return Err("the request target contains a space or a control character");
    }
    match target::unusual(path) {
        0 => Ok(Form::Sent),
        count => Ok(Form::Rewritten(count)),
    }
}

/// RFC 9113 §8.2.1 and §8.2.2.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), MalformedReason> {
    if name.is_empty() || !name.iter().copied().all(is_name) {
        return Err(match name.iter().any(u8::is_ascii_uppercase) {
            true => "the name of a field has upper-case letters",
            false => "the name of a field is not a token",
        });
    }
    // §8.2.1 names NUL, CR and LF. RFC 9110 §5.5: other controls are invalid too; over HTTP/1 they
    // are refused as well.
    if value
        .iter()
        .any(|byte| matches!(byte, 0..=8 | 10..=31 | 127))
    {
        return Err("the value of a field contains a control character");
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) {
        return Err("the value of a field begins or ends with a space");
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err("the request has a field that belongs to HTTP/1 connections")
        }
        b"te" if value != b"trailers" => Err("the TE field is not trailers"),
        _ => Ok(()),
    }
}

/// `tchar` of RFC 9110 §5.6.2, without upper-case letters.
fn is_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// RFC 9110 §8.6. h2 takes 19 digits.
fn check_length(value: &[u8], before: &mut Option<u64>) -> Result<(), MalformedReason> {
    const BAD: MalformedReason = "Content-Length is not a number, or is given twice";
    let is_number = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let number = value.iter().fold(0, |sum: u64, digit| {
        sum.wrapping_mul(10) + u64::from(digit & 15)
    });
    if !is_number || before.is_some_and(|before| before != number) {
        return Err(BAD);
    }
    *before = Some(number);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::protocol::http2::hpack::{Decoder, write_literal};
    use http::uri::PathAndQuery;

    fn fields(pairs: &[(&[u8], &[u8])]) -> Fields {
        let mut block = Vec::new();
        for (name, value) in pairs {
            write_literal(&mut block, name, value);
        }
        let mut fields = Fields::default();
        fields.clear(1 << 20);
        Decoder::default().decode(&block, &mut fields).unwrap();
        fields
    }

    fn of_path(path: &[u8]) -> Result<Form, MalformedReason> {
        let pairs: [(&[u8], &[u8]); 3] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", path),
        ];
        check_request(&fields(&pairs), true)
    }

    fn with(name: &[u8], value: &[u8]) -> Result<Form, MalformedReason> {
        let pairs: [(&[u8], &[u8]); 4] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"/"),
            (name, value),
        ];
        check_request(&fields(&pairs), false)
    }

    /// For fields that `http` refuses, h2 resets the stream without logging anything.
    #[test]
    fn every_path_that_passes_is_one_to_http() {
        for byte in 0..=255_u8 {
            for path in [&[b'/', byte, b'x'][..], &[b'/', b'?', byte]] {
                let Ok(form) = of_path(path) else {
                    assert!(byte <= b' ' || byte == 0x7F, "{path:?}");
                    continue;
                };
                let sent = target::normal(path);
                assert_eq!(form == Form::Sent, *sent == *path);
                assert!(PathAndQuery::try_from(&sent[..]).is_ok(), "{path:?}");
            }
        }
    }

    #[test]
    fn every_name_and_value_that_passes_is_one_to_http() {
        for byte in 0..=255_u8 {
            let name = [b'x', byte];
            if with(&name, b"v").is_ok() {
                assert!(http::HeaderName::from_lowercase(&name).is_ok(), "{byte}");
            }
            let value = [b'x', byte, b'y'];
            let passes = with(b"x", &value).is_ok();
            let is_value = http::HeaderValue::from_bytes(&value).is_ok();
            assert_eq!(passes, is_value, "{byte}");
        }
        assert!(with(b"", b"x").is_err());
    }

    #[test]
    fn every_authority_and_scheme_that_passes_is_one_to_http() {
        for byte in 0..=255_u8 {
            let authority = [b'a', byte, b'b'];
            if with(b":authority", &authority) == Ok(Form::Sent) {
                assert!(
                    http::uri::Authority::try_from(&authority[..]).is_ok(),
                    "{byte}"
                );
            }
        }
        for authority in ["", "u@a", "a:b", "a b", "[::1", "a/b"] {
            assert!(
                with(b":authority", authority.as_bytes()).is_err(),
                "{authority}"
            );
        }
        for authority in ["x%41", "a%2eb:80", "x%c3%a9"] {
            let form = with(b":authority", authority.as_bytes());
            assert_eq!(form, Ok(Form::Rewritten(0)), "{authority}");
        }
        for authority in ["x%4", "x%zz", "%"] {
            let form = with(b":authority", authority.as_bytes());
            assert!(form.is_err(), "{authority}");
        }
        for authority in ["a", "a.b:80", "127.0.0.1", "[::1]:80"] {
            assert!(
                with(b":authority", authority.as_bytes()).is_ok(),
                "{authority}"
            );
        }
    }

    #[test]
    fn lengths_must_be_numbers_that_agree() {
        let pairs = |first: &'static [u8], second: &'static [u8], ends| {
            let pairs: [(&[u8], &[u8]); 5] = [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/"),
                (b"content-length", first),
                (b"content-length", second),
            ];
            check_request(&fields(&pairs), ends).is_ok()
        };
        assert!(pairs(b"5", b"5", false));
        assert!(pairs(b"5", b"05", false));
        assert!(pairs(b"0", b"0", true));
        for (first, second, ends) in [
            (&b"5"[..], &b"6"[..], false),
            (b"5", b"5", true),
            (b"+5", b"+5", false),
            (b"", b"", false),
            (b"5, 5", b"5", false),
            (b"99999999999999999999", b"5", false),
        ] {
            assert!(!pairs(first, second, ends), "{first:?} {second:?}");
        }
    }
}
