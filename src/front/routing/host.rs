//! The host of a request, which chooses among the locations of its path.
//!
//! As nginx chooses a server: an exact name before a wildcard, the longest wildcard before shorter
//! ones, `*` for all others. Sites without hosts in their settings pay for one comparison.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::config::{HostPattern, LONGEST_NAME};

/// All hosts that locations name.
#[derive(Debug, Default)]
pub struct Hosts {
    names: HashMap<String, HostPattern>,
    below: HashMap<String, HostPattern>,
    others: Option<HostPattern>,
}

/// The pattern of the settings that covers the host of a request; none if no pattern does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestedHost<'a>(Option<&'a HostPattern>);

impl Hosts {
    /// The hosts of these settings.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a HostPattern>) -> Self {
        let mut hosts = Self::default();
        for pattern in patterns {
            match pattern {
                HostPattern::Name(name) => {
                    hosts.names.insert(name.clone(), pattern.clone());
                }
                HostPattern::Below(name) => {
                    hosts.below.insert(name.clone(), pattern.clone());
                }
                HostPattern::Others => hosts.others = Some(pattern.clone()),
            }
        }
        hosts
    }

    /// True if no location names a host.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.below.is_empty() && self.others.is_none()
    }

    /// The pattern for `host`, which may have a port: the value of `Host` or `:authority`.
    pub fn find(&self, host: &str) -> RequestedHost<'_> {
        if self.is_empty() {
            return RequestedHost::ANY;
        }
        let named = bare(host).and_then(|host| {
            self.names
                .get(&*host)
                .or_else(|| self.longest_wildcard(&host))
        });
        RequestedHost(named.or(self.others.as_ref()))
    }

    fn longest_wildcard(&self, host: &str) -> Option<&HostPattern> {
        if self.below.is_empty() {
            return None;
        }
        let dots = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        dots.into_iter().find_map(|parent| self.below.get(parent))
    }
}

impl RequestedHost<'_> {
    /// No host of the settings.
    pub const ANY: Self = Self(None);

    /// True if a pattern covers the host.
    pub fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// True if a location of these hosts is for the request; a location without hosts is for all.
    pub fn is_in(self, hosts: &[HostPattern]) -> bool {
        hosts.is_empty() || self.0.is_some_and(|host| hosts.contains(host))
    }
}

/// The name in the form of [`HostPattern`]: without port, in lower case, without the dot of a fully
/// qualified name. `None` for what no pattern has.
fn bare(host: &str) -> Option<Cow<'_, str>> {
    if let Some(literal) = host.strip_prefix('[') {
        let (address, _) = literal.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Cow::Owned(format!("[{address}]")));
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return None;
    }
    Some(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts() -> Hosts {
        let patterns = [
            "example.org",
            "*.example.org",
            "*.b.example.org",
            "[::1]",
            "192.0.2.1",
        ];
        let patterns = patterns.map(|text| HostPattern::parse(text).unwrap());
        Hosts::new(&patterns)
    }

    fn found(hosts: &Hosts, host: &str) -> String {
        hosts
            .find(host)
            .0
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    #[test]
    fn exact_names_come_before_the_longest_wildcard() {
        let hosts = hosts();
        for (host, expected) in [
            ("example.org", "example.org"),
            ("EXAMPLE.org.:8080", "example.org"),
            ("example.org:", "example.org"),
            ("a.example.org", "*.example.org"),
            ("b.example.org", "*.example.org"),
            ("a.b.example.org:80", "*.b.example.org"),
            ("x.a.b.example.org", "*.b.example.org"),
            (".example.org", "*.example.org"),
            ("notexample.org", ""),
            ("example.org.evil", ""),
            ("org", ""),
            ("", ""),
            (":80", ""),
            ("[::1]:80", "[::1]"),
            ("[0:0::1]", "[::1]"),
            ("[::2]", ""),
            ("[::1", ""),
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1.", "192.0.2.1"),
            ("example.org..", ""),
        ] {
            assert_eq!(found(&hosts, host), expected, "{host}");
        }
        let long = format!("{}.example.org", "a.".repeat(200));
        assert_eq!(found(&hosts, &long), "");
    }

    #[test]
    fn the_star_covers_what_nothing_else_does() {
        let patterns = ["a.b", "*"].map(|text| HostPattern::parse(text).unwrap());
        let hosts = Hosts::new(&patterns);
        for (host, expected) in [("a.b", "a.b"), ("c", "*"), ("", "*"), ("[v1.x]", "*")] {
            assert_eq!(found(&hosts, host), expected, "{host}");
        }
        assert!(hosts.find("c").is_in(&[]) && !hosts.find("c").is_in(&patterns[..1]));
    }

    proptest! {
        #[test]
        fn any_host_is_read_without_a_panic(host in "\\PC{0,20}|[a-b.:\\[\\]]{0,8}(example.org)?") {
            found(&hosts(), &host);
        }
    }
}
