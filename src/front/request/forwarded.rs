//! Which header fields a client may not say for itself.
//!
//! Fields with which proxies tell about their client are believed from trusted peers only;
//! from all others they are removed, so that nothing behind us can be fooled by them.
//! They are handed on as they came; `REMOTE_ADDR` and the scheme are the connection's own.

use http::HeaderMap;
use http::header::HeaderName;

/// Fields that state where a request came from.
const FORWARDING: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
];

/// Removes what an untrusted peer may not say, and what nobody may.
pub fn strip(headers: &mut HeaderMap, trusted: bool) {
    // Most requests have none of them: one look at each name instead of a search for each.
    if !headers.keys().any(|name| is_stripped(name, trusted)) {
        return;
    }
    let stripped = headers.keys().filter(|name| is_stripped(name, trusted));
    for name in stripped.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn is_stripped(name: &HeaderName, trusted: bool) -> bool {
    let name = name.as_str();
    // httpoxy: CGI programs take HTTP_PROXY for the proxy to use.
    name == "proxy" || !trusted && FORWARDING.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn forwarding_fields_pass_from_trusted_peers_only() {
        for (trusted, left) in [(true, 11), (false, 1)] {
            let mut headers = HeaderMap::new();
            for name in FORWARDING.into_iter().chain(["proxy", "accept"]) {
                headers.insert(name, HeaderValue::from_static("x"));
            }
            strip(&mut headers, trusted);
            assert_eq!(headers.len(), left);
        }
    }
}
