//! Threads that check passwords: a hash takes from a millisecond to seconds, which no thread of the
//! front may wait for.
//!
//! Addresses take turns, each with one check at a time, so guessing from one address does not delay
//! the users of others. Requests with the same credentials share one check: a page with fifty files
//! costs one. Both the checks of an address and those of all together are limited; further ones are
//! refused at once. The threads start with the first check.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::front::client_limits::network::Network;

/// Different credentials of one address that wait.
const MOST_OF_ONE: usize = 16;
/// Credentials of all addresses that wait: with bcrypt's usual cost, a minute of work.
const MOST_OF_ALL: usize = 512;
/// Threads at most. Passwords are no reason to occupy the CPUs of the application.
const MOST_THREADS: usize = 4;
/// Peers without an address are told apart by their credentials, as so many clients.
const UNKNOWN: u8 = 8;
/// The priority of the threads (setpriority(2)), below that of the front and the workers.
const NICE: i32 = 5;

/// A digest of credentials and of the file that they are for.
pub type Digest = [u8; 32];

/// Checks of passwords, in turns.
#[derive(Default)]
pub struct Attempts {
    queue: Arc<Queue>,
}

/// Too many checks wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    arrived: Condvar,
}

#[derive(Default)]
struct Lines {
    of: HashMap<Source, Line>,
    /// Sources whose next check may begin, in order.
    turns: VecDeque<Source>,
    waiting: usize,
    threads: usize,
    idle: usize,
}

/// The origin of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Network(Network),
    Unknown(u8),
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Job, Asked)>,
    running: Option<Asked>,
}

type Job = Box<dyn FnOnce() -> bool + Send>;

/// Credentials, and the requests that wait for the verdict.
struct Asked {
    digest: Digest,
    by: Vec<oneshot::Sender<bool>>,
}

impl Attempts {
    /// Runs `job`, which checks the credentials of `digest`, when it is the turn of `address`, and
    /// returns its result. A job whose callers have all gone is not begun.
    ///
    /// # Errors
    /// [`Busy`] if too many wait, or if the system creates no thread.
    pub async fn run(
        &self,
        address: Option<IpAddr>,
        digest: Digest,
        job: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, Busy> {
        let source = match address {
            Some(address) => Source::Network(Network::from(address)),
            None => Source::Unknown(digest[0] % UNKNOWN),
        };
        let verdict = self.submit(source, digest, Box::new(job))?;
        verdict.await.map_err(|_| Busy)
    }

    fn submit(
        &self,
        source: Source,
        digest: Digest,
        job: Job,
    ) -> Result<oneshot::Receiver<bool>, Busy> {
        let (sender, verdict) = oneshot::channel();
        let mut lines = self.queue.lines.lock();
        let is_full = lines.waiting >= MOST_OF_ALL;
        let line = lines.of.entry(source).or_default();
        let waiting = line.waiting.iter_mut().map(|(_, asked)| asked);
        let mut known = line.running.iter_mut().chain(waiting);
        if let Some(asked) = known.find(|asked| asked.digest == digest) {
            asked.by.push(sender);
            return Ok(verdict);
        }
        if is_full || line.waiting.len() >= MOST_OF_ONE {
            lines.forget_if_empty(source);
            return Err(Busy);
        }
        let has_turn = line.running.is_none() && line.waiting.is_empty();
        let by = vec![sender];
        line.waiting.push_back((job, Asked { digest, by }));
        lines.waiting += 1;
        if has_turn {
            lines.turns.push_back(source);
        }
        self.staff(&mut lines)?;
        self.queue.arrived.notify_one();
        Ok(verdict)
    }

    /// Starts a thread if all are busy and there may be more.
    fn staff(&self, lines: &mut Lines) -> Result<(), Busy> {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        if lines.idle >= lines.turns.len() || lines.threads >= (cpus / 2).clamp(1, MOST_THREADS) {
            return Ok(());
        }
        let queue = Arc::clone(&self.queue);
        let thread = std::thread::Builder::new().name("passwords".to_owned());
        match thread.spawn(move || queue.work()) {
            Ok(_) => lines.threads += 1,
            Err(_) if lines.threads > 0 => {}
            Err(error) => {
                tracing::error!(%error, "cannot check passwords: the system creates no thread");
                // All that wait: none of them would ever be checked.
                *lines = Lines::default();
                return Err(Busy);
            }
        }
        Ok(())
    }
}

impl Lines {
    fn forget_if_empty(&mut self, source: Source) {
        let is_empty = |line: &Line| line.running.is_none() && line.waiting.is_empty();
        if self.of.get(&source).is_some_and(is_empty) {
            self.of.remove(&source);
        }
    }

    /// The next check, which counts as running from now on.
    fn next(&mut self) -> Option<(Source, Job)> {
        while let Some(source) = self.turns.pop_front() {
            let line = self.of.entry(source).or_default();
            while let Some((job, asked)) = line.waiting.pop_front() {
                self.waiting -= 1;
                if asked.by.iter().any(|by| !by.is_closed()) {
                    line.running = Some(asked);
                    return Some((source, job));
                }
            }
            self.forget_if_empty(source);
        }
        None
    }

    /// Ends the check of this source; returns the requests that wait for its verdict.
    fn ended(&mut self, source: Source) -> Vec<oneshot::Sender<bool>> {
        let Some(line) = self.of.get_mut(&source) else {
            return Vec::new();
        };
        let asked = line.running.take();
        match line.waiting.is_empty() {
            true => _ = self.of.remove(&source),
            false => self.turns.push_back(source),
        }
        asked.map(|asked| asked.by).unwrap_or_default()
    }
}

impl Queue {
    fn work(&self) {
        // Of this thread only. If it is refused, the thread competes like any other.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut lines = self.lines.lock();
        loop {
            let Some((source, job)) = lines.next() else {
                lines.idle += 1;
                self.arrived.wait(&mut lines);
                lines.idle -= 1;
                continue;
            };
            drop(lines);
            let verdict = std::panic::catch_unwind(AssertUnwindSafe(job)).unwrap_or(false);
            lines = self.lines.lock();
            for asked in lines.ended(source) {
                // A request that has gone needs no verdict.
                let _ = asked.send(verdict);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn digest(number: u8) -> Digest {
        [number; 32]
    }

    fn address(text: &str) -> Source {
        Source::Network(Network::from(text.parse::<IpAddr>().unwrap()))
    }

    /// A job that ends when it is let go.
    fn held() -> (mpsc::Sender<bool>, mpsc::Receiver<()>, Job) {
        let (release, released) = mpsc::channel();
        let (began, has_begun) = mpsc::channel();
        let job = move || {
            let _ = began.send(());
            released.recv().unwrap_or(false)
        };
        (release, has_begun, Box::new(job))
    }

    #[test]
    fn requests_with_the_same_credentials_share_one_check() {
        let attempts = Attempts::default();
        let (release, has_begun, job) = held();
        let first = attempts
            .submit(address("192.0.2.1"), digest(1), job)
            .unwrap();
        has_begun.recv().unwrap();
        let never = || Box::new(|| panic!("checked twice"));
        let same = |_| {
            attempts
                .submit(address("192.0.2.1"), digest(1), never())
                .unwrap()
        };
        let others: Vec<_> = (0..100).map(same).collect();
        release.send(true).unwrap();
        assert!(first.blocking_recv().unwrap());
        for other in others {
            assert!(other.blocking_recv().unwrap());
        }
    }

    #[test]
    fn an_address_that_guesses_waits_for_itself_and_delays_no_other() {
        let mut lines = Lines::default();
        let mut keep = Vec::new();
        let mut submit = |lines: &mut Lines, source: Source, number: u8| {
            let (sender, receiver) = oneshot::channel();
            keep.push(receiver);
            let line = lines.of.entry(source).or_default();
            let has_turn = line.running.is_none() && line.waiting.is_empty();
            let asked = Asked {
                digest: digest(number),
                by: vec![sender],
            };
            line.waiting.push_back((Box::new(|| false), asked));
            lines.waiting += 1;
            if has_turn {
                lines.turns.push_back(source);
            }
        };
        let (guesser, user) = (address("198.51.100.1"), address("192.0.2.1"));
        for number in 0..10 {
            submit(&mut lines, guesser, number);
        }
        submit(&mut lines, user, 1);
        assert_eq!(lines.next().unwrap().0, guesser);
        // The guesser has nine more, but one at a time.
        assert_eq!(lines.next().unwrap().0, user);
        assert!(lines.next().is_none());
        assert_eq!(lines.ended(guesser).len(), 1);
        assert_eq!(lines.ended(user).len(), 1);
        assert_eq!(lines.next().unwrap().0, guesser);
    }

    #[test]
    fn more_than_an_address_may_have_are_refused_and_those_that_left_are_skipped() {
        let attempts = Attempts::default();
        let source = address("2001:db8::1");
        let (release, has_begun, job) = held();
        let first = attempts.submit(source, digest(0), job).unwrap();
        has_begun.recv().unwrap();
        let never = || -> Job { Box::new(|| panic!("its client has gone")) };
        for number in 1..=MOST_OF_ONE as u8 {
            drop(attempts.submit(source, digest(number), never()).unwrap());
        }
        // Of the same network.
        let over = attempts.submit(address("2001:db8::2"), digest(99), never());
        assert_eq!(over.unwrap_err(), Busy);
        let other = attempts.submit(address("2001:db8:1::1"), digest(1), Box::new(|| true));
        release.send(false).unwrap();
        assert!(!first.blocking_recv().unwrap());
        assert!(other.unwrap().blocking_recv().unwrap());
        let is_empty = || attempts.queue.lines.lock().of.is_empty();
        for _ in 0..1000 {
            if is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("lines without checks are kept");
    }

    #[test]
    fn a_panic_is_a_wrong_password() {
        let attempts = Attempts::default();
        let source = Source::Unknown(0);
        let lost = attempts.submit(source, digest(1), Box::new(|| panic!("expected")));
        assert!(!lost.unwrap().blocking_recv().unwrap());
        let next = attempts.submit(source, digest(2), Box::new(|| true));
        assert!(next.unwrap().blocking_recv().unwrap());
    }
}
