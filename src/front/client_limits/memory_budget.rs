//! The budget for resources that clients take in the front: memory, descriptors of spool files, and
//! bytes in them.
//!
//! A [`Pool`] is a total for the process. An [`Account`] is one client of it, a connection, and
//! belongs to the account of its address. A [`Reservation`] is returned when it is dropped. Each
//! costs a few relaxed additions and no lock; small HTTP/1 requests make none, because their
//! connection holds [`CONNECTION`] for them.
//!
//! Shares follow dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds", 1998):
//! an account may hold as much as is still free afterwards. So one address gets half of an
//! otherwise unused pool, each of nine gets a tenth, and a tenth stays free for the next.
//!
//! The module knows neither what is held nor what happens to a request that is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes of an open connection: its task, and the beginning of a head. Measured: 6 KB while it is
/// idle (`benches/connections.py`), and 4 KB more of a head.
pub const CONNECTION: usize = 12 << 10;
/// Bytes that a TLS session takes beside [`CONNECTION`]: its state, and a buffer for records, which
/// is 4 KiB while it is idle and 18 KiB while a record arrives.
pub const TLS: usize = 16 << 10;
/// Bytes that an HTTP/1 connection takes beside [`CONNECTION`] while hyper serves it. Live
/// allocations of an unread response of a uwsgi server were counted: hyper's buffers for reading
/// (16 KiB) and for heads (8 KiB), and 14 KB of tasks, futures, fields and the exchange with the
/// server.
pub const HYPER: usize = 36 << 10;
/// Bytes that an HTTP/2 connection takes beside [`CONNECTION`]: h2's buffer of frames, HPACK
/// tables, and an incomplete head.
pub const HTTP2: usize = 32 << 10;
/// Bytes of one HTTP/2 request beside large fields and its body. Task, head and state in h2 take a
/// quarter; measured with 920 unread responses whose bodies are in files, for which the allocator
/// keeps the buffers of many threads.
pub const STREAM: usize = 40 << 10;
/// Bytes of an HTTP/2 stream whose request has ended here, until its last frame is sent: its state
/// in h2, the head of its response, and a body of up to [`SMALL`].
pub const OPEN_STREAM: usize = 6 << 10;
/// Heads, bodies and buffers up to this size are part of [`CONNECTION`] and [`STREAM`].
pub const SMALL: usize = 4 << 10;
/// The budget without a memory limit.
pub const USUAL: usize = 256 << 20;

/// The fraction of the free memory that one connection may hold: a quarter, so a fifth of an unused
/// budget at most.
const CONNECTION_PART: usize = 4;

/// The fraction of the memory that only the first requests of connections get. Clients that come
/// one after the other, each with its share of what is free, would leave next to nothing.
const FOR_FIRST: usize = 8;

/// The fraction of the memory that parts of responses may take, beyond [`SMALL`] bytes of each
/// connection. Connections are never refused for want of memory, and each takes [`CONNECTION`] and
/// [`HYPER`] when it comes: what unread responses of earlier ones hold cannot be taken back then.
/// Measured with 32 MiB and 900 connections that read nothing: parts of 64 KiB for the first 300 of
/// them made 43 MiB of all.
const FOR_PARTS: usize = 8;

/// Sets the limit of memory, and of what belongs to it.
pub fn set_memory_limit(bytes: usize) {
    MEMORY.set_limit(bytes);
    PARTS.set_limit(bytes / FOR_PARTS);
}

/// Memory in bytes.
static MEMORY: Pool = Pool::new(USUAL);
/// Bytes of response parts longer than [`SMALL`]; they also count in [`MEMORY`].
static PARTS: Pool = Pool::new(USUAL / FOR_PARTS);
/// Open files of request bodies and responses.
static SPOOL_FILES: Pool = Pool::new(usize::MAX / 2);

/// Open files that responses send.
static SENT_FILES: Pool = Pool::new(usize::MAX / 2);

/// A resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Bytes of response parts longer than [`SMALL`]: a fraction of the memory.
    Parts,
    /// Descriptors of spool files.
    SpoolFiles,
    /// Descriptors of files that are sent. One connection may have the part of its address.
    SentFiles,
    /// For one test only; other tests use the rest at the same time.
    #[cfg(test)]
    Tested,
}

#[cfg(test)]
static TESTED: Pool = Pool::new(1000);

impl Resource {
    /// The process's total.
    pub fn pool(self) -> &'static Pool {
        match self {
            Self::Memory => &MEMORY,
            Self::Parts => &PARTS,
            Self::SpoolFiles => &SPOOL_FILES,
            Self::SentFiles => &SENT_FILES,
            #[cfg(test)]
            Self::Tested => &TESTED,
        }
    }
}

/// Bytes on disk; the settings limit each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spooled {
    /// Request bodies.
    Requests,
    /// Responses.
    Responses,
}

/// The total of a resource.
#[derive(Debug)]
pub struct Pool {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Pool {
    /// A pool of which nothing is used.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
        }
    }

    /// Changes the limit. Reservations stay valid.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The amount in use. It may exceed the limit: connections are not refused.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The amount that is free.
    pub fn free(&self) -> usize {
        self.limit().saturating_sub(self.used())
    }

    /// Counts `amount` without asking for room.
    pub fn add(&self, amount: usize) {
        self.used.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns `amount`.
    pub fn take(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// The usage of a client.
#[derive(Debug)]
pub struct Account {
    memory: AtomicUsize,
    parts: AtomicUsize,
    spool_files: AtomicUsize,
    sent_files: AtomicUsize,
    /// The address's bytes on disk, by [`Spooled`].
    spooled: [AtomicU64; 2],
    /// The account may hold the free amount divided by this.
    part: usize,
    /// The account of its address.
    address: Option<Arc<Account>>,
}

impl Account {
    /// The account of an address, or of a connection that carries the requests of many clients.
    pub fn of_address() -> Self {
        Self {
            memory: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            spool_files: AtomicUsize::new(0),
            sent_files: AtomicUsize::new(0),
            spooled: Default::default(),
            part: 1,
            address: None,
        }
    }

    /// The account of a connection from an address.
    pub fn of_connection(address: Arc<Account>) -> Self {
        Self {
            part: CONNECTION_PART,
            address: Some(address),
            ..Self::of_address()
        }
    }

    /// Reserves `amount` if this connection and its address may have it.
    pub fn try_reserve(self: &Arc<Self>, resource: Resource, amount: usize) -> Option<Reservation> {
        let mut reservation = Reservation::none(Arc::clone(self), resource);
        reservation.grow(amount).then_some(reservation)
    }

    /// Reserves `amount` of memory for the only request of a connection. It has the part of its
    /// address, and what [`FOR_FIRST`] keeps.
    pub fn try_reserve_for_first(self: &Arc<Self>, amount: usize) -> Option<Reservation> {
        let free = Resource::Memory.pool().free();
        let may_have = self.is_within(Resource::Memory, amount, free, 1);
        may_have.then(|| self.hold(amount))
    }

    /// Counts the descriptor of a file that a response sends. `None`: there is no room for it.
    pub fn try_send_file(self: &Arc<Self>, is_scarce: bool) -> Option<Reservation> {
        let mut reservation = Reservation::none(Arc::clone(self), Resource::SentFiles);
        if is_scarce {
            return reservation.grow(1).then_some(reservation);
        }
        reservation.hold(1);
        Some(reservation)
    }

    /// Reserves memory even where there is none: for what exists already.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Reservation {
        let mut reservation = Reservation::none(Arc::clone(self), Resource::Memory);
        reservation.hold(bytes);
        reservation
    }

    /// Reserves `bytes` of a spool whose limit is `limit`. An address may have as much as is free
    /// afterwards; more if it has no others than `alone`, the caller's own bytes. `false`: there is
    /// no room, and nothing changes.
    pub fn try_spool(
        &self,
        what: Spooled,
        bytes: u64,
        alone: Option<u64>,
        (used, limit): (&AtomicU64, u64),
    ) -> bool {
        let held = self.spooled(what);
        let of_address = held.load(Ordering::Relaxed);
        let is_alone = alone.is_some_and(|own| of_address <= own);
        let grown = |used: u64| {
            let used = used.checked_add(bytes).filter(|used| *used <= limit)?;
            let is_fair = of_address.saturating_add(bytes) <= limit - used;
            (is_fair || is_alone).then_some(used)
        };
        let is_reserved = used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .is_ok();
        if is_reserved {
            held.fetch_add(bytes, Ordering::Relaxed);
        }
        is_reserved
    }

    /// Returns bytes reserved by [`Account::try_spool`].
    pub fn unspool(&self, what: Spooled, bytes: u64, used: &AtomicU64) {
        self.spooled(what).fetch_sub(bytes, Ordering::Relaxed);
        used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn spooled(&self, what: Spooled) -> &AtomicU64 {
        let address = self.address.as_deref().unwrap_or(self);
        &address.spooled[what as usize]
    }

    fn held(&self, resource: Resource) -> &AtomicUsize {
        match resource {
            Resource::Memory => &self.memory,
            Resource::Parts => &self.parts,
            Resource::SpoolFiles => &self.spool_files,
            Resource::SentFiles => &self.sent_files,
            #[cfg(test)]
            Resource::Tested => &self.spool_files,
        }
    }

    fn may_have(&self, resource: Resource, amount: usize) -> bool {
        let pool = resource.pool();
        let kept = match resource {
            Resource::Memory => pool.limit() / FOR_FIRST,
            _ => 0,
        };
        let free = pool.free().saturating_sub(kept);
        let part = match resource {
            Resource::SentFiles => 1,
            _ => self.part,
        };
        self.is_within(resource, amount, free, part)
    }

    fn is_within(&self, resource: Resource, amount: usize, free: usize, part: usize) -> bool {
        let Some(free) = free.checked_sub(amount) else {
            return false;
        };
        let within = |account: &Self, part: usize| {
            let held = account.held(resource).load(Ordering::Relaxed);
            held.saturating_add(amount).saturating_mul(part) <= free
        };
        let address = self.address.as_deref();
        within(self, part) && address.is_none_or(|address| within(address, address.part))
    }

    fn add(&self, resource: Resource, amount: usize) {
        self.held(resource).fetch_add(amount, Ordering::Relaxed);
        match &self.address {
            Some(address) => address.add(resource, amount),
            None => resource.pool().add(amount),
        }
    }

    fn take(&self, resource: Resource, amount: usize) {
        self.held(resource).fetch_sub(amount, Ordering::Relaxed);
        match &self.address {
            Some(address) => address.take(resource, amount),
            None => resource.pool().take(amount),
        }
    }
}

/// A part of a pool, returned when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    resource: Resource,
    amount: usize,
}

impl Reservation {
    /// An empty reservation.
    pub fn none(account: Arc<Account>, resource: Resource) -> Self {
        Self {
            account,
            resource,
            amount: 0,
        }
    }

    /// The account that holds it.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The amount held.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Grows to `amount` in all. Returns `false` and changes nothing if there is no room.
    pub fn grow(&mut self, amount: usize) -> bool {
        let more = amount.saturating_sub(self.amount);
        if more > 0 {
            if !self.account.may_have(self.resource, more) {
                return false;
            }
            self.account.add(self.resource, more);
            self.amount = amount;
        }
        true
    }

    /// Grows to `amount` in all, even where there is no room.
    pub fn hold(&mut self, amount: usize) {
        let more = amount.saturating_sub(self.amount);
        if more > 0 {
            self.account.add(self.resource, more);
            self.amount += more;
        }
    }

    /// Returns all but `amount`.
    pub fn shrink(&mut self, amount: usize) {
        let less = self.amount.saturating_sub(amount);
        if less > 0 {
            self.account.take(self.resource, less);
            self.amount -= less;
        }
    }

    /// Attaches the reservation to `bytes`, which hold it as long as a copy of them exists.
    pub fn around(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _reservation: self,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_share_a_pool_and_always_leave_room_for_one_more() {
        let pool = Resource::Tested.pool();
        let fill = |account: &Arc<Account>| {
            let one = || account.try_reserve(Resource::Tested, 1);
            std::iter::from_fn(one).collect::<Vec<_>>()
        };
        let address = Arc::new(Account::of_address());
        let connection = Arc::new(Account::of_connection(Arc::clone(&address)));
        let by_connection = fill(&connection);
        assert_eq!(by_connection.len(), 200, "a fifth");
        let connections: Vec<_> = (0..20)
            .map(|_| Arc::new(Account::of_connection(Arc::clone(&address))))
            .collect();
        let mut by_address: Vec<_> = connections.iter().map(fill).collect();
        by_address.push(by_connection);
        assert_eq!(pool.used(), 500, "half");
        // Each further address gets half of the rest.
        let other = Arc::new(Account::of_address());
        by_address.push(fill(&other));
        assert_eq!(pool.used(), 750);
        drop(by_address);
        assert_eq!(pool.used(), 0);
        let mut one = connection.try_reserve(Resource::Tested, 100).unwrap();
        assert!(one.grow(200) && !one.grow(201));
        one.shrink(10);
        assert_eq!((one.amount(), pool.used()), (10, 10));
        drop(one);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn addresses_share_a_spool_and_leave_room_for_one_more() {
        let used = AtomicU64::new(0);
        let address = Arc::new(Account::of_address());
        let connections = [(); 3].map(|()| Account::of_connection(Arc::clone(&address)));
        let one = |account: &Account, alone| {
            account.try_spool(Spooled::Responses, 1, alone, (&used, 1000))
        };
        let fill = |account: &Account| (0..2000).filter(|_| one(account, None)).count();
        assert_eq!(connections.each_ref().map(fill), [500, 0, 0], "half");
        let other = Account::of_address();
        assert_eq!(fill(&other), 250, "half of the rest");
        assert!(!one(&other, Some(249)), "it has another body");
        assert_eq!(
            (0..2000).filter(|_| one(&other, Some(250 + 250))).count(),
            250
        );
        assert!(
            !one(&Account::of_address(), Some(0)),
            "the limit holds for all"
        );
        connections[2].unspool(Spooled::Responses, 500, &used);
        other.unspool(Spooled::Responses, 500, &used);
        assert_eq!(used.load(Ordering::Relaxed), 0);
        assert_eq!(fill(&connections[1]), 500);
        assert!(connections[0].try_spool(Spooled::Requests, 500, None, (&AtomicU64::new(0), 1000)));
    }

    #[test]
    fn the_first_request_of_a_connection_finds_memory_behind_many_others() {
        // Others use the pool as well, but little.
        let amount = Resource::Memory.pool().limit() / 50;
        let accounts: Vec<_> = (0..100)
            .map(|_| Arc::new(Account::of_connection(Arc::new(Account::of_address()))))
            .collect();
        let fill = |account: &Arc<Account>| {
            let one = || account.try_reserve(Resource::Memory, amount / 10);
            std::iter::from_fn(one).collect::<Vec<_>>()
        };
        let _held: Vec<_> = accounts.iter().map(fill).collect();
        let new = Arc::new(Account::of_connection(Arc::new(Account::of_address())));
        assert!(new.try_reserve(Resource::Memory, amount).is_none());
        let first = new.try_reserve_for_first(amount);
        assert!(first.is_some());
        let third = Resource::Memory.pool().limit() / 3;
        assert!(new.try_reserve_for_first(third).is_none());
    }

    #[test]
    fn bytes_hold_their_reservation_until_the_last_copy_is_gone() {
        let account = Arc::new(Account::of_address());
        let bytes = account.hold(3).around(Bytes::from_static(b"abc"));
        let copy = bytes.slice(1..);
        drop(bytes);
        assert_eq!(account.memory.load(Ordering::Relaxed), 3);
        drop(copy);
        assert_eq!(account.memory.load(Ordering::Relaxed), 0);
    }
}
