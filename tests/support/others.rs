//! What an attack on a server costs a normal client: its waiting times beside those of a
//! client whose server nobody attacks.
//!
//! The machine has pauses of its own, so both are asked in turns, and the best of a few
//! rounds counts; differences below a scheduler's time slice are not distinguished.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::raw::Connection;
use super::server::{Pyserve, Server, get};

const ROUNDS: usize = 6;
/// Requests to each server in a round.
const REQUESTS: usize = 100;
/// Waiting times below this are the scheduler's.
const FLOOR: Duration = Duration::from_millis(20);

/// A client of a server under attack, and one of a server that is left alone.
pub struct Others {
    attacked: Connection,
    alone: Connection,
    _quiet: Server,
    rounds: Vec<[Percentiles; 2]>,
}

/// Median and 99th percentile.
type Percentiles = (Duration, Duration);

impl Others {
    /// Clients of `server`, which serves `every.py`, and of another one like it.
    pub fn of(server: &Server) -> Self {
        let quiet = Pyserve::app("every.py").ready();
        let (mut attacked, mut alone) = (server.connect(), quiet.connect());
        for _ in 0..50 {
            waiting_time(&mut attacked);
            waiting_time(&mut alone);
        }
        Self {
            attacked,
            alone,
            _quiet: quiet,
            rounds: Vec::new(),
        }
    }

    /// Asks both in turns while `attack` is repeated on a thread of its own, until it shows
    /// that the attack costs little time.
    ///
    /// # Panics
    /// If it does in no round.
    pub fn notice_little_of(&mut self, attack: impl FnMut() + Send) {
        let over = AtomicBool::new(false);
        let is_good = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let mut attack = attack;
                while !over.load(Ordering::Relaxed) {
                    attack();
                }
            });
            let is_good = (0..ROUNDS).any(|_| self.round());
            over.store(true, Ordering::Relaxed);
            attacker.join().expect("an attack that works");
            is_good
        });
        self.tell(is_good);
    }

    /// Asks both in turns, `attack` going before each round, until it shows that what that
    /// has begun costs little time.
    ///
    /// # Panics
    /// If it does in no round.
    pub fn notice_little_after(&mut self, mut attack: impl FnMut()) {
        let is_good = (0..ROUNDS).any(|_| {
            attack();
            self.round()
        });
        self.tell(is_good);
    }

    fn tell(&mut self, is_good: bool) {
        let rounds = std::mem::take(&mut self.rounds);
        println!("attacked and alone: {rounds:?}");
        assert!(is_good, "attacked and alone: {rounds:?}");
    }

    /// Asks both in turns; whether the one that is attacked waits no longer than twice as
    /// long as the other.
    fn round(&mut self) -> bool {
        let (mut attacked, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            attacked.push(waiting_time(&mut self.attacked));
            alone.push(waiting_time(&mut self.alone));
        }
        let (attacked, alone) = (percentiles(attacked), percentiles(alone));
        self.rounds.push([attacked, alone]);
        attacked.0 <= FLOOR.max(alone.0 * 2) && attacked.1 <= FLOOR.max(alone.1 * 2)
    }
}

fn waiting_time(connection: &mut Connection) -> Duration {
    let began = Instant::now();
    assert_eq!(connection.exchange(get("/hello")).status(), 200);
    began.elapsed()
}

fn percentiles(mut times: Vec<Duration>) -> Percentiles {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
