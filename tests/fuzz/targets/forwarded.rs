//! What proxies say about their clients, against the rules written down a second time.
//!
//! The input is a head's fields, one a line; an empty first line stands for a peer that is
//! not trusted.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use pyserve::internals::Scheme;
use pyserve::internals::Trust;
use pyserve::internals::context::{Client, Endpoints};
use pyserve::internals::protocol::forwarded::resolve;
use pyserve::internals::protocol::limits::valid_host;

const PEER: &str = "10.0.0.1";
const MOST_HOPS: usize = 50;
/// Who reads a scheme from which field, and how `https` is said there.
const SCHEMES: [(&str, [&str; 2]); 7] = [
    ("x-forwarded-proto", ["http", "https"]),
    ("x-forwarded-protocol", ["http", "https"]),
    ("x-forwarded-scheme", ["http", "https"]),
    ("x-scheme", ["http", "https"]),
    ("x-url-scheme", ["http", "https"]),
    ("x-forwarded-ssl", ["off", "on"]),
    ("front-end-https", ["off", "on"]),
];

/// Nobody can make us believe an address, a scheme, a host or a prefix that no trusted
/// proxy wrote.
pub fn run(input: &[u8]) {
    let trusted = !input.starts_with(b"\n");
    let before = fields(input);
    let (client, after) = resolved(&before, trusted);
    assert_eq!(after.get("proxy"), None, "httpoxy");
    if !trusted {
        assert_eq!(client, Client::direct(&ends(false)));
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-real-ip",
        ] {
            assert!(!after.contains_key(name), "{name}");
        }
        for (name, _) in SCHEMES {
            assert!(!after.contains_key(name), "{name}");
        }
        return;
    }
    check_address(&client, &before);
    check_scheme(&client, &after);
    assert!(client.host.is_empty() || valid_host(client.host.as_bytes()) == Some(&client.host));
    assert!(client.prefix.is_empty() || client.prefix.starts_with('/'));
    for bad in ["//", "/../", "/./", "\\", "%", " ", "?", "#"] {
        assert!(
            !format!("{}/", client.prefix).contains(bad),
            "{}",
            client.prefix
        );
    }
    assert_ne!(client.server_port, 0);
    // RFC 9110 §5.3: lines of one field are one list. A quote that is not closed ends with
    // its line.
    if !values(&before, "forwarded").concat().contains(&b'"') {
        let (joined, _) = resolved(&on_one_line(&before), true);
        assert_eq!(joined, client);
    }
}

fn fields(input: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 1..])) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            // Two hosts are refused before anyone asks for the client.
            if name != HOST || !fields.contains_key(HOST) {
                fields.append(name, value);
            }
        }
    }
    fields
}

fn ends(trusted: bool) -> Endpoints {
    Endpoints {
        peer: Some(format!("{PEER}:4000").parse().unwrap()),
        local: Some("10.0.0.2:8000".parse().unwrap()),
        trusted,
        ..Endpoints::default()
    }
}

fn trust() -> Trust {
    let mut trust = Trust::default();
    trust.add("10.0.0.0/8").unwrap();
    trust.add("fd00::/8").unwrap();
    trust
}

fn resolved(fields: &HeaderMap, trusted: bool) -> (Client, HeaderMap) {
    let mut fields = fields.clone();
    let client = resolve(&mut fields, None, &ends(trusted), &trust());
    (client, fields)
}

fn values<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let values = fields.get_all(name).iter();
    values.map(HeaderValue::as_bytes).collect()
}

fn check_address(client: &Client, before: &HeaderMap) {
    let peer: IpAddr = PEER.parse().unwrap();
    let names = ["for", "host", "port", "prefix", "proto"];
    let x_fields = names.map(|name| format!("x-forwarded-{name}"));
    if x_fields.iter().any(|name| before.contains_key(name)) {
        let chain = values(before, "x-forwarded-for").join(&b","[..]);
        let expected = client_of(&chain).unwrap_or(peer);
        assert_eq!(client.address, Some(expected), "{}", chain.escape_ascii());
        return;
    }
    // Of `Forwarded` only that it says so, and behind whom.
    let address = client.address.expect("the peer at least");
    let mut said = values(before, "forwarded").join(&b","[..]);
    // Between quotes it stands before characters that mean themselves anyway.
    said.retain(|byte| *byte != b'\\');
    let is_of_an_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let mut runs = said.split(|byte| !is_of_an_address(byte));
    let is_this = |text: &str| {
        text.parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical() == address)
    };
    let names_it = |run: &[u8]| {
        let text = str::from_utf8(run).unwrap();
        is_this(text) || text.split_once(':').is_some_and(|(ip, _port)| is_this(ip))
    };
    assert!(
        address == peer || runs.any(names_it),
        "{}",
        said.escape_ascii()
    );
}

/// The first from the right that is not trusted, or the last that can be read before one
/// that cannot.
fn client_of(chain: &[u8]) -> Option<IpAddr> {
    let members = chain.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut found = None;
    for member in members.filter(|member| !member.is_empty()).take(MOST_HOPS) {
        let Some(address) = address(member) else {
            return found;
        };
        found = Some(address);
        let private = match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.octets()[0] == 0xFD,
        };
        if !private {
            return found;
        }
    }
    found
}

/// An address, in brackets or not, with a port or not.
fn address(member: &[u8]) -> Option<IpAddr> {
    let member = str::from_utf8(member).ok()?.trim_matches('"');
    if let Ok(address) = member.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match member.strip_prefix('[') {
        Some(rest) => {
            let (inside, behind) = rest.split_once(']')?;
            (inside.parse::<std::net::Ipv6Addr>().ok()?.into(), behind)
        }
        None => {
            let colon = member.find(':')?;
            let address = member[..colon].parse::<std::net::Ipv4Addr>().ok()?;
            (address.into(), &member[colon..])
        }
    };
    let digits = port.strip_prefix(':').unwrap_or("1");
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5;
    let is_port = is_number
        && digits
            .parse::<u32>()
            .is_ok_and(|port| (1..65536).contains(&port));
    let is_hidden = digits.len() > 1 && digits.starts_with('_');
    let is_all = port.is_empty() || port.starts_with(':');
    (is_all && (is_port || is_hidden)).then(|| IpAddr::to_canonical(&address))
}

fn check_scheme(client: &Client, after: &HeaderMap) {
    for (name, said) in SCHEMES {
        let expected = said[usize::from(client.scheme == Scheme::Https)];
        let values = values(after, name);
        assert!(values.len() <= 1, "{name}");
        assert!(
            values.iter().all(|value| *value == expected.as_bytes()),
            "{name}"
        );
    }
}

fn on_one_line(fields: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::new();
    for name in fields.keys() {
        let value = values(fields, name.as_str()).join(&b", "[..]);
        joined.insert(
            name,
            HeaderValue::from_bytes(&value).expect("as valid as its parts"),
        );
    }
    joined
}
