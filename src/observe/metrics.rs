//! The counters of the process, for status and metrics.
//!
//! There is one set, like the log. Every component counts its own events, and no decision depends
//! on them. Counting takes no lock and, but for the first request of a location, no memory. The
//! exposition format is not known here.

use std::sync::OnceLock;

use super::acme::AcmeMetrics;
use super::counters::{Counter, Histogram, ReasonCounter};
use super::handled_by::HandledBy;
use super::tls::TlsMetrics;
use super::upstreams::Upstreams;

/// All that is counted.
pub static METRICS: Metrics = Metrics {
    connections: ConnectionMetrics {
        accepted: Counter::new(),
        open: Counter::new(),
        active: Counter::new(),
        reading: Counter::new(),
    },
    acme: AcmeMetrics::new(),
    tls: TlsMetrics::new(),
    requests: Places([const { OnceLock::new() }; PLACES]),
    dropped_log_lines: DroppedLogLines {
        access: Counter::new(),
        diagnostics: Counter::new(),
    },
    static_fast_path: Counter::new(),
    static_from_memory: Counter::new(),
    static_from_disk: Counter::new(),
    spooled_requests: Counter::new(),
    spooled_responses: Counter::new(),
    upstreams: Upstreams::new(),
    reloads: ReasonCounter::new(&["done", "failed"]),
    replaced: ReasonCounter::new(REPLACED),
    scaled: ReasonCounter::new(&[
        "requests_waited",
        "quiet",
        "cpus_busy",
        "memory",
        "not_started",
        "range",
    ]),
    reforks: ReasonCounter::new(&["promoted", "refused", "failed"]),
    timeouts: ReasonCounter::new(&["interrupted", "late", "killed"]),
    worker_exits: ReasonCounter::new(&["left", "exit_code", "killed", "crashed"]),
    rejections: ReasonCounter::new(REJECTIONS),
};

/// Reasons to replace a worker.
const REPLACED: &[&str] = &[
    "requests",
    "age",
    "memory",
    "no_memory_left",
    "refork",
    "request_timeout",
    "unresponsive",
    "did_not_leave",
    "damaged",
    "died",
];

/// Reasons to reject a request: see `Rejection` and `unreadable` of the front.
const REJECTIONS: &[&str] = &[
    "address_denied",
    "application",
    "bad_answer",
    "bad_request",
    "body_broken",
    "body_timeout",
    "body_too_large",
    "descriptors",
    "head_too_large",
    "maintenance",
    "memory",
    "not_internal",
    "not_loaded",
    "panic",
    "password",
    "password_attempts",
    "password_file",
    "queue_full",
    "queue_timeout",
    "rate_limit",
    "request_timeout",
    "spool",
    "spool_full",
    "static_file",
    "stopping",
    "transport",
    "unreadable",
    "upstream",
    "upstream_timeout",
    "upstream_unreachable",
    "worker_lost",
];

/// See [`METRICS`].
#[derive(Debug)]
pub struct Metrics {
    /// Clients' connections.
    pub connections: ConnectionMetrics,
    /// TLS.
    pub tls: TlsMetrics,
    /// ACME.
    pub acme: AcmeMetrics,
    /// Requests, by location.
    pub requests: Places,
    /// Lines of the logs that could not be written.
    pub dropped_log_lines: DroppedLogLines,
    /// Files that were answered from memory, without hyper.
    pub static_fast_path: Counter,
    /// Files that were answered from memory.
    pub static_from_memory: Counter,
    /// Files that were looked up on disk.
    pub static_from_disk: Counter,
    /// Bytes of request bodies on disk now.
    pub spooled_requests: Counter,
    /// Bytes of responses on disk now.
    pub spooled_responses: Counter,
    /// Servers behind us.
    pub upstreams: Upstreams,
    /// Reloads, by outcome.
    pub reloads: ReasonCounter,
    /// Workers for which others were started, by reason.
    pub replaced: ReasonCounter,
    /// Changes of the number of workers on demand, by reason.
    pub scaled: ReasonCounter,
    /// Workers that were asked to become the template, by what came of it.
    pub reforks: ReasonCounter,
    /// Requests that were over their deadline, by how they ended.
    pub timeouts: ReasonCounter,
    /// Worker processes that have ended, by how.
    pub worker_exits: ReasonCounter,
    /// Requests that we did not serve as asked, by reason.
    pub rejections: ReasonCounter,
}

/// Clients' connections.
#[derive(Debug)]
pub struct ConnectionMetrics {
    /// Since the start.
    pub accepted: Counter,
    /// Now.
    pub open: Counter,
    /// Open, with a request inside.
    pub active: Counter,
    /// Open, with a head that has begun or is awaited for the first time.
    pub reading: Counter,
}

/// Lines of the logs that could not be written.
#[derive(Debug)]
pub struct DroppedLogLines {
    /// Of the access log, on standard output.
    pub access: Counter,
    /// Of everything on standard error.
    pub diagnostics: Counter,
}

/// Largest number of locations with counters of their own; they come from the settings, not from
/// clients.
const PLACES: usize = 64;
/// Ways to handle a request, with room for more.
const HANDLERS: usize = 8;

/// The requests of each location: a list that only grows, and that is read without a lock.
#[derive(Debug)]
pub struct Places([OnceLock<Box<LocationMetrics>>; PLACES]);

/// One location.
#[derive(Debug)]
pub struct LocationMetrics {
    name: String,
    handlers: [OnceLock<Box<Requests>>; HANDLERS],
}

impl Places {
    /// The location of this prefix; empty for the whole site. What comes after the first
    /// [`PLACES`] is counted together.
    pub fn at(&self, prefix: &str) -> &LocationMetrics {
        let name = if prefix.is_empty() { "/" } else { prefix };
        let (last, places) = self.0.split_last().expect("there are some");
        let named = places.iter().find_map(|place| {
            let place = place.get_or_init(|| Box::new(LocationMetrics::new(name)));
            (place.name == name).then_some(place)
        });
        named.unwrap_or_else(|| last.get_or_init(|| Box::new(LocationMetrics::new("others"))))
    }

    /// All locations that had a request.
    pub fn all(&self) -> impl Iterator<Item = &LocationMetrics> {
        self.0
            .iter()
            .filter_map(|place| place.get())
            .map(|place| &**place)
    }
}

impl LocationMetrics {
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
    statuses: [Counter; LAST_STATUS - FIRST_STATUS + 1],
    /// From the head to the last byte of the response.
    pub duration: Histogram,
    /// Of those that an application ran: until a worker thread took them.
    pub queue: Histogram,
    /// Of those that an application ran: in the application.
    pub app: Histogram,
    /// From the response's head to its last byte.
    pub send: Histogram,
    /// Bytes of response bodies.
    pub bytes: Counter,
}

const FIRST_STATUS: usize = 100;
const LAST_STATUS: usize = 599;

impl Default for Requests {
    fn default() -> Self {
        Self {
            statuses: [const { Counter::new() }; LAST_STATUS - FIRST_STATUS + 1],
            duration: Histogram::default(),
            queue: Histogram::default(),
            app: Histogram::default(),
            send: Histogram::default(),
            bytes: Counter::new(),
        }
    }
}

impl Requests {
    /// One was answered with this status; one that HTTP does not know counts as 599.
    pub fn answered(&self, status: u16) {
        let status = usize::from(status).clamp(FIRST_STATUS, LAST_STATUS);
        self.statuses[status - FIRST_STATUS].inc();
    }

    /// Every status that was sent, and how often.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.statuses.iter().map(Counter::get);
        (FIRST_STATUS..).zip(counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
