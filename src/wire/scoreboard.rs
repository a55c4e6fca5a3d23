//! The layout of the shared memory that tells who works on what.
//!
//! One scoreboard belongs to one pool of workers: the front creates it, every worker
//! thread writes its own line, and both sides agree on each request through its *claim*.
//!
//! ```text
//! word 0          magic and version
//! word 1          thread lines   word 2  claims
//! from word 8     one line of 8 words (a cache line) per thread
//! behind them     one claim word per request that may be handed out at a time
//! ```
//!
//! A claim word holds `seq << 16 | holder`. The front publishes it with holder
//! [`UNCLAIMED`] before the message goes out; a worker thread takes the request by
//! exchanging that for its own number, the front withdraws it by exchanging it for
//! [`WITHDRAWN`]. Whoever comes second sees it and does nothing: so no request runs after
//! it was withdrawn, and after the death of a worker it is known for every request whether
//! it was begun. A request that runs already can be *cancelled*: the front sets a bit beside
//! the holder, and the thread stops at the next piece of the body that it produces.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared_header;

const MAGIC: u64 = u64::from_le_bytes(*b"pyserve\x01");
const HEADER_WORDS: usize = 8;
const LINE_WORDS: usize = 8;

/// Holder of a claim that no thread has taken yet.
const UNCLAIMED: u64 = 0;
/// Holder of a claim that the front took back.
const WITHDRAWN: u64 = 0x7FFF;
/// Set beside the holder of a claim whose client has gone.
const CANCELLED: u64 = 0x8000;
/// Most threads that one scoreboard can name.
pub const MAX_THREADS: usize = 0x7FFE;

/// State of a worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Activity {
    /// No process stands behind the line.
    Absent = 0,
    /// The process starts.
    Starting = 1,
    /// Waits for a request.
    Idle = 2,
    /// Runs a request.
    Busy = 3,
    /// The response is out; the iterable's `close()` runs.
    Closing = 4,
    /// Has received a request that it cannot take before it has the interpreter.
    Received = 5,
    /// A person debugs the request on the terminal, and the prompt waits for a command.
    Debugging = 6,
}

/// One thread's line, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLine {
    /// Its state.
    pub activity: Activity,
    /// The request it works on; 0 for none.
    pub seq: u64,
    /// Since when, in nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Requests that it has finished.
    pub served: u64,
    /// Process id of the worker.
    pub pid: u32,
}

/// State of a request's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Handed out, not taken by a thread.
    Unclaimed,
    /// Taken by the thread with this index.
    Taken(usize),
    /// Taken back by the front.
    Withdrawn,
    /// The entry belongs to another request by now, or says what front and workers never write.
    Other,
}

/// Accessors over the mapped words.
#[derive(Debug, Clone, Copy)]
pub struct Scoreboard<'a> {
    words: &'a [AtomicU64],
    threads: usize,
    claims: usize,
}

impl<'a> Scoreboard<'a> {
    /// Bytes that a scoreboard for so many threads and requests takes.
    pub fn size(threads: usize, claims: usize) -> usize {
        (HEADER_WORDS + threads * LINE_WORDS + claims) * size_of::<u64>()
    }

    /// Lays out fresh, zeroed memory.
    ///
    /// # Panics
    /// If `words` is smaller than [`Scoreboard::size`] or `threads` over [`MAX_THREADS`].
    pub fn create(words: &'a [AtomicU64], threads: usize, claims: usize) -> Self {
        assert!(threads <= MAX_THREADS, "too many threads for a scoreboard");
        let board = Self::over(words, threads, claims);
        board.write_header();
        board
    }

    /// Writes the header, once more if it was damaged.
    pub fn write_header(&self) {
        shared_header::write(self.words, MAGIC, [self.threads, self.claims]);
    }

    /// The same memory again, by the side that laid it out: sizes come from there and not from
    /// memory that the other side can write.
    ///
    /// # Panics
    /// If `words` is smaller than [`Scoreboard::size`].
    pub fn over(words: &'a [AtomicU64], threads: usize, claims: usize) -> Self {
        assert!(
            size_of_val(words) >= Self::size(threads, claims),
            "scoreboard memory too small"
        );
        Self {
            words,
            threads,
            claims,
        }
    }

    /// True if the header still says what [`Scoreboard::create`] wrote. Otherwise a process on
    /// the other side has written where it must not.
    pub fn is_intact(&self) -> bool {
        let header = [MAGIC, self.threads as u64, self.claims as u64];
        let words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        words.zip(header).all(|(word, expected)| word == expected)
    }

    /// Opens memory that the other side laid out. `None` if it is not a scoreboard.
    pub fn open(words: &'a [AtomicU64]) -> Option<Self> {
        let [threads, claims] = shared_header::read(words, MAGIC)?;
        (threads <= MAX_THREADS && size_of_val(words) >= Self::size(threads, claims)).then_some(
            Self {
                words,
                threads,
                claims,
            },
        )
    }

    /// Number of thread lines.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Largest number of requests that are handed out at a time.
    pub fn claims(&self) -> usize {
        self.claims
    }

    /// Writes what thread `thread` does now.
    pub fn record(&self, thread: usize, activity: Activity, seq: u64, now_ns: u64) {
        let line = self.line_words(thread);
        // Each store is seen before the next: a reader that reads twice notices a half.
        line[1].store(seq, Ordering::Release);
        line[2].store(now_ns, Ordering::Release);
        line[0].store(activity as u64, Ordering::Release);
    }

    /// Counts a finished request of thread `thread`.
    pub fn count_served(&self, thread: usize) {
        self.line_words(thread)[3].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes which process stands behind the line of `thread`.
    pub fn set_pid(&self, thread: usize, pid: u32) {
        self.line_words(thread)[4].store(u64::from(pid), Ordering::Relaxed);
    }

    /// Reads the line of thread `thread`. What it says belongs together: a line that is being
    /// written meanwhile is read again, a few times.
    pub fn line(&self, thread: usize) -> ThreadLine {
        let line = self.line_words(thread);
        let read = || {
            let [activity, seq, since] = [0, 1, 2].map(|word| line[word].load(Ordering::Acquire));
            (activity, seq, since)
        };
        let mut seen = read();
        for _ in 0..8 {
            let again = read();
            if again == seen {
                break;
            }
            seen = again;
        }
        let (activity, seq, since_ns) = seen;
        let activity = match activity {
            1 => Activity::Starting,
            2 => Activity::Idle,
            3 => Activity::Busy,
            4 => Activity::Closing,
            5 => Activity::Received,
            6 => Activity::Debugging,
            _ => Activity::Absent,
        };
        ThreadLine {
            activity,
            seq,
            since_ns,
            served: line[3].load(Ordering::Relaxed),
            pid: line[4].load(Ordering::Relaxed) as u32,
        }
    }

    /// Front: announces that request `seq` uses claim `entry` from now on.
    pub fn publish(&self, entry: usize, seq: u64) {
        self.claim_word(entry)
            .store(word(seq, UNCLAIMED), Ordering::Release);
    }

    /// Worker: takes the request for thread `thread`. `false`: it was withdrawn, and must
    /// not be run.
    #[must_use]
    pub fn take(&self, entry: usize, seq: u64, thread: usize) -> bool {
        self.exchange(entry, seq, thread as u64 + 1)
    }

    /// Front: takes the request back. `false`: a thread has taken it already.
    #[must_use]
    pub fn withdraw(&self, entry: usize, seq: u64) -> bool {
        self.exchange(entry, seq, WITHDRAWN)
    }

    /// Front: asks the thread that runs the request to stop, because its client has gone. `false`:
    /// no thread has it (withdraw it, or it is over).
    pub fn cancel(&self, entry: usize, seq: u64) -> bool {
        let claim = self.claim_word(entry);
        let Claim::Taken(thread) = self.claim(entry, seq) else {
            return false;
        };
        let held = word(seq, thread as u64 + 1);
        let result =
            claim.compare_exchange(held, held | CANCELLED, Ordering::AcqRel, Ordering::Acquire);
        // A second call finds the bit set.
        result.is_ok() || result == Err(held | CANCELLED)
    }

    /// Worker: whether the front asked to stop the request that this thread runs.
    #[must_use]
    pub fn is_cancelled(&self, entry: usize, seq: u64) -> bool {
        let current = self.claim_word(entry).load(Ordering::Relaxed);
        current >> 16 == seq && current & CANCELLED != 0
    }

    /// State of the claim of request `seq`.
    pub fn claim(&self, entry: usize, seq: u64) -> Claim {
        let current = self.claim_word(entry).load(Ordering::Acquire);
        if current >> 16 != seq {
            return Claim::Other;
        }
        match (current & !CANCELLED & 0xFFFF, current & CANCELLED != 0) {
            (UNCLAIMED, false) => Claim::Unclaimed,
            (WITHDRAWN, false) => Claim::Withdrawn,
            // Only a request that was taken is cancelled. A worker has written this, and nothing
            // can take the request or take it back any more.
            (UNCLAIMED | WITHDRAWN, true) => Claim::Other,
            (holder, _) => Claim::Taken(holder as usize - 1),
        }
    }

    fn exchange(&self, entry: usize, seq: u64, holder: u64) -> bool {
        self.claim_word(entry)
            .compare_exchange(
                word(seq, UNCLAIMED),
                word(seq, holder),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    fn line_words(&self, thread: usize) -> &'a [AtomicU64] {
        assert!(thread < self.threads, "no such thread in the scoreboard");
        let start = HEADER_WORDS + thread * LINE_WORDS;
        &self.words[start..start + LINE_WORDS]
    }

    fn claim_word(&self, entry: usize) -> &'a AtomicU64 {
        assert!(entry < self.claims, "no such claim in the scoreboard");
        &self.words[HEADER_WORDS + self.threads * LINE_WORDS + entry]
    }
}

fn word(seq: u64, holder: u64) -> u64 {
    seq << 16 | holder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Vec<AtomicU64> {
        (0..Scoreboard::size(3, 4) / 8)
            .map(|_| AtomicU64::new(0))
            .collect()
    }

    #[test]
    fn a_withdrawn_request_cannot_be_taken_and_a_taken_one_not_withdrawn() {
        let words = memory();
        let front = Scoreboard::create(&words, 3, 4);
        let worker = Scoreboard::open(&words).unwrap();
        front.publish(1, 10);
        assert_eq!(front.claim(1, 10), Claim::Unclaimed);
        assert!(front.withdraw(1, 10));
        assert!(!worker.take(1, 10, 2));
        assert_eq!(front.claim(1, 10), Claim::Withdrawn);

        front.publish(1, 11);
        assert!(
            !worker.take(1, 10, 2),
            "an old message finds its entry reused"
        );
        assert!(worker.take(1, 11, 2));
        assert!(!front.withdraw(1, 11));
        assert_eq!(front.claim(1, 11), Claim::Taken(2));
        assert_eq!(front.claim(1, 10), Claim::Other);
    }

    #[test]
    fn only_a_request_that_runs_can_be_cancelled() {
        let words = memory();
        let front = Scoreboard::create(&words, 3, 4);
        let worker = Scoreboard::open(&words).unwrap();
        front.publish(1, 10);
        assert!(!front.cancel(1, 10), "withdraw an unclaimed one");
        assert!(worker.take(1, 10, 2));
        assert!(!worker.is_cancelled(1, 10));
        assert!(!front.cancel(1, 9), "over long ago");
        assert!(front.cancel(1, 10));
        assert!(front.cancel(1, 10), "twice is once");
        assert!(worker.is_cancelled(1, 10));
        assert_eq!(front.claim(1, 10), Claim::Taken(2));
        front.publish(1, 11);
        assert!(
            !worker.is_cancelled(1, 11),
            "the mark goes with its request"
        );
        assert!(!worker.is_cancelled(1, 10));
    }

    #[test]
    fn a_line_reads_back_as_written() {
        let words = memory();
        let board = Scoreboard::create(&words, 3, 4);
        board.set_pid(2, 4711);
        board.record(2, Activity::Busy, 5, 99);
        board.count_served(2);
        assert_eq!(
            board.line(2),
            ThreadLine {
                activity: Activity::Busy,
                seq: 5,
                since_ns: 99,
                served: 1,
                pid: 4711
            }
        );
        assert_eq!(board.line(0).activity, Activity::Absent);
    }

    #[test]
    fn damage_by_the_other_side_changes_no_size() {
        let words = memory();
        Scoreboard::create(&words, 3, 4);
        for word in &words {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        let board = Scoreboard::over(&words, 3, 4);
        assert!(!board.is_intact());
        assert_eq!((board.threads(), board.claims()), (3, 4));
        // Every word is read and written as before, with nonsense in it.
        for entry in 0..4 {
            assert_eq!(board.claim(entry, 7), Claim::Other);
            assert!(!board.withdraw(entry, 7) && !board.cancel(entry, 7));
            let _any = board.claim(entry, u64::MAX >> 16);
        }
        assert_eq!(board.line(2).activity, Activity::Absent);
        board.write_header();
        assert!(board.is_intact() && Scoreboard::open(&words).is_some());
    }

    #[test]
    fn foreign_memory_is_not_a_scoreboard() {
        assert!(Scoreboard::open(&memory()).is_none());
        assert!(Scoreboard::open(&[]).is_none());
        let words = memory();
        Scoreboard::create(&words, 3, 4);
        assert!(Scoreboard::open(&words[..20]).is_none(), "cut short");
    }
}
