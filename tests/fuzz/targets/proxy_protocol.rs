//! The PROXY protocol: what is read is written again, and must be what was there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pyserve::internals::connection::proxy_protocol::{
    ProxyHeader, Unreadable, buffer, parse, read_into,
};
use tokio::io::{AsyncRead, ReadBuf};

use super::cuts;

/// The bytes of a whole header are read alike however they arrive, and as nobody could
/// read them otherwise.
pub fn run(input: &[u8]) {
    let whole = parse(input).map_err(|error| error.to_string());
    if let Ok(Some((length, origin))) = &whole {
        assert!(*length <= 16 + 4096);
        check(&input[..*length], origin);
    }
    for cut in cuts(input) {
        let part = parse(&input[..cut]).map_err(|error| error.to_string());
        if part != Ok(None) {
            assert_eq!(part, whole, "decided by the first {cut} bytes");
        }
    }
    for most in [1, 7, usize::MAX] {
        let mut socket = Socket { rest: input, most };
        match (received(&mut socket), &whole) {
            (Ok((read, behind)), Ok(Some((length, origin)))) => {
                assert_eq!(read, *origin);
                assert_eq!([&behind[..], socket.rest].concat(), input[*length..]);
            }
            (Err(Unreadable::Nothing), Ok(None)) => assert!(input.is_empty()),
            (Err(Unreadable::Ended), Ok(None)) => assert!(!input.is_empty()),
            (Err(Unreadable::Malformed(why)), Err(error)) => assert_eq!(why, error),
            (read, whole) => panic!("{read:?} in pieces of {most}, {whole:?} at once"),
        }
    }
}

fn check(header: &[u8], origin: &ProxyHeader) {
    let is_text = header.starts_with(b"PROXY ");
    let ProxyHeader::Client {
        source,
        destination,
        tls,
    } = origin
    else {
        let unknown = header.starts_with(b"PROXY UNKNOWN");
        assert!(!is_text || unknown);
        return;
    };
    if is_text {
        assert!(!tls && header.len() <= 107);
        let line = str::from_utf8(header).unwrap();
        let words: Vec<&str> = line.strip_suffix("\r\n").unwrap().split(' ').collect();
        let [_, family, from, to, from_port, to_port] = words[..] else {
            panic!("{words:?}");
        };
        assert_eq!(family == "TCP4", source.is_ipv4());
        assert_eq!(from.parse::<IpAddr>().unwrap(), source.ip());
        assert_eq!(to.parse::<IpAddr>().unwrap(), destination.ip());
        assert_eq!(from_port, source.port().to_string());
        assert_eq!(to_port, destination.port().to_string());
    } else {
        let mut again = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
        again.push(if source.is_ipv4() { 0x11 } else { 0x21 });
        again.extend(((header.len() - 16) as u16).to_be_bytes());
        again.extend(address(source));
        again.extend(address(destination));
        again.extend(source.port().to_be_bytes());
        again.extend(destination.port().to_be_bytes());
        assert!(header.starts_with(&again), "{source} {destination}");
        assert_eq!(*tls, says_tls(&header[again.len()..]));
    }
}

fn address(end: &SocketAddr) -> Vec<u8> {
    match end.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Whether one of the extensions is of the type for TLS and has its lowest bit set.
fn says_tls(extensions: &[u8]) -> bool {
    let mut at = 0;
    let mut tls = false;
    while at < extensions.len() {
        let length = usize::from(extensions[at + 1]) * 256 + usize::from(extensions[at + 2]);
        let value = &extensions[at + 3..at + 3 + length];
        tls |= extensions[at] == 0x20 && length > 0 && value[0] % 2 == 1;
        at += 3 + length;
    }
    tls
}

/// Gives at most so many bytes at a time.
struct Socket<'a> {
    rest: &'a [u8],
    most: usize,
}

impl AsyncRead for Socket<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.rest.len().min(self.most).min(into.remaining());
        let (now, rest) = self.rest.split_at(length);
        into.put_slice(now);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

fn received(socket: &mut Socket<'_>) -> Result<(ProxyHeader, Bytes), Unreadable> {
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = buffer();
    match pin!(read_into(&mut bytes, socket)).poll(&mut context) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("the socket never waits"),
    }
}
