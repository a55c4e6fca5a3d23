//! Temporary files for responses that are too long for memory: an unlinked file for each, in the
//! temporary directory.
//!
//! Enforces the limits per response, per address and in total. If the disk fails, the caller gets
//! its bytes back, and one line is logged. [`super::response_stream`] decides when a file is used.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::response_stream::budget::Charge;
use crate::config::SpoolLimits;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, Spooled};
use crate::front::sendfile::file_pool::FilePool;
use crate::front::sendfile::file_source::read_into;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::os::descriptors::for_client;
use crate::os::temporary;

/// The directory, its limits, and its usage. One for the whole server.
#[derive(Debug)]
pub struct ResponseSpool {
    directory: PathBuf,
    files: FilePool,
    limits: SpoolLimits,
    used: Arc<AtomicU64>,
    /// True if an error of the disk has been logged.
    complained: AtomicBool,
}

impl ResponseSpool {
    /// A spool in `directory`; `files` does the writing and reading. `used`: bytes in use,
    /// including those of before a reload.
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

    /// Logs an error once, until a write succeeds.
    fn complain(&self, error: &io::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            let directory = self.directory.display();
            tracing::warn!(code = codes::SPOOL_DISK, %directory, %error, used = self.used(),
                "cannot spool responses: slow clients occupy their workers until the disk recovers");
        }
    }
}

/// The spool, for the responses to one client.
#[derive(Debug, Clone)]
pub struct ClientSpool {
    /// The spool that all clients share.
    pub spool: Arc<ResponseSpool>,
    /// The account to which the client's responses are charged.
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
    /// Bytes reserved for it.
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
    /// The pieces, which remain if they cannot be written.
    pub pieces: Vec<Bytes>,
    /// Their total length in bytes.
    pub length: usize,
    /// Their share of the budget, returned when they are dropped: a write that is abandoned goes on
    /// until its job has ended.
    pub charge: Option<Charge>,
}

impl SpoolFile {
    /// Creates the state without a file, which is made by the first write.
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

    /// Bytes written and not yet read.
    pub fn unread(&self) -> u64 {
        self.written - self.read
    }

    /// Reserves `length` more bytes. `false`: this response, those of its address, or all together
    /// would exceed their limit.
    pub fn make_room(&mut self, length: usize) -> bool {
        if self.unread() == 0 {
            // Everything written has been read: start again at the beginning of the file.
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

    /// True if it has a descriptor, or could reserve one.
    fn has_descriptor(&mut self) -> bool {
        if self.descriptor.is_none() {
            self.descriptor = self.account.try_reserve(Resource::SpoolFiles, 1);
        }
        self.descriptor.is_some()
    }

    /// Prepares the write of these pieces after the existing ones; there must be room for them.
    pub fn write(&self, pieces: Vec<Bytes>, length: usize) -> Write {
        Write {
            spool: Arc::clone(&self.spool),
            file: self.file.clone(),
            offset: self.written,
            pieces,
            length,
            charge: None,
        }
    }

    /// Records a successful write.
    pub fn wrote(&mut self, file: Arc<File>, length: usize) {
        self.file = Some(file);
        self.written += length as u64;
    }

    /// Reads the next block of at most `longest` bytes; `None` if everything has been read.
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

    /// Records that a block has been read.
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
            // The file has no name: closing its last descriptor frees the disk space, which takes a
            // file system a while.
            self.spool.files.discard(file);
        }
    }
}

impl Write {
    /// Writes, on a thread that may block. The pieces are returned in either case, with their
    /// charge.
    ///
    /// # Errors
    /// The error of the system call, already logged.
    pub async fn run(self) -> (io::Result<Arc<File>>, Self) {
        let spool = Arc::clone(&self.spool);
        let (result, write) = spool.files.run(move || (self.write(), self)).await;
        match &result {
            Ok(_) => spool.complained.store(false, Ordering::Relaxed),
            Err(error) => spool.complain(error),
        }
        (result, write)
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
