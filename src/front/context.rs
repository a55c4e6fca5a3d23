//! The facts about a request before it is answered: its id, its client, its connection.

use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, Method};

use super::tls::facts::TlsFacts;
use crate::config::Scheme;

/// The id of a request; taken over from trusted proxies, and sent with every response.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The label of a request in log lines.
#[derive(Debug, Default)]
pub struct RequestLabel {
    /// The id of the request, in every log line, in the response and for the application.
    pub request_id: String,
    /// Its method.
    pub method: Method,
    /// Its target as the client sent it, untrusted text.
    pub target: Target,
    /// Method and target of a request so malformed that neither of the above can hold them.
    pub as_sent: Option<Box<AsSent>>,
}

/// Method and target of a malformed request, any bytes; empty where it has none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AsSent {
    /// The method.
    pub method: Vec<u8>,
    /// The target.
    pub target: Vec<u8>,
}

impl RequestLabel {
    /// The method as the client sent it.
    pub fn method_sent(&self) -> &[u8] {
        match &self.as_sent {
            Some(sent) => &sent.method,
            None => self.method.as_str().as_bytes(),
        }
    }

    /// The target as the client sent it.
    pub fn target_sent(&self) -> &[u8] {
        match &self.as_sent {
            Some(sent) => &sent.target,
            None => self.target.0.as_bytes(),
        }
    }
}

/// Prints a client's text on one line and no longer than a log line should be: control characters,
/// quotes and invalid UTF-8 are escaped, a long text is truncated.
#[derive(Debug, Clone, Copy)]
pub struct Printed<'a>(pub &'a [u8]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = LONGEST_PRINTED;
        for chunk in self.0.utf8_chunks() {
            let text = chunk.valid().chars().map(char::escape_debug);
            let text = text.map(|escaped| escaped.to_string());
            let others = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
            for part in text.chain(others) {
                let Some(rest) = left.checked_sub(part.len()) else {
                    return f.write_str("...");
                };
                left = rest;
                f.write_str(&part)?;
            }
        }
        Ok(())
    }
}

/// Bytes of a client's text in a log line: long URLs have some hundred.
const LONGEST_PRINTED: usize = 2048;

/// A request target that prints with control characters escaped, so that it cannot forge
/// a log line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Target(pub String);

impl Target {
    /// The path alone: queries may contain tokens.
    pub fn without_query(&self) -> Self {
        Self(self.0.split('?').next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printed(self.0.as_bytes()).fmt(f)
    }
}

/// The addresses of both ends of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Endpoints {
    /// The client's address, perhaps from a balancer's PROXY header; `None` over a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address that the client connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// True if the settings trust the peer's `X-Request-ID` and forwarding headers.
    pub trusted: bool,
    /// The scheme by which the client reached the balancer, if its PROXY header has it.
    pub scheme: Scheme,
}

impl Endpoints {
    /// The client's address without port; `None` over a Unix socket.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }
}

/// The client and the host it requests, according to the peer or to trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's address; `None` for a Unix socket's peer without further information.
    pub address: Option<IpAddr>,
    /// The client's port, if known.
    pub port: Option<u16>,
    /// The scheme by which the client reached us, or the outermost trusted proxy.
    pub scheme: Scheme,
    /// The authority that the request is for, `example.org:8080`.
    pub host: String,
    /// The port that the client connected to: ours, or the one forwarded by a proxy.
    pub server_port: u16,
    /// Path that a proxy has removed from the front of the target, `/app`; usually empty.
    pub prefix: String,
    /// The user whose password was right, if one was asked for.
    pub user: Option<Box<[u8]>>,
}

impl Client {
    /// The peer itself, without forwarded information. The host is not known yet.
    pub fn direct(ends: &Endpoints) -> Self {
        Self {
            address: ends.peer_ip(),
            port: ends.peer.map(|peer| peer.port()),
            scheme: ends.scheme,
            host: String::new(),
            server_port: ends.local.map_or(ends.scheme.port(), |local| local.port()),
            prefix: String::new(),
            user: None,
        }
    }

    /// The requested host in lower case, without its port and the dot at its end (nginx: `$host`).
    pub fn host_name(&self) -> String {
        let name = host_without_port(&self.host);
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    }
}

/// Longest `X-Request-ID` taken over from a trusted peer.
const LONGEST_ID: usize = 128;

/// The request's id: the trusted peer's, if it is usable, else a new one.
pub fn request_id(headers: &HeaderMap, trusted: bool) -> String {
    let given = || {
        let id = headers.get("x-request-id")?.to_str().ok()?;
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&byte);
        (!id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(usable)).then(|| id.to_owned())
    };
    trusted.then(given).flatten().unwrap_or_else(new_id)
}

/// 32 hexadecimal digits, unique in this process and, by its random start, elsewhere. It identifies
/// a request; it is not a secret.
fn new_id() -> String {
    static START: LazyLock<[u64; 2]> = LazyLock::new(|| {
        [
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1),
        ]
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // The finaliser of SplitMix64: a bijection, so that no two counts give one id.
    let mut mixed = START[1].wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let mut id = [0; 32];
    for (half, number) in id.chunks_exact_mut(16).zip([START[0], mixed]) {
        for (at, digit) in half.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (60 - at * 4) & 0xF) as usize];
        }
    }
    str::from_utf8(&id).unwrap_or_default().to_owned()
}

/// A mark of requests for which the settings state fields that servers else get from the server itself.
#[derive(Debug, Clone, Copy)]
pub struct Stated {
    /// `X-Forwarded-Host` is that of the settings.
    pub host: bool,
    /// So is `X-Forwarded-For`.
    pub addresses: bool,
    /// So is `X-Forwarded-Proto`.
    pub scheme: bool,
    /// So is `X-Forwarded-Port`.
    pub port: bool,
}

/// The facts about a request that an upstream gets beyond its head.
pub struct RequestFacts<'a> {
    /// The addresses of the connection.
    pub ends: &'a Endpoints,
    /// The client's TLS session; `None` without one.
    pub tls: Option<&'a TlsFacts>,
    /// The client and the host it requests.
    pub client: &'a Client,
    /// Decoded path at which the application is mounted, without a trailing slash; usually empty.
    pub mount: &'a str,
    /// The rest of the path behind the mount, percent-encoded.
    pub path: &'a str,
    /// True if that is the normal form, which HTTP servers get in place of the client's, too.
    pub normal_path: bool,
    /// The request's id.
    pub request_id: &'a str,
    /// True length of the body in bytes; `None` where the request has none.
    pub body_length: Option<u64>,
    /// Variables of the location besides those of every request.
    pub variables: &'a [(String, OsString)],
}

/// True if the name of a field has letters, digits and hyphens only.
pub fn is_plain(name: &HeaderName) -> bool {
    let mut bytes = name.as_str().bytes();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The name in the value of `Host`, which may have a port behind it.
pub fn host_without_port(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|_| host.find(']')) {
        return &host[..=end];
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn an_id_is_taken_over_only_from_trusted_peers_and_only_if_usable() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("abc-1"));
        assert_eq!(request_id(&headers, true), "abc-1");
        assert_ne!(request_id(&headers, false), "abc-1");
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(129)] {
            headers.insert(
                "x-request-id",
                HeaderValue::from_bytes(bad.as_bytes()).unwrap(),
            );
            assert_eq!(request_id(&headers, true).len(), 32, "{bad:?}");
        }
    }

    #[test]
    fn new_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn a_target_cannot_forge_a_log_line() {
        assert_eq!(Target("/a\r\nb\x1b".into()).to_string(), "/a\\r\\nb\\u{1b}");
    }
}
