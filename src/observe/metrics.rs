//! What is counted while the server runs, for status and metrics.
//!
//! One set for the process, like the log: whoever does something counts it, and nothing is
//! decided by it. Counting is a relaxed addition or two, without a lock and, but for the
//! first request of a location, without memory. How it is written out is not known here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::access_log::HandledBy;
use super::upstreams::Upstreams;

/// All that is counted.
pub static METRICS: Metrics = Metrics {
    connections: Connections {
        accepted: Count::new(),
        open: Count::new(),
        active: Count::new(),
        reading: Count::new(),
    },
    requests: Places([const { OnceLock::new() }; PLACES]),
    static_express: Count::new(),
    static_from_memory: Count::new(),
    static_from_disk: Count::new(),
    spooled_requests: Count::new(),
    spooled_responses: Count::new(),
    upstreams: Upstreams::new(),
    reloads: Tally::new(),
    replaced: Tally::new(),
    reforks: Tally::new(),
    timeouts: Tally::new(),
    worker_exits: Tally::new(),
    rejections: Tally::new(),
};

/// See [`METRICS`].
#[derive(Debug)]
pub struct Metrics {
    /// Clients' connections.
    pub connections: Connections,
    /// Requests, by location.
    pub requests: Places,
    /// Files that were answered from memory, without hyper.
    pub static_express: Count,
    /// Files that were answered from memory.
    pub static_from_memory: Count,
    /// Files that were looked up on disk.
    pub static_from_disk: Count,
    /// Bytes of request bodies on disk now.
    pub spooled_requests: Count,
    /// Bytes of responses on disk now.
    pub spooled_responses: Count,
    /// Servers behind us.
    pub upstreams: Upstreams,
    /// Reloads, by outcome.
    pub reloads: Tally,
    /// Workers for which others were started, by reason.
    pub replaced: Tally,
    /// Workers that were asked to become the template, by what came of it.
    pub reforks: Tally,
    /// Requests that were over their deadline, by how they ended.
    pub timeouts: Tally,
    /// Worker processes that have ended, by how.
    pub worker_exits: Tally,
    /// Requests that we did not serve as asked, by reason.
    pub rejections: Tally,
}

/// Clients' connections.
#[derive(Debug)]
pub struct Connections {
    /// Since the start.
    pub accepted: Count,
    /// Now.
    pub open: Count,
    /// Open, with a request inside.
    pub active: Count,
    /// Open, with a head that has begun or is awaited for the first time.
    pub reading: Count,
}

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds so many.
    pub fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// One more.
    pub fn up(&self) {
        self.add(1);
    }

    /// Takes so many away, of those that were added.
    pub fn take(&self, many: u64) {
        self.0.fetch_sub(many, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.take(1);
    }

    /// How many.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in seconds: from what a file takes to what makes
/// people give up. Prometheus' own (5 ms to 10 s), and some on both sides.
pub const BOUNDS: [f64; 16] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`BOUNDS`], and one for what took longer.
    buckets: [Count; BOUNDS.len() + 1],
    total_ns: Count,
}

impl Histogram {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].up();
        self.total_ns.add(took.as_nanos() as u64);
    }

    /// For each of [`BOUNDS`], and for infinity, how many took at most that long.
    pub fn cumulated(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].read();
            sum
        })
    }

    /// All durations together, in seconds.
    pub fn total_seconds(&self) -> f64 {
        self.total_ns.read() as f64 / 1e9
    }
}

/// Most locations that are told apart; they come from the settings, not from clients.
const PLACES: usize = 64;
/// Ways to handle a request, with room for more.
const HANDLERS: usize = 8;

/// The requests of each location: a list that only grows, and that is read without a lock.
#[derive(Debug)]
pub struct Places([OnceLock<Box<Place>>; PLACES]);

/// One location.
#[derive(Debug)]
pub struct Place {
    name: String,
    handlers: [OnceLock<Box<Requests>>; HANDLERS],
}

impl Places {
    /// The location of this prefix; empty for the whole site. What comes after the first
    /// [`PLACES`] is counted together.
    pub fn at(&self, prefix: &str) -> &Place {
        let name = if prefix.is_empty() { "/" } else { prefix };
        let (last, places) = self.0.split_last().expect("there are some");
        let named = places.iter().find_map(|place| {
            let place = place.get_or_init(|| Box::new(Place::new(name)));
            (place.name == name).then_some(place)
        });
        named.unwrap_or_else(|| last.get_or_init(|| Box::new(Place::new("others"))))
    }

    /// All locations that had a request.
    pub fn all(&self) -> impl Iterator<Item = &Place> {
        self.0
            .iter()
            .filter_map(|place| place.get())
            .map(|place| &**place)
    }
}

impl Place {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            handlers: [const { OnceLock::new() }; HANDLERS],
        }
    }

    /// The prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Those of its requests that were handled in this way.
    pub fn handled(&self, by: HandledBy) -> &Requests {
        let handler = (by as usize).min(HANDLERS - 1);
        self.handlers[handler].get_or_init(Box::default)
    }

    /// Those that were handled in this way, if there were any.
    pub fn if_handled(&self, by: HandledBy) -> Option<&Requests> {
        self.handlers
            .get(by as usize)?
            .get()
            .map(|requests| &**requests)
    }
}

/// Requests of one kind.
#[derive(Debug)]
pub struct Requests {
    statuses: [Count; LAST_STATUS - FIRST_STATUS + 1],
    /// From the head to the last byte of the response.
    pub duration: Histogram,
    /// Of those that an application ran: until a worker thread took them.
    pub queue: Histogram,
    /// Of those that an application ran: in the application.
    pub app: Histogram,
    /// From the response's head to its last byte.
    pub send: Histogram,
    /// Bytes of response bodies.
    pub bytes: Count,
}

const FIRST_STATUS: usize = 100;
const LAST_STATUS: usize = 599;

impl Default for Requests {
    fn default() -> Self {
        Self {
            statuses: [const { Count::new() }; LAST_STATUS - FIRST_STATUS + 1],
            duration: Histogram::default(),
            queue: Histogram::default(),
            app: Histogram::default(),
            send: Histogram::default(),
            bytes: Count::new(),
        }
    }
}

impl Requests {
    /// One was answered with this status; one that HTTP does not know counts as 599.
    pub fn answered(&self, status: u16) {
        let status = usize::from(status).clamp(FIRST_STATUS, LAST_STATUS);
        self.statuses[status - FIRST_STATUS].up();
    }

    /// Every status that was sent, and how often.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.statuses.iter().map(Count::read);
        (FIRST_STATUS..).zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Most reasons of a [`Tally`]; further ones are not counted.
const REASONS: usize = 32;

/// How often something happened, by reason. Reasons are words of the source code.
#[derive(Debug)]
pub struct Tally([Tallied; REASONS]);

#[derive(Debug)]
struct Tallied {
    reason: OnceLock<&'static str>,
    count: Count,
}

impl Tallied {
    const fn new() -> Self {
        Self {
            reason: OnceLock::new(),
            count: Count::new(),
        }
    }
}

impl Tally {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self([const { Tallied::new() }; REASONS])
    }

    /// It happened for this reason.
    pub fn up(&self, reason: &'static str) {
        let found = self
            .0
            .iter()
            .find(|tallied| *tallied.reason.get_or_init(|| reason) == reason);
        if let Some(tallied) = found {
            tallied.count.up();
        }
    }

    /// Every reason that there was, and how often.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .iter()
            .map_while(|tallied| Some((*tallied.reason.get()?, tallied.count.read())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_every_bucket_that_is_not_shorter() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 100, 90_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let cumulated = histogram.cumulated();
        let at = |bound: f64| cumulated[BOUNDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((at(0.000_5), at(0.001), at(0.002_5)), (1, 2, 3));
        assert_eq!((at(0.05), at(0.1), at(60.0)), (3, 4, 4));
        assert_eq!(cumulated[BOUNDS.len()], 5);
        assert!((histogram.total_seconds() - 90.103).abs() < 1e-6);
    }

    #[test]
    fn locations_beyond_the_limit_are_counted_together() {
        let places = Places([const { OnceLock::new() }; PLACES]);
        for number in 0..PLACES + 5 {
            let place = places.at(&format!("/{number}"));
            place.handled(HandledBy::App).answered(200);
        }
        places.at("").handled(HandledBy::App).answered(1000);
        assert_eq!(places.all().count(), PLACES);
        let last = places.all().last().unwrap();
        assert_eq!(last.name(), "others");
        let statuses: Vec<_> = last.handled(HandledBy::App).statuses().collect();
        assert_eq!(statuses, [(200, 6), (599, 1)]);
        assert_eq!(places.at("/3").name(), "/3");
        assert!(places.at("/3").if_handled(HandledBy::Static).is_none());
    }

    #[test]
    fn reasons_are_told_apart() {
        let tally = Tally::new();
        for reason in ["a", "b", "a"] {
            tally.up(reason);
        }
        assert_eq!(tally.all().collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    }
}
