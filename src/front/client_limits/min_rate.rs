//! The minimum rate of clients, for bodies that they send and responses that they take.
//!
//! A client has credit, which is time. Waiting for it spends credit; each byte transferred earns
//! the time that it may take. So a client at the minimum rate never runs out, a slower one does so
//! after a grace, and no pause is longer than the grace. The credit never exceeds the grace, so
//! that a client cannot be fast for a minute and then hold a connection for a day.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The minimum rate and the grace of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest pause, and the time for which a client may be slower than the rate.
    pub grace: Duration,
    /// Bytes per second; 0 for no limit.
    pub rate: u64,
}

/// One client's credit.
#[derive(Debug)]
pub struct MinRate {
    patience: Patience,
    credit: Duration,
}

impl MinRate {
    /// Starts with full credit.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            credit: patience.grace,
        }
    }

    /// The remaining credit.
    pub fn left(&self) -> Duration {
        self.credit
    }

    /// Accounts for a wait, at whose end `bytes` were transferred.
    pub fn moved(&mut self, waited: Duration, bytes: u64) {
        let earned = match (self.patience.rate, bytes) {
            (_, 0) => Duration::ZERO,
            (0, _) => Duration::MAX,
            // In milliseconds, which do not overflow for centuries.
            (rate, bytes) => Duration::from_millis(bytes.saturating_mul(1000) / rate),
        };
        // Earned before spent: a wait may be longer than the credit if it brought enough bytes.
        let credit = self.credit.saturating_add(earned).saturating_sub(waited);
        self.credit = self.patience.grace.min(credit);
    }
}

/// The rate at which a client takes the bytes written to its socket.
#[derive(Debug)]
pub struct SendRate {
    pace: MinRate,
    waits: Option<Waits>,
    /// Kept from one wait to the next: it is reset only when it has elapsed.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy)]
struct Waits {
    since: Instant,
    /// Bytes in the socket that the client had not acknowledged.
    unsent: u64,
}

impl SendRate {
    /// Starts with full credit.
    pub fn new(patience: Patience) -> Self {
        Self {
            pace: MinRate::new(patience),
            waits: None,
            timer: None,
        }
    }

    /// The socket has accepted bytes.
    pub fn wrote(&mut self, bytes: usize) {
        let waits = self.waits.take();
        let waited = waits.map_or(Duration::ZERO, |waits| waits.since.elapsed());
        self.pace.moved(waited, bytes as u64);
    }

    /// The socket is full: ready when the client is too slow. `unsent` returns the bytes in the
    /// socket that the client has not acknowledged.
    pub fn poll_too_slow(
        &mut self,
        context: &mut Context<'_>,
        unsent: impl Fn() -> u64,
    ) -> Poll<()> {
        loop {
            let now = Instant::now();
            let left = self.left(now, &unsent);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let deadline = now + left;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // A timer set for an earlier wait only wakes us too early.
            if timer.is_elapsed() || timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Time for which the client may still be waited for. A large kernel buffer accepts nothing for
    /// minutes while a slow client empties it; so when the credit is spent, bytes acknowledged
    /// meanwhile count.
    fn left(&mut self, now: Instant, unsent: impl Fn() -> u64) -> Duration {
        let waits = *self.waits.get_or_insert_with(|| Waits {
            since: now,
            unsent: unsent(),
        });
        let waited = now - waits.since;
        if waited >= self.pace.left() {
            let still = unsent();
            self.pace.moved(waited, waits.unsent.saturating_sub(still));
            self.waits = Some(Waits {
                since: now,
                unsent: still,
            });
            return self.pace.left();
        }
        self.pace.left() - waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience {
        grace: Duration::from_secs(30),
        rate: 240,
    };

    /// Seconds until a client that transfers `bytes` after each pause runs out of credit.
    fn lasts(patience: Patience, pause: u64, bytes: u64) -> Option<u64> {
        let mut pace = MinRate::new(patience);
        for time in (0..100_000).step_by(pause as usize) {
            if pace.left() < Duration::from_secs(pause) {
                return Some(time + pace.left().as_secs());
            }
            pace.moved(Duration::from_secs(pause), bytes);
        }
        None
    }

    #[test]
    fn who_keeps_the_rate_never_runs_out_and_who_does_not_after_the_grace() {
        assert_eq!(lasts(PATIENCE, 1, 240), None);
        assert_eq!(lasts(PATIENCE, 29, 29 * 240), None);
        assert_eq!(lasts(PATIENCE, 1, 0), Some(30));
        assert_eq!(lasts(PATIENCE, 1, 1), Some(30));
        assert_eq!(lasts(PATIENCE, 31, 1 << 30), Some(30), "no pause is longer");
        assert!(lasts(PATIENCE, 1, 120).unwrap() <= 60);
        let any_rate = Patience {
            rate: 0,
            ..PATIENCE
        };
        assert_eq!(lasts(any_rate, 29, 1), None);
        assert_eq!(lasts(any_rate, 31, 1), Some(30));
    }

    /// Seconds until a client that acknowledges `per_second` bytes is too slow.
    fn waits_for(per_second: u64) -> Option<u64> {
        let began = Instant::now();
        let mut taking = SendRate::new(PATIENCE);
        (0..1000).find(|second| {
            let now = began + Duration::from_secs(*second);
            let unsent = || 1_000_000 - second * per_second;
            taking.left(now, unsent).is_zero()
        })
    }

    #[test]
    fn what_a_client_acknowledges_counts_while_the_socket_takes_nothing() {
        assert_eq!(waits_for(0), Some(30));
        assert_eq!(waits_for(300), None);
        assert!(waits_for(100).unwrap() <= 60);
    }

    #[test]
    fn who_takes_something_in_time_has_full_credit_again() {
        let began = Instant::now();
        let mut taking = SendRate::new(PATIENCE);
        for wait in 0..5 {
            let now = began + Duration::from_secs(wait);
            assert_eq!(taking.left(now, || 1000), PATIENCE.grace);
            taking.wrote(1 << 20);
        }
    }

    proptest! {
        #[test]
        fn credit_is_never_more_than_the_grace(steps in prop::collection::vec((any::<u32>(), any::<u64>()), 0..50), rate: u64) {
            let patience = Patience { rate, ..PATIENCE };
            let mut pace = MinRate::new(patience);
            for (waited, moved) in steps {
                pace.moved(Duration::from_millis(waited.into()), moved);
                prop_assert!(pace.left() <= patience.grace);
            }
        }
    }
}
