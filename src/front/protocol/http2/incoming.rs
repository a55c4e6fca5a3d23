//! Bytes of an HTTP/2 client, frame by frame: header blocks pass through [`Blocks`], all other
//! bytes are passed on unchanged.
//!
//! Bytes stay where they were read as long as they are unchanged; only a replacement, and the bytes
//! after it in the same read, move to a buffer of their own. A header block is held back until its
//! last frame has arrived, which [`MOST_FRAMES`] bounds.

use std::ops::Range;

use super::End;
use super::blocks::{Block, BlockCounts, Blocks, fragment};
use super::control::{Payload, SettingsReader, check_length, is_meaningless, is_zero};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, FrameHeader, HEAD, HEADERS, PRIORITY_FRAME, PUSH_PROMISE,
    SETTINGS, WINDOW_UPDATE, code,
};
use super::open::{Open, StreamState};
use crate::front::protocol::refused::PendingRefusals;

/// Frames of one header block: h2's limit, which is enough for MAX_HEAD in frames of the size that
/// every server accepts. More are a flood (CVE-2024-27316).
const MOST_FRAMES: usize = 7;

/// The frames of one client.
#[derive(Debug, Default)]
pub struct Incoming {
    blocks: Blocks,
    /// The newest frame header, as far as received.
    head: [u8; HEAD],
    filled: usize,
    /// Number of missing bytes of a frame's payload.
    left: usize,
    payload: Payload,
    /// An incomplete header block.
    held: Option<Held>,
}

/// A header block in several pieces.
#[derive(Debug)]
struct Held {
    first: FrameHeader,
    /// The newest frame.
    current: FrameHeader,
    /// The frames as received.
    frames: Vec<u8>,
    /// The positions of the block's parts in complete frames.
    parts: Vec<Range<usize>>,
    is_skipped: bool,
    /// The state of the stream before it.
    state: StreamState,
}

/// Destination of the bytes that are not left in place.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Number of bytes left in place; `None`: all so far.
    stay: Option<usize>,
    out: &'a mut Vec<u8>,
}

impl Bytes<'_> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// From `at` on nothing stays in place.
    fn divert(&mut self, at: usize) {
        self.stay.get_or_insert(at);
    }

    /// Passes on the next `length` bytes.
    fn pass(&mut self, length: usize) {
        let bytes = &self.bytes[self.at..self.at + length];
        if self.stay.is_some() {
            self.out.extend_from_slice(bytes);
        }
        self.at += length;
    }
}

impl Incoming {
    /// Bytes of memory of an incomplete header block.
    pub fn held_head(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.frames.capacity())
    }

    /// The counts of header blocks since the last call.
    pub fn take_counts(&mut self) -> BlockCounts {
        self.blocks.take_counts()
    }

    /// The newest stream.
    pub fn last_stream(&self) -> u32 {
        self.blocks.last_stream()
    }

    /// True if the next byte begins a frame, and no header block is incomplete.
    pub fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.left == 0 && self.held.is_none()
    }

    /// Processes received `bytes`. Returns the number of them, from the first on, that are passed
    /// on in place; the bytes that replace the others are appended to `out`.
    ///
    /// # Errors
    /// An error of the connection.
    pub fn take(
        &mut self,
        bytes: &[u8],
        refused: &PendingRefusals,
        out: &mut Vec<u8>,
        open: &mut Open,
        mut look: impl FnMut(FrameHeader) -> Result<(), End>,
    ) -> Result<usize, End> {
        let is_kept = matches!(
            self.payload,
            Payload::LeftOut | Payload::WindowUpdate { .. }
        );
        let is_behind = self.filled > 0 || self.held.is_some() || self.left > 0 && is_kept;
        let mut bytes = Bytes {
            bytes,
            at: 0,
            stay: is_behind.then_some(0),
            out,
        };
        while !bytes.rest().is_empty() {
            if self.left > 0 {
                self.payload(&mut bytes, open, refused)?;
                continue;
            }
            let begins = bytes.at;
            let Some(head) = self.head(&mut bytes) else {
                break;
            };
            look(head)?;
            check_length(head)?;
            let state = open.received(head)?;
            self.frame(head, state, begins, &mut bytes, open, refused)?;
        }
        Ok(bytes.stay.unwrap_or(bytes.at))
    }

    /// The next frame header, if it is complete. It is not passed on yet.
    fn head(&mut self, bytes: &mut Bytes<'_>) -> Option<FrameHeader> {
        if self.filled == 0
            && let Some(&head) = bytes.rest().first_chunk::<HEAD>()
        {
            bytes.at += HEAD;
            self.head = head;
            return Some(FrameHeader::read(head));
        }
        bytes.divert(bytes.at);
        let length = (HEAD - self.filled).min(bytes.rest().len());
        self.head[self.filled..self.filled + length].copy_from_slice(&bytes.rest()[..length]);
        self.filled += length;
        bytes.at += length;
        if self.filled < HEAD {
            return None;
        }
        self.filled = 0;
        Some(FrameHeader::read(self.head))
    }

    /// Begins a frame whose header was at `begins`.
    fn frame(
        &mut self,
        head: FrameHeader,
        state: StreamState,
        begins: usize,
        bytes: &mut Bytes<'_>,
        open: &mut Open,
        refused: &PendingRefusals,
    ) -> Result<(), End> {
        self.payload = Payload::Passes;
        match head.kind {
            CONTINUATION if self.held.is_some() => self.continues(head)?,
            _ if self.held.is_some() => {
                // RFC 9113 §6.10.
                return Err(End::Protocol("a frame interrupts a header block"));
            }
            HEADERS if head.has(END_HEADERS) && bytes.rest().len() >= head.length => {
                return self.whole(head, state, begins, bytes, open, refused);
            }
            HEADERS => {
                bytes.divert(begins);
                self.held = Some(Held::new(head, state, self.head));
            }
            // RFC 9113 §8.4.
            PUSH_PROMISE => return Err(End::Protocol("a client cannot push")),
            _ => self.other_frame(head, state, begins, bytes, open),
        }
        self.left = head.length;
        match self.left {
            0 if self.held.is_some() => self.payload(bytes, open, refused),
            _ => Ok(()),
        }
    }

    /// Begins a frame that is not part of a header block.
    fn other_frame(
        &mut self,
        head: FrameHeader,
        state: StreamState,
        begins: usize,
        bytes: &mut Bytes<'_>,
        open: &mut Open,
    ) {
        match head.kind {
            PRIORITY_FRAME if head.stream != 0 => {
                // RFC 9113 §6.3 for its length. It has no effect (§5.3.2); where a stream depends
                // on itself, h2 would send a reset even for one that was never opened.
                bytes.divert(begins);
                if head.length != 5 && state.is_active() {
                    self.blocks
                        .reset(head.stream, code::FRAME_SIZE_ERROR, open, bytes.out);
                }
                self.payload = Payload::LeftOut;
            }
            WINDOW_UPDATE if state != StreamState::Idle => match bytes.rest().first_chunk::<4>() {
                Some(increment) if !is_zero(*increment) => {
                    if bytes.stay.is_some() {
                        bytes.out.extend(self.head);
                    }
                }
                _ => {
                    bytes.divert(begins);
                    self.payload = Payload::WindowUpdate {
                        increment: [0; 4],
                        filled: 0,
                        state,
                    };
                }
            },
            // RFC 9113 §5.1. h2 counts the bytes of the frame after the reset.
            DATA if state == StreamState::HalfClosed => {
                bytes.divert(begins);
                self.blocks
                    .reset(head.stream, code::STREAM_CLOSED, open, bytes.out);
                if !is_meaningless(head) {
                    bytes.out.extend(self.head);
                }
            }
            // It has no effect, and h2 accepts 100 of them in the life of a connection.
            DATA if is_meaningless(head) => {
                bytes.divert(begins);
            }
            kind => {
                if kind == SETTINGS {
                    self.payload = Payload::Settings(SettingsReader::default());
                }
                if bytes.stay.is_some() {
                    bytes.out.extend(self.head);
                }
            }
        }
    }

    /// A header block whose only frame is complete.
    fn whole(
        &mut self,
        head: FrameHeader,
        state: StreamState,
        begins: usize,
        bytes: &mut Bytes<'_>,
        open: &mut Open,
        refused: &PendingRefusals,
    ) -> Result<(), End> {
        let payload = &bytes.bytes[bytes.at..bytes.at + head.length];
        let (within, is_skipped) = fragment(head, payload)?;
        let block = Block {
            head,
            bytes: &payload[within],
            is_skipped,
            state,
        };
        if self.blocks.check(&block, open, refused, bytes.out)? {
            bytes.divert(begins);
            bytes.at += head.length;
            return Ok(());
        }
        if bytes.stay.is_some() {
            bytes.out.extend(self.head);
        }
        bytes.pass(head.length);
        Ok(())
    }

    /// Another frame of the block that is held back.
    fn continues(&mut self, head: FrameHeader) -> Result<(), End> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if head.stream != held.first.stream {
            return Err(End::Protocol("a frame interrupts a header block"));
        }
        let before = held.parts.len();
        if before == MOST_FRAMES || before + 1 == MOST_FRAMES && !head.has(END_HEADERS) {
            return Err(End::Continuations);
        }
        held.current = head;
        held.frames.extend(self.head);
        Ok(())
    }

    /// More of a payload.
    fn payload(
        &mut self,
        bytes: &mut Bytes<'_>,
        open: &mut Open,
        refused: &PendingRefusals,
    ) -> Result<(), End> {
        let length = self.left.min(bytes.rest().len());
        self.left -= length;
        let Some(held) = &mut self.held else {
            return self.other_payload(length, bytes, open);
        };
        held.frames.extend_from_slice(&bytes.rest()[..length]);
        bytes.at += length;
        if self.left > 0 {
            return Ok(());
        }
        held.frame_ends()?;
        if held.current.has(END_HEADERS)
            && let Some(held) = self.held.take()
        {
            let parts = held.parts.iter().map(|part| &held.frames[part.clone()]);
            let block = Block {
                head: held.first,
                bytes: &parts.collect::<Vec<_>>().concat(),
                is_skipped: held.is_skipped,
                state: held.state,
            };
            if !self.blocks.check(&block, open, refused, bytes.out)? {
                bytes.out.extend_from_slice(&held.frames);
            }
        }
        Ok(())
    }

    /// The next `length` bytes of a payload outside of header blocks.
    fn other_payload(
        &mut self,
        length: usize,
        bytes: &mut Bytes<'_>,
        open: &mut Open,
    ) -> Result<(), End> {
        let now = &bytes.bytes[bytes.at..bytes.at + length];
        match &mut self.payload {
            Payload::Passes => bytes.pass(length),
            Payload::Settings(settings) => {
                settings.read(now)?;
                bytes.pass(length);
            }
            Payload::LeftOut => {
                bytes.divert(bytes.at);
                bytes.at += length;
            }
            Payload::WindowUpdate {
                increment,
                filled,
                state,
            } => {
                bytes.divert(bytes.at);
                increment[*filled..*filled + length].copy_from_slice(now);
                *filled += length;
                bytes.at += length;
                if self.left > 0 {
                    return Ok(());
                }
                if !is_zero(*increment) {
                    bytes.out.extend(self.head);
                    bytes.out.extend(*increment);
                } else if state.is_active() {
                    // RFC 9113 §6.9.
                    let stream = FrameHeader::read(self.head).stream;
                    self.blocks
                        .reset(stream, code::PROTOCOL_ERROR, open, bytes.out);
                }
            }
        }
        Ok(())
    }
}

impl Held {
    fn new(head: FrameHeader, state: StreamState, bytes: [u8; HEAD]) -> Self {
        Self {
            first: head,
            current: head,
            frames: bytes.to_vec(),
            parts: Vec::new(),
            is_skipped: false,
            state,
        }
    }

    /// Takes the part of the block from a complete frame.
    fn frame_ends(&mut self) -> Result<(), End> {
        let ends = self.frames.len();
        let mut part = ends - self.current.length..ends;
        if self.current.kind == HEADERS {
            let (within, is_skipped) = fragment(self.current, &self.frames[part.clone()])?;
            self.is_skipped = is_skipped;
            part = part.start + within.start..part.start + within.end;
        }
        self.parts.push(part);
        Ok(())
    }
}
