//! Asks an admin listener whether its server is ready, as a container's probe does. Blocks.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::protocol::ControlReply;
use crate::config::ListenAddress;

/// Most bytes that are read of a response: a status line and a sentence.
const LONGEST_ANSWER: u64 = 16 << 10;

/// The response of `/-/ready` at this address; a listener that does not answer is not ready.
pub fn ready(admin: &ListenAddress, within: Duration) -> ControlReply {
    let answer = match admin {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => {
            over_tcp(reachable(*address), within)
        }
        ListenAddress::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(within))?;
            stream.set_write_timeout(Some(within))?;
            exchange(stream)
        }),
    };
    match answer {
        Err(error) => ControlReply::refused(format!("{admin} does not answer: {error}")),
        Ok(answer) => read(&answer),
    }
}

fn over_tcp(address: SocketAddr, within: Duration) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    exchange(stream)
}

/// The loopback address for a server that listens on every interface.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn exchange(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

fn read(answer: &str) -> ControlReply {
    let text = answer
        .split_once("\r\n\r\n")
        .map_or(answer, |(_, text)| text);
    match answer.starts_with("HTTP/1.1 200 ") {
        true => ControlReply::done(text.trim()),
        false => ControlReply::refused(text.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ready() {
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\na: b\r\n\r\nready\n",
                ControlReply::done("ready"),
            ),
            (
                "HTTP/1.1 503 No\r\n\r\nnot yet\n",
                ControlReply::refused("not yet"),
            ),
            ("SSH-2.0", ControlReply::refused("SSH-2.0")),
            ("", ControlReply::refused("")),
        ] {
            assert_eq!(read(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn every_interface_is_reached_over_loopback() {
        for (text, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let address = reachable(text.parse().unwrap());
            assert_eq!(address.to_string(), expected);
        }
    }
}
