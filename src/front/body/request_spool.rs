//! Reads a request's body to its end before a worker is assigned: small ones into memory, larger
//! ones into an unlinked temporary file, so that a slow upload occupies no worker and a large one
//! no memory.

use std::fs::File;
use std::future::poll_fn;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use super::received::Received;
use super::request::RequestBody;
use super::too_long::TooLong;
use crate::config::LocationSettings;
use crate::front::body::request_stream::RequestStream;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, SMALL, Spooled};
use crate::front::client_limits::min_rate::{MinRate, Patience};
use crate::front::descriptors::Tries;
use crate::front::sendfile::file_pool::FilePool;
use crate::observe::metrics::METRICS;
use crate::os::descriptors::for_client;
use crate::os::temporary;

/// Longest body that stays in memory and travels inside the request's message. Forms and
/// JSON are below it; it fits into a socket buffer of the kernel's default size beside the
/// longest head.
pub(crate) const IN_MEMORY: usize = 64 << 10;
/// Number of bytes collected before a write to the file: large enough that the way to the file pool
/// costs little in comparison, and small enough for hundreds of slow uploads.
const WRITE: usize = 64 << 10;
/// Bytes collected by all bodies together, where that leaves each [`LEAST_WRITE`]: beyond 256
/// uploads at once, a smaller write costs less than memory that grows with every attacker.
const TOGETHER: usize = 16 << 20;
/// Memory of a body that arrives in several pieces, in addition to the collected bytes: two more
/// buffers of hyper, one with the head and one with the piece that is being written.
const READING: usize = 32 << 10;
/// Memory of a body that is forwarded while it arrives.
const STREAMED: usize = 128 << 10;
/// Number of bytes read at a time ([`crate::front::connection::stream`]).
const LEAST_WRITE: usize = 16 << 10;
/// Number of bytes that are written rather than kept when a client pauses: a stalled upload then
/// uses some 60 KiB, most of it hyper's buffer and its task, instead of 430.
const WORTH_WRITING: usize = 8 << 10;

/// Directory and limits of spooled request bodies.
#[derive(Debug, Clone)]
pub struct Spool {
    /// The directory of the files.
    pub directory: PathBuf,
    /// Bytes per second that a client must send, after a grace period of its location's timeout.
    pub min_rate: u64,
    /// The disk space of all bodies.
    pub room: Arc<SpoolSpace>,
    /// The threads that write.
    pub files: FilePool,
}

/// Reasons why a request body is not read to its end.
#[derive(Debug)]
pub enum SpoolError {
    /// The body is longer than `--max-body`.
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The client pauses inside its body, or sends it too slowly.
    BodyTooSlow,
    /// The client has disconnected, or its chunks are malformed.
    BodyBroken(String),
    /// The bodies on disk have reached their limit.
    SpoolFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// The memory budget is used up, or this client's part of it.
    NoMemory,
    /// The descriptors for spool files are used up, or this client's part of them.
    NoDescriptors,
    /// The file system failed.
    Spool {
        /// The directory.
        directory: String,
        /// The error of the system call.
        error: std::io::Error,
    },
}

/// The part of a body that has arrived.
struct Arrived {
    /// Collected for the next write. Not `BytesMut`, which would start again with its
    /// whole former capacity.
    memory: Vec<u8>,
    /// The part that is written.
    file: Option<File>,
    share: SpoolShare,
}

impl Spool {
    /// Reads `body` to its end. The share has to be kept as long as the body.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn read(
        &self,
        mut body: Received,
        settings: &LocationSettings,
        account: &Arc<Account>,
    ) -> Result<(RequestBody, SpoolShare), SpoolError> {
        let too_large = || SpoolError::BodyTooLarge {
            limit: settings.max_body,
        };
        // Before the first byte is read, and so before `100 Continue` is sent.
        if body.size_hint().lower() > settings.max_body {
            return Err(too_large());
        }
        if let Some(whole) = body.take_whole() {
            // Charged where it was received.
            let share = SpoolShare::none_of(&self.room, account);
            return Ok((RequestBody::Memory(whole), share));
        }
        let is_long = body.size_hint().lower() > IN_MEMORY as u64;
        let _reading = Reading::of(&self.room);
        let mut arrived = Arrived {
            memory: Vec::new(),
            file: None,
            share: SpoolShare::none_of(&self.room, account),
        };
        if body.size_hint().lower() > LEAST_WRITE as u64 {
            // Before the pieces of many bodies have been read.
            arrived.share.waits()?;
        }
        let mut length = 0;
        let mut pace = MinRate::new(Patience {
            grace: settings.body_timeout,
            rate: self.min_rate,
        });
        loop {
            let chunk = match now(&mut body).await {
                Poll::Ready(frame) => {
                    let chunk = data(frame)?;
                    pace.moved(Duration::ZERO, chunk.as_ref().map_or(0, Bytes::len) as u64);
                    chunk
                }
                Poll::Pending => {
                    self.give_back(&mut arrived).await?;
                    arrived.share.waits()?;
                    self.chunk(&mut body, &mut pace).await?
                }
            };
            let Some(chunk) = chunk else { break };
            length += chunk.len() as u64;
            if length > settings.max_body {
                return Err(too_large());
            }
            if arrived.memory.is_empty()
                && arrived.file.is_none()
                && body.is_end_stream()
                && chunk.len() <= IN_MEMORY
                && arrived.share.may_keep(chunk.len())
            {
                return Ok((RequestBody::Memory(chunk), arrived.share));
            }
            let limit = match arrived.file.is_some() || is_long {
                true => self.room.write(),
                false => IN_MEMORY,
            };
            self.add(&mut arrived, chunk, limit).await?;
        }
        let Arrived {
            memory,
            file,
            mut share,
        } = arrived;
        share.has_ended(memory.len());
        match file {
            None => Ok((RequestBody::Memory(memory.into()), share)),
            Some(file) => {
                let (file, _used) = self.write(Some(file), memory, &mut share).await?;
                Ok((RequestBody::File { file, length }, share))
            }
        }
    }

    /// Writes what a client that pauses has sent: it uses little memory, for any length of time.
    async fn give_back(&self, arrived: &mut Arrived) -> Result<(), SpoolError> {
        let Arrived {
            memory,
            file,
            share,
        } = arrived;
        if file.is_some() && memory.len() >= WORTH_WRITING {
            let collected = std::mem::take(memory);
            let (now, _used) = self.write(file.take(), collected, share).await?;
            *file = Some(now);
            share.memory.shrink(share.reading);
        }
        if memory.is_empty() {
            *memory = Vec::new();
        }
        Ok(())
    }

    /// Adds a piece: to memory as far as `limit` and the budget allow, otherwise to the file.
    async fn add(
        &self,
        arrived: &mut Arrived,
        chunk: Bytes,
        limit: usize,
    ) -> Result<(), SpoolError> {
        let Arrived {
            memory,
            file,
            share,
        } = arrived;
        let collected = memory.len() + chunk.len();
        if collected <= limit && share.may_keep(room_for(memory, collected, limit)) {
            collect(memory, &chunk, limit);
            return Ok(());
        }
        if !memory.is_empty() {
            let collected = std::mem::take(memory);
            let (now, used) = self.write(file.take(), collected, share).await?;
            (*file, *memory) = (Some(now), used);
            memory.clear();
        }
        // Large chunks, and those with no room in memory, are passed on without a copy.
        if chunk.len() >= IN_MEMORY || !share.may_keep(chunk.len()) {
            *file = Some(self.write(file.take(), chunk, share).await?.0);
        } else {
            collect(memory, &chunk, limit);
        }
        Ok(())
    }

    /// Forwards `body` while it arrives.
    ///
    /// # Errors
    /// A body whose declared length exceeds the limit.
    pub fn stream(
        &self,
        body: Received,
        settings: &LocationSettings,
    ) -> Result<RequestStream, SpoolError> {
        let limit = settings.max_body;
        if body.size_hint().lower() > limit {
            return Err(SpoolError::BodyTooLarge { limit });
        }
        let patience = Patience {
            grace: settings.body_timeout,
            rate: self.min_rate,
        };
        Ok(RequestStream::new(body, limit, patience))
    }

    /// Reserves the memory of a body that [`Spool::stream`] forwards: the bytes in hyper and in the
    /// worker's socket while the worker does not read.
    ///
    /// # Errors
    /// [`SpoolError::NoMemory`].
    pub fn share_of_stream(&self, account: &Arc<Account>) -> Result<SpoolShare, SpoolError> {
        let mut share = SpoolShare::none_of(&self.room, account);
        match share.memory.grow(STREAMED) {
            true => Ok(share),
            false => Err(SpoolError::NoMemory),
        }
    }

    /// Waits for the next piece.
    async fn chunk(
        &self,
        body: &mut Received,
        pace: &mut MinRate,
    ) -> Result<Option<Bytes>, SpoolError> {
        let asked = Instant::now();
        let frame = tokio::time::timeout(pace.left(), body.frame())
            .await
            .map_err(|_| SpoolError::BodyTooSlow)?;
        let chunk = data(frame)?;
        pace.moved(asked.elapsed(), chunk.as_ref().map_or(0, Bytes::len) as u64);
        Ok(chunk)
    }

    /// Writes `bytes` and returns them: the next ones reuse their memory, and no memory of this
    /// thread is freed by another one, which the allocator reuses late.
    async fn write<B: AsRef<[u8]> + Send + 'static>(
        &self,
        file: Option<File>,
        bytes: B,
        share: &mut SpoolShare,
    ) -> Result<(File, B), SpoolError> {
        share.grow(bytes.as_ref().len() as u64)?;
        let mut tries = Tries::default();
        while file.is_none() && share.file.is_none() {
            share.file = share.memory.account().try_reserve(Resource::SpoolFiles, 1);
            if share.file.is_none() && !tries.pause().await {
                return Err(SpoolError::NoDescriptors);
            }
        }
        let refused = |error| SpoolError::Spool {
            directory: self.directory.display().to_string(),
            error,
        };
        let (mut made, mut bytes) = (file, bytes);
        loop {
            let directory = self.directory.clone();
            let write = move || {
                let file = match made {
                    Some(file) => Ok(file),
                    None => temporary::unlinked_file(&directory).and_then(for_client),
                };
                let written = file.map(|mut file| file.write_all(bytes.as_ref()).map(|()| file));
                (written, bytes)
            };
            match self.files.run(write).await {
                (Ok(written), bytes) => return Ok((written.map_err(refused)?, bytes)),
                (Err(error), back) if tries.again(&error).await => (made, bytes) = (None, back),
                (Err(error), _) => return Err(refused(error)),
            }
        }
    }
}

/// Appends `chunk`. A vector by itself doubles its capacity: 128 KiB, where 64 are the most that is
/// collected.
fn collect(memory: &mut Vec<u8>, chunk: &[u8], limit: usize) {
    let length = memory.len() + chunk.len();
    memory.reserve_exact(room_for(memory, length, limit) - memory.len());
    memory.extend_from_slice(chunk);
}

/// The capacity of `memory` once it has `length` bytes.
fn room_for(memory: &Vec<u8>, length: usize, limit: usize) -> usize {
    match memory.capacity() {
        enough if enough >= length => enough,
        _ => length.next_power_of_two().min(limit.max(length)),
    }
}

type Polled = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Returns the part of the body that has arrived.
async fn now(body: &mut Received) -> Poll<Polled> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await
}

/// Returns the data of a frame; `None` at the end. Trailers are read and dropped (RFC 9110 §6.5.1
/// forbids merging them into the head): they count as an empty piece.
fn data(received: Polled) -> Result<Option<Bytes>, SpoolError> {
    match received {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(error)) => Err(match TooLong::found_in(&error) {
            Some(TooLong(limit)) => SpoolError::BodyTooLarge { limit },
            None => SpoolError::BodyBroken(error.to_string()),
        }),
    }
}

/// The limit of disk space for all request bodies together.
#[derive(Debug)]
pub struct SpoolSpace {
    most: u64,
    used: Arc<AtomicU64>,
    /// Bodies that are being read.
    reading: AtomicUsize,
}

impl SpoolSpace {
    /// A limit of `most` bytes, of which `used` are in use, including those of before a reload.
    pub fn new(most: u64, used: Arc<AtomicU64>) -> Self {
        let reading = AtomicUsize::new(0);
        Self {
            most,
            used,
            reading,
        }
    }

    /// Number of bytes that each body collects before a write.
    fn write(&self) -> usize {
        let reading = self.reading.load(Ordering::Relaxed).max(1);
        (TOGETHER / reading).clamp(LEAST_WRITE, WRITE)
    }

    /// Number of bytes in use.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// One body that is being read.
struct Reading<'a>(&'a SpoolSpace);

impl<'a> Reading<'a> {
    fn of(room: &'a SpoolSpace) -> Self {
        room.reading.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One body's share of disk, memory and descriptors; returned on drop.
#[derive(Debug)]
pub struct SpoolShare {
    room: Arc<SpoolSpace>,
    bytes: u64,
    /// Bytes collected in memory, unless they are few.
    memory: Reservation,
    /// The part of `memory` for buffers, while the body arrives.
    reading: usize,
    /// The descriptor of its file.
    file: Option<Reservation>,
}

impl SpoolShare {
    fn none_of(room: &Arc<SpoolSpace>, account: &Arc<Account>) -> Self {
        Self {
            room: Arc::clone(room),
            bytes: 0,
            memory: Reservation::none(Arc::clone(account), Resource::Memory),
            reading: 0,
            file: None,
        }
    }

    /// True if so many bytes may be kept in memory.
    fn may_keep(&mut self, bytes: usize) -> bool {
        bytes <= SMALL || self.memory.grow(self.reading + bytes)
    }

    /// The body arrives in several pieces: from now on the connection keeps buffers for them.
    fn waits(&mut self) -> Result<(), SpoolError> {
        if self.reading == 0 {
            if !self.memory.grow(self.memory.amount() + READING) {
                return Err(SpoolError::NoMemory);
            }
            self.reading = READING;
        }
        Ok(())
    }

    /// The body is complete, with so many bytes in memory.
    fn has_ended(&mut self, bytes: usize) {
        self.reading = 0;
        self.memory.shrink(bytes);
    }

    fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let SpoolSpace { most, used, .. } = &*self.room;
        // A single body of an address may use all that is free: the limit of one body is
        // `max_body`.
        let account = self.memory.account();
        if !account.try_spool(Spooled::Requests, bytes, Some(self.bytes), (used, *most)) {
            return Err(SpoolError::SpoolFull { limit: *most });
        }
        self.bytes += bytes;
        METRICS.spooled_requests.add(bytes);
        Ok(())
    }
}

impl Drop for SpoolShare {
    fn drop(&mut self) {
        let account = self.memory.account();
        account.unspool(Spooled::Requests, self.bytes, &self.room.used);
        METRICS.spooled_requests.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none_of(room: &Arc<SpoolSpace>) -> SpoolShare {
        SpoolShare::none_of(room, &Arc::new(Account::of_address()))
    }

    #[test]
    fn room_is_never_more_than_there_is_and_comes_back() {
        let used = Arc::default();
        let room = Arc::new(SpoolSpace::new(100, Arc::clone(&used)));
        let (mut one, mut two) = (none_of(&room), none_of(&room));
        assert!(one.grow(60).is_ok() && two.grow(40).is_ok());
        assert!(two.grow(1).is_err());
        assert_eq!(room.used(), 100);
        drop(one);
        assert!(two.grow(60).is_ok());
        let less = Arc::new(SpoolSpace::new(70, used));
        let mut three = none_of(&less);
        assert!(three.grow(1).is_err(), "100 were taken before the reload");
        drop(two);
        assert!(three.grow(70).is_ok());
        drop(three);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn many_uploads_collect_less_each_and_few_as_much_as_one() {
        let room = SpoolSpace::new(0, Arc::default());
        let mut bodies = Vec::new();
        let mut write_with = |uploads: usize| {
            bodies.resize_with(uploads, || Reading::of(&room));
            room.write()
        };
        assert_eq!(write_with(1), WRITE);
        assert_eq!(write_with(256), WRITE);
        assert_eq!(write_with(512), WRITE / 2);
        assert_eq!(write_with(100_000), LEAST_WRITE);
        assert_eq!(write_with(0), WRITE);
    }

    #[test]
    fn what_is_collected_takes_no_more_room_than_its_limit() {
        let mut memory = Vec::new();
        for _ in 0..3 {
            collect(&mut memory, &[1; 20_000], IN_MEMORY);
        }
        assert_eq!((memory.len(), memory.capacity()), (60_000, IN_MEMORY));
        collect(&mut memory, &[2; 10_000], IN_MEMORY);
        assert_eq!(memory.capacity(), 70_000);
        assert_eq!((memory[59_999], memory[60_000]), (1, 2));
    }
}
