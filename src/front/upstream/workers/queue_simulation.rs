//! A simulation of the queue: arrivals at a fixed rate, threads that take requests from the
//! ring in its order, and the dispatcher between them. Time is a number; nothing runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dispatch_slot::DispatchSlot;
use super::dispatcher::{AdmissionOutcome, Dispatcher, QueuePosition};
use super::request_queue::Admission;
use super::route_costs::Route;
use super::worker_set::PREFETCH;
use crate::front::context::{RequestLabel, Target};

/// Milliseconds that a request of each kind takes.
const SHORT: u64 = 1;
const LONG: u64 = 50;

struct Simulation {
    table: Dispatcher,
    short_first: bool,
    /// Requests in the line.
    waiting: Vec<(Request, tokio::sync::oneshot::Receiver<Admission>)>,
    ring: VecDeque<(Request, DispatchSlot)>,
    /// The request that each thread runs, and the time when it ends.
    threads: Vec<Option<(Request, DispatchSlot, u64)>>,
    /// Milliseconds from the arrival to the end, of short and of long requests.
    took: [Vec<u64>; 2],
}

#[derive(Clone, Copy)]
struct Request {
    ms: u64,
    arrived: u64,
    position: QueuePosition,
}

impl Simulation {
    fn new(threads: usize, short_first: bool) -> Self {
        let mut table = Dispatcher::new();
        table.add(0, threads + PREFETCH);
        table.switch(0);
        table.set_capacity(0, threads, PREFETCH);
        Self {
            table,
            short_first,
            waiting: Vec::new(),
            ring: VecDeque::new(),
            threads: vec![None; threads],
            took: Default::default(),
        }
    }

    /// Percentiles 50 and 99 of short and of long requests, after `requests` of which the kinds
    /// follow from `kind`, one each `gap` ms.
    fn run(mut self, requests: u64, gap: u64, kind: impl Fn(u64) -> u64) -> [[u64; 2]; 2] {
        let mut now = 0;
        for number in 0..requests {
            self.arrive(now, kind(number));
            for _ in 0..gap {
                now += 1;
                self.tick(now);
            }
        }
        while self.threads.iter().any(Option::is_some) {
            now += 1;
            self.tick(now);
        }
        let ended = self.took.each_ref().map(Vec::len);
        assert_eq!(ended.iter().sum::<usize>() as u64, requests, "each ran");
        self.took.map(|mut took| {
            took.sort_unstable();
            [50, 99].map(|percent| took.get(took.len() * percent / 100).copied().unwrap_or(0))
        })
    }

    fn arrive(&mut self, now: u64, ms: u64) {
        let route = Route::of(&RequestLabel {
            target: Target(format!("/{ms}ms")),
            ..RequestLabel::default()
        });
        let mut position = QueuePosition::new(None).on(self.short_first.then_some(route));
        let outcome = self.table.ask(&mut position, usize::MAX);
        let request = Request {
            ms,
            arrived: now,
            position,
        };
        match outcome {
            AdmissionOutcome::Entry(spot) => self.hand_out(request, spot),
            AdmissionOutcome::Wait(receiver) => self.waiting.push((request, receiver)),
            AdmissionOutcome::Full => unreachable!("the queue has no limit"),
        }
        self.settle(now);
    }

    fn hand_out(&mut self, request: Request, spot: DispatchSlot) {
        let begun = self
            .table
            .begin(spot, Arc::default(), request.position, Instant::now());
        assert!(begun.is_some());
        self.ring.push_back((request, spot));
    }

    fn tick(&mut self, now: u64) {
        for thread in 0..self.threads.len() {
            if let Some((request, spot, until)) = self.threads[thread]
                && until <= now
            {
                self.threads[thread] = None;
                self.took[usize::from(request.ms == LONG)].push(now - request.arrived);
                self.table.learn(spot, Duration::from_millis(request.ms));
                self.table.release(spot);
                self.settle(now);
            }
        }
    }

    /// Puts requests that have an entry into the ring, and threads to work.
    fn settle(&mut self, now: u64) {
        let mut served = Vec::new();
        self.waiting
            .retain_mut(|(request, receiver)| match receiver.try_recv() {
                Ok(spot) => {
                    served.push((*request, spot.expect("no limit")));
                    false
                }
                Err(_) => true,
            });
        for (request, spot) in served {
            self.table.stopped_waiting();
            self.hand_out(request, spot);
        }
        for thread in self.threads.iter_mut().filter(|thread| thread.is_none()) {
            if let Some((request, spot)) = self.ring.pop_front() {
                *thread = Some((request, spot, now + request.ms));
            }
        }
    }
}

/// One long request in ten, at random.
fn mixed(number: u64) -> u64 {
    let random = number.wrapping_add(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match (random ^ random >> 29) % 10 {
        0 => LONG,
        _ => SHORT,
    }
}

#[test]
fn short_requests_wait_less_and_long_ones_hardly_longer() {
    // Requests each 5 and 4 ms: two threads are busy for 59 and 74 % of the time.
    for (gap, least) in [(5, 1.3), (4, 2.0)] {
        let run = |on| Simulation::new(2, on).run(20_000, gap, mixed);
        let (before, after) = (run(false), run(true));
        let figures = format!("p50 and p99 of short ones, of long ones: {before:?} -> {after:?}");
        assert!(
            after[0][1] as f64 * least < before[0][1] as f64,
            "{figures}"
        );
        assert!(after[0][0] <= before[0][0], "{figures}");
        assert!(after[1][1] <= before[1][1] * 5 / 4, "{figures}");
    }
}

#[test]
fn while_there_are_too_many_requests_both_kinds_get_their_part() {
    // Half as many again as two threads can run.
    let requests = 3_000;
    let after = Simulation::new(2, true).run(requests, 2, mixed);
    let before = Simulation::new(2, false).run(requests, 2, mixed);
    assert!(after[0][1] < before[0][1]);
    assert!(after[1][1] <= before[1][1] * 5 / 4);
}

#[test]
fn requests_of_one_kind_are_served_as_without() {
    for ms in [SHORT, LONG] {
        let gap = ms * 11 / 20 + 1;
        let [before, after] = [false, true].map(|on| {
            let simulation = Simulation::new(2, on);
            simulation.run(2_000, gap, |_| ms)
        });
        assert_eq!(before, after);
    }
}
