//! A large file that is sent a part at a time: its parts in the page cache, and reads of further
//! parts that do not block the connection threads.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::file_pool::FilePool;
use crate::observe::codes;
use crate::os::{files, sendfile};

/// A file that is being sent; shared by the pieces of one response.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub file: Arc<File>,
    /// The end of the response in the file.
    end: u64,
    pool: FilePool,
    fetched: Mutex<Option<Fetched>>,
}

/// Position up to which the file was seen in the page cache, and the time.
#[derive(Debug, Clone, Copy)]
struct Fetched {
    to: u64,
    at: Instant,
}

impl Source {
    /// The file of a response that ends at offset `end`.
    pub fn new(file: impl Into<Arc<File>>, end: u64, pool: FilePool) -> Self {
        Self {
            file: file.into(),
            end,
            pool,
            fetched: Mutex::default(),
        }
    }

    /// Number of bytes, out of `length` from `offset` on, that are known to be in the page cache.
    /// 0: unknown, [`Source::fetch`] them first.
    pub fn in_memory(&self, offset: u64, length: usize) -> usize {
        let fetched = *self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetched) = fetched
            && fetched.to > offset
            && fetched.at.elapsed() < TRUSTED
        {
            let known = usize::try_from(fetched.to - offset).unwrap_or(usize::MAX);
            return length.min(known);
        }
        if !sendfile::is_cached(&self.file, offset, length as u64) {
            return 0;
        }
        self.remember(offset + length as u64);
        length
    }

    /// Reads the file from `offset` on into the page cache, on a thread that may block.
    ///
    /// # Errors
    /// The error of the system call.
    pub async fn fetch(self: Arc<Self>, offset: u64) -> io::Result<()> {
        let pool = self.pool.clone();
        let length = FETCH.min(self.end.saturating_sub(offset));
        pool.run(move || {
            sendfile::fetch(&self.file, offset, length, self.end)?;
            self.remember(offset + length);
            Ok(())
        })
        .await
    }

    /// Reads exactly `length` bytes from `offset` on, on a thread that may block.
    ///
    /// # Errors
    /// The error of the system call, and [`became_shorter`].
    pub async fn read(self: Arc<Self>, offset: u64, length: usize) -> io::Result<Bytes> {
        let pool = self.pool.clone();
        // Allocated here, by the thread that will free it: allocators keep what threads of a pool
        // allocate.
        let block = Vec::with_capacity(length);
        pool.run(move || read_into(block, &self.file, offset, length))
            .await
    }

    /// Logs that the file could not be read although its response has begun.
    pub fn report(&self, error: &io::Error) {
        let (file, length) = files::describe(&self.file);
        tracing::warn!(
            code = codes::STATIC_FILE,
            file = %file.display(),
            needed = self.end,
            length,
            %error,
            "response truncated: its file could not be sent completely"
        );
    }

    fn remember(&self, to: u64) {
        let at = Instant::now();
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fetched { to, at });
    }
}

/// Reads exactly `length` bytes, into uninitialised memory.
///
/// # Errors
/// The error of the system call, and a file that ends before.
pub fn read_block(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    read_into(Vec::with_capacity(length), file, offset, length)
}

/// Reads exactly `length` bytes into the empty `block`.
///
/// # Errors
/// As [`read_block`].
pub fn read_into(mut block: Vec<u8>, file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    while block.len() < length {
        let at = offset + block.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut block), at) {
            Ok(0) => {
                return Err(became_shorter());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    block.truncate(length);
    Ok(Bytes::from(block))
}

/// The error of a file that has become shorter. A client must never take a part for the whole: it
/// closes the connection.
pub fn became_shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file became shorter while it was sent",
    )
}

/// The kernel's default read-ahead; the way to a thread costs some 10 µs, which a block of this
/// size amortises.
pub const BLOCK: usize = 128 * 1024;

/// Bytes read into the page cache at a time: enough that the way to a thread and back (some 15 µs)
/// does not matter, few enough that many slow readers do not evict each other's pages.
const FETCH: u64 = 4 << 20;

/// Time for which pages seen in the page cache are assumed to stay. The kernel reclaims pages only
/// under pressure, and then the least recently used.
const TRUSTED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn what_was_fetched_is_known_to_be_in_memory() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        let source = Arc::new(Source::new(file, 10 << 20, FilePool::new(1)));
        Arc::clone(&source).fetch(MIB as u64).await.unwrap();
        assert_eq!(source.in_memory(MIB as u64, MIB), MIB);
        assert_eq!(source.in_memory((5 << 20) - 10, MIB), 10);
    }
}
