//! Deadlines of requests, and the escalation for those that exceed them.
//!
//! 1. At the deadline the client gets a failure ([`Failure::TimedOut`]); the worker logs the
//!    thread's stack and raises an exception in the thread.
//! 2. If the request has not ended after a grace period, its worker takes no more requests, and its
//!    successor is started.
//! 3. When the worker's other threads have finished, or after the timeout once more, it is killed.
//!
//! The deadline runs from when a thread took the request until its head; it restarts with every
//! piece of the body, and stops while the body waits for the client, or a debugger for a command. An iterable's `close()` has a
//! deadline of its own. [`DeadlineMonitor`] decides from the scoreboard alone, so a request whose
//! client has disconnected does not escape.
//!
//! The clock stops while the server is suspended ([`clock::awake_ns`]): a container that is paused
//! and resumed kills no worker.
//!
//! A request that a thread has received, but cannot take because another thread holds the GIL, is
//! taken back after a moment: another worker may be free.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use pyserve_wire::orders::ToWorker;
use pyserve_wire::scoreboard::{Activity, Claim, ThreadLine};

use super::audit::Audit;
use super::responsiveness::Responsiveness;
use super::worker_set::GenerationState;
use super::{Outcome, WorkerEvent};
use crate::front::upstream::Failure;
use crate::observe::codes;
use crate::os::clock;

/// Longest grace period after the exception was raised: enough for a transaction to be rolled back.
const LONGEST_GRACE: Duration = Duration::from_secs(5);
/// Grace period for a worker that was ordered to take no more requests: a thread may be receiving
/// one at that moment.
const SETTLE: Duration = Duration::from_millis(50);
/// Longest time for which a thread may hold a request without beginning it: many times the wait for
/// the GIL where other threads release it every 5 ms, as Python's own code does.
const UNBEGUN: Duration = Duration::from_secs(1);
/// No deadline: a hundred years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Shortest time between two checks.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// A step of the escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// This request of this thread has exceeded its deadline.
    TimeOut {
        thread: usize,
        seq: u64,
    },
    /// This thread holds a request and does not begin it.
    TakeBack {
        seq: u64,
    },
    /// This worker takes no more requests.
    Retire(u32),
    Kill(u32),
}

/// Finds requests that exceed their deadline: pure, `(state, scoreboard, now) -> steps`.
#[derive(Debug)]
struct DeadlineMonitor {
    timeout_ns: u64,
    grace_ns: u64,
    threads: usize,
    /// Requests that were timed out and have not ended, by thread: number and time.
    overdue: HashMap<usize, (u64, u64)>,
    /// Requests that were taken back from threads that still hold their messages.
    taken_back: HashMap<usize, u64>,
    /// Workers whose kill is pending, and since when.
    kill_pending: HashMap<u32, u64>,
}

impl DeadlineMonitor {
    fn new(timeout: Duration, threads: u32) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            timeout_ns: nanos(timeout),
            grace_ns: nanos(timeout.min(LONGEST_GRACE)),
            threads: threads as usize,
            overdue: HashMap::new(),
            taken_back: HashMap::new(),
            kill_pending: HashMap::new(),
        }
    }

    /// The steps to take now, and the time of the next check. `lines`: every thread with the start
    /// of its deadline.
    fn judge(&mut self, lines: &[(ThreadLine, u64)], now: u64) -> (Vec<Step>, u64) {
        let mut steps = Vec::new();
        // A request that begins after this check cannot be late before then.
        let mut look_again = now + self.timeout_ns.min(UNBEGUN.as_nanos() as u64);
        self.take_back(lines, now, &mut steps, &mut look_again);
        for (worker, lines) in lines.chunks(self.threads).enumerate() {
            let mut runs = false;
            let mut is_stuck = false;
            for (index, (line, since)) in lines.iter().enumerate() {
                let thread = worker * self.threads + index;
                if !matches!(line.activity, Activity::Busy | Activity::Closing) {
                    self.overdue.remove(&thread);
                    continue;
                }
                let overdue = self.overdue.get(&thread).copied();
                let next = match overdue.filter(|(seq, _)| *seq == line.seq) {
                    Some((_, at)) => at + self.grace_ns,
                    None => since.saturating_add(self.timeout_ns),
                };
                match overdue {
                    _ if next > now => {
                        look_again = look_again.min(next);
                        runs = true;
                    }
                    Some((seq, _)) if seq == line.seq => is_stuck = true,
                    _ => {
                        self.overdue.insert(thread, (line.seq, now));
                        look_again = look_again.min(now + self.grace_ns);
                        let seq = line.seq;
                        steps.push(Step::TimeOut { thread, seq });
                        runs = true;
                    }
                }
            }
            let number = worker as u32;
            if !is_stuck {
                self.kill_pending.remove(&number);
                continue;
            }
            let since = *self.kill_pending.entry(number).or_insert_with(|| {
                steps.push(Step::Retire(number));
                now
            });
            let settled = since + SETTLE.as_nanos() as u64;
            let last = since + self.timeout_ns;
            if now >= last || (!runs && now >= settled) {
                steps.push(Step::Kill(number));
                // If it survives, it is killed again.
            } else {
                // The other threads' ends are not announced.
                look_again = look_again
                    .min(last)
                    .min(settled.max(now + SETTLE.as_nanos() as u64));
            }
        }
        (steps, look_again)
    }
}

impl DeadlineMonitor {
    fn take_back(
        &mut self,
        lines: &[(ThreadLine, u64)],
        now: u64,
        steps: &mut Vec<Step>,
        look_again: &mut u64,
    ) {
        for (thread, (line, _)) in lines.iter().enumerate() {
            if line.activity != Activity::Received {
                self.taken_back.remove(&thread);
                continue;
            }
            let late = line.since_ns.saturating_add(UNBEGUN.as_nanos() as u64);
            if now < late {
                *look_again = late.min(*look_again);
            } else if self.taken_back.insert(thread, line.seq) != Some(line.seq) {
                steps.push(Step::TakeBack { seq: line.seq });
            }
        }
    }
}

impl GenerationState {
    /// Enforces the deadlines until the generation has gone.
    pub(super) async fn keep_deadlines(crew: Weak<Self>, timeout: Option<Duration>) {
        let with_grace = timeout.map(|timeout| timeout + LONGEST_GRACE + SETTLE);
        let timeout = timeout.unwrap_or(NEVER);
        let Some(threads) = crew.upgrade().map(|crew| crew.size.threads) else {
            return;
        };
        let mut judge = DeadlineMonitor::new(timeout, threads);
        let mut audit = Audit::default();
        let mut responsiveness = Responsiveness::default();
        loop {
            let wait = {
                let Some(crew) = crew.upgrade() else { return };
                let now = clock::tick();
                crew.audit(&mut audit, now, with_grace);
                let board = crew.scoreboard();
                let lines: Vec<_> = (0..board.threads())
                    .map(|thread| audit.clip(thread, board.line(thread), now))
                    .collect();
                crew.check_responsiveness(&mut responsiveness, &lines, now);
                let since = |thread: usize, line| crew.progress[thread].since_ns(line, now);
                let lines: Vec<_> = lines
                    .iter()
                    .enumerate()
                    .map(|(thread, line)| (*line, since(thread, line)))
                    .collect();
                let (steps, look_again) = judge.judge(&lines, now);
                for step in steps {
                    crew.carry_out(step, timeout);
                }
                Duration::from_nanos(look_again.saturating_sub(now))
            };
            tokio::time::sleep(wait.max(SHORTEST_LOOK)).await;
        }
    }

    fn carry_out(&self, step: Step, timeout: Duration) {
        match step {
            Step::TimeOut { thread, seq } => self.time_out(thread, seq, timeout),
            Step::TakeBack { seq } => {
                tracing::debug!(
                    seq,
                    "request reassigned: the thread that received it did not begin it"
                );
                let mut state = self.pool.lock();
                self.hand_out_again(&mut state, |untaken| untaken == seq);
            }
            Step::Retire(worker) => {
                tracing::error!(
                    code = codes::REQUEST_STUCK,
                    worker,
                    "the request does not end: its worker will be replaced"
                );
                self.mark_stuck(worker);
                // If the order cannot be sent, the worker is killed all the same.
                let _sent = self.retire(worker);
                self.notify(WorkerEvent::Stuck { worker });
            }
            Step::Kill(worker) => self.notify(WorkerEvent::MustKill { worker }),
        }
    }

    fn mark_stuck(&self, worker: u32) {
        let first = worker as usize * self.size.threads as usize;
        let threads = first..first + self.size.threads as usize;
        let board = self.scoreboard();
        let mut state = self.pool.lock();
        for (spot, request) in state.table.in_flight(self.number) {
            if let Claim::Taken(thread) = board.claim(spot.entry, request.seq) {
                request.stuck |= request.timed_out && threads.contains(&thread);
            }
        }
    }

    fn time_out(&self, thread: usize, seq: u64, timeout: Duration) {
        let threads = self.size.threads as usize;
        let (worker, number) = ((thread / threads) as u32, (thread % threads) as u32);
        let mut state = self.pool.lock();
        let identity = state.table.identity(seq).unwrap_or_default();
        let mut reply = None;
        if let Some((spot, request)) = state.table.find(self.number, seq) {
            reply = request.reply.take();
            request.timed_out = true;
            self.scoreboard().cancel(spot.entry, seq);
        }
        let roster = state.roster(self.number);
        if let Some(worker) = roster.and_then(|roster| roster.workers.get(&worker)) {
            let grace = timeout.min(LONGEST_GRACE);
            let order = ToWorker::Interrupt {
                thread: number,
                seq,
                patience_ms: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
            };
            // If the order cannot be sent, the worker will be killed.
            let _sent = worker.order(order, &[]);
        }
        drop(state);
        let (id, method, path) = (&identity.request_id, &identity.method, &identity.target);
        let limit_s = timeout.as_secs_f32();
        tracing::error!(code = codes::REQUEST_TIMEOUT, request_id = %id, %method, %path, worker, thread = number, limit_s,
            "request exceeded its deadline (--request-timeout)");
        if let Some(reply) = reply {
            let failure = Failure::TimedOut { worker, timeout };
            let _client_gone = reply.send(Outcome::Answer(Err(failure)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: u64 = 10_000_000_000;
    const GRACE: u64 = 5_000_000_000;
    const SETTLED: u64 = 50_000_000;
    const LATE: u64 = 1_000_000_000;

    fn line(activity: Activity, seq: u64, since_ns: u64) -> (ThreadLine, u64) {
        let line = ThreadLine {
            activity,
            seq,
            since_ns,
            served: 0,
            pid: 1,
        };
        (line, since_ns)
    }

    fn busy(seq: u64, since_ns: u64) -> (ThreadLine, u64) {
        line(Activity::Busy, seq, since_ns)
    }

    fn idle() -> (ThreadLine, u64) {
        line(Activity::Idle, 0, 0)
    }

    fn judge(threads: u32) -> DeadlineMonitor {
        DeadlineMonitor::new(Duration::from_nanos(TIMEOUT), threads)
    }

    #[test]
    fn a_request_is_timed_out_once_and_its_worker_killed_after_the_grace() {
        let mut judge = judge(1);
        assert_eq!(judge.judge(&[busy(1, 100)], 200), (vec![], 200 + LATE));
        let soon = TIMEOUT + 99;
        assert_eq!(judge.judge(&[busy(1, 100)], soon), (vec![], soon + 1));
        let at = TIMEOUT + 100;
        let timed_out = Step::TimeOut { thread: 0, seq: 1 };
        assert_eq!(
            judge.judge(&[busy(1, 100)], at),
            (vec![timed_out], at + LATE)
        );
        let soon = at + GRACE - 1;
        assert_eq!(judge.judge(&[busy(1, 100)], soon), (vec![], at + GRACE));
        let at = at + GRACE;
        assert_eq!(
            judge.judge(&[busy(1, 100)], at),
            (vec![Step::Retire(0)], at + SETTLED)
        );
        let (steps, _) = judge.judge(&[busy(1, 100)], at + SETTLED);
        assert_eq!(steps, [Step::Kill(0)]);
    }

    #[test]
    fn a_request_that_ends_in_the_grace_costs_nothing_more() {
        let mut judge = judge(1);
        judge.judge(&[busy(1, 0)], TIMEOUT);
        let at = TIMEOUT + GRACE + 1;
        for next in [idle(), busy(2, TIMEOUT + 1)] {
            assert_eq!(judge.judge(&[next], at).0, []);
        }
    }

    #[test]
    fn siblings_finish_before_the_worker_is_killed_but_not_for_ever() {
        let mut judge = judge(2);
        let stuck = busy(1, 0);
        judge.judge(&[stuck, idle()], TIMEOUT);
        let at = TIMEOUT + GRACE;
        let sibling = busy(2, at - 1);
        assert_eq!(judge.judge(&[stuck, sibling], at).0, [Step::Retire(0)]);
        assert_eq!(judge.judge(&[stuck, sibling], at + SETTLED).0, []);
        let finished = judge.judge(&[stuck, idle()], at + SETTLED).0;
        assert_eq!(finished, [Step::Kill(0)]);
        // It streams, so that its own deadline never expires.
        let streams = (sibling.0, at + TIMEOUT);
        assert_eq!(
            judge.judge(&[stuck, streams], at + TIMEOUT).0,
            [Step::Kill(0)]
        );
    }

    #[test]
    fn two_stuck_threads_do_not_wait_for_each_other() {
        let mut judge = judge(2);
        let lines = [busy(1, 0), busy(2, 0)];
        assert_eq!(judge.judge(&lines, TIMEOUT).0.len(), 2);
        let at = TIMEOUT + GRACE;
        assert_eq!(judge.judge(&lines, at).0, [Step::Retire(0)]);
        assert_eq!(judge.judge(&lines, at + SETTLED).0, [Step::Kill(0)]);
    }

    #[test]
    fn what_a_thread_cannot_begin_is_taken_back_once() {
        let mut judge = judge(2);
        let stuck = busy(1, 0);
        let received = |seq, since| line(Activity::Received, seq, since);
        let lines = [stuck, received(2, 700)];
        assert_eq!(judge.judge(&lines, 800), (vec![], 700 + LATE));
        let at = 700 + LATE;
        let taken_back = |seq| Step::TakeBack { seq };
        assert_eq!(judge.judge(&lines, at).0, [taken_back(2)]);
        assert_eq!(judge.judge(&lines, at + 1).0, [], "it has been");
        let next = [stuck, received(3, at)];
        assert_eq!(judge.judge(&next, at + LATE).0, [taken_back(3)]);
    }

    #[test]
    fn workers_are_told_apart() {
        let mut judge = judge(1);
        let lines = [idle(), busy(7, 0)];
        let timed_out = Step::TimeOut { thread: 1, seq: 7 };
        assert_eq!(judge.judge(&lines, TIMEOUT).0, [timed_out]);
        assert_eq!(judge.judge(&lines, TIMEOUT + GRACE).0, [Step::Retire(1)]);
    }
}
