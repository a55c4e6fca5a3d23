//! The ways in: a version of HTTP, over a transport, behind a PROXY header or not.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::site::Site;
use crate::support::raw::Connection;
use crate::support::tls::authority;

/// One way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    pub transport: Transport,
    pub proxy: Proxy,
    pub security: Security,
}

/// The version of HTTP that the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http10KeepAlive,
    Http11,
    /// In cleartext with prior knowledge (RFC 9113 §3.3), over TLS by ALPN.
    Http2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
}

/// The header of the PROXY protocol that a balancer in front sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    None,
    V1,
    V2,
}

/// TLS, of which the rules know nothing: it changes none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    Clear,
    Tls,
}

/// The client that PROXY headers name.
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 4711);

impl Listener {
    /// HTTP/1.1 over TCP, with nothing in front.
    pub const PLAIN: Self = Self {
        protocol: Protocol::Http11,
        transport: Transport::Tcp,
        proxy: Proxy::None,
        security: Security::Clear,
    };

    /// The same over TLS.
    pub const SECURE: Self = Self {
        security: Security::Tls,
        ..Self::PLAIN
    };

    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for protocol in [
            Protocol::Http10,
            Protocol::Http10KeepAlive,
            Protocol::Http11,
            Protocol::Http2,
        ] {
            for transport in [Transport::Tcp, Transport::Unix] {
                for proxy in [Proxy::None, Proxy::V1, Proxy::V2] {
                    all.push(Self {
                        protocol,
                        transport,
                        proxy,
                        ..Self::PLAIN
                    });
                }
            }
        }
        // TLS is over TCP; a balancer's PROXY header comes before it.
        let over_tls = |listener: &Self| {
            let is_tried = listener.transport == Transport::Tcp && listener.proxy != Proxy::V2;
            is_tried.then_some(Self {
                security: Security::Tls,
                ..*listener
            })
        };
        let secured: Vec<_> = all.iter().filter_map(over_tls).collect();
        all.extend(secured);
        all
    }

    /// A connection on which HTTP may begin.
    pub fn connect(self, site: &Site) -> Connection {
        let server = site.server(self);
        let mut connection = match (self.transport, self.security) {
            (Transport::Tcp, Security::Clear) => server.connect(),
            (Transport::Tcp, Security::Tls) => server.connect_tls_port(),
            (Transport::Unix, _) => Connection::unix(&server.probe.path("http.sock")),
        };
        match self.proxy {
            Proxy::None => {}
            Proxy::V1 => connection.send(format!(
                "PROXY TCP4 {} 192.0.2.1 {} 80\r\n",
                CLIENT.ip(),
                CLIENT.port()
            )),
            Proxy::V2 => {
                let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
                header.extend(CLIENT.ip().octets());
                header.extend([192, 0, 2, 1]);
                header.extend(CLIENT.port().to_be_bytes());
                header.extend(80_u16.to_be_bytes());
                connection.send(header);
            }
        }
        match self.security {
            Security::Clear => connection,
            Security::Tls => {
                let protocol = if self.is_http2() { "h2" } else { "http/1.1" };
                let client = authority().client(&[protocol]);
                let secured = connection.secured(client, "localhost");
                secured.expect("a handshake")
            }
        }
    }

    /// The client's address in the access log.
    pub fn client(self) -> Option<&'static str> {
        match (self.proxy, self.transport) {
            (Proxy::V1 | Proxy::V2, _) => Some("203.0.113.9"),
            (Proxy::None, Transport::Tcp) => Some("127.0.0.1"),
            (Proxy::None, Transport::Unix) => None,
        }
    }

    /// One of the listeners that speak HTTP/2.
    pub fn is_http2(self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// HTTP/1.0, with keep-alive or without.
    pub fn is_http10(self) -> bool {
        matches!(self.protocol, Protocol::Http10 | Protocol::Http10KeepAlive)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.protocol {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http10KeepAlive => "HTTP/1.0 keep-alive",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        })?;
        out.write_str(match self.transport {
            Transport::Tcp => ", TCP",
            Transport::Unix => ", Unix",
        })?;
        out.write_str(match self.proxy {
            Proxy::None => "",
            Proxy::V1 => ", PROXY v1",
            Proxy::V2 => ", PROXY v2",
        })?;
        out.write_str(match self.security {
            Security::Clear => "",
            Security::Tls => ", TLS",
        })
    }
}
