//! Step 4: what is said about a file.
//!
//! Every response is made here, so the fields that a 304 repeats (RFC 9110 §15.4.5) are the
//! ones that the 200 had. `Date` and `Server` are added to all responses further out.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::{Content, Payload};
use super::conditional::Validators;

/// The methods that a file answers, as an `Allow` field lists them.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The answer to OPTIONS (RFC 9110 §9.3.7).
pub(super) fn options() -> Response<Content> {
    let mut response = Response::new(Content::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_static(ALLOW);
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

/// The client's copy still stands.
pub(super) fn not_modified(validators: &Validators) -> Response<Payload> {
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    insert_validators(response.headers_mut(), validators);
    response
}

/// The whole file. The length is the file's, whether a body follows or not (HEAD).
pub(super) fn full(
    name: &str,
    validators: &Validators,
    length: u64,
    payload: Payload,
) -> Response<Payload> {
    let mut response = Response::new(payload);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(name));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    insert_validators(headers, validators);
    // A browser must not take an upload for a script because it looks like one.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Also the place for `Cache-Control` and `Vary`: both belong into 200 and 304 alike.
fn insert_validators(headers: &mut HeaderMap, validators: &Validators) {
    let last_modified = httpdate::fmt_http_date(validators.last_modified);
    for (name, value) in [
        (header::ETAG, &validators.etag),
        (header::LAST_MODIFIED, &last_modified),
    ] {
        let value = HeaderValue::from_str(value).expect("digits, letters and punctuation");
        headers.insert(name, value);
    }
}

fn content_type(name: &str) -> HeaderValue {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let essence = match extension {
        // RFC 9239 §6: text/javascript, whatever the extension.
        "mjs" | "cjs" => "text/javascript",
        // Source maps are JSON; the table says text/plain.
        "map" => "application/json",
        _ => mime_guess::from_path(name)
            .first_raw()
            .unwrap_or("application/octet-stream"),
    };
    match is_text(essence) {
        true => HeaderValue::try_from(format!("{essence}; charset=utf-8"))
            .expect("a media type is made of visible characters"),
        false => HeaderValue::from_static(essence),
    }
}

/// What is text under another name, and in UTF-8 nearly always.
fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/json" | "application/javascript" | "application/xml"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_from_the_name_and_text_is_utf_8() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("A.CSS", "text/css; charset=utf-8"),
            ("a.min.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.js.map", "application/json; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.webmanifest", "application/manifest+json; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.wasm", "application/wasm"),
            ("a.tar.gz", "application/gzip"),
            ("a.unheard-of", "application/octet-stream"),
            ("README", "application/octet-stream"),
            ("dir.css/README", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }
}
