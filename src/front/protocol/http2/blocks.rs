//! Header blocks of a client: each is decoded and checked before h2 sees it.
//!
//! A valid block is passed on as it was sent. Others are replaced: a malformed request by a
//! substitute ([`super::refused`]), malformed trailers by some for which h2 resets the stream, a
//! path with bytes that no URI contains by its percent-encoded form, and an authority that `http`
//! cannot hold by a `Host` field (RFC 9113 §8.3.1 allows either). From the first replaced block on, h2's dynamic table lacks entries; so every later block is encoded again, without a
//! reference to that table.

use std::cell::Cell;
use std::ops::Range;

use super::End;
use super::fields::{self, Form, is_held};
use super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, FrameHeader, HEADERS, MOST, PADDED, PRIORITY, code,
};
use super::hpack::{self, Decoder, Fields, write_literal};
use super::open::{Open, StreamState};
use super::refused::{self, write_stand_in};
use crate::front::error::Rejection;
use crate::front::protocol::framing::target;
use crate::front::protocol::limits::MAX_HEAD;
use crate::front::protocol::refused::PendingRefusals;

thread_local! {
    /// The fields of the current block. One per thread, because no connection keeps anything in it.
    static FIELDS: Cell<Fields> = Cell::default();
}

/// Capacity that a thread keeps for the fields of its next block.
const KEPT: usize = 16 << 10;

/// The header blocks of one connection.
#[derive(Debug, Default)]
pub struct Blocks {
    decoder: Decoder,
    last_stream: u32,
    /// h2's table lacks the entries of a block.
    is_rewriting: bool,
    counts: BlockCounts,
}

/// Counts of the header blocks of a connection.
#[derive(Debug, Default, Clone, Copy)]
pub struct BlockCounts {
    /// Their decoded size, as counted for SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
    pub decoded: usize,
    /// Requests refused because they are malformed or too large.
    pub refused: u32,
}

/// A complete block.
pub struct Block<'a> {
    /// The head of its first frame.
    pub head: FrameHeader,
    /// Its bytes, without padding.
    pub bytes: &'a [u8],
    /// h2 would not decode it.
    pub is_skipped: bool,
    /// The state of its stream before it.
    pub state: StreamState,
}

impl Blocks {
    /// The counts since the last call.
    pub fn take_counts(&mut self) -> BlockCounts {
        std::mem::take(&mut self.counts)
    }

    /// The newest stream.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Checks a block, and appends the frames that replace it to `out`; `false`: none does.
    ///
    /// # Errors
    /// An error of the connection.
    pub fn check(
        &mut self,
        block: &Block<'_>,
        open: &mut Open,
        refused: &PendingRefusals,
        out: &mut Vec<u8>,
    ) -> Result<bool, End> {
        let mut fields = FIELDS.take();
        let checked = self.check_with(&mut fields, block, open, refused, out);
        fields.shrink(KEPT);
        FIELDS.set(fields);
        checked
    }

    fn check_with(
        &mut self,
        fields: &mut Fields,
        block: &Block<'_>,
        open: &mut Open,
        waiting: &PendingRefusals,
        out: &mut Vec<u8>,
    ) -> Result<bool, End> {
        fields.clear(MAX_HEAD);
        self.decoder.decode(block.bytes, fields)?;
        self.counts.decoded += fields.size;
        let FrameHeader { stream, flags, .. } = block.head;
        let is_request = stream > self.last_stream;
        self.last_stream = self.last_stream.max(stream);
        let ends = flags & END_STREAM != 0;
        let verdict = match block.state {
            // RFC 9113 §5.1.1.
            StreamState::Skipped => return Err(End::Protocol("a stream is opened too late")),
            // RFC 9113 §5.1.
            StreamState::HalfClosed => Verdict::Reset(code::STREAM_CLOSED),
            _ if is_request => check_request(fields, ends),
            _ => check_trailers(fields),
        };
        self.is_rewriting |= block.is_skipped || !matches!(verdict, Verdict::Passes(Form::Sent));
        if !self.is_rewriting {
            return Ok(false);
        }
        let mut written = Vec::with_capacity(fields.size.min(MAX_HEAD));
        match verdict {
            Verdict::Passes(_) => write(fields, &mut written),
            Verdict::Refused(rejection) => {
                self.counts.refused += 1;
                waiting.add(stream, refused::request(fields, rejection));
                write_stand_in(stream, fields, &mut written);
            }
            // A response may have begun.
            Verdict::Reset(code) => {
                open.resets(stream, code);
                write_malformed(&mut written);
            }
        }
        write_frames(stream, flags & END_STREAM, &written, out);
        Ok(true)
    }

    /// Appends a frame for which h2 resets a stream in any state. The client gets `code`.
    pub fn reset(&mut self, stream: u32, code: u8, open: &mut Open, out: &mut Vec<u8>) {
        open.resets(stream, code);
        self.is_rewriting = true;
        let mut written = Vec::new();
        write_malformed(&mut written);
        write_frames(stream, 0, &written, out);
    }
}

/// h2 treats this as malformed (RFC 9113 §8.2.2).
fn write_malformed(block: &mut Vec<u8>) {
    write_literal(block, b"connection", b"close");
}

#[derive(Debug)]
enum Verdict {
    /// The block is passed on, in this form.
    Passes(Form),
    /// The request is refused with an error page.
    Refused(Rejection),
    /// The stream is reset with this code.
    Reset(u8),
}

fn check_request(fields: &Fields, ends: bool) -> Verdict {
    if fields.is_too_large() {
        return Verdict::Refused(refused::too_large(fields));
    }
    match fields::check_request(fields, ends) {
        // An encoded byte takes three.
        Ok(Form::Rewritten(count)) if fields.size + 2 * count >= MAX_HEAD => {
            Verdict::Refused(refused::too_large(fields))
        }
        Ok(form) => Verdict::Passes(form),
        Err(broken) => Verdict::Refused(Rejection::BadRequest(broken)),
    }
}

fn check_trailers(fields: &Fields) -> Verdict {
    match fields.is_too_large() || fields::check_trailers(fields).is_err() {
        true => Verdict::Reset(code::PROTOCOL_ERROR),
        false => Verdict::Passes(Form::Sent),
    }
}

/// Appends all fields, without a reference to a table.
fn write(fields: &Fields, block: &mut Vec<u8>) {
    let (mut host, mut has_host) = (None, false);
    for (name, value) in fields.iter() {
        match name {
            b":path" => write_literal(block, name, &target::normal(value)),
            b":authority" if !is_held(value) => host = Some(value),
            _ => {
                has_host |= name == b"host";
                write_literal(block, name, value);
            }
        }
    }
    if let Some(host) = host.filter(|_| !has_host) {
        write_literal(block, b"host", host);
    }
}

/// Appends the frames of a block.
fn write_frames(stream: u32, flags: u8, block: &[u8], out: &mut Vec<u8>) {
    let mut parts = block.chunks(MOST).peekable();
    let (mut kind, mut flags) = (HEADERS, flags);
    // Trailers may be empty.
    let mut part = parts.next().unwrap_or_default();
    loop {
        let next = parts.next();
        if next.is_none() {
            flags |= END_HEADERS;
        }
        let head = FrameHeader {
            length: part.len(),
            kind,
            flags,
            stream,
        };
        out.extend(head.bytes());
        out.extend_from_slice(part);
        let Some(next) = next else {
            return;
        };
        (kind, flags, part) = (CONTINUATION, 0, next);
    }
}

/// Position of the header block in the payload of a HEADERS frame (RFC 9113 §6.2), and true if h2
/// skips that block without decoding it: it does if the stream depends on itself, which RFC 9113
/// §5.3.2 ignores, and its table is then out of step with the client's.
///
/// # Errors
/// If the frame is malformed.
pub fn fragment(head: FrameHeader, payload: &[u8]) -> Result<(Range<usize>, bool), End> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(PADDED) {
        let (length, behind) = rest.split_first().ok_or(End::Size)?;
        (padding, rest) = (usize::from(*length), behind);
    }
    let mut is_skipped = false;
    if head.has(PRIORITY) {
        let (priority, behind) = rest.split_first_chunk::<5>().ok_or(End::Size)?;
        let [s0, s1, s2, s3, _weight] = *priority;
        is_skipped = u32::from_be_bytes([s0 & 0x7F, s1, s2, s3]) == head.stream;
        rest = behind;
    }
    let begins = payload.len() - rest.len();
    let length = rest.len().checked_sub(padding);
    let length = length.ok_or(End::Protocol("the padding of a HEADERS frame is too long"))?;
    Ok((begins..begins + length, is_skipped))
}

impl From<hpack::Undecodable> for End {
    fn from(error: hpack::Undecodable) -> Self {
        Self::Undecodable(error)
    }
}
