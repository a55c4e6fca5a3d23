//! Step 6: the header fields of a file.
//!
//! Every response is made here, so the fields that a 304 repeats (RFC 9110 §15.4.5) are those of
//! the 200. `Date` and `Server` are added to all responses later.

use std::ops::Range;

use crate::front::body::multipart::content_range;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::conditional::Validators;
use super::negotiate::Coding;
use super::representation::Representation;

/// The methods allowed for a file, as the value of an `Allow` field.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The facts about one form of a file that its header fields state.
pub(super) struct FileFacts<'a> {
    pub(super) content_type: HeaderValue,
    pub(super) cache_control: &'a HeaderValue,
    pub(super) validators: &'a Validators,
    pub(super) length: u64,
    pub(super) coding: Option<Coding>,
    /// True if other forms exist, or may be made.
    pub(super) is_negotiated: bool,
}

impl FileFacts<'_> {
    /// The fields of a complete response, with or without a body (HEAD).
    pub(super) fn fields(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(header::CONTENT_TYPE, self.content_type);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.length));
        let last_modified = httpdate::fmt_http_date(self.validators.last_modified);
        let last_modified = HeaderValue::try_from(last_modified).expect("letters and digits");
        headers.insert(header::ETAG, etag(self.validators));
        headers.insert(header::LAST_MODIFIED, last_modified);
        headers.insert(header::CACHE_CONTROL, self.cache_control.clone());
        let mut say = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        if self.is_negotiated {
            say(header::VARY, "Accept-Encoding");
        }
        match self.coding {
            Some(coding) => say(header::CONTENT_ENCODING, coding.name()),
            // Only of the identity: a client that plans its ranges by the length of an encoded form
            // would cut the file short.
            None => say(header::ACCEPT_RANGES, "bytes"),
        }
        // A browser must not take an upload for a script because it looks like one.
        say(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        headers
    }
}

/// The fields of a complete response with an encoded form that was made from `original`.
pub(super) fn encoded(original: &Representation, coding: Coding, length: u64) -> HeaderMap {
    let mut headers = original.headers.clone();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let name = HeaderValue::from_static(coding.name());
    headers.insert(header::CONTENT_ENCODING, name);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::ETAG, etag(&original.validators.for_coding(coding)));
    headers
}

/// The answer to OPTIONS (RFC 9110 §9.3.7).
pub(super) fn options() -> Response<()> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, HeaderValue::from_static(ALLOW));
    response(StatusCode::NO_CONTENT, headers)
}

/// 304: the client's copy is still valid.
pub(super) fn not_modified(form: &Representation) -> Response<()> {
    let mut headers = HeaderMap::with_capacity(5);
    for name in [
        header::ETAG,
        header::LAST_MODIFIED,
        header::CACHE_CONTROL,
        header::VARY,
    ] {
        if let Some(value) = form.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    response(StatusCode::NOT_MODIFIED, headers)
}

/// 200 with the whole file.
pub(super) fn whole(form: &Representation) -> Response<()> {
    response(StatusCode::OK, form.headers.clone())
}

/// 206 with one range.
pub(super) fn part(form: &Representation, range: &Range<u64>) -> Response<()> {
    let mut headers = form.headers.clone();
    let length = HeaderValue::from(range.end - range.start);
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CONTENT_RANGE, content_range(range, form.length));
    response(StatusCode::PARTIAL_CONTENT, headers)
}

/// 206 with several ranges, in a body of `length` bytes.
pub(super) fn parts(form: &Representation, length: u64, boundary: &str) -> Response<()> {
    let mut headers = form.headers.clone();
    wrap_parts(&mut headers, length, boundary);
    response(StatusCode::PARTIAL_CONTENT, headers)
}

/// Adapts the fields of the whole file to several ranges, in a body of `length` bytes.
pub(super) fn wrap_parts(headers: &mut HeaderMap, length: u64, boundary: &str) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    let content_type = HeaderValue::try_from(content_type).expect("letters and digits");
    headers.insert(header::CONTENT_TYPE, content_type);
}

fn etag(validators: &Validators) -> HeaderValue {
    HeaderValue::from_str(&validators.etag).expect("digits, letters and punctuation")
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
