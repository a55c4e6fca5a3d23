//! A TCP client that can stop in the middle of its handshake, which the kernel's cannot. It
//! writes its segments (RFC 9293 §3.1) itself, over a raw socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, bind, connect, ipproto, recv, send,
    socket_with,
};
use socket2::{SockFilter, SockRef};

use super::DEADLINE;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Not the usual one, so that nothing else of this machine is in the way.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const WINDOW: u16 = u16::MAX;

/// A handshake of which the server has sent its part.
pub struct Handshake {
    raw: OwnedFd,
    /// Keeps the kernel from answering the server on our port: it has the port, and drops
    /// what comes.
    reserved: TcpListener,
    server_port: u16,
    sent: u32,
    received: u32,
}

struct Segment {
    flags: u8,
    number: u32,
    text: Vec<u8>,
}

impl Handshake {
    /// Sends SYN, and waits for SYN and ACK.
    ///
    /// # Errors
    /// Raw sockets are for root.
    pub fn begin(server_port: u16) -> io::Result<Self> {
        let raw = socket_with(
            AddressFamily::INET,
            SocketType::RAW,
            rustix::net::SocketFlags::CLOEXEC,
            Some(ipproto::TCP),
        )?;
        bind(&raw, &SocketAddrV4::new(CLIENT, 0))?;
        connect(&raw, &SocketAddrV4::new(SERVER, 0))?;
        let reserved = TcpListener::bind((CLIENT, 0))?;
        const RETURN: u16 = 0x06;
        SockRef::from(&reserved).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        let mut client = Self {
            raw,
            reserved,
            server_port,
            sent: 1000,
            received: 0,
        };
        client.send(SYN, b"");
        let answer = client.next();
        assert_eq!(answer.flags & (SYN | ACK | RST), SYN | ACK);
        client.sent += 1;
        client.received = answer.number + 1;
        Ok(client)
    }

    /// Ends the handshake, and sends a request with it.
    pub fn finish(&mut self, request: &str) {
        self.send(ACK, b"");
        self.send(ACK | PSH, request.as_bytes());
    }

    /// What the server sends first behind its handshake; `None` if it resets or closes.
    pub fn answer(&self) -> Option<String> {
        loop {
            let segment = self.next();
            if !segment.text.is_empty() {
                return Some(String::from_utf8_lossy(&segment.text).into_owned());
            }
            if segment.flags & (RST | FIN) != 0 {
                return None;
            }
        }
    }

    fn port(&self) -> u16 {
        let address = self.reserved.local_addr();
        address.as_ref().map_or(0, SocketAddr::port)
    }

    fn send(&self, flags: u8, text: &[u8]) {
        let mut segment = Vec::with_capacity(20 + text.len());
        segment.extend(self.port().to_be_bytes());
        segment.extend(self.server_port.to_be_bytes());
        segment.extend(self.sent.to_be_bytes());
        segment.extend(self.received.to_be_bytes());
        segment.extend([5 << 4, flags]);
        segment.extend(WINDOW.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(text);
        let checksum = checksum(&segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        let sent = send(&self.raw, &segment, SendFlags::empty()).expect("loopback takes it");
        assert_eq!(sent, segment.len());
    }

    /// The next segment of the server for this client.
    fn next(&self) -> Segment {
        let limit = Timespec {
            tv_sec: DEADLINE.as_secs() as i64,
            tv_nsec: 0,
        };
        loop {
            let mut fds = [PollFd::new(&self.raw, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "no segment");
            let mut packet = [0; 4096];
            let (length, _) = recv(&self.raw, &mut packet, RecvFlags::empty()).unwrap();
            let segment = &packet[..length][usize::from(packet[0] & 15) * 4..];
            let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
            if (port(0), port(2)) == (self.server_port, self.port()) {
                return Segment {
                    flags: segment[13],
                    number: u32::from_be_bytes(segment[4..8].try_into().unwrap()),
                    text: segment[usize::from(segment[12] >> 4) * 4..].to_vec(),
                };
            }
        }
    }
}

/// RFC 9293 §3.1: over the pseudo header and the segment.
fn checksum(segment: &[u8]) -> u16 {
    let mut bytes = [CLIENT.octets(), SERVER.octets()].concat();
    bytes.extend([0, 6]);
    bytes.extend((segment.len() as u16).to_be_bytes());
    bytes.extend(segment);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let pairs = bytes.chunks(2);
    let mut sum: u32 = pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
