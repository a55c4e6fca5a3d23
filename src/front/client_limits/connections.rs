//! Number of connections, in all and from one address, and their limits.
//!
//! At the limit of all, no connection is accepted until one ends: new ones queue in the kernel's
//! backlog, and HTTP/1 responses carry `Connection: close`. At the limit of one address its next
//! connection is closed at once. While clients wait, connections without a request are closed for
//! them (nginx: `ngx_drain_connections`): first those of an address that has many of them
//! incomplete heads, silent connections included; then those that have been idle longest.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::displacement::Listed;
use super::memory_budget::{Account, CONNECTION, HYPER, Resource};
use super::network::Network;
use crate::config::ClientLimits;
use crate::observe::codes;
use crate::observe::throttle::Throttle;
use crate::os::{descriptors, process};

/// Pause after an accept that failed because descriptors or memory ran out: long enough not to
/// spin, short enough not to be noticed.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors for everything but clients and workers: 22 of a server at rest, and as many
/// visitors of the admin listener and the control socket as there may be at a time.
const OTHER_DESCRIPTORS: u64 = 40;
/// Those of a server at rest beside its workers, and those that exist while a template starts or a
/// worker is forked: pipes, the host's memory file, both ends of what is passed on.
const AT_REST: u64 = 22;
const START: u64 = 16;
/// Default limit: with 30 KB for each whose head is incomplete (benches/attacks.py), they take 300
/// MB at most.
const USUAL: u32 = 10_000;
/// Lower bound of the limit, even where descriptors seem to be fewer.
const FEWEST: u64 = 4;
/// A lower limit causes a warning: clients of a page open several connections, probes too.
const FEW: u64 = 64;
/// Lower bound of the limit of spool files: one connection may have an eighth.
const FEWEST_FILES: u64 = 16;

/// The connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    free: Arc<Semaphore>,
    /// `u32::MAX` without a limit for each address.
    most_each: AtomicU32,
    /// Counted even without a limit: a reload may set one. Never longer than the number of
    /// connections.
    each: Mutex<HashMap<Network, (u32, Arc<Account>)>>,
    /// What each of them does, and how it is asked to end.
    pub listed: Arc<Listed>,
    waits: Throttle,
    refusals: Throttle,
    /// The time of the last accept that failed for want of descriptors or memory.
    failed: Mutex<Option<Instant>>,
}

/// One connection's slot, returned when it is dropped.
#[derive(Debug)]
pub struct ListenerPermit(#[expect(dead_code, reason = "frees itself")] OwnedSemaphorePermit);

/// One connection of an address, returned when it is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    connections: Arc<Connections>,
    network: Network,
    account: Arc<Account>,
}

impl AddressPermit {
    /// The memory and descriptors that the address holds, on all its connections.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Connections {
    /// Limits from the settings and the kernel's limit of descriptors, which is raised to the hard
    /// limit. `workers` are the descriptors of the workers of all applications; a reload needs as
    /// many again.
    pub fn new(limits: &ClientLimits, workers: u64) -> Self {
        let limit = process::raise_descriptor_limit();
        let free = free_for_clients(limit, workers);
        descriptors::keep_from(limit - kept(limit, workers));
        let room = (free / 2).max(FEWEST);
        // A quarter for spool files, a quarter for upstreams and files that are sent.
        let spool_files = usize::try_from((free / 4).max(FEWEST_FILES)).unwrap_or(usize::MAX / 2);
        Resource::SpoolFiles.pool().set_limit(spool_files);
        // Until half of all descriptors are in use, files are sent without asking. With those of one
        // address's connections that is up to a quarter; others get a part of the rest.
        let sent_files = usize::try_from((free * 3 / 8).max(FEWEST_FILES));
        Resource::SentFiles
            .pool()
            .set_limit(sent_files.unwrap_or(usize::MAX / 2));
        // All of them may have a request at a time.
        let wanted = match limits.connections {
            Some(wanted) => wanted.into(),
            None => u64::from(USUAL)
                .min((limits.memory / (CONNECTION + HYPER)) as u64)
                .max(FEWEST),
        };
        if room < wanted && (limits.connections.is_some() || room < FEW) {
            tracing::warn!(
                code = codes::DESCRIPTOR_LIMIT,
                descriptors = limit,
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
            listed: Arc::new(Listed::new(most)),
            waits: Throttle::default(),
            refusals: Throttle::default(),
            failed: Mutex::default(),
        }
    }

    /// Sets the limit of each address; open connections are not closed.
    pub fn limit_each(&self, most: Option<u32>) {
        let most = most.unwrap_or(u32::MAX);
        self.most_each.store(most, Ordering::Relaxed);
    }

    /// Waits for a slot, in order of arrival.
    pub async fn place(&self) -> ListenerPermit {
        let free = Arc::clone(&self.free);
        if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
            return ListenerPermit(place);
        }
        if self.waits.is_due().is_some() {
            tracing::warn!(
                code = codes::MAX_CONNECTIONS,
                connections = self.most,
                "connection limit reached (--max-connections): new connections wait in the backlog"
            );
        }
        match free.acquire_owned().await {
            Ok(place) => ListenerPermit(place),
            // The semaphore is never closed.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Notes an accept that failed for want of descriptors or memory. It is tried again at once, so
    /// the next one shows if there are some.
    pub fn cannot_accept(&self) {
        *self.failed.lock() = Some(Instant::now());
    }

    /// True while accepts fail.
    pub fn refuses(&self) -> bool {
        let failed = *self.failed.lock();
        failed.is_some_and(|at| at.elapsed() < 4 * ACCEPT_PAUSE)
    }

    /// Number of open connections.
    #[cfg(test)]
    pub fn open(&self) -> usize {
        self.most - self.free.available_permits().min(self.most)
    }

    /// True if the limit is reached.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Counts a connection from `address`; a Unix socket has none.
    ///
    /// # Errors
    /// [`TooMany`] if the address has reached its limit.
    pub fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<Option<AddressPermit>, TooMany> {
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
            return Ok(Some(AddressPermit {
                connections,
                network,
                account,
            }));
        }
        drop(each);
        if let Some(before) = self.refusals.is_due() {
            tracing::warn!(code = codes::MAX_CONNECTIONS_PER_IP,
                client = %network, limit = most, refused_before = before,
                "connection closed: the address has reached its limit (--max-connections-per-ip)"
            );
        }
        Err(TooMany)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, (u32, Arc<Account>)>> {
        self.each.lock()
    }
}

/// Descriptors for clients beside the workers and those of a reload; where the limit is too low
/// for a reload, half of those beside the workers.
fn free_for_clients(limit: u64, workers: u64) -> u64 {
    let beside = |sets: u64| limit.saturating_sub(OTHER_DESCRIPTORS + sets * workers);
    beside(2).max(beside(1) / 2)
}

/// Descriptors that clients never get: those of a second set of workers and of its start; where the
/// limit is too low, two thirds of those beside the workers.
fn kept(limit: u64, workers: u64) -> u64 {
    let beside = limit.saturating_sub(AT_REST + workers);
    (workers + START).min(beside * 2 / 3)
}

/// The address has reached its limit of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Drop for AddressPermit {
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
        assert_eq!(kept(1024, 10), 26);
        assert_eq!(kept(64, 10), 21, "fewer than all");
        assert_eq!(kept(64, 600), 0);
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
