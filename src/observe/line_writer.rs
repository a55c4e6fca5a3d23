//! Writes lines to a slow place without ever making the caller wait.
//!
//! Lines gather in memory; one thread takes all that have gathered and writes them at once,
//! so at high load there is one write for many lines, and one wake-up. The thread begins
//! with the first line. At most [`MOST_WAITING`] bytes wait: further lines are lost, counted,
//! and the loss is logged once a second.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Gives lines to a thread that writes them.
pub(super) struct LineWriter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something for the thread: first bytes, a full batch, or the end.
    wake: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    lost: u64,
    loss_told: Option<Instant>,
    is_closing: bool,
    thread: Thread,
}

enum Thread {
    /// Begins with the first line; until then its output waits here.
    NotBegun(Box<dyn Write + Send>),
    Running,
    Ended,
}

impl LineWriter {
    pub(super) fn new(out: impl Write + Send + 'static) -> Self {
        let state = State {
            waiting: Vec::new(),
            lost: 0,
            loss_told: None,
            is_closing: false,
            thread: Thread::NotBegun(Box::new(out)),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                wake: Condvar::new(),
                ended: Condvar::new(),
            }),
        }
    }

    /// Takes a line that ends in a line break. Never waits for the output.
    pub(super) fn write(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if !state.is_closing {
            self.begin(&mut state);
        }
        let is_room = state.waiting.len() + line.len() <= MOST_WAITING;
        if !is_room || state.is_closing || matches!(state.thread, Thread::Ended) {
            state.lost += 1;
            let loss = state.loss_to_tell(Instant::now());
            drop(state);
            return tell(loss);
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(line);
        let after = state.waiting.len();
        drop(state);
        // Otherwise the thread is awake, or has been woken already.
        if before == 0 || (before < BATCH && after >= BATCH) {
            self.shared.wake.notify_one();
        }
    }

    /// Waits until all lines are written, [`CLOSE_WAIT`] at most.
    pub(super) fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.shared.wake.notify_one();
        let (mut state, _) = self
            .shared
            .ended
            .wait_timeout_while(state, CLOSE_WAIT, |state| {
                matches!(state.thread, Thread::Running)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.lost += lines(&state.waiting);
        state.waiting.clear();
        let loss = std::mem::take(&mut state.lost);
        drop(state);
        tell(loss);
    }

    fn begin(&self, state: &mut State) {
        if !matches!(state.thread, Thread::NotBegun(_)) {
            return;
        }
        let Thread::NotBegun(out) = std::mem::replace(&mut state.thread, Thread::Running) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let begun = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || shared.run(out));
        if let Err(error) = begun {
            state.thread = Thread::Ended;
            tracing::error!(%error, "cannot start the thread of the access log: there will be none");
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
    fn run(&self, mut out: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        let mut is_torn = false;
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.is_closing {
                state = self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let (mut state, _) = self
                .wake
                .wait_timeout_while(state, GATHER, |state| {
                    state.waiting.len() < BATCH && !state.is_closing
                })
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut state.waiting, &mut batch);
            if batch.is_empty() && state.is_closing {
                state.thread = Thread::Ended;
                self.ended.notify_all();
                return;
            }
            let loss = state.loss_to_tell(Instant::now());
            drop(state);
            tell(loss);

            let unwritten = write_all(&mut out, &batch, &mut is_torn);
            if unwritten > 0 {
                self.lock().lost += unwritten;
            }
            batch.clear();
            batch.shrink_to(MOST_KEPT);
        }
    }

    /// A panic cannot happen in the middle of a change, so a poisoned state is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many lost lines to tell of now; 0 if there are none or others were told just now.
    fn loss_to_tell(&mut self, now: Instant) -> u64 {
        let is_due = self
            .loss_told
            .is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if self.lost == 0 || !is_due {
            return 0;
        }
        self.loss_told = Some(now);
        std::mem::take(&mut self.lost)
    }
}

/// Outside the lock, because logging may wait.
fn tell(lost: u64) {
    if lost > 0 {
        tracing::warn!(
            lines = lost,
            "access log lines lost: nobody takes them in time"
        );
    }
}

/// Writes `batch`; returns how many of its lines are not, or not wholly, written. After an
/// error in the middle of a line, `is_torn` makes the next batch begin on a line of its own.
fn write_all(out: &mut dyn Write, batch: &[u8], is_torn: &mut bool) -> u64 {
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
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares the descriptor with us made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                thread::sleep(GATHER);
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

/// What stays allocated after a burst.
const MOST_KEPT: usize = 8 * BATCH;

/// How long a first line waits for others: bounds wake-ups to 100 a second, and a person
/// who watches does not see it.
const GATHER: Duration = Duration::from_millis(10);

/// Attempts at a full, non-blocking output, with `GATHER` between them: five seconds.
const PATIENCE: u32 = 500;

const TELL_EVERY: Duration = Duration::from_secs(1);

const CLOSE_WAIT: Duration = Duration::from_secs(2);

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

    fn gated() -> (LineWriter, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (give_leave, leave) = mpsc::channel();
        let (written, read) = mpsc::channel();
        (LineWriter::new(Gated { leave, written }), give_leave, read)
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
        writer.close();
        assert_eq!(read.recv().unwrap(), b"a\n");
        writer.write(b"b\n");
        assert!(read.try_recv().is_err());
    }

    #[test]
    fn closing_a_writer_that_never_wrote_starts_no_thread() {
        let (writer, _leave, read) = gated();
        writer.close();
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
        writer.close();
    }

    #[test]
    fn losses_are_told_once_a_second() {
        let (writer, _leave, _read) = gated();
        let mut state = writer.shared.lock();
        let start = Instant::now();
        assert_eq!(state.loss_to_tell(start), 0);
        state.lost = 3;
        assert_eq!(state.loss_to_tell(start), 3);
        state.lost = 4;
        assert_eq!(state.loss_to_tell(start + TELL_EVERY / 2), 0);
        state.lost += 1;
        assert_eq!(state.loss_to_tell(start + TELL_EVERY), 5);
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
        assert_eq!(write_all(&mut out, b"one\ntwo\nthree\n", &mut is_torn), 2);
        assert_eq!(write_all(&mut out, b"four\n", &mut is_torn), 0);
        assert_eq!(out.taken, b"one\ntw\nfour\n");
    }
}
