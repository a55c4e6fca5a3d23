//! Responses that the settings define completely: a redirect, or a text.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::config::Scheme;
use crate::config::locations::{HOST, Redirect, Respond};
use crate::front::body::Body;
use crate::front::context::{Client, host_without_port};

/// A response that is the same for every client, made once.
pub struct Fixed {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    text: Bytes,
}

impl Fixed {
    /// Builds the response from the settings.
    pub fn new(respond: &Respond) -> Self {
        let text = Bytes::from(respond.text.clone());
        let content_type = HeaderValue::from_str(&respond.content_type).ok();
        Self {
            status: respond.status,
            content_type: content_type.filter(|_| !text.is_empty()),
            text,
        }
    }

    /// The response; `None` if the connection is to be closed without one.
    pub fn answer(&self) -> Option<Response<Body>> {
        if self.status.as_u16() == CLOSE {
            return None;
        }
        let mut response = Response::new(Body::Full(self.text.clone()));
        *response.status_mut() = self.status;
        if let Some(content_type) = &self.content_type {
            let content_type = content_type.clone();
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        Some(response)
    }
}

/// nginx's status for a connection that is closed without a response.
const CLOSE: u16 = 444;

/// A redirect. `rest` is the part of the target behind the location's prefix, `host` that of the
/// request, perhaps with a port. `None` if the target needs a host and there is none.
pub fn redirect(redirect: &Redirect, host: &str, rest: &str) -> Option<Response<Body>> {
    let to = match redirect.to.split_once(HOST) {
        Some((before, behind)) => {
            let name = host_without_port(host);
            (!name.is_empty()).then_some(())?;
            Cow::Owned(format!("{before}{}{behind}", name.to_ascii_lowercase()))
        }
        None => Cow::Borrowed(&*redirect.to),
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = redirect.status;
    let to = match redirect.keep_path {
        true => destination(&to, rest),
        false => to.into_owned(),
    };
    // `to` is visible ASCII: `escape` encodes everything else.
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    Some(response)
}

/// Paths that authorities for certificates ask over plain HTTP (RFC 8555 §8.3).
pub const ACME_CHALLENGES: &str = "/.well-known/acme-challenge/";

/// A redirect of a request over plain HTTP to the same target over `https`: with a status that
/// browsers remember, 308 where it has to keep the method (RFC 9110 §15.4.9). `None` if the request
/// names no host.
pub fn to_https(client: &Client, port: u16, method: &Method, raw: &str) -> Option<Response<Body>> {
    let host = host_without_port(&client.host);
    (!host.is_empty()).then_some(())?;
    let mut to = format!("https://{host}");
    if port != Scheme::Https.port() {
        to.push(':');
        to.push_str(itoa::Buffer::new().format(port));
    }
    escape(&client.prefix, &mut to);
    // `OPTIONS *` has no path.
    escape(if raw == "*" { "/" } else { raw }, &mut to);
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = match *method {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    let to = HeaderValue::try_from(to).ok()?;
    response.headers_mut().insert(LOCATION, to);
    Some(response)
}

/// `to` with `rest` appended. For any `rest`, the result has the host of `to`, or none: there is
/// exactly one slash between them, so the result cannot begin with `//host` or `/\host`, which
/// browsers treat alike, and nothing can be appended to the name of a host.
fn destination(to: &str, rest: &str) -> String {
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let behind = path.trim_start_matches(['/', '\\']);
    // A percent-encoded slash is a separator too.
    let behind = match behind.get(..3) {
        Some(slash) if behind.len() == path.len() && slash.eq_ignore_ascii_case("%2f") => {
            behind[3..].trim_start_matches(['/', '\\'])
        }
        _ => behind,
    };
    let mut destination = String::with_capacity(to.len() + rest.len() + 1);
    if path.is_empty() {
        destination.push_str(to);
    } else {
        destination.push_str(to.trim_end_matches('/'));
        destination.push('/');
        escape(behind, &mut destination);
    }
    if let Some(query) = query {
        destination.push('?');
        escape(query, &mut destination);
    }
    destination
}

/// The client's text is part of a URL already; this encodes the characters that browsers interpret
/// differently.
fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("%5C"),
            '"' => out.push_str("%22"),
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            char if char.is_ascii_graphic() => out.push(char),
            char => out.extend(
                char.encode_utf8(&mut [0; 4])
                    .bytes()
                    .map(|byte| format!("%{byte:02X}")),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rest_of_the_path_and_the_query_are_kept() {
        for (to, rest, expected) in [
            ("/new", "", "/new"),
            ("/new", "/", "/new/"),
            ("/new", "/a/b?c=d", "/new/a/b?c=d"),
            ("/new/", "/a", "/new/a"),
            ("/new", "?q=/x", "/new?q=/x"),
            ("/", "/a", "/a"),
            ("/", "//evil.example", "/evil.example"),
            ("/", "/\\evil.example", "/evil.example"),
            ("/", "/%5cevil.example", "/%5cevil.example"),
            ("/", "%2F/evil.example", "/evil.example"),
            ("/", "%2f%2fevil.example", "/%2fevil.example"),
            ("/new", "/a\\b", "/new/a%5Cb"),
            ("/new", "/é?é", "/new/%C3%A9?%C3%A9"),
            ("https://x.example", "/a//b", "https://x.example/a//b"),
            ("https://x.example", "/.evil", "https://x.example/.evil"),
            ("https://x.example", "//y", "https://x.example/y"),
            ("https://x.example", "", "https://x.example"),
            ("https://x.example", "?a@b", "https://x.example?a@b"),
            (
                "https://x.example:8443/base/",
                "/@y",
                "https://x.example:8443/base/@y",
            ),
        ] {
            assert_eq!(destination(to, rest), expected, "{to} {rest}");
        }
    }

    proptest! {
        #[test]
        fn no_client_chooses_the_host(rest in "((/|%2[fF])(\\PC|[/\\\\@:?%.a]){0,20})?(\\?\\PC{0,10})?") {
            let path = destination("/", &rest);
            let second = path.chars().nth(1);
            prop_assert!(path.starts_with('/') && !matches!(second, Some('/' | '\\')), "{path}");
            let url = destination("https://x.example", &rest);
            let behind = url.strip_prefix("https://x.example").unwrap();
            prop_assert!(behind.is_empty() || behind.starts_with(['/', '?']), "{url}");
            prop_assert!(HeaderValue::try_from(url).is_ok());
        }
    }
}
