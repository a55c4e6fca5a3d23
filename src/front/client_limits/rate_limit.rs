//! The request rate of an address: a token bucket for each, in a table of fixed size.
//!
//! A bucket is one number, the time at which it is full again (the "generic cell rate algorithm").
//! Buckets live in a table of rows that never grows: where a row has no free place, a new bucket
//! replaces the one that is full the soonest, which forgets the least. So an attacker with very
//! many addresses can have buckets forgotten, which lets requests through, but none is refused.

use parking_lot::{Mutex, MutexGuard};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{ClientLimits, Rate};
use crate::front::client_limits::network::Network;

/// Rows of the table; with [`ROW`] buckets of 32 bytes each, 2 MiB for 65,536 addresses with
/// requests at the same time.
const ROWS: usize = 1 << 14;
/// Buckets in a row.
const ROW: usize = 4;

/// The request rate of each address, and its limit.
#[derive(Debug)]
pub struct RateLimit {
    /// Time that one request takes out of a bucket.
    each: Duration,
    /// Capacity of a bucket, as time.
    depth: Duration,
    buckets: Arc<Buckets>,
}

/// The buckets of all addresses, independent of the current limit.
#[derive(Debug)]
struct Buckets {
    began: Instant,
    hasher: RandomState,
    table: Mutex<Box<[[Bucket; ROW]]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    network: u128,
    /// Nanoseconds from `began` to the time when the bucket is full again.
    full_at: u64,
}

impl RateLimit {
    /// The limit of the settings; `None` if there is none. Requests counted under the limit
    /// `before` count under this one too.
    pub fn under(limits: &ClientLimits, before: Option<&Self>) -> Option<Self> {
        Some(Self::new(limits.rate?, limits.burst, before))
    }

    /// `burst` requests at once, and afterwards this rate.
    fn new(rate: Rate, burst: u32, before: Option<&Self>) -> Self {
        let each = rate.period / rate.requests.max(1);
        let buckets = match before {
            None => Arc::new(Buckets::empty()),
            Some(before) => {
                if before.each != each {
                    let now = before.buckets.began.elapsed();
                    before.buckets.scale(now, before.each, each);
                }
                Arc::clone(&before.buckets)
            }
        };
        Self {
            each,
            depth: each * burst.max(1),
            buckets,
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time until the address may send its next request.
    pub fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        self.admit_at(address, self.buckets.began.elapsed())
    }

    fn admit_at(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let network = Network::from(address).bits();
        let row = self.buckets.hasher.hash_one(network) as usize % ROWS;
        let mut table = self.buckets.lock();
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

impl Buckets {
    fn empty() -> Self {
        Self {
            began: Instant::now(),
            hasher: RandomState::new(),
            table: Mutex::new(vec![[Bucket::default(); ROW]; ROWS].into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Box<[[Bucket; ROW]]>> {
        self.table.lock()
    }

    /// Converts the buckets to a limit under which a request takes `after` out of a bucket instead
    /// of `before`: as many requests as were taken out are still missing. Takes 0.1 ms, once in a
    /// reload.
    fn scale(&self, now: Duration, before: Duration, after: Duration) {
        let now = now.as_nanos() as u64;
        let factor = after.as_secs_f64() / before.as_secs_f64();
        for bucket in self.lock().iter_mut().flatten() {
            let missing = bucket.full_at.saturating_sub(now) as f64;
            bucket.full_at = now.saturating_add((missing * factor) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, seconds: u64) -> Rate {
        let period = Duration::from_secs(seconds);
        Rate { requests, period }
    }

    fn limit(requests: u32, seconds: u64, burst: u32) -> RateLimit {
        RateLimit::new(rate(requests, seconds), burst, None)
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
    fn what_was_asked_before_the_limit_changed_counts_under_the_new_one() {
        let before = limit(1, 3600, 5);
        let ask = |limit: &RateLimit| limit.admit(address(1));
        for _ in 0..3 {
            assert!(ask(&before).is_ok());
        }
        let same = RateLimit::new(rate(1, 3600), 5, Some(&before));
        assert!(ask(&same).is_ok());
        let stricter = RateLimit::new(rate(1, 7200), 4, Some(&same));
        assert!(ask(&stricter).is_err(), "4 of 4 have gone");
        let wait = ask(&stricter).unwrap_err();
        assert!(wait > Duration::from_secs(7100), "{wait:?} at the new rate");
        let looser = RateLimit::new(rate(2, 60), 6, Some(&stricter));
        assert!(ask(&looser).is_ok() && ask(&looser).is_ok());
        assert!(ask(&looser).is_err(), "6 of 6");
        assert!(looser.admit(address(2)).is_ok());
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
