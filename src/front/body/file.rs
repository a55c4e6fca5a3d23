//! Step 7: the bytes of a file, exactly as many as declared.
//!
//! A small file is read whole by the job that opened it. A large one is sent by the kernel where
//! the connection allows it ([`FileBody::send_by`]), else read block by block as the client reads
//! it; so memory does not depend on its size. A file that shrinks meanwhile truncates the transfer:
//! the client must never take a part for the whole.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::front::client_limits::memory_budget::Account;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::sendfile::file_source::{BLOCK, SharedFile, Source};
use crate::front::sendfile::queue::{PIECE, Piece, SendfileQueue};

/// A part of a file, or the whole.
pub struct FileBody {
    source: Arc<Source>,
    offset: u64,
    remaining: u64,
    way: Way,
    /// Most bytes per block.
    part: usize,
}

enum Way {
    /// Read through the [`FilePool`], a block at a time; the block being read.
    Read(Option<Reading>),
    /// Added to the queue of the socket, which sends it.
    Send(Arc<SendfileQueue>),
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

impl FileBody {
    /// `length` bytes of `file` from `offset` on.
    pub fn new(file: impl Into<SharedFile>, offset: u64, length: u64, pool: FilePool) -> Self {
        Self {
            source: Arc::new(Source::new(file, offset + length, pool)),
            offset,
            remaining: length,
            way: Way::Read(None),
            part: BLOCK,
        }
    }

    /// Counts the descriptor before the body is sent; see [`SharedFile::count_for`].
    pub fn count_for(&mut self, client: &Arc<Account>) -> bool {
        Arc::get_mut(&mut self.source).is_none_or(|source| source.shared.count_for(client))
    }

    /// Sets the number of bytes read at a time, for a file that the kernel does not send.
    pub fn read_in_parts_of(&mut self, most: usize) {
        self.part = most.min(BLOCK);
    }

    /// Has the connection send the file: from now on the frames hold stand-ins for its bytes, which
    /// only HTTP/1 on that connection may see.
    pub fn send_by(&mut self, sendfile_queue: &Arc<SendfileQueue>) {
        self.way = Way::Send(Arc::clone(sendfile_queue));
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
        let this = &mut *self;
        let block = match &mut this.way {
            Way::Send(sendfile_queue) => {
                let length = usize::try_from(this.remaining).map_or(PIECE, |all| all.min(PIECE));
                Ok(sendfile_queue.note(Piece {
                    source: Arc::clone(&this.source),
                    offset: this.offset,
                    length,
                }))
            }
            Way::Read(reading) => {
                let job = reading.get_or_insert_with(|| {
                    let (source, offset) = (Arc::clone(&this.source), this.offset);
                    let length =
                        usize::try_from(this.remaining).map_or(this.part, |all| all.min(this.part));
                    Box::pin(source.read(offset, length))
                });
                let block = ready!(job.as_mut().poll(context));
                *reading = None;
                block
            }
        };
        match block {
            Ok(block) => {
                let length = block.len() as u64;
                self.offset += length;
                self.remaining -= length;
                Poll::Ready(Some(Ok(Frame::data(block))))
            }
            Err(error) => {
                self.source.report(&error);
                // No frames follow an error, although bytes are missing.
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
            .field("file", &self.source.shared.file)
            .field("offset", &self.offset)
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}
