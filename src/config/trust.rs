//! Trusted proxies: the peers that may name the client, and those that speak the PROXY protocol.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

use super::error::{Invalid, invalid};
use super::response_rules::header_name;
use super::values;

/// Most addresses looked at: no real chain of proxies is longer, and a longer list only costs time.
const MOST_HOPS: usize = 50;

/// Trusted peers. By default none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    networks: Vec<IpNet>,
    unix: bool,
    /// Facts that are read from them; none for all that are not rare.
    fields: Vec<ForwardedFact>,
    /// Most of the addresses that they list that are looked at; `None` for all.
    hops: Option<usize>,
    /// The field in which they name their client; `None` for `X-Forwarded-For` and `Forwarded`.
    client_field: Option<Box<HeaderName>>,
}

/// A fact about a request that proxies forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedFact {
    /// The client's address: `X-Forwarded-For`.
    For,
    /// The scheme: `X-Forwarded-Proto`.
    Proto,
    /// The host: `X-Forwarded-Host`.
    Host,
    /// The port: `X-Forwarded-Port`.
    Port,
    /// The path that a proxy has removed: `X-Forwarded-Prefix`.
    Prefix,
    /// The scheme, where `X-Forwarded-Proto` is missing: `X-Forwarded-Ssl: on`.
    Ssl,
    /// The scheme, where both are missing: `X-Forwarded-Protocol: ssl`.
    Protocol,
}

impl ForwardedFact {
    /// Reads `for`, `proto`, `host`, `port`, `prefix`, `ssl` or `protocol`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        values::choice(
            text,
            &[
                ("for", Self::For),
                ("proto", Self::Proto),
                ("host", Self::Host),
                ("port", Self::Port),
                ("prefix", Self::Prefix),
                ("ssl", Self::Ssl),
                ("protocol", Self::Protocol),
            ],
        )
    }

    /// True for facts that are read where the settings name them alone: few proxies write these headers, so
    /// that most pass on those of clients.
    fn is_rare(self) -> bool {
        matches!(self, Self::Ssl | Self::Protocol)
    }
}

/// Fields that no proxy has for the address of a client.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads the name of the field in which proxies name their client.
///
/// # Errors
/// [`Invalid`] for a field that no request has, or that is no list of addresses.
pub fn client_field(text: &str) -> Result<HeaderName, Invalid> {
    let remedy = "give one such as X-Real-IP";
    let name = header_name(text, remedy)?;
    if name.as_str().contains('_') {
        let problem = "requests with such a field are read without it: its name has an underscore";
        return Err(invalid(problem, "give it a dash"));
    }
    if OF_THE_CONNECTION.contains(&name.as_str()) {
        let problem = "this field is about the request and its connection: it names no client";
        return Err(invalid(problem, remedy));
    }
    if name == FORWARDED {
        let problem = "Forwarded has elements with names, which are read by default";
        return Err(invalid(problem, remedy));
    }
    Ok(name)
}

impl Trust {
    /// Limits what the peers may say, and the number of addresses that are looked at.
    pub fn limit(&mut self, fields: Vec<ForwardedFact>, hops: Option<usize>) {
        self.fields = fields;
        self.hops = hops;
    }

    /// Has the client's address read from this field alone.
    pub fn read_client_from(&mut self, field: HeaderName) {
        self.client_field = Some(Box::new(field));
    }

    /// The one field in which the peers name their client; `None` for `X-Forwarded-For`, else `Forwarded`.
    pub fn client_field(&self) -> Option<&HeaderName> {
        self.client_field.as_deref()
    }

    /// True if trusted peers may say this.
    pub fn believes(&self, fact: ForwardedFact) -> bool {
        match self.fields.is_empty() {
            true => !fact.is_rare(),
            false => self.fields.contains(&fact),
        }
    }

    /// Most of the listed addresses that are looked at.
    pub fn most_hops(&self) -> usize {
        self.hops.map_or(MOST_HOPS, |hops| hops.min(MOST_HOPS))
    }

    /// True if a peer is trusted; `None` is a peer on a Unix socket.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(peer) => {
                // IPv4 peers of a dual-stack socket appear as `::ffff:a.b.c.d`.
                let peer = peer.to_canonical();
                self.networks.iter().any(|network| network.contains(&peer))
            }
        }
    }

    /// Adds a network `10.0.0.0/8`, an address, or `unix`. Bits behind the prefix are
    /// dropped, as nginx does.
    ///
    /// # Errors
    /// [`Invalid`] for anything else; nothing was added.
    pub fn add(&mut self, text: &str) -> Result<(), Invalid> {
        let remedy =
            "give networks and addresses as in `10.0.0.0/8,::1`, and `unix` for Unix sockets";
        if text.eq_ignore_ascii_case("unix") {
            self.unix = true;
            return Ok(());
        }
        if text == "*" {
            return Err(invalid(
                "`*` is not taken, because then any client could forge its address",
                "give 0.0.0.0/0,::/0 if nobody but a proxy can reach the server",
            ));
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| invalid("not a network or address", remedy))?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|bits| *bits <= most && !length.starts_with('+'))
                .ok_or_else(|| {
                    invalid(
                        format!("no such prefix length `/{length}`"),
                        format!("give a number from 0 to {most} behind the slash"),
                    )
                })?,
        };
        // An IPv4 network may be given as a part of ::ffff:0:0/96 (RFC 4291, section 2.5.5.2).
        let (address, length) = match address.to_canonical() {
            canonical @ IpAddr::V4(_) if address.is_ipv6() && length >= 96 => {
                (canonical, length - 96)
            }
            _ => (address, length),
        };
        let network = IpNet::new(address, length).map_err(|_| invalid("not a network", remedy))?;
        self.networks.push(network.trunc());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trust(list: &[&str]) -> Trust {
        let mut trust = Trust::default();
        for text in list {
            trust.add(text).unwrap();
        }
        trust
    }

    #[test]
    fn peers_inside_are_trusted_and_all_others_are_not() {
        let check = |list: &[&str], peer: &str, expected: bool| {
            let peer = (peer != "unix").then(|| peer.parse().unwrap());
            assert_eq!(trust(list).trusts(peer), expected, "{list:?} {peer:?}");
        };
        check(&[], "127.0.0.1", false);
        check(&[], "unix", false);
        check(&["unix"], "unix", true);
        check(&["unix"], "127.0.0.1", false);
        check(&["127.0.0.1"], "127.0.0.1", true);
        check(&["127.0.0.1"], "127.0.0.2", false);
        check(&["127.0.0.1"], "unix", false);
        check(&["10.0.0.0/8"], "10.255.0.1", true);
        check(&["10.0.0.0/8"], "11.0.0.1", false);
        check(&["10.1.2.3/8"], "10.9.9.9", true);
        check(&["10.0.0.0/8"], "::ffff:10.1.1.1", true);
        check(&["::ffff:10.0.0.0/104"], "10.1.1.1", true);
        check(&["0.0.0.0/0"], "203.0.113.9", true);
        check(&["0.0.0.0/0"], "2001:db8::1", false);
        check(&["::/0"], "2001:db8::1", true);
        check(&["::/0"], "203.0.113.9", false);
        check(&["2001:db8::/32"], "2001:db8:1::1", true);
        check(&["2001:db8::/32"], "2001:db9::1", false);
        check(&["192.168.0.0/16", "::1"], "::1", true);
    }

    #[test]
    fn the_field_of_the_client_is_one_that_requests_have() {
        for (text, is_one) in [
            ("X-Real-IP", true),
            ("cf-connecting-ip", true),
            ("X_Real_IP", false),
            ("Forwarded", false),
            ("Host", false),
            ("Connection", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(client_field(text).is_ok(), is_one, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for wrong in [
            "",
            "*",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::/129",
            "10.0.0",
            "proxy",
            "10.0.0.0/8/8",
        ] {
            assert!(Trust::default().add(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_its_own_address(address: IpAddr, length in 0u32..=128) {
            let address = address.to_canonical();
            let length = if address.is_ipv4() { length % 33 } else { length };
            let network = format!("{address}/{length}");
            prop_assert!(trust(&[&network]).trusts(Some(address)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}|[0-9a-f:./]{0,30}") {
            let _ = Trust::default().add(&text);
        }
    }
}
