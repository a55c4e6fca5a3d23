//! The scheme, the host and the method of a request, which choose among the locations of its path.
//!
//! As nginx chooses a server: an exact name before a wildcard, the longest wildcard before shorter
//! ones, `*` for all others, and each among the locations of the scheme alone. Sites without schemes
//! and hosts in their settings pay for one comparison. The method stands for an origin as well, as
//! locations ask for it in the same way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use http::Method;

use crate::config::{HostPattern, LONGEST_NAME, Scheme, Scope};

/// All hosts that locations name, by the scheme of requests.
#[derive(Debug, Default)]
pub struct Hosts {
    http: Names,
    https: Names,
    has_schemes: bool,
}

/// The hosts that the locations of one scheme name.
#[derive(Debug, Default)]
struct Names {
    names: HashMap<String, HostPattern>,
    below: HashMap<String, HostPattern>,
    others: Option<HostPattern>,
}

/// The part of a request's origin (RFC 9110 §4.3.1), and the method, on which its location depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedOrigin<'a> {
    /// `None` if no location asks for it.
    scheme: Option<Scheme>,
    /// The pattern of the settings that covers the host; none if no pattern does.
    host: Option<&'a HostPattern>,
    method: &'a Method,
}

impl Hosts {
    /// The hosts of these locations.
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a Scope>) -> Self {
        let mut hosts = Self::default();
        for scope in scopes {
            hosts.has_schemes |= scope.scheme.is_some();
            if scope.scheme != Some(Scheme::Https) {
                hosts.http.add(&scope.hosts);
            }
            if scope.scheme != Some(Scheme::Http) {
                hosts.https.add(&scope.hosts);
            }
        }
        hosts
    }

    /// True if no location names a host or a scheme.
    pub fn is_empty(&self) -> bool {
        !self.has_schemes && self.http.is_empty()
    }

    /// The origin of a request. `host` may have a port: the value of `Host` or `:authority`.
    pub fn find<'a>(
        &'a self,
        scheme: Scheme,
        host: &str,
        method: &'a Method,
    ) -> RequestedOrigin<'a> {
        RequestedOrigin {
            method,
            scheme: self.has_schemes.then_some(scheme),
            host: self.names(scheme).find(host),
        }
    }

    /// True if locations of the origin's scheme name hosts, and none of them covers its own.
    pub fn are_without(&self, origin: RequestedOrigin<'_>) -> bool {
        origin.host.is_none() && !self.names(origin.scheme.unwrap_or_default()).is_empty()
    }

    fn names(&self, scheme: Scheme) -> &Names {
        match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        }
    }
}

impl Names {
    fn add(&mut self, patterns: &[HostPattern]) {
        for pattern in patterns {
            match pattern {
                HostPattern::Name(name) => {
                    self.names.insert(name.clone(), pattern.clone());
                }
                HostPattern::Below(name) => {
                    self.below.insert(name.clone(), pattern.clone());
                }
                HostPattern::Others => self.others = Some(pattern.clone()),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.below.is_empty() && self.others.is_none()
    }

    fn find(&self, host: &str) -> Option<&HostPattern> {
        if self.is_empty() {
            return None;
        }
        let named = bare(host).and_then(|host| {
            self.names
                .get(&*host)
                .or_else(|| self.longest_wildcard(&host))
        });
        named.or(self.others.as_ref())
    }

    fn longest_wildcard(&self, host: &str) -> Option<&HostPattern> {
        if self.below.is_empty() {
            return None;
        }
        let dots = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        dots.into_iter().find_map(|parent| self.below.get(parent))
    }
}

impl RequestedOrigin<'_> {
    /// One without scheme and host, where no location asks for these.
    pub fn of_method(method: &'static Method) -> Self {
        Self {
            method,
            ..Self::ANY
        }
    }

    /// None of the settings, and GET.
    pub const ANY: Self = Self {
        scheme: None,
        host: None,
        method: &Method::GET,
    };

    /// True if a location of this scope is for the request, apart from its path.
    pub fn is_in(self, scope: &Scope) -> bool {
        let (scheme, hosts) = (scope.scheme, &scope.hosts);
        (scheme.is_none() || scheme == self.scheme)
            && (hosts.is_empty() || self.host.is_some_and(|host| hosts.contains(host)))
            && scope.methods.contain(self.method)
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
    use crate::config::{Methods, method_name};
    use proptest::prelude::*;

    const PLAIN: Scheme = Scheme::Http;

    fn scope(scheme: Option<Scheme>, patterns: &[&str]) -> Scope {
        let pattern = |text: &&str| HostPattern::parse(text).unwrap();
        Scope {
            scheme,
            hosts: patterns.iter().map(pattern).collect(),
            ..Scope::default()
        }
    }

    fn hosts() -> Hosts {
        let patterns = [
            "example.org",
            "*.example.org",
            "*.b.example.org",
            "[::1]",
            "192.0.2.1",
        ];
        Hosts::new(&[scope(None, &patterns)])
    }

    fn found(hosts: &Hosts, host: &str) -> String {
        let origin = hosts.find(PLAIN, host, &Method::GET);
        origin.host.map(ToString::to_string).unwrap_or_default()
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
        let all = scope(None, &["a.b", "*"]);
        let hosts = Hosts::new([&all]);
        for (host, expected) in [("a.b", "a.b"), ("c", "*"), ("", "*"), ("[v1.x]", "*")] {
            assert_eq!(found(&hosts, host), expected, "{host}");
        }
        let other = hosts.find(PLAIN, "c", &Method::GET);
        let named = scope(None, &["a.b"]);
        assert!(other.is_in(&Scope::default()) && !other.is_in(&named));
    }

    #[test]
    fn each_scheme_has_hosts_of_its_own() {
        let plain = scope(Some(Scheme::Http), &["*"]);
        let tls = scope(Some(Scheme::Https), &["a.b"]);
        let hosts = Hosts::new([&plain, &tls]);
        for (scheme, host, in_plain, in_tls, is_without) in [
            (Scheme::Http, "a.b", true, false, false),
            (Scheme::Http, "c", true, false, false),
            (Scheme::Https, "a.b", false, true, false),
            (Scheme::Https, "c", false, false, true),
        ] {
            let origin = hosts.find(scheme, host, &Method::GET);
            let found = (
                origin.is_in(&plain),
                origin.is_in(&tls),
                hosts.are_without(origin),
            );
            assert_eq!(found, (in_plain, in_tls, is_without), "{scheme:?} {host}");
        }
    }

    #[test]
    fn a_scheme_alone_is_no_name_of_a_host() {
        let hosts = Hosts::new([&scope(Some(Scheme::Http), &[])]);
        assert!(!hosts.is_empty());
        for (scheme, is_plain) in [(Scheme::Http, true), (Scheme::Https, false)] {
            let origin = hosts.find(scheme, "a.b", &Method::GET);
            assert_eq!(origin.is_in(&scope(Some(Scheme::Http), &[])), is_plain);
            assert!(origin.is_in(&Scope::default()) && !hosts.are_without(origin));
        }
    }

    #[test]
    fn a_location_may_be_for_some_methods() {
        let named = ["OPTIONS"].map(|text| method_name(text).unwrap());
        let scope = Scope {
            methods: Methods::of(named.to_vec()).unwrap(),
            ..Scope::default()
        };
        let hosts = Hosts::new([&scope]);
        assert!(hosts.is_empty());
        for (method, expected) in [(Method::OPTIONS, true), (Method::GET, false)] {
            let origin = hosts.find(PLAIN, "a.b", &method);
            assert_eq!(origin.is_in(&scope), expected, "{method}");
        }
    }

    proptest! {
        #[test]
        fn any_host_is_read_without_a_panic(host in "\\PC{0,20}|[a-b.:\\[\\]]{0,8}(example.org)?") {
            found(&hosts(), &host);
        }
    }
}
