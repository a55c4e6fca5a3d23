//! How many requests one address may make: a token bucket for each, in memory of fixed size.
//!
//! A bucket is one number, the time at which it is full again (the "generic cell rate
//! algorithm"). Buckets live in a table of rows that never grows: who finds its row taken
//! takes the place of the bucket that is full the soonest, which forgets the least. So an
//! attacker with very many addresses can have buckets forgotten, which lets requests
//! through, but none refused.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{ClientLimits, Rate};
use crate::front::connections::Network;

/// Rows of the table; with [`ROW`] buckets of 32 bytes each, 2 MiB for 65,536 addresses that
/// make requests at once.
const ROWS: usize = 1 << 14;
/// Buckets in a row.
const ROW: usize = 4;

/// The buckets.
#[derive(Debug)]
pub struct RateLimit {
    /// Time that one request takes out of a bucket.
    each: Duration,
    /// Time that a bucket holds.
    depth: Duration,
    began: Instant,
    hasher: RandomState,
    table: Mutex<Box<[[Bucket; ROW]]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    network: u128,
    /// Nanoseconds from `began` to the time when it is full again.
    full_at: u64,
}

impl RateLimit {
    /// What the settings say; `None` if they limit nobody.
    pub fn under(limits: &ClientLimits) -> Option<Self> {
        Some(Self::new(limits.rate?, limits.burst))
    }

    /// `burst` requests at once, and afterwards at this rate.
    fn new(rate: Rate, burst: u32) -> Self {
        let each = rate.period / rate.requests.max(1);
        Self {
            each,
            depth: each * burst.max(1),
            began: Instant::now(),
            hasher: RandomState::new(),
            table: Mutex::new(vec![[Bucket::default(); ROW]; ROWS].into()),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long the address must wait for its next one.
    pub fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        self.admit_at(address, self.began.elapsed())
    }

    fn admit_at(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let network = Network::from(address).bits();
        let row = self.hasher.hash_one(network) as usize % ROWS;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let row = &mut table[row];
        let own = row.iter().position(|bucket| bucket.network == network);
        let place = match own {
            Some(place) => place,
            None => {
                let soonest = (0..ROW).min_by_key(|place| row[*place].full_at);
                let place = soonest.unwrap_or(0);
                row[place] = Bucket {
                    network,
                    full_at: 0,
                };
                place
            }
        };
        let full_at = Duration::from_nanos(row[place].full_at).max(now) + self.each;
        let excess = full_at.saturating_sub(now + self.depth);
        if !excess.is_zero() {
            return Err(excess);
        }
        row[place].full_at = full_at.as_nanos() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, seconds: u64, burst: u32) -> RateLimit {
        let period = Duration::from_secs(seconds);
        RateLimit::new(Rate { requests, period }, burst)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limit = limit(10, 1, 3);
        let at = |ms| limit.admit_at(address(1), Duration::from_millis(ms));
        assert!(at(0).is_ok() && at(0).is_ok() && at(0).is_ok());
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(60), Err(Duration::from_millis(40)));
        assert!(at(100).is_ok());
        assert!(at(100).is_err());
        assert!(at(10_000).is_ok() && at(10_000).is_ok() && at(10_000).is_ok());
        assert!(at(10_000).is_err(), "no more than a burst is saved up");
        assert!(limit.admit_at(address(2), Duration::ZERO).is_ok());
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let limit = limit(1, 10, 1);
        let at = |s| limit.admit_at(address(1), Duration::from_secs(s));
        assert!(at(0).is_ok());
        for second in 1..10 {
            assert_eq!(at(second), Err(Duration::from_secs(10 - second)));
        }
        assert!(at(10).is_ok());
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_refuse_nobody() {
        let limit = limit(1, 3600, 1);
        for number in 0..200_000 {
            assert!(limit.admit_at(address(number), Duration::ZERO).is_ok());
        }
        let kept = (0..200_000).filter(|number| {
            limit
                .admit_at(address(*number), Duration::from_nanos(1))
                .is_err()
        });
        assert!(kept.count() <= ROWS * ROW);
    }
}
