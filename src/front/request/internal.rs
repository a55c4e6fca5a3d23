//! Files that the application delegates to the server: `X-Accel-Redirect` with a path in an
//! internal location (nginx), `X-Sendfile` with a path on disk below one (Apache).
//!
//! The application decides about access; the file is sent as every static file is, with ranges and
//! conditional requests, and the worker is free. Without internal locations the fields pass
//! unchanged: a proxy in front of us may use them. From upstream servers they never pass: they are
//! meant for the server in front, which is pyserve.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG,
    LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::front::body::Body;
use crate::front::error::Rejection;
use crate::front::routing::origin::RequestedOrigin;
use crate::front::static_files::Location;
use crate::front::static_files::internal::InternalFiles;

const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");
/// Fields that describe the file, as opposed to the application's response.
const OF_THE_FILE: [HeaderName; 6] = [
    ACCEPT_RANGES,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    ETAG,
    LAST_MODIFIED,
];
/// Characters to escape where a path on disk becomes a path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

/// The file that the application delegates.
#[derive(Debug, PartialEq, Eq)]
pub enum InternalTarget {
    /// A path of a URL, in an internal location.
    Url(String),
    /// A path on disk, below the directory of an internal location.
    Path(Vec<u8>),
}

impl InternalTarget {
    /// Removes the fields from a response and parses them.
    pub fn take(headers: &mut HeaderMap) -> Option<Self> {
        let url = headers.remove(X_ACCEL_REDIRECT);
        let path = headers.remove(X_SENDFILE);
        match (url, path) {
            (Some(url), _) => Some(Self::Url(
                String::from_utf8_lossy(url.as_bytes()).into_owned(),
            )),
            (None, Some(path)) => Some(Self::Path(path.as_bytes().to_vec())),
            (None, None) => None,
        }
    }

    /// The location, and the rest of the path in it.
    fn find<'a>(&self, internal: &'a InternalFiles) -> Option<(&'a Location, String)> {
        let files = &internal.files;
        match self {
            Self::Url(url) => {
                let (location, rest) = files.find(url, RequestedOrigin::ANY)?;
                Some((location, rest.to_owned()))
            }
            Self::Path(path) => {
                // Applications name files by the link or by the directory behind it.
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                let path = internal.release.settle(path);
                files.locations().find_map(|location| {
                    let rest = path.strip_prefix(location.dir()).ok()?;
                    let rest = percent_encode(rest.as_os_str().as_bytes(), PATH);
                    Some((location, format!("/{rest}")))
                })
            }
        }
    }
}

/// True if these fields name a file, for any server.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.contains_key(X_ACCEL_REDIRECT) || headers.contains_key(X_SENDFILE)
}

/// Responds with the file; `said` are the fields of the application's response.
///
/// # Errors
/// [`Rejection::NotInternal`] for a path outside of every internal location, else the reason for
/// which the file is refused.
pub async fn answer(
    internal: Option<&InternalFiles>,
    wanted: &InternalTarget,
    head: &request::Parts,
    said: HeaderMap,
) -> Result<Response<Body>, Rejection> {
    let found = internal.and_then(|internal| Some((&internal.files, wanted.find(internal)?)));
    let (files, (location, rest)) = found.ok_or_else(|| Rejection::NotInternal {
        wanted: format!("{wanted:?}"),
    })?;
    // The method of the original request does not matter for the file.
    let method = match head.method {
        http::Method::HEAD => http::Method::HEAD,
        _ => http::Method::GET,
    };
    let served = files.serve(location, &rest, &method, &head.headers).await;
    let mut response = served.map_err(Rejection::Static)?.map(Body::from);
    combine(response.headers_mut(), said);
    Ok(response)
}

/// The application's fields replace the file's, except those that describe the file. Only the
/// application sets the caching fields: it decided about access.
fn combine(headers: &mut HeaderMap, said: HeaderMap) {
    headers.remove(CACHE_CONTROL);
    let kept =
        |name: &HeaderName| OF_THE_FILE.contains(name) || name.as_str().starts_with("x-accel-");
    let mut last: Option<HeaderName> = None;
    for (name, value) in said {
        // An iteration over a map returns a name once, before the first of its values.
        let is_first = name.is_some();
        let Some(name) = name.or_else(|| last.clone()) else {
            continue;
        };
        if !kept(&name) {
            add(headers, &name, value, is_first);
        }
        last = Some(name);
    }
}

fn add(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, is_first: bool) {
    if is_first && *name != VARY {
        headers.insert(name, value);
    } else {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_application_keeps_the_last_word_on_all_but_the_file() {
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-length", "9"),
            ("etag", "\"file\""),
            ("vary", "accept-encoding"),
            ("cache-control", "max-age=60"),
        ]);
        let said = map(&[
            ("content-type", "application/pdf"),
            ("content-length", "0"),
            ("etag", "\"app\""),
            ("vary", "cookie"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-accel-expires", "60"),
        ]);
        combine(&mut headers, said);
        let expected = map(&[
            ("content-type", "application/pdf"),
            ("content-length", "9"),
            ("etag", "\"file\""),
            ("vary", "accept-encoding"),
            ("vary", "cookie"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn the_fields_are_taken_out_of_the_response() {
        let mut headers = map(&[
            ("x-accel-redirect", "/protected/a%20b"),
            ("x-sendfile", "/x"),
        ]);
        assert_eq!(
            InternalTarget::take(&mut headers),
            Some(InternalTarget::Url("/protected/a%20b".into()))
        );
        assert!(headers.is_empty());
        assert_eq!(InternalTarget::take(&mut headers), None);
    }
}
