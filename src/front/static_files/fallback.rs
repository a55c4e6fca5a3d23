//! The rule for a location's fallback page, for requests without a file.
//!
//! A navigation of a browser gets the page, regardless of the path: the routes of a single-page
//! application contain names of files, mail addresses and bytes of any charset. A missing script,
//! picture or the like stays a 404: a page in its place would be the harder mistake to find. Pure:
//! a path and header fields in, yes or no out.

use http::header::{ACCEPT, HeaderMap, HeaderValue, VARY};
use percent_encoding::percent_decode_str;

use super::path::FilePath;

/// True if the page answers a request for `raw`, which is the path below the location as the client
/// sent it; `decoded` is that path if a file may have it.
pub(super) fn is_for(raw: &str, decoded: Option<&FilePath>, headers: &HeaderMap) -> bool {
    let is_page = match intent(headers) {
        Intent::Navigation => true,
        Intent::Resource => false,
        Intent::Unknown => decoded.is_some_and(|path| is_text(path) && !has_extension(path)),
    };
    // Scanners request `/.env` and `/.git/config`, and take a page for a hit.
    is_page && (decoded.is_some() || !begins_with_dot(raw))
}

/// Adds the fields that the rule reads to a response with the page, for caches (RFC 9110 §12.5.5).
/// The `404` of other requests is never stored.
pub(super) fn vary(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static(CONSULTED));
}

/// The fields that [`intent`] reads.
const CONSULTED: &str = "Accept, Sec-Fetch-Mode, Sec-Fetch-Dest";

/// The purpose of the request.
enum Intent {
    /// A page to show.
    Navigation,
    /// A part of a page.
    Resource,
    Unknown,
}

/// Fetch Metadata (W3C), which all browsers send to trustworthy origins; else the types that the
/// client accepts.
fn intent(headers: &HeaderMap) -> Intent {
    let field = |name: &str| headers.get(name).map(|value| value.as_bytes());
    match (field("sec-fetch-mode"), field("sec-fetch-dest")) {
        (Some(b"navigate"), _) => Intent::Navigation,
        // `fetch()` of a page, by prefetching and the like, has an empty destination.
        (_, Some(dest)) if !matches!(dest, b"empty" | b"document") => Intent::Resource,
        _ if accepts_html(headers) => Intent::Navigation,
        _ => Intent::Unknown,
    }
}

/// True if `Accept` names HTML, and does not refuse it (RFC 9110 §12.5.1).
fn accepts_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter();
    let mut ranges = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    ranges.any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_html = parts.next().is_some_and(|essence| {
            essence.eq_ignore_ascii_case(b"text/html")
                || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
        });
        let is_refused = |part: &[u8]| {
            let weight = part.strip_prefix(b"q=").or(part.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
        };
        is_html && !parts.any(is_refused)
    })
}

/// True for UTF-8, as browsers encode the routes of an application.
fn is_text(path: &FilePath) -> bool {
    path.relative.to_str().is_some()
}

fn has_extension(path: &FilePath) -> bool {
    let path = path.relative.as_encoded_bytes();
    let name = path.rsplit(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.contains(&b'.'))
}

/// True if the first name of the path begins with a dot.
fn begins_with_dot(raw: &str) -> bool {
    percent_decode_str(raw).find(|byte| *byte != b'/') == Some(b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    fn check(raw: &str, lines: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        is_for(raw, FilePath::decode(raw, false).ok().as_ref(), &headers)
    }

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");

    #[test]
    fn a_navigation_gets_the_page_whatever_its_path_looks_like() {
        for raw in [
            "/blob/setup.py",
            "/users/a.b@c.de",
            "/caf%E9",
            "/%FF%FE",
            "/blob/.gitignore",
            "/repo/.github/workflows/ci.yml",
            "/dump.sqlite3",
            "/notes~",
            "/a/..%2fb",
            "/users/7",
            "/users/7/",
            "/app.3f2a.js",
            "/",
        ] {
            for line in [HTML, NAVIGATE, ("accept", "TEXT/HTML ;q=0.5")] {
                assert!(check(raw, &[line]), "{raw} {line:?}");
            }
        }
        for raw in ["/.env", "/%2Eenv", "//.git/config", "/..%2fsecret"] {
            assert!(!check(raw, &[HTML, NAVIGATE]), "{raw}");
        }
    }

    #[test]
    fn what_is_used_within_a_page_does_not() {
        for lines in [
            &[("accept", "*/*")][..],
            &[("accept", "image/avif,image/webp,*/*;q=0.8")],
            &[("accept", "text/css,*/*;q=0.1")],
            &[("accept", "text/html;q=0, */*")],
            &[("accept", "text/htmlx")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
            &[],
        ] {
            assert!(!check("/app.3f2a.js", lines), "{lines:?}");
            assert!(!check("/caf%E9", lines), "{lines:?}");
        }
        let script = ("sec-fetch-dest", "script");
        assert!(!check("/chunk", &[script]), "a script without an extension");
        assert!(!check("/chunk", &[script, HTML]));
        // Old clients and tools send neither: then the form of the path decides.
        assert!(check("/users/7", &[]));
        assert!(check("/users/7", &[("accept", "*/*")]));
        assert!(check(
            "/users/7",
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]
        ));
    }

    proptest! {
        #[test]
        fn any_accept_is_read_without_a_panic(accept in prop::collection::vec(32u8..=255, 0..40)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&accept) {
                headers.insert(ACCEPT, value);
            }
            is_for("/a", None, &headers);
        }
    }
}
