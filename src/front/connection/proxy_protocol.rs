//! The PROXY protocol (HAProxy, "The PROXY protocol", versions 1 and 2): a header in front of the
//! first request, with which a balancer that does not speak HTTP declares its client.
//!
//! [`parse`] is pure; [`read_into`] waits for the bytes. The listener decides which peers send the
//! header; from those it is mandatory: with detection, a client could send one too (section 2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The addresses that the first bytes of a connection declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy itself, for instance a health check.
    Proxy,
    /// A client whose addresses are not given, or are not IP addresses.
    Unknown {
        /// True if the client uses TLS.
        tls: bool,
    },
    /// A client.
    Client {
        /// Its address.
        source: SocketAddr,
        /// The address to which it connected.
        destination: SocketAddr,
        /// True if the client uses TLS.
        tls: bool,
    },
}

/// An unreadable header; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The bytes are not a header.
    #[error("{0}")]
    Malformed(&'static str),
    /// It did not arrive in time.
    #[error("it did not arrive in time (--header-timeout)")]
    Late,
    /// The connection ended inside the header.
    #[error("the connection ended inside the header")]
    Ended,
    /// The connection ended before the header: a probe of the port.
    #[error("the connection ended before the header")]
    Nothing,
    /// The error of the system call.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// First bytes of a header of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// First bytes of a header of version 1 (section 2.1).
const WORD: &[u8] = b"PROXY ";
/// Longest header of version 1 with its line end (section 2.1).
const LONGEST_LINE: usize = 107;
/// Longest body of version 2: nginx's limit. Addresses take 36 bytes, and the extensions of TLS
/// terminators a few hundred.
const LONGEST_BODY: usize = 4096;
/// Length of a header of version 2 without its body.
const FIXED: usize = 16;
/// Type of the extension for TLS (section 2.2.6), and its bit for "over TLS".
const TLS: (u8, u8) = (0x20, 0x01);

/// A buffer for [`read_into`].
pub fn buffer() -> BytesMut {
    BytesMut::with_capacity(FIXED + LONGEST_BODY)
}

/// Reads a header from a new connection; returns it with the bytes received after it. The received
/// bytes stay in `bytes` if the caller stops waiting.
///
/// # Errors
/// [`Unreadable`]: nothing on this connection can be understood.
pub async fn read_into(
    bytes: &mut BytesMut,
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<(ProxyHeader, Bytes), Unreadable> {
    loop {
        if let Some((length, origin)) = parse(bytes)? {
            return Ok((origin, bytes.split_off(length).freeze()));
        }
        if socket.read_buf(bytes).await? == 0 {
            return Err(match bytes.is_empty() {
                true => Unreadable::Nothing,
                false => Unreadable::Ended,
            });
        }
    }
}

/// Parses a header at the beginning of `bytes`: its length and content. `None`: more bytes are
/// needed.
///
/// # Errors
/// [`Unreadable::Malformed`], as soon as the bytes can no longer become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, ProxyHeader)>, Unreadable> {
    let begins = |mark: &[u8]| {
        let common = mark.len().min(bytes.len());
        bytes[..common] == mark[..common]
    };
    if begins(SIGNATURE) {
        version_2(bytes)
    } else if begins(WORD) {
        version_1(bytes)
    } else {
        Err(Unreadable::Malformed("this is not a PROXY header"))
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<(usize, ProxyHeader)>, Unreadable> {
    let visible = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = visible.windows(2).position(|pair| pair == b"\r\n") else {
        return match visible.len() {
            LONGEST_LINE => Err(Unreadable::Malformed("the line of version 1 has no end")),
            _ => Ok(None),
        };
    };
    let malformed = Unreadable::Malformed("the line of version 1 is malformed");
    let line = str::from_utf8(&visible[WORD.len()..end]).ok();
    let mut words = line.ok_or(malformed)?.split(' ');
    let origin = match words.next() {
        // Anything after it is ignored (section 2.1).
        Some("UNKNOWN") => Some(ProxyHeader::Unknown { tls: false }),
        Some("TCP4") => endpoints::<Ipv4Addr>(&mut words),
        Some("TCP6") => endpoints::<Ipv6Addr>(&mut words),
        _ => None,
    };
    let malformed = Unreadable::Malformed("the line of version 1 is malformed");
    Ok(Some((end + 2, origin.ok_or(malformed)?)))
}

fn endpoints<'a, A: std::str::FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Option<ProxyHeader> {
    let address = |word: Option<&str>| Some(word?.parse::<A>().ok()?.into());
    let port = |word: Option<&str>| {
        let is_plain = |digits: &&str| {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'))
        };
        word.filter(is_plain)?.parse::<u16>().ok()
    };
    let (source, destination) = (address(words.next())?, address(words.next())?);
    let (from, to) = (port(words.next())?, port(words.next())?);
    words.next().is_none().then_some(ProxyHeader::Client {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        tls: false,
    })
}

fn version_2(bytes: &[u8]) -> Result<Option<(usize, ProxyHeader)>, Unreadable> {
    let Some(&[version_and_command, family, high, low]) = bytes
        .get(SIGNATURE.len()..)
        .and_then(<[u8]>::first_chunk::<4>)
    else {
        return Ok(None);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Unreadable::Malformed("unknown version or command")),
    };
    // Length of the addresses; only stream sockets are meaningful here.
    let addresses = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // Anything after LOCAL is ignored (section 2.2).
        _ if is_local => 0,
        _ => return Err(Unreadable::Malformed("unknown address family")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BODY {
        return Err(Unreadable::Malformed("the header is too long"));
    }
    if length < addresses && !is_local {
        return Err(Unreadable::Malformed("the addresses are truncated"));
    }
    let Some(body) = bytes.get(FIXED..FIXED + length) else {
        return Ok(None);
    };
    let origin = match is_local {
        true => ProxyHeader::Proxy,
        false => {
            let (addresses, extensions) = body.split_at(addresses);
            let tls = over_tls(extensions)?;
            match ip_endpoints(addresses) {
                Some((source, destination)) => ProxyHeader::Client {
                    source,
                    destination,
                    tls,
                },
                None => ProxyHeader::Unknown { tls },
            }
        }
    };
    Ok(Some((FIXED + length, origin)))
}

/// Source and destination, source port and destination port.
fn ip_endpoints(addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    fn pair<A: Into<IpAddr>, const N: usize>(
        bytes: &[u8],
        address: impl Fn([u8; N]) -> A,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let (source, rest) = bytes.split_first_chunk::<N>()?;
        let (destination, ports) = rest.split_first_chunk::<N>()?;
        let &[from_high, from_low, to_high, to_low] = ports.first_chunk::<4>()?;
        let endpoint = |bytes: &[u8; N], port| SocketAddr::new(address(*bytes).into(), port);
        Some((
            endpoint(source, u16::from_be_bytes([from_high, from_low])),
            endpoint(destination, u16::from_be_bytes([to_high, to_low])),
        ))
    }
    match addresses.len() {
        12 => pair::<Ipv4Addr, 4>(addresses, Ipv4Addr::from),
        36 => pair::<Ipv6Addr, 16>(addresses, Ipv6Addr::from),
        _ => None,
    }
}

/// Walks over the extensions (type, length, value), of which one matters.
fn over_tls(mut extensions: &[u8]) -> Result<bool, Unreadable> {
    let mut tls = false;
    while !extensions.is_empty() {
        let value = extensions
            .split_first_chunk::<3>()
            .and_then(|(&[kind, high, low], rest)| {
                let length = usize::from(u16::from_be_bytes([high, low]));
                Some((kind, rest.split_at_checked(length)?))
            });
        let Some((kind, (value, rest))) = value else {
            return Err(Unreadable::Malformed("an extension is truncated"));
        };
        tls |= kind == TLS.0 && value.first().is_some_and(|bits| bits & TLS.1 != 0);
        extensions = rest;
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length[..], body].concat()
    }

    fn client(source: &str, destination: &str, tls: bool) -> ProxyHeader {
        ProxyHeader::Client {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            tls,
        }
    }

    const IPV4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 0xBB];

    fn check(bytes: &[u8], expected: Option<ProxyHeader>) {
        let mut with_request = bytes.to_vec();
        with_request.extend(b"GET / HTTP/1.1\r\n\r\n");
        match (parse(&with_request), expected) {
            (Ok(Some((length, origin))), Some(expected)) => {
                assert_eq!((length, origin), (bytes.len(), expected));
            }
            (Err(_), None) => {}
            (parsed, expected) => panic!("{parsed:?}, not {expected:?}: {}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn version_1_is_read_to_the_letter() {
        let declared = client("203.0.113.9:4711", "192.0.2.1:443", false);
        check(
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            Some(declared),
        );
        check(
            b"PROXY TCP6 2001:db8::9 2001:db8::1 0 65535\r\n",
            Some(client("[2001:db8::9]:0", "[2001:db8::1]:65535", false)),
        );
        let unknown = Some(ProxyHeader::Unknown { tls: false });
        check(b"PROXY UNKNOWN\r\n", unknown);
        check(
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            unknown,
        );
        for wrong in [
            "PROXY TCP4 2001:db8::9 192.0.2.1 4711 443\r\n",
            "PROXY TCP6 203.0.113.9 192.0.2.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443 \r\n",
            "PROXY TCP4  203.0.113.9 192.0.2.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711 65536\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 +11 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 0471 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n",
            "PROXY UDP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            "PROXY \u{e9}\r\n",
            "PROXY\tTCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            "proxy TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            check(wrong.as_bytes(), None);
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(LONGEST_LINE));
        check(endless.as_bytes(), None);
    }

    #[test]
    fn version_2_is_read_with_its_extensions_skipped() {
        check(
            &v2(0x21, 0x11, &IPV4),
            Some(client("203.0.113.9:4711", "192.0.2.1:443", false)),
        );
        let ipv6 = [[0x20; 16], [0x30; 16]].concat();
        let ipv6 = [&ipv6[..], &[0, 1, 0, 2]].concat();
        let declared = client(
            "[2020:2020:2020:2020:2020:2020:2020:2020]:1",
            "[3030:3030:3030:3030:3030:3030:3030:3030]:2",
            false,
        );
        check(&v2(0x21, 0x21, &ipv6), Some(declared));
        let with = |extensions: &[u8]| v2(0x21, 0x11, &[&IPV4, extensions].concat());
        let plain = Some(client("203.0.113.9:4711", "192.0.2.1:443", false));
        let tls = Some(client("203.0.113.9:4711", "192.0.2.1:443", true));
        check(&with(&[4, 0, 0]), plain);
        check(
            &with(&[2, 0, 3, b'a', b'b', b'c', 0x20, 0, 5, 1, 0, 0, 0, 0]),
            tls,
        );
        check(&with(&[0x20, 0, 5, 0, 0, 0, 0, 0]), plain);
        check(
            &with(&[&[0xEA, 0x0F, 0x00][..], &[7; 0x0F00]].concat()),
            plain,
        );
        for cut_short in [&[1][..], &[1, 0], &[1, 0, 1], &[0x20, 0xFF, 0xFF, 1]] {
            check(&with(cut_short), None);
        }
    }

    #[test]
    fn version_2_without_ip_addresses_is_no_client() {
        let unknown = Some(ProxyHeader::Unknown { tls: false });
        check(&v2(0x20, 0x00, &[]), Some(ProxyHeader::Proxy));
        check(&v2(0x20, 0x11, &IPV4), Some(ProxyHeader::Proxy));
        check(&v2(0x20, 0xFF, &[1, 2, 3]), Some(ProxyHeader::Proxy));
        check(&v2(0x21, 0x00, &[]), unknown);
        check(&v2(0x21, 0x31, &[b'x'; 216]), unknown);
        for (command, family, body) in [
            (0x21, 0x12, &IPV4[..]),
            (0x21, 0x41, &IPV4),
            (0x21, 0x11, &IPV4[..11]),
            (0x21, 0x21, &IPV4),
            (0x21, 0x31, &IPV4),
            (0x22, 0x11, &IPV4),
            (0x11, 0x11, &IPV4),
            (0x21, 0x11, &[0; LONGEST_BODY + 1]),
        ] {
            check(&v2(command, family, body), None);
        }
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        let lines = prop::collection::vec(
            prop::sample::select(vec![
                "TCP4",
                "TCP6",
                "UNKNOWN",
                "203.0.113.9",
                "::1",
                "80",
                "65536",
                "",
                "\r",
                "\n",
                "\r\n",
            ]),
            0..8,
        )
        .prop_map(|words| format!("PROXY {}\r\n", words.join(" ")).into_bytes());
        let binary = (
            prop::sample::select(vec![0x20, 0x21, 0x22]),
            prop::sample::select(vec![0x00, 0x11, 0x21, 0x31, 0x12]),
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(command, family, body)| v2(command, family, &body));
        let anything = prop::collection::vec(any::<u8>(), 0..200);
        prop_oneof![lines, binary, anything]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_alike_however_they_are_split(
            header in headers(), behind in prop::collection::vec(any::<u8>(), 0..20), cut in any::<prop::sample::Index>(),
        ) {
            let bytes = [header, behind].concat();
            let whole = parse(&bytes).map_err(|error| error.to_string());
            let part = parse(&bytes[..cut.index(bytes.len() + 1)]).map_err(|error| error.to_string());
            // A verdict on a part is the verdict on the whole.
            if part != Ok(None) {
                prop_assert_eq!(part, whole);
            }
        }

        #[test]
        fn a_client_is_read_back(source: SocketAddr, destination: SocketAddr) {
            let (source, destination) = match (source, destination) {
                (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => (source, destination),
                _ => (source, source),
            };
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
            let Some((_, ProxyHeader::Client { source: read, destination: also, .. })) = parse(line.as_bytes()).unwrap() else {
                panic!("no client");
            };
            prop_assert_eq!((read.ip(), read.port()), (source.ip(), source.port()));
            prop_assert_eq!((also.ip(), also.port()), (destination.ip(), destination.port()));
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_header_are_kept() {
        let line = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\nGET";
        let (origin, behind) = read_into(&mut buffer(), &mut &line[..]).await.unwrap();
        assert_eq!(origin, client("203.0.113.9:4711", "192.0.2.1:443", false));
        assert_eq!(behind, "GET");
        let cut = read_into(&mut buffer(), &mut &line[..20]).await;
        assert!(matches!(cut, Err(Unreadable::Ended)), "{cut:?}");
        let nothing = read_into(&mut buffer(), &mut &b""[..]).await;
        assert!(matches!(nothing, Err(Unreadable::Nothing)), "{nothing:?}");
    }
}
