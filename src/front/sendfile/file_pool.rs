//! The pool of threads through which the asynchronous front accesses the file system.
//!
//! A job runs on tokio's blocking threads, at most so many at a time; further ones wait in order of
//! arrival. Their number is bounded by the in-flight requests, because each waits for its own job.
//! Nothing else in the front calls `spawn_blocking`. Some threads are created at the start, for a
//! system that later creates no more.

#![allow(clippy::disallowed_methods, reason = "is the pool for blocking calls")]

use std::io;
use std::sync::{Arc, Barrier};

use tokio::sync::Semaphore;

/// Runs blocking file-system work. Clones share the same bound.
#[derive(Debug, Clone)]
pub struct FilePool {
    permits: Arc<Semaphore>,
}

impl FilePool {
    /// The size of nginx's default thread pool: enough to keep a disk's queue filled, few enough
    /// that their stacks do not matter. A runtime has to be built with as many blocking threads: a
    /// job releases its place a moment before its thread is free, and tokio would start another
    /// thread each time the next job falls into that moment.
    pub const THREADS: usize = 32;

    /// Threads that are created at the start and stay: file work continues on them when the system
    /// creates no more. (tokio creates threads on demand, and panics if it cannot create the first
    /// one.)
    const AT_START: usize = 4;

    /// Creates the threads of a runtime that exist from the start.
    ///
    /// # Errors
    /// The system creates no threads.
    pub fn make_threads(runtime: &tokio::runtime::Runtime) -> io::Result<()> {
        // tokio panics if it cannot create a thread, so the system is asked before.
        let all_there = Arc::new(Barrier::new(Self::AT_START));
        for number in 0..Self::AT_START {
            let name = format!("pyserve-try-{number}");
            let tried = std::thread::Builder::new().name(name).spawn(|| ())?;
            let _it_does_nothing = tried.join();
        }
        let jobs = (0..Self::AT_START).map(|_| {
            let all_there = Arc::clone(&all_there);
            // Each occupies its thread until all have one.
            runtime.spawn_blocking(move || {
                all_there.wait();
            })
        });
        for job in jobs.collect::<Vec<_>>() {
            runtime.block_on(job).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// A pool that runs at most `threads` jobs at a time (at least one).
    pub fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(threads)),
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
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        let outcome = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permit);
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

impl Default for FilePool {
    fn default() -> Self {
        Self::new(Self::THREADS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

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
        assert_eq!(pool.permits.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(pool.run(|| 1).await, 1);
    }
}
