//! Where responses wait that are too long for memory: an unlinked file for each, in the
//! temporary directory.
//!
//! Knows how much room they may take, each, those of one address and all together, and what to do when the
//! disk has none: the caller gets its bytes back, and one line goes to the log. When to use a file is
//! decided in [`super::response_stream`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use crate::config::SpoolLimits;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, Spooled};
use crate::front::sendfile::file_pool::FilePool;
use crate::front::sendfile::file_source::read_into;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::descriptors::for_client;
use crate::os::temporary;

/// The directory, its limits, and what is used of them. One for the whole server.
#[derive(Debug)]
pub struct ResponseSpool {
    directory: PathBuf,
    files: FilePool,
    limits: SpoolLimits,
    used: Arc<AtomicU64>,
    /// The log has been told that the disk takes nothing.
    complained: AtomicBool,
}

impl ResponseSpool {
    /// For files in `directory`, which are written and read by `files`. `used`: bytes that are
    /// taken, those of before a reload among them.
    pub fn new(
        directory: PathBuf,
        files: FilePool,
        limits: SpoolLimits,
        used: Arc<AtomicU64>,
    ) -> Self {
        Self {
            directory,
            files,
            limits,
            used,
            complained: AtomicBool::new(false),
        }
    }

    /// Bytes of disk in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn reserve(&self, account: &Account, bytes: u64) -> bool {
        let room = (&*self.used, self.limits.total);
        let is_enough = account.try_spool(Spooled::Responses, bytes, None, room);
        if is_enough {
            METRICS.spooled_responses.add(bytes);
        }
        is_enough
    }

    /// Once for each time that the disk stops taking anything.
    fn complain(&self, error: &io::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            let directory = self.directory.display();
            tracing::warn!(code = codes::SPOOL_DISK, %directory, %error, used = self.used(),
                "cannot spool responses: slow clients hold their workers until this works again");
        }
    }
}

/// The spool, for the responses to one client.
#[derive(Debug, Clone)]
pub struct ClientSpool {
    /// The spool of all.
    pub spool: Arc<ResponseSpool>,
    /// The account that the client's responses are charged to.
    pub account: Arc<Account>,
}

/// The part of one response that is on disk: written on one side, read on the other.
#[derive(Debug)]
pub struct SpoolFile {
    spool: Arc<ResponseSpool>,
    account: Arc<Account>,
    file: Option<Arc<File>>,
    /// Its descriptor.
    descriptor: Option<Reservation>,
    /// Bytes that it has been given room for.
    reserved: u64,
    written: u64,
    read: u64,
}

/// Pieces on their way to the file.
#[derive(Debug)]
pub struct Write {
    spool: Arc<ResponseSpool>,
    file: Option<Arc<File>>,
    offset: u64,
    /// The pieces, which are still there if they cannot be written.
    pub pieces: Vec<Bytes>,
    /// Their length together, in bytes.
    pub length: usize,
}

impl SpoolFile {
    /// No file yet: it comes with the first write.
    pub fn new(ClientSpool { spool, account }: ClientSpool) -> Self {
        Self {
            spool,
            account,
            file: None,
            descriptor: None,
            reserved: 0,
            written: 0,
            read: 0,
        }
    }

    /// Bytes that have been written and not been read.
    pub fn unread(&self) -> u64 {
        self.written - self.read
    }

    /// Makes room for `length` more bytes. `false`: this response, those of its address, or all
    /// together would take more than they may.
    pub fn make_room(&mut self, length: usize) -> bool {
        if self.unread() == 0 {
            // What has been read is not needed any more: from the beginning again.
            (self.written, self.read) = (0, 0);
        }
        let end = self.written + length as u64;
        let more = end.saturating_sub(self.reserved);
        if end > self.spool.limits.each
            || !self.has_descriptor()
            || !self.spool.reserve(&self.account, more)
        {
            return false;
        }
        self.reserved += more;
        true
    }

    /// True if it has a descriptor, or may have one.
    fn has_descriptor(&mut self) -> bool {
        if self.descriptor.is_none() {
            self.descriptor = self.account.try_reserve(Resource::SpoolFiles, 1);
        }
        self.descriptor.is_some()
    }

    /// The write of these pieces behind what is there; there must be room for them.
    pub fn write(&self, pieces: Vec<Bytes>, length: usize) -> Write {
        Write {
            spool: Arc::clone(&self.spool),
            file: self.file.clone(),
            offset: self.written,
            pieces,
            length,
        }
    }

    /// The write has succeeded.
    pub fn wrote(&mut self, file: Arc<File>, length: usize) {
        self.file = Some(file);
        self.written += length as u64;
    }

    /// Reads the next block of at most `longest` bytes; `None` where nothing is unread.
    pub fn next_block(
        &self,
        longest: usize,
    ) -> Option<impl Future<Output = io::Result<Bytes>> + Send + use<>> {
        let file = Arc::clone(self.file.as_ref()?);
        let length = usize::try_from(self.unread()).map_or(longest, |unread| unread.min(longest));
        let (pool, offset) = (self.spool.files.clone(), self.read);
        let read = async move {
            // By the thread that frees it: allocators keep what threads of a pool allocate.
            let block = Vec::with_capacity(length);
            pool.run(move || read_into(block, &file, offset, length))
                .await
        };
        (length > 0).then_some(read)
    }

    /// A block has been read.
    pub fn took(&mut self, length: usize) {
        self.read += length as u64;
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.account
            .unspool(Spooled::Responses, self.reserved, &self.spool.used);
        METRICS.spooled_responses.sub(self.reserved);
        if let Some(file) = self.file.take() {
            // The file has no name: with its last descriptor the disk's room is given back,
            // which takes a file system a while.
            self.spool.files.discard(file);
        }
    }
}

impl Write {
    /// Writes on a thread that may wait. The pieces come back in either case.
    ///
    /// # Errors
    /// The error of the system call; the log knows it already.
    pub async fn run(self) -> (io::Result<Arc<File>>, Vec<Bytes>) {
        let spool = Arc::clone(&self.spool);
        let job = move || {
            let result = self.write();
            (result, self.pieces)
        };
        let (result, pieces) = spool.files.run(job).await;
        match &result {
            Ok(_) => spool.complained.store(false, Ordering::Relaxed),
            Err(error) => spool.complain(error),
        }
        (result, pieces)
    }

    fn write(&self) -> io::Result<Arc<File>> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(for_client(temporary::unlinked_file(
                &self.spool.directory,
            )?)?),
        };
        let mut offset = self.offset;
        for piece in &self.pieces {
            file.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(file)
    }
}
