//! The counters of upstream servers, by their name in the settings; a list that only grows, like
//! the locations of [`super::metrics`].

use std::sync::OnceLock;

use super::counters::{Counter, ReasonCounter};

/// Largest number of servers with counters of their own; they come from the settings, not from
/// clients.
const SERVERS: usize = 64;
/// Reasons of failures.
const FAILURES: &[&str] = &[
    "unreachable",
    "queue_full",
    "too_slow",
    "closed_early",
    "bad_answer",
    "speaks_http",
];

/// The servers.
#[derive(Debug)]
pub struct Upstreams([OnceLock<Box<UpstreamServer>>; SERVERS]);

/// One server.
#[derive(Debug)]
pub struct UpstreamServer {
    name: Box<str>,
    /// Requests that it has now.
    pub in_flight: Counter,
    /// Requests that it was given.
    pub requests: Counter,
    /// Connections that it has accepted.
    pub connections: Counter,
    /// Failures by reason.
    pub failures: ReasonCounter,
}

impl Upstreams {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; SERVERS])
    }

    /// The server of this name. What comes after the first [`SERVERS`] is counted together.
    pub fn at(&self, name: &str) -> &UpstreamServer {
        let (last, servers) = self.0.split_last().expect("there are some");
        let named = servers.iter().find_map(|server| {
            let server = server.get_or_init(|| Box::new(UpstreamServer::new(name)));
            (*server.name == *name).then_some(server)
        });
        named.unwrap_or_else(|| last.get_or_init(|| Box::new(UpstreamServer::new("others"))))
    }

    /// All that there have been since the start.
    pub fn all(&self) -> impl Iterator<Item = &UpstreamServer> {
        self.0.iter().filter_map(|server| Some(&**server.get()?))
    }
}

impl UpstreamServer {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            in_flight: Counter::new(),
            requests: Counter::new(),
            connections: Counter::new(),
            failures: ReasonCounter::new(FAILURES),
        }
    }

    /// Its address, as the settings have it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It has got a request, and has it until the value is dropped.
    pub fn begin(&'static self) -> InFlight {
        self.requests.inc();
        self.in_flight.inc();
        InFlight(self)
    }
}

/// A request at a server.
#[derive(Debug)]
pub struct InFlight(&'static UpstreamServer);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_beyond_the_limit_are_counted_together() {
        static SERVERS_BEHIND: Upstreams = Upstreams::new();
        for number in 0..SERVERS + 5 {
            let server = SERVERS_BEHIND.at(&format!("unix:/{number}"));
            server.requests.inc();
            server.failures.up("unreachable");
        }
        assert_eq!(SERVERS_BEHIND.all().count(), SERVERS);
        let last = SERVERS_BEHIND.all().last().unwrap();
        assert_eq!((last.name(), last.requests.get()), ("others", 6));
        let first = SERVERS_BEHIND.at("unix:/0");
        let held = [first.begin(), first.begin()];
        assert_eq!((first.in_flight.get(), first.requests.get()), (2, 3));
        drop(held);
        assert_eq!(first.in_flight.get(), 0);
    }
}
