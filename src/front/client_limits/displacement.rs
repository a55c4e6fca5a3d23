//! Connections without a request, closed for clients that wait at the limit of all connections.
//!
//! 1. Connections whose last response was sent and whose client may still be sending
//!    (`connection::lingering_close`), as nginx closes them.
//! 2. Incomplete heads of the address that has most of them, where they are a crowd. A silent
//!    connection counts as one: so an address that opens all connections and sends nothing delays
//!    nobody for longer than its own next connection.
//! 3. From time to time, connections idle between two requests, and slow heads of any address.
//!
//! The module knows neither protocols nor sockets: a connection says what it does
//! ([`Displaceable`]), and ends by its own `drain` token.

use parking_lot::{Mutex, MutexGuard};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::network::Network;
use crate::observe::codes;
use crate::observe::throttle::Throttle;

/// The part of all connections that is closed at a time when the limit is reached.
const ENDED_PART: usize = 32;
/// An address with more incomplete heads than this part of all connections crowds.
const CROWD_PART: usize = 8;
/// Incomplete heads that crowd in any case, where they are more than half of all connections.
const CROWD: usize = 16;
/// Age of a lingering close from which it is cut short: a round trip to most clients.
const LINGERED: Duration = Duration::from_millis(100);
/// Age of an incomplete head from which it is closed for others: of an address that crowds, a few
/// round trips of a client that sends its head at once; else the time of a slow client.
const CROWDING_HEAD: Duration = Duration::from_millis(100);
const SLOW_HEAD: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Member {
    connection: Weak<dyn Displaceable>,
    /// `None`: it carries requests of many clients, or its address is unknown.
    network: Option<Network>,
    drain: CancellationToken,
}

/// A connection as far as it may be closed for others.
pub trait Displaceable: Send + Sync + std::fmt::Debug {
    /// The state in which it may be closed; `None` while it serves a request.
    fn without_request(&self) -> Option<WithoutRequest>;
    /// Marks it: it ends by the next look at its `drain` token unless a request has begun.
    fn displace(&self);
}

/// A connection that serves no request, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutRequest {
    /// Between two requests.
    Idle(Duration),
    /// Before the end of a head, of which nothing need have arrived.
    Head(Duration),
    /// In a lingering close.
    Lingering(Duration),
}

/// One connection in the list of all, removed when it is dropped.
#[derive(Debug)]
pub struct Entry(Arc<Listed>, u64);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// All open connections.
#[derive(Debug)]
pub struct Listed {
    most: usize,
    members: Mutex<HashMap<u64, Member>>,
    next: AtomicU64,
    displaced: Throttle,
}

impl Listed {
    /// An empty list, of which `most` connections may be open.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            members: Mutex::default(),
            next: AtomicU64::new(0),
            displaced: Throttle::default(),
        }
    }

    /// Lists a connection, which ends when `drain` is cancelled and it serves no request.
    pub fn enter(
        self: &Arc<Self>,
        connection: &Arc<impl Displaceable + 'static>,
        address: Option<IpAddr>,
        drain: CancellationToken,
    ) -> Entry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let connection: Weak<dyn Displaceable> = Arc::downgrade(connection) as _;
        let member = Member {
            connection,
            network: address.map(Network::from),
            drain,
        };
        self.lock().insert(number, member);
        Entry(Arc::clone(self), number)
    }

    /// Cuts lingering closes short, the oldest first. Returns false if there was none.
    pub fn end_lingering_ones(&self) -> bool {
        let listed = self.lock();
        let mut lingering = Vec::new();
        for member in listed.values() {
            if let Some(connection) = member.connection.upgrade()
                && let Some(WithoutRequest::Lingering(age)) = connection.without_request()
                && age >= LINGERED
                && !member.drain.is_cancelled()
            {
                lingering.push((age, connection, &member.drain));
            }
        }
        self.displace(&mut lingering);
        !lingering.is_empty()
    }

    /// Closes incomplete heads of the address that has most of them, the oldest first, if it
    /// crowds. Returns false if none was closed.
    pub fn end_crowding_heads(&self) -> bool {
        let listed = self.lock();
        let mut heads: HashMap<Network, Vec<_>> = HashMap::new();
        for member in listed.values() {
            let connection = member.connection.upgrade();
            if let (Some(network), Some(connection)) = (member.network, connection)
                && let Some(WithoutRequest::Head(age)) = connection.without_request()
            {
                let of_network = heads.entry(network).or_default();
                of_network.push((age, connection, &member.drain));
            }
        }
        let Some((network, mut heads)) = heads.into_iter().max_by_key(|(_, heads)| heads.len())
        else {
            return false;
        };
        if heads.len() <= (self.most / CROWD_PART).max(CROWD.min(self.most / 2)) {
            return false;
        }
        heads.retain(|(age, ..)| *age >= CROWDING_HEAD);
        self.displace(&mut heads);
        if !heads.is_empty()
            && let Some(before) = self.displaced.is_due()
        {
            tracing::warn!(code = codes::MAX_CONNECTIONS,
                client = %network, reported_before = before,
                "connections closed for others that wait: they sent no complete request header, and the address has most of these"
            );
        }
        !heads.is_empty()
    }

    /// Closes those that have been idle longest, and slow heads: a part of all, because clients
    /// seldom come alone.
    pub fn end_idle_ones(&self) {
        let listed = self.lock();
        let (mut idle, mut heads) = (Vec::new(), Vec::new());
        for member in listed.values() {
            let Some(connection) = member.connection.upgrade() else {
                continue;
            };
            match connection.without_request() {
                Some(WithoutRequest::Idle(age)) if !member.drain.is_cancelled() => {
                    idle.push((age, &member.drain));
                }
                Some(WithoutRequest::Head(age)) if age >= SLOW_HEAD && member.network.is_some() => {
                    heads.push((age, connection, &member.drain));
                }
                _ => {}
            }
        }
        self.displace(&mut heads);
        idle.sort_unstable_by_key(|(age, _)| Reverse(*age));
        for (_, drain) in idle.iter().take(self.part_to_end()) {
            drain.cancel();
        }
    }

    fn displace(&self, connections: &mut [(Duration, Arc<dyn Displaceable>, &CancellationToken)]) {
        connections.sort_unstable_by_key(|(age, ..)| Reverse(*age));
        for (_, connection, drain) in connections.iter().take(self.part_to_end()) {
            connection.displace();
            drain.cancel();
        }
    }

    fn part_to_end(&self) -> usize {
        (self.most / ENDED_PART).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Member>> {
        self.members.lock()
    }
}
