//! The way of one thread's replies to the front: its ring in shared memory, its channel for
//! descriptors, and the doorbell that wakes the front.
//!
//! Nothing here uses Python: callers are detached.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyserve_wire::reply_ring::{Replies, ReplyRing};
use rustix::thread::futex;

use crate::wait::IDLE_WAIT;
use crate::{ffi, sockets};

/// The reply memory of this worker, and the doorbell.
pub struct Doorbell {
    replies: Replies<'static>,
    bell: OwnedFd,
}

/// The outbox of a thread.
pub struct Outbox {
    ring: ReplyRing<'static>,
    doorbell: Arc<Doorbell>,
    /// Its other end is read while the front lives.
    channel: OwnedFd,
}

impl Doorbell {
    /// Opens the reply memory of this worker. `None` if it is none.
    pub fn open(memory: &OwnedFd, bell: OwnedFd) -> Option<Self> {
        let replies = Replies::open(ffi::map_words(memory).ok()?)?;
        Some(Self { replies, bell })
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    fn ring_if_needed(&self) {
        if self.replies.must_wake() {
            // If it cannot be rung, it has been rung very often, and the front looks.
            let _full = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

impl Outbox {
    /// The outbox of thread `thread` of this worker. `None` if the memory has no place for it.
    pub fn new(doorbell: &Arc<Doorbell>, thread: usize, channel: OwnedFd) -> Option<Self> {
        (thread < doorbell.replies.threads()).then(|| Self {
            ring: doorbell.replies.ring(thread),
            doorbell: Arc::clone(doorbell),
            channel,
        })
    }

    /// Checks that the application has not closed the channel, for example to become a daemon: the
    /// front would take the worker for one that has exited, and the ring would not show it.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn check(&self) -> io::Result<()> {
        rustix::io::fcntl_getfd(&self.channel)?;
        Ok(())
    }

    /// Writes bytes, whose length is one of whole words, and waits until there is room for them.
    ///
    /// # Errors
    /// `BrokenPipe`: the front has exited.
    pub fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let written = self.ring.write(bytes, ffi::copy_in);
            if written > 0 {
                self.doorbell.ring_if_needed();
            }
            bytes = &bytes[written..];
            if bytes.is_empty() {
                return Ok(());
            }
            self.wait(bytes.len())?;
        }
    }

    /// Sends a descriptor, for a frame that is written afterwards.
    ///
    /// # Errors
    /// The error of `sendmsg`.
    pub fn send_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        sockets::send_with_descriptor(&self.channel, &[0], descriptor)
    }

    fn wait(&self, length: usize) -> io::Result<()> {
        let futex = ffi::futex(self.ring.futex());
        let seen = futex.load(Ordering::SeqCst);
        self.ring.announce_wait();
        if self.ring.has_room(length) {
            return Ok(());
        }
        let longest = rustix::time::Timespec::try_from(IDLE_WAIT).ok();
        // Not PRIVATE: the front wakes through its own mapping.
        let woken = futex::wait(futex, futex::Flags::empty(), seen, longest.as_ref());
        if woken == Err(rustix::io::Errno::TIMEDOUT) && sockets::has_hung_up(&self.channel) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
