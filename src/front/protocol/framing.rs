//! Follows a client's HTTP/1 requests below hyper: where each head and each body ends.
//!
//! hyper keeps to itself how much of what it was given belongs to which request. So it is given
//! one request at a time, and not a byte of the next one before the response to the first is
//! written:
//!
//! ```text
//! Between --a head--> Body --its last byte--> Whole --the response is written--> Between
//!    |`------a head without a body--------------^ |
//!    `--the preface of HTTP/2--> Raw <--101-------'
//! ```
//!
//! Pure: bytes in, decisions out; the socket is read by [`crate::front::connection::stream`]. [`head`] reads heads
//! with the parser that hyper has, and refuses what hyper would refuse without a page or a line
//! in the log; [`chunks`] finds the end of a chunked body by hyper's own rules. Where both could
//! disagree about the end of a request, the connection ends behind that request
//! (RFC 9112 §11.2).

pub mod chunks;
pub mod head;
pub mod refused;
pub mod target;

use crate::front::body::too_long::TooLong;
use std::time::Instant;

use self::chunks::{Chunks, Step};

/// The first bytes of a connection of HTTP/2 (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The part of the client's bytes that hyper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; the next byte begins a head.
    Between,
    /// A request of which a part of the body is missing.
    Body(Rest),
    /// A whole request, complete since then, whose response is not written yet.
    Whole(Instant),
    /// Everything, as it came: HTTP/2, or what follows a `101`.
    Raw,
    /// A body whose framing is broken. Nothing more is read.
    Broken,
}

/// The missing part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
}

/// The framing of one connection.
#[derive(Debug)]
pub struct Framing {
    phase: Phase,
    /// No request has come yet, so the first bytes may be those of HTTP/2.
    is_first: bool,
    /// Nothing is read behind the present request.
    is_last: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            phase: Phase::Between,
            is_first: true,
            is_last: false,
        }
    }
}

impl Framing {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// True while hyper holds nothing.
    pub fn is_between(&self) -> bool {
        self.phase == Phase::Between
    }

    /// True until the first request.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// True if nothing is read behind the present request.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// A request was answered without hyper.
    pub fn answered(&mut self) {
        self.is_first = false;
    }

    /// hyper is given a head with such a body behind it.
    pub fn begin(&mut self, body: Rest, is_last: bool) {
        (self.is_first, self.is_last) = (false, is_last);
        self.phase = match body {
            Rest::Length(0) => Phase::Whole(Instant::now()),
            body => Phase::Body(body),
        };
    }

    /// From now on all bytes pass as they are.
    pub fn pass_all(&mut self) {
        self.phase = Phase::Raw;
    }

    /// The response to the whole request is written.
    pub fn settle(&mut self) {
        self.phase = Phase::Between;
    }

    /// The most bytes of the body that can be missing.
    pub fn missing(&self) -> u64 {
        match self.phase {
            Phase::Body(Rest::Length(left)) => left,
            _ => u64::MAX,
        }
    }

    /// The sizes of the chunks of an unfinished body, as far as they have come.
    pub fn announced(&self) -> u64 {
        match self.phase {
            Phase::Body(Rest::Chunks(chunks)) => chunks.announced(),
            _ => 0,
        }
    }

    /// The number of `bytes` that belong to the body; all but those behind its end do. With a body
    /// whose framing is broken, they go up to the byte that breaks it, for hyper to refuse.
    /// The body may have `limit` bytes.
    ///
    /// # Errors
    /// [`TooLong`] as soon as the size of a chunk says so.
    pub fn take(&mut self, bytes: &[u8], limit: u64) -> Result<usize, TooLong> {
        match &mut self.phase {
            Phase::Body(Rest::Length(left)) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.phase = Phase::Whole(Instant::now());
                }
                Ok(taken)
            }
            Phase::Body(Rest::Chunks(chunks)) => {
                let (taken, step) = chunks.follow(bytes);
                let is_too_long = chunks.announced() > limit;
                match step {
                    Step::More => {}
                    Step::End => self.phase = Phase::Whole(Instant::now()),
                    Step::Malformed => self.phase = Phase::Broken,
                }
                if is_too_long {
                    self.phase = Phase::Broken;
                    return Err(TooLong(limit));
                }
                Ok(taken)
            }
            _ => Ok(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests;
