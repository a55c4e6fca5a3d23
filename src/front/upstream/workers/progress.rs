//! Progress of a response: its deadline restarts with every piece.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyserve_wire::scoreboard::ThreadLine;

use crate::os::clock::awake_ns;

/// Progress of a thread's response, as seen by its channel.
#[derive(Debug, Default)]
pub(super) struct Progress {
    seq: AtomicU64,
    at_ns: AtomicU64,
    waits_for_client: AtomicBool,
}

impl Progress {
    /// Records progress of the response to request `seq`.
    pub(super) fn note(&self, seq: u64) {
        self.at_ns.store(awake_ns(), Ordering::Relaxed);
        self.seq.store(seq, Ordering::Release);
    }

    /// Records if the response waits for its client.
    pub(super) fn set_waits_for_client(&self, waits: bool) {
        self.waits_for_client.store(waits, Ordering::Relaxed);
    }

    /// True if the response on this channel waits for its client.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Relaxed)
    }

    /// Start of the request's deadline.
    pub(super) fn since_ns(&self, line: &ThreadLine, now: u64) -> u64 {
        if self.seq.load(Ordering::Acquire) != line.seq {
            return line.since_ns;
        }
        if self.waits_for_client.load(Ordering::Relaxed) {
            return now;
        }
        line.since_ns.max(self.at_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyserve_wire::scoreboard::Activity;

    #[test]
    fn the_deadline_of_a_body_begins_anew_with_each_piece_and_stands_still_for_the_client() {
        let line = |seq, since_ns| ThreadLine {
            activity: Activity::Busy,
            seq,
            since_ns,
            served: 0,
            pid: 1,
        };
        let progress = Progress::default();
        assert_eq!(progress.since_ns(&line(3, 100), 900), 100);
        progress.seq.store(3, Ordering::Relaxed);
        progress.at_ns.store(700, Ordering::Relaxed);
        assert_eq!(progress.since_ns(&line(3, 100), 900), 700);
        progress.set_waits_for_client(true);
        assert_eq!(progress.since_ns(&line(3, 100), 900), 900);
        assert_eq!(progress.since_ns(&line(4, 800), 900), 800);
    }
}
