//! Clients that stay with one server (nginx: `ip_hash`): by address, without a table. Pure.
//!
//! Rendezvous hashing: each pair of a network and a server has a weight, and a client's server is the one
//! with the highest. A server that is down loses its clients to all the others and gets them back, and no
//! other client moves; the same holds when the settings add or remove one. Weights depend on addresses
//! alone, so restarts and replicas agree.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::upstream::ServerAddress;
use crate::front::client_limits::network::Network;

/// The servers of an upstream, by hash.
#[derive(Debug)]
pub struct Affinity(Vec<u64>);

impl Affinity {
    /// For these servers.
    pub fn new(servers: &[ServerAddress]) -> Self {
        let hash = |server: &ServerAddress| {
            // FNV-1a.
            server
                .to_string()
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                })
        };
        Self(servers.iter().map(hash).collect())
    }

    /// The numbers of the servers, the one of this client first.
    pub fn order(&self, client: IpAddr) -> Vec<usize> {
        let client = key(client);
        let weight = |server: &usize| std::cmp::Reverse(mix(client ^ mix(self.0[*server])));
        let mut order: Vec<_> = (0..self.0.len()).collect();
        order.sort_by_key(weight);
        order
    }
}

/// As nginx: the first three bytes of an IPv4 address. Of IPv6 the /64, within which a client changes its
/// address (RFC 8981).
fn key(client: IpAddr) -> u64 {
    let network = match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Network::from(IpAddr::from(Ipv4Addr::new(a, b, c, 0)))
        }
        address => Network::from(address),
    };
    let bits = network.bits();
    mix(bits as u64 ^ mix((bits >> 64) as u64))
}

/// The finaliser of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: u16) -> Vec<ServerAddress> {
        let server = |number| ServerAddress::Tcp {
            host: "10.0.0.1".to_owned(),
            port: 8000 + number,
        };
        (0..count).map(server).collect()
    }

    fn clients() -> impl Iterator<Item = IpAddr> {
        let v4 = (0..=255).flat_map(|a| (0..8).map(move |b| IpAddr::from([10, a, b, 1])));
        let v6 = (0..1000).map(|n| IpAddr::from([0x2001, 0xdb8, n, 0, 0, 0, 0, 1]));
        v4.chain(v6)
    }

    #[test]
    fn clients_are_spread_and_those_of_one_network_stay_together() {
        let affinity = Affinity::new(&servers(4));
        let mut counts = [0; 4];
        clients().for_each(|client| counts[affinity.order(client)[0]] += 1);
        let total: i32 = counts.iter().sum();
        assert!(
            counts
                .iter()
                .all(|count| (total / 5..total / 3).contains(count)),
            "{counts:?}"
        );
        let order = |text: &str| affinity.order(text.parse().unwrap());
        assert_eq!(order("192.0.2.1"), order("192.0.2.200"));
        assert_eq!(order("192.0.2.1"), order("::ffff:192.0.2.9"));
        assert_eq!(order("2001:db8::1"), order("2001:db8::ffff:1:2"));
    }

    #[test]
    fn without_one_server_only_its_own_clients_move_and_to_all_others() {
        let (all, fewer) = (Affinity::new(&servers(4)), Affinity::new(&servers(3)));
        let mut moved = [0; 3];
        for client in clients() {
            let (before, after) = (all.order(client), fewer.order(client)[0]);
            let expected = before.iter().find(|server| **server != 3);
            assert_eq!(Some(&after), expected, "{client}");
            if before[0] == 3 {
                moved[after] += 1;
            }
        }
        assert!(moved.iter().all(|count| *count > 100), "{moved:?}");
    }
}
