//! How many connections there are, in all and from one address, and how many there may be.
//!
//! At the limit of all, nobody is accepted until one of them ends: who comes waits in the
//! kernel's backlog, and answers over HTTP/1 end their connections. At the limit of one
//! address its next connection is closed at once. While clients wait, connections that are idle
//! make room for them (nginx: `ngx_drain_connections`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::memory_budget::{Account, CONNECTION, Resource};
use super::reception::PAUSE;
use crate::config::ClientLimits;
use crate::observe::throttle::Throttle;
use crate::os::process;

/// Descriptors for everything but clients and workers: 22 of a server at rest, and as many
/// visitors of the admin listener and the control socket as there may be at a time.
const OTHER_DESCRIPTORS: u64 = 40;
/// Connections where the settings say nothing: with 30 KB for each whose head is on its way
/// (benches/attacks.py) they take 300 MB at most.
const USUAL: u32 = 10_000;
/// Connections even where descriptors seem to be fewer.
const FEWEST: u64 = 4;
/// The part of all connections that ends at a time where all are taken.
const ENDED_PART: usize = 32;
/// Connections of which there is a warning if there are fewer: a page's clients and probes.
const FEW: u64 = 64;
/// Spool files even where descriptors seem to be fewer: one connection may have an eighth.
const FEWEST_FILES: u64 = 16;

/// The connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    free: Arc<Semaphore>,
    /// `u32::MAX` without a limit for each address.
    most_each: AtomicU32,
    /// Counted without a limit as well: there may be one after a reload. Never longer than
    /// there are connections.
    each: Mutex<HashMap<Network, (u32, Arc<Account>)>>,
    /// What each of them does, and how it is asked to end.
    listed: Mutex<HashMap<u64, (Weak<Activity>, CancellationToken)>>,
    next: AtomicU64,
    waits: Throttle,
    refusals: Throttle,
    /// The last accept that failed for want of descriptors or memory.
    failed: Mutex<Option<Instant>>,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "frees itself")] OwnedSemaphorePermit);

/// One connection in the list of all, taken out when it is dropped.
#[derive(Debug)]
pub struct Listed(Arc<Connections>, u64);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.lock_listed().remove(&self.1);
    }
}

/// One connection of an address, given back when it is dropped.
#[derive(Debug)]
pub struct Guest {
    connections: Arc<Connections>,
    network: Network,
    account: Arc<Account>,
}

impl Guest {
    /// The memory and descriptors that the address takes, on all its connections.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// Whom one customer of a network provider has: an IPv4 address, or the /64 of an IPv6
/// address, in which a single machine may choose freely (RFC 6177, RFC 8981).
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
    /// Its number, for tables that hash by themselves.
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

impl Connections {
    /// With room for as many as the settings allow and the kernel has descriptors for, of
    /// which this process then takes all that it may. `workers` are the descriptors of the
    /// workers of all applications; a reload needs as many again.
    pub fn new(limits: &ClientLimits, workers: u64) -> Self {
        let descriptors = process::raise_descriptor_limit();
        let free = free_for_clients(descriptors, workers);
        let room = (free / 2).max(FEWEST);
        // A quarter for spool files, a quarter for upstreams and files that are sent.
        let spool_files = usize::try_from((free / 4).max(FEWEST_FILES)).unwrap_or(usize::MAX / 2);
        Resource::SpoolFiles.pool().set_limit(spool_files);
        // Half of the memory is left for what they ask for.
        let wanted = match limits.connections {
            Some(wanted) => wanted.into(),
            None => u64::from(USUAL)
                .min((limits.memory / 2 / CONNECTION) as u64)
                .max(FEWEST),
        };
        if room < wanted && (limits.connections.is_some() || room < FEW) {
            tracing::warn!(
                descriptors,
                of_workers = workers,
                connections = room,
                "the limit on descriptors (ulimit -n) allows few connections beside workers and a reload"
            );
        }
        Self::with_room(wanted.min(room) as usize, limits.connections_per_ip)
    }

    fn with_room(most: usize, most_each: Option<u32>) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            most_each: AtomicU32::new(most_each.unwrap_or(u32::MAX)),
            each: Mutex::default(),
            listed: Mutex::default(),
            next: AtomicU64::new(0),
            waits: Throttle::default(),
            refusals: Throttle::default(),
            failed: Mutex::default(),
        }
    }

    /// From now on an address may have so many; none of those that are open is closed.
    pub fn limit_each(&self, most: Option<u32>) {
        let most = most.unwrap_or(u32::MAX);
        self.most_each.store(most, Ordering::Relaxed);
    }

    /// Waits for a place; whoever asked first has it first.
    pub async fn place(&self) -> Place {
        let free = Arc::clone(&self.free);
        if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
            return Place(place);
        }
        if self.waits.is_due().is_some() {
            tracing::warn!(
                connections = self.most,
                "as many connections as may be (--max-connections): new ones wait"
            );
        }
        match free.acquire_owned().await {
            Ok(place) => Place(place),
            // Nobody closes it.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Notes the outcome of an accept that failed for want of descriptors or memory. It is tried
    /// again at once, so the next one tells when there are some.
    pub fn cannot_accept(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// True while accepts fail.
    pub fn refuses(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < 4 * PAUSE)
    }

    /// Lists a connection, which ends when `drain` is cancelled and it is idle.
    pub fn list(self: &Arc<Self>, activity: &Arc<Activity>, drain: CancellationToken) -> Listed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let one = (Arc::downgrade(activity), drain);
        self.lock_listed().insert(number, one);
        Listed(Arc::clone(self), number)
    }

    /// Asks those to end that have been idle longest: a part of all, as clients seldom come alone.
    pub fn end_idle_ones(&self) {
        let mut idle = Vec::new();
        for (activity, drain) in self.lock_listed().values() {
            let idle_for = activity.upgrade().and_then(|activity| activity.idle_for());
            if let (Some(idle_for), false) = (idle_for, drain.is_cancelled()) {
                idle.push((idle_for, drain.clone()));
            }
        }
        idle.sort_unstable_by_key(|(idle_for, _)| Reverse(*idle_for));
        for (_, drain) in idle.iter().take((self.most / ENDED_PART).max(1)) {
            drain.cancel();
        }
    }

    fn lock_listed(&self) -> MutexGuard<'_, HashMap<u64, (Weak<Activity>, CancellationToken)>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.most - self.free.available_permits().min(self.most)
    }

    /// Whether there may be no more.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Counts a connection from `address`; a Unix socket has none. `Err`: it has as many as it
    /// may.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Option<Guest>, TooMany> {
        let most = self.most_each.load(Ordering::Relaxed);
        let Some(address) = address else {
            return Ok(None);
        };
        let network = Network::from(address);
        let mut each = self.lock();
        let new = || (0, Arc::new(Account::of_address()));
        let (count, account) = each.entry(network).or_insert_with(new);
        if *count < most {
            *count += 1;
            let account = Arc::clone(account);
            drop(each);
            let connections = Arc::clone(self);
            return Ok(Some(Guest {
                connections,
                network,
                account,
            }));
        }
        drop(each);
        if let Some(before) = self.refusals.is_due() {
            tracing::warn!(
                client = %network, limit = most, refused_before = before,
                "connection closed: the address has as many as it may (--max-connections-per-ip)"
            );
        }
        Err(TooMany)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, (u32, Arc<Account>)>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a limit leaves for clients beside the workers and those of a reload: at least half of
/// what a limit leaves that is too low for a reload.
fn free_for_clients(limit: u64, workers: u64) -> u64 {
    let beside = |sets: u64| limit.saturating_sub(OTHER_DESCRIPTORS + sets * workers);
    beside(2).max(beside(1) / 2)
}

/// An address has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Drop for Guest {
    fn drop(&mut self) {
        let mut each = self.connections.lock();
        if let Some((count, _)) = each.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                each.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn workers_and_a_reload_have_descriptors_before_clients() {
        assert_eq!(free_for_clients(1024, 10), 964);
        assert_eq!(free_for_clients(64, 10), 7, "too low for a reload");
        assert_eq!(free_for_clients(1024, 600), 192);
        assert_eq!(free_for_clients(64, 600), 0);
        assert_eq!(free_for_clients(u64::MAX, 600), u64::MAX - 1240);
    }

    #[tokio::test]
    async fn places_come_back() {
        let connections = Connections::with_room(2, None);
        let (one, _two) = (connections.place().await, connections.place().await);
        assert!(connections.is_full());
        assert_eq!(connections.open(), 2);
        drop(one);
        assert!(!connections.is_full());
        let _third = connections.place().await;
    }

    #[test]
    fn each_address_has_its_own_limit_and_ipv6_goes_by_networks() {
        let connections = Arc::new(Connections::with_room(9, Some(1)));
        let guest = connections.enter(address("203.0.113.9")).unwrap();
        assert!(connections.enter(address("::ffff:203.0.113.9")).is_err());
        let _other = connections.enter(address("203.0.113.10")).unwrap();
        let _ipv6 = connections.enter(address("2001:db8::1")).unwrap();
        assert!(connections.enter(address("2001:db8::2")).is_err());
        assert!(connections.enter(address("2001:db8:0:1::1")).is_ok());
        drop(guest);
        let _again = connections.enter(address("203.0.113.9")).unwrap();
        assert_eq!(connections.lock().len(), 3, "none is kept for nobody");
        connections.limit_each(Some(2));
        let _second = connections.enter(address("203.0.113.9")).unwrap();
        assert!(connections.enter(address("203.0.113.9")).is_err());
        connections.limit_each(None);
        assert!(connections.enter(address("203.0.113.9")).is_ok());
        assert!(
            connections.enter(None).unwrap().is_none(),
            "a Unix socket has none"
        );
    }
}
