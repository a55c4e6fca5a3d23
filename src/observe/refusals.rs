//! Keeps refused requests from filling the logs: of each client some are logged, and the others
//! are counted.
//!
//! A request over HTTP/2 may have few bytes and stand for many. So the lines of malformed
//! requests are bounded by time, not by requests: [`MOST_LINES`] of one address in a
//! [`PERIOD`], in either log; then one line that says so, and later one with their number.

use super::codes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// As for other floods ([`super::throttle`]).
const PERIOD: Duration = Duration::from_secs(10);
/// Enough to see what a client does wrong. With lines of at most 5 KiB it makes 250 KiB.
const MOST_LINES: u32 = 50;
/// Largest number of addresses with a count of their own. Others share one.
const MOST_ADDRESSES: usize = 1024;

/// The log entry of one refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// Its line, in each log.
    Line,
    /// In place of it, that no more lines of this client come for a while.
    LastLine,
    /// Nothing.
    Nothing,
}

/// Refused requests of one client that were counted only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// The client; `None`: clients on Unix sockets, or too many to distinguish.
    pub address: Option<IpAddr>,
    /// Number of refused requests.
    pub count: u64,
}

/// The counts of this process, as time goes by. Says what it has counted.
pub fn refused(address: Option<IpAddr>) -> Logged {
    static REFUSALS: LazyLock<Refusals> = LazyLock::new(|| Refusals::new(Instant::now()));
    let (logged, over) = REFUSALS.refused(address, Instant::now());
    for HeldBack { address, count } in over {
        tracing::warn!(
            code = codes::MALFORMED,
            client = address.map(tracing::field::display),
            count,
            "more requests of a client were rejected than are logged"
        );
    }
    if logged == Logged::LastLine {
        tracing::warn!(
            code = codes::MALFORMED,
            client = address.map(tracing::field::display),
            seconds = PERIOD.as_secs(),
            "a client sends many requests that are rejected: no more of them are logged for a while"
        );
    }
    logged
}

/// Counts of refused requests, by address.
#[derive(Debug)]
pub struct Refusals {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    by_address: HashMap<Option<IpAddr>, Count>,
    swept: Instant,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    count: u64,
}

impl Count {
    fn held_back(&self) -> u64 {
        self.count.saturating_sub(u64::from(MOST_LINES))
    }
}

impl Refusals {
    /// Nothing was refused yet.
    pub fn new(now: Instant) -> Self {
        let counts = Counts {
            by_address: HashMap::new(),
            swept: now,
        };
        Self {
            counts: Mutex::new(counts),
        }
    }

    /// A request of `address` is refused: what is logged of it, and what was held back in
    /// periods that are over.
    pub fn refused(&self, address: Option<IpAddr>, now: Instant) -> (Logged, Vec<HeldBack>) {
        let mut counts = self.counts.lock();
        let over = counts.over(now);
        let known = counts.by_address.len();
        let mut key = address.map(network);
        if known >= MOST_ADDRESSES && !counts.by_address.contains_key(&key) {
            key = None;
        }
        let count = counts.by_address.entry(key).or_insert(Count {
            since: now,
            count: 0,
        });
        count.count += 1;
        let logged = match count.count.cmp(&u64::from(MOST_LINES + 1)) {
            std::cmp::Ordering::Less => Logged::Line,
            std::cmp::Ordering::Equal => Logged::LastLine,
            std::cmp::Ordering::Greater => Logged::Nothing,
        };
        (logged, over)
    }
}

impl Counts {
    /// Takes out all whose period is over, and looks for them once a second at most.
    fn over(&mut self, now: Instant) -> Vec<HeldBack> {
        if now.saturating_duration_since(self.swept) < PERIOD / 10 {
            return Vec::new();
        }
        self.swept = now;
        let mut over = Vec::new();
        self.by_address.retain(|address, count| {
            let is_over = now.saturating_duration_since(count.since) >= PERIOD;
            if is_over && count.held_back() > 0 {
                over.push(HeldBack {
                    address: *address,
                    count: count.held_back(),
                });
            }
            !is_over
        });
        over
    }
}

/// An address of IPv6 is one of 2^64 that its owner has.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(refusals: &Refusals, address: &str, count: u32, now: Instant) -> Vec<Logged> {
        let address = Some(address.parse().unwrap());
        let each = (0..count).map(|_| refusals.refused(address, now).0);
        each.collect()
    }

    #[test]
    fn some_of_a_client_are_logged_and_the_others_counted() {
        let start = Instant::now();
        let refusals = Refusals::new(start);
        let logged = lines(&refusals, "192.0.2.1", 5000, start);
        assert!(logged[..50].iter().all(|logged| *logged == Logged::Line));
        assert_eq!(logged[50], Logged::LastLine);
        assert!(logged[51..].iter().all(|logged| *logged == Logged::Nothing));
        // Others are not kept from their lines.
        assert_eq!(lines(&refusals, "192.0.2.2", 1, start), [Logged::Line]);
        // The next refused request, of any client, reports them.
        let (logged, over) = refusals.refused(None, start + PERIOD);
        let held_back = HeldBack {
            address: Some("192.0.2.1".parse().unwrap()),
            count: 4950,
        };
        assert_eq!((logged, over), (Logged::Line, vec![held_back]));
        let again = lines(&refusals, "192.0.2.1", 1, start + PERIOD);
        assert_eq!(again, [Logged::Line]);
    }

    #[test]
    fn addresses_of_one_network_and_crowds_are_counted_together() {
        let start = Instant::now();
        let refusals = Refusals::new(start);
        lines(&refusals, "2001:db8::1", 50, start);
        let same = lines(&refusals, "2001:db8::ffff:1", 1, start);
        assert_eq!(same, [Logged::LastLine]);
        let other = lines(&refusals, "2001:db8:0:1::1", 1, start);
        assert_eq!(other, [Logged::Line]);
        let crowd: usize = (0..100_000_u32)
            .map(|number| {
                refusals
                    .refused(Some(IpAddr::from(number.to_be_bytes())), start)
                    .0
            })
            .filter(|logged| *logged == Logged::Line)
            .count();
        assert!(crowd <= MOST_ADDRESSES + 50, "{crowd}");
        let counts = refusals.counts.lock();
        assert!(counts.by_address.len() <= MOST_ADDRESSES + 1);
    }
}
