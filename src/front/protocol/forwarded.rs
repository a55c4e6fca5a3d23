//! Determines the client: the peer, or the client that trusted proxies declare.
//!
//! Forwarding headers are honoured from trusted peers only; from all others they are removed, so
//! that they cannot deceive an upstream. Their content becomes the [`Client`], which the rest of
//! the front uses.
//!
//! 1. `X-Forwarded-*` take precedence over `Forwarded` (RFC 7239), which is then removed: nearly
//!    every proxy writes the former, and passes on a client's own `Forwarded`.
//!    With `trust_header`, the client's address is read from that field, and from no other.
//! 2. Addresses are walked from the right, where the nearest proxy wrote, to the first that is not
//!    trusted: that is the client. An element that is not an address ends the walk at its proxy.
//! 3. Scheme, host, port and prefix are taken from the same position of their lists, or from the
//!    left of shorter ones, which the outermost proxy wrote alone. A proxy that declares a scheme
//!    and no port has passed on the client's `Host`: its port counts.
//!    `X-Forwarded-Ssl` and `X-Forwarded-Protocol` count where `X-Forwarded-Proto` declares nothing, and the
//!    settings name them.
//! 4. Headers from which an upstream could read a scheme are rewritten to the one found.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::limits::valid_host;
use crate::config::request_headers::{
    FORWARDED_FOR as FOR, FORWARDED_HOST as HOST, FORWARDED_PORT as PORT, FORWARDED_PROTO as PROTO,
};
use crate::config::{ForwardedFact, Scheme, Trust};
use crate::front::context::{Client, Endpoints};

/// Headers that declare the origin of a request.
const FORWARDING: [&str; 15] = [
    "forwarded",
    "front-end-https",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
    "x-client-ip",
];

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const SSL: HeaderName = HeaderName::from_static("x-forwarded-ssl");
const PROTOCOL: HeaderName = HeaderName::from_static("x-forwarded-protocol");

/// Other names for `X-Forwarded-Proto`, with their values for `http` and `https`. uWSGI, gunicorn
/// and Rails read one or the other.
const SCHEMES: [(HeaderName, [&str; 2]); 6] = [
    (
        HeaderName::from_static("x-forwarded-protocol"),
        ["http", "https"],
    ),
    (
        HeaderName::from_static("x-forwarded-scheme"),
        ["http", "https"],
    ),
    (HeaderName::from_static("x-scheme"), ["http", "https"]),
    (HeaderName::from_static("x-url-scheme"), ["http", "https"]),
    (HeaderName::from_static("x-forwarded-ssl"), ["off", "on"]),
    (HeaderName::from_static("front-end-https"), ["off", "on"]),
];

/// Longest prefix accepted.
const LONGEST_PREFIX: usize = 1024;

/// Finds the client of a request, and leaves only true statements about it in `headers`. Its host
/// is empty where no proxy names one; `authority` is that of the request's target, which takes
/// precedence over the field `Host`.
pub fn resolve(
    headers: &mut HeaderMap,
    authority: Option<&str>,
    ends: &Endpoints,
    trust: &Trust,
) -> Client {
    let mut client = Client::direct(ends);
    // Most requests have none of these headers: one test per name instead of a search for each.
    if !headers.keys().any(|name| is_noticed(name, trust)) {
        return client;
    }
    // httpoxy: CGI programs take HTTP_PROXY for the proxy to use.
    headers.remove("proxy");
    if !ends.trusted {
        for name in FORWARDING {
            headers.remove(name);
        }
        if let Some(name) = trust.client_field() {
            headers.remove(name);
        }
        return client;
    }
    let declared = match Declared::from_x_fields(headers, trust) {
        Some(declared) => {
            headers.remove(FORWARDED);
            declared
        }
        None => Declared::by_forwarded(headers, trust),
    };
    let declared = declared.believed(trust);
    let scheme_is_declared = declared.scheme.is_some();
    let field = || headers.get(header::HOST)?.to_str().ok();
    let asked = authority.or_else(field).and_then(port_of_host);
    declared.apply(&mut client, asked);
    rewrite(headers, &client, scheme_is_declared, trust);
    client
}

/// True if a header of this name is honoured or removed.
pub fn is_noticed(name: &HeaderName, trust: &Trust) -> bool {
    let is_of_client = trust.client_field() == Some(name);
    let name = name.as_str();
    // All of the others begin so, and few beside them.
    is_of_client
        || name.starts_with(['f', 'p', 'x']) && (name == "proxy" || FORWARDING.contains(&name))
}

/// An address in a chain of proxies, with its port if declared.
type Node = (IpAddr, Option<u16>);

/// The declarations of proxies about their client; `None` for those that are missing or malformed.
#[derive(Debug, Default)]
struct Declared {
    address: Option<Node>,
    scheme: Option<Scheme>,
    host: Option<String>,
    port: Option<u16>,
    prefix: Option<String>,
}

impl Declared {
    fn from_x_fields(headers: &HeaderMap, trust: &Trust) -> Option<Self> {
        let fields = [FOR, HOST, PORT, PREFIX, PROTO];
        let rare = [
            (SSL, ForwardedFact::Ssl),
            (PROTOCOL, ForwardedFact::Protocol),
        ];
        let is_rare_one = |(name, fact): &(HeaderName, ForwardedFact)| {
            trust.believes(*fact) && headers.contains_key(name)
        };
        let mut fields = fields.iter().chain(trust.client_field());
        if !fields.any(|name| headers.contains_key(name)) && !rare.iter().any(is_rare_one) {
            return None;
        }
        let (address, hop) = match trust.client_field() {
            Some(field) if *field != FOR => walk(in_first(headers, field).map(node), trust),
            _ => walk(from_the_right(headers, &FOR).map(node), trust),
        };
        Some(Self {
            address,
            scheme: declared_scheme(headers, hop, trust),
            host: at_hop(headers, &HOST, hop).and_then(host),
            port: at_hop(headers, &PORT, hop).and_then(port),
            prefix: at_hop(headers, &PREFIX, hop).and_then(prefix),
        })
    }

    fn by_forwarded(headers: &HeaderMap, trust: &Trust) -> Self {
        let lines = headers.get_all(FORWARDED).iter();
        let elements: Vec<Element<'_>> = lines.flat_map(|line| elements(line.as_bytes())).collect();
        let nodes = elements
            .iter()
            .rev()
            .map(|element| element.for_.as_deref().and_then(node));
        let (address, hop) = walk(nodes, trust);
        // `hop` counts from the right; an empty list has no element.
        let Some(element) = elements.iter().nth_back(hop) else {
            return Self::default();
        };
        Self {
            address: address.filter(|_| trust.client_field().is_none()),
            scheme: element
                .proto
                .as_deref()
                .and_then(scheme)
                .filter(|_| trust.believes(ForwardedFact::Proto)),
            host: element.host.as_deref().and_then(host),
            ..Self::default()
        }
    }

    /// The declarations that the settings read; the scheme is one already.
    fn believed(self, trust: &Trust) -> Self {
        let may = |fact| trust.believes(fact);
        Self {
            address: self.address.filter(|_| may(ForwardedFact::For)),
            scheme: self.scheme,
            host: self.host.filter(|_| may(ForwardedFact::Host)),
            port: self.port.filter(|_| may(ForwardedFact::Port)),
            prefix: self.prefix.filter(|_| may(ForwardedFact::Prefix)),
        }
    }

    /// `asked` is the port in the host that the request itself names.
    fn apply(self, client: &mut Client, asked: Option<u16>) {
        if let Some((address, port)) = self.address {
            client.address = Some(address);
            client.port = port;
        }
        if let Some(scheme) = self.scheme {
            client.scheme = scheme;
        }
        // A client of a proxy did not connect to this server's port.
        let in_host = match &self.host {
            Some(host) => port_of_host(host),
            None => asked,
        };
        let came_through = self.scheme.is_some() || self.host.is_some();
        client.server_port = match self.port {
            Some(port) => port,
            None if came_through => in_host.unwrap_or(client.scheme.port()),
            None => client.server_port,
        };
        client.host = self.host.unwrap_or_default();
        client.prefix = self.prefix.unwrap_or_default();
    }
}

/// The client's address, and the position from the right of the last entry examined. `None`: there
/// is no usable address, and the client is the peer.
fn walk(nodes: impl Iterator<Item = Option<Node>>, trust: &Trust) -> (Option<Node>, usize) {
    let (mut found, mut last) = (None, 0);
    for (hop, node) in nodes.take(trust.most_hops()).enumerate() {
        last = hop;
        // A trusted proxy does not know its client: the proxy is the nearest known address.
        let Some(node) = node else { break };
        found = Some(node);
        if !trust.trusts(Some(node.0)) {
            break;
        }
    }
    (found, last)
}

/// The members of a list field, the last first; empty ones do not count (RFC 9110 §5.6.1).
fn from_the_right<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    let members = |line: &'a HeaderValue| line.as_bytes().rsplit(|byte| *byte == b',');
    lines
        .into_iter()
        .rev()
        .flat_map(members)
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The addresses in the first field of this name, the last first, as nginx separates them
/// (`ngx_http_get_forwarded_addr_internal`).
fn in_first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let line = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    line.rsplit(|byte| matches!(byte, b',' | b' '))
        .filter(|member| !member.is_empty())
}

/// The member at position `hop` from the right, or the first of a shorter list.
fn at_hop<'a>(headers: &'a HeaderMap, name: &HeaderName, hop: usize) -> Option<&'a [u8]> {
    from_the_right(headers, name).take(hop + 1).last()
}

/// The scheme that the nearest of the fields declares which the settings read. The values of the latter two are
/// those of gunicorn's `secure_scheme_headers`; `https` is what Django's `SECURE_PROXY_SSL_HEADER` looks for.
fn declared_scheme(headers: &HeaderMap, hop: usize, trust: &Trust) -> Option<Scheme> {
    let said = |name: &HeaderName, fact| {
        let is_read = trust.believes(fact);
        at_hop(headers, name, hop).filter(|_| is_read)
    };
    let secure = |is_secure: bool| match is_secure {
        true => Scheme::Https,
        false => Scheme::Http,
    };
    said(&PROTO, ForwardedFact::Proto)
        .and_then(scheme)
        .or_else(|| said(&SSL, ForwardedFact::Ssl).map(|value| secure(value == b"on")))
        .or_else(|| {
            let value = said(&PROTOCOL, ForwardedFact::Protocol)?;
            Some(secure(matches!(value, b"ssl" | b"https")))
        })
}

/// One element of a `Forwarded` field (RFC 7239 §4), unquoted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element<'a> {
    for_: Option<Cow<'a, [u8]>>,
    proto: Option<Cow<'a, [u8]>>,
    host: Option<Cow<'a, [u8]>>,
}

/// The elements of a line, from left to right. A malformed one becomes an empty element, so that it
/// ends the walk.
fn elements(line: &[u8]) -> Vec<Element<'_>> {
    split_unquoted(line, b',')
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .map(|element| read_element(element).unwrap_or_default())
        .collect()
}

fn read_element(element: &[u8]) -> Option<Element<'_>> {
    let mut read = Element::default();
    for pair in split_unquoted(element, b';') {
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], unquoted(&pair[equals + 1..])?);
        let place = match name.to_ascii_lowercase().as_slice() {
            b"for" => &mut read.for_,
            b"proto" => &mut read.proto,
            b"host" => &mut read.host,
            _ => continue,
        };
        // RFC 7239 §4: each parameter at most once.
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(read)
}

/// Splits at `separator`, except between double quotes.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A token or a quoted string (RFC 9110 §5.6.4) without its quotes.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inside) = value.strip_prefix(b"\"") else {
        return (!value.is_empty() && !value.contains(&b'"')).then_some(value.into());
    };
    let inside = inside.strip_suffix(b"\"")?;
    if !inside.contains(&b'\\') {
        return (!inside.contains(&b'"')).then_some(inside.into());
    }
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.push(*bytes.next()?),
            b'"' => return None,
            byte => plain.push(*byte),
        }
    }
    Some(plain.into())
}

/// Parses `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`, quoted or not. `unknown`, obfuscated
/// names and everything else are not addresses; an obfuscated port is ignored.
fn node(text: &[u8]) -> Option<Node> {
    let text = str::from_utf8(text).ok()?.trim_matches('"');
    let (address, behind) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']')?;
            (IpAddr::V6(address.parse().ok()?), behind)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let colon = text.find(':')?;
                (IpAddr::V4(text[..colon].parse().ok()?), &text[colon..])
            }
        },
    };
    let hidden = |port: &str| port.len() > 1 && port.starts_with('_');
    let port = match behind.strip_prefix(':') {
        None if behind.is_empty() => None,
        None => return None,
        Some(hidden_port) if hidden(hidden_port) => None,
        Some(digits) => Some(port(digits.as_bytes())?),
    };
    Some((address.to_canonical(), port))
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    // WebSocket clients have schemes of their own (Traefik).
    match text.to_ascii_lowercase().as_slice() {
        b"http" | b"ws" => Some(Scheme::Http),
        b"https" | b"wss" => Some(Scheme::Https),
        _ => None,
    }
}

fn host(text: &[u8]) -> Option<String> {
    valid_host(text)
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
}

fn port(text: &[u8]) -> Option<u16> {
    let digits = str::from_utf8(text).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5;
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

fn port_of_host(host: &str) -> Option<u16> {
    let (_, digits) = host.rsplit_once(':').filter(|_| !host.ends_with(']'))?;
    port(digits.as_bytes())
}

/// `/app`, without a trailing slash. Two leading slashes would turn every link of the application
/// into one to another host.
fn prefix(text: &[u8]) -> Option<String> {
    let prefix = str::from_utf8(text).ok()?.trim_end_matches('/');
    let plain = |segment: &str| {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
    };
    let segments = prefix.strip_prefix('/')?;
    (prefix.len() <= LONGEST_PREFIX && segments.split('/').all(plain)).then(|| prefix.to_owned())
}

/// The remaining headers agree with the client found: uWSGI takes `wsgi.url_scheme` from
/// `X-Forwarded-Proto` and `HTTPS` from `X-Forwarded-SSL`, regardless of their author. What the settings do
/// not read from trusted peers stays as those sent it, as behind nginx.
fn rewrite(headers: &mut HeaderMap, client: &Client, scheme_is_declared: bool, trust: &Trust) {
    if trust.believes(ForwardedFact::Proto) {
        rewrite_scheme(headers, client.scheme, scheme_is_declared);
    }
    if client.host.is_empty() && trust.believes(ForwardedFact::Host) {
        headers.remove(HOST);
    }
    if client.prefix.is_empty() && trust.believes(ForwardedFact::Prefix) {
        headers.remove(PREFIX);
    }
}

fn rewrite_scheme(headers: &mut HeaderMap, scheme: Scheme, is_declared: bool) {
    let value = HeaderValue::from_static(scheme.as_str());
    match is_declared {
        true => drop(headers.insert(PROTO, value)),
        false => drop(headers.remove(PROTO)),
    }
    for (name, values) in SCHEMES {
        // gunicorn's word for `https`, which an application may look for.
        let is_so = |value: &HeaderValue| scheme == Scheme::Https && value == "ssl";
        let mut all = headers.get_all(&name).iter();
        if name == PROTOCOL && all.next().is_some_and(is_so) && all.next().is_none() {
            continue;
        }
        if let Some(value) = headers.get_mut(&name) {
            let said = values[usize::from(scheme == Scheme::Https)];
            *value = HeaderValue::from_static(said);
            // A second one would stay after the first.
            let value = value.clone();
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
