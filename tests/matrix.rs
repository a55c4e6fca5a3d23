//! The matrix: each way in, with each answerer, and each shape of a request.
//!
//! A cell says status, framing, the connection's fate, every byte, and the line in the access
//! log. What is right comes from [`rules`], a table of what RFCs and nginx say; cells that cannot
//! exist have a reason there. Each cell is followed by other requests on its connection, which
//! must be in step with it. Failures are collected and printed together.

mod answerers;
mod beside;
mod clients;
mod compare;
mod exchange;
mod http2_client;
mod listeners;
mod rules;
mod shapes;
mod site;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::answerers::Answerer;
use self::compare::Mismatch;
use self::exchange::Received;
use self::listeners::{Listener, Proxy};
use self::rules::{Expected, Want};
use self::shapes::Shape;
use self::site::Site;
use crate::support::server::get;

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    listener: Listener,
    answerer: Answerer,
    shape: Shape,
    delivery: Delivery,
}

/// The way in which the bytes of a request arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Whole,
    /// At once, and the request behind it with them.
    Pipelined,
    /// A few at a time.
    Dribbled,
}

/// What came of a cell.
struct Outcome {
    cell: Cell,
    number: usize,
    expected: Expected,
    received: Result<Received, String>,
    wrong: Vec<Mismatch>,
}

/// Cells at a time: enough for two CPUs, no more than the threads of the application.
const AT_A_TIME: usize = 4;
/// Longest wait for the lines of the log that are still on their way.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Cell {
    fn all() -> impl Iterator<Item = Self> {
        let listeners = Listener::all().into_iter();
        listeners.flat_map(|listener| {
            Answerer::ALL.into_iter().flat_map(move |answerer| {
                Shape::ALL.into_iter().flat_map(move |shape| {
                    let deliveries =
                        [Delivery::Whole, Delivery::Pipelined, Delivery::Dribbled].into_iter();
                    let cells = deliveries.map(move |delivery| Self {
                        listener,
                        answerer,
                        shape,
                        delivery,
                    });
                    cells.filter(|cell| cell.is_deliverable())
                })
            })
        })
    }

    /// Deliveries are tried on one listener without TLS and one with it, with requests that are complete and do not change
    /// the protocol (RFC 9112 §9.3.2).
    fn is_deliverable(self) -> bool {
        let is_whole = matches!(
            self.shape,
            Shape::Get
                | Shape::Head
                | Shape::PostLength
                | Shape::PostUnsized
                | Shape::Range
                | Shape::Conditional
                | Shape::NoContent
        );
        if self.shape == Shape::UpgradeExpect {
            // Where no 100 comes, each of these takes its client's patience.
            return self.listener == Listener::PLAIN && self.delivery == Delivery::Whole;
        }
        let is_tried = [Listener::PLAIN, Listener::SECURE].contains(&self.listener);
        self.delivery == Delivery::Whole || is_tried && is_whole
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delivery = match self.delivery {
            Delivery::Whole => "",
            Delivery::Pipelined => ", pipelined",
            Delivery::Dribbled => ", dribbled",
        };
        let Self {
            listener,
            answerer,
            shape,
            ..
        } = self;
        write!(out, "{listener} × {answerer} × {shape}{delivery}")
    }
}

#[test]
fn every_cell_does_what_the_rules_say() {
    let site = Site::start();
    let (possible, impossible): (Vec<_>, Vec<_>) =
        Cell::all().partition(|cell| rules::impossible(cell).is_none());
    let cells: Vec<_> = possible
        .into_iter()
        .filter(|cell| site.has(cell.answerer))
        .collect();
    let began = Instant::now();
    let mut outcomes = run(&cells, &site);
    compare_logs(&mut outcomes, &site);
    println!(
        "{} cells in {:?}, {} that cannot exist",
        cells.len(),
        began.elapsed(),
        impossible.len()
    );
    report(&outcomes);
    if let Some(nginx) = &site.nginx {
        let (cells, complaints) = beside::complaints(&site, nginx);
        println!("{cells} cells of nginx");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

/// Carries all cells out, some at a time.
fn run(cells: &[Cell], site: &Site) -> Vec<Outcome> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(number) else { break };
                    let expected = rules::expected(cell, &site.tags);
                    let exchange = AssertUnwindSafe(|| exchange::exchange(cell, site, number));
                    let received = catch_unwind(exchange).unwrap_or_else(|panic| {
                        Err(format!("panic: {:?}", panic.downcast::<String>()))
                    });
                    let outcome = Outcome {
                        cell: *cell,
                        number,
                        wrong: compare::response(&expected, &received),
                        expected,
                        received,
                    };
                    done.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut outcomes = done.into_inner().unwrap();
    outcomes.sort_by_key(|outcome| outcome.number);
    outcomes
}

/// Compares the access log's lines with what the clients got.
fn compare_logs(outcomes: &mut [Outcome], site: &Site) {
    let proxied = Listener {
        proxy: Proxy::V1,
        ..Listener::PLAIN
    };
    let read = || {
        let mut lines = BTreeMap::<usize, Vec<Value>>::new();
        for listener in [Listener::PLAIN, proxied] {
            let log = &site.server(listener).stdout;
            lines.extend(compare::log_lines(&log.so_far()));
        }
        lines
    };
    // Lines are written in the order in which requests end; some end behind their answer.
    for listener in [Listener::PLAIN, proxied] {
        let mut connection = listener.connect(site);
        connection.exchange(get("/ping?cell=last"));
        site.server(listener).stdout.wait_for("cell=last");
    }
    let began = Instant::now();
    let mut lines = read();
    while lines.len() < outcomes.len() && began.elapsed() < LAST_LINES {
        std::thread::sleep(Duration::from_millis(20));
        lines = read();
    }
    for outcome in outcomes {
        // The frame layer refuses what is malformed; that is logged in its own way.
        if outcome.expected.outcome.value == Want::Malformed {
            continue;
        }
        let found = lines.remove(&outcome.number).unwrap_or_default();
        let method = outcome.cell.shape.method();
        let received = outcome.received.as_ref().ok();
        let wrong = compare::log(
            outcome.cell.listener,
            method,
            &outcome.expected,
            received,
            &found,
        );
        outcome.wrong.extend(wrong);
    }
}

/// Fails with everything that is wrong.
fn report(outcomes: &[Outcome]) {
    let failures = outcomes.iter().flat_map(|Outcome { cell, wrong, .. }| {
        let failures = wrong.iter().map(|mismatch| format!("{cell}: {mismatch}"));
        failures.collect::<Vec<_>>()
    });
    let failures: Vec<_> = failures.collect();
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
