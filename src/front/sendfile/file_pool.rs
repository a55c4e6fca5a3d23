//! The pool of threads through which the asynchronous front accesses the file system.
//!
//! A job runs on tokio's blocking threads, at most so many at a time; further ones wait in order of
//! arrival. A [part](FilePool::part) of the pool may have fewer at a time, so that a file system
//! that hangs holds the threads of a part and not those of all. The number of waiting jobs is bounded by the in-flight requests, because each waits for its own job.
//! Nothing else in the front calls `spawn_blocking`. Some threads are created at the start, for a
//! system that later creates no more.

#![allow(clippy::disallowed_methods, reason = "is the pool for blocking calls")]

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use tokio::sync::Semaphore;

/// Runs blocking file-system work. Clones share the same bounds.
#[derive(Debug, Clone)]
pub struct FilePool {
    /// The bounds of the part, of the one that it is a part of, and so on to all.
    bounds: Arc<[Arc<Semaphore>]>,
}

/// Longest wait for threads that the system has promised. tokio queues a job without an error if
/// it cannot create a further thread.
const PATIENCE: Duration = Duration::from_secs(2);

impl FilePool {
    /// The size of nginx's default thread pool: enough to keep a disk's queue filled, few enough
    /// that their stacks do not matter. A runtime has to be built with as many blocking threads: a
    /// job releases its place a moment before its thread is free, and tokio would start another
    /// thread each time the next job falls into that moment.
    pub const THREADS: usize = 32;

    /// The part of all static locations together. The rest is for files that requests and responses
    /// need on the server's own disk.
    pub const OF_LOCATIONS: usize = 24;

    /// The part of one static location.
    pub const OF_ONE_LOCATION: usize = 16;

    /// Threads that are created at the start and stay: file work continues on them when the system
    /// creates no more. (tokio creates threads on demand, and panics if it cannot create the first
    /// one.)
    const AT_START: usize = 4;

    /// Asks the system for the threads of [`FilePool::make_threads`] and `others`, all at the same
    /// time, and ends them: tokio panics if it cannot create one of the first.
    ///
    /// # Errors
    /// The system creates fewer threads.
    pub fn try_threads(others: usize) -> io::Result<()> {
        let before = own_threads();
        let mut held = Vec::new();
        let tried = (0..Self::AT_START + others).try_for_each(|number| {
            let (release, released) = channel::<()>();
            let name = format!("pyserve-try-{number}");
            let wait = move || _ = released.recv();
            let thread = std::thread::Builder::new().name(name).spawn(wait);
            held.push((release, thread.map_err(|error| no_thread(&error))?));
            Ok(())
        });
        for (release, thread) in held {
            drop(release);
            let _it_does_nothing = thread.join();
        }
        // The kernel counts a thread for some microseconds after its end.
        let deadline = Instant::now() + PATIENCE;
        while own_threads() > before && Instant::now() < deadline {
            std::thread::yield_now();
        }
        tried
    }

    /// Creates the threads of a runtime that exist from the start, after
    /// [`FilePool::try_threads`].
    ///
    /// # Errors
    /// The system creates no threads.
    pub fn make_threads(runtime: &tokio::runtime::Runtime) -> io::Result<()> {
        let all_there = Arc::new(Rendezvous::default());
        let jobs = (0..Self::AT_START).map(|_| {
            let all_there = Arc::clone(&all_there);
            // Each occupies its thread until all have one.
            runtime.spawn_blocking(move || all_there.wait_for(Self::AT_START))
        });
        for job in jobs.collect::<Vec<_>>() {
            if !runtime.block_on(job).map_err(io::Error::other)? {
                return Err(no_thread(&Errno::AGAIN.into()));
            }
        }
        Ok(())
    }

    /// A pool that runs at most `threads` jobs at a time (at least one).
    pub fn new(threads: usize) -> Self {
        Self {
            bounds: Arc::new([bound(threads)]),
        }
    }

    /// A part of the pool, which runs at most `threads` jobs at a time (at least one).
    pub fn part(&self, threads: usize) -> Self {
        let wider = self.bounds.iter().cloned();
        Self {
            bounds: std::iter::once(bound(threads)).chain(wider).collect(),
        }
    }

    /// Drops `thing` on a thread that may block, without waiting for it. Outside of the runtime it
    /// is dropped here.
    pub fn discard(&self, thing: impl Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(thing));
        }
    }

    /// Runs `job` on a thread that may block, and returns its result.
    ///
    /// If the caller is dropped before the job began, it never begins; afterwards it runs to its
    /// end and counts against the bound until then.
    ///
    /// # Panics
    /// If `job` does: the panic continues in the request that asked for the job.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let mut permits: [_; MOST_BOUNDS] = [const { None }; MOST_BOUNDS];
        // The narrowest first: a job that waits for it takes nothing from others.
        for (permit, bound) in permits.iter_mut().zip(&*self.bounds) {
            let acquired = Arc::clone(bound).acquire_owned().await;
            *permit = Some(acquired.expect("the semaphore is never closed"));
        }
        let outcome = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permits);
            result
        });
        match outcome.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and will drop this task.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Most bounds of a pool: its own, that of the locations, that of one location.
const MOST_BOUNDS: usize = 3;

fn bound(threads: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS)))
}

impl Default for FilePool {
    fn default() -> Self {
        Self::new(Self::THREADS)
    }
}

/// Number of threads of this process, those that are ending included.
fn own_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn no_thread(error: &io::Error) -> io::Error {
    let text =
        format!("the system creates no further thread: {error} (check `ulimit -u` and pids.max)");
    io::Error::new(error.kind(), text)
}

/// A barrier with a time limit.
#[derive(Default)]
struct Rendezvous {
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Rendezvous {
    /// Waits until `count` threads are here, at most [`PATIENCE`]; `false`: some did not come.
    fn wait_for(&self, count: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut arrived = self.arrived.lock();
        *arrived += 1;
        self.changed.notify_all();
        while *arrived < count {
            if self.changed.wait_until(&mut arrived, deadline).timed_out() {
                return *arrived >= count;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_part_whose_jobs_hang_leaves_the_others_their_threads() {
        let pool = FilePool::new(3);
        let locations = pool.part(2);
        let (hung, other) = (locations.part(1), locations.part(1));
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let jobs: Vec<_> = (0..5)
            .map(|_| {
                let (hung, wait) = (hung.clone(), Arc::clone(&wait));
                tokio::spawn(async move { hung.run(move || wait.lock().recv()).await })
            })
            .collect();
        for _ in 0..5 {
            assert_eq!(other.run(|| 7).await, 7);
            assert_eq!(pool.run(|| 8).await, 8);
        }
        drop(go_on);
        for job in jobs {
            assert!(job.await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn no_more_jobs_run_at_a_time_than_the_pool_has_threads() {
        let pool = FilePool::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..20)
            .map(|number| {
                let (pool, running, most) = (pool.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    pool.run(move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        number
                    })
                    .await
                })
            })
            .collect();
        for (number, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), number);
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_panic_costs_one_job_and_gives_its_place_back() {
        let pool = FilePool::new(1);
        let doomed = pool.clone();
        let lost = tokio::spawn(async move { doomed.run(|| panic!("expected")).await }).await;
        assert!(lost.unwrap_err().is_panic());
        assert_eq!(pool.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_keeps_its_place_until_it_ends() {
        let pool = FilePool::new(1);
        let (begun, wait_begun) = tokio::sync::oneshot::channel();
        let (release, wait_release) = mpsc::channel::<()>();
        let abandoned = pool.clone();
        let caller = tokio::spawn(async move {
            abandoned
                .run(move || {
                    begun.send(()).unwrap();
                    wait_release.recv().unwrap();
                })
                .await;
        });
        wait_begun.await.unwrap();
        caller.abort();
        assert_eq!(pool.bounds[0].available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(pool.run(|| 1).await, 1);
    }
}
