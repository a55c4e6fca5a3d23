//! Detects damage to the scoreboard: every worker can write to all of it, by mistake or with
//! intent, and the front must neither trust the result nor wait for it for ever.
//!
//! A damaged scoreboard has its header rewritten and its workers replaced. A request whose state is
//! unknown is failed when no worker is left that could run it, or when it would have exceeded its deadline.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pyserve_wire::scoreboard::{Activity, Claim, ThreadLine};

use super::dispatch_slot::DispatchSlot;
use super::dispatcher::InFlight;
use super::worker_set::GenerationState;
use super::{Outcome, WorkerEvent};
use crate::front::upstream::Failure;
use crate::os::clock;

/// Longest time between two checks, in nanoseconds.
const LONGEST_LOOK: u64 = 2_000_000_000;
/// Longest time between the moments in which a thread pops a request and says so, in nanoseconds.
const LONGEST_MISSING: u64 = 1_000_000_000;
/// Time between two looks at slots that are free, in nanoseconds.
const GIVES_BACK: u64 = 1_000_000_000;
/// Longest time for a request of unknown state if requests have no deadline.
const LONGEST_DOUBT: Duration = Duration::from_secs(60);

/// State from earlier checks.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// The last activity of each thread, and the time when it was first observed: no worker can
    /// postpone it.
    seen: Vec<((u64, Activity), u64)>,
    /// Requests of unknown state, by number: the time when that was first observed.
    doubtful: HashMap<u64, u64>,
    /// Requests that no thread has and that are not in the queue, likewise.
    missing: HashMap<u64, u64>,
    /// The time of the next look at slots that are free.
    gives_back_at: u64,
}

/// The state of a request according to the scoreboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// A state that the front and one worker can produce.
    Plausible,
    /// A thread that claims it reports another activity.
    Denied(usize),
    /// Its claim was overwritten.
    Overwritten,
}

impl Audit {
    /// The line with its time on the clock of `now` ([`clock::awake_ns`]), taken when this activity
    /// was first observed.
    pub(super) fn clip(&mut self, thread: usize, line: ThreadLine, now: u64) -> ThreadLine {
        if self.seen.len() <= thread {
            self.seen.resize(thread + 1, ((0, Activity::Absent), now));
        }
        let seen = &mut self.seen[thread];
        if seen.0 != (line.seq, line.activity) {
            // The interval between two checks is never longer.
            let age = clock::monotonic_ns().saturating_sub(line.since_ns);
            let since = now.saturating_sub(age.min(LONGEST_LOOK));
            *seen = ((line.seq, line.activity), since);
        }
        ThreadLine {
            since_ns: seen.1,
            ..line
        }
    }

    /// True if slots are to be looked at.
    fn gives_back(&mut self, now: u64) -> bool {
        let is_due = now >= self.gives_back_at;
        if is_due {
            self.gives_back_at = now.saturating_add(GIVES_BACK);
        }
        is_due
    }

    /// Requests that have been missing for [`LONGEST_MISSING`]; forgets those that are not.
    fn lost(&mut self, missing: &[u64], now: u64) -> Vec<u64> {
        self.missing.retain(|seq, _| missing.contains(seq));
        let is_lost = |seq: &u64| {
            let since = *self.missing.entry(*seq).or_insert(now);
            now.saturating_sub(since) >= LONGEST_MISSING
        };
        missing.iter().copied().filter(is_lost).collect()
    }

    /// Requests whose state has been in doubt for `patience_ns`; forgets those that have ended.
    fn given_up(&mut self, findings: &[(u64, Finding)], now: u64, patience_ns: u64) -> Vec<u64> {
        let is_in_doubt = |seq: &u64| {
            let mut doubtful = findings
                .iter()
                .filter(|(_, finding)| *finding != Finding::Plausible);
            doubtful.any(|(other, _)| other == seq)
        };
        self.doubtful.retain(|seq, _| is_in_doubt(seq));
        let mut given_up = Vec::new();
        for (seq, _) in findings.iter().filter(|(seq, _)| is_in_doubt(seq)) {
            let since = *self.doubtful.entry(*seq).or_insert(now);
            if now.saturating_sub(since) >= patience_ns {
                given_up.push(*seq);
            }
        }
        given_up
    }
}

impl GenerationState {
    /// Returns pages of slots that have been free for two checks.
    fn give_back(&self) {
        if let Some(queue) = self.queue() {
            // No entry is given to a request before the end of the call.
            let state = self.pool.lock();
            queue.give_back(state.table.free(self.number));
        }
    }

    /// One check; `patience` is the longest time for a request, including the grace period.
    pub(super) fn audit(&self, audit: &mut Audit, now: u64, patience: Option<Duration>) {
        self.doorbell.look();
        let board = self.scoreboard();
        if !board.is_intact() {
            board.write_header();
            self.damaged("the scoreboard is overwritten");
        }
        if let Some(damage) = self.queue().and_then(|queue| queue.damage()) {
            self.damaged(damage);
        }
        if audit.gives_back(now) {
            self.give_back();
        }
        let mut state = self.pool.lock();
        let in_flight = state.table.in_flight(self.number);
        let findings: Vec<_> = in_flight
            .map(|(spot, request)| (request.seq, self.finding(spot, request)))
            .collect();
        // Workers of a damaged queue are asked to leave. When none of them is left, no worker runs a
        // request whose claim was overwritten.
        let may_run = state
            .roster(self.number)
            .is_some_and(|roster| roster.workers.values().any(|worker| worker.retiring));
        drop(state);
        self.find_missing(audit, now);
        let is_news = |(seq, finding): &(u64, Finding)| {
            *finding == Finding::Overwritten && !audit.doubtful.contains_key(seq)
        };
        let has_news = findings.iter().any(is_news);
        if has_news {
            self.damaged("claims in the scoreboard are overwritten");
        }
        let patience = patience.unwrap_or(LONGEST_DOUBT).as_nanos();
        let patience = u64::try_from(patience).unwrap_or(u64::MAX);
        let mut given_up = audit.given_up(&findings, now, patience);
        if !may_run && !has_news {
            let overwritten = findings
                .iter()
                .filter(|(_, finding)| *finding == Finding::Overwritten);
            given_up.extend(overwritten.map(|(seq, _)| *seq));
        }
        for seq in given_up {
            let thread = findings.iter().find_map(|(other, finding)| match finding {
                Finding::Denied(thread) if *other == seq => Some(*thread),
                _ => None,
            });
            if let Some(thread) = thread {
                let worker = (thread / self.size.threads as usize) as u32;
                self.notify(WorkerEvent::ProtocolError { worker });
            }
            self.give_up(seq);
        }
    }

    /// Hands requests out again that are neither in the queue nor with a thread: a worker has moved
    /// the head of the queue.
    fn find_missing(&self, audit: &mut Audit, now: u64) {
        let board = self.scoreboard();
        let has_request = |seq| (0..board.threads()).any(|thread| board.line(thread).seq == seq);
        let mut state = self.pool.lock();
        let queue = state.roster(self.number).map(|it| Arc::clone(&it.queue));
        let missing = match queue.is_some_and(|queue| queue.is_drained()) {
            true => state.table.in_flight(self.number),
            false => return audit.missing.clear(),
        };
        let missing: Vec<_> = missing
            .filter(|(spot, request)| {
                !request.withdrawn
                    && board.claim(spot.entry, request.seq) == Claim::Unclaimed
                    && !has_request(request.seq)
            })
            .map(|(_, request)| request.seq)
            .collect();
        let lost = audit.lost(&missing, now);
        if !lost.is_empty() {
            self.hand_out_again(&mut state, |seq| lost.contains(&seq));
        }
    }

    fn finding(&self, spot: DispatchSlot, request: &InFlight) -> Finding {
        let board = self.scoreboard();
        match board.claim(spot.entry, request.seq) {
            Claim::Unclaimed => Finding::Plausible,
            Claim::Withdrawn if request.withdrawn => Finding::Plausible,
            Claim::Taken(thread) if thread < board.threads() => {
                let progress = &self.progress[thread];
                // It may have ended long before the front reads its reply.
                match board.line(thread).seq == request.seq || progress.waits_for_client() {
                    true => Finding::Plausible,
                    false => Finding::Denied(thread),
                }
            }
            Claim::Taken(_) | Claim::Withdrawn | Claim::Other => Finding::Overwritten,
        }
    }

    fn damaged(&self, what: &str) {
        let mut state = self.pool.lock();
        if let Some(roster) = state.roster(self.number) {
            let queue = Arc::clone(&roster.queue);
            self.replace_queue(&mut state, &queue, what);
        }
    }

    fn give_up(&self, seq: u64) {
        let mut state = self.pool.lock();
        let Some((spot, request)) = state.table.find(self.number, seq) else {
            return;
        };
        if let Some(reply) = request.reply.take() {
            let why = io::Error::other("a worker damaged the scoreboard while the request ran");
            let failure = Failure::Transport(why);
            let _client_gone = reply.send(Outcome::Answer(Err(failure)));
        }
        state.table.release(spot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_given_up_when_its_state_has_been_unknown_for_long() {
        let mut audit = Audit::default();
        let doubt = [(1, Finding::Plausible), (2, Finding::Overwritten)];
        assert!(audit.given_up(&doubt, 100, 50).is_empty());
        assert!(audit.given_up(&doubt, 149, 50).is_empty());
        assert_eq!(audit.given_up(&doubt, 150, 50), [2]);
        // Between two checks a thread may be about to write its line.
        assert!(
            audit
                .given_up(&[(2, Finding::Plausible)], 160, 50)
                .is_empty()
        );
        assert!(
            audit
                .given_up(&[(2, Finding::Denied(0))], 200, 50)
                .is_empty()
        );
    }

    #[test]
    fn a_request_is_lost_when_it_has_been_missing_for_long() {
        let mut audit = Audit::default();
        assert!(audit.lost(&[1, 2], 100).is_empty());
        assert_eq!(audit.lost(&[2, 3], 100 + LONGEST_MISSING), [2]);
        assert!(audit.lost(&[1], 101 + LONGEST_MISSING).is_empty());
        assert_eq!(audit.lost(&[1], 101 + 2 * LONGEST_MISSING), [1]);
    }

    #[test]
    fn a_worker_cannot_postpone_the_deadline_of_its_request() {
        let mut audit = Audit::default();
        let line = |seq, since_ns| ThreadLine {
            activity: Activity::Busy,
            seq,
            since_ns,
            served: 0,
            pid: 1,
        };
        let now = 100 * LONGEST_LOOK;
        assert_eq!(audit.clip(3, line(7, u64::MAX), now).since_ns, now);
        assert_eq!(audit.clip(3, line(7, u64::MAX), now + 50).since_ns, now);
        // Nor can it predate the first observation by long.
        let long_ago = audit.clip(3, line(8, 0), now).since_ns;
        assert_eq!(long_ago, now - LONGEST_LOOK);
    }
}
