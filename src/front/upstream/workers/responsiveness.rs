//! Finds ready workers that take no requests: pure, `(lines, queue, now) -> workers`.
//!
//! A ready worker takes a request within [`LIMIT`]. One that does not is stopped, or a thread of
//! its application holds the GIL between requests. It is replaced. Workers that run a request are
//! checked by [`super::deadlines`] instead.

use std::collections::HashMap;
use std::time::Duration;

use pyserve_wire::scoreboard::{Activity, Claim, ThreadLine};

use super::WorkerEvent;
use super::worker_set::GenerationState;

/// Longest time that a ready worker may leave a request untaken. Far above the time for a late
/// import or a garbage collection, and below the timeouts of clients and probes.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// State from earlier checks.
#[derive(Debug, Default)]
pub(super) struct Responsiveness {
    /// Waiting threads: the line's state, and when it was first observed.
    waiting: HashMap<usize, ((Activity, u64, u64), u64)>,
    /// Requests whose messages no thread has read, and when each was first observed.
    untaken: HashMap<u64, u64>,
}

impl Responsiveness {
    /// Workers that take no requests. `untaken`: numbers of the requests in the queue, also of those
    /// whose clients have left, because a ready thread skips them at once; `threads`: threads of each worker.
    pub(super) fn look(
        &mut self,
        lines: &[ThreadLine],
        threads: usize,
        untaken: &[u64],
        now: u64,
    ) -> Vec<u32> {
        let limit = LIMIT.as_nanos() as u64;
        self.untaken.retain(|seq, _| untaken.contains(seq));
        for seq in untaken {
            self.untaken.entry(*seq).or_insert(now);
        }
        let is_late = |since: &u64| now.saturating_sub(*since) >= limit;
        let queue_is_late = self.untaken.values().any(is_late);
        let mut found = Vec::new();
        for (worker, lines) in lines.chunks(threads).enumerate() {
            let mut is_stuck = false;
            let mut runs = false;
            for (index, line) in lines.iter().enumerate() {
                let thread = worker * threads + index;
                runs |= matches!(
                    line.activity,
                    Activity::Busy | Activity::Closing | Activity::Debugging
                );
                if !matches!(line.activity, Activity::Received | Activity::Idle) {
                    self.waiting.remove(&thread);
                    continue;
                }
                let state = (line.activity, line.seq, line.served);
                let seen = self.waiting.entry(thread).or_insert((state, now));
                if seen.0 != state {
                    *seen = (state, now);
                }
                let is_late = is_late(&seen.1);
                // An idle thread is at fault only if a request was waiting.
                is_stuck |= is_late && (line.activity == Activity::Received || queue_is_late);
            }
            if is_stuck && !runs {
                found.push(worker as u32);
            }
        }
        found
    }
}

impl GenerationState {
    /// Reports workers that take no requests and retires them.
    pub(super) fn check_responsiveness(
        &self,
        responsiveness: &mut Responsiveness,
        lines: &[ThreadLine],
        now: u64,
    ) {
        let board = self.scoreboard();
        let mut state = self.pool.lock();
        let untaken: Vec<_> = state
            .table
            .in_flight(self.number)
            .filter(|(spot, request)| {
                let claim = board.claim(spot.entry, request.seq);
                matches!(claim, Claim::Unclaimed | Claim::Withdrawn)
            })
            .map(|(_, request)| request.seq)
            .collect();
        // A thread may be stopped between the end of a reply and its next receive.
        let lines: Vec<_> = lines
            .iter()
            .map(|line| {
                let is_answered = line.activity == Activity::Busy
                    && state.table.find(self.number, line.seq).is_none();
                let activity = if is_answered {
                    Activity::Idle
                } else {
                    line.activity
                };
                ThreadLine { activity, ..*line }
            })
            .collect();
        let found = responsiveness.look(&lines, self.size.threads as usize, &untaken, now);
        for number in found {
            let roster = state.roster(self.number);
            let worker = roster.and_then(|roster| roster.workers.get_mut(&number));
            if let Some(worker) = worker.filter(|worker| worker.ready && !worker.retiring) {
                worker.retiring = true;
                self.adjust_capacity(&mut state);
                self.notify(WorkerEvent::Unresponsive { worker: number });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn line(activity: Activity, seq: u64, served: u64) -> ThreadLine {
        ThreadLine {
            activity,
            seq,
            since_ns: 0,
            served,
            pid: 1,
        }
    }

    const IDLE: (Activity, u64) = (Activity::Idle, 0);

    /// Checks once a second, from 0 to 30 s; the time of the first finding, and its workers.
    fn first(
        threads: usize,
        at: impl Fn(u64) -> (Vec<(Activity, u64)>, Vec<u64>),
    ) -> Option<(u64, Vec<u32>)> {
        let mut responsiveness = Responsiveness::default();
        (0..=30).find_map(|second| {
            let (lines, untaken) = at(second);
            let lines: Vec<_> = lines
                .iter()
                .map(|(activity, seq)| line(*activity, *seq, 0))
                .collect();
            let found = responsiveness.look(&lines, threads, &untaken, second * S);
            (!found.is_empty()).then_some((second, found))
        })
    }

    #[test]
    fn a_worker_that_leaves_a_request_in_the_queue_takes_none() {
        let found = first(1, |second| {
            let untaken = if second >= 5 { vec![9] } else { vec![] };
            (vec![IDLE, (Activity::Busy, 3)], untaken)
        });
        assert_eq!(found, Some((15, vec![0])));
    }

    #[test]
    fn a_thread_that_received_a_request_and_cannot_begin_it_is_stuck() {
        let found = first(1, |_| (vec![IDLE, (Activity::Received, 4)], vec![]));
        assert_eq!(found, Some((10, vec![1])));
    }

    #[test]
    fn idle_workers_busy_workers_and_a_queue_that_moves_are_well() {
        assert_eq!(first(1, |_| (vec![IDLE, IDLE], vec![])), None);
        assert_eq!(first(1, |_| (vec![(Activity::Busy, 1)], vec![7])), None);
        assert_eq!(first(1, |second| (vec![IDLE], vec![second])), None);
        // The request of the other thread has a deadline of its own.
        let beside = [(Activity::Busy, 1), (Activity::Received, 2)];
        assert_eq!(first(2, |_| (beside.to_vec(), vec![])), None);
    }

    #[test]
    fn a_thread_that_answers_meanwhile_is_well() {
        let mut responsiveness = Responsiveness::default();
        for second in 0..30 {
            let lines = [line(Activity::Idle, 0, second)];
            let found = responsiveness.look(&lines, 1, &[1], second * S);
            assert!(found.is_empty());
        }
    }
}
