//! The demand for worker threads at one moment, for the decision how many workers there are to be.
//!
//! A request waits until a thread has taken it: in the line, or handed out and untaken in the
//! queue of the workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyserve_wire::scoreboard::Claim;

use super::{Pool, Report, Shared, State, WorkerEvent, WorkerSet};

/// Requests of the current generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDemand {
    /// Requests that threads have taken.
    pub running: u64,
    /// Requests that no thread has taken.
    pub waiting: u64,
    /// Time for which the oldest of those has waited.
    pub waited: Duration,
}

impl Pool {
    /// The demand of this moment. From now on the next request that waits long is reported
    /// with [`WorkerEvent::RequestsWait`].
    pub fn demand(&self) -> QueueDemand {
        self.0.is_waited_for.store(false, Ordering::Relaxed);
        let mut state = self.0.lock();
        let State { table, rosters, .. } = &mut *state;
        let now = Instant::now();
        let oldest = table.oldest();
        let mut demand = QueueDemand {
            running: 0,
            waiting: table.waiting() as u64,
            waited: oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        };
        let is_current = |roster: &&WorkerSet| table.is_current(roster.crew.number);
        let Some(crew) = rosters
            .iter()
            .find(is_current)
            .map(|it| Arc::clone(&it.crew))
        else {
            return demand;
        };
        let board = crew.scoreboard();
        for (spot, request) in table.in_flight(crew.number) {
            match board.claim(spot.entry, request.seq) {
                Claim::Taken(_) => demand.running += 1,
                Claim::Unclaimed => {
                    demand.waiting += 1;
                    let waited = now.saturating_duration_since(request.asked);
                    demand.waited = demand.waited.max(waited);
                }
                Claim::Withdrawn | Claim::Other => {}
            }
        }
        demand
    }
}

impl Shared {
    /// A request has waited long for a thread: reports it, once until the demand is asked for.
    pub(super) fn note_wait(&self) {
        if !self.is_waited_for.swap(true, Ordering::Relaxed) {
            let _supervisor_gone = self.reports.send(Report {
                app: self.app,
                generation: 0,
                event: WorkerEvent::RequestsWait,
            });
        }
    }
}
