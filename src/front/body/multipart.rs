//! Step 7 for several ranges: a body of parts, each with its own head (RFC 9110 §14.6).
//!
//! Its length is known before the first byte, and only the block being sent is in memory.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Frame, SizeHint};

use super::file::FileBody;
use crate::front::client_limits::memory_budget::Account;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::sendfile::file_source::SharedFile;
use crate::front::sendfile::queue::SendfileQueue;

/// The source of the bytes of the parts.
#[derive(Debug)]
pub(crate) enum Bodies {
    /// Bytes in memory.
    Bytes(Bytes),
    /// The file, and the offset of the representation in it.
    File(SharedFile, u64, FilePool),
}

/// The body of a response with several ranges.
#[derive(Debug)]
pub struct Multipart {
    /// Heads and ranges, alternating.
    pieces: VecDeque<Piece>,
    bodies: Bodies,
    /// The part of the file that is being sent.
    sending: Option<Box<FileBody>>,
    /// The sendfile queue of the connection that sends the parts.
    sendfile_queue: Option<Arc<SendfileQueue>>,
    remaining: u64,
}

#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Part(Range<u64>),
}

impl Multipart {
    /// The body with these ranges of a whole of `length` bytes, and its boundary.
    pub(crate) fn new(
        content_type: Option<&HeaderValue>,
        length: u64,
        ranges: &[Range<u64>],
        bodies: Bodies,
    ) -> (Self, String) {
        let boundary = boundary();
        let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
        let mut pieces = VecDeque::with_capacity(2 * ranges.len() + 1);
        let mut remaining = 0;
        let mut push = |piece: Piece| {
            remaining += match &piece {
                Piece::Text(text) => text.len() as u64,
                Piece::Part(range) => range.end - range.start,
            };
            pieces.push_back(piece);
        };
        for (number, range) in ranges.iter().enumerate() {
            let line_end = if number == 0 { "" } else { "\r\n" };
            let content_range = content_range(range, length);
            let delimiter = format!("{line_end}--{boundary}\r\nContent-Type: ");
            let head = [
                delimiter.as_bytes(),
                content_type,
                b"\r\nContent-Range: ",
                content_range.as_bytes(),
                b"\r\n\r\n",
            ];
            push(Piece::Text(Bytes::from(head.concat())));
            push(Piece::Part(range.clone()));
        }
        push(Piece::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
        let multipart = Self {
            pieces,
            bodies,
            sending: None,
            sendfile_queue: None,
            remaining,
        };
        (multipart, boundary)
    }

    /// Length of the whole body in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.remaining
    }

    /// Counts the descriptor before the body is sent; see [`SharedFile::count_for`].
    pub fn count_for(&mut self, client: &Arc<Account>) -> bool {
        match &mut self.bodies {
            Bodies::Bytes(_) => true,
            Bodies::File(file, ..) => file.count_for(client),
        }
    }

    /// Has the connection send the parts of a file; see [`FileBody::send_by`].
    pub fn send_by(&mut self, sendfile_queue: &Arc<SendfileQueue>) {
        self.sendfile_queue = Some(Arc::clone(sendfile_queue));
    }

    /// The bytes of a piece; `None` if they come from a file, which is then `sending`.
    fn next_piece(&mut self, piece: Piece) -> Option<Bytes> {
        let range = match piece {
            Piece::Text(text) => return Some(text),
            Piece::Part(range) => range,
        };
        match &self.bodies {
            Bodies::Bytes(bytes) => {
                let (start, end) = (range.start as usize, range.end as usize);
                Some(bytes.slice(start..end))
            }
            Bodies::File(file, offset, pool) => {
                let (file, length) = (file.clone(), range.end - range.start);
                let mut body = FileBody::new(file, offset + range.start, length, pool.clone());
                if let Some(sendfile_queue) = &self.sendfile_queue {
                    body.send_by(sendfile_queue);
                }
                self.sending = Some(Box::new(body));
                None
            }
        }
    }
}

impl http_body::Body for Multipart {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(part) = &mut this.sending {
                match ready!(Pin::new(part.as_mut()).poll_frame(context)) {
                    None => this.sending = None,
                    Some(Ok(frame)) => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        this.remaining -= length as u64;
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(Err(error)) => {
                        this.give_up();
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                continue;
            }
            let Some(piece) = this.pieces.pop_front() else {
                return Poll::Ready(None);
            };
            if let Some(bytes) = this.next_piece(piece) {
                this.remaining -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
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

impl Multipart {
    /// No frames follow an error, although bytes are missing.
    fn give_up(&mut self) {
        self.sending = None;
        self.pieces.clear();
    }
}

/// 128 random bits that no file contains by chance and that the author of a file cannot predict
/// (RFC 2046 §5.1.1).
fn boundary() -> String {
    static KEYS: LazyLock<[RandomState; 2]> =
        LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = [&KEYS[0], &KEYS[1]].map(|key| key.hash_one(count));
    format!("{high:016x}{low:016x}")
}

/// The field `Content-Range` (RFC 9110 §14.4).
pub(crate) fn content_range(range: &Range<u64>, length: u64) -> HeaderValue {
    let (first, last) = (range.start, range.end - 1);
    HeaderValue::try_from(format!("bytes {first}-{last}/{length}")).expect("letters and digits")
}
