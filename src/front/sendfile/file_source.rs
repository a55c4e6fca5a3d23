//! A large file that is sent a part at a time: its parts in the page cache ([`Residency`]), and reads
//! of further parts that do not block the connection threads.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::file_pool::FilePool;
use super::residency::Residency;
use crate::front::client_limits::memory_budget::{Account, Reservation};
use crate::observe::codes;
use crate::os::{descriptors, files, sendfile};

/// An open file, with what is known of its place in memory; clones share both.
#[derive(Debug, Clone)]
pub struct SharedFile {
    /// The file.
    pub file: Arc<File>,
    /// The ranges of it that are in memory, as far as is known.
    pub resident: Arc<Residency>,
    /// The client's account, which has room for the descriptor.
    pub counted: Option<Arc<Reservation>>,
}

impl SharedFile {
    /// Counts the descriptor for a client. Returns false if descriptors are scarce, and the client
    /// has its share of them.
    pub fn count_for(&mut self, client: &Arc<Account>) -> bool {
        let is_scarce = descriptors::were_scarce_for(&*self.file);
        self.counted = client.try_send_file(is_scarce).map(Arc::new);
        self.counted.is_some()
    }
}

impl From<File> for SharedFile {
    fn from(file: File) -> Self {
        Self {
            file: Arc::new(file),
            resident: Arc::default(),
            counted: None,
        }
    }
}

/// A file that is being sent; shared by the pieces of one response.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub shared: SharedFile,
    /// The end of the response in the file.
    end: u64,
    pool: FilePool,
}

impl Source {
    /// The file of a response that ends at offset `end`.
    pub fn new(file: impl Into<SharedFile>, end: u64, pool: FilePool) -> Self {
        Self {
            shared: file.into(),
            end,
            pool,
        }
    }

    /// Number of bytes, out of `length` from `offset` on, that are known to be in the page cache.
    /// 0: unknown, [`Source::fetch`] them first.
    pub fn in_memory(&self, offset: u64, length: usize) -> usize {
        let now = Instant::now();
        if let Some(to) = self.shared.resident.known_to(offset, now) {
            let known = usize::try_from(to - offset).unwrap_or(usize::MAX);
            return length.min(known);
        }
        if !sendfile::is_cached(&self.shared.file, offset, length as u64) {
            return 0;
        }
        self.shared
            .resident
            .remember(offset..offset + length as u64, now);
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
            let began = Instant::now();
            sendfile::fetch(&self.shared.file, offset, length, self.end)?;
            self.shared
                .resident
                .remember(offset..offset + length, began);
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
        pool.run(move || read_into(block, &self.shared.file, offset, length))
            .await
    }

    /// Logs that the file could not be read although its response has begun.
    pub fn report(&self, error: &io::Error) {
        let (file, length) = files::describe(&self.shared.file);
        tracing::warn!(
            code = codes::STATIC_FILE,
            file = %file.display(),
            needed = self.end,
            length,
            %error,
            "response truncated: its file could not be sent completely"
        );
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
