//! The reply frames of one request, in the ring of its thread.
//!
//! Frames collect in a buffer of the thread; one write carries all of them. Large pieces of a body
//! are not copied into that buffer but written behind it.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use pyserve_wire::frames::{
    BODY_PIECE, FilePiece, MAX_PAYLOAD, ReplyKind, padding, push_file, push_reply,
    push_reply_header,
};
use pyserve_wire::scoreboard::Scoreboard;
use rustix::time::{ClockId, clock_gettime};

use crate::ffi;
use crate::outbox::Outbox;

/// Up to this size, a body is written together with its head and its end, so that the front finds
/// all of them at once.
pub const COPIED: usize = 64 * 1024;
/// A larger buffer is freed after the request.
const KEPT: usize = 512 * 1024;

/// Sends the frames of one request after another.
pub struct ReplyWriter {
    outbox: Arc<Outbox>,
    scoreboard: Scoreboard<'static>,
    pending: Vec<u8>,
    seq: u64,
    entry: usize,
    claimed_ns: u64,
}

impl ReplyWriter {
    /// Creates the writer of the thread that owns `outbox`.
    pub fn new(outbox: Arc<Outbox>, scoreboard: Scoreboard<'static>) -> Self {
        Self {
            outbox,
            scoreboard,
            pending: Vec::with_capacity(4096),
            seq: 0,
            entry: 0,
            claimed_ns: 0,
        }
    }

    /// The next frames belong to this request.
    pub fn begin(&mut self, seq: u64, entry: usize, claimed_ns: u64) {
        self.seq = seq;
        self.entry = entry;
        self.claimed_ns = claimed_ns;
    }

    /// Number of the request that is being answered.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// True if the front no longer waits for this response.
    pub fn is_cancelled(&self) -> bool {
        self.scoreboard.is_cancelled(self.entry, self.seq)
    }

    /// Appends a frame; it is sent with the next flush. The payload is truncated to the limit of a
    /// frame.
    pub fn push(&mut self, kind: ReplyKind, payload: &[u8]) {
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let elapsed = self.elapsed_us();
        push_reply(&mut self.pending, kind, self.seq, elapsed, payload);
    }

    /// Appends a piece of the body that is short enough to be copied.
    pub fn push_body(&mut self, piece: &[u8]) {
        for part in piece.chunks(BODY_PIECE) {
            self.push(ReplyKind::Body, part);
        }
    }

    /// Sends the pending frames, then `piece`, then the end frame if this was all. Blocks.
    ///
    /// # Errors
    /// The error of the outbox: the front has exited.
    pub fn send_body(&mut self, piece: &[u8], is_last: bool) -> io::Result<()> {
        crate::fork::refuse_copy()?;
        if piece.len() <= COPIED {
            self.push_body(piece);
        } else {
            for part in piece.chunks(BODY_PIECE) {
                let elapsed = self.elapsed_us();
                push_reply_header(
                    &mut self.pending,
                    ReplyKind::Body,
                    self.seq,
                    elapsed,
                    part.len(),
                );
                self.outbox.write(&self.pending)?;
                self.pending.clear();
                let (words, rest) = part.split_at(part.len() / 8 * 8);
                self.outbox.write(words)?;
                // Before the next frame.
                self.pending.extend_from_slice(rest);
                self.pending.extend_from_slice(padding(part.len()));
            }
        }
        if is_last {
            self.push(ReplyKind::End, &[]);
        }
        self.flush()
    }

    /// Sends the descriptor `fd`, and the pending frames, which is the head, with a piece of that
    /// file and the end: all in one write, so that the front reads them together. Blocks.
    ///
    /// # Errors
    /// The error of the outbox: the front has exited.
    pub fn send_file(&mut self, fd: RawFd, piece: FilePiece) -> io::Result<()> {
        crate::fork::refuse_copy()?;
        let sent = ffi::look_at(fd, |file| self.outbox.send_descriptor(file));
        sent.unwrap_or_else(|| Err(io::ErrorKind::InvalidInput.into()))?;
        let mut payload = Vec::with_capacity(16);
        push_file(&mut payload, piece);
        self.push(ReplyKind::File, &payload);
        self.push(ReplyKind::End, &[]);
        self.flush()
    }

    /// Sends the pending frames. Blocks.
    ///
    /// # Errors
    /// The error of the outbox: the front has exited.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        crate::fork::refuse_copy()?;
        let result = self.outbox.write(&self.pending);
        self.pending.clear();
        self.pending.shrink_to(KEPT);
        result
    }

    fn elapsed_us(&self) -> u32 {
        let elapsed = now_ns().saturating_sub(self.claimed_ns) / 1000;
        u32::try_from(elapsed).unwrap_or(u32::MAX)
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of the scoreboard.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
