//! Decides which workers are due for recycling: pure, `(state of workers, now) -> worn workers`.
//!
//! By requests, by age, by memory; and at the memory limit of the control group, before the kernel
//! would kill the worker with the largest RSS in the middle of its requests. Limits are stretched
//! by a random part of up to a tenth, so that workers which started together are not replaced
//! together.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::config::Recycle;

/// Least growth of a worker since its start that makes it worth replacing when memory runs out: its
/// successor starts at the initial size.
const WORTH_IT: u64 = 8 << 20;
/// Pause after a replacement for memory: with a fast leak in many workers, replacing one does not
/// gain much time.
const RECOVERY: Duration = Duration::from_secs(1);

/// The reason why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has reached its limit of requests.
    Requests(u64),
    /// It has reached its age limit.
    Age(Duration),
    /// It exceeds its memory limit, in bytes.
    Memory(u64),
    /// It has the largest resident set size, and the control group's memory is nearly exhausted.
    NoMemoryLeft(u64),
}

impl Reason {
    /// The reason as the value of a label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Requests(_) => "requests",
            Self::Age(_) => "age",
            Self::Memory(_) => "memory",
            Self::NoMemoryLeft(_) => "no_memory_left",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(requests) => write!(f, "{requests} requests"),
            Self::Age(age) => write!(f, "{} s old", age.as_secs()),
            Self::Memory(bytes) => write!(f, "{} MiB", bytes >> 20),
            Self::NoMemoryLeft(bytes) => write!(
                f,
                "largest resident set size, {} MiB, and the container's memory is nearly exhausted",
                bytes >> 20
            ),
        }
    }
}

/// The current state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub worker: u32,
    /// Its process.
    pub pid: u32,
    /// Requests that it has answered.
    pub served: u64,
    /// Its resident set size; `None` if not measured.
    pub memory: Option<u64>,
}

/// State of the recycler for one generation.
#[derive(Debug, Default)]
pub struct Recycler {
    known: HashMap<u32, Known>,
    no_memory_since: Option<Instant>,
    chance: RandomState,
}

#[derive(Debug)]
struct Known {
    born: Instant,
    memory_at_first: Option<u64>,
    /// Between 1 and 1.1.
    stretch: f64,
    is_worn: bool,
}

impl Recycler {
    /// Checks all ready workers; returns those that have become due since the last check.
    pub fn look(
        &mut self,
        seen: &[Seen],
        limits: &Recycle,
        no_memory_left: bool,
        now: Instant,
    ) -> Vec<(u32, Reason)> {
        self.known
            .retain(|pid, _| seen.iter().any(|seen| seen.pid == *pid));
        let mut worn = Vec::new();
        for worker in seen {
            let stretch = 1.0 + (self.chance.hash_one(worker.pid) % 1000) as f64 / 10_000.0;
            let known = self.known.entry(worker.pid).or_insert_with(|| Known {
                born: now,
                memory_at_first: worker.memory,
                stretch,
                is_worn: false,
            });
            known.memory_at_first = known.memory_at_first.or(worker.memory);
            if !known.is_worn
                && let Some(reason) = known.reason(worker, limits, now)
            {
                known.is_worn = true;
                worn.push((worker.worker, reason));
            }
        }
        if no_memory_left && worn.is_empty() {
            worn.extend(self.largest(seen, now));
        }
        worn
    }

    /// A worker of `seen` that has answered so many requests.
    pub fn warm(&self, seen: &[Seen], requests: u64) -> Option<u32> {
        let served = |worker: &Seen| {
            self.known.get(&worker.pid)?;
            Some(worker.served)
        };
        let workers = seen
            .iter()
            .filter_map(|worker| Some((served(worker)?, worker.worker)));
        let (most, worker) = workers.max()?;
        (most >= requests).then_some(worker)
    }

    fn largest(&mut self, seen: &[Seen], now: Instant) -> Option<(u32, Reason)> {
        if self
            .no_memory_since
            .is_some_and(|since| now < since + RECOVERY)
        {
            return None;
        }
        let grown = |worker: &&Seen| {
            let known = self.known.get(&worker.pid)?;
            let (first, memory) = (known.memory_at_first?, worker.memory?);
            (!known.is_worn && memory >= first + WORTH_IT).then_some(memory)
        };
        let largest = seen
            .iter()
            .filter_map(|worker| Some((grown(&worker)?, worker)))
            .max_by_key(|(memory, _)| *memory);
        let (memory, worker) = largest?;
        self.no_memory_since = Some(now);
        self.known
            .entry(worker.pid)
            .and_modify(|known| known.is_worn = true);
        Some((worker.worker, Reason::NoMemoryLeft(memory)))
    }
}

impl Known {
    fn reason(&self, worker: &Seen, limits: &Recycle, now: Instant) -> Option<Reason> {
        let served = worker.served;
        let age = now.duration_since(self.born);
        let is_over = |value: f64, limit: f64| value >= limit * self.stretch;
        if let Some(limit) = limits.requests
            && is_over(served as f64, limit as f64)
        {
            return Some(Reason::Requests(served));
        }
        if let Some(limit) = limits.lifetime
            && is_over(age.as_secs_f64(), limit.as_secs_f64())
        {
            return Some(Reason::Age(age));
        }
        // Memory is not stretched: the setting may be a hard limit.
        let (limit, memory) = (limits.memory?, worker.memory?);
        (memory >= limit).then_some(Reason::Memory(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(worker: u32, served: u64, mib: u64) -> Seen {
        Seen {
            worker,
            pid: 100 + worker,
            served,
            memory: Some(mib << 20),
        }
    }

    const LIMITS: Recycle = Recycle {
        requests: Some(100),
        lifetime: Some(Duration::from_secs(1000)),
        memory: Some(200 << 20),
    };

    #[test]
    fn each_limit_makes_a_worker_due_once() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut recycler = Recycler::default();
        let mut look = |seen: &[Seen], now| recycler.look(seen, &LIMITS, false, now);
        assert_eq!(look(&[seen(0, 0, 50), seen(1, 0, 50)], start), []);
        assert_eq!(look(&[seen(0, 99, 50), seen(1, 99, 50)], later(1)), []);
        assert_eq!(
            look(&[seen(0, 110, 50), seen(1, 99, 200)], later(2)),
            [(0, Reason::Requests(110)), (1, Reason::Memory(200 << 20))]
        );
        assert_eq!(look(&[seen(0, 111, 50), seen(1, 99, 300)], later(3)), []);
        // The successor of 0 has its number and another process.
        let successor = Seen {
            pid: 7,
            ..seen(0, 0, 50)
        };
        assert_eq!(look(&[successor, seen(1, 99, 300)], later(4)), []);
        assert_eq!(
            look(&[successor], later(4 + 1100)),
            [(0, Reason::Age(Duration::from_secs(1100)))]
        );
    }

    #[test]
    fn without_limits_no_worker_is_ever_due() {
        let mut recycler = Recycler::default();
        let start = Instant::now();
        for hours in 0..100 {
            let now = start + Duration::from_secs(hours * 3600);
            let workers = [seen(0, hours * 1_000_000, hours)];
            assert_eq!(recycler.look(&workers, &Recycle::default(), false, now), []);
        }
    }

    #[test]
    fn when_memory_runs_out_the_largest_worker_that_has_grown_is_replaced_and_then_memory_may_recover()
     {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut recycler = Recycler::default();
        let none = Recycle::default();
        let begin = [seen(0, 0, 300), seen(1, 0, 50), seen(2, 0, 50)];
        assert_eq!(recycler.look(&begin, &none, true, start), []);
        // The worker with the largest RSS started with it.
        let grown = [seen(0, 0, 301), seen(1, 0, 90), seen(2, 0, 120)];
        assert_eq!(
            recycler.look(&grown, &none, true, later(1)),
            [(2, Reason::NoMemoryLeft(120 << 20))]
        );
        let soon = later(1) + RECOVERY / 2;
        assert_eq!(recycler.look(&grown, &none, true, soon), []);
        assert_eq!(
            recycler.look(&grown, &none, true, later(2)),
            [(1, Reason::NoMemoryLeft(90 << 20))]
        );
    }
}
