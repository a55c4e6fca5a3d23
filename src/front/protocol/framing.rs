//! Follows a client's HTTP/1 requests below hyper: the ends of each head and each body.
//!
//! hyper does not reveal how many of the bytes that it was given belong to which request. So it is
//! given one request at a time, and not a byte of the next one before the response to the first is
//! written:
//!
//! ```text
//! Between --a head--> Body --its last byte--> Whole --the response is written--> Between
//!    |`------a head without a body--------------^ |
//!    `--the preface of HTTP/2--> Raw <--101-------'
//! ```
//!
//! Pure: bytes in, decisions out; [`crate::front::connection::stream`] reads the socket. [`head`]
//! parses heads with hyper's parser, and refuses what hyper would refuse without an error page or a
//! log line; [`chunks`] finds the end of a chunked body by rules that are stricter than hyper's.
//! Where both could disagree about the end of a request, the connection is closed after that
//! request (RFC 9112 §11.2).

pub mod chunks;
pub mod head;
mod host_field;
pub mod refused;
pub mod target;

use crate::front::body::too_long::TooLong;
use std::time::Instant;

use self::chunks::{Chunks, Step};

/// The first bytes of a connection of HTTP/2 (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The part of the client's bytes that hyper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingPhase {
    /// Nothing; the next byte begins a head.
    Between,
    /// A request whose body is incomplete.
    Body(BodyRemainder),
    /// A whole request, complete since then, whose response is not written yet.
    Whole(Instant),
    /// All bytes, unchanged: HTTP/2, or what follows a `101`.
    Raw,
    /// A body whose framing is broken. Nothing more is read.
    Broken,
}

/// The missing part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRemainder {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
}

impl BodyRemainder {
    /// True if a body of this framing cannot begin with `bytes`. Bytes after its end are ignored.
    pub fn is_malformed(mut self, bytes: &[u8]) -> bool {
        match &mut self {
            Self::Length(_) => false,
            Self::Chunks(chunks) => chunks.follow(bytes).1 == Step::Malformed,
        }
    }
}

/// The framing of one connection.
#[derive(Debug)]
pub struct Framing {
    phase: FramingPhase,
    /// No request has arrived yet, so the first bytes may be those of HTTP/2.
    is_first: bool,
    /// Nothing is read after the current request.
    is_last: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            phase: FramingPhase::Between,
            is_first: true,
            is_last: false,
        }
    }
}

impl Framing {
    /// The current phase.
    pub fn phase(&self) -> FramingPhase {
        self.phase
    }

    /// True while hyper holds nothing.
    pub fn is_between(&self) -> bool {
        self.phase == FramingPhase::Between
    }

    /// True until the first request.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// True if nothing is read after the current request.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Records that a request was answered without hyper.
    pub fn answered(&mut self) {
        self.is_first = false;
    }

    /// Records that hyper gets a head followed by such a body.
    pub fn begin(&mut self, body: BodyRemainder, is_last: bool) {
        (self.is_first, self.is_last) = (false, is_last);
        self.phase = match body {
            BodyRemainder::Length(0) => FramingPhase::Whole(Instant::now()),
            body => FramingPhase::Body(body),
        };
    }

    /// From now on all bytes are passed on unchanged.
    pub fn pass_all(&mut self) {
        self.phase = FramingPhase::Raw;
    }

    /// Records that the response to the whole request is written.
    pub fn settle(&mut self) {
        self.phase = FramingPhase::Between;
    }

    /// Upper bound of the missing bytes of the body.
    pub fn missing(&self) -> u64 {
        match self.phase {
            FramingPhase::Body(BodyRemainder::Length(left)) => left,
            _ => u64::MAX,
        }
    }

    /// Total size of the chunks of an unfinished body, as far as received.
    pub fn announced(&self) -> u64 {
        match self.phase {
            FramingPhase::Body(BodyRemainder::Chunks(chunks)) => chunks.announced(),
            _ => 0,
        }
    }

    /// Number of `bytes` that belong to the body: all except those after its end. If the framing of
    /// the body is broken, they end with the byte that breaks it, for hyper to refuse. The body may
    /// have `limit` bytes.
    ///
    /// # Errors
    /// [`TooLong`] as soon as the size of a chunk exceeds the limit.
    pub fn take(&mut self, bytes: &[u8], limit: u64) -> Result<usize, TooLong> {
        match &mut self.phase {
            FramingPhase::Body(BodyRemainder::Length(left)) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.phase = FramingPhase::Whole(Instant::now());
                }
                Ok(taken)
            }
            FramingPhase::Body(BodyRemainder::Chunks(chunks)) => {
                let (taken, step) = chunks.follow(bytes);
                let is_too_long = chunks.announced() > limit;
                match step {
                    Step::More => {}
                    Step::End => self.phase = FramingPhase::Whole(Instant::now()),
                    Step::Malformed => self.phase = FramingPhase::Broken,
                }
                if is_too_long {
                    self.phase = FramingPhase::Broken;
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
