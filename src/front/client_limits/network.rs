//! The networks by which clients are distinguished.

use std::net::{IpAddr, Ipv6Addr};

/// The network of one customer of a provider: an IPv4 address, or the /64 of an IPv6 address,
/// within which a single machine may choose freely (RFC 6177, RFC 8981).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        const OWN_CHOICE: u128 = u64::MAX as u128;
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() & !OWN_CHOICE),
        }
    }
}

impl Network {
    /// The network as a number, for tables with their own hash.
    pub fn bits(self) -> u128 {
        self.0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = Ipv6Addr::from_bits(self.0);
        match address.to_ipv4_mapped() {
            Some(address) => address.fmt(f),
            None => write!(f, "{address}/64"),
        }
    }
}
