//! The sendfile queue: the pieces of files that a connection still has to send.
//!
//! hyper writes bytes, and the kernel could send a file without them. So a body that comes from a
//! file gives hyper stand-ins: slices of one region of zeros that is never read, as long as the
//! pieces of the file that it adds to this queue at the same time. hyper passes them on unread, and
//! the socket's wrapper (`stream`) recognises them by their address and has the kernel send the
//! pieces, in the order of the queue.
//!
//! ```text
//! FileBody --- note(piece) ---> SendfileQueue --- next() ---.
//!    `-- stand-in --> hyper --> write_vectored --> Stream --> sendfile
//! ```
//!
//! Whatever hyper or a layer above it does with a stand-in, its zeros never reach a client: in each
//! write the stand-ins must be exactly as long as the queued pieces ([`SendfileQueue::plan`]), and
//! any other write closes the connection.
//!
//! hyper considers a response sent when it has the last stand-in. So the access log asks this queue
//! for the bytes that the socket has not taken ([`SendfileQueue::when_sent`]).

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::file_source::Source;

/// Longest piece of a file in bytes. hyper's cost for each is negligible beside the kernel's for a
/// MiB (100 µs), and the access log is at most this wrong about a client that disconnects.
pub const PIECE: usize = 1 << 20;

/// A piece of a file to be sent.
#[derive(Debug)]
pub struct Piece {
    /// The file.
    pub source: Arc<Source>,
    /// Its first byte in the file.
    pub offset: u64,
    /// Its length in bytes, at most [`PIECE`].
    pub length: usize,
}

/// The pieces that one connection has to send, in order.
#[derive(Debug, Default)]
pub struct SendfileQueue {
    /// Bytes queued and not sent yet.
    owed: AtomicUsize,
    pieces: Mutex<VecDeque<Piece>>,
    /// A file could not be sent completely.
    has_failed: AtomicBool,
    /// `last` has a callback.
    is_awaited: AtomicBool,
    last: Mutex<Last>,
}

/// The callback for the end of the current response, sent or cut off.
#[derive(Default)]
struct Last {
    /// The connection has ended: nothing more is sent.
    is_over: bool,
    then: Option<Then>,
}

type Then = Box<dyn FnOnce(Unsent) + Send>;

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Last")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// The rest of a response's files when nothing more of them is sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// Bytes that hyper counts as sent, and that the socket has not taken.
    pub bytes: usize,
    /// True if the file failed, rather than the client.
    pub by_the_file: bool,
}

/// The beginning of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Bytes only.
    Bytes,
    /// Bytes in so many slices, followed by a file.
    Head(usize),
    /// A file.
    File,
}

impl SendfileQueue {
    /// Adds a piece to the queue, and returns its stand-in for hyper.
    pub fn note(&self, piece: Piece) -> Bytes {
        debug_assert!(piece.length <= PIECE);
        let stand_in = Bytes::from_static(&STAND_IN[..piece.length]);
        self.owed.fetch_add(piece.length, Ordering::Relaxed);
        let mut pieces = self.pieces.lock();
        pieces.push_back(piece);
        stand_in
    }

    /// The oldest piece.
    pub fn next(&self) -> Option<Piece> {
        let mut pieces = self.pieces.lock();
        pieces.pop_front()
    }

    /// Records that so many bytes of pieces were sent.
    pub fn sent(&self, bytes: usize) {
        let before = self.owed.fetch_sub(bytes, Ordering::Relaxed);
        if before == bytes && self.is_awaited.load(Ordering::Relaxed) {
            self.finish(false);
        }
    }

    /// Records that a file could not be sent completely; the connection is closed.
    pub fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Records that the connection has ended: the rest will not be sent.
    pub fn end(&self) {
        self.finish(true);
    }

    /// The bytes queued now.
    pub fn unsent(&self) -> Unsent {
        Unsent {
            bytes: self.owed.load(Ordering::Relaxed),
            by_the_file: self.has_failed.load(Ordering::Relaxed),
        }
    }

    /// Runs `then` when everything in the queue has been sent, or never will be.
    pub fn when_sent(&self, then: impl FnOnce(Unsent) + Send + 'static) {
        let mut last = self.last.lock();
        if last.is_over || self.unsent().bytes == 0 {
            drop(last);
            return then(self.unsent());
        }
        last.then = Some(Box::new(then));
        self.is_awaited.store(true, Ordering::Relaxed);
    }

    fn finish(&self, is_over: bool) {
        let mut last = self.last.lock();
        last.is_over |= is_over;
        self.is_awaited.store(false, Ordering::Relaxed);
        let then = last.then.take();
        drop(last);
        if let Some(then) = then {
            then(self.unsent());
        }
    }

    /// Tells apart stand-ins and bytes in a write.
    ///
    /// # Errors
    /// The stand-ins do not match the queue: one was copied, cut or dropped, and this write, or a
    /// later one, would hold zeros in place of the file.
    pub fn plan(&self, parts: &[IoSlice<'_>]) -> io::Result<Plan> {
        let mut head = None;
        let mut standing_in = 0;
        for (at, part) in parts.iter().enumerate() {
            if is_stand_in(part) {
                head.get_or_insert(at);
                standing_in += part.len();
            }
        }
        if standing_in != self.owed.load(Ordering::Relaxed) {
            return Err(io::Error::other(
                "the stand-ins do not match the sendfile queue",
            ));
        }
        Ok(match head {
            None => Plan::Bytes,
            Some(0) => Plan::File,
            Some(count) => Plan::Head(count),
        })
    }
}

/// By its address: nothing else is inside the region.
fn is_stand_in(part: &[u8]) -> bool {
    !part.is_empty() && STAND_IN.as_ptr_range().contains(&part.as_ptr())
}

/// Zeros that are never read, and so use address space but no memory.
static STAND_IN: LazyLock<&'static [u8]> = LazyLock::new(|| vec![0; PIECE].leak());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::sendfile::file_pool::FilePool;

    fn piece(length: usize) -> Piece {
        let file = tempfile::tempfile().unwrap();
        let source = Source::new(file, length as u64, FilePool::new(1));
        Piece {
            source: Arc::new(source),
            offset: 0,
            length,
        }
    }

    #[track_caller]
    fn check(sendfile_queue: &SendfileQueue, parts: &[&[u8]], expected: Option<Plan>) {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        assert_eq!(sendfile_queue.plan(&parts).ok(), expected);
    }

    #[test]
    fn stand_ins_are_distinguished_from_bytes() {
        let sendfile_queue = SendfileQueue::default();
        check(&sendfile_queue, &[b"head", b""], Some(Plan::Bytes));
        let first = sendfile_queue.note(piece(1000));
        check(&sendfile_queue, &[b"head", &first], Some(Plan::Head(1)));
        check(
            &sendfile_queue,
            &[b"head", b"more", &first],
            Some(Plan::Head(2)),
        );
        check(&sendfile_queue, &[&first], Some(Plan::File));
        sendfile_queue.sent(400);
        check(&sendfile_queue, &[&first[400..]], Some(Plan::File));
        let second = sendfile_queue.note(piece(PIECE));
        check(&sendfile_queue, &[&first[400..], &second], Some(Plan::File));
        sendfile_queue.sent(600);
        sendfile_queue.sent(PIECE);
        check(&sendfile_queue, &[b"next head"], Some(Plan::Bytes));
    }

    #[test]
    fn a_stand_in_that_was_copied_cut_dropped_or_repeated_stops_the_write() {
        let sendfile_queue = SendfileQueue::default();
        let stand_in = sendfile_queue.note(piece(1000));
        let copied = stand_in.to_vec();
        check(&sendfile_queue, &[b"head", &copied], None);
        check(&sendfile_queue, &[b"head", &stand_in[..999]], None);
        check(&sendfile_queue, &[&stand_in[1..]], None);
        check(&sendfile_queue, &[b"head"], None);
        check(&sendfile_queue, &[&stand_in, &stand_in], None);
        sendfile_queue.sent(1000);
        check(&sendfile_queue, &[&stand_in], None);
    }

    #[test]
    fn pieces_come_in_the_order_in_which_they_were_noted() {
        let sendfile_queue = SendfileQueue::default();
        for length in [1, 2, 3] {
            sendfile_queue.note(piece(length));
        }
        let lengths: Vec<_> = std::iter::from_fn(|| sendfile_queue.next())
            .map(|piece| piece.length)
            .collect();
        assert_eq!(lengths, [1, 2, 3]);
    }
}
