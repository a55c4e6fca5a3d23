//! Writes lines to a slow place without ever making the caller wait.
//!
//! Lines gather in memory; one thread takes all that have gathered and writes them at once,
//! so at high load there is one write for many lines, and one wake-up. The thread begins
//! with the first line, once it may. At most [`MOST_WAITING`] bytes wait: further lines, and
//! those whose write fails, are dropped and counted. The loss is logged: once a second where
//! that goes to another output, else when this one takes lines again.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::counters::Counter;

/// Gives lines to a thread that writes them.
pub(super) struct LineWriter {
    shared: Arc<Shared>,
}

/// The properties in which logs differ.
pub(super) struct Log {
    /// Name of the thread.
    pub(super) thread: &'static str,
    /// Time that the first line of a batch waits for others.
    pub(super) gather: Duration,
    /// Counts the lines that were dropped.
    pub(super) dropped: &'static Counter,
    /// Logs how many lines were dropped.
    pub(super) report: fn(u64),
    /// True if the report goes somewhere else than the lines, and so is worth making while
    /// the output fails or stalls.
    pub(super) reports_elsewhere: bool,
}

struct Shared {
    log: Log,
    state: Mutex<State>,
    /// Held by the thread as long as it runs.
    out: Mutex<Box<dyn Write + Send>>,
    /// Successful writes, also of a part of a batch.
    writes: AtomicU64,
    /// Something for the thread: first bytes, a full batch, or the end.
    wake: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Lines that were dropped since the last report.
    lost: u64,
    loss_reported: Option<Instant>,
    is_closing: bool,
    thread: Thread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// Lines wait until it may begin.
    Held,
    /// Begins with the first line.
    NotBegun,
    Running,
    Ended,
}

impl LineWriter {
    /// A log to `out`.
    pub(super) fn new(log: Log, out: impl Write + Send + 'static) -> Self {
        let state = State {
            waiting: Vec::new(),
            lost: 0,
            loss_reported: None,
            is_closing: false,
            thread: Thread::NotBegun,
        };
        Self {
            shared: Arc::new(Shared {
                log,
                state: Mutex::new(state),
                out: Mutex::new(Box::new(out)),
                writes: AtomicU64::new(0),
                wake: Condvar::new(),
                ended: Condvar::new(),
            }),
        }
    }

    /// As [`LineWriter::new`], but lines wait in memory until [`LineWriter::begin`].
    pub(super) fn held(log: Log, out: impl Write + Send + 'static) -> Self {
        let writer = Self::new(log, out);
        writer.shared.lock().thread = Thread::Held;
        writer
    }

    /// The thread may begin.
    pub(super) fn begin(&self) {
        let mut state = self.shared.lock();
        if state.thread == Thread::Held {
            state.thread = Thread::NotBegun;
        }
        if !state.waiting.is_empty() {
            self.start(&mut state);
        }
    }

    /// Takes lines that end in a line break. Never waits for the output.
    pub(super) fn write(&self, text: &[u8]) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let is_room = state.waiting.len() + text.len() <= MOST_WAITING;
        if !is_room || state.is_closing || state.thread == Thread::Ended {
            shared.drop_lines(&mut state, lines(text));
            let loss = match shared.log.reports_elsewhere {
                true => state.loss_to_report(Instant::now()),
                false => 0,
            };
            drop(state);
            return shared.report(loss);
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(text);
        let after = state.waiting.len();
        self.start(&mut state);
        drop(state);
        // Otherwise the thread is awake, or has been woken already.
        if before == 0 || (before < BATCH && after >= BATCH) {
            shared.wake.notify_one();
        }
    }

    /// Waits until all lines are written, as long as the output takes some within each
    /// `patience`, and [`CLOSE_WAIT`] at most. Later lines are dropped.
    pub(super) fn close(&self, patience: Duration) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.thread == Thread::Held {
            state.thread = Thread::NotBegun;
        }
        if !state.waiting.is_empty() {
            self.start(&mut state);
        }
        if state.thread == Thread::NotBegun {
            // No thread to be had, or nothing to write: what there is goes out from here.
            shared.write_here(&mut state);
        }
        state.is_closing = true;
        shared.wake.notify_one();
        let began = Instant::now();
        let mut writes = shared.writes.load(Ordering::Relaxed);
        while state.thread == Thread::Running && began.elapsed() < CLOSE_WAIT {
            let limit = patience.min(CLOSE_WAIT);
            let is_running = |state: &mut State| state.thread == Thread::Running;
            shared.ended.wait_while_for(&mut state, is_running, limit);
            let now = shared.writes.load(Ordering::Relaxed);
            if now == writes {
                break;
            }
            writes = now;
        }
        let left = lines(&state.waiting);
        shared.drop_lines(&mut state, left);
        state.waiting.clear();
        let loss = std::mem::take(&mut state.lost);
        drop(state);
        if shared.log.reports_elsewhere {
            shared.report(loss);
        }
    }

    /// Starts the thread with the first line. Where the machine has none to give, the lines
    /// wait for the next attempt.
    fn start(&self, state: &mut State) {
        if state.thread != Thread::NotBegun || state.is_closing {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name(self.shared.log.thread.into())
            .spawn(move || shared.run());
        if started.is_ok() {
            state.thread = Thread::Running;
        }
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWriter").finish_non_exhaustive()
    }
}

impl Shared {
    /// The thread: waits for a first line, lets more gather, writes them all.
    fn run(&self) {
        crate::os::signals::write_from_background();
        let mut out = self.out.lock();
        let mut batch = Vec::new();
        let mut is_torn = false;
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.is_closing {
                self.wake.wait(&mut state);
            }
            let gathers = |state: &mut State| state.waiting.len() < BATCH && !state.is_closing;
            self.wake
                .wait_while_for(&mut state, gathers, self.log.gather);
            std::mem::swap(&mut state.waiting, &mut batch);
            if batch.is_empty() && state.is_closing {
                state.thread = Thread::Ended;
                self.ended.notify_all();
                return;
            }
            drop(state);

            let unwritten = write_all(&mut **out, &batch, &mut is_torn, &self.writes);
            batch.clear();
            batch.shrink_to(MOST_KEPT);
            let mut state = self.lock();
            self.drop_lines(&mut state, unwritten);
            // A report among the lines needs room there. Where there is none yet, the lines
            // that take it are the next batch.
            let has_room = unwritten == 0 && state.waiting.len() <= MOST_WAITING / 2;
            let loss = match self.log.reports_elsewhere {
                true => state.loss_to_report(Instant::now()),
                false if has_room => std::mem::take(&mut state.lost),
                false => 0,
            };
            drop(state);
            self.report(loss);
        }
    }

    /// Writes what waits without the thread, which has not begun.
    fn write_here(&self, state: &mut State) {
        crate::os::signals::write_from_background();
        let batch = std::mem::take(&mut state.waiting);
        let mut out = self.out.lock();
        let unwritten = write_all(&mut **out, &batch, &mut false, &self.writes);
        self.drop_lines(state, unwritten);
    }

    fn drop_lines(&self, state: &mut State, lines: u64) {
        state.lost += lines;
        self.log.dropped.add(lines);
    }

    /// Outside the lock, because the report may be a line of this log.
    fn report(&self, lost: u64) {
        if lost > 0 {
            (self.log.report)(lost);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Number of lost lines to report now; 0 if none or others were reported just now.
    fn loss_to_report(&mut self, now: Instant) -> u64 {
        let is_due = self
            .loss_reported
            .is_none_or(|reported| now.duration_since(reported) >= REPORT_EVERY);
        if self.lost == 0 || !is_due {
            return 0;
        }
        self.loss_reported = Some(now);
        std::mem::take(&mut self.lost)
    }
}

/// Writes `batch`; returns how many of its lines are not, or not wholly, written. After an
/// error in the middle of a line, `is_torn` makes the next batch begin on a line of its own.
/// `writes` counts what the output has taken.
fn write_all(out: &mut dyn Write, batch: &[u8], is_torn: &mut bool, writes: &AtomicU64) -> u64 {
    if *is_torn && !batch.is_empty() {
        if out.write(b"\n").is_err() {
            return lines(batch);
        }
        *is_torn = false;
    }
    let mut written = 0;
    let mut patience = PATIENCE;
    while written < batch.len() {
        match out.write(&batch[written..]) {
            Ok(0) => break,
            Ok(length) => {
                written += length;
                patience = PATIENCE;
                writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process that shares the descriptor made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                #[allow(clippy::disallowed_methods, reason = "this is the thread of the log")]
                thread::sleep(LOOK_AGAIN);
            }
            Err(_) => break,
        }
    }
    let (done, left) = batch.split_at(written);
    *is_torn = !left.is_empty() && done.last().is_some_and(|&byte| byte != b'\n');
    lines(left)
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// 4 MiB: some 20,000 lines, which a stalled reader of our output may be behind.
const MOST_WAITING: usize = 4 << 20;

/// Written without gathering more. Also what a pipe takes at once.
const BATCH: usize = 64 * 1024;

/// Capacity in bytes that is kept after a burst.
const MOST_KEPT: usize = 8 * BATCH;

/// Pause between two attempts at a full, non-blocking output.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Attempts at such an output, with `LOOK_AGAIN` between them: five seconds.
const PATIENCE: u32 = 500;

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for the last lines, however steadily the output takes them.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::mpsc;

    /// Sends what is written, and waits for leave before each write.
    struct Gated {
        leave: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.leave.recv().map_err(io::Error::other)?;
            self.written
                .send(bytes.to_vec())
                .map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static DROPPED: Counter = Counter::new();
    const PATIENTLY: Duration = Duration::from_secs(2);

    fn log(reports_elsewhere: bool) -> Log {
        Log {
            thread: "test-log",
            gather: Duration::from_millis(10),
            dropped: &DROPPED,
            report: |_| {},
            reports_elsewhere,
        }
    }

    fn gated() -> (LineWriter, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (give_leave, leave) = mpsc::channel();
        let (written, read) = mpsc::channel();
        (
            LineWriter::new(log(true), Gated { leave, written }),
            give_leave,
            read,
        )
    }

    #[test]
    fn lines_are_written_in_order_and_without_being_closed() {
        let (writer, leave, read) = gated();
        for _ in 0..3 {
            leave.send(()).unwrap();
        }
        writer.write(b"a\n");
        writer.write(b"b\n");
        let mut seen = read.recv().unwrap();
        if seen == b"a\n" {
            seen.extend(read.recv().unwrap());
        }
        assert_eq!(seen, b"a\nb\n");
        writer.write(b"c\n");
        assert_eq!(read.recv().unwrap(), b"c\n");
    }

    #[test]
    fn closing_writes_what_is_left_and_later_lines_are_lost() {
        let (writer, leave, read) = gated();
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        writer.write(b"a\n");
        writer.close(PATIENTLY);
        assert_eq!(read.recv().unwrap(), b"a\n");
        writer.write(b"b\n");
        assert!(read.try_recv().is_err());
    }

    #[test]
    fn closing_a_writer_that_never_wrote_starts_no_thread() {
        let (writer, _leave, read) = gated();
        writer.close(PATIENTLY);
        drop(writer);
        assert!(read.recv().is_err());
    }

    #[test]
    fn a_stalled_output_costs_lines_but_bounded_memory_and_no_waiting() {
        let (writer, leave, read) = gated();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        let offered = 3 * MOST_WAITING / line.len();
        for _ in 0..offered {
            writer.write(&line);
        }
        {
            let state = writer.shared.lock();
            assert!(state.waiting.len() <= MOST_WAITING);
        }
        drop(read);
        for _ in 0..4 {
            leave.send(()).unwrap();
        }
        drop(leave);
        writer.close(PATIENTLY);
    }

    #[test]
    fn losses_are_reported_once_a_second() {
        let (writer, _leave, _read) = gated();
        let mut state = writer.shared.lock();
        let start = Instant::now();
        assert_eq!(state.loss_to_report(start), 0);
        state.lost = 3;
        assert_eq!(state.loss_to_report(start), 3);
        state.lost = 4;
        assert_eq!(state.loss_to_report(start + REPORT_EVERY / 2), 0);
        state.lost += 1;
        assert_eq!(state.loss_to_report(start + REPORT_EVERY), 5);
    }

    /// Answers each write from a script: so many bytes taken, or an error.
    struct Scripted {
        answers: VecDeque<Result<usize, io::ErrorKind>>,
        taken: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.answers.pop_front().unwrap_or(Ok(usize::MAX))?;
            let length = length.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_in_the_middle_of_a_line_tears_that_line_only() {
        let mut out = Scripted {
            answers: VecDeque::from([
                Ok(5),
                Err(io::ErrorKind::Interrupted),
                Err(io::ErrorKind::WouldBlock),
                Ok(1),
                Err(io::ErrorKind::StorageFull),
            ]),
            taken: Vec::new(),
        };
        let mut is_torn = false;
        let writes = AtomicU64::new(0);
        let mut write = |text: &[u8]| write_all(&mut out, text, &mut is_torn, &writes);
        assert_eq!(write(b"one\ntwo\nthree\n"), 2);
        assert_eq!(write(b"four\n"), 0);
        assert_eq!(out.taken, b"one\ntw\nfour\n");
    }

    /// Takes everything until it fails for good, or until it works again.
    struct Failing(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.lock();
            if state.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn held_lines_are_written_when_the_thread_may_begin_and_at_the_latest_at_the_end() {
        for begins in [true, false] {
            let (leave, leaves) = mpsc::channel();
            let (written, read) = mpsc::channel();
            leave.send(()).unwrap();
            let gated = Gated {
                leave: leaves,
                written,
            };
            let writer = LineWriter::held(log(false), gated);
            writer.write(b"a\n");
            assert!(writer.shared.lock().thread == Thread::Held);
            match begins {
                true => writer.begin(),
                false => writer.close(PATIENTLY),
            }
            assert_eq!(read.recv().unwrap(), b"a\n");
        }
    }

    #[test]
    fn a_loss_is_reported_among_the_lines_as_soon_as_there_is_room() {
        static DROPPED: Counter = Counter::new();
        static REPORTED: Counter = Counter::new();
        let (leave, leaves) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let log = Log {
            dropped: &DROPPED,
            report: |lines| REPORTED.add(lines),
            ..log(false)
        };
        let gated = Gated {
            leave: leaves,
            written,
        };
        let writer = LineWriter::new(log, gated);
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        for _ in 0..3 * MOST_WAITING / line.len() {
            writer.write(&line);
        }
        let dropped = DROPPED.get();
        assert!(dropped > 0);
        assert_eq!(REPORTED.get(), 0, "there is no room for it");
        let mut left = 3 * MOST_WAITING - dropped as usize * line.len();
        while left > 0 {
            leave.send(()).unwrap();
            left -= read.recv().unwrap().len();
        }
        writer.close(PATIENTLY);
        assert_eq!(REPORTED.get(), dropped);
    }

    #[test]
    fn lines_whose_write_fails_are_counted_once() {
        static DROPPED: Counter = Counter::new();
        let state = Arc::new(Mutex::new((true, Vec::new())));
        let log = Log {
            dropped: &DROPPED,
            ..log(false)
        };
        let writer = LineWriter::new(log, Failing(Arc::clone(&state)));
        writer.write(b"a\nb\n");
        writer.write(b"c\n");
        writer.close(PATIENTLY);
        assert_eq!(DROPPED.get(), 3);
        writer.write(b"late\n");
        assert_eq!(DROPPED.get(), 4);
        assert_eq!(state.lock().1, b"");
    }
}
