//! Files in memory that the kernel sends without a copy.
//!
//! The bytes of a small file lie in this process's heap, from which the kernel copies them into
//! buffers of the socket, and the receiver out of them. Where both run on different CPUs, these buffers travel between
//! their caches: for 16 KiB that took 1.4 of the CPU time of nginx, which sends pages of the page
//! cache. So bytes from [`LEAST`] on lie in a sealed memory file, whose pages the kernel sends as they
//! are; they cannot change, and are always in memory.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rustix::process::{Resource, getrlimit};

use crate::os::descriptors;
use crate::os::sealed_bytes::SealedBytes;

/// From this length on a second system call costs less than the copy.
const LEAST: usize = 12 << 10;

/// Most descriptors for these files: the 16th part of the limit (`ulimit -n`), but no more than
/// this. Further files lie on the heap.
const MOST: u64 = 512;

static LIMIT: LazyLock<usize> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((limit / 16).min(MOST)).unwrap_or_default()
});

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Such bytes, counted.
#[derive(Debug)]
pub struct Sealed(SealedBytes);

impl Sealed {
    /// Moves the bytes of a file into a memory file, if they are many and there is a descriptor for it.
    pub(super) fn keep(bytes: Bytes) -> (Bytes, Option<Arc<Self>>) {
        match Self::copy_of(&bytes) {
            Some(sealed) => {
                let sealed = Arc::new(sealed);
                let owner = Owner(Arc::clone(&sealed));
                (Bytes::from_owner(owner), Some(sealed))
            }
            None => (bytes, None),
        }
    }

    fn copy_of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < LEAST || descriptors::lacked_lately() {
            return None;
        }
        let more = |count: usize| (count < *LIMIT).then_some(count + 1);
        COUNT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let copied = SealedBytes::copy_of("pyserve-file", bytes);
        if copied.is_err() {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
        copied.ok().map(Self)
    }
}

impl Deref for Sealed {
    type Target = SealedBytes;

    fn deref(&self) -> &SealedBytes {
        &self.0
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps the mapping while there are slices of it.
struct Owner(Arc<Sealed>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bytes_are_sealed_and_slices_outlive_the_entry() {
        let (short, none) = Sealed::keep(Bytes::from(vec![1; LEAST - 1]));
        assert!(none.is_none() && short.len() == LEAST - 1);
        let (long, sealed) = Sealed::keep(Bytes::from(vec![2; LEAST]));
        assert_eq!(sealed.unwrap().0.as_ref().len(), LEAST);
        let end = long.slice(LEAST - 10..);
        drop(long);
        assert_eq!(end, [2; 10].as_slice());
    }
}
