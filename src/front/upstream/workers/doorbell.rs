//! The turns of the front: finds out which worker threads have written replies, wakes the tasks that
//! read them, and has the queue wake the threads for which there are requests.
//!
//! While the front is busy, one task of the generation looks at the rings of all threads once in
//! each turn of the runtime, and no worker makes a system call. Only before the front sleeps does
//! that task ask the workers to ring: one of them does, once.
//!
//! Workers can ring for nothing, and take the ring of another; so the task also looks when
//! [`Doorbell::look`] is called, every few seconds.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};

use pyserve_wire::Malformed;
use pyserve_wire::reply_ring::{CAPACITY, Replies, ReplyRing};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use crate::front::client_limits::memory_budget::Resource;
use crate::os::inotify::watch;
use crate::os::memory::SharedWords;
use crate::os::{doorbell, futex, memory};

/// The doorbell of a generation, and all who may ring it.
pub(super) struct Doorbell {
    bell: AsyncFd<OwnedFd>,
    inboxes: Mutex<Vec<Arc<Inbox>>>,
    /// The queue of the generation.
    queue: Mutex<Weak<Queue>>,
    /// The queue is to wake threads at the end of this turn.
    later: Arc<Notify>,
    closed: CancellationToken,
}

/// The reply memory of one worker.
pub struct ReplyMemory {
    words: SharedWords,
    threads: usize,
}

/// The ring of one thread, from which the front reads.
pub(super) struct Inbox {
    memory: Arc<ReplyMemory>,
    thread: usize,
    /// The number of bytes written at the last look.
    seen: AtomicU64,
    /// Bytes of the ring that are resident, counted by the memory budget: the thread writes to all
    /// of it in turn.
    resident: AtomicUsize,
    news: Notify,
}

impl ReplyMemory {
    /// The memory of a worker with so many threads.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn new(threads: usize) -> io::Result<Self> {
        let words = SharedWords::create("pyserve-replies", Replies::size(threads))?;
        Replies::create(words.words(), threads);
        Ok(Self { words, threads })
    }

    /// The memory, to be handed to the worker.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.words.file()
    }

    pub(super) fn replies(&self) -> Replies<'_> {
        Replies::over(self.words.words(), self.threads)
    }
}

impl Inbox {
    fn ring(&self) -> ReplyRing<'_> {
        self.memory.replies().ring(self.thread)
    }

    /// Appends bytes behind the first `read`, at most `most`, and returns how many.
    ///
    /// # Errors
    /// [`Malformed`] if the worker says that it has written what it cannot have.
    pub(super) fn read(
        &self,
        read: u64,
        most: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let parts = self.ring().unread(read, most)?;
        let length = parts.into_iter().map(size_of_val).sum();
        match buffer.is_empty() {
            // Exactly what is there: the buffer becomes the response.
            true => buffer.reserve_exact(length),
            // The rest of a frame, which may come in many parts.
            false => buffer.reserve_exact(most),
        }
        for part in parts {
            memory::append(part, buffer);
        }
        let read = read + length as u64;
        if length > 0 && self.ring().free(read) {
            futex::wake(self.ring().futex());
        }
        self.count(read);
        Ok(length)
    }

    fn count(&self, written: u64) {
        let before = self.resident.load(Ordering::Relaxed);
        if before < CAPACITY {
            let resident = usize::try_from(written).unwrap_or(CAPACITY).min(CAPACITY);
            self.resident.store(resident, Ordering::Relaxed);
            Resource::Memory.pool().add(resident - before);
        }
    }

    /// Waits until more has been written than at the last look. Cancel-safe: a notice that was not
    /// taken stays.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Wakes the reader if something was written since the last look.
    fn look(&self) -> bool {
        let written = self.ring().written();
        let is_new = self.seen.swap(written, Ordering::Relaxed) != written;
        if is_new {
            self.news.notify_one();
        }
        is_new
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let resident = *self.resident.get_mut();
        Resource::Memory.pool().take(resident);
    }
}

impl Doorbell {
    /// A doorbell without threads.
    ///
    /// # Errors
    /// The error of the system call.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            bell: watch(doorbell::create()?)?,
            inboxes: Mutex::default(),
            queue: Mutex::default(),
            later: Arc::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Notified when the queue has something to do at the end of a turn.
    pub(super) fn later(&self) -> Arc<Notify> {
        Arc::clone(&self.later)
    }

    /// The queue whose threads are woken from now on.
    pub(super) fn serve(&self, queue: &Arc<Queue>) {
        *self.queue.lock() = Arc::downgrade(queue);
    }

    fn end_turn(&self) -> bool {
        let queue = self.queue.lock();
        queue.upgrade().is_some_and(|queue| queue.end_turn())
    }

    /// The eventfd, to be handed to the workers.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.get_ref().as_fd()
    }

    /// The ring of a thread, at which the task looks from now on until [`Doorbell::remove`].
    pub(super) fn add(&self, memory: Arc<ReplyMemory>, thread: usize) -> Arc<Inbox> {
        // The task may be asleep.
        memory.replies().set_sleeps(true);
        let inbox = Arc::new(Inbox {
            memory,
            thread,
            seen: AtomicU64::new(0),
            resident: AtomicUsize::new(0),
            news: Notify::new(),
        });
        self.lock().push(Arc::clone(&inbox));
        inbox
    }

    /// Looks no more at a ring.
    pub(super) fn remove(&self, inbox: &Arc<Inbox>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, inbox));
    }

    /// Ends the task.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Wakes the reader of each ring in which something was written since the last look. `false`:
    /// there was none.
    pub(super) fn look(&self) -> bool {
        let inboxes = self.lock();
        inboxes
            .iter()
            .fold(false, |news, inbox| inbox.look() | news)
    }

    /// The task: looks at all rings for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            // Behind everything that can run now, and behind a look at the sockets.
            while self.look() | self.end_turn() {
                tokio::task::yield_now().await;
            }
            self.set_sleeps(true);
            // The workers look at the mark after they have written.
            fence(Ordering::SeqCst);
            let mut is_turn_open = false;
            if !self.look() {
                tokio::select! {
                    // Cancel-safe: readiness stays until it is cleared.
                    ready = self.bell.readable() => match ready {
                        Ok(mut ready) => {
                            let _taken_by_a_worker = doorbell::answer(self.bell.get_ref());
                            ready.clear_ready();
                        }
                        Err(_) => return,
                    },
                    // Cancel-safe: a notice that was not taken stays.
                    () = self.later.notified() => is_turn_open = true,
                    // Cancel-safe: the token stays cancelled.
                    () = self.closed.cancelled() => return,
                }
            }
            self.set_sleeps(false);
            if is_turn_open {
                tokio::task::yield_now().await;
            }
        }
    }

    fn set_sleeps(&self, sleeps: bool) {
        for inbox in self.lock().iter() {
            inbox.memory.replies().set_sleeps(sleeps);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.inboxes.lock()
    }
}
