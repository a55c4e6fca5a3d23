//! Step 5: the bytes of a file, exactly as many as were promised.
//!
//! A small file is read whole while its thread is there anyway. A large one is read block
//! by block as the client takes it, so memory does not depend on its size. A file that
//! shrinks meanwhile breaks the transfer: the client must never take a part for the whole.

use std::fmt;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::front::file_pool::FilePool;

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// No bytes.
    Empty,
    /// All bytes, already read.
    Bytes(Bytes),
    /// Bytes that are read while they are sent.
    File(FileBody),
}

/// A body that reads its file through the [`FilePool`], a block at a time.
pub struct FileBody {
    file: Arc<File>,
    offset: u64,
    remaining: u64,
    pool: FilePool,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>>,
}

/// A body as the blocking thread leaves it.
#[derive(Debug)]
pub(super) enum Payload {
    Empty,
    Bytes(Bytes),
    File { file: File, length: u64 },
}

impl Payload {
    /// Reads a small file whole, keeps a large one for later.
    pub(super) fn read(file: File, length: u64) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self::Empty);
        }
        match usize::try_from(length) {
            Ok(length) if length <= SMALL => Ok(Self::Bytes(read_block(&file, 0, length)?)),
            _ => Ok(Self::File { file, length }),
        }
    }

    pub(super) fn into_content(self, pool: &FilePool) -> Content {
        match self {
            Self::Empty => Content::Empty,
            Self::Bytes(bytes) => Content::Bytes(bytes),
            Self::File { file, length } => Content::File(FileBody::new(file, length, pool.clone())),
        }
    }
}

impl FileBody {
    /// The first `length` bytes of `file`.
    pub fn new(file: File, length: u64, pool: FilePool) -> Self {
        Self {
            file: Arc::new(file),
            offset: 0,
            remaining: length,
            pool,
            reading: None,
        }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.remaining).map_or(BLOCK, |left| left.min(BLOCK));
        let mut reading = self.reading.take().unwrap_or_else(|| {
            let (file, offset, pool) = (Arc::clone(&self.file), self.offset, self.pool.clone());
            Box::pin(async move { pool.run(move || read_block(&file, offset, length)).await })
        });
        let Poll::Ready(block) = reading.as_mut().poll(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        match block {
            Ok(block) => {
                let length = block.len() as u64;
                self.offset += length;
                self.remaining -= length;
                Poll::Ready(Some(Ok(Frame::data(block))))
            }
            Err(error) => {
                // After an error there is nothing more to come, although bytes are owed.
                self.remaining = 0;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody")
            .field("file", &self.file)
            .field("offset", &self.offset)
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}

/// Reads exactly `length` bytes, into memory that nobody has to zero before.
fn read_block(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut block = Vec::with_capacity(length);
    while block.len() < length {
        let at = offset + block.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut block), at) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was sent",
                ));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    block.truncate(length);
    Ok(Bytes::from(block))
}

/// Up to here reading at once is cheaper than another visit to a blocking thread.
const SMALL: usize = 64 * 1024;

/// As much as the kernel reads ahead by default; a visit to a thread costs some 10 µs, which
/// a block of this size makes up for.
const BLOCK: usize = 128 * 1024;
