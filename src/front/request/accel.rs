//! `X-Accel-*` fields, by which an application controls how the server in front of it sends its
//! response; nginx defines them.
//!
//! | field | effect |
//! |---|---|
//! | `X-Accel-Limit-Rate` | limits the bytes per second that the client gets; 0 is no limit |
//! | `X-Accel-Charset` | is appended to a `Content-Type` that names none |
//! | `X-Accel-Buffering` | `no`: the application waits for its client; `yes`: it does not; overrides the settings |
//! | `X-Accel-Expires` | none: it is for nginx's cache, which pyserve does not have |
//!
//! They are removed from the response, except `X-Accel-Buffering`, which a proxy in front of us
//! needs too. [`super::internal`] handles `X-Accel-Redirect`.

use std::num::NonZeroU64;

use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::config::values;
use crate::front::body::Body;
use crate::front::body::limited::LimitedBody;
use crate::front::response_rules::charset;

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const CHARSET: HeaderName = HeaderName::from_static("x-accel-charset");
const EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");
const LIMIT_RATE: HeaderName = HeaderName::from_static("x-accel-limit-rate");

/// The values of the fields; empty by default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accel {
    /// True if the response is buffered for a slow client; overrides the settings.
    pub buffering: Option<bool>,
    rate: Option<NonZeroU64>,
    charset: Option<HeaderValue>,
}

impl Accel {
    /// True if a response has any of these fields; few do.
    pub fn is_in(headers: &HeaderMap) -> bool {
        let mut names = headers.keys();
        names.any(|name| name.as_str().starts_with("x-accel-"))
    }

    /// Removes the fields from a response and parses them.
    pub fn take(headers: &mut HeaderMap) -> Self {
        headers.remove(EXPIRES);
        Self {
            buffering: headers.get(BUFFERING).and_then(yes_or_no),
            rate: headers.remove(LIMIT_RATE).as_ref().and_then(rate),
            charset: headers.remove(CHARSET).filter(is_token),
        }
    }

    /// Applies the fields to the response that the client gets: the application's own or a file
    /// that it named.
    pub fn apply(self, mut response: Response<Body>) -> Response<Body> {
        if let Some(charset) = &self.charset {
            charset::name(response.status(), response.headers_mut(), charset);
        }
        match self.rate {
            Some(rate) => response.map(|body| Body::Limited(LimitedBody::boxed(body, rate))),
            None => response,
        }
    }
}

/// Other values are ignored.
fn yes_or_no(value: &HeaderValue) -> Option<bool> {
    match value.as_bytes() {
        word if word.eq_ignore_ascii_case(b"yes") => Some(true),
        word if word.eq_ignore_ascii_case(b"no") => Some(false),
        _ => None,
    }
}

/// Bytes per second; other values are ignored.
fn rate(value: &HeaderValue) -> Option<NonZeroU64> {
    let digits = value.to_str().ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// RFC 9110 §8.3.2: a charset is a token. nginx accepts only those that its settings name.
fn is_token(charset: &HeaderValue) -> bool {
    !charset.is_empty() && charset.as_bytes().iter().copied().all(values::is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

    fn taken(fields: &[(&'static str, &'static str)]) -> (Accel, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        (Accel::take(&mut headers), headers)
    }

    #[test]
    fn all_but_buffering_goes_no_further() {
        let (accel, left) = taken(&[
            ("x-accel-limit-rate", "1000"),
            ("x-accel-charset", "utf-8"),
            ("x-accel-buffering", "No"),
            ("x-accel-expires", "60"),
            ("x-other", "1"),
        ]);
        let expected = Accel {
            buffering: Some(false),
            rate: NonZeroU64::new(1000),
            charset: Some(HeaderValue::from_static("utf-8")),
        };
        assert_eq!(accel, expected);
        assert_eq!(left.len(), 2);
        assert!(left.contains_key(BUFFERING) && left.contains_key("x-other"));
    }

    #[test]
    fn what_is_not_understood_counts_as_not_said() {
        for fields in [
            [("x-accel-limit-rate", "0"), ("x-accel-buffering", "maybe")],
            [("x-accel-limit-rate", "-1"), ("x-accel-charset", "")],
            [("x-accel-limit-rate", "1k"), ("x-accel-charset", "a b")],
            [("x-accel-limit-rate", "+1"), ("x-accel-charset", "a;b=c")],
        ] {
            assert_eq!(taken(&fields).0, Accel::default(), "{fields:?}");
        }
    }

    #[test]
    fn a_charset_goes_behind_a_type_that_names_none() {
        for (status, kind, expected) in [
            (200, "text/html", "text/html; charset=utf-8"),
            (404, "image/png", "image/png; charset=utf-8"),
            (200, "text/html; a=b", "text/html; a=b; charset=utf-8"),
            (200, "text/html;Charset=x", "text/html;Charset=x"),
            (302, "text/html", "text/html"),
            (200, "", ""),
        ] {
            let response = Response::builder().status(status);
            let response = response.header(CONTENT_TYPE, kind).body(Body::Empty);
            let (accel, _) = taken(&[("x-accel-charset", "utf-8")]);
            let response = accel.apply(response.unwrap());
            assert_eq!(response.headers()[CONTENT_TYPE], expected, "{status}");
        }
        let (accel, _) = taken(&[("x-accel-charset", "utf-8")]);
        let untyped = accel.apply(Response::new(Body::Empty));
        assert!(!untyped.headers().contains_key(CONTENT_TYPE));
    }
}
